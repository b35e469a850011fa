//! Words and features: for every common word of the texts, the image feature that tells the images of its samples from the
//! others, and the text feature that fires on it most exclusively. This is how features are found that a person recognizes
//! in words and in patches. The words are those of the samples' own texts, right or wrong; no labels are used.
//!
//! The two sides are measured separately, because a feature that fires on a word seldom fires on the patches that show it
//! as well. Either side is compared with chance: the image side with shuffled texts, the text side with how often the word
//! occurs.

use crate::definition::{IMAGE, TEXT, side};
use crate::pooling::PooledStore;
use crate::scores::random;
use crate::{Error, Result};
use sae_core::analysis::pass::{Block, Observer};
use sae_core::store::Store;
use sae_core::store::sample::{Modality, Token};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// A word counts if at least this many different texts have it.
pub const FEWEST_TEXTS: usize = 5;
/// Words that are looked at: the most common ones.
pub const MOST_WORDS: usize = 256;
/// How often the texts are shuffled among the images. An image feature that exceeds all shuffles has `p < 1 / (SHUFFLES + 1)`
/// for its word, all features together.
pub const SHUFFLES: u64 = 20;
/// Share of its activation that a text feature spends on a word if it is to stand for it.
pub const EXCLUSIVE: f64 = 0.5;

/// The common words of a store's texts, and where they stand.
#[derive(Clone, Debug, PartialEq)]
pub struct Vocabulary {
    words: Vec<String>,
    /// The words of every text, ascending.
    of_text: Vec<Vec<u32>>,
    /// The text of every sample: samples with equal words in equal order share one.
    text_of: Vec<usize>,
    /// `(sample, position)` of a token to its word.
    at: BTreeMap<(u32, u32), u32>,
}

impl Vocabulary {
    /// Reads the tokens of a store, one part at a time.
    ///
    /// # Errors
    /// A token table that cannot be read.
    pub fn read(store: &Store) -> Result<Self> {
        let mut texts = Vec::new();
        for (number, part) in store.parts()?.into_iter().enumerate() {
            let table = store.token_table(number)?;
            for sample in part {
                texts.push(spell(&table.tokens(table.rows(sample)?)?));
            }
        }
        Ok(Self::new(&texts))
    }

    /// From the words of every sample by position, as [`spell`] finds them.
    pub fn new(samples: &[Vec<(u32, String)>]) -> Self {
        let mut texts: BTreeMap<Vec<&str>, usize> = BTreeMap::new();
        let text_of: Vec<usize> = samples
            .iter()
            .map(|words| {
                let next = texts.len();
                *texts.entry(words.iter().map(|(_, word)| word.as_str()).collect()).or_insert(next)
            })
            .collect();
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for words in texts.keys() {
            words.iter().collect::<BTreeSet<_>>().into_iter().for_each(|word| *counts.entry(word).or_default() += 1);
        }
        let mut common: Vec<(&str, usize)> = counts.into_iter().filter(|(_, texts)| *texts >= FEWEST_TEXTS).collect();
        common.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
        common.truncate(MOST_WORDS);
        let numbers: BTreeMap<&str, u32> = common.iter().map(|(word, _)| *word).zip(0..).collect();
        let mut of_text = vec![Vec::new(); texts.len()];
        for (words, text) in &texts {
            let words: BTreeSet<u32> = words.iter().filter_map(|word| numbers.get(word).copied()).collect();
            of_text[*text] = words.into_iter().collect();
        }
        let mut at = BTreeMap::new();
        for (sample, words) in (0..).zip(samples) {
            let known = words.iter().filter_map(|(position, word)| Some((*position, *numbers.get(word.as_str())?)));
            at.extend(known.map(|(position, word)| ((sample, position), word)));
        }
        Self { words: common.into_iter().map(|(word, _)| word.to_owned()).collect(), of_text, text_of, at }
    }

    /// The words, the most common first.
    pub fn words(&self) -> &[String] {
        &self.words
    }

    /// The text of a sample: equal for samples with equal texts.
    pub fn text_of(&self, sample: u32) -> usize {
        self.text_of[sample as usize]
    }

    /// The words of a sample's text after a shuffle of the texts; shuffle 0 leaves them in place. Whole texts change
    /// places: samples with the same text still share one, as images of one thing do.
    fn shuffled(&self, shuffle: u64) -> Vec<&[u32]> {
        let mut order: Vec<usize> = (0..self.of_text.len()).collect();
        if shuffle > 0 {
            order.sort_by(|a, b| {
                let draw = |text: &usize| random(&text.to_string(), shuffle);
                draw(a).total_cmp(&draw(b)).then(a.cmp(b))
            });
        }
        self.text_of.iter().map(|text| self.of_text[order[*text]].as_slice()).collect()
    }
}

/// The words of a sample's text with the positions of their tokens; a token belongs to the first word that it touches. A
/// word is a run of letters and digits, in lower case, and may be spread over several tokens; template and other special
/// tokens separate words. In scripts that do not separate words, a run is a whole phrase.
pub fn spell(tokens: &[Token]) -> Vec<(u32, String)> {
    let (mut found, mut word, mut positions) = (Vec::new(), String::new(), Vec::new());
    let close = |found: &mut Vec<(u32, String)>, word: &mut String, positions: &mut Vec<u32>| {
        let word = std::mem::take(word);
        found.extend(positions.drain(..).map(|position| (position, word.clone())));
    };
    for token in tokens {
        if token.modality != Modality::Text || token.special {
            close(&mut found, &mut word, &mut positions);
            continue;
        }
        for letter in token.piece.chars() {
            if !letter.is_alphanumeric() {
                close(&mut found, &mut word, &mut positions);
                continue;
            }
            let last = positions.last().or(found.last().map(|(position, _)| position));
            if last != Some(&token.position) {
                positions.push(token.position);
            }
            word.extend(letter.to_lowercase());
        }
    }
    close(&mut found, &mut word, &mut positions);
    found
}

/// Observes a pass: how much of its activation on text every feature spends on every word.
pub struct WordActivations<'a> {
    vocabulary: &'a Vocabulary,
    /// `[d_sae, words + 1]`; the last column has all other text positions, those of the template among them.
    sums: Vec<f64>,
    /// Text positions of each word, and all others.
    positions: Vec<u64>,
}

impl<'a> WordActivations<'a> {
    /// None yet, of `d_sae` features. Takes `8 d_sae (words + 1)` bytes.
    pub fn new(vocabulary: &'a Vocabulary, d_sae: usize) -> Self {
        let width = vocabulary.words.len() + 1;
        Self { vocabulary, sums: vec![0.0; d_sae * width], positions: vec![0; width] }
    }

    /// The feature that spends the largest share of its activation on a word, among those that `eligible` admits; of
    /// equals the lower number.
    fn most_exclusive(&self, word: usize, eligible: impl Fn(usize) -> bool) -> Option<TextFeature> {
        let width = self.positions.len();
        let share = |sums: &[f64]| sums[word] / sums.iter().sum::<f64>();
        let features = self.sums.chunks_exact(width).enumerate().filter(|(k, sums)| sums[word] > 0.0 && eligible(*k));
        let (feature, share) =
            features.map(|(k, sums)| (k, share(sums))).reduce(|best, new| if new.1 > best.1 { new } else { best })?;
        let base = self.positions[word] as f64 / self.positions.iter().sum::<u64>() as f64;
        Some(TextFeature { feature: feature as u32, share, base })
    }
}

impl Observer for WordActivations<'_> {
    fn observe(&mut self, block: &Block) -> sae_core::Result<()> {
        let width = self.positions.len();
        for (r, row) in block.positions() {
            if side(block.tokens.modality[row]) != Some(TEXT) {
                continue;
            }
            let place = (block.tokens.sample[row], block.tokens.position[row]);
            let word = self.vocabulary.at.get(&place).map_or(width - 1, |word| *word as usize);
            self.positions[word] += 1;
            let (features, values) = block.active.row(r);
            for (feature, z) in features.iter().zip(values) {
                self.sums[*feature as usize * width + word] += f64::from(*z);
            }
        }
        Ok(())
    }
}

/// The image feature of a word.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct ImageFeature {
    /// Its number.
    pub feature: u32,
    /// Pearson's correlation, over samples, of `ln(1 + z)`, `z` being its largest activation on the image, with whether
    /// the text has the word: 1 if it fires, always equally strongly, on the images of the word and on no others.
    pub correlation: f64,
    /// The largest correlation with the word that any feature has in [`SHUFFLES`] shuffles of the texts.
    pub chance: f64,
}

/// The text feature of a word.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct TextFeature {
    /// Its number.
    pub feature: u32,
    /// Share of its activation on all text positions, template included, that falls on the word.
    pub share: f64,
    /// Share of all text positions that are the word's: what a feature has that fires everywhere alike.
    pub base: f64,
}

/// A word with its features.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct WordFeatures {
    /// The word, in lower case.
    pub word: String,
    /// Samples whose text has it.
    pub samples: u64,
    /// The image feature with the largest correlation.
    pub image: ImageFeature,
    /// The text feature with the largest share.
    pub text: TextFeature,
}

impl WordFeatures {
    /// Whether both sides stand for the word: the image feature exceeds chance, the text feature spends [`EXCLUSIVE`] of its
    /// activation on it or more.
    pub fn is_recognizable(&self) -> bool {
        self.image.correlation > self.image.chance && self.text.share >= EXCLUSIVE
    }
}

/// The features of every word, the largest correlation first. Words without a feature on one side are left out.
///
/// Features have to fire in [`FEWEST_TEXTS`] samples at least, on the side that counts. Takes `8 d_sae words` bytes, and a
/// reading of `pooled` for every shuffle.
///
/// # Errors
/// What was put aside of the samples cannot be read.
///
/// # Panics
/// If `pooled` has other samples than the vocabulary.
pub fn word_features(pooled: &PooledStore, on_text: &WordActivations) -> Result<Vec<WordFeatures>> {
    let vocabulary = on_text.vocabulary;
    assert_eq!(pooled.samples(), vocabulary.text_of.len(), "the samples of the vocabulary");
    let best = strongest_correlations(vocabulary, pooled, 0)?;
    let mut chance = vec![0.0f64; vocabulary.words.len()];
    for shuffle in 1..=SHUFFLES {
        let shuffled = strongest_correlations(vocabulary, pooled, shuffle)?;
        chance.iter_mut().zip(shuffled).for_each(|(chance, best)| *chance = chance.max(best.map_or(0.0, |best| best.1)));
    }
    let mut samples = vec![0; vocabulary.words.len()];
    vocabulary.shuffled(0).into_iter().flatten().for_each(|word| samples[*word as usize] += 1);
    let fires_on_text = |k: usize| pooled.active()[k][TEXT] as usize >= FEWEST_TEXTS;
    let mut found: Vec<WordFeatures> = (0..vocabulary.words.len())
        .filter_map(|word| {
            let (feature, correlation) = best[word]?;
            Some(WordFeatures {
                word: vocabulary.words[word].clone(),
                samples: samples[word],
                image: ImageFeature { feature, correlation, chance: chance[word] },
                text: on_text.most_exclusive(word, fires_on_text)?,
            })
        })
        .collect();
    found.sort_by(|a, b| b.image.correlation.total_cmp(&a.image.correlation).then(a.word.cmp(&b.word)));
    Ok(found)
}

/// Of every word the image feature with the largest correlation, and that correlation; of equals the lower number.
fn strongest_correlations(
    vocabulary: &Vocabulary,
    pooled: &PooledStore,
    shuffle: u64,
) -> Result<Vec<Option<(u32, f64)>>> {
    let (words, features) = (vocabulary.words.len(), pooled.active().len());
    let texts = vocabulary.shuffled(shuffle);
    let (mut n, mut with_word) = (0u64, vec![0u64; words]);
    // Of u = ln(1 + z): its sum, the sum of its squares, and the sum over the samples that have a word.
    let (mut sums, mut squares, mut products) = (vec![0f64; features], vec![0f64; features], vec![0f64; features * words]);
    pooled.each(|number, sample| {
        if sample.content[IMAGE] == 0 {
            return Ok(());
        }
        n += 1;
        texts[number].iter().for_each(|word| with_word[*word as usize] += 1);
        for active in sample.features.iter().filter(|active| active.max[IMAGE] > 0.0) {
            let (k, u) = (active.feature as usize, f64::from(active.max[IMAGE]).ln_1p());
            sums[k] += u;
            squares[k] += u * u;
            texts[number].iter().for_each(|word| products[k * words + *word as usize] += u);
        }
        Ok::<_, Error>(())
    })?;
    let n = n as f64;
    let correlation = |k: usize, word: usize| {
        let share = with_word[word] as f64 / n;
        let deviations = (squares[k] / n - (sums[k] / n).powi(2)) * share * (1.0 - share);
        (products[k * words + word] / n - sums[k] / n * share) / deviations.sqrt()
    };
    let eligible: Vec<usize> =
        (0..features).filter(|k| pooled.active()[*k][IMAGE] as usize >= FEWEST_TEXTS && squares[*k] > 0.0).collect();
    let best = |word: usize| {
        let correlations = eligible.iter().map(|k| (*k as u32, correlation(*k, word))).filter(|(_, r)| r.is_finite());
        correlations.reduce(|best, new| if new.1 > best.1 { new } else { best })
    };
    Ok((0..words).map(best).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pooling::SamplePooler;
    use sae_core::autoencoder::sparse::Sparse;
    use sae_core::store::TokenColumns;
    use sae_core::store::sample::Role;

    const THINGS: [&str; 4] = ["boat", "flag", "hand", "tree"];
    /// Features 0 to 3 fire on the patches of a thing, 4 on all patches, 5 to 8 on the word, 9 on all words.
    const FEATURES: usize = 10;

    fn token(position: u32, text: &str) -> Token {
        Token {
            position,
            modality: Modality::Text,
            token_id: 0,
            piece: text.into(),
            role: Role::Assistant,
            special: text.starts_with('<'),
            image: None,
            rect: None,
        }
    }

    fn words(texts: &[&str]) -> Vec<(u32, String)> {
        spell(&(0..).zip(texts).map(|(position, text)| token(position, text)).collect::<Vec<_>>())
    }

    #[test]
    fn words_are_put_together_from_their_tokens() {
        let expected = |list: &[(u32, &str)]| list.iter().map(|(p, w)| (*p, w.to_string())).collect::<Vec<_>>();
        let found = words(&["<s>", " Woman", " bow", "ing", ":", " ap", "ology", ",", " O", "'", "Neil", "</s>"]);
        let bowing = [(1, "woman"), (2, "bowing"), (3, "bowing"), (5, "apology"), (6, "apology")];
        assert_eq!(found, expected(&[&bowing[..], &[(8, "o"), (10, "neil")]].concat()));
        // A token with two words belongs to the first; a special token separates words.
        assert_eq!(words(&["red fl", "ag", "<s>", "s"]), expected(&[(0, "red"), (1, "flag"), (3, "s")]));
        assert_eq!(words(&[" ", ":", "<s>"]), []);
    }

    #[test]
    fn a_word_counts_by_its_texts_and_not_by_its_samples() {
        let text = |n: usize| words(&["flag", &format!(" {n}")]);
        let often: Vec<_> = (0..40).map(|n| text(n % (FEWEST_TEXTS - 1))).collect();
        assert!(Vocabulary::new(&often).words().is_empty());
        let many: Vec<_> = (0..FEWEST_TEXTS).map(text).collect();
        assert_eq!(Vocabulary::new(&many).words(), ["flag"]);
    }

    /// Forty samples that each say a thing in other words; the patches of sample `n` show thing `shows(n)`.
    fn found(shows: impl Fn(u32) -> u32) -> Vec<WordFeatures> {
        let samples: Vec<_> =
            (0..40).map(|n| words(&["<image>", &format!("{n}"), &format!(" {}", THINGS[n % 4])])).collect();
        let vocabulary = Vocabulary::new(&samples);
        let mut pooler = SamplePooler::new(samples.len(), FEATURES, 1.0, &std::env::temp_dir()).unwrap();
        let mut on_text = WordActivations::new(&vocabulary, FEATURES);
        for n in 0..samples.len() as u32 {
            let mut dense = vec![0.0; 3 * FEATURES];
            for (row, feature) in [(0, shows(n)), (0, 4), (1, 9), (2, 9), (2, 5 + n % 4)] {
                dense[row * FEATURES + feature as usize] = 1.0 + n as f32 / 100.0;
            }
            let tokens = TokenColumns {
                sample: vec![n; 3],
                position: (0..3).collect(),
                modality: vec![Modality::Image, Modality::Text, Modality::Text],
                role: vec![Role::Assistant; 3],
                special: vec![false; 3],
            };
            let active = Sparse::from_dense(&dense, FEATURES);
            let block = Block { tokens: &tokens, rows: 0..3, shard: 0, hidden: &[], active: &active };
            pooler.observe(&block).unwrap();
            on_text.observe(&block).unwrap();
        }
        word_features(&pooler.finish().unwrap(), &on_text).unwrap()
    }

    #[test]
    fn a_word_finds_the_feature_of_its_patches_and_the_feature_of_its_tokens() {
        let found = found(|n| n % 4);
        assert_eq!(found.len(), THINGS.len());
        for (thing, word) in (0..).zip(THINGS) {
            let features = found.iter().find(|features| features.word == word).unwrap();
            assert_eq!((features.image.feature, features.text.feature), (thing, 5 + thing));
            assert_eq!((features.samples, features.text.share, features.text.base), (10, 1.0, 0.125));
            // Not 1, since the feature does not fire on all of its images equally strongly.
            assert!(features.image.correlation > 0.97 && features.image.chance < 0.7, "{features:?}");
            assert!(features.is_recognizable());
        }
        assert!(found.is_sorted_by(|a, b| a.image.correlation >= b.image.correlation));
    }

    #[test]
    fn patches_that_have_nothing_to_do_with_the_words_are_not_recognizable() {
        for features in found(|n| n / 4 % 4) {
            assert!(features.text.share == 1.0 && !features.is_recognizable(), "{features:?}");
        }
    }

    #[test]
    fn a_correlation_is_pearson_s() {
        let found = found(|n| if n < 20 { n % 4 } else { 0 });
        // Feature 3 fires on samples 3, 7, .. 19, and the word stands in those and in 23, 27, .. 39.
        let u = |n: u32| if n < 20 && n % 4 == 3 { (2.0 + f64::from(n) / 100.0).ln() } else { 0.0 };
        let b = |n: u32| f64::from(u8::from(n % 4 == 3));
        let mean = |of: &dyn Fn(u32) -> f64| (0..40).map(of).sum::<f64>() / 40.0;
        let covariance = mean(&|n| u(n) * b(n)) - mean(&u) * mean(&b);
        let variance = |of: &dyn Fn(u32) -> f64| mean(&|n| of(n).powi(2)) - mean(of).powi(2);
        let expected = covariance / (variance(&u) * variance(&b)).sqrt();
        let tree = found.iter().find(|features| features.word == "tree").unwrap();
        assert_eq!(tree.image.feature, 3);
        assert!((tree.image.correlation - expected).abs() < 1e-6, "{} {expected}", tree.image.correlation);
    }
}
