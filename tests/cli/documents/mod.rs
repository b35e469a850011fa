//! The documents: every link leads somewhere, every page of the book is in its table of contents, and ARCHITECTURE.md names
//! files that exist.

mod markdown;

use crate::tool::repository;
use markdown::Document;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The book's pages. They include documents of the repository, which lie at the same relative paths, so that their links
/// hold in both places.
const BOOK: &str = "docs/book/src";
/// Folders without documents of ours.
const SKIPPED: [&str; 5] = [".git", "target", "vendor", "docs/book/book", "fuzz/corpus"];

/// Files below a folder that have this extension, in the order of their paths.
pub fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap()) {
            let path = entry.path();
            let skipped = SKIPPED.iter().any(|skipped| path == repository(skipped));
            if entry.file_type().unwrap().is_dir() && !skipped {
                folders.push(path);
            } else if path.extension().is_some_and(|found| found == extension) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// A path as it is written in messages, relative to the repository.
pub fn shown(path: &Path) -> String {
    path.strip_prefix(repository("")).unwrap_or(path).display().to_string()
}

/// A path without `.` and `..`, so that two paths to one file are equal.
fn normal(path: &Path) -> PathBuf {
    let mut parts = PathBuf::new();
    for part in path.components() {
        match part {
            std::path::Component::ParentDir => drop(parts.pop()),
            std::path::Component::CurDir => (),
            part => parts.push(part),
        }
    }
    parts
}

/// What is wrong with the links of a document. `pages` are all documents by path.
fn broken(path: &Path, pages: &BTreeMap<PathBuf, Document>) -> Vec<String> {
    let in_book = path.starts_with(repository(BOOK));
    let wrong = |link: &str| -> Option<&str> {
        let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
        let target = match file.is_empty() {
            true => path.to_path_buf(),
            false => normal(&path.parent().unwrap().join(file)),
        };
        if !target.exists() {
            return Some("there is no such file");
        }
        if in_book && !target.starts_with(repository(BOOK)) {
            return Some("it leads out of the book");
        }
        let known = || pages.get(&target).is_some_and(|page| page.anchors.contains(anchor));
        (!anchor.is_empty() && !known()).then_some("there is no such heading")
    };
    let links = pages[path].links.iter().filter(|(_, link)| !link.contains("://") && !link.starts_with("mailto:"));
    links.filter_map(|(line, link)| Some(format!("{}:{line}: {link}: {}", shown(path), wrong(link)?))).collect()
}

#[test]
fn every_link_of_the_documents_leads_somewhere() {
    let paths = files(&repository(""), "md");
    let pages: BTreeMap<_, _> = paths.iter().map(|path| (path.clone(), Document::read(path))).collect();
    let broken: Vec<_> = paths.iter().flat_map(|path| broken(path, &pages)).collect();
    assert!(pages.values().map(|page| page.links.len()).sum::<usize>() > 100, "links are found");
    assert!(broken.is_empty(), "{} broken links:\n{}", broken.len(), broken.join("\n"));
}

#[test]
fn the_table_of_contents_lists_every_page_of_the_book() {
    let book = repository(BOOK);
    let summary = Document::read(&book.join("SUMMARY.md"));
    let listed: BTreeSet<_> = summary.links.iter().map(|(_, link)| book.join(link)).collect();
    let pages: BTreeSet<_> = files(&book, "md").into_iter().filter(|page| !page.ends_with("SUMMARY.md")).collect();
    assert_eq!(listed, pages);
}

#[test]
fn the_files_that_the_architecture_names_exist() {
    let page = Document::read(&repository("ARCHITECTURE.md"));
    let is_path = |code: &&String| {
        let folder = code.split_once('/').is_some_and(|(folder, _)| repository(folder).is_dir());
        folder && code.chars().all(|sign| sign.is_ascii_alphanumeric() || "/._-".contains(sign))
    };
    let paths: Vec<_> = page.code.iter().filter(is_path).collect();
    assert!(paths.len() > 50, "paths are found");
    let missing: Vec<_> = paths.into_iter().filter(|path| !repository(path).exists()).collect();
    assert!(missing.is_empty(), "moved or removed: {missing:?}");
}
