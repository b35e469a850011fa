//! A probe as `sae probe` has written it, in sentences. Plain data; reads no file.

use super::format;
use filters::probe::Kind;
use sae_core::analysis::feature_sets::Part;
use sae_workbench::ProbeReport;
use sae_workbench::probe::{Conflicts, QualityMeasure, Suspect};
use std::collections::HashSet;

/// The probe, beside the predictions that it has to beat.
pub struct Prediction {
    /// What it predicts from.
    pub name: &'static str,
    /// How good it is on samples that the fits have not seen.
    pub quality: Option<f64>,
    /// What it is, in a sentence.
    pub hint: &'static str,
}

/// What predicts at random, by the measure of the probe.
fn chance(measure: QualityMeasure) -> &'static str {
    match measure {
        QualityMeasure::Auc | QualityMeasure::Accuracy => "A random number for each sample",
        QualityMeasure::QuadraticKappa => "The level of another sample, drawn at random",
        // The squared difference of two draws is twice the variance.
        QualityMeasure::R2 => {
            "The label of another sample, drawn at random. Its R^2 is about -1 for any labels; 0 is that of their mean"
        }
    }
}

/// The probe and its baselines, the probe first.
pub fn predictions(report: &ProbeReport) -> [Prediction; 5] {
    let quality = &report.quality;
    [
        ("features", quality.features, "The probe: a weighted sum of a few features"),
        ("hidden states", quality.dense, "Ridge regression on mean hidden states"),
        ("words", quality.words, "The same kind of probe on words in place of features"),
        ("length", quality.length, "The number of positions alone"),
        ("chance", quality.random, chance(quality.measure)),
    ]
    .map(|(name, quality, hint)| Prediction { name, quality, hint })
}

/// What is predicted, and how well.
pub fn headline(report: &ProbeReport) -> String {
    let label = report.label.as_deref().unwrap_or("the chosen answer");
    let features = format::counted(report.features, "feature");
    let found = match (report.quality.features, report.quality.interval) {
        (Some(quality), Some([low, high])) => {
            let title = report.quality.measure.title();
            format!("{title} {quality:.3} (95 % interval {low:.3} to {high:.3})")
        }
        (Some(quality), None) => format!("{} {quality:.3}", report.quality.measure.title()),
        (None, _) => "its quality is not known".into(),
    };
    format!("{} probe of {label}, from {features}: {found}", capitalized(report.kind.name()))
}

fn capitalized(text: &str) -> String {
    let mut characters = text.chars();
    characters.next().map(|first| first.to_uppercase().chain(characters).collect()).unwrap_or_default()
}

/// The positions that are read.
fn part(part: Part) -> &'static str {
    match part {
        Part::Everything => "all positions",
        Part::All => "all positions except special ones, such as template text",
        Part::User => "what the user says",
        Part::Answer => "the answer",
        Part::Think => "the answer between <think> and </think>",
        Part::Image => "the patches of images",
        Part::Action => "the actions",
    }
}

/// What it was fitted to.
pub fn design(report: &ProbeReport) -> Vec<String> {
    let samples = format::counted(report.samples, "sample");
    let examples = if matches!(report.kind, Kind::Pair | Kind::Cost) {
        format!("{} of {samples}", format::counted(report.examples, "pair"))
    } else {
        samples
    };
    let groups = format::count(report.groups as u64);
    let part = part(report.part);
    let mut lines = vec![format!("Fitted to {examples} with {groups} different images or sets. It reads {part}.")];
    if report.left_out > 0 {
        let left_out = format::counted(report.left_out, "sample");
        let were = if report.left_out == 1 { "was" } else { "were" };
        lines.push(format!("{left_out} {were} left out: without a label or such a position, or in no pair."));
    }
    lines.extend(conflicts(report).filter(|(_, used)| !used).map(|(text, _)| text));
    if let Some(brier) = report.brier {
        lines.push(format!("Brier score of the calibrated probabilities: {brier:.4}."));
    }
    lines.push(format!("Its scores are the column {} of the score table.", report.column));
    lines
}

/// How many labels contradict another field of the same answer, if there are such, and whether they are used nevertheless.
fn conflicts(report: &ProbeReport) -> Option<(String, bool)> {
    let Conflicts { field, compared, count, keys, used } =
        report.conflicts.as_ref().filter(|conflicts| conflicts.count > 0)?;
    let [number, compared] = [*count, *compared].map(|number| format::count(number as u64));
    let done = if *used { "are used nevertheless" } else { "were left out" };
    let more = count.saturating_sub(keys.len()) as u64;
    let more = if more > 0 { format!(" and {} more", format::count(more)) } else { String::new() };
    Some((format!("{number} of {compared} labels contradict {field} and {done}: {}{more}.", keys.join(", ")), *used))
}

/// Why the probe should not be trusted.
pub fn warnings(report: &ProbeReport) -> Vec<String> {
    let used = conflicts(report).filter(|(_, used)| *used).map(|(text, _)| text);
    warning(report).into_iter().chain(used).collect()
}

/// A trivial prediction that is inside the interval of the probe or above it.
fn warning(report: &ProbeReport) -> Option<String> {
    let [low, _] = report.quality.interval?;
    if report.quality.measure == QualityMeasure::R2 && low <= 0.0 {
        return Some("The mean of all labels predicts about as well.".into());
    }
    let reached = |quality: Option<f64>| quality.is_some_and(|quality| quality >= low);
    if reached(report.quality.length) {
        return Some("Length alone predicts about as well, so the labels may be about length.".into());
    }
    reached(report.quality.random).then(|| "Chance predicts about as well.".into())
}

/// What the margins of pairs say about their labels; empty unless pairs were compared.
pub fn audit(report: &ProbeReport) -> Vec<String> {
    let Some(audit) = &report.audit else {
        let none = "There is no audit: it needs 20 pairs, and answers whose scores differ.";
        return if report.kind == Kind::Pair { vec![none.into()] } else { Vec::new() };
    };
    let [flipped, low, high, agree] =
        [audit.flipped, audit.interval[0], audit.interval[1], audit.agree].map(format::percent);
    let pairs = format::counted(audit.pairs, "pair");
    let mut lines = vec![
        format!("About {flipped} of the labels are flipped (95 % interval {low} to {high})."),
        format!(
            "The probe agrees with {agree} of the labels of {pairs}. Its margins should tell flipped labels from right ones with an \
             AUC of {:.3}.",
            audit.expected_auc
        ),
    ];
    if let (Some(threshold), Some(column)) = (audit.threshold, &report.margin_column) {
        lines.push(format!(
            "Below a margin of {threshold:+.3} a label is more likely flipped than not. \
             `sae filter --by {column} --keep auto` keeps the others"
        ));
    }
    lines
}

/// The samples of suspects that the run has, in the order of the table, each once.
pub fn suspect_samples(suspects: &[Suspect]) -> Vec<u32> {
    let mut seen = HashSet::new();
    suspects.iter().flat_map(|suspect| suspect.samples).flatten().filter(|sample| seen.insert(*sample)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn report(quality: serde_json::Value) -> ProbeReport {
        serde_json::from_value(json!({
            "schema_version": 1, "name": "help", "kind": "pair", "label": "rate", "levels": [], "part": "answer",
            "pair": "set", "run": "/run", "sae": "base", "sae_blake3": "", "seed": 0, "samples": 1600, "examples": 2400,
            "left_out": 1, "groups": 400, "features": 2, "quality": quality, "brier": null, "by_category": [],
            "penalty": 0.1,
            "audit": {
                "pairs": 2400, "agree": 0.85, "flipped": 0.1, "interval": [0.08, 0.12], "threshold": -1.5,
                "expected_auc": 0.9,
            },
            "suspects": [
                { "preferred": "a", "other": "b", "samples": [7, null], "margin": -3.0 },
                { "preferred": "c", "other": "a", "samples": [9, 7], "margin": -2.0 },
            ],
            "margin_column": "margin_help", "weighted": [], "path": [], "column": "probe_help",
        }))
        .unwrap()
    }

    #[test]
    fn a_report_becomes_sentences() {
        let quality = json!({
            "measure": "accuracy", "features": 0.9, "interval": [0.88, 0.92], "dense": 0.91, "words": 0.7, "length": 0.6,
            "random": 0.5,
        });
        let report = report(quality);
        let headline = "Pair probe of rate, from 2 features: accuracy 0.900 (95 % interval 0.880 to 0.920)";
        assert_eq!(super::headline(&report), headline);
        let design = design(&report);
        let fitted = "Fitted to 2,400 pairs of 1,600 samples with 400 different images or sets. It reads the answer.";
        assert_eq!(design[0], fitted);
        assert!(design[1].starts_with("1 sample was left out"));
        assert_eq!(warning(&report), None);
        let audit = audit(&report);
        assert_eq!(audit[0], "About 10% of the labels are flipped (95 % interval 8.0% to 12%).");
        assert!(audit[2].contains("Below a margin of -1.500"));
        assert_eq!(suspect_samples(&report.suspects), [7, 9]);
        assert_eq!(predictions(&report).map(|other| other.quality), [0.9, 0.91, 0.7, 0.6, 0.5].map(Some));
    }

    #[test]
    fn a_probe_that_length_or_chance_equals_is_not_to_be_trusted() {
        let quality = |length: f64, random: f64| {
            let text = json!({
                "measure": "auc", "features": 0.6, "interval": [0.55, 0.65], "dense": null, "words": null, "length": length,
                "random": random,
            });
            warning(&report(text))
        };
        assert!(quality(0.56, 0.5).is_some_and(|text| text.starts_with("Length alone")));
        assert!(quality(0.54, 0.55).is_some_and(|text| text.starts_with("Chance")));
        assert_eq!(quality(0.54, 0.5), None);
    }

    #[test]
    fn chance_is_described_by_what_it_is_and_a_probe_of_numbers_has_to_beat_their_mean() {
        let with = |measure: &str, low: f64| {
            report(json!({
                "measure": measure, "features": 0.1, "interval": [low, 0.2], "dense": null, "words": null, "length": null,
                "random": -1.02,
            }))
        };
        let hint = |measure: &str| predictions(&with(measure, 0.05))[4].hint;
        assert!(hint("r2").contains("R^2 is about -1") && hint("auc").starts_with("A random number"));
        assert_eq!(warnings(&with("r2", 0.05)), [""; 0]);
        assert_eq!(warnings(&with("r2", -0.05)), ["The mean of all labels predicts about as well."]);
    }

    #[test]
    fn labels_that_contradict_each_other_are_named() {
        let quality = json!({
            "measure": "auc", "features": 0.6, "interval": null, "dense": null, "words": null, "length": null, "random": null,
        });
        let mut report = report(quality);
        let conflicts = Conflicts {
            field: "is_safe".into(),
            compared: 1600,
            count: 3,
            keys: ["a", "b"].map(String::from).to_vec(),
            used: false,
        };
        report.conflicts = Some(conflicts.clone());
        let expected = "3 of 1,600 labels contradict is_safe and were left out: a, b and 1 more.";
        assert_eq!((design(&report)[2].as_str(), warnings(&report).len()), (expected, 0));
        report.conflicts = Some(Conflicts { used: true, ..conflicts.clone() });
        assert!(warnings(&report)[0].contains("are used nevertheless: a, b"));
        report.conflicts = Some(Conflicts { count: 0, ..conflicts });
        assert_eq!((design(&report).len(), warnings(&report).len()), (3, 0), "nothing is said of none");
    }
}
