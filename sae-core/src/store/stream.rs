//! Activations for training: the rows of a source, shuffled in a buffer of bounded size.
//!
//! Half of the buffer is served in random order, then refilled from the source, so that half of the rows to draw from are
//! always carried over (SAE-V's mixing). Equal seeds give equal batches, and a restored stream continues with the same bits.

use crate::error::{Cause, Hint, Setting};
use crate::random::{self, ChaChaState};
use crate::store::{ExcludedCounts, PositionFilter, PositionRule, Shard, SkipList, Store, TokenColumns};
use crate::{Error, Result};
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::VecDeque;

/// An endless supply of rows.
pub trait Source {
    /// Width of a row.
    fn d_in(&self) -> usize;

    /// The number of rows before they repeat, if that is known.
    fn rows(&self) -> Option<u64>;

    /// Rows let through and rows left out so far.
    fn counts(&self) -> (u64, u64);

    /// Rows of the data that could not be used: how many, and the first of every kind of reason.
    fn skipped(&self) -> Option<&SkipList> {
        None
    }

    /// Appends the next row to `out`.
    ///
    /// # Errors
    /// A row that cannot be read or holds values that are not finite.
    fn next(&mut self, out: &mut Vec<f32>) -> Result<()>;

    /// Where the source is, for [`Self::seek`].
    fn position(&self) -> Value;

    /// Continues from a [`Self::position`] of a source with the same arguments.
    ///
    /// # Errors
    /// The position does not fit this source.
    fn seek(&mut self, position: &Value) -> Result<()>;
}

/// The rows of a store, shard by shard, without the excluded positions; if the store has a target, its rows follow those of the input.
/// The order of the shards is drawn again in each round.
pub struct StoreRows<'a> {
    store: &'a Store,
    exclusion: PositionFilter,
    seed: u64,
    rng: ChaCha8Rng,
    /// Shards of this round that are still to be read.
    shards: VecDeque<usize>,
    current: Option<Reading>,
    /// Rows let through, since the beginning.
    kept: u64,
    /// Rows left out, since the beginning.
    excluded: ExcludedCounts,
    /// Rows let through when this round began.
    before: u64,
}

struct Reading {
    number: usize,
    shard: Shard,
    tokens: Option<TokenColumns>,
    row: usize,
}

#[derive(Serialize, Deserialize)]
struct StreamPosition {
    /// The hash of each model's activations.
    activations: Vec<String>,
    rng: ChaChaState,
    shards: VecDeque<usize>,
    current: Option<(usize, usize)>,
    kept: u64,
    excluded: ExcludedCounts,
    before: u64,
}

impl<'a> StoreRows<'a> {
    /// Rows of a store in an order that the seed decides.
    ///
    /// # Errors
    /// The median norm is needed and a shard cannot be read.
    pub fn new(store: &'a Store, exclude: PositionRule, seed: u64) -> Result<Self> {
        Ok(Self {
            store,
            exclusion: PositionFilter::new(store, exclude)?,
            seed,
            rng: random::chacha(seed, 3),
            shards: VecDeque::new(),
            current: None,
            kept: 0,
            excluded: ExcludedCounts::default(),
            before: 0,
        })
    }

    fn open(&self, number: usize, row: usize) -> Result<Reading> {
        let wants = self.exclusion.rule().special || self.exclusion.rule().first;
        let tokens = wants.then(|| self.store.tokens(number)).transpose()?;
        Ok(Reading { number, shard: self.store.shard(number)?, tokens, row })
    }
}

impl Source for StoreRows<'_> {
    fn d_in(&self) -> usize {
        self.store.manifest().d_in + self.store.target().map_or(0, |target| target.manifest().d_in)
    }

    fn rows(&self) -> Option<u64> {
        Some(self.store.manifest().rows)
    }

    fn counts(&self) -> (u64, u64) {
        (self.kept, self.excluded.positions)
    }

    fn next(&mut self, out: &mut Vec<f32>) -> Result<()> {
        let start = out.len();
        loop {
            if let Some(reading) = &mut self.current
                && reading.row < reading.shard.rows()
            {
                let row = reading.row;
                reading.row += 1;
                reading.shard.read(row..row + 1, out);
                reading.shard.read_target(row..row + 1, out);
                let values = &out[start..];
                if !values.iter().all(|v| v.is_finite()) {
                    return Err(reading.shard.error(format!("row {row} holds values that are not finite")));
                }
                if self.exclusion.rule().any() {
                    let what = reading.tokens.as_ref().map(|t| (t.special[row], t.position[row]));
                    let (special, position) = what.unwrap_or((false, 1));
                    let (x, target) = out[start..].split_at(reading.shard.d_in());
                    if self.excluded.count(self.exclusion.reasons_with_target(special, position, x, target)) {
                        out.truncate(start);
                        continue;
                    }
                }
                self.kept += 1;
                return Ok(());
            }
            if self.shards.is_empty() {
                if self.current.is_some() && self.kept == self.before {
                    return Err(Error::config(Cause::with_hint(
                        "every position is excluded",
                        Hint::Lower(Setting::Exclude),
                    )));
                }
                self.before = self.kept;
                let mut order: Vec<_> = (0..self.store.shards()).collect();
                order.shuffle(&mut self.rng);
                self.shards = order.into();
            }
            let next = self.shards.pop_front().expect("a store has at least one shard");
            self.current = Some(self.open(next, 0)?);
        }
    }

    fn position(&self) -> Value {
        let position = StreamPosition {
            activations: self.store.content_hashes(),
            rng: ChaChaState::new(&self.rng, self.seed),
            shards: self.shards.clone(),
            current: self.current.as_ref().map(|r| (r.number, r.row)),
            kept: self.kept,
            excluded: self.excluded,
            before: self.before,
        };
        serde_json::to_value(position).expect("numbers and lists")
    }

    fn seek(&mut self, position: &Value) -> Result<()> {
        let other = || Error::config("the checkpoint's place in the data does not fit this store");
        let position: StreamPosition = serde_json::from_value(position.clone()).map_err(|_| other())?;
        if let Some(run) = self.store.other_run(&position.activations) {
            let text = format!("the checkpoint was trained on other activations than those of {}", run.display());
            let hints = vec!["resume with the same runs".into(), Hint::Change(Setting::SaeName)];
            return Err(Error::config(Cause::with_hint(text, Hint::AnyOf(hints))));
        }
        let shards = position.shards.iter().chain(position.current.iter().map(|(shard, _)| shard));
        if shards.into_iter().any(|shard| *shard >= self.store.shards()) {
            return Err(other());
        }
        self.rng = position.rng.restore().ok_or_else(other)?;
        self.current = position.current.map(|(shard, row)| self.open(shard, row)).transpose()?;
        (self.shards, self.before) = (position.shards, position.before);
        (self.kept, self.excluded) = (position.kept, position.excluded);
        Ok(())
    }
}

/// An endless stream of shuffled rows of a source.
pub struct Stream<'a> {
    source: Box<dyn Source + 'a>,
    seed: u64,
    rng: ChaCha8Rng,
    /// `[slots, d_in]`
    buffer: Vec<f32>,
    /// Slots in the order they are served; those before `served` are free.
    order: Vec<u32>,
    served: usize,
}

/// The state of a stream except its buffer and the buffer's order.
#[derive(Serialize, Deserialize)]
struct Snapshot {
    rng: ChaChaState,
    served: usize,
    source: Value,
}

impl<'a> Stream<'a> {
    /// Fills a buffer of `slots` rows, or of all rows if the source has fewer.
    ///
    /// # Errors
    /// A row cannot be read or holds values that are not finite.
    pub fn new(source: impl Source + 'a, slots: usize, seed: u64) -> Result<Self> {
        let slots = slots.clamp(1, source.rows().map_or(usize::MAX, |rows| rows as usize));
        let slots =
            u32::try_from(slots).map_err(|_| Error::config(format!("a buffer of {slots} rows is too large")))?;
        let mut stream = Self {
            seed,
            rng: random::chacha(seed, 1),
            buffer: vec![0.0; slots as usize * source.d_in()],
            source: Box::new(source),
            order: (0..slots).collect(),
            served: slots as usize,
        };
        stream.refill()?;
        Ok(stream)
    }

    /// Width of a row.
    pub fn d_in(&self) -> usize {
        self.source.d_in()
    }

    /// Rows that the source has let through and left out so far.
    pub fn counts(&self) -> (u64, u64) {
        self.source.counts()
    }

    /// Rows of the data that the source could not use.
    pub fn skipped(&self) -> Option<&SkipList> {
        self.source.skipped()
    }

    /// What is in the buffer, `[slots, d_in]`.
    pub fn buffer(&self) -> &[f32] {
        &self.buffer
    }

    /// Appends the next `rows` rows to `out`, `[rows, d_in]`.
    ///
    /// # Errors
    /// A row cannot be read or holds values that are not finite.
    pub fn next(&mut self, rows: usize, out: &mut Vec<f32>) -> Result<()> {
        let d = self.d_in();
        for _ in 0..rows {
            if self.served == self.order.len().div_ceil(2) {
                self.refill()?;
            }
            let slot = self.order[self.served] as usize;
            out.extend_from_slice(&self.buffer[slot * d..(slot + 1) * d]);
            self.served += 1;
        }
        Ok(())
    }

    fn refill(&mut self) -> Result<()> {
        let d = self.d_in();
        let mut row = Vec::with_capacity(d);
        for n in 0..self.served {
            row.clear();
            self.source.next(&mut row)?;
            let slot = self.order[n] as usize;
            self.buffer[slot * d..(slot + 1) * d].copy_from_slice(&row);
        }
        self.order.shuffle(&mut self.rng);
        self.served = 0;
        Ok(())
    }

    /// Slots of the buffer in the order they are served.
    pub fn order(&self) -> &[u32] {
        &self.order
    }

    /// The state of the stream except its [`Self::buffer`] and [`Self::order`], which may have a hundred million entries.
    pub fn snapshot(&self) -> Value {
        let rng = ChaChaState::new(&self.rng, self.seed);
        let snapshot = Snapshot { rng, served: self.served, source: self.source.position() };
        serde_json::to_value(snapshot).expect("numbers and lists")
    }

    /// Continues where a stream of the same source took a [`Self::snapshot`].
    ///
    /// # Errors
    /// The snapshot does not fit this stream.
    pub fn restore(&mut self, snapshot: &Value, order: Vec<u32>, buffer: Vec<f32>) -> Result<()> {
        let other = || Error::config("the checkpoint's stream does not fit this data");
        let snapshot: Snapshot = serde_json::from_value(snapshot.clone()).map_err(|_| other())?;
        let slots = self.order.len();
        let mut seen = vec![false; slots];
        order.iter().for_each(|slot| {
            if let Some(seen) = seen.get_mut(*slot as usize) {
                *seen = true;
            }
        });
        let permutation = order.len() == slots && seen.iter().all(|seen| *seen);
        if !permutation || snapshot.served > slots || buffer.len() != self.buffer.len() {
            return Err(other());
        }
        self.rng = snapshot.rng.restore().ok_or_else(other)?;
        self.source.seek(&snapshot.source)?;
        (self.order, self.served, self.buffer) = (order, snapshot.served, buffer);
        Ok(())
    }
}
