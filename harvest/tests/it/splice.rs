//! A model whose hidden states behind a block are replaced: putting its own states back changes nothing, and zeros make all
//! tokens equally likely.

use crate::golden::{Golden, repository};
use harvest::data::{Record, Row, Turn, TurnPart};
use harvest::{Answers, Checkpoint, Error, ModelPair, Plan, SpliceRunner, Templating};
use sae_core::device::DeviceChoice;
use sae_core::store::Hook;
use sae_core::store::sample::{Modality, Role, Token};

/// The bundled model on its first rows, behind block 4 of 8.
fn plan(limit: u64) -> Plan {
    let (model, data) = (repository().join("assets/demo-mllm"), repository().join("assets/demo-data/data.jsonl"));
    Plan {
        limit: Some(limit),
        device: DeviceChoice::Cpu,
        batch_tokens: 1024,
        ..Plan::new(model, data, vec![Hook::block(4)])
    }
}

#[test]
fn the_original_states_change_nothing_and_zeros_give_a_uniform_distribution() {
    let plan = plan(70);
    let runner = SpliceRunner::open(&plan).unwrap();
    let (mut samples, mut original, mut zero, mut uniform_kl) = (0, 0.0, 0.0, 0.0);
    let mut tokens = 0;
    let replace = |_: &[&Token], hidden: &[&[f32]]| Ok(vec![hidden[0].to_vec(), vec![0.0; hidden[0].len()]]);
    let mut rows = 0;
    let skipped = runner
        .run(&replace, &mut |predicted, done| {
            rows = done;
            let Some(predicted) = predicted else { return };
            samples += 1;
            let [first, same, zeros] = predicted.predictions[..] else { panic!("three variants") };
            assert_eq!((first.len(), zeros.len()), (predicted.targets.len(), predicted.targets.len()));
            for ((first, same), zeros) in first.iter().zip(same).zip(zeros) {
                assert!((first.nll - same.nll).abs() < 1e-5 && same.kl.abs() < 1e-5 && first.kl == 0.0);
                // The model has no biases, so zeros stay zeros up to the output head.
                assert!((zeros.nll - 2048f32.ln()).abs() < 1e-4, "{zeros:?}");
                original += f64::from(first.nll);
                zero += f64::from(zeros.nll);
                uniform_kl += f64::from(zeros.kl);
                tokens += 1;
            }
        })
        .unwrap();
    assert_eq!(skipped.rows(), 0);
    assert_eq!((samples, rows), (70, 70));
    let (original, zero, uniform_kl) = (original / tokens as f64, zero / tokens as f64, uniform_kl / tokens as f64);
    assert!(original + 1.0 < zero, "the model predicts tokens ({original} nats) better than chance ({zero})");
    assert!(uniform_kl > 0.5 && uniform_kl <= zero, "{uniform_kl}");
}

#[test]
fn predictions_from_a_block_on_equal_those_of_the_whole_model_in_any_batch() {
    for name in ["llava-a", "llava-b"] {
        let golden = Golden::open(name);
        let checkpoint = harvest::Checkpoint::open(&golden.folder).unwrap();
        let model = checkpoint.load(None, &harvest::model::Compute::Host { bf16: false }).unwrap();
        let inputs = crate::parity::inputs(&golden, &checkpoint);
        let inputs: Vec<_> = inputs.iter().collect();
        let positions: Vec<Vec<usize>> = inputs.iter().map(|input| (1..input.ids.len()).collect()).collect();
        let whole = model.nll(&inputs, &positions).unwrap().concat();
        for layer in 0..checkpoint.config().text.layers.len() {
            let states = [model.hidden(&inputs, &[Hook::block(layer)]).unwrap()];
            let resumed = model.compare(Hook::block(layer), &inputs, &states, &positions).unwrap().remove(0);
            assert_eq!(resumed.len(), whole.len());
            for (resumed, whole) in resumed.iter().zip(&whole) {
                assert!((resumed.nll - whole).abs() < 1e-5 && resumed.kl == 0.0, "{name} layer {layer}");
            }
        }
        let other = [model.hidden(&inputs[..1], &[Hook::block(0)]).unwrap()];
        let error = |layer| model.compare(Hook::block(layer), &inputs, &other, &positions).unwrap_err();
        assert!(matches!(error(0), Error::SampleLengths { .. }));
        assert!(matches!(error(99), Error::LayerNotLoaded { asked: 99, .. }));
    }
}

#[test]
fn targets_are_text_tokens_that_follow_text_tokens() {
    let plan = plan(3);
    let runner = SpliceRunner::open(&plan).unwrap();
    let replace = |_: &[&Token], _: &[&[f32]]| Ok(Vec::new());
    let mut count = 0;
    runner
        .run(&replace, &mut |predicted, _| {
            let Some(predicted) = predicted else { return };
            count += 1;
            let tokens = &predicted.sample.tokens;
            for (position, token) in tokens.iter().enumerate() {
                // In this data set the only texts are the answers.
                let is_target = token.role == Role::Assistant && !token.special;
                assert_eq!(predicted.targets.contains(&position), is_target, "{position} {token:?}");
            }
            assert!(predicted.targets.iter().all(|p| tokens[p - 1].modality == Modality::Text));
        })
        .unwrap();
    assert_eq!(count, 3);
}

#[test]
fn a_model_does_not_diverge_from_itself_and_states_of_another_make_it_diverge() {
    let plan = plan(6);
    let pair = ModelPair::open(&repository().join("assets/demo-mllm"), &plan).unwrap();
    let mut samples = 0;
    let skipped = pair.diverge(&|| Ok(()), &mut |predicted, _| {
        let Some(predicted) = predicted else { return };
        samples += 1;
        let [first, second] = predicted.predictions[..] else { panic!("two models") };
        for (first, second) in first.iter().zip(second) {
            assert!(first.nll == second.nll && first.kl == 0.0 && second.kl.abs() < 1e-6, "{first:?} {second:?}");
        }
    });
    assert_eq!((samples, skipped.unwrap().rows()), (6, 0));
    // The states of the first model are its own; moved ones are others.
    let replace = |tokens: &[&Token], [first, second]: [&[f32]; 2]| {
        assert!(first == second && first.len() == tokens.len() * 256);
        Ok(vec![first.to_vec(), first.iter().map(|v| 1.5 * v + 1.0).collect()])
    };
    let (mut same, mut moved) = (0f32, 0f32);
    pair.splice(&replace, &mut |predicted, _| {
        let Some(predicted) = predicted else { return };
        same += predicted.predictions[1].iter().map(|p| p.kl.abs()).sum::<f32>();
        moved += predicted.predictions[2].iter().map(|p| p.kl).sum::<f32>();
    })
    .unwrap();
    assert!(same < 1e-3 && moved > 1.0, "{same} {moved}");
    let stopped = || Err(Error::InvalidInput("stop".into()));
    assert!(matches!(pair.diverge(&stopped, &mut |_, _| ()), Err(Error::InvalidInput(_))));
    let other = repository().join("tests/golden/llava-a");
    assert!(matches!(ModelPair::open(&other, &plan), Err(Error::ModelsDiffer { .. })));
}

#[test]
fn bytes_of_tokens_add_up_to_the_text() {
    for name in ["text-mistral", "text-qwen2", "text-gemma3"] {
        let checkpoint = Checkpoint::open(&repository().join("tests/golden").join(name)).unwrap();
        for text in ["A square.", "na\u{ef}ve caf\u{e9}s, \u{1f980} and \u{65e5}\u{672c}\n two  spaces"] {
            let record = Record {
                turns: vec![Turn { role: Role::User, parts: vec![TurnPart::Text(text.into())] }],
                pair: None,
                unanswered: false,
                about_answers: Default::default(),
                unattributed: false,
                tree: Default::default(),
                verbatim: Some(text.into()),
                action: None,
                images: Vec::new(),
                video: None,
                meta: serde_json::Value::Null,
            };
            let row =
                Row { number: 0, source: String::new(), key: String::new(), has_own_key: false, record: Ok(record) };
            let prepared = checkpoint.prepare(row, Answers::All, Templating::None).unwrap();
            let content: Vec<usize> = (0..prepared.tokens.len()).filter(|n| !prepared.tokens[*n].special).collect();
            assert_eq!(prepared.text_bytes(&content), text.len(), "{name} {text:?}: {:?}", prepared.tokens);
        }
    }
}
