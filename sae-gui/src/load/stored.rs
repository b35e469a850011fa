//! Activations of a run, a sample at a time. Holds the token columns of [`TABLES`] parts and, once one was asked for, the list of
//! samples. Weighs and explains nothing.

use crate::state::data::Active;
use filters::pooling::{PooledStore, SamplePooler};
use sae_core::Run;
use sae_core::analysis::pass::{Block, Observer};
use sae_core::autoencoder::Encoder;
use sae_core::store::sample::Sample;
use sae_core::store::{STEP, Store, StoreRecord, TokenColumns, load_samples};
use std::cell::OnceCell;
use std::collections::VecDeque;
use std::ops::Range;

/// Token columns kept. A part of 65,536 positions takes about 0.7 MB.
const TABLES: usize = 4;

/// A store, by samples.
pub struct Stored {
    run: Run,
    store: Store,
    /// Number of the sample behind the last one of each part.
    ends: Vec<u64>,
    /// Token columns by part, the last used first.
    tables: VecDeque<(usize, TokenColumns)>,
    samples: OnceCell<Result<Vec<Sample>, String>>,
}

impl Stored {
    /// The activations of a hook in a run.
    pub fn open(run: Run, hook: &str, d_in: usize) -> Result<Self, String> {
        let said = |error: sae_core::Error| error.message();
        let store = Store::open(&run, hook).map_err(said)?;
        if store.manifest().d_in != d_in {
            let there = store.manifest().d_in;
            return Err(format!("the autoencoder reads width {d_in}, the activations have {there}"));
        }
        let harvest: Option<StoreRecord> = run.read_step(STEP).map_err(said)?;
        let harvest = harvest.ok_or("run.json does not tell how the store is divided")?;
        let ends = harvest.parts.iter().scan(0, |end, part| {
            *end += part.samples;
            Some(*end)
        });
        let ends: Vec<u64> = ends.collect();
        if ends.len() != store.shards() {
            return Err(format!("run.json lists {} parts, the store has {} shards", ends.len(), store.shards()));
        }
        Ok(Self { run, store, ends, tables: VecDeque::new(), samples: OnceCell::new() })
    }

    /// What fires in a sample.
    pub fn active(&mut self, encoder: &Encoder, sample: u32) -> Result<Active, String> {
        Ok(self.encode(encoder, sample)?.2)
    }

    /// What each feature does in a sample; of the samples that are returned, only that one has positions.
    pub fn pooled(
        &mut self,
        encoder: &Encoder,
        sample: u32,
        d_sae: usize,
        threshold: f32,
    ) -> Result<PooledStore, String> {
        let said = |error: sae_core::Error| error.message();
        let (part, rows, active) = self.encode(encoder, sample)?;
        let mut pool = SamplePooler::new(sample as usize + 1, d_sae, threshold, &std::env::temp_dir()).map_err(said)?;
        let block = Block { tokens: &self.tables[0].1, rows, shard: part, hidden: &[], active: &active.rows };
        pool.observe(&block).map_err(said)?;
        pool.finish().map_err(said)
    }

    /// All samples.
    pub fn samples(&self) -> Result<&[Sample], String> {
        let read = || load_samples(&self.run).map_err(|error| error.message());
        Ok(self.samples.get_or_init(read).as_ref().map_err(Clone::clone)?)
    }

    /// A sample.
    pub fn sample(&self, number: u32) -> Result<&Sample, String> {
        let samples = self.samples()?;
        samples.get(number as usize).ok_or_else(|| format!("the run has no sample {number}, only {}", samples.len()))
    }

    /// What fires in a sample, with its part, whose token columns are the first now, and its rows there.
    fn encode(&mut self, encoder: &Encoder, sample: u32) -> Result<(usize, Range<usize>, Active), String> {
        let said = |error: sae_core::Error| error.message();
        let part = self.ends.partition_point(|end| *end <= u64::from(sample));
        if part == self.ends.len() {
            return Err(format!("no part of the store holds sample {sample}"));
        }
        match self.tables.iter().position(|(known, _)| *known == part) {
            Some(at) => self.tables.rotate_left(at),
            None => {
                let tokens = self.store.tokens(part).map_err(said)?;
                self.tables.truncate(TABLES - 1);
                self.tables.push_front((part, tokens));
            }
        }
        let samples = &self.tables[0].1.sample;
        let rows = samples.partition_point(|s| *s < sample)..samples.partition_point(|s| *s <= sample);
        let mut hidden = Vec::with_capacity(rows.len() * self.store.manifest().d_in);
        self.store.shard(part).map_err(said)?.read(rows.clone(), &mut hidden);
        Ok((part, rows, Active { rows: encoder.encode(&hidden).map_err(said)? }))
    }
}
