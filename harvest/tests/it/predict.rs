//! The model with other hidden states behind a block: what is put back changes nothing, zeros make every token as likely
//! as any other, and only what is replaced matters.

use crate::golden::{Golden, repository};
use harvest::{Plan, SpliceRunner};
use sae_core::device::DeviceChoice;
use sae_core::store::sample::{Modality, Role, Token};

/// The bundled model on its first rows, behind block 4 of 8.
fn plan(limit: u64) -> Plan {
    let (model, data) = (repository().join("assets/demo-mllm"), repository().join("assets/demo-data/data.jsonl"));
    Plan { limit: Some(limit), device: DeviceChoice::Cpu, batch_tokens: 1024, ..Plan::new(model, data, vec![4]) }
}

#[test]
fn states_that_are_put_back_change_nothing_and_zeros_leave_a_uniform_guess() {
    let plan = plan(70);
    let predictor = SpliceRunner::open(&plan).unwrap();
    let (mut samples, mut own, mut zero, mut uniform_kl) = (0, 0.0, 0.0, 0.0);
    let mut tokens = 0;
    let replace = |_: &[&Token], hidden: &[f32]| Ok(vec![hidden.to_vec(), vec![0.0; hidden.len()]]);
    let mut rows = 0;
    let skipped = predictor
        .run(&replace, &mut |predicted, done| {
            rows = done;
            let Some(predicted) = predicted else { return };
            samples += 1;
            let [first, same, zeros] = predicted.predictions[..] else { panic!("three variants") };
            assert_eq!((first.len(), zeros.len()), (predicted.targets.len(), predicted.targets.len()));
            for ((first, same), zeros) in first.iter().zip(same).zip(zeros) {
                assert!((first.nll - same.nll).abs() < 1e-5 && same.kl.abs() < 1e-5 && first.kl == 0.0);
                // Without biases, zeros stay zeros up to the head.
                assert!((zeros.nll - 2048f32.ln()).abs() < 1e-4, "{zeros:?}");
                own += f64::from(first.nll);
                zero += f64::from(zeros.nll);
                uniform_kl += f64::from(zeros.kl);
                tokens += 1;
            }
        })
        .unwrap();
    assert_eq!(skipped.rows(), 0);
    assert_eq!((samples, rows), (70, 70));
    let (own, zero, uniform_kl) = (own / tokens as f64, zero / tokens as f64, uniform_kl / tokens as f64);
    assert!(own + 1.0 < zero, "the model predicts words ({own} nats) better than chance ({zero})");
    assert!(uniform_kl > 0.5 && uniform_kl <= zero, "{uniform_kl}");
}

#[test]
fn predictions_from_a_block_on_are_those_of_the_whole_model_in_any_batch() {
    for name in ["llava-a", "llava-b"] {
        let golden = Golden::open(name);
        let checkpoint = harvest::Checkpoint::open(&golden.folder).unwrap();
        let model = checkpoint.load(None, &harvest::model::Compute::Host { bf16: false }).unwrap();
        let inputs = crate::parity::inputs(&golden, &checkpoint);
        let inputs: Vec<_> = inputs.iter().collect();
        let positions: Vec<Vec<usize>> = inputs.iter().map(|input| (1..input.ids.len()).collect()).collect();
        let whole = model.nll(&inputs, &positions).unwrap().concat();
        for layer in 0..checkpoint.config().text.layers.len() {
            let states = [model.hidden(&inputs, &[layer]).unwrap()];
            let resumed = model.compare(layer, &inputs, &states, &positions).unwrap().remove(0);
            assert_eq!(resumed.len(), whole.len());
            for (resumed, whole) in resumed.iter().zip(&whole) {
                assert!((resumed.nll - whole).abs() < 1e-5 && resumed.kl == 0.0, "{name} layer {layer}");
            }
        }
        let other = [model.hidden(&inputs[..1], &[0]).unwrap()];
        assert!(model.compare(0, &inputs, &other, &positions).unwrap_err().to_string().contains("hidden states of"));
        assert!(model.compare(99, &inputs, &other, &positions).unwrap_err().to_string().contains("layer 99"));
    }
}

#[test]
fn targets_are_words_behind_words() {
    let plan = plan(3);
    let predictor = SpliceRunner::open(&plan).unwrap();
    let replace = |_: &[&Token], _: &[f32]| Ok(Vec::new());
    let mut seen = 0;
    predictor
        .run(&replace, &mut |predicted, _| {
            let Some(predicted) = predicted else { return };
            seen += 1;
            let tokens = &predicted.sample.tokens;
            for (position, token) in tokens.iter().enumerate() {
                // In this data set the only words are the answers.
                let word = token.role == Role::Assistant && !token.special;
                assert_eq!(predicted.targets.contains(&position), word, "{position} {token:?}");
            }
            assert!(predicted.targets.iter().all(|p| tokens[p - 1].modality == Modality::Text));
        })
        .unwrap();
    assert_eq!(seen, 3);
}
