//! Hooks: the places of a model whose activations are captured, by this workbench's names and by those of other tools. The
//! residual stream after decoder block 16 is `layers.16` here, `blocks.16.hook_resid_post` in TransformerLens and
//! `model.layers.16.output` in Gemma Scope. Does not know how a model computes them.

use crate::nearest::nearest;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// Where in a model activations are captured, in the order in which they are computed. All but those of the vision tower are as wide
/// as the residual stream.
///
/// Most families normalize what attention and the MLP read; some (Gemma 3, Olmo 2, Chameleon with swin norms) normalize what
/// they return. What is captured is what the module reads, and what the block adds: behind the first kind of norm and behind the
/// second.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Site {
    /// The output of a block of the vision tower, at the patches that the decoder sees.
    Vision,
    /// The output of the projector: the vectors that enter the decoder at the positions of images.
    Projector,
    /// What attention reads: the block's input behind its norm.
    AttnIn,
    /// What attention adds to the residual stream: its output behind the norm that follows it, if there is one.
    AttnOut,
    /// What the MLP reads: the residual stream between attention and MLP, behind its norm.
    MlpIn,
    /// What the MLP adds to the residual stream: its output behind the norm that follows it, if there is one.
    MlpOut,
    /// The output of the block: the residual stream after both.
    Output,
}

impl Site {
    /// All sites of a decoder block.
    pub const DECODER: [Self; 5] = [Self::AttnIn, Self::AttnOut, Self::MlpIn, Self::MlpOut, Self::Output];

    /// What the name of a hook has behind the number of the block; nothing for the output of a block.
    const fn suffix(self) -> &'static str {
        match self {
            Self::AttnIn => ".attn_in",
            Self::AttnOut => ".attn_out",
            Self::MlpIn => ".mlp_in",
            Self::MlpOut => ".mlp_out",
            Self::Output | Self::Vision | Self::Projector => "",
        }
    }

    /// Whether activations here are vectors of the residual stream or are added to it, so that the output head gives the tokens
    /// that a direction promotes. What a module reads is normalized, and is not.
    pub fn is_in_stream(self) -> bool {
        matches!(self, Self::Projector | Self::AttnOut | Self::MlpOut | Self::Output)
    }

    /// Whether there are activations of images alone, because they do not come from the decoder.
    pub fn is_before_decoder(self) -> bool {
        matches!(self, Self::Vision | Self::Projector)
    }
}

/// A place of a model: which block of the decoder or of the vision tower, counted from 0, and where in it.
///
/// ```
/// use sae_core::store::{Hook, Site};
///
/// let hook: Hook = "layers.4.mlp_out".parse()?;
/// assert_eq!((hook, hook.layer()), (Hook::new(4, Site::MlpOut), 4));
/// assert_eq!(Hook::block(16).to_string(), "layers.16");
///
/// let error = "layers.4.mlp".parse::<Hook>().unwrap_err();
/// assert_eq!(error.nearest, ["layers.4.mlp_in", "layers.4.mlp_out"]);
/// # Ok::<(), sae_core::store::InvalidHook>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Hook {
    layer: usize,
    site: Site,
}

impl Hook {
    /// A place in block `layer`, of which the projector has none.
    pub const fn new(layer: usize, site: Site) -> Self {
        let layer = if matches!(site, Site::Projector) { 0 } else { layer };
        Self { layer, site }
    }

    /// The output of the projector.
    pub const PROJECTOR: Self = Self::new(0, Site::Projector);

    /// The output of block `layer` of the decoder.
    pub const fn block(layer: usize) -> Self {
        Self::new(layer, Site::Output)
    }

    /// The block, counted from 0; 0 for the projector.
    pub const fn layer(self) -> usize {
        self.layer
    }

    /// Where in the block.
    pub const fn site(self) -> Site {
        self.site
    }

    /// The place in words: `after block 16`.
    pub fn in_words(self) -> String {
        let layer = self.layer;
        match self.site {
            Site::Vision => format!("after block {layer} of the vision tower"),
            Site::Projector => "after the projector".into(),
            Site::AttnIn => format!("at the input of attention in block {layer}"),
            Site::AttnOut => format!("at the output of attention in block {layer}"),
            Site::MlpIn => format!("at the input of the MLP in block {layer}"),
            Site::MlpOut => format!("at the output of the MLP in block {layer}"),
            Site::Output => format!("after block {layer}"),
        }
    }
}

impl fmt::Display for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.site {
            Site::Vision => write!(f, "vision.{}", self.layer),
            Site::Projector => f.write_str("projector"),
            site => write!(f, "layers.{}{}", self.layer, site.suffix()),
        }
    }
}

impl From<Hook> for String {
    fn from(hook: Hook) -> Self {
        hook.to_string()
    }
}

/// A name that is not one of a hook.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid hook {asked:?}: expected {}{}", expected(), nearest_in_words(.nearest))]
pub struct InvalidHook {
    /// What was asked for.
    pub asked: String,
    /// Hooks with similar names, or the hook that another tool calls so.
    pub nearest: Vec<String>,
}

/// The names of all hooks.
fn expected() -> String {
    let names = Site::DECODER.iter().rev().map(|site| format!("layers.L{}, ", site.suffix())).collect::<String>();
    format!("{names}projector or vision.L, where L is the number of a block, counted from 0")
}

fn nearest_in_words(names: &[String]) -> String {
    if names.is_empty() { String::new() } else { format!("; the nearest are {}", names.join(", ")) }
}

impl FromStr for Hook {
    type Err = InvalidHook;

    fn from_str(name: &str) -> Result<Self, InvalidHook> {
        if name == Self::PROJECTOR.to_string() {
            return Ok(Self::PROJECTOR);
        }
        // Only digits, without zeros before them: a hook has one name.
        let layer = |number: &str| number.parse().ok().filter(|layer: &usize| layer.to_string() == number);
        if let Some(layer) = name.strip_prefix("vision.").and_then(layer) {
            return Ok(Self::new(layer, Site::Vision));
        }
        let parsed = name.strip_prefix("layers.").and_then(|rest| {
            let number = rest.split('.').next().unwrap_or_default();
            let layer = layer(number)?;
            let site = Site::DECODER.into_iter().find(|site| site.suffix() == &rest[number.len()..])?;
            Some(Self { layer, site })
        });
        parsed.ok_or_else(|| InvalidHook { asked: name.into(), nearest: similar(name) })
    }
}

impl TryFrom<String> for Hook {
    type Error = InvalidHook;

    fn try_from(name: String) -> Result<Self, InvalidHook> {
        name.parse()
    }
}

/// The hooks that a wrong name may mean.
fn similar(name: &str) -> Vec<String> {
    if let Some(hook) = known(name).filter(|_| !name.starts_with("layers.")) {
        return vec![hook.to_string()];
    }
    let number = name.split(|c: char| !c.is_ascii_digit()).find_map(|digits| digits.parse().ok());
    let layer: usize = number.unwrap_or_default();
    let site = name.rsplit(|c: char| c.is_ascii_digit()).next().unwrap_or_default().trim_matches(['.', '_', ' ', '/']);
    if site.is_empty() {
        return number.map(|layer: usize| Hook::block(layer).to_string()).into_iter().collect();
    }
    let sites = Site::DECODER.iter().map(|site| site.suffix().trim_start_matches('.')).filter(|site| !site.is_empty());
    nearest(site, sites).into_iter().map(|site| format!("layers.{layer}.{site}")).collect()
}

/// How `run.json` and the arguments of a harvest list hooks: as the number of a block for its output, and by name otherwise.
pub mod listed {
    use super::{Hook, Site};
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Serialize, Deserialize)]
    #[serde(untagged)]
    enum Listed {
        Block(usize),
        Named(Hook),
    }

    /// Writes hooks.
    ///
    /// # Errors
    /// Those of the serializer.
    pub fn serialize<S: Serializer>(hooks: &[Hook], serializer: S) -> Result<S::Ok, S::Error> {
        let listed = |hook: &Hook| match hook.site {
            Site::Output => Listed::Block(hook.layer),
            _ => Listed::Named(*hook),
        };
        serializer.collect_seq(hooks.iter().map(listed))
    }

    /// Reads hooks.
    ///
    /// # Errors
    /// Those of the deserializer; an entry that is neither a number nor the name of a hook.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Hook>, D::Error> {
        let listed = Vec::<Listed>::deserialize(deserializer)?;
        Ok(listed
            .into_iter()
            .map(|hook| match hook {
                Listed::Block(layer) => Hook::block(layer),
                Listed::Named(hook) => hook,
            })
            .collect())
    }

    /// The list as JSON.
    pub fn json(hooks: &[Hook]) -> serde_json::Value {
        serialize(hooks, serde_json::value::Serializer).unwrap_or_default()
    }
}

/// Hooks in words: `layers.4, layers.8.mlp_in`.
pub fn in_words(hooks: &[Hook]) -> String {
    hooks.iter().map(Hook::to_string).collect::<Vec<_>>().join(", ")
}

/// The hook that a name of this workbench or of another tool stands for, if it is one that is captured.
///
/// Names of TransformerLens are those of its `TransformerBridge`, where `hook_mlp_in` is what the MLP reads; Gemma Scope 2, which
/// SAELens lists by this name, was trained on that too. `ln2.hook_normalized` is not taken, because TransformerLens takes it
/// before the gain of the norm. Names of modules are those of `transformers`; `mlp` and `self_attn`, whose outputs Gemma normalizes
/// before it adds them, are taken as they are in models without such norms. `post_attention_layernorm` is not taken, because it is
/// behind attention in Gemma and before the MLP in Llama.
pub fn known(name: &str) -> Option<Hook> {
    let parts: Vec<_> = name.split('.').collect();
    let number = |part: &str| part.parse::<usize>().ok();
    if parts.iter().any(|part| part.starts_with("vision") || *part == "visual") {
        return match parts[..] {
            ["vision", layer] | [.., "layers" | "blocks", layer] => Some(Hook::new(number(layer)?, Site::Vision)),
            _ => None,
        };
    }
    match parts[..] {
        ["projector"] | [.., "multi_modal_projector"] => Some(Hook::PROJECTOR),
        ["blocks", layer, ref rest @ ..] => {
            let layer = number(layer)?;
            let site = match *rest {
                ["hook_resid_post"] => Site::Output,
                // The input of a block is the output of the block before it.
                ["hook_resid_pre"] => return layer.checked_sub(1).map(Hook::block),
                ["attn", "hook_in"] | ["hook_attn_in"] => Site::AttnIn,
                ["hook_attn_out"] => Site::AttnOut,
                ["mlp", "hook_in"] | ["hook_mlp_in"] => Site::MlpIn,
                ["hook_mlp_out"] => Site::MlpOut,
                _ => return None,
            };
            Some(Hook::new(layer, site))
        }
        _ => {
            let at = parts.iter().position(|part| *part == "layers")?;
            let layer = number(parts.get(at + 1)?)?;
            let site = match parts[at + 2..] {
                [] | ["output"] => Site::Output,
                ["attn_in"] | ["self_attn", "input"] | ["input_layernorm", "output"] => Site::AttnIn,
                ["attn_out"] | ["self_attn"] | ["self_attn", "output"] => Site::AttnOut,
                ["mlp_in"] | ["mlp", "input"] | ["pre_feedforward_layernorm", "output"] => Site::MlpIn,
                ["mlp_out"] | ["mlp"] | ["mlp", "output"] | ["post_feedforward_layernorm", "output"] => Site::MlpOut,
                _ => return None,
            };
            Some(Hook::new(layer, site))
        }
    }
}

/// Our name of another tool's hook if it is one that is captured ([`known`]), otherwise the name as it is; and the number of the
/// block, 0 if the name has none.
pub fn of_tool(name: &str) -> (String, usize) {
    match known(name) {
        Some(hook) => (hook.to_string(), hook.layer()),
        None => (name.into(), name.split('.').find_map(|part| part.parse().ok()).unwrap_or(0)),
    }
}

/// The name that TransformerLens and SAELens give to a hook. What a module reads is named as in `TransformerBridge`, by a name
/// that the older `HookedTransformer` does not have: its `hook_mlp_in` is before the norm.
pub fn to_sae_lens(hook: &str) -> String {
    let Ok(hook) = hook.parse::<Hook>() else { return hook.into() };
    let site = match hook.site {
        Site::AttnIn => "attn.hook_in",
        Site::AttnOut => "hook_attn_out",
        Site::MlpIn => "mlp.hook_in",
        Site::MlpOut => "hook_mlp_out",
        Site::Output => "hook_resid_post",
        Site::Vision | Site::Projector => return hook.to_string(),
    };
    format!("blocks.{}.{site}", hook.layer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hooks_have_one_name_each_and_are_ordered_as_they_are_computed() {
        let mut hooks: Vec<Hook> = (0..12).flat_map(|layer| Site::DECODER.map(|site| Hook::new(layer, site))).collect();
        hooks.insert(0, Hook::PROJECTOR);
        hooks.insert(0, Hook::new(0, Site::Vision));
        for hook in &hooks {
            assert_eq!(hook.to_string().parse(), Ok(*hook));
            assert_eq!(known(&to_sae_lens(&hook.to_string())), Some(*hook), "{hook}");
            assert_eq!(known(&hook.to_string()), Some(*hook), "{hook}");
        }
        let in_order = hooks.clone();
        hooks.reverse();
        hooks.sort();
        assert_eq!(hooks, in_order);
        for wrong in
            ["layers.", "layers.-1", "layers.04", "layers.4.", "layers.4.mlp", "layers.4.mlp_in.x", "Layers.4", "4", ""]
        {
            assert!(wrong.parse::<Hook>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_wrong_name_is_answered_with_the_names_there_are_and_the_nearest() {
        let error = "layers.12.mlp".parse::<Hook>().unwrap_err();
        assert_eq!(
            error.to_string(),
            "invalid hook \"layers.12.mlp\": expected layers.L, layers.L.mlp_out, layers.L.mlp_in, layers.L.attn_out, \
             layers.L.attn_in, projector or vision.L, where L is the number of a block, counted from 0; the nearest are layers.12.mlp_in, layers.12.mlp_out"
        );
        for (asked, nearest) in [
            ("layer.4.mlp_out", &["layers.4.mlp_out"][..]),
            ("layer 4", &["layers.4"]),
            ("mlp_on", &["layers.0.mlp_in"]),
            ("blocks.7.hook_attn_out", &["layers.7.attn_out"]),
            ("model.layers.3.mlp.input", &["layers.3.mlp_in"]),
            ("embeddings", &[]),
        ] {
            let found = asked.parse::<Hook>().unwrap_err().nearest;
            assert!(
                nearest.is_empty() == found.is_empty() && nearest.iter().all(|name| found.contains(&(*name).into())),
                "{asked}: {found:?}"
            );
        }
    }

    #[test]
    fn lists_of_block_outputs_are_numbers_as_they_always_were() {
        #[derive(Serialize, Deserialize, PartialEq, Debug)]
        struct Record {
            #[serde(rename = "layers", with = "listed")]
            hooks: Vec<Hook>,
        }
        for (hooks, json) in [
            (vec![Hook::block(4), Hook::block(8)], r#"{"layers":[4,8]}"#),
            (vec![Hook::new(4, Site::MlpIn), Hook::block(4)], r#"{"layers":["layers.4.mlp_in",4]}"#),
        ] {
            let record = Record { hooks };
            assert_eq!(serde_json::to_string(&record).unwrap(), json);
            assert_eq!(serde_json::from_str::<Record>(json).unwrap(), record);
            assert_eq!(listed::json(&record.hooks), serde_json::from_str::<serde_json::Value>(json).unwrap()["layers"]);
        }
        assert!(serde_json::from_str::<Record>(r#"{"layers":["blocks.4"]}"#).is_err());
    }

    #[test]
    fn hooks_of_other_tools_get_our_names_where_they_are_captured_and_others_keep_theirs() {
        for (name, expected) in [
            ("blocks.16.hook_resid_post", ("layers.16", 16)),
            ("blocks.16.hook_resid_pre", ("layers.15", 15)),
            ("blocks.0.hook_resid_pre", ("blocks.0.hook_resid_pre", 0)),
            ("blocks.3.hook_mlp_out", ("layers.3.mlp_out", 3)),
            ("blocks.3.hook_attn_out", ("layers.3.attn_out", 3)),
            ("blocks.3.hook_mlp_in", ("layers.3.mlp_in", 3)),
            ("blocks.3.mlp.hook_in", ("layers.3.mlp_in", 3)),
            // Before the gain of the norm, and the heads side by side.
            ("blocks.3.ln2.hook_normalized", ("blocks.3.ln2.hook_normalized", 3)),
            ("blocks.3.attn.hook_z", ("blocks.3.attn.hook_z", 3)),
            ("model.layers.9.output", ("layers.9", 9)),
            ("model.language_model.layers.9", ("layers.9", 9)),
            ("layers.9.mlp", ("layers.9.mlp_out", 9)),
            ("model.layers.9.self_attn", ("layers.9.attn_out", 9)),
            ("model.layers.9.mlp.input", ("layers.9.mlp_in", 9)),
            ("model.layers.9.pre_feedforward_layernorm.output", ("layers.9.mlp_in", 9)),
            ("model.layers.9.post_feedforward_layernorm.output", ("layers.9.mlp_out", 9)),
            // Behind attention in Gemma, before the MLP in Llama.
            ("model.layers.9.post_attention_layernorm.output", ("model.layers.9.post_attention_layernorm.output", 9)),
            ("model.layers.9.self_attn.o_proj.input", ("model.layers.9.self_attn.o_proj.input", 9)),
            ("", ("", 0)),
        ] {
            assert_eq!(of_tool(name), (expected.0.to_string(), expected.1), "{name}");
        }
        assert_eq!(to_sae_lens("layers.16"), "blocks.16.hook_resid_post");
        assert_eq!(to_sae_lens("layers.16.mlp_in"), "blocks.16.mlp.hook_in");
        assert_eq!(to_sae_lens("blocks.3.attn.hook_z"), "blocks.3.attn.hook_z");
    }
}
