//! Audits of preference labels: which pairs are probably mislabeled, and how many are. Reads margins of a probe on pairs that its
//! fit has not seen, and nothing else.
//!
//! # Formulas
//! The margin `m` of a pair is the score of the answer that the label prefers, less that of the other. The label agrees with the
//! probe if `m > 0`. If a share `q` of all labels is flipped, and a probe that is sure by `|m|` is right with probability
//! `sigma(s |m|)`, then `P(agrees | m) = q + (1 - 2q) sigma(s |m|)`. `q` and `s` maximize the likelihood, and the interval of `q`
//! is that of the likelihood ratio. A label is more likely flipped than not below `m = -ln((1 - q) / q) / s`.
//!
//! For margins that are about normal, an order by `m` separates flipped from right labels with an AUC of
//! `Phi(sqrt 2 Phi^-1(accuracy))`, where the accuracy is that on right labels.

use super::loss::sigmoid;
use crate::keep::{KeepEstimate, Method};
use serde::{Deserialize, Serialize};
use statrs::distribution::{ContinuousCDF, Normal};

/// Pairs that an audit needs at least.
const FEWEST: usize = 20;
/// The shares that are tried are multiples of 1 over twice this, up to one half.
const STEPS: usize = 250;
/// Half of the 95 % quantile of the chi-squared distribution with one degree of freedom.
const LIKELIHOOD_RATIO: f64 = 1.920_729;

/// What margins say about the labels.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Audit {
    /// Pairs with a margin.
    pub pairs: usize,
    /// The share of labels that agree with the probe; half of those without a difference.
    pub agree: f64,
    /// The estimated share of flipped labels.
    pub flipped: f64,
    /// Its 95 % interval.
    pub interval: [f64; 2],
    /// The margin below which a label is more likely flipped than not; `None` if no label is.
    pub threshold: Option<f64>,
    /// The AUC with which margins find flipped labels, as the accuracy predicts it.
    pub expected_auc: f64,
}

impl Audit {
    /// Audits labels by the margins of their pairs. `None` with fewer than 20 pairs, or if no margin differs from 0.
    pub fn new(margins: &[f64]) -> Option<Self> {
        let scale = margins.iter().map(|margin| margin.abs()).fold(0.0, f64::max);
        if margins.len() < FEWEST || scale == 0.0 || !scale.is_finite() {
            return None;
        }
        let share = |step: usize| step as f64 / (2 * STEPS) as f64;
        let fits: Vec<(f64, f64)> = (0..=STEPS).map(|step| best_slope(margins, share(step), scale)).collect();
        let best = (0..fits.len()).max_by(|a, b| fits[*a].0.total_cmp(&fits[*b].0).then(b.cmp(a)))?;
        let inside = |step: &usize| fits[*step].0 >= fits[best].0 - LIKELIHOOD_RATIO;
        let interval = [(0..fits.len()).find(inside)?, (0..fits.len()).rfind(inside)?].map(share);
        let (flipped, slope) = (share(best), fits[best].1);
        let right = |margin: &f64| if *margin == 0.0 { 0.5 } else { f64::from(*margin > 0.0) };
        let agree = margins.iter().map(right).sum::<f64>() / margins.len() as f64;
        let accuracy = if flipped < 0.5 { (agree - flipped) / (1.0 - 2.0 * flipped) } else { 0.5 };
        Some(Self {
            pairs: margins.len(),
            agree,
            flipped,
            interval,
            threshold: (flipped > 0.0).then(|| -((1.0 - flipped) / flipped).ln() / slope),
            expected_auc: expected_auc(accuracy),
        })
    }

    /// How much to keep by margins: the labels that are more likely right than not.
    pub fn keep(&self, margins: &[f64]) -> KeepEstimate {
        let threshold = self.threshold.unwrap_or(f64::MIN);
        let kept = margins.iter().filter(|margin| **margin >= threshold).count();
        let share_kept = kept as f64 / margins.len().max(1) as f64;
        let (mismatched, interval) = (self.flipped, Some(self.interval));
        KeepEstimate { share_kept, threshold, mismatched, interval, method: Method::Flipped }
    }
}

/// The AUC with which normal margins of a probe of some accuracy separate right from flipped labels.
pub fn expected_auc(accuracy: f64) -> f64 {
    let normal = Normal::standard();
    normal.cdf(std::f64::consts::SQRT_2 * normal.inverse_cdf(accuracy.clamp(1e-6, 1.0 - 1e-6)))
}

/// The slope that makes the labels most likely if a share of them is flipped, after their log-likelihood (golden-section search on
/// the logarithm of the slope).
fn best_slope(margins: &[f64], flipped: f64, scale: f64) -> (f64, f64) {
    let likelihood = |log_slope: f64| {
        let slope = log_slope.exp() / scale;
        let of = |margin: &f64| {
            let agrees = flipped + (1.0 - 2.0 * flipped) * sigmoid(slope * margin.abs());
            let probability = if *margin > 0.0 { agrees } else { 1.0 - agrees };
            probability.max(f64::MIN_POSITIVE).ln()
        };
        margins.iter().map(of).sum::<f64>()
    };
    let ratio = (5f64.sqrt() - 1.0) / 2.0;
    let (mut low, mut high) = (-4.0f64, 8.0f64);
    let (mut a, mut b) = (high - ratio * (high - low), low + ratio * (high - low));
    let (mut at_a, mut at_b) = (likelihood(a), likelihood(b));
    while high - low > 1e-3 {
        if at_a > at_b {
            (high, b, at_b) = (b, a, at_a);
            a = high - ratio * (high - low);
            at_a = likelihood(a);
        } else {
            (low, a, at_a) = (a, b, at_b);
            b = low + ratio * (high - low);
            at_b = likelihood(b);
        }
    }
    let log_slope = (low + high) / 2.0;
    (likelihood(log_slope), log_slope.exp() / scale)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auc::auc;
    use sae_core::random::SplitMix64;

    /// Margins of 4,000 pairs whose preferences follow the logistic model with some slope, and which labels are flipped.
    fn margins(slope: f64, flipped: f64, seed: u64) -> Vec<(f64, bool)> {
        let mut random = SplitMix64::new(seed);
        let mut margin = || {
            let normal =
                (-2.0 * random.next_f64().max(1e-12).ln()).sqrt() * (std::f64::consts::TAU * random.next_f64()).cos();
            let right = random.next_f64() < sigmoid(slope * normal.abs());
            let is_flipped = random.next_f64() < flipped;
            (if right == is_flipped { -normal.abs() } else { normal.abs() }, is_flipped)
        };
        (0..4000).map(|_| margin()).collect()
    }

    #[test]
    fn the_share_of_flipped_labels_is_found_where_the_probe_is_strong() {
        for (seed, flipped) in [0.0, 0.1, 0.2, 0.3].into_iter().enumerate() {
            let found: Vec<f64> = margins(8.0, flipped, seed as u64).into_iter().map(|(margin, _)| margin).collect();
            let audit = Audit::new(&found).unwrap();
            assert!((audit.flipped - flipped).abs() < 0.04, "{flipped}: {audit:?}");
            assert!(audit.interval[0] <= flipped + 1e-9 && flipped <= audit.interval[1], "{flipped}: {audit:?}");
            assert!(audit.interval[1] - audit.interval[0] < 0.08, "{audit:?}");
            assert!((audit.keep(&found).share_kept - (1.0 - flipped)).abs() < 0.08, "{audit:?}");
        }
        // A weak probe cannot tell, and its interval says so.
        let weak: Vec<f64> = margins(0.3, 0.2, 9).into_iter().map(|(margin, _)| margin).collect();
        let audit = Audit::new(&weak).unwrap();
        assert!(audit.interval[1] - audit.interval[0] > 0.2, "{audit:?}");
    }

    #[test]
    fn the_accuracy_says_how_well_flipped_labels_will_be_found() {
        // Margins are normal around their mean, as the formula assumes.
        for (mean, flipped) in [(0.3, 0.1), (0.7, 0.2), (1.0, 0.3)] {
            let mut random = SplitMix64::new(4);
            let mut draw = |_: usize| {
                let normal = (-2.0 * random.next_f64().max(1e-12).ln()).sqrt()
                    * (std::f64::consts::TAU * random.next_f64()).cos();
                let is_flipped = random.next_f64() < flipped;
                ((normal + mean) * if is_flipped { -1.0 } else { 1.0 }, is_flipped)
            };
            let drawn: Vec<(f64, bool)> = (0..20_000).map(&mut draw).collect();
            let of = |side: bool| drawn.iter().filter(|pair| pair.1 == side).map(|pair| pair.0).collect::<Vec<_>>();
            let measured = auc(&of(false), &of(true)).unwrap();
            let accuracy = Normal::standard().cdf(mean);
            assert!((expected_auc(accuracy) - measured).abs() < 0.015, "{mean}: {measured}");
        }
    }

    #[test]
    fn too_few_or_equal_margins_say_nothing() {
        assert_eq!(Audit::new(&[1.0; 19]), None);
        assert_eq!(Audit::new(&[0.0; 40]), None);
        let sure = Audit::new(&[1.0; 40]).unwrap();
        assert_eq!((sure.agree, sure.flipped, sure.threshold), (1.0, 0.0, None));
    }
}
