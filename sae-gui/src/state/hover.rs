//! The feature under the pointer, so that every view can highlight it. A view learns of it in the next frame, since other
//! views are drawn earlier.

use std::cell::Cell;

/// The feature under the pointer.
#[derive(Clone, Debug, Default)]
pub struct Hover {
    current: Option<u32>,
    next: Cell<Option<u32>>,
}

impl Hover {
    /// The feature that was under the pointer in the last frame.
    pub fn feature(&self) -> Option<u32> {
        self.current
    }

    /// Notes that a feature is under the pointer.
    pub fn set(&self, feature: u32) {
        self.next.set(Some(feature));
    }

    /// Ends a frame. Returns whether another feature is under the pointer than was highlighted in it.
    pub fn end_frame(&mut self) -> bool {
        let next = self.next.take();
        std::mem::replace(&mut self.current, next) != next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_feature_under_the_pointer_is_known_for_one_frame() {
        let mut hover = Hover::default();
        assert!(!hover.end_frame());
        hover.set(7);
        assert_eq!(hover.feature(), None);
        assert!(hover.end_frame());
        assert_eq!(hover.feature(), Some(7));
        hover.set(7);
        assert!(!hover.end_frame());
        assert!(hover.end_frame());
        assert_eq!(hover.feature(), None);
    }
}
