//! How the window tells a worker thread what it wants: one slot that the window overwrites, so that a worker never begins with
//! what is no longer wanted. Knows nothing about the requests.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// The slot between a window and a worker.
pub struct Mailbox<R> {
    requests: Mutex<R>,
    changed: Condvar,
}

impl<R: Default> Default for Mailbox<R> {
    fn default() -> Self {
        Self { requests: Mutex::default(), changed: Condvar::default() }
    }
}

impl<R> Mailbox<R> {
    /// Changes the requests.
    pub fn change(&self, change: impl FnOnce(&mut R)) {
        change(&mut self.requests.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_one();
    }

    /// Waits until `choose` takes a task out of the requests. Nothing after `timeout`.
    pub fn next<T>(&self, timeout: Duration, mut choose: impl FnMut(&mut R) -> Option<T>) -> Option<T> {
        let begun = Instant::now();
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(task) = choose(&mut requests) {
                return Some(task);
            }
            let left = timeout.checked_sub(begun.elapsed())?;
            requests = self.changed.wait_timeout(requests, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// A worker thread with its mailbox. Dropping it tells the thread to end.
pub struct Worker<R> {
    mailbox: Arc<Mailbox<R>>,
    quit: fn(&mut R),
    thread: Option<JoinHandle<()>>,
    /// Whether dropping waits for the thread, which then finishes what must not be lost.
    joins: bool,
}

impl<R: Default + Send + 'static> Worker<R> {
    /// Starts a thread. `quit` changes the requests so that `work` returns.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn start(
        name: &str,
        quit: fn(&mut R),
        joins: bool,
        work: impl FnOnce(&Mailbox<R>) + Send + 'static,
    ) -> std::io::Result<Self> {
        let mailbox = Arc::new(Mailbox::default());
        let own = mailbox.clone();
        let thread = thread::Builder::new().name(name.into()).spawn(move || work(&own))?;
        Ok(Self { mailbox, quit, thread: Some(thread), joins })
    }

    /// Changes the requests.
    pub fn change(&self, change: impl FnOnce(&mut R)) {
        self.mailbox.change(change);
    }
}

impl<R> Worker<R> {
    /// Ends the thread. Waits for it if it joins.
    pub fn finish(&mut self) {
        self.mailbox.change(self.quit);
        if let Some(thread) = self.thread.take().filter(|_| self.joins) {
            // A worker that panicked has nothing left to do.
            let _ = thread.join();
        }
    }
}

impl<R> Drop for Worker<R> {
    fn drop(&mut self) {
        self.finish();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_request_replaces_older_ones() {
        let mailbox = Mailbox::<Vec<u32>>::default();
        let take_first = |requests: &mut Vec<u32>| (!requests.is_empty()).then(|| requests.remove(0));
        let next = || mailbox.next(Duration::ZERO, take_first);
        mailbox.change(|requests| *requests = vec![1, 2, 3]);
        assert_eq!(next(), Some(1));
        mailbox.change(|requests| *requests = vec![9]);
        assert_eq!((next(), next()), (Some(9), None));
    }

    #[test]
    fn a_worker_that_is_joined_finishes_its_requests() {
        let (sender, receiver) = std::sync::mpsc::channel();
        let worker = Worker::<(Vec<u32>, bool)>::start(
            "test",
            |requests| requests.1 = true,
            true,
            move |mailbox| {
                let choose = |requests: &mut (Vec<u32>, bool)| match requests.0.pop() {
                    Some(job) => Some(Some(job)),
                    None => requests.1.then_some(None),
                };
                while let Some(Some(job)) = mailbox.next(Duration::from_secs(60), choose) {
                    thread::sleep(Duration::from_millis(2));
                    let _ = sender.send(job);
                }
            },
        );
        let worker = worker.unwrap();
        worker.change(|requests| requests.0 = vec![3, 2, 1]);
        drop(worker);
        assert_eq!(receiver.try_iter().collect::<Vec<_>>(), [1, 2, 3]);
    }
}
