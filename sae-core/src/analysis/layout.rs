//! A map of decoder directions: their two first principal components, by randomized subspace iteration (Halko, Martinsson and
//! Tropp, 2011, algorithm 4.4). The decoder is read a few times; no matrix of its size is made.

use crate::autoencoder::{Weights, kernel};
use crate::random::SplitMix64;
use crate::vector::{axpy, dots, norm_sq};
use rayon::prelude::*;

/// Vectors that are iterated together: two are wanted, the others speed up the convergence.
const BLOCK: usize = 8;
/// Passes over the directions before the components are computed.
const ITERATIONS: usize = 6;
/// Directions whose sums are added up together, on one thread.
const TILE: usize = 512;
/// Seed of the vectors that the iteration begins with.
const SEED: u64 = 20_231_101;

type Basis = [Vec<f64>; BLOCK];

/// Where decoder directions lie along their two first principal components.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DecoderLayout {
    /// By feature; nothing for a feature that was left out, or whose direction is zero.
    pub places: Vec<Option<[f32; 2]>>,
    /// The share of the variance of the directions that each of the two components explains, from 0 to 1.
    pub explained: [f64; 2],
}

/// Places `features` by the two first principal components of their decoder directions, each of length 1. The sign of a component
/// is arbitrary; its largest coordinate in the residual stream is made positive. The same result on any number of threads.
///
/// ```
/// # use sae_core::analysis::layout::decoder_layout;
/// # use sae_core::autoencoder::Weights;
/// // Two groups of directions: the first component tells them apart.
/// let w_dec = vec![1.0, 0.1, 0.0, 1.0, -0.1, 0.0, 0.0, 0.1, 1.0, 0.0, -0.1, 1.0];
/// let weights = Weights { d_in: 3, d_sae: 4, w_dec, ..Weights::default() };
/// let layout = decoder_layout(&weights, &[0, 1, 2, 3]);
/// let side = |k: usize| layout.places[k].unwrap()[0] > 0.0;
/// assert!(side(0) == side(1) && side(2) == side(3) && side(0) != side(2));
/// ```
pub fn decoder_layout(weights: &Weights, features: &[u32]) -> DecoderLayout {
    let directions = Directions::new(weights, features);
    let mut random = SplitMix64::new(SEED);
    let mut basis: Basis =
        std::array::from_fn(|_| (0..weights.d_out()).map(|_| random.next_f64() - 0.5).collect::<Vec<f64>>());
    orthonormalize(&mut basis);
    for _ in 0..ITERATIONS {
        basis = directions.image(&basis);
        orthonormalize(&mut basis);
    }
    // Within the space that the basis spans, the components are the eigenvectors of the covariance there.
    let image = directions.image(&basis);
    let covariance = std::array::from_fn(|i| std::array::from_fn(|j| product(&basis[i], &image[j])));
    let (values, vectors) = eigen(covariance);
    let component = |n: usize| {
        let mut sum = vec![0.0; weights.d_out()];
        for (vector, share) in basis.iter().zip(&vectors) {
            sum.iter_mut().zip(vector).for_each(|(sum, v)| *sum += share[n] * v);
        }
        let largest = sum.iter().copied().reduce(|a, b| if b.abs() > a.abs() { b } else { a });
        if largest.is_some_and(|largest| largest < 0.0) {
            sum.iter_mut().for_each(|v| *v = -*v);
        }
        sum
    };
    let total = directions.variance();
    let share = |value: f64| if total > 0.0 { (value / total).clamp(0.0, 1.0) } else { 0.0 };
    DecoderLayout {
        places: directions.places([component(0), component(1)]),
        explained: [share(values[0]), share(values[1])],
    }
}

/// Some decoder directions, as if each had length 1 and their mean were subtracted.
struct Directions<'a> {
    weights: &'a Weights,
    /// Features with 1 divided by the length of their direction.
    rows: Vec<(u32, f32)>,
    mean: Vec<f64>,
}

impl<'a> Directions<'a> {
    fn new(weights: &'a Weights, features: &[u32]) -> Self {
        let inverse = |feature: &u32| {
            let direction = weights.direction(*feature as usize);
            let norm = kernel::wide(
                #[inline(always)]
                || norm_sq(direction).sqrt(),
            );
            (norm > 0.0 && norm.is_finite()).then(|| (*feature, 1.0 / norm))
        };
        let known = features.par_iter().filter(|feature| (**feature as usize) < weights.d_sae);
        let mut directions = Self { weights, rows: known.filter_map(inverse).collect(), mean: Vec::new() };
        let [mut mean] = directions.sums(
            #[inline(always)]
            |_, inverse| [inverse],
        );
        let count = directions.rows.len().max(1) as f64;
        mean.iter_mut().for_each(|v| *v /= count);
        directions.mean = mean;
        directions
    }

    /// Sums of all directions, each times the numbers that `weigh` finds for the direction and for 1 divided by its length. It is
    /// compiled with vector instructions if it is `#[inline(always)]`.
    fn sums<const N: usize>(&self, weigh: impl Fn(&[f32], f32) -> [f32; N] + Sync) -> [Vec<f64>; N] {
        let width = self.weights.d_out();
        let tile = |rows: &[(u32, f32)]| {
            let mut sums: [Vec<f32>; N] = std::array::from_fn(|_| vec![0.0; width]);
            kernel::wide(
                #[inline(always)]
                || {
                    for (feature, inverse) in rows {
                        let row = self.weights.direction(*feature as usize);
                        for (sum, weight) in sums.iter_mut().zip(weigh(row, *inverse)) {
                            axpy(weight, row, sum);
                        }
                    }
                },
            );
            sums
        };
        // The tiles are added up in their order, whichever thread has computed them.
        let tiles: Vec<[Vec<f32>; N]> = self.rows.par_chunks(TILE).map(tile).collect();
        let mut total: [Vec<f64>; N] = std::array::from_fn(|_| vec![0.0; width]);
        for sums in tiles {
            for (total, sum) in total.iter_mut().zip(sums) {
                total.iter_mut().zip(sum).for_each(|(total, v)| *total += f64::from(v));
            }
        }
        total
    }

    /// The covariance, not divided by the number of directions, times each vector of a basis.
    fn image(&self, basis: &Basis) -> Basis {
        let means = basis.each_ref().map(|vector| product(vector, &self.mean) as f32);
        let basis = basis.each_ref().map(|vector| vector.iter().map(|v| *v as f32).collect::<Vec<f32>>());
        let vectors = basis.each_ref().map(Vec::as_slice);
        self.sums(
            #[inline(always)]
            |row, inverse| {
                let along = dots(row, vectors);
                std::array::from_fn(|n| inverse * (inverse * along[n] - means[n]))
            },
        )
    }

    /// The sum of the squared distances from the mean.
    fn variance(&self) -> f64 {
        let count = self.rows.len() as f64;
        count - count * product(&self.mean, &self.mean)
    }

    fn places(&self, components: [Vec<f64>; 2]) -> Vec<Option<[f32; 2]>> {
        let means = components.each_ref().map(|component| product(component, &self.mean) as f32);
        let components = components.map(|component| component.iter().map(|v| *v as f32).collect::<Vec<f32>>());
        let place = |(feature, inverse): &(u32, f32)| {
            let row = self.weights.direction(*feature as usize);
            let components = components.each_ref().map(Vec::as_slice);
            let along = kernel::wide(
                #[inline(always)]
                || dots(row, components),
            );
            (*feature, [inverse * along[0] - means[0], inverse * along[1] - means[1]])
        };
        let mut places = vec![None; self.weights.d_sae];
        for (feature, place) in self.rows.par_iter().map(place).collect::<Vec<_>>() {
            places[feature as usize] = Some(place);
        }
        places
    }
}

fn product(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Gram-Schmidt, twice for accuracy. A vector that the ones before it span becomes zero.
fn orthonormalize(basis: &mut Basis) {
    for n in 0..BLOCK {
        let before = product(&basis[n], &basis[n]).sqrt();
        let (done, rest) = basis.split_at_mut(n);
        for _ in 0..2 {
            for other in &*done {
                let along = product(&rest[0], other);
                rest[0].iter_mut().zip(other).for_each(|(v, o)| *v -= along * o);
            }
        }
        let norm = product(&rest[0], &rest[0]).sqrt();
        let scale = if norm > 1e-9 * before { 1.0 / norm } else { 0.0 };
        rest[0].iter_mut().for_each(|v| *v *= scale);
    }
}

type Square = [[f64; BLOCK]; BLOCK];

/// Eigenvalues of a symmetric matrix, largest first, with the eigenvectors as columns: Jacobi's rotations.
fn eigen(mut a: Square) -> ([f64; BLOCK], Square) {
    let mut vectors: Square = std::array::from_fn(|i| std::array::from_fn(|j| f64::from(u8::from(i == j))));
    for _ in 0..30 {
        for p in 0..BLOCK {
            for q in p + 1..BLOCK {
                if a[p][q] == 0.0 {
                    continue;
                }
                let theta = 0.5 * (a[q][q] - a[p][p]) / a[p][q];
                let t = theta.signum() / (theta.abs() + (theta * theta + 1.0).sqrt());
                let c = 1.0 / (t * t + 1.0).sqrt();
                let rotate = |x: f64, y: f64| (c * (x - t * y), c * (t * x + y));
                for row in &mut a {
                    (row[p], row[q]) = rotate(row[p], row[q]);
                }
                let (upper, lower) = a.split_at_mut(q);
                for (x, y) in upper[p].iter_mut().zip(&mut lower[0]) {
                    (*x, *y) = rotate(*x, *y);
                }
                for row in &mut vectors {
                    (row[p], row[q]) = rotate(row[p], row[q]);
                }
            }
        }
    }
    let mut order: [usize; BLOCK] = std::array::from_fn(|n| n);
    order.sort_by(|i, j| a[*j][*j].total_cmp(&a[*i][*i]));
    (order.map(|n| a[n][n]), vectors.map(|row| order.map(|n| row[n])))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Directions with most variance along axis 3, less along axis 1, and some noise.
    fn weights(features: usize, width: usize) -> Weights {
        let mut random = SplitMix64::new(5);
        let mut w_dec = Vec::new();
        for _ in 0..features {
            let mut row: Vec<f32> = (0..width).map(|_| 0.1 * (random.next_f64() as f32 - 0.5)).collect();
            row[0] += 1.0;
            row[3] += 2.0 * (random.next_f64() as f32 - 0.5);
            row[1] += random.next_f64() as f32 - 0.5;
            let length = 0.5 + random.next_f64() as f32;
            w_dec.extend(row.iter().map(|v| length * v));
        }
        Weights { d_in: width, d_sae: features, w_dec, ..Weights::default() }
    }

    #[test]
    fn the_places_are_along_the_axes_of_the_largest_variance() {
        let weights = weights(1500, 24);
        let all: Vec<u32> = (0..1500).collect();
        let layout = decoder_layout(&weights, &all);
        let unit = |k: u32| {
            let row = weights.direction(k as usize);
            let norm = row.iter().map(|v| v * v).sum::<f32>().sqrt();
            row.iter().map(|v| f64::from(v / norm)).collect::<Vec<f64>>()
        };
        // The covariance, computed directly, has the components as eigenvectors: the variance of the places is stationary, and the
        // two coordinates are not correlated.
        let places: Vec<[f64; 2]> = layout.places.iter().map(|place| place.unwrap().map(f64::from)).collect();
        let mean = |axis: usize| places.iter().map(|place| place[axis]).sum::<f64>() / 1500.0;
        assert!(mean(0).abs() < 1e-5 && mean(1).abs() < 1e-5);
        let moment = |a: usize, b: usize| places.iter().map(|place| place[a] * place[b]).sum::<f64>();
        let (first, second) = (moment(0, 0), moment(1, 1));
        assert!(moment(0, 1).abs() < 1e-4 * first, "{}", moment(0, 1));
        let units: Vec<Vec<f64>> = all.iter().map(|k| unit(*k)).collect();
        let center: Vec<f64> = (0..24).map(|d| units.iter().map(|row| row[d]).sum::<f64>() / 1500.0).collect();
        let total: f64 =
            units.iter().map(|row| row.iter().zip(&center).map(|(v, m)| (v - m) * (v - m)).sum::<f64>()).sum();
        for (n, moment) in [first, second].into_iter().enumerate() {
            assert!(
                (layout.explained[n] - moment / total).abs() < 1e-5,
                "{n}: {} {}",
                layout.explained[n],
                moment / total
            );
        }
        // Nearly all variance is along axes 3 and 1.
        assert!(layout.explained[0] > 0.6 && layout.explained[1] > 0.1, "{:?}", layout.explained);
        let along = |axis: usize, n: usize| {
            let pairs = units.iter().zip(&places).map(|(row, place)| (row[axis] - center[axis]) * place[n]);
            let norm: f64 = units.iter().map(|row| (row[axis] - center[axis]).powi(2)).sum();
            (pairs.sum::<f64>() / (norm * moment(n, n)).sqrt()).abs()
        };
        assert!(along(3, 0) > 0.99 && along(1, 1) > 0.9, "{} {}", along(3, 0), along(1, 1));
    }

    #[test]
    fn the_layout_is_the_same_on_any_number_of_threads() {
        let weights = weights(1100, 16);
        let all: Vec<u32> = (0..1100).collect();
        let on = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| decoder_layout(&weights, &all))
        };
        assert_eq!(on(1), on(3));
    }

    #[test]
    fn features_that_are_left_out_and_zero_directions_have_no_place() {
        let mut weights = weights(20, 5);
        weights.w_dec[5 * 7..5 * 8].fill(0.0);
        let layout = decoder_layout(&weights, &[2, 7, 9, 99]);
        let placed: Vec<usize> = (0..20).filter(|k| layout.places[*k].is_some()).collect();
        assert_eq!(placed, [2, 9]);
        // Two directions lie on a line.
        assert!(layout.explained[0] > 0.999 && layout.explained[1] < 1e-6, "{:?}", layout.explained);
        assert_eq!(decoder_layout(&weights, &[]).explained, [0.0; 2]);
    }
}
