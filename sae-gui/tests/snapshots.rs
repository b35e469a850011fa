//! Every page as the real program draws it in a real window under Xvfb, next to a picture of how it is meant to be.
//! `SAE_UPDATE=1 cargo test ...` writes the pictures anew; look at them before they are committed.

use crate::fixture::{self, SAE};
use crate::window::{display, shoot};
use image::RgbImage;
use image::imageops::{FilterType, resize};
use sae_gui::state::Link;
use sae_gui::state::location::{Location, Page};
use std::path::Path;

/// Pixels that are compared as one: how a font is smoothed differs between graphics libraries, where a field stands does not.
const BLOCK: u32 = 8;
/// Difference of a channel that is none.
const TOLERANCE: u8 = 24;
/// Share of the blocks that may differ.
const DIFFERENT: f64 = 0.01;

fn small(picture: &RgbImage) -> RgbImage {
    resize(picture, picture.width() / BLOCK, picture.height() / BLOCK, FilterType::Triangle)
}

/// The share of blocks that differ.
fn different(a: &RgbImage, b: &RgbImage) -> f64 {
    if a.dimensions() != b.dimensions() {
        return 1.0;
    }
    let (a, b) = (small(a), small(b));
    let differs =
        |(a, b): &(&image::Rgb<u8>, &image::Rgb<u8>)| a.0.iter().zip(b.0).any(|(a, b)| a.abs_diff(b) > TOLERANCE);
    a.pixels().zip(b.pixels()).filter(differs).count() as f64 / (a.width() * a.height()) as f64
}

#[test]
fn a_moved_field_is_another_picture_and_a_smoothed_edge_is_not() {
    let square = |left: u32| {
        RgbImage::from_fn(320, 240, |x, y| {
            image::Rgb([if (left..left + 60).contains(&x) && y > 90 { 20 } else { 240 }; 3])
        })
    };
    let mut edge = square(100);
    (90..240).for_each(|y| edge.put_pixel(100, y, image::Rgb([130; 3])));
    assert_eq!(different(&square(100), &edge), 0.0);
    assert!(different(&square(100), &square(124)) > DIFFERENT);
    assert_eq!(different(&square(100), &RgbImage::new(10, 10)), 1.0);
}

#[test]
fn every_page_looks_as_it_is_meant_to() {
    if !display() {
        return;
    }
    let (dir, run) = fixture::run(64);
    fixture::log(&run);
    fixture::labels(&run);
    fixture::contrast(&run, "shape");
    fixture::probe(&run, "help");
    fixture::models(&run, "models");
    fixture::series(&run, "series");
    let places = [
        ("features", Location::Feature(6), "light"),
        ("features-dark", Location::Feature(6), "dark"),
        ("sample", Location::Sample(5), "light"),
        ("filter", Location::Page(Page::Filter), "light"),
        ("playground", Location::Page(Page::Playground), "light"),
        ("run", Location::Page(Page::Run), "light"),
        ("contrast", Location::Page(Page::Contrast), "light"),
        ("models", Location::Page(Page::Contrast), "light"),
        ("models-dark", Location::Page(Page::Contrast), "dark"),
        ("series", Location::Page(Page::Contrast), "light"),
        ("series-dark", Location::Page(Page::Contrast), "dark"),
        ("probe", Location::Page(Page::Probe), "light"),
        ("probe-dark", Location::Page(Page::Probe), "dark"),
    ];
    let mut wrong = Vec::new();
    for (name, place, theme) in places {
        let picture = dir.path().join(format!("{name}.png"));
        let contrast = name.split('-').next().filter(|name| ["models", "series"].contains(name)).unwrap_or("shape");
        let shown = (place == Location::Page(Page::Contrast)).then(|| contrast.to_owned());
        let link =
            Link { sae: Some(SAE.into()), location: Some(place), name: shown, ..Link::to_run(run.root()) }.to_string();
        let output = shoot(&link, &picture, &["--theme", theme]);
        assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
        let own = image::open(&picture).unwrap().into_rgb8();
        let meant = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/snapshots").join(format!("{name}.png"));
        if std::env::var_os("SAE_UPDATE").is_some() {
            std::fs::create_dir_all(meant.parent().unwrap()).unwrap();
            own.save(&meant).unwrap();
            continue;
        }
        let share = different(&own, &image::open(&meant).unwrap().into_rgb8());
        if share > DIFFERENT {
            let kept = std::env::temp_dir().join(format!("sae-gui-{name}.png"));
            own.save(&kept).unwrap();
            wrong.push(format!("{name}: {:.1} % of the picture differs: {}", 100.0 * share, kept.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
