//! The weights of a checkpoint: output heads, shards and their index, other formats, and tensors that do not fit.

use crate::checkpoint_copy::{CheckpointCopy, HOST};
use sae_core::tensors::Tensors;
use serde_json::{Map, Value, json};
use std::fs;

/// Two copies of a checkpoint: one without `lm_head.weight`, and one in which it is a copy of the embedding.
fn headless(name: &str) -> (CheckpointCopy, CheckpointCopy) {
    let is_head = |tensor: &str| tensor.ends_with("lm_head.weight");
    let copy = CheckpointCopy::new(name);
    copy.rewrite("model.safetensors", "model.safetensors", |tensor| (!is_head(tensor)).then(|| tensor.to_owned()));
    let written = CheckpointCopy::new(name);
    let complete = Tensors::open(&copy.path("model.safetensors")).unwrap();
    let read: Vec<_> = complete
        .names()
        .into_iter()
        .filter(|tensor| !is_head(tensor))
        .flat_map(|tensor| {
            let shape = complete.shape(&tensor).unwrap().to_vec();
            let values = complete.f32(&tensor, &shape).unwrap();
            let head = tensor
                .ends_with("embed_tokens.weight")
                .then(|| ("lm_head.weight".to_owned(), shape.clone(), values.clone()));
            [Some((tensor, shape, values)), head].into_iter().flatten()
        })
        .collect();
    let tensors: Vec<_> = read.iter().map(|(name, shape, values)| (name.as_str(), &shape[..], &values[..])).collect();
    sae_core::tensors::write(&written.path("model.safetensors"), safetensors::Dtype::F32, &tensors).unwrap();
    written.edit(untie);
    (copy, written)
}

fn untie(config: &mut Value) {
    config["tie_word_embeddings"] = false.into();
    if config["text_config"].is_object() {
        config["text_config"]["tie_word_embeddings"] = false.into();
    }
}

#[test]
fn a_head_that_is_tied_is_the_embedding() {
    // (checkpoint, outer, inner, whether the two are tied)
    let cases = [
        ("llava-b", json!(false), json!(true), true),
        ("llava-b", json!(null), json!(true), true),
        ("llava-b", json!(true), json!(false), true),
        ("llava-b", json!(false), json!(false), false),
        ("llava_onevision-b", json!(false), json!(true), true),
        ("llava_onevision-b", json!(null), json!(null), false),
        ("smolvlm-b", json!(false), json!(true), false),
        ("smolvlm-b", json!(true), json!(false), true),
        ("mistral3-e", json!(null), json!(false), true),
        ("mistral3-e", json!(false), json!(true), false),
        ("internvl-b", json!(null), json!(false), true),
        ("internvl-b", json!(false), json!(true), false),
        ("qwen2_5_vl-b", json!(false), json!(true), true),
        ("qwen2_5_vl-b", json!(true), json!(null), true),
        ("llava-next-b", json!(false), json!(true), false),
        ("llava-next-b", json!(true), json!(false), true),
        ("qwen3_vl-b", json!(false), json!(true), false),
        ("qwen3_vl-b", json!(true), json!(null), true),
        ("gemma3-a", json!(null), json!(false), true),
        ("gemma3-a", json!(false), json!(true), false),
        ("gemma4-b", json!(null), json!(false), true),
        ("gemma4-b", json!(false), json!(true), false),
        ("paligemma-b", json!(null), json!(false), true),
        ("paligemma-b", json!(false), json!(true), false),
        ("chameleon-a", json!(true), json!(null), true),
        ("chameleon-a", json!(null), json!(null), false),
        ("text-qwen3", json!(true), json!(null), true),
        ("text-gemma", json!(null), json!(null), true),
        ("text-gemma2", json!(null), json!(null), true),
        ("text-gemma3", json!(null), json!(null), true),
    ];
    for (name, outer, inner, tied) in cases {
        let (copy, written) = headless(name);
        copy.edit(|config| {
            config["tie_word_embeddings"] = outer.clone();
            if config["text_config"].is_object() {
                config["text_config"]["tie_word_embeddings"] = inner.clone();
            }
        });
        let what = format!("{name}: outer {outer}, inner {inner}");
        assert_eq!(copy.open().config().text.tied_head, tied, "{what}");
        if tied {
            assert_eq!(copy.likelihoods(), written.likelihoods(), "{what}");
        } else {
            // transformers would initialize the head with random numbers.
            assert!(copy.error().contains("lm_head.weight is missing"), "{what}");
        }
        // If the head is not loaded, nothing is missing.
        copy.open().load(Some(0), &HOST).unwrap();
    }
}

#[test]
fn a_separate_head_is_used_even_if_the_configuration_ties_it() {
    let copy = CheckpointCopy::new("llava-a");
    let original = copy.likelihoods();
    copy.edit(|config| config["tie_word_embeddings"] = true.into());
    assert_eq!(copy.likelihoods(), original);
    // If only the head is present, it is also the embedding.
    let (_, written) = headless("text-qwen3");
    let expected = written.likelihoods();
    written.rewrite("model.safetensors", "model.safetensors", |name| {
        (!name.ends_with("embed_tokens.weight")).then(|| name.to_owned())
    });
    written.edit(|config| config["tie_word_embeddings"] = true.into());
    assert_eq!(written.likelihoods(), expected);
}

#[test]
fn a_complete_file_of_weights_takes_precedence_over_an_index() {
    for name in ["llava-a", "qwen2_5_vl-b", "text-qwen2"] {
        let copy = CheckpointCopy::new(name);
        // A shard of an earlier version, which contains only a few of the tensors.
        let norm = |tensor: &str| tensor.ends_with("norm.weight").then(|| tensor.to_owned());
        copy.rewrite("model.safetensors", "model-00001-of-00001.safetensors", norm);
        let index = json!({"metadata": {}, "weight_map": {"model.norm.weight": "model-00001-of-00001.safetensors"}});
        copy.write("model.safetensors.index.json", &index);
        copy.check_equals_the_original();
        // Also if the shards are missing.
        fs::remove_file(copy.path("model-00001-of-00001.safetensors")).unwrap();
        copy.check_equals_the_original();
    }
}

/// Divides the weights into two shards. The first one also contains the tensors for which `twice` is true.
fn shard(copy: &CheckpointCopy, twice: impl Fn(&str) -> bool) {
    let first = |name: &str| name.contains("layers.0.");
    copy.rewrite("model.safetensors", "model-00001-of-00002.safetensors", |name| {
        (first(name) || twice(name)).then(|| name.into())
    });
    copy.rewrite("model.safetensors", "model-00002-of-00002.safetensors", |name| (!first(name)).then(|| name.into()));
    let names = Tensors::open(&copy.path("model.safetensors")).unwrap().names();
    let shard = |name: &String| {
        (name.clone(), json!(format!("model-0000{}-of-00002.safetensors", 2 - usize::from(first(name)))))
    };
    let map: Map<_, _> = names.iter().map(shard).collect();
    copy.write("model.safetensors.index.json", &json!({"metadata": {}, "weight_map": map}));
    fs::remove_file(copy.path("model.safetensors")).unwrap();
}

#[test]
fn the_files_that_an_index_names_have_to_exist() {
    let copy = CheckpointCopy::new("llava-a");
    shard(&copy, |_| false);
    // Files with other names are ignored.
    for other in
        ["consolidated.safetensors", "adapter_model.safetensors", "model.fp16.safetensors", "pytorch_model.bin"]
    {
        fs::write(copy.path(other), "nothing").unwrap();
    }
    copy.check_equals_the_original();
    fs::remove_file(copy.path("model-00002-of-00002.safetensors")).unwrap();
    let error = copy.error();
    assert!(error.contains("1 of 2 files of weights are missing: model-00002-of-00002.safetensors"), "{error}");
    assert!(error.contains("model.safetensors.index.json"), "{error}");
    fs::remove_file(copy.path("model-00001-of-00002.safetensors")).unwrap();
    assert!(copy.error().contains("2 of 2 files of weights are missing: model-00001-of-00002.safetensors and 1 more"));
    copy.write("model.safetensors.index.json", &json!({"weight_map": {}}));
    assert!(copy.error().contains("the index does not name any file"));
}

#[test]
fn if_a_tensor_is_in_two_shards_the_later_one_is_used() {
    let copy = CheckpointCopy::new("text-qwen2");
    shard(&copy, |name| name == "model.norm.weight");
    // The copy in the first shard is changed.
    let path = copy.path("model-00001-of-00002.safetensors");
    let tensors = Tensors::open(&path).unwrap();
    let bytes = tensors.bytes("model.norm.weight").unwrap().1.to_vec();
    drop(tensors);
    let mut file = fs::read(&path).unwrap();
    let at = file.windows(bytes.len()).position(|window| window == bytes).unwrap();
    file[at..at + bytes.len()].fill(0);
    fs::write(&path, file).unwrap();
    let original = CheckpointCopy::new("text-qwen2");
    assert_eq!(copy.likelihoods(), original.likelihoods());
}

#[test]
fn weights_that_config_json_names_are_read() {
    let copy = CheckpointCopy::new("text-qwen2");
    fs::rename(copy.path("model.safetensors"), copy.path("other.safetensors")).unwrap();
    copy.edit(|config| config["transformers_weights"] = "other.safetensors".into());
    copy.check_equals_the_original();
    copy.edit(|config| config["transformers_weights"] = "../other.safetensors".into());
    assert!(copy.error().contains("invalid transformers_weights \"../other.safetensors\""));
}

#[test]
fn weights_of_other_formats_are_rejected_by_name() {
    for other in ["pytorch_model.bin", "model.fp16.safetensors", "adapter_model.safetensors", "model-q4.gguf"] {
        let copy = CheckpointCopy::new("llava-a");
        fs::rename(copy.path("model.safetensors"), copy.path(other)).unwrap();
        let error = copy.error();
        assert!(error.contains("has no weights") && error.contains(other), "{error}");
    }
    let copy = CheckpointCopy::new("llava-a");
    copy.write("adapter_config.json", &json!({"peft_type": "LORA", "base_model_name_or_path": "org/base"}));
    let error = copy.error();
    assert!(error.contains("adapters are not supported") && error.contains("adapter_config.json"), "{error}");
}

#[test]
fn models_that_were_saved_without_their_head_are_read() {
    // `LlamaModel.save_pretrained` and `Qwen3VLModel.save_pretrained` omit the outer prefix, that of `LlavaModel` the inner one.
    for (name, prefix, other) in [
        ("text-llama", "model.", ""),
        ("qwen3_vl-b", "model.", ""),
        ("llava-b", "language_model.model.", "language_model."),
    ] {
        let copy = CheckpointCopy::new(name);
        let renamed =
            |name: &str| Some(name.strip_prefix(prefix).map_or(name.to_owned(), |rest| format!("{other}{rest}")));
        copy.rewrite("model.safetensors", "model.safetensors", renamed);
        copy.check_equals_the_original();
    }
}

#[test]
fn a_tensor_that_does_not_hold_floats_is_rejected_by_name() {
    let copy = CheckpointCopy::new("text-qwen2");
    let path = copy.path("model.safetensors");
    let mut bytes = fs::read(&path).unwrap();
    let end = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header = String::from_utf8(bytes[8..end].to_vec()).unwrap();
    let at =
        header.find("\"model.norm.weight\":{\"dtype\":\"F32\"").unwrap() + "\"model.norm.weight\":{\"dtype\":\"".len();
    bytes[8 + at..8 + at + 3].copy_from_slice(b"I32");
    fs::write(&path, bytes).unwrap();
    let error = copy.error();
    assert!(error.contains("model.norm.weight is stored as I32"), "{error}");
}

#[test]
fn a_model_that_was_saved_inside_another_is_rejected_with_the_names_that_exist() {
    // torch.compile and peft write such names. transformers would initialize every weight with random numbers.
    for prefix in ["_orig_mod.", "base_model.model."] {
        let copy = CheckpointCopy::new("text-qwen2");
        copy.rewrite("model.safetensors", "model.safetensors", |name| Some(format!("{prefix}{name}")));
        let error = copy.error();
        assert!(error.contains(&format!("the file has others, such as {prefix}model.")), "{error}");
        assert!(error.contains("more") && error.len() < 600, "{error}");
    }
}

#[test]
fn empty_tensors_are_rejected_with_their_shape() {
    // DeepSpeed ZeRO-3 saves such tensors if its parameters are not gathered.
    let copy = CheckpointCopy::new("text-qwen2");
    let tensors = Tensors::open(&copy.path("model.safetensors")).unwrap();
    let names = tensors.names();
    let empty: Vec<_> = names.iter().map(|name| (name.as_str(), &[0][..], &[][..])).collect();
    sae_core::tensors::write(&copy.path("model.safetensors"), safetensors::Dtype::F32, &empty).unwrap();
    let error = copy.error();
    assert!(error.contains("has shape [0]: expected"), "{error}");
}

#[test]
fn an_embedding_that_does_not_fit_the_vocabulary_is_rejected() {
    let copy = CheckpointCopy::new("llava-b");
    let rows = copy.open().config().text.vocab_size;
    copy.edit(|config| config["text_config"]["vocab_size"] = (rows + 64).into());
    let error = copy.error();
    assert!(
        error.contains("embed_tokens.weight") && error.contains(&format!(": expected [{}, ", rows + 64)),
        "{error}"
    );
}
