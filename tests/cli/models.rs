//! Several models of the same samples through the program: crosscoders are trained, evaluated and shown, and runs that do not
//! belong together are rejected.

use crate::tool::{data_set, fails, json, sae, tiny_model};
use arrow::array::{AsArray, StringArray};
use sae_core::table;
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};

/// The tiny model with other weights in its second block.
fn tuned_model(dir: &Path) -> PathBuf {
    moved_model(dir, "tuned", 1.0)
}

/// A checkpoint that is a share of the way from the tiny model to its tuned version.
fn moved_model(dir: &Path, name: &str, share: f32) -> PathBuf {
    let tuned = dir.join(name);
    fs::create_dir_all(&tuned).unwrap();
    for entry in fs::read_dir(tiny_model()).unwrap().map(Result::unwrap).filter(|entry| entry.path().is_file()) {
        fs::copy(entry.path(), tuned.join(entry.file_name())).unwrap();
    }
    let path = tuned.join("model.safetensors");
    let mut bytes = fs::read(&path).unwrap();
    let header = 8 + u64::from_le_bytes(*bytes.first_chunk().unwrap()) as usize;
    let tensors: Value = serde_json::from_slice(&bytes[8..header]).unwrap();
    for (name, tensor) in tensors.as_object().unwrap() {
        if name.contains("language_model") && name.contains("layers.1.mlp") {
            assert_eq!(tensor["dtype"], "F32");
            let range = [0, 1].map(|end| header + tensor["data_offsets"][end].as_u64().unwrap() as usize);
            for (n, value) in bytes[range[0]..range[1]].as_chunks_mut::<4>().0.iter_mut().enumerate() {
                let weight = f32::from_le_bytes(*value);
                *value = (weight + share * weight * ((n % 7) as f32 * 0.25 - 0.5)).to_le_bytes();
            }
        }
    }
    fs::write(&path, bytes).unwrap();
    tuned
}

fn harvest(model: &Path, data: &Path, run: PathBuf, more: &[&str]) -> String {
    let [model, data, at] = [model, data, &run].map(|path| path.to_str().unwrap());
    let flags = ["harvest", "--model", model, "--data", data, "--run", at, "--layers", "1", "--shard-tokens", "900"];
    json(&[&flags[..], more].concat());
    at.to_owned()
}

/// Runs of the tiny model and of its tuned version on 40 rows.
fn runs(dir: &Path) -> [String; 2] {
    let data = data_set(dir, 40);
    [harvest(&tiny_model(), &data, dir.join("base"), &[]), harvest(&tuned_model(dir), &data, dir.join("chat"), &[])]
}

const SMALL: [&str; 12] =
    ["--features", "96", "--k", "6", "--batch", "128", "--buffer", "800", "--steps", "120", "--lr", "0.003"];

fn train(runs: &[&str], name: &str, more: &[&str]) -> Value {
    let runs: Vec<&str> = runs.iter().flat_map(|run| ["--run", run]).collect();
    json(&[&["train", "--hook", "layers.1", "--name", name, "--device", "cpu"], &runs[..], &SMALL, more].concat())
}

#[test]
fn a_crosscoder_is_trained_shown_evaluated_and_indexed() {
    let dir = tempfile::tempdir().unwrap();
    let [base, chat] = runs(dir.path());
    let trained = train(&[&base, &chat], "cc", &["--arch", "crosscoder"]);
    assert!(trained["fvu"].as_f64().unwrap() < 0.5, "{trained}");
    let folder = format!("{base}/saes/cc");
    let config: Value = serde_json::from_slice(&fs::read(format!("{folder}/cfg.json")).unwrap()).unwrap();
    assert_eq!(config["d_in"], 64, "two blocks of 32");
    let models = &config["metadata"]["sae_workbench"]["models"];
    assert_eq!((&models[0]["run"], &models[1]["run"]), (&json!("."), &json!("../chat")));
    assert!(models[0]["scale"].as_f64().unwrap() > 0.0);
    let info = json(&["info", &folder]);
    assert_eq!(info["models"].as_array().unwrap().len(), 2, "{info}");
    let found = json(&["eval", "--run", &base, "--sae", "cc"]);
    assert!(found["all"]["fvu"].as_f64().unwrap() < 0.5 && found["exclude"]["first"] == true, "{found}");
    json(&["index", "--run", &base, "--sae", "cc", "--no-promoted-tokens"]);
    // Equal arguments give equal bytes, and a finished training is not repeated.
    let weights = || fs::read(format!("{folder}/sae_weights.safetensors")).unwrap();
    let before = weights();
    train(&[&base, &chat], "again", &["--arch", "crosscoder"]);
    assert!(before == fs::read(format!("{base}/saes/again/sae_weights.safetensors")).unwrap());
    train(&[&base, &chat], "cc", &["--arch", "crosscoder", "--resume"]);
    // A finished crosscoder of other runs is not taken for the one that is asked for.
    let resume = ["train", "--hook", "layers.1", "--name", "cc", "--arch", "crosscoder", "--resume"];
    let swapped = ["--run", &base, "--run", &base];
    let said = fails(1, &[&resume[..], &swapped, &SMALL].concat());
    assert!(said.contains(&format!("the activations of {base} are others")), "{said}");
    // The models are compared, with the crosscoder of one model and its copy in bf16 as the null row.
    let rounded =
        harvest(&tiny_model(), &dir.path().join("data.jsonl"), dir.path().join("bf16"), &["--store-dtype", "bf16"]);
    train(&[&base, &rounded], "null", &["--arch", "crosscoder"]);
    let compare = ["contrast", "--runs", &base, &chat, "--sae", "cc"];
    let found = json(&[&compare[..], &["--null", "null"]].concat());
    assert_eq!(found["models"].as_array().unwrap().len(), 2, "{found}");
    assert!(found["models"][1]["fvu"].as_f64().unwrap() < 0.6, "{found}");
    let null = &found["null"][0];
    assert_eq!(
        (&null["same_model"], &null["of_model"]["own"], &null["of_reference"]["own"]),
        (&json!(false), &json!(0), &json!(0))
    );
    for file in ["models.parquet", "null.parquet", "models.png", "contrast.json"] {
        assert!(Path::new(&base).join("contrasts/models").join(file).is_file(), "{file}");
    }
    let table = table::read(&Path::new(&base).join("contrasts/models/models.parquet"), &[]).unwrap();
    let owner: &StringArray = table.column_by_name("ownership").unwrap().as_string();
    let own = owner.iter().filter(|name| *name == Some("own")).count() as u64;
    let pair = &found["pairs"][0];
    assert_eq!(own, pair["of_model"]["own"].as_u64().unwrap() + pair["of_reference"]["own"].as_u64().unwrap());
    // The second model continues from states of the first that features of the crosscoder have moved.
    let [model, tuned, data] = [tiny_model(), dir.path().join("tuned"), dir.path().join("data.jsonl")];
    let [model, tuned, data] = [&model, &tuned, &data].map(|path| path.to_str().unwrap());
    let patch =
        [&compare[..], &["--name", "patched", "--patch", "12", "--data", data, "--limit", "16", "--models"]].concat();
    let found = json(&[&patch[..], &[model, tuned]].concat());
    let patches = found["patch"]["patches"].as_array().unwrap();
    let row = |moved: &str| patches.iter().find(|row| row["moved"] == moved).unwrap();
    let kl = |moved: &str| row(moved)["kl"][0].as_f64().unwrap();
    assert_eq!(
        (&row("none")["removed"][0], &row("top")["features"], &found["patch"]["samples"]),
        (&json!(0.0), &json!(12), &json!(16))
    );
    assert!(kl("all") < kl("top") && kl("top") < kl("random") && kl("random") < kl("none"), "{patches:#?}");
    assert!(row("none")["kl"][1].as_f64().unwrap() > 0.0 && row("random")["kl"][1].as_f64().unwrap() < kl("random"));
    let said = fails(1, &[&patch[..], &[tuned, model]].concat());
    assert!(said.contains(&format!("the run {base} was captured from another checkpoint than {tuned}")), "{said}");
    let said = fails(1, &[&patch[..], &[model]].concat());
    assert!(said.contains("1 checkpoints were named for 2 runs"), "{said}");
    let said = fails(1, &[&compare[..], &["--data", data, "--models", model, tuned]].concat());
    assert!(said.contains("--models needs --patch here"), "{said}");
    // A copy of the run has the same states: the same model.
    let copy = harvest(&tiny_model(), &dir.path().join("data.jsonl"), dir.path().join("copy"), &[]);
    train(&[&base, &copy], "same", &["--arch", "crosscoder"]);
    let output = sae().args(["contrast", "--runs", &base, &copy, "--sae", "same"]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("models 0 and 1 are the same model: no own features"), "{text}");
    let said = fails(1, &["contrast", "--runs", &base, &copy, "--sae", "cc"]);
    assert!(said.contains("the crosscoder reads no model of the run"), "{said}");
    // The crosscoder goes out in the published layout and comes back as it was.
    let out = dir.path().join("published");
    let out = out.to_str().unwrap();
    json(&["convert", "--to", "crosscoder", &folder, out]);
    json(&["import", out, "--run", &base, "--with", &chat, "--name", "back", "--hook", "layers.1"]);
    let load = |name: &str| sae_core::autoencoder::formats::load(&Path::new(&base).join("saes").join(name)).unwrap();
    assert_eq!(load("back").weights, load("cc").weights);
    let fvu = |name: &str| json(&["eval", "--run", &base, "--sae", name])["all"]["fvu"].clone();
    assert!(fvu("back").as_f64().unwrap() < 1.0);
    let said = fails(1, &["import", out, "--run", &base, "--name", "alone", "--hook", "layers.1"]);
    assert!(said.contains("a crosscoder of 2 models needs as many runs"), "{said}");
    // What reads one model says that a crosscoder does not.
    let (model, data) = (tiny_model(), dir.path().join("data.jsonl"));
    let with_model = ["--model", model.to_str().unwrap(), "--data", data.to_str().unwrap()];
    let said = fails(1, &[&["eval", "--run", &base, "--sae", "cc"][..], &with_model].concat());
    assert!(said.contains("this needs an autoencoder of one model, and the crosscoder reads 2"), "{said}");
    let out = dir.path().join("out");
    let said = fails(1, &["convert", "--to", "sparsify", &folder, out.to_str().unwrap()]);
    assert!(said.contains("blocks of several models"), "{said}");
    // The second run is found where it was relative to the first.
    fs::rename(&chat, dir.path().join("moved")).unwrap();
    let said = fails(1, &["eval", "--run", &base, "--sae", "cc"]);
    assert!(said.contains("chat"), "{said}");
}

#[test]
fn an_autoencoder_is_fine_tuned_on_another_model_and_keeps_the_indices_of_its_features() {
    let dir = tempfile::tempdir().unwrap();
    let [base, chat] = runs(dir.path());
    train(&[&base], "base", &["--arch", "topk"]);
    let from = format!("{base}/saes/base");
    let flags = ["train", "--run", &chat, "--hook", "layers.1", "--device", "cpu", "--steps", "30", "--from", &from];
    let tuned = json(&[&flags[..], &["--name", "tuned", "--lr", "0.0003"]].concat());
    assert!(tuned["fvu"].as_f64().unwrap() < 0.6, "{tuned}");
    let load = |run: &str, name: &str| {
        sae_core::autoencoder::formats::load(&Path::new(run).join("saes").join(name)).unwrap().weights
    };
    let (before, after) = (load(&base, "base"), load(&chat, "tuned"));
    assert!(before.w_dec != after.w_dec, "it was trained");
    let kept = (0..before.d_sae).filter(|k| {
        let (a, b) = (before.direction(*k), after.direction(*k));
        let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
        dot(a, b) > 0.9 * (dot(a, a) * dot(b, b)).sqrt()
    });
    assert!(kept.count() >= 90, "most of 96 features still have their direction");
    let said = fails(1, &[&flags[..], &["--name", "other", "--set", "features=40"]].concat());
    assert!(said.contains("an autoencoder of 96 features with topk"), "{said}");
}

#[test]
fn checkpoints_are_placed_between_the_aligned_model_and_its_base() {
    let dir = tempfile::tempdir().unwrap();
    let [base, aligned] = runs(dir.path());
    train(&[&base], "base", &["--arch", "topk"]);
    let compare = ["contrast", "--sae", "base", "--runs", &base, &aligned];
    let pair = json(&compare);
    assert_eq!((&pair["rebound"], &pair["same_model"]), (&json!([]), &json!([])));
    assert!(pair["distances"][0]["hidden_states"][0].as_f64().unwrap() > 0.0 && pair["distances"][0]["kl"].is_null());
    // The aligned model again is not back at all, and the base again is back entirely.
    let [model, tuned, data] = [tiny_model(), dir.path().join("tuned"), dir.path().join("data.jsonl")];
    let [model, tuned, data] = [&model, &tuned, &data].map(|path| path.to_str().unwrap());
    let models = ["--models", model, tuned, tuned, model, "--data", data, "--limit", "12"];
    let found = json(&[&compare[..], &[&aligned, &base, "--tuned", "100,200"], &models].concat());
    let distance = |model: usize, what: &str| found["distances"][model - 1][what].clone();
    assert!(distance(1, "weights").as_f64().unwrap() > 0.0 && distance(1, "kl")[1].as_f64().unwrap() > 0.0, "{found}");
    assert_eq!((distance(2, "weights"), distance(2, "kl")), (distance(1, "weights"), distance(1, "kl")));
    assert_eq!((&distance(3, "weights"), &distance(3, "hidden_states")[0]), (&json!(0.0), &json!(0.0)));
    let r = |n: usize, what: &str| found["rebound"][n][what][0].as_f64().unwrap();
    assert!(r(0, "features").abs() < 1e-9 && (r(1, "features") - 1.0).abs() < 1e-9, "{found}");
    assert!(r(0, "hidden_states").abs() < 1e-9 && (r(1, "hidden_states") - 1.0).abs() < 1e-9, "{found}");
    for (n, back) in [0.0, 1.0].into_iter().enumerate() {
        let of = |what: &str| found["rebound"][n][what].as_f64().unwrap_or_else(|| r(n, what));
        for what in ["state_distance", "weight_distance", "kl"] {
            assert!((of(what) - back).abs() < 1e-6, "{what}: {found}");
        }
    }
    for measure in ["features", "hidden_states", "state_distance", "weight_distance", "kl"] {
        assert!((found["half_way"][measure].as_f64().unwrap() - 150.0).abs() < 1e-3, "{measure}: {found}");
    }
    assert_eq!(found["same_model"], json!([3]));
    let rows = table::read(&Path::new(&base).join("contrasts/models/rebound.parquet"), &[]).unwrap();
    assert_eq!(rows.num_rows(), 4 * 96);
    let said = fails(1, &[&compare[..], &[&aligned[..], "--tuned", "100,200"]].concat());
    assert!(said.contains("do not fit 1 checkpoints after the aligned model"), "{said}");
    let said = fails(1, &[&compare[..], &["--null", "base"]].concat());
    assert!(said.contains("--null is about a crosscoder"), "{said}");
    let said = fails(1, &[&compare[..], &models[..3], &["--data", data, "--patch", "4"]].concat());
    assert!(said.contains("--patch is about a crosscoder"), "{said}");
}

#[test]
fn every_measure_finds_the_checkpoints_where_they_were_planted() {
    let dir = tempfile::tempdir().unwrap();
    let [base, aligned] = runs(dir.path());
    train(&[&base], "base", &["--arch", "topk"]);
    let data = dir.path().join("data.jsonl");
    let mut runs = vec![base.clone(), aligned];
    let mut models = vec![tiny_model(), dir.path().join("tuned")];
    let back = [0.1f32, 0.4, 0.6, 0.9];
    for share in back {
        let name = format!("back-{share}");
        models.push(moved_model(dir.path(), &name, 1.0 - share));
        runs.push(harvest(models.last().unwrap(), &data, dir.path().join(format!("run-{name}")), &[]));
    }
    let [runs, models]: [Vec<&str>; 2] =
        [runs.iter().map(String::as_str).collect(), models.iter().map(|path| path.to_str().unwrap()).collect()];
    let flags = ["contrast", "--sae", "base", "--tuned", "10,40,60,90", "--data", data.to_str().unwrap()];
    let found = json(&[&flags[..], &["--runs"], &runs, &["--models"], &models].concat());
    let at = |n: usize, what: &str| {
        let value = &found["rebound"][n][what];
        value.as_f64().unwrap_or_else(|| value[0].as_f64().unwrap())
    };
    for (n, share) in back.iter().enumerate() {
        assert!((at(n, "weight_distance") - f64::from(*share)).abs() < 1e-5, "{found:#}");
        // The tuned block is the last one that is captured, so its output is almost linear in the weights.
        assert!((at(n, "state_distance") - f64::from(*share)).abs() < 0.1, "{found:#}");
    }
    for what in ["features", "hidden_states", "kl"] {
        let order: Vec<f64> = (0..back.len()).map(|n| at(n, what)).collect();
        assert!(order.is_sorted_by(|a, b| a < b) && order[0] > -0.2 && order[3] < 1.2, "{what}: {order:?}");
    }
    assert!((found["half_way"]["weight_distance"].as_f64().unwrap() - 50.0).abs() < 1e-3, "{found:#}");
}

#[test]
fn models_are_compared_by_bits_per_byte_on_each_data_set() {
    let dir = tempfile::tempdir().unwrap();
    let data = data_set(dir.path(), 12);
    let few = dir.path().join("few.jsonl");
    let lines = fs::read_to_string(&data).unwrap();
    fs::write(&few, lines.lines().take(3).map(|line| format!("{line}\n")).collect::<String>()).unwrap();
    let [base, tuned] = [tiny_model(), tuned_model(dir.path())];
    let [base, tuned, data, few] = [&base, &tuned, &data, &few].map(|path| path.to_str().unwrap());
    let out = dir.path().join("models.json");
    let flags = ["eval", "--models", base, tuned, base, "--data", data, "--data", few];
    let found = json(&[&flags[..], &["--out", out.to_str().unwrap()]].concat());
    let results = found["results"].as_array().unwrap();
    assert_eq!(results.len(), 6, "{found}");
    assert_eq!(found, serde_json::from_slice::<Value>(&fs::read(&out).unwrap()).unwrap());
    let number = |n: usize, what: &str, of: usize| results[n][what][of].as_f64().unwrap();
    for n in 0..6 {
        let [tokens, bytes] = ["tokens", "bytes"].map(|what| results[n][what].as_f64().unwrap());
        let bits = number(n, "nats_per_token", 0) * tokens / bytes / std::f64::consts::LN_2;
        assert!((number(n, "bits_per_byte", 0) - bits).abs() < 1e-9 && bits > 0.0, "{results:?}");
        assert!(number(n, "bits_per_byte", 1) < bits && bits < number(n, "bits_per_byte", 2));
    }
    assert_eq!((&results[0]["samples"], &results[3]["samples"]), (&json!(12), &json!(3)));
    // The first model again does not differ from itself; the other one does by what their rows say.
    assert_eq!((&results[0]["difference"], &results[2]["difference"]), (&Value::Null, &json!([0.0, 0.0, 0.0])));
    let difference = number(1, "bits_per_byte", 0) - number(0, "bits_per_byte", 0);
    assert!((number(1, "difference", 0) - difference).abs() < 1e-9 && difference != 0.0);
    let said = fails(2, &[&flags[..], &["--sae", "x"]].concat());
    assert!(said.contains("cannot be used with"), "{said}");
    assert!(fails(2, &["eval", "--models", base]).contains("--data"));
    let said = fails(1, &["eval", "--run", "nowhere", "--model", base, "--data", data, "--data", few]);
    assert!(said.contains("--model reads one data set, and --data names 2"), "{said}");
}

#[test]
fn runs_that_do_not_belong_together_are_rejected() {
    let dir = tempfile::tempdir().unwrap();
    let base = harvest(&tiny_model(), &data_set(dir.path(), 20), dir.path().join("base"), &[]);
    let text = fs::read_to_string(dir.path().join("data.jsonl")).unwrap();
    let other = text.replacen("A square. A square. A square.", "A square. A circle. A square.", 1);
    assert!(other != text);
    fs::write(dir.path().join("data.jsonl"), other).unwrap();
    let chat = harvest(&tiny_model(), &dir.path().join("data.jsonl"), dir.path().join("chat"), &[]);
    let train = |runs: &[&str], more: &[&str]| {
        let runs: Vec<&str> = runs.iter().flat_map(|run| ["--run", run]).collect();
        fails(1, &[&["train", "--hook", "layers.1", "--name", "x"], &runs[..], &SMALL, more].concat())
    };
    let said = train(&[&base, &chat], &["--arch", "crosscoder"]);
    assert!(said.contains("the runs differ: sample "), "{said}");
    let said = train(&[&base], &["--arch", "crosscoder"]);
    assert!(said.contains("needs two to nine runs"), "{said}");
    let said = train(&[&base, &base], &["--arch", "topk"]);
    assert!(said.contains("2 runs were named, and an autoencoder that is not a crosscoder reads one"), "{said}");
    assert!(sae().args(["train", "--hook", "layers.1", "--name", "x"]).output().unwrap().status.code() == Some(2));
}
