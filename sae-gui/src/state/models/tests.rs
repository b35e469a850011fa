//! What contrasts between models say, and how their features are sorted.

use super::*;
use sae_core::analysis::latent_scaling::Ratio;
use serde_json::json;

fn ratio(value: f64) -> Ratio {
    Ratio { value, lo: value - 0.05, hi: value + 0.05 }
}

fn row(feature: u32, model: usize, nu_error: f64, firings: u64) -> ScaledFeature {
    ScaledFeature {
        feature,
        model,
        reference: 1 - model,
        delta: 0.9,
        firings,
        nu_error: ratio(nu_error),
        nu_reconstruction: ratio(0.1),
        template_share: 0.0,
        first_share: 0.0,
    }
}

#[test]
fn a_crosscoder_says_how_many_features_belong_to_each_model_and_what_chance_makes() {
    let pair = |own: usize| {
        json!({
            "reference": 0, "model": 1, "same_model": false, "of_model": { "own": own, "uncertain": 2, "strongest": [] },
            "of_reference": { "own": 1, "uncertain": 0, "strongest": [] },
        })
    };
    let text = json!({
        "sae": "cc", "runs": ["base", "chat"], "pairs": [pair(7)], "null": [pair(0)], "patch": null,
        "models": [{ "model": "/models/base", "fvu": 0.25 }, { "model": "org/chat", "fvu": 0.3 }],
    });
    let mut summary: ModelSummary = serde_json::from_value(text).unwrap();
    assert_eq!(summary.headline(), "1: chat has 7 own features, 0: base has 1");
    assert_eq!(summary.lines(), ["FVU: 0: base 0.250, 1: chat 0.300.", "One model with itself: 1 own feature."]);
    assert_eq!(summary.sides(), [[1, 0], [0, 1]]);
    summary.null = None;
    assert!(summary.lines()[1].starts_with("No null row"));
    summary.pairs[0].same_model = true;
    assert_eq!(summary.headline(), "1: chat and 0: base are the same model");
    assert!(summary.sides().is_empty());
}

#[test]
fn a_series_says_how_far_the_last_checkpoint_is_back() {
    let at = |model: usize, back: f64| {
        let r = [back, back - 0.1, back + 0.1];
        json!({
            "model": model, "tuned_on": 100 * model, "features": r, "hidden_states": r, "state_distance": [back, null, null],
            "weight_distance": null, "kl": null,
        })
    };
    let text = json!({
        "sae": "base", "runs": [], "unseen": [2], "same_model": [3], "rebound": [at(2, 0.25), at(3, 0.5)], "distances": [],
        "models": [{ "model": "base", "fvu": 0.1 }, { "model": "aligned", "fvu": null }],
        "half_way": { "features": 299.6, "kl": null },
    });
    let summary: ModelSummary = serde_json::from_value(text).unwrap();
    let headline = "By its features, model 3, tuned on 300 samples, is 0.500 (0.400 to 0.600) of the way back from the aligned \
                    model to the base";
    assert_eq!(summary.headline(), headline);
    assert_eq!(summary.lines()[1], "Half-way back after this many samples: features 300.");
    assert_eq!(summary.warnings().len(), 2);
    let values = MEASURES.map(|(_, _, of)| measured(of(&summary.rebound[0])));
    assert_eq!(values, ["0.250 (0.150 to 0.350)", "0.250 (0.150 to 0.350)", "0.250", "-", "-"]);
}

#[test]
fn owned_features_are_sorted_with_what_is_unknown_last() {
    let rows =
        [row(3, 1, 0.1, 50), row(4, 1, 0.9, 90), row(5, 0, 0.1, 70), row(6, 1, f64::NAN, 60), row(7, 1, 0.05, 80)];
    let features = |column, descending| {
        let order = owned_order(&rows, [1, 0], column, descending);
        order.into_iter().map(|n| rows[n].feature).collect::<Vec<_>>()
    };
    assert_eq!(features(2, true), [7, 3, 6, 4], "own ones first, those that fire most on top");
    assert_eq!(features(5, false), [7, 3, 4, 6]);
    assert_eq!(features(5, true), [4, 3, 7, 6]);
    assert_eq!(features(0, false), [3, 4, 6, 7]);
}

#[test]
fn features_are_series_over_the_models() {
    let mean = |feature, model, mean, rebound| CheckpointMean { feature, model, mean, rebound };
    let back = Ratio { value: 0.5, lo: f64::NAN, hi: f64::NAN };
    let rows = [
        mean(1, 0, 0.0, None),
        mean(2, 0, 1.0, None),
        mean(1, 1, 0.0, None),
        mean(2, 1, 3.0, None),
        mean(3, 1, 0.5, None),
        mean(2, 2, 2.0, Some(back)),
        mean(9, 7, 2.0, None),
    ];
    let series = FeatureSeries::from_rows(&rows, 3);
    assert_eq!(series.iter().map(|row| row.feature).collect::<Vec<_>>(), [2, 3], "others are active in no model");
    assert_eq!((series[0].moved(), series[0].back_in(2), series[1].back_in(2)), (2.0, Some(0.5), None));
    assert_eq!(series[0].back[2], Some([Some(0.5), None, None]));
    assert_eq!(series_order(&series, 2, 4, true), [0, 1]);
    assert_eq!(series_order(&series, 2, 6, false), [0, 1], "what is not known is last");
    assert_eq!(series_order(&series, 2, 0, true), [1, 0]);
}
