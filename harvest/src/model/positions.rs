//! The positions of a sample's tokens on the axes of rotary embeddings. Positions of text are consecutive; those of an
//! image are in rows and columns, if the model distinguishes them, and those of a video at different times.

use super::config::{AXES, Axes, TextConfig};
use super::input::Image;

/// Positions of a sample's tokens on the axes time, row and column. `is_image` says for each token whether it belongs
/// to an image.
///
/// All positions of an image have the time at which the image begins; its rows and columns are counted from there. What
/// follows the image continues after the largest of these numbers (Qwen2-VL, section 3.1 of its report).
///
/// The images of a video that is followed on the axis of time have the rows and columns of its first image, and a time that is
/// counted from there. What follows the video continues after its largest row or column, whatever its duration. This is how
/// `transformers` 5 counts; up to version 4.57 the largest time counted as well.
pub(super) fn positions(is_image: &[bool], images: &[Image], config: &TextConfig) -> Vec<[u32; AXES]> {
    if config.ropes.iter().all(|rope| rope.axes == Axes::One) {
        return (config.first_position..).take(is_image.len()).map(|n| [n; AXES]).collect();
    }
    let (mut positions, mut next, mut at) = (Vec::with_capacity(is_image.len()), config.first_position, 0);
    // Where the current video begins.
    let mut video = 0u32;
    let mut images = images.iter();
    while at < is_image.len() {
        let image = if is_image[at] { images.next() } else { None };
        let Some(image) = image else {
            positions.push([next; AXES]);
            (next, at) = (next + 1, at + 1);
            continue;
        };
        let [rows, columns] = image.grid.map(|n| n as u32);
        let (start, time) = match image.moment {
            Some(moment) if moment.number > 0 => (video, video.saturating_add(moment.time)),
            _ => (next, next),
        };
        for row in 0..rows {
            positions.extend((0..columns).map(|column| [time, start + row, start + column]));
        }
        (video, next, at) = (start, start + rows.max(columns), at + (rows * columns) as usize);
    }
    positions
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ModelConfig;
    use serde_json::json;

    #[test]
    fn positions_of_paligemma_are_counted_from_one() {
        let config = json!({"model_type": "paligemma", "projection_dim": 64, "text_config": {"hidden_size": 64}});
        let config = ModelConfig::parse(&config).unwrap().text;
        assert_eq!(positions(&[true, true, false], &[], &config), [[1; AXES], [2; AXES], [3; AXES]]);
    }
}
