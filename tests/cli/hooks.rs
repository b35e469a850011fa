//! Hooks within decoder blocks through the program: captured beside the residual stream, trained on (stored and straight from the
//! model), indexed, scored and evaluated in the model; what has no meaning there is refused with the reason.

use crate::tool::{data_set, fails, json, sae, said, tiny_model};
use sae_core::store::{Hook, Store};
use sae_core::{Run, table};
use serde_json::Value;
use std::path::Path;

const HOOKS: [&str; 4] = ["layers.1.attn_in", "layers.1.attn_out", "layers.1.mlp_in", "layers.1.mlp_out"];

/// Arguments that name the model and data of a folder.
fn reading(dir: &Path) -> [String; 4] {
    let data = data_set(dir, 10).to_str().unwrap().to_owned();
    ["--model".into(), tiny_model().to_str().unwrap().into(), "--data".into(), data]
}

/// A harvest of the data into a run of this name.
fn harvest(dir: &Path, name: &str, more: &[&str]) -> (Value, String) {
    let (run, reading) = (dir.join(name).to_str().unwrap().to_owned(), reading(dir));
    let reading: Vec<&str> = reading.iter().map(String::as_str).collect();
    let sizes = ["--device", "cpu", "--shard-tokens", "200"];
    (json(&[&["harvest", "--run", &run], &reading[..], &sizes, more].concat()), run)
}

fn values(run: &str, hook: &str) -> Vec<f32> {
    let store = Store::open(&Run::open(run.as_ref()).unwrap(), hook).unwrap();
    let mut values = Vec::new();
    for n in 0..store.shards() {
        let shard = store.shard(n).unwrap();
        shard.read(0..shard.rows(), &mut values);
    }
    values
}

#[test]
fn hooks_within_a_block_are_captured_trained_on_and_evaluated() {
    let dir = tempfile::tempdir().unwrap();
    let hooks = HOOKS.join(",");
    let (report, run) = harvest(dir.path(), "run", &["--layers", "1", "--hooks", &hooks]);
    assert_eq!(report["hooks"], serde_json::json!([&HOOKS[..], &["layers.1"]].concat()));
    let listed = json(&["info", &run]);
    let names: Vec<&str> =
        listed["activations"].as_array().unwrap().iter().map(|a| a["hook"].as_str().unwrap()).collect();
    assert!(HOOKS.iter().all(|hook| names.contains(hook)) && names.len() == 5, "{names:?}");
    assert_eq!(json(&["info", &format!("{run}/activations/layers.1.mlp_in")])["hook"], "layers.1.mlp_in");

    let reading = reading(dir.path());
    let reading: Vec<&str> = reading.iter().map(String::as_str).collect();
    let recipe = ["--features", "64", "--k", "4", "--arch", "topk", "--batch", "64", "--steps", "5", "--device", "cpu"];
    for hook in ["layers.1.attn_in", "layers.1.mlp_out"] {
        let name = hook.rsplit('.').next().unwrap();
        json(&[&["train", "--run", &run, "--hook", hook, "--name", name], &recipe[..]].concat());
        let config = std::fs::read_to_string(format!("{run}/saes/{name}/cfg.json")).unwrap();
        let theirs = sae_core::store::hooks::to_sae_lens(hook);
        assert!(config.contains(&theirs) && config.contains(hook), "{config}");

        let indexed = json(&["index", "--run", &run, "--sae", name]);
        let is_in_stream = hook.ends_with("_out");
        assert_eq!(indexed["words_by"].is_string(), is_in_stream, "{hook}: {indexed}");
        let promoted = table::read(format!("{run}/features/{name}/logits.parquet").as_ref(), &[]);
        assert_eq!(promoted.is_ok_and(|rows| rows.num_rows() > 0), is_in_stream, "{hook}");
        let scored = json(&["score", "--run", &run, "--sae", name]);
        assert!(scored["samples"].as_u64().is_none_or(|samples| samples == 10), "{scored}");

        let found = json(&[&["eval", "--run", &run, "--sae", name, "--device", "cpu"], &reading[..]].concat());
        let losses = &found["model"]["text"]["cross_entropy"];
        let loss = |variant: &str| losses[variant]["value"].as_f64().unwrap();
        assert!(loss("replaced") != loss("original") && loss("zero") != loss("original"), "{hook}: {losses:#}");
        assert!((loss("original") - loss("zero")).abs() < 10.0, "{hook}: {losses:#}");
    }
    let lens = fails(1, &["index", "--run", &run, "--sae", "attn_in", "--model", tiny_model().to_str().unwrap()]);
    assert!(
        lens.contains("directions at layers.1.attn_in promote no tokens") && lens.contains("--no-promoted-tokens"),
        "{lens}"
    );
    let output = sae().args(["index", "--run", &run, "--sae", "attn_in"]).output().unwrap();
    assert!(String::from_utf8_lossy(&output.stdout).contains("not of the residual stream"), "{}", said(&output));

    // Straight from the model, the same activations train the same autoencoder as those of a run of this hook alone.
    let live = dir.path().join("live").to_str().unwrap().to_owned();
    let train = ["train", "--run", &live, "--hook", "layers.1.mlp_out", "--name", "live"];
    let trained = json(&[&train[..], &reading, &recipe].concat());
    assert_eq!(json(&["info", &format!("{live}/saes/live")])["hook"], "layers.1.mlp_out", "{trained}");

    // The model writes with a feature that is steered at the hook.
    let out = dir.path().join("answers").to_str().unwrap().to_owned();
    let steered =
        ["generate", "--run", &run, "--sae", "mlp_out", "--steer", "3=2", "--tokens", "6", "--temperature", "0"];
    let steered = json(&[&steered[..], &["--out", &out, "--limit", "2", "--device", "cpu"], &reading].concat());
    assert_eq!(steered["answers"].as_u64().or(steered["samples"].as_u64()), Some(2), "{steered}");
}

#[test]
fn shards_of_hooks_within_a_block_merge_into_the_whole_run() {
    let dir = tempfile::tempdir().unwrap();
    let hooks = ["--hooks", "layers.2,layers.0.mlp_in,layers.0.mlp_out"];
    let (_, whole) = harvest(dir.path(), "whole", &hooks);
    let shards: Vec<String> = (1..=2)
        .map(|n| harvest(dir.path(), &format!("shard-{n}"), &[&hooks[..], &["--shard", &format!("{n}/2")]].concat()).1)
        .collect();
    let merged = dir.path().join("merged").to_str().unwrap().to_owned();
    json(&["merge", &shards[0], &shards[1], "--run", &merged]);
    for hook in ["layers.0.mlp_in", "layers.0.mlp_out", "layers.2"] {
        // The order of hooks in the command does not matter.
        let (merged, whole) = (values(&merged, hook), values(&whole, hook));
        assert_eq!(merged.len(), whole.len());
        assert!(merged.iter().zip(&whole).all(|(a, b)| (a - b).abs() <= 1e-4 * b.abs().max(1.0)), "{hook}");
    }
    // `--layers` is short for the outputs of blocks, and repeats nothing.
    let (report, _) = harvest(dir.path(), "short", &["--layers", "0,2", "--hooks", "layers.2"]);
    assert_eq!(report["hooks"], serde_json::json!([Hook::block(0), Hook::block(2)]));
}

#[test]
fn images_before_the_decoder_have_runs_of_their_own() {
    let dir = tempfile::tempdir().unwrap();
    let recipe =
        ["--features", "64", "--k", "4", "--arch", "topk", "--batch", "64", "--steps", "20", "--device", "cpu"];
    for (hook, width) in [("vision.1", 24), ("projector", 32)] {
        let (report, run) = harvest(dir.path(), hook, &["--hooks", hook]);
        assert_eq!((&report["hooks"][0], report["samples"].as_u64()), (&hook.into(), Some(10)), "{report}");
        assert_eq!(json(&["info", &run])["activations"][0]["d_in"], width);
        json(&[&["train", "--run", &run, "--hook", hook, "--name", "a"], &recipe[..]].concat());
        assert_eq!(json(&["index", "--run", &run])["words_by"].is_string(), hook == "projector");
        let found = json(&["eval", "--run", &run]);
        // All positions are those of images, of which the tiny tower has 16.
        let tokens = |part: &Value| part["tokens"].as_u64().unwrap_or_default();
        let of_images = [tokens(&found["all"]), tokens(&found["by_modality"]["image"])];
        assert_eq!((of_images, tokens(&found["by_modality"]["text"])), ([160; 2], 0), "{found:#}");
        let reading = reading(dir.path());
        let reading: Vec<&str> = reading.iter().map(String::as_str).collect();
        let spliced = sae().args(["eval", "--run", &run, "--device", "cpu"]).args(&reading).output().unwrap();
        let said = said(&spliced);
        assert!(
            !spliced.status.success() && said.contains(&format!("nothing is replaced, steered or predicted at {hook}")),
            "{said}"
        );
        // Straight from the model too.
        let live = format!("{run}-live");
        json(&[&["train", "--run", &live, "--hook", hook, "--name", "a"], &recipe[..], &reading].concat());
        assert_eq!(json(&["info", &format!("{live}/saes/a")])["hook"], hook);
    }
    let run = dir.path().join("both").to_str().unwrap().to_owned();
    let reading = reading(dir.path());
    let reading: Vec<&str> = reading.iter().map(String::as_str).collect();
    let both = fails(1, &[&["harvest", "--run", &run, "--layers", "1", "--hooks", "projector"], &reading[..]].concat());
    assert!(both.contains("projector has positions of its own") && both.contains("a run of its own"), "{both}");
}

#[test]
fn names_that_are_no_hooks_are_answered_with_those_there_are() {
    let dir = tempfile::tempdir().unwrap();
    let reading = reading(dir.path());
    let reading: Vec<&str> = reading.iter().map(String::as_str).collect();
    let run = dir.path().join("run").to_str().unwrap().to_owned();
    for (asked, nearest) in [
        ("layers.1.mlp", "the nearest are layers.1.mlp_in, layers.1.mlp_out"),
        ("blocks.1.hook_mlp_out", "the nearest are layers.1.mlp_out"),
    ] {
        let said = fails(2, &[&["harvest", "--run", &run, "--hooks", asked], &reading[..]].concat());
        assert!(said.contains("invalid hook") && said.contains("layers.L.mlp_in") && said.contains(nearest), "{said}");
        let said = fails(1, &[&["train", "--run", &run, "--hook", asked, "--name", "a"], &reading[..]].concat());
        assert!(said.contains("invalid hook") && said.contains(nearest), "{said}");
    }
    let nothing = fails(2, &[&["harvest", "--run", &run], &reading[..]].concat());
    assert!(nothing.contains("--layers"), "{nothing}");
    let beyond = fails(1, &[&["harvest", "--run", &run, "--hooks", "layers.3.mlp_in"], &reading[..]].concat());
    assert!(beyond.contains("there is no layer 3") && !Path::new(&run).join("run.json").exists(), "{beyond}");
}
