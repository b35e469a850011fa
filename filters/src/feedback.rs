//! Does a critique speak of what was changed? Compares the features of a critique with those in which a refined answer differs from
//! the original one.
//!
//! # Formulas
//! With `x` the features of a text, each divided by its standard deviation over all rows: `d = |x(refinement) - x(response)|`,
//! `c = max(0, x(critique) - x(prompt))`, and the share of the change that the critique covers is `sum c d / sum d`. The fit is
//! this share less its mean over the critiques of up to 32 other rows, so that what every critique says counts for nothing.

use crate::probe::Rows;
use rayon::prelude::*;
use sae_core::random::{SplitMix64, mix};

/// Critiques of other rows that one is compared with.
const OTHERS: usize = 32;

/// An answer that was criticized and refined, by the numbers of rows with its features.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exchange {
    /// The original answer.
    pub response: usize,
    /// The answer after the critique.
    pub refinement: usize,
    /// The critique, and the prompt before it in the table of prompts.
    pub critique: usize,
}

/// How well the critique of each exchange fits the change of its answer. `answers` has the features of responses, refinements and
/// critiques, `prompts` those of the prompts before them. `None` if the answers have the same features, the critique has none, or
/// there is no other exchange.
///
/// ```
/// use filters::feedback::{Exchange, feedback_fit};
/// use filters::probe::Rows;
///
/// // Feature 0 is that of a cat, 1 that of a dog, 2 that of "The answer is wrong".
/// let mut answers = Rows::new(3);
/// for row in [vec![0], vec![1], vec![0, 1, 2], vec![1], vec![1], vec![2]] {
///     answers.push(row.into_iter().map(|feature| (feature, 1.0)));
/// }
/// let mut prompts = Rows::new(3);
/// (0..6).for_each(|_| prompts.push([]));
/// let exchange = |response| Exchange { response, refinement: response + 1, critique: response + 2 };
/// let fit = feedback_fit(&answers, &prompts, &[exchange(0), exchange(3)], 0);
/// assert!(fit[0].is_some_and(|fit| fit > 1.0)); // the critique speaks of both animals
/// assert_eq!(fit[1], None); // nothing was changed
/// ```
pub fn feedback_fit(answers: &Rows, prompts: &Rows, exchanges: &[Exchange], seed: u64) -> Vec<Option<f64>> {
    let deviations = answers.deviations();
    let scaled = |rows: &Rows, row: usize| -> Vec<(u32, f64)> {
        let scale = |(feature, value): (u32, f32)| (feature, f64::from(value) / deviations[feature as usize]);
        rows.row(row).map(scale).filter(|(_, value)| value.is_finite()).collect()
    };
    let critiques: Vec<Vec<(u32, f64)>> = exchanges
        .par_iter()
        .map(|exchange| {
            let said = scaled(answers, exchange.critique);
            let more = differences(&said, &scaled(prompts, exchange.critique));
            more.into_iter().filter(|(_, value)| *value > 0.0).collect()
        })
        .collect();
    let fit = |(number, exchange): (usize, &Exchange)| {
        if exchanges.len() < 2 || answers.row(exchange.critique).next().is_none() {
            return None;
        }
        let change = differences(&scaled(answers, exchange.refinement), &scaled(answers, exchange.response));
        let all: f64 = change.iter().map(|(_, value)| value.abs()).sum();
        let covered = |critique: &[(u32, f64)]| products(critique, &change) / all;
        let others = others(exchanges.len(), number, seed);
        let chance = others.iter().map(|other| covered(&critiques[*other])).sum::<f64>() / others.len() as f64;
        (all > 0.0).then(|| covered(&critiques[number]) - chance)
    };
    exchanges.par_iter().enumerate().map(fit).collect()
}

/// Different numbers below `count` other than `number`: 32 that are drawn, or all.
fn others(count: usize, number: usize, seed: u64) -> Vec<usize> {
    if count <= OTHERS + 1 {
        return (0..count).filter(|other| *other != number).collect();
    }
    let mut random = SplitMix64::new(mix(seed ^ mix(number as u64)));
    let mut drawn = Vec::with_capacity(OTHERS);
    while drawn.len() < OTHERS {
        let other = random.below(count);
        if other != number && !drawn.contains(&other) {
            drawn.push(other);
        }
    }
    drawn
}

/// The features of `a` less those of `b`, both in ascending order.
fn differences(a: &[(u32, f64)], b: &[(u32, f64)]) -> Vec<(u32, f64)> {
    let (mut a, mut b) = (a.iter().peekable(), b.iter().peekable());
    let mut found = Vec::new();
    loop {
        let feature = match (a.peek(), b.peek()) {
            (Some(x), Some(y)) => x.0.min(y.0),
            (Some(x), None) | (None, Some(x)) => x.0,
            (None, None) => return found,
        };
        let of = |(_, value): &(u32, f64)| *value;
        let value = a.next_if(|x| x.0 == feature).map_or(0.0, of) - b.next_if(|y| y.0 == feature).map_or(0.0, of);
        found.push((feature, value));
    }
}

/// The sum of the products of `a` and the sizes of `b`.
fn products(a: &[(u32, f64)], b: &[(u32, f64)]) -> f64 {
    let mut b = b.iter().peekable();
    let product = |(feature, value): &(u32, f64)| {
        while b.next_if(|(other, _)| other < feature).is_some() {}
        b.next_if(|(other, _)| other == feature).map_or(0.0, |(_, size)| value * size.abs())
    };
    a.iter().map(product).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Forty exchanges: the answer of number `n` is changed from feature `n` to `n + 1`. Critiques speak of feature `n` (or, where
    /// `about` says otherwise, of another), and all of them of feature 90. The prompt has feature 80 with every critique.
    fn exchanges(about: impl Fn(usize) -> u32) -> (Rows, Rows, Vec<Exchange>) {
        let (mut answers, mut prompts, mut found) = (Rows::new(100), Rows::new(100), Vec::new());
        for n in 0..40 {
            for row in [vec![n as u32], vec![n as u32 + 1], vec![about(n), 80, 90]] {
                answers.push(row.into_iter().map(|feature| (feature, 2.0)));
                prompts.push([(80, 2.0)]);
            }
            found.push(Exchange { response: 3 * n, refinement: 3 * n + 1, critique: 3 * n + 2 });
        }
        (answers, prompts, found)
    }

    #[test]
    fn critiques_of_the_change_fit_and_boilerplate_scores_nothing() {
        let (answers, prompts, all) = exchanges(|n| n as u32);
        let fits = feedback_fit(&answers, &prompts, &all, 0);
        assert!(fits.iter().all(|fit| fit.unwrap() > 0.5), "{fits:?}");
        let (answers, prompts, all) = exchanges(|_| 90);
        let fits = feedback_fit(&answers, &prompts, &all, 0);
        assert!(fits.iter().all(|fit| fit.unwrap().abs() < 1e-12), "{fits:?}");
    }

    #[test]
    fn the_sums_are_those_of_dense_vectors() {
        let (answers, prompts, all) = exchanges(|n| (n * 7 % 40) as u32);
        let fits = feedback_fit(&answers, &prompts, &all, 3);
        let deviations = answers.deviations();
        let dense = |rows: &Rows, row: usize| {
            let mut found = vec![0.0; 100];
            rows.row(row).for_each(|(f, value)| found[f as usize] = f64::from(value) / deviations[f as usize]);
            found
        };
        for (n, exchange) in all.iter().enumerate() {
            let [response, refinement] = [exchange.response, exchange.refinement].map(|row| dense(&answers, row));
            let share = |other: &Exchange| {
                let (said, asked) = (dense(&answers, other.critique), dense(&prompts, other.critique));
                let change = |f: &usize| (refinement[*f] - response[*f]).abs();
                let covered: f64 = (0..100).map(|f| (said[f] - asked[f]).max(0.0) * change(&f)).sum();
                covered / (0..100).map(|f| change(&f)).sum::<f64>()
            };
            let chance = others(40, n, 3).iter().map(|other| share(&all[*other])).sum::<f64>() / 32.0;
            assert!((fits[n].unwrap() - (share(exchange) - chance)).abs() < 1e-12);
        }
    }

    #[test]
    fn others_are_different_and_exclude_the_row_itself() {
        // However many rows there are, the time and the memory are those of the ones that are drawn.
        for (count, number) in [(34, 33), (40, 0), (40, 20), (40, 39), (usize::MAX, 7)] {
            let mut found = others(count, number, 1);
            found.sort_unstable();
            found.dedup();
            assert!(found.len() == OTHERS && !found.contains(&number) && found.iter().all(|other| *other < count));
        }
        assert_eq!(others(2, 1, 5), [0]);
        assert_eq!(others(33, 4, 5).len(), OTHERS);
    }

    #[test]
    fn fits_are_the_same_on_any_number_of_threads() {
        let (answers, prompts, all) = exchanges(|n| (n * 7 % 40) as u32);
        let on = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| feedback_fit(&answers, &prompts, &all, 3))
        };
        assert_eq!(on(1), on(3));
    }
}
