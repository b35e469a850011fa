//! An edit of what is written about features, with the old and the new value. It is combined with other people's edits by a
//! three-way merge. Reads and writes no file.

use super::{Entry, Written};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// An edit. The old value matters if somebody else has changed the same entry in between.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(clippy::large_enum_variant, reason = "there are a few of them at a time")]
pub enum Change {
    /// An edit of a feature's entry.
    Entry {
        /// What the editor saw.
        before: Entry,
        /// What the editor wants, for the same feature.
        after: Entry,
    },
    /// An edit of a named list: the added features are added and the removed ones removed; the rest stays as it is.
    List {
        /// Its name.
        name: String,
        /// What the editor saw.
        before: Vec<u32>,
        /// What the editor wants; an empty list is deleted.
        after: Vec<u32>,
    },
}

impl Change {
    /// The edit that undoes this one.
    pub fn reversed(&self) -> Self {
        match self.clone() {
            Self::Entry { before, after } => Self::Entry { before: after, after: before },
            Self::List { name, before, after } => Self::List { name, before: after, after: before },
        }
    }

    pub(super) fn make(&self, written: &mut Written) {
        match self {
            Self::Entry { before, after } => {
                let labels = &mut written.labels;
                let found = labels.binary_search_by_key(&after.feature, |entry| entry.feature);
                let theirs = found.ok().map(|at| labels[at].clone()).unwrap_or_else(|| Entry::empty(after.feature));
                let merged = merge(before, after, theirs);
                match (found, merged.is_empty()) {
                    (Ok(at), true) => drop(labels.remove(at)),
                    (Ok(at), false) => labels[at] = merged,
                    (Err(_), true) => {}
                    (Err(at), false) => labels.insert(at, merged),
                }
            }
            Self::List { name, before, after } => {
                let set = |list: &[u32]| list.iter().copied().collect::<BTreeSet<_>>();
                let (before, after) = (set(before), set(after));
                let mut list = written.lists.get(name).map(|list| set(list)).unwrap_or_default();
                list.retain(|feature| after.contains(feature) || !before.contains(feature));
                list.extend(after.difference(&before));
                if list.is_empty() {
                    written.lists.remove(name);
                } else {
                    written.lists.insert(name.clone(), list.into_iter().collect());
                }
            }
        }
    }
}

/// Merges an edit from `before` to `after` into the present entry, `theirs`. If both changed the label, the edit's label wins, and
/// the other becomes a note.
fn merge(before: &Entry, after: &Entry, theirs: Entry) -> Entry {
    let mut merged = theirs.clone();
    let label = |entry: &Entry| (entry.label.clone(), entry.author.clone(), entry.score);
    if label(before) != label(after) {
        (merged.label, merged.author, merged.score) = label(after);
        let others = ![&before.label, &after.label].contains(&&theirs.label) && !theirs.label.is_empty();
        if others {
            let by = if theirs.author.is_empty() { "" } else { " by " };
            let note = format!("also labeled \"{}\"{by}{}", theirs.label, theirs.author);
            merged.notes = joined(&merged.notes, &note);
        }
    }
    if before.notes != after.notes {
        let others = ![&before.notes, &after.notes].contains(&&merged.notes);
        merged.notes = if others { joined(&after.notes, &merged.notes) } else { after.notes.clone() };
    }
    if before.star != after.star {
        merged.star = after.star;
    }
    merged
}

fn joined(first: &str, second: &str) -> String {
    [first, second].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("\n")
}
