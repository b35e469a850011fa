//! The shape of trees of answers. Data only.

use sae_core::store::DEEPEST;
use serde::{Deserialize, Serialize};
use std::str::FromStr;

/// Pieces of a tree at most, which `sae harvest` reads with their prompt.
pub(super) const MOST_NODES: u32 = 4095;

/// How answers branch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TreeShape {
    /// Pieces of a path at most.
    pub depth: u32,
    /// Pieces that continue the same one.
    pub branches: u32,
}

impl TreeShape {
    /// The pieces of a whole tree, if there are at most 4095, none of them deeper than a path may be.
    pub fn nodes(self) -> Option<u32> {
        let Self { depth, branches } = self;
        if depth == 0 || branches == 0 || depth as usize >= DEEPEST {
            return None;
        }
        let levels = std::iter::successors(Some(u64::from(branches)), |level| Some(level * u64::from(branches)));
        let mut nodes = 0u64;
        for level in levels.take(depth as usize) {
            nodes += level;
            if nodes > u64::from(MOST_NODES) {
                return None;
            }
        }
        Some(nodes as u32)
    }
}

impl std::fmt::Display for TreeShape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}x{}", self.depth, self.branches)
    }
}

impl FromStr for TreeShape {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = || {
            format!(
                "invalid tree {text:?}: expected its depth and its branches, such as 5x2, with at most {} pieces a path and {MOST_NODES} in \
                 all",
                DEEPEST - 1
            )
        };
        let (depth, branches) = text.split_once('x').ok_or_else(expected)?;
        let number = |text: &str| text.parse::<u32>().map_err(|_| expected());
        let shape = Self { depth: number(depth)?, branches: number(branches)? };
        shape.nodes().map(|_| shape).ok_or_else(expected)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_are_read_and_bounded() {
        let shape: TreeShape = "5x2".parse().unwrap();
        assert_eq!(
            (shape, shape.nodes(), shape.to_string()),
            (TreeShape { depth: 5, branches: 2 }, Some(62), "5x2".into())
        );
        assert_eq!("1x4095".parse::<TreeShape>().unwrap().nodes(), Some(4095));
        assert_eq!("63x1".parse::<TreeShape>().unwrap().nodes(), Some(63));
        for bad in ["", "5", "x2", "5x", "0x2", "2x0", "64x1", "12x2", "1x4096", "-1x2", "5x2x2", "40x4000000000"] {
            assert!(bad.parse::<TreeShape>().unwrap_err().contains("such as 5x2"), "{bad}");
        }
    }
}
