//! From a conversation to token ids, as the checkpoint's processor does it: chat template, placeholders of images
//! expanded in the text, one pass of the tokenizer. Knows for every token who speaks and what text it stands for; knows
//! nothing of pixels.

use crate::data::{Turn, TurnPart};
use crate::model::VisionConfig;
use crate::model::config::ImageTokens;
use crate::template::Template;
use crate::tokenizer::{self, Named};
use crate::{Error, Result, alphabet};
use sae_core::store::sample::{Modality, Role, Token};
use std::collections::BTreeSet;
use std::ops::Range;
use std::path::Path;
use tokenizers::Tokenizer;

/// What stands for a video in Qwen's texts; its processor refuses it where there is none.
const VIDEO: &str = "<|video_pad|>";

/// Bytes of a text and who speaks them, in order.
type Spans = Vec<(Range<usize>, Role)>;

/// Where the text of a sample comes from.
pub enum Text<'a> {
    /// Turns, put together by the chat template; joined by newlines if the checkpoint has none.
    Conversation {
        /// In order.
        turns: &'a [Turn],
        /// Whether the beginning of an answer comes last.
        generate: bool,
    },
    /// As it is, with the model's own placeholder where images stand.
    Verbatim(&'a str),
}

/// Images as the model's text has them.
#[derive(Clone, Debug)]
struct Placeholder {
    /// Id of the token that image positions have.
    id: u32,
    /// That token.
    token: String,
    /// What stands for an image before it is expanded.
    mark: String,
    /// What the positions are put between.
    before: String,
    after: String,
    /// Ids of the tokens that begin and end an image.
    around: [u32; 2],
}

/// Tokenizer and chat template of a checkpoint.
pub struct Prompter {
    tokenizer: Tokenizer,
    /// Ids that carry no content of their own.
    special: BTreeSet<u32>,
    bos: Option<String>,
    template: Option<Template>,
    placeholder: Option<Placeholder>,
    /// Without a template: what stands between turns, and whether it stands behind the last one too.
    separator: (String, bool),
    /// Whether tokens are named in the alphabet of bytes.
    bytes: bool,
}

impl Prompter {
    /// Reads the tokenizer and the chat template of the checkpoint in `folder`, which has `vision` or none.
    ///
    /// # Errors
    /// A file is missing or damaged, or the tokenizer has no placeholder for images.
    pub fn open(folder: &Path, vision: Option<&VisionConfig>) -> Result<Self> {
        let path = folder.join("tokenizer.json");
        let Named { tokenizer, special_tokens } = tokenizer::open(folder)?;
        let named = |name: &str| special_tokens.get(name).and_then(|token| token.as_str()).map(str::to_owned);
        let placeholder = vision.map(|vision| placeholder(&tokenizer, vision)).transpose();
        let placeholder = placeholder.map_err(Error::checkpoint(&path))?;
        let added = tokenizer.get_added_tokens_decoder();
        let mut special: BTreeSet<u32> = added.iter().filter(|(_, token)| token.special).map(|(id, _)| *id).collect();
        special.extend(placeholder.iter().flat_map(|p| p.around));
        let separator = match vision.map(|vision| vision.framing) {
            Some(ImageTokens::Chameleon) => (named("sep_token").unwrap_or_else(|| "<reserved08706>".into()), true),
            _ => ("\n".into(), false),
        };
        Ok(Self {
            special,
            bos: named("bos_token"),
            template: Template::open(folder, &special_tokens, vision.is_some())?,
            placeholder,
            separator,
            bytes: alphabet::names_tokens_of(&tokenizer),
            tokenizer,
        })
    }

    /// The tokens of a text with images in it, in order, each of which takes as many positions as `images` says. Positions
    /// of images have the image's number; their rectangles are left open.
    ///
    /// # Errors
    /// Why no sample can be made of it: the template refuses it, or placeholders and images do not match.
    pub fn tokens(&self, text: &Text, images: &[usize]) -> Result<Vec<Token>, String> {
        let mut image_roles = Vec::new();
        if let Text::Conversation { turns, .. } = text {
            let of = |turn: &Turn| turn.parts.iter().filter(|part| part.text().is_none()).count();
            image_roles.extend(turns.iter().flat_map(|turn| std::iter::repeat_n(turn.role, of(turn))));
            self.check_words(turns)?;
        }
        let (text, spans, add_special) = match text {
            Text::Verbatim(text) => {
                let whole = 0..text.len();
                ((*text).to_owned(), vec![(whole, Role::User)], true)
            }
            Text::Conversation { turns, generate } => match &self.template {
                Some(template) => {
                    let rendered = template.render(turns, *generate)?;
                    (rendered.text, rendered.spans, self.placeholder.is_some())
                }
                None => {
                    let (text, spans) = self.joined(turns);
                    (text, spans, true)
                }
            },
        };
        let begun = self.bos.as_ref().is_some_and(|bos| text.starts_with(bos));
        let (text, spans) = self.expand(text, spans, images)?;
        let encoding = self.tokenizer.encode(text.as_str(), add_special && !begun).map_err(|e| e.to_string())?;
        let mut numbers =
            images.iter().enumerate().flat_map(|(image, positions)| std::iter::repeat_n(image, *positions));
        let offsets = encoding.get_offsets();
        // A character of several tokens has the same offsets in each of them.
        let is_fraction = |n: usize| {
            let (start, end) = offsets[n];
            n.checked_sub(1).is_some_and(|before| offsets[before].1 > start)
                || offsets.get(n + 1).is_some_and(|next| next.0 < end)
        };
        let tokens = encoding.get_ids().iter().zip(offsets).zip(0..).map(|((id, offsets), position)| {
            let placeholder = self.placeholder.as_ref().filter(|p| p.id == *id);
            let mut token = Token {
                position,
                modality: Modality::Text,
                token_id: *id as i32,
                piece: if is_fraction(position as usize) { self.name(*id) } else { self.piece(*id, &text, *offsets) },
                role: role_at(&spans, *offsets),
                special: false,
                image: None,
                rect: None,
            };
            match placeholder {
                Some(_) => {
                    let image = numbers.next();
                    token.modality = Modality::Image;
                    token.image = image.and_then(|image| i16::try_from(image).ok());
                    token.role = image.and_then(|image| image_roles.get(image).copied()).unwrap_or(Role::User);
                }
                None => token.special = token.role == Role::Template || self.special.contains(id),
            }
            token
        });
        Ok(tokens.collect())
    }

    /// Refuses words that the model would take for an image or a video: they would shift the images to other places.
    fn check_words(&self, turns: &[Turn]) -> Result<(), String> {
        let Some(placeholder) = &self.placeholder else { return Ok(()) };
        let video = self.tokenizer.token_to_id(VIDEO).map(|_| VIDEO);
        let taken = [Some(placeholder.mark.as_str()), Some(&placeholder.token), video];
        for (n, turn) in turns.iter().enumerate() {
            let text = turn.text();
            if let Some(token) = taken.into_iter().flatten().find(|token| text.contains(token)) {
                return Err(format!(
                    "the text of turn {} contains {token}, which stands for an image or a video",
                    n + 1
                ));
            }
        }
        Ok(())
    }

    /// What a model without a template reads: turns with separators, marks where images stand.
    fn joined(&self, turns: &[Turn]) -> (String, Spans) {
        let mut text = String::new();
        let mut spans = Vec::new();
        let (separator, closing) = &self.separator;
        for (n, turn) in turns.iter().enumerate() {
            for part in &turn.parts {
                let start = text.len();
                match part {
                    TurnPart::Image(_) => text.push_str(self.placeholder.as_ref().map_or("", |p| &p.mark)),
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

    /// Puts in the place of each image's mark as many placeholders as the image has positions, and what stands around
    /// them.
    fn expand(&self, text: String, spans: Spans, images: &[usize]) -> Result<(String, Spans), String> {
        let Some(Placeholder { token, mark, before, after, .. }) = &self.placeholder else {
            return if images.is_empty() { Ok((text, spans)) } else { Err("the model takes no images".into()) };
        };
        let found: Vec<_> = text.match_indices(mark.as_str()).map(|(at, _)| at).collect();
        if found.len() != images.len() {
            return Err(format!("{} images, but {} times {mark} in the text", images.len(), found.len()));
        }
        let mut expanded = String::with_capacity(text.len());
        let (mut rest, mut grown) = (0, vec![0]);
        for (at, positions) in found.iter().zip(images) {
            expanded.push_str(&text[rest..*at]);
            expanded.push_str(before);
            expanded.push_str(&token.repeat(*positions));
            expanded.push_str(after);
            rest = at + mark.len();
            grown.push(expanded.len() - rest);
        }
        expanded.push_str(&text[rest..]);
        let moved = |at: usize| at + grown[found.partition_point(|found| *found < at)];
        let spans = spans.into_iter().map(|(span, role)| (moved(span.start)..moved(span.end), role)).collect();
        Ok((expanded, spans))
    }

    /// Whether a token has no content of its own, such as the end of an answer.
    pub fn is_special(&self, id: u32) -> bool {
        self.special.contains(&id)
    }

    /// The text that a token of the vocabulary stands for inside a text; its name if it stands for none.
    pub fn word(&self, id: u32) -> String {
        // Decoders take the space away that begins a text, so the second of two is looked at.
        let decode = |ids: &[u32]| self.tokenizer.decode(ids, false).unwrap_or_default();
        let text = decode(&[id, id]).strip_prefix(&decode(&[id])).unwrap_or_default().to_owned();
        match text.is_empty() || text.contains(char::REPLACEMENT_CHARACTER) {
            true => self.name(id),
            false => text,
        }
    }

    /// What the vocabulary calls a token, readable.
    pub fn name(&self, id: u32) -> String {
        let name = self.tokenizer.id_to_token(id).unwrap_or_default();
        if self.bytes { alphabet::readable(&name) } else { name }
    }

    /// The text a token stands for; its name if it stands for none.
    fn piece(&self, id: u32, text: &str, (start, end): (usize, usize)) -> String {
        match text.get(start..end) {
            Some(piece) if !piece.is_empty() => piece.to_owned(),
            _ => self.name(id),
        }
    }
}

/// How images stand in the text of a model.
fn placeholder(tokenizer: &Tokenizer, vision: &VisionConfig) -> Result<Placeholder, String> {
    let name =
        |what: &str, id: u32| tokenizer.id_to_token(id).ok_or_else(|| format!("there is no {what} token (id {id})"));
    let id = vision.image_token_id;
    let token = name("image", id)?;
    let bare =
        Placeholder { id, mark: token.clone(), token, before: String::new(), after: String::new(), around: [id; 2] };
    Ok(match vision.framing {
        ImageTokens::Bare => bare,
        ImageTokens::Gemma { begin, end } => {
            let mark = name("begin-of-image", begin)?;
            let (before, after) = (format!("\n\n{mark}"), format!("{}\n\n", name("end-of-image", end)?));
            Placeholder { mark, before, after, around: [begin, end], ..bare }
        }
        ImageTokens::Chameleon => {
            let id = |token: &str| tokenizer.token_to_id(token).ok_or_else(|| format!("there is no token {token}"));
            let [before, after] = ["<racm3:break>", "<eoss>"];
            Placeholder { around: [id(before)?, id(after)?], before: before.into(), after: after.into(), ..bare }
        }
    })
}

/// Who speaks at a token: decided by its last byte, because the space in front of a word belongs to the word's token.
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
