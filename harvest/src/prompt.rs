//! From a conversation to token ids, as the checkpoint's processor does it: render the chat template, expand the
//! placeholders of images in the text, and run the tokenizer once. Determines for every token who speaks and which text
//! it stands for. Knows nothing about pixels.

use crate::data::{RowError, Turn, TurnPart};
use crate::fields::Fields;
use crate::model::config::{ImageTokens, VideoTiming};
use crate::model::{ImageLayout, VisionConfig};
use crate::template::{Template, built_in};
use crate::tokenizer::{self, Named};
use crate::{Error, Result, alphabet, precedence};
use sae_core::store::sample::{Modality, Role, Token};
use std::collections::BTreeSet;
use std::ops::Range;
use std::path::Path;
use tokenizers::{AddedToken, Tokenizer};

/// The placeholder of a video in Qwen's texts. Its processor rejects texts that contain it without a video.
const VIDEO: &str = "<|video_pad|>";

/// What delimits the positions of every patch of frames in a model that writes their times into the text.
const PATCH_OF_FRAMES: [&str; 2] = ["<|vision_start|>", "<|vision_end|>"];

/// The tokens that the processor of PaliGemma adds to a vocabulary that lacks them: places in an image, and shapes.
fn places_and_shapes() -> Vec<AddedToken> {
    let places = (0..1024).map(|n| format!("<loc{n:04}>"));
    let shapes = (0..128).map(|n| format!("<seg{n:03}>"));
    places.chain(shapes).map(|token| AddedToken::from(token, false)).collect()
}

/// Ranges of bytes of a text with the role of their speaker, in ascending order.
type Spans = Vec<(Range<usize>, Role)>;

/// The first byte of a token, and the end of its bytes.
type Offsets = (usize, usize);

/// The text of a sample.
pub enum Text<'a> {
    /// Turns, which are rendered with the chat template, or joined by newlines if the checkpoint has none.
    Conversation {
        /// The turns, in order.
        turns: &'a [Turn],
        /// Whether the beginning of an answer is added at the end.
        generate: bool,
    },
    /// A text that is used unchanged. It contains the model's own placeholder for every image.
    Verbatim(&'a str),
}

/// What takes the place of the placeholders in a text.
#[derive(Clone, Copy, Debug)]
pub enum Media<'a> {
    /// Images, in order.
    Images(&'a [ImageLayout]),
    /// A video: the patches of consecutive frames, in order.
    Video(&'a [FramePatch]),
}

/// A patch of consecutive frames of a video.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FramePatch {
    /// Number of positions.
    pub positions: usize,
    /// Number of its first frame in the video.
    pub frame: usize,
    /// The time between its first and its last frame, in seconds from the beginning.
    pub seconds: f64,
}

impl Media<'_> {
    /// The number of every image, or of the first frame of every patch, with its number of positions.
    fn numbered(self) -> Vec<(usize, usize)> {
        match self {
            Self::Images(images) => images.iter().map(|image| image.positions).enumerate().collect(),
            Self::Video(patches) => patches.iter().map(|patch| (patch.frame, patch.positions)).collect(),
        }
    }
}

/// How images are represented in the text of a model.
#[derive(Clone, Debug)]
struct Placeholder {
    /// Id of the token at the positions of images.
    id: u32,
    /// The text of that token.
    token: String,
    /// The placeholder of a whole image before it is expanded.
    mark: String,
    surroundings: Surroundings,
    /// Ids of the tokens that begin, end or divide an image.
    delimiters: Vec<u32>,
}

/// The text around the positions of an image.
#[derive(Clone, Debug)]
enum Surroundings {
    /// One before and one after all of them.
    Around { before: String, after: String },
    /// A fence before each tile and at the end, followed by a token with the row and the column, or by that of the whole image.
    Tiles { fence: String, whole: String },
    /// One behind each row of positions, and another one behind the last.
    Rows { row_end: String, end: String },
}

impl Surroundings {
    /// The text of an image with the `token` of its positions.
    fn text(&self, token: &str, image: &ImageLayout) -> String {
        match self {
            Self::Around { before, after } => format!("{before}{}{after}", token.repeat(image.positions)),
            Self::Tiles { fence, whole } => {
                let [rows, columns] = image.grid;
                let positions = token.repeat(image.positions / (rows * columns + 1));
                let tile = |row: usize, column: usize| format!("{fence}<row_{row}_col_{column}>{positions}");
                let row = |row: usize| (1..=columns).map(|column| tile(row, column)).collect::<String>() + "\n";
                let tiles: String = (1..=rows).map(row).collect();
                let end = if rows > 0 { "\n" } else { "" };
                format!("{tiles}{end}{fence}{whole}{positions}{fence}")
            }
            Self::Rows { row_end, end } => {
                let [rows, columns] = image.grid;
                vec![token.repeat(columns); rows].join(row_end.as_str()) + end
            }
        }
    }
}

/// How videos are represented in the text of a model.
#[derive(Clone, Debug)]
struct VideoPlaceholder {
    /// Id of the token at the positions of videos, which is also the placeholder of a whole video.
    id: u32,
    /// The text of that token.
    token: String,
    timing: VideoTiming,
}

/// The tokenizer and the chat template of a checkpoint.
pub struct Prompter {
    tokenizer: Tokenizer,
    /// Ids of tokens that have no content of their own.
    special: BTreeSet<u32>,
    bos: Option<String>,
    template: Option<Template>,
    placeholder: Option<Placeholder>,
    /// How videos are represented, if the model takes them and the tokenizer has their token.
    video: Option<VideoPlaceholder>,
    /// In place of a placeholder: the id of the positions of an image that is inserted behind the first token.
    inserted: Option<u32>,
    /// Whether everything before an answer is a prefix, and the answer is divided into tokens by itself.
    has_prefix: bool,
    /// Used without a template: the text between two turns, and whether it also follows the last one.
    separator: (String, bool),
    /// Whether the names of tokens are written in the alphabet of bytes.
    byte_level: bool,
}

impl Prompter {
    /// Reads the tokenizer and the chat template of the checkpoint in `folder`. `vision` is given if the model takes
    /// images.
    ///
    /// # Errors
    /// A file is missing or damaged, or the tokenizer lacks the placeholder for images.
    pub fn open(folder: &Path, vision: Option<&VisionConfig>) -> Result<Self> {
        let path = folder.join("tokenizer.json");
        let Named { mut tokenizer, special_tokens } = tokenizer::open(folder)?;
        let named = |name: &str| special_tokens.get(name).and_then(|token| token.as_str()).map(str::to_owned);
        let (inserted, vision_in_text) = match vision {
            Some(vision) if vision.image_tokens == ImageTokens::Prismatic => (Some(vision.image_token_id), None),
            vision => (None, vision),
        };
        let has_prefix = vision.is_some_and(|vision| vision.image_tokens == ImageTokens::Prefix);
        if has_prefix {
            tokenizer.add_tokens(places_and_shapes()).map_err(Error::checkpoint(&path))?;
        }
        let settings = precedence::processor(folder)?;
        let placeholder =
            vision_in_text.map(|vision| placeholder(&tokenizer, vision, Fields(&settings), &named)).transpose();
        let placeholder = placeholder.map_err(Error::checkpoint(&path))?;
        let video = vision.and_then(|vision| vision.video).and_then(|video| {
            let token = tokenizer.id_to_token(video.token_id)?;
            Some(VideoPlaceholder { id: video.token_id, token, timing: video.timing })
        });
        let added = tokenizer.get_added_tokens_decoder();
        let mut special: BTreeSet<u32> = added.iter().filter(|(_, token)| token.special).map(|(id, _)| *id).collect();
        special.extend(placeholder.iter().flat_map(|p| &p.delimiters));
        let separator = match vision.map(|vision| vision.image_tokens) {
            Some(ImageTokens::Chameleon) => (named("sep_token").unwrap_or_else(|| "<reserved08706>".into()), true),
            _ => ("\n".into(), false),
        };
        let template = inserted.map(|_| built_in::PRISMATIC).or(has_prefix.then_some(built_in::PREFIX));
        Ok(Self {
            special,
            bos: named("bos_token"),
            template: match (Template::open(folder, &special_tokens, vision.is_some())?, template) {
                (Some(_), Some(_)) if has_prefix => {
                    let cause = "a chat template of PaliGemma is not supported: its processor would add tokens to what the template \
                                 writes. Remove the template";
                    return Err(Error::checkpoint(folder)(cause));
                }
                (None, Some(source)) => {
                    Some(Template::built_in(source, special_tokens).map_err(Error::checkpoint(folder))?)
                }
                (template, _) => template,
            },
            placeholder,
            video,
            inserted,
            has_prefix,
            separator,
            byte_level: alphabet::names_tokens_of(&tokenizer),
            tokenizer,
        })
    }

    /// The tokens of a text with images or a video, in order. Positions of an image have its number, and those of a video the
    /// number of the first frame that they show; their rectangles are not set.
    ///
    /// # Errors
    /// The reason why the text cannot become a sample: the template rejects it, or the placeholders and the images do
    /// not match.
    pub fn tokens(&self, text: &Text, media: Media) -> Result<Vec<Token>, RowError> {
        let mut image_roles = Vec::new();
        if let Text::Conversation { turns, .. } = text {
            let count_images = |turn: &Turn| turn.parts.iter().filter(|part| part.text().is_none()).count();
            image_roles.extend(turns.iter().flat_map(|turn| std::iter::repeat_n(turn.role, count_images(turn))));
            self.check_texts(turns)?;
        }
        let (text, spans, add_special) = match text {
            Text::Verbatim(text) => {
                let whole = 0..text.len();
                ((*text).to_owned(), vec![(whole, Role::User)], true)
            }
            Text::Conversation { turns, generate } => match &self.template {
                Some(template) => {
                    let rendered = template.render(turns, *generate)?;
                    (rendered.text, rendered.spans, self.placeholder.is_some() || self.inserted.is_some())
                }
                None => {
                    let (text, spans) = self.joined(turns);
                    (text, spans, true)
                }
            },
        };
        let has_bos = self.bos.as_ref().is_some_and(|bos| text.starts_with(bos));
        let (text, spans) = if self.inserted.is_some() { (text, spans) } else { self.expand(text, spans, media)? };
        let (ids, offsets) = self.divide(&text, &spans, add_special && !has_bos && !self.has_prefix)?;
        let numbered = media.numbered();
        let mut image_numbers = numbered.iter().flat_map(|(image, positions)| std::iter::repeat_n(*image, *positions));
        let role = |image: usize| match media {
            Media::Images(_) => image_roles.get(image).copied(),
            Media::Video(_) => image_roles.first().copied(),
        };
        // If a character consists of several tokens, all of them have its offsets.
        let is_partial = |n: usize| {
            let (start, end) = offsets[n];
            n.checked_sub(1).is_some_and(|before| offsets[before].1 > start)
                || offsets.get(n + 1).is_some_and(|next| next.0 < end)
        };
        let tokens = ids.iter().zip(&offsets).zip(0..).map(|((id, offsets), position)| {
            let is_placeholder = match media {
                Media::Images(_) => self.placeholder.as_ref().is_some_and(|p| p.id == *id),
                Media::Video(_) => self.video.as_ref().is_some_and(|p| p.id == *id),
            };
            let mut token = Token {
                position,
                modality: Modality::Text,
                token_id: *id as i32,
                piece: if is_partial(position as usize) {
                    self.token_name(*id)
                } else {
                    self.piece(*id, &text, *offsets)
                },
                role: role_at(&spans, *offsets),
                special: false,
                image: None,
                rect: None,
            };
            if is_placeholder {
                let image = image_numbers.next();
                token.modality = Modality::Image;
                token.image = image.and_then(|image| i16::try_from(image).ok());
                token.role = image.and_then(role).unwrap_or(Role::User);
            } else {
                token.special = token.role == Role::Template || self.special.contains(id);
            }
            token
        });
        let mut tokens: Vec<Token> = tokens.collect();
        if let Some(id) = self.inserted {
            self.insert_image(id, &mut tokens, media)?;
        }
        Ok(tokens)
    }

    /// The ids of a text's tokens, and the bytes for which each of them stands.
    fn divide(&self, text: &str, spans: &Spans, add_special: bool) -> Result<(Vec<u32>, Vec<Offsets>), RowError> {
        let answer = spans.iter().find(|(_, role)| self.has_prefix && *role == Role::Assistant);
        let start = answer.map_or(text.len(), |(answer, _)| answer.start);
        let parts = [0..start, start..text.len()].into_iter().take(if start < text.len() { 2 } else { 1 });
        let (mut ids, mut offsets) = (Vec::new(), Vec::new());
        for part in parts {
            let encoding = self.tokenizer.encode(&text[part.clone()], add_special).map_err(|e| e.to_string())?;
            ids.extend_from_slice(encoding.get_ids());
            offsets.extend(encoding.get_offsets().iter().map(|(start, end)| (part.start + start, part.start + end)));
        }
        Ok((ids, offsets))
    }

    /// How many of a sample's first positions attend to each other in both directions: those before an answer if the model reads
    /// them as a prefix, otherwise none.
    pub fn prefix(&self, tokens: &[Token]) -> usize {
        let before_answer = tokens.iter().take_while(|token| token.role != Role::Assistant).count();
        if self.has_prefix { before_answer } else { 0 }
    }

    /// Puts the positions of the only image behind the first token.
    fn insert_image(&self, id: u32, tokens: &mut Vec<Token>, media: Media) -> Result<(), RowError> {
        let positions = match media {
            Media::Images([]) => return Ok(()),
            Media::Images([image]) => image.positions,
            Media::Images(more) => return Err(format!("the row has {} images: the model takes one", more.len()).into()),
            Media::Video(_) => return Err("the row has a video, but the model takes none".into()),
        };
        let position = Token {
            position: 0,
            modality: Modality::Image,
            token_id: id as i32,
            piece: self.token_name(id),
            role: Role::User,
            special: false,
            image: Some(0),
            rect: None,
        };
        let first = tokens.len().min(1);
        tokens.splice(first..first, std::iter::repeat_n(position, positions));
        (0..).zip(tokens).for_each(|(position, token)| token.position = position);
        Ok(())
    }

    /// Rejects texts that contain a placeholder of an image or a video, because it would shift the images to other
    /// places.
    fn check_texts(&self, turns: &[Turn]) -> Result<(), RowError> {
        let Some(placeholder) = &self.placeholder else { return Ok(()) };
        let unused = self.tokenizer.token_to_id(VIDEO).map(|_| VIDEO);
        let video = self.video.as_ref().map(|video| video.token.as_str()).or(unused);
        let placeholders = [Some(placeholder.mark.as_str()), Some(&placeholder.token), video];
        for (n, turn) in turns.iter().enumerate() {
            let text = turn.text();
            if let Some(token) = placeholders.into_iter().flatten().find(|token| text.contains(token)) {
                let turn = n + 1;
                let cause = format!("the text of turn {turn} contains {token}, the placeholder of an image or a video");
                return Err(cause.into());
            }
        }
        Ok(())
    }

    /// The text for a model without a template: turns with separators between them, and placeholders of images.
    fn joined(&self, turns: &[Turn]) -> (String, Spans) {
        let mut text = String::new();
        let mut spans = Vec::new();
        let (separator, closing) = &self.separator;
        for (n, turn) in turns.iter().enumerate() {
            for part in &turn.parts {
                let start = text.len();
                match part {
                    TurnPart::Image(_) => text.push_str(self.placeholder.as_ref().map_or("", |p| &p.mark)),
                    TurnPart::Video => text.push_str(self.video.as_ref().map_or("", |p| &p.token)),
                    TurnPart::Text(part) => text.push_str(part),
                }
                spans.push((start..text.len(), turn.role));
            }
            if *closing || n + 1 < turns.len() {
                text.push_str(separator);
            }
        }
        (text, spans)
    }

    /// The placeholder of an image or a video, and what takes its place, once for each of them: as many tokens as there are
    /// positions, with the text that belongs before and after them.
    fn replacements(&self, media: Media) -> Result<(&str, Vec<String>), RowError> {
        match media {
            Media::Images(images) => match &self.placeholder {
                Some(Placeholder { token, mark, surroundings, .. }) => {
                    Ok((mark, images.iter().map(|image| surroundings.text(token, image)).collect()))
                }
                None if images.is_empty() => Ok(("", Vec::new())),
                None => Err("the row has images, but the model takes none".into()),
            },
            Media::Video(patches) => {
                let Some(VideoPlaceholder { token, timing, .. }) = &self.video else {
                    return Err("the row has a video, but the model takes none".into());
                };
                let patch = |patch: &FramePatch| match timing {
                    VideoTiming::Axis { .. } => token.repeat(patch.positions),
                    VideoTiming::Text => {
                        let [begin, end] = PATCH_OF_FRAMES;
                        format!("<{:.1} seconds>{begin}{}{end}", patch.seconds, token.repeat(patch.positions))
                    }
                };
                Ok((token, vec![patches.iter().map(patch).collect()]))
            }
        }
    }

    /// Puts the positions of images or of a video in the place of their placeholders. Moves the spans accordingly.
    fn expand(&self, text: String, spans: Spans, media: Media) -> Result<(String, Spans), RowError> {
        let (mark, replacements) = self.replacements(media)?;
        if mark.is_empty() {
            return Ok((text, spans));
        }
        let found: Vec<_> = text.match_indices(mark).map(|(at, _)| at).collect();
        if found.len() != replacements.len() {
            let (shown, found) = (replacements.len(), found.len());
            let what = if matches!(media, Media::Video(_)) { "video" } else { "images" };
            return Err(format!("the row has {shown} {what}, but its text has {found} placeholders {mark}").into());
        }
        let mut expanded = String::with_capacity(text.len());
        let (mut rest, mut grown) = (0, vec![0]);
        for (at, replacement) in found.iter().zip(&replacements) {
            expanded.push_str(&text[rest..*at]);
            expanded.push_str(replacement);
            rest = at + mark.len();
            grown.push(expanded.len() - rest);
        }
        expanded.push_str(&text[rest..]);
        let moved = |at: usize| at + grown[found.partition_point(|found| *found < at)];
        let spans = spans.into_iter().map(|(span, role)| (moved(span.start)..moved(span.end), role)).collect();
        Ok((expanded, spans))
    }

    /// The number of tokens of the vocabulary, without those that were added to it.
    pub(crate) fn vocabulary(&self) -> usize {
        self.tokenizer.get_vocab_size(false)
    }

    /// Whether a token has no content of its own, such as the end of an answer.
    pub fn is_special(&self, id: u32) -> bool {
        self.special.contains(&id)
    }

    /// The text that tokens stand for, without special ones. Bytes that are no whole character are replaced.
    pub fn text(&self, ids: &[u32]) -> String {
        self.tokenizer.decode(ids, true).unwrap_or_default()
    }

    /// The tokens of a text, without those that begin or end every text. `None` if it cannot be divided.
    pub fn encode(&self, text: &str) -> Option<Vec<u32>> {
        self.tokenizer.encode(text, false).ok().map(|encoding| encoding.get_ids().to_vec())
    }

    /// The text that a token of the vocabulary stands for inside a text, or its name if it stands for no text.
    pub fn token_text(&self, id: u32) -> String {
        // Decoders remove a space at the beginning of a text. Therefore the token is decoded twice, and the second one
        // counts.
        let decode = |ids: &[u32]| self.tokenizer.decode(ids, false).unwrap_or_default();
        let text = decode(&[id, id]).strip_prefix(&decode(&[id])).unwrap_or_default().to_owned();
        if text.is_empty() || text.contains(char::REPLACEMENT_CHARACTER) { self.token_name(id) } else { text }
    }

    /// The name of a token in the vocabulary, in readable form.
    pub fn token_name(&self, id: u32) -> String {
        let name = self.tokenizer.id_to_token(id).unwrap_or_default();
        if self.byte_level { alphabet::readable(&name) } else { name }
    }

    /// The part of a text that a token stands for, or its name if it stands for no text.
    fn piece(&self, id: u32, text: &str, (start, end): (usize, usize)) -> String {
        match text.get(start..end) {
            Some(piece) if !piece.is_empty() => piece.to_owned(),
            _ => self.token_name(id),
        }
    }
}

/// How images are represented in the text of a model with `vision` and a processor with these `settings`. `named` returns a token
/// that the tokenizer's files name.
fn placeholder(
    tokenizer: &Tokenizer,
    vision: &VisionConfig,
    settings: Fields,
    named: &dyn Fn(&str) -> Option<String>,
) -> Result<Placeholder, String> {
    let name = |what: &str, id: u32| {
        tokenizer.id_to_token(id).ok_or_else(|| format!("the tokenizer has no {what} token (id {id})"))
    };
    let id = vision.image_token_id;
    let token = name("image", id)?;
    let bare = Placeholder {
        id,
        mark: token.clone(),
        token,
        surroundings: Surroundings::Around { before: String::new(), after: String::new() },
        delimiters: vec![id],
    };
    let id = |token: &str| tokenizer.token_to_id(token).ok_or_else(|| format!("the tokenizer has no token {token}"));
    Ok(match vision.image_tokens {
        ImageTokens::Bare | ImageTokens::Prismatic => bare,
        ImageTokens::Prefix => match ["bos_token", "eos_token"].into_iter().find(|name| named(name).is_none()) {
            Some(missing) => return Err(format!("tokenizer_config.json names no {missing}")),
            None => bare,
        },
        ImageTokens::Gemma { begin, end } => {
            let mark = name("begin-of-image", begin)?;
            let (before, after) = (format!("\n\n{mark}"), format!("{}\n\n", name("end-of-image", end)?));
            let surroundings = Surroundings::Around { before, after };
            Placeholder { mark, surroundings, delimiters: vec![begin, end], ..bare }
        }
        ImageTokens::Chameleon => {
            let [before, after] = ["<racm3:break>", "<eoss>"];
            let delimiters = vec![id(before)?, id(after)?];
            let surroundings = Surroundings::Around { before: before.into(), after: after.into() };
            Placeholder { delimiters, surroundings, ..bare }
        }
        ImageTokens::Named(names) => {
            let [before, after] =
                names.map(|name| named(name).ok_or_else(|| format!("tokenizer_config.json names no {name}")));
            let (before, after) = (before?, after?);
            let delimiters = vec![id(&before)?, id(&after)?];
            Placeholder { delimiters, surroundings: Surroundings::Around { before, after }, ..bare }
        }
        ImageTokens::Rows => {
            let [row_end, end] = precedence::ROW_ENDS.map(|(name, default)| settings.or(name, default.to_owned()));
            let (row_end, end) = (row_end?, end?);
            let delimiters = vec![id(&row_end)?, id(&end)?];
            Placeholder { delimiters, surroundings: Surroundings::Rows { row_end, end }, ..bare }
        }
        ImageTokens::Tiles => {
            let [fence, whole] = ["<fake_token_around_image>", "<global-img>"];
            let added = tokenizer.get_added_tokens_decoder();
            let tiles = added.iter().filter(|(_, token)| token.content.starts_with("<row_")).map(|(id, _)| *id);
            // The token of the whole image and those of tiles may be plain text.
            let delimiters = [id(fence)?].into_iter().chain(id(whole).ok()).chain(tiles).collect();
            let surroundings = Surroundings::Tiles { fence: fence.into(), whole: whole.into() };
            Placeholder { delimiters, surroundings, ..bare }
        }
    })
}

/// The role of the speaker at a token. The last byte of the token decides, because the space before a word belongs to
/// the word's token.
fn role_at(spans: &[(Range<usize>, Role)], (start, end): (usize, usize)) -> Role {
    if start == end {
        return Role::Template;
    }
    let candidate = spans.partition_point(|(span, _)| span.end < end);
    spans.get(candidate).filter(|(span, _)| span.contains(&(end - 1))).map_or(Role::Template, |(_, role)| *role)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_byte_of_a_token_decides_who_speaks() {
        let spans = [(6..11, Role::User), (24..30, Role::Assistant)];
        assert_eq!(role_at(&spans, (5, 8)), Role::User);
        assert_eq!(role_at(&spans, (8, 11)), Role::User);
        assert_eq!(role_at(&spans, (11, 12)), Role::Template);
        assert_eq!(role_at(&spans, (23, 30)), Role::Assistant);
        assert_eq!(role_at(&spans, (0, 0)), Role::Template);
        assert_eq!(role_at(&spans, (30, 31)), Role::Template);
    }
}
