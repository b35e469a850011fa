//! The search field above the table of features, what it found, and what it did not understand.

use super::Action;
use super::theme;
use crate::state::Link;
use crate::state::field::Field;
use crate::state::format;
use crate::state::location::Location;
use crate::state::open_run::OpenRun;
use egui::{Id, Key, Label, RichText, Role, TextEdit, Ui, WidgetInfo};

/// The id of the search field, for putting the cursor into it.
pub fn field_id() -> Id {
    Id::unique("search features")
}

/// Draws the field. Enter shows the first feature that was found, or opens the link that was pasted.
pub fn show(ui: &mut Ui, run: &mut OpenRun) -> Option<Action> {
    let mut text = run.list.search_text().to_owned();
    let field = TextEdit::singleline(&mut text)
        .id(field_id())
        .hint_text("words, numbers, class:cross, density>1%, label:\"red ring\"")
        .desired_width(f32::INFINITY)
        .margin(egui::Margin::symmetric(8, 6));
    let response = ui.add(field);
    response.widget_info(|| WidgetInfo::labeled(Role::SearchInput, true, "Search features"));
    let entered = response.lost_focus() && ui.input(|input| input.key_pressed(Key::Enter));
    response.on_hover_ui(help);
    let is_link = Link::is_link(text.trim_start());
    if text != run.list.search_text() {
        run.list.search(&text);
    }
    ui.horizontal_wrapped(|ui| {
        ui.label(RichText::new(counts(run)).color(theme::muted(ui)));
        let outside = run.list.found_outside();
        if outside > 0 {
            let text = format!("{} more outside the {}", format::count(outside as u64), restriction(run));
            ui.label(RichText::new(text).color(theme::muted(ui)));
        }
        if !run.list.pending_captions().is_empty() {
            ui.label(theme::small(ui, "searching captions ..."));
        }
    });
    let problem = if is_link { Some("Press Enter to open this link.") } else { run.list.problem() };
    if let Some(problem) = problem {
        ui.add(Label::new(RichText::new(problem).color(ui.visuals().warn_fg_color)).wrap());
    }
    if !entered {
        return None;
    }
    if is_link {
        run.list.search("");
        return Some(Action::OpenText(text));
    }
    run.list.step(None, 0).map(|feature| Action::Go(Location::Feature(feature)))
}

fn counts(run: &OpenRun) -> String {
    let (shown, total) = (run.list.len() as u64, run.list.total() as u64);
    if shown == total {
        format!("{} features", format::count(total))
    } else {
        format!("{} of {} features", format::count(shown), format::count(total))
    }
}

fn restriction(run: &OpenRun) -> String {
    let count = run.list.restricted_to().unwrap_or_default();
    format!("{} chosen on the map", format::count(count as u64))
}

fn help(ui: &mut Ui) {
    ui.set_max_width(460.0);
    let names: Vec<&str> = Field::ALL.iter().map(|field| field.name()).filter(|name| *name != "label").collect();
    for (example, meaning) in [
        (
            "blue ring",
            "words in labels, notes, typical words or half of the captions of the strongest examples; all must be there",
        ),
        ("12", "the feature 12, then those whose numbers begin with 12"),
        ("class:cross,image", "a class, or one of several"),
        ("density>0.1%", "a column compared with a number: > >= < <= = !="),
        ("-class:dead", "a minus excludes"),
        ("class:cross OR weight>0.2", "one of the two"),
        ("label:\"red ring\" notes:rim author:ann", "texts that people wrote"),
        ("caption:dog", "a word in the caption of at least one of the strongest examples"),
        ("word:boat star:yes list:colors", "typical words, stars, lists"),
    ] {
        ui.horizontal_wrapped(|ui| {
            ui.monospace(example);
            ui.label(theme::small(ui, meaning));
        });
    }
    ui.add(Label::new(theme::small(ui, &format!("Columns: {}", names.join(", ")))).wrap());
}
