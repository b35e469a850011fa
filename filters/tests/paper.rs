//! The published formulas against an independent plain implementation, and against examples worked by hand.

#![allow(clippy::unwrap_used)] // a test that cannot go on fails

use filters::PAPER_THRESHOLD;
use filters::active::{ActiveSet, ActiveSets, Sides};
use filters::scores::{co_l0_paper, cosine_paper, l0_paper, score};
use filters::weights::TopTokens;
use proptest::prelude::*;
use sae_core::pass::{self, Block, Observer};
use sae_core::run::Run;
use sae_core::sae::Weights;
use sae_core::sample::{Modality, Role, Sample, Token};
use sae_core::sparse::Sparse;
use sae_core::store::{Part, Store, StoreDtype, StoreSpec, StoreWriter};
use std::collections::BTreeSet;

const D: usize = 4;
const F: usize = 6;

/// A sample's tokens: whether it is an image token, and its hidden state.
type Tokens = Vec<(bool, [f32; D])>;

fn samples() -> impl Strategy<Value = Vec<Tokens>> {
    let token = (any::<bool>(), prop::array::uniform4(-3f32..3.0));
    prop::collection::vec(prop::collection::vec(token, 1..7), 1..8)
}

/// An encoder whose feature `k` reads one coordinate or its opposite, so that activations go above 1 now and then.
fn weights() -> Weights {
    let mut w_enc = vec![0.0; D * F];
    (0..F).for_each(|k| w_enc[k * D + k % D] = if k < D { 1.0 } else { -1.0 });
    Weights {
        d_in: D,
        d_sae: F,
        w_enc,
        b_enc: vec![0.0; F],
        w_dec: vec![1.0; D * F],
        b_dec: vec![0.0; D],
        ..Weights::default()
    }
}

fn activation(h: &[f32; D], k: usize) -> f32 {
    (if k < D { h[k] } else { -h[k % D] }).max(0.0)
}

fn store(samples: &[Tokens]) -> (tempfile::TempDir, Store, Vec<Sample>) {
    let dir = tempfile::tempdir().unwrap();
    let run = Run::create(&dir.path().join("run")).unwrap();
    let spec = StoreSpec {
        model: "m".into(),
        architecture: "A".into(),
        layers: vec![0],
        d_in: D,
        dtype: StoreDtype::F32,
        fingerprint: String::new(),
        slice: None,
        arguments: serde_json::Value::Null,
    };
    let mut writer = StoreWriter::open(&run, spec).unwrap();
    let token = |position: usize, image: bool| Token {
        position: position as u32,
        modality: if image { Modality::Image } else { Modality::Text },
        token_id: 0,
        piece: String::new(),
        role: Role::User,
        special: false,
        image: image.then_some(0),
        rect: None,
    };
    let sample = |n: usize| Sample {
        id: format!("{n}"),
        key: String::new(),
        text: String::new(),
        images: vec![],
        source: format!("a:{n}"),
        meta: serde_json::Value::Null,
    };
    let mut all = Vec::new();
    for (part, chunk) in samples.chunks(3).enumerate() {
        let of = |tokens: &Tokens| tokens.iter().enumerate().map(|(p, (image, _))| token(p, *image)).collect();
        let rows: Vec<_> = chunk.iter().enumerate().map(|(n, t)| (sample(part * 3 + n), of(t))).collect();
        all.extend(rows.iter().map(|(s, _)| s.clone()));
        let states = chunk.iter().flatten().flat_map(|(_, h)| *h).collect();
        let part = Part { samples: rows, activations: vec![states], source_rows: chunk.len() as u64, skipped: vec![] };
        writer.write_part(&part).unwrap();
    }
    writer.finish().unwrap();
    let store = Store::open(&run, "layers.0").unwrap();
    (dir, store, all)
}

/// Eq. 7 as it is written: all pairs of cosines.
fn plain_weight(samples: &[Tokens], k: usize) -> Option<f64> {
    let top = |image: bool| {
        let mut tokens: Vec<_> =
            samples.iter().flatten().filter(|(i, h)| *i == image && activation(h, k) > 1.0).collect();
        tokens.sort_by(|a, b| activation(&b.1, k).total_cmp(&activation(&a.1, k)));
        tokens.truncate(5);
        tokens
    };
    let (text, image) = (top(false), top(true));
    let dot = |a: &[f32; D], b: &[f32; D]| a.iter().zip(b).map(|(a, b)| *a as f64 * *b as f64).sum::<f64>();
    let pairs = text.iter().flat_map(|t| image.iter().map(move |v| (t.1, v.1)));
    let cosines: Vec<f64> = pairs.map(|(t, v)| dot(&t, &v) / (dot(&t, &t) * dot(&v, &v)).sqrt()).collect();
    (!cosines.is_empty()).then(|| cosines.iter().sum::<f64>() / cosines.len() as f64)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn weights_and_rankings_are_those_of_the_paper(tokens in samples()) {
        let (_dir, store, samples) = store(&tokens);
        let weights = weights();
        let (mut tops, mut sets) = (TopTokens::new(F, PAPER_THRESHOLD), ActiveSets::new(samples.len(), PAPER_THRESHOLD));
        let device = burn::tensor::Device::flex();
        pass::run(&store, &weights, &device, &mut [&mut tops, &mut sets], &mut |_| ()).unwrap();
        let found = tops.paper(&store).unwrap();
        let expected: Vec<_> = (0..F).map(|k| plain_weight(&tokens, k)).collect();
        for (k, (found, expected)) in found.iter().zip(&expected).enumerate() {
            prop_assert_eq!(found.is_some(), expected.is_some(), "feature {}", k);
            prop_assert!((found.unwrap_or(0.0) - expected.unwrap_or(0.0)).abs() < 1e-5, "{:?} {:?}", found, expected);
        }
        let scores = score(&samples, &sets.finish(), &found, 0);
        for (n, sample) in tokens.iter().enumerate() {
            let on = |image: bool| -> BTreeSet<usize> {
                let tokens = sample.iter().filter(|(i, _)| *i == image);
                tokens.flat_map(|(_, h)| (0..F).filter(|k| activation(h, *k) > 1.0)).collect()
            };
            let (text, image) = (on(false), on(true));
            let both_kinds = sample.iter().any(|t| t.0) && sample.iter().any(|t| !t.0);
            let expected = |value: f64| both_kinds.then_some(value);
            let all: BTreeSet<_> = text.union(&image).copied().collect();
            prop_assert_eq!(scores.columns["l0_paper"][n], expected(all.len() as f64));
            prop_assert_eq!(scores.columns["co_l0_paper"][n], expected(text.intersection(&image).count() as f64));
            let sum: f64 = all.iter().filter_map(|k| found[*k]).sum();
            prop_assert!((scores.columns["cosine_paper"][n].unwrap_or(0.0) - expected(sum).unwrap_or(0.0)).abs() < 1e-9);
            prop_assert_eq!(scores.rows[n].reason.is_some(), !both_kinds);
        }
    }
}

#[test]
fn a_hand_worked_sample() {
    let side = |text, image| Sides { text, image };
    let features = vec![(0, side(true, true)), (2, side(true, false)), (5, side(false, true))];
    let set = ActiveSet { n_text: 3, n_image: 4, features };
    let weights = [Some(0.5), Some(9.0), None, None, None, Some(-0.125)];
    assert_eq!((l0_paper(&set), co_l0_paper(&set), cosine_paper(&set, &weights)), (3.0, 1.0, 0.375));
}

#[test]
fn a_sample_that_a_block_cuts_in_two_is_one_set() {
    let tokens = sae_core::store::TokenColumns {
        sample: vec![0, 0, 1],
        position: vec![0, 1, 0],
        modality: vec![Modality::Text, Modality::Image, Modality::Text],
        special: vec![false; 3],
    };
    let mut sets = ActiveSets::new(2, PAPER_THRESHOLD);
    for (rows, dense) in [(0..1, vec![2.0, 0.0]), (1..3, vec![3.0, 1.0, 0.0, 2.0])] {
        let active = Sparse::from_dense(&dense, 2);
        sets.see(&Block { tokens: &tokens, rows, shard: 0, hidden: &[], active: &active }).unwrap();
    }
    let sets = sets.finish();
    assert_eq!(sets[0].features, [(0, Sides { text: true, image: true })]);
    assert_eq!(sets[1].features, [(1, Sides { text: true, image: false })]);
}
