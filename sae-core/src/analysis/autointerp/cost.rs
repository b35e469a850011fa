//! What labels will cost, before anybody is asked: questions, and about how many tokens.

use super::DetectionTask;
use super::question::AROUND;
use crate::analysis::index::Example;
use serde::Serialize;

/// Tokens of a picture, as OpenAI counts one of up to 512 pixels in detail.
const PICTURE: u64 = 255;
/// Tokens of a text around a place: the labeller's tokens are taken to be as long as the model's.
const TEXT: u64 = 2 * AROUND as u64 + 1;
/// Tokens of what stands before a place: number, strength.
const NUMBER: u64 = 10;
/// Tokens of the words of a question.
const QUESTION: u64 = 120;
/// Tokens of an answer of a model that does not think aloud.
const ANSWER: u64 = 20;

/// What is to be asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CostEstimate {
    /// Questions.
    pub calls: u64,
    /// Pictures in them.
    pub pictures: u64,
    /// Tokens of the questions, about.
    pub tokens_in: u64,
    /// Tokens of the answers, about.
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
