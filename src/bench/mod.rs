//! Benchmarks: the speed of this machine, compared with a lower bound on the time. The bound and the measured work take
//! turns in one process, so that both slow down together if the speed of the machine drifts.

mod generate;
mod harvest;
mod model;
mod score;
mod serve;
mod train;

pub use generate::{BatchRate, BenchGeneratePlan, BenchGenerateReport, BenchGenerateRequest};
pub use harvest::{BenchHarvestPlan, BenchHarvestReport, BenchHarvestRequest, DepthRate, PRODUCT};
pub use model::{BenchModel, ModelShape};
pub use score::{BenchScorePlan, BenchScoreReport, BenchScoreRequest};
pub use serve::{BenchServePlan, BenchServeReport, BenchServeRequest, PageTime};
pub use train::{BenchTrainPlan, BenchTrainReport, BenchTrainRequest};

use serde::{Serialize, Serializer};

/// Seconds by stage, in the order of the stages.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Stages(pub Vec<(&'static str, f64)>);

impl Serialize for Stages {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, seconds)| (name, seconds)))
    }
}

impl Stages {
    /// The medians of several rounds.
    fn medians<const N: usize>(names: [&'static str; N], rounds: &[[f64; N]]) -> Self {
        let median_of = |n: usize| median(rounds.iter().map(|round| round[n]).collect());
        Self(names.into_iter().enumerate().map(|(n, name)| (name, median_of(n))).collect())
    }
}

fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

/// Numbers between -1 and 1 from a generator; the same on every machine.
fn noise(seed: u64) -> impl FnMut() -> f32 {
    let mut state = seed;
    move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    }
}
