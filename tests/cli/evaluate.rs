//! `sae eval` with a model: what a reconstruction costs it, files that are written, positions that are left out, and autoencoders on
//! other models.

use crate::tool::{fails, json, repository, sae, said};
use burn::tensor::Device;
use harvest::{Plan, SpliceRunner};
use sae_core::autoencoder::{Encoder, Weights};
use sae_core::store::Hook;
use sae_core::store::sample::Token;
use serde_json::Value;
use std::fs;
use std::path::Path;

/// Decoder block of the bundled model, of 8.
const LAYER: &str = "4";

/// A run on some rows of the bundled data, with a small autoencoder.
fn trained(dir: &Path, rows: &str) -> [String; 3] {
    let paths = [dir.join("run"), repository("assets/demo-mllm"), repository("assets/demo-data/data.jsonl")];
    let [run, model, data] = paths.map(|path| path.to_str().unwrap().to_owned());
    json(&["harvest", "--model", &model, "--data", &data, "--run", &run, "--layers", LAYER, "--limit", rows]);
    let recipe = ["--l1", "0.5", "--lr", "0.002", "--batch", "512", "--steps", "300", "--expansion", "4"];
    json(&[&["train", "--run", &run, "--hook", "layers.4", "--name", "base"], &recipe[..]].concat());
    [run, model, data]
}

#[test]
fn a_reconstruction_costs_the_model_less_than_zeros() {
    let dir = tempfile::tempdir().unwrap();
    let [run, model, data] = trained(dir.path(), "100");
    let [run, model, data] = [&run, &model, &data].map(String::as_str);
    let bench = dir.path().join("core.json");
    let with_model = ["--model", model, "--data", data, "--limit", "40", "--saebench", bench.to_str().unwrap()];
    let found = json(&[&["eval", "--run", run], &with_model[..]].concat());

    let losses = &found["model"]["text"];
    assert_eq!((&found["model"]["same_checkpoint"], &losses["samples"]), (&true.into(), &40.into()));
    let value = |of: &str, variant: &str| losses[of][variant]["value"].as_f64().unwrap();
    let ce = |variant: &str| value("cross_entropy", variant);
    assert!(ce("original") <= ce("replaced") && ce("replaced") < ce("zero"), "{losses:#}");
    assert!((ce("zero") - 2048f64.ln()).abs() < 1e-3, "zeros leave a uniform guess");
    assert!(ce("replaced") < ce("mean") && value("kl", "replaced") < value("kl", "mean"), "{losses:#}");
    let recovered = (ce("zero") - ce("replaced")) / (ce("zero") - ce("original"));
    assert!((value("loss_recovered", "replaced") - recovered).abs() < 1e-9 && recovered > 0.3, "{losses:#}");
    assert!(value("kl", "replaced") > 0.0 && value("kl", "replaced") < value("kl", "zero"), "{losses:#}");
    assert!(ce("replaced_text") > ce("original") && ce("replaced_image") != ce("replaced"), "{losses:#}");
    assert!(losses["cross_entropy"]["replaced"]["se"].as_f64().unwrap() > 0.0);
    assert_eq!(found["model"]["answers"], *losses, "all words of this data are answers");

    let sae_folder = Path::new(run).join("saes/base");
    let written: Value = serde_json::from_slice(&fs::read(sae_folder.join("eval.json")).unwrap()).unwrap();
    assert_eq!(written, found, "eval.json is what --json prints");
    assert!(fs::read(sae_folder.join("curves.png")).unwrap().starts_with(b"\x89PNG"));
    let bench: Value = serde_json::from_slice(&fs::read(&bench).unwrap()).unwrap();
    let metrics = &bench["eval_result_metrics"];
    assert_eq!(
        metrics["model_performance_preservation"]["ce_loss_score"],
        losses["loss_recovered"]["replaced"]["value"]
    );
    assert_eq!(metrics["reconstruction_quality"]["explained_variance"], found["all"]["explained_variance"]);
    assert!(metrics.as_object().unwrap().values().flat_map(|m| m.as_object().unwrap().values()).all(Value::is_number));

    let output = sae().args(["eval", "--run", run]).args(with_model).output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    let text = String::from_utf8(output.stdout).unwrap();
    for part in ["median norm", "cross-entropy", "loss recovered", "at images only", "eval.json", "curves.png"] {
        assert!(text.contains(part), "{part} in {text}");
    }
}

#[test]
fn positions_are_left_out_as_in_training_unless_said_otherwise() {
    let dir = tempfile::tempdir().unwrap();
    let [run, ..] = trained(dir.path(), "100");
    let run = run.as_str();
    let whole = json(&["eval", "--run", run]);
    assert_eq!(whole["all"]["excluded"]["positions"], 0);
    let config = Path::new(run).join("saes/base/train.toml");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, text.replace("first = false", "first = true")).unwrap();
    let first = json(&["eval", "--run", run]);
    assert_eq!(first["all"]["excluded"]["first"], 100, "a position a sample");
    let said = json(&["eval", "--run", run, "--exclude", "none"]);
    assert_eq!(said["all"], whole["all"]);

    let loud = json(&["eval", "--run", run, "--exclude", "special", "--max-norm", "1.2"]);
    let out = &loud["all"]["excluded"];
    assert!(out["special"].as_u64() > Some(100) && out["norm"].as_u64() > Some(0) && out["first"] == 0, "{out}");
    assert!(loud["max_norm"].as_f64() < Some(1.25 * whole["all"]["median_norm"].as_f64().unwrap()));
    let tokens = |found: &Value| found["all"]["tokens"].as_u64().unwrap();
    assert_eq!(tokens(&loud) + out["positions"].as_u64().unwrap(), tokens(&whole));
    assert!(fails(1, &["eval", "--run", run, "--max-norm", "1e-9"]).contains("no position is left"));
    assert!(fails(2, &["eval", "--run", run, "--exclude", "last"]).contains("special"));
}

/// Sets the permissions of everything below a folder.
#[cfg(target_os = "linux")]
fn set_modes(folder: &Path, folders: u32, files: u32) {
    use std::os::unix::fs::PermissionsExt;
    let set = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    set(folder, folders | 0o200);
    for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.is_dir() { set_modes(&entry, folders, files) } else { set(&entry, files) }
    }
    set(folder, folders);
}

#[cfg(target_os = "linux")]
#[test]
fn a_run_that_nobody_may_write_to_is_evaluated_and_nothing_is_written() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    use std::os::unix::process::CommandExt;
    let dir = tempfile::tempdir().unwrap();
    let [run, ..] = trained(dir.path(), "100");
    let folder = Path::new(&run);
    fs::remove_file(folder.join(".lock")).unwrap();
    set_modes(folder, 0o555, 0o444);
    // Permissions do not bind root, who becomes somebody else and takes a copy of the program that everybody may run.
    let (program, everybody) = (dir.path().join("sae"), fs::Permissions::from_mode(0o755));
    fs::copy(env!("CARGO_BIN_EXE_sae"), &program).unwrap();
    [dir.path(), &program].into_iter().for_each(|path| fs::set_permissions(path, everybody.clone()).unwrap());
    let is_root = fs::metadata(dir.path()).unwrap().uid() == 0;
    let as_anybody = |args: &[&str]| {
        let mut command = std::process::Command::new(&program);
        if is_root {
            command.uid(65_534).gid(65_534);
        }
        command.args(args).output().unwrap()
    };
    let output = as_anybody(&["eval", "--run", &run, "--json"]);
    assert!(output.status.success(), "{}", said(&output));
    assert!(said(&output).contains("warning: the run is read-only"), "{}", said(&output));
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(found["all"]["tokens"].as_u64() > Some(0));
    let text = as_anybody(&["eval", "--run", &run]);
    assert!(!String::from_utf8_lossy(&text.stdout).contains("eval.json"));
    assert!(!folder.join("saes/base/eval.json").exists() && !folder.join(".lock").exists());
    let refused = as_anybody(&["index", "--run", &run, "--no-promoted-tokens"]);
    assert!(refused.status.code() == Some(1) && said(&refused).contains(".lock"), "{}", said(&refused));
    set_modes(folder, 0o755, 0o644);
}

#[test]
fn an_identity_costs_the_model_nothing() {
    let d = 256;
    // x = ReLU(x) - ReLU(-x)
    let mut w_enc = vec![0.0; 2 * d * d];
    for i in 0..d {
        (w_enc[i * d + i], w_enc[(d + i) * d + i]) = (1.0, -1.0);
    }
    let (b_enc, b_dec, w_dec) = (vec![0.0; 2 * d], vec![0.0; d], w_enc.clone());
    let weights = Weights { d_in: d, d_sae: 2 * d, w_enc, b_enc, w_dec, b_dec, ..Weights::default() };
    let encoder = Encoder::new(&weights, &Device::flex());
    let plan =
        Plan::new(repository("assets/demo-mllm"), repository("assets/demo-data/data.jsonl"), vec![Hook::block(4)]);
    let plan = Plan { limit: Some(12), ..plan };
    let replace = |_: &[&Token], hidden: &[&[f32]]| Ok(vec![encoder.reconstruct(hidden[0])?]);
    let mut words = 0;
    let mut see = |predicted: Option<&harvest::Predicted>, _| {
        let Some([own, replaced]) = predicted.map(|p| [p.predictions[0], p.predictions[1]]) else { return };
        for (own, replaced) in own.iter().zip(replaced) {
            assert!((own.nll - replaced.nll).abs() < 1e-5 && replaced.kl.abs() < 1e-5, "{own:?} {replaced:?}");
            words += 1;
        }
    };
    SpliceRunner::open(&plan).unwrap().run(&replace, &mut see).unwrap();
    assert!(words > 50);
}

#[test]
fn a_table_of_transfers_has_a_row_for_each_autoencoder_and_model() {
    let dir = tempfile::tempdir().unwrap();
    let [run, model, data] = trained(dir.path(), "24");
    let [run, model, data] = [&run, &model, &data].map(String::as_str);
    let small = ["--l1", "0.5", "--batch", "512", "--steps", "20", "--expansion", "2", "--name", "small"];
    json(&[&["train", "--run", run, "--hook", "layers.4"], &small[..]].concat());
    // The same model, but for one number: the first of the final norm is another one.
    let other = dir.path().join("other");
    fs::create_dir(&other).unwrap();
    for file in fs::read_dir(model).unwrap().map(|file| file.unwrap().path()).filter(|file| file.is_file()) {
        fs::copy(&file, other.join(file.file_name().unwrap())).unwrap();
    }
    let weights = other.join("model.safetensors");
    let mut bytes = fs::read(&weights).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 0x01;
    fs::write(&weights, bytes).unwrap();
    let models = format!("{model},{}", other.display());
    let more = ["--model", &models, "--data", data, "--limit", "24", "--table"];
    let table = [&["eval", "--run", run, "--sae", "base,small"], &more[..]].concat();
    assert_eq!(json(&[&table[..], &["--dry-run"]].concat())["saes"], serde_json::json!(["base", "small"]));
    let found = json(&table);
    let rows = found["transfers"].as_array().unwrap();
    let named: Vec<_> = rows.iter().map(|row| (row["sae"].as_str().unwrap(), row["model"].as_str().unwrap())).collect();
    assert_eq!(named, [("base", "demo-mllm"), ("base", "other"), ("small", "demo-mllm"), ("small", "other")]);
    let number = |row: &Value, key: &str| row[key].as_f64().unwrap();
    for (row, sae) in [(0, "base"), (2, "small")] {
        // On its own model, an autoencoder has what `sae eval` finds on the activations of the run.
        let own = json(&["eval", "--run", run, "--sae", sae, "--model", model, "--data", data, "--limit", "24"]);
        let row = &rows[row];
        assert_eq!((&row["same_checkpoint"], &row["positions"]), (&true.into(), &own["all"]["tokens"]));
        for key in ["l0", "fvu"] {
            let (live, stored) = (number(row, key), number(&own["all"], key));
            assert!((live - stored).abs() < 1e-3 * stored, "{sae} {key}: {live} {stored}");
        }
        let losses = &own["model"]["text"];
        assert_eq!(row["cross_entropy"], losses["cross_entropy"]["original"]);
        assert_eq!(row["increase"], losses["increase"]["replaced"]);
    }
    assert_eq!(rows[1]["same_checkpoint"], false);
    assert!(number(&rows[0], "fvu") < number(&rows[2], "fvu"), "the larger one was trained for longer");
    let one = ["--model", other.to_str().unwrap(), "--data", data, "--limit", "4", "--table"];
    let output = sae().args(["eval", "--run", run, "--sae", "small"]).args(one).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("another one") && text.contains("loss recovered"), "{text}");
    let refused = fails(2, &["eval", "--run", run, "--table"]);
    assert!(refused.contains("--model"), "{refused}");
}
