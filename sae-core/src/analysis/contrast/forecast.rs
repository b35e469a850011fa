//! Forecasts of the next bin of trajectories, by a method that is chosen on the past alone.
//!
//! Series are logits of prevalences. A method is chosen by its mean squared error, over all series, in forecasts of each bin
//! from those before it. Its skill is measured on the last bin, which took no part in the choice:
//! `skill = 1 - MSE / MSE of persistence`, with a jackknife interval over series. A skill of at most 0 means that the method
//! is no better than the last value. If the series themselves were chosen for a trend that includes the last bin, the skill of
//! methods that continue trends is too high.

use super::study::Estimate;
use serde::{Deserialize, Serialize};

/// Number of bins that a series must have.
const FEWEST_BINS: usize = 5;
/// Number of bins from which the first forecast is made.
const FIRST: usize = 3;
/// Prevalences are kept this far from 0 and 1.
const EDGE: f64 = 1e-3;

/// How the next value of a series is computed.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ForecastMethod {
    /// The last value.
    Persistence,
    /// The last value plus the last difference: differences of order 1.
    Differences1,
    /// The continuation of the parabola through the last three values: differences of order 2.
    Differences2,
    /// Exponential smoothing with weight 0.5 for the newest value.
    Smoothing,
    /// Holt's linear trend with weights 0.5 and 0.3, damped by 0.8 (Gardner and McKenzie 1985).
    DampedTrend,
}

impl ForecastMethod {
    /// All methods. Of methods with equal errors, the first one is chosen.
    pub const ALL: [Self; 5] =
        [Self::Persistence, Self::Smoothing, Self::DampedTrend, Self::Differences1, Self::Differences2];

    /// The name in files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Persistence => "persistence",
            Self::Differences1 => "differences-1",
            Self::Differences2 => "differences-2",
            Self::Smoothing => "smoothing",
            Self::DampedTrend => "damped-trend",
        }
    }

    /// The value after `past`, which has at least three values.
    fn next(self, past: &[f64]) -> f64 {
        let last = |n: usize| past[past.len() - n];
        match self {
            Self::Persistence => last(1),
            Self::Differences1 => 2.0 * last(1) - last(2),
            Self::Differences2 => 3.0 * last(1) - 3.0 * last(2) + last(3),
            Self::Smoothing => past[1..].iter().fold(past[0], |level, x| 0.5 * level + 0.5 * x),
            Self::DampedTrend => {
                let (mut level, mut trend) = (past[0], past[1] - past[0]);
                for x in &past[1..] {
                    let before = level;
                    level = 0.5 * x + 0.5 * (level + 0.8 * trend);
                    trend = 0.3 * (level - before) + 0.7 * 0.8 * trend;
                }
                level + 0.8 * trend
            }
        }
    }
}

/// Forecasts of the bin after the last one.
#[derive(Clone, Debug, PartialEq)]
pub struct Forecast {
    /// The method that was chosen on the bins before the last one.
    pub method: ForecastMethod,
    /// Its skill on the last bin, with a 95 % jackknife interval; `None` if persistence makes no error.
    pub skill: Option<Estimate>,
    /// The skill of every method on the last bin, for comparison.
    pub skills: Vec<(ForecastMethod, Option<f64>)>,
    /// The prevalence of each series in the next bin, by the method that is best on all bins.
    pub next: Vec<f64>,
}

/// Forecasts series of prevalences. `None` if they have fewer than five bins, or there are none.
///
/// ```
/// use sae_core::analysis::contrast::{ForecastMethod, forecasts};
///
/// // Logits that grow by 0.2 from bin to bin.
/// let grow = |start: f64| (0..8).map(|bin| 1.0 / (1.0 + (-start - 0.2 * f64::from(bin)).exp())).collect::<Vec<_>>();
/// let found = forecasts(&[grow(-2.0), grow(-1.0), grow(0.0)]).unwrap();
/// assert_eq!(found.method, ForecastMethod::Differences1);
/// assert!(found.skill.unwrap().effect > 0.99);
/// ```
pub fn forecasts(series: &[Vec<f64>]) -> Option<Forecast> {
    let bins = series.first()?.len();
    if bins < FEWEST_BINS {
        return None;
    }
    let logits: Vec<Vec<f64>> = series.iter().map(|series| series.iter().map(|p| logit(*p)).collect()).collect();
    let error =
        |method: ForecastMethod, series: &[f64], bin: usize| (series[bin] - method.next(&series[..bin])).powi(2);
    let best = |bins: usize| {
        let total = |method: ForecastMethod| -> f64 {
            logits.iter().map(|series| (FIRST..bins).map(|bin| error(method, series, bin)).sum::<f64>()).sum()
        };
        let errors = ForecastMethod::ALL.map(|method| (method, total(method)));
        errors.into_iter().min_by(|a, b| a.1.total_cmp(&b.1)).map_or(ForecastMethod::Persistence, |best| best.0)
    };
    let method = best(bins - 1);
    let errors =
        |method: ForecastMethod| logits.iter().map(|series| error(method, series, bins - 1)).collect::<Vec<_>>();
    let (own, persistence) = (errors(method), errors(ForecastMethod::Persistence));
    let skills = ForecastMethod::ALL.map(|other| (other, skill(&errors(other), &persistence)));
    let chosen = best(bins);
    Some(Forecast {
        method,
        skill: jackknife(&own, &persistence),
        skills: skills.to_vec(),
        next: logits.iter().map(|series| 1.0 / (1.0 + (-chosen.next(series)).exp())).collect(),
    })
}

fn logit(p: f64) -> f64 {
    let p = p.clamp(EDGE, 1.0 - EDGE);
    (p / (1.0 - p)).ln()
}

fn skill(errors: &[f64], persistence: &[f64]) -> Option<f64> {
    let (own, last): (f64, f64) = (errors.iter().sum(), persistence.iter().sum());
    (last > 0.0).then(|| 1.0 - own / last)
}

/// The skill with an interval from leaving out one series at a time.
fn jackknife(errors: &[f64], persistence: &[f64]) -> Option<Estimate> {
    let effect = skill(errors, persistence)?;
    let n = errors.len() as f64;
    let (own, last): (f64, f64) = (errors.iter().sum(), persistence.iter().sum());
    let without = errors.iter().zip(persistence).map(|(e, p)| 1.0 - (own - e) / (last - p).max(f64::MIN_POSITIVE));
    let without: Vec<f64> = without.collect();
    let mean = without.iter().sum::<f64>() / n;
    let variance = (n - 1.0) / n * without.iter().map(|w| (w - mean).powi(2)).sum::<f64>();
    let half = if errors.len() > 1 { 1.96 * variance.sqrt() } else { f64::INFINITY };
    Some(Estimate { effect, lo: effect - half, hi: effect + half })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::SplitMix64;

    #[test]
    fn series_without_a_trend_are_forecast_by_smoothing_and_the_skill_is_honest() {
        let mut random = SplitMix64::new(2);
        let noise: Vec<Vec<f64>> = (0..200).map(|_| (0..10).map(|_| 0.3 + 0.1 * random.next_f64()).collect()).collect();
        let found = forecasts(&noise).unwrap();
        assert_eq!(found.method, ForecastMethod::Smoothing);
        let skill = found.skill.unwrap();
        assert!(skill.lo > 0.0 && skill.effect < 0.6, "{skill:?}");
        let worst = found.skills.iter().find(|(method, _)| *method == ForecastMethod::Differences2).unwrap();
        assert!(worst.1.unwrap() < -3.0);
    }

    #[test]
    fn a_random_walk_is_not_forecast() {
        let mut random = SplitMix64::new(4);
        let walk = |random: &mut SplitMix64| {
            let mut at = 0.0;
            let step = |_| {
                at += random.next_f64() - 0.5;
                1.0 / (1.0 + f64::exp(-at))
            };
            (0..12).map(step).collect::<Vec<_>>()
        };
        let walks: Vec<_> = (0..300).map(|_| walk(&mut random)).collect();
        let found = forecasts(&walks).unwrap();
        assert_eq!(found.method, ForecastMethod::Persistence);
        assert_eq!(found.skill.unwrap().effect, 0.0);
    }

    #[test]
    fn short_series_are_not_forecast() {
        assert_eq!(forecasts(&[vec![0.1; 4]]), None);
        assert_eq!(forecasts(&[]), None);
        // A series that never changes has no error to be better than.
        assert_eq!(forecasts(&[vec![0.1; 6]]).unwrap().skill, None);
    }
}
