//! Features that a person recognizes: for every common word of the captions, a feature that fires on patches of its images and one
//! that fires on its tokens, with their strongest examples.

use crate::control::{Control, Stage};
use crate::dataset::each_image;
use crate::sae::LoadedSae;
use crate::{Error, Result};
use filters::definition::{IMAGE, TEXT};
use filters::pooling::SamplePooler;
use filters::top_tokens::TopTokens;
use filters::words::{Vocabulary, WordActivations, WordFeatures, word_features};
use harvest::pixels::Picture;
use sae_core::analysis::context::{Context, contexts};
use sae_core::store::sample::{Modality, Sample};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// Number of words that are shown.
const SHOWN: usize = 8;
/// Tokens before the marked one that are shown.
const BEFORE: usize = 9;

/// The features of words.
#[derive(Clone, Debug, Serialize)]
pub struct Recognized {
    /// Common words of the captions.
    pub words: usize,
    /// The words with the largest correlations that have both features, no two of them with the same feature.
    pub shown: Vec<WordFeatures>,
    /// Number of words that have both features.
    pub recognizable: usize,
    /// The strongest examples of each word that is shown.
    #[serde(skip)]
    pub examples: Vec<WordExamples>,
}

/// The strongest examples of the features of a word.
#[derive(Clone, Debug)]
pub struct WordExamples {
    /// The strongest patches with their surroundings, strongest first.
    pub patches: Vec<Picture>,
    /// Texts with the strongest tokens, strongest first.
    pub texts: Vec<Vec<MarkedToken>>,
}

/// A token of a text.
#[derive(Clone, Debug, PartialEq)]
pub struct MarkedToken {
    /// Its text, with the space before it.
    pub text: String,
    /// How strongly it is marked, 0 to 1.
    pub strength: f32,
}

/// `(sample, position)`, strongest first, one per text.
struct Places {
    patches: Vec<(u32, u32)>,
    tokens: Vec<(u32, u32)>,
}

/// Finds the features in one pass over the activations.
pub(super) fn recognize(sae: &LoadedSae, samples: &[Sample], control: &mut Control) -> Result<Recognized> {
    let d_sae = sae.saved.weights.d_sae;
    let vocabulary = Vocabulary::read(&sae.store)?;
    let mut pooler = SamplePooler::new(samples.len(), d_sae, 0.0, sae.run.root())?;
    let mut on_text = WordActivations::new(&vocabulary, d_sae);
    let mut strongest = TopTokens::new(d_sae, 0.0);
    sae.observe(Stage::Words, &mut [&mut pooler, &mut on_text, &mut strongest], control)?;
    let all = word_features(&pooler.finish()?, &on_text, &strongest)?;
    let recognizable = all.iter().filter(|word| word.is_recognizable()).count();
    let (mut in_patches, mut in_words) = (BTreeSet::new(), BTreeSet::new());
    let mut shown: Vec<WordFeatures> = Vec::new();
    for word in all.into_iter().filter(WordFeatures::is_recognizable) {
        let taken = in_patches.contains(&word.image.feature) || in_words.contains(&word.text.feature);
        if !taken && shown.len() < SHOWN {
            in_patches.insert(word.image.feature);
            in_words.insert(word.text.feature);
            shown.push(word);
        }
    }
    let places = |feature: u32, side: usize| {
        let positions = vocabulary.one_per_text(&strongest.features()[feature as usize].corrected[side]);
        positions.map(|position| (position.sample, position.position)).collect()
    };
    let places: Vec<Places> = shown
        .iter()
        .map(|word| Places { patches: places(word.image.feature, IMAGE), tokens: places(word.text.feature, TEXT) })
        .collect();
    let examples = examples(sae, samples, &shown, &places)?;
    Ok(Recognized { words: vocabulary.words().len(), shown, recognizable, examples })
}

/// The patches and texts at the places of words.
fn examples(
    sae: &LoadedSae,
    samples: &[Sample],
    shown: &[WordFeatures],
    places: &[Places],
) -> Result<Vec<WordExamples>> {
    let all = || places.iter().flat_map(|places| places.patches.iter().chain(&places.tokens));
    let numbers = all().map(|(sample, _)| *sample).collect();
    let features = shown.iter().map(|word| word.text.feature).collect();
    let contexts = contexts(&sae.store, &sae.saved.weights, &sae.device, &numbers, &features)?;
    let crops = crops(sae, samples, places, &contexts)?;
    let examples = |(word, places): (&WordFeatures, &Places)| WordExamples {
        patches: places.patches.iter().filter_map(|place| crops.get(place).cloned()).collect(),
        texts: places.tokens.iter().map(|place| marked(&contexts, *place, word.text.feature)).collect(),
    };
    Ok(shown.iter().zip(places).map(examples).collect())
}

/// The patches with their surroundings, by place.
fn crops(
    sae: &LoadedSae,
    samples: &[Sample],
    places: &[Places],
    contexts: &BTreeMap<u32, Context>,
) -> Result<BTreeMap<(u32, u32), Picture>> {
    let mut wanted: BTreeMap<u32, BTreeSet<u32>> = BTreeMap::new();
    for (sample, position) in places.iter().flat_map(|places| &places.patches) {
        wanted.entry(*sample).or_default().insert(*position);
    }
    let mut crops = BTreeMap::new();
    let shown = each_image::<Error>(&sae.run, samples, &wanted.keys().copied().collect(), |sample, image, picture| {
        for position in &wanted[&sample] {
            let token = &contexts[&sample].tokens[*position as usize];
            if let Some(rect) = token.rect.filter(|_| token.image == i16::try_from(image).ok()) {
                crops.insert((sample, *position), picture.framed_around(rect));
            }
        }
        Ok(())
    });
    shown.map_err(|source| Error::NoPictures { source: Box::new(source) })?;
    Ok(crops)
}

/// The text around a token, with the tokens on which a feature fires marked by its strength relative to the strongest.
fn marked(contexts: &BTreeMap<u32, Context>, (sample, position): (u32, u32), feature: u32) -> Vec<MarkedToken> {
    let context = &contexts[&sample];
    let values = context.values(feature);
    let largest = values.iter().copied().fold(f32::MIN_POSITIVE, f32::max);
    let tokens = context.tokens.iter().zip(&values);
    let texts: Vec<_> = tokens.filter(|(token, _)| token.modality == Modality::Text && !token.special).collect();
    let at = texts.iter().position(|(token, _)| token.position == position).unwrap_or_default();
    let from = at.saturating_sub(BEFORE);
    let cut = (from > 0).then(|| MarkedToken { text: "...".into(), strength: 0.0 });
    let tokens =
        texts[from..].iter().map(|(token, z)| MarkedToken { text: token.piece.clone(), strength: **z / largest });
    cut.into_iter().chain(tokens).collect()
}
