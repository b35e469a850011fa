//! Transcoders through the program: one is trained on two hooks of a run, evaluated on its target, and used like an autoencoder where
//! only its features matter; what needs a reconstruction of the input says that a transcoder has none.

use crate::tool::{data_set, edited_model, fails, json, repository, sae, tiny_model};
use sae_core::Run;
use sae_core::autoencoder::formats::{self, Format, Origin, Saved};
use sae_core::autoencoder::{Activation, Architecture, Weights};
use sae_core::store::Store;
use serde_json::{Value, json};
use std::fs;
use std::path::Path;

const SMALL: [&str; 14] = [
    "--features",
    "96",
    "--k",
    "6",
    "--batch",
    "128",
    "--buffer",
    "600",
    "--steps",
    "150",
    "--lr",
    "0.003",
    "--device",
    "cpu",
];

/// A run of the tiny model on rows in two styles, with these hooks.
fn run(dir: &Path, hooks: &str) -> String {
    let images = ["wide", "tall", "square"];
    fs::create_dir_all(dir.join("images")).unwrap();
    for image in images.map(|image| format!("images/{image}.png")) {
        fs::copy(tiny_model().join(&image), dir.join(&image)).unwrap();
    }
    let row = |n: usize| {
        let (style, answer) = [("plain", "A square. "), ("other", "A circle. ")][n % 2];
        let turns = [("human", "<image>\nWhat is this?".to_string()), ("gpt", answer.repeat(1 + n / 2 % 4))];
        let turns = turns.map(|(from, value)| json!({ "from": from, "value": value }));
        let image = format!("images/{}.png", images[n % 3]);
        json!({ "id": format!("row-{n}"), "image": image, "style": style, "conversations": turns })
    };
    let data = dir.join("data.jsonl");
    fs::write(&data, (0..40).map(|n| format!("{}\n", row(n))).collect::<String>()).unwrap();
    let at = dir.join("run");
    let model = tiny_model();
    let [model, data, of] = [&model, &data, &at].map(|path| path.to_str().unwrap());
    json(&["harvest", "--model", model, "--data", data, "--run", of, "--hooks", hooks, "--shard-tokens", "900"]);
    of.to_owned()
}

#[test]
fn a_transcoder_is_trained_evaluated_on_its_target_and_its_features_are_used() {
    let dir = tempfile::tempdir().unwrap();
    let run = run(dir.path(), "layers.1.mlp_in,layers.1.mlp_out");
    let train = |name: &str, more: &[&str]| {
        let flags =
            ["train", "--run", &run, "--hook", "layers.1.mlp_in", "--target", "layers.1.mlp_out", "--name", name];
        json(&[&flags[..], &SMALL, more].concat())
    };
    let trained = train("skip", &["--arch", "batch-topk", "--skip", "--set", "threshold_rate=0.1"]);
    assert!(trained["fvu"].as_f64().unwrap() < 0.3, "{trained}");
    let folder = format!("{run}/saes/skip");
    let info = json(&["info", &folder]);
    assert_eq!((&info["hook"], &info["target"]), (&json!("layers.1.mlp_in"), &json!("layers.1.mlp_out")), "{info}");
    assert_eq!((&info["skip"], &info["d_out"]), (&json!(true), &json!(32)), "{info}");
    let config: serde_json::Value = serde_json::from_slice(&fs::read(format!("{folder}/cfg.json")).unwrap()).unwrap();
    assert_eq!(config["architecture"], "jumprelu_skip_transcoder", "a name that SAELens knows");
    let text = String::from_utf8(sae().args(["info", &run]).output().unwrap().stdout).unwrap();
    assert!(
        text.contains("transcoder   skip: 96 batch-topk features of layers.1.mlp_in for layers.1.mlp_out"),
        "{text}"
    );

    let found = json(&["eval", "--run", &run, "--sae", "skip"]);
    assert_eq!((&found["hook"], &found["target"]), (&json!("layers.1.mlp_in"), &json!("layers.1.mlp_out")));
    let fvu = found["all"]["fvu"].as_f64().unwrap();
    assert!((fvu / trained["fvu"].as_f64().unwrap() - 1.0).abs() < 0.5, "{fvu} and {trained}");
    let norms = |hook: &str| {
        let manifest = fs::read(format!("{run}/activations/{hook}/manifest.json")).unwrap();
        let manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
        manifest["mean_norm"].as_f64().unwrap()
    };
    let of_target = found["all"]["mean_norm"].as_f64().unwrap() / norms("layers.1.mlp_out");
    assert!((of_target - 1.0).abs() < 1e-6 && norms("layers.1.mlp_in") != norms("layers.1.mlp_out"), "{found}");

    // The same command has nothing to do; another target is another transcoder.
    train("skip", &["--arch", "batch-topk", "--skip", "--resume", "--set", "threshold_rate=0.1"]);
    let again =
        ["train", "--run", &run, "--hook", "layers.1.mlp_in", "--name", "skip", "--arch", "batch-topk", "--resume"];
    let said = fails(1, &[&again[..], &SMALL].concat());
    assert!(said.contains("target = none, not layers.1.mlp_out"), "{said}");

    // What needs features alone.
    let of = ["--run", &run, "--sae", "skip"];
    json(&[&["index"][..], &of].concat());
    json(&[&["score", "--threshold", "0"][..], &of].concat());
    let out = dir.path().join("kept");
    let filter = ["filter", "--run", &run, "--by", "cosine_corrected", "--keep", "10", "--out", out.to_str().unwrap()];
    assert_eq!(json(&filter)["kept"]["rows"], 10);
    let found = json(&[&["contrast", "--threshold", "0", "--groups", "style", "--part", "answer"][..], &of].concat());
    assert!(found["findings"].as_u64().unwrap() > 0 && found["samples"] == 40, "{found}");

    // What needs a reconstruction of what was read.
    let model = tiny_model();
    let data = dir.path().join("data.jsonl");
    let with_model = ["--model", model.to_str().unwrap(), "--data", data.to_str().unwrap()];
    let said = fails(1, &[&["validate"][..], &of, &with_model].concat());
    assert!(said.contains("found a transcoder, which reconstructs layers.1.mlp_out"), "{said}");
    // Its evaluation in the model replaces its target, and says so.
    let spliced = sae().args(["eval", "--limit", "8"]).args(of).args(with_model).output().unwrap();
    let text = String::from_utf8(spliced.stdout).unwrap();
    assert!(text.contains("skip on layers.1.mlp_in for layers.1.mlp_out") && text.contains("loss recovered"), "{text}");
    // Without the activations of its target it cannot be evaluated, and is used all the same.
    fs::rename(format!("{run}/activations/layers.1.mlp_out"), dir.path().join("away")).unwrap();
    let said = fails(1, &[&["eval"][..], &of].concat());
    assert!(said.contains("layers.1.mlp_out") && said.contains("layers.1.mlp_in"), "{said}");
    json(&[&["index", "--no-promoted-tokens"][..], &of].concat());
}

#[test]
fn transcoders_go_out_and_come_back_and_are_trained_on() {
    let dir = tempfile::tempdir().unwrap();
    let run = run(dir.path(), "layers.0,layers.1");
    let flags = ["train", "--run", &run, "--hook", "layers.0", "--target", "layers.1"];
    json(&[&flags[..], &["--name", "first", "--arch", "topk", "--skip"], &SMALL].concat());
    let load = |name: &str| formats::load(&Path::new(&run).join("saes").join(name)).unwrap();
    let first = load("first");
    for format in ["sparsify", "sae-lens"] {
        let out = dir.path().join(format).join("layers.1");
        fs::create_dir_all(out.parent().unwrap()).unwrap();
        let out = out.to_str().unwrap();
        json(&["convert", &format!("{run}/saes/first"), out, "--to", format]);
        json(&["import", out, "--run", &run, "--name", format]);
        let again = load(format);
        assert_eq!((&again.origin.hook[..], &again.origin.target[..]), ("layers.0", "layers.1"), "{format}");
        assert_eq!(again.weights, first.weights, "{format}");
    }
    // It is trained on as a transcoder of its own settings, or of others' files.
    for from in ["first", "sparsify"] {
        let name = format!("from-{from}");
        json(
            &[&flags[..], &["--name", &name, "--init", from, "--steps", "2", "--lr", "1e-12", "--batch", "64"]]
                .concat(),
        );
        let tuned = load(&name);
        assert_eq!(tuned.weights.activation, first.weights.activation);
        let pairs = [(&tuned.weights.w_enc, &first.weights.w_enc), (&tuned.weights.b_dec, &first.weights.b_dec)];
        for (found, expected) in pairs {
            let close = found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-4 * b.abs().max(1.0));
            assert!(close, "{from}");
        }
    }
    // A published one whose hooks no run has is imported for hooks that are named.
    let golden = repository("tests/golden/saes/other/saelens_skip_transcoder");
    let golden = golden.to_str().unwrap();
    let import = ["import", golden, "--run", &run, "--name", "theirs", "--hook", "layers.0"];
    let said = fails(1, &[&import[..], &["--target", "layers.1"]].concat());
    assert!(said.contains("reconstructs width 6, the activations of layers.1 have 32"), "{said}");

    let wrong = |more: &[&str]| fails(1, &[&flags[..5], &["--name", "wrong", "--arch", "topk"], more, &SMALL].concat());
    let said = wrong(&["--target", "layers.0"]);
    assert!(said.contains("the input and the target are both layers.0") && said.contains("--target"), "{said}");
    let said = wrong(&["--target", "layers.7"]);
    assert!(said.contains("layers.7") && said.contains("layers.1"), "{said}");
    let said = wrong(&["--set", "d_out=32"]);
    assert!(said.contains("no target was named") && said.contains("choose --target"), "{said}");
    let without = ["train", "--run", &run, "--hook", "layers.0", "--name", "wrong", "--from", "first", "--steps", "2"];
    let said = fails(1, &without);
    assert!(said.contains("target"), "{said}");
}

/// A block of the tiny model whose MLP is `W_down ReLU(W_gate x + b) + c`, and the transcoder with these weights: what the gate is
/// multiplied with is 1.
fn exact(model: &Path) -> Weights {
    let tensors = edited_model(model, |tensors| {
        let name = |layer: usize, part: &str| format!("language_model.model.layers.{layer}.mlp.{part}");
        for (layer, (part, width)) in
            (0..3).flat_map(|n| [("gate", 56), ("up", 56), ("down", 32)].map(|part| (n, part)))
        {
            let wave = |n: usize| if part == "up" { 1.0 } else { 0.3 * (0.7 * (n + layer) as f32).sin() };
            tensors.insert(name(layer, &format!("{part}_proj.bias")), (vec![width], (0..width).map(wave).collect()));
        }
        let up = tensors.get_mut(&name(1, "up_proj.weight")).unwrap();
        up.1.fill(0.0);
        // So that the block matters.
        let down = tensors.get_mut(&name(1, "down_proj.weight")).unwrap();
        down.1.iter_mut().for_each(|value| *value *= 40.0);
    });
    let config = model.join("config.json");
    let mut settings: Value = serde_json::from_slice(&fs::read(&config).unwrap()).unwrap();
    settings["text_config"]["mlp_bias"] = true.into();
    settings["text_config"]["hidden_act"] = "relu".into();
    fs::write(&config, settings.to_string()).unwrap();
    let part = |name: &str| tensors[&format!("language_model.model.layers.1.mlp.{name}")].1.clone();
    let down = part("down_proj.weight");
    Weights {
        d_in: 32,
        d_sae: 56,
        w_enc: part("gate_proj.weight"),
        b_enc: part("gate_proj.bias"),
        w_dec: (0..56).flat_map(|feature| (0..32).map(move |d| (feature, d))).map(|(f, d)| down[d * 56 + f]).collect(),
        b_dec: part("down_proj.bias"),
        activation: Activation::Relu,
        ..Weights::default()
    }
}

#[test]
fn the_output_of_an_mlp_is_replaced_by_that_of_a_transcoder() {
    let dir = tempfile::tempdir().unwrap();
    let (model, data) = (dir.path().join("model"), data_set(dir.path(), 12));
    let weights = exact(&model);
    // The same model whose MLP of block 1 adds nothing.
    let ablated = dir.path().join("ablated");
    edited_model(&ablated, |tensors| {
        let bytes = fs::read(model.join("model.safetensors")).unwrap();
        let changed = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        for (name, tensor) in changed.tensors() {
            let of_block = name.contains("layers.1.mlp.down_proj");
            let values = tensor.data().as_chunks::<4>().0.iter();
            let values = values.map(|value| if of_block { 0.0 } else { f32::from_le_bytes(*value) }).collect();
            tensors.insert(name, (tensor.shape().to_vec(), values));
        }
    });
    fs::copy(model.join("config.json"), ablated.join("config.json")).unwrap();

    let at = dir.path().join("run");
    let [run, model, ablated, data] = [&at, &model, &ablated, &data].map(|path| path.to_str().unwrap());
    let hooks = "layers.1.mlp_in,layers.1.mlp_out,layers.2";
    json(&["harvest", "--model", model, "--data", data, "--run", run, "--hooks", hooks]);
    let save = |name: &str, hook: &str, target: &str, weights: Weights| {
        let origin = Origin { hook: hook.into(), layer: 1, target: target.into(), ..Origin::default() };
        let saved = Saved { architecture: Architecture::Relu, weights, origin };
        fs::create_dir_all(at.join("saes").join(name)).unwrap();
        formats::save(Format::SaeLens, &at.join("saes").join(name), &saved).unwrap();
    };
    let nothing = Weights { w_dec: vec![0.0; 56 * 32], b_dec: vec![0.0; 32], ..weights.clone() };
    let [read, target] = ["layers.1.mlp_in", "layers.1.mlp_out"];
    save("exact", read, target, weights.clone());
    save("nothing", read, target, nothing.clone());
    // The mean of what the store has, and nothing else.
    let store = Store::open(&Run::open(&at).unwrap(), target).unwrap();
    let mut states = Vec::new();
    (0..store.shards()).map(|n| store.shard(n).unwrap()).for_each(|shard| shard.read(0..shard.rows(), &mut states));
    let mean: Vec<f32> = (0..32)
        .map(|d| states.iter().skip(d).step_by(32).map(|x| f64::from(*x)).sum::<f64>() / (states.len() / 32) as f64)
        .map(|mean| mean as f32)
        .collect();
    save("constant", read, target, Weights { b_dec: mean, ..nothing.clone() });
    save("backwards", "layers.2", target, weights);

    let with_model = ["--model", model, "--data", data];
    let all = ["--exclude", "none", "--max-norm", "0"];
    let eval = |sae: &str| json(&[&["eval", "--run", run, "--sae", sae][..], &with_model, &all].concat());
    let (exact, nothing, constant) = (eval("exact"), eval("nothing"), eval("constant"));
    let text = |found: &Value, metric: &str, variant: &str| {
        found["model"]["text"][metric][variant]["value"]
            .as_f64()
            .unwrap_or_else(|| panic!("{metric} {variant}: {found}"))
    };
    assert!(exact["all"]["fvu"].as_f64().unwrap() < 1e-9, "{exact}");
    // What the MLP computes itself changes nothing.
    let [original, zero] = ["original", "zero"].map(|variant| text(&exact, "cross_entropy", variant));
    assert!((zero - original).abs() > 0.05, "the MLP matters: {original} {zero}");
    for variant in ["replaced", "replaced_text", "replaced_image"] {
        assert!(text(&exact, "increase", variant).abs() < 1e-5, "{exact}");
        assert!((text(&exact, "loss_recovered", variant) - 1.0).abs() < 1e-4, "{exact}");
    }
    // A transcoder of zeros is the ablation, to the bit; at the positions of images alone it is not.
    for metric in ["cross_entropy", "increase", "kl"] {
        assert_eq!(text(&nothing, metric, "replaced"), text(&nothing, metric, "zero"), "{metric}");
        assert_ne!(text(&nothing, metric, "replaced_image"), text(&nothing, metric, "zero"), "{metric}");
    }
    assert_eq!(text(&nothing, "loss_recovered", "replaced"), 0.0);
    // One without features is the mean, whatever else is evaluated.
    for metric in ["cross_entropy", "increase", "kl", "loss_recovered"] {
        let [mean, replaced] = ["mean", "replaced"].map(|variant| text(&constant, metric, variant));
        assert!((mean - replaced).abs() < 1e-5 && mean == text(&exact, metric, "mean"), "{metric}: {mean} {replaced}");
        assert_ne!(mean, text(&nothing, metric, "replaced"), "{metric}");
    }
    // And the ablation is the model whose weights of that MLP are zero.
    let models = json(&["eval", "--models", model, ablated, "--data", data]);
    let nats = |n: usize| models["results"][n]["nats_per_token"][0].as_f64().unwrap();
    assert!((nats(0) - original).abs() < 1e-6 && (nats(1) - zero).abs() < 1e-5, "{models} {original} {zero}");

    // The table reads both hooks straight from the model.
    let table = json(&[&["eval", "--run", run, "--sae", "exact,nothing", "--table"][..], &with_model].concat());
    let number = |row: usize, key: &str| table["transfers"][row][key].as_f64().unwrap();
    assert!(number(0, "fvu") < 1e-9 && number(1, "fvu") > 0.9, "{table}");
    let increase = |row: usize| table["transfers"][row]["increase"]["value"].as_f64().unwrap();
    assert!(increase(0).abs() < 1e-5, "{table}");
    assert!((increase(1) - text(&nothing, "increase", "zero")).abs() < 1e-5, "{table}");

    // What is read later cannot decide what comes before it.
    let said = fails(1, &[&["eval", "--run", run, "--sae", "backwards"][..], &with_model].concat());
    let expected = "states at layers.1.mlp_out cannot be replaced by what is made from those at layers.2";
    assert!(said.contains(expected), "{said}");
}
