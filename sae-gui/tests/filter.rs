//! The Filter page: near-duplicates, diversity, the estimate of how much to keep, and scores that others write.

use crate::fixture::{self, SAE};
use crate::harness::{key, open, settle, wait_for};
use egui::{Key, Modifiers, Role};
use egui_kittest::Harness;
use egui_kittest::kittest::{NodeT, Queryable};
use sae_core::{Run, file};
use sae_gui::state::Link;
use sae_gui::state::job::JobState;
use sae_gui::state::location::{Location, Page};
use sae_gui::view::App;
use std::path::Path;

fn open_filter(run: &Run) -> Harness<'static, App> {
    open(Link { location: Some(Location::Page(Page::Filter)), ..Link::to_run(run.root()) })
}

fn click(app: &mut Harness<'static, App>, label: &str) {
    app.get_by_label(label).scroll_to_me();
    app.run_steps(3);
    app.get_by_label(label).click();
    app.run_steps(3);
    settle(app);
}

/// The command line that the page shows.
fn command_line(app: &Harness<'static, App>) -> String {
    app.get_by_label_contains("sae filter --run").accesskit_node().value().unwrap_or_default()
}

/// Writes the data set. Returns the number of its rows, or nothing where the program `sae` is not built.
fn write(app: &mut Harness<'static, App>, button: &str, folder: &Path) -> Option<usize> {
    click(app, button);
    match &app.state().session().job.as_ref().unwrap().state {
        JobState::Done(_) => Some(std::fs::read_to_string(folder.join("data/data.jsonl")).unwrap().lines().count()),
        // `cargo test` of this crate alone builds no `sae`.
        JobState::Failed(reason) if reason.contains("cannot be started") => {
            eprintln!("skipped: the program sae is not built");
            None
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn near_duplicates_are_dropped_by_the_command() {
    let (dir, run) = fixture::run(16);
    let mut app = open_filter(&run);
    assert!(!command_line(&app).contains("--dedup"));
    click(&mut app, "drop near-duplicates");
    assert!(command_line(&app).contains("--keep 12 --dedup 0.9 --out"), "{}", command_line(&app));
    app.get_by_label_contains("are decided while the data set is written");
    // The same features are active in all samples of the fixture.
    let rows = write(&mut app, "Write 12 samples", &dir.path().join("run-kept"));
    assert!(rows.is_none_or(|rows| rows == 1), "{rows:?}");
    click(&mut app, "drop near-duplicates");
    assert!(!command_line(&app).contains("--dedup"));
}

#[test]
fn a_diverse_set_is_chosen_by_the_command() {
    let (dir, run) = fixture::run(16);
    let mut app = open_filter(&run);
    click(&mut app, "Which samples are chosen");
    click(&mut app, "most features together");
    assert!(command_line(&app).contains("--keep 12 --diverse --out"), "{}", command_line(&app));
    let settings = &mut app.state_mut().session_mut().run_mut().unwrap().export;
    settings.within = "answer_tokens".into();
    app.run_steps(3);
    assert!(command_line(&app).contains("--keep 12 --within answer_tokens --diverse --out"), "{}", command_line(&app));
    app.state_mut().session_mut().run_mut().unwrap().export.within.clear();
    app.run_steps(3);
    let rows = write(&mut app, "Write 12 samples", &dir.path().join("run-kept"));
    assert!(rows.is_none_or(|rows| rows == 12), "{rows:?}");
    // What a person decides about single samples cannot be combined with it.
    let filter = app.state_mut().session_mut().run_mut().unwrap().filter.as_mut().unwrap().as_mut().unwrap();
    filter.choose([3], Some(true));
    app.run_steps(3);
    app.get_by_label_contains("cannot be combined with near-duplicates, features or quantiles");
    assert!(app.get_by_role_and_label(Role::Button, "Write 13 samples").accesskit_node().is_disabled());
}

#[test]
fn the_saved_estimate_sets_the_threshold() {
    let (_dir, run) = fixture::run(16);
    let estimate =
        serde_json::json!({ "share_kept": 0.75, "threshold": 6.0, "mismatched": 0.25, "method": "mismatched" });
    let metadata = serde_json::json!({ "keep": { "cosine_paper": estimate } });
    file::write_json(&run.scores(SAE).with_extension("json"), &metadata).unwrap();
    let mut app = open_filter(&run);
    app.get_by_label_contains("12 of 24 samples are kept");
    click(&mut app, "Estimate");
    app.get_by_label("about 25% of the pairs are mismatched; 75% would be kept");
    app.get_by_label_contains("18 of 24 samples are kept: those with the highest cosine_paper, down to 6.00.");
    assert!(command_line(&app).contains("--keep 18"));
}

#[test]
fn scores_that_do_not_separate_two_kinds_of_samples_are_all_kept() {
    let (_dir, run) = fixture::run(16);
    std::fs::remove_file(run.scores(SAE).with_extension("json")).ok();
    let mut app = open_filter(&run);
    click(&mut app, "Estimate");
    app.get_by_label("about 0% of the pairs are mismatched; 100% would be kept");
    app.get_by_label_contains("24 of 24 samples are kept");
}

#[test]
fn scores_that_others_write_are_noticed_and_what_was_chosen_outlives_reading_them() {
    let (_dir, run) = fixture::run(16);
    let mut app = open_filter(&run);
    let filter = app.state_mut().session_mut().run_mut().unwrap().filter.as_mut().unwrap().as_mut().unwrap();
    filter.choose([3], Some(true));
    filter.keep(5);
    let path = run.scores(SAE);
    let bytes = std::fs::read(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    wait_for(&mut app, "The scores have changed on disk");
    key(&mut app, Modifiers::NONE, Key::F5);
    settle(&mut app);
    app.get_by_label_contains("There are no scores of base yet.");
    file::write_bytes(&path, &bytes).unwrap();
    wait_for(&mut app, "The scores have changed on disk");
    key(&mut app, Modifiers::NONE, Key::F5);
    settle(&mut app);
    app.get_by_label_contains("6 of 24 samples are kept");
    app.get_by_label_contains("1 choice by hand");
}

#[test]
fn no_field_is_too_narrow_for_its_hint() {
    let (_dir, run) = fixture::run(16);
    let app = open_filter(&run);
    let hints = [
        ("Columns of the groups", "column, such as category"),
        ("Number whose quantiles each keep their share", "number, such as answer_tokens"),
        ("Number whose mean is limited", "number, such as probe_harm"),
    ];
    let conditions = [
        ("Field of the units", "field, such as episode"),
        ("Field with what was judged", "judged field, such as harm"),
    ];
    let mut app = app;
    app.state_mut().session_mut().run_mut().unwrap().export.budget.column = "random".into();
    settle(&mut app);
    let hints = hints.into_iter().chain(conditions);
    for (field, hint) in hints {
        let font = egui::TextStyle::Body.resolve(&app.ctx.global_style());
        let width = app.ctx.fonts_mut(|fonts| fonts.layout_no_wrap(hint.into(), font, egui::Color32::WHITE).size().x);
        let room = app.get_by_label(field).rect().width();
        assert!(room >= width + 8.0, "{field}: {room} for {width}");
    }
}

/// Opens the page with a budget.
fn open_budget(run: &Run, budget: &str) -> Harness<'static, App> {
    let location = Some(Location::Page(Page::Filter));
    open(Link { location, budget: Some(budget.parse().unwrap()), ..Link::to_run(run.root()) })
}

#[test]
fn a_budget_keeps_the_best_selection_within_it_and_the_command_writes_the_same() {
    let (dir, run) = fixture::run(16);
    let mut app = open_budget(&run, "random<=8");
    assert!(command_line(&app).contains("--keep 12 --budget 'random<=8' --out"), "{}", command_line(&app));
    app.get_by_label_contains("12 of 24 samples: mean cosine_paper ");
    app.get_by_label("As many samples without the budget: mean cosine_paper 17.50, mean random 12.50.");
    app.get_by_label_contains("The best possible selection within the budget has a mean cosine_paper of at most ");
    app.get_by_label_contains("would raise the mean cosine_paper by about ");
    app.get_by_label_contains("12 of 24 samples are kept: the highest mean cosine_paper within the budget random<=8");
    let filter = app.state().session().run().unwrap().scores().unwrap();
    let kept: Vec<u32> = (0..24).filter(|sample| filter.is_kept(*sample)).collect();
    let mean = kept.iter().map(|n| (n * 7) % 24).sum::<u32>() as f64 / 12.0;
    assert!(kept.len() == 12 && mean <= 8.0 && mean > 7.5, "{kept:?}: {mean}");
    let link = app.state().session().run().unwrap().link();
    assert!(link.to_string().ends_with("&by=cosine_paper&keep=12&budget=random%3C%3D8"), "{link}");
    if write(&mut app, "Write 12 samples", &dir.path().join("run-kept")).is_some() {
        let text = std::fs::read_to_string(dir.path().join("run-kept/data/data.jsonl")).unwrap();
        let ids = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["id"].clone());
        let expected: Vec<_> = kept.iter().map(|n| serde_json::json!(format!("shape-{n:02}"))).collect();
        assert_eq!(ids.collect::<Vec<_>>(), expected, "what the page shows is what is written");
    }
}

#[test]
fn a_budget_is_typed_moved_and_removed() {
    let (_dir, run) = fixture::run(16);
    let mut app = open_filter(&run);
    app.get_by_label("Number whose mean is limited").scroll_to_me();
    app.run_steps(3);
    app.get_by_label("Number whose mean is limited").focus();
    app.run_steps(2);
    app.get_by_label("Number whose mean is limited").type_text("random");
    app.run_steps(2);
    key(&mut app, Modifiers::NONE, Key::Enter);
    settle(&mut app);
    let limit = |app: &Harness<'static, App>| app.state().session().run().unwrap().export.budget.limit;
    let halfway = limit(&app).unwrap();
    assert!((5.5..12.5).contains(&halfway), "between the smallest mean and the one without a budget: {halfway}");
    app.get_by_label_contains("Frontier of mean cosine_paper by mean random");
    let slider = app.get_by_role_and_label(Role::Slider, "limit");
    slider.focus();
    app.run_steps(2);
    key(&mut app, Modifiers::NONE, Key::ArrowLeft);
    settle(&mut app);
    let moved = limit(&app).unwrap();
    assert!(moved < halfway, "the keyboard moves the limit: {moved} after {halfway}");
    assert!(command_line(&app).contains(&format!("--budget 'random<={moved}'")), "{}", command_line(&app));
    // A smaller selection has other means, and the limit stays.
    app.state_mut().session_mut().run_mut().unwrap().filter.as_mut().unwrap().as_mut().unwrap().keep(6);
    settle(&mut app);
    app.get_by_label_contains("6 of 24 samples: mean cosine_paper ");
    assert_eq!(limit(&app), Some(moved));
    click(&mut app, "Remove");
    assert!(!command_line(&app).contains("--budget"));
    app.get_by_label_contains("6 of 24 samples are kept: those with the highest cosine_paper");
}

#[test]
fn a_number_is_chosen_in_the_menu_by_keyboard() {
    let (_dir, run) = fixture::run(16);
    let mut app = open_filter(&run);
    let column = |app: &Harness<'static, App>| app.state().session().run().unwrap().export.budget.column.clone();
    let open_menu = |app: &mut Harness<'static, App>| {
        app.get_by_role_and_label(Role::Button, "Choose").scroll_to_me();
        app.run_steps(3);
        app.get_by_role_and_label(Role::Button, "Choose").focus();
        app.run_steps(2);
        key(app, Modifiers::NONE, Key::Enter);
        app.run_steps(3);
    };
    // What is typed narrows the list, and Enter chooses the first one.
    open_menu(&mut app);
    app.get_by_label("Search numbers").type_text("ANSWER");
    app.run_steps(3);
    assert!(app.query_by_role_and_label(Role::Button, "random").is_none());
    key(&mut app, Modifiers::NONE, Key::Enter);
    settle(&mut app);
    assert_eq!(column(&app), "answer_tokens");
    // An entry that has the focus is chosen as well.
    open_menu(&mut app);
    app.get_by_role_and_label(Role::Button, "random").focus();
    app.run_steps(2);
    key(&mut app, Modifiers::NONE, Key::Enter);
    settle(&mut app);
    assert_eq!(column(&app), "random");
    open_menu(&mut app);
    app.get_by_label("Search numbers").type_text("nowhere");
    app.run_steps(3);
    app.get_by_label_contains("No score or count of tokens has this in its name.");
    key(&mut app, Modifiers::NONE, Key::Escape);
    app.run_steps(3);
    assert_eq!(column(&app), "random", "Escape chooses nothing");
}

#[test]
fn a_number_with_quantiles_counts_once_it_is_entered() {
    let (_dir, run) = fixture::run(16);
    let mut app = open_budget(&run, "random<=8");
    let field = "Number whose quantiles each keep their share";
    app.get_by_label(field).scroll_to_me();
    app.run_steps(3);
    app.get_by_label(field).focus();
    app.run_steps(2);
    app.get_by_label(field).type_text("answer_tokens");
    app.run_steps(3);
    let question = |app: &Harness<'static, App>| app.state().session().run().unwrap().budget_question().unwrap();
    assert_eq!(question(&app).source.within, None, "nothing is asked while it is typed");
    assert_eq!(app.get_by_label(field).value().as_deref(), Some("answer_tokens"));
    key(&mut app, Modifiers::NONE, Key::Enter);
    settle(&mut app);
    assert_eq!(question(&app).source.within.as_deref(), Some("answer_tokens"));
    assert!(command_line(&app).contains("--within answer_tokens --budget 'random<=8'"), "{}", command_line(&app));
}

#[test]
fn units_and_promises_are_those_of_the_command() {
    let (_dir, run) = fixture::run(16);
    let mut app = open_budget(&run, "random<=8");
    let set = |app: &mut Harness<'static, App>, unit: &str, judged: &str| {
        let export = &mut app.state_mut().session_mut().run_mut().unwrap().export;
        (export.unit, export.judged) = (unit.into(), judged.into());
        settle(app);
    };
    set(&mut app, "shape", "");
    assert!(
        command_line(&app).contains("--keep 50% --budget 'random<=8' --unit shape --out"),
        "{}",
        command_line(&app)
    );
    // The rows have no such field.
    app.get_by_label("No selection keeps the budget.");
    // Scores and token counts may have been judged as well as fields.
    set(&mut app, "", "random");
    assert!(command_line(&app).contains("--budget 'random<=8' --promise 95% --judged random --out"));
    app.get_by_label_contains("cannot be promised with 95%");
    set(&mut app, "", "");
    assert!(app.query_by_label("No selection keeps the budget.").is_none());
}

#[test]
fn what_no_budget_allows_is_not_written() {
    let (_dir, run) = fixture::run(16);
    let writes = |app: &Harness<'static, App>| {
        !app.get_by_role_and_label(Role::Button, "Write 12 samples").accesskit_node().is_disabled()
    };
    let app = open_budget(&run, "random<=8");
    assert!(writes(&app));
    for impossible in ["random<=1", "nothing<=8"] {
        let app = open_budget(&run, impossible);
        app.get_by_label("No selection keeps the budget.");
        assert!(!writes(&app), "{impossible}");
    }
}

#[test]
fn budgets_that_cannot_be_kept_or_do_not_exist_say_so() {
    let (_dir, run) = fixture::run(16);
    let app = open_budget(&run, "nothing<=8");
    app.get_by_label_contains("Samples have no number nothing");
    let app = open_budget(&run, "random>=3");
    app.get_by_label("The budget costs nothing here: its price is 0.");
    let mut app = open_budget(&run, "random<=8");
    app.state_mut().session_mut().run_mut().unwrap().export.dedup = Some(0.9);
    app.run_steps(3);
    app.get_by_label_contains("only scores choose within it");
}
