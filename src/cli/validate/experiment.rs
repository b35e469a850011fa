//! One fault at one rate: the rows with it go through the model, are scored, and every score is judged.

use super::super::harvest::{capture, capture_blank, reading};
use super::super::{SaeReader, model, score};
use super::ValidateArgs;
use super::report::{Auc, FaultResult, Kept};
use crate::cli::terminal;
use anyhow::{Result, anyhow, bail};
use filters::auc;
use filters::definition::Definition;
use filters::hidden::Means;
use filters::rank;
use harvest::data::{ALTERED, Corruption, CorruptionKind};
use harvest::{Plan, SpliceRunner};
use sae_core::Run;
use sae_core::autoencoder::formats::{self, Format};
use sae_core::store::sample::{Role, Sample};
use sae_core::store::{Store, load_samples};
use std::collections::BTreeMap;
use std::path::Path;

/// Draws of a bootstrap.
const DRAWS: usize = 1000;

/// Values of a score or a baseline, one or none a sample.
type Values = Vec<Option<f64>>;

/// How the model reads the data, before anything is done to it.
pub(super) fn plan(args: &ValidateArgs, opened: &SaeReader, dry: bool) -> Result<Plan> {
    let model = model::folder(&args.model, dry)?;
    let plan = reading(&args.reading, Plan::new(model, &args.data, vec![opened.store.manifest().layer]));
    let plan = Plan { limit: Some(args.limit), device: args.of.device.device, ..plan };
    let (width, d_in) = (plan.preview()?.d_in, opened.saved.weights.d_in);
    if width != d_in {
        bail!("the autoencoder reads width {d_in}, the model has {width}: {}", plan.model.display());
    }
    Ok(plan)
}

/// Runs a trial; what an earlier call has captured in `folder` is used again.
pub(super) fn run(
    args: &ValidateArgs,
    opened: &SaeReader,
    plan: &Plan,
    folder: &Path,
    fault: CorruptionKind,
    share: f64,
) -> Result<FaultResult> {
    let altered = Corruption { fault, share, seed: args.seed };
    let plan = &Plan { alterations: vec![altered], ..plan.clone() };
    let root = folder.join(folder_name(fault, share));
    capture(plan, &root).and_then(|_| capture_blank(plan, &root)).map_err(|error| explain(error, &root))?;
    let run = Run::open(&root)?;
    formats::save(Format::SaeLens, &run.sae_dir(&opened.name), &opened.saved)?;
    let store = Store::open(&run, &opened.store.manifest().hook)?;
    let samples = load_samples(&run)?;
    let mut calibrate = args.calibrate.clone();
    calibrate.push(root.clone());
    let own = SaeReader {
        run,
        name: opened.name.clone(),
        saved: formats::load(&opened.run.sae_dir(&opened.name))?,
        store,
        device: opened.device.clone(),
    };
    let threshold = args.threshold.value.for_width(own.saved.weights.d_in);
    let request =
        score::Request { modes: &Definition::ALL, threshold, seed: args.seed, calibrate: &calibrate, rejected: None };
    let built = score::build(&own, &request)?;
    let mut values: BTreeMap<String, Values> = built.scores.columns;
    let lengths = built.scores.rows.iter().map(|row| Some(f64::from(row.n_text + row.n_image)));
    values.insert("tokens".into(), lengths.collect());
    let mut means = Means::new(samples.len(), own.store.manifest().d_in);
    own.pass("hidden", &mut [&mut means])?;
    values.insert("hidden_cosine".into(), means.cosines());
    let (with, without) = (likelihoods(plan, &samples)?, likelihoods(&plan.blank(&samples), &samples)?);
    let both = |a: &Values, b: &Values, of: fn(f64, f64) -> f64| -> Values {
        a.iter().zip(b).map(|(a, b)| Some(of((*a)?, (*b)?))).collect()
    };
    let drop = both(&without, &with, |without, with| without - with);
    let likelihood: Values = with.iter().map(|nll| nll.map(|nll| -nll)).collect();
    for column in [score::PMI_BLANK, score::PMI_TOKEN] {
        if let Some(pmi) = values.get(column).cloned() {
            values.insert(format!("{column}+likelihood"), together(&[&pmi, &likelihood]));
        }
    }
    values.insert("likelihood".into(), likelihood);
    values.insert("likelihood_drop".into(), drop);

    let bad: Vec<bool> = samples.iter().map(|sample| sample.meta[ALTERED] == true).collect();
    let judged = values.iter().filter_map(|(name, values)| Some((name.clone(), judge(values, &bad, args.seed)?)));
    let scores = judged.collect();
    let names: Vec<String> = values.keys().cloned().collect();
    let agreement = names.iter().map(|a| names.iter().map(|b| agree(&values[a], &values[b])).collect()).collect();
    let keep = built.keep.iter().map(|(column, auto)| {
        let stays = |n: &usize| values[column][*n].is_some_and(|value| value >= auto.threshold);
        let kept: Vec<usize> = (0..bad.len()).filter(stays).collect();
        let right = kept.iter().filter(|n| !bad[**n]).count() as f64 / kept.len().max(1) as f64;
        (column.clone(), Kept { mismatched: auto.mismatched, share_kept: auto.share_kept, right_among_kept: right })
    });
    Ok(FaultResult {
        fault,
        share,
        samples: samples.len() as u64,
        altered: bad.iter().filter(|bad| **bad).count() as u64,
        scores,
        keep: keep.collect(),
        names,
        agreement,
    })
}

/// The folder of a trial: one for each fault and share, such as `swapped-images-2.5`.
fn folder_name(fault: CorruptionKind, share: f64) -> String {
    format!("{}-{}", fault.name(), percent(share))
}

/// A share in percent, in as many digits as it takes to tell it from others: 0.07 is `7`, although 100 x 0.07 is not 7.
pub(super) fn percent(share: f64) -> f64 {
    (share * 1e10).round() / 1e8
}

/// What an earlier call left is in the way only if its settings were others; everything else has causes of its own.
fn explain(error: anyhow::Error, root: &Path) -> anyhow::Error {
    match error.downcast_ref() {
        Some(harvest::Error::Core(sae_core::Error::OtherHarvest { .. })) => anyhow!(
            "the folder of the trial holds activations captured with other settings: {0}\n\
             hint: an earlier call had other settings; remove the folder: {0}",
            root.display()
        ),
        _ => error,
    }
}

/// Mean negative log-likelihood of a word of each sample's answers, or of all its words where it has no answer.
fn likelihoods(plan: &Plan, samples: &[Sample]) -> Result<Values> {
    let by_source: BTreeMap<&str, usize> = samples.iter().enumerate().map(|(n, s)| (s.source.as_str(), n)).collect();
    let mut values = vec![None; samples.len()];
    let predictor = SpliceRunner::open(plan)?;
    let bar = terminal::bar("model", samples.len() as u64);
    predictor.run(&|_, _| Ok(Vec::new()), &mut |predicted, rows| {
        bar.set_position(rows);
        let Some(predicted) = predicted else { return };
        let Some(n) = by_source.get(predicted.sample.sample.source.as_str()) else { return };
        let of = |wanted: fn(Role) -> bool| {
            let tokens = predicted.targets.iter().zip(predicted.predictions[0]);
            let nll =
                tokens.filter(|(at, _)| wanted(predicted.sample.tokens[**at].role)).map(|(_, p)| f64::from(p.nll));
            let nll: Vec<f64> = nll.collect();
            (!nll.is_empty()).then(|| nll.iter().sum::<f64>() / nll.len() as f64)
        };
        values[*n] = of(|role| role == Role::Assistant).or_else(|| of(|_| true));
    })?;
    bar.finish_and_clear();
    Ok(values)
}

/// The mean of a sample's ranks by several scores, among the samples that have them all, 1 for the best: scores on scales of
/// their own, joined without labels.
fn together(scores: &[&Values]) -> Values {
    let samples = scores.first().map_or(0, |values| values.len());
    let there: Vec<usize> = (0..samples).filter(|n| scores.iter().all(|values| values[*n].is_some())).collect();
    let mut joined = vec![None; samples];
    for values in scores {
        let values: Vec<f64> = there.iter().filter_map(|n| values[*n]).collect();
        for (n, rank) in there.iter().zip(rank::ranks(&values)) {
            *joined[*n].get_or_insert(0.0) += rank / (there.len() * scores.len()) as f64;
        }
    }
    joined
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
    fn every_fault_and_share_has_a_folder_of_its_own() {
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
    fn only_a_folder_of_other_settings_is_to_be_removed() {
        let root = Path::new("run/validate/wrong-word-5");
        let other = sae_core::Error::OtherHarvest { cause: "the run holds another harvest".into(), path: root.into() };
        let said = format!("{:#}", explain(harvest::Error::Core(other).into(), root));
        assert!(said.contains("hint: an earlier call had other settings; remove the folder: run/validate"), "{said}");
        assert!(!said.contains("--run"), "validate has no other run to name: {said}");
        let full = sae_core::Error::io("write", root)(std::io::Error::other("no space left"));
        let said = format!("{:#}", explain(harvest::Error::Core(full).into(), root));
        assert!(said.contains("no space left") && !said.contains("remove"), "{said}");
    }

    #[test]
    fn ranks_are_joined_where_both_are_there() {
        let found =
            together(&[&vec![Some(10.0), None, Some(-3.0), Some(0.0)], &vec![Some(1.0), Some(2.0), Some(3.0), None]]);
        assert_eq!(found, [Some(0.75), None, Some(0.75), None]);
    }

    #[test]
    fn a_score_is_judged_on_what_it_scores() {
        let found = judge(&vec![Some(2.0), None, Some(1.0)], &[false, false, true], 0).unwrap();
        assert_eq!((found.auc, found.low, found.high), (1.0, 1.0, 1.0));
        assert!(judge(&vec![Some(1.0), None], &[false, true], 0).is_none());
        assert_eq!(agree(&vec![Some(1.0), Some(2.0), None], &vec![Some(5.0), Some(9.0), Some(0.0)]), Some(1.0));
    }
}
