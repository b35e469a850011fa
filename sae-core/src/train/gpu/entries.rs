//! A batch on the device, and features of its tokens. Computes nothing.

use super::memory::{Buffer, allocate};
use cubecl::client::Client;

/// A batch on the device.
pub struct Inputs {
    pub rows: usize,
    /// To be reconstructed, `[rows, d]`.
    pub x: Buffer,
    /// What the encoder reads, `[rows, d]`: centered if the configuration says so.
    pub centered: Buffer,
    /// The same in the product's type.
    pub narrow: Buffer,
}

/// Features of tokens: `[rows, width]`, of which a token has `lens[row]`.
#[derive(Clone)]
pub struct Entries {
    pub width: usize,
    pub features: Buffer,
    /// Pre-activations, bias included.
    pub values: Buffer,
    pub lens: Buffer,
}

impl Entries {
    /// Memory for `width` features of each of `rows` tokens.
    pub fn new(client: &Client, rows: usize, width: usize) -> Self {
        Self {
            width,
            features: allocate(client, rows * width, 4),
            values: allocate(client, rows * width, 4),
            lens: allocate(client, rows, 4),
        }
    }

    /// The entries of `rows` tokens from `first` on, in the same memory.
    pub fn part(&self, first: usize, rows: usize) -> Self {
        Self {
            width: self.width,
            features: self.features.part(first * self.width, rows * self.width),
            values: self.values.part(first * self.width, rows * self.width),
            lens: self.lens.part(first, rows),
        }
    }
}
