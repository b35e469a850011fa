//! Names of hooks: those of other tools and ours. The residual stream after decoder block 16 is `layers.16` here,
//! `blocks.16.hook_resid_post` in TransformerLens and `model.layers.16.output` in Gemma Scope.

use crate::store;

/// Our name of another tool's hook if it is the residual stream after a block, otherwise the name as it is; and the number of the
/// block, 0 if the name has none.
pub fn of_tool(name: &str) -> (String, usize) {
    let parts: Vec<_> = name.split('.').collect();
    let layer = parts.iter().find_map(|part| part.parse::<usize>().ok()).unwrap_or(0);
    let after = match parts[..] {
        ["blocks", _, "hook_resid_post"] => Some(layer),
        // The input of a block is the output of the block before it.
        ["blocks", _, "hook_resid_pre"] => layer.checked_sub(1),
        [.., "layers", _] | [.., "layers", _, "output"] => Some(layer),
        _ => None,
    };
    match after {
        Some(layer) => (store::hook(layer), layer),
        None => (name.into(), layer),
    }
}

/// The name that TransformerLens and SAELens give to a hook.
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
    fn hooks_after_a_block_get_our_names_and_others_keep_theirs() {
        for (name, expected) in [
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
            assert_eq!(of_tool(name), (expected.0.to_string(), expected.1), "{name}");
        }
        assert_eq!(to_sae_lens("layers.16"), "blocks.16.hook_resid_post");
        assert_eq!(of_tool(&to_sae_lens("layers.3")).0, "layers.3");
    }
}
