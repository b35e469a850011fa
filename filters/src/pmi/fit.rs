//! A fit: the canonical directions of image and text features with their correlations, and the score of a sample.

use super::moments::Vectors;
use super::svd::{self, Largest};
use super::{Chosen, LEAST, Moments, Options, Unit, nats};
use crate::definition::{IMAGE, TEXT};
use crate::pooling::PooledSample;
use crate::{Error, Result};
use faer::linalg::solvers::SvdError;
use faer::linalg::triangular_solve::{solve_lower_triangular_in_place, solve_upper_triangular_in_place};
use faer::{Mat, MatRef, Par, Side};

/// The canonical components. Pairs are `[text, image]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Fit {
    /// The features of each side.
    pub chosen: Chosen,
    /// The means of their pooled values.
    pub means: [Vec<f64>; 2],
    /// The directions of the components: `[components, features of the side]`, row-major.
    pub directions: [Vec<f64>; 2],
    /// The canonical correlations in descending order, clipped.
    pub correlations: Vec<f64>,
    /// The settings of the fit.
    pub options: Options,
}

impl Fit {
    /// Computes the components from sums over samples.
    ///
    /// # Errors
    /// There are fewer than [`LEAST`] samples, a side has no feature that distinguishes samples, or the matrices cannot be
    /// decomposed.
    pub fn new(moments: &Moments, chosen: &Chosen, options: &Options) -> Result<Self> {
        Self::decomposed_by(svd::largest, moments, chosen, options)
    }

    fn decomposed_by(
        largest: impl Fn(MatRef<f64>, usize) -> std::result::Result<Largest, SvdError>,
        moments: &Moments,
        chosen: &Chosen,
        options: &Options,
    ) -> Result<Self> {
        let request = |cause: String| Error::request(format!("pmi: {cause}"));
        if moments.samples < LEAST {
            let n = moments.samples;
            return Err(request(format!("{n} samples with text and image are too few for a fit, which needs {LEAST}")));
        }
        if chosen.features.iter().any(Vec::is_empty) {
            return Err(request(
                "no feature of text or none of image is active in some samples and not in others".into(),
            ));
        }
        let (own, cross) = moments.covariances();
        let broken = || request("the covariances cannot be decomposed: are activations finite?".into());
        let mut lower = Vec::with_capacity(2);
        for mut own in own {
            let n = own.nrows();
            let ridge = options.ridge * (0..n).map(|i| own[(i, i)]).sum::<f64>() / n as f64;
            (0..n).for_each(|i| own[(i, i)] += ridge);
            lower.push(own.llt(Side::Lower).map_err(|_| broken())?.L().to_owned());
        }
        // L_u^-1 S_ut L_t^-T: solved from the left, transposed, and solved from the left again.
        let mut left = cross;
        solve_lower_triangular_in_place(lower[IMAGE].as_ref(), left.as_mut(), Par::Seq);
        let mut both = left.transpose().to_owned();
        solve_lower_triangular_in_place(lower[TEXT].as_ref(), both.as_mut(), Par::Seq);
        let Largest { values, left, right } = largest(both.as_ref(), options.components).map_err(|_| broken())?;
        let components = values.len();
        let correlations: Vec<f64> = values.iter().map(|s| s.clamp(0.0, options.clip)).collect();
        let mut directions = [left, right];
        let mut flat = [Vec::new(), Vec::new()];
        // The sign of a pair of singular vectors is arbitrary. The largest weight of the text is made positive.
        let signs: Vec<f64> = (0..components)
            .map(|j| {
                let weight = |i: usize| directions[TEXT][(i, j)];
                let largest =
                    (0..directions[TEXT].nrows()).max_by(|a, b| weight(*a).abs().total_cmp(&weight(*b).abs()));
                if largest.is_some_and(|i| weight(i) < 0.0) { -1.0 } else { 1.0 }
            })
            .collect();
        for side in [TEXT, IMAGE] {
            let directions: &mut Mat<f64> = &mut directions[side];
            solve_upper_triangular_in_place(lower[side].transpose(), directions.as_mut(), Par::Seq);
            let column = |j: usize| (0..directions.nrows()).map(move |i| (i, j));
            flat[side] = (0..components).flat_map(column).map(|(i, j)| directions[(i, j)] * signs[j]).collect();
        }
        if flat.iter().flatten().any(|v| !v.is_finite()) {
            return Err(broken());
        }
        Ok(Self { chosen: chosen.clone(), means: moments.means(), directions: flat, correlations, options: *options })
    }

    /// The canonical variables of a sample, `[text, image]`: `q` and `p`. Nothing if it lacks content on one side.
    pub fn variables(&self, sample: &PooledSample) -> Option<[Vec<f64>; 2]> {
        self.chosen.vectors(sample, &self.options).map(|vectors| self.project(vectors))
    }

    fn project(&self, mut vectors: Vectors) -> [Vec<f64>; 2] {
        [TEXT, IMAGE].map(|side| self.variable(side, &mut vectors[side]))
    }

    /// The canonical variables of a side's vector, from which the mean is subtracted.
    fn variable(&self, side: usize, x: &mut [f64]) -> Vec<f64> {
        x.iter_mut().zip(&self.means[side]).for_each(|(x, mean)| *x -= mean);
        self.rows(side).map(|row| dot(row, x)).collect()
    }

    /// The direction of each component over the features of a side.
    fn rows(&self, side: usize) -> impl Iterator<Item = &[f64]> {
        self.directions[side].chunks_exact(self.means[side].len().max(1))
    }

    /// The score for the canonical variables `q` of a text and `p` of an image, in nats.
    pub fn score(&self, q: &[f64], p: &[f64]) -> f64 {
        self.correlations.iter().zip(p.iter().zip(q)).map(|(s, (p, q))| nats(*s, *p, *q)).sum()
    }

    /// The score of a sample in nats. Nothing if it lacks content on one side.
    pub fn score_of(&self, sample: &PooledSample) -> Option<f64> {
        let mut vectors = self.chosen.vectors(sample, &self.options)?;
        let p = self.variable(IMAGE, &mut vectors[IMAGE]);
        match self.options.unit {
            Unit::Sample => Some(self.score(&self.variable(TEXT, &mut vectors[TEXT]), &p)),
            Unit::Token => {
                // Of a token, only the few features that are active on it add to the variables of a text without any.
                let none = self.variable(TEXT, &mut vec![0.0; self.means[TEXT].len()]);
                let variable = |token: Vec<(usize, f64)>| -> Vec<f64> {
                    let adds = |row: &[f64]| token.iter().map(|(i, value)| row[*i] * value).sum::<f64>();
                    none.iter().zip(self.rows(TEXT)).map(|(none, row)| none + adds(row)).collect()
                };
                let tokens = sample.tokens.iter().map(|token| variable(self.chosen.token(token, &self.options)));
                tokens.map(|q| self.score(&q, &p)).min_by(f64::total_cmp)
            }
        }
    }

    /// The score as a polynomial, for many pairs.
    pub(super) fn pair_score(&self) -> PairScore {
        let of = |value: fn(f64) -> f64| self.correlations.iter().map(|s| value(*s)).collect::<Vec<f64>>();
        PairScore {
            constant: of(|s| -0.5 * (1.0 - s * s).ln()).iter().sum(),
            squares: of(|s| s * s / (2.0 * (1.0 - s * s))),
            products: of(|s| s / (1.0 - s * s)),
        }
    }
}

/// [`Fit::score`] divided into what a text adds, what an image adds, and one product of vectors: `c - sum a_j q_j^2 - sum a_j p_j^2 +
/// sum b_j p_j q_j`, with `a = s^2 / (2 (1 - s^2))` and `b = s / (1 - s^2)`.
pub(super) struct PairScore {
    constant: f64,
    squares: Vec<f64>,
    products: Vec<f64>,
}

/// What one side of a pair adds to its score.
#[derive(Clone, Debug, Default)]
pub(super) struct HalfPair {
    alone: f64,
    vector: Vec<f64>,
}

impl PairScore {
    /// The half of an image with these canonical variables.
    pub(super) fn image(&self, p: &[f64]) -> HalfPair {
        let vector = self.products.iter().zip(p).map(|(b, p)| b * p).collect();
        HalfPair { alone: self.constant - self.alone(p), vector }
    }

    /// The half of a text with these canonical variables.
    pub(super) fn text(&self, q: &[f64]) -> HalfPair {
        HalfPair { alone: -self.alone(q), vector: q.to_vec() }
    }

    fn alone(&self, x: &[f64]) -> f64 {
        self.squares.iter().zip(x).map(|(a, x)| a * x * x).sum()
    }
}

impl HalfPair {
    /// The score of an image with a text.
    pub(super) fn score_with(&self, other: &Self) -> f64 {
        self.alone + other.alone + dot(&self.vector, &other.vector)
    }
}

/// The product of two vectors, in eight sums that a processor computes at once.
fn dot(a: &[f64], b: &[f64]) -> f64 {
    let ((a, rest_a), (b, rest_b)) = (a.as_chunks::<8>(), b.as_chunks::<8>());
    let mut sums = [0.0; 8];
    for (a, b) in a.iter().zip(b) {
        (0..8).for_each(|i| sums[i] += a[i] * b[i]);
    }
    let rest: f64 = rest_a.iter().zip(rest_b).map(|(a, b)| a * b).sum();
    sums.iter().sum::<f64>() + rest
}

#[cfg(test)]
mod tests {
    use super::*;
    use sae_core::random::SplitMix64;

    #[test]
    fn scores_are_those_of_the_whole_decomposition() {
        // 120 pairs of 150 features each; a text's value is that of the image's, more or less.
        let features = [150, 140].map(|n: u32| (0..n).collect::<Vec<u32>>());
        let chosen = Chosen::new(features, 150);
        let value =
            |salt: u64, n: usize, k: usize| SplitMix64::nth(salt, (n * 1000 + k) as u64) as f64 / u64::MAX as f64;
        let vectors = |n: usize| -> Vectors {
            let image: Vec<f64> = (0..140).map(|k| value(1, n, k)).collect();
            let text = (0..150).map(|k| image[k % 140] * (k % 7) as f64 / 7.0 + value(2, n, k)).collect();
            [text, image]
        };
        let mut moments = Moments::new(&chosen);
        for n in 0..120 {
            moments.samples += 1;
            moments.push(vectors(n));
        }
        moments.flush();
        let options = Options { components: 16, ..Options::default() };
        let few = Fit::new(&moments, &chosen, &options).unwrap();
        let whole = Fit::decomposed_by(svd::all, &moments, &chosen, &options).unwrap();
        assert!(few.directions != whole.directions, "nothing is compared");
        for n in 0..140 {
            let [few, whole] = [&few, &whole].map(|fit| {
                let [q, p] = fit.project(vectors(n));
                fit.score(&q, &p)
            });
            assert!((few - whole).abs() < 1e-6, "{n}: {few} {whole}");
        }
        let pair_score = few.pair_score();
        for (a, b) in [(3, 3), (4, 90), (17, 2)] {
            let ([q, _], [_, p]) = (few.project(vectors(a)), few.project(vectors(b)));
            let halves = pair_score.image(&p).score_with(&pair_score.text(&q));
            assert!((halves - few.score(&q, &p)).abs() < 1e-9, "{a} {b}");
        }
    }
}
