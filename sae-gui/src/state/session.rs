//! The app between two frames: which run is open, what is looked at, what is being edited, and what commands do to that.
//! Asks for work by returning [`Effect`]s; does none itself.

use super::annotations::Annotations;
use super::command::Command;
use super::data::{Details, OpenedRun};
use super::export;
use super::history::{History, Way};
use super::hover::Hover;
use super::job::{Job, Order, Writing};
use super::label_edits::LabelEdits;
use super::link::Link;
use super::list::FeatureList;
use super::location::{Location, Page};
use super::lru::Lru;
use super::open_run::OpenRun;
use super::palette::Palette;
use super::playground::PlaygroundState;
use super::threshold::{Scores, Sieve};
use sae_core::analysis::labels::{Change, Labels, Saved};
use std::path::PathBuf;

/// Features whose details are kept. Those of one take about 5 KB.
const DETAILS: usize = 256;

/// How far opening is.
#[derive(Debug)]
pub enum Phase {
    /// Nothing was asked for.
    Empty,
    /// The loader is at it.
    Opening,
    /// It cannot be opened, for this reason.
    Failed(String),
    /// Its table is there.
    Open(Box<OpenRun>),
}

/// Edits of labels that are to be written, whatever is open by then.
#[derive(Clone, Debug, PartialEq)]
pub struct Edits {
    /// The run's folder.
    pub root: PathBuf,
    /// The autoencoder.
    pub sae: String,
    /// The edits, in order.
    pub changes: Vec<Change>,
    /// What the file was known to hold.
    pub known: Labels,
}

/// What a session cannot do itself.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Read a run.
    Open(Link),
    /// Put text into the clipboard.
    Copy(String),
    /// Put a picture of the window into the clipboard.
    CopyPicture,
    /// Put the cursor into the search field.
    FocusSearch,
    /// Put the cursor into the field of the label.
    FocusLabel,
    /// Bring the current feature's row into view.
    Reveal,
    /// Write edits.
    Save(Edits),
    /// Start a command.
    Start(Order),
    /// Change the colors; nothing: as the system says.
    Theme(Option<Theme>),
    /// Close the window.
    Quit,
}

/// What lies over the pages.
#[derive(Clone, Debug, Default)]
pub enum Sheet {
    /// Nothing.
    #[default]
    None,
    /// All shortcuts.
    Shortcuts,
    /// The field for another run, with what was typed.
    Open(String),
    /// The command palette.
    Palette(Palette),
}

/// Colors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Theme {
    /// Dark on light.
    Light,
    /// Light on dark.
    Dark,
}

/// The state of the app.
#[derive(Debug)]
pub struct Session {
    /// How far opening is.
    pub phase: Phase,
    /// What lies over the pages.
    pub sheet: Sheet,
    /// The last thing to tell, such as "Link copied".
    pub notice: Option<String>,
    /// The command that was started last.
    pub job: Option<Job>,
    /// What was asked for last.
    asked: Option<Link>,
}

impl Default for Session {
    fn default() -> Self {
        Self { phase: Phase::Empty, sheet: Sheet::None, notice: None, job: None, asked: None }
    }
}

impl Session {
    /// Begins to open a run.
    #[must_use]
    pub fn open(&mut self, link: Link) -> Effect {
        self.asked = Some(link.clone());
        self.notice = None;
        self.sheet = Sheet::None;
        self.phase = Phase::Opening;
        Effect::Open(link)
    }

    /// What was asked for last.
    pub fn asked(&self) -> Option<&Link> {
        self.asked.as_ref()
    }

    /// Takes the table of the run, or the reason why there is none.
    pub fn opened(&mut self, result: Result<OpenedRun, String>) -> Option<Effect> {
        let opened = match result {
            Ok(opened) => opened,
            Err(reason) => {
                self.phase = Phase::Failed(reason);
                return None;
            }
        };
        let list = FeatureList::new(opened.rows);
        let mut history = History::default();
        let first = list.step(None, 0);
        let wanted = self.asked.as_ref().and_then(|link| link.place);
        let place = match wanted {
            Some(Location::Feature(number)) if list.row(number).is_none() => {
                let (sae, total) = (&opened.info.sae, list.total());
                self.notice = Some(format!("There is no feature {number} in {sae}, which has {total}."));
                first.map(Location::Feature)
            }
            Some(Location::Sample(number)) if u64::from(number) >= opened.info.samples => {
                self.notice = Some(format!("Sample {number} does not exist; the run has {}.", opened.info.samples));
                first.map(Location::Feature)
            }
            None => first.map(Location::Feature),
            wanted => wanted,
        };
        if let Some(place) = place {
            history.visit(place, Way::Chosen);
        }
        let (labels, broken) = opened.labels;
        self.notice = broken.map(|cause| format!("The labels cannot be read: {cause}")).or(self.notice.take());
        let labeling = LabelEdits::new(&opened.info.sae, &opened.author, labels);
        let writing = Writing::beside(&opened.info.root);
        let mut run = OpenRun {
            info: opened.info,
            list,
            details: Lru::new(DETAILS),
            history,
            labeling,
            sieve: None,
            writing,
            trial: PlaygroundState::default(),
            report: None,
            pointing: Hover::default(),
            feature: first,
            sample: 0,
        };
        run.arrive();
        run.list.mark(Annotations::of(&run.labeling));
        let link = self.asked.clone().unwrap_or_default();
        run.trial.draft.text = link.text.unwrap_or_default();
        for row in link.set.iter().filter_map(|feature| run.list.row(*feature)) {
            run.trial.steer(row.feature, row.max);
        }
        self.phase = Phase::Open(Box::new(run));
        Some(Effect::Reveal)
    }

    /// Takes the score table.
    pub fn scored(&mut self, scores: Result<Scores, String>) {
        if let Some(run) = self.run_mut() {
            let none = || "The score table has no scores.".to_owned();
            run.sieve = Some(scores.and_then(|scores| Sieve::new(scores).ok_or_else(none)));
        }
    }

    /// Takes what the writer of labels answers; returns what is to be written next.
    pub fn saved(&mut self, result: Result<Saved, String>) -> Option<Effect> {
        let failed = result.is_err();
        let told = self.run_mut()?.labeling.saved(result);
        self.notice = told.or(self.notice.take());
        // After a failure the next edit tries again, as otherwise a full disk would be asked for ever.
        if failed { None } else { self.edited() }
    }

    /// Takes labels that somebody else wrote.
    pub fn relabeled(&mut self, labels: Result<Labels, String>) {
        match labels {
            Ok(labels) => {
                if let Some(run) = self.run_mut() {
                    run.labeling.seen(labels);
                    run.list.mark(Annotations::of(&run.labeling));
                }
            }
            Err(cause) => self.notice = Some(format!("The labels were changed and cannot be read: {cause}")),
        }
    }

    /// After an edit: searches see it, and it is to be written.
    pub fn edited(&mut self) -> Option<Effect> {
        let run = self.run_mut()?;
        run.list.mark(Annotations::of(&run.labeling));
        let changes = run.labeling.send()?;
        let (root, sae) = (run.info.root.clone(), run.info.sae.clone());
        Some(Effect::Save(Edits { root, sae, changes, known: run.labeling.known().clone() }))
    }

    /// Notes that a command was started.
    pub fn started(&mut self, order: Order) {
        self.job = Some(Job::new(order));
    }

    /// Takes what the index says of a feature.
    pub fn detailed(&mut self, feature: u32, details: Details) {
        if let Some(run) = self.run_mut() {
            run.details.insert(feature, details, 1);
        }
    }

    /// The run, if one is open.
    pub fn run(&self) -> Option<&OpenRun> {
        match &self.phase {
            Phase::Open(run) => Some(run),
            _ => None,
        }
    }

    /// The run, to change it.
    pub fn run_mut(&mut self) -> Option<&mut OpenRun> {
        match &mut self.phase {
            Phase::Open(run) => Some(run),
            _ => None,
        }
    }

    /// Goes to a place, if there is one.
    pub fn go(&mut self, place: Location, way: Way) -> Option<Effect> {
        self.notice = None;
        let run = self.run_mut()?;
        let there = match place {
            Location::Feature(number) => run.list.row(number).is_some(),
            Location::Sample(number) => u64::from(number) < run.info.samples,
            Location::Page(_) => true,
        };
        if !there {
            return None;
        }
        // "Features" and "Sample" are where one was on them last.
        let place = match place {
            Location::Page(Page::Features) => run.feature.map_or(place, Location::Feature),
            Location::Page(Page::Sample) => Location::Sample(run.sample),
            place => place,
        };
        run.labeling.commit();
        run.history.visit(place, way);
        run.arrive();
        self.edited()
    }

    /// Opens the index of another autoencoder of the run.
    pub fn switch(&mut self, sae: &str) -> Option<Effect> {
        let run = self.run()?.info.root.clone();
        Some(self.open(Link { run, sae: Some(sae.into()), ..Link::default() }))
    }

    /// A link to what is shown.
    pub fn link(&self) -> Option<Link> {
        let run = self.run()?;
        let sae = (run.info.indexed.len() > 1).then(|| run.info.sae.clone());
        let draft = Some(&run.trial.draft).filter(|draft| run.page() == Page::Try && !draft.text.is_empty());
        Some(Link {
            run: run.info.root.clone(),
            sae,
            place: run.history.current(),
            text: draft.map(|draft| draft.text.clone()),
            set: draft.iter().flat_map(|draft| &draft.steers).map(|steer| steer.feature).collect(),
        })
    }

    /// Whether a command can do anything now.
    pub fn allows(&self, command: Command) -> bool {
        let run = self.run();
        let history = |leads: fn(&History) -> bool| run.is_some_and(|run| leads(&run.history));
        let labels = |leads: fn(&LabelEdits) -> bool| run.is_some_and(|run| leads(&run.labeling));
        let on_feature = || run.is_some_and(|run| run.page() == Page::Features && run.feature.is_some());
        match command {
            Command::Reload => self.asked.is_some(),
            Command::Index => run.is_some() && !self.job.as_ref().is_some_and(Job::runs),
            Command::CopyLink | Command::CopyTable | Command::Search | Command::Page(_) => run.is_some(),
            Command::Next | Command::Previous => {
                run.is_some_and(|run| matches!(run.page(), Page::Features | Page::Sample))
            }
            Command::Label | Command::Star | Command::CopyJson => on_feature(),
            Command::Undo => labels(LabelEdits::has_undo),
            Command::Redo => labels(LabelEdits::has_redo),
            Command::Dismiss => {
                let narrowed = |run: &OpenRun| !run.list.search_text().is_empty() || run.list.picked().is_some();
                !matches!(self.sheet, Sheet::None) || run.is_some_and(narrowed)
            }
            Command::Back => history(History::has_back),
            Command::Forward => history(History::has_forward),
            Command::Open
            | Command::Quit
            | Command::CopyPicture
            | Command::Palette
            | Command::ThemeSystem
            | Command::ThemeLight
            | Command::ThemeDark
            | Command::Shortcuts => true,
        }
    }

    /// Does what a command says.
    pub fn apply(&mut self, command: Command) -> Vec<Effect> {
        if !self.allows(command) {
            return Vec::new();
        }
        self.notice = None;
        match command {
            Command::Reload => self.reload(),
            Command::CopyLink => self.copy("Link copied.", |session| Some(session.link()?.to_string())),
            Command::CopyJson => self.copy("Feature copied as JSON.", |session| export::json(session.run()?)),
            Command::CopyTable => self.copy("Table copied as CSV.", |session| Some(export::csv(&session.run()?.list))),
            Command::CopyPicture => vec![Effect::CopyPicture],
            Command::Open => self.lay(Sheet::Open(String::new())),
            Command::Palette => self.lay(Sheet::Palette(Palette::default())),
            Command::Shortcuts => match self.sheet {
                Sheet::Shortcuts => self.lay(Sheet::None),
                _ => self.lay(Sheet::Shortcuts),
            },
            Command::Index => self.run().map(|run| Effect::Start(run.index_order())).into_iter().collect(),
            Command::Quit => {
                let save = self.run_mut().map(|run| run.labeling.commit()).and_then(|()| self.edited());
                save.into_iter().chain([Effect::Quit]).collect()
            }
            Command::Undo => self.turn(LabelEdits::undo),
            Command::Redo => self.turn(LabelEdits::redo),
            Command::Label => vec![Effect::FocusLabel],
            Command::Star => {
                if let Some(run) = self.run_mut() {
                    run.feature.into_iter().for_each(|feature| run.labeling.toggle_star(feature));
                }
                self.edited().into_iter().collect()
            }
            Command::Page(page) => self.go(Location::Page(page), Way::Chosen).into_iter().collect(),
            Command::Next => self.step(1),
            Command::Previous => self.step(-1),
            Command::Back => self.recall(History::back),
            Command::Forward => self.recall(History::forward),
            Command::Search => {
                let save = self.go(Location::Page(Page::Features), Way::Chosen);
                save.into_iter().chain([Effect::FocusSearch]).collect()
            }
            Command::Dismiss if !matches!(self.sheet, Sheet::None) => self.lay(Sheet::None),
            Command::Dismiss => {
                if let Some(run) = self.run_mut() {
                    run.list.pick(None);
                    run.list.search("");
                }
                vec![Effect::Reveal]
            }
            Command::ThemeSystem => vec![Effect::Theme(None)],
            Command::ThemeLight => vec![Effect::Theme(Some(Theme::Light))],
            Command::ThemeDark => vec![Effect::Theme(Some(Theme::Dark))],
        }
    }

    /// Reads the run again, after writing what is being typed.
    fn reload(&mut self) -> Vec<Effect> {
        let Some(link) = self.link().or_else(|| self.asked.clone()) else { return Vec::new() };
        let save = self.run_mut().map(|run| run.labeling.commit()).and_then(|()| self.edited());
        save.into_iter().chain([self.open(link)]).collect()
    }

    fn copy(&mut self, told: &str, text: impl FnOnce(&Self) -> Option<String>) -> Vec<Effect> {
        let Some(text) = text(self) else { return Vec::new() };
        self.notice = Some(told.into());
        vec![Effect::Copy(text)]
    }

    fn lay(&mut self, sheet: Sheet) -> Vec<Effect> {
        self.sheet = sheet;
        Vec::new()
    }

    fn turn(&mut self, turn: fn(&mut LabelEdits) -> Option<u32>) -> Vec<Effect> {
        let about = self.run_mut().and_then(|run| turn(&mut run.labeling));
        let saved = self.edited();
        let moved = about.and_then(|feature| self.go(Location::Feature(feature), Way::Chosen));
        saved.into_iter().chain(moved).chain([Effect::Reveal]).collect()
    }

    fn step(&mut self, by: isize) -> Vec<Effect> {
        let Some(run) = self.run() else { return Vec::new() };
        let place = match run.page() {
            Page::Sample => {
                let last = u32::try_from(run.info.samples.saturating_sub(1)).unwrap_or(u32::MAX);
                Some(Location::Sample(run.sample.saturating_add_signed(by as i32).min(last)))
            }
            _ => run.list.step(run.feature, by).map(Location::Feature),
        };
        let saved = place.and_then(|place| self.go(place, Way::Stepped));
        saved.into_iter().chain([Effect::Reveal]).collect()
    }

    fn recall(&mut self, turn: fn(&mut History)) -> Vec<Effect> {
        if let Some(run) = self.run_mut() {
            run.labeling.commit();
            turn(&mut run.history);
            run.arrive();
        }
        self.edited().into_iter().chain([Effect::Reveal]).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::data::RunInfo;
    use sae_core::analysis::index::FeatureRow;

    fn opened(features: u32) -> OpenedRun {
        let row = |feature| FeatureRow {
            feature,
            weight_paper: Some(1.0 - feature as f64 / 100.0),
            class: "cross".into(),
            ..FeatureRow::default()
        };
        let info = RunInfo {
            root: "/runs/a".into(),
            sae: "base".into(),
            indexed: vec!["base".into()],
            samples: 5,
            ..RunInfo::default()
        };
        let labels = (Labels::default(), None);
        OpenedRun { info, rows: (0..features).map(row).collect(), labels, author: "ann".into() }
    }

    fn session(link: &str) -> Session {
        let mut session = Session::default();
        assert!(matches!(session.open(Link::parse(link).unwrap()), Effect::Open(_)));
        session.opened(Ok(opened(20)));
        session
    }

    fn current(session: &Session) -> Option<u32> {
        session.run().and_then(|run| Some(run.feature()?.feature))
    }

    #[test]
    fn a_link_opens_its_place_and_a_run_its_first_feature() {
        assert_eq!(current(&session("sae://a/f/7")), Some(7));
        assert_eq!(current(&session("a")), Some(0));
        assert_eq!(session("sae://a/?page=filter").run().unwrap().page(), Page::Filter);
        assert_eq!(session("sae://a/s/3").run().unwrap().sample(), 3);
        for (link, said) in [("sae://a/f/700", "no feature 700"), ("sae://a/s/5", "Sample 5 does not exist")] {
            let session = session(link);
            assert_eq!(current(&session), Some(0));
            assert!(session.notice.is_some_and(|notice| notice.contains(said)));
        }
    }

    #[test]
    fn the_copied_link_leads_back() {
        let mut session = session("a");
        session.go(Location::Feature(12), Way::Chosen);
        assert_eq!(session.apply(Command::CopyLink), [Effect::Copy("sae:///runs/a/f/12".into())]);
        assert_eq!(session.notice.as_deref(), Some("Link copied."));
    }

    #[test]
    fn commands_walk_and_come_back() {
        let mut session = session("a");
        session.run_mut().unwrap().list.search("1");
        assert!(session.allows(Command::Dismiss));
        session.apply(Command::Next);
        assert_eq!(current(&session), Some(1), "the first row of the search");
        session.apply(Command::Next);
        assert_eq!(current(&session), Some(10));
        session.apply(Command::Back);
        assert_eq!(current(&session), Some(0));
        assert!(!session.allows(Command::Back) && session.allows(Command::Forward));
        session.apply(Command::Dismiss);
        assert_eq!(session.run().unwrap().list.len(), 20);
    }

    #[test]
    fn pages_remember_what_was_on_them() {
        let mut session = session("a");
        session.go(Location::Feature(9), Way::Chosen);
        session.go(Location::Sample(2), Way::Chosen);
        session.apply(Command::Next);
        session.apply(Command::Page(Page::Run));
        assert!(!session.allows(Command::Next) && !session.allows(Command::Star));
        session.apply(Command::Page(Page::Sample));
        assert_eq!(session.run().unwrap().sample(), 3);
        session.apply(Command::Page(Page::Features));
        assert_eq!((session.run().unwrap().page(), current(&session)), (Page::Features, Some(9)));
    }

    #[test]
    fn edits_are_sent_to_be_written_and_undo_goes_to_the_feature() {
        let mut session = session("a");
        session.go(Location::Feature(4), Way::Chosen);
        let starred = session.apply(Command::Star);
        assert!(matches!(&starred[..], [Effect::Save(edits)] if edits.sae == "base" && edits.changes.len() == 1));
        session.saved(Ok(Saved { labels: session.run().unwrap().labeling.known().clone(), moved: None }));
        session.run_mut().unwrap().list.search("star:yes");
        session.go(Location::Feature(8), Way::Chosen);
        session.apply(Command::Undo);
        assert_eq!(current(&session), Some(4));
        assert!(session.run().unwrap().list.is_empty(), "the search has seen the undo");
    }

    #[test]
    fn what_is_typed_is_an_edit_when_one_goes_elsewhere() {
        let mut session = session("a");
        let mut entry = session.run().unwrap().labeling.entry(0);
        entry.label = "red".into();
        session.run_mut().unwrap().labeling.type_in(entry);
        assert!(matches!(session.apply(Command::Next)[..], [Effect::Save(_), Effect::Reveal]));
        assert_eq!(session.run().unwrap().list.marks().label(0), Some("red"));
        let mut entry = session.run().unwrap().labeling.entry(1);
        entry.notes = "typed and not left".into();
        session.run_mut().unwrap().labeling.type_in(entry);
        session.saved(Err("full".into()));
        assert!(
            matches!(&session.apply(Command::Quit)[..], [Effect::Save(edits), Effect::Quit] if edits.changes.len() == 2)
        );
    }

    #[test]
    fn reloading_keeps_the_place_and_a_failure_can_be_tried_again() {
        let mut session = session("a");
        session.go(Location::Feature(5), Way::Chosen);
        let [Effect::Open(link)] = &session.apply(Command::Reload)[..] else { panic!("a reload opens") };
        assert_eq!(link.place, Some(Location::Feature(5)));
        session.opened(Err("gone".into()));
        assert!(matches!(&session.phase, Phase::Failed(reason) if reason == "gone"));
        assert!(session.allows(Command::Reload) && !session.allows(Command::Next));
        assert!(matches!(session.apply(Command::Reload)[..], [Effect::Open(_)]));
    }

    #[test]
    fn nothing_is_allowed_that_needs_a_run_before_there_is_one() {
        let mut session = Session::default();
        for command in Command::ALL {
            session.apply(command);
        }
        assert!(session.run().is_none());
    }
}
