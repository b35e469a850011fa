//! The worker: reads tables and decodes pictures on a thread of its own, so that the window never waits. What is wanted
//! is one slot that the window overwrites; what it no longer wants is never begun. Knows no egui type.

mod index;
mod picture;
mod sample;

use crate::state::Link;
use crate::state::data::{Index, Opened, SampleView};
use sample::Samples;
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

/// What the worker has read.
pub enum Reply {
    /// The table of the run that was asked for.
    Opened(Result<Opened, String>),
    /// Its examples and neighbours.
    Indexed(Index),
    /// A sample.
    Sample(u32, Result<SampleView, String>),
}

/// The window's end of the worker.
pub struct Loader {
    inbox: Arc<Inbox>,
    replies: Receiver<(u64, Reply)>,
    /// Number of the run asked for last; replies about earlier ones are dropped.
    generation: u64,
}

#[derive(Default)]
struct Inbox {
    wanted: Mutex<Wanted>,
    changed: Condvar,
}

#[derive(Default)]
struct Wanted {
    open: Option<(u64, Link)>,
    samples: Vec<u32>,
    quit: bool,
}

impl Loader {
    /// Starts the worker. `data` overrides where the run says its data set lies; `wake` is called after every reply.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn start(data: Option<PathBuf>, wake: impl Fn() + Send + 'static) -> std::io::Result<Self> {
        let inbox = Arc::new(Inbox::default());
        let (sender, replies) = channel();
        let own = inbox.clone();
        std::thread::Builder::new().name("loader".into()).spawn(move || work(&own, data.as_deref(), &sender, &wake))?;
        Ok(Self { inbox, replies, generation: 0 })
    }

    /// Asks for a run instead of whatever was asked for before.
    pub fn open(&mut self, link: Link) {
        self.generation += 1;
        let generation = self.generation;
        self.inbox.change(|wanted| *wanted = Wanted { open: Some((generation, link)), ..Wanted::default() });
    }

    /// Asks for these samples of the run, the first one first, and no longer for others.
    pub fn want(&self, samples: Vec<u32>) {
        self.inbox.change(|wanted| wanted.samples = samples);
    }

    /// What has been read since the last call.
    pub fn replies(&self) -> impl Iterator<Item = Reply> {
        self.replies.try_iter().filter(|(generation, _)| *generation == self.generation).map(|(_, reply)| reply)
    }
}

impl Drop for Loader {
    fn drop(&mut self) {
        self.inbox.change(|wanted| wanted.quit = true);
    }
}

impl Inbox {
    fn change(&self, change: impl FnOnce(&mut Wanted)) {
        change(&mut self.wanted.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_one();
    }

    /// Waits for something to do.
    fn next(&self) -> Job {
        let mut wanted = self.wanted.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if wanted.quit {
                return Job::Quit;
            }
            if let Some((generation, link)) = wanted.open.take() {
                return Job::Open(generation, link);
            }
            if !wanted.samples.is_empty() {
                return Job::Sample(wanted.samples.remove(0));
            }
            wanted = self.changed.wait(wanted).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

enum Job {
    Open(u64, Link),
    Sample(u32),
    Quit,
}

fn work(inbox: &Inbox, data: Option<&Path>, sender: &Sender<(u64, Reply)>, wake: &impl Fn()) {
    let mut current: Option<(u64, Samples)> = None;
    let reply = |generation, reply| {
        // The window may be gone; then `quit` comes next.
        let _ = sender.send((generation, reply));
        wake();
    };
    loop {
        match inbox.next() {
            Job::Quit => return,
            Job::Open(generation, link) => {
                current = None;
                let opened = guarded(|| index::open(&link));
                let root =
                    opened.as_ref().ok().map(|(opened, run)| (opened.info.sae.clone(), opened.rows.len(), run.clone()));
                reply(generation, Reply::Opened(opened.map(|(opened, _)| opened)));
                if let Some((sae, features, run)) = root {
                    reply(
                        generation,
                        Reply::Indexed(Index {
                            examples: guarded(|| index::examples(&run, &sae, features)),
                            neighbours: guarded(|| index::neighbours(&run, &sae, features)),
                        }),
                    );
                    current = Some((generation, Samples::new(run, data)));
                }
            }
            Job::Sample(number) => {
                if let Some((generation, samples)) = &mut current {
                    let view = guarded(|| samples.read(number));
                    reply(*generation, Reply::Sample(number, view));
                }
            }
        }
    }
}

/// Runs a job; what a damaged file makes panic in a decoder becomes a sentence as well.
fn guarded<T>(job: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(job)).unwrap_or_else(|cause| Err(format!("a file is damaged: {}", said(&*cause))))
}

fn said(cause: &(dyn Any + Send)) -> &str {
    let owned = cause.downcast_ref::<String>().map(String::as_str);
    owned.or_else(|| cause.downcast_ref::<&str>().copied()).unwrap_or("the reader stopped")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_in_a_decoder_becomes_a_sentence() {
        let rows: [u8; 0] = [];
        let at = rows.len() + 3;
        assert!(
            guarded(|| Ok::<_, String>(rows[at])).is_err_and(|said| said.starts_with("a file is damaged: index out"))
        );
    }

    #[test]
    fn the_newest_wish_replaces_older_ones() {
        let inbox = Inbox::default();
        inbox.change(|wanted| wanted.samples = vec![1, 2, 3]);
        assert!(matches!(inbox.next(), Job::Sample(1)));
        inbox.change(|wanted| wanted.samples = vec![9]);
        assert!(matches!(inbox.next(), Job::Sample(9)));
        inbox.change(|wanted| wanted.quit = true);
        assert!(matches!(inbox.next(), Job::Quit));
    }
}
