//! The page of one sample: its pictures and its text, which features are active in what is selected, and its scores.

use super::card::picture_menu;
use super::heat_map;
use super::picture::{fit, outline, paint, paint_patch, patch_rect};
use super::sample_cache::{Activations, LoadedSample, SampleCache};
use super::theme::{self, note, section};
use super::widgets::{self, feature_button};
use super::{Action, sample_scores};
use crate::state::excerpt::{Span, Tone, caption, display_text, spans};
use crate::state::explanation::ScoreExplanation;
use crate::state::format;
use crate::state::location::Location;
use crate::state::open_run::OpenRun;
use crate::state::overlay::PictureView;
use crate::state::sample::PieceView;
use crate::state::script::drawn_otherwise;
use egui::{
    Button, Grid, Label, Pos2, Rect, Response, RichText, Role, ScrollArea, Sense, Ui, Vec2, WidgetInfo, pos2, vec2,
};
use std::collections::BTreeSet;

/// Features listed.
const FEATURES: usize = 16;
/// Patches of a picture shown beside the text, and the side of one.
const CROPS: usize = 12;
const CROP: f32 = 20.0;
/// Share of its maximum from which on the feature that was shown last is drawn on a sample.
const STRONG: f32 = 0.25;
/// Space below a picture for the text, at least.
const TEXT: f32 = 170.0;
/// Width from which on the two halves of the page are side by side.
const TWO_COLUMNS: f32 = 560.0;

/// What the page remembers between two frames.
#[derive(Default)]
pub struct SampleView {
    sample: u32,
    /// Selected tokens, by index.
    selected: BTreeSet<usize>,
    /// The token under the pointer.
    under: Option<usize>,
    /// The feature of the list that is under the pointer.
    hovered: Option<u32>,
    /// The feature that is drawn unless another one is under the pointer, wherever it fires.
    pub pinned: Option<u32>,
    /// The strongest feature of the list.
    strongest: Option<u32>,
    /// Where dragging over a picture began, which picture, and where it is now.
    drag: Option<(usize, Pos2, Pos2)>,
    explanations: Option<(u32, Result<Vec<ScoreExplanation>, String>)>,
    /// Whether it is a sample of the run, and not a prompt.
    of_run: bool,
    /// The picture that is to be shown at full size.
    pub enlarge: Option<usize>,
    /// The picture that is to be copied (else saved).
    export: Option<(usize, bool)>,
}

impl SampleView {
    /// Takes the explanations of a sample's scores.
    pub fn set_explanations(&mut self, sample: u32, explanations: Result<Vec<ScoreExplanation>, String>) {
        self.explanations = Some((sample, explanations));
    }

    /// The explanations of a sample's scores, if they are known.
    pub fn explanations_of(&self, sample: u32) -> Option<&Result<Vec<ScoreExplanation>, String>> {
        self.explanations.as_ref().filter(|(own, _)| *own == sample).map(|(_, explanations)| explanations)
    }

    /// Begins to show a sample of the run: what was selected in another one is forgotten.
    pub fn begin(&mut self, sample: u32) {
        if self.sample != sample {
            *self = Self { sample, explanations: self.explanations.take(), ..Self::default() };
        }
        self.of_run = true;
    }

    /// Whether the explanations of a sample's scores are known.
    pub fn has_explanations(&self, sample: u32) -> bool {
        self.explanations.as_ref().is_some_and(|(own, _)| *own == sample)
    }

    /// Forgets a run that is closed.
    pub fn clear(&mut self) {
        *self = Self::default();
    }
}

/// Draws the page.
pub fn show(
    ui: &mut Ui,
    run: &OpenRun,
    cache: &mut SampleCache,
    view: &mut SampleView,
    opacity: f32,
) -> Option<Action> {
    let number = run.sample();
    view.begin(number);
    let mut action = head(ui, run, cache);
    let no_weights = run.info.no_weights();
    let without_explanations = Ok(Vec::new());
    let active = no_weights.clone().map(Err).or_else(|| cache.active(number));
    let explanations = view.explanations.take();
    let own = explanations.as_ref().filter(|(sample, _)| *sample == number).map(|(_, explanations)| explanations);
    let own = if no_weights.is_some() { Some(&without_explanations) } else { own };
    match cache.get(number) {
        None => note(ui, "Reading ..."),
        Some(Err(reason)) => widgets::reason(ui, reason),
        Some(Ok(loaded)) => {
            let more = |ui: &mut Ui| sample_scores::show(ui, run, own);
            action = halves(ui, run, loaded, &active, view, opacity, more).or(action.take());
        }
    }
    if let Some(picture) = view.enlarge.take() {
        action = Some(Action::ViewPicture(PictureView { sample: number, picture }));
    }
    if let Some((picture, copies)) = view.export.take() {
        let of = PictureView { sample: number, picture };
        action = Some(if copies { Action::CopyPicture(of) } else { Action::SavePicture(of) });
    }
    view.explanations = explanations;
    action
}

fn head(ui: &mut Ui, run: &OpenRun, cache: &mut SampleCache) -> Option<Action> {
    let number = run.sample();
    let mut action = None;
    ui.horizontal_wrapped(|ui| {
        ui.heading(format!("Sample {number}"));
        for (title, by) in [("Previous", -1), ("Next", 1)] {
            let to = run.step_sample(by);
            if ui.add_enabled(to != number, Button::new(title).small()).clicked() {
                let list = run.sample_list.clone();
                action = Some(list.map_or(Action::Go(Location::Sample(to)), |list| Action::GoToSample(to, list)));
            }
        }
        if let Some(list) = &run.sample_list
            && let Some(at) = list.samples.iter().position(|sample| *sample == number)
        {
            let text = format!("{} of {} {}", at + 1, list.samples.len(), list.title);
            ui.label(theme::small(ui, &text));
            if ui.small_button("All samples").on_hover_text("Walk all samples of the run").clicked() {
                action = Some(Action::LeaveSampleList);
            }
        }
        if let Some(Ok(loaded)) = cache.get(number) {
            ui.label(theme::small(ui, &format!("{}   {}", loaded.data.key, loaded.data.source)));
            if let Some(PieceView { branch, parent }) = &loaded.data.piece {
                let place = parent.map_or(String::new(), |parent| format!(", continues sample {parent}"));
                ui.label(theme::small(ui, &format!("piece {branch}{place}")));
            }
            if ui.small_button("Copy text").clicked() {
                action = Some(Action::Copy(caption(&loaded.data.tokens), "Text copied."));
            }
        }
    });
    action
}

/// Draws pictures and text on the left, and on the right the active features of what is selected, and what follows them.
pub fn halves(
    ui: &mut Ui,
    run: &OpenRun,
    loaded: &LoadedSample,
    active: &Activations,
    view: &mut SampleView,
    opacity: f32,
    more: impl FnOnce(&mut Ui) -> Option<Action>,
) -> Option<Action> {
    let mut action = None;
    if ui.available_width() < TWO_COLUMNS {
        ScrollArea::vertical().id_salt("sample").auto_shrink(false).show(ui, |ui| {
            ui.set_max_width(ui.available_width() - 14.0);
            action = column(ui, run, loaded, active, view, opacity, more);
        });
        return action;
    }
    let left = 0.5 * ui.available_width();
    ui.horizontal_top(|ui| {
        let size = vec2(left, ui.available_height());
        ui.allocate_ui_with_layout(size, egui::Layout::top_down(egui::Align::Min), |ui| {
            ScrollArea::vertical().id_salt("content").auto_shrink(false).show(ui, |ui| {
                ui.set_max_width(ui.available_width() - 14.0);
                content(ui, run, loaded, active, view, opacity);
            });
        });
        ui.separator();
        ui.vertical(|ui| {
            ScrollArea::vertical().id_salt("features").auto_shrink(false).show(ui, |ui| {
                ui.set_max_width(ui.available_width() - 14.0);
                action = features(ui, run, loaded, active, view);
                action = more(ui).or(action.take());
            });
        });
    });
    action
}

/// Draws pictures and text, the active features of what is selected, and what follows them, in one column.
pub fn column(
    ui: &mut Ui,
    run: &OpenRun,
    loaded: &LoadedSample,
    active: &Activations,
    view: &mut SampleView,
    opacity: f32,
    more: impl FnOnce(&mut Ui) -> Option<Action>,
) -> Option<Action> {
    content(ui, run, loaded, active, view, opacity);
    let action = features(ui, run, loaded, active, view);
    more(ui).or(action)
}

/// Which feature is drawn on a sample, and how strong it is on each token.
pub struct Drawn {
    /// The feature; nothing if none is active.
    feature: Option<u32>,
    /// Its activation on each token.
    pub values: Vec<f32>,
    /// Its largest activation in the run.
    pub max: f32,
}

impl Drawn {
    /// The feature under the pointer, else the one that was shown last if it fires here, else the strongest one.
    pub fn new(run: &OpenRun, active: &Activations, view: &SampleView) -> Self {
        let Some(Ok(active)) = active else { return Self { feature: None, values: Vec::new(), max: 0.0 } };
        let max_of = |feature: u32| run.list.row(feature).map_or(0.0, |row| row.max);
        let fires = |feature: &u32| active.of_feature(*feature).iter().any(|value| *value > STRONG * max_of(*feature));
        // The feature that was shown last, if it fires here.
        let current = run.feature_number().filter(|_| view.selected.is_empty()).filter(fires);
        let feature = view.hovered.or(view.pinned).or(current).or(view.strongest);
        let values = feature.map(|feature| active.of_feature(feature)).unwrap_or_default();
        Self { feature, values, max: feature.map_or(0.0, max_of) }
    }

    /// The activation on a token.
    pub fn value(&self, token: usize) -> f32 {
        self.values.get(token).copied().unwrap_or(0.0)
    }
}

fn content(
    ui: &mut Ui,
    run: &OpenRun,
    loaded: &LoadedSample,
    active: &Activations,
    view: &mut SampleView,
    opacity: f32,
) {
    let drawn = Drawn::new(run, active, view);
    view.under = None;
    if let Some(feature) = drawn.feature {
        let name = run.list.name(feature).map(|name| format!(" ({})", name.text())).unwrap_or_default();
        let largest = |special: bool| {
            let counted = loaded.data.tokens.iter().zip(&drawn.values).filter(|(token, _)| token.special == special);
            counted.map(|(_, value)| *value).fold(0.0, f32::max)
        };
        // As in the list of features, special tokens count only if there is nothing else.
        let text = if largest(false) > 0.0 {
            let [here, run] = [largest(false), drawn.max].map(|value| format::real(value.into()));
            format!("Showing feature {feature}{name}: maximum {here} here, {run} in the run")
        } else if largest(true) > 0.0 {
            format!("Feature {feature}{name} fires on special tokens alone here.")
        } else {
            format!("Feature {feature}{name} does not fire here. Point at a feature on the right to see where it does.")
        };
        ui.add(Label::new(theme::small(ui, &text)).truncate());
    }
    // As large as the window allows with the text below it.
    let side = ui.available_width().min((ui.clip_rect().height() - TEXT).max(280.0));
    for image in 0..loaded.textures.len() {
        picture(ui, loaded, image, &drawn, view, side, opacity);
    }
    let spans = spans(&loaded.data.tokens, None);
    crops(ui, loaded, &spans, &drawn, view);
    text(ui, loaded, &spans, &drawn, view);
    if let Some(told) = drawn_otherwise(spans.iter().map(|span| display_text(&span.text))) {
        note(ui, told);
    }
    if !view.selected.is_empty() && ui.small_button(format!("Clear the selection ({})", view.selected.len())).clicked()
    {
        view.selected.clear();
    }
}

/// A picture with heat. Clicking selects a patch, dragging selects an area.
fn picture(
    ui: &mut Ui,
    loaded: &LoadedSample,
    image: usize,
    drawn: &Drawn,
    view: &mut SampleView,
    side: f32,
    opacity: f32,
) {
    let texture = match &loaded.textures[image] {
        Ok(texture) => texture,
        Err(reason) => return note(ui, reason),
    };
    // Small pictures are enlarged: their patches are what is looked at.
    let square = Rect::from_min_size(pos2(0.0, 0.0), Vec2::splat(side));
    let (rect, response) = ui.allocate_exact_size(fit(square, texture).size(), Sense::click_and_drag());
    response.widget_info(|| WidgetInfo::labeled(Role::Image, true, format!("picture {image}")));
    paint(ui.painter(), rect, texture);
    let tokens = &loaded.data.tokens;
    heat_map::paint(ui.painter(), rect, tokens, image, &drawn.values, drawn.max, opacity);
    if view.of_run {
        let corner = Rect::from_min_max(rect.right_top() + vec2(-74.0, 6.0), rect.right_top() + vec2(-6.0, 28.0));
        if ui
            .place(corner, Button::new("Full size").small())
            .on_hover_text("Zoom with the wheel, drag to move")
            .clicked()
        {
            view.enlarge = Some(image);
        }
        response.context_menu(|ui| view.export = picture_menu(ui).map(|copies| (image, copies)).or(view.export));
    }
    let patches = || {
        let own = tokens.iter().enumerate().filter(|(_, token)| token.image == Some(image));
        own.filter_map(|(at, token)| Some((at, patch_rect(rect, token.rect?))))
    };
    for (_, patch) in patches().filter(|(at, _)| view.selected.contains(at)) {
        outline(ui.painter(), patch, 1.5);
    }
    if let (true, Some(origin)) = (response.drag_started(), response.ctx.input(|input| input.pointer.press_origin())) {
        view.drag = Some((image, origin, origin));
    }
    if let Some((_, origin, now)) = view.drag.as_mut().filter(|(own, ..)| *own == image) {
        *now = response.interact_pointer_pos().unwrap_or(*now);
        let area = Rect::from_two_pos(*origin, *now);
        outline(ui.painter(), area.intersect(rect), 1.0);
        if response.drag_stopped() {
            let inside = patches().filter(|(_, patch)| area.contains(patch.center())).map(|(at, _)| at);
            view.selected = inside.collect();
            view.drag = None;
        }
        return;
    }
    let under = response.hover_pos().and_then(|pointer| patches().find(|(_, patch)| patch.contains(pointer)));
    if let Some((token, patch)) = under {
        outline(ui.painter(), patch, 1.0);
        token_events(response, loaded, token..token + 1, drawn, view);
    }
}

/// The strongest patches by themselves, on a row of constant height so that the text below stays in place.
fn crops(ui: &mut Ui, loaded: &LoadedSample, spans: &[Span], drawn: &Drawn, view: &mut SampleView) {
    if loaded.textures.is_empty() {
        return;
    }
    ui.horizontal(|ui| {
        ui.spacing_mut().item_spacing.x = 2.0;
        ui.set_min_height(CROP);
        ui.label(theme::small(ui, "strongest patches "));
        for patch in spans.iter().flat_map(|span| span.strongest_patches(&drawn.values, CROPS)).take(CROPS) {
            let (rect, response) = ui.allocate_exact_size(Vec2::splat(CROP), Sense::click());
            paint_patch(ui.painter(), rect, loaded, patch);
            if response.hovered() || view.selected.contains(&patch) {
                outline(ui.painter(), rect, 1.5);
            }
            token_events(response, loaded, patch..patch + 1, drawn, view);
        }
    });
}

fn text(ui: &mut Ui, loaded: &LoadedSample, spans: &[Span], drawn: &Drawn, view: &mut SampleView) {
    ui.horizontal_wrapped(|ui| {
        ui.spacing_mut().item_spacing = vec2(0.0, 3.0);
        for span in spans {
            if span.patches || span.tokens.is_empty() {
                ui.label(theme::small(ui, &span.text));
                continue;
            }
            let text = display_text(&span.text);
            let text = if span.tone == Tone::Muted { theme::small(ui, &text) } else { RichText::new(text) };
            let value = span.activation(&drawn.values);
            let text = text.background_color(heat_map::text_background(ui, value, drawn.max));
            let text = match heat_map::text_color(ui, value, drawn.max) {
                Some(color) => text.color(color),
                None => text,
            };
            let selected = span.tokens.clone().all(|token| view.selected.contains(&token));
            let text = if selected { text.underline().strong() } else { text };
            let response = ui.add(Label::new(text).selectable(false).sense(Sense::click()));
            token_events(response, loaded, span.tokens.clone(), drawn, view);
        }
    });
}

/// What pointing at the tokens of a character or patch, and clicking them, does.
fn token_events(
    response: Response,
    loaded: &LoadedSample,
    tokens: std::ops::Range<usize>,
    drawn: &Drawn,
    view: &mut SampleView,
) {
    if response.hovered() {
        view.under = Some(tokens.start);
    }
    if response.clicked() {
        let select = !view.selected.contains(&tokens.start);
        for token in tokens.clone() {
            if select {
                view.selected.insert(token)
            } else {
                view.selected.remove(&token)
            };
        }
    }
    let value = format::real(drawn.value(tokens.start).into());
    let position = loaded.data.tokens[tokens.start].position;
    response.on_hover_text_at_pointer(format!(
        "position {position}: {value}\nClick to select; drag over a picture to \
                                               select an area"
    ));
}

fn features(
    ui: &mut Ui,
    run: &OpenRun,
    loaded: &LoadedSample,
    active: &Activations,
    view: &mut SampleView,
) -> Option<Action> {
    let title = match view.selected.len() {
        _ if view.under.is_some() => "Strongest features of the token under the pointer".to_owned(),
        0 if view.of_run => "Strongest features of the sample".into(),
        0 => "Strongest features of the prompt".into(),
        1 => "Strongest features of the selected token".into(),
        count => format!("Strongest features of {count} selected tokens"),
    };
    let hint = "Point at patches or words on the left to see their features, click to select them, drag over a picture to \
                select an area. Special tokens count only when they are selected";
    section(ui, &title, hint);
    let active = match active {
        None => {
            note(ui, "Encoding ...");
            return None;
        }
        Some(Err(reason)) => {
            widgets::reason(ui, reason);
            return None;
        }
        Some(Ok(active)) => active,
    };
    let tokens: Vec<usize> = match (view.under, view.selected.is_empty()) {
        (Some(token), _) => vec![token],
        (None, true) => (0..loaded.data.tokens.len()).filter(|token| !loaded.data.tokens[*token].special).collect(),
        (None, false) => view.selected.iter().copied().collect(),
    };
    let strongest = active.strongest(tokens.into_iter(), FEATURES);
    if strongest.is_empty() {
        note(ui, "No feature fires there.");
    }
    let mut action = None;
    view.hovered = None;
    Grid::new("strongest").num_columns(4).striped(true).spacing(vec2(14.0, 4.0)).show(ui, |ui| {
        for found in &strongest {
            let button = feature_button(ui, run, found.feature, None);
            if button.hovered() {
                view.hovered = Some(found.feature);
            }
            if button.clicked() {
                action = Some(Action::Go(Location::Feature(found.feature)));
            }
            ui.monospace(format::real(found.max.into()));
            ui.label(theme::small(ui, &format::counted(found.positions, "position")));
            ui.add(Label::new(widgets::feature_name(ui, run, found.feature)).truncate());
            ui.end_row();
        }
    });
    // Pointing at a token does not change which feature is drawn: it would change under the pointer.
    if view.under.is_none() {
        view.strongest = strongest.first().map(|found| found.feature);
    }
    action
}
