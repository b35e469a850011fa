//! Features for others, through the real program: SAEDashboard's and Neuronpedia's files, pages for a browser, steering vectors.

use crate::tool::{data_set, fails, json, tiny_model};
use sae_core::tensors::Tensors;
use serde_json::Value;
use std::fs;
use std::io::Read;
use std::path::Path;

fn indexed(dir: &Path) -> String {
    let data = data_set(dir, 12);
    let (model, run) = (tiny_model(), dir.join("run"));
    let [model, data, run] = [&model, &data, &run].map(|path| path.to_str().unwrap());
    json(&["harvest", "--model", model, "--data", data, "--run", run, "--layers", "1"]);
    let train = ["--l1", "0.05", "--batch", "128", "--steps", "100", "--expansion", "4"];
    json(&[&["train", "--run", run, "--hook", "layers.1", "--name", "base"], &train[..]].concat());
    json(&["index", "--run", run]);
    run.into()
}

fn value(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))).unwrap()
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn unzipped(path: &Path) -> Vec<Value> {
    let mut text = String::new();
    flate2::read::GzDecoder::new(fs::File::open(path).unwrap()).read_to_string(&mut text).unwrap();
    lines(&text)
}

#[test]
fn features_are_exported_with_their_examples_and_images() {
    let dir = tempfile::tempdir().unwrap();
    let run = indexed(dir.path());
    let at = |name: &str| dir.path().join(name);
    let export = |to: &str, more: &[&str]| {
        let out = at(to);
        json(&[&["export", "--run", &run, "--to", to, "--out", out.to_str().unwrap()], more].concat())
    };

    let plan = export("saedashboard", &["--limit", "70", "--dry-run"]);
    assert!(!at("saedashboard").exists() && plan["exported"].as_array().unwrap().len() == 70, "{plan}");
    let told = export("saedashboard", &["--limit", "70"]);
    assert_eq!((told["features"].as_u64(), told["without_images"].as_array().unwrap().len()), (Some(70), 0));
    let batches: Vec<Value> = (0..2).map(|n| value(&at(&format!("saedashboard/batch-{n}.json")))).collect();
    let features: Vec<&Value> = batches.iter().flat_map(|batch| batch["features"].as_array().unwrap()).collect();
    assert_eq!((features.len(), batches[0]["features"].as_array().unwrap().len()), (70, 64));
    let skipped = value(&at("saedashboard/skipped_indexes.json"));
    assert_eq!(skipped["skipped_indexes"].as_array().unwrap().len(), 128 - 70);
    assert_eq!(features[0]["pos_str"].as_array().unwrap().len(), 10);
    let images = lines(&fs::read_to_string(at("saedashboard/images-0.jsonl")).unwrap());
    for line in &images {
        let file = at("saedashboard").join(line["images"][0]["file"].as_str().unwrap());
        assert!(fs::read(&file).unwrap().starts_with(b"\x89PNG"), "{}", file.display());
        assert!(
            !line["images"][0]["path"].as_str().unwrap().starts_with('/'),
            "places on this machine are nobody's business"
        );
    }

    export("neuronpedia", &["--limit", "3"]);
    let folder = at("neuronpedia/llava-a/1-base");
    let (rows, activations) =
        (unzipped(&folder.join("features/batch-0.jsonl.gz")), unzipped(&folder.join("activations/batch-0.jsonl.gz")));
    assert_eq!(rows.len(), 3);
    assert!(activations.len() > 3 && activations.iter().all(|a| rows.iter().any(|row| row["index"] == a["index"])));
    for name in ["release", "model", "sourceset", "source"] {
        assert_eq!(lines(&fs::read_to_string(folder.join(format!("{name}.jsonl"))).unwrap()).len(), 1);
    }

    let [first, second] = [0, 1].map(|n| features[n]["feature_index"].to_string());
    export("html", &["--features", &format!("{second},{first}")]);
    let list = fs::read_to_string(at("html/index.html")).unwrap();
    for feature in [&first, &second] {
        assert!(list.contains(&format!("{feature}.html")));
        let page = fs::read_to_string(at("html").join(format!("{feature}.html"))).unwrap();
        assert!(
            page.contains("data:image/jpeg;base64,/9j/")
                && page.contains("Tokens promoted")
                && !page.contains("<script")
        );
    }
    assert!(
        fails(1, &["export", "--run", &run, "--to", "html", "--out", at("html").to_str().unwrap()])
            .contains("not empty")
    );
}

#[test]
fn directions_are_exported_as_steering_vectors() {
    let dir = tempfile::tempdir().unwrap();
    let run = indexed(dir.path());
    let out = dir.path().join("vectors.safetensors");
    let args = ["export", "--run", &run, "--to", "steering-vector", "--out", out.to_str().unwrap()];
    let with = |features: &'static str| [&args[..], &["--features", features]].concat();
    assert!(fails(1, &args).contains("--features 12,705"));
    assert!(fails(1, &with("128")).contains("there is no feature 128"));
    assert_eq!(json(&[&with("7,3")[..], &["--dry-run"]].concat())["features"], serde_json::json!([7, 3]));
    assert!(!out.exists());
    let told = json(&with("7,3"));
    assert!(fails(1, &with("7,3")).contains("exists"));

    let (found, sae) = (Tensors::open(&out).unwrap(), Path::new(&run).join("saes/base/sae_weights.safetensors"));
    let w_dec = Tensors::open(&sae).unwrap().f32("W_dec", &[128, 32]).unwrap();
    let vectors = found.f32("vectors", &[2, 32]).unwrap();
    assert_eq!(vectors, [&w_dec[7 * 32..8 * 32], &w_dec[3 * 32..4 * 32]].concat());
    let norms = found.f32("norms", &[2]).unwrap();
    let length: f32 = vectors[..32].iter().map(|x| x * x).sum::<f32>().sqrt();
    assert!((norms[0] - length).abs() < 1e-6);
    let largest = found.f32("largest", &[2]).unwrap();
    assert_eq!(told["largest"].as_array().unwrap().len(), 2);
    assert!(largest.iter().all(|largest| *largest >= 0.0));
    assert_eq!((found.text("hook"), found.text("features")), (Some("layers.1"), Some("7,3")));
    assert_eq!(found.text("model"), Some("llava-a"));
}

#[test]
fn images_that_are_gone_are_said_and_what_is_wrong_ends_before_anything_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let run = indexed(dir.path());
    let out = dir.path().join("out");
    let args = ["export", "--run", &run, "--out", out.to_str().unwrap()];
    let to = |more: &[&'static str]| [&args[..], more].concat();
    assert!(
        fails(1, &to(&["--to", "html", "--features", "128"])).contains("there is no feature 128; the index has 128")
    );
    assert!(fails(1, &to(&["--to", "sae-lens", "--class", "cross"])).contains("a format of autoencoders"));
    assert!(fails(2, &to(&["--to", "pdf"])).contains("features go to saedashboard, neuronpedia, html"));
    assert!(!out.exists());

    fs::remove_file(dir.path().join("images/square.png")).unwrap();
    let told = json(&to(&["--to", "html", "--limit", "100"]));
    assert!(told["without_images"][0].as_str().unwrap().contains("square.png"), "{told}");
    let pages = fs::read_dir(&out).unwrap().map(|page| fs::read_to_string(page.unwrap().path()).unwrap());
    assert!(pages.into_iter().any(|page| page.contains("the image is not at hand")));
}
