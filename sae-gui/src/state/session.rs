//! The app between two frames: which run is open, what lies over the pages, and what commands do to that. Asks for work by
//! returning [`Effect`]s; does none itself.

use super::clipboard;
use super::command::Command;
use super::details::Details;
use super::effect::{Effect, Theme};
use super::format;
use super::history::{History, VisitKind};
use super::invocation::{Afterwards, Invocation};
use super::job::{Job, JobState};
use super::label_dialog::{LabelCost, LabelDialog, LabelEndpoint};
use super::label_edits::{Edits, LabelEdits};
use super::link::Link;
use super::location::{Location, Page};
use super::open_dialog::OpenDialog;
use super::open_run::{OpenRun, SampleList};
use super::overlay::{Overlay, UnsavedDialog};
use super::palette::Palette;
use super::run_info::OpenedRun;
use super::score_filter::{ScoreFilter, Scores};
use sae_core::analysis::labels::{Change, Labels, Saved};

/// Rows of the table that a page has.
const PAGE_ROWS: isize = 20;

/// Which run is open.
#[derive(Debug)]
pub enum Phase {
    /// Nothing was asked for.
    Empty,
    /// The first run is being read.
    Opening,
    /// It cannot be opened, for this reason.
    Failed(String),
    /// A run is open.
    Open(Box<OpenRun>),
}

/// The state of the app.
#[derive(Debug)]
pub struct Session {
    /// Which run is open.
    pub phase: Phase,
    /// What lies over the pages.
    pub overlay: Overlay,
    /// The last thing to say, such as "Link copied."
    pub notice: Option<String>,
    /// The command that was started last.
    pub job: Option<Job>,
    /// The chosen colors; none: those that the system prefers.
    pub theme: Option<Theme>,
    /// Whether the table of features is hidden on their page.
    pub table_hidden: bool,
    /// The endpoint that was asked for labels last.
    pub endpoint: LabelEndpoint,
    /// The link that is being opened, or that was opened last.
    requested: Option<Link>,
    /// Whether a run is being read.
    opening: bool,
    /// Whether the window is to be closed once all edits are saved.
    quitting: bool,
    /// The labels of runs that were closed before all of their edits were saved.
    closed: Vec<LabelEdits>,
}

impl Default for Session {
    fn default() -> Self {
        Self {
            phase: Phase::Empty,
            overlay: Overlay::None,
            notice: None,
            job: None,
            theme: None,
            table_hidden: false,
            endpoint: LabelEndpoint::default(),
            requested: None,
            opening: false,
            quitting: false,
            closed: Vec::new(),
        }
    }
}

impl Session {
    /// Begins to open a run. The one that is open stays open until the other has been read. What is being typed is saved.
    #[must_use]
    pub fn open(&mut self, link: Link) -> Vec<Effect> {
        let save = self.commit();
        self.requested = Some(link.clone());
        self.opening = true;
        self.notice = None;
        if self.run().is_none() {
            self.phase = Phase::Opening;
        }
        save.into_iter().chain([Effect::Open(link)]).collect()
    }

    /// Begins to open what was typed: a path or a link.
    #[must_use]
    pub fn open_text(&mut self, text: &str) -> Vec<Effect> {
        match Link::parse(text.trim()) {
            Ok(link) => self.open(link),
            Err(reason) => {
                self.fail(reason);
                Vec::new()
            }
        }
    }

    /// The link that is being opened, or that was opened last.
    pub fn requested(&self) -> Option<&Link> {
        self.requested.as_ref()
    }

    /// Whether a run is being read.
    pub fn is_opening(&self) -> bool {
        self.opening
    }

    /// Takes the run that has been read, or the reason why it cannot be opened.
    pub fn opened(&mut self, result: Result<OpenedRun, String>) -> Vec<Effect> {
        self.opening = false;
        match result {
            Err(reason) => {
                self.fail(reason);
                Vec::new()
            }
            Ok(opened) => {
                let link = self.requested.clone().unwrap_or_default();
                let (mut run, notice) = OpenRun::new(opened, &link);
                // Edits that are not saved yet go on: in the run if it is the same one, else until they are saved.
                let before = self.run_mut().map(|before| std::mem::take(&mut before.label_edits));
                self.closed.extend(before);
                let is_same = |edits: &LabelEdits| edits.is_of(&run.info.origin(), run.info.sae_name());
                if let Some(at) = self.closed.iter().position(is_same) {
                    run.adopt_edits(self.closed.remove(at));
                }
                self.closed.iter_mut().for_each(LabelEdits::commit);
                if let Phase::Open(before) = std::mem::replace(&mut self.phase, Phase::Empty)
                    && before.is_same_as(&run)
                {
                    run.adopt(*before, &link);
                }
                self.phase = Phase::Open(Box::new(run));
                self.overlay = Overlay::None;
                self.notice = notice.or(self.notice.take());
                let save = self.save_all();
                save.into_iter().chain([Effect::Opened, Effect::Reveal]).collect()
            }
        }
    }

    /// Says why something cannot be opened, where the person is looking.
    fn fail(&mut self, reason: String) {
        match (&mut self.overlay, &self.phase) {
            (Overlay::Open(dialog), _) => dialog.problem = Some(reason),
            (_, Phase::Open(_)) => self.notice = Some(reason),
            _ => self.phase = Phase::Failed(reason),
        }
    }

    /// Takes the score table.
    pub fn scored(&mut self, scores: Result<Scores, String>) {
        if let Some(run) = self.run_mut() {
            let none = || "The score table has no scores.".to_owned();
            run.set_scores(scores.and_then(|scores| ScoreFilter::new(scores).ok_or_else(none)));
        }
    }

    /// Takes the answer of the writer of labels to some edits, whether their run is still open or not.
    pub fn saved(&mut self, edits: &Edits, result: Result<Saved, String>) -> Vec<Effect> {
        let failed = result.is_err();
        let open = match &mut self.phase {
            Phase::Open(run) => Some(&mut run.label_edits),
            _ => None,
        };
        let is_meant = |own: &&mut LabelEdits| own.is_of(&edits.origin, &edits.sae);
        let Some(own) = self.closed.iter_mut().chain(open).find(is_meant) else { return Vec::new() };
        let told = own.saved(result);
        self.notice = told.or(self.notice.take());
        let left = self.unsaved().0;
        if failed {
            if std::mem::take(&mut self.quitting) {
                self.overlay = Overlay::Unsaved(UnsavedDialog::default());
            }
            // Tried again by `retry`, as otherwise a full disk would be asked without a pause.
            return Vec::new();
        }
        if self.quitting && left == 0 {
            return vec![Effect::Quit];
        }
        if left == 0 && matches!(self.overlay, Overlay::Unsaved(_)) {
            self.overlay = Overlay::None;
        }
        self.save_all()
    }

    /// Makes edits of the open run that an earlier session could not save.
    pub fn recover(&mut self, changes: Vec<Change>) -> Option<Effect> {
        let run = self.run_mut()?;
        let count = format::counted(changes.len(), "edit");
        run.label_edits.recover(changes);
        self.notice = Some(format!("{count} that could not be saved the last time: made again."));
        self.edited()
    }

    /// Tries again to save edits after a failure. Called every few seconds.
    pub fn retry(&mut self) -> Vec<Effect> {
        if self.unsaved().1.is_some() { self.save_all() } else { Vec::new() }
    }

    /// The labels with edits that are not saved: those of the open run, and of runs that were closed.
    pub fn unsaved_labels(&self) -> impl Iterator<Item = &LabelEdits> {
        let open = self.run().map(|run| &run.label_edits);
        open.into_iter().chain(&self.closed).filter(|edits| edits.unsaved().0 > 0)
    }

    /// The number of edits that are not saved, of all runs, and why the last attempt to save some of them failed.
    pub fn unsaved(&self) -> (usize, Option<String>) {
        let count = self.unsaved_labels().map(|edits| edits.unsaved().0).sum();
        let reason = |edits: &LabelEdits| {
            let reason = edits.unsaved().1?;
            let is_open = self.run().is_some_and(|run| run.info.origin() == edits.origin());
            Some(if is_open { reason.to_owned() } else { format!("{}: {reason}", edits.origin().display()) })
        };
        (count, self.unsaved_labels().find_map(reason))
    }

    /// Sends all edits to the writer that it does not have yet, unless it is still at work on others of the same labels.
    fn save_all(&mut self) -> Vec<Effect> {
        self.closed.retain(|edits| edits.unsaved().0 > 0);
        let closed: Vec<_> = self.closed.iter_mut().filter_map(LabelEdits::send).map(Effect::Save).collect();
        closed.into_iter().chain(self.edited()).collect()
    }

    /// What is to be saved at the end of the program, with what is being typed.
    pub fn take_unsent(&mut self) -> Vec<Edits> {
        let open = match &mut self.phase {
            Phase::Open(run) => Some(&mut run.label_edits),
            _ => None,
        };
        let take = |edits: &mut LabelEdits| {
            edits.commit();
            edits.take_unsent()
        };
        self.closed.iter_mut().chain(open).filter_map(take).collect()
    }

    /// Takes labels that somebody else wrote.
    pub fn labels_changed(&mut self, labels: Result<Labels, String>) {
        match labels {
            Ok(labels) => {
                if let Some(run) = self.run_mut() {
                    run.label_edits.merge(labels);
                    run.list.set_annotations(super::annotations::Annotations::new(run.label_edits.written()));
                }
            }
            Err(cause) => self.notice = Some(format!("The labels were changed and cannot be read: {cause}")),
        }
    }

    /// Saves what was edited.
    pub fn edited(&mut self) -> Option<Effect> {
        self.run_mut()?.edits().map(Effect::Save)
    }

    /// Makes an edit of what is being typed, and saves it.
    fn commit(&mut self) -> Option<Effect> {
        self.run_mut()?.label_edits.commit();
        self.edited()
    }

    /// Notes that a command was started.
    pub fn started(&mut self, invocation: Invocation) {
        self.job = Some(Job::new(invocation));
    }

    /// Takes how the command ended, and reads its run again if that is the one that is open.
    pub fn ended(&mut self, state: JobState) -> Vec<Effect> {
        let Some(job) = &mut self.job else { return Vec::new() };
        job.state = state;
        let (JobState::Done(_), Afterwards::Reload(root)) = (&job.state, &job.invocation.afterwards) else {
            return Vec::new();
        };
        let is_open = matches!(&self.phase, Phase::Open(run) if run.info.root == *root);
        if is_open && !self.opening {
            return self.apply(Command::Reload);
        }
        self.notice = Some(format!("{} is done: {}", job.invocation.title, root.display()));
        Vec::new()
    }

    /// Takes what the index holds about a feature.
    pub fn detailed(&mut self, feature: u32, details: Details) {
        if let Some(run) = self.run_mut() {
            run.insert_details(feature, details);
        }
    }

    /// The run that is open.
    pub fn run(&self) -> Option<&OpenRun> {
        match &self.phase {
            Phase::Open(run) => Some(run),
            _ => None,
        }
    }

    /// The run that is open, to change it.
    pub fn run_mut(&mut self) -> Option<&mut OpenRun> {
        match &mut self.phase {
            Phase::Open(run) => Some(run),
            _ => None,
        }
    }

    /// Shows a location, if it exists.
    pub fn go(&mut self, location: Location, kind: VisitKind) -> Option<Effect> {
        self.notice = None;
        let run = self.run_mut()?;
        if !run.has(location) {
            return None;
        }
        // The tabs "Features" and "Sample" lead to what was shown on these pages last.
        let location = match location {
            Location::Page(Page::Features) => run.feature_number().map_or(location, Location::Feature),
            Location::Page(Page::Sample) => Location::Sample(run.sample()),
            Location::Page(Page::Compare) => run.feature_number().map_or(location, Location::Compare),
            location => location,
        };
        run.label_edits.commit();
        run.history.visit(location, kind);
        run.arrive();
        self.edited()
    }

    /// Shows a sample of a list, which Next and Previous then walk.
    pub fn go_to_sample(&mut self, sample: u32, list: SampleList) -> Option<Effect> {
        let saved = self.go(Location::Sample(sample), VisitKind::Chosen);
        if let Some(run) = self.run_mut() {
            run.sample_list = Some(list);
        }
        saved
    }

    /// Opens another autoencoder of the run.
    #[must_use]
    pub fn switch_sae(&mut self, sae: &str) -> Vec<Effect> {
        let Some(run) = self.run() else { return Vec::new() };
        let page = run.page();
        let location = (page != Page::Features).then(|| run.history.current()).flatten();
        self.open(Link { sae: Some(sae.into()), location, ..Link::to_run(run.info.root.clone()) })
    }

    /// Closes the window, once everything is saved. Asks what to do if it cannot be saved.
    #[must_use]
    pub fn quit(&mut self) -> Vec<Effect> {
        if let Some(run) = self.run_mut() {
            run.label_edits.commit();
        }
        if self.may_close() {
            return vec![Effect::Quit];
        }
        self.quitting = true;
        self.save_all()
    }

    /// Whether the window may close at once.
    pub fn may_close(&self) -> bool {
        self.unsaved().0 == 0
    }

    /// Whether a command can do anything now.
    pub fn allows(&self, command: Command) -> bool {
        let run = self.run();
        let history = |leads: fn(&History) -> bool| run.is_some_and(|run| leads(&run.history));
        let labels = |leads: fn(&LabelEdits) -> bool| run.is_some_and(|run| leads(&run.label_edits));
        let on_feature = || run.is_some_and(|run| run.page() == Page::Features && run.feature().is_some());
        let trained = || run.is_some_and(|run| run.info.sae_info().is_some_and(|sae| sae.trained));
        let idle = || !self.job.as_ref().is_some_and(Job::is_running);
        match command {
            Command::Reload => self.requested.is_some(),
            Command::MakeIndex | Command::MakeScores => trained() && idle(),
            Command::CopyLink | Command::CopyTable | Command::Search | Command::Page(_) => run.is_some(),
            Command::Next | Command::Previous | Command::First | Command::Last => {
                run.is_some_and(|run| matches!(run.page(), Page::Features | Page::Sample))
            }
            Command::PageDown | Command::PageUp => run.is_some_and(|run| run.page() == Page::Features),
            Command::EditLabel | Command::Star | Command::CopyJson => on_feature(),
            Command::AskLabel => on_feature() && trained(),
            Command::Undo => labels(LabelEdits::has_undo),
            Command::Redo => labels(LabelEdits::has_redo),
            Command::Dismiss => {
                let narrowed = |run: &OpenRun| {
                    if run.page() == Page::Samples {
                        return !run.samples.selected().is_empty() || !run.samples.text.is_empty();
                    }
                    let list = &run.list;
                    !list.search_text().is_empty() || list.restricted_to().is_some() || !list.selected().is_empty()
                };
                self.overlay.is_open() || run.is_some_and(narrowed)
            }
            Command::Back => history(History::has_back),
            Command::Forward => history(History::has_forward),
            Command::Open
            | Command::Quit
            | Command::CopyPicture
            | Command::Palette
            | Command::ToggleTable
            | Command::ThemeSystem
            | Command::ThemeLight
            | Command::ThemeDark
            | Command::Shortcuts => true,
        }
    }

    /// Runs a command.
    pub fn apply(&mut self, command: Command) -> Vec<Effect> {
        if !self.allows(command) {
            return Vec::new();
        }
        self.notice = None;
        match command {
            Command::Reload => {
                // The link says nothing of the view, so that everything stays as it is when the run has been read.
                let same = |run: &OpenRun| Link { sae: run.info.sae.clone(), ..Link::to_run(run.info.root.clone()) };
                let link = self.run().map(same).or_else(|| self.requested.clone());
                link.map(|link| self.open(link)).unwrap_or_default()
            }
            Command::CopyLink => self.copy("Link copied.", |run| Some(run.link().to_string())),
            Command::CopyJson => self.copy("Feature copied as JSON.", clipboard::feature_json),
            Command::CopyTable => self.copy("Table copied as CSV.", |run| Some(clipboard::table_csv(&run.list))),
            Command::CopyPicture => vec![Effect::CopyPicture],
            Command::Open => self.show_overlay(Overlay::Open(OpenDialog::default())),
            Command::Palette => self.show_overlay(Overlay::Palette(Palette::default())),
            Command::Shortcuts => {
                let shown = matches!(self.overlay, Overlay::Shortcuts);
                self.show_overlay(if shown { Overlay::None } else { Overlay::Shortcuts })
            }
            Command::MakeIndex => self.confirm(Invocation::index),
            Command::MakeScores => self.confirm(Invocation::score),
            Command::Quit => self.quit(),
            Command::Undo => self.undo_or_redo(LabelEdits::undo),
            Command::Redo => self.undo_or_redo(LabelEdits::redo),
            Command::EditLabel => {
                self.run().and_then(OpenRun::feature_number).map(Effect::FocusLabel).into_iter().collect()
            }
            Command::AskLabel => {
                let Some(run) = self.run() else { return Vec::new() };
                let selected: Vec<u32> = run.list.selected().iter().copied().collect();
                let features = if selected.is_empty() { run.feature_number().into_iter().collect() } else { selected };
                self.ask_labels(features)
            }
            Command::Star => self.star(),
            Command::Page(page) => self.go(Location::Page(page), VisitKind::Chosen).into_iter().collect(),
            Command::Next => self.step(1),
            Command::Previous => self.step(-1),
            Command::PageDown => self.step(PAGE_ROWS),
            Command::PageUp => self.step(-PAGE_ROWS),
            // Far enough to reach either end from anywhere.
            Command::First => self.step(isize::from(i16::MIN) * isize::from(i16::MAX)),
            Command::Last => self.step(isize::from(i16::MAX) * isize::from(i16::MAX)),
            Command::Back => self.move_in_history(History::back),
            Command::Forward => self.move_in_history(History::forward),
            // The page of samples has a search of its own.
            Command::Search if self.run().is_some_and(|run| run.page() == Page::Samples) => {
                vec![Effect::FocusSearch(Page::Samples)]
            }
            Command::Search => {
                self.table_hidden = false;
                let save = self.go(Location::Page(Page::Features), VisitKind::Chosen);
                save.into_iter().chain([Effect::FocusSearch(Page::Features)]).collect()
            }
            Command::Dismiss => self.dismiss(),
            Command::ToggleTable => {
                self.table_hidden = !self.table_hidden;
                Vec::new()
            }
            Command::ThemeSystem => self.set_theme(None),
            Command::ThemeLight => self.set_theme(Some(Theme::Light)),
            Command::ThemeDark => self.set_theme(Some(Theme::Dark)),
        }
    }

    /// Closes the overlay, else clears the selection, else the restriction to features of the map, else the search.
    fn dismiss(&mut self) -> Vec<Effect> {
        if self.overlay.is_open() {
            return self.show_overlay(Overlay::None);
        }
        if let Some(run) = self.run_mut() {
            if run.page() == Page::Samples {
                run.samples.dismiss();
                return Vec::new();
            }
            if !run.list.selected().is_empty() {
                run.list.clear_selection();
                return Vec::new();
            }
            if run.list.restricted_to().is_some() {
                run.list.restrict(None);
            } else {
                run.list.search("");
            }
        }
        vec![Effect::Reveal]
    }

    /// Uses these colors.
    pub fn set_theme(&mut self, theme: Option<Theme>) -> Vec<Effect> {
        self.theme = theme;
        vec![Effect::Theme(theme)]
    }

    fn confirm(&mut self, invocation: fn(&super::run_info::RunInfo, &str) -> Invocation) -> Vec<Effect> {
        let Some(run) = self.run() else { return Vec::new() };
        let invocation = invocation(&run.info, run.info.sae_name());
        self.show_overlay(Overlay::Confirm(invocation))
    }

    /// Asks what it costs to ask a model for labels of features, and shows the dialog. What is being typed is saved.
    pub fn ask_labels(&mut self, features: Vec<u32>) -> Vec<Effect> {
        let save = self.commit();
        self.overlay = Overlay::AskLabel(LabelDialog::new(features.clone(), self.endpoint.clone()));
        save.into_iter().chain([Effect::EstimateLabels(features)]).collect()
    }

    /// Takes what labels cost.
    pub fn labels_estimated(&mut self, cost: Result<LabelCost, String>) {
        if let Overlay::AskLabel(dialog) = &mut self.overlay {
            dialog.cost = Some(cost);
        }
    }

    fn copy(&mut self, told: &str, text: impl FnOnce(&OpenRun) -> Option<String>) -> Vec<Effect> {
        let Some(text) = self.run().and_then(text) else { return Vec::new() };
        self.notice = Some(told.into());
        vec![Effect::Copy(text)]
    }

    fn show_overlay(&mut self, overlay: Overlay) -> Vec<Effect> {
        self.overlay = overlay;
        Vec::new()
    }

    fn star(&mut self) -> Vec<Effect> {
        if let Some(run) = self.run_mut() {
            let selected: Vec<u32> = run.list.selected().iter().copied().collect();
            if selected.is_empty() {
                run.feature_number().into_iter().for_each(|feature| run.label_edits.toggle_star(feature));
            } else {
                let all = selected.iter().all(|feature| run.list.annotations().star(*feature));
                selected.iter().for_each(|feature| run.label_edits.set_star(*feature, !all));
            }
        }
        self.edited().into_iter().collect()
    }

    fn undo_or_redo(&mut self, act: fn(&mut LabelEdits) -> Option<u32>) -> Vec<Effect> {
        let changed = self.run_mut().and_then(|run| act(&mut run.label_edits));
        let saved = self.edited();
        let moved = changed.and_then(|feature| self.go(Location::Feature(feature), VisitKind::Chosen));
        saved.into_iter().chain(moved).chain([Effect::Reveal]).collect()
    }

    fn step(&mut self, by: isize) -> Vec<Effect> {
        let Some(run) = self.run() else { return Vec::new() };
        let list = run.sample_list.clone();
        let location = match run.page() {
            Page::Sample => {
                let by = i32::try_from(by).unwrap_or(if by < 0 { i32::MIN } else { i32::MAX });
                Some(Location::Sample(run.step_sample(by)))
            }
            _ => run.list.step(run.feature_number(), by).map(Location::Feature),
        };
        let saved = location.and_then(|location| self.go(location, VisitKind::Stepped));
        if let Some(run) = self.run_mut() {
            run.sample_list = list;
        }
        saved.into_iter().chain([Effect::Reveal]).collect()
    }

    /// Goes to a visit of the history by its number, from 0.
    pub fn go_to_visit(&mut self, visit: usize) -> Vec<Effect> {
        self.move_in_history(|history| history.go_to(visit))
    }

    fn move_in_history(&mut self, act: impl FnOnce(&mut History)) -> Vec<Effect> {
        if let Some(run) = self.run_mut() {
            run.label_edits.commit();
            act(&mut run.history);
            run.arrive();
        }
        self.edited().into_iter().chain([Effect::Reveal]).collect()
    }
}

#[cfg(test)]
mod tests;
