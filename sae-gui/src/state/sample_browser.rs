//! The samples of a run as the Samples page lists them: found by a search, on one side of the threshold, sorted, selected.
//! Searches no text itself: the loader does.

use super::score_filter::ScoreFilter;
use std::collections::BTreeSet;

/// Which samples are listed, apart from the search.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Group {
    /// All of them.
    #[default]
    All,
    /// Those that are kept.
    Kept,
    /// Those that are dropped.
    Dropped,
    /// Those that were kept or dropped by hand.
    Chosen,
}

impl Group {
    /// All groups.
    pub const ALL: [Self; 4] = [Self::All, Self::Kept, Self::Dropped, Self::Chosen];

    /// Its title.
    pub fn title(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Kept => "kept",
            Self::Dropped => "dropped",
            Self::Chosen => "chosen by hand",
        }
    }

    fn has(self, sample: u32, scores: Option<&ScoreFilter>) -> bool {
        match (self, scores) {
            (Self::All, _) => true,
            (_, None) => false,
            (Self::Kept, Some(scores)) => scores.is_kept(sample),
            (Self::Dropped, Some(scores)) => !scores.is_kept(sample),
            (Self::Chosen, Some(scores)) => scores.choices().contains_key(&sample),
        }
    }
}

/// How the samples are sorted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Order {
    /// The score; none: the number of the sample.
    pub score: Option<String>,
    /// Whether the largest is first.
    pub descending: bool,
}

/// The list of samples.
#[derive(Clone, Debug, Default)]
pub struct SampleBrowser {
    total: u32,
    /// The search, as typed.
    pub text: String,
    /// The samples that a search found, and that search.
    found: Option<(String, Vec<u32>)>,
    /// Why the search failed.
    pub problem: Option<String>,
    /// Which samples are listed.
    pub group: Group,
    /// How they are sorted.
    pub order: Order,
    selected: BTreeSet<u32>,
    shown: Vec<u32>,
    /// What `shown` was made from.
    made_from: Option<(String, Group, Order, Option<u64>)>,
}

impl SampleBrowser {
    /// All samples of a run, by number.
    pub fn new(total: u64) -> Self {
        Self { total: u32::try_from(total).unwrap_or(u32::MAX), ..Self::default() }
    }

    /// Takes over the search, the order and the selection of the list as it was before it was read again.
    pub fn adopt(&mut self, mut before: Self) {
        before.selected.retain(|sample| *sample < self.total);
        *self = Self { total: self.total, found: None, problem: None, made_from: None, ..before };
    }

    /// The search that has to be made before the list is right, if there is one.
    pub fn pending_search(&self) -> Option<&str> {
        let text = self.text.trim();
        let done = text.is_empty() || self.found.as_ref().is_some_and(|(found, _)| found == text);
        (!done && self.problem.is_none()).then_some(text)
    }

    /// Takes what a search found.
    pub fn set_found(&mut self, text: String, found: Result<Vec<u32>, String>) {
        match found {
            Ok(found) => self.found = Some((text, found)),
            Err(problem) => self.problem = Some(problem),
        }
        self.made_from = None;
    }

    /// Makes the list again if the search, the sides, the order or the scores have changed.
    pub fn refresh(&mut self, scores: Option<&ScoreFilter>) {
        let searched = self.found.as_ref().filter(|_| !self.text.trim().is_empty());
        let key = (
            searched.map(|(text, _)| text.clone()).unwrap_or_default(),
            self.group,
            self.order.clone(),
            scores.map(ScoreFilter::version),
        );
        if self.made_from.as_ref() == Some(&key) {
            return;
        }
        let all = || (0..self.total).collect::<Vec<u32>>();
        let mut shown = searched.map_or_else(all, |(_, found)| found.clone());
        shown.retain(|sample| self.group.has(*sample, scores));
        match (&self.order.score, scores) {
            (Some(name), Some(scores)) => {
                // Samples without the score are last either way.
                let value = |sample: &u32| scores.value_of(name, *sample);
                let sign = if self.order.descending { -1.0 } else { 1.0 };
                let key = |sample: &u32| value(sample).map_or(f64::INFINITY, |value| sign * value);
                shown.sort_by(|a, b| key(a).total_cmp(&key(b)).then(a.cmp(b)));
            }
            _ if self.order.descending => shown.reverse(),
            _ => {}
        }
        self.shown = shown;
        self.made_from = Some(key);
    }

    /// The samples listed, in order.
    pub fn shown(&self) -> &[u32] {
        &self.shown
    }

    /// The selected samples.
    pub fn selected(&self) -> &BTreeSet<u32> {
        &self.selected
    }

    /// Selects a sample, or no longer selects it.
    pub fn toggle(&mut self, sample: u32) {
        if !self.selected.remove(&sample) {
            self.selected.insert(sample);
        }
    }

    /// Selects the samples between the first selected one and another one, in the order of the list.
    pub fn select_to(&mut self, sample: u32) {
        let place = |wanted: u32| self.shown.iter().position(|shown| *shown == wanted);
        let Some(to) = place(sample) else { return };
        let from = self.shown.iter().position(|shown| self.selected.contains(shown)).unwrap_or(to);
        self.selected = self.shown[from.min(to)..=from.max(to)].iter().copied().collect();
    }

    /// Selects all samples that are listed.
    pub fn select_all(&mut self) {
        self.selected = self.shown.iter().copied().collect();
    }

    /// Clears the selection, else the search.
    pub fn dismiss(&mut self) {
        if self.selected.is_empty() {
            self.text.clear();
            self.problem = None;
        }
        self.clear_selection();
    }

    /// Selects none.
    pub fn clear_selection(&mut self) {
        self.selected.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::score_filter::Scores;

    fn scores() -> ScoreFilter {
        let ids = (0..6).map(|n| n.to_string()).collect();
        let values = [Some(3.0), Some(1.0), None, Some(2.0), Some(5.0), Some(4.0)].to_vec();
        let mut filter =
            ScoreFilter::new(Scores { ids, columns: vec![("pmi".into(), values)], ..Scores::default() }).unwrap();
        filter.keep(3);
        filter
    }

    fn shown(browser: &mut SampleBrowser, scores: Option<&ScoreFilter>) -> Vec<u32> {
        browser.refresh(scores);
        browser.shown().to_vec()
    }

    #[test]
    fn samples_are_restricted_and_sorted_by_score() {
        let (mut browser, mut scores) = (SampleBrowser::new(6), scores());
        assert_eq!(shown(&mut browser, None), [0, 1, 2, 3, 4, 5]);
        browser.order = Order { score: Some("pmi".into()), descending: true };
        assert_eq!(shown(&mut browser, Some(&scores)), [4, 5, 0, 3, 1, 2], "without a score last");
        browser.order.descending = false;
        assert_eq!(shown(&mut browser, Some(&scores)), [1, 3, 0, 5, 4, 2]);
        browser.group = Group::Kept;
        assert_eq!(shown(&mut browser, Some(&scores)), [0, 5, 4]);
        // The list follows the threshold and choices by hand.
        scores.choose([1], Some(true));
        assert_eq!(shown(&mut browser, Some(&scores)), [1, 0, 5, 4]);
        browser.group = Group::Chosen;
        assert_eq!(shown(&mut browser, Some(&scores)), [1]);
        assert!(shown(&mut browser, None).is_empty());
    }

    #[test]
    fn a_search_is_pending_until_it_is_answered() {
        let mut browser = SampleBrowser::new(6);
        browser.text = " ring ".into();
        assert_eq!(browser.pending_search(), Some("ring"));
        browser.set_found("ring".into(), Ok(vec![2, 4]));
        assert_eq!(browser.pending_search(), None);
        assert_eq!(shown(&mut browser, None), [2, 4]);
        browser.text.clear();
        assert_eq!(shown(&mut browser, None).len(), 6);
        browser.text = "x".into();
        browser.set_found("x".into(), Err("gone".into()));
        assert_eq!((browser.pending_search(), browser.problem.as_deref()), (None, Some("gone")));
    }

    #[test]
    fn ranges_are_selected_in_the_order_of_the_list() {
        let mut browser = SampleBrowser::new(6);
        browser.order = Order { score: Some("pmi".into()), descending: true };
        let scores = scores();
        browser.refresh(Some(&scores));
        browser.toggle(5);
        browser.select_to(3);
        assert_eq!(browser.selected().iter().copied().collect::<Vec<_>>(), [0, 3, 5]);
        browser.toggle(0);
        assert_eq!(browser.selected().len(), 2);
        browser.select_all();
        assert_eq!(browser.selected().len(), 6);
        browser.clear_selection();
        browser.select_to(4);
        assert_eq!(browser.selected().len(), 1);
    }
}
