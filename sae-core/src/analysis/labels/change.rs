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

/// An edit of a label or of notes that somebody else had changed to something else since the editor saw them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Conflict {
    /// What the editor saw.
    pub before: Entry,
    /// What the other person wrote.
    pub theirs: Entry,
    /// What the editor wanted.
    pub yours: Entry,
    /// What the entry is now: it has both texts.
    pub merged: Entry,
}

impl Change {
    /// The edit that undoes this one.
    pub fn reversed(&self) -> Self {
        match self.clone() {
            Self::Entry { before, after } => Self::Entry { before: after, after: before },
            Self::List { name, before, after } => Self::List { name, before: after, after: before },
        }
    }

    /// Makes the edit, and returns what it met if that was another edit of the same text.
    pub(super) fn make(&self, written: &mut Written) -> Option<Conflict> {
        match self {
            Self::Entry { before, after } => {
                let labels = &mut written.labels;
                let found = labels.binary_search_by_key(&after.feature, |entry| entry.feature);
                let theirs = found.ok().map(|at| labels[at].clone()).unwrap_or_else(|| Entry::empty(after.feature));
                let (merged, is_conflict) = merge(before, after, theirs.clone());
                let conflict = is_conflict.then(|| Conflict {
                    before: before.clone(),
                    theirs,
                    yours: after.clone(),
                    merged: merged.clone(),
                });
                match (found, merged.is_empty()) {
                    (Ok(at), true) => drop(labels.remove(at)),
                    (Ok(at), false) => labels[at] = merged,
                    (Err(_), true) => {}
                    (Err(at), false) => labels.insert(at, merged),
                }
                conflict
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
                None
            }
        }
    }
}

/// Merges an edit from `before` to `after` into the present entry, `theirs`. If both changed the label, the edit's label wins, and
/// the other becomes a note. Also says whether both changed the label or the notes, to different texts.
fn merge(before: &Entry, after: &Entry, theirs: Entry) -> (Entry, bool) {
    let (mut merged, mut is_conflict) = (theirs.clone(), false);
    let label = |entry: &Entry| (entry.label.clone(), entry.author.clone(), entry.score);
    if label(before) != label(after) {
        (merged.label, merged.author, merged.score) = label(after);
        let others = ![&before.label, &after.label].contains(&&theirs.label) && !theirs.label.is_empty();
        is_conflict |= ![&before.label, &after.label].contains(&&theirs.label);
        if others {
            let by = if theirs.author.is_empty() { "" } else { " by " };
            let note = format!("also labeled \"{}\"{by}{}", theirs.label, theirs.author);
            merged.notes = joined(&merged.notes, &note);
        }
    }
    if before.notes != after.notes {
        let others = ![&before.notes, &after.notes].contains(&&merged.notes);
        // The same edit again, as of a page that is sent twice, adds nothing.
        let is_known = others && !after.notes.is_empty() && merged.notes.starts_with(&format!("{}\n", after.notes));
        is_conflict |= !is_known && ![&before.notes, &after.notes].contains(&&theirs.notes);
        merged.notes = match (others, is_known) {
            (true, true) => merged.notes,
            (true, false) => joined(&after.notes, &merged.notes),
            (false, _) => after.notes.clone(),
        };
    }
    if before.star != after.star {
        merged.star = after.star;
    }
    (merged, is_conflict)
}

fn joined(first: &str, second: &str) -> String {
    [first, second].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("\n")
}
