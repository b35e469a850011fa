//! What can be looked at: a feature, a sample, or one of the pages that a run has once. Draws nothing.

/// A page of the window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Page {
    /// The table of features beside one of them.
    #[default]
    Features,
    /// One sample.
    Sample,
    /// Scores, and what a threshold on them keeps.
    Filter,
    /// A text of one's own.
    Try,
    /// How the run came about.
    Run,
}

impl Page {
    /// All of them, in the order of their tabs.
    pub const ALL: [Self; 5] = [Self::Features, Self::Sample, Self::Filter, Self::Try, Self::Run];

    /// What its tab says.
    pub fn title(self) -> &'static str {
        match self {
            Self::Features => "Features",
            Self::Sample => "Sample",
            Self::Filter => "Filter",
            Self::Try => "Try it",
            Self::Run => "Run",
        }
    }

    /// Its name in links.
    pub fn name(self) -> &'static str {
        match self {
            Self::Features => "features",
            Self::Sample => "sample",
            Self::Filter => "filter",
            Self::Try => "try",
            Self::Run => "run",
        }
    }

    /// The page of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|page| page.name() == name)
    }
}

/// What is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Location {
    /// A feature.
    Feature(u32),
    /// A sample.
    Sample(u32),
    /// A page, with whatever was on it last.
    Page(Page),
}

impl Location {
    /// The page that it is on.
    pub fn page(self) -> Page {
        match self {
            Self::Feature(_) => Page::Features,
            Self::Sample(_) => Page::Sample,
            Self::Page(page) => page,
        }
    }
}
