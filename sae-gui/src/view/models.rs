//! The Contrast page for models: which features of a crosscoder belong to one of them, beside what chance makes of equal models; or
//! how far checkpoints are back from an aligned model to its base.

use super::card::Expanded;
use super::models_plot::{self, PlotView};
use super::rows::{ColumnHead, Order, Rows};
use super::sample_cache::SampleCache;
use super::theme::{self, note, section};
use super::widgets;
use super::{Action, feature, series};
use crate::state::format;
use crate::state::location::Location;
use crate::state::models::{self, Measured, ModelContrast, ModelFeatures, ModelSummary, measured};
use crate::state::open_run::OpenRun;
use egui::{ComboBox, Grid, Label, RichText, Role, ScrollArea, Ui, WidgetInfo, vec2};
use sae_core::analysis::latent_scaling::{NU_ERROR, NU_RECONSTRUCTION, Ratio, ScaledFeature};

/// Width from which on the table stands beside the plots.
const WIDE: f32 = 980.0;
/// Height of the table.
const TABLE: f32 = 330.0;
/// Space between what is shown and the rim of its column.
const MARGIN: f32 = 14.0;

/// The columns of the features of a crosscoder: title, width, meaning.
const OWNED: [ColumnHead; 9] = [
    ("Feature", 58.0, "Its number; click to show it"),
    ("Label or words", 90.0, "Its label, else words that it fires on"),
    (
        "Owner",
        66.0,
        "own: of the model alone; shared: of both, or of the other; uncertain: an interval crosses a bound",
    ),
    ("Firings", 58.0, "Positions on which it fires"),
    (
        "Delta",
        46.0,
        "Relative norm of the decoder's blocks: 1 if only the model's is not zero, 0 if only the other's is",
    ),
    (
        "nu error",
        168.0,
        "What the other features leave of the other model, explained by the feature: near 0 if the other lacks it",
    ),
    ("nu reconstruction", 168.0, "The same of the other model's reconstruction"),
    ("Template", 58.0, "Share of its activation on template tokens"),
    ("First", 46.0, "Share of its activation on first positions"),
];
/// The column with words, and the one that sorts at first.
const WORDS: usize = 1;
const OWNER: usize = 2;

/// What the page remembers between two frames.
pub struct ModelsView {
    /// Which of the models features may belong to, among [`ModelSummary::sides`].
    side: usize,
    order: Order,
    /// The rows in their order, and what that depends on.
    rows: Option<((usize, Order), Vec<usize>)>,
    chosen: Option<u32>,
    expanded: Expanded,
    plot: PlotView,
    /// The checkpoint whose features are listed, and by what they are sorted.
    pub(super) series: series::SeriesView,
}

impl Default for ModelsView {
    fn default() -> Self {
        Self {
            side: 0,
            order: Order { column: OWNER, descending: true },
            rows: None,
            chosen: None,
            expanded: None,
            plot: PlotView::default(),
            series: series::SeriesView::default(),
        }
    }
}

impl ModelsView {
    /// The feature whose tokens and examples are shown: the chosen one, else the first of the table.
    pub fn feature(&self, contrast: &ModelContrast) -> Option<u32> {
        self.chosen.or_else(|| match &contrast.features {
            ModelFeatures::Owned { rows: Ok(rows), .. } => {
                let (_, order) = self.rows.as_ref()?;
                Some(rows.get(*order.first()?)?.feature)
            }
            ModelFeatures::Series(Ok(series)) => self.series.first(series),
            _ => None,
        })
    }
}

/// Draws what was found.
pub fn show(
    ui: &mut Ui,
    run: &OpenRun,
    contrast: &ModelContrast,
    cache: &mut SampleCache,
    view: &mut ModelsView,
    opacity: &mut f32,
) -> Option<Action> {
    let summary = &contrast.summary;
    ui.add(Label::new(RichText::new(summary.headline()).size(15.0).strong()).wrap());
    summary.lines().iter().for_each(|line| widgets::hint(ui, line));
    for warning in summary.warnings() {
        ui.add(Label::new(RichText::new(warning).color(ui.visuals().warn_fg_color)).wrap());
    }
    if ui.available_width() < WIDE {
        let shown = ScrollArea::vertical().auto_shrink(false).show(ui, |ui| {
            ui.set_max_width(ui.available_width() - MARGIN);
            plots(ui, run, contrast, view);
            let action = table(ui, run, contrast, view);
            feature::beside(ui, run, cache, view.feature(contrast), &mut view.expanded, opacity).or(action)
        });
        return shown.inner;
    }
    ui.columns(2, |sides| {
        ScrollArea::vertical().id_salt("plots").auto_shrink(false).show(&mut sides[0], |ui| {
            ui.set_max_width(ui.available_width() - MARGIN);
            plots(ui, run, contrast, view);
        });
        let shown = ScrollArea::vertical().id_salt("features").auto_shrink(false).show(&mut sides[1], |ui| {
            ui.set_max_width(ui.available_width() - MARGIN);
            let action = table(ui, run, contrast, view);
            feature::beside(ui, run, cache, view.feature(contrast), &mut view.expanded, opacity).or(action)
        });
        shown.inner
    })
}

/// What is drawn, and the tables that say what belongs to it.
fn plots(ui: &mut Ui, run: &OpenRun, contrast: &ModelContrast, view: &mut ModelsView) {
    let summary = &contrast.summary;
    match &contrast.features {
        ModelFeatures::Owned { rows, null } => owned(ui, run, summary, rows, null, view),
        ModelFeatures::Series(features) => {
            let feature = view.feature(contrast);
            let chosen =
                features.as_ref().ok().and_then(|features| features.iter().find(|one| Some(one.feature) == feature));
            series::plots(ui, summary, chosen, &mut view.series);
        }
    }
    patch(ui, summary);
}

/// The two models whose features are shown, their latent scaling and their relative norms.
fn owned(
    ui: &mut Ui,
    run: &OpenRun,
    summary: &ModelSummary,
    rows: &Result<Vec<ScaledFeature>, String>,
    null: &Option<Result<Vec<ScaledFeature>, String>>,
    view: &mut ModelsView,
) {
    let sides = summary.sides();
    let Some(side) = sides.get(view.side).or(sides.first()).copied() else { return };
    let title = |[model, reference]: [usize; 2]| format!("of {}, not {}", summary.name(model), summary.name(reference));
    let hint = format!(
        "Each feature by how much of the other model its direction explains. In the lower left corner (below {NU_ERROR} and \
         {NU_RECONSTRUCTION}) the other model lacks it. In gray behind: a crosscoder of one model with itself"
    );
    section(ui, "Features of one model", &hint);
    let combo = ComboBox::from_id_salt("side").selected_text(title(side)).show_ui(ui, |ui| {
        for (n, side) in sides.iter().enumerate() {
            ui.selectable_value(&mut view.side, n, title(*side));
        }
    });
    combo.response.widget_info(|| WidgetInfo::labeled(Role::ComboBox, true, "Which model's features"));
    let rows = match rows {
        Ok(rows) => rows,
        Err(reason) => return note(ui, reason),
    };
    let empty = Vec::new();
    let by_chance = match null {
        Some(Ok(null)) => null,
        Some(Err(reason)) => {
            note(ui, reason);
            &empty
        }
        None => &empty,
    };
    let selected = view.chosen;
    if let Some(clicked) = models_plot::show(ui, run, rows, by_chance, side, selected, &mut view.plot) {
        view.chosen = Some(rows[clicked].feature);
    }
    let colors =
        "Above, colored: own; gray: shared or uncertain; faint gray: one model with itself. Below, gray: the same";
    ui.add(Label::new(theme::small(ui, colors)).wrap());
}

/// What the second model predicts from states that features moved.
fn patch(ui: &mut Ui, summary: &ModelSummary) {
    let Some(patch) = &summary.patch else { return };
    let hint = "What the upper blocks of the second model predict from the states of the first, moved by features";
    section(ui, "Predictions from moved states", hint);
    note(ui, &format!("On {}.", patch.data));
    Grid::new("patches").num_columns(4).spacing(vec2(18.0, 3.0)).show(ui, |ui| {
        for title in ["moved", "features", "KL (nats per token)", "removed"] {
            ui.label(theme::small(ui, title));
        }
        ui.end_row();
        for row in &patch.patches {
            ui.label(&row.moved);
            ui.monospace(format::count(row.features as u64));
            ui.monospace(measured(row.kl));
            ui.monospace(measured(row.removed));
            ui.end_row();
        }
    });
}

/// The features. A click on a row shows where its feature fires, one on the number shows the feature.
fn table(ui: &mut Ui, run: &OpenRun, contrast: &ModelContrast, view: &mut ModelsView) -> Option<Action> {
    let rows = match &contrast.features {
        ModelFeatures::Owned { rows: Ok(rows), .. } => rows,
        ModelFeatures::Series(Ok(features)) => {
            let selected = view.feature(contrast);
            let (action, chosen) = series::table(ui, run, &contrast.summary, features, selected, &mut view.series);
            view.chosen = chosen.or(view.chosen);
            return action;
        }
        ModelFeatures::Series(Err(reason)) => {
            note(ui, reason);
            return None;
        }
        // The reason stands in place of the plot.
        ModelFeatures::Owned { rows: Err(_), .. } => return None,
    };
    let sides = contrast.summary.sides();
    let side = sides.get(view.side).or(sides.first()).copied()?;
    section(ui, "Features", "Click a title to sort");
    let key = (view.side, view.order);
    if view.rows.as_ref().is_none_or(|(own, _)| *own != key) {
        view.rows = Some((key, models::owned_order(rows, side, view.order.column, view.order.descending)));
    }
    let selected = view.feature(contrast);
    let (mut action, mut chosen) = (None, None);
    let order: &[usize] = view.rows.as_ref().map(|(_, order)| &order[..]).unwrap_or_default();
    let table = Rows { id: "owned features", columns: &OWNED, widest: WORDS, height: TABLE };
    table.show(ui, order.len(), Some(&mut view.order), |cells| {
        let Some(row) = order.get(cells.index()).map(|n| &rows[*n]) else { return };
        let clicked = widgets::feature_cells(cells, run, row.feature, selected);
        action = clicked.map(|feature| Action::Go(Location::Feature(feature))).or(action.take());
        for text in [
            row.ownership().name().to_owned(),
            format::count(row.firings),
            format!("{:.2}", row.delta),
            ratio(row.nu_error),
            ratio(row.nu_reconstruction),
            format::percent(row.template_share),
            format::percent(row.first_share),
        ] {
            cells.col(|ui| drop(ui.monospace(text)));
        }
        if cells.response().clicked() {
            chosen = Some(row.feature);
        }
    });
    view.chosen = chosen.or(view.chosen);
    action
}

fn ratio(ratio: Ratio) -> String {
    let triple: Measured = ratio.triple().map(|value| Some(value).filter(|value| value.is_finite()));
    measured(triple)
}
