//! The names of the columns of a score table, in one place. Computes no score.

use crate::definition::Definition;

/// The sum of cross-modal weights.
pub const COSINE: &str = "cosine";
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
/// The prefixes of columns that only some calls compute. `sae score` keeps these columns.
pub const KEPT: [&str; 4] = [PREDICTED, PROBE, MARGIN, FEEDBACK_FIT];
/// [`PMI`] with the text features of a second forward pass with blank images.
pub const PMI_BLANK: &str = "pmi_blank";
/// The smallest [`PMI_BLANK`] of the sample's text tokens.
pub const PMI_TOKEN_MIN: &str = "pmi_token_min";
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

/// All columns in the order of the table.
pub fn columns() -> Vec<String> {
    let defined = Definition::ALL.into_iter().flat_map(|definition| METHODS.map(|method| column(method, definition)));
    defined.chain(FITTED.into_iter().chain([RANDOM]).map(String::from)).collect()
}
