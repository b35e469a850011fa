//! Probes: what people say about samples, predicted from a few features. One pass of the encoder over each run, and the fits of
//! [`filters::probe`], beside the predictions of hidden states, words, length and chance.

mod audit;
mod conflicts;
mod file;
mod judge;
mod labels;
mod report;

pub use crate::error::ProbeError;
pub use conflicts::Conflicts;
pub use file::SavedProbe;
pub(crate) use file::{apply, check, label_field, open};
pub use report::{CategoryReport, ProbeReport, Quality, QualityMeasure, Suspect, WeightedFeature};

use crate::companion::Companion;
use crate::contrast::{FeatureNames, PartMeans, number_words, part_words};
use crate::control::{Control, Stage};
use crate::roles::Role;
use crate::sae::{LoadedSae, SaeChoice, SaePlan};
use crate::{Error, Result};
use audit::Audited;
use filters::align::align_samples;
use filters::column;
use filters::keep;
use filters::probe::{Fit, Kind, Rows, Targets, calibrate, folds};
use filters::score_names::{MARGIN, PROBE};
use filters::select::{Groups, field_value};
use judge::Judge;
use labels::{FEWEST, Labels, pairs, targets};
use sae_core::analysis::between::PositionChoice;
use sae_core::analysis::feature_sets::{FeatureSetCollector, FeatureSets, Measure, Part};
use sae_core::store::run::check_name;
use sae_core::store::sample::Sample;
use sae_core::store::{Store, load_samples};
use serde::Serialize;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

/// Different images or sets that a cross-validation needs at least.
const FEWEST_GROUPS: usize = 10;

/// What to learn from labels.
///
/// ```
#[doc = include_str!("../example_run.md")]
/// use filters::probe::Kind;
/// use sae_workbench::{Control, ProbeRequest, SaeChoice};
///
/// # let run = example_run()?;
/// // Do features say, as a number from 0 to 1, whether a caption was swapped?
/// let request = ProbeRequest::new(SaeChoice::new(run.path()), "swapped", Kind::Linear, "swapped");
/// let report = request.run(&mut Control::default())?;
/// println!("R^2 {:?} in samples that the fits have not seen", report.quality.features);
/// assert!(report.file.is_file());
/// # Ok::<(), sae_workbench::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct ProbeRequest {
    /// The autoencoder.
    pub sae: SaeChoice,
    /// The name of the probe.
    pub name: String,
    /// Its kind.
    pub kind: Kind,
    /// The field with the labels: `FIELD`, `FIELD=NAME` for yes or no, or `FIELD=a<b<c` for levels. A probe of pairs with a run
    /// of rejected answers needs none.
    pub label: Option<String>,
    /// Which positions of a sample are read.
    pub part: Part,
    /// The field of sets within which samples are compared, for pairs and costs.
    pub pair: Option<String>,
    /// A run of the same rows with their rejected answers, for pairs and costs.
    pub rejected: Option<PathBuf>,
    /// A field by whose values the quality is reported as well.
    pub category: Option<String>,
    /// Whether labels of safety that contradict another field are used. If not, they are left out, and more than one in twenty is an
    /// error.
    pub use_conflicts: bool,
    /// Seed of the folds and of intervals.
    pub seed: u64,
}

/// What a probe would be fitted to.
pub type ProbePlan = SaePlan<ProbeDetails>;

/// What is particular to a probe.
#[derive(Clone, Debug, Serialize)]
pub struct ProbeDetails {
    /// The name.
    pub name: String,
    /// The kind.
    pub kind: Kind,
    /// Samples with a label.
    pub labeled: usize,
}

/// What is known about the samples of all runs: those of the run itself, and then those with rejected answers.
struct Input {
    samples: Vec<Sample>,
    /// How many of them are the run's.
    own: usize,
    rejected: Option<Companion>,
    labels: Labels,
    conflicts: Option<Conflicts>,
    /// The set of each sample, for comparisons.
    sets: Option<Vec<Option<u32>>>,
}

/// What probes and their baselines read, by sample.
struct Features {
    rows: Rows,
    words: FeatureSets,
    means: Vec<PartMeans>,
    positions: Vec<u32>,
}

impl ProbeRequest {
    /// A probe of all positions with content.
    pub fn new(sae: SaeChoice, name: impl Into<String>, kind: Kind, label: impl Into<String>) -> Self {
        let (name, label) = (name.into(), Some(label.into()));
        let (part, pair, rejected, category) = (Part::All, None, None, None);
        Self { sae, name, kind, label, part, pair, rejected, category, use_conflicts: false, seed: 0 }
    }

    /// What [`ProbeRequest::run`] would do.
    ///
    /// # Errors
    /// No such run, autoencoder or field; labels of another kind.
    pub fn plan(&self) -> Result<ProbePlan> {
        let sae = self.sae.load_with_pieces()?;
        check_name(&self.name)?;
        let input = self.input(&sae)?;
        let labeled = input.labels.values.iter().flatten().count();
        Ok(sae.plan("probe", ProbeDetails { name: self.name.clone(), kind: self.kind, labeled }))
    }

    /// Fits the probe, and writes it and its scores of all samples.
    ///
    /// # Errors
    /// As [`ProbeRequest::plan`]; too few labels; files that cannot be read or written; a request to stop.
    pub fn run(&self, control: &mut Control) -> Result<ProbeReport> {
        let sae = self.sae.load_with_pieces()?;
        check_name(&self.name)?;
        let input = self.input(&sae)?;
        let features = self.features(&sae, &input, control)?;
        let staged = control.stage(Stage::Probe, None)?;
        let is_labeled = |n: &usize| input.labels.values[*n].is_some() && features.positions[*n] > 0;
        let mut members: Vec<usize> = (0..input.samples.len()).filter(is_labeled).collect();
        let mut compared = Vec::new();
        if let Some(sets) = &input.sets {
            let has: BTreeSet<usize> = members.iter().copied().collect();
            let value = |n: usize| input.labels.values[n].filter(|_| has.contains(&n));
            let values: Vec<Option<f64>> = (0..input.samples.len()).map(value).collect();
            compared = pairs(&input.labels.field, sets, &values, self.kind == Kind::Cost)?;
            members = compared.iter().flatten().copied().collect::<BTreeSet<_>>().into_iter().collect();
            if compared.len() < FEWEST {
                let found = vec![("pairs".to_string(), compared.len())];
                return Err(ProbeError::TooFew { field: input.labels.field.clone(), found, fewest: FEWEST }.into());
            }
        }
        let taking_part: BTreeSet<usize> = members.iter().copied().collect();
        input.labels.check(self.kind, |n| taking_part.contains(&n))?;
        let places: BTreeMap<usize, usize> = members.iter().copied().zip(0..).collect();
        let compared = compared.iter().map(|pair| pair.map(|n| places[&n])).collect();
        let targets = targets(self.kind, &input.labels, compared, &members);
        let groups = groups(&input, &members, &targets);
        let distinct = groups.iter().collect::<BTreeSet<_>>().len();
        if distinct < FEWEST_GROUPS {
            return Err(ProbeError::FewGroups { groups: distinct, fewest: FEWEST_GROUPS }.into());
        }
        let folds = folds(groups.iter().map(String::as_str), self.seed);
        let fit = Fit::new(&features.rows.pick(&members), &targets, &folds);
        let judge = Judge { targets: &targets, levels: input.labels.levels.len(), groups: &groups, seed: self.seed };
        let baselines = judge::Baselines { features: &features, members: &members, targets: &targets, folds: &folds };
        let quality = judge.quality(&fit, &baselines, self.seed);
        let known: Vec<Option<f64>> = members.iter().map(|n| outcome(self.kind, input.labels.values[*n])).collect();
        let (calibration, calibrated) = calibrate(&fit.out_of_fold, &known, &folds);
        let is_calibrated = matches!(self.kind, Kind::Binary | Kind::Ordinal | Kind::Cost);
        let mut scores: Vec<Option<f64>> = (0..input.own)
            .map(|n| {
                let score = || fit.probe.score(self.kind, features.rows.row(n));
                (features.positions[n] > 0).then(|| if is_calibrated { calibration.at(score()) } else { score() })
            })
            .collect();
        for (place, n) in members.iter().enumerate().filter(|(_, n)| **n < input.own) {
            scores[*n] = if is_calibrated { calibrated[place] } else { fit.out_of_fold[place] };
        }
        let brier = match self.kind {
            Kind::Binary | Kind::Cost => judge::brier(&calibrated, &known),
            _ => None,
        };
        let by_category = self.category.as_deref().map(|field| categories(&input.samples, field)).transpose()?;
        let by_category =
            by_category.map_or_else(Vec::new, |categories| judge.by_category(&fit, &members, &categories));
        let audited = Audited::new(&targets, &fit.out_of_fold, &members, &input.samples, input.own);
        drop(staged);
        let names = FeatureNames::read(&sae);
        let column = format!("{PROBE}{}", self.name);
        let weights = sae.run.sae_dir(&sae.name).join("sae_weights.safetensors");
        let file = file::path(&sae.run, &sae.name, &self.name);
        let report = ProbeReport {
            schema_version: sae_core::store::run::SCHEMA_VERSION,
            name: self.name.clone(),
            kind: self.kind,
            label: self.label.clone(),
            levels: input.labels.levels.clone(),
            part: self.part,
            pair: self.pair.clone(),
            run: sae.run.root().to_path_buf(),
            sae: sae.name.clone(),
            sae_blake3: if weights.exists() { sae_core::file::hash(&weights)? } else { String::new() },
            seed: self.seed,
            pieces: sae.store.paths().are_pieces(),
            samples: members.len(),
            examples: targets.len(),
            left_out: input.samples.len() - members.len(),
            conflicts: input.conflicts.clone(),
            groups: distinct,
            features: fit.probe.weights.len(),
            quality,
            brier,
            by_category,
            audit: audited.as_ref().map(|audited| audited.audit),
            suspects: audited.as_ref().map_or_else(Vec::new, |audited| audited.suspects.clone()),
            margin_column: audited.as_ref().map(|_| format!("{MARGIN}{}", self.name)),
            penalty: fit.path[fit.chosen].penalty,
            weighted: report::weighted(&fit.probe, &features.rows.pick(&members), &names),
            path: fit.path.clone(),
            column: column.clone(),
            file,
        };
        let saved = SavedProbe {
            kind: self.kind,
            part: self.part,
            probe: fit.probe.clone(),
            calibration: is_calibrated.then_some(calibration),
        };
        file::write(&report, &saved)?;
        let (table, own) = (sae.run.scores(&sae.name), &input.samples[..input.own]);
        column::add_column(&table, &column, own, &scores)?;
        if let (Some(audited), Some(column)) = (&audited, &report.margin_column) {
            column::add_column(&table, column, own, &audited.by_sample[..input.own])?;
            keep::save(&table, column, audited.keep())?;
        }
        let step = json!({
            "sae": report.sae, "kind": report.kind, "label": report.label, "samples": report.samples,
            "features": report.features, "quality": report.quality, "seed": report.seed,
        });
        sae.run.write_step(&format!("probe/{}", report.name), &step)?;
        Ok(report)
    }

    fn input(&self, sae: &LoadedSae) -> Result<Input> {
        let mut samples = load_samples(&sae.run)?;
        let own = samples.len();
        let compares = matches!(self.kind, Kind::Pair | Kind::Cost);
        if compares && self.pair.is_none() && self.rejected.is_none() {
            return Err(ProbeError::NoPairs { kind: self.kind }.into());
        }
        let rejected = self.rejected.as_deref().filter(|_| compares);
        let rejected = rejected.map(|path| Companion::open(sae, path, Role::Rejected)).transpose()?;
        let mut sets = None;
        if let Some(other) = &rejected {
            let others = load_samples(&other.run)?;
            let partners = align_samples(&samples, &others);
            if partners.iter().all(Option::is_none) {
                return Err(Error::OtherSamples { path: other.run.root().to_path_buf() });
            }
            let mut of = vec![None; own + others.len()];
            for (n, partner) in partners.iter().enumerate() {
                if let Some(partner) = partner {
                    (of[n], of[own + partner]) = (Some(n as u32), Some(n as u32));
                }
            }
            samples.extend(others);
            sets = Some(of);
        } else if let (true, Some(field)) = (compares, &self.pair) {
            let groups = Groups::by_fields(&samples, field).map_err(unknown_field)?;
            let has = |sample: &Sample| field.split(',').all(|field| field_value(&sample.meta, field.trim()).is_some());
            sets = Some(samples.iter().zip(&groups.of).map(|(sample, set)| has(sample).then_some(*set)).collect());
        }
        let mut labels = match (&self.label, &rejected) {
            (Some(label), _) => Labels::read(self.kind, label, &samples)?,
            (None, Some(_)) if self.kind == Kind::Pair => {
                let values = (0..samples.len()).map(|n| Some(f64::from(u8::from(n < own)))).collect();
                Labels { field: "the chosen answer".into(), values, levels: Vec::new() }
            }
            (None, _) => return Err(ProbeError::NoLabel { kind: self.kind }.into()),
        };
        let conflicts = Conflicts::resolve(&labels.field, &samples, &mut labels.values, self.use_conflicts)?;
        Ok(Input { samples, own, rejected, labels, conflicts, sets })
    }

    fn features(&self, sae: &LoadedSae, input: &Input, control: &mut Control) -> Result<Features> {
        let (d_sae, d_in) = (sae.saved.weights.d_sae, sae.saved.weights.d_in);
        let mut found =
            Features { rows: Rows::new(d_sae), words: FeatureSets::default(), means: vec![], positions: vec![] };
        let mut words = Vec::new();
        let others = input.samples.len() - input.own;
        let stores: Vec<(&Store, Stage, usize)> = [(&sae.store, Stage::Features, input.own)]
            .into_iter()
            .chain(input.rejected.iter().map(|other| (&other.store, Stage::Rejected, others)))
            .collect();
        for (store, stage, samples) in stores {
            let choice = PositionChoice::new(store, self.part, self.part.markers().as_ref())?;
            let mut strengths = strengths(samples, d_sae);
            let mut means = PartMeans::new(samples, d_in);
            sae.summarize(store, stage, &choice, &mut [&mut strengths, &mut means], control)?;
            found.rows.append(&Rows::from_sets(&strengths.finish()));
            found.positions.extend(choice.counts(store)?);
            found.means.push(means);
            words.extend(part_words(store, &choice, samples)?);
        }
        found.words = number_words(&words);
        Ok(found)
    }
}

impl Features {
    /// The mean hidden state of a sample, if it is held.
    fn mean(&self, sample: usize) -> Option<&[f32]> {
        let own = self.means[0].samples();
        let (means, number) = if sample < own { (&self.means[0], sample) } else { (&self.means[1], sample - own) };
        means.mean(number as u32)
    }
}

/// The number that a label gives each sample: 1 and 0 for yes and no, a level, a number, a rate.
pub(crate) fn label_values(kind: Kind, label: &str, samples: &[Sample]) -> Result<Vec<Option<f64>>> {
    Ok(Labels::read(kind, label, samples)?.values)
}

/// Collects what probes read: `log(1 + max)` of every feature over the positions that count.
pub(crate) fn strengths(samples: usize, d_sae: usize) -> FeatureSetCollector {
    FeatureSetCollector::new(samples, d_sae, 0.0, Measure::Strength)
}

/// What a calibrated score should be.
fn outcome(kind: Kind, value: Option<f64>) -> Option<f64> {
    value.map(|value| if kind == Kind::Cost { f64::from(u8::from(value < 0.0)) } else { value })
}

fn unknown_field(error: filters::Error) -> Error {
    match error {
        filters::Error::UnknownField { asked: field, available } => {
            ProbeError::UnknownField { field, available }.into()
        }
        error => error.into(),
    }
}

/// The category of every sample.
fn categories(samples: &[Sample], field: &str) -> Result<Vec<Option<String>>> {
    let groups = Groups::by_fields(samples, field).map_err(unknown_field)?;
    let name = |(sample, group): (&Sample, &u32)| {
        field_value(&sample.meta, field).is_some().then(|| groups.names[*group as usize].clone())
    };
    Ok(samples.iter().zip(&groups.of).map(name).collect())
}

/// The groups that folds keep whole: samples of the same first image, and of the same pair.
fn groups(input: &Input, members: &[usize], targets: &Targets) -> Vec<String> {
    let name = |n: &usize| {
        let sample = &input.samples[*n];
        sample.images.first().map_or_else(|| sample.id.clone(), |image| image.sha256.clone())
    };
    let names: Vec<String> = members.iter().map(name).collect();
    let mut first: BTreeMap<&str, usize> = BTreeMap::new();
    let mut parent: Vec<usize> = names.iter().enumerate().map(|(n, name)| *first.entry(name).or_insert(n)).collect();
    fn root(parent: &mut [usize], mut n: usize) -> usize {
        while parent[n] != n {
            parent[n] = parent[parent[n]];
            n = parent[n];
        }
        n
    }
    for example in 0..targets.len() {
        let [a, b] = targets.rows(example).map(|row| root(&mut parent, row));
        parent[a.max(b)] = a.min(b);
    }
    (0..names.len()).map(|n| names[root(&mut parent, n)].clone()).collect()
}
