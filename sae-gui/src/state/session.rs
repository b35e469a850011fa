//! The app between two frames: which run is open, which feature is looked at, and what commands do to that. Asks for
//! work by returning an [`Effect`]; does none itself.

use super::command::Command;
use super::data::{Examples, Group, Index, Opened, RunInfo};
use super::history::{History, Way};
use super::link::Link;
use super::list::FeatureList;
use sae_core::index::{FeatureRow, Neighbour};

/// A run that is open.
#[derive(Debug)]
pub struct OpenRun {
    /// The run.
    pub info: RunInfo,
    /// Its features.
    pub list: FeatureList,
    /// Examples and neighbours, once they are read.
    pub index: Option<Index>,
    /// What was looked at.
    pub history: History,
}

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

/// What a session cannot do itself.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Read a run.
    Open(Link),
    /// Put text into the clipboard.
    Copy(String),
    /// Put the cursor into the search field.
    FocusSearch,
    /// Bring the current feature's row into view.
    Reveal,
    /// Change the colours; nothing: as the system says.
    Theme(Option<Theme>),
    /// Close the window.
    Quit,
}

/// Colours.
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
    /// Whether the sheet of shortcuts is open.
    pub shows_shortcuts: bool,
    /// The last thing to tell, such as "Link copied".
    pub notice: Option<String>,
    /// What was asked for last.
    asked: Option<Link>,
}

impl Default for Session {
    fn default() -> Self {
        Self { phase: Phase::Empty, shows_shortcuts: false, notice: None, asked: None }
    }
}

impl Session {
    /// Begins to open a run.
    #[must_use]
    pub fn open(&mut self, link: Link) -> Effect {
        self.asked = Some(link.clone());
        self.notice = None;
        self.phase = Phase::Opening;
        Effect::Open(link)
    }

    /// What was asked for last.
    pub fn asked(&self) -> Option<&Link> {
        self.asked.as_ref()
    }

    /// Takes the table of the run, or the reason why there is none.
    pub fn opened(&mut self, result: Result<Opened, String>) -> Option<Effect> {
        let opened = match result {
            Ok(opened) => opened,
            Err(reason) => {
                self.phase = Phase::Failed(reason);
                return None;
            }
        };
        let list = FeatureList::new(opened.rows);
        let mut history = History::default();
        let wanted = self.asked.as_ref().and_then(|link| link.feature);
        if let Some(number) = wanted.filter(|number| list.row(*number).is_none()) {
            let (sae, total) = (&opened.info.sae, list.total());
            self.notice = Some(format!("There is no feature {number} in {sae}, which has {total}."));
        }
        let first = wanted.filter(|number| list.row(*number).is_some()).or_else(|| list.step(None, 0));
        if let Some(feature) = first {
            history.visit(feature, Way::Chosen);
        }
        self.phase = Phase::Open(Box::new(OpenRun { info: opened.info, list, index: None, history }));
        Some(Effect::Reveal)
    }

    /// Takes examples and neighbours.
    pub fn indexed(&mut self, index: Index) {
        if let Phase::Open(run) = &mut self.phase {
            run.index = Some(index);
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

    /// Goes to a feature.
    pub fn go(&mut self, feature: u32, way: Way) {
        self.notice = None;
        if let Some(run) = self.run_mut().filter(|run| run.list.row(feature).is_some()) {
            run.history.visit(feature, way);
        }
    }

    /// Opens the index of another autoencoder of the run.
    pub fn switch(&mut self, sae: &str) -> Option<Effect> {
        let run = self.run()?.info.root.clone();
        Some(self.open(Link { run, sae: Some(sae.into()), feature: None }))
    }

    /// A link to what is shown.
    pub fn link(&self) -> Option<Link> {
        let run = self.run()?;
        let sae = (run.info.indexed.len() > 1).then(|| run.info.sae.clone());
        Some(Link { run: run.info.root.clone(), sae, feature: run.history.current() })
    }

    /// Whether a command can do anything now.
    pub fn allows(&self, command: Command) -> bool {
        let history = |leads: fn(&History) -> bool| self.run().is_some_and(|run| leads(&run.history));
        match command {
            Command::Reload => self.asked.is_some(),
            Command::CopyLink | Command::Next | Command::Previous | Command::Search => self.run().is_some(),
            Command::Dismiss => {
                self.shows_shortcuts || self.run().is_some_and(|run| !run.list.search_text().is_empty())
            }
            Command::Back => history(History::has_back),
            Command::Forward => history(History::has_forward),
            _ => true,
        }
    }

    /// Does what a command says.
    pub fn apply(&mut self, command: Command) -> Option<Effect> {
        if !self.allows(command) {
            return None;
        }
        self.notice = None;
        match command {
            Command::Reload => {
                let link = self.link().or_else(|| self.asked.clone())?;
                Some(self.open(link))
            }
            Command::CopyLink => {
                let link = self.link()?.to_string();
                self.notice = Some("Link copied.".into());
                Some(Effect::Copy(link))
            }
            Command::Quit => Some(Effect::Quit),
            Command::Next => self.step(1),
            Command::Previous => self.step(-1),
            Command::Back => self.recall(History::back),
            Command::Forward => self.recall(History::forward),
            Command::Search => Some(Effect::FocusSearch),
            Command::Dismiss if self.shows_shortcuts => {
                self.shows_shortcuts = false;
                None
            }
            Command::Dismiss => {
                self.run_mut()?.list.search("");
                Some(Effect::Reveal)
            }
            Command::ThemeSystem => Some(Effect::Theme(None)),
            Command::ThemeLight => Some(Effect::Theme(Some(Theme::Light))),
            Command::ThemeDark => Some(Effect::Theme(Some(Theme::Dark))),
            Command::Shortcuts => {
                self.shows_shortcuts = !self.shows_shortcuts;
                None
            }
        }
    }

    fn step(&mut self, by: isize) -> Option<Effect> {
        let run = self.run_mut()?;
        let feature = run.list.step(run.history.current(), by)?;
        run.history.visit(feature, Way::Stepped);
        Some(Effect::Reveal)
    }

    fn recall(&mut self, turn: fn(&mut History)) -> Option<Effect> {
        turn(&mut self.run_mut()?.history);
        Some(Effect::Reveal)
    }
}

impl OpenRun {
    /// The feature looked at.
    pub fn feature(&self) -> Option<&FeatureRow> {
        self.list.row(self.history.current()?)
    }

    /// Examples of the feature looked at; nothing while they are being read.
    pub fn groups(&self) -> Option<Result<Vec<Group>, &str>> {
        let feature = self.history.current()? as usize;
        let examples: Result<&Examples, _> = self.index.as_ref()?.examples.as_ref();
        Some(match examples {
            Ok(lists) => Ok(lists.get(feature).map_or_else(Vec::new, |list| Group::of(list))),
            Err(reason) => Err(reason.as_str()),
        })
    }

    /// Neighbours of the feature looked at; nothing while they are being read.
    pub fn neighbours(&self) -> Option<Result<&[Neighbour], &str>> {
        let feature = self.history.current()? as usize;
        Some(match &self.index.as_ref()?.neighbours {
            Ok(lists) => Ok(lists.get(feature).map(Vec::as_slice).unwrap_or_default()),
            Err(reason) => Err(reason.as_str()),
        })
    }

    /// Samples that the feature's examples are from, in the order in which they are shown, each once.
    pub fn samples(&self) -> Vec<u32> {
        let mut samples = Vec::new();
        for group in self.groups().and_then(Result::ok).unwrap_or_default() {
            for example in group.examples {
                if !samples.contains(&example.sample) {
                    samples.push(example.sample);
                }
            }
        }
        samples
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opened(features: u32) -> Opened {
        let row = |feature| FeatureRow {
            feature,
            weight_paper: Some(1.0 - feature as f64 / 100.0),
            class: "cross".into(),
            ..FeatureRow::default()
        };
        let info =
            RunInfo { root: "/runs/a".into(), sae: "base".into(), indexed: vec!["base".into()], ..RunInfo::default() };
        Opened { info, rows: (0..features).map(row).collect() }
    }

    fn session(link: &str) -> Session {
        let mut session = Session::default();
        assert!(matches!(session.open(Link::parse(link).unwrap()), Effect::Open(_)));
        session.opened(Ok(opened(20)));
        session
    }

    fn current(session: &Session) -> Option<u32> {
        session.run().and_then(|run| run.history.current())
    }

    #[test]
    fn a_link_opens_its_feature_and_a_run_its_first() {
        assert_eq!(current(&session("sae://a/f/7")), Some(7));
        assert_eq!(current(&session("a")), Some(0));
        let session = session("sae://a/f/700");
        assert_eq!(current(&session), Some(0));
        assert!(session.notice.is_some_and(|notice| notice.contains("no feature 700")));
    }

    #[test]
    fn the_copied_link_leads_back() {
        let mut session = session("a");
        session.go(12, Way::Chosen);
        assert_eq!(session.apply(Command::CopyLink), Some(Effect::Copy("sae:///runs/a/f/12".into())));
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
    fn reloading_keeps_the_feature_and_a_failure_can_be_tried_again() {
        let mut session = session("a");
        session.go(5, Way::Chosen);
        let Some(Effect::Open(link)) = session.apply(Command::Reload) else { panic!("a reload opens") };
        assert_eq!(link.feature, Some(5));
        session.opened(Err("gone".into()));
        assert!(matches!(&session.phase, Phase::Failed(reason) if reason == "gone"));
        assert!(session.allows(Command::Reload) && !session.allows(Command::Next));
        assert!(matches!(session.apply(Command::Reload), Some(Effect::Open(_))));
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
