//! Which token comes next, given the logits of all and a random number. The settings have the meaning, and are applied in the
//! order, of `transformers`: repetition penalty, temperature, top-k, top-p, min-p. Draws no random number itself.

use serde::Serialize;

/// How the next token is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Sampling {
    /// Logits are divided by it; 0 chooses the most likely token.
    pub temperature: f64,
    /// Only the most likely tokens, as many as this; 0 means all.
    pub top_k: usize,
    /// Only the fewest most likely tokens whose probabilities add up to this.
    pub top_p: f64,
    /// Only tokens at least this many times as likely as the most likely one.
    pub min_p: f64,
    /// Divides the positive logits of tokens that the text has, and multiplies the negative ones (Keskar et al. 2019).
    pub repetition_penalty: f64,
}

/// How many of the most likely tokens are ordered first, to find those that add up to a probability.
const FIRST: usize = 256;

impl Sampling {
    /// The most likely token.
    pub const GREEDY: Self = Self { temperature: 0.0, top_k: 0, top_p: 1.0, min_p: 0.0, repetition_penalty: 1.0 };

    /// Checks the settings.
    ///
    /// # Errors
    /// What was expected.
    pub fn check(&self) -> Result<(), String> {
        let Self { temperature, top_p, min_p, repetition_penalty, .. } = *self;
        let expected = [
            (temperature.is_finite() && temperature >= 0.0, "a temperature of 0 or more", temperature),
            (top_p > 0.0 && top_p <= 1.0, "a top-p above 0 and up to 1", top_p),
            ((0.0..=1.0).contains(&min_p), "a min-p from 0 to 1", min_p),
            (
                repetition_penalty.is_finite() && repetition_penalty > 0.0,
                "a repetition penalty above 0",
                repetition_penalty,
            ),
        ];
        let wrong = expected.into_iter().find(|(fits, ..)| !fits);
        wrong.map_or(Ok(()), |(_, expected, found)| Err(format!("expected {expected}, but found {found}")))
    }

    /// The next token. `seen` has the tokens of the text so far, and `random` lies between 0 and 1, 1 excluded. `None` if a logit
    /// is not a number, or none is finite.
    ///
    /// Ties go to the token with the lower number.
    ///
    /// # Shapes
    /// `logits`: `[vocab_size]`.
    pub fn choose(&self, logits: &[f32], seen: &[u32], random: f64) -> Option<u32> {
        let mut logits: Vec<f64> = logits.iter().map(|logit| f64::from(*logit)).collect();
        if self.repetition_penalty != 1.0 {
            let mut seen: Vec<u32> = seen.to_vec();
            seen.sort_unstable();
            seen.dedup();
            for id in seen {
                // Placeholders of images may lie outside the vocabulary.
                let Some(logit) = logits.get_mut(id as usize) else { continue };
                *logit = if *logit > 0.0 { *logit / self.repetition_penalty } else { *logit * self.repetition_penalty };
            }
        }
        let (best, most) = (0..)
            .zip(&logits)
            .fold((0u32, f64::NEG_INFINITY), |best, (id, logit)| if *logit > best.1 { (id, *logit) } else { best });
        if !most.is_finite() || logits.iter().any(|logit| logit.is_nan()) {
            return None;
        }
        if self.temperature == 0.0 || self.top_k == 1 {
            return Some(best);
        }
        // Not normalized: the most likely token has 1.
        let weights: Vec<f64> = logits.iter().map(|logit| ((logit - most) / self.temperature).exp()).collect();
        let mut kept: Vec<u32> = (0..weights.len() as u32).collect();
        let by_weight = |a: &u32, b: &u32| weights[*b as usize].total_cmp(&weights[*a as usize]).then(a.cmp(b));
        if (1..kept.len()).contains(&self.top_k) {
            kept.select_nth_unstable_by(self.top_k - 1, by_weight);
            kept.truncate(self.top_k);
        }
        if self.top_p < 1.0 {
            nucleus(&mut kept, &weights, self.top_p);
        }
        kept.retain(|id| weights[*id as usize] >= self.min_p);
        kept.sort_unstable();
        let total: f64 = kept.iter().map(|id| weights[*id as usize]).sum();
        let mut left = random * total;
        let chosen = kept.iter().find(|id| {
            left -= weights[**id as usize];
            left < 0.0
        });
        // Rounding can leave a little of the last one.
        chosen.or_else(|| kept.iter().rfind(|id| weights[**id as usize] > 0.0)).copied()
    }
}

/// Keeps the fewest tokens with the largest weights that have the share `top_p` of the weight of all.
fn nucleus(kept: &mut Vec<u32>, weights: &[f64], top_p: f64) {
    let by_weight = |a: &u32, b: &u32| weights[*b as usize].total_cmp(&weights[*a as usize]).then(a.cmp(b));
    kept.sort_unstable();
    let needed = top_p * kept.iter().map(|id| weights[*id as usize]).sum::<f64>();
    let mut ordered = FIRST.min(kept.len());
    loop {
        if ordered < kept.len() {
            kept.select_nth_unstable_by(ordered, by_weight);
        }
        kept[..ordered].sort_unstable_by(by_weight);
        let mut sum = 0.0;
        let enough = kept[..ordered].iter().position(|id| {
            sum += weights[*id as usize];
            sum >= needed
        });
        match enough {
            Some(last) => return kept.truncate(last + 1),
            None if ordered == kept.len() => return,
            None => ordered = (8 * ordered).min(kept.len()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The probabilities of all tokens, computed plainly.
    fn probabilities(sampling: &Sampling, logits: &[f32], seen: &[u32]) -> Vec<f64> {
        let logit = |id: usize| {
            let logit = f64::from(logits[id]);
            match seen.contains(&(id as u32)) {
                true if logit > 0.0 => logit / sampling.repetition_penalty,
                true => logit * sampling.repetition_penalty,
                false => logit,
            }
        };
        let most = (0..logits.len()).map(logit).fold(f64::NEG_INFINITY, f64::max);
        let mut p: Vec<f64> = (0..logits.len()).map(|id| ((logit(id) - most) / sampling.temperature).exp()).collect();
        let order = |p: &[f64]| {
            let mut ids: Vec<usize> = (0..p.len()).collect();
            ids.sort_by(|a, b| p[*b].total_cmp(&p[*a]));
            ids
        };
        if sampling.top_k > 0 {
            for id in order(&p).into_iter().skip(sampling.top_k) {
                p[id] = 0.0;
            }
        }
        let (total, mut sum) = (p.iter().sum::<f64>(), 0.0);
        for id in order(&p) {
            let before = sum;
            sum += p[id] / total;
            if before >= sampling.top_p {
                p[id] = 0.0;
            }
        }
        p.iter_mut().filter(|p| **p < sampling.min_p).for_each(|p| *p = 0.0);
        let total: f64 = p.iter().sum();
        p.iter().map(|p| p / total).collect()
    }

    proptest! {
        #[test]
        fn tokens_are_drawn_with_the_probabilities_of_the_settings(
            logits in prop::collection::vec(-6.0f32..6.0, 2..400),
            (temperature, top_k, top_p) in (0.2f64..2.0, 0usize..300, 0.05f64..=1.0),
            (min_p, repetition_penalty) in (0.0f64..0.5, 0.7f64..1.5),
        ) {
            let sampling = Sampling { temperature, top_k, top_p, min_p, repetition_penalty };
            let p = probabilities(&sampling, &logits, &[0, 1]);
            // Equally spaced numbers in place of random ones.
            let draws = 2_000;
            let mut counts = vec![0; logits.len()];
            for n in 0..draws {
                counts[sampling.choose(&logits, &[1, 0, 1], (n as f64 + 0.5) / draws as f64).unwrap() as usize] += 1;
            }
            for (count, p) in counts.into_iter().zip(&p) {
                prop_assert!((f64::from(count) - p * draws as f64).abs() <= 1.0 + 1e-6, "{count} of {draws} for {p}");
            }
        }
    }

    #[test]
    fn the_most_likely_token_is_chosen_at_temperature_0_and_the_lower_number_of_two() {
        assert_eq!(Sampling::GREEDY.choose(&[0.5, 2.0, 2.0, -1.0], &[], 0.9), Some(1));
        let penalty = Sampling { repetition_penalty: 2.0, ..Sampling::GREEDY };
        assert_eq!(penalty.choose(&[1.5, 2.0, -1.0], &[1, 900], 0.0), Some(0));
    }

    #[test]
    fn logits_that_are_no_numbers_have_no_next_token() {
        for sampling in [Sampling::GREEDY, Sampling { temperature: 1.0, ..Sampling::GREEDY }] {
            assert_eq!(sampling.choose(&[0.0, f32::NAN], &[], 0.5), None);
            assert_eq!(sampling.choose(&[f32::NEG_INFINITY; 2], &[], 0.5), None);
            assert_eq!(sampling.choose(&[f32::INFINITY, 0.0], &[], 0.5), None);
            // Models that never predict a token have this logit for it.
            assert_eq!(sampling.choose(&[f32::NEG_INFINITY, 0.0], &[], 0.0), Some(1));
        }
    }

    #[test]
    fn settings_out_of_range_are_rejected() {
        assert!(Sampling::GREEDY.check().is_ok());
        let bad = [
            Sampling { temperature: -1.0, ..Sampling::GREEDY },
            Sampling { temperature: f64::NAN, ..Sampling::GREEDY },
            Sampling { top_p: 0.0, ..Sampling::GREEDY },
            Sampling { min_p: 1.5, ..Sampling::GREEDY },
            Sampling { repetition_penalty: 0.0, ..Sampling::GREEDY },
        ];
        assert!(bad.iter().all(|sampling| sampling.check().is_err()));
    }
}
