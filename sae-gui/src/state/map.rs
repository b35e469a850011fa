//! All features in one picture: a scatter plot of two of their values, counted in cells, of which any part can be enlarged. What
//! is drawn around with the pointer becomes a set of features. Draws nothing.

use super::field::{CLASSES, class_place};
use super::format;
use sae_core::analysis::index::FeatureRow;
use sae_core::analysis::layout::DecoderLayout;
use sae_workbench::feature_table::PositionCounts;
use std::collections::BTreeSet;

/// The classes of [`CLASSES`] that are told apart: all but the dead, which come last.
pub const COLORED: usize = CLASSES.len() - 1;
/// Cells along the two axes of what is visible.
pub const CELLS: [usize; 2] = [120, 60];
/// The largest magnification.
const MOST_ZOOM: f64 = 64.0;

/// Which two values of a feature the map shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MapKind {
    /// The firing rate on text across, the firing rate on images up.
    #[default]
    Rates,
    /// The density across, the largest activation up.
    Max,
    /// The density across, the cross-modal weight up.
    Weight,
    /// The two first principal components of the decoder directions.
    Directions,
}

/// How the values of an axis are placed and named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// Shares, by powers of ten.
    LogShare,
    /// Activations, by powers of ten.
    LogActivation,
    /// As they are.
    Linear,
}

/// An axis of the map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Axis {
    /// What it shows.
    pub title: &'static str,
    /// How its values are placed.
    pub scale: Scale,
}

impl Scale {
    fn place(self, value: f64) -> Option<f64> {
        match self {
            Self::Linear => Some(value).filter(|value| value.is_finite()),
            _ => (value > 0.0 && value.is_finite()).then(|| value.log10()),
        }
    }

    /// The name of a place on the axis.
    pub fn name(self, place: f64) -> String {
        match self {
            Self::LogShare => format::percent(10f64.powf(place)),
            Self::LogActivation => format::real(10f64.powf(place)),
            Self::Linear => format!("{place:.2}"),
        }
    }
}

impl MapKind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Rates, Self::Max, Self::Weight, Self::Directions];

    /// Its name in links.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rates => "rates",
            Self::Max => "maximum",
            Self::Weight => "weight",
            Self::Directions => "directions",
        }
    }

    /// The kind of that name in links.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// A few words.
    pub fn title(self) -> &'static str {
        match self {
            Self::Rates => "text / image rates",
            Self::Max => "density / maximum",
            Self::Weight => "density / weight",
            Self::Directions => "decoder directions (PCA)",
        }
    }

    /// What it shows.
    pub fn hint(self) -> &'static str {
        match self {
            Self::Rates => {
                "Firing rate on text across, firing rate on images up. Features near the diagonal are cross-modal. \
                            A feature that never fires on one side is at the edge"
            }
            Self::Max => "Share of positions where a feature fires across, its largest activation up",
            Self::Weight => "Share of positions where a feature fires across, its cross-modal weight (paper) up",
            Self::Directions => {
                "The two first principal components of the decoder directions. Features whose directions are similar are near \
                 each other, as far as two components show it"
            }
        }
    }

    /// Which features have no place on it.
    pub fn missing(self) -> &'static str {
        match self {
            Self::Rates | Self::Max | Self::Directions => "dead features are not shown",
            Self::Weight => "features without a weight are not shown",
        }
    }

    /// The two axes: across and up.
    pub fn axes(self) -> [Axis; 2] {
        let axis = |title, scale| Axis { title, scale };
        let density = axis("density", Scale::LogShare);
        match self {
            Self::Rates => [axis("rate on text", Scale::LogShare), axis("rate on images", Scale::LogShare)],
            Self::Max => [density, axis("maximum", Scale::LogActivation)],
            Self::Weight => [density, axis("cross-modal weight: paper", Scale::Linear)],
            Self::Directions => [axis("component 1", Scale::Linear), axis("component 2", Scale::Linear)],
        }
    }

    /// The two values of a feature, if it has them.
    fn values(self, row: &FeatureRow, positions: &PositionCounts, layout: &DecoderLayout) -> Option<[f64; 2]> {
        match self {
            Self::Rates => {
                if row.fires == 0 {
                    return None;
                }
                // A rate of 0 has no logarithm; half a position stands for it.
                let rate = |fires: u64, of: u64| (fires as f64).max(0.5) / of.max(1) as f64;
                Some([rate(row.fires_text, positions.text), rate(row.fires_image, positions.image)])
            }
            Self::Max => Some([row.density, f64::from(row.max)]),
            Self::Weight => Some([row.density, row.weight_paper?]),
            Self::Directions => Some(layout.places.get(row.feature as usize).copied().flatten()?.map(f64::from)),
        }
    }
}

/// The visible part of the map: `[[x0, x1], [y0, y1]]` in shares of the whole.
pub type Window = [[f64; 2]; 2];

/// The whole map.
pub const WHOLE: Window = [[0.0, 1.0]; 2];

/// Enlarges (`factor` above 1) or reduces the visible part around a place, given in shares of the visible part.
pub fn zoomed(window: Window, at: [f64; 2], factor: f64) -> Window {
    [0, 1].map(|axis| {
        let [low, high] = window[axis];
        let fixed = low + at[axis] * (high - low);
        let size = ((high - low) / factor).clamp(1.0 / MOST_ZOOM, 1.0);
        let low = (fixed - at[axis] * size).clamp(0.0, 1.0 - size);
        [low, low + size]
    })
}

/// Moves the visible part by a share of itself.
pub fn moved(window: Window, by: [f64; 2]) -> Window {
    [0, 1].map(|axis| {
        let [low, high] = window[axis];
        let size = high - low;
        let low = (low + by[axis] * size).clamp(0.0, 1.0 - size);
        [low, low + size]
    })
}

/// The places of all features on a map.
#[derive(Clone, Debug, PartialEq)]
pub struct FeatureMap {
    axes: [Axis; 2],
    /// Smallest and largest place on the two axes.
    bounds: [[f64; 2]; 2],
    /// By feature: its place in shares of the width and, from below, of the height.
    places: Vec<Option<[f64; 2]>>,
    /// Number of features without a place.
    pub missing: usize,
}

/// Features counted in cells: of each cell, from the lower left on row by row, the features that the table shows by class (those
/// that are told apart, in the order of [`CLASSES`]), and all others.
pub type Cells = Vec<[u32; COLORED + 1]>;

impl FeatureMap {
    /// Places `rows`. Only a map of directions needs their layout.
    pub fn new(kind: MapKind, rows: &[FeatureRow], positions: &PositionCounts, layout: &DecoderLayout) -> Self {
        let axes = kind.axes();
        let point = |row: &FeatureRow| {
            let [x, y] = kind.values(row, positions, layout)?;
            Some([axes[0].scale.place(x)?, axes[1].scale.place(y)?])
        };
        let points: Vec<_> = rows.iter().map(point).collect();
        let bounds = [0, 1].map(|axis| {
            let fold = |bound: [f64; 2], p: &[f64; 2]| [bound[0].min(p[axis]), bound[1].max(p[axis])];
            let [low, high] = points.iter().flatten().fold([f64::INFINITY, f64::NEG_INFINITY], fold);
            // A single value would have no width.
            let margin = (0.03 * (high - low)).max(0.05);
            // No share is above 1, whose logarithm is 0.
            let most = if axes[axis].scale == Scale::LogShare { 0.0 } else { f64::INFINITY };
            if low <= high { [low - margin, (high + margin).min(most).max(high)] } else { [0.0, 1.0] }
        });
        let share = |point: [f64; 2]| {
            [0, 1].map(|axis| {
                let [low, high] = bounds[axis];
                (point[axis] - low) / (high - low)
            })
        };
        // A row whose number is beyond the table has no place either.
        let mut places = vec![None; rows.len()];
        for (row, point) in rows.iter().zip(points) {
            if let Some(place) = places.get_mut(row.feature as usize) {
                *place = point.map(share);
            }
        }
        let missing = places.iter().filter(|place| place.is_none()).count();
        Self { axes, bounds, places, missing }
    }

    /// The two axes.
    pub fn axes(&self) -> [Axis; 2] {
        self.axes
    }

    /// The name of a place on an axis (0 across, 1 up), given as a share of the whole.
    pub fn axis_name(&self, axis: usize, share: f64) -> String {
        let [low, high] = self.bounds[axis];
        self.axes[axis].scale.name(low + share * (high - low))
    }

    /// The place of a feature: shares of the width and, from below, of the height.
    pub fn place(&self, feature: u32) -> Option<[f64; 2]> {
        self.places.get(feature as usize).copied().flatten()
    }

    /// Counts the features in the visible part. `shown` are those that the table shows.
    pub fn cells<'a>(&self, window: Window, shown: impl Iterator<Item = &'a FeatureRow>) -> Cells {
        let mut cells = vec![[0_u32; COLORED + 1]; CELLS[0] * CELLS[1]];
        let cell = |place: [f64; 2]| {
            let [x, y] = within(window, place)?;
            let at = |share: f64, cells: usize| ((share * cells as f64) as usize).min(cells - 1);
            Some(at(y, CELLS[1]) * CELLS[0] + at(x, CELLS[0]))
        };
        self.places.iter().flatten().filter_map(|place| cell(*place)).for_each(|cell| cells[cell][COLORED] += 1);
        for row in shown {
            if let Some(cell) = self.place(row.feature).and_then(cell) {
                // A damaged index may list a feature twice, which has one place all the same.
                cells[cell][COLORED] = cells[cell][COLORED].saturating_sub(1);
                let class = class_place(&row.class).filter(|place| *place < COLORED);
                cells[cell][class.unwrap_or(COLORED)] += 1;
            }
        }
        cells
    }

    /// The features within an outline, which is drawn in shares of the whole width and, from below, height.
    pub fn enclosed(&self, outline: &[[f64; 2]]) -> BTreeSet<u32> {
        let inside = |place: &Option<[f64; 2]>| place.is_some_and(|place| encloses(outline, place));
        (0u32..).zip(&self.places).filter(|(_, place)| inside(place)).map(|(feature, _)| feature).collect()
    }
}

/// A place in shares of the visible part, if it is visible.
pub fn within(window: Window, place: [f64; 2]) -> Option<[f64; 2]> {
    let shares = [0, 1].map(|axis| (place[axis] - window[axis][0]) / (window[axis][1] - window[axis][0]));
    shares.iter().all(|share| (0.0..=1.0).contains(share)).then_some(shares)
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
    use std::sync::LazyLock;

    static POSITIONS: LazyLock<PositionCounts> =
        LazyLock::new(|| PositionCounts { all: 300, text: 100, image: 200, ..PositionCounts::default() });

    fn row(feature: u32, density: f64, max: f32) -> FeatureRow {
        FeatureRow { feature, density, max, class: "text".into(), ..FeatureRow::default() }
    }

    fn map(kind: MapKind, rows: &[FeatureRow]) -> FeatureMap {
        FeatureMap::new(kind, rows, &POSITIONS, &DecoderLayout::default())
    }

    #[test]
    fn an_outline_holds_the_features_inside_it() {
        let rows = [row(0, 1e-4, 1.0), row(1, 1e-2, 1.0), row(2, 1e-2, 100.0), row(3, 0.0, 0.0)];
        let map = map(MapKind::Max, &rows);
        let enclosed = |outline: &[[f64; 2]]| map.enclosed(outline).into_iter().collect::<Vec<_>>();
        assert_eq!(map.missing, 1);
        assert_eq!(enclosed(&[[0.5, 0.5], [1.0, 0.5], [1.0, 1.0], [0.5, 1.0]]), [2]);
        assert_eq!(enclosed(&[[0.0, 0.0], [1.0, 0.0], [1.0, 0.5], [0.0, 0.5]]), [0, 1]);
        assert!(enclosed(&[[0.0, 0.0]]).is_empty() && enclosed(&[]).is_empty());
        // An L around the two on the right leaves the corner out.
        let l = [[0.0, 0.6], [0.0, 1.0], [1.0, 1.0], [1.0, 0.0], [0.6, 0.0], [0.6, 0.6]];
        assert_eq!(enclosed(&l), [1, 2]);
    }

    #[test]
    fn a_map_of_directions_has_the_places_of_the_layout() {
        let rows: Vec<_> = (0..4).map(|k| row(k, 0.1, 1.0)).collect();
        let places = vec![Some([-1.0, 0.0]), Some([1.0, 2.0]), None, Some([0.0, 1.0])];
        let layout = DecoderLayout { places, explained: [0.5, 0.25] };
        let map = FeatureMap::new(MapKind::Directions, &rows, &POSITIONS, &layout);
        let place = |feature| map.place(feature).unwrap();
        assert_eq!((map.missing, map.place(2)), (1, None));
        assert!(place(0)[0] < place(3)[0] && place(3)[0] < place(1)[0] && place(0)[1] < place(3)[1]);
        assert!(MapKind::ALL.into_iter().all(|kind| MapKind::from_name(kind.name()) == Some(kind)));
    }

    #[test]
    fn features_of_one_side_are_at_the_edge_of_the_map_of_rates() {
        let fires = |feature, text, image| FeatureRow {
            feature,
            fires: text + image,
            fires_text: text,
            fires_image: image,
            ..FeatureRow::default()
        };
        let map = map(MapKind::Rates, &[fires(0, 50, 100), fires(1, 50, 0), fires(2, 0, 100), fires(3, 0, 0)]);
        let place = |feature| map.place(feature).unwrap();
        assert_eq!(place(0)[0], place(1)[0]);
        assert!(place(1)[1] < 0.1 && place(2)[0] < 0.1 && place(0)[1] > 0.9);
        assert_eq!((map.place(3), map.missing), (None, 1));
        assert_eq!(map.axis_name(0, place(0)[0]), "50%");
    }

    #[test]
    fn a_feature_that_is_listed_twice_is_counted_without_an_overflow() {
        let rows = [row(0, 1e-2, 1.0), row(0, 1e-2, 1.0), row(1, 1e-4, 10.0)];
        let map = map(MapKind::Max, &rows);
        let cells = map.cells(WHOLE, rows.iter());
        assert!(cells.iter().all(|cell| cell[COLORED] <= 1), "the other features are at most those that have a place");
        assert_eq!(cells.iter().map(|cell| cell[2]).sum::<u32>(), 3);
    }

    #[test]
    fn every_class_is_counted_by_itself() {
        let of_class =
            |(feature, class): (u32, &&str)| FeatureRow { class: (*class).into(), ..row(feature, 1e-2, 1.0) };
        let rows: Vec<_> = (0..).zip(&CLASSES).map(of_class).collect();
        let cells = map(MapKind::Max, &rows).cells(WHOLE, rows.iter());
        assert_eq!(CLASSES[COLORED], "dead");
        assert!(cells.contains(&[1; COLORED + 1]), "one of each in the same cell");
    }

    #[test]
    fn the_visible_part_is_enlarged_around_a_place_and_stays_inside() {
        let window = zoomed(WHOLE, [0.5, 0.0], 2.0);
        assert_eq!(window, [[0.25, 0.75], [0.0, 0.5]]);
        assert_eq!(moved(window, [1.0, -1.0]), [[0.5, 1.0], [0.0, 0.5]]);
        assert_eq!(zoomed(window, [0.5, 0.5], 0.01), WHOLE);
        assert_eq!(within(window, [0.5, 0.25]), Some([0.5, 0.5]));
        assert_eq!(within(window, [0.1, 0.25]), None);
    }

    proptest! {
        #[test]
        fn every_feature_is_counted_once(
            values in prop::collection::vec((0.0f64..1.0, 0.0f32..50.0), 0..50), every in 1usize..4,
        ) {
            let rows: Vec<_> = values.iter().zip(0..).map(|((d, m), k)| row(k, *d, *m)).collect();
            let own = map(MapKind::Max, &rows);
            let cells = own.cells(WHOLE, rows.iter().step_by(every));
            let counted: u32 = cells.iter().flatten().sum();
            prop_assert_eq!(counted as usize + own.missing, rows.len());
            let placed = rows.iter().step_by(every).filter(|row| own.place(row.feature).is_some()).count();
            let shown: u32 = cells.iter().flat_map(|cell| &cell[..3]).sum();
            prop_assert_eq!(shown as usize, placed);
            prop_assert_eq!(map(MapKind::Weight, &rows).missing, rows.len());
        }

        #[test]
        fn windows_stay_inside_the_map(steps in prop::collection::vec((0.0f64..1.0, 0.0f64..1.0, 0.1f64..9.0), 0..20)) {
            let mut window = WHOLE;
            for (x, y, factor) in steps {
                window = moved(zoomed(window, [x, y], factor), [x - 0.5, y - 0.5]);
                for [low, high] in window {
                    prop_assert!(low >= 0.0 && high <= 1.0 + 1e-12 && high - low >= 1.0 / MOST_ZOOM - 1e-12);
                }
            }
        }
    }
}
