//! Rows in pieces: the states along each path, and the scores of it, are those of the whole sample; what reads whole samples refuses
//! pieces.

use crate::tool::{data_set, fails, json, tiny_model};
use arrow::array::{Array, AsArray};
use arrow::datatypes::{DataType, Float64Type, UInt32Type};
use sae_core::store::sample::{Piece, Sample};
use sae_core::store::{Store, load_samples};
use sae_core::{Run, table};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

pub(crate) fn harvest(dir: &Path, data: &Path, name: &str, more: &[&str]) -> (Value, PathBuf) {
    let run = dir.join(name);
    let [model, data, path] = [&tiny_model(), data, &run].map(|path| path.to_str().unwrap().to_owned());
    let arguments = ["harvest", "--layers", "0,1", "--model", &model, "--data", &data, "--run", &path];
    // Small batches and files, so that rows are in several of them.
    let sizes = ["--batch-tokens", "150", "--shard-tokens", "400"];
    (json(&[&arguments[..], &sizes, more].concat()), run)
}

/// Images with a question and two answers, of which the first words are the same.
pub(crate) fn preferences(dir: &Path, rows: usize) -> PathBuf {
    data_set(dir, 6);
    let image = |n: usize| ["wide", "tall", "square"][n % 3];
    let row = |n: usize| {
        json!({
            "id": format!("row-{n}"), "image": format!("images/{}.png", image(n)), "question": "What is this?",
            "chosen": "A square. ".repeat(1 + n % 4), "rejected": format!("A square{}", " is round".repeat(1 + n % 3)),
        })
    };
    let path = dir.join("preferences.jsonl");
    fs::write(&path, (0..rows).map(|n| format!("{}\n", row(n))).collect::<String>()).unwrap();
    path
}

pub(crate) fn samples(run: &Path) -> Vec<Sample> {
    load_samples(&Run::open(run).unwrap()).unwrap()
}

pub(crate) fn piece(sample: &Sample) -> &Piece {
    sample.piece.as_ref().unwrap()
}

/// A token and the bits of the hidden states at its position.
pub(crate) type Position = (u32, String, Vec<u32>);

/// The positions of every sample of a run.
pub(crate) fn positions(run: &Path, hook: &str) -> Vec<Vec<Position>> {
    let store = Store::open_with_pieces(&Run::open(run).unwrap(), hook).unwrap();
    let mut found = vec![Vec::new(); store.manifest().samples as usize];
    for (number, part) in store.parts().unwrap().into_iter().enumerate() {
        let (shard, tokens) = (store.shard(number).unwrap(), store.token_table(number).unwrap());
        for sample in part {
            let rows = tokens.rows(sample).unwrap();
            let mut hidden = Vec::new();
            shard.read(rows.clone(), &mut hidden);
            let states = hidden.chunks_exact(shard.d_in()).map(|row| row.iter().map(|x| x.to_bits()).collect());
            let tokens = tokens.tokens(rows).unwrap().into_iter();
            let tokens = tokens.map(|token| (token.position, format!("{token:?}")));
            found[sample as usize] = tokens.zip(states).map(|((at, token), bits)| (at, token, bits)).collect();
        }
    }
    found
}

/// The positions along the path to every piece that no other continues, by key and branch.
pub(crate) fn paths(run: &Path, hook: &str) -> BTreeMap<(String, String), Vec<Position>> {
    let (samples, own) = (samples(run), positions(run, hook));
    let mut whole: Vec<Vec<Position>> = Vec::new();
    for (sample, own) in samples.iter().zip(own) {
        let before = piece(sample).parent.map(|parent| whole[parent as usize].clone()).unwrap_or_default();
        whole.push([before, own].concat());
    }
    let continued: Vec<u32> = samples.iter().filter_map(|sample| piece(sample).parent).collect();
    let ends = (0..).zip(&samples).zip(whole).filter(|((n, _), _)| !continued.contains(n));
    ends.map(|((_, sample), path)| ((sample.key.clone(), piece(sample).branch.clone()), path)).collect()
}

#[test]
fn the_states_of_both_answers_are_those_of_whole_samples() {
    let dir = tempfile::tempdir().unwrap();
    let data = preferences(dir.path(), 9);
    let (report, run) = harvest(dir.path(), &data, "pieces", &["--pieces", "answers"]);
    assert_eq!((&report["samples"], &report["skipped_rows"]), (&json!(27), &json!(0)));
    let mut stored = 0;
    for answers in ["chosen", "rejected"] {
        let (whole, other) = harvest(dir.path(), &data, answers, &["--answers", answers]);
        stored += whole["tokens"].as_u64().unwrap();
        for hook in ["layers.0", "layers.1"] {
            let paths = paths(&run, hook);
            assert_eq!(paths.len(), 18);
            for (sample, expected) in samples(&other).iter().zip(positions(&other, hook)) {
                let found = &paths[&(sample.key.clone(), answers.to_owned())];
                assert!(*found == expected, "{hook} of {} {answers}", sample.key);
            }
        }
    }
    // The words that both answers begin with are shared as well as the prompt.
    assert!(report["tokens"].as_u64().unwrap() * 3 < stored * 2, "{report}, {stored}");
    let found = samples(&run);
    assert_eq!(found[3].meta["id"], "row-1");
    assert_eq!((found[3].meta.get("answer"), &found[4].meta["answer"]), (None, &json!({"preferred": true})));
    assert_eq!(found[5].meta["answer"]["preferred"], false);
    assert_eq!(found[5].piece, Some(Piece { parent: Some(3), branch: "rejected".into(), is_critique: false }));
    assert_eq!((found[3].text.as_str(), found[5].text.as_str()), ("What is this?", "A square is round is round"));
    assert_eq!(found.iter().map(|sample| sample.images.len()).collect::<Vec<_>>(), vec![1; 27]);
}

#[test]
fn the_id_of_a_piece_is_that_of_its_whole_path() {
    let dir = tempfile::tempdir().unwrap();
    let pairs = preferences(dir.path(), 6);
    let (_, answers) = harvest(dir.path(), &pairs, "answers", &["--pieces", "answers"]);
    let (_, sentences) = harvest(dir.path(), &pairs, "sentences", &["--pieces", "sentences"]);
    // The same conversations, each as a row of its own.
    let rows = fs::read_to_string(&pairs).unwrap();
    let single = dir.path().join("single.jsonl");
    let answered = |line: &str| {
        let row: Value = serde_json::from_str(line).unwrap();
        ["chosen", "rejected"].map(
            |name| json!({"id": row["id"], "image": row["image"], "question": row["question"], "answer": row[name]}),
        )
    };
    write(&single, rows.lines().flat_map(answered));
    let (_, whole) = harvest(dir.path(), &single, "single", &[]);
    let ids = |run: &Path, branches: &[&str]| {
        let found = samples(run).into_iter().filter(|sample| {
            branches.is_empty() || sample.piece.as_ref().is_some_and(|piece| branches.contains(&piece.branch.as_str()))
        });
        found.map(|sample| sample.id).collect::<Vec<_>>()
    };
    assert_eq!(ids(&answers, &["chosen", "rejected"]), ids(&whole, &[]));
    assert_eq!(ids(&answers, &["prompt"]), ids(&sentences, &["prompt"]));
    let all = samples(&sentences);
    let last = all.iter().enumerate().filter(|(n, _)| all.get(n + 1).is_none_or(|next| piece(next).parent.is_none()));
    assert_eq!(last.map(|(_, sample)| sample.id.clone()).collect::<Vec<_>>(), ids(&answers, &["chosen"]));
    // Every piece of a row has an id of its own.
    let row: Vec<String> = samples(&answers).into_iter().take(3).map(|sample| sample.id).collect();
    assert!(row[0] != row[1] && row[1] != row[2] && row[0] != row[2]);
}

#[test]
fn a_limit_counts_rows_and_not_pieces() {
    let dir = tempfile::tempdir().unwrap();
    let data = preferences(dir.path(), 5);
    let (_, all) = harvest(dir.path(), &data, "all", &["--pieces", "answers"]);
    let (report, run) = harvest(dir.path(), &data, "limited", &["--pieces", "answers", "--limit", "2"]);
    assert_eq!((&report["samples"], &report["skipped_rows"]), (&json!(6), &json!(0)));
    assert_eq!(samples(&run), samples(&all)[..6]);
}

#[test]
fn shards_of_pieces_are_merged_with_their_parents() {
    let dir = tempfile::tempdir().unwrap();
    let data = preferences(dir.path(), 9);
    let (_, run) = harvest(dir.path(), &data, "pieces", &["--pieces", "answers"]);
    let shards = ["1/2", "2/2"].map(|shard| {
        let name = shard.replace('/', "-");
        harvest(dir.path(), &data, &name, &["--pieces", "answers", "--shard", shard]).1
    });
    let merged = dir.path().join("merged");
    let [first, second, to] = [&shards[0], &shards[1], &merged].map(|path| path.to_str().unwrap());
    json(&["merge", first, second, "--run", to]);
    assert_eq!(samples(&merged), samples(&run));
    assert_eq!(paths(&merged, "layers.1"), paths(&run, "layers.1"));
}

/// The columns of a score table: those of the given samples, as text.
fn scores(run: &Path, rows: &[u32]) -> BTreeMap<String, Vec<String>> {
    let table = table::read(&run.join("scores/base.parquet"), &[]).unwrap();
    let numbers = table.column_by_name("sample").unwrap().as_primitive::<UInt32Type>();
    assert_eq!(numbers.len(), samples(run).len(), "every piece has a row");
    let schema = table.schema();
    let column = |name: &String| {
        let column = table.column_by_name(name).unwrap();
        let value = |row: &u32| match column.data_type() {
            _ if column.is_null(*row as usize) => "null".to_owned(),
            DataType::Float64 => column.as_primitive::<Float64Type>().value(*row as usize).to_bits().to_string(),
            DataType::UInt32 => column.as_primitive::<UInt32Type>().value(*row as usize).to_string(),
            _ => column.as_string::<i32>().value(*row as usize).to_owned(),
        };
        (name.clone(), rows.iter().map(value).collect())
    };
    schema.fields().iter().map(|field| field.name()).filter(|name| *name != "sample").map(column).collect()
}

#[test]
fn scores_of_sentences_are_those_of_whole_samples() {
    let dir = tempfile::tempdir().unwrap();
    let data = data_set(dir.path(), 24);
    let (_, whole) = harvest(dir.path(), &data, "whole", &[]);
    let (_, run) = harvest(dir.path(), &data, "pieces", &["--pieces", "sentences"]);
    let pieces = samples(&run);
    let continued: Vec<u32> = pieces.iter().filter_map(|sample| piece(sample).parent).collect();
    let ends: Vec<u32> = (0..pieces.len() as u32).filter(|n| !continued.contains(n)).collect();
    assert!(ends.len() == 24 && pieces.iter().any(|sample| piece(sample).branch == "sentence_5"));
    let ids = |samples: &[Sample]| samples.iter().map(|sample| sample.id.clone()).collect::<Vec<_>>();
    assert_eq!(ends.iter().map(|n| pieces[*n as usize].id.clone()).collect::<Vec<_>>(), ids(&samples(&whole)));

    let [a, b, rows] = [&whole, &run, &data].map(|path| path.to_str().unwrap());
    let model = tiny_model();
    let model = model.to_str().unwrap();
    let train = ["--hook", "layers.1", "--name", "base", "--l1", "0.05", "--batch", "128", "--steps", "60"];
    json(&[&["train", "--run", a, "--expansion", "4"], &train[..]].concat());
    fs::create_dir_all(run.join("saes/base")).unwrap();
    for file in ["cfg.json", "sae_weights.safetensors"] {
        fs::copy(whole.join("saes/base").join(file), run.join("saes/base").join(file)).unwrap();
    }
    json(&["score", "--run", a, "--threshold", "0.1"]);
    json(&["score", "--run", b, "--threshold", "0.1"]);
    let (expected, found) = (scores(&whole, &(0..24).collect::<Vec<_>>()), scores(&run, &ends));
    assert_eq!(found, expected);
    assert!(expected["l0_paper"].iter().any(|value| *value != 1.0f64.to_bits().to_string()), "{expected:?}");
    // A piece that others continue is no whole sample.
    let rest = scores(&run, &continued);
    assert!(rest["l0_paper"].iter().all(|value| value == "null"));
    assert!(rest["reason"].iter().all(|reason| reason == "continued by other pieces"), "{:?}", rest["reason"]);

    for refused in [
        &["score", "--run", a, "--calibrate", b][..],
        &["score", "--run", b, "--rejected", a],
        &["probe", "--run", b, "--name", "p", "--kind", "pair", "--rejected", a],
        &["validate", "--run", b, "--model", model, "--data", rows],
        &["patches", "--run", b, "--model", model, "--data", rows, "--out", "patches"],
        &["train", "--run", a, "--run", b, "--hook", "layers.1", "--name", "both", "--steps", "1"],
        &["train", "--run", b, "--run", a, "--hook", "layers.1", "--name", "both", "--steps", "1"],
    ] {
        let said = fails(1, refused);
        assert!(said.contains("pieces that continue one another") && said.contains("hint: "), "{said}");
    }
}

#[test]
fn settings_that_exclude_pieces_are_named_before_anything_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let data = preferences(dir.path(), 3);
    let (model, run) = (tiny_model(), dir.path().join("run"));
    let [model, data, path] = [&model, &data, &run].map(|path| path.to_str().unwrap());
    let arguments = ["harvest", "--layers", "1", "--model", model, "--data", data, "--run", path];
    for (more, hint) in [
        (&["--answers", "chosen"][..], "leave --answers out"),
        (&["--blank-images"], "leave --blank-images out"),
        (&["--melt", "chosen,rejected:style"], "leave --melt out"),
        (&["--template", "none"], "leave --template out"),
    ] {
        let said = fails(1, &[&arguments[..], &["--pieces", "answers"], more].concat());
        assert!(said.contains("cannot be divided into pieces") && said.contains(hint), "{said}");
    }
    assert!(!run.exists());
    let said = fails(2, &[&arguments[..], &["--pieces", "words"]].concat());
    assert!(said.contains("expected answers"), "{said}");
}

/// The messages of a binary tree: id, parent and text. `depth` counts the root.
fn binary_tree(depth: u32) -> Vec<(String, Option<String>, String)> {
    let mut messages: Vec<(String, Option<String>, String)> = vec![("m".into(), None, "What is this?".into())];
    let mut level = vec!["m".to_owned()];
    for _ in 1..depth {
        let children =
            level.iter().flat_map(|parent| ["a", "b"].map(|side| (parent.clone(), format!("{parent}{side}"))));
        let children: Vec<_> = children.collect();
        level = children.iter().map(|(_, id)| id.clone()).collect();
        messages.extend(children.into_iter().map(|(parent, id)| {
            let text = format!("A {} square {}", if id.ends_with('a') { "red" } else { "blue" }, id.len());
            (id, Some(parent), text)
        }));
    }
    messages
}

pub(crate) fn write(path: &Path, rows: impl Iterator<Item = Value>) {
    fs::write(path, rows.map(|row| format!("{row}\n")).collect::<String>()).unwrap();
}

#[test]
fn the_states_of_a_tree_are_those_of_its_whole_paths() {
    let dir = tempfile::tempdir().unwrap();
    data_set(dir.path(), 1);
    let messages = binary_tree(4);
    // Children come before their parents.
    let flat = dir.path().join("flat.jsonl");
    let row = |(id, parent, text): &(String, Option<String>, String)| match parent {
        Some(parent) => json!({"id": id, "parent_id": parent, "text": text}),
        None => json!({"id": id, "parent_id": null, "text": text, "image": "images/wide.png"}),
    };
    write(&flat, messages.iter().rev().map(row));
    // The same tree as nested replies.
    fn replies(messages: &[(String, Option<String>, String)], parent: &str) -> Vec<Value> {
        let of = |(_, of, _): &&(String, Option<String>, String)| of.as_deref() == Some(parent);
        let reply = |(id, _, text): &(String, Option<String>, String)| {
            let role = if id.len() % 2 == 0 { "assistant" } else { "prompter" };
            json!({"message_id": id, "text": text, "role": role, "replies": replies(messages, id)})
        };
        messages.iter().filter(of).map(reply).collect()
    }
    let nested = dir.path().join("nested.jsonl");
    let prompt =
        json!({"message_id": "m", "text": "What is this?", "role": "prompter", "replies": replies(&messages, "m")});
    write(&nested, [json!({"message_tree_id": "t", "image": "images/wide.png", "prompt": prompt})].into_iter());
    // Each path from the root to a leaf as a conversation of its own.
    let text = |id: &str| messages.iter().find(|message| message.0 == id).unwrap().2.clone();
    let leaves = messages.iter().filter(|message| message.0.len() == 4);
    let conversation = |id: &str| {
        let turn = |length: usize| {
            let speaker = if length % 2 == 1 { "human" } else { "gpt" };
            json!({"from": speaker, "value": text(&id[..length])})
        };
        json!({"id": id, "image": "images/wide.png", "conversations": (1..=id.len()).map(turn).collect::<Vec<_>>()})
    };
    let whole = dir.path().join("whole.jsonl");
    write(&whole, leaves.map(|message| conversation(&message.0)));
    let (_, whole) = harvest(dir.path(), &whole, "whole", &[]);
    let expected: BTreeMap<String, Vec<Position>> =
        samples(&whole).into_iter().map(|sample| sample.key).zip(positions(&whole, "layers.1")).collect();
    assert_eq!(expected.len(), 8);
    for (name, data) in [("flat", flat), ("nested", nested)] {
        let (report, run) = harvest(dir.path(), &data, name, &["--pieces", "tree"]);
        assert_eq!((&report["samples"], &report["skipped_rows"]), (&json!(15), &json!(0)), "{name}");
        let found = paths(&run, "layers.1").into_iter().map(|((_, branch), path)| (branch, path));
        assert!(found.collect::<BTreeMap<_, _>>() == expected, "{name}");
        let first = &samples(&run)[1];
        assert_eq!(
            (piece(first).parent, piece(first).branch.as_str()),
            (Some(0), if name == "flat" { "mb" } else { "ma" })
        );
        assert_eq!(first.key, if name == "flat" { "mb" } else { "0/ma" });
    }
    let said = fails(
        1,
        &[
            "harvest",
            "--model",
            tiny_model().to_str().unwrap(),
            "--data",
            dir.path().join("flat.jsonl").to_str().unwrap(),
            "--layers",
            "1",
            "--run",
            dir.path().join("shard").to_str().unwrap(),
            "--pieces",
            "tree",
            "--shard",
            "1/2",
        ],
    );
    assert!(said.contains("in several shards") && said.contains("files of whole trees"), "{said}");
}

#[test]
fn rows_that_form_no_tree_are_listed_by_their_ids() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data.jsonl");
    let row = |id: &str, parent: Option<&str>, tree: &str| json!({"id": id, "parent_id": parent, "tree_id": tree, "text": "Hello there"});
    let mut rows = vec![
        row("good", None, "1"),
        row("answer", Some("good"), "1"),
        row("orphan", Some("nobody"), "2"),
        row("one", Some("two"), "3"),
        row("two", Some("one"), "3"),
        row("second root", None, "1"),
        row("answer", Some("good"), "1"),
    ];
    rows.extend((0..66).map(|n| match n {
        0 => row("d0", None, "4"),
        n => row(&format!("d{n}"), Some(&format!("d{}", n - 1)), "4"),
    }));
    write(&data, rows.into_iter());
    let (report, run) = harvest(dir.path(), &data, "run", &["--pieces", "tree"]);
    let skipped = sae_core::store::read_skipped(&Run::open(&run).unwrap()).unwrap();
    let skipped: Vec<_> = skipped.map(|skipped| skipped.unwrap()).collect();
    let numbers: Vec<(u64, &str)> = skipped.iter().map(|skipped| (skipped.row, skipped.key.as_str())).collect();
    // The path of 64 messages exceeds the context.
    let expected =
        [(7, "d0"), (2, "orphan"), (3, "one"), (4, "two"), (5, "second root"), (6, "answer"), (71, "d64"), (72, "d65")];
    assert_eq!(numbers, expected);
    let skipped: BTreeMap<String, String> = skipped.into_iter().map(|skipped| (skipped.key, skipped.reason)).collect();
    let reason = |key: &str| skipped.get(key).map_or("", String::as_str);
    assert!(reason("orphan").contains("nobody is not among the rows"), "{skipped:?}");
    assert!(reason("one").contains("cycle") && reason("two").contains("cycle"), "{skipped:?}");
    assert!(reason("second root").contains("two roots: good and second root"), "{skipped:?}");
    assert!(reason("answer").contains("another row has the id answer"), "{skipped:?}");
    assert!(reason("d64").contains("deeper in its tree than 64") && reason("d65").contains("parents are skipped"));
    let found = samples(&run);
    assert_eq!(
        found.iter().filter(|sample| sample.key.starts_with('d')).count(),
        report["samples"].as_u64().unwrap() as usize - 2
    );
    assert!(found.iter().any(|sample| piece(sample).branch == "answer"), "the first row of an id counts");

    // A leaf beyond the context is named.
    let long = dir.path().join("long.jsonl");
    let text = "A square is this. ".repeat(2_000);
    let rows = [
        json!({"id": "r", "text": "Hi"}),
        json!({"id": "leaf", "parent_id": "r", "text": text}),
        json!({"id": "s", "text": "Hi"}),
    ];
    write(&long, rows.into_iter());
    let (report, _) = harvest(dir.path(), &long, "long", &["--pieces", "tree"]);
    let reason = report["skipped"][0]["reason"].as_str().unwrap();
    assert!(reason.contains("leaf: the row has") && reason.contains("context"), "{reason}");
}
