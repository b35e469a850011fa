//! Nested replies: OASST's `prompt` with its `replies`, the columns of the first message beside its `replies`, or a question with ranked
//! answers. Each message becomes a node with its own images; a message that cannot be used is lost with what replies to it, and its
//! siblings stay.

use super::{Schema, is_known, media};
use crate::data::columns::Columns;
use crate::data::fields::{self, Fields};
use crate::data::image::ImageFile;
use crate::data::lenient::json_type;
use crate::data::record::{Record, Tree, TreeNode, Video};
use crate::data::row_error::RowError;
use crate::data::speaker;
use sae_core::store::DEEPEST;
use sae_core::store::conversation::{Turn, TurnPart};
use sae_core::store::sample::Role;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// Columns that name a message in a tree.
pub(in crate::data) const IDS: [&str; 2] = ["message_id", "id"];

/// The most messages of a tree.
pub(in crate::data) const MOST_MESSAGES: usize = 4096;

/// The most images of a tree.
pub(in crate::data) const MOST_IMAGES: usize = 1024;

/// The most bytes of the columns of a row, counted once for each message, since all messages have them.
const COLUMNS_LIMIT: usize = 1 << 26;

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

/// Takes the first message of a tree of nested replies out of a row, if it is one: some of the replies have to be messages. Replies
/// in a row with a conversation, a caption or an answer of its own are metadata.
pub(super) fn take_root(columns: &mut Fields) -> Option<Value> {
    let has_text = |message: &Fields| fields::first(message, &TEXTS).is_some_and(|(_, text)| text.is_string());
    let is_message = |value: &Value| value.as_object().is_some_and(has_text);
    let replies =
        |value: Option<&Value>| value.and_then(Value::as_array).is_some_and(|list| list.iter().any(is_message));
    let prompt = fields::get(columns, "prompt");
    match prompt.and_then(|prompt| prompt.get("replies")) {
        _ if fields::first(columns, &OWN_TEXTS).is_some() => None,
        Some(Value::Array(_)) if !has_text(columns) => columns.shift_remove("prompt"),
        None if prompt.is_none() && has_text(columns) && replies(columns.get("replies")) => {
            Some(Value::Object(std::mem::take(columns)))
        }
        _ => None,
    }
}

/// Takes a question with a ranked list of answers out of a row, as a message with its replies: `answers` (or `responses`, or
/// `completions`) are texts or messages, each with its own `rank` or with one in the list `ranks`.
///
/// # Errors
/// There are more or fewer ranks than answers.
pub(super) fn take_ranked(columns: &mut Fields) -> Result<Option<Value>, String> {
    const OTHER_ANSWERS: [&str; 8] =
        ["conversations", "messages", "answer", "response", "chosen", "rejected", "output", "completion"];
    let is_list = |name: &&str| fields::get(columns, name).is_some_and(Value::is_array);
    let Some(list) = ["answers", "responses", "completions"].into_iter().find(is_list) else { return Ok(None) };
    let question = fields::first(columns, &["question", "prompt", "instruction"]).filter(|(_, text)| text.is_string());
    let Some((question, _)) = question.filter(|_| fields::first(columns, &OTHER_ANSWERS).is_none()) else {
        return Ok(None);
    };
    let ranks = columns.get("ranks").and_then(Value::as_array).cloned();
    let answers = columns.get(list).and_then(Value::as_array).cloned().unwrap_or_default();
    match &ranks {
        None if !answers.iter().all(|answer| answer.get("rank").is_some()) => return Ok(None),
        Some(ranks) if ranks.len() != answers.len() => {
            return Err(format!("the row has {} answers, but {} ranks", answers.len(), ranks.len()));
        }
        _ => {}
    }
    let reply = |(n, answer): (usize, Value)| {
        let Value::Object(mut message) = answer else {
            let rank = ranks.as_ref().map_or(Value::Null, |ranks| ranks[n].clone());
            return json!({"message_id": format!("answer_{}", n + 1), "role": "assistant", "text": answer, "rank": rank});
        };
        if let Some(text) =
            ["response", "answer", "completion"].iter().find_map(|name| fields::take(&mut message, name))
        {
            message.entry("text").or_insert(text);
        }
        if fields::first(&message, &IDS).is_none() {
            message.insert("message_id".into(), format!("answer_{}", n + 1).into());
        }
        message.entry("role").or_insert_with(|| "assistant".into());
        if let Some(ranks) = &ranks {
            message.insert("rank".into(), ranks[n].clone());
        }
        Value::Object(message)
    };
    let replies: Vec<Value> = answers.into_iter().enumerate().map(reply).collect();
    let text = columns.shift_remove(question);
    columns.shift_remove(list);
    columns.shift_remove("ranks");
    Ok(Some(json!({"message_id": "prompt", "role": "user", "text": text, "replies": replies})))
}

/// A message that is not read yet.
struct Unread {
    message: Value,
    /// The number of the node that it replies to, the number of messages on its path, and its own number among its siblings.
    parent: Option<usize>,
    depth: usize,
    sibling: usize,
}

/// The tree below a first message. Images and the video of the row are those of the first message; `columns` are the other columns
/// of the row, which all messages have.
///
/// # Errors
/// The first message cannot be used, or the columns are too large for so many messages.
pub(super) fn record(
    root: Value,
    mut columns: Fields,
    images: Vec<ImageFile>,
    video: Option<Video>,
) -> Result<Record, RowError> {
    columns.retain(|name, value| !(is_known(name) && fields::is_absent(value)));
    let (mut tree, mut all, mut ids) = (Tree::default(), Vec::new(), BTreeSet::new());
    let mut shown = Some((images, video));
    let mut open = vec![Unread { message: root, parent: None, depth: 1, sibling: 0 }];
    while let Some(Unread { message, parent, depth, sibling }) = open.pop() {
        let place = parent.map_or("root".to_owned(), |parent| format!("{}.{sibling}", tree.nodes[parent].id));
        let (images, own_video) = shown.take().unwrap_or_default();
        match node(message, place, parent, depth, images, own_video) {
            Err((_, error)) if parent.is_none() => {
                return Err(RowError { cause: format!("the first message of the tree: {}", error.cause), ..error });
            }
            Err(lost) => tree.lost.push(lost),
            Ok((node, ..)) if ids.contains(&node.id) => {
                let error = "another message of the tree has the same id".into();
                tree.lost.push((node.id, error));
            }
            Ok((node, ..)) if tree.nodes.len() == MOST_MESSAGES => {
                let error = format!("its tree has more than {MOST_MESSAGES} messages").into();
                tree.lost.push((node.id, error));
            }
            Ok((node, images, _)) if !images.is_empty() && parent.is_some() && video.is_some() => {
                tree.lost.push((node.id, "it has an image, but the first message of its tree has a video".into()));
            }
            Ok((node, images, _)) if video.is_none() && all.len() + images.len() > MOST_IMAGES => {
                tree.lost.push((node.id, format!("its tree has more than {MOST_IMAGES} images").into()));
            }
            Ok((mut node, images, replies)) => {
                count_images_from(&mut node.turns, all.len());
                all.extend(images);
                ids.insert(node.id.clone());
                tree.nodes.push(node);
                let (parent, depth) = (Some(tree.nodes.len() - 1), depth + 1);
                let reply = |(n, message)| Unread { message, parent, depth, sibling: n + 1 };
                open.extend(replies.into_iter().enumerate().rev().map(reply));
            }
        }
    }
    let bytes = columns.iter().map(|(name, value)| name.len() + size(value)).sum::<usize>();
    if bytes.saturating_mul(tree.nodes.len()) > COLUMNS_LIMIT {
        let (messages, limit) = (tree.nodes.len(), COLUMNS_LIMIT >> 20);
        return Err(format!(
            "each of the {messages} messages of the tree would have {bytes} bytes of other columns of the row: expected at most \
             {limit} MiB in all"
        )
        .into());
    }
    for node in &mut tree.nodes {
        let Value::Object(own) = std::mem::take(&mut node.meta) else { continue };
        let mut meta = columns.clone();
        meta.extend(own);
        node.meta = Value::Object(meta);
    }
    let Some(root) = tree.nodes.first() else {
        let error = tree.lost.pop().map(|(_, error)| error);
        return Err(error.unwrap_or_else(|| "the tree has no messages".into()));
    };
    Ok(Record {
        turns: root.turns.clone(),
        unanswered: false,
        pair: None,
        about_answers: Default::default(),
        verbatim: None,
        action: None,
        images: all,
        video,
        unattributed: false,
        tree,
        meta: Value::Object(columns),
    })
}

/// A node with its images, counted from 0, and the messages that reply to it; otherwise its id and the reason.
type Read = Result<(TreeNode, Vec<ImageFile>, Vec<Value>), (String, RowError)>;

fn node(
    message: Value,
    place: String,
    parent: Option<usize>,
    depth: usize,
    images: Vec<ImageFile>,
    video: Option<Video>,
) -> Read {
    let Value::Object(mut message) = message else {
        return Err((place, format!("it is {}: expected a message, which is an object", json_type(&message)).into()));
    };
    let id = match fields::identifier(&message, &IDS) {
        Ok(id) => id.unwrap_or(place),
        Err(error) => return Err((place, error.into())),
    };
    if depth > DEEPEST {
        return Err((id, format!("it is deeper in its tree than {DEEPEST} messages").into()));
    }
    let replies = match message.shift_remove("replies") {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::Array(replies)) => replies,
        Some(other) => {
            return Err((id, format!("its replies are {}: expected a list of messages", json_type(&other)).into()));
        }
    };
    match turn(message, images, video) {
        Ok(Message { turn, unattributed, images, meta }) => {
            let turns = vec![turn];
            let meta = Value::Object(meta);
            Ok((TreeNode { id, parent, turns, unattributed, meta, ..TreeNode::default() }, images, replies))
        }
        Err(error) => Err((id, error)),
    }
}

/// A message as a turn.
struct Message {
    turn: Turn,
    unattributed: bool,
    images: Vec<ImageFile>,
    meta: Fields,
}

/// Reads a message. `images` and `video` are those of the row, if the message is the first one.
fn turn(message: Fields, images: Vec<ImageFile>, video: Option<Video>) -> Result<Message, RowError> {
    let mut columns = Columns { fields: message, ..Default::default() };
    media::reject_unsupported(&columns, false)?;
    let own: Vec<ImageFile> = columns.take_images()?.into_iter().flatten().collect();
    let images = match (images.is_empty(), own.is_empty()) {
        (false, false) if images != own => return Err("it has images, and so has its row: expected one of them".into()),
        (false, _) => images,
        (true, _) => own,
    };
    let role = speaker::named(&columns.fields)?;
    let mut message = Schema::new(columns.fields, images, video);
    let parts = TEXTS.into_iter().find(|name| fields::get(&message.fields, name).is_some_and(Value::is_array));
    let has_text = TEXTS.iter().any(|name| fields::get(&message.fields, name).is_some_and(Value::is_string));
    let speaks = role.unwrap_or(Role::User);
    let mut turn = match parts.filter(|_| !has_text).and_then(|name| fields::take(&mut message.fields, name)) {
        Some(Value::Array(parts)) => {
            let parts = parts.iter().filter(|part| !fields::is_absent(part)).map(|part| message.part(part));
            Turn { role: speaks, parts: parts.collect::<Result<_, _>>()? }
        }
        _ => match message.take_text(&TEXTS)? {
            Some(text) => message.turn(speaks, &text),
            None if !message.images.is_empty() => Turn { role: speaks, parts: Vec::new() },
            None => return Err("it has no text".into()),
        },
    };
    message.place_in(&mut turn)?;
    if message.video != video {
        return Err("it has a video: expected one in a column of the row, if any".into());
    }
    Ok(Message { turn, unattributed: role.is_none(), images: message.images, meta: message.fields })
}

/// Counts the images of turns from another number than 0.
fn count_images_from(turns: &mut [Turn], first: usize) {
    for part in turns.iter_mut().flat_map(|turn| &mut turn.parts) {
        if let TurnPart::Image(number) = part {
            *number += first;
        }
    }
}

/// About how many bytes a value has.
pub(in crate::data) fn size(value: &Value) -> usize {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => 16,
        Value::String(text) => 24 + text.len(),
        Value::Array(items) => 24 + items.iter().map(size).sum::<usize>(),
        Value::Object(fields) => 24 + fields.iter().map(|(name, value)| 48 + name.len() + size(value)).sum::<usize>(),
    }
}
