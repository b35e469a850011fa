//! What can be shown: a feature, a sample, or one of the pages that a run has once.

/// A page of the window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Page {
    /// The table of features beside one of them.
    #[default]
    Features,
    /// All samples.
    Samples,
    /// One sample.
    Sample,
    /// Scores, and what a threshold on them keeps.
    Filter,
    /// The Playground: a prompt that the user enters.
    Playground,
    /// Provenance, training and evaluation.
    Run,
    /// Two features side by side.
    Compare,
    /// What differs between groups, along an order, or with a target.
    Contrast,
    /// What was learned from labels.
    Probe,
}

impl Page {
    /// All pages, in the order of their tabs.
    pub const ALL: [Self; 9] = [
        Self::Features,
        Self::Samples,
        Self::Sample,
        Self::Filter,
        Self::Playground,
        Self::Run,
        Self::Compare,
        Self::Contrast,
        Self::Probe,
    ];

    /// The title of its tab.
    pub fn title(self) -> &'static str {
        match self {
            Self::Features => "Features",
            Self::Samples => "Samples",
            Self::Sample => "Sample",
            Self::Filter => "Filter",
            Self::Playground => "Playground",
            Self::Run => "Run",
            Self::Compare => "Compare",
            Self::Contrast => "Contrast",
            Self::Probe => "Probe",
        }
    }

    /// Its name in links.
    pub fn name(self) -> &'static str {
        match self {
            Self::Features => "features",
            Self::Samples => "samples",
            Self::Sample => "sample",
            Self::Filter => "filter",
            Self::Playground => "playground",
            Self::Run => "run",
            Self::Compare => "compare",
            Self::Contrast => "contrast",
            Self::Probe => "probe",
        }
    }

    /// The page of that name in links.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|page| page.name() == name)
    }
}

/// What is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Location {
    /// A feature.
    Feature(u32),
    /// A sample.
    Sample(u32),
    /// A feature beside another one.
    Compare(u32),
    /// A page, with whatever was on it last.
    Page(Page),
}

impl Location {
    /// The page that shows it.
    pub fn page(self) -> Page {
        match self {
            Self::Feature(_) => Page::Features,
            Self::Sample(_) => Page::Sample,
            Self::Compare(_) => Page::Compare,
            Self::Page(page) => page,
        }
    }
}
