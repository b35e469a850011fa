//! Which query rows are computed together. The results do not depend on this.

use std::ops::Range;

/// How many keys outside of the common keys of a tile its rows may see, per row of the largest tile.
const RAGGED: usize = 4;
/// Maximum number of products in a block, so that they fit into the L2 cache.
const HELD: usize = 40_000;
/// Maximum number of rows of a block.
const ROWS: usize = 48;

/// Neighboring rows that see nearly the same keys.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Tile {
    pub(super) rows: Range<usize>,
    /// The keys that every row sees.
    pub(super) common: Range<usize>,
    /// From the first key that any row sees to the last one.
    pub(super) seen: Range<usize>,
}

/// Neighboring tiles that are computed together.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Block {
    pub(super) tiles: Vec<Tile>,
    pub(super) rows: Range<usize>,
    pub(super) seen: Range<usize>,
}

/// The range as a range of indices.
pub(super) fn index_range(range: &Range<u32>) -> Range<usize> {
    range.start as usize..range.end as usize
}

/// Combines rows into tiles of at most `most` rows.
fn tiles(visible: &[Range<u32>], most: usize) -> Vec<Tile> {
    let mut tiles: Vec<Tile> = Vec::new();
    for (row, keys) in visible.iter().map(index_range).enumerate() {
        if let Some(tile) = tiles.last_mut()
            && tile.rows.len() < most
        {
            let common = tile.common.start.max(keys.start)..tile.common.end.min(keys.end);
            let seen = tile.seen.start.min(keys.start)..tile.seen.end.max(keys.end);
            if !common.is_empty() && seen.len() <= common.len() + RAGGED * most {
                *tile = Tile { rows: tile.rows.start..row + 1, common, seen };
                continue;
            }
        }
        tiles.push(Tile { rows: row..row + 1, common: keys.clone(), seen: keys });
    }
    tiles
}

/// Combines rows into tiles of at most `most` rows, and tiles into blocks.
pub(super) fn blocks(visible: &[Range<u32>], most: usize) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    for tile in tiles(visible, most) {
        if let Some(block) = blocks.last_mut() {
            let seen = block.seen.start.min(tile.seen.start)..block.seen.end.max(tile.seen.end);
            let rows = block.rows.start..tile.rows.end;
            let disjoint = tile.seen.start >= block.seen.end || block.seen.start >= tile.seen.end;
            let is_similar = !disjoint && seen.len() <= tile.seen.len() + 2 * ROWS;
            if is_similar && rows.len() <= ROWS && rows.len() * seen.len() <= HELD {
                (block.rows, block.seen) = (rows, seen);
                block.tiles.push(tile);
                continue;
            }
        }
        blocks.push(Block { rows: tile.rows.clone(), seen: tile.seen.clone(), tiles: vec![tile] });
    }
    blocks
}

/// From the first key that any block sees to the last one.
pub(super) fn seen(blocks: &[Block]) -> Range<usize> {
    let starts = blocks.iter().map(|block| block.seen.start);
    let ends = blocks.iter().map(|block| block.seen.end);
    starts.min().unwrap_or(0)..ends.max().unwrap_or(0)
}

/// Runs of consecutive blocks whose keys overlap. Neighboring runs see different keys.
pub(super) fn spans(blocks: &[Block]) -> Vec<Range<usize>> {
    let mut spans: Vec<Range<usize>> = Vec::new();
    let mut seen = 0..0;
    for (n, block) in blocks.iter().enumerate() {
        match spans.last_mut() {
            Some(span) if block.seen.start < seen.end && seen.start < block.seen.end => {
                seen = seen.start.min(block.seen.start)..seen.end.max(block.seen.end);
                span.end = n + 1;
            }
            _ => {
                seen = block.seen.clone();
                spans.push(n..n + 1);
            }
        }
    }
    spans
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_contain_every_row_once_and_do_not_cross_samples() {
        let visible: Vec<Range<u32>> = (0..40).map(|row| if row < 17 { 0..17 } else { 17..row + 1 }).collect();
        let blocks = blocks(&visible, 6);
        let tiles: Vec<&Tile> = blocks.iter().flat_map(|block| &block.tiles).collect();
        assert!(tiles.iter().flat_map(|tile| tile.rows.clone()).eq(0..40));
        assert_eq!(spans(&blocks), [0..1, 1..2]);
        assert_eq!(tiles[2], &Tile { rows: 12..17, common: 0..17, seen: 0..17 });
        assert_eq!(tiles[3], &Tile { rows: 17..23, common: 17..18, seen: 17..23 });
        for tile in tiles {
            for row in tile.rows.clone() {
                let keys = index_range(&visible[row]);
                assert!(keys.start <= tile.common.start && tile.common.end <= keys.end);
                assert!(tile.seen.start <= keys.start && keys.end <= tile.seen.end);
            }
        }
    }
}
