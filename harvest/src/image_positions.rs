//! Samples of the hooks before the decoder: of each sample only its images, as the positions that they occupy in the decoder or as
//! the patches of the vision tower. Reads and runs nothing.

use crate::checkpoint::Checkpoint;
use crate::data::{Row, RowError};
use crate::model::config::{ModelConfig, ProjectorConfig, VisionEncoder};
use crate::prepared::Prepared;
use crate::{Plan, Result};
use sae_core::store::sample::Token;
use sae_core::store::{Hook, Site, Skipped};

/// A row as a sample of the hooks of a plan: whole, or only its images where the hook is before the decoder.
///
/// # Errors
/// The skipped row: it cannot become a sample, or has no images although only these are captured.
pub(crate) fn prepare(checkpoint: &Checkpoint, plan: &Plan, row: Row) -> Result<Prepared, Skipped> {
    let (number, key) = (row.number, row.key.clone());
    let prepared = checkpoint.prepare(row, plan.answers, plan.template)?;
    match plan.hooks.iter().find(|hook| hook.site().is_before_decoder()) {
        Some(hook) => only_images(prepared, *hook, checkpoint.config()).map_err(|error| error.skipped(number, &key)),
        None => Ok(prepared),
    }
}

/// The sample with a position for each position of its images, or for each patch of the tower that one of them shows, counted
/// from 0.
fn only_images(mut prepared: Prepared, hook: Hook, config: &ModelConfig) -> Result<Prepared, RowError> {
    prepared.tokens.retain(|token| token.image.is_some());
    prepared.prefix = 0;
    if prepared.tokens.is_empty() {
        return Err(format!("the row has no images, and only images are captured at {hook}").into());
    }
    if hook.site() == Site::Vision {
        let places = prepared.frames.iter().flat_map(|frame| frame.positions.iter().map(move |place| (place, frame)));
        let tokens = prepared.tokens.iter().zip(places).filter(|(_, (place, _))| place.source.row().is_some());
        let patches = tokens.flat_map(|(token, (_, frame))| {
            let side = patches_per_side(config, frame.whole().map_or(0, |view| view.width));
            (0..side * side).map(move |n| Token { rect: token.rect.map(|rect| cell(rect, n, side)), ..token.clone() })
        });
        prepared.tokens = patches.collect();
    }
    prepared.tokens.iter_mut().zip(0..).for_each(|(token, position)| token.position = position);
    Ok(prepared)
}

/// The side of a position in patches, in a view of this width in pixels.
fn patches_per_side(config: &ModelConfig, width: usize) -> usize {
    match config.vision.as_ref().map(|vision| &vision.kind) {
        Some(VisionEncoder::Tower(tower, ProjectorConfig::Pool { grid, .. })) => {
            (width / tower.patches.side.max(1) / (*grid).max(1)).max(1)
        }
        Some(VisionEncoder::Tower(
            _,
            ProjectorConfig::Merge { patches, .. }
            | ProjectorConfig::Shuffle { patches, .. }
            | ProjectorConfig::ShuffleMlp { patches, .. }
            | ProjectorConfig::PoolNative { patches, .. }
            | ProjectorConfig::PatchMerger { patches, .. },
        )) => patches.isqrt(),
        _ => 1,
    }
}

/// The `n`-th of `side * side` equal parts of a rectangle, row by row.
fn cell([x0, y0, x1, y1]: [f32; 4], n: usize, side: usize) -> [f32; 4] {
    let at = |from: f32, to: f32, n: usize| from + (to - from) * n as f32 / side as f32;
    let (x, y) = (n % side, n / side);
    [at(x0, x1, x), at(y0, y1, y), at(x0, x1, x + 1), at(y0, y1, y + 1)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cells_of_a_rectangle_are_row_by_row_and_cover_it() {
        let rect = [0.0, 0.5, 1.0, 1.0];
        assert_eq!(cell(rect, 0, 1), rect);
        assert_eq!(
            [0, 1, 2, 3].map(|n| cell(rect, n, 2)),
            [[0.0, 0.5, 0.5, 0.75], [0.5, 0.5, 1.0, 0.75], [0.0, 0.75, 0.5, 1.0], [0.5, 0.75, 1.0, 1.0],]
        );
    }
}
