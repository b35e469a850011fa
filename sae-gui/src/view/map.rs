//! The map of all features: density against the largest activation or the weight, as one texture however many there are.
//! Drawing around features picks them.

use super::{plot, theme};
use crate::state::format;
use crate::state::map::{CELLS, Map, Upright};
use crate::state::open_run::OpenRun;
use egui::{Color32, Pos2, Rect, Role, Sense, Shape, Stroke, TextureHandle, Ui, WidgetInfo, pos2, vec2};

/// Height of the map.
const HEIGHT: f32 = 190.0;

/// The map as it was drawn last.
#[derive(Default)]
pub struct MapView {
    upright: Upright,
    /// The map with its texture, and what they were made from.
    drawn: Option<Drawn>,
    /// What is being drawn around, in shares of width and, from below, height.
    outline: Vec<[f64; 2]>,
}

impl MapView {
    /// Forgets what was drawn of a run that is closed.
    pub fn clear(&mut self) {
        self.drawn = None;
        self.outline.clear();
    }
}

/// A map with its texture, and what they were made from.
type Drawn = (Made, Map, TextureHandle);

/// What a drawn map depends on.
#[derive(Clone, Debug, PartialEq)]
struct Made {
    run: std::path::PathBuf,
    sae: String,
    version: u64,
    dark: bool,
    upright: Upright,
}

impl Made {
    /// What the places of features depend on.
    fn places(&self) -> (&std::path::Path, &str, Upright) {
        (&self.run, &self.sae, self.upright)
    }
}

/// Draws the map with the current feature and the one that is pointed at; returns a feature that was clicked.
pub fn show(ui: &mut Ui, run: &mut OpenRun, view: &mut MapView) -> Option<u32> {
    ui.horizontal(|ui| {
        ui.label(theme::small(ui, "log density against"));
        for upright in Upright::ALL {
            ui.selectable_value(&mut view.upright, upright, theme::small(ui, upright.title()));
        }
        let picked = run.list.picked();
        let hint = match picked {
            Some(count) => format!("{} picked", format::count(count as u64)),
            None => "draw around features to pick them".into(),
        };
        ui.label(theme::small(ui, &hint));
        if picked.is_some() && ui.small_button("All").on_hover_text("Shows all features again (Escape)").clicked() {
            run.list.pick(None);
        }
    });
    let (inner, response) = plot::ground(ui, plot::wide(ui, HEIGHT), Sense::click_and_drag());
    response.widget_info(|| WidgetInfo::labeled(Role::Figure, true, "Map of features"));
    let (map, texture) = drawn(ui, run, view.upright, &mut view.drawn);
    let whole = Rect::from_min_max(pos2(0.0, 0.0), pos2(1.0, 1.0));
    ui.painter().image(texture.id(), inner, whole, Color32::WHITE);
    let [[x0, x1], [y0, y1]] = map.bounds();
    let middle = match map.missing {
        0 => "density".to_owned(),
        missing => format!("density ({} without a place)", format::count(missing as u64)),
    };
    plot::scale(ui, inner, [&format!("10^{x0:.1}"), &format!("10^{x1:.1}")], &middle);
    let upright = [(inner.top(), y1, egui::Align2::LEFT_TOP), (inner.bottom(), y0, egui::Align2::LEFT_BOTTOM)];
    for (y, value, align) in upright {
        let text =
            if view.upright == Upright::Max { format!("max 10^{value:.1}") } else { format!("weight {value:.2}") };
        let font = egui::FontId::proportional(theme::SMALL - 1.0);
        ui.painter().text(pos2(inner.left() + 2.0, y), align, text, font, theme::muted(ui));
    }
    let at =
        |[x, y]: [f64; 2]| pos2(inner.left() + x as f32 * inner.width(), inner.bottom() - y as f32 * inner.height());
    if let Some(place) = run.feature().and_then(|feature| map.place(feature)) {
        ui.painter().circle_stroke(at(place), 5.0, Stroke::new(2.0, theme::MARK));
        ui.painter().circle_stroke(at(place), 6.5, Stroke::new(1.0, ui.visuals().strong_text_color()));
    }
    if let Some(place) = run.pointing.feature().and_then(|feature| map.place(run.list.row(feature)?)) {
        ui.painter().circle_stroke(at(place), 5.0, Stroke::new(1.5, ui.visuals().strong_text_color()));
    }
    let share = |pos: Pos2| {
        [f64::from((pos.x - inner.left()) / inner.width()), f64::from((inner.bottom() - pos.y) / inner.height())]
    };
    let mut clicked = None;
    if let Some(pos) = response.interact_pointer_pos().map(share) {
        if response.drag_started() {
            view.outline = response.ctx.input(|input| input.pointer.press_origin()).map(share).into_iter().collect();
        }
        if response.dragged()
            && view.outline.last().is_none_or(|last| (last[0] - pos[0]).hypot(last[1] - pos[1]) > 0.004)
        {
            view.outline.push(pos);
        }
        if response.clicked() {
            clicked = nearest(map, run, pos);
        }
    }
    // While something is drawn around, the pointer means no feature.
    let under = response.hover_pos().filter(|_| view.outline.is_empty()).map(share);
    if let Some(feature) = under.and_then(|pos| nearest(map, run, pos)) {
        if response.hovered() {
            run.pointing.set(feature);
        }
        let label = run.list.marks().label(feature).map(|label| format!(": {label}")).unwrap_or_default();
        response.clone().on_hover_text_at_pointer(format!("feature {feature}{label}"));
    }
    if view.outline.len() > 1 {
        let line: Vec<Pos2> = view.outline.iter().map(|point| at(*point)).collect();
        ui.painter().add(Shape::closed_line(line, Stroke::new(1.5, ui.visuals().strong_text_color())));
    }
    if response.drag_stopped() {
        let picked = map.within(&view.outline, run.list.rows());
        view.outline.clear();
        // An outline around nothing is a slip of the hand.
        if !picked.is_empty() {
            run.list.pick(Some(picked));
        }
    }
    clicked
}

/// The shown feature next to a place, if one is near.
fn nearest(map: &Map, run: &OpenRun, [x, y]: [f64; 2]) -> Option<u32> {
    let far = |place: [f64; 2]| (place[0] - x).hypot(place[1] - y);
    let places = run.list.shown().filter_map(|row| Some((far(map.place(row)?), row.feature)));
    places.min_by(|a, b| a.0.total_cmp(&b.0)).filter(|(far, _)| *far < 0.03).map(|(_, feature)| feature)
}

fn drawn<'a>(ui: &Ui, run: &OpenRun, upright: Upright, drawn: &'a mut Option<Drawn>) -> (&'a Map, &'a TextureHandle) {
    let made = Made {
        run: run.info.root.clone(),
        sae: run.info.sae.clone(),
        version: run.list.version(),
        dark: ui.visuals().dark_mode,
        upright,
    };
    let old = drawn.take();
    let fresh = |old: Option<Drawn>| {
        // Where features lie does not change with what is shown.
        let placed = old.filter(|(own, ..)| own.places() == made.places()).map(|(_, map, _)| map);
        let mut map = placed.unwrap_or_else(|| Map::new(upright, run.list.rows()));
        map.show(run.list.shown());
        let most = map.cells.iter().map(|cell| cell.iter().sum()).max().unwrap_or(1);
        let colors = ["cross", "image", "text"].map(|class| theme::class(ui, class));
        let other = theme::muted(ui).gamma_multiply(0.35);
        let texture = plot::picture(ui, "map", CELLS, |cell| {
            let [cross, image, text, others] = map.cells[cell];
            let shown = cross + image + text;
            match shown {
                0 => other.gamma_multiply(plot::shade(others, most)),
                _ => mix(colors, [cross, image, text]).gamma_multiply(plot::shade(shown, most)),
            }
        });
        (made.clone(), map, texture)
    };
    let (_, map, texture) = drawn.insert(match old {
        Some(old) if old.0 == made => old,
        old => fresh(old),
    });
    (map, texture)
}

/// The colors of classes, each as much as it counts.
fn mix(colors: [Color32; 3], counts: [u32; 3]) -> Color32 {
    let total = counts.iter().sum::<u32>().max(1) as f32;
    let channel = |of: fn(&Color32) -> u8| {
        let parts = colors.iter().zip(counts).map(|(color, count)| f32::from(of(color)) * count as f32);
        (parts.sum::<f32>() / total) as u8
    };
    Color32::from_rgb(channel(Color32::r), channel(Color32::g), channel(Color32::b))
}

/// The row that turns what the table shows into a named list; returns whether labels changed.
pub fn naming(ui: &mut Ui, run: &mut OpenRun, name: &mut String) -> bool {
    let mut changed = false;
    ui.horizontal(|ui| {
        let count = format::count(run.list.len() as u64);
        let field = egui::TextEdit::singleline(name).hint_text("name of a list").desired_width(130.0);
        let response = ui.add(field);
        response.widget_info(|| WidgetInfo::labeled(Role::TextInput, true, "Name of the list"));
        let named = !name.trim().is_empty() && !run.list.is_empty();
        let button = egui::Button::new(format!("Save {count} as list")).min_size(vec2(0.0, 20.0));
        let hint = "Keeps the features that the table shows under this name; list:NAME finds them";
        if ui.add_enabled(named, button).on_hover_text(hint).clicked() {
            let features: Vec<u32> = run.list.shown().map(|row| row.feature).collect();
            run.labeling.add_to_list(name.trim(), &features);
            name.clear();
            changed = true;
        }
        let lists: Vec<(String, usize)> =
            run.labeling.lists().into_iter().flatten().map(|(name, list)| (name.clone(), list.len())).collect();
        if !lists.is_empty() {
            ui.menu_button("Lists", |ui| {
                for (name, count) in &lists {
                    ui.horizontal(|ui| {
                        if ui.button(format!("{name} ({count})")).clicked() {
                            run.list.search(&format!("list:\"{name}\""));
                            ui.close();
                        }
                        if ui.small_button("Remove").clicked() {
                            run.labeling.remove_list(name);
                            changed = true;
                        }
                    });
                }
            });
        }
    });
    changed
}
