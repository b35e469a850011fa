//! A run behind a server, read elsewhere: the copies are the files, what is written is merged on the server, and nothing but tables
//! leaves it.

use super::server::{Answer, Server};
use super::*;
use crate::RemoteRun;
use crate::serve::files::{FileList, TableFile};
use sae_core::Run;
use std::collections::BTreeMap;
use std::path::Path;

fn connect(serving: &Serving) -> RemoteRun {
    RemoteRun::connect(&format!("http://127.0.0.1:{}", serving.port), &serving.token).unwrap()
}

/// The files in a folder, by their paths in it.
fn files(root: &Path, at: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(root.join(at)).unwrap().map(|entry| entry.unwrap()) {
        let path = at.join(entry.file_name());
        if entry.path().is_dir() {
            found.extend(files(root, &path));
        } else {
            found.insert(path.to_str().unwrap().to_owned(), fs::read(entry.path()).unwrap());
        }
    }
    found
}

#[test]
fn the_tables_of_a_run_are_copied_and_copied_again_when_they_change() {
    let serving = Serving::new();
    let run = serving.run();
    // Larger than a piece, and with a name that has to be encoded.
    let large: Vec<u8> = (0..9_000_001u32).map(|n| (n % 251) as u8).collect();
    fs::write(run.root().join("contrasts/sides/large 50%.json"), &large).unwrap();
    let remote = connect(&serving);
    assert_eq!((remote.path(), remote.trained()), (&*run.root().canonicalize().unwrap(), vec!["base".to_owned()]));
    assert_eq!(remote.root().file_name().unwrap(), "run");
    remote.copy(Some("base")).unwrap();
    let (copies, all) = (files(remote.root(), Path::new("")), files(run.root(), Path::new("")));
    assert!(copies.iter().all(|(path, bytes)| all[path] == *bytes));
    for path in
        ["run.json", "samples.parquet", "features/base/examples.parquet", "scores/base.parquet", "saes/base/cfg.json"]
    {
        assert!(copies.contains_key(path), "{path}");
    }
    assert_eq!(copies["contrasts/sides/large 50%.json"], large);
    // Neither weights nor activations, and tokens when they are needed.
    assert!(
        all.keys().any(|path| path.starts_with("activations/"))
            && all.contains_key("saes/base/sae_weights.safetensors")
    );
    let is_left = |path: &&String| {
        let left = ["activations/", "tokens/", "summaries/", "parts/"];
        left.iter().any(|folder| path.starts_with(folder))
            || !path.ends_with("json") && !path.ends_with("parquet") && !path.ends_with("toml")
    };
    let missing: Vec<&String> = all.keys().filter(|path| !copies.contains_key(*path)).collect();
    assert!(missing.iter().all(is_left), "{missing:?}");
    let tokens = remote.root().join("tokens/part-00000.parquet");
    remote.need(&tokens).unwrap();
    assert_eq!(fs::read(&tokens).unwrap(), all["tokens/part-00000.parquet"]);
    let error = remote.need(&remote.root().join("tokens/part-00007.parquet")).unwrap_err().to_string();
    assert!(error.contains("no table tokens/part-00007.parquet") && error.contains("http://127.0.0.1"), "{error}");
    // The features of another autoencoder are a list.
    connect(&serving).copy(None).unwrap();
    let other = connect(&serving);
    other.copy(None).unwrap();
    let of_features = files(other.root(), Path::new("features"));
    assert_eq!(of_features.keys().collect::<Vec<_>>(), ["features/base/features.parquet"]);

    fs::write(run.sae_dir("base").join("eval.json"), "{\"new\": 1}").unwrap();
    fs::remove_file(run.root().join("contrasts/sides/large 50%.json")).unwrap();
    remote.copy(Some("base")).unwrap();
    assert_eq!(fs::read_to_string(remote.root().join("saes/base/eval.json")).unwrap(), "{\"new\": 1}");
    assert!(!remote.root().join("contrasts/sides/large 50%.json").exists());
    for (side, longest) in [(16, 16), (2000, 61)] {
        let image = image::load_from_memory(&remote.image(0, 0, side).unwrap()).unwrap();
        assert_eq!(image.width().max(image.height()), longest, "as large as asked for, and not larger than it is");
    }
    assert!(remote.image(0, 9, 64).unwrap_err().to_string().contains("404"));
    let copies = remote.root().to_path_buf();
    drop(remote);
    assert!(!copies.exists(), "copies are removed");
}

#[test]
fn edits_from_elsewhere_meet_those_on_the_server() {
    let serving = Serving::new();
    let remote = connect(&serving);
    remote.copy(Some("base")).unwrap();
    let entry = |feature: u32, label: &str| Entry { label: label.into(), author: "A".into(), ..Entry::empty(feature) };
    let write = |feature, label| Change::Entry { before: Entry::empty(feature), after: entry(feature, label) };
    Labels::save(&serving.run(), "base", &[write(1, "theirs"), write(2, "only theirs")], &Labels::default()).unwrap();
    let list = Change::List { name: "kept".into(), before: vec![], after: vec![3, 4] };
    let saved = remote.save("base", &[write(1, "mine"), write(5, "only mine"), list]).unwrap();
    let on_server = Labels::read(&serving.run()).unwrap();
    assert_eq!(saved.labels, on_server);
    let written = on_server.written("base").unwrap();
    let label = |feature| written.entry(feature).map(|entry| entry.label.as_str());
    assert_eq!([label(1), label(2), label(5)], [Some("mine"), Some("only theirs"), Some("only mine")]);
    assert!(written.entry(1).unwrap().notes.contains("theirs") && saved.conflicts.len() == 1, "{saved:?}");
    assert_eq!(Labels::read(&Run::open(remote.root()).unwrap()).unwrap(), on_server, "the copy is the file by now");
    // More than a request may have.
    let long = "x".repeat(1 << 20);
    let many: Vec<Change> = (10..30).map(|feature| write(feature, &long)).collect();
    assert_eq!(remote.save("base", &many).unwrap().labels, Labels::read(&serving.run()).unwrap());
    let written = Labels::read(&serving.run()).unwrap();
    assert!((10..30).all(|feature| written.written("base").unwrap().entry(feature).unwrap().label == long));
    let error = remote.save("none", &[write(1, "x")]).unwrap_err().to_string();
    assert!(error.contains("has no autoencoder \"none\""), "{error}");
}

#[test]
fn nothing_but_tables_leaves_the_run() {
    let serving = Serving::new();
    let list: FileList = serde_json::from_value(serving.json("/api/files")).unwrap();
    let table = list.files.iter().find(|table| table.path == "run.json").unwrap();
    let ask = |path: &str, bytes: u64, modified: u64| {
        serving.get(&format!("/api/files/{path}?bytes={bytes}&modified={modified}&at=0"))
    };
    let whole = ask("run.json", table.bytes, table.modified);
    assert_eq!((whole.status, whole.header("content-type")), (200, Some("application/octet-stream")));
    assert_eq!(whole.body, fs::read(serving.run().root().join("run.json")).unwrap());
    let stale = ask("run.json", table.bytes, table.modified - 1);
    assert!(stale.status == 503 && stale.text().contains("written in between"), "{}", stale.text());
    #[cfg(unix)]
    std::os::unix::fs::symlink("/etc/hostname", serving.run().root().join("scores/link.json")).unwrap();
    #[cfg(unix)]
    assert!(
        std::process::Command::new("mkfifo")
            .arg(serving.run().root().join("scores/pipe.json"))
            .status()
            .unwrap()
            .success()
    );
    fs::write(serving.folder.path().join("secret.json"), "{}").unwrap();
    for path in [
        "saes/base/sae_weights.safetensors",
        "activations/layers.1/manifest.json",
        "../secret.json",
        "%2e%2e/secret.json",
        "features/..%2f..%2f../secret.json",
        "scores/link.json",
        "scores/pipe.json",
        "none.json",
        "",
    ] {
        let answer = ask(path, 2, 1);
        assert!([400, 404].contains(&answer.status), "{path}: {}", answer.status);
    }
    let list: FileList = serde_json::from_value(serving.json("/api/files")).unwrap();
    assert!(list.files.iter().all(|table| !table.path.contains("link") && !table.path.contains("secret")));
    let wrong = RemoteRun::connect(&format!("http://127.0.0.1:{}", serving.port), "wrong").err().unwrap().to_string();
    assert!(wrong.contains("needs the token"), "{wrong}");
}

/// A server that answers every request for a piece with `piece`, and each other one with `list`.
fn hostile(list: &Value, piece: &'static [u8]) -> Server {
    let list = list.to_string();
    Server::new(move |path, _| {
        Answer::ok(if path.starts_with("/api/files/") { piece.to_vec() } else { list.clone().into() })
    })
}

#[test]
fn a_server_that_lies_makes_nothing_outside_of_the_copies_and_no_copy_without_end() {
    let list = |trained: &str, path: &str, bytes: u64| {
        let files = [TableFile { path: path.into(), bytes, modified: 1 }];
        json!({ "run": "/data/run", "trained": [trained], "files": files })
    };
    for (list, piece, expected) in [
        (list("base", "../run.json", 2), &b"{}"[..], "outside of the run: ../run.json"),
        (list("base", "/tmp/run.json", 2), b"{}", "outside of the run: /tmp/run.json"),
        (list("base", "saes/.hidden/cfg.json", 2), b"{}", "outside of the run"),
        (list("base", "run.sh", 2), b"{}", "outside of the run"),
        (list("base", "run.json", u64::MAX), b"{}", "more than the 34359738368 that are copied"),
        (list("base", "run.json", 9), b"{}", "was cut off after 2 of 9 bytes"),
        (list("base", "run.json", 0), b"{}", ""),
        (json!([]), b"{}", "is not that of `sae serve`"),
    ] {
        let server = hostile(&list, piece);
        let copied = RemoteRun::connect(&server.address, "x").and_then(|remote| {
            let copied = remote.copy(None);
            let outside = fs::read_dir(remote.root().parent().unwrap()).unwrap().count();
            assert_eq!(outside, 1, "the folder of the copies has the run alone");
            copied
        });
        let said = copied.err().map(|error| error.to_string()).unwrap_or_default();
        assert!(said.contains(expected) && said.is_empty() == expected.is_empty(), "{list}: {said}");
    }
    // Names that lead elsewhere are left out; what a person calls a copy of a folder is not.
    for (trained, expected) in
        [("../other", None), ("/etc", None), ("..", None), ("", None), ("base copy", Some("base copy"))]
    {
        let server = hostile(&list(trained, "run.json", 0), b"");
        let remote = RemoteRun::connect(&server.address, "x").unwrap();
        assert_eq!(remote.trained().first().map(String::as_str), expected);
    }
    // The last part of the path there is the name of the folder here, if it has one.
    for (run, name) in [("/", "run"), ("..", "run"), ("/data/../..", "run"), ("/data/a b", "a b")] {
        let server = hostile(&json!({ "run": run, "trained": [], "files": [] }), b"");
        let remote = RemoteRun::connect(&server.address, "x").unwrap();
        assert_eq!(remote.root().file_name().unwrap(), name, "{run}");
    }
}
