//! `sae contrast` on rows with planted words: what differs is found, tables and predictions are written, and questions that
//! cannot be answered are rejected. `docs/check_contrast.py` compares its numbers with dense formulas in numpy.

use crate::tool::{fails, files, json, tiny_model};
use arrow::array::{AsArray, BooleanArray};
use arrow::datatypes::{Float64Type, UInt32Type};
use sae_core::analysis::contrast::{read_examples, read_groups};
use sae_core::table;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// 240 texts: 80 questions, each answered in three styles. Every style has words of its own, and authors write four questions.
fn rows() -> Vec<Value> {
    let (styles, sizes) = (["plain", "short", "long"], ["small", "medium", "large"]);
    let own = ["red circle", "blue square", "green line"];
    let row = |n: usize| {
        let (question, style) = (n / 3, n % 3);
        let filler = "the small thing ".repeat(1 + question % 4);
        json!({
            "id": format!("row-{n}"),
            "conversations": [
                { "from": "human", "value": format!("Question {question}?") },
                { "from": "gpt", "value": format!("{filler}{} {}", own[style], question * 7 % 10) },
            ],
            "style": styles[style], "question": question, "author": question / 4,
            "size": sizes[question % 3], "step": question % 20, "reward": question % 7,
        })
    };
    (0..240).map(row).collect()
}

fn run_with_autoencoder(dir: &Path, rows: &[Value]) -> PathBuf {
    let (data, run) = (dir.join("data.jsonl"), dir.join("run"));
    fs::write(&data, rows.iter().map(|row| format!("{row}\n")).collect::<String>()).unwrap();
    let model = tiny_model();
    let [model, data, of] = [&model, &data, &run].map(|path| path.to_str().unwrap());
    json(&["harvest", "--model", model, "--data", data, "--run", of, "--layers", "1"]);
    let train = ["train", "--run", of, "--hook", "layers.1", "--name", "a", "--features", "256", "--k", "8"];
    json(&[&train[..], &["--batch", "256", "--steps", "150", "--lr", "3e-3"]].concat());
    run
}

fn contrast(run: &Path, more: &[&str]) -> Value {
    json(&[&["contrast", "--run", run.to_str().unwrap(), "--threshold", "0"][..], more].concat())
}

#[test]
fn planted_words_differ_between_styles_and_predict_them() {
    let dir = tempfile::tempdir().unwrap();
    let run = run_with_autoencoder(dir.path(), &rows());
    let asked =
        ["--groups", "style", "--pair", "question", "--cluster", "author", "--part", "answer", "--placebo", "4"];
    // 20 authors are too few to divide: each half would need 100.
    let found = contrast(&run, &asked);
    assert_eq!(
        (&found["samples"], &found["clusters"], &found["confirming_clusters"]),
        (&json!(240), &json!(20), &json!(0))
    );
    assert!(found["differing"].as_u64().unwrap() >= 3, "{found}");
    let shuffled: u64 = found["shuffled"].as_array().unwrap().iter().map(|n| n.as_u64().unwrap()).sum();
    assert!(shuffled <= 4, "{found}");
    for prediction in found["predictions"].as_array().unwrap() {
        assert!(
            prediction["features"].as_f64().unwrap() > 0.95 && prediction["words"].as_f64().unwrap() > 0.95,
            "{found}"
        );
        assert!(prediction["length"].as_f64().unwrap() < 0.7, "{found}");
    }
    // The tables agree with the report.
    let folder = run.join("contrasts/style");
    let features = table::read(&folder.join("features.parquet"), &[]).unwrap();
    let is_found: &BooleanArray = features.column_by_name("found").unwrap().as_boolean();
    assert_eq!(is_found.true_count() as u64, found["findings"].as_u64().unwrap());
    let numbers = features.column_by_name("feature").unwrap().as_primitive::<UInt32Type>().values();
    let differing: BTreeSet<u32> =
        (0..numbers.len()).filter(|row| is_found.value(*row)).map(|row| numbers[row]).collect();
    let groups = table::read(&folder.join("groups.parquet"), &[]).unwrap();
    let in_groups = groups.column_by_name("feature").unwrap().as_primitive::<UInt32Type>().values();
    assert_eq!(in_groups.iter().copied().collect::<BTreeSet<_>>(), differing);
    let adjusted = groups.column_by_name("adjusted").unwrap().as_primitive::<Float64Type>();
    assert!(adjusted.values().iter().all(|share| (-1e-9..=1.0 + 1e-9).contains(share)));
    // Every example is a sample of its group in which the feature is active, and no group with active samples lacks one.
    let examples = read_examples(&folder.join("examples.parquet")).unwrap();
    assert!(examples.iter().all(|row| row.group == ["plain", "short", "long"][row.example.sample as usize % 3]));
    assert!(examples.iter().all(|row| row.example.activation > 0.0));
    let with_examples: BTreeSet<(u32, &str)> = examples.iter().map(|row| (row.feature, row.group.as_str())).collect();
    let values = read_groups(&folder.join("groups.parquet")).unwrap();
    let active = values.iter().filter(|value| value.prevalence.is_some_and(|share| share > 0.0));
    assert_eq!(with_examples, active.map(|value| (value.feature, value.group.as_str())).collect());
    assert!(fs::read(folder.join("volcano.png")).unwrap().starts_with(b"\x89PNG"));
    // The predictions are a score: the samples of the style come first.
    let kept = dir.path().join("kept");
    let of = run.to_str().unwrap();
    let filter =
        ["filter", "--run", of, "--by", "predicted_style_long", "--keep", "80", "--out", kept.to_str().unwrap()];
    assert_eq!(json(&filter)["kept"]["rows"], 80);
    let lines = fs::read_to_string(kept.join("data/data.jsonl")).unwrap();
    assert!(lines.lines().filter(|line| line.contains("\"style\":\"long\"")).count() >= 76, "{lines}");

    // So is their diversity, in a run that was never scored.
    let diverse = dir.path().join("diverse");
    let asked_for = ["filter", "--run", of, "--by", "predicted_style_long", "--keep", "80", "--diverse", "--out"];
    assert_eq!(json(&[&asked_for[..], &[diverse.to_str().unwrap()]].concat())["kept"]["rows"], 80);

    // Again, from the stored summaries; and in a pass on one thread, because those are damaged: the same bytes.
    let (before, stored) = (files(&folder), run.join("summaries/a/answer.bin"));
    let summaries = fs::read(&stored).unwrap();
    let again = || {
        let mut program = crate::tool::sae();
        program.args(["contrast", "--threshold", "0", "--run", of]).args(asked).env("RAYON_NUM_THREADS", "1");
        let output = program.output().unwrap();
        assert!(output.status.success(), "{}", crate::tool::said(&output));
        assert_eq!(files(&folder), before);
        crate::tool::said(&output)
    };
    assert!(!again().contains("is made again"));
    let mut damaged = summaries.clone();
    damaged[summaries.len() / 2] ^= 1;
    fs::write(&stored, &damaged).unwrap();
    let said = again();
    assert!(said.contains("answer.bin is made again: its bytes have changed since they were written"), "{said}");
    assert_eq!(fs::read(&stored).unwrap(), summaries);

    // Activations that are gone are not missed. Where a file of the autoencoder has changed, summaries are made again.
    let (shards, aside) = (run.join("activations/layers.1/shard-00000.safetensors"), run.join("aside"));
    fs::rename(&shards, &aside).unwrap();
    again();
    fs::rename(&aside, &shards).unwrap();
    let config = run.join("saes/a/cfg.json");
    fs::write(&config, fs::read_to_string(&config).unwrap() + "\n").unwrap();
    let said = again();
    assert!(said.contains("it was made from something else (different: sae_blake3)"), "{said}");

    // Along an order, and with a target ahead in the same cluster.
    let order =
        contrast(&run, &["--order", "size=small<medium<large", "--bins", "3", "--placebo", "2", "--select", "0"]);
    assert_eq!((&order["columns"][0]["samples"], &order["predictions"]), (&json!(240), &json!([])));
    let ahead = contrast(
        &run,
        &["--target", "reward", "--lead", "3", "--cluster", "author", "--name", "ahead", "--placebo", "0"],
    );
    // The last sample of each author has none that follow.
    assert_eq!((&ahead["left_out"], &ahead["shuffled"]), (&json!(20), &json!([])));
}

#[test]
fn only_positions_between_markers_count() {
    let dir = tempfile::tempdir().unwrap();
    let row = |n: usize| {
        let (plan, end) = (["red circle", "blue square"][n % 2], if n == 0 { "" } else { "</plan>" });
        let (more, other) = (" x".repeat(n * 7 % 23), ["blue square", "red circle"][n / 2 % 2]);
        let answer = format!("<plan>{plan}{more}{end} it is {other}");
        json!({"question": format!("Question {n}?"), "answer": answer, "style": n % 2})
    };
    let run = run_with_autoencoder(dir.path(), &(0..160).map(row).collect::<Vec<_>>());
    let asked = ["--groups", "style", "--part", "answer", "--between", "<plan>", "</plan>", "--placebo", "0"];
    let found = contrast(&run, &asked);
    assert_eq!(found["between"], json!({"open": "<plan>", "close": "</plan>"}));
    assert_eq!((&found["unmatched_markers"], &found["samples_with_unmatched_markers"]), (&json!(1), &json!(1)));
    // The first sample has no second marker, and so no position between markers.
    assert_eq!((&found["samples"], &found["left_out"]), (&json!(159), &json!(1)));
    // Plans differ in every word, and have nothing of the words outside.
    assert!(found["predictions"][0]["words"].as_f64().unwrap() > 0.99, "{found}");
    let outside = contrast(&run, &["--groups", "style", "--part", "answer", "--placebo", "0", "--name", "all"]);
    assert!(outside["predictions"][0]["words"].as_f64().unwrap() < 0.99, "{outside}");
    let of = run.to_str().unwrap();
    let said = fails(1, &["contrast", "--run", of, "--groups", "style", "--part", "think"]);
    assert!(said.contains("position of the part think between <think> and </think>"), "{said}");
}

#[test]
fn questions_that_the_rows_cannot_answer_are_rejected() {
    let dir = tempfile::tempdir().unwrap();
    let run = run_with_autoencoder(dir.path(), &rows()[..90]);
    let of = run.to_str().unwrap();
    let said = |more: &[&str]| fails(1, &[&["contrast", "--run", of][..], more].concat());
    let unknown = said(&["--groups", "pattern"]);
    assert!(unknown.contains("no row has a field pattern (rows have author, id, question"), "{unknown}");
    assert!(said(&["--target", "pmi"]).contains("no row has a field pmi"));
    assert!(said(&["--groups", "question"]).contains("20 samples or more, but 0 has 3, 1 has 3"));
    assert!(said(&["--groups", "style", "--cluster", "style"]).contains("each group of style is one cluster"));
    assert!(said(&["--order", "size=small<large"]).contains("does not name: medium"));
    assert!(said(&["--order", "style"]).contains("not numbers: \"plain\", \"short\", \"long\""));
    assert!(said(&["--target", "reward", "--lead", "2"]).contains("hint: choose another --cluster"));
    assert!(said(&["--groups", "style", "--pair", "style"]).contains("each group of style is one cluster"));
    assert!(
        said(&["--groups", "style", "--pair", "author", "--cluster", "question"])
            .contains("in several clusters of question")
    );
    assert!(said(&["--groups", "style", "--part", "image"]).contains("has a position of the part image"));
    assert!(said(&["--groups", "style", "--confirm", "50%", "--cluster", "author"]).contains("each needs 10 or more"));
    assert!(!run.join("contrasts").exists());
    let plan = json(&["contrast", "--run", of, "--groups", "style", "--dry-run"]);
    assert_eq!((&plan["columns"], &plan["with_value"]), (&json!(["long", "plain", "short"]), &json!(90)));
    let two = crate::tool::sae().args(["contrast", "--run", of, "--groups", "style", "--order", "n"]).output().unwrap();
    assert_eq!(two.status.code(), Some(2));
}

/// 48 episodes of 14 steps. In half of them the agent collides at step 10, and in each of the five steps before it the action
/// has the id 300 in it. Elsewhere the ids are the same in all episodes.
fn steps() -> Vec<Value> {
    let step = |n: usize| {
        let (episode, step) = (n / 14, n % 14);
        let collides = episode % 2 == 0;
        let ahead = collides && (5..10).contains(&step);
        json!({
            "task": "go to the red square", "episode": episode, "step": step,
            "action_ids": [200 + n * 7 % 40, if ahead { 300 } else { 250 + n * 11 % 30 }],
            "collision": u8::from(collides && step == 10),
        })
    };
    (0..48 * 14).map(step).collect()
}

#[test]
fn a_feature_that_fires_five_steps_before_an_event_is_found_among_actions() {
    let dir = tempfile::tempdir().unwrap();
    let run = run_with_autoencoder(dir.path(), &steps());
    // Ids that occur once in a hundred tokens need more training than words.
    let train =
        ["train", "--run", run.to_str().unwrap(), "--hook", "layers.1", "--name", "longer", "--features", "256"];
    json(&[&train[..], &["--k", "8", "--batch", "256", "--steps", "300", "--lr", "1e-2"]].concat());
    let asked =
        ["--sae", "longer", "--target", "collision", "--cluster", "episode", "--part", "action", "--placebo", "2"];
    let found = contrast(&run, &[&asked[..], &["--lead", "5", "--name", "ahead"]].concat());
    // The last step of each episode has none that follow.
    assert_eq!((&found["samples"], &found["left_out"], &found["clusters"]), (&json!(48 * 13), &json!(48), &json!(48)));
    assert!(found["differing"].as_u64().unwrap() >= 1, "{found}");
    let strongest = &found["strongest"][0];
    assert!(
        strongest["prevalence"].as_f64().unwrap() > 0.9 && strongest["effect"][0].as_f64().unwrap() > 0.5,
        "{found}"
    );
    let prediction = &found["predictions"][0];
    assert!(prediction["features"].as_f64().unwrap() > 0.95, "{found}");
    // At the event itself the feature is silent.
    let now = contrast(&run, &[&asked[..], &["--name", "now"]].concat());
    assert!(now["predictions"][0]["features"].as_f64().is_none_or(|auc| auc < 0.8), "{now}");
}
