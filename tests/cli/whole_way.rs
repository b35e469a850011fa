//! Harvest, train, evaluate, index, score, filter through the program, and the demo on the bundled model and data.

use crate::tool::{data_set, json, repository, sae, said, tiny_model};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

#[test]
fn from_a_data_set_to_a_filtered_one() {
    let dir = tempfile::tempdir().unwrap();
    let data = data_set(dir.path(), 60);
    let (model, run, out, dropped) =
        (tiny_model(), dir.path().join("run"), dir.path().join("out"), dir.path().join("gone"));
    let [model, data, run, out, dropped] = [&model, &data, &run, &out, &dropped].map(|p| p.to_str().unwrap());

    let plan = json(&["harvest", "--model", model, "--data", data, "--run", run, "--layers", "1", "--dry-run"]);
    assert_eq!(plan["command"], "harvest");
    assert!(!dir.path().join("run").exists(), "--dry-run does nothing");

    let harvested = json(&["harvest", "--model", model, "--data", data, "--run", run, "--layers", "1"]);
    assert_eq!(harvested["samples"], 60);
    let train = ["--l1", "0.05", "--lr", "0.003", "--batch", "128", "--steps", "200", "--expansion", "4"];
    let trained = json(&[&["train", "--run", run, "--hook", "layers.1", "--name", "base"], &train[..]].concat());
    assert_eq!(trained["tokens"], 200 * 128);

    let report = json(&["eval", "--run", run, "--sae", "base"]);
    let all = &report["all"];
    assert_eq!(all["tokens"], harvested["tokens"]);
    let by = &report["by_modality"];
    assert_eq!(
        by["text"]["tokens"].as_u64().unwrap() + by["image"]["tokens"].as_u64().unwrap(),
        all["tokens"].as_u64().unwrap()
    );
    assert!(all["fvu"].as_f64().unwrap() < 0.9, "{report}");

    let index = json(&["index", "--run", run]);
    let classes: u64 = index["classes"].as_object().unwrap().values().map(|n| n.as_u64().unwrap()).sum();
    assert_eq!((classes, index["features"].as_u64()), (128, Some(128)));

    let scored = json(&["score", "--run", run]);
    assert_eq!(scored["samples"], 60);
    let columns: Vec<_> = scored["columns"].as_array().unwrap().iter().map(|c| c.as_str().unwrap()).collect();
    let modes = ["paper", "release", "corrected"];
    let expected = modes.iter().flat_map(|mode| ["cosine", "l0", "co_l0"].map(|method| format!("{method}_{mode}")));
    assert_eq!(columns, expected.chain(["pmi".into(), "random".into()]).collect::<Vec<_>>());
    assert_eq!(scored["without"], serde_json::json!({}));
    let why = json(&["score", "--run", run, "--explain", "row-3"]);
    assert!(why["pmi"].is_f64() && why["sample"] == 3, "{why}");

    // The same answers as chosen and as rejected: no margin, whatever the score.
    let margins = json(&["score", "--run", run, "--rejected", run, "--mode", "paper"]);
    let names: Vec<_> = margins["columns"].as_array().unwrap().iter().map(|c| c.as_str().unwrap()).collect();
    assert_eq!(names[..5], ["cosine_paper", "l0_paper", "co_l0_paper", "pmi", "random"]);
    assert!(names.contains(&"pmi_rejected") && names.contains(&"cosine_paper_margin") && names.len() == 13);
    for keep in [">=0", ">=0.0000001"] {
        let plan = ["filter", "--run", run, "--by", "pmi_margin", "--keep", keep, "--out", out, "--dry-run"];
        assert_eq!(json(&plan)["keep"], if keep == ">=0" { 60 } else { 0 });
    }
    let filter = ["filter", "--run", run, "--by", "pmi", "--keep", "25%", "--out", out, "--dropped", dropped];
    let filtered = json(&filter);
    assert_eq!((filtered["kept"]["rows"].as_u64(), filtered["dropped"].as_u64()), (Some(15), Some(45)));
    let lines = |folder: &str| -> BTreeSet<String> {
        let text = fs::read_to_string(dir.path().join(folder).join("data/data.jsonl")).unwrap();
        text.lines().map(String::from).collect()
    };
    let (kept, gone) = (lines("out"), lines("gone"));
    let all: BTreeSet<_> = fs::read_to_string(data).unwrap().lines().map(String::from).collect();
    assert_eq!((kept.len(), gone.len()), (15, 45));
    assert_eq!(kept.union(&gone).cloned().collect::<BTreeSet<_>>(), all, "rows are copied as they stand");
    for row in &kept {
        let row: serde_json::Value = serde_json::from_str(row).unwrap();
        assert!(dir.path().join("out/data").join(row["image"].as_str().unwrap()).exists(), "images come along");
    }

    let again = sae().args(filter).output().unwrap();
    assert!(said(&again).contains("not empty"), "an existing folder is never written over");
}

#[test]
fn the_demo_ends_in_its_report() {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("run");
    let assets = repository("assets");
    let args = ["demo", "--steps", "40", "--seeds", "2"];
    let demo = || {
        let mut command = sae();
        command.args(args).arg("--run").arg(&run).arg("--assets").arg(&assets);
        command
    };
    let output = demo().arg("--json").output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    let found: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(found["samples"].as_u64().unwrap() >= 400);
    assert_eq!(found["swapped"][0].as_f64().map(|s| (s * 100.0).round()), Some(25.0));
    for score in ["cosine_paper", "l0_paper", "co_l0_paper", "pmi", "pmi_blank", "random"] {
        let values: Vec<f64> = found["auc"][score].as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect();
        assert!(values.len() == 2 && values.iter().all(|v| (0.0..=1.0).contains(v)), "{score}: {values:?}");
    }
    let picture = fs::read(run.join("scores.png")).unwrap();
    assert!(picture.starts_with(b"\x89PNG") && picture.len() > 5_000);

    // Again, as text: finished steps are kept, and the figures are the same.
    let output = demo().output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    let text = String::from_utf8(output.stdout).unwrap();
    for part in ["Reconstruction", "most cross-modal features", "0.5 is chance", "scores.png", "sae-gui"] {
        assert!(text.contains(part), "{text}");
    }
    let (differ, chosen) = choices_that_differ(&run);
    assert!(chosen > 10_000, "{chosen} are too few to count");
    assert_eq!(differ, 0, "of {chosen} choices");
    let auc = format!("{:.3}", found["auc"]["cosine_paper"][0].as_f64().unwrap());
    assert!(text.contains(&auc), "{auc} in {text}");
}

/// How often the integer product's choice differs from that of `f32`, on a real model's activations with their loud image
/// positions and on trained weights of unequal norms: never, since its margin is proven (see `sae_core::autoencoder::kernel`).
fn choices_that_differ(run: &Path) -> (usize, usize) {
    use sae_core::autoencoder::kernel::{Panels, Rule, select};
    use sae_core::vector;
    let run = sae_core::Run::open(run).unwrap();
    let weights = sae_core::autoencoder::formats::load(&run.sae_dir("seed-0")).unwrap().weights;
    let store = sae_core::store::Store::open(&run, "layers.4").unwrap();
    let (mut x, d) = (Vec::new(), weights.d_in);
    store.shard(0).unwrap().read(0..600, &mut x);
    let panels = Panels::new(&weights.w_enc, d);
    let (mut differ, mut chosen) = (0, 0);
    for k in [8, 32, 128] {
        let found = select(&x, &weights.w_enc, &weights.b_enc, None, &panels, Rule::TopK(k));
        for (r, x) in x.chunks(d).enumerate() {
            let p = |f: usize| vector::dot(x, &weights.w_enc[f * d..(f + 1) * d]) + weights.b_enc[f];
            let mut order: Vec<(f32, u32)> = (0..weights.d_sae).map(|f| (p(f), f as u32)).collect();
            order.retain(|(p, _)| *p > 0.0);
            order.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
            order.truncate(k);
            chosen += order.len();
            differ += order.iter().filter(|(_, f)| !found.row(r).0.contains(f)).count();
        }
    }
    (differ, chosen)
}
