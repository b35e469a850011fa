//! Scratch buffers that are reused from one unit of work to the next.

use std::sync::Mutex;

/// A pool of buffers. It holds as many as are in use at a time, because a new one is made only if none is idle.
pub(super) struct Pool<T>(Mutex<Vec<T>>);

impl<T> Pool<T> {
    pub(super) fn new() -> Self {
        Self(Mutex::new(Vec::new()))
    }

    /// Runs `work` with a buffer from the pool, or with a new one if none is idle.
    pub(super) fn lend(&self, new: impl FnOnce() -> T, work: impl FnOnce(&mut T)) {
        // A buffer that another thread left when it panicked can be used, because every user writes before reading.
        let idle = self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).pop();
        let mut lent = idle.unwrap_or_else(new);
        work(&mut lent);
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).push(lent);
    }
}
