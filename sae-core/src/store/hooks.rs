//! Names of places in a model: other tools' words and ours. The stream behind decoder block 16 is `layers.16` here,
//! `blocks.16.hook_resid_post` in TransformerLens and `model.layers.16.output` in Gemma Scope.

use crate::store;

/// A place in our words if it is the stream behind a block, else as it is called; and the block.
pub fn of_tool(name: &str) -> (String, usize) {
    let parts: Vec<_> = name.split('.').collect();
    let layer = parts.iter().find_map(|part| part.parse::<usize>().ok()).unwrap_or(0);
    let behind = match parts[..] {
        ["blocks", _, "hook_resid_post"] => Some(layer),
        // What enters a block has left the one before.
        ["blocks", _, "hook_resid_pre"] => layer.checked_sub(1),
        [.., "layers", _] | [.., "layers", _, "output"] => Some(layer),
        _ => None,
    };
    match behind {
        Some(layer) => (store::hook(layer), layer),
        None => (name.into(), layer),
    }
}

/// A place in the words of TransformerLens and SAELens.
pub fn to_sae_lens(hook: &str) -> String {
    match hook.strip_prefix("layers.") {
        Some(layer) => format!("blocks.{layer}.hook_resid_post"),
        None => hook.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_told_in_our_words_where_they_are_the_stream_behind_a_block() {
        for (name, own) in [
            ("blocks.16.hook_resid_post", ("layers.16", 16)),
            ("blocks.16.hook_resid_pre", ("layers.15", 15)),
            ("blocks.0.hook_resid_pre", ("blocks.0.hook_resid_pre", 0)),
            ("blocks.3.hook_mlp_out", ("blocks.3.hook_mlp_out", 3)),
            ("model.layers.9.output", ("layers.9", 9)),
            ("model.language_model.layers.9", ("layers.9", 9)),
            (
                "model.layers.9.post_feedforward_layernorm.output",
                ("model.layers.9.post_feedforward_layernorm.output", 9),
            ),
            ("", ("", 0)),
        ] {
            assert_eq!(of_tool(name), (own.0.to_string(), own.1), "{name}");
        }
        assert_eq!(to_sae_lens("layers.16"), "blocks.16.hook_resid_post");
        assert_eq!(of_tool(&to_sae_lens("layers.3")).0, "layers.3");
    }
}
