//! Chat templates: finds a checkpoint's, renders it as `apply_chat_template` of `transformers` does, and tells where in
//! the rendered text each turn's own words stand. Knows nothing of tokens.

use crate::data::{Part, Turn};
use crate::{Error, Result};
use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, ErrorKind};
use sae_core::sample::Role;
use serde_json::{Map, Value, json};
use std::ops::Range;
use std::path::Path;

/// Largest template or configuration file that is read, in bytes.
const LIMIT: u64 = 1 << 24;

/// The variables that `transformers` hands to templates beside the messages.
const SPECIAL_TOKENS: [&str; 7] =
    ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];

/// A chat template with the checkpoint's special tokens.
pub struct Template {
    environment: Environment<'static>,
    special_tokens: Map<String, Value>,
    /// Whether a turn's content is a list of parts (multimodal families) or one string.
    parts: bool,
}

/// A conversation as text.
pub struct Rendered {
    /// All of it.
    pub text: String,
    /// Bytes of `text` that are a text part of a turn, with the turn's index, in order.
    pub spans: Vec<(Range<usize>, usize)>,
}

/// The special tokens that the tokenizer's files name, such as `bos_token`.
///
/// # Errors
/// A file is there and cannot be read.
pub fn special_tokens(folder: &Path) -> Result<Map<String, Value>> {
    let mut tokens = Map::new();
    for file in ["special_tokens_map.json", "tokenizer_config.json"] {
        let path = folder.join(file);
        if !path.exists() {
            continue;
        }
        let config: Value = sae_core::file::read_json(&path, LIMIT)?;
        for name in SPECIAL_TOKENS {
            // Either the token itself or an object that describes it.
            let token = config[name].as_str().or_else(|| config[name]["content"].as_str());
            if let Some(token) = token {
                tokens.insert(name.into(), token.into());
            }
        }
    }
    Ok(tokens)
}

/// The source of a checkpoint's chat template, if it has one.
fn source(folder: &Path) -> Result<Option<String>> {
    let jinja = folder.join("chat_template.jinja");
    if jinja.exists() {
        let text = std::fs::read_to_string(&jinja).map_err(Error::io("read", &jinja))?;
        return Ok(Some(text));
    }
    for file in ["chat_template.json", "processor_config.json", "tokenizer_config.json"] {
        let path = folder.join(file);
        if !path.exists() {
            continue;
        }
        let mut config: Value = sae_core::file::read_json(&path, LIMIT)?;
        match config["chat_template"].take() {
            Value::String(text) => return Ok(Some(text)),
            Value::Array(named) => {
                let default = named.iter().find(|template| template["name"] == "default");
                if let Some(text) = default.and_then(|template| template["template"].as_str()) {
                    return Ok(Some(text.to_owned()));
                }
            }
            _ => {}
        }
    }
    Ok(None)
}

impl Template {
    /// Reads the chat template of the checkpoint in `folder`, if it has one.
    ///
    /// # Errors
    /// It is no template.
    pub fn open(folder: &Path, parts: bool) -> Result<Option<Self>> {
        let Some(source) = source(folder)? else { return Ok(None) };
        Self::new(&source, special_tokens(folder)?, parts).map(Some).map_err(Error::checkpoint(folder))
    }

    fn new(source: &str, special_tokens: Map<String, Value>, parts: bool) -> Result<Self, String> {
        let mut environment = Environment::new();
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        environment.set_syntax(syntax.map_err(|e| e.to_string())?);
        environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_function("raise_exception", |message: String| -> Result<String, minijinja::Error> {
            Err(minijinja::Error::new(ErrorKind::InvalidOperation, message))
        });
        environment
            .add_template_owned("chat", transparent(source))
            .map_err(|e| format!("the chat template does not parse ({e:#})"))?;
        Ok(Self { environment, special_tokens, parts })
    }

    /// Renders a conversation, with the beginning of an answer behind it if one is to be generated.
    ///
    /// # Errors
    /// The template refuses the conversation, or changes its texts beyond trimming them.
    pub fn render(&self, turns: &[Turn], generate: bool) -> Result<Rendered, String> {
        let text = self.fill(turns, generate, |_, text| text.to_owned())?;
        // Rendered once more with marks for the texts, to learn what the template puts around each.
        let mark = |n: usize| format!("\u{F0000}{n}\u{F0001}");
        let marked = self.fill(turns, generate, |n, _| mark(n))?;
        let texts = texts(turns, self.parts);
        let mut spans = Vec::with_capacity(texts.len());
        let mut rest = marked.as_str();
        let mut at = 0;
        for (n, (turn, original)) in texts.iter().enumerate() {
            let Some((before, behind)) = rest.split_once(&mark(n)) else {
                return Err(format!("the chat template leaves out a text of turn {}", turn + 1));
            };
            let next = behind.split('\u{F0000}').next().unwrap_or_default();
            let found = text[at..].strip_prefix(before).and_then(|rest| {
                let fits = |text: &&str| rest.strip_prefix(*text).is_some_and(|rest| rest.starts_with(next));
                [original.as_str(), original.trim()].into_iter().find(fits)
            });
            let Some(found) = found else {
                return Err(format!("the chat template rewrites a text of turn {}", turn + 1));
            };
            at += before.len();
            spans.push((at..at + found.len(), *turn));
            at += found.len();
            rest = behind;
        }
        Ok(Rendered { text, spans })
    }

    fn fill(&self, turns: &[Turn], generate: bool, fill: impl Fn(usize, &str) -> String) -> Result<String, String> {
        let mut n = 0;
        let mut next = |text: &str| {
            n += 1;
            fill(n - 1, text)
        };
        let messages = turns.iter().map(|turn| {
            let content = match self.parts {
                true => turn
                    .parts
                    .iter()
                    .map(|part| match part {
                        Part::Image(_) => json!({"type": "image"}),
                        Part::Text(text) => json!({"type": "text", "text": next(text)}),
                    })
                    .collect(),
                false => Value::String(next(&turn.text())),
            };
            json!({"role": role_name(turn.role), "content": content})
        });
        let messages: Vec<_> = messages.collect();
        let mut context = self.special_tokens.clone();
        context.insert("messages".into(), messages.into());
        context.insert("add_generation_prompt".into(), generate.into());
        context.insert("tools".into(), Value::Null);
        context.insert("documents".into(), Value::Null);
        let template = self.environment.get_template("chat").expect("added when the environment was made");
        let rendered = template.render(minijinja::value::Serde(context));
        rendered.map_err(|e| match e.kind() {
            ErrorKind::InvalidOperation => {
                format!("the chat template refuses the conversation: {}", e.detail().unwrap_or(""))
            }
            _ => format!("the chat template fails ({e:#})"),
        })
    }
}

/// The texts of a conversation as a template gets them, each with its turn.
fn texts(turns: &[Turn], parts: bool) -> Vec<(usize, String)> {
    let turns = turns.iter().enumerate();
    if !parts {
        return turns.map(|(n, turn)| (n, turn.text())).collect();
    }
    let parts = turns.flat_map(|(n, turn)| turn.parts.iter().map(move |part| (n, part)));
    parts.filter_map(|(n, part)| part.text().map(|text| (n, text.to_owned()))).collect()
}

fn role_name(role: Role) -> &'static str {
    match role {
        Role::System => "system",
        Role::Assistant => "assistant",
        Role::User | Role::Template => "user",
    }
}

/// Replaces the tags around what the model is to learn (`{% generation %}`), which only mean something in training, by
/// ones that change nothing and keep the marks for white space.
fn transparent(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(start) = rest.find("{%") {
        let Some(length) = rest[start..].find("%}") else { break };
        let (tag, behind) = rest[start..].split_at(length + 2);
        out.push_str(&rest[..start]);
        let word = tag[2..length].trim_matches(|c: char| c.is_whitespace() || c == '-' || c == '+');
        match word {
            "generation" => out.push_str(&tag.replace(word, "if true")),
            "endgeneration" => out.push_str(&tag.replace(word, "endif")),
            _ => out.push_str(tag),
        }
        rest = behind;
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turn(role: Role, text: &str) -> Turn {
        Turn { role, parts: vec![Part::Text(text.into())] }
    }

    fn render(source: &str, turns: &[Turn]) -> Result<Rendered, String> {
        let tokens = Map::from_iter([("eos_token".into(), "</s>".into())]);
        Template::new(source, tokens, false).unwrap().render(turns, true)
    }

    #[test]
    fn spans_find_words_that_stand_in_the_template_too() {
        let source =
            "{% for m in messages %}{{ m['role'].upper() }}: {{ m.content | trim }}{{ eos_token }}\n{% endfor %}A:";
        let turns = [turn(Role::User, " U "), turn(Role::Assistant, "A")];
        let rendered = render(source, &turns).unwrap();
        assert_eq!(rendered.text, "USER: U</s>\nASSISTANT: A</s>\nA:");
        let words: Vec<_> = rendered.spans.iter().map(|(span, turn)| (&rendered.text[span.clone()], *turn)).collect();
        assert_eq!(words, [("U", 0), ("A", 1)]);
    }

    #[test]
    fn generation_tags_change_nothing() {
        assert_eq!(transparent("a{%- generation -%}b{% endgeneration %}c"), "a{%- if true -%}b{% endif %}c");
    }

    #[test]
    fn a_template_that_refuses_or_rewrites_is_a_reason() {
        let turns = [turn(Role::User, "hello")];
        let refused = render("{{ raise_exception('only ' + eos_token) }}", &turns).err().unwrap();
        assert!(refused.contains("only </s>"), "{refused}");
        assert!(render("{{ messages[0].content | upper }}", &turns).err().unwrap().contains("rewrites"));
        assert!(render("nothing", &turns).err().unwrap().contains("leaves out"));
    }
}
