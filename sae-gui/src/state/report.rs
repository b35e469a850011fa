//! What a run says about itself: `run.json`, the logs of trainings, evaluations. Plain data; reads no file.

use sae_core::train::StepLog;
use serde_json::Value;

/// What the Run page shows.
#[derive(Clone, Debug)]
pub struct RunReport {
    /// The entries of `run.json`, or why it cannot be read.
    pub record: Result<Vec<(String, Value)>, String>,
    /// Training curves by autoencoder.
    pub logs: Vec<(String, Result<Vec<StepLog>, String>)>,
    /// The results of `sae eval` by autoencoder.
    pub evaluations: Vec<(String, Result<Value, String>)>,
}
