//! One position where a feature fires, as a card: the picture with the patch outlined, and the text around the token. A card
//! expands to the whole text.

use super::excerpt;
use super::heat_map::{self, HeatScale};
use super::picture::{fit, outline, paint, patch_rect};
use super::sample_cache::{LoadedSample, SampleCache};
use super::theme;
use crate::state::activations::SampleActivations;
use crate::state::excerpt::{caption, excerpt, spans};
use crate::state::format;
use crate::state::overlay::PictureView;
use crate::state::sample::TokenView;
use egui::text::{LayoutJob, TextFormat, TextWrapping};
use egui::{
    Align2, Button, FontId, Id, Painter, Rect, Role, Sense, StrokeKind, TextStyle, Ui, Vec2, WidgetInfo, pos2, vec2,
};
use sae_core::analysis::index::Example;
use std::sync::Arc;

/// Height of a card.
const HEIGHT: f32 = 118.0;
/// Least width of a card, and the width from which on it has a picture.
const WIDTH: f32 = 330.0;
const WITH_PICTURE: f32 = 220.0;
/// Space between cards, and from their rim to their content.
const GAP: f32 = 8.0;
/// Longest side of the picture that hovering shows.
const LARGE: f32 = 320.0;
/// Height of the row at the bottom of a card.
const FOOT: f32 = 18.0;

/// What was clicked.
pub enum CardAction {
    /// The sample is to be shown.
    Open(u32),
    /// Text is to be copied.
    Copy(String),
    /// A picture is to be copied.
    CopyPicture(PictureView),
    /// A picture is to be saved.
    SavePicture(PictureView),
}

/// The example whose card is expanded: the name of its grid, its sample and its position.
pub type Expanded = Option<(&'static str, u32, u32)>;

/// Draws the cards of examples in as many columns as fit.
pub fn grid(
    ui: &mut Ui,
    name: &'static str,
    examples: &[Example],
    scale: HeatScale,
    cache: &mut SampleCache,
    expanded: &mut Expanded,
) -> Option<CardAction> {
    let mut action = None;
    let room = ui.available_width();
    let columns = ((room + GAP) / (WIDTH + GAP)).floor().max(1.0);
    let width = (room - GAP * (columns - 1.0)) / columns;
    for row in examples.chunks(columns as usize) {
        ui.horizontal(|ui| {
            ui.spacing_mut().item_spacing.x = GAP;
            for example in row {
                let key = (name, example.sample, example.position);
                let toggled = card(ui, vec2(width, HEIGHT), example, scale, cache, *expanded == Some(key));
                match toggled {
                    Some(CardEvent::Toggle) => *expanded = (*expanded != Some(key)).then_some(key),
                    Some(CardEvent::Act(chosen)) => action = Some(chosen),
                    None => {}
                }
            }
        });
        let is_expanded = |example: &&Example| *expanded == Some((name, example.sample, example.position));
        if let Some(example) = row.iter().find(is_expanded) {
            action = whole_text(ui, example, scale, cache, expanded).or(action.take());
        }
    }
    action
}

enum CardEvent {
    Toggle,
    Act(CardAction),
}

/// The menu of a picture. Returns what was chosen: copying it, or else saving it.
pub fn picture_menu(ui: &mut Ui) -> Option<bool> {
    let mut copies = None;
    for (title, chosen) in [("Copy picture", true), ("Save picture ...", false)] {
        if ui.button(title).clicked() {
            copies = Some(chosen);
            ui.close();
        }
    }
    copies
}

/// The menu of a card.
fn card_menu(ui: &mut Ui, example: &Example, cache: &mut SampleCache) -> Option<CardAction> {
    let Some(Ok(loaded)) = cache.get(example.sample) else { return None };
    let mut action = None;
    if ui.button("Copy text").clicked() {
        action = Some(CardAction::Copy(caption(&loaded.data.tokens)));
        ui.close();
    }
    if !loaded.textures.is_empty() {
        let picture = loaded.data.token(example.position).and_then(|token| token.image).unwrap_or(0);
        let of = PictureView { sample: example.sample, picture };
        let chosen = picture_menu(ui);
        action = chosen
            .map(|copies| if copies { CardAction::CopyPicture(of) } else { CardAction::SavePicture(of) })
            .or(action);
    }
    action
}

fn card(
    ui: &mut Ui,
    size: Vec2,
    example: &Example,
    scale: HeatScale,
    cache: &mut SampleCache,
    expanded: bool,
) -> Option<CardEvent> {
    let (rect, response) = ui.allocate_exact_size(size, Sense::click());
    let mut event = None;
    let mut drawn = String::new();
    // Cards outside the visible part cost nothing.
    if ui.is_rect_visible(rect) {
        drawn = content(ui, response.id, rect, example, scale, cache);
        let more = Rect::from_min_size(rect.right_bottom() - vec2(52.0, FOOT + 4.0), vec2(44.0, FOOT));
        let title = if expanded { "Less" } else { "More" };
        let button = ui.place(more, Button::new(theme::small(ui, title)).small().frame(false));
        if button.on_hover_text("The whole text of the sample").clicked() {
            event = Some(CardEvent::Toggle);
        }
    }
    let activation = format::real(example.activation as f64);
    let label = format!("sample {}, position {}: {activation}{drawn}", example.sample, example.position);
    response.widget_info(|| WidgetInfo::labeled(Role::Figure, true, label.as_str()));
    response.context_menu(|ui| {
        if let Some(action) = card_menu(ui, example, cache) {
            event = Some(CardEvent::Act(action));
        }
    });
    if response.on_hover_text_at_pointer("Click to show the sample; right-click to copy").clicked() {
        event = Some(CardEvent::Act(CardAction::Open(example.sample)));
    }
    event
}

/// Draws a card. Returns what it names: the modality, and the sample.
fn content(ui: &mut Ui, id: Id, rect: Rect, example: &Example, scale: HeatScale, cache: &mut SampleCache) -> String {
    let active = cache.active(example.sample).and_then(Result::ok);
    let (fill, stroke) = theme::card(ui);
    ui.painter().rect(rect, 6.0, fill, stroke, StrokeKind::Inside);
    let inner = rect.shrink(GAP);
    let loaded = cache.get(example.sample);
    let token = match &loaded {
        Some(Ok(loaded)) => loaded.data.token(example.position),
        _ => None,
    };
    let mut text = inner;
    if let Some(Ok(loaded)) = &loaded
        && !loaded.textures.is_empty()
        && rect.width() >= WITH_PICTURE
    {
        let frame = Rect::from_min_size(inner.min, Vec2::splat(inner.height()));
        picture(ui, id.with("picture"), frame, loaded, token, active.as_ref(), scale);
        text.min.x = frame.right() + GAP + 2.0;
    }
    let painter = ui.painter_at(text);
    activation_bar(ui, &painter, text, example, scale.max);
    let words = Rect::from_min_max(text.left_top() + vec2(0.0, 24.0), text.right_bottom() - vec2(0.0, FOOT - 2.0));
    match &loaded {
        None => plain(ui, &painter, words, "Reading ..."),
        Some(Err(reason)) => plain(ui, &painter, words, reason),
        Some(Ok(loaded)) => {
            let spans = excerpt(&loaded.data.tokens, example.position);
            excerpt::show(ui, id.with("text"), words, loaded, &spans, active.as_ref(), scale);
        }
    }
    let name = match &loaded {
        Some(Ok(loaded)) => loaded.data.key.clone(),
        _ => format!("sample {}", example.sample),
    };
    let foot = format!("{name}   position {}", example.position);
    let mut foot = LayoutJob::simple_singleline(foot, FontId::proportional(theme::SMALL), theme::muted(ui));
    foot.wrap = TextWrapping::truncate_at_width((text.width() - 48.0).max(20.0));
    let foot = painter.layout_job(foot);
    painter.galley(pos2(text.left(), text.bottom() - foot.size().y), foot, theme::muted(ui));
    format!(" on {}, {name}", example.modality.name())
}

/// The whole text of an example's sample, below its card.
fn whole_text(
    ui: &mut Ui,
    example: &Example,
    scale: HeatScale,
    cache: &mut SampleCache,
    expanded: &mut Expanded,
) -> Option<CardAction> {
    let active = cache.active(example.sample).and_then(Result::ok);
    let Some(Ok(loaded)) = cache.get(example.sample) else { return None };
    let mut action = None;
    let (fill, stroke) = theme::card(ui);
    egui::Frame::new().fill(fill).stroke(stroke).corner_radius(6).inner_margin(GAP).show(ui, |ui| {
        ui.set_width(ui.available_width());
        ui.horizontal_wrapped(|ui| {
            ui.label(theme::small(ui, &format!("Sample {}: {}", example.sample, loaded.data.key)));
            if ui.small_button("Copy text").clicked() {
                action = Some(CardAction::Copy(caption(&loaded.data.tokens)));
            }
            if ui.small_button("Show the sample").clicked() {
                action = Some(CardAction::Open(example.sample));
            }
            if ui.small_button("Close").clicked() {
                *expanded = None;
            }
        });
        let spans = spans(&loaded.data.tokens, Some(example.position));
        let values = active.as_ref().map(|active| active.of_feature(scale.feature)).unwrap_or_default();
        let width = ui.available_width();
        let height = excerpt::height(ui, width, &spans, &values, scale);
        let (rect, _) = ui.allocate_exact_size(vec2(width, height), Sense::hover());
        let id = ui.scope_id().with(("whole text", example.sample, example.position));
        excerpt::show(ui, id, rect, loaded, &spans, active.as_ref(), scale);
    });
    action
}

/// The activation, as a number and as a share of the feature's maximum.
fn activation_bar(ui: &Ui, painter: &Painter, rect: Rect, example: &Example, max: f32) {
    let name = example.modality.name();
    let color = theme::class(ui, name);
    let number = format::real(example.activation as f64);
    let font = FontId::proportional(14.5);
    let text = painter.text(rect.left_top(), Align2::LEFT_TOP, number, font, ui.visuals().strong_text_color());
    let bar = Rect::from_min_max(
        pos2(rect.left() + 48.0, text.center().y - 2.0),
        pos2((rect.right() - 46.0).max(rect.left() + 48.0), text.center().y + 2.0),
    );
    painter.rect_filled(bar, 2.0, ui.visuals().widgets.inactive.weak_bg_fill);
    let share = (example.activation / max.max(f32::MIN_POSITIVE)).clamp(0.0, 1.0);
    painter.rect_filled(Rect::from_min_size(bar.min, vec2(share * bar.width(), bar.height())), 2.0, color);
    painter.text(rect.right_top() + vec2(0.0, 2.0), Align2::RIGHT_TOP, name, FontId::proportional(theme::SMALL), color);
}

/// Text in place of what is missing.
pub fn plain(ui: &Ui, painter: &Painter, rect: Rect, text: &str) {
    let format = TextFormat::simple(TextStyle::Body.resolve(ui.style()), theme::muted(ui));
    let job = LayoutJob { wrap: excerpt::wrapped(rect), ..LayoutJob::single_section(text.into(), format) };
    let galley = painter.layout_job(job);
    painter.galley(rect.min, galley, theme::muted(ui));
}

/// The picture that the token is a patch of, else the first one of the sample.
fn picture(
    ui: &mut Ui,
    id: Id,
    frame: Rect,
    loaded: &LoadedSample,
    token: Option<&TokenView>,
    active: Option<&Arc<SampleActivations>>,
    scale: HeatScale,
) {
    ui.painter().rect_filled(frame, 4.0, ui.visuals().extreme_bg_color);
    let number = token.and_then(|token| token.image).unwrap_or(0);
    let patch = token.and_then(|token| token.rect);
    let texture = match loaded.textures.get(number) {
        Some(Ok(texture)) => texture,
        missing => {
            let reason = missing.and_then(|texture| texture.as_ref().err());
            let reason = reason.map_or("The sample has no such picture.", String::as_str);
            plain(ui, &ui.painter_at(frame), frame.shrink(6.0), reason);
            ui.interact(frame, id, Sense::hover()).on_hover_text(reason);
            return;
        }
    };
    let values = active.map(|active| active.of_feature(scale.feature)).unwrap_or_default();
    let tokens = &loaded.data.tokens;
    let draw = |painter: &Painter, rect: Rect, thickness: f32| {
        paint(painter, rect, texture);
        heat_map::paint(painter, rect, tokens, number, &values, scale.max, scale.opacity);
        patch.into_iter().for_each(|patch| outline(painter, patch_rect(rect, patch), thickness));
    };
    let rect = fit(frame, texture);
    draw(ui.painter(), rect, 1.5);
    let response = ui.interact(frame, id, Sense::hover());
    let under = response.hover_pos().and_then(|pointer| {
        let contains = |token: &TokenView| {
            token.image == Some(number) && token.rect.is_some_and(|r| patch_rect(rect, r).contains(pointer))
        };
        tokens.iter().position(contains)
    });
    response.on_hover_ui(|ui| {
        let square = Rect::from_min_size(pos2(0.0, 0.0), Vec2::splat(LARGE));
        ui.horizontal_top(|ui| {
            for with_heat in [false, true] {
                let (rect, _) = ui.allocate_exact_size(fit(square, texture).size(), Sense::hover());
                if with_heat { draw(ui.painter(), rect, 3.0) } else { paint(ui.painter(), rect, texture) }
            }
        });
        if let Some(value) = under.and_then(|token| values.get(token)) {
            ui.label(format!("patch under the pointer: {}", format::real(f64::from(*value))));
        }
        ui.label(&loaded.data.source);
    });
}
