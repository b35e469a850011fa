//! The worker that reads everything that is a file of the run, saves labels, and notices what others write. Computes nothing from
//! weights.

use super::mailbox::{Mailbox, Worker};
use super::open;
use super::sample::Samples;
use super::tables::Tables;
use super::watch::{Changed, Watch};
use super::{contrast, folders, guarded, message, pictures, probe, remote, report, scores, writing};
use crate::state::Link;
use crate::state::contrast::AnyContrast;
use crate::state::details::Details;
use crate::state::guard::GuardOption;
use crate::state::label_edits::Edits;
use crate::state::open_dialog::FolderEntry;
use crate::state::report::RunReport;
use crate::state::run_info::OpenedRun;
use crate::state::sample::{Picture, SampleData};
use crate::state::score_filter::Scores;
use filters::select::Groups;
use sae_core::Run;
use sae_core::analysis::labels::{Labels, Saved};
use sae_workbench::caption_search::CaptionSearch;
use sae_workbench::{ProbeReport, RemoteRun};
use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

/// How often the files of the open run are looked at.
const WATCH_INTERVAL: Duration = Duration::from_millis(1500);
/// How often a server is asked for what has been written.
const ASK_INTERVAL: Duration = Duration::from_secs(4);

/// What the loader has read.
pub enum Reply {
    /// The run that was asked for.
    Opened(Result<Box<OpenedRun>, String>),
    /// What the index holds about a feature.
    Feature(u32, Details),
    /// A sample.
    Sample(u32, Result<SampleData, String>),
    /// The samples that a search found.
    FoundSamples(String, Result<Vec<u32>, String>),
    /// For each feature, the share of the captions of its strongest examples that contain a text.
    Captions(String, Result<Vec<f32>, String>),
    /// A picture of a sample at full size: sample, picture.
    Picture(u32, usize, Result<Picture, String>),
    /// A picture of a sample to copy, or one that was saved as this file.
    Exported(Option<PathBuf>, Result<Picture, String>),
    /// The score table.
    Scores(Result<Scores, String>),
    /// The groups that columns of the data set divide the samples into.
    Groups(String, Result<Groups, String>),
    /// Provenance, curves and evaluations; again whenever they change.
    Report(RunReport),
    /// The names of the contrasts, after one was made, made again or removed.
    Contrasts(Vec<String>),
    /// A contrast.
    Contrast(String, AnyContrast),
    /// The names of the probes, after one was made, made again or removed.
    Probes(Vec<String>),
    /// A probe.
    Probe(String, Box<Result<ProbeReport, String>>),
    /// Which probes can be a guard.
    Guards(Vec<GuardOption>),
    /// Edits of labels were saved, or could not be, whatever run is open by now.
    Saved(Edits, Result<Saved, String>),
    /// Somebody else wrote labels.
    Labels(Result<Labels, String>),
    /// The folders in a folder.
    Folders(PathBuf, Result<Vec<FolderEntry>, String>),
    /// Somebody else wrote a table that is not read again by itself, or a server does not answer; what to say about it.
    Changed(String),
}

/// The window's end of the loader.
pub struct Loader {
    worker: Worker<Requests>,
    replies: Receiver<(u64, Reply)>,
    /// Number of the run that was asked for last.
    requested: u64,
    /// Number of the run that is open. Replies about others are dropped.
    open: u64,
}

#[derive(Default)]
struct Requests {
    open: Option<(u64, Link)>,
    /// Of whichever run they were made in: never dropped.
    saves: VecDeque<Edits>,
    features: Vec<u32>,
    samples: Vec<u32>,
    picture: Option<(u32, usize)>,
    export: Option<(u32, usize, Option<PathBuf>)>,
    search: Option<String>,
    captions: Vec<String>,
    scores: bool,
    groups: Option<String>,
    report: bool,
    contrast: Option<String>,
    probe: Option<String>,
    guards: bool,
    data: Option<PathBuf>,
    folder: Option<PathBuf>,
    quit: bool,
}

impl Loader {
    /// Starts the worker. `data` overrides where the run says that its data set is. `wake` is called after every reply.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn start(data: Option<PathBuf>, wake: impl Fn() + Send + 'static) -> std::io::Result<Self> {
        let (sender, replies) = channel();
        // A closed window still waits until its labels are saved.
        let quit = |requests: &mut Requests| requests.quit = true;
        let worker = Worker::start("loader", quit, true, move |mailbox| work(mailbox, data, &sender, &wake))?;
        Ok(Self { worker, replies, requested: 0, open: 0 })
    }

    /// Asks for a run instead of whichever was asked for before.
    pub fn open(&mut self, link: Link) {
        self.requested += 1;
        let number = self.requested;
        self.worker.change(|requests| requests.open = Some((number, link)));
    }

    /// Asks what the index holds about these features, and no longer about others.
    pub fn request_features(&self, features: Vec<u32>) {
        self.worker.change(|requests| requests.features = features);
    }

    /// Asks for these samples, the first one first, and no longer for others.
    pub fn request_samples(&self, samples: Vec<u32>) {
        self.worker.change(|requests| requests.samples = samples);
    }

    /// Asks for a picture of a sample at full size.
    pub fn request_picture(&self, sample: u32, picture: usize) {
        self.worker.change(|requests| requests.picture = Some((sample, picture)));
    }

    /// Asks for a picture of a sample at full size, to copy it, or for it to be saved as a new file.
    pub fn export_picture(&self, sample: u32, picture: usize, file: Option<PathBuf>) {
        self.worker.change(|requests| requests.export = Some((sample, picture, file)));
    }

    /// Asks for the samples whose captions or keys have these words.
    pub fn request_search(&self, text: String) {
        self.worker.change(|requests| requests.search = Some(text));
    }

    /// Asks in which captions of the features' strongest examples these texts are, and no longer about others.
    pub fn request_captions(&self, texts: Vec<String>) {
        self.worker.change(|requests| requests.captions = texts);
    }

    /// Asks for the score table.
    pub fn request_scores(&self) {
        self.worker.change(|requests| requests.scores = true);
    }

    /// Asks for the groups that columns of the data set divide the samples into.
    pub fn request_groups(&self, fields: String) {
        self.worker.change(|requests| requests.groups = Some(fields));
    }

    /// Asks for provenance, curves and evaluations, now and whenever they change.
    pub fn request_report(&self) {
        self.worker.change(|requests| requests.report = true);
    }

    /// Asks for a contrast, and no longer for another one.
    pub fn request_contrast(&self, name: String) {
        self.worker.change(|requests| requests.contrast = Some(name));
    }

    /// Asks for a probe, and no longer for another one.
    pub fn request_probe(&self, name: String) {
        self.worker.change(|requests| requests.probe = Some(name));
    }

    /// Asks which probes can be a guard.
    pub fn request_guards(&self) {
        self.worker.change(|requests| requests.guards = true);
    }

    /// Says where the data set is; its pictures are looked for there from now on.
    pub fn set_data(&self, folder: PathBuf) {
        self.worker.change(|requests| requests.data = Some(folder));
    }

    /// Asks for the folders in a folder, whatever run is open.
    pub fn request_folders(&self, folder: PathBuf) {
        self.worker.change(|requests| requests.folder = Some(folder));
    }

    /// Asks for edits to be saved.
    pub fn save(&self, edits: Edits) {
        self.worker.change(|requests| requests.saves.push_back(edits));
    }

    /// Ends the worker once it has tried to save all edits. Returns those that it could not save, with the reasons.
    pub fn finish(&mut self) -> Vec<(Edits, String)> {
        self.worker.finish();
        let failed = |reply| match reply {
            Reply::Saved(edits, Err(reason)) => Some((edits, reason)),
            _ => None,
        };
        self.replies().into_iter().filter_map(failed).collect()
    }

    /// What has been read since the last call.
    pub fn replies(&mut self) -> Vec<Reply> {
        let mut replies = Vec::new();
        for (number, reply) in self.replies.try_iter() {
            let wanted = match &reply {
                Reply::Opened(result) => {
                    let wanted = number == self.requested;
                    if wanted && result.is_ok() {
                        self.open = number;
                    }
                    wanted
                }
                Reply::Saved(..) | Reply::Folders(..) => true,
                _ => number == self.open,
            };
            if wanted {
                replies.push(reply);
            }
        }
        replies
    }
}

enum Task {
    Open(u64, Link),
    Save(Edits),
    Data(PathBuf),
    Folders(PathBuf),
    Feature(u32),
    Sample(u32),
    Picture(u32, usize),
    Export(u32, usize, Option<PathBuf>),
    Search(String),
    Captions(String),
    Scores,
    Groups(String),
    Report,
    Contrast(String),
    Probe(String),
    Guards,
    Quit,
}

/// The most urgent task. No edit is lost by opening another run or by closing the window.
fn take_task(requests: &mut Requests) -> Option<Task> {
    if let Some(save) = requests.saves.pop_front() {
        return Some(Task::Save(save));
    }
    if requests.quit {
        return Some(Task::Quit);
    }
    if let Some((number, link)) = requests.open.take() {
        return Some(Task::Open(number, link));
    }
    if let Some(folder) = requests.data.take() {
        return Some(Task::Data(folder));
    }
    if let Some(folder) = requests.folder.take() {
        return Some(Task::Folders(folder));
    }
    if !requests.features.is_empty() {
        return Some(Task::Feature(requests.features.remove(0)));
    }
    if let Some((sample, picture)) = requests.picture.take() {
        return Some(Task::Picture(sample, picture));
    }
    if let Some((sample, picture, file)) = requests.export.take() {
        return Some(Task::Export(sample, picture, file));
    }
    if let Some(text) = requests.search.take() {
        return Some(Task::Search(text));
    }
    if !requests.captions.is_empty() {
        return Some(Task::Captions(requests.captions.remove(0)));
    }
    if !requests.samples.is_empty() {
        return Some(Task::Sample(requests.samples.remove(0)));
    }
    if std::mem::take(&mut requests.scores) {
        return Some(Task::Scores);
    }
    if let Some(fields) = requests.groups.take() {
        return Some(Task::Groups(fields));
    }
    if let Some(name) = requests.contrast.take() {
        return Some(Task::Contrast(name));
    }
    if let Some(name) = requests.probe.take() {
        return Some(Task::Probe(name));
    }
    if std::mem::take(&mut requests.guards) {
        return Some(Task::Guards);
    }
    std::mem::take(&mut requests.report).then_some(Task::Report)
}

/// The run that is open.
struct Current {
    number: u64,
    run: Run,
    /// Where the run is, as edits name it.
    origin: PathBuf,
    /// The server that has the run, when it was asked last, and whether it answered.
    remote: Option<(Arc<RemoteRun>, Instant, bool)>,
    sae: Option<String>,
    tables: Option<Tables>,
    samples: Samples,
    /// Number of features in the index.
    features: usize,
    /// Read when captions are first searched.
    captions: Option<Result<CaptionSearch, String>>,
    watch: Watch,
    reported: bool,
}

impl Current {
    fn new(
        number: u64,
        (opened, run, remote): (&OpenedRun, Run, Option<Arc<RemoteRun>>),
        data: Option<&PathBuf>,
    ) -> Self {
        let sae = opened.info.sae.clone();
        let with_index = sae.as_ref().filter(|_| !opened.rows.is_empty());
        Self {
            number,
            origin: opened.info.origin(),
            tables: with_index.map(|sae| Tables::open(&run, sae, opened.rows.len())),
            samples: Samples::new(run.clone(), data.map(PathBuf::as_path), remote.clone()),
            remote: remote.map(|remote| (remote, Instant::now(), true)),
            features: opened.rows.len(),
            captions: None,
            watch: Watch::new(&run, sae.as_deref()),
            reported: false,
            sae,
            run,
        }
    }

    /// Whether edits are of this run and autoencoder.
    fn is_of(&self, edits: &Edits) -> bool {
        self.origin == edits.origin && self.sae.as_deref() == Some(&edits.sae)
    }

    /// For each feature, the share of the captions of its strongest examples that contain a text.
    fn captions(&mut self, text: &str) -> Result<Vec<f32>, String> {
        let sae = self.sae.as_ref().ok_or("The run has no autoencoder.")?;
        let open = || {
            let search = CaptionSearch::open(&self.run, sae, self.features);
            search.map_err(|error| format!("Captions cannot be searched ({error}). Make the index again."))
        };
        let search = self.captions.get_or_insert_with(|| guarded(open)).as_ref().map_err(Clone::clone)?;
        guarded(|| {
            let (samples, paths) = self.samples.all()?;
            Ok(search.shares(samples, paths, text))
        })
    }

    fn scores(&self) -> Result<Scores, String> {
        let sae = self.sae.as_ref().ok_or("The run has no autoencoder, so it has no scores.")?;
        guarded(|| scores::read(&self.run, sae))
    }

    /// Copies what has been written on a server. Says once that the server does not answer.
    fn copy(&mut self) -> Option<Reply> {
        let (remote, asked, answers) = self.remote.as_mut().filter(|(_, asked, _)| asked.elapsed() >= ASK_INTERVAL)?;
        let copied = remote.copy(self.sae.as_deref());
        *asked = Instant::now();
        let answered = std::mem::replace(answers, copied.is_ok());
        match copied {
            Err(error) if answered => Some(Reply::Changed(message(error))),
            _ => None,
        }
    }

    fn changes(&mut self) -> Vec<Reply> {
        let said = self.copy();
        let changed = self.watch.look();
        let reply = |changed| match changed {
            Changed::Labels => {
                let labels = guarded(|| Labels::read(&self.run).map_err(|error| error.message()));
                Some(Reply::Labels(labels))
            }
            Changed::Index => Some(Reply::Changed("The index has changed on disk: F5 reads it.".into())),
            Changed::Scores => Some(Reply::Changed("The scores have changed on disk: F5 reads them.".into())),
            Changed::Contrasts => Some(Reply::Contrasts(self.run.list("contrasts"))),
            Changed::Probes => Some(Reply::Probes(probe::names(&self.run, self.sae.as_deref()))),
            Changed::Report => self.reported.then(|| Reply::Report(report::read(&self.run))),
        };
        said.into_iter().chain(changed.into_iter().filter_map(reply)).collect()
    }
}

fn work(mailbox: &Mailbox<Requests>, mut data: Option<PathBuf>, sender: &Sender<(u64, Reply)>, wake: &impl Fn()) {
    let mut current: Option<Current> = None;
    // Labels may be saved when another run is open.
    let mut servers: Vec<Arc<RemoteRun>> = Vec::new();
    let reply = |number, reply| {
        // The window may be gone; then `quit` comes next.
        let _ = sender.send((number, reply));
        wake();
    };
    loop {
        match (mailbox.next(WATCH_INTERVAL, take_task), &mut current) {
            (Some(Task::Quit), _) => return,
            (Some(Task::Open(number, link)), _) => match guarded(|| open::open(&link)) {
                Err(reason) => reply(number, Reply::Opened(Err(reason))),
                Ok((opened, run, remote)) => {
                    servers.extend(remote.clone());
                    current = Some(Current::new(number, (&opened, run, remote), data.as_ref()));
                    reply(number, Reply::Opened(Ok(Box::new(opened))));
                }
            },
            (Some(Task::Save(edits)), current) => {
                let saved = save(&edits);
                // What a failed save and one of other labels leave on disk is still to be read.
                if let Some(current) = current
                    && saved.is_ok()
                    && current.is_of(&edits)
                {
                    current.watch.labels_are_known();
                }
                reply(0, Reply::Saved(edits, saved));
            }
            (Some(Task::Data(folder)), current) => {
                if let Some(current) = current {
                    let remote = current.remote.as_ref().map(|(remote, ..)| remote.clone());
                    current.samples = Samples::new(current.run.clone(), Some(&folder), remote);
                }
                data = Some(folder);
            }
            (Some(Task::Folders(folder)), _) => {
                let found = guarded(|| folders::list(&folder));
                reply(0, Reply::Folders(folder, found));
            }
            (Some(Task::Feature(number)), Some(Current { number: run, tables: Some(tables), .. })) => {
                reply(*run, Reply::Feature(number, tables.read(number)));
            }
            (Some(Task::Sample(number)), Some(current)) => {
                let view = guarded(|| current.samples.read(number));
                reply(current.number, Reply::Sample(number, view));
            }
            (Some(Task::Picture(sample, picture)), Some(current)) => {
                let view = guarded(|| current.samples.picture(sample, picture));
                reply(current.number, Reply::Picture(sample, picture, view));
            }
            (Some(Task::Export(sample, picture, file)), Some(current)) => {
                let exported = guarded(|| {
                    let picture = current.samples.picture(sample, picture)?;
                    file.iter().try_for_each(|file| pictures::save(&picture, file))?;
                    Ok(picture)
                });
                reply(current.number, Reply::Exported(file, exported));
            }
            (Some(Task::Search(text)), Some(current)) => {
                let found = guarded(|| current.samples.search(&text));
                reply(current.number, Reply::FoundSamples(text, found));
            }
            (Some(Task::Captions(text)), Some(current)) => {
                let shares = current.captions(&text);
                reply(current.number, Reply::Captions(text, shares));
            }
            (Some(Task::Scores), Some(current)) => reply(current.number, Reply::Scores(current.scores())),
            (Some(Task::Groups(fields)), Some(current)) => {
                let groups = guarded(|| current.samples.groups(&fields));
                reply(current.number, Reply::Groups(fields, groups));
            }
            (Some(Task::Report), Some(current)) => {
                current.reported = true;
                reply(current.number, Reply::Report(report::read(&current.run)));
            }
            (Some(Task::Contrast(name)), Some(current)) => {
                let contrast = contrast::read(&current.run, &name);
                reply(current.number, Reply::Contrast(name, contrast));
            }
            (Some(Task::Probe(name)), Some(current)) => {
                let probe = Box::new(probe::read(&current.run, current.sae.as_deref(), &name));
                reply(current.number, Reply::Probe(name, probe));
            }
            (Some(Task::Guards), Some(current)) => {
                let guards = writing::guards(&current.run, current.sae.as_deref());
                reply(current.number, Reply::Guards(guards));
            }
            (None, Some(current)) => {
                current.changes().into_iter().for_each(|changed| reply(current.number, changed));
            }
            (Some(Task::Feature(_)), _) | (_, None) => {}
        }
    }
}

fn save(edits: &Edits) -> Result<Saved, String> {
    guarded(|| {
        if let Some(remote) = remote::at(&edits.origin) {
            return remote.save(&edits.sae, &edits.changes).map_err(message);
        }
        let run = Run::open(&edits.origin).map_err(|error| error.message())?;
        Labels::save(&run, &edits.sae, &edits.changes, &edits.on_disk).map_err(|error| error.message())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_write_is_noticed_although_labels_of_another_run_are_saved() {
        let dir = tempfile::tempdir().unwrap();
        let [closed, open] = ["closed", "open"].map(|name| Run::create(&dir.path().join(name)).unwrap());
        let mut loader = Loader::start(None, || ()).unwrap();
        let wait_for = |loader: &mut Loader, is_meant: fn(&Reply) -> bool| {
            let begun = std::time::Instant::now();
            while !loader.replies().iter().any(is_meant) {
                assert!(begun.elapsed() < Duration::from_secs(30), "the loader does not say so");
                std::thread::sleep(Duration::from_millis(5));
            }
        };
        loader.open(Link::to_run(open.root()));
        wait_for(&mut loader, |reply| matches!(reply, Reply::Opened(Ok(_))));
        Labels::save(&open, "base", &[], &Labels::default()).unwrap();
        let (root, sae) = (closed.root().to_path_buf(), "base".to_owned());
        loader.save(Edits { origin: root, sae, changes: vec![], on_disk: Labels::default() });
        wait_for(&mut loader, |reply| matches!(reply, Reply::Labels(Ok(_))));
    }

    #[test]
    fn edits_are_saved_before_another_run_is_opened_and_before_the_end() {
        let save = || Edits { origin: "r".into(), sae: "base".into(), changes: vec![], on_disk: Labels::default() };
        let mut requests = Requests { quit: true, open: Some((1, Link::default())), ..Requests::default() };
        requests.saves.extend([save(), save()]);
        assert!(matches!(take_task(&mut requests), Some(Task::Save(_))));
        assert!(matches!(take_task(&mut requests), Some(Task::Save(_))));
        assert!(matches!(take_task(&mut requests), Some(Task::Quit)));
    }
}
