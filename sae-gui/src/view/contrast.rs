//! The Contrast page: which features differ between groups, along an order, or with a target; how many would by chance; and one of
//! them in every group.

use super::columns::{self, Column};
use super::contrast_examples::ExamplesView;
use super::models::{self, ModelsView};
use super::rows::{ColumnHead, FEATURE, NAME, NAMES, Rows, feature_cells};
use super::sample_cache::SampleCache;
use super::theme::{self, note, section};
use super::volcano::VolcanoView;
use super::widgets;
use super::{Action, contrast_examples, contrast_plot, volcano};
use crate::state::contrast::{AnyContrast, Contrast, ContrastSummary};
use crate::state::format;
use crate::state::location::Location;
use crate::state::open_run::OpenRun;
use egui::{ComboBox, Grid, Label, RichText, Role, ScrollArea, Ui, WidgetInfo, vec2};
use sae_core::analysis::contrast::TestTable;
use sae_workbench::contrast::LENGTH_EXPLAINS;

/// The columns of the table: title, width, meaning.
const COLUMNS: [ColumnHead; 8] = [
    FEATURE,
    NAME,
    ("In", 62.0, "The group, or the field"),
    ("Active", 46.0, "Share of the group's samples in which it is active; of all samples if there are no groups"),
    ("Elsewhere", 60.0, "The same share of the other samples"),
    (
        "Effect",
        58.0,
        "Adjusted change of the share per unit of the column; from the clusters that confirm, if there are any",
    ),
    ("95 % interval", 140.0, "Interval of the effect"),
    ("q", 50.0, "p-value, corrected for the number of tests"),
];

/// What the page remembers between two frames.
#[derive(Default)]
pub struct ContrastView {
    /// The contrast that the rest is about.
    name: String,
    /// The column that the volcano plot shows.
    column: usize,
    /// The row whose values in groups are shown.
    row: Option<usize>,
    volcano: VolcanoView,
    examples: ExamplesView,
    models: ModelsView,
}

impl ContrastView {
    /// Forgets a run that is closed.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// The feature that is shown beside a contrast of models.
    pub fn feature(&self, run: &OpenRun) -> Option<u32> {
        let Some(AnyContrast::Models(Ok(contrast))) = run.contrasts.shown() else { return None };
        let is_of_sae = run.info.sae.as_deref() == Some(contrast.sae());
        self.models.feature(contrast).filter(|_| is_of_sae)
    }

    /// The samples whose cards are shown.
    pub fn samples(&self) -> &[u32] {
        self.examples.samples()
    }
}

/// Draws the page.
pub fn show(
    ui: &mut Ui,
    run: &mut OpenRun,
    cache: &mut SampleCache,
    view: &mut ContrastView,
    opacity: &mut f32,
) -> Option<Action> {
    let Some(name) = run.contrasts.name().map(str::to_owned) else {
        ui.heading("No contrasts yet");
        let run = run.info.path().display();
        widgets::reason(
            ui,
            &format!(
                "A contrast finds the features that differ between groups of samples, along an order, or with a number.\n\
                 hint: `sae contrast --run {run} --groups FIELD` compares the groups that a column of the data set \
                 makes; `--order FIELD` and `--target FIELD` ask what changes with it. It appears here once it is made."
            ),
        );
        return None;
    };
    widgets::choose(ui, "Contrast", "Contrast of the run", &mut run.contrasts);
    if !run.contrasts.names.contains(&name) {
        note(ui, &format!("The run has no contrast \"{name}\". Choose another one."));
        return None;
    }
    if view.name != name {
        *view = ContrastView { name: name.clone(), ..ContrastView::default() };
    }
    let run = &*run;
    let Some(contrast) = run.contrasts.shown() else {
        view.volcano = VolcanoView::default();
        view.models = ModelsView::default();
        note(ui, "Reading ...");
        return None;
    };
    let contrast = match contrast {
        AnyContrast::Samples(contrast) => contrast,
        AnyContrast::Models(Err(reason)) => {
            note(ui, reason);
            return None;
        }
        AnyContrast::Models(Ok(contrast)) => {
            if run.info.sae.as_deref() != Some(contrast.sae()) {
                return other_sae(ui, run, contrast.sae());
            }
            return models::show(ui, run, contrast, cache, &mut view.models, opacity);
        }
    };
    let opacity = *opacity;
    match &contrast.summary {
        Err(reason) => note(ui, reason),
        Ok(summary) => {
            if run.info.sae.as_ref() != Some(&summary.sae) {
                return other_sae(ui, run, &summary.sae);
            }
            found(ui, summary);
        }
    }
    let tests = match &contrast.tests {
        Ok(tests) => tests,
        Err(reason) => {
            note(ui, reason);
            return None;
        }
    };
    columns::show(ui, "contrast", |ui, column| match column {
        Column::First => plots(ui, run, contrast, tests, view),
        Column::Second => {
            let action = table(ui, run, contrast, tests, view);
            examples(ui, run, contrast, tests, view, cache, opacity).or(action)
        }
    })
}

/// The strongest samples of the selected feature by group.
fn examples(
    ui: &mut Ui,
    run: &OpenRun,
    contrast: &Contrast,
    tests: &TestTable,
    view: &mut ContrastView,
    cache: &mut SampleCache,
    opacity: f32,
) -> Option<Action> {
    let row = view.row.or(contrast.differing.first().copied())?;
    let feature = tests.rows.get(row)?.feature;
    contrast_examples::show(ui, run, contrast, feature, cache, &mut view.examples, opacity)
}

/// In place of a contrast of another autoencoder: the numbers of its features mean others here.
fn other_sae(ui: &mut Ui, run: &OpenRun, sae: &str) -> Option<Action> {
    let shown = match &run.info.sae {
        Some(shown) => format!("the features that are shown are those of {shown}"),
        None => "the run has no autoencoder whose features could be shown".into(),
    };
    note(ui, &format!("This contrast is about features of {sae}; {shown}."));
    if !run.info.saes.iter().any(|known| known.name == sae) {
        let text = format!(
            "The autoencoder {sae} is missing from the run. Put its folder back into saes, or make the contrast again with \
             another one."
        );
        note(ui, &text);
        return None;
    }
    ui.button(format!("Show {sae}")).clicked().then(|| Action::Sae(sae.to_owned()))
}

/// What was found, and how much words, length and hidden states say.
fn found(ui: &mut Ui, summary: &ContrastSummary) {
    widgets::headline(ui, &summary.headline());
    summary.design().iter().for_each(|line| note(ui, line));
    summary.warnings(LENGTH_EXPLAINS).iter().for_each(|warning| widgets::warning(ui, warning));
    if summary.predictions.is_empty() {
        return;
    }
    let hint = "How well the column is predicted in samples that were not used for the fit. If words or length do as well, the \
                features add nothing";
    ScrollArea::vertical().id_salt("predictions").max_height(110.0).show(ui, |ui| {
        Grid::new("predictions").num_columns(5).spacing(vec2(22.0, 3.0)).show(ui, |ui| {
            for title in ["predicted from", "features", "words", "length", "hidden states"] {
                ui.label(theme::small(ui, title)).on_hover_text(hint);
            }
            ui.end_row();
            for prediction in &summary.predictions {
                ui.label(format!("{}, {}", prediction.column, prediction.measure_title()));
                for value in [prediction.features, prediction.words, prediction.length, prediction.hidden] {
                    ui.monospace(format::maybe(value));
                }
                ui.end_row();
            }
        });
    });
}

/// All tests of a column, and one feature in every group.
fn plots(
    ui: &mut Ui,
    run: &OpenRun,
    contrast: &Contrast,
    tests: &TestTable,
    view: &mut ContrastView,
) -> Option<Action> {
    section(
        ui,
        "Effect and significance",
        "Every tested feature. In gray behind: the same tests after the values were shuffled",
    );
    if tests.columns.len() > 1 {
        let shown = tests.columns.get(view.column).map_or("", String::as_str);
        let combo = ComboBox::from_id_salt("column").selected_text(shown).show_ui(ui, |ui| {
            for (n, name) in tests.columns.iter().enumerate() {
                ui.selectable_value(&mut view.column, n, name);
            }
        });
        combo.response.widget_info(|| WidgetInfo::labeled(Role::ComboBox, true, "Column of the plot"));
    }
    let row = view.row.or(contrast.differing.first().copied());
    let clicked = volcano::show(ui, run, contrast, tests, view.column, row, &mut view.volcano);
    match &contrast.shuffled {
        Ok(_) => drop(ui.label(theme::small(ui, "colored: differ; gray: do not; faint gray: with shuffled values"))),
        Err(reason) => note(ui, reason),
    }
    let row = clicked.or(row);
    view.row = clicked.or(view.row);
    if let Some(feature) = row.and_then(|row| tests.rows.get(row)).map(|row| row.feature) {
        section(
            ui,
            &format!("Feature {feature} in every group"),
            "Share of samples in which it is active, as if every group had the lengths of all samples, with 95 % intervals. A ring \
             is the forecast of the next bin",
        );
        let values = contrast.values_of(feature);
        match &contrast.groups {
            Err(reason) => note(ui, reason),
            Ok(_) if values.is_empty() => {
                note(ui, "Its values in groups are not stored: those of differing features are.")
            }
            Ok(_) => contrast_plot::groups(ui, feature, values),
        }
        let forecast = contrast.summary.as_ref().ok().and_then(|summary| summary.forecast.as_ref());
        forecast.into_iter().for_each(|forecast| note(ui, &forecast.sentence()));
    }
    clicked.and_then(|row| tests.rows.get(row)).map(|row| Action::Go(Location::Feature(row.feature)))
}

/// The features that differ. A click on a row shows its values in groups, one on the number shows the feature.
fn table(
    ui: &mut Ui,
    run: &OpenRun,
    contrast: &Contrast,
    tests: &TestTable,
    view: &mut ContrastView,
) -> Option<Action> {
    section(ui, "Differing features", "Those with the largest |z| first");
    if contrast.differing.is_empty() {
        note(ui, "No feature differs.");
        return None;
    }
    let mut action = None;
    let selected = view.row.or(contrast.differing.first().copied());
    let rows = Rows { id: "differing features", columns: &COLUMNS, widest: NAMES };
    rows.show(ui, contrast.differing.len(), None, |cells| {
        let Some(n) = contrast.differing.get(cells.index()).copied() else { return };
        let row = &tests.rows[n];
        let name = |ui: &Ui| name(ui, run, tests, n);
        action = feature_cells(cells, run, row.feature, selected == Some(n), name).or(action.take());
        cells.col(|ui| {
            let column = tests.columns.get(row.column).map_or("", String::as_str);
            ui.add(Label::new(column).truncate());
        });
        let effect = row.reported();
        let interval = format!("{:+.4} to {:+.4}", effect.lo, effect.hi);
        for text in [
            format::percent(row.prevalence),
            row.prevalence_rest.map_or("-".into(), format::percent),
            format!("{:+.4}", effect.effect),
            interval,
            format::maybe(row.q),
        ] {
            cells.col(|ui| drop(ui.monospace(text)));
        }
        if cells.response().clicked() {
            view.row = Some(n);
            view.column = row.column;
        }
    });
    action
}

/// What the list of features calls it, else its label when the contrast was made.
fn name(ui: &Ui, run: &OpenRun, tests: &TestTable, row: usize) -> RichText {
    match &tests.notes[row].label {
        Some(label) if run.list.name(tests.rows[row].feature).is_none() => RichText::new(label),
        _ => widgets::feature_name(ui, run, tests.rows[row].feature),
    }
}
