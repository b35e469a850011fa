//! Two features side by side: of one autoencoder, of two autoencoders of a run, of two runs.

use crate::fixture::{self, SAE};
use crate::harness::{key, open, settle};
use egui::{Event, Key, Modifiers, Rect, Role};
use egui_kittest::Harness;
use egui_kittest::kittest::Queryable;
use sae_core::Run;
use sae_gui::state::Link;
use sae_gui::state::link::Counterpart;
use sae_gui::state::location::{Location, Page};
use sae_gui::view::App;
use std::path::Path;

fn compare(run: &Run, feature: u32, with: &str) -> Link {
    let with = Some(with.parse().unwrap());
    Link { location: Some(Location::Compare(feature)), with, ..Link::to_run(run.root()) }
}

fn columns(app: &Harness<'static, App>, titles: [&str; 2]) -> [Rect; 2] {
    titles.map(|title| app.get_by_role_and_label(Role::Button, title).rect())
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

/// A second autoencoder of the run, with the features of the first.
fn second_autoencoder(run: &Run) {
    copy(&run.sae_dir(SAE), &run.sae_dir("other"));
    copy(&run.features(SAE), &run.features("other"));
}

#[test]
fn two_features_of_one_autoencoder_are_side_by_side() {
    let (_dir, run) = fixture::run(64);
    let app = open(compare(&run, 6, "9"));
    let [left, right] = columns(&app, ["Feature 6", "Feature 9"]);
    assert!(left.top() == right.top() && left.right() < right.left(), "{left:?} {right:?}");
    // The directions of the fixture are axes: 6 and 9 look along different ones, 6 and 10 along the same one.
    app.get_by_label("decoder cosine: 0.000");
    app.get_by_label("co-activation in their strongest samples: 1.00");
    app.get_by_label_contains("Cross-modal: it fires at 12% of the text positions");
    app.get_by_label_contains("Class image: it fires at 0% of the text positions");
    assert!(app.query_all_by_label("green; images of: square").next().is_some(), "the typical words");
    assert_eq!(app.query_all_by_label("Strongest on text and on images").count(), 2);
    assert_eq!(app.query_all_by_label("Strongest features of the sample").count(), 2);
    let link = app.state().session().run().unwrap().link();
    assert_eq!((link.location, link.with), (Some(Location::Compare(6)), Some(Counterpart::new(9))));
    open(compare(&run, 6, "10")).get_by_label("decoder cosine: 1.000");
}

#[test]
fn the_nearest_feature_is_compared_with_unless_another_is_named() {
    let (_dir, run) = fixture::run(64);
    let mut app = open(Link { location: Some(Location::Feature(6)), ..Link::to_run(run.root()) });
    key(&mut app, Modifiers::COMMAND, Key::K);
    app.run_steps(2);
    app.event(Event::Text("compare".into()));
    app.run_steps(3);
    key(&mut app, Modifiers::NONE, Key::Enter);
    settle(&mut app);
    settle(&mut app);
    columns(&app, ["Feature 6", "Feature 8"]);
    assert_eq!(app.state().session().run().unwrap().page(), Page::Compare);
}

#[test]
fn the_menu_of_a_row_compares_it_with_the_feature_that_is_shown() {
    let (_dir, run) = fixture::run(64);
    let mut app = open(Link { location: Some(Location::Feature(6)), ..Link::to_run(run.root()) });
    let row = crate::harness::listed(&app).into_iter().find(|feature| *feature != 6).unwrap();
    app.get_by_role_and_label(Role::Row, &format!("feature {row}")).click_secondary();
    app.run_steps(3);
    app.get_by_label("Compare with feature 6").click();
    app.run_steps(3);
    settle(&mut app);
    columns(&app, [&format!("Feature {row}"), "Feature 6"]);
}

#[test]
fn another_autoencoder_of_the_run_shows_the_same_sample() {
    let (_dir, run) = fixture::run(64);
    second_autoencoder(&run);
    let app = open(Link { sae: Some(SAE.into()), ..compare(&run, 6, "other/2") });
    columns(&app, ["Feature 6", "Feature 2"]);
    app.get_by_label("other");
    // Features 6 and 2 look along the same axis.
    app.get_by_label("decoder cosine: 1.000");
    app.get_by_label("The same sample under both");
    // The heat of each side is that of its own feature.
    app.get_by_label_contains("Showing feature 6");
    app.get_by_label_contains("Showing feature 2");
    assert!(app.query_by_label_contains("co-activation in the run").is_none(), "no index knows of both");
}

#[test]
fn another_run_is_compared_and_its_width_may_differ() {
    let (_dir, run) = fixture::run(64);
    let (_second, other) = fixture::run(16);
    let assets = Path::new(env!("CARGO_MANIFEST_DIR")).join("../assets");
    fixture::of_the_demo_model(&other, &assets.join("demo-mllm"));
    let app = open(compare(&run, 6, &format!("sae://{}/f/1", other.root().display())));
    columns(&app, ["Feature 6", "Feature 1"]);
    // The second autoencoder has another width than the activations of its run, so nothing can be counted.
    app.get_by_label("co-activation in their strongest samples: -");
}

#[test]
fn two_runs_of_the_same_samples_are_compared_on_them() {
    let (_dir, run) = fixture::run(64);
    let (_second, other) = fixture::run(16);
    let link = format!("sae://{}/f/2", other.root().display());
    let mut app = open(compare(&run, 6, &link));
    columns(&app, ["Feature 6", "Feature 2"]);
    // Both look along the same axis of the same activations.
    app.get_by_label("co-activation in their strongest samples: 1.00");
    app.get_by_label("The same sample under both");
    app.get_by_label_contains("Showing feature 6");
    app.get_by_label_contains("Showing feature 2");
    // Without scores, nothing says which samples are the same.
    std::fs::remove_file(other.scores(SAE)).unwrap();
    app = open(compare(&run, 6, &link));
    app.get_by_label_contains("The two runs share no samples to show under both.");
    assert!(app.query_by_label_contains("co-activation in their strongest samples").is_none());
}

#[test]
fn a_run_or_a_feature_that_does_not_exist_is_a_sentence() {
    let (_dir, run) = fixture::run(64);
    let app = open(compare(&run, 6, "sae:///no/such/run/f/3"));
    app.get_by_label_contains("There is no such folder: /no/such/run");
    let mut app = open(compare(&run, 6, "999"));
    app.get_by_label_contains("There is no feature 999");
    let first = app.state().session().run().unwrap().list.step(None, 0).unwrap();
    app.state_mut().session_mut().run_mut().unwrap().compare_with = Some(Counterpart::new(first));
    settle(&mut app);
    assert!(app.query_by_label_contains("There is no feature 999").is_none());
    let app = open(compare(&run, 6, "nothing/3"));
    app.get_by_label_contains("The run has no autoencoder nothing");
}

#[test]
fn the_second_feature_and_the_sample_are_chosen_on_the_page() {
    let (_dir, run) = fixture::run(64);
    let mut app = open(compare(&run, 6, "9"));
    let sample = |app: &Harness<'static, App>| app.state().session().run().unwrap().sample();
    assert_eq!(sample(&app), 0, "the strongest sample of the first feature");
    app.state_mut().session_mut().run_mut().unwrap().show_sample(5);
    app.run_steps(2);
    settle(&mut app);
    app.get_by_label("Second run");
    assert_eq!(sample(&app), 5);
    app.get_by_label("Strongest of 9").click_accesskit();
    app.run_steps(2);
    settle(&mut app);
    assert_eq!(sample(&app), 0);
    app.get_by_label("Second run").focus();
    app.run_steps(2);
    app.get_by_label("Second run").type_text("nothing/3");
    app.run_steps(2);
    key(&mut app, Modifiers::NONE, Key::Enter);
    settle(&mut app);
    app.get_by_label_contains("The run has no autoencoder nothing");
    // What is shown stays when the run is read again.
    let with = app.state().session().run().unwrap().compare_with.clone();
    key(&mut app, Modifiers::NONE, Key::F5);
    settle(&mut app);
    let session = app.state().session().run().unwrap();
    assert_eq!((session.page(), &session.compare_with), (Page::Compare, &with));
}

#[test]
fn a_run_without_an_index_says_what_is_missing_in_place_of_a_comparison() {
    let (_dir, run) = fixture::run(16);
    std::fs::remove_dir_all(run.features(SAE)).unwrap();
    let app = open(Link { location: Some(Location::Page(Page::Compare)), ..Link::to_run(run.root()) });
    app.get_by_label_contains("There is no feature index of base yet");
}
