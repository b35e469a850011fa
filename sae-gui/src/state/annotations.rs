//! What searches know of people's words: labels, notes, stars and lists, ready to be compared. Draws and writes nothing.

use super::label_edits::LabelEdits;
use std::collections::{BTreeMap, BTreeSet};

/// What is written about features, for searching.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Annotations {
    entries: BTreeMap<u32, Mark>,
    lists: BTreeMap<String, BTreeSet<u32>>,
}

#[derive(Clone, Debug, PartialEq)]
struct Mark {
    label: String,
    /// The label in small letters.
    small: String,
    notes: String,
    author: String,
    star: bool,
}

impl Annotations {
    /// What is written by now.
    pub fn of(labeling: &LabelEdits) -> Self {
        let mark = |entry: &sae_core::analysis::labels::Entry| Mark {
            label: entry.label.clone(),
            small: entry.label.to_lowercase(),
            notes: entry.notes.to_lowercase(),
            author: entry.author.to_lowercase(),
            star: entry.star,
        };
        let entries = labeling.entries().iter().map(|entry| (entry.feature, mark(entry)));
        let lists = labeling.lists().into_iter().flatten();
        let lists = lists.map(|(name, list)| (name.to_lowercase(), list.iter().copied().collect()));
        Self { entries: entries.collect(), lists: lists.collect() }
    }

    /// The label of a feature.
    pub fn label(&self, feature: u32) -> Option<&str> {
        self.entries.get(&feature).map(|mark| mark.label.as_str()).filter(|label| !label.is_empty())
    }

    /// All labeled features with their labels.
    pub fn labels(&self) -> impl Iterator<Item = (u32, &str)> {
        let labeled = self.entries.iter().filter(|(_, mark)| !mark.label.is_empty());
        labeled.map(|(feature, mark)| (*feature, mark.label.as_str()))
    }

    /// Whether a feature has a star.
    pub fn star(&self, feature: u32) -> bool {
        self.entries.get(&feature).is_some_and(|mark| mark.star)
    }

    /// Whether what is written in a feature's field holds some words, in small letters; all labels hold no words.
    pub fn holds(&self, feature: u32, field: Words, words: &str) -> bool {
        let Some(mark) = self.entries.get(&feature) else { return false };
        let text = match field {
            Words::Label => &mark.small,
            Words::Notes => &mark.notes,
            Words::Author => &mark.author,
        };
        !text.is_empty() && text.contains(words)
    }

    /// Whether a feature is in a list whose name begins so, in small letters.
    pub fn listed(&self, feature: u32, name: &str) -> bool {
        let lists = self.lists.range(name.to_owned()..).take_while(|(list, _)| list.starts_with(name));
        lists.into_iter().any(|(_, list)| list.contains(&feature))
    }
}

/// What people write as words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Words {
    /// The label.
    Label,
    /// The notes.
    Notes,
    /// Who wrote the label.
    Author,
}
