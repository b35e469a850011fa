//! Where the pieces of a row end in the tokens of their paths, and which tokens and images each of them has. Runs no model.

use super::Node;
use crate::checkpoint::{Checkpoint, MediaFiles};
use crate::data::{Record, RowError, Turn, TurnPart};
use crate::identity::path_id;
use crate::prepared::Prepared;
use crate::prompt::{Prompter, Text};
use sae_core::store::sample::{Piece, Sample, Token};

/// The most positions of the pieces of a row, which go through the model together, for a model with this context.
pub(crate) fn most_positions(context: usize) -> usize {
    context.saturating_mul(2).max(1 << 16)
}

/// The tokens of the paths to the nodes of a row. What a path has in common with that of its parent is held once.
pub(super) struct Paths {
    paths: Vec<Path>,
}

struct Path {
    /// The number of the parent, and how many tokens are those of its path.
    parent: Option<usize>,
    shared: usize,
    /// The tokens after them.
    own: Vec<Token>,
    /// The images that the path shows, by their numbers in the row.
    images: Vec<usize>,
}

impl Path {
    fn len(&self) -> usize {
        self.shared + self.own.len()
    }
}

impl Checkpoint {
    /// The tokens of the path to each node. Nodes are depth first.
    ///
    /// # Errors
    /// A path cannot become a sample; the error names its node. Or the pieces have more than [`most_positions`].
    pub(super) fn paths(&self, nodes: &[Node], media: &MediaFiles) -> Result<Paths, RowError> {
        let limit = most_positions(self.config().text.context);
        let mut paths: Vec<Path> = Vec::with_capacity(nodes.len());
        // The nodes of the path to the last one, with all their tokens.
        let mut open: Vec<(usize, Vec<Token>)> = Vec::new();
        let mut positions = 0;
        for (number, node) in nodes.iter().enumerate() {
            while open.last().is_some_and(|(last, _)| Some(*last) != node.parent) {
                open.pop();
            }
            let images = images(&node.turns);
            let is_divided = self.images().is_some_and(|processor| processor.divides_lone_images());
            if is_divided && images.len() == 1 && media.frames.len() > 1 && !media.is_video {
                return Err(format!(
                    "{}: the piece shows one of {} images, and the model divides an image only if it is the only one, so that \
                     later pieces cannot share it",
                    node.branch,
                    media.frames.len()
                )
                .into());
            }
            let text = Text::Conversation { turns: &node.turns, generate: node.generate };
            let tokens = self.tokens(&text, &media.only(&images), Vec::new());
            let tokens =
                tokens.map_err(|error| RowError { cause: format!("{}: {}", node.branch, error.cause), ..error })?;
            let mut shared = open.last().map_or(0, |(parent, before)| {
                let shown = |token: &Token, images: &[usize]| {
                    let image = token.image.and_then(|image| usize::try_from(image).ok());
                    image.map(|image| if media.is_video { Some(image) } else { images.get(image).copied() })
                };
                // Tokens of images may be equal although the images are not.
                let is_same =
                    |(a, b): &(&Token, &Token)| a == b && shown(a, &images) == shown(b, &paths[*parent].images);
                tokens.iter().zip(before).take_while(is_same).count()
            });
            let mut tokens = tokens;
            if let Some((_, answer)) = open.last().filter(|_| node.is_critique) {
                tokens = after_answer(answer, tokens, shared)?;
                shared = answer.len();
            }
            positions += tokens.len() - shared;
            if positions > limit {
                return Err(format!("the pieces of the row have more than {limit} positions").into());
            }
            paths.push(Path { parent: node.parent, shared, own: tokens[shared..].to_vec(), images });
            open.push((number, tokens));
        }
        Ok(Paths { paths })
    }
}

/// The tokens of a critique behind its answer, which keeps its own tokens whatever is said about it: templates may end the last turn
/// in another way than one before a further turn. `tokens` are those of the conversation, of which the first `shared` are the answer's.
fn after_answer(answer: &[Token], tokens: Vec<Token>, shared: usize) -> Result<Vec<Token>, RowError> {
    if answer[shared..].iter().any(|token| !token.special) {
        return Err("the chat template writes the answer in another way if a critique follows it".into());
    }
    let own = tokens.into_iter().skip(shared).zip(answer.len() as u32..);
    let own = own.map(|(token, position)| Token { position, ..token });
    Ok(answer.iter().cloned().chain(own).collect())
}

/// The images that turns show, in order.
fn images(turns: &[Turn]) -> Vec<usize> {
    let number = |part: &TurnPart| if let TurnPart::Image(number) = part { Some(*number) } else { None };
    turns.iter().flat_map(|turn| &turn.parts).filter_map(number).collect()
}

impl Paths {
    /// The length of the longest path.
    pub fn longest(&self) -> usize {
        self.paths.iter().map(Path::len).max().unwrap_or(0)
    }

    /// Where each node ends in the tokens of its path: where those of a later one first differ.
    fn ends(&self) -> Vec<usize> {
        let mut ends: Vec<usize> = self.paths.iter().map(Path::len).collect();
        for (node, path) in self.paths.iter().enumerate().rev() {
            if let Some(parent) = path.parent {
                ends[parent] = ends[parent].min(path.shared).min(ends[node]);
            }
        }
        ends
    }

    /// The tokens of a path from `start` to `end`.
    fn tokens(&self, node: usize, start: usize, end: usize) -> Vec<Token> {
        let path = &self.paths[node];
        let mut tokens = match path.parent {
            Some(parent) if start < path.shared => self.tokens(parent, start, end.min(path.shared)),
            _ => Vec::new(),
        };
        if end > path.shared {
            tokens.extend_from_slice(&path.own[start.max(path.shared) - path.shared..end - path.shared]);
        }
        tokens
    }
}

/// Divides the tokens of all paths into those of the pieces. `row` is the key and the source of the row.
pub(super) fn cut(
    record: &Record,
    media: &MediaFiles,
    nodes: Vec<Node>,
    paths: &Paths,
    prompter: &Prompter,
    row: (&str, &str),
) -> Result<Vec<Prepared>, RowError> {
    let ends = paths.ends();
    let images = media.refs(record);
    // The number of each node among the pieces. What ends within the first token of a part of a turn has no piece: its
    // text is said by those that continue it.
    let mut numbers: Vec<Option<u32>> = Vec::with_capacity(nodes.len());
    let mut unsaid: Vec<String> = Vec::with_capacity(nodes.len());
    let (mut prepared, mut videos): (Vec<Prepared>, _) = (Vec::new(), 0);
    for (n, node) in nodes.into_iter().enumerate() {
        let start = node.parent.map_or(0, |parent| ends[parent]);
        let text = node.parent.map(|parent| unsaid[parent].clone()).unwrap_or_default() + &node.text;
        if ends[n] == start {
            if !node.divides_turn || node.parent.is_none() {
                return Err(format!("the piece {} adds no token to the one that it continues", node.branch).into());
            }
            numbers.push(node.parent.and_then(|parent| numbers[parent]));
            unsaid.push(text);
            continue;
        }
        let own = paths.tokens(n, start, ends[n]);
        let before = if start > 0 { paths.tokens(n, start - 1, start) } else { Vec::new() };
        let is_cut = own[0].image.is_some() && before.last().is_some_and(|token| token.image == own[0].image);
        let shows_video = media.is_video && own.iter().any(|token| token.image.is_some());
        videos += usize::from(shows_video);
        if is_cut || videos > 1 {
            return Err("an image or a video is divided between pieces".into());
        }
        let prefix = prompter.prefix(&own);
        if prefix > 0 && start > 0 {
            return Err(
                "a question is divided between pieces, but the model reads none of it before it has seen all of it"
                    .into(),
            );
        }
        let path = &paths.paths[n];
        let frames = if media.is_video {
            if shows_video { media.frames.clone() } else { Vec::new() }
        } else {
            let shows = |place: usize| own.iter().any(|token| token.image.is_some_and(|image| image as usize == place));
            let shown = path.images.iter().enumerate().filter(|(place, _)| shows(*place));
            shown.map(|(_, image)| media.frames[*image].clone()).collect()
        };
        let (key, source, mut meta) =
            node.own.unwrap_or_else(|| (row.0.to_owned(), row.1.to_owned(), record.meta.clone()));
        if let (Some(meta), false) = (meta.as_object_mut(), node.about.is_empty()) {
            meta.entry("answer").or_insert_with(|| serde_json::Value::Object(node.about));
        }
        let on_path: Vec<usize> = if media.is_video { (0..media.files.len()).collect() } else { path.images.clone() };
        let sample = Sample {
            id: path_id(&node.turns, record, on_path.iter().map(|image| &media.files[*image])),
            key,
            text,
            images: on_path.iter().map(|image| images[*image].clone()).collect(),
            source,
            meta,
            piece: Some(Piece {
                parent: node.parent.and_then(|parent| numbers[parent]),
                branch: node.branch,
                is_critique: node.is_critique,
            }),
        };
        numbers.push(Some(prepared.len() as u32));
        unsaid.push(String::new());
        prepared.push(Prepared { sample, tokens: own, frames, is_video: media.is_video, prefix });
    }
    Ok(prepared)
}
