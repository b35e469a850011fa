//! All features in one picture: how often each fires against another value, counted in cells. What is drawn around with the
//! pointer becomes a set of features. Draws nothing.

use super::field::Field;
use sae_core::analysis::index::FeatureRow;

/// Cells along the two axes.
pub const CELLS: [usize; 2] = [120, 60];

/// Which value stands upright; the density always lies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Upright {
    /// Largest activation, in powers of ten.
    #[default]
    Max,
    /// Cross-modal weight.
    Weight,
}

impl Upright {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Max, Self::Weight];

    /// A few words.
    pub fn title(self) -> &'static str {
        match self {
            Self::Max => "log max",
            Self::Weight => "weight",
        }
    }

    fn point(self, row: &FeatureRow) -> Option<[f64; 2]> {
        Some([logarithm(row.density)?, self.value(row).filter(|value| value.is_finite())?])
    }

    fn value(self, row: &FeatureRow) -> Option<f64> {
        match self {
            Self::Max => logarithm(f64::from(row.max)),
            Self::Weight => Field::Weight.value(row),
        }
    }
}

/// The cell of a place.
fn cell([x, y]: [f64; 2]) -> usize {
    let at = |share: f64, cells: usize| ((share * cells as f64) as usize).min(cells - 1);
    at(y, CELLS[1]) * CELLS[0] + at(x, CELLS[0])
}

fn logarithm(value: f64) -> Option<f64> {
    (value > 0.0 && value.is_finite()).then(|| value.log10())
}

/// Features counted in cells.
#[derive(Clone, Debug, PartialEq)]
pub struct Map {
    /// Smallest and largest value on the two axes.
    bounds: [[f64; 2]; 2],
    /// Of each cell, from the lower left on row by row: features shown by class (`cross`, `image`, `text`), and all others.
    pub cells: Vec<[u32; 4]>,
    /// Of every feature its place, in shares of the width and, from below, of the height.
    places: Vec<Option<[f64; 2]>>,
    /// Features that have no place: dead, or without the value.
    pub missing: usize,
}

impl Map {
    /// Places `rows`; none of them is shown yet.
    pub fn new(upright: Upright, rows: &[FeatureRow]) -> Self {
        let points: Vec<_> = rows.iter().map(|row| upright.point(row)).collect();
        let bounds = [0, 1].map(|axis| {
            let fold = |bound: [f64; 2], p: &[f64; 2]| [bound[0].min(p[axis]), bound[1].max(p[axis])];
            let [low, high] = points.iter().flatten().fold([f64::INFINITY, f64::NEG_INFINITY], fold);
            // One value alone would have no width.
            let margin = (0.03 * (high - low)).max(0.05);
            if low <= high { [low - margin, high + margin] } else { [0.0, 1.0] }
        });
        let share = |point: [f64; 2]| {
            [0, 1].map(|axis| {
                let [low, high] = bounds[axis];
                (point[axis] - low) / (high - low)
            })
        };
        // A row whose number is none of the table's has no place either.
        let mut places = vec![None; rows.len()];
        for (row, point) in rows.iter().zip(points) {
            if let Some(place) = places.get_mut(row.feature as usize) {
                *place = point.map(share);
            }
        }
        let missing = places.iter().filter(|place| place.is_none()).count();
        let mut cells = vec![[0; 4]; CELLS[0] * CELLS[1]];
        places.iter().flatten().for_each(|place| cells[cell(*place)][3] += 1);
        Self { bounds, cells, places, missing }
    }

    /// Counts those that the table shows anew.
    pub fn show<'a>(&mut self, shown: impl Iterator<Item = &'a FeatureRow>) {
        self.cells.iter_mut().for_each(|cell| *cell = [0, 0, 0, cell.iter().sum()]);
        for row in shown {
            if let Some(cell) = self.place(row).map(cell) {
                let class = ["cross", "image", "text"].iter().position(|class| *class == row.class).unwrap_or(2);
                self.cells[cell][class] += 1;
                self.cells[cell][3] -= 1;
            }
        }
    }

    /// Where a feature is: shares of the width and, from below, of the height.
    pub fn place(&self, row: &FeatureRow) -> Option<[f64; 2]> {
        self.places.get(row.feature as usize).copied().flatten()
    }

    /// Smallest and largest value on the two axes.
    pub fn bounds(&self) -> [[f64; 2]; 2] {
        self.bounds
    }

    /// Features within an outline, drawn in shares of width and, from below, height.
    pub fn within(&self, outline: &[[f64; 2]], rows: &[FeatureRow]) -> Vec<u32> {
        let inside = |row: &&FeatureRow| self.place(row).is_some_and(|point| encloses(outline, point));
        rows.iter().filter(inside).map(|row| row.feature).collect()
    }
}

/// Whether a ray from the point crosses the closed outline an odd number of times.
fn encloses(outline: &[[f64; 2]], [x, y]: [f64; 2]) -> bool {
    let ends = outline.iter().zip(outline.iter().cycle().skip(1));
    let crossed =
        ends.filter(|(a, b)| (a[1] > y) != (b[1] > y) && x < a[0] + (y - a[1]) / (b[1] - a[1]) * (b[0] - a[0]));
    crossed.count() % 2 == 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn row(feature: u32, density: f64, max: f32) -> FeatureRow {
        FeatureRow { feature, density, max, class: "text".into(), ..FeatureRow::default() }
    }

    #[test]
    fn an_outline_holds_the_features_inside_it() {
        let rows = [row(0, 1e-4, 1.0), row(1, 1e-2, 1.0), row(2, 1e-2, 100.0), row(3, 0.0, 0.0)];
        let map = Map::new(Upright::Max, &rows);
        assert_eq!(map.missing, 1);
        assert_eq!(map.within(&[[0.5, 0.5], [1.0, 0.5], [1.0, 1.0], [0.5, 1.0]], &rows), [2]);
        assert_eq!(map.within(&[[0.0, 0.0], [1.0, 0.0], [1.0, 0.5], [0.0, 0.5]], &rows), [0, 1]);
        assert!(map.within(&[[0.0, 0.0]], &rows).is_empty() && map.within(&[], &rows).is_empty());
        // An L around the two on the right leaves the corner out.
        let l = [[0.0, 0.6], [0.0, 1.0], [1.0, 1.0], [1.0, 0.0], [0.6, 0.0], [0.6, 0.6]];
        assert_eq!(map.within(&l, &rows), [1, 2]);
    }

    proptest! {
        #[test]
        fn every_feature_is_counted_once(
            values in prop::collection::vec((0.0f64..1.0, 0.0f32..50.0), 0..50), every in 1usize..4,
        ) {
            let rows: Vec<_> = values.iter().zip(0..).map(|((d, m), k)| row(k, *d, *m)).collect();
            let mut map = Map::new(Upright::Max, &rows);
            for every in [every, 1, every] {
                map.show(rows.iter().step_by(every));
                let counted: u32 = map.cells.iter().flatten().sum();
                prop_assert_eq!(counted as usize + map.missing, rows.len());
                let placed = rows.iter().step_by(every).filter(|row| map.place(row).is_some()).count();
                let shown: u32 = map.cells.iter().flat_map(|cell| &cell[..3]).sum();
                prop_assert_eq!(shown as usize, placed);
            }
            prop_assert_eq!(Map::new(Upright::Weight, &rows).missing, rows.len());
        }
    }
}
