//! What people wrote about features (labels, notes, stars, lists), prepared for searches and lists. Edits nothing.

use sae_core::analysis::labels::{Entry, Written};
use std::collections::{BTreeMap, BTreeSet};

/// What is written about the features of an autoencoder.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Annotations {
    entries: BTreeMap<u32, Annotation>,
    lists: BTreeMap<String, List>,
}

#[derive(Clone, Debug, PartialEq)]
struct List {
    lowercase_name: String,
    features: BTreeSet<u32>,
}

#[derive(Clone, Debug, PartialEq)]
struct Annotation {
    label: String,
    lowercase_label: String,
    lowercase_notes: String,
    lowercase_author: String,
    star: bool,
}

impl Annotations {
    /// From what is written about the features of an autoencoder; nothing if nobody has written anything.
    pub fn new(written: Option<&Written>) -> Self {
        let annotation = |entry: &Entry| Annotation {
            label: entry.label.clone(),
            lowercase_label: entry.label.to_lowercase(),
            lowercase_notes: entry.notes.to_lowercase(),
            lowercase_author: entry.author.to_lowercase(),
            star: entry.star,
        };
        let entries =
            written.map(Written::entries).unwrap_or_default().iter().map(|entry| (entry.feature, annotation(entry)));
        let lists = written.into_iter().flat_map(Written::lists);
        let lists = lists.map(|(name, list)| {
            (name.clone(), List { lowercase_name: name.to_lowercase(), features: list.iter().copied().collect() })
        });
        Self { entries: entries.collect(), lists: lists.collect() }
    }

    /// The label of a feature.
    pub fn label(&self, feature: u32) -> Option<&str> {
        self.entries.get(&feature).map(|entry| entry.label.as_str()).filter(|label| !label.is_empty())
    }

    /// All labeled features with their labels.
    pub fn labels(&self) -> impl Iterator<Item = (u32, &str)> {
        let labeled = self.entries.iter().filter(|(_, entry)| !entry.label.is_empty());
        labeled.map(|(feature, entry)| (*feature, entry.label.as_str()))
    }

    /// Whether a feature has a star.
    pub fn star(&self, feature: u32) -> bool {
        self.entries.get(&feature).is_some_and(|entry| entry.star)
    }

    /// Whether a field of a feature contains a text, which is in lower case. The empty text is contained in every field that
    /// is not empty.
    pub fn contains(&self, feature: u32, field: TextField, text: &str) -> bool {
        let Some(entry) = self.entries.get(&feature) else { return false };
        let own = match field {
            TextField::Label => &entry.lowercase_label,
            TextField::Notes => &entry.lowercase_notes,
            TextField::Author => &entry.lowercase_author,
        };
        !own.is_empty() && own.contains(text)
    }

    /// Whether a feature is in the list of a name, in lower case. If no list has this name: in a list whose name begins with it.
    pub fn in_list(&self, feature: u32, name: &str) -> bool {
        let is_exact = |list: &&List| list.lowercase_name == name;
        let exists = self.lists.values().any(|list| is_exact(&list));
        let is_meant = |list: &&List| if exists { is_exact(list) } else { list.lowercase_name.starts_with(name) };
        self.lists.values().filter(is_meant).any(|list| list.features.contains(&feature))
    }

    /// The names of the lists that a feature is in.
    pub fn lists_of(&self, feature: u32) -> Vec<&str> {
        self.lists.iter().filter(|(_, list)| list.features.contains(&feature)).map(|(name, _)| name.as_str()).collect()
    }

    /// The features of a list, by its exact name.
    pub fn list(&self, name: &str) -> impl Iterator<Item = u32> {
        self.lists.get(name).into_iter().flat_map(|list| list.features.iter().copied())
    }

    /// All lists with the number of their features.
    pub fn lists(&self) -> impl Iterator<Item = (&str, usize)> {
        self.lists.iter().map(|(name, list)| (name.as_str(), list.features.len()))
    }
}

/// Why a list cannot have a name, if so.
pub fn list_name_problem(name: &str) -> Option<&'static str> {
    let reason = "The name of a list cannot have quotation marks, because searches put them around it: list:\"NAME\".";
    name.contains('"').then_some(reason)
}

/// A text that people write about a feature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TextField {
    /// The label.
    Label,
    /// The notes.
    Notes,
    /// Who wrote the label.
    Author,
}
