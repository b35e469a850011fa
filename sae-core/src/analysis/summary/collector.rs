//! Summaries of samples from a pass. The positions of a sample are consecutive, so one sample is open at a time. A piece goes on
//! from what was found in the piece that it continues.

use super::{Peak, SampleSummary, SummaryObserver, keeps_mean};
use crate::Result;
use crate::analysis::between::PositionChoice;
use crate::analysis::pass::{Block, Observer};
use crate::store::sample::Modality;
use crate::store::{PathStack, Paths};

/// Summarizes each sample during a pass, and shows it to an observer, or to several, as soon as it is complete.
pub struct SummaryCollector<S> {
    observer: S,
    choice: PositionChoice,
    samples: usize,
    open: Option<u32>,
    /// The features of the open sample, each once.
    features: Vec<u32>,
    /// For each feature, the last sample that has it, plus one, and its peak in that sample.
    seen: Vec<u32>,
    largest: Vec<Peak>,
    /// The number of positions of the open sample that count, and the sum of their hidden states.
    positions: u32,
    sum: Vec<f32>,
    paths: Paths,
    stack: PathStack<Begun>,
}

/// What was found on the path to a piece that others continue.
struct Begun {
    peaks: Vec<Peak>,
    positions: u32,
    sum: Vec<f32>,
}

impl SummaryObserver for &mut [&mut dyn SummaryObserver] {
    fn observe_sample(&mut self, summary: &SampleSummary) -> Result<()> {
        self.iter_mut().try_for_each(|observer| observer.observe_sample(summary))
    }
}

impl<S: SummaryObserver> SummaryCollector<S> {
    /// Summaries of `samples` samples and `d_sae` features over the positions that count.
    pub fn new(samples: usize, d_in: usize, d_sae: usize, choice: PositionChoice, observer: S) -> Self {
        let none = Peak { feature: 0, activation: 0.0, position: 0, modality: Modality::Text };
        Self {
            observer,
            choice,
            samples,
            open: None,
            features: Vec::new(),
            seen: vec![0; d_sae],
            largest: vec![none; d_sae],
            positions: 0,
            sum: vec![0.0; d_in],
            paths: Paths::default(),
            stack: PathStack::default(),
        }
    }

    /// The same for samples that may be pieces: a piece has the summary of the path that it ends, and those that others continue
    /// have none. A critique has that of its own positions.
    #[must_use]
    pub fn along(self, paths: Paths) -> Self {
        Self { paths, ..self }
    }

    /// Ends the last sample, and returns the observer.
    ///
    /// # Errors
    /// Those of the observer.
    pub fn finish(mut self) -> Result<S> {
        self.close()?;
        Ok(self.observer)
    }

    /// The observer.
    pub(super) fn observer(&mut self) -> &mut S {
        &mut self.observer
    }

    /// Begins a sample with what was found in the one that it continues.
    fn begin(&mut self, sample: u32) -> Result<()> {
        self.close()?;
        self.open = Some(sample);
        if let Some(begun) = self.stack.begin(self.paths.goes_on_from(sample))? {
            self.positions = begun.positions;
            self.sum.copy_from_slice(&begun.sum);
            for peak in &begun.peaks {
                self.features.push(peak.feature);
                self.seen[peak.feature as usize] = sample + 1;
                self.largest[peak.feature as usize] = *peak;
            }
        }
        Ok(())
    }

    /// Ends the last sample.
    pub(super) fn close(&mut self) -> Result<()> {
        let Some(sample) = self.open.take() else { return Ok(()) };
        if self.paths.is_continued(sample) {
            let peaks = self.features.drain(..).map(|feature| self.largest[feature as usize]).collect();
            let sum = self.sum.clone();
            self.sum.fill(0.0);
            self.stack.push(sample, Begun { peaks, positions: std::mem::take(&mut self.positions), sum });
            return Ok(());
        }
        if self.positions == 0 {
            return Ok(());
        }
        self.features.sort_unstable();
        let peaks: Vec<Peak> = self.features.drain(..).map(|feature| self.largest[feature as usize]).collect();
        let mean = if keeps_mean(sample as usize, self.samples, self.sum.len()) {
            let positions = self.positions as f32;
            self.sum.iter_mut().for_each(|value| *value /= positions);
            &self.sum[..]
        } else {
            &[]
        };
        let summary = SampleSummary { sample, peaks: &peaks, mean };
        self.observer.observe_sample(&summary)?;
        self.positions = 0;
        self.sum.fill(0.0);
        Ok(())
    }
}

impl<S: SummaryObserver> Observer for SummaryCollector<S> {
    fn observe(&mut self, block: &Block) -> Result<()> {
        let (tokens, d_in) = (block.tokens, self.sum.len());
        for (r, row) in block.positions() {
            let sample = tokens.sample[row];
            if self.open != Some(sample) {
                self.begin(sample)?;
            }
            if !self.choice.contains(tokens, row) {
                continue;
            }
            self.positions += 1;
            let hidden = &block.hidden[r * d_in..(r + 1) * d_in];
            self.sum.iter_mut().zip(hidden).for_each(|(sum, value)| *sum += value);
            let (position, modality) = (tokens.position[row], tokens.modality[row]);
            let (features, values) = block.active.row(r);
            for (&feature, &activation) in features.iter().zip(values).filter(|(_, z)| **z > 0.0) {
                let largest = &mut self.largest[feature as usize];
                let is_first = std::mem::replace(&mut self.seen[feature as usize], sample + 1) != sample + 1;
                if is_first {
                    self.features.push(feature);
                }
                if is_first || activation > largest.activation {
                    *largest = Peak { feature, activation, position, modality };
                }
            }
        }
        Ok(())
    }
}
