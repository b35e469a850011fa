//! Who says a message: the names of speakers in conversations and in trees of messages. Knows no turns and no order.

use super::fields::{self, Fields};
use super::lenient::json_type;
use sae_core::store::sample::Role;

/// Names of the speakers in a conversation.
const SPEAKERS: [(&str, Role); 12] = [
    ("human", Role::User),
    ("user", Role::User),
    ("prompter", Role::User),
    ("gpt", Role::Assistant),
    ("assistant", Role::Assistant),
    ("bot", Role::Assistant),
    ("chatgpt", Role::Assistant),
    ("model", Role::Assistant),
    ("ai", Role::Assistant),
    ("bing", Role::Assistant),
    ("bard", Role::Assistant),
    ("system", Role::System),
];

/// Names of speakers that are tools, or calls of tools.
const TOOLS: [&str; 8] =
    ["tool", "function", "observation", "function_call", "tool_call", "tool_response", "function_response", "ipython"];

/// The role of the speaker of a message; nothing if the message does not name one (`from` or `role`).
///
/// # Errors
/// The speaker is a tool or unknown. The error names it.
pub(super) fn named(message: &Fields) -> Result<Option<Role>, String> {
    let Some((key, side)) = fields::first(message, &["from", "role"]) else { return Ok(None) };
    let name = side.as_str().ok_or_else(|| format!("its {key} is {}: expected a string", json_type(side)))?;
    let lower = name.trim().to_ascii_lowercase();
    if let Some((_, role)) = SPEAKERS.iter().find(|(speaker, _)| *speaker == lower) {
        return Ok(Some(*role));
    }
    Err(if TOOLS.contains(&lower.as_str()) {
        format!("its speaker is a tool ({key}: {name}), which is not supported")
    } else {
        format!("its {key} is {name:?}: expected human, user, prompter, gpt, assistant or system")
    })
}
