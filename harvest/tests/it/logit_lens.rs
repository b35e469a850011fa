//! The logit lens against the explicit product, on the tensors of golden checkpoints: one with a separate head, one with a
//! tied head and a norm that adds 1 to its weights, and one that never predicts tokens of images.

use crate::golden::repository;
use burn::tensor::Device;
use harvest::model::Compute;
use harvest::{Checkpoint, ComputeDtype, Error, LogitLens};
use sae_core::tensors::Tensors;

/// Tokens per direction and side.
const COUNT: usize = 10;

fn open(name: &str) -> (LogitLens, Tensors, usize, usize, Vec<u32>) {
    let folder = repository().join("tests/golden").join(name);
    let checkpoint = Checkpoint::open(&folder).unwrap();
    let text = &checkpoint.config().text;
    let (d, vocabulary, never_predicted) = (text.hidden_size, text.vocab_size, text.never_predicted.clone());
    let lens = LogitLens::open(checkpoint, &Compute::on(&Device::flex(), ComputeDtype::F32.into())).unwrap();
    (lens, Tensors::open(&folder.join("model.safetensors")).unwrap(), d, vocabulary, never_predicted)
}

/// Compares the lens with the tensors `norm` and `head` of a checkpoint; `offset` is added to the weights of the norm.
fn check(name: &str, norm: &str, offset: f32, head: &str) {
    let (lens, tensors, d, vocabulary, never_predicted) = open(name);
    let (gain, head) = (tensors.f32(norm, &[d]).unwrap(), tensors.f32(head, &[vocabulary, d]).unwrap());
    // Short and long directions, because the epsilon of the norm must not matter.
    let direction = |row: usize| {
        (0..d).map(move |n| ((row * 31 + n * 17) % 23) as f32 - 11.0).map(move |v| v * 10f32.powi(row as i32 - 4))
    };
    let directions: Vec<f32> = (0..6).flat_map(direction).chain(vec![0.0; d]).collect();
    let found = lens.logits(&directions, d, COUNT, &mut |_| ()).unwrap();
    assert_eq!(found.len(), 7);
    for (direction, found) in directions.chunks(d).zip(&found) {
        let logit = |id: usize| {
            let row = head[id * d..(id + 1) * d].iter().zip(direction.iter().zip(&gain));
            row.map(|(w, (v, gain))| f64::from(*w) * f64::from(*v) * f64::from(gain + offset)).sum::<f64>()
        };
        let mut logits: Vec<(f64, usize)> =
            (0..vocabulary).filter(|id| !never_predicted.contains(&(*id as u32))).map(|id| (logit(id), id)).collect();
        let scale = logits.iter().map(|(logit, _)| logit.abs()).fold(0.0, f64::max);
        let tokens = &found.tokens;
        assert_eq!(tokens.len(), 2 * COUNT);
        assert_eq!(found.histogram.counts.iter().sum::<u32>() as usize, logits.len(), "every token is in a bin");
        assert_eq!(found.histogram.range, [tokens[COUNT].logit, tokens[0].logit]);
        for promoted in [true, false] {
            logits.sort_by(|a, b| if promoted { b.0.total_cmp(&a.0) } else { a.0.total_cmp(&b.0) });
            let found = tokens.iter().filter(|token| token.promoted == promoted);
            for (token, (expected, _)) in found.zip(&logits) {
                assert!(
                    (f64::from(token.logit) - expected).abs() <= 1e-5 * scale,
                    "{name}: {token:?}, expected {expected}"
                );
                assert!((logit(token.token_id as usize) - expected).abs() <= 2e-5 * scale);
                assert!(!never_predicted.contains(&token.token_id) && !token.text.is_empty(), "{token:?}");
            }
        }
    }
}

#[test]
fn the_lens_is_the_head_without_the_division_by_the_norm() {
    check("text-llama", "model.norm.weight", 0.0, "model.embed_tokens.weight");
    check("text-gemma2", "model.norm.weight", 1.0, "model.embed_tokens.weight");
    check("text-gemma3", "model.norm.weight", 1.0, "model.embed_tokens.weight");
    check("chameleon-a", "model.norm.weight", 0.0, "lm_head.weight");
}

#[test]
fn directions_of_another_width_are_rejected() {
    let (lens, _, d, ..) = open("text-llama");
    let error = lens.logits(&vec![1.0; d + 1], d + 1, COUNT, &mut |_| ()).unwrap_err();
    assert!(matches!(error, Error::Width { expected, found, .. } if (expected, found) == (d, d + 1)), "{error}");
}

#[test]
fn tokens_keep_the_space_before_them() {
    let folder = repository().join("assets/demo-mllm");
    let checkpoint = Checkpoint::open(&folder).unwrap();
    let texts: Vec<String> =
        (0..checkpoint.config().text.vocab_size as u32).map(|id| checkpoint.prompter().token_text(id)).collect();
    let spaced = texts.iter().filter(|text| text.starts_with(' ') && texts.contains(&text[1..].to_string())).count();
    assert!(spaced > 0, "{texts:?}");
}
