//! What a pass finds in each sample: the largest activation of every feature over the positions that count, where it is, and the
//! mean hidden state of these positions. Contrasts, probes and selections need nothing else of the activations, so that a stored
//! copy ([`StoredSummaries`]) answers the next question without the encoder. Tests nothing and selects nothing.

mod collector;
mod partial;
mod stored;

pub use collector::SummaryCollector;
pub use partial::PartialSummaries;
pub use stored::{Lookup, StoredSummaries, SummaryKey, SummaryWriter};

use crate::store::sample::Modality;
use crate::{Result, random};

/// Bytes of mean hidden states that are kept of a run at most.
const MEAN_BYTES: usize = 1 << 30;

/// The largest activation of a feature in a sample.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Peak {
    /// The feature.
    pub feature: u32,
    /// Its largest activation, above 0.
    pub activation: f32,
    /// The first position that has it.
    pub position: u32,
    /// The modality of that position.
    pub modality: Modality,
}

/// What is known of a sample with at least one position that counts.
#[derive(Clone, Copy, Debug)]
pub struct SampleSummary<'a> {
    /// The number of the sample.
    pub sample: u32,
    /// A peak for every feature that is active at a position that counts, by ascending feature.
    pub peaks: &'a [Peak],
    /// The mean hidden state, `[d_in]`; empty if it is not kept ([`keeps_mean`]).
    pub mean: &'a [f32],
}

/// Sees the summaries of all samples, in the order of the store.
pub trait SummaryObserver {
    /// Takes in the summary of a sample.
    ///
    /// # Errors
    /// Whatever the observer finds wrong: it ends the pass.
    fn observe_sample(&mut self, summary: &SampleSummary) -> Result<()>;
}

/// Whether the mean hidden state of a sample is kept: of all samples if that takes at most 1 GiB, otherwise of a random share
/// of them.
pub fn keeps_mean(sample: usize, samples: usize, d_in: usize) -> bool {
    let share = MEAN_BYTES as f64 / (samples.max(1) * d_in * 4) as f64;
    random::unit(random::mix(sample as u64 + 1)) < share
}

#[cfg(test)]
mod tests;
