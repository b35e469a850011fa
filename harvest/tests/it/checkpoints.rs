//! Checkpoints whose files, or levels of `config.json`, contradict each other: the one that `transformers` reads counts
//! (FORMATS.md, "Where the files of a checkpoint disagree"). Unsupported settings are rejected by name.

use crate::checkpoint_copy::CheckpointCopy;
use harvest::Checkpoint;
use serde_json::{Value, json};
use std::fs;

#[test]
fn a_repository_of_the_cache_is_rejected_but_its_snapshot_is_a_checkpoint() {
    let copy = CheckpointCopy::new("llava-a");
    let root = copy.folder.parent().unwrap().join("models--org--tiny");
    let snapshot = root.join("snapshots").join("0123456789abcdef0123456789abcdef01234567");
    fs::create_dir_all(snapshot.parent().unwrap()).unwrap();
    fs::rename(&copy.folder, &snapshot).unwrap();
    let error = Checkpoint::open(&root).map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("a repository of the hub's cache") && error.contains("org/name"), "{error}");
    Checkpoint::open(&snapshot).unwrap();
}

#[cfg(unix)]
#[test]
fn a_broken_link_is_reported_by_name() {
    for file in ["chat_template.jinja", "preprocessor_config.json", "model.safetensors", "tokenizer_config.json"] {
        let copy = CheckpointCopy::new("llava-a");
        let _ = fs::remove_file(copy.path(file));
        std::os::unix::fs::symlink("../blobs/gone", copy.path(file)).unwrap();
        let error = copy.error();
        assert!(error.contains(file), "{file}: {error}");
    }
}

#[test]
fn quantization_and_other_unsupported_settings_are_rejected_by_name() {
    let check_error = |name: &str, change: &dyn Fn(&mut Value), named: &str| {
        let copy = CheckpointCopy::new(name);
        copy.edit(|config| change(config));
        let error = copy.error();
        assert!(error.contains(named) && error.contains("config.json"), "{error}");
    };
    let quantized = json!({"quant_method": "fp8", "weight_block_size": [128, 128]});
    check_error("text-qwen3", &|c| c["quantization_config"] = quantized.clone(), "quantization_config (fp8)");
    check_error(
        "llava-b",
        &|c| c["text_config"]["quantization_config"] = quantized.clone(),
        "quantization_config (fp8)",
    );
    check_error("text-qwen3", &|c| c["is_causal"] = false.into(), "is_causal");
    check_error(
        "gemma3-a",
        &|c| c["text_config"]["use_bidirectional_attention"] = true.into(),
        "use_bidirectional_attention",
    );
    check_error("text-llama", &|c| c["per_layer_config"] = json!({"1": {"intermediate_size": 8}}), "per_layer_config");
    check_error("text-llama", &|c| c["hidden_act"] = "mish".into(), "mish");
    check_error(
        "text-qwen2",
        &|c| c["layer_types"] = json!(["chunked_attention", "full_attention"]),
        "chunked_attention",
    );
    check_error(
        "qwen2_5_vl-b",
        &|c| c["vision_config"]["rope_parameters"] = json!({"rope_type": "yarn", "factor": 2.0}),
        "type \"yarn\"",
    );
    check_error("llava-b", &|c| c["vision_config"]["image_size"] = json!([24, 20]), "image_size");
}

#[test]
fn settings_that_change_nothing_are_ignored() {
    let copy = CheckpointCopy::new("llava-b");
    copy.edit(|config| {
        let side = config["vision_config"]["image_size"].clone();
        config["vision_config"]["image_size"] = json!([side, side]);
        config["quantization_config"] = Value::Null;
        config["auto_map"] = json!({"AutoModel": "modeling_other.Model"});
        config["text_config"]["pretraining_tp"] = 2.into();
        config["dtype"] = "float16".into();
        config["torch_dtype"] = "bfloat16".into();
    });
    copy.check_equals_the_original();
}

#[test]
fn the_inner_level_takes_precedence_in_a_fine_tuned_qwen2_5_vl() {
    // Trainers also write the decoder's settings at the top level, and do not update them there.
    let copy = CheckpointCopy::new("qwen2_5_vl-b");
    copy.edit(|config| {
        let mut outer = config["text_config"].clone();
        outer["rope_scaling"] = json!({"mrope_section": [2, 1, 1], "rope_type": "default", "type": "default"});
        outer["rope_theta"] = 5e6.into();
        outer["hidden_size"] = 3584.into();
        outer["vocab_size"] = 152_064.into();
        outer["image_token_id"] = Value::Null;
        let top = config.as_object_mut().unwrap();
        for (name, value) in outer.as_object().unwrap() {
            top.entry(name.clone()).or_insert(value.clone());
        }
        top["text_config"]["image_token_id"] = Value::Null;
        top["text_config"]["model_type"] = "qwen2_5_vl".into();
    });
    copy.check_equals_the_original();
}

#[test]
fn git_lfs_pointers_are_identified() {
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0123\nsize 123\n";
    for file in ["model.safetensors", "tokenizer.json"] {
        let copy = CheckpointCopy::new("llava-a");
        fs::write(copy.path(file), pointer).unwrap();
        let error = copy.error();
        assert!(error.contains("Git LFS") && error.contains(file), "{error}");
    }
}

#[test]
fn the_output_folder_of_a_trainer_is_rejected_with_a_checkpoint_inside() {
    let copy = CheckpointCopy::new("text-qwen2");
    let output = copy.folder.parent().unwrap();
    fs::rename(&copy.folder, output.join("checkpoint-500")).unwrap();
    let error = Checkpoint::open(output).map(|_| ()).unwrap_err().to_string();
    assert!(
        error.contains("not a Hugging Face checkpoint") && error.contains("checkpoint-500 in it may be one"),
        "{error}"
    );
}
