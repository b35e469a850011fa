//! What `sae contrast --runs` has found between models: which features of a crosscoder belong to one of them, or how far checkpoints
//! are back from an aligned model to its base. The reports with the sentences about them; reads no file.

use super::format;
use sae_core::analysis::latent_scaling::{Ownership, ScaledFeature};
use sae_core::analysis::rebound::CheckpointMean;
use sae_workbench::models::ownership::PairReport;
use sae_workbench::models::patch::MovedFeatures;
use sae_workbench::models::series::{CheckpointReport, HalfWay};
use sae_workbench::models::{ModelFit, OwnershipReport, SeriesReport};
use std::cmp::Ordering;
use std::collections::BTreeMap;

/// A value with its 95 % interval; NaN where they are not known.
pub type Measured = [f64; 3];

/// A contrast between models. Tables that cannot be read are sentences in their place.
#[derive(Clone, Debug)]
pub enum ModelContrast {
    /// By a crosscoder.
    Owned(Owned),
    /// By one autoencoder on the states of every model.
    Series(Series),
}

/// Which features of a crosscoder belong to one model.
#[derive(Clone, Debug)]
pub struct Owned {
    /// What was found.
    pub report: OwnershipReport,
    /// The features, for each pair of models and each of the two.
    pub features: Result<Vec<ScaledFeature>, String>,
    /// Those of the null row, if there is one.
    pub null: Option<Result<Vec<ScaledFeature>, String>>,
}

/// How far checkpoints are back.
#[derive(Clone, Debug)]
pub struct Series {
    /// What was found.
    pub report: SeriesReport,
    /// The features.
    pub features: Result<Vec<FeatureSeries>, String>,
}

/// A feature on the states of every model.
#[derive(Clone, Debug, PartialEq)]
pub struct FeatureSeries {
    /// The feature.
    pub feature: u32,
    /// Its mean activation in each model.
    pub means: Vec<f64>,
    /// How far it is back in each model, with its interval; nothing for the base, the aligned model, and where these do not differ.
    pub back: Vec<Option<Measured>>,
}

impl FeatureSeries {
    /// The series of all features, from rows of features and models. Features that are active in no model are left out.
    pub fn from_rows(rows: &[CheckpointMean], models: usize) -> Vec<Self> {
        let mut series: BTreeMap<u32, Self> = BTreeMap::new();
        for row in rows.iter().filter(|row| (row.model as usize) < models) {
            let empty = || Self { feature: row.feature, means: vec![0.0; models], back: vec![None; models] };
            let own = series.entry(row.feature).or_insert_with(empty);
            own.means[row.model as usize] = row.mean;
            own.back[row.model as usize] = row.rebound.map(|ratio| ratio.triple());
        }
        series.into_values().filter(|series| series.means.iter().any(|mean| *mean != 0.0)).collect()
    }

    /// How much larger its mean is in the aligned model than in the base.
    pub fn moved(&self) -> f64 {
        match self.means[..] {
            [base, aligned, ..] => aligned - base,
            _ => 0.0,
        }
    }

    /// How far it is back in a model; NaN where that is not known.
    pub fn back_in(&self, model: usize) -> f64 {
        self.back.get(model).copied().flatten().map_or(f64::NAN, |[value, ..]| value)
    }
}

/// A measure of a checkpoint: its name, how it is read, and after how many samples checkpoints are half-way back by it.
pub type CheckpointMeasure = (&'static str, fn(&CheckpointReport) -> Measured, fn(&HalfWay) -> Option<f64>);

/// The measures of a checkpoint.
pub const MEASURES: [CheckpointMeasure; 5] = [
    ("features", |at| at.features, |half| half.features),
    ("mean hidden state", |at| at.hidden_states, |half| half.hidden_states),
    ("distance of hidden states", |at| at.state_distance, |half| half.state_distance),
    ("distance of weights", |at| alone(at.weight_distance), |half| half.weight_distance),
    ("predictions (KL)", |at| at.kl.unwrap_or([f64::NAN; 3]), |half| half.kl),
];

/// A value without an interval.
pub fn alone(value: Option<f64>) -> Measured {
    [value.unwrap_or(f64::NAN), f64::NAN, f64::NAN]
}

/// A value with its interval, in words.
pub fn measured([value, low, high]: Measured) -> String {
    match (value.is_finite(), low.is_finite() && high.is_finite()) {
        (true, true) => format!("{value:.3} ({low:.3} to {high:.3})"),
        (true, false) => format!("{value:.3}"),
        (false, _) => "-".into(),
    }
}

/// Whether a feature belongs to a model alone, in a word.
pub fn is_alone(ownership: Ownership) -> &'static str {
    match ownership {
        Ownership::Own => "yes",
        Ownership::Shared => "no",
        Ownership::Uncertain => "uncertain",
    }
}

/// Which features are moved, in words.
pub fn moved(choice: MovedFeatures) -> &'static str {
    match choice {
        MovedFeatures::None => "no features",
        MovedFeatures::Own => "those of the second model alone",
        MovedFeatures::Top => "those that move the states most",
        MovedFeatures::Random => "random ones",
        MovedFeatures::All => "all",
    }
}

/// What a model is called: the last part of its name, and its number where several are called the same.
pub fn name(models: &[ModelFit], model: usize) -> String {
    fn last(fit: &ModelFit) -> &str {
        fit.model.trim_end_matches(['/', '\\']).rsplit(['/', '\\']).next().unwrap_or_default()
    }
    let name = models.get(model).map_or("", last);
    let is_of_another = |(n, other): (usize, &ModelFit)| n != model && last(other) == name;
    match name {
        "" => format!("model {model}"),
        name if models.iter().enumerate().any(is_of_another) => format!("{name} (model {model})"),
        name => name.to_owned(),
    }
}

/// How well each model is reconstructed.
fn fits(models: &[ModelFit]) -> String {
    let fit = |model: usize| format!("{} {}", name(models, model), format::maybe(Some(models[model].fvu)));
    let fits: Vec<String> = (0..models.len()).map(fit).collect();
    format!("Unexplained share of the variance (FVU): {}.", fits.join(", "))
}

/// A number of features, in words.
fn features(count: usize) -> String {
    if count == 0 { "no features".into() } else { format::counted(count, "feature") }
}

/// A number of features that belong to something.
fn belong(count: usize) -> String {
    format!("{} {}", features(count), if count == 1 { "belongs" } else { "belong" })
}

impl ModelContrast {
    /// The autoencoder.
    pub fn sae(&self) -> &str {
        match self {
            Self::Owned(owned) => &owned.report.sae,
            Self::Series(series) => &series.report.sae,
        }
    }

    /// What was found, in a sentence.
    pub fn headline(&self) -> String {
        match self {
            Self::Owned(owned) => owned.headline(),
            Self::Series(series) => series.headline(),
        }
    }

    /// How well the models are reconstructed, and what belongs to the headline.
    pub fn lines(&self) -> Vec<String> {
        match self {
            Self::Owned(owned) => owned.lines(),
            Self::Series(series) => series.lines(),
        }
    }

    /// What has to be known before the rest is believed.
    pub fn warnings(&self) -> Vec<String> {
        match self {
            Self::Owned(_) => Vec::new(),
            Self::Series(series) => series.warnings(),
        }
    }
}

impl Owned {
    /// What a model is called.
    pub fn name(&self, model: usize) -> String {
        name(&self.report.models, model)
    }

    fn headline(&self) -> String {
        let pair = |pair: &PairReport| {
            let (model, reference) = (self.name(pair.model), self.name(pair.reference));
            if pair.same_model {
                return format!("{model} and {reference} are the same model");
            }
            let (of_model, of_reference) = (belong(pair.of_model.own), features(pair.of_reference.own));
            format!("{of_model} to {model} alone, {of_reference} to {reference} alone")
        };
        let text = self.report.found.pairs.iter().map(pair).collect::<Vec<_>>().join("; ");
        text.strip_prefix("no ").map(|rest| format!("No {rest}")).unwrap_or(text)
    }

    fn lines(&self) -> Vec<String> {
        let chance = match &self.report.found.null {
            Some(null) => {
                let own = null.iter().map(|pair| pair.of_model.own + pair.of_reference.own).sum();
                format!("For comparison, of one model and its copy: {} to one of them alone.", belong(own))
            }
            None => {
                "How many there are by chance is not known: `sae contrast --null NAME` compares one model and its copy"
                    .into()
            }
        };
        vec![fits(&self.report.models), chance]
    }

    /// The sides of all pairs: the model that features may belong to, and the one that may lack them.
    pub fn sides(&self) -> Vec<[usize; 2]> {
        let measured = self.report.found.pairs.iter().filter(|pair| !pair.same_model);
        measured.flat_map(|pair| [[pair.model, pair.reference], [pair.reference, pair.model]]).collect()
    }
}

impl Series {
    /// What a model is called.
    pub fn name(&self, model: usize) -> String {
        name(&self.report.models, model)
    }

    fn headline(&self) -> String {
        let Some(last) = self.report.found.rebound.last() else {
            return format!(
                "{} on the states of {}",
                self.report.sae,
                format::counted(self.report.models.len(), "model")
            );
        };
        let tuned = last.tuned_on.map(|samples| format!(", tuned on {} samples,", format::count(samples)));
        let model = format!("{}{}", self.name(last.model), tuned.unwrap_or_default());
        if !last.features[0].is_finite() {
            return format!(
                "It is not known how far {model} is back: by its features, the aligned model does not differ from the base"
            );
        }
        let back = measured(last.features);
        format!("By its features, {model} is {back} of the way back from the aligned model to the base")
    }

    fn lines(&self) -> Vec<String> {
        let half_way = |(title, _, half_way): &CheckpointMeasure| {
            let samples = half_way(&self.report.found.half_way)?;
            Some(format!("{title} {}", format::count(samples.round() as u64)))
        };
        let half_way: Vec<String> = MEASURES.iter().filter_map(half_way).collect();
        let half_way = (!half_way.is_empty()).then(|| half_way.join(", "));
        let half_way = half_way.map(|list| format!("Half-way back after this many samples: {list}."));
        std::iter::once(fits(&self.report.models)).chain(half_way).collect()
    }

    fn warnings(&self) -> Vec<String> {
        let unseen = |model: &usize| {
            let name = self.name(*model);
            format!(
                "The autoencoder reconstructs {name} much worse than the base, so it may miss features of that model."
            )
        };
        let same = |model: &usize| format!("{} has exactly the hidden states of the base.", self.name(*model));
        let found = &self.report.found;
        found.unseen.iter().map(unseen).chain(found.same_model.iter().map(same)).collect()
    }
}

/// By what the rows of a table are sorted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Order {
    /// The number of the column.
    pub column: usize,
    /// Whether the largest value is on top.
    pub descending: bool,
}

/// What a row is sorted by; nothing where it is not known.
enum Key {
    Number(f64),
    Name(Option<String>),
}

impl Key {
    /// What a feature is called, as people look for it.
    fn name(feature: u32, name: &dyn Fn(u32) -> Option<String>) -> Self {
        Self::Name(name(feature).map(|name| name.to_lowercase()))
    }

    /// Compares two keys of a column. What is not known is last in either direction.
    fn compare(&self, other: &Self, descending: bool) -> Ordering {
        let (order, unknown) = match (self, other) {
            (Self::Number(a), Self::Number(b)) => (a.total_cmp(b), [a.is_nan(), b.is_nan()]),
            (Self::Name(a), Self::Name(b)) => (a.cmp(b), [a.is_none(), b.is_none()]),
            (Self::Number(_), Self::Name(_)) | (Self::Name(_), Self::Number(_)) => return Ordering::Equal,
        };
        match unknown {
            [false, false] if descending => order.reverse(),
            [false, false] => order,
            [a, b] => a.cmp(&b),
        }
    }
}

/// Sorts the numbers of rows by their keys, and rows with equal ones by `then`.
fn sorted(
    rows: impl Iterator<Item = usize>,
    key: impl Fn(usize) -> Key,
    descending: bool,
    then: impl Fn(usize, usize) -> Ordering,
) -> Vec<usize> {
    let mut keyed: Vec<(Key, usize)> = rows.map(|n| (key(n), n)).collect();
    keyed.sort_by(|(a, n), (b, m)| a.compare(b, descending).then_with(|| then(*n, *m)));
    keyed.into_iter().map(|(_, n)| n).collect()
}

/// The numbers of the rows of one side, in the order of a column of the table. `name` says what a feature is called.
pub fn owned_order(
    rows: &[ScaledFeature],
    [model, reference]: [usize; 2],
    Order { column, descending }: Order,
    name: &dyn Fn(u32) -> Option<String>,
) -> Vec<usize> {
    let of_side = |n: &usize| (rows[*n].model, rows[*n].reference) == (model, reference);
    let number = |row: &ScaledFeature| match column {
        0 => f64::from(row.feature),
        2 => match row.ownership() {
            Ownership::Own => 2.0,
            Ownership::Uncertain => 1.0,
            Ownership::Shared => 0.0,
        },
        3 => row.firings as f64,
        4 => row.delta,
        5 => row.nu_error.value,
        6 => row.nu_reconstruction.value,
        7 => row.template_share,
        _ => row.first_share,
    };
    let key = |n: usize| match column {
        1 => Key::name(rows[n].feature, name),
        _ => Key::Number(number(&rows[n])),
    };
    let then = |a: usize, b: usize| rows[b].firings.cmp(&rows[a].firings).then(rows[a].feature.cmp(&rows[b].feature));
    sorted((0..rows.len()).filter(of_side), key, descending, then)
}

/// The numbers of features, in the order of a column of the table: number, name, base, aligned, moved, checkpoint, back. `name` says
/// what a feature is called.
pub fn series_order(
    series: &[FeatureSeries],
    checkpoint: usize,
    Order { column, descending }: Order,
    name: &dyn Fn(u32) -> Option<String>,
) -> Vec<usize> {
    let mean = |row: &FeatureSeries, model: usize| row.means.get(model).copied().unwrap_or(f64::NAN);
    let number = |row: &FeatureSeries| match column {
        0 => f64::from(row.feature),
        2 => mean(row, 0),
        3 => mean(row, 1),
        4 => row.moved().abs(),
        5 => mean(row, checkpoint),
        _ => row.back_in(checkpoint),
    };
    let key = |n: usize| match column {
        1 => Key::name(series[n].feature, name),
        _ => Key::Number(number(&series[n])),
    };
    sorted(0..series.len(), key, descending, |a, b| a.cmp(&b))
}

#[cfg(test)]
mod tests;
