//! Bad input is named with file and cause, leaves what was written, and never panics; a bad sample is skipped and listed.

use crate::tool::{data_set, fails, json, tiny_model};
use std::fs;
use std::path::{Path, PathBuf};

/// A copy of the tiny checkpoint that may be damaged.
fn checkpoint(dir: &Path) -> PathBuf {
    let copy = dir.join("checkpoint");
    fs::create_dir_all(&copy).unwrap();
    for entry in fs::read_dir(tiny_model()).unwrap().map(|e| e.unwrap().path()).filter(|p| p.is_file()) {
        fs::copy(&entry, copy.join(entry.file_name().unwrap())).unwrap();
    }
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
        assert!(said.contains("no run folder") && said.contains("hint"), "{said}");
    }
    let run = dir.path().join("run");
    let data = data_set(dir.path(), 8);
    let model = tiny_model();
    let [model, data, run] = [&model, &data, &run].map(|p| p.to_str().unwrap());
    json(&["harvest", "--model", model, "--data", data, "--run", run, "--layers", "1"]);
    assert!(fails(1, &["eval", "--run", run]).contains("hint: run `sae train` first"));
    assert!(fails(1, &["train", "--run", run, "--hook", "layers.9", "--name", "a"]).contains("the run has layers.1"));
    assert!(fails(1, &["train", "--run", run, "--hook", "layers.1", "--name", "../a"]).contains("is no name"));
    let train = ["train", "--run", run, "--hook", "layers.1", "--name", "a", "--expansion", "2", "--batch", "32"];
    assert!(fails(1, &[&train[..], &["--steps", "0"]].concat()).contains("steps = 0"));
    json(&[&train[..], &["--steps", "5"]].concat());
    assert!(fails(1, &[&train[..], &["--steps", "5"]].concat()).contains("already"));
    let filter = ["filter", "--run", run, "--by", "cosine_paper", "--out", "unused", "--keep"];
    assert!(fails(1, &[&filter[..], &["50%"]].concat()).contains("hint: run `sae score` first"));
    for nonsense in ["0%", "150%", "most"] {
        fails(2, &[&filter[..], &[nonsense]].concat());
    }
    json(&["score", "--run", run]);
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
