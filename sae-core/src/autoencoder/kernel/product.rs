//! A dense matrix product of `f32` on all threads. The order of the sums does not depend on the number of threads.

use gemm::{Parallelism, gemm};

/// `c = a b^T`, or `c += a b^T`; each matrix with its strides (row, column).
///
/// # Shapes
/// `a` `[m, k]`, `b` `[n, k]`, `c` `[m, n]`.
pub fn product(
    shape: [usize; 3],
    a: (&[f32], [usize; 2]),
    b: (&[f32], [usize; 2]),
    c: (&mut [f32], [usize; 2]),
    add: bool,
) {
    let [m, n, k] = shape;
    let reach = |rows: usize, columns: usize, [r, c]: [usize; 2]| match rows * columns {
        0 => 0,
        _ => (rows - 1) * r + (columns - 1) * c + 1,
    };
    assert!(reach(m, k, a.1) <= a.0.len() && reach(n, k, b.1) <= b.0.len() && reach(m, n, c.1) <= c.0.len());
    // SAFETY: every element that the strides reach lies within its slice (asserted above), `c` is borrowed mutably and
    // so overlaps neither `a` nor `b`.
    unsafe {
        gemm(
            m,
            n,
            k,
            c.0.as_mut_ptr(),
            c.1[1] as isize,
            c.1[0] as isize,
            add,
            a.0.as_ptr(),
            a.1[1] as isize,
            a.1[0] as isize,
            b.0.as_ptr(),
            b.1[0] as isize,
            b.1[1] as isize,
            if add { 1.0f32 } else { 0.0 },
            1.0f32,
            false,
            false,
            false,
            Parallelism::Rayon(0),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_with_strides_agree_with_plain_loops() {
        let (m, n, k) = (5, 7, 11);
        let a: Vec<f32> = (0..m * k).map(|i| (i % 13) as f32 - 6.0).collect();
        let b: Vec<f32> = (0..n * k).map(|i| (i % 7) as f32 - 3.0).collect();
        let mut c = vec![1.0; 2 * m * n];
        // `a` transposed in memory, `c` with gaps.
        product([m, n, k], (&a, [1, m]), (&b, [k, 1]), (&mut c, [2 * n, 2]), true);
        for (r, row) in c.chunks(2 * n).enumerate() {
            for j in 0..n {
                let sum: f32 = (0..k).map(|i| a[i * m + r] * b[j * k + i]).sum();
                assert_eq!((row[2 * j], row[2 * j + 1]), (1.0 + sum, 1.0));
            }
        }
    }

    #[test]
    fn threads_do_not_change_a_product() {
        let (m, n, k) = (130, 70, 300);
        let values = |n: usize| (0..n).map(|i| ((i * 7919) % 1009) as f32 / 100.0 - 5.0).collect::<Vec<_>>();
        let (a, b) = (values(m * k), values(n * k));
        let run = |threads: usize| {
            let mut c = vec![0.0; m * n];
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| product([m, n, k], (&a, [k, 1]), (&b, [k, 1]), (&mut c, [n, 1]), false));
            c
        };
        assert_eq!(run(1), run(2));
        assert_eq!(run(1), run(5));
    }
}
