//! The image tokenizer of Chameleon.

use super::types::{ImageTokens, SIDE_LIMIT, Tiling, VisionConfig, VisionEncoder, VqTokenizerConfig};
use crate::fields::Fields;
use std::collections::BTreeMap;

pub(in super::super) fn chameleon(config: Fields) -> Result<VisionConfig, String> {
    let vq = config.under("vq_config");
    let multipliers: Vec<usize> = vq.or("channel_multiplier", vec![1, 1, 2, 2, 4])?;
    let resolution = vq.size("resolution", 512)?;
    let halvings = multipliers.len().saturating_sub(1);
    if multipliers.is_empty() || halvings > 12 || !resolution.is_multiple_of(1 << halvings) || resolution > SIDE_LIMIT {
        return Err(format!(
            "the image tokenizer has impossible sizes: {resolution} pixels with {} resolutions",
            multipliers.len()
        ));
    }
    if vq.or("in_channels", 3)? != 3 || vq.or("double_latent", false)? {
        return Err("image tokenizers with in_channels other than 3, or double_latent, are not supported".into());
    }
    let embeddings = vq.size("num_embeddings", 8_192)?;
    let map: BTreeMap<String, u32> = config.or("vocabulary_map", BTreeMap::new())?;
    let image_token_id = *map.get("<image>").ok_or("vocabulary_map has no <image>")?;
    let tokenizer = VqTokenizerConfig {
        base_channels: vq.size("base_channels", 128)?,
        multipliers,
        res_blocks: vq.size("num_res_blocks", 2)?,
        latent_channels: vq.size("latent_channels", 256)?,
        embed_dim: vq.size("embed_dim", 256)?,
        embeddings,
        resolution,
        attention: vq.or("attn_resolutions", Vec::new())?,
        attends: vq.or("attn_type", "vanilla".to_owned())? == "vanilla",
        tokens: code_tokens(&map, embeddings)?,
    };
    let tiling = Tiling::Square { side: resolution, grid: resolution >> halvings, class: false };
    Ok(VisionConfig {
        image_token_id,
        image_tokens: ImageTokens::Chameleon,
        tiling,
        kind: VisionEncoder::VqTokenizer(Box::new(tokenizer)),
        video: None,
    })
}

/// The token of each code. Its name is `IMGIMG`, followed by the digits of the code as letters from `A` on, followed by `Z`.
fn code_tokens(map: &BTreeMap<String, u32>, codes: usize) -> Result<Vec<u32>, String> {
    let mut tokens = vec![None; codes];
    for (name, id) in map.iter().filter(|(name, _)| name.starts_with("IMGIMG")) {
        let digits = name["IMGIMG".len()..].bytes().rev().skip(1).collect::<Vec<_>>().into_iter().rev();
        let number = digits.map(|letter| letter.wrapping_sub(b'A')).try_fold(0usize, |number, digit| {
            (digit < 10).then(|| number.saturating_mul(10).saturating_add(usize::from(digit)))
        });
        let token = number.and_then(|number| tokens.get_mut(number));
        *token.ok_or_else(|| format!("vocabulary_map has a token {name}, but there are {codes} image codes"))? =
            Some(*id);
    }
    let missing = tokens.iter().filter(|token| token.is_none()).count();
    tokens
        .into_iter()
        .collect::<Option<_>>()
        .ok_or_else(|| format!("vocabulary_map has no token for {missing} image codes"))
}
