//! The page of all samples: found by words, on one side of the threshold, sorted by a score, several of them kept or dropped by
//! hand. Only the visible rows of cards are laid out.

use super::Action;
use super::filter_cards::{HEIGHT, WIDTH, card, keep_menu};
use super::sample_cache::SampleCache;
use super::theme::{self, note};
use crate::state::format;
use crate::state::open_run::{OpenRun, SampleList};
use crate::state::sample_browser::{Group, Order, SampleBrowser};
use crate::state::score_filter::ScoreFilter;
use egui::{ComboBox, Id, Label, Response, RichText, Role, ScrollArea, TextEdit, Ui, WidgetInfo};

/// Space between cards.
const GAP: f32 = 6.0;

/// The id of the search field, for putting the cursor into it.
pub fn field_id() -> Id {
    Id::unique("search samples")
}

/// What the page remembers between two frames.
#[derive(Default)]
pub struct SamplesView {
    /// The samples whose cards are visible, in order.
    pub visible: Vec<u32>,
}

/// Draws the page.
pub fn show(ui: &mut Ui, run: &mut OpenRun, cache: &mut SampleCache, view: &mut SamplesView) -> Option<Action> {
    let OpenRun { samples, filter, .. } = run;
    let scores = filter.as_ref().and_then(|filter| filter.as_ref().ok());
    controls(ui, samples, scores);
    samples.refresh(scores);
    let action = selection(ui, samples, scores);
    grid(ui, samples, scores, cache, view).or(action)
}

/// The search, the sides and the order.
fn controls(ui: &mut Ui, samples: &mut SampleBrowser, scores: Option<&ScoreFilter>) {
    ui.horizontal_wrapped(|ui| {
        let field = TextEdit::singleline(&mut samples.text).id(field_id()).desired_width(260.0);
        let field = field.hint_text("words of the captions, or keys");
        let response = ui.add(field.margin(egui::Margin::symmetric(8, 6)));
        response.widget_info(|| WidgetInfo::labeled(Role::SearchInput, true, "Search samples"));
        if response.on_hover_text("All words must be there, in the caption or in the key of the sample").changed() {
            samples.problem = None;
        }
        ui.label(theme::small(ui, "show"));
        let groups = if scores.is_some() { &Group::ALL[..] } else { &Group::ALL[..1] };
        let combo = ComboBox::from_id_salt("group").selected_text(samples.group.title());
        let shown = combo.show_ui(ui, |ui| {
            for group in groups {
                ui.selectable_value(&mut samples.group, *group, group.title());
            }
        });
        shown.response.widget_info(|| WidgetInfo::labeled(Role::ComboBox, true, "Samples to show"));
        ui.label(theme::small(ui, "sorted by"));
        order(ui, &mut samples.order, scores);
    });
    if let Some(problem) = &samples.problem {
        ui.add(Label::new(RichText::new(problem).color(ui.visuals().warn_fg_color)).wrap());
    }
}

fn order(ui: &mut Ui, order: &mut Order, scores: Option<&ScoreFilter>) {
    let title = order.score.clone().unwrap_or_else(|| "number".into());
    let shown = ComboBox::from_id_salt("order").selected_text(title).height(400.0).show_ui(ui, |ui| {
        ui.selectable_value(&mut order.score, None, "number");
        for (name, _) in scores.into_iter().flat_map(|scores| &scores.scores().columns) {
            ui.selectable_value(&mut order.score, Some(name.clone()), name);
        }
    });
    shown.response.widget_info(|| WidgetInfo::labeled(Role::ComboBox, true, "Order of the samples"));
    ui.checkbox(&mut order.descending, "largest first");
}

/// How many there are, and what can be done with the selected ones.
fn selection(ui: &mut Ui, samples: &mut SampleBrowser, scores: Option<&ScoreFilter>) -> Option<Action> {
    let mut action = None;
    ui.horizontal_wrapped(|ui| {
        ui.label(RichText::new(format::counted(samples.shown().len(), "sample")).color(theme::muted(ui)));
        if samples.pending_search().is_some() {
            ui.spinner();
        }
        if let Some(scores) = scores {
            ui.label(theme::small(ui, &format!("with {}", scores.name()))).on_hover_text("The number on each card");
        }
        if ui.small_button("Select all").clicked() {
            samples.select_all();
        }
        let count = samples.selected().len();
        if count == 0 {
            ui.label(theme::small(ui, "Ctrl+click and Shift+click select several"));
            return;
        }
        ui.label(RichText::new(format!("{} selected", format::count(count as u64))).strong());
        for (title, keep) in [("Keep", Some(true)), ("Drop", Some(false)), ("Let the score decide", None)] {
            let hint = "By hand, whatever the score says. The Filter page writes the data set with these choices";
            if ui.add_enabled(scores.is_some(), egui::Button::new(title).small()).on_hover_text(hint).clicked() {
                action = Some(Action::Choose(samples.selected().iter().copied().collect(), keep));
            }
        }
        if ui.small_button("Clear the selection").clicked() {
            samples.clear_selection();
        }
    });
    action
}

fn grid(
    ui: &mut Ui,
    samples: &mut SampleBrowser,
    scores: Option<&ScoreFilter>,
    cache: &mut SampleCache,
    view: &mut SamplesView,
) -> Option<Action> {
    if samples.shown().is_empty() {
        note(ui, if samples.pending_search().is_some() { "Searching ..." } else { "No match." });
    }
    let mut clicked = None;
    let mut action = None;
    view.visible.clear();
    ui.spacing_mut().item_spacing.y = GAP;
    let room = ui.available_width() - 14.0;
    let columns = ((room + GAP) / (WIDTH + GAP)).floor().max(1.0);
    let width = (room - GAP * (columns - 1.0)) / columns;
    let columns = columns as usize;
    let rows = samples.shown().len().div_ceil(columns);
    ScrollArea::vertical().auto_shrink(false).show_rows(ui, HEIGHT, rows, |ui, rows| {
        for row in rows {
            let all = samples.shown();
            let end = ((row + 1) * columns).min(all.len());
            ui.horizontal(|ui| {
                ui.spacing_mut().item_spacing.x = GAP;
                for sample in all.get(row * columns..end).unwrap_or_default() {
                    view.visible.push(*sample);
                    let selected = samples.selected().contains(sample);
                    let response = card(ui, width, scores, cache, *sample, selected);
                    if scores.is_some() {
                        response.context_menu(|ui| {
                            if let Some(keep) = keep_menu(ui) {
                                let all = samples.selected().iter().copied();
                                let chosen = if selected { all.collect() } else { vec![*sample] };
                                action = Some(Action::Choose(chosen, keep));
                            }
                        });
                    }
                    if response.clicked() {
                        clicked = Some((*sample, response));
                    }
                }
            });
        }
    });
    if let Some((sample, response)) = clicked {
        action = click(samples, sample, &response).or(action);
    }
    action
}

fn click(samples: &mut SampleBrowser, sample: u32, response: &Response) -> Option<Action> {
    let modifiers = response.ctx.input(|input| input.modifiers);
    match (modifiers.shift, modifiers.command) {
        (true, _) => samples.select_to(sample),
        (false, true) => samples.toggle(sample),
        (false, false) => {
            let list = SampleList { title: "listed samples".into(), samples: samples.shown().to_vec() };
            return Some(Action::GoToSample(sample, list));
        }
    }
    None
}
