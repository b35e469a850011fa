//! Captured activations as every format yields them: a stream of samples with a description of the whole. Data and checks
//! only.

use crate::{Error, Result};
use sae_core::store::sample::{Modality, Role, Token};
use sae_core::store::{Hook, StoreDtype};
use std::path::{Path, PathBuf};

/// The activations of one import.
pub(super) struct Cache {
    /// Ascending.
    pub hooks: Vec<Hook>,
    pub d_in: usize,
    pub dtype: StoreDtype,
    pub model: String,
    /// All files that decide what is imported, for the fingerprint.
    pub files: Vec<PathBuf>,
    /// Token positions in all. It may be an estimate.
    pub rows: u64,
    pub samples: Samples,
}

pub(super) type Samples = Box<dyn Iterator<Item = Result<Captured>>>;

/// A sample with its activations.
pub(super) struct Captured {
    pub key: String,
    /// `file:row`.
    pub source: String,
    pub tokens: Vec<Token>,
    /// For every hook `[positions, d_in]`.
    pub activations: Vec<Vec<f32>>,
}

/// A token about which nothing is known except its position and modality.
pub(super) fn unknown_token(position: u32, modality: Modality) -> Token {
    Token {
        position,
        modality,
        token_id: -1,
        piece: String::new(),
        role: Role::User,
        special: false,
        image: None,
        rect: None,
    }
}

/// The displayed text of a token of which only the id is known.
pub(super) fn piece_from_id(id: i32) -> String {
    if id < 0 { String::new() } else { format!("<{id}>") }
}

/// Rejects values that are not finite, while the file and the place in it are still known.
pub(super) fn check_finite(path: &Path, first_row: u64, d_in: usize, values: &[f32]) -> Result<()> {
    match values.iter().position(|value| !value.is_finite()) {
        None => Ok(()),
        Some(at) => {
            let (row, column, value) = (first_row + (at / d_in) as u64, at % d_in, values[at]);
            Err(Error::data(path)(format!("expected finite numbers, found {value} in row {row}, dimension {column}")))
        }
    }
}

/// The last component of a path.
pub(super) fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
