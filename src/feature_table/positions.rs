//! How many positions of each modality an index counted, and the rates that follow from them.

use sae_core::analysis::index::FeatureRow;
use sae_core::store::Sides;

/// Numbers of positions that were indexed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PositionCounts {
    /// All positions.
    pub all: u64,
    /// Text positions, or those of the first side.
    pub text: u64,
    /// Image positions, or those of the second side.
    pub image: u64,
    /// What is compared: text and images, or other modalities.
    pub sides: Sides,
}

impl PositionCounts {
    /// The share of text positions at which a feature fires; nothing if there are no text positions.
    pub fn rate_text(&self, row: &FeatureRow) -> Option<f64> {
        (self.text > 0).then(|| row.fires_text as f64 / self.text as f64)
    }

    /// The share of image positions at which a feature fires; nothing if there are no image positions.
    pub fn rate_image(&self, row: &FeatureRow) -> Option<f64> {
        (self.image > 0).then(|| row.fires_image as f64 / self.image as f64)
    }

    /// How many times larger one rate is than the other; nothing if the feature fires on one side only.
    pub fn ratio(&self, row: &FeatureRow) -> Option<f64> {
        let (text, image) = (self.rate_text(row)?, self.rate_image(row)?);
        (text > 0.0 && image > 0.0).then(|| text.max(image) / text.min(image))
    }
}
