//! The table of features: which are shown, in which order, which are selected, and which comes next. Draws nothing.

use super::annotations::Annotations;
use super::caption_shares::CaptionShares;
use super::field::Field;
use super::positions::PositionCounts;
use super::query::{Query, Subject};
use super::typical_words::TypicalWords;
use sae_core::analysis::index::FeatureRow;
use std::collections::{BTreeMap, BTreeSet};

/// One column that the table is sorted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sort {
    /// The column.
    pub field: Field,
    /// Whether the largest value is on top.
    pub descending: bool,
}

impl Sort {
    /// The order after a click on the head of a column, from the order before it.
    pub fn by([first, second]: [Self; 2], field: Field) -> [Self; 2] {
        if first.field == field {
            return [Self { descending: !first.descending, ..first }, second];
        }
        [Self { field, descending: field.largest_first() }, first]
    }

    /// Such as `class,-weight`: a minus puts the largest value on top.
    pub fn format(sort: [Self; 2]) -> String {
        let column = |sort: Self| format!("{}{}", if sort.descending { "-" } else { "" }, sort.field.name());
        sort.map(column).join(",")
    }

    /// What [`Sort::format`] makes; nothing if a column is unknown or missing.
    pub fn parse(text: &str) -> Option<[Self; 2]> {
        let column = |text: &str| {
            let (descending, name) = text.strip_prefix('-').map_or((false, text), |name| (true, name));
            Some(Self { field: Field::from_name(name)?, descending })
        };
        let (first, second) = text.split_once(',')?;
        Some([column(first)?, column(second)?])
    }
}

/// What a list calls a feature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FeatureName {
    /// What people call it.
    Label(String),
    /// Typical words, since nobody has labeled it.
    StandIn(String),
}

impl FeatureName {
    /// The words.
    pub fn text(&self) -> &str {
        match self {
            Self::Label(text) | Self::StandIn(text) => text,
        }
    }
}

/// All features of an index, sorted and narrowed by a search.
#[derive(Clone, Debug)]
pub struct FeatureList {
    rows: Vec<FeatureRow>,
    positions: PositionCounts,
    typical_words: Vec<TypicalWords>,
    /// The column that decides, and the one that decides between equal values.
    sort: [Sort; 2],
    text: String,
    query: Query,
    /// The features that the table is restricted to, if it is.
    subset: Option<BTreeSet<u32>>,
    selected: BTreeSet<u32>,
    annotations: Annotations,
    captions: CaptionShares,
    /// Counts the changes of what is shown.
    version: u64,
    /// Indices of rows in the order of the sort.
    sorted: Vec<u32>,
    /// Those of them that are shown.
    shown: Vec<u32>,
}

impl FeatureList {
    /// All features, cross-modal ones first, those with the largest cross-modal weight on top.
    pub fn new(rows: Vec<FeatureRow>, positions: PositionCounts, typical_words: Vec<TypicalWords>) -> Self {
        let mut list = Self {
            sort: default_sort(&rows),
            rows,
            positions,
            typical_words,
            text: String::new(),
            query: Query::default(),
            subset: None,
            selected: BTreeSet::new(),
            annotations: Annotations::default(),
            captions: CaptionShares::default(),
            version: 0,
            sorted: Vec::new(),
            shown: Vec::new(),
        };
        list.apply_sort();
        list
    }

    /// Takes over what a person chose in the list as it was before it was read again: the restriction and the selection, and the
    /// search and the order unless they are given.
    pub fn adopt(&mut self, before: Self, search: Option<&str>, sort: Option<[Sort; 2]>) {
        self.selected = before.selected.into_iter().filter(|feature| self.row(*feature).is_some()).collect();
        self.subset = before.subset;
        self.search(search.unwrap_or(&before.text));
        self.set_sort(sort.unwrap_or(before.sort));
    }

    /// Number of all features.
    pub fn total(&self) -> usize {
        self.rows.len()
    }

    /// Number of features shown.
    pub fn len(&self) -> usize {
        self.shown.len()
    }

    /// Whether no feature is shown.
    pub fn is_empty(&self) -> bool {
        self.shown.is_empty()
    }

    /// The row at a place of the table.
    pub fn at(&self, place: usize) -> Option<&FeatureRow> {
        self.shown.get(place).map(|row| &self.rows[*row as usize])
    }

    /// The row of a feature, shown or not.
    pub fn row(&self, feature: u32) -> Option<&FeatureRow> {
        let expected = self.rows.get(feature as usize).filter(|row| row.feature == feature);
        expected.or_else(|| self.rows.iter().find(|row| row.feature == feature))
    }

    /// The place of a feature in the table.
    pub fn place(&self, feature: u32) -> Option<usize> {
        self.shown.iter().position(|row| self.rows[*row as usize].feature == feature)
    }

    /// The feature `by` places further down, staying within the table; the first one if `from` is not in it.
    pub fn step(&self, from: Option<u32>, by: isize) -> Option<u32> {
        let place = match from.and_then(|feature| self.place(feature)) {
            Some(place) => place.saturating_add_signed(by).min(self.shown.len().saturating_sub(1)),
            None => 0,
        };
        self.at(place).map(|row| row.feature)
    }

    /// The positions that the index counted.
    pub fn positions(&self) -> &PositionCounts {
        &self.positions
    }

    /// Whether a feature has this class, or is on a side whose first modality it is.
    pub fn has_class(&self, class: &str) -> bool {
        self.rows.iter().any(|row| row.class.split(',').next() == Some(class))
    }

    /// The value of a field for a feature.
    pub fn value(&self, field: Field, row: &FeatureRow) -> Option<f64> {
        field.value(row, &self.positions)
    }

    /// What lists call a feature; nothing if it has neither a label nor typical words.
    pub fn name(&self, feature: u32) -> Option<FeatureName> {
        let label = self.annotations.label(feature).map(|label| FeatureName::Label(label.to_owned()));
        label.or_else(|| {
            let summary = self.typical_words.get(feature as usize)?.summary();
            (!summary.is_empty()).then_some(FeatureName::StandIn(summary))
        })
    }

    /// Its number with what lists call it: `Feature 12: red ring`.
    pub fn title(&self, feature: u32) -> String {
        let name = self.name(feature).map(|name| format!(": {}", name.text())).unwrap_or_default();
        format!("Feature {feature}{name}")
    }

    /// The typical words of a feature.
    pub fn typical_words(&self, feature: u32) -> Option<&TypicalWords> {
        self.typical_words.get(feature as usize)
    }

    /// The columns that the table is sorted by, the one that decides first.
    pub fn sort(&self) -> [Sort; 2] {
        self.sort
    }

    /// Sorts as a new table is.
    pub fn sort_by_default(&mut self) {
        self.set_sort(default_sort(&self.rows));
    }

    /// Whether the table is sorted as a new one is.
    pub fn has_default_sort(&self) -> bool {
        self.sort == default_sort(&self.rows)
    }

    /// Sorts by a column; in reverse if it is sorted by that already. The column before decides between equal values.
    pub fn sort_by(&mut self, field: Field) {
        self.set_sort(Sort::by(self.sort, field));
    }

    /// Sorts by these columns.
    pub fn set_sort(&mut self, sort: [Sort; 2]) {
        if self.sort != sort {
            self.sort = sort;
            self.apply_sort();
        }
    }

    /// The text of the search.
    pub fn search_text(&self) -> &str {
        &self.text
    }

    /// What of the search was not understood.
    pub fn problem(&self) -> Option<&str> {
        self.query.problem().or(self.query.caption_problem(&self.captions))
    }

    /// The texts of the search that find a feature by the captions of its strongest examples alone, each with the share of these
    /// captions that contain it.
    pub fn caption_hits(&self, feature: u32) -> BTreeMap<&str, f32> {
        self.row(feature).map(|row| self.query.caption_hits(&self.subject(row))).unwrap_or_default()
    }

    /// The texts of the search that have not been looked for in captions yet.
    pub fn pending_captions(&self) -> Vec<String> {
        self.query.caption_texts().into_iter().filter(|text| !self.captions.has(text)).collect()
    }

    /// Takes the share of the captions of each feature's strongest examples that contain a text, or the reason why it is not
    /// known.
    pub fn set_captions(&mut self, text: String, shares: Result<Vec<f32>, String>) {
        let texts = self.query.caption_texts();
        if texts.contains(&text) {
            self.captions.insert(text, shares);
            self.captions.retain(&texts);
            self.apply_filter();
        }
    }

    /// Searches.
    pub fn search(&mut self, text: &str) {
        if self.text != text {
            self.text = text.into();
            self.query = Query::parse(text);
            self.apply_filter();
        }
    }

    /// Searches, and counts captions at once: `shares` has the share of the captions of each feature's strongest examples that contain
    /// a text, or the reason why that is not known.
    pub fn search_with(&mut self, text: &str, mut shares: impl FnMut(&str) -> Result<Vec<f32>, String>) {
        if self.text == text && self.pending_captions().is_empty() {
            return;
        }
        self.text = text.into();
        self.query = Query::parse(text);
        for text in self.pending_captions() {
            let shares = shares(&text);
            self.captions.insert(text, shares);
        }
        self.captions.retain(&self.query.caption_texts());
        self.apply_filter();
    }

    /// What people wrote about the features.
    pub fn annotations(&self) -> &Annotations {
        &self.annotations
    }

    /// Takes what people have written by now.
    pub fn set_annotations(&mut self, annotations: Annotations) {
        let changed = self.annotations != annotations;
        self.annotations = annotations;
        if changed && self.sort.iter().any(|sort| sort.field == Field::Label) {
            self.apply_sort();
        } else if changed && self.query.uses_annotations() {
            self.apply_filter();
        }
    }

    /// Restricts the table to some features; nothing lifts the restriction.
    pub fn restrict(&mut self, features: Option<BTreeSet<u32>>) {
        self.subset = features;
        self.apply_filter();
    }

    /// Adds features to those that the table is restricted to.
    pub fn widen(&mut self, features: BTreeSet<u32>) {
        let mut subset = self.subset.take().unwrap_or_default();
        subset.extend(features);
        self.restrict(Some(subset));
    }

    /// The number of features that the table is restricted to, if it is.
    pub fn restricted_to(&self) -> Option<usize> {
        self.subset.as_ref().map(BTreeSet::len)
    }

    /// The number of features that the search finds outside the restriction.
    pub fn found_outside(&self) -> usize {
        let Some(subset) = &self.subset else { return 0 };
        self.rows.iter().filter(|row| !subset.contains(&row.feature) && self.query.matches(&self.subject(row))).count()
    }

    /// The selected features, apart from the one that is looked at.
    pub fn selected(&self) -> &BTreeSet<u32> {
        &self.selected
    }

    /// Selects no feature.
    pub fn clear_selection(&mut self) {
        self.selected.clear();
    }

    /// Selects a feature, or no longer selects it. The feature that is looked at is selected along with the first one.
    pub fn toggle_selected(&mut self, feature: u32, current: Option<u32>) {
        if self.selected.is_empty() {
            self.selected.extend(current);
        }
        if !self.selected.remove(&feature) {
            self.selected.insert(feature);
        }
    }

    /// Selects the rows between the feature that is looked at and another one, both included.
    pub fn select_range(&mut self, current: Option<u32>, to: u32) {
        let (Some(from), Some(to)) = (current.and_then(|feature| self.place(feature)), self.place(to)) else { return };
        self.selected =
            (from.min(to)..=from.max(to)).filter_map(|place| self.at(place)).map(|row| row.feature).collect();
    }

    /// The features shown, in the order of the table.
    pub fn shown(&self) -> impl Iterator<Item = &FeatureRow> {
        self.shown.iter().map(|row| &self.rows[*row as usize])
    }

    /// All features, as the index lists them.
    pub fn rows(&self) -> &[FeatureRow] {
        &self.rows
    }

    /// Another number whenever other features are shown, or in another order.
    pub fn version(&self) -> u64 {
        self.version
    }

    fn subject<'a>(&'a self, row: &'a FeatureRow) -> Subject<'a> {
        Subject {
            row,
            positions: &self.positions,
            annotations: &self.annotations,
            typical_words: self.typical_words(row.feature),
            captions: &self.captions,
        }
    }

    fn apply_sort(&mut self) {
        let keys = self.sort.map(|sort| self.sort_keys(sort));
        let mut sorted: Vec<u32> = (0..self.rows.len() as u32).collect();
        let key = |at: u32| (keys[0][at as usize], keys[1][at as usize], self.rows[at as usize].feature);
        sorted.sort_unstable_by_key(|at| key(*at));
        self.sorted = sorted;
        self.apply_filter();
    }

    /// For every row a number that sorts as its value does.
    fn sort_keys(&self, sort: Sort) -> Vec<u64> {
        if sort.field != Field::Label {
            return self.rows.iter().map(|row| sort_key(self.value(sort.field, row), sort.descending)).collect();
        }
        // Labels first, then stand-ins; features without a name last.
        let name = |row: &FeatureRow| {
            self.name(row.feature).map(|name| (matches!(name, FeatureName::StandIn(_)), name.text().to_lowercase()))
        };
        let names: Vec<_> = self.rows.iter().map(name).collect();
        let ranks: BTreeSet<_> = names.iter().flatten().collect();
        let ranks: BTreeMap<_, u64> = ranks.into_iter().zip(0..).collect();
        let key = |rank: u64| if sort.descending { u64::MAX - 1 - rank } else { rank };
        names.iter().map(|name| name.as_ref().map_or(u64::MAX, |name| key(ranks[name]))).collect()
    }

    fn apply_filter(&mut self) {
        let in_subset = |row: &FeatureRow| self.subset.as_ref().is_none_or(|subset| subset.contains(&row.feature));
        let found = |row: &FeatureRow| in_subset(row) && self.query.matches(&self.subject(row));
        let mut shown: Vec<u32> = self.sorted.iter().copied().filter(|at| found(&self.rows[*at as usize])).collect();
        // A number finds what begins with it, but the feature of that very number is meant first.
        shown.sort_by_key(|at| !self.query.names(self.rows[*at as usize].feature));
        self.shown = shown;
        self.version += 1;
    }
}

/// Cross-modal features first, those with the largest cross-modal weight on top, or the densest ones if there are no weights.
fn default_sort(rows: &[FeatureRow]) -> [Sort; 2] {
    let weighted = rows.iter().any(|row| row.weight_paper.is_some());
    let second = if weighted { Field::Weight } else { Field::Density };
    [Sort { field: Field::Class, descending: false }, Sort { field: second, descending: true }]
}

/// A number that sorts as the value does, or in reverse. What has no value is last either way.
fn sort_key(value: Option<f64>, descending: bool) -> u64 {
    let Some(bits) = value.map(f64::to_bits) else { return u64::MAX };
    let ascending = if bits >> 63 == 1 { !bits } else { bits | 1 << 63 };
    if descending { !ascending } else { ascending }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use sae_core::analysis::labels::{Change, Entry, Labels};

    fn list(values: &[(f64, Option<f64>)]) -> FeatureList {
        let row = |(feature, (density, weight)): (usize, &(f64, Option<f64>))| FeatureRow {
            feature: feature as u32,
            density: *density,
            weight_paper: *weight,
            class: "text".into(),
            ..FeatureRow::default()
        };
        let rows = values.iter().enumerate().map(row).collect();
        FeatureList::new(rows, PositionCounts::default(), Vec::new())
    }

    fn shown(list: &FeatureList) -> Vec<u32> {
        list.shown().map(|row| row.feature).collect()
    }

    #[test]
    fn a_second_click_reverses_the_order_and_missing_values_stay_last() {
        let mut list = list(&[(0.1, None), (0.2, Some(0.5)), (0.3, Some(0.9)), (0.2, Some(f64::NAN))]);
        assert_eq!(shown(&list), [2, 1, 0, 3]);
        list.sort_by(Field::Weight);
        assert_eq!(shown(&list), [2, 1, 0, 3]);
        list.sort_by(Field::Weight);
        assert_eq!(shown(&list), [1, 2, 0, 3]);
        list.sort_by(Field::Density);
        assert_eq!(shown(&list), [2, 1, 3, 0], "equal densities by weight");
        list.sort_by(Field::Feature);
        assert_eq!(shown(&list), [0, 1, 2, 3]);
    }

    #[test]
    fn cross_modal_features_are_on_top_of_a_new_list() {
        let row = |feature, class: &str, weight| FeatureRow {
            feature,
            class: class.into(),
            weight_paper: weight,
            ..FeatureRow::default()
        };
        let rows =
            vec![row(0, "text", Some(0.9)), row(1, "cross", None), row(2, "cross", Some(0.2)), row(3, "dead", None)];
        let list = FeatureList::new(rows, PositionCounts::default(), Vec::new());
        assert_eq!(shown(&list), [2, 1, 0, 3]);
    }

    #[test]
    fn labels_sort_before_stand_ins_and_nameless_features_come_last() {
        let mut list = list(&[(0.4, None), (0.3, None), (0.2, None), (0.1, None)]);
        list.typical_words = ["", "zebra", "apple", "pear"]
            .map(|word| TypicalWords { tokens: word.into(), image_words: String::new() })
            .to_vec();
        let after = Entry { label: "Yellow".into(), ..Entry::empty(3) };
        let mut labels = Labels::default();
        labels.apply("base", &[Change::Entry { before: Entry::empty(3), after }]);
        list.sort_by(Field::Label);
        list.set_annotations(Annotations::new(labels.written("base")));
        assert_eq!(shown(&list), [3, 2, 1, 0]);
        list.sort_by(Field::Label);
        assert_eq!(shown(&list), [1, 2, 3, 0]);
        assert_eq!(list.name(3), Some(FeatureName::Label("Yellow".into())));
        assert_eq!(list.name(2), Some(FeatureName::StandIn("apple".into())));
        assert_eq!(list.name(0), None);
    }

    #[test]
    fn the_search_outlives_a_sort_and_steps_stay_inside_it() {
        let mut list = list(&[(0.4, None), (0.3, None), (0.2, None), (0.1, None)]);
        list.search("density<0.35");
        list.sort_by(Field::Density);
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
    fn captions_that_are_counted_at_once_find_what_they_find_when_they_come_later() {
        let [mut at_once, mut later] = [(); 2].map(|()| list(&[(0.4, None), (0.3, None), (0.2, None)]));
        let shares = vec![0.0, 1.0, 0.6];
        at_once.search_with("boat density<0.35", |text| {
            assert_eq!(text, "boat");
            Ok(shares.clone())
        });
        later.search("boat density<0.35");
        later.set_captions("boat".into(), Ok(shares.clone()));
        assert_eq!((shown(&at_once), at_once.pending_captions().len()), (vec![1, 2], 0));
        assert_eq!(shown(&at_once), shown(&later));
        at_once.search_with("boat density<0.35", |_| panic!("it is known"));
        at_once.search_with("cat", |_| Err("no captions".into()));
        assert_eq!((shown(&at_once), at_once.problem()), (vec![], None), "a word is looked for elsewhere as well");
        at_once.search_with("caption:cat", |_| Err("no captions".into()));
        assert_eq!(at_once.problem(), Some("no captions"));
        at_once.search_with("", |_| panic!("nothing to count"));
        assert_eq!(shown(&at_once).len(), 3);
    }

    #[test]
    fn the_exact_number_comes_first() {
        let mut list = list(&vec![(0.5, None); 200]);
        list.sort_by(Field::Feature);
        list.sort_by(Field::Feature);
        list.search("12");
        assert_eq!(shown(&list)[..3], [12, 129, 128]);
        assert_eq!(list.step(None, 0), Some(12));
    }

    #[test]
    fn a_restricted_table_is_searched_like_the_whole() {
        let mut list = list(&[(0.4, None), (0.3, None), (0.2, None), (0.1, None)]);
        let before = list.version();
        list.restrict(Some([1, 2, 77].into()));
        assert_eq!((shown(&list), list.restricted_to()), (vec![1, 2], Some(3)));
        list.search("density<0.25");
        assert_eq!((shown(&list), list.found_outside()), (vec![2], 1));
        list.widen([3].into());
        assert_eq!((shown(&list), list.found_outside()), (vec![2, 3], 0));
        list.restrict(None);
        assert_eq!((shown(&list), list.found_outside()), (vec![2, 3], 0));
        assert_ne!(list.version(), before);
    }

    #[test]
    fn several_rows_are_selected() {
        let mut list = list(&[(0.4, None), (0.3, None), (0.2, None), (0.1, None)]);
        let selected = |list: &FeatureList| list.selected().iter().copied().collect::<Vec<_>>();
        list.toggle_selected(2, Some(0));
        assert_eq!(selected(&list), [0, 2]);
        list.toggle_selected(2, Some(0));
        assert_eq!(selected(&list), [0]);
        list.select_range(Some(3), 1);
        assert_eq!(selected(&list), [1, 2, 3]);
        list.select_range(None, 1);
        assert_eq!(selected(&list), [1, 2, 3], "without a beginning there is no range");
        list.clear_selection();
        assert!(list.selected().is_empty());
    }

    #[test]
    fn features_are_found_by_number_even_where_rows_are_missing() {
        let rows = [4, 9].map(|feature| FeatureRow { feature, ..FeatureRow::default() });
        let list = FeatureList::new(rows.to_vec(), PositionCounts::default(), Vec::new());
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
            let key = |feature: &u32| list.value(field, list.row(*feature).unwrap());
            let order = shown(&list);
            for pair in order.windows(2) {
                match (key(&pair[0]), key(&pair[1])) {
                    (Some(a), Some(b)) if list.sort()[0].descending => prop_assert!(a >= b),
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
