//! Measures how long the pages of `sae serve` take on a run of a given size, with synthetic tables. What is measured is what a
//! browser waits for: a request over a socket, to the last byte of the answer.

use super::{median, noise};
use crate::control::{Cancel, Control, NoProgress};
use crate::serve::ServeRequest;
use crate::{Error, Result};
use arrow::array::{ArrayRef, Float64Array, StringArray, UInt32Array};
use sae_core::analysis::contrast::{self, Estimate, FeatureNote, TestedFeature};
use sae_core::analysis::index::{
    self, Bin, Coactive, Example, FeatureRow, Indexer, LogitBin, Neighbor, StrongestExample, TypicalWord, Word,
};
use sae_core::analysis::labels::{Change, Entry, Labels};
use sae_core::autoencoder::formats::{self, Format, Origin, Saved};
use sae_core::autoencoder::{Activation, Architecture, Weights};
use sae_core::store::sample::{ImageRef, Modality, Role, Sample, Token};
use sae_core::store::{Hook, Part, StoreDtype, StoreSpec, StoreWriter};
use sae_core::{Run, file, table};
use serde::Serialize;
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

/// Samples of a part.
const PART: usize = 4096;
/// The last of a sample's tokens that are patches of its image: one in four.
const PATCHES: usize = 4;
/// Labels that people wrote: one in so many features.
const LABELED: u32 = 32;
/// Names of score columns.
const SCORES: [&str; 12] = [
    "cosine_paper",
    "l0_paper",
    "co_l0_paper",
    "cosine_release",
    "l0_release",
    "co_l0_release",
    "cosine_corrected",
    "l0_corrected",
    "co_l0_corrected",
    "pmi",
    "pmi_blank",
    "random",
];
/// Words of texts.
const WORDS: [&str; 16] = [
    "red", "ring", "boat", "sea", "a", "the", "on", "left", "small", "circle", "dog", "sofa", "number", "map", "tall",
    "tree",
];

/// Which run to show.
#[derive(Clone, Debug)]
pub struct BenchServeRequest {
    /// Features of the autoencoder.
    pub features: usize,
    /// Samples.
    pub samples: usize,
    /// Token positions of a sample.
    pub tokens: usize,
    /// Width of the activations.
    pub d_in: usize,
    /// Requests of each page.
    pub requests: usize,
    /// A folder for the run, which is used again if it is there; if nothing, a temporary one.
    pub run: Option<PathBuf>,
}

/// What would be timed.
#[derive(Clone, Debug, Serialize)]
pub struct BenchServePlan {
    /// `bench serve`.
    pub command: &'static str,
    /// Features.
    pub features: usize,
    /// Samples.
    pub samples: usize,
    /// Token positions.
    pub positions: usize,
    /// Requests of each page.
    pub requests: usize,
}

/// What was timed.
#[derive(Clone, Debug, Serialize)]
pub struct BenchServeReport {
    /// The sizes.
    #[serde(flatten)]
    pub plan: BenchServePlan,
    /// Seconds until the server was ready.
    pub start_s: f64,
    /// The pages.
    pub pages: Vec<PageTime>,
}

/// How long a page takes.
#[derive(Clone, Debug, Serialize)]
pub struct PageTime {
    /// What is asked for.
    pub page: &'static str,
    /// Milliseconds of the first request.
    pub first_ms: f64,
    /// Median of all requests, in milliseconds.
    pub median_ms: f64,
    /// The slowest request but the first, in milliseconds.
    pub worst_ms: f64,
    /// Bytes of an answer at most.
    pub bytes: usize,
}

impl BenchServeRequest {
    /// What [`BenchServeRequest::run`] would time.
    ///
    /// # Errors
    /// Invalid sizes.
    pub fn plan(&self) -> Result<BenchServePlan> {
        if self.features < 32 || self.samples < 32 || self.tokens < PATCHES || self.d_in == 0 || self.requests < 2 {
            return Err(Error::Bench {
                expected: "at least 32 features and samples, 4 tokens, a width, and 2 requests",
            });
        }
        let positions = self.samples * self.tokens;
        let (features, samples, requests) = (self.features, self.samples, self.requests);
        Ok(BenchServePlan { command: "bench serve", features, samples, positions, requests })
    }

    /// Makes the run and times the pages.
    ///
    /// # Errors
    /// Invalid sizes, a full disk.
    pub fn run(&self) -> Result<BenchServeReport> {
        let plan = self.plan()?;
        let temporary = std::env::temp_dir().join(format!("sae-bench-serve-{}", std::process::id()));
        let folder = self.run.clone().unwrap_or_else(|| temporary.clone());
        let made = if folder.join("made").is_file() { Ok(()) } else { make(self, &folder) };
        let timed = made.and_then(|()| time(self, &folder));
        if self.run.is_none() && temporary.exists() {
            std::fs::remove_dir_all(&temporary).map_err(sae_core::Error::io("remove", &temporary))?;
        }
        let (start_s, pages) = timed?;
        Ok(BenchServeReport { plan, start_s, pages })
    }
}

/// A number that looks random; the same on every machine.
fn scattered(n: usize, salt: usize) -> usize {
    (n.wrapping_add(salt).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 24) & 0xff_ffff
}

fn words(n: usize, count: usize) -> String {
    (0..count).map(|k| WORDS[scattered(n, k) % WORDS.len()]).collect::<Vec<_>>().join(" ")
}

fn sample(n: usize, tokens: usize) -> (Sample, Vec<Token>) {
    let image = ImageRef { path: format!("images/{n}.jpg"), width: 640, height: 480, sha256: format!("{n:064x}") };
    let sample = Sample {
        id: format!("{:016x}{n:048x}", scattered(n, 7)),
        key: format!("row-{n}"),
        text: words(n, 64),
        images: vec![image],
        source: format!("data.jsonl:{n}"),
        meta: json!({ "category": WORDS[n % WORDS.len()], "year": 1990 + n % 30 }),
        piece: None,
    };
    let patches = tokens / PATCHES;
    let token = |position: usize| {
        let patch = (tokens - position).checked_sub(1).filter(|patch| *patch < patches);
        let corner = patch.map(|patch| patch as f32 / patches as f32);
        Token {
            position: position as u32,
            modality: if patch.is_some() { Modality::Image } else { Modality::Text },
            token_id: position as i32,
            piece: if patch.is_some() { String::new() } else { format!("\u{2581}{}", words(n + position, 1)) },
            role: Role::User,
            special: position == 0,
            image: patch.map(|_| 0),
            rect: corner.map(|x| [x, 0.0, x + 1.0 / patches as f32, 1.0]),
        }
    };
    (sample, (0..tokens).map(token).collect())
}

/// Writes a run of these sizes.
fn make(request: &BenchServeRequest, folder: &Path) -> Result<()> {
    let run = Run::create(folder)?;
    store(request, &run)?;
    let sae = run.sae_dir("base");
    formats::create(Format::SaeLens, &sae, &autoencoder(request))?;
    run.write_step("train/base", &json!({ "hook": "layers.0" }))?;
    index_tables(request, &run)?;
    let positions = [request.samples * request.tokens, request.samples, request.samples];
    run.write_step("index/base", &json!({ "positions": positions, "threshold": 0.5 }))?;
    scores(request, &run)?;
    contrast_tables(request, &run)?;
    let label = |feature: u32| {
        let label = words(feature as usize, 3);
        let after = Entry { label, author: "bench".into(), ..Entry::empty(feature) };
        Change::Entry { before: Entry::empty(feature), after }
    };
    let changes: Vec<Change> = (0..request.features as u32).step_by(LABELED as usize).map(label).collect();
    Labels::save(&run, "base", &changes, &Labels::default())?;
    Ok(file::write_bytes(&folder.join("made"), b"")?)
}

fn store(request: &BenchServeRequest, run: &Run) -> Result<()> {
    let spec = StoreSpec {
        model: "synthetic".into(),
        architecture: "synthetic".into(),
        hooks: vec![Hook::block(0)],
        d_in: request.d_in,
        dtype: StoreDtype::Bf16,
        fingerprint: "bench".into(),
        slice: None,
        pieces: false,
        critiques: false,
        arguments: json!({ "data_root": run.root() }),
    };
    let mut writer = StoreWriter::open(run, spec)?;
    let mut noise = noise(1);
    for start in (0..request.samples).step_by(PART) {
        let end = (start + PART).min(request.samples);
        let samples: Vec<_> = (start..end).map(|n| sample(n, request.tokens)).collect();
        let values = (end - start) * request.tokens * request.d_in;
        let activations = vec![(0..values).map(|_| noise()).collect()];
        writer.write_part(&Part { samples, activations, source_rows: (end - start) as u64, skipped: vec![] })?;
    }
    writer.finish()?;
    Ok(())
}

fn autoencoder(request: &BenchServeRequest) -> Saved {
    let (d_in, d_sae) = (request.d_in, request.features);
    let mut noise = noise(2);
    let w: Vec<f32> = (0..d_in * d_sae).map(|_| noise()).collect();
    let weights = Weights {
        d_in,
        d_sae,
        w_enc: w.clone(),
        b_enc: vec![0.0; d_sae],
        w_dec: w,
        b_dec: vec![0.0; d_in],
        activation: Activation::TopK { k: 32 },
        ..Weights::default()
    };
    let origin = Origin { model: "synthetic".into(), hook: "layers.0".into(), ..Origin::default() };
    Saved { architecture: Architecture::TopK, weights, origin }
}

fn index_tables(request: &BenchServeRequest, run: &Run) -> Result<()> {
    let (folder, features) = (run.features("base"), request.features);
    let at = |name: &str| folder.join(name);
    let example = |feature: usize, n: usize| {
        let sample = scattered(feature, n) % request.samples;
        let position = scattered(feature, n + 1000) % request.tokens;
        let is_text = position < request.tokens - request.tokens / PATCHES;
        let modality = if is_text { Modality::Text } else { Modality::Image };
        // From the maximum down over six octaves, as the groups of an index are.
        let activation = 8.0 * (-(n as f32) / 5.0).exp2();
        Example { activation, sample: sample as u32, position: position as u32, modality }
    };
    let mut indexer = Indexer::new(features);
    for feature in 0..features {
        (0..30).for_each(|n| indexer.examples.offer(feature as u32, example(feature, n)));
    }
    index::write_examples(&at("examples.parquet"), &indexer)?;
    drop(indexer);
    let other = |feature: usize, n: usize| (scattered(feature, n) % features) as u32;
    let near = |feature| {
        (0..10).map(|n| Neighbor { feature: other(feature, n), cosine: 0.9 - 0.05 * n as f32 }).collect::<Vec<_>>()
    };
    index::write_neighbors(&at("neighbours.parquet"), &(0..features).map(near).collect::<Vec<_>>())?;
    let bins = |_: usize| {
        (-8..12).map(|number| Bin { number, fires: 100, fires_text: 60, fires_image: 40 }).collect::<Vec<_>>()
    };
    index::write_lists(&at("histogram.parquet"), features, bins)?;
    let with = |feature| {
        let with = |n: usize| Coactive { feature: other(feature, n + 50), together: 9, jaccard: 0.5 - 0.04 * n as f32 };
        (0..10).map(with).collect::<Vec<_>>()
    };
    index::write_lists(&at("coactive.parquet"), features, with)?;
    let effects = |feature| {
        let word = |n: usize| Word {
            promoted: n < 10,
            token_id: n as u32,
            piece: words(feature + n, 1),
            logit: if n < 10 { 1.0 } else { -1.0 },
        };
        (0..20).map(word).collect::<Vec<_>>()
    };
    index::write_lists(&at("logits.parquet"), features, effects)?;
    index::write_lists(&at("logit_histogram.parquet"), features, |_| {
        vec![LogitBin { low: -1.0, high: 1.0, tokens: 9 }]
    })?;
    index::write_lists(&at("strongest.parquet"), features, |feature| {
        (0..10).map(|n| StrongestExample(example(feature, n))).collect()
    })?;
    let typical = |feature| {
        let word = |n: usize| TypicalWord { modality: Modality::Text, word: words(feature + n, 1), share: 0.5 };
        (0..3).map(word).collect::<Vec<_>>()
    };
    index::write_lists(&at("words.parquet"), features, typical)?;
    let row = |feature: usize| FeatureRow {
        feature: feature as u32,
        fires: 2000,
        fires_text: 1200,
        fires_image: 800,
        density: scattered(feature, 1) as f64 / 1e9,
        max: 8.0,
        max_text: 8.0,
        max_image: 4.0,
        mean: 1.0,
        class: ["text", "image", "cross", "dead"][scattered(feature, 2) % 4].into(),
        weight_paper: Some(scattered(feature, 3) as f64 / 2e7),
        weight_release: None,
        weight_corrected: Some(scattered(feature, 4) as f64 / 2e7),
        weight_se: Some(0.01),
    };
    Ok(index::write_features(&at("features.parquet"), &(0..features).map(row).collect::<Vec<_>>())?)
}

fn scores(request: &BenchServeRequest, run: &Run) -> Result<()> {
    let samples = request.samples;
    let ids = StringArray::from_iter_values((0..samples).map(|n| format!("{:016x}{n:048x}", scattered(n, 7))));
    let mut columns: Vec<(&str, ArrayRef, bool)> = vec![
        ("sample", Arc::new(UInt32Array::from_iter_values(0..samples as u32)), false),
        ("id", Arc::new(ids), false),
    ];
    for (salt, name) in SCORES.into_iter().enumerate() {
        let values = (0..samples).map(|n| (scattered(n, salt) % 100_003) as f64 / 1e5);
        columns.push((name, Arc::new(Float64Array::from_iter_values(values)), true));
    }
    let path = run.scores("base");
    let batch = arrow::array::RecordBatch::try_from_iter_with_nullable(columns);
    Ok(table::write(&path, &batch.map_err(sae_core::Error::format(&path))?)?)
}

fn contrast_tables(request: &BenchServeRequest, run: &Run) -> Result<()> {
    let folder = run.root().join("contrasts/groups");
    let test = |feature: usize| TestedFeature {
        feature: feature as u32,
        samples: 1000,
        clusters: 1000,
        prevalence: 0.5,
        prevalence_rest: Some(0.4),
        estimate: Estimate { effect: 0.1, lo: 0.05, hi: 0.15 },
        z: scattered(feature, 5) as f64 / 1e6,
        p: Some(0.01),
        q: Some(0.02),
        is_found: feature.is_multiple_of(16),
        ..TestedFeature::default()
    };
    let rows: Vec<TestedFeature> = (0..request.features).map(test).collect();
    let notes = vec![FeatureNote::default(); rows.len()];
    contrast::write_features(&folder.join("features.parquet"), &["group".into()], &rows, &notes)?;
    let summary: Value =
        json!({ "name": "groups", "samples": request.samples, "tested": rows.len(), "differing": rows.len() / 16 });
    Ok(file::write_json(&folder.join("contrast.json"), &summary)?)
}

/// Starts a server on the run and asks for its pages.
fn time(request: &BenchServeRequest, folder: &Path) -> Result<(f64, Vec<PageTime>)> {
    let begun = Instant::now();
    let server = ServeRequest::new(folder).bind()?;
    let start = begun.elapsed().as_secs_f64();
    let url = server.url();
    let cancel = Cancel::new();
    let control = cancel.clone();
    let thread = std::thread::spawn(move || server.run(&Control::new(NoProgress, control)));
    let pages = ask_all(request, &url);
    cancel.cancel();
    // A server that panicked has answered nothing, which is an error already.
    let ended = thread.join().unwrap_or(Ok(()));
    let pages = pages?;
    ended?;
    Ok((start, pages))
}

type PageAddress = fn(&BenchServeRequest, usize) -> String;

/// The pages, with the address of the nth request of each.
const PAGES: [(&str, PageAddress); 13] = [
    ("/features", |_, _| "/features".into()),
    ("/features, a word", |_, n| format!("/features?search={}", WORDS[n % WORDS.len()])),
    ("/features, conditions", |_, n| format!("/features?search=class:cross+density%3E0.00{}&page=3", n % 10)),
    ("/features, another order", |_, n| {
        let column = ["-max,feature", "feature,-max", "-weight,class", "class,-weight", "-density,max"][n % 5];
        format!("/features?sort={column}&page={}", n + 1)
    }),
    ("/features, by label", |_, n| format!("/features?sort={}label,feature", if n % 2 == 0 { "" } else { "-" })),
    ("/f/N", |request, n| format!("/f/{}", scattered(n, 11) % request.features)),
    ("/s/N", |request, n| format!("/s/{}", scattered(n, 12) % request.samples)),
    ("/filter, every score", |_, n| format!("/filter?by={}&keep=50%25", SCORES[n % SCORES.len()])),
    ("/filter, every share", |_, n| format!("/filter?by=pmi&keep={}%25", 1 + n % 99)),
    ("/contrast/NAME", |_, n| format!("/contrast/groups?page={}", n + 1)),
    ("/run", |_, _| "/run".into()),
    ("/api/features", |_, n| format!("/api/features?page={}", n + 1)),
    ("/api/features/N", |request, n| format!("/api/features/{}", scattered(n, 13) % request.features)),
];

fn ask_all(request: &BenchServeRequest, url: &str) -> Result<Vec<PageTime>> {
    let pages = PAGES.iter().map(|(page, address)| {
        let mut times = Vec::new();
        let mut bytes = 0;
        for n in 0..request.requests {
            let begun = Instant::now();
            bytes = bytes.max(ask(url, &address(request, n))?);
            times.push(1e3 * begun.elapsed().as_secs_f64());
        }
        let first_ms = times[0];
        let worst_ms = times[1..].iter().copied().fold(0.0, f64::max);
        Ok(PageTime { page, first_ms, median_ms: median(times), worst_ms, bytes })
    });
    pages.collect()
}

/// Asks for a page and reads the whole answer. Returns its length.
fn ask(url: &str, path: &str) -> Result<usize> {
    let address = url.trim_start_matches("http://").split('/').next().unwrap_or_default();
    let token = url.rsplit_once("token=").map_or("", |(_, token)| token);
    let failed = |source: std::io::Error| sae_core::Error::io("ask for", Path::new(path))(source);
    let mut stream = TcpStream::connect(address).map_err(failed)?;
    let head =
        format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).map_err(failed)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).map_err(failed)?;
    if !answer.starts_with(b"HTTP/1.1 200") {
        let answer = String::from_utf8_lossy(&answer[..answer.len().min(2000)]).into_owned();
        return Err(failed(std::io::Error::other(answer)).into());
    }
    Ok(answer.len())
}
