//! The share of an autoencoder's features that a rank has, and what ranks decide together from their shares.

use super::engine::TrainState;
use super::params::Params;
use super::ranks::{Ranks, SingleProcess};
use crate::autoencoder::sparse::Sparse;
use crate::{Error, Result};
use bytemuck::{AnyBitPattern, NoUninit};
use rayon::prelude::*;
use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

/// Consecutive features of an autoencoder, and the ranks that have the others. Where a method can fail, a rank is lost or has sent
/// something unexpected.
pub struct FeatureShare {
    ranks: Arc<dyn Ranks>,
    d_sae: usize,
}

impl FeatureShare {
    /// All features.
    pub fn whole(d_sae: usize) -> Self {
        Self { ranks: Arc::new(SingleProcess), d_sae }
    }

    /// The share of this rank in `d_sae` features.
    ///
    /// # Errors
    /// Fewer features than ranks.
    pub fn new(ranks: Arc<dyn Ranks>, d_sae: usize) -> Result<Self> {
        let count = ranks.count();
        if count > d_sae {
            return Err(Error::config(format!("{d_sae} features cannot be divided among {count} processes")));
        }
        Ok(Self { ranks, d_sae })
    }

    /// The features of the autoencoder, on all ranks.
    pub fn d_sae(&self) -> usize {
        self.d_sae
    }

    /// Whether there is no other rank.
    pub fn is_whole(&self) -> bool {
        self.ranks.count() == 1
    }

    /// Whether this rank adds what all ranks have to a sum over the ranks.
    pub fn is_first(&self) -> bool {
        self.ranks.rank() == 0
    }

    /// The features of this rank.
    pub fn features(&self) -> Range<usize> {
        self.features_of(self.ranks.rank())
    }

    fn features_of(&self, rank: usize) -> Range<usize> {
        let start = |rank: usize| rank * self.d_sae / self.ranks.count();
        start(rank)..start(rank + 1)
    }

    /// Which of some features, ascending, belong to this rank, numbered from the start of its share; and the largest number of them
    /// on any rank.
    pub fn local(&self, features: &[u32]) -> (Vec<u32>, usize) {
        let among = |range: Range<usize>| {
            let below = |end: usize| features.partition_point(|k| (*k as usize) < end);
            below(range.start)..below(range.end)
        };
        let largest = (0..self.ranks.count()).map(|rank| among(self.features_of(rank)).len()).max();
        let range = self.features();
        let local = features[among(range.clone())].iter().map(|k| k - range.start as u32);
        (local.collect(), largest.unwrap_or_default())
    }

    /// The largest number of features on any rank.
    pub fn largest_share(&self) -> usize {
        self.d_sae.div_ceil(self.ranks.count())
    }

    /// Ends of prefixes of all features as ends in the share.
    pub fn local_ends(&self, ends: &[usize]) -> Vec<usize> {
        let range = self.features();
        ends.iter().map(|end| end.clamp(&range.start, &range.end) - range.start).collect()
    }

    /// Replaces the values by their sums over the ranks.
    pub fn all_reduce(&self, values: &mut [f32]) -> Result<()> {
        self.ranks.all_reduce(values)
    }

    /// The sum of a number over the ranks.
    pub fn total(&self, local: f64) -> Result<f64> {
        if self.is_whole() { Ok(local) } else { Ok(self.all_gather(&[local])?.concat().iter().sum()) }
    }

    /// The largest of a number of every rank.
    pub fn maximum(&self, local: f32) -> Result<f32> {
        if self.is_whole() {
            Ok(local)
        } else {
            Ok(self.all_gather(&[local])?.concat().into_iter().fold(local, f32::max))
        }
    }

    /// For each feature of all ranks whether it is among those that `local` says of this rank's.
    pub fn all_flags(&self, local: Vec<bool>) -> Result<Vec<bool>> {
        if self.is_whole() {
            return Ok(local);
        }
        let first = self.features().start;
        let found: Vec<u32> = (first as u32..).zip(&local).filter(|(_, flag)| **flag).map(|(k, _)| k).collect();
        let mut flags = vec![false; self.d_sae];
        for k in self.all_gather(&found)?.concat() {
            *flags.get_mut(k as usize).ok_or_else(unexpected)? = true;
        }
        Ok(flags)
    }

    /// What every rank has, in their order.
    fn all_gather<T: NoUninit + AnyBitPattern>(&self, local: &[T]) -> Result<Vec<Vec<T>>> {
        let all = self.ranks.all_gather(bytemuck::cast_slice(local))?;
        let items = |bytes: Vec<u8>| {
            let is_whole = bytes.len().is_multiple_of(size_of::<T>());
            is_whole.then(|| bytemuck::pod_collect_to_vec(&bytes)).ok_or_else(unexpected)
        };
        all.into_iter().map(items).collect()
    }

    /// Keeps, of every row, those that are among its `k` largest on all ranks, of which each rank has found its own `k`. Ties are
    /// broken by the lower feature number.
    pub fn keep_top_k(&self, found: &mut Sparse, k: usize) -> Result<()> {
        if self.is_whole() {
            return Ok(());
        }
        let rows = found.rows();
        let counts: Vec<u32> = (0..rows).map(|row| found.range(row).len() as u32).collect();
        let (counts, values) = (self.all_gather(&counts)?, self.all_gather(found.values())?);
        // Of each rank, where the values of each row begin.
        let starts = counts.iter().zip(&values).map(|(counts, values)| {
            let mut starts = Vec::with_capacity(rows + 1);
            starts.push(0);
            counts.iter().for_each(|count| starts.push(starts[starts.len() - 1] + *count as usize));
            let fits = starts.len() == rows + 1 && starts.last() == Some(&values.len());
            fits.then_some(starts).ok_or_else(unexpected)
        });
        let starts = starts.collect::<Result<Vec<_>>>()?;
        let of_row = |row: usize| {
            let parts = values.iter().zip(&starts).map(|(values, starts)| &values[starts[row]..starts[row + 1]]);
            Cutoff::new(&parts.collect::<Vec<_>>(), k, self.ranks.rank())
        };
        let mut cutoffs: Vec<Cutoff> = (0..rows).into_par_iter().with_min_len(64).map(of_row).collect();
        let local = &starts[self.ranks.rank()];
        let mut row = 0;
        found.retain(|n, _, value| {
            while n >= local[row + 1] {
                row += 1;
            }
            cutoffs[row].keeps(value)
        });
        Ok(())
    }

    /// Keeps those that are among the `count` largest on all ranks, and returns the least of them. Ties are broken by the
    /// rank, and then by position.
    pub fn keep_largest(&self, found: &mut Sparse, count: usize) -> Result<Option<f32>> {
        let least = |values: &[f32]| values.iter().copied().min_by(f32::total_cmp);
        if self.is_whole() && found.len() <= count {
            return Ok(least(found.values()));
        }
        let gathered = if self.is_whole() { Vec::new() } else { self.all_gather(found.values())? };
        let parts = if self.is_whole() { vec![found.values()] } else { gathered.iter().map(Vec::as_slice).collect() };
        let mut cutoff = Cutoff::new(&parts, count, self.ranks.rank());
        let least = cutoff.least.or_else(|| parts.iter().filter_map(|part| least(part)).min_by(f32::total_cmp));
        found.retain(|_, _, value| cutoff.keeps(value));
        Ok(least)
    }

    /// The `k`-th largest value of every row on all ranks, of which each rank has its largest, `[rows, local]`.
    pub fn kth_largest(&self, largest: &[f32], rows: usize, k: usize) -> Result<Vec<f32>> {
        let all = self.all_gather(largest)?;
        if all.iter().any(|values| !values.len().is_multiple_of(rows)) {
            return Err(unexpected());
        }
        let kth = |row: usize| {
            let of_rank = |values: &Vec<f32>| {
                let local = values.len() / rows;
                values[row * local..(row + 1) * local].to_vec()
            };
            let mut all: Vec<f32> = all.iter().flat_map(of_rank).collect();
            let place = k.min(all.len()).saturating_sub(1);
            if all.is_empty() { f32::INFINITY } else { *all.select_nth_unstable_by(place, |a, b| b.total_cmp(a)).1 }
        };
        Ok((0..rows).into_par_iter().with_min_len(16).map(kth).collect())
    }

    /// The state of this rank at the beginning, from parameters of all features.
    pub fn initial_state(&self, params: Params) -> TrainState {
        let params = if self.is_whole() { params } else { params.part(self.features()) };
        let zeros = params.zeros_like();
        TrainState { params, first: zeros.clone(), second: zeros, l0: None }
    }

    /// The part of a state that is this rank's.
    pub fn local_state(&self, state: TrainState) -> TrainState {
        if self.is_whole() {
            return state;
        }
        let local = |params: &Params| params.part(self.features());
        let TrainState { params, first, second, l0 } = &state;
        TrainState { params: local(params), first: local(first), second: local(second), l0: *l0 }
    }

    /// The state of all ranks.
    pub fn whole_state<'a>(&self, local: Cow<'a, TrainState>) -> Result<Cow<'a, TrainState>> {
        if self.is_whole() {
            return Ok(local);
        }
        let whole = |local: &Params| -> Result<Params> {
            let mut params = local.without_features(self.d_sae);
            for (to, from) in params.arrays_of_features_mut().into_iter().zip(local.arrays_of_features()) {
                let width = from.len() / local.d_sae;
                *to = self.all_gather(from)?.concat();
                if to.len() != width * self.d_sae {
                    return Err(unexpected());
                }
            }
            Ok(params)
        };
        let TrainState { params, first, second, l0 } = &*local;
        let state = TrainState { params: whole(params)?, first: whole(first)?, second: whole(second)?, l0: *l0 };
        Ok(Cow::Owned(state))
    }
}

/// The least of the largest values of all ranks, and how many that equal it this rank keeps.
struct Cutoff {
    /// Nothing if all are kept.
    least: Option<f32>,
    equals: usize,
}

impl Cutoff {
    /// For the `count` largest of all parts. Of equal ones, those of lower parts come first.
    fn new(parts: &[&[f32]], count: usize, local: usize) -> Self {
        let mut all = parts.concat();
        if all.len() <= count {
            return Self { least: None, equals: 0 };
        }
        let least = match count.checked_sub(1) {
            Some(last) => *all.select_nth_unstable_by(last, |a, b| b.total_cmp(a)).1,
            None => f32::INFINITY,
        };
        let above = all.iter().filter(|v| **v > least).count();
        let equal = |part: &&[f32]| part.iter().filter(|v| **v == least).count();
        let before: usize = parts[..local].iter().map(equal).sum();
        Self { least: Some(least), equals: (count - above).saturating_sub(before) }
    }

    /// Whether a value is kept; called for each in their order.
    fn keeps(&mut self, value: f32) -> bool {
        let Some(least) = self.least else { return true };
        value > least || {
            let keeps = value == least && self.equals > 0;
            self.equals -= usize::from(keeps);
            keeps
        }
    }
}

fn unexpected() -> Error {
    Error::config("a process of the training sent data of another size than expected")
}
