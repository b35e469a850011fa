//! Runs the fuzz targets of `fuzz/targets.rs` on stable Rust, on random mutations of seeds for a given number of seconds. It
//! finds less than cargo-fuzz, which is guided by coverage, but needs only this repository. The first input of each panic is
//! written to a file that is named after the seed of its random numbers, and the runner continues.
//!
//! ```text
//! cargo run --release -p sae-harvest --example fuzz -- SECONDS [TARGET ...]
//! ```
#![allow(clippy::print_stdout, clippy::expect_used, reason = "a tool for developers, which says what it did")]

#[path = "../../fuzz/targets.rs"]
#[allow(dead_code, reason = "what only cargo-fuzz needs")]
mod targets;

use rand::{Rng, RngExt};
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};
use std::collections::BTreeSet;
use std::fs;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use targets::{TARGETS, Target, repository};

#[global_allocator]
static ALLOC: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The location of the last panic.
static PANIC: Mutex<String> = Mutex::new(String::new());

/// Maximum size of an input in bytes.
const LARGEST: usize = 1 << 16;
/// The time after which an input is reported as slow.
const SLOW: Duration = Duration::from_secs(1);

/// Bytes that have a meaning for some of the readers.
const WORDS: [&[u8]; 26] = [
    b"null",
    b"{}",
    b"[]",
    b"\"\"",
    b"NaN",
    b"-1",
    b"1e999",
    b"18446744073709551615",
    b"\\ud800",
    b"\xef\xbb\xbf",
    b"\xff",
    b"\0",
    b"<image>",
    b"\"image\"",
    b"\"images\"",
    b"\"text\"",
    b"\"content\"",
    b"\r\n",
    b"\"",
    b",",
    b"{{",
    b"{%",
    b"%}",
    b"}}",
    b"\xff\xff\xff\xff",
    b"\xff\xff\xff\x7f",
];

fn main() {
    let mut arguments = std::env::args().skip(1);
    let seconds = arguments.next().and_then(|seconds| seconds.parse().ok()).expect("SECONDS [TARGET ...]");
    let wanted: Vec<String> = arguments.collect();
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(|place| format!("{}:{}", place.file(), place.line()));
        *PANIC.lock().unwrap_or_else(PoisonError::into_inner) = place.unwrap_or_default();
    }));
    let mut findings = 0;
    for target in TARGETS.iter().filter(|target| wanted.is_empty() || wanted.iter().any(|name| name == target.name)) {
        findings += fuzz(target, Duration::from_secs(seconds));
    }
    std::process::exit(i32::from(findings > 0));
}

/// Runs a target and returns how many inputs made it panic.
fn fuzz(target: &Target, time: Duration) -> u32 {
    let seeds = seeds(target);
    let begun = Instant::now();
    let (mut runs, mut findings, mut slowest) = (0u64, 0, Duration::ZERO);
    let mut places = BTreeSet::new();
    while begun.elapsed() < time {
        let mut rng = ChaCha8Rng::seed_from_u64(runs);
        let input = if runs < seeds.len() as u64 { seeds[runs as usize].clone() } else { mutated(&seeds, &mut rng) };
        let started = Instant::now();
        if catch_unwind(|| (target.run)(&input)).is_err() {
            findings += 1;
            let place = PANIC.lock().unwrap_or_else(PoisonError::into_inner).clone();
            if places.insert(place.clone()) {
                let path = PathBuf::from(format!("finding-{}-{runs}", target.name));
                fs::write(&path, &input).expect("room for a finding");
                println!("{}: panic at {place}: {}", target.name, path.display());
            }
        }
        slowest = slowest.max(started.elapsed());
        if started.elapsed() > SLOW {
            let path = PathBuf::from(format!("slow-{}-{runs}", target.name));
            let _ = fs::write(&path, &input);
            println!("{}: {:.1} s: {}", target.name, started.elapsed().as_secs_f64(), path.display());
        }
        runs += 1;
    }
    println!(
        "{}: {runs} inputs of {} seeds in {:.0} s, {findings} findings, the slowest {:.3} s",
        target.name,
        seeds.len(),
        begun.elapsed().as_secs_f64(),
        slowest.as_secs_f64()
    );
    findings
}

fn seeds(target: &Target) -> Vec<Vec<u8>> {
    let mut seeds: Vec<Vec<u8>> = target.texts.iter().map(|text| text.as_bytes().to_vec()).collect();
    if !target.texts.is_empty() {
        seeds.push(target.texts.join("\n").into_bytes());
    }
    target.seeds.iter().for_each(|seed| collect(&repository().join(seed), &mut seeds));
    match target.name {
        "parquet" => seeds.extend([table(false), table(true)]),
        "tar" | "archive" => seeds.push(archive()),
        _ => {}
    }
    if seeds.is_empty() {
        seeds.push(Vec::new());
    }
    seeds
}

/// The files below a path that are small enough.
fn collect(path: &Path, seeds: &mut Vec<Vec<u8>>) {
    if let Ok(entries) = fs::read_dir(path) {
        let mut paths: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
        paths.sort();
        paths.iter().for_each(|path| collect(path, seeds));
    } else if let Ok(bytes) = fs::read(path)
        && bytes.len() <= LARGEST
    {
        seeds.push(bytes);
    }
}

/// A table with columns that data sets have.
fn table(compressed: bool) -> Vec<u8> {
    use arrow::array::{
        ArrayRef, BinaryArray, Int64Array, RecordBatch, StringArray, StructArray, TimestampMicrosecondArray,
    };
    use arrow::datatypes::{DataType, Field};
    use parquet::basic::{Compression, ZstdLevel};
    use std::sync::Arc;
    let png = fs::read(repository().join("tests/golden/llava-a/images/square.png")).expect("a golden image");
    let bytes: ArrayRef = Arc::new(BinaryArray::from_vec(vec![&png[..]; 3]));
    let path: ArrayRef = Arc::new(StringArray::from(vec![Some("a.png"), None, Some("c.png")]));
    let image = StructArray::from(vec![
        (Arc::new(Field::new("bytes", DataType::Binary, true)), bytes),
        (Arc::new(Field::new("path", DataType::Utf8, true)), path),
    ]);
    let columns: [(&str, ArrayRef); 4] = [
        ("image", Arc::new(image)),
        ("text", Arc::new(StringArray::from(vec![Some("a ring"), None, Some("a hat")]))),
        ("id", Arc::new(Int64Array::from(vec![1, 2, 3]))),
        ("when", Arc::new(TimestampMicrosecondArray::from(vec![1, 2, 3]).with_timezone("UTC"))),
    ];
    let batch = RecordBatch::try_from_iter(columns).expect("columns of one length");
    let compression = if compressed { Compression::ZSTD(ZstdLevel::default()) } else { Compression::UNCOMPRESSED };
    let options = parquet::file::properties::WriterProperties::builder().set_compression(compression).build();
    let mut file = Vec::new();
    let mut writer = parquet::arrow::ArrowWriter::try_new(&mut file, batch.schema(), Some(options)).expect("a writer");
    writer.write(&batch).expect("a batch");
    writer.close().expect("an end");
    file
}

/// An archive with an image and a caption, and with an image and an object.
fn archive() -> Vec<u8> {
    let png = fs::read(repository().join("tests/golden/llava-a/images/square.png")).expect("a golden image");
    let members: [(&str, &[u8]); 5] = [
        ("000.png", &png),
        ("000.txt", b"a ring"),
        ("001.png", &png),
        ("001.json", br#"{"text": "a hat", "id": "x"}"#),
        ("002.txt", b"words alone"),
    ];
    let mut archive = tar::Builder::new(Vec::new());
    for (name, bytes) in members {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        archive.append_data(&mut header, name, bytes).expect("a member");
    }
    archive.into_inner().expect("an end")
}

/// One of the seeds with a few changes.
fn mutated(seeds: &[Vec<u8>], rng: &mut impl Rng) -> Vec<u8> {
    let pick = |rng: &mut dyn FnMut(usize) -> usize| seeds[rng(seeds.len())].clone();
    let mut below = |n: usize| rng.random_range(0..n.max(1));
    let mut input = pick(&mut below);
    for _ in 0..1 + below(6) {
        let at = below(input.len() + 1);
        let end = (at + 1 + below(64)).min(input.len());
        match below(8) {
            0 if at < input.len() => input[at] ^= 1 << below(8),
            1 if at < input.len() => input[at] = below(256) as u8,
            2 => drop(input.splice(at..at, WORDS[below(WORDS.len())].iter().copied())),
            3 => drop(input.splice(at..end, WORDS[below(WORDS.len())].iter().copied())),
            4 => drop(input.drain(at..end)),
            5 => {
                let again = input[at..end].repeat(1 + below(4));
                drop(input.splice(at..at, again));
            }
            6 => {
                let other = pick(&mut below);
                let from = below(other.len() + 1);
                let to = (from + below(256)).min(other.len());
                drop(input.splice(at..at, other[from..to].iter().copied()));
            }
            _ if below(8) == 0 => input.truncate(at),
            _ => {}
        }
    }
    input.truncate(LARGEST);
    input
}
