//! Idefics3 and SmolVLM: the tower of SigLIP on tiles of an image and on the whole image, whose patches are concatenated in
//! squares.

use super::clip::{Sizes, clip_or_siglip};
use super::types::{ImageTokens, ProjectorConfig, Tiling, TowerNames, VisionConfig, VisionEncoder};
use crate::fields::Fields;

/// The sizes of a tower where its configuration does not have them.
const SIZES: Sizes = [1_152, 3_072, 12, 16, 224, 32];

pub(in super::super) fn idefics3(config: Fields) -> Result<VisionConfig, String> {
    // The class of the tower is fixed, whatever its `model_type` is.
    let (mut tower, side) = clip_or_siglip(config.under("vision_config"), true, SIZES, Ok)?;
    tower.last_norm = Some("post_layernorm");
    tower.names = TowerNames { prefixes: &["model.vision_model.", "vision_model."], ..tower.names };
    let (merge, patches) = (config.size("scale_factor", 2)?, side / tower.patches.side);
    if !patches.is_multiple_of(merge) {
        return Err(format!("scale_factor {merge} does not fit {patches} x {patches} patches"));
    }
    Ok(VisionConfig {
        image_token_id: config.or("image_token_id", 128_257)?,
        image_tokens: ImageTokens::Tiles,
        tiling: Tiling::Split { side, grid: patches / merge, merge },
        kind: VisionEncoder::Tower(Box::new(tower), ProjectorConfig::Shuffle { patches: merge * merge }),
        video: None,
    })
}
