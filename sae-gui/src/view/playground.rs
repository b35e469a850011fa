//! The Playground page: which features are active in a prompt that the user enters, how the model continues it with some of them
//! steered, and what it writes under a guard.

use super::Action;
use super::guard::{self, GuardView};
use super::prompt::LoadedPrompt;
use super::sample::{self, SampleView};
use super::theme::{self, note, section};
use super::widgets::{self, feature_button, short_name};
use super::writing;
use crate::state::annotations::list_name_problem;
use crate::state::excerpt::display_text;
use crate::state::format;
use crate::state::location::Location;
use crate::state::open_run::OpenRun;
use crate::state::playground::{Answer, Continuation, parse_multiples};
use egui::{
    Button, Context, DragValue, Label, Panel, Rect, RichText, Role, ScrollArea, Sense, Slider, TextEdit, Ui,
    WidgetInfo, vec2,
};
use std::path::PathBuf;

/// Least width of a column of next tokens, and the space between two.
const COLUMN: f32 = 150.0;
const GAP: f32 = 10.0;
/// Multiples of the strengths that a button proposes.
const PROPOSED: &str = "0, 0.5, 1, 2";
/// Features of a list that are steered at most: each has a row of its own.
const MOST_STEERED: usize = 32;

/// What the page remembers between two frames.
#[derive(Default)]
pub struct PlaygroundView {
    prompt: LoadedPrompt,
    /// How the model continues, originally and steered, each with a title.
    continuations: Vec<(String, Continuation)>,
    sample: SampleView,
    /// The number of the feature to add.
    feature: u32,
    /// What is typed as the path of the image.
    image: String,
    /// What is typed as the name of a list of the steered features.
    preset: String,
    guard: GuardView,
    /// Whether the text that was written under a guard is shown, rather than the active features.
    shows_writing: bool,
}

impl PlaygroundView {
    /// Takes an answer and uploads its picture.
    pub fn set_answer(&mut self, ctx: &Context, answer: Result<Answer, String>) {
        self.sample.clear();
        self.shows_writing = false;
        let (prompt, continuations) = match answer {
            Err(reason) => (Err(reason), Vec::new()),
            Ok(answer) => {
                let title = |multiple: f32| match answer.steered.len() {
                    1 if multiple == 1.0 => "steered".to_owned(),
                    _ => format!("steered, {multiple}x"),
                };
                let steered: Vec<_> = answer.steered.iter().map(|(by, found)| (title(*by), found.clone())).collect();
                let original = ("original".to_owned(), answer.original);
                (Ok(answer.prompt), std::iter::once(original).chain(steered).collect())
            }
        };
        self.prompt.set(ctx, prompt);
        self.continuations = continuations;
    }

    /// Shows the text that is written under a guard.
    pub fn show_writing(&mut self) {
        self.shows_writing = true;
    }

    /// Forgets a run that is closed.
    pub fn clear(&mut self) {
        *self = Self::default();
    }
}

/// Draws the page.
pub fn show(ui: &mut Ui, run: &mut OpenRun, view: &mut PlaygroundView, opacity: f32) -> Option<Action> {
    let mut action = None;
    // More than two continuations need the width of the page.
    let several = view.continuations.len() > 2;
    let widest = (0.6 * ui.available_width()).max(240.0);
    let panel = Panel::left("prompt").default_size(380.0_f32.min(widest)).size_range(220.0..=widest.min(600.0));
    panel.frame(egui::Frame::NONE).show(ui, |ui| {
        ScrollArea::vertical().id_salt("prompt").auto_shrink(false).show(ui, |ui| {
            ui.set_max_width(ui.available_width() - 16.0);
            action = prompt(ui, run, view);
            action = guard::show(ui, run, &mut view.guard).or(action.take());
            if !several && !view.continuations.is_empty() {
                continuations(ui, &view.continuations);
            }
        });
    });
    let margin = egui::Frame::NONE.inner_margin(egui::Margin { left: 12, ..egui::Margin::ZERO });
    egui::CentralPanel::default().frame(margin).show(ui, |ui| {
        if run.writing.is_shown() && view.prompt.content.is_some() {
            ui.horizontal(|ui| {
                ui.selectable_value(&mut view.shows_writing, false, "Active features");
                ui.selectable_value(&mut view.shows_writing, true, "Guarded text");
            });
        }
        if run.writing.is_shown() && (view.shows_writing || view.prompt.content.is_none()) {
            action = writing::show(ui, run).or(action.take());
            return;
        }
        let found = answer(ui, run, view, several, opacity);
        action = found.or(action.take());
    });
    action
}

/// Which features are active in the prompt, and how the model continues it.
fn answer(ui: &mut Ui, run: &OpenRun, view: &mut PlaygroundView, several: bool, opacity: f32) -> Option<Action> {
    match &view.prompt.content {
        None => {
            ui.heading("Playground");
            note(ui, "Type a prompt on the left, add an image if you like, and see which features are active in it.");
            note(ui, "With a probe as a guard, the model writes an answer, and you see each sentence judged.");
            note(ui, "The model of the run runs on this machine. It is loaded when it is first used.");
        }
        Some(Err(reason)) => {
            ui.heading("The model could not run");
            widgets::reason(ui, reason);
        }
        Some(Ok(loaded)) => {
            if several {
                continuations(ui, &view.continuations);
                ui.separator();
            }
            return sample::halves(ui, run, loaded, &view.prompt.active, &mut view.sample, opacity, |_| None);
        }
    }
    None
}

fn prompt(ui: &mut Ui, run: &mut OpenRun, view: &mut PlaygroundView) -> Option<Action> {
    let mut action = None;
    section(ui, "Prompt", "What the user says. The model answers");
    let text = TextEdit::multiline(&mut run.playground.draft.text).hint_text("your own prompt").desired_rows(3);
    let response = ui.add(text.desired_width(f32::INFINITY));
    response.widget_info(|| WidgetInfo::labeled(Role::MultilineTextInput, true, "Prompt"));
    ui.horizontal(|ui| {
        ui.label("Image");
        let draft = &mut run.playground.draft;
        let typed = |text: &str| Some(text.trim()).filter(|path| !path.is_empty()).map(PathBuf::from);
        // The field is written again only for an image that was not typed, as one that was dropped on the window: a space that is
        // just being typed is part of the path.
        if typed(&view.image) != draft.image {
            view.image = draft.image.as_ref().map(|path| path.display().to_string()).unwrap_or_default();
        }
        let field = TextEdit::singleline(&mut view.image).hint_text("path of an image, or drop one on the window");
        let response = ui.add(field.desired_width(f32::INFINITY));
        response.widget_info(|| WidgetInfo::labeled(Role::TextInput, true, "Image of the prompt"));
        if response.changed() {
            draft.image = typed(&view.image);
        }
    });
    action = steering(ui, run, view).or(action.take());
    ui.add_space(6.0);
    ui.horizontal_wrapped(|ui| {
        let button = Button::new(RichText::new("Run the model").strong());
        if ui.add_enabled(run.playground.is_ready(), button).clicked() {
            action = run.playground.submit().map(Action::Submit);
        }
        if run.playground.busy {
            ui.spinner();
            note(ui, "running ...");
        } else if view.prompt.content.is_some() && run.playground.has_changed() {
            ui.label(theme::small(ui, "changed since"));
        }
    });
    action
}

/// The features whose activations are set.
fn steering(ui: &mut Ui, run: &mut OpenRun, view: &mut PlaygroundView) -> Option<Action> {
    let mut action = None;
    let hint = "The activation of these features is set at every position with content: 0 removes a feature, its maximum boosts \
                it";
    section(ui, "Steer features", hint);
    for (at, steer) in run.playground.draft.steers.clone().iter().enumerate() {
        let feature = steer.feature;
        ui.horizontal_wrapped(|ui| {
            if feature_button(ui, run, feature, None).clicked() {
                action = Some(Action::Go(Location::Feature(feature)));
            }
            if let Some(name) = short_name(ui, run, feature) {
                ui.label(name);
            }
        });
        let mut remove = false;
        ui.horizontal_wrapped(|ui| {
            let max = run.list.row(feature).map_or(1.0, |row| row.max).max(1e-3);
            let strength = &mut run.playground.draft.steers[at].strength;
            let range = 0.0..=2.0 * max.max(*strength);
            ui.spacing_mut().slider_width = 110.0;
            ui.add(Slider::new(strength, range).custom_formatter(|value, _| format!("{value:.2}")).text("activation"));
            if ui.small_button("Ablate").on_hover_text("Remove the feature from the hidden states").clicked() {
                *strength = 0.0;
            }
            if ui.small_button("Max").on_hover_text("Its largest activation in the run").clicked() {
                *strength = max;
            }
            remove = ui.small_button(format!("Reset feature {feature}")).clicked();
        });
        if remove {
            run.playground.reset(feature);
            break;
        }
    }
    if !run.playground.draft.steers.is_empty() {
        multiples(ui, &mut run.playground.draft.multiples);
    }
    ui.horizontal_wrapped(|ui| {
        let last = run.list.total().saturating_sub(1) as u32;
        ui.label("number");
        let field = ui.add(DragValue::new(&mut view.feature).range(0..=last));
        field.widget_info(|| WidgetInfo::labeled(Role::SpinButton, true, "Feature to steer"));
        let mut add = ui.button("Add").clicked().then_some(view.feature);
        if let Some(feature) = run.feature_number() {
            let button = ui.button(format!("Add {feature}"));
            add = button.on_hover_text("The feature that was shown last").clicked().then_some(feature).or(add);
        }
        add_at_max(run, add);
    });
    presets(ui, run, view).or(action)
}

/// Steers features at their maxima. Those that are steered already keep their strengths.
fn add_at_max(run: &mut OpenRun, features: impl IntoIterator<Item = u32>) {
    for feature in features {
        if let Some(row) = run.list.row(feature) {
            run.playground.steer(feature, row.max);
        }
    }
}

/// Lists of features as presets: those that exist can be steered, and what is steered can be saved as one.
fn presets(ui: &mut Ui, run: &mut OpenRun, view: &mut PlaygroundView) -> Option<Action> {
    let mut action = None;
    ui.horizontal_wrapped(|ui| {
        let lists: Vec<(String, usize)> =
            run.list.annotations().lists().map(|(name, count)| (name.to_owned(), count)).collect();
        if !lists.is_empty() {
            let menu = ui.menu_button("Add a list", |ui| {
                for (name, count) in &lists {
                    if ui.button(format!("{name} ({count})")).clicked() {
                        let features: Vec<u32> = run.list.annotations().list(name).take(MOST_STEERED).collect();
                        add_at_max(run, features);
                        ui.close();
                    }
                }
            });
            let hint = format!("Steer the features of a list at their maxima, {MOST_STEERED} of them at most");
            menu.response.on_hover_text(hint);
        }
        let features: Vec<u32> = run.playground.draft.steers.iter().map(|steer| steer.feature).collect();
        if features.is_empty() {
            return;
        }
        let field = TextEdit::singleline(&mut view.preset).hint_text("name of a list").desired_width(110.0);
        let response = ui.add(field);
        response.widget_info(|| WidgetInfo::labeled(Role::TextInput, true, "Name of the list of steered features"));
        let name = view.preset.trim();
        let ready = !name.is_empty() && list_name_problem(name).is_none();
        let button = ui.add_enabled(ready, Button::new("Save as list"));
        let hint = "Keep the steered features as a list. A link (Ctrl+L) holds their strengths as well";
        if button.on_hover_text(hint).clicked() {
            action = Some(Action::AddToList(name.to_owned(), features));
            view.preset.clear();
        }
    });
    action
}

/// The multiples of the strengths that are compared.
fn multiples(ui: &mut Ui, text: &mut String) {
    let hint = "The model is run once for each of these multiples of the strengths above, and the results are shown side by side: \
                0 removes the features, 1 is the strength above, 2 is twice as much";
    ui.horizontal_wrapped(|ui| {
        ui.label("multiples").on_hover_text(hint);
        let field = ui.add(TextEdit::singleline(text).desired_width(120.0));
        field.widget_info(|| WidgetInfo::labeled(Role::TextInput, true, "Multiples of the strengths"));
        field.on_hover_text(hint);
        if ui.small_button(PROPOSED).on_hover_text("Compare these multiples").clicked() {
            *text = PROPOSED.into();
        }
    });
    if let Err(problem) = parse_multiples(text) {
        ui.add(Label::new(RichText::new(problem).color(ui.visuals().warn_fg_color)).wrap());
    }
}

/// How the model continues, originally and steered, side by side in as many columns as fit.
fn continuations(ui: &mut Ui, found: &[(String, Continuation)]) {
    section(ui, "Next token", "The most likely next tokens; below, the most likely token one after the other");
    let room = ui.available_width();
    let columns = ((room + GAP) / (COLUMN + GAP)).floor().clamp(1.0, found.len().max(1) as f32);
    let width = (room - GAP * (columns - 1.0)) / columns;
    for row in found.chunks(columns as usize) {
        ui.horizontal_top(|ui| {
            ui.spacing_mut().item_spacing.x = GAP;
            for (title, continuation) in row {
                ui.vertical(|ui| {
                    ui.set_width(width);
                    ui.label(theme::small(ui, title));
                    for (token, probability) in &continuation.next {
                        next_token(ui, width, token, *probability);
                    }
                    ui.add(Label::new(RichText::new(display_text(&continuation.text)).italics()).wrap());
                });
            }
        });
        ui.add_space(6.0);
    }
}

fn next_token(ui: &mut Ui, width: f32, token: &str, probability: f32) {
    let (rect, _) = ui.allocate_exact_size(vec2(width, 18.0), Sense::hover());
    let bar = Rect::from_min_size(rect.min, vec2(probability * width, rect.height()));
    ui.painter().rect_filled(bar, 3.0, theme::class(ui, "text").gamma_multiply(0.3));
    let (font, ink) = (egui::FontId::proportional(12.5), ui.visuals().text_color());
    let left = rect.left_center() + vec2(4.0, 0.0);
    ui.painter().text(left, egui::Align2::LEFT_CENTER, display_text(token), font.clone(), ink);
    let percent = format::percent(probability.into());
    ui.painter().text(rect.right_center(), egui::Align2::RIGHT_CENTER, percent, font, ink);
}
