//! Which hidden states of a vision tower a projector uses.

use crate::fields::Fields;
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMore {
    One(i64),
    More(Vec<i64>),
}

/// The hidden states that `vision_feature_layer` names, of a tower of so many blocks: 0 is the input of the first block, `n` is
/// the output of the `n`-th block. Negative numbers are counted from the end.
pub(super) fn features(config: Fields, default: i64, blocks: usize) -> Result<Vec<usize>, String> {
    let layers = match config.or("vision_feature_layer", OneOrMore::One(default))? {
        OneOrMore::One(layer) => vec![layer],
        OneOrMore::More(layers) => layers,
    };
    let states = blocks as i64 + 1;
    let features = layers.iter().map(|layer| {
        let state = if *layer < 0 { layer.saturating_add(states) } else { *layer };
        let exists = (0..states).contains(&state);
        exists
            .then_some(state as usize)
            .ok_or_else(|| format!("there is no vision_feature_layer {layer}: the vision tower has {blocks} blocks"))
    });
    features.collect()
}

/// The same in a family whose projector uses one hidden state.
pub(super) fn feature(config: Fields, default: i64, blocks: usize) -> Result<usize, String> {
    match features(config, default, blocks)?[..] {
        [feature] => Ok(feature),
        ref features => Err(format!("vision_feature_layer names {} layers: expected one", features.len())),
    }
}
