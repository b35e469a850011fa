//! The bundled model looks: words are likelier with the right image than with a wrong one. Read off the file of values
//! that were measured with `transformers`, and measured again here on a sample of the pairs.

use crate::tool::repository;
use harvest::data::{Row, Source};
use harvest::{Answers, Checkpoint, Templating};
use std::collections::BTreeMap;

/// Nats a token that a wrong image must cost.
const GAP: f64 = 0.5;
/// Pairs that are measured again.
const AGAIN: usize = 128;

#[test]
fn the_demo_model_looks_at_its_image() {
    let measured = std::fs::read(repository("assets/demo-mllm/measured.json")).unwrap();
    let measured: serde_json::Value = serde_json::from_slice(&measured).unwrap();
    assert!(measured["pairs"].as_u64().unwrap() >= 200);
    let stated = measured["nll_per_token_wrong"].as_f64().unwrap() - measured["nll_per_token_right"].as_f64().unwrap();
    assert!(stated >= GAP, "the stated gap is {stated}");

    let checkpoint = Checkpoint::open(&repository("assets/demo-mllm")).unwrap();
    let model = checkpoint.load(None, &harvest::model::Compute::Host { bf16: false }).unwrap();
    let rows: BTreeMap<String, Row> = Source::open(&repository("assets/demo-data/data.jsonl"))
        .unwrap()
        .rows(&Vec::new())
        .unwrap()
        .map(|row| row.map(|row| (row.key.clone(), row)).unwrap())
        .collect();

    let nll = |row: &Row, image_of: &Row| -> (f64, usize) {
        let mut record = row.record.clone().unwrap();
        record.images = image_of.record.as_ref().unwrap().images.clone();
        let (key, source) = (row.key.clone(), row.source.clone());
        let row = Row { number: row.number, source, key, has_own_key: row.has_own_key, record: Ok(record) };
        let prepared = checkpoint.prepare(row, Answers::All, Templating::Auto).unwrap();
        // The end token behind the answer is the template's, and was measured with it.
        let mut answer = prepared.answer_positions();
        answer.push(answer[answer.len() - 1] + 1);
        let values = model.nll(&[&checkpoint.input(&prepared)], &[answer]).unwrap().remove(0);
        (values.iter().map(|v| *v as f64).sum(), values.len())
    };
    let (mut right, mut wrong, mut tokens) = (0.0, 0.0, 0);
    let pairs = measured["per_pair"].as_array().unwrap();
    assert!(pairs.len() >= AGAIN);
    for pair in pairs.iter().take(AGAIN) {
        let row = |key: &str| &rows[pair[key].as_str().unwrap()];
        for (key, image, sum) in [("nll_right", row("key"), &mut right), ("nll_wrong", row("wrong_key"), &mut wrong)] {
            let (found, count) = nll(row("key"), image);
            let stated = pair[key].as_f64().unwrap();
            assert_eq!(pair["answer_tokens"].as_u64(), Some(count as u64), "{}", pair["key"]);
            assert!(
                (found - stated).abs() <= 2e-3 * stated.abs().max(1.0),
                "{} {key}: {found}, stated {stated}",
                pair["key"]
            );
            *sum += found;
            tokens += count;
        }
    }
    let gap = (wrong - right) / (tokens as f64 / 2.0);
    assert!(gap >= GAP, "on {AGAIN} pairs a wrong image costs {gap} nats a token");
}
