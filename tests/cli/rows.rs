//! Rows that are skipped, however many, and images that lie elsewhere, through the real program.

use crate::tool::{data_set, fails, json, tiny_model};
use serde_json::{Value, json as value};
use std::fs;
use std::path::Path;

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn harvest_step(run: &Path) -> Value {
    let record: Value = serde_json::from_slice(&fs::read(run.join("run.json")).unwrap()).unwrap();
    record["steps"]["harvest"].clone()
}

#[test]
fn any_number_of_skipped_rows_is_listed_whole_in_a_file_and_briefly_in_run_json() {
    let dir = tempfile::tempdir().unwrap();
    let data = data_set(dir.path(), 4);
    let good = fs::read_to_string(&data).unwrap();
    let garbage = "x".repeat(2_000);
    let turns = value!([{"from": "human", "value": "<image>"}, {"from": "gpt", "value": "a"}]);
    let bad = (0..3_000).map(|n| {
        let row = match n % 3 {
            0 => value!({"id": format!("{n}{garbage}"), "image": format!("missing-{n}.png"), "conversations": turns}),
            1 => value!({"id": n, "image": garbage, "conversations": turns}),
            _ => value!({"id": n, "video": "a.mp4", "conversations": turns}),
        };
        row.to_string() + "\n"
    });
    fs::write(&data, bad.collect::<String>() + &good).unwrap();
    let model = tiny_model();
    let run = |name: &str| dir.path().join(name);
    let harvest = |name: &str, more: &[&str]| {
        let out = run(name);
        let args = ["harvest", "--model", text(&model), "--data", text(&data), "--layers", "1", "--run", text(&out)];
        json(&[&args[..], more].concat())
    };
    let alone = harvest("alone", &[]);
    assert_eq!((alone["samples"].as_u64(), alone["skipped_rows"].as_u64()), (Some(4), Some(3_000)));

    let listed = fs::read_to_string(run("alone").join("skipped.jsonl")).unwrap();
    let listed: Vec<Value> = listed.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(listed.iter().map(|row| row["row"].as_u64().unwrap()).eq(0..3_000));
    for row in &listed {
        let length = |name: &str| row[name].as_str().unwrap().chars().count();
        assert!(length("reason") <= 300 && length("key") <= 120, "{row}");
    }
    let kept = harvest_step(&run("alone"))["skipped"].clone();
    assert!(kept.as_array().unwrap().len() <= 50, "{kept}");
    assert!(fs::metadata(run("alone").join("run.json")).unwrap().len() < 50_000);

    harvest("one", &["--shard", "1/2"]);
    harvest("two", &["--shard", "2/2"]);
    json(&["merge", text(&run("two")), text(&run("one")), "--run", text(&run("merged"))]);
    assert_eq!(harvest_step(&run("merged"))["skipped"], kept);
    let files = ["alone", "merged"].map(|name| fs::read(run(name).join("skipped.jsonl")).unwrap());
    assert!(files[0] == files[1]);
}

#[test]
fn images_in_a_folder_of_their_own_are_found() {
    let dir = tempfile::tempdir().unwrap();
    let data = data_set(dir.path(), 3);
    let annotations = dir.path().join("annotations");
    fs::create_dir(&annotations).unwrap();
    let moved = annotations.join("data.jsonl");
    fs::rename(&data, &moved).unwrap();
    let (model, run) = (tiny_model(), dir.path().join("run"));
    let harvest = ["harvest", "--model", text(&model), "--data", text(&moved), "--layers", "1", "--run", text(&run)];
    let nothing = fails(1, &harvest);
    assert!(nothing.contains(text(&annotations.join("images/wide.png"))), "{nothing}");
    let root = dir.path().to_path_buf();
    fs::remove_dir_all(&run).unwrap();
    assert_eq!(json(&[&harvest[..], &["--images-root", text(&root)]].concat())["samples"], 3);
    let arguments = harvest_step(&run)["arguments"].clone();
    assert_eq!(arguments["images_root"], text(&root.canonicalize().unwrap()));
    fs::remove_dir_all(&run).unwrap();
    let missing = fails(1, &[&harvest[..], &["--images-root", text(&root.join("none"))]].concat());
    assert!(missing.contains("the images root is not a folder") && missing.contains("none"), "{missing}");
}
