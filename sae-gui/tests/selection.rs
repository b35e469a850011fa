//! Several rows of the table at once: selecting them, the menu of the right mouse button, and what they are called in links.

use crate::fixture::{self, SAE};
use crate::harness::{current, key, listed, open, open_folder, search, settle};
use egui::{Key, Modifiers, Role};
use egui_kittest::Harness;
use egui_kittest::kittest::Queryable;
use sae_core::analysis::labels::Labels;
use sae_gui::state::Link;
use sae_gui::state::location::Location;
use sae_gui::view::App;

fn choose_in_menu(app: &mut Harness<'static, App>, feature: u32, entry: &str) {
    app.get_by_role_and_label(Role::Row, &format!("feature {feature}")).click_secondary();
    app.run_steps(3);
    app.get_by_label(entry).click();
    app.run_steps(3);
    settle(app);
}

#[test]
fn several_rows_are_selected_starred_and_shown_alone() {
    let (_dir, run) = fixture::run(64);
    let mut app = open_folder(run.root());
    let rows = listed(&app);
    assert_eq!(current(&app), Some(rows[0]));
    for row in [rows[2], rows[4]] {
        app.get_by_role_and_label(Role::Row, &format!("feature {row}")).click_modifiers(Modifiers::COMMAND);
        app.run_steps(2);
    }
    let mut expected = vec![rows[0], rows[2], rows[4]];
    expected.sort_unstable();
    let selected = |app: &Harness<'static, App>| {
        app.state().session().run().unwrap().list.selected().iter().copied().collect::<Vec<_>>()
    };
    assert_eq!(selected(&app), expected);
    choose_in_menu(&mut app, rows[2], "Star 3 features");
    let labels = Labels::read(&run).unwrap();
    let starred = |feature: u32| labels.written(SAE).unwrap().entry(feature).is_some_and(|entry| entry.star);
    assert!(expected.iter().all(|feature| starred(*feature)) && !starred(rows[1]));
    choose_in_menu(&mut app, rows[4], "Show only these");
    let mut shown = listed(&app);
    shown.sort_unstable();
    assert_eq!(shown, expected);
    key(&mut app, Modifiers::NONE, Key::Escape);
    assert_eq!(listed(&app), rows);
    // The menu of a row that is not selected is about that row alone.
    choose_in_menu(&mut app, rows[1], "Star feature");
    assert!(Labels::read(&run).unwrap().written(SAE).unwrap().entry(rows[1]).unwrap().star);
}

#[test]
fn a_range_is_selected_with_shift() {
    let (_dir, run) = fixture::run(64);
    let mut app = open_folder(run.root());
    let rows = listed(&app);
    app.get_by_role_and_label(Role::Row, &format!("feature {}", rows[3])).click_modifiers(Modifiers::SHIFT);
    app.run_steps(2);
    let mut expected = rows[..4].to_vec();
    expected.sort_unstable();
    let list = &app.state().session().run().unwrap().list;
    assert_eq!(list.selected().iter().copied().collect::<Vec<_>>(), expected);
}

#[test]
fn a_link_in_the_search_field_opens_and_a_link_holds_the_search() {
    let (_dir, run) = fixture::run(64);
    let mut app = open_folder(run.root());
    let link = Link {
        location: Some(Location::Feature(10)),
        search: Some("class:cross weight>0.2".into()),
        ..Link::to_run(run.root())
    };
    search(&mut app, &link.to_string());
    app.get_by_label("Press Enter to open this link.");
    key(&mut app, Modifiers::NONE, Key::Enter);
    settle(&mut app);
    assert_eq!(current(&app), Some(10));
    let run_state = app.state().session().run().unwrap();
    assert_eq!((run_state.list.search_text(), run_state.link()), ("class:cross weight>0.2", link.clone()));
    assert_eq!(listed(&open(link)), listed(&app));
}
