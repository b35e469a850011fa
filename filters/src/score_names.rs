//! The names of the columns of a score table, in one place. Computes no score.

use crate::definition::Definition;

/// The sum of cross-modal weights.
pub const COSINE: &str = "cosine";
/// The mean of the cross-modal weights, weighted by activation.
pub const COSINE_MEAN: &str = "cosine_mean";
/// The number of active features.
pub const L0: &str = "l0";
/// The number of features active on both text and image.
pub const CO_L0: &str = "co_l0";
/// Pointwise mutual information of the sample's text and image features.
pub const PMI: &str = "pmi";
/// The prefix of the columns that `sae contrast` adds: values that are predicted from features.
pub const PREDICTED: &str = "predicted_";
/// The prefix of the columns that `sae probe` adds: what a probe says about each sample.
pub const PROBE: &str = "probe_";
/// The prefix of the columns that `sae probe` adds for preferences: by how much the preferred answer of a pair is better.
pub const MARGIN: &str = "margin_";
/// How well the critique of a row fits the change that was made to its answer.
pub const FEEDBACK_FIT: &str = "feedback_fit";
/// The mean log-likelihood of the tokens of a sample's answers.
pub const LIKELIHOOD: &str = "likelihood";
/// The smallest log-likelihood of a token of the answers.
pub const LIKELIHOOD_MIN: &str = "likelihood_min";
/// The log-probability that the answer ends where it ends.
pub const LIKELIHOOD_END: &str = "likelihood_end";
/// How much of [`LIKELIHOOD`] is due to the image.
pub const LIKELIHOOD_DROP: &str = "likelihood_drop";
/// The negative log-likelihood of the answer over what it is without image and question.
pub const IFD: &str = "ifd";
/// The sharpness of a sample's least sharp image.
pub const IMAGE_SHARPNESS: &str = "image_sharpness";
/// Minus the estimated noise of a sample's noisiest image.
pub const IMAGE_CLEANNESS: &str = "image_cleanness";
/// Minus the clearest seam in a sample's images.
pub const IMAGE_CONTINUITY: &str = "image_continuity";
/// The prefixes of columns that only some calls compute. `sae score` keeps these columns.
pub const KEPT: [&str; 7] = [PREDICTED, PROBE, MARGIN, FEEDBACK_FIT, LIKELIHOOD, IFD, "image_"];
/// [`PMI`] with the text features of a second forward pass with blank images.
pub const PMI_BLANK: &str = "pmi_blank";
/// The smallest [`PMI_BLANK`] of the sample's text tokens.
pub const PMI_TOKEN_MIN: &str = "pmi_token_min";
/// Columns that are the mean of a sample's ranks by two others, with these two.
pub const JOINED: [(&str, [&str; 2]); 2] =
    [("pmi_blank+likelihood", [PMI_BLANK, LIKELIHOOD]), ("pmi_token_min+likelihood", [PMI_TOKEN_MIN, LIKELIHOOD])];
/// [`PMI_BLANK`], less what other texts score with the same image, and other images with the same text.
pub const PMI_RELATIVE: &str = "pmi_relative";
/// A uniform random number, the baseline of every comparison.
pub const RANDOM: &str = "random";

/// The scores that every [`Definition`] has a column of.
pub const METHODS: [&str; 3] = [COSINE, L0, CO_L0];
/// The columns that need a fit to the data set.
pub const FITTED: [&str; 3] = [PMI, PMI_BLANK, PMI_TOKEN_MIN];

/// The column of a method by a definition, such as `cosine_paper`.
pub fn column(method: &str, definition: Definition) -> String {
    format!("{method}_{}", definition.name())
}

/// The columns to filter by if none is named: the first of which a sample has a value. `docs/SCORES.md` has the reasons.
pub const RECOMMENDED: [&str; 2] = [PMI_BLANK, PMI];

/// Kinds of errors, with the columns that find each, the best first (`docs/SCORES.md` has the figures).
pub const FINDERS: [(&str, &[&str]); 8] = [
    ("images and texts that do not belong together", &[PMI_BLANK, PMI]),
    ("texts that nearly belong", &[PMI_RELATIVE, PMI_BLANK, PMI]),
    ("one wrong word", &[LIKELIHOOD_MIN, PMI_TOKEN_MIN]),
    ("words in the wrong order", &[LIKELIHOOD_MIN, PMI_TOKEN_MIN]),
    ("truncated answers", &[LIKELIHOOD_END]),
    ("images put together of two", &[IMAGE_CONTINUITY, PMI_BLANK]),
    ("blurred images", &[IMAGE_SHARPNESS]),
    ("noisy images", &[IMAGE_CLEANNESS]),
];

/// All columns in the order of the table.
pub fn columns() -> Vec<String> {
    let defined = Definition::ALL.into_iter().flat_map(|definition| METHODS.map(|method| column(method, definition)));
    let others = [COSINE_MEAN].into_iter().chain(FITTED).chain([PMI_RELATIVE, RANDOM]);
    defined.chain(others.map(String::from)).collect()
}
