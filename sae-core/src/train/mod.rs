//! Training: from a stream of activations to autoencoders, with logs and checkpoints.
//!
//! [`train`] trains one autoencoder on a store; a [`Session`] trains one or several in one pass over any stream, step by step. An
//! [`engine`] computes a step; `architecture` and `selection` define the architectures. Where the paper and the released code of a
//! method differ, [`TrainConfig`] says which one is followed. Never reads a model and never writes into the store.

mod adam;
mod architecture;
pub mod autodiff;
pub mod checkpoint;
mod config;
pub mod cpu;
mod dense_step;
pub mod engine;
mod events;
mod feature_share;
#[cfg(any(feature = "gpu", test))]
mod fit;
#[cfg(feature = "gpu")]
pub mod gpu;
mod log;
mod params;
pub mod ranks;
mod selection;
mod sparse_step;
mod statistics;
mod trainer;
mod update;

pub use config::{BDecInit, Decoder, JumpReluPenalty, TrainConfig, TrainingScale};
pub use events::EVENTS;
pub use log::{Log, StepLog, read_log};
pub use params::Params;
pub use trainer::{Trainer, check_off_cpu};

use crate::autoencoder::Weights;
use crate::store::stream::{StoreRows, Stream};
use crate::store::{SkipList, Store};
use crate::{Error, Result};
use burn::tensor::Device;
use ranks::{Ranks, SingleProcess};
use statistics::Statistics;
use std::sync::Arc;
use std::time::Instant;

/// Autoencoders that are trained together on one stream.
pub struct Session<'a> {
    stream: Stream<'a>,
    trainers: Vec<Trainer>,
    batch: Vec<f32>,
    ranks: Arc<dyn Ranks>,
}

impl<'a> Session<'a> {
    /// Begins a session. The seed of the first configuration decides the order of the data; all configurations must have the same
    /// `batch`, `buffer`, `steps`, `exclude` and `d_out`. The rows of a transcoder have its target after the input.
    ///
    /// # Errors
    /// A configuration that is invalid or contradicts the first, or a source that cannot be read.
    pub fn new(stream: Stream<'a>, configs: &[TrainConfig], device: &Device) -> Result<Self> {
        Self::with_ranks(stream, configs, None, device, Arc::new(SingleProcess))
    }

    /// Begins a session whose features are divided among ranks. All ranks begin the same session, and call the same methods in the same
    /// order. If there is a `base`, in the units of the store, every autoencoder starts from it and keeps the indices of its features.
    ///
    /// # Errors
    /// As [`Session::new`]; a base of another width, architecture or number of features; fewer features than ranks; several ranks on
    /// another device than a CPU, but for the TopK family on a GPU.
    pub fn with_ranks(
        stream: Stream<'a>,
        configs: &[TrainConfig],
        base: Option<&Weights>,
        device: &Device,
        ranks: Arc<dyn Ranks>,
    ) -> Result<Self> {
        let first = configs.first().ok_or_else(|| Error::config("there is nothing to train"))?;
        let width = stream.d_in();
        let d = width.checked_sub(first.d_out).filter(|d| *d > 0).ok_or_else(|| {
            Error::config(format!("rows of width {width} cannot end with a target of width {}", first.d_out))
        })?;
        for config in configs {
            config.check(d)?;
            let data = |c: &TrainConfig| (c.batch, c.buffer, c.steps, c.exclude, c.d_out);
            if data(config) != data(first) {
                let cause = "autoencoders of one pass share batch, buffer, steps, exclude and d_out";
                return Err(Error::config(cause));
            }
        }
        let trainers = configs.iter().map(|config| {
            let statistics = Statistics::new(stream.buffer(), d, config);
            Trainer::new(d, config, &statistics, base, device, &ranks)
        });
        Ok(Self { trainers: trainers.collect::<Result<_>>()?, stream, batch: Vec::new(), ranks })
    }

    /// Whether this process writes what the ranks have trained.
    pub fn is_first(&self) -> bool {
        self.ranks.rank() == 0
    }

    /// Whether this holds on some rank.
    ///
    /// # Errors
    /// A rank that is lost.
    pub fn any(&self, holds: bool) -> Result<bool> {
        Ok(self.ranks.all_gather(&[u8::from(holds)])?.concat().contains(&1))
    }

    /// Steps done.
    pub fn steps(&self) -> u64 {
        self.trainers[0].steps()
    }

    /// Rows that were used and rows that were left out so far.
    pub fn counts(&self) -> (u64, u64) {
        self.stream.counts()
    }

    /// Rows of the data that could not be used, where rows are read from a data set.
    pub fn skipped(&self) -> Option<&SkipList> {
        self.stream.skipped()
    }

    /// Whether all steps are done.
    pub fn is_done(&self) -> bool {
        self.steps() >= self.trainers[0].config().steps
    }

    /// The autoencoders, in the order of their configurations.
    pub fn trainers(&self) -> &[Trainer] {
        &self.trainers
    }

    /// Trains every autoencoder on the next batch; returns the measurements of each.
    ///
    /// # Errors
    /// A row that cannot be read, a loss that is no longer finite (that autoencoder is unchanged then), a device that failed.
    pub fn step(&mut self) -> Result<Vec<StepLog>> {
        let rows = self.trainers[0].config().batch;
        self.batch.clear();
        self.stream.next(rows, &mut self.batch)?;
        let mut logs = Vec::with_capacity(self.trainers.len());
        for trainer in &mut self.trainers {
            let start = Instant::now();
            let mut entry = trainer.step(&self.batch)?;
            entry.tokens_per_s = rows as f64 / start.elapsed().as_secs_f64();
            trainer.log_mut().push(&entry);
            logs.push(entry);
        }
        Ok(logs)
    }
}

/// Trains one autoencoder on a store, or a transcoder on a store with a target, and returns its weights in the units of the store;
/// `report` is called after every step.
///
/// # Errors
/// An invalid configuration, an unreadable store, a device that fails, or a loss that is no longer finite.
pub fn train(
    store: &Store,
    config: &TrainConfig,
    device: &Device,
    report: &mut dyn FnMut(&StepLog),
) -> Result<Weights> {
    let rows = StoreRows::new(store, config.exclude, config.seed)?;
    let stream = Stream::new(rows, config.buffer, config.seed)?;
    let mut session = Session::new(stream, std::slice::from_ref(config), device)?;
    while !session.is_done() {
        report(&session.step()?[0]);
    }
    session.trainers[0].weights()
}

#[cfg(test)]
mod crosscoder;
#[cfg(test)]
mod golden;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod transcoder;
