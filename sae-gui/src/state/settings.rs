//! What the app remembers between two starts: colors, sizes, columns. Reads and writes no file.

use super::effect::Theme;
use super::field::Field;
use super::label_dialog::LabelEndpoint;
use serde::{Deserialize, Serialize};

/// Sides of a window that fit on some screen, in points.
const SIDES: std::ops::RangeInclusive<f32> = 200.0..=8000.0;
/// Magnifications that leave something to read.
const ZOOMS: std::ops::RangeInclusive<f32> = 0.5..=4.0;

/// The settings. What is not there has its default.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Settings {
    /// The chosen colors; none: those that the system prefers.
    pub theme: Option<Theme>,
    /// Width and height of the window, in points.
    pub window: Option<[f32; 2]>,
    /// Whether the table of features is hidden.
    pub table_hidden: bool,
    /// Width of the pane with the table of features, in points.
    pub pane: Option<f32>,
    /// Magnification of everything.
    pub zoom: Option<f32>,
    /// How strongly heat maps cover pictures, from 0 to 1.
    pub heat_opacity: Option<f32>,
    /// The endpoint that was asked for labels last.
    pub endpoint: LabelEndpoint,
    /// Names of the columns of the table; empty for the default ones.
    pub columns: Vec<String>,
}

impl Settings {
    /// Without values that would make the app unusable, whoever wrote them.
    pub fn checked(self) -> Self {
        let side = |side: &f32| SIDES.contains(side);
        Self {
            window: self.window.filter(|sides| sides.iter().all(side)),
            pane: self.pane.filter(side),
            zoom: self.zoom.filter(|zoom| ZOOMS.contains(zoom)),
            heat_opacity: self.heat_opacity.filter(|opacity| (0.0..=1.0).contains(opacity)),
            ..self
        }
    }

    /// The columns of the table, in their order; nothing if none is known.
    pub fn columns(&self) -> Option<Vec<Field>> {
        let columns: Vec<Field> = self.columns.iter().filter_map(|name| Field::from_name(name)).collect();
        (!columns.is_empty()).then_some(columns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_read_back_and_bad_ones_are_left_out() {
        let settings = Settings {
            theme: Some(Theme::Dark),
            window: Some([1200.0, 800.0]),
            zoom: Some(1.5),
            endpoint: LabelEndpoint { url: "http://localhost:8000/v1".into(), model: "m".into() },
            columns: vec!["feature".into(), "ratio".into()],
            ..Settings::default()
        };
        let text = serde_json::to_string(&settings).unwrap();
        let read: Settings = serde_json::from_str(&text).unwrap();
        assert_eq!(read.checked(), settings);
        assert_eq!(settings.columns(), Some(vec![Field::Feature, Field::Ratio]));
        let bad = r#"{ "window": [0.0, 1e9], "zoom": 1e-9, "heat_opacity": 7, "columns": ["color"], "later": 1 }"#;
        let bad: Settings = serde_json::from_str::<Settings>(bad).unwrap().checked();
        assert_eq!((bad.window, bad.zoom, bad.heat_opacity, bad.columns()), (None, None, None, None));
    }
}
