//! Commands on runs whose samples are pieces: a piece stands for the path that it ends. Rows are filtered and written whole, and
//! examples, exports and explanations show what comes before a piece.

use crate::pieces::{harvest, piece, preferences, samples, write};
use crate::tool::{data_set, fails, json};
use arrow::array::AsArray;
use arrow::datatypes::{Float32Type, UInt32Type};
use sae_core::table;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Trains an autoencoder on a run, or takes that of another one, makes its index and its scores.
fn analyze(run: &Path, from: Option<&Path>) {
    let of = run.to_str().unwrap();
    match from {
        None => {
            let train =
                ["train", "--run", of, "--hook", "layers.1", "--name", "base", "--l1", "0.05", "--batch", "128"];
            json(&[&train[..], &["--expansion", "4", "--steps", "200", "--lr", "0.003"]].concat());
        }
        Some(from) => {
            fs::create_dir_all(run.join("saes/base")).unwrap();
            for file in ["cfg.json", "sae_weights.safetensors"] {
                fs::copy(from.join("saes/base").join(file), run.join("saes/base").join(file)).unwrap();
            }
        }
    }
    json(&["index", "--run", of, "--no-promoted-tokens", "--threshold", "0.1"]);
    json(&["score", "--run", of, "--threshold", "0.1"]);
}

fn rows(folder: &Path) -> Vec<Value> {
    let mut files: Vec<PathBuf> = fs::read_dir(folder.join("data")).unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    let lines = files.iter().filter(|file| file.extension().is_some_and(|end| end == "jsonl"));
    lines
        .flat_map(|file| {
            fs::read_to_string(file)
                .unwrap()
                .lines()
                .map(|line| serde_json::from_str(line).unwrap())
                .collect::<Vec<Value>>()
        })
        .collect()
}

fn keys(rows: &[Value]) -> Vec<&str> {
    rows.iter().map(|row| row["id"].as_str().unwrap()).collect()
}

fn filter(run: &Path, name: &str, more: &[&str]) -> (Value, PathBuf, PathBuf) {
    let [out, dropped] = ["", "-dropped"].map(|end| run.with_file_name(format!("{name}{end}")));
    let arguments = ["filter", "--run", run.to_str().unwrap(), "--out", out.to_str().unwrap()];
    (json(&[&arguments[..], &["--dropped", dropped.to_str().unwrap()], more].concat()), out, dropped)
}

/// `sample` and `stays` of the decisions of a filter.
fn decisions(out: &Path) -> BTreeMap<u32, bool> {
    let table = table::read(&out.join("decisions.parquet"), &["sample", "stays"]).unwrap();
    let numbers = table.column(0).as_primitive::<UInt32Type>().values().to_vec();
    numbers.into_iter().zip(table.column(1).as_boolean().iter().map(Option::unwrap)).collect()
}

#[test]
fn rows_in_pieces_are_filtered_as_whole_rows() {
    let dir = tempfile::tempdir().unwrap();
    let data = preferences(dir.path(), 12);
    let (_, answers) = harvest(dir.path(), &data, "answers", &["--pieces", "answers"]);
    analyze(&answers, None);
    let (report, out, dropped) = filter(&answers, "kept", &["--by", "random", "--keep", "50%"]);
    assert_eq!(
        (&report["kept"]["rows"], &report["dropped"], &report["without_score"]),
        (&json!(6), &json!(6), &json!(0))
    );
    // The score of a row is that of its chosen answer.
    let all = samples(&answers);
    let chosen = |n: &u32| piece(&all[*n as usize]).branch == "chosen";
    let decided = decisions(&out);
    assert!(decided.len() == 12 && decided.keys().all(chosen), "{decided:?}");
    let kept: BTreeSet<&str> = decided.iter().filter(|(_, kept)| **kept).map(|(n, _)| &*all[*n as usize].key).collect();
    // Rows are written unchanged, each into one of both folders.
    let lines: BTreeMap<String, Value> = fs::read_to_string(&data)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .map(|row| (row["id"].as_str().unwrap().to_owned(), row))
        .collect();
    let (kept_rows, dropped_rows) = (rows(&out), rows(&dropped));
    assert_eq!(keys(&kept_rows).into_iter().collect::<BTreeSet<_>>(), kept);
    assert_eq!(kept_rows.len() + dropped_rows.len(), 12);
    assert!(kept_rows.iter().chain(&dropped_rows).all(|row| lines[row["id"].as_str().unwrap()] == *row));
    let image = |row: &Value| out.join("data").join(row["image"].as_str().unwrap());
    assert!(kept_rows.iter().all(|row| image(row).is_file()), "images are copied");

    // Sentences have the scores of whole samples, so that the same rows are kept.
    let single = data_set(dir.path(), 24);
    let (_, whole) = harvest(dir.path(), &single, "whole", &[]);
    let (_, sentences) = harvest(dir.path(), &single, "sentences", &["--pieces", "sentences"]);
    analyze(&whole, Some(&answers));
    analyze(&sentences, Some(&answers));
    let by = ["--by", "random", "--keep", "6", "--within", "answer_tokens"];
    let [(_, first, _), (_, second, _)] =
        [(&whole, "of-whole"), (&sentences, "of-sentences")].map(|(run, name)| filter(run, name, &by));
    assert_eq!(keys(&rows(&first)), keys(&rows(&second)));
    // By features as well.
    let by = ["--diverse", "--keep", "4", "--dedup", "0.99"];
    let [(_, first, _), (_, second, _)] =
        [(&whole, "set-of-whole"), (&sentences, "set-of-sentences")].map(|(run, name)| filter(run, name, &by));
    assert_eq!(keys(&rows(&first)), keys(&rows(&second)));

    // Decisions name the last piece of a row, or its key.
    let text = fs::read_to_string(out.join("decisions.csv")).unwrap();
    let file = dir.path().join("edited.csv");
    fs::write(&file, text).unwrap();
    let (_, again, _) = filter(&answers, "again", &["--decisions", file.to_str().unwrap()]);
    assert_eq!(rows(&again), kept_rows);
    fs::write(&file, "key\nrow-3\n").unwrap();
    let (_, named, _) = filter(&answers, "named", &["--decisions", file.to_str().unwrap()]);
    assert_eq!(keys(&rows(&named)), ["row-3"]);
    fs::write(&file, "sample\n0\n").unwrap();
    let out = dir.path().join("never");
    let said = fails(
        1,
        &[
            "filter",
            "--run",
            answers.to_str().unwrap(),
            "--decisions",
            file.to_str().unwrap(),
            "--out",
            out.to_str().unwrap(),
        ],
    );
    assert!(said.contains("sample 0 (row-0)") && said.contains("continue"), "{said}");
}

/// Trees of four messages: a question, two answers, and a reply to the first one with an answer to it.
fn trees(dir: &Path, count: usize) -> PathBuf {
    data_set(dir, 1);
    let data = dir.join("tree.jsonl");
    let row = |n: usize, end: &str, parent: Option<&str>, text: String| {
        let image = (parent.is_none()).then_some("images/wide.png");
        json!({"id": format!("t{n}{end}"), "parent_id": parent.map(|parent| format!("t{n}{parent}")), "text": text, "image": image})
    };
    write(
        &data,
        (0..count).flat_map(|n| {
            let few = "square ".repeat(1 + n % 3);
            [
                row(n, "", None, "What is this?".into()),
                row(n, "a", Some(""), format!("A red {few}")),
                row(n, "b", Some(""), format!("A blue {few} is round")),
                row(n, "aq", Some("a"), "Are you sure?".into()),
                row(n, "aqx", Some("aq"), format!("It is {few} of {n}")),
            ]
        }),
    );
    data
}

#[test]
fn paths_of_trees_are_filtered_with_all_their_messages() {
    let dir = tempfile::tempdir().unwrap();
    let data = trees(dir.path(), 8);
    let (_, run) = harvest(dir.path(), &data, "run", &["--pieces", "tree"]);
    analyze(&run, None);
    let (report, out, dropped) = filter(&run, "kept", &["--by", "random", "--keep", "5"]);
    let all = samples(&run);
    let decided = decisions(&out);
    assert_eq!(decided.len(), 16, "two paths of each tree");
    // A message is kept with the first path that needs it, and so the kept ones are trees.
    let mut expected = BTreeSet::new();
    for (n, _) in decided.iter().filter(|(_, kept)| **kept) {
        let mut at = Some(*n);
        while let Some(n) = at {
            expected.insert(all[n as usize].key.as_str());
            at = piece(&all[n as usize]).parent;
        }
    }
    let (kept, rest) = (rows(&out), rows(&dropped));
    assert_eq!(keys(&kept).into_iter().collect::<BTreeSet<_>>(), expected);
    assert_eq!((kept.len() + rest.len(), report["dropped"].as_u64().unwrap() as usize), (40, rest.len()));
    let (again, _) = harvest(dir.path(), &out.join("data/tree.jsonl"), "again", &["--pieces", "tree"]);
    assert_eq!((&again["samples"], &again["skipped_rows"]), (&json!(kept.len()), &json!(0)));

    // In other formats each path is one conversation.
    let (report, out, dropped) = filter(&run, "chats", &["--by", "random", "--keep", "5", "--format", "jsonl"]);
    assert_eq!((&report["kept"]["rows"], &report["dropped"]), (&json!(5), &json!(11)));
    let chats = rows(&out);
    assert_eq!((chats.len(), rows(&dropped).len()), (5, 11));
    for chat in &chats {
        let said: Vec<(&str, String)> = chat["messages"]
            .as_array()
            .unwrap()
            .iter()
            .map(|turn| (turn["role"].as_str().unwrap(), turn["content"].to_string()))
            .collect();
        assert!(said[0].0 == "user" && said[0].1.contains("What is this?") && said[1].0 == "assistant", "{chat}");
        assert!(said.len() == 2 || (said.len() == 4 && said[3].1.contains("It is")), "{chat}");
    }
    assert!(out.join("data/images").is_dir());
}

#[test]
fn examples_and_exports_show_what_comes_before_a_piece() {
    let dir = tempfile::tempdir().unwrap();
    let data = data_set(dir.path(), 60);
    let (_, whole) = harvest(dir.path(), &data, "whole", &[]);
    let (_, run) = harvest(dir.path(), &data, "pieces", &["--pieces", "sentences"]);
    analyze(&whole, None);
    analyze(&run, Some(&whole));
    let of = run.to_str().unwrap();
    let ends: Vec<u32> = {
        let continued: BTreeSet<u32> = samples(&run).iter().filter_map(|sample| piece(sample).parent).collect();
        (0..samples(&run).len() as u32).filter(|n| !continued.contains(n)).collect()
    };
    // The table of samples and features is that of the whole samples.
    let table = |run: &Path, name: &str| {
        let path = dir.path().join(name);
        json(&["export", "--run", run.to_str().unwrap(), "--to", "samples-features", "--out", path.to_str().unwrap()]);
        let table = table::read(&path, &[]).unwrap();
        let number = |name: &str| table.column_by_name(name).unwrap().as_primitive::<UInt32Type>().values().to_vec();
        let largest = table.column_by_name("max").unwrap().as_primitive::<Float32Type>().values();
        let largest: Vec<u32> = largest.iter().map(|max| max.to_bits()).collect();
        let [sample, feature, count] = ["sample", "feature", "count"].map(number);
        (0..sample.len()).map(|n| (sample[n], feature[n], largest[n], count[n])).collect::<Vec<_>>()
    };
    let mut expected = table(&whole, "whole.parquet");
    expected.iter_mut().for_each(|row| row.0 = ends[row.0 as usize]);
    assert_eq!(table(&run, "pieces.parquet"), expected);

    // An example in an answer shows the question and its image.
    let pages = dir.path().join("pages");
    json(&["export", "--run", of, "--to", "saedashboard", "--out", pages.to_str().unwrap()]);
    let batch: Value = serde_json::from_str(&fs::read_to_string(pages.join("batch-0.json")).unwrap()).unwrap();
    let shown: Vec<Vec<&str>> = batch["features"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|feature| feature["activations"].as_array().unwrap())
        .map(|sequence| {
            sequence["tokens"].as_array().unwrap().iter().map(|token| token.as_str().unwrap_or_default()).collect()
        })
        .collect();
    assert!(!shown.is_empty());
    let in_answers = shown.iter().filter(|tokens| tokens.concat().contains("square")).count();
    assert!(in_answers > 0 && shown.iter().all(|tokens| tokens.concat().contains("What")), "{shown:?}");
    let html = dir.path().join("html");
    let report = json(&["export", "--run", of, "--to", "html", "--limit", "8", "--out", html.to_str().unwrap()]);
    assert_eq!(report["without_images"], json!([]));

    // A score is explained as that of the whole sample.
    let explained = |run: &Path, sample: &str| json(&["score", "--run", run.to_str().unwrap(), "--explain", sample]);
    let (a, b) = (explained(&whole, "row-3"), explained(&run, "row-3"));
    assert_eq!(b["sample"], json!(ends[3]));
    for name in ["pmi", "carried", "sank"] {
        assert!(a[name] == b[name] && !a[name].is_null(), "{name}: {a} {b}");
    }
}
