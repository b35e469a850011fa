//! The app as eframe runs it: a frame, the panels, what lies over them, effects, closing.

use super::action::Action;
use super::label_dialog::LabelAnswer;
use super::overlays::{self, UnsavedAnswer};
use super::pages::Pages;
use super::requested::Requested;
use super::sample::Drawn;
use super::screenshot::{Outcome, PendingScreenshot};
use super::side::Side;
use super::{
    compare, contrast, feature, filter, folders, keys, label, label_dialog, lists, map, menu_bar, playground, probe,
    report, sample, samples, search, status_bar, table, theme, viewer,
};
use crate::load::fonts::{self, SystemFont};
use crate::load::settings::{self, SETTINGS};
use crate::load::{self, ActivationWorker, BudgetWorker, Loader, PlaygroundWorker, Subprocess, recents};
use crate::state::effect::{Effect, Theme};
use crate::state::job::Job;
use crate::state::label_dialog::{LabelCost, LabelDialog};
use crate::state::location::{Location, Page};
use crate::state::open_dialog::OpenDialog;
use crate::state::overlay::{Overlay, PictureView, UnsavedDialog};
use crate::state::palette::Choice;
use crate::state::session::{Phase, Session};
use crate::state::settings::Settings;
use crate::state::{Command, Link};
use egui::{CentralPanel, ColorImage, Context, Frame, Margin, Panel, ScrollArea, ThemePreference, Ui, ViewportCommand};
use sae_core::store::image_format;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

/// Seconds after which edits that could not be saved are tried again.
const RETRY: f64 = 5.0;

/// What the command line asks for.
#[derive(Default)]
pub struct Options {
    /// The run to open.
    pub link: Option<Link>,
    /// Where its data set is, if not where the run says.
    pub data: Option<PathBuf>,
    /// The colors, if not those that were chosen last; none inside: those that the system prefers.
    pub theme: Option<Option<Theme>>,
    /// Where to write a picture of the window.
    pub screenshot: Option<PathBuf>,
    /// Where to say what came of it, and what could not be saved.
    pub outcome: Outcome,
    /// Whether to look for fonts of the system for scripts that the bundled fonts lack.
    pub system_fonts: bool,
    /// Set from outside when the window is to close at once, with what is being typed saved.
    pub stop: Arc<AtomicBool>,
    /// The folder for what is remembered between two starts (the runs that were opened last, the settings), if it is to be.
    pub memory: Option<PathBuf>,
}

/// The app.
pub struct App {
    pub(super) session: Session,
    pub(super) loader: Loader,
    pub(super) activation_worker: Option<ActivationWorker>,
    pub(super) playground_worker: Option<PlaygroundWorker>,
    pub(super) budget_worker: Option<BudgetWorker>,
    pub(super) subprocess: Option<Subprocess>,
    /// The second feature of a comparison.
    pub(super) side: Option<Side>,
    /// What labels of features cost, on its way.
    pub(super) label_cost: Option<Receiver<Result<LabelCost, String>>>,
    /// Where the data set is, if not where the run says.
    pub(super) data: Option<PathBuf>,
    pub(super) pages: Pages,
    pub(super) requested: Requested,
    /// The file of the runs that were opened last, and these runs.
    pub(super) recents: (Option<PathBuf>, Vec<String>),
    /// The folder for what is remembered between two starts.
    pub(super) memory: Option<PathBuf>,
    /// The file of the edits that an earlier session could not save, until they are saved.
    pub(super) recovered: Option<PathBuf>,
    pub(super) outcome: Outcome,
    pub(super) ctx: Context,
    /// Width of the pane with the table of features, as it was last.
    pane: Option<f32>,
    /// A picture of the window on its way to the clipboard.
    pub(super) window_picture: Option<Receiver<Arc<ColorImage>>>,
    /// The folder that a person chooses in the system's dialog, on its way.
    pub(super) chooser: Option<Receiver<Option<PathBuf>>>,
    /// Whether a picture of a sample is on its way to the clipboard or to a file.
    pub(super) exports: bool,
    /// Fonts of the system on their way.
    pub(super) fonts: Option<Receiver<Vec<SystemFont>>>,
    /// Whether to scroll to the row of the feature that is shown.
    pub(super) reveal: bool,
    screenshot: Option<PendingScreenshot>,
    /// The field of the start page.
    pub(super) start: OpenDialog,
    /// Whether a text field had the focus in the last frame.
    was_typing: bool,
    /// When edits that could not be saved were tried last, in seconds since the start.
    tried_at: f64,
    /// Whether the window closes without asking.
    closing: bool,
    /// Whether something outside of the window wants it to close.
    pub(super) stop: Arc<AtomicBool>,
}

impl App {
    /// Sets up the looks of the window, starts the loader and opens what is asked for.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn new(ctx: &Context, options: Options) -> std::io::Result<Self> {
        theme::install(ctx);
        theme::install_fonts(ctx, Vec::new());
        let fonts = options.system_fonts.then(|| {
            let (sender, fonts) = channel();
            let waker = ctx.clone();
            // Some tens of megabytes: the first frames are drawn without them.
            std::thread::spawn(move || {
                let _ = sender.send(fonts::system());
                waker.request_repaint();
            });
            fonts
        });
        let recents = options.memory.as_ref().map(|folder| folder.join("recents.json"));
        let recent_runs = recents.as_deref().map(recents::read).unwrap_or_default();
        let memory = options.memory;
        let remembered = memory.as_ref().map(|folder| settings::read(&folder.join(SETTINGS))).unwrap_or_default();
        let missing = options.data.as_ref().filter(|path| !path.exists()).cloned();
        let mut app = Self {
            session: Session::default(),
            loader: start_loader(ctx, options.data.clone())?,
            activation_worker: None,
            playground_worker: None,
            budget_worker: None,
            subprocess: None,
            side: None,
            label_cost: None,
            data: options.data,
            pages: Pages::default(),
            requested: Requested::default(),
            recents: (recents, recent_runs),
            memory,
            recovered: None,
            ctx: ctx.clone(),
            pane: remembered.pane,
            window_picture: None,
            chooser: None,
            exports: false,
            fonts,
            reveal: false,
            screenshot: options.screenshot.map(|path| PendingScreenshot::new(path, options.outcome.clone())),
            outcome: options.outcome,
            start: OpenDialog::default(),
            was_typing: false,
            tried_at: 0.0,
            closing: false,
            stop: options.stop,
        };
        app.recall(ctx, &remembered);
        let effects = app.session.set_theme(options.theme.unwrap_or(remembered.theme));
        effects.into_iter().for_each(|effect| app.perform(ctx, effect));
        if let Some(link) = options.link {
            let is_path = link == Link::to_run(link.run.clone());
            app.start.text = if is_path { link.run.display().to_string() } else { link.to_string() };
            let effects = app.session.open(link);
            effects.into_iter().for_each(|effect| app.perform(ctx, effect));
        }
        if let Some(path) = missing {
            let notice = format!("There is no {}: pictures are looked for where the run says.", path.display());
            app.session.notice = Some(notice);
        }
        Ok(app)
    }

    /// Takes over what was remembered.
    fn recall(&mut self, ctx: &Context, remembered: &Settings) {
        self.session.endpoint = remembered.endpoint.clone();
        self.session.table_hidden = remembered.table_hidden;
        remembered.zoom.into_iter().for_each(|zoom| ctx.set_zoom_factor(zoom));
        remembered.heat_opacity.into_iter().for_each(|opacity| self.pages.feature.heat_opacity = opacity);
        remembered.columns().into_iter().for_each(|columns| self.pages.table.columns = columns);
    }

    /// What is to be remembered.
    fn settings(&self) -> Settings {
        let ctx = &self.ctx;
        let window = ctx.input(|input| input.viewport().inner_rect).map(|rect| [rect.width(), rect.height()]);
        Settings {
            theme: self.session.theme,
            table_hidden: self.session.table_hidden,
            window,
            pane: self.pane,
            zoom: Some(ctx.zoom_factor()),
            heat_opacity: Some(self.pages.feature.heat_opacity),
            endpoint: self.session.endpoint.clone(),
            columns: self.pages.table.columns.iter().map(|field| field.name().to_owned()).collect(),
        }
    }

    /// The state, for tests.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// The state, to change it: for measurements and tests.
    pub fn session_mut(&mut self) -> &mut Session {
        &mut self.session
    }

    /// Runs a command.
    pub(super) fn apply(&mut self, ctx: &Context, command: Command) {
        let effects = self.session.apply(command);
        effects.into_iter().for_each(|effect| self.perform(ctx, effect));
    }

    pub(super) fn open_text(&mut self, ctx: &Context, text: &str) {
        let effects = self.session.open_text(text);
        effects.into_iter().for_each(|effect| self.perform(ctx, effect));
    }

    /// Does what the session asks for.
    pub(super) fn perform(&mut self, ctx: &Context, effect: Effect) {
        match effect {
            Effect::Open(link) => self.loader.open(link),
            Effect::Opened => self.start_workers(ctx),
            Effect::Copy(text) => ctx.copy_text(text),
            Effect::CopyPicture => self.copy_picture(ctx),
            Effect::FocusSearch(page) => {
                let field = if page == Page::Samples { samples::field_id() } else { search::field_id() };
                ctx.memory_mut(|memory| memory.request_focus(field));
            }
            Effect::FocusLabel(feature) => ctx.memory_mut(|memory| memory.request_focus(label::field_id(feature))),
            Effect::Reveal => self.reveal = true,
            Effect::Save(edits) => self.loader.save(edits),
            Effect::Start(invocation) => self.start(ctx, invocation),
            Effect::EstimateLabels(features) => self.estimate_labels(ctx, features),
            Effect::Theme(theme) => ctx.set_theme(match theme {
                None => ThemePreference::System,
                Some(Theme::Light) => ThemePreference::Light,
                Some(Theme::Dark) => ThemePreference::Dark,
            }),
            Effect::Quit => {
                self.closing = true;
                ctx.send_viewport_cmd(ViewportCommand::Close);
            }
        }
    }

    /// The title of the window.
    pub(super) fn title(&self) -> String {
        match self.session.run() {
            Some(run) => format!("{} - SAE workbench", run.info.name()),
            None => "SAE workbench".into(),
        }
    }

    /// Keeps the window open until all edits are saved, and asks what to do if they cannot be saved. A signal closes it without a
    /// question; what can be saved is saved then as well.
    fn closing(&mut self, ctx: &Context) {
        if self.stop.load(Ordering::SeqCst) && !self.closing {
            return self.perform(ctx, Effect::Quit);
        }
        let requested = ctx.input(|input| input.viewport().close_requested());
        if requested && !self.closing && !self.session.may_close() {
            ctx.send_viewport_cmd(ViewportCommand::CancelClose);
            let effects = self.session.quit();
            effects.into_iter().for_each(|effect| self.perform(ctx, effect));
        }
    }

    /// Tries again, now and then, to save edits that could not be saved.
    fn retry(&mut self, ctx: &Context) {
        if self.session.unsaved().1.is_none() {
            return;
        }
        ctx.request_repaint_after(Duration::from_secs_f64(RETRY));
        let now = ctx.input(|input| input.time);
        if now - self.tried_at >= RETRY {
            self.tried_at = now;
            let effects = self.session.retry();
            effects.into_iter().for_each(|effect| self.perform(ctx, effect));
        }
    }

    /// Opens a run that was dropped on the window, or takes an image as that of the prompt.
    fn dropped(&mut self, ctx: &Context) {
        let Some(file) = ctx.input(|input| input.raw.dropped_files.first().cloned()) else { return };
        let path = file.path().to_path_buf();
        let extension = path.extension().and_then(|kind| kind.to_str()).map(str::to_lowercase).unwrap_or_default();
        // An image that is dropped on the window becomes the image of the prompt.
        if let Some(run) = self.session.run_mut().filter(|_| image_format::EXTENSIONS.contains(&extension.as_str())) {
            run.playground.draft.image = Some(path);
            return self.act(ctx, Action::Go(Location::Page(Page::Playground)));
        }
        let effects = self.session.open(Link::to_run(path));
        effects.into_iter().for_each(|effect| self.perform(ctx, effect));
    }

    fn panels(&mut self, ui: &mut Ui) {
        let ctx = ui.ctx().clone();
        let bar = Frame::side_top_panel(ui.style()).inner_margin(Margin::symmetric(10, 4));
        let top = Panel::top("menus").frame(bar).show(ui, |ui| menu_bar::show(ui, &self.session));
        let used = self.pages.cache.bytes();
        let stop = Panel::bottom("status").frame(bar).show(ui, |ui| status_bar::show(ui, &self.session, used)).inner;
        if stop {
            self.subprocess.iter().for_each(Subprocess::stop);
        }
        overlays::shield(&ctx, top.response.rect.bottom());
        top.inner.into_iter().for_each(|action| self.act(&ctx, action));
        let margin = Frame::central_panel(ui.style()).inner_margin(Margin::symmetric(12, 10));
        if self.session.run().is_some() {
            let actions = self.page(ui, margin);
            actions.into_iter().for_each(|action| self.act(&ctx, action));
        } else {
            let (start, recents) = (&mut self.start, &self.recents.1);
            let page = CentralPanel::default().frame(margin);
            let entered = page.show(ui, |ui| overlays::start_page(ui, &self.session, start, recents)).inner;
            folders::request(&ctx, &self.loader, &mut self.chooser, start, None);
            entered.into_iter().for_each(|text| self.open_text(&ctx, &text));
        }
    }

    /// Draws the page that is shown. Returns what was clicked.
    fn page(&mut self, ui: &mut Ui, margin: Frame) -> Vec<Action> {
        let reveal = std::mem::take(&mut self.reveal);
        let Session { phase: Phase::Open(run), job, table_hidden, .. } = &mut self.session else { return Vec::new() };
        let pages = &mut self.pages;
        let (job, opacity) = (job.as_ref(), pages.feature.heat_opacity);
        let mut actions: Vec<Action> = Vec::new();
        if run.page() == Page::Features && (!*table_hidden || run.list.total() == 0) {
            let widest = (0.62 * ui.available_width()).max(240.0);
            let usual = (0.44 * ui.available_width()).clamp(240.0, 640.0);
            let width = self.pane.unwrap_or(usual).min(widest);
            let panel = Panel::left("features").frame(margin).default_size(width).size_range(240.0..=widest);
            let shown = panel.show(ui, |ui| {
                // A wide widget must not widen the panel.
                ui.set_max_width(ui.available_width());
                if run.list.total() == 0 {
                    actions.extend(table::without_features(ui, run, job.is_some_and(Job::is_running)));
                    return;
                }
                actions.extend(search::show(ui, run));
                actions.extend(map::show(ui, run, &mut pages.map).map(|k| Action::Go(Location::Feature(k))));
                actions.extend(lists::show(ui, run, &mut pages.table, &mut pages.list_name));
                ui.add_space(2.0);
                // The columns of a narrow pane are scrolled to, as the table would widen the pane.
                ScrollArea::horizontal().id_salt("columns").auto_shrink(false).show(ui, |ui| {
                    actions.extend(table::show(ui, run, &mut pages.table, reveal));
                });
            });
            self.pane = Some(shown.response.rect.width());
        }
        let (cache, side) = (&mut pages.cache, self.side.as_mut());
        CentralPanel::default().frame(margin).show(ui, |ui| {
            let action = match run.page() {
                Page::Features => feature::show(ui, run, cache, &mut pages.feature),
                Page::Samples => samples::show(ui, run, cache, &mut pages.samples),
                Page::Sample => sample::show(ui, run, cache, &mut pages.sample, opacity),
                Page::Filter => filter::show(ui, run, cache, &mut pages.filter, job),
                Page::Playground => playground::show(ui, run, &mut pages.playground, opacity),
                Page::Contrast => contrast::show(ui, run, cache, &mut pages.contrast, &mut pages.feature.heat_opacity),
                Page::Probe => probe::show(ui, run, cache, &mut pages.probe, &mut pages.feature.heat_opacity),
                Page::Run => report::show(ui, run, &mut pages.report, job),
                Page::Compare => {
                    let explanations = pages.sample.explanations_of(run.sample());
                    let opacity = &mut pages.feature.heat_opacity;
                    compare::show(ui, run, cache, &mut pages.compare, side, opacity, explanations)
                }
            };
            actions.extend(action);
        });
        // What was drawn before it was known to be under the pointer has to be drawn again.
        if run.hover.end_frame() {
            ui.ctx().request_repaint();
        }
        actions
    }

    /// Draws what lies over the pages.
    fn overlay(&mut self, ctx: &Context) {
        match std::mem::take(&mut self.session.overlay) {
            Overlay::None => {}
            Overlay::Shortcuts => {
                if !overlays::shortcuts(ctx) {
                    self.session.overlay = Overlay::Shortcuts;
                }
            }
            Overlay::Open(mut dialog) => {
                let (entered, close) = overlays::open(ctx, &mut dialog, self.session.is_opening(), &self.recents.1);
                let run = self.session.run().map(|run| run.info.root.as_path());
                folders::request(ctx, &self.loader, &mut self.chooser, &mut dialog, run);
                if !close {
                    self.session.overlay = Overlay::Open(dialog);
                }
                entered.into_iter().for_each(|text| self.open_text(ctx, &text));
            }
            Overlay::Palette(mut palette) => match overlays::palette(ctx, &self.session, &mut palette) {
                (Some(Choice::Command(command)), _) => self.apply(ctx, command),
                (Some(Choice::Location(location)), _) => self.act(ctx, Action::Go(location)),
                (Some(Choice::Link(link)), _) => self.open_text(ctx, &link),
                (None, true) => {}
                (None, false) => self.session.overlay = Overlay::Palette(palette),
            },
            Overlay::Picture(of) => self.view_picture(ctx, of),
            Overlay::AskLabel(dialog) => self.ask_label(ctx, dialog),
            Overlay::SavePicture(mut dialog) => {
                let (file, close) = overlays::save_picture(ctx, &mut dialog);
                file.into_iter().for_each(|file| self.export_picture(dialog.picture, Some(file)));
                if !close {
                    self.session.overlay = Overlay::SavePicture(dialog);
                }
            }
            Overlay::Confirm(invocation) => match overlays::confirm(ctx, &invocation) {
                Some(true) => self.perform(ctx, Effect::Start(invocation)),
                Some(false) => {}
                None => self.session.overlay = Overlay::Confirm(invocation),
            },
            Overlay::Unsaved(dialog) => self.unsaved(ctx, dialog),
        }
    }

    /// Draws the dialog that asks a model for labels, and does what was chosen in it.
    fn ask_label(&mut self, ctx: &Context, mut dialog: LabelDialog) {
        let Some(run) = self.session.run() else { return };
        let answer = label_dialog::show(ctx, &mut dialog, &run.info, self.session.job.as_ref());
        let invocation = matches!(answer, Some(LabelAnswer::Start)).then(|| dialog.invocation(&run.info));
        self.session.endpoint = dialog.endpoint.clone();
        if let Some(invocation) = invocation {
            dialog.started = true;
            self.perform(ctx, Effect::Start(invocation));
        }
        match answer {
            Some(LabelAnswer::Close) => return,
            Some(LabelAnswer::Stop) => self.subprocess.iter().for_each(Subprocess::stop),
            Some(LabelAnswer::Start) | None => {}
        }
        self.session.overlay = Overlay::AskLabel(dialog);
    }

    /// Draws a picture as large as the window.
    fn view_picture(&mut self, ctx: &Context, of: PictureView) {
        let Some(run) = self.session.run() else { return };
        let Pages { cache, viewer, feature, sample, .. } = &mut self.pages;
        let drawn = Drawn::new(run, &cache.active(of.sample), sample);
        let loaded = cache.get(of.sample).and_then(Result::ok);
        if !viewer::show(ctx, viewer, of, loaded, &drawn, &mut feature.heat_opacity) {
            self.session.overlay = Overlay::Picture(of);
        }
    }

    /// Asks what to do with edits that cannot be saved, and does it.
    fn unsaved(&mut self, ctx: &Context, mut dialog: UnsavedDialog) {
        let files = self.session.unsaved_labels().count();
        match overlays::unsaved(ctx, self.session.unsaved(), files, &mut dialog) {
            None => self.session.overlay = Overlay::Unsaved(dialog),
            Some(UnsavedAnswer::Stay) => {}
            Some(UnsavedAnswer::Quit) => self.perform(ctx, Effect::Quit),
            Some(UnsavedAnswer::Retry) => {
                let effects = self.session.quit();
                effects.into_iter().for_each(|effect| self.perform(ctx, effect));
            }
            Some(UnsavedAnswer::WriteTo(path)) => {
                let files = self.session.unsaved_labels().zip(numbered(Path::new(&path)));
                let written = files.into_iter().try_for_each(|(edits, path)| {
                    let labels = serde_json::to_string_pretty(edits.edited()).map_err(|error| error.to_string())?;
                    load::write_text(&path, &labels)
                });
                match written {
                    Ok(()) => self.perform(ctx, Effect::Quit),
                    Err(problem) => {
                        dialog.problem = Some(problem);
                        self.session.overlay = Overlay::Unsaved(dialog);
                    }
                }
            }
        }
    }
}

/// The path, then others beside it: `labels.json`, `labels-2.json`, `labels-3.json`.
fn numbered(path: &Path) -> impl Iterator<Item = PathBuf> {
    let name = |n: u32| {
        let mut name = path.file_stem().unwrap_or_default().to_os_string();
        name.push(format!("-{n}"));
        path.with_file_name(name).with_extension(path.extension().unwrap_or_default())
    };
    std::iter::once(path.to_path_buf()).chain((2..).map(name))
}

/// Starts the loader; it wakes the window after every reply.
fn start_loader(ctx: &Context, data: Option<PathBuf>) -> std::io::Result<Loader> {
    let waker = ctx.clone();
    Loader::start(data, move || waker.request_repaint())
}

impl eframe::App for App {
    fn logic(&mut self, ctx: &Context, _frame: &mut eframe::Frame) {
        self.receive(ctx);
        self.compare(ctx);
        self.request();
        self.closing(ctx);
        self.retry(ctx);
        let settled = self.is_settled();
        let failure = match &self.session.phase {
            Phase::Failed(reason) => Some(reason.as_str()),
            _ => None,
        };
        if let Some(screenshot) = &mut self.screenshot {
            screenshot.frame(ctx, settled, failure, self.session.notice.as_deref());
        }
    }

    /// Wherever the pointer happens to be, it does not belong into a picture.
    fn raw_input_hook(&mut self, _ctx: &Context, input: &mut egui::RawInput) {
        if self.screenshot.is_some() {
            input.events.retain(|event| !matches!(event, egui::Event::PointerMoved(_)));
        }
    }

    fn ui(&mut self, ui: &mut Ui, _frame: &mut eframe::Frame) {
        let ctx = ui.ctx().clone();
        self.dropped(&ctx);
        for command in keys::pressed(&ctx, self.was_typing) {
            self.apply(&ctx, command);
        }
        self.panels(ui);
        self.overlay(&ctx);
        overlays::drop_target(&ctx);
        self.was_typing = ctx.text_edit_focused();
        // What was clicked in this frame is asked for in this frame.
        self.request();
    }

    /// What is being typed is an edit.
    fn on_exit(&mut self, _gl: Option<&eframe::glow::Context>) {
        self.save_at_exit();
        if let Some(folder) = &self.memory {
            settings::write(&folder.join(SETTINGS), &self.settings());
        }
    }
}
