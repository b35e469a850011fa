//! The rules of ARCHITECTURE.md that a compiler does not check: which way references run, no circles, small files that say
//! what they own, libraries that neither print nor name command-line flags. Reads the sources; runs nothing of them.

#![allow(clippy::unwrap_used)] // a test that cannot go on fails

mod modules;
mod paths;
mod rules;
mod text;

use modules::Modules;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use text::Text;

/// A source file.
pub struct Source {
    /// Relative to the repository, with `/`.
    pub path: String,
    /// As it is.
    pub content: String,
    /// As the rules see it.
    pub text: Text,
}

/// The packages with the name that paths give their library.
const CRATES: [(&str, &str); 5] = [
    ("sae-core/src", "sae_core"),
    ("harvest/src", "harvest"),
    ("filters/src", "filters"),
    ("src", "sae_workbench"),
    ("sae-gui/src", "sae_gui"),
];

/// The modules of the program `sae`, which is a crate of its own beside the library in `src`.
const PROGRAM: [&str; 3] = ["main", "cli", "plots"];

/// All Rust files of the repository but those of vendored crates.
fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    for folder in ["src", "tests", "examples", "sae-core", "harvest", "filters", "sae-gui", "fuzz"] {
        rust_files(&root.join(folder), &mut files);
    }
    files.sort();
    let read = |path: PathBuf| {
        let content = fs::read_to_string(&path).unwrap();
        let path = path.strip_prefix(root).unwrap().to_str().unwrap().replace('\\', "/");
        Source { path, text: Text::new(&content), content }
    };
    files.into_iter().map(read).collect()
}

fn rust_files(folder: &Path, files: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for path in entries.map(|entry| entry.unwrap().path()) {
        if path.is_dir() && path.file_name().is_some_and(|name| name != "target") {
            rust_files(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

/// The module of a library's or program's file: `sae-core/src/store/mod.rs` is `sae_core::store`. Nothing for tests and
/// examples.
pub fn module(path: &str) -> Option<Vec<&str>> {
    let (folder, name) =
        CRATES.iter().find(|(folder, _)| path.strip_prefix(folder).is_some_and(|p| p.starts_with('/')))?;
    let mut parts: Vec<&str> = path.strip_prefix(folder)?.strip_suffix(".rs")?.split('/').skip(1).collect();
    let name = if *folder == "src" && PROGRAM.contains(&parts[0]) { "sae" } else { name };
    if matches!(parts.last(), Some(&"mod" | &"lib" | &"main")) {
        parts.pop();
    }
    Some(std::iter::once(name).chain(parts).collect())
}

/// Sources that are compiled for tests alone, modules below them included.
fn test_modules(sources: &[Source]) -> BTreeSet<Vec<String>> {
    let own =
        |source: &Source| module(&source.path).map(|module| module.into_iter().map(String::from).collect::<Vec<_>>());
    let marked = sources.iter().filter_map(|source| Some((own(source)?, &source.text.test_modules)));
    let marked: BTreeSet<Vec<String>> = marked
        .flat_map(|(module, names)| names.iter().map(move |name| [&module[..], std::slice::from_ref(name)].concat()))
        .collect();
    let modules = sources.iter().filter_map(own);
    modules.filter(|module| (1..=module.len()).any(|n| marked.contains(&module[..n]))).collect()
}

/// Sources that are part of a library or a program, with their modules.
fn shipped(sources: &[Source]) -> Vec<(&Source, Vec<&str>)> {
    let tests = test_modules(sources);
    let of = |source| Some((source, module(Source::path(source))?));
    let is_test = |module: &[&str]| tests.contains(&module.iter().map(|name| name.to_string()).collect::<Vec<_>>());
    sources.iter().filter_map(of).filter(|(_, module)| !is_test(module)).collect()
}

impl Source {
    fn path(&self) -> &str {
        &self.path
    }
}

fn expect_none(broken: Vec<String>) {
    assert!(broken.is_empty(), "\n{}", broken.join("\n"));
}

#[test]
fn references_run_one_way() {
    let sources = sources();
    let mut modules = Modules::default();
    shipped(&sources).iter().for_each(|(source, module)| modules.add(module, &source.path, &source.text));
    let references = modules.references();
    assert!(references.len() > 500, "only {} references were found", references.len());
    expect_none([rules::arrows(&references), rules::circles(&references)].concat());
}

#[test]
fn files_are_small_and_say_what_they_own() {
    expect_none(sources().iter().flat_map(rules::file).collect());
}

#[test]
fn libraries_neither_print_nor_name_flags() {
    let sources = sources();
    expect_none(shipped(&sources).into_iter().flat_map(|(source, module)| rules::library(source, &module)).collect());
}
