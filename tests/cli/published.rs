//! Published autoencoders by their names on a local mock of the hub: each published layout is imported and indexed without training, what
//! does not belong to the run is rejected before it is downloaded, and released ones are found by words.

use crate::server::{Answer, Server};
use crate::tool::{data_set, fails, json, sae, said, tiny_model};
use sae_core::autoencoder::formats::{self, Format, ModelStream, Origin, Saved, torch, zip};
use sae_core::autoencoder::{Activation, Architecture, Weights};
use sae_core::tensors;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
const D: usize = 32;
const F: usize = 48;
const K: usize = 5;

/// Files by repository and name.
pub type Repositories = BTreeMap<String, BTreeMap<String, Vec<u8>>>;

fn wave(n: usize, by: f32) -> Vec<f32> {
    (0..n).map(|i| ((i as f32 + 1.0) * by).sin()).collect()
}

fn turned(values: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    formats::arrays::transposed(values, rows, columns)
}

/// An autoencoder of the tiny model's second block.
fn made(activation: Activation, architecture: Architecture) -> Saved {
    let (w_enc, w_dec) = (wave(F * D, 0.37), wave(F * D, 1.1));
    let (b_enc, b_dec) = (wave(F, 0.9), wave(D, 0.3));
    let weights = Weights { d_in: D, d_sae: F, w_enc, b_enc, w_dec, b_dec, activation, ..Weights::default() };
    let origin = Origin { model: "org/llava-a".into(), hook: "layers.1".into(), layer: 1, ..Origin::default() };
    Saved { architecture, weights, origin }
}

pub fn top_k() -> Saved {
    made(Activation::TopK { k: K }, Architecture::TopK)
}

fn jump_relu() -> Saved {
    made(Activation::JumpRelu { threshold: vec![0.25; F] }, Architecture::JumpRelu)
}

/// An array as NumPy saves it.
fn npy(shape: &str, values: &[f32]) -> Vec<u8> {
    let mut header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({shape}), }}");
    let padding = (64 - (10 + header.len() + 1) % 64) % 64;
    header += &" ".repeat(padding);
    header.push('\n');
    let length = (header.len() as u16).to_le_bytes();
    let numbers = values.iter().flat_map(|value| value.to_le_bytes());
    [&b"\x93NUMPY\x01\x00"[..], &length, header.as_bytes()].concat().into_iter().chain(numbers).collect()
}

/// A repository for each layout that people publish in, with the path of its autoencoder.
fn repositories(dir: &Path) -> (Repositories, Vec<(&'static str, Saved)>) {
    let (file, mut all, mut published) = (dir.join("file"), Repositories::new(), Vec::new());
    let mut put = |repository: &str, name: &str, content: Vec<u8>| {
        all.entry(repository.into()).or_default().insert(name.into(), content);
    };
    let written = |write: &dyn Fn(&Path)| {
        write(&file);
        fs::read(&file).unwrap()
    };
    for (repository, path, format) in
        [("org/lens", "blocks.1", Format::SaeLens), ("org/sparse", "layers.1", Format::Sparsify)]
    {
        let folder = dir.join(path);
        formats::save(format, &folder, &top_k()).unwrap();
        for entry in fs::read_dir(&folder).unwrap().map(Result::unwrap) {
            put(
                repository,
                &format!("{path}/{}", entry.file_name().to_str().unwrap()),
                fs::read(entry.path()).unwrap(),
            );
        }
        put(repository, "README.md", b"# not needed".to_vec());
    }
    published.push(("hub:org/lens/blocks.1", top_k()));
    published.push(("hub:org/sparse/layers.1", top_k()));

    let Weights { w_enc, b_enc, w_dec, b_dec, .. } = jump_relu().weights;
    let (enc, threshold) = (turned(&w_enc, F, D), vec![0.25; F]);
    let npz = written(&|path| {
        let entries = [
            ("W_enc.npy", npy("32, 48", &enc)),
            ("W_dec.npy", npy("48, 32", &w_dec)),
            ("b_enc.npy", npy("48,", &b_enc)),
            ("b_dec.npy", npy("32,", &b_dec)),
            ("threshold.npy", npy("48,", &threshold)),
        ];
        zip::write(path, &entries.map(|(name, bytes)| (name.to_owned(), bytes))).unwrap();
    });
    put("org/scope-1", "layer_1/width_48/average_l0_5/params.npz", npz);
    published.push(("hub:org/scope-1/layer_1/width_48/average_l0_5", jump_relu()));

    let params = written(&|path| {
        let arrays: [(&str, &[usize], &[f32]); 5] = [
            ("w_enc", &[D, F], &enc),
            ("w_dec", &[F, D], &w_dec),
            ("b_enc", &[F], &b_enc),
            ("b_dec", &[D], &b_dec),
            ("threshold", &[F], &threshold),
        ];
        tensors::write(path, tensors::Dtype::F32, &arrays).unwrap();
    });
    let config =
        json!({"architecture": "jump_relu", "model_name": "llava-a", "hf_hook_point_in": "model.layers.1.output"});
    put("org/scope-2", "resid_post/layer_1_width_48/params.safetensors", params);
    put("org/scope-2", "resid_post/layer_1_width_48/config.json", config.to_string().into_bytes());
    published.push(("hub:org/scope-2/resid_post/layer_1_width_48/params.safetensors", jump_relu()));

    let state = written(&|path| {
        let tensors: [(&str, &[usize], &[f32]); 4] = [
            ("W_enc", &[F, D], &w_enc),
            ("W_dec", &[D, F], &turned(&w_dec, F, D)),
            ("b_enc", &[F], &b_enc),
            ("b_dec", &[D], &b_dec),
        ];
        torch::write(path, &tensors).unwrap();
    });
    put("org/SAE-Res-llava-a-W48-L0_5", "layer0.sae.pt", b"another one".to_vec());
    put("org/SAE-Res-llava-a-W48-L0_5", "layer1.sae.pt", state);
    published.push(("hub:org/SAE-Res-llava-a-W48-L0_5/layer1.sae.pt", top_k()));

    // Of this one, the decoder's bias is subtracted first, so what it adds to the encoder's bias is taken away here.
    let mut bias = b_enc.clone();
    for (bias, row) in bias.iter_mut().zip(w_enc.chunks(D)) {
        *bias += row.iter().zip(&b_dec).map(|(w, b)| w * b).sum::<f32>();
    }
    let state = written(&|path| {
        let tensors: [(&str, &[usize], &[f32]); 4] = [
            ("encoder.weight", &[F, D], &w_enc),
            ("decoder.weight", &[D, F], &turned(&w_dec, F, D)),
            ("encoder.bias", &[F], &bias),
            ("b_dec", &[D], &b_dec),
        ];
        torch::write(path, &tensors).unwrap();
    });
    let trainer = json!({"dict_class": "AutoEncoderTopK", "k": K, "layer": 1, "lm_name": "org/llava-a", "submodule_name": "resid_post_layer_1"});
    put("org/dictionaries", "run/resid_post_layer_1/trainer_0/ae.pt", state);
    put(
        "org/dictionaries",
        "run/resid_post_layer_1/trainer_0/config.json",
        json!({"trainer": trainer}).to_string().into_bytes(),
    );
    published.push(("hub:org/dictionaries", top_k()));
    (all, published)
}

/// Answers like the hub.
pub fn answer(all: &Repositories, path: &str, headers: &[String]) -> Answer {
    let repository = |rest: &str| {
        let mut parts = rest.splitn(3, '/');
        Some((format!("{}/{}", parts.next()?, parts.next()?), parts.next()?.to_owned()))
    };
    if let Some((name, rest)) = path.strip_prefix("/api/models/").and_then(repository) {
        assert!(rest.starts_with("revision/"), "{path}");
        let Some(files) = all.get(&name) else { return Answer::new(401).header("x-error-code", "RepoNotFound") };
        if !["revision/main", &format!("revision/{COMMIT}")].iter().any(|revision| rest.starts_with(*revision)) {
            return Answer::new(404).header("x-error-code", "RevisionNotFound");
        }
        let siblings = files.iter().map(|(name, content)| json!({"rfilename": name, "size": content.len()}));
        return Answer::ok(json!({"sha": COMMIT, "siblings": siblings.collect::<Vec<_>>()}).to_string().into_bytes());
    }
    let Some((name, rest)) = path.strip_prefix('/').and_then(repository) else { return Answer::new(404) };
    let file = rest.strip_prefix(&format!("resolve/{COMMIT}/")).unwrap_or_default();
    if name.contains("gated") && !headers.iter().any(|header| header == "authorization: bearer mine") {
        return Answer::new(403).header("x-error-code", "GatedRepo");
    }
    match all.get(&name).and_then(|files| files.get(file)) {
        Some(content) => Answer::ok(content.clone()),
        None => Answer::new(404).header("x-error-code", "EntryNotFound"),
    }
}

/// A run of the tiny model, and a mock hub.
struct World {
    dir: tempfile::TempDir,
    server: Server,
    published: Vec<(&'static str, Saved)>,
}

impl World {
    fn new(more: impl FnOnce(&mut Repositories)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (mut all, published) = repositories(dir.path());
        more(&mut all);
        let server = Server::new(move |path, headers| answer(&all, path, headers));
        let data = data_set(dir.path(), 6);
        let world = Self { dir, server, published };
        let [model, data, run] = [tiny_model(), data, world.run()].map(|path| path.to_str().unwrap().to_owned());
        json(&["harvest", "--model", &model, "--data", &data, "--run", &run, "--layers", "1"]);
        world
    }

    fn run(&self) -> PathBuf {
        self.dir.path().join("run")
    }

    fn import(&self, from: &str, more: &[&str]) -> Output {
        self.sae("import", &[&["--from", from][..], more].concat())
    }

    /// Runs a command on the run, with the mock hub.
    fn sae(&self, name: &str, more: &[&str]) -> Output {
        let mut command = sae();
        command.args([name, "--json", "--run"]).arg(self.run()).args(more);
        command
            .env("HF_ENDPOINT", &self.server.address)
            .env("HF_HOME", self.dir.path().join("hf"))
            .env_remove("HF_TOKEN");
        for variable in ["HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"] {
            command.env_remove(variable);
        }
        command.output().unwrap()
    }

    fn imported(&self, from: &str, more: &[&str]) -> Value {
        let output = self.import(from, more);
        assert!(output.status.success(), "{from}: {}", said(&output));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    fn refused(&self, from: &str, more: &[&str]) -> String {
        let output = self.import(from, more);
        assert!(!output.status.success() && output.stdout.is_empty(), "{from}");
        said(&output)
    }
}

#[test]
fn every_published_layout_is_imported_by_its_name_and_only_its_files_are_downloaded() {
    let world = World::new(|_| ());
    for (from, expected) in &world.published {
        world.server.requests();
        let name = from.replace(|c: char| !c.is_ascii_alphanumeric(), "-");
        let planned = world.refused(from, &["--name", &name, "--dry-run"]);
        assert!(planned.contains("a plan downloads nothing"), "{planned}");
        let report = world.imported(from, &["--name", &name]);
        assert_eq!((&report["hook"], &report["published"]["revision"]), (&json!("layers.1"), &json!(COMMIT)), "{from}");
        let found = formats::load(&world.run().join("saes").join(&name)).unwrap();
        assert_eq!(found.weights.activation, expected.weights.activation, "{from}");
        for (found, expected) in [
            (&found.weights.w_enc, &expected.weights.w_enc),
            (&found.weights.w_dec, &expected.weights.w_dec),
            (&found.weights.b_enc, &expected.weights.b_enc),
            (&found.weights.b_dec, &expected.weights.b_dec),
        ] {
            assert_eq!(found.len(), expected.len());
            assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-5), "{from}");
        }
        let downloaded: Vec<_> =
            world.server.requests().into_iter().filter(|path| path.contains("/resolve/")).collect();
        assert!(
            !downloaded.is_empty() && downloaded.iter().all(|path| !path.ends_with(".md") && !path.contains("layer0")),
            "{downloaded:?}"
        );
        // What is in the cache is planned, and not downloaded again.
        world.imported(from, &["--name", "again", "--dry-run"]);
        let record: Value = serde_json::from_slice(&fs::read(world.run().join("run.json")).unwrap()).unwrap();
        assert_eq!(record["steps"][format!("import/{name}")]["published"]["revision"], COMMIT);
    }
}

#[test]
fn a_published_autoencoder_is_fine_tuned_by_its_name_with_the_settings_of_its_files() {
    let world = World::new(|_| ());
    for (n, (from, expected)) in world.published.iter().enumerate() {
        let name = format!("tuned-{n}");
        let train = ["--hook", "layers.1", "--init", from, "--name", &name, "--steps", "2", "--batch", "32"];
        // The file of Qwen-Scope does not say how many features are active.
        let more = ["--lr", "1e-12", "--buffer", "64", "--k", "5", "--device", "cpu"];
        let train = [&train[..], &more].concat();
        let planned = world.sae("train", &[&train[..], &["--dry-run"]].concat());
        assert!(said(&planned).contains("a plan downloads nothing"), "{}", said(&planned));
        let trained = world.sae("train", &train);
        assert!(trained.status.success(), "{from}: {}", said(&trained));
        let found = formats::load(&world.run().join("saes").join(&name)).unwrap();
        assert_eq!((found.architecture, found.weights.d_sae), (expected.architecture, F), "{from}");
        let weights = [(&found.weights, &expected.weights)];
        for (a, b) in weights
            .iter()
            .flat_map(|(a, b)| [(&a.w_enc, &b.w_enc), (&a.w_dec, &b.w_dec), (&a.b_enc, &b.b_enc), (&a.b_dec, &b.b_dec)])
        {
            let near = |(a, b): (&f32, &f32)| (a - b).abs() < 1e-4 * b.abs().max(1.0);
            assert!(a.len() == b.len() && a.iter().zip(b).all(near), "{from}");
        }
        let record: Value = serde_json::from_slice(&fs::read(world.run().join("run.json")).unwrap()).unwrap();
        assert_eq!(record["steps"][format!("train/{name}")]["from"], *from);
    }
}

#[test]
fn features_of_a_published_autoencoder_are_there_after_one_command() {
    let world = World::new(|_| ());
    let report = world.imported("hub:org/lens", &["--index"]);
    assert_eq!((&report["sae"], &report["index"]["features"]), (&json!("lens"), &json!(F)));
    let run = world.run();
    assert!(run.join("features/lens/features.parquet").is_file());
    let eval = json(&["eval", "--run", run.to_str().unwrap()]);
    assert_eq!(eval["all"]["l0"], K as f64, "{eval}");
    let taken = world.refused("hub:org/lens", &[]);
    assert!(taken.contains("the run already has an autoencoder lens"), "{taken}");
}

#[test]
fn an_autoencoder_of_another_model_or_hook_is_rejected_before_it_is_downloaded() {
    let world = World::new(|all| {
        let folder = all["org/lens"].clone();
        let config = |model: &str, hook: &str| {
            let mut config: Value = serde_json::from_slice(&folder["blocks.1/cfg.json"]).unwrap();
            config["metadata"]["model_name"] = model.into();
            config["metadata"]["hook_name"] = hook.into();
            config["metadata"].as_object_mut().unwrap().remove("sae_workbench");
            config.to_string().into_bytes()
        };
        for (name, model, hook) in [
            ("org/other-model", "org/gemma", "blocks.1.hook_resid_post"),
            ("org/other-layer", "org/llava-a", "blocks.7.hook_resid_post"),
            ("org/heads", "org/llava-a", "blocks.1.attn.hook_z"),
            ("org/silent", "", ""),
        ] {
            let mut files = folder.clone();
            files.insert("blocks.1/cfg.json".into(), config(model, hook));
            all.insert(name.into(), files);
        }
    });
    // The list of released autoencoders says what this one was trained on.
    for (from, parts) in [
        (
            "hub:google/gemma-scope-2-4b-it/resid_post/layer_17_width_16k_l0_medium",
            ["trained on layers.17, and the run has activations of layers.1", "hint: capture layers.17"],
        ),
        (
            "hub:gemma-scope-2-4b-it-mlp/layer_17_width_16k_l0_big",
            [
                "trained on layers.17.mlp_out, and the run has activations of layers.1",
                "hint: capture layers.17.mlp_out",
            ],
        ),
        (
            "hub:google/gemma-scope-2-4b-it/resid_post_all/layer_1_width_16k_l0_small",
            ["google/gemma-3-4b-it", "captured from llava-a"],
        ),
        ("hub:mistral-7b-res-wg/blocks.8.hook_resid_pre", ["mistral-7b-res-wg", "need settings that no file has"]),
    ] {
        let refused = world.refused(from, &[]);
        assert!(parts.iter().all(|part| refused.contains(part)), "{from}: {refused}");
    }
    assert_eq!(world.server.requests(), Vec::<String>::new());
    // Of others, their files do.
    for (from, parts) in [
        (
            "hub:org/other-model",
            ["trained on the model org/gemma", "hint: choose another --run, or choose --any-model"],
        ),
        (
            "hub:org/other-layer",
            ["trained on layers.7, and the run has activations of layers.1", "hint: capture layers.7"],
        ),
        (
            "hub:org/heads",
            ["trained on blocks.1.attn.hook_z, which is not captured", "hint: choose one of another hook"],
        ),
        ("hub:org/silent", ["neither the files", "hint: choose --hook"]),
    ] {
        let refused = world.refused(from, &[]);
        assert!(parts.iter().all(|part| refused.contains(part)), "{from}: {refused}");
        assert!(!world.run().join("saes").exists(), "a refusal imports nothing");
    }
    // Whoever knows better may say so.
    world.imported("hub:org/other-model", &["--any-model", "--name", "model"]);
    world.imported("hub:org/other-layer", &["--hook", "layers.1", "--name", "layer"]);
    world.imported("hub:org/silent", &["--hook", "layers.1", "--name", "silent"]);
}

#[test]
fn unknown_names_gated_repositories_and_half_files_say_what_to_do() {
    let world = World::new(|all| {
        let lens = all["org/lens"].clone();
        all.insert("org/gated".into(), lens.clone());
        let mut several = lens.clone();
        several.extend(lens.iter().map(|(name, content)| (format!("old/{name}"), content.clone())));
        all.insert("org/several".into(), several);
        all.insert("org/empty".into(), [("README.md".to_owned(), b"#".to_vec())].into());
        let mut half = lens;
        half.get_mut("blocks.1/sae_weights.safetensors").unwrap().truncate(999);
        all.insert("org/half".into(), half);
    });
    for (from, parts) in [
        ("hub:google/gemma-scope-2-4b-itt", ["no such repository", "the nearest are google/gemma-scope-2-4b-it"]),
        ("hub:org/lens/blocks.2", ["no autoencoder at this path", "the nearest are blocks.1"]),
        ("hub:org/several", ["2 autoencoders are below this path", "blocks.1, old/blocks.1"]),
        ("hub:org/empty", ["no autoencoder of a known format", "org/empty"]),
        ("hub:org/lens@v9", ["no revision v9", "org/lens"]),
        ("hub:org/half", ["sae_weights.safetensors", "not a whole safetensors file"]),
        ("hub:org/x y", ["invalid model name", "org/x y"]),
    ] {
        let refused = world.refused(from, &[]);
        assert!(parts.iter().all(|part| refused.contains(part)), "{from}: {refused}");
    }
    let page = format!("hint: accept its terms at {}/org/gated, and set HF_TOKEN", world.server.address);
    let gated = world.refused("hub:org/gated", &[]);
    assert!(gated.contains("the repository is gated") && gated.contains(&page), "{gated}");
    let mut command = sae();
    command.args(["import", "--from", "hub:org/gated", "--run"]).arg(world.run()).env("HF_TOKEN", "mine");
    command
        .env("HF_ENDPOINT", &world.server.address)
        .env("HF_HOME", world.dir.path().join("hf"))
        .env_remove("HF_HUB_CACHE");
    let allowed = command.output().unwrap();
    assert!(allowed.status.success(), "{}", said(&allowed));
    for (from, part) in
        [("hub:org", "expected hub:OWNER/REPO"), ("hub:gpt2-small-res-jb/blocks.99", "blocks.9.hook_resid_pre")]
    {
        let wrong = world.import(from, &[]);
        assert!(wrong.status.code() == Some(2) && said(&wrong).contains(part), "{from}: {}", said(&wrong));
    }
    let both = world.refused("hub:org/lens", &["a/path"]);
    assert!(both.contains("there is no path to read: a/path"), "{both}");
}

#[test]
fn without_a_network_the_cache_is_used_and_what_it_lacks_is_named() {
    let world = World::new(|_| ());
    world.imported("hub:org/lens", &[]);
    let offline = |from: &str, name: &str, env: &[(&str, &str)]| {
        let mut command = sae();
        command.args(["import", "--json", "--from", from, "--name", name, "--run"]).arg(world.run());
        command
            .env("HF_ENDPOINT", "http://127.0.0.1:9")
            .env("HF_HOME", world.dir.path().join("hf"))
            .env_remove("HF_HUB_CACHE");
        command.envs(env.iter().copied()).output().unwrap()
    };
    for (name, env) in [("set", &[("HF_HUB_OFFLINE", "1")][..]), ("unreachable", &[])] {
        let found = offline("hub:org/lens", name, env);
        assert!(found.status.success(), "{}", said(&found));
    }
    let lacking = said(&offline("hub:org/sparse", "s", &[("HF_HUB_OFFLINE", "1")]));
    assert!(lacking.contains("HF_HUB_OFFLINE is set, and the cache has no folder"), "{lacking}");
    let unreachable = said(&offline("hub:org/sparse", "s", &[]));
    assert!(unreachable.contains("the hub cannot be reached"), "{unreachable}");
    let elsewhere = said(&offline("hub:org/lens/blocks.2", "s", &[("HF_HUB_OFFLINE", "1")]));
    assert!(elsewhere.contains("only its files in the cache were looked at"), "{elsewhere}");
}

#[test]
fn a_published_crosscoder_without_scales_gets_those_of_the_runs() {
    let mut saved = made(Activation::Relu, Architecture::Relu);
    saved.weights = Weights {
        d_in: 2 * D,
        w_enc: wave(F * 2 * D, 0.37),
        w_dec: wave(F * 2 * D, 1.1),
        b_dec: wave(2 * D, 0.3),
        ..saved.weights
    };
    let stream = ModelStream { run: PathBuf::new(), model: String::new(), scale: 1.0 };
    saved.origin.models = vec![stream; 2];
    let folder = tempfile::tempdir().unwrap();
    formats::save(Format::CrosscoderPt, folder.path(), &saved).unwrap();
    let world = World::new(|all| {
        let mut files: BTreeMap<String, Vec<u8>> = BTreeMap::new();
        for entry in fs::read_dir(folder.path()).unwrap().map(Result::unwrap) {
            files.insert(entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap());
        }
        all.insert("org/scaled".into(), files.clone());
        let mut config: Value = serde_json::from_slice(&files["cfg.json"]).unwrap();
        config.as_object_mut().unwrap().remove("input_scales");
        files.insert("cfg.json".into(), config.to_string().into_bytes());
        all.insert("org/unscaled".into(), files);
    });
    let run = world.run();
    let with = ["--with", run.to_str().unwrap()];
    world.imported("hub:org/scaled", &[&with[..], &["--name", "scaled"]].concat());
    let report = world.imported("hub:org/unscaled", &[&with[..], &["--name", "unscaled"]].concat());
    let manifest: Value =
        serde_json::from_slice(&fs::read(run.join("activations/layers.1/manifest.json")).unwrap()).unwrap();
    let scale = (D as f64).sqrt() / manifest["mean_norm"].as_f64().unwrap();
    assert!(
        report["is"]["notes"][0].as_str().unwrap().contains(&format!("scaled by {scale:.4} and {scale:.4}")),
        "{report}"
    );
    let [scaled, unscaled] = ["scaled", "unscaled"].map(|name| formats::load(&run.join("saes").join(name)).unwrap());
    assert!((unscaled.origin.models[1].scale as f64 / scale - 1.0).abs() < 1e-5);
    for (a, b) in scaled.weights.w_enc.iter().zip(&unscaled.weights.w_enc) {
        assert!((*a as f64 * scale - *b as f64).abs() < 1e-5);
    }
    for (a, b) in scaled.weights.w_dec.iter().zip(&unscaled.weights.w_dec) {
        assert!((*a as f64 / scale - *b as f64).abs() < 1e-4);
    }
    // And back into the published layout.
    let out = world.dir.path().join("out");
    let args = [
        "export",
        "--run",
        run.to_str().unwrap(),
        "--sae",
        "unscaled",
        "--to",
        "crosscoder-pt",
        "--out",
        out.to_str().unwrap(),
    ];
    json(&args);
    assert_eq!(formats::load(&out).unwrap().weights, unscaled.weights);
}

#[test]
fn released_autoencoders_are_found_by_words_and_unknown_words_have_nearest_names() {
    let found = json(&["saes", "search", "gemma-3-4b-it", "layer", "17", "residual"]);
    let first = &found["saes"][0];
    assert_eq!(
        (&first["model"], &first["hook"], &first["captured"]),
        (&json!("google/gemma-3-4b-it"), &json!("layers.17"), &json!(true))
    );
    assert!(first["from"].as_str().unwrap().starts_with("hub:google/gemma-scope-2-4b-it/resid_post"), "{first}");
    let output = sae().args(["saes", "search", "gemma-3-4b-it", "layer", "17", "--limit", "3"]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.lines().count() == 5 && text.contains("captured") && text.contains("3 of "), "{text}");
    let missing = fails(1, &["saes", "search", "gema-3-4b-it", "layer", "17"]);
    assert!(
        missing.contains("the nearest are") && missing.contains("google/gemma-3-4b-it") && missing.contains("hint: "),
        "{missing}"
    );
}
