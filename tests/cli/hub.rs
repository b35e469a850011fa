//! A model by its name on the hub, through the real program: downloaded once, named in the run, taken from the cache.

use crate::server::{Answer, Server};
use crate::tool::{data_set, fails, sae, said, tiny_model};
use serde_json::{Value, json};
use std::fs;

const COMMIT: &str = "89abcdef0123456789abcdef0123456789abcdef";

/// The tiny model as the hub would serve it, gated for those without a token.
fn answer(path: &str, headers: &[String]) -> Answer {
    if path.starts_with("/api/models/org/tiny/") {
        let files = fs::read_dir(tiny_model()).unwrap().map(|entry| entry.unwrap()).filter(|e| e.path().is_file());
        let files = files.map(
            |file| json!({"rfilename": file.file_name().to_str().unwrap(), "size": file.metadata().unwrap().len()}),
        );
        return Answer::ok(json!({"sha": COMMIT, "siblings": files.collect::<Vec<_>>()}).to_string().into_bytes());
    }
    match path.strip_prefix(&format!("/org/tiny/resolve/{COMMIT}/")) {
        None => Answer::new(401).header("x-error-code", "RepoNotFound"),
        Some(_) if !headers.iter().any(|header| header == "authorization: bearer mine") => {
            Answer::new(401).header("x-error-code", "GatedRepo")
        }
        Some(name) => Answer::ok(fs::read(tiny_model().join(name)).unwrap()),
    }
}

#[test]
fn a_model_is_harvested_by_its_name_on_the_hub() {
    let server = Server::new(answer);
    let dir = tempfile::tempdir().unwrap();
    let data = data_set(dir.path(), 3);
    let run = |name: &str, model: &str, env: &[(&str, &str)]| {
        let mut command = sae();
        command.args(["harvest", "--layers", "1", "--json", "--model", model, "--data"]).arg(&data);
        command.arg("--run").arg(dir.path().join(name)).envs(env.iter().copied());
        command.env("HF_ENDPOINT", &server.address).env("HF_HOME", dir.path().join("hf"));
        command.env_remove("HF_HUB_CACHE").output().unwrap()
    };
    let missing = run("run", "org/missing", &[]);
    assert_eq!(missing.status.code(), Some(1));
    assert!(said(&missing).contains("no such folder here and no such repository"), "{}", said(&missing));
    let gated = run("run", "org/tiny", &[]);
    assert!(said(&gated).contains("hint: ") && said(&gated).contains("HF_TOKEN"), "{}", said(&gated));
    assert!(!dir.path().join("run").exists());

    let first = run("run", "org/tiny", &[("HF_TOKEN", "mine")]);
    assert!(first.status.success(), "{}", said(&first));
    let record: Value = serde_json::from_slice(&fs::read(dir.path().join("run/run.json")).unwrap()).unwrap();
    assert_eq!(record["steps"]["harvest"]["model"], "org/tiny");
    server.requests();
    let again = run("again", "org/tiny", &[]);
    let offline = run("offline", "org/tiny@main", &[("HF_HUB_OFFLINE", "1")]);
    assert!(again.status.success() && offline.status.success(), "{}{}", said(&again), said(&offline));
    assert_eq!(server.requests(), Vec::<String>::new());
}

#[test]
fn a_cache_that_python_filled_is_enough_without_a_network() {
    let dir = tempfile::tempdir().unwrap();
    let data = data_set(dir.path(), 2);
    let repository = dir.path().join("xdg/huggingface/hub/models--org--tiny");
    let snapshot = repository.join("snapshots").join(COMMIT);
    fs::create_dir_all(&snapshot).unwrap();
    fs::create_dir_all(repository.join("refs")).unwrap();
    fs::write(repository.join("refs/main"), COMMIT).unwrap();
    for file in fs::read_dir(tiny_model()).unwrap().map(|entry| entry.unwrap()).filter(|file| file.path().is_file()) {
        fs::copy(file.path(), snapshot.join(file.file_name())).unwrap();
    }
    let run = |name: &str, env: &[(&str, &str)]| {
        let mut command = sae();
        command.args(["harvest", "--layers", "1", "--json", "--model", "org/tiny", "--data"]).arg(&data);
        for variable in ["HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"] {
            command.env_remove(variable);
        }
        command.env("XDG_CACHE_HOME", dir.path().join("xdg")).env("HF_ENDPOINT", "http://127.0.0.1:9");
        command.arg("--run").arg(dir.path().join(name)).envs(env.iter().copied()).output().unwrap()
    };
    let hub = repository.parent().unwrap().to_str().unwrap().to_owned();
    for (name, env) in [
        ("offline", &[("HF_HUB_OFFLINE", "1")][..]),
        (
            "older",
            &[("TRANSFORMERS_OFFLINE", "1"), ("HUGGINGFACE_HUB_CACHE", hub.as_str()), ("XDG_CACHE_HOME", "/nowhere")][..],
        ),
        ("unreachable", &[][..]),
    ] {
        let output = run(name, env);
        assert!(output.status.success(), "{name}: {}", said(&output));
    }
    fs::remove_file(snapshot.join("model.safetensors")).unwrap();
    let said = said(&run("gone", &[("HF_HUB_OFFLINE", "1")]));
    assert!(said.contains("HF_HUB_OFFLINE is set") && said.contains("lacks model.safetensors"), "{said}");
}

#[test]
fn a_dry_run_downloads_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let data = data_set(dir.path(), 3);
    let args =
        ["harvest", "--model", "no-such-org/tiny", "--data", data.to_str().unwrap(), "--layers", "1", "--run", "r"];
    let refused = fails(1, &[&args[..], &["--dry-run"]].concat());
    assert!(refused.contains("a plan downloads nothing") && refused.contains("hint: leave --dry-run out"), "{refused}");
}
