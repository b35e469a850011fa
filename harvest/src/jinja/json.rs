//! `json.dumps`, by which `transformers` replaces Jinja2's own filter `tojson`.

use minijinja::value::{Kwargs, ValueKind};
use minijinja::{Error, ErrorKind, Value};
use std::fmt::Write;

/// The options of `json.dumps`.
struct Style {
    ascii: bool,
    sort_keys: bool,
    /// The indentation of one level; without it everything is on one line.
    indent: Option<String>,
    item_separator: String,
    key_separator: String,
}

/// The filter `tojson(x, ensure_ascii=False, indent=None, *, separators=None, sort_keys=False)`.
pub(super) fn tojson(
    value: &Value,
    ascii: Option<bool>,
    indent: Option<Value>,
    kwargs: Kwargs,
) -> Result<String, Error> {
    let indent = indent.or(kwargs.get("indent")?).filter(|indent| !indent.is_none());
    let indent = indent.map(|indent| match indent.as_str() {
        Some(text) => Ok(text.to_owned()),
        None => Ok::<_, Error>(" ".repeat(usize::try_from(i64::try_from(indent)?.clamp(0, 256)).unwrap_or_default())),
    });
    let indent = indent.transpose()?;
    let mut style = Style {
        ascii: ascii.or(kwargs.get("ensure_ascii")?).unwrap_or(false),
        sort_keys: kwargs.get::<Option<bool>>("sort_keys")?.unwrap_or(false),
        item_separator: if indent.is_some() { "," } else { ", " }.into(),
        key_separator: ": ".into(),
        indent,
    };
    if let Some(separators) = kwargs.get::<Option<Value>>("separators")?.filter(|separators| !separators.is_none()) {
        let separators: Vec<String> = separators.try_iter()?.map(|text| text.to_string()).collect();
        let Ok([item, key]) = <[String; 2]>::try_from(separators) else {
            return Err(Error::new(ErrorKind::InvalidOperation, "tojson expects two separators"));
        };
        (style.item_separator, style.key_separator) = (item, key);
    }
    kwargs.assert_all_used()?;
    let mut out = String::new();
    style.write(value, 0, &mut out)?;
    Ok(out)
}

impl Style {
    fn write(&self, value: &Value, level: usize, out: &mut String) -> Result<(), Error> {
        match value.kind() {
            ValueKind::None => out.push_str("null"),
            ValueKind::Bool => out.push_str(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number => out.push_str(&number(value)),
            ValueKind::String => self.string(value.as_str().unwrap_or_default(), out),
            ValueKind::Seq | ValueKind::Iterable => {
                let items = value.try_iter()?.checked().collect::<Result<Vec<_>, _>>()?;
                self.bracketed(['[', ']'], items, level, out, |item, out| self.write(&item, level + 1, out))?;
            }
            ValueKind::Map => {
                let keys = value.try_iter()?.checked().collect::<Result<Vec<_>, _>>()?;
                let items = keys.into_iter().map(|key| Ok((name(&key)?, value.get_item(&key)?)));
                let mut items = items.collect::<Result<Vec<(String, Value)>, Error>>()?;
                if self.sort_keys {
                    items.sort_by(|(a, _), (b, _)| a.cmp(b));
                }
                self.bracketed(['{', '}'], items, level, out, |(key, value), out| {
                    self.string(&key, out);
                    out.push_str(&self.key_separator);
                    self.write(&value, level + 1, out)
                })?;
            }
            kind => return Err(unserializable(kind)),
        }
        Ok(())
    }

    fn bracketed<T>(
        &self,
        [open, close]: [char; 2],
        items: Vec<T>,
        level: usize,
        out: &mut String,
        write: impl Fn(T, &mut String) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let new_line = |level: usize, out: &mut String| {
            if let Some(indent) = &self.indent {
                out.push('\n');
                (0..level).for_each(|_| out.push_str(indent));
            }
        };
        let empty = items.is_empty();
        out.push(open);
        for (n, item) in items.into_iter().enumerate() {
            if n > 0 {
                out.push_str(&self.item_separator);
            }
            new_line(level + 1, out);
            write(item, out)?;
        }
        if !empty {
            new_line(level, out);
        }
        out.push(close);
        Ok(())
    }

    fn string(&self, text: &str, out: &mut String) {
        out.push('"');
        for c in text.chars() {
            match c {
                '"' => out.push_str("\\\""),
                '\\' => out.push_str("\\\\"),
                '\n' => out.push_str("\\n"),
                '\r' => out.push_str("\\r"),
                '\t' => out.push_str("\\t"),
                '\u{8}' => out.push_str("\\b"),
                '\u{c}' => out.push_str("\\f"),
                c if c < ' ' || self.ascii && !(' '..='~').contains(&c) => {
                    for unit in c.encode_utf16(&mut [0; 2]) {
                        write!(out, "\\u{unit:04x}").expect("writing to a string never fails");
                    }
                }
                c => out.push(c),
            }
        }
        out.push('"');
    }
}

/// A key of a dictionary. Python writes numbers, booleans and `None` as JSON does.
fn name(key: &Value) -> Result<String, Error> {
    Ok(match key.kind() {
        ValueKind::String => key.to_string(),
        ValueKind::None => "null".into(),
        ValueKind::Bool => if key.is_true() { "true" } else { "false" }.into(),
        ValueKind::Number => number(key),
        kind => return Err(unserializable(kind)),
    })
}

fn number(value: &Value) -> String {
    match f64::try_from(value.clone()) {
        Ok(float) if !value.is_integer() => python_float(float),
        _ => value.to_string(),
    }
}

/// Python's `repr(float)`, and its names for values that JSON does not have.
fn python_float(float: f64) -> String {
    if float.is_nan() {
        return "NaN".into();
    }
    if float.is_infinite() {
        return if float > 0.0 { "Infinity" } else { "-Infinity" }.into();
    }
    let scientific = format!("{float:e}");
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or_default();
    if float != 0.0 && !(-4..16).contains(&exponent) {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{mantissa}e{sign}{:02}", exponent.abs());
    }
    let plain = float.to_string();
    if plain.contains('.') { plain } else { plain + ".0" }
}

fn unserializable(kind: ValueKind) -> Error {
    Error::new(ErrorKind::InvalidOperation, format!("{kind} values are not JSON serializable"))
}
