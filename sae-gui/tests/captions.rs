//! Captions as data sets have them: long ones, and ones in scripts of which the tokenizer knows only bytes.

use crate::fixture::{self, Captions, SAE};
use crate::harness::{SIZE, open, open_in, search, settle};
use egui::Role;
use egui_kittest::Harness;
use egui_kittest::kittest::{NodeT, Queryable};
use sae_gui::state::Link;
use sae_gui::state::location::{Location, Page};
use sae_gui::view::App;

/// The texts of the cards on the screen, as far as they are drawn.
fn texts(app: &Harness<'static, App>, part: &str) -> Vec<String> {
    let labels = app.query_all_by_label_contains(part).filter(|node| node.accesskit_node().role() == Role::Label);
    labels.filter_map(|node| node.value()).collect()
}

#[test]
fn the_token_that_fired_is_in_view_on_every_card_of_a_long_caption() {
    let captions = Captions {
        tokens: |n| (0..200).map(|word| format!("word{}of{n} ", 1000 + word)).collect(),
        fires_at: |_, _| 150,
    };
    let (_dir, run) = fixture::run_with(16, 16, captions);
    let app = open(Link { location: Some(Location::Feature(4)), ..Link::to_run(run.root()) });
    let found = texts(&app, "word1150of");
    assert!(found.len() >= 4, "{found:?}");
    for text in &found {
        let (before, _) = text.split_once("word1150of").unwrap();
        assert!(before.chars().count() <= 44, "{text}");
    }
    // No card shows the beginning of its caption instead.
    assert!(texts(&app, "word1000of").is_empty());
}

#[test]
fn a_card_expands_to_the_whole_text() {
    let captions = Captions {
        tokens: |n| (0..60).map(|word| format!("word{}of{n} ", 1000 + word)).collect(),
        fires_at: |_, _| 50,
    };
    let (_dir, run) = fixture::run_with(16, 16, captions);
    let mut app = open(Link { location: Some(Location::Feature(4)), ..Link::to_run(run.root()) });
    assert!(texts(&app, "word1000of").is_empty());
    app.query_all_by_label("More").next().unwrap().click();
    app.run_steps(3);
    let whole = texts(&app, "word1000of");
    assert!(whole.len() == 1 && whole[0].contains("word1050of") && whole[0].contains("word1059of"), "{whole:?}");
    app.get_by_label("Copy text");
    app.get_by_label("Less").click();
    app.run_steps(3);
    assert!(texts(&app, "word1000of").is_empty());
}

/// "a" and three characters that the tokenizer knows only as bytes.
fn in_bytes(n: u32) -> Vec<String> {
    let bytes = "\u{65e5}\u{672c}\u{8a9e}".bytes().map(|byte| format!("<0x{byte:02X}>"));
    [format!("a{n} ")].into_iter().chain(bytes).collect()
}

#[test]
fn characters_of_several_tokens_are_shown_once() {
    // The feature fires on the second byte of the second character.
    let (_dir, run) = fixture::run_with(16, 16, Captions { tokens: in_bytes, fires_at: |_, _| 1 + 3 + 1 });
    let whole = "\u{65e5}\u{672c}\u{8a9e}";
    let shows = |location: Location| {
        // No font for these characters is bundled: what counts is which characters are to be drawn.
        let builder = Harness::builder().with_size(SIZE).allow_missing_glyphs();
        let app = open_in(builder, Link { location: Some(location), ..Link::to_run(run.root()) });
        assert!(app.query_all_by_label_contains("<0x").next().is_none(), "{location:?} shows bytes");
        let nodes = app.query_all_by(|node| node.label().is_some() || node.value().is_some());
        let texts = nodes.filter_map(|node| node.value().or(node.accesskit_node().label()));
        texts.collect::<Vec<String>>().join(" ")
    };
    for location in [Location::Feature(4), Location::Page(Page::Filter)] {
        assert!(shows(location).contains(whole), "{location:?}");
    }
    // On the sample's page every character is a word of its own.
    let sample = shows(Location::Sample(3));
    assert!(whole.chars().all(|character| sample.matches(character).count() == 1), "{sample}");
}

#[test]
fn features_are_found_by_the_captions_of_their_strongest_examples() {
    let (_dir, run) = fixture::run(64);
    let mut app = open(Link { location: Some(Location::Feature(6)), ..Link::to_run(run.root()) });
    let shown = |app: &Harness<'static, App>| {
        let mut shown: Vec<u32> = app.state().session().run().unwrap().list.shown().map(|row| row.feature).collect();
        shown.sort_unstable();
        shown
    };
    // Features of one modality are strongest in the first samples. Those of both fire on every second sample for each modality,
    // so that they reach further.
    search(&mut app, "caption:\"PICTURE 15 of\"");
    settle(&mut app);
    assert_eq!(shown(&app), (0..64).filter(|feature| feature % 4 == 2).collect::<Vec<_>>());
    app.state_mut().session_mut().run_mut().unwrap().list.search("");
    search(&mut app, "caption:\"picture 3 of\"");
    settle(&mut app);
    assert_eq!(shown(&app), (0..64).filter(|feature| feature % 4 != 3).collect::<Vec<_>>(), "all that fire");
    // A plain word has to be in half of the captions.
    app.state_mut().session_mut().run_mut().unwrap().list.search("");
    search(&mut app, "\"picture 3 of\"");
    settle(&mut app);
    assert_eq!(shown(&app), [0; 0]);
    app.state_mut().session_mut().run_mut().unwrap().list.search("");
    search(&mut app, "series");
    settle(&mut app);
    assert_eq!(shown(&app).len(), 48);
}

#[test]
fn a_search_of_captions_without_the_strongest_examples_says_what_is_missing() {
    let (_dir, run) = fixture::run(16);
    std::fs::remove_file(run.features(SAE).join("strongest.parquet")).unwrap();
    let mut app = open(Link { location: Some(Location::Feature(6)), ..Link::to_run(run.root()) });
    search(&mut app, "caption:red");
    settle(&mut app);
    app.get_by_label_contains("Captions cannot be searched");
    app.state_mut().session_mut().run_mut().unwrap().list.search("");
    search(&mut app, "red");
    settle(&mut app);
    assert!(
        app.query_by_label_contains("Captions cannot be searched").is_none(),
        "labels and words are searched all the same"
    );
}

#[test]
fn a_feature_that_is_found_by_captions_says_so() {
    let (_dir, run) = fixture::run(64);
    let mut app = open(Link { location: Some(Location::Feature(6)), ..Link::to_run(run.root()) });
    let told = |app: &Harness<'static, App>, part: &str| app.query_all_by_label_contains(part).count();
    search(&mut app, "series");
    settle(&mut app);
    assert!(told(&app, "captions: series 100%") >= 10, "on every row that is visible");
    // A typical word says why by itself: features 4 and 6 are about green.
    app.state_mut().session_mut().run_mut().unwrap().list.search("");
    search(&mut app, "green");
    settle(&mut app);
    assert_eq!(told(&app, "captions:"), 0);
    app.state_mut().session_mut().run_mut().unwrap().list.search("");
    search(&mut app, "caption:green class:cross");
    settle(&mut app);
    assert!(told(&app, "captions: green") > 0);
}

#[test]
fn a_sample_in_a_script_that_is_not_drawn_as_it_is_written_says_so() {
    let arabic = |_| ["\u{642}\u{637}", "\u{629} ", "\u{62d}\u{645}\u{631}\u{627}\u{621}"].map(String::from).to_vec();
    let (_dir, run) = fixture::run_with(16, 16, Captions { tokens: arabic, fires_at: |_, _| 1 });
    let app = open(Link { location: Some(Location::Sample(3)), ..Link::to_run(run.root()) });
    app.get_by_label_contains("tokens run from left to right");
    let (_dir, run) = fixture::run(16);
    let app = open(Link { location: Some(Location::Sample(3)), ..Link::to_run(run.root()) });
    assert!(app.query_by_label_contains("Letters are joined").is_none());
}
