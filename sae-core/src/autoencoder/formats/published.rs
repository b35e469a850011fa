//! Folders as tools write and people publish them: additional files, fields that change what the autoencoder computes, files
//! that are not what their name says. Each is read as its tool reads it, or rejected with the reason.

use super::bad_files::{copy, rejection, replaced};
use super::*;
use crate::autoencoder::Activation;
use serde_json::{Map, Value, json};

/// A copy of a golden folder with fields of a configuration changed; null takes a field away.
fn changed(name: &str, file: &str, fields: Value) -> tempfile::TempDir {
    let dir = copy(name);
    let path = dir.path().join(file);
    let mut config: Map<String, Value> = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let Value::Object(fields) = fields else { panic!("fields") };
    for (field, value) in fields {
        match value {
            Value::Null => drop(config.remove(&field)),
            value => drop(config.insert(field, value)),
        }
    }
    fs::write(&path, Value::Object(config).to_string()).unwrap();
    dir
}

/// What is said of such a copy.
fn said(name: &str, file: &str, fields: Value) -> String {
    load(changed(name, file, fields).path()).unwrap_err().to_string()
}

fn same(name: &str, file: &str, fields: Value) {
    let (own, other) = (load(copy(name).path()).unwrap(), load(changed(name, file, fields.clone()).path()).unwrap());
    assert_eq!(own.weights, other.weights, "{name} with {fields}");
}

#[test]
fn fields_of_sparsify_that_change_the_result_are_rejected_and_others_are_ignored() {
    let signed = said("sparsify_topk", "cfg.json", json!({ "signed": true }));
    assert!(signed.contains("not supported: signed, which keeps the k largest of either sign"), "{signed}");
    let later = said("sparsify_topk", "cfg.json", json!({ "group_size": 8, "tilted": [1] }));
    assert!(later.contains("the field group_size") && later.contains("the field tilted"), "{later}");
    let off = json!({ "signed": false, "tilted": null, "multi_topk": true, "normalize_decoder": false });
    same("sparsify_topk", "cfg.json", off);
    // The class's defaults.
    let dir = changed("sparsify_topk", "cfg.json", json!({ "k": null }));
    assert!(load(dir.path()).unwrap_err().to_string().contains("keeps 32 of 24"), "k is 32 where nothing is said");
}

#[test]
fn a_folder_of_several_autoencoders_names_them_and_hidden_folders_do_not_count() {
    let dir = tempfile::tempdir().unwrap();
    for layer in ["layers.10", "layers.16", ".cache/huggingface"] {
        let to = dir.path().join(layer);
        fs::create_dir_all(&to).unwrap();
        for entry in fs::read_dir(copy("sparsify_topk").path()).unwrap().map(|e| e.unwrap().path()) {
            fs::copy(&entry, to.join(entry.file_name().unwrap())).unwrap();
        }
    }
    fs::write(dir.path().join("config.json"), b"{\"sae\": {\"k\": 4}}").unwrap();
    let error = detect(dir.path()).unwrap_err();
    assert!(error.to_string().contains("it holds 2: layers.10, layers.16"), "{error}");
    assert_eq!(error.hint(), Some("name one of them".into()));
    let found = below(dir.path());
    assert_eq!(found.len(), 2);
    assert!(found.iter().all(|(path, format)| *format == Format::Sparsify && load(path).is_ok()));
}

#[test]
fn weights_without_their_configuration_say_what_is_missing() {
    for (name, config, parts) in [
        ("sparsify_topk", "cfg.json", "sae.safetensors is here without cfg.json (sparsify)"),
        ("topk-bdec-none", "cfg.json", "sae_weights.safetensors is here without config.json (llamascopium)"),
        ("llama_scope", "hyperparams.json", "checkpoints/final.safetensors is here without hyperparams.json"),
    ] {
        let dir = copy(name);
        fs::remove_file(dir.path().join(config)).unwrap();
        let said = load(dir.path()).unwrap_err().to_string();
        assert!(said.contains(parts), "{name}: {said}");
    }
    // EleutherAI/sparsify issue 7, the other way around: a download that left the large file out.
    for (name, weights, expected) in [
        ("sparsify_topk", "sae.safetensors", "cfg.json is here without sae.safetensors (sparsify)"),
        (
            "llama_scope",
            "checkpoints/final.safetensors",
            "hyperparams.json is here without checkpoints/final.safetensors",
        ),
    ] {
        let dir = copy(name);
        fs::remove_file(dir.path().join(weights)).unwrap();
        let said = load(dir.path()).unwrap_err().to_string();
        assert!(said.contains(expected), "{name}: {said}");
    }
    let dir = copy("llama_scope");
    fs::remove_dir_all(dir.path().join("checkpoints")).unwrap();
    let said = load_as(Format::LlamaScope, dir.path()).unwrap_err().to_string();
    assert!(said.contains("hyperparams.json is here without weights"), "{said}");
}

/// SAELens reads parts of the release without their configuration.
#[test]
fn gemma_scope_2_is_read_without_its_configuration() {
    let (dir, around) = (copy("gemma_scope_2"), tempfile::tempdir().unwrap());
    let folder = around.path().join("gemma-scope-2-4b-it/resid_post_all/layer_9_width_24_l0_small");
    fs::create_dir_all(&folder).unwrap();
    fs::copy(dir.path().join("params.safetensors"), folder.join("params.safetensors")).unwrap();
    assert_eq!(detect(&folder).unwrap(), Format::GemmaScope2);
    let (with, without) = (load(dir.path()).unwrap(), load(&folder).unwrap());
    assert_eq!(with.weights, without.weights);
    assert_eq!(with.origin.model, "google/gemma-3-4b-pt", "the model as the hub calls it");
    assert_eq!((&without.origin.model[..], &without.origin.hook[..]), ("google/gemma-3-4b-it", "layers.9"));
}

#[test]
fn llama_scope_says_what_it_lacks_and_any_of_its_files_stands_for_it() {
    let dir = copy("llama_scope");
    for path in ["hyperparams.json", "checkpoints/final.safetensors"] {
        assert_eq!(detect(&dir.path().join(path)).unwrap(), Format::LlamaScope, "{path}");
        assert!(load(&dir.path().join(path)).is_ok(), "{path}");
    }
    let origin = load(dir.path()).unwrap().origin;
    assert_eq!((&origin.hook[..], origin.layer), ("layers.15", 15));
    let config = "hyperparams.json";
    for (fields, part) in [
        (json!({ "jump_relu_threshold": null }), "without jump_relu_threshold"),
        (json!({ "dataset_average_activation_norm": null }), "invalid dataset_average_activation_norm"),
        (json!({ "dataset_average_activation_norm": { "in": 0.0, "out": 1.0 } }), "expected two numbers above 0"),
        (json!({ "norm_activation": null }), "norm_activation"),
        (json!({ "norm_activation": "batch-wise" }), "norm_activation \"batch-wise\""),
        (json!({ "use_glu_encoder": true }), "use_glu_encoder"),
        (json!({ "act_fn": "gelu" }), "\"gelu\" is not supported"),
        (json!({ "d_sae": 23 }), "expected [23, 8]"),
    ] {
        let said = said("llama_scope", config, fields.clone());
        assert!(said.contains(part) && said.contains(config) || said.contains("expected"), "{fields}: {said}");
    }
    // `lm_saes` uses a TopK autoencoder that has a threshold as a JumpReLU one.
    same("llama_scope", config, json!({ "act_fn": "TopK" }));
    same("llama_scope", config, json!({ "d_sae": null, "sparsity_include_decoder_norm": null }));
    let free = load(changed("llama_scope", config, json!({ "sparsity_include_decoder_norm": false })).path()).unwrap();
    assert_ne!(free.weights, load(dir.path()).unwrap().weights);
}

#[test]
fn fields_that_llamascopium_leaves_out_have_its_defaults() {
    let config = "config.json";
    let left_out = json!({ "sparsity_include_decoder_norm": null, "norm_activation": null, "sae_type": null });
    same("llamascopium_linear", config, left_out);
    let said = said("llamascopium_linear", config, json!({ "apply_decoder_bias_to_pre_encoder": true }));
    assert!(said.contains("apply_decoder_bias_to_pre_encoder"), "{said}");
}

#[test]
fn qwen_scope_s_k_is_in_a_folder_s_name_or_has_to_be_said() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/saes/other/SAE-Res-Tiny-2B-Base-W24-L0_4");
    let named = load(&golden.join("layer3.sae.pt")).unwrap();
    assert_eq!((&named.origin.hook[..], &named.origin.model[..]), ("layers.3", "Tiny-2B-Base"));
    assert_eq!(named.weights.activation, Activation::TopK { k: 4 });

    let dir = tempfile::tempdir().unwrap();
    for layer in ["layer3.sae.pt", "layer10.sae.pt"] {
        fs::copy(golden.join("layer3.sae.pt"), dir.path().join(layer)).unwrap();
    }
    let several = load(dir.path()).unwrap_err().to_string();
    assert!(several.contains("it holds 2: layer10.sae.pt, layer3.sae.pt"), "{several}");
    let file = dir.path().join("layer10.sae.pt");
    let unsaid = load(&file).unwrap_err();
    assert!(unsaid.to_string().contains("does not say how many features"), "{unsaid}");
    assert_eq!(unsaid.hint(), Some(Hint::Set(Setting::ActiveFeatures, Vec::new())));
    let read = load_with(Format::QwenScope, &file, Some(5)).unwrap();
    assert_eq!((read.weights.activation, read.origin.layer), (Activation::TopK { k: 5 }, 10));
    assert!(load_with(Format::QwenScope, &file, Some(25)).unwrap_err().to_string().contains("keeps 25 of 24"));
    let said = load_with(Format::Sparsify, copy("sparsify_topk").path(), Some(4)).unwrap_err().to_string();
    assert!(said.contains("sparsify states how many features are active"), "{said}");
}

/// SAELens issue 553: TopK that an older configuration hides in its activation function was used as ReLU.
#[test]
fn the_activation_function_of_old_saelens_is_read_under_either_name_and_never_ignored() {
    let config = "cfg.json";
    let both = json!({ "activation_fn": "topk", "activation_fn_str": "topk" });
    same("saelens_v4_topk", config, both);
    let two = said("saelens_v4_topk", config, json!({ "activation_fn": "topk", "activation_fn_str": "relu" }));
    assert!(two.contains("contradict each other"), "{two}");
    let none = json!({ "activation_fn": "topk", "activation_fn_str": null, "activation_fn_kwargs": null });
    assert!(said("saelens_v4_topk", config, none).contains("a topk autoencoder without k"));
    // Version 5 applied it after a threshold, too.
    let old = json!({ "metadata": null, "sae_lens_version": "5.3.0", "activation_fn": "tanh-relu" });
    assert!(said("jumprelu-bdec-none", config, old).contains("activation function \"tanh-relu\""));
    same("saelens_v4_topk", config, json!({ "hook_name": "blocks.16.hook_resid_post", "hook_point": "elsewhere" }));
}

/// SAELens issues 222 and 381: a factor that inputs were scaled with in training is not in the configuration.
#[test]
fn a_scale_of_inputs_is_read_from_a_separate_file_and_its_absence_is_reported() {
    let name = "saelens_train_scaled";
    assert!(load(copy(name).path()).unwrap().origin.notes.is_empty());
    let dir = copy(name);
    fs::remove_file(dir.path().join("activation_scaler.json")).unwrap();
    let without = load(dir.path()).unwrap();
    assert!(without.origin.notes[0].contains("none is applied, as SAELens does"), "{:?}", without.origin.notes);
    assert_ne!(without.weights, load(copy(name).path()).unwrap().weights);
    let zero = said(name, "activation_scaler.json", json!({ "scaling_factor": 0.0 }));
    assert!(zero.contains("scaling_factor = 0") && zero.contains("activation_scaler.json"), "{zero}");
    // A training that has ended has folded its factor in, and says so.
    let ended = changed(name, "cfg.json", json!({ "normalize_activations": "none" }));
    assert!(load(ended.path()).unwrap().origin.notes.is_empty());
}

#[test]
fn files_of_one_folder_that_contradict_each_other_are_rejected() {
    let trainer = json!({ "dict_class": "AutoEncoderTopK", "k": 5 });
    let k = said("dl_topk", "config.json", json!({ "trainer": trainer }));
    assert!(k.contains("k is 4 here and 5 in config.json"), "{k}");
    let config = "config.json";
    for (fields, part) in [
        // SAELens pull request 624: not every transcoder of Gemma Scope 2 is affine.
        (json!({ "affine_connection": true }), "affine_connection = true, which the tensors contradict"),
        (json!({ "width": 16384 }), "width = 16384, where the tensors have 24"),
        (json!({ "type": "crosscoder" }), "the type \"crosscoder\""),
    ] {
        let said = said("gemma_scope_2", config, fields);
        assert!(said.contains(part), "{said}");
    }
    same("gemma_scope_2", config, json!({ "affine_connection": false, "width": 24, "type": "sae", "l0": 20 }));
    same("gemma_scope_2_transcoder", config, json!({ "affine_connection": true, "type": "transcoder" }));
}

#[test]
fn files_that_are_not_what_they_are_called_say_what_they_are() {
    let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n";
    for (name, file) in
        [("topk-bdec-none", "sae_weights.safetensors"), ("dl_topk", "ae.pt"), ("gemma_scope_1", "params.npz")]
    {
        let said = rejection(name, file, |_| pointer.to_vec());
        assert!(said.contains("Git LFS pointer") && said.contains("\nhint: run `git lfs pull`"), "{said}");
    }
    let old = rejection("dl_topk", "ae.pt", |_| b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.".to_vec());
    assert!(
        old.contains("PyTorch wrote before version 1.6") && old.contains("\nhint: load and save it with torch.load"),
        "{old}"
    );
    let class = rejection("dl_new", "config.json", replaced("AutoEncoderNew", "IdentityDict"));
    assert!(class.contains("\"IdentityDict\"") && class.contains("AutoEncoderNew"), "{class}");
}

/// Python's `json.dump` writes NaN as a bare word: SAELens 6 has figures of the training in its metadata.
#[test]
fn numbers_that_are_not_finite_and_byte_order_marks_cost_no_autoencoder() {
    let plain = load(copy("topk-bdec-none").path()).unwrap();
    let metadata = "\"metadata\": {\"l0\": NaN, \"note\": \"a \\\"NaN\\\" is\", \"dead\": -Infinity, ";
    for (from, to) in [("\"metadata\": {", metadata), ("{", "\u{feff}{")] {
        let dir = copy("topk-bdec-none");
        let path = dir.path().join("cfg.json");
        let text = fs::read_to_string(&path).unwrap().replacen(from, to, 1);
        fs::write(&path, text).unwrap();
        assert_eq!(load(dir.path()).unwrap().weights, plain.weights, "{to}");
    }
    // Where a number is needed, its absence is named.
    let k = rejection("topk-bdec-none", "cfg.json", replaced("\"k\": 4", "\"k\": NaN"));
    assert!(k.contains("a topk autoencoder without k"), "{k}");
    let broken = rejection("topk-bdec-none", "cfg.json", replaced("\"k\": 4", "\"k\": NaNs"));
    assert!(broken.contains("line") && broken.contains("cfg.json"), "{broken}");
}
