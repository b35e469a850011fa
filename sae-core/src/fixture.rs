//! A small store for tests: samples with text and image tokens whose hidden states hold a few sparse directions.

use crate::store::run::Run;
use crate::store::sample::{ImageRef, Modality, Role, Sample, Token};
use crate::store::{Hook, Part, Store, StoreDtype, StoreSpec, StoreWriter};
use rand::RngExt;
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};
use tempfile::TempDir;

/// Samples in the store.
pub const SAMPLES: usize = 12;

/// Rows that are sums of a few of a dozen directions, plus a little noise.
pub fn hidden(rows: usize, d_in: usize, seed: u64) -> Vec<f32> {
    let mut dirs = ChaCha8Rng::seed_from_u64(0);
    let dirs: Vec<f32> = (0..12 * d_in).map(|_| dirs.random_range(-1.0..1.0)).collect();
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut out = vec![0.0; rows * d_in];
    for row in out.chunks_mut(d_in) {
        for dir in dirs.chunks(d_in) {
            if rng.random_range(0.0..1.0) < 0.2 {
                let strength = rng.random_range(0.5..2.0f32);
                row.iter_mut().zip(dir).for_each(|(v, w)| *v += strength * w);
            }
        }
        row.iter_mut().for_each(|v| *v += rng.random_range(-0.02..0.02));
    }
    out
}

/// The tokens of sample `n`: a begin token, four image patches, some words.
pub fn tokens(n: usize) -> Vec<Token> {
    let token = |position: u32, image: Option<i16>| Token {
        position,
        modality: if image.is_some() { Modality::Image } else { Modality::Text },
        token_id: position as i32,
        piece: format!("t{position}"),
        role: Role::User,
        special: position == 0,
        image,
        rect: image.map(|_| [0.0, 0.0, 0.5, 0.5]),
    };
    let words = 3 + n as u32 % 4;
    (0..5 + words).map(|p| token(p, (1..5).contains(&p).then_some(0))).collect()
}

/// A sample with an image.
pub fn sample(n: usize) -> Sample {
    Sample {
        id: format!("{n:064x}"),
        key: format!("key-{n}"),
        text: format!("text {n}"),
        images: vec![ImageRef { path: format!("{n}.png"), width: 8, height: 6, sha256: format!("{n:064x}") }],
        source: format!("data.jsonl:{n}"),
        meta: serde_json::json!({ "n": n }),
        piece: None,
    }
}

/// Samples `range` as a part.
pub fn part(range: std::ops::Range<usize>, d_in: usize, layers: usize) -> Part {
    let samples: Vec<_> = range.clone().map(|n| (sample(n), tokens(n))).collect();
    let states = |layer: usize| {
        let rows = range.clone().flat_map(|n| hidden(tokens(n).len(), d_in, (100 * layer + n) as u64));
        rows.collect::<Vec<_>>()
    };
    Part { samples, activations: (0..layers).map(states).collect(), source_rows: range.len() as u64, skipped: vec![] }
}

/// The spec of a store of these layers.
pub fn spec(layers: &[usize], d_in: usize) -> StoreSpec {
    StoreSpec {
        model: "tiny".into(),
        architecture: "Tiny".into(),
        hooks: layers.iter().copied().map(Hook::block).collect(),
        d_in,
        dtype: StoreDtype::F32,
        fingerprint: format!("{layers:?} {d_in}"),
        slice: None,
        pieces: false,
        critiques: false,
        arguments: serde_json::json!({}),
    }
}

/// A finished store of one layer, in three parts.
pub fn store(d_in: usize) -> (TempDir, Store) {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let run = Run::create(&dir.path().join("run")).expect("a new run");
    let mut writer = StoreWriter::open(&run, spec(&[2], d_in)).expect("a new store");
    for part_of in [0..4, 4..9, 9..SAMPLES] {
        writer.write_part(&part(part_of, d_in, 1)).expect("a part");
    }
    writer.finish().expect("a whole store");
    let store = Store::open(&run, "layers.2").expect("the store");
    (dir, store)
}
