//! The part of the Filter page that limits the mean of a number over what is kept: the frontier of mean score and mean cost, a slider
//! for the limit, and what the limit costs.

use super::theme::{self, note};
use super::{plot, widgets};
use crate::state::budget::{BudgetAnswer, BudgetSettings};
use crate::state::format;
use crate::state::open_run::OpenRun;
use egui::{
    Color32, ComboBox, Key, Label, Pos2, Rect, RichText, Role, Sense, Slider, SliderClamping, Stroke, TextEdit, Ui,
    WidgetInfo, pos2, vec2,
};
use filters::select::budget::BudgetReport;
use sae_core::analysis::feature_sets::Part;

/// Height of the plot.
const HEIGHT: f32 = 170.0;
/// Width left of it for its vertical axis.
const LEFT: f32 = 44.0;

/// Draws the budget. `typed` is what is being typed as the number that is limited.
pub fn show(ui: &mut Ui, run: &mut OpenRun, typed: &mut Option<String>) {
    ui.add_space(4.0);
    choose(ui, run, typed);
    if !run.export.budget.is_set() {
        return;
    }
    let pending = run.pending_budget().is_some();
    let Some(answer) = run.budget.as_ref() else {
        return note(ui, "Computing ...");
    };
    let Some(range) = answer.range() else {
        return match &answer.frontier {
            Err(_) if pending => note(ui, "Computing ..."),
            Err(reason) => widgets::reason(ui, reason),
            Ok(_) => note(ui, "There is no selection of this size."),
        };
    };
    let mut budget = run.export.budget.clone();
    frontier(ui, answer, &mut budget, range);
    slider(ui, &mut budget, range);
    match &answer.selection {
        Some(Err(reason)) if !pending => widgets::reason(ui, reason),
        Some(Ok(_)) => {
            for line in answer.sentences() {
                let text = RichText::new(line);
                ui.add(Label::new(if pending { text.color(theme::muted(ui)) } else { text }).wrap());
            }
        }
        _ => note(ui, "Computing ..."),
    }
    run.export.budget = budget;
}

/// What is limited, and on which side.
fn choose(ui: &mut Ui, run: &mut OpenRun, typed: &mut Option<String>) {
    let OpenRun { export, filter, .. } = run;
    let Some(Ok(filter)) = filter else { return };
    let before = export.budget.clone();
    let (mut column, mut at_least) = (before.column.clone(), before.at_least);
    ui.horizontal_wrapped(|ui| {
        let hint = "Keep the highest scores among the selections whose mean of another number stays within a limit";
        theme::title(ui, "Budget", hint);
        let mut text = typed.take().unwrap_or_else(|| column.clone());
        let field = TextEdit::singleline(&mut text).hint_text("number, such as probe_harm").desired_width(200.0);
        let response = ui.add(field);
        response.widget_info(|| WidgetInfo::labeled(Role::TextInput, true, "Number whose mean is limited"));
        let entered = response.lost_focus() || ui.input(|input| input.key_pressed(Key::Enter));
        let has_focus = response.has_focus();
        response.on_hover_text("A field of the rows, a score, or a count such as answer_tokens. Empty for no budget");
        let menu = ui.menu_button("Choose", |ui| {
            let columns = filter.scores().columns.iter().map(|(name, _)| name.clone());
            let tokens = Part::NAMED.iter().map(|(part, _)| format!("{part}_tokens"));
            for name in columns.chain(tokens).filter(|name| name != filter.name()) {
                if ui.button(&name).clicked() {
                    column = name;
                    ui.close();
                }
            }
        });
        menu.response.on_hover_text("Scores and counts of tokens");
        if entered {
            column = text;
        } else if has_focus {
            *typed = Some(text);
        }
        if !before.is_set() {
            return;
        }
        let sides = [(false, "at most"), (true, "at least")];
        let shown = ComboBox::from_id_salt("side").width(76.0).selected_text(sides[usize::from(at_least)].1);
        let shown = shown.show_ui(ui, |ui| {
            for (side, title) in sides {
                ui.selectable_value(&mut at_least, side, title);
            }
        });
        shown.response.widget_info(|| WidgetInfo::labeled(Role::ComboBox, true, "Side of the budget"));
        if ui.small_button("Remove").on_hover_text("Keep the highest scores, whatever they cost").clicked() {
            column.clear();
        }
    });
    export.budget.change(&column, at_least);
    if export.budget != before {
        filter.set_budgeted(None);
    }
}

/// The limit as a slider between the safest one and the one that limits nothing.
fn slider(ui: &mut Ui, budget: &mut BudgetSettings, range: [f64; 2]) {
    let [low, high] = [range[0].min(range[1]), range[0].max(range[1])];
    let mut limit = budget.limit.unwrap_or(range[1]);
    ui.horizontal(|ui| {
        ui.spacing_mut().slider_width = (ui.available_width() - 120.0).max(40.0);
        let slider = Slider::new(&mut limit, low..=high)
            .clamping(SliderClamping::Edits)
            .custom_formatter(|value, _| format::real(value))
            .text("limit");
        if ui.add(slider).changed() {
            budget.set_limit(limit, range);
        }
    });
}

/// Mean score by mean cost, with the selection, its bound and the limit. A click or a drag sets the limit.
fn frontier(ui: &mut Ui, answer: &BudgetAnswer, budget: &mut BudgetSettings, range: [f64; 2]) {
    let Ok(points) = &answer.frontier else { return };
    let (inner, response) = plot::ground(ui, plot::full_width(ui, HEIGHT), LEFT, Sense::click_and_drag());
    let report = answer.selection.as_ref().and_then(|selection| selection.as_ref().ok()).map(|(report, _)| report);
    let (by, column) = (&answer.question.choice.by, &answer.question.choice.column);
    let said = format!("Frontier of mean {by} by mean {column}, {} points", points.len());
    response.widget_info(|| WidgetInfo::labeled(Role::Figure, true, &said));
    let ends = |values: &mut dyn Iterator<Item = f64>| {
        let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), x| (a.min(x), b.max(x)));
        if high > low { [low, high] } else { [low - 0.5, low + 0.5] }
    };
    let across = ends(&mut points.iter().map(|point| point.mean));
    let up = ends(&mut points.iter().map(|point| point.score).chain(report.and_then(|report| report.bound)));
    let area = inner.shrink2(vec2(6.0, 8.0));
    let at = |mean: f64, score: f64| place(area, [mean, score], [across, up]);
    let line: Vec<Pos2> = points.iter().map(|point| at(point.mean, point.score)).collect();
    let (curve, muted) = (theme::class(ui, "text"), theme::muted(ui));
    if let Some(limit) = budget.limit {
        let x = at(limit, up[0]).x.clamp(inner.left(), inner.right());
        ui.painter().vline(x, inner.y_range(), Stroke::new(1.5, ui.visuals().strong_text_color()));
    }
    ui.painter().line(line.clone(), Stroke::new(1.5, curve));
    for point in &line {
        ui.painter().circle_filled(*point, 2.0, curve);
    }
    if let Some(last) = line.last() {
        ui.painter().circle(*last, 4.0, theme::card(ui).0, Stroke::new(1.5, muted));
    }
    if let Some(report) = report {
        chosen(ui, report, at);
    }
    let [low, high] = across.map(format::real);
    plot::horizontal_axis(ui, inner, [&low, &high], &format!("mean {column}"));
    let [low, high] = up.map(format::real);
    plot::vertical_axis(ui, inner, [&low, &high], &format!("mean {by}"));
    if let Some(pointer) = response.interact_pointer_pos() {
        let share = f64::from(((pointer.x - area.left()) / area.width()).clamp(0.0, 1.0));
        budget.set_limit(across[0] + share * (across[1] - across[0]), range);
    }
    let near = response.hover_pos().and_then(|pointer| {
        let distance = |n: &usize| line[*n].distance(pointer);
        (0..line.len()).min_by(|a, b| distance(a).total_cmp(&distance(b)))
    });
    let text = near.map(|n| {
        let [mean, score, price] = [points[n].mean, points[n].score, points[n].price].map(format::real);
        format!("mean {column} {mean} allows mean {by} {score}, at a price of {price}\n")
    });
    response.on_hover_text_at_pointer(format!(
        "{}Filled: kept now; tick: no selection within the budget is higher; ring: as many without a budget.\nDrag to move the limit",
        text.unwrap_or_default()
    ));
}

/// The selection as a point, and its bound as a tick at the limit.
fn chosen(ui: &Ui, report: &BudgetReport, at: impl Fn(f64, f64) -> Pos2) {
    let Some(spent) = report.budgets.first() else { return };
    let color: Color32 = theme::class(ui, "cross");
    if let Some(bound) = report.bound {
        let tick = at(spent.limit, bound);
        ui.painter().hline(tick.x - 7.0..=tick.x + 7.0, tick.y, Stroke::new(1.5, color));
    }
    ui.painter().circle_filled(at(spent.mean, report.score), 4.5, color);
}

/// Where a mean and a score are in a plot.
fn place(area: Rect, [mean, score]: [f64; 2], [across, up]: [[f64; 2]; 2]) -> Pos2 {
    let share = |value: f64, [low, high]: [f64; 2]| ((value - low) / (high - low)) as f32;
    pos2(area.left() + share(mean, across) * area.width(), area.bottom() - share(score, up) * area.height())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_are_placed_by_cost_and_score() {
        let area = Rect::from_min_size(pos2(10.0, 20.0), vec2(100.0, 50.0));
        let ends = [[0.0, 2.0], [-1.0, 1.0]];
        assert_eq!(place(area, [0.0, -1.0], ends), area.left_bottom());
        assert_eq!(place(area, [2.0, 1.0], ends), area.right_top());
        assert_eq!(place(area, [1.0, 0.0], ends), area.center());
    }
}
