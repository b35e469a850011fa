//! Caches of the hub as `hf download`, `snapshot_download` and `from_pretrained` fill them. A complete checkpoint is used without
//! a request, with and without a network, and missing files are named.

use crate::golden::repository;
use crate::server::{Answer, Server};
use harvest::Checkpoint;
use harvest::hub::Hub;
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// A cache with one repository, `org/tiny`, which has the files of a golden checkpoint.
struct Cache {
    dir: TempDir,
}

impl Cache {
    fn new(checkpoint: &str) -> Self {
        let cache = Self { dir: tempfile::tempdir().unwrap() };
        cache.add(checkpoint, COMMIT);
        cache.point("main", COMMIT);
        cache
    }

    /// A snapshot as `snapshot_download` writes it: links to blobs, without records of files that do not exist.
    fn add(&self, checkpoint: &str, commit: &str) {
        let (snapshot, blobs) = (self.snapshot(commit), self.root().join("blobs"));
        fs::create_dir_all(&snapshot).unwrap();
        fs::create_dir_all(&blobs).unwrap();
        for path in fs::read_dir(repository().join("tests/golden").join(checkpoint)).unwrap().map(|e| e.unwrap().path())
        {
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            if !path.is_file() || name.starts_with("golden.") || name == "samples.json" {
                continue;
            }
            let blob = format!("{commit}-{name}");
            fs::copy(&path, blobs.join(&blob)).unwrap();
            show(&blobs.join(&blob), &snapshot.join(&name));
        }
    }

    fn point(&self, revision: &str, commit: &str) {
        let reference = self.root().join("refs").join(revision);
        fs::create_dir_all(reference.parent().unwrap()).unwrap();
        fs::write(reference, commit).unwrap();
    }

    fn root(&self) -> PathBuf {
        self.dir.path().join("models--org--tiny")
    }

    fn snapshot(&self, commit: &str) -> PathBuf {
        self.root().join("snapshots").join(commit)
    }

    fn remove(&self, file: &str) {
        fs::remove_file(self.snapshot(COMMIT).join(file)).unwrap();
    }

    /// The list of a commit's files, as `huggingface_hub` 2 writes it.
    fn list(&self, files: &[&str]) {
        let trees = self.root().join("trees");
        fs::create_dir_all(&trees).unwrap();
        let files: serde_json::Map<_, _> = files.iter().map(|file| ((*file).to_owned(), json!({"size": 1}))).collect();
        let list = json!({"format_version": 1, "files": files});
        fs::write(trees.join(format!("{COMMIT}.json")), list.to_string()).unwrap();
    }

    fn note_absent(&self, files: &[&str]) {
        let notes = self.root().join(".no_exist").join(COMMIT);
        fs::create_dir_all(&notes).unwrap();
        files.iter().for_each(|file| fs::write(notes.join(file), "").unwrap());
    }

    fn hub(&self, endpoint: &str, offline: bool) -> Hub {
        Hub::new(endpoint, self.dir.path(), None, offline)
    }

    /// Resolves the model without any request.
    fn offline(&self, model: &str) -> Result<PathBuf, String> {
        self.hub(NOWHERE, true).folder(model, &mut |_| Ok(())).map_err(|e| e.to_string())
    }

    /// Resolves the model with requests that nobody answers.
    fn unreachable(&self, model: &str) -> Result<PathBuf, String> {
        self.hub(NOWHERE, false).folder(model, &mut |_| Ok(())).map_err(|e| e.to_string())
    }
}

/// An address at which no server listens.
const NOWHERE: &str = "http://127.0.0.1:9";

#[cfg(unix)]
fn show(blob: &Path, link: &Path) {
    let name = Path::new("../../blobs").join(blob.file_name().unwrap());
    std::os::unix::fs::symlink(name, link).unwrap();
}

#[cfg(not(unix))]
fn show(blob: &Path, link: &Path) {
    fs::copy(blob, link).unwrap();
}

#[test]
fn a_complete_snapshot_of_every_family_is_used_without_a_request() {
    for checkpoint in [
        "llava-a",
        "llava-next-b",
        "llava_onevision-a",
        "idefics3-a",
        "smolvlm-b",
        "mistral3-a",
        "internvl-a",
        "qwen2_5_vl-a",
        "qwen3_vl-a",
        "gemma3-b",
        "gemma4-a",
        "paligemma-b",
        "chameleon-a",
        "text-qwen3",
    ] {
        let cache = Cache::new(checkpoint);
        let snapshot = cache.snapshot(COMMIT);
        for model in ["org/tiny", "org/tiny@main", &format!("org/tiny@{COMMIT}")] {
            assert_eq!(cache.offline(model).as_ref(), Ok(&snapshot), "{checkpoint}");
            assert_eq!(cache.unreachable(model).as_ref(), Ok(&snapshot), "{checkpoint}");
        }
        Checkpoint::open(&snapshot).unwrap();
    }
    let server = Server::new(|_, _| Answer::new(500));
    let cache = Cache::new("llava-a");
    assert_eq!(cache.hub(&server.address, false).folder("org/tiny", &mut |_| Ok(())).unwrap(), cache.snapshot(COMMIT));
    assert_eq!(server.requests(), Vec::<String>::new());
}

#[test]
fn copied_files_are_as_good_as_links() {
    // As on Windows, or with HF_HUB_DISABLE_SYMLINKS.
    let cache = Cache::new("llava-a");
    for path in fs::read_dir(cache.snapshot(COMMIT)).unwrap().map(|entry| entry.unwrap().path()).collect::<Vec<_>>() {
        let content = fs::read(&path).unwrap();
        fs::remove_file(&path).unwrap();
        fs::write(&path, content).unwrap();
    }
    fs::remove_dir_all(cache.root().join("blobs")).unwrap();
    assert_eq!(cache.offline("org/tiny"), Ok(cache.snapshot(COMMIT)));
    Checkpoint::open(&cache.snapshot(COMMIT)).unwrap();
}

#[cfg(unix)]
#[test]
fn a_missing_blob_is_named() {
    for file in
        ["model.safetensors", "config.json", "tokenizer.json", "chat_template.jinja", "preprocessor_config.json"]
    {
        let cache = Cache::new("llava-a");
        if !cache.snapshot(COMMIT).join(file).exists() {
            show(Path::new("gone"), &cache.snapshot(COMMIT).join(file));
        }
        let _ = fs::remove_file(cache.root().join("blobs").join(format!("{COMMIT}-{file}")));
        for error in [cache.offline("org/tiny").unwrap_err(), cache.unreachable("org/tiny").unwrap_err()] {
            assert!(error.contains(&format!("{file} (a broken link)")), "{error}");
        }
    }
    // If the weights are in parts, each part is required.
    let cache = Cache::new("llava-a");
    cache.remove("model.safetensors");
    let index = json!({"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}});
    fs::write(cache.snapshot(COMMIT).join("model.safetensors.index.json"), index.to_string()).unwrap();
    show(Path::new("gone"), &cache.snapshot(COMMIT).join("model-1.safetensors"));
    let error = cache.offline("org/tiny").unwrap_err();
    assert!(error.contains("model-1.safetensors (a broken link), model-2.safetensors"), "{error}");
}

#[test]
fn only_the_files_that_a_checkpoint_needs_are_required() {
    for file in ["config.json", "tokenizer.json", "model.safetensors", "preprocessor_config.json"] {
        let cache = Cache::new("llava-a");
        cache.remove(file);
        let error = cache.offline("org/tiny").unwrap_err();
        assert!(error.contains("HF_HUB_OFFLINE") && error.contains(&format!("lacks {file}")), "{error}");
        let error = cache.unreachable("org/tiny").unwrap_err();
        assert!(error.contains("cannot be reached") && error.contains(&format!("lacks {file}")), "{error}");
    }
    // A text-only model needs no image processor, and no model needs the settings of generation.
    let cache = Cache::new("text-qwen3");
    cache.remove("generation_config.json");
    assert_eq!(cache.offline("org/tiny"), Ok(cache.snapshot(COMMIT)));
    // A model with an image processor inside of another file needs no separate one.
    let cache = Cache::new("llava-c");
    assert!(!cache.snapshot(COMMIT).join("preprocessor_config.json").exists());
    assert_eq!(cache.offline("org/tiny"), Ok(cache.snapshot(COMMIT)));
}

#[test]
fn a_revision_that_was_never_fetched_is_reported() {
    let cache = Cache::new("llava-a");
    let newer = "fedcba9876543210fedcba9876543210fedcba98";
    assert!(cache.offline("org/tiny@v2").unwrap_err().contains("no refs/v2"));
    cache.point("v2", newer);
    let error = cache.offline("org/tiny@v2").unwrap_err();
    assert!(error.contains(newer) && error.contains("no folder"), "{error}");
    assert!(cache.offline("org/other").unwrap_err().contains("models--org--other"));
    // If there are several snapshots, the branch determines which one is used.
    cache.add("llava-b", newer);
    assert_eq!(cache.offline("org/tiny@v2"), Ok(cache.snapshot(newer)));
    assert_eq!(cache.offline("org/tiny"), Ok(cache.snapshot(COMMIT)));
    fs::write(cache.root().join("refs/main"), format!("{newer}\n")).unwrap();
    assert_eq!(cache.offline("org/tiny"), Ok(cache.snapshot(newer)));
}

/// A hub with the files of a golden checkpoint at one commit.
fn serve(checkpoint: &'static str) -> Server {
    let folder = repository().join("tests/golden").join(checkpoint);
    Server::new(move |path, _| {
        if path.starts_with("/api/models/org/tiny/revision/") {
            let files =
                fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap()).filter(|entry| entry.path().is_file());
            let files: Vec<Value> = files
                .map(|f| json!({"rfilename": f.file_name().to_str().unwrap(), "size": f.metadata().unwrap().len()}))
                .collect();
            return Answer::ok(json!({"sha": COMMIT, "siblings": files}).to_string().into_bytes());
        }
        match path.strip_prefix(&format!("/org/tiny/resolve/{COMMIT}/")) {
            Some(name) => Answer::ok(fs::read(folder.join(name)).unwrap()),
            None => Answer::new(404),
        }
    })
}

#[test]
fn only_a_template_that_python_did_not_request_is_fetched() {
    // `AutoModel.from_pretrained` and `AutoTokenizer.from_pretrained` leave such a cache for a model with an old template.
    let server = serve("llava-a");
    let cache = Cache::new("llava-a");
    let template = ["chat_template.jinja", "chat_template.json"].into_iter();
    let template = template.filter(|file| cache.snapshot(COMMIT).join(file).exists()).collect::<Vec<_>>();
    assert_eq!(template.len(), 1);
    cache.remove(template[0]);
    // Without a network, it is unknown that the file exists.
    assert_eq!(cache.unreachable("org/tiny"), Ok(cache.snapshot(COMMIT)));
    let hub = cache.hub(&server.address, false);
    assert_eq!(hub.folder("org/tiny", &mut |_| Ok(())).unwrap(), cache.snapshot(COMMIT));
    let asked = server.requests();
    assert_eq!(asked.iter().filter(|path| path.contains("/resolve/")).count(), 1, "{asked:?}");
    assert!(asked.iter().any(|path| path.contains(template[0])) && asked[0].contains(COMMIT), "{asked:?}");
    // Now it is known that the file exists.
    hub.folder("org/tiny", &mut |_| Ok(())).unwrap();
    assert_eq!(server.requests(), Vec::<String>::new());
}

#[test]
fn a_list_of_files_distinguishes_missing_from_nonexistent_files() {
    // A base model has no template, which the list shows.
    let server = Server::new(|_, _| Answer::new(500));
    let cache = Cache::new("text-mistral");
    cache.list(&["config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"]);
    cache.hub(&server.address, false).folder("org/tiny", &mut |_| Ok(())).unwrap();
    assert_eq!(server.requests(), Vec::<String>::new());
    // Records of nonexistent files show it, too.
    let cache = Cache::new("text-mistral");
    let there = cache.snapshot(COMMIT);
    let absent = [
        "special_tokens_map.json",
        "added_tokens.json",
        "chat_template.jinja",
        "chat_template.json",
        "preprocessor_config.json",
        "processor_config.json",
        "tokenizer_config.json",
    ];
    cache.note_absent(&absent.into_iter().filter(|file| !there.join(file).exists()).collect::<Vec<_>>());
    cache.hub(&server.address, false).folder("org/tiny", &mut |_| Ok(())).unwrap();
    assert_eq!(server.requests(), Vec::<String>::new());
    // A listed template that was not downloaded (`hf download --include`) would change the prompts.
    let cache = Cache::new("text-mistral");
    cache.list(&["config.json", "tokenizer.json", "chat_template.jinja", "model.safetensors", "README.md"]);
    assert!(cache.offline("org/tiny").unwrap_err().contains("lacks chat_template.jinja"));
}

#[test]
fn a_read_only_cache_is_read() {
    // A base model in a shared cache: the hub is asked for a template and has none, which cannot be recorded.
    let server = serve("text-mistral");
    let cache = Cache::new("text-mistral");
    fs::write(cache.root().join(".no_exist"), "in the place of a folder").unwrap();
    for _ in 0..2 {
        let folder = cache.hub(&server.address, false).folder("org/tiny", &mut |_| Ok(())).unwrap();
        assert_eq!(folder, cache.snapshot(COMMIT));
        assert_eq!(server.requests().len(), 1);
    }
}

#[test]
fn a_single_file_of_weights_on_the_hub_is_fetched_instead_of_its_parts() {
    let folder = repository().join("tests/golden/text-qwen2");
    let server = Server::new(move |path, _| {
        if path.starts_with("/api/models/") {
            let names = [
                "config.json",
                "tokenizer.json",
                "model.safetensors",
                "model.safetensors.index.json",
                "model-1.safetensors",
            ];
            let files = names.map(|name| json!({"rfilename": name}));
            return Answer::ok(json!({"sha": COMMIT, "siblings": files}).to_string().into_bytes());
        }
        let name = path.rsplit('/').next().unwrap();
        fs::read(folder.join(name)).map_or(Answer::new(404), Answer::ok)
    });
    let dir = tempfile::tempdir().unwrap();
    let snapshot = Hub::new(&server.address, dir.path(), None, false).folder("org/tiny", &mut |_| Ok(())).unwrap();
    assert!(snapshot.join("model.safetensors").is_file());
    let asked = server.requests();
    assert!(!asked.iter().any(|path| path.contains("index.json") || path.contains("model-1")), "{asked:?}");
}

#[test]
fn a_repository_with_other_weights_or_an_adapter_is_rejected_by_name() {
    for (file, named) in [
        ("pytorch_model.bin", "pytorch_model.bin cannot be used"),
        ("adapter_config.json", "adapters are not supported"),
    ] {
        let server = Server::new(move |path, _| {
            let files = ["config.json", "tokenizer.json", file].map(|name| json!({"rfilename": name}));
            let listing = json!({"sha": COMMIT, "siblings": files}).to_string().into_bytes();
            Answer::ok(if path.starts_with("/api/models/") { listing } else { b"{}".to_vec() })
        });
        let dir = tempfile::tempdir().unwrap();
        let hub = Hub::new(&server.address, dir.path(), None, false);
        let error = hub.folder("org/tiny", &mut |_| Ok(())).unwrap_err().to_string();
        assert!(error.contains(named), "{error}");
        assert!(!server.requests().iter().any(|path| path.ends_with(file)), "{error}");
    }
}
