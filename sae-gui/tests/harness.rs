//! The app without a window, driven by events; what is on it is found through the accessibility tree.

use crate::fixture::SAE;
use egui::{Event, Key, Modifiers, Role};
use egui_kittest::kittest::{NodeT, Queryable};
use egui_kittest::{Harness, HarnessBuilder};
use sae_core::Run;
use sae_core::analysis::labels::Labels;
use sae_gui::state::Link;
use sae_gui::view::{App, Options, Outcome};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

/// Width and height of the usual window.
pub const SIZE: [f32; 2] = [1360.0, 860.0];

/// Opens a link in a window of the usual size, and lets everything be read.
pub fn open(link: Link) -> Harness<'static, App> {
    open_in(Harness::builder().with_size(SIZE), link)
}

/// The same with another harness.
pub fn open_in(builder: HarnessBuilder<App>, link: Link) -> Harness<'static, App> {
    let options = Options { link: Some(link), ..Options::default() };
    let mut app = builder.build_eframe(|cc| App::new(&cc.egui_ctx, options).unwrap());
    settle(&mut app);
    app
}

/// Opens a link in an app with a folder for what it remembers; `stop` ends it as a signal would.
pub fn start(link: Link, memory: &Path, stop: &Arc<AtomicBool>, outcome: &Outcome) -> Harness<'static, App> {
    let options = Options {
        link: Some(link),
        memory: Some(memory.into()),
        stop: stop.clone(),
        outcome: outcome.clone(),
        ..Options::default()
    };
    let mut app = Harness::builder().with_size(SIZE).build_eframe(|cc| App::new(&cc.egui_ctx, options).unwrap());
    settle(&mut app);
    app
}

/// Opens a run folder.
pub fn open_folder(run: &Path) -> Harness<'static, App> {
    open(Link { run: run.into(), ..Link::default() })
}

/// Lets frames pass until the worker has read what is to be shown.
pub fn settle(app: &mut Harness<'static, App>) {
    let begun = Instant::now();
    app.run_steps(2);
    while !app.state().is_settled() {
        assert!(begun.elapsed() < Duration::from_secs(60), "the worker does not answer");
        std::thread::sleep(Duration::from_millis(5));
        app.step();
    }
    app.run_steps(3);
}

pub fn search(app: &mut Harness<'static, App>, text: &str) {
    app.get_by_label("Search features").focus();
    app.run_steps(2);
    app.get_by_label("Search features").type_text(text);
    app.run_steps(2);
}

pub fn current(app: &Harness<'static, App>) -> Option<u32> {
    app.state().session().run().and_then(|run| Some(run.feature()?.feature))
}

/// Features whose rows are on the screen, from top to bottom.
pub fn listed(app: &Harness<'static, App>) -> Vec<u32> {
    let mut rows: Vec<(f32, u32)> = app
        .query_all_by_role(Role::Row)
        .filter_map(|row| {
            let label = row.accesskit_node().label()?;
            Some((row.rect().top(), label.strip_prefix("feature ")?.parse().ok()?))
        })
        .collect();
    rows.sort_by(|a, b| a.0.total_cmp(&b.0));
    rows.into_iter().map(|(_, feature)| feature).collect()
}

pub fn key(app: &mut Harness<'static, App>, modifiers: Modifiers, key: Key) {
    app.key_press_modifiers(modifiers, key);
    app.run_steps(2);
}

pub fn button(pressed: bool, pos: egui::Pos2) -> Event {
    Event::PointerButton { pos, button: egui::PointerButton::Primary, pressed, modifiers: Modifiers::NONE }
}

/// A click with the pointer.
pub fn press(app: &mut Harness<'static, App>, pos: egui::Pos2) {
    for pressed in [true, false] {
        app.event(Event::PointerMoved(pos));
        app.event(button(pressed, pos));
        app.run_steps(2);
    }
}

/// Takes the pointer out of the window.
pub fn leave(app: &mut Harness<'static, App>) {
    app.event(Event::PointerGone);
    app.run_steps(3);
}

pub fn label_on_disk(run: &Run, feature: u32) -> Option<String> {
    let labels = Labels::read(run).unwrap();
    labels.written(SAE)?.entry(feature).map(|entry| entry.label.clone())
}

pub fn write_label(app: &mut Harness<'static, App>, text: &str) {
    app.get_by_label("Label").focus();
    app.run_steps(2);
    app.get_by_label("Label").type_text(text);
    app.run_steps(2);
    key(app, Modifiers::NONE, Key::Enter);
    settle(app);
}

/// Lets frames pass until the window shows a text.
pub fn wait_for(app: &mut Harness<'static, App>, text: &str) {
    let begun = Instant::now();
    while app.query_by_label_contains(text).is_none() {
        assert!(begun.elapsed() < Duration::from_secs(60), "the window never shows {text:?}");
        std::thread::sleep(Duration::from_millis(5));
        app.step();
    }
}

/// Opens a path or an address in the same window.
pub fn open_another(app: &mut Harness<'static, App>, text: &str) {
    key(app, Modifiers::COMMAND, Key::O);
    app.run_steps(2);
    app.event(Event::Text(text.into()));
    app.run_steps(2);
    key(app, Modifiers::NONE, Key::Enter);
    settle(app);
}

/// Draws around the right half of the map of features.
pub fn draw_around_right_half(app: &mut Harness<'static, App>) {
    let map = app.get_by_label("Map of features").rect();
    let corner = |x: f32, y: f32| map.min + egui::vec2(x * map.width(), y * map.height());
    let path = [(0.55, 0.02), (0.98, 0.02), (0.98, 0.85), (0.55, 0.85), (0.55, 0.1)].map(|(x, y)| corner(x, y));
    app.event(Event::PointerMoved(path[0]));
    app.event(button(true, path[0]));
    app.run_steps(1);
    for pos in path {
        app.event(Event::PointerMoved(pos));
        app.run_steps(1);
    }
    app.event(button(false, path[4]));
    app.run_steps(3);
}
