//! Compares the formulas of the three definitions with an independent plain implementation on random sparse activations, and
//! with examples computed by hand. Checks that neither the order of shards nor the number of threads changes a bit.

#![allow(clippy::unwrap_used)] // a test that cannot go on fails

use filters::PAPER_THRESHOLD;
use filters::definition::{Definition, Sides};
use filters::length::LengthModel;
use filters::pmi::{self, Folds, Options, Set};
use filters::pooling::{ActiveOn, PooledFeature, PooledSample, PooledStore, SamplePooler};
use filters::scores::{self, co_l0_paper, cosine_paper, cosine_release, l0_paper, l0_release, score};
use filters::top_tokens::{TokenPosition, TopTokens};
use filters::weights::{self, Weights as CrossModal};
use proptest::prelude::*;
use sae_core::analysis::pass::{self, Block, Observer};
use sae_core::autoencoder::Weights;
use sae_core::autoencoder::sparse::Sparse;
use sae_core::store::run::Run;
use sae_core::store::sample::{Modality, Piece, Role, Sample, Token};
use sae_core::store::{Hook, Part, Paths, Store, StoreDtype, StoreSpec, StoreWriter};
use std::collections::{BTreeMap, BTreeSet};

const D: usize = 4;
const F: usize = 6;

/// A token: whether it belongs to an image, whether it has no content, whether it belongs to an answer, and its hidden state.
#[derive(Clone, Copy, Debug)]
struct Tok {
    image: bool,
    special: bool,
    answer: bool,
    h: [f32; D],
}

type Tokens = Vec<Tok>;

fn samples() -> impl Strategy<Value = Vec<Tokens>> {
    let token = (any::<bool>(), 0u8..5, any::<bool>(), prop::array::uniform4(-3f32..3.0));
    let token = token.prop_map(|(image, s, a, h)| Tok { image, special: s == 0, answer: a && !image, h });
    prop::collection::vec(prop::collection::vec(token, 1..7), 1..8)
}

/// An encoder whose feature `k` reads one coordinate or its negative, so that some activations exceed 1.
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
        hooks: vec![Hook::block(0)],
        d_in: D,
        dtype: StoreDtype::F32,
        slice: None,
        pieces: false,
        critiques: false,
        fingerprint: String::new(),
        arguments: serde_json::Value::Null,
    };
    let mut writer = StoreWriter::open(&run, spec).unwrap();
    let token = |position: usize, token: &Tok| Token {
        position: position as u32,
        modality: if token.image { Modality::Image } else { Modality::Text },
        token_id: 0,
        piece: String::new(),
        role: if token.answer { Role::Assistant } else { Role::User },
        special: token.special,
        image: token.image.then_some(0),
        rect: None,
    };
    let sample = |n: usize| Sample {
        id: format!("{n}"),
        key: String::new(),
        text: String::new(),
        images: vec![],
        source: format!("a:{n}"),
        meta: serde_json::Value::Null,
        piece: None,
    };
    let mut all = Vec::new();
    for (part, chunk) in samples.chunks(3).enumerate() {
        let tokens_of = |tokens: &Tokens| tokens.iter().enumerate().map(|(p, t)| token(p, t)).collect();
        let rows: Vec<_> = chunk.iter().enumerate().map(|(n, t)| (sample(part * 3 + n), tokens_of(t))).collect();
        all.extend(rows.iter().map(|(s, _)| s.clone()));
        let states = chunk.iter().flatten().flat_map(|t| t.h).collect();
        let part = Part { samples: rows, activations: vec![states], source_rows: chunk.len() as u64, skipped: vec![] };
        writer.write_part(&part).unwrap();
    }
    writer.finish().unwrap();
    let store = Store::open(&run, "layers.0").unwrap();
    (dir, store, all)
}

/// The cosines of all pairs of two lists.
fn cosines(text: &[Tok], image: &[Tok]) -> Vec<f64> {
    let dot = |a: &[f32; D], b: &[f32; D]| a.iter().zip(b).map(|(a, b)| *a as f64 * *b as f64).sum::<f64>();
    let cosine = |t: &Tok, v: &Tok| dot(&t.h, &v.h) / (dot(&t.h, &t.h) * dot(&v.h, &v.h)).sqrt();
    text.iter().flat_map(|t| image.iter().map(move |v| (t, v))).map(|(t, v)| cosine(t, v)).collect()
}

fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// The tokens of a feature in descending order of activation, with their samples.
fn strongest(samples: &[Tokens], k: usize, floor: f32, counts: impl Fn(&Tok) -> bool) -> Vec<(usize, Tok)> {
    let all = samples.iter().enumerate().flat_map(|(n, tokens)| tokens.iter().map(move |t| (n, *t)));
    let mut tokens: Vec<_> = all.filter(|(_, t)| counts(t) && activation(&t.h, k) > floor).collect();
    tokens.sort_by(|a, b| activation(&b.1.h, k).total_cmp(&activation(&a.1.h, k)));
    tokens
}

fn first(tokens: &[(usize, Tok)], n: usize, image: bool) -> Vec<Tok> {
    tokens.iter().filter(|(_, t)| t.image == image).map(|(_, t)| *t).take(n).collect()
}

/// Eq. 7 as written: the mean of the cosines of all pairs.
fn plain_paper(samples: &[Tokens], k: usize) -> Option<f64> {
    let tokens = strongest(samples, k, 1.0, |_| true);
    mean(&cosines(&first(&tokens, 5, false), &first(&tokens, 5, true)))
}

/// Five tokens of each modality among the 30 strongest of both, without answers.
fn plain_release(samples: &[Tokens], k: usize) -> Option<f64> {
    let mut tokens = strongest(samples, k, 0.0, |t| !t.answer);
    tokens.truncate(30);
    let (text, image) = (first(&tokens, 5, false), first(&tokens, 5, true));
    (text.len() == 5 && image.len() == 5).then(|| mean(&cosines(&text, &image)))?
}

/// 16 tokens of each modality with content, one per sample, minus the mean of all pairs.
fn plain_corrected(samples: &[Tokens], k: usize) -> Option<(f64, f64)> {
    let tokens = strongest(samples, k, 1.0, |t| !t.special);
    let strongest_of = |image: bool| {
        let mut seen = BTreeSet::new();
        let mut own: Vec<_> = tokens.iter().filter(|(_, t)| t.image == image).collect();
        own.retain(|(n, _)| seen.insert(*n));
        own.iter().map(|(_, t)| *t).take(16).collect::<Vec<_>>()
    };
    let content = |image: bool| -> Vec<Tok> {
        samples.iter().flatten().filter(|t| t.image == image && !t.special).copied().collect()
    };
    let (text, image) = (strongest_of(false), strongest_of(true));
    if text.len() < 5 || image.len() < 5 {
        return None;
    }
    let variance = |own: &[Tok], of: &dyn Fn(&Tok) -> f64| {
        let means: Vec<f64> = own.iter().map(of).collect();
        let center = mean(&means).unwrap();
        means.iter().map(|m| (m - center).powi(2)).sum::<f64>() / ((means.len() - 1) * means.len()) as f64
    };
    let se2 = variance(&text, &|t| mean(&cosines(&[*t], &image)).unwrap())
        + variance(&image, &|v| mean(&cosines(&text, &[*v])).unwrap());
    let baseline = mean(&cosines(&content(false), &content(true)))?;
    Some((mean(&cosines(&text, &image))? - baseline, se2.sqrt()))
}

/// A pass with all observers over the shards in the given order, on the given number of threads.
fn passed(store: &Store, samples: usize, order: &[usize], threads: usize) -> (CrossModal, PooledStore) {
    let folder = std::env::temp_dir();
    let mut tops = TopTokens::new(F, PAPER_THRESHOLD);
    let mut pool = SamplePooler::new(samples, F, PAPER_THRESHOLD, &folder).unwrap();
    let pool_of_threads = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    let device = burn::tensor::Device::flex();
    pool_of_threads.install(|| {
        let observers: &mut [&mut dyn Observer] = &mut [&mut tops, &mut pool];
        pass::run_over(store, order, &weights(), &device, observers, &mut |_| ()).unwrap();
        (CrossModal::from_top_tokens(&tops, store).unwrap(), pool.finish().unwrap())
    })
}

fn in_order(store: &Store) -> Vec<usize> {
    (0..store.shards()).collect()
}

/// Enough samples for corrected weights.
fn many() -> impl Strategy<Value = Vec<Tokens>> {
    let token = (any::<bool>(), 0u8..8, any::<bool>(), prop::array::uniform4(-3f32..3.0));
    let token = token.prop_map(|(image, s, a, h)| Tok { image, special: s == 0, answer: a && !image, h });
    prop::collection::vec(prop::collection::vec(token, 4..9), 16..28)
}

/// All ways to go once through `n` things in a circle: for each thing the next one.
fn cycles(n: usize) -> Vec<Vec<usize>> {
    let mut orders: Vec<Vec<usize>> = vec![vec![0]];
    for _ in 1..n {
        let longer = |order: &Vec<usize>| {
            let rest: Vec<usize> = (0..n).filter(|k| !order.contains(k)).collect();
            rest.into_iter().map(|k| [&order[..], &[k]].concat()).collect::<Vec<_>>()
        };
        orders = orders.iter().flat_map(longer).collect();
    }
    let next_of = |order: &Vec<usize>| {
        let mut next = vec![0; n];
        (0..n).for_each(|at| next[order[at]] = order[(at + 1) % n]);
        next
    };
    orders.iter().map(next_of).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn weights_agree_with_plain_loops(tokens in prop_oneof![samples(), many()]) {
        let (_dir, store, samples) = store(&tokens);
        let (found, _) = passed(&store, samples.len(), &in_order(&store), 2);
        for k in 0..F {
            let close = |a: Option<f64>, b: Option<f64>| {
                a.is_some() == b.is_some() && (a.unwrap_or(0.0) - b.unwrap_or(0.0)).abs() < 1e-5
            };
            let (paper, release) = (plain_paper(&tokens, k), plain_release(&tokens, k));
            prop_assert!(close(found.paper[k], paper), "paper {}: {:?} {:?}", k, found.paper[k], paper);
            prop_assert!(close(found.release[k], release), "release {}: {:?} {:?}", k, found.release[k], release);
            let (corrected, plain) = (found.corrected[k], plain_corrected(&tokens, k));
            prop_assert!(close(corrected.map(|e| e.weight), plain.map(|p| p.0)), "{:?} {:?}", corrected, plain);
            prop_assert!(close(corrected.map(|e| e.se), plain.map(|p| p.1)), "{:?} {:?}", corrected, plain);
        }
    }

    #[test]
    fn model_scores_are_means_of_weights_and_of_weights_across_features(tokens in many()) {
        let (_dir, store, samples) = store(&tokens);
        let (found, _) = passed(&store, samples.len(), &in_order(&store), 2);
        let own: Vec<f64> = found.paper.iter().flatten().copied().collect();
        let [score, ..] = found.model_scores;
        prop_assert_eq!(score.is_some(), own.len() > 1);
        if let Some(score) = score {
            let center = mean(&own).unwrap();
            let squares: f64 = own.iter().map(|w| (w - center).powi(2)).sum();
            let se = (squares / ((own.len() - 1) * own.len()) as f64).sqrt();
            prop_assert_eq!(score.features, own.len());
            prop_assert!((score.mean - center).abs() < 1e-9 && (score.se - se).abs() < 1e-9, "{:?}", score);
            // Every feature gives its text once and its images once, so the order of the features is a permutation of which the
            // mean must be among those of all cyclic orders.
            let tokens_of = |k: usize| {
                let tokens = strongest(&tokens, k, 1.0, |_| true);
                (first(&tokens, 5, false), first(&tokens, 5, true))
            };
            let sides: Vec<_> = (0..F).filter(|k| found.paper[*k].is_some()).map(tokens_of).collect();
            let cross = |a: usize, b: usize| mean(&cosines(&sides[a].0, &sides[b].1)).unwrap();
            let orders = cycles(sides.len());
            let possible = orders.iter().map(|next| mean(&next.iter().enumerate().map(|(a, b)| cross(a, *b)).collect::<Vec<_>>()).unwrap());
            let closest = possible.map(|p| (p - score.shuffled).abs()).fold(f64::INFINITY, f64::min);
            prop_assert!(closest < 1e-5, "{} is not the mean of any cycle", score.shuffled);
        }
    }

    #[test]
    fn scores_agree_with_plain_loops(tokens in samples()) {
        let (_dir, store, samples) = store(&tokens);
        let (found, pooled) = passed(&store, samples.len(), &in_order(&store), 1);
        let (scores, usual) = score(&samples, &pooled, &found, &Definition::ALL, None, 0).unwrap();
        for (n, sample) in tokens.iter().enumerate() {
            let has = |image: bool, special: bool| sample.iter().any(|t| t.image == image && (special || !t.special));
            let both = has(false, true) && has(true, true);
            let content = both && has(false, false) && has(true, false);
            let on = |image: bool, counts: &dyn Fn(&Tok) -> bool| -> BTreeSet<usize> {
                let tokens = sample.iter().filter(|t| t.image == image && counts(t));
                tokens.flat_map(|t| (0..F).filter(|k| activation(&t.h, *k) > 1.0)).collect()
            };
            let length = [false, true].map(|i| sample.iter().filter(|t| t.image == i && !t.special).count() as u32);
            let expect = |name: &str, value: Option<f64>| {
                let found = scores.columns[name][n];
                let same = (found.unwrap_or(0.0) - value.unwrap_or(0.0)).abs() < 1e-9;
                prop_assert!(found.is_some() == value.is_some() && same, "{} of {}: {:?} {:?}", name, n, found, value);
                Ok(())
            };
            let sum = |of: &mut dyn Iterator<Item = &usize>, weights: &[Option<f64>]| of.filter_map(|k| weights[*k]).sum::<f64>();
            let (text, image) = (on(false, &|_| true), on(true, &|_| true));
            expect("l0_paper", both.then_some(text.union(&image).count() as f64))?;
            expect("co_l0_paper", both.then_some(text.intersection(&image).count() as f64))?;
            expect("cosine_paper", both.then_some(sum(&mut text.union(&image), &found.paper)))?;
            let content_tokens = || sample.iter().filter(|t| !t.special);
            let strength = |k: usize| content_tokens().map(|t| f64::from(activation(&t.h, k))).sum::<f64>();
            let weighted: Vec<(f64, f64)> = (0..F).filter_map(|k| Some((found.paper[k]?, strength(k)))).collect();
            let total: f64 = weighted.iter().map(|(_, x)| x).sum();
            let mean_weight = weighted.iter().map(|(w, x)| w * x).sum::<f64>() / total;
            let found_mean = scores.columns["cosine_mean"][n];
            prop_assert_eq!(found_mean.is_some(), both && total > 0.0);
            prop_assert!(found_mean.is_none_or(|found| (found - mean_weight).abs() < 1e-6), "{:?} {}", found_mean, mean_weight);
            let (text, image) = (on(false, &|t| !t.answer), on(true, &|t| !t.answer));
            expect("co_l0_release", both.then_some(text.intersection(&image).count() as f64))?;
            expect("cosine_release", both.then_some(sum(&mut text.intersection(&image), &found.release)))?;
            let fires: Vec<f64> = sample.iter().skip(1).filter(|t| !t.answer)
                .map(|t| (0..F).filter(|k| activation(&t.h, *k) > 0.0).count() as f64).collect();
            expect("l0_release", mean(&fires).filter(|_| both))?;
            let (text, image) = (on(false, &|t| !t.special), on(true, &|t| !t.special));
            let adjusted = |name: &str, raw: f64| content.then(|| usual.get(name).map_or(raw, |usual| usual.adjust(raw, length)));
            expect("l0_corrected", adjusted("l0_corrected", text.union(&image).count() as f64))?;
            expect("co_l0_corrected", adjusted("co_l0_corrected", text.intersection(&image).count() as f64))?;
            let raw = sum(&mut text.union(&image), &found.corrected_weights());
            expect("cosine_corrected", adjusted("cosine_corrected", raw))?;
            prop_assert_eq!(scores.rows[n].reason.is_some(), !content);
        }
    }

    #[test]
    fn the_order_of_shards_and_the_threads_do_not_change_a_bit(tokens in many(), turn in 1usize..7) {
        let (dir, store, samples) = store(&tokens);
        let files = |order: &[usize], threads: usize| {
            let (found, pooled) = passed(&store, samples.len(), order, threads);
            let (mut table, _) = score(&samples, &pooled, &found, &Definition::ALL, None, 0).unwrap();
            let options = Options { components: 2, ..Options::default() };
            let folds = Folds::fit(&[Set { samples: &samples, pooled: &pooled }], &samples, &options).ok();
            if let Some(folds) = &folds {
                table.columns.insert("pmi".into(), folds.score(&samples, &pooled).unwrap());
                pmi::write(&dir.path().join("fit"), folds, F).unwrap();
                assert_eq!(&pmi::read(&dir.path().join("fit")).unwrap(), folds);
            }
            table.write(&dir.path().join("table"), "a").unwrap();
            let fit = folds.map(|_| std::fs::read(dir.path().join("fit")).unwrap());
            (format!("{found:?}"), std::fs::read(dir.path().join("table")).unwrap(), fit)
        };
        let order = in_order(&store);
        let mut turned = order.clone();
        turned.rotate_left(turn % order.len());
        turned[1..].reverse();
        prop_assert_eq!(files(&order, 1), files(&turned, 3));
    }
}

fn trace(feature: u32, text: bool, image: bool) -> PooledFeature {
    let sides = ActiveOn { text, image };
    PooledFeature { feature, paper: sides, release: sides, corrected: sides, ..PooledFeature::default() }
}

#[test]
fn a_sample_computed_by_hand() {
    let features = vec![trace(0, true, true), trace(2, true, false), trace(5, false, true)];
    let sample = PooledSample { release_positions: 4, release_fires: 10, features, ..PooledSample::default() };
    let weights = [Some(0.5), Some(9.0), None, None, None, Some(-0.125)];
    assert_eq!((l0_paper(&sample), co_l0_paper(&sample), cosine_paper(&sample, &weights)), (3.0, 1.0, 0.375));
    assert_eq!((l0_release(&sample), cosine_release(&sample, &weights)), (Some(2.5), 0.5));
}

#[test]
fn weights_computed_by_hand() {
    // Text along x, and images along x and y: the cosines are 1 and 0.
    let (x, y): (&[f32], &[f32]) = (&[1.0, 0.0], &[0.0, 1.0]);
    assert_eq!(weights::paper(&[x, x], &[x, y]), Some(0.5));
    assert_eq!(weights::paper(&[], &[x]), None);
    let images = [x, x, x, y, y];
    // The means of the texts over images are all 3/5. Those of the images over texts are 1, 1, 1, 0, 0; their variance is 0.3.
    let found = weights::corrected(&[x; 5], &images, 0.1).unwrap();
    assert!((found.weight - 0.5).abs() < 1e-12 && (found.se - (0.3f64 / 5.0).sqrt()).abs() < 1e-12);
    assert_eq!(weights::corrected(&[x; 4], &images, 0.1), None, "four are too few");
    let place = |n: u32, side: u32| TokenPosition { z: 9.0 - n as f32, sample: n, position: 0, shard: 0, row: n, side };
    let five = |images: u32| (0..30).map(|n| place(n, u32::from(n % 6 == 0 && n < 6 * images))).collect::<Vec<_>>();
    assert!(weights::released(&five(4)).is_none(), "four images among the thirty");
    let [text, image] = weights::released(&five(5)).unwrap();
    assert_eq!(text.iter().map(|p| p.row).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
    assert_eq!(image.iter().map(|p| p.row).collect::<Vec<_>>(), [0, 6, 12, 18, 24]);
}

#[test]
fn the_density_ratio_of_two_normal_variables() {
    // s = 0.6: -1/2 log 0.64 = 0.22314, minus (0.36 * 2 - 1.2) / 1.28 = -0.375 for p = q = 1.
    assert!((pmi::nats(0.6, 1.0, 1.0) - (0.223_143_55 + 0.375)).abs() < 1e-8);
    assert!(pmi::nats(0.6, 1.0, -1.0) < pmi::nats(0.6, 1.0, 0.0));
    assert_eq!(pmi::nats(0.0, 3.0, -2.0), 0.0);
}

#[test]
fn rejected_answers_get_separate_columns_and_a_margin() {
    let table = |of: &[Option<f64>]| scores::Scores {
        columns: BTreeMap::from([("pmi".into(), of.to_vec()), ("random".into(), of.to_vec())]),
        ..Default::default()
    };
    let mut chosen = table(&[Some(3.0), Some(1.0), None]);
    chosen.add_rejected(&table(&[Some(0.5), None]), &[Some(0), Some(1), None]);
    assert_eq!(chosen.columns["pmi_rejected"], [Some(0.5), None, None]);
    assert_eq!(chosen.columns["pmi_margin"], [Some(2.5), None, None]);
    assert_eq!(chosen.names(), ["pmi", "random", "pmi_rejected", "pmi_margin"]);
    let usual = LengthModel::fit(&[(2.0, [3, 4])]).unwrap();
    assert_eq!(usual.adjust(2.0, [30, 4]), 0.0);
}

#[test]
fn a_sample_in_two_blocks_is_one_sample() {
    let tokens = sae_core::store::TokenColumns {
        sample: vec![0, 0, 1],
        position: vec![0, 1, 0],
        modality: vec![Modality::Text, Modality::Image, Modality::Text],
        role: vec![Role::User; 3],
        special: vec![false; 3],
    };
    let mut pool = SamplePooler::new(3, 2, PAPER_THRESHOLD, &std::env::temp_dir()).unwrap();
    for (rows, dense) in [(0..1, vec![2.0, 0.0]), (1..3, vec![3.0, 1.0, 0.0, 2.0])] {
        let active = Sparse::from_dense(&dense, 2);
        pool.observe(&Block::new(&tokens, rows, 0, &[], &active)).unwrap();
    }
    let pooled = pool.finish().unwrap();
    let mut found = Vec::new();
    pooled
        .each(|n, sample| {
            found.push((n, sample.positions, sample.active(Definition::Paper).collect::<Vec<_>>()));
            Ok::<_, sae_core::Error>(())
        })
        .unwrap();
    assert_eq!(found[0], (0, [1, 1], vec![(0, ActiveOn { text: true, image: true })]));
    assert_eq!(found[1], (1, [1, 0], vec![(1, ActiveOn { text: true, image: false })]));
    assert_eq!(found[2], (2, [0, 0], vec![]), "a sample without positions");
}

#[test]
fn other_modalities_can_be_compared() {
    let tokens = sae_core::store::TokenColumns {
        sample: vec![0; 3],
        position: vec![0, 1, 2],
        modality: vec![Modality::Text, Modality::Image, Modality::Action],
        role: vec![Role::User; 3],
        special: vec![false; 3],
    };
    // One feature for each position, and one that fires on the image and the action.
    let dense = [2.0, 0.0, 0.0, 0.0, 0.0, 2.0, 0.0, 2.0, 0.0, 0.0, 2.0, 2.0];
    let active = Sparse::from_dense(&dense, 4);
    let block = Block::new(&tokens, 0..3, 0, &[], &active);
    for (sides, positions, both) in [("text:image", [1, 1], vec![]), ("action:image,text", [1, 2], vec![3])] {
        let sides: Sides = sides.parse().unwrap();
        let pool = SamplePooler::new(1, 4, PAPER_THRESHOLD, &std::env::temp_dir()).unwrap();
        let (mut pool, mut tops) = (pool.comparing(&sides), TopTokens::new(4, PAPER_THRESHOLD).comparing(&sides));
        pool.observe(&block).unwrap();
        tops.observe(&block).unwrap();
        let mut found = Vec::new();
        pool.finish()
            .unwrap()
            .each(|_, sample| {
                found.push(sample.clone());
                Ok::<_, sae_core::Error>(())
            })
            .unwrap();
        let on_both =
            found[0].active(Definition::Corrected).filter(|(_, active)| active.both()).map(|(feature, _)| feature);
        assert_eq!((found[0].positions, on_both.collect::<Vec<_>>()), (positions, both));
        let [first, second] = tops.places(3);
        assert_eq!((first.len(), second.len()), (positions[1] as usize - 1, 1));
    }
}

#[test]
fn a_piece_that_others_continue_has_no_scores_and_the_reason_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let parents = [None, Some(0), None];
    let piece = |parent: &Option<u32>| Sample {
        id: String::new(),
        key: String::new(),
        text: String::new(),
        images: vec![],
        source: String::new(),
        meta: serde_json::Value::Null,
        piece: Some(Piece { parent: *parent, branch: String::new(), is_critique: false }),
    };
    let samples: Vec<Sample> = parents.iter().map(piece).collect();
    let paths = Paths::new(parents.to_vec()).unwrap();
    let pooled = SamplePooler::new(samples.len(), F, 0.0, dir.path()).unwrap().along(paths).finish().unwrap();
    let (scores, _) = score(&samples, &pooled, &CrossModal::default(), &Definition::ALL, None, 0).unwrap();
    let reasons: Vec<_> = scores.rows.iter().map(|row| row.reason).collect();
    assert_eq!(reasons, [Some("continued by other pieces"), Some("no text"), Some("no text")]);
}
