//! What the workers are asked for, so that they are asked once. Plain data.

use crate::state::budget::BudgetQuestion;
use crate::state::open_run::OpenRun;
use crate::state::overlay::PictureView;

/// What the workers were asked for.
#[derive(Default, PartialEq)]
pub struct Requested {
    /// Features whose details are read.
    pub features: Vec<u32>,
    /// Samples that are read with their pictures, the first one first.
    pub samples: Vec<u32>,
    /// Samples whose active features are computed.
    pub active: Vec<u32>,
    /// The sample whose scores are explained.
    pub explanations: Option<u32>,
    /// The feature whose direction is read.
    pub direction: Option<u32>,
    /// The picture that is read at full size.
    pub picture: Option<PictureView>,
    /// The search among the samples.
    pub search: Option<String>,
    /// The texts that are looked for in the captions of the features' strongest examples.
    pub captions: Vec<String>,
    /// Whether the layout of all features is computed.
    pub layout: bool,
    /// The budget whose selection is looked for.
    pub budget: Option<BudgetQuestion>,
    /// Whether the score table is read.
    pub scores: bool,
    /// Whether provenance, curves and evaluations are read.
    pub report: bool,
    /// The contrast that is read.
    pub contrast: Option<String>,
    /// The probe that is read.
    pub probe: Option<String>,
    /// Whether it is found out which probes can be a guard.
    pub guards: bool,
}

impl Requested {
    /// What one side of a comparison needs: the feature with its strongest samples, and the sample that is shown. `also` are
    /// samples whose active features are compared with those of the other side.
    pub fn for_comparison(run: &OpenRun, encodes: bool, also: &[u32]) -> Self {
        let sample = run.sample();
        let mut samples = vec![sample];
        samples.extend(run.strongest_samples().into_iter().filter(|other| *other != sample));
        let mut active = samples.clone();
        active.extend(also.iter().filter(|other| !samples.contains(other)));
        Self {
            features: run.feature_number().into_iter().collect(),
            active: if encodes { active } else { Vec::new() },
            explanations: encodes.then_some(sample),
            direction: run.feature_number().filter(|_| encodes),
            samples,
            scores: true,
            ..Self::default()
        }
    }
}
