//! Back and forward over the locations that were shown. A walk down the table counts as one visit; otherwise "back" would undo
//! every single step of it.

use super::location::Location;

/// Visits remembered at most.
const LIMIT: usize = 1000;

/// How a location was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VisitKind {
    /// Chosen: a click, a link, a neighbor.
    Chosen,
    /// The next or the previous one in a list.
    Stepped,
}

/// The visits so far, and which of them is current.
#[derive(Clone, Debug, Default)]
pub struct History {
    visits: Vec<(Location, VisitKind)>,
    /// Number of visits up to and including the current one.
    current: usize,
}

impl History {
    /// The location that is shown.
    pub fn current(&self) -> Option<Location> {
        self.current.checked_sub(1).map(|at| self.visits[at].0)
    }

    /// Adds a visit behind the current one. The visits that were there are forgotten.
    pub fn visit(&mut self, location: Location, kind: VisitKind) {
        if self.current() == Some(location) {
            return;
        }
        self.visits.truncate(self.current);
        let walks = |visit: &(Location, VisitKind)| visit.1 == VisitKind::Stepped && visit.0.page() == location.page();
        if kind == VisitKind::Stepped && self.visits.last().is_some_and(walks) {
            self.visits.pop();
        }
        self.visits.push((location, kind));
        if self.visits.len() > LIMIT {
            self.visits.remove(0);
        }
        self.current = self.visits.len();
    }

    /// Forgets the visits to other locations than these.
    pub fn retain(&mut self, keep: impl Fn(Location) -> bool) {
        let kept_before = self.visits[..self.current].iter().filter(|visit| keep(visit.0)).count();
        self.visits.retain(|visit| keep(visit.0));
        self.current = kept_before;
    }

    /// Whether there is an earlier visit.
    pub fn has_back(&self) -> bool {
        self.current > 1
    }

    /// Whether there is a later visit.
    pub fn has_forward(&self) -> bool {
        self.current < self.visits.len()
    }

    /// Goes to the visit before.
    pub fn back(&mut self) {
        self.current -= usize::from(self.has_back());
    }

    /// All visits, the earliest first.
    pub fn visits(&self) -> impl DoubleEndedIterator<Item = Location> + ExactSizeIterator {
        self.visits.iter().map(|visit| visit.0)
    }

    /// The number of the current visit, from 0.
    pub fn number(&self) -> Option<usize> {
        self.current.checked_sub(1)
    }

    /// Goes to a visit by its number, from 0.
    pub fn go_to(&mut self, visit: usize) {
        if visit < self.visits.len() {
            self.current = visit + 1;
        }
    }

    /// Goes to the visit after.
    pub fn forward(&mut self) {
        self.current += usize::from(self.has_forward());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_walk_down_the_table_is_one_step_back() {
        let mut history = History::default();
        history.visit(Location::Feature(5), VisitKind::Chosen);
        (6..20).for_each(|feature| history.visit(Location::Feature(feature), VisitKind::Stepped));
        history.visit(Location::Sample(100), VisitKind::Chosen);
        history.back();
        assert_eq!(history.current(), Some(Location::Feature(19)));
        history.back();
        assert_eq!(history.current(), Some(Location::Feature(5)));
        assert!(!history.has_back());
        history.forward();
        history.visit(Location::Feature(7), VisitKind::Chosen);
        assert!(!history.has_forward());
    }

    #[test]
    fn any_visit_is_gone_to_and_the_others_stay() {
        let mut history = History::default();
        [1, 9, 2].into_iter().for_each(|feature| history.visit(Location::Feature(feature), VisitKind::Chosen));
        history.go_to(0);
        assert_eq!((history.current(), history.number()), (Some(Location::Feature(1)), Some(0)));
        assert!(!history.has_back() && history.has_forward() && history.visits().len() == 3);
        history.go_to(3);
        assert_eq!(history.number(), Some(0), "there is no such visit");
    }

    #[test]
    fn visits_to_what_is_gone_are_forgotten() {
        let mut history = History::default();
        [1, 9, 2, 3].into_iter().for_each(|feature| history.visit(Location::Feature(feature), VisitKind::Chosen));
        history.back();
        history.retain(|location| location != Location::Feature(9));
        assert_eq!(history.current(), Some(Location::Feature(2)));
        history.back();
        assert_eq!(history.current(), Some(Location::Feature(1)));
        history.retain(|_| false);
        assert_eq!((history.current(), history.has_forward()), (None, false));
    }

    proptest! {
        #[test]
        fn chosen_features_come_back_in_reverse(features in prop::collection::vec(0u32..1000, 1..50)) {
            let mut distinct = features.clone();
            distinct.dedup();
            let mut history = History::default();
            features.iter().for_each(|feature| history.visit(Location::Feature(*feature), VisitKind::Chosen));
            for feature in distinct.iter().rev() {
                prop_assert_eq!(history.current(), Some(Location::Feature(*feature)));
                history.back();
            }
            prop_assert!(!history.has_back());
            for feature in distinct {
                prop_assert_eq!(history.current(), Some(Location::Feature(feature)));
                history.forward();
            }
        }
    }
}
