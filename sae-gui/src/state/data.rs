//! What the loader hands over and the views show: a run, its index, a sample with its tokens and pictures. Plain data.

use sae_core::analysis::index::{Bin, Coactive, Example, FeatureRow, Neighbor, Word};
use sae_core::analysis::labels::Labels;
use sae_core::autoencoder::sparse::Sparse;
use sae_core::store::sample::Modality;
use sae_core::train::StepLog;
use serde_json::Value;
use std::path::PathBuf;

/// A run that was opened.
#[derive(Clone, Debug, Default)]
pub struct RunInfo {
    /// The folder, absolute.
    pub root: PathBuf,
    /// Checkpoint that the activations come from; empty if `run.json` does not say.
    pub model: String,
    /// Samples stored.
    pub samples: u64,
    /// Token positions stored.
    pub tokens: u64,
    /// The autoencoder whose features these are.
    pub sae: String,
    /// All autoencoders that have an index.
    pub indexed: Vec<String>,
    /// Above which activation the index counts a feature as active for its weights, where the run tells.
    pub threshold: Option<f64>,
}

/// A run with the features of one autoencoder.
#[derive(Clone, Debug, Default)]
pub struct OpenedRun {
    /// The run.
    pub info: RunInfo,
    /// The features, as `features.parquet` lists them.
    pub rows: Vec<FeatureRow>,
    /// What is written about them, and why it cannot be read, if so.
    pub labels: (Labels, Option<String>),
    /// Who writes.
    pub author: String,
}

/// What fires where in one sample: a row a token, in their order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Active {
    /// Features and activations of every token.
    pub rows: Sparse,
}

impl Active {
    /// How strongly a feature fires on each token.
    pub fn of(&self, feature: u32) -> Vec<f32> {
        (0..self.rows.rows()).map(|row| self.at(row, feature)).collect()
    }

    /// How strongly a feature fires on one token.
    pub fn at(&self, row: usize, feature: u32) -> f32 {
        let (features, values) = self.rows.row(row);
        features.binary_search(&feature).map_or(0.0, |at| values[at])
    }

    /// The features that fire most on some tokens, each with its largest activation there and how many of them it is on.
    pub fn strongest(&self, tokens: impl Iterator<Item = usize>, count: usize) -> Vec<Strong> {
        let mut found = std::collections::BTreeMap::<u32, Strong>::new();
        for token in tokens.filter(|token| *token < self.rows.rows()) {
            let (features, values) = self.rows.row(token);
            for (feature, value) in features.iter().zip(values) {
                let strong = found.entry(*feature).or_insert(Strong { feature: *feature, max: 0.0, tokens: 0 });
                strong.max = strong.max.max(*value);
                strong.tokens += 1;
            }
        }
        let mut found: Vec<_> = found.into_values().collect();
        found.sort_by(|a, b| b.max.total_cmp(&a.max).then(a.feature.cmp(&b.feature)));
        found.truncate(count);
        found
    }

    /// Bytes that it holds, roughly.
    pub fn bytes(&self) -> usize {
        8 * (self.rows.rows() + self.rows.len())
    }
}

/// A feature that fires on some tokens.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Strong {
    /// Which.
    pub feature: u32,
    /// Its largest activation on them.
    pub max: f32,
    /// On how many of them it fires.
    pub tokens: usize,
}

/// Why a sample scores what it scores: for a score its parts, the largest first.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reason {
    /// Why its parts cannot be told.
    pub missing: Option<String>,
    /// The scores that these parts belong to.
    pub score: String,
    /// What the parts are, in a sentence.
    pub meaning: &'static str,
    /// The parts.
    pub parts: Vec<Contribution>,
}

/// A part of a score.
#[derive(Clone, Debug, PartialEq)]
pub struct Contribution {
    /// What it adds.
    pub adds: f64,
    /// The features that it is, `true` if they fire in the sample.
    pub features: Vec<(u32, bool)>,
}

/// What `run.json`, logs and evaluations say of a run.
#[derive(Clone, Debug)]
pub struct Report {
    /// `run.json`, or why it cannot be read.
    pub record: Result<Vec<(String, Value)>, String>,
    /// Training curves by autoencoder.
    pub logs: Vec<(String, Result<Vec<StepLog>, String>)>,
    /// What `sae eval` found, by autoencoder.
    pub evaluations: Vec<(String, Result<Value, String>)>,
}

/// What the index says of one feature beside its row; each table can be missing on its own, with the reason.
#[derive(Clone, Debug)]
pub struct Details {
    /// Examples, each with its group.
    pub examples: Result<Vec<(u8, Example)>, String>,
    /// Features that point the same way.
    pub neighbors: Result<Vec<Neighbor>, String>,
    /// How often it fires how strongly.
    pub histogram: Result<Vec<Bin>, String>,
    /// Features that fire together with it.
    pub coactive: Result<Vec<Coactive>, String>,
    /// Tokens that it promotes, then tokens that it suppresses.
    pub words: Result<Vec<Word>, String>,
}

/// Examples of one interval of activation.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    /// 0: the strongest; from 1 on octaves below the maximum.
    pub number: u8,
    /// What it is, for people.
    pub title: String,
    /// Best first.
    pub examples: Vec<Example>,
}

impl Group {
    /// The groups of a feature, in order.
    pub fn of(examples: &[(u8, Example)]) -> Vec<Self> {
        let same = |a: &(u8, Example), b: &(u8, Example)| a.0 == b.0;
        let group = |list: &[(u8, Example)]| {
            let (number, first) = list[0];
            let title = match number {
                0 => "Strongest".into(),
                _ => {
                    let low = first.activation.log2().floor().exp2() as f64;
                    format!("From {} to {}", super::format::real(low), super::format::real(2.0 * low))
                }
            };
            Self { number, title, examples: list.iter().map(|(_, example)| *example).collect() }
        };
        examples.chunk_by(same).map(group).collect()
    }
}

/// A picture, decoded and made small.
#[derive(Clone, PartialEq)]
pub struct Picture {
    /// Width and height of `rgba`.
    pub size: [usize; 2],
    /// Four bytes a pixel, alpha not multiplied in.
    pub rgba: Vec<u8>,
}

/// A position of a sample.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenView {
    /// Position in the sample.
    pub position: u32,
    /// Kind of input.
    pub modality: Modality,
    /// Its text.
    pub piece: String,
    /// Without content of its own.
    pub special: bool,
    /// Which of the sample's pictures it is a patch of.
    pub image: Option<usize>,
    /// The patch: `[x0, y0, x1, y1]`, each 0 to 1.
    pub rect: Option<[f32; 4]>,
}

/// A sample as examples show it.
#[derive(Clone)]
pub struct SampleView {
    /// The data set's own key.
    pub key: String,
    /// Where in the data it stands.
    pub source: String,
    /// Its positions, in order.
    pub tokens: Vec<TokenView>,
    /// Its pictures, or why they cannot be shown.
    pub pictures: Vec<Result<Picture, String>>,
}

impl SampleView {
    /// The token at a position.
    pub fn token(&self, position: u32) -> Option<&TokenView> {
        let usual = self.tokens.get(position as usize).filter(|token| token.position == position);
        usual.or_else(|| self.tokens.iter().find(|token| token.position == position))
    }

    /// Its words with content, on one line.
    pub fn words(&self) -> String {
        let content = self.tokens.iter().filter(|token| token.modality == Modality::Text && !token.special);
        let text: String = content.map(|token| super::excerpt::words(&token.piece)).collect();
        text.trim().to_owned()
    }

    /// Bytes that it holds, roughly.
    pub fn bytes(&self) -> usize {
        let pixels = |picture: &Result<Picture, String>| picture.as_ref().map_or(0, |picture| picture.rgba.len());
        let text: usize = self.tokens.iter().map(|token| size_of::<TokenView>() + token.piece.len()).sum();
        size_of::<Self>() + text + self.pictures.iter().map(pixels).sum::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_strongest_features_of_some_tokens() {
        let dense = [0.0, 2.0, 0.5, 0.0, 1.0, 3.0];
        let active = Active { rows: Sparse::from_dense(&dense, 3) };
        let strong = |tokens: &[usize]| {
            let found = active.strongest(tokens.iter().copied(), 2);
            found.iter().map(|s| (s.feature, s.max, s.tokens)).collect::<Vec<_>>()
        };
        assert_eq!(strong(&[0, 1]), [(2, 3.0, 2), (1, 2.0, 2)]);
        assert_eq!(strong(&[0, 77]), [(1, 2.0, 1), (2, 0.5, 1)]);
        assert_eq!(active.of(2), [0.5, 3.0]);
    }

    #[test]
    fn octaves_are_named_by_their_bounds() {
        let example = |activation| Example { activation, sample: 0, position: 0, modality: Modality::Text };
        let groups = Group::of(&[(0, example(5.0)), (0, example(4.5)), (1, example(4.5)), (3, example(1.5))]);
        let titles: Vec<_> =
            groups.iter().map(|group| (group.number, group.title.as_str(), group.examples.len())).collect();
        assert_eq!(titles, [(0, "Strongest", 2), (1, "From 4.00 to 8.00", 1), (3, "From 1.00 to 2.00", 1)]);
        assert!(Group::of(&[]).is_empty());
    }
}
