//! What comes back when a model is tuned again: how far the mean activations of checkpoints lie on the way from an aligned model
//! back to its base.
//!
//! # Formulas
//! `m(theta)` is the mean activation of every feature of one autoencoder on the states of checkpoint `theta`, `theta_0` the base,
//! `theta_1` the aligned model: `r(theta) = <m(theta_1) - m(theta), m(theta_1) - m(theta_0)> / |m(theta_1) - m(theta_0)|^2`, 0 for the
//! aligned model and 1 for the base. Samples are divided into two halves, and each product is of one half with the other, so
//! that noise, which the halves do not share, does not make differences seem larger than they are. Intervals are those of the
//! jackknife that leaves out one of [`BUCKETS`] buckets of clusters at a time.
//!
//! Beside them stand distances on the same scale, `1 - distance(theta, theta_0) / distance(theta_1, theta_0)`: of hidden states
//! ([`StateDistances`]), of weights and of predictions, which only whoever has the models can measure.

use super::latent_scaling::{BUCKETS, Ratio, jackknife_interval};
use crate::Result;
use crate::analysis::pass::{Block, Observer};
use crate::store::{PositionFilter, Store};
use crate::table::{self, column, nullable};
use crate::vector::norm_sq;
use arrow::array::{Float64Array, UInt32Array};
use std::path::Path;

/// Rows of a store that are read at once.
const STATE_ROWS: usize = 1024;

/// The sums of every feature's activation, or of every dimension of the hidden states, by buckets of clusters.
pub struct BucketMeans<'a> {
    filter: PositionFilter,
    /// The bucket of each sample.
    buckets: &'a [u8],
    /// Whether dimensions of hidden states are averaged in place of features.
    of_states: bool,
    /// `[BUCKETS, width]`
    sums: Vec<f64>,
    positions: Vec<f64>,
}

impl<'a> BucketMeans<'a> {
    /// Features on the positions that `filter` keeps; `buckets` has a number below [`BUCKETS`] for each sample.
    pub fn of_features(d_sae: usize, filter: PositionFilter, buckets: &'a [u8]) -> Self {
        Self::new(d_sae, filter, buckets, false)
    }

    /// The same for hidden states.
    pub fn of_states(d_in: usize, filter: PositionFilter, buckets: &'a [u8]) -> Self {
        Self::new(d_in, filter, buckets, true)
    }

    fn new(width: usize, filter: PositionFilter, buckets: &'a [u8], of_states: bool) -> Self {
        Self { filter, buckets, of_states, sums: vec![0.0; BUCKETS * width], positions: vec![0.0; BUCKETS] }
    }

    /// Features or dimensions.
    fn width(&self) -> usize {
        self.sums.len() / BUCKETS
    }

    /// The mean of a feature in a half of the buckets, without one of them.
    fn mean(&self, feature: usize, half: usize, without: Option<usize>) -> f64 {
        let buckets = (half..BUCKETS).step_by(2).filter(|bucket| Some(*bucket) != without);
        let (sum, positions) = buckets.fold((0.0, 0.0), |(sum, positions), bucket| {
            (sum + self.sums[bucket * self.width() + feature], positions + self.positions[bucket])
        });
        if positions > 0.0 { sum / positions } else { 0.0 }
    }

    /// The mean over all buckets.
    pub fn mean_of(&self, feature: usize) -> f64 {
        let sum: f64 = (0..BUCKETS).map(|bucket| self.sums[bucket * self.width() + feature]).sum();
        sum / self.positions.iter().sum::<f64>()
    }
}

impl Observer for BucketMeans<'_> {
    fn observe(&mut self, block: &Block) -> Result<()> {
        let (d, f) = (block.hidden.len() / block.rows.len(), self.width());
        for (r, row) in block.positions() {
            let (special, position) = (block.tokens.special[row], block.tokens.position[row]);
            if self.filter.reasons(special, position, &block.hidden[r * d..(r + 1) * d]) != [false; 3] {
                continue;
            }
            let bucket = self.buckets[block.tokens.sample[row] as usize] as usize;
            self.positions[bucket] += 1.0;
            if self.of_states {
                let sums = &mut self.sums[bucket * f..(bucket + 1) * f];
                sums.iter_mut().zip(&block.hidden[r * d..(r + 1) * d]).for_each(|(sum, v)| *sum += f64::from(*v));
                continue;
            }
            let (features, values) = block.active.row(r);
            for (feature, value) in features.iter().zip(values) {
                self.sums[bucket * f + *feature as usize] += f64::from(*value);
            }
        }
        Ok(())
    }
}

/// How far a checkpoint is back.
#[derive(Clone, Debug, PartialEq)]
pub struct Rebound {
    /// `r` over all features.
    pub all: Ratio,
    /// `r` of each feature; NaN where base and aligned model do not differ in both halves in the same direction.
    pub features: Vec<Ratio>,
}

/// The rebound of a checkpoint on the way from the aligned model back to the base.
///
/// # Panics
/// If the means are of other autoencoders.
pub fn rebound(base: &BucketMeans, aligned: &BucketMeans, checkpoint: &BucketMeans) -> Rebound {
    let f = base.width();
    assert!([aligned.width(), checkpoint.width()] == [f; 2], "all means are of one autoencoder");
    // Numerator and denominator of each feature, with one bucket left out.
    let products = |without: Option<usize>| -> Vec<[f64; 2]> {
        let product = |k: usize| {
            let half = |half: usize| {
                let of_aligned = aligned.mean(k, half, without);
                [of_aligned - checkpoint.mean(k, half, without), of_aligned - base.mean(k, half, without)]
            };
            let ([moved_a, way_a], [moved_b, way_b]) = (half(0), half(1));
            [0.5 * (moved_a * way_b + moved_b * way_a), way_a * way_b]
        };
        (0..f).map(product).collect()
    };
    let ratio = |[above, below]: [f64; 2]| if below > 0.0 { above / below } else { f64::NAN };
    let sum = |products: &[[f64; 2]]| {
        products.iter().fold([0.0; 2], |[above, below], [more, way]| [above + more, below + way])
    };
    let used = |bucket: &usize| [base, aligned, checkpoint].iter().any(|means| means.positions[*bucket] > 0.0);
    let whole = products(None);
    let without: Vec<Vec<[f64; 2]>> = (0..BUCKETS).filter(used).map(|bucket| products(Some(bucket))).collect();
    let of_feature = |k: usize| {
        let others: Vec<f64> = without.iter().map(|products| ratio(products[k])).collect();
        jackknife_interval(ratio(whole[k]), &others)
    };
    let others: Vec<f64> = without.iter().map(|products| ratio(sum(products))).collect();
    Rebound { all: jackknife_interval(ratio(sum(&whole)), &others), features: (0..f).map(of_feature).collect() }
}

/// How far the hidden states of several models are from those of the first, position by position.
pub struct StateDistances {
    /// `sum |x^m - x^0|^2` for each bucket and model; for the first model `sum |x^0|^2`.
    squares: Vec<Vec<f64>>,
}

impl StateDistances {
    /// Reads a store of several models on the positions that `filter` keeps; `buckets` has a number below [`BUCKETS`] for each
    /// sample.
    ///
    /// # Errors
    /// A shard that cannot be read, or whatever `progress` returns, which is called with the number of rows read so far.
    pub fn from_store(
        store: &Store,
        filter: &PositionFilter,
        buckets: &[u8],
        progress: &mut dyn FnMut(u64) -> Result<()>,
    ) -> Result<Self> {
        let (models, d) = (store.models(), store.manifest().d_in);
        let mut squares = vec![vec![0.0; models]; BUCKETS];
        let (mut block, mut done) = (Vec::new(), 0);
        for number in 0..store.shards() {
            let (shard, tokens) = (store.shard(number)?, store.tokens(number)?);
            for start in (0..shard.rows()).step_by(STATE_ROWS) {
                let rows = start..(start + STATE_ROWS).min(shard.rows());
                block.clear();
                shard.read(rows.clone(), &mut block);
                for (row, x) in rows.zip(block.chunks_exact(d)) {
                    if filter.reasons(tokens.special[row], tokens.position[row], x) != [false; 3] {
                        continue;
                    }
                    let squares = &mut squares[buckets[tokens.sample[row] as usize] as usize];
                    let (first, _) = x.split_at(d / models);
                    squares[0] += f64::from(norm_sq(first));
                    for (square, other) in squares[1..].iter_mut().zip(x[first.len()..].chunks_exact(first.len())) {
                        let parts = first.iter().zip(other).map(|(a, b)| f64::from(a - b).powi(2));
                        *square += parts.sum::<f64>();
                    }
                    done += 1;
                }
                progress(done)?;
            }
        }
        Ok(Self { squares })
    }

    /// `|x^m - x^0| / |x^0|` over all positions, with its jackknife interval.
    pub fn relative(&self, model: usize) -> Ratio {
        self.root_of_ratio(model, 0, |root| root)
    }

    /// `1 - |x^m - x^0| / |x^1 - x^0|`, the share of the way from model 1 back to the first, with its interval.
    pub fn back(&self, model: usize) -> Ratio {
        self.root_of_ratio(model, 1, |root| 1.0 - root)
    }

    fn root_of_ratio(&self, above: usize, below: usize, of: impl Fn(f64) -> f64) -> Ratio {
        let total = |model: usize| self.squares.iter().map(|squares| squares[model]).sum::<f64>();
        let (all_above, all_below) = (total(above), total(below));
        let value = |above: f64, below: f64| of((above / below).sqrt());
        let used = self.squares.iter().filter(|squares| squares[0] > 0.0);
        let without: Vec<f64> =
            used.map(|squares| value((all_above - squares[above]).max(0.0), all_below - squares[below])).collect();
        jackknife_interval(value(all_above, all_below), &without)
    }
}

/// The number of samples after which a series of checkpoints is half-way back, between the checkpoints around it by linear
/// interpolation; `None` if it never is. Each checkpoint is given by the samples that it was tuned on and its `r`, the aligned
/// model not included.
///
/// ```
/// use sae_core::analysis::rebound::half_way;
///
/// assert_eq!(half_way(&[(100.0, 0.25), (200.0, 0.75)]), Some(150.0));
/// assert_eq!(half_way(&[(100.0, 1.0)]), Some(50.0));
/// assert_eq!(half_way(&[(100.0, 0.4)]), None);
/// ```
pub fn half_way(series: &[(f64, f64)]) -> Option<f64> {
    let mut before = (0.0, 0.0);
    for at in series {
        if at.1 >= 0.5 {
            return Some(before.0 + (at.0 - before.0) * (0.5 - before.1) / (at.1 - before.1));
        }
        before = *at;
    }
    None
}

/// A feature on the states of one model.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CheckpointMean {
    /// The feature.
    pub feature: u32,
    /// The number of the model: 0 for the base, 1 for the aligned model.
    pub model: u32,
    /// Its mean activation.
    pub mean: f64,
    /// How far the checkpoint is back, for checkpoints after the aligned model.
    pub rebound: Option<Ratio>,
}

/// Writes a row for each feature and model.
///
/// # Errors
/// The file cannot be written.
pub fn write_rebound(path: &Path, rows: &[CheckpointMean]) -> Result<()> {
    let ratio = |value: fn(&Ratio) -> f64| {
        Float64Array::from_iter(
            rows.iter().map(|row| row.rebound.as_ref().map(value).filter(|value| value.is_finite())),
        )
    };
    let batch = table::batch(vec![
        column("feature", UInt32Array::from_iter_values(rows.iter().map(|row| row.feature))),
        column("model", UInt32Array::from_iter_values(rows.iter().map(|row| row.model))),
        column("mean", Float64Array::from_iter_values(rows.iter().map(|row| row.mean))),
        nullable("r", ratio(|r| r.value)),
        nullable("r_lo", ratio(|r| r.lo)),
        nullable("r_hi", ratio(|r| r.hi)),
    ]);
    table::write(path, &batch)
}

/// Reads the rows that [`write_rebound`] wrote. Where `r` is null, a row has no [`CheckpointMean::rebound`].
///
/// # Errors
/// The file cannot be read, or is not such a table.
pub fn read_rebound(path: &Path) -> Result<Vec<CheckpointMean>> {
    let batch = table::read(path, &[])?;
    let real = |name| table::get::<Float64Array>(path, &batch, name);
    let feature = table::get::<UInt32Array>(path, &batch, "feature")?;
    let model = table::get::<UInt32Array>(path, &batch, "model")?;
    let (mean, r, lo, hi) = (real("mean")?, real("r")?, real("r_lo")?, real("r_hi")?);
    let read = |row| CheckpointMean {
        feature: feature.value(row),
        model: model.value(row),
        mean: mean.value(row),
        rebound: table::value(r, row).map(|value| {
            let [lo, hi] = [lo, hi].map(|bound| table::value(bound, row).unwrap_or(f64::NAN));
            Ratio { value, lo, hi }
        }),
    };
    Ok((0..batch.num_rows()).map(read).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random;
    use rand::RngExt;

    /// Means of features with noise that differs between buckets.
    fn means(buckets: &[u8], of: impl Fn(usize) -> f64, noise: f64, seed: u64) -> BucketMeans<'_> {
        let mut means = BucketMeans::of_features(30, PositionFilter::default(), buckets);
        let mut rng = random::chacha(seed, 0);
        for bucket in 0..BUCKETS {
            means.positions[bucket] = 10.0 + (bucket % 3) as f64;
            for k in 0..30 {
                let value = of(k) + noise * rng.random_range(-1.0..1.0);
                means.sums[bucket * 30 + k] = value * means.positions[bucket];
            }
        }
        means
    }

    #[test]
    fn a_checkpoint_between_two_models_is_where_it_was_put() {
        let (base, aligned) = (|k: usize| k as f64, |k: usize| k as f64 + if k < 20 { 1.0 } else { 0.0 });
        let between = |share: f64| move |k: usize| aligned(k) + share * (base(k) - aligned(k));
        let [a, b] = [means(&[], base, 0.0, 1), means(&[], aligned, 0.0, 2)];
        for share in [0.0, 0.25, 1.0] {
            let found = rebound(&a, &b, &means(&[], between(share), 0.0, 3));
            assert!((found.all.value - share).abs() < 1e-9, "{found:?}");
            assert!((found.features[3].value - share).abs() < 1e-9);
            assert!(found.features[25].value.is_nan(), "this feature is the same in both models");
        }
    }

    #[test]
    fn a_table_is_read_as_it_was_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("rebound.parquet");
        let row = |model, rebound| CheckpointMean { feature: 7, model, mean: 0.5 * f64::from(model), rebound };
        let back = Ratio { value: 0.25, lo: 0.125, hi: 0.5 };
        let rows = [row(0, None), row(1, None), row(2, Some(back))];
        write_rebound(&path, &rows).unwrap();
        assert_eq!(read_rebound(&path).unwrap(), rows);
        write_rebound(&path, &[row(2, Some(Ratio { value: f64::NAN, ..back }))]).unwrap();
        assert_eq!(read_rebound(&path).unwrap()[0].rebound, None, "base and aligned model do not differ");
    }

    #[test]
    fn noise_does_not_bias_the_rebound_and_the_interval_contains_it() {
        // Features hardly differ between the models in comparison with the noise of a bucket.
        let (base, aligned) = (|_: usize| 0.0, |_: usize| 0.4);
        let (mut inside, mut sum) = (0, 0.0);
        for seed in 0..40 {
            let [a, b] = [means(&[], base, 1.0, 3 * seed), means(&[], aligned, 1.0, 3 * seed + 1)];
            let found = rebound(&a, &b, &means(&[], |_| 0.2, 1.0, 3 * seed + 2)).all;
            sum += found.value / 40.0;
            inside += usize::from(found.lo <= 0.5 && 0.5 <= found.hi);
        }
        assert!((sum - 0.5).abs() < 0.03, "{sum} on average, not 0.5");
        assert!(inside >= 34, "{inside} of 40 intervals of 95 % contain 0.5");
    }
}
