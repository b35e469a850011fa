//! Families that are known and not supported, and settings that change what a model computes and that no family here supports. They
//! are rejected by name; settings unless they have the value that changes nothing. (Settings that a family does support are read in
//! `text.rs`, `text/` and `vision/`. Settings that do not affect the computation, such as those of training and generation, are
//! ignored, as in `transformers`.)

use crate::fields::{Fields, short};
use serde_json::Value;

/// The value with which a setting changes nothing. Null and `{}` never change anything.
enum Neutral {
    /// The setting has to be absent.
    Absent,
    False,
    True,
    One,
}

const SETTINGS: [(&str, Neutral); 16] = [
    ("quantization_config", Neutral::Absent),
    ("compression_config", Neutral::Absent),
    ("per_layer_config", Neutral::Absent),
    ("pruned_heads", Neutral::Absent),
    ("clip_qkv", Neutral::Absent),
    ("attention_chunk_size", Neutral::Absent),
    ("no_rope_layers", Neutral::Absent),
    ("is_causal", Neutral::True),
    ("use_bidirectional_attention", Neutral::False),
    ("is_encoder_decoder", Neutral::False),
    ("add_cross_attention", Neutral::False),
    ("embedding_multiplier", Neutral::One),
    ("residual_multiplier", Neutral::One),
    ("attention_multiplier", Neutral::One),
    ("logits_scaling", Neutral::One),
    ("logit_scale", Neutral::One),
];

/// Families by their `model_type`: their name, and what this program lacks for them.
const FAMILIES: [(&str, &str, &str); 10] = [
    ("mllama", "Llama 3.2 Vision", CROSS_ATTENTION),
    ("mllama_text_model", "Llama 3.2 Vision", CROSS_ATTENTION),
    ("qwen3_5", "Qwen3.5", LINEAR_ATTENTION),
    ("qwen3_5_text", "Qwen3.5", LINEAR_ATTENTION),
    ("qwen3_5_moe", "Qwen3.5", LINEAR_ATTENTION),
    ("qwen3_5_moe_text", "Qwen3.5", LINEAR_ATTENTION),
    ("qwen3_next", "Qwen3-Next", LINEAR_ATTENTION),
    ("qwen2_audio", "Qwen2-Audio", "an encoder of audio"),
    ("gemma3n", "Gemma 3n", SEVERAL_STREAMS),
    ("gemma3n_text", "Gemma 3n", SEVERAL_STREAMS),
];
const CROSS_ATTENTION: &str = "blocks that attend to images outside of the sequence of tokens (cross-attention)";
const LINEAR_ATTENTION: &str =
    "blocks with linear attention (the gated delta rule), whose state takes the place of keys and values";
const SEVERAL_STREAMS: &str =
    "several residual streams (AltUp), embeddings for each block, and a convolutional vision tower";

/// Why a family is not supported, if it is a known one, as an addition to its `model_type` in an error message.
pub(super) fn reason(kind: &str) -> String {
    let known = FAMILIES.iter().find(|(other, ..)| *other == kind);
    known.map_or(String::new(), |(_, name, missing)| format!(" ({name}), which needs {missing}"))
}

/// Rejects the unsupported settings in one level of `config.json`, except those that are read elsewhere in this family.
pub(super) fn check(fields: Fields, read_elsewhere: &[&str]) -> Result<(), String> {
    for (name, neutral) in SETTINGS.iter().filter(|(name, _)| !read_elsewhere.contains(name)) {
        let value = &fields.0[*name];
        let changes_nothing = match value {
            Value::Null => true,
            Value::Object(object) => object.is_empty(),
            Value::Array(list) => list.is_empty(),
            Value::Bool(value) => matches!((neutral, value), (Neutral::False, false) | (Neutral::True, true)),
            value => matches!(neutral, Neutral::One) && value.as_f64() == Some(1.0),
        };
        if !changes_nothing {
            let value = value["quant_method"].as_str().map_or_else(|| short(value), str::to_owned);
            let advice =
                if name.starts_with("quant") { ": use the checkpoint from which it was quantized" } else { "" };
            return Err(format!("{name} ({value}) is not supported{advice}"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn unsupported_settings_are_rejected_by_name_unless_they_change_nothing() {
        let check = |config: Value| super::check(Fields(&config), &[]);
        assert_eq!(
            check(json!({"quantization_config": null, "pruned_heads": {}, "is_causal": true, "logit_scale": 1})),
            Ok(())
        );
        let error = check(json!({"quantization_config": {"quant_method": "gptq", "bits": 4}})).unwrap_err();
        assert!(error.contains("quantization_config (gptq) is not supported"), "{error}");
        for (name, value) in [
            ("is_causal", json!(false)),
            ("use_bidirectional_attention", json!(true)),
            ("per_layer_config", json!({"0": {"num_attention_heads": 2}})),
            ("residual_multiplier", json!(0.22)),
        ] {
            assert!(check(json!({name: value})).unwrap_err().starts_with(name), "{name}");
        }
    }
}
