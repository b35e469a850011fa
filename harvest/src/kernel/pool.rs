//! Memory to work in, handed from one piece of work to the next.

use std::sync::Mutex;

/// As many as there are pieces worked on at a time; none is made while one lies idle.
pub(super) struct Pool<T>(Mutex<Vec<T>>);

impl<T> Pool<T> {
    pub(super) fn new() -> Self {
        Self(Mutex::new(Vec::new()))
    }

    /// Lends one to `work`.
    pub(super) fn lend(&self, new: impl FnOnce() -> T, work: impl FnOnce(&mut T)) {
        // What another thread left when it panicked is as good: everybody writes before reading.
        let idle = self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).pop();
        let mut lent = idle.unwrap_or_else(new);
        work(&mut lent);
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).push(lent);
    }
}
