//! Why a sample has the score that it has: the parts of the score, as the pages show them. Computes no score.

use filters::score_names::PMI;

/// The explanation of one score of one sample.
#[derive(Clone, Debug, PartialEq)]
pub struct ScoreExplanation {
    /// Column of the score table.
    pub score: String,
    /// The parts with the largest amounts, or the reason why they are not known.
    pub parts: Result<Vec<ScorePart>, String>,
}

/// What one part of a score adds to it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ScorePart {
    /// The amount that it adds, in the unit of the score.
    pub amount: f64,
    /// Features of the image and of the text. A part of a `cosine_` score is one feature, in the first list.
    pub features: [Vec<PartFeature>; 2],
}

/// A feature in a part of a score.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartFeature {
    /// Its number.
    pub feature: u32,
    /// Whether it is active in the sample. The absence of a feature counts as well.
    pub active: bool,
}

impl ScoreExplanation {
    /// Whether the parts are groups of features of both sides (`pmi`), and not single features.
    pub fn is_joint(&self) -> bool {
        self.score.starts_with(PMI)
    }

    /// The parts that lower the score most, then those that raise it most.
    pub fn extremes(&self) -> [Option<&ScorePart>; 2] {
        let parts = self.parts.as_deref().unwrap_or_default();
        let lowest = parts.iter().filter(|part| part.amount < 0.0).min_by(|a, b| a.amount.total_cmp(&b.amount));
        let highest = parts.iter().filter(|part| part.amount > 0.0).max_by(|a, b| a.amount.total_cmp(&b.amount));
        [lowest, highest]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_extremes_are_the_largest_amounts_of_each_sign() {
        let part = |amount| ScorePart { amount, ..ScorePart::default() };
        let explanation = |amounts: &[f64]| ScoreExplanation {
            score: "pmi_blank".into(),
            parts: Ok(amounts.iter().copied().map(part).collect()),
        };
        let amounts = |found: &ScoreExplanation| found.extremes().map(|part| part.map(|part| part.amount));
        assert_eq!(amounts(&explanation(&[1.0, -4.0, 0.5, -2.0])), [Some(-4.0), Some(1.0)]);
        assert_eq!(amounts(&explanation(&[1.0])), [None, Some(1.0)]);
        assert_eq!(amounts(&explanation(&[])), [None, None]);
        assert!(explanation(&[]).is_joint());
    }
}
