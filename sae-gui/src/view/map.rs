//! The map of all features, as one texture however many there are. Drawing around features chooses them; the wheel enlarges, and
//! dragging with the right button moves.

use super::picture::WHOLE as WHOLE_TEXTURE;
use super::{plot, theme, widgets};
use crate::state::field::CLASSES;
use crate::state::format;
use crate::state::map::{CELLS, COLORED, Cells, FeatureMap, MapKind, WHOLE, Window, moved, within, zoomed};
use crate::state::open_run::OpenRun;
use egui::{
    Color32, ComboBox, PointerButton, Pos2, Rect, Response, RichText, Role, Sense, Shape, Stroke, TextureHandle, Ui,
    WidgetInfo, pos2, vec2,
};
use sae_core::analysis::layout::DecoderLayout;

/// Height of the map.
const HEIGHT: f32 = 190.0;
/// Width left of the map for the names of the vertical axis.
const LEFT: f32 = 44.0;
/// How near the pointer must be to a feature, as a share of the map.
const NEAR: f64 = 0.03;

/// What the map remembers between two frames.
pub struct MapView {
    window: Window,
    map: Option<(MapKey, FeatureMap)>,
    texture: Option<(TextureKey, TextureHandle)>,
    /// What is being drawn around, in shares of the whole width and, from below, height.
    outline: Vec<[f64; 2]>,
}

impl Default for MapView {
    fn default() -> Self {
        Self { window: WHOLE, map: None, texture: None, outline: Vec::new() }
    }
}

impl MapView {
    /// Forgets a run that is closed.
    pub fn clear(&mut self) {
        *self = Self::default();
    }
}

/// What the places of features depend on.
type MapKey = (MapKind, usize, bool);

/// What the texture depends on.
type TextureKey = (MapKey, u64, bool, Window);

/// Draws the map. Returns a feature that was clicked.
pub fn show(ui: &mut Ui, run: &mut OpenRun, view: &mut MapView) -> Option<u32> {
    head(ui, run, view);
    let size = vec2(ui.available_width(), HEIGHT);
    let (inner, response) = plot::ground(ui, size, LEFT, Sense::click_and_drag());
    let missing = missing_layout(run, kind(run));
    let name = missing.as_ref().map_or("Map of features".into(), |reason| format!("Map of features: {reason}"));
    response.widget_info(|| WidgetInfo::labeled(Role::Figure, true, &name));
    navigate(ui, view, inner, &response);
    let kind = kind(run);
    refresh(ui, run, view, kind);
    if let Some(reason) = missing {
        let font = egui::TextStyle::Body.resolve(ui.style());
        let galley = ui.painter().layout(reason, font, theme::muted(ui), inner.width() - 20.0);
        ui.painter().galley(inner.left_top() + vec2(10.0, 10.0), galley, theme::muted(ui));
        return None;
    }
    let (Some((_, map)), Some((_, texture))) = (&view.map, &view.texture) else { return None };
    ui.painter().image(texture.id(), inner, WHOLE_TEXTURE, Color32::WHITE);
    axes(ui, run, kind, map, view.window, inner);
    let to_screen =
        |[x, y]: [f64; 2]| pos2(inner.left() + x as f32 * inner.width(), inner.bottom() - y as f32 * inner.height());
    let visible = |feature: u32| within(view.window, map.place(feature)?).map(to_screen);
    let strong = ui.visuals().strong_text_color();
    if let Some(at) = run.feature_number().and_then(visible) {
        ui.painter().circle_stroke(at, 5.0, Stroke::new(2.0, theme::MARK));
        ui.painter().circle_stroke(at, 6.5, Stroke::new(1.0, strong));
    }
    if let Some(at) = run.hover.feature().and_then(visible) {
        ui.painter().circle_stroke(at, 5.0, Stroke::new(1.5, strong));
    }
    // A place on the screen in shares of the whole map.
    let to_map = |pos: Pos2| {
        let shares = [(pos.x - inner.left()) / inner.width(), (inner.bottom() - pos.y) / inner.height()];
        [0, 1].map(|axis| {
            let [low, high] = view.window[axis];
            low + f64::from(shares[axis]) * (high - low)
        })
    };
    let mut clicked = None;
    if let Some(pos) = response.interact_pointer_pos().map(to_map) {
        if response.drag_started_by(PointerButton::Primary) {
            let origin = response.ctx.input(|input| input.pointer.press_origin());
            view.outline = origin.map(to_map).into_iter().collect();
        }
        let far = |last: &[f64; 2]| {
            (0..2).any(|axis| (last[axis] - pos[axis]).abs() > 0.004 * (view.window[axis][1] - view.window[axis][0]))
        };
        if response.dragged_by(PointerButton::Primary) && view.outline.last().is_none_or(far) {
            view.outline.push(pos);
        }
        if response.clicked() {
            clicked = nearest(map, run, view.window, pos);
        }
    }
    // While something is drawn around, the pointer means no feature.
    let under = response.hover_pos().filter(|pos| view.outline.is_empty() && inner.contains(*pos)).map(to_map);
    if let Some(feature) = under.and_then(|pos| nearest(map, run, view.window, pos)) {
        if response.hovered() {
            run.hover.set(feature);
        }
        response.clone().on_hover_ui_at_pointer(|ui| widgets::peek(ui, run, feature));
    }
    if view.outline.len() > 1 {
        let shares = |point: &[f64; 2]| {
            [0, 1].map(|axis| (point[axis] - view.window[axis][0]) / (view.window[axis][1] - view.window[axis][0]))
        };
        let line: Vec<Pos2> = view.outline.iter().map(|point| to_screen(shares(point))).collect();
        ui.painter().add(Shape::closed_line(line, Stroke::new(1.5, strong)));
    }
    if response.drag_stopped_by(PointerButton::Primary) {
        let enclosed = map.enclosed(&view.outline);
        view.outline.clear();
        // An outline around nothing is a slip of the hand.
        if !enclosed.is_empty() {
            if ui.input(|input| input.modifiers.shift) {
                run.list.widen(enclosed);
            } else {
                run.list.restrict(Some(enclosed));
            }
        }
    }
    clicked
}

/// What the map shows, its legend, and what is chosen on it.
fn head(ui: &mut Ui, run: &mut OpenRun, view: &mut MapView) {
    ui.horizontal_wrapped(|ui| {
        let shown_kind = kind(run);
        let combo = ComboBox::from_id_salt("map").selected_text(theme::small(ui, shown_kind.title())).width(130.0);
        let shown = combo.show_ui(ui, |ui| {
            for kind in MapKind::ALL {
                if ui.selectable_value(&mut run.map_kind, kind, kind.title()).on_hover_text(kind.hint()).clicked() {
                    view.window = WHOLE;
                }
            }
        });
        shown.response.widget_info(|| WidgetInfo::labeled(Role::ComboBox, true, "What the map shows"));
        shown.response.on_hover_text(shown_kind.hint());
        // Few runs compare other modalities than text and images.
        let is_there = |class: &&str| ["cross", "image", "text"].contains(class) || run.list.has_class(class);
        for class in CLASSES[..COLORED].iter().copied().filter(is_there) {
            ui.label(RichText::new(format!("\u{25a0} {class}")).small().color(theme::class(ui, class)));
        }
        let chosen = run.list.restricted_to();
        let text = match chosen {
            Some(count) => format!("{} chosen", format::count(count as u64)),
            None if view.window == WHOLE => "draw around features to choose them".into(),
            // The button that takes this place must not begin another row: the map would move under the pointer.
            None => String::new(),
        };
        let hint = "Drag to draw around features, with Shift to add to those that are chosen. Turn the wheel to enlarge, drag \
                    with the right button to move, double-click to see everything";
        ui.label(theme::small(ui, &text)).on_hover_text(hint);
        if chosen.is_some() && ui.small_button("All").on_hover_text("Show all features again (Escape)").clicked() {
            run.list.restrict(None);
        }
        if view.window != WHOLE && ui.small_button("Whole map").clicked() {
            view.window = WHOLE;
        }
    });
}

/// Enlarges with the wheel and moves with the right button.
fn navigate(ui: &Ui, view: &mut MapView, inner: Rect, response: &Response) {
    if let Some(pos) = response.hover_pos().filter(|pos| inner.contains(*pos)) {
        let (scroll, zoom) = ui.input(|input| (input.smooth_scroll_delta.y, input.zoom_delta()));
        let factor = f64::from((scroll / 200.0).exp() * zoom);
        if factor != 1.0 {
            let at = [
                f64::from((pos.x - inner.left()) / inner.width()),
                f64::from((inner.bottom() - pos.y) / inner.height()),
            ];
            view.window = zoomed(view.window, at, factor);
        }
    }
    if response.dragged_by(PointerButton::Secondary) {
        let by = response.drag_delta();
        view.window = moved(view.window, [-f64::from(by.x / inner.width()), f64::from(by.y / inner.height())]);
    }
    if response.double_clicked() {
        view.window = WHOLE;
    }
}

/// Names the ends of the axes, beside and below the map.
fn axes(ui: &Ui, run: &OpenRun, kind: MapKind, map: &FeatureMap, [[x0, x1], [y0, y1]]: Window, inner: Rect) {
    let mut titles = map.axes().map(|axis| axis.title.to_owned());
    if let (MapKind::Directions, Some(Ok(layout))) = (kind, &run.layout) {
        for (title, explained) in titles.iter_mut().zip(layout.explained) {
            *title = format!("{title}, {} of variance", format::percent(explained));
        }
    }
    let [mut across, up] = titles;
    if map.missing > 0 {
        across = format!("{across} ({} {})", format::count(map.missing as u64), kind.missing());
    }
    plot::horizontal_axis(ui, inner, [&map.axis_name(0, x0), &map.axis_name(0, x1)], &across);
    plot::vertical_axis(ui, inner, [&map.axis_name(1, y0), &map.axis_name(1, y1)], &up);
}

/// The shown feature next to a place of the whole map, if one is near.
fn nearest(map: &FeatureMap, run: &OpenRun, window: Window, [x, y]: [f64; 2]) -> Option<u32> {
    let size = [0, 1].map(|axis| window[axis][1] - window[axis][0]);
    let distance = |place: [f64; 2]| ((place[0] - x) / size[0]).hypot((place[1] - y) / size[1]);
    let places = run.list.shown().filter_map(|row| Some((distance(map.place(row.feature)?), row.feature)));
    places.min_by(|a, b| a.0.total_cmp(&b.0)).filter(|(distance, _)| *distance < NEAR).map(|(_, feature)| feature)
}

/// What the map shows. An index that does not say how many positions there are has no rates.
fn kind(run: &OpenRun) -> MapKind {
    match run.map_kind {
        MapKind::Rates if run.list.positions().all == 0 => MapKind::Max,
        kind => kind,
    }
}

/// What to say in place of a map whose layout is not known.
fn missing_layout(run: &OpenRun, kind: MapKind) -> Option<String> {
    match &run.layout {
        _ if kind != MapKind::Directions => None,
        Some(Ok(_)) => None,
        Some(Err(reason)) => Some(reason.clone()),
        None => Some(run.info.no_weights().unwrap_or_else(|| "Computing the principal components ...".into())),
    }
}

/// Makes the map and its texture again if what they depend on has changed.
fn refresh(ui: &Ui, run: &OpenRun, view: &mut MapView, kind: MapKind) {
    let layout = run.layout.as_ref().and_then(|layout| layout.as_ref().ok());
    let map_key = (kind, run.list.total(), layout.is_some());
    if view.map.as_ref().is_none_or(|(key, _)| *key != map_key) {
        let none = DecoderLayout::default();
        let layout = layout.map_or(&none, |layout| layout);
        let map = FeatureMap::new(kind, run.list.rows(), run.list.positions(), layout);
        view.map = Some((map_key, map));
    }
    let key = (map_key, run.list.version(), ui.visuals().dark_mode, view.window);
    let Some((_, map)) = &view.map else { return };
    if view.texture.as_ref().is_none_or(|(own, _)| *own != key) {
        view.texture = Some((key, texture(ui, &map.cells(view.window, run.list.shown()))));
    }
}

fn texture(ui: &Ui, cells: &Cells) -> TextureHandle {
    let most = cells.iter().map(|cell| cell.iter().sum()).max().unwrap_or(1);
    let colors = CLASSES.map(|class| theme::class(ui, class));
    let other = theme::muted(ui).gamma_multiply(0.35);
    plot::counts(ui, "map", CELLS, |cell| {
        let (shown, others) = cells[cell].split_at(COLORED);
        match shown.iter().sum() {
            0 => other.gamma_multiply(plot::shade(others[0], most)),
            count => mix(&colors, shown).gamma_multiply(plot::shade(count, most)),
        }
    })
}

/// The mean of colors, weighted by counts.
fn mix(colors: &[Color32], counts: &[u32]) -> Color32 {
    let total = counts.iter().sum::<u32>().max(1) as f32;
    let channel = |of: fn(&Color32) -> u8| {
        let parts = colors.iter().zip(counts).map(|(color, count)| f32::from(of(color)) * *count as f32);
        (parts.sum::<f32>() / total) as u8
    };
    Color32::from_rgb(channel(Color32::r), channel(Color32::g), channel(Color32::b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_class_has_a_color_of_its_own() {
        for dark in [false, true] {
            let ctx = egui::Context::default();
            ctx.set_theme(if dark { egui::Theme::Dark } else { egui::Theme::Light });
            let mut colors = Vec::new();
            let _ = ctx.run_ui(egui::RawInput::default(), |ui| {
                colors = CLASSES.map(|class| theme::class(ui, class)).to_vec();
            });
            let distinct: std::collections::HashSet<_> = colors.iter().collect();
            assert_eq!(distinct.len(), CLASSES.len(), "dark: {dark}");
            assert_eq!(mix(&colors, &[0, 0, 0, 7]), colors[3], "features of actions alone have their color");
        }
    }
}
