//! What was read from files, kept until the files are written again. Looks at sizes and times only.

use super::problem::Problem;
use sae_core::file::Stamp;
use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

/// Values by name, each as of the files that it was read from.
pub struct Watched<T> {
    /// The most recently used first.
    slots: Mutex<VecDeque<Slot<T>>>,
    most: usize,
}

struct Slot<T> {
    name: String,
    stamps: Vec<Stamp>,
    value: Arc<T>,
}

impl<T> Watched<T> {
    /// Keeps this many values at most.
    pub fn new(most: usize) -> Self {
        Self { slots: Mutex::default(), most }
    }

    /// The value of a name. It is read again if one of `files` has changed since. Others who ask at the same time wait.
    ///
    /// # Errors
    /// Whatever `read` returns. The next one who asks tries again.
    pub fn get(
        &self,
        name: &str,
        files: &[PathBuf],
        read: impl FnOnce() -> Result<T, Problem>,
    ) -> Result<Arc<T>, Problem> {
        // A reader that panicked has left nothing half-done: a value is added as a whole.
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        // Before the files are read: a change while they are read is noticed the next time.
        let stamps: Vec<Stamp> = files.iter().map(|file| Stamp::of(file)).collect();
        let known = slots.iter().position(|slot| slot.name == name).and_then(|at| slots.remove(at));
        if let Some(slot) = known.filter(|slot| slot.stamps == stamps) {
            let value = slot.value.clone();
            slots.push_front(slot);
            return Ok(value);
        }
        let value = Arc::new(read()?);
        slots.truncate(self.most.saturating_sub(1));
        slots.push_front(Slot { name: name.to_owned(), stamps, value: value.clone() });
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn files_are_read_again_when_they_have_changed_and_not_before() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a");
        let watched = Watched::new(2);
        let read = |name: &str| {
            let read = || fs::read_to_string(&file).map_err(|error| Problem::unavailable(error.to_string()));
            watched.get(name, std::slice::from_ref(&file), read)
        };
        assert!(read("a").is_err());
        fs::write(&file, "one").unwrap();
        let one = read("a").unwrap();
        assert_eq!(*one, "one");
        assert!(Arc::ptr_eq(&one, &read("a").unwrap()));
        fs::write(&file, "three").unwrap();
        assert_eq!((one.as_str(), read("a").unwrap().as_str()), ("one", "three"));
        fs::remove_file(&file).unwrap();
        assert!(read("a").is_err(), "what is gone is gone");
    }

    #[test]
    fn the_least_recently_used_value_is_forgotten() {
        let watched = Watched::new(2);
        let count = std::cell::Cell::new(0);
        let read = |name: &str| {
            watched.get(name, &[], || {
                count.set(count.get() + 1);
                Ok(())
            })
        };
        for name in ["a", "b", "a", "c", "a", "b"] {
            read(name).unwrap();
        }
        assert_eq!(count.get(), 4, "only b was read twice");
    }
}
