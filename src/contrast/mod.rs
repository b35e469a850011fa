//! Contrasts: which features differ between groups of samples, along an order, or with a target. One pass of the encoder,
//! and the test of [`sae_core::analysis::contrast`].

mod baselines;
mod question;
mod report;

pub use crate::error::ContrastError;
pub use baselines::PredictionReport;
pub use question::Question;
pub(crate) use question::group;
pub use report::{ColumnReport, ContrastReport, DifferingFeature, ForecastReport};

use crate::Result;
use crate::control::{Control, Stage};
use crate::sae::{LoadedSae, SaeChoice, SaePlan};
pub(crate) use baselines::{PartMeans, number_words, part_words};
use baselines::{Sources, folds};
use filters::score_names::PREDICTED;
use filters::select::{Groups, field_value};
use filters::{Threshold, column};
use question::Values;
use sae_core::analysis::between::{Markers, PositionChoice};
use sae_core::analysis::contrast::{
    Bins, Column, Design, ExampleCollector, FeatureNote, GroupExample, GroupSeries, Participant, Study, StudyOptions,
    StudyReport, TestedFeature, forecasts, length_strata, study, trajectories, write_chance, write_examples,
    write_features, write_groups,
};
use sae_core::analysis::feature_sets::{FeatureSetCollector, FeatureSets, Measure, Part};
use sae_core::analysis::index::{FeatureRow, Lists, Row, TypicalWord, Word, read_features, read_lists};
use sae_core::analysis::labels::Labels;
use sae_core::analysis::summary::SummaryObserver;
use sae_core::file;
use sae_core::store::load_samples;
use sae_core::store::run::check_name;
use sae_core::store::sample::Sample;
use serde::Serialize;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};

/// Differing features whose values and examples in groups or bins are written: those with the largest `|z|`.
const SERIES: usize = 2000;
/// Differing features that a report names.
const NAMED: usize = 20;
/// Numbers of features times strata that fit into memory.
const CELLS: usize = 1 << 28;
/// Words that stand for a feature without a label.
const WORDS: usize = 4;
/// Above this share of a column explained by length, length and column cannot be told apart.
pub const LENGTH_EXPLAINS: f64 = 0.9;

/// What to compare.
///
/// ```
#[doc = include_str!("../example_run.md")]
/// use sae_workbench::contrast::{ContrastRequest, Question};
/// use sae_workbench::{Control, SaeChoice, ScoreRequest};
///
/// # let run = example_run()?;
/// # ScoreRequest::new(SaeChoice::new(run.path())).run(&mut Control::default())?;
/// // Which features rise and fall with the score of the samples?
/// let question = Question::Target { field: "pmi_blank".into(), lead: 0 };
/// let mut request = ContrastRequest::new(SaeChoice::new(run.path()), question);
/// request.options.shuffles = 2;
/// let report = request.run(&mut Control::default())?;
/// println!("{} of {} features differ", report.differing, report.tested);
/// assert!(report.folder.join("features.parquet").is_file());
/// # Ok::<(), sae_workbench::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct ContrastRequest {
    /// The autoencoder.
    pub sae: SaeChoice,
    /// The name of the contrast in the run; `None` is the field that the question is about.
    pub name: Option<String>,
    /// What is asked.
    pub question: Question,
    /// Which positions of a sample count.
    pub part: Part,
    /// Only positions between these markers count; `None` is the markers of the part, if it has any.
    pub between: Option<Markers>,
    /// Field of sets of samples that are compared with each other only, such as the answers to one question.
    pub pair: Option<String>,
    /// Field of clusters: samples of one value may depend on each other. `None` is the pair, or each sample by itself.
    pub cluster: Option<String>,
    /// Fields whose values are adjusted for, like length.
    pub adjust: Option<String>,
    /// A feature is active above this activation.
    pub threshold: Threshold,
    /// What is measured of a feature in a sample.
    pub measure: Measure,
    /// How it is tested.
    pub options: StudyOptions,
    /// Number of bins along an order or a target.
    pub bins: usize,
    /// Number of features of the prediction; 0 predicts nothing.
    pub select: usize,
}

/// What a contrast would do.
pub type ContrastPlan = SaePlan<ContrastDetails>;

/// What is particular to a contrast.
#[derive(Clone, Debug, Serialize)]
pub struct ContrastDetails {
    /// The name of the contrast.
    pub name: String,
    /// Samples with a value.
    pub with_value: usize,
    /// The columns that would be tested.
    pub columns: Vec<String>,
}

/// What is known about features, for tables and reports.
#[derive(Default)]
pub(crate) struct FeatureNames {
    rows: Vec<FeatureRow>,
    labels: BTreeMap<u32, String>,
    words: Vec<Vec<TypicalWord>>,
    logits: Option<Lists<Word>>,
}

impl FeatureNames {
    pub(crate) fn read(sae: &LoadedSae) -> Self {
        let folder = sae.run.features(&sae.name);
        let rows = read_features(&folder.join("features.parquet")).unwrap_or_default();
        let words = read_lists(&folder.join(TypicalWord::FILE), rows.len()).unwrap_or_default();
        let labels = Labels::read(&sae.run).ok();
        let written = labels.as_ref().and_then(|labels| labels.written(&sae.name));
        let entries = written.map_or(&[][..], |written| written.entries()).iter();
        let labels = entries.filter(|entry| !entry.label.is_empty()).map(|entry| (entry.feature, entry.label.clone()));
        let logits = Lists::open(&folder, rows.len()).ok();
        Self { rows, labels: labels.collect(), words, logits }
    }

    fn weight(&self, feature: u32) -> Option<f64> {
        let row = self.rows.get(feature as usize)?;
        row.weight_corrected.or(row.weight_paper)
    }

    fn label(&self, feature: u32) -> Option<&str> {
        self.labels.get(&feature).map(String::as_str)
    }

    pub(crate) fn words(&self, feature: u32) -> String {
        if let Some(label) = self.label(feature) {
            return label.to_owned();
        }
        let words = self.words.get(feature as usize).into_iter().flatten();
        let mut seen = BTreeSet::new();
        words.map(|word| word.word.as_str()).filter(|word| seen.insert(*word)).take(WORDS).collect::<Vec<_>>().join(" ")
    }

    /// The tokens that a feature promotes, those whose logits rise most first.
    pub(crate) fn promoted(&self, feature: u32) -> Vec<String> {
        let tokens = self.logits.as_ref().and_then(|logits| logits.rows(feature).ok()).unwrap_or_default();
        tokens.into_iter().filter(|token| token.promoted).map(|token| token.piece).collect()
    }
}

/// What a contrast works on.
struct Input {
    question: Question,
    samples: Vec<Sample>,
    values: Values,
    clusters: Option<Vec<String>>,
    pairs: Option<Groups>,
}

impl ContrastRequest {
    /// A contrast with the defaults of the command line.
    pub fn new(sae: SaeChoice, question: Question) -> Self {
        Self {
            sae,
            name: None,
            question,
            part: Part::All,
            between: None,
            pair: None,
            cluster: None,
            adjust: None,
            threshold: Threshold::Auto,
            measure: Measure::Active,
            options: StudyOptions::default(),
            bins: 10,
            select: 20,
        }
    }

    /// What [`ContrastRequest::run`] would do.
    ///
    /// # Errors
    /// No such run, autoencoder or field; a question that the samples cannot answer.
    pub fn plan(&self) -> Result<ContrastPlan> {
        let sae = self.sae.load_with_pieces()?;
        let (name, input) = (self.name()?, self.input(&sae)?);
        let with_value = input.values.order.iter().flatten().count();
        let columns = input.values.columns.into_iter().map(|(name, _)| name).collect();
        Ok(sae.plan("contrast", ContrastDetails { name, with_value, columns }))
    }

    /// Tests every feature, and writes the tables and the predictions.
    ///
    /// # Errors
    /// As [`ContrastRequest::plan`]; a column that does not vary where samples are comparable; files that cannot be read or
    /// written; a request to stop.
    pub fn run(&self, control: &mut Control) -> Result<ContrastReport> {
        let sae = self.sae.load_with_pieces()?;
        let (name, input) = (self.name()?, self.input(&sae)?);
        let d_sae = sae.saved.weights.d_sae;
        let threshold = self.threshold.for_width(sae.saved.weights.d_in);
        let choice = PositionChoice::new(&sae.store, self.part, self.markers().as_ref())?;
        let positions = choice.counts(&sae.store)?;
        let design = self.design(&input, &positions, d_sae)?;
        let in_order = |values: &[Option<f64>]| -> Vec<f64> {
            design.samples().iter().map(|sample| values[*sample as usize].unwrap_or_default()).collect()
        };
        let bins = self.bins(&input.values, &in_order(&input.values.order));
        let mut groups = vec![None; input.samples.len()];
        design.samples().iter().zip(&bins.of).for_each(|(sample, bin)| groups[*sample as usize] = Some(*bin));
        let mut collector = FeatureSetCollector::new(input.samples.len(), d_sae, threshold, self.measure);
        let mut means = PartMeans::new(input.samples.len(), sae.saved.weights.d_in);
        let mut examples = ExampleCollector::new(groups, bins.ranges.len(), d_sae, threshold);
        let observers: &mut [&mut dyn SummaryObserver] = &mut [&mut collector, &mut means, &mut examples];
        sae.summarize(&sae.store, Stage::Features, &choice, observers, control)?;
        let sets = collector.finish();

        let staged = control.stage(Stage::Contrast, None)?;
        let columns = input.values.columns.iter();
        let columns: Vec<Column> =
            columns.map(|(name, values)| Column { name: name.clone(), values: in_order(values) }).collect();
        let report = study(Study { design: &design, sets: &sets }, &columns, &self.options)?;
        let series = self.series(&input.values, &design, &sets, &report, &bins);
        let differing = series.trajectories.iter().map(|trajectory| trajectory.feature);
        let examples = examples.finish(differing, &series.names);
        let word_sets = number_words(&part_words(&sae.store, &choice, input.samples.len())?);
        let sources = Sources {
            design: &design,
            sets: &sets,
            words: &word_sets,
            positions: &positions,
            hidden: &means,
            folds: &folds(&design, self.options.seed),
            most: self.select,
            seed: self.options.seed,
        };
        let predicted = if self.select > 0 { &columns[..] } else { &[] };
        let mut predictions: Vec<PredictionReport> = predicted.iter().map(|column| sources.predict(column)).collect();
        // Samples of a set have the prediction of the one that stands for it, which was made out of fold.
        for prediction in &mut predictions {
            for (n, of) in input.values.sets.iter().enumerate() {
                of.iter().for_each(|of| prediction.predicted[n] = prediction.predicted[*of as usize]);
            }
        }
        drop(staged);
        self.write(&sae, name, &input, &design, &columns, report, series, &examples, predictions, threshold, &choice)
    }

    /// The markers between which positions count.
    fn markers(&self) -> Option<Markers> {
        self.between.clone().or(self.part.markers())
    }

    /// The name of the contrast.
    fn name(&self) -> Result<String> {
        let plain = |c: char| if c.is_alphanumeric() || c == '_' || c == '.' { c } else { '-' };
        let name = self.name.clone().unwrap_or_else(|| self.question.field().chars().map(plain).collect());
        check_name(&name)?;
        Ok(name)
    }

    fn input(&self, sae: &LoadedSae) -> Result<Input> {
        let samples = load_samples(&sae.run)?;
        let clusters = self.cluster.as_deref().map(|field| clusters(&samples, field)).transpose()?;
        let pairs = self.pair.as_deref().map(|field| question::group(&samples, field)).transpose()?;
        let question = self.question.complete(&sae.run)?;
        if let (Question::Difference { .. }, true) = (&question, !matches!(self.part, Part::User | Part::Image)) {
            return Err(ContrastError::DifferenceInAnswer { part: self.part.name().into() }.into());
        }
        let values = Values::read(&question, &samples, clusters.as_deref(), &sae.run, &sae.name)?;
        Ok(Input { question, samples, values, clusters, pairs })
    }

    /// The participants.
    fn design(&self, input: &Input, positions: &[u32], d_sae: usize) -> Result<Design> {
        let field = self.question.field();
        let takes_part = |n: &usize| input.values.order[*n].is_some() && positions[*n] > 0;
        let mut members: Vec<usize> = (0..input.samples.len()).filter(takes_part).collect();
        if members.is_empty() {
            let (part, markers) = (self.part.name().into(), self.markers());
            return Err(ContrastError::NoPositions { field: field.into(), part, markers }.into());
        }
        if let (Some(pairs), Some(pair)) = (&input.pairs, &self.pair) {
            let has =
                |n: &usize| pair.split(',').all(|field| field_value(&input.samples[*n].meta, field.trim()).is_some());
            members.retain(has);
            let mut sizes: BTreeMap<u32, usize> = BTreeMap::new();
            members.iter().for_each(|n| *sizes.entry(pairs.of[*n]).or_default() += 1);
            members.retain(|n| sizes[&pairs.of[*n]] > 1);
            if members.is_empty() {
                return Err(ContrastError::NoPairs { field: pair.clone() }.into());
            }
        }
        let lengths: Vec<u32> = members.iter().map(|n| positions[*n]).collect();
        let mut strata = length_strata(&lengths);
        if let Some(adjust) = &self.adjust {
            let groups = question::group(&input.samples, adjust)?;
            let lengths = strata.iter().max().map_or(1, |last| last + 1);
            strata.iter_mut().zip(&members).for_each(|(stratum, n)| *stratum += lengths * groups.of[*n]);
            let (strata, most) = (strata.iter().collect::<BTreeSet<_>>().len(), CELLS / d_sae.max(1));
            if strata > most {
                return Err(ContrastError::TooManyStrata { adjust: adjust.clone(), strata, most }.into());
            }
        }
        let cluster_of = |n: usize| match (&input.clusters, &input.pairs) {
            (Some(clusters), _) => clusters[n].clone(),
            (None, Some(pairs)) => pairs.names[pairs.of[n] as usize].clone(),
            // The number of a sample tells those with the same content apart.
            (None, None) => format!("{} {}", input.samples[n].id, input.samples[n].key),
        };
        self.check_clusters(input, &members, &cluster_of)?;
        let participants = members.iter().zip(&strata).map(|(n, stratum)| Participant {
            cluster: cluster_of(*n),
            identity: format!("{} {} {:010}", input.samples[*n].id, input.samples[*n].key, n),
            sample: *n as u32,
            stratum: *stratum,
            pair: input.pairs.as_ref().map(|pairs| pairs.of[*n]),
        });
        Ok(Design::new(participants.collect()))
    }

    fn check_clusters(&self, input: &Input, members: &[usize], cluster_of: &dyn Fn(usize) -> String) -> Result<()> {
        if let (Some(pairs), Some(pair), Some(cluster)) = (&input.pairs, &self.pair, &self.cluster) {
            let mut found: BTreeMap<u32, String> = BTreeMap::new();
            for n in members {
                let first = found.entry(pairs.of[*n]).or_insert_with(|| cluster_of(*n));
                if *first != cluster_of(*n) {
                    let value = pairs.names[pairs.of[*n] as usize].clone();
                    let (pair, cluster) = (pair.clone(), cluster.clone());
                    return Err(ContrastError::PairInClusters { pair, value, cluster }.into());
                }
            }
        }
        if let Question::Groups { field } = &self.question {
            let mut clusters: BTreeMap<u64, BTreeSet<String>> = BTreeMap::new();
            for n in members {
                let group = input.values.order[*n].unwrap_or_default() as u64;
                clusters.entry(group).or_default().insert(cluster_of(*n));
            }
            if clusters.values().all(|clusters| clusters.len() == 1) {
                return Err(ContrastError::GroupsAreClusters { field: field.clone() }.into());
            }
        }
        Ok(())
    }

    /// A bin for each group, or bins along the order.
    fn bins(&self, values: &Values, order: &[f64]) -> Bins {
        if values.groups.is_empty() { Bins::new(order, self.bins) } else { by_value(order) }
    }

    /// The differing features in every group, or in bins of the order.
    fn series(
        &self,
        values: &Values,
        design: &Design,
        sets: &FeatureSets,
        report: &StudyReport,
        bins: &Bins,
    ) -> GroupSeries {
        let mut differing: Vec<&TestedFeature> = report.tested.iter().filter(|row| row.differs()).collect();
        differing.sort_by(|a, b| b.z.abs().total_cmp(&a.z.abs()));
        let mut features: Vec<u32> = differing.iter().take(SERIES).map(|row| row.feature).collect();
        features.sort_unstable();
        features.dedup();
        let name = |range: &[f64; 2]| match values.groups.get(range[0] as usize) {
            Some(group) => group.clone(),
            None if range[0] == range[1] => short(range[0]),
            None => format!("{} to {}", short(range[0]), short(range[1])),
        };
        let mut sizes = vec![0; bins.ranges.len()];
        bins.of.iter().for_each(|bin| sizes[*bin as usize] += 1);
        let trajectories = trajectories(design, sets, bins, &features, self.options.seed);
        let forecast = matches!(self.question, Question::Order { .. }).then(|| {
            let series = trajectories.iter().map(|trajectory| trajectory.adjusted.iter().map(|e| e.effect).collect());
            forecasts(&series.collect::<Vec<_>>())
        });
        let names = bins.ranges.iter().map(name).collect();
        GroupSeries { names, sizes, trajectories, forecast: forecast.flatten() }
    }

    #[expect(clippy::too_many_arguments, reason = "the results of all steps come together here, once")]
    fn write(
        &self,
        sae: &LoadedSae,
        name: String,
        input: &Input,
        design: &Design,
        columns: &[Column],
        report: StudyReport,
        series: GroupSeries,
        examples: &[GroupExample],
        predictions: Vec<PredictionReport>,
        threshold: f32,
        choice: &PositionChoice,
    ) -> Result<ContrastReport> {
        let names = FeatureNames::read(sae);
        let folder = sae.run.root().join("contrasts").join(&name);
        let _lock = sae.run.lock()?;
        std::fs::create_dir_all(&folder).map_err(sae_core::Error::io("make the folder", &folder))?;
        let column_names: Vec<String> = columns.iter().map(|column| column.name.clone()).collect();
        let note = |row: &TestedFeature| FeatureNote {
            is_selected: predictions.get(row.column).is_some_and(|prediction| prediction.uses(row.feature)),
            weight: names.weight(row.feature),
            label: names.label(row.feature).map(String::from),
        };
        let notes: Vec<FeatureNote> = report.tested.iter().map(note).collect();
        write_features(&folder.join("features.parquet"), &column_names, &report.tested, &notes)?;
        write_chance(&folder.join("shuffled.parquet"), &column_names, &report.chance)?;
        write_groups(&folder.join("groups.parquet"), &series)?;
        write_examples(&folder.join("examples.parquet"), examples)?;
        let mut score_columns = Vec::new();
        for prediction in &predictions {
            let column = if columns.len() == 1 && input.values.groups.is_empty() {
                format!("{PREDICTED}{name}")
            } else {
                format!("{PREDICTED}{name}_{}", prediction.column)
            };
            column::add_column(&sae.run.scores(&sae.name), &column, &input.samples, &prediction.predicted)?;
            score_columns.push(column);
        }
        let mut differing: Vec<&TestedFeature> = report.tested.iter().filter(|row| row.differs()).collect();
        let findings = differing.len();
        differing.sort_by(|a, b| b.z.abs().total_cmp(&a.z.abs()).then(a.feature.cmp(&b.feature)));
        let describe = |row: &&TestedFeature| DifferingFeature {
            feature: row.feature,
            column: column_names[row.column].clone(),
            words: names.words(row.feature),
            prevalence: row.prevalence,
            prevalence_rest: row.prevalence_rest,
            effect: [row.reported().effect, row.reported().lo, row.reported().hi],
            z: row.z,
            q: row.q,
        };
        let distinct =
            |rows: &mut dyn Iterator<Item = &TestedFeature>| rows.map(|row| row.feature).collect::<BTreeSet<_>>().len();
        let weights = sae.run.sae_dir(&sae.name).join("sae_weights.safetensors");
        let report = ContrastReport {
            schema_version: sae_core::store::run::SCHEMA_VERSION,
            question: input.question.clone(),
            part: self.part,
            between: self.markers(),
            measure: self.measure,
            unmatched_markers: choice.spans.as_ref().map_or(0, |spans| spans.unmatched),
            samples_with_unmatched_markers: choice.spans.as_ref().map_or(0, |spans| spans.samples_with_unmatched),
            pair: self.pair.clone(),
            cluster: self.cluster.clone(),
            adjust: self.adjust.clone(),
            run: sae.run.root().to_path_buf(),
            sae: sae.name.clone(),
            sae_blake3: if weights.exists() { file::hash(&weights)? } else { String::new() },
            threshold,
            false_discovery_rate: self.options.false_discovery_rate,
            seed: self.options.seed,
            samples: design.samples().len(),
            left_out: input.values.units() - design.samples().len(),
            clusters: report.clusters,
            confirming_clusters: report.confirming_clusters,
            strata: design.strata(),
            columns: columns.iter().map(|column| describe_column(column, design)).collect(),
            tested: distinct(&mut report.tested.iter()),
            differing: distinct(&mut differing.iter().copied()),
            findings,
            shuffled: report.shuffled,
            strongest: differing.iter().take(NAMED).map(describe).collect(),
            forecast: series.forecast.as_ref().map(|forecast| ForecastReport {
                method: forecast.method,
                skill: forecast.skill.map(|skill| [skill.effect, skill.lo, skill.hi]),
                skills: forecast.skills.iter().map(|(method, skill)| (method.name(), *skill)).collect(),
            }),
            predictions,
            score_columns,
            tests: report.tested,
            chance: report.chance,
            name,
            folder,
        };
        file::write_json(&report.folder.join("contrast.json"), &report)?;
        let step = json!({
            "sae": report.sae, "question": report.question, "samples": report.samples, "tested": report.tested,
            "findings": report.findings, "seed": report.seed,
        });
        sae.run.write_step(&format!("contrast/{}", report.name), &step)?;
        Ok(report)
    }
}

fn describe_column(column: &Column, design: &Design) -> ColumnReport {
    let is_indicator = column.values.iter().all(|t| *t == 0.0 || *t == 1.0);
    let samples = column.values.iter().filter(|t| !is_indicator || **t == 1.0).count();
    ColumnReport { name: column.name.clone(), samples, explained_by_length: design.explained(&column.values) }
}

/// A number with four digits, or all digits of a whole number.
fn short(value: f64) -> String {
    if value.fract() == 0.0 {
        return value.to_string();
    }
    let decimals = (3.0 - value.abs().log10().floor()).clamp(0.0, 9.0) as usize;
    format!("{value:.decimals$}")
}

/// A bin for each value.
fn by_value(values: &[f64]) -> Bins {
    let mut known: Vec<f64> = values.to_vec();
    known.sort_by(f64::total_cmp);
    known.dedup();
    let place = |value: &f64| known.partition_point(|other| other < value) as u32;
    Bins { of: values.iter().map(place).collect(), ranges: known.iter().map(|value| [*value; 2]).collect() }
}

/// The cluster of every sample; one that lacks the field is a cluster by itself.
fn clusters(samples: &[Sample], field: &str) -> Result<Vec<String>> {
    let groups = question::group(samples, field)?;
    let has = |sample: &Sample| field.split(',').all(|field| field_value(&sample.meta, field.trim()).is_some());
    let name = |(n, sample): (usize, &Sample)| {
        let group = &groups.names[groups.of[n] as usize];
        if has(sample) { group.clone() } else { format!("{group} {} {}", sample.id, sample.key) }
    };
    Ok(samples.iter().enumerate().map(name).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_of_bins_have_four_digits() {
        let all = [-17.906390315166814, 0.012345678, 1999.0, 123456.5, 0.0].map(short);
        assert_eq!(all, ["-17.91", "0.01235", "1999", "123456", "0"]);
    }
}
