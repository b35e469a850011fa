//! Labels from an endpoint, through the real program, with a stand-in on this machine: cost first, what is asked, what is
//! saved, going on after a failure.

use crate::server::{Answer, Server};
use crate::tool::{data_set, fails, json, sae, said, tiny_model};
use serde_json::{Value, json as object};
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// A run with an index, and three features: two that fire on images, but not on all of them, and another.
fn indexed(dir: &Path) -> (String, Vec<u32>) {
    let data = data_set(dir, 24);
    let (model, run) = (tiny_model(), dir.join("run"));
    let [model, data, run] = [&model, &data, &run].map(|path| path.to_str().unwrap());
    json(&["harvest", "--model", model, "--data", data, "--run", run, "--layers", "1"]);
    let train = ["--arch", "topk", "--k", "4", "--lr", "0.003", "--batch", "128", "--steps", "200", "--expansion", "4"];
    json(&[&["train", "--run", run, "--hook", "layers.1", "--name", "base"], &train[..]].concat());
    let index = json(&["index", "--run", run]);
    assert_eq!(index["words_by"].as_str(), fs::canonicalize(model).unwrap().to_str(), "{index}");
    let features = sae_core::analysis::index::Index::open(&dir.join("run/features/base")).unwrap();
    assert!(features.logits(0).unwrap().is_some_and(|words| words.len() == 20));
    let some = |row: &&sae_core::analysis::index::FeatureRow| row.fires_image > 10 && (20..60).contains(&row.fires);
    let mut some: Vec<u32> = features.features().iter().filter(some).map(|row| row.feature).take(2).collect();
    let last = features.features().iter().rev().find(|row| row.fires > 30 && row.class == "text");
    some.push(last.unwrap().feature);
    assert!(some.len() == 3 && some.is_sorted(), "{some:?}");
    (run.into(), some)
}

fn answer(words: &str) -> Answer {
    let usage = object!({ "prompt_tokens": 100, "completion_tokens": 10 });
    let choices = object!([{ "message": { "content": words } }]);
    Answer::ok(object!({ "choices": choices, "usage": usage }).to_string().into_bytes())
}

/// The words of a question, and its pictures.
fn parts(body: &Value) -> (String, Vec<String>) {
    let parts = body["messages"][0]["content"].as_array().unwrap();
    let texts = parts.iter().filter_map(|part| part["text"].as_str()).collect::<Vec<_>>().join("\n");
    let pictures = parts.iter().filter_map(|part| part["image_url"]["url"].as_str()).map(String::from).collect();
    (texts, pictures)
}

#[test]
fn labels_are_asked_for_tried_and_kept() {
    let dir = tempfile::tempdir().unwrap();
    let (run, features) = indexed(dir.path());
    let list = features.iter().map(u32::to_string).collect::<Vec<_>>().join(",");
    let bodies: Arc<Mutex<Vec<Value>>> = Arc::default();
    let (log, asked) = (Arc::clone(&bodies), AtomicUsize::new(0));
    let server = Server::with_body(move |_, headers, body| {
        assert!(headers.iter().any(|header| header == "authorization: bearer mine"));
        let body: Value = serde_json::from_slice(body).unwrap();
        log.lock().unwrap().push(body.clone());
        let (text, _) = parts(&body);
        match asked.fetch_add(1, Ordering::SeqCst) {
            // The second feature's first question fails for good.
            2 => Answer::new(400),
            _ if text.contains("described as: squares of one color") => answer("All of them: [1, 2, 3, 4]"),
            _ => answer("\"squares of one color\"\n"),
        }
    });
    let args = ["label", "--run", &run, "--url", &server.address, "--model", "stand-in", "--features", &list];
    let more = ["--price", "2,10", "--per-minute", "6000"];
    let args = [&args[..], &more].concat();

    let plan = json(&[&args[..], &["--dry-run"]].concat());
    assert_eq!((plan["about"]["calls"].as_u64(), plan["to_label"].as_array().unwrap().len()), (Some(6), 3));
    let price =
        2e-6 * plan["about"]["tokens_in"].as_f64().unwrap() + 1e-5 * plan["about"]["tokens_out"].as_f64().unwrap();
    assert!((plan["price"].as_f64().unwrap() - price).abs() < 1e-9 && price > 0.0);
    let estimate = sae().args(&args).output().unwrap();
    assert!(estimate.status.success() && estimate.stderr.is_empty(), "{}", said(&estimate));
    let estimate = String::from_utf8(estimate.stdout).unwrap();
    assert!(estimate.contains("6 questions") && estimate.contains("--yes sends the questions"), "{estimate}");
    assert_eq!(server.requests(), Vec::<String>::new(), "nothing is asked before the cost is agreed to");

    let start =
        |extra: &[&str]| sae().args(&args).args(extra).arg("--yes").env("OPENAI_API_KEY", "mine").output().unwrap();
    let stopped = start(&[]);
    let words = said(&stopped);
    assert!(
        stopped.status.code() == Some(1) && words.contains("1 label saved") && words.contains("returned status 400"),
        "{words}"
    );
    assert!(!words.contains("mine"), "the key is not told");

    // A person's word in the meantime.
    let labels = Path::new(&run).join("labels.json");
    let mut written: Value = serde_json::from_slice(&fs::read(&labels).unwrap()).unwrap();
    let first = &written["saes"]["base"]["labels"][0];
    assert_eq!(first["label"], "squares of one color");
    assert_eq!((&first["author"], first["feature"].as_u64()), (&object!("stand-in"), Some(u64::from(features[0]))));
    written["saes"]["base"]["labels"]
        .as_array_mut()
        .unwrap()
        .push(object!({ "feature": features[2], "label": "corners", "author": "Ada" }));
    fs::write(&labels, written.to_string()).unwrap();

    let done = start(&["--json"]);
    assert!(done.status.success(), "{}", said(&done));
    let done: Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!((done["labeled"].as_u64(), done["labeled_already"].as_u64()), (Some(1), Some(2)));
    assert_eq!((done["tokens_in"].as_u64(), done["tokens_out"].as_u64()), (Some(200), Some(20)));
    let verdict = &done["labels"][0]["verdict"];
    let written: Value = serde_json::from_slice(&fs::read(&labels).unwrap()).unwrap();
    let entries = written["saes"]["base"]["labels"].as_array().unwrap();
    let by = |feature: u32| entries.iter().find(|entry| entry["feature"] == feature).unwrap();
    assert_eq!(by(features[1])["score"], verdict["accuracy"]);
    assert_eq!((by(features[2])["label"].as_str(), by(features[2])["author"].as_str()), (Some("corners"), Some("Ada")));
    let again = start(&["--json"]);
    let again: Value = serde_json::from_slice(&again.stdout).unwrap();
    assert_eq!((again["labeled"].as_u64(), again["labeled_already"].as_u64()), (Some(0), Some(3)));

    let bodies = bodies.lock().unwrap();
    assert_eq!(bodies.len(), 5, "two questions, one that failed, and two");
    assert!(bodies.iter().all(|body| body["model"] == "stand-in"));
    let (label, tried) = (parts(&bodies[3]), parts(&bodies[4]));
    assert!(label.0.contains("(strength 10)") && !tried.0.contains("strength"), "{}\n{}", label.0, tried.0);
    let pictures: Vec<&String> = label.1.iter().chain(&tried.1).collect();
    assert!(!pictures.is_empty() && pictures.iter().all(|url| url.starts_with("data:image/png;base64,iVBORw0KGgo")));
    // What the stand-in said of the first four places, held against which of them fire.
    let places = verdict["places"].as_u64().unwrap() as f64;
    let hits = (0..=4).find(|hits| {
        let right = f64::from(*hits) + (places / 2.0 - (4.0 - f64::from(*hits)));
        (verdict["accuracy"].as_f64().unwrap() - right / places).abs() < 1e-9
    });
    let f1 = 2.0 * f64::from(hits.unwrap()) / (4.0 + places / 2.0);
    assert!((verdict["f1"].as_f64().unwrap() - f1).abs() < 1e-9, "{verdict}");
}

#[test]
fn what_cannot_be_labeled_is_said_before_anything_is_asked() {
    let dir = tempfile::tempdir().unwrap();
    let (run, _) = indexed(dir.path());
    let args = ["label", "--run", &run, "--url", "http://127.0.0.1:1", "--model", "m", "--yes"];
    assert!(
        fails(1, &[&args[..], &["--features", "4000"]].concat())
            .contains("there is no feature 4000; the index has 128")
    );
    assert!(fails(2, &[&args[..], &["--price", "2"]].concat()).contains("invalid prices"));
    assert!(fails(2, &[&args[..], &["--per-minute", "0"]].concat()).contains("not above 0"));
    assert!(fails(1, &args).contains("cannot be reached"));
    fs::remove_file(dir.path().join("images/wide.png")).unwrap();
    let missing = fails(1, &args);
    assert!(missing.contains("cannot be shown") && missing.contains("wide.png"), "{missing}");
    fs::remove_dir_all(Path::new(&run).join("features")).unwrap();
    assert!(fails(1, &args).contains("hint: run `sae index` first"));
}
