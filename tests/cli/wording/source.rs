//! The string literals of a source file, without those of its unit tests.

use std::fs;
use std::path::Path;

/// Every string literal outside of comments and test modules, with its line. Escapes stay as they are written, but for the
/// ends of lines.
pub fn literals(path: &Path) -> Vec<(usize, String)> {
    if is_test(path) {
        return Vec::new();
    }
    let text = fs::read_to_string(path).unwrap();
    let program = text.split("\n#[cfg(test)]\nmod tests {").next().unwrap();
    let (mut found, mut rest, mut line) = (Vec::new(), program, 1);
    while let Some(sign) = rest.chars().next() {
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if let Some((raw, marks)) = raw_string(rest) {
            found.push((line, raw.to_string()));
            raw.len() + marks
        } else if sign == '"' {
            let end = closing_quote(&rest[1..]);
            found.push((line, rest[1..=end].replace("\\n", "\n").replace("\\\n", " ")));
            end + 2
        } else {
            character(rest).unwrap_or(sign.len_utf8())
        };
        line += rest[..length].matches('\n').count();
        rest = &rest[length..];
    }
    found
}

/// Whether a file holds tests alone: its parent module declares it under `#[cfg(test)]`.
fn is_test(path: &Path) -> bool {
    let name = path.file_stem().unwrap().to_str().unwrap();
    let folder = path.parent().unwrap();
    let parents = [folder.join("mod.rs"), folder.join("lib.rs"), folder.with_extension("rs")];
    let declared = parents.iter().filter_map(|parent| fs::read_to_string(parent).ok());
    declared.into_iter().any(|text| text.contains(&format!("#[cfg(test)]\nmod {name};")))
}

/// A raw string at the beginning of `rest`: what stands in it, and how many bytes stand around that.
fn raw_string(rest: &str) -> Option<(&str, usize)> {
    let hashes = rest.strip_prefix('r')?.bytes().take_while(|byte| *byte == b'#').count();
    let body = rest[1 + hashes..].strip_prefix('"')?;
    let end = body.find(&format!("\"{}", "#".repeat(hashes)))?;
    Some((&body[..end], 3 + 2 * hashes))
}

/// The offset of the quotation mark that ends a string whose text begins at `body`.
fn closing_quote(body: &str) -> usize {
    let mut escaped = false;
    let end = body.char_indices().find(|(_, sign)| {
        let ends = *sign == '"' && !escaped;
        escaped = *sign == '\\' && !escaped;
        ends
    });
    end.expect("every string ends").0
}

/// The length of a character literal at the beginning of `rest`, so that `'"'` begins no string.
fn character(rest: &str) -> Option<usize> {
    let body = rest.strip_prefix('\'')?;
    let escape = usize::from(body.starts_with('\\'));
    let sign = body[escape..].chars().next()?.len_utf8();
    body[escape + sign..].starts_with('\'').then_some(escape + sign + 2)
}
