//! Steps of agents: their actions follow the text as ids, with the modality action, and rows whose actions cannot become
//! ids are skipped with the reason.

use crate::data::{folder, samples};
use crate::golden::repository;
use harvest::data::{Mapping, Source};
use harvest::{ActionStatistics, Answers, Checkpoint, Plan, Templating, harvest};
use sae_core::Run;
use sae_core::device::DeviceChoice;
use sae_core::store::Hook;
use sae_core::store::sample::{Modality, Role};
use sae_core::store::{Store, load_samples};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;

fn write(path: &Path, rows: &[Value]) {
    fs::write(path, rows.iter().map(|row| format!("{row}\n")).collect::<String>()).unwrap();
}

fn step(action: Value) -> Value {
    let mut row = json!({"image": crate::data::PICTURES[0], "task": "pick up the cup", "episode": 3, "step": 1});
    row.as_object_mut().unwrap().extend(action.as_object().unwrap().clone());
    row
}

#[test]
fn ids_of_an_action_follow_the_prompt_unchanged() {
    let dir = folder();
    let path = dir.path().join("data.jsonl");
    let plain = json!({"image": crate::data::PICTURES[0], "conversations": [{"from": "human", "value": "pick up the cup"},
        {"from": "gpt", "value": "No."}]});
    write(&path, &[step(json!({"action_ids": [2047, 7, 7]})), step(json!({"action_ids": [2047, 7, 8]})), plain]);
    let checkpoint = Checkpoint::open(&repository().join("assets/demo-mllm")).unwrap();
    let prepare = |n: usize, answers| {
        let row = Source::open(&path).unwrap().rows(&Mapping::new()).unwrap().nth(n).unwrap().unwrap();
        checkpoint.prepare(row, answers, Templating::Auto)
    };
    let prepared = |n: usize, answers| prepare(n, answers).unwrap();
    let (with, without) = (prepared(0, Answers::All), prepared(0, Answers::None));
    let (prompt, action) = with.tokens.split_at(with.tokens.len() - 3);
    // The prompt is the one before an answer is generated.
    assert_eq!(prompt, without.tokens);
    assert_eq!(prompt, prepared(2, Answers::None).tokens);
    let found: Vec<_> = action.iter().map(|t| (t.token_id, t.modality, t.role, t.special, t.position)).collect();
    let start = prompt.len() as u32;
    let expected = [2047, 7, 7].into_iter().zip(start..);
    let expected: Vec<_> = expected.map(|(id, at)| (id, Modality::Action, Role::Assistant, false, at)).collect();
    assert_eq!(found, expected);
    assert!(with.answer_positions().is_empty() && with.targets() == without.targets());
    assert_eq!((&with.sample.meta["episode"], &with.sample.meta["action_ids"]), (&json!(3), &json!([2047, 7, 7])));
    assert_eq!(with.sample.text, "pick up the cup");
    assert_ne!(with.sample.id, prepared(1, Answers::All).sample.id, "the action is part of the content");
    let error = prepare(0, Answers::Chosen).unwrap_err();
    assert!(error.reason.contains("no chosen"), "{}", error.reason);
}

#[test]
fn rows_whose_actions_cannot_become_ids_are_skipped_with_the_reason() {
    let dir = folder();
    let path = dir.path().join("data.jsonl");
    let mut answered = step(json!({"action_ids": 7}));
    answered["conversations"] = json!([{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]);
    let mut nothing = step(json!({"action_ids": 7}));
    nothing.as_object_mut().unwrap().remove("task");
    write(
        &path,
        &[
            step(json!({"action_ids": [7, 2048]})),
            step(json!({"action_ids": [4]})),
            step(json!({"action_ids": [-7]})),
            step(json!({"action": [0.5, 0.5]})),
            step(json!({"action": [0.5, null]})),
            answered,
            nothing,
            step(json!({"action_ids": vec![7; 600]})),
        ],
    );
    let reasons: Vec<String> = samples(&path, &Mapping::new()).into_iter().map(|row| row.err().unwrap()).collect();
    let expected = [
        "outside the vocabulary of 2048",
        "4, the placeholder of images",
        "found -7",
        "no statistics that make tokens of it",
        "not finite in dimension 1",
        "its last turn is not of the user",
        "expected a column conversations",
        "more than the model's context of 512",
    ];
    for (reason, expected) in reasons.iter().zip(expected) {
        assert!(reason.contains(expected), "{reason}");
    }
}

#[test]
fn numbers_become_the_last_ids_of_the_vocabulary_and_a_run_stores_them() {
    let dir = folder();
    let [path, stats, run] = ["data.jsonl", "stats.json", "run"].map(|name| dir.path().join(name));
    write(
        &path,
        &[
            step(json!({"action": [-1.0, 10.0]})),
            step(json!({"action": [0.0, 5.0, 1.0]})),
            step(json!({"action": [9.0, 0.0]})),
        ],
    );
    fs::write(&stats, json!({"action": {"q01": [-1.0, 0.0], "q99": [1.0, 10.0]}}).to_string()).unwrap();
    let plan = Plan {
        device: DeviceChoice::Cpu,
        action_stats: Some(stats.clone()),
        ..Plan::new(repository().join("assets/demo-mllm"), &path, vec![Hook::block(1)])
    };
    let run = Run::create(&run).unwrap();
    let record = harvest(&plan, &run, &mut |_| Ok(())).unwrap();
    assert_eq!(record.skipped.len(), 1);
    assert!(record.skipped[0].reason.contains("3 dimensions: expected 2"), "{}", record.skipped[0].reason);
    assert_eq!(record.spec.arguments["action_stats"]["low"], json!([-1.0, 0.0]));
    assert_eq!(load_samples(&run).unwrap().len(), 2);
    let store = Store::open(&run, "layers.1").unwrap();
    let table = store.token_table(0).unwrap();
    let action = |sample| {
        let tokens = table.tokens(table.rows(sample).unwrap()).unwrap();
        let action = tokens.into_iter().filter(|token| token.modality == Modality::Action);
        action.map(|token| token.token_id).collect::<Vec<_>>()
    };
    assert_eq!((action(0), action(1)), (vec![2047, 1792], vec![1792, 2047]));
    // Other statistics are another harvest.
    fs::write(&stats, json!({"action": {"q01": [-1.0, 0.0], "q99": [1.0, 20.0]}}).to_string()).unwrap();
    assert!(harvest(&plan, &run, &mut |_| Ok(())).is_err());
    assert!(ActionStatistics::open(&path, None).is_err());
}
