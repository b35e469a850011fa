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
        "schema_version": 2, "name": "models", "sae": "cc", "runs": ["base", "chat"], "pairs": [pair(7)], "null": [pair(0)],
        "patch": null, "models": [{ "model": "/models/base", "fvu": 0.25 }, { "model": "org/chat", "fvu": 0.3 }],
    });
    let report: OwnershipReport = serde_json::from_value(text).unwrap();
    let mut owned = Owned { report, features: Ok(Vec::new()), null: None };
    let headline = |owned: &Owned| ModelContrast::Owned(owned.clone()).headline();
    assert_eq!(headline(&owned), "7 features belong to chat alone, 1 feature to base alone");
    let lines = [
        "Unexplained share of the variance (FVU): base 0.250, chat 0.300.",
        "For comparison, of one model and its copy: 1 feature belongs to one of them alone.",
    ];
    assert_eq!(ModelContrast::Owned(owned.clone()).lines(), lines);
    assert_eq!(owned.sides(), [[1, 0], [0, 1]]);
    owned.report.found.null = None;
    assert!(owned.lines()[1].starts_with("How many there are by chance is not known"));
    let own = |owned: &mut Owned, of_model: usize, of_reference: usize| {
        let pair = &mut owned.report.found.pairs[0];
        (pair.of_model.own, pair.of_reference.own) = (of_model, of_reference);
    };
    own(&mut owned, 1, 0);
    assert_eq!(headline(&owned), "1 feature belongs to chat alone, no features to base alone");
    own(&mut owned, 0, 2);
    assert_eq!(headline(&owned), "No features belong to chat alone, 2 features to base alone");
    owned.report.models[0].model = "other/chat".into();
    assert_eq!(owned.name(0), "chat (model 0)", "two models of one name");
    owned.report.found.pairs[0].same_model = true;
    assert_eq!(headline(&owned), "chat (model 1) and chat (model 0) are the same model");
    assert!(owned.sides().is_empty());
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
        "schema_version": 2, "name": "series", "sae": "base", "runs": [], "unseen": [2], "same_model": [3],
        "rebound": [at(2, 0.25), at(3, 0.5)], "distances": [],
        "models": [{ "model": "base", "fvu": 0.1 }, { "model": "aligned", "fvu": null }],
        "half_way": {
            "features": 299.6, "hidden_states": null, "state_distance": null, "weight_distance": null, "kl": null,
        },
    });
    let report: SeriesReport = serde_json::from_value(text).unwrap();
    assert!(report.models[1].fvu.is_nan() && report.found.rebound[0].state_distance[1].is_nan());
    let mut series = Series { report, features: Ok(Vec::new()) };
    let headline = |series: &Series| ModelContrast::Series(series.clone()).headline();
    let expected = "By its features, model 3, tuned on 300 samples, is 0.500 (0.400 to 0.600) of the way back from the aligned \
                    model to the base";
    assert_eq!(headline(&series), expected);
    assert_eq!(series.lines()[1], "Half-way back after this many samples: features 300.");
    assert_eq!(ModelContrast::Series(series.clone()).warnings().len(), 2);
    let values = MEASURES.map(|(_, of, _)| measured(of(&series.report.found.rebound[0])));
    assert_eq!(values, ["0.250 (0.150 to 0.350)", "0.250 (0.150 to 0.350)", "0.250", "-", "-"]);
    series.report.found.rebound[1].features = [f64::NAN; 3];
    let expected = "It is not known how far model 3, tuned on 300 samples, is back: by its features, the aligned model does not \
                    differ from the base";
    assert_eq!(headline(&series), expected);
    series.report.found.rebound.clear();
    assert_eq!(headline(&series), "base on the states of 2 models");
}

#[test]
fn owned_features_are_sorted_with_what_is_unknown_last() {
    let rows =
        [row(3, 1, 0.1, 50), row(4, 1, 0.9, 90), row(5, 0, 0.1, 70), row(6, 1, f64::NAN, 60), row(7, 1, 0.05, 80)];
    // 3 and 6 have no name.
    let name = |feature: u32| -> Option<String> {
        let name = match feature {
            4 => "Cat",
            7 => "bird",
            _ => return None,
        };
        Some(name.into())
    };
    let features = |column, descending| {
        let order = owned_order(&rows, [1, 0], Order { column, descending }, &name);
        order.into_iter().map(|n| rows[n].feature).collect::<Vec<_>>()
    };
    assert_eq!(features(2, true), [7, 3, 6, 4], "own ones first, those that fire most on top");
    assert_eq!(features(5, false), [7, 3, 4, 6]);
    assert_eq!(features(5, true), [4, 3, 7, 6]);
    assert_eq!(features(0, false), [3, 4, 6, 7]);
    assert_eq!(features(1, false), [7, 4, 6, 3], "by name; without one, those that fire most first");
    assert_eq!(features(1, true), [4, 7, 6, 3]);
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
    assert_eq!((series[0].moved(), series[0].back_in(2), series[1].back_in(2).is_nan()), (2.0, 0.5, true));
    assert_eq!(series[0].back[2].map(measured).as_deref(), Some("0.500"), "without an interval");
    let order = |column, descending| {
        let name = |feature: u32| (feature == 3).then(|| "cat".to_owned());
        series_order(&series, 2, Order { column, descending }, &name)
    };
    assert_eq!(order(4, true), [0, 1]);
    assert_eq!(order(6, false), [0, 1], "what is not known is last");
    assert_eq!(order(0, true), [1, 0]);
    assert_eq!((order(1, false), order(1, true)), (vec![1, 0], vec![1, 0]), "without a name last");
}
