//! Chat templates: finds the template of a checkpoint, renders it as `apply_chat_template` of `transformers` does, and
//! determines which parts of the rendered text are the turns' own texts. Knows nothing about tokens.

pub(crate) mod built_in;
mod source;
mod spans;

use crate::data::{Turn, TurnPart};
use crate::jinja;
use crate::{Error, Result};
use minijinja::{Environment, ErrorKind};
use sae_core::store::sample::Role;
use serde_json::{Map, Value, json};
use source::Source;
use spans::Text;
use std::ops::Range;
use std::path::Path;

/// Maximum length of a template's own error message, in characters.
const MESSAGE_LENGTH: usize = 200;

/// A chat template with the special tokens of its checkpoint.
pub struct Template {
    environment: Environment<'static>,
    special_tokens: Map<String, Value>,
    /// Whether the content of a turn is a list of parts (in multimodal families) or a string.
    parts: bool,
}

/// A conversation as rendered by a template.
pub struct Rendered {
    /// The whole text.
    pub text: String,
    /// Ranges of bytes in `text` that are the text of a turn, with the speaker, in ascending order. If a template
    /// repeats a text, it has several ranges.
    pub spans: Vec<(Range<usize>, Role)>,
}

impl Template {
    /// Reads the chat template of the checkpoint in `folder`, if it has one. `special_tokens` are variables of the
    /// template, such as `bos_token`. `parts` says whether turns are lists of parts, as in multimodal families, or
    /// strings.
    ///
    /// # Errors
    /// The template is not valid, the files that contain templates contradict each other, or none of several templates
    /// is the default.
    pub fn open(folder: &Path, special_tokens: &Map<String, Value>, parts: bool) -> Result<Option<Self>> {
        let Some(source) = Source::find(folder, parts)? else { return Ok(None) };
        let path = folder.join(source.file);
        let template = Self::new(&source.text, special_tokens.clone(), parts).map_err(Error::checkpoint(&path))?;
        if parts && source.is_of_tokenizer() && !template.accepts_parts() {
            return Err(Error::checkpoint(&path)(
                "the chat template expects texts, but a multimodal model requires one that accepts lists of parts, and \
                 transformers does not use this one either: put the model's own template into chat_template.jinja",
            ));
        }
        Ok(Some(template))
    }

    /// A template of a family whose checkpoints have none. Turns are lists of parts.
    ///
    /// # Errors
    /// The template is not valid.
    pub(crate) fn built_in(source: &str, special_tokens: Map<String, Value>) -> Result<Self, String> {
        Self::new(source, special_tokens, true)
    }

    fn new(source: &str, special_tokens: Map<String, Value>, parts: bool) -> Result<Self, String> {
        let environment =
            jinja::environment(source).map_err(|error| format!("the chat template is not valid ({error})"))?;
        Ok(Self { environment, special_tokens, parts })
    }

    /// Whether the template renders the text of a turn that is a list of parts, rather than the list itself.
    fn accepts_parts(&self) -> bool {
        let text = "a text";
        let turn = Turn::from_text(Role::User, text);
        let rendered = self.fill(&[turn], false, |_, text| text.to_owned());
        rendered.is_ok_and(|rendered| rendered.contains(text) && !rendered.contains("'type'"))
    }

    /// Renders a conversation. If an answer is to be generated, its beginning is added at the end.
    ///
    /// # Errors
    /// The template rejects the conversation, or changes its texts beyond trimming them.
    pub fn render(&self, turns: &[Turn], generate: bool) -> Result<Rendered, String> {
        let text = self.fill(turns, generate, |_, text| text.to_owned())?;
        let texts = texts(turns, self.parts);
        let spans = spans::locate(&texts, &text, |replace| self.fill(turns, generate, replace))?;
        Ok(Rendered { text, spans })
    }

    /// Renders the conversation with every text replaced by what `replace` returns for its number and content.
    fn fill(&self, turns: &[Turn], generate: bool, replace: impl Fn(usize, &str) -> String) -> Result<String, String> {
        let mut n = 0;
        let mut next = |text: &str| {
            n += 1;
            replace(n - 1, text)
        };
        let messages = turns.iter().map(|turn| {
            let content = if self.parts {
                let parts = turn.parts.iter().map(|part| match part {
                    TurnPart::Image(_) => json!({"type": "image"}),
                    TurnPart::Video => json!({"type": "video"}),
                    TurnPart::Text(text) => json!({"type": "text", "text": next(text)}),
                });
                parts.collect()
            } else {
                Value::String(next(&turn.text()))
            };
            json!({"role": turn.role.name(), "content": content})
        });
        let messages: Vec<_> = messages.collect();
        let mut context = self.special_tokens.clone();
        context.insert("messages".into(), messages.into());
        context.insert("add_generation_prompt".into(), generate.into());
        context.insert("tools".into(), Value::Null);
        context.insert("documents".into(), Value::Null);
        jinja::render(&self.environment, context).map_err(|error| {
            let (happened, cause) = match (error.kind(), error.detail()) {
                (ErrorKind::InvalidOperation, Some(detail)) => ("rejects the conversation", detail.to_owned()),
                _ => ("fails", error.to_string()),
            };
            let words = cause.split_whitespace().collect::<Vec<_>>().join(" ");
            let cause: String = words.chars().take(MESSAGE_LENGTH).collect();
            format!("the chat template {happened}: {cause}")
        })
    }
}

/// The texts of a conversation as a template receives them.
fn texts(turns: &[Turn], parts: bool) -> Vec<Text> {
    let texts = turns.iter().enumerate().flat_map(|(n, turn)| {
        let texts: Vec<String> = if parts {
            turn.parts.iter().filter_map(TurnPart::text).map(str::to_owned).collect()
        } else {
            vec![turn.text()]
        };
        texts.into_iter().map(move |text| Text { turn: n, role: turn.role, text })
    });
    texts.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn render(source: &str, turns: &[(Role, &str)]) -> Result<Rendered, String> {
        let tokens = Map::from_iter([("eos_token".into(), "</s>".into())]);
        let turns: Vec<_> = turns.iter().map(|(role, text)| Turn::from_text(*role, *text)).collect();
        Template::new(source, tokens, false).unwrap().render(&turns, true)
    }

    fn texts(rendered: &Rendered) -> Vec<(&str, Role)> {
        rendered.spans.iter().map(|(span, role)| (&rendered.text[span.clone()], *role)).collect()
    }

    #[test]
    fn texts_are_distinguished_from_equal_words_of_the_template() {
        let source =
            "{% for m in messages %}{{ m['role'].upper() }}: {{ m.content | trim }}{{ eos_token }}\n{% endfor %}A:";
        let rendered = render(source, &[(Role::User, " U "), (Role::Assistant, "A")]).unwrap();
        assert_eq!(rendered.text, "USER: U</s>\nASSISTANT: A</s>\nA:");
        assert_eq!(texts(&rendered), [("U", Role::User), ("A", Role::Assistant)]);
    }

    #[test]
    fn white_space_belongs_to_a_text_if_the_template_keeps_it() {
        let source = "{% for m in messages %}{% if m.role == 'user' %}{{ m.content | trim }} {% else %}{{ m.content }}{% endif %}{% endfor %}";
        let rendered = render(source, &[(Role::User, "u "), (Role::Assistant, "a ")]).unwrap();
        assert_eq!(rendered.text, "u a ");
        assert_eq!(texts(&rendered), [("u", Role::User), ("a ", Role::Assistant)]);
    }

    #[test]
    fn a_text_that_determines_a_branch_is_found() {
        let starts =
            "{% for m in messages %}{% if m.content.startswith('<x>') %}tool: {% endif %}{{ m.content }};{% endfor %}";
        let rendered = render(starts, &[(Role::User, "<x> a"), (Role::Assistant, "x")]).unwrap();
        assert_eq!(texts(&rendered), [("<x> a", Role::User), ("x", Role::Assistant)]);
        let equals =
            "{% for m in messages %}{{ 'yes ' if m.content == 'tell me' else 'no ' }}{{ m.content }};{% endfor %}";
        let rendered = render(equals, &[(Role::User, "tell me"), (Role::Assistant, "o")]).unwrap();
        assert_eq!((&*rendered.text, texts(&rendered)[0]), ("yes tell me;no o;", ("tell me", Role::User)));
    }

    #[test]
    fn a_text_that_a_template_repeats_is_found_several_times() {
        let source = "{% for m in messages %}{% if m == messages[0] %}{{ messages[1].content }}|{% endif %}{{ m.content }}{% endfor %}";
        let rendered = render(source, &[(Role::User, "q"), (Role::Assistant, "a"), (Role::User, "q")]).unwrap();
        assert_eq!(rendered.text, "a|qaa|q");
        let roles: Vec<_> = texts(&rendered).iter().map(|(_, role)| *role).collect();
        assert_eq!(roles, [Role::Assistant, Role::User, Role::Assistant, Role::Assistant, Role::User]);
    }

    #[test]
    fn a_template_that_rejects_or_rewrites_a_conversation_is_an_error() {
        let turns = [(Role::User, "hello")];
        let rejected = render("{{ raise_exception('only ' + eos_token) }}", &turns).err().unwrap();
        assert!(rejected.contains("only </s>"), "{rejected}");
        assert!(render("{{ messages[0].content | upper }}", &turns).err().unwrap().contains("rewrites"));
        assert!(render("nothing", &turns).err().unwrap().contains("omits"));
        let twice = [(Role::User, "a"), (Role::User, "a")];
        assert!(render("{{ messages[0].content }}", &twice).err().unwrap().contains("omits a text of turn 2"));
        assert!(render("{{ messages[0].content[1:] }}", &turns).err().unwrap().contains("rewrites"));
    }
}
