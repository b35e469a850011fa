//! Measures what the patches that a method keeps are worth to the model: how likely it finds the answer with the other patches in
//! black, and how often it prefers the answer to those of three other rows. Writes `measure.json`, and no image.

use super::{PatchesRequest, patches_of, positions};
use crate::control::{Control, Stage};
use crate::sae::{LoadedSae, SaePlan};
use crate::{Error, Result, model};
use filters::patches::{self, Patch};
use harvest::data::{ALTERED, Corruption, CorruptionKind, ImageMasks};
use harvest::{AnswerLikelihood, LikelihoodRunner, Plan, Prepared, Preview, for_each_sample};
use sae_core::autoencoder::Encoder;
use sae_core::file;
use sae_core::store::{SkipList, Skipped};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Answers of other rows with which the answer of a row is compared.
const OTHERS: u64 = 3;

/// Which methods and shares to measure.
#[derive(Clone, Debug)]
pub struct MeasurePatchesRequest {
    /// The methods, the data and the folder. Its share and its contact sheet do not matter.
    pub patches: PatchesRequest,
    /// Shares of an image's patches that are kept, 0 to 1.
    pub keep: Vec<f64>,
}

/// What measuring would do.
pub type MeasurePatchesPlan = SaePlan<MeasurePatchesDetails>;

/// What is particular to measuring.
#[derive(Clone, Debug, Serialize)]
pub struct MeasurePatchesDetails {
    /// Rows of the data.
    pub rows: u64,
    /// How patches are scored.
    pub methods: Vec<&'static str>,
    /// Shares of the patches that are kept.
    pub keep: Vec<f64>,
    /// How often the model reads the data.
    pub passes: usize,
}

/// What was measured.
#[derive(Clone, Debug, Serialize)]
pub struct PatchesMeasured {
    /// Name of the autoencoder.
    pub sae: String,
    /// Name of the model.
    pub model: String,
    /// Samples with an image and an answer.
    pub samples: usize,
    /// Rows that became no sample.
    pub skipped: u64,
    /// The first of them.
    pub skipped_rows: Vec<Skipped>,
    /// What was found, by method.
    pub methods: BTreeMap<&'static str, PatchCurve>,
    /// The file of the report.
    #[serde(skip)]
    pub file: PathBuf,
}

/// What a method keeps is worth, by how much it keeps.
#[derive(Clone, Debug, Default, Serialize)]
pub struct PatchCurve {
    /// A point for each share, ascending.
    pub points: Vec<PatchPoint>,
    /// The area under the negative log-likelihood over the shares, divided by their range: a mean. Less is better. Nothing with
    /// one share.
    pub nll_area: Option<f64>,
    /// The same for the share of answers that are the most likely of four. More is better.
    pub right_area: Option<f64>,
}

/// What is left with one share of the patches.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct PatchPoint {
    /// The share of the patches that is kept.
    pub keep: f64,
    /// Mean over samples of the mean negative log-likelihood of an answer's tokens, in nats.
    pub nll: f64,
    /// Its standard error. Nothing with one sample.
    pub nll_se: Option<f64>,
    /// Share of the samples whose answer has the highest likelihood of four, summed over tokens. The others are answers of three
    /// other rows, drawn at random. Nothing if no sample has three others.
    pub right: Option<f64>,
    /// Samples that have three others.
    pub judged: usize,
}

/// The patches of every image of a sample, by method in the order of the request.
type Scored = BTreeMap<String, Vec<Vec<Vec<Patch>>>>;

/// The negative log-likelihoods of the tokens of an answer: their sum and number.
type Nll = (f64, usize);

impl MeasurePatchesRequest {
    /// What [`MeasurePatchesRequest::run`] would do.
    ///
    /// # Errors
    /// Whatever would prevent it; a model that has not been downloaded.
    pub fn plan(&self) -> Result<MeasurePatchesPlan> {
        let sae = self.patches.sae.load()?;
        let (_, preview) = model::resolve_for(&self.patches.model, &sae, None)?;
        self.patches.check_folder()?;
        let methods: Vec<&str> = self.patches.methods.iter().map(|method| method.name()).collect();
        let passes = self.settings().len() * (1 + OTHERS as usize);
        let details = MeasurePatchesDetails { rows: preview.rows, methods, keep: self.shares(), passes };
        Ok(sae.plan("patches", details))
    }

    /// Measures.
    ///
    /// # Errors
    /// As [`MeasurePatchesRequest::plan`]; no sample with an image and an answer; a full disk; a request to stop.
    pub fn run(&self, control: &mut Control) -> Result<PatchesMeasured> {
        let request = &self.patches;
        let sae = request.sae.load()?;
        let (plan, preview) = model::resolve_for(&request.model, &sae, Some(control))?;
        request.check_folder()?;
        let (scored, skipped) = self.scored(&plan, &preview, &sae, control)?;
        let settings = self.settings();
        let runner = LikelihoodRunner::open(&plan)?;
        let passes = settings.len() as u64 * (1 + OTHERS);
        let mut staged = control.stage(Stage::Model, passes * preview.rows)?;
        let cancel = staged.cancel();
        let mut curves: Vec<PatchCurve> = vec![PatchCurve::default(); request.methods.len()];
        let (mut samples, mut passed) = (0, 0);
        for (method, keep) in settings {
            let masks = masks(&scored, method, keep)?;
            let mut own: BTreeMap<String, Nll> = BTreeMap::new();
            let mut others: BTreeMap<String, Vec<f64>> = BTreeMap::new();
            for seed in 0..=OTHERS {
                let mut plan = plan.clone();
                if seed > 0 {
                    plan.corruptions.push(Corruption { kind: CorruptionKind::SwappedAnswers, share: 1.0, seed });
                }
                let mut visit = |prepared: &Prepared, likelihood: &AnswerLikelihood| {
                    let (source, tokens) = (&prepared.sample.source, likelihood.tokens.len());
                    let sum = likelihood.tokens.iter().copied().map(f64::from).sum();
                    if tokens == 0 || !scored.contains_key(source) {
                        return;
                    }
                    if seed == 0 {
                        own.insert(source.clone(), (sum, tokens));
                    } else if prepared.sample.meta[ALTERED] == true {
                        others.entry(source.clone()).or_default().push(sum);
                    }
                };
                let check = || cancel.check().map_err(Into::into);
                runner.run_as(
                    &plan.blackened(masks.clone()),
                    false,
                    &check,
                    &mut |predicted, rows| match predicted {
                        Some((prepared, likelihood)) => visit(prepared, likelihood),
                        None => staged.show(passed * preview.rows + rows),
                    },
                )?;
                passed += 1;
            }
            samples = own.len();
            let point = point(keep, &own, &others).ok_or_else(|| Error::NoneRead { data: plan.data.clone() })?;
            // Where nothing or everything is kept, all methods keep the same.
            let methods = if keep == 0.0 || keep == 1.0 { 0..curves.len() } else { method..method + 1 };
            curves[methods].iter_mut().for_each(|curve| curve.points.push(point));
        }
        drop(staged);
        let names = request.methods.iter().map(|method| method.name());
        let report = PatchesMeasured {
            sae: sae.name.clone(),
            model: harvest::hub::model_name(&plan.model),
            samples,
            skipped: skipped.rows(),
            skipped_rows: skipped.first().to_vec(),
            methods: names.zip(curves).map(|(name, curve)| (name, curve.finished())).collect(),
            file: request.out.join("measure.json"),
        };
        std::fs::create_dir_all(&request.out).map_err(sae_core::Error::io("make the folder", &request.out))?;
        file::write_json(&report.file, &report)?;
        Ok(report)
    }

    /// The patches of all samples with images by every method, and the rows that became no sample.
    fn scored(
        &self,
        plan: &Plan,
        preview: &Preview,
        sae: &LoadedSae,
        control: &mut Control,
    ) -> Result<(Scored, SkipList)> {
        let d_in = sae.saved.weights.d_in;
        let weights = self.patches.weights(sae)?;
        let rules = self.patches.rules(&weights, d_in);
        let encoder = Encoder::new(&sae.saved.weights, &sae.device);
        let (mut scored, mut number) = (Scored::new(), 0);
        let mut staged = control.stage(Stage::Patches, preview.rows)?;
        let skipped = for_each_sample::<Error>(plan, &mut |captured, done| {
            staged.advance(done)?;
            let active = encoder.encode(captured.hidden[0])?;
            let positions = positions(captured.sample, &active, captured.hidden[0], d_in);
            let images = |rule| {
                (0..captured.files.len()).map(|image| patches_of(rule, &positions, image, number)).collect::<Vec<_>>()
            };
            if !captured.files.is_empty() {
                let source = captured.sample.sample.source.clone();
                scored.insert(source, rules.iter().map(images).collect());
            }
            number += 1;
            Ok(())
        })?;
        Ok((scored, skipped))
    }

    /// The shares, ascending, each once.
    fn shares(&self) -> Vec<f64> {
        let mut shares = self.keep.clone();
        shares.sort_by(f64::total_cmp);
        shares.dedup();
        shares
    }

    /// The methods, by their place in the request, with each share. Where nothing or everything is kept, the first stands for all.
    fn settings(&self) -> Vec<(usize, f64)> {
        let of = |keep: f64| {
            let methods = if keep == 0.0 || keep == 1.0 { 1 } else { self.patches.methods.len() };
            (0..methods.min(self.patches.methods.len())).map(move |method| (method, keep))
        };
        self.shares().into_iter().flat_map(of).collect()
    }
}

impl PatchCurve {
    fn finished(self) -> Self {
        let area = |value: &dyn Fn(&PatchPoint) -> Option<f64>| -> Option<f64> {
            let values = self.points.iter().map(|point| Some((point.keep, value(point)?)));
            mean_height(&values.collect::<Option<Vec<_>>>()?)
        };
        let (nll_area, right_area) = (area(&|point| Some(point.nll)), area(&|point| point.right));
        Self { nll_area, right_area, ..self }
    }
}

/// The rectangles that a method drops if it keeps a share of each image.
fn masks(scored: &Scored, method: usize, keep: f64) -> Result<ImageMasks> {
    let mut masks = ImageMasks::default();
    for (source, methods) in scored {
        let dropped = |patches: &Vec<Patch>| -> Result<Vec<[f32; 4]>> {
            let mut patches = patches.clone();
            patches::keep(&mut patches, keep)?;
            Ok(patches.iter().filter(|patch| !patch.kept).map(|patch| patch.rect).collect())
        };
        masks.insert(source, methods[method].iter().map(dropped).collect::<Result<_>>()?);
    }
    Ok(masks)
}

/// Sums up one setting. Nothing without a sample.
fn point(keep: f64, own: &BTreeMap<String, Nll>, others: &BTreeMap<String, Vec<f64>>) -> Option<PatchPoint> {
    let means: Vec<f64> = own.values().map(|(sum, tokens)| sum / *tokens as f64).collect();
    let count = means.len() as f64;
    let nll = means.iter().sum::<f64>() / count;
    let squares = means.iter().map(|mean| (mean - nll).powi(2)).sum::<f64>();
    let four = own.iter().filter_map(|(source, (sum, _))| {
        let others = others.get(source).filter(|others| others.len() as u64 == OTHERS)?;
        Some(others.iter().all(|other| sum < other))
    });
    let four: Vec<bool> = four.collect();
    let best = four.iter().filter(|best| **best).count() as f64;
    (!means.is_empty()).then(|| PatchPoint {
        keep,
        nll,
        nll_se: (means.len() > 1).then(|| (squares / (count - 1.0) / count).sqrt()),
        right: (!four.is_empty()).then(|| best / four.len() as f64),
        judged: four.len(),
    })
}

/// The area under a line through points, divided by their range. Nothing with fewer than two points.
fn mean_height(points: &[(f64, f64)]) -> Option<f64> {
    let range = points.last()?.0 - points.first()?.0;
    let area = points.windows(2).map(|two| (two[1].0 - two[0].0) * (two[0].1 + two[1].1) / 2.0).sum::<f64>();
    (range > 0.0).then(|| area / range)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_area_is_the_mean_height_of_the_line() {
        assert_eq!(mean_height(&[(0.0, 4.0), (0.5, 2.0), (1.0, 2.0)]), Some(2.5));
        assert_eq!(mean_height(&[(0.25, 1.0), (0.75, 3.0)]), Some(2.0));
        assert_eq!((mean_height(&[(0.5, 1.0)]), mean_height(&[])), (None, None));
    }

    #[test]
    fn a_point_counts_the_samples_whose_answer_is_the_most_likely_of_four() {
        let own = BTreeMap::from([("a", (2.0, 2)), ("b", (9.0, 3)), ("c", (1.0, 1))]);
        let own = own.into_iter().map(|(source, nll)| (source.to_owned(), nll)).collect();
        // The third has one other answer too few.
        let others = BTreeMap::from([("a", vec![3.0, 2.5, 7.0]), ("b", vec![10.0, 8.0, 11.0]), ("c", vec![5.0, 6.0])]);
        let others = others.into_iter().map(|(source, sums)| (source.to_owned(), sums)).collect();
        let found = point(0.5, &own, &others).unwrap();
        assert_eq!((found.right, found.judged), (Some(0.5), 2));
        // Means 1, 3 and 1: their variance is 4/3.
        assert!(
            (found.nll - 5.0 / 3.0).abs() < 1e-12 && (found.nll_se.unwrap() - 2.0 / 3.0).abs() < 1e-12,
            "{found:?}"
        );
        assert_eq!(point(0.5, &BTreeMap::new(), &BTreeMap::new()), None);
    }
}
