//! What can be said of a feature: the columns of the table, and the names that searches use. Draws nothing.

use sae_core::analysis::index::FeatureRow;

/// The classes of features, in the order in which they sort.
pub const CLASSES: [&str; 4] = ["cross", "image", "text", "dead"];

/// One measured value of a feature.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Field {
    /// Its number.
    Feature,
    /// What it fires on.
    Class,
    /// Positions where it fires.
    Fires,
    /// Text positions where it fires.
    Text,
    /// Image positions where it fires.
    Image,
    /// Share of positions where it fires.
    Density,
    /// Largest activation.
    Max,
    /// Mean activation where it fires.
    Mean,
    /// Cross-modal weight as published.
    Weight,
    /// Cross-modal weight as released.
    Release,
    /// Cross-modal weight without the baseline of random pairs.
    Corrected,
}

impl Field {
    /// All of them: what searches can name.
    pub const ALL: [Self; 11] = [
        Self::Feature,
        Self::Class,
        Self::Fires,
        Self::Text,
        Self::Image,
        Self::Density,
        Self::Max,
        Self::Mean,
        Self::Weight,
        Self::Release,
        Self::Corrected,
    ];

    /// The columns of the table.
    pub const COLUMNS: [Self; 7] =
        [Self::Feature, Self::Class, Self::Text, Self::Image, Self::Density, Self::Max, Self::Weight];

    /// The name in column heads and searches.
    pub fn name(self) -> &'static str {
        match self {
            Self::Feature => "feature",
            Self::Class => "class",
            Self::Fires => "fires",
            Self::Text => "text",
            Self::Image => "image",
            Self::Density => "density",
            Self::Max => "max",
            Self::Mean => "mean",
            Self::Weight => "weight",
            Self::Release => "release",
            Self::Corrected => "corrected",
        }
    }

    /// What it means, in a sentence.
    pub fn hint(self) -> &'static str {
        match self {
            Self::Feature => "Number of the feature in the autoencoder",
            Self::Class => "What it fires on: text, image, both about as often (cross), or nothing (dead)",
            Self::Fires => "Token positions where it fires",
            Self::Text => "Text positions where it fires",
            Self::Image => "Image positions where it fires",
            Self::Density => "Share of all token positions where it fires",
            Self::Max => "Its largest activation",
            Self::Mean => "Its mean activation where it fires",
            Self::Weight => "Cross-modal weight as published: how similar the text and the image are where it fires",
            Self::Release => "Cross-modal weight as the released code computes it",
            Self::Corrected => "Cross-modal weight without the baseline of random pairs",
        }
    }

    /// The field of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|field| field.name() == name)
    }

    /// The value for a feature as a number; classes count in the order of [`CLASSES`].
    pub fn value(self, row: &FeatureRow) -> Option<f64> {
        let value = match self {
            Self::Feature => row.feature as f64,
            Self::Class => CLASSES.iter().position(|class| *class == row.class).unwrap_or(CLASSES.len()) as f64,
            Self::Fires => row.fires as f64,
            Self::Text => row.fires_text as f64,
            Self::Image => row.fires_image as f64,
            Self::Density => row.density,
            Self::Max => row.max as f64,
            Self::Mean => row.mean as f64,
            Self::Weight => row.weight_paper?,
            Self::Release => row.weight_release?,
            Self::Corrected => row.weight_corrected?,
        };
        (!value.is_nan()).then_some(value)
    }

    /// Whether the first click on the column's head sorts the largest to the top.
    pub fn largest_first(self) -> bool {
        !matches!(self, Self::Feature | Self::Class)
    }
}
