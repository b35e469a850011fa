//! The table of features: which are shown, in which order, and which comes next. Draws nothing.

use super::annotations::Annotations;
use super::field::Field;
use super::query::Query;
use sae_core::analysis::index::FeatureRow;
use std::collections::BTreeSet;

/// By what the table is sorted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sort {
    /// The column.
    pub field: Field,
    /// Largest on top.
    pub descending: bool,
}

/// All features of an index, sorted and narrowed by a search.
#[derive(Clone, Debug)]
pub struct FeatureList {
    rows: Vec<FeatureRow>,
    sort: Sort,
    text: String,
    query: Query,
    /// Features picked from the map, if any were.
    picked: Option<BTreeSet<u32>>,
    marks: Annotations,
    /// Counts the changes of what is shown.
    version: u64,
    /// Rows in the order of the sort.
    sorted: Vec<u32>,
    /// Those of them that the search is for.
    shown: Vec<u32>,
}

impl FeatureList {
    /// A list with the strongest cross-modal weights on top, or with the densest if there are no weights.
    pub fn new(rows: Vec<FeatureRow>) -> Self {
        let weighed = rows.iter().any(|row| row.weight_paper.is_some());
        let sort = Sort { field: if weighed { Field::Weight } else { Field::Density }, descending: true };
        let mut list = Self {
            rows,
            sort,
            text: String::new(),
            query: Query::default(),
            picked: None,
            marks: Annotations::default(),
            version: 0,
            sorted: Vec::new(),
            shown: Vec::new(),
        };
        list.arrange();
        list
    }

    /// Number of all features.
    pub fn total(&self) -> usize {
        self.rows.len()
    }

    /// Number of features shown.
    pub fn len(&self) -> usize {
        self.shown.len()
    }

    /// Whether none is shown.
    pub fn is_empty(&self) -> bool {
        self.shown.is_empty()
    }

    /// The row at a place of the table.
    pub fn at(&self, place: usize) -> Option<&FeatureRow> {
        self.shown.get(place).map(|row| &self.rows[*row as usize])
    }

    /// The row of a feature, shown or not.
    pub fn row(&self, feature: u32) -> Option<&FeatureRow> {
        let usual = self.rows.get(feature as usize).filter(|row| row.feature == feature);
        usual.or_else(|| self.rows.iter().find(|row| row.feature == feature))
    }

    /// Where in the table a feature is.
    pub fn place(&self, feature: u32) -> Option<usize> {
        self.shown.iter().position(|row| self.rows[*row as usize].feature == feature)
    }

    /// The feature `by` places further, staying within the table; the first if `from` is not in it.
    pub fn step(&self, from: Option<u32>, by: isize) -> Option<u32> {
        let place = match from.and_then(|feature| self.place(feature)) {
            Some(place) => place.saturating_add_signed(by).min(self.shown.len().saturating_sub(1)),
            None => 0,
        };
        self.at(place).map(|row| row.feature)
    }

    /// By what it is sorted.
    pub fn sort(&self) -> Sort {
        self.sort
    }

    /// Sorts by a column; the other way round if it is sorted by that already.
    pub fn sort_by(&mut self, field: Field) {
        let descending = if self.sort.field == field { !self.sort.descending } else { field.largest_first() };
        self.sort = Sort { field, descending };
        self.arrange();
    }

    /// What is searched for.
    pub fn search_text(&self) -> &str {
        &self.text
    }

    /// What of it was not understood.
    pub fn complaint(&self) -> Option<&str> {
        self.query.complaint()
    }

    /// Searches.
    pub fn search(&mut self, text: &str) {
        if self.text != text {
            self.text = text.into();
            self.query = Query::parse(text);
            self.narrow();
        }
    }

    /// What is written about features, as far as searches and rows show it.
    pub fn marks(&self) -> &Annotations {
        &self.marks
    }

    /// Takes in what is written by now.
    pub fn mark(&mut self, marks: Annotations) {
        self.marks = marks;
        if self.query.reads_marks() {
            self.narrow();
        }
    }

    /// Shows these features only, as far as the search finds them; nothing: all that it finds.
    pub fn pick(&mut self, features: Option<Vec<u32>>) {
        self.picked = features.map(|features| features.into_iter().collect());
        self.narrow();
    }

    /// How many features were picked, if any were.
    pub fn picked(&self) -> Option<usize> {
        self.picked.as_ref().map(BTreeSet::len)
    }

    /// The features shown, in the order of the table.
    pub fn shown(&self) -> impl Iterator<Item = &FeatureRow> {
        self.shown.iter().map(|row| &self.rows[*row as usize])
    }

    /// All features, as the index lists them.
    pub fn rows(&self) -> &[FeatureRow] {
        &self.rows
    }

    /// Another number whenever other features are shown.
    pub fn version(&self) -> u64 {
        self.version
    }

    fn arrange(&mut self) {
        let Sort { field, descending } = self.sort;
        let keys = self.rows.iter().map(|row| (key(field.value(row), descending), row.feature));
        let mut keyed: Vec<_> = keys.zip(0..).collect();
        keyed.sort_unstable_by_key(|(key, _)| *key);
        self.sorted = keyed.into_iter().map(|(_, at)| at).collect();
        self.narrow();
    }

    fn narrow(&mut self) {
        let Self { rows, query, sorted, picked, marks, .. } = self;
        let wanted = |row: &FeatureRow| {
            picked.as_ref().is_none_or(|picked| picked.contains(&row.feature)) && query.matches(row, marks)
        };
        self.shown = sorted.iter().copied().filter(|at| wanted(&rows[*at as usize])).collect();
        self.version += 1;
    }
}

/// A number that sorts as the value does, or the other way round, and is faster to compare. What has no value stands at
/// the end either way.
fn key(value: Option<f64>, descending: bool) -> u64 {
    let Some(bits) = value.map(f64::to_bits) else { return u64::MAX };
    let ascending = if bits >> 63 == 1 { !bits } else { bits | 1 << 63 };
    if descending { !ascending } else { ascending }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn list(values: &[(f64, Option<f64>)]) -> FeatureList {
        let row = |(feature, (density, weight)): (usize, &(f64, Option<f64>))| FeatureRow {
            feature: feature as u32,
            density: *density,
            weight_paper: *weight,
            class: "text".into(),
            ..FeatureRow::default()
        };
        FeatureList::new(values.iter().enumerate().map(row).collect())
    }

    fn shown(list: &FeatureList) -> Vec<u32> {
        (0..list.len()).filter_map(|place| list.at(place)).map(|row| row.feature).collect()
    }

    #[test]
    fn a_second_click_turns_the_order_round_and_missing_values_stay_last() {
        let mut list = list(&[(0.1, None), (0.2, Some(0.5)), (0.3, Some(0.9)), (0.2, Some(f64::NAN))]);
        assert_eq!(shown(&list), [2, 1, 0, 3]);
        list.sort_by(Field::Weight);
        assert_eq!(shown(&list), [1, 2, 0, 3]);
        list.sort_by(Field::Density);
        assert_eq!(shown(&list), [2, 1, 3, 0]);
        list.sort_by(Field::Feature);
        assert_eq!(shown(&list), [0, 1, 2, 3]);
    }

    #[test]
    fn the_search_outlives_a_sort_and_steps_stay_inside_it() {
        let mut list = list(&[(0.4, None), (0.3, None), (0.2, None), (0.1, None)]);
        list.search("density<0.35");
        list.sort_by(Field::Density);
        assert_eq!(shown(&list), [3, 2, 1]);
        assert_eq!(list.step(None, 1), Some(3));
        assert_eq!(list.step(Some(3), 1), Some(2));
        assert_eq!(list.step(Some(1), 1), Some(1));
        assert_eq!(list.step(Some(3), -1), Some(3));
        assert_eq!(list.step(Some(0), 1), Some(3), "a feature outside the search leads to its first");
        list.search("density>1");
        assert_eq!(list.step(Some(3), 1), None);
    }

    #[test]
    fn a_picked_subset_is_searched_like_the_whole() {
        let mut list = list(&[(0.4, None), (0.3, None), (0.2, None), (0.1, None)]);
        let before = list.version();
        list.pick(Some(vec![1, 2, 77]));
        assert_eq!((shown(&list), list.picked()), (vec![1, 2], Some(3)));
        list.search("density<0.25");
        assert_eq!(shown(&list), [2]);
        list.pick(None);
        assert_eq!(shown(&list), [2, 3]);
        assert_ne!(list.version(), before);
    }

    #[test]
    fn features_are_found_by_number_even_where_rows_are_missing() {
        let rows = [4, 9].map(|feature| FeatureRow { feature, ..FeatureRow::default() });
        let list = FeatureList::new(rows.to_vec());
        assert_eq!(list.row(9).map(|row| row.feature), Some(9));
        assert!(list.row(0).is_none());
    }

    proptest! {
        #[test]
        fn sorting_loses_no_feature(
            values in prop::collection::vec((0.0f64..1.0, prop::option::of(-1.0f64..1.0)), 0..60),
            field in prop::sample::select(Field::ALL.to_vec()),
        ) {
            let mut list = list(&values);
            list.sort_by(field);
            let key = |feature: &u32| field.value(list.row(*feature).unwrap());
            let order = shown(&list);
            for pair in order.windows(2) {
                match (key(&pair[0]), key(&pair[1])) {
                    (Some(a), Some(b)) if list.sort().descending => prop_assert!(a >= b),
                    (Some(a), Some(b)) => prop_assert!(a <= b),
                    (a, b) => prop_assert!(a.is_some() || b.is_none()),
                }
            }
            let mut all = order;
            all.sort_unstable();
            prop_assert_eq!(all, (0..values.len() as u32).collect::<Vec<_>>());
        }
    }
}
