//! The forward and backward pass of ReLU, JumpReLU and Gated, whose features are active above a threshold. Changes no
//! parameter.

use super::activation::{self, GATED, JUMP_STEP, JUMP_TANH, RELU};
use super::backward::{Contribution, Pass};
use super::entries::{Entries, Inputs};
use super::group::Groups;
use super::memory::{Buffer, Fetched, allocate};
use super::select::{ALL, CANDIDATES};
use super::state::GpuEngine;
use super::{elements, tokens, units};
use crate::Result;
use crate::autoencoder::Architecture;
use crate::train::architecture::ArchitectureRule;
use crate::train::config::JumpReluPenalty;
use crate::train::engine::{Batch, StepStats};
use crate::train::params::scalar_names;

impl GpuEngine {
    /// The pass of a batch.
    ///
    /// # Errors
    /// A device that cannot compute the encoder's product.
    pub fn pass_above_thresholds(&self, inputs: &Inputs, b_dec: &Buffer, batch: &Batch) -> Result<Pass> {
        let (client, f) = (&self.client, self.f);
        let (entries, counts) = self.choose_above(inputs)?;
        let size = self.rows * entries.width;
        let (z, gate) = (allocate(client, size, 4), allocate(client, size, 4));
        let (sums, weights) = (allocate(client, self.rows * 2, 4), allocate(client, self.rows, 4));
        let (weight, slope) = ArchitectureRule::new(&self.config, batch.sparsity, self.rows).weight_and_slope();
        let scalar = |n: usize| self.scalars.get(n).unwrap_or(&self.scalars[0]).value.arg();
        activation::activate::launch(
            client,
            tokens(self.rows),
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
            weights.arg(),
            entries.width,
            self.config.tanh_scale as f32,
            weight,
            slope,
            self.rule(),
        );
        let whole = (self.whole.clone(), 1);
        let groups = Groups::new(client, &entries, self.rows, f);
        let back_of = |entries: &Entries| {
            let (residuals, costs) = self.residuals(inputs, b_dec, (&self.whole, 1), entries);
            let back = allocate(client, size, 4);
            self.dots((&residuals, 1), (&self.w_dec.value, false), &self.whole, entries, &back);
            (residuals, costs, back)
        };
        let active = Entries { values: z, ..entries.clone() };
        let (residuals, costs, back) = back_of(&active);
        // Gated's loss has a second reconstruction, from the gate alone.
        let of_gate = (self.config.arch == Architecture::Gated).then(|| {
            let open = Entries { values: gate, ..entries.clone() };
            let (residuals, costs, back) = back_of(&open);
            (open, residuals, costs, back)
        });

        let scalars: Vec<Buffer> = self.scalars.iter().map(|_| allocate(client, f, 4)).collect();
        let unused: Vec<Buffer> = (scalars.len()..3).map(|_| allocate(client, 1, 4)).collect();
        let to: Vec<&Buffer> = scalars.iter().chain(&unused).collect();
        let (norm, fired) = (allocate(client, f, 4), allocate(client, f, 4));
        activation::backward::launch(
            client,
            elements(f),
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
            of_gate.as_ref().map_or(&weights, |(_, _, _, back)| back).arg(),
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
        let mut measured = vec![costs, sums, counts, fired];
        let mut contributions = vec![Contribution {
            entries: active,
            back: Some(back),
            residuals,
            ends: whole.clone(),
            groups: groups.clone(),
            with_bias: true,
        }];
        if let Some((entries, residuals, costs, _)) = of_gate {
            measured.push(costs);
            contributions.push(Contribution { entries, back: None, residuals, ends: whole, groups, with_bias: true });
        }
        debug_assert_eq!(scalars.len(), scalar_names(self.config.arch).len());
        Ok(Pass { measured, contributions, scalars, norm: (self.rule() != JUMP_STEP).then_some(norm) })
    }

    /// What a pass measured. Nothing if a token had more candidates than there was room for, for which this makes room.
    pub fn stats_above_thresholds(&mut self, measured: &[Fetched], batch: &Batch) -> Option<StepStats> {
        let [costs, sums, counts, fired, of_gate @ ..] = measured else {
            unreachable!("`pass_above_thresholds` measures four arrays or more")
        };
        let width = self.most_candidates.min(self.f);
        let most = counts.numbers::<u32>().iter().copied().max().unwrap_or_default() as usize;
        let room = (most + most / 4).next_multiple_of(64);
        if most > width {
            self.most_candidates = room;
            return None;
        }
        // Training makes activations sparser, so that less and less memory is needed.
        self.most_candidates = room.min(self.most_candidates);
        let formulas = ArchitectureRule::new(&self.config, batch.sparsity, self.rows);
        let mean = |values: &mut dyn Iterator<Item = f32>| values.map(f64::from).sum::<f64>() / self.rows as f64;
        let mean_cost = |costs: &Fetched| mean(&mut costs.numbers::<f32>().iter().step_by(2).copied());
        let sums = sums.numbers::<f32>();
        let mse = mean_cost(costs);
        Some(StepStats {
            mse,
            errors: mse + of_gate.iter().map(mean_cost).sum::<f64>(),
            penalty: mean(&mut sums.iter().step_by(2).map(|sum| formulas.of_token(*sum))),
            l0: mean(&mut sums.iter().skip(1).step_by(2).copied()),
            fired: fired.numbers::<u32>().iter().map(|fired| *fired > 0).collect(),
            token_errors: costs.numbers::<f32>().iter().step_by(2).copied().collect(),
            ..StepStats::default()
        })
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

    /// Features that have an activation or a gradient, with their exact pre-activations, by ascending feature; and how many
    /// candidates each token had, even if they were more than there is room for.
    fn choose_above(&self, inputs: &Inputs) -> Result<(Entries, Buffer)> {
        let (client, rows) = (&self.client, inputs.rows);
        let tokens = self.tokens(rows);
        let products = allocate(client, tokens * self.f, 4);
        let width = self.most_candidates.min(self.f);
        let mut found = Entries::new(client, rows, width);
        let counts = allocate(client, rows, 4);
        for first in (0..rows).step_by(tokens) {
            let rows = tokens.min(rows - first);
            self.product(inputs, first, rows, &products)?;
            let (input, counts) = (inputs.centered.part(first * self.d, rows * self.d), counts.part(first, rows));
            self.above::<ALL>(&products, &found, &input, self.f, (&found.part(first, rows), &counts), rows);
        }
        self.exact(inputs, &mut found);
        let (kept, exact_counts) = (Entries::new(client, rows, width), allocate(client, rows, 4));
        self.above::<CANDIDATES>(&found.values, &found, &inputs.centered, width, (&kept, &exact_counts), rows);
        Ok((kept, counts))
    }

    fn above<const FROM: u32>(
        &self,
        values: &Buffer,
        candidates: &Entries,
        input: &Buffer,
        width: usize,
        (out, counts): (&Entries, &Buffer),
        rows: usize,
    ) {
        let learned = self.config.arch == Architecture::JumpRelu;
        let thresholds = &self.scalars[usize::from(learned)].value;
        activation::above::launch(
            &self.client,
            tokens(rows),
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
            counts.arg(),
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
