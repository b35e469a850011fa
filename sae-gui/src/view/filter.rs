//! The page of scores: their histogram with the threshold, how two of them agree, what is kept and what is dropped side by side,
//! and the export of the kept samples.

use super::filter_budget::BudgetView;
use super::filter_cards;
use super::filter_export::ExportView;
use super::sample_cache::SampleCache;
use super::sample_scores::describe;
use super::theme::{self, note, section};
use super::{Action, filter_budget, filter_export, plot, widgets};
use crate::state::Command;
use crate::state::format;
use crate::state::job::Job;
use crate::state::open_run::OpenRun;
use crate::state::score_description;
use crate::state::score_filter::{Part, SIDE, ScoreFilter, Side};
use egui::{
    Button, Color32, ComboBox, Label, Panel, RichText, Role, ScrollArea, Sense, Slider, Stroke, TextureHandle, Ui,
    WidgetInfo, vec2,
};
use filters::keep::KeepEstimate;

/// Samples shown of each side.
const EXAMPLES: usize = 48;

/// What the page remembers between two frames.
#[derive(Default)]
pub struct FilterView {
    /// Which samples of each side are shown.
    pub part: Part,
    /// The plot of two scores, and what it shows.
    plot: Option<(String, TextureHandle)>,
    /// The estimate of how much to keep, for a score; nothing inside if there is none.
    estimate: Option<(String, Option<KeepEstimate>)>,
    /// What the part with the budget remembers.
    budget: BudgetView,
    /// What the part with the export remembers.
    pub export: ExportView,
}

impl FilterView {
    /// The samples that the page shows, in the order in which they are looked at: both sides from the top.
    pub fn samples(&self, run: &OpenRun) -> Vec<u32> {
        let Some(filter) = run.scores() else { return Vec::new() };
        let [kept, dropped] = [Side::Kept, Side::Dropped].map(|side| filter.examples(side, self.part, EXAMPLES));
        let both = (0..EXAMPLES).flat_map(|n| [kept.get(n), dropped.get(n)]);
        both.flatten().copied().collect()
    }

    /// Forgets a run that is closed.
    pub fn clear(&mut self) {
        *self = Self { part: self.part, ..Self::default() };
    }
}

/// Draws the page.
pub fn show(
    ui: &mut Ui,
    run: &mut OpenRun,
    cache: &mut SampleCache,
    view: &mut FilterView,
    job: Option<&Job>,
) -> Option<Action> {
    match &run.filter {
        None => {
            note(ui, "Reading scores ...");
            return None;
        }
        Some(Err(reason)) => return without_scores(ui, run, reason, job),
        Some(Ok(_)) => {}
    }
    let mut action = None;
    let widest = (0.6 * ui.available_width()).max(260.0);
    let panel = Panel::left("filter").default_size(430.0_f32.min(widest)).size_range(240.0..=widest.min(640.0));
    panel.frame(egui::Frame::NONE).show(ui, |ui| {
        ScrollArea::vertical().auto_shrink(false).show(ui, |ui| {
            ui.set_max_width(ui.available_width() - 16.0);
            if let Some(Ok(filter)) = &mut run.filter {
                choice(ui, filter);
                histogram(ui, filter);
                amount(ui, filter, view);
            }
            filter_budget::show(ui, run, &mut view.budget);
            if let Some(Ok(filter)) = &mut run.filter {
                agreement(ui, filter, view);
            }
            section(ui, "Export", "Write the kept samples as a new data set");
            action = filter_export::show(ui, run, &mut view.export, job);
        });
    });
    let margin = egui::Frame::NONE.inner_margin(egui::Margin { left: 12, ..egui::Margin::ZERO });
    egui::CentralPanel::default().frame(margin).show(ui, |ui| {
        ui.horizontal_wrapped(|ui| {
            ui.selectable_value(&mut view.part, Part::NearThreshold, "near the threshold")
                .on_hover_text("The samples by which to judge the threshold");
            ui.selectable_value(&mut view.part, Part::Extremes, "extremes")
                .on_hover_text("The highest scores that are kept, the lowest that are dropped");
        });
        action = filter_cards::sides(ui, run, cache, view.part, EXAMPLES).or(action.take());
    });
    action
}

/// The page of a run without scores.
fn without_scores(ui: &mut Ui, run: &OpenRun, reason: &str, job: Option<&Job>) -> Option<Action> {
    ui.heading("No scores yet");
    widgets::reason(ui, reason);
    ui.add_space(8.0);
    let can = run.info.sae_info().is_some_and(|sae| sae.trained) && !job.is_some_and(Job::is_running);
    let button = ui.add_enabled(can, Button::new(RichText::new("Make the scores").strong()));
    let clicked = button.on_hover_text(Command::MakeScores.hint()).clicked();
    clicked.then_some(Action::Command(Command::MakeScores))
}

fn choice(ui: &mut Ui, filter: &mut ScoreFilter) {
    ui.horizontal_wrapped(|ui| {
        ui.label(RichText::new("Keep by").size(15.0).strong());
        if let Some(column) = column(ui, filter, "by", filter.name()) {
            filter.decide_by(column);
        }
    });
    ui.add(Label::new(theme::small(ui, &score_description::meaning(filter.name()))).wrap());
    match score_description::best_result(&filter.scores().validation, filter.name()) {
        Some(result) => drop(ui.label(theme::small(ui, &result)).on_hover_ui(|ui| describe(ui, filter, filter.name()))),
        None => widgets::hint(ui, "Not validated on this data: `sae validate` measures which errors it finds."),
    }
}

/// A choice among the scores, each with its meaning and its best result.
fn column(ui: &mut Ui, filter: &ScoreFilter, id: &str, selected: &str) -> Option<usize> {
    let mut chosen = None;
    let combo = ComboBox::from_id_salt(id).selected_text(selected).height(480.0);
    let shown = combo.show_ui(ui, |ui| {
        for (at, (name, _)) in filter.scores().columns.iter().enumerate() {
            let result = score_description::best_result(&filter.scores().validation, name);
            let text = result.map_or(name.clone(), |result| format!("{name}   ({result})"));
            let label = ui.selectable_label(name == selected, text);
            if label.on_hover_ui(|ui| describe(ui, filter, name)).clicked() {
                chosen = Some(at);
            }
        }
    });
    shown.response.widget_info(|| WidgetInfo::labeled(Role::ComboBox, true, format!("{id}: {selected}")));
    chosen
}

fn histogram(ui: &mut Ui, filter: &mut ScoreFilter) {
    let (inner, response) = plot::ground(ui, plot::full_width(ui, 130.0), 0.0, Sense::click_and_drag());
    response.widget_info(|| WidgetInfo::labeled(Role::Figure, true, "Histogram of scores"));
    let [low, high] = filter.bounds();
    let share = |score: f64| ((score - low) / (high - low)).clamp(0.0, 1.0) as f32;
    // Samples within a budget are not those above a threshold.
    let edge = filter.budget().is_none().then(|| filter.threshold().map_or(1.0, share));
    let (kept, dropped) = (theme::class(ui, "cross"), theme::muted(ui).gamma_multiply(0.5));
    let [bars, kept_bars] =
        [filter.bars(), filter.kept_bars()].map(|bars| bars.iter().copied().map(f64::from).collect::<Vec<f64>>());
    plot::bars(ui, inner, &bars, |_| dropped);
    plot::bars_up_to(ui, inner, &kept_bars, bars.iter().copied().fold(0.0, f64::max), |_| kept);
    if let Some(edge) = edge {
        let x = inner.left() + edge * inner.width();
        ui.painter().vline(x, inner.y_range(), Stroke::new(2.0, ui.visuals().strong_text_color()));
    }
    plot::horizontal_axis(ui, inner, [&format::real(low), &format::real(high)], filter.name());
    if let Some(pointer) = response.interact_pointer_pos() {
        filter.keep_above(low + f64::from((pointer.x - inner.left()) / inner.width()) * (high - low));
    }
    let under = response.hover_pos().map(|pointer| plot::part_under(inner, pointer, bars.len()));
    let text = under.map(|bar| {
        let count = format::counted(filter.bars()[bar] as usize, "sample");
        format!("{count} from {}", filter.bar_edges(bar).map(format::real).join(" to "))
    });
    let drag = if edge.is_some() { "Drag to move the threshold" } else { "Drag to keep more or fewer samples" };
    response.on_hover_text_at_pointer(format!("{}\n{drag}", text.unwrap_or_default()));
}

/// How much is kept, and the estimate of how much to keep.
fn amount(ui: &mut Ui, filter: &mut ScoreFilter, view: &mut FilterView) {
    let mut percent = 100.0 * filter.share();
    ui.horizontal(|ui| {
        ui.spacing_mut().slider_width = (ui.available_width() - 140.0).max(40.0);
        let slider = Slider::new(&mut percent, 0.0..=100.0).suffix("%").fixed_decimals(1).text("kept");
        if ui.add(slider).changed() {
            filter.keep_share(percent / 100.0);
        }
    });
    ui.add(Label::new(filter.summary()).wrap());
    ui.horizontal_wrapped(|ui| {
        let name = filter.name().to_owned();
        let hint = "Keep the samples that are more likely right than wrong, as `--keep auto` does";
        if ui.button("Estimate").on_hover_text(hint).clicked() {
            let estimate = filter.estimate();
            if let Some(estimate) = &estimate {
                filter.keep_above(estimate.threshold);
            }
            view.estimate = Some((name.clone(), estimate));
        }
        if !filter.choices().is_empty() && ui.button("Clear choices by hand").clicked() {
            let samples: Vec<u32> = filter.choices().keys().copied().collect();
            filter.choose(samples, None);
        }
        let told = view.estimate.as_ref().filter(|(of, _)| *of == name).map(|(_, estimate)| match estimate {
            Some(estimate) => {
                let [wrong, kept] = [estimate.mismatched, estimate.share_kept].map(format::percent);
                format!("about {wrong} of the pairs are mismatched; {kept} would be kept")
            }
            None => "too few scores for an estimate".into(),
        });
        if let Some(told) = told {
            ui.label(theme::small(ui, &told));
        }
    });
}

/// How the score agrees with another one.
fn agreement(ui: &mut Ui, filter: &mut ScoreFilter, view: &mut FilterView) {
    ui.add_space(8.0);
    ui.horizontal_wrapped(|ui| {
        theme::title(ui, "Agreement with", "Each sample by the score that decides (across) and by the other one (up)");
        if let Some(column) = column(ui, filter, "with", filter.other()) {
            filter.compare_with(column);
        }
    });
    let shown = format!("{} {} {}", filter.name(), filter.other(), ui.visuals().dark_mode);
    if view.plot.as_ref().is_none_or(|(own, _)| *own != shown) {
        let cells = &filter.agreement().cells;
        let most = cells.iter().copied().max().unwrap_or(1);
        let color = theme::class(ui, "text");
        let texture =
            plot::counts(ui, "agreement", [SIDE, SIDE], |cell| color.gamma_multiply(plot::shade(cells[cell], most)));
        view.plot = Some((shown, texture));
    }
    let width = (ui.available_width() - 110.0).clamp(120.0, 200.0);
    ui.horizontal_wrapped(|ui| {
        let (inner, response) = plot::ground(ui, vec2(width, 0.8 * width), 40.0, Sense::hover());
        response.widget_info(|| WidgetInfo::labeled(Role::Figure, true, "Two scores"));
        if let Some((_, texture)) = &view.plot {
            ui.painter().image(texture.id(), inner, super::picture::WHOLE, Color32::WHITE);
        }
        let agreement = filter.agreement();
        let [across, up] = agreement.bounds.map(|ends| ends.map(format::real));
        plot::horizontal_axis(ui, inner, across.each_ref().map(String::as_str), filter.name());
        plot::vertical_axis(ui, inner, up.each_ref().map(String::as_str), filter.other());
        if let Some(pointer) = response.hover_pos().filter(|pointer| inner.contains(*pointer)) {
            let column = plot::part_under(inner, pointer, SIDE);
            let row = SIDE - 1 - (((pointer.y - inner.top()) / inner.height() * SIDE as f32) as usize).min(SIDE - 1);
            let count = format::counted(agreement.cells[row * SIDE + column] as usize, "sample");
            let value = |axis: usize, part: usize| {
                let [low, high] = agreement.bounds[axis];
                format::real(low + (part as f64 + 0.5) / SIDE as f64 * (high - low))
            };
            let (name, other) = (filter.name(), filter.other());
            let text = format!("{count} near {name} {}, {other} {}", value(0, column), value(1, row));
            response.on_hover_text_at_pointer(text);
        }
        ui.vertical(|ui| {
            let correlation = agreement.correlation.map_or("-".into(), |value| format!("{value:+.3}"));
            ui.label(RichText::new(correlation).size(18.0).strong());
            ui.label(theme::small(ui, "rank correlation"));
            ui.label(theme::small(ui, &format::counted(agreement.pairs, "sample")));
        });
    });
}
