//! Checkpoints from a local mock of the hub: what is downloaded, what is verified, how interrupted downloads continue, and
//! that a complete checkpoint is used without a request.

use crate::server::{Answer, Server};
use harvest::hub::{Hub, TransferProgress, model_name};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

fn sha256(content: &[u8]) -> String {
    Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Files of a repository.
type Files = BTreeMap<&'static str, Vec<u8>>;

/// A repository whose weights are in two files.
fn files() -> Files {
    let index = json!({"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}).to_string();
    let weights = |seed: u8| (0..600_000u32).map(|n| (n % 251) as u8 ^ seed).collect::<Vec<u8>>();
    [
        ("README.md", b"# not needed".to_vec()),
        ("config.json", b"{}".to_vec()),
        ("consolidated.safetensors", vec![0; 1000]),
        ("model-1.safetensors", weights(1)),
        ("model-2.safetensors", weights(2)),
        ("model.safetensors.index.json", index.into_bytes()),
        ("tokenizer.json", b"{\"t\": 1}".to_vec()),
    ]
    .into()
}

fn listing(files: &Files) -> Value {
    let siblings = files.iter().map(|(name, content)| {
        let mut file = json!({"rfilename": name, "size": content.len(), "blobId": sha256(content)[..40]});
        if name.ends_with(".safetensors") {
            file["lfs"] = json!({"sha256": sha256(content), "size": content.len(), "pointerSize": 134});
        }
        file
    });
    json!({"id": "org/tiny", "sha": COMMIT, "siblings": siblings.collect::<Vec<_>>()})
}

/// Responds like the hub: weights are behind a redirect and can be requested from a byte on.
fn answer(files: &Files, path: &str, headers: &[String]) -> Answer {
    if path.starts_with("/api/models/org/tiny/revision/main") {
        return Answer::ok(listing(files).to_string().into_bytes());
    }
    let resolve = format!("/org/tiny/resolve/{COMMIT}/");
    if let Some(name) = path.strip_prefix(&resolve) {
        if name.ends_with(".safetensors") {
            return Answer::new(302).header("location", &format!("/cdn/{name}"));
        }
        return Answer::ok(files[name].clone());
    }
    let Some(content) = path.strip_prefix("/cdn/").and_then(|name| files.get(name)) else {
        return Answer::new(401).header("x-error-code", "RepoNotFound");
    };
    let from = headers.iter().find_map(|header| header.strip_prefix("range: bytes=")?.strip_suffix('-')?.parse().ok());
    match from {
        None => Answer::ok(content.clone()),
        Some(from) => {
            let range = format!("bytes {from}-{}/{}", content.len() - 1, content.len());
            Answer::ok(content[from..].to_vec()).status(206).header("content-range", &range)
        }
    }
}

fn hub(server: &Server, cache: &Path) -> Hub {
    Hub::new(&server.address, cache, None, false)
}

/// The error, with its hint.
fn error(hub: &Hub, model: &str) -> String {
    let error = hub.folder(model, &mut |_| Ok(())).unwrap_err();
    let hint = error.hint().map(|hint| format!("\nhint: {hint}")).unwrap_or_default();
    format!("{error}{hint}")
}

fn blobs(cache: &Path) -> Vec<PathBuf> {
    let mut blobs: Vec<_> =
        fs::read_dir(cache.join("models--org--tiny/blobs")).unwrap().map(|e| e.unwrap().path()).collect();
    blobs.sort();
    blobs
}

#[test]
fn a_checkpoint_is_downloaded_once() {
    let server = Server::new(|path, headers| answer(&files(), path, headers));
    let cache = tempfile::tempdir().unwrap();
    let mut progress = Vec::new();
    let mut see = |seen: TransferProgress| {
        progress.push((seen.bytes, seen.total));
        Ok(())
    };
    let folder = hub(&server, cache.path()).folder("org/tiny", &mut see).unwrap();
    assert!(folder.ends_with(format!("models--org--tiny/snapshots/{COMMIT}")));
    assert_eq!(model_name(&folder), "org/tiny");
    let mut found: Vec<_> =
        fs::read_dir(&folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    found.sort();
    let expected =
        ["config.json", "model-1.safetensors", "model-2.safetensors", "model.safetensors.index.json", "tokenizer.json"];
    assert_eq!(found, expected);
    for name in expected {
        assert_eq!(fs::read(folder.join(name)).unwrap(), files()[name], "{name}");
    }
    assert!(progress.is_sorted() && progress.last().is_some_and(|(bytes, total)| bytes == total), "{progress:?}");
    assert!(server.requests().len() > 5);

    // The layout of Python's huggingface_hub.
    let root = cache.path().join("models--org--tiny");
    assert_eq!(fs::read_to_string(root.join("refs/main")).unwrap(), COMMIT);
    assert!(root.join("blobs").join(sha256(&files()["model-1.safetensors"])).is_file());

    let offline = Hub::new(&server.address, cache.path(), None, true);
    for (hub, name) in [(hub(&server, cache.path()), "org/tiny"), (offline, &format!("org/tiny@{COMMIT}"))] {
        assert_eq!(hub.folder(name, &mut |_| Ok(())).unwrap(), folder);
    }
    assert_eq!(server.requests(), Vec::<String>::new());
    fs::remove_file(folder.join("model-2.safetensors")).unwrap();
    let offline = Hub::new(&server.address, cache.path(), None, true);
    assert!(error(&offline, "org/tiny").contains("HF_HUB_OFFLINE"));
}

#[test]
fn missing_and_gated_repositories_and_invalid_names_are_reported() {
    let cache = tempfile::tempdir().unwrap();
    let server = Server::new(|path, headers| match path {
        _ if path.contains("/gated/revision") => Answer::ok(listing(&files()).to_string().into_bytes()),
        _ if path.contains("/gated/resolve") => Answer::new(403).header("x-error-code", "GatedRepo"),
        _ if path.contains("/old/") => Answer::new(404).header("x-error-code", "RevisionNotFound"),
        _ if path.contains("/private/") => Answer::new(401),
        _ if path.contains("/broken/") => Answer::ok(b"<html>".to_vec()),
        _ if path.contains("/cut/") => Answer::ok(b"{".to_vec()).header("content-length", "900"),
        _ => answer(&Files::new(), path, headers),
    });
    let hub = hub(&server, cache.path());
    let missing = error(&hub, "org/missing");
    assert!(
        missing.contains("no such folder here and no such repository") && missing.contains("org/missing@main"),
        "{missing}"
    );
    let gated = error(&hub, "org/gated");
    let page = format!("hint: accept its terms at {}/org/gated, and set HF_TOKEN", server.address);
    assert!(gated.contains("gated") && gated.contains(&page), "{gated}");
    assert!(error(&hub, "org/old@v2").contains("no revision v2"));
    assert!(error(&hub, "org/private").contains("HF_TOKEN"));
    assert!(error(&hub, "org/broken").contains("is invalid"));
    assert!(error(&hub, "org/cut").contains("was cut off"));
    for name in ["org", "org/../x", "org/a/b", "org/x@../y", "/tmp/x", "./x", "org/x@"] {
        assert!(error(&hub, name).contains("invalid model name"), "{name}");
    }
    assert_eq!(harvest::hub::resolve("no/such/folder", &mut |_| Ok(())).unwrap(), Path::new("no/such/folder"));
}

#[test]
fn an_interrupted_download_leaves_no_partial_file_in_the_snapshot_and_continues() {
    let broken = Arc::new(AtomicUsize::new(usize::MAX));
    let ranges = Arc::new(Mutex::new(Vec::new()));
    let (left, log) = (Arc::clone(&broken), Arc::clone(&ranges));
    let server = Server::new(move |path, headers| {
        log.lock().unwrap().extend(headers.iter().filter(|h| h.starts_with("range")).cloned());
        if path == "/cdn/model-2.safetensors" && left.load(Ordering::SeqCst) > 0 {
            // The connection ends early: at the first request after some bytes, later without any.
            let first = headers.iter().all(|header| !header.starts_with("range"));
            let content = if first { files()["model-2.safetensors"][..100_000].to_vec() } else { Vec::new() };
            let from = if first {
                Answer::ok(content)
            } else {
                Answer::ok(content).status(206).header("content-range", "bytes 100000-599999/600000")
            };
            return from.header("content-length", "500000");
        }
        answer(&files(), path, headers)
    });
    let cache = tempfile::tempdir().unwrap();
    let failed = error(&hub(&server, cache.path()), "org/tiny");
    assert!(
        failed.contains("model-2.safetensors: the download was interrupted") && failed.contains("hint: run it again"),
        "{failed}"
    );
    let snapshot = cache.path().join("models--org--tiny/snapshots").join(COMMIT);
    assert!(snapshot.join("model-1.safetensors").is_file() && !snapshot.join("model-2.safetensors").exists());
    let partial: Vec<_> =
        blobs(cache.path()).into_iter().filter(|blob| blob.extension().is_some_and(|e| e == "incomplete")).collect();
    assert_eq!(fs::metadata(&partial[0]).unwrap().len(), 100_000);

    broken.store(0, Ordering::SeqCst);
    ranges.lock().unwrap().clear();
    let folder = hub(&server, cache.path()).folder("org/tiny", &mut |_| Ok(())).unwrap();
    assert_eq!(fs::read(folder.join("model-2.safetensors")).unwrap(), files()["model-2.safetensors"]);
    assert!(ranges.lock().unwrap().iter().any(|range| range == "range: bytes=100000-"));
    assert!(blobs(cache.path()).iter().all(|blob| blob.extension().is_none()));
}

#[test]
fn a_server_may_restart_a_download_but_wrong_bytes_are_rejected() {
    let swapped = Arc::new(AtomicUsize::new(1));
    let wrong = Arc::clone(&swapped);
    let server = Server::new(move |path, headers| match path {
        "/cdn/model-1.safetensors" if wrong.load(Ordering::SeqCst) == 1 => {
            Answer::ok(files()["model-2.safetensors"].clone())
        }
        "/cdn/model-1.safetensors" => Answer::ok(files()["model-1.safetensors"].clone()),
        "/cdn/model-2.safetensors" if wrong.load(Ordering::SeqCst) == 2 => Answer::ok(vec![0; 700_000]),
        _ => answer(&files(), path, headers),
    });
    let cache = tempfile::tempdir().unwrap();
    assert!(error(&hub(&server, cache.path()), "org/tiny").contains("does not have the SHA-256"));
    swapped.store(2, Ordering::SeqCst);
    // A partial file of an earlier download. The server responds with the whole file.
    let partial = cache
        .path()
        .join("models--org--tiny/blobs")
        .join(format!("{}.incomplete", sha256(&files()["model-1.safetensors"])));
    fs::write(&partial, &files()["model-1.safetensors"][..1000]).unwrap();
    assert!(error(&hub(&server, cache.path()), "org/tiny").contains("longer than 600000 bytes"));
    swapped.store(0, Ordering::SeqCst);
    let partial = cache
        .path()
        .join("models--org--tiny/blobs")
        .join(format!("{}.incomplete", sha256(&files()["model-2.safetensors"])));
    fs::write(&partial, b"something else").unwrap();
    let folder = hub(&server, cache.path()).folder("org/tiny", &mut |_| Ok(())).unwrap();
    for name in ["model-1.safetensors", "model-2.safetensors"] {
        assert_eq!(fs::read(folder.join(name)).unwrap(), files()[name]);
    }
}

#[test]
fn names_that_lead_out_of_the_cache_are_rejected() {
    let server = Server::new(|path, headers| {
        let mut files = files();
        let index = json!({"weight_map": {"a": "../../../evil.safetensors"}}).to_string();
        files.insert("model.safetensors.index.json", index.into_bytes());
        if path.contains("/evil/") {
            let mut listing = listing(&files);
            listing["sha"] = "../../../../evil".into();
            return Answer::ok(listing.to_string().into_bytes());
        }
        answer(&files, path, headers)
    });
    let cache = tempfile::tempdir().unwrap();
    assert!(error(&hub(&server, cache.path()), "org/tiny").contains("in the folder of the checkpoint"));
    assert!(error(&hub(&server, cache.path()), "org/evil").contains("expected a commit"));
}

#[test]
fn a_token_is_sent_to_the_hub_but_not_to_the_target_of_a_redirect() {
    let requests = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&requests);
    let elsewhere = Arc::new(Mutex::new(String::new()));
    let address = Arc::clone(&elsewhere);
    let server = Server::new(move |path, headers| {
        log.lock().unwrap().push((path.to_owned(), headers.iter().any(|h| h == "authorization: bearer secret")));
        if path.contains("/resolve/") && path.ends_with(".safetensors") {
            let name = path.rsplit('/').next().unwrap();
            return Answer::new(302).header("location", &format!("{}/cdn/{name}", address.lock().unwrap()));
        }
        answer(&files(), path, headers)
    });
    *elsewhere.lock().unwrap() = server.address.replace("127.0.0.1", "localhost");
    let cache = tempfile::tempdir().unwrap();
    Hub::new(&server.address, cache.path(), Some("secret".into()), false).folder("org/tiny", &mut |_| Ok(())).unwrap();
    let requests = requests.lock().unwrap();
    assert!(requests.iter().any(|(path, _)| path.starts_with("/cdn/")));
    for (path, token) in requests.iter() {
        assert_eq!(*token, !path.starts_with("/cdn/"), "{path}");
    }
}

/// A download of files of any repository, and its error with its hint.
fn fetch(hub: &Hub, files: &[&str]) -> Result<PathBuf, String> {
    let files: Vec<String> = files.iter().map(|file| file.to_string()).collect();
    let fetched =
        hub.repository("org/tiny", "main").and_then(|found| hub.download(&found.unwrap(), &files, &mut |_| Ok(())));
    fetched.map_err(|error| error.to_string())
}

#[test]
fn some_files_of_a_repository_are_downloaded_and_no_others_and_found_again_without_a_network() {
    let server = Server::new(|path, headers| {
        let mut files = files();
        files.insert("layer_3/params.safetensors", vec![3; 100]);
        files.insert("../evil", vec![0; 10]);
        answer(&files, path, headers)
    });
    let cache = tempfile::tempdir().unwrap();
    let online = hub(&server, cache.path());
    let listed = online.repository("org/tiny", "main").unwrap().unwrap();
    assert!(listed.unlisted().is_none() && listed.commit() == COMMIT);
    assert!(listed.files().contains(&"layer_3/params.safetensors".to_owned()));
    assert!(listed.files().iter().all(|file| !file.contains("..")), "names that lead out are no files");
    assert!(fetch(&online, &["../evil"]).unwrap_err().contains("the repository has no ../evil"));
    server.requests();

    let folder = fetch(&online, &["config.json", "layer_3/params.safetensors"]).unwrap();
    assert_eq!(fs::read(folder.join("layer_3/params.safetensors")).unwrap(), [3; 100]);
    assert_eq!(server.requests().iter().filter(|path| path.contains("/resolve/")).count(), 2);
    assert!(!folder.join("model-1.safetensors").exists());

    // Without a network, the cache stands for the repository, and says that it does.
    let unreachable = Hub::new("http://127.0.0.1:9", cache.path(), None, false);
    let offline = Hub::new(&server.address, cache.path(), None, true);
    for hub in [&unreachable, &offline] {
        let found = hub.repository("org/tiny", "main").unwrap().unwrap();
        assert_eq!(found.files(), ["config.json", "layer_3/params.safetensors"]);
        assert!(found.unlisted().is_some());
        assert_eq!(fetch(hub, &["layer_3/params.safetensors"]).unwrap(), folder);
        let said = fetch(hub, &["model-1.safetensors"]).unwrap_err();
        assert!(said.contains("the cache lacks model-1.safetensors ("), "{said}");
    }
    let empty = tempfile::tempdir().unwrap();
    let said = Hub::new("http://127.0.0.1:9", empty.path(), None, false).repository("org/tiny", "main").err().unwrap();
    assert!(said.to_string().contains("the hub cannot be reached"), "{said}");
    assert!(online.repository("org/missing", "main").unwrap().is_none());
    assert!(online.cached_repository("org/other", "main").unwrap().is_none());
}
