//! Selections within budgets, against all selections of small cases, and against the linear program's optimum by another solver.

use super::*;
use crate::select::{Division, Quantiles};
use proptest::prelude::*;
use sae_core::random::SplitMix64;
use serde::Deserialize;

fn scores(values: &[f64]) -> Vec<(String, Option<f64>)> {
    values.iter().enumerate().map(|(n, score)| (format!("{n:04}"), Some(*score))).collect()
}

fn budget(text: &str, costs: &[f64]) -> Budget {
    Budget { rule: text.parse().unwrap(), costs: costs.iter().copied().map(Some).collect() }
}

fn kept(decisions: &[Decision]) -> Vec<usize> {
    (0..decisions.len()).filter(|n| decisions[*n] == Decision::Kept).collect()
}

/// The highest mean score of any selection within the limits.
fn exhaustive(scores: &[f64], costs: &[Vec<f64>], limits: &[f64], count: usize) -> Option<f64> {
    let mean = |values: &[f64], set: u32| {
        (0..values.len()).filter(|n| set >> n & 1 == 1).map(|n| values[n]).sum::<f64>() / count as f64
    };
    let sets = (0u32..1 << scores.len()).filter(|set| set.count_ones() as usize == count);
    let keeps = |set: &u32| costs.iter().zip(limits).all(|(costs, limit)| mean(costs, *set) <= limit + 1e-12);
    sets.filter(keeps).map(|set| mean(scores, set)).max_by(f64::total_cmp)
}

proptest! {
    #[test]
    fn no_selection_is_better_than_the_bound_and_none_breaks_a_limit(
        rows in prop::collection::vec((0u8..40, 0u8..4, 0u8..40), 6..12),
        count in 1usize..6, limits in (0u8..40, 0u16..400), budgets in 1usize..3,
    ) {
        let values: Vec<f64> = rows.iter().map(|row| f64::from(row.0) / 10.0).collect();
        let costs = [rows.iter().map(|row| f64::from(row.1)).collect::<Vec<_>>(), rows.iter().map(|row| f64::from(row.2)).collect()];
        let limits = [f64::from(limits.0) / 10.0, f64::from(limits.1) / 10.0];
        let best = exhaustive(&values, &costs[..budgets], &limits[..budgets], count);
        let given: Vec<Budget> = costs.iter().zip(limits).take(budgets).map(|(costs, limit)| budget(&format!("c<={limit}"), costs)).collect();
        let groups = Groups::one(values.len());
        let found = choose(&scores(&values), &Rules::new(Keep::Count(count), &groups), &Budgets { limits: &given, ..Budgets::default() });
        match (found, best) {
            (Ok(found), Some(best)) => {
                let (score, bound) = (found.report.score, found.report.bound.unwrap());
                prop_assert!(score <= best + 1e-9 && best <= bound + 1e-9, "{score} {best} {bound}");
                prop_assert_eq!(kept(&found.decisions).len(), count);
                prop_assert!(found.report.budgets.iter().all(|spent| spent.mean <= spent.limit + 1e-9));
            }
            // A few candidates and several budgets may leave exchanges without a way to keep them; then that is said.
            (Ok(_), None) => prop_assert!(false, "a limit is broken"),
            (Err(error), Some(_)) => prop_assert!(budgets > 1, "{}", error),
            (Err(_), None) => {}
        }
    }

    #[test]
    fn a_moved_limit_is_kept_a_looser_one_is_never_worse_and_both_are_those_of_a_new_budget(
        rows in prop::collection::vec((0u8..40, 0u8..40), 6..40),
        count in 1usize..8, mut limits in prop::collection::vec(0u8..45, 2..8), at_least: bool,
    ) {
        let values: Vec<f64> = rows.iter().map(|row| f64::from(row.0) / 10.0).collect();
        let costs: Vec<f64> = rows.iter().map(|row| f64::from(row.1)).collect();
        let (scores, groups) = (scores(&values), Groups::one(values.len()));
        let rules = Rules::new(Keep::Count(count), &groups);
        let limited = |limit: f64| budget(&format!("c{}{limit}", if at_least { ">=" } else { "<=" }), &costs);
        let mut movable = MovableBudget::new(&scores, &rules, limited(0.0)).unwrap();
        // From the strictest to the loosest.
        limits.sort_unstable();
        if at_least {
            limits.reverse();
        }
        let (mut least, mut bound) = (f64::NEG_INFINITY, f64::NEG_INFINITY);
        for limit in limits.into_iter().map(f64::from) {
            let found = choose(&scores, &rules, &Budgets { limits: &[limited(limit)], ..Budgets::default() });
            match (movable.at(limit), found) {
                (Ok((report, stays)), Ok(found)) => {
                    prop_assert_eq!(&report, &found.report);
                    let stays: Vec<usize> = (0..stays.len()).filter(|n| stays[*n]).collect();
                    prop_assert_eq!(stays, kept(&found.decisions));
                    let mean = report.budgets[0].mean;
                    prop_assert!(if at_least { mean >= limit - 1e-9 } else { mean <= limit + 1e-9 }, "{mean} at {limit}");
                    prop_assert!(report.score >= least - 1e-9, "{} after {least} at {limit}", report.score);
                    prop_assert!(report.bound.unwrap() >= bound - 1e-9);
                    (least, bound) = (report.score, report.bound.unwrap());
                }
                (Err(moved), Err(new)) => {
                    prop_assert_eq!(moved.to_string(), new.to_string());
                    prop_assert!(least == f64::NEG_INFINITY, "{limit} is impossible, and a stricter limit was not");
                }
                (moved, new) => prop_assert!(false, "{:?} {:?}", moved.err(), new.err()),
            }
        }
        for limit in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            let error = movable.at(limit).unwrap_err().to_string();
            prop_assert!(error.contains("of c: expected a finite number"), "{error}");
            let mut given = limited(0.0);
            given.rule.limit = Limit::Mean(limit);
            let error = choose(&scores, &rules, &Budgets { limits: &[given], ..Budgets::default() }).unwrap_err();
            prop_assert!(error.to_string().contains("expected a finite number"), "{error}");
        }
    }

    #[test]
    fn without_budgets_the_highest_scores_are_kept(values in prop::collection::vec(0u8..20, 1..40), count in 1usize..20) {
        let scores = scores(&values.iter().map(|value| f64::from(*value)).collect::<Vec<_>>());
        let groups = Groups::one(scores.len());
        let rules = Rules::new(Keep::Count(count), &groups);
        let plain = crate::select::choose(&scores, &rules).unwrap();
        prop_assert_eq!(kept(&choose(&scores, &rules, &Budgets::default()).unwrap().decisions), kept(&plain));
    }
}

#[derive(Deserialize)]
struct Golden {
    scores: Vec<f64>,
    costs: Vec<Vec<f64>>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    keep: usize,
    limits: Vec<Option<f64>>,
    /// The optimum of the linear program.
    optimum: f64,
    /// The mean score of the best selection.
    whole: f64,
}

#[test]
fn bounds_are_the_optima_of_another_solver() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/budgets.json");
    let golden: Golden = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let (scores, groups) = (scores(&golden.scores), Groups::one(golden.scores.len()));
    for case in &golden.cases {
        let limits = case
            .limits
            .iter()
            .zip(&golden.costs)
            .filter_map(|(limit, costs)| limit.map(|limit| budget(&format!("c<={limit}"), costs)));
        let limits: Vec<Budget> = limits.collect();
        let budgets = Budgets { limits: &limits, ..Budgets::default() };
        let found = choose(&scores, &Rules::new(Keep::Count(case.keep), &groups), &budgets).unwrap().report;
        let off = found.bound.unwrap() - case.optimum;
        assert!(off.abs() < 1e-6, "{:?}: off by {off:e}", case.limits);
        assert!(found.score <= case.whole + 1e-6, "{:?}", case.limits);
        assert!(found.score >= 0.999 * case.whole, "{:?}: {} of {}", case.limits, found.score, case.whole);
    }
}

#[test]
fn prices_decide_who_gives_way_and_reasons_say_so() {
    // The dearest sample has the best score, and the second best is as good without its cost.
    let (values, costs) = ([1.0, 0.9, 0.8, 0.1], [1.0, 0.0, 0.0, 0.0]);
    let groups = Groups::one(4);
    let limits = [budget("harm<=0.1", &costs)];
    let rules = Rules::new(Keep::Count(2), &groups);
    let found = choose(&scores(&values), &rules, &Budgets { limits: &limits, ..Budgets::default() }).unwrap();
    use Decision::{Below, Kept, OverBudget};
    assert_eq!(found.decisions, [OverBudget, Kept, Kept, Below]);
    let spent = &found.report.budgets[0];
    assert_eq!((spent.mean, spent.mean_of_all, spent.mean_without), (0.0, 0.25, 0.5));
    assert!(spent.price > 0.0);
    let ends = [found.frontier.first().unwrap(), found.frontier.last().unwrap()];
    assert_eq!(ends.map(|point| point.mean), [0.0, 0.5]);
    // A limit from below, relative to the mean over all.
    let limits = [budget("harm>=200%", &costs)];
    let found = choose(&scores(&values), &rules, &Budgets { limits: &limits, ..Budgets::default() }).unwrap();
    assert_eq!((found.decisions, found.report.budgets[0].mean), (vec![Kept, Kept, Below, Below], 0.5));
}

#[test]
fn what_no_selection_keeps_is_said_with_what_would_be_possible() {
    let groups = Groups::one(4);
    let said = |keep: Keep, limits: &[Budget]| {
        let rules = Rules::new(keep, &groups);
        choose(&scores(&[4.0, 3.0, 2.0, 1.0]), &rules, &Budgets { limits, ..Budgets::default() })
            .unwrap_err()
            .to_string()
    };
    let text = said(Keep::Count(4), &[budget("harm<=0.2", &[1.0, 0.5, 0.0, 0.0])]);
    assert!(text.contains("smallest mean of harm is 0.3750; at most 3 can be kept"), "{text}");
    let opposed = [budget("a<=0.1", &[0.0, 0.0, 1.0, 1.0]), budget("b<=0.1", &[1.0, 1.0, 0.0, 0.0])];
    assert!(said(Keep::Count(2), &opposed).contains("keeps all budgets"));
    assert!(said(Keep::AtLeast(0.0), &[]).contains("a threshold"));
}

#[test]
fn units_are_kept_whole() {
    let units = Groups { names: vec!["a".into(), "b".into(), "c".into()], of: vec![0, 0, 1, 1, 2] };
    let scores: Vec<(String, Option<f64>)> = [Some(3.0), None, Some(2.0), Some(1.0), Some(0.0)]
        .into_iter()
        .enumerate()
        .map(|(n, s)| (n.to_string(), s))
        .collect();
    let groups = Groups::one(5);
    let limits = [budget("cost<=0.5", &[2.0, 0.0, 0.0, 1.0, 0.0])];
    let budgets = Budgets { limits: &limits, units: Some(&units), promise: None };
    use Decision::{Below, Kept, OverBudget};
    let found = choose(&scores, &Rules::new(Keep::Count(1), &groups), &budgets).unwrap();
    assert_eq!(found.decisions, [OverBudget, OverBudget, Kept, Kept, Below]);
    assert_eq!((found.report.kept, found.report.of, found.report.score), (1, 3, 1.5));
    let without = Budgets { limits: &[], ..budgets };
    let found = choose(&scores, &Rules::new(Keep::Count(1), &groups), &without).unwrap();
    assert_eq!(kept(&found.decisions), [0, 1]);
}

#[test]
fn groups_and_quantiles_keep_their_quotas() {
    let values: Vec<f64> = (0..40).map(f64::from).collect();
    let costs: Vec<f64> = (0..40).map(|n| f64::from(n % 2)).collect();
    let groups = Groups { names: vec!["a".into(), "b".into()], of: (0..40).map(|n| n / 20).collect() };
    let limits = [budget("odd<=0.25", &costs)];
    let budgets = Budgets { limits: &limits, ..Budgets::default() };
    let rules = Rules { division: &Division::Equal, ..Rules::new(Keep::Count(16), &groups) };
    let found = choose(&scores(&values), &rules, &budgets).unwrap();
    let stays = kept(&found.decisions);
    assert_eq!((stays.len(), stays.iter().filter(|n| **n < 20).count()), (16, 8));
    assert!(found.report.budgets[0].mean <= 0.25);
    let quantiles =
        Quantiles::new(&Groups::one(40), "n", &values.iter().copied().map(Some).collect::<Vec<_>>()).unwrap();
    let one = Groups::one(40);
    let rules = Rules { within: Some(&quantiles), ..Rules::new(Keep::Count(20), &one) };
    let stays = kept(&choose(&scores(&values), &rules, &budgets).unwrap().decisions);
    assert!((0..20).all(|pair| stays.iter().filter(|n| **n / 2 == pair).count() == 1));
    assert!(stays.iter().filter(|n| **n % 2 == 1).count() <= 5);
}

/// In draws of which the estimate is noisy, the budget alone is broken by selection, and a promise is kept.
#[test]
fn promises_are_kept_where_estimates_are_broken() {
    let mut random = SplitMix64::new(3);
    let (draws, samples, limit) = (60, 1500, 0.25);
    let (mut broken, mut broken_promises, mut prices) = (0, 0, 0);
    for _ in 0..draws {
        let mut harm = Vec::new();
        let (mut values, mut costs, mut judged) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..samples {
            let risk: f64 = random.next_f64() * 0.6;
            let is_harmful = random.next_f64() < risk;
            // Estimates are off by noise that is independent of the truth; helpful samples are riskier.
            costs.push((risk + 0.5 * (random.next_f64() - 0.5)).clamp(0.0, 1.0));
            values.push(risk + random.next_f64());
            judged.push((random.next_f64() < 0.5).then(|| f64::from(is_harmful)));
            harm.push(f64::from(is_harmful));
        }
        let groups = Groups::one(samples);
        let rules = Rules::new(Keep::Count(samples / 4), &groups);
        let limits = [budget(&format!("harm<={limit}"), &costs)];
        let mean = |found: &Budgeted| {
            let kept = kept(&found.decisions);
            kept.iter().map(|n| harm[*n]).sum::<f64>() / kept.len() as f64
        };
        let alone = choose(&scores(&values), &rules, &Budgets { limits: &limits, ..Budgets::default() }).unwrap();
        broken += usize::from(mean(&alone) > limit);
        let promise = Promise { judged, confidence: 0.95 };
        let budgets = Budgets { limits: &limits, units: None, promise: Some(&promise) };
        let promised = choose(&scores(&values), &rules, &budgets).unwrap();
        broken_promises += usize::from(mean(&promised) > limit);
        let report = promised.report.promise.unwrap();
        assert!(report.bound <= limit && report.judged_kept > 0);
        prices += usize::from(promised.report.score < report.score_without.unwrap());
    }
    assert!(broken > draws / 2, "estimates were broken in {broken} of {draws} draws");
    assert!(broken_promises <= draws / 10, "promises were broken in {broken_promises} of {draws} draws");
    assert!(prices > draws / 2, "the promise cost score in {prices} draws");
}

#[test]
fn a_promise_that_nothing_supports_is_refused() {
    let groups = Groups::one(4);
    let limits = [budget("harm<=0.1", &[0.0, 0.0, 0.1, 0.9])];
    let promise = Promise { judged: vec![Some(0.0), None, Some(0.0), Some(1.0)], confidence: 0.95 };
    let budgets = Budgets { limits: &limits, units: None, promise: Some(&promise) };
    let said = choose(&scores(&[1.0, 2.0, 3.0, 4.0]), &Rules::new(Keep::Count(2), &groups), &budgets).unwrap_err();
    assert!(
        said.to_string().contains("cannot be promised with 95%: for the safest 2 of 4 samples, 1 of them judged"),
        "{said}"
    );
    let both = [limits[0].clone(), limits[0].clone()];
    let budgets = Budgets { limits: &both, ..budgets };
    let said = choose(&scores(&[1.0, 2.0, 3.0, 4.0]), &Rules::new(Keep::Count(2), &groups), &budgets).unwrap_err();
    assert!(said.to_string().contains("one budget"));
}

#[test]
fn a_movable_budget_keeps_units_whole_and_keeps_promises() {
    let costs: Vec<f64> = (0..40).map(|n| f64::from(n % 10)).collect();
    let values: Vec<f64> = (0..40).map(f64::from).collect();
    let groups = Groups::one(40);
    let units = Groups { names: (0..20).map(|n| n.to_string()).collect(), of: (0..40).map(|n| n / 2).collect() };
    let input = MovableInput {
        scores: scores(&values),
        groups: groups.clone(),
        division: Division::Proportional,
        within: None,
        budget: budget("c<=3", &costs),
        units: Some(units.clone()),
        promise: None,
    };
    let keep = Keep::Share(0.5);
    let (report, kept) = input.keep(keep).unwrap().at(3.0).unwrap();
    assert_eq!((report.kept, kept.iter().filter(|kept| **kept).count()), (10, 20), "ten units of two samples");
    assert!(kept.chunks(2).all(|unit| unit[0] == unit[1]));
    let limits = [budget("c<=3", &costs)];
    let budgets = Budgets { limits: &limits, units: Some(&units), promise: None };
    assert_eq!(report, choose(&scores(&values), &Rules::new(keep, &groups), &budgets).unwrap().report);
    // Every sample is judged: the cost is 1 where the number is 9, and 0 elsewhere.
    let judged: Vec<Option<f64>> = costs.iter().map(|cost| Some(f64::from(u8::from(*cost > 8.0)))).collect();
    let promise = Some(Promise { judged: judged.clone(), confidence: 0.9 });
    let promised = MovableInput { units: None, promise, budget: budget("c<=0.5", &costs), ..input };
    let (report, kept) = promised.keep(keep).unwrap().at(0.5).unwrap();
    let found = report.promise.unwrap();
    assert!(found.bound <= 0.5 && found.judged_kept == 20 && report.bound.is_none(), "{found:?}");
    assert_eq!(kept.iter().filter(|kept| **kept).count(), 20);
    assert!(promised.keep(keep).unwrap().at(0.01).is_err(), "20 samples cannot promise so little");
}
