//! Trees of messages: rows that name their parents, in any order, and rows with nested replies, to which rows may reply. A tree
//! becomes one row whose nodes each continue an earlier one; every other message becomes a row with the reason. Knows no tokens.

mod count;
mod link;

pub use count::{TreeCounter, TreeCounts};

use super::fields;
use super::image::ImageFile;
use super::record::{Record, Tree, TreeNode};
use super::row::{Row, Rows};
use super::row_error::RowError;
use super::schema::replies::{IDS, MOST_IMAGES, MOST_MESSAGES, size};
use super::speaker;
use crate::{Error, Result};
use link::{Link, Linked, NamedBy, Parent, Visit};
use sae_core::store::brief;
use sae_core::store::conversation::{Turn, TurnPart};
use sae_core::store::sample::{CONTINUES, Role, continues_turn};
use serde_json::Value;
use std::mem;
use std::path::Path;

/// Columns that name the parent of a message.
const PARENTS: [&str; 2] = ["parent_id", "parent"];
/// Columns that name the tree of a message.
const TREES: [&str; 2] = ["message_tree_id", "tree_id"];

/// The most bytes of rows that are held.
pub(crate) const MOST_BYTES: u64 = 4 << 30;

/// Combines messages into one row for each tree, in the order of the first messages. Messages that belong to no tree become rows
/// that cannot be used, each with its reason, after the trees. All rows are held in memory, because a parent may come after its
/// children.
///
/// # Errors
/// A file cannot be read, or the rows are larger than 4 GiB.
pub fn trees(rows: Rows) -> Result<Rows> {
    trees_within(rows, MOST_BYTES)
}

fn trees_within(rows: Rows, limit: u64) -> Result<Rows> {
    let (mut held, mut bytes) = (Vec::new(), 0);
    for row in rows {
        let row = row?;
        bytes += row_size(&row);
        if bytes > limit {
            return Err(Error::LargeTrees { rows: held.len() as u64, limit });
        }
        held.push(row);
    }
    Ok(Box::new(combine(held).into_iter().map(Ok)))
}

/// About how many bytes a row has.
fn row_size(row: &Row) -> u64 {
    let texts = |turns: &[Turn]| turns.iter().map(|turn| 64 + turn.text().len()).sum::<usize>();
    let record = row.record.as_ref().map_or(0, |record| {
        let images = record.images.iter().map(|image| 64 + image.path.len() + image.bytes.as_ref().map_or(0, Vec::len));
        let nodes = record.tree.nodes.iter().map(|node| 64 + node.id.len() + texts(&node.turns) + size(&node.meta));
        let pair = record.pair.iter().map(|pair| pair.chosen.len() + pair.rejected.len());
        texts(&record.turns) + size(&record.meta) + images.chain(nodes).chain(pair).sum::<usize>()
    });
    (256 + row.key.len() + row.source.len() + record) as u64
}

/// Where a message is in the rows.
#[derive(Clone, Copy)]
struct Place {
    row: usize,
    message: Message,
}

#[derive(Clone, Copy)]
enum Message {
    /// It is the row.
    Row,
    /// A node of the row's own tree.
    Node(usize),
    /// A nested message that cannot be used.
    Lost(usize),
}

/// The messages of a row, whose first one has the number `first`.
fn messages(row: &Row, first: usize) -> Vec<(Message, Link)> {
    let key = |wrong| Link { id: row.key.clone(), wrong, ..Link::default() };
    let record = match &row.record {
        Err(error) => return vec![(Message::Row, key(Some(error.cause.clone())))],
        Ok(record) => record,
    };
    if record.tree.nodes.is_empty() {
        let named = named(&record.meta).and_then(|named| check(record).map(|()| named));
        return vec![match named {
            Err(wrong) => (Message::Row, key(Some(wrong))),
            Ok(Named { id: Some(id), parent, tree }) => {
                (Message::Row, Link { id, named_by: NamedBy::Column, parent, tree, wrong: None })
            }
            Ok(Named { id: None, parent, tree }) => (Message::Row, Link { parent, tree, ..key(None) }),
        }];
    }
    let mut found = Vec::with_capacity(record.tree.nodes.len());
    for (n, node) in record.tree.nodes.iter().enumerate() {
        let link = Link { id: node.id.clone(), named_by: NamedBy::Message, ..Link::default() };
        let link = match node.parent {
            Some(parent) => Link { parent: Parent::Message(first + parent), ..link },
            None => match named(&node.meta) {
                Ok(Named { parent, tree, .. }) => Link { parent, tree, ..link },
                Err(wrong) => Link { wrong: Some(wrong), ..link },
            },
        };
        found.push((Message::Node(n), link));
    }
    for (n, (id, error)) in record.tree.lost.iter().enumerate() {
        let wrong = Some(error.cause.clone());
        let link = Link { id: id.clone(), named_by: NamedBy::Message, wrong, ..Link::default() };
        found.push((Message::Lost(n), link));
    }
    found
}

/// What a message names.
struct Named {
    id: Option<String>,
    parent: Parent,
    tree: Option<String>,
}

fn named(meta: &Value) -> Result<Named, String> {
    let Some(meta) = meta.as_object() else { return Ok(Named { id: None, parent: Parent::None, tree: None }) };
    let id = fields::identifier(meta, &IDS)?;
    let parent = fields::identifier(meta, &PARENTS)?.map_or(Parent::None, Parent::Named);
    Ok(Named { id, parent, tree: fields::identifier(meta, &TREES)? })
}

/// Checks that a row can be a node.
fn check(record: &Record) -> Result<(), String> {
    if record.pair.is_some() || record.action.is_some() {
        return Err("it has two answers or an action, which a node of a tree cannot have".into());
    }
    match record.meta.as_object().filter(|_| record.unattributed) {
        Some(meta) => speaker::named(meta).map(|_| ()),
        None => Ok(()),
    }
}

/// The messages of all rows that are given to it, and the trees that they form.
struct Forest {
    places: Vec<Place>,
    linked: Linked,
    trees: Vec<Vec<Visit>>,
}

impl Forest {
    fn new(rows: &[Row]) -> Self {
        let (mut places, mut links) = (Vec::new(), Vec::new());
        for (row, content) in rows.iter().enumerate() {
            for (message, link) in messages(content, places.len()) {
                places.push(Place { row, message });
                links.push(link);
            }
        }
        let mut linked = Linked::new(&links);
        // Images of the tree that is visited.
        let mut images = 0;
        let trees = linked.trees(|visit, tree| {
            let message = visit.message;
            let wrong = not_continued(rows, places[message], visit.parent.map(|parent| places[tree[parent].message]));
            if wrong.is_some() {
                return wrong;
            }
            let record = self::record(rows, places[message])?;
            // The images of nested messages are counted with the first one.
            let brings = !matches!(places[message].message, Message::Node(n) if n > 0);
            let own = if brings { record.images.len() } else { 0 };
            let Some(first) = tree.first() else {
                images = own;
                return None;
            };
            let has_video = record.video.is_some() || self::record(rows, places[first.message])?.video.is_some();
            if let Some(image) = missing_image(record, places[message].message) {
                return Some(format!("its image is not a file: {}", brief(&image.file.display().to_string())));
            }
            if own > 0 && has_video {
                return Some("only the first message of a tree may have a video, and then no other has images".into());
            }
            if tree.len() == MOST_MESSAGES {
                return Some(format!("its tree has more than {MOST_MESSAGES} messages"));
            }
            if own > 0 && images + own > MOST_IMAGES {
                return Some(format!("its tree has more than {MOST_IMAGES} images"));
            }
            images += own;
            None
        });
        Self { places, linked, trees }
    }
}

fn record(rows: &[Row], place: Place) -> Option<&Record> {
    rows[place.row].record.as_ref().ok()
}

/// Why a message cannot go on with the turn of its parent, if it is to.
fn not_continued(rows: &[Row], place: Place, parent: Option<Place>) -> Option<String> {
    let found = record(rows, place)?;
    let (turns, meta) = match place.message {
        Message::Node(n) => (&found.tree.nodes[n].turns, &found.tree.nodes[n].meta),
        Message::Row | Message::Lost(_) => (&found.turns, &found.meta),
    };
    if !continues_turn(meta) {
        return None;
    }
    let Some(parent) = parent else {
        return Some(format!("{CONTINUES} is true, but it is the first message of its tree"));
    };
    if turns.len() != 1 && !found.unattributed {
        return Some(format!("{CONTINUES} is true, but it has {} turns: expected one", turns.len()));
    }
    let (own, before) = (speaker_of(found, place.message)?, speaker_of(record(rows, parent)?, parent.message)?);
    let [own_name, name] = [own, before].map(Role::name);
    (own != before)
        .then(|| format!("{CONTINUES} is true, but it is said by the {own_name}, and its parent by the {name}"))
}

/// The speaker that a row names.
fn role_of(meta: &Value) -> Option<Role> {
    meta.as_object().and_then(|meta| speaker::named(meta).ok().flatten())
}

/// Who speaks last in a message, if it says so.
fn speaker_of(record: &Record, message: Message) -> Option<Role> {
    let last = |turns: &[Turn]| turns.last().map(|turn| turn.role);
    match message {
        Message::Node(n) => last(&record.tree.nodes[n].turns).filter(|_| !record.tree.nodes[n].unattributed),
        Message::Row | Message::Lost(_) if record.unattributed => role_of(&record.meta),
        Message::Row | Message::Lost(_) => last(&record.turns),
    }
}

/// An image of a message whose file does not exist. That of a first message is found when it is read, as the tree is lost with it.
fn missing_image(record: &Record, message: Message) -> Option<&ImageFile> {
    let is_missing = |image: &&ImageFile| image.bytes.is_none() && !image.path.contains("://") && !image.file.is_file();
    let shown = |part: &TurnPart| if let TurnPart::Image(number) = part { record.images.get(*number) } else { None };
    let turns = match message {
        Message::Node(n) => &record.tree.nodes[n].turns,
        Message::Row | Message::Lost(_) => &record.turns,
    };
    turns.iter().flat_map(|turn| &turn.parts).filter_map(shown).find(is_missing)
}

fn combine(mut rows: Vec<Row>) -> Vec<Row> {
    let Forest { places, linked, trees } = Forest::new(&rows);
    let mut is_used = vec![false; places.len()];
    trees.iter().flatten().for_each(|visit| is_used[visit.message] = true);
    let unused = (0..places.len()).filter(|message| !is_used[*message]);
    let skipped: Vec<Row> = unused.map(|n| skipped(&rows, places[n], linked.reasons[n].as_deref())).collect();
    let mut found: Vec<Row> = trees.iter().map(|tree| gather(&mut rows, &places, tree)).collect();
    found.extend(skipped);
    found
}

/// A message that belongs to no tree, as a row.
fn skipped(rows: &[Row], place: Place, reason: Option<&str>) -> Row {
    let row = &rows[place.row];
    let tree = row.record.as_ref().ok().map(|record| &record.tree);
    let (id, error) = match (place.message, tree) {
        (Message::Node(n), Some(tree)) => (tree.nodes.get(n).map(|node| node.id.as_str()), None),
        (Message::Lost(n), Some(tree)) => tree.lost.get(n).map(|(id, error)| (id.as_str(), error)).unzip(),
        _ => (None, row.record.as_ref().err()),
    };
    let lost = "it is not below a root that can be used: its parents are skipped or form a cycle";
    let error = error.cloned().unwrap_or_else(|| RowError::from(reason.unwrap_or(lost)));
    let key = id.map_or_else(|| row.key.clone(), |id| format!("{}/{id}", row.key));
    Row { number: row.number, source: row.source.clone(), key, has_own_key: row.has_own_key, record: Err(error) }
}

/// Takes the messages of a tree out of their rows.
fn gather(rows: &mut [Row], places: &[Place], tree: &[Visit]) -> Row {
    let (mut nodes, mut images): (Vec<TreeNode>, Vec<ImageFile>) = (Vec::with_capacity(tree.len()), Vec::new());
    let root = places[tree[0].message].row;
    let mut video = None;
    for visit in tree {
        let Place { row: number, message } = places[visit.message];
        let Row { key, source, record, .. } = &mut rows[number];
        let Ok(record) = record else { continue };
        let mut node = match message {
            Message::Node(n) => {
                let node = &mut record.tree.nodes[n];
                let row = (number != root).then(|| (format!("{key}/{}", node.id), source.clone()));
                TreeNode { row, ..mem::take(node) }
            }
            Message::Row | Message::Lost(_) => flat(record, key, source),
        };
        node.parent = visit.parent;
        node.continues = continues_turn(&node.meta);
        if nodes.is_empty() && record.video.is_some() {
            (video, images) = (record.video, mem::take(&mut record.images));
        }
        for part in node.turns.iter_mut().flat_map(|turn| &mut turn.parts) {
            // Each image is shown once. Images that only lost messages show stay where they are.
            if let TurnPart::Image(number) = part
                && let Some(image) = record.images.get_mut(*number)
            {
                *number = images.len();
                images.push(mem::replace(image, ImageFile::from_disk(Path::new(""))));
            }
        }
        nodes.push(node);
    }
    let Row { number, source, key, has_own_key, .. } = &rows[root];
    let (turns, meta) = nodes.first().map(|node| (node.turns.clone(), node.meta.clone())).unwrap_or_default();
    let record = Record {
        unanswered: false,
        turns,
        pair: None,
        about_answers: Default::default(),
        verbatim: None,
        action: None,
        images,
        video,
        unattributed: false,
        tree: Tree { nodes, lost: Vec::new() },
        meta,
    };
    Row { number: *number, source: source.clone(), key: key.clone(), has_own_key: *has_own_key, record: Ok(record) }
}

/// A row as a node.
fn flat(record: &mut Record, key: &str, source: &str) -> TreeNode {
    let (mut turns, meta) = (mem::take(&mut record.turns), mem::take(&mut record.meta));
    let mut unattributed = record.unattributed;
    if unattributed {
        // Outside of a tree, a text with an image is a caption, which the model says. In a tree both are one message.
        let parts = turns.drain(..).flat_map(|turn| turn.parts).collect();
        let role = role_of(&meta);
        turns.push(Turn { role: role.unwrap_or(Role::User), parts });
        unattributed = role.is_none();
    }
    let id = meta.as_object().and_then(|meta| fields::identifier(meta, &IDS).ok().flatten());
    let row = Some((key.to_owned(), source.to_owned()));
    TreeNode { id: id.unwrap_or_else(|| key.to_owned()), turns, unattributed, row, meta, ..TreeNode::default() }
}

#[cfg(test)]
mod tests;
