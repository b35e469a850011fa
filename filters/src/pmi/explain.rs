//! What carried or sank a sample: the components of its score, with the image and text features that speak in each.

use super::{Fit, nats};
use crate::definition::{IMAGE, TEXT};
use crate::pooling::PooledSample;
use serde::Serialize;

/// Components of an explanation at each end.
const ENDS: usize = 5;
/// Features of a component on each side.
const FEATURES: usize = 5;

/// A feature's share in a canonical variable.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Contribution {
    /// The feature.
    pub feature: u32,
    /// What it adds to the variable: direction times pooled value less its mean. An absent feature speaks too.
    pub adds: f64,
    /// Whether it is active in the sample on this side.
    pub active: bool,
}

/// A component of a sample's score.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Component {
    /// Its number, from the strongest correlation on.
    pub component: usize,
    /// What it adds to the score, in nats.
    pub nats: f64,
    /// Its canonical correlation.
    pub correlation: f64,
    /// The image's variable.
    pub image: f64,
    /// The text's variable; the score rises where both have one sign.
    pub text: f64,
    /// The image features that add most to it.
    pub image_features: Vec<Contribution>,
    /// The text features.
    pub text_features: Vec<Contribution>,
}

/// Why a sample scores what it scores.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Explanation {
    /// The score: the sum over all components.
    pub pmi: f64,
    /// What raised it most, best first.
    pub carried: Vec<Component>,
    /// What lowered it most, worst first.
    pub sank: Vec<Component>,
}

/// Explains a sample by the fit that scores it; nothing without content on a side.
pub fn explain(fit: &Fit, sample: &PooledSample) -> Option<Explanation> {
    let vectors = fit.chosen.vectors(sample, &fit.options)?;
    let [q, p] = fit.variables(sample)?;
    let parts = |side: usize, j: usize| {
        let width = vectors[side].len();
        let row = &fit.directions[side][j * width..(j + 1) * width];
        let mut parts: Vec<Contribution> = (0..width)
            .map(|i| Contribution {
                feature: fit.chosen.features[side][i],
                adds: row[i] * (vectors[side][i] - fit.means[side][i]),
                active: vectors[side][i] > 0.0,
            })
            .collect();
        parts.sort_by(|a, b| b.adds.abs().total_cmp(&a.adds.abs()).then(a.feature.cmp(&b.feature)));
        parts.truncate(FEATURES);
        parts
    };
    let of = |j: usize| nats(fit.correlations[j], p[j], q[j]);
    let mut order: Vec<usize> = (0..fit.correlations.len()).collect();
    order.sort_by(|a, b| of(*b).total_cmp(&of(*a)).then(a.cmp(b)));
    let component = |j: &usize| Component {
        component: *j,
        nats: of(*j),
        correlation: fit.correlations[*j],
        image: p[*j],
        text: q[*j],
        image_features: parts(IMAGE, *j),
        text_features: parts(TEXT, *j),
    };
    Some(Explanation {
        pmi: fit.score(&q, &p),
        carried: order.iter().take(ENDS).filter(|j| of(**j) > 0.0).map(component).collect(),
        sank: order.iter().rev().take(ENDS).filter(|j| of(**j) < 0.0).map(component).collect(),
    })
}
