//! The two questions: what does this feature fire on, and which of these positions does the label describe? Texts are cut
//! around the position. For an image, a question has a [`Crop`]: the caller, who has the images, inserts the surroundings of
//! the patch.

use super::Item;
use crate::analysis::context::Context;
use crate::store::sample::{Modality, Token};
use std::collections::BTreeMap;

/// Tokens shown before and after the position.
pub const AROUND: usize = 24;
/// Characters of the longest label that is accepted.
const LABEL: usize = 160;

/// A piece of a question.
#[derive(Clone, Debug, PartialEq)]
pub enum PromptPart {
    /// Words.
    Text(String),
    /// The surroundings of a patch.
    Image(Crop),
}

/// The surroundings of a patch of an image.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Crop {
    /// Number of the sample.
    pub sample: u32,
    /// Which of its images.
    pub image: usize,
    /// The patch: `[x0, y0, x1, y1]`, each 0 to 1.
    pub patch: [f32; 4],
    /// Whether the patch gets a frame.
    pub framed: bool,
}

impl Crop {
    /// A key that is equal for equal crops.
    pub fn key(&self) -> (u32, usize, [u32; 4], bool) {
        (self.sample, self.image, self.patch.map(f32::to_bits), self.framed)
    }
}

/// Asks for a label; `strongest` is the feature's largest activation.
pub fn ask_for_label(
    feature: u32,
    shown: &[Item],
    contexts: &BTreeMap<u32, Context>,
    strongest: f32,
) -> Vec<PromptPart> {
    let mut parts = vec![PromptPart::Text(
        "One feature of a vision-language model fires at the marked places below: in texts the tokens between << and >>, in \
         images the patch in the frame (each picture shows the surroundings of one patch). Strength is from 1 to 10. Say \
         what these places have in common and others have not, as concretely as they allow: a thing, a property, a word, a \
         part of speech. Answer with the label alone, at most twelve words."
            .into(),
    )];
    for (n, item) in shown.iter().enumerate() {
        let Some(context) = contexts.get(&item.sample) else { continue };
        let values = context.values(feature);
        let at = context.tokens.iter().position(|token| token.position == item.position);
        let strength =
            at.map_or(0.0, |at| (10.0 * values[at] / strongest.max(f32::MIN_POSITIVE)).ceil().clamp(1.0, 10.0));
        parts.extend(numbered_item(n + 1, &format!(" (strength {strength:.0})"), item, context, Some(&values)));
    }
    parts
}

/// Asks which positions a label describes.
pub fn ask_which_fire(label: &str, held_out: &[Item], contexts: &BTreeMap<u32, Context>) -> Vec<PromptPart> {
    let mut parts = vec![PromptPart::Text(format!(
        "A feature of a vision-language model is described as: {label}\nBelow are numbered places, some of which it fires on: \
         texts, and pictures that show the surroundings of one patch of an image. Which of them does the description fit? \
         Answer with a JSON array of their numbers alone, such as [1, 4], or [] for none."
    ))];
    for (n, item) in held_out.iter().enumerate() {
        let Some(context) = contexts.get(&item.sample) else { continue };
        parts.extend(numbered_item(n + 1, "", item, context, None));
    }
    parts
}

/// The label in an answer: its first line with letters or digits, without quotes; `None` if there is none.
pub fn label_of(answer: &str) -> Option<String> {
    let line = answer.lines().map(str::trim).find(|line| line.chars().any(char::is_alphanumeric))?;
    let line = line.trim_start_matches("Label:").trim().trim_matches(['"', '*', '\'', '`']).trim_end_matches('.');
    let label: String = line.chars().filter(|sign| !sign.is_control()).take(LABEL).collect();
    (!label.trim().is_empty()).then(|| label.trim().into())
}

/// A numbered position; the tokens that fire are marked if `values` are given.
fn numbered_item(number: usize, more: &str, item: &Item, context: &Context, values: Option<&[f32]>) -> Vec<PromptPart> {
    let tokens = &context.tokens;
    let Some(at) = tokens.iter().position(|token| token.position == item.position) else { return Vec::new() };
    let token = &tokens[at];
    if let (Modality::Image, Some(patch), Some(image)) = (token.modality, token.rect, token.image) {
        let (sample, image, framed) = (item.sample, usize::try_from(image).unwrap_or_default(), values.is_some());
        let crop = PromptPart::Image(Crop { sample, image, patch, framed });
        return vec![PromptPart::Text(format!("{number}{more}, a picture:")), crop];
    }
    vec![PromptPart::Text(format!("{number}{more}: {}", excerpt(tokens, at, values)))]
}

/// The text around a token on one line, with one `[image]` for all patches of an image.
fn excerpt(tokens: &[Token], at: usize, values: Option<&[f32]>) -> String {
    let range = at.saturating_sub(AROUND)..(at + AROUND + 1).min(tokens.len());
    let floor = values.map_or(f32::INFINITY, |values| values[at] / 2.0);
    let mut text = String::new();
    let mut image = None;
    for n in range {
        let token = &tokens[n];
        if token.modality == Modality::Image {
            if image != token.image {
                text += "[image] ";
            }
            image = token.image;
            continue;
        }
        image = None;
        let marked = n == at && values.is_some() || values.is_some_and(|values| values[n] > 0.0 && values[n] >= floor);
        // The signs that tokenizers use for a space, and line breaks.
        let piece = token.piece.replace(['\u{2581}', '\u{120}', '\n', '\u{10a}', '\r'], " ");
        text += &if marked { format!("<<{piece}>>") } else { piece };
    }
    text.trim().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::sample::Role;

    fn token(position: u32, piece: &str) -> Token {
        let image = piece.is_empty().then_some(0);
        Token {
            position,
            modality: if image.is_some() { Modality::Image } else { Modality::Text },
            token_id: 0,
            piece: piece.into(),
            role: Role::User,
            special: false,
            image,
            rect: image.map(|_| [0.0, 0.0, 0.5, 0.5]),
        }
    }

    #[test]
    fn excerpts_mark_what_fires_and_fold_patches() {
        let pieces = ["\u{2581}a", "", "", "\u{2581}red", "\u{2581}square\n", "\u{2581}here"];
        let tokens: Vec<Token> = pieces.iter().zip(0..).map(|(piece, n)| token(n, piece)).collect();
        let values = [0.0, 3.0, 0.0, 2.0, 1.0, 0.5];
        assert_eq!(excerpt(&tokens, 3, Some(&values)), "a[image] << red>><< square >> here");
        assert_eq!(excerpt(&tokens, 3, None), "a[image]  red square  here");
        let long: Vec<Token> = (0..500).map(|n| token(n, " w")).collect();
        assert_eq!(excerpt(&long, 250, None).split(' ').count(), 2 * AROUND + 1);
    }

    #[test]
    fn labels_are_one_clean_line() {
        let label = |answer| label_of(answer).unwrap_or_default();
        assert_eq!(label("\n  \"red squares.\"\nBecause they are red."), "red squares");
        assert_eq!(label("Label: **the color red**"), "the color red");
        assert_eq!(label_of(" \n--\n"), None);
        assert_eq!(label(&"x".repeat(1000)).len(), LABEL);
    }
}
