//! A run that is open: its tables, and what the person looks at in it.

use super::data::{Details, Group, Report, RunInfo};
use super::history::History;
use super::hover::Hover;
use super::job::{Order, Writing};
use super::label_edits::LabelEdits;
use super::list::FeatureList;
use super::location::{Location, Page};
use super::lru::Lru;
use super::playground::PlaygroundState;
use super::threshold::Sieve;
use sae_core::analysis::index::{FeatureRow, Neighbor};

/// A run that is open.
#[derive(Debug)]
pub struct OpenRun {
    /// The run.
    pub info: RunInfo,
    /// Its features.
    pub list: FeatureList,
    /// What the index says of the features looked at lately.
    pub(super) details: Lru<u32, Details>,
    /// What was looked at.
    pub history: History,
    /// What is written about the features.
    pub labeling: LabelEdits,
    /// Scores and the threshold, once they are read.
    pub sieve: Option<Result<Sieve, String>>,
    /// What a set is written as.
    pub writing: Writing,
    /// A text of the person's own.
    pub trial: PlaygroundState,
    /// Provenance, curves and evaluations, once they are read.
    pub report: Option<Report>,
    /// The feature that the pointer is on.
    pub pointing: Hover,
    pub(super) feature: Option<u32>,
    pub(super) sample: u32,
}

impl OpenRun {
    /// The page that is shown.
    pub fn page(&self) -> Page {
        self.history.current().map(Location::page).unwrap_or_default()
    }

    /// The feature looked at, now or last.
    pub fn feature(&self) -> Option<&FeatureRow> {
        self.list.row(self.feature?)
    }

    /// The sample looked at, now or last.
    pub fn sample(&self) -> u32 {
        self.sample
    }

    /// Remembers what the history has come to.
    pub(super) fn arrive(&mut self) {
        match self.history.current() {
            Some(Location::Feature(number)) => self.feature = Some(number),
            Some(Location::Sample(number)) => self.sample = number,
            Some(Location::Page(_)) | None => {}
        }
    }

    pub(super) fn index_order(&self) -> Order {
        let run = self.info.root.display().to_string();
        let mut arguments = ["index", "--run", &run, "--sae", &self.info.sae].map(String::from).to_vec();
        // The same question as last time.
        arguments.extend(self.info.threshold.iter().flat_map(|z| ["--threshold".into(), z.to_string()]));
        Order { title: format!("Indexing {}", self.info.sae), arguments, rereads: true }
    }

    /// What the index says of the feature looked at; nothing while it is being read.
    pub fn details(&self) -> Option<&Details> {
        self.details.peek(&self.feature?)
    }

    /// Examples of the feature looked at; nothing while they are being read.
    pub fn groups(&self) -> Option<Result<Vec<Group>, &str>> {
        let examples = self.details()?.examples.as_ref();
        Some(examples.map(|list| Group::of(list)).map_err(String::as_str))
    }

    /// Neighbors of the feature looked at; nothing while they are being read.
    pub fn neighbors(&self) -> Option<Result<&[Neighbor], &str>> {
        Some(self.details()?.neighbors.as_deref().map_err(String::as_str))
    }

    /// Samples that the feature's examples are from, in the order in which they are shown, each once.
    pub fn samples(&self) -> Vec<u32> {
        let mut samples = Vec::new();
        for group in self.groups().and_then(Result::ok).unwrap_or_default() {
            for example in group.examples {
                if !samples.contains(&example.sample) {
                    samples.push(example.sample);
                }
            }
        }
        samples
    }
}
