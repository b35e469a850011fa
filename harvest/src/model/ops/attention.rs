//! Attention, and which rows are visible to which. A single range of rows per row expresses causal order, sliding
//! windows, bidirectional images, and the boundaries of samples.

use super::super::matrix::Matrix;
use crate::kernel::attention::{self as kernel, Heads};
use burn::tensor::ops::AttentionModuleOptions;
use burn::tensor::{Bool, Tensor, TensorData, module};
use std::ops::Range;

/// The rows to which each row attends. Rows that attend to each other are in the same segment.
#[derive(Clone, Debug, PartialEq)]
pub(in super::super) struct VisibleKeys {
    ranges: Vec<Range<u32>>,
    segments: Vec<(Range<usize>, SegmentKind)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SegmentKind {
    Causal,
    Full,
    Other,
}

impl VisibleKeys {
    /// Consecutive segments, in each of which all rows attend to all rows.
    pub fn full(lengths: impl IntoIterator<Item = usize>) -> Self {
        Self::new(lengths, SegmentKind::Full, |rows, _| rows)
    }

    /// Consecutive segments, in which each row attends to itself and to the `window - 1` rows before it, or to all rows
    /// before it if there is no window. Rows of one of `groups`, which are ascending, also attend to the later rows of
    /// their group. The window applies to them, too.
    pub fn causal(lengths: impl IntoIterator<Item = usize>, window: Option<usize>, groups: &[Range<usize>]) -> Self {
        let mut visible = Self::new(lengths, SegmentKind::Causal, |rows, row| {
            let from = window.map_or(rows.start, |window| rows.start.max((row + 1).saturating_sub(window)));
            from..row + 1
        });
        for group in groups {
            for row in group.clone() {
                visible.ranges[row].end = group.end as u32;
            }
        }
        for (rows, kind) in &mut visible.segments {
            let is_cut = window.is_some_and(|window| window < rows.len());
            let has_group = groups.iter().any(|group| group.start < rows.end && rows.start < group.end);
            if is_cut || has_group {
                *kind = SegmentKind::Other;
            }
        }
        visible
    }

    fn new(
        lengths: impl IntoIterator<Item = usize>,
        kind: SegmentKind,
        range: impl Fn(Range<usize>, usize) -> Range<usize>,
    ) -> Self {
        let (mut ranges, mut segments, mut at) = (Vec::new(), Vec::new(), 0);
        for length in lengths {
            let rows = at..at + length;
            ranges.extend(rows.clone().map(|row| {
                let range = range(rows.clone(), row);
                range.start as u32..range.end as u32
            }));
            at = rows.end;
            segments.push((rows, kind));
        }
        Self { ranges, segments }
    }

    /// The mask of keys that are not visible in a segment, `[rows, rows]`.
    fn hidden(&self, rows: &Range<usize>) -> Vec<bool> {
        let is_visible = |row: usize, key: usize| self.ranges[row].contains(&(key as u32));
        rows.clone().flat_map(|row| rows.clone().map(move |key| !is_visible(row, key))).collect()
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
            let parts = visible.segments.iter().map(|(rows, kind)| {
                let part = |x: &Tensor<2>| x.clone().slice([rows.clone()]);
                let mask = (*kind == SegmentKind::Other).then(|| {
                    let shape = [1, 1, rows.len(), rows.len()];
                    Tensor::<4, Bool>::from_data(TensorData::new(visible.hidden(rows), shape), &q.device())
                });
                segment(part(q), part(k), part(v), heads, mask, *kind == SegmentKind::Causal)
            });
            Matrix::Device(Tensor::cat(parts.collect(), 0))
        }
        _ => unreachable!("the matrices of a model are all on one device"),
    }
}

fn segment(
    q: Tensor<2>,
    k: Tensor<2>,
    v: Tensor<2>,
    heads: Heads,
    mask: Option<Tensor<4, Bool>>,
    causal: bool,
) -> Tensor<2> {
    let [rows, width] = q.dims();
    let groups = heads.heads / heads.kv_heads;
    // Burn's documentation mentions no grouped queries, so keys and values are repeated.
    let split = |x: Tensor<2>, groups: usize| {
        let kv_heads = x.dims()[1] / heads.head_dim;
        let x = x.reshape([1, rows, kv_heads, heads.head_dim]).swap_dims(1, 2);
        if groups == 1 {
            return x;
        }
        let x: Tensor<5> = x.unsqueeze_dim::<5>(2).expand([1, kv_heads, groups, rows, heads.head_dim]);
        x.reshape([1, kv_heads * groups, rows, heads.head_dim])
    };
    // The scale is applied to the queries, because a custom scale would prevent Burn from using its fused kernels.
    let default = (heads.head_dim as f32).powf(-0.5);
    let q = if (heads.scale - default).abs() > 1e-6 * default { q * (heads.scale / default) } else { q };
    let mask = mask.map(|mask| mask.expand([1, heads.heads, rows, rows]));
    let options = AttentionModuleOptions { is_causal: causal, ..Default::default() };
    let out = module::attention(split(q, 1), split(k, groups), split(v, groups), mask, None, options);
    out.swap_dims(1, 2).reshape([rows, width])
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
        assert_eq!(image.segments, [(0..5, SegmentKind::Other)]);
        assert_eq!(
            VisibleKeys::causal([2, 3], Some(2), &[]).segments,
            [(0..2, SegmentKind::Causal), (2..5, SegmentKind::Other)]
        );
    }
}
