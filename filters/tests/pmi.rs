//! `pmi` of samples whose objects are known: a single token that does not fit, and ranks among mismatched pairs, compared with
//! plain loops over all pairs.

#![allow(clippy::unwrap_used)] // a test that cannot go on fails

use filters::PAPER_THRESHOLD;
use filters::definition::{IMAGE, TEXT};
use filters::pmi::{Folds, Options, Set, Unit};
use filters::pooling::{PooledFeature, PooledSample, PooledStore, SamplePooler};
use sae_core::analysis::pass::{Block, Observer};
use sae_core::autoencoder::sparse::Sparse;
use sae_core::store::sample::{Modality, Role, Sample};

/// Which object the second token of a sample names.
fn said(n: u32) -> u32 {
    let second = n / 4 % 4;
    if n < 4 { (second + 1) % 4 } else { second }
}

/// 64 samples with two objects each: an image position for each object (features 0 to 3 and 4 to 7), and a token for each (8 to
/// 11 and 12 to 15). The second token of the first four samples names another object ([`said`]).
fn objects() -> (Vec<Sample>, PooledStore) {
    let samples: Vec<Sample> = (0..64u32)
        .map(|n| Sample {
            id: format!("{n}"),
            key: String::new(),
            text: format!("{} {}", n % 4, said(n)),
            images: Vec::new(),
            source: String::new(),
            meta: serde_json::Value::Null,
            piece: None,
        })
        .collect();
    let mut pool = SamplePooler::new(samples.len(), 16, PAPER_THRESHOLD, &std::env::temp_dir()).unwrap().with_tokens();
    for n in 0..samples.len() as u32 {
        let (first, second) = (n % 4, n / 4 % 4);
        let mut dense = vec![0.0; 5 * 16];
        let fires = [first, 4 + second, 8 + first, 12 + said(n)];
        fires.iter().enumerate().for_each(|(row, k)| dense[row * 16 + *k as usize] = 1.0 + n as f32 / 100.0);
        let tokens = sae_core::store::TokenColumns {
            sample: vec![n; 5],
            position: (0..5).collect(),
            modality: [vec![Modality::Image; 2], vec![Modality::Text; 3]].concat(),
            role: vec![Role::Assistant; 5],
            // The newline at the end has no content.
            special: vec![false, false, false, false, true],
        };
        let active = Sparse::from_dense(&dense, 16);
        pool.observe(&Block::new(&tokens, 0..5, 0, &[], &active)).unwrap();
    }
    (samples, pool.finish().unwrap())
}

#[test]
fn a_few_samples_are_too_few_for_any_number_of_tokens() {
    let (samples, pooled) = objects();
    let few = |n: usize, sample: &PooledSample, _: &PooledSample| (n < 12).then(|| sample.clone());
    let pooled = pooled.select(&std::env::temp_dir(), few).unwrap();
    let options = Options { unit: Unit::Token, ..Options::default() };
    let said = Folds::fit(&[Set { samples: &samples, pooled: &pooled }], &[], &options).unwrap_err().to_string();
    assert!(said.contains("12 samples"), "{said}");
}

fn all(pooled: &PooledStore) -> Vec<PooledSample> {
    let mut found = Vec::new();
    let see = |_, sample: &PooledSample| {
        found.push(sample.clone());
        Ok::<_, sae_core::Error>(())
    };
    pooled.each(see).unwrap();
    found
}

#[test]
fn the_token_that_does_not_fit_determines_the_score() {
    let (samples, pooled) = objects();
    let options = Options { unit: Unit::Token, ridge: 0.1, ..Options::default() };
    let folds = Folds::fit(&[Set { samples: &samples, pooled: &pooled }], &samples, &options).unwrap();
    let scores = folds.score(&samples, &pooled).unwrap();
    let (wrong, right) = scores.split_at(4);
    let least = right.iter().flatten().copied().fold(f64::INFINITY, f64::min);
    assert!(wrong.iter().flatten().all(|score| *score < least - 1.0), "{wrong:?} against {least}");
    // Computed by hand: every token is the text of its sample.
    for (n, sample) in all(&pooled).iter().enumerate() {
        assert_eq!(sample.tokens.len(), 2, "newlines are no content");
        let fit = folds.fit_for(&samples[n]);
        let alone = sample.tokens.iter().map(|token| {
            let [(feature, z)] = token[..] else { panic!("one feature a token") };
            let mut alone = sample.clone();
            alone.features.retain(|trace| trace.feature < 8);
            alone.features.push(PooledFeature { feature, max: [z, 0.0], ..PooledFeature::default() });
            let [q, p] = fit.variables(&alone).unwrap();
            fit.score(&q, &p)
        });
        let by_hand = alone.fold(f64::INFINITY, f64::min);
        assert!((by_hand - scores[n].unwrap()).abs() < 1e-9, "{n}");
    }
}

#[test]
fn tokens_are_combined_with_the_text_and_another_image() {
    let (samples, pooled) = objects();
    let pair: Vec<Option<usize>> = (0..samples.len()).map(|n| (n % 3 > 0).then_some((n + 5) % 64)).collect();
    let joined = pooled.with_text(&pooled, &pair, &std::env::temp_dir()).unwrap();
    let (old, new) = (all(&pooled), all(&joined));
    for (n, sample) in new.iter().enumerate() {
        let texts = pair[n].map(|other| old[other].tokens.clone()).unwrap_or_default();
        assert_eq!(sample.tokens, texts);
    }
    let kept = pair.iter().flatten().count() * 2;
    assert_eq!((joined.kept_tokens(), joined.active_tokens().iter().sum::<u64>()), (kept, kept as u64));
    assert_eq!(pooled.kept_tokens(), 128);
}

#[test]
fn ranks_are_shares_of_mismatched_pairs_that_fit_worse() {
    let (samples, pooled) = objects();
    let set = [Set { samples: &samples, pooled: &pooled }];
    // One fit for all samples, and one for each fold.
    for scored in [&[][..], &samples[..]] {
        let folds = Folds::fit(&set, scored, &Options { ridge: 0.1, ..Options::default() }).unwrap();
        let ranks = folds.ranks(&samples, &pooled).unwrap();
        let all = all(&pooled);
        let same_fit = |a: usize, b: usize| std::ptr::eq(folds.fit_for(&samples[a]), folds.fit_for(&samples[b]));
        for n in 0..samples.len() {
            let fit = folds.fit_for(&samples[n]);
            let of = |text: usize, image: usize| {
                let variables = [text, image].map(|n| fit.variables(&all[n]).unwrap());
                fit.score(&variables[0][TEXT], &variables[1][IMAGE])
            };
            let others: Vec<usize> =
                (0..samples.len()).filter(|r| same_fit(n, *r) && samples[*r].text != samples[n].text).collect();
            let worse = |score: f64| {
                if score < of(n, n) {
                    1.0
                } else if score == of(n, n) {
                    0.5
                } else {
                    0.0
                }
            };
            let sum: f64 = others.iter().map(|r| worse(of(*r, n)) + worse(of(n, *r))).sum();
            let plain = (!others.is_empty()).then(|| sum / (2 * others.len()) as f64);
            assert_eq!(ranks[n].is_some(), plain.is_some());
            assert!((ranks[n].unwrap_or(0.0) - plain.unwrap_or(0.0)).abs() < 1e-12, "{n}: {:?} {plain:?}", ranks[n]);
        }
        // Half of what the first four say is right, so that most mismatched pairs fit worse even than they do.
        let (wrong, right) = ranks.split_at(4);
        let mean = |ranks: &[Option<f64>]| ranks.iter().flatten().sum::<f64>() / ranks.iter().flatten().count() as f64;
        assert!(mean(right) > 0.95 && mean(wrong) < mean(right), "{} {}", mean(right), mean(wrong));
    }
}

#[test]
fn samples_with_one_caption_have_no_rank() {
    let (mut samples, pooled) = objects();
    samples.iter_mut().for_each(|sample| sample.text = "the same".into());
    let folds = Folds::fit(&[Set { samples: &samples, pooled: &pooled }], &[], &Options::default()).unwrap();
    assert!(folds.ranks(&samples, &pooled).unwrap().iter().all(Option::is_none));
}
