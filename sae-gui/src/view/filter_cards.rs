//! The kept and the dropped samples of the Filter page, side by side, as cards that are kept or dropped by hand with a right click.

use super::Action;
use super::card::plain;
use super::picture::{fit, paint};
use super::sample_cache::SampleCache;
use super::theme;
use crate::state::excerpt::caption;
use crate::state::format;
use crate::state::open_run::{OpenRun, SampleList};
use crate::state::score_filter::{Part, ScoreFilter, Side};
use egui::{Align2, FontId, Rect, Response, RichText, Role, ScrollArea, Sense, StrokeKind, Ui, Vec2, WidgetInfo, vec2};

/// Height of a card, and its least width.
pub(super) const HEIGHT: f32 = 92.0;
pub(super) const WIDTH: f32 = 300.0;
/// Space between cards.
const GAP: f32 = 6.0;
/// Width from which on the two sides are beside each other.
const TWO_COLUMNS: f32 = 420.0;

/// Draws both sides.
pub fn sides(ui: &mut Ui, run: &OpenRun, cache: &mut SampleCache, part: Part, count: usize) -> Option<Action> {
    let filter = run.scores()?;
    let mut action = None;
    ScrollArea::vertical().id_salt("sides").auto_shrink(false).show(ui, |ui| {
        let room = ui.available_width() - 14.0;
        let columns = if room >= TWO_COLUMNS { 2.0 } else { 1.0 };
        let width = (room - 12.0 * (columns - 1.0)) / columns;
        let sides = [(Side::Kept, "cross"), (Side::Dropped, "dead")];
        let mut draw = |ui: &mut Ui| {
            for (side, color) in sides {
                ui.vertical(|ui| {
                    ui.set_width(width);
                    ui.label(RichText::new(side.title()).size(15.0).strong().color(theme::class(ui, color)));
                    let samples = filter.examples(side, part, count);
                    let found = grid(ui, filter, cache, &samples);
                    action = found.map(|event| to_action(event, side, part, &samples)).or(action.take());
                });
            }
        };
        if columns > 1.0 {
            ui.horizontal_top(|ui| draw(ui));
        } else {
            draw(ui);
        }
    });
    action
}

enum CardEvent {
    Open(u32),
    Choose(u32, Option<bool>),
}

fn to_action(event: CardEvent, side: Side, part: Part, samples: &[u32]) -> Action {
    match event {
        CardEvent::Choose(sample, keep) => Action::Choose(vec![sample], keep),
        CardEvent::Open(sample) => {
            let part = match part {
                Part::NearThreshold => "near the threshold",
                Part::Extremes => "at the extreme",
            };
            let title = format!("{}, {part}", side.title().to_lowercase());
            Action::GoToSample(sample, SampleList { title, samples: samples.to_vec() })
        }
    }
}

fn grid(ui: &mut Ui, filter: &ScoreFilter, cache: &mut SampleCache, samples: &[u32]) -> Option<CardEvent> {
    let mut event = None;
    let room = ui.available_width();
    let columns = ((room + GAP) / (WIDTH + GAP)).floor().max(1.0);
    let width = (room - GAP * (columns - 1.0)) / columns;
    for row in samples.chunks(columns as usize) {
        ui.horizontal(|ui| {
            ui.spacing_mut().item_spacing.x = GAP;
            for sample in row {
                let response = card(ui, width, Some(filter), cache, *sample, false);
                response.context_menu(|ui| {
                    if let Some(keep) = keep_menu(ui) {
                        event = Some(CardEvent::Choose(*sample, keep));
                    }
                });
                let hint = "Click to see why it scores so; right-click to keep or drop it by hand";
                if response.on_hover_text_at_pointer(hint).clicked() {
                    event = Some(CardEvent::Open(*sample));
                }
            }
        });
    }
    event
}

/// The menu that keeps or drops samples by hand. Returns the choice: keep, drop, or let the score decide.
pub(super) fn keep_menu(ui: &mut Ui) -> Option<Option<bool>> {
    let mut chosen = None;
    for (title, keep) in [("Keep by hand", Some(true)), ("Drop by hand", Some(false)), ("Let the score decide", None)] {
        if ui.button(title).clicked() {
            chosen = Some(keep);
            ui.close();
        }
    }
    chosen
}

/// Draws the card of a sample, with its score if there are scores.
pub(super) fn card(
    ui: &mut Ui,
    width: f32,
    scores: Option<&ScoreFilter>,
    cache: &mut SampleCache,
    sample: u32,
    selected: bool,
) -> Response {
    let (rect, response) = ui.allocate_exact_size(vec2(width, HEIGHT), Sense::click());
    let score = scores.map_or_else(String::new, |scores| format::maybe(scores.value_of(scores.name(), sample)));
    if !ui.is_rect_visible(rect) {
        response.widget_info(|| WidgetInfo::labeled(Role::Figure, true, format!("sample {sample}: {score}")));
        return response;
    }
    let (fill, stroke) = theme::card(ui);
    let stroke = if selected { ui.visuals().selection.stroke } else { stroke };
    let fill = if selected { ui.visuals().selection.bg_fill } else { fill };
    ui.painter().rect(rect, 6.0, fill, stroke, StrokeKind::Inside);
    let mut inner = rect.shrink(7.0);
    let frame = Rect::from_min_size(inner.min, Vec2::splat(inner.height()));
    let mut text = String::from("Reading ...");
    match cache.get(sample) {
        None => {}
        Some(Err(reason)) => text = reason.to_owned(),
        Some(Ok(loaded)) => {
            match loaded.textures.first() {
                Some(Ok(texture)) => paint(ui.painter(), fit(frame, texture), texture),
                Some(Err(reason)) => {
                    ui.painter().rect_filled(frame, 4.0, ui.visuals().extreme_bg_color);
                    plain(ui, &ui.painter_at(frame), frame.shrink(4.0), reason);
                }
                None => {}
            }
            if !loaded.textures.is_empty() {
                inner.min.x = frame.right() + 9.0;
            }
            text = caption(&loaded.data.tokens);
        }
    }
    response.widget_info(|| WidgetInfo::labeled(Role::Figure, true, format!("sample {sample}: {score}, {text}")));
    let painter = ui.painter_at(inner);
    let ink = ui.visuals().text_color();
    let strong = ui.visuals().strong_text_color();
    painter.text(inner.left_top(), Align2::LEFT_TOP, &score, FontId::proportional(14.5), strong);
    let chosen = match scores.and_then(|scores| scores.choices().get(&sample)) {
        Some(true) => "kept by hand   ",
        Some(false) => "dropped by hand   ",
        None => "",
    };
    let number = format!("{chosen}sample {sample}");
    painter.text(inner.right_top(), Align2::RIGHT_TOP, number, FontId::proportional(theme::SMALL), theme::muted(ui));
    let mut job = egui::text::LayoutJob::simple(text, FontId::proportional(12.5), ink, inner.width());
    job.wrap.max_rows = 3;
    let galley = painter.layout_job(job);
    painter.galley(inner.min + vec2(0.0, 22.0), galley, ink);
    response
}
