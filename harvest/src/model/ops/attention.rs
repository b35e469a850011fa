//! Attention, and which rows are visible to which. A single range of rows per row expresses causal order, sliding
//! windows, bidirectional images, and the boundaries of samples. Rows may continue samples whose keys and values are kept.

#[cfg(feature = "gpu")]
use super::super::gpu_attention;
use super::super::matrix::Matrix;
use crate::kernel::attention::{self as kernel, Heads};
#[cfg(feature = "gpu")]
use burn::tensor::{Device, Int};
use burn::tensor::{Tensor, TensorData};
use rayon::prelude::*;
use std::ops::Range;
#[cfg(feature = "gpu")]
use std::sync::OnceLock;

/// The rows to which each row attends.
#[derive(Clone, Debug)]
pub(in super::super) struct VisibleKeys {
    ranges: Vec<Range<u32>>,
    /// The ranges on the GPU that computes, from the first use on.
    #[cfg(feature = "gpu")]
    on_gpu: OnceLock<Tensor<1, Int>>,
}

impl VisibleKeys {
    /// Consecutive segments, in each of which all rows attend to all rows.
    pub fn full(lengths: impl IntoIterator<Item = usize>) -> Self {
        Self::in_segments(lengths, |rows, _| rows)
    }

    /// Consecutive segments, in which each row attends to itself and to the `window - 1` rows before it, or to all rows
    /// before it if there is no window. Rows of one of `groups`, which are ascending, also attend to the later rows of
    /// their group. The window applies to them, too.
    pub fn causal(lengths: impl IntoIterator<Item = usize>, window: Option<usize>, groups: &[Range<usize>]) -> Self {
        let mut visible = Self::in_segments(lengths, |rows, row| {
            let from = window.map_or(rows.start, |window| rows.start.max((row + 1).saturating_sub(window)));
            from..row + 1
        });
        for group in groups {
            for row in group.clone() {
                visible.ranges[row].end = group.end as u32;
            }
        }
        visible
    }

    /// One range of rows for each row.
    pub fn new(ranges: Vec<Range<u32>>) -> Self {
        Self {
            ranges,
            #[cfg(feature = "gpu")]
            on_gpu: OnceLock::new(),
        }
    }

    /// The ranges of the rows that continue samples, counted from the first row of their sample. The first `start` rows of
    /// every sample are left out.
    pub fn continued(self, samples: impl Iterator<Item = (Range<usize>, usize)>) -> Self {
        let ranges = samples.flat_map(|(rows, start)| {
            let first = rows.start as u32;
            let ranges = &self.ranges[rows.start + start..rows.end];
            ranges.iter().map(move |seen| seen.start - first..seen.end - first)
        });
        Self::new(ranges.collect())
    }

    fn in_segments(
        lengths: impl IntoIterator<Item = usize>,
        range: impl Fn(Range<usize>, usize) -> Range<usize>,
    ) -> Self {
        let (mut ranges, mut at) = (Vec::new(), 0);
        for length in lengths {
            let rows = at..at + length;
            ranges.extend(rows.clone().map(|row| {
                let range = range(rows.clone(), row);
                range.start as u32..range.end as u32
            }));
            at = rows.end;
        }
        Self::new(ranges)
    }
}

/// Scaled dot-product attention. If there are fewer heads of keys and values than of queries, consecutive heads of
/// queries share one.
///
/// # Shapes
/// `q` is `[rows, heads * head_dim]`, `k` and `v` are `[rows, kv_heads * head_dim]`; the result is like `q`.
pub(in super::super) fn attention(q: &Matrix, k: &Matrix, v: &Matrix, heads: Heads, visible: &VisibleKeys) -> Matrix {
    match (q, k, v) {
        (Matrix::Host { values: q, width }, Matrix::Host { values: k, .. }, Matrix::Host { values: v, .. }) => {
            let mut out = vec![0.0; q.len()];
            kernel::attention(q, k, v, heads, &visible.ranges, &mut out);
            Matrix::Host { values: out, width: *width }
        }
        (Matrix::Device(q), Matrix::Device(k), Matrix::Device(v)) => {
            #[cfg(feature = "gpu")]
            if q.device() != Device::flex() {
                let ranges = visible.on_gpu.get_or_init(|| gpu_attention::upload(&visible.ranges, &q.device()));
                return Matrix::Device(gpu_attention::attention([q, k, v], heads, ranges));
            }
            Matrix::Device(on_burns_cpu([q, k, v], heads, visible))
        }
        _ => unreachable!("the matrices of a model are all on one device"),
    }
}

/// The keys and values of a sample in a block, to which those of its next `rows` rows are added.
pub(in super::super) struct Continued<'a> {
    /// `[positions, kv_heads * head_dim]`.
    pub keys: &'a mut Vec<f32>,
    /// `[positions, kv_heads * head_dim]`.
    pub values: &'a mut Vec<f32>,
    /// How many of the rows belong to the sample.
    pub rows: usize,
}

/// [`attention`] of rows that continue `samples`, on the CPU. Adds the rows of `k` and `v` to those of the samples.
/// `visible` is counted from the first position of each sample.
pub(in super::super) fn attention_after(
    q: &Matrix,
    k: &Matrix,
    v: &Matrix,
    heads: Heads,
    visible: &VisibleKeys,
    samples: Vec<Continued>,
) -> Matrix {
    let (Matrix::Host { values: q, width }, Matrix::Host { values: k, .. }, Matrix::Host { values: v, .. }) = (q, k, v)
    else {
        unreachable!("keys and values are kept on the CPU alone")
    };
    let mut out = vec![0.0; q.len()];
    let kv_width = heads.kv_heads * heads.head_dim;
    let (mut rest, mut first) = (&mut out[..], 0);
    let mut parts = Vec::with_capacity(samples.len());
    for Continued { keys, values, rows } in samples {
        let at = first..first + rows;
        keys.extend_from_slice(&k[at.start * kv_width..at.end * kv_width]);
        values.extend_from_slice(&v[at.start * kv_width..at.end * kv_width]);
        let (out, following) = rest.split_at_mut(rows * width);
        (rest, first) = (following, at.end);
        parts.push((&q[at.start * width..at.end * width], &*keys, &*values, &visible.ranges[at], out));
    }
    parts.into_par_iter().with_max_len(1).for_each(|(q, k, v, visible, out)| {
        kernel::attention(q, k, v, heads, visible, out);
    });
    Matrix::Host { values: out, width: *width }
}

/// Burn's CPU device computes with the kernel of the CPU. Models run there only to be compared.
fn on_burns_cpu([q, k, v]: [&Tensor<2>; 3], heads: Heads, visible: &VisibleKeys) -> Tensor<2> {
    let values = |x: &Tensor<2>| {
        let values = x.clone().into_data().convert::<f32>().try_into_vec::<f32>();
        values.expect("numbers that were converted to f32 are f32")
    };
    let [q_values, k, v] = [q, k, v].map(values);
    let mut out = vec![0.0; q_values.len()];
    kernel::attention(&q_values, &k, &v, heads, &visible.ranges, &mut out);
    Tensor::from_data(TensorData::new(out, q.dims()), (&q.device(), q.dtype()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranges(visible: &VisibleKeys) -> Vec<(u32, u32)> {
        visible.ranges.iter().map(|range| (range.start, range.end)).collect()
    }

    #[test]
    fn samples_windows_and_images_determine_what_is_visible() {
        assert_eq!(ranges(&VisibleKeys::full([2, 1])), [(0, 2), (0, 2), (2, 3)]);
        assert_eq!(ranges(&VisibleKeys::causal([3, 2], None, &[])), [(0, 1), (0, 2), (0, 3), (3, 4), (3, 5)]);
        assert_eq!(ranges(&VisibleKeys::causal([4], Some(2), &[])), [(0, 1), (0, 2), (1, 3), (2, 4)]);
        // Rows 1 to 3 are an image. Each of them attends to the later ones, and to the window before it.
        let image = 1..4;
        let image = VisibleKeys::causal([5], Some(2), std::slice::from_ref(&image));
        assert_eq!(ranges(&image), [(0, 1), (0, 4), (1, 4), (2, 4), (3, 5)]);
        let continued = VisibleKeys::causal([3, 4], Some(2), &[]).continued([(0..3, 2), (3..7, 1)].into_iter());
        assert_eq!(ranges(&continued), [(1, 3), (0, 2), (1, 3), (2, 4)]);
    }
}
