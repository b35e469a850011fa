//! Which messages continue which, by their ids and by the parents that they name. Reads no text and changes nothing.

use sae_core::store::DEEPEST;
use std::collections::BTreeMap;

/// A message as far as others can name it.
#[derive(Clone, Debug, Default)]
pub(super) struct Link {
    pub id: String,
    pub named_by: NamedBy,
    pub parent: Parent,
    /// The name of its tree, if it has one.
    pub tree: Option<String>,
    /// Why it cannot be used, if that is known already.
    pub wrong: Option<String>,
}

/// Where an id comes from. The ones first listed count first, because a row without an id is named by its key or number, which may
/// be the id of another one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum NamedBy {
    /// A column of the row. No other row may have the same.
    Column,
    /// A field of a nested message. Messages of other trees may have the same.
    Message,
    /// The key or the number of the row.
    #[default]
    Key,
}

/// What a message says about the one that it continues.
#[derive(Clone, Debug, Default)]
pub(super) enum Parent {
    /// Nothing: it is the first one of a tree.
    #[default]
    None,
    /// It is nested in the message with this number.
    Message(usize),
    /// It names it.
    Named(String),
}

/// A message in its tree.
pub(super) struct Visit {
    pub message: usize,
    /// The number of its parent among the messages of the tree.
    pub parent: Option<usize>,
    /// The messages of its path.
    pub depth: usize,
}

/// Messages that found their parents.
pub(super) struct Linked {
    /// The messages that name each message.
    children: Vec<Vec<usize>>,
    roots: Vec<usize>,
    /// Why each message cannot be used, as far as this is known.
    pub reasons: Vec<Option<String>>,
}

impl Linked {
    /// Finds the parents of all messages.
    pub fn new(links: &[Link]) -> Self {
        let mut reasons: Vec<Option<String>> = links.iter().map(|link| link.wrong.clone()).collect();
        // For each way to be named: the first message with a name, and how many have it.
        let mut names = [(); 3].map(|()| BTreeMap::<&str, (usize, usize)>::new());
        for (n, link) in links.iter().enumerate() {
            let (_, count) = names[link.named_by as usize].entry(&link.id).or_insert((n, 0));
            *count += 1;
            if *count > 1 && link.named_by == NamedBy::Column && reasons[n].is_none() {
                reasons[n] = Some(format!("another row has the id {}", link.id));
            }
        }
        let find = |name: &str| names.iter().find_map(|names| names.get(name)).copied();
        let (mut children, mut roots) = (vec![Vec::new(); links.len()], Vec::new());
        for (n, link) in links.iter().enumerate().filter(|(n, _)| reasons[*n].is_none()).collect::<Vec<_>>() {
            match &link.parent {
                Parent::None => roots.push(n),
                Parent::Message(parent) => children[*parent].push(n),
                Parent::Named(name) => match find(name).or_else(|| find(whole_number(name)?)) {
                    Some((parent, 1)) => children[parent].push(n),
                    Some((_, count)) => reasons[n] = Some(format!("its parent is the id of {count} messages: {name}")),
                    None => reasons[n] = Some(format!("its parent {name} is not among the rows (an orphan)")),
                },
            }
        }
        let mut of_tree: BTreeMap<&str, usize> = BTreeMap::new();
        for root in &roots {
            if let Some(tree) = &links[*root].tree {
                let first = *of_tree.entry(tree).or_insert(*root);
                if first != *root {
                    let (first, root_id) = (&links[first].id, &links[*root].id);
                    reasons[*root] = Some(format!("the tree {tree} has two roots: {first} and {root_id}"));
                }
            }
        }
        Self { children, roots, reasons }
    }

    /// The messages of each tree, depth first. `refuse` says why a message cannot be one of the tree that was visited so far; such
    /// a message ends its branch.
    pub fn trees(&mut self, mut refuse: impl FnMut(&Visit, &[Visit]) -> Option<String>) -> Vec<Vec<Visit>> {
        let mut trees = Vec::new();
        for root in &self.roots {
            let (mut tree, mut open) = (Vec::new(), vec![Visit { message: *root, parent: None, depth: 1 }]);
            while let Some(visit) = open.pop() {
                let (message, depth, number) = (visit.message, visit.depth, tree.len());
                let reason = &mut self.reasons[message];
                if reason.is_none() && depth > DEEPEST {
                    *reason = Some(format!("it is deeper in its tree than {DEEPEST} messages"));
                }
                if reason.is_none() {
                    *reason = refuse(&visit, &tree);
                }
                if reason.is_some() {
                    continue;
                }
                tree.push(visit);
                let child = |child: &usize| Visit { message: *child, parent: Some(number), depth: depth + 1 };
                open.extend(self.children[message].iter().rev().map(child));
            }
            if !tree.is_empty() {
                trees.push(tree);
            }
        }
        trees
    }
}

/// The digits of a whole number that a table writes as a float, such as 3.0.
fn whole_number(name: &str) -> Option<&str> {
    let (whole, fraction) = name.split_once('.')?;
    let is_whole = !whole.is_empty() && whole.bytes().all(|byte| byte.is_ascii_digit());
    (is_whole && !fraction.is_empty() && fraction.bytes().all(|byte| byte == b'0')).then_some(whole)
}
