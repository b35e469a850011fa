//! The fits of a calibration: one to all samples, and, if images that will be scored are among them, one per fold that has
//! never seen the images of the fold. Also computes the scores of pairs that were mismatched on purpose, which are known to
//! be wrong without any labels.

use super::{Chosen, Fit, Moments, Options, Unit};
use crate::definition::{IMAGE, TEXT};
use crate::pooling::{PooledSample, PooledStore};
use crate::scores::random;
use crate::{Error, Result};
use rayon::prelude::*;
use sae_core::store::sample::Sample;
use std::collections::{BTreeMap, HashSet};

/// Approximate number of pairs that are mismatched on purpose.
const MISMATCHED: f64 = 4000.0;

/// Approximate number of tokens in a fit.
const TOKENS: f64 = 200_000.0;
/// The seed with which tokens are drawn.
const TOKEN_SALT: u64 = 0x70c3_0000;

/// Samples with the activations of their features.
#[derive(Clone, Copy)]
pub struct Set<'a> {
    /// The samples.
    pub samples: &'a [Sample],
    /// The pooled activations of the samples, by the numbers of the samples.
    pub pooled: &'a PooledStore,
}

/// The fits of one calibration.
#[derive(Clone, Debug, PartialEq)]
pub struct Folds {
    /// The fit to all samples.
    pub whole: Fit,
    /// For every fold, the fit to all samples outside of it. Empty if no image that is scored is among the samples.
    pub without: Vec<Fit>,
    /// Number of samples in the calibration.
    pub samples: usize,
}

/// The part of a sample that must not be fitted and scored at once: its images, with any text.
pub(super) fn subject(sample: &Sample) -> &str {
    sample.images.first().map_or(&sample.id, |image| &image.sha256)
}

/// The fold of a sample. It depends only on the images, so that each image is in one fold wherever it occurs.
pub(super) fn fold(sample: &Sample, folds: usize) -> usize {
    ((random(subject(sample), 0xf01d) * folds as f64) as usize).min(folds.saturating_sub(1))
}

/// Whether a sample is among a share of all samples that is drawn by their ids.
pub(super) fn drawn(sample: &Sample, salt: u64, share: f64) -> bool {
    random(&sample.id, salt) < share
}

impl Folds {
    /// Fits to all samples of the sets. If an image of `scored`, the samples that will be scored, is among them, there is
    /// also a fit for every fold.
    ///
    /// # Errors
    /// There are too few samples or features, or a file cannot be read.
    pub fn fit(sets: &[Set], scored: &[Sample], options: &Options) -> Result<Self> {
        let (mut seen, mut tokens) = (0, 0);
        let mut active: Vec<[u64; 2]> = Vec::new();
        for Set { pooled, .. } in sets {
            pooled.each(|_, sample| {
                seen += usize::from(!sample.content.contains(&0));
                Ok::<_, Error>(())
            })?;
            tokens += pooled.kept_tokens();
            active.resize(pooled.active().len().max(active.len()), [0; 2]);
            let sides = pooled.active().iter().zip(pooled.active_tokens());
            for (sum, (n, of_tokens)) in active.iter_mut().zip(sides) {
                let of_text = if options.unit == Unit::Token { *of_tokens } else { n[TEXT].into() };
                (sum[TEXT], sum[IMAGE]) = (sum[TEXT] + of_text, sum[IMAGE] + u64::from(n[IMAGE]));
            }
        }
        let subjects: HashSet<&str> = scored.iter().map(subject).collect();
        let overlaps = sets.iter().flat_map(|set| set.samples).any(|sample| subjects.contains(subject(sample)));
        let texts = if options.unit == Unit::Token { tokens } else { seen };
        let mut of = [seen; 2];
        of[TEXT] = texts;
        let chosen = Chosen::balanced(&active, of, options.features);
        let share = TOKENS / tokens.max(1) as f64;
        let folds = if overlaps { options.folds.max(2) } else { 1 };
        let mut moments = vec![Moments::new(&chosen); folds];
        for Set { samples, pooled } in sets {
            pooled.each(|n, sample| {
                let Some(vectors) = chosen.vectors(sample, options) else { return Ok(()) };
                let moments = &mut moments[fold(&samples[n], folds)];
                moments.samples += 1;
                if options.unit == Unit::Sample {
                    moments.push(vectors);
                    return Ok(());
                }
                let chosen_token = |at: u64| drawn(&samples[n], TOKEN_SALT + at, share);
                let drawn = sample.tokens.iter().zip(0..).filter(|(_, at)| chosen_token(*at));
                let tokens: Vec<_> = drawn.map(|(token, _)| chosen.token(token, options)).collect();
                let [_, image] = vectors;
                moments.push_tokens(image, &tokens);
                Ok::<_, Error>(())
            })?;
        }
        moments.iter_mut().for_each(Moments::flush);
        let mut whole = Moments::new(&chosen);
        moments.iter().for_each(|part| whole.add(part));
        let left_out: Vec<Option<&Moments>> =
            std::iter::once(None).chain(moments.iter().filter(|_| overlaps).map(Some)).collect();
        let fit = |left_out: Option<&Moments>| match left_out {
            Some(part) => Fit::new(&whole.without(part), &chosen, options),
            None => Fit::new(&whole, &chosen, options),
        };
        let fits: Result<Vec<Fit>> = left_out.into_par_iter().map(fit).collect();
        let mut without = fits?;
        let whole = without.remove(0);
        Ok(Self { whole, without, samples: seen })
    }

    /// The fits that score: one per fold, or the only one.
    pub(super) fn fits(&self) -> impl Iterator<Item = &Fit> {
        let only = self.without.is_empty().then_some(&self.whole);
        only.into_iter().chain(&self.without)
    }

    /// The fit that may score a sample, because it has not seen the sample's images.
    pub fn fit_for(&self, sample: &Sample) -> &Fit {
        match self.without.len() {
            0 => &self.whole,
            folds => &self.without[fold(sample, folds)],
        }
    }

    /// The scores of all samples. Samples that lack content on one side have no score.
    ///
    /// # Errors
    /// The stored activations cannot be read.
    pub fn score(&self, samples: &[Sample], pooled: &PooledStore) -> Result<Vec<Option<f64>>> {
        in_batches(pooled, |n, sample| self.fit_for(&samples[n]).score_of(sample))
    }

    /// Mismatched pairs: the image of one sample with the text of another, for up to about 4,000 samples. The partner is drawn by
    /// its id among the samples that the same fit may score.
    ///
    /// # Errors
    /// The stored activations cannot be read.
    pub fn mismatches<'a>(&self, samples: &'a [Sample], pooled: &PooledStore) -> Result<Vec<Mismatch<'a>>> {
        let share = MISMATCHED / samples.len().max(1) as f64;
        let drawn = in_batches(pooled, |n, sample| {
            let drawn = drawn(&samples[n], 0xd4a3, share);
            drawn.then(|| self.fit_for(&samples[n]).variables(sample)).flatten()
        })?;
        let mut by_fold: BTreeMap<usize, Vec<(f64, usize)>> = BTreeMap::new();
        for (n, sample) in samples.iter().enumerate().filter(|(n, _)| drawn[*n].is_some()) {
            let fold = fold(sample, self.without.len().max(1));
            by_fold.entry(fold).or_default().push((random(&sample.id, 0x0f0f), n));
        }
        let mut pairs = Vec::new();
        for order in by_fold.values_mut() {
            order.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
            for (at, (_, image)) in order.iter().enumerate() {
                let (_, text) = order[(at + 1) % order.len()];
                if samples[*image].text == samples[text].text {
                    continue;
                }
                if let (Some([_, p]), Some([q, _])) = (&drawn[*image], &drawn[text]) {
                    let samples = [&samples[text], &samples[*image]];
                    pairs.push(Mismatch { samples, variables: [q.clone(), p.clone()] });
                }
            }
        }
        Ok(pairs)
    }

    /// The scores of mismatched pairs.
    pub fn mismatched(&self, pairs: &[Mismatch]) -> Vec<f64> {
        let score = |Mismatch { samples, variables: [q, p] }: &Mismatch| self.fit_for(samples[IMAGE]).score(q, p);
        pairs.iter().map(score).collect()
    }
}

/// A pair that was mismatched on purpose, with its canonical variables. Both are `[text, image]`.
#[derive(Clone, Debug)]
pub struct Mismatch<'a> {
    /// The sample of the text and that of the image.
    pub samples: [&'a Sample; 2],
    /// The variables of the text, `q`, and those of the image, `p`.
    pub variables: [Vec<f64>; 2],
}

/// Applies `compute` to every sample, on all threads with a few hundred samples in memory.
pub(super) fn in_batches<T: Send>(
    pooled: &PooledStore,
    compute: impl Fn(usize, &PooledSample) -> Option<T> + Sync,
) -> Result<Vec<Option<T>>> {
    let mut results: Vec<Option<T>> = Vec::with_capacity(pooled.samples());
    let mut batch: Vec<(usize, PooledSample)> = Vec::new();
    let run = |batch: &mut Vec<(usize, PooledSample)>, results: &mut Vec<Option<T>>| {
        results.par_extend(batch.par_iter().map(|(n, sample)| compute(*n, sample)));
        batch.clear();
    };
    pooled.each(|n, sample| {
        batch.push((n, sample.clone()));
        if batch.len() == 256 {
            run(&mut batch, &mut results);
        }
        Ok::<_, Error>(())
    })?;
    run(&mut batch, &mut results);
    Ok(results)
}
