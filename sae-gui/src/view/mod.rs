//! The window: takes what the worker has read, hands keys and clicks to the session, draws. Reads no file and decides
//! nothing that `state` can decide.

mod bars;
mod example;
mod feature;
mod gallery;
mod keys;
mod sheets;
mod shot;
mod table;
mod theme;

pub use shot::Outcome;

use crate::load::{Loader, Reply};
use crate::state::history::Way;
use crate::state::session::{Effect, Phase, Session, Theme};
use crate::state::{Command, Link};
use egui::{CentralPanel, Context, Frame, Margin, Panel, ThemePreference, Ui, ViewportCommand};
use gallery::Gallery;
use shot::Shot;
use std::path::PathBuf;

/// What the command line asks for.
#[derive(Default)]
pub struct Options {
    /// The run to open.
    pub link: Option<Link>,
    /// Where its data set lies, if not where the run says.
    pub data: Option<PathBuf>,
    /// Colours, if not those of the system.
    pub theme: Option<Theme>,
    /// Where to write a picture of the window, and where to tell how that went.
    pub screenshot: Option<(PathBuf, Outcome)>,
}

/// The app.
pub struct App {
    session: Session,
    loader: Loader,
    gallery: Gallery,
    shot: Option<Shot>,
    /// What is typed into the field of a window without a run.
    typed: String,
    /// Whether the current feature's row is to be scrolled to.
    reveal: bool,
    /// The samples that the worker was asked for.
    wanted: Vec<u32>,
}

impl App {
    /// Sets up the window's looks, starts the worker and opens what is asked for.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn new(ctx: &Context, options: Options) -> std::io::Result<Self> {
        theme::install(ctx);
        let waker = ctx.clone();
        let mut app = Self {
            session: Session::default(),
            loader: Loader::start(options.data, move || waker.request_repaint())?,
            gallery: Gallery::default(),
            shot: options.screenshot.map(|(path, outcome)| Shot::new(path, outcome)),
            typed: String::new(),
            reveal: false,
            wanted: Vec::new(),
        };
        app.perform(ctx, Effect::Theme(options.theme));
        if let Some(link) = options.link {
            app.open(ctx, link);
        }
        Ok(app)
    }

    /// The state, for tests.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// Whether everything that is to be shown has been read.
    pub fn settled(&self) -> bool {
        match &self.session.phase {
            Phase::Empty | Phase::Failed(_) => true,
            Phase::Opening => false,
            Phase::Open(run) => run.index.is_some() && self.gallery.missing(&run.samples()).is_empty(),
        }
    }

    fn open(&mut self, ctx: &Context, link: Link) {
        let effect = self.session.open(link);
        self.perform(ctx, effect);
    }

    fn open_text(&mut self, ctx: &Context, text: &str) {
        match Link::parse(text) {
            Ok(link) => self.open(ctx, link),
            Err(reason) => self.session.phase = Phase::Failed(reason),
        }
    }

    fn apply(&mut self, ctx: &Context, command: Command) {
        if let Some(effect) = self.session.apply(command) {
            self.perform(ctx, effect);
        }
    }

    fn perform(&mut self, ctx: &Context, effect: Effect) {
        match effect {
            Effect::Open(link) => {
                self.gallery.clear();
                self.wanted.clear();
                self.loader.open(link);
            }
            Effect::Copy(text) => ctx.copy_text(text),
            Effect::FocusSearch => ctx.memory_mut(|memory| memory.request_focus(table::search_id())),
            Effect::Reveal => self.reveal = true,
            Effect::Theme(theme) => ctx.set_theme(match theme {
                None => ThemePreference::System,
                Some(Theme::Light) => ThemePreference::Light,
                Some(Theme::Dark) => ThemePreference::Dark,
            }),
            Effect::Quit => ctx.send_viewport_cmd(ViewportCommand::Close),
        }
    }

    /// Takes in what the worker has read.
    fn receive(&mut self, ctx: &Context) {
        let replies: Vec<_> = self.loader.replies().collect();
        for reply in replies {
            match reply {
                Reply::Opened(result) => {
                    if let Some(effect) = self.session.opened(result) {
                        self.perform(ctx, effect);
                    }
                    ctx.send_viewport_cmd(ViewportCommand::Title(self.title()));
                }
                Reply::Indexed(index) => self.session.indexed(index),
                Reply::Sample(number, sample) => self.gallery.put(ctx, number, sample),
            }
        }
    }

    /// Asks the worker for the samples of the current feature, unless it has been asked already.
    fn request(&mut self) {
        let samples = self.session.run().map(|run| run.samples()).unwrap_or_default();
        if samples != self.wanted {
            self.loader.want(self.gallery.missing(&samples));
            self.wanted = samples;
        }
    }

    fn title(&self) -> String {
        let run = self.session.run().and_then(|run| run.info.root.file_name());
        match run {
            Some(name) => format!("{} - SAE workbench", name.to_string_lossy()),
            None => "SAE workbench".into(),
        }
    }

    fn dropped(&mut self, ctx: &Context) {
        let Some(file) = ctx.input(|input| input.raw.dropped_files.first().cloned()) else { return };
        // A file of a run stands for the run.
        let path = file.path().to_path_buf();
        let run = if path.extension().is_some() { path.parent().map(Into::into).unwrap_or(path) } else { path };
        self.open(ctx, Link { run, ..Link::default() });
    }

    fn panels(&mut self, ui: &mut Ui) {
        let bar = Frame::side_top_panel(ui.style()).inner_margin(Margin::symmetric(10, 4));
        let clicked = Panel::top("menus").frame(bar).show(ui, |ui| bars::top(ui, &self.session)).inner;
        Panel::bottom("status").frame(bar).show(ui, |ui| bars::bottom(ui, &self.session, self.gallery.bytes()));
        let ctx = ui.ctx().clone();
        let effect = match clicked {
            Some(bars::Click::Command(command)) => self.session.apply(command),
            Some(bars::Click::Sae(name)) => self.session.switch(&name),
            None => None,
        };
        if let Some(effect) = effect {
            self.perform(&ctx, effect);
        }
        let reveal = std::mem::take(&mut self.reveal);
        let margin = Frame::central_panel(ui.style()).inner_margin(Margin::symmetric(12, 10));
        let Some(run) = self.session.run_mut() else {
            let typed = &mut self.typed;
            let entered =
                CentralPanel::default().frame(margin).show(ui, |ui| sheets::stand_in(ui, &self.session, typed));
            if let Some(text) = entered.inner {
                self.open_text(&ctx, &text);
            }
            return;
        };
        let list = Panel::left("features").frame(margin).default_size(530.0).size_range(300.0..=900.0);
        let chosen = list.show(ui, |ui| table::show(ui, run, reveal)).inner;
        let gallery = &mut self.gallery;
        let click = CentralPanel::default().frame(margin).show(ui, |ui| feature::show(ui, run, gallery)).inner;
        if let Some((number, way)) = chosen {
            self.session.go(number, way);
        }
        match click {
            Some(feature::Click::Feature(number)) => {
                self.session.go(number, Way::Chosen);
                self.reveal = true;
            }
            Some(feature::Click::Command(command)) => self.apply(&ctx, command),
            None => {}
        }
    }
}

impl eframe::App for App {
    fn logic(&mut self, ctx: &Context, _frame: &mut eframe::Frame) {
        self.receive(ctx);
        self.request();
        let settled = self.settled();
        let failure = match &self.session.phase {
            Phase::Failed(reason) => Some(reason.as_str()),
            _ => self.session.notice.as_deref(),
        };
        if let Some(shot) = &mut self.shot {
            shot.frame(ctx, settled, failure);
        }
    }

    fn ui(&mut self, ui: &mut Ui, _frame: &mut eframe::Frame) {
        let ctx = ui.ctx().clone();
        self.dropped(&ctx);
        for command in keys::pressed(&ctx) {
            self.apply(&ctx, command);
        }
        self.panels(ui);
        if self.session.shows_shortcuts && sheets::shortcuts(&ctx) {
            self.session.shows_shortcuts = false;
        }
        sheets::drop_target(&ctx);
        // What was clicked in this frame is asked for in this frame.
        self.request();
    }
}
