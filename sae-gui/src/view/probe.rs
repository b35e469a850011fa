//! The Probe page: how well labels are predicted from features, beside the predictions that a probe has to beat; which features carry
//! the decision, what they promote and where they fire; and which preferences are probably mislabeled.

use super::card::Expanded;
use super::columns::{self, Column};
use super::rows::{ColumnHead, FEATURE, NAME, NAMES, Rows, feature_cells};
use super::sample_cache::SampleCache;
use super::theme::{self, note, section};
use super::widgets;
use super::{Action, feature};
use crate::state::excerpt::display_text;
use crate::state::format;
use crate::state::open_run::{OpenRun, SampleList};
use crate::state::probe::{self, Prediction};
use egui::{Align2, FontId, Grid, Label, Rect, RichText, Role, ScrollArea, Sense, Stroke, Ui, WidgetInfo, pos2, vec2};
use sae_workbench::ProbeReport;
use sae_workbench::probe::WeightedFeature;

/// Promoted tokens in a row.
const TOKENS: usize = 6;

/// The columns of the table of features: title, width, meaning.
const FEATURES: [ColumnHead; 5] = [
    FEATURE,
    NAME,
    ("Weight", 62.0, "What log(1 + its largest activation) is multiplied by. Green raises the score, red lowers it"),
    ("Share", 52.0, "Its part of all that is added up over all samples"),
    ("Promotes", 190.0, "The tokens whose logits it raises most"),
];

/// The columns of the table of suspects.
const SUSPECTS: [ColumnHead; 3] = [
    ("Preferred answer", 110.0, "The answer that the label prefers; click to show its sample"),
    ("Other answer", 110.0, "The other answer; click to show its sample"),
    ("Margin", 62.0, "The score of the preferred answer less that of the other, by a fit that has seen neither"),
];

/// What the page remembers between two frames.
#[derive(Default)]
pub struct ProbeView {
    /// The probe that the rest is about.
    name: String,
    /// The feature that a person has chosen.
    chosen: Option<u32>,
    /// The example whose card is expanded.
    expanded: Expanded,
}

impl ProbeView {
    /// Forgets a run that is closed.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// The feature whose tokens and examples are shown: the chosen one, else the one with the largest share.
    pub fn feature(&self, run: &OpenRun) -> Option<u32> {
        let report = run.probes.shown()?.as_ref().ok()?;
        let is_chosen = |weighted: &&WeightedFeature| Some(weighted.feature) == self.chosen;
        let chosen = report.weighted.iter().find(is_chosen).or(report.weighted.first());
        chosen.map(|weighted| weighted.feature)
    }
}

/// Draws the page.
pub fn show(
    ui: &mut Ui,
    run: &mut OpenRun,
    cache: &mut SampleCache,
    view: &mut ProbeView,
    opacity: &mut f32,
) -> Option<Action> {
    let Some(name) = run.probes.name().map(str::to_owned) else {
        nothing(ui, run);
        return None;
    };
    widgets::choose(ui, "Probe", "Probe of the autoencoder", &mut run.probes);
    if !run.probes.names.contains(&name) {
        note(ui, &format!("The run has no probe \"{name}\" of this autoencoder. Choose another one."));
        return None;
    }
    if view.name != name {
        *view = ProbeView { name, ..ProbeView::default() };
    }
    let run = &*run;
    let report = match run.probes.shown() {
        None => {
            note(ui, "Reading ...");
            return None;
        }
        Some(Err(reason)) => {
            widgets::reason(ui, reason);
            return None;
        }
        Some(Ok(report)) => report,
    };
    let selected = view.feature(run);
    columns::show(ui, "probe", |ui, column| match column {
        Column::First => found(ui, run, report, view, selected),
        Column::Second => feature::beside(ui, run, cache, selected, &mut view.expanded, opacity),
    })
}

/// The page of an autoencoder without probes.
fn nothing(ui: &mut Ui, run: &OpenRun) {
    ui.heading("No probes yet");
    ui.label("A probe learns to predict labels of samples from features, and says how well it predicts others.");
    let Some(sae) = &run.info.sae else {
        return widgets::reason(
            ui,
            run.no_features.as_deref().unwrap_or("The run has no autoencoder, so it has no probes."),
        );
    };
    let text = format!(
        "hint: `sae probe --run {} --sae {sae} --name NAME --kind binary --label FIELD` learns from a column of the data set with \
         yes and no. It appears here once it is made.",
        run.info.path().display()
    );
    widgets::reason(ui, &text);
}

/// What was learned: the quality, the audit, the features.
fn found(
    ui: &mut Ui,
    run: &OpenRun,
    report: &ProbeReport,
    view: &mut ProbeView,
    selected: Option<u32>,
) -> Option<Action> {
    widgets::headline(ui, &probe::headline(report));
    probe::design(report).iter().for_each(|line| note(ui, line));
    probe::warnings(report).iter().for_each(|warning| widgets::warning(ui, warning));
    quality(ui, report);
    categories(ui, report);
    let mut action = audit(ui, report);
    section(ui, "Features", "Those with the largest share of the decision first");
    if report.weighted.is_empty() {
        note(ui, "No feature has a weight: the labels cannot be predicted from features.");
        return action;
    }
    let rows = Rows { id: "weighted features", columns: &FEATURES, widest: NAMES };
    rows.show(ui, report.weighted.len(), None, |cells| {
        let Some(weighted) = report.weighted.get(cells.index()) else { return };
        let (feature, name) = (weighted.feature, |ui: &Ui| words(ui, run, weighted));
        action = feature_cells(cells, run, feature, selected == Some(feature), name).or(action.take());
        cells.col(|ui| {
            let color = theme::promoted(ui, weighted.weight > 0.0);
            ui.label(RichText::new(format!("{:+.3}", weighted.weight)).monospace().color(color));
        });
        cells.col(|ui| drop(ui.monospace(format::percent(weighted.share))));
        cells.col(|ui| drop(ui.add(Label::new(promoted(weighted)).truncate())));
        if cells.response().clicked() {
            view.chosen = Some(weighted.feature);
        }
    });
    action
}

/// What the list of features calls it, else what it was called when the probe was made.
fn words(ui: &Ui, run: &OpenRun, weighted: &WeightedFeature) -> RichText {
    match run.list.name(weighted.feature) {
        Some(_) => widgets::feature_name(ui, run, weighted.feature),
        None => RichText::new(&weighted.words).color(theme::muted(ui)),
    }
}

fn promoted(weighted: &WeightedFeature) -> String {
    if weighted.promoted.is_empty() {
        return "-".into();
    }
    let tokens = weighted.promoted.iter().take(TOKENS).map(|token| display_text(token.trim()));
    tokens.collect::<Vec<_>>().join(" \u{b7} ")
}

/// The probe and its baselines as bars on one scale, the probe with its interval.
fn quality(ui: &mut Ui, report: &ProbeReport) {
    let title = format!("Quality out of fold ({})", report.quality.measure.title());
    let hint = "Every labeled sample is scored by a fit that has not seen it, nor any sample with the same image. Baselines have the \
                same folds";
    section(ui, &title, hint);
    let predictions = probe::predictions(report);
    let values = || predictions.iter().filter_map(|other| other.quality);
    let ends = || values().chain(report.quality.interval.into_iter().flatten());
    // 1 is the best value of every measure. Below 0 is worse than the mean, or than chance.
    let scale = [ends().fold(0.0, f64::min), 1.0];
    for (n, prediction) in predictions.iter().enumerate() {
        let interval = report.quality.interval.filter(|_| n == 0);
        bar(ui, prediction, interval, scale);
    }
}

/// One prediction as a bar from 0 to its quality.
fn bar(ui: &mut Ui, prediction: &Prediction, interval: Option<[f64; 2]>, [low, high]: [f64; 2]) {
    const NAME: f32 = 92.0;
    const VALUE: f32 = 54.0;
    let (rect, response) = ui.allocate_exact_size(vec2(ui.available_width(), 18.0), Sense::hover());
    let value = prediction.quality.map_or("-".into(), |quality| format!("{quality:.3}"));
    let said = format!("{}: {value}", prediction.name);
    response.widget_info(|| WidgetInfo::labeled(Role::Label, true, &said));
    let ink = if interval.is_some() { ui.visuals().strong_text_color() } else { ui.visuals().text_color() };
    let font = FontId::proportional(12.5);
    ui.painter().text(rect.left_center(), Align2::LEFT_CENTER, prediction.name, font, ink);
    let number = pos2(rect.left() + NAME + VALUE - 8.0, rect.center().y);
    ui.painter().text(number, Align2::RIGHT_CENTER, &value, FontId::monospace(12.5), ink);
    let ground = rect.with_min_x(rect.left() + NAME + VALUE).shrink2(vec2(0.0, 5.0));
    let color = theme::class(ui, if interval.is_some() { "text" } else { "dead" });
    ui.painter().rect_filled(ground, 3.0, ui.visuals().extreme_bg_color);
    let x = |value: f64| ground.left() + ((value - low) / (high - low)) as f32 * ground.width();
    if let Some(quality) = prediction.quality {
        let (a, b) = (x(0.0).min(x(quality)), x(0.0).max(x(quality)));
        let filled = Rect::from_x_y_ranges(a..=b, ground.y_range());
        ui.painter().rect_filled(filled, 3.0, color.gamma_multiply(if interval.is_some() { 1.0 } else { 0.7 }));
    }
    if let Some([from, to]) = interval {
        let stroke = Stroke::new(1.5, ui.visuals().strong_text_color());
        ui.painter().hline(x(from)..=x(to), rect.center().y, stroke);
        for end in [from, to] {
            ui.painter().vline(x(end), rect.center().y - 4.0..=rect.center().y + 4.0, stroke);
        }
    }
    let range = interval.map(|[from, to]| format!(". The line is its 95 % interval, {from:.3} to {to:.3}"));
    response.on_hover_text(format!("{}{}", prediction.hint, range.unwrap_or_default()));
}

/// The quality in each category, where one was named.
fn categories(ui: &mut Ui, report: &ProbeReport) {
    if report.by_category.is_empty() {
        return;
    }
    section(ui, "By category", "The same measure in each category that has enough samples");
    ScrollArea::vertical().id_salt("categories").max_height(110.0).show(ui, |ui| {
        Grid::new("categories").num_columns(3).spacing(vec2(22.0, 3.0)).show(ui, |ui| {
            for title in ["category", "samples", report.quality.measure.title()] {
                ui.label(theme::small(ui, title));
            }
            ui.end_row();
            for category in &report.by_category {
                ui.label(&category.category);
                ui.monospace(format::count(category.samples as u64));
                ui.monospace(format::maybe(category.quality));
                ui.end_row();
            }
        });
    });
}

/// How many preferences are flipped, and the least plausible ones.
fn audit(ui: &mut Ui, report: &ProbeReport) -> Option<Action> {
    let lines = probe::audit(report);
    if lines.is_empty() {
        return None;
    }
    let hint = "How many labels are probably flipped, and the pairs whose labels are least plausible. The margin of a pair is the score \
                of the preferred answer less that of the other";
    section(ui, "Audit of the preferences", hint);
    lines.iter().for_each(|line| widgets::hint(ui, line));
    report.audit?;
    if report.suspects.is_empty() {
        note(ui, "No label contradicts the probe, so no pair is listed.");
        return None;
    }
    let mut action = None;
    let list = || SampleList {
        title: format!("least plausible labels of {}", report.name),
        samples: probe::suspect_samples(&report.suspects),
    };
    let rows = Rows { id: "suspects", columns: &SUSPECTS, widest: 0 };
    rows.show(ui, report.suspects.len(), None, |cells| {
        let Some(suspect) = report.suspects.get(cells.index()) else { return };
        for (key, sample) in [&suspect.preferred, &suspect.other].into_iter().zip(suspect.samples) {
            cells.col(|ui| match sample {
                Some(sample) => {
                    let link = ui.add(egui::Link::new(RichText::new(key)));
                    if link.on_hover_text(format!("Show sample {sample}")).clicked() {
                        action = Some(Action::GoToSample(sample, list()));
                    }
                }
                None => {
                    let label = ui.add(Label::new(RichText::new(key).color(theme::muted(ui))).truncate());
                    label.on_hover_text("It is in the run with the rejected answers");
                }
            });
        }
        cells.col(|ui| drop(ui.monospace(format!("{:+.3}", suspect.margin))));
        if cells.response().clicked()
            && let Some(sample) = suspect.samples.into_iter().flatten().next()
        {
            action = Some(Action::GoToSample(sample, list()));
        }
    });
    action
}
