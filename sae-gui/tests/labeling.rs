//! Writing labels by keyboard: what each key does in a field and beside it, and that no label is lost or mixed up.

use crate::fixture::{self, SAE};
use crate::harness::{
    SIZE, current, key, label_on_disk, listed, open, open_another, press, search, settle, start, wait_for, write_label,
};
use egui::{Event, Key, Modifiers, ViewportCommand, ViewportEvent, ViewportId};
use egui_kittest::Harness;
use egui_kittest::kittest::Queryable;
use sae_core::Run;
use sae_core::analysis::labels::Labels;
use sae_gui::state::Link;
use sae_gui::state::location::Location;
use sae_gui::view::{App, Options, Outcome};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

fn open_feature(run: &Run, feature: u32) -> Harness<'static, App> {
    open(Link { location: Some(Location::Feature(feature)), ..Link::to_run(run.root()) })
}

/// What the field of the label shows.
fn label_shown(app: &Harness<'static, App>) -> String {
    app.get_by_label("Label").value().unwrap_or_default()
}

/// E, then a text, then a pause that is long enough for the field's own undo.
fn type_label(app: &mut Harness<'static, App>, text: &str) {
    app.event(Event::Text("e".into()));
    key(app, Modifiers::NONE, Key::E);
    app.event(Event::Text(text.into()));
    app.run_steps(12);
}

#[test]
fn undo_in_the_label_field_never_shows_the_label_of_another_feature() {
    let (_dir, run) = fixture::run(64);
    let mut app = open_feature(&run, 6);
    type_label(&mut app, "alpha label");
    assert_eq!(label_shown(&app), "alpha label");
    key(&mut app, Modifiers::NONE, Key::Enter);
    settle(&mut app);
    key(&mut app, Modifiers::NONE, Key::J);
    settle(&mut app);
    let next = current(&app).unwrap();
    assert_ne!(next, 6);
    type_label(&mut app, "beta");
    for _ in 0..4 {
        key(&mut app, Modifiers::COMMAND, Key::Z);
        assert!(!label_shown(&app).contains("alpha"), "{}", label_shown(&app));
    }
    key(&mut app, Modifiers::NONE, Key::Enter);
    settle(&mut app);
    assert_eq!(label_on_disk(&run, 6).as_deref(), Some("alpha label"));
    assert!(label_on_disk(&run, next).is_none_or(|label| label.is_empty() || label == "beta"));
}

#[test]
fn escape_in_the_label_field_restores_the_label_and_keeps_the_search() {
    let (_dir, run) = fixture::run(64);
    let mut app = open_feature(&run, 6);
    write_label(&mut app, "red ring");
    search(&mut app, "class:cross");
    let found = listed(&app);
    key(&mut app, Modifiers::NONE, Key::Escape);
    assert_eq!(listed(&app), found, "Escape leaves the field of the search first");
    type_label(&mut app, " half typed");
    assert_eq!(label_shown(&app), "red ring half typed");
    key(&mut app, Modifiers::NONE, Key::Escape);
    app.run_steps(4);
    settle(&mut app);
    assert_eq!(label_shown(&app), "red ring");
    assert_eq!(label_on_disk(&run, 6).as_deref(), Some("red ring"));
    let list = &app.state().session().run().unwrap().list;
    assert_eq!((list.search_text(), listed(&app)), ("class:cross", found));
}

#[test]
fn the_label_stays_in_view_while_the_examples_are_read() {
    let (_dir, run) = fixture::run(64);
    let mut app = open_feature(&run, 6);
    let before = app.get_by_label("Label").rect();
    let class = app.get_by_label("Class").rect();
    app.event(Event::PointerMoved(egui::pos2(1000.0, 600.0)));
    for _ in 0..5 {
        let delta = egui::vec2(0.0, -400.0);
        let (unit, phase) = (egui::MouseWheelUnit::Point, egui::TouchPhase::Move);
        let source = egui::MouseWheelSource::Unknown;
        app.event(Event::MouseWheel { unit, delta, phase, modifiers: Modifiers::NONE, source });
        app.run_steps(3);
    }
    let scrolled = app.query_by_label("Class").is_none_or(|title| title.rect().top() < class.top() - 300.0);
    assert!(scrolled, "the page has scrolled");
    key(&mut app, Modifiers::NONE, Key::E);
    assert_eq!(app.get_by_label("Label").rect(), before);
    assert!(app.get_by_label("Label").is_focused() && before.bottom() < 200.0);
}

#[test]
fn ctrl_shift_z_redoes() {
    let (_dir, run) = fixture::run(64);
    let mut app = open_feature(&run, 6);
    write_label(&mut app, "one");
    key(&mut app, Modifiers::NONE, Key::J);
    let next = current(&app).unwrap();
    write_label(&mut app, "two");
    key(&mut app, Modifiers::COMMAND, Key::Z);
    settle(&mut app);
    assert_eq!(label_on_disk(&run, next), None);
    key(&mut app, Modifiers::COMMAND | Modifiers::SHIFT, Key::Z);
    settle(&mut app);
    assert_eq!([6, next].map(|k| label_on_disk(&run, k)), [Some("one".into()), Some("two".into())]);
}

/// Makes the labels impossible to save, as a full disk would: a folder is in the way. Returns what puts that right.
fn block_saving(run: &Run) -> impl FnOnce() + use<> {
    let path = run.labels();
    let kept = std::fs::read(&path).ok();
    if path.is_file() {
        std::fs::remove_file(&path).unwrap();
    }
    std::fs::create_dir_all(path.join("in the way")).unwrap();
    move || {
        std::fs::remove_dir_all(&path).unwrap();
        kept.into_iter().for_each(|bytes| std::fs::write(&path, bytes).unwrap());
    }
}

#[test]
fn labels_that_cannot_be_saved_are_tried_again_by_themselves() {
    let (_dir, run) = fixture::run(16);
    let mut app = open_feature(&run, 2);
    write_label(&mut app, "before");
    let unblock = block_saving(&run);
    key(&mut app, Modifiers::NONE, Key::J);
    let next = current(&app).unwrap();
    write_label(&mut app, "during");
    app.get_by_label_contains("1 edit is not saved");
    unblock();
    // A frame counts as a quarter of a second.
    for _ in 0..100 {
        std::thread::sleep(std::time::Duration::from_millis(5));
        app.step();
    }
    assert!(app.query_by_label_contains("not saved").is_none());
    assert_eq!([2, next].map(|k| label_on_disk(&run, k)), [Some("before".into()), Some("during".into())]);
}

fn viewport_commands(app: &Harness<'static, App>) -> Vec<ViewportCommand> {
    app.output().viewport_output.values().flat_map(|output| output.commands.clone()).collect()
}

#[test]
fn labels_of_a_closed_run_that_cannot_be_saved_are_counted_and_saved_once_they_can_be() {
    let [(_dir, run), (_other_dir, other)] = [fixture::run(16), fixture::run(16)];
    let mut app = open_feature(&run, 2);
    let unblock = block_saving(&run);
    write_label(&mut app, "precious");
    open_another(&mut app, &other.root().display().to_string());
    app.get_by_label_contains("1 edit is not saved");
    key(&mut app, Modifiers::COMMAND, Key::Q);
    wait_for(&mut app, "Quit without saving");
    app.get_by_label("Cancel").click();
    app.run_steps(4);
    unblock();
    for _ in 0..100 {
        std::thread::sleep(std::time::Duration::from_millis(5));
        app.step();
    }
    assert!(app.query_by_label_contains("not saved").is_none());
    assert_eq!([&run, &other].map(|run| label_on_disk(run, 2)), [Some("precious".into()), None]);
}

#[test]
fn a_signal_closes_the_window_and_keeps_a_half_typed_label() {
    let (_dir, run) = fixture::run(16);
    let stop = Arc::new(AtomicBool::new(false));
    let link = Some(Link { location: Some(Location::Feature(2)), ..Link::to_run(run.root()) });
    let options = Options { link, stop: stop.clone(), ..Options::default() };
    let builder = Harness::builder().with_size(SIZE);
    let mut app = builder.build_eframe(|cc| App::new(&cc.egui_ctx, options).unwrap());
    settle(&mut app);
    type_label(&mut app, "half a lab");
    stop.store(true, Ordering::SeqCst);
    app.step();
    assert!(viewport_commands(&app).contains(&ViewportCommand::Close));
    eframe::App::on_exit(app.state_mut(), None);
    drop(app);
    assert_eq!(label_on_disk(&run, 2).as_deref(), Some("half a lab"));
}

#[test]
fn a_window_with_labels_that_cannot_be_saved_asks_before_it_closes() {
    let (dir, run) = fixture::run(16);
    let mut app = open_feature(&run, 2);
    let _unblock = block_saving(&run);
    write_label(&mut app, "precious");
    // The window manager asks the window to close.
    let viewport = app.input_mut().viewports.entry(ViewportId::ROOT).or_default();
    viewport.events.push(ViewportEvent::Close);
    app.step();
    assert!(viewport_commands(&app).contains(&ViewportCommand::CancelClose));
    wait_for(&mut app, "Quit without saving");
    app.get_by_label("Cancel").click();
    app.run_steps(4);
    assert!(app.query_by_label("Quit without saving").is_none());
    // The same by the keyboard; then the labels are saved elsewhere.
    key(&mut app, Modifiers::COMMAND, Key::Q);
    wait_for(&mut app, "Quit without saving");
    let elsewhere = dir.path().join("labels elsewhere.json");
    app.get_by_label("File for the labels").focus();
    app.run_steps(2);
    app.get_by_label("File for the labels").type_text(&elsewhere.display().to_string());
    app.run_steps(2);
    let button = app.get_by_label("Save there").rect().center();
    press(&mut app, button);
    let written: Labels = serde_json::from_slice(&std::fs::read(&elsewhere).unwrap()).unwrap();
    assert_eq!(written.written(SAE).unwrap().entry(2).unwrap().label, "precious");
}

#[test]
fn labels_that_cannot_be_saved_when_the_program_is_ended_are_there_the_next_time() {
    let (dir, run) = fixture::run(64);
    let memory = dir.path().join("memory");
    // Nobody can take this lock.
    let lock = run.root().join(".labels.lock");
    std::fs::create_dir(&lock).unwrap();
    let (stop, outcome) = (Arc::new(AtomicBool::new(false)), Outcome::default());
    let link = || Link { location: Some(Location::Feature(6)), ..Link::to_run(run.root()) };
    let mut app = start(link(), &memory, &stop, &outcome);
    write_label(&mut app, "red rings");
    app.get_by_label("Label").focus();
    app.run_steps(2);
    app.get_by_label("Label").type_text(", half typed");
    app.run_steps(2);
    stop.store(true, Ordering::SeqCst);
    app.step();
    eframe::App::on_exit(app.state_mut(), None);
    let told = outcome.lock().unwrap().take().unwrap().unwrap_err();
    assert!(told.contains("could not be saved") && told.contains("unsaved-"), "{told}");
    drop(app);

    std::fs::remove_dir(&lock).unwrap();
    let (stop, outcome) = Default::default();
    let app = start(link(), &memory, &stop, &outcome);
    app.get_by_label_contains("2 edits that could not be saved the last time: made again.");
    assert_eq!(label_on_disk(&run, 6).as_deref(), Some("red rings, half typed"));
    drop(app);
    let kept = std::fs::read_dir(&memory)
        .unwrap()
        .flatten()
        .filter(|file| file.file_name().to_string_lossy().starts_with("unsaved-"));
    assert_eq!(kept.count(), 0, "the file is gone once its edits are saved");
}
