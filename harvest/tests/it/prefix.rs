//! Rows of a model that reads the images and the question as a prefix: which of them fit, what is predicted, and pieces.

use crate::checkpoint_copy::{CheckpointCopy, HOST};
use crate::golden::repository;
use harvest::data::{Mapping, Source};
use harvest::model::Input;
use harvest::{Answers, Checkpoint, LikelihoodRunner, Pieces, Plan, Prepared, Templating, harvest};
use sae_core::Run;
use sae_core::device::DeviceChoice;
use sae_core::store::sample::{Modality, Role};
use sae_core::store::{Hook, Store, load_samples};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};

fn model() -> PathBuf {
    repository().join("tests/golden/paligemma-b")
}

/// A folder with an image and these rows.
fn data(folder: &Path, rows: &[Value]) -> PathBuf {
    fs::create_dir_all(folder).unwrap();
    fs::copy(model().join("images/square.png"), folder.join("square.png")).unwrap();
    let path = folder.join("data.jsonl");
    fs::write(&path, rows.iter().map(|row| row.to_string() + "\n").collect::<String>()).unwrap();
    path
}

/// The only row as a sample, or the reason why it is skipped.
fn prepare(row: Value, answers: Answers, templating: Templating) -> Result<Prepared, String> {
    let dir = tempfile::tempdir().unwrap();
    let path = data(dir.path(), &[row]);
    let row = Source::open(&path).unwrap().rows(&Mapping::new()).unwrap().next().unwrap().unwrap();
    let checkpoint = Checkpoint::open(&model()).unwrap();
    checkpoint.prepare(row, answers, templating).map_err(|skipped| skipped.reason)
}

fn turns(turns: &[(&str, &str)]) -> Value {
    let turns = turns.iter().map(|(from, value)| json!({"from": from, "value": value}));
    json!({"id": 1, "image": "square.png", "conversations": turns.collect::<Vec<_>>()})
}

#[test]
fn a_question_is_a_prefix_and_only_its_answer_is_predicted() {
    let row = turns(&[("human", "<image>\nWhat is this?"), ("gpt", "A red square.")]);
    let text = |prepared: &Prepared, role: Role| {
        let of_role = prepared.tokens.iter().filter(|token| token.role == role && token.modality == Modality::Text);
        of_role.map(|token| token.piece.as_str()).collect::<String>()
    };
    let whole = prepare(row.clone(), Answers::All, Templating::Auto).unwrap();
    assert_eq!(text(&whole, Role::User), "What is this?");
    assert_eq!(text(&whole, Role::Assistant), "A red square.");
    assert_eq!(text(&whole, Role::Template), "<bos>\n<eos>");
    // The images come first, whatever the row says.
    assert!(whole.tokens[..25].iter().all(|token| token.modality == Modality::Image && token.image == Some(0)));
    assert_eq!((whole.tokens[25].piece.as_str(), whole.tokens[whole.prefix - 1].piece.as_str()), ("<bos>", "\n"));
    assert_eq!(whole.tokens[whole.prefix].role, Role::Assistant);
    let targets = whole.targets();
    assert_eq!((targets[0], targets.len()), (whole.prefix, whole.answer_positions().len()));
    let input = Checkpoint::open(&model()).unwrap().input(&whole);
    assert_eq!(input.prefix, whole.prefix);

    let asked = prepare(row, Answers::None, Templating::Auto).unwrap();
    assert_eq!((asked.prefix, asked.tokens.len()), (whole.prefix, whole.prefix));
    assert!(asked.targets().is_empty() && asked.tokens == whole.tokens[..whole.prefix]);
    // A text that is used unchanged is a prefix, and nothing is added to it.
    let verbatim = json!({"id": 1, "image": "square.png", "text": "<image><bos>What?\n"});
    let verbatim = prepare(verbatim, Answers::All, Templating::None).unwrap();
    assert_eq!(verbatim.prefix, verbatim.tokens.len());
    let begins: Vec<usize> = (0..verbatim.tokens.len()).filter(|n| verbatim.tokens[*n].piece == "<bos>").collect();
    assert_eq!(begins, [25]);
}

#[test]
fn rows_that_are_no_question_with_images_and_its_answer_are_skipped() {
    let words =
        json!({"id": 1, "conversations": [{"from": "human", "value": "What?"}, {"from": "gpt", "value": "That."}]});
    let rows = [
        words,
        turns(&[("human", "<image>\nOne?"), ("gpt", "Yes."), ("human", "Two?"), ("gpt", "No.")]),
        turns(&[("system", "Be brief."), ("human", "<image>\nOne?"), ("gpt", "Yes.")]),
    ];
    for row in rows {
        let reason = prepare(row, Answers::All, Templating::Auto).unwrap_err();
        assert!(reason.contains("one question with images, and one answer"), "{reason}");
    }
    let marked = prepare(turns(&[("human", "<image>\na <image> b"), ("gpt", "c")]), Answers::All, Templating::Auto);
    assert!(marked.is_err(), "an image that the row does not have");
    let copy = CheckpointCopy::new("paligemma-b");
    fs::write(copy.path("chat_template.jinja"), "{{ messages[0]['content'][0]['text'] }}").unwrap();
    let error = copy.error();
    assert!(error.contains("a chat template of PaliGemma is not supported"), "{error}");
    let copy = CheckpointCopy::new("paligemma-b");
    let mut tokens = copy.read("tokenizer_config.json");
    tokens.as_object_mut().unwrap().remove("eos_token");
    copy.write("tokenizer_config.json", &tokens);
    let error = copy.error();
    assert!(error.contains("names no eos_token"), "{error}");
}

#[test]
fn an_answer_by_itself_follows_the_beginning_of_the_text() {
    let dir = tempfile::tempdir().unwrap();
    let path = data(dir.path(), &[turns(&[("human", "<image>\nWhat is this?"), ("gpt", "A red square.")])]);
    let plan = Plan { device: DeviceChoice::Cpu, ..Plan::new(model(), path, vec![Hook::block(3)]) };
    let runner = LikelihoodRunner::open(&plan).unwrap();
    let mut found = Vec::new();
    runner.run(true, &|| Ok(()), &mut |one, _| found.extend(one.map(|(s, nll)| (s.clone(), nll.clone())))).unwrap();
    let [(sample, likelihood)] = &found[..] else { panic!("expected one sample") };
    assert_eq!(sample.tokens[25].piece, "<bos>");
    let answer = sample.tokens.iter().filter(|token| token.role == Role::Assistant);
    let ids = [&sample.tokens[25]].into_iter().chain(answer).map(|token| token.token_id as u32).collect();
    let alone = Input { ids, ..Input::default() };
    let model = runner.checkpoint().load(None, &HOST).unwrap();
    let expected = model.nll(&[&alone], &[(1..alone.ids.len()).collect()]).unwrap();
    assert_eq!(likelihood.alone.len(), likelihood.tokens.len());
    assert!(likelihood.alone.iter().zip(&expected[0]).all(|(found, nll)| (found.unwrap() - nll).abs() < 1e-5));
}

/// A harvest of rows, and the values of all its positions.
fn values(dir: &Path, name: &str, plan: Plan) -> (Vec<f32>, usize, Vec<String>) {
    let run = Run::create(&dir.join(name)).unwrap();
    let record = harvest(&Plan { device: DeviceChoice::Cpu, ..plan }, &run, &mut |_| Ok(())).unwrap();
    let store = Store::open_with_pieces(&run, "layers.3").unwrap();
    let mut values = Vec::new();
    for n in 0..store.shards() {
        let shard = store.shard(n).unwrap();
        shard.read(0..shard.rows(), &mut values);
    }
    let skipped = record.skipped.iter().map(|row| row.reason.clone()).collect();
    (values, load_samples(&run).unwrap().len(), skipped)
}

#[test]
fn answers_and_sentences_share_the_states_of_their_question() {
    let dir = tempfile::tempdir().unwrap();
    let row = json!({"id": 1, "image": "square.png", "question": "What is this?", "chosen": "A square. It is red.",
        "rejected": "A ring."});
    let path = data(&dir.path().join("pairs"), &[row]);
    let plan = |answers, pieces| Plan { answers, pieces, ..Plan::new(model(), &path, vec![Hook::block(3)]) };
    let [chosen, rejected] = [("chosen", Answers::Chosen), ("rejected", Answers::Rejected)]
        .map(|(name, answers)| values(dir.path(), name, plan(answers, None)).0);
    let asked = values(dir.path(), "asked", plan(Answers::None, None)).0;
    assert!(chosen.starts_with(&asked) && rejected.starts_with(&asked) && asked.len() > 25 * 32);
    let (answers, pieces, _) = values(dir.path(), "answers", plan(Answers::All, Some(Pieces::Answers)));
    assert_eq!(pieces, 3);
    assert!(answers == [&asked, &chosen[asked.len()..], &rejected[asked.len()..]].concat());
    let (sentences, pieces, _) = values(dir.path(), "sentences", plan(Answers::All, Some(Pieces::Sentences)));
    assert_eq!((pieces, sentences == chosen), (3, true));

    // Of three trees, the second one divides its question, and the third one asks twice.
    let node = |id: &str, parent: Value, role: &str, text: &str| json!({"id": id, "parent_id": parent, "role": role, "text": text});
    let [mut whole, mut divided] = ["a", "e"].map(|id| node(id, Value::Null, "user", "What is"));
    let mut rest = node("f", json!("e"), "user", " this?");
    (whole["image"], divided["image"], rest["continues"]) = ("square.png".into(), "square.png".into(), true.into());
    let answer = |id: &str, parent: &str| node(id, json!(parent), "assistant", "A square.");
    let mut first = node("h", Value::Null, "user", "What is this?");
    first["image"] = "square.png".into();
    let again = [first, answer("i", "h"), node("j", json!("i"), "user", "And this?"), answer("k", "j")];
    let rows = [&[whole, answer("b", "a"), answer("c", "a"), divided, rest, answer("g", "f")][..], &again[..]].concat();
    let path = data(&dir.path().join("trees"), &rows);
    let plan = Plan { pieces: Some(Pieces::Tree), ..Plan::new(model(), &path, vec![Hook::block(3)]) };
    let (_, pieces, skipped) = values(dir.path(), "run-trees", plan);
    assert_eq!(pieces, 3, "{skipped:?}");
    let [divided, again] = &skipped[..] else { panic!("{skipped:?}") };
    assert!(divided.contains("a question is divided between pieces"), "{divided}");
    assert!(again.contains("one question with images, and one answer"), "{again}");
}
