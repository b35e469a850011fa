//! The window: takes what the workers have read, hands keys and clicks to the session, draws. Reads no file and decides
//! nothing that `state` can decide. One page at a time, as tabs: what belongs together is on one page already, every page has
//! a link, and a layout of panes would be one more thing to remember and to lose.

mod bars;
mod example;
mod feature;
mod gallery;
mod heat;
mod keys;
mod label;
mod map;
mod overlays;
mod playground;
mod plot;
mod report;
mod sample;
mod screenshot;
mod table;
mod theme;
mod threshold;
mod words;

pub use screenshot::Outcome;

use crate::load::{Child, Loader, ProcessEvent, Reply, Seen, Sight, Tried, fonts, recents};
use crate::state::history::Way;
use crate::state::job::{Order, State};
use crate::state::location::{Location, Page};
use crate::state::open_run::OpenRun;
use crate::state::palette::Choice;
use crate::state::playground::Question;
use crate::state::session::{Effect, Phase, Session, Sheet, Theme};
use crate::state::{Command, Link};
use egui::{CentralPanel, ColorImage, Context, Frame, Margin, Panel, ThemePreference, Ui, ViewportCommand};
use gallery::Gallery;
use heat::Heat;
use map::MapView;
use playground::TrialView;
use sample::SampleView;
use screenshot::Shot;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use threshold::SieveView;

/// What the command line asks for.
#[derive(Default)]
pub struct Options {
    /// The run to open.
    pub link: Option<Link>,
    /// Where its data set lies, if not where the run says.
    pub data: Option<PathBuf>,
    /// Colors, if not those of the system.
    pub theme: Option<Theme>,
    /// Where to write a picture of the window, and where to tell how that went.
    pub screenshot: Option<(PathBuf, Outcome)>,
    /// Whether a font of the system is looked for, for signs that the bundled ones lack.
    pub system_fonts: bool,
    /// The file of the runs that were open lately, if they are to be remembered.
    pub recents: Option<PathBuf>,
}

/// What was clicked on a page.
pub enum Action {
    /// A place to go to.
    Go(Location),
    /// A button that stands for a command.
    Command(Command),
    /// Another autoencoder of the run.
    Sae(String),
    /// A command of the program `sae`.
    Start(Order),
    /// What is written about features has changed.
    Edited,
    /// Runs the model on a text of the person's own.
    Ask(Question),
}

/// What the pages remember between two frames.
#[derive(Default)]
struct Pages {
    gallery: Gallery,
    heat: Heat,
    map: MapView,
    sample: SampleView,
    sieve: SieveView,
    trial: TrialView,
    /// What is typed as the name of a list.
    list: String,
}

/// Files that are images: dropped on the window they are tried.
const IMAGES: [&str; 6] = ["png", "jpg", "jpeg", "webp", "gif", "bmp"];

/// What the workers were asked for.
#[derive(Default, PartialEq)]
struct Asked {
    feature: Option<u32>,
    samples: Vec<u32>,
    active: Vec<u32>,
    reasons: Option<u32>,
    scores: bool,
    report: bool,
}

/// The app.
pub struct App {
    session: Session,
    loader: Loader,
    sight: Option<Sight>,
    tried: Option<Tried>,
    child: Option<Child>,
    pages: Pages,
    shot: Option<Shot>,
    /// A picture of the window on its way to the clipboard.
    picture: Option<Receiver<Arc<ColorImage>>>,
    /// A font of the system on its way.
    fonts: Option<Receiver<Option<Vec<u8>>>>,
    /// What is typed into the field of a window without a run.
    typed: String,
    /// Whether the current feature's row is to be scrolled to.
    reveal: bool,
    asked: Asked,
    recents: (Option<PathBuf>, Vec<String>),
}

impl App {
    /// Sets up the window's looks, starts the workers and opens what is asked for.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn new(ctx: &Context, options: Options) -> std::io::Result<Self> {
        theme::install(ctx);
        theme::fonts(ctx, None);
        let fonts = options.system_fonts.then(|| {
            let (sender, fonts) = channel();
            let waker = ctx.clone();
            // Some tens of megabytes: the first frames do without them.
            std::thread::spawn(move || {
                let _ = sender.send(fonts::system());
                waker.request_repaint();
            });
            fonts
        });
        let waker = ctx.clone();
        let lately = options.recents.as_deref().map(recents::read).unwrap_or_default();
        let mut app = Self {
            session: Session::default(),
            loader: Loader::start(options.data, move || waker.request_repaint())?,
            sight: None,
            tried: None,
            child: None,
            pages: Pages::default(),
            shot: options.screenshot.map(|(path, outcome)| Shot::new(path, outcome)),
            picture: None,
            fonts,
            typed: String::new(),
            reveal: false,
            asked: Asked::default(),
            recents: (options.recents, lately),
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

    /// The state, to be changed: for measurements.
    pub fn session_mut(&mut self) -> &mut Session {
        &mut self.session
    }

    /// Whether everything that is to be shown has been read, and everything that was edited is written.
    pub fn settled(&self) -> bool {
        let Phase::Open(run) = &self.session.phase else { return !matches!(self.session.phase, Phase::Opening) };
        let wanted = self.wanted(run);
        let Pages { gallery, sample, .. } = &self.pages;
        let detailed = wanted.feature.is_none() || run.details().is_some();
        let scores = !wanted.scores || run.sieve.is_some();
        let report = !wanted.report || run.report.is_some();
        let shown = gallery.missing(&wanted.samples).is_empty() && gallery.missing_active(&wanted.active).is_empty();
        let written = matches!(run.labeling.unsaved(), (0, _) | (_, Some(_)));
        let asked = run.trial.busy || self.fonts.is_some();
        let running = self.session.job.as_ref().is_some_and(|job| job.runs());
        let reasons = wanted.reasons.is_none_or(|number| sample.knows(number));
        detailed && scores && report && shown && reasons && written && !running && !asked
    }

    /// What the page that is shown needs.
    fn wanted(&self, run: &OpenRun) -> Asked {
        match run.page() {
            Page::Features => {
                let samples = run.samples();
                let feature = run.feature().map(|row| row.feature);
                Asked { feature, active: samples.clone(), samples, ..Asked::default() }
            }
            Page::Sample => {
                let sample = run.sample();
                Asked {
                    samples: vec![sample],
                    active: vec![sample],
                    reasons: Some(sample),
                    scores: true,
                    ..Asked::default()
                }
            }
            Page::Filter => Asked { samples: self.pages.sieve.samples(run), scores: true, ..Asked::default() },
            Page::Run => Asked { report: true, ..Asked::default() },
            Page::Try => Asked::default(),
        }
    }

    fn open(&mut self, ctx: &Context, link: Link) {
        if let Some(run) = self.session.run_mut() {
            run.labeling.commit();
        }
        let save = self.session.edited();
        let open = self.session.open(link);
        save.into_iter().chain([open]).for_each(|effect| self.perform(ctx, effect));
    }

    fn open_text(&mut self, ctx: &Context, text: &str) {
        match Link::parse(text) {
            Ok(link) => self.open(ctx, link),
            Err(reason) => self.session.phase = Phase::Failed(reason),
        }
    }

    fn apply(&mut self, ctx: &Context, command: Command) {
        let effects = self.session.apply(command);
        effects.into_iter().for_each(|effect| self.perform(ctx, effect));
    }

    fn act(&mut self, ctx: &Context, action: Action) {
        let effect = match action {
            Action::Command(command) => return self.apply(ctx, command),
            Action::Go(place) => {
                self.reveal |= matches!(place, Location::Feature(_));
                self.session.go(place, Way::Chosen)
            }
            Action::Sae(name) => self.session.switch(&name),
            Action::Start(order) => Some(Effect::Start(order)),
            Action::Edited => self.session.edited(),
            Action::Ask(question) => return self.ask(ctx, question),
        };
        effect.into_iter().for_each(|effect| self.perform(ctx, effect));
    }

    fn perform(&mut self, ctx: &Context, effect: Effect) {
        match effect {
            Effect::Open(link) => {
                self.pages.map.clear();
                self.pages.gallery.clear();
                self.pages.sample.clear();
                self.pages.sieve.clear();
                self.pages.trial.clear();
                self.sight = None;
                self.tried = None;
                self.asked = Asked::default();
                self.loader.open(link);
            }
            Effect::Copy(text) => ctx.copy_text(text),
            Effect::CopyPicture => {
                let (sender, receiver) = channel();
                // Nobody waits for it any more once the window is closed.
                ctx.request_screenshot(move |image| drop(sender.send(image)));
                self.picture = Some(receiver);
            }
            Effect::FocusSearch => ctx.memory_mut(|memory| memory.request_focus(table::search_id())),
            Effect::FocusLabel => ctx.memory_mut(|memory| memory.request_focus(label::field_id())),
            Effect::Reveal => self.reveal = true,
            Effect::Save(edits) => self.loader.save(edits),
            Effect::Start(order) => {
                let waker = ctx.clone();
                self.session.started(order.clone());
                match Child::start(&order, move || waker.request_repaint()) {
                    Ok(child) => self.child = Some(child),
                    Err(reason) => self.ended(ctx, State::Failed(reason)),
                }
            }
            Effect::Theme(theme) => ctx.set_theme(match theme {
                None => ThemePreference::System,
                Some(Theme::Light) => ThemePreference::Light,
                Some(Theme::Dark) => ThemePreference::Dark,
            }),
            Effect::Quit => ctx.send_viewport_cmd(ViewportCommand::Close),
        }
    }

    /// Takes in what the workers have read.
    fn receive(&mut self, ctx: &Context) {
        let replies: Vec<_> = self.loader.replies().collect();
        for reply in replies {
            match reply {
                Reply::OpenedRun(result) => {
                    let effect = self.session.opened(result);
                    effect.into_iter().for_each(|effect| self.perform(ctx, effect));
                    self.opened(ctx);
                }
                Reply::Feature(number, details) => self.session.detailed(number, details),
                Reply::Sample(number, sample) => self.pages.gallery.put(ctx, number, sample),
                Reply::Scores(scores) => self.session.scored(scores),
                Reply::Report(report) => {
                    if let Some(run) = self.session.run_mut() {
                        run.report = Some(report);
                    }
                }
                Reply::Saved(result) => {
                    let effect = self.session.saved(result);
                    effect.into_iter().for_each(|effect| self.perform(ctx, effect));
                }
                Reply::Labels(labels) => self.session.relabeled(labels),
                Reply::Waiting(reason) => self.session.notice = Some(reason),
                Reply::IndexChanged => self.session.notice = Some("The index has changed on disk: F5 reads it.".into()),
            }
        }
        let seen: Vec<_> = self.sight.iter().flat_map(Sight::seen).collect();
        for seen in seen {
            match seen {
                Seen::Active(number, active) => self.pages.gallery.put_active(number, active),
                Seen::Reasons(number, reasons) => self.pages.sample.put_reasons(number, reasons),
            }
        }
        let answers: Vec<_> = self.tried.iter().flat_map(Tried::answers).collect();
        for answer in answers {
            self.pages.trial.put(ctx, answer);
            self.session.run_mut().into_iter().for_each(|run| run.trial.busy = false);
        }
        let heard: Vec<_> = self.child.iter().flat_map(Child::heard).collect();
        for heard in heard {
            match heard {
                ProcessEvent::Line(line) => self.session.job.iter_mut().for_each(|job| job.hear(line.clone())),
                ProcessEvent::End(state) => self.ended(ctx, state),
            }
        }
        if let Some(font) = self.fonts.as_ref().and_then(|fonts| fonts.try_recv().ok()) {
            if font.is_some() {
                theme::fonts(ctx, font);
            }
            self.fonts = None;
        }
        if let Some(image) = self.picture.as_ref().and_then(|picture| picture.try_recv().ok()) {
            ctx.copy_image((*image).clone());
            self.session.notice = Some("Picture copied.".into());
            self.picture = None;
        }
    }

    /// A run has been opened, or has not.
    fn opened(&mut self, ctx: &Context) {
        ctx.send_viewport_cmd(ViewportCommand::Title(self.title()));
        let Some(run) = self.session.run() else { return };
        let (root, sae, rows) = (run.info.root.clone(), run.info.sae.clone(), run.list.rows().to_vec());
        if let Some(path) = &self.recents.0 {
            self.recents.1 = recents::add(path, &root.display().to_string());
        }
        // A link with a text asks it.
        let question = self.session.run_mut().filter(|run| run.page() == Page::Try).and_then(|run| run.trial.ask());
        question.into_iter().for_each(|question| self.ask(ctx, question));
        let waker = ctx.clone();
        match Sight::start(root, sae, rows, move || waker.request_repaint()) {
            Ok(sight) => self.sight = Some(sight),
            Err(error) => self.session.notice = Some(format!("no heat maps: the system gives no thread ({error})")),
        }
    }

    /// Runs the model of the run on a text, which the first question loads.
    fn ask(&mut self, ctx: &Context, question: Question) {
        let Some(run) = self.session.run_mut() else { return };
        if self.tried.is_none() {
            let waker = ctx.clone();
            match Tried::start(run.info.root.clone(), run.info.sae.clone(), move || waker.request_repaint()) {
                Ok(tried) => self.tried = Some(tried),
                Err(error) => {
                    run.trial.busy = false;
                    self.pages.trial.put(ctx, Err(format!("the system gives no thread ({error})")));
                }
            }
        }
        self.tried.iter().for_each(|tried| tried.ask(question.clone()));
    }

    /// A command of `sae` has ended.
    fn ended(&mut self, ctx: &Context, state: State) {
        self.child = None;
        let Some(job) = &mut self.session.job else { return };
        let rereads = job.order.rereads && matches!(state, State::Done(_));
        job.state = state;
        if rereads {
            self.apply(ctx, Command::Reload);
        }
    }

    /// Asks the workers for what the page needs, unless they have been asked already.
    fn request(&mut self) {
        let Some(run) = self.session.run() else { return };
        let wanted = self.wanted(run);
        if wanted == self.asked {
            return;
        }
        let Pages { gallery, sample, .. } = &self.pages;
        if let Some(feature) = wanted.feature.filter(|_| run.details().is_none()) {
            self.loader.want_feature(feature);
        }
        self.loader.want(gallery.missing(&wanted.samples));
        if let Some(sight) = &self.sight {
            let reasons = wanted.reasons.filter(|number| !sample.knows(*number));
            sight.want(gallery.missing_active(&wanted.active), reasons);
        }
        if wanted.scores && run.sieve.is_none() {
            self.loader.want_scores();
        }
        if wanted.report && run.report.is_none() {
            self.loader.want_report();
        }
        self.asked = wanted;
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
        let path = file.path().to_path_buf();
        let kind = path.extension().and_then(|kind| kind.to_str()).map(str::to_lowercase).unwrap_or_default();
        if let Some(run) = self.session.run_mut().filter(|_| IMAGES.contains(&kind.as_str())) {
            run.trial.draft.image = Some(path);
            return self.act(ctx, Action::Go(Location::Page(Page::Try)));
        }
        // A file of a run stands for the run.
        let run = if path.extension().is_some() { path.parent().map(Into::into).unwrap_or(path) } else { path };
        self.open(ctx, Link { run, ..Link::default() });
    }

    fn panels(&mut self, ui: &mut Ui) {
        let ctx = ui.ctx().clone();
        let bar = Frame::side_top_panel(ui.style()).inner_margin(Margin::symmetric(10, 4));
        let clicked = Panel::top("menus").frame(bar).show(ui, |ui| bars::top(ui, &self.session)).inner;
        let held = self.pages.gallery.bytes();
        let stop = Panel::bottom("status").frame(bar).show(ui, |ui| bars::bottom(ui, &self.session, held)).inner;
        if stop {
            self.child.iter().for_each(Child::stop);
        }
        clicked.into_iter().for_each(|action| self.act(&ctx, action));
        let reveal = std::mem::take(&mut self.reveal);
        let margin = Frame::central_panel(ui.style()).inner_margin(Margin::symmetric(12, 10));
        let Session { phase: Phase::Open(run), job, .. } = &mut self.session else {
            let (typed, lately) = (&mut self.typed, &self.recents.1);
            let entered = CentralPanel::default()
                .frame(margin)
                .show(ui, |ui| overlays::stand_in(ui, &self.session, typed, lately));
            if let Some(text) = entered.inner {
                self.open_text(&ctx, &text);
            }
            return;
        };
        let Pages { gallery, heat, map, sample, sieve, trial, list } = &mut self.pages;
        let mut actions: Vec<Action> = Vec::new();
        if run.page() == Page::Features {
            let panel = Panel::left("features").frame(margin).default_size(600.0).size_range(300.0..=1000.0);
            panel.show(ui, |ui| actions.extend(table::show(ui, run, map, list, reveal)));
        }
        CentralPanel::default().frame(margin).show(ui, |ui| match run.page() {
            Page::Features => actions.extend(feature::show(ui, run, gallery, heat)),
            Page::Sample => actions.extend(sample::show(ui, run, gallery, sample, *heat)),
            Page::Filter => actions.extend(threshold::show(ui, run, gallery, sieve, job.as_ref())),
            Page::Run => report::show(ui, run),
            Page::Try => actions.extend(playground::show(ui, run, trial, *heat)),
        });
        // What was drawn before the pointer was known to be on it has to be drawn again.
        if run.pointing.turn() {
            ctx.request_repaint();
        }
        actions.into_iter().for_each(|action| self.act(&ctx, action));
    }

    /// What lies over the pages.
    fn sheet(&mut self, ctx: &Context) {
        match std::mem::take(&mut self.session.sheet) {
            Sheet::None => {}
            Sheet::Shortcuts => {
                if !overlays::shortcuts(ctx) {
                    self.session.sheet = Sheet::Shortcuts;
                }
            }
            Sheet::Open(mut typed) => match overlays::open(ctx, &mut typed, &self.recents.1) {
                (Some(text), _) => self.open_text(ctx, &text),
                (None, true) => {}
                (None, false) => self.session.sheet = Sheet::Open(typed),
            },
            Sheet::Palette(mut palette) => match overlays::palette(ctx, &self.session, &mut palette) {
                (Some(Choice::Command(command)), _) => self.apply(ctx, command),
                (Some(Choice::Location(place)), _) => self.act(ctx, Action::Go(place)),
                (None, true) => {}
                (None, false) => self.session.sheet = Sheet::Palette(palette),
            },
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

    /// Wherever the pointer happens to be, it has no place in a picture.
    fn raw_input_hook(&mut self, _ctx: &Context, input: &mut egui::RawInput) {
        if self.shot.is_some() {
            input.events.retain(|event| !matches!(event, egui::Event::PointerMoved(_)));
        }
    }

    fn ui(&mut self, ui: &mut Ui, _frame: &mut eframe::Frame) {
        let ctx = ui.ctx().clone();
        self.dropped(&ctx);
        for command in keys::pressed(&ctx) {
            self.apply(&ctx, command);
        }
        self.panels(ui);
        self.sheet(&ctx);
        overlays::drop_target(&ctx);
        // What was clicked in this frame is asked for in this frame.
        self.request();
    }

    /// What is being typed is an edit; dropping the loader waits until it is written.
    fn on_exit(&mut self, _gl: Option<&eframe::glow::Context>) {
        if let Some(run) = self.session.run_mut() {
            run.labeling.commit();
        }
        if let Some(Effect::Save(edits)) = self.session.edited() {
            self.loader.save(edits);
        }
    }
}
