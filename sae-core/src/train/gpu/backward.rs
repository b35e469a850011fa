//! From the residuals of a batch to new parameters: the entries of a feature are summed to gradients, whose norm is computed
//! before Adam applies them.

use super::entries::{Entries, Inputs};
use super::group::Groups;
use super::memory::{Buffer, Fetched, allocate, upload};
use super::state::{GpuEngine, Trained};
use super::{blocks, cubes, sparse, units, update};
use crate::Result;
use crate::autoencoder::Architecture;
use crate::train::Decoder;
use crate::train::adam::Adam;
use crate::train::engine::Batch;
use crate::train::feature_share::FeatureShare;
use crate::train::params::THRESHOLD;

/// Rows that one cube sums.
const PIECE: usize = 512;

/// What forward and backward of a batch found.
pub struct Pass {
    /// What the host has to know of the pass, in the order in which the architecture's function reads it.
    pub measured: Vec<Buffer>,
    /// Shares of the gradient, one for each reconstruction.
    pub contributions: Vec<Contribution>,
    /// Gradients of each feature's scalars, `[d_sae]` each. None if the only scalar is the encoder's bias, whose gradient
    /// is the sum of those of the pre-activations.
    pub scalars: Vec<Buffer>,
    /// Gradients of the norms of the decoder's rows, `[d_sae]`, if the penalty depends on them.
    pub norm: Option<Buffer>,
}

/// The share of the gradient that comes from one reconstruction.
pub struct Contribution {
    /// Features of each token and their activations.
    pub entries: Entries,
    /// Gradients of the entries' pre-activations, `[rows, width]`.
    pub back: Option<Buffer>,
    /// `[rows, slots, d]`
    pub residuals: Buffer,
    /// The ends of the prefixes, each of which has its own residual, and their number.
    pub ends: (Buffer, usize),
    /// The entries of each feature.
    pub groups: Groups,
    /// Whether the decoder's bias is a part of the reconstruction.
    pub with_bias: bool,
}

/// Gradients on the device.
pub struct Gradients {
    enc: Buffer,
    dec: Buffer,
    scalars: Vec<Buffer>,
    /// The squares of the gradients of each feature, summed, `[d_sae]`.
    squares: Buffer,
    /// The gradient of the decoder's bias, `[d]` each: the first is subtracted from the sum of the others.
    b_dec: Vec<Buffer>,
}

impl Gradients {
    /// What the host has to know of them.
    pub fn measured(&self) -> impl Iterator<Item = &Buffer> {
        std::iter::once(&self.squares).chain(&self.b_dec)
    }

    /// The gradient of the decoder's bias and the global norm, from [`Self::measured`] of all ranks.
    ///
    /// # Errors
    /// A rank that is lost.
    pub fn bias_and_norm(&self, measured: &[Fetched], share: &FeatureShare) -> Result<(Vec<f32>, f64)> {
        debug_assert_eq!(measured.len(), 1 + self.b_dec.len());
        let [squares, through, parts @ ..] = measured else { unreachable!("there are two arrays or more") };
        let mut b_dec = vec![0f32; through.len()];
        for part in parts {
            b_dec.iter_mut().zip(part.numbers::<f32>()).for_each(|(sum, own)| *sum += own);
        }
        b_dec.iter_mut().zip(through.numbers::<f32>()).for_each(|(sum, own)| *sum -= own);
        share.all_reduce(&mut b_dec)?;
        let squares = share.total(squares.numbers::<f32>().iter().map(|s| f64::from(*s)).sum::<f64>())?;
        let norm = (squares + b_dec.iter().map(|g| f64::from(*g).powi(2)).sum::<f64>()).sqrt();
        Ok((b_dec, norm))
    }
}

impl GpuEngine {
    /// The share of a reconstruction by activations that equal the pre-activations: their gradient is the product of the
    /// residual with the decoder's row.
    pub fn contribution(
        &self,
        entries: Entries,
        residuals: Buffer,
        ends: (Buffer, usize),
        with_bias: bool,
    ) -> Contribution {
        let back = allocate(&self.client, self.rows * entries.width, 4);
        self.dots((&residuals, ends.1), (&self.w_dec.value, false), &ends.0, &entries, &back);
        let groups = Groups::new(&self.client, &entries, self.rows, self.f);
        Contribution { entries, back: Some(back), residuals, ends, groups, with_bias }
    }

    /// Sums the contributions of a pass.
    pub fn gradients(&self, pass: &Pass, inputs: &Inputs) -> Gradients {
        let (client, d, f) = (&self.client, self.d, self.f);
        let (enc, dec) = (allocate(client, f * d, 4), allocate(client, f * d, 4));
        let sums = allocate(client, f, 4);
        for (n, contribution) in pass.contributions.iter().enumerate() {
            self.accumulate(contribution, inputs, (&enc, &dec, &sums), n > 0);
        }
        // Through the centered inputs of the encoder.
        let through = if self.config.subtract_b_dec {
            self.column_sums(&self.w_enc.value, f, d, 0, Some(&sums))
        } else {
            upload(client, &vec![0f32; d])
        };
        let with_bias = pass.contributions.iter().filter(|contribution| contribution.with_bias);
        // Slot 0 is the sum over all prefixes.
        let shares = with_bias.map(|of| self.column_sums(&of.residuals, self.rows, of.ends.1 * d, 0, None));
        let b_dec = std::iter::once(through).chain(shares).collect();
        let scalars = if pass.scalars.is_empty() { vec![sums] } else { pass.scalars.clone() };
        let squares = allocate(client, f, 4);
        let scalar = |n: usize| scalars.get(n).unwrap_or(&scalars[0]).arg();
        let to_norm = pass.norm.as_ref().unwrap_or(&self.norms).arg();
        update::norms_of_gradients::launch(
            client,
            cubes(f),
            units(),
            enc.arg(),
            dec.arg(),
            scalar(0),
            scalar(1),
            scalar(2),
            self.w_dec.value.arg(),
            self.norms.arg(),
            to_norm,
            squares.arg(),
            d,
            scalars.len(),
            pass.norm.is_some(),
            self.config.decoder == Decoder::Unit,
        );
        Gradients { enc, dec, scalars, squares, b_dec }
    }

    /// Adds a contribution to the gradients, or (not `more`) writes it there.
    fn accumulate(
        &self,
        from: &Contribution,
        inputs: &Inputs,
        (enc, dec, sums): (&Buffer, &Buffer, &Buffer),
        more: bool,
    ) {
        let (ends, slots) = (&from.ends.0, from.ends.1);
        sparse::gradients::launch(
            &self.client,
            cubes(self.f * blocks(self.d)),
            units(),
            from.groups.start.arg(),
            from.groups.order.arg(),
            from.entries.values.arg(),
            from.back.as_ref().unwrap_or(&from.entries.values).arg(),
            inputs.centered.arg(),
            from.residuals.arg(),
            ends.arg(),
            enc.arg(),
            dec.arg(),
            sums.arg(),
            self.d,
            slots,
            from.entries.width,
            more,
            from.back.is_some(),
        );
    }

    /// Sums of rows `[rows, stride]`, each times its weight, from column `first` on.
    pub fn column_sums(
        &self,
        a: &Buffer,
        rows: usize,
        stride: usize,
        first: usize,
        weights: Option<&Buffer>,
    ) -> Buffer {
        let (client, d) = (&self.client, self.d);
        let pieces = rows.div_ceil(PIECE);
        let (parts, out) = (allocate(client, pieces * d, 4), allocate(client, d, 4));
        let by = weights.unwrap_or(&self.norms).arg();
        let (to, weighed) = (parts.arg(), weights.is_some());
        let count = cubes(pieces * blocks(d));
        sparse::column_sums::launch(client, count, units(), a.arg(), by, to, rows, stride, first, d, PIECE, weighed);
        let (from, none, to) = (parts.arg(), self.norms.arg(), out.arg());
        sparse::column_sums::launch(client, cubes(blocks(d)), units(), from, none, to, pieces, d, 0, d, pieces, false);
        out
    }

    /// Adam on everything, with the gradient of the decoder's bias from the host.
    pub fn apply(&mut self, gradients: &Gradients, b_dec: &[f32], shrink: f32, batch: &Batch) {
        let config = &self.config;
        let adam = Adam::new(config, batch.lr, batch.t);
        let decoder = if config.decoder == Decoder::Unit { update::UNIT } else { update::FREE };
        let (d, f) = (self.d, self.f);
        self.update(&adam, &self.w_enc, &gradients.enc, (f, d), &self.enc_norms, shrink, update::NARROWED);
        self.update(&adam, &self.w_dec, &gradients.dec, (f, d), &self.norms, shrink, decoder);
        for (n, (scalar, gradient)) in self.scalars.iter().zip(&gradients.scalars).enumerate() {
            let is_threshold = n == THRESHOLD && config.arch == Architecture::JumpRelu;
            let then = if is_threshold { update::CLAMPED } else { update::PLAIN };
            self.update(&adam, scalar, gradient, (1, f), &self.norms, shrink, then);
        }
        let [w, m, v] = &mut self.b_dec;
        adam.step(w, m, v, b_dec, shrink);
    }

    /// Adam on a matrix, and what `then` says.
    #[allow(clippy::too_many_arguments)] // they are those of the kernel
    fn update(
        &self,
        adam: &Adam,
        trained: &Trained,
        gradient: &Buffer,
        (rows, columns): (usize, usize),
        norms: &Buffer,
        shrink: f32,
        then: u32,
    ) {
        update::adam::launch(
            &self.client,
            cubes(rows),
            units(),
            trained.value.arg(),
            trained.first.arg(),
            trained.second.arg(),
            gradient.arg(),
            norms.arg(),
            self.narrow_enc.arg(),
            columns,
            shrink,
            adam.beta1,
            adam.beta2,
            adam.epsilon,
            adam.rate,
            adam.spread,
            then,
            self.narrow,
        );
    }
}
