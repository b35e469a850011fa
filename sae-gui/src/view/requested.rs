//! What the workers are asked for, so that they are asked once. Plain data.

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
    /// The picture that is read at full size.
    pub picture: Option<PictureView>,
    /// The search among the samples.
    pub search: Option<String>,
    /// Whether the score table is read.
    pub scores: bool,
    /// Whether provenance, curves and evaluations are read.
    pub report: bool,
}
