//! Small widgets that several pages use: tiles, buttons for features, command lines.

use super::theme;
use crate::state::format;
use crate::state::list::FeatureName;
use crate::state::named::Named;
use crate::state::open_run::OpenRun;
use crate::state::run_info;
use egui::{
    Button, ComboBox, FontId, Label, Response, RichText, Role, Sense, StrokeKind, TextEdit, Ui, WidgetInfo, vec2,
};

/// Promoted tokens in a look at a feature.
const PEEK_TOKENS: usize = 6;

/// A value with its name below it, as a tile of its own size, so that tiles wrap as a whole.
pub fn tile(ui: &mut Ui, value: &str, name: &str, hint: &str) -> Response {
    let painter = ui.painter();
    let value_color = ui.visuals().strong_text_color();
    let top = painter.layout_no_wrap(value.into(), FontId::proportional(16.0), value_color);
    let bottom = painter.layout_no_wrap(name.into(), FontId::proportional(theme::SMALL), theme::muted(ui));
    let padding = vec2(11.0, 6.0);
    let size = vec2(top.size().x.max(bottom.size().x), top.size().y + 1.0 + bottom.size().y) + 2.0 * padding;
    let (rect, response) = ui.allocate_exact_size(size, Sense::hover());
    response.widget_info(|| WidgetInfo::labeled(Role::Label, true, format!("{name}: {value}")));
    let (fill, stroke) = theme::card(ui);
    ui.painter().rect(rect, 6.0, fill, stroke, StrokeKind::Inside);
    let at = rect.min + padding;
    let below = at + vec2(0.0, top.size().y + 1.0);
    ui.painter().galley(at, top, value_color);
    ui.painter().galley(below, bottom, theme::muted(ui));
    response.on_hover_text(hint)
}

/// A feature as a button in the color of its class, with a number beside it if there is one. Hovering shows what is known of it.
pub fn feature_button(ui: &mut Ui, run: &OpenRun, feature: u32, number: Option<String>) -> Response {
    let class = run.list.row(feature).map_or("dead", |row| row.class.as_str());
    let text = RichText::new(feature.to_string()).color(theme::class(ui, class));
    let mut button = Button::new(text).small();
    if let Some(number) = number {
        button = button.shortcut_text(RichText::new(number).small());
    }
    let response = ui.add(button);
    if response.hovered() {
        run.hover.set(feature);
    }
    response.on_hover_ui(|ui| peek(ui, run, feature))
}

/// What lists call a feature: a label, or typical words in a muted italic.
pub fn feature_name(ui: &Ui, run: &OpenRun, feature: u32) -> RichText {
    match run.list.name(feature) {
        Some(FeatureName::Label(label)) => RichText::new(label),
        Some(FeatureName::StandIn(words)) => RichText::new(words).italics().color(theme::muted(ui)),
        None => RichText::new(""),
    }
}

/// The beginning of what lists call a feature, small, for a place beside its button.
pub fn short_name(ui: &Ui, run: &OpenRun, feature: u32) -> Option<RichText> {
    const CHARACTERS: usize = 22;
    let name = run.list.name(feature)?;
    let mut short: String = name.text().chars().take(CHARACTERS).collect();
    if short.len() < name.text().len() {
        short.push_str("...");
    }
    let text = RichText::new(short).small();
    Some(match name {
        FeatureName::Label(_) => text,
        FeatureName::StandIn(_) => text.italics().color(theme::muted(ui)),
    })
}

/// What is known of a feature, for a look at it without leaving the page.
pub fn peek(ui: &mut Ui, run: &OpenRun, feature: u32) {
    ui.set_max_width(380.0);
    ui.label(RichText::new(format!("Feature {feature}")).strong());
    let Some(row) = run.list.row(feature) else {
        ui.label("The index does not list it.");
        return;
    };
    if let Some(label) = run.list.annotations().label(feature) {
        ui.label(RichText::new(label).size(15.0));
    }
    let words = run.list.typical_words(feature).cloned().unwrap_or_default();
    for (what, words) in [("fires on", &words.tokens), ("images of", &words.image_words)] {
        if !words.is_empty() {
            ui.label(format!("{what}: {words}"));
        }
    }
    ui.label(RichText::new(run_info::class_reason(run.list.positions(), row)).color(theme::class(ui, &row.class)));
    let promoted = run.promoted(feature, PEEK_TOKENS);
    if !promoted.is_empty() {
        ui.label(format!("promotes: {}", promoted.join(" \u{b7} ")));
    }
    let weight = row.weight_paper.map_or("none".into(), format::real);
    let (density, max) = (format::percent(row.density), format::real(row.max.into()));
    let numbers = format!("density {density}, maximum {max}, cross-modal weight (paper) {weight}");
    ui.label(theme::small(ui, &numbers));
    ui.label(theme::small(ui, "Click to show the feature."));
}

/// A heading, and which one of several things it is about, to choose another one. `what` they are.
pub fn choose<T>(ui: &mut Ui, title: &str, what: &str, named: &mut Named<T>) {
    ui.horizontal_wrapped(|ui| {
        ui.heading(title);
        let name = named.name().unwrap_or_default().to_owned();
        let combo = ComboBox::from_id_salt(title).selected_text(&name).show_ui(ui, |ui| {
            for other in &named.names {
                if ui.selectable_label(*other == name, other).clicked() {
                    named.chosen = Some(other.clone());
                }
            }
        });
        combo.response.widget_info(|| WidgetInfo::labeled(Role::ComboBox, true, what));
    });
}

/// What was found, in a sentence.
pub fn headline(ui: &mut Ui, text: &str) {
    ui.add(Label::new(RichText::new(text).size(15.0).strong()).wrap());
}

/// What has to be known before the rest is believed.
pub fn warning(ui: &mut Ui, text: &str) {
    ui.add(Label::new(RichText::new(text).color(ui.visuals().warn_fg_color)).wrap());
}

/// A field whose text counts once it is entered, with Enter or by leaving the field. `typed` is what is being typed.
pub fn entered(ui: &mut Ui, field: Field, value: &mut String, typed: &mut Option<String>) -> Response {
    let mut text = typed.take().unwrap_or_else(|| value.clone());
    let response = ui.add(TextEdit::singleline(&mut text).hint_text(field.hint).desired_width(field.width));
    response.widget_info(|| WidgetInfo::labeled(Role::TextInput, true, field.name));
    if response.lost_focus() {
        *value = text;
    } else if response.has_focus() {
        *typed = Some(text);
    }
    response
}

/// A field of a text.
pub struct Field {
    /// What the text is.
    pub name: &'static str,
    /// An example, where the field is empty.
    pub hint: &'static str,
    /// Its width.
    pub width: f32,
}

/// A command line in a fixed-width font, with a button that copies it.
pub fn command_line(ui: &mut Ui, line: &str) {
    ui.horizontal_top(|ui| {
        if ui.small_button("Copy").on_hover_text("Copy the command line").clicked() {
            ui.ctx().copy_text(line.into());
        }
        // In the text style of code: the other fonts draw two hyphens as one dash.
        let text = RichText::new(line).monospace().size(theme::SMALL).color(theme::muted(ui));
        ui.add(Label::new(text).wrap());
    });
}

/// A text with parts between backticks, which are shown as code, with a button that copies them.
pub fn hint(ui: &mut Ui, text: &str) {
    ui.horizontal_wrapped(|ui| {
        ui.spacing_mut().item_spacing.x = 3.0;
        for (at, part) in text.split('`').enumerate().filter(|(_, part)| !part.is_empty()) {
            if at % 2 == 0 {
                ui.label(RichText::new(part).color(theme::muted(ui)));
            } else {
                ui.label(RichText::new(part).monospace().color(theme::muted(ui)));
                if ui.small_button("Copy").clicked() {
                    ui.ctx().copy_text(part.into());
                }
            }
        }
    });
}

/// A reason in place of what cannot be shown: sentences, then hints.
pub fn reason(ui: &mut Ui, reason: &str) {
    for line in reason.lines() {
        match line.strip_prefix("hint: ") {
            Some(text) => hint(ui, text),
            None => drop(ui.add(Label::new(sentence(line)).wrap())),
        }
    }
}

/// With a capital letter, as it stands by itself. The name of a file or of a column at the beginning stays as it is.
fn sentence(text: &str) -> String {
    let first = text.split_whitespace().next().unwrap_or_default();
    if first.contains(['.', '_', '/', '`']) {
        return text.into();
    }
    let mut characters = text.chars();
    characters.next().map(|first| first.to_uppercase().chain(characters).collect()).unwrap_or_default()
}
