//! What people should know about a data set although it costs no row: files that are not read, values that JSON cannot
//! hold. Every note is one line, and each is told once.

use std::sync::{Arc, Mutex, PoisonError};

/// Most notes that are kept; a data set that needs more has one cause for many of them.
const LIMIT: usize = 64;

/// Collects notes. Clones share what they collect.
#[derive(Clone, Debug, Default)]
pub struct Notes(Arc<Mutex<Collected>>);

#[derive(Debug, Default)]
struct Collected {
    notes: Vec<String>,
    /// How many of them were taken.
    taken: usize,
}

impl Notes {
    /// Adds a note unless it was there before.
    pub(super) fn add(&self, note: impl Into<String>) {
        let mut collected = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let note = note.into();
        if collected.notes.len() < LIMIT && !collected.notes.contains(&note) {
            collected.notes.push(note);
        }
    }

    /// The notes that were added since the last call.
    pub fn take(&self) -> Vec<String> {
        let mut collected = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let new = collected.notes[collected.taken..].to_vec();
        collected.taken = collected.notes.len();
        new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_note_is_told_once() {
        let notes = Notes::default();
        let same = notes.clone();
        notes.add("a");
        same.add("a");
        same.add("b");
        assert_eq!(notes.take(), ["a", "b"]);
        notes.add("b");
        notes.add("c");
        assert_eq!((same.take(), notes.take()), (vec!["c".to_owned()], Vec::new()));
        (0..1000).for_each(|n| notes.add(n.to_string()));
        assert_eq!(notes.take().len(), LIMIT - 3);
    }
}
