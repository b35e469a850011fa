//! Bad checkpoints lead to errors that name the file and the cause, and report all problems at once.

use crate::golden::Golden;
use harvest::Checkpoint;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// A copy of a tiny checkpoint, which a test may damage.
pub fn checkpoint() -> (TempDir, PathBuf) {
    let golden = Golden::open("llava-a").folder;
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("tiny");
    fs::create_dir(&folder).unwrap();
    for entry in fs::read_dir(golden).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            fs::copy(&path, folder.join(path.file_name().unwrap())).unwrap();
        }
    }
    (dir, folder)
}

fn load(folder: &Path, last: Option<usize>) -> Result<(), harvest::Error> {
    Checkpoint::open(folder)?.load(last, &harvest::model::Compute::Host { bf16: false }).map(|_| ())
}

fn error(folder: &Path) -> String {
    load(folder, None).expect_err("a bad checkpoint").to_string()
}

/// Edits a JSON file.
pub fn edit(path: &Path, change: impl FnOnce(&mut Value)) {
    let mut value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    change(&mut value);
    fs::write(path, serde_json::to_vec(&value).unwrap()).unwrap();
}

/// Edits the header of a safetensors file. The new and the old text have the same length.
fn edit_header(folder: &Path, edits: &[(&str, &str)]) {
    let path = folder.join("model.safetensors");
    let mut bytes = fs::read(&path).unwrap();
    let end = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let mut header = String::from_utf8(bytes[8..end].to_vec()).unwrap();
    for (old, new) in edits {
        assert!(header.contains(old) && old.len() == new.len());
        header = header.replace(old, new);
    }
    bytes[8..end].copy_from_slice(header.as_bytes());
    fs::write(path, bytes).unwrap();
}

#[test]
fn missing_tensors_are_reported_together() {
    let (_dir, folder) = checkpoint();
    edit_header(
        &folder,
        &[("layers.1.mlp.up_proj", "layers.1.mlp.xx_proj"), ("model.norm.weight", "model.xxxx.weight")],
    );
    let error = error(&folder);
    assert!(error.contains("2 tensors are missing or unexpected") && error.contains("model.safetensors"), "{error}");
    assert!(
        error.contains("layers.1.mlp.up_proj.weight is missing") && error.contains("model.norm.weight is"),
        "{error}"
    );
    // Neither of them is needed for the hidden states behind block 0.
    load(&folder, Some(0)).unwrap();
}

#[test]
fn unexpected_shapes_are_reported_with_the_expected_ones() {
    let (_dir, folder) = checkpoint();
    edit(&folder.join("config.json"), |config| config["text_config"]["intermediate_size"] = 57.into());
    let error = error(&folder);
    assert!(
        error.contains("9 tensors are missing or unexpected") && error.contains("[56, 32]: expected [57, 32]"),
        "{error}"
    );
}

#[test]
fn a_truncated_file_is_rejected() {
    let (_dir, folder) = checkpoint();
    let path = folder.join("model.safetensors");
    let bytes = fs::read(&path).unwrap();
    for length in [0, 7, 100, bytes.len() - 1] {
        fs::write(&path, &bytes[..length]).unwrap();
        let error = error(&folder);
        assert!(error.contains("model.safetensors"), "{length}: {error}");
    }
    fs::remove_file(&path).unwrap();
    assert!(error(&folder).contains("has no weights"));
}

#[test]
fn a_shard_that_is_missing_or_outside_the_folder_is_rejected() {
    let (_dir, folder) = checkpoint();
    // A file called model.safetensors would take precedence over the index.
    fs::rename(folder.join("model.safetensors"), folder.join("model-00001-of-00002.safetensors")).unwrap();
    let index = folder.join("model.safetensors.index.json");
    let sharded = |file: &str| fs::write(&index, format!("{{\"weight_map\": {{\"a\": \"{file}\"}}}}")).unwrap();
    sharded("model-00001-of-00002.safetensors");
    load(&folder, None).unwrap();
    sharded("model-00002-of-00002.safetensors");
    assert!(error(&folder).contains("model-00002-of-00002.safetensors"));
    sharded("../tiny/model-00001-of-00002.safetensors");
    assert!(error(&folder).contains("in the folder of the checkpoint"));
}

#[test]
fn tensors_that_the_configuration_does_not_use_are_rejected() {
    let golden = Golden::open("llava-b");
    let (dir, _) = checkpoint();
    let folder = dir.path().join("other");
    fs::create_dir(&folder).unwrap();
    for file in fs::read_dir(&golden.folder).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_file()) {
        fs::copy(&file, folder.join(file.file_name().unwrap())).unwrap();
    }
    load(&folder, None).unwrap();
    // Its projections have biases. Without them the results would be wrong without any error.
    edit(&folder.join("config.json"), |config| config["text_config"]["attention_bias"] = false.into());
    let found = error(&folder);
    assert!(found.contains("layers.0.self_attn.q_proj.bias exists, but config.json does not use it"), "{found}");
}

#[test]
fn unsupported_architectures_and_other_folders_are_rejected() {
    let (dir, folder) = checkpoint();
    edit(&folder.join("config.json"), |config| config["model_type"] = "mllama".into());
    let found = error(&folder);
    assert!(found.contains("mllama") && found.contains("llava") && found.contains("config.json"), "{found}");
    assert!(error(dir.path()).contains("not a Hugging Face checkpoint"));
    fs::write(folder.join("config.json"), "{").unwrap();
    assert!(error(&folder).contains("config.json"));
}

#[test]
fn files_that_contradict_each_other_are_rejected() {
    let (_dir, folder) = checkpoint();
    edit(&folder.join("preprocessor_config.json"), |config| config["crop_size"] = 14.into());
    assert!(error(&folder).contains("produces 14x14 pixels: expected 28x28 for the vision tower"));
    let (_dir, folder) = checkpoint();
    edit(&folder.join("config.json"), |config| config["image_token_index"] = 9999.into());
    let found = error(&folder);
    assert!(found.contains("no image token (id 9999)") && found.contains("tokenizer.json"), "{found}");
}

#[test]
fn a_layer_that_the_model_does_not_have_is_rejected() {
    let (_dir, folder) = checkpoint();
    let error = load(&folder, Some(3)).unwrap_err().to_string();
    assert!(error.contains("no layer 3") && error.contains("0 to 2"), "{error}");
}
