//! Explains the score of a sample: the components that raised or lowered it most, with the image and text features that
//! contribute most to each.

use super::{Fit, nats};
use crate::definition::{IMAGE, TEXT};
use crate::pooling::PooledSample;
use serde::Serialize;

/// Number of components of an explanation in each direction.
const ENDS: usize = 5;
/// Number of features of a component on each side.
const FEATURES: usize = 5;

/// The contribution of a feature to a canonical variable.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Contribution {
    /// The feature.
    pub feature: u32,
    /// The contribution: direction times the difference of the pooled value from its mean. A feature that is not active
    /// contributes, too.
    pub adds: f64,
    /// Whether it is active in the sample on this side.
    pub active: bool,
}

/// A component of a sample's score.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Component {
    /// The number of the component. The first one has the strongest correlation.
    pub component: usize,
    /// The contribution to the score, in nats.
    pub nats: f64,
    /// The canonical correlation.
    pub correlation: f64,
    /// The canonical variable of the image.
    pub image: f64,
    /// The canonical variable of the text. The score rises if both variables have the same sign.
    pub text: f64,
    /// The image features that contribute most.
    pub image_features: Vec<Contribution>,
    /// The text features that contribute most.
    pub text_features: Vec<Contribution>,
}

/// An explanation of the score of a sample.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Explanation {
    /// The score, which is the sum of the contributions of all components.
    pub pmi: f64,
    /// The components that raised the score most, strongest first.
    pub carried: Vec<Component>,
    /// The components that lowered the score most, strongest first.
    pub sank: Vec<Component>,
}

/// Explains the score that a fit gives to a sample. Nothing if the sample lacks content on one side.
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
    let nats_of = |j: usize| nats(fit.correlations[j], p[j], q[j]);
    let mut order: Vec<usize> = (0..fit.correlations.len()).collect();
    order.sort_by(|a, b| nats_of(*b).total_cmp(&nats_of(*a)).then(a.cmp(b)));
    let component = |j: &usize| Component {
        component: *j,
        nats: nats_of(*j),
        correlation: fit.correlations[*j],
        image: p[*j],
        text: q[*j],
        image_features: parts(IMAGE, *j),
        text_features: parts(TEXT, *j),
    };
    Some(Explanation {
        pmi: fit.score(&q, &p),
        carried: order.iter().take(ENDS).filter(|j| nats_of(**j) > 0.0).map(component).collect(),
        sank: order.iter().rev().take(ENDS).filter(|j| nats_of(**j) < 0.0).map(component).collect(),
    })
}
