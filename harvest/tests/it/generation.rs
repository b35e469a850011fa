//! Texts that models write: greedily the same tokens as `transformers` in every family, and the same bits alone or in a batch.

use crate::golden::{Golden, repository};
use crate::parity::inputs;
use harvest::ComputeDtype;
use harvest::generation::{Draft, Generator, Sampling, nll};
use harvest::model::Input;
use sae_core::device::DeviceChoice;
use serde_json::Value;
use std::path::Path;

fn generator(folder: &Path) -> Generator {
    Generator::open(folder, None, DeviceChoice::Cpu, ComputeDtype::F32).unwrap()
}

/// What transformers generated on a golden checkpoint, if the folder says.
fn generated(folder: &Path) -> Option<Value> {
    let text = std::fs::read(folder.join("generated.json")).ok()?;
    Some(serde_json::from_slice(&text).unwrap())
}

fn numbers(list: &Value) -> Vec<u32> {
    list.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
}

#[test]
fn greedy_tokens_are_those_of_transformers_in_every_family() {
    let folders = std::fs::read_dir(repository().join("tests/golden")).unwrap().map(|entry| entry.unwrap().path());
    let (mut compared, mut families) = (0, 0);
    for (folder, expected) in folders.filter_map(|folder| generated(&folder).map(|expected| (folder, expected))) {
        let golden = Golden::at(&folder);
        let generator = generator(&golden.folder);
        let suppressed = numbers(&expected["suppressed"]);
        let inputs = inputs(&golden, generator.checkpoint());
        let expected: Vec<(usize, Vec<u32>, f64)> = expected["samples"]
            .as_array()
            .unwrap()
            .iter()
            .map(|sample| {
                let n = golden.samples.iter().position(|other| other.name == sample["name"]).unwrap();
                (n, numbers(&sample["ids"]), sample["margin"].as_f64().unwrap())
            })
            .collect();
        let mut drafts: Vec<Draft> = expected.iter().map(|(n, ..)| Draft::new(inputs[*n].clone())).collect();
        // All samples of the folder in one batch, which a sample leaves when it is long enough.
        loop {
            let under_way =
                drafts.iter_mut().zip(&expected).filter(|(draft, (_, ids, _))| draft.answer().len() < ids.len());
            let mut under_way: Vec<&mut Draft> = under_way.map(|(draft, _)| draft).collect();
            if under_way.is_empty() {
                break;
            }
            let last = vec![1; under_way.len()];
            let readings = generator.read(&mut under_way, &last, &mut |_, _, _| Ok(())).unwrap();
            for (draft, mut logits) in under_way.into_iter().zip(readings.into_iter().map(|reading| reading.next)) {
                suppressed.iter().for_each(|id| logits[*id as usize] = f32::NEG_INFINITY);
                let next = Sampling::GREEDY.choose(&logits, draft.ids(), 0.0).unwrap();
                draft.push(next);
            }
        }
        families += 1;
        for (draft, (n, ids, margin)) in drafts.iter().zip(&expected) {
            // Two tokens that are equally likely but for rounding.
            if *margin < 1e-4 {
                continue;
            }
            let differs = draft.answer().iter().zip(ids).position(|(a, b)| a != b);
            assert_eq!(differs, None, "{} sample {n}, margin {margin}", folder.display());
            compared += ids.len();
        }
    }
    assert!(families >= 19 && compared > 15_000, "{families} families, {compared} tokens");
}

#[test]
fn drafts_in_a_batch_have_the_bits_of_drafts_alone() {
    let golden = Golden::open("llava-a");
    let generator = generator(&golden.folder);
    let inputs = inputs(&golden, generator.checkpoint());
    let sampling = Sampling { temperature: 0.8, ..Sampling::GREEDY };
    // The bits of the logits, and of how well they predict the token that is chosen.
    let choose = |draft: &mut Draft, logits: &[f32], token: usize| {
        // Tokens that stand for images are not written.
        let mut allowed = logits.to_vec();
        let vision = generator.checkpoint().config().vision.as_ref().unwrap();
        allowed[vision.image_token_id as usize] = f32::NEG_INFINITY;
        let random = (token as f64 * 0.618_033_988_7).fract();
        let id = sampling.choose(&allowed, draft.ids(), random).unwrap();
        draft.push(id);
        (logits.iter().map(|logit| logit.to_bits()).collect::<Vec<u32>>(), nll(logits, id))
    };
    let mut alone = Vec::new();
    for input in &inputs {
        let mut draft = Draft::new(input.clone());
        for token in 0..12 {
            let reading = generator.read(&mut [&mut draft], &[1], &mut |_, _, _| Ok(())).unwrap().remove(0);
            assert!(reading.nll.is_empty());
            alone.push(choose(&mut draft, &reading.next, token));
        }
        // What was taken back is read again, all positions at once.
        let start = draft.prompt();
        draft.forget(start - 1);
        let rows = draft.answer().len() + 1;
        let reading = generator.read(&mut [&mut draft], &[rows], &mut |_, _, _| Ok(())).unwrap().remove(0);
        let expected: Vec<f64> = alone[alone.len() - 12..].iter().map(|(_, nll)| *nll).collect();
        assert_eq!(reading.nll, expected);
        let last = generator.read(
            &mut [&mut Draft::new(Input { ids: draft.ids().to_vec(), ..input.clone() })],
            &[1],
            &mut |_, _, _| Ok(()),
        );
        assert!(reading.next == last.unwrap().remove(0).next);
    }
    let mut drafts: Vec<Draft> = inputs.iter().map(|input| Draft::new(input.clone())).collect();
    let mut together = vec![Vec::new(); drafts.len()];
    for token in 0..12 {
        let mut all: Vec<&mut Draft> = drafts.iter_mut().collect();
        let last = vec![1; all.len()];
        let readings = generator.read(&mut all, &last, &mut |_, _, _| Ok(())).unwrap();
        for (n, reading) in readings.iter().enumerate() {
            together[n].push(choose(&mut drafts[n], &reading.next, token));
        }
    }
    assert!(together.concat() == alone);
}

#[test]
fn a_text_longer_than_the_context_is_an_error() {
    let golden = Golden::open("text-llama");
    let generator = generator(&golden.folder);
    let mut draft = Draft::new(inputs(&golden, generator.checkpoint()).remove(0));
    while draft.ids().len() <= generator.context() {
        draft.push(9);
    }
    let error = generator.read(&mut [&mut draft], &[1], &mut |_, _, _| Ok(())).unwrap_err();
    assert!(error.to_string().contains("context"), "{error}");
}
