//! Which positions of a store are left out, and how many they are: a [`PositionRule`], and the norm that it means in a store.

use super::norms::Norms;
use crate::Result;
use crate::store::Store;
use crate::vector::norm_sq;
use serde::{Deserialize, Serialize};

/// Positions that are left out of training and of evaluation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PositionRule {
    /// Template, begin, end and newline positions.
    pub special: bool,
    /// The first position of every sample, which many models use as an attention sink.
    pub first: bool,
    /// Positions whose norm exceeds this multiple of the median norm; 0 for any norm.
    pub norm: f64,
}

impl PositionRule {
    /// Whether any position is left out.
    pub fn any(self) -> bool {
        self != Self::default()
    }
}

/// Why a position is left out: as special, as the first of its sample, for its norm.
pub type Reasons = [bool; 3];

/// A rule with the norm that it means in one store.
#[derive(Clone, Debug, PartialEq)]
pub struct PositionFilter {
    rule: PositionRule,
    /// The largest norm that stays, for the block of each model in a row.
    limits: Vec<f64>,
    /// The largest norm of a transcoder's target that stays.
    target_limit: f64,
}

impl Default for PositionFilter {
    /// Leaves nothing out.
    fn default() -> Self {
        Self { rule: PositionRule::default(), limits: vec![f64::INFINITY], target_limit: f64::INFINITY }
    }
}

impl PositionFilter {
    /// Reads the norms of the store if the rule limits them: the limit is a multiple of the median over all positions. In a
    /// store of several models each has a limit, and one norm above its limit leaves the position out. So does that of a
    /// transcoder's target, for those who ask with it.
    ///
    /// # Errors
    /// A shard cannot be read.
    pub fn new(store: &Store, rule: PositionRule) -> Result<Self> {
        if rule.norm == 0.0 {
            return Ok(Self { rule, limits: vec![f64::INFINITY; store.models()], ..Self::default() });
        }
        let limits = |store: &Store| -> Result<Vec<f64>> {
            Ok(Norms::from_store(store)?.iter().map(|norms| rule.norm * norms.median()).collect())
        };
        let target_limit = match store.target() {
            Some(target) => limits(target)?[0],
            None => f64::INFINITY,
        };
        Ok(Self { rule, limits: limits(store)?, target_limit })
    }

    /// The rule.
    pub fn rule(&self) -> PositionRule {
        self.rule
    }

    /// The largest norm that stays, if there is one; of several models, that of the first.
    pub fn limit(&self) -> Option<f64> {
        self.limits.first().copied().filter(|limit| limit.is_finite())
    }

    /// The reasons to leave out a position with hidden states `row`; it stays if none is set.
    pub fn reasons(&self, special: bool, position: u32, row: &[f32]) -> Reasons {
        let blocks = row.chunks_exact(row.len() / self.limits.len());
        let over = |(block, limit): (&[f32], &f64)| limit.is_finite() && f64::from(norm_sq(block).sqrt()) > *limit;
        let too_large = blocks.zip(&self.limits).any(over);
        [self.rule.special && special, self.rule.first && position == 0, too_large]
    }

    /// [`Self::reasons`], where the norm of a transcoder's target counts as well.
    pub fn reasons_with_target(&self, special: bool, position: u32, row: &[f32], target: &[f32]) -> Reasons {
        let [special, first, norm] = self.reasons(special, position, row);
        let limit = self.target_limit;
        [special, first, norm || (limit.is_finite() && f64::from(norm_sq(target).sqrt()) > limit)]
    }
}

/// How many positions were left out; one that has several reasons counts for each of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExcludedCounts {
    /// For any reason.
    pub positions: u64,
    /// As template, begin, end or newline positions.
    pub special: u64,
    /// As the first of their sample.
    pub first: u64,
    /// For their norm.
    pub norm: u64,
}

impl ExcludedCounts {
    /// Counts a position; says whether it is left out.
    pub fn count(&mut self, [special, first, norm]: Reasons) -> bool {
        let out = special || first || norm;
        *self += Self { positions: out.into(), special: special.into(), first: first.into(), norm: norm.into() };
        out
    }
}

impl std::ops::AddAssign for ExcludedCounts {
    fn add_assign(&mut self, other: Self) {
        self.positions += other.positions;
        self.special += other.special;
        self.first += other.first;
        self.norm += other.norm;
    }
}
