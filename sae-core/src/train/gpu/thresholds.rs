//! The forward and backward pass of ReLU, JumpReLU and Gated, whose features are active above a threshold. Changes no
//! parameter.

use super::activation::{self, GATED, JUMP_STEP, JUMP_TANH, RELU};
use super::backward::{Contribution, Groups, Pass};
use super::entries::{Entries, Inputs};
use super::memory::{Buffer, allocate, fetch, upload};
use super::select::{ALL, CANDIDATES, UNITS};
use super::state::GpuEngine;
use super::{cubes, units};
use crate::Result;
use crate::autoencoder::Architecture;
use crate::train::architecture::ArchitectureRule;
use crate::train::config::JumpReluPenalty;
use crate::train::engine::{Batch, StepStats};
use crate::train::params::scalar_names;
use cubecl::prelude::*;

impl GpuEngine {
    /// The pass of a batch.
    ///
    /// # Errors
    /// A device that failed.
    pub fn pass_above_thresholds(&mut self, inputs: &Inputs, b_dec: &Buffer, batch: &Batch) -> Result<Pass> {
        let client = self.client.clone();
        let (rows, f) = (self.rows as f64, self.f);
        let formulas = ArchitectureRule::new(&self.config, batch.sparsity, self.rows);
        let entries = self.choose_above(inputs)?;
        let size = self.rows * entries.width;
        let (z, gate, sums) =
            (allocate(&client, size, 4), allocate(&client, size, 4), allocate(&client, self.rows * 2, 4));
        let scalar = |n: usize| self.scalars.get(n).unwrap_or(&self.scalars[0]).value.arg();
        activation::activate::launch(
            &client,
            cubes(self.rows),
            units(),
            entries.values.arg(),
            entries.features.arg(),
            entries.lens.arg(),
            self.norms.arg(),
            scalar(0),
            scalar(1),
            scalar(2),
            z.arg(),
            gate.arg(),
            sums.arg(),
            entries.width,
            self.config.tanh_scale as f32,
            self.rule(),
        );
        let whole = (self.whole.clone(), 1);
        let active = Entries { values: z, ..entries.clone() };
        let (residuals, costs) = self.residuals(inputs, b_dec, (&self.whole, 1), &active);
        let groups = Groups::new(&client, &entries, f)?;
        let costs: Vec<f32> = fetch(&client, &costs)?;
        let sums: Vec<f32> = fetch(&client, &sums)?;
        let penalties: Vec<f32> = sums.iter().step_by(2).copied().collect();
        let mean = |values: &mut dyn Iterator<Item = f32>| values.map(f64::from).sum::<f64>() / rows;
        let mse = mean(&mut costs.iter().step_by(2).copied());
        let mut stats = StepStats {
            mse,
            errors: mse,
            penalty: mean(&mut penalties.iter().map(|sum| formulas.of_token(*sum))),
            l0: mean(&mut sums.iter().skip(1).step_by(2).copied()),
            token_errors: costs.iter().step_by(2).copied().collect(),
            ..StepStats::default()
        };
        let back = allocate(&client, size, 4);
        self.dots((&residuals, 1), (&self.w_dec.value, false), &self.whole, &active, &back);
        let gated = self.config.arch == Architecture::Gated;
        let gate_pass = if gated {
            // The loss has a second reconstruction, from the gate alone.
            let open = Entries { values: gate, ..entries.clone() };
            let (residuals, costs) = self.residuals(inputs, b_dec, (&self.whole, 1), &open);
            let back = allocate(&client, size, 4);
            self.dots((&residuals, 1), (&self.w_dec.value, false), &self.whole, &open, &back);
            let costs: Vec<f32> = fetch(&client, &costs)?;
            stats.errors += mean(&mut costs.iter().step_by(2).copied());
            Some((open, residuals, back))
        } else {
            None
        };

        let weights: Vec<f32> = penalties.iter().map(|sum| formulas.weight(*sum)).collect();
        let weights = upload(&client, &weights);
        let scalars: Vec<Buffer> = self.scalars.iter().map(|_| allocate(&client, f, 4)).collect();
        let unused: Vec<Buffer> = (scalars.len()..3).map(|_| allocate(&client, 1, 4)).collect();
        let to: Vec<&Buffer> = scalars.iter().chain(&unused).collect();
        let (norm, fired) = (allocate(&client, f, 4), allocate(&client, f, 4));
        activation::backward::launch(
            &client,
            CubeCount::Static(f.div_ceil(UNITS) as u32, 1, 1),
            units(),
            groups.start.arg(),
            groups.order.arg(),
            entries.values.arg(),
            active.values.arg(),
            weights.arg(),
            self.norms.arg(),
            scalar(0),
            scalar(1),
            scalar(2),
            back.arg(),
            gate_pass.as_ref().map_or(&weights, |(_, _, back)| back).arg(),
            to[0].arg(),
            to[1].arg(),
            to[2].arg(),
            norm.arg(),
            fired.arg(),
            entries.width,
            self.config.bandwidth as f32,
            self.config.tanh_scale as f32,
            self.rule(),
        );
        let fired: Vec<u32> = fetch(&client, &fired)?;
        stats.fired = fired.iter().map(|fired| *fired > 0).collect();
        let mut contributions = vec![Contribution {
            entries: active,
            back: Some(back),
            residuals,
            ends: whole.clone(),
            groups: groups.clone(),
            with_bias: true,
        }];
        contributions.extend(gate_pass.map(|(entries, residuals, _)| Contribution {
            entries,
            back: None,
            residuals,
            ends: whole,
            groups,
            with_bias: true,
        }));
        debug_assert_eq!(scalars.len(), scalar_names(self.config.arch).len());
        Ok(Pass { stats, contributions, scalars, norm: (self.rule() != JUMP_STEP).then_some(norm) })
    }

    /// The kernels' name of the architecture and its penalty.
    fn rule(&self) -> u32 {
        match (self.config.arch, self.config.jumprelu_penalty) {
            (Architecture::JumpRelu, JumpReluPenalty::Tanh) => JUMP_TANH,
            (Architecture::JumpRelu, _) => JUMP_STEP,
            (Architecture::Gated, _) => GATED,
            _ => RELU,
        }
    }

    /// Features that have an activation or a gradient, with their exact pre-activations, by ascending feature.
    fn choose_above(&mut self, inputs: &Inputs) -> Result<Entries> {
        let rows = inputs.rows;
        let tokens = self.tokens(rows);
        let products = allocate(&self.client, tokens * self.f, 4);
        loop {
            let width = self.most_candidates.min(self.f);
            let mut found = Entries::new(&self.client, rows, width);
            for first in (0..rows).step_by(tokens) {
                let rows = tokens.min(rows - first);
                self.product(inputs, first, rows, &products)?;
                let input = inputs.centered.part(first * self.d, rows * self.d);
                self.above::<ALL>(&products, &found, &input, self.f, &found.part(first, rows), rows);
            }
            let lens: Vec<u32> = fetch(&self.client, &found.lens)?;
            let most = lens.iter().copied().max().unwrap_or_default() as usize;
            let room = (most + most / 4).next_multiple_of(64);
            if most > width {
                self.most_candidates = room;
                continue;
            }
            // Training makes activations sparser, so that less and less memory is needed.
            self.most_candidates = room.min(self.most_candidates);
            self.exact(inputs, &mut found);
            let kept = Entries::new(&self.client, rows, width);
            self.above::<CANDIDATES>(&found.values, &found, &inputs.centered, width, &kept, rows);
            return Ok(kept);
        }
    }

    fn above<const FROM: u32>(
        &self,
        values: &Buffer,
        candidates: &Entries,
        input: &Buffer,
        width: usize,
        out: &Entries,
        rows: usize,
    ) {
        let learned = self.config.arch == Architecture::JumpRelu;
        let thresholds = &self.scalars[usize::from(learned)].value;
        activation::above::launch(
            &self.client,
            cubes(rows),
            units(),
            values.arg(),
            candidates.features.arg(),
            candidates.lens.arg(),
            self.bias().arg(),
            thresholds.arg(),
            self.enc_norms.arg(),
            input.arg(),
            out.features.arg(),
            out.values.arg(),
            out.lens.arg(),
            width,
            out.width,
            self.d,
            // As `ArchitectureRule::floor`.
            0.5 * self.config.bandwidth as f32,
            self.slack(),
            FROM,
            learned,
        );
    }

    /// The largest relative error of a term of the product: twice the rounding of an operand, to 8 bits in bf16, and to at
    /// least 10 where products in `f32` run on tensor cores (TF32); and that of the sum.
    fn slack(&self) -> f32 {
        let operand = if self.narrow.size() < 4 { 2f32.powi(-8) } else { 2f32.powi(-10) };
        2.02 * operand + self.d as f32 * f32::EPSILON
    }
}
