//! Checkpoints whose files, or levels of `config.json`, state the same fact twice: the one that `transformers` reads
//! counts (FORMATS.md, "Where the files of a checkpoint disagree"). Variants of the golden checkpoints in a folder of their
//! own; what cannot be exact is refused by name.

use crate::bad::edit;
use crate::golden::{Golden, relative_error};
use crate::parity::inputs;
use harvest::Checkpoint;
use harvest::model::{Compute, Input};
use sae_core::tensors::Tensors;
use serde_json::{Map, Value, json};
use std::fs;
use std::path::PathBuf;
use tempfile::TempDir;

pub const HOST: Compute = Compute::Host { bf16: false };

/// A copy of a golden checkpoint, without what was computed from it.
pub struct Copy {
    _dir: TempDir,
    folder: PathBuf,
    pub golden: Golden,
}

impl Copy {
    pub fn of(name: &str) -> Self {
        let golden = Golden::open(name);
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join(name);
        fs::create_dir(&folder).unwrap();
        for path in fs::read_dir(&golden.folder).unwrap().map(|entry| entry.unwrap().path()) {
            let name = path.file_name().unwrap().to_str().unwrap();
            if path.is_file() && !name.starts_with("golden.") && name != "samples.json" {
                fs::copy(&path, folder.join(name)).unwrap();
            }
        }
        Self { _dir: dir, folder, golden }
    }

    pub fn path(&self, file: &str) -> PathBuf {
        self.folder.join(file)
    }

    pub fn read(&self, file: &str) -> Value {
        serde_json::from_slice(&fs::read(self.path(file)).unwrap()).unwrap()
    }

    pub fn write(&self, file: &str, value: &Value) {
        fs::write(self.path(file), value.to_string()).unwrap();
    }

    pub fn edit(&self, change: impl FnOnce(&mut Value)) {
        edit(&self.path("config.json"), change);
    }

    pub fn open(&self) -> Checkpoint {
        Checkpoint::open(&self.folder).unwrap()
    }

    /// Why the whole of it cannot be loaded.
    pub fn error(&self) -> String {
        let loaded = Checkpoint::open(&self.folder).and_then(|checkpoint| checkpoint.load(None, &HOST));
        loaded.map(|_| ()).expect_err("a checkpoint to be refused").to_string()
    }

    /// Rewrites the tensors of a file of weights: `change` takes names, shapes and numbers and gives those of the new one.
    pub fn rewrite(&self, from: &str, to: &str, change: impl Fn(&str) -> Option<String>) {
        let tensors = Tensors::open(&self.path(from)).unwrap();
        let named = tensors.names().into_iter().filter_map(|name| Some((change(&name)?, name)));
        let read: Vec<_> = named
            .map(|(new, name)| {
                let shape = tensors.shape(&name).unwrap().to_vec();
                let values = tensors.f32(&name, &shape).unwrap();
                (new, shape, values)
            })
            .collect();
        let tensors: Vec<_> =
            read.iter().map(|(name, shape, values)| (name.as_str(), &shape[..], &values[..])).collect();
        let path = self.path(&format!("{to}.new"));
        sae_core::tensors::write(&path, safetensors::Dtype::F32, &tensors).unwrap();
        fs::rename(path, self.path(to)).unwrap();
    }

    /// Holds it against what `transformers` made of the checkpoint that it is a copy of.
    pub fn equals_the_original(&self) {
        let checkpoint = self.open();
        let last = checkpoint.config().text.layers.len() - 1;
        let model = checkpoint.load(Some(last), &HOST).unwrap();
        for (sample, input) in self.golden.samples.iter().zip(inputs(&self.golden, &checkpoint)) {
            assert_eq!(input.ids, self.golden.ids(&sample.name), "{}", sample.name);
            let (_, expected) = self.golden.get(&sample.name, "blocks_out").unwrap();
            let hidden = model.hidden(&[&input], &[last]).unwrap();
            let error = relative_error(hidden.rows(0, 0), &expected);
            assert!(error < 1e-4, "{}: relative error {error}", sample.name);
        }
    }

    /// Negative log-likelihoods of the last tokens of each sample.
    pub fn likelihoods(&self) -> Vec<Vec<f32>> {
        let checkpoint = self.open();
        let model = checkpoint.load(None, &HOST).unwrap();
        let inputs = inputs(&self.golden, &checkpoint);
        let nll = |input: &Input| {
            let positions: Vec<usize> = (input.ids.len() - 5..input.ids.len()).collect();
            model.nll(&[input], std::slice::from_ref(&positions)).unwrap().remove(0)
        };
        inputs.iter().map(nll).collect()
    }
}

/// The image processor of a checkpoint that is saved in the newer layout: nested.
fn nest(copy: &Copy) -> Value {
    let stale = copy.read("preprocessor_config.json");
    let path = copy.path("processor_config.json");
    let mut processor = if path.exists() { copy.read("processor_config.json") } else { json!({}) };
    processor["image_processor"] = stale.clone();
    copy.write("processor_config.json", &processor);
    stale
}

#[test]
fn a_stale_image_processor_beside_a_nested_one_is_not_read() {
    for name in ["llava-a", "llava-next-a", "qwen2_5_vl-a", "qwen3_vl-a", "gemma3-a", "chameleon-a"] {
        let copy = Copy::of(name);
        let mut stale = nest(&copy);
        let fields = stale.as_object_mut().unwrap();
        fields.insert("image_mean".into(), json!([0.1, 0.2, 0.3]));
        fields.insert("resample".into(), json!(2));
        fields.insert("size".into(), json!({"shortest_edge": 4, "longest_edge": 5}));
        copy.write("preprocessor_config.json", &stale);
        copy.equals_the_original();
        // Alone it would be.
        fs::remove_file(copy.path("processor_config.json")).unwrap();
        let changed = Checkpoint::open(&copy.folder).map(|checkpoint| {
            let image = &copy.golden.samples.iter().find(|sample| !sample.images.is_empty()).unwrap().images[0];
            checkpoint.images().unwrap().frame(image).map(|frame| checkpoint.images().unwrap().image(&frame).patches)
        });
        let own = Golden::open(name);
        let checkpoint = Checkpoint::open(&own.folder).unwrap();
        let image = &own.samples.iter().find(|sample| !sample.images.is_empty()).unwrap().images[0];
        let images = checkpoint.images().unwrap();
        let right = images.image(&images.frame(image).unwrap()).patches;
        assert!(!matches!(changed, Ok(Ok(patches)) if patches == right), "{name}");
    }
}

#[test]
fn a_nested_image_processor_that_is_null_is_absent() {
    let copy = Copy::of("llava-a");
    copy.write("processor_config.json", &json!({"image_processor": null, "patch_size": null}));
    copy.equals_the_original();
    fs::remove_file(copy.path("preprocessor_config.json")).unwrap();
    let error = copy.error();
    assert!(error.contains("no preprocessor_config.json, and none in processor_config.json"), "{error}");
}

#[test]
fn classes_of_image_processors_bring_their_own_defaults() {
    let copy = Copy::of("llava-a");
    let patches = |change: Value| {
        let mut config = copy.golden_processor();
        config.extend(change.as_object().unwrap().clone());
        config.retain(|_, value| !value.is_null());
        copy.write("preprocessor_config.json", &Value::Object(config));
        let checkpoint = Checkpoint::open(&copy.folder).map_err(|e| e.to_string())?;
        let images = checkpoint.images().unwrap();
        Ok::<_, String>(images.image(&images.frame(&copy.golden.samples[0].images[0])?).patches)
    };
    let side = json!({"height": 28, "width": 28});
    let own = patches(json!({})).unwrap();
    // However it is implemented, and by its name before transformers 4.26.
    for name in ["CLIPImageProcessorFast", "CLIPImageProcessorPil", "LlavaImageProcessorFast"] {
        assert_eq!(patches(json!({"image_processor_type": name})).unwrap(), own, "{name}");
    }
    let older = json!({"image_processor_type": null, "feature_extractor_type": "CLIPFeatureExtractor"});
    assert_eq!(patches(older).unwrap(), own);
    // SigLIP's resamples in cubics, Gemma's in lines, and neither cuts the middle out.
    let bare = |name: &str, resample: Value| json!({"image_processor_type": name, "size": side, "resample": resample, "do_center_crop": null, "crop_size": null});
    let siglip = patches(bare("SiglipImageProcessor", Value::Null)).unwrap();
    assert_eq!(siglip, patches(bare("SiglipImageProcessor", 3.into())).unwrap());
    let gemma = patches(bare("Gemma3ImageProcessor", Value::Null)).unwrap();
    assert_eq!(gemma, patches(bare("SiglipImageProcessor", 2.into())).unwrap());
    assert_ne!(siglip, gemma);
    // One number is a side for Gemma's and an edge for the others; two are height and width.
    let sized = |name: &str, size: Value| json!({"image_processor_type": name, "size": size, "do_center_crop": null, "crop_size": null});
    assert_eq!(
        patches(sized("Gemma3ImageProcessor", 28.into())).unwrap(),
        patches(sized("Gemma3ImageProcessor", side.clone())).unwrap()
    );
    assert_eq!(patches(sized("SiglipImageProcessor", json!([28, 28]))), patches(sized("SiglipImageProcessor", side)));
    let error = patches(sized("SiglipImageProcessor", 28.into())).unwrap_err();
    assert!(error.contains("images of any size"), "{error}");
    let error = patches(json!({"image_processor_type": "ViTImageProcessor"})).unwrap_err();
    assert!(error.contains("ViTImageProcessor is not an image processor for this model"), "{error}");
    let error =
        patches(json!({"image_processor_type": null, "feature_extractor_type": "ViTFeatureExtractor"})).unwrap_err();
    assert!(error.contains("ViTImageProcessor"), "{error}");
}

impl Copy {
    pub fn golden_processor(&self) -> Map<String, Value> {
        let path = self.golden.folder.join("preprocessor_config.json");
        serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
    }
}

#[test]
fn pixel_bounds_beside_the_size_come_before_those_in_it() {
    // As Qwen2.5-VL's files have them: `min_pixels` and `max_pixels` beside, or inside, a size.
    let copy = Copy::of("qwen2_5_vl-a");
    let own = copy.golden_processor();
    let (least, most) = (own["min_pixels"].clone(), own["max_pixels"].clone());
    let with = |size: Value| {
        let mut config = own.clone();
        config.insert("size".into(), size);
        copy.write("preprocessor_config.json", &Value::Object(config));
    };
    for size in [
        json!({"shortest_edge": 3136, "longest_edge": 12_845_056}),
        json!({"min_pixels": 3136, "max_pixels": 12_845_056}),
    ] {
        with(size);
        copy.equals_the_original();
    }
    let mut inside = own.clone();
    inside.retain(|name, _| !name.ends_with("_pixels"));
    inside.insert("size".into(), json!({"shortest_edge": least, "longest_edge": most}));
    copy.write("preprocessor_config.json", &Value::Object(inside));
    copy.equals_the_original();
}

#[test]
fn a_processor_that_counts_other_positions_than_the_model_is_refused() {
    let refused = |name: &str, processor: Value, named: &str| {
        let copy = Copy::of(name);
        copy.write("processor_config.json", &processor);
        let error = copy.error();
        assert!(error.contains(named), "{error}");
    };
    refused("llava-a", json!({"patch_size": 5}), "patch_size is 5 in the processor: expected 7");
    let counted = json!({"vision_feature_select_strategy": "full", "num_additional_image_tokens": 1});
    refused("llava-a", counted, "num_additional_image_tokens is 1 in the processor: expected 0");
    refused("gemma3-a", json!({"image_seq_length": 256}), "image_seq_length is 256 in the processor: expected 9");
    let copy = Copy::of("llava-a");
    copy.write("processor_config.json", &json!({"patch_size": 7, "vision_feature_select_strategy": "default"}));
    copy.equals_the_original();
}

#[test]
fn a_whole_file_of_weights_comes_before_an_index_that_was_left_over() {
    for name in ["llava-a", "qwen2_5_vl-b", "text-qwen2"] {
        let copy = Copy::of(name);
        // A shard of an earlier version, which holds but a few of the tensors.
        let norm = |tensor: &str| tensor.ends_with("norm.weight").then(|| tensor.to_owned());
        copy.rewrite("model.safetensors", "model-00001-of-00001.safetensors", norm);
        let index = json!({"metadata": {}, "weight_map": {"model.norm.weight": "model-00001-of-00001.safetensors"}});
        copy.write("model.safetensors.index.json", &index);
        copy.equals_the_original();
        // Also when the shards are gone.
        fs::remove_file(copy.path("model-00001-of-00001.safetensors")).unwrap();
        copy.equals_the_original();
    }
}

/// Cuts the weights in two shards, of which the second also holds what `twice` names.
fn shard(copy: &Copy, twice: impl Fn(&str) -> bool) {
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
fn an_index_is_followed_and_what_it_names_has_to_be_there() {
    let copy = Copy::of("llava-a");
    shard(&copy, |_| false);
    // Files of other names are nobody's business.
    for other in
        ["consolidated.safetensors", "adapter_model.safetensors", "model.fp16.safetensors", "pytorch_model.bin"]
    {
        fs::write(copy.path(other), "nothing").unwrap();
    }
    copy.equals_the_original();
    fs::remove_file(copy.path("model-00002-of-00002.safetensors")).unwrap();
    let error = copy.error();
    assert!(error.contains("1 of 2 files are missing: model-00002-of-00002.safetensors"), "{error}");
    assert!(error.contains("model.safetensors.index.json"), "{error}");
    fs::remove_file(copy.path("model-00001-of-00002.safetensors")).unwrap();
    assert!(copy.error().contains("2 of 2 files are missing: model-00001-of-00002.safetensors and 1 more"));
    copy.write("model.safetensors.index.json", &json!({"weight_map": {}}));
    assert!(copy.error().contains("the index names no files"));
}

#[test]
fn of_a_tensor_in_two_shards_the_later_one_counts() {
    let copy = Copy::of("text-qwen2");
    shard(&copy, |name| name == "model.norm.weight");
    // The first shard's copy becomes another.
    let path = copy.path("model-00001-of-00002.safetensors");
    let tensors = Tensors::open(&path).unwrap();
    let bytes = tensors.bytes("model.norm.weight").unwrap().1.to_vec();
    drop(tensors);
    let mut file = fs::read(&path).unwrap();
    let at = file.windows(bytes.len()).position(|window| window == bytes).unwrap();
    file[at..at + bytes.len()].fill(0);
    fs::write(&path, file).unwrap();
    let own = Copy::of("text-qwen2");
    assert_eq!(copy.likelihoods(), own.likelihoods());
}

#[test]
fn weights_that_config_json_names_are_read() {
    let copy = Copy::of("text-qwen2");
    fs::rename(copy.path("model.safetensors"), copy.path("other.safetensors")).unwrap();
    copy.edit(|config| config["transformers_weights"] = "other.safetensors".into());
    copy.equals_the_original();
    copy.edit(|config| config["transformers_weights"] = "../other.safetensors".into());
    assert!(copy.error().contains("transformers_weights is \"../other.safetensors\""));
}

#[test]
fn weights_of_other_kinds_are_refused_by_name() {
    for other in ["pytorch_model.bin", "model.fp16.safetensors", "adapter_model.safetensors", "model-q4.gguf"] {
        let copy = Copy::of("llava-a");
        fs::rename(copy.path("model.safetensors"), copy.path(other)).unwrap();
        let error = copy.error();
        assert!(error.contains("has no weights") && error.contains(other), "{error}");
    }
    let copy = Copy::of("llava-a");
    copy.write("adapter_config.json", &json!({"peft_type": "LORA", "base_model_name_or_path": "org/base"}));
    let error = copy.error();
    assert!(error.contains("adapters are not applied") && error.contains("adapter_config.json"), "{error}");
}

#[test]
fn a_repository_of_the_cache_is_no_checkpoint_and_its_snapshot_is_one() {
    let copy = Copy::of("llava-a");
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
fn a_link_that_leads_nowhere_is_named() {
    for file in ["chat_template.jinja", "preprocessor_config.json", "model.safetensors", "tokenizer_config.json"] {
        let copy = Copy::of("llava-a");
        let _ = fs::remove_file(copy.path(file));
        std::os::unix::fs::symlink("../blobs/gone", copy.path(file)).unwrap();
        let error = copy.error();
        assert!(error.contains(file), "{file}: {error}");
    }
}

#[test]
fn models_that_were_saved_without_their_head_are_read() {
    // `LlamaModel.save_pretrained` and `Qwen3VLModel.save_pretrained` leave the outer prefix away, `LlavaModel`'s the inner.
    for (name, prefix, other) in [
        ("text-llama", "model.", ""),
        ("qwen3_vl-b", "model.", ""),
        ("llava-b", "language_model.model.", "language_model."),
    ] {
        let copy = Copy::of(name);
        let renamed =
            |name: &str| Some(name.strip_prefix(prefix).map_or(name.to_owned(), |rest| format!("{other}{rest}")));
        copy.rewrite("model.safetensors", "model.safetensors", renamed);
        copy.equals_the_original();
    }
}

#[test]
fn quantized_and_other_foreign_settings_are_refused_by_name() {
    let refused = |name: &str, change: &dyn Fn(&mut Value), named: &str| {
        let copy = Copy::of(name);
        copy.edit(|config| change(config));
        let error = copy.error();
        assert!(error.contains(named) && error.contains("config.json"), "{error}");
    };
    let quantized = json!({"quant_method": "fp8", "weight_block_size": [128, 128]});
    refused("text-qwen3", &|c| c["quantization_config"] = quantized.clone(), "quantization_config (fp8)");
    refused("llava-b", &|c| c["text_config"]["quantization_config"] = quantized.clone(), "quantization_config (fp8)");
    refused("text-qwen3", &|c| c["is_causal"] = false.into(), "is_causal");
    refused(
        "gemma3-a",
        &|c| c["text_config"]["use_bidirectional_attention"] = true.into(),
        "use_bidirectional_attention",
    );
    refused("text-llama", &|c| c["per_layer_config"] = json!({"1": {"intermediate_size": 8}}), "per_layer_config");
    refused("text-llama", &|c| c["hidden_act"] = "mish".into(), "mish");
    refused("text-qwen2", &|c| c["layer_types"] = json!(["chunked_attention", "full_attention"]), "chunked_attention");
    refused(
        "qwen2_5_vl-b",
        &|c| c["vision_config"]["rope_parameters"] = json!({"rope_type": "yarn", "factor": 2.0}),
        "type yarn",
    );
    refused("llava-b", &|c| c["vision_config"]["image_size"] = json!([24, 20]), "image_size");
}

#[test]
fn settings_that_change_nothing_are_passed_over() {
    let copy = Copy::of("llava-b");
    copy.edit(|config| {
        let side = config["vision_config"]["image_size"].clone();
        config["vision_config"]["image_size"] = json!([side, side]);
        config["quantization_config"] = Value::Null;
        config["auto_map"] = json!({"AutoModel": "modeling_other.Model"});
        config["text_config"]["pretraining_tp"] = 2.into();
        config["dtype"] = "float16".into();
        config["torch_dtype"] = "bfloat16".into();
    });
    copy.equals_the_original();
}

#[test]
fn numbers_that_are_no_floats_are_refused_by_the_tensors_name() {
    let copy = Copy::of("text-qwen2");
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
fn a_model_that_was_saved_inside_another_is_refused_with_the_names_that_are_there() {
    // torch.compile and peft write such names; transformers would make up every weight.
    for prefix in ["_orig_mod.", "base_model.model."] {
        let copy = Copy::of("text-qwen2");
        copy.rewrite("model.safetensors", "model.safetensors", |name| Some(format!("{prefix}{name}")));
        let error = copy.error();
        assert!(error.contains(&format!("there are others, such as {prefix}model.")), "{error}");
        assert!(error.contains("more") && error.len() < 600, "{error}");
    }
}

#[test]
fn tensors_that_were_gathered_from_nowhere_are_refused_with_their_shape() {
    // As a run under DeepSpeed ZeRO-3 saves them that does not gather its parameters.
    let copy = Copy::of("text-qwen2");
    let tensors = Tensors::open(&copy.path("model.safetensors")).unwrap();
    let names = tensors.names();
    let empty: Vec<_> = names.iter().map(|name| (name.as_str(), &[0][..], &[][..])).collect();
    sae_core::tensors::write(&copy.path("model.safetensors"), safetensors::Dtype::F32, &empty).unwrap();
    let error = copy.error();
    assert!(error.contains("has shape [0], expected"), "{error}");
}

#[test]
fn settings_at_both_levels_of_a_fine_tuned_qwen2_5_vl_are_those_of_the_inner_one() {
    // Trainers write the decoder's settings at the top as well, and leave them there when they change.
    let copy = Copy::of("qwen2_5_vl-b");
    copy.edit(|config| {
        let mut outer = config["text_config"].clone();
        outer["rope_scaling"] = json!({"mrope_section": [2, 1, 1], "rope_type": "default", "type": "default"});
        outer["rope_theta"] = 5e6.into();
        outer["hidden_size"] = 3584.into();
        outer["vocab_size"] = 152_064.into();
        outer["image_token_id"] = Value::Null;
        let own = config.as_object_mut().unwrap();
        for (name, value) in outer.as_object().unwrap() {
            own.entry(name.clone()).or_insert(value.clone());
        }
        own["text_config"]["image_token_id"] = Value::Null;
        own["text_config"]["model_type"] = "qwen2_5_vl".into();
    });
    copy.equals_the_original();
}

#[test]
fn an_embedding_of_another_size_than_the_vocabulary_is_refused() {
    let copy = Copy::of("llava-b");
    let rows = copy.open().config().text.vocab_size;
    copy.edit(|config| config["text_config"]["vocab_size"] = (rows + 64).into());
    let error = copy.error();
    assert!(error.contains("embed_tokens.weight") && error.contains(&format!("expected [{}, ", rows + 64)), "{error}");
}

#[test]
fn pointers_of_git_lfs_are_named_and_not_called_damaged() {
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0123\nsize 123\n";
    for file in ["model.safetensors", "tokenizer.json"] {
        let copy = Copy::of("llava-a");
        fs::write(copy.path(file), pointer).unwrap();
        let error = copy.error();
        assert!(error.contains("pointer of Git LFS") && error.contains(file), "{error}");
    }
}

#[test]
fn the_output_of_a_trainer_is_no_checkpoint_but_names_one() {
    let copy = Copy::of("text-qwen2");
    let output = copy.folder.parent().unwrap();
    fs::rename(&copy.folder, output.join("checkpoint-500")).unwrap();
    let error = Checkpoint::open(output).map(|_| ()).unwrap_err().to_string();
    assert!(
        error.contains("not a Hugging Face checkpoint") && error.contains("checkpoint-500 in it may be one"),
        "{error}"
    );
}
