//! What was uploaded to a local mock of the hub is read from there again.

use crate::published::{COMMIT, Repositories, answer, top_k};
use crate::server::{Answer, Server};
use crate::tool::{data_set, json, sae, said, tiny_model};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sae_core::autoencoder::formats::{self, Format};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use std::process::Output;
use std::sync::{Arc, Mutex};

/// A hub that takes all files in commits, and has them from then on.
fn hub() -> (Server, Arc<Mutex<Repositories>>) {
    let all = Arc::new(Mutex::new(Repositories::new()));
    let (kept, ok) = (Arc::clone(&all), |value: Value| Answer::ok(value.to_string().into_bytes()));
    let server = Server::with_body(move |path, headers, body| {
        let mut all = all.lock().unwrap();
        let (kind, rest) = path.strip_prefix("/api/").and_then(|path| path.split_once('/')).unwrap_or_default();
        let (name, action) = rest.split_at(rest.match_indices('/').nth(1).map_or(rest.len(), |(at, _)| at));
        let posted: Value = serde_json::from_slice(body).unwrap_or_default();
        let name = if kind == "datasets" { format!("datasets/{name}") } else { name.to_owned() };
        match action.rsplit_once('/').map_or(path, |(action, _)| action) {
            "/api/repos/create" => {
                assert_eq!(posted["type"].as_str().unwrap_or("model") == "dataset", posted["name"] == "kept");
                ok(json!({}))
            }
            "/preupload" => {
                let mode = |file: &Value| json!({"path": file["path"], "uploadMode": "regular", "shouldIgnore": false});
                ok(json!({"files": posted["files"].as_array().unwrap().iter().map(mode).collect::<Vec<_>>()}))
            }
            "/commit" => {
                for line in std::str::from_utf8(body).unwrap().lines().skip(1) {
                    let value = &serde_json::from_str::<Value>(line).unwrap()["value"];
                    let content = STANDARD.decode(value["content"].as_str().unwrap()).unwrap();
                    all.entry(name.clone()).or_default().insert(value["path"].as_str().unwrap().into(), content);
                }
                ok(json!({"commitUrl": "https://hub/commit", "commitOid": COMMIT}))
            }
            _ => answer(&all, path, headers),
        }
    });
    (server, kept)
}

fn run(server: &Server, home: &Path, args: &[&str]) -> Output {
    let mut command = sae();
    command.args(args).arg("--json").env("HF_ENDPOINT", &server.address).env("HF_HOME", home).env("HF_TOKEN", "mine");
    for variable in ["HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"] {
        command.env_remove(variable);
    }
    command.output().unwrap()
}

fn reported(output: &Output) -> Value {
    assert!(output.status.success(), "{}", said(output));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn an_uploaded_autoencoder_has_a_card_and_is_imported_from_the_hub_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let data = data_set(dir.path(), 6);
    let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let (one, two, model) = (at("one"), at("two"), tiny_model());
    for run in [&one, &two] {
        json(&[
            "harvest",
            "--model",
            model.to_str().unwrap(),
            "--data",
            data.to_str().unwrap(),
            "--run",
            run,
            "--layers",
            "1",
        ]);
    }
    formats::create(Format::SaeLens, &dir.path().join("one/saes/topk"), &top_k()).unwrap();
    json(&["eval", "--run", &one]);
    let (server, all) = hub();

    let planned =
        reported(&run(&server, dir.path(), &["upload", "--run", &one, "--to", "lab/saes/layers.1", "--dry-run"]));
    assert!(server.requests().is_empty(), "a plan sends nothing");
    let report = reported(&run(&server, dir.path(), &["upload", "--run", &one, "--to", "lab/saes/layers.1"]));
    assert_eq!((&report["kind"], &report["url"]), (&json!("model"), &json!("https://hub/commit")));
    let files = all.lock().unwrap()["lab/saes"].clone();
    let names: Vec<_> = files.keys().map(String::as_str).collect();
    let expected = ["README.md", "cfg.json", "curves.png", "eval.json", "sae_weights.safetensors"];
    assert_eq!(names, expected.map(|name| format!("layers.1/{name}")));
    assert_eq!((report["files"].as_u64(), planned["files"].as_array().unwrap().len()), (Some(5), 5));
    let card = String::from_utf8(files["layers.1/README.md"].clone()).unwrap();
    assert_eq!(planned["card"], card);
    for part in ["base_model: org/llava-a", "hub:lab/saes/layers.1", "## Evaluation", "| used as | topk, k 5 |"] {
        assert!(card.contains(part), "{part:?} is missing in\n{card}");
    }

    let from = ["import", "--from", "hub:lab/saes/layers.1", "--run", &two, "--name", "again", "--any-model"];
    reported(&run(&server, dir.path(), &from));
    let [before, after] =
        ["one/saes/topk", "two/saes/again"].map(|name| formats::load(&dir.path().join(name)).unwrap());
    assert_eq!(before.weights, after.weights);
}

#[test]
fn a_folder_is_uploaded_as_a_data_set_without_hidden_files_and_links() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("kept");
    fs::create_dir_all(folder.join("data/images")).unwrap();
    for (name, content) in [
        ("README.md", "# card"),
        ("manifest.json", "{}"),
        ("data/rows.jsonl", "{}\n"),
        ("data/images/a.png", "x"),
        (".lock", "hidden"),
    ] {
        fs::write(folder.join(name), content).unwrap();
    }
    let (server, all) = hub();
    let kept = folder.to_str().unwrap();
    let refused = run(&server, dir.path(), &["upload", kept, "--to", "lab/kept"]);
    assert!(said(&refused).contains("a data set for a repository of models: lab/kept"), "{}", said(&refused));
    assert!(said(&refused).contains("name a repository of data sets: datasets/lab/kept"), "{}", said(&refused));
    let report = reported(&run(&server, dir.path(), &["upload", kept, "--to", "datasets/lab/kept"]));
    assert_eq!(report["files"], 4);
    let files = all.lock().unwrap()["datasets/lab/kept"].clone();
    let names: Vec<_> = files.keys().map(String::as_str).collect();
    assert_eq!(names, ["README.md", "data/images/a.png", "data/rows.jsonl", "manifest.json"]);
    assert_eq!(files["data/images/a.png"], b"x");

    server.requests();
    std::os::unix::fs::symlink("/etc/hostname", folder.join("data/link")).unwrap();
    let refused = run(&server, dir.path(), &["upload", kept, "--to", "datasets/lab/kept"]);
    assert!(said(&refused).contains("found a link"), "{}", said(&refused));
    assert!(server.requests().is_empty());
    let empty = dir.path().join("empty");
    fs::create_dir(&empty).unwrap();
    let refused = run(&server, dir.path(), &["upload", empty.to_str().unwrap(), "--to", "datasets/lab/kept"]);
    assert!(said(&refused).contains("no files to upload"), "{}", said(&refused));
}
