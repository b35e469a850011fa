//! The largest singular values of a matrix and their vectors, in less time than the whole decomposition takes. The result
//! depends neither on the number of threads nor on chance.
//!
//! Of two ways the first that suits the matrix is taken:
//! 1. A matrix of low rank, as of few samples, lies within the span of `A^T` times any few vectors (Halko, Martinsson and
//!    Tropp 2011). Whether it does is checked: `A^T u = s v` has to hold for every pair.
//! 2. The eigenvectors of `A^T A` are the right singular vectors, and its eigenvalues `s^2`. The square costs half of the
//!    digits, so the smallest value must not be far below the largest.

use super::eigen::{self, Eigen};
use faer::linalg::matmul::matmul;
use faer::linalg::matmul::triangular::{self, BlockStructure};
use faer::linalg::solvers::SvdError;
use faer::{Accum, Mat, MatRef, Par};
use sae_core::random::SplitMix64;

/// Columns beyond those wanted in which the span is looked for.
const MORE: usize = 32;
/// Maximum norm of `A^T u - s v`, as a share of the largest singular value.
const TOLERANCE: f64 = 1e-11;
/// Smallest singular value, as a share of the largest, that is computed from its square. Its relative error is below 1e-9.
const SQUARED: f64 = 1e-3;

/// The largest singular values, descending, and the columns of their vectors.
pub(super) struct Largest {
    pub(super) values: Vec<f64>,
    /// `[rows, values]`
    pub(super) left: Mat<f64>,
    /// `[columns, values]`
    pub(super) right: Mat<f64>,
}

/// The `wanted` largest singular values of `a`, or all of them if it has fewer.
///
/// # Errors
/// The decomposition does not converge, because values are not finite.
pub(super) fn largest(a: MatRef<f64>, wanted: usize) -> Result<Largest, SvdError> {
    if let Some(found) = within_span(a, wanted)? {
        return Ok(found);
    }
    let squared = if a.ncols() <= a.nrows() {
        by_square(a, wanted)
    } else {
        by_square(a.transpose(), wanted).map(|Largest { values, left, right }| Largest {
            values,
            left: right,
            right: left,
        })
    };
    squared.map_or_else(|| all(a, wanted), Ok)
}

/// The largest singular values by the whole decomposition.
pub(super) fn all(a: MatRef<f64>, wanted: usize) -> Result<Largest, SvdError> {
    let svd = a.thin_svd()?;
    let values = svd.S().column_vector();
    let wanted = wanted.min(values.nrows());
    Ok(Largest {
        values: (0..wanted).map(|j| values[j]).collect(),
        left: svd.U().subcols(0, wanted).to_owned(),
        right: svd.V().subcols(0, wanted).to_owned(),
    })
}

/// The largest singular values if `a` has hardly more rank than values are wanted.
fn within_span(a: MatRef<f64>, wanted: usize) -> Result<Option<Largest>, SvdError> {
    let columns = wanted + MORE;
    if 2 * columns > a.nrows().min(a.ncols()) {
        return Ok(None);
    }
    let any = Mat::from_fn(a.nrows(), columns, |i, j| noise((i * columns + j) as u64));
    let basis = product(a.transpose(), any.as_ref()).qr().compute_thin_Q();
    let found = all(product(a, basis.as_ref()).as_ref(), wanted)?;
    let found = Largest { right: product(basis.as_ref(), found.right.as_ref()), ..found };
    let mut off = product(a.transpose(), found.left.as_ref());
    for (j, s) in found.values.iter().enumerate() {
        off.col_mut(j).iter_mut().zip(found.right.col(j).iter()).for_each(|(off, v)| *off -= s * v);
    }
    let most = (0..off.ncols()).map(|j| off.col(j).norm_l2()).fold(0.0, f64::max);
    Ok((most <= TOLERANCE * found.values.first().copied().unwrap_or_default()).then_some(found))
}

/// The largest singular values from `a^T a`, if they are all large enough.
fn by_square(a: MatRef<f64>, wanted: usize) -> Option<Largest> {
    let mut square = Mat::zeros(a.ncols(), a.ncols());
    let (lower, whole) = (BlockStructure::TriangularLower, BlockStructure::Rectangular);
    let (left, right) = (a.transpose(), a);
    triangular::matmul(square.as_mut(), lower, Accum::Replace, left, whole, right, whole, 1.0, Par::Seq);
    let Eigen { values, vectors: right } = eigen::largest(square.as_ref(), wanted)?;
    let values: Vec<f64> = values.iter().map(|value| value.max(0.0).sqrt()).collect();
    let mut left = product(a, right.as_ref());
    for (j, s) in values.iter().enumerate() {
        left.col_mut(j).iter_mut().for_each(|u| *u /= s);
    }
    (values.last()? > &(SQUARED * values[0])).then_some(Largest { values, left, right })
}

/// Number `n` of a sequence between -1/2 and 1/2.
fn noise(n: u64) -> f64 {
    SplitMix64::nth(0, n) as f64 / u64::MAX as f64 - 0.5
}

fn product(a: MatRef<f64>, b: MatRef<f64>) -> Mat<f64> {
    let mut out = Mat::zeros(a.nrows(), b.ncols());
    matmul(out.as_mut(), Accum::Replace, a, b, 1.0, Par::Seq);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn random(rows: usize, columns: usize, salt: u64) -> Mat<f64> {
        Mat::from_fn(rows, columns, |i, j| noise((salt << 32) + (i * columns + j) as u64))
    }

    /// Compares the parts of a matrix that the largest values span, which do not depend on signs.
    fn assert_close(few: &Largest, a: MatRef<f64>, wanted: usize) {
        let whole = all(a, wanted).unwrap();
        assert_eq!(few.values.len(), whole.values.len());
        for (few, whole) in few.values.iter().zip(&whole.values) {
            assert!((few - whole).abs() < 1e-12, "{few} {whole}");
        }
        let part = |found: &Largest| {
            let scaled = Mat::from_fn(a.nrows(), found.values.len(), |i, j| found.left[(i, j)] * found.values[j]);
            product(scaled.as_ref(), found.right.transpose())
        };
        let off = (part(few) - part(&whole)).norm_max();
        assert!(off < 1e-9, "{off}");
    }

    #[test]
    fn the_largest_values_are_those_of_the_whole_decomposition() {
        // Of low rank, which is below and above the number of values wanted.
        for wanted in [5, 20] {
            let low = product(random(130, 9, 2).as_ref(), random(9, 120, 3).as_ref());
            assert!(within_span(low.as_ref(), wanted).unwrap().is_some());
            assert_close(&largest(low.as_ref(), wanted).unwrap(), low.as_ref(), wanted);
        }
        // Of full rank; wide and high.
        for full in [random(130, 150, 1) * 0.1, random(150, 130, 1) * 0.1] {
            assert!(within_span(full.as_ref(), 20).unwrap().is_none());
            assert_close(&largest(full.as_ref(), 20).unwrap(), full.as_ref(), 20);
        }
        // Small ones, of which all values are wanted; one of them is too small to be squared.
        let mut small = random(7, 5, 4);
        assert_close(&largest(small.as_ref(), 64).unwrap(), small.as_ref(), 64);
        small.col_mut(0).iter_mut().for_each(|v| *v *= 1e-6);
        assert!(by_square(small.as_ref(), 64).is_none());
        assert_close(&largest(small.as_ref(), 64).unwrap(), small.as_ref(), 64);
        assert_eq!(largest(Mat::zeros(8, 9).as_ref(), 3).unwrap().values, [0.0; 3]);
    }
}
