//! The workers: read tables, decode pictures, write labels, encode samples and run models on threads of their own, so that
//! the window never waits. Know no egui type.

mod activations;
pub mod fonts;
mod index;
mod mailbox;
mod playground;
pub mod recents;
mod report;
mod sample;
mod sample_image;
mod scores;
mod stored;
mod subprocess;
mod watch;

pub use activations::{Seen, Sight};
pub use playground::Tried;
pub use subprocess::{Child, ProcessEvent};

use crate::state::Link;
use crate::state::data::{Details, OpenedRun, Report, SampleView};
use crate::state::session::Edits;
use crate::state::threshold::Scores;
use index::Tables;
use mailbox::{Desk, Worker};
use sae_core::Run;
use sae_core::analysis::labels::{Labels, Saved};
use sample::Samples;
use std::any::Any;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;
use watch::{Changed, Watch};

/// How often the files of an open run are looked at.
const WATCH: Duration = Duration::from_millis(1500);

/// What the loader has read.
pub enum Reply {
    /// The table of the run that was asked for.
    OpenedRun(Result<OpenedRun, String>),
    /// What the index says of a feature.
    Feature(u32, Details),
    /// A sample.
    Sample(u32, Result<SampleView, String>),
    /// The score table.
    Scores(Result<Scores, String>),
    /// Provenance, curves and evaluations; again whenever they change.
    Report(Report),
    /// Labels were written, or could not be.
    Saved(Result<Saved, String>),
    /// Edits of a run that is not open any more are not written yet; why.
    Waiting(String),
    /// Somebody else wrote labels.
    Labels(Result<Labels, String>),
    /// Somebody else wrote the index.
    IndexChanged,
}

/// The window's end of the loader.
pub struct Loader {
    worker: Worker<Wanted>,
    replies: Receiver<(u64, Reply)>,
    /// Number of the run asked for last; replies about earlier ones are dropped.
    generation: u64,
}

#[derive(Default)]
struct Wanted {
    open: Option<(u64, Link)>,
    /// Of whichever run they were made in: never dropped.
    saves: VecDeque<Edits>,
    feature: Option<u32>,
    samples: Vec<u32>,
    scores: bool,
    report: bool,
    quit: bool,
}

impl Loader {
    /// Starts the worker. `data` overrides where the run says its data set lies; `wake` is called after every reply.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn start(data: Option<PathBuf>, wake: impl Fn() + Send + 'static) -> std::io::Result<Self> {
        let (sender, replies) = channel();
        // A closed window still waits for its labels to be written.
        let worker = Worker::start(
            "loader",
            |wanted: &mut Wanted| wanted.quit = true,
            true,
            move |desk| {
                work(desk, data.as_deref(), &sender, &wake);
            },
        )?;
        Ok(Self { worker, replies, generation: 0 })
    }

    /// Asks for a run instead of whatever was asked for before.
    pub fn open(&mut self, link: Link) {
        self.generation += 1;
        let generation = self.generation;
        self.worker.change(|wanted| {
            let saves = std::mem::take(&mut wanted.saves);
            *wanted = Wanted { open: Some((generation, link)), saves, ..Wanted::default() };
        });
    }

    /// Asks what the index says of a feature, and no longer of others.
    pub fn want_feature(&self, feature: u32) {
        self.worker.change(|wanted| wanted.feature = Some(feature));
    }

    /// Asks for these samples of the run, the first one first, and no longer for others.
    pub fn want(&self, samples: Vec<u32>) {
        self.worker.change(|wanted| wanted.samples = samples);
    }

    /// Asks for the score table.
    pub fn want_scores(&self) {
        self.worker.change(|wanted| wanted.scores = true);
    }

    /// Asks for provenance, curves and evaluations, now and whenever they change.
    pub fn want_report(&self) {
        self.worker.change(|wanted| wanted.report = true);
    }

    /// Asks for edits to be written.
    pub fn save(&self, edits: Edits) {
        self.worker.change(|wanted| wanted.saves.push_back(edits));
    }

    /// What has been read since the last call.
    pub fn replies(&self) -> impl Iterator<Item = Reply> {
        self.replies.try_iter().filter(|(generation, _)| *generation == self.generation).map(|(_, reply)| reply)
    }
}

enum Task {
    Open(u64, Link),
    Save(Edits),
    Feature(u32),
    Sample(u32),
    Scores,
    Report,
    Quit,
}

/// What is done first of all that is wanted. Nothing that was written is lost by opening another run or by quitting.
fn first(wanted: &mut Wanted) -> Option<Task> {
    if let Some(save) = wanted.saves.pop_front() {
        return Some(Task::Save(save));
    }
    if wanted.quit {
        return Some(Task::Quit);
    }
    if let Some((generation, link)) = wanted.open.take() {
        return Some(Task::Open(generation, link));
    }
    if let Some(feature) = wanted.feature.take() {
        return Some(Task::Feature(feature));
    }
    if !wanted.samples.is_empty() {
        return Some(Task::Sample(wanted.samples.remove(0)));
    }
    if std::mem::take(&mut wanted.scores) {
        return Some(Task::Scores);
    }
    std::mem::take(&mut wanted.report).then_some(Task::Report)
}

/// The run that is open.
struct Current {
    generation: u64,
    run: Run,
    sae: String,
    tables: Tables,
    samples: Samples,
    watch: Watch,
    reported: bool,
}

fn work(desk: &Desk<Wanted>, data: Option<&Path>, sender: &Sender<(u64, Reply)>, wake: &impl Fn()) {
    let mut current: Option<Current> = None;
    let mut generation = 0;
    let mut waiting: Vec<(Edits, String)> = Vec::new();
    loop {
        let reply = |generation, reply| {
            // The window may be gone; then `quit` comes next.
            let _ = sender.send((generation, reply));
            wake();
        };
        match (desk.next(WATCH, first), &mut current) {
            (Some(Task::Quit), _) => {
                waiting.retain(|(edits, _)| save(edits).is_err());
                return;
            }
            (Some(Task::Open(wanted, link)), _) => {
                generation = wanted;
                current = None;
                match guarded(|| index::open(&link)) {
                    Err(reason) => reply(generation, Reply::OpenedRun(Err(reason))),
                    Ok((opened, run)) => {
                        let (sae, features) = (opened.info.sae.clone(), opened.rows.len());
                        let watch = Watch::new(&run, &sae);
                        reply(generation, Reply::OpenedRun(Ok(opened)));
                        let tables = Tables::open(&run, &sae, features);
                        let samples = Samples::new(run.clone(), data);
                        current = Some(Current { generation, run, sae, tables, samples, watch, reported: false });
                    }
                }
            }
            (Some(Task::Save(edits)), current) => {
                let saved = save(&edits);
                if let Some(current) = current {
                    current.watch.labels_are_ours();
                }
                // The window keeps the edits of the run that is open, and sends them again; nobody else keeps others.
                let mut leaves = false;
                desk.change(|wanted| leaves = wanted.open.is_some() || wanted.quit);
                match &saved {
                    Err(reason) if leaves => {
                        let text = format!("Labels of {} are not saved yet: {reason}", edits.root.display());
                        waiting.push((edits, text));
                    }
                    _ => reply(generation, Reply::Saved(saved)),
                }
            }
            (Some(Task::Feature(number)), Some(current)) => {
                reply(current.generation, Reply::Feature(number, current.tables.read(number)));
            }
            (Some(Task::Sample(number)), Some(current)) => {
                let view = guarded(|| current.samples.read(number));
                reply(current.generation, Reply::Sample(number, view));
            }
            (Some(Task::Scores), Some(current)) => {
                let scores = guarded(|| scores::read(&current.run, &current.sae));
                reply(current.generation, Reply::Scores(scores));
            }
            (Some(Task::Report), Some(current)) => {
                current.reported = true;
                reply(current.generation, Reply::Report(report::read(&current.run)));
            }
            (None, Some(current)) => {
                waiting.retain(|(edits, _)| save(edits).is_err());
                if let Some((_, text)) = waiting.first() {
                    reply(current.generation, Reply::Waiting(text.clone()));
                }
                for changed in current.watch.look() {
                    match changed {
                        Changed::Labels => {
                            let labels = guarded(|| Labels::read(&current.run).map_err(|error| error.message()));
                            reply(current.generation, Reply::Labels(labels));
                        }
                        Changed::Index => reply(current.generation, Reply::IndexChanged),
                        Changed::Report if current.reported => {
                            reply(current.generation, Reply::Report(report::read(&current.run)));
                        }
                        Changed::Report => {}
                    }
                }
            }
            (_, None) => {}
        }
    }
}

fn save(edits: &Edits) -> Result<Saved, String> {
    guarded(|| {
        let run = Run::open(&edits.root).map_err(|error| error.message())?;
        Labels::save(&run, &edits.sae, &edits.changes, &edits.known).map_err(|error| error.message())
    })
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
    fn edits_are_written_before_another_run_is_opened_and_before_the_end() {
        let save = || Edits { root: "r".into(), sae: "base".into(), changes: vec![], known: Labels::default() };
        let mut wanted = Wanted { quit: true, open: Some((1, Link::default())), ..Wanted::default() };
        wanted.saves.extend([save(), save()]);
        assert!(matches!(first(&mut wanted), Some(Task::Save(_))));
        assert!(matches!(first(&mut wanted), Some(Task::Save(_))));
        assert!(matches!(first(&mut wanted), Some(Task::Quit)));
    }
}
