//! A budget that holds for what people judged, not for what a score estimates: of selections that are tried from the safest one
//! on, the last whose upper bound keeps the limit ("Learn then Test", Angelopoulos et al. 2021, with a fixed sequence of
//! hypotheses). An estimated cost is broken by selection, since the samples that are chosen are those whose costs were
//! underestimated.

use super::candidates::Candidates;
use serde::Serialize;
use statrs::distribution::{Beta, ContinuousCDF};

/// What is judged, and how sure the limit has to be.
#[derive(Clone, Debug)]
pub struct Promise {
    /// The judged number of each sample, where there is one. Samples that a score was fitted to must not be among them.
    pub judged: Vec<Option<f64>>,
    /// The probability with which the limit is kept, such as 0.95.
    pub confidence: f64,
}

/// What is known of a promised selection.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct PromiseReport {
    /// The probability with which the limit is kept.
    pub confidence: f64,
    /// Judged candidates in all.
    pub judged: usize,
    /// Judged candidates that are kept.
    pub judged_kept: usize,
    /// Their mean.
    pub mean: Option<f64>,
    /// The upper bound of the mean of all that are kept (the lower bound, if the mean has to be at least the limit).
    pub bound: f64,
    /// The mean score that the budget alone would keep, without the promise.
    pub score_without: Option<f64>,
}

/// The judged numbers as risks from 0 to 1.
pub(super) struct Risks {
    risks: Vec<Option<f64>>,
    /// The numbers whose risks are 0 and 1.
    ends: [f64; 2],
}

impl Risks {
    /// Risks of judged numbers, of which high ones are bad. Their range is that of the numbers, at least 0 to 1 (for numbers of
    /// which low ones are bad, which come here with the other sign, -1 to 0).
    pub fn new(judged: Vec<Option<f64>>, low_is_bad: bool) -> Self {
        let (least, most) = if low_is_bad { (-1.0, 0.0) } else { (0.0, 1.0) };
        let least = judged.iter().flatten().copied().fold(least, f64::min);
        let most = judged.iter().flatten().copied().fold(most, f64::max);
        let risk = |number: f64| (number - least) / (most - least);
        Self { risks: judged.into_iter().map(|number| number.map(risk)).collect(), ends: [least, most] }
    }

    /// How many candidates are judged.
    pub fn judged(&self) -> usize {
        self.risks.iter().flatten().count()
    }

    /// How many chosen candidates are judged, their mean, and the upper bound for all chosen candidates.
    pub fn bound(&self, chosen: &[bool], confidence: f64) -> (usize, Option<f64>, f64) {
        let risks: Vec<f64> =
            self.risks.iter().zip(chosen).filter(|(_, chosen)| **chosen).filter_map(|(risk, _)| *risk).collect();
        let [least, most] = self.ends;
        let number = |risk: f64| least + risk * (most - least);
        let mean = (!risks.is_empty()).then(|| number(risks.iter().sum::<f64>() / risks.len() as f64));
        (risks.len(), mean, number(upper_bound(&risks, confidence)))
    }
}

/// The first selection in the order of prices whose successor breaks the limit, its price, and the price of the first that
/// broke it; `None` if the safest does.
pub(super) fn promised(
    candidates: &Candidates,
    risks: &Risks,
    confidence: f64,
) -> Result<(f64, Vec<bool>), (usize, f64)> {
    let mut last = None;
    for price in candidates.prices(0) {
        let chosen = candidates.at_prices(&[price]);
        let (judged, _, bound) = risks.bound(&chosen, confidence);
        if bound > candidates.limits[0] {
            return last.ok_or((judged, bound));
        }
        last = Some((price, chosen));
    }
    last.ok_or((0, f64::INFINITY))
}

/// An upper bound of the mean of numbers from 0 to 1 of which these were drawn: of zeros and ones that of Clopper and Pearson
/// (1934), of others Hoeffding's (1963).
fn upper_bound(drawn: &[f64], confidence: f64) -> f64 {
    let n = drawn.len() as f64;
    let sum: f64 = drawn.iter().sum();
    if drawn.iter().all(|risk| *risk == 0.0 || *risk == 1.0) {
        // The distribution has no bounds without draws, or if all are 1.
        return Beta::new(sum + 1.0, n - sum).map_or(1.0, |beta| beta.inverse_cdf(confidence));
    }
    (sum / n + (-(1.0 - confidence).ln() / (2.0 * n)).sqrt()).min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn upper_bounds_are_those_of_tables() {
        // Without any event among n, the bound is 1 - (1 - confidence)^(1/n).
        assert!((upper_bound(&[0.0; 30], 0.95) - (1.0 - 0.05f64.powf(1.0 / 30.0))).abs() < 1e-9);
        // 2 of 20: scipy.stats.beta.ppf(0.95, 3, 18).
        let some: Vec<f64> = (0..20).map(|n| f64::from(n < 2)).collect();
        assert!((upper_bound(&some, 0.95) - 0.282_619).abs() < 1e-5, "{}", upper_bound(&some, 0.95));
        assert_eq!(upper_bound(&[1.0; 5], 0.95), 1.0);
        assert_eq!(upper_bound(&[], 0.95), 1.0);
        let levels = [0.5; 200];
        assert!((upper_bound(&levels, 0.95) - (0.5 + (20.0f64.ln() / 400.0).sqrt())).abs() < 1e-12);
    }
}
