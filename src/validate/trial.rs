//! One corruption at one rate: the corrupted rows go through the model and are scored, and every score is measured.

use super::{Auc, Kept, TrialPlan, TrialReport, ValidateRequest};
use crate::control::{Control, Stage};
use crate::harvest::{capture, capture_blank};
use crate::numbers::percent;
use crate::sae::LoadedSae;
use crate::score::{ScoreOptions, score};
use crate::{Error, Result};
use filters::auc;
use filters::hidden::Means;
use filters::keep::KeepEstimate;
use filters::rank;
use harvest::Plan;
use harvest::data::{ALTERED, Corruption, CorruptionKind};
use sae_core::Run;
use sae_core::autoencoder::formats::{self, Format};
use sae_core::store::{Store, load_samples};
use std::collections::BTreeMap;
use std::path::Path;

/// Number of bootstrap draws.
const DRAWS: usize = 1000;

/// Values of a score or a baseline: one or none for each sample.
type Values = Vec<Option<f64>>;

/// A trial to run.
pub(super) struct Trial<'a> {
    pub request: &'a ValidateRequest,
    /// The autoencoder with its run.
    pub sae: &'a LoadedSae,
    /// The other autoencoders.
    pub beside: &'a [LoadedSae],
    /// How the model reads the data, without the corruption.
    pub plan: &'a Plan,
    /// The folder for captured activations.
    pub folder: &'a Path,
    /// The corruption and its rate.
    pub what: TrialPlan,
}

impl Trial<'_> {
    /// Runs the trial. Activations of an earlier call are used again.
    pub fn run(&self, control: &mut Control) -> Result<TrialReport> {
        let (seed, TrialPlan { corruption, share }) = (self.request.seed, self.what);
        let plan = &Plan { corruptions: vec![Corruption { kind: corruption, share, seed }], ..self.plan.clone() };
        let root = self.folder.join(folder_name(corruption, share));
        let captured = capture(plan, &root, control).and_then(|_| capture_blank(plan, &root, control));
        captured.map_err(|error| explain(error, &root))?;
        let run = Run::open(&root)?;
        let name = self.sae.name.clone();
        for sae in std::iter::once(self.sae).chain(self.beside) {
            formats::save(Format::SaeLens, &run.sae_dir(&sae.name), &sae.saved)?;
        }
        let store = Store::open(&run, &self.sae.store.manifest().hook)?;
        let samples = load_samples(&run)?;
        let saved = formats::load(&self.sae.run.sae_dir(&name))?;
        let sae = LoadedSae { run, name, saved, store, device: self.sae.device.clone() };
        let options = ScoreOptions {
            threshold: self.request.threshold,
            seed,
            calibrate: self.request.calibrate.iter().cloned().chain([root]).collect(),
            beside: self.request.beside.clone(),
            reading: Some(plan.clone()),
            ..ScoreOptions::default()
        };
        let scored = score(&sae, &options, control)?;
        let mut values: BTreeMap<String, Values> = scored.scores.columns;
        let lengths = scored.scores.rows.iter().map(|row| Some(f64::from(row.n_text + row.n_image)));
        values.insert("tokens".into(), lengths.collect());
        let mut means = Means::new(samples.len(), sae.store.manifest().d_in);
        sae.observe(Stage::Hidden, &mut [&mut means], control)?;
        values.insert("hidden_cosine".into(), means.cosines());

        let bad: Vec<bool> = samples.iter().map(|sample| sample.meta[ALTERED] == true).collect();
        let judged = values.iter().filter_map(|(name, values)| Some((name.clone(), judge(values, &bad, seed)?)));
        let scores = judged.collect();
        let names: Vec<String> = values.keys().cloned().collect();
        let agreement = names.iter().map(|a| names.iter().map(|b| agree(&values[a], &values[b])).collect()).collect();
        let keep = scored.keep.iter().map(|(column, estimate)| {
            let stays = |n: &usize| values[column][*n].is_some_and(|value| value >= estimate.threshold);
            let kept: Vec<usize> = (0..bad.len()).filter(stays).collect();
            let right = kept.iter().filter(|n| !bad[**n]).count() as f64 / kept.len().max(1) as f64;
            let KeepEstimate { mismatched, share_kept, interval, .. } = *estimate;
            (column.clone(), Kept { mismatched, interval, share_kept, right_among_kept: right })
        });
        Ok(TrialReport {
            corruption,
            share,
            samples: samples.len() as u64,
            altered: bad.iter().filter(|bad| **bad).count() as u64,
            scores,
            keep: keep.collect(),
            names,
            agreement,
        })
    }
}

/// The folder of a trial: one for each corruption and share, such as `swapped-images-2.5`.
fn folder_name(corruption: CorruptionKind, share: f64) -> String {
    format!("{}-{}", corruption.name(), percent(share))
}

/// Replaces the error of a folder that an earlier call with other settings left; all other errors stay as they are.
fn explain(error: Error, root: &Path) -> Error {
    match error {
        Error::Harvest(harvest::Error::Core(sae_core::Error::OtherHarvest { .. })) => {
            Error::OtherTrial { folder: root.into() }
        }
        other => other,
    }
}

fn judge(values: &Values, bad: &[bool], seed: u64) -> Option<Auc> {
    let side = |wanted: bool| -> Vec<f64> {
        values.iter().zip(bad).filter(|(_, bad)| **bad == wanted).filter_map(|(value, _)| *value).collect()
    };
    let (good, bad) = (side(false), side(true));
    let (low, high) = auc::interval(&good, &bad, DRAWS, seed)?;
    Some(Auc { auc: auc::auc(&good, &bad)?, low, high })
}

/// Spearman's rank correlation over the samples that have both.
fn agree(a: &Values, b: &Values) -> Option<f64> {
    let (a, b): (Vec<f64>, Vec<f64>) = a.iter().zip(b).filter_map(|(a, b)| Some(((*a)?, (*b)?))).unzip();
    rank::correlation(&a, &b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_corruption_and_share_has_its_folder() {
        let name = |share| folder_name(CorruptionKind::SwappedImages, share);
        assert_eq!(name(0.5), "swapped-images-50");
        assert_eq!((name(0.02), name(0.025)), ("swapped-images-2".into(), "swapped-images-2.5".into()));
        assert_eq!(
            (name(0.07), name(0.29), name(1.0)),
            ("swapped-images-7".into(), "swapped-images-29".into(), "swapped-images-100".into())
        );
        assert_ne!(name(0.000_001), name(0.000_002));
    }

    #[test]
    fn only_a_folder_of_other_settings_is_in_the_way() {
        let root = Path::new("run/validate/wrong-word-5");
        let other = sae_core::Error::OtherHarvest { cause: "the run holds another harvest".into(), path: root.into() };
        let said = explain(harvest::Error::Core(other).into(), root).to_string();
        assert!(said.contains("captured with other settings: run/validate"), "{said}");
        let full = sae_core::Error::io("write", root)(std::io::Error::other("no space left"));
        let said = explain(harvest::Error::Core(full).into(), root).to_string();
        assert!(said.contains("no space left") && !said.contains("settings"), "{said}");
    }

    #[test]
    fn a_score_is_judged_on_what_it_scores() {
        let found = judge(&vec![Some(2.0), None, Some(1.0)], &[false, false, true], 0).unwrap();
        assert_eq!((found.auc, found.low, found.high), (1.0, 1.0, 1.0));
        assert!(judge(&vec![Some(1.0), None], &[false, true], 0).is_none());
        assert_eq!(agree(&vec![Some(1.0), Some(2.0), None], &vec![Some(5.0), Some(9.0), Some(0.0)]), Some(1.0));
    }
}
