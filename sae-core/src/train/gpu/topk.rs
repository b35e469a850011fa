//! The forward and backward pass of TopK, BatchTopK and Matryoshka, with AuxK: selects the strongest features, and computes
//! the reconstructions and their residuals. Changes no parameter.

use super::backward::Pass;
use super::entries::{Entries, Inputs};
use super::memory::{Buffer, allocate, fetch, upload};
use super::select::{self, ALL, BINS, CANDIDATES, LISTED, float_of, order_of};
use super::state::GpuEngine;
use super::{cubes, units};
use crate::Result;
use crate::autoencoder::Architecture;
use crate::train::engine::{Batch, StepStats};

/// How many candidates to collect for the `k` largest of `features`: a few more than `k`, since the rounding of the product
/// may rank a feature below some that are smaller.
fn with_margin(k: usize, features: usize) -> usize {
    (k + (k / 4).max(16)).min(features)
}

impl GpuEngine {
    /// The pass of a batch.
    ///
    /// # Errors
    /// A device that failed.
    pub fn pass_of_strongest(&mut self, inputs: &Inputs, b_dec: &Buffer, batch: &Batch) -> Result<Pass> {
        let (client, d) = (self.client.clone(), self.d);
        let rows = self.rows as f64;
        let slots = batch.ends.len();
        let ends: Vec<u32> = batch.ends.iter().map(|end| *end as u32).collect();
        let ends = upload(&client, &ends);
        let aux = if self.config.aux_loss_coefficient > 0.0 && !batch.dead.is_empty() {
            self.config.aux_k(d).min(batch.dead.len())
        } else {
            0
        };
        let (chosen, least, chosen_aux) = self.choose(inputs, batch.dead, aux)?;
        let (residuals, costs) = self.residuals(inputs, b_dec, (&ends, slots), &chosen);
        let main = self.contribution(chosen, residuals, (ends, slots), true)?;
        let costs: Vec<f32> = fetch(&client, &costs)?;
        let total = |column: usize| costs.iter().skip(column).step_by(2).map(|c| f64::from(*c)).sum::<f64>();
        let mut stats = StepStats {
            mse: total(0) / rows,
            errors: total(1) / rows,
            l0: main.groups.len() as f64 / rows,
            least,
            fired: main.groups.occupied(),
            token_errors: costs.iter().step_by(2).copied().collect(),
            ..StepStats::default()
        };
        let mut contributions = vec![main];
        if let Some(chosen) = chosen_aux {
            let residuals = &contributions[0].residuals;
            let weight = if self.config.aux_relative {
                // The error's total variance, from its squares and the sums of its columns.
                let sums = self.column_sums(residuals, self.rows, slots * d, (slots - 1) * d, None)?;
                let squares: f64 = sums.iter().map(|s| (f64::from(*s) * rows / 2.0).powi(2)).sum();
                rows / (total(0) - squares / rows).max(f64::MIN_POSITIVE)
            } else {
                (batch.dead.len() as f64 / self.config.aux_k(d) as f64).min(1.0)
            };
            let weight = self.config.aux_loss_coefficient * weight;
            let scale = (weight * 2.0 / rows) as f32;
            let (residuals, costs) = self.aux_residuals((residuals, slots), b_dec, &chosen, scale);
            let costs: Vec<f32> = fetch(&client, &costs)?;
            stats.aux = weight * costs.iter().step_by(2).map(|c| f64::from(*c)).sum::<f64>() / rows;
            contributions.push(self.contribution(chosen, residuals, (self.whole.clone(), 1), false)?);
        }
        Ok(Pass { stats, contributions, scalars: Vec::new(), norm: None })
    }

    /// The largest products of every row among those whose sort key is above `floor`: of all features, or of listed ones.
    fn candidates(&self, p: &Buffer, rows: usize, listed: Option<(&Buffer, usize)>, floor: u32, out: &Entries) {
        let (list, columns, from) = match listed {
            Some((list, len)) => (list, len, LISTED),
            None => (&self.norms, self.f, ALL),
        };
        let (bias, gain) = (self.bias().arg(), self.norms.arg());
        let (features, values, lens) = (out.features.arg(), out.values.arg(), out.lens.arg());
        let (f, keep, weighed) = (self.f, out.width, self.config.weighs_by_norm());
        // The kernel does not read this argument here, but it needs one.
        let none = self.norms.arg();
        let (cubes, units, client) = (cubes(rows), units(), &self.client);
        select::strongest::launch(
            client,
            cubes,
            units,
            p.arg(),
            list.arg(),
            none,
            bias,
            gain,
            features,
            values,
            lens,
            f,
            columns,
            keep,
            floor,
            from,
            weighed,
        );
    }

    /// The `keep` largest candidates of each token whose sort key is above `floor`, by ascending feature.
    fn keep(&self, entries: &Entries, keep: usize, floor: u32) -> Entries {
        let out = Entries::new(&self.client, self.rows, keep);
        let (bias, gain) = (self.bias().arg(), self.norms.arg());
        let (features, values, lens) = (out.features.arg(), out.values.arg(), out.lens.arg());
        let (width, weighed) = (entries.width, self.config.weighs_by_norm());
        let (of, had) = (entries.features.arg(), entries.lens.arg());
        let (count, units, client) = (cubes(self.rows), units(), &self.client);
        let p = entries.values.arg();
        select::strongest::launch(
            client, count, units, p, of, had, bias, gain, features, values, lens, width, 0, keep, floor, CANDIDATES,
            weighed,
        );
        let sorted = Entries { lens: out.lens.clone(), ..Entries::new(client, self.rows, keep) };
        let (features, values, lens) = (out.features.arg(), out.values.arg(), out.lens.arg());
        let (to_features, to_values) = (sorted.features.arg(), sorted.values.arg());
        select::ascending::launch(
            client,
            cubes(self.rows),
            units,
            features,
            values,
            lens,
            to_features,
            to_values,
            keep,
        );
        sorted
    }

    /// The sort key of the `count`-th largest entry of a batch (of the smallest if there are fewer), and the number of
    /// entries.
    fn cut(&self, entries: &Entries, count: usize) -> Result<(u32, usize)> {
        let (mut found, mut left, mut total) = (0u32, count as u64, 0u64);
        for pass in 0..3u32 {
            let bins = upload(&self.client, &[0u32; BINS]);
            let (values, features, lens) = (entries.values.arg(), entries.features.arg(), entries.lens.arg());
            let (count, units, client) = (cubes(self.rows), units(), &self.client);
            let (gain, weighed, width) = (self.norms.arg(), self.config.weighs_by_norm(), entries.width);
            let to = bins.arg();
            select::digits::launch(client, count, units, values, features, lens, gain, to, width, found, pass, weighed);
            let bins: Vec<u32> = fetch(&self.client, &bins)?;
            if pass == 0 {
                total = bins.iter().map(|n| u64::from(*n)).sum();
                left = left.min(total);
                if total == 0 {
                    return Ok((order_of(0.0), 0));
                }
            }
            let mut bin = BINS;
            while bin > 0 {
                bin -= 1;
                if u64::from(bins[bin]) >= left {
                    break;
                }
                left -= u64::from(bins[bin]);
            }
            found = (found << if pass == 2 { 10 } else { 11 }) | bin as u32;
        }
        Ok((found, total as usize))
    }

    /// The selected features, the smallest activation that was selected from a batch, and (AuxK) the `aux` strongest dead
    /// features of each token.
    pub fn choose(
        &mut self,
        inputs: &Inputs,
        dead: &[u32],
        aux: usize,
    ) -> Result<(Entries, Option<f32>, Option<Entries>)> {
        let (rows, k) = (inputs.rows, self.config.k);
        let tokens = self.tokens(rows);
        let batch = self.config.arch != Architecture::TopK;
        let list = upload(&self.client, dead);
        let (zero, any) = (order_of(0.0), 0);
        let of_aux = if self.config.aux_relative { zero } else { any };
        let p = allocate(&self.client, tokens * self.f, 4);
        // A little below the last threshold, since batches differ; from zero if that was too high.
        let mut floor = if batch { 0.95 * self.threshold_hint.unwrap_or(0.0) } else { 0.0 };
        loop {
            let width = if batch { self.most_candidates.min(self.f) } else { with_margin(k, self.f) };
            let mut found = Entries::new(&self.client, rows, width);
            let aux_width = with_margin(aux, dead.len().max(1));
            let mut found_aux = (aux > 0).then(|| Entries::new(&self.client, rows, aux_width));
            for first in (0..rows).step_by(tokens) {
                let rows = tokens.min(rows - first);
                self.product(inputs, first, rows, &p)?;
                self.candidates(&p, rows, None, order_of(floor), &found.part(first, rows));
                if let Some(aux) = &found_aux {
                    self.candidates(&p, rows, Some((&list, dead.len())), of_aux, &aux.part(first, rows));
                }
            }
            self.exact(inputs, &mut found);
            let kept_aux = found_aux.as_mut().map(|found| {
                self.exact(inputs, found);
                self.keep(found, aux, of_aux)
            });
            if !batch {
                return Ok((self.keep(&found, k, zero), None, kept_aux));
            }
            let (cut, count) = self.cut(&found, k * rows)?;
            // Candidates were found in the narrow type: near the floor some may be missing.
            if floor > 0.0 && (count < k * rows || float_of(cut) < 1.02 * floor) {
                floor = 0.0;
                continue;
            }
            // Exact values that are not above zero have no activation.
            let cut = cut.max(zero + 1);
            let kept = self.keep(&found, width, cut - 1);
            let lens: Vec<u32> = fetch(&self.client, &kept.lens)?;
            if width < self.f && lens.iter().any(|len| *len as usize > width - width / 8) {
                self.most_candidates = 2 * width;
                continue;
            }
            let least = lens.iter().any(|len| *len > 0).then(|| float_of(cut));
            self.threshold_hint = least;
            return Ok((kept, least, kept_aux));
        }
    }
}
