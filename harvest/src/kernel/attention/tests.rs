//! Compares attention with plain loops in `f64`, and checks that the bits of a row depend only on the row and its keys.

use super::*;
use proptest::prelude::*;

/// Numbers between -2 and 2.
fn numbers(n: usize, seed: u32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(1);
    (0..n)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1u32 << 22) as f32 - 2.0
        })
        .collect()
}

/// Queries, keys and values of some rows.
struct Rows {
    heads: Heads,
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
    visible: Vec<Range<u32>>,
}

impl Rows {
    fn new(kv_heads: usize, shared: usize, head_dim: usize, visible: Vec<Range<u32>>, seed: u32) -> Self {
        let (heads, rows) = (kv_heads * shared, visible.len());
        // Half of the cases are capped.
        let cap = (seed % 2 == 1).then_some(0.7);
        let heads = Heads { heads, kv_heads, head_dim, scale: 1.3 / (head_dim as f32).sqrt(), cap };
        let q = numbers(rows * heads.heads * head_dim, seed);
        let [k, v] = [1, 2].map(|salt| numbers(rows * kv_heads * head_dim, seed ^ salt));
        Self { heads, q, k, v, visible }
    }

    fn attend(&self, level: Level) -> Vec<f32> {
        let mut out = vec![7.0; self.q.len()];
        on(level, &self.q, &self.k, &self.v, self.heads, &self.visible, &mut out);
        out
    }

    /// Some of the rows by themselves.
    fn part(&self, rows: Range<usize>) -> Self {
        let Heads { heads, kv_heads, head_dim, .. } = self.heads;
        let cut = |x: &[f32], width: usize| x[rows.start * width..rows.end * width].to_vec();
        Self {
            heads: self.heads,
            q: cut(&self.q, heads * head_dim),
            k: cut(&self.k, kv_heads * head_dim),
            v: cut(&self.v, kv_heads * head_dim),
            visible: self.visible[rows.clone()]
                .iter()
                .map(|seen| seen.start - rows.start as u32..seen.end - rows.start as u32)
                .collect(),
        }
    }

    fn exact(&self) -> Vec<f64> {
        let Heads { heads, kv_heads, head_dim, scale, cap } = self.heads;
        let mut out = vec![0.0; self.q.len()];
        for (n, out) in out.chunks_exact_mut(head_dim).enumerate() {
            let (row, kv) = (n / heads, n % heads / (heads / kv_heads));
            let keys: Vec<usize> = self.visible[row].clone().map(|key| key as usize).collect();
            let at = |key: usize, i: usize| (key * kv_heads + kv) * head_dim + i;
            let product = |key: &usize| -> f64 {
                (0..head_dim).map(|i| f64::from(self.q[n * head_dim + i]) * f64::from(self.k[at(*key, i)])).sum()
            };
            let capped = |x: f64| cap.map_or(x, |cap| f64::from(cap) * (x / f64::from(cap)).tanh());
            let scores: Vec<f64> = keys.iter().map(|key| capped(f64::from(scale) * product(key))).collect();
            let most = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let sum: f64 = scores.iter().map(|s| (s - most).exp()).sum();
            for (key, score) in keys.iter().zip(&scores) {
                for (i, out) in out.iter_mut().enumerate() {
                    *out += (score - most).exp() / sum * f64::from(self.v[at(*key, i)]);
                }
            }
        }
        out
    }
}

fn bits(x: &[f32]) -> Vec<u32> {
    x.iter().map(|x| x.to_bits()).collect()
}

/// Consecutive samples with attention that is causal, bidirectional, or causal with a window.
fn samples(lengths: &[usize], kind: usize) -> Vec<Range<u32>> {
    let mut visible = Vec::new();
    for length in lengths {
        let first = visible.len() as u32;
        visible.extend((0..*length as u32).map(|row| match (kind + *length) % 3 {
            0 => first..first + row + 1,
            1 => first..first + *length as u32,
            _ => first + row.saturating_sub(9)..first + row + 1,
        }));
    }
    visible
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn attention_agrees_with_plain_loops(
        lengths in prop::collection::vec(1usize..50, 1..4),
        kind in 0usize..3, half in 1usize..45, kv_heads in 1usize..3, shared in 1usize..4, wild: bool, seed: u32,
    ) {
        let mut visible = samples(&lengths, kind);
        if wild {
            let rows = visible.len() as u32;
            for (row, seen) in (0..).zip(&mut visible) {
                let first = (seed ^ (row * 7919)) % rows;
                *seen = first..first + 1 + ((seed / 3) ^ row) % (rows - first);
            }
        }
        let rows = Rows::new(kv_heads, shared, 2 * half, visible, seed);
        let exact = rows.exact();
        for level in Level::all() {
            for (exact, found) in exact.iter().zip(rows.attend(level)) {
                prop_assert!((exact - f64::from(found)).abs() < 4e-6, "{level:?}: {found} for {exact}");
            }
        }
    }
}

#[test]
fn a_row_depends_only_on_its_keys() {
    for (head_dim, kind) in [(64, 0), (64, 1), (24, 2), (2, 0), (128, 2)] {
        let lengths = [13, 100, 1, 37, 59];
        let mut rows = Rows::new(2, 3, head_dim, samples(&lengths, kind), 9);
        let width = 6 * head_dim;
        for level in Level::all() {
            let all = rows.attend(level);
            for threads in [1, 2, 5] {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                assert_eq!(bits(&pool.install(|| rows.attend(level))), bits(&all));
            }
            let mut first = 0;
            for length in lengths {
                let alone = rows.part(first..first + length).attend(level);
                assert_eq!(bits(&alone), bits(&all[first * width..][..length * width]), "{head_dim} {length}");
                first += length;
            }
            // NaN in the sample of 100 rows does not affect the other samples.
            let (sound, broken) = (13 * width..113 * width, 13 * 2 * head_dim..113 * 2 * head_dim);
            let [q, k, v] = [&rows.q, &rows.k, &rows.v].map(|x| x.clone());
            rows.q[sound.clone()].fill(f32::NAN);
            rows.k[broken.clone()].fill(f32::INFINITY);
            rows.v[broken.clone()].fill(f32::NAN);
            let spoilt = rows.attend(level);
            assert!(spoilt[sound.clone()].iter().all(|v| v.is_nan()));
            assert_eq!(bits(&spoilt[..sound.start]), bits(&all[..sound.start]));
            assert_eq!(bits(&spoilt[sound.end..]), bits(&all[sound.end..]));
            (rows.q, rows.k, rows.v) = (q, k, v);
        }
    }
}

#[test]
fn rows_that_continue_others_do_not_need_their_queries() {
    for (head_dim, kind) in [(64, 1), (24, 2), (128, 0)] {
        let rows = Rows::new(2, 3, head_dim, samples(&[77], kind), 9);
        let width = 6 * head_dim;
        for level in Level::all() {
            let all = rows.attend(level);
            for first in [0, 1, 40, 76] {
                let mut last = vec![7.0; rows.q.len() - first * width];
                let q = &rows.q[first * width..];
                on(level, q, &rows.k, &rows.v, rows.heads, &rows.visible[first..], &mut last);
                assert_eq!(bits(&last), bits(&all[first * width..]), "{head_dim} {first}");
            }
        }
    }
}

#[test]
fn nan_in_later_rows_does_not_affect_a_causal_row() {
    for level in Level::all() {
        let mut rows = Rows::new(1, 2, 8, samples(&[30], 0), 4);
        let before = rows.attend(level);
        (rows.k[20 * 8], rows.v[20 * 8 + 3]) = (f32::NAN, f32::INFINITY);
        let after = rows.attend(level);
        assert_eq!(bits(&after[..20 * 16]), bits(&before[..20 * 16]));
        assert!(after[20 * 16..].chunks(8).all(|head| head.iter().all(|v| v.is_nan())));
    }
}

#[test]
fn large_products_do_not_overflow() {
    for level in Level::all() {
        let mut rows = Rows::new(1, 1, 4, samples(&[20], 1), 5);
        rows.q.iter_mut().for_each(|q| *q *= 1e3);
        rows.k.iter_mut().for_each(|k| *k *= 1e3);
        for (exact, found) in rows.exact().iter().zip(rows.attend(level)) {
            assert!((exact - f64::from(found)).abs() < 1e-2, "{found} for {exact}");
        }
    }
}
