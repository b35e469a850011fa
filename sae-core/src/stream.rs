//! Activations for training: shards read in sequence, rows mixed in a buffer of bounded size.
//!
//! Half of the buffer is served in random order, then refilled from the stream, so that half of what is drawn from is
//! always carried over (SAE-V's mixing). The order of shards is drawn anew each epoch. Equal seeds give equal batches.

use crate::store::{Shard, Store};
use crate::{Error, Result};
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use std::collections::VecDeque;

/// An endless stream of shuffled rows of a store.
pub struct Stream<'a> {
    store: &'a Store,
    rng: ChaCha8Rng,
    /// Shards of this epoch that are still to be read.
    shards: VecDeque<usize>,
    current: Option<(Shard, usize)>,
    /// `[slots, d_in]`
    buffer: Vec<f32>,
    /// Slots in the order they are served; those before `served` are free.
    order: Vec<u32>,
    served: usize,
}

impl<'a> Stream<'a> {
    /// Fills a buffer of `slots` rows, or of all rows if the store has fewer.
    ///
    /// # Errors
    /// A shard cannot be read or holds values that are not finite.
    pub fn new(store: &'a Store, slots: usize, rng: ChaCha8Rng) -> Result<Self> {
        let slots = slots.clamp(1, store.manifest().rows as usize);
        let slots =
            u32::try_from(slots).map_err(|_| Error::Config(format!("a buffer of {slots} rows is too large")))?;
        let mut stream = Self {
            store,
            rng,
            shards: VecDeque::new(),
            current: None,
            buffer: vec![0.0; slots as usize * store.manifest().d_in],
            order: (0..slots).collect(),
            served: slots as usize,
        };
        stream.refill()?;
        Ok(stream)
    }

    /// The next `rows` rows, appended to `out`.
    pub fn next(&mut self, rows: usize, out: &mut Vec<f32>) -> Result<()> {
        let d = self.store.manifest().d_in;
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
        let d = self.store.manifest().d_in;
        let mut row = Vec::with_capacity(d);
        for n in 0..self.served {
            row.clear();
            self.next_stored(&mut row)?;
            let slot = self.order[n] as usize;
            self.buffer[slot * d..(slot + 1) * d].copy_from_slice(&row);
        }
        self.order.shuffle(&mut self.rng);
        self.served = 0;
        Ok(())
    }

    fn next_stored(&mut self, out: &mut Vec<f32>) -> Result<()> {
        loop {
            if let Some((shard, row)) = &mut self.current
                && *row < shard.rows()
            {
                shard.read(*row..*row + 1, out);
                *row += 1;
                return match out.iter().all(|v| v.is_finite()) {
                    true => Ok(()),
                    false => Err(shard.error(format!("row {} holds values that are not finite", *row - 1))),
                };
            }
            if self.shards.is_empty() {
                let mut order: Vec<_> = (0..self.store.shards()).collect();
                order.shuffle(&mut self.rng);
                self.shards = order.into();
            }
            let next = self.shards.pop_front().expect("a store has at least one shard");
            self.current = Some((self.store.shard(next)?, 0));
        }
    }
}
