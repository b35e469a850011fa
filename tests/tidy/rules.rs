//! The rules, and what is known to break them. Every list of exceptions only shrinks: an entry that nothing needs any more
//! fails the test.

use crate::Source;
use crate::modules::{self, Module, Reference};
use crate::text::is_name;
use std::collections::BTreeSet;

/// Lines of the largest file.
const LINES: usize = 600;

/// Which crates a crate may refer to.
const ARROWS: [(&str, &[&str]); 6] = [
    ("sae_core", &[]),
    ("harvest", &["sae_core"]),
    ("filters", &["sae_core"]),
    ("sae_workbench", &["sae_core", "harvest", "filters"]),
    ("sae", &["sae_core", "harvest", "filters", "sae_workbench"]),
    ("sae_gui", &["sae_core", "harvest", "filters", "sae_workbench"]),
];

/// The layers of `sae_core`; all its other modules are below them. A layer may refer to those before it.
const LAYERS: [&[&str]; 3] = [&["store"], &["autoencoder"], &["train", "analysis"]];

/// Crates that do not know what an autoencoder is: of `sae_core` they use the store and what is below it.
const NO_AUTOENCODERS: [&str; 1] = ["harvest"];

/// Libraries: they print nothing, and say nothing of a command line.
const LIBRARIES: [&str; 4] = ["sae_core", "harvest", "filters", "sae_workbench"];

/// Crates and macros of programs, which libraries do without.
const OF_PROGRAMS: [&str; 8] =
    ["anyhow", "clap", "indicatif", "plotters", "print!", "println!", "eprint!", "eprintln!"];

/// Flags of other programs, which a library may advise to use.
const OF_OTHERS: [&str; 3] = ["tar --sort=name", "cargo build --release --features {feature}", "--array=1-{count}"];

/// The place of a module of `sae_core` among the layers.
fn layer(module: &[String]) -> usize {
    let name = module.get(1).map(String::as_str).unwrap_or_default();
    LAYERS.iter().position(|layer| layer.contains(&name)).map_or(0, |n| n + 1)
}

/// Whether a reference runs the right way, and if not, why.
fn wrong_way(from: &Module, to: &Module) -> Option<String> {
    let name = |module: &Module| module[..module.len().min(2)].join("::");
    let allowed = ARROWS.iter().find(|(name, _)| *name == from[0]).map_or(&[][..], |(_, to)| to);
    if from[0] != to[0] {
        if !allowed.contains(&to[0].as_str()) {
            return Some(format!("{} does not know {}", from[0], to[0]));
        }
        let above_store = to[0] == "sae_core" && layer(to) > 1;
        return (NO_AUTOENCODERS.contains(&from[0].as_str()) && above_store)
            .then(|| format!("{} does not know what an autoencoder is, and so not {}", from[0], name(to)));
    }
    if from[0] != "sae_core" || from.len() < 2 || from.get(1) == to.get(1) {
        return None;
    }
    let (own, other) = (layer(from), layer(to));
    if other > own {
        return Some(format!("{} lies below {}", name(from), name(to)));
    }
    (other == own && own > 0).then(|| format!("{} and {} do not know each other", name(from), name(to)))
}

/// References that run the wrong way.
pub fn arrows(references: &BTreeSet<Reference>) -> Vec<String> {
    let broken = references.iter().filter_map(|reference| {
        let why = wrong_way(&reference.from, &reference.to)?;
        let (from, to) = (reference.from.join("::"), reference.to.join("::"));
        Some(format!("{}: {from} refers to {to}, but {why}", reference.place))
    });
    broken.collect()
}

/// Circles among the modules of a folder.
pub fn circles(references: &BTreeSet<Reference>) -> Vec<String> {
    let describe = |circle: &Vec<&Reference>| {
        let lines = circle.iter().map(|r| format!("\n  {}: {} -> {}", r.place, r.from.join("::"), r.to.join("::")));
        let members = modules::members(circle);
        let names: Vec<_> = members.iter().map(String::as_str).collect();
        format!("a circle of {}:{}", names.join(", "), lines.collect::<String>())
    };
    modules::circles(references).iter().map(describe).collect()
}

/// What is wrong with a file by itself.
pub fn file(source: &Source) -> Vec<String> {
    let mut broken = Vec::new();
    if !source.content.starts_with("//!") {
        broken.push(format!("{}: it does not open with //! and what it owns", source.path));
    }
    let lines = source.content.lines().count();
    if lines > LINES {
        broken.push(format!("{}: {lines} lines, at most {LINES}", source.path));
    }
    broken
}

/// What a library's file does that libraries leave to programs.
pub fn library(source: &Source, module: &[&str]) -> Vec<String> {
    if !LIBRARIES.contains(&module[0]) {
        return Vec::new();
    }
    let lines = source.text.code.lines().enumerate();
    let words = lines.flat_map(|(n, line)| words(line).map(move |word| (n + 1, word)));
    let words = words.filter(|(_, word)| OF_PROGRAMS.contains(word));
    let words = words.map(|(line, word)| format!("{}:{line}: {word} in a library", source.path));
    let flags = source.text.strings.iter().filter(|(_, text)| names_a_flag(text));
    let flags = flags.map(|(line, text)| format!("{}:{line}: a flag in a text of a library: {text:?}", source.path));
    words.chain(flags).collect()
}

/// Words of code, those of macros with their mark.
fn words(line: &str) -> impl Iterator<Item = &str> {
    line.split(|c: char| !is_name(c) && c != '!').filter(|word| !word.is_empty())
}

/// Whether a text names a flag such as `--keep`. A text is as it stands in the source: a new line is `\n`.
fn names_a_flag(text: &str) -> bool {
    let text = OF_OTHERS.iter().fold(text.to_owned(), |text, of_others| text.replace(of_others, ""));
    text.match_indices("--").any(|(at, _)| {
        let (before, after) = (&text[..at], &text[at + 2..]);
        let begins = before.is_empty() || before.ends_with([' ', '`', '\'', '"', '(', '\n']) || before.ends_with("\\n");
        let name = after.find(|c: char| !c.is_ascii_lowercase() && c != '-').map_or(after, |end| &after[..end]);
        // `--tint: red` and `var(--tint)` are CSS.
        let css = before.ends_with("var(") || after[name.len()..].starts_with(':');
        begins && !css && name.starts_with(|c: char| c.is_ascii_lowercase())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::Text;

    fn source(path: &str, content: &str) -> Source {
        Source { path: path.into(), content: content.into(), text: Text::new(content) }
    }

    fn way(from: &str, to: &str) -> Option<String> {
        let module = |path: &str| path.split("::").map(String::from).collect();
        wrong_way(&module(from), &module(to))
    }

    #[test]
    fn arrows_are_held_to() {
        for right in [
            ("sae_core::train::log", "sae_core::store::run"),
            ("sae_core::analysis", "sae_core::autoencoder::sparse"),
            ("sae_core::train", "sae_core::file"),
            ("harvest::capture", "sae_core::store"),
            ("filters::pool", "sae_core::analysis::pass"),
            ("sae::cli::train", "sae_workbench::train"),
        ] {
            assert_eq!(way(right.0, right.1), None, "{right:?}");
        }
        for wrong in [
            ("sae_core::train", "sae_core::analysis::eval"),
            ("sae_core::store::stream", "sae_core::train"),
            ("sae_core::file", "sae_core::store"),
            ("harvest::lens", "sae_core::analysis::index"),
            ("harvest::lens", "filters::pool"),
            ("sae_workbench::train", "sae::cli"),
            ("sae_core", "harvest"),
        ] {
            assert!(way(wrong.0, wrong.1).is_some(), "{wrong:?}");
        }
    }

    #[test]
    fn files_are_judged_by_themselves() {
        assert!(file(&source("a.rs", "//! Owns.\n")).is_empty());
        assert!(file(&source("a.rs", "use b;\n"))[0].contains("does not open with //!"));
        let long = format!("//! Owns.\n{}", "\n".repeat(LINES));
        assert!(file(&source("a.rs", &long))[0].contains("601 lines"));
    }

    #[test]
    fn libraries_are_held_to_silence() {
        let judged = |content: &str, module: &str| library(&source("a.rs", content), &[module]).len();
        assert_eq!(judged("fn f() { println!(); }", "filters"), 1);
        assert_eq!(judged("fn f() { eprintln!(\"--keep\"); }", "harvest"), 2);
        assert_eq!(judged("use anyhow::Result;", "sae_workbench"), 1);
        assert_eq!(judged("const A: &str = \"hint: --keep 50%\"; // --keep", "sae_core"), 1);
        let none = ["a--b", "-- ", "var(--tint)", ":root { --tint: red }", "sort it: tar --sort=name"];
        for none in none {
            assert_eq!(judged(&format!("const A: &str = \"{none}\";"), "sae_core"), 0, "{none}");
        }
        assert_eq!(judged("fn f() { println!(\"--keep\"); }", "sae"), 0);
        assert_eq!(judged("fn f() { writeln!(out, \"x\").unwrap(); }", "filters"), 0);
    }
}
