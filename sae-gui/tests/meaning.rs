//! What a newcomer asks: why is this feature cross-modal, what is it about, what does a score mean, why does a sample score so.

use crate::fixture::{self, SAE};
use crate::harness::{key, listed, open, open_folder, press, search, settle};
use egui::{Event, Key, Modifiers, Role};
use egui_kittest::Harness;
use egui_kittest::kittest::{NodeT, Queryable};
use sae_core::file;
use sae_gui::state::Link;
use sae_gui::state::location::{Location, Page};
use sae_gui::view::App;

fn figures(app: &Harness<'static, App>, part: &str) -> Vec<(String, egui::Rect)> {
    let nodes = app.query_all_by_label_contains(part).filter(|node| node.accesskit_node().role() == Role::Figure);
    nodes.filter_map(|node| Some((node.accesskit_node().label()?, node.rect()))).collect()
}

#[test]
fn a_feature_says_why_it_is_cross_modal_and_shows_both_sides_beside_each_other() {
    let (_dir, run) = fixture::run(64);
    let app = open(Link { location: Some(Location::Feature(6)), ..Link::to_run(run.root()) });
    // Feature 6 fires 931 times on 8,000 text positions and 470 times on 12,000 image positions.
    let why = "Cross-modal: it fires at 12% of the text positions and at 3.9% of the image positions. The rates differ by a \
               factor of 2.97; up to 10 counts as cross.";
    app.get_by_label(why);
    app.get_by_label("12% of text positions");
    app.get_by_label("3.9% of image positions");
    app.get_by_label_contains("931 of 8,000");
    let [text, image] = ["on text", "on image"].map(|side| app.get_by_label(side).rect());
    assert!(text.top() == image.top() && text.right() < image.left(), "{text:?} {image:?}");
    // The strongest text positions are in one column, the strongest image positions in the other.
    let cards = figures(&app, "sample ");
    let in_column = |side: egui::Rect| cards.iter().filter(|(_, rect)| (rect.left() - side.left()).abs() < 2.0).count();
    assert!(in_column(text) >= 2 && in_column(image) >= 2);
    let image_feature = open(Link { location: Some(Location::Feature(1)), ..Link::to_run(run.root()) });
    image_feature.get_by_label_contains("Class image: it fires at 0% of the text positions");
    image_feature.get_by_label("It fires at no text position.");
}

#[test]
fn typical_words_stand_in_for_labels_in_table_search_palette_and_pages() {
    let (_dir, run) = fixture::run(64);
    let mut app = open(Link { location: Some(Location::Feature(6)), ..Link::to_run(run.root()) });
    // Feature 6 fires on "green" and on images of squares.
    assert!(app.query_all_by_label_contains("green; images of: square").count() >= 2, "in the row and on the page");
    search(&mut app, "green square");
    let found = listed(&app);
    assert!(found.contains(&6) && found.iter().all(|feature| feature % 4 == 2), "{found:?}");
    key(&mut app, Modifiers::NONE, Key::Escape);
    key(&mut app, Modifiers::COMMAND, Key::K);
    app.run_steps(2);
    app.event(Event::Text("yellow".into()));
    app.run_steps(3);
    assert!(app.query_all_by_label_contains("Feature 12: yellow").next().is_some());
}

#[test]
fn every_share_is_a_percentage() {
    let (_dir, run) = fixture::run(64);
    let app = open(Link { location: Some(Location::Feature(6)), ..Link::to_run(run.root()) });
    // 1,401 of 20,000 positions: in the tile as in the column of the table, if it is shown.
    app.get_by_label("density: 7.0%");
    assert!(app.query_all_by_label_contains("10^").next().is_none());
}

#[test]
fn scores_say_what_they_measure_and_how_well_they_work() {
    let (_dir, run) = fixture::run(16);
    let filter = Link { location: Some(Location::Page(Page::Filter)), ..Link::to_run(run.root()) };
    let app = open(filter.clone());
    app.get_by_label_contains("Sum of the cross-modal weights of the active features. Mode paper: as published.");
    app.get_by_label_contains("measures which errors it finds");
    let results = serde_json::json!({ "cosine_paper": { "auc": 0.91, "low": 0.88, "high": 0.94 } });
    let report = serde_json::json!({ "trials": [{ "corruption": "swapped-answers", "scores": results }] });
    file::write_json(&run.root().join("validate").join(format!("{SAE}.json")), &report).unwrap();
    let mut app = open(filter);
    app.get_by_label("AUC 0.91 at detecting swapped answers");
    let histogram = app.get_by_label("Histogram of scores").rect();
    app.event(Event::PointerMoved(histogram.left_center() + egui::vec2(8.0, 0.0)));
    app.run_steps(8);
    assert!(app.query_all_by_label_contains("Drag to move the threshold").next().is_some());
}

#[test]
fn a_sample_says_whether_it_is_kept_and_what_raises_or_lowers_its_score() {
    let (_dir, run) = fixture::run(64);
    fixture::blank(&run);
    let app = open(Link { location: Some(Location::Sample(3)), ..Link::to_run(run.root()) });
    app.get_by_label(
        "cosine_paper 3.00: higher than that of 12% of the samples. It would be dropped (threshold 12.00).",
    );
    app.get_by_label("12th percentile");
    let told = |app: &Harness<'static, App>, part: &str| app.query_all_by_label_contains(part).count();
    let sentences = told(&app, "Lowered most (by ") + told(&app, "Raised most (by ");
    assert_eq!(sentences, 2, "for pmi and for pmi_blank");
    let sentences: Vec<_> = app.query_all_by_label_contains("by 0.").filter_map(|node| node.value()).collect();
    assert!(told(&app, "the text's feature 0 (red)") > 0, "features are named, not only numbered: {sentences:?}");
    assert_eq!(told(&app, "nats"), 0);
}

#[test]
fn next_walks_what_was_looked_at_on_the_filter_page() {
    let (_dir, run) = fixture::run(16);
    let mut app = open(Link { location: Some(Location::Page(Page::Filter)), ..Link::to_run(run.root()) });
    let dropped = app.get_by_label("Dropped").rect();
    let mut cards = figures(&app, "sample ");
    cards.retain(|(_, rect)| rect.left() >= dropped.left() - 2.0);
    press(&mut app, cards[0].1.center());
    settle(&mut app);
    let sample = |app: &Harness<'static, App>| app.state().session().run().unwrap().sample();
    assert_eq!(sample(&app), 11, "the highest of the dropped ones");
    app.get_by_label_contains("1 of 12 dropped, near the threshold");
    app.get_by_label("Next").click();
    app.run_steps(2);
    settle(&mut app);
    assert_eq!(sample(&app), 10);
    app.get_by_label("All samples").click();
    app.run_steps(2);
    key(&mut app, Modifiers::NONE, Key::J);
    assert_eq!(sample(&app), 11);
}

#[test]
fn every_autoencoder_of_the_run_is_listed_with_what_it_lacks() {
    let (_dir, run) = fixture::run(16);
    std::fs::create_dir_all(run.sae_dir("second").join("checkpoint")).unwrap();
    let mut app = open_folder(run.root());
    app.get_by_label("Autoencoder").click();
    app.run_steps(3);
    app.get_by_label("second (training not finished)").click();
    app.run_steps(3);
    settle(&mut app);
    app.get_by_label_contains("The training of second is not finished");
}

#[test]
fn a_card_names_the_modality_and_the_sample_of_its_example() {
    let (_dir, run) = fixture::run(64);
    let app = open(Link { location: Some(Location::Feature(6)), ..Link::to_run(run.root()) });
    let labels: Vec<String> = figures(&app, "sample ").into_iter().map(|(label, _)| label).collect();
    // The strongest text position is in sample 0, the strongest image position in sample 1.
    assert!(labels.iter().any(|label| label.ends_with(": 6.01 on text, shape-00")), "{labels:?}");
    assert!(labels.iter().any(|label| label.ends_with(" on image, shape-01")), "{labels:?}");
}

#[test]
fn a_sample_says_which_feature_it_shows_and_how_strong_it_is_here_and_in_the_run() {
    let (_dir, run) = fixture::run(64);
    let app = open(Link { location: Some(Location::Sample(5)), ..Link::to_run(run.root()) });
    let told: Vec<String> =
        app.query_all_by_label_contains("Showing feature").filter_map(|node| node.accesskit_node().value()).collect();
    let [told] = &told[..] else { panic!("{told:?}") };
    let run = app.state().session().run().unwrap();
    let feature: u32 = told["Showing feature ".len()..].split([' ', ':']).next().unwrap().parse().unwrap();
    let max = sae_gui::state::format::real(run.list.row(feature).unwrap().max.into());
    assert!(told.contains(": maximum ") && told.ends_with(&format!(" here, {max} in the run")), "{told}");
}

#[test]
fn a_look_at_a_related_feature_says_what_it_is_about_and_how_dense_it_is() {
    let (_dir, run) = fixture::run(64);
    let mut app = open(Link { location: Some(Location::Feature(6)), ..Link::to_run(run.root()) });
    app.get_by_label_contains("Nearest features").scroll_to_me();
    app.run_steps(3);
    let title = app.get_by_label_contains("Nearest features").rect();
    // Feature 10 is the second nearest of feature 6, after feature 8.
    let button = app.get_all_by_label_contains("10").find(|node| {
        node.accesskit_node().role() == Role::Button && (0.0..60.0).contains(&(node.rect().top() - title.bottom()))
    });
    app.event(Event::PointerMoved(button.unwrap().rect().center()));
    app.run_steps(60);
    settle(&mut app);
    app.get_by_label("Feature 10");
    app.get_by_label("fires on: blue");
    app.get_by_label_contains("density ");
}

#[test]
fn actions_have_an_entry_in_the_legend_of_the_map_where_there_are_some() {
    let (_dir, run) = fixture::run(16);
    let legend = |class: &str| format!("\u{25a0} {class}");
    let app = open_folder(run.root());
    app.get_by_label(&legend("cross"));
    assert!(app.query_by_label(&legend("action")).is_none());
    let folder = run.features(SAE);
    let mut rows = sae_core::analysis::index::read_features(&folder.join("features.parquet")).unwrap();
    rows[3] = sae_core::analysis::index::FeatureRow {
        fires: 7,
        density: 7.0 / 20_100.0,
        max: 2.0,
        class: "action".into(),
        ..rows[3].clone()
    };
    sae_core::analysis::index::write_features(&folder.join("features.parquet"), &rows).unwrap();
    run.write_step(&format!("index/{SAE}"), &serde_json::json!({ "positions": [20_100, 8_000, 12_000] })).unwrap();
    let app = open(Link { location: Some(Location::Feature(3)), ..Link::to_run(run.root()) });
    app.get_by_label(&legend("action"));
    app.get_by_label_contains("Class action: it fires on actions of an agent");
}

#[test]
fn the_logits_of_all_tokens_are_a_histogram_below_the_listed_ones() {
    use sae_core::analysis::index::{LogitBin, Row as _, Word, write_lists};
    let (_dir, run) = fixture::run(16);
    let folder = run.features(SAE);
    let link = Link { location: Some(Location::Feature(6)), ..Link::to_run(run.root()) };
    let word = |promoted, logit| Word { promoted, token_id: 1, piece: "ring".into(), logit };
    write_lists(&folder.join(Word::FILE), 16, |_| vec![word(true, 0.9), word(false, -0.9)]).unwrap();
    open(link.clone())
        .get_by_label("The index has no histogram of the logits of all tokens. Make it again to see this.");
    let bin = |low, high, tokens| LogitBin { low, high, tokens };
    let bins = vec![bin(-1.0, -0.5, 2), bin(-0.5, 0.5, 3_000), bin(0.5, 1.0, 5), bin(f32::NAN, f32::NAN, 1)];
    write_lists(&folder.join(LogitBin::FILE), 16, |_| bins.clone()).unwrap();
    let mut app = open(link);
    app.get_by_label("Logits of 3,007 tokens").scroll_to_me();
    app.run_steps(3);
    let plot = app.get_by_label("Logits of 3,007 tokens").rect();
    app.event(Event::PointerMoved(plot.center()));
    app.run_steps(60);
    app.get_by_label("3,000 tokens from -0.500 to +0.500");
}
