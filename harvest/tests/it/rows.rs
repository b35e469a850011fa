//! The interpretation of rows in files of other programs. Every format gives the same samples, whatever columns other rows
//! have, and unsupported content is rejected by name in one short line.

use crate::data::{PICTURES, folder, of, picture, samples, write_table};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use harvest::Prepared;
use harvest::data::{Mapping, Source};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;

/// A question about an image and its answer, in LLaVA's format.
fn llava(id: &str, said: &str) -> Value {
    json!({"id": id, "conversations": [{"from": "human", "value": said}, {"from": "gpt", "value": "a button"}]})
}

/// Whether a value means the same as an absent column.
fn is_empty(value: &Value) -> bool {
    [json!(null), json!(""), json!([])].contains(value)
}

fn with(mut row: Value, more: Value) -> Value {
    row.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    row
}

/// The samples of a file. Asserts that no row is skipped.
fn good(path: &Path) -> Vec<Prepared> {
    samples(path, &Mapping::new()).into_iter().map(|sample| sample.unwrap()).collect()
}

/// The key and the number of images of each sample.
fn shown(samples: &[Prepared]) -> Vec<(&str, usize)> {
    samples.iter().map(|prepared| (prepared.sample.key.as_str(), prepared.sample.images.len())).collect()
}

/// Reads rows as lines and as an array, and asserts that the samples are the same.
fn read_json(rows: &[Value]) -> Vec<Result<Prepared, String>> {
    let dir = folder();
    let [lines, array] = ["a.jsonl", "a.json"].map(|name| dir.path().join(name));
    fs::write(&lines, rows.iter().map(|row| row.to_string() + "\n").collect::<String>()).unwrap();
    fs::write(&array, json!(rows).to_string()).unwrap();
    let [lines, array] = [lines, array].map(|path| samples(&path, &Mapping::new()));
    let summary = |found: &[Result<Prepared, String>]| -> Vec<_> {
        let told = found.iter().map(|row| row.as_ref().map(|row| (row.sample.id.clone(), row.sample.meta.clone())));
        told.map(|row| row.map_err(String::clone)).collect()
    };
    assert_eq!(summary(&lines), summary(&array));
    lines
}

fn texts(rows: &[Value]) -> Vec<String> {
    read_json(rows).into_iter().map(|row| row.unwrap().sample.text).collect()
}

#[test]
fn byte_order_marks_and_utf16_do_not_change_samples() {
    let dir = folder();
    let rows: Vec<_> =
        (0..3).map(|n| with(llava(&format!("r{n}"), "<image>"), json!({"image": PICTURES[n % 2]}))).collect();
    let lines: String = rows.iter().map(|row| row.to_string() + "\r\n").collect();
    let utf16 = |text: &str| -> Vec<u8> {
        "\u{feff}".encode_utf16().chain(text.encode_utf16()).flat_map(u16::to_le_bytes).collect()
    };
    let files = [
        ("plain.jsonl", lines.clone().into_bytes()),
        ("mark.jsonl", format!("\u{feff}{lines}").into_bytes()),
        ("mark.json", format!("\u{feff}{}", json!(rows)).into_bytes()),
        ("joined.jsonl", rows.iter().map(|row| format!("\u{feff}{row}\n")).collect::<String>().into_bytes()),
        ("wide.jsonl", utf16(&lines)),
        ("wide.json", utf16(&json!(rows).to_string())),
    ];
    for (name, content) in files {
        let path = dir.path().join(name);
        fs::write(&path, content).unwrap();
        let found = good(&path);
        assert_eq!(shown(&found), [("r0", 1), ("r1", 1), ("r2", 1)], "{name}");
        assert!(
            found
                .iter()
                .all(|row| row.sample.text == "\na button" && !row.tokens.iter().any(|t| t.piece.contains('\u{feff}')))
        );
    }
}

#[test]
fn metadata_that_is_not_finite_does_not_skip_a_row() {
    let dir = folder();
    let row = with(llava("a", "<image>"), json!({"image": PICTURES[0], "score": "$", "note": "NaN and Infinity"}))
        .to_string();
    let path = dir.path().join("a.jsonl");
    for number in ["NaN", "Infinity", "-Infinity", "1e400", "-1E+400"] {
        fs::write(&path, row.replace("\"$\"", number)).unwrap();
        let found = good(&path);
        assert_eq!(found[0].sample.meta, json!({"id": "a", "score": null, "note": "NaN and Infinity"}), "{number}");
    }
    fs::write(&path, row.replace("\"$\"", "123456789012345678901234567890")).unwrap();
    assert_eq!(good(&path).len(), 1);
}

#[test]
fn image_columns_do_not_depend_on_other_rows() {
    let rows = [
        with(llava("one", "<image>\nWhat is it?"), json!({"image": PICTURES[0]})),
        with(llava("two", "<image> <image>\nCompare."), json!({"images": PICTURES})),
        with(llava("unmarked", "What is it?"), json!({"images": [PICTURES[1]]})),
        llava("text", "Say hello."),
    ];
    let expected = [("one", 1), ("two", 2), ("unmarked", 1), ("text", 0)];
    for turn in 0..4 {
        let (mut rows, mut expected) = (rows.clone(), expected);
        rows.rotate_left(turn);
        expected.rotate_left(turn);
        for absent in [None, Some(json!(null)), Some(json!("")), Some(json!([]))] {
            for row in rows.iter_mut().filter(|_| absent.is_some()) {
                for name in ["image", "images", "file_name"] {
                    if is_empty(&row[name]) {
                        row[name] = absent.clone().unwrap();
                    }
                }
            }
            let found: Vec<_> = read_json(&rows).into_iter().map(|row| row.unwrap()).collect();
            assert_eq!(shown(&found), expected);
        }
    }
}

#[test]
fn tables_with_the_columns_of_several_data_sets_are_read() {
    // As after `concatenate_datasets`: every row has all columns, with null for those that it does not use.
    let picture = json!({"$picture": 0});
    let asked = |id: &str| json!({"id": id, "question": "What is it?", "image": picture});
    let pairs = [
        with(
            asked("sft"),
            json!({"answer": "a button", "chosen": null, "rejected": null, "response_1": null, "response_2": null, "overall_response": null}),
        ),
        with(
            asked("dpo"),
            json!({"answer": null, "chosen": "a button", "rejected": "no", "response_1": null, "response_2": null, "overall_response": null}),
        ),
        with(
            asked("two"),
            json!({"answer": null, "chosen": null, "rejected": null, "response_1": "a button", "response_2": "no", "overall_response": 1}),
        ),
    ];
    let turn = |from: Value, value: Value, role: Value, content: Value| json!({"from": from, "value": value, "role": role, "content": content});
    let share = json!([
        turn("human".into(), "<image>".into(), Value::Null, Value::Null),
        turn("gpt".into(), "a button".into(), Value::Null, Value::Null)
    ]);
    let chat = json!([
        turn(Value::Null, Value::Null, "user".into(), "<image>".into()),
        turn(Value::Null, Value::Null, "assistant".into(), "a button".into())
    ]);
    let turns = [
        json!({"id": "share", "image": picture, "conversations": share}),
        json!({"id": "chat", "image": picture, "conversations": chat}),
    ];
    let columns = [
        json!({"id": "conv", "image": picture, "conversations": share, "messages": []}),
        json!({"id": "msgs", "image": picture, "conversations": [], "messages": chat}),
    ];
    for (rows, text) in [(&pairs[..], "What is it?\na button"), (&turns, "\na button"), (&columns, "\na button")] {
        let dir = folder();
        let table = dir.path().join("a.parquet");
        write_table(&table, rows);
        let paths: Vec<Value> = rows.iter().map(|row| with(row.clone(), json!({"image": PICTURES[0]}))).collect();
        let json: Vec<_> = read_json(&paths).into_iter().map(|row| row.unwrap().sample).collect();
        let table: Vec<_> = good(&table).into_iter().map(|row| row.sample).collect();
        assert_eq!(table.len(), rows.len());
        for (json, table) in json.iter().zip(&table) {
            assert_eq!((json.text.as_str(), json.images.len(), &json.id), (text, 1, &table.id), "{}", json.key);
        }
    }
}

#[test]
fn alpaca_rows_keep_their_history_in_order() {
    let row = json!({"instruction": "<image>And what color is it?", "input": "", "output": "It is red.", "system": "Be brief.",
        "history": [["What is it?", "A circle."], ["Is it large?", "Yes."]], "images": [PICTURES[0]]});
    let text = "Be brief.\nWhat is it?\nA circle.\nIs it large?\nYes.\nAnd what color is it?\nIt is red.";
    assert_eq!(texts(std::slice::from_ref(&row)), [text]);
    let hello = json!({"instruction": "Say hello.", "input": "", "output": "hello", "history": [], "images": []});
    let add = json!({"instruction": "Add these.", "input": "1 1", "output": "two", "history": null, "images": null});
    assert_eq!(texts(&[hello, add]), ["Say hello.\nhello", "Add these.\n1 1\ntwo"]);
    let odd = with(row, json!({"history": ["What is it?", "A circle."]}));
    assert!(
        read_json(&[odd])[0]
            .as_ref()
            .unwrap_err()
            .contains("the column history: expected pairs of strings, found a string")
    );
}

#[test]
fn rows_with_unsupported_media_are_skipped_and_texts_about_them_are_not() {
    let media = [
        (json!({"video": "clip.mp4"}), "a video that is not a list of frames (column video)"),
        (json!({"videos": ["clip.mp4"]}), "a video that is not a list of frames (column videos)"),
        (json!({"video": ["clip.mp4"]}), "a video that is not a list of frames (column video)"),
        (json!({"audio": "a.wav"}), "a column audio, but audio is not supported"),
        (json!({"audios": ["a.wav"], "images": []}), "a column audios, but audio is not supported"),
        (json!({"sound": {"bytes": "AAAA", "path": "a.wav"}}), "a column sound, but audio is not supported"),
    ];
    for (media, expected) in media {
        let reason = read_json(&[with(llava("a", "<video>\nWhat happens?"), media)]).remove(0).unwrap_err();
        assert!(reason.contains(expected), "{reason}");
    }
    let marked = with(llava("a", "<video>What happens?"), json!({"video_path": "clip.mp4"}));
    assert!(read_json(&[marked])[0].as_ref().unwrap_err().contains("video_path"));
    for (kind, expected) in [
        ("video", "ffmpeg -i x -vf fps=2"),
        ("video_url", "expected a video as a list of frames"),
        ("audio", "expected a video as a list of frames"),
        ("input_audio", "expected a video as a list of frames"),
    ] {
        let parts = json!([{"type": kind, kind: "x"}, {"type": "text", "text": "q"}]);
        let row = json!({"messages": [{"role": "user", "content": parts}, {"role": "assistant", "content": "a"}]});
        let reason = read_json(&[row]).remove(0).unwrap_err();
        assert!(reason.contains(expected), "{kind}: {reason}");
    }
    let talk = llava("html", "How do I write <video> in HTML?");
    let rows = [
        talk.clone(),
        with(talk.clone(), json!({"video": null, "videos": [], "audio": "", "audios": [null]})),
        with(talk.clone(), json!({"audio": false, "video": 0})),
        with(llava("watch", "What is said?"), json!({"video_url": "https://example.org/v"})),
    ];
    assert_eq!(texts(&rows).len(), 4);
}

#[test]
fn base64_is_recognized_and_never_repeated() {
    let text = STANDARD.encode(picture(0));
    let lines =
        text.as_bytes().chunks(76).map(|line| std::str::from_utf8(line).unwrap()).collect::<Vec<_>>().join("\n");
    let images = [
        json!(text),
        json!(lines),
        json!(format!("data:image/png;base64,{lines}")),
        json!({"bytes": text.replace('+', "-").replace('/', "_").trim_end_matches('=')}),
        json!({"bytes": picture(0)}),
        json!({"type": "base64", "data": text}),
    ];
    let rows: Vec<_> = images.iter().map(|image| with(llava("a", "<image>"), json!({"image": image}))).collect();
    let mut found: Vec<_> = read_json(&rows).into_iter().map(|row| row.unwrap().sample.id).collect();
    let part = |part: Value| json!({"messages": [{"role": "user", "content": [part]}, {"role": "assistant", "content": "a button"}]});
    let url = format!("data:image/png;base64,{text}");
    let parts = [
        part(json!({"type": "image_url", "image_url": {"url": url}})),
        part(json!({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": text}})),
        part(json!({"type": "image", "base64": text})),
        part(json!({"type": "input_image", "image_url": url})),
        part(json!({"image": url})),
    ];
    found.extend(read_json(&parts).into_iter().map(|row| row.unwrap().sample.id));
    found.dedup();
    assert_eq!(found.len(), 1);

    let broken = [
        json!(format!("{text}.{text}")),
        json!({"bytes": format!("!{text}")}),
        json!({"kind": text}),
        json!([1, 2, 3]),
    ];
    for image in broken {
        let reason = read_json(&[with(llava("a", "<image>"), json!({"image": image}))]).remove(0).unwrap_err();
        assert!(reason.chars().count() <= 300 && !reason.contains('\n'), "{reason}");
        assert!(!reason.contains(&text[..200]), "{reason}");
    }
}

#[test]
fn line_breaks_after_placeholders_and_empty_names_are_removed() {
    let crlf = with(llava("crlf", "<image>\r\nWhat is it?\r\nSay."), json!({"image": PICTURES[0]}));
    let empty = with(llava("empty", "hi"), json!({"image": ""}));
    assert_eq!(texts(&[crlf, empty]), ["What is it?\r\nSay.\na button", "hi\na button"]);
}

#[test]
fn rows_in_a_list_of_one_object_are_read() {
    let dir = folder();
    let rows = json!([llava("a", "one"), llava("b", "two")]);
    let path = dir.path().join("a.json");
    for text in [json!({"data": rows}).to_string(), format!("\u{feff}{:#}", json!({"version": "1", "train": rows}))] {
        fs::write(&path, text).unwrap();
        assert_eq!(shown(&good(&path)), [("a", 0), ("b", 0)]);
    }
    fs::write(&path, json!({"images": [], "annotations": [{"caption": "a"}]}).to_string()).unwrap();
    assert!(Source::open(&path).unwrap_err().to_string().contains("COCO"));
}

#[test]
fn images_are_found_from_the_images_root() {
    let (images, annotations) = (folder(), tempfile::tempdir().unwrap());
    let path = annotations.path().join("a.jsonl");
    let absolute = images.path().join(PICTURES[1]);
    let rows = [json!({"image": PICTURES[0], "text": "a"}), json!({"image": absolute, "text": "b"})];
    fs::write(&path, format!("{}\n{}", rows[0], rows[1])).unwrap();
    let source = Source::open(&path).unwrap();
    let reasons: Vec<_> = of(&source, &Mapping::new()).into_iter().map(|row| row.err()).collect();
    assert!(reasons[0].as_ref().unwrap().contains(&annotations.path().join(PICTURES[0]).display().to_string()));
    assert_eq!(reasons[1], None);
    let rooted = source.images_in(Some(images.path().to_path_buf())).unwrap();
    let found: Vec<_> = of(&rooted, &Mapping::new()).into_iter().map(|row| row.unwrap()).collect();
    assert_eq!(shown(&found), [("0", 1), ("1", 1)]);
    assert_eq!(found[0].sample.images[0].path, PICTURES[0]);
    let missing = Source::open(&path).unwrap().images_in(Some(images.path().join("none")));
    assert!(missing.unwrap_err().to_string().contains("the images root is not a folder"));
}

#[test]
fn speakers_are_recognized_or_rejected_by_name() {
    let said = |from: &str| json!({"conversations": [{"from": "user", "value": "q"}, {"from": from, "value": "a"}]});
    for from in ["gpt", "assistant", "bot", "chatgpt", "model", "Assistant", "bing", "bard"] {
        assert_eq!(texts(&[said(from)]), ["q\na"], "{from}");
    }
    for tool in ["function", "tool", "observation", "function_call", "tool_response"] {
        let reason = read_json(&[said(tool)]).remove(0).unwrap_err();
        assert!(reason.contains(&format!("turn 2: its speaker is a tool (from: {tool})")), "{reason}");
    }
    let nobody = json!({"messages": [{"role": "user", "content": "q"}, {"role": null, "content": "a"}]});
    for (row, reason) in [(said("hummany"), "\"hummany\""), (nobody, "does not name the speaker")] {
        assert!(read_json(&[row])[0].as_ref().unwrap_err().contains(reason));
    }
}

/// Rows from public reports, with their expected interpretation.
#[test]
fn rows_from_public_reports_are_read_or_rejected_by_name() {
    let user = |text: &str| json!({"role": "user", "content": text});
    let assistant = |text: &str| json!({"role": "assistant", "content": text});
    let understood = [
        // U+2028 does not end a line (datalad/datalad 3523).
        (llava("a", "one\u{2028}two"), "one\u{2028}two\na button"),
        // A preference row whose answers repeat the question (OpenRLHF/OpenRLHF 909).
        (
            json!({"prompt": "q", "chosen": [user("q"), assistant("yes")], "rejected": [user("q"), assistant("no")]}),
            "q\nyes",
        ),
        // The same with messages, and with lists as text (kakao/diatool-dpo 2).
        (
            json!({"prompt": json!([user("q")]).to_string(), "chosen": json!([assistant("yes")]).to_string(), "rejected": json!([assistant("no")]).to_string()}),
            "q\nyes",
        ),
        // Numbers of answers, which a table with nulls stores as floats.
        (json!({"question": "q", "response_1": "no", "response_2": "yes", "overall_response": 2.0}), "q\nyes"),
        // Parts with the keys of all types of parts (axolotl-ai-cloud/axolotl 2567).
        (
            json!({"images": [PICTURES[0]], "messages": [{"role": "user", "content": [{"type": "image", "text": null, "index": 0}, {"type": "text", "text": "q", "index": null}]}, assistant("a")]}),
            "q\na",
        ),
        // A path instead of a list (hiyouga/LlamaFactory 5883), and a list as text.
        (json!({"images": PICTURES[0], "messages": [user("<image>q"), assistant("a")]}), "q\na"),
        (json!({"images": json!([PICTURES[0]]).to_string(), "messages": [user("<image>q"), assistant("a")]}), "q\na"),
        // An empty column of tools.
        (
            json!({"tools": "[]", "messages": [user("q"), {"role": "assistant", "content": "a", "tool_calls": null}]}),
            "q\na",
        ),
        // An empty system prompt is a turn without text.
        (json!({"messages": [{"role": "system", "content": ""}, user("q"), assistant("a")]}), "\nq\na"),
        // A preferred answer without a rejected one.
        (json!({"messages": [user("q")], "chosen": assistant("a"), "rejected": null}), "q\na"),
    ];
    for (row, text) in understood {
        assert_eq!(texts(std::slice::from_ref(&row)), [text], "{row}");
    }
    let refused = [
        // Function calls (hiyouga/LlamaFactory 2529), and other keys that templates show in addition to the text.
        (
            json!({"messages": [user("q"), {"role": "assistant", "content": null, "tool_calls": [{"name": "f"}]}]}),
            "tool_calls",
        ),
        (
            json!({"messages": [user("q"), {"role": "assistant", "content": "a", "reasoning_content": "hm"}]}),
            "reasoning_content",
        ),
        (json!({"tools": [{"name": "f"}], "messages": [user("q"), assistant("a")]}), "column tools"),
        // Answers that are not text.
        (
            json!({"question": "How many?", "answer": 3}),
            "the column answer: expected a text or a list of messages, found a number",
        ),
        (json!({"question": "q", "answer": ["a", "b"]}), "the column answer"),
        (json!({"caption": ["a", "b"]}), "the column caption holds a list: expected a string"),
        (
            json!({"prompt": "q", "chosen": [user("other"), assistant("yes")], "rejected": [assistant("no")]}),
            "turns before the answer",
        ),
        (
            json!({"question": "q", "response_1": "a", "response_2": "b", "overall_response": "first"}),
            "the column overall_response: expected the number of an answer, found \"first\"",
        ),
        // Transcripts in one text, without a prompt (Anthropic's hh-rlhf).
        (
            json!({"chosen": "\n\nHuman: q\n\nAssistant: a", "rejected": "\n\nHuman: q\n\nAssistant: b"}),
            "expected a column",
        ),
        (json!({"conversations": "Human: q"}), "the column conversations holds a string: expected a list of turns"),
        // An image in a column with another name.
        (
            with(llava("a", "<image>"), json!({"img_path": PICTURES[0]})),
            "hint: map the column img_path to the field image",
        ),
        (json!({"image": PICTURES[0], "images": [PICTURES[1]], "text": "a"}), "two columns, image and images"),
        (
            json!({"images": [PICTURES[0]], "messages": [{"role": "user", "content": [{"type": "image", "image": PICTURES[1]}]}, assistant("a")]}),
            "image 1 of the row's column",
        ),
    ];
    for (row, reason) in refused {
        let found = read_json(std::slice::from_ref(&row)).remove(0).unwrap_err();
        assert!(found.contains(reason), "{row}: {found}");
    }
}

#[test]
fn truncated_images_and_other_files_are_skipped() {
    let dir = folder();
    let jpeg = fs::read(crate::golden::repository().join("tests/golden/decode/color.jpg")).unwrap();
    fs::write(dir.path().join("half.jpg"), &jpeg[..jpeg.len() / 2]).unwrap();
    fs::write(dir.path().join("page.jpg"), "<!DOCTYPE html><html>404</html>").unwrap();
    fs::write(dir.path().join("empty.jpg"), "").unwrap();
    let path = dir.path().join("a.jsonl");
    for (name, reason) in [("half", "truncated"), ("page", "HTML page"), ("empty", "empty")] {
        fs::write(&path, with(llava("a", "<image>"), json!({"image": format!("{name}.jpg")})).to_string()).unwrap();
        let found = samples(&path, &Mapping::new()).remove(0).unwrap_err();
        assert!(found.contains(reason), "{found}");
    }
}
