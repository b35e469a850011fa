//! Prompts that the user enters: the test on the page of a feature, and the Playground.

use crate::fixture;
use crate::harness::{current, key, open, settle};
use egui::{Key, Modifiers};
use egui_kittest::Harness;
use egui_kittest::kittest::{NodeT, Queryable};
use harvest::{ComputeDtype, Playground, Templating};
use sae_core::Run;
use sae_core::device::DeviceChoice;
use sae_core::store::Hook;
use sae_gui::state::Link;
use sae_gui::state::location::{Location, Page};
use sae_gui::state::playground::Steer;
use sae_gui::view::App;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

const TEXT: &str = "a red ring beside a boat";

fn demo_model() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../assets/demo-mllm")
}

/// A run whose activations come from the demo's model.
fn run_with_a_model() -> (TempDir, Run) {
    let (dir, run) = fixture::run(16);
    fixture::of_the_demo_model(&run, &demo_model());
    (dir, run)
}

fn type_into(app: &mut Harness<'static, App>, field: &str, text: &str) {
    app.get_by_label(field).focus();
    app.run_steps(2);
    app.get_by_label(field).type_text(text);
    app.run_steps(2);
}

/// The activation of a feature of the fixture's autoencoder on each token: the sum of every 16th component, if it is positive.
fn activations(text: &str, feature: usize) -> Vec<(String, f32)> {
    let (dtype, template) = (ComputeDtype::default(), Templating::default());
    let playground = Playground::open(&demo_model(), Hook::block(4), DeviceChoice::Cpu, dtype, template).unwrap();
    let prepared = playground.prepare(text, &[]).unwrap();
    let hidden = playground.hidden(&prepared).unwrap();
    let rows = hidden.chunks_exact(256).map(|row| row.iter().skip(feature).step_by(16).sum::<f32>().max(0.0));
    prepared.tokens.iter().map(|token| token.piece.clone()).zip(rows).collect()
}

fn summary(app: &Harness<'static, App>) -> String {
    let sentences = ["of its maximum in the run", "does not fire on this text"];
    let node = sentences.iter().find_map(|text| app.query_all_by_label_contains(text).next());
    node.and_then(|node| node.accesskit_node().value().or(node.accesskit_node().label())).unwrap_or_default()
}

#[test]
fn a_feature_is_tested_on_a_text_that_stays_for_the_next_feature() {
    let (_dir, run) = run_with_a_model();
    let mut app = open(Link { location: Some(Location::Feature(2)), ..Link::to_run(run.root()) });
    type_into(&mut app, "Text to test", TEXT);
    key(&mut app, Modifiers::NONE, Key::Enter);
    settle(&mut app);
    let strongest = |feature| {
        let found = activations(TEXT, feature).into_iter().max_by(|a, b| a.1.total_cmp(&b.1)).unwrap();
        let number = sae_gui::state::format::real(found.1.into());
        if found.1 > 0.0 { format!("{}\": {number}", found.0.trim()) } else { "does not fire".into() }
    };
    assert!(summary(&app).contains(&strongest(2)), "{} has not {}", summary(&app), strongest(2));
    // Every token has its activation below it.
    let fires = activations(TEXT, 2).into_iter().filter(|(_, value)| *value > 0.0).count();
    assert!(fires > 3);
    for (piece, value) in activations(TEXT, 2).into_iter().filter(|(piece, value)| *value > 0.0 && piece.len() > 2) {
        app.get_all_by_label(&format!("{} {}", piece.trim(), sae_gui::state::format::real(value.into())))
            .next()
            .unwrap();
    }
    key(&mut app, Modifiers::NONE, Key::J);
    settle(&mut app);
    let next = current(&app).unwrap();
    assert_ne!(next, 2);
    assert!(summary(&app).contains(&strongest(next as usize)), "feature {next}: {}", summary(&app));
}

#[test]
fn the_test_takes_its_text_and_the_feature_to_the_playground() {
    let (_dir, run) = run_with_a_model();
    let link = Link { location: Some(Location::Feature(2)), prompt: Some(TEXT.into()), ..Link::to_run(run.root()) };
    let mut app = open(link.clone());
    assert!(summary(&app).starts_with("Strongest on"), "a link with a text runs the test");
    assert_eq!(app.state().session().run().unwrap().link().prompt, link.prompt);
    let test = app.get_by_label("Test").rect();
    let steer = app.get_all_by_label("Steer").find(|button| (button.rect().top() - test.top()).abs() < 4.0);
    steer.unwrap().click();
    app.run_steps(3);
    let session = app.state().session().run().unwrap();
    assert_eq!((session.page(), session.playground.draft.text.as_str()), (Page::Playground, TEXT));
    let max = session.list.row(2).unwrap().max;
    assert_eq!(session.playground.draft.steers, [Steer { feature: 2, strength: max }]);
}

#[test]
fn a_test_without_a_model_says_what_is_missing() {
    let (_dir, run) = fixture::run(16);
    let link = Link { location: Some(Location::Feature(2)), prompt: Some(TEXT.into()), ..Link::to_run(run.root()) };
    open(link).get_by_label_contains("does not say where the model is");
}

#[test]
fn a_prompt_is_steered_at_several_strengths_side_by_side() {
    let (_dir, run) = run_with_a_model();
    let link = Link {
        location: Some(Location::Page(Page::Playground)),
        prompt: Some(TEXT.into()),
        steer: vec![(2, None)],
        ..Link::to_run(run.root())
    };
    let mut app = open(link);
    app.get_by_label("steered");
    app.get_by_label("0, 0.5, 1, 2").click();
    app.run_steps(2);
    app.get_by_label("changed since");
    app.get_by_label("Run the model").click();
    app.run_steps(2);
    settle(&mut app);
    let titles = ["original", "steered, 0x", "steered, 0.5x", "steered, 1x", "steered, 2x"];
    let columns = titles.map(|title| app.get_by_label(title).rect());
    assert!(columns.windows(2).all(|pair| pair[0].right() < pair[1].left() && pair[0].top() == pair[1].top()));
    assert_eq!(app.state().session().run().unwrap().link().multiples.as_deref(), Some("0, 0.5, 1, 2"));
    // Twice the strength is what twice the strength alone gives.
    let double = |app: &Harness<'static, App>, title: &str| {
        let column = app.get_by_label(title).rect();
        let texts = app
            .query_all_by(|node| node.role() == egui::Role::Label)
            .filter(|node| (node.rect().left() - column.left()).abs() < 1.0 && node.rect().top() > column.bottom());
        texts.filter_map(|node| node.value()).next()
    };
    let of_several = double(&app, "steered, 2x");
    assert!(of_several.is_some());
    type_into(&mut app, "Multiples of the strengths", "x");
    app.get_by_label_contains("Invalid number");
    let session = app.state_mut().session_mut().run_mut().unwrap();
    session.playground.draft.multiples = "1".into();
    session.playground.draft.steers[0].strength *= 2.0;
    app.run_steps(2);
    app.get_by_label("Run the model").click();
    app.run_steps(2);
    settle(&mut app);
    assert_eq!(double(&app, "steered"), of_several);
}
