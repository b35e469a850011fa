//! What a person sees and does, through the accessibility tree: no pixels, no display.

use crate::fixture::{self, SAE};
use crate::harness::{
    current, draw_around_right_half, key, label_on_disk, leave, listed, open, open_folder, press, search, settle,
    write_label,
};
use egui::{Event, Key, Modifiers, Role};
use egui_kittest::Harness;
use egui_kittest::kittest::{NodeT, Queryable};
use sae_core::analysis::index::FeatureRow;
use sae_core::analysis::labels::Labels;
use sae_gui::state::Link;
use sae_gui::state::job::JobState;
use sae_gui::state::location::{Location, Page};
use sae_gui::state::map::MapKind;
use sae_gui::view::App;
use std::path::Path;
use std::time::{Duration, Instant};

#[test]
fn a_run_is_listed_searched_sorted_and_its_features_open() {
    let (_dir, run) = fixture::run(64);
    let mut app = open_folder(run.root());
    app.get_by_label("64 features");
    let by_weight = listed(&app);
    assert!(by_weight.len() > 20 && by_weight[0] % 4 == 2, "cross-modal features on top: {by_weight:?}");

    search(&mut app, "class:image density<2%");
    let found = listed(&app);
    app.get_by_label(&format!("{} of 64 features", found.len()));
    assert!(!found.is_empty() && found.len() < 16 && found.iter().all(|feature| feature % 4 == 1), "{found:?}");

    app.get_by_role_and_label(Role::Button, "Sort by feature").click();
    app.run_steps(2);
    let ascending = listed(&app);
    assert!(ascending.is_sorted() && ascending.len() == found.len(), "{ascending:?}");
    app.get_by_role_and_label(Role::Button, "Sort by feature").click();
    app.run_steps(2);
    assert_eq!(listed(&app), ascending.into_iter().rev().collect::<Vec<_>>());

    let wanted = listed(&app)[1];
    app.get_by_label(&format!("feature {wanted}")).click();
    app.run_steps(2);
    settle(&mut app);
    app.get_by_label(&format!("Feature {wanted}"));
    app.get_by_label("Strongest on text and on images");
    let examples =
        app.query_all_by_label_contains("sample ").filter(|node| node.accesskit_node().role() == Role::Figure);
    assert!(examples.count() >= 10);
}

#[test]
fn keys_walk_the_table_and_lead_back() {
    let (_dir, run) = fixture::run(64);
    let mut app = open(Link {
        run: run.root().into(),
        sae: Some(SAE.into()),
        location: Some(Location::Feature(8)),
        ..Link::default()
    });
    assert_eq!(current(&app), Some(8));
    app.key_press(Key::J);
    app.run_steps(2);
    let next = current(&app);
    assert_ne!(next, Some(8));
    app.key_press(Key::ArrowUp);
    app.run_steps(2);
    assert_eq!(current(&app), Some(8));
    app.key_press_modifiers(Modifiers::COMMAND, Key::L);
    app.run_steps(2);
    app.get_by_label("Link copied.");
    let link = Link { run: run.root().into(), sae: None, location: Some(Location::Feature(8)), ..Link::default() };
    assert_eq!(app.state().session().run().unwrap().link(), link);

    settle(&mut app);
    app.get_by_role_and_label(Role::Button, "10 0.88").scroll_to_me();
    app.run_steps(4);
    app.get_by_role_and_label(Role::Button, "10 0.88").click();
    app.run_steps(2);
    assert_eq!(current(&app), Some(10));
    app.key_press_modifiers(Modifiers::ALT, Key::ArrowLeft);
    app.run_steps(2);
    assert_eq!(current(&app), Some(8));
}

#[test]
fn keys_are_text_while_the_search_is_typed_and_slash_leads_to_it() {
    let (_dir, run) = fixture::run(64);
    let mut app = open_folder(run.root());
    let before = current(&app);
    app.event(Event::Text("/".into()));
    app.key_press(Key::Slash);
    app.run_steps(2);
    assert!(app.get_by_label("Search features").is_focused());
    app.event(Event::Text("j".into()));
    app.key_press(Key::J);
    app.run_steps(2);
    assert_eq!(current(&app), before);
    assert_eq!(app.state().session().run().unwrap().list.search_text(), "j");
    app.get_by_label("0 of 64 features");
    app.key_press(Key::Escape);
    app.run_steps(2);
    app.key_press(Key::Escape);
    app.run_steps(2);
    assert_eq!(app.state().session().run().unwrap().list.search_text(), "");
}

#[test]
fn a_question_mark_shows_the_shortcuts_and_escape_hides_them() {
    let (_dir, run) = fixture::run(16);
    let mut app = open_folder(run.root());
    app.key_press(Key::Questionmark);
    app.run_steps(3);
    app.get_by_label("Keyboard shortcuts");
    app.get_by_label("Alt+Left");
    app.key_press(Key::Escape);
    app.run_steps(3);
    assert!(app.query_by_label("Keyboard shortcuts").is_none());
}

#[test]
fn what_cannot_be_opened_is_a_sentence_in_the_window() {
    let dir = tempfile::tempdir().unwrap();
    open_folder(dir.path()).get_by_label_contains("not a run folder");
    open_folder(&dir.path().join("nowhere")).get_by_label_contains("There is no such folder");

    let (_dir, run) = fixture::run(16);
    let named = |sae: &str| open(Link { run: run.root().into(), sae: Some(sae.into()), ..Link::default() });
    named("other").get_by_label_contains("no autoencoder other");
    named("../..").get_by_label_contains("Invalid name");
    let folder = run.features(SAE);
    std::fs::remove_file(folder.join("examples.parquet")).unwrap();
    let app = open_folder(run.root());
    app.get_by_label("16 features");
    app.get_by_label_contains("The index has no examples.");
    fixture::truncate(&folder.join("neighbours.parquet"));
    open_folder(run.root()).get_by_label_contains("neighbours.parquet");
    fixture::truncate(&folder.join("features.parquet"));
    open_folder(run.root()).get_by_label_contains("features.parquet");
    std::fs::remove_file(folder.join("features.parquet")).unwrap();
    open_folder(run.root()).get_by_label_contains("is not complete");
    std::fs::remove_dir_all(run.sae_dir(SAE)).unwrap();
    open_folder(run.root()).get_by_label_contains("no autoencoder yet");
    std::fs::create_dir_all(run.sae_dir(SAE)).unwrap();
    open_folder(run.root()).get_by_label_contains("is not finished");
    std::fs::write(run.root().join("run.json"), "{\"schema_version\": 3").unwrap();
    open_folder(run.root()).get_by_label_contains("run.json");
}

#[test]
fn damaged_samples_leave_the_rest_usable() {
    let (dir, run) = fixture::run(16);
    std::fs::remove_dir_all(dir.path().join("data")).unwrap();
    fixture::truncate(&run.tokens(1));
    let mut app =
        open(Link { run: run.root().into(), sae: None, location: Some(Location::Feature(2)), ..Link::default() });
    app.get_by_label("Feature 2");
    std::fs::remove_file(run.samples()).unwrap();
    app.key_press(Key::F5);
    app.run_steps(2);
    settle(&mut app);
    app.get_by_label("Feature 2");
}

#[test]
fn a_label_is_written_found_undone_and_made_again() {
    let (_dir, run) = fixture::run(64);
    let mut app =
        open(Link { run: run.root().into(), sae: None, location: Some(Location::Feature(6)), ..Link::default() });
    write_label(&mut app, "red ring");
    assert_eq!(label_on_disk(&run, 6).as_deref(), Some("red ring"));
    search(&mut app, "label:\"red r\"");
    assert_eq!(listed(&app), [6]);
    key(&mut app, Modifiers::NONE, Key::Escape);
    app.key_press(Key::S);
    app.run_steps(2);
    settle(&mut app);
    assert!(Labels::read(&run).unwrap().written(SAE).unwrap().entry(6).unwrap().star);
    for _ in 0..2 {
        key(&mut app, Modifiers::COMMAND, Key::Z);
        settle(&mut app);
    }
    assert_eq!(label_on_disk(&run, 6), None);
    key(&mut app, Modifiers::COMMAND, Key::Y);
    settle(&mut app);
    assert_eq!(label_on_disk(&run, 6).as_deref(), Some("red ring"));
}

#[test]
fn what_is_typed_is_written_when_the_window_closes() {
    let (_dir, run) = fixture::run(16);
    let mut app =
        open(Link { run: run.root().into(), sae: None, location: Some(Location::Feature(2)), ..Link::default() });
    app.get_by_label("Notes").focus();
    app.run_steps(2);
    app.get_by_label("Notes").type_text("half a tho");
    app.run_steps(2);
    eframe::App::on_exit(app.state_mut(), None);
    drop(app);
    assert_eq!(Labels::read(&run).unwrap().written(SAE).unwrap().entry(2).unwrap().notes, "half a tho");
}

#[test]
fn labels_made_nonsense_by_hand_are_said_kept_aside_and_no_label_is_lost() {
    let (_dir, run) = fixture::run(16);
    std::fs::write(run.labels(), "{ \"schema_version\": 1, \"saes\": [").unwrap();
    let mut app =
        open(Link { run: run.root().into(), sae: None, location: Some(Location::Feature(2)), ..Link::default() });
    app.get_by_label_contains("The labels cannot be read");
    app.get_by_label("Feature 2");
    write_label(&mut app, "first");
    app.get_by_label_contains("It was kept as");
    let aside = std::fs::read_to_string(run.root().join("labels.unreadable-1.json")).unwrap();
    assert!(aside.ends_with("["));
    // While the app is open, somebody breaks the file again: what the app knew is written back with the next edit.
    std::fs::write(run.labels(), "nonsense").unwrap();
    app.key_press(Key::J);
    app.run_steps(2);
    let next = current(&app).unwrap();
    write_label(&mut app, "second");
    assert_eq!(label_on_disk(&run, 2).as_deref(), Some("first"));
    assert_eq!(label_on_disk(&run, next).as_deref(), Some("second"));
    // A file of a newer program is not touched; the edit waits, and the window says so.
    std::fs::write(run.labels(), "{\"schema_version\": 9}").unwrap();
    app.key_press(Key::S);
    app.run_steps(2);
    settle(&mut app);
    app.get_by_label_contains("not saved");
    assert_eq!(std::fs::read_to_string(run.labels()).unwrap(), "{\"schema_version\": 9}");
}

#[test]
fn the_table_becomes_a_list() {
    let (_dir, run) = fixture::run(64);
    let mut app = open_folder(run.root());
    search(&mut app, "class:image density>2%");
    let shown = listed(&app);
    app.get_by_label("Name of the list").focus();
    app.run_steps(2);
    app.get_by_label("Name of the list").type_text("\"");
    app.run_steps(2);
    app.get_by_label_contains("cannot have quotation marks");
    key(&mut app, Modifiers::NONE, Key::Backspace);
    assert!(app.query_by_label_contains("cannot have quotation marks").is_none());
    app.get_by_label("Name of the list").type_text("dense");
    app.run_steps(2);
    app.get_by_label_contains("as list").click();
    app.run_steps(2);
    settle(&mut app);
    let labels = Labels::read(&run).unwrap();
    let mut wanted = shown;
    wanted.sort_unstable();
    assert!(labels.written(SAE).unwrap().lists()["dense"].starts_with(&wanted[..1]) && !wanted.is_empty());
}

#[test]
fn drawing_on_the_map_picks_features_and_escape_lets_them_go() {
    let (_dir, run) = fixture::run(64);
    let mut app = open_folder(run.root());
    draw_around_right_half(&mut app);
    let run = app.state().session().run().unwrap();
    let (picked, total) = (run.list.restricted_to().unwrap(), run.list.total());
    assert!(picked > 0 && picked < total, "{picked} of {total}");
    // The rate on text is across; half a position stands for none.
    let place = |row: &FeatureRow| ((row.fires_text as f64).max(0.5) / 8_000.0).log10();
    let places = run.list.rows().iter().filter(|row| row.fires > 0).map(place);
    let (low, high) = places.fold((0.0f64, -9.0f64), |(low, high), place| (low.min(place), high.max(place)));
    assert!(run.list.shown().all(|row| place(row) > low + 0.5 * (high - low)));
    key(&mut app, Modifiers::NONE, Key::Escape);
    assert_eq!(app.state().session().run().unwrap().list.restricted_to(), None);
}

#[test]
fn the_map_of_directions_puts_features_with_one_direction_together() {
    let (_dir, run) = fixture::run(64);
    let link =
        Link { location: Some(Location::Feature(6)), map: Some(MapKind::Directions), ..Link::to_run(run.root()) };
    let mut app = open(link.clone());
    let session = app.state().session().run().unwrap();
    assert_eq!(session.link(), link);
    let layout = session.layout.clone().unwrap().unwrap();
    // The features that fire look along three axes, which lie on a plane; dead ones have no place.
    assert!((layout.explained[0] + layout.explained[1] - 1.0).abs() < 1e-5, "{:?}", layout.explained);
    assert!((0..64).all(|feature| layout.places[feature].is_some() == (feature % 4 != 3)));
    draw_around_right_half(&mut app);
    let list = &app.state().session().run().unwrap().list;
    let shown: Vec<u32> = list.shown().map(|row| row.feature).collect();
    let axes: std::collections::BTreeSet<u32> = shown.iter().map(|feature| feature % 4).collect();
    assert!(shown.len() == 16 * axes.len() && (1..3).contains(&axes.len()), "{shown:?}");
    // The choice of the map is made in its list.
    app.get_by_label("What the map shows").click();
    app.run_steps(3);
    app.get_by_label("density / maximum").click();
    app.run_steps(3);
    settle(&mut app);
    assert_eq!(app.state().session().run().unwrap().link().map, Some(MapKind::Max));
}

#[test]
fn a_map_of_directions_without_weights_says_what_is_missing() {
    let (_dir, run) = fixture::run(16);
    std::fs::remove_dir_all(run.sae_dir(SAE)).unwrap();
    let app = open(Link { map: Some(MapKind::Directions), ..Link::to_run(run.root()) });
    let session = app.state().session().run().unwrap();
    assert!(session.layout.is_none() && session.info.no_weights().unwrap().contains("saes/base"));
    app.get_by_label_contains("Map of features: There are no weights in saes/base");
}

#[test]
fn the_palette_finds_features_commands_and_pages() {
    let (_dir, run) = fixture::run(64);
    let mut app = open_folder(run.root());
    let enter = |app: &mut Harness<'static, App>, text: &str| {
        key(app, Modifiers::COMMAND, Key::K);
        app.run_steps(2);
        app.event(Event::Text(text.into()));
        app.run_steps(2);
        key(app, Modifiers::NONE, Key::Enter);
        settle(app);
    };
    enter(&mut app, "33");
    assert_eq!(current(&app), Some(33));
    enter(&mut app, "filt");
    assert_eq!(app.state().session().run().unwrap().page(), Page::Filter);
    enter(&mut app, "bac");
    assert_eq!(app.state().session().run().unwrap().page(), Page::Features);
}

#[test]
fn what_is_pointed_at_in_one_place_is_marked_in_the_others() {
    let (_dir, run) = fixture::run(64);
    let mut app =
        open(Link { run: run.root().into(), sae: None, location: Some(Location::Feature(6)), ..Link::default() });
    let pointed = |app: &Harness<'static, App>| app.state().session().run().unwrap().hover.feature();
    let row = app.get_by_label("feature 10").rect().center();
    app.event(Event::PointerMoved(row));
    app.run_steps(3);
    assert_eq!(pointed(&app), Some(10));
    leave(&mut app);
    assert_eq!(pointed(&app), None);
    // Somewhere on the map there is a feature.
    let map = app.get_by_label("Map of features").rect();
    let places = (0..40 * 40).map(|n| egui::vec2((n % 40) as f32 / 40.0, (n / 40) as f32 / 40.0));
    let found = places.filter_map(|share| {
        app.event(Event::PointerMoved(map.min + share * map.size()));
        app.run_steps(2);
        pointed(&app)
    });
    assert!(found.take(1).count() == 1);
}

#[test]
fn an_example_leads_to_its_sample_and_a_patch_to_its_features() {
    let (_dir, run) = fixture::run(64);
    fixture::blank(&run);
    let mut app =
        open(Link { run: run.root().into(), sae: None, location: Some(Location::Feature(6)), ..Link::default() });
    let example = app.query_all_by_label_contains("sample ").find(|n| n.accesskit_node().role() == Role::Figure);
    example.unwrap().click();
    app.run_steps(2);
    settle(&mut app);
    assert_eq!(app.state().session().run().unwrap().page(), Page::Sample);
    app.get_by_label("Strongest features of the sample");
    let counts = app.query_all_by_label_contains(" positions").count();
    assert!(counts > 1, "those of features, and that of the run");
    let patch = app.get_by_label("picture 0").rect().center();
    press(&mut app, patch);
    app.get_by_label("Strongest features of the token under the pointer");
    leave(&mut app);
    app.get_by_label("Strongest features of the selected token");
    app.get_by_label_contains("Contributions to cosine_paper");
    app.get_by_label("Contributions to pmi");
    app.get_by_label("Contributions to pmi_blank");
    app.key_press(Key::J);
    app.run_steps(2);
    settle(&mut app);
    app.get_by_label("Strongest features of the sample");
}

#[test]
fn texts_apart_that_cannot_be_read_cost_their_own_score_alone() {
    let (_dir, run) = fixture::run(64);
    fixture::blank(&run);
    std::fs::remove_file(run.root().join("blank/activations/layers.2/manifest.json")).unwrap();
    let mut app =
        open(Link { run: run.root().into(), sae: None, location: Some(Location::Sample(3)), ..Link::default() });
    app.get_by_label("Strongest features of the sample");
    app.get_by_label("Contributions to pmi");
    app.get_by_label("Contributions to pmi_blank");
    app.get_by_label_contains("no finished activations of layers.2");
    settle(&mut app);
}

#[test]
fn a_threshold_is_moved_and_both_sides_are_shown() {
    let (_dir, run) = fixture::run(16);
    let mut app = open(Link {
        run: run.root().into(),
        sae: None,
        location: Some(Location::Page(Page::Filter)),
        ..Link::default()
    });
    app.get_by_label_contains("12 of 24 samples are kept");
    let histogram = app.get_by_label("Histogram of scores").rect();
    let pos = histogram.left_center() + egui::vec2(0.75 * histogram.width(), 0.0);
    press(&mut app, pos);
    settle(&mut app);
    app.get_by_label_contains("6 of 24 samples are kept");
    app.get_by_label("Kept");
    app.get_by_label("Dropped");
    app.get_by_label("Write 6 samples");
    app.get_by_label_contains("--keep 6");
}

#[test]
fn the_run_tells_how_it_came_about() {
    let (_dir, run) = fixture::run(16);
    let mut app =
        open(Link { run: run.root().into(), sae: None, location: Some(Location::Page(Page::Run)), ..Link::default() });
    app.get_by_label("Provenance");
    app.get_by_label("harvest");
    app.get_by_label("base has not been evaluated yet.");
    // A training writes while the page is open.
    fixture::log(&run);
    let begun = Instant::now();
    while app.query_by_label("No training has written a log here.").is_some() {
        assert!(begun.elapsed() < Duration::from_secs(30), "the new log is not noticed");
        std::thread::sleep(Duration::from_millis(50));
        app.step();
    }
}

#[test]
fn a_text_in_a_link_runs_the_model_and_a_model_that_is_gone_is_a_sentence() {
    let (_dir, run) = fixture::run(16);
    let link = Link {
        run: run.root().into(),
        location: Some(Location::Page(Page::Playground)),
        prompt: Some("a red ring".into()),
        steer: vec![(2, None)],
        ..Link::default()
    };
    let app = open(link);
    app.get_by_label("The model could not run");
    app.get_by_label_contains("does not say where the model is");
    assert_eq!(app.state().session().run().unwrap().playground.draft.steers.len(), 1);
}

/// The demo's model on a run of its own; the autoencoder is of its width.
#[test]
fn a_text_of_ones_own_shows_its_features_and_what_setting_one_changes() {
    let (_dir, run) = fixture::run(16);
    let assets = Path::new(env!("CARGO_MANIFEST_DIR")).join("../assets");
    fixture::of_the_demo_model(&run, &assets.join("demo-mllm"));
    let link = Link {
        run: run.root().into(),
        location: Some(Location::Page(Page::Playground)),
        prompt: Some("What is in the picture?".into()),
        steer: vec![(2, None)],
        ..Link::default()
    };
    let mut app = open(link);
    app.get_by_label("Next token");
    app.get_by_label("steered");
    app.get_by_label("Strongest features of the prompt");
    // The answer is of what was asked; another strength is another question.
    app.get_by_label("Ablate").click();
    app.run_steps(2);
    app.get_by_label("changed since");
    app.get_by_label("Run the model").click();
    app.run_steps(2);
    settle(&mut app);
    assert!(app.query_by_label("changed since").is_none());
}

#[test]
fn a_set_is_written_by_the_command_and_its_failure_is_told() {
    let (dir, run) = fixture::run(16);
    let mut app =
        open(Link { run: run.root().into(), location: Some(Location::Page(Page::Filter)), ..Link::default() });
    app.get_by_label("Write 12 samples").click();
    app.run_steps(2);
    settle(&mut app);
    let job = app.state().session().job.clone().unwrap();
    let kept = dir.path().join("run-kept");
    match &job.state {
        JobState::Done(_) => {
            app.get_by_label("Done.");
            let rows = std::fs::read_to_string(kept.join("data/data.jsonl")).unwrap();
            assert_eq!(rows.lines().count(), 12);
            // Nothing is written over what is there.
            app.get_by_label("Write 12 samples").click();
            app.run_steps(2);
            settle(&mut app);
            assert!(matches!(&app.state().session().job.as_ref().unwrap().state, JobState::Failed(_)));
        }
        // `cargo test` of this crate alone builds no `sae`.
        JobState::Failed(reason) => {
            assert!(reason.contains("cannot be started"), "{reason}");
            eprintln!("skipped: the program sae is not built");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn pages_without_their_tables_say_how_to_make_them() {
    let (_dir, run) = fixture::run(16);
    std::fs::remove_file(run.scores(SAE)).unwrap();
    std::fs::remove_dir_all(run.sae_dir(SAE)).unwrap();
    open(Link { run: run.root().into(), sae: None, location: Some(Location::Page(Page::Filter)), ..Link::default() })
        .get_by_label_contains("sae score");
    let app = open(Link { run: run.root().into(), sae: None, location: Some(Location::Sample(3)), ..Link::default() });
    app.get_by_label("Sample 3");
    app.get_all_by_label_contains("saes/base").next().unwrap();
}
