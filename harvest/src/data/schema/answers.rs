//! Answers to a question: one answer, or two with a preference. An answer is a text, a message, or a conversation that
//! repeats the question and ends with the answer.

use super::turns::{content, speaker, text_part};
use super::{IMAGE_MARK, Schema};
use crate::data::fields::{self, Fields};
use crate::data::lenient::json_type;
use crate::data::row_error::RowError;
use sae_core::error::Hint;
use sae_core::store::conversation::{AnswerPair, Turn};
use sae_core::store::sample::Role;
use serde_json::Value;

/// Columns that say which of two answers is preferred. The first one that a row has counts; helpfulness comes before
/// safety.
pub(super) const PREFERRED: [&str; 5] =
    ["overall_response", "p_response", "better_response_id", "more_helpful_response_id", "safer_response_id"];

/// Columns of an answer that people corrected, each before that of the better answer.
const CORRECTED: [[&str; 2]; 2] = [["response", "refinement"], ["answer", "correction"]];

impl Schema {
    /// The only answer, from the first of these columns that the row has. `question` holds the turns before the answer.
    pub(super) fn answer(&mut self, names: &[&'static str], question: &[Turn]) -> Result<Option<Turn>, String> {
        let Some((name, _)) = fields::first(&self.fields, names) else { return Ok(None) };
        let answer = fields::take(&mut self.fields, name).unwrap_or_default();
        Ok(Some(Turn::from_text(Role::Assistant, answer_text(name, &answer, question)?)))
    }

    /// Two answers with a preference.
    pub(super) fn pair(&mut self, question: &[Turn]) -> Result<Option<AnswerPair>, RowError> {
        let pair = self.two_answers(question)?;
        match pair {
            Some(pair) if pair.chosen == pair.rejected => Err("the two answers are equal".into()),
            pair => Ok(pair),
        }
    }

    fn two_answers(&mut self, question: &[Turn]) -> Result<Option<AnswerPair>, RowError> {
        let has = |name: &str| fields::get(&self.fields, name).is_some();
        let corrected = CORRECTED.into_iter().find(|columns| columns.iter().all(|name| has(name)));
        let columns = if has("rejected") { Some(["rejected", "chosen"]) } else { corrected };
        if let Some([rejected, chosen]) = columns {
            let mut answer = |name: &str| {
                let answer = fields::take(&mut self.fields, name).unwrap_or_default();
                answer_text(name, &answer, question)
            };
            return Ok(Some(AnswerPair { chosen: answer(chosen)?, rejected: answer(rejected)? }));
        }
        let first = match ["response_0", "response_1", "response_2"].map(has) {
            [_, true, true] => 1,
            [true, true, false] => 0,
            _ => return Ok(None),
        };
        let preferred = self.preferred()?;
        let mut answer = |number: i64| {
            let name = format!("response_{number}");
            let answer = fields::take(&mut self.fields, &name).unwrap_or_default();
            answer_text(&name, &answer, question)
        };
        let (one, two) = (answer(first)?, answer(first + 1)?);
        let (pair, numbers) = match preferred - first {
            0 => (AnswerPair { chosen: one, rejected: two }, [first, first + 1]),
            1 => (AnswerPair { chosen: two, rejected: one }, [first + 1, first]),
            _ => return Err(format!("the preferred answer is {preferred}: expected {first} or {}", first + 1).into()),
        };
        self.numbers = Some(numbers);
        Ok(Some(pair))
    }

    /// The number of the preferred answer.
    fn preferred(&self) -> Result<i64, RowError> {
        let (name, value) = fields::first(&self.fields, &PREFERRED).ok_or_else(|| {
            RowError::from("the row does not say which of its two answers is preferred")
                .with_hint(Hint::MapField { field: PREFERRED[0].into(), column: None })
        })?;
        // A table with missing numbers stores all of them as floats.
        let number = value.as_f64().or_else(|| value.as_str()?.trim().parse().ok());
        let number = number.filter(|number| number.fract() == 0.0 && number.abs() < 1e6);
        number.map(|number| number as i64).ok_or_else(|| {
            let found = value.as_str().unwrap_or(json_type(value));
            format!("the column {name}: expected the number of an answer, found {found:?}").into()
        })
    }

    /// TRL's preferences without a prompt: two complete conversations that differ only in their last turn.
    pub(super) fn two_conversations(&mut self) -> Result<Option<Vec<Turn>>, String> {
        let turns = |name| fields::get(&self.fields, name).and_then(Value::as_array).filter(|turns| turns.len() > 1);
        let (Some(chosen), Some(rejected)) = (turns("chosen"), turns("rejected")) else { return Ok(None) };
        if chosen[..chosen.len() - 1] != rejected[..rejected.len() - 1] {
            return Err("the chosen and the rejected conversation differ before their last turn".into());
        }
        let question = chosen[..chosen.len() - 1].to_vec();
        self.turns(&question).map(Some)
    }
}

/// The text of the answer in the column `name`.
fn answer_text(name: &str, answer: &Value, question: &[Turn]) -> Result<String, String> {
    let failed = |e: String| format!("the column {name}: {e}");
    let (before, last) = match answer {
        Value::Array(turns) => turns.split_last().map_or((&[][..], &Value::Null), |(last, before)| (before, last)),
        one => (&[][..], one),
    };
    if !before.is_empty() && !repeats(before, question) {
        return Err(failed("the turns before the answer differ from those of the question".into()));
    }
    match last {
        Value::String(text) if answer.is_string() => Ok(text.clone()),
        Value::Object(message) => message_text(message).map_err(failed),
        other => Err(failed(format!(
            "expected a text or a list of messages, found {}",
            json_type(answer_kind(answer, other))
        ))),
    }
}

/// The value that an error message should describe: the answer itself, or the entry in its list that should be a
/// message.
fn answer_kind<'a>(answer: &'a Value, last: &'a Value) -> &'a Value {
    if answer.is_array() && !last.is_null() { last } else { answer }
}

fn message_text(message: &Fields) -> Result<String, String> {
    if fields::first(message, &["from", "role"]).is_some() && speaker(message)? != Role::Assistant {
        return Err("its last turn is not of the assistant".into());
    }
    match content(message)? {
        Value::String(text) => Ok(text.clone()),
        Value::Array(parts) => {
            let text = |part| text_part(part)?.ok_or_else(|| "the answer has a part that is not text".to_owned());
            parts.iter().filter(|part| !fields::is_absent(part)).map(text).collect()
        }
        other => Err(format!("its content is {}: expected a string or a list of parts", json_type(other))),
    }
}

/// Whether a list of messages repeats the question, ignoring images, white space, and system prompts.
fn repeats(messages: &[Value], question: &[Turn]) -> bool {
    let plain = |text: &str| text.replace(IMAGE_MARK, "").split_whitespace().collect::<String>();
    let message = |message: &Value| {
        let message = message.as_object()?;
        let text = match content(message).ok()? {
            Value::String(text) => plain(text),
            Value::Array(parts) => plain(&parts.iter().filter_map(|part| text_part(part).ok()?).collect::<String>()),
            _ => return None,
        };
        Some((speaker(message).ok()?, text))
    };
    let messages: Option<Vec<_>> = messages.iter().map(message).collect();
    let without_system =
        |turns: Vec<(Role, String)>| turns.into_iter().filter(|(role, _)| *role != Role::System).collect::<Vec<_>>();
    let question = question.iter().map(|turn| (turn.role, plain(&turn.text()))).collect();
    messages.is_some_and(|messages| without_system(messages) == without_system(question))
}
