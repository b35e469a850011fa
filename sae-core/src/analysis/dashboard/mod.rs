//! Features outside the app: what a page about a feature has, and the files from which other tools and browsers show it.
//! This module writes text and numbers; the caller supplies the images, which go into separate files or into the HTML.

pub mod html;
pub mod images;
pub mod neuronpedia;
pub mod saedashboard;
mod view;

pub use view::{
    ExampleGroup, ExampleView, Excerpt, FeatureView, Fires, FiresWith, HistogramBin, ImageView, Nearest, PatchView,
    Piece, TokenEffect, WeightsView,
};

use crate::analysis::context::Context;
use crate::analysis::index::{Bin, Coactive, Example, FeatureRow, Index, LogitBin, Neighbor, PER_OCTAVE, Word};
use crate::analysis::labels::{Entry, Written};
use crate::store::Hook;
use crate::store::Sides;
use crate::store::sample::Sample;
use crate::{Error, Result};
use serde::Serialize;
use std::collections::BTreeMap;
use std::ops::Range;

/// Tokens of an example in files that show a cut of a text.
pub const TOKENS: usize = 128;

/// What the pages of an autoencoder have in common.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Source {
    /// Name of the model.
    pub model: String,
    /// Where the activations were captured, if that is known.
    pub hook: Option<Hook>,
    /// Name of the autoencoder.
    pub sae: String,
    /// Name of the data set.
    pub dataset: String,
    /// Samples of the run.
    pub samples: u64,
    /// Token positions of the run.
    pub tokens: u64,
    /// The modalities that the index compares.
    pub sides: Sides,
    /// When the pages were made (UTC, RFC 3339).
    pub created: String,
}

impl Source {
    /// The decoder block, 0 if it is not known.
    fn layer(&self) -> usize {
        self.hook.map_or(0, Hook::layer)
    }

    /// The hook in words.
    fn place(&self) -> String {
        self.hook.map_or_else(|| "at an unknown hook".into(), Hook::in_words)
    }

    /// The names of both sides: text and images, or other modalities.
    pub fn side_names(&self) -> [String; 2] {
        if self.sides == Sides::default() { ["text", "images"].map(String::from) } else { self.sides.names() }
    }
}

/// Everything about one feature.
pub struct Page<'a> {
    /// Its counts.
    pub row: &'a FeatureRow,
    /// Its label and notes, if anybody wrote them.
    pub entry: Option<&'a Entry>,
    /// How often it fires how strongly.
    pub bins: Vec<Bin>,
    /// Promoted tokens, then suppressed tokens.
    pub words: Vec<Word>,
    /// How many tokens have their logit changed by how much.
    pub logit_bins: Vec<LogitBin>,
    /// Nearest directions.
    pub neighbors: Vec<Neighbor>,
    /// Features that fire with it.
    pub coactive: Vec<Coactive>,
    /// Its decoder direction, `[d_in]`.
    pub direction: &'a [f32],
    /// Its examples, group by group.
    pub shown: Vec<Shown<'a>>,
}

/// An example with its sample.
pub struct Shown<'a> {
    /// Group: 0 the strongest, then octaves below the maximum.
    pub group: u8,
    /// The position and the activation.
    pub example: Example,
    /// Index of its token in the sample.
    pub at: usize,
    /// The sample.
    pub sample: &'a Sample,
    /// Its tokens.
    pub context: &'a Context,
    /// The activation of the feature on each of them; if the context has no activations, only that of the example is not 0.
    pub values: Vec<f32>,
}

/// The interval of activations that a group of examples is drawn from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval {
    /// Least.
    pub low: f32,
    /// Largest.
    pub high: f32,
    /// Share of the positions with such an activation, among those where the feature fires.
    pub share: f64,
}

/// A number for JSON with as many digits as an `f32` has; a plain conversion to `f64` would print twice as many.
fn decimal(value: f32) -> f64 {
    value.to_string().parse().unwrap_or(f64::from(value))
}

/// The text of a token for readers: the tokenizer's marks for spaces become spaces.
fn visible(piece: &str) -> String {
    piece.replace(['\u{2581}', '\u{120}'], " ").replace('\u{10a}', "\n")
}

fn decimals(values: &[f32]) -> Vec<f64> {
    values.iter().copied().map(decimal).collect()
}

impl<'a> Page<'a> {
    /// The page of a feature whose examples' samples are in `contexts`; `sample` is the sample of a number.
    ///
    /// # Errors
    /// The index is damaged, or of other samples.
    pub fn new(
        feature: u32,
        index: &'a Index,
        written: Option<&'a Written>,
        direction: &'a [f32],
        sample: impl Fn(u32) -> Option<&'a Sample>,
        contexts: &'a BTreeMap<u32, Context>,
    ) -> Result<Self> {
        let other = |what: String| Error::config(format!("the index is of another run: it has no {what}"));
        let row = index.features().get(feature as usize).ok_or_else(|| other(format!("feature {feature}")))?;
        let shown = index.examples(feature)?.into_iter().map(|(group, example)| {
            let missing = || other(format!("position {} in sample {}", example.position, example.sample));
            let context = contexts.get(&example.sample).ok_or_else(missing)?;
            let at = context.tokens.iter().position(|token| token.position == example.position).ok_or_else(missing)?;
            let sample = sample(example.sample).ok_or_else(missing)?;
            let mut values = context.values(feature);
            if !context.has_activations() {
                values[at] = example.activation;
            }
            Ok(Shown { group, example, at, sample, context, values })
        });
        Ok(Self {
            row,
            entry: written.and_then(|written| written.entry(feature)),
            shown: shown.collect::<Result<_>>()?,
            bins: index.histogram(feature)?,
            words: index.logits(feature)?.unwrap_or_default(),
            logit_bins: index.logit_histogram(feature)?.unwrap_or_default(),
            neighbors: index.neighbors(feature)?,
            coactive: index.coactive(feature)?,
            direction,
        })
    }

    /// The interval of a group above 0: an octave, whose edges are edges of the histogram's bins.
    pub fn interval(&self, group: u8) -> Interval {
        let top = self.row.max.max(f32::MIN_POSITIVE).log2().floor() as i16;
        let octave = top - i16::from(group.saturating_sub(1));
        let inside = |bin: &&Bin| bin.number.div_euclid(PER_OCTAVE) == octave;
        let fires: u64 = self.bins.iter().filter(inside).map(|bin| bin.fires).sum();
        let low = f32::from(octave).exp2();
        Interval { low, high: 2.0 * low, share: fires as f64 / self.row.fires.max(1) as f64 }
    }

    /// Promoted or suppressed tokens, strongest first.
    pub fn words(&self, promoted: bool) -> impl Iterator<Item = &Word> {
        self.words.iter().filter(move |word| word.promoted == promoted)
    }
}

impl Shown<'_> {
    /// Whether the activations of the feature are known on all tokens.
    pub fn has_activations(&self) -> bool {
        self.context.has_activations()
    }

    /// Up to [`TOKENS`] tokens around the example's.
    pub fn cut(&self) -> Range<usize> {
        let length = self.values.len();
        let start = self.at.saturating_sub(TOKENS / 2).min(length.saturating_sub(TOKENS));
        start..(start + TOKENS).min(length)
    }
}

#[cfg(test)]
mod tests;
