//! A probe as `sae probe` has written it, in sentences. Plain data; reads no file.

use super::format;
use filters::probe::Kind;
use sae_workbench::ProbeReport;
use sae_workbench::probe::Suspect;

/// The probe, beside the predictions that it has to beat.
pub struct Prediction {
    /// What it predicts from.
    pub name: &'static str,
    /// How good it is on samples that the fits have not seen.
    pub quality: Option<f64>,
    /// What it is, in a sentence.
    pub hint: &'static str,
}

/// The probe and its baselines, the probe first.
pub fn predictions(report: &ProbeReport) -> [Prediction; 5] {
    let quality = &report.quality;
    [
        ("features", quality.features, "The probe: a weighted sum of a few features"),
        ("hidden states", quality.dense, "Ridge regression on mean hidden states"),
        ("words", quality.words, "The same kind of fit to the words"),
        ("length", quality.length, "The number of positions alone"),
        ("chance", quality.random, "Random numbers"),
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

/// What it was fitted to.
pub fn design(report: &ProbeReport) -> Vec<String> {
    let samples = format::counted(report.samples, "sample");
    let examples = if matches!(report.kind, Kind::Pair | Kind::Cost) {
        format!("{} of {samples}", format::counted(report.examples, "pair"))
    } else {
        samples
    };
    let groups = format::count(report.groups as u64);
    let mut lines = vec![format!(
        "Fitted to {examples} with {groups} different images or sets; reads the positions of: {}.",
        report.part.name()
    )];
    if report.left_out > 0 {
        let left_out = format::counted(report.left_out, "sample");
        lines.push(format!("{left_out} left out, which lack a label, the part or a partner."));
    }
    if let Some(brier) = report.brier {
        lines.push(format!("Brier score of the calibrated probabilities: {brier:.4}."));
    }
    lines.push(format!("Scores: column {}.", report.column));
    lines
}

/// Why the probe should not be trusted, if a trivial prediction is inside its interval or above it.
pub fn warning(report: &ProbeReport) -> Option<String> {
    let [low, _] = report.quality.interval?;
    let reached = |quality: Option<f64>| quality.is_some_and(|quality| quality >= low);
    if reached(report.quality.length) {
        return Some("Length alone predicts about as well, so the labels may be about length.".into());
    }
    reached(report.quality.random).then(|| "Chance predicts about as well.".into())
}

/// What the margins of pairs say about their labels; empty if there is no audit.
pub fn audit(report: &ProbeReport) -> Vec<String> {
    let Some(audit) = &report.audit else { return Vec::new() };
    let [flipped, low, high, agree] =
        [audit.flipped, audit.interval[0], audit.interval[1], audit.agree].map(format::percent);
    let pairs = format::counted(audit.pairs, "pair");
    let mut lines = vec![
        format!("About {flipped} of the labels are flipped (95 % interval {low} to {high})."),
        format!(
            "The probe agrees with {agree} of the labels of {pairs}. Its margins should find flipped ones with an AUC of {:.3}.",
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
    let mut samples = Vec::new();
    for sample in suspects.iter().flat_map(|suspect| suspect.samples).flatten() {
        if !samples.contains(&sample) {
            samples.push(sample);
        }
    }
    samples
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
        let fitted =
            "Fitted to 2,400 pairs of 1,600 samples with 400 different images or sets; reads the positions of: answer.";
        assert_eq!(design[0], fitted);
        assert!(design[1].starts_with("1 sample left out"));
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
}
