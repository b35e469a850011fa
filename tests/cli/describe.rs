//! `sae info` on data sets, through the real program: contents, skipped rows, columns, and what several of them share.

use crate::tool::{data_set, fails, json, repository, sae};
use serde_json::{Value, json as value};
use std::fs;

fn rows(rows: &[Value]) -> String {
    rows.iter().map(|row| format!("{row}\n")).collect()
}

fn pair(key: usize, question: &str, better: u32) -> Value {
    value!({
        "id": format!("row-{key}"), "prompt": question, "response_1": "A cat.", "response_2": "A dog.",
        "overall_response": better, "category": if key.is_multiple_of(2) { "even" } else { "odd" },
        "response_1_harmless_rate": key, "response_2_harmless_rate": -3, "source": {"page": key, "site": null},
    })
}

#[test]
fn a_data_set_is_described_by_what_its_rows_hold() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("pairs.jsonl");
    let path = file.to_str().unwrap();
    let mut all: Vec<Value> = (0..5).map(|n| pair(n, &format!("What is {n}?"), 1)).collect();
    all.push(pair(5, "What is 4?", 7));
    all.push(pair(0, "What is 0?", 1));
    fs::write(&file, rows(&all)).unwrap();
    let info = json(&["info", path]);
    let set = &info["sets"][0];
    assert_eq!(
        (&info["kind"], &set["rows"], &set["usable"], &set["repeated"]),
        (&value!("data"), &value!(7), &value!(6), &value!(1))
    );
    assert_eq!(set["contents"], value!([{"what": "a preference between two answers", "rows": 6}]));
    assert_eq!((&set["skipped"][0]["rows"], &set["skipped"][0]["first"]["row"]), (&value!(1), &value!(5)));
    let column = |name: &str| set["columns"].as_array().unwrap().iter().find(|column| column["name"] == name).unwrap();
    assert_eq!(column("category")["values"], value!([["even", 4], ["odd", 2]]));
    assert_eq!(column("answer.harmless_rate")["numbers"], value!([-3.0, -8.0 / 12.0, 4.0]));
    assert_eq!(
        (&column("source.page")["count"], set["columns"].to_string().contains("source.site")),
        (&value!(6), false)
    );

    let few = json(&["info", path, "--limit", "2"]);
    assert_eq!((&few["sets"][0]["rows"], &few["sets"][0]["read"]), (&value!(7), &value!(2)));
    let text = String::from_utf8(sae().args(["info", path]).output().unwrap().stdout).unwrap();
    for expected in [
        "7 rows in 1 file",
        "with a preference between two answers  6",
        "1 row, first row 5: the preferred answer is 7",
    ] {
        assert!(text.contains(expected), "{expected}: {text}");
    }
}

#[test]
fn data_sets_that_share_keys_questions_rows_or_images_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let photos = data_set(dir.path(), 6);
    let captions = dir.path().join("captions.jsonl");
    fs::write(
        &captions,
        rows(&[
            value!({"id": "row-1", "image": "images/wide.png", "caption": "a square"}),
            value!({"id": "other", "image": "images/none.png", "caption": "a circle"}),
        ]),
    )
    .unwrap();
    let again = dir.path().join("again.jsonl");
    let first: String = fs::read_to_string(&photos).unwrap().lines().take(2).map(|line| format!("{line}\n")).collect();
    fs::write(&again, first + &rows(&[value!({"prompt": "Why?", "response": "So."})])).unwrap();
    let path = |path: &std::path::Path| path.to_str().unwrap().to_owned();
    let info = json(&["info", &path(&photos), &path(&captions), &path(&again)]);
    let shared = |a: usize, b: usize, keys: Value, questions: u64, rows: u64, images: u64| value!({"sets": [a, b], "keys": keys, "questions": questions, "rows": rows, "images": images});
    let expected =
        [shared(0, 1, value!(1), 0, 0, 1), shared(0, 2, Value::Null, 2, 2, 2), shared(1, 2, Value::Null, 0, 0, 1)];
    assert_eq!(info["shared"], value!(expected));
    assert_eq!(info["sets"][1]["missing_images"], 1);
    let text = String::from_utf8(sae().args(["info", &path(&photos), &path(&again)]).output().unwrap().stdout).unwrap();
    let shared = text.lines().find(|line| line.contains(" and ")).unwrap();
    let counts: Vec<&str> = shared.split_whitespace().rev().take(4).collect();
    assert!(shared.contains(&path(&photos)) && shared.contains(&path(&again)), "{text}");
    assert_eq!(counts, ["2", "2", "2", "-"], "images, rows, questions and keys: {text}");
}

#[test]
fn what_is_no_data_set_is_refused_beside_data_sets() {
    let dir = tempfile::tempdir().unwrap();
    let data = data_set(dir.path(), 2);
    let run = dir.path().join("run");
    fs::create_dir(&run).unwrap();
    fs::write(run.join("run.json"), "{}").unwrap();
    let [data, run] = [data, run].map(|path| path.to_str().unwrap().to_owned());
    assert!(fails(1, &["info", &data, &run]).contains("is not a data set"));
    // The record is damaged, which is what the error says; and a file of rows may lie in the folder of a run.
    assert!(!fails(1, &["info", &run]).contains("is not a data set"));
    let rows = format!("{run}/rows.jsonl");
    fs::write(&rows, "{\"text\": \"a\"}\n").unwrap();
    assert_eq!(json(&["info", &rows])["kind"], "data");
    assert!(fails(1, &["info", &data, "nowhere"]).contains("no file or folder exists at nowhere"));
    // A data set beside a folder with an autoencoder is still a data set.
    let sae = dir.path().join("run/saes/base");
    fs::create_dir_all(&sae).unwrap();
    for file in ["cfg.json", "sae.safetensors"] {
        fs::copy(repository("tests/golden/saes/other/sparsify_topk").join(file), sae.join(file)).unwrap();
    }
    assert_eq!(json(&["info", &data])["kind"], "data");
    // Weights without their configuration are half an autoencoder, and not a data set.
    let half = dir.path().join("half");
    fs::create_dir(&half).unwrap();
    fs::write(half.join("sae_weights.safetensors"), "").unwrap();
    fs::write(half.join("rows.jsonl"), "{\"text\": \"a\"}\n").unwrap();
    assert!(fails(1, &["info", half.to_str().unwrap()]).contains("no autoencoder was found here"));
}

#[test]
fn trees_of_messages_are_recognized() {
    let dir = tempfile::tempdir().unwrap();
    let flat = |id: u32, parent: Value| value!({"id": id, "parent_id": parent, "text": format!("message {id}")});
    let reply = value!({"text": "a", "replies": [{"text": "b"}]});
    for (name, all, trees, usable) in [
        (
            "flat",
            vec![
                flat(0, Value::Null),
                flat(1, value!(0.0)),
                flat(2, value!(1)),
                flat(3, value!(0)),
                flat(4, value!(9)),
            ],
            value!({"trees": 1, "nested": 0, "messages": 4, "depth": 3, "unattached": 1}),
            "1 tree of 4 messages, with at most 3 on a path; 1 message whose parent is missing",
        ),
        (
            "nested",
            vec![value!({"prompt": {"text": "q", "replies": [reply]}}), value!({"text": "q", "replies": [reply]})],
            value!({"trees": 2, "nested": 2, "messages": 6, "depth": 3, "unattached": 0}),
            "2 trees of 6 messages, with at most 3 on a path",
        ),
    ] {
        let file = dir.path().join(format!("{name}.jsonl"));
        fs::write(&file, rows(&all)).unwrap();
        let path = file.to_str().unwrap();
        assert_eq!(json(&["info", path])["sets"][0]["trees"], trees, "{name}");
        let text = String::from_utf8(sae().args(["info", path]).output().unwrap().stdout).unwrap();
        assert!(text.contains(usable) && text.contains("hint: `sae harvest --pieces tree`"), "{text}");
    }
    // A column of that name that names no row.
    let file = dir.path().join("other.jsonl");
    fs::write(&file, rows(&[value!({"text": "a", "parent": "animals"}), value!({"text": "b", "replies": 7})])).unwrap();
    assert_eq!(json(&["info", file.to_str().unwrap()])["sets"][0]["trees"], Value::Null);
}
