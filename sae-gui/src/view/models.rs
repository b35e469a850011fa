//! The Contrast page for models: which features of a crosscoder belong to one of them, beside what chance makes of equal models; or
//! how far checkpoints are back from an aligned model to its base.

use super::card::Expanded;
use super::columns::{self, Column};
use super::models_plot::{self, PlotView};
use super::rows::{ColumnHead, FEATURE, NAME, NAMES, Rows, feature_cells, grid};
use super::sample_cache::SampleCache;
use super::theme::{self, note, section};
use super::widgets;
use super::{Action, feature, series};
use crate::state::format;
use crate::state::models::{self, ModelContrast, Order, Owned, measured};
use crate::state::open_run::OpenRun;
use egui::{ComboBox, Label, Role, Ui, WidgetInfo};
use sae_core::analysis::latent_scaling::{NU_ERROR, NU_RECONSTRUCTION};
use sae_workbench::models::PatchReport;

/// The columns of the features of a crosscoder: title, width, meaning.
const OWNED: [ColumnHead; 9] = [
    FEATURE,
    NAME,
    (
        "Alone",
        76.0,
        "Whether it belongs to this model alone. yes: the other model lacks it; no: both have it, or the other alone; \
         uncertain: an interval crosses a bound",
    ),
    ("Firings", 58.0, "Positions on which it fires"),
    (
        "Delta",
        46.0,
        "Relative norm of its decoder directions: 1 if only this model has one, 0 if only the other model has",
    ),
    (
        "nu error",
        168.0,
        "How much it explains of what the other features leave of the other model's states, relative to this model: near 0 if the \
         other model lacks it, near 1 if it has it",
    ),
    ("nu reconstruction", 168.0, "The same for the reconstruction of the other model"),
    ("Template", 58.0, "Share of its activation on template tokens"),
    ("First", 46.0, "Share of its activation on the first positions of samples"),
];
/// The column that sorts at first.
const OWNER: usize = 2;

/// What the page remembers between two frames.
pub struct ModelsView {
    /// Which of the models features may belong to, among [`Owned::sides`].
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
        self.chosen.or_else(|| match contrast {
            ModelContrast::Owned(owned) => {
                let (_, order) = self.rows.as_ref()?;
                Some(owned.features.as_ref().ok()?.get(*order.first()?)?.feature)
            }
            ModelContrast::Series(series) => self.series.first(series.features.as_ref().ok()?),
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
    widgets::headline(ui, &contrast.headline());
    contrast.lines().iter().for_each(|line| widgets::hint(ui, line));
    contrast.warnings().iter().for_each(|warning| widgets::warning(ui, warning));
    columns::show(ui, "models", |ui, column| match column {
        Column::First => {
            plots(ui, run, contrast, view);
            None
        }
        Column::Second => {
            let action = table(ui, run, contrast, view);
            feature::beside(ui, run, cache, view.feature(contrast), &mut view.expanded, opacity).or(action)
        }
    })
}

/// What is drawn, and the tables that say what belongs to it.
fn plots(ui: &mut Ui, run: &OpenRun, contrast: &ModelContrast, view: &mut ModelsView) {
    match contrast {
        ModelContrast::Owned(owned) => {
            ownership(ui, run, owned, view);
            owned.report.found.patch.iter().for_each(|found| patch(ui, found));
        }
        ModelContrast::Series(series) => {
            let feature = view.feature(contrast);
            let chosen = series.features.iter().flatten().find(|one| Some(one.feature) == feature);
            series::plots(ui, series, chosen, &mut view.series);
        }
    }
}

/// The two models whose features are shown, their latent scaling and their relative norms.
fn ownership(ui: &mut Ui, run: &OpenRun, owned: &Owned, view: &mut ModelsView) {
    let sides = owned.sides();
    let Some(side) = sides.get(view.side).or(sides.first()).copied() else {
        return note(ui, "Every model has the states of the first one, so no feature belongs to one of them alone.");
    };
    let title =
        |[model, reference]: [usize; 2]| format!("of {}, compared with {}", owned.name(model), owned.name(reference));
    let hint = format!(
        "Each feature by how much of the other model its direction explains (latent scaling). In the lower left corner, below \
         {NU_ERROR} across and {NU_RECONSTRUCTION} up, the other model lacks it"
    );
    section(ui, "Features of one model alone", &hint);
    let combo = ComboBox::from_id_salt("side").selected_text(title(side)).show_ui(ui, |ui| {
        for (n, side) in sides.iter().enumerate() {
            ui.selectable_value(&mut view.side, n, title(*side));
        }
    });
    combo.response.widget_info(|| WidgetInfo::labeled(Role::ComboBox, true, "Which model's features"));
    let rows = match &owned.features {
        Ok(rows) => rows,
        Err(reason) => return note(ui, reason),
    };
    let empty = Vec::new();
    let by_chance = match &owned.null {
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
    let colors = "Upper plot: blue points are features of this model alone, gray squares all other features, and faint gray squares \
                  features of one model and its copy, if they were compared. Lower plot: blue bars are all features of the two \
                  models, and gray bars those of one model and its copy.";
    ui.add(Label::new(theme::small(ui, colors)).wrap());
}

/// What the second model predicts from states that features moved.
fn patch(ui: &mut Ui, patch: &PatchReport) {
    let hint = "The upper blocks of the second model continue from hidden states of the first. KL is how far their predictions are from \
                those of the second model itself; moving the states by features removes a share of it";
    section(ui, "Predictions from moved states", hint);
    note(ui, &format!("On {}.", patch.data));
    if patch.patches.is_empty() {
        return note(ui, "No features were moved.");
    }
    let mut rows = vec![["moved by", "features", "KL (nats per token)", "share removed"].map(String::from).to_vec()];
    rows.extend(patch.patches.iter().map(|row| {
        let features = format::count(row.features as u64);
        vec![models::moved(row.moved).to_owned(), features, measured(row.kl), measured(row.removed)]
    }));
    grid(ui, "patches", &rows);
}

/// The features. A click on a row shows where its feature fires, one on the number shows the feature.
fn table(ui: &mut Ui, run: &OpenRun, contrast: &ModelContrast, view: &mut ModelsView) -> Option<Action> {
    let selected = view.feature(contrast);
    let owned = match contrast {
        ModelContrast::Owned(owned) => owned,
        ModelContrast::Series(series) => {
            let (action, chosen) = series::table(ui, run, series, selected, &mut view.series);
            view.chosen = chosen.or(view.chosen);
            return action;
        }
    };
    // If they cannot be read, the reason stands in place of the plot.
    let rows = owned.features.as_ref().ok()?;
    let sides = owned.sides();
    let side = sides.get(view.side).or(sides.first()).copied()?;
    section(ui, "Features", "Click a title to sort");
    let key = (view.side, view.order);
    if view.rows.as_ref().is_none_or(|(own, _)| *own != key) {
        let name = |feature: u32| run.list.name(feature).map(|name| name.text().to_owned());
        view.rows = Some((key, models::owned_order(rows, side, view.order, &name)));
    }
    let selected = view.feature(contrast);
    let (mut action, mut chosen) = (None, None);
    let order: &[usize] = view.rows.as_ref().map(|(_, order)| &order[..]).unwrap_or_default();
    if order.is_empty() {
        note(ui, "No feature fires on the states of these models.");
        return None;
    }
    let table = Rows { id: "owned features", columns: &OWNED, widest: NAMES };
    table.show(ui, order.len(), Some(&mut view.order), |cells| {
        let Some(row) = order.get(cells.index()).map(|n| &rows[*n]) else { return };
        let name = |ui: &Ui| widgets::feature_name(ui, run, row.feature);
        action = feature_cells(cells, run, row.feature, selected == Some(row.feature), name).or(action.take());
        for text in [
            models::is_alone(row.ownership()).to_owned(),
            format::count(row.firings),
            format!("{:.2}", row.delta),
            measured(row.nu_error.triple()),
            measured(row.nu_reconstruction.triple()),
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
