//! The part of the Playground page where a person chooses a guard and has the model write under it.

use super::Action;
use super::theme::{self, note, section};
use super::widgets;
use crate::state::guard::{CorrectionKind, GuardSettings, MOST_TOKENS, MOST_TRIES, ThresholdKind};
use crate::state::invocation::Invocation;
use crate::state::open_run::OpenRun;
use crate::state::writing::{WritingRequest, WritingState};
use egui::{Button, ComboBox, DragValue, Label, RichText, Role, TextEdit, Ui, WidgetInfo};

/// What ends a sentence, as a menu has it: name, what is written into the settings, meaning.
const BOUNDARIES: [(&str, &str, &str); 2] = [
    ("sentences", "sentence", "Sentences as Unicode divides text, but for abbreviations and numbers"),
    ("lines", "line", "A line break ends a sentence"),
];
/// The expression that is proposed.
const EXPRESSION: &str = "/[.;:]/";
/// The widest reason in the list of probes.
const REASON: f32 = 320.0;

/// What this part remembers between two frames.
#[derive(Default)]
pub struct GuardView {
    /// Whether the model was writing in the last frame.
    was_busy: bool,
}

/// Draws it.
pub fn show(ui: &mut Ui, run: &mut OpenRun, view: &mut GuardView) -> Option<Action> {
    let hint = "The model writes its answer sentence by sentence. A probe judges each sentence, and one that it flags is taken back \
                and written again before the next one";
    section(ui, "Write with a guard", hint);
    match &run.writing.guards {
        None => {
            note(ui, "Reading the probes ...");
            return None;
        }
        Some(guards) if guards.is_empty() => {
            nothing(ui, run);
            return None;
        }
        Some(_) => {}
    }
    guard(ui, &mut run.writing);
    settings(ui, &mut run.writing.settings);
    let request = run.writing_request();
    let mut action = None;
    ui.add_space(6.0);
    ui.horizontal_wrapped(|ui| {
        let writing = &mut run.writing;
        if writing.busy {
            let stop = ui.add_enabled(!writing.is_stopping, Button::new(RichText::new("Stop").strong()));
            // Whoever has started it with a key stops it with the same key.
            if !view.was_busy {
                stop.request_focus();
            }
            if stop.on_hover_text("The model stops after the next token").clicked() {
                action = Some(Action::StopWriting);
            }
        } else {
            let button = Button::new(RichText::new("Write").strong());
            let ready = request.is_ok() && !run.playground.busy;
            let button =
                ui.add_enabled(ready, button).on_hover_text("Begin the answer, in place of the text that is there");
            if let (true, Ok(request)) = (button.clicked(), &request) {
                action = Some(Action::Write(writing.begin(request.clone())));
            }
            let is_other = |last: &WritingRequest| request.as_ref().is_ok_and(|request| !last.is_of(request));
            if writing.submitted().is_some_and(is_other) {
                ui.label(theme::small(ui, "changed since"));
            }
        }
        view.was_busy = writing.busy;
    });
    match &request {
        Err(reason) => widgets::reason(ui, reason),
        Ok(request) => {
            // What was written last may have gone on from a text, which is part of its command.
            let last = run.writing.submitted().filter(|last| last.is_of(request)).unwrap_or(request);
            let invocation = Invocation::generate(&run.info, run.info.sae_name(), last);
            ui.add_space(4.0);
            note(ui, "The same as a command:");
            widgets::command_line(ui, &invocation.command_line());
        }
    }
    action
}

/// An autoencoder without probes.
fn nothing(ui: &mut Ui, run: &OpenRun) {
    let Some(sae) = &run.info.sae else {
        return note(ui, "The run has no autoencoder, so there is no probe that could be a guard.");
    };
    let text = format!(
        "A guard is a probe of the autoencoder that predicts what is not wanted. There is none yet.\nhint: `sae probe --run {} --sae \
         {sae} --name NAME --kind binary --label FIELD --part answer` learns one from a column of the data set with yes and no. \
         It appears here once it is made.",
        run.info.path().display()
    );
    widgets::reason(ui, &text);
}

/// Which probe is the guard. Those that cannot be one are listed with the reason.
fn guard(ui: &mut Ui, writing: &mut WritingState) {
    let shown = writing.settings.guard.clone();
    let title = if shown.is_empty() { "none fits" } else { &shown };
    ui.horizontal_wrapped(|ui| {
        ui.label("Guard");
        let combo = ComboBox::from_id_salt("guard").selected_text(title).show_ui(ui, |ui| {
            ui.set_max_width(REASON);
            for option in writing.guards.iter().flatten() {
                match &option.choice {
                    Ok(_) => {
                        let label = ui.selectable_label(option.name == shown, &option.name);
                        if label.on_hover_text(option.description()).clicked() {
                            writing.settings.guard = option.name.clone();
                        }
                    }
                    Err(reason) => {
                        ui.add_enabled(false, Button::selectable(false, &option.name));
                        note(ui, reason);
                    }
                }
            }
        });
        combo.response.widget_info(|| WidgetInfo::labeled(Role::ComboBox, true, "Guard"));
    });
    if let Some(option) = writing.guard() {
        note(ui, &option.description());
    }
}

fn settings(ui: &mut Ui, settings: &mut GuardSettings) {
    ui.horizontal_wrapped(|ui| {
        ui.label("Flag");
        let kinds = [
            (ThresholdKind::Severity, "severity above", "A sentence of a higher severity is flagged"),
            (
                ThresholdKind::FalsePositives,
                "false positives",
                "The lowest severity that at most this share of the run's harmless samples exceeds",
            ),
        ];
        for (kind, name, hint) in kinds {
            ui.radio_value(&mut settings.threshold, kind, name).on_hover_text(hint);
        }
        match settings.threshold {
            ThresholdKind::Severity => {
                let value = DragValue::new(&mut settings.severity).speed(0.01).max_decimals(4);
                labeled(ui, value, "Severity above which a sentence is flagged", "");
            }
            ThresholdKind::FalsePositives => {
                let mut percent = 100.0 * settings.false_positives;
                let value = DragValue::new(&mut percent).range(0.0..=99.0).speed(0.2).max_decimals(2).suffix("%");
                if labeled(ui, value, "Share of harmless samples that may be flagged", "") {
                    settings.false_positives = percent / 100.0;
                }
            }
        }
    });
    boundary(ui, settings);
    ui.horizontal_wrapped(|ui| {
        ui.label("Correct");
        for kind in CorrectionKind::ALL {
            ui.radio_value(&mut settings.correction, kind, kind.name()).on_hover_text(kind.hint());
        }
    });
    ui.horizontal_wrapped(|ui| {
        ui.label("tries");
        let hint = "How often a flagged sentence is written again at most; then the least severe version stays";
        labeled(ui, DragValue::new(&mut settings.tries).range(0..=MOST_TRIES), "Tries", hint);
        if settings.correction != CorrectionKind::Sample {
            ui.label("strength");
            let hint = "How far states are moved in the first try: 1 sets the features to 0, or adds the whole difference of means. \
                        Twice as far in each further try";
            let value = DragValue::new(&mut settings.strength).range(0.0..=100.0).speed(0.05).max_decimals(3);
            labeled(ui, value, "Strength", hint);
        }
    });
    ui.horizontal_wrapped(|ui| {
        ui.label("tokens");
        let tokens = DragValue::new(&mut settings.tokens).range(1..=MOST_TOKENS);
        labeled(ui, tokens, "Tokens", "Tokens that are written at most before the model stops");
        ui.label("temperature");
        let temperature = DragValue::new(&mut settings.temperature).range(0.0..=5.0).speed(0.02).max_decimals(3);
        labeled(ui, temperature, "Temperature", "0 takes the most likely token");
        ui.label("seed");
        labeled(ui, DragValue::new(&mut settings.seed), "Seed", "The same seed writes the same text");
    });
}

/// A number with its name for screen readers. Returns whether it was changed.
fn labeled(ui: &mut Ui, value: DragValue, name: &str, hint: &str) -> bool {
    let response = ui.add(value);
    response.widget_info(|| WidgetInfo::labeled(Role::SpinButton, true, name));
    let changed = response.changed();
    response.on_hover_text(if hint.is_empty() { name } else { hint });
    changed
}

/// What ends a sentence.
fn boundary(ui: &mut Ui, settings: &mut GuardSettings) {
    ui.horizontal_wrapped(|ui| {
        ui.label("Judge");
        for (name, value, hint) in BOUNDARIES {
            if ui.radio(settings.until == value, name).on_hover_text(hint).clicked() {
                settings.until = value.into();
            }
        }
        let is_expression = BOUNDARIES.iter().all(|(_, value, _)| settings.until != *value);
        let hint = "A match of a regular expression between slashes ends a sentence";
        if ui.radio(is_expression, "up to").on_hover_text(hint).clicked() && !is_expression {
            settings.until = EXPRESSION.into();
        }
        if is_expression {
            let field = ui.add(TextEdit::singleline(&mut settings.until).desired_width(80.0));
            field.widget_info(|| WidgetInfo::labeled(Role::TextInput, true, "Regular expression that ends a sentence"));
            field.on_hover_text(hint);
        }
    });
    if let Err(problem) = settings.boundary() {
        ui.add(Label::new(RichText::new(problem).color(ui.visuals().warn_fg_color)).wrap());
    }
}
