//! The logit lens against the product written out, on the tensors of golden checkpoints: a head of its own, a head that is
//! the embedding with a norm that adds 1 to its weights, and a head without words of images.

use crate::golden::repository;
use burn::tensor::Device;
use harvest::model::Compute;
use harvest::{Checkpoint, ComputeDtype, LogitLens};
use sae_core::analysis::index::WORDS;
use sae_core::tensors::Tensors;

fn open(name: &str) -> (LogitLens, Tensors, usize, usize, Vec<u32>) {
    let folder = repository().join("tests/golden").join(name);
    let checkpoint = Checkpoint::open(&folder).unwrap();
    let text = &checkpoint.config().text;
    let (d, vocabulary, unspoken) = (text.hidden_size, text.vocab_size, text.unspoken.clone());
    let lens = LogitLens::open(checkpoint, &Compute::on(&Device::flex(), ComputeDtype::F32.into())).unwrap();
    (lens, Tensors::open(&folder.join("model.safetensors")).unwrap(), d, vocabulary, unspoken)
}

/// `norm`, what is added to its weights, `head`: as the checkpoint names them.
fn agrees(name: &str, norm: &str, offset: f32, head: &str) {
    let (lens, tensors, d, vocabulary, unspoken) = open(name);
    let (gain, head) = (tensors.f32(norm, &[d]).unwrap(), tensors.f32(head, &[vocabulary, d]).unwrap());
    // Short ones and long ones: a norm's epsilon must not count.
    let direction = |row: usize| {
        (0..d).map(move |n| ((row * 31 + n * 17) % 23) as f32 - 11.0).map(move |v| v * 10f32.powi(row as i32 - 4))
    };
    let directions: Vec<f32> = (0..6).flat_map(direction).chain(vec![0.0; d]).collect();
    let found = lens.words(&directions, d, &mut |_| ()).unwrap();
    assert_eq!(found.len(), 7);
    for (direction, words) in directions.chunks(d).zip(&found) {
        let logit = |id: usize| {
            let row = head[id * d..(id + 1) * d].iter().zip(direction.iter().zip(&gain));
            row.map(|(w, (v, gain))| f64::from(*w) * f64::from(*v) * f64::from(gain + offset)).sum::<f64>()
        };
        let mut logits: Vec<(f64, usize)> =
            (0..vocabulary).filter(|id| !unspoken.contains(&(*id as u32))).map(|id| (logit(id), id)).collect();
        let scale = logits.iter().map(|(logit, _)| logit.abs()).fold(0.0, f64::max);
        assert_eq!(words.len(), 2 * WORDS);
        for promoted in [true, false] {
            logits.sort_by(|a, b| if promoted { b.0.total_cmp(&a.0) } else { a.0.total_cmp(&b.0) });
            let found = words.iter().filter(|word| word.promoted == promoted);
            for (word, (expected, _)) in found.zip(&logits) {
                assert!((f64::from(word.logit) - expected).abs() <= 1e-5 * scale, "{name}: {word:?} is {expected}");
                assert!((logit(word.token_id as usize) - expected).abs() <= 2e-5 * scale);
                assert!(!unspoken.contains(&word.token_id) && !word.piece.is_empty(), "{word:?}");
            }
        }
    }
}

#[test]
fn the_lens_is_the_head_without_the_norms_division() {
    agrees("text-llama", "model.norm.weight", 0.0, "model.embed_tokens.weight");
    agrees("text-gemma3", "model.norm.weight", 1.0, "model.embed_tokens.weight");
    agrees("chameleon-a", "model.norm.weight", 0.0, "lm_head.weight");
}

#[test]
fn directions_of_another_width_are_refused() {
    let (lens, _, d, ..) = open("text-llama");
    let refused = lens.words(&vec![1.0; d + 1], d + 1, &mut |_| ()).unwrap_err().to_string();
    assert!(refused.contains(&format!("width {}, but the residual stream has width {d}", d + 1)), "{refused}");
}

#[test]
fn words_keep_the_space_before_them() {
    let folder = repository().join("assets/demo-mllm");
    let checkpoint = Checkpoint::open(&folder).unwrap();
    let words: Vec<String> =
        (0..checkpoint.config().text.vocab_size as u32).map(|id| checkpoint.prompter().word(id)).collect();
    let spaced = words.iter().filter(|word| word.starts_with(' ') && words.contains(&word[1..].to_string())).count();
    assert!(spaced > 0, "{words:?}");
}
