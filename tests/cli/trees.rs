//! Trees of messages: images anywhere on a path, speakers, and trees that are limited or meet each other.

use crate::pieces::{Position, harvest, paths, piece, positions, samples, write};
use crate::tool::data_set;
use sae_core::Run;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// A square picture of one color, which the model sees at the same places as any other square one.
pub(crate) fn square(path: &Path, color: [u8; 3]) {
    const SIDE: u32 = 24;
    let size = 54 + SIDE * SIDE * 3;
    let mut file = b"BM".to_vec();
    [size, 0, 54, 40, SIDE, SIDE, 1 | 24 << 16, 0, 0, 0, 0, 0, 0].iter().for_each(|n| file.extend(n.to_le_bytes()));
    (0..SIDE * SIDE).for_each(|_| file.extend(color));
    fs::write(path, file).unwrap();
}

/// A message: id, parent, text and image.
type Message = (&'static str, Option<&'static str>, &'static str, Option<&'static str>);

/// The messages of a tree. The questions below the first answer differ in their images alone.
const MESSAGES: [Message; 7] = [
    ("r", None, "What is this?", Some("images/wide.png")),
    ("a", Some("r"), "A red square", None),
    ("a1", Some("a"), "And this?", Some("images/red.bmp")),
    ("a2", Some("a"), "And this?", Some("images/blue.bmp")),
    ("a1x", Some("a1"), "A circle", None),
    ("a2x", Some("a2"), "A circle", None),
    ("b", Some("r"), "A blue square", None),
];

#[test]
fn images_are_captured_wherever_a_path_shows_them() {
    let dir = tempfile::tempdir().unwrap();
    data_set(dir.path(), 1);
    square(&dir.path().join("images/red.bmp"), [0, 0, 200]);
    square(&dir.path().join("images/blue.bmp"), [200, 0, 0]);
    let flat = dir.path().join("flat.jsonl");
    let row =
        |(id, parent, text, image): &Message| json!({"id": id, "parent_id": parent, "text": text, "image": image});
    write(&flat, MESSAGES.iter().map(row));
    fn message(id: &str) -> Value {
        let (_, _, text, image) = MESSAGES.into_iter().find(|message| message.0 == id).unwrap();
        let replies: Vec<Value> =
            MESSAGES.iter().filter(|message| message.1 == Some(id)).map(|reply| message(reply.0)).collect();
        json!({"message_id": id, "text": text, "image": image, "replies": replies})
    }
    let nested = dir.path().join("nested.jsonl");
    write(&nested, [json!({"prompt": message("r")})].into_iter());
    // Nested replies to which rows reply.
    let mixed = dir.path().join("mixed.jsonl");
    let cut = json!({"prompt": {"message_id": "r", "text": "What is this?", "image": "images/wide.png", "replies": [
        {"message_id": "a", "text": "A red square"}, {"message_id": "b", "text": "A blue square"}]}});
    write(&mixed, MESSAGES[2..6].iter().map(row).chain([cut]));
    let whole = dir.path().join("whole.jsonl");
    let path = |id: &str| {
        let mut path = vec![MESSAGES.into_iter().find(|message| message.0 == id).unwrap()];
        while let Some(parent) = path[0].1 {
            path.insert(0, MESSAGES.into_iter().find(|message| message.0 == parent).unwrap());
        }
        let turn = |(n, (_, _, text, image)): (usize, &Message)| {
            let mark = if image.is_some() { "<image>\n" } else { "" };
            json!({"from": if n % 2 == 0 { "human" } else { "gpt" }, "value": format!("{mark}{text}")})
        };
        let turns: Vec<Value> = path.iter().enumerate().map(turn).collect();
        json!({"id": id, "images": path.iter().filter_map(|message| message.3).collect::<Vec<_>>(), "conversations": turns})
    };
    write(&whole, ["a1x", "a2x", "b"].map(path).into_iter());
    let (_, whole) = harvest(dir.path(), &whole, "whole", &[]);
    let expected: BTreeMap<String, Vec<Position>> =
        samples(&whole).into_iter().map(|sample| sample.key).zip(positions(&whole, "layers.1")).collect();
    assert!(expected["a1x"] != expected["a2x"]);
    for (name, data) in [("flat", flat), ("nested", nested), ("mixed", mixed)] {
        let (report, run) = harvest(dir.path(), &data, name, &["--pieces", "tree"]);
        assert_eq!((&report["samples"], &report["skipped_rows"]), (&json!(7), &json!(0)), "{name}: {report}");
        let found = paths(&run, "layers.1").into_iter().map(|((_, branch), path)| (branch, path));
        assert!(found.collect::<BTreeMap<_, _>>() == expected, "{name}");
        // Ids and images are those of the whole samples.
        for whole in samples(&whole) {
            let found = samples(&run).into_iter().find(|sample| piece(sample).branch == whole.key).unwrap();
            assert_eq!((found.id, found.images), (whole.id, whole.images), "{name}");
        }
    }
}

#[test]
fn a_limit_counts_trees() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data.jsonl");
    let row = |id: &str, parent: Option<&str>| json!({"id": id, "parent_id": parent, "text": "Hello there"});
    write(
        &data,
        [row("orphan", Some("nobody")), row("a", None), row("b", None), row("b1", Some("b")), row("a1", Some("a"))]
            .into_iter(),
    );
    let keys = |limit: &str| {
        let (report, run) = harvest(dir.path(), &data, limit, &["--pieces", "tree", "--limit", limit]);
        let keys: Vec<String> = samples(&run).into_iter().map(|sample| sample.key).collect();
        (keys.join(" "), report["skipped_rows"].as_u64().unwrap())
    };
    assert_eq!(keys("1"), ("a a1".into(), 0));
    assert_eq!(keys("2"), ("a a1 b b1".into(), 0));
    assert_eq!(keys("3"), ("a a1 b b1".into(), 1));
}

#[test]
fn bad_messages_are_listed_and_leave_the_rest_of_their_trees() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data.jsonl");
    let rows = [
        json!({"label": 1, "prompt": {"id": "p", "text": "Hello there", "replies": [
            {"id": "empty", "text": ""}, {"id": "gone", "text": "Hello", "image": "gone.png"}, {"id": "good", "text": "Hello"}]}}),
        json!({"id": 7, "parent_id": "good", "text": "Hello again"}),
        json!({"id": 8, "parent_id": 7.5, "text": "Hello again"}),
        json!({"id": 9, "parent_id": 7.0, "text": "Hello again"}),
    ];
    write(&data, rows.into_iter());
    let (report, run) = harvest(dir.path(), &data, "run", &["--pieces", "tree"]);
    assert_eq!((&report["samples"], &report["skipped_rows"]), (&json!(4), &json!(3)), "{report}");
    let skipped = sae_core::store::read_skipped(&Run::open(&run).unwrap()).unwrap().map(|skipped| skipped.unwrap());
    let skipped: Vec<(u64, String, String)> = skipped.map(|row| (row.row, row.key, row.reason)).collect();
    let expected = [(0, "0/gone", "gone.png"), (0, "0/empty", "no text"), (2, "8", "is 7.5")];
    for ((row, key, reason), (expected_row, expected_key, expected)) in skipped.iter().zip(expected) {
        assert!(*row == expected_row && key == expected_key && reason.contains(expected), "{skipped:?}");
    }
    let found = samples(&run);
    assert_eq!(found.iter().map(|sample| sample.key.as_str()).collect::<Vec<_>>(), ["0/p", "0/good", "7", "9"]);
    assert_eq!((&found[1].meta["label"], found[3].meta.get("label")), (&json!(1), None));
}
