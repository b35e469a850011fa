//! Groups the entries of a batch by feature, on the device: a counting sort. The entries of a feature come in the order of
//! the tokens, so that sums over them have the same bits every time.

use super::entries::Entries;
use super::memory::{Buffer, allocate};
use super::select::UNITS;
use super::{cubes, units};
use crate::train::fit::GROUPING_BLOCK;
use cubecl::client::Client;
use cubecl::prelude::*;

/// A cube counts and places the entries of so many tokens, token by token.
const BLOCK: usize = GROUPING_BLOCK;

/// The places of the entries of each feature.
#[derive(Clone)]
pub struct Groups {
    /// Where the entries of each feature begin in `order`, and where the last ones end, `[d_sae + 1]`.
    pub start: Buffer,
    /// Places in arrays of the shape `[rows, width]`, feature by feature, and for each feature in the order of the tokens.
    pub order: Buffer,
}

impl Groups {
    /// Groups the entries of `rows` tokens.
    pub fn new(client: &Client, entries: &Entries, rows: usize, d_sae: usize) -> Self {
        let (width, blocks) = (entries.width, rows.div_ceil(BLOCK));
        let counts = allocate(client, blocks * d_sae, 4);
        let (start, order) = (allocate(client, d_sae + 1, 4), allocate(client, rows * width, 4));
        let (features, lens) = (&entries.features, &entries.lens);
        count::launch(client, cubes(blocks), units(), features.arg(), lens.arg(), counts.arg(), rows, width, d_sae);
        let pieces = (d_sae + 1).div_ceil(UNITS);
        let sums = allocate(client, pieces, 4);
        starts_in_piece::launch(client, cubes(pieces), units(), counts.arg(), start.arg(), sums.arg(), blocks, d_sae);
        starts::launch(client, cubes(pieces), units(), sums.arg(), start.arg(), d_sae);
        place::launch(
            client,
            cubes(blocks),
            units(),
            features.arg(),
            lens.arg(),
            start.arg(),
            counts.arg(),
            order.arg(),
            rows,
            width,
            d_sae,
        );
        Self { start, order }
    }
}

/// How many entries each feature has in each block of tokens; one cube a block. A token has a feature at most once, so
/// that no two units count the same feature at the same time.
///
/// # Shapes
/// `features`: `[rows, width]`, of which a row has `lens[row]`; `counts`: `[blocks, d_sae]`.
#[cube(launch)]
pub fn count(features: &[u32], lens: &[u32], counts: &mut [u32], rows: usize, width: usize, d_sae: usize) {
    let unit = UNIT_POS as usize;
    let own = CUBE_POS_X as usize * d_sae;
    let mut k = unit;
    while k < d_sae {
        counts[own + k] = 0;
        k += UNITS;
    }
    let first = CUBE_POS_X as usize * BLOCK;
    for row in first..min(first + BLOCK, rows) {
        sync_storage();
        let mut n = unit;
        while n < lens[row] as usize {
            counts[own + features[row * width + n] as usize] += 1;
            n += UNITS;
        }
    }
}

/// The sum of the values of a cube's units up to and including the own one. All units call it; afterwards `shared` has
/// these sums.
#[cube]
fn sum_so_far(shared: &mut Shared<[u32]>, own: u32) -> u32 {
    let unit = UNIT_POS as usize;
    sync_cube();
    shared[unit] = own;
    sync_cube();
    let mut distance = 1usize;
    while distance < UNITS {
        let mut before = 0u32;
        if unit >= distance {
            before = shared[unit - distance];
        }
        sync_cube();
        shared[unit] += before;
        sync_cube();
        distance *= 2;
    }
    shared[unit]
}

/// Replaces counts by the number of the same feature's entries in earlier blocks, and finds where each feature begins
/// within its piece of [`UNITS`] features; one unit a feature, one cube a piece.
///
/// # Shapes
/// `counts`: `[blocks, d_sae]`; `start`: `[d_sae + 1]`; `sums`, the number of entries of a piece: `[pieces]`.
#[cube(launch)]
pub fn starts_in_piece(counts: &mut [u32], start: &mut [u32], sums: &mut [u32], blocks: usize, d_sae: usize) {
    let mut shared = Shared::<[u32]>::new_slice(UNITS);
    let k = ABSOLUTE_POS;
    let mut own = 0u32;
    if k < d_sae {
        for block in 0..blocks {
            let at = block * d_sae + k;
            let here = counts[at];
            counts[at] = own;
            own += here;
        }
    }
    let so_far = sum_so_far(&mut shared, own);
    if k <= d_sae {
        start[k] = so_far - own;
    }
    if UNIT_POS as usize == UNITS - 1 {
        sums[CUBE_POS_X as usize] = so_far;
    }
}

/// Adds the entries of all earlier pieces; one cube a piece.
///
/// # Shapes
/// `sums`: `[pieces]`; `start`: `[d_sae + 1]`.
#[cube(launch)]
pub fn starts(sums: &[u32], start: &mut [u32], d_sae: usize) {
    let mut shared = Shared::<[u32]>::new_slice(UNITS);
    let mut own = 0u32;
    let mut piece = UNIT_POS as usize;
    while piece < CUBE_POS_X as usize {
        own += sums[piece];
        piece += UNITS;
    }
    sum_so_far(&mut shared, own);
    if ABSOLUTE_POS <= d_sae {
        start[ABSOLUTE_POS] += shared[UNITS - 1];
    }
}

/// Writes the place of every entry into its group; one cube a block of tokens, as [`count`].
///
/// # Shapes
/// `features`: `[rows, width]`, of which a row has `lens[row]`; `start`: `[d_sae + 1]`; `counts`: `[blocks, d_sae]`;
/// `order`: `[rows * width]`.
#[cube(launch)]
pub fn place(
    features: &[u32],
    lens: &[u32],
    start: &[u32],
    counts: &mut [u32],
    order: &mut [u32],
    rows: usize,
    width: usize,
    d_sae: usize,
) {
    let own = CUBE_POS_X as usize * d_sae;
    let first = CUBE_POS_X as usize * BLOCK;
    for row in first..min(first + BLOCK, rows) {
        let mut n = UNIT_POS as usize;
        while n < lens[row] as usize {
            let entry = row * width + n;
            let k = features[entry] as usize;
            let before = counts[own + k];
            order[(start[k] + before) as usize] = entry as u32;
            counts[own + k] = before + 1;
            n += UNITS;
        }
        sync_storage();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::autoencoder::sparse::ByFeature;
    use crate::device::{DeviceChoice, Gpu};
    use crate::random::chacha;
    use crate::train::gpu::memory::{fetch, upload};
    use rand::RngExt;

    /// Grouped on the device and on the host.
    fn groups_agree(client: &Client, tokens: &[Vec<u32>], width: usize, d_sae: usize) {
        let rows = tokens.len();
        let mut features = vec![u32::MAX; rows * width];
        let lens: Vec<u32> = tokens.iter().map(|token| token.len() as u32).collect();
        for (to, token) in features.chunks_mut(width).zip(tokens) {
            to[..token.len()].copy_from_slice(token);
        }
        let places = tokens.iter().zip((0u32..).step_by(width));
        let expected = ByFeature::new(places.flat_map(|(token, first)| token.iter().copied().zip(first..)), d_sae);

        let (features, lens) = (upload(client, &features), upload(client, &lens));
        let entries = Entries { width, values: features.clone(), features, lens };
        let groups = Groups::new(client, &entries, rows, d_sae);
        assert_eq!(fetch::<u32>(client, &groups.start).unwrap(), expected.starts());
        let order = fetch::<u32>(client, &groups.order).unwrap();
        assert_eq!(&order[..expected.items().len()], expected.items());
    }

    #[test]
    fn entries_are_grouped_as_on_the_host_on_a_gpu() {
        for device in DeviceChoice::found() {
            let client = Gpu::from_device(&device).unwrap().client();
            let mut rng = chacha(0, 0);
            // Rows that are a block, a row more and a row less; more features than a cube has units; wide rows.
            for (rows, width, d_sae) in [(1, 1, 1), (64, 5, 256), (65, 300, 1000), (191, 8, 255), (200, 3, 70_000)] {
                let mut random = |odds: f64, least: u32| -> Vec<Vec<u32>> {
                    let token = |rng: &mut rand_chacha::ChaCha8Rng| {
                        let features = (least..d_sae as u32).filter(|_| rng.random_range(0.0..1.0) < odds);
                        features.take(width).collect()
                    };
                    (0..rows).map(|_| token(&mut rng)).collect()
                };
                groups_agree(&client, &random(width as f64 / d_sae as f64, 0), width, d_sae);
                // Most features have no entry.
                groups_agree(&client, &random(0.5, d_sae as u32 - d_sae.min(4) as u32), width, d_sae);
                // One feature has all entries, or there are none at all.
                groups_agree(&client, &vec![vec![d_sae as u32 - 1]; rows], width, d_sae);
                groups_agree(&client, &vec![Vec::new(); rows], width, d_sae);
            }
        }
    }
}
