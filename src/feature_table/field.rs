//! What is known about every feature: the columns of the table, and the names that searches use.

use super::positions::PositionCounts;
use sae_core::analysis::index::{CROSS_RATIO, FeatureRow};

/// The classes of features, in the order in which they sort.
pub const CLASSES: [&str; 8] = ["cross", "image", "text", "action", "audio", "video", "other", "dead"];

/// The place of a class in [`CLASSES`]; a side of several modalities has that of its first one.
pub fn class_place(class: &str) -> Option<usize> {
    let first = class.split(',').next().unwrap_or(class);
    CLASSES.iter().position(|known| *known == first)
}

/// One property of a feature.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Field {
    /// Its number.
    Feature,
    /// `text`, `image`, `cross` or `dead`.
    Class,
    /// Number of positions where it fires.
    Fires,
    /// Number of text positions where it fires.
    FiresText,
    /// Number of image positions where it fires.
    FiresImage,
    /// Share of the text positions where it fires.
    RateText,
    /// Share of the image positions where it fires.
    RateImage,
    /// The larger rate divided by the smaller one.
    Ratio,
    /// Share of all positions where it fires.
    Density,
    /// Largest activation.
    Max,
    /// Largest activation on text.
    MaxText,
    /// Largest activation on images.
    MaxImage,
    /// Mean activation where it fires.
    Mean,
    /// Cross-modal weight: paper.
    Weight,
    /// Cross-modal weight: authors' code.
    WeightRelease,
    /// Cross-modal weight: bias-corrected.
    WeightCorrected,
    /// What people call it, or its typical words.
    Label,
}

impl Field {
    /// All of them: what searches can name and the table can show.
    pub const ALL: [Self; 17] = [
        Self::Feature,
        Self::Class,
        Self::RateText,
        Self::RateImage,
        Self::Ratio,
        Self::Fires,
        Self::FiresText,
        Self::FiresImage,
        Self::Density,
        Self::Max,
        Self::MaxText,
        Self::MaxImage,
        Self::Mean,
        Self::Weight,
        Self::WeightRelease,
        Self::WeightCorrected,
        Self::Label,
    ];

    /// The columns that the table shows unless others are chosen.
    pub const DEFAULT_COLUMNS: [Self; 7] =
        [Self::Feature, Self::Class, Self::RateText, Self::RateImage, Self::Max, Self::Weight, Self::Label];

    /// The name in searches, links and CSV files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Feature => "feature",
            Self::Class => "class",
            Self::Fires => "fires",
            Self::FiresText => "fires_text",
            Self::FiresImage => "fires_image",
            Self::RateText => "rate_text",
            Self::RateImage => "rate_image",
            Self::Ratio => "ratio",
            Self::Density => "density",
            Self::Max => "max",
            Self::MaxText => "max_text",
            Self::MaxImage => "max_image",
            Self::Mean => "mean",
            Self::Weight => "weight",
            Self::WeightRelease => "weight_release",
            Self::WeightCorrected => "weight_corrected",
            Self::Label => "label",
        }
    }

    /// The head of its column.
    pub fn title(self) -> &'static str {
        match self {
            Self::FiresText => "fires: text",
            Self::FiresImage => "fires: image",
            Self::RateText => "% of text",
            Self::RateImage => "% of image",
            Self::MaxText => "max: text",
            Self::MaxImage => "max: image",
            Self::WeightRelease => "w. authors",
            Self::WeightCorrected => "w. corr.",
            other => other.name(),
        }
    }

    /// What it means.
    pub fn hint(self) -> String {
        match self {
            Self::Feature => "Number of the feature in the autoencoder".into(),
            Self::Class => format!(
                "cross: its firing rates on text and on image positions differ by a factor of {CROSS_RATIO} at most; \
                 text or image: it fires mainly there; dead: it fires nowhere in this run"
            ),
            Self::Fires => "Number of positions where it fires".into(),
            Self::FiresText => "Number of text positions where it fires".into(),
            Self::FiresImage => "Number of image positions where it fires".into(),
            Self::RateText => "Share of the text positions where it fires".into(),
            Self::RateImage => "Share of the image positions where it fires".into(),
            Self::Ratio => "The larger of the two firing rates divided by the smaller one".into(),
            Self::Density => "Share of all positions where it fires".into(),
            Self::Max => "Its largest activation".into(),
            Self::MaxText => "Its largest activation on text".into(),
            Self::MaxImage => "Its largest activation on images".into(),
            Self::Mean => "Its mean activation where it fires".into(),
            Self::Weight => "Cross-modal weight (paper): how similar the model's hidden states are at the feature's \
                             strongest text and image positions (mean cosine). It needs 5 positions above the threshold \
                             on either side, so most features have none. The class compares firing rates instead, so a \
                             feature of class text can have a weight"
                .into(),
            Self::WeightRelease => "Cross-modal weight (authors' code): as the code that the authors published computes it".into(),
            Self::WeightCorrected => {
                "Cross-modal weight (bias-corrected): minus the mean cosine of all pairs of text and image positions".into()
            }
            Self::Label => "What people call it; without a label, the tokens at its strongest text positions and the \
                            words that the texts of its strongest images have in common"
                .into(),
        }
    }

    /// The field of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|field| field.name() == name)
    }

    /// The value for a feature as a number; classes count in the order of [`CLASSES`]. Labels have no number.
    pub fn value(self, row: &FeatureRow, positions: &PositionCounts) -> Option<f64> {
        let value = match self {
            Self::Feature => row.feature as f64,
            Self::Class => class_place(&row.class).unwrap_or(CLASSES.len()) as f64,
            Self::Fires => row.fires as f64,
            Self::FiresText => row.fires_text as f64,
            Self::FiresImage => row.fires_image as f64,
            Self::RateText => positions.rate_text(row)?,
            Self::RateImage => positions.rate_image(row)?,
            Self::Ratio => positions.ratio(row)?,
            Self::Density => row.density,
            Self::Max => row.max as f64,
            Self::MaxText => row.max_text as f64,
            Self::MaxImage => row.max_image as f64,
            Self::Mean => row.mean as f64,
            Self::Weight => row.weight_paper?,
            Self::WeightRelease => row.weight_release?,
            Self::WeightCorrected => row.weight_corrected?,
            Self::Label => return None,
        };
        (!value.is_nan()).then_some(value)
    }

    /// Whether the value is a share, shown in percent.
    pub fn is_share(self) -> bool {
        matches!(self, Self::RateText | Self::RateImage | Self::Density)
    }

    /// Whether the value is a count.
    pub fn is_count(self) -> bool {
        matches!(self, Self::Feature | Self::Fires | Self::FiresText | Self::FiresImage)
    }

    /// Whether the first click on the column's head puts the largest value on top.
    pub fn largest_first(self) -> bool {
        !matches!(self, Self::Feature | Self::Class | Self::Label)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_is_found_by_its_name() {
        assert!(Field::ALL.into_iter().all(|field| Field::from_name(field.name()) == Some(field)));
        assert!(Field::from_name("color").is_none());
    }
}
