//! Chat templates and tokenizers compared with `transformers` (tests/golden/make_templates.py), and the location of a
//! conversation's texts in the rendered text.

use crate::bad_input::edit;
use crate::golden::repository;
use harvest::data::{Record, Row, Turn, TurnPart};
use harvest::prompt::{Media, Text};
use harvest::template::{Rendered, Template};
use harvest::{Answers, Checkpoint, Plan, Prepared, Templating};
use proptest::prelude::*;
use sae_core::Run;
use sae_core::device::DeviceChoice;
use sae_core::store::Hook;
use sae_core::store::Skipped;
use sae_core::store::sample::{Modality, Role};
use serde_json::{Map, Value, json};
use std::fs;
use std::path::PathBuf;
use tempfile::TempDir;

fn golden() -> PathBuf {
    repository().join("tests/golden/templates")
}

fn expectations(file: &str) -> Vec<Value> {
    serde_json::from_slice(&fs::read(golden().join(file)).unwrap()).unwrap()
}

/// A conversation of the expectations. If the template takes parts, an image comes before every text of the user.
fn turns(conversation: &Value, parts: bool) -> Vec<Turn> {
    let turns = conversation.as_array().unwrap().iter().map(|turn| {
        let role = match turn["role"].as_str().unwrap() {
            "system" => Role::System,
            "user" => Role::User,
            _ => Role::Assistant,
        };
        let text = TurnPart::Text(turn["content"].as_str().unwrap().to_owned());
        let image = (parts && role == Role::User).then_some(TurnPart::Image(0));
        Turn { role, parts: image.into_iter().chain([text]).collect() }
    });
    turns.collect()
}

/// A template without a checkpoint, with the special tokens of the expectations.
fn template(name: &str) -> Template {
    let dir = tempfile::tempdir().unwrap();
    fs::copy(golden().join(format!("{name}.jinja")), dir.path().join("chat_template.jinja")).unwrap();
    let special = Map::from_iter([("bos_token".to_owned(), json!("<s>")), ("eos_token".to_owned(), json!("</s>"))]);
    Template::open(dir.path(), &special, name.ends_with("-parts")).unwrap().unwrap()
}

/// Replaces `{{date:FORMAT}}` in the expectations by today's date.
fn dated(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("{{date:") {
        let (format, after) = after.split_once("}}").unwrap();
        out += &format!("{before}{}", chrono::Local::now().format(format));
        rest = after;
    }
    out + rest
}

/// A text without the characters at its ends that Python considers white space.
fn stripped(text: &str) -> &str {
    text.trim_matches(|c: char| c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c))
}

fn texts(rendered: &Rendered) -> Vec<(Role, &str)> {
    rendered.spans.iter().map(|(span, role)| (*role, &rendered.text[span.clone()])).collect()
}

#[test]
fn templates_render_as_in_jinja2_and_their_texts_are_located() {
    let conversations = expectations("conversations.json");
    let mut checked = 0;
    for case in expectations("rendered.json") {
        let name = case["template"].as_str().unwrap();
        let template = template(name);
        let turns = turns(&conversations[case["conversation"].as_u64().unwrap() as usize], name.ends_with("-parts"));
        let rendered = template.render(&turns, case["generate"].as_bool().unwrap());
        match (case["text"].as_str(), rendered) {
            (Some(expected), Ok(rendered)) => {
                assert_eq!(rendered.text, dated(expected), "{case}");
                let found = texts(&rendered);
                for turn in &turns {
                    let (role, text) = (turn.role, turn.text());
                    let is_this = |(other, found): &&(Role, &str)| *other == role && stripped(found) == stripped(&text);
                    assert!(found.iter().any(|found| is_this(&found)), "{case}: {text:?} in {found:?}");
                }
                checked += 1;
            }
            // A row is skipped only if the template changes its texts.
            (Some(_), Err(reason)) => {
                assert_eq!(case["found"], false, "{case}: {reason}");
                assert!(reason.contains("rewrites a text") || reason.contains("omits"), "{case}: {reason}");
            }
            (None, Err(reason)) => assert!(reason.contains("rejects") || reason.contains("fails"), "{case}: {reason}"),
            (None, Ok(_)) => panic!("{case} is rejected by Jinja2"),
        }
    }
    assert!(checked > 400, "{checked}");
}

/// Conversations that consist of plain letters.
fn conversation() -> impl Strategy<Value = Vec<(Role, String)>> {
    let text = "[a-z]{1,6}( [a-z]{1,6}){0,3}";
    (proptest::option::of(text), proptest::collection::vec((text, text), 1..4)).prop_map(|(system, pairs)| {
        let system = system.map(|text| (Role::System, text));
        let pairs = pairs.into_iter().flat_map(|(q, a)| [(Role::User, q), (Role::Assistant, a)]);
        system.into_iter().chain(pairs).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn plain_texts_are_located_in_every_template(conversation in conversation(), generate: bool) {
        let names = fs::read_dir(golden()).unwrap().filter_map(|entry| {
            entry.unwrap().file_name().to_str().unwrap().strip_suffix(".jinja").map(str::to_owned)
        });
        for name in names {
            let turns: Vec<Turn> =
                conversation.iter().map(|(role, text)| Turn::from_text(*role, text.as_str())).collect();
            let rendered = match template(&name).render(&turns, generate) {
                Ok(rendered) => rendered,
                Err(reason) => {
                    prop_assert!(reason.contains("rejects"), "{}: {}", name, reason);
                    continue;
                }
            };
            let mut expected: Vec<_> =
                conversation.iter().map(|(role, text)| (*role as u8, text.as_str())).collect();
            let mut found: Vec<_> = texts(&rendered).into_iter().map(|(role, text)| (role as u8, text)).collect();
            expected.sort_unstable();
            found.sort_unstable();
            // Some templates find the last question by comparing messages. They repeat the system prompt in equal messages.
            if ["system-in-last", "system-joined"].contains(&name.as_str()) {
                expected.dedup();
                found.dedup();
            }
            prop_assert_eq!(&found, &expected, "{}", name);
        }
    }
}

/// A copy of a golden checkpoint without its template, with edited configuration files: an object overrides keys, a string
/// replaces the file, and null removes it.
fn checkpoint(name: &str, files: &Value) -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("model");
    fs::create_dir(&folder).unwrap();
    for entry in fs::read_dir(repository().join("tests/golden").join(name)).unwrap() {
        let path = entry.unwrap().path();
        let file = path.file_name().unwrap().to_str().unwrap();
        if path.is_file() && !file.starts_with("chat_template") && !file.starts_with("golden") {
            fs::copy(&path, folder.join(file)).unwrap();
        }
    }
    for (file, change) in files.as_object().unwrap() {
        let path = folder.join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        match change {
            Value::Null => fs::remove_file(&path).unwrap(),
            Value::String(text) => fs::write(&path, text).unwrap(),
            keys => {
                if !path.exists() {
                    fs::write(&path, "{}").unwrap();
                }
                let keys = keys.as_object().unwrap().clone();
                edit(&path, |config| config.as_object_mut().unwrap().extend(keys));
            }
        }
    }
    (dir, folder)
}

#[test]
fn of_several_templates_the_one_of_transformers_is_used() {
    for case in expectations("sources.json") {
        let name = case["checkpoint"].as_str().unwrap();
        let (_dir, folder) = checkpoint(name, &case["files"]);
        let multimodal = name == "llava-a";
        let text = match Template::open(&folder, &Map::new(), multimodal) {
            Ok(Some(template)) => template.render(&[], false).ok().map(|rendered| rendered.text),
            Ok(None) | Err(_) => None,
        };
        assert_eq!(text.as_deref(), case["template"].as_str(), "{case}");
    }
}

fn open_error(name: &str, files: &Value) -> String {
    let (_dir, folder) = checkpoint(name, files);
    Checkpoint::open(&folder).err().unwrap().to_string()
}

#[test]
fn ambiguous_and_unusable_templates_are_rejected_by_name() {
    let other = json!({"tokenizer_config.json": {"chat_template": [{"name": "chat", "template": "x"}, {"name": "tool_use", "template": "y"}]}});
    let error = open_error("text-llama", &other);
    assert!(error.contains("expected a chat template with the name default, found chat, tool_use"), "{error}");
    assert!(error.contains("tokenizer_config.json"), "{error}");
    let both = json!({"chat_template.json": {"chat_template": "x"}, "additional_chat_templates/a.jinja": "y"});
    let error = open_error("llava-a", &both);
    assert!(error.contains("chat_template.json and additional_chat_templates"), "{error}");
    let texts =
        json!({"tokenizer_config.json": {"chat_template": "{% for m in messages %}{{ m.content }}{% endfor %}"}});
    let error = open_error("llava-a", &texts);
    assert!(error.contains("accepts lists of parts") && error.contains("tokenizer_config.json"), "{error}");
    let broken = json!({"chat_template.jinja": "{% if %}"});
    let error = open_error("llava-a", &broken);
    assert!(error.contains("is not valid") && error.contains("chat_template.jinja"), "{error}");
}

#[test]
fn token_ids_equal_those_of_transformers() {
    let mut cases = expectations("tokenizers.json").into_iter();
    let texts = cases.next().unwrap();
    for case in cases {
        let (_dir, folder) = checkpoint(case["checkpoint"].as_str().unwrap(), &case["files"]);
        let checkpoint = Checkpoint::open(&folder).unwrap_or_else(|e| panic!("{case}: {e}"));
        for (text, ids) in texts.as_array().unwrap().iter().zip(case["ids"].as_array().unwrap()) {
            let tokens =
                checkpoint.prompter().tokens(&Text::Verbatim(text.as_str().unwrap()), Media::Images(&[])).unwrap();
            let found: Vec<i32> = tokens.iter().map(|token| token.token_id).collect();
            let expected: Vec<i32> = ids.as_array().unwrap().iter().map(|id| id.as_i64().unwrap() as i32).collect();
            assert_eq!(found, expected, "{text} {} {}", case["checkpoint"], case["files"]);
        }
    }
}

#[test]
fn tokens_that_are_a_part_of_a_character_are_named_as_bytes() {
    let text = "a \u{65e5}\u{672c}, \u{65e5}\u{65e5} \u{1f600}";
    let (_dir, byte_level) = open("text-llama", json!({}));
    let demo = Checkpoint::open(&repository().join("assets/demo-mllm")).unwrap();
    for checkpoint in [byte_level, demo] {
        let tokens = checkpoint.prompter().tokens(&Text::Verbatim(text), Media::Images(&[])).unwrap();
        let texts = tokens.iter().filter(|token| !token.special).map(|token| token.piece.as_str());
        let mut bytes = Vec::new();
        for token in texts {
            let mut rest = token;
            while let Some((before, (byte, after))) =
                rest.split_once("<0x").and_then(|(before, rest)| Some((before, rest.split_once('>')?)))
            {
                bytes.extend(before.bytes().chain([u8::from_str_radix(byte, 16).unwrap()]));
                rest = after;
            }
            bytes.extend(rest.bytes());
        }
        assert_eq!(String::from_utf8(bytes).unwrap().trim_start(), text);
        assert!(tokens.iter().any(|token| token.piece == "<0x97>"), "the characters are not in the vocabulary");
    }
}

#[test]
fn special_tokens_are_variables_of_the_template() {
    let names = "{{ bos_token }}{{ eos_token }}{{ image_token is defined }}{{ image_token }}{{ mask_token }}";
    let files = json!({
        "chat_template.jinja": format!("{names}{{{{ messages[0].content }}}}"),
        "tokenizer_config.json": {
            "bos_token": {"__type": "AddedToken", "content": "<b>", "lstrip": false, "special": true},
            "image_token": "<i>",
            "extra_special_tokens": {"mask_token": "<m>"},
        }
    });
    let (_dir, folder) = checkpoint("text-llama", &files);
    let checkpoint = Checkpoint::open(&folder).unwrap();
    let turns = [Turn::from_text(Role::User, "word")];
    let text = Text::Conversation { turns: &turns, generate: false };
    let tokens = checkpoint.prompter().tokens(&text, Media::Images(&[])).unwrap();
    let text: String = tokens.iter().map(|token| token.piece.as_str()).collect();
    assert_eq!(text, "<b><|eot_id|>True<i><m>word");
}

fn prepare(checkpoint: &Checkpoint, text: &str) -> Result<Prepared, Skipped> {
    let turns = vec![Turn::from_text(Role::User, text), Turn::from_text(Role::Assistant, "a b")];
    let record = Record {
        turns,
        pair: None,
        unanswered: false,
        about_answers: Default::default(),
        unattributed: false,
        tree: Default::default(),
        verbatim: Some(text.into()),
        action: None,
        images: Vec::new(),
        video: None,
        meta: Value::Null,
    };
    let row = Row { number: 7, source: String::new(), key: "row7".into(), has_own_key: true, record: Ok(record) };
    checkpoint.prepare(row, Answers::All, Templating::Auto)
}

fn open(name: &str, files: Value) -> (TempDir, Checkpoint) {
    let (dir, folder) = checkpoint(name, &files);
    let checkpoint = Checkpoint::open(&folder).unwrap();
    (dir, checkpoint)
}

#[test]
fn a_row_with_a_token_without_an_embedding_is_skipped_with_the_tokens_name() {
    for name in ["text-llama", "llava-a", "text-gemma2", "text-gemma3", "chameleon-a"] {
        let vocabulary =
            Checkpoint::open(&repository().join("tests/golden").join(name)).unwrap().config().text.vocab_size;
        let fill: Vec<String> = (0..vocabulary).map(|n| format!("<fill{n}>")).collect();
        let mut tokens = fill;
        tokens.push("<extra>".into());
        let (_dir, checkpoint) = open(name, json!({"tokenizer_config.json": {"extra_special_tokens": tokens}}));
        let skipped = prepare(&checkpoint, "it is <extra> here").unwrap_err();
        assert_eq!((skipped.row, skipped.key.as_str()), (7, "row7"));
        let reason = &skipped.reason;
        let expected = format!("is outside the vocabulary of {vocabulary}");
        assert!(reason.contains("<extra>") && reason.contains(&expected), "{name}: {reason}");
        prepare(&checkpoint, "it is here").unwrap();
    }
}

#[test]
fn a_harvest_continues_after_a_row_that_the_model_cannot_read() {
    let (dir, folder) = checkpoint("text-llama", &json!({}));
    edit(&folder.join("tokenizer.json"), |tokenizer| {
        let mut extra = tokenizer["added_tokens"][0].clone();
        let vocabulary = Checkpoint::open(&folder).unwrap().config().text.vocab_size;
        (extra["id"], extra["content"]) = (json!(vocabulary), json!("<extra>"));
        tokenizer["added_tokens"].as_array_mut().unwrap().push(extra);
    });
    fs::copy(repository().join("tests/golden/text-llama/chat_template.jinja"), folder.join("chat_template.jinja"))
        .unwrap();
    let rows = (0..12).map(|n| {
        let answer = if n == 7 { "a circle <extra> here" } else { "a circle" };
        json!({"id": n, "messages": [{"role": "user", "content": "what"}, {"role": "assistant", "content": answer}]})
    });
    let data = dir.path().join("data.jsonl");
    fs::write(&data, rows.map(|row| row.to_string() + "\n").collect::<String>()).unwrap();
    let run = Run::create(&dir.path().join("run")).unwrap();
    let plan = Plan { device: DeviceChoice::Cpu, ..Plan::new(&folder, &data, vec![Hook::block(0)]) };
    let record = harvest::harvest(&plan, &run, &mut |_| Ok(())).unwrap();
    assert_eq!((sae_core::store::load_samples(&run).unwrap().len(), record.skipped.len()), (11, 1));
    let skipped = &record.skipped[0];
    assert_eq!(skipped.row, 7);
    assert!(skipped.reason.contains("(<extra>) is outside the vocabulary"), "{}", skipped.reason);
}

#[test]
fn texts_that_contain_placeholders_of_images_are_skipped() {
    let cases = [
        ("llava-a", "<image>"),
        ("qwen2_5_vl-a", "<|image_pad|>"),
        ("qwen3_vl-a", "<|video_pad|>"),
        ("gemma3-a", "<start_of_image>"),
        ("gemma3-a", "<image_soft_token>"),
        ("gemma4-a", "<|image|>"),
        ("paligemma-a", "<image>"),
        ("chameleon-a", "<image>"),
    ];
    for (name, token) in cases {
        let checkpoint = Checkpoint::open(&repository().join("tests/golden").join(name)).unwrap();
        let reason = prepare(&checkpoint, &format!("what is {token} for?")).unwrap_err().reason;
        assert!(reason.contains(token) && reason.contains("turn 1"), "{name}: {reason}");
    }
    // A text-only model has no such tokens.
    let checkpoint = Checkpoint::open(&repository().join("tests/golden/text-llama")).unwrap();
    prepare(&checkpoint, "what is <image> for?").unwrap();
}

#[test]
fn special_tokens_in_a_text_are_recognized_as_in_transformers() {
    let checkpoint = Checkpoint::open(&repository().join("tests/golden/text-qwen2")).unwrap();
    let prepared = prepare(&checkpoint, "a<|im_end|>b").unwrap();
    let token = prepared.tokens.iter().filter(|token| token.piece == "<|im_end|>").nth(1).unwrap();
    assert!(token.special && token.modality == Modality::Text, "{token:?}");
    assert_eq!(token.role, Role::User);
}

#[test]
fn unsupported_tokenizers_are_rejected_by_name() {
    let error = open_error("text-llama", &json!({"tokenizer_config.json": {"tokenizer_class": "T5TokenizerFast"}}));
    assert!(error.contains("T5TokenizerFast"), "{error}");
    let error = open_error("text-llama", &json!({"tokenizer.json": null}));
    assert!(error.contains("tokenizer.json"), "{error}");
}
