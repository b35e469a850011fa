//! From a batch on the device to the features that take part and their residuals: the product, the choice, the
//! reconstruction. Changes no parameter.

use super::entries::{Entries, Inputs};
use super::memory::{Buffer, fetch, room, upload};
use super::select::{self, ALL, BINS, CANDIDATES, LISTED, UNITS, float_of, order_of};
use super::sparse;
use super::state::GpuEngine;
use super::{cubes, units};
use crate::autoencoder::Architecture;
use crate::{Error, Result};
use cubecl::prelude::*;
use cubek::matmul::definition::{MatmulElems, MatmulGlobalElems};
use cubek::matmul::launch::launch_ref;
use cubek::matmul::strategy::Strategy;
use cubek::std::InputBinding;
use std::time::Instant;

/// Views of a batch begin at multiples of so many tokens, hence of 256 bytes.
pub const ALIGNED: usize = 128;

/// How many candidates to collect for the `k` largest of `features`: a few more than `k`, since the rounding of the product
/// may rank a feature below some that are smaller.
fn with_margin(k: usize, features: usize) -> usize {
    (k + (k / 4).max(16)).min(features)
}

impl GpuEngine {
    /// Puts a batch on the device, centered if the configuration says so.
    pub fn inputs(&self, x: &[f32], b_dec: &Buffer) -> Inputs {
        let (client, len) = (&self.client, x.len());
        let (x, read) = (upload(client, x), room(client, len, 4));
        let narrow = room(client, len, self.narrow.size());
        let count = CubeCount::Static(len.div_ceil(UNITS) as u32, 1, 1);
        let (d, center) = (self.d, self.config.subtract_b_dec);
        let (b, own, low) = (b_dec.arg(), read.arg(), narrow.arg());
        sparse::inputs::launch(client, count, units(), x.arg(), b, own, low, d, center, self.narrow);
        Inputs { rows: len / d, x, read, narrow }
    }

    /// Waits until everything that was asked of the device is done.
    ///
    /// # Errors
    /// A device that failed.
    pub fn wait(&self) -> Result<()> {
        fetch::<f32>(&self.client, &self.norms).map(|_| ())
    }

    /// Seconds of the encoder's product of a whole batch alone, which is the floor of a step.
    ///
    /// # Errors
    /// A device that failed.
    pub fn product_seconds(&self, x: &[f32]) -> Result<f64> {
        let b_dec = upload(&self.client, &vec![0f32; self.d]);
        let inputs = self.inputs(x, &b_dec);
        let tokens = self.tokens(inputs.rows);
        let p = room(&self.client, tokens * self.f, 4);
        self.wait()?;
        let start = Instant::now();
        for first in (0..inputs.rows).step_by(tokens) {
            self.product(&inputs, first, tokens.min(inputs.rows - first), &p)?;
        }
        self.wait()?;
        Ok(start.elapsed().as_secs_f64())
    }

    /// The encoder's product of some tokens, `[rows, d_sae]`, in the narrow type with sums in `f32`.
    pub fn product(&self, inputs: &Inputs, first: usize, rows: usize, out: &Buffer) -> Result<()> {
        let (d, f) = (self.d, self.f);
        // Views count elements of four bytes.
        let x = inputs.narrow.part(first * d * self.narrow.size() / 4, rows * d).matrix([rows, d], [d, 1]);
        let w = self.narrow_enc.matrix([d, f], [1, d]);
        let elements = MatmulGlobalElems { lhs: self.narrow, rhs: self.narrow, out: f32::elem_type_native() };
        let (x, w) = (InputBinding::new(x, self.narrow), InputBinding::new(w, self.narrow));
        let out = out.matrix([rows, f], [f, 1]);
        launch_ref(&Strategy::Auto, &self.client, x, w, out, &mut MatmulElems::from_globals(&elements))
            .map_err(|e| Error::device(format!("the GPU cannot compute the encoder's product: {e:?}")))
    }

    /// Tokens whose products fit into the budget.
    fn tokens(&self, rows: usize) -> usize {
        let fit = self.budget / (4 * self.f) / ALIGNED * ALIGNED;
        fit.max(ALIGNED).min(rows)
    }

    /// The largest of every row of products above a place in the order: of all features, or of those that are listed.
    fn candidates(&self, p: &Buffer, rows: usize, listed: Option<(&Buffer, usize)>, floor: u32, out: &Entries) {
        let (list, columns, from) = match listed {
            Some((list, len)) => (list, len, LISTED),
            None => (&self.norms, self.f, ALL),
        };
        let (bias, gain) = (self.bias.value.arg(), self.norms.arg());
        let (features, values, lens) = (out.features.arg(), out.values.arg(), out.lens.arg());
        let (f, keep, weighed) = (self.f, out.width, self.config.weighs_by_norm());
        // Lengths are read of candidates only; something has to be bound.
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

    /// Replaces what a product says of candidates by their exact pre-activations.
    fn exact(&self, inputs: &Inputs, entries: &mut Entries) {
        let values = room(&self.client, inputs.rows * entries.width, 4);
        self.dots((&inputs.read, 1), (&self.w_enc.value, true), &self.whole, entries, &values);
        entries.values = values;
    }

    /// Dot products of tokens' vectors `[rows, slots, d]` with rows of a matrix, for every entry.
    pub fn dots(
        &self,
        (a, slots): (&Buffer, usize),
        (b, biased): (&Buffer, bool),
        ends: &Buffer,
        entries: &Entries,
        out: &Buffer,
    ) {
        let (bias, features, lens) = (self.bias.value.arg(), entries.features.arg(), entries.lens.arg());
        let (client, count, out, d, width) = (&self.client, cubes(self.rows), out.arg(), self.d, entries.width);
        let (a, b, ends) = (a.arg(), b.arg(), ends.arg());
        sparse::dots::launch(client, count, units(), a, b, bias, ends, features, lens, out, d, slots, width, biased);
    }

    /// Of candidates, the `keep` largest of each token above a place in the order, by ascending feature.
    fn keep(&self, entries: &Entries, keep: usize, floor: u32) -> Entries {
        let out = Entries::new(&self.client, self.rows, keep);
        let (bias, gain) = (self.bias.value.arg(), self.norms.arg());
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

    /// The place in the order of the `count`-th largest entry of a batch (of the least where there are fewer), and how
    /// many there are.
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

    /// The features that take part, the least of a batch's choice, and (AuxK) the strongest `aux` of the dead features.
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
        let p = room(&self.client, tokens * self.f, 4);
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

    /// Residuals `[rows, slots, d]` and costs `[rows, 2]` of what was chosen.
    pub fn residuals(
        &self,
        inputs: &Inputs,
        b_dec: &Buffer,
        ends: (&Buffer, usize),
        chosen: &Entries,
    ) -> (Buffer, Buffer) {
        let scale = 2.0 / inputs.rows as f32;
        self.reconstruct((&inputs.x, 1), b_dec, ends, chosen, (0.0, scale, false))
    }

    /// The same for AuxK, from the last of the residuals: `scale` times the error that is left.
    pub fn aux_residuals(
        &self,
        of: (&Buffer, usize),
        b_dec: &Buffer,
        chosen: &Entries,
        scale: f32,
    ) -> (Buffer, Buffer) {
        let lift = self.rows as f32 / 2.0;
        self.reconstruct(of, b_dec, (&self.whole, 1), chosen, (lift, scale, true))
    }

    fn reconstruct(
        &self,
        (x, x_slots): (&Buffer, usize),
        b_dec: &Buffer,
        (ends, slots): (&Buffer, usize),
        chosen: &Entries,
        (lift, scale, aux): (f32, f32, bool),
    ) -> (Buffer, Buffer) {
        let (client, d, width) = (&self.client, self.d, chosen.width);
        let (out, costs) = (room(client, self.rows * slots * d, 4), room(client, self.rows * 2, 4));
        let (features, values, lens) = (chosen.features.arg(), chosen.values.arg(), chosen.lens.arg());
        let (x, b, w, ends) = (x.arg(), b_dec.arg(), self.w_dec.value.arg(), ends.arg());
        let (count, to, cost) = (cubes(self.rows), out.arg(), costs.arg());
        sparse::residuals::launch(
            client,
            count,
            units(),
            x,
            b,
            w,
            features,
            values,
            lens,
            ends,
            to,
            cost,
            d,
            slots,
            width,
            x_slots,
            lift,
            scale,
            aux,
        );
        (out, costs)
    }
}
