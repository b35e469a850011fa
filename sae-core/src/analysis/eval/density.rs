//! How often features fire: a histogram of their densities on fixed decades, so that different autoencoders can be compared.

use serde::{Deserialize, Serialize};

/// Bins per decade.
const FINE: usize = 5;
/// Decades below 1. Features that fire more rarely than that count in the lowest bin.
const DECADES: usize = 7;

/// Shares of features by the share of positions on which they fire.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Density {
    /// `log10` of the bins' edges, ascending, one more than bins.
    pub log10_edges: Vec<f64>,
    /// Share of all features in each bin; with the dead ones they add up to 1.
    pub shares: Vec<f64>,
    /// Share of features that fire on more than 1 % of the positions.
    pub over_1_percent: f64,
    /// Share of features that fire on more than 10 % of them.
    pub over_10_percent: f64,
}

impl Density {
    /// The histogram of features that fire on `fires` of `positions`, `[d_sae]`.
    pub fn new(fires: &[u64], positions: u64) -> Self {
        let bins = DECADES * FINE;
        let mut shares = vec![0u64; bins];
        let (mut over_1, mut over_10) = (0u64, 0u64);
        for density in fires.iter().filter(|n| **n > 0).map(|n| *n as f64 / positions as f64) {
            let bin = ((density.log10() + DECADES as f64) * FINE as f64).max(0.0) as usize;
            shares[bin.min(bins - 1)] += 1;
            over_1 += u64::from(density > 0.01);
            over_10 += u64::from(density > 0.1);
        }
        let share = |n: u64| n as f64 / fires.len() as f64;
        Self {
            log10_edges: (0..=bins).map(|n| (n as f64 - bins as f64) / FINE as f64).collect(),
            shares: shares.into_iter().map(share).collect(),
            over_1_percent: share(over_1),
            over_10_percent: share(over_10),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_feature_that_fires_has_a_bin() {
        let density = Density::new(&[0, 1, 20, 150_000, 1_000_000], 1_000_000);
        let filled: Vec<_> = density.shares.iter().enumerate().filter(|(_, s)| **s > 0.0).map(|(n, _)| n).collect();
        assert_eq!(filled, [5, 11, 30, 34], "1e-6, 2e-5, 0.15 and 1");
        assert!((density.shares.iter().sum::<f64>() - 0.8).abs() < 1e-12);
        assert_eq!((density.log10_edges[0], density.log10_edges[35]), (-7.0, 0.0));
        assert_eq!((density.over_1_percent, density.over_10_percent), (0.4, 0.4));
        assert_eq!(Density::new(&[1], 100_000_000).shares[0], 1.0);
    }
}
