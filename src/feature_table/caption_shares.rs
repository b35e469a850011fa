//! In how many captions of a feature's strongest examples the words of a search are, as far as that has been counted. Counts
//! nothing: the loader does.

use std::collections::{BTreeMap, BTreeSet};

/// By text, in lower case: for each feature, the share of the captions of its strongest examples that contain the text, or the
/// reason why that is not known.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CaptionShares(BTreeMap<String, Result<Vec<f32>, String>>);

impl CaptionShares {
    /// Takes what was counted for a text.
    pub fn insert(&mut self, text: String, shares: Result<Vec<f32>, String>) {
        self.0.insert(text, shares);
    }

    /// Forgets other texts than these.
    pub fn retain(&mut self, texts: &BTreeSet<String>) {
        self.0.retain(|text, _| texts.contains(text));
    }

    /// Whether a text has been counted.
    pub fn has(&self, text: &str) -> bool {
        self.0.contains_key(text)
    }

    /// Why it is not known which captions contain a text, if counting has failed.
    pub fn problem(&self, text: &str) -> Option<&str> {
        self.0.get(text)?.as_ref().err().map(String::as_str)
    }

    /// The share of the captions of a feature's strongest examples that contain a text; nothing while it is not known.
    pub fn share(&self, text: &str, feature: u32) -> Option<f32> {
        Some(self.0.get(text)?.as_ref().ok()?.get(feature as usize).copied().unwrap_or(0.0))
    }
}
