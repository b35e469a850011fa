//! The Contrast page: what differs, all tests, one feature in every group; damaged tables and other autoencoders.

use crate::fixture::{self, SAE};
use crate::harness::{current, key, listed, open, press, settle};
use egui::{Event, Key, Modifiers, Role};
use egui_kittest::Harness;
use egui_kittest::kittest::Queryable;
use sae_core::{Run, file};
use sae_gui::state::Link;
use sae_gui::state::location::{Location, Page};
use sae_gui::view::App;

fn page(run: &Run, name: Option<&str>) -> Link {
    let location = Some(Location::Page(Page::Contrast));
    Link { location, name: name.map(str::to_owned), ..Link::to_run(run.root()) }
}

fn link_of(app: &Harness<'static, App>) -> Link {
    app.state().session().run().unwrap().link()
}

#[test]
fn a_contrast_shows_what_was_found_beside_chance_and_baselines() {
    let (_dir, run) = fixture::run(64);
    fixture::contrast(&run, "shape");
    let app = open(page(&run, None));
    app.get_by_label("2 of 3 features differ; with shuffled values: 0.5 on average (2 shuffles)");
    app.get_by_label("24 samples in 24 clusters and 2 strata; 0 left out");
    app.get_by_label("Length explains 97% of ring, so the two cannot be told apart.");
    app.get_by_label("ring, AUC");
    app.get_by_label("0.910");
    app.get_by_label("0.620");
    app.get_by_label("Volcano plot of ring: 3 tests, 2 differ");
    assert_eq!(listed(&app), [6, 9], "those that differ, by |z|");
    app.get_by_label("+0.3500 to +0.4500");
    app.get_by_label("Feature 6 in 2 groups");
    assert_eq!(link_of(&app).name.as_deref(), Some("shape"));
}

#[test]
fn a_row_shows_its_feature_in_groups_and_its_number_opens_the_feature() {
    let (_dir, run) = fixture::run(64);
    fixture::contrast(&run, "shape");
    let mut app = open(page(&run, Some("shape")));
    let row = app.get_by_label("-0.2000").rect().center();
    press(&mut app, row);
    app.get_by_label("Feature 9 in 2 groups");
    app.get_by_role_and_label(Role::Button, "9").click_accesskit();
    app.run_steps(2);
    settle(&mut app);
    assert_eq!((app.state().session().run().unwrap().page(), current(&app)), (Page::Features, Some(9)));
}

#[test]
fn a_point_of_the_volcano_plot_names_its_feature_and_opens_it() {
    let (_dir, run) = fixture::run(64);
    fixture::contrast(&run, "shape");
    let mut app = open(page(&run, Some("shape")));
    // The largest effect with the smallest p-value is in the upper right corner.
    let corner = app.get_by_label("Volcano plot of ring: 3 tests, 2 differ").rect().right_top();
    let point = corner + egui::vec2(-5.0, 5.0);
    app.event(Event::PointerMoved(point));
    app.run_steps(3);
    assert_eq!(app.state().session().run().unwrap().hover.feature(), Some(6));
    press(&mut app, point);
    settle(&mut app);
    assert_eq!((app.state().session().run().unwrap().page(), current(&app)), (Page::Features, Some(6)));
}

#[test]
fn the_palette_and_links_lead_to_the_page() {
    let (_dir, run) = fixture::run(64);
    fixture::contrast(&run, "shape");
    fixture::contrast(&run, "year");
    let mut app = open(Link::to_run(run.root()));
    key(&mut app, Modifiers::COMMAND, Key::K);
    app.run_steps(2);
    app.event(Event::Text("contrast".into()));
    app.run_steps(3);
    key(&mut app, Modifiers::NONE, Key::Enter);
    settle(&mut app);
    assert_eq!(link_of(&app).name.as_deref(), Some("shape"), "the first one");
    let link = format!("sae://{}/?page=contrast&name=year", run.root().display());
    let mut app = open(Link::parse(&link).unwrap());
    app.get_by_label("Feature 6 in 2 groups");
    assert_eq!(link_of(&app).to_string(), link);
    key(&mut app, Modifiers::NONE, Key::F5);
    settle(&mut app);
    assert_eq!(link_of(&app).to_string(), link, "reading again keeps what is shown");
}

#[test]
fn a_run_without_contrasts_says_which_command_makes_one() {
    let (_dir, run) = fixture::run(16);
    let app = open(page(&run, None));
    app.get_by_label("No contrasts yet");
    app.get_by_label_contains("sae contrast --run");
    fixture::contrast(&run, "shape");
    let app = open(page(&run, Some("other")));
    app.get_by_label_contains("The run has no contrast \"other\"");
}

#[test]
fn damaged_and_missing_tables_are_sentences_in_place_of_what_they_hold() {
    let (_dir, run) = fixture::run(64);
    fixture::contrast(&run, "shape");
    let folder = run.root().join("contrasts/shape");
    std::fs::remove_file(folder.join("shuffled.parquet")).unwrap();
    fixture::truncate(&folder.join("groups.parquet"));
    let app = open(page(&run, None));
    app.get_by_label_contains("shuffled.parquet");
    app.get_by_label_contains("groups.parquet");
    assert_eq!(listed(&app), [6, 9], "the rest is shown");
    fixture::truncate(&folder.join("features.parquet"));
    let app = open(page(&run, None));
    app.get_by_label_contains("features.parquet");
    app.get_by_label_contains("2 of 3 features differ");
    file::write_bytes(&folder.join("contrast.json"), b"{").unwrap();
    open(page(&run, None)).get_by_label_contains("contrast.json");
}

#[test]
fn a_contrast_of_another_autoencoder_is_not_shown_with_these_features() {
    let (_dir, run) = fixture::run(64);
    fixture::contrast(&run, "shape");
    let path = run.root().join("contrasts/shape/contrast.json");
    let text = std::fs::read_to_string(&path).unwrap().replace(&format!("\"{SAE}\""), "\"other\"");
    file::write_bytes(&path, text.as_bytes()).unwrap();
    let app = open(page(&run, None));
    app.get_by_label_contains("This contrast is about features of other");
    assert!(listed(&app).is_empty());
}
