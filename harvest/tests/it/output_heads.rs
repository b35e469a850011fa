//! Output heads: tied to the embedding, written out, or absent.

use crate::checkpoints::{Copy, HOST};
use sae_core::tensors::Tensors;
use serde_json::{Value, json};

/// Copies of a checkpoint without `lm_head.weight`, and with it written out from the embedding.
fn headless(name: &str) -> (Copy, Copy) {
    let head = |tensor: &str| tensor.ends_with("lm_head.weight");
    let copy = Copy::of(name);
    copy.rewrite("model.safetensors", "model.safetensors", |tensor| (!head(tensor)).then(|| tensor.to_owned()));
    let written = Copy::of(name);
    let whole = Tensors::open(&copy.path("model.safetensors")).unwrap();
    let read: Vec<_> = whole
        .names()
        .into_iter()
        .filter(|tensor| !head(tensor))
        .flat_map(|tensor| {
            let shape = whole.shape(&tensor).unwrap().to_vec();
            let values = whole.f32(&tensor, &shape).unwrap();
            let head = tensor
                .ends_with("embed_tokens.weight")
                .then(|| ("lm_head.weight".to_owned(), shape.clone(), values.clone()));
            [Some((tensor, shape, values)), head].into_iter().flatten()
        })
        .collect();
    let tensors: Vec<_> = read.iter().map(|(name, shape, values)| (name.as_str(), &shape[..], &values[..])).collect();
    sae_core::tensors::write(&written.path("model.safetensors"), safetensors::Dtype::F32, &tensors).unwrap();
    written.edit(untie);
    (copy, written)
}

fn untie(config: &mut Value) {
    config["tie_word_embeddings"] = false.into();
    if config["text_config"].is_object() {
        config["text_config"]["tie_word_embeddings"] = false.into();
    }
}

#[test]
fn a_head_that_is_tied_at_either_level_is_the_embedding() {
    // (checkpoint, outer, inner, whether the two are tied)
    let cases = [
        ("llava-b", json!(false), json!(true), true),
        ("llava-b", json!(null), json!(true), true),
        ("llava-b", json!(true), json!(false), true),
        ("llava-b", json!(false), json!(false), false),
        ("qwen2_5_vl-b", json!(false), json!(true), true),
        ("qwen2_5_vl-b", json!(true), json!(null), true),
        ("llava-next-b", json!(false), json!(true), false),
        ("llava-next-b", json!(true), json!(false), true),
        ("qwen3_vl-b", json!(false), json!(true), false),
        ("qwen3_vl-b", json!(true), json!(null), true),
        ("gemma3-a", json!(null), json!(false), true),
        ("gemma3-a", json!(false), json!(true), false),
        ("chameleon-a", json!(true), json!(null), true),
        ("chameleon-a", json!(null), json!(null), false),
        ("text-qwen3", json!(true), json!(null), true),
        ("text-gemma3", json!(null), json!(null), true),
    ];
    for (name, outer, inner, tied) in cases {
        let (copy, written) = headless(name);
        copy.edit(|config| {
            config["tie_word_embeddings"] = outer.clone();
            if config["text_config"].is_object() {
                config["text_config"]["tie_word_embeddings"] = inner.clone();
            }
        });
        let what = format!("{name}: outer {outer}, inner {inner}");
        assert_eq!(copy.open().config().text.tied_head, tied, "{what}");
        if tied {
            assert_eq!(copy.likelihoods(), written.likelihoods(), "{what}");
        } else {
            // transformers would make up a head of random numbers.
            assert!(copy.error().contains("lm_head.weight is missing"), "{what}");
        }
        // Without the head nothing is missing.
        copy.open().load(Some(0), &HOST).unwrap();
    }
}

#[test]
fn a_head_that_is_written_out_counts_though_it_is_said_to_be_tied() {
    let copy = Copy::of("llava-a");
    let own = copy.likelihoods();
    copy.edit(|config| config["tie_word_embeddings"] = true.into());
    assert_eq!(copy.likelihoods(), own);
    // And one that stands alone is the embedding, too.
    let (_, written) = headless("text-qwen3");
    let expected = written.likelihoods();
    written.rewrite("model.safetensors", "model.safetensors", |name| {
        (!name.ends_with("embed_tokens.weight")).then(|| name.to_owned())
    });
    written.edit(|config| config["tie_word_embeddings"] = true.into());
    assert_eq!(written.likelihoods(), expected);
}
