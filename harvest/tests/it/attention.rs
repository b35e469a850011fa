//! Attention on GPUs against the kernel of the CPU: samples of different lengths in one launch, windows, images, grouped
//! queries, and heads of every width that a model has.

use crate::golden::relative_error;
use burn::tensor::DType;
use harvest::kernel::attention::{self, Heads};
use harvest::model::{Compute, attention};
use sae_core::device::DeviceChoice;
use sae_core::random::SplitMix64;
use std::ops::Range;

/// What the rows of a sample see of it: `[start, end)`.
type Mask = fn(row: u32, length: u32) -> Range<u32>;

/// The masks of models: a tower, a decoder, sliding windows, and images inside of which rows see later ones, alone and in a
/// window.
const MASKS: [Mask; 5] = [
    |_, length| 0..length,
    |row, _| 0..row + 1,
    |row, _| row.saturating_sub(6)..row + 1,
    |row, length| 0..image(row, length).unwrap_or(row + 1),
    |row, length| row.saturating_sub(6)..image(row, length).unwrap_or(row + 1),
];

/// Where the image ends to which a row belongs: it has the middle half of the sample.
fn image(row: u32, length: u32) -> Option<u32> {
    let rows = length / 4..length - length / 4;
    rows.contains(&row).then_some(rows.end)
}

/// The ranges of samples that have these lengths, each with another mask.
fn visible(lengths: &[u32], masks: &[Mask]) -> Vec<Range<u32>> {
    let mut start = 0;
    let samples = lengths.iter().zip(masks.iter().cycle()).flat_map(|(length, mask)| {
        let first = start;
        start += length;
        (0..*length).map(move |row| mask(row, *length)).map(move |keys| first + keys.start..first + keys.end)
    });
    samples.collect()
}

fn numbers(n: usize, seed: u64) -> Vec<f32> {
    (0..n as u64).map(|n| (SplitMix64::nth(seed, n) >> 40) as f32 / (1 << 22) as f32 - 2.0).collect()
}

#[test]
fn one_launch_on_a_gpu_equals_the_cpu_for_all_samples_of_a_batch() {
    // Rows end before, at and after the ends of the tiles of the kernel. (heads, heads of keys, width, lengths)
    let cases: [(usize, usize, usize, &[u32]); 8] = [
        (1, 1, 1, &[1]),
        (4, 2, 8, &[1, 2, 3, 70, 5]),
        (2, 2, 16, &[64, 64]),
        (9, 3, 64, &[65, 7, 130]),
        (2, 1, 72, &[63, 66, 40, 9, 1]),
        (4, 4, 80, &[100]),
        (8, 2, 128, &[33, 31, 129]),
        (2, 1, 256, &[10, 90]),
    ];
    for device in DeviceChoice::found() {
        for (n, (heads, kv_heads, head_dim, lengths)) in cases.into_iter().enumerate() {
            // Half of the cases are capped.
            let cap = (n % 2 == 1).then_some(0.7);
            let heads = Heads { heads, kv_heads, head_dim, scale: 1.3 / (head_dim as f32).sqrt(), cap };
            for first in 0..MASKS.len() {
                // Starts with each of the masks, so that every width is computed with all of them.
                let masks: Vec<Mask> = MASKS.into_iter().cycle().skip(first).take(MASKS.len()).collect();
                let visible = visible(lengths, &masks);
                let seed = (n * MASKS.len() + first) as u64;
                let q = numbers(visible.len() * heads.heads * head_dim, 3 * seed);
                let [k, v] = [1, 2].map(|salt| numbers(visible.len() * kv_heads * head_dim, 3 * seed + salt));
                let mut expected = vec![0.0; q.len()];
                attention::attention(&q, &k, &v, heads, &visible, &mut expected);
                for (dtype, tolerance) in [(DType::F32, 1e-5), (DType::BF16, 1e-2)] {
                    if !device.supports_dtype(dtype) {
                        continue;
                    }
                    let compute = Compute::Device(device.clone(), dtype);
                    let found = attention(&compute, [&q, &k, &v], heads, &visible).unwrap();
                    let error = relative_error(&found, &expected);
                    assert!(error < tolerance, "{heads:?} {lengths:?} mask {first} {dtype:?}: error {error}");
                }
            }
        }
    }
}
