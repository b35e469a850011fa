//! What a page or a JSON document says about a feature and about the samples around it, in the order in which it is said. Made
//! from a [`Page`]; knows neither HTML nor files.

use super::{Page, Shown, Source, visible};
use crate::analysis::index::FeatureRow;
use crate::analysis::labels::Entry;
use crate::store::sample::{Modality, Sample, Token};
use serde::Serialize;
use std::ops::Range;

/// Tokens of text shown before and after an example's.
const AROUND: usize = 48;
/// Number of different tokens of a feature in a list of features.
const LISTED: usize = 6;

/// Everything that is said about one feature.
#[derive(Clone, Debug, Serialize)]
pub struct FeatureView {
    /// The feature.
    pub feature: u32,
    /// Where it comes from.
    pub source: Source,
    /// `text`, `image`, `cross`, `action` or `dead`.
    pub class: String,
    /// Share of positions where it fires.
    pub density: f64,
    /// Mean activation where it fires.
    pub mean: f32,
    /// Its cross-modal weights, as far as they are defined.
    pub weights: WeightsView,
    /// Where it fires: anywhere, on text, on images.
    pub fires: [Fires; 3],
    /// What people wrote about it; empty if nobody has.
    pub written: Entry,
    /// How often it fires how strongly, weakest first, without empty bins.
    pub histogram: Vec<HistogramBin>,
    /// Tokens that it promotes, strongest first.
    pub promoted: Vec<TokenEffect>,
    /// Tokens that it suppresses, strongest first.
    pub suppressed: Vec<TokenEffect>,
    /// Features with the nearest directions, nearest first.
    pub nearest: Vec<Nearest>,
    /// Features that fire most often together with it.
    pub fires_with: Vec<FiresWith>,
    /// Its examples by strength.
    pub groups: Vec<ExampleGroup>,
}

/// The cross-modal weights of a feature.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct WeightsView {
    /// As in the SAE-V paper.
    pub paper: Option<f64>,
    /// As in the released code of SAE-V.
    pub release: Option<f64>,
    /// Without the baseline of random pairs.
    pub corrected: Option<f64>,
    /// Standard error of the corrected weight.
    pub standard_error: Option<f64>,
}

impl WeightsView {
    /// The weights of a row of the index.
    pub fn new(row: &FeatureRow) -> Self {
        let FeatureRow { weight_paper: paper, weight_release: release, weight_corrected: corrected, .. } = *row;
        Self { paper, release, corrected, standard_error: row.weight_se }
    }

    /// The one that is shown if there is room for one.
    pub fn best(&self) -> Option<f64> {
        self.corrected.or(self.paper)
    }
}

/// Where a feature fires, and how strongly.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Fires {
    /// `all`, `text` or `images`; the names of the sides that the index compares, if these are others.
    #[serde(rename = "on")]
    pub modality: String,
    /// Number of positions.
    pub positions: u64,
    /// The largest activation.
    pub max: f32,
}

/// Positions with an activation between two edges.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct HistogramBin {
    /// Number of the bin: bins of one number are at the same place in all histograms.
    pub number: i16,
    /// The lower edge.
    pub low: f32,
    /// The upper edge.
    pub high: f32,
    /// Positions.
    pub all: u64,
    /// Positions of text.
    pub text: u64,
    /// Positions of images.
    pub images: u64,
}

/// A token whose logit a feature changes.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TokenEffect {
    /// Its vocabulary id.
    pub token_id: u32,
    /// Its text.
    pub token: String,
    /// The change for an activation of 1.
    pub logit: f32,
}

/// A feature with a near direction.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Nearest {
    /// The other feature.
    pub feature: u32,
    /// Cosine of the two directions.
    pub cosine: f32,
}

/// A feature that fires at the same positions.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct FiresWith {
    /// The other feature.
    pub feature: u32,
    /// Positions where both fire, of those where one of them does.
    pub jaccard: f32,
}

/// Examples of similar strength.
#[derive(Clone, Debug, Serialize)]
pub struct ExampleGroup {
    /// 0 for the strongest, then octaves below the maximum.
    pub group: u8,
    /// The least activation of the octave; nothing for the strongest.
    pub low: Option<f32>,
    /// The largest activation of the octave; nothing for the strongest.
    pub high: Option<f32>,
    /// Share of the positions in the octave, among those where the feature fires; nothing for the strongest.
    pub share: Option<f64>,
    /// The examples.
    pub examples: Vec<ExampleView>,
}

/// A position where a feature fires, with what is around it.
#[derive(Clone, Debug, Serialize)]
pub struct ExampleView {
    /// The position in the sample.
    pub position: u32,
    /// The activation there.
    pub activation: f32,
    /// What is around it.
    #[serde(flatten)]
    pub excerpt: Excerpt,
}

/// A sample, or a cut of one, with the activations of a feature.
#[derive(Clone, Debug, Serialize)]
pub struct Excerpt {
    /// Number of the sample.
    pub sample: u32,
    /// The key of its row in the data set.
    pub key: String,
    /// Whether the activations of the feature are known everywhere. If not, only that of the example's position is.
    pub has_activations: bool,
    /// Its images.
    pub images: Vec<ImageView>,
    /// Its text and where images interrupt it.
    pub text: Vec<Piece>,
    /// Whether text before and after it is left out.
    pub cut: [bool; 2],
}

/// An image of a sample.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ImageView {
    /// Which of the sample's images, from 0.
    pub number: usize,
    /// Its path in the data set.
    pub name: String,
    /// Pixels of the file: width and height.
    pub size: [u32; 2],
    /// The patches on which the feature fires.
    pub patches: Vec<PatchView>,
}

/// A patch of an image.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct PatchView {
    /// `[x0, y0, x1, y1]` in the image, each 0 to 1.
    pub rect: [f32; 4],
    /// The activation.
    pub activation: f32,
    /// Whether it is the example's position.
    pub hit: bool,
}

/// A token of text, or consecutive patches of an image.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Piece {
    /// A token.
    Token {
        /// Its text.
        token: String,
        /// The activation on it.
        activation: f32,
        /// Whether it is the example's position.
        hit: bool,
        /// Whether it has no content: template, begin, end and newline tokens.
        special: bool,
    },
    /// Patches.
    Patches {
        /// How many.
        patches: usize,
    },
}

impl FeatureView {
    /// What is said about the feature of a page.
    pub fn new(source: &Source, page: &Page) -> Self {
        let row = page.row;
        let fires = |modality: &str, positions, max| Fires { modality: modality.to_owned(), positions, max };
        let [first, second] = source.side_names();
        let effects = |promoted| {
            let effect = |word: &super::Word| TokenEffect {
                token_id: word.token_id,
                token: visible(&word.piece),
                logit: word.logit,
            };
            page.words(promoted).map(effect).collect()
        };
        Self {
            feature: row.feature,
            source: source.clone(),
            class: row.class.clone(),
            density: row.density,
            mean: row.mean,
            weights: WeightsView::new(row),
            fires: [
                fires("all", row.fires, row.max),
                fires(&first, row.fires_text, row.max_text),
                fires(&second, row.fires_image, row.max_image),
            ],
            written: page.entry.cloned().unwrap_or_else(|| Entry::empty(row.feature)),
            histogram: page.bins.iter().map(HistogramBin::new).collect(),
            promoted: effects(true),
            suppressed: effects(false),
            nearest: page.neighbors.iter().map(|n| Nearest { feature: n.feature, cosine: n.cosine }).collect(),
            fires_with: page.coactive.iter().map(|c| FiresWith { feature: c.feature, jaccard: c.jaccard }).collect(),
            groups: page.shown.chunk_by(|a, b| a.group == b.group).filter_map(|group| group_of(page, group)).collect(),
        }
    }

    /// Its largest activation, the upper end of all scales.
    pub fn max(&self) -> f32 {
        self.fires[0].max
    }

    /// The different tokens on which it fires most strongly, in that order; `[image]` for patches.
    pub fn strongest_tokens(&self) -> Vec<String> {
        let mut tokens: Vec<String> = Vec::new();
        let strongest = self.groups.iter().filter(|group| group.group == 0).flat_map(|group| &group.examples);
        for example in strongest {
            let token = example.excerpt.text.iter().find_map(|piece| match piece {
                Piece::Token { token, hit: true, .. } => Some(token.trim().to_owned()),
                _ => None,
            });
            let token = token.unwrap_or_else(|| "[image]".to_owned());
            if !token.is_empty() && !tokens.contains(&token) && tokens.len() < LISTED {
                tokens.push(token);
            }
        }
        tokens
    }
}

impl HistogramBin {
    fn new(bin: &super::Bin) -> Self {
        let (low, high) = bin.edges();
        Self { number: bin.number, low, high, all: bin.fires, text: bin.fires_text, images: bin.fires_image }
    }
}

fn group_of(page: &Page, group: &[Shown]) -> Option<ExampleGroup> {
    let first = group.first()?;
    let interval = (first.group > 0).then(|| page.interval(first.group));
    let example = |shown: &Shown| ExampleView {
        position: shown.example.position,
        activation: shown.example.activation,
        excerpt: Excerpt::around(shown),
    };
    Some(ExampleGroup {
        group: first.group,
        low: interval.map(|interval| interval.low),
        high: interval.map(|interval| interval.high),
        share: interval.map(|interval| interval.share),
        examples: group.iter().map(example).collect(),
    })
}

impl Excerpt {
    /// What is around an example.
    fn around(shown: &Shown) -> Self {
        let tokens = &shown.context.tokens;
        let (sample, at) = (shown.example.sample, Some(shown.at));
        let range = around(tokens, shown.at);
        Self::of(sample, shown.sample, tokens, &shown.values, at, range).with_activations(shown.has_activations())
    }

    /// A whole sample, with the activations of a feature on its tokens; without any if `values` is nothing.
    pub fn whole(number: u32, sample: &Sample, tokens: &[Token], values: Option<&[f32]>) -> Self {
        let none = vec![0.0; tokens.len()];
        Self::of(number, sample, tokens, values.unwrap_or(&none), None, 0..tokens.len())
            .with_activations(values.is_some())
    }

    fn with_activations(self, has_activations: bool) -> Self {
        Self { has_activations, ..self }
    }

    fn of(
        number: u32,
        sample: &Sample,
        tokens: &[Token],
        values: &[f32],
        at: Option<usize>,
        range: Range<usize>,
    ) -> Self {
        let image = |(number, image): (usize, &crate::store::sample::ImageRef)| ImageView {
            number,
            name: image.path.clone(),
            size: [image.width, image.height],
            patches: patches(tokens, values, at, number),
        };
        Self {
            sample: number,
            key: sample.key.clone(),
            has_activations: false,
            images: sample.images.iter().enumerate().map(image).collect(),
            text: pieces(tokens, values, at, range.clone()),
            cut: [range.start > 0, range.end < tokens.len()],
        }
    }
}

/// The patches of an image on which a feature fires.
fn patches(tokens: &[Token], values: &[f32], at: Option<usize>, image: usize) -> Vec<PatchView> {
    let patch = |(n, (token, value)): (usize, (&Token, &f32))| {
        let is_inside = token.image.and_then(|number| usize::try_from(number).ok()) == Some(image);
        let rect = token.rect.filter(|_| is_inside && *value > 0.0)?;
        Some(PatchView { rect, activation: *value, hit: at == Some(n) })
    };
    tokens.iter().zip(values).enumerate().filter_map(patch).collect()
}

/// Tokens of text, with one piece for consecutive patches of an image.
fn pieces(tokens: &[Token], values: &[f32], at: Option<usize>, range: Range<usize>) -> Vec<Piece> {
    let alike =
        |a: &Token, b: &Token| a.modality != Modality::Text && b.modality != Modality::Text && a.image == b.image;
    let mut next = range.start;
    let piece = |run: &[Token]| {
        let (from, first) = (next, &run[0]);
        next += run.len();
        if first.modality != Modality::Text {
            return Piece::Patches { patches: run.len() };
        }
        Piece::Token {
            token: visible(&first.piece),
            activation: values[from],
            hit: at == Some(from),
            special: first.special,
        }
    };
    tokens[range].chunk_by(alike).map(piece).collect()
}

/// The tokens from [`AROUND`] text tokens before a position to as many after it; patches do not count.
fn around(tokens: &[Token], at: usize) -> Range<usize> {
    let word = |n: &usize| tokens[*n].modality == Modality::Text;
    let start = (0..at).rev().filter(word).nth(AROUND).map_or(0, |n| n + 1);
    let end = (at + 1..tokens.len()).filter(word).nth(AROUND).unwrap_or(tokens.len());
    start..end
}
