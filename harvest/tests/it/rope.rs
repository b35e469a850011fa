//! Scaled rotary positions (`tests/golden/rope`): every sample equals what `transformers` computes for it alone, whatever
//! else is in its batch, on the CPU and with Burn.

use crate::checkpoint_copy::{CheckpointCopy, HOST};
use crate::golden::{Golden, relative_error, repository};
use crate::parity::inputs;
use burn::tensor::{DType, Device};
use harvest::Checkpoint;
use harvest::model::{Compute, Input};
use sae_core::store::Hook;
use sae_core::tensors::Tensors;
use serde_json::{Value, json};
use std::fs;

/// The tokens of a case in `rope/`, or, if it has none, the samples of its checkpoint.
fn rope_inputs(expected: &Tensors, name: &str, golden: &Golden, checkpoint: &Checkpoint) -> Vec<Input> {
    let ids = |n: usize| {
        let (_, bytes) = expected.bytes(&format!("{name}.{n}.tokens"))?;
        Some(bytes.as_chunks().0.iter().map(|id| i64::from_le_bytes(*id) as u32).collect())
    };
    let case: Vec<Input> = (0..).map_while(ids).map(|ids| Input { ids, ..Input::default() }).collect();
    if case.is_empty() { inputs(golden, checkpoint) } else { case }
}

fn set(config: &mut Value, pointer: &str, value: &Value) {
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    let parent = config.pointer_mut(parent).unwrap().as_object_mut().unwrap();
    if value.is_null() {
        parent.remove(name);
    } else {
        parent.insert(name.to_owned(), value.clone());
    }
}

#[test]
fn scaled_rotary_positions_equal_transformers() {
    let folder = repository().join("tests/golden/rope");
    let expected = Tensors::open(&folder.join("expected.safetensors")).unwrap();
    let cases: Vec<Value> = serde_json::from_slice(&fs::read(folder.join("cases.json")).unwrap()).unwrap();
    assert!(cases.len() >= 22);
    for case in &cases {
        let (name, checkpoint) = (case["name"].as_str().unwrap(), case["checkpoint"].as_str().unwrap());
        let copy = CheckpointCopy::new(checkpoint);
        copy.edit(|config| {
            case["set"].as_object().unwrap().iter().for_each(|(pointer, value)| set(config, pointer, value))
        });
        let checkpoint = copy.open();
        let inputs = rope_inputs(&expected, name, &copy.golden, &checkpoint);
        let blocks_out = |n: usize| {
            let tensor = format!("{name}.{n}.blocks_out");
            Some(expected.f32(&tensor, expected.shape(&tensor)?).unwrap())
        };
        let expected: Vec<_> = (0..).map_while(blocks_out).collect();
        let inputs: Vec<&Input> = inputs.iter().take(expected.len()).collect();
        assert!(expected.len() >= 3 && inputs.len() == expected.len(), "{name}");
        let last = checkpoint.config().text.layers.len() - 1;
        for compute in [HOST, Compute::Device(Device::flex(), DType::F32)] {
            let model = checkpoint.load(Some(last), &compute).unwrap();
            let together = model.hidden(&inputs, &[Hook::block(last)]).unwrap();
            for (n, expected) in expected.iter().enumerate() {
                let alone = model.hidden(&inputs[n..=n], &[Hook::block(last)]).unwrap();
                for (how, found) in [("alone", alone.rows(0, 0)), ("in a batch", together.rows(0, n))] {
                    let error = relative_error(found, expected);
                    assert!(error < 1e-4, "{name} sample {n} {how}: relative error {error}");
                }
            }
        }
    }
}

#[test]
fn scaled_positions_extend_the_context() {
    let copy = CheckpointCopy::new("text-qwen2");
    let context = |rope: Value| {
        copy.edit(|config| {
            config["max_position_embeddings"] = 24.into();
            config["rope_scaling"] = rope;
        });
        copy.open().config().text.context
    };
    assert_eq!(context(Value::Null), 24);
    assert_eq!(context(json!({"type": "dynamic", "factor": 4.0})), 96);
    assert_eq!(context(json!({"type": "yarn", "factor": 4.0})), 96);
    assert_eq!(context(json!({"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 12})), 48);
}
