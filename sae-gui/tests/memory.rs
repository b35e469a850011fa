//! What the app remembers between two starts.

use crate::fixture;
use crate::harness::{SIZE, settle};
use egui_kittest::Harness;
use egui_kittest::kittest::Queryable;
use sae_gui::state::effect::Theme;
use sae_gui::state::{Command, Link};
use sae_gui::view::{App, Options};
use std::path::Path;

fn start(run: &Path, memory: &Path, theme: Option<Option<Theme>>) -> Harness<'static, App> {
    let link = Some(Link::to_run(run));
    let options = Options { link, memory: Some(memory.into()), theme, ..Options::default() };
    let builder = Harness::builder().with_size(SIZE);
    let mut app = builder.build_eframe(|cc| App::new(&cc.egui_ctx, options).unwrap());
    settle(&mut app);
    app
}

#[test]
fn colors_and_columns_are_as_they_were_left() {
    let (dir, run) = fixture::run(16);
    let memory = dir.path().join("memory");
    let mut app = start(run.root(), &memory, None);
    assert!(app.query_by_label("Sort by ratio").is_none());
    app.state_mut().session_mut().apply(Command::ThemeDark);
    app.state_mut().session_mut().apply(Command::ToggleTable);
    app.run_steps(2);
    assert!(app.query_by_label("Columns").is_none());
    app.state_mut().session_mut().apply(Command::ToggleTable);
    app.run_steps(2);
    app.get_by_label("Columns").click();
    app.run_steps(3);
    app.get_by_label("ratio").click();
    app.run_steps(3);
    app.state_mut().session_mut().apply(Command::ToggleTable);
    eframe::App::on_exit(app.state_mut(), None);
    drop(app);
    let app = start(run.root(), &memory, None);
    assert_eq!(app.state().session().theme, Some(Theme::Dark));
    assert!(app.query_by_label("Sort by ratio").is_none(), "the table is still hidden");
    let mut app = app;
    app.state_mut().session_mut().apply(Command::ToggleTable);
    app.run_steps(2);
    app.get_by_label("Sort by ratio");
    // The command line wins.
    let app = start(run.root(), &memory, Some(None));
    assert_eq!(app.state().session().theme, None);
}
