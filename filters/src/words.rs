//! Words and features: for every common word of the texts, the image feature that best distinguishes the images of its
//! samples from others, and the text feature that fires most exclusively on it. This finds features that a person recognizes
//! in words and in patches. The words are those of the samples' own texts, whether right or wrong. No labels are used.
//!
//! The two modalities are measured separately, because a feature that fires on a word seldom also fires on the patches that
//! show it. Both are compared with chance: the image feature with shuffled texts, and the text feature with the frequency of
//! the word.

use crate::definition::{IMAGE, TEXT};
use crate::pooling::PooledStore;
use crate::scores::random;
use crate::top_tokens::{TokenPosition, TopTokens};
use crate::{Error, Result};
use sae_core::analysis::pass::{Block, Observer};
use sae_core::store::Store;
use sae_core::store::sample::{Modality, Token};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// Minimum number of different texts in which a word has to occur.
pub const FEWEST_TEXTS: usize = 5;
/// Number of words that are used. These are the most common ones.
pub const MOST_WORDS: usize = 256;
/// How often the texts are shuffled among the images. An image feature that exceeds all shuffles has `p < 1 / (SHUFFLES + 1)`
/// for its word, over all features together.
pub const SHUFFLES: u64 = 20;
/// Minimum share of a text feature's activation on a word for the feature to represent it.
pub const EXCLUSIVE: f64 = 0.5;
/// Number of features with the best statistic for a word that are compared by their strongest positions.
pub const CANDIDATES: usize = 5;
/// Number of strongest positions that are compared, each in another text.
pub const STRONGEST: usize = 8;

/// The common words of the texts in a store, and their positions.
#[derive(Clone, Debug, PartialEq)]
pub struct Vocabulary {
    words: Vec<String>,
    /// The words of every text, in ascending order.
    of_text: Vec<Vec<u32>>,
    /// The text of every sample. Samples with the same words in the same order share a text.
    text_of: Vec<usize>,
    /// The word of a token, by `(sample, position)`.
    at: BTreeMap<(u32, u32), u32>,
}

impl Vocabulary {
    /// Reads the tokens of a store, one part at a time.
    ///
    /// # Errors
    /// A token table cannot be read.
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

    /// Builds the vocabulary from the words of every sample with their positions ([`spell`]).
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

    /// The words, in descending order of frequency.
    pub fn words(&self) -> &[String] {
        &self.words
    }

    /// The first [`STRONGEST`] positions in samples with different texts, because data often has several samples with the same
    /// text.
    pub fn one_per_text<'p>(&self, positions: &'p [TokenPosition]) -> impl Iterator<Item = &'p TokenPosition> {
        let mut texts = BTreeSet::new();
        positions.iter().filter(move |position| texts.insert(self.text_of[position.sample as usize])).take(STRONGEST)
    }

    /// How many of a feature's strongest positions agree with a word: on text, the token is part of the word; on images, the
    /// sample's text contains the word.
    fn agreement(&self, positions: &[TokenPosition], word: u32) -> Agreement {
        let has = |position: &TokenPosition| match position.side as usize {
            TEXT => self.at.get(&(position.sample, position.position)) == Some(&word),
            _ => self.of_text[self.text_of[position.sample as usize]].binary_search(&word).is_ok(),
        };
        let mut found = Agreement { with_word: 0, of: 0 };
        for position in self.one_per_text(positions) {
            found.of += 1;
            found.with_word += u32::from(has(position));
        }
        found
    }

    /// The words of each sample's text after a shuffle of the texts. Shuffle 0 leaves them unchanged. Whole texts are permuted,
    /// so samples that share a text still do so afterwards.
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

/// The words of a sample's text with the positions of their tokens. A word is a run of letters and digits, in lowercase, and
/// may consist of several tokens. A token with parts of several words belongs to the first one. Template and other special
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

/// Measures, during a pass, how the activation of every feature on text is distributed over the words.
pub struct WordActivations<'a> {
    vocabulary: &'a Vocabulary,
    /// Sums of activations, `[d_sae, words + 1]`. The last column has all other text positions, including the template.
    sums: Vec<f64>,
    /// The number of text positions of each word, and of all others.
    positions: Vec<u64>,
}

impl<'a> WordActivations<'a> {
    /// Sums of zero for `d_sae` features. Takes `8 d_sae (words + 1)` bytes.
    pub fn new(vocabulary: &'a Vocabulary, d_sae: usize) -> Self {
        let width = vocabulary.words.len() + 1;
        Self { vocabulary, sums: vec![0.0; d_sae * width], positions: vec![0; width] }
    }

    /// The share of each feature's activation that falls on a word, in descending order, without shares of zero.
    fn shares(&self, word: usize) -> Vec<(u32, f64)> {
        let width = self.positions.len();
        let features = (0..).zip(self.sums.chunks_exact(width)).filter(|(_, sums)| sums[word] > 0.0);
        let mut shares: Vec<(u32, f64)> =
            features.map(|(feature, sums)| (feature, sums[word] / sums.iter().sum::<f64>())).collect();
        shares.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        shares
    }

    /// The share of all text positions that belong to a word.
    fn base(&self, word: usize) -> f64 {
        self.positions[word] as f64 / self.positions.iter().sum::<u64>() as f64
    }
}

impl Observer for WordActivations<'_> {
    fn observe(&mut self, block: &Block) -> sae_core::Result<()> {
        let width = self.positions.len();
        for (r, row) in block.positions() {
            if block.tokens.modality[row] != Modality::Text {
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

/// How many of a feature's strongest positions, each in another text, agree with a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Agreement {
    /// Number of positions that agree.
    pub with_word: u32,
    /// Number of positions, at most [`STRONGEST`].
    pub of: u32,
}

impl Agreement {
    fn share(self) -> f64 {
        f64::from(self.with_word) / f64::from(self.of.max(1))
    }
}

/// The image feature that represents a word.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct ImageFeature {
    /// Its number.
    pub feature: u32,
    /// Pearson's correlation, over samples, of the feature's largest activation on the image with the presence of the word in
    /// the text. It is 1 if the feature fires equally strongly on all images of the word, and on no others.
    pub correlation: f64,
    /// The largest correlation of any feature with the word in [`SHUFFLES`] shuffles of the texts.
    pub chance: f64,
    /// How many of the feature's strongest patches are in images whose text has the word.
    pub strongest: Agreement,
}

/// The text feature that represents a word.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct TextFeature {
    /// Its number.
    pub feature: u32,
    /// The share of the feature's activation on all text positions, including the template, that falls on the word.
    pub share: f64,
    /// The share of all text positions that belong to the word. This is the share of a feature that fires equally everywhere.
    pub base: f64,
    /// How many of the feature's strongest positions are tokens of the word.
    pub strongest: Agreement,
}

/// A word with its features.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct WordFeatures {
    /// The word, in lowercase.
    pub word: String,
    /// Number of samples whose text has the word.
    pub samples: u64,
    /// The image feature.
    pub image: ImageFeature,
    /// The text feature.
    pub text: TextFeature,
}

impl WordFeatures {
    /// Whether both features represent the word: the image feature exceeds chance, at least a share of [`EXCLUSIVE`] of the text
    /// feature's activation falls on the word, and at least half of the strongest positions of each agree with it.
    pub fn is_recognizable(&self) -> bool {
        let shows = |strongest: Agreement| strongest.share() >= 0.5;
        let exceeds_chance = self.image.correlation > self.image.chance && self.text.share >= EXCLUSIVE;
        exceeds_chance && shows(self.image.strongest) && shows(self.text.strongest)
    }
}

/// The features of every word, in descending order of correlation. Words without a feature in one modality are left out.
///
/// In each modality, the [`CANDIDATES`] best features by correlation or by share that represent the word are compared by their
/// strongest positions, and the one is selected whose positions agree with the word most often. If none represents it, the
/// best one by correlation or share is selected. Features have to fire in at least [`FEWEST_TEXTS`] samples in the modality.
///
/// `strongest` has the strongest positions of the same pass, with a threshold of 0. Takes `8 d_sae words` bytes of memory, and
/// reads `pooled` once for every shuffle.
///
/// # Errors
/// The pooled samples cannot be read.
///
/// # Panics
/// If the samples of `pooled` are not those of the vocabulary.
pub fn word_features(
    pooled: &PooledStore,
    on_text: &WordActivations,
    strongest: &TopTokens,
) -> Result<Vec<WordFeatures>> {
    let vocabulary = on_text.vocabulary;
    assert_eq!(pooled.samples(), vocabulary.text_of.len(), "the samples of the vocabulary");
    let correlations = Correlations::of_texts(vocabulary, pooled, 0)?;
    let mut chance = vec![0.0f64; vocabulary.words.len()];
    for shuffle in 1..=SHUFFLES {
        let shuffled = Correlations::of_texts(vocabulary, pooled, shuffle)?;
        for (word, chance) in chance.iter_mut().enumerate() {
            *chance = shuffled.with(word).map(|(_, r)| r).fold(*chance, f64::max);
        }
    }
    let mut samples = vec![0; vocabulary.words.len()];
    vocabulary.shuffled(0).into_iter().flatten().for_each(|word| samples[*word as usize] += 1);
    let find = |word: usize| {
        let mut on_images: Vec<(u32, f64)> = correlations.with(word).collect();
        on_images.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        let fires_on_text = |feature: u32| pooled.active()[feature as usize][TEXT] as usize >= FEWEST_TEXTS;
        let mut on_text_positions = on_text.shares(word);
        on_text_positions.retain(|(feature, _)| fires_on_text(*feature));
        let agreement = |feature: u32, side: usize| {
            vocabulary.agreement(&strongest.features()[feature as usize].corrected[side], word as u32)
        };
        let (image, correlation) = best(&on_images, |r| r > chance[word], |feature| agreement(feature, IMAGE))?;
        let (text, share) = best(&on_text_positions, |share| share >= EXCLUSIVE, |feature| agreement(feature, TEXT))?;
        Some(WordFeatures {
            word: vocabulary.words[word].clone(),
            samples: samples[word],
            image: ImageFeature {
                feature: image,
                correlation,
                chance: chance[word],
                strongest: agreement(image, IMAGE),
            },
            text: TextFeature { feature: text, share, base: on_text.base(word), strongest: agreement(text, TEXT) },
        })
    };
    let mut found: Vec<WordFeatures> = (0..vocabulary.words.len()).filter_map(find).collect();
    found.sort_by(|a, b| b.image.correlation.total_cmp(&a.image.correlation).then(a.word.cmp(&b.word)));
    Ok(found)
}

/// Selects a feature. `features` is in descending order of a statistic. Among the first [`CANDIDATES`] that represent the word,
/// the one is selected whose strongest positions agree most; if none represents it, the first one. Ties are broken by the
/// statistic.
fn best(
    sorted: &[(u32, f64)],
    stands: impl Fn(f64) -> bool,
    agreement: impl Fn(u32) -> Agreement,
) -> Option<(u32, f64)> {
    let candidates = sorted.iter().take(CANDIDATES).filter(|(_, statistic)| stands(*statistic));
    let compared = candidates.map(|candidate| (*candidate, agreement(candidate.0).share()));
    let winner = compared.reduce(|best, new| if new.1 > best.1 { new } else { best });
    winner.map(|(candidate, _)| candidate).or(sorted.first().copied())
}

/// The sums from which correlations of image features with words are computed.
struct Correlations {
    samples: f64,
    /// The share of samples whose text has each word.
    shares: Vec<f64>,
    /// The features that fire often enough, with the mean and variance of their largest activation on an image.
    features: Vec<(usize, f64, f64)>,
    /// `[d_sae, words]`: sums over the samples whose text has the word.
    products: Vec<f64>,
}

impl Correlations {
    /// Computes the sums for the texts after a shuffle.
    fn of_texts(vocabulary: &Vocabulary, pooled: &PooledStore, shuffle: u64) -> Result<Self> {
        let (words, d_sae) = (vocabulary.words.len(), pooled.active().len());
        let texts = vocabulary.shuffled(shuffle);
        let (mut samples, mut shares, mut products) = (0.0, vec![0.0; words], vec![0.0; d_sae * words]);
        let mut sums = vec![[0.0; 2]; d_sae];
        pooled.each(|number, sample| {
            if sample.content[IMAGE] == 0 {
                return Ok(());
            }
            samples += 1.0;
            texts[number].iter().for_each(|word| shares[*word as usize] += 1.0);
            for active in sample.features.iter().filter(|active| active.max[IMAGE] > 0.0) {
                let (k, z) = (active.feature as usize, f64::from(active.max[IMAGE]));
                sums[k] = [sums[k][0] + z, sums[k][1] + z * z];
                texts[number].iter().for_each(|word| products[k * words + *word as usize] += z);
            }
            Ok::<_, Error>(())
        })?;
        shares.iter_mut().for_each(|share| *share /= samples);
        let fires = |k: &usize| pooled.active()[*k][IMAGE] as usize >= FEWEST_TEXTS;
        let moments = |k: usize| (k, sums[k][0] / samples, sums[k][1] / samples - (sums[k][0] / samples).powi(2));
        Ok(Self { samples, shares, features: (0..d_sae).filter(fires).map(moments).collect(), products })
    }

    /// The correlation of every feature with a word, if both vary.
    fn with(&self, word: usize) -> impl Iterator<Item = (u32, f64)> {
        let share = self.shares[word];
        self.features.iter().filter_map(move |(k, mean, variance)| {
            let covariance = self.products[k * self.shares.len() + word] / self.samples - mean * share;
            let correlation = covariance / (variance * share * (1.0 - share)).sqrt();
            correlation.is_finite().then_some((*k as u32, correlation))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pooling::SamplePooler;
    use sae_core::autoencoder::sparse::Sparse;
    use sae_core::store::TokenColumns;
    use sae_core::store::sample::Role;

    const THINGS: [&str; 4] = ["boat", "flag", "hand", "tree"];
    /// Features 0 to 3 fire on the patches of one object each, 4 on all patches, 5 to 8 on one word each, and 9 on all words.
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
    fn words_are_assembled_from_their_tokens() {
        let expected = |list: &[(u32, &str)]| list.iter().map(|(p, w)| (*p, w.to_string())).collect::<Vec<_>>();
        let found = words(&["<s>", " Woman", " bow", "ing", ":", " ap", "ology", ",", " O", "'", "Neil", "</s>"]);
        let bowing = [(1, "woman"), (2, "bowing"), (3, "bowing"), (5, "apology"), (6, "apology")];
        assert_eq!(found, expected(&[&bowing[..], &[(8, "o"), (10, "neil")]].concat()));
        // A token with two words belongs to the first one. A special token separates words.
        assert_eq!(words(&["red fl", "ag", "<s>", "s"]), expected(&[(0, "red"), (1, "flag"), (3, "s")]));
        assert_eq!(words(&[" ", ":", "<s>"]), []);
    }

    #[test]
    fn words_are_counted_by_texts_and_not_by_samples() {
        let text = |n: usize| words(&["flag", &format!(" {n}")]);
        let often: Vec<_> = (0..40).map(|n| text(n % (FEWEST_TEXTS - 1))).collect();
        assert!(Vocabulary::new(&often).words().is_empty());
        let many: Vec<_> = (0..FEWEST_TEXTS).map(text).collect();
        assert_eq!(Vocabulary::new(&many).words(), ["flag"]);
    }

    /// Forty samples that each name an object in another text. The patches of sample `n` show the object `shows(n)`.
    fn found(shows: impl Fn(u32) -> u32) -> Vec<WordFeatures> {
        let samples: Vec<_> =
            (0..40).map(|n| words(&["<image>", &format!("{n}"), &format!(" {}", THINGS[n % 4])])).collect();
        let vocabulary = Vocabulary::new(&samples);
        let mut pooler = SamplePooler::new(samples.len(), FEATURES, 1.0, &std::env::temp_dir()).unwrap();
        let mut on_text = WordActivations::new(&vocabulary, FEATURES);
        let mut strongest = TopTokens::new(FEATURES, 0.0);
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
            let block = Block::new(&tokens, 0..3, 0, &[], &active);
            pooler.observe(&block).unwrap();
            on_text.observe(&block).unwrap();
            strongest.observe(&block).unwrap();
        }
        word_features(&pooler.finish().unwrap(), &on_text, &strongest).unwrap()
    }

    #[test]
    fn a_word_finds_the_feature_of_its_patches_and_the_feature_of_its_tokens() {
        let found = found(|n| n % 4);
        assert_eq!(found.len(), THINGS.len());
        for (thing, word) in (0..).zip(THINGS) {
            let features = found.iter().find(|features| features.word == word).unwrap();
            assert_eq!((features.image.feature, features.text.feature), (thing, 5 + thing));
            assert_eq!((features.samples, features.text.share, features.text.base), (10, 1.0, 0.125));
            // It is less than 1, because the feature does not fire equally strongly on all of its images.
            assert!(features.image.correlation > 0.97 && features.image.chance < 0.7, "{features:?}");
            let all = Agreement { with_word: STRONGEST as u32, of: STRONGEST as u32 };
            assert_eq!((features.image.strongest, features.text.strongest), (all, all));
            assert!(features.is_recognizable());
        }
        assert!(found.is_sorted_by(|a, b| a.image.correlation >= b.image.correlation));
    }

    #[test]
    fn words_are_not_recognizable_if_patches_are_unrelated() {
        for features in found(|n| n / 4 % 4) {
            assert!(features.text.share == 1.0 && !features.is_recognizable(), "{features:?}");
        }
    }

    #[test]
    fn strongest_positions_decide_between_features_of_a_word() {
        let agreement = |feature: u32| Agreement { with_word: [3, 5, 5, 8][feature as usize], of: 8 };
        let sorted = [(0, 0.9), (1, 0.8), (2, 0.7), (3, 0.1)];
        assert_eq!(best(&sorted, |r| r > 0.5, agreement), Some((1, 0.8)));
        assert_eq!(best(&sorted, |r| r > 0.95, agreement), Some((0, 0.9)), "none stands for the word");
        assert_eq!(best(&[], |_| true, agreement), None);
        let many: Vec<(u32, f64)> = (0..20).map(|n| (n, 1.0)).collect();
        let last = |feature: u32| Agreement { with_word: feature, of: 20 };
        assert_eq!(best(&many, |_| true, last), Some((CANDIDATES as u32 - 1, 1.0)));
    }

    #[test]
    fn correlations_are_those_of_pearson() {
        let found = found(|n| if n < 20 { n % 4 } else { 0 });
        // Feature 3 fires on samples 3, 7, .. 19, and the word occurs in these and in 23, 27, .. 39.
        let u = |n: u32| if n < 20 && n % 4 == 3 { 1.0 + f64::from(n) / 100.0 } else { 0.0 };
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
