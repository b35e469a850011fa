//! How well the scores separate right captions from swapped ones. Only this part of the demo knows which are swapped.

use super::SCORES;
use crate::{Error, Result};
use filters::auc::{auc, interval};
use filters::keep::KeepEstimate;
use filters::scores::Scores;
use filters::select::{Keep, select};
use sae_core::store::sample::Sample;
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;

/// Number of bootstrap draws.
const DRAWS: usize = 1000;
/// Number of captions with the lowest scores that are counted.
const LOWEST: usize = 20;
/// Number of captions of a kind that are shown.
const SHOWN: usize = 5;

/// Which swapped captions the scores find.
#[derive(Clone, Debug, Serialize)]
pub struct Captions {
    /// Samples.
    pub all: usize,
    /// Samples with a swapped caption.
    pub swapped: usize,
    /// How well each score separates them from the others.
    pub scores: Vec<Judged>,
    /// How much to keep by the first score, estimated without knowing which are swapped.
    pub estimate: KeepEstimate,
    /// The captions that each score keeps, if it keeps that share.
    pub kept: Vec<Kept>,
    /// The number of captions with the lowest values of the first score that are counted, and how many of them are swapped.
    pub lowest: [usize; 2],
    /// The lowest of these, lowest first.
    pub found: Vec<Caption>,
    /// Swapped captions with the highest first scores, highest first.
    pub missed: Vec<Caption>,
}

/// How well a score separates right captions from swapped ones.
#[derive(Clone, Debug, Serialize)]
pub struct Judged {
    /// The column.
    pub score: String,
    /// The probability that a right caption scores higher than a swapped one; 0.5 is chance.
    pub auc: f64,
    /// Its 95 % interval: samples drawn with replacement.
    pub interval: [f64; 2],
    /// The AUC of each autoencoder.
    pub by_seed: Vec<f64>,
}

/// The captions that a score keeps.
#[derive(Clone, Debug, Serialize)]
pub struct Kept {
    /// The column.
    pub score: String,
    /// Samples that are kept.
    pub samples: usize,
    /// Swapped captions among them.
    pub swapped: usize,
}

/// A caption with its score.
#[derive(Clone, Debug, Serialize)]
pub struct Caption {
    /// Number of the sample.
    pub sample: usize,
    /// The caption in the data.
    pub caption: String,
    /// The right caption of the image, before captions were swapped.
    pub own: String,
    /// Whether it is swapped.
    pub swapped: bool,
    /// Its value of the first score.
    pub score: f64,
}

impl Captions {
    /// Measures the scores of every autoencoder, and shows captions by the first score of the first autoencoder.
    ///
    /// # Errors
    /// The right captions cannot be read, or the data has no right or no swapped captions.
    pub(super) fn judge(samples: &[Sample], scores: &[Scores], right: &Path, estimate: KeepEstimate) -> Result<Self> {
        let first = scores.first().ok_or(Error::NothingToTrain)?;
        let judged = SCORES.iter().map(|score| judge(samples, scores, score)).collect::<Result<_>>()?;
        let by = &first.columns[SCORES[0]];
        let at_least = by.iter().flatten().filter(|score| **score >= estimate.threshold).count();
        let kept = SCORES.iter().map(|score| kept(samples, first, score, at_least)).collect::<Result<_>>()?;
        let own = own_captions(right)?;
        let mut order: Vec<(usize, f64)> =
            by.iter().enumerate().filter_map(|(n, score)| Some((n, (*score)?))).collect();
        order.sort_by(|a, b| a.1.total_cmp(&b.1).then(a.0.cmp(&b.0)));
        let caption = |(sample, score): &(usize, f64)| {
            let row = &samples[*sample];
            let missing = || sae_core::Error::format(right)(format!("there is no row {}", row.key));
            let own = own.get(&row.key).ok_or_else(missing)?;
            let caption = row.text.trim().to_owned();
            Ok(Caption { sample: *sample, caption, own: own.clone(), swapped: is_swapped(row), score: *score })
        };
        let lowest = &order[..LOWEST.min(order.len())];
        let missed = order.iter().rev().filter(|(n, score)| is_swapped(&samples[*n]) && *score >= estimate.threshold);
        Ok(Self {
            all: samples.len(),
            swapped: samples.iter().filter(|sample| is_swapped(sample)).count(),
            scores: judged,
            estimate,
            kept,
            lowest: [lowest.len(), lowest.iter().filter(|(n, _)| is_swapped(&samples[*n])).count()],
            found: lowest.iter().take(SHOWN).map(caption).collect::<Result<_>>()?,
            missed: missed.take(SHOWN).map(caption).collect::<Result<_>>()?,
        })
    }
}

/// A score's values of right and of swapped captions.
pub(super) fn split(scores: &Scores, score: &str, samples: &[Sample]) -> [Vec<f64>; 2] {
    let mut sides = [Vec::new(), Vec::new()];
    for (value, sample) in scores.columns[score].iter().zip(samples) {
        sides[usize::from(is_swapped(sample))].extend(*value);
    }
    sides
}

fn is_swapped(sample: &Sample) -> bool {
    sample.meta["swapped"].as_bool().unwrap_or(false)
}

fn judge(samples: &[Sample], scores: &[Scores], score: &str) -> Result<Judged> {
    let split_by = |scores: &Scores| {
        let [right, swapped] = split(scores, score, samples);
        auc(&right, &swapped).ok_or(Error::NoSwappedCaptions)
    };
    let by_seed = scores.iter().map(split_by).collect::<Result<Vec<f64>>>()?;
    let [right, swapped] = split(&scores[0], score, samples);
    let (low, high) = interval(&right, &swapped, DRAWS, 0).ok_or(Error::NoSwappedCaptions)?;
    Ok(Judged { score: score.into(), auc: by_seed[0], interval: [low, high], by_seed })
}

fn kept(samples: &[Sample], scores: &Scores, score: &str, count: usize) -> Result<Kept> {
    let ids = samples.iter().map(|sample| sample.id.clone());
    let rows: Vec<_> = ids.zip(scores.columns[score].iter().copied()).collect();
    let kept = if count > 0 { select(&rows, Keep::Count(count))? } else { vec![false; samples.len()] };
    let kept = samples.iter().zip(kept).filter(|(_, kept)| *kept).map(|(sample, _)| is_swapped(sample));
    let (mut all, mut swapped) = (0, 0);
    kept.for_each(|is_swapped| (all, swapped) = (all + 1, swapped + usize::from(is_swapped)));
    Ok(Kept { score: score.into(), samples: all, swapped })
}

/// The right caption of every image, by key.
fn own_captions(path: &Path) -> Result<BTreeMap<String, String>> {
    let text = std::fs::read_to_string(path).map_err(sae_core::Error::io("read", path))?;
    let row = |line: &str| {
        let row: Value = serde_json::from_str(line).map_err(sae_core::Error::format(path))?;
        let caption = row["conversations"][1]["value"].as_str().unwrap_or_default();
        Ok((row["id"].as_str().unwrap_or_default().to_owned(), caption.to_owned()))
    };
    text.lines().map(row).collect()
}
