//! A sample that is ready for the model, and which of its tokens are predicted. Runs nothing.

use crate::alphabet::text_bytes;
use crate::pixels::Frame;
use sae_core::store::sample::{Modality, Role, Sample, Token};

/// A sample that is ready for the model.
#[derive(Clone, Debug)]
pub struct Prepared {
    /// Its identity, text and images.
    pub sample: Sample,
    /// Its token positions.
    pub tokens: Vec<Token>,
    /// Its images as the vision tower reads them, or the patches of its video.
    pub frames: Vec<Frame>,
    /// Whether they are patches of a video.
    pub is_video: bool,
    /// How many of its first positions attend to each other in both directions ([`Input::prefix`](crate::model::Input::prefix)).
    pub prefix: usize,
}

impl Prepared {
    /// Positions of the tokens of answers. Their likelihood measures how well the model answers.
    pub fn answer_positions(&self) -> Vec<usize> {
        let is_answer = |token: &&Token| token.role == Role::Assistant && token.modality == Modality::Text;
        self.tokens
            .iter()
            .filter(is_answer)
            .map(|token| token.position as usize)
            .filter(|position| *position > 0)
            .collect()
    }

    /// The number of UTF-8 bytes of text that the tokens at `positions` stand for. A character whose bytes are several tokens
    /// counts once, and a space that only the tokenizer puts before the text counts nothing.
    ///
    /// # Panics
    /// If the sample has no token at a position.
    pub fn text_bytes(&self, positions: &[usize]) -> usize {
        positions.iter().map(|position| text_bytes(&self.tokens[*position].piece)).sum()
    }

    /// Positions of text tokens that follow another text token and have content of their own. Tokens of the template
    /// are excluded because they are always the same, tokens behind an image because they were not predicted from
    /// text, and those of a prefix because the positions before them have seen them.
    pub fn targets(&self) -> Vec<usize> {
        let is_text = |token: &Token| token.modality == Modality::Text;
        let pairs = self.tokens.iter().zip(self.tokens.iter().skip(1)).zip(1..);
        pairs
            .filter(|((before, token), _)| is_text(before) && is_text(token) && !token.special)
            .map(|(_, position)| position)
            .filter(|position| *position >= self.prefix)
            .collect()
    }
}
