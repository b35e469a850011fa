//! `x W^T + b` on the CPU. The weight is packed once and stored in `f32` or `bf16`. Sums are `f32`.
//!
//! `pack` arranges the weight in panels, and `block` multiplies a block of rows with a run of panels. The terms of a sum are
//! added in a fixed order, in stretches that depend only on `d_in`.

mod block;
mod pack;
#[cfg(test)]
mod tests;

use super::isa::Level;
use block::Product;
use half::bf16;
use pack::Panels;

/// A weight matrix, arranged for the product.
pub struct Packed {
    d_in: usize,
    d_out: usize,
    level: Level,
    panels: Panels,
}

impl Packed {
    /// Packs a weight, which is stored in 4 bytes per value.
    ///
    /// # Shapes
    /// `[d_out, d_in]`, as in checkpoints.
    pub fn from_f32(values: &[f32], shape: [usize; 2]) -> Self {
        Self::new(shape, Level::widest(), |width| Panels::F32(pack::pack(values, shape, width)))
    }

    /// Packs a weight, which is stored in 2 bytes per value.
    ///
    /// # Shapes
    /// `[d_out, d_in]`, as in checkpoints.
    pub fn from_bf16(values: &[bf16], shape: [usize; 2]) -> Self {
        Self::new(shape, Level::widest(), |width| Panels::Bf16(pack::pack(values, shape, width)))
    }

    fn new([d_out, d_in]: [usize; 2], level: Level, panels: impl FnOnce(usize) -> Panels) -> Self {
        Self { d_in, d_out, level, panels: panels(level.width()) }
    }

    /// The width of the input.
    pub fn d_in(&self) -> usize {
        self.d_in
    }

    /// The width of the output.
    pub fn d_out(&self) -> usize {
        self.d_out
    }

    /// `out = x W^T + bias`.
    ///
    /// # Shapes
    /// `x`: `[rows, d_in]`. `bias`: `[d_out]`. `out`: `[rows, d_out]`.
    pub fn apply(&self, x: &[f32], bias: Option<&[f32]>, out: &mut [f32]) {
        let (d_in, d_out) = (self.d_in, self.d_out);
        assert!(bias.is_none_or(|bias| bias.len() == d_out), "a bias of {:?} for {d_out}", bias.map(<[f32]>::len));
        if d_out == 0 {
            return;
        }
        let rows = out.len() / d_out;
        assert_eq!((x.len(), out.len()), (rows * d_in, rows * d_out), "x and out for [{d_out}, {d_in}]");
        match bias {
            Some(bias) => out.chunks_exact_mut(d_out).for_each(|row| row.copy_from_slice(bias)),
            None if d_in == 0 => out.fill(0.0),
            None => {}
        }
        if rows > 0 && d_in > 0 {
            self.level.run(Product { x, d_in, out, d_out, panels: &self.panels, add: bias.is_some() });
        }
    }
}
