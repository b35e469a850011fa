//! The last step of a selection with budgets: exchanges of one or two candidates until all limits are kept, and then as long as
//! the score rises. The mixture that comes before is right but for a few candidates, so only those nearest to the threshold take part.

use super::candidates::{Candidates, Scale};

/// Candidates inside and outside of the selection that take part.
const NEAREST: usize = 192;
/// Those that take part in exchanges of two.
const NEAREST_OF_TWO: usize = 28;
/// Exchanges after which the selection stays as it is.
const MOST_EXCHANGES: usize = 400;
/// Means that differ by less than this share of their range are equal.
const TOLERANCE: f64 = 1e-12;

/// Improves a selection by exchanges. Returns whether it keeps all limits.
pub(super) fn improve(candidates: &Candidates, chosen: &mut [bool], prices: &[f64]) -> bool {
    let mut search = Search::new(candidates, chosen, prices);
    for _ in 0..MOST_EXCHANGES {
        let best = search.single().map(|step| vec![step]).or_else(|| search.double());
        let Some(steps) = best else { break };
        for step in steps {
            let (leaves, enters) = search.make(&step);
            (chosen[leaves], chosen[enters]) = (false, true);
        }
    }
    search.excess(&[]) == 0.0
}

/// An exchange of a candidate inside the selection for one outside.
#[derive(Clone, Debug)]
struct Exchange {
    /// Its place among the nearest inside.
    inside: usize,
    /// Its place among the nearest outside.
    outside: usize,
    /// By how much the sum of scores rises.
    gain: f64,
    /// By how much each sum of costs rises, in units of its range.
    costs: Vec<f64>,
}

struct Search<'a> {
    candidates: &'a Candidates,
    /// By how much each sum of costs exceeds its limit, in units of its range.
    over: Vec<f64>,
    inside: Vec<u32>,
    outside: Vec<u32>,
}

impl<'a> Search<'a> {
    fn new(candidates: &'a Candidates, chosen: &[bool], prices: &[f64]) -> Self {
        let kept = candidates.kept() as f64;
        let over = |(budget, costs): (usize, &Vec<f64>)| {
            let sum: f64 = costs.iter().zip(chosen).filter(|(_, chosen)| **chosen).map(|(cost, _)| cost).sum();
            (sum - candidates.limits[budget] * kept) / candidates.scales[budget].width
        };
        let over = candidates.costs.iter().enumerate().map(over).collect();
        let (inside, outside) = nearest(candidates, chosen, prices);
        Self { candidates, over, inside, outside }
    }

    /// By how much the limits are exceeded in all after some exchanges.
    fn excess(&self, steps: &[&Exchange]) -> f64 {
        let tolerance = TOLERANCE * self.candidates.kept() as f64;
        let after = |(n, over): (usize, &f64)| over + steps.iter().map(|step| step.costs[n]).sum::<f64>();
        self.over.iter().enumerate().map(|entry| (after(entry) - tolerance).max(0.0)).sum()
    }

    /// The exchanges within cells of the first `most` candidates on each side.
    fn exchanges(&self, most: usize) -> Vec<Exchange> {
        let Candidates { scores, costs, cells, scales, .. } = self.candidates;
        let mut found = Vec::new();
        for (inside, &leaves) in self.inside.iter().enumerate().take(most) {
            for (outside, &enters) in self.outside.iter().enumerate().take(most) {
                let (leaves, enters) = (leaves as usize, enters as usize);
                if cells[leaves] == cells[enters] {
                    let cost = |(costs, scale): (&Vec<f64>, &Scale)| (costs[enters] - costs[leaves]) / scale.width;
                    let costs = costs.iter().zip(scales).map(cost).collect();
                    found.push(Exchange { inside, outside, gain: scores[enters] - scores[leaves], costs });
                }
            }
        }
        found
    }

    /// The exchange that leaves the least excess; of those that leave none, the one with the highest score. `None` if no exchange
    /// makes the selection better.
    fn single(&self) -> Option<Exchange> {
        let now = self.excess(&[]);
        let judged = self.exchanges(NEAREST).into_iter().map(|step| (self.excess(&[&step]), step));
        let better =
            judged.filter(|(after, step)| if now > 0.0 { *after < now } else { *after == 0.0 && step.gain > 0.0 });
        better.min_by(|a, b| a.0.total_cmp(&b.0).then(b.1.gain.total_cmp(&a.1.gain))).map(|(_, step)| step)
    }

    /// The two exchanges that together raise the score most and keep all limits.
    fn double(&self) -> Option<Vec<Exchange>> {
        let steps = self.exchanges(NEAREST_OF_TWO);
        let mut best: Option<(f64, [usize; 2])> = None;
        for (n, first) in steps.iter().enumerate() {
            for (m, second) in steps.iter().enumerate().skip(n + 1) {
                let gain = first.gain + second.gain;
                let apart = first.inside != second.inside && first.outside != second.outside;
                if apart && gain > best.map_or(TOLERANCE, |best| best.0) && self.excess(&[first, second]) == 0.0 {
                    best = Some((gain, [n, m]));
                }
            }
        }
        best.map(|(_, pair)| pair.map(|n| steps[n].clone()).to_vec())
    }

    /// Makes an exchange, and returns who leaves and who enters.
    fn make(&mut self, step: &Exchange) -> (usize, usize) {
        self.over.iter_mut().zip(&step.costs).for_each(|(over, cost)| *over += cost);
        let (leaves, enters) = (self.inside[step.inside], self.outside[step.outside]);
        (self.inside[step.inside], self.outside[step.outside]) = (enters, leaves);
        (leaves as usize, enters as usize)
    }
}

/// The candidates nearest to the thresholds of their cells: inside and outside of the selection.
fn nearest(candidates: &Candidates, chosen: &[bool], prices: &[f64]) -> (Vec<u32>, Vec<u32>) {
    let worth: Vec<f64> = (0..candidates.len()).map(|n| candidates.worth(n, prices)).collect();
    let mut lowest = vec![f64::INFINITY; candidates.members.len()];
    for (n, worth) in worth.iter().enumerate().filter(|(n, _)| chosen[*n]) {
        let lowest = &mut lowest[candidates.cells[n] as usize];
        *lowest = lowest.min(*worth);
    }
    let side = |inside: bool| {
        // Candidates of cells that keep nothing cannot be exchanged.
        let away = |n: usize| (worth[n] - lowest[candidates.cells[n] as usize]).abs();
        let mut side: Vec<u32> =
            (0..candidates.len()).filter(|n| chosen[*n] == inside && away(*n).is_finite()).map(|n| n as u32).collect();
        let order = |a: &u32, b: &u32| away(*a as usize).total_cmp(&away(*b as usize)).then(a.cmp(b));
        if side.len() > NEAREST {
            side.select_nth_unstable_by(NEAREST, order);
            side.truncate(NEAREST);
        }
        side.sort_by(order);
        side
    };
    (side(true), side(false))
}
