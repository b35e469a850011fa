//! Trees of messages: rows that name their parents, in any order, or a row with nested replies. A tree becomes one row whose nodes
//! each continue an earlier one; what contradicts itself becomes a row with the reason. Knows no tokens.

use super::fields::{self, Fields};
use super::lenient::json_type;
use super::record::{Record, TreeNode};
use super::row::{Row, Rows};
use super::row_error::RowError;
use crate::Result;
use sae_core::store::DEEPEST;
use sae_core::store::conversation::Turn;
use sae_core::store::sample::Role;
use serde_json::Value;
use std::collections::BTreeMap;

/// Columns that name the parent of a row.
const PARENTS: [&str; 2] = ["parent_id", "parent"];
/// Columns that name the tree of a row.
const TREES: [&str; 2] = ["message_tree_id", "tree_id"];
/// Columns that name a message in a tree.
const IDS: [&str; 2] = ["message_id", "id"];

/// Columns with a text of the row's own, beside which replies are metadata.
const OWN_TEXTS: [&str; 15] = [
    "conversations",
    "messages",
    "texts",
    "question",
    "instruction",
    "input",
    "caption",
    "txt",
    "answer",
    "response",
    "chosen",
    "rejected",
    "output",
    "completion",
    "task",
];

/// Columns with the text of a message.
const TEXTS: [&str; 3] = ["text", "content", "value"];

/// Takes a tree of nested replies out of a row: OASST's `prompt` with its `replies`, or the root's columns beside `replies`, some
/// of which are messages. Replies in a row with a conversation, a caption or an answer of its own are metadata.
///
/// # Errors
/// A message is not one, a path is too deep, or two messages have one id.
pub(super) fn nested(columns: &mut Fields) -> Result<Option<Vec<TreeNode>>, RowError> {
    let has_text = |message: &Fields| fields::first(message, &TEXTS).is_some_and(|(_, text)| text.is_string());
    let is_message = |value: &Value| value.as_object().is_some_and(has_text);
    let replies =
        |value: Option<&Value>| value.and_then(Value::as_array).is_some_and(|list| list.iter().any(is_message));
    let prompt = fields::get(columns, "prompt");
    let root = match prompt.and_then(|prompt| prompt.get("replies")) {
        _ if fields::first(columns, &OWN_TEXTS).is_some() => return Ok(None),
        Some(Value::Array(_)) if !has_text(columns) => columns.shift_remove("prompt").unwrap_or_default(),
        None if prompt.is_none() && has_text(columns) && replies(columns.get("replies")) => {
            Value::Object(std::mem::take(columns))
        }
        _ => return Ok(None),
    };
    let mut nodes: Vec<TreeNode> = Vec::new();
    // Messages that are not read yet, each with its parent, the depth of its path, and its number among its siblings.
    let mut open = vec![(root, None::<usize>, 1, 0)];
    while let Some((message, parent, depth, sibling)) = open.pop() {
        let place = parent.map_or("root".to_owned(), |parent| format!("{}.{sibling}", nodes[parent].id));
        let Value::Object(mut message) = message else {
            return Err(
                format!("message {place} of the tree: expected an object, found {}", json_type(&message)).into()
            );
        };
        let id = IDS.iter().find_map(|name| name_of(message.get(*name)?)).unwrap_or(place);
        if depth > DEEPEST {
            return Err(format!("message {id} of the tree is deeper than {DEEPEST} messages").into());
        }
        if nodes.iter().any(|node| node.id == id) {
            return Err(format!("two messages of the tree have the id {id}").into());
        }
        let replies = match message.shift_remove("replies") {
            None | Some(Value::Null) => Vec::new(),
            Some(Value::Array(replies)) => replies,
            Some(other) => {
                return Err(format!("message {id}: expected a list of replies, found {}", json_type(&other)).into());
            }
        };
        let text = fields::take_text(&mut message, &TEXTS)?;
        let text = text.ok_or_else(|| format!("message {id} of the tree has no text"))?;
        let role = speaker(&message, depth)?;
        let turns = vec![Turn::from_text(role, &text)];
        nodes.push(TreeNode { id, parent, turns, row: None, meta: Value::Object(message) });
        let number = nodes.len() - 1;
        open.extend(replies.into_iter().enumerate().rev().map(|(n, reply)| (reply, Some(number), depth + 1, n + 1)));
    }
    Ok(Some(nodes))
}

/// Who says a message: what it says itself, otherwise the user and the model in turn.
fn speaker(message: &Fields, depth: usize) -> Result<Role, RowError> {
    match fields::first(message, &["role", "from"]).map(|(_, role)| role) {
        None => Ok(if depth % 2 == 1 { Role::User } else { Role::Assistant }),
        Some(Value::String(role)) => match role.to_ascii_lowercase().as_str() {
            "prompter" | "user" | "human" => Ok(Role::User),
            "assistant" | "gpt" | "model" => Ok(Role::Assistant),
            "system" => Ok(Role::System),
            _ => Err(format!("the speaker {role:?}: expected prompter, user, assistant or system").into()),
        },
        Some(other) => Err(format!("the speaker is {}: expected a text", json_type(other)).into()),
    }
}

fn name_of(value: &Value) -> Option<String> {
    match value {
        Value::String(name) if !name.is_empty() => Some(name.clone()),
        Value::Number(name) => Some(name.to_string()),
        _ => None,
    }
}

/// Combines rows that name their parents into one row for each tree, in the order of their roots. Rows that are trees themselves
/// stay. Rows that belong to no tree become rows that cannot be used, each with its reason, after the trees. All rows are held in
/// memory, because a parent may come after its children.
///
/// # Errors
/// A file cannot be read.
pub(crate) fn trees(rows: Rows) -> Result<Rows> {
    let rows = rows.collect::<Result<Vec<Row>>>()?;
    let names = |row: &Row, columns: &[&str]| {
        let record = row.record.as_ref().ok()?;
        columns.iter().find_map(|name| name_of(record.meta.get(*name)?))
    };
    let ids: Vec<String> = rows.iter().map(|row| names(row, &IDS).unwrap_or_else(|| row.key.clone())).collect();
    let parents: Vec<Option<String>> = rows.iter().map(|row| names(row, &PARENTS)).collect();
    let mut reasons: Vec<Option<String>> = vec![None; rows.len()];
    let mut by_id: BTreeMap<&str, usize> = BTreeMap::new();
    for (n, id) in ids.iter().enumerate() {
        if by_id.insert(id, n).is_some() {
            reasons[n] = Some(format!("another row has the id {id}"));
        }
    }
    let mut children: Vec<Vec<usize>> = vec![Vec::new(); rows.len()];
    let mut roots = Vec::new();
    for (n, parent) in parents.iter().enumerate() {
        match parent.as_ref().map(|parent| by_id.get(parent.as_str())) {
            None => roots.push(n),
            Some(Some(parent)) => children[*parent].push(n),
            Some(None) => {
                let parent = parent.clone().unwrap_or_default();
                reasons[n] =
                    reasons[n].take().or(Some(format!("its parent {parent} is not among the rows (an orphan)")));
            }
        }
    }
    let mut of_tree: BTreeMap<String, usize> = BTreeMap::new();
    for root in &roots {
        if let Some(tree) = names(&rows[*root], &TREES)
            && let Some(first) = of_tree.insert(tree.clone(), *root)
        {
            reasons[*root] = Some(format!("the tree {tree} has two roots: {} and {}", ids[first], ids[*root]));
        }
    }
    // The rows of each tree, depth first; a row that cannot be used ends its branch.
    let mut orders = Vec::new();
    for root in roots {
        let (mut order, mut open) = (Vec::new(), vec![(root, None::<usize>, 1)]);
        while let Some((n, parent, depth)) = open.pop() {
            if depth > DEEPEST {
                reasons[n] = Some(format!("it is deeper in its tree than {DEEPEST} rows"));
            }
            if reasons[n].is_some() || rows[n].record.is_err() {
                continue;
            }
            order.push((n, parent, depth));
            let number = order.len() - 1;
            open.extend(children[n].iter().rev().map(|child| (*child, Some(number), depth + 1)));
        }
        orders.push(order);
    }
    let mut rows: Vec<Option<Row>> = rows.into_iter().map(Some).collect();
    let mut found: Vec<Row> = Vec::new();
    for order in orders {
        let Some((root, ..)) = order.first().copied() else { continue };
        let mut nodes = Vec::with_capacity(order.len());
        let mut tree: Option<Row> = None;
        let mut wrong: Option<RowError> = None;
        for (n, parent, depth) in &order {
            let Some(row) = rows[*n].take() else { continue };
            if let Ok(record) = &row.record {
                match node(&ids[*n], *parent, *depth, record, (row.key.clone(), row.source.clone())) {
                    Ok(node) => nodes.push(node),
                    Err(error) => wrong = wrong.or(Some(error)),
                }
            }
            if *n == root {
                tree = Some(row);
            }
        }
        if let Some(mut row) = tree {
            match (&mut row.record, wrong) {
                (_, Some(error)) => row.record = Err(error),
                // A row with nested replies is a tree already.
                (Ok(record), None) if record.tree.is_empty() => record.tree = nodes,
                _ => {}
            }
            found.push(row);
        }
    }
    for (n, row) in rows.into_iter().enumerate() {
        let Some(mut row) = row else { continue };
        let lost =
            || format!("it is not below a root that can be used: its parents are skipped or form a cycle ({})", ids[n]);
        if row.record.is_ok() {
            row.record = Err(reasons[n].take().unwrap_or_else(lost).into());
        }
        found.push(row);
    }
    let rows = (0..).zip(found).map(|(number, row)| Ok(Row { number, ..row }));
    Ok(Box::new(rows))
}

/// What a row adds to its tree.
fn node(
    id: &str,
    parent: Option<usize>,
    depth: usize,
    record: &Record,
    row: (String, String),
) -> Result<TreeNode, RowError> {
    let failed = |cause: &str| RowError::from(format!("row {id} of the tree {cause}"));
    if record.pair.is_some() || record.action.is_some() {
        return Err(failed("has two answers or an action, which a node cannot have"));
    }
    if parent.is_some() && !record.images.is_empty() {
        return Err(failed("has an image: only the root may have images"));
    }
    let mut turns = record.turns.clone();
    // Outside of a tree, a text with an image is a caption, which the model says. In a tree both are one message.
    if let [shown, said] = &turns[..]
        && record.verbatim.is_some()
        && shown.text().is_empty()
    {
        turns = vec![Turn { role: Role::User, parts: [&shown.parts[..], &said.parts].concat() }];
    }
    if let [turn] = &mut turns[..]
        && let Some(meta) = record.meta.as_object()
    {
        turn.role = speaker(meta, depth)?;
    }
    Ok(TreeNode { id: id.to_owned(), parent, turns, row: Some(row), meta: record.meta.clone() })
}
