//! Scores of the patches of an image: the four patch filters of SAE-V (Algorithms 4 to 7) in the published, the released and
//! a corrected version, and two baselines. Maps the positions of any layout of views to scores of a grid of patches. Reads no
//! images.

use crate::score_names::{CO_L0, COSINE, L0, RANDOM};
use crate::{Definition, Error, Result};
use sae_core::random::{self, SplitMix64};
use std::collections::BTreeSet;
use std::str::FromStr;

/// The method by which a patch is scored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Method {
    /// The number of features that are active on the patch (Algorithm 4).
    L0,
    /// The sum of the activations on the patch (Algorithm 5).
    L1,
    /// The number of features that are active on the patch and co-occur in the sample (Algorithm 6).
    CoL0,
    /// The same, with each feature weighted by its cross-modal weight (Algorithm 7).
    Cosine,
    /// A random number, as a baseline.
    Random,
    /// The norm of the hidden state, as a baseline without an autoencoder and without gradients.
    Norm,
}

impl Method {
    /// All methods.
    pub const ALL: [(&str, Self); 6] = [
        (L0, Self::L0),
        ("l1", Self::L1),
        (CO_L0, Self::CoL0),
        (COSINE, Self::Cosine),
        (RANDOM, Self::Random),
        ("norm", Self::Norm),
    ];

    /// The name of the method.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, method)| *method == self).map_or("", |(name, _)| name)
    }
}

impl FromStr for Method {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let known = Self::ALL.iter().find(|(known, _)| *known == name);
        known
            .map(|(_, method)| *method)
            .ok_or_else(|| format!("unknown method {name:?}: expected l0, l1, co_l0, cosine, random or norm"))
    }
}

/// A position of a sample with the activations of an autoencoder.
#[derive(Clone, Copy, Debug)]
pub struct Position<'a> {
    /// The image of the sample that the position shows, or nothing for text.
    pub image: Option<usize>,
    /// The view of the image, counted from 0.
    pub view: usize,
    /// The rectangle of the image that the position shows: `[x0, y0, x1, y1]`, each between 0 and 1.
    pub rect: [f32; 4],
    /// Whether it is a position of the template, or one that begins or ends an image or a row of an image.
    pub special: bool,
    /// The features with activations above 0, in ascending order.
    pub features: &'a [u32],
    /// The activations of the features.
    pub values: &'a [f32],
    /// The norm of the hidden state.
    pub norm: f32,
}

/// The settings of a patch filter.
#[derive(Clone, Copy, Debug)]
pub struct Rule<'a> {
    /// How patches are scored.
    pub method: Method,
    /// Whose definition of the filters is used.
    pub mode: Definition,
    /// The activation above which a feature is active. The released definition uses 0 instead.
    pub threshold: f32,
    /// The cross-modal weights `w_k` of the features that have one.
    pub weights: &'a [Option<f64>],
    /// The seed of the random baseline.
    pub seed: u64,
}

impl Rule<'_> {
    fn threshold(&self) -> f32 {
        if self.mode == Definition::Release { 0.0 } else { self.threshold }
    }

    /// The features that are active on a text position and on an image position of the sample. In the corrected definition,
    /// positions without content do not count.
    pub fn co_occurring(&self, positions: &[Position]) -> BTreeSet<u32> {
        let counted = |position: &&Position| self.mode != Definition::Corrected || !position.special;
        let active = |image: bool| -> BTreeSet<u32> {
            let side = positions.iter().filter(counted).filter(|position| position.image.is_some() == image);
            side.flat_map(|position| self.active(position)).map(|(k, _)| k).collect()
        };
        &active(false) & &active(true)
    }

    fn active<'p>(&self, position: &'p Position) -> impl Iterator<Item = (u32, f32)> + use<'p> {
        let threshold = self.threshold();
        let pairs = position.features.iter().copied().zip(position.values.iter().copied());
        pairs.filter(move |(_, z)| *z > threshold)
    }

    /// The score `p_i` of one position of an image. `co` is the set of co-occurring features of the sample.
    ///
    /// L0: `|{k : z_ik > d}|`. L1: `sum_k z_ik`. Co-occurring L0: `|{k in co : z_ik > d}|`. Cosine: `sum w_k` over the
    /// same features; in the released definition, also over features that do not co-occur.
    pub fn position(&self, position: &Position, co: &BTreeSet<u32>) -> f64 {
        let weight = |k: u32| self.weights.get(k as usize).copied().flatten().unwrap_or(0.0);
        match self.method {
            Method::L0 => self.active(position).count() as f64,
            Method::L1 => position.values.iter().map(|z| f64::from(*z)).sum(),
            Method::CoL0 => self.active(position).filter(|(k, _)| co.contains(k)).count() as f64,
            Method::Cosine if self.mode == Definition::Release => self.active(position).map(|(k, _)| weight(k)).sum(),
            Method::Cosine => self.active(position).filter(|(k, _)| co.contains(k)).map(|(k, _)| weight(k)).sum(),
            Method::Norm => f64::from(position.norm),
            Method::Random => 0.0,
        }
    }

    /// The scores of the patches of one image, which are those of its first view, in order. The score of a patch is the mean
    /// over the views that show it. Within a view, the scores of positions are weighted by how much of the patch they cover.
    /// (The released code combines the base view and the tiles in this way.)
    pub fn patches(&self, positions: &[Position], image: usize) -> Vec<Patch> {
        let co = self.co_occurring(positions);
        let shown = || positions.iter().filter(|p| p.image == Some(image) && !p.special);
        let views: BTreeSet<usize> = shown().map(|position| position.view).collect();
        let Some(first) = views.first() else { return Vec::new() };
        let scored: Vec<(usize, [f32; 4], f64)> =
            shown().map(|position| (position.view, position.rect, self.position(position, &co))).collect();
        let patches = shown().filter(|position| position.view == *first).enumerate().map(|(n, patch)| {
            let score = match self.method {
                Method::Random => uniform(self.seed, image as u64, n as u64),
                _ => {
                    let seen = views.iter().filter_map(|view| {
                        let of_view = scored.iter().filter(|(v, ..)| v == view);
                        covered(of_view.map(|(_, rect, score)| (*rect, *score)), patch.rect)
                    });
                    let (sum, count) = seen.fold((0.0, 0u32), |(sum, count), score| (sum + score, count + 1));
                    if count == 0 { 0.0 } else { sum / f64::from(count) }
                }
            };
            Patch { rect: patch.rect, score, kept: false }
        });
        patches.collect()
    }
}

/// A patch of an image.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct Patch {
    /// The rectangle of the patch: `[x0, y0, x1, y1]`, each between 0 and 1.
    pub rect: [f32; 4],
    /// The score `p_i`.
    pub score: f64,
    /// Whether the patch is kept.
    pub kept: bool,
}

/// Keeps the `floor(rate * patches)` patches with the highest scores. Ties are broken by position.
///
/// # Errors
/// The rate is not between 0 and 1.
pub fn keep(patches: &mut [Patch], rate: f64) -> Result<()> {
    if !(0.0..=1.0).contains(&rate) {
        return Err(Error::request(format!("a share of {} % of the patches cannot be kept", 100.0 * rate)));
    }
    let mut order: Vec<usize> = (0..patches.len()).collect();
    order.sort_by(|a, b| patches[*b].score.total_cmp(&patches[*a].score).then(a.cmp(b)));
    // A product that is an integer up to rounding errors is that integer.
    let count = (rate * patches.len() as f64 + 1e-9).floor() as usize;
    for (n, patch) in order.into_iter().enumerate() {
        patches[patch].kept = n < count;
    }
    Ok(())
}

/// The mean of scores over a rectangle, each weighted by how much of the rectangle its own one covers. Nothing if none
/// covers any of it.
fn covered(scores: impl Iterator<Item = ([f32; 4], f64)>, over: [f32; 4]) -> Option<f64> {
    let overlap = |rect: [f32; 4]| {
        let side = |n: usize| f64::from((rect[n + 2].min(over[n + 2]) - rect[n].max(over[n])).max(0.0));
        side(0) * side(1)
    };
    let (sum, area) = scores.fold((0.0, 0.0), |(sum, area), (rect, score)| {
        let part = overlap(rect);
        (sum + part * score, area + part)
    });
    (area > 1e-12).then(|| sum / area)
}

/// A number between 0 and 1 that depends only on the seed and the location of the patch.
fn uniform(seed: u64, image: u64, patch: u64) -> f64 {
    random::unit(SplitMix64::nth(0, seed.wrapping_add(image << 40).wrapping_add(patch)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rule(method: Method, mode: Definition, weights: &[Option<f64>]) -> Rule<'_> {
        Rule { method, mode, threshold: 1.0, weights, seed: 3 }
    }

    fn at<'a>(
        image: Option<usize>,
        view: usize,
        rect: [f32; 4],
        features: &'a [u32],
        values: &'a [f32],
    ) -> Position<'a> {
        Position { image, view, rect, special: false, features, values, norm: 2.0 }
    }

    const LEFT: [f32; 4] = [0.0, 0.0, 0.5, 1.0];
    const RIGHT: [f32; 4] = [0.5, 0.0, 1.0, 1.0];

    #[test]
    fn the_published_and_the_released_formulas_by_hand() {
        // The text activates features 1 and 2, the left patch 1 (strongly), 3 and 2 (weakly), and the right one 2.
        let positions = [
            at(None, 0, [0.0; 4], &[1, 2], &[2.0, 2.0]),
            at(Some(0), 0, LEFT, &[1, 2, 3], &[4.0, 0.5, 2.0]),
            at(Some(0), 0, RIGHT, &[2], &[1.5]),
        ];
        let weights = [None, Some(0.5), Some(-0.25), Some(2.0)];
        let scores = |method, mode| {
            rule(method, mode, &weights).patches(&positions, 0).iter().map(|patch| patch.score).collect::<Vec<_>>()
        };
        assert_eq!(scores(Method::L0, Definition::Paper), [2.0, 1.0]);
        assert_eq!(scores(Method::L0, Definition::Release), [3.0, 1.0]);
        assert_eq!(scores(Method::L1, Definition::Paper), [6.5, 1.5]);
        assert_eq!(scores(Method::CoL0, Definition::Paper), [1.0, 1.0]);
        assert_eq!(scores(Method::CoL0, Definition::Release), [2.0, 1.0]);
        assert_eq!(scores(Method::Cosine, Definition::Paper), [0.5, -0.25]);
        assert_eq!(scores(Method::Cosine, Definition::Release), [2.25, -0.25]);
        assert_eq!(scores(Method::Norm, Definition::Paper), [2.0, 2.0]);
    }

    #[test]
    fn positions_without_content_count_for_nobody_once_corrected() {
        let mut word = at(None, 0, [0.0; 4], &[1], &[2.0]);
        word.special = true;
        let positions = [word, at(Some(0), 0, LEFT, &[1], &[2.0])];
        let co = |mode| rule(Method::CoL0, mode, &[]).co_occurring(&positions).len();
        assert_eq!((co(Definition::Paper), co(Definition::Corrected)), (1, 0));
    }

    #[test]
    fn views_are_averaged_by_what_they_cover() {
        // The first view shows the image in two patches, and the second one only the left half, in two rows.
        let rows = [[0.0, 0.0, 0.5, 0.5], [0.0, 0.5, 0.5, 1.0]];
        let positions = [
            at(Some(0), 0, LEFT, &[1], &[2.0]),
            at(Some(0), 0, RIGHT, &[], &[]),
            at(Some(0), 1, rows[0], &[1, 2, 3], &[2.0, 2.0, 2.0]),
            at(Some(0), 1, rows[1], &[1], &[2.0]),
        ];
        let patches = rule(Method::L0, Definition::Paper, &[]).patches(&positions, 0);
        // Left: 1 in the first view and 2 on average in the second one. Right: only the first view shows it.
        assert_eq!(patches.iter().map(|patch| patch.score).collect::<Vec<_>>(), [1.5, 0.0]);
        assert!(rule(Method::L0, Definition::Paper, &[]).patches(&positions, 1).is_empty());
    }

    proptest! {
        #[test]
        fn exactly_the_share_is_kept_and_none_that_is_kept_is_weaker(
            scores in prop::collection::vec(0u8..5, 0..60), percent in 0u32..=100,
        ) {
            let patch = |score: &u8| Patch { rect: LEFT, score: f64::from(*score), kept: false };
            let mut patches: Vec<_> = scores.iter().map(patch).collect();
            keep(&mut patches, f64::from(percent) / 100.0).unwrap();
            let kept = patches.iter().filter(|patch| patch.kept).count();
            prop_assert_eq!(kept, scores.len() * percent as usize / 100);
            let weakest = patches.iter().filter(|p| p.kept).map(|p| p.score).fold(f64::INFINITY, f64::min);
            let strongest = patches.iter().filter(|p| !p.kept).map(|p| p.score).fold(f64::NEG_INFINITY, f64::max);
            prop_assert!(weakest >= strongest);
        }

        #[test]
        fn the_counts_are_those_of_plain_loops(
            active in prop::collection::vec(prop::collection::btree_map(0u32..6, 0.0f32..3.0, 0..6), 2..8),
        ) {
            let features: Vec<(Vec<u32>, Vec<f32>)> = active.iter().map(|m| m.iter().map(|(k, z)| (*k, *z)).unzip()).collect();
            let positions: Vec<_> = features.iter().enumerate().map(|(n, (k, z))| {
                at((n % 2 == 1).then_some(0), 0, [n as f32 / 8.0, 0.0, (n + 1) as f32 / 8.0, 1.0], k, z)
            }).collect();
            let weights: Vec<_> = (0..6).map(|k| (k != 2).then_some(f64::from(k) - 1.5)).collect();
            for (mode, d) in [(Definition::Paper, 1.0), (Definition::Release, 0.0), (Definition::Corrected, 1.0)] {
                let on = |side: usize, k: u32| {
                    active.iter().enumerate().any(|(n, m)| n % 2 == side && m.get(&k).is_some_and(|z| *z > d))
                };
                let images = active.iter().enumerate().filter(|(n, _)| n % 2 == 1).map(|(_, m)| m);
                let expected: Vec<[f64; 4]> = images.map(|m| {
                    let mut sums = [0.0; 4];
                    for (k, z) in m {
                        let (active, co) = (*z > d, on(0, *k) && on(1, *k));
                        let weight = weights[*k as usize].unwrap_or(0.0);
                        sums[0] += f64::from(active);
                        sums[1] += f64::from(*z);
                        sums[2] += f64::from(active && co);
                        sums[3] += if active && (co || mode == Definition::Release) { weight } else { 0.0 };
                    }
                    sums
                }).collect();
                for (n, method) in [Method::L0, Method::L1, Method::CoL0, Method::Cosine].into_iter().enumerate() {
                    let found = rule(method, mode, &weights).patches(&positions, 0);
                    for (found, expected) in found.iter().zip(&expected) {
                        prop_assert!((found.score - expected[n]).abs() < 1e-9);
                    }
                }
            }
        }
    }
}
