//! Rows of every schema, and what becomes of those that cannot be used.

use super::*;
use serde_json::json;

fn record(row: Value) -> Result<Record, String> {
    let Value::Object(fields) = row else { panic!("a row is an object") };
    understand(Columns { fields, ..Default::default() })
}

fn text(text: &str) -> TurnPart {
    TurnPart::Text(text.into())
}

fn pair(chosen: &str, rejected: &str) -> Option<Pair> {
    Some(Pair { chosen: chosen.into(), rejected: rejected.into() })
}

#[test]
fn llava_conversations_become_parts() {
    let row = json!({"id": 7, "image": "a.png", "extra": true, "conversations": [
        {"from": "human", "value": "See <image>\nand\nsay."}, {"from": "gpt", "value": "Yes."}]});
    let record = record(row).unwrap();
    assert_eq!(record.turns[0].parts, [text("See "), TurnPart::Image(0), text("and\nsay.")]);
    assert_eq!(record.turns[1], Turn::of_text(Role::Assistant, "Yes."));
    assert_eq!(record.images[0].path, "a.png");
    assert_eq!(record.meta, json!({"id": 7, "extra": true}));
}

#[test]
fn images_that_no_turn_names_come_first() {
    let row = json!({"images": ["a.png", "b.png"], "messages": [{"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "Compare."}]}]});
    assert_eq!(record(row).unwrap().turns[1].parts, [TurnPart::Image(0), TurnPart::Image(1), text("Compare.")]);
}

#[test]
fn parts_bring_their_own_images_where_the_row_has_none() {
    let content = json!([{"type": "image", "image": "a.png"}, {"type": "text", "text": "q"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AQID"}}]);
    let row = json!({"messages": [{"role": "user", "content": content}, {"role": "assistant", "content": "a"}]});
    let record = record(row).unwrap();
    assert_eq!(record.turns[0].parts, [TurnPart::Image(0), text("q"), TurnPart::Image(1)]);
    assert_eq!((record.images[0].path.as_str(), record.images[1].bytes.as_deref()), ("a.png", Some(&[1, 2, 3][..])));
}

#[test]
fn preference_rows_say_which_answer_is_chosen() {
    let both = json!({"question": "q", "image": "a.png", "response_1": "a", "response_2": "b"});
    for (name, value) in [("overall_response", json!(2)), ("safer_response_id", json!("2"))] {
        let mut row = both.clone();
        row[name] = value;
        let two = record(row).unwrap();
        assert_eq!((two.pair, two.turns.len()), (pair("b", "a"), 1));
    }
    let from_zero = json!({"prompt": "q", "response_0": "a", "response_1": "b", "better_response_id": 0});
    assert_eq!(record(from_zero).unwrap().pair, pair("a", "b"));
    assert_eq!(record(json!({"question": "q", "chosen": "b", "rejected": "a"})).unwrap().pair, pair("b", "a"));
    let lists = json!({"prompt": "q", "chosen": [{"role": "assistant", "content": "b"}], "rejected": "a"});
    assert_eq!(record(lists).unwrap().pair, pair("b", "a"));
    assert!(record(both).unwrap_err().contains("hint: --map overall_response=COLUMN"));
}

#[test]
fn preferences_without_a_prompt_share_their_turns() {
    let turns = |answer: &str| json!([{"role": "user", "content": "q"}, {"role": "assistant", "content": answer}]);
    let row = record(json!({"chosen": turns("b"), "rejected": turns("a")})).unwrap();
    assert_eq!((row.turns, row.pair), (vec![Turn::of_text(Role::User, "q")], pair("b", "a")));
    let other = json!([{"role": "user", "content": "?"}, {"role": "assistant", "content": "a"}]);
    assert!(record(json!({"chosen": turns("b"), "rejected": other})).unwrap_err().contains("differ"));
}

#[test]
fn packed_json_instructions_and_systems_are_read() {
    let packed = record(json!({"image": "a.png", "text": r#"{"question": "q", "chosen": "b", "rejected": "a"}"#}));
    let packed = packed.unwrap();
    assert_eq!((packed.pair, packed.turns[0].parts.as_slice()), (pair("b", "a"), &[TurnPart::Image(0), text("q")][..]));
    let row = json!({"instruction": "Sum", "input": "1 1", "output": "2", "system": "Be brief."});
    let turns = [(Role::System, "Be brief."), (Role::User, "Sum\n1 1"), (Role::Assistant, "2")];
    assert_eq!(record(row).unwrap().turns, turns.map(|(role, text)| Turn::of_text(role, text)));
    let asked =
        json!({"prompt": [{"role": "user", "content": "q"}], "completion": [{"role": "assistant", "content": "a"}]});
    assert_eq!(record(asked).unwrap().turns[1], Turn::of_text(Role::Assistant, "a"));
    let cauldron = record(json!({"images": ["a.png"], "texts": [{"user": "q", "assistant": "a"}]})).unwrap();
    assert_eq!(cauldron.turns[0].parts, [TurnPart::Image(0), text("q")]);
}

#[test]
fn documents_keep_images_at_their_position() {
    let row = json!({"images": [null, "a.png", null, "b.png"], "texts": ["One.", null, "Two.", null]});
    let document = record(row).unwrap();
    assert_eq!(document.turns[0].parts, [text("One."), TurnPart::Image(0), text("\nTwo."), TurnPart::Image(1)]);
    assert_eq!(document.images.iter().map(|i| i.path.as_str()).collect::<Vec<_>>(), ["a.png", "b.png"]);
    assert!(record(json!({"images": ["a.png"], "texts": ["a", "b"]})).unwrap_err().contains("by position"));
}

#[test]
fn a_caption_is_said_about_the_picture() {
    let shown = record(json!({"image": {"path": "a.png"}, "text": "a cat"})).unwrap();
    assert_eq!(shown.turns[0].parts, [TurnPart::Image(0)]);
    assert_eq!(shown.turns[1], Turn::of_text(Role::Assistant, "a cat"));
    assert_eq!(record(json!({"text": "words alone"})).unwrap().turns[0].role, Role::User);
    assert_eq!(record(json!({"file_name": "a.png", "text": "a cat"})).unwrap().turns, shown.turns);
}

#[test]
fn rows_that_cannot_be_used_say_why() {
    let reason = |row| record(row).unwrap_err();
    assert!(reason(json!({"image": null, "text": "a cat: <image>"})).contains("image is missing"));
    let named = json!({"conversations": [{"from": "human", "value": "<image>"}]});
    assert!(reason(named).contains("image is missing"));
    let two = json!({"image": "a.png", "conversations": [{"from": "human", "value": "<image> <image>"}]});
    assert!(reason(two).contains("1 images and its text refers to 2"));
    assert!(reason(json!({"a": 1, "b": 2})).contains("(a, b)"));
    assert!(reason(json!({"question": "q"})).contains("no answer"));
    assert!(reason(json!({"conversations": [{"from": "narrator", "value": ""}]})).contains("narrator"));
    let video = json!({"messages": [{"role": "user", "content": [{"type": "video"}]}]});
    assert!(reason(video).contains("video"));
}
