//! Windows of every width: nothing is squeezed into columns of single letters, and no message moves what is beside it.

use crate::fixture::{self, SAE};
use crate::harness::{open, open_in, search, settle};
use egui::{Event, Rect, Role};
use egui_kittest::kittest::{NodeT, Queryable};
use egui_kittest::{Harness, Node};
use sae_gui::state::Link;
use sae_gui::state::location::{Location, Page};
use sae_gui::view::App;

const TILES: [&str; 5] = ["positions: ", "density: ", "maximum: ", "mean: ", "cross-modal weight: paper: "];

fn resize(app: &mut Harness<'static, App>, width: f32, height: f32) {
    app.set_size(egui::vec2(width, height));
    app.run_steps(6);
    settle(app);
}

#[test]
fn tiles_keep_their_shape_in_every_width() {
    let (_dir, run) = fixture::run(64);
    let mut app = open(Link { location: Some(Location::Feature(6)), ..Link::to_run(run.root()) });
    for (width, zoom) in [(1360.0, 1.0), (900.0, 1.0), (700.0, 1.0), (560.0, 1.0), (1360.0, 1.4)] {
        app.set_pixels_per_point(zoom);
        resize(&mut app, width / zoom, 600.0);
        for name in TILES {
            let tiles: Vec<Rect> = app.query_all_by_label_contains(name).map(|node| node.rect()).collect();
            assert!(!tiles.is_empty(), "{name} at {width}");
            for tile in tiles.iter().filter(|tile| tile.height() > 0.0) {
                assert!(tile.height() < 60.0 && tile.width() > 40.0, "{name} at {width}: {tile:?}");
                assert!(tile.right() <= width / zoom, "{name} at {width}: {tile:?}");
            }
        }
    }
}

#[test]
fn a_narrow_window_leaves_room_for_the_feature() {
    let (_dir, run) = fixture::run(64);
    for width in [900.0, 700.0] {
        let link = Link { location: Some(Location::Feature(6)), ..Link::to_run(run.root()) };
        let app = open_in(Harness::builder().with_size([width, 600.0]), link);
        let head = app.get_by_label("Label").rect();
        assert!(head.left() < 0.6 * width && head.width() > 0.35 * width, "{width}: {head:?}");
        let [title, opacity] =
            ["Strongest on text and on images", "heat-map opacity"].map(|text| app.get_by_label(text).rect());
        assert!(!title.intersects(opacity), "{width}: {title:?} {opacity:?}");
    }
}

/// Texts of several words that are drawn as a column of letters.
fn columns_of_letters(app: &Harness<'static, App>) -> Vec<String> {
    let text = |node: &Node<'_>| node.value().or(node.accesskit_node().label()).filter(|text| text.len() >= 6);
    let nodes = app.query_all_by(|node| matches!(node.role(), Role::Label | Role::Button));
    let squeezed = nodes.filter(|node| node.rect().width() < 24.0 && node.rect().height() > 50.0);
    squeezed.filter_map(|node| text(&node)).collect()
}

#[test]
fn no_page_draws_a_column_of_letters_in_a_narrow_window() {
    let (_dir, run) = fixture::run(64);
    fixture::log(&run);
    fixture::contrast(&run, "shape");
    fixture::probe(&run, "help");
    let places = [
        Location::Feature(6),
        Location::Sample(3),
        Location::Page(Page::Filter),
        Location::Page(Page::Playground),
        Location::Page(Page::Run),
        Location::Compare(6),
        Location::Page(Page::Contrast),
        Location::Page(Page::Probe),
    ];
    for location in places {
        let mut app = open(Link { location: Some(location), ..Link::to_run(run.root()) });
        for width in [1360.0, 900.0, 640.0, 480.0] {
            resize(&mut app, width, 600.0);
            assert_eq!(columns_of_letters(&app), [""; 0], "{location:?} at {width}");
        }
    }
}

#[test]
fn the_bar_on_top_stays_inside_a_narrow_window() {
    let (_dir, run) = fixture::run(64);
    let mut app = open(Link { location: Some(Location::Feature(6)), ..Link::to_run(run.root()) });
    for width in [1360.0, 900.0, 480.0] {
        resize(&mut app, width, 600.0);
        for name in ["Features", "Contrast", "Probe"] {
            let right = app.get_by_role_and_label(Role::Tab, name).rect().right();
            assert!(right <= width, "{name} ends at {right} of {width}");
        }
        let right = app.get_by_role_and_label(Role::Button, "?").rect().right();
        assert!(right <= width, "? ends at {right} of {width}");
        let right = app.get_by_label(SAE).rect().right();
        assert!(right <= width, "the autoencoder ends at {right} of {width}");
    }
}

#[test]
fn the_map_stays_under_the_pointer_while_it_is_enlarged() {
    let (_dir, run) = fixture::run(64);
    let link = Link { location: Some(Location::Feature(6)), ..Link::to_run(run.root()) };
    for width in [1360.0, 1180.0] {
        let mut app = open_in(Harness::builder().with_size([width, 800.0]), link.clone());
        let before = app.get_by_label("Map of features").rect();
        app.event(Event::PointerMoved(before.center()));
        app.run_steps(2);
        app.event(Event::MouseWheel {
            unit: egui::MouseWheelUnit::Line,
            delta: egui::vec2(0.0, 4.0),
            phase: egui::TouchPhase::Move,
            source: egui::MouseWheelSource::Unknown,
            modifiers: egui::Modifiers::NONE,
        });
        app.run_steps(12);
        app.get_by_label("Whole map");
        assert_eq!(app.get_by_label("Map of features").rect(), before, "{width}");
    }
}

#[test]
fn the_text_of_a_sample_is_visible_below_its_picture() {
    let (_dir, run) = fixture::run(64);
    let mut app = open(Link { location: Some(Location::Sample(3)), ..Link::to_run(run.root()) });
    for height in [860.0, 600.0] {
        resize(&mut app, 1360.0, height);
        let words = app.query_all_by_label_contains("ground").map(|node| node.rect());
        let bottom = words.filter(|word| word.left() < 680.0).map(|word| word.bottom()).fold(0.0, f32::max);
        assert!(bottom > 0.0, "the text is on the left");
        assert!(bottom < height - 30.0, "the text ends at {bottom} of {height}");
    }
}

#[test]
fn a_complaint_about_the_search_does_not_widen_its_pane() {
    let (_dir, run) = fixture::run(64);
    let mut app = open(Link { location: Some(Location::Feature(6)), ..Link::to_run(run.root()) });
    let place =
        |app: &Harness<'static, App>| (app.get_by_label("Search features").rect(), app.get_by_label("Label").rect());
    let before = place(&app);
    search(&mut app, "foo>3");
    app.run_steps(6);
    app.get_by_label_contains("Unknown field \"foo\"");
    assert_eq!(place(&app), before);
    // A link in the search field is a long word without a space.
    app.state_mut().session_mut().run_mut().unwrap().list.search("");
    search(&mut app, &format!("sae://{}/f/3", "a-very-long-folder-name/".repeat(12)));
    app.run_steps(6);
    assert_eq!(place(&app), before);
}
