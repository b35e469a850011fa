//! A series of checkpoints on the Contrast page: how far each is on the way back from an aligned model to its base, by several
//! measures and for one feature, and the features of a checkpoint.

use super::rows::{ColumnHead, Order, Rows};
use super::theme::{self, note, section};
use super::{Action, plot, widgets};
use crate::state::format;
use crate::state::location::Location;
use crate::state::models::{self, Checkpoint, FeatureSeries, MEASURES, Measured, ModelSummary, measured};
use crate::state::open_run::OpenRun;
use egui::{
    Color32, ComboBox, Grid, Label, Pos2, RichText, Role, ScrollArea, Sense, Stroke, Ui, WidgetInfo, pos2, vec2,
};

/// Height of the plot, and the width left of it for its vertical axis.
const HEIGHT: f32 = 230.0;
const LEFT: f32 = 44.0;
/// Height of the table.
const TABLE: f32 = 330.0;
/// How near the pointer must be to a point.
const NEAR: f32 = 12.0;
/// The class whose color each measure has.
const COLORS: [&str; 5] = ["text", "image", "cross", "action", "dead"];

/// The columns of the features: title, width, meaning.
const FEATURES: [ColumnHead; 7] = [
    ("Feature", 58.0, "Its number; click to show it"),
    ("Label or words", 90.0, "Its label, else words that it fires on"),
    ("Base", 62.0, "Its mean activation in the base"),
    ("Aligned", 62.0, "Its mean activation in the aligned model"),
    ("Moved", 62.0, "How much larger it is in the aligned model; sorted by size"),
    ("Checkpoint", 76.0, "Its mean activation in the checkpoint"),
    ("Back (r)", 170.0, "How far it is back: 0 as in the aligned model, 1 as in the base, with a 95 % interval"),
];
/// The column with words, and the one that sorts at first: features that the alignment changed most.
const WORDS: usize = 1;
const MOVED: usize = 4;

/// What is remembered between two frames.
pub struct SeriesView {
    /// The model whose features are listed; nothing for the last one.
    checkpoint: Option<usize>,
    order: Order,
    /// The features in their order, and what that depends on.
    rows: Option<((usize, Order), Vec<usize>)>,
}

impl Default for SeriesView {
    fn default() -> Self {
        Self { checkpoint: None, order: Order { column: MOVED, descending: true }, rows: None }
    }
}

impl SeriesView {
    /// The first feature of the table.
    pub fn first(&self, features: &[FeatureSeries]) -> Option<u32> {
        let (_, order) = self.rows.as_ref()?;
        Some(features.get(*order.first()?)?.feature)
    }

    /// The model whose features are listed.
    fn checkpoint(&self, summary: &ModelSummary) -> usize {
        self.checkpoint.unwrap_or(summary.models.len().saturating_sub(1))
    }
}

/// How far the checkpoints are back, and how far all models are from the base.
pub fn plots(ui: &mut Ui, summary: &ModelSummary, chosen: Option<&FeatureSeries>, view: &mut SeriesView) {
    if !summary.rebound.is_empty() {
        section(
            ui,
            "The way back",
            "0 as in the aligned model, 1 as in the base, with 95 % intervals. Features: r of their mean activations",
        );
        rebound(ui, summary, chosen, view);
        grid(ui, "measures", &checkpoint_table(summary));
    }
    section(
        ui,
        "Distance from the base",
        "Relative to the size of the base's hidden states and weights; KL in nats per token",
    );
    let distance = |at: &models::Distance| {
        let weights = measured([at.weights, None, None]);
        vec![summary.name(at.model), measured(at.hidden_states), weights, measured(at.kl.unwrap_or_default())]
    };
    let mut rows = vec![["model", "hidden states", "weights", "KL"].map(String::from).to_vec()];
    rows.extend(summary.distances.iter().map(distance));
    grid(ui, "distances", &rows);
}

/// Every measure of every checkpoint.
fn checkpoint_table(summary: &ModelSummary) -> Vec<Vec<String>> {
    let is_known = |of: fn(&Checkpoint) -> Measured| summary.rebound.iter().any(|at| of(at)[0].is_some());
    let known: Vec<_> = MEASURES.iter().filter(|(_, _, of)| is_known(*of)).collect();
    let mut rows = vec![vec!["checkpoint".to_owned(), "tuned on".to_owned()]];
    rows[0].extend(known.iter().map(|(title, ..)| (*title).to_owned()));
    for at in &summary.rebound {
        let mut row = vec![summary.name(at.model), at.tuned_on.map_or("-".into(), format::count)];
        row.extend(known.iter().map(|(_, _, of)| measured(of(at))));
        rows.push(row);
    }
    rows
}

/// Rows of cells, the first of them titles.
fn grid(ui: &mut Ui, name: &str, rows: &[Vec<String>]) {
    ScrollArea::horizontal().id_salt(name).auto_shrink([false, true]).show(ui, |ui| {
        Grid::new(name).num_columns(rows.first().map_or(0, Vec::len)).spacing(vec2(18.0, 3.0)).show(ui, |ui| {
            for (n, row) in rows.iter().enumerate() {
                for text in row {
                    if n == 0 {
                        ui.label(theme::small(ui, text))
                    } else {
                        ui.monospace(text)
                    };
                }
                ui.end_row();
            }
        });
    });
}

/// A line of the plot.
struct Line {
    title: String,
    color: Color32,
    /// Across, and the value with its interval.
    points: Vec<(f64, Measured)>,
}

/// The lines of all measures that are known, and of one feature. Each begins at the aligned model.
fn lines(ui: &Ui, summary: &ModelSummary, across: impl Fn(usize) -> f64, chosen: Option<&FeatureSeries>) -> Vec<Line> {
    let with = |title: String, color: Color32, of: &dyn Fn(&Checkpoint) -> Measured| {
        let at = summary.rebound.iter().enumerate().map(|(n, at)| (across(n), of(at)));
        let points: Vec<(f64, Measured)> = at.filter(|(_, value)| value[0].is_some()).collect();
        (!points.is_empty()).then_some(Line { title, color, points })
    };
    let measures = MEASURES.iter().zip(COLORS);
    let measures =
        measures.filter_map(|((title, _, of), color)| with((*title).to_owned(), theme::class(ui, color), of));
    let feature = chosen.and_then(|chosen| {
        let of = |at: &Checkpoint| chosen.back.get(at.model).copied().flatten().unwrap_or_default();
        with(format!("feature {}", chosen.feature), ui.visuals().strong_text_color(), &of)
    });
    measures.chain(feature).collect()
}

/// Draws how far the checkpoints are back. A click on a point lists the features of its checkpoint.
fn rebound(ui: &mut Ui, summary: &ModelSummary, chosen: Option<&FeatureSeries>, view: &mut SeriesView) {
    let tuned: Option<Vec<u64>> = summary.rebound.iter().map(|at| at.tuned_on).collect();
    // Without numbers of samples, checkpoints are as far from each other as the first is from the aligned model.
    let across = |n: usize| tuned.as_ref().map_or((n + 1) as f64, |tuned| tuned[n] as f64);
    let lines = lines(ui, summary, across, chosen);
    let (inner, response) = plot::ground(ui, plot::full_width(ui, HEIGHT), LEFT, Sense::click());
    let said = format!("Rebound of {}", format::counted(summary.rebound.len(), "checkpoint"));
    response.widget_info(|| WidgetInfo::labeled(Role::Figure, true, &said));
    let values =
        || lines.iter().flat_map(|line| line.points.iter().flat_map(|(_, measured)| measured).flatten().copied());
    // A single interval without bounds must not make everything else flat.
    let (low, high) = (values().fold(0.0, f64::min).max(-1.0), values().fold(1.0, f64::max).min(2.0));
    let last = across(summary.rebound.len().saturating_sub(1)).max(f64::MIN_POSITIVE);
    let area = inner.shrink2(vec2(8.0, 8.0));
    let at = |x: f64, y: f64| {
        let y = ((y.clamp(low, high) - low) / (high - low)) as f32;
        pos2(area.left() + (x / last) as f32 * area.width(), area.bottom() - y * area.height())
    };
    for level in [0.0, 1.0] {
        ui.painter().hline(inner.x_range(), at(0.0, level).y, Stroke::new(1.0, theme::muted(ui).gamma_multiply(0.5)));
    }
    for line in &lines {
        let points = line.points.iter().filter_map(|(x, [value, ..])| Some(at(*x, (*value)?)));
        let points: Vec<Pos2> = std::iter::once(at(0.0, 0.0)).chain(points).collect();
        for (x, [_, lo, hi]) in &line.points {
            if let (Some(lo), Some(hi)) = (lo, hi) {
                ui.painter().line_segment([at(*x, *lo), at(*x, *hi)], Stroke::new(1.5, line.color.gamma_multiply(0.6)));
            }
        }
        points.iter().skip(1).for_each(|point| {
            ui.painter().circle_filled(*point, 3.0, line.color);
        });
        ui.painter().line(points, Stroke::new(1.5, line.color));
    }
    let middle = if tuned.is_some() { "samples tuned on" } else { "checkpoint" };
    plot::horizontal_axis(ui, inner, ["aligned", &format::count(last as u64)], middle);
    plot::vertical_axis(ui, inner, [&format::real(low), &format::real(high)], "back at the base");
    ui.horizontal_wrapped(|ui| {
        for line in &lines {
            let title = RichText::new(format!("\u{2014} {}", line.title)).small().color(line.color);
            ui.add(Label::new(title).extend());
        }
    });
    let points =
        || lines.iter().flat_map(|line| line.points.iter().enumerate().map(move |(n, point)| (line, n, point)));
    let distance = |(x, [value, ..]): &(f64, Measured), pointer: Pos2| at(*x, value.unwrap_or(0.0)).distance(pointer);
    let near = response.hover_pos().and_then(|pointer| {
        let near = points().min_by(|a, b| distance(a.2, pointer).total_cmp(&distance(b.2, pointer)));
        near.filter(|(.., point)| distance(point, pointer) < NEAR)
    });
    if let Some((line, n, (x, value))) = near {
        let checkpoint = summary.rebound.iter().enumerate().find(|(n, _)| across(*n) == *x).map_or(n, |(n, _)| n);
        let model = summary.rebound[checkpoint].model;
        if response.clicked() {
            view.checkpoint = Some(model);
        }
        response.on_hover_text_at_pointer(format!("{}, {}: {}", summary.name(model), line.title, measured(*value)));
    }
}

/// The features of a checkpoint. Returns what was clicked, and a feature whose row was.
pub fn table(
    ui: &mut Ui,
    run: &OpenRun,
    summary: &ModelSummary,
    features: &[FeatureSeries],
    selected: Option<u32>,
    view: &mut SeriesView,
) -> (Option<Action>, Option<u32>) {
    section(
        ui,
        "Features",
        "Those that differ most between the base and the aligned model first. Click a title to sort",
    );
    let checkpoint = view.checkpoint(summary);
    let combo = ComboBox::from_id_salt("checkpoint").selected_text(summary.name(checkpoint)).show_ui(ui, |ui| {
        for model in 0..summary.models.len() {
            if ui.selectable_label(model == checkpoint, summary.name(model)).clicked() {
                view.checkpoint = Some(model);
            }
        }
    });
    combo.response.widget_info(|| WidgetInfo::labeled(Role::ComboBox, true, "Checkpoint of the table"));
    if features.is_empty() {
        note(ui, "No feature is active in any of the models.");
        return (None, None);
    }
    let key = (checkpoint, view.order);
    if view.rows.as_ref().is_none_or(|(own, _)| *own != key) {
        view.rows = Some((key, models::series_order(features, checkpoint, view.order.column, view.order.descending)));
    }
    let (mut action, mut chosen) = (None, None);
    let order: &[usize] = view.rows.as_ref().map(|(_, order)| &order[..]).unwrap_or_default();
    let rows = Rows { id: "features of models", columns: &FEATURES, widest: WORDS, height: TABLE };
    rows.show(ui, order.len(), Some(&mut view.order), |cells| {
        let Some(row) = order.get(cells.index()).map(|n| &features[*n]) else { return };
        let clicked = widgets::feature_cells(cells, run, row.feature, selected);
        action = clicked.map(|feature| Action::Go(Location::Feature(feature))).or(action.take());
        let mean = |model: usize| row.means.get(model).map_or("-".into(), |mean| format::real(*mean));
        let back = row.back.get(checkpoint).copied().flatten().map_or("-".into(), measured);
        for text in [mean(0), mean(1), format!("{:+.3}", row.moved()), mean(checkpoint), back] {
            cells.col(|ui| drop(ui.monospace(text)));
        }
        if cells.response().clicked() {
            chosen = Some(row.feature);
        }
    });
    (action, chosen)
}
