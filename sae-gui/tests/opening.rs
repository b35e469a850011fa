//! Opening runs that lack something, and failing to open one: what is there can be looked at, and nothing that was open is lost.

use crate::fixture::{self, SAE};
use crate::harness::{SIZE, current, key, listed, open, open_folder, search, settle, wait_for};
use egui::{Event, Key, Modifiers, Role};
use egui_kittest::Harness;
use egui_kittest::kittest::Queryable;
use sae_core::Run;
use sae_gui::state::Link;
use sae_gui::state::location::{Location, Page};
use sae_gui::view::{App, Options};

#[test]
fn a_run_without_an_index_opens_and_offers_to_make_one() {
    let (_dir, run) = fixture::run(16);
    std::fs::remove_dir_all(run.features(SAE)).unwrap();
    let mut app = open_folder(run.root());
    app.get_by_label("No features yet");
    app.get_by_label_contains("There is no feature index of base yet");
    app.get_by_label("Make the feature index").click();
    app.run_steps(3);
    app.get_by_label("Run this command?");
    app.get_by_label_contains("sae index --run");
    key(&mut app, Modifiers::NONE, Key::Escape);
    app.run_steps(3);
    assert!(app.query_by_label("Run this command?").is_none());
    app.get_by_role_and_label(Role::Button, "Samples").click();
    app.run_steps(2);
    settle(&mut app);
    app.get_by_label("24 samples");
    let sample = open(Link { location: Some(Location::Sample(0)), ..Link::to_run(run.root()) });
    sample.get_by_label("Strongest features of the sample");
    let filter = open(Link { location: Some(Location::Page(Page::Filter)), ..Link::to_run(run.root()) });
    filter.get_by_label_contains("12 of 24 samples are kept");
}

#[test]
fn a_first_training_is_watched_while_it_runs() {
    let (_dir, run) = fixture::run(16);
    for folder in [run.features(SAE), run.sae_dir(SAE)] {
        std::fs::remove_dir_all(folder).unwrap();
    }
    std::fs::create_dir_all(run.sae_dir(SAE).join("checkpoint")).unwrap();
    fixture::log(&run);
    let mut app = open_folder(run.root());
    app.get_by_label_contains("The training of base is not finished");
    app.get_by_label("Training and evaluation").click();
    app.run_steps(2);
    settle(&mut app);
    app.get_by_label("Training");
    assert!(app.query_by_label_contains("No training has written a log").is_none());
    let sample = open(Link { location: Some(Location::Sample(3)), ..Link::to_run(run.root()) });
    sample.get_by_label_contains("There are no weights in saes/base yet");
}

#[test]
fn a_run_that_was_only_created_opens() {
    let dir = tempfile::tempdir().unwrap();
    let run = Run::create(&dir.path().join("run")).unwrap();
    for location in [Location::Page(Page::Features), Location::Page(Page::Filter), Location::Page(Page::Run)] {
        open(Link { location: Some(location), ..Link::to_run(run.root()) });
    }
    open_folder(run.root()).get_by_label_contains("This run has no autoencoder yet");
}

#[test]
fn a_path_with_a_typo_is_complained_about_where_it_was_typed() {
    let (_dir, run) = fixture::run(64);
    let mut app = open(Link { location: Some(Location::Feature(10)), ..Link::to_run(run.root()) });
    search(&mut app, "class:cross");
    key(&mut app, Modifiers::NONE, Key::Enter);
    settle(&mut app);
    let (shown, found) = (current(&app), listed(&app));
    key(&mut app, Modifiers::COMMAND, Key::O);
    app.run_steps(2);
    app.event(Event::Text("/nope".into()));
    app.run_steps(2);
    key(&mut app, Modifiers::NONE, Key::Enter);
    settle(&mut app);
    app.get_by_label_contains("There is no such folder: /nope");
    let field = app.get_by_label("Run to open");
    assert_eq!(field.value().as_deref(), Some("/nope"), "the typo can be corrected");
    key(&mut app, Modifiers::NONE, Key::Escape);
    app.run_steps(3);
    if app.query_by_label("Run to open").is_some() {
        key(&mut app, Modifiers::NONE, Key::Escape);
        app.run_steps(3);
    }
    assert!(app.query_by_label("Run to open").is_none());
    assert_eq!((current(&app), listed(&app)), (shown, found));
}

#[test]
fn a_run_is_chosen_among_the_folders() {
    let (dir, run) = fixture::run(16);
    let other = Run::create(&dir.path().join("other")).unwrap();
    let mut app = open_folder(run.root());
    key(&mut app, Modifiers::COMMAND, Key::O);
    // At first those beside the open run.
    wait_for(&mut app, "Open run other");
    app.get_by_label("Open run run");
    app.get_by_label("Folder data").click();
    app.run_steps(2);
    wait_for(&mut app, "Folder images");
    let shown = app.get_by_label("Run to open").value().unwrap_or_default();
    assert_eq!(std::path::Path::new(&shown), dir.path().join("data"));
    app.get_by_label("Folder ..").click();
    app.run_steps(2);
    wait_for(&mut app, "Open run other");
    // What is typed narrows the list.
    app.event(Event::Text("ot".into()));
    app.run_steps(2);
    assert!(app.query_by_label("Folder data").is_none());
    app.get_by_label("Open run other").click();
    app.run_steps(2);
    settle(&mut app);
    assert_eq!(app.state().session().run().unwrap().info.root, other.root());
}

#[test]
fn the_start_page_lists_folders() {
    let (dir, run) = fixture::run(16);
    let mut app = open(Link::to_run(dir.path().join("nowhere")));
    wait_for(&mut app, "Open run run");
    app.get_by_label("Open run run").click();
    app.run_steps(2);
    settle(&mut app);
    assert_eq!(app.state().session().run().unwrap().info.root, run.root());
}

#[test]
fn a_search_for_a_number_shows_it_first_and_enter_opens_it() {
    let (_dir, run) = fixture::run(2000);
    let mut app = open_folder(run.root());
    // Far down in the table.
    for _ in 0..30 {
        key(&mut app, Modifiers::NONE, Key::PageDown);
    }
    settle(&mut app);
    assert!(!listed(&app).contains(&12));
    search(&mut app, "12");
    app.run_steps(3);
    assert_eq!(listed(&app)[0], 12);
    key(&mut app, Modifiers::NONE, Key::Enter);
    settle(&mut app);
    assert_eq!(current(&app), Some(12));
    app.get_by_role_and_label(Role::Label, "Feature 12");
}

#[test]
fn a_data_set_that_is_not_there_and_a_folder_that_is_read_only_are_said_at_once() {
    let (dir, run) = fixture::run(16);
    let data = Some(dir.path().join("nowhere"));
    let options = Options { link: Some(Link::to_run(run.root())), data, ..Options::default() };
    let mut app = Harness::builder().with_size(SIZE).build_eframe(|cc| App::new(&cc.egui_ctx, options).unwrap());
    settle(&mut app);
    app.get_by_label_contains("nowhere: pictures are looked for where the run says.");
    // As a folder of somebody else is opened: before anything is typed.
    app.state_mut().session_mut().run_mut().unwrap().info.read_only = Some("Permission denied".into());
    app.run_steps(2);
    app.get_by_label("Read-only folder: labels cannot be saved (Permission denied)");
}
