//! What the index holds about one feature in addition to its row. Plain data; reads no file.

use super::format;
use sae_core::analysis::index::{Bin, Coactive, Example, LogitBin, Neighbor, StrongestExample, Word};
use sae_core::store::sample::Modality;

/// The tables of the index about one feature. Each can be missing, with the reason.
#[derive(Clone, Debug)]
pub struct Details {
    /// Examples, each with its group.
    pub examples: Result<Vec<(u8, Example)>, String>,
    /// The strongest positions on text, then those on images.
    pub strongest: Result<Vec<StrongestExample>, String>,
    /// Features with the nearest decoder directions.
    pub neighbors: Result<Vec<Neighbor>, String>,
    /// How often it fires how strongly.
    pub histogram: Result<Vec<Bin>, String>,
    /// Features that fire at the same positions.
    pub coactive: Result<Vec<Coactive>, String>,
    /// Tokens that it promotes, then tokens that it suppresses.
    pub logits: Result<Vec<Word>, String>,
    /// How many tokens have their logit changed by how much.
    pub logit_histogram: Result<Vec<LogitBin>, String>,
}

impl Details {
    /// The strongest positions of a modality, strongest first.
    pub fn strongest_on(&self, modality: Modality) -> Result<Vec<Example>, &str> {
        let strongest = self.strongest.as_deref().map_err(String::as_str)?;
        Ok(strongest.iter().map(|row| row.0).filter(|example| example.modality == modality).collect())
    }
}

/// Examples that are shown together.
#[derive(Clone, Debug, PartialEq)]
pub struct ExampleGroup {
    /// 0: the strongest; from 1 on: octaves below the maximum.
    pub number: u8,
    /// What they have in common.
    pub title: String,
    /// The examples, in the order of the index.
    pub examples: Vec<Example>,
}

impl ExampleGroup {
    /// The groups of a feature, in order.
    pub fn from_examples(examples: &[(u8, Example)]) -> Vec<Self> {
        let same_group = |a: &(u8, Example), b: &(u8, Example)| a.0 == b.0;
        let group = |list: &[(u8, Example)]| {
            let (number, first) = list[0];
            let title = match number {
                0 => "Strongest examples".into(),
                _ => {
                    let low = first.activation.log2().floor().exp2() as f64;
                    format!("Activations from {} to {}", format::real(low), format::real(2.0 * low))
                }
            };
            Self { number, title, examples: list.iter().map(|(_, example)| *example).collect() }
        };
        examples.chunk_by(same_group).map(group).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn octaves_are_named_by_their_bounds() {
        let example = |activation| Example { activation, sample: 0, position: 0, modality: Modality::Text };
        let examples = [(0, example(5.0)), (0, example(4.5)), (1, example(4.5)), (3, example(1.5))];
        let groups = ExampleGroup::from_examples(&examples);
        let titles: Vec<_> =
            groups.iter().map(|group| (group.number, group.title.as_str(), group.examples.len())).collect();
        let octaves = [(1, "Activations from 4.00 to 8.00", 1), (3, "Activations from 1.00 to 2.00", 1)];
        assert_eq!(titles, [&[(0, "Strongest examples", 2)], &octaves[..]].concat());
        assert!(ExampleGroup::from_examples(&[]).is_empty());
    }
}
