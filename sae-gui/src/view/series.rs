//! A series of checkpoints on the Contrast page: how far each is on the way back from an aligned model to its base, by several
//! measures and for one feature, and the features of a checkpoint.

use super::rows::{ColumnHead, FEATURE, NAME, NAMES, Rows, feature_cells, grid};
use super::theme::{self, note, section};
use super::{Action, plot, widgets};
use crate::state::format;
use crate::state::models::{self, FeatureSeries, MEASURES, Measured, Order, Series, alone, measured};
use crate::state::open_run::OpenRun;
use egui::{Color32, ComboBox, Label, Pos2, RichText, Role, Sense, Stroke, Ui, WidgetInfo, pos2, vec2};
use sae_workbench::models::BaseDistance;
use sae_workbench::models::series::CheckpointReport;

/// Height of the plot, and the width left of it for its vertical axis.
const HEIGHT: f32 = 230.0;
const LEFT: f32 = 44.0;
/// How near the pointer must be to a point.
const NEAR: f32 = 12.0;
/// The class whose color each measure has.
const COLORS: [&str; 5] = ["text", "image", "cross", "action", "dead"];

/// The columns of the features: title, width, meaning.
const FEATURES: [ColumnHead; 7] = [
    FEATURE,
    NAME,
    ("Base", 62.0, "Its mean activation in the base"),
    ("Aligned", 62.0, "Its mean activation in the aligned model"),
    ("Change", 62.0, "Its mean activation in the aligned model less that in the base; sorted by its size"),
    ("Checkpoint", 76.0, "Its mean activation in the checkpoint"),
    ("Back (r)", 170.0, "How far it is back: 0 as in the aligned model, 1 as in the base, with a 95 % interval"),
];
/// The column that sorts at first: features that the alignment changed most.
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
    fn checkpoint(&self, series: &Series) -> usize {
        self.checkpoint.unwrap_or(series.report.models.len().saturating_sub(1))
    }
}

/// How far the checkpoints are back, and how far all models are from the base.
pub fn plots(ui: &mut Ui, series: &Series, chosen: Option<&FeatureSeries>, view: &mut SeriesView) {
    section(
        ui,
        "The way back",
        "How far each checkpoint is back at the base: 0 as the aligned model, 1 as the base, with 95 % intervals",
    );
    if series.report.found.rebound.is_empty() {
        widgets::hint(
            ui,
            "No checkpoint was tuned further than the aligned model. Name at least three runs: \
             `sae contrast --runs BASE ALIGNED CHECKPOINT`",
        );
    } else {
        rebound(ui, series, chosen, view);
        grid(ui, "measures", &checkpoint_table(series));
    }
    section(
        ui,
        "Distance from the base",
        "Relative to the size of the base's hidden states and weights; KL in nats per token",
    );
    let distance = |at: &BaseDistance| {
        let (weights, kl) = (measured(alone(at.weights)), at.kl.map_or("-".into(), measured));
        vec![series.name(at.model), measured(at.hidden_states), weights, kl]
    };
    if series.report.found.distances.is_empty() {
        return note(ui, "There is no other model whose distance could be measured.");
    }
    let mut rows = vec![["model", "hidden states", "weights", "KL"].map(String::from).to_vec()];
    rows.extend(series.report.found.distances.iter().map(distance));
    grid(ui, "distances", &rows);
}

/// Every measure of every checkpoint.
fn checkpoint_table(series: &Series) -> Vec<Vec<String>> {
    let is_known =
        |of: fn(&CheckpointReport) -> Measured| series.report.found.rebound.iter().any(|at| of(at)[0].is_finite());
    let known: Vec<_> = MEASURES.iter().filter(|(_, of, _)| is_known(*of)).collect();
    let mut rows = vec![vec!["checkpoint".to_owned(), "tuned on".to_owned()]];
    rows[0].extend(known.iter().map(|(title, ..)| (*title).to_owned()));
    for at in &series.report.found.rebound {
        let mut row = vec![series.name(at.model), at.tuned_on.map_or("-".into(), format::count)];
        row.extend(known.iter().map(|(_, of, _)| measured(of(at))));
        rows.push(row);
    }
    rows
}

/// A line of the plot.
struct Line {
    title: String,
    color: Color32,
    /// The number of each checkpoint in the report, and the value there with its interval.
    points: Vec<(usize, Measured)>,
}

/// The lines of all measures that are known, and of one feature. Each begins at the aligned model.
fn lines(ui: &Ui, series: &Series, chosen: Option<&FeatureSeries>) -> Vec<Line> {
    let with = |title: String, color: Color32, of: &dyn Fn(&CheckpointReport) -> Measured| {
        let at = series.report.found.rebound.iter().map(of).enumerate();
        let points: Vec<(usize, Measured)> = at.filter(|(_, value)| value[0].is_finite()).collect();
        (!points.is_empty()).then_some(Line { title, color, points })
    };
    let measures = MEASURES.iter().zip(COLORS);
    let measures =
        measures.filter_map(|((title, of, _), color)| with((*title).to_owned(), theme::class(ui, color), of));
    let feature = chosen.and_then(|chosen| {
        let of = |at: &CheckpointReport| chosen.back.get(at.model).copied().flatten().unwrap_or([f64::NAN; 3]);
        with(format!("feature {}", chosen.feature), ui.visuals().strong_text_color(), &of)
    });
    measures.chain(feature).collect()
}

/// Draws how far the checkpoints are back. A click on a point lists the features of its checkpoint.
fn rebound(ui: &mut Ui, series: &Series, chosen: Option<&FeatureSeries>, view: &mut SeriesView) {
    let tuned: Option<Vec<u64>> = series.report.found.rebound.iter().map(|at| at.tuned_on).collect();
    // Without numbers of samples, checkpoints are as far from each other as the first is from the aligned model.
    let across = |n: usize| tuned.as_ref().map_or((n + 1) as f64, |tuned| tuned[n] as f64);
    let lines = lines(ui, series, chosen);
    let (inner, response) = plot::ground(ui, plot::full_width(ui, HEIGHT), LEFT, Sense::click());
    let said = format!("Rebound of {}", format::counted(series.report.found.rebound.len(), "checkpoint"));
    response.widget_info(|| WidgetInfo::labeled(Role::Figure, true, &said));
    let values = || {
        lines.iter().flat_map(|line| line.points.iter().flat_map(|(_, measured)| *measured)).filter(|v| v.is_finite())
    };
    // A single interval without bounds must not make everything else flat.
    let (low, high) = (values().fold(0.0, f64::min).max(-1.0), values().fold(1.0, f64::max).min(2.0));
    let last = across(series.report.found.rebound.len().saturating_sub(1)).max(f64::MIN_POSITIVE);
    let area = inner.shrink2(vec2(8.0, 8.0));
    let place = |x: f64, y: f64| {
        let y = ((y.clamp(low, high) - low) / (high - low)) as f32;
        pos2(area.left() + (x / last) as f32 * area.width(), area.bottom() - y * area.height())
    };
    let at = |n: usize, y: f64| place(across(n), y);
    for level in [0.0, 1.0] {
        ui.painter().hline(
            inner.x_range(),
            place(0.0, level).y,
            Stroke::new(1.0, theme::muted(ui).gamma_multiply(0.5)),
        );
    }
    for line in &lines {
        let points = line.points.iter().map(|(n, [value, ..])| at(*n, *value));
        let points: Vec<Pos2> = std::iter::once(place(0.0, 0.0)).chain(points).collect();
        for (n, [_, lo, hi]) in &line.points {
            if lo.is_finite() && hi.is_finite() {
                ui.painter().line_segment([at(*n, *lo), at(*n, *hi)], Stroke::new(1.5, line.color.gamma_multiply(0.6)));
            }
        }
        points.iter().skip(1).for_each(|point| {
            ui.painter().circle_filled(*point, 3.0, line.color);
        });
        ui.painter().line(points, Stroke::new(1.5, line.color));
    }
    let middle = if tuned.is_some() { "samples tuned on" } else { "checkpoint" };
    plot::horizontal_axis(ui, inner, ["aligned", &format::count(last as u64)], middle);
    plot::vertical_axis(ui, inner, [&format::real(low), &format::real(high)], "share of the way");
    ui.horizontal_wrapped(|ui| {
        for line in &lines {
            let title = RichText::new(format!("\u{2014} {}", line.title)).small().color(line.color);
            ui.add(Label::new(title).extend());
        }
    });
    let points = || lines.iter().flat_map(|line| line.points.iter().map(move |point| (line, point)));
    let distance = |(n, [value, ..]): &(usize, Measured), pointer: Pos2| at(*n, *value).distance(pointer);
    let near = response.hover_pos().and_then(|pointer| {
        let near = points().min_by(|a, b| distance(a.1, pointer).total_cmp(&distance(b.1, pointer)));
        near.filter(|(_, point)| distance(point, pointer) < NEAR)
    });
    if let Some((line, (n, value))) = near {
        let model = series.report.found.rebound[*n].model;
        if response.clicked() {
            view.checkpoint = Some(model);
        }
        response.on_hover_text_at_pointer(format!("{}, {}: {}", series.name(model), line.title, measured(*value)));
    }
}

/// The features of a checkpoint. Returns what was clicked, and a feature whose row was.
pub fn table(
    ui: &mut Ui,
    run: &OpenRun,
    series: &Series,
    selected: Option<u32>,
    view: &mut SeriesView,
) -> (Option<Action>, Option<u32>) {
    section(ui, "Features", "Those whose mean activation the alignment changed most first. Click a title to sort");
    let checkpoint = view.checkpoint(series);
    ui.horizontal_wrapped(|ui| {
        ui.label("Checkpoint");
        let combo = ComboBox::from_id_salt("checkpoint").selected_text(series.name(checkpoint)).show_ui(ui, |ui| {
            for model in 0..series.report.models.len() {
                if ui.selectable_label(model == checkpoint, series.name(model)).clicked() {
                    view.checkpoint = Some(model);
                }
            }
        });
        combo.response.widget_info(|| WidgetInfo::labeled(Role::ComboBox, true, "Checkpoint of the table"));
    });
    let features = match &series.features {
        Ok(features) => features,
        Err(reason) => {
            note(ui, reason);
            return (None, None);
        }
    };
    if features.is_empty() {
        note(ui, "No feature is active in any of the models.");
        return (None, None);
    }
    let key = (checkpoint, view.order);
    if view.rows.as_ref().is_none_or(|(own, _)| *own != key) {
        let name = |feature: u32| run.list.name(feature).map(|name| name.text().to_owned());
        view.rows = Some((key, models::series_order(features, checkpoint, view.order, &name)));
    }
    let (mut action, mut chosen) = (None, None);
    let order: &[usize] = view.rows.as_ref().map(|(_, order)| &order[..]).unwrap_or_default();
    let rows = Rows { id: "features of models", columns: &FEATURES, widest: NAMES };
    rows.show(ui, order.len(), Some(&mut view.order), |cells| {
        let Some(row) = order.get(cells.index()).map(|n| &features[*n]) else { return };
        let name = |ui: &Ui| widgets::feature_name(ui, run, row.feature);
        action = feature_cells(cells, run, row.feature, selected == Some(row.feature), name).or(action.take());
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
