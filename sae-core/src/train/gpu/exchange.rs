//! The step of the TopK family on a GPU that has a share of the features. What ranks exchange passes through host memory: the
//! selected features of each token, and the sums of the reconstructions. Everything else stays on the device.

use super::backward::Pass;
use super::entries::{Entries, Inputs};
use super::memory::{Buffer, Fetched, fetch, fetch_all, upload};
use super::select::TOTAL;
use super::state::GpuEngine;
use super::topk::Chosen;
use crate::Result;
use crate::autoencoder::Architecture;
use crate::autoencoder::sparse::Sparse;
use crate::train::engine::{Batch, StepStats, aux_weight};
use rayon::prelude::*;

/// Of the features that all ranks have selected, those of this one.
struct Selected {
    entries: Entries,
    /// The least activation that was selected from the batch, for architectures that select from a batch.
    least: Option<f32>,
    aux: Option<Entries>,
}

impl GpuEngine {
    /// The pass of a batch, and what it measured, which [`Self::complete_stats`] completes.
    ///
    /// # Errors
    /// A device that failed, a rank that is lost.
    pub fn exchanged_pass(&mut self, inputs: &Inputs, b_dec: &Buffer, batch: &Batch) -> Result<(Pass, StepStats)> {
        let (rows, d, slots) = (self.rows, self.d, batch.ends.len());
        let has_aux = self.config.aux_loss_coefficient > 0.0 && !batch.dead.is_empty();
        let aux = if has_aux { self.config.aux_k(d).min(batch.dead.len()) } else { 0 };
        let (dead, _) = self.share.local(batch.dead);
        let selected = loop {
            let chosen = self.choose(inputs, &dead, aux)?;
            if let Some(selected) = self.select_among_ranks(chosen, aux)? {
                break selected;
            }
        };
        let ends: Vec<u32> = self.share.local_ends(batch.ends).into_iter().map(|end| end as u32).collect();
        let ends = upload(&self.client, &ends);
        let scale = 2.0 / rows as f32;
        let local = if self.share.is_first() {
            self.residuals(inputs, b_dec, (&ends, slots), &selected.entries)
        } else {
            self.partial_residuals(inputs, (&ends, slots), &selected.entries, (scale, 1.0))
        };
        let residuals = self.reduced(&local)?;
        let costs = costs(&residuals, slots, d, scale);
        let total = |column: usize| costs.iter().map(|cost| f64::from(cost[column])).sum::<f64>() / rows as f64;
        let mut stats = StepStats {
            mse: total(0),
            errors: total(1),
            least: selected.least,
            token_errors: costs.iter().map(|cost| cost[0]).collect(),
            ..StepStats::default()
        };
        let on_device = upload(&self.client, &residuals);
        let main = self.contribution(selected.entries, on_device.clone(), (ends, slots), self.share.is_first());
        let mut pass = Pass {
            measured: vec![main.groups.start.clone()],
            contributions: vec![main],
            scalars: Vec::new(),
            norm: None,
        };
        if let Some(entries) = selected.aux {
            let last = residuals.chunks_exact(d).skip(slots - 1).step_by(slots);
            let errors: Vec<f32> = last.flatten().map(|residual| residual / scale).collect();
            let weight = aux_weight(&self.config, self.config.aux_k(d), batch.dead.len(), &errors, d) as f32;
            let scale = (self.config.aux_loss_coefficient * 2.0 / rows as f64) as f32;
            let local = if self.share.is_first() {
                let weight = upload(&self.client, &[weight]);
                self.aux_residuals((&on_device, slots), b_dec, &entries, (scale, &weight))
            } else {
                self.partial_residuals(inputs, (&self.whole, 1), &entries, (scale, weight))
            };
            let residuals = self.reduced(&local)?;
            let costs = self::costs(&residuals, 1, d, scale * weight);
            let cost = costs.iter().map(|cost| f64::from(cost[0])).sum::<f64>() / rows as f64;
            stats.aux = self.config.aux_loss_coefficient * f64::from(weight) * cost;
            let residuals = upload(&self.client, &residuals);
            pass.contributions.push(self.contribution(entries, residuals, (self.whole.clone(), 1), false));
        }
        Ok((pass, stats))
    }

    /// Adds which features were active on all ranks to the stats.
    ///
    /// # Errors
    /// A rank that is lost.
    pub fn complete_stats(&self, stats: StepStats, measured: &[Fetched]) -> Result<StepStats> {
        let starts = measured[0].numbers::<u32>();
        let fired = starts.windows(2).map(|ends| ends[0] < ends[1]).collect();
        let l0 = self.share.total(f64::from(starts[self.f]))? / self.rows as f64;
        Ok(StepStats { l0, fired: self.share.all_flags(fired)?, ..stats })
    }

    /// Keeps the features that are among the strongest of all ranks. Nothing if all ranks have to select again from more candidates, for which
    /// this prepares.
    fn select_among_ranks(&mut self, chosen: Chosen, aux: usize) -> Result<Option<Selected>> {
        let lists = std::iter::once(&chosen.entries).chain(&chosen.aux);
        let buffers = lists.flat_map(|of| [&of.features, &of.values, &of.lens]).chain([&chosen.search, &self.norms]);
        let found = fetch_all(&self.client, buffers)?;
        let [features, values, lens, of_aux @ .., search, norms] = &found[..] else {
            unreachable!("there are five arrays or more")
        };
        let norms = self.config.weighs_by_norm().then(|| norms.numbers::<f32>());
        let mut main = on_host([features, values, lens], chosen.entries.width, norms);
        let mut least = None;
        if self.config.arch == Architecture::TopK {
            self.share.keep_top_k(&mut main, self.config.k)?;
        } else {
            let (wanted, search) = (self.config.k * self.rows, search.numbers::<u32>());
            let (total, width) = (self.share.total(f64::from(search[TOTAL]))?, chosen.entries.width);
            // Every rank has to know whether one of them may have missed candidates.
            let is_full = width < self.f && lens.numbers::<u32>().iter().any(|len| *len as usize > width - width / 8);
            let any_full = self.share.maximum(f32::from(u8::from(is_full)))? > 0.0;
            if is_full {
                self.most_candidates = 2 * width;
            }
            if any_full {
                return Ok(None);
            }
            least = self.share.keep_largest(&mut main, wanted)?;
            // Candidates were found in the narrow type: near the floor some may be missing.
            let is_near = |least: f32| least < 1.02 * self.floor;
            if self.floor > 0.0 && (total < wanted as f64 || least.is_none_or(is_near)) {
                self.floor = 0.0;
                return Ok(None);
            }
            // A little below the threshold, since batches differ.
            self.floor = 0.95 * least.unwrap_or(0.0);
        }
        let aux = match (of_aux, &chosen.aux) {
            ([features, values, lens], Some(entries)) => {
                let mut kept = on_host([features, values, lens], entries.width, norms);
                self.share.keep_top_k(&mut kept, aux)?;
                Some(self.on_device(&kept, norms))
            }
            _ => None,
        };
        Ok(Some(Selected { entries: self.on_device(&main, norms), least, aux }))
    }

    /// Puts entries back on the device.
    fn on_device(&self, entries: &Sparse, norms: Option<&[f32]>) -> Entries {
        let rows = entries.rows();
        let lens: Vec<u32> = (0..rows).map(|row| entries.range(row).len() as u32).collect();
        let width = lens.iter().max().map_or(1, |len| (*len as usize).max(1));
        let (mut features, mut values) = (vec![0u32; rows * width], vec![0f32; rows * width]);
        for row in 0..rows {
            let (of_row, activations) = entries.row(row);
            features[row * width..][..of_row.len()].copy_from_slice(of_row);
            for ((to, feature), value) in values[row * width..].iter_mut().zip(of_row).zip(activations) {
                *to = norms.map_or(*value, |norms| value / norms[*feature as usize]);
            }
        }
        let client = &self.client;
        Entries {
            width,
            features: upload(client, &features),
            values: upload(client, &values),
            lens: upload(client, &lens),
        }
    }

    /// What a rank other than the first adds to the residuals: its reconstructions alone.
    fn partial_residuals(
        &self,
        inputs: &Inputs,
        ends: (&Buffer, usize),
        entries: &Entries,
        (scale, weight): (f32, f32),
    ) -> (Buffer, Buffer) {
        let weight = upload(&self.client, &[weight]);
        self.reconstruct((&inputs.x, 1), &self.norms, ends, entries, (0.0, scale, Some(&weight)))
    }

    /// The sums of residuals over the ranks.
    fn reduced(&self, (residuals, _): &(Buffer, Buffer)) -> Result<Vec<f32>> {
        let mut sums = fetch::<f32>(&self.client, residuals)?;
        self.share.all_reduce(&mut sums)?;
        Ok(sums)
    }
}

/// Entries of tokens on the host, their values times the norms if the selection weighs them.
fn on_host([features, values, lens]: [&Fetched; 3], width: usize, norms: Option<&[f32]>) -> Sparse {
    let (features, values) = (features.numbers::<u32>(), values.numbers::<f32>());
    let mut found = Sparse::default();
    for (row, len) in lens.numbers::<u32>().iter().enumerate() {
        let entries = row * width..row * width + *len as usize;
        found.push(features[entries.clone()].iter().copied().zip(values[entries].iter().copied()));
    }
    if let Some(norms) = norms {
        found.map(|feature, value| value * norms[feature as usize]);
    }
    found
}

/// Squared errors of each token, of the whole reconstruction and of all, from residuals `[rows, slots, d]`, of which each is `scale`
/// times the sum of the errors of its prefix and of all later ones.
fn costs(residuals: &[f32], slots: usize, d: usize, scale: f32) -> Vec<[f32; 2]> {
    let of_token = |token: &[f32]| {
        let mut all = 0f64;
        let mut last = 0f64;
        for slot in 0..slots {
            let own = &token[slot * d..(slot + 1) * d];
            let later = (slot + 1 < slots).then(|| &token[(slot + 1) * d..(slot + 2) * d]);
            let error = |c: usize| f64::from(own[c] - later.map_or(0.0, |later| later[c])) / f64::from(scale);
            last = (0..d).map(|c| error(c).powi(2)).sum();
            all += last;
        }
        [last as f32, all as f32]
    };
    residuals.par_chunks_exact(slots * d).map(of_token).collect()
}
