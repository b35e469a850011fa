//! How much the loss of a model rises when a reconstruction is spliced in: cross-entropies and divergences, summed sample by
//! sample from likelihoods that the caller computes. Knows no model and no autoencoder.
//!
//! Standard errors treat samples, not tokens, as independent draws. Differences and ratios compare the same tokens, so that the
//! variation that all variants share cancels.

use super::ratio::{Estimate, ratio_of_sums};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The hidden states at the hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Variant {
    /// The activations themselves.
    Original,
    /// Reconstructions, at all positions.
    Replaced,
    /// Reconstructions at text positions.
    ReplacedText,
    /// Reconstructions at image positions.
    ReplacedImage,
    /// Their mean, at all positions: what a reconstruction without features can do.
    Mean,
    /// Zeros, at all positions.
    Zero,
}

impl Variant {
    /// All of them, the original first.
    pub const ALL: [Self; 6] =
        [Self::Original, Self::Replaced, Self::ReplacedText, Self::ReplacedImage, Self::Mean, Self::Zero];
}

/// Sums over the tokens of one sample.
#[derive(Clone, Copy, Default)]
struct SampleSums {
    tokens: f64,
    nll: [f64; Variant::ALL.len()],
    kl: [f64; Variant::ALL.len()],
}

/// Likelihoods of tokens under every variant, summed up.
#[derive(Clone, Default)]
pub struct Losses {
    samples: Vec<SampleSums>,
}

/// Means over tokens, in nats.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LossReport {
    /// Tokens that were predicted.
    pub tokens: u64,
    /// Samples that they belong to.
    pub samples: u64,
    /// Negative log-likelihood.
    pub cross_entropy: BTreeMap<Variant, Estimate>,
    /// How much it exceeds the cross-entropy of the original.
    pub increase: BTreeMap<Variant, Estimate>,
    /// `KL(original || variant)` of the predictions.
    pub kl: BTreeMap<Variant, Estimate>,
    /// `(zero - variant) / (zero - original)`: 1 is as good as the original, 0 as bad as zeros.
    pub loss_recovered: BTreeMap<Variant, Estimate>,
    /// The same for divergences, `(zero - variant) / zero`.
    pub kl_recovered: BTreeMap<Variant, Estimate>,
}

impl Losses {
    /// Adds a sample: for each token its negative log-likelihoods and divergences, in the order of
    /// [`Variant::ALL`].
    pub fn add(&mut self, tokens: impl IntoIterator<Item = [(f64, f64); Variant::ALL.len()]>) {
        let mut sums = SampleSums::default();
        for token in tokens {
            sums.tokens += 1.0;
            for (variant, (nll, kl)) in token.into_iter().enumerate() {
                sums.nll[variant] += nll;
                sums.kl[variant] += kl;
            }
        }
        if sums.tokens > 0.0 {
            self.samples.push(sums);
        }
    }

    /// Means and their errors; `None` if no token was added.
    pub fn report(&self) -> Option<LossReport> {
        if self.samples.is_empty() {
            return None;
        }
        let [original, zero] = [Variant::Original as usize, Variant::Zero as usize];
        let each = |estimate: &dyn Fn(usize) -> Estimate| -> BTreeMap<Variant, Estimate> {
            Variant::ALL.into_iter().map(|variant| (variant, estimate(variant as usize))).collect()
        };
        let others = |estimate: &dyn Fn(usize) -> Estimate| {
            let mut all = each(estimate);
            all.remove(&Variant::Original);
            all
        };
        let replaced = |estimate: &dyn Fn(usize) -> Estimate| {
            let mut all = others(estimate);
            all.remove(&Variant::Zero);
            all
        };
        Some(LossReport {
            tokens: self.samples.iter().map(|s| s.tokens).sum::<f64>() as u64,
            samples: self.samples.len() as u64,
            cross_entropy: each(&|v| self.ratio(|s| s.nll[v], |s| s.tokens)),
            increase: others(&|v| self.ratio(|s| s.nll[v] - s.nll[original], |s| s.tokens)),
            kl: others(&|v| self.ratio(|s| s.kl[v], |s| s.tokens)),
            loss_recovered: replaced(&|v| self.ratio(|s| s.nll[zero] - s.nll[v], |s| s.nll[zero] - s.nll[original])),
            kl_recovered: replaced(&|v| self.ratio(|s| s.kl[zero] - s.kl[v], |s| s.kl[zero])),
        })
    }

    fn ratio(&self, numerator: impl Fn(&SampleSums) -> f64, denominator: impl Fn(&SampleSums) -> f64) -> Estimate {
        let sums: Vec<[f64; 2]> = self.samples.iter().map(|s| [numerator(s), denominator(s)]).collect();
        ratio_of_sums(&sums)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn losses(samples: &[&[[f64; 3]]]) -> Losses {
        let mut losses = Losses::default();
        for sample in samples {
            // Original, replaced, zero; a divergence that is half of what the loss rises by.
            let token = |[original, replaced, zero]: &[f64; 3]| {
                let replaced = (*replaced, (replaced - original) / 2.0);
                let mean = ((original + zero) / 2.0, 0.0);
                [(*original, 0.0), replaced, replaced, (*original, 0.0), mean, (*zero, (zero - original) / 2.0)]
            };
            losses.add(sample.iter().map(token));
        }
        losses
    }

    #[test]
    fn losses_are_means_over_tokens_and_the_recovered_share_follows() {
        let report = losses(&[&[[1.0, 2.0, 11.0], [2.0, 2.5, 9.0]], &[[3.0, 3.0, 10.0]], &[]]).report().unwrap();
        assert_eq!((report.tokens, report.samples), (3, 2));
        let value = |estimates: &BTreeMap<Variant, Estimate>, v| estimates[&v].value;
        assert_eq!(value(&report.cross_entropy, Variant::Original), 2.0);
        assert_eq!(value(&report.cross_entropy, Variant::Replaced), 2.5);
        assert_eq!(value(&report.cross_entropy, Variant::Zero), 10.0);
        assert_eq!(value(&report.increase, Variant::Replaced), 0.5);
        assert_eq!(value(&report.kl, Variant::Zero), 4.0);
        assert_eq!(value(&report.loss_recovered, Variant::Replaced), 7.5 / 8.0);
        assert_eq!(value(&report.loss_recovered, Variant::ReplacedImage), 1.0);
        assert_eq!(value(&report.loss_recovered, Variant::Mean), 0.5);
        assert_eq!(value(&report.kl_recovered, Variant::Replaced), 3.75 / 4.0);
    }

    #[test]
    fn errors_are_of_samples_and_vanish_where_samples_agree() {
        let spread = losses(&[&[[1.0, 2.0, 9.0]], &[[3.0, 4.0, 9.0]]]).report().unwrap();
        // Two samples of a token each: the standard deviation sqrt(2) over sqrt(2).
        let se = spread.cross_entropy[&Variant::Original].se.unwrap();
        assert!((se - 1.0).abs() < 1e-12, "{se}");
        assert_eq!(spread.increase[&Variant::Replaced], Estimate { value: 1.0, se: Some(0.0) });
        assert!(spread.loss_recovered[&Variant::Replaced].se.unwrap() > 0.0);
        let alone = losses(&[&[[1.0, 2.0, 9.0], [3.0, 4.0, 9.0]]]).report().unwrap();
        assert_eq!(alone.cross_entropy[&Variant::Original].se, None);
        assert!(losses(&[]).report().is_none());
    }
}
