//! Features that a person recognizes: for every common word of the captions a feature of its patches and a feature of its
//! tokens, and a contact sheet of both.

use super::super::{SaeReader, sample_images};
use crate::plots::{self, FeatureRow, MarkedToken};
use anyhow::{Context as _, Result};
use filters::definition::{IMAGE, TEXT};
use filters::pooling::SamplePooler;
use filters::top_tokens::TopTokens;
use filters::words::{Vocabulary, WordActivations, WordFeatures, word_features};
use harvest::pixels::Picture;
use sae_core::analysis::context::{Context, contexts};
use sae_core::store::sample::{Modality, Sample};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

/// Words that are shown.
const SHOWN: usize = 8;
/// Tokens before the marked one that are shown.
const BEFORE: usize = 9;

/// What was found.
#[derive(Serialize)]
pub struct Recognized {
    /// Common words of the captions.
    pub words: usize,
    /// Those of the largest correlations that have a feature on both sides, no two of them sharing one.
    pub shown: Vec<WordFeatures>,
    /// Number of words with a feature on both sides.
    pub recognizable: usize,
    /// Where each of the shown stands out.
    #[serde(skip)]
    places: Vec<Places>,
}

/// `(sample, position)`, strongest first, one a text.
struct Places {
    patches: Vec<(u32, u32)>,
    tokens: Vec<(u32, u32)>,
}

/// Finds the features in one pass over the activations.
pub fn recognize(opened: &SaeReader, samples: &[Sample]) -> Result<Recognized> {
    let d_sae = opened.saved.weights.d_sae;
    let vocabulary = Vocabulary::read(&opened.store)?;
    let mut pooler = SamplePooler::new(samples.len(), d_sae, 0.0, opened.run.root())?;
    let mut on_text = WordActivations::new(&vocabulary, d_sae);
    let mut strongest = TopTokens::new(d_sae, 0.0);
    opened.pass("words", &mut [&mut pooler, &mut on_text, &mut strongest])?;
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
    let places = shown
        .iter()
        .map(|word| Places { patches: places(word.image.feature, IMAGE), tokens: places(word.text.feature, TEXT) })
        .collect();
    Ok(Recognized { words: vocabulary.words().len(), shown, recognizable, places })
}

impl Recognized {
    /// Draws the contact sheet; its path, if there is something to show.
    pub fn draw(&self, opened: &SaeReader, samples: &[Sample]) -> Result<Option<PathBuf>> {
        if self.shown.is_empty() {
            return Ok(None);
        }
        let all = || self.places.iter().flat_map(|places| places.patches.iter().chain(&places.tokens));
        let numbers = all().map(|(sample, _)| *sample).collect();
        let features = self.shown.iter().map(|word| word.text.feature).collect();
        let contexts = contexts(&opened.store, &opened.saved.weights, &opened.device, &numbers, &features)?;
        let crops = self.crops(opened, samples, &contexts)?;
        let row = |(word, places): (&WordFeatures, &Places)| FeatureRow {
            title: word.word.clone(),
            notes: vec![
                format!("patches: feature {}", word.image.feature),
                format!("correlation {:.2} (chance {:.2})", word.image.correlation, word.image.chance),
                format!("tokens: feature {}", word.text.feature),
                format!("{:.0} % of its activation (chance {:.1} %)", 100.0 * word.text.share, 100.0 * word.text.base),
            ],
            patches: places.patches.iter().filter_map(|place| crops.get(place).cloned()).collect(),
            texts: places.tokens.iter().map(|place| marked(&contexts, *place, word.text.feature)).collect(),
        };
        let rows: Vec<FeatureRow> = self.shown.iter().zip(&self.places).map(row).collect();
        let path = opened.run.root().join("features.png");
        plots::contact_sheet(&path, ["strongest patches (framed)", "strongest tokens, in their captions"], &rows)?;
        Ok(Some(path))
    }

    /// The patches with their surroundings, by place.
    fn crops(
        &self,
        opened: &SaeReader,
        samples: &[Sample],
        contexts: &BTreeMap<u32, Context>,
    ) -> Result<BTreeMap<(u32, u32), Picture>> {
        let mut wanted: BTreeMap<u32, BTreeSet<u32>> = BTreeMap::new();
        for (sample, position) in self.places.iter().flat_map(|places| &places.patches) {
            wanted.entry(*sample).or_default().insert(*position);
        }
        let mut crops = BTreeMap::new();
        sample_images::each(&opened.run, samples, &wanted.keys().copied().collect(), |sample, image, picture| {
            for position in &wanted[&sample] {
                let token = &contexts[&sample].tokens[*position as usize];
                if let Some(rect) = token.rect.filter(|_| token.image == i16::try_from(image).ok()) {
                    crops.insert((sample, *position), picture.framed_around(rect));
                }
            }
            Ok(())
        })
        .context("patches cannot be shown")?;
        Ok(crops)
    }
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
