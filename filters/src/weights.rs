//! Cross-modal weights `w_k`: how alike the text tokens and the image tokens are that a feature fires on most. Three
//! definitions, each a pure function of unit vectors; what stands for a feature is chosen by [`crate::top_tokens`].

use crate::Result;
use crate::definition::{IMAGE, TEXT};
use crate::top_tokens::{RELEASE_TOP, TOP, TokenPosition, TopTokens, Tops};
use rayon::prelude::*;
use sae_core::store::Store;
use serde::Serialize;
use std::collections::BTreeMap;

/// Fewest tokens of each modality for a corrected weight: with fewer its standard error means nothing.
pub const CORRECTED_LEAST: usize = 5;
/// Bytes of hidden states in memory at once while weights are computed.
const ROOM: usize = 256 << 20;

/// Mean of the cosines of all text tokens with all image tokens, `sum_ij t_i . v_j / (n m)` (SAE-V, Eq. 7, there with
/// `n = m = 5`). The paper does not say what holds when there are fewer than 5 of a kind: here the mean is over the pairs
/// there are. Nothing without a pair.
///
/// # Shapes
/// `text` `[n][d_in]`, `image` `[m][d_in]`, of norm 1.
pub fn paper(text: &[&[f32]], image: &[&[f32]]) -> Option<f64> {
    let pairs = text.len() * image.len();
    let sum = |of: &[&[f32]]| {
        let mut sum = vec![0f64; of.first().map_or(0, |v| v.len())];
        of.iter().for_each(|v| sum.iter_mut().zip(*v).for_each(|(s, v)| *s += f64::from(*v)));
        sum
    };
    // The mean over all pairs is the product of the two sums.
    let dot: f64 = sum(text).iter().zip(sum(image)).map(|(a, b)| a * b).sum();
    (pairs > 0).then(|| dot / pairs as f64)
}

/// The tokens that stand for a feature in the release: of its 30 strongest tokens of both modalities the 5 strongest of
/// each. With fewer than 5 of one the feature counts as text, as image or as unclassified, and has no weight. The weight is
/// then [`paper`]'s mean of 25 cosines.
pub fn released(strongest: &[TokenPosition]) -> Option<[Vec<TokenPosition>; 2]> {
    let of = |side: usize| -> Vec<TokenPosition> {
        strongest.iter().take(RELEASE_TOP).filter(|p| p.side as usize == side).take(TOP).copied().collect()
    };
    let both = [of(TEXT), of(IMAGE)];
    both.iter().all(|places| places.len() == TOP).then_some(both)
}

/// A corrected weight.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Estimate {
    /// The weight.
    pub weight: f64,
    /// Its standard error.
    pub se: f64,
}

/// [`paper`]'s mean less `baseline`, the mean cosine of a random text and a random image token, with a standard error:
/// `se^2 = var_i(t_i . mean_j v_j) / n + var_j(mean_i t_i . v_j) / m`, the tokens being the units that were drawn and not
/// their pairs (Arvesen 1969, the jackknife of a two-sample U-statistic). Nothing with fewer than [`CORRECTED_LEAST`] of
/// either.
///
/// # Shapes
/// As [`paper`].
pub fn corrected(text: &[&[f32]], image: &[&[f32]], baseline: f64) -> Option<Estimate> {
    if text.len().min(image.len()) < CORRECTED_LEAST {
        return None;
    }
    let against = |own: &[&[f32]], others: &[&[f32]]| {
        let means: Vec<f64> = own.iter().filter_map(|v| paper(&[*v], others)).collect();
        let mean = means.iter().sum::<f64>() / means.len() as f64;
        let squares: f64 = means.iter().map(|m| (m - mean).powi(2)).sum();
        squares / (means.len() - 1) as f64 / means.len() as f64
    };
    let se = (against(text, image) + against(image, text)).sqrt();
    Some(Estimate { weight: paper(text, image)? - baseline, se })
}

/// The weights of all features in all modes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Weights {
    /// As published.
    pub paper: Vec<Option<f64>>,
    /// As released.
    pub release: Vec<Option<f64>>,
    /// Without the baseline.
    pub corrected: Vec<Option<Estimate>>,
    /// Mean cosine of random pairs.
    pub baseline: Option<f64>,
    /// Features with a token of both modalities but too few of them: `[paper, release, corrected]`.
    pub too_few: [u64; 3],
}

impl Weights {
    /// Computes them. Reads the rows that the tokens point to, shard by shard, 256 MiB of them at a time.
    ///
    /// # Errors
    /// A shard that cannot be read.
    pub fn from_top_tokens(tops: &TopTokens, store: &Store) -> Result<Self> {
        let all = tops.features();
        let published: Vec<[Vec<TokenPosition>; 2]> = all.iter().map(|t| t.paper.clone()).collect();
        let paper_weights = with_states(store, &published, paper)?;
        let groups: Vec<[Vec<TokenPosition>; 2]> =
            all.iter().map(|t| released(&t.release).unwrap_or_default()).collect();
        let release = with_states(store, &groups, paper)?;
        let baseline = tops.baseline();
        let corrected_groups: Vec<[Vec<TokenPosition>; 2]> = all.iter().map(|t| t.corrected.clone()).collect();
        let of = |text: &[&[f32]], image: &[&[f32]]| baseline.and_then(|baseline| corrected(text, image, baseline));
        let corrected = with_states(store, &corrected_groups, of)?;
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
        Ok(Self { paper: paper_weights, release, corrected, baseline, too_few })
    }

    /// The corrected weights alone.
    pub fn corrected_weights(&self) -> Vec<Option<f64>> {
        self.corrected.iter().map(|e| e.map(|e| e.weight)).collect()
    }
}

/// What `of` makes of the unit hidden states of each group's text and image tokens.
fn with_states<T: Send>(
    store: &Store,
    groups: &[[Vec<TokenPosition>; 2]],
    of: impl Fn(&[&[f32]], &[&[f32]]) -> Option<T> + Sync,
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
                // Of the others no states were read.
                if group.iter().any(Vec::is_empty) {
                    return None;
                }
                let [text, image] = group.each_ref().map(|places| places.iter().map(unit).collect::<Vec<_>>());
                of(&text, &image)
            }));
            (from, rows) = (to, 0);
        }
    }
    Ok(results)
}

/// Unit hidden states by shard and row, of the groups that have both text and image tokens.
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
