//! Cross-modal weights `w_k`: the similarity of the text tokens and the image tokens with the strongest activations of a
//! feature. There are three definitions, each a pure function of unit vectors. [`crate::top_tokens`] selects the tokens.

use crate::Result;
use crate::definition::{IMAGE, TEXT};
use crate::top_tokens::{RELEASE_TOP, TOP, TokenPosition, TopTokens, Tops};
use rayon::prelude::*;
use sae_core::random::mix;
use sae_core::store::Store;
use serde::Serialize;
use std::collections::BTreeMap;

/// Minimum number of tokens of each modality for a corrected weight. With fewer, its standard error is not meaningful.
pub const CORRECTED_LEAST: usize = 5;
/// Size of the hidden states that are in memory at once, in bytes.
const ROOM: usize = 256 << 20;

/// The mean cosine similarity of all text tokens with all image tokens, `sum_ij t_i . v_j / (n m)` (SAE-V, Eq. 7, with
/// `n = m = 5`). The paper does not define the weight if there are fewer than 5 tokens of a modality. In this case, the mean is
/// over the existing pairs. Nothing without a pair.
///
/// # Shapes
/// `text`: `[n][d_in]`. `image`: `[m][d_in]`. All vectors have norm 1.
pub fn paper(text: &[&[f32]], image: &[&[f32]]) -> Option<f64> {
    let pairs = text.len() * image.len();
    // The mean over all pairs is the product of the two sums.
    let dot: f64 = sum(text).iter().zip(sum(image)).map(|(a, b)| a * b).sum();
    (pairs > 0).then(|| dot / pairs as f64)
}

fn sum(vectors: &[&[f32]]) -> Vec<f64> {
    let mut sum = vec![0f64; vectors.first().map_or(0, |v| v.len())];
    vectors.iter().for_each(|v| sum.iter_mut().zip(*v).for_each(|(s, v)| *s += f64::from(*v)));
    sum
}

/// The tokens that represent a feature in the release: among its 30 strongest tokens of both modalities, the 5 strongest of
/// each. With fewer than 5 of one modality, the release classifies the feature as text, image or unclassified, and there is no
/// weight. Otherwise the weight is the mean of the 25 cosines, as in [`paper`].
pub fn released(strongest: &[TokenPosition]) -> Option<[Vec<TokenPosition>; 2]> {
    let strongest_of = |side: usize| -> Vec<TokenPosition> {
        strongest.iter().take(RELEASE_TOP).filter(|p| p.side as usize == side).take(TOP).copied().collect()
    };
    let both = [strongest_of(TEXT), strongest_of(IMAGE)];
    both.iter().all(|places| places.len() == TOP).then_some(both)
}

/// A corrected weight.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Estimate {
    /// The weight.
    pub weight: f64,
    /// The standard error of the weight.
    pub se: f64,
}

/// The mean of [`paper`] minus `baseline`, the mean cosine similarity of a random text token and a random image token. The
/// standard error is `se^2 = var_i(t_i . mean_j v_j) / n + var_j(mean_i t_i . v_j) / m`, because the tokens rather than their
/// pairs are the drawn units (Arvesen 1969, the jackknife of a two-sample U-statistic). Nothing with fewer than
/// [`CORRECTED_LEAST`] tokens of either modality.
///
/// # Shapes
/// See [`paper`].
pub fn corrected(text: &[&[f32]], image: &[&[f32]], baseline: f64) -> Option<Estimate> {
    if text.len().min(image.len()) < CORRECTED_LEAST {
        return None;
    }
    let against = |own: &[&[f32]], others: &[&[f32]]| {
        let sum = sum(others);
        let dot = |v: &[f32]| v.iter().zip(&sum).map(|(v, s)| f64::from(*v) * s).sum::<f64>();
        let means: Vec<f64> = own.iter().map(|v| dot(v) / others.len() as f64).collect();
        let mean = means.iter().sum::<f64>() / means.len() as f64;
        let squares: f64 = means.iter().map(|m| (m - mean).powi(2)).sum();
        squares / (means.len() - 1) as f64 / means.len() as f64
    };
    let se = (against(text, image) + against(image, text)).sqrt();
    Some(Estimate { weight: paper(text, image)? - baseline, se })
}

/// The weights of all features according to all definitions.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Weights {
    /// The weights as published.
    pub paper: Vec<Option<f64>>,
    /// The weights as released.
    pub release: Vec<Option<f64>>,
    /// The corrected weights, from which the baseline is subtracted.
    pub corrected: Vec<Option<Estimate>>,
    /// The baseline: the mean cosine similarity of random pairs.
    pub baseline: Option<f64>,
    /// Number of features with tokens of both modalities, but with too few for a weight: `[paper, release, corrected]`.
    pub too_few: [u64; 3],
    /// How similar text and image are in the features of the model: `[paper, release, corrected]`. Nothing if fewer than two
    /// features have a weight.
    pub model_scores: [Option<ModelScore>; 3],
}

/// The mean of the weights of one definition: how similar the text tokens and the image tokens of a feature are, over all features
/// that have a weight (SAE-V, Section 4.1 and Fig. 10, which compares models and training data by it).
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct ModelScore {
    /// Number of features with a weight.
    pub features: usize,
    /// The mean of their weights.
    pub mean: f64,
    /// The standard error of the mean.
    pub se: f64,
    /// The same mean if every feature gets the image tokens of another feature: what is left of it is not due to features.
    pub shuffled: f64,
    /// The standard error of `shuffled`.
    pub shuffled_se: f64,
}

impl ModelScore {
    /// Nothing with fewer than two values of either.
    fn new(own: &[f64], shuffled: &[f64]) -> Option<Self> {
        let ((mean, se), (shuffled, shuffled_se)) = (mean_and_se(own)?, mean_and_se(shuffled)?);
        Some(Self { features: own.len(), mean, se, shuffled, shuffled_se })
    }
}

fn mean_and_se(values: &[f64]) -> Option<(f64, f64)> {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let squares: f64 = values.iter().map(|v| (v - mean).powi(2)).sum();
    (values.len() > 1).then(|| (mean, (squares / (n - 1.0) / n).sqrt()))
}

impl Weights {
    /// Computes the weights. Reads the hidden states of the tokens shard by shard, at most 256 MiB at a time.
    ///
    /// # Errors
    /// A shard cannot be read.
    pub fn from_top_tokens(tops: &TopTokens, store: &Store) -> Result<Self> {
        let all = tops.features();
        let published: Vec<[Vec<TokenPosition>; 2]> = all.iter().map(|t| t.paper.clone()).collect();
        let paper_weights = with_states(store, &published, paper)?;
        let groups: Vec<[Vec<TokenPosition>; 2]> =
            all.iter().map(|t| released(&t.release).unwrap_or_default()).collect();
        let release = with_states(store, &groups, paper)?;
        let baseline = tops.baseline();
        let corrected_groups: Vec<[Vec<TokenPosition>; 2]> = all.iter().map(|t| t.corrected.clone()).collect();
        let corrected_weight =
            |text: &[&[f32]], image: &[&[f32]]| baseline.and_then(|baseline| corrected(text, image, baseline));
        let corrected = with_states(store, &corrected_groups, corrected_weight)?;
        let both = |[text, image]: &[Vec<TokenPosition>; 2]| !text.is_empty() && !image.is_empty();
        let few = |has: &dyn Fn(&Tops) -> bool, got: &dyn Fn(usize) -> bool| {
            all.iter().enumerate().filter(|(k, t)| has(t) && !got(*k)).count() as u64
        };
        let released_both = |t: &Tops| [TEXT, IMAGE].iter().all(|s| t.release.iter().any(|p| p.side as usize == *s));
        let too_few = [
            few(&|t| both(&t.paper), &|k| paper_weights[k].is_some()),
            few(&released_both, &|k| release[k].is_some()),
            few(&|t| both(&t.corrected), &|k| corrected[k].is_some()),
        ];
        let shuffled = |groups: &[[Vec<TokenPosition>; 2]], own: &[Option<f64>], less: f64| -> Result<_> {
            let weights = with_states(store, &mismatched(groups, own), paper)?;
            let weights: Vec<f64> = weights.into_iter().flatten().map(|weight| weight - less).collect();
            Ok(ModelScore::new(&own.iter().copied().flatten().collect::<Vec<_>>(), &weights))
        };
        let own: Vec<Option<f64>> = corrected.iter().map(|estimate| estimate.map(|e| e.weight)).collect();
        let model_scores = [
            shuffled(&published, &paper_weights, 0.0)?,
            shuffled(&groups, &release, 0.0)?,
            shuffled(&corrected_groups, &own, baseline.unwrap_or_default())?,
        ];
        Ok(Self { paper: paper_weights, release, corrected, baseline, too_few, model_scores })
    }

    /// The corrected weights without their standard errors.
    pub fn corrected_weights(&self) -> Vec<Option<f64>> {
        self.corrected.iter().map(|e| e.map(|e| e.weight)).collect()
    }
}

/// The tokens of each feature that has a weight, with the image tokens of another such feature, the next one in a random order
/// that is always the same.
fn mismatched(groups: &[[Vec<TokenPosition>; 2]], weights: &[Option<f64>]) -> Vec<[Vec<TokenPosition>; 2]> {
    let mut order: Vec<usize> = (0..groups.len()).filter(|k| weights[*k].is_some()).collect();
    order.sort_by_key(|k| (mix(*k as u64), *k));
    let next = order.iter().cycle().skip(1);
    order.iter().zip(next).map(|(k, next)| [groups[*k][TEXT].clone(), groups[*next][IMAGE].clone()]).collect()
}

/// Applies `compute` to the unit hidden states of the text tokens and image tokens of each group.
fn with_states<T: Send>(
    store: &Store,
    groups: &[[Vec<TokenPosition>; 2]],
    compute: impl Fn(&[&[f32]], &[&[f32]]) -> Option<T> + Sync,
) -> Result<Vec<Option<T>>> {
    let width = store.manifest().d_in;
    let room = (ROOM / (4 * width)).max(1);
    let mut results = Vec::with_capacity(groups.len());
    let (mut from, mut rows) = (0, 0);
    for to in 1..=groups.len() {
        let next = groups.get(to).map_or(usize::MAX, |[t, v]| t.len() + v.len());
        rows += groups[to - 1].iter().map(Vec::len).sum::<usize>();
        if next == usize::MAX || rows + next > room {
            let states = states(store, &groups[from..to])?;
            let unit = |p: &TokenPosition| states[&(p.shard, p.row)].as_slice();
            results.par_extend(groups[from..to].par_iter().map(|group| {
                // The states of other groups were not read.
                if group.iter().any(Vec::is_empty) {
                    return None;
                }
                let [text, image] = group.each_ref().map(|places| places.iter().map(unit).collect::<Vec<_>>());
                compute(&text, &image)
            }));
            (from, rows) = (to, 0);
        }
    }
    Ok(results)
}

/// The unit hidden states of groups that have both text and image tokens, by shard and row.
fn states(store: &Store, groups: &[[Vec<TokenPosition>; 2]]) -> Result<BTreeMap<(u32, u32), Vec<f32>>> {
    let whole = groups.iter().filter(|[text, image]| !text.is_empty() && !image.is_empty());
    let mut states: BTreeMap<(u32, u32), Vec<f32>> =
        whole.flatten().flatten().map(|p| ((p.shard, p.row), Vec::new())).collect();
    let mut open = None;
    for ((number, row), state) in &mut states {
        if open.as_ref().is_none_or(|(n, _)| n != number) {
            open = Some((*number, store.shard(*number as usize)?));
        }
        if let Some((_, shard)) = &open {
            shard.read(*row as usize..*row as usize + 1, state);
        }
        let norm = state.iter().map(|v| f64::from(*v) * f64::from(*v)).sum::<f64>().sqrt().max(f64::MIN_POSITIVE);
        state.iter_mut().for_each(|v| *v = (f64::from(*v) / norm) as f32);
    }
    Ok(states)
}
