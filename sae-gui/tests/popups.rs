//! Menus and drop-downs: Escape closes them and nothing else, and the click that closes one does nothing else either.

use crate::fixture;
use crate::harness::{key, listed, open, open_folder, press, search, settle};
use egui::{Key, Modifiers, Role};
use egui_kittest::Harness;
use egui_kittest::kittest::{NodeT, Queryable};
use sae_gui::state::Link;
use sae_gui::state::location::{Location, Page};
use sae_gui::view::App;

#[test]
fn escape_closes_a_menu_and_keeps_the_search() {
    let (_dir, run) = fixture::run(64);
    fixture::labels(&run);
    let mut app = open_folder(run.root());
    search(&mut app, "class:cross");
    key(&mut app, Modifiers::NONE, Key::Enter);
    settle(&mut app);
    let found = listed(&app);
    for (menu, entry) in [("File", "Reload"), ("Lists", "colors (2)"), ("Columns", "Default columns")] {
        app.get_by_role_and_label(Role::Button, menu).click();
        app.run_steps(3);
        assert!(app.query_by_label_contains(entry).is_some(), "{menu} opens");
        key(&mut app, Modifiers::NONE, Key::Escape);
        app.run_steps(3);
        assert!(app.query_by_label_contains(entry).is_none(), "{menu} closes");
        assert_eq!(listed(&app), found, "{menu}");
    }
    key(&mut app, Modifiers::NONE, Key::Escape);
    app.run_steps(2);
    assert_eq!(app.state().session().run().unwrap().list.search_text(), "", "now Escape is about the search");
}

fn open_filter() -> (tempfile::TempDir, Harness<'static, App>) {
    let (dir, run) = fixture::run(16);
    let app = open(Link { location: Some(Location::Page(Page::Filter)), ..Link::to_run(run.root()) });
    (dir, app)
}

#[test]
fn escape_closes_a_drop_down() {
    let (_dir, mut app) = open_filter();
    app.get_by_label("by: cosine_paper").click();
    app.run_steps(3);
    assert!(app.query_by_label("random").is_some());
    key(&mut app, Modifiers::NONE, Key::Escape);
    app.run_steps(3);
    assert!(app.query_by_label("random").is_none());
}

#[test]
fn the_click_that_closes_a_drop_down_opens_nothing() {
    let (_dir, mut app) = open_filter();
    let page = |app: &Harness<'static, App>| app.state().session().run().unwrap().page();
    let is_card = |node: &egui_kittest::Node<'_>| node.accesskit_node().role() == Role::Figure;
    let cards = app.query_all_by_label_contains("sample ").filter(is_card);
    let card = cards.map(|node| node.rect().center()).next().unwrap();
    app.get_by_label("by: cosine_paper").click();
    app.run_steps(3);
    press(&mut app, card);
    assert!(app.query_by_label("random").is_none(), "the drop-down is closed");
    assert_eq!(page(&app), Page::Filter);
    press(&mut app, card);
    assert_eq!(page(&app), Page::Sample);
}
