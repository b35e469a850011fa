//! Idefics3 and SmolVLM: the tower of SigLIP on tiles of an image and on the whole image, whose patches are concatenated in
//! squares.

use super::clip::{Sizes, clip_or_siglip};
use super::types::{ImageTokens, ProjectorConfig, Tiling, TowerNames, VisionConfig, VisionEncoder};
use crate::fields::Fields;

/// The sizes of a tower where its configuration does not have them.
const SIZES: Sizes = [1_152, 3_072, 12, 16, 224, 32];

/// How many numbers in `f32` a CPU may compute at once.
const LANES: [usize; 4] = [1, 4, 8, 16];

pub(in super::super) fn idefics3(config: Fields) -> Result<VisionConfig, String> {
    // The class of the tower is fixed, whatever its `model_type` is.
    let (mut tower, side) = clip_or_siglip(config.under("vision_config"), true, SIZES, Ok)?;
    tower.last_norm = Some("post_layernorm");
    tower.names = TowerNames { prefixes: &["model.vision_model.", "vision_model."], ..tower.names };
    let (merge, patches) = (config.size("scale_factor", 2)?, side / tower.patches.side);
    if !patches.is_multiple_of(merge) {
        return Err(format!("scale_factor {merge} does not fit {patches} x {patches} patches"));
    }
    if LANES.iter().any(|lanes| shares_positions(patches, *lanes)) {
        return Err(format!(
            "tiles of {patches} x {patches} patches (image_size {side}, patch_size {}) are not supported: expected a number such as \
             26, 27 or 32, for which transformers computes a position of its own for every patch",
            tower.patches.side
        ));
    }
    Ok(VisionConfig {
        image_token_id: config.or("image_token_id", 128_257)?,
        image_tokens: ImageTokens::Tiles,
        tiling: Tiling::Split { side, grid: patches / merge, merge },
        kind: VisionEncoder::Tower(
            Box::new(tower),
            ProjectorConfig::Shuffle {
                patches: merge * merge,
                name: "connector.modality_projection.proj",
                bias: false,
            },
        ),
        video: None,
    })
}

/// Whether the reference implementation gives a patch the position of the one before it, in a row of so many `patches`. It compares
/// the fraction `n / patches` of every patch with those of `torch.arange(1 / patches, 1, 1 / patches)`, both rounded to `f32`. The
/// latter depend on the number of `lanes`: within whole vectors, only the first number is computed in `f64`, and the others are
/// distances from it.
fn shares_positions(patches: usize, lanes: usize) -> bool {
    let step = 1.0 / patches as f64;
    let whole_vectors = ((1.0 - step) / step).ceil() as usize / lanes * lanes;
    let boundary = |n: usize| {
        let first = if n < whole_vectors { n - n % lanes } else { n };
        (f64::from((step + step * first as f64) as f32) + step * (n - first) as f64) as f32
    };
    (1..patches).any(|patch| boundary(patch - 1) > patch as f32 * (1.0 / patches as f32))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_shared_for_the_numbers_of_patches_for_which_torch_rounds_so() {
        // The `forward` of `Idefics3VisionEmbeddings` of `transformers` 5.23 with torch on a CPU with AVX-512, which computes 8 numbers
        // at once there.
        let found: Vec<usize> = (1..65).filter(|patches| shares_positions(*patches, 8)).collect();
        assert_eq!(found, [19, 25, 29, 31, 38, 40, 41, 43, 47, 49, 50, 54, 55, 58, 59, 61, 62]);
        // Without vectors, a few find their own.
        assert!(!shares_positions(19, 1) && shares_positions(25, 1));
        // None of the published models has such a number.
        assert!([7, 14, 16, 24, 26, 27, 32].iter().all(|n| !LANES.iter().any(|lanes| shares_positions(*n, *lanes))));
    }
}
