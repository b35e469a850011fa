//! Finds features by the captions of the samples that they are strongest in. Holds sample numbers only; the captions stay where
//! the caller keeps them.

use crate::Result;
use sae_core::Run;
use sae_core::analysis::index::{Row, StrongestExample, read_lists};
use sae_core::store::Paths;
use sae_core::store::sample::Sample;
use std::collections::BTreeSet;

/// The samples of the strongest examples of every feature.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CaptionSearch {
    /// For each feature, where its samples end in `samples`.
    ends: Vec<usize>,
    /// The samples of one feature after the other, those of one feature each once.
    samples: Vec<u32>,
}

impl CaptionSearch {
    /// Reads the strongest examples of both modalities from the index of an autoencoder with `features` features.
    ///
    /// # Errors
    /// The index has no such table, or it is damaged.
    pub fn open(run: &Run, sae: &str, features: usize) -> Result<Self> {
        let lists = read_lists::<StrongestExample>(&run.features(sae).join(StrongestExample::FILE), features)?;
        Ok(Self::new(lists.iter().map(|list| list.iter().map(|example| example.0.sample))))
    }

    /// From the samples of every feature.
    pub fn new(features: impl Iterator<Item = impl Iterator<Item = u32>>) -> Self {
        let mut search = Self::default();
        for samples in features {
            search.samples.extend(samples.collect::<BTreeSet<u32>>());
            search.ends.push(search.samples.len());
        }
        search
    }

    /// For each feature, the share of the captions of its strongest examples that contain `text`, upper and lower case alike.
    /// 0 for a feature without examples. `samples` are all samples of the run, and `paths` theirs: the captions of a piece are the
    /// texts of all paths that lead through it, as the image is in the prompt and what is said about it in the answers.
    ///
    /// ```
    /// # use sae_core::store::Paths;
    /// # use sae_core::store::sample::Sample;
    /// # use sae_workbench::caption_search::CaptionSearch;
    /// # let caption = |text: &str| Sample { id: String::new(), key: String::new(), text: text.into(), images: vec![],
    /// #     source: String::new(), meta: serde_json::Value::Null, piece: None };
    /// let samples = [caption("A dog on a sofa"), caption("a cat"), caption("two dogs")];
    /// let search = CaptionSearch::new([vec![0, 1], vec![2], vec![]].into_iter().map(Vec::into_iter));
    /// assert_eq!(search.shares(&samples, &Paths::default(), "Dog"), [0.5, 1.0, 0.0]);
    /// ```
    pub fn shares(&self, samples: &[Sample], paths: &Paths, text: &str) -> Vec<f32> {
        let text = text.to_lowercase();
        // Many features share a sample, so each caption is searched once, when it is first needed.
        let mut known: Vec<Option<bool>> = vec![None; samples.len()];
        let mut contains = |number: u32| {
            let says = |sample: u32| paths.text(samples, sample).to_lowercase().contains(&text);
            let Some(known) = known.get_mut(number as usize) else { return false };
            *known.get_or_insert_with(|| paths.continuations(number).any(says))
        };
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        let share = |(start, end): (usize, usize)| {
            let own = &self.samples[start..end];
            let found = own.iter().filter(|number| contains(**number)).count();
            if own.is_empty() { 0.0 } else { found as f32 / own.len() as f32 }
        };
        starts.zip(self.ends.iter().copied()).map(share).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_counts_once_and_one_that_does_not_exist_contains_nothing() {
        let sample = |text: &str| Sample {
            id: String::new(),
            key: String::new(),
            text: text.into(),
            images: vec![],
            source: String::new(),
            meta: serde_json::Value::Null,
            piece: None,
        };
        let samples = [sample("Straße"), sample("road")];
        let search = CaptionSearch::new([vec![1, 0, 1, 0], vec![0, 9]].into_iter().map(Vec::into_iter));
        assert_eq!(search.shares(&samples, &Paths::default(), "STRAß"), [0.5, 0.5]);
        assert_eq!(search.shares(&[], &Paths::default(), "road"), [0.0, 0.0]);
        // The image is in the piece that the other one continues.
        let paths = Paths::new(vec![None, Some(0)]).unwrap();
        let search = CaptionSearch::new([vec![0], vec![1]].into_iter().map(Vec::into_iter));
        assert_eq!(search.shares(&samples, &paths, "road"), [1.0, 1.0]);
    }
}
