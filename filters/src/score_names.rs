//! The names of score columns, in one place: tables, fits, reports and estimates agree on them.

/// The column of pairs as the model reads them.
pub const PMI: &str = "pmi";
/// The column of images with their texts as the model reads them with blank images.
pub const PMI_BLANK: &str = "pmi_blank";
/// The column of the least of such a text's tokens.
pub const PMI_TOKEN_MIN: &str = "pmi_token_min";
/// The columns that are fitted to samples.
pub const FITTED: [&str; 3] = [PMI, PMI_BLANK, PMI_TOKEN_MIN];
