//! Words that replace the label of a feature until somebody writes one: the tokens at its strongest text positions, and
//! the words that the texts of its strongest image samples have in common. Neither is a measurement of what the feature means.

use super::Indexer;
use super::lists::{Row, ranks};
use crate::store::run::Run;
use crate::store::sample::Modality;
use crate::store::{Paths, load_samples, token_texts};
use crate::table::{self, Column};
use crate::{Error, Result};
use arrow::array::{Float32Array, RecordBatch, StringArray, UInt8Array};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Tokens listed of each feature.
pub const TYPICAL_TOKENS: usize = 5;
/// Words of the texts of its strongest image samples listed of each feature.
pub const TYPICAL_IMAGE_WORDS: usize = 3;
/// How much larger the share of the strongest image samples that have a word must be than the share of all samples.
pub const EXCESS: f32 = 0.3;
/// A word of the texts counts if at least this many of the strongest image samples have it.
const FEWEST_SAMPLES: usize = 3;

/// A word that replaces a missing label: a row of `words.parquet`.
#[derive(Clone, Debug, PartialEq)]
pub struct TypicalWord {
    /// Text: a token at the feature's strongest text positions. Image: a word of the texts of its strongest image samples.
    pub modality: Modality,
    /// The token's text, trimmed, or the word in lower case.
    pub word: String,
    /// The share of those positions, or samples, that have it.
    pub share: f32,
}

impl Row for TypicalWord {
    const FILE: &'static str = "words.parquet";

    fn columns(rows: &[(u32, Self)]) -> Vec<Column> {
        vec![
            table::column("modality", UInt8Array::from_iter_values(rows.iter().map(|(_, row)| row.modality as u8))),
            table::column("rank", ranks(rows, |a, b| a.modality == b.modality)),
            table::column("word", StringArray::from_iter_values(rows.iter().map(|(_, row)| &row.word))),
            table::column("share", Float32Array::from_iter_values(rows.iter().map(|(_, row)| row.share))),
        ]
    }

    fn read(path: &Path, batch: &RecordBatch, _: usize) -> Result<Vec<Self>> {
        let modality = table::get::<UInt8Array>(path, batch, "modality")?.values();
        let word = table::get::<StringArray>(path, batch, "word")?;
        let share = table::get::<Float32Array>(path, batch, "share")?.values();
        let row = |n: usize| {
            let modality = Modality::try_from(modality[n]).map_err(Error::format(path))?;
            Ok(Self { modality, word: word.value(n).into(), share: share[n] })
        };
        (0..batch.num_rows()).map(row).collect()
    }
}

/// The typical words of every feature of an index: tokens first, then words of the texts of images, each list with the
/// largest share first, ties in the order of the strongest example that has the word. Fractions of characters are left out.
///
/// # Errors
/// A token table or the table of samples cannot be read.
pub fn typical_words(run: &Run, index: &Indexer) -> Result<Vec<Vec<TypicalWord>>> {
    let positions = index.strongest.iter().flat_map(|strongest| strongest.on(Modality::Text));
    let wanted: BTreeSet<(u32, u32)> = positions.map(|example| (example.sample, example.position)).collect();
    let tokens = token_texts(run, &wanted)?;
    let Texts { of_samples: texts, samples_with, whole } = Texts::read(run)?;
    let features = index.strongest.iter().map(|strongest| {
        let on_text = strongest.on(Modality::Text);
        let at = on_text.iter().filter_map(|example| tokens.get(&(example.sample, example.position)));
        let readable = |token: &&str| !token.is_empty() && !token.starts_with("<0x");
        let mut found = counted(at.map(|token| token.trim()).filter(readable));
        found.truncate(TYPICAL_TOKENS);
        let typical = |modality, total: usize| {
            move |(word, count): (&str, usize)| TypicalWord {
                modality,
                word: word.to_owned(),
                share: count as f32 / total.max(1) as f32,
            }
        };
        let mut rows: Vec<TypicalWord> = found.into_iter().map(typical(Modality::Text, on_text.len())).collect();
        let on_image = strongest.on(Modality::Image);
        let their_texts = on_image.iter().filter_map(|example| texts.get(example.sample as usize)).flatten();
        let usual = |word: &str| samples_with.get(word).map_or(0.0, |n| *n as f32 / whole as f32);
        let words = counted(their_texts.map(String::as_str)).into_iter().filter(|(word, count)| {
            *count >= FEWEST_SAMPLES && *count as f32 / on_image.len() as f32 - usual(word) >= EXCESS
        });
        rows.extend(words.take(TYPICAL_IMAGE_WORDS).map(typical(Modality::Image, on_image.len())));
        rows
    });
    Ok(features.collect())
}

/// The words of the texts of samples.
struct Texts {
    /// The words of each sample; of a piece, those of all paths that lead through it.
    of_samples: Vec<BTreeSet<String>>,
    /// The number of whole samples that have a word.
    samples_with: BTreeMap<String, usize>,
    /// The number of whole samples.
    whole: usize,
}

impl Texts {
    fn read(run: &Run) -> Result<Self> {
        let samples = load_samples(run)?;
        let paths = Paths::from_samples(&samples).map_err(Error::format(&run.samples()))?;
        let mut of_samples: Vec<BTreeSet<String>> = samples.iter().map(|sample| words_of(&sample.text)).collect();
        let before = |sample: usize| paths.parent(sample as u32).map(|parent| parent as usize);
        for (sample, parent) in (0..samples.len()).filter_map(|sample| Some((sample, before(sample)?))) {
            let words = of_samples[parent].clone();
            of_samples[sample].extend(words);
        }
        let (mut samples_with, mut whole) = (BTreeMap::<String, usize>::new(), 0);
        for (words, _) in of_samples.iter().zip(0..).filter(|(_, sample)| paths.is_whole(*sample)) {
            whole += 1;
            words.iter().for_each(|word| *samples_with.entry(word.clone()).or_default() += 1);
        }
        // The image is in the prompt, and what is said about it in the answers.
        for (sample, parent) in (0..samples.len()).rev().filter_map(|sample| Some((sample, before(sample)?))) {
            let words = of_samples[sample].clone();
            of_samples[parent].extend(words);
        }
        Ok(Self { of_samples, samples_with, whole })
    }
}

/// Counts how often each word occurs. The most frequent words come first; words with equal counts keep the order in which
/// they first occur.
fn counted<'a>(words: impl Iterator<Item = &'a str>) -> Vec<(&'a str, usize)> {
    let mut counts: Vec<(&str, usize)> = Vec::new();
    for word in words {
        match counts.iter_mut().find(|(known, _)| *known == word) {
            Some((_, count)) => *count += 1,
            None => counts.push((word, 1)),
        }
    }
    counts.sort_by_key(|(_, count)| Reverse(*count));
    counts
}

/// The words of a text: runs of letters and digits, in lower case.
fn words_of(text: &str) -> BTreeSet<String> {
    text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).map(str::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::index::Example;
    use crate::store::sample::{Piece, Role, Sample, Token};
    use crate::store::{Hook, Part, StoreDtype, StoreSpec, StoreWriter};

    /// Sample `n` shows a thing and says so; every third shows a boat. In pieces, an even sample shows it, and the next one says so.
    fn run(dir: &Path, pieces: bool) -> Run {
        let run = Run::create(dir).unwrap();
        let sample = |n: u32| {
            let row = if pieces { n / 2 } else { n };
            let thing = if row.is_multiple_of(3) { " boat" } else { " tree" };
            let token = |position: u32, piece: &str| Token {
                position,
                modality: Modality::Text,
                token_id: 0,
                piece: piece.into(),
                role: Role::Assistant,
                special: false,
                image: None,
                rect: None,
            };
            let [key, source] = Default::default();
            let is_prompt = pieces && n.is_multiple_of(2);
            let text = if is_prompt { "What?".to_owned() } else { format!("The{thing} of {row}") };
            let parent = (!n.is_multiple_of(2)).then(|| n - 1);
            let piece = pieces.then(|| Piece { parent, branch: n.to_string(), is_critique: false });
            let sample =
                Sample { id: n.to_string(), key, text, images: vec![], source, meta: serde_json::Value::Null, piece };
            (sample, vec![token(0, "The"), token(1, thing)])
        };
        let spec = StoreSpec {
            model: "m".into(),
            architecture: "m".into(),
            hooks: vec![Hook::block(0)],
            d_in: 1,
            dtype: StoreDtype::F32,
            fingerprint: "f".into(),
            slice: None,
            pieces,
            critiques: false,
            arguments: serde_json::Value::Null,
        };
        let mut writer = StoreWriter::open(&run, spec).unwrap();
        let (rows, count) = (12, if pieces { 24 } else { 12 });
        let samples: Vec<_> = (0..count).map(sample).collect();
        let activations = vec![vec![0.0; 2 * samples.len()]];
        writer.write_part(&Part { samples, activations, source_rows: rows, skipped: vec![] }).unwrap();
        writer.finish().unwrap();
        run
    }

    #[test]
    fn tokens_and_shared_words_of_texts_stand_in_for_a_label() {
        let dir = tempfile::tempdir().unwrap();
        let run = run(&dir.path().join("run"), false);
        let mut index = Indexer::new(3);
        let example = |sample: u32, position: u32, modality| Example {
            activation: 9.0 - sample as f32 / 10.0,
            sample,
            position,
            modality,
        };
        // Feature 0 fires on the second token of samples 0, 1, 3 and 4 and on the first of sample 2; feature 1 fires on the
        // images of boats; feature 2 on images of everything.
        for sample in [0, 1, 3, 4] {
            index.strongest[0].offer(example(sample, 1, Modality::Text));
        }
        index.strongest[0].offer(example(2, 0, Modality::Text));
        for sample in 0..12 {
            if sample % 3 == 0 {
                index.strongest[1].offer(example(sample, 0, Modality::Image));
            }
            index.strongest[2].offer(example(sample, 0, Modality::Image));
        }
        let words = typical_words(&run, &index).unwrap();
        let found = |feature: usize| {
            let rows = words[feature].iter();
            rows.map(|row| (row.modality as u8, row.word.as_str(), row.share)).collect::<Vec<_>>()
        };
        assert_eq!(found(0), [(0, "boat", 0.4), (0, "tree", 0.4), (0, "The", 0.2)]);
        assert_eq!(found(1), [(1, "boat", 1.0)], "\"the\" and \"of\" are in every text");
        assert_eq!(found(2), []);
    }

    #[test]
    fn what_answers_say_belongs_to_the_image_of_their_prompt() {
        let dir = tempfile::tempdir().unwrap();
        let run = run(&dir.path().join("run"), true);
        let mut index = Indexer::new(1);
        for sample in (0..24).step_by(6) {
            index.strongest[0].offer(Example { activation: 1.0, sample, position: 0, modality: Modality::Image });
        }
        let words = typical_words(&run, &index).unwrap();
        let rows = words[0].iter().map(|row| (row.modality as u8, row.word.as_str(), row.share));
        assert_eq!(rows.collect::<Vec<_>>(), [(1, "boat", 1.0)], "\"what\" is in every text");
    }
}
