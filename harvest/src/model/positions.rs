//! Where the tokens of a sample stand on the axes of rotary positions: words one behind the other, the positions of an
//! image in rows and columns where the model tells them apart.

use super::Image;
use super::config::{AXES, Axes, TextConfig};

/// Positions of a sample's tokens on the axes time, row, column. `image` tells of each token whether it is an image's.
///
/// An image's positions all have the time at which it begins, and its rows and columns counted from there; what follows
/// goes on behind the largest of them (Qwen2-VL, section 3.1 of its report).
pub(super) fn positions(image: &[bool], images: &[Image], config: &TextConfig) -> Vec<[u32; AXES]> {
    if config.ropes.iter().all(|rope| rope.axes == Axes::One) {
        return (0..image.len() as u32).map(|n| [n; AXES]).collect();
    }
    let (mut positions, mut next, mut at) = (Vec::with_capacity(image.len()), 0, 0);
    let mut images = images.iter();
    while at < image.len() {
        let seen = if image[at] { images.next() } else { None };
        let Some(seen) = seen else {
            positions.push([next; AXES]);
            (next, at) = (next + 1, at + 1);
            continue;
        };
        let [rows, columns] = seen.grid.map(|n| n as u32);
        for row in 0..rows {
            positions.extend((0..columns).map(|column| [next, next + row, next + column]));
        }
        (next, at) = (next + rows.max(columns), at + (rows * columns) as usize);
    }
    positions
}
