//! An edit of what is written about features: what was there, what is to be. Meets other people's edits like a merge of
//! three versions does. Reads and writes no file.

use super::{Entry, Written};
use std::collections::BTreeSet;

/// An edit. What it was made from matters where somebody else has changed the same since.
#[derive(Clone, Debug, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "there are a few of them at a time")]
pub enum Change {
    /// Of what is written about a feature.
    Entry {
        /// What the editor saw.
        before: Entry,
        /// What the editor wants, of the same feature.
        after: Entry,
    },
    /// Of a named list: what is added and removed is, the rest stays as others made it.
    List {
        /// Its name.
        name: String,
        /// What the editor saw.
        before: Vec<u32>,
        /// What the editor wants; an empty list goes.
        after: Vec<u32>,
    },
}

impl Change {
    /// The edit that takes this one back.
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
                let place = labels.binary_search_by_key(&after.feature, |entry| entry.feature);
                let theirs = place.ok().map(|at| labels[at].clone()).unwrap_or_else(|| Entry::empty(after.feature));
                let merged = merge(before, after, theirs);
                match (place, merged.says_nothing()) {
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
                match list.is_empty() {
                    true => drop(written.lists.remove(name)),
                    false => drop(written.lists.insert(name.clone(), list.into_iter().collect())),
                }
            }
        }
    }
}

/// The wanted entry on top of the one that is there. Of two labels the wanted one stands, and the other becomes a note.
fn merge(before: &Entry, after: &Entry, theirs: Entry) -> Entry {
    let mut merged = theirs.clone();
    let said = |entry: &Entry| (entry.label.clone(), entry.author.clone(), entry.score);
    if said(before) != said(after) {
        (merged.label, merged.author, merged.score) = said(after);
        let others = ![&before.label, &after.label].contains(&&theirs.label) && !theirs.label.is_empty();
        if others {
            let by = if theirs.author.is_empty() { "" } else { " by " };
            let note = format!("also labeled \"{}\"{by}{}", theirs.label, theirs.author);
            merged.notes = both(&merged.notes, &note);
        }
    }
    if before.notes != after.notes {
        let others = ![&before.notes, &after.notes].contains(&&merged.notes);
        merged.notes = if others { both(&after.notes, &merged.notes) } else { after.notes.clone() };
    }
    if before.star != after.star {
        merged.star = after.star;
    }
    merged
}

fn both(first: &str, second: &str) -> String {
    [first, second].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("\n")
}
