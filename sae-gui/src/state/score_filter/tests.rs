//! What is kept, in which order it is looked at, and what outlives another score.

use super::*;
use filters::select::select;
use proptest::prelude::*;

fn scores(values: &[Option<f64>]) -> Scores {
    let ids = (0..values.len()).map(|n| format!("{:03}", (n * 37) % 101)).collect();
    let reversed = values.iter().map(|v| v.map(|v| -v)).collect();
    Scores { ids, columns: vec![("pmi".into(), values.to_vec()), ("random".into(), reversed)], ..Scores::default() }
}

fn ten() -> ScoreFilter {
    let values: Vec<_> = (0..10).map(|n| Some(f64::from(n))).collect();
    ScoreFilter::new(scores(&values)).unwrap()
}

proptest! {
    #[test]
    fn what_is_kept_is_what_the_command_keeps(
        values in prop::collection::vec(prop::option::of((-6i8..6).prop_map(f64::from)), 1..60),
        count in 0usize..70,
        threshold in -7.0f64..7.0,
    ) {
        let mut filter = ScoreFilter::new(scores(&values)).unwrap();
        let pairs: Vec<_> = filter.scores().ids.iter().cloned().zip(values.iter().copied()).collect();
        let kept = |filter: &ScoreFilter| (0..values.len() as u32).map(|n| filter.is_kept(n)).collect::<Vec<_>>();
        filter.keep(count);
        prop_assert_eq!(kept(&filter), select(&pairs, Keep::Count(count)).unwrap());
        filter.keep_above(threshold);
        prop_assert_eq!(kept(&filter), select(&pairs, Keep::AtLeast(threshold)).unwrap());
        let dropped = filter.examples(Side::Dropped, Part::NearThreshold, 99).len();
        prop_assert_eq!(filter.kept() + dropped + filter.without_score(), values.len());
        prop_assert_eq!(filter.bars().iter().sum::<u32>() as usize, values.iter().flatten().count());
        prop_assert_eq!(filter.kept_bars().iter().sum::<u32>() as usize, filter.kept());
    }
}

#[test]
fn examples_begin_at_the_threshold_or_at_the_extremes() {
    let mut filter = ten();
    filter.keep(4);
    let first = |side, part| filter.examples(side, part, 2);
    assert_eq!([first(Side::Kept, Part::NearThreshold), first(Side::Kept, Part::Extremes)], [[6, 7], [9, 8]]);
    assert_eq!([first(Side::Dropped, Part::NearThreshold), first(Side::Dropped, Part::Extremes)], [[5, 4], [0, 1]]);
    assert_eq!(filter.threshold(), Some(6.0));
    assert_eq!((filter.percentile("pmi", 5.0), filter.percentile("pmi", 99.0)), (Some(50.0), Some(100.0)));
    assert_eq!(filter.bar_edges(0)[0], 0.0);
}

#[test]
fn choices_by_hand_outlive_another_threshold_and_another_score() {
    let mut filter = ten();
    filter.keep(4);
    filter.choose([0, 99], Some(true));
    filter.choose([9], Some(false));
    assert_eq!((filter.kept(), filter.is_kept(0), filter.is_kept(9)), (4, true, false));
    assert_eq!(filter.threshold(), Some(6.0), "not that of a choice");
    let summary = "4 of 10 samples are kept: those with the highest pmi, down to 6.00. 2 choices by hand.";
    assert_eq!(filter.summary(), summary);
    filter.keep(2);
    filter.decide_by(1);
    assert!(filter.is_kept(0) && !filter.is_kept(9) && filter.is_kept(1));
    filter.choose([0, 9], None);
    assert!(filter.choices().is_empty() && filter.is_kept(0), "the other score keeps it too");
}

#[test]
fn groups_keep_their_share_as_the_command_does() {
    let mut filter = ten();
    let groups = Groups { names: vec!["a".into(), "b".into()], of: (0..10).map(|n| u32::from(n >= 5)).collect() };
    let grouping = |equal| Some(Grouping { fields: "kind".into(), equal, groups: groups.clone() });
    filter.set_grouping(grouping(false));
    filter.keep(4);
    let kept: Vec<u32> = (0..10).filter(|n| filter.is_kept(*n)).collect();
    assert_eq!(kept, [3, 4, 8, 9]);
    let summary = "4 of 10 samples are kept: of each of 2 groups the same share, those with the highest pmi; the lowest of \
                   any group is 3.00.";
    assert_eq!(filter.summary(), summary);
    assert_eq!((filter.threshold_for(7), filter.threshold_for(2)), (Some(8.0), Some(3.0)));
    filter.set_grouping(Some(Grouping { groups: Groups::one(3), ..grouping(true).unwrap() }));
    assert!(filter.grouping().is_none(), "groups of other samples");
    assert!(filter.is_kept(6));
}

#[test]
fn what_is_set_is_restored_on_a_table_that_was_read_again() {
    let mut filter = ten();
    filter.decide_by(1);
    filter.compare_with(0);
    filter.keep(3);
    let groups = Groups { names: vec!["a".into(), "b".into()], of: (0..10).map(|n| n % 2).collect() };
    filter.set_grouping(Some(Grouping { fields: "kind".into(), equal: true, groups }));
    filter.choose([4], Some(true));
    let mut again = ten();
    again.restore(filter.settings());
    assert_eq!(again.settings(), filter.settings());
    assert_eq!(
        (0..10).map(|n| again.is_kept(n)).collect::<Vec<_>>(),
        (0..10).map(|n| filter.is_kept(n)).collect::<Vec<_>>()
    );
    let ids = (0..2).map(|n| n.to_string()).collect();
    let smaller = Scores { ids, columns: vec![("new".into(), vec![Some(1.0), Some(2.0)])], ..Scores::default() };
    let mut smaller = ScoreFilter::new(smaller).unwrap();
    smaller.restore(filter.settings());
    assert_eq!((smaller.name(), smaller.choices().len(), smaller.grouping()), ("new", 0, None));
}

#[test]
fn two_scores_that_reverse_each_other_disagree() {
    let mut filter = ten();
    assert_eq!((filter.agreement().correlation, filter.agreement().pairs), (Some(-1.0), 10));
    assert_eq!(filter.agreement().bounds, [[0.0, 9.0], [-9.0, 0.0]]);
    filter.decide_by(1);
    filter.compare_with(1);
    assert_eq!(filter.agreement().correlation, Some(1.0));
    assert!(ScoreFilter::new(Scores::default()).is_none());
}

#[test]
fn a_selection_within_a_budget_is_kept_until_something_else_is_asked_for() {
    let mut filter = ten();
    filter.keep(3);
    let rule: BudgetRule = "harm<=0.1".parse().unwrap();
    let kept: Vec<bool> = (0..10).map(|n| n % 4 == 1).collect();
    filter.set_budgeted(Some((rule.clone(), kept.clone())));
    assert_eq!((filter.budget(), filter.kept()), (Some(&rule), 3));
    assert!(filter.is_kept(1) && !filter.is_kept(8));
    assert_eq!((filter.threshold(), filter.threshold_for(1)), (None, None), "higher scores are dropped");
    let summary = "3 of 10 samples are kept: the highest mean pmi within the budget harm<=0.1; the lowest pmi is 1.00.";
    assert_eq!(filter.summary(), summary);
    filter.choose([8], Some(true));
    assert_eq!(filter.kept(), 4, "choices by hand come on top");
    filter.choose([8], None);
    filter.keep(3);
    assert!(filter.budget().is_some(), "the same number");
    filter.keep(4);
    assert!(filter.budget().is_none() && filter.is_kept(8));
    filter.set_budgeted(Some((rule.clone(), kept.clone())));
    filter.decide_by(1);
    assert!(filter.budget().is_none(), "another score");
    filter.set_budgeted(Some((rule, kept[..3].to_vec())));
    assert!(filter.budget().is_none(), "a selection of other samples");
}

#[test]
fn only_samples_that_stand_for_rows_are_chosen_from() {
    let values: Vec<Option<f64>> = (0..9).map(|n| Some(f64::from(n))).collect();
    let mut filter = ScoreFilter::new(Scores { candidates: Some(vec![1, 4, 7]), ..scores(&values) }).unwrap();
    filter.keep(2);
    let kept = |filter: &ScoreFilter| (0..9).filter(|n| filter.is_kept(*n)).collect::<Vec<_>>();
    assert_eq!((filter.total(), filter.kept(), kept(&filter)), (3, 2, vec![4, 7]));
    // Groups and budgets divide the same samples.
    let groups = Groups { names: vec!["a".into(), "b".into()], of: vec![0, 0, 0, 0, 0, 0, 1, 1, 1] };
    filter.set_grouping(Some(Grouping { fields: "kind".into(), equal: true, groups }));
    assert_eq!(kept(&filter), [4, 7]);
    filter.set_grouping(None);
    filter.set_budgeted(Some(("cost<=1".parse().unwrap(), vec![true, false, false])));
    assert_eq!(kept(&filter), [1]);
    assert_eq!(filter.score(2), 2.0, "others keep their scores");
    filter.set_budgeted(Some(("cost<=1".parse().unwrap(), vec![true; 9])));
    assert_eq!(filter.budget(), None);
}
