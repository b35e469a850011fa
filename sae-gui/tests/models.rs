//! The Contrast page for models: which features belong to one of them, beside chance, and how far checkpoints are back.

use crate::fixture;
use crate::harness::{current, key, listed, open, open_in, press, settle};
use egui::{Event, Key, Modifiers, Role};
use egui_kittest::Harness;
use egui_kittest::kittest::Queryable;
use sae_core::{Run, file};
use sae_gui::state::Link;
use sae_gui::state::location::{Location, Page};
use sae_gui::view::App;

fn page(run: &Run, name: &str) -> Link {
    Link { location: Some(Location::Page(Page::Contrast)), name: Some(name.into()), ..Link::to_run(run.root()) }
}

fn feature_of(app: &Harness<'static, App>) -> Vec<u32> {
    listed(app).into_iter().take(3).collect()
}

#[test]
fn features_of_one_model_stand_in_front_of_those_of_equal_models() {
    let (_dir, run) = fixture::run(64);
    fixture::models(&run, "models");
    let mut app = open(page(&run, "models"));
    app.get_by_label("1 feature belongs to chat alone, no features to base alone");
    app.get_by_label("Unexplained share of the variance (FVU): base 0.210, chat 0.240.");
    app.get_by_label("For comparison, of one model and its copy: no features belong to one of them alone.");
    app.get_by_label("Latent scaling: 48 features, 1 own");
    app.get_by_label("Relative norms of the decoder (Delta)");
    app.get_by_label("0.500 (0.480 to 0.520)");
    assert_eq!(feature_of(&app), [6, 47, 46], "own ones first, then those that fire most");
    assert!(app.query_all_by_label("yes").next().is_some());
    // The first feature is shown beside the table, where it fires on words and on images.
    app.get_by_label("Strongest on text and on images");
    // A title sorts, a second click reverses.
    app.get_by_label("Sort by nu error").click_accesskit();
    app.run_steps(3);
    app.get_by_label("Sort by nu error").click_accesskit();
    app.run_steps(3);
    assert_eq!(feature_of(&app)[0], 6, "the smallest ratio first");
    app.get_by_label("Sort by Feature").click_accesskit();
    app.run_steps(3);
    assert_eq!(feature_of(&app)[0], 47);
    // Names from the first letter on, those of labels and of words alike.
    app.get_by_label("Sort by Label or words").click_accesskit();
    app.run_steps(3);
    let name = |feature: u32| {
        let list = &app.state().session().run().unwrap().list;
        list.name(feature).map(|name| name.text().to_lowercase())
    };
    let names: Vec<_> = listed(&app).into_iter().map(name).collect();
    assert!(names.len() > 3 && names[0].is_some(), "{names:?}");
    assert!(names.is_sorted_by(|a, b| b.is_none() || a.as_ref().is_some_and(|a| Some(a) <= b.as_ref())), "{names:?}");
    // The other model has no own feature.
    app.get_by_label("Which model's features").click_accesskit();
    app.run_steps(3);
    app.get_by_role_and_label(Role::Button, "of base, compared with chat").click_accesskit();
    app.run_steps(3);
    settle(&mut app);
    app.get_by_label("Latent scaling: 47 features, 0 own");
}

#[test]
fn a_point_and_a_row_select_a_feature_and_its_number_opens_it() {
    let (_dir, run) = fixture::run(64);
    fixture::models(&run, "models");
    let mut app = open(page(&run, "models"));
    app.get_by_label("Sort by Firings").click_accesskit();
    app.run_steps(3);
    assert_eq!(feature_of(&app), [47, 46, 45]);
    // Feature 6 with the ratios 0.08 and 0.18, of -0.5 to 1.5.
    let plot = app.get_by_label("Latent scaling: 48 features, 1 own").rect();
    // Left and below are the axes.
    let inner = egui::Rect::from_min_max(plot.min + egui::vec2(48.0, 4.0), plot.max - egui::vec2(4.0, 19.0));
    let point = egui::pos2(inner.left() + 0.29 * inner.width(), inner.bottom() - 0.34 * inner.height());
    app.event(Event::PointerMoved(point));
    app.run_steps(3);
    assert_eq!(app.state().session().run().unwrap().hover.feature(), Some(6));
    press(&mut app, point);
    settle(&mut app);
    assert_eq!(app.state().session().run().unwrap().page(), Page::Contrast, "the page stays");
    assert!(app.query_all_by_label_contains("sample 0, position").next().is_some(), "where feature 6 fires");
    app.get_all_by_role_and_label(Role::Button, "46").next().unwrap().click_accesskit();
    app.run_steps(2);
    settle(&mut app);
    assert_eq!((app.state().session().run().unwrap().page(), current(&app)), (Page::Features, Some(46)));
}

#[test]
fn checkpoints_are_curves_back_to_the_base_with_a_feature_among_them() {
    let (_dir, run) = fixture::run(64);
    fixture::series(&run, "series");
    let mut app = open(page(&run, "series"));
    let headline = "By its features, back-200, tuned on 200 samples, is 0.800 (0.720 to 0.880) of the way back from the aligned \
                    model to the base";
    app.get_by_label(headline);
    app.get_by_label_contains("Half-way back after this many samples: features 140, mean hidden state 160");
    app.get_by_label("Rebound of 2 checkpoints");
    app.get_by_label("0.300 (0.220 to 0.380)");
    assert_eq!(feature_of(&app), [11, 10, 9], "those that the alignment changed most");
    app.get_by_label("\u{2014} feature 11");
    let row = app.get_by_label("+0.900").rect().center();
    press(&mut app, row);
    settle(&mut app);
    app.get_by_label("\u{2014} feature 9");
    // The features of another checkpoint.
    app.get_by_label("Checkpoint of the table").click_accesskit();
    app.run_steps(3);
    app.get_by_role_and_label(Role::Button, "back-100").click_accesskit();
    app.run_steps(3);
    assert!(app.query_all_by_label("0.300 (0.200 to 0.400)").count() > 5);
    key(&mut app, Modifiers::NONE, Key::F5);
    settle(&mut app);
    app.get_by_label("Rebound of 2 checkpoints");
}

#[test]
fn checkpoints_that_were_tuned_on_as_many_samples_are_told_apart() {
    let (_dir, run) = fixture::run(64);
    fixture::series(&run, "series");
    let path = run.root().join("contrasts/series/contrast.json");
    let mut report: serde_json::Value = file::read_json(&path, 1 << 20).unwrap();
    report["rebound"][0]["tuned_on"] = 200.into();
    file::write_json(&path, &report).unwrap();
    let mut app = open(page(&run, "series"));
    // The two checkpoints are 0.3 and 0.8 of the way back by features, and both are at the right end of an axis from 0 to 1.
    let plot = app.get_by_label("Rebound of 2 checkpoints").rect();
    let inner = egui::Rect::from_min_max(plot.min + egui::vec2(48.0, 4.0), plot.max - egui::vec2(4.0, 19.0));
    let area = inner.shrink2(egui::vec2(8.0, 8.0));
    // Every feature that the alignment changed is as far back, with an interval of 0.1.
    let (first, second) = ((0.3, "0.300 (0.200 to 0.400)"), (0.8, "0.800 (0.700 to 0.900)"));
    for (back, shown) in [first, second, first] {
        press(&mut app, egui::pos2(area.right(), area.bottom() - back * area.height()));
        app.run_steps(3);
        assert!(app.query_all_by_label(shown).count() > 5, "{shown}");
    }
}

#[test]
fn contrasts_of_more_models_than_rows_or_than_can_be_shown_are_rejected() {
    let (_dir, run) = fixture::run(64);
    fixture::series(&run, "series");
    let path = run.root().join("contrasts/series/contrast.json");
    let mut report: serde_json::Value = file::read_json(&path, 1 << 20).unwrap();
    let mut open_with = |models: usize| {
        report["models"] = vec![serde_json::json!({ "model": "m", "fvu": null }); models].into();
        file::write_json(&path, &report).unwrap();
        open(page(&run, "series"))
    };
    open_with(5).get_by_label_contains("48 rows, expected 60: one for each of 12 features and 5 models");
    open_with(100_000).get_by_label_contains("models has 100000 entries, more than the 256 models that can be shown");
}

#[test]
fn what_is_empty_says_why() {
    let (_dir, run) = fixture::run(64);
    fixture::models(&run, "models");
    fixture::series(&run, "series");
    let change = |name: &str, change: &dyn Fn(&mut serde_json::Value)| {
        let path = run.root().join(format!("contrasts/{name}/contrast.json"));
        let mut report: serde_json::Value = file::read_json(&path, 1 << 20).unwrap();
        change(&mut report);
        file::write_json(&path, &report).unwrap();
        open(page(&run, name))
    };
    let app = change("series", &|report| {
        report["rebound"][1]["features"] = serde_json::json!([null, null, null]);
        report["distances"] = serde_json::json!([]);
    });
    app.get_by_label_contains("It is not known how far back-200, tuned on 200 samples, is back");
    app.get_by_label("There is no other model whose distance could be measured.");
    let app = change("series", &|report| report["rebound"] = serde_json::json!([]));
    app.get_by_label_contains("Name at least three runs:");
    let app = change("models", &|report| {
        report["pairs"][0]["same_model"] = true.into();
        report["patch"]["patches"] = serde_json::json!([]);
    });
    app.get_by_label_contains("Every model has the states of the first one");
    app.get_by_label("No features were moved.");
    let app = change("models", &|report| report["sae"] = "gone".into());
    app.get_by_label_contains("The autoencoder gone is missing from the run.");
    assert!(app.query_by_label_contains("Show gone").is_none());
}

#[test]
fn damaged_tables_of_models_are_sentences_and_other_autoencoders_are_named() {
    let (_dir, run) = fixture::run(64);
    fixture::models(&run, "models");
    let folder = run.root().join("contrasts/models");
    fixture::truncate(&folder.join("null.parquet"));
    let app = open(page(&run, "models"));
    app.get_by_label_contains("null.parquet");
    assert_eq!(feature_of(&app)[0], 6, "the rest is shown");
    fixture::truncate(&folder.join("models.parquet"));
    open(page(&run, "models")).get_by_label_contains("models.parquet");
    let path = folder.join("contrast.json");
    let mut report: serde_json::Value = file::read_json(&path, 1 << 20).unwrap();
    report["sae"] = "cc".into();
    file::write_json(&path, &report).unwrap();
    open(page(&run, "models")).get_by_label_contains("This contrast is about features of cc");
    report["pairs"] = "none".into();
    file::write_json(&path, &report).unwrap();
    open(page(&run, "models")).get_by_label_contains("contrast.json");
    fixture::series(&run, "series");
    fixture::truncate(&run.root().join("contrasts/series/rebound.parquet"));
    let app = open(page(&run, "series"));
    app.get_by_label_contains("rebound.parquet");
    app.get_by_label("Rebound of 2 checkpoints");
}

#[test]
fn the_tables_of_models_fit_into_windows_of_every_size() {
    let (_dir, run) = fixture::run(64);
    fixture::models(&run, "models");
    fixture::series(&run, "series");
    for (name, title) in [("models", "Sort by nu error"), ("series", "Sort by Back (r)")] {
        for width in [900.0, 2560.0] {
            let app = open_in(Harness::builder().with_size([width, 1440.0]), page(&run, name));
            let [first, title] = ["Sort by Feature", title].map(|label| app.get_by_label(label).rect());
            assert!(first.right() <= title.left() && title.right() <= width, "{name} at {width}: {first:?} {title:?}");
        }
    }
}
