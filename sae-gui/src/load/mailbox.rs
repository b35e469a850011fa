//! How the window tells a worker what it wants: one slot that it overwrites, so that what it no longer wants is never
//! begun. Knows nothing of what is wanted.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// The slot between a window and a worker.
pub struct Desk<W> {
    wanted: Mutex<W>,
    changed: Condvar,
}

impl<W: Default> Default for Desk<W> {
    fn default() -> Self {
        Self { wanted: Mutex::default(), changed: Condvar::default() }
    }
}

impl<W> Desk<W> {
    /// Changes what is wanted.
    pub fn change(&self, change: impl FnOnce(&mut W)) {
        change(&mut self.wanted.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_one();
    }

    /// Waits until `choose` finds something to do; nothing after `patience`.
    pub fn next<J>(&self, patience: Duration, mut choose: impl FnMut(&mut W) -> Option<J>) -> Option<J> {
        let begun = Instant::now();
        let mut wanted = self.wanted.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(job) = choose(&mut wanted) {
                return Some(job);
            }
            let left = patience.checked_sub(begun.elapsed())?;
            wanted = self.changed.wait_timeout(wanted, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// A worker and its slot. Dropping it tells the worker to quit.
pub struct Worker<W> {
    desk: Arc<Desk<W>>,
    quit: fn(&mut W),
    thread: Option<JoinHandle<()>>,
    /// Whether dropping waits until the worker has done what must not be lost.
    waits: bool,
}

impl<W: Default + Send + 'static> Worker<W> {
    /// Starts a thread. `quit` changes what is wanted so that `work` returns.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn start(
        name: &str,
        quit: fn(&mut W),
        waits: bool,
        work: impl FnOnce(&Desk<W>) + Send + 'static,
    ) -> std::io::Result<Self> {
        let desk = Arc::new(Desk::default());
        let own = desk.clone();
        let thread = thread::Builder::new().name(name.into()).spawn(move || work(&own))?;
        Ok(Self { desk, quit, thread: Some(thread), waits })
    }

    /// Changes what is wanted.
    pub fn change(&self, change: impl FnOnce(&mut W)) {
        self.desk.change(change);
    }
}

impl<W> Drop for Worker<W> {
    fn drop(&mut self) {
        self.desk.change(self.quit);
        if let Some(thread) = self.thread.take().filter(|_| self.waits) {
            // A worker that panicked has nothing left to do.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_wish_replaces_older_ones() {
        let desk = Desk::<Vec<u32>>::default();
        let next = || desk.next(Duration::ZERO, |wanted| if wanted.is_empty() { None } else { Some(wanted.remove(0)) });
        desk.change(|wanted| *wanted = vec![1, 2, 3]);
        assert_eq!(next(), Some(1));
        desk.change(|wanted| *wanted = vec![9]);
        assert_eq!((next(), next()), (Some(9), None));
    }

    #[test]
    fn a_worker_that_is_waited_for_finishes_what_it_has() {
        let (sender, receiver) = std::sync::mpsc::channel();
        let worker = Worker::<(Vec<u32>, bool)>::start(
            "test",
            |wanted| wanted.1 = true,
            true,
            move |desk| {
                let choose = |wanted: &mut (Vec<u32>, bool)| match wanted.0.pop() {
                    Some(job) => Some(Some(job)),
                    None => wanted.1.then_some(None),
                };
                while let Some(Some(job)) = desk.next(Duration::from_secs(60), choose) {
                    thread::sleep(Duration::from_millis(2));
                    let _ = sender.send(job);
                }
            },
        );
        let worker = worker.unwrap();
        worker.change(|wanted| wanted.0 = vec![3, 2, 1]);
        drop(worker);
        assert_eq!(receiver.try_iter().collect::<Vec<_>>(), [1, 2, 3]);
    }
}
