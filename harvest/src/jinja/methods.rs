//! Methods of Python's strings, lists and dictionaries that `minijinja_contrib::pycompat` lacks or implements
//! differently.

use minijinja::value::{ValueKind, from_args};
use minijinja::{Error, ErrorKind, State, Value};
use minijinja_contrib::pycompat;

/// Calls a method of a value. This is called for methods that `minijinja` itself does not know.
pub(super) fn call(state: &mut State, value: &Value, method: &str, args: &[Value]) -> Result<Value, Error> {
    let found = match (value.kind(), value.as_str()) {
        (_, Some(text)) => string_method(text, method, args)?,
        (ValueKind::Seq | ValueKind::Iterable, _) => list_method(value, method, args)?,
        (ValueKind::Map, _) if method == "copy" => Some(value.clone()),
        _ => None,
    };
    match found {
        Some(found) => Ok(found),
        None => pycompat::unknown_method_callback(state, value, method, args),
    }
}

/// Python's `str.isspace` for one character.
pub(crate) fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

/// Python's `str.strip`, `str.lstrip` and `str.rstrip`: removes white space, or any of `characters`, on the given
/// sides.
pub(crate) fn strip<'a>(text: &'a str, characters: Option<&str>, left: bool, right: bool) -> &'a str {
    let is_stripped = |c: char| characters.map_or_else(|| is_space(c), |characters| characters.contains(c));
    let text = if left { text.trim_start_matches(is_stripped) } else { text };
    if right { text.trim_end_matches(is_stripped) } else { text }
}

fn string_method(text: &str, method: &str, args: &[Value]) -> Result<Option<Value>, Error> {
    Ok(Some(match method {
        "strip" | "lstrip" | "rstrip" => {
            let (characters,): (Option<&str>,) = from_args(args)?;
            strip(text, characters, method != "rstrip", method != "lstrip").into()
        }
        "split" | "rsplit" => {
            let (separator, most, kwargs): (Option<&Value>, Option<i64>, minijinja::value::Kwargs) = from_args(args)?;
            let named: Option<Value> = kwargs.get("sep")?;
            let separator = separator.or(named.as_ref()).filter(|separator| !separator.is_none());
            let most = usize::try_from(most.or(kwargs.get("maxsplit")?).unwrap_or(-1)).unwrap_or(usize::MAX);
            kwargs.assert_all_used()?;
            let separator = separator.map(|separator| separator.as_str().ok_or_else(|| expects_strings(method)));
            Value::from(split(text, separator.transpose()?, most, method == "rsplit")?)
        }
        "partition" | "rpartition" => {
            let (separator,): (&str,) = from_args(args)?;
            let found = if method == "partition" { text.split_once(separator) } else { text.rsplit_once(separator) };
            let parts = match found {
                Some((before, after)) => [before, separator, after],
                None if method == "partition" => [text, "", ""],
                None => ["", "", text],
            };
            Value::from_object(minijinja::value::Tuple::from(parts.map(Value::from)))
        }
        "index" | "rindex" => {
            let (part,): (&str,) = from_args(args)?;
            let at = if method == "index" { text.find(part) } else { text.rfind(part) };
            let at = at.ok_or_else(|| Error::new(ErrorKind::InvalidOperation, "substring not found"))?;
            text[..at].chars().count().into()
        }
        "splitlines" => {
            let (keep,): (Option<bool>,) = from_args(args)?;
            Value::from(lines(text, keep.unwrap_or(false)))
        }
        "title" => {
            let () = from_args(args)?;
            title(text).into()
        }
        "swapcase" => {
            let () = from_args(args)?;
            let swapped =
                |c: char| if c.is_uppercase() { c.to_lowercase().to_string() } else { c.to_uppercase().to_string() };
            text.chars().map(swapped).collect::<String>().into()
        }
        "casefold" => {
            let () = from_args(args)?;
            text.to_lowercase().replace('ß', "ss").into()
        }
        "removeprefix" => {
            let (prefix,): (&str,) = from_args(args)?;
            text.strip_prefix(prefix).unwrap_or(text).into()
        }
        "removesuffix" => {
            let (suffix,): (&str,) = from_args(args)?;
            text.strip_suffix(suffix).unwrap_or(text).into()
        }
        "ljust" | "rjust" | "center" | "zfill" => padded(text, method, args)?.into(),
        "join" => {
            let (items,): (&Value,) = from_args(args)?;
            let items = items.try_iter()?.checked().collect::<Result<Vec<_>, _>>()?;
            let items: Option<Vec<&str>> = items.iter().map(Value::as_str).collect();
            items.ok_or_else(|| expects_strings(method))?.join(text).into()
        }
        _ => return Ok(None),
    }))
}

fn list_method(list: &Value, method: &str, args: &[Value]) -> Result<Option<Value>, Error> {
    match method {
        "index" => {
            let (item,): (&Value,) = from_args(args)?;
            let at = list.try_iter()?.position(|other| other == *item);
            let missing = || Error::new(ErrorKind::InvalidOperation, "the item is not in the list");
            Ok(Some(at.ok_or_else(missing)?.into()))
        }
        "copy" => Ok(Some(list.clone())),
        _ => Ok(None),
    }
}

fn expects_strings(method: &str) -> Error {
    Error::new(ErrorKind::InvalidOperation, format!("{method} expects strings"))
}

/// `str.split` and `str.rsplit`: splits at most `most` times, at the separator or, without one, at white space.
fn split(text: &str, separator: Option<&str>, most: usize, from_right: bool) -> Result<Vec<String>, Error> {
    let most_parts = most.saturating_add(1);
    let mut parts: Vec<&str> = match (separator, from_right) {
        (Some(""), _) => return Err(Error::new(ErrorKind::InvalidOperation, "empty separator")),
        (Some(separator), false) => text.splitn(most_parts, separator).collect(),
        (Some(separator), true) => text.rsplitn(most_parts, separator).collect(),
        (None, from_right) => {
            let (mut parts, mut rest) = (Vec::new(), text);
            loop {
                rest = strip(rest, None, !from_right, from_right);
                if rest.is_empty() {
                    break;
                }
                let cut = if parts.len() == most {
                    None
                } else if from_right {
                    rest.rsplit_once(is_space).map(|(before, word)| (word, before))
                } else {
                    rest.split_once(is_space)
                };
                let (word, other) = cut.unwrap_or((rest, ""));
                parts.push(word);
                rest = other;
            }
            parts
        }
    };
    if from_right {
        parts.reverse();
    }
    Ok(parts.into_iter().map(str::to_owned).collect())
}

/// `str.splitlines`.
fn lines(text: &str, keep_ends: bool) -> Vec<String> {
    const ENDS: [char; 10] =
        ['\n', '\r', '\u{b}', '\u{c}', '\u{1c}', '\u{1d}', '\u{1e}', '\u{85}', '\u{2028}', '\u{2029}'];
    let (mut lines, mut rest) = (Vec::new(), text);
    while !rest.is_empty() {
        let end = rest.find(ENDS).unwrap_or(rest.len());
        let following = &rest[end..];
        let length = if following.starts_with("\r\n") { 2 } else { following.chars().next().map_or(0, char::len_utf8) };
        lines.push(rest[..if keep_ends { end + length } else { end }].to_owned());
        rest = &following[length..];
    }
    lines
}

/// `str.title`: every letter that does not follow another letter becomes a capital.
fn title(text: &str) -> String {
    let mut inside = false;
    let titled = text.chars().flat_map(|c| {
        let cased: Vec<char> = if inside { c.to_lowercase().collect() } else { c.to_uppercase().collect() };
        inside = c.is_alphabetic();
        cased
    });
    titled.collect()
}

/// `str.ljust`, `str.rjust`, `str.center` and `str.zfill`.
fn padded(text: &str, method: &str, args: &[Value]) -> Result<String, Error> {
    /// More than any template pads to. It prevents a template from allocating gigabytes.
    const MOST: usize = 1 << 16;
    let (width, fill): (usize, Option<char>) = from_args(args)?;
    let fill = if method == "zfill" { '0' } else { fill.unwrap_or(' ') };
    let missing = width.min(MOST).saturating_sub(text.chars().count());
    let pad = |count: usize| std::iter::repeat_n(fill, count).collect::<String>();
    let (left, right) = match method {
        "ljust" => (0, missing),
        // If the number of fill characters is odd, Python puts the additional one on the left if the width is odd.
        "center" => (missing / 2 + (missing & width & 1), missing - missing / 2 - (missing & width & 1)),
        _ => (missing, 0),
    };
    let signed = if method == "zfill" { text.strip_prefix(['-', '+']) } else { None };
    Ok(match signed {
        Some(digits) => format!("{}{}{digits}", &text[..1], pad(left)),
        None => format!("{}{text}{}", pad(left), pad(right)),
    })
}
