//! The Playground page: what is typed there.

use crate::fixture::{self, SAE};
use crate::harness::{open, settle};
use egui_kittest::kittest::Queryable;
use sae_core::analysis::labels::Labels;
use sae_gui::state::Link;
use sae_gui::state::location::{Location, Page};
use std::path::Path;

#[test]
fn the_path_of_an_image_may_have_spaces() {
    let (_dir, run) = fixture::run(16);
    let mut app = open(Link { location: Some(Location::Page(Page::Playground)), ..Link::to_run(run.root()) });
    app.get_by_label("Image of the prompt").focus();
    app.run_steps(2);
    // As fingers type it: letter by letter, with a frame after each.
    for letter in "/my own pictures/a.png".chars() {
        app.get_by_label("Image of the prompt").type_text(&letter.to_string());
        app.run_steps(2);
    }
    let image = |app: &egui_kittest::Harness<'_, sae_gui::view::App>| {
        app.state().session().run().unwrap().playground.draft.image.clone()
    };
    assert_eq!(image(&app).as_deref(), Some(Path::new("/my own pictures/a.png")));
    // A link to the page has the image as well.
    app.state_mut().session_mut().run_mut().unwrap().playground.draft.text = "a ring".into();
    let link = app.state().session().run().unwrap().link().to_string();
    assert!(link.ends_with("prompt=a%20ring&image=/my%20own%20pictures/a.png"), "{link}");
    // An image that comes from elsewhere replaces what was typed.
    app.state_mut().session_mut().run_mut().unwrap().playground.draft.image = Some("/other.png".into());
    app.run_steps(2);
    assert_eq!(app.get_by_label("Image of the prompt").value().as_deref(), Some("/other.png"));
}

#[test]
fn a_list_is_steered_and_what_is_steered_becomes_a_list_and_a_link() {
    let (_dir, run) = fixture::run(16);
    fixture::labels(&run);
    let mut app = open(Link { location: Some(Location::Page(Page::Playground)), ..Link::to_run(run.root()) });
    app.get_by_label("Add a list").click();
    app.run_steps(3);
    app.get_by_label("colors (2)").click();
    app.run_steps(3);
    let session = app.state_mut().session_mut().run_mut().unwrap();
    let steered: Vec<u32> = session.playground.draft.steers.iter().map(|steer| steer.feature).collect();
    assert_eq!(steered, [6, 10]);
    session.playground.draft.steers[0].strength = 0.5;
    session.playground.draft.text = "a ring".into();
    let link = session.link();
    assert_eq!(link.steer, [(6, Some(0.5)), (10, None)], "the second one is at its maximum");
    assert!(link.to_string().ends_with("steer=6:0.5&steer=10"), "{link}");
    app.get_by_label("Name of the list of steered features").focus();
    app.run_steps(2);
    app.get_by_label("Name of the list of steered features").type_text("to try");
    app.run_steps(2);
    app.get_by_label("Save as list").click();
    app.run_steps(2);
    settle(&mut app);
    let labels = Labels::read(&run).unwrap();
    assert_eq!(labels.written(SAE).unwrap().lists()["to try"], [6, 10]);
    let app = open(Link::parse(&link.to_string()).unwrap());
    let strength = |at: usize| app.state().session().run().unwrap().playground.draft.steers[at].strength;
    let max = app.state().session().run().unwrap().list.row(10).unwrap().max;
    assert_eq!([strength(0), strength(1)], [0.5, max]);
}
