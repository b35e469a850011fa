//! Answers to what was asked: one of them, or two with a preference. An answer is a text, a message, or a conversation that
//! repeats what was asked and ends in the answer.

use super::turns::{content, speaker, text_part};
use super::{IMAGE_MARK, Schema};
use crate::data::fields::{self, Fields};
use crate::data::lenient::json_type;
use crate::data::record::{Pair, Turn};
use sae_core::store::sample::Role;
use serde_json::Value;

/// Columns that say which of two answers is preferred; the first that a row has counts. Helpfulness goes before safety.
pub(super) const PREFERRED: [&str; 5] =
    ["overall_response", "p_response", "better_response_id", "more_helpful_response_id", "safer_response_id"];

impl Schema {
    /// The only answer, in the first of these columns that the row has.
    pub(super) fn answer(&mut self, names: &[&'static str], asked: &[Turn]) -> Result<Option<Turn>, String> {
        let Some((name, _)) = fields::first(&self.fields, names) else { return Ok(None) };
        let answer = fields::take(&mut self.fields, name).unwrap_or_default();
        Ok(Some(Turn::of_text(Role::Assistant, answer_text(name, &answer, asked)?)))
    }

    /// Two answers, and which of them is preferred.
    pub(super) fn pair(&mut self, asked: &[Turn]) -> Result<Option<Pair>, String> {
        if fields::get(&self.fields, "rejected").is_some() {
            let mut answer = |name: &str| {
                let answer = fields::take(&mut self.fields, name).unwrap_or_default();
                answer_text(name, &answer, asked)
            };
            return Ok(Some(Pair { chosen: answer("chosen")?, rejected: answer("rejected")? }));
        }
        let there = |name: &str| fields::get(&self.fields, name).is_some();
        let first = match ["response_0", "response_1", "response_2"].map(there) {
            [_, true, true] => 1,
            [true, true, false] => 0,
            _ => return Ok(None),
        };
        let preferred = self.preferred()?;
        let mut answer = |number: i64| {
            let name = format!("response_{number}");
            let answer = fields::take(&mut self.fields, &name).unwrap_or_default();
            answer_text(&name, &answer, asked)
        };
        let (one, two) = (answer(first)?, answer(first + 1)?);
        match preferred - first {
            0 => Ok(Some(Pair { chosen: one, rejected: two })),
            1 => Ok(Some(Pair { chosen: two, rejected: one })),
            _ => Err(format!("the preferred answer is {preferred}, neither {first} nor {}", first + 1)),
        }
    }

    fn preferred(&self) -> Result<i64, String> {
        let (name, value) = fields::first(&self.fields, &PREFERRED)
            .ok_or("the row does not say which of its two answers is preferred\nhint: --map overall_response=COLUMN")?;
        // A table with missing numbers has them as floats.
        let number = value.as_f64().or_else(|| value.as_str()?.trim().parse().ok());
        let number = number.filter(|number| number.fract() == 0.0 && number.abs() < 1e6);
        number.map(|number| number as i64).ok_or_else(|| {
            let found = value.as_str().unwrap_or(json_type(value));
            format!("the column {name} says {found:?}, expected the number of an answer")
        })
    }

    /// Two whole conversations that differ in their last turn alone: TRL's preferences without a prompt.
    pub(super) fn two_conversations(&mut self) -> Result<Option<Vec<Turn>>, String> {
        let whole = |name| fields::get(&self.fields, name).and_then(Value::as_array).filter(|turns| turns.len() > 1);
        let (Some(chosen), Some(rejected)) = (whole("chosen"), whole("rejected")) else { return Ok(None) };
        if chosen[..chosen.len() - 1] != rejected[..rejected.len() - 1] {
            return Err("the chosen and the rejected conversation differ before their last turn".into());
        }
        let asked = chosen[..chosen.len() - 1].to_vec();
        self.turns(&asked).map(Some)
    }
}

fn answer_text(name: &str, answer: &Value, asked: &[Turn]) -> Result<String, String> {
    let failed = |e: String| format!("the column {name}: {e}");
    let (before, last) = match answer {
        Value::Array(turns) => turns.split_last().map_or((&[][..], &Value::Null), |(last, before)| (before, last)),
        one => (&[][..], one),
    };
    if !before.is_empty() && !repeats(before, asked) {
        return Err(failed("it has turns before the answer that are not those of the question".into()));
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

/// What to name in a message: the answer itself, or what stands in its list where a message should.
fn answer_kind<'a>(answer: &'a Value, last: &'a Value) -> &'a Value {
    if answer.is_array() && !last.is_null() { last } else { answer }
}

fn message_text(message: &Fields) -> Result<String, String> {
    if fields::first(message, &["from", "role"]).is_some() && speaker(message)? != Role::Assistant {
        return Err("its last turn is not the assistant's".into());
    }
    match content(message)? {
        Value::String(text) => Ok(text.clone()),
        Value::Array(parts) => {
            let text = |part| text_part(part)?.ok_or_else(|| "the answer has a part that is not text".to_owned());
            parts.iter().filter(|part| !fields::is_absent(part)).map(text).collect()
        }
        other => Err(format!("it says {}, expected a string or a list of parts", json_type(other))),
    }
}

/// Whether turns say what was asked, images and white space aside. A system prompt may stand in either alone.
fn repeats(said: &[Value], asked: &[Turn]) -> bool {
    let plain = |text: &str| text.replace(IMAGE_MARK, "").split_whitespace().collect::<String>();
    let text = |said: &Value| {
        let said = said.as_object()?;
        let text = match content(said).ok()? {
            Value::String(text) => plain(text),
            Value::Array(parts) => plain(&parts.iter().filter_map(|part| text_part(part).ok()?).collect::<String>()),
            _ => return None,
        };
        Some((speaker(said).ok()?, text))
    };
    let said: Option<Vec<_>> = said.iter().map(text).collect();
    let talk =
        |turns: Vec<(Role, String)>| turns.into_iter().filter(|(role, _)| *role != Role::System).collect::<Vec<_>>();
    let asked = asked.iter().map(|turn| (turn.role, plain(&turn.text()))).collect();
    said.is_some_and(|said| talk(said) == talk(asked))
}
