//! The ways in which pairs are chosen, by name.

use serde::{Deserialize, Serialize};
use std::str::FromStr;

/// Which pairs of answers are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Topology {
    /// Two answers of different trees, which have nothing in common: what preference data usually is.
    Chain,
    /// Any two answers of a tree.
    Random,
    /// Two answers that differ in their last piece alone.
    Siblings,
    /// Siblings and random pairs in turns.
    Mixed,
    /// The pairs of a tree that reduce the uncertainty most.
    Active,
}

impl Topology {
    /// All of them with their names.
    pub const NAMED: [(&'static str, Self); 5] = [
        ("chain", Self::Chain),
        ("random", Self::Random),
        ("siblings", Self::Siblings),
        ("mixed", Self::Mixed),
        ("active", Self::Active),
    ];

    /// The name.
    pub fn name(self) -> &'static str {
        Self::NAMED.iter().find(|(_, topology)| *topology == self).map_or("", |(name, _)| name)
    }
}

impl FromStr for Topology {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let known = Self::NAMED.map(|(name, _)| name).join(", ");
        let found = Self::NAMED.iter().find(|(other, _)| *other == name);
        found.map(|(_, topology)| *topology).ok_or_else(|| format!("unknown topology {name:?}: expected {known}"))
    }
}
