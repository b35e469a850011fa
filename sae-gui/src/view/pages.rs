//! What the pages remember between two frames, together.

use super::compare::CompareView;
use super::contrast::ContrastView;
use super::feature::FeatureView;
use super::filter::FilterView;
use super::map::MapView;
use super::playground::PlaygroundView;
use super::probe::ProbeView;
use super::report::ReportView;
use super::sample::SampleView;
use super::sample_cache::SampleCache;
use super::samples::SamplesView;
use super::table::TableView;
use super::test_box::TestBox;
use super::viewer::ViewerView;

/// What the pages remember between two frames.
#[derive(Default)]
pub(super) struct Pages {
    pub cache: SampleCache,
    pub map: MapView,
    pub table: TableView,
    pub feature: FeatureView,
    pub samples: SamplesView,
    pub sample: SampleView,
    pub filter: FilterView,
    pub playground: PlaygroundView,
    pub report: ReportView,
    pub viewer: ViewerView,
    pub compare: CompareView,
    pub contrast: ContrastView,
    pub probe: ProbeView,
    /// What is typed as the name of a list.
    pub list_name: String,
}

impl Pages {
    /// Forgets a run that is closed.
    pub fn clear(&mut self) {
        self.cache.clear();
        self.map.clear();
        self.feature.test = TestBox::default();
        self.sample.clear();
        self.filter.clear();
        self.playground.clear();
        self.viewer.clear();
        self.compare.clear();
        self.contrast.clear();
        self.probe.clear();
    }
}
