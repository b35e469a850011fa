//! Bad input is named with file and cause, leaves what was written, and never panics; a bad sample is skipped and listed.

use crate::tool::{data_set, edited_model, fails, json, repository, sae, said, tiny_model};
use std::fs;
use std::path::{Path, PathBuf};

/// A copy of the tiny checkpoint that may be damaged.
fn checkpoint(dir: &Path) -> PathBuf {
    let copy = dir.join("checkpoint");
    edited_model(&copy, |_| ());
    copy
}

fn harvest(dir: &Path, model: &Path, layers: &str) -> String {
    let (data, run) = (dir.join("data.jsonl"), dir.join("run"));
    let [model, data, run] = [model, &data, &run].map(|p| p.to_str().unwrap());
    let said = fails(1, &["harvest", "--model", model, "--data", data, "--run", run, "--layers", layers]);
    assert!(!said.contains("panicked"), "{said}");
    said
}

#[test]
fn damaged_tables_end_in_one_sentence_and_no_panic_is_reported() {
    let dir = tempfile::tempdir().unwrap();
    let (model, run) = (tiny_model(), dir.path().join("run"));
    let [model, run] = [&model, &run].map(|path| path.to_str().unwrap());
    let mut files: Vec<_> =
        fs::read_dir(repository("tests/golden/damaged")).unwrap().map(|e| e.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= 4, "{files:?}");
    for file in files {
        let name = file.file_name().unwrap().to_str().unwrap();
        let harvest = ["harvest", "--model", model, "--layers", "1", "--run", run, "--data", file.to_str().unwrap()];
        let said = fails(1, &harvest);
        let error = said.lines().find(|line| line.starts_with("error: ")).unwrap_or_default();
        assert!(error.contains(name), "{name}: {said}");
        assert!(!said.contains("panicked"), "{name}: {said}");
    }
}

#[test]
fn checkpoints_that_cannot_be_used_are_refused_before_any_work() {
    let dir = tempfile::tempdir().unwrap();
    data_set(dir.path(), 3);
    assert!(harvest(dir.path(), &dir.path().join("nowhere"), "0").contains("nowhere"));

    let wrong_layer = harvest(dir.path(), &tiny_model(), "7");
    assert!(wrong_layer.contains("no layer 7") && wrong_layer.contains("3 decoder blocks"), "{wrong_layer}");

    let damaged = checkpoint(dir.path());
    let weights = damaged.join("model.safetensors");
    let bytes = fs::read(&weights).unwrap();
    fs::write(&weights, &bytes[..bytes.len() / 2]).unwrap();
    let truncated = harvest(dir.path(), &damaged, "0");
    assert!(truncated.contains("model.safetensors"), "{truncated}");

    fs::write(&weights, [&(u64::MAX / 2).to_le_bytes()[..], &bytes[8..]].concat()).unwrap();
    assert!(harvest(dir.path(), &damaged, "0").contains("model.safetensors"), "a header that lies about its size");

    fs::write(&weights, &bytes).unwrap();
    let config = damaged.join("config.json");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(
        &config,
        text.replace("LlavaForConditionalGeneration", "MambaForCausalLM").replace("\"llava\"", "\"mamba\""),
    )
    .unwrap();
    let foreign = harvest(dir.path(), &damaged, "0");
    assert!(foreign.contains("mamba") && foreign.contains("llava"), "{foreign}");
    assert!(!dir.path().join("run/activations").exists());
}

/// The tiny checkpoint with a row of a matrix so large that its activations are beyond 65,504, the largest number of f16.
fn loud_checkpoint(dir: &Path) -> PathBuf {
    let copy = dir.join("checkpoint");
    edited_model(&copy, |tensors| {
        let (shape, values) = tensors.get_mut("language_model.model.layers.1.mlp.down_proj.weight").unwrap();
        values[..shape[1]].iter_mut().for_each(|value| *value *= 1e7);
    });
    copy
}

#[test]
fn an_activation_that_the_store_cannot_hold_stops_at_once_and_no_infinity_is_stored() {
    let dir = tempfile::tempdir().unwrap();
    let data = data_set(dir.path(), 6);
    let model = loud_checkpoint(dir.path());
    let run = |dtype: &str| dir.path().join(dtype);
    let harvest = |dtype: &str| {
        let [model, data, run] = [&model, &data, &run(dtype)].map(|p| p.to_str().unwrap().to_owned());
        let mut command = sae();
        command.args(["harvest", "--model", &model, "--data", &data, "--run", &run, "--layers", "0,1"]);
        command.args(["--store-dtype", dtype]).output().unwrap()
    };
    let refused = harvest("f16");
    assert_eq!(refused.status.code(), Some(1));
    let said = said(&refused);
    for part in ["layers.1 is ", "beyond 65504", "f16", "sample row-", "\nhint: use --store-dtype bf16"] {
        assert!(said.contains(part), "{said} lacks {part}");
    }
    assert!(!run("f16").join("activations/layers.1/shard-00000.safetensors").exists());
    for dtype in ["bf16", "f32"] {
        assert!(harvest(dtype).status.success(), "{dtype}");
        let shard = run(dtype).join("activations/layers.1/shard-00000.safetensors");
        let stored = sae_core::tensors::Tensors::open(&shard).unwrap();
        let values = stored.f32("activations", stored.shape("activations").unwrap()).unwrap();
        assert!(values.iter().all(|v| v.is_finite()) && values.iter().any(|v| v.abs() > 65_504.0), "{dtype}");
    }

    // The same for what another tool captured.
    let array = dir.path().join("acts.npy");
    let head = "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 2), }\n";
    let values: Vec<u8> = [1.0f32, 2.0, -70_000.0, 4.0].iter().flat_map(|v| v.to_le_bytes()).collect();
    let length = (head.len() as u16).to_le_bytes();
    fs::write(&array, [&b"\x93NUMPY\x01\x00"[..], &length, head.as_bytes(), &values].concat()).unwrap();
    let imported = dir.path().join("imported");
    let [array, imported] = [&array, &imported].map(|p| p.to_str().unwrap());
    let import = ["import", "--from", "npy", array, "--run", imported, "--layer", "3", "--store-dtype"];
    let said = fails(1, &[&import[..], &["f16"]].concat());
    assert!(said.contains("layers.3 is -70000") && said.contains("position 1, dimension 0"), "{said}");
    assert!(!Path::new(imported).join("activations/layers.3/shard-00000.safetensors").exists());
    fs::remove_dir_all(imported).unwrap();
    json(&[&import[..], &["bf16"]].concat());
}

#[test]
fn bad_samples_are_skipped_counted_and_listed() {
    let dir = tempfile::tempdir().unwrap();
    let data = data_set(dir.path(), 4);
    fs::write(dir.path().join("images/broken.png"), b"\x89PNG\r\n\x1a\nnothing more").unwrap();
    fs::write(dir.path().join("images/huge.png"), huge_png()).unwrap();
    let row = |image: &str, text: &str| {
        let turns = serde_json::json!([{ "from": "human", "value": "<image>" }, { "from": "gpt", "value": text }]);
        serde_json::json!({ "id": image, "image": image, "conversations": turns }).to_string() + "\n"
    };
    let bad = [
        row("images/broken.png", "words"),
        row("images/huge.png", "words"),
        row("images/missing.png", "words"),
        row("images/wide.png", ""),
        "{\"id\": \"no-image\", \"conversations\": [{\"from\": \"human\", \"value\": \"<image>\"}, {\"from\": \"gpt\", \"value\": \"x\"}]}\n".into(),
        "{\"id\": \"cut".into(),
    ];
    let text = fs::read_to_string(&data).unwrap();
    fs::write(&data, bad.concat() + "\n" + &text).unwrap();

    let run = dir.path().join("run");
    let model = tiny_model();
    let [model, data, run] = [&model, &data, &run].map(|p| p.to_str().unwrap());
    let done = json(&["harvest", "--model", model, "--data", data, "--run", run, "--layers", "1"]);
    assert_eq!(done["samples"], 4);
    let skipped = done["skipped"].as_array().unwrap();
    let reasons: Vec<_> = skipped.iter().map(|s| (s["row"].as_u64().unwrap(), s["reason"].as_str().unwrap())).collect();
    assert_eq!(reasons.iter().map(|(row, _)| *row).collect::<Vec<_>>(), [0, 1, 2, 3, 4, 5], "{reasons:?}");
    for ((_, reason), word) in reasons.iter().zip(["", "pixels", "missing.png", "", "image", ""]) {
        assert!(!reason.is_empty() && reason.contains(word), "{reason} lacks {word}");
    }
    let record: serde_json::Value =
        serde_json::from_slice(&fs::read(Path::new(run).join("run.json")).unwrap()).unwrap();
    assert_eq!(record["steps"]["harvest"]["skipped"].as_array().unwrap().len(), 6);
}

/// A PNG whose header claims 30,000 x 20,000 pixels: 600 megapixels.
fn huge_png() -> Vec<u8> {
    let mut header = b"IHDR".to_vec();
    header.extend(30_000u32.to_be_bytes());
    header.extend(20_000u32.to_be_bytes());
    header.extend([8, 2, 0, 0, 0]);
    let crc = header.iter().fold(!0u32, |crc, byte| {
        (0..8).fold(crc ^ *byte as u32, |c, _| if c & 1 == 1 { c >> 1 ^ 0xedb8_8320 } else { c >> 1 })
    });
    let mut png = b"\x89PNG\r\n\x1a\n\0\0\0\x0d".to_vec();
    png.extend(header);
    png.extend((!crc).to_be_bytes());
    png.extend(b"\0\0\0\0IDAT\x35\xaf\x06\x1e");
    png
}

#[test]
fn commands_say_what_is_missing_and_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let empty = dir.path().to_str().unwrap();
    for command in [&["eval"][..], &["index"], &["score"], &["train", "--hook", "layers.1", "--name", "a"]] {
        let said = fails(1, &[command, &["--run", empty]].concat());
        assert!(said.contains("not a run folder") && said.contains("hint"), "{said}");
    }
    let run = dir.path().join("run");
    let data = data_set(dir.path(), 8);
    let model = tiny_model();
    let [model, data, run] = [&model, &data, &run].map(|p| p.to_str().unwrap());
    json(&["harvest", "--model", model, "--data", data, "--run", run, "--layers", "1"]);
    assert!(fails(1, &["eval", "--run", run]).contains("hint: run `sae train` first"));
    assert!(fails(1, &["train", "--run", run, "--hook", "layers.9", "--name", "a"]).contains("the run has layers.1"));
    assert!(fails(1, &["train", "--run", run, "--hook", "layers.1", "--name", "../a"]).contains("invalid name"));
    let train = ["train", "--run", run, "--hook", "layers.1", "--name", "a", "--expansion", "2", "--batch", "32"];
    assert!(fails(1, &[&train[..], &["--steps", "0"]].concat()).contains("steps = 0"));
    json(&[&train[..], &["--steps", "5"]].concat());
    assert!(fails(1, &[&train[..], &["--steps", "5"]].concat()).contains("already"));
    // Causes first, each once; what can be done on a line of its own behind them.
    let wordless = fails(1, &["index", "--run", run, "--model", dir.path().join("images").to_str().unwrap()]);
    let lines: Vec<&str> = wordless.lines().collect();
    assert!(lines[0].starts_with("error: the tokens that features promote need the model: "), "{wordless}");
    assert!(lines[0].contains("images"), "the cause and its file are told: {wordless}");
    assert_eq!(lines.last(), Some(&"hint: --no-promoted-tokens leaves them out"), "{wordless}");
    let filter = ["filter", "--run", run, "--by", "cosine_paper", "--out", "unused", "--keep"];
    assert!(fails(1, &[&filter[..], &["50%"]].concat()).contains("hint: run `sae score` first"));
    for nonsense in ["0%", "150%", "most"] {
        fails(2, &[&filter[..], &[nonsense]].concat());
    }
    json(&["index", "--run", run, "--no-promoted-tokens"]);
    json(&["score", "--run", run]);
    // The paper's threshold of 1 belongs to a width of 4096; this model is 32 wide.
    let steps = || {
        let record: serde_json::Value =
            serde_json::from_slice(&fs::read(Path::new(run).join("run.json")).unwrap()).unwrap();
        ["index/a", "score/a"].map(|step| record["steps"][step]["threshold"].as_f64().unwrap())
    };
    assert!(steps().iter().all(|threshold| (threshold - (32.0f64 / 4096.0).sqrt()).abs() < 1e-6), "{:?}", steps());
    json(&["score", "--run", run, "--threshold", "1"]);
    assert_eq!(steps()[1], 1.0);
    assert!(fails(2, &["score", "--run", run, "--threshold", "most"]).contains("expected auto or a number"));
    json(&["score", "--run", run, "--threshold", "auto"]);
    let elsewhere = dir.path().join("elsewhere");
    let elsewhere = elsewhere.to_str().unwrap();
    json(&["harvest", "--model", model, "--data", data, "--run", elsewhere, "--layers", "0"]);
    for flag in ["--calibrate", "--rejected"] {
        let other = fails(1, &["score", "--run", run, flag, elsewhere]);
        assert!(other.contains(flag) && other.contains("layers.1"), "{other}");
    }
    assert!(
        fails(1, &["score", "--run", run, "--explain", "row-77"]).contains("no sample of key"),
        "nothing to explain"
    );
    let unknown = fails(1, &["filter", "--run", run, "--by", "beauty", "--keep", "50%", "--out", "unused"]);
    assert!(unknown.contains("no score beauty") && unknown.contains("l0_paper"), "{unknown}");
    fs::write(Path::new(run).join("saes/a/sae_weights.safetensors"), b"short").unwrap();
    let lying = fails(1, &["eval", "--run", run]);
    assert!(lying.contains("not a whole safetensors file") && lying.contains("sae_weights"), "{lying}");
}
