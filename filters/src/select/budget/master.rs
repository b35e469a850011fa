//! The linear program behind a selection with budgets: which mixture of selections has the highest mean score and keeps all
//! limits (Dantzig and Wolfe 1960, "Decomposition principle for linear programs"). Knows no samples: a selection is a vertex with
//! a profit and what it spends.

/// Steps of the simplex method after which the best bound so far is reported.
const MOST_STEPS: usize = 1000;
/// Profits and amounts are of order 1; differences below this are none.
const TOLERANCE: f64 = 1e-10;
/// The cost of the artificial variable that the first basis has in the place of a vertex ("big M"). With profits of order 1, it
/// leaves as soon as a mixture keeps all limits.
const BIG_M: f64 = 1e6;

/// A selection, as the program sees it.
#[derive(Clone, Debug)]
pub(super) struct Vertex<S> {
    /// The selection.
    pub selection: S,
    /// Its mean score.
    pub profit: f64,
    /// What it spends of each limit.
    pub spent: Vec<f64>,
}

/// The best mixture.
#[derive(Clone, Debug)]
pub(super) struct Mixture<S> {
    /// The vertices that it is made of, with their weights, in descending order of these.
    pub parts: Vec<(f64, Vertex<S>)>,
    /// How much profit an additional unit of each limit would bring.
    pub prices: Vec<f64>,
    /// No selection that keeps the limits has a higher profit.
    pub bound: f64,
    /// Whether a mixture keeps all limits.
    pub feasible: bool,
}

/// What holds a row of the basis.
enum Member<S> {
    /// What is left of a limit.
    Slack,
    /// The artificial variable: no vertex yet.
    Artificial,
    /// A selection.
    Vertex(Vertex<S>),
}

impl<S> Member<S> {
    fn profit(&self) -> f64 {
        match self {
            Self::Slack => 0.0,
            Self::Artificial => -BIG_M,
            Self::Vertex(vertex) => vertex.profit,
        }
    }
}

/// The best mixture of vertices that spends at most `limits`, which are not negative. `best` returns the vertex with the largest
/// profit minus the price of what it spends, for the prices that it is given.
pub(super) fn maximize<S>(limits: &[f64], mut best: impl FnMut(&[f64]) -> Vertex<S>) -> Mixture<S> {
    let rows = limits.len() + 1;
    // The last row says that the weights of all vertices are 1 together.
    let mut amounts: Vec<f64> = limits.iter().copied().chain([1.0]).collect();
    let mut inverse: Vec<Vec<f64>> = (0..rows).map(|row| (0..rows).map(|c| f64::from(row == c)).collect()).collect();
    let mut basis: Vec<Member<S>> = limits.iter().map(|_| Member::Slack).chain([Member::Artificial]).collect();
    let (mut bound, mut prices) = (f64::INFINITY, vec![0.0; limits.len()]);
    for _ in 0..MOST_STEPS {
        let dual = |column: usize| basis.iter().zip(&inverse).map(|(member, row)| member.profit() * row[column]).sum();
        let duals: Vec<f64> = (0..rows).map(dual).collect();
        let (column, entering) = match duals[..rows - 1].iter().position(|price| *price < -TOLERANCE) {
            Some(limit) => ((0..rows).map(|row| f64::from(row == limit)).collect(), Member::Slack),
            None => {
                let current: Vec<f64> = duals[..rows - 1].iter().map(|price| price.max(0.0)).collect();
                let vertex = best(&current);
                let paid: f64 = current.iter().zip(&vertex.spent).map(|(price, spent)| price * spent).sum();
                let left: f64 = current.iter().zip(limits).map(|(price, limit)| price * limit).sum();
                if vertex.profit - paid + left < bound {
                    (bound, prices) = (vertex.profit - paid + left, current);
                }
                if vertex.profit - paid - duals[rows - 1] <= TOLERANCE {
                    break;
                }
                (vertex.spent.iter().copied().chain([1.0]).collect::<Vec<f64>>(), Member::Vertex(vertex))
            }
        };
        let Some(row) = leaving(&inverse, &amounts, &column) else { break };
        pivot(&mut inverse, &mut amounts, &column, row);
        basis[row] = entering;
    }
    let mut parts = Vec::new();
    let mut feasible = true;
    for (member, weight) in basis.into_iter().zip(amounts) {
        match member {
            Member::Artificial => feasible &= weight <= TOLERANCE,
            Member::Vertex(vertex) if weight > TOLERANCE => parts.push((weight, vertex)),
            Member::Slack | Member::Vertex(_) => {}
        }
    }
    parts.sort_by(|a, b| b.0.total_cmp(&a.0));
    Mixture { parts, prices, bound, feasible }
}

/// The product of the inverse of the basis and a column.
fn in_basis(inverse: &[Vec<f64>], column: &[f64]) -> Vec<f64> {
    inverse.iter().map(|row| row.iter().zip(column).map(|(a, b)| a * b).sum()).collect()
}

/// The row whose member reaches 0 first when the column enters; the last one of equals, so that the artificial variable leaves early.
fn leaving(inverse: &[Vec<f64>], amounts: &[f64], column: &[f64]) -> Option<usize> {
    let step = in_basis(inverse, column);
    let ratios = step.iter().zip(amounts).enumerate().filter(|(_, (step, _))| **step > TOLERANCE);
    let ratios = ratios.map(|(row, (step, amount))| (row, amount.max(0.0) / step));
    ratios.rev().min_by(|a, b| a.1.total_cmp(&b.1)).map(|(row, _)| row)
}

/// Replaces the member of a row by the column.
fn pivot(inverse: &mut [Vec<f64>], amounts: &mut [f64], column: &[f64], row: usize) {
    let step = in_basis(inverse, column);
    inverse[row].iter_mut().for_each(|x| *x /= step[row]);
    amounts[row] /= step[row];
    let (pivot, amount) = (inverse[row].clone(), amounts[row]);
    for other in (0..step.len()).filter(|other| *other != row) {
        inverse[other].iter_mut().zip(&pivot).for_each(|(x, pivot)| *x -= step[other] * pivot);
        amounts[other] -= step[other] * amount;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The vertices of a program, all known.
    fn solve(limits: &[f64], vertices: &[(f64, Vec<f64>)]) -> Mixture<usize> {
        maximize(limits, |prices| {
            let worth = |vertex: &(f64, Vec<f64>)| {
                vertex.0 - prices.iter().zip(&vertex.1).map(|(price, spent)| price * spent).sum::<f64>()
            };
            let best =
                (0..vertices.len()).max_by(|a, b| worth(&vertices[*a]).total_cmp(&worth(&vertices[*b]))).unwrap();
            Vertex { selection: best, profit: vertices[best].0, spent: vertices[best].1.clone() }
        })
    }

    #[test]
    fn two_vertices_are_mixed_where_neither_is_best() {
        // The dear vertex spends 1, the cheap one nothing: half of each spends 0.5.
        let mixture = solve(&[0.5], &[(1.0, vec![1.0]), (0.2, vec![0.0])]);
        assert!(mixture.feasible && (mixture.bound - 0.6).abs() < 1e-9, "{mixture:?}");
        assert!((mixture.prices[0] - 0.8).abs() < 1e-9);
        assert_eq!(mixture.parts.len(), 2);
        assert!(mixture.parts.iter().all(|(weight, _)| (weight - 0.5).abs() < 1e-9));
    }

    #[test]
    fn limits_that_no_mixture_keeps_are_found_out() {
        // Each vertex keeps one of the limits. Half of each breaks both.
        let vertices = [(0.5, vec![0.0, 1.0]), (0.5, vec![1.0, 0.0])];
        assert!(!solve(&[0.4, 0.4], &vertices).feasible);
        let mixture = solve(&[0.5, 0.5], &vertices);
        assert!(mixture.feasible && (mixture.bound - 0.5).abs() < 1e-6, "{mixture:?}");
        assert!(solve(&[], &[(0.3, vec![]), (0.7, vec![])]).parts[0].1.selection == 1);
    }
}
