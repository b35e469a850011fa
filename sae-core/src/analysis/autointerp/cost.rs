//! An estimate of what labels will cost, before any question is sent: the number of questions, and roughly the number of tokens.

use super::DetectionTask;
use super::question::AROUND;
use crate::analysis::index::Example;
use serde::Serialize;

/// Tokens of an image, as OpenAI counts a detailed one of up to 512 pixels.
const PICTURE: u64 = 255;
/// Tokens of a text around a position, if the labeling model's tokens are as long as the labeled model's.
const TEXT: u64 = 2 * AROUND as u64 + 1;
/// Tokens of the number and the strength before each position.
const NUMBER: u64 = 10;
/// Tokens of the text of a question.
const QUESTION: u64 = 120;
/// Tokens of an answer, from a model that does not print its reasoning.
const ANSWER: u64 = 20;

/// The questions that will be asked, and their size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CostEstimate {
    /// Questions.
    pub calls: u64,
    /// Images in them.
    pub pictures: u64,
    /// Estimated tokens of the questions.
    pub tokens_in: u64,
    /// Estimated tokens of the answers.
    pub tokens_out: u64,
}

impl CostEstimate {
    /// Adds both questions about a feature with these examples.
    pub fn add(&mut self, examples: &[(u8, Example)]) {
        for [texts, images] in DetectionTask::token_counts(examples).map(|count| count.map(|n| n as u64)) {
            if texts + images > 0 {
                self.calls += 1;
                self.pictures += images;
                self.tokens_in += QUESTION + texts * (TEXT + NUMBER) + images * (PICTURE + NUMBER);
                self.tokens_out += ANSWER;
            }
        }
    }
}
