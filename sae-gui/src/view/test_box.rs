//! The part of a feature's page where the feature is tested on the user's own text: its activation on each token, and a button
//! that steers it on this text.

use super::Action;
use super::heat_map;
use super::prompt::LoadedPrompt;
use super::sample_cache::LoadedSample;
use super::theme::{self, note, section};
use super::widgets;
use crate::state::activations::SampleActivations;
use crate::state::excerpt::{Span, Tone, display_text, spans};
use crate::state::format;
use crate::state::open_run::OpenRun;
use crate::state::playground::PromptActivations;
use egui::{Button, Context, Key, Label, RichText, Role, TextEdit, Ui, WidgetInfo, vec2};
use sae_core::analysis::index::FeatureRow;

/// What the test remembers between two frames.
#[derive(Default)]
pub struct TestBox {
    prompt: LoadedPrompt,
    /// Whether to scroll to the test and put the cursor into its field.
    focus: bool,
}

impl TestBox {
    /// Takes what the model has computed.
    pub fn set_result(&mut self, ctx: &Context, prompt: Result<PromptActivations, String>) {
        self.prompt.set(ctx, prompt);
    }

    /// Scrolls to the test and puts the cursor into its field.
    pub fn focus(&mut self) {
        self.focus = true;
    }
}

/// Draws the test.
pub fn show(ui: &mut Ui, run: &mut OpenRun, feature: &FeatureRow, view: &mut TestBox) -> Option<Action> {
    let mut action = None;
    let hint = "The model of the run reads your text, and the autoencoder says where the feature fires in it. The text stays \
                while you look at other features";
    section(ui, "Test on your own text", hint);
    ui.horizontal(|ui| {
        let room = (ui.available_width() - 150.0).max(100.0);
        let field = TextEdit::singleline(&mut run.test.draft.text).hint_text("your own text").desired_width(room);
        let response = ui.add(field);
        response.widget_info(|| WidgetInfo::labeled(Role::TextInput, true, "Text to test"));
        if std::mem::take(&mut view.focus) {
            response.request_focus();
            response.scroll_to_me(Some(egui::Align::Center));
        }
        let entered = response.lost_focus() && ui.input(|input| input.key_pressed(Key::Enter));
        let test = ui.add_enabled(run.test.is_ready(), Button::new("Test"));
        if test.on_hover_text("Run the model on this text (Enter)").clicked() || entered {
            action = run.test.submit().map(Action::Test);
        }
        let steer =
            ui.button("Steer").on_hover_text("Go to the Playground with this text and this feature at its maximum");
        if steer.clicked() {
            let text = run.test.draft.text.trim().to_owned();
            action = Some(Action::Steer { features: vec![feature.feature], prompt: Some(text) });
        }
    });
    if run.test.busy {
        ui.horizontal(|ui| {
            ui.spinner();
            note(ui, "running the model ...");
        });
    }
    match (&view.prompt.content, &view.prompt.active) {
        (Some(Ok(loaded)), Some(Ok(active))) => {
            if run.test.has_changed() && !run.test.busy {
                ui.label(theme::small(ui, "changed since"));
            }
            result(ui, loaded, active, feature);
        }
        (Some(Err(reason)), _) => widgets::reason(ui, reason),
        _ => {}
    }
    action
}

fn result(ui: &mut Ui, loaded: &LoadedSample, active: &SampleActivations, feature: &FeatureRow) {
    let values = active.of_feature(feature.feature);
    let spans = spans(&loaded.data.tokens, None);
    note(ui, &summary(&spans, &values, feature.max));
    ui.horizontal_wrapped(|ui| {
        ui.spacing_mut().item_spacing = vec2(0.0, 4.0);
        spans.iter().filter(|span| !span.tokens.is_empty()).for_each(|span| token(ui, span, &values, feature.max));
    });
}

/// Where the feature is strongest, in a sentence.
fn summary(spans: &[Span], values: &[f32], max: f32) -> String {
    let strongest = spans.iter().max_by(|a, b| a.activation(values).total_cmp(&b.activation(values)));
    let Some((span, value)) = strongest.map(|span| (span, span.activation(values))).filter(|(_, value)| *value > 0.0)
    else {
        return "The feature does not fire on this text.".into();
    };
    let share = format::percent(f64::from(value / max.max(f32::MIN_POSITIVE)));
    let [value, max] = [value, max].map(|value| format::real(value.into()));
    let word = display_text(&span.text);
    format!("Strongest on \"{}\": {value}, which is {share} of its maximum in the run ({max}).", word.trim())
}

/// A token on the color of its activation, with the number below it.
fn token(ui: &mut Ui, span: &Span, values: &[f32], max: f32) {
    let value = span.activation(values);
    let word = display_text(&span.text);
    ui.vertical(|ui| {
        ui.spacing_mut().item_spacing.y = 0.0;
        let text = if span.tone == Tone::Muted { theme::small(ui, &word) } else { RichText::new(word.as_str()) };
        let text = text.background_color(heat_map::text_background(ui, value, max));
        let text = match heat_map::text_color(ui, value, max) {
            Some(color) => text.color(color),
            None => text,
        };
        let label = ui.add(Label::new(text).extend());
        let number = if value > 0.0 { format::real(value.into()) } else { String::new() };
        label.widget_info(|| WidgetInfo::labeled(Role::Label, true, format!("{} {number}", word.trim()).trim()));
        ui.add(Label::new(theme::small(ui, &number)).extend());
    });
}
