//! The Contrast page: what differs, all tests, one feature in every group; damaged tables and other autoencoders.

use crate::fixture::{self, SAE};
use crate::harness::{current, key, listed, open, open_in, press, settle, wait_for};
use egui::{Event, Key, Modifiers, Role};
use egui_kittest::Harness;
use egui_kittest::kittest::{NodeT, Queryable};
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
    assert!(app.query_by_label_contains("The forecast").is_none(), "groups have no order");
}

/// The sample of each card with an example, from left to right and from top to bottom.
fn cards(app: &Harness<'static, App>) -> Vec<u32> {
    let figures = app.query_all_by_label_contains(", position ");
    let mut found: Vec<(i32, i32, u32)> = figures
        .filter_map(|node| {
            let label = node.accesskit_node().label()?;
            let number = label.strip_prefix("sample ")?.split(',').next()?.parse().ok()?;
            Some((node.rect().left() as i32, node.rect().top() as i32, number))
        })
        .collect();
    found.sort_unstable();
    found.into_iter().map(|(.., sample)| sample).collect()
}

#[test]
fn the_strongest_samples_of_a_feature_are_side_by_side_by_group() {
    let (_dir, run) = fixture::run(64);
    fixture::contrast(&run, "shape");
    let mut app = open(page(&run, Some("shape")));
    assert_eq!(cards(&app), [5, 2, 8, 0], "rings, where feature 6 is active most often, then circles");
    let row = app.get_by_label("-0.2000").rect().center();
    press(&mut app, row);
    settle(&mut app);
    assert_eq!(cards(&app), [3], "feature 9");
    app.get_by_label("There are no examples of feature 9 in ring.");
    // Another group on the left, by its list.
    let row = app.get_by_label("+0.4000").rect().center();
    press(&mut app, row);
    settle(&mut app);
    app.get_by_label("First group").click_accesskit();
    app.run_steps(3);
    app.get_by_role_and_label(Role::Button, "circle").click_accesskit();
    app.run_steps(3);
    settle(&mut app);
    assert_eq!(cards(&app), [0, 0], "circles on both sides");
    app.query_all_by_label_contains("sample 0, position").next().unwrap().click_accesskit();
    app.run_steps(3);
    settle(&mut app);
    let run = app.state().session().run().unwrap();
    assert_eq!((run.page(), run.sample()), (Page::Sample, 0));
    assert_eq!(run.sample_list.as_ref().unwrap().title, "examples of feature 6 in circle");
}

#[test]
fn a_forecast_that_is_no_better_than_the_last_value_says_so() {
    let (_dir, run) = fixture::run(64);
    fixture::contrast(&run, "shape");
    let path = run.root().join("contrasts/shape/contrast.json");
    let mut report: serde_json::Value = file::read_json(&path, 1 << 20).unwrap();
    report["forecast"] = serde_json::json!({ "method": "drift", "skill": [-0.2, -0.5, 0.1], "skills": {} });
    file::write_json(&path, &report).unwrap();
    open(page(&run, None)).get_by_label("The forecast (by drift) is no better than the last value (skill -0.20).");
}

#[test]
fn contrasts_that_are_made_again_or_new_appear_by_themselves() {
    let (_dir, run) = fixture::run(64);
    let mut app = open(page(&run, None));
    app.get_by_label("No contrasts yet");
    fixture::contrast(&run, "shape");
    wait_for(&mut app, "2 of 3 features differ");
    let path = run.root().join("contrasts/shape/contrast.json");
    let text = std::fs::read_to_string(&path).unwrap().replace("\"differing\": 2", "\"differing\": 1 ");
    file::write_bytes(&path, text.as_bytes()).unwrap();
    wait_for(&mut app, "1 of 3 features differ");
    fixture::contrast(&run, "year");
    app.get_by_label("Contrast of the run");
    let begun = std::time::Instant::now();
    while app.state().session().run().unwrap().contrasts.names != ["shape", "year"] {
        assert!(begun.elapsed().as_secs() < 60, "the new contrast is never listed");
        std::thread::sleep(std::time::Duration::from_millis(5));
        app.step();
    }
    assert_eq!(link_of(&app).name.as_deref(), Some("shape"), "the one that is shown stays");
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

#[test]
fn the_columns_of_the_table_fit_beside_each_other() {
    let (_dir, run) = fixture::run(64);
    fixture::contrast(&run, "shape");
    for width in [1360.0, 2560.0] {
        let app = open_in(Harness::builder().with_size([width, 900.0]), page(&run, None));
        let row = ["6", "ring", "50%", "25%", "+0.4000", "+0.3500 to +0.4500", "2.0e-8"];
        let top = app.get_by_label("+0.4000").rect().center().y;
        let cells = row.map(|text| {
            let cell =
                app.query_all_by_label(text).map(|node| node.rect()).find(|rect| (rect.center().y - top).abs() < 4.0);
            cell.unwrap_or_else(|| panic!("{text} is not in the row"))
        });
        for pair in cells.windows(2) {
            assert!(pair[0].right() <= pair[1].left(), "{width}: {pair:?}");
        }
        assert!(cells[6].right() <= width, "{width}: {:?}", cells[6]);
    }
}
