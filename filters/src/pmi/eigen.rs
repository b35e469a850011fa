//! The largest eigenvalues of a symmetric matrix and their vectors, in a fraction of the time that all vectors take. The result
//! depends neither on the number of threads nor on chance.
//!
//! The matrix is brought to tridiagonal form by reflections, which is what most of the remaining time goes into. Its largest
//! eigenvalues are found by bisection with Sturm's count (Barth, Martin and Wilkinson 1967), their vectors by inverse iteration
//! with Gram and Schmidt's orthogonalization (as LAPACK's `dstebz` and `dstein` do), and the reflections are applied to these
//! vectors alone. Residuals are checked.

use faer::dyn_stack::{MemBuffer, MemStack, StackReq};
use faer::linalg::evd::tridiag::{tridiag_in_place, tridiag_in_place_scratch};
use faer::linalg::householder::{
    apply_block_householder_sequence_on_the_left_in_place_scratch,
    apply_block_householder_sequence_on_the_left_in_place_with_conj,
};
use faer::linalg::qr::no_pivoting::factor::recommended_block_size;
use faer::{Conj, Mat, MatRef, Par};
use sae_core::random::SplitMix64;

/// The largest norm of `T v - l v` of an accurate vector, as a share of the norm of the matrix.
const TOLERANCE: f64 = 1e-12;
/// Number of steps of inverse iteration. The second is enough unless the start is unlucky.
const STEPS: usize = 4;

/// Eigenvalues in descending order, and their vectors as columns.
pub(super) struct Eigen {
    pub(super) values: Vec<f64>,
    /// `[n, values]`
    pub(super) vectors: Mat<f64>,
}

/// A symmetric tridiagonal matrix.
struct Tridiagonal {
    diagonal: Vec<f64>,
    /// `below[i]` is next to `diagonal[i]` and `diagonal[i + 1]`.
    below: Vec<f64>,
    /// A bound of the largest absolute eigenvalue.
    norm: f64,
}

/// The `wanted` largest eigenvalues of a symmetric matrix, of which only the lower triangle is read. Nothing if values are not
/// finite, or if the vectors are not as accurate as they should be.
pub(super) fn largest(a: MatRef<f64>, wanted: usize) -> Option<Eigen> {
    let n = a.nrows();
    if n < 2 || wanted == 0 {
        return None;
    }
    let mut reduced = a.to_owned();
    let block = recommended_block_size::<f64>(n, n);
    let mut factors = Mat::zeros(block, n - 1);
    let wanted = wanted.min(n);
    let mut memory = MemBuffer::new(StackReq::any_of(&[
        tridiag_in_place_scratch::<f64>(n, Par::Seq, Default::default()),
        apply_block_householder_sequence_on_the_left_in_place_scratch::<f64>(n - 1, block, wanted),
    ]));
    let stack = MemStack::new(&mut memory);
    tridiag_in_place(reduced.as_mut(), factors.as_mut(), Par::Seq, stack, Default::default());
    let matrix =
        Tridiagonal::new((0..n).map(|i| reduced[(i, i)]).collect(), (0..n - 1).map(|i| reduced[(i + 1, i)]).collect())?;
    let values = matrix.largest_values(wanted);
    let mut vectors = matrix.vectors(&values)?;
    apply_block_householder_sequence_on_the_left_in_place_with_conj(
        reduced.submatrix(1, 0, n - 1, n - 1),
        factors.as_ref(),
        Conj::No,
        vectors.as_mut().subrows_mut(1, n - 1),
        Par::Seq,
        stack,
    );
    Some(Eigen { values, vectors })
}

impl Tridiagonal {
    /// Nothing if a number is not finite.
    fn new(diagonal: Vec<f64>, below: Vec<f64>) -> Option<Self> {
        let of = |i: usize| below.get(i).copied().unwrap_or_default().abs();
        // Gershgorin's circles.
        let row = |i: usize| diagonal[i].abs() + of(i) + if i > 0 { of(i - 1) } else { 0.0 };
        let norm = (0..diagonal.len()).map(row).fold(0.0, f64::max);
        (norm.is_finite() && diagonal.iter().chain(&below).all(|v| v.is_finite())).then_some(Self {
            diagonal,
            below,
            norm,
        })
    }

    /// The norm, or a small number in place of zero that can be divided by.
    fn scale(&self) -> f64 {
        self.norm.max(1e-200)
    }

    /// The number of eigenvalues above `x` (Sturm's count).
    fn above(&self, x: f64) -> usize {
        let least = f64::EPSILON * f64::EPSILON * self.scale();
        let mut count = 0;
        let mut pivot = self.diagonal[0] - x;
        for i in 0..self.diagonal.len() {
            if i > 0 {
                pivot = self.diagonal[i] - x - self.below[i - 1] * self.below[i - 1] / pivot;
            }
            if pivot.abs() < least {
                pivot = -least;
            }
            count += usize::from(pivot > 0.0);
        }
        count
    }

    /// The largest eigenvalues, descending.
    fn largest_values(&self, wanted: usize) -> Vec<f64> {
        let mut values: Vec<f64> = Vec::with_capacity(wanted);
        for j in 0..wanted {
            let (mut low, mut high) = (-self.norm, values.last().copied().unwrap_or(self.norm));
            loop {
                let middle = low + (high - low) / 2.0;
                if middle <= low || middle >= high || high - low <= f64::EPSILON * middle.abs() {
                    break;
                }
                // There are more than j eigenvalues above it, so that number j is among them.
                if self.above(middle) > j { low = middle } else { high = middle }
            }
            values.push(low + (high - low) / 2.0);
        }
        values
    }

    /// The vectors of eigenvalues in descending order, as columns of norm 1. Nothing if one of them does not converge.
    fn vectors(&self, values: &[f64]) -> Option<Mat<f64>> {
        let n = self.diagonal.len();
        let tolerance = TOLERANCE * self.scale();
        let mut found: Vec<Vec<f64>> = Vec::with_capacity(values.len());
        for (j, value) in values.iter().enumerate() {
            let solver = Shifted::new(self, *value);
            let start = |i: usize| SplitMix64::nth(j as u64, i as u64) as f64 / u64::MAX as f64 - 0.5;
            let mut v: Vec<f64> = (0..n).map(start).collect();
            let mut is_accurate = false;
            for step in 0..STEPS {
                normalize(&mut v)?;
                solver.solve(&mut v);
                normalize(&mut v)?;
                // Twice, because what is left of the others after once is not negligible (Kahan and Parlett).
                for _ in 0..2 {
                    for other in &found {
                        let dot: f64 = v.iter().zip(other).map(|(a, b)| a * b).sum();
                        v.iter_mut().zip(other).for_each(|(v, other)| *v -= dot * other);
                    }
                }
                normalize(&mut v)?;
                is_accurate = self.residual(&v, *value) <= tolerance;
                if is_accurate && step > 0 {
                    break;
                }
            }
            if !is_accurate {
                return None;
            }
            found.push(v);
        }
        Some(Mat::from_fn(n, values.len(), |i, j| found[j][i]))
    }

    /// The norm of `T v - value v`.
    fn residual(&self, v: &[f64], value: f64) -> f64 {
        let n = v.len();
        let row = |i: usize| {
            let mut sum = (self.diagonal[i] - value) * v[i];
            if i > 0 {
                sum += self.below[i - 1] * v[i - 1];
            }
            if i + 1 < n {
                sum += self.below[i] * v[i + 1];
            }
            sum * sum
        };
        (0..n).map(row).sum::<f64>().sqrt()
    }
}

/// Scales a vector to norm 1. Nothing if it is zero or not finite.
fn normalize(v: &mut [f64]) -> Option<()> {
    // Solutions of nearly singular systems are large, and their squares could overflow.
    let most = v.iter().fold(0.0, |most: f64, v| most.max(v.abs()));
    if !(most > 0.0 && most.is_finite()) {
        return None;
    }
    v.iter_mut().for_each(|v| *v /= most);
    let norm = v.iter().map(|v| v * v).sum::<f64>().sqrt();
    v.iter_mut().for_each(|v| *v /= norm);
    Some(())
}

/// `T - value` as a product of triangular matrices, by elimination with exchanges of neighboring rows.
struct Shifted {
    /// The upper triangle: the diagonal and the two entries right of it.
    upper: Vec<[f64; 3]>,
    /// For each step, the factor by which the row was subtracted from the next one, and whether the two were exchanged first.
    steps: Vec<(f64, bool)>,
}

impl Shifted {
    fn new(matrix: &Tridiagonal, value: f64) -> Self {
        let n = matrix.diagonal.len();
        let right = |i: usize| matrix.below.get(i).copied().unwrap_or_default();
        let least = f64::EPSILON * matrix.scale();
        let (mut upper, mut steps) = (Vec::with_capacity(n), Vec::with_capacity(n));
        let mut row = [matrix.diagonal[0] - value, right(0), 0.0];
        for i in 0..n - 1 {
            let next = [matrix.below[i], matrix.diagonal[i + 1] - value, right(i + 1)];
            let exchanged = next[0].abs() > row[0].abs();
            let (mut pivot, other) = if exchanged { (next, row) } else { (row, next) };
            if pivot[0].abs() < least {
                pivot[0] = least;
            }
            let factor = other[0] / pivot[0];
            steps.push((factor, exchanged));
            row = [other[1] - factor * pivot[1], other[2] - factor * pivot[2], 0.0];
            upper.push(pivot);
        }
        if row[0].abs() < least {
            row[0] = least;
        }
        upper.push(row);
        Self { upper, steps }
    }

    fn solve(&self, v: &mut [f64]) {
        for (i, (factor, exchanged)) in self.steps.iter().enumerate() {
            if *exchanged {
                v.swap(i, i + 1);
            }
            v[i + 1] -= factor * v[i];
        }
        for i in (0..v.len()).rev() {
            let [pivot, next, last] = self.upper[i];
            let known = v.get(i + 1).map_or(0.0, |v| next * v) + v.get(i + 2).map_or(0.0, |v| last * v);
            v[i] = (v[i] - known) / pivot;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use faer::Side;

    /// A symmetric matrix whose entries do not follow a pattern.
    fn symmetric(n: usize, salt: u64) -> Mat<f64> {
        let entry =
            |i: usize, j: usize| SplitMix64::nth(salt, (i.max(j) * n + i.min(j)) as u64) as f64 / u64::MAX as f64;
        Mat::from_fn(n, n, |i, j| entry(i, j) - 0.5)
    }

    fn assert_eigen(a: &Mat<f64>, wanted: usize) {
        let n = a.nrows();
        let found = largest(a.as_ref(), wanted).expect("they converge");
        let all = a.self_adjoint_eigen(Side::Lower).expect("finite");
        let scale = a.norm_l2().max(1e-300);
        assert_eq!(found.values.len(), wanted.min(n));
        for (j, value) in found.values.iter().enumerate() {
            let expected = all.S().column_vector()[n - 1 - j];
            assert!((value - expected).abs() <= 1e-13 * scale, "{j}: {value} {expected}");
            let off = a * found.vectors.col(j) - faer::Scale(*value) * found.vectors.col(j);
            assert!(off.norm_l2() <= 1e-12 * scale, "{j}: {}", off.norm_l2());
        }
        let gram = found.vectors.transpose() * &found.vectors;
        let off = (gram - Mat::<f64>::identity(found.values.len(), found.values.len())).norm_max();
        assert!(off < 1e-12, "{off}");
    }

    #[test]
    fn values_and_vectors_are_those_of_the_whole_decomposition() {
        for (n, wanted) in [(2, 1), (2, 2), (3, 3), (40, 7), (65, 65), (150, 64)] {
            assert_eigen(&symmetric(n, n as u64), wanted);
        }
    }

    #[test]
    fn equal_values_have_orthogonal_vectors() {
        assert_eigen(&Mat::identity(30, 30), 12);
        assert_eigen(&Mat::zeros(30, 30), 5);
        // Values 3, 3, 3, 2, 2, 1 and many zeros, turned.
        let basis = symmetric(50, 3).qr().compute_thin_Q();
        let values = [3.0, 3.0, 3.0, 2.0, 2.0, 1.0];
        let scaled = Mat::from_fn(50, 6, |i, j| basis[(i, j)] * values[j]);
        let low = &scaled * basis.subcols(0, 6).transpose();
        assert_eigen(&Mat::from_fn(50, 50, |i, j| (low[(i, j)] + low[(j, i)]) / 2.0), 9);
    }

    #[test]
    fn numbers_that_are_not_finite_have_no_eigenvalues() {
        let mut broken = symmetric(20, 1);
        broken[(7, 3)] = f64::NAN;
        assert!(largest(broken.as_ref(), 4).is_none());
    }
}
