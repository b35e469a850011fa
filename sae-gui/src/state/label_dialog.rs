//! Asking a language model for labels: which features, which endpoint, what it will cost. Asks nothing: the program `sae` does.

use super::invocation::Invocation;
use super::run_info::RunInfo;
use serde::{Deserialize, Serialize};

/// An OpenAI-compatible endpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LabelEndpoint {
    /// Its base address; `/chat/completions` is added.
    pub url: String,
    /// The model, which becomes the author of the labels.
    pub model: String,
}

/// An estimate of what labeling will cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LabelCost {
    /// Features that have no label yet.
    pub to_label: usize,
    /// Features that have one, which is kept.
    pub labeled_already: usize,
    /// Requests that are sent.
    pub requests: u64,
    /// Pictures in them.
    pub pictures: u64,
    /// Tokens of the requests, pictures included.
    pub tokens_in: u64,
    /// Tokens of the answers.
    pub tokens_out: u64,
}

/// The open dialog.
#[derive(Clone, Debug, Default)]
pub struct LabelDialog {
    /// The features.
    pub features: Vec<u32>,
    /// The endpoint, as it is typed.
    pub endpoint: LabelEndpoint,
    /// What it will cost, or why that cannot be said; nothing while it is computed.
    pub cost: Option<Result<LabelCost, String>>,
    /// Whether the command has been started from here.
    pub started: bool,
}

impl LabelDialog {
    /// Asks about these features.
    pub fn new(features: Vec<u32>, endpoint: LabelEndpoint) -> Self {
        Self { features, endpoint, ..Self::default() }
    }

    /// Whether everything is known that the command needs, and there is something to label.
    pub fn is_ready(&self) -> bool {
        let typed = [&self.endpoint.url, &self.endpoint.model].iter().all(|text| !text.trim().is_empty());
        typed && matches!(self.cost, Some(Ok(LabelCost { to_label: 1.., .. })))
    }

    /// The command that asks.
    pub fn invocation(&self, info: &RunInfo) -> Invocation {
        let (url, model) = (self.endpoint.url.trim(), self.endpoint.model.trim());
        Invocation::label(info, info.sae_name(), &self.features, url, model)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_asked_before_the_cost_is_known() {
        let endpoint = LabelEndpoint { url: "http://localhost:8000/v1".into(), model: "m".into() };
        let mut dialog = LabelDialog::new(vec![3, 7], endpoint);
        assert!(!dialog.is_ready());
        dialog.cost = Some(Ok(LabelCost { to_label: 0, labeled_already: 2, ..LabelCost::default() }));
        assert!(!dialog.is_ready(), "both have labels");
        dialog.cost = Some(Ok(LabelCost { to_label: 2, ..LabelCost::default() }));
        assert!(dialog.is_ready());
        dialog.endpoint.model = " ".into();
        assert!(!dialog.is_ready());
    }

    #[test]
    fn the_command_names_the_features_and_the_endpoint() {
        let endpoint = LabelEndpoint { url: " http://localhost:8000/v1 ".into(), model: "my model".into() };
        let info = RunInfo { root: "/run".into(), sae: Some("base".into()), ..RunInfo::default() };
        let line = LabelDialog::new(vec![3, 7], endpoint).invocation(&info).command_line();
        let expected =
            "sae label --run /run --sae base --features 3,7 --url http://localhost:8000/v1 --model 'my model' --yes";
        assert_eq!(line, expected);
    }
}
