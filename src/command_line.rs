//! Commands as words, and as a line for a shell. Runs nothing.

/// A line that a shell takes apart into these words.
///
/// ```
/// use sae_workbench::command_line::quoted;
///
/// assert_eq!(quoted(&["echo", "a b", "it's"]), r"echo 'a b' 'it'\''s'");
/// ```
pub fn quoted<W: AsRef<str>>(words: &[W]) -> String {
    words.iter().map(|word| quoted_word(word.as_ref())).collect::<Vec<_>>().join(" ")
}

fn quoted_word(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@%+".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.into();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}
