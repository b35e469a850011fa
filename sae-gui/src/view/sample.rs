//! The page of one sample: its pictures and words, which features fire on what is selected, and what carries its scores.

use super::Action;
use super::example::{fit, outline, paint};
use super::gallery::{Gallery, Shown};
use super::heat::{self, Heat};
use super::theme::{self, say, section};
use super::words::crop;
use crate::state::data::{Active, Reason};
use crate::state::excerpt::{Tone, fold};
use crate::state::format;
use crate::state::location::Location;
use crate::state::open_run::OpenRun;
use egui::{Button, Grid, Label, Rect, RichText, Role, ScrollArea, Sense, Ui, Vec2, WidgetInfo, pos2, vec2};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Longest side of a picture on the page.
const PICTURE: f32 = 380.0;
/// Features listed.
const FEATURES: usize = 16;
/// Patches of a picture shown among the words, and the side of one.
const CROPS: usize = 12;
const CROP: f32 = 18.0;

/// What the page remembers between two frames.
#[derive(Default)]
pub struct SampleView {
    sample: u32,
    /// Selected tokens, by their places.
    selected: BTreeSet<usize>,
    /// The token that the pointer is on.
    under: Option<usize>,
    /// The feature whose row the pointer is on.
    hovered: Option<u32>,
    /// The strongest feature of what is listed.
    strongest: Option<u32>,
    /// Why the sample scores what it scores.
    reasons: Option<(u32, Result<Vec<Reason>, String>)>,
}

impl SampleView {
    /// Takes in what carries a sample's scores.
    pub fn put_reasons(&mut self, sample: u32, reasons: Result<Vec<Reason>, String>) {
        self.reasons = Some((sample, reasons));
    }

    /// Whether it is known what carries a sample's scores.
    pub fn knows(&self, sample: u32) -> bool {
        self.reasons.as_ref().is_some_and(|(own, _)| *own == sample)
    }

    /// Forgets a run that is closed.
    pub fn clear(&mut self) {
        *self = Self::default();
    }
}

/// Draws the page.
pub fn show(ui: &mut Ui, run: &OpenRun, gallery: &mut Gallery, view: &mut SampleView, heat: Heat) -> Option<Action> {
    let number = run.sample();
    if view.sample != number {
        (view.sample, view.hovered, view.strongest) = (number, None, None);
        view.selected.clear();
    }
    let mut action = None;
    ui.horizontal(|ui| {
        ui.heading(format!("Sample {number}"));
        let [back, on] = [(number.checked_sub(1), "Previous"), (number.checked_add(1), "Next")].map(|(to, title)| {
            let to = to.filter(|to| u64::from(*to) < run.info.samples);
            to.filter(|_| ui.add_enabled(to.is_some(), Button::new(title).small()).clicked())
        });
        action = back.or(on).map(|number| Action::Go(Location::Sample(number)));
        if let Some(Ok(shown)) = gallery.get(number) {
            ui.label(theme::small(ui, &format!("{}   {}", shown.view.key, shown.view.source)));
        }
    });
    let active = gallery.active(number);
    let reasons = view.reasons.take();
    let own = reasons.as_ref().filter(|(sample, _)| *sample == number).map(|(_, reasons)| reasons);
    match gallery.get(number) {
        None => say(ui, "Reading ..."),
        Some(Err(reason)) => say(ui, reason),
        Some(Ok(shown)) => {
            action = sides(ui, run, shown, &active, view, heat, |ui| scores(ui, run, own)).or(action.take());
        }
    }
    view.reasons = reasons;
    action
}

/// Draws pictures and words on the left, and on the right the features that fire on what is selected, and what follows them.
pub fn sides(
    ui: &mut Ui,
    run: &OpenRun,
    shown: &Shown,
    active: &Known,
    view: &mut SampleView,
    heat: Heat,
    more: impl FnOnce(&mut Ui) -> Option<Action>,
) -> Option<Action> {
    let mut action = None;
    let left = (0.5 * ui.available_width()).min(2.0 * PICTURE);
    ui.horizontal_top(|ui| {
        let size = vec2(left, ui.available_height());
        ui.allocate_ui_with_layout(size, egui::Layout::top_down(egui::Align::Min), |ui| {
            ScrollArea::vertical().id_salt("content").auto_shrink(false).show(ui, |ui| {
                ui.set_max_width(ui.available_width() - 14.0);
                content(ui, run, shown, active, view, heat);
            });
        });
        ui.separator();
        ui.vertical(|ui| {
            ScrollArea::vertical().id_salt("features").auto_shrink(false).show(ui, |ui| {
                ui.set_max_width(ui.available_width() - 14.0);
                action = features(ui, run, shown, active, view);
                action = more(ui).or(action.take());
            });
        });
    });
    action
}

/// What fires in a sample, or why that is not known; nothing while it is computed.
pub type Known = Option<Result<Arc<Active>, String>>;

fn content(ui: &mut Ui, run: &OpenRun, shown: &Shown, active: &Known, view: &mut SampleView, heat: Heat) {
    let fires = |feature: &u32| match active {
        Some(Ok(active)) => {
            let max = run.list.row(*feature).map_or(0.0, |row| row.max);
            active.of(*feature).iter().any(|value| *value > 0.25 * max)
        }
        _ => false,
    };
    // The feature that was looked at last, if it has anything to say here.
    let current = run.feature().map(|row| row.feature).filter(fires);
    let feature = view.hovered.or(if view.selected.is_empty() { current } else { None }).or(view.strongest);
    let max = feature.and_then(|feature| run.list.row(feature)).map_or(0.0, |row| row.max);
    view.under = None;
    let values = match (active, feature) {
        (Some(Ok(active)), Some(feature)) => active.of(feature),
        _ => Vec::new(),
    };
    if let Some(feature) = feature {
        let label = run.list.marks().label(feature).map(|label| format!(" ({label})")).unwrap_or_default();
        let strongest = values.iter().copied().fold(0.0, f32::max);
        let text = match strongest > 0.0 {
            true => format!(
                "Feature {feature}{label} is drawn: up to {} here, {} anywhere",
                format::real(strongest.into()),
                format::real(max.into())
            ),
            false => format!(
                "Feature {feature}{label} does not fire here. Point at a feature on the right to see where it does."
            ),
        };
        ui.label(theme::small(ui, &text));
    }
    for (image, texture) in shown.textures.iter().enumerate() {
        match texture {
            Err(reason) => say(ui, reason),
            Ok(texture) => {
                let square = Rect::from_min_size(pos2(0.0, 0.0), Vec2::splat(PICTURE.min(ui.available_width())));
                // Small pictures are enlarged: patches are what is looked at.
                let (rect, response) = ui.allocate_exact_size(fit(square, texture).size(), Sense::click());
                response.widget_info(|| WidgetInfo::labeled(Role::Image, true, format!("picture {image}")));
                paint(ui.painter(), rect, texture, None, 1.0);
                let tokens = &shown.view.tokens;
                heat::over(ui.painter(), rect, tokens, image, &values, max, heat);
                let own = |token: &usize| tokens[*token].image == Some(image);
                for token in view.selected.iter().filter(|token| **token < tokens.len()).filter(|token| own(token)) {
                    tokens[*token].rect.into_iter().for_each(|r| outline(ui.painter(), heat::patch(rect, r), 1.5));
                }
                let under = response.hover_pos().and_then(|pointer| {
                    (0..tokens.len())
                        .filter(own)
                        .find(|token| tokens[*token].rect.is_some_and(|r| heat::patch(rect, r).contains(pointer)))
                });
                if let Some((token, r)) = under.and_then(|token| Some((token, tokens[token].rect?))) {
                    outline(ui.painter(), heat::patch(rect, r), 1.0);
                    pointed(response, shown, token, &values, view);
                }
            }
        }
    }
    ui.horizontal_wrapped(|ui| {
        ui.spacing_mut().item_spacing = vec2(0.0, 3.0);
        for span in fold(&shown.view.tokens, u32::MAX) {
            for patch in span.strongest(&values, CROPS) {
                let (rect, response) = ui.allocate_exact_size(vec2(CROP + 2.0, CROP), Sense::click());
                let rect = Rect::from_min_size(rect.min, Vec2::splat(CROP));
                crop(ui.painter(), rect, shown, patch);
                if response.hovered() || view.selected.contains(&patch) {
                    outline(ui.painter(), rect, 1.5);
                }
                pointed(response, shown, patch, &values, view);
            }
            let Some(token) = span.token else {
                ui.label(theme::small(ui, &span.text));
                continue;
            };
            let value = values.get(token).copied().unwrap_or(0.0);
            let text = match span.tone {
                Tone::Muted => theme::small(ui, &span.text),
                Tone::Plain | Tone::Hit => RichText::new(&span.text),
            };
            let text = text.background_color(heat::tint(ui, value, max));
            let text = if view.selected.contains(&token) { text.underline().strong() } else { text };
            let response = ui.add(Label::new(text).selectable(false).sense(Sense::click()));
            pointed(response, shown, token, &values, view);
        }
    });
    if !view.selected.is_empty() && ui.small_button(format!("Clear the selection ({})", view.selected.len())).clicked()
    {
        view.selected.clear();
    }
}

/// What pointing at a token and clicking it does.
fn pointed(response: egui::Response, shown: &Shown, token: usize, values: &[f32], view: &mut SampleView) {
    if response.hovered() {
        view.under = Some(token);
    }
    if response.clicked() {
        toggle(&mut view.selected, token);
    }
    let value = format::real(values.get(token).copied().unwrap_or(0.0).into());
    response
        .on_hover_text_at_pointer(format!("position {}: {value}\nclick to select", shown.view.tokens[token].position));
}

fn toggle(selected: &mut BTreeSet<usize>, token: usize) {
    if !selected.remove(&token) {
        selected.insert(token);
    }
}

fn features(ui: &mut Ui, run: &OpenRun, shown: &Shown, active: &Known, view: &mut SampleView) -> Option<Action> {
    let title = match view.selected.len() {
        _ if view.under.is_some() => "Strongest features of the token under the pointer".to_owned(),
        0 => "Strongest features of the sample".into(),
        1 => "Strongest features of the selected token".into(),
        count => format!("Strongest features of {count} selected tokens"),
    };
    section(
        ui,
        &title,
        "Point at patches or words on the left to narrow them, click to keep them; special tokens count only when selected",
    );
    let active = match active {
        None => {
            say(ui, "Encoding ...");
            return None;
        }
        Some(Err(reason)) => {
            say(ui, reason);
            return None;
        }
        Some(Ok(active)) => active,
    };
    let tokens: Vec<usize> = match (view.under, view.selected.is_empty()) {
        (Some(token), _) => vec![token],
        (None, true) => (0..shown.view.tokens.len()).filter(|token| !shown.view.tokens[*token].special).collect(),
        (None, false) => view.selected.iter().copied().collect(),
    };
    let strongest = active.strongest(tokens.into_iter(), FEATURES);
    if strongest.is_empty() {
        say(ui, "No feature fires there.");
    }
    let mut action = None;
    let mut hovered = None;
    Grid::new("strongest").num_columns(4).striped(true).spacing(vec2(14.0, 4.0)).show(ui, |ui| {
        for strong in &strongest {
            let button = name(ui, run, strong.feature, true);
            if button.hovered() {
                hovered = Some(strong.feature);
            }
            if button.clicked() {
                action = Some(Action::Go(Location::Feature(strong.feature)));
            }
            ui.monospace(format::real(strong.max.into()));
            let on = if strong.tokens == 1 { "1 token".into() } else { format!("{} tokens", strong.tokens) };
            ui.label(theme::small(ui, &on));
            let label = run.list.marks().label(strong.feature).unwrap_or_default();
            ui.add(Label::new(label).truncate());
            ui.end_row();
        }
    });
    // What is only pointed at does not change whose heat is drawn: it would do so under the pointer.
    if view.under.is_none() {
        view.strongest = strongest.first().map(|strong| strong.feature);
    }
    view.hovered = hovered;
    action
}

/// A feature as a button in the color of its class; muted where it does not fire.
pub fn name(ui: &mut Ui, run: &OpenRun, feature: u32, fires: bool) -> egui::Response {
    let class = run.list.row(feature).map_or("dead", |row| row.class.as_str());
    let color = if fires { theme::class(ui, class) } else { theme::muted(ui) };
    let text = if fires { feature.to_string() } else { format!("no {feature}") };
    let response = ui.add(Button::new(RichText::new(text).color(color)).small());
    if response.hovered() {
        run.pointing.set(feature);
    }
    let label = run.list.marks().label(feature).map(|label| format!(": {label}")).unwrap_or_default();
    response.on_hover_text(format!("Feature {feature}, {class}{label}"))
}

fn scores(ui: &mut Ui, run: &OpenRun, reasons: Option<&Result<Vec<Reason>, String>>) -> Option<Action> {
    section(ui, "Scores", "What this sample scores, and how many of a hundred samples score lower");
    let sieve = match &run.sieve {
        None => {
            say(ui, "Reading ...");
            return None;
        }
        Some(Err(reason)) => {
            say(ui, reason);
            return None;
        }
        Some(Ok(sieve)) => sieve,
    };
    let mut action = None;
    Grid::new("scores").num_columns(3).spacing(vec2(14.0, 3.0)).show(ui, |ui| {
        for (name, value) in sieve.of_sample(run.sample()) {
            ui.label(name);
            ui.monospace(format::maybe(value));
            match sieve.percentile(name, run.sample()) {
                Some(percentile) => {
                    let (rect, _) = ui.allocate_exact_size(vec2(90.0, 12.0), Sense::hover());
                    ui.painter().rect_filled(
                        rect.shrink2(vec2(0.0, 4.0)),
                        2.0,
                        ui.visuals().widgets.inactive.weak_bg_fill,
                    );
                    let x = rect.left() + (percentile / 100.0) as f32 * rect.width();
                    ui.painter().circle_filled(pos2(x, rect.center().y), 4.0, theme::class(ui, "cross"));
                    ui.label(theme::small(ui, &format!("above {percentile:.0}%")));
                }
                None => drop(ui.label("")),
            }
            ui.end_row();
        }
    });
    let reasons = match reasons {
        None => {
            say(ui, "Computing the contributions ...");
            return None;
        }
        Some(Err(reason)) => {
            say(ui, reason);
            return None;
        }
        Some(Ok(reasons)) => reasons,
    };
    for reason in reasons {
        section(ui, &format!("Contributions to {}", reason.score), reason.meaning);
        if let Some(why) = &reason.missing {
            say(ui, why);
        }
        for part in &reason.parts {
            ui.horizontal_wrapped(|ui| {
                ui.monospace(format!("{:+.3}", part.adds));
                for (feature, fires) in &part.features {
                    if name(ui, run, *feature, *fires).clicked() {
                        action = Some(Action::Go(Location::Feature(*feature)));
                    }
                }
                if let [(feature, _)] = part.features[..]
                    && let Some(label) = run.list.marks().label(feature)
                {
                    ui.label(theme::small(ui, label));
                }
            });
        }
    }
    action
}
