//! The corpus `tests/wild`: files as other people have them, one folder per situation, each with what must come of it
//! (`case.json`). Every case runs through the real program; see `tests/wild/README.md`.

mod case;
mod check;
mod folder;

use crate::tool::repository;
use case::Case;
use std::fmt::Write;
use std::fs;
use std::path::PathBuf;

/// A program to try instead of the one just built, such as an older one: it shows what the corpus found.
const OTHER_PROGRAM: &str = "SAE_WILD_PROGRAM";
/// Set to run the cases whose names contain this.
const ONLY: &str = "SAE_WILD_ONLY";
/// Set to write the table in the README instead of comparing it.
const WRITE: &str = "SAE_UPDATE";

#[test]
fn every_situation_ends_as_its_case_says() {
    let only = std::env::var(ONLY).unwrap_or_default();
    let other = std::env::var_os(OTHER_PROGRAM).map(PathBuf::from);
    let program = other.unwrap_or_else(|| env!("CARGO_BIN_EXE_sae").into());
    let cases: Vec<_> = Case::all().into_iter().filter(|case| case.name.contains(&only)).collect();
    assert!(!cases.is_empty(), "no case has {only:?} in its name");
    let run = |case: &Case| {
        let failures = check::failures(case, &program).into_iter();
        failures.map(|what| format!("{}: {what}", case.name)).collect::<Vec<_>>()
    };
    let halves = cases.split_at(cases.len() / 2);
    let failures: Vec<String> = std::thread::scope(|scope| {
        let second = scope.spawn(|| halves.1.iter().flat_map(run).collect::<Vec<_>>());
        let first = halves.0.iter().flat_map(run).collect::<Vec<_>>();
        [first, second.join().unwrap()].concat()
    });
    assert!(failures.is_empty(), "{} of {} cases:\n{}", failures.len(), cases.len(), failures.join("\n"));
}

#[test]
fn the_readme_lists_every_case() {
    let path = repository("tests/wild/README.md");
    let readme = fs::read_to_string(&path).unwrap();
    let (head, _) = readme.split_once(TABLE).expect("the README has a table of cases");
    let written = format!("{head}{}", table(&Case::all()));
    if std::env::var_os(WRITE).is_some() {
        fs::write(&path, written).unwrap();
    } else {
        assert!(readme == written, "the table is out of date: run this test with {WRITE}=1");
    }
}

/// Where the table begins.
const TABLE: &str = "| situation |";

fn table(cases: &[Case]) -> String {
    let mut out = format!("{TABLE} area | reported in | before | now |\n|---|---|---|---|---|\n");
    for case in cases {
        let reports: Vec<_> = case.reports.iter().map(|report| link(report)).collect();
        let now = case.known.as_ref().map_or("as expected".into(), |known| format!("known: {known}"));
        let Case { name, situation, area, before, .. } = case;
        let reports = reports.join(", ");
        writeln!(out, "| [{name}]({name}): {situation} | {area} | {reports} | {before} | {now} |").unwrap();
    }
    out
}

/// `owner/repo#1` as a link.
fn link(report: &str) -> String {
    let (repository, number) = report.split_once('#').expect("a report is owner/repo#number");
    format!("[{report}](https://github.com/{repository}/issues/{number})")
}
