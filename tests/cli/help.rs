//! What the program prints about itself: the help of every command as the book shows it, completion scripts, manual pages,
//! the version. `SAE_UPDATE=1` writes the help anew; look at the difference before you commit it.

use crate::tool::{json, repository, sae};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;

/// `--help` of a command, such as `["bench", "train"]`, as wide as where there is no terminal.
fn help(command: &[&str]) -> String {
    let output = sae().args(command).arg("--help").env_remove("COLUMNS").output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "sae {command:?} --help");
    String::from_utf8(output.stdout).unwrap()
}

/// The commands that a help lists.
fn commands(help: &str) -> Vec<String> {
    let listed = help.split_once("\nCommands:\n").map_or("", |(_, rest)| rest);
    let lines = listed.lines().take_while(|line| !line.is_empty());
    let names = lines.filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    names.filter_map(|line| line.split_whitespace().next()).filter(|name| *name != "help").map(String::from).collect()
}

/// The help of all commands by the name of its file.
fn all() -> BTreeMap<String, String> {
    let mut out = BTreeMap::from([("sae.txt".to_owned(), help(&[]))]);
    for command in commands(&out["sae.txt"]) {
        let own = help(&[&command]);
        for below in commands(&own) {
            out.insert(format!("{command}-{below}.txt"), help(&[&command, &below]));
        }
        out.insert(format!("{command}.txt"), own);
    }
    out
}

#[test]
fn the_help_of_every_command_is_the_one_in_the_book() {
    let folder = repository("docs/book/src/commands");
    let found = all();
    assert!(found.len() > 20 && found.contains_key("bench-train.txt"), "{:?}", found.keys());
    if std::env::var_os("SAE_UPDATE").is_some() {
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        found.iter().for_each(|(name, text)| fs::write(folder.join(name), text).unwrap());
    }
    let files = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let stale = |name: &String| fs::read_to_string(folder.join(name)).ok().as_ref() != found.get(name);
    let stale: BTreeSet<String> = files.chain(found.keys().cloned()).filter(stale).collect();
    assert!(stale.is_empty(), "run this test with SAE_UPDATE=1 and look at the difference: {stale:?}");
    let book = fs::read_to_string(repository("docs/book/src/commands.md")).unwrap();
    let absent = |name: &&String| !book.contains(&format!("{{{{#include commands/{name}}}}}"));
    assert_eq!(found.keys().filter(absent).collect::<Vec<_>>(), Vec::<&String>::new(), "not in commands.md");
}

#[test]
fn every_shell_gets_a_completion_script_with_every_command() {
    let names = commands(&help(&[]));
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let output = sae().args(["completions", shell]).output().unwrap();
        assert!(output.status.success(), "{shell}");
        let script = String::from_utf8(output.stdout).unwrap();
        for name in &names {
            assert!(script.contains(name.as_str()), "{shell} does not know {name}");
        }
    }
    assert!(json(&["completions", "bash"])["script"].as_str().unwrap().contains("_sae()"));
}

#[test]
fn every_command_gets_a_manual_page() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("man1");
    let folder = folder.to_str().unwrap();
    let plan = json(&["man", folder, "--dry-run"]);
    assert!(!fs::exists(folder).unwrap(), "a plan writes nothing");
    assert_eq!(json(&["man", folder])["files"], plan["files"]);
    let mut pages: Vec<_> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    pages.sort();
    let mut expected: Vec<_> = all().keys().map(|name| name.replace(".txt", ".1")).collect();
    expected.iter_mut().filter(|name| *name != "sae.1").for_each(|name| *name = format!("sae-{name}"));
    expected.sort();
    assert_eq!(pages, expected);
    let page = fs::read_to_string(format!("{folder}/sae-filter.1")).unwrap();
    assert!(page.contains(".SH OPTIONS") && page.contains("sae\\-filter"), "{page}");
}

#[test]
fn the_version_names_commit_features_and_instructions() {
    let said = |flag: &str| String::from_utf8(sae().arg(flag).output().unwrap().stdout).unwrap();
    let (short, long) = (said("-V"), said("--version"));
    assert_eq!(short.trim_end(), format!("sae {}", env!("CARGO_PKG_VERSION")));
    let (version, rest) = long.trim_end().split_once(" (commit ").unwrap();
    assert_eq!(version, short.trim_end());
    let (commit, rest) = rest.split_once(", features: ").unwrap();
    assert!(commit == "unknown" || commit.len() == "3b1f0c2 2026-11-28".len(), "{commit}");
    assert!(rest.contains(", CPU: ") && rest.ends_with(')'), "{rest}");
}
