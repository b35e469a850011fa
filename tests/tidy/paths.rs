//! The paths that a file names: its `use` declarations, flattened, and the paths in its code. Resolves nothing.

use crate::text::is_name;

/// A path as it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// `["crate", "store", "Run"]`.
    pub segments: Vec<String>,
    /// The name that a `use` declaration gives it; nothing for a path in code.
    pub alias: Option<String>,
    /// The line, counted from 1.
    pub line: usize,
}

/// All paths of two and more segments in code without comments and strings, and what it imports.
pub fn paths(code: &str) -> Vec<Named> {
    let mut found = Vec::new();
    let mut rest = code.to_owned();
    // Declarations first: they are taken out, so that their inner paths are not read as paths of code.
    while let Some((from, to)) = declaration(&rest) {
        let line = 1 + rest[..from].matches('\n').count();
        flatten(&rest[from + "use".len()..to], &mut Vec::new(), line, &mut found);
        let blank = rest[from..=to].chars().map(|c| if c == '\n' { '\n' } else { ' ' }).collect::<String>();
        rest.replace_range(from..=to, &blank);
    }
    for (n, line) in rest.lines().enumerate() {
        found.extend(in_code(line).map(|segments| Named { segments, alias: None, line: n + 1 }));
    }
    found
}

/// The first `use` declaration: where it begins, and where its semicolon is.
fn declaration(code: &str) -> Option<(usize, usize)> {
    code.match_indices("use").find_map(|(from, _)| {
        let before = code[..from].chars().next_back();
        let after = code[from + 3..].chars().next()?;
        let alone = !before.is_some_and(|c| is_name(c) || c == ':') && after.is_whitespace();
        let to = from + code[from..].find(';')?;
        // `+ use<>` in a signature is no declaration.
        (alone && !code[from..to].contains('<')).then_some((from, to))
    })
}

/// The leaves of a `use` tree: `a::{b, c::{self, d as e}}`.
fn flatten(tree: &str, prefix: &mut Vec<String>, line: usize, found: &mut Vec<Named>) {
    let tree = tree.trim();
    let depth = prefix.len();
    if let Some(open) = tree.find('{') {
        prefix.extend(segments(&tree[..open]));
        let close = tree.rfind('}').unwrap_or(tree.len());
        for part in split(&tree[open + 1..close]) {
            flatten(part, prefix, line, found);
        }
    } else if !tree.is_empty() {
        let (path, alias) = tree.split_once(" as ").map_or((tree, None), |(path, alias)| (path, Some(alias.trim())));
        prefix.extend(segments(path));
        if prefix.last().is_some_and(|last| last == "self") && prefix.len() > 1 {
            prefix.pop();
        }
        let alias = alias.map(String::from).or_else(|| prefix.last().cloned());
        found.push(Named { segments: prefix.clone(), alias, line });
    }
    prefix.truncate(depth);
}

fn segments(path: &str) -> impl Iterator<Item = String> + use<'_> {
    path.split("::").map(str::trim).filter(|segment| !segment.is_empty()).map(String::from)
}

/// The parts of a list that are divided by commas outside of braces.
fn split(list: &str) -> Vec<&str> {
    let (mut depth, mut from, mut parts) = (0, 0, Vec::new());
    for (n, c) in list.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&list[from..n]);
                from = n + 1;
            }
            _ => {}
        }
    }
    parts.push(&list[from..]);
    parts
}

/// Paths of two and more segments in a line of code.
fn in_code(line: &str) -> impl Iterator<Item = Vec<String>> + use<'_> {
    let words = line.split(|c: char| !is_name(c) && c != ':');
    words
        .filter(|word| word.contains("::"))
        .map(|word| segments(word).collect::<Vec<_>>())
        .filter(|path| path.len() > 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(code: &str) -> Vec<(String, Option<String>, usize)> {
        paths(code).into_iter().map(|named| (named.segments.join("::"), named.alias, named.line)).collect()
    }

    #[test]
    fn use_trees_are_flattened() {
        let code = "\npub use a::{b, c::{self, d as e}, f};\npub(crate) use super::g;\nuse h;";
        let expected = [
            ("a::b", "b", 2),
            ("a::c", "c", 2),
            ("a::c::d", "e", 2),
            ("a::f", "f", 2),
            ("super::g", "g", 3),
            ("h", "h", 4),
        ];
        let expected = expected.map(|(path, alias, line)| (path.to_owned(), Some(alias.to_owned()), line));
        assert_eq!(found(code), expected);
    }

    #[test]
    fn paths_in_code_are_found_and_signatures_are_no_declarations() {
        let code =
            "fn f() -> impl Sized + use<> {\n    crate::a::b(super::c::D { e: x::Y })\n}\nlet because = used::well;";
        let expected = [("crate::a::b", 2), ("super::c::D", 2), ("x::Y", 2), ("used::well", 4)];
        assert_eq!(found(code), expected.map(|(path, line)| (path.to_owned(), None, line)));
    }
}
