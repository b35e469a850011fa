//! Pictures of samples that are copied and saved.

use crate::fixture;
use crate::harness::{key, open, settle};
use egui::{Key, Modifiers, Role};
use egui_kittest::Harness;
use egui_kittest::kittest::Queryable;
use sae_gui::state::Link;
use sae_gui::state::location::{Location, Page};
use sae_gui::view::App;

fn choose(app: &mut Harness<'static, App>, entry: &str) {
    app.get_by_label(entry).click();
    app.run_steps(3);
    settle(app);
}

#[test]
fn the_picture_of_an_example_is_saved_as_a_new_file() {
    let (dir, run) = fixture::run(64);
    let mut app = open(Link { location: Some(Location::Feature(1)), ..Link::to_run(run.root()) });
    let menu = |app: &mut Harness<'static, App>| {
        // Feature 1 is strongest on the picture of sample 0.
        app.query_all_by_label_contains("on image, shape-00").next().unwrap().click_secondary();
        app.run_steps(3);
        choose(app, "Save picture ...");
    };
    menu(&mut app);
    let file = dir.path().join("run-sample-0-1.png");
    assert_eq!(app.get_by_label("File of the picture").value(), Some(file.display().to_string()));
    key(&mut app, Modifiers::NONE, Key::Enter);
    app.run_steps(2);
    settle(&mut app);
    app.get_by_label_contains("Picture saved:");
    let pixels = |path: &std::path::Path| image::open(path).unwrap().into_rgb8().into_raw();
    assert_eq!(pixels(&file), pixels(&dir.path().join("data/images/00.png")));
    // A file that exists is not replaced, and the question stays open.
    std::fs::write(&file, "mine").unwrap();
    menu(&mut app);
    choose(&mut app, "Save");
    app.get_by_label_contains("exists already. Choose another name.");
    assert_eq!(std::fs::read(&file).unwrap(), b"mine");
    key(&mut app, Modifiers::NONE, Key::Escape);
    app.run_steps(3);
    assert!(app.query_by_label("File of the picture").is_none());
}

#[test]
fn the_picture_of_a_sample_is_copied() {
    let (_dir, run) = fixture::run(64);
    let mut app = open(Link { location: Some(Location::Sample(3)), ..Link::to_run(run.root()) });
    app.get_by_role_and_label(Role::Image, "picture 0").click_secondary();
    app.run_steps(3);
    choose(&mut app, "Copy picture");
    app.get_by_label("Picture copied.");
    // One that is gone is a sentence.
    std::fs::remove_dir_all(run.root().join("../data/images")).unwrap();
    app.get_by_role_and_label(Role::Image, "picture 0").click_secondary();
    app.run_steps(3);
    choose(&mut app, "Copy picture");
    app.get_by_label_contains("The picture was not found: images/03.png");
    assert_eq!(app.state().session().run().unwrap().page(), Page::Sample);
}
