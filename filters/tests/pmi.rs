//! `pmi` of samples whose objects are known: a single token that does not fit, and pairs relative to mismatched ones, compared with
//! plain loops over all pairs.

#![allow(clippy::unwrap_used)] // a test that cannot go on fails

use filters::PAPER_THRESHOLD;
use filters::definition::{IMAGE, TEXT};
use filters::pmi::{Folds, Mismatch, Options, References, Set, Unit};
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
fn features_of_another_autoencoder_follow_those_of_the_first() {
    let (samples, pooled) = objects();
    let other = pooled.select(&std::env::temp_dir(), |n, sample, _| (n != 5).then(|| sample.clone())).unwrap();
    let both = pooled.beside(&other, &std::env::temp_dir()).unwrap();
    let moved = |n: usize, feature: &PooledFeature| {
        let second = PooledFeature { feature: feature.feature + 16, ..*feature };
        [Some(*feature), (n != 5).then_some(second)]
    };
    for (n, (one, two)) in all(&pooled).iter().zip(all(&both)).enumerate() {
        let mut features: Vec<_> = one.features.iter().flat_map(|feature| moved(n, feature)).flatten().collect();
        features.sort_by_key(|feature| feature.feature);
        assert_eq!((&two.features, two.content), (&features, one.content));
        for (token, alone) in two.tokens.iter().zip(&one.tokens) {
            let second = alone.iter().filter(|_| n != 5).map(|(feature, z)| (feature + 16, *z));
            assert_eq!(*token, alone.iter().copied().chain(second).collect::<Vec<_>>());
        }
    }
    assert_eq!((both.active().len(), both.kept_tokens()), (32, 128));
    assert_eq!((both.active()[3], both.active()[19]), (pooled.active()[3], other.active()[3]));
    // What says the same twice fits the same pairs, with as many features again.
    let set = [Set { samples: &samples, pooled: &both }];
    let folds = Folds::fit(&set, &[], &Options { features: 2000, ..Options::default() }).unwrap();
    assert!(folds.whole.chosen.features.iter().all(|features| features.iter().any(|feature| *feature >= 16)));
}

#[test]
fn pairs_are_compared_with_mismatched_ones_of_the_same_image_and_of_the_same_text() {
    let (samples, pooled) = objects();
    let set = [Set { samples: &samples, pooled: &pooled }];
    // One fit for all samples, and one for each fold.
    for scored in [&[][..], &samples[..]] {
        let folds = Folds::fit(&set, scored, &Options { ridge: 0.1, ..Options::default() }).unwrap();
        let references = References::draw(&folds, &set).unwrap();
        let found = references.score(&samples, &pooled).unwrap();
        let all = all(&pooled);
        let plain = |text: usize, image: usize| {
            let fit = folds.fit_for(&samples[image]);
            let of = |text: usize, image: usize| {
                let [q, p] =
                    [(text, TEXT), (image, IMAGE)].map(|(n, side)| fit.variables(&all[n]).unwrap()[side].clone());
                fit.score(&q, &p)
            };
            let same_fit = |r: &usize| std::ptr::eq(folds.fit_for(&samples[*r]), fit);
            let others =
                (0..samples.len()).filter(same_fit).filter(|r| samples[*r].text != samples[text].text && *r != image);
            let means = others
                .fold([0.0; 3], |sums, r| [sums[0] + of(r, image).exp(), sums[1] + of(text, r).exp(), sums[2] + 1.0]);
            let [texts, images, count] = means;
            (count > 0.0).then(|| of(text, image) - ((texts / count).ln() + (images / count).ln()) / 2.0)
        };
        for (n, found) in found.iter().enumerate() {
            let plain = plain(n, n);
            assert_eq!(found.is_some(), plain.is_some());
            assert!((found.unwrap_or(0.0) - plain.unwrap_or(0.0)).abs() < 1e-9, "{n}: {found:?} {plain:?}");
        }
        let pairs = folds.mismatches(&samples, &pooled).unwrap();
        let scores = references.mismatched(&pairs);
        assert!(scores.len() > 30 && scores.len() == pairs.len());
        for (Mismatch { samples: pair, .. }, score) in pairs.iter().zip(&scores) {
            let [text, image] = pair.map(|sample| sample.id.parse::<usize>().unwrap());
            assert!((score - plain(text, image).unwrap()).abs() < 1e-9);
        }
        // Half of what the first four say is right, so they are between the others and mismatched pairs.
        let (wrong, right) = found.split_at(4);
        let mean =
            |scores: &[Option<f64>]| scores.iter().flatten().sum::<f64>() / scores.iter().flatten().count() as f64;
        let mismatched = scores.iter().sum::<f64>() / scores.len() as f64;
        assert!(mean(right) > mean(wrong) && mean(wrong) > mismatched, "{} {} {mismatched}", mean(right), mean(wrong));
    }
}

#[test]
fn samples_with_one_caption_cannot_be_compared_with_others() {
    let (mut samples, pooled) = objects();
    samples.iter_mut().for_each(|sample| sample.text = "the same".into());
    let set = [Set { samples: &samples, pooled: &pooled }];
    let folds = Folds::fit(&set, &[], &Options::default()).unwrap();
    let references = References::draw(&folds, &set).unwrap();
    assert!(references.score(&samples, &pooled).unwrap().iter().all(Option::is_none));
    assert!(folds.mismatches(&samples, &pooled).unwrap().is_empty());
}
