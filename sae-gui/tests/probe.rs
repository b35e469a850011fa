//! The Probe page: the quality beside its baselines, the features with what they promote, the audit of pairs; damaged files.

use crate::fixture::{self, SAE};
use crate::harness::{current, key, listed, open, open_in, press, settle, wait_for};
use egui::{Key, Modifiers, Role};
use egui_kittest::Harness;
use egui_kittest::kittest::{NodeT, Queryable};
use sae_core::{Run, file};
use sae_gui::state::Link;
use sae_gui::state::location::{Location, Page};
use sae_gui::view::App;

fn page(run: &Run, name: Option<&str>) -> Link {
    let location = Some(Location::Page(Page::Probe));
    Link { location, name: name.map(str::to_owned), ..Link::to_run(run.root()) }
}

fn link_of(app: &Harness<'static, App>) -> Link {
    app.state().session().run().unwrap().link()
}

#[test]
fn a_probe_stands_beside_the_predictions_that_it_has_to_beat() {
    let (_dir, run) = fixture::run(64);
    fixture::probe(&run, "help");
    let app = open(page(&run, None));
    app.get_by_label("Pair probe of helpful, from 3 features: accuracy 0.861 (95 % interval 0.790 to 0.920)");
    app.get_by_label_contains("Fitted to 36 pairs of 24 samples");
    for bar in ["features: 0.861", "hidden states: 0.880", "words: 0.720", "length: 0.560", "chance: 0.490"] {
        app.get_by_label(bar);
    }
    assert_eq!(listed(&app), [6, 9, 10], "those with the largest share first");
    for cell in ["+0.840", "61%", "-0.420", "27%"] {
        app.get_by_label(cell);
    }
    assert_eq!(app.query_all_by_label("red \u{b7} square \u{b7} round \u{b7} bright").count(), 0, "of no feature here");
    app.get_by_label_contains("About 10% of the labels are flipped (95 % interval 4.0% to 18%).");
    assert_eq!(link_of(&app).name.as_deref(), Some("help"));
}

/// The samples of the cards with examples.
fn cards(app: &Harness<'static, App>) -> Vec<u32> {
    let figures = app.query_all_by_label_contains(", position ");
    let number = |label: String| label.strip_prefix("sample ")?.split(',').next()?.parse().ok();
    let mut samples: Vec<u32> = figures.filter_map(|node| number(node.accesskit_node().label()?)).collect();
    samples.sort_unstable();
    samples.dedup();
    samples
}

#[test]
fn a_row_shows_what_its_feature_promotes_and_where_it_fires() {
    let (_dir, run) = fixture::run(64);
    fixture::probe(&run, "help");
    let mut app = open(page(&run, Some("help")));
    let strongest = cards(&app);
    assert!(strongest.len() > 4, "{strongest:?}");
    let row = app.get_by_label("-0.420").rect().center();
    press(&mut app, row);
    settle(&mut app);
    // Feature 9 fires on images alone.
    app.get_by_label("It fires at no text position.");
    assert!(!cards(&app).is_empty());
    app.query_all_by_label_contains(", position ").next().unwrap().click_accesskit();
    app.run_steps(3);
    settle(&mut app);
    let list = app.state().session().run().unwrap().sample_list.clone().unwrap();
    assert_eq!(list.title, "examples of feature 9");
    let mut app = open(page(&run, None));
    app.get_all_by_role_and_label(Role::Button, "10").next().unwrap().click_accesskit();
    app.run_steps(2);
    settle(&mut app);
    assert_eq!((app.state().session().run().unwrap().page(), current(&app)), (Page::Features, Some(10)));
}

#[test]
fn the_least_plausible_pairs_lead_to_their_samples() {
    let (_dir, run) = fixture::run(64);
    fixture::probe(&run, "help");
    let mut app = open(page(&run, None));
    app.get_by_label("-2.500");
    app.get_by_label("shape-11").click_accesskit();
    app.run_steps(3);
    settle(&mut app);
    let shown = app.state().session().run().unwrap();
    assert_eq!((shown.page(), shown.sample()), (Page::Sample, 11));
    let list = shown.sample_list.as_ref().unwrap();
    assert_eq!((list.title.as_str(), &list.samples[..]), ("least plausible labels of help", &[5, 11, 3][..]));
}

#[test]
fn links_name_a_probe_and_new_probes_appear_by_themselves() {
    let (_dir, run) = fixture::run(64);
    let mut app = open(page(&run, None));
    app.get_by_label("No probes yet");
    app.get_by_label_contains("sae probe --run");
    fixture::probe(&run, "help");
    wait_for(&mut app, "Pair probe of helpful");
    fixture::probe(&run, "harm");
    let link = format!("sae://{}/?page=probe&name=help", run.root().display());
    let mut app = open(Link::parse(&link).unwrap());
    assert_eq!(link_of(&app).to_string(), link);
    key(&mut app, Modifiers::NONE, Key::F5);
    settle(&mut app);
    assert_eq!(link_of(&app).to_string(), link, "reading again keeps what is shown");
    key(&mut app, Modifiers::COMMAND, Key::Num8);
    settle(&mut app);
    assert_eq!(link_of(&app).name, None, "the name is that of a probe, not of a contrast");
    open(page(&run, Some("other"))).get_by_label_contains("The run has no probe \"other\"");
}

#[test]
fn a_damaged_probe_and_one_without_features_say_so() {
    let (_dir, run) = fixture::run(64);
    fixture::probe(&run, "help");
    let path = run.root().join(format!("probes/{SAE}/help.json"));
    let mut report: serde_json::Value = file::read_json(&path, 1 << 20).unwrap();
    report["weighted"] = serde_json::json!([]);
    report["audit"] = serde_json::Value::Null;
    report["quality"]["length"] = serde_json::json!(0.8);
    file::write_json(&path, &report).unwrap();
    let app = open(page(&run, None));
    app.get_by_label("No feature has a weight: the labels cannot be predicted from features.");
    app.get_by_label_contains("the labels may be about length");
    assert!(app.query_by_label_contains("of the labels are flipped").is_none());
    file::write_bytes(&path, b"{").unwrap();
    open(page(&run, None)).get_by_label_contains("help.json");
}

#[test]
fn the_columns_of_the_tables_fit_beside_each_other() {
    let (_dir, run) = fixture::run(64);
    fixture::probe(&run, "help");
    for width in [900.0, 1360.0, 2560.0] {
        let app = open_in(Harness::builder().with_size([width, 900.0]), page(&run, None));
        let weight = app.get_by_label("+0.840").rect();
        let share = app.get_by_label("61%").rect();
        let title = app.get_by_label("Promotes").rect();
        assert!(
            weight.right() <= share.left() && share.right() <= title.left(),
            "{width}: {weight:?} {share:?} {title:?}"
        );
        assert!(title.right() <= width, "{width}: {title:?}");
    }
}
