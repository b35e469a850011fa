//! Moving about: the history as a list, and the table of features that can be hidden.

use crate::fixture;
use crate::harness::{current, key, open, settle};
use egui::{Key, Modifiers, Role};
use egui_kittest::Harness;
use egui_kittest::kittest::Queryable;
use sae_gui::state::Link;
use sae_gui::state::location::{Location, Page};
use sae_gui::view::App;

fn click(app: &mut Harness<'static, App>, label: &str) {
    app.get_by_role_and_label(Role::Button, label).click();
    app.run_steps(3);
    settle(app);
}

#[test]
fn any_visit_is_chosen_from_the_history() {
    let (_dir, run) = fixture::run(64);
    fixture::labels(&run);
    let mut app = open(Link { location: Some(Location::Feature(6)), ..Link::to_run(run.root()) });
    let go = |app: &mut Harness<'static, App>, location: Location| {
        let session = app.state_mut().session_mut();
        let _ = session.go(location, sae_gui::state::history::VisitKind::Chosen);
        app.run_steps(2);
        settle(app);
    };
    go(&mut app, Location::Sample(3));
    go(&mut app, Location::Page(Page::Filter));
    click(&mut app, "Go");
    click(&mut app, "History");
    app.get_by_role_and_label(Role::Button, "Sample 3");
    click(&mut app, "Feature 6: red rings");
    assert_eq!(current(&app), Some(6));
    assert_eq!(app.state().session().run().unwrap().page(), Page::Features);
    // The later visits are still there, also by a right click on the arrows.
    app.get_by_role_and_label(Role::Button, "Forward").click_secondary();
    app.run_steps(3);
    click(&mut app, "Sample 3");
    assert_eq!(app.state().session().run().unwrap().history.current(), Some(Location::Sample(3)));
    assert!(app.state().session().run().unwrap().history.has_forward());
}

#[test]
fn the_table_is_hidden_and_comes_back_for_a_search() {
    let (_dir, run) = fixture::run(64);
    let mut app = open(Link { location: Some(Location::Feature(6)), ..Link::to_run(run.root()) });
    let left = |app: &Harness<'static, App>| app.get_by_label("Label").rect().left();
    let before = left(&app);
    key(&mut app, Modifiers::COMMAND, Key::B);
    app.run_steps(3);
    assert!(app.query_by_label("Search features").is_none() && app.query_by_label("Map of features").is_none());
    assert!(left(&app) < 0.2 * before, "the feature has the room: {} {before}", left(&app));
    key(&mut app, Modifiers::NONE, Key::J);
    settle(&mut app);
    assert_ne!(current(&app), Some(6), "the table is still walked");
    key(&mut app, Modifiers::COMMAND, Key::F);
    app.run_steps(3);
    assert!(app.get_by_label("Search features").is_focused());
    assert_eq!(left(&app), before);
}
