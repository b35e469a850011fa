//! The parts of a forward pass that all architectures share: the inputs, the encoder's product, exact pre-activations of
//! candidates, reconstructions and their residuals. Changes no parameter.

use super::entries::{Entries, Inputs};
use super::memory::{Buffer, allocate, fetch, upload};
use super::sparse;
use super::state::GpuEngine;
use super::{elements, tokens, units};
use crate::{Error, Result};
use cubecl::prelude::*;
use cubek::matmul::definition::{MatmulElems, MatmulGlobalElems};
use cubek::matmul::launch::launch_ref;
use cubek::matmul::strategy::Strategy;
use cubek::std::InputBinding;
use std::time::Instant;

/// Parts of a batch begin at multiples of this many tokens, so that their addresses are multiples of 256 bytes.
pub const ALIGNED: usize = 128;

impl GpuEngine {
    /// Puts a batch on the device, centered if the configuration says so.
    pub fn inputs(&self, x: &[f32], b_dec: &Buffer) -> Inputs {
        let (client, len) = (&self.client, x.len());
        let (x, centered) = (upload(client, x), allocate(client, len, 4));
        let narrow = allocate(client, len, self.narrow.size());
        let count = elements(len);
        let (d, center) = (self.d, self.config.subtract_b_dec);
        let (b, own, low) = (b_dec.arg(), centered.arg(), narrow.arg());
        sparse::inputs::launch(client, count, units(), x.arg(), b, own, low, d, center, self.narrow);
        Inputs { rows: len / d, x, centered, narrow }
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
        let p = allocate(&self.client, tokens * self.f, 4);
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
    pub fn tokens(&self, rows: usize) -> usize {
        let fit = self.budget / (4 * self.f) / ALIGNED * ALIGNED;
        fit.max(ALIGNED).min(rows)
    }

    /// Replaces the approximate pre-activations of candidates by exact ones.
    pub fn exact(&self, inputs: &Inputs, entries: &mut Entries) {
        let values = allocate(&self.client, inputs.rows * entries.width, 4);
        self.dots((&inputs.centered, 1), (&self.w_enc.value, true), &self.whole, entries, &values);
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
        let (bias, features, lens) = (self.bias().arg(), entries.features.arg(), entries.lens.arg());
        let (client, count, out, d, width) = (&self.client, tokens(self.rows), out.arg(), self.d, entries.width);
        let (a, b, ends) = (a.arg(), b.arg(), ends.arg());
        sparse::dots::launch(client, count, units(), a, b, bias, ends, features, lens, out, d, slots, width, biased);
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
        self.reconstruct((&inputs.x, 1), b_dec, ends, chosen, (0.0, scale, None))
    }

    /// The same for AuxK, from the last of the residuals: `scale` times `weight[0]` times the error that is left.
    pub fn aux_residuals(
        &self,
        of: (&Buffer, usize),
        b_dec: &Buffer,
        chosen: &Entries,
        (scale, weight): (f32, &Buffer),
    ) -> (Buffer, Buffer) {
        let lift = self.rows as f32 / 2.0;
        self.reconstruct(of, b_dec, (&self.whole, 1), chosen, (lift, scale, Some(weight)))
    }

    /// Residuals and costs of what was chosen, whose sums begin with the bias less `x`, or, with a weight, with `lift` times the last of
    /// the residuals `x`.
    pub fn reconstruct(
        &self,
        (x, x_slots): (&Buffer, usize),
        b_dec: &Buffer,
        (ends, slots): (&Buffer, usize),
        chosen: &Entries,
        (lift, scale, weight): (f32, f32, Option<&Buffer>),
    ) -> (Buffer, Buffer) {
        let (client, d, width) = (&self.client, self.d, chosen.width);
        let (out, costs) = (allocate(client, self.rows * slots * d, 4), allocate(client, self.rows * 2, 4));
        let (features, values, lens) = (chosen.features.arg(), chosen.values.arg(), chosen.lens.arg());
        let (x, b, w, ends) = (x.arg(), b_dec.arg(), self.w_dec.value.arg(), ends.arg());
        let (count, to, cost) = (tokens(self.rows), out.arg(), costs.arg());
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
            weight.unwrap_or(&self.norms).arg(),
            to,
            cost,
            d,
            slots,
            width,
            x_slots,
            lift,
            scale,
            weight.is_some(),
        );
        (out, costs)
    }
}
