//! Rows as pieces: what several answers, the sentences of an answer, or the nodes of a tree have in common is captured once, and
//! each piece has only the positions that it adds to the piece that it continues. Decides where pieces end and runs the model on
//! them; stores nothing.
//!
//! A piece that others continue ends where the tokens of one of them first differ from its own, wherever the text is divided: a
//! token that spans the boundary belongs to what follows. The states of a piece are therefore those of the whole path.

mod cut;
mod run;
mod sentences;

pub(crate) use cut::most_positions;
pub(crate) use run::hidden;
pub(crate) use sentences::first_end as first_sentence;

use crate::checkpoint::{Answers, Checkpoint, conversation};
use crate::data::{Record, Row, RowError, Turn, TurnPart};
use crate::prepared::Prepared;
use sae_core::store::sample::{FEEDBACK, Role};
use sae_core::store::{SENTENCE, Skipped};
use serde::Serialize;
use serde_json::{Map, Value};
use std::str::FromStr;

/// What the pieces of a row are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Pieces {
    /// The prompt, and each of the answers to it: the chosen and the rejected one, or the only one.
    Answers,
    /// The prompt, and each sentence of the last answer, of two alternatives the chosen one.
    Sentences,
    /// As answers, and behind the answer that it criticizes the critique of a row: behind the rejected one of two, else the only one.
    Feedback,
    /// The nodes of a tree: rows that name their parents, or nested replies.
    Tree,
}

impl FromStr for Pieces {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "answers" => Ok(Self::Answers),
            "sentences" => Ok(Self::Sentences),
            "feedback" => Ok(Self::Feedback),
            "tree" => Ok(Self::Tree),
            _ => Err(format!("invalid pieces {name:?}: expected answers, sentences, feedback or tree")),
        }
    }
}

/// Columns with what people say about an answer.
const CRITIQUES: [&str; 2] = ["feedback", "critique"];

/// A piece before its tokens are known.
struct Node {
    /// The number of the node that it continues, which comes before it.
    parent: Option<usize>,
    branch: String,
    /// All turns up to its end.
    turns: Vec<Turn>,
    /// Whether the beginning of an answer follows them.
    generate: bool,
    /// Its own text.
    text: String,
    /// Whether it is a critique of the answer that it continues.
    is_critique: bool,
    /// Whether it has a part of a turn, which may end within a token.
    divides_turn: bool,
    /// What is known about it besides the columns of the row.
    about: Map<String, Value>,
    /// The key, the source and the other columns of its own row or message, if it has one.
    own: Option<(String, String, Value)>,
}

impl Checkpoint {
    /// Turns a row into its pieces, each after the piece that it continues, whose number among them is its parent.
    ///
    /// # Errors
    /// The skipped row, with the reason why it cannot become pieces.
    pub(crate) fn pieces(&self, row: Row, pieces: Pieces) -> Result<Vec<Prepared>, Skipped> {
        let Row { number, source, key, record, .. } = row;
        let prepared = record.and_then(|record| {
            let nodes = nodes(&record, pieces, &key, &source)?;
            let media = self.media(&record)?;
            let paths = self.paths(&nodes, &media)?;
            self.check_rotation(paths.longest())?;
            cut::cut(&record, &media, nodes, &paths, self.prompter(), (&key, &source))
        });
        prepared.map_err(|error| error.skipped(number, &key))
    }

    /// Rejects paths whose length changes the rotation of their first keys, so that paths of other lengths cannot share them.
    fn check_rotation(&self, longest: usize) -> Result<(), RowError> {
        let text = &self.config().text;
        let turns = |length| text.ropes.iter().map(move |rope| rope.frequencies(length));
        if turns(1).eq(turns(longest)) {
            return Ok(());
        }
        Err(format!(
            "the row has {longest} tokens, and the model rotates the first keys of such long samples in another way, so that \
             pieces cannot share them"
        )
        .into())
    }
}

/// The nodes of a row, each after the one that it continues.
fn nodes(record: &Record, pieces: Pieces, key: &str, source: &str) -> Result<Vec<Node>, RowError> {
    if pieces == Pieces::Tree {
        return Ok(tree_nodes(record, key, source));
    }
    if record.action.is_some() {
        return Err("the row has an action, which is no piece".into());
    }
    let (turns, generate) = conversation(record, Answers::None)?;
    let prompt = Node {
        parent: None,
        branch: "prompt".into(),
        turns: turns.to_vec(),
        generate,
        text: text_of(&turns),
        is_critique: false,
        divides_turn: false,
        about: Map::new(),
        own: None,
    };
    let answered = |branch: String, parent: usize, text: &str, own: &str| {
        let mut turns = prompt.turns.clone();
        turns.push(Turn { role: Role::Assistant, parts: vec![TurnPart::Text(text.into())] });
        let (parent, text) = (Some(parent), own.to_owned());
        let divides_turn = pieces == Pieces::Sentences;
        Node {
            parent,
            branch,
            turns,
            generate: false,
            text,
            is_critique: false,
            divides_turn,
            about: Map::new(),
            own: None,
        }
    };
    let answers = match (&record.pair, record.turns.last()) {
        (Some(pair), _) => vec![("chosen", pair.chosen.clone()), ("rejected", pair.rejected.clone())],
        (None, Some(turn)) if turn.role == Role::Assistant => vec![("answer", turn.text())],
        (None, _) => return Err("the row has no answer".into()),
    };
    if let Some((name, _)) = answers.iter().find(|(_, answer)| answer.trim().is_empty()) {
        return Err(format!("the text is empty: the {name} answer has no text").into());
    }
    let mut found = Vec::new();
    match pieces {
        Pieces::Tree => {}
        Pieces::Answers | Pieces::Feedback => {
            for (n, (branch, answer)) in answers.iter().enumerate() {
                let mut node = answered((*branch).to_owned(), 0, answer, answer);
                if record.pair.is_some() {
                    node.about = record.about_answers[n].clone();
                    node.about.insert("preferred".into(), Value::Bool(n == 0));
                }
                found.push(node);
            }
            if let (Pieces::Feedback, Some(text)) = (pieces, critique(record)) {
                let (_, criticized) = &answers[answers.len() - 1];
                let mut node = answered(FEEDBACK.into(), answers.len(), criticized, text);
                node.turns.push(Turn::from_text(Role::User, text));
                node.is_critique = true;
                found.push(node);
            }
        }
        Pieces::Sentences => {
            let answer = &answers[0].1;
            let mut start = 0;
            for (n, end) in sentences::ends(answer).into_iter().enumerate() {
                let mut node = answered(format!("{SENTENCE}{}", n + 1), n, &answer[..end], &answer[start..end]);
                node.about = record.about_answers[0].clone();
                found.push(node);
                start = end;
            }
        }
    }
    found.insert(0, prompt);
    Ok(found)
}

/// The critique of a row, if it has one.
fn critique(record: &Record) -> Option<&str> {
    let texts = CRITIQUES.iter().filter_map(|name| record.meta.get(name)?.as_str());
    texts.map(str::trim).find(|text| !text.is_empty())
}

/// The path to a node of a tree.
#[derive(Clone, Debug, PartialEq)]
pub struct TreePath {
    /// The id of the node.
    pub branch: String,
    /// The key of its row or message.
    pub key: String,
    /// Where its row is.
    pub source: String,
    /// All turns up to its end. Images are counted over the whole tree.
    pub turns: Vec<Turn>,
    /// What else its row or message says.
    pub meta: Value,
}

/// The paths to all nodes of a tree, which is a row of [`trees`](crate::data::trees) with this key and source.
pub fn tree_paths(record: &Record, key: &str, source: &str) -> Vec<TreePath> {
    let path = |node: Node| {
        let (key, source, meta) = node.own?;
        Some(TreePath { branch: node.branch, key, source, turns: node.turns, meta })
    };
    tree_nodes(record, key, source).into_iter().filter_map(path).collect()
}

/// The nodes of a tree, each with the turns of its path.
fn tree_nodes(record: &Record, key: &str, source: &str) -> Vec<Node> {
    let mut nodes: Vec<Node> = Vec::with_capacity(record.tree.nodes.len());
    for node in &record.tree.nodes {
        let mut turns = node.parent.map(|parent| nodes[parent].turns.clone()).unwrap_or_default();
        let text = text_of(&node.turns);
        let answers = turns.last().is_some_and(|turn| turn.role == Role::User);
        match turns.last_mut().filter(|_| node.continues) {
            Some(last) => node.turns.iter().for_each(|turn| last.go_on(turn)),
            None => turns.extend(node.turns.iter().cloned()),
        }
        if let Some(turn) = turns.last_mut().filter(|_| node.unattributed && !node.continues) {
            turn.role = if answers { Role::Assistant } else { Role::User };
        }
        if let Some(parent) = node.parent.filter(|_| node.continues) {
            nodes[parent].divides_turn = true;
        }
        let row = node.row.clone().unwrap_or_else(|| (format!("{key}/{}", node.id), source.to_owned()));
        nodes.push(Node {
            parent: node.parent,
            branch: node.id.clone(),
            generate: turns.last().is_some_and(|turn| turn.role == Role::User),
            turns,
            text,
            is_critique: false,
            divides_turn: node.continues,
            about: Map::new(),
            own: Some((row.0, row.1, node.meta.clone())),
        });
    }
    nodes
}

fn text_of(turns: &[Turn]) -> String {
    turns.iter().map(Turn::text).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests;
