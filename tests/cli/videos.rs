//! Rows with a video through the program: captured, scored, filtered, written and read again; their frames as images.

use crate::tool::{fails, json, repository};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;

/// Six videos of a golden folder, of four and three frames, and a video file.
fn data(dir: &Path) -> String {
    let frames = repository("tests/golden/qwen2_5_vl-video/frames");
    for entry in fs::read_dir(frames).unwrap().map(Result::unwrap) {
        fs::copy(entry.path(), dir.join(entry.file_name())).unwrap();
    }
    let row = |n: usize| {
        let (name, count) = [("walk", 4), ("tall", 3)][n % 2];
        let frames: Vec<String> = (0..count).map(|frame| format!("{name}-{frame}.png")).collect();
        let answer = "A square. ".repeat(1 + n);
        json!({"id": format!("video-{n}"), "video": frames, "fps": 2, "question": "<video>\nWhat moves?", "answer": answer})
    };
    let file = json!({"id": "file", "video": "clip.mp4", "question": "What moves?", "answer": "A square."});
    let rows: Vec<Value> = (0..6).map(row).chain([file]).collect();
    let path = dir.join("data.jsonl");
    fs::write(&path, rows.iter().map(|row| format!("{row}\n")).collect::<String>()).unwrap();
    path.to_str().unwrap().into()
}

#[test]
fn videos_are_captured_scored_and_written_and_frames_are_their_images() {
    let dir = tempfile::tempdir().unwrap();
    let data = data(dir.path());
    let model = repository("tests/golden/qwen2_5_vl-video");
    let at = |name: &str| dir.path().join(name).to_str().unwrap().to_string();
    let (model, run, again) = (model.to_str().unwrap(), at("run"), at("again"));
    let captured = json(&["harvest", "--model", model, "--data", &data, "--run", &run, "--layers", "1"]);
    assert_eq!((&captured["samples"], &captured["skipped_rows"]), (&json!(6), &json!(1)), "{captured}");
    let skipped = fs::read_to_string(dir.path().join("run/skipped.jsonl")).unwrap();
    assert!(skipped.contains("ffmpeg -i clip.mp4 -vf fps=2 clip/%06d.png"), "{skipped}");
    json(&["train", "--run", &run, "--hook", "layers.1", "--name", "a", "--steps", "60", "--batch", "64"]);
    json(&["index", "--run", &run]);
    assert_eq!(json(&["score", "--run", &run])["samples"], json!(6));

    // Kept rows are the same samples when they are read again; tables cannot express them.
    let filter = ["filter", "--run", &run, "--by", "l0_paper", "--keep", "4"];
    json(&[&filter[..], &["--format", "jsonl", "--out", &at("kept")]].concat());
    json(&["harvest", "--model", model, "--data", &at("kept"), "--run", &again, "--layers", "1"]);
    let ids = |run: &str| {
        let run = sae_core::Run::open(Path::new(run)).unwrap();
        sae_core::store::load_samples(&run).unwrap().into_iter().map(|sample| sample.id).collect::<Vec<String>>()
    };
    let (all, kept) = (ids(&run), ids(&again));
    assert!(kept.len() == 4 && kept.iter().all(|id| all.contains(id)), "{kept:?} of {all:?}");
    let said = fails(1, &[&filter[..], &["--format", "parquet", "--out", &at("table")]].concat());
    assert!(said.contains("has a video, which the format cannot express"), "{said}");

    // Both frames of a pair lose the same patches.
    let out = at("dark");
    let asked = ["--data", &data, "--method", "l1", "--keep", "50%", "--threshold", "0", "--out", &out];
    let found = json(&[&["patches", "--run", &run, "--model", model][..], &asked].concat());
    assert_eq!(found["images"], json!(3 * 4 + 3 * 3));
    let lines = fs::read_to_string(dir.path().join("dark/patches.jsonl")).unwrap();
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for pair in lines[..4].chunks(2) {
        assert!(pair[0]["patches"] == pair[1]["patches"] && !pair[0]["patches"].as_array().unwrap().is_empty());
    }
    assert_ne!(lines[0]["patches"], lines[2]["patches"]);
}
