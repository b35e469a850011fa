//! The part of the Filter page that limits the mean of a number over what is kept: the frontier of mean score and mean cost, a slider
//! for the limit, and what the limit costs.

use super::plot;
use super::theme::{self, note};
use super::widgets::{self, Field};
use crate::state::budget::{self, BudgetAnswer, BudgetSettings};
use crate::state::export_settings::ExportSettings;
use crate::state::format;
use crate::state::open_run::OpenRun;
use crate::state::score_filter::ScoreFilter;
use egui::containers::menu::{MenuButton, MenuConfig};
use egui::{
    Color32, ComboBox, DragValue, Key, Label, PopupCloseBehavior, Pos2, Rect, RichText, Role, ScrollArea, Sense,
    Slider, SliderClamping, Stroke, TextEdit, Ui, WidgetInfo, pos2, vec2,
};
use filters::select::budget::BudgetReport;

/// Height of the plot.
const HEIGHT: f32 = 170.0;
/// Width left of it for its vertical axis.
const LEFT: f32 = 44.0;
/// Height that the entries of the menu have at most.
const MENU: f32 = 320.0;

/// What the part remembers between two frames.
#[derive(Default)]
pub struct BudgetView {
    /// What is being typed as the number that is limited, the field of units and the one with what was judged.
    typed: [Option<String>; 3],
    /// What is typed in the menu of numbers; nothing while it is closed.
    search: Option<String>,
}

/// Draws the budget.
pub fn show(ui: &mut Ui, run: &mut OpenRun, view: &mut BudgetView) {
    ui.add_space(4.0);
    choose(ui, run, view);
    if run.export.budget.is_set() {
        selection(ui, run);
        conditions(ui, &mut run.export, view);
    }
}

/// What limits allow, the limit, and what is kept.
fn selection(ui: &mut Ui, run: &mut OpenRun) {
    let (question, pending) = (run.budget_question(), run.pending_budget().is_some());
    // The frontier of another score or number says nothing about this one.
    let answer = run.budget.as_ref().zip(question).filter(|(answer, asked)| answer.question.has_axes_of(asked));
    let Some((answer, question)) = answer else {
        return note(ui, "Computing ...");
    };
    let is_current = answer.question.has_frontier_of(&question);
    let Some(range) = answer.range() else {
        return match &answer.frontier {
            Err(_) if pending => note(ui, "Computing ..."),
            Err(reason) => widgets::reason(ui, reason),
            Ok(_) => note(ui, "There is no selection of this size."),
        };
    };
    let mut budget = run.export.budget.clone();
    frontier(ui, answer, &mut budget, range, is_current);
    ui.add_enabled_ui(is_current, |ui| slider(ui, &mut budget, range));
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
fn choose(ui: &mut Ui, run: &mut OpenRun, view: &mut BudgetView) {
    let OpenRun { export, filter: Some(Ok(filter)), .. } = run else { return };
    let before = export.budget.clone();
    let (mut column, mut at_least) = (before.column.clone(), before.at_least);
    ui.horizontal_wrapped(|ui| {
        let hint = "Keep the highest scores among the selections whose mean of another number stays within a limit";
        theme::title(ui, "Budget", hint);
        let (name, hint) = ("Number whose mean is limited", "number, such as probe_harm");
        let field = widgets::entered(ui, Field { name, hint, width: 200.0 }, &mut column, &mut view.typed[0]);
        field.on_hover_text("A field of the rows, a score, or a count such as answer_tokens. Empty for no budget");
        if let Some(name) = menu(ui, filter, &mut view.search) {
            column = name;
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

/// What is kept whole, and for whose judgment the limit has to hold.
fn conditions(ui: &mut Ui, export: &mut ExportSettings, view: &mut BudgetView) {
    let [_, unit, judged] = &mut view.typed;
    ui.horizontal_wrapped(|ui| {
        ui.label("Whole units");
        let (name, hint) = ("Field of the units", "field, such as episode");
        let field = widgets::entered(ui, Field { name, hint, width: 170.0 }, &mut export.unit, unit);
        field.on_hover_text(
            "Keep or drop samples with the same value of this field together. A share of the values is kept",
        );
    });
    ui.horizontal_wrapped(|ui| {
        ui.label("Promise for");
        let (name, hint) = ("Field with what was judged", "judged field, such as harm");
        let field = widgets::entered(ui, Field { name, hint, width: 200.0 }, &mut export.judged, judged);
        field.on_hover_text(
            "Make the limit hold for what people judged: a field that some rows have, in the units of the number that is limited. The \
             promise is about one limit that was chosen before; it does not hold for the best of several that were tried",
        );
        if !export.judged.trim().is_empty() {
            let drag = DragValue::new(&mut export.confidence).range(50.0..=99.9).max_decimals(1).suffix("%");
            let drag = ui.add(drag);
            drag.widget_info(|| WidgetInfo::labeled(Role::SpinButton, true, "Probability of the promise"));
        }
    });
}

/// A menu of the numbers whose names contain what is typed in it, where Enter chooses the first one. Returns the chosen one.
fn menu(ui: &mut Ui, filter: &ScoreFilter, search: &mut Option<String>) -> Option<String> {
    let mut chosen = None;
    let config = MenuConfig::new().close_behavior(PopupCloseBehavior::CloseOnClickOutside);
    let (button, shown) = MenuButton::new("Choose").config(config).ui(ui, |ui| {
        let is_new = search.is_none();
        let text = search.get_or_insert_default();
        let field = ui.add(TextEdit::singleline(text).hint_text("part of a name").desired_width(180.0));
        field.widget_info(|| WidgetInfo::labeled(Role::TextInput, true, "Search numbers"));
        let names = budget::numbers(filter, text);
        if is_new {
            field.request_focus();
        } else if field.lost_focus() && ui.input(|input| input.key_pressed(Key::Enter)) {
            chosen = names.first().cloned();
        }
        ScrollArea::vertical().max_height(MENU).show(ui, |ui| {
            if names.is_empty() {
                note(
                    ui,
                    "No score or count of tokens has this in its name. Type a field of the rows left of this menu.",
                );
            }
            for name in names {
                if ui.button(&name).clicked() {
                    chosen = Some(name);
                }
            }
        });
        if chosen.is_some() {
            ui.close();
        }
    });
    if shown.is_none() {
        *search = None;
    }
    button.on_hover_text("Scores and counts of tokens");
    chosen
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

/// Mean score by mean cost, with the selection, its bound and the limit. A click or a drag sets the limit, unless the frontier is that
/// of another amount or of other groups.
fn frontier(ui: &mut Ui, answer: &BudgetAnswer, budget: &mut BudgetSettings, range: [f64; 2], is_current: bool) {
    let Ok(points) = &answer.frontier else { return };
    let sense = if is_current { Sense::click_and_drag() } else { Sense::hover() };
    let (inner, response) = plot::ground(ui, plot::full_width(ui, HEIGHT), LEFT, sense);
    let report = answer.selection.as_ref().and_then(|selection| selection.as_ref().ok()).map(|(report, _)| report);
    let (by, column) = (&answer.question.source.by, &answer.question.source.column);
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
    let muted = theme::muted(ui);
    let curve = if is_current { theme::class(ui, "text") } else { muted };
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
    if let Some(pointer) = response.interact_pointer_pos().filter(|_| is_current) {
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
    response.on_hover_text_at_pointer(format!("{}Drag to move the limit", text.unwrap_or_default()));
    let legend = "Curve: the best selections by limit. Filled circle: what is kept now. Tick: the bound that none exceeds. Ring: as many \
                  samples without the budget.";
    ui.add(Label::new(theme::small(ui, legend)).wrap());
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
    use crate::state::Link;
    use crate::state::run_info::OpenedRun;
    use crate::state::score_filter::Scores;
    use egui::{Event, Modifiers, PointerButton};
    use egui_kittest::Harness;
    use egui_kittest::kittest::Queryable;
    use filters::select::budget::{Budget, MovableBudget};
    use filters::select::{Groups, Keep, Rules};

    /// A run whose budget of 10 samples has been answered: scores and costs are the numbers of the samples.
    fn answered() -> OpenRun {
        let (mut run, _) = OpenRun::new(OpenedRun::default(), &Link::to_run("run"));
        let numbers: Vec<_> = (0..10).map(|n| Some(f64::from(n))).collect();
        let ids: Vec<String> = (0..10).map(|n| n.to_string()).collect();
        let scores: Vec<_> = ids.iter().cloned().zip(numbers.clone()).collect();
        let columns = ["pmi", "other"].map(|name| (name.to_owned(), numbers.clone())).to_vec();
        run.set_scores(Ok(ScoreFilter::new(Scores { ids, columns, ..Scores::default() }).unwrap()));
        run.export.budget = BudgetSettings { column: "harm".into(), at_least: false, limit: Some(5.0) };
        let (rule, groups) = ("harm<=5".parse().unwrap(), Groups::one(10));
        let budget = Budget { rule, costs: numbers };
        let mut budget = MovableBudget::new(&scores, &Rules::new(Keep::Count(5), &groups), budget).unwrap();
        let selection = Some(budget.at(5.0).map_err(|error| error.to_string()));
        let question = run.budget_question().unwrap();
        run.set_budget(BudgetAnswer { question, frontier: Ok(budget.frontier()), selection });
        run
    }

    /// The limit after a drag over the plot, if the page shows it.
    fn dragged(run: OpenRun) -> Option<f64> {
        let mut harness = Harness::new_ui_state(|ui, run: &mut OpenRun| show(ui, run, &mut BudgetView::default()), run);
        harness.run_steps(3);
        let plot = harness.query_by_label_contains("Frontier of mean")?.rect();
        for (at, pressed) in [(0.8, Some(true)), (0.9, None), (0.9, Some(false))] {
            let pos = pos2(plot.left() + at * plot.width(), plot.center().y);
            harness.event(Event::PointerMoved(pos));
            if let Some(pressed) = pressed {
                let (button, modifiers) = (PointerButton::Primary, Modifiers::NONE);
                harness.event(Event::PointerButton { pos, button, pressed, modifiers });
            }
            harness.run_steps(2);
        }
        harness.state().export.budget.limit
    }

    #[test]
    fn a_limit_is_moved_along_the_frontier_of_what_is_set_and_along_no_other() {
        let moved = dragged(answered()).unwrap();
        assert!(moved > 5.0, "{moved}");
        let mut fewer = answered();
        fewer.filter.as_mut().unwrap().as_mut().unwrap().keep(3);
        assert_eq!(dragged(fewer), Some(5.0), "the frontier of another amount");
        let mut other = answered();
        other.filter.as_mut().unwrap().as_mut().unwrap().decide_by(1);
        assert_eq!(dragged(other), None, "the frontier of another score is not shown");
        let mut other = answered();
        other.export.budget.change("help", false);
        assert_eq!(dragged(other), None, "nor that of another number");
    }

    #[test]
    fn points_are_placed_by_cost_and_score() {
        let area = Rect::from_min_size(pos2(10.0, 20.0), vec2(100.0, 50.0));
        let ends = [[0.0, 2.0], [-1.0, 1.0]];
        assert_eq!(place(area, [0.0, -1.0], ends), area.left_bottom());
        assert_eq!(place(area, [2.0, 1.0], ends), area.right_top());
        assert_eq!(place(area, [1.0, 0.0], ends), area.center());
    }
}
