//! What people should know about a data set although no row is skipped because of it: files that are not read, and
//! values that JSON cannot represent. Every note is one line and is reported once.

use std::sync::{Arc, Mutex, PoisonError};

/// Maximum number of notes that are kept. If there are more, many of them have the same cause.
const LIMIT: usize = 64;

/// A collection of notes. Clones share their content.
#[derive(Clone, Debug, Default)]
pub struct Notes(Arc<Mutex<Collected>>);

#[derive(Debug, Default)]
struct Collected {
    notes: Vec<String>,
    /// How many notes were already taken.
    taken: usize,
}

impl Notes {
    /// Adds a note unless the same note was added before.
    pub(crate) fn add(&self, note: impl Into<String>) {
        let mut collected = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let note = note.into();
        if collected.notes.len() < LIMIT && !collected.notes.contains(&note) {
            collected.notes.push(note);
        }
    }

    /// Takes the notes that were added since the last call.
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
    fn each_note_is_reported_once() {
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
