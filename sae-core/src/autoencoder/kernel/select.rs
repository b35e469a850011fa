//! Selects the features that survive a rule, with their exact pre-activations: an integer product finds candidates, and
//! `f32` decides.
//!
//! For every feature the integer product gives an interval that contains the `f32` pre-activation. A feature whose upper end
//! is below the threshold of the rule is out; the few others are computed in `f32` and selected by that. So the result is
//! what `f32` alone would select, on every processor and any number of threads. Rows so large that sums of `f32` may overflow have
//! no such intervals: all their features are computed.

use super::panels::{Pair, Panels, Quantized, REACHED, WIDTH};
#[cfg(target_arch = "x86_64")]
use super::tile::Vnni;
use super::tile::{Isa, PortableIsa};
use crate::autoencoder::sparse::{ByFeature, Sparse};
use crate::vector::{dots, norm_sq};
use rayon::prelude::*;

/// Features that a thread takes at once when candidates are computed.
const FEATURES: usize = 64;
/// Tokens that a thread takes at once when candidates are compared.
const TOKENS: usize = 64;

/// Which pre-activations survive.
#[derive(Clone, Copy, Debug)]
pub enum Rule<'a> {
    /// Those above a floor.
    Over(f32),
    /// Those above the floor of their feature, `[d_sae]`.
    Above(&'a [f32]),
    /// The strongest of a row, at most this many, and only those above zero. Ties are broken by the lower feature number.
    TopK(usize),
    /// The same, if the weakest of them is expected to be above this factor times the norm of the row: fewer candidates are
    /// computed, and rows with too few above it are computed again.
    TopKOver(usize, f32),
}

/// The pre-activations `gain (x W_enc^T + b_enc)` that survive the rule, ascending by feature. Without gains, each gain is 1.
///
/// # Shapes
/// `x`: `[rows, d_in]`; `w_enc`: `[d_sae, d_in]`, and `panels` made of it; `b_enc`, `gain`: `[d_sae]`.
pub fn select(x: &[f32], w_enc: &[f32], b_enc: &[f32], gain: Option<&[f32]>, panels: &Panels, rule: Rule) -> Sparse {
    let encoder = Encoder::new(w_enc, b_enc, gain, panels, rule);
    let (d, rows) = (panels.d_in(), x.len() / panels.d_in());
    // Equal pieces for the threads, small enough that the rows of a piece stay in the cache for all panels.
    let threads = rayon::current_num_threads();
    let pieces = threads * rows.div_ceil(threads * 96).max(1);
    let piece = rows.div_ceil(pieces).max(1);
    let found: Vec<Sparse> = x.par_chunks(piece * d).map(|x| encoder.find_on_best(x)).collect();
    let mut found = Sparse::concat(&found);
    encoder.compute(x, &mut found);
    rule.apply(&found)
}

/// The dense pre-activations `[rows, d_sae]` that survive the rule.
pub fn from_dense(p: &[f32], d_sae: usize, rule: Rule) -> Sparse {
    let rows: Vec<Sparse> = p
        .par_chunks(d_sae)
        .map(|row| {
            let mut out = Sparse::default();
            rule.select(row.iter().zip(0..).map(|(p, k)| (*p, k)).collect(), &mut out);
            out
        })
        .collect();
    Sparse::concat(&rows)
}

/// The encoder with the rule's floors folded into its biases.
struct Encoder<'a> {
    w_enc: &'a [f32],
    b_enc: &'a [f32],
    gain: Option<&'a [f32]>,
    panels: &'a Panels,
    rule: Rule<'a>,
    /// Units of the panels, times the gains.
    units: Vec<[f32; WIDTH]>,
    /// Bias times gain less floor, raised by its own rounding; minus infinity for the features that fill up the last panel.
    raised: Vec<[f32; WIDTH]>,
    /// The largest unit of a row of `x` whose products are certain not to overflow.
    largest_unit: f32,
}

/// The candidates of a row: upper ends of their intervals, and features.
struct Row {
    bar: f32,
    limit: usize,
    found: Vec<(f32, u32)>,
}

impl<'a> Encoder<'a> {
    fn new(w_enc: &'a [f32], b_enc: &'a [f32], gain: Option<&'a [f32]>, panels: &'a Panels, rule: Rule<'a>) -> Self {
        assert_eq!((w_enc.len(), b_enc.len()), (panels.d_sae() * panels.d_in(), panels.d_sae()));
        let count = panels.d_sae().div_ceil(WIDTH);
        let (mut raised, mut units) = (vec![[f32::NEG_INFINITY; WIDTH]; count], vec![[0.0; WIDTH]; count]);
        let lanes = raised.as_flattened_mut().iter_mut().zip(units.as_flattened_mut());
        let mut largest = 0f32;
        for (k, ((raised, unit), b)) in lanes.zip(b_enc).enumerate() {
            let floor = rule.floor(k);
            let gain = gain.map_or(1.0, |gain| gain[k]);
            *raised = b * gain - floor + Self::slack(b * gain) + Self::slack(floor);
            *unit = panels.unit(k) * gain;
            largest = largest.max(panels.unit(k));
        }
        // By Cauchy and Schwarz, no partial sum exceeds the product of the norms. Sums of integers are below 2^31, and a margin
        // is smaller.
        let largest_unit = (f32::MAX / 4.0 / REACHED / REACHED / largest).min(f32::MAX / 2f32.powi(33));
        Self { w_enc, b_enc, gain, panels, rule, units, raised, largest_unit }
    }

    fn gain(&self, feature: usize) -> f32 {
        self.gain.map_or(1.0, |gain| gain[feature])
    }

    /// The largest rounding error of adding a bias.
    fn slack(bias: f32) -> f32 {
        bias.abs() * (2.0 * f32::EPSILON)
    }

    fn find_on_best(&self, x: &[f32]) -> Sparse {
        #[cfg(target_arch = "x86_64")]
        if let Some(isa) = Vnni::try_new() {
            return self.find(isa, x);
        }
        match super::arch() {
            #[cfg(target_arch = "x86_64")]
            pulp::Arch::V4(isa) => self.find(isa, x),
            #[cfg(target_arch = "x86_64")]
            pulp::Arch::V3(isa) => self.find::<6, 1, _>(isa, x),
            _ => self.find(PortableIsa, x),
        }
    }

    fn find<const R: usize, const P: usize, I: Isa<R, P>>(&self, isa: I, x: &[f32]) -> Sparse {
        isa.run(
            #[inline(always)]
            || {
                let x_q = Quantized::new(x, self.panels.d_in(), self.panels);
                let (rows, blocks) = (x_q.units.len(), x_q.blocks::<R>());
                let d = self.panels.d_in();
                let limit = self.rule.k().map_or(usize::MAX, |k| 4 * k + 64);
                let bar = |x: &[f32]| match self.rule {
                    Rule::TopKOver(_, expected) => {
                        let bar = expected * norm_sq(x).sqrt();
                        // The sum of squares may overflow.
                        if bar.is_finite() { bar } else { 0.0 }
                    }
                    _ => 0.0,
                };
                let mut found: Vec<Row> =
                    x.chunks_exact(d).map(|x| Row { bar: bar(x), limit, found: Vec::new() }).collect();
                let mut lower = Vec::new();
                let panels: Vec<&[[Pair; WIDTH]]> = self.panels.panels().collect();
                for (first, group) in (0..).step_by(P).zip(panels.chunks(P)) {
                    // The last group may have fewer panels: the last one is multiplied again, and not looked at.
                    let tiles = std::array::from_fn(|p| group[p.min(group.len() - 1)]);
                    for (start, block) in (0..rows).step_by(R).zip(blocks.chunks_exact(group[0].len())) {
                        let sums = isa.tile(block, tiles);
                        for (p, sums) in (first..panels.len()).zip(&sums) {
                            let (units, raised) = (&self.units[p], &self.raised[p]);
                            for (r, sums) in (start..rows).zip(sums) {
                                let (unit, margin, row) = (x_q.units[r], x_q.margins[r], &mut found[r]);
                                let mut upper = [0f32; WIDTH];
                                let mut any = false;
                                for lane in 0..WIDTH {
                                    upper[lane] = (sums[lane] as f32 * unit + margin) * units[lane] + raised[lane];
                                    any |= upper[lane] >= row.bar;
                                }
                                if any {
                                    row.push(&upper, p * WIDTH);
                                    if row.found.len() > row.limit {
                                        self.prune(row, margin, &mut lower);
                                    }
                                }
                            }
                        }
                    }
                }
                let mut out = Sparse::default();
                for (r, (row, x)) in found.iter_mut().zip(x.chunks_exact(d)).enumerate() {
                    if x_q.units[r] > self.largest_unit {
                        out.push((0..self.panels.d_sae() as u32).map(|feature| (feature, f32::INFINITY)));
                        continue;
                    }
                    let margin = x_q.margins[r];
                    if let Rule::TopKOver(k, _) = self.rule
                        && self.sure(row, margin, bar(x)) < k
                    {
                        let again = Self {
                            rule: Rule::TopK(k),
                            raised: self.raised.clone(),
                            units: self.units.clone(),
                            ..*self
                        };
                        out.append(&again.find_on_best(x));
                        continue;
                    }
                    self.prune(row, margin, &mut lower);
                    out.push(row.found.iter().map(|(upper, feature)| (*feature, *upper)));
                }
                out
            },
        )
    }

    /// The lower end of a candidate's interval.
    #[inline(always)]
    fn lower(&self, (upper, feature): (f32, u32), margin: f32) -> f32 {
        let k = feature as usize;
        upper - 2.0 * (margin * self.units[k / WIDTH][k % WIDTH] + Self::slack(self.b_enc[k] * self.gain(k)))
    }

    /// How many candidates of a row are certainly above a bar; all positive ones are candidates if the bar is zero.
    #[inline(always)]
    fn sure(&self, row: &Row, margin: f32, bar: f32) -> usize {
        if bar > 0.0 { row.found.iter().filter(|found| self.lower(**found, margin) >= bar).count() } else { usize::MAX }
    }

    /// Raises a row's bar to the `k`-th of the lower ends, and drops what is below it.
    #[inline(always)]
    fn prune(&self, row: &mut Row, margin: f32, lower: &mut Vec<f32>) {
        let Some(k) = self.rule.k() else { return };
        if row.found.len() <= k {
            return;
        }
        lower.clear();
        lower.extend(row.found.iter().map(|found| self.lower(*found, margin)));
        let (_, bar, _) = lower.select_nth_unstable_by(k - 1, |a, b| b.total_cmp(a));
        row.bar = row.bar.max(*bar);
        row.found.retain(|(upper, _)| *upper >= row.bar);
        row.limit = row.limit.max(2 * row.found.len());
    }

    /// Replaces the values of the candidates by their pre-activations in `f32`. Feature by feature, because the rows of
    /// the encoder do not fit into a cache, and those of `x` do: each is then fetched once, not once for every token.
    fn compute(&self, x: &[f32], found: &mut Sparse) {
        let d = self.panels.d_in();
        let rows: Vec<usize> = (0..found.rows()).flat_map(|r| found.range(r).map(move |_| r)).collect();
        let entries = ByFeature::new(found.features().iter().copied().zip(0..), self.panels.d_sae());
        let starts: Vec<usize> = (0..self.panels.d_sae()).step_by(FEATURES).collect();
        let of_range = |start: &usize| {
            let mut values = Vec::new();
            super::wide(
                #[inline(always)]
                || {
                    for k in *start..(*start + FEATURES).min(self.panels.d_sae()) {
                        let (w, b, gain) = (&self.w_enc[k * d..(k + 1) * d], self.b_enc[k], self.gain(k));
                        let row = |entry: u32| &x[rows[entry as usize] * d..(rows[entry as usize] + 1) * d];
                        let (groups, last) = entries.of(k).as_chunks::<4>();
                        for [m, n, o, p] in groups {
                            let dots = dots(w, [row(*m), row(*n), row(*o), row(*p)]);
                            values.extend(dots.iter().map(|dot| (dot + b) * gain));
                        }
                        values.extend(last.iter().map(|entry| (dots(w, [row(*entry)])[0] + b) * gain));
                    }
                },
            );
            values
        };
        let values: Vec<Vec<f32>> = starts.par_iter().map(of_range).collect();
        let out = found.values_mut();
        for (entry, value) in entries.items().iter().zip(values.iter().flatten()) {
            out[*entry as usize] = *value;
        }
    }
}

impl Rule<'_> {
    /// The floor that a feature has to exceed in any case.
    fn floor(self, feature: usize) -> f32 {
        match self {
            Rule::Over(floor) => floor,
            Rule::Above(floors) => floors[feature],
            Rule::TopK(_) | Rule::TopKOver(..) => 0.0,
        }
    }

    /// How many of a row survive at most, if the rule limits them.
    fn k(self) -> Option<usize> {
        match self {
            Rule::TopK(k) | Rule::TopKOver(k, _) => Some(k),
            Rule::Over(_) | Rule::Above(_) => None,
        }
    }

    /// The pre-activations that survive, among candidates that include them.
    fn apply(self, found: &Sparse) -> Sparse {
        let starts: Vec<usize> = (0..found.rows()).step_by(TOKENS).collect();
        let some = |start: &usize| {
            let mut out = Sparse::default();
            for row in *start..(*start + TOKENS).min(found.rows()) {
                let (features, values) = found.row(row);
                self.select(values.iter().copied().zip(features.iter().copied()).collect(), &mut out);
            }
            out
        };
        Sparse::concat(&starts.par_iter().map(some).collect::<Vec<_>>())
    }

    /// Keeps the pre-activations of a row that survive, and appends them to `out`. They are ascending by feature.
    fn select(self, mut found: Vec<(f32, u32)>, out: &mut Sparse) {
        match self {
            Rule::Over(_) | Rule::Above(_) => found.retain(|(value, k)| *value > self.floor(*k as usize)),
            Rule::TopK(k) | Rule::TopKOver(k, _) => {
                found.retain(|(value, _)| *value > 0.0);
                if found.len() > k {
                    found.select_nth_unstable_by(k - 1, |a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
                    found.truncate(k);
                    found.sort_unstable_by_key(|(_, feature)| *feature);
                }
            }
        }
        out.push(found.iter().map(|(value, feature)| (*feature, *value)));
    }
}

impl Row {
    fn push(&mut self, upper: &[f32; WIDTH], first: usize) {
        let hits = upper.iter().enumerate().filter(|(_, upper)| **upper >= self.bar);
        self.found.extend(hits.map(|(lane, upper)| (*upper, (first + lane) as u32)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vector::dot;
    use rand::RngExt;
    use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};

    /// Rows with outlier dimensions, features of unequal norms and biases, some of them zero.
    fn problem(rows: usize, d: usize, f: usize, seed: u64) -> (Vec<f32>, Vec<f32>, Vec<f32>) {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut x: Vec<f32> = (0..rows * d).map(|_| rng.random_range(-1.0..1.0)).collect();
        for row in x.chunks_mut(d) {
            row[d / 3] *= 300.0;
        }
        let mut w: Vec<f32> = (0..f * d).map(|_| rng.random_range(-1.0..1.0)).collect();
        for (k, row) in w.chunks_mut(d).enumerate() {
            let by = [1.0, 0.03, 30.0, 0.0][if k % 17 == 5 { 3 } else { k % 3 }];
            row.iter_mut().for_each(|v| *v *= by);
            row[d / 3] *= 0.01;
        }
        (x, w, (0..f).map(|k| (k % 7) as f32 * 0.1 - 0.5).collect())
    }

    fn dense(x: &[f32], w: &[f32], b: &[f32], gain: &[f32], d: usize) -> Vec<Vec<f32>> {
        let row = |x: &[f32]| w.chunks(d).zip(b).zip(gain).map(|((w, b), g)| (dot(x, w) + b) * g).collect();
        x.chunks(d).map(row).collect()
    }

    #[test]
    fn the_selection_is_that_of_f32_on_any_number_of_threads() {
        for (rows, d, f) in [(1, 1, 1), (7, 5, 33), (50, 24, 300), (130, 64, 1000)] {
            let (x, w, b) = problem(rows, d, f, (rows + d) as u64);
            let gains: Vec<f32> = (0..f).map(|k| if d == 24 { 0.5 + (k % 9) as f32 } else { 1.0 }).collect();
            let gain = (d == 24).then_some(&gains[..]);
            let (panels, dense) = (Panels::new(&w, d), dense(&x, &w, &b, &gains, d));
            let floors: Vec<f32> = (0..f).map(|k| (k % 5) as f32 * 0.4 - 0.3).collect();
            let sorted = |row: &[f32]| {
                let mut order: Vec<usize> = (0..f).filter(|k| row[*k] > 0.0).collect();
                order.sort_by(|a, b| row[*b].total_cmp(&row[*a]).then(a.cmp(b)));
                order
            };
            for k in [1, 3, 40] {
                for threads in [1, 3] {
                    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                    let top = pool.install(|| select(&x, &w, &b, gain, &panels, Rule::TopK(k)));
                    // Too low an expectation, a fair one, and one that no row meets.
                    for expected in [0.0, 0.3, 1e3] {
                        let rule = Rule::TopKOver(k, expected);
                        assert_eq!(pool.install(|| select(&x, &w, &b, gain, &panels, rule)), top, "{expected}");
                    }
                    let above = pool.install(|| select(&x, &w, &b, gain, &panels, Rule::Above(&floors)));
                    let positive = pool.install(|| select(&x, &w, &b, gain, &panels, Rule::Over(0.0)));
                    for (r, row) in dense.iter().enumerate() {
                        let mut expected = sorted(row);
                        expected.truncate(k);
                        expected.sort_unstable();
                        assert_eq!(
                            top.row(r).0,
                            expected.iter().map(|k| *k as u32).collect::<Vec<_>>(),
                            "row {r} of {rows}"
                        );
                        assert!(top.row(r).0.iter().zip(top.row(r).1).all(|(k, v)| *v == row[*k as usize]));
                        let over = |floor: &dyn Fn(usize) -> f32| {
                            (0..f).filter(|k| row[*k] > floor(*k)).map(|k| k as u32).collect::<Vec<_>>()
                        };
                        assert_eq!(above.row(r).0, over(&|k| floors[k]));
                        assert_eq!(positive.row(r).0, over(&|_| 0.0));
                        assert_eq!(from_dense(row, f, Rule::TopK(k)).row(0), top.row(r));
                    }
                }
            }
        }
    }

    #[test]
    fn rows_that_overflow_have_the_features_of_f32_alone() {
        let (d, f) = (24, 205);
        let (mut x, w, b) = problem(12, d, f, 7);
        // Some norms overflow, some sums of squares do, and some products with the larger half of the weights.
        for (row, factor) in
            x.chunks_mut(d).zip([f32::MAX, 1e38, 1e37, 1e36, 1e34, 1e33, 1e30, 1e25, 1e19, 1e18, 1.0, 0.0])
        {
            let largest = row.iter().fold(0f32, |most, v| most.max(v.abs()));
            row.iter_mut().for_each(|v| *v *= factor / largest);
        }
        x[..d].iter_mut().for_each(|v| *v = f32::MAX.copysign(*v));
        let panels = Panels::new(&w, d);
        let dense = dense(&x, &w, &b, &vec![1.0; f], d).concat();
        let floors: Vec<f32> = (0..f).map(|k| (k % 5) as f32 * 0.4 - 0.3).collect();
        let mut rules = vec![Rule::Over(0.0), Rule::Above(&floors)];
        for k in [1, 9, 40, 300] {
            rules.push(Rule::TopK(k));
            rules.extend([0.0, 0.3, 1e3, f32::MAX, f32::INFINITY].map(|expected| Rule::TopKOver(k, expected)));
        }
        for rule in rules {
            assert_eq!(select(&x, &w, &b, None, &panels, rule), from_dense(&dense, f, rule), "{rule:?}");
        }
        let large: Vec<f32> = w.iter().map(|v| v * 1e36).collect();
        let (panels, dense) = (Panels::new(&large, d), self::dense(&x, &large, &b, &vec![1.0; f], d).concat());
        let rule = Rule::TopKOver(9, 0.3);
        assert_eq!(select(&x, &large, &b, None, &panels, rule), from_dense(&dense, f, rule));
    }

    #[test]
    fn every_instruction_set_selects_the_same() {
        // The last panel is not full, and the last group of panels is (14 panels) or is not (13).
        for f in [213, 205] {
            every_instruction_set_selects_the_same_of(f);
        }
    }

    fn every_instruction_set_selects_the_same_of(features: usize) {
        let (x, w, b) = problem(45, 40, features, 3);
        let panels = Panels::new(&w, 40);
        let encoder = Encoder::new(&w, &b, None, &panels, Rule::TopK(9));
        // Candidates differ, since rows are pruned at other times.
        let selected = |mut found: Sparse| {
            encoder.compute(&x, &mut found);
            encoder.rule.apply(&found)
        };
        let portable = selected(encoder.find(PortableIsa, &x));
        assert_eq!(portable, selected(encoder.find_on_best(&x)));
        #[cfg(target_arch = "x86_64")]
        {
            let found = [
                pulp::x86::V3::try_new().map(|isa| encoder.find::<6, 1, _>(isa, &x)),
                pulp::x86::V4::try_new().map(|isa| encoder.find(isa, &x)),
                Vnni::try_new().map(|isa| encoder.find(isa, &x)),
            ];
            for found in found.into_iter().flatten() {
                assert_eq!(selected(found), portable);
            }
        }
    }

    #[test]
    fn an_expectation_within_the_margin_of_error_changes_nothing() {
        // Features that differ by no more than the integers can tell, and bars around the ends of their intervals.
        let d = 24;
        let (x, noise, _) = problem(1, d, 400, 5);
        let w: Vec<f32> = noise.iter().enumerate().map(|(i, v)| noise[i % d] + v * 2e-6).collect();
        let sign = dot(&x, &w[..d]).signum();
        let x: Vec<f32> = x.iter().map(|v| v * sign).collect();
        let (b, panels) = ([0.0; 400], Panels::new(&w, d));
        let top = select(&x, &w, &b, None, &panels, Rule::TopK(9));
        let strongest = top.row(0).1.iter().copied().fold(0.0, f32::max) / norm_sq(&x).sqrt();
        let step = 2e-6 * norm_sq(&w[..d]).sqrt();
        for n in -100..100 {
            let expected = strongest + n as f32 * step;
            assert_eq!(select(&x, &w, &b, None, &panels, Rule::TopKOver(9, expected)), top, "{n}");
        }
    }

    #[test]
    fn ties_are_broken_by_the_lower_feature() {
        let (w, b) = ([1f32; 12], [0.0; 12]);
        let found = select(&[2.0], &w, &b, None, &Panels::new(&w, 1), Rule::TopK(5));
        assert_eq!(found.row(0).0, [0, 1, 2, 3, 4]);
    }
}
