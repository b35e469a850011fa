//! Sparse rows: for every token its active features, ascending, and their activations.

/// Rows of `(feature, value)`, stored one after the other.
#[derive(Clone, Debug, PartialEq)]
pub struct Sparse {
    /// The entries of row `r` are `offsets[r]..offsets[r + 1]`.
    offsets: Vec<usize>,
    features: Vec<u32>,
    values: Vec<f32>,
}

impl Default for Sparse {
    fn default() -> Self {
        Self { offsets: vec![0], features: Vec::new(), values: Vec::new() }
    }
}

impl Sparse {
    /// The positive values of dense rows, `[rows, d_sae]`.
    pub fn from_dense(dense: &[f32], d_sae: usize) -> Self {
        let mut sparse = Self::default();
        for row in dense.chunks_exact(d_sae) {
            sparse.push(row.iter().enumerate().filter(|(_, z)| **z > 0.0).map(|(k, z)| (k as u32, *z)));
        }
        sparse
    }

    /// Appends a row.
    #[inline]
    pub fn push(&mut self, row: impl Iterator<Item = (u32, f32)>) {
        for (feature, value) in row {
            self.features.push(feature);
            self.values.push(value);
        }
        self.offsets.push(self.features.len());
    }

    /// The rows of all parts, in the order of the parts.
    pub fn concat(parts: &[Self]) -> Self {
        let total = |count: fn(&Self) -> usize| parts.iter().map(count).sum::<usize>();
        let mut all = Self::default();
        all.offsets.reserve(total(Self::rows));
        all.features.reserve(total(Self::len));
        all.values.reserve(total(Self::len));
        parts.iter().for_each(|part| all.append(part));
        all
    }

    /// Appends the rows of another.
    pub fn append(&mut self, other: &Self) {
        let before = self.features.len();
        self.offsets.extend(other.offsets[1..].iter().map(|offset| before + offset));
        self.features.extend_from_slice(&other.features);
        self.values.extend_from_slice(&other.values);
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.offsets.len() - 1
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.features.len()
    }

    /// Whether no row has an entry.
    pub fn is_empty(&self) -> bool {
        self.features.is_empty()
    }

    /// The range of a row's entries in [`Self::features`] and [`Self::values`].
    pub fn range(&self, row: usize) -> std::ops::Range<usize> {
        self.offsets[row]..self.offsets[row + 1]
    }

    /// Active features of a row, and their activations.
    pub fn row(&self, row: usize) -> (&[u32], &[f32]) {
        (&self.features[self.range(row)], &self.values[self.range(row)])
    }

    /// The features of all entries.
    pub fn features(&self) -> &[u32] {
        &self.features
    }

    /// The values of all entries.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// The values of all entries, mutable.
    pub fn values_mut(&mut self) -> &mut [f32] {
        &mut self.values
    }

    /// Replaces every value by `value(feature, value)`.
    pub fn map(&mut self, value: impl Fn(u32, f32) -> f32) {
        self.values.iter_mut().zip(&self.features).for_each(|(v, feature)| *v = value(*feature, *v));
    }

    /// Keeps the entries for which `keep(number of the entry, feature, value)` is true.
    pub fn retain(&mut self, mut keep: impl FnMut(usize, u32, f32) -> bool) {
        let mut out = 0;
        let mut start = 0;
        for row in 0..self.rows() {
            let end = self.offsets[row + 1];
            for n in start..end {
                if keep(n, self.features[n], self.values[n]) {
                    self.features[out] = self.features[n];
                    self.values[out] = self.values[n];
                    out += 1;
                }
            }
            start = end;
            self.offsets[row + 1] = out;
        }
        self.features.truncate(out);
        self.values.truncate(out);
    }
}

/// Items grouped by feature, such as the rows in which each feature is active.
pub struct ByFeature {
    /// The items of feature `k` are `items[starts[k]..starts[k + 1]]`.
    starts: Vec<u32>,
    items: Vec<u32>,
}

impl ByFeature {
    /// Groups `(feature, item)`, all features below `d_sae`. Each group keeps the order in which its items come.
    ///
    /// ```
    /// # use sae_core::autoencoder::sparse::ByFeature;
    /// let grouped = ByFeature::new([(2, 10), (0, 11), (2, 12)].into_iter(), 3);
    /// assert_eq!((grouped.of(0), grouped.of(1), grouped.of(2)), (&[11][..], &[][..], &[10, 12][..]));
    /// ```
    pub fn new(entries: impl Iterator<Item = (u32, u32)> + Clone, d_sae: usize) -> Self {
        let mut starts = vec![0; d_sae + 1];
        entries.clone().for_each(|(feature, _)| starts[feature as usize + 1] += 1);
        (0..d_sae).for_each(|k| starts[k + 1] += starts[k]);
        let (mut next, mut items) = (starts.clone(), vec![0; starts[d_sae] as usize]);
        for (feature, item) in entries {
            let next = &mut next[feature as usize];
            items[*next as usize] = item;
            *next += 1;
        }
        Self { starts, items }
    }

    /// Groups the numbers of rows by the features that are active in them.
    pub fn from_rows<'a>(rows: impl Iterator<Item = &'a [u32]> + Clone, d_sae: usize) -> Self {
        Self::new(rows.zip(0..).flat_map(|(row, n)| row.iter().map(move |feature| (*feature, n))), d_sae)
    }

    /// The items of a feature.
    #[inline(always)]
    pub fn of(&self, feature: usize) -> &[u32] {
        &self.items[self.starts[feature] as usize..self.starts[feature + 1] as usize]
    }

    /// The index in [`Self::items`] where the items of each feature begin, and the end of the last ones, `[d_sae + 1]`.
    pub fn starts(&self) -> &[u32] {
        &self.starts
    }

    /// All items, feature by feature.
    pub fn items(&self) -> &[u32] {
        &self.items
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn sparse_rows_have_the_positive_values(dense in prop::collection::vec(-1f32..1.0, 0..12).prop_map(|v| v.repeat(6))) {
            let d_sae = 6;
            let sparse = Sparse::from_dense(&dense, d_sae);
            prop_assert_eq!(sparse.rows(), dense.len() / d_sae);
            for (r, row) in dense.chunks(d_sae).enumerate() {
                let mut back = vec![0.0; d_sae];
                let (features, values) = sparse.row(r);
                features.iter().zip(values).for_each(|(k, z)| back[*k as usize] = *z);
                prop_assert_eq!(back, row.iter().map(|z| z.max(0.0)).collect::<Vec<_>>());
            }
            let mut strong = sparse.clone();
            strong.retain(|_, feature, value| feature % 2 == 0 && value > 0.5);
            for r in 0..sparse.rows() {
                let (features, values) = sparse.row(r);
                let kept = features.iter().zip(values).filter(|(k, v)| **k % 2 == 0 && **v > 0.5);
                let (features, values): (Vec<u32>, Vec<f32>) = kept.unzip();
                prop_assert_eq!(strong.row(r), (&features[..], &values[..]));
            }
            let by_feature = ByFeature::from_rows((0..sparse.rows()).map(|r| sparse.row(r).0), d_sae);
            for k in 0..d_sae {
                let rows = (0..sparse.rows()).filter(|r| sparse.row(*r).0.contains(&(k as u32))).map(|r| r as u32);
                prop_assert_eq!(by_feature.of(k), &rows.collect::<Vec<_>>()[..]);
            }
            prop_assert_eq!(Sparse::concat(&[sparse.clone(), sparse.clone()]).rows(), 2 * sparse.rows());
        }
    }
}
