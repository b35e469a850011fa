//! The activations of a run, one sample at a time, a piece with the path that leads to it: for programs that look at single samples of a large store. Keeps the
//! token columns of `TABLES` parts in memory and, once a sample was read, the list of samples.

use crate::{Error, Result};
use filters::definition::Sides;
use filters::pooling::{PooledSample, PooledStore, SamplePooler};
use sae_core::Run;
use sae_core::analysis::pass::{Block, Observer};
use sae_core::autoencoder::Encoder;
use sae_core::autoencoder::sparse::Sparse;
use sae_core::store::sample::Sample;
use sae_core::store::{STEP, Store, StoreRecord, TokenColumns, load_samples};
use std::cell::OnceCell;
use std::collections::VecDeque;
use std::ops::Range;

/// Parts whose token columns are kept. A part of 65,536 positions takes about 0.7 MB.
const TABLES: usize = 4;

/// A store that is read sample by sample.
pub struct SampleActivations {
    run: Run,
    store: Store,
    /// For each part, the number of the sample after its last one.
    ends: Vec<u64>,
    /// Token columns by part, the most recently used first.
    tables: VecDeque<(usize, TokenColumns)>,
    samples: OnceCell<Vec<Sample>>,
}

impl SampleActivations {
    /// The activations of a hook in a run, for an autoencoder that reads the width `d_in`.
    ///
    /// # Errors
    /// The run has no such activations, they have another width, or the run does not record their parts.
    pub fn open(run: Run, hook: &str, d_in: usize) -> Result<Self> {
        let store = Store::open_with_pieces(&run, hook)?;
        let manifest = store.manifest();
        if manifest.d_in != d_in {
            let (activations, hook) = (manifest.d_in, hook.to_owned());
            return Err(Error::StoreWidth { sae: d_in, activations, hook });
        }
        let record: Option<StoreRecord> = run.read_step(STEP)?;
        let record = record.ok_or_else(|| Error::NoHarvest { run: run.root().into() })?;
        let ends = record.parts.iter().scan(0, |end, part| {
            *end += part.samples;
            Some(*end)
        });
        let ends: Vec<u64> = ends.collect();
        if ends.len() != store.shards() {
            let (parts, shards) = (ends.len(), store.shards());
            return Err(Error::OtherParts { parts, shards, run: run.root().into() });
        }
        Ok(Self { run, store, ends, tables: VecDeque::new(), samples: OnceCell::new() })
    }

    /// The features that fire at each position of a sample; of a piece, at those of its path.
    ///
    /// # Errors
    /// No such sample, a part that cannot be read, or a device that failed.
    pub fn encode(&mut self, encoder: &Encoder, sample: u32) -> Result<Sparse> {
        let mut hidden = Vec::new();
        for piece in self.store.paths().path(sample) {
            let (part, rows) = self.rows(piece)?;
            self.store.shard(part)?.read(rows, &mut hidden);
        }
        Ok(encoder.encode(&hidden)?)
    }

    /// The activations of each feature in a sample, pooled; of a piece, along its path, and nothing if others continue it. Of the
    /// samples in the result, only this one has positions.
    ///
    /// # Errors
    /// As [`SampleActivations::encode`].
    pub fn pooled(
        &mut self,
        encoder: &Encoder,
        sample: u32,
        d_sae: usize,
        threshold: f32,
        sides: &Sides,
    ) -> Result<PooledStore> {
        let pooler = SamplePooler::new(sample as usize + 1, d_sae, threshold, &std::env::temp_dir())?.comparing(sides);
        let mut pooler = pooler.along(self.store.paths().clone());
        for piece in self.store.paths().path(sample) {
            let (part, rows) = self.rows(piece)?;
            let mut hidden = Vec::new();
            self.store.shard(part)?.read(rows.clone(), &mut hidden);
            let active = encoder.encode(&hidden)?;
            let block = Block::new(&self.tables[0].1, rows, part, &[], &active);
            pooler.observe(&block)?;
        }
        Ok(pooler.finish()?)
    }

    /// All samples.
    ///
    /// # Errors
    /// The table of samples cannot be read.
    pub fn samples(&self) -> Result<&[Sample]> {
        if self.samples.get().is_none() {
            let _ = self.samples.set(load_samples(&self.run)?);
        }
        Ok(self.samples.get().map_or(&[], Vec::as_slice))
    }

    /// A sample.
    ///
    /// # Errors
    /// No sample has this number, or the table of samples cannot be read.
    pub fn sample(&self, number: u32) -> Result<&Sample> {
        let samples = self.samples()?;
        let unknown = || Error::UnknownSample { asked: number.to_string(), samples: samples.len() };
        samples.get(number as usize).ok_or_else(unknown)
    }

    /// The part of a sample, and its own rows in that part. The token columns of the part become the first.
    fn rows(&mut self, sample: u32) -> Result<(usize, Range<usize>)> {
        let part = self.ends.partition_point(|end| *end <= u64::from(sample));
        if part == self.ends.len() {
            let samples = self.ends.last().copied().unwrap_or_default() as usize;
            return Err(Error::UnknownSample { asked: sample.to_string(), samples });
        }
        match self.tables.iter().position(|(known, _)| *known == part) {
            Some(at) => self.tables.rotate_left(at),
            None => {
                let tokens = self.store.tokens(part)?;
                self.tables.truncate(TABLES - 1);
                self.tables.push_front((part, tokens));
            }
        }
        let samples = &self.tables[0].1.sample;
        Ok((part, samples.partition_point(|s| *s < sample)..samples.partition_point(|s| *s <= sample)))
    }
}

/// A pooled sample, if it has positions.
pub(crate) fn sample_of(pooled: &PooledStore, number: usize) -> Result<Option<PooledSample>> {
    let mut found = None;
    pooled.each(|n, sample: &PooledSample| {
        if n == number && sample.positions != [0; 2] {
            found = Some(sample.clone());
        }
        Ok::<_, Error>(())
    })?;
    Ok(found)
}
