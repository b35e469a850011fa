//! Autoencoders of other tools: what they are, into another format, into a run and out of it again.

use crate::tool::{data_set, fails, files, json, repository, sae, tiny_model};
use serde_json::json;
use std::fs;
use std::path::Path;

fn golden(name: &str) -> String {
    repository("tests/golden/saes").join(name).to_str().unwrap().into()
}

#[test]
fn info_says_what_an_autoencoder_of_any_format_is() {
    for (name, format, activation) in [
        ("infer/topk-bdec-layer_norm", "sae-lens", "topk"),
        ("other/saev", "sae-lens-old", "relu"),
        ("other/sparsify_topk", "sparsify", "topk"),
        ("other/dl_gated", "dictionary-learning", "gated"),
        ("other/llamascopium_jumprelu", "llamascopium", "jumprelu"),
        ("other/llama_scope", "llama-scope", "jumprelu"),
        ("other/SAE-Res-Tiny-2B-Base-W24-L0_4/layer3.sae.pt", "qwen-scope", "topk"),
        ("other/gemma_scope_1", "gemma-scope-1", "jumprelu"),
        ("other/gemma_scope_2_transcoder", "gemma-scope-2", "jumprelu"),
    ] {
        let info = json(&["info", &golden(name)]);
        assert_eq!((&info["kind"], &info["format"]), (&json!("autoencoder"), &json!(format)), "{name}");
        assert_eq!((&info["d_in"], &info["d_sae"], &info["activation"]), (&json!(8), &json!(24), &json!(activation)));
        assert_eq!(info["k"].is_u64(), activation == "topk", "{info}");
        assert_eq!(info["threshold"]["min"].is_f64(), activation == "jumprelu", "{info}");
        let norms = &info["decoder_norms"];
        assert!(norms["min"].as_f64() > Some(0.0) && norms["min"].as_f64() <= norms["max"].as_f64(), "{info}");
    }
    assert_eq!(json(&["info", &golden("infer/topk-bdec-layer_norm")])["normalization"], "layer-norm");
    assert_eq!(json(&["info", &golden("other/gemma_scope_2_transcoder")])["skip"], true);
    assert_eq!(json(&["info", &golden("other/dl_topk/ae.pt")])["format"], "dictionary-learning");
    let text = String::from_utf8(sae().args(["info", &golden("other/saev")]).output().unwrap().stdout).unwrap();
    assert!(text.contains("24 features of 8 dimensions") && text.contains("layers.16"), "{text}");
    let nothing = fails(1, &["info", repository("tests/cli").to_str().unwrap()]);
    assert!(nothing.contains("no autoencoder was found here") && nothing.contains("hint"), "{nothing}");
    assert!(fails(1, &["info", "nowhere"]).contains("no file or folder exists at nowhere"));
}

#[test]
fn folders_of_autoencoders_name_them_and_what_changes_an_autoencoder_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let folder = |name: &str| {
        let to = dir.path().join(name);
        fs::create_dir_all(&to).unwrap();
        for file in ["cfg.json", "sae.safetensors"] {
            fs::copy(Path::new(&golden("other/sparsify_topk")).join(file), to.join(file)).unwrap();
        }
        to
    };
    for layer in ["run/layers.10", "run/layers.16", "run/.cache/huggingface"] {
        folder(layer);
    }
    let run = dir.path().join("run");
    let run = run.to_str().unwrap();
    let info = json(&["info", run]);
    let found = info["autoencoders"].as_array().unwrap();
    let paths: Vec<_> = found.iter().map(|found| found["path"].as_str().unwrap()).collect();
    assert_eq!(info["kind"], "autoencoders");
    assert_eq!(paths, ["layers.10", "layers.16"].map(|layer| format!("{run}/{layer}")), "{info}");
    assert!(found.iter().all(|found| found["format"] == "sparsify"), "{info}");
    let text = String::from_utf8(sae().args(["info", run]).output().unwrap().stdout).unwrap();
    assert!(text.contains("2 autoencoders in this folder") && text.contains("layers.16"), "{text}");
    let out = dir.path().join("out");
    let out = out.to_str().unwrap();
    let convert = fails(1, &["convert", run, out, "--to", "sae-lens"]);
    assert!(convert.contains("it holds 2: layers.10, layers.16"), "{convert}");
    assert!(convert.ends_with("\nhint: name one of them\n"), "{convert}");
    json(&["convert", &format!("{run}/layers.16"), out, "--to", "sae-lens"]);
    assert_eq!(json(&["info", out])["hook"], "layers.16");

    let signed = folder("signed");
    let config = fs::read_to_string(signed.join("cfg.json")).unwrap().replacen('{', "{\"signed\": true, ", 1);
    fs::write(signed.join("cfg.json"), config).unwrap();
    let signed = signed.to_str().unwrap();
    for command in [&["info", signed][..], &["convert", signed, "unused", "--to", "sae-lens"]] {
        let said = fails(1, command);
        assert!(said.contains("not supported: signed") && said.contains("cfg.json"), "{said}");
    }

    let qwen = dir.path().join("layer3.sae.pt");
    fs::copy(golden("other/SAE-Res-Tiny-2B-Base-W24-L0_4/layer3.sae.pt"), &qwen).unwrap();
    let qwen = qwen.to_str().unwrap();
    assert!(fails(1, &["info", qwen]).ends_with("\nhint: choose --k\n"));
    assert_eq!(json(&["info", qwen, "--k", "5"])["k"], 5);
    let made = dir.path().join("qwen");
    let made = made.to_str().unwrap();
    json(&["convert", qwen, made, "--to", "sparsify", "--k", "5"]);
    assert_eq!(json(&["info", made])["k"], 5);
    assert!(fails(1, &["info", out, "--k", "5"]).contains("states how many features are active"));
    let scaled = golden("other/saelens_train_scaled");
    assert_eq!(json(&["info", &scaled])["notes"], json!([]));
}

#[test]
fn convert_writes_what_can_be_expressed_and_never_over_something() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let out = out.to_str().unwrap();
    let from = golden("other/dl_topk");
    let convert = ["convert", &from, out, "--to", "sparsify"];
    let plan = json(&[&convert[..], &["--dry-run"]].concat());
    assert_eq!((&plan["from"], &plan["to"]), (&json!("dictionary-learning"), &json!("sparsify")));
    assert!(!Path::new(out).exists(), "--dry-run does nothing");
    json(&convert);
    assert_eq!(json(&["info", out])["format"], "sparsify");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left beside it");
    let before = files(Path::new(out));
    let again = fails(1, &convert);
    assert!(again.contains("not empty") && again.contains("hint"), "{again}");
    assert_eq!(files(Path::new(out)), before);

    let other = dir.path().join("other");
    let other = other.to_str().unwrap();
    json(&["convert", out, other, "--to", "sae-lens", "--from", "sparsify"]);
    let (mut first, mut second) = (json(&["info", &from]), json(&["info", other]));
    for key in ["format", "path", "hook", "model"] {
        first.as_object_mut().unwrap().remove(key);
        second.as_object_mut().unwrap().remove(key);
    }
    assert_eq!(first, second);

    let unused = dir.path().join("unused");
    let unused = unused.to_str().unwrap();
    let relu = fails(1, &["convert", &golden("other/saev"), unused, "--to", "sparsify"]);
    assert!(relu.contains("sparsify cannot express") && relu.contains("ReLU"), "{relu}");
    let wrong = fails(1, &["convert", &from, unused, "--to", "sae-lens", "--from", "gemma-scope-1"]);
    assert!(wrong.contains("params.npz"), "{wrong}");
    assert!(fails(2, &["convert", &from, unused, "--to", "gemma-scope-1"]).contains("only read"));
    assert!(fails(2, &["convert", &from, unused, "--to", "onnx"]).contains("dictionary-learning"));
    assert!(!Path::new(unused).exists());
}

#[test]
fn an_imported_autoencoder_is_used_like_one_that_was_trained_and_exported_again() {
    let dir = tempfile::tempdir().unwrap();
    let data = data_set(dir.path(), 8);
    let (model, run, made, wide, out) = (
        tiny_model(),
        dir.path().join("run"),
        dir.path().join("made"),
        dir.path().join("wide"),
        dir.path().join("out"),
    );
    let [model, data, run, made, wide, out] = [&model, &data, &run, &made, &wide, &out].map(|p| p.to_str().unwrap());
    json(&["harvest", "--model", model, "--data", data, "--run", run, "--layers", "1"]);
    // The tiny model is 32 wide: four golden autoencoders side by side.
    json(&["convert", &golden("other/sparsify_topk"), made, "--to", "sparsify"]);
    widen(Path::new(made), Path::new(wide));

    let import = ["import", wide, "--run", run, "--name", "theirs", "--hook", "layers.1"];
    let plan = json(&[&import[..], &["--dry-run"]].concat());
    assert_eq!((&plan["from"], &plan["is"]["d_in"]), (&json!("sparsify"), &json!(32)));
    assert!(!Path::new(run).join("saes").exists(), "--dry-run does nothing");
    json(&import);
    assert!(fails(1, &import).contains("already"));
    let report = json(&["eval", "--run", run, "--sae", "theirs"]);
    assert!(report["all"]["l0"].as_f64().is_some_and(|l0| l0 > 0.0 && l0 <= 4.0), "{report}");

    let narrow = golden("other/sparsify_topk");
    let refused = fails(1, &["import", &narrow, "--run", run, "--name", "narrow", "--hook", "layers.1"]);
    assert!(refused.contains("8 wide") && refused.contains("layers.1 are 32"), "{refused}");
    let no_hook = fails(1, &["import", wide, "--run", run, "--name", "b", "--hook", "layers.7"]);
    assert!(no_hook.contains("the run has layers.1"), "{no_hook}");

    json(&["export", "--run", run, "--sae", "theirs", "--to", "sparsify", "--out", out]);
    let info = json(&["info", out]);
    assert_eq!((&info["format"], &info["d_sae"], &info["k"]), (&json!("sparsify"), &json!(24), &json!(4)));
    assert!(fails(1, &["export", "--run", run, "--to", "sae-lens", "--out", out]).contains("not empty"));
    assert!(fails(1, &["export", "--run", run, "--sae", "none", "--to", "sae-lens", "--out", "x"]).contains("theirs"));

    let of_run = json(&["info", run]);
    assert_eq!(of_run["kind"], "run");
    assert_eq!(of_run["activations"][0]["d_in"], 32);
    assert_eq!((&of_run["saes"][0]["name"], &of_run["saes"][0]["hook"]), (&json!("theirs"), &json!("layers.1")));
    let store = json(&["info", &format!("{run}/activations/layers.1")]);
    assert_eq!(
        (&store["kind"], &store["hook"], &store["d_in"]),
        (&json!("activations"), &json!("layers.1"), &json!(32))
    );
}

/// A sparsify folder of width 8 as one of width 32: every row four times.
fn widen(from: &Path, to: &Path) {
    use safetensors::tensor::{Dtype, SafeTensors, TensorView};
    fs::create_dir(to).unwrap();
    let config = fs::read_to_string(from.join("cfg.json")).unwrap();
    fs::write(to.join("cfg.json"), config.replace("\"d_in\": 8", "\"d_in\": 32")).unwrap();
    let bytes = fs::read(from.join("sae.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let wider: Vec<_> = file
        .tensors()
        .into_iter()
        .map(|(name, tensor)| {
            let (mut shape, mut data) = (tensor.shape().to_vec(), tensor.data().to_vec());
            if shape.last() == Some(&8) {
                data = data.chunks(8 * 4).flat_map(|row| row.repeat(4)).collect();
                *shape.last_mut().unwrap() = 32;
            }
            (name, shape, data)
        })
        .collect();
    let views =
        wider.iter().map(|(name, shape, data)| (name, TensorView::new(Dtype::F32, shape.clone(), data).unwrap()));
    fs::write(to.join("sae.safetensors"), safetensors::serialize(views, None).unwrap()).unwrap();
}
