//! Back and forward over what was looked at. A walk down the table counts as one visit, as otherwise
//! "back" would undo every single step of it.

use super::location::Location;

/// Visits remembered at most.
const LIMIT: usize = 1000;

/// How a place was come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Chosen: a click, a link, a neighbor.
    Chosen,
    /// The next or the previous one in the table.
    Stepped,
}

/// The visits so far, and where in them we are.
#[derive(Clone, Debug, Default)]
pub struct History {
    visits: Vec<(Location, Way)>,
    /// Visits up to and including the current one.
    here: usize,
}

impl History {
    /// What is looked at.
    pub fn current(&self) -> Option<Location> {
        self.here.checked_sub(1).map(|at| self.visits[at].0)
    }

    /// Goes to a place; what lay ahead is forgotten.
    pub fn visit(&mut self, place: Location, way: Way) {
        if self.current() == Some(place) {
            return;
        }
        self.visits.truncate(self.here);
        if way == Way::Stepped && self.visits.last().is_some_and(|(_, last)| *last == Way::Stepped) {
            self.visits.pop();
        }
        self.visits.push((place, way));
        if self.visits.len() > LIMIT {
            self.visits.remove(0);
        }
        self.here = self.visits.len();
    }

    /// Whether [`History::back`] leads anywhere.
    pub fn has_back(&self) -> bool {
        self.here > 1
    }

    /// Whether [`History::forward`] leads anywhere.
    pub fn has_forward(&self) -> bool {
        self.here < self.visits.len()
    }

    /// To the visit before.
    pub fn back(&mut self) {
        self.here -= self.has_back() as usize;
    }

    /// To the visit after.
    pub fn forward(&mut self) {
        self.here += self.has_forward() as usize;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_walk_down_the_table_is_one_step_back() {
        let mut history = History::default();
        history.visit(Location::Feature(5), Way::Chosen);
        (6..20).for_each(|feature| history.visit(Location::Feature(feature), Way::Stepped));
        history.visit(Location::Sample(100), Way::Chosen);
        history.back();
        assert_eq!(history.current(), Some(Location::Feature(19)));
        history.back();
        assert_eq!(history.current(), Some(Location::Feature(5)));
        assert!(!history.has_back());
        history.forward();
        history.visit(Location::Feature(7), Way::Chosen);
        assert!(!history.has_forward());
    }

    proptest! {
        #[test]
        fn chosen_features_come_back_in_reverse(features in prop::collection::vec(0u32..1000, 1..50)) {
            let mut distinct = features.clone();
            distinct.dedup();
            let mut history = History::default();
            features.iter().for_each(|feature| history.visit(Location::Feature(*feature), Way::Chosen));
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
