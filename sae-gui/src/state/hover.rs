//! The feature that the pointer is on, wherever it is shown, so that it can be marked wherever else it is. A view learns of it in
//! the frame after it was pointed at, since others are drawn before it.

use std::cell::Cell;

/// What is pointed at.
#[derive(Clone, Debug, Default)]
pub struct Hover {
    now: Option<u32>,
    next: Cell<Option<u32>>,
}

impl Hover {
    /// The feature that was pointed at in the last frame.
    pub fn feature(&self) -> Option<u32> {
        self.now
    }

    /// Says that a feature is pointed at.
    pub fn set(&self, feature: u32) {
        self.next.set(Some(feature));
    }

    /// Ends a frame; whether something else is pointed at than was drawn in it.
    pub fn turn(&mut self) -> bool {
        let next = self.next.take();
        std::mem::replace(&mut self.now, next) != next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_pointed_at_is_known_for_one_frame() {
        let mut pointing = Hover::default();
        assert!(!pointing.turn());
        pointing.set(7);
        assert_eq!(pointing.feature(), None);
        assert!(pointing.turn());
        assert_eq!(pointing.feature(), Some(7));
        pointing.set(7);
        assert!(!pointing.turn());
        assert!(pointing.turn());
        assert_eq!(pointing.feature(), None);
    }
}
