//! The Playground page: what is typed there.

use crate::fixture;
use crate::harness::open;
use egui_kittest::kittest::Queryable;
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
