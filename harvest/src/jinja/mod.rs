//! Jinja2 as `transformers` configures it for chat templates. Where `minijinja` behaves differently from Python, it is
//! replaced here. Knows nothing about conversations.
//!
//! The expected results in `tests/golden/templates` were computed by Jinja2 itself.

mod clock;
mod json;
mod methods;

pub(crate) use methods::{is_space, strip};

use chrono::Local;
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Rest, Serde, StringInput, ValueKind};
use minijinja::{Environment, Error, ErrorKind, Value};
use serde::Serialize;
use std::borrow::Cow;

/// The name under which the template is registered.
const NAME: &str = "chat";

/// Parses a chat template.
///
/// The date that `strftime_now` shows is fixed here, so all prompts of a run have the same date.
///
/// # Errors
/// The source is not valid Jinja2. The error says where.
pub(crate) fn environment(source: &str) -> Result<Environment<'static>, Error> {
    let mut environment = Environment::new();
    environment.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?);
    environment.set_unknown_method_callback(methods::call);
    environment.add_function("raise_exception", raise_exception);
    let now = Local::now().naive_local();
    environment.add_function("strftime_now", move |format: &str| clock::strftime(format, now));
    environment.add_function("cycler", |items: Rest<Value>| minijinja_contrib::globals::cycler(items.0));
    environment.add_function("joiner", minijinja_contrib::globals::joiner);
    environment.add_filter("tojson", json::tojson);
    environment.add_filter("trim", trim);
    environment.add_filter("default", default);
    environment.add_filter("d", default);
    environment.add_filter("dictsort", dictsort);
    environment.add_filter("int", int);
    environment.add_filter("float", float);
    environment.add_test("sequence", |value: &Value| value.is_undefined() || has_items(value));
    environment.add_test("iterable", |value: &Value| value.is_undefined() || has_items(value));
    environment.add_test("callable", |value: &Value| value.kind() == ValueKind::Plain);
    environment.add_template_owned(NAME, prepared(source))?;
    Ok(environment)
}

/// Renders the template that [`environment`] parsed.
///
/// # Errors
/// The template raises an exception, or does something that is an error in Python as well.
pub(crate) fn render(environment: &Environment<'_>, context: impl Serialize) -> Result<String, Error> {
    environment.get_template(NAME)?.render(Serde(context))
}

fn raise_exception(message: &Value) -> Result<String, Error> {
    Err(Error::new(ErrorKind::InvalidOperation, message.to_string()))
}

/// Whether a value has a length and items. Slices are iterators in `minijinja` and lists in Python.
fn has_items(value: &Value) -> bool {
    matches!(value.kind(), ValueKind::String | ValueKind::Seq | ValueKind::Map | ValueKind::Iterable)
}

/// `str.strip`. Without `characters`, everything for which [`methods::is_space`] is true counts as space.
fn trim(value: StringInput<'_>, characters: Option<Cow<'_, str>>) -> String {
    methods::strip(value.as_str(), characters.as_deref(), true, true).to_owned()
}

fn default(value: &Value, fallback: Option<Value>, boolean: Option<bool>, kwargs: Kwargs) -> Result<Value, Error> {
    let fallback = fallback.or(kwargs.get("default_value")?).unwrap_or_else(|| Value::from(""));
    let boolean = boolean.or(kwargs.get("boolean")?).unwrap_or(false);
    kwargs.assert_all_used()?;
    Ok(if value.is_undefined() || boolean && !value.is_true() { fallback } else { value.clone() })
}

/// The filter `dictsort`. That of `minijinja` accepts keyword arguments only.
fn dictsort(
    value: &Value,
    case_sensitive: Option<bool>,
    by: Option<Value>,
    reverse: Option<bool>,
    kwargs: Kwargs,
) -> Result<Value, Error> {
    let mut named: Vec<(&str, Value)> = Vec::new();
    named.extend(case_sensitive.or(kwargs.get("case_sensitive")?).map(|on| ("case_sensitive", on.into())));
    named.extend(by.or(kwargs.get("by")?).map(|by| ("by", by)));
    named.extend(reverse.or(kwargs.get("reverse")?).map(|on| ("reverse", on.into())));
    kwargs.assert_all_used()?;
    minijinja::filters::dictsort(value, named.into_iter().collect())
}

/// The filter `int`: `int(value)`, or `int(float(value))`, or the fallback.
fn int(value: &Value, fallback: Option<Value>, kwargs: Kwargs) -> Result<Value, Error> {
    let fallback = fallback.or(kwargs.get("default")?).unwrap_or_else(|| Value::from(0));
    kwargs.assert_all_used()?;
    if value.is_integer() {
        return Ok(value.clone());
    }
    let text = value.to_string();
    let text = text.trim();
    let whole = text.parse::<i64>().map(Value::from).ok();
    let truncated = || number(value, text).filter(|number| number.is_finite()).map(|number| (number as i64).into());
    Ok(whole.or_else(truncated).unwrap_or(fallback))
}

/// The filter `float`.
fn float(value: &Value, fallback: Option<Value>, kwargs: Kwargs) -> Result<Value, Error> {
    let fallback = fallback.or(kwargs.get("default")?).unwrap_or_else(|| Value::from(0.0));
    kwargs.assert_all_used()?;
    Ok(number(value, value.to_string().trim()).map_or(fallback, Value::from))
}

/// A value as a number, given the text that prints it.
fn number(value: &Value, text: &str) -> Option<f64> {
    match value.kind() {
        ValueKind::Bool => Some(f64::from(u8::from(value.is_true()))),
        ValueKind::Number | ValueKind::String => text.parse().ok(),
        _ => None,
    }
}

/// The source with line breaks as Jinja2 reads them. The tags around the text that a model learns to generate
/// (`{% generation %}`) have a meaning only in training. Otherwise they are a block with its own scope, and become such
/// a block here.
fn prepared(source: &str) -> String {
    let source = source.replace("\r\n", "\n").replace('\r', "\n");
    let mut out = String::with_capacity(source.len());
    let mut rest = source.as_str();
    while let Some(start) = rest.find("{%") {
        // The end is searched behind the beginning, because `{%}` is not a tag.
        let Some(length) = rest[start + 2..].find("%}").map(|inner| inner + 2) else { break };
        let (tag, following) = rest[start..].split_at(length + 2);
        out.push_str(&rest[..start]);
        let word = tag[2..length].trim_matches(|c: char| c.is_whitespace() || c == '-' || c == '+');
        match word {
            "generation" => out.push_str(&tag.replace(word, "with")),
            "endgeneration" => out.push_str(&tag.replace(word, "endwith")),
            _ => out.push_str(tag),
        }
        rest = following;
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// Small sources and what Jinja2 renders for them (tests/golden/make_templates.py); null if it rejects them.
    #[test]
    fn snippets_render_as_in_jinja2() {
        let snippets: Vec<(String, Option<String>)> =
            serde_json::from_str(include_str!("../../../tests/golden/templates/snippets.json")).unwrap();
        let messages = [("user", "hello there é"), ("assistant", "line1\nline2"), ("user", " more <b> 'q' \"d\" ")]
            .map(|(role, content)| json!({"role": role, "content": content}));
        let context = json!({
            "messages": messages, "tools": null, "documents": null, "add_generation_prompt": true,
            "bos_token": "<s>", "eos_token": "</s>"
        });
        for (source, expected) in snippets {
            let rendered = environment(&source).and_then(|environment| render(&environment, &context));
            match (rendered, expected) {
                (Ok(rendered), Some(expected)) => assert_eq!(rendered, expected, "{source}"),
                (Err(_), None) => {}
                (rendered, expected) => panic!("{source}: {rendered:?}, expected {expected:?}"),
            }
        }
    }

    #[test]
    fn generation_tags_become_plain_blocks() {
        assert_eq!(prepared("a{%- generation -%}b{% endgeneration %}c"), "a{%- with -%}b{% endwith %}c");
        assert_eq!(prepared("a{%}b%}c{%}"), "a{%}b%}c{%}", "not a tag, and no panic");
    }
}
