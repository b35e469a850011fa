//! Rows of every schema, and the reasons why others cannot be used.

use super::*;
use serde_json::json;

fn record(row: Value) -> Result<Record, RowError> {
    let Value::Object(fields) = row else { panic!("a row is an object") };
    super::record(Columns { fields, ..Default::default() }, None)
}

fn text(text: &str) -> TurnPart {
    TurnPart::Text(text.into())
}

fn pair(chosen: &str, rejected: &str) -> Option<AnswerPair> {
    Some(AnswerPair { chosen: chosen.into(), rejected: rejected.into() })
}

#[test]
fn llava_conversations_become_parts() {
    let row = json!({"id": 7, "image": "a.png", "extra": true, "conversations": [
        {"from": "human", "value": "See <image>\nand\nsay."}, {"from": "gpt", "value": "Yes."}]});
    let record = record(row).unwrap();
    assert_eq!(record.turns[0].parts, [text("See "), TurnPart::Image(0), text("and\nsay.")]);
    assert_eq!(record.turns[1], Turn::from_text(Role::Assistant, "Yes."));
    assert_eq!(record.images[0].path, "a.png");
    assert_eq!(record.meta, json!({"id": 7, "extra": true}));
}

#[test]
fn images_that_no_turn_shows_come_first() {
    let row = json!({"images": ["a.png", "b.png"], "messages": [{"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "Compare."}]}]});
    assert_eq!(record(row).unwrap().turns[1].parts, [TurnPart::Image(0), TurnPart::Image(1), text("Compare.")]);
}

#[test]
fn parts_may_contain_images_if_the_row_has_none() {
    let content = json!([{"type": "image", "image": "a.png"}, {"type": "text", "text": "q"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AQID"}}]);
    let row = json!({"messages": [{"role": "user", "content": content}, {"role": "assistant", "content": "a"}]});
    let record = record(row).unwrap();
    assert_eq!(record.turns[0].parts, [TurnPart::Image(0), text("q"), TurnPart::Image(1)]);
    assert_eq!((record.images[0].path.as_str(), record.images[1].bytes.as_deref()), ("a.png", Some(&[1, 2, 3][..])));
}

#[test]
fn preference_rows_identify_the_chosen_answer() {
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
    let hint = Hint::MapField { field: "overall_response".into(), column: None };
    assert_eq!(record(both).unwrap_err().hint, Some(hint));
}

#[test]
fn numbered_columns_describe_the_answer_that_they_belong_to() {
    // BeaverTails-V: two preferences that need not agree, and rates of each answer.
    let row = json!({"question": "q", "image": "a.png", "response_1": "a", "response_2": "b", "more_helpful_response_id": "2",
        "safer_response_id": "1", "is_response_1_safe": "yes", "is_response_2_safe": "no", "response_1_harmless_rate": 2,
        "response_2_harmless_rate": -1, "response_1_helpful_rate": 0, "response_2_helpful_rate": 3, "category": "insult"});
    let read = record(row).unwrap();
    let [chosen, rejected] = read.about_answers.map(Value::Object);
    assert_eq!(read.pair, pair("b", "a"));
    let rates = |harmless: i64, helpful: i64, safe: &str| json!({"more_helpful": safe == "no", "safer": safe == "yes", "is_safe": safe, "harmless_rate": harmless, "helpful_rate": helpful});
    assert_eq!((chosen, rejected), (rates(-1, 3, "no"), rates(2, 0, "yes")));
    assert_eq!(read.meta["response_1_harmless_rate"], 2);
    // Align-Anything: the number comes last.
    let row = json!({"question": "q", "response_1": "a", "response_2": "b", "overall_response": 1, "p_response": 2,
        "prompt_following_rate_1": 1, "prompt_following_rate_2": 3, "step_1": "alone"});
    let [chosen, rejected] = record(row).unwrap().about_answers.map(Value::Object);
    assert_eq!(chosen, json!({"overall": true, "p": false, "prompt_following_rate": 1}));
    assert_eq!(rejected, json!({"overall": false, "p": true, "prompt_following_rate": 3}));
}

#[test]
fn corrected_answers_are_preferred_to_the_first_ones() {
    // Align-Anything's feedback, and Aligner.
    let feedback =
        json!({"prompt": "q", "image": "a.png", "response": "a", "critique": "too short", "refinement": "b"});
    let read = record(feedback).unwrap();
    assert_eq!((read.pair, read.meta), (pair("b", "a"), json!({"critique": "too short"})));
    let aligner = json!({"question": "q", "answer": "a", "correction": "b"});
    assert_eq!(record(aligner).unwrap().pair, pair("b", "a"));
    let equal = json!({"question": "q", "answer": "a", "correction": "a"});
    assert!(record(equal).unwrap_err().cause.contains("answers are equal"));
    for number in [json!(0), json!(3), json!("0"), json!(-1.0)] {
        let tie = json!({"question": "q", "response_1": "a", "response_2": "b", "overall_response": number});
        assert!(record(tie).unwrap_err().cause.contains("expected 1 or 2"));
    }
    for unsure in [json!(1.5), json!("both"), json!(null)] {
        let row = json!({"question": "q", "response_1": "a", "response_2": "b", "overall_response": unsure});
        assert!(record(row.clone()).is_err(), "{row}");
    }
}

#[test]
fn preferences_without_a_prompt_share_their_turns() {
    let turns = |answer: &str| json!([{"role": "user", "content": "q"}, {"role": "assistant", "content": answer}]);
    let row = record(json!({"chosen": turns("b"), "rejected": turns("a")})).unwrap();
    assert_eq!((row.turns, row.pair), (vec![Turn::from_text(Role::User, "q")], pair("b", "a")));
    let other = json!([{"role": "user", "content": "?"}, {"role": "assistant", "content": "a"}]);
    assert!(record(json!({"chosen": turns("b"), "rejected": other})).unwrap_err().cause.contains("differ"));
}

#[test]
fn json_in_text_instructions_and_system_prompts_are_read() {
    let in_text = record(json!({"image": "a.png", "text": r#"{"question": "q", "chosen": "b", "rejected": "a"}"#}));
    let in_text = in_text.unwrap();
    assert_eq!(
        (in_text.pair, in_text.turns[0].parts.as_slice()),
        (pair("b", "a"), &[TurnPart::Image(0), text("q")][..])
    );
    let row = json!({"instruction": "Sum", "input": "1 1", "output": "2", "system": "Be brief."});
    let turns = [(Role::System, "Be brief."), (Role::User, "Sum\n1 1"), (Role::Assistant, "2")];
    assert_eq!(record(row).unwrap().turns, turns.map(|(role, text)| Turn::from_text(role, text)));
    let trainer =
        json!({"prompt": [{"role": "user", "content": "q"}], "completion": [{"role": "assistant", "content": "a"}]});
    assert_eq!(record(trainer).unwrap().turns[1], Turn::from_text(Role::Assistant, "a"));
    let cauldron = record(json!({"images": ["a.png"], "texts": [{"user": "q", "assistant": "a"}]})).unwrap();
    assert_eq!(cauldron.turns[0].parts, [TurnPart::Image(0), text("q")]);
}

#[test]
fn documents_keep_images_at_their_position() {
    let row = json!({"images": [null, "a.png", null, "b.png"], "texts": ["One.", null, "Two.", null]});
    let document = record(row).unwrap();
    assert_eq!(document.turns[0].parts, [text("One."), TurnPart::Image(0), text("\nTwo."), TurnPart::Image(1)]);
    assert_eq!(document.images.iter().map(|i| i.path.as_str()).collect::<Vec<_>>(), ["a.png", "b.png"]);
    assert!(record(json!({"images": ["a.png"], "texts": ["a", "b"]})).unwrap_err().cause.contains("by position"));
}

#[test]
fn a_caption_is_the_answer_to_an_image() {
    let shown = record(json!({"image": {"path": "a.png"}, "text": "a cat"})).unwrap();
    assert_eq!(shown.turns[0].parts, [TurnPart::Image(0)]);
    assert_eq!(shown.turns[1], Turn::from_text(Role::Assistant, "a cat"));
    assert_eq!(record(json!({"text": "words alone"})).unwrap().turns[0].role, Role::User);
    assert_eq!(record(json!({"file_name": "a.png", "text": "a cat"})).unwrap().turns, shown.turns);
}

#[test]
fn a_column_of_replies_that_are_no_messages_is_metadata() {
    let turns = json!([{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]);
    let message = json!({"text": "nice"});
    for replies in [json!([]), json!(["nice"]), json!([{"votes": 3}]), json!(7), json!("12 replies"), json!({"n": 1})] {
        for row in [
            json!({"image": "a.png", "caption": "a cat", "replies": replies}),
            json!({"image": "a.png", "text": "a cat", "replies": replies}),
            json!({"image": "a.png", "conversations": turns, "replies": replies}),
            json!({"question": "q", "answer": "a", "replies": replies}),
        ] {
            let read = record(row.clone()).unwrap();
            assert!(read.tree.nodes.is_empty() && read.meta["replies"] == replies && read.turns.len() == 2, "{row}");
        }
    }
    // Messages below a row that has a conversation, a caption or an answer of its own.
    for row in [
        json!({"image": "a.png", "caption": "a cat", "replies": [message]}),
        json!({"conversations": turns, "replies": [message]}),
        json!({"prompt": "q", "response": "a", "replies": [message]}),
    ] {
        let read = record(row.clone()).unwrap();
        assert!(read.tree.nodes.is_empty() && read.meta["replies"] == json!([message]), "{row}");
    }
    for row in [
        json!({"image": "a.png", "text": "a cat", "replies": ["spam", message]}),
        json!({"prompt": {"text": "a cat", "replies": [message]}}),
        json!({"prompt": {"text": "a cat", "replies": []}}),
    ] {
        assert!(!record(row.clone()).is_ok_and(|read| read.tree.nodes.is_empty()), "{row}");
    }
}

#[test]
fn nested_messages_show_their_images_and_have_the_columns_of_their_row() {
    let row = json!({"message_tree_id": "t", "label": 3, "image": "a.png", "prompt": {"message_id": "m", "text": "q", "replies": [
        {"text": "an answer", "rank": 0, "replies": [
            {"text": "see <image> this", "image": "b.png"},
            {"content": [{"type": "text", "text": "or"}, {"type": "image", "image": "c.png"}], "role": "assistant"}]}]}});
    let read = record(row).unwrap();
    let turns: Vec<&[TurnPart]> = read.tree.nodes.iter().map(|node| node.turns[0].parts.as_slice()).collect();
    let expected: [&[TurnPart]; 4] = [
        &[TurnPart::Image(0), text("q")],
        &[text("an answer")],
        &[text("see "), TurnPart::Image(1), text(" this")],
        &[text("or"), TurnPart::Image(2)],
    ];
    assert_eq!(turns, expected);
    assert_eq!(read.images.iter().map(|image| image.path.as_str()).collect::<Vec<_>>(), ["a.png", "b.png", "c.png"]);
    assert_eq!(read.tree.nodes[1].meta, json!({"message_tree_id": "t", "label": 3, "rank": 0}));
    assert_eq!(read.tree.nodes[3].turns[0].role, Role::Assistant);
    assert_eq!(read.tree.nodes.iter().map(|node| node.id.as_str()).collect::<Vec<_>>(), ["m", "m.1", "m.1.1", "m.1.2"]);
}

#[test]
fn ranked_answers_reply_to_their_question() {
    let texts = json!({"id": 5, "image": "a.png", "question": "q", "answers": ["a", "b", "c"], "ranks": [2, 0, 1]});
    let messages = json!({"id": 5, "image": "a.png", "prompt": "q", "completions": [
        {"response": "a", "rank": 2, "model": "m"}, {"text": "b", "rank": 0}, {"content": "c", "rank": 1}]});
    for row in [texts, messages] {
        let read = record(row).unwrap();
        assert_eq!(read.turns[0].parts, [TurnPart::Image(0), text("q")]);
        let found: Vec<_> = read.tree.nodes[1..]
            .iter()
            .map(|node| (node.id.as_str(), node.turns[0].text(), node.meta["rank"].as_u64(), node.turns[0].role))
            .collect();
        let answer = |id, text: &str, rank| (id, text.to_owned(), Some(rank), Role::Assistant);
        assert_eq!(found, [answer("answer_1", "a", 2), answer("answer_2", "b", 0), answer("answer_3", "c", 1)]);
        assert!(read.tree.nodes.iter().all(|node| node.meta["id"] == 5));
    }
    let few = json!({"question": "q", "answers": ["a", "b"], "ranks": [0]});
    assert!(record(few).unwrap_err().cause.contains("2 answers, but 1 ranks"));
    // Answers of several people, of which none is ranked.
    let listed = record(json!({"question": "q", "answers": ["a", "b"], "answer": "a", "ranks": [0]})).unwrap();
    assert!(listed.tree.nodes.is_empty() && listed.turns.len() == 2);
}

#[test]
fn nested_messages_that_cannot_be_used_leave_their_siblings() {
    let row = json!({"prompt": {"id": 1.0, "text": "q", "replies": [
        {"id": "no text", "replies": [{"text": "below"}]}, {"id": "good", "text": "a"}, 7, {"id": "good", "text": "b"},
        {"id": "sound", "text": "a", "audio": "a.wav"}, {"id": "narrator", "text": "a", "role": "narrator"},
        {"id": "no image", "text": "<image>"}, {"id": "replies", "text": "a", "replies": "none"}]}});
    let read = record(row).unwrap();
    assert_eq!(read.tree.nodes.iter().map(|node| node.id.as_str()).collect::<Vec<_>>(), ["1", "good"]);
    let lost: Vec<(&str, &str)> =
        read.tree.lost.iter().map(|(id, error)| (id.as_str(), error.cause.as_str())).collect();
    let expected = [
        ("no text", "no text"),
        ("1.3", "it is a number"),
        ("good", "the same id"),
        ("sound", "audio is not supported"),
        ("narrator", "\"narrator\": expected"),
        ("no image", "no image"),
        ("replies", "expected a list"),
    ];
    assert_eq!(lost.len(), expected.len());
    for ((id, cause), (expected_id, expected)) in lost.into_iter().zip(expected) {
        assert!(id == expected_id && cause.contains(expected), "{id}: {cause}");
    }
    let replies: Vec<Value> = (0..5000).map(|n| json!({"id": n, "text": "a"})).collect();
    let many = record(json!({"prompt": {"id": "m", "text": "q", "replies": replies}})).unwrap();
    assert_eq!((many.tree.nodes.len(), many.tree.lost.len()), (4096, 905));
    assert!(many.tree.lost[0].1.cause.contains("more than 4096 messages"));
    let large =
        json!({"note": "x".repeat(1 << 20), "prompt": {"text": "q", "replies": vec![json!({"text": "a"}); 100]}});
    assert!(record(large).unwrap_err().cause.contains("expected at most 64 MiB"));
}

#[test]
fn rows_that_cannot_be_used_carry_a_reason() {
    let reason = |row| record(row).unwrap_err().cause;
    assert!(reason(json!({"image": null, "text": "a cat: <image>"})).contains("has no image"));
    let named = json!({"conversations": [{"from": "human", "value": "<image>"}]});
    assert!(reason(named).contains("has no image"));
    let two = json!({"image": "a.png", "conversations": [{"from": "human", "value": "<image> <image>"}]});
    assert!(reason(two).contains("1 images, but its text refers to 2"));
    assert!(reason(json!({"a": 1, "b": 2})).contains("found a, b"));
    assert!(record(json!({"question": "q"})).unwrap().unanswered);
    assert!(reason(json!({"conversations": [{"from": "narrator", "value": ""}]})).contains("narrator"));
    // Align-Anything's questions about sounds, its sounds as answers, and its questions about videos.
    let sound = json!({"array": [0.0, 0.1], "sampling_rate": 16000});
    for row in [
        json!({"prompt": "q", "audio_path": sound, "response_1": "a", "response_2": "b", "overall_response": 1}),
        json!({"prompt": "q", "audio_path": {"bytes": null, "path": "a.wav"}, "response": "a"}),
        json!({"prompt": "q", "response_1": sound, "response_2": sound, "overall_audio": 1}),
    ] {
        assert!(reason(row.clone()).contains("audio is not supported"), "{row}");
    }
    let video = json!({"prompt": "<video> q", "video_path": "a.mp4", "response_1": "a", "response_2": "b", "overall_response": 1});
    assert!(reason(video).contains("not a list of frames (column video_path)"));
    let video = json!({"messages": [{"role": "user", "content": [{"type": "video"}]}]});
    assert!(reason(video).contains("video"));
}
