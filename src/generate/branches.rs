//! A tree of answers: its pieces as they were written, as rows of a data set, and as whole answers. Runs no model.

use super::journal::Finished;
use super::report::{End, exact};
use crate::Result;
use arrow::array::{StringArray, UInt32Array};
use filters::write::messages;
use harvest::generation::Prompt;
use sae_core::store::image_format;
use sae_core::store::sample::CONTINUES;
use sae_core::table::{batch, column, write};
use sae_core::{Error, file};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use std::io::Write;
use std::path::Path;

/// A piece of an answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Branch {
    /// The piece that it continues; none for the beginning of an answer.
    pub parent: Option<usize>,
    /// Its number among the pieces that continue the same one, from 1 on.
    pub place: u32,
    pub ids: Vec<u32>,
    /// The text of the answer up to its end.
    pub text: String,
    /// Negative log-likelihood of its tokens in nats.
    #[serde(with = "exact")]
    pub nll: Option<f64>,
    /// Why the answer ended with it, if it did.
    pub end: Option<End>,
}

/// A tree with its prompt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Grown {
    pub sample: u32,
    id: String,
    key: String,
    prompt: String,
    /// The row of the prompt, as it is written.
    root: String,
    /// Each after the one that it continues.
    branches: Vec<Branch>,
    /// Pieces with which the model said nothing.
    silent: u64,
    /// Positions that the model computed.
    pub computed: u64,
}

impl Finished for Grown {
    fn sample(&self) -> u32 {
        self.sample
    }
}

/// A piece that adds a text of its own to its tree.
struct Node<'a> {
    branch: &'a Branch,
    /// Its id, and that of the node that it continues, if that is not the prompt.
    id: String,
    parent: Option<String>,
    text: String,
    tokens: usize,
    nll: f64,
    /// Whether no other node continues it, and why the answer ended there.
    is_last: bool,
    end: Option<End>,
}

impl Grown {
    /// A tree without pieces. Its images are copied to `folder`.
    ///
    /// # Errors
    /// An image cannot be written.
    pub fn new(sample: u32, prompt: &Prompt, folder: &Path) -> Result<Self> {
        let known = &prompt.prepared.sample;
        let mut root = Map::new();
        let mut put = |name: &str, value: Value| drop(root.insert(name.into(), value));
        put("id", sample.to_string().into());
        put("tree_id", sample.to_string().into());
        put("prompt_key", known.key.clone().into());
        let mut images = Vec::new();
        for (bytes, image) in prompt.files.iter().zip(&known.images) {
            let name = format!("images/{}.{}", &image.sha256[..16], image_format::extension(bytes).unwrap_or("bin"));
            let path = folder.join(&name);
            if !path.exists() {
                std::fs::create_dir_all(folder.join("images")).map_err(Error::io("make the folder", &path))?;
                file::write_bytes(&path, bytes)?;
            }
            images.push(name);
        }
        if !images.is_empty() {
            put(if prompt.video.is_some() { "video" } else { "images" }, images.into());
        }
        if let Some(fps) = prompt.video.and_then(|video| video.fps) {
            put("fps", fps.into());
        }
        put("messages", messages(&prompt.turns));
        put("row", known.meta.clone());
        let (id, key, prompt) = (known.id.clone(), known.key.clone(), known.text.clone());
        let root = Value::Object(root).to_string();
        Ok(Self { sample, id, key, prompt, root, branches: Vec::new(), silent: 0, computed: 0 })
    }

    /// Adds a piece. Returns its number.
    pub fn add(&mut self, branch: Branch) -> usize {
        self.branches.push(branch);
        self.branches.len() - 1
    }

    /// Counts a piece with which the model says nothing after `parent`.
    pub fn silence(&mut self, parent: Option<usize>, end: Option<End>) {
        self.silent += 1;
        if let Some(parent) = parent {
            let known = &mut self.branches[parent].end;
            *known = known.or(end);
        }
    }

    /// Tokens that were generated.
    pub fn generated(&self) -> u64 {
        self.branches.iter().map(|branch| branch.ids.len() as u64).sum()
    }

    /// The pieces that are nodes, each after the one that it continues. A piece ends where the text of one that continues it first
    /// differs from its own, because a character may be divided between them. Where nothing but white space is left of a piece, those
    /// that continue it say it; where none does, the model said nothing more, and how often this was the case is the second result.
    fn nodes(&self) -> (Vec<Node<'_>>, u64) {
        let all = &self.branches;
        let before = |branch: &Branch| branch.parent.map_or("", |parent| all[parent].text.as_str());
        let is_said = |n: &usize| !all[*n].text[common(before(&all[*n]), &all[*n].text)..].trim().is_empty();
        let mut speaks = vec![false; all.len()];
        let mut ends: Vec<usize> = all.iter().map(|branch| branch.text.len()).collect();
        let mut why: Vec<Option<End>> = all.iter().map(|branch| branch.end).collect();
        for n in (0..all.len()).rev() {
            speaks[n] |= is_said(&n);
            match all[n].parent {
                Some(parent) if speaks[n] => {
                    speaks[parent] = true;
                    ends[parent] = ends[parent].min(common(&all[parent].text, &all[n].text)).min(ends[n]);
                }
                Some(parent) => why[parent] = why[parent].or(why[n]),
                None => {}
            }
        }
        let mut nodes: Vec<Node> = Vec::new();
        // The last node of the path to each piece, and what it has not said yet, with its tokens.
        let mut places: Vec<(Option<usize>, String, usize, f64)> = Vec::with_capacity(all.len());
        let mut names: Vec<String> = Vec::with_capacity(all.len());
        for (n, branch) in all.iter().enumerate() {
            let own = &branch.text[branch.parent.map_or(0, |parent| ends[parent].min(ends[n]))..ends[n]];
            let (node, unsaid, tokens, nll) = branch.parent.map(|parent| places[parent].clone()).unwrap_or_default();
            let (text, tokens, nll) = (unsaid + own, tokens + branch.ids.len(), nll + branch.nll.unwrap_or(f64::NAN));
            let name = branch.parent.map_or_else(|| self.sample.to_string(), |parent| names[parent].clone());
            names.push(format!("{name}.{}", branch.place));
            if !speaks[n] || text.trim().is_empty() {
                places.push((node, text, tokens, nll));
                continue;
            }
            let parent = node.map(|node| {
                nodes[node].is_last = false;
                nodes[node].id.clone()
            });
            places.push((Some(nodes.len()), String::new(), 0, 0.0));
            let (id, end) = (names[n].clone(), why[n]);
            nodes.push(Node { branch, id, parent, text, tokens, nll, is_last: true, end });
        }
        (nodes, self.silent + speaks.iter().filter(|speaks| !**speaks).count() as u64)
    }

    /// The prompt and the nodes as rows.
    fn rows(&self) -> Vec<String> {
        let row = |node: Node| {
            let mut row = Map::new();
            row.insert("id".into(), node.id.into());
            let parent = node.parent.clone().unwrap_or_else(|| self.sample.to_string());
            row.insert("parent_id".into(), parent.into());
            row.insert("tree_id".into(), self.sample.to_string().into());
            row.insert("prompt_key".into(), self.key.clone().into());
            row.insert("role".into(), "assistant".into());
            row.insert("text".into(), node.text.into());
            row.insert(CONTINUES.into(), node.parent.is_some().into());
            row.insert("tokens".into(), node.tokens.into());
            row.insert("nll".into(), json!(node.nll));
            row.insert("end".into(), node.end.filter(|_| node.is_last).map(End::name).into());
            Value::Object(row).to_string()
        };
        std::iter::once(self.root.clone()).chain(self.nodes().0.into_iter().map(row)).collect()
    }

    /// How many nodes there are, without the prompt, and how often the model said nothing more.
    pub fn count(&self) -> (u64, u64) {
        let (nodes, silent) = self.nodes();
        (nodes.len() as u64, silent)
    }

    /// The whole answers.
    pub fn answers(&self) -> Vec<Answer<'_>> {
        let mut answers = Vec::new();
        for Node { branch, id, end, .. } in self.nodes().0.into_iter().filter(|node| node.is_last) {
            let (mut tokens, mut at) = (branch.ids.len(), branch);
            while let Some(parent) = at.parent {
                at = &self.branches[parent];
                tokens += at.ids.len();
            }
            answers.push(Answer { node: id, text: &branch.text, tokens, end });
        }
        answers
    }
}

/// A whole answer of a tree.
pub(super) struct Answer<'a> {
    /// The id of its last node.
    pub node: String,
    pub text: &'a str,
    pub tokens: usize,
    pub end: Option<End>,
}

/// The length of what two texts begin with, in whole characters.
fn common(a: &str, b: &str) -> usize {
    a.chars().zip(b.chars()).take_while(|(a, b)| a == b).map(|(a, _)| a.len_utf8()).sum()
}

/// Writes the rows of all trees, one object a line.
pub(super) fn write_rows(path: &Path, trees: &[Grown]) -> Result<()> {
    Ok(file::write(path, |out| {
        for row in trees.iter().flat_map(Grown::rows) {
            writeln!(out, "{row}").map_err(Error::io("write", path))?;
        }
        Ok(())
    })?)
}

/// Writes `answers.parquet`, a row for each whole answer.
pub(super) fn write_answers(path: &Path, trees: &[Grown]) -> Result<()> {
    let all: Vec<(&Grown, Answer)> =
        trees.iter().flat_map(|tree| tree.answers().into_iter().map(move |answer| (tree, answer))).collect();
    let text = |value: fn(&(&Grown, Answer)) -> String| StringArray::from_iter_values(all.iter().map(value));
    let table = batch(vec![
        column("sample", UInt32Array::from_iter_values(all.iter().map(|(tree, _)| tree.sample))),
        column("id", text(|(tree, _)| tree.id.clone())),
        column("key", text(|(tree, _)| tree.key.clone())),
        column("prompt", text(|(tree, _)| tree.prompt.clone())),
        column("node", text(|(_, answer)| answer.node.clone())),
        column("text", text(|(_, answer)| answer.text.to_owned())),
        column("tokens", UInt32Array::from_iter_values(all.iter().map(|(_, answer)| answer.tokens as u32))),
        column("end", text(|(_, answer)| answer.end.map_or("", End::name).to_owned())),
    ]);
    Ok(write(path, &table)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tree of branches: the parent, the text of the answer up to the end, and why it ended.
    fn grown(branches: &[(Option<usize>, &str, Option<End>)]) -> Grown {
        let mut grown = Grown {
            sample: 7,
            id: "hash".into(),
            key: "k".into(),
            prompt: "q".into(),
            root: json!({"id": "7"}).to_string(),
            branches: Vec::new(),
            silent: 0,
            computed: 0,
        };
        for (parent, text, end) in branches {
            let place = 1 + grown.branches.iter().filter(|other| other.parent == *parent).count() as u32;
            let (text, ids) = ((*text).to_owned(), vec![1, 2]);
            grown.add(Branch { parent: *parent, place, ids, text, nll: Some(0.5), end: *end });
        }
        grown
    }

    /// The id, the parent, the text and the end of every row but the first.
    fn rows(grown: &Grown) -> Vec<[String; 4]> {
        let row = |line: String| {
            let row: Value = serde_json::from_str(&line).unwrap();
            ["id", "parent_id", "text", "end"].map(|name| row[name].as_str().unwrap_or_default().to_owned())
        };
        grown.rows().into_iter().skip(1).map(row).collect()
    }

    fn texts(grown: &Grown) -> Vec<(String, &str, usize)> {
        grown.answers().into_iter().map(|answer| (answer.node, answer.text, answer.tokens)).collect()
    }

    #[test]
    fn each_node_has_the_text_that_it_adds() {
        let tokens = Some(End::Tokens);
        let found = grown(&[
            (None, "A cat", None),
            (Some(0), "A cat sits", tokens),
            (Some(0), "A cat and", Some(End::Finished)),
            (None, "Dogs", Some(End::Finished)),
        ]);
        let expected = [
            ["7.1", "7", "A cat", ""],
            ["7.1.1", "7.1", " sits", "tokens"],
            ["7.1.2", "7.1", " and", "finished"],
            ["7.2", "7", "Dogs", "finished"],
        ];
        assert_eq!(rows(&found), expected.map(|row| row.map(String::from)));
        assert_eq!(
            texts(&found),
            [("7.1.1".into(), "A cat sits", 4), ("7.1.2".into(), "A cat and", 4), ("7.2".into(), "Dogs", 2)]
        );
        assert_eq!((found.count(), found.generated()), ((4, 0), 8));
        let row: Value = serde_json::from_str(&found.rows()[2]).unwrap();
        assert_eq!((&row["continues"], &row["tokens"], &row["nll"]), (&json!(true), &json!(2), &json!(0.5)));
    }

    #[test]
    fn a_divided_character_belongs_to_the_pieces_that_complete_it() {
        let found = grown(&[
            (None, "go \u{fffd}", None),
            (Some(0), "go é!", Some(End::Tokens)),
            (Some(0), "go à?", Some(End::Tokens)),
            (None, "\u{fffd}", None),
            (Some(3), "éa", Some(End::Tokens)),
            (Some(3), "ô", Some(End::Tokens)),
        ]);
        let expected = [
            ["7.1", "7", "go ", ""],
            ["7.1.1", "7.1", "é!", "tokens"],
            ["7.1.2", "7.1", "à?", "tokens"],
            // The second piece has no text of its own.
            ["7.2.1", "7", "éa", "tokens"],
            ["7.2.2", "7", "ô", "tokens"],
        ];
        assert_eq!(rows(&found), expected.map(|row| row.map(String::from)));
        assert_eq!(texts(&found)[2], ("7.2.1".into(), "éa", 4));
        let row: Value = serde_json::from_str(&found.rows()[4]).unwrap();
        assert_eq!((&row["continues"], &row["tokens"], &row["nll"]), (&json!(false), &json!(4), &json!(1.0)));
    }

    #[test]
    fn what_says_nothing_is_no_node() {
        let mut found = grown(&[
            (None, "Yes.", None),
            (Some(0), "Yes. \n", Some(End::Finished)),
            (None, "\n\n", None),
            (Some(2), "\n\nNo", Some(End::Finished)),
            (None, " ", Some(End::Finished)),
        ]);
        found.silence(Some(0), Some(End::Stop));
        found.silence(None, Some(End::Finished));
        let expected = [["7.1", "7", "Yes.", "stop"], ["7.2.1", "7", "\n\nNo", "finished"]];
        assert_eq!(rows(&found), expected.map(|row| row.map(String::from)));
        assert_eq!((found.count(), texts(&found).len()), ((2, 4), 2));
        // A tree in which the model says nothing is its prompt.
        assert_eq!((grown(&[]).rows().len(), grown(&[]).answers().len()), (1, 0));
    }
}
