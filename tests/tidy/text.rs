//! A Rust file as the rules see it: code without comments and strings, the strings by themselves, and neither of what is
//! compiled for tests alone. Knows the tokens that hide others, not the grammar.

/// A file in two layers. Both have the lines of the original.
pub struct Text {
    /// The file with blanks in place of comments, strings, characters and test code.
    pub code: String,
    /// String literals with the line that they begin in (counted from 1), those of test code left out.
    pub strings: Vec<(usize, String)>,
    /// Names of modules in files of their own that are compiled for tests alone.
    pub test_modules: Vec<String>,
}

impl Text {
    /// Reads a file.
    pub fn new(source: &str) -> Self {
        let (mut code, strings) = without_comments_and_strings(source);
        let mut test_modules = Vec::new();
        let mut blanked = Vec::new();
        while let Some((from, to)) = test_item(&code) {
            let item: String = code[from..to].iter().collect();
            if let Some(name) = module_in_a_file(&item) {
                test_modules.push(name);
            }
            blanked.push(line_of(&code, from)..=line_of(&code, to - 1));
            blank(&mut code[from..to]);
        }
        let outside = |line: usize| !blanked.iter().any(|lines| lines.contains(&line));
        let strings = strings.into_iter().filter(|(line, _)| outside(*line)).collect();
        Self { code: code.into_iter().collect(), strings, test_modules }
    }
}

/// The line of a place, counted from 1.
fn line_of(code: &[char], at: usize) -> usize {
    1 + code[..at].iter().filter(|c| **c == '\n').count()
}

fn blank(code: &mut [char]) {
    code.iter_mut().filter(|c| **c != '\n').for_each(|c| *c = ' ');
}

/// The first item that is compiled for tests alone, from its attribute to its end.
fn test_item(code: &[char]) -> Option<(usize, usize)> {
    let mark: Vec<char> = "#[cfg(test)]".chars().collect();
    let from = code.windows(mark.len()).position(|window| window == mark)?;
    let mut depth = 0;
    for (n, c) in code.iter().enumerate().skip(from + mark.len()) {
        match c {
            '{' | '(' | '[' => depth += 1,
            '}' | ')' | ']' => depth -= 1,
            _ => {}
        }
        if depth == 0 && matches!(c, ';' | '}') {
            return Some((from, n + 1));
        }
    }
    Some((from, code.len()))
}

/// The name in an item such as `#[cfg(test)] mod tests;`.
fn module_in_a_file(item: &str) -> Option<String> {
    let rest = item.strip_suffix(';')?;
    let (_, name) = rest.rsplit_once("mod ")?;
    Some(name.trim().to_owned())
}

fn without_comments_and_strings(source: &str) -> (Vec<char>, Vec<(usize, String)>) {
    let all: Vec<char> = source.chars().collect();
    let (mut code, mut strings) = (all.clone(), Vec::new());
    let starts = |at: usize, what: &str| what.chars().enumerate().all(|(n, c)| all.get(at + n) == Some(&c));
    let mut at = 0;
    while at < all.len() {
        let in_a_name = at > 0 && is_name(all[at - 1]);
        let end = if starts(at, "//") {
            all[at..].iter().position(|c| *c == '\n').map_or(all.len(), |n| at + n)
        } else if starts(at, "/*") {
            end_of_block_comment(&all, at)
        } else if let Some(quote) = raw_string(&all, at).filter(|_| !in_a_name) {
            let hashes = all[at..quote].iter().filter(|c| **c == '#').count();
            let close: String = std::iter::once('"').chain(std::iter::repeat_n('#', hashes)).collect();
            let end = (quote + 1..all.len()).find(|n| starts(*n, &close)).unwrap_or(all.len());
            strings.push((line_of(&all, at), all[quote + 1..end].iter().collect()));
            (end + close.len()).min(all.len())
        } else if all[at] == '"' {
            let end = end_of_quoted(&all, at, '"');
            strings.push((line_of(&all, at), all[at + 1..end.saturating_sub(1).max(at + 1)].iter().collect()));
            end
        } else if all[at] == '\'' && (all.get(at + 1) == Some(&'\\') || all.get(at + 2) == Some(&'\'')) {
            end_of_quoted(&all, at, '\'')
        } else {
            at += 1;
            continue;
        };
        blank(&mut code[at..end]);
        at = end;
    }
    (code, strings)
}

pub fn is_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn end_of_block_comment(all: &[char], from: usize) -> usize {
    let (mut depth, mut at) = (0, from);
    while at + 1 < all.len() {
        match (all[at], all[at + 1]) {
            ('/', '*') => (depth, at) = (depth + 1, at + 2),
            ('*', '/') => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            return at;
        }
    }
    all.len()
}

/// The place of the opening quote, if a raw string begins here: `r"`, `r#"`, `br#"`.
fn raw_string(all: &[char], at: usize) -> Option<usize> {
    let r = if all[at] == 'b' { at + 1 } else { at };
    if all.get(r) != Some(&'r') {
        return None;
    }
    let quote = (r + 1..all.len()).find(|n| all[*n] != '#')?;
    (all[quote] == '"').then_some(quote)
}

/// The place behind a closing quote.
fn end_of_quoted(all: &[char], from: usize, quote: char) -> usize {
    let mut at = from + 1;
    while at < all.len() {
        match all[at] {
            '\\' => at += 2,
            c if c == quote => return at + 1,
            _ => at += 1,
        }
    }
    all.len()
}

#[test]
fn comments_and_strings_are_no_code() {
    let source = r##"
use a::b; // use c::d;
/* use e::f; /* nested */ */
const X: &str = "use g::h; \" --flag";
const Y: &str = r#"raw "quoted" --raw"#;
fn lifetime<'a>(c: char) -> bool { c == '"' || c == '\'' || c == 'x' }
use i::j;
"##;
    let text = Text::new(source);
    for shown in ["use a::b;", "use i::j;", "fn lifetime<'a>"] {
        assert!(text.code.contains(shown), "{shown}: {}", text.code);
    }
    for hidden in ["c::d", "e::f", "nested", "g::h", "raw"] {
        assert!(!text.code.contains(hidden), "{hidden}: {}", text.code);
    }
    let strings: Vec<_> = text.strings.iter().map(|(line, text)| (*line, text.as_str())).collect();
    assert_eq!(strings, [(4, r#"use g::h; \" --flag"#), (5, r#"raw "quoted" --raw"#)]);
    assert_eq!(text.code.lines().count(), source.lines().count());
}

#[test]
fn test_code_is_left_out() {
    let source = "
use a::b;
#[cfg(test)]
mod fixture;
#[cfg(test)]
#[allow(dead_code)]
mod tests {
    use c::d;
    const X: &str = \"--only-in-tests\";
}
const Y: &str = \"--everywhere\";
";
    let text = Text::new(source);
    assert!(text.code.contains("a::b") && !text.code.contains("c::d"), "{}", text.code);
    assert_eq!(text.test_modules, ["fixture"]);
    assert_eq!(text.strings, [(11, "--everywhere".to_owned())]);
}
