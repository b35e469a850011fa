//! The guard of a generation: a probe that says how severe a text is, and above which severity it is flagged. Runs no model.

use crate::Result;
use crate::contrast::PartMeans;
use crate::control::{Control, Stage};
use crate::error::GenerateError;
use crate::probe::{self, SavedProbe};
use crate::sae::LoadedSae;
use filters::column::ScoreTable;
use filters::probe::Kind;
use filters::score_names::PROBE;
use sae_core::Run;
use sae_core::analysis::between::PositionChoice;
use sae_core::analysis::feature_sets::Part;
use sae_core::store::load_samples;
use sae_core::store::sample::Sample;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::str::FromStr;

/// The largest activation of each feature in a text.
pub(super) type Peaks = BTreeMap<u32, f32>;

/// Above which severity a text is flagged.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum At {
    /// Above this severity.
    Severity(f64),
    /// Above the lowest severity at which this share of the run's harmless samples, or fewer, are flagged.
    FalsePositives(f64),
}

/// As likely harmful as not, where severities are probabilities.
const EVEN: f64 = 0.5;

impl Default for At {
    fn default() -> Self {
        Self::Severity(EVEN)
    }
}

impl FromStr for At {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = || format!("invalid threshold {text:?}: expected a severity such as 0.5, or fpr=5%");
        let number = |text: &str| text.trim().parse::<f64>().ok().filter(|number| number.is_finite());
        match text.strip_prefix("fpr=") {
            None => number(text).map(Self::Severity).ok_or_else(expected),
            Some(share) => {
                let share = match share.strip_suffix('%') {
                    Some(percent) => number(percent).map(|percent| percent / 100.0),
                    None => number(share),
                };
                let share = share.filter(|share| (0.0..1.0).contains(share));
                share.map(Self::FalsePositives).ok_or_else(expected)
            }
        }
    }
}

/// How often a guard flags samples of the run whose label is known; samples that the probe was fitted to have scores from fits
/// that have not seen them.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct GuardRates {
    /// The share of harmful samples that are flagged.
    pub true_positives: f64,
    /// The share of harmless samples that are flagged.
    pub false_positives: f64,
    /// Harmful samples.
    pub harmful: usize,
    /// Harmless samples.
    pub harmless: usize,
}

/// A guard, ready to judge.
pub(super) struct Guard {
    saved: SavedProbe,
    /// Texts of a higher severity are flagged.
    pub threshold: f64,
    /// The severities of the run's samples, if they are known.
    severities: Option<Severities>,
    name: String,
    /// What is known of its errors.
    pub rates: Option<GuardRates>,
    /// The hash of its file.
    pub hash: String,
}

impl Guard {
    /// Opens the probe of this name of an autoencoder.
    pub fn open(run: &Run, sae: &str, name: &str, at: At) -> Result<Self> {
        let (saved, label, hash) = probe_of(run, sae, name)?;
        let severities = severities(run, sae, &saved, name, label.as_deref())?;
        let mut guard = Self { saved, threshold: 0.0, severities, name: name.into(), rates: None, hash };
        guard.threshold = guard.severity_of(at)?;
        guard.rates = guard.severities.as_ref().and_then(|severities| severities.rates(guard.threshold));
        Ok(guard)
    }

    /// The severity that is meant.
    ///
    /// # Errors
    /// It depends on the severities of harmless samples, which are not known.
    pub fn severity_of(&self, at: At) -> Result<f64, GenerateError> {
        match at {
            At::Severity(severity) => Ok(severity),
            At::FalsePositives(share) => {
                let severities = self.severities.as_ref().filter(|severities| !severities.harmless.is_empty());
                let severities = severities.ok_or_else(|| GenerateError::NoRates { name: self.name.clone() })?;
                Ok(severities.threshold(share))
            }
        }
    }

    /// Whether the guard reads the prompt as well, when it judges whole answers.
    pub fn reads_prompt(&self) -> bool {
        self.saved.part != Part::Answer
    }

    /// How severe a text is.
    pub fn severity(&self, peaks: &Peaks) -> f64 {
        let row = peaks.iter().map(|(feature, peak)| (*feature, peak.ln_1p()));
        let score = self.saved.probe.score(self.saved.kind, row);
        self.saved.calibration.as_ref().map_or(score, |points| points.at(score))
    }

    /// The features that contribute the most to the severity, in descending order, at most `most`, each with what it adds to the
    /// score before the calibration.
    pub fn causes(&self, peaks: &Peaks, most: usize) -> Vec<(u32, f64)> {
        let contribution = |(feature, peak): (&u32, &f32)| {
            let share = self.saved.probe.weight(*feature) * f64::from(peak.ln_1p());
            (share > 0.0).then_some((*feature, share))
        };
        let mut causes: Vec<(u32, f64)> = peaks.iter().filter_map(contribution).collect();
        causes.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        causes.truncate(most);
        causes
    }
}

/// A probe of an autoencoder that can be a guard.
#[derive(Clone, Debug, PartialEq)]
pub struct GuardChoice {
    /// The kind of the probe, which says what a severity is: a probability, a level, a number.
    pub kind: Kind,
    /// The label that it was fitted to.
    pub label: Option<String>,
    /// How often it is wrong in the run at a severity of 0.5. Without it, no threshold can be chosen by false positives.
    pub rates: Option<GuardRates>,
    /// Whether labels say which samples of the run are harmful, so that there is a difference of means.
    pub has_direction: bool,
}

/// The probes of an autoencoder by their names: those that can be a guard, and why the others cannot.
pub fn guards(run: &Run, sae: &str) -> Vec<(String, Result<GuardChoice>)> {
    let names = crate::ProbeReport::names(run, sae);
    let choice = |name: &str| {
        let (saved, label, _) = probe_of(run, sae, name)?;
        let severities = severities(run, sae, &saved, name, label.as_deref())?;
        let rates = severities.and_then(|severities| severities.rates(EVEN));
        Ok(GuardChoice { kind: saved.kind, label, rates, has_direction: labels(run, sae, name).is_ok() })
    };
    names.into_iter().map(|name| (name.clone(), choice(&name))).collect()
}

/// The probe of this name, if it can judge what is written; its label, and the hash of its file.
fn probe_of(run: &Run, sae: &str, name: &str) -> Result<(SavedProbe, Option<String>, String)> {
    let available = crate::ProbeReport::names(run, sae);
    if !available.iter().any(|other| other == name) {
        return Err(GenerateError::NoProbe { asked: name.into(), sae: sae.into(), available }.into());
    }
    let (saved, label, hash) = probe::open(run, sae, name)?;
    if saved.kind == Kind::Pair {
        return Err(GenerateError::ComparesAnswers { name: name.into() }.into());
    }
    if !matches!(saved.part, Part::Everything | Part::All | Part::Answer) {
        return Err(GenerateError::GuardPart { name: name.into(), part: saved.part.name() }.into());
    }
    Ok((saved, label, hash))
}

/// The severities of the run's samples by their label, each in ascending order.
struct Severities {
    harmful: Vec<f64>,
    harmless: Vec<f64>,
}

impl Severities {
    fn threshold(&self, false_positives: f64) -> f64 {
        let flagged = (false_positives * self.harmless.len() as f64).floor() as usize;
        self.harmless[self.harmless.len() - 1 - flagged.min(self.harmless.len() - 1)]
    }

    fn rates(&self, threshold: f64) -> Option<GuardRates> {
        let share = |scores: &[f64]| {
            let flagged = scores.iter().filter(|score| **score > threshold).count();
            (!scores.is_empty()).then(|| flagged as f64 / scores.len() as f64)
        };
        Some(GuardRates {
            true_positives: share(&self.harmful)?,
            false_positives: share(&self.harmless)?,
            harmful: self.harmful.len(),
            harmless: self.harmless.len(),
        })
    }
}

/// Whether each sample of the run is harmful, as far as its label says. `None` if the label cannot be read any more, or says nothing
/// about harm.
fn harmful(saved: &SavedProbe, label: Option<&str>, samples: &[Sample]) -> Option<Vec<Option<bool>>> {
    let is_harmful: fn(f64) -> bool = match saved.kind {
        Kind::Binary | Kind::Ordinal => |value| value > 0.0,
        Kind::Cost => |value| value < 0.0,
        Kind::Linear | Kind::Pair => return None,
    };
    // The field may have gone with a change of the run's rows.
    let values = probe::label_values(saved.kind, label?, samples).ok()?;
    Some(values.into_iter().map(|value| value.map(is_harmful)).collect())
}

/// The run's samples with a label and a score.
fn severities(run: &Run, sae: &str, saved: &SavedProbe, name: &str, label: Option<&str>) -> Result<Option<Severities>> {
    let samples = load_samples(run)?;
    let table = run.scores(sae);
    let Some(harmful) = harmful(saved, label, &samples).filter(|_| table.exists()) else { return Ok(None) };
    let scores = ScoreTable::open(&table, &samples)?;
    let column = format!("{PROBE}{name}");
    if !scores.names().contains(&column) {
        return Ok(None);
    }
    let scores = scores.column(&column)?;
    let mut found = Severities { harmful: Vec::new(), harmless: Vec::new() };
    for (harmful, score) in harmful.into_iter().zip(scores) {
        match (harmful, score) {
            (Some(true), Some(score)) => found.harmful.push(score),
            (Some(false), Some(score)) => found.harmless.push(score),
            _ => {}
        }
    }
    found.harmful.sort_by(f64::total_cmp);
    found.harmless.sort_by(f64::total_cmp);
    Ok(Some(found))
}

/// A probe, and whether each sample of the run is harmful.
fn labels(run: &Run, sae: &str, name: &str) -> Result<(SavedProbe, Vec<Option<bool>>)> {
    let (saved, label, _) = probe::open(run, sae, name)?;
    let harmful = harmful(&saved, label.as_deref(), &load_samples(run)?);
    let harmful = harmful.filter(|all| [true, false].iter().all(|of| all.contains(&Some(*of))));
    let harmful = harmful.ok_or_else(|| GenerateError::NoDirection { name: name.into() })?;
    Ok((saved, harmful))
}

/// Checks that labels say which samples of the run are harmful.
///
/// # Errors
/// They do not.
pub(super) fn check_labels(run: &Run, sae: &str, name: &str) -> Result<()> {
    labels(run, sae, name).map(drop)
}

/// The mean hidden state of the run's harmless samples minus that of the harmful ones, over the positions that the probe reads.
///
/// # Shapes
/// `[d_in]`.
///
/// # Errors
/// The labels do not say which samples are harmful; a pass that fails.
pub(super) fn away_from_harm(sae: &LoadedSae, name: &str, control: &mut Control) -> Result<Vec<f32>> {
    let (saved, harmful) = labels(&sae.run, &sae.name, name)?;
    let d_in = sae.saved.weights.d_in;
    let mut means = PartMeans::new(harmful.len(), d_in);
    let choice = PositionChoice::new(&sae.store, saved.part, saved.part.markers().as_ref())?;
    sae.summarize(&sae.store, Stage::Hidden, &choice, &mut [&mut means], control)?;
    let mean = |of: bool| {
        let (mut sum, mut count) = (vec![0.0f64; d_in], 0);
        let members = (0..).zip(&harmful).filter(|(_, harmful)| **harmful == Some(of));
        for mean in members.filter_map(|(n, _)| means.mean(n)) {
            sum.iter_mut().zip(mean).for_each(|(sum, x)| *sum += f64::from(*x));
            count += 1;
        }
        (count > 0).then(|| sum.into_iter().map(|sum| sum / f64::from(count)).collect::<Vec<f64>>())
    };
    let (harmless, harmful) =
        mean(false).zip(mean(true)).ok_or_else(|| GenerateError::NoDirection { name: name.into() })?;
    Ok(harmless.into_iter().zip(harmful).map(|(harmless, harmful)| (harmless - harmful) as f32).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds_are_read() {
        assert_eq!("0.7".parse(), Ok(At::Severity(0.7)));
        assert_eq!("fpr=5%".parse(), Ok(At::FalsePositives(0.05)));
        assert_eq!("fpr=0.1".parse(), Ok(At::FalsePositives(0.1)));
        for bad in ["", "fpr=", "fpr=101%", "fpr=-1%", "tpr=5%", "NaN", "inf"] {
            assert!(bad.parse::<At>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_threshold_flags_no_more_harmless_samples_than_asked() {
        let harmless: Vec<f64> = (0..40).map(|n| f64::from(n / 2) / 20.0).collect();
        let found = Severities { harmful: vec![0.2, 0.9, 0.96, 1.0], harmless };
        for share in [0.0, 0.01, 0.05, 0.1, 0.5, 0.99] {
            let threshold = found.threshold(share);
            let rates = found.rates(threshold).unwrap();
            assert!(rates.false_positives <= share, "{share}: {rates:?}");
        }
        let rates = found.rates(found.threshold(0.05)).unwrap();
        assert_eq!(rates, GuardRates { true_positives: 0.5, false_positives: 0.05, harmful: 4, harmless: 40 });
    }
}
