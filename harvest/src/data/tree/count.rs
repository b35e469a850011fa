//! How many trees the rows of a data set form, for a description of it. Keeps ids, and no text.

use super::link::{Link, Linked, Parent};
use super::messages;
use crate::data::row::Row;

/// Messages beyond which trees are not counted.
const MOST_LINKS: usize = 1 << 22;

/// Counts trees among rows that are added in any order.
#[derive(Default)]
pub struct TreeCounter {
    links: Vec<Link>,
    nested: u64,
    is_full: bool,
}

/// The trees that rows form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct TreeCounts {
    /// Trees of at least two messages.
    pub trees: u64,
    /// Rows that are trees of nested replies themselves.
    pub nested: u64,
    /// Messages of all these trees.
    pub messages: u64,
    /// Messages of the longest path.
    pub depth: u64,
    /// Messages that name a parent and belong to no tree: there is none, or it cannot be used.
    pub unattached: u64,
}

impl TreeCounter {
    /// Adds the messages of a row.
    pub fn add(&mut self, row: &Row) {
        self.nested += u64::from(row.record.as_ref().is_ok_and(|record| !record.tree.nodes.is_empty()));
        self.is_full |= self.links.len() >= MOST_LINKS;
        if !self.is_full {
            let messages = messages(row, self.links.len());
            self.links.extend(messages.into_iter().map(|(_, link)| link));
        }
    }

    /// The trees, if there are any. Of more than four million messages there is no count.
    pub fn finish(self) -> Option<TreeCounts> {
        let Self { links, nested, is_full } = self;
        let names_parent = |link: &&Link| !matches!(link.parent, Parent::None);
        if is_full || !links.iter().any(|link| names_parent(&link)) {
            return None;
        }
        let all = Linked::new(&links).trees(|_, _| None);
        let trees: Vec<_> = all.iter().filter(|tree| tree.len() > 1).collect();
        let messages = trees.iter().map(|tree| tree.len() as u64).sum();
        let depth = trees.iter().flat_map(|tree| tree.iter()).map(|visit| visit.depth as u64).max()?;
        let attached = messages - trees.len() as u64;
        let unattached = links.iter().filter(names_parent).count() as u64 - attached;
        Some(TreeCounts { trees: trees.len() as u64, nested, messages, depth, unattached })
    }
}
