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
    /// The ranges on the GPU that computes, of each part of the rows that has its own keys, from the first use on.
    #[cfg(feature = "gpu")]
    on_gpu: OnceLock<Vec<Tensor<1, Int>>>,
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

    /// The rows of each of `prefixes` attend to all rows of their prefix, whatever the window is.
    pub fn with_prefixes(mut self, prefixes: &[Range<usize>]) -> Self {
        for prefix in prefixes {
            self.ranges[prefix.clone()].fill(prefix.start as u32..prefix.end as u32);
        }
        self
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
    attend(q, vec![(0..q.rows(), [k, v])], heads, visible)
}

/// The keys and values of a sample in a block, to which those of its next `rows` rows are added.
pub(in super::super) struct Continued<'a> {
    /// Keys and values, `[positions, kv_heads * head_dim]` each.
    pub keys_and_values: &'a mut Option<[Matrix; 2]>,
    /// How many of the rows belong to the sample.
    pub rows: usize,
}

/// [`attention`] of rows that continue `samples`. Adds the rows of `k` and `v` to those of the samples. `visible` is counted
/// from the first position of each sample.
pub(in super::super) fn attention_after(
    q: &Matrix,
    k: &Matrix,
    v: &Matrix,
    heads: Heads,
    visible: &VisibleKeys,
    samples: Vec<Continued>,
) -> Matrix {
    let mut parts: Vec<(Range<usize>, [&Matrix; 2])> = Vec::with_capacity(samples.len());
    for Continued { keys_and_values, rows } in samples {
        let first = parts.last().map_or(0, |(before, _)| before.end);
        let at = first..first + rows;
        let kept = match keys_and_values {
            Some(kept) => {
                kept.iter_mut().zip([k, v]).for_each(|(kept, new)| kept.append(new, at.clone()));
                kept
            }
            none => none.insert([k, v].map(|new| new.slice(at.clone()))),
        };
        parts.push((at, kept.each_ref()));
    }
    attend(q, parts, heads, visible)
}

/// Attention of parts of the rows, each to its own keys and values. `visible` is counted from the first key of each part.
fn attend(q: &Matrix, parts: Vec<(Range<usize>, [&Matrix; 2])>, heads: Heads, visible: &VisibleKeys) -> Matrix {
    match q {
        Matrix::Host { values: q, width } => {
            let mut out = vec![0.0; q.len()];
            let mut rest = &mut out[..];
            let parts: Vec<_> = parts
                .into_iter()
                .map(|(rows, [k, v])| {
                    let (part, following) = std::mem::take(&mut rest).split_at_mut(rows.len() * width);
                    rest = following;
                    (&q[rows.start * width..rows.end * width], k.host(), v.host(), &visible.ranges[rows], part)
                })
                .collect();
            parts.into_par_iter().with_max_len(1).for_each(|(q, k, v, visible, out)| {
                kernel::attention(q, k, v, heads, visible, out);
            });
            Matrix::Host { values: out, width: *width }
        }
        Matrix::Device(_) => {
            let rows: Vec<Range<usize>> = parts.iter().map(|(rows, _)| rows.clone()).collect();
            let parts = parts.into_iter().enumerate().map(|(n, (at, [k, v]))| {
                let tensors = [&q.slice(at), k, v].map(|x| x.clone().into_tensor());
                Matrix::Device(on_a_device(tensors, heads, visible, &rows, n))
            });
            Matrix::stack_rows(parts.collect())
        }
    }
}

/// Attention of the `n`-th of several parts of the rows.
fn on_a_device(
    [q, k, v]: [Tensor<2>; 3],
    heads: Heads,
    visible: &VisibleKeys,
    parts: &[Range<usize>],
    n: usize,
) -> Tensor<2> {
    #[cfg(feature = "gpu")]
    if q.device() != Device::flex() {
        let upload = |rows: &Range<usize>| gpu_attention::upload(&visible.ranges[rows.clone()], &q.device());
        let visible = visible.on_gpu.get_or_init(|| parts.iter().map(upload).collect());
        return gpu_attention::attention([&q, &k, &v], heads, &visible[n]);
    }
    on_burns_cpu([&q, &k, &v], heads, &visible.ranges[parts[n].clone()])
}

/// Burn's CPU device computes with the kernel of the CPU. Models run there only to be compared.
fn on_burns_cpu([q, k, v]: [&Tensor<2>; 3], heads: Heads, visible: &[Range<u32>]) -> Tensor<2> {
    let values = |x: &Tensor<2>| {
        let values = x.clone().into_data().convert::<f32>().try_into_vec::<f32>();
        values.expect("numbers that were converted to f32 are f32")
    };
    let [q_values, k, v] = [q, k, v].map(values);
    let mut out = vec![0.0; q_values.len()];
    kernel::attention(&q_values, &k, &v, heads, visible, &mut out);
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
        // A prefix of three rows in the second sample. What follows it attends to the window before itself.
        let prefix = VisibleKeys::causal([1, 5], Some(2), &[]).with_prefixes(&[0..0, 1..4]);
        assert_eq!(ranges(&prefix), [(0, 1), (1, 4), (1, 4), (1, 4), (3, 5), (4, 6)]);
        let continued = VisibleKeys::causal([3, 4], Some(2), &[]).continued([(0..3, 2), (3..7, 1)].into_iter());
        assert_eq!(ranges(&continued), [(1, 3), (0, 2), (1, 3), (2, 4)]);
    }
}
