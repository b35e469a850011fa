//! Estimates on a thread what it costs to ask a model for labels, with the operation of `sae label`. Sends nothing.

use super::guarded;
use crate::state::label_dialog::LabelCost;
use sae_core::device::DeviceChoice;
use sae_workbench::{FeatureChoice, LabelRequest, SaeChoice};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, channel};

/// Begins to estimate what labels of these features cost. `wake` is called when the estimate is there.
pub fn estimate(
    run: PathBuf,
    sae: String,
    features: Vec<u32>,
    wake: impl FnOnce() + Send + 'static,
) -> Receiver<Result<LabelCost, String>> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        // The window may be gone, or show something else.
        let _ = sender.send(guarded(|| cost(run, sae, features)));
        wake();
    });
    receiver
}

fn cost(run: PathBuf, sae: String, features: Vec<u32>) -> Result<LabelCost, String> {
    let request = LabelRequest {
        // An estimate encodes nothing.
        sae: SaeChoice { run, sae: Some(sae), device: DeviceChoice::Cpu },
        url: String::new(),
        model: String::new(),
        key: None,
        features: FeatureChoice { limit: features.len(), class: None, features },
        per_minute: 1.0,
        price: None,
    };
    let labeling = request.prepare().map_err(super::message)?;
    let estimate = labeling.estimate();
    Ok(LabelCost {
        to_label: estimate.to_label.len(),
        labeled_already: estimate.labeled_already,
        requests: estimate.about.calls,
        pictures: estimate.about.pictures,
        tokens_in: estimate.about.tokens_in,
        tokens_out: estimate.about.tokens_out,
    })
}
