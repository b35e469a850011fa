//! The forward and backward pass of TopK, BatchTopK and Matryoshka, with AuxK: selects the strongest features, and computes
//! the reconstructions and their residuals. Changes no parameter.

use super::backward::Pass;
use super::entries::{Entries, Inputs};
use super::memory::{Buffer, Fetched, allocate, upload};
use super::select::{self, ALL, BINS, CANDIDATES, FLOOR, FOUND, LISTED, TOTAL, float_of, order_of};
use super::state::GpuEngine;
use super::{cubes, sparse, tokens, units};
use crate::Result;
use crate::autoencoder::Architecture;
use crate::train::engine::{Batch, StepStats};

/// How many candidates to collect for the `k` largest of `features`: a few more than `k`, since the rounding of the product
/// may rank a feature below some that are smaller.
fn with_margin(k: usize, features: usize) -> usize {
    (k + (k / 4).max(16)).min(features)
}

/// The selected features of a batch.
pub struct Chosen {
    pub entries: Entries,
    /// How the search for the batch's threshold ended ([`select::FOUND`] to [`select::FLOOR`]); of no meaning where each token
    /// has its own threshold.
    pub search: Buffer,
    /// The strongest dead features of each token, for AuxK.
    pub aux: Option<Entries>,
}

impl GpuEngine {
    /// The pass of a batch.
    ///
    /// # Errors
    /// A device that cannot compute the encoder's product.
    pub fn pass_of_strongest(&self, inputs: &Inputs, b_dec: &Buffer, batch: &Batch) -> Result<Pass> {
        let (client, d, slots) = (&self.client, self.d, batch.ends.len());
        let ends: Vec<u32> = batch.ends.iter().map(|end| *end as u32).collect();
        let ends = upload(client, &ends);
        let aux = if self.config.aux_loss_coefficient > 0.0 && !batch.dead.is_empty() {
            self.config.aux_k(d).min(batch.dead.len())
        } else {
            0
        };
        let chosen = self.choose(inputs, batch.dead, aux)?;
        let lens = chosen.entries.lens.clone();
        let (residuals, costs) = self.residuals(inputs, b_dec, (&ends, slots), &chosen.entries);
        let main = self.contribution(chosen.entries, residuals, (ends, slots), true);
        let mut measured = vec![costs, main.groups.start.clone(), lens, chosen.search];
        let mut contributions = vec![main];
        if let Some(entries) = chosen.aux {
            let (residuals, costs) = (&contributions[0].residuals, &measured[0]);
            let weight = if self.config.aux_relative {
                self.relative_aux_weight(costs, residuals, slots)
            } else {
                let share = batch.dead.len() as f32 / self.config.aux_k(d) as f32;
                upload(client, &[share.min(1.0)])
            };
            let scale = (self.config.aux_loss_coefficient * 2.0 / self.rows as f64) as f32;
            let (residuals, costs) = self.aux_residuals((residuals, slots), b_dec, &entries, (scale, &weight));
            contributions.push(self.contribution(entries, residuals, (self.whole.clone(), 1), false));
            measured.extend([costs, weight]);
        }
        Ok(Pass { measured, contributions, scalars: Vec::new(), norm: None })
    }

    /// AuxK's weight from the total variance of the error, whose residuals are the last of `slots`.
    fn relative_aux_weight(&self, costs: &Buffer, residuals: &Buffer, slots: usize) -> Buffer {
        let (client, d) = (&self.client, self.d);
        let sums = self.column_sums(residuals, self.rows, slots * d, (slots - 1) * d, None);
        let weight = allocate(client, 1, 4);
        let scale = self.rows as f32 / 2.0;
        let (count, costs, sums, to) = (cubes(1), costs.arg(), sums.arg(), weight.arg());
        sparse::relative_aux_weight::launch(client, count, units(), costs, sums, to, self.rows, d, scale);
        weight
    }

    /// What a pass measured. Nothing if the batch has to be passed again with more candidates, for which this prepares.
    pub fn stats_of_strongest(&mut self, measured: &[Fetched]) -> Option<StepStats> {
        let [costs, starts, lens, search, aux @ ..] = measured else {
            unreachable!("`pass_of_strongest` measures four arrays or more")
        };
        let (rows, lens) = (self.rows as f64, lens.numbers::<u32>());
        let mut least = None;
        if self.config.arch != Architecture::TopK {
            let search = search.numbers::<u32>();
            let (cut, total) = (float_of(search[FOUND]), search[TOTAL] as usize);
            // Candidates were found in the narrow type: near the floor some may be missing.
            if self.floor > 0.0 && (total < self.config.k * self.rows || cut < 1.02 * self.floor) {
                self.floor = 0.0;
                return None;
            }
            let width = self.most_candidates.min(self.f);
            if width < self.f && lens.iter().any(|len| *len as usize > width - width / 8) {
                self.most_candidates = 2 * width;
                return None;
            }
            least = lens.iter().any(|len| *len > 0).then(|| float_of(search[FLOOR] + 1));
            // A little below the threshold, since batches differ.
            self.floor = 0.95 * least.unwrap_or(0.0);
        }
        let (costs, starts) = (costs.numbers::<f32>(), starts.numbers::<u32>());
        let total =
            |costs: &[f32], column: usize| costs.iter().skip(column).step_by(2).map(|c| f64::from(*c)).sum::<f64>();
        let aux = match aux {
            [costs, weight] => f64::from(weight.numbers::<f32>()[0]) * total(costs.numbers(), 0),
            _ => 0.0,
        };
        Some(StepStats {
            mse: total(costs, 0) / rows,
            errors: total(costs, 1) / rows,
            aux: self.config.aux_loss_coefficient * aux / rows,
            l0: f64::from(starts[self.f]) / rows,
            least,
            fired: starts.windows(2).map(|ends| ends[0] < ends[1]).collect(),
            token_errors: costs.iter().step_by(2).copied().collect(),
            ..StepStats::default()
        })
    }

    /// The largest products of every row among those whose sort key is above `floor[0]`: of all features, or of listed ones.
    fn candidates(&self, p: &Buffer, rows: usize, listed: Option<(&Buffer, usize)>, floor: &Buffer, out: &Entries) {
        let (list, columns, from) = match listed {
            Some((list, len)) => (list, len, LISTED),
            None => (&self.norms, self.f, ALL),
        };
        let (bias, gain) = (self.bias().arg(), self.norms.arg());
        let (features, values, lens) = (out.features.arg(), out.values.arg(), out.lens.arg());
        let (f, keep, weighed) = (self.f, out.width, self.config.weighs_by_norm());
        // The kernel does not read this argument here, but it needs one.
        let none = self.norms.arg();
        let (count, units, client) = (tokens(rows), units(), &self.client);
        select::strongest::launch(
            client,
            count,
            units,
            p.arg(),
            list.arg(),
            none,
            bias,
            gain,
            floor.arg(),
            features,
            values,
            lens,
            f,
            columns,
            keep,
            0,
            from,
            weighed,
        );
    }

    /// The `keep` largest candidates of each token whose sort key is above `floors[floor_at]`, by ascending feature.
    fn keep(&self, entries: &Entries, keep: usize, (floors, floor_at): (&Buffer, usize)) -> Entries {
        let out = Entries::new(&self.client, self.rows, keep);
        let (bias, gain) = (self.bias().arg(), self.norms.arg());
        let (features, values, lens) = (out.features.arg(), out.values.arg(), out.lens.arg());
        let (width, weighed) = (entries.width, self.config.weighs_by_norm());
        let (of, had) = (entries.features.arg(), entries.lens.arg());
        let (count, units, client) = (tokens(self.rows), units(), &self.client);
        let p = entries.values.arg();
        let floors = floors.arg();
        select::strongest::launch(
            client, count, units, p, of, had, bias, gain, floors, features, values, lens, width, 0, keep, floor_at,
            CANDIDATES, weighed,
        );
        let sorted = Entries { lens: out.lens.clone(), ..Entries::new(client, self.rows, keep) };
        let (features, values, lens) = (out.features.arg(), out.values.arg(), out.lens.arg());
        let (to_features, to_values) = (sorted.features.arg(), sorted.values.arg());
        select::ascending::launch(
            client,
            tokens(self.rows),
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

    /// Searches for the `wanted` largest entries of a batch, for what [`select::pick`] says.
    fn search(&self, entries: &Entries, wanted: usize) -> Buffer {
        let (search, bins) = (allocate(&self.client, 4, 4), upload(&self.client, &[0u32; BINS]));
        let (weighed, width) = (self.config.weighs_by_norm(), entries.width);
        for pass in 0..3u32 {
            let (values, features, lens) = (entries.values.arg(), entries.features.arg(), entries.lens.arg());
            let (count, client, gain) = (tokens(self.rows), &self.client, self.norms.arg());
            let (of, to) = (search.arg(), bins.arg());
            select::digits::launch(client, count, units(), values, features, lens, gain, of, to, width, pass, weighed);
            let (zero, bins, search) = (order_of(0.0), bins.arg(), search.arg());
            select::pick::launch(client, cubes(1), units(), bins, search, wanted as u32, zero, pass);
        }
        search
    }

    /// The selected features, and (AuxK) the `aux` strongest dead features of each token.
    ///
    /// # Errors
    /// A device that cannot compute the encoder's product.
    pub fn choose(&self, inputs: &Inputs, dead: &[u32], aux: usize) -> Result<Chosen> {
        let (client, rows, k) = (&self.client, inputs.rows, self.config.k);
        let tokens = self.tokens(rows);
        let of_batch = self.config.arch != Architecture::TopK;
        let list = upload(client, dead);
        let key = |floor: u32| upload(client, &[floor]);
        let (floor, zero) = (key(order_of(self.floor)), key(order_of(0.0)));
        let of_aux = if self.config.aux_relative { zero.clone() } else { key(0) };
        let p = allocate(client, tokens * self.f, 4);
        let width = if of_batch { self.most_candidates.min(self.f) } else { with_margin(k, self.f) };
        let mut found = Entries::new(client, rows, width);
        let aux_width = with_margin(aux, dead.len().max(1));
        let mut found_aux = (aux > 0).then(|| Entries::new(client, rows, aux_width));
        for first in (0..rows).step_by(tokens) {
            let rows = tokens.min(rows - first);
            self.product(inputs, first, rows, &p)?;
            self.candidates(&p, rows, None, &floor, &found.part(first, rows));
            if let Some(aux) = &found_aux {
                self.candidates(&p, rows, Some((&list, dead.len())), &of_aux, &aux.part(first, rows));
            }
        }
        self.exact(inputs, &mut found);
        let aux = found_aux.as_mut().map(|found| {
            self.exact(inputs, found);
            self.keep(found, aux, (&of_aux, 0))
        });
        if of_batch {
            let search = self.search(&found, k * rows);
            return Ok(Chosen { entries: self.keep(&found, width, (&search, FLOOR)), search, aux });
        }
        Ok(Chosen { entries: self.keep(&found, k, (&zero, 0)), search: zero, aux })
    }
}
