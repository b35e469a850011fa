//! A text that the model writes under a guard: its sentences colored by severity, the versions that did not stay beside those that
//! did, what carried a verdict, and the field in which a person changes the text.

use super::Action;
use super::theme::{self, note};
use super::widgets::{self, feature_button};
use crate::state::excerpt::display_text;
use crate::state::format;
use crate::state::location::Location;
use crate::state::open_run::OpenRun;
use crate::state::writing::{Ending, Part, Sentence, Shade, WritingState};
use egui::text::{LayoutJob, TextFormat};
use egui::{
    Button, Color32, Frame, Label, Margin, Rect, Response, RichText, Role, ScrollArea, Sense, Stroke, StrokeKind,
    TextEdit, TextStyle, Ui, WidgetInfo, pos2, vec2,
};
use sae_workbench::generate::Version;

/// Width of the column with severities, the space between columns, and that in front of versions that stand below.
const GUTTER: f32 = 44.0;
const GAP: f32 = 14.0;
const INDENT: f32 = 18.0;
/// Width from which on versions that did not stay stand beside those that did.
const WIDE: f32 = 520.0;
/// Width of the scale in the legend, and its steps.
const SCALE: f32 = 150.0;
const STEPS: usize = 30;
/// Promoted tokens of a feature.
const TOKENS: usize = 6;

/// Draws the text.
pub fn show(ui: &mut Ui, run: &mut OpenRun) -> Option<Action> {
    let mut action = head(ui, run);
    legend(ui, &run.writing);
    ui.add_space(4.0);
    if run.writing.edited.is_some() {
        return editor(ui, run).or(action);
    }
    ScrollArea::vertical().id_salt("guarded text").auto_shrink(false).stick_to_bottom(run.writing.busy).show(
        ui,
        |ui| {
            ui.set_max_width(ui.available_width() - 14.0);
            action = parts(ui, run).or(action.take());
        },
    );
    action
}

/// What is going on, and what can be done.
fn head(ui: &mut Ui, run: &mut OpenRun) -> Option<Action> {
    let mut action = None;
    ui.heading("Guarded text");
    let request = run.writing_request();
    let writing = &mut run.writing;
    ui.horizontal_wrapped(|ui| {
        if writing.busy {
            ui.spinner();
            note(ui, &progress(writing));
            return;
        }
        let has_text = !writing.text().is_empty();
        if writing.edited.is_none() {
            let edit = ui.add_enabled(has_text, Button::new("Edit the text"));
            if edit.on_hover_text("Change the text, and let the model continue it").clicked() {
                writing.edit();
            }
            let go_on = ui.add_enabled(has_text && request.is_ok(), Button::new("Continue"));
            if let (true, Ok(request)) =
                (go_on.on_hover_text("Write more, from the end of the text").clicked(), &request)
            {
                action = Some(Action::Write(writing.go_on(request.clone())));
            }
            if ui.add_enabled(has_text, Button::new("Copy text")).clicked() {
                action = Some(Action::Copy(writing.text(), "Text copied."));
            }
        }
        note(ui, &writing.summary());
    });
    match writing.ending() {
        Some(Ending::Failed(reason)) => widgets::reason(ui, reason),
        Some(ending) => note(ui, ending.sentence()),
        None => {}
    }
    action
}

/// What the model is doing.
fn progress(writing: &WritingState) -> String {
    if writing.is_stopping {
        return "stopping after the next token ...".into();
    }
    if let Some(doing) = &writing.doing {
        return format!("{doing} ...");
    }
    let Some(underway) = writing.underway() else { return "reading the prompt ...".into() };
    let sentence = writing.parts().len() + 1;
    let steered = underway.strength.map(|strength| format!(", steered with strength {strength}")).unwrap_or_default();
    match underway.attempt {
        0 => format!("writing sentence {sentence} ..."),
        attempt => format!("writing sentence {sentence} again, try {attempt}{steered} ..."),
    }
}

/// What the colors mean.
fn legend(ui: &mut Ui, writing: &WritingState) {
    let Some(threshold) = writing.threshold() else { return };
    ui.horizontal_wrapped(|ui| {
        let [low, high] = writing.range();
        ui.label(theme::small(ui, &format::real(low)));
        let (rect, response) = ui.allocate_exact_size(vec2(SCALE, 12.0), Sense::hover());
        let x = |severity: f64| rect.left() + ((severity - low) / (high - low)) as f32 * rect.width();
        for step in 0..STEPS {
            let severity = low + (high - low) * (step as f64 + 0.5) / STEPS as f64;
            let sides = [step, step + 1].map(|step| rect.left() + rect.width() * step as f32 / STEPS as f32);
            let part = Rect::from_min_max(pos2(sides[0], rect.top()), pos2(sides[1], rect.bottom()));
            let color = writing.shade(severity).map_or(Color32::TRANSPARENT, |shade| theme::severity(ui, shade));
            ui.painter().rect_filled(part, 0.0, color);
        }
        let ink = Stroke::new(1.5, ui.visuals().strong_text_color());
        ui.painter().vline(x(threshold), rect.top() - 2.0..=rect.bottom() + 2.0, ink);
        let text = format!("Severities from {} to {}", format::real(low), format::real(high));
        response.widget_info(|| WidgetInfo::labeled(Role::Label, true, &text));
        response.on_hover_text("The line is the threshold");
        ui.label(theme::small(ui, &format::real(high)));
        let meanings = [
            format!("blue: accepted, at most {}", format::real(threshold)),
            "orange, underlined: flagged".into(),
            "italic: not judged".into(),
        ];
        meanings.iter().for_each(|meaning| drop(ui.label(theme::small(ui, meaning))));
    });
}

/// The field in which the text is changed.
fn editor(ui: &mut Ui, run: &mut OpenRun) -> Option<Action> {
    let mut action = None;
    let request = run.writing_request();
    let writing = &mut run.writing;
    note(ui, "Sentences that you leave as they are keep their verdicts. The model continues at the end of the text.");
    if let Some(text) = &mut writing.edited {
        let field = ui.add(TextEdit::multiline(text).desired_rows(8).desired_width(f32::INFINITY));
        field.widget_info(|| WidgetInfo::labeled(Role::MultilineTextInput, true, "Text for the model to continue"));
    }
    ui.horizontal_wrapped(|ui| {
        let go_on = ui.add_enabled(request.is_ok(), Button::new(RichText::new("Continue from here").strong()));
        if let (true, Ok(request)) = (go_on.clicked(), request) {
            action = Some(Action::Write(writing.go_on(request)));
        }
        if ui.button("Discard changes").clicked() {
            writing.edited = None;
        }
    });
    action
}

/// All parts of the text, one below the other.
fn parts(ui: &mut Ui, run: &mut OpenRun) -> Option<Action> {
    let (mut action, mut chosen) = (None, None);
    let explained = run.writing.explained().map(|(part, at, _)| (part, at));
    for (number, part) in run.writing.parts().iter().enumerate() {
        match part {
            Part::Typed(text) => row(ui, "yours", |ui| drop(ui.add(Label::new(unjudged(ui, text)).wrap()))),
            Part::Written(sentence) => {
                chosen = self::sentence(ui, &run.writing, sentence, number, explained).or(chosen);
            }
        }
        action = why(ui, run, number, explained).or(action.take());
    }
    if let Some(underway) = run.writing.underway() {
        let number = run.writing.parts().len();
        chosen = sentence(ui, &run.writing, &underway.sentence, number, explained).or(chosen);
        if !underway.text.is_empty() {
            row(ui, "...", |ui| drop(ui.add(Label::new(unjudged(ui, &underway.text)).wrap())));
        }
        action = why(ui, run, number, explained).or(action.take());
    }
    run.writing.chosen = chosen.or(run.writing.chosen);
    action
}

fn unjudged(ui: &Ui, text: &str) -> RichText {
    RichText::new(display_text(text.trim())).italics().color(theme::muted(ui))
}

/// Something beside the column of severities.
fn row(ui: &mut Ui, margin: &str, content: impl FnOnce(&mut Ui)) {
    ui.horizontal_top(|ui| {
        ui.spacing_mut().item_spacing.x = 6.0;
        ui.vertical(|ui| {
            ui.set_width(GUTTER);
            ui.label(theme::small(ui, margin));
        });
        ui.vertical(content);
    });
}

/// A sentence: the version that stays, and the others beside or below it. Returns a version that was clicked.
fn sentence(
    ui: &mut Ui,
    writing: &WritingState,
    sentence: &Sentence,
    number: usize,
    explained: Option<(usize, usize)>,
) -> Option<(usize, usize)> {
    let mut clicked = None;
    let room = ui.available_width();
    let has_others = sentence.others().next().is_some() || !sentence.dropped.is_empty();
    let is_wide = room >= WIDE && has_others;
    let width = if is_wide { 0.54 * (room - GAP) } else { room };
    let mut draw = |ui: &mut Ui, at: usize, version: &Version| {
        let is_shown = explained == Some((number, at));
        if self::version(ui, writing, sentence, number, at, version, is_shown).clicked() {
            clicked = Some((number, at));
        }
    };
    let dropped = |ui: &mut Ui| sentence.dropped.iter().for_each(|dropped| note(ui, &dropped.sentence()));
    ui.horizontal_top(|ui| {
        ui.spacing_mut().item_spacing.x = GAP;
        ui.vertical(|ui| {
            ui.set_width(width);
            if let Some((at, version)) = sentence.kept.zip(sentence.stays()) {
                draw(ui, at, version);
            }
            if !is_wide && has_others {
                ui.horizontal_top(|ui| {
                    ui.spacing_mut().item_spacing.x = 0.0;
                    ui.add_space(INDENT);
                    ui.vertical(|ui| {
                        ui.set_width(width - INDENT);
                        sentence.others().for_each(|(at, version)| draw(ui, at, version));
                        dropped(ui);
                    });
                });
            }
        });
        if is_wide {
            ui.vertical(|ui| {
                ui.set_width(room - GAP - width);
                sentence.others().for_each(|(at, version)| draw(ui, at, version));
                dropped(ui);
            });
        }
    });
    clicked
}

/// A version in the color of its severity, with the severity in front of it.
fn version(
    ui: &mut Ui,
    writing: &WritingState,
    sentence: &Sentence,
    number: usize,
    at: usize,
    version: &Version,
    is_explained: bool,
) -> Response {
    let stays = sentence.kept == Some(at);
    let severity = format::maybe(version.severity);
    let shade = version.severity.and_then(|severity| writing.shade(severity));
    let text = display_text(version.text.trim());
    let shown = ui.horizontal_top(|ui| {
        ui.spacing_mut().item_spacing.x = 6.0;
        ui.vertical(|ui| {
            ui.set_width(GUTTER);
            ui.spacing_mut().item_spacing.y = 0.0;
            let number = RichText::new(&severity).monospace();
            ui.label(if stays { number.strong() } else { number.color(theme::muted(ui)) });
        });
        let room = ui.available_width();
        ui.vertical(|ui| {
            ui.set_width(room);
            ui.spacing_mut().item_spacing.y = 1.0;
            let label = ui.add(Label::new(colored(ui, &text, shade, stays)).wrap().sense(Sense::click()));
            if !stays {
                ui.label(theme::small(ui, &origin(sentence, version)));
            }
            label
        })
    });
    let response = shown.inner.inner;
    if is_explained {
        let around = response.rect.expand2(vec2(3.0, 1.0));
        let stroke = Stroke::new(1.5, ui.visuals().strong_text_color());
        ui.painter().rect_stroke(around, 4.0, stroke, StrokeKind::Outside);
    }
    let state = match (stays, version.accepted) {
        (true, true) => "accepted",
        (true, false) => "flagged, stays as the least severe version",
        (false, true) => "accepted",
        (false, false) => "flagged, taken back",
    };
    let said = format!("sentence {}, try {}, {state}, severity {severity}: {text}", number + 1, version.attempt);
    response.widget_info(|| WidgetInfo::labeled(Role::Button, true, &said));
    let nll = match version.nll {
        Some(nll) if nll.is_finite() => format!("{} nats", format::real(nll)),
        _ => "not a number: the model's logits are not finite".into(),
    };
    let tokens = format::counted(version.tokens, "token");
    response.on_hover_text(format!(
        "Severity {severity}: {state}. Negative log-likelihood of its {tokens} under the model without steering: {nll}. Click to \
         see why."
    ))
}

/// Which try it was.
fn origin(sentence: &Sentence, version: &Version) -> String {
    let what = match (version.attempt, version.strength) {
        (0, _) => "first version".to_owned(),
        (attempt, None) => format!("try {attempt}, drawn again"),
        (attempt, Some(strength)) => format!("try {attempt}, steered with strength {strength}"),
    };
    if sentence.kept.is_some() && version.accepted { format!("{what}, not needed") } else { what }
}

/// A text on the color of its severity; flagged ones are underlined as well.
fn colored(ui: &Ui, text: &str, shade: Option<Shade>, stays: bool) -> LayoutJob {
    let font = TextStyle::Body.resolve(ui.style());
    let ink = if stays { ui.visuals().strong_text_color() } else { ui.visuals().text_color() };
    let mut format = TextFormat::simple(font, ink);
    if let Some(shade) = shade {
        format.background = theme::severity(ui, shade);
        format.expand_bg = 2.0;
        if shade.is_flagged {
            format.underline = Stroke::new(1.5, theme::flagged(ui));
        }
    }
    LayoutJob::single_section(text.to_owned(), format)
}

/// What carried the verdict on a version of this part, if it is the one that is explained.
fn why(ui: &mut Ui, run: &OpenRun, part: usize, explained: Option<(usize, usize)>) -> Option<Action> {
    let (_, at) = explained.filter(|(explained, _)| *explained == part)?;
    let sentence = run.writing.sentence(part)?;
    let version = sentence.versions.get(at)?;
    let mut action = None;
    let (fill, stroke) = theme::card(ui);
    let frame = Frame::NONE.fill(fill).stroke(stroke).corner_radius(6.0).inner_margin(Margin::symmetric(10, 6));
    frame.show(ui, |ui| {
        ui.set_width(ui.available_width());
        let severity = format::maybe(version.severity);
        let verdict = match (version.accepted, run.writing.threshold()) {
            (false, Some(threshold)) => {
                format!("flagged: {severity} is above the threshold {}", format::real(threshold))
            }
            (true, Some(threshold)) => {
                format!("accepted: {severity} is not above the threshold {}", format::real(threshold))
            }
            _ => severity,
        };
        let which = if version.attempt == 0 { "first version".into() } else { format!("try {}", version.attempt) };
        ui.label(RichText::new(format!("Why sentence {}, {which}, is {verdict}", part + 1)).strong());
        if version.causes.is_empty() {
            note(ui, "No active feature raises the severity: what is left is the probe's offset.");
        }
        let most = version.causes.iter().map(|(_, share)| *share).fold(f64::MIN_POSITIVE, f64::max);
        for (feature, share) in &version.causes {
            action = cause(ui, run, *feature, *share, most).or(action.take());
        }
    });
    ui.add_space(4.0);
    action
}

/// A feature that raises a severity: by how much, what it is called, what it promotes.
fn cause(ui: &mut Ui, run: &OpenRun, feature: u32, share: f64, most: f64) -> Option<Action> {
    let mut action = None;
    ui.horizontal_wrapped(|ui| {
        if feature_button(ui, run, feature, None).clicked() {
            action = Some(Action::Go(Location::Feature(feature)));
        }
        let (rect, response) = ui.allocate_exact_size(vec2(54.0, 10.0), Sense::hover());
        let filled = Rect::from_min_size(rect.min, vec2((share / most) as f32 * rect.width(), rect.height()));
        ui.painter().rect_filled(rect, 2.0, ui.visuals().extreme_bg_color);
        ui.painter().rect_filled(filled, 2.0, theme::flagged(ui));
        let text = format!("+{}", format::real(share));
        response.widget_info(|| WidgetInfo::labeled(Role::Label, true, format!("feature {feature} adds {share:.3}")));
        response.on_hover_text("What the feature adds to the probe's score, before its calibration");
        ui.monospace(text);
        let name = widgets::feature_name(ui, run, feature);
        if !name.text().is_empty() {
            ui.label(name);
        }
        let promoted = run.promoted(feature, TOKENS);
        if !promoted.is_empty() {
            ui.label(theme::small(ui, &format!("promotes {}", promoted.join(" \u{b7} "))));
        }
    });
    action
}
