//! What a frame of the app costs at 65,536 features with their examples: layout and tessellation on the CPU, without a
//! display, page by page; opening time and memory. `cargo run --release -p sae-gui --example frames [FEATURES]`.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a measurement")]

#[path = "../tests/fixture.rs"]
#[allow(dead_code, reason = "the tests use the rest")]
mod fixture;

use egui::{Event, Key, Modifiers};
use egui_kittest::Harness;
use sae_core::Run;
use sae_core::analysis::contrast::{self, Estimate, FeatureNote, TestedFeature};
use sae_core::analysis::layout::decoder_layout;
use sae_core::autoencoder::Weights;
use sae_core::random::{SplitMix64, mix};
use sae_core::store::Paths;
use sae_core::store::sample::Sample;
use sae_gui::state::Link;
use sae_gui::state::field::Field;
use sae_gui::state::list::FeatureList;
use sae_gui::state::location::{Location, Page};
use sae_gui::view::{App, Options};
use sae_workbench::caption_search::CaptionSearch;
use std::time::{Duration, Instant};

/// Frames of a measurement.
const FRAMES: usize = 200;

fn main() {
    let features = std::env::args().nth(1).map_or(65_536, |number| number.parse().unwrap());
    let (_dir, run) = fixture::run_of(features, features);
    contrast(&run, features as u32);
    fixture::probe(&run, "help");
    let begun = Instant::now();
    let options = Options {
        link: Some(Link { run: run.root().into(), sae: None, location: Some(Location::Feature(2)), ..Link::default() }),
        ..Options::default()
    };
    let builder = Harness::builder().with_size([1360.0, 860.0]);
    let mut app = builder.build_eframe(|cc| App::new(&cc.egui_ctx, options).unwrap());
    while app.state().session().run().is_none() {
        app.step();
    }
    println!("{features} features: the table is there after {:?}", begun.elapsed());
    settle(&mut app);
    println!("everything on the first page is there after {:?}", begun.elapsed());
    println!("{:34} {:>9} {:>9} {:>9}", "", "median", "95%", "worst");
    measure(&mut app, "table, nothing happens", |_| vec![]);
    measure(&mut app, "table, walking down", |_| vec![key(Key::J)]);
    settle(&mut app);
    measure(&mut app, "table, hover", |n| vec![Event::PointerMoved(egui::pos2(100.0 + n as f32, 500.0))]);
    measure(&mut app, "table, scrolling", |_| vec![Event::PointerMoved(egui::pos2(200.0, 600.0)), wheel()]);
    // The map is counted and uploaded anew whenever other features are shown.
    let search = ["", "class:cross", "class:image", "density>0.01"];
    measure_with(&mut app, "map, redrawn for a search", |app, n| {
        let run = app.state_mut().session_mut().run_mut().unwrap();
        run.list.search(search[n % search.len()]);
        vec![]
    });
    measure(&mut app, "examples, scrolling", |n| {
        let down = if n % 40 < 20 { -120.0 } else { 120.0 };
        vec![Event::PointerMoved(egui::pos2(1000.0, 600.0)), wheel_by(down)]
    });
    for (page, what) in [
        (Page::Samples, "samples"),
        (Page::Sample, "sample"),
        (Page::Filter, "filter"),
        (Page::Run, "run"),
        (Page::Playground, "playground"),
        (Page::Compare, "compare"),
        (Page::Contrast, "contrast"),
        (Page::Probe, "probe"),
    ] {
        app.state_mut().session_mut().go(Location::Page(page), sae_gui::state::history::VisitKind::Chosen);
        settle(&mut app);
        measure(&mut app, &format!("page {what}, hover"), |n| {
            vec![Event::PointerMoved(egui::pos2(100.0 + 3.0 * n as f32, 400.0))]
        });
    }
    let mut list = app.state().session().run().unwrap().list.clone();
    let mut timed = |what: &str, act: &dyn Fn(&mut FeatureList)| {
        let begun = Instant::now();
        act(&mut list);
        println!("{what}: {:?}", begun.elapsed());
    };
    timed("sorting by density", &|list| list.sort_by(Field::Density));
    timed("sorting by class", &|list| list.sort_by(Field::Class));
    timed("searching", &|list| list.search("class:cross density>1e-4 weight>0.2"));
    let (captions, samples) = captions(features);
    let begun = Instant::now();
    let shares = captions.shares(&samples, &Paths::default(), "w0123");
    println!("caption:w0123 in {} captions, on the loader's thread: {:?}", samples.len(), begun.elapsed());
    list.search("caption:w0123");
    let begun = Instant::now();
    list.set_captions("w0123".into(), Ok(shares));
    println!("showing the {} features that it finds: {:?}", list.len(), begun.elapsed());
    if let Some(memory) = memory() {
        println!("memory: {memory} MB resident now, {} at most", peak().unwrap_or_default());
    }
    println!("layout of {features} directions of width 4096, on a thread of its own: {:?}", layout(features, 4096));
}

/// A contrast with a test of every feature, a hundredth of which differ, in front of as many with shuffled values.
fn contrast(run: &Run, features: u32) {
    fixture::contrast(run, "all");
    let test = |feature: u32, salt: u64| {
        let random = |k: u64| SplitMix64::new(mix(u64::from(feature) << 8 | k) ^ salt).next_f64();
        let effect = (random(1) + random(2) + random(3) - 1.5) / 5.0;
        let p = 10f64.powf(-80.0 * effect * effect * random(4));
        let estimate = Estimate { effect, lo: effect - 0.02, hi: effect + 0.02 };
        let is_found = feature.is_multiple_of(100);
        TestedFeature {
            feature,
            estimate,
            p: Some(p),
            q: Some(p),
            z: 9.0 * effect,
            is_found,
            ..TestedFeature::default()
        }
    };
    let rows = |salt| (0..features).map(|feature| test(feature, salt)).collect::<Vec<_>>();
    let (folder, columns) = (run.root().join("contrasts/all"), ["ring".to_owned()]);
    let notes = vec![FeatureNote::default(); features as usize];
    contrast::write_features(&folder.join("features.parquet"), &columns, &rows(0), &notes).unwrap();
    contrast::write_chance(&folder.join("shuffled.parquet"), &columns, &rows(1)).unwrap();
}

/// The time that the layout of as many directions of this width takes.
fn layout(features: usize, width: usize) -> Duration {
    let mut random = SplitMix64::new(1);
    let w_dec: Vec<f32> = (0..features * width).map(|_| random.next_f64() as f32 - 0.5).collect();
    let weights = Weights { d_in: width, d_sae: features, w_dec, ..Weights::default() };
    let all: Vec<u32> = (0..features as u32).collect();
    let begun = Instant::now();
    decoder_layout(&weights, &all);
    begun.elapsed()
}

/// A hundred thousand captions of forty words, of which every feature has twenty strongest ones.
fn captions(features: usize) -> (CaptionSearch, Vec<Sample>) {
    const CAPTIONS: u32 = 100_000;
    let word = |n: u64| format!("w{:04} ", mix(n) % 10_000);
    let caption = |n: u32| Sample {
        id: String::new(),
        key: String::new(),
        text: (0..40).map(|k| word(u64::from(n) << 8 | k)).collect(),
        images: vec![],
        source: String::new(),
        meta: serde_json::Value::Null,
        piece: None,
    };
    let strongest = |feature: u64| (0..20).map(move |k| (mix(feature << 8 | k) % u64::from(CAPTIONS)) as u32);
    (CaptionSearch::new((0..features as u64).map(strongest)), (0..CAPTIONS).map(caption).collect())
}

fn settle(app: &mut Harness<'static, App>) {
    app.run_steps(2);
    while !app.state().is_settled() {
        std::thread::sleep(Duration::from_millis(2));
        app.step();
    }
    app.run_steps(3);
}

fn key(key: Key) -> Event {
    Event::Key { key, physical_key: None, pressed: true, repeat: false, modifiers: Modifiers::NONE }
}

fn wheel() -> Event {
    wheel_by(-200.0)
}

fn wheel_by(down: f32) -> Event {
    Event::MouseWheel {
        unit: egui::MouseWheelUnit::Line,
        delta: egui::vec2(0.0, down),
        phase: egui::TouchPhase::Move,
        source: egui::MouseWheelSource::Unknown,
        modifiers: Modifiers::NONE,
    }
}

fn measure(app: &mut Harness<'static, App>, what: &str, mut events: impl FnMut(usize) -> Vec<Event>) {
    measure_with(app, what, |_, n| events(n));
}

fn measure_with(
    app: &mut Harness<'static, App>,
    what: &str,
    mut events: impl FnMut(&mut Harness<'static, App>, usize) -> Vec<Event>,
) {
    let mut times = Vec::with_capacity(FRAMES);
    for n in 0..FRAMES {
        let events = events(app, n);
        // Straight into the input: the harness would give every event a frame of its own.
        app.input_mut().events.extend(events);
        let begun = Instant::now();
        app.step();
        app.ctx.tessellate(app.output().shapes.clone(), 1.0);
        times.push(begun.elapsed());
    }
    times.sort();
    let at = |share: f64| format!("{:.2} ms", 1e3 * times[(share * (FRAMES - 1) as f64) as usize].as_secs_f64());
    println!("{what:34} {:>9} {:>9} {:>9}", at(0.5), at(0.95), at(1.0));
}

/// A line of the process's own account of its memory, in MB; Linux alone keeps one.
fn account(name: &str) -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with(name))?;
    Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? / 1024)
}

fn memory() -> Option<u64> {
    account("VmRSS")
}

fn peak() -> Option<u64> {
    account("VmHWM")
}
