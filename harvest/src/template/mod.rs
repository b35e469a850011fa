//! Chat templates: finds a checkpoint's, renders it as `apply_chat_template` of `transformers` does, and tells where in
//! the rendered text each turn's own words stand. Knows nothing of tokens.

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

/// Most characters of what a template says about a conversation that it refuses.
const MESSAGE: usize = 200;

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
    /// Bytes of `text` that are words of a turn, with who says them, in order. Words that a template repeats are there
    /// more than once.
    pub spans: Vec<(Range<usize>, Role)>,
}

impl Template {
    /// Reads the chat template of the checkpoint in `folder`, if it has one. `special_tokens` are the variables that it
    /// gets, such as `bos_token`; `parts` says whether turns are lists of parts, as in multimodal families, or strings.
    ///
    /// # Errors
    /// The template does not parse, the files that hold templates contradict each other, or none is the default.
    pub fn open(folder: &Path, special_tokens: &Map<String, Value>, parts: bool) -> Result<Option<Self>> {
        let Some(source) = Source::find(folder, parts)? else { return Ok(None) };
        let path = folder.join(source.file);
        let template = Self::new(&source.text, special_tokens.clone(), parts).map_err(Error::checkpoint(&path))?;
        if parts && source.is_tokenizers() && !template.takes_parts() {
            return Err(Error::checkpoint(&path)(
                "this chat template takes texts, and a multimodal model's takes lists of parts; transformers does not \
                 use it either: put the model's own into chat_template.jinja",
            ));
        }
        Ok(Some(template))
    }

    fn new(source: &str, special_tokens: Map<String, Value>, parts: bool) -> Result<Self, String> {
        let environment =
            jinja::environment(source).map_err(|error| format!("the chat template does not parse ({error})"))?;
        Ok(Self { environment, special_tokens, parts })
    }

    /// Whether a turn that is a list of parts comes out as its text and not as a list.
    fn takes_parts(&self) -> bool {
        let text = "a text";
        let turn = Turn::of_text(Role::User, text);
        let rendered = self.fill(&[turn], false, |_, text| text.to_owned());
        rendered.is_ok_and(|rendered| rendered.contains(text) && !rendered.contains("'type'"))
    }

    /// Renders a conversation, with the beginning of an answer behind it if one is to be generated.
    ///
    /// # Errors
    /// The template refuses the conversation, or changes its texts beyond trimming them.
    pub fn render(&self, turns: &[Turn], generate: bool) -> Result<Rendered, String> {
        let text = self.fill(turns, generate, |_, text| text.to_owned())?;
        let texts = texts(turns, self.parts);
        let spans = spans::locate(&texts, &text, |words| self.fill(turns, generate, words))?;
        Ok(Rendered { text, spans })
    }

    /// Renders the conversation with `words` in the place of its texts, which it gets by number.
    fn fill(&self, turns: &[Turn], generate: bool, words: impl Fn(usize, &str) -> String) -> Result<String, String> {
        let mut n = 0;
        let mut next = |text: &str| {
            n += 1;
            words(n - 1, text)
        };
        let messages = turns.iter().map(|turn| {
            let content = if self.parts {
                let parts = turn.parts.iter().map(|part| match part {
                    TurnPart::Image(_) => json!({"type": "image"}),
                    TurnPart::Text(text) => json!({"type": "text", "text": next(text)}),
                });
                parts.collect()
            } else {
                Value::String(next(&turn.text()))
            };
            json!({"role": role_name(turn.role), "content": content})
        });
        let messages: Vec<_> = messages.collect();
        let mut context = self.special_tokens.clone();
        context.insert("messages".into(), messages.into());
        context.insert("add_generation_prompt".into(), generate.into());
        context.insert("tools".into(), Value::Null);
        context.insert("documents".into(), Value::Null);
        jinja::render(&self.environment, context).map_err(|error| {
            let (says, what) = match (error.kind(), error.detail()) {
                (ErrorKind::InvalidOperation, Some(detail)) => ("refuses the conversation", detail.to_owned()),
                _ => ("fails", error.to_string()),
            };
            let what: String = what.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(MESSAGE).collect();
            format!("the chat template {says}: {what}")
        })
    }
}

/// The texts of a conversation as a template gets them.
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

fn role_name(role: Role) -> &'static str {
    match role {
        Role::System => "system",
        Role::Assistant => "assistant",
        Role::User | Role::Template => "user",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn render(source: &str, turns: &[(Role, &str)]) -> Result<Rendered, String> {
        let tokens = Map::from_iter([("eos_token".into(), "</s>".into())]);
        let turns: Vec<_> = turns.iter().map(|(role, text)| Turn::of_text(*role, *text)).collect();
        Template::new(source, tokens, false).unwrap().render(&turns, true)
    }

    fn words(rendered: &Rendered) -> Vec<(&str, Role)> {
        rendered.spans.iter().map(|(span, role)| (&rendered.text[span.clone()], *role)).collect()
    }

    #[test]
    fn spans_find_words_that_stand_in_the_template_too() {
        let source =
            "{% for m in messages %}{{ m['role'].upper() }}: {{ m.content | trim }}{{ eos_token }}\n{% endfor %}A:";
        let rendered = render(source, &[(Role::User, " U "), (Role::Assistant, "A")]).unwrap();
        assert_eq!(rendered.text, "USER: U</s>\nASSISTANT: A</s>\nA:");
        assert_eq!(words(&rendered), [("U", Role::User), ("A", Role::Assistant)]);
    }

    #[test]
    fn white_space_belongs_to_a_text_where_the_template_keeps_it() {
        let source = "{% for m in messages %}{% if m.role == 'user' %}{{ m.content | trim }} {% else %}{{ m.content }}{% endif %}{% endfor %}";
        let rendered = render(source, &[(Role::User, "u "), (Role::Assistant, "a ")]).unwrap();
        assert_eq!(rendered.text, "u a ");
        assert_eq!(words(&rendered), [("u", Role::User), ("a ", Role::Assistant)]);
    }

    #[test]
    fn a_text_that_decides_a_branch_is_found() {
        let starts =
            "{% for m in messages %}{% if m.content.startswith('<x>') %}tool: {% endif %}{{ m.content }};{% endfor %}";
        let rendered = render(starts, &[(Role::User, "<x> a"), (Role::Assistant, "x")]).unwrap();
        assert_eq!(words(&rendered), [("<x> a", Role::User), ("x", Role::Assistant)]);
        let equals =
            "{% for m in messages %}{{ 'yes ' if m.content == 'tell me' else 'no ' }}{{ m.content }};{% endfor %}";
        let rendered = render(equals, &[(Role::User, "tell me"), (Role::Assistant, "o")]).unwrap();
        assert_eq!((&*rendered.text, words(&rendered)[0]), ("yes tell me;no o;", ("tell me", Role::User)));
    }

    #[test]
    fn a_text_that_a_template_repeats_is_found_wherever_it_stands() {
        let source = "{% for m in messages %}{% if m == messages[0] %}{{ messages[1].content }}|{% endif %}{{ m.content }}{% endfor %}";
        let rendered = render(source, &[(Role::User, "q"), (Role::Assistant, "a"), (Role::User, "q")]).unwrap();
        assert_eq!(rendered.text, "a|qaa|q");
        let roles: Vec<_> = words(&rendered).iter().map(|(_, role)| *role).collect();
        assert_eq!(roles, [Role::Assistant, Role::User, Role::Assistant, Role::Assistant, Role::User]);
    }

    #[test]
    fn a_template_that_refuses_or_rewrites_is_a_reason() {
        let turns = [(Role::User, "hello")];
        let refused = render("{{ raise_exception('only ' + eos_token) }}", &turns).err().unwrap();
        assert!(refused.contains("only </s>"), "{refused}");
        assert!(render("{{ messages[0].content | upper }}", &turns).err().unwrap().contains("rewrites"));
        assert!(render("nothing", &turns).err().unwrap().contains("leaves out"));
        let twice = [(Role::User, "a"), (Role::User, "a")];
        assert!(render("{{ messages[0].content }}", &twice).err().unwrap().contains("leaves out a text of turn 2"));
        assert!(render("{{ messages[0].content[1:] }}", &turns).err().unwrap().contains("rewrites"));
    }
}
