//! What is known about an open run as a whole, and what the loader hands over when it has opened one. Plain data.

use sae_core::analysis::index::{CROSS_RATIO, FeatureRow};
use sae_core::analysis::labels::Labels;
use sae_core::store::Sides;
use sae_workbench::feature_table::{PositionCounts, TypicalWords};
use std::path::{Path, PathBuf};

/// An autoencoder of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SaeInfo {
    /// Its name.
    pub name: String,
    /// Whether its training is finished.
    pub trained: bool,
    /// Whether it has a feature index.
    pub indexed: bool,
    /// Whether it has a score table.
    pub scored: bool,
}

impl SaeInfo {
    /// What it lacks, for a list of autoencoders; empty if it lacks nothing.
    pub fn remark(&self) -> &'static str {
        match (self.indexed, self.trained) {
            (true, _) => "",
            (false, true) => "no feature index",
            (false, false) => "training not finished",
        }
    }
}

/// Why a feature has its class, in a sentence.
pub fn class_reason(positions: &PositionCounts, row: &FeatureRow) -> String {
    use super::format::{percent, real};
    let (Some(text), Some(image)) = (positions.rate_text(row), positions.rate_image(row)) else {
        return "The index does not say how many positions of each modality there are.".into();
    };
    let [first, second] = positions.sides.names();
    let rates =
        format!("{} of the {first} positions and at {} of the {second} positions", percent(text), percent(image));
    match (row.class.as_str(), positions.ratio(row)) {
        ("dead", _) => "Dead: it fires at no position of this run.".into(),
        ("action", _) if positions.sides == Sides::default() => {
            "Class action: it fires on actions of an agent, and at no position of text or images.".into()
        }
        ("other", _) => format!("Class other: it fires at no {first} and no {second} position."),
        ("cross", Some(ratio)) => format!(
            "Cross-modal: it fires at {rates}. The rates differ by a factor of {}; up to {CROSS_RATIO} counts as cross.",
            real(ratio)
        ),
        (class, Some(ratio)) => format!(
            "Class {class}: it fires at {rates}. The rates differ by a factor of {}; up to {CROSS_RATIO} would count as \
             cross.",
            real(ratio)
        ),
        (class, None) => format!("Class {class}: it fires at {rates}."),
    }
}

/// The model that a run was captured from, and how it read the data.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CapturedModel {
    /// Its folder, if `run.json` says where it was.
    pub folder: Option<PathBuf>,
    /// The number format in which it computed, as the program `sae` names it.
    pub dtype: String,
    /// Whether the chat template was used, as the program `sae` names it.
    pub template: String,
    /// The address of the server that has the run, if it is on another machine, and its model with it.
    pub served: Option<String>,
}

impl CapturedModel {
    /// The folder, if the model is still there.
    ///
    /// # Errors
    /// What to do about it.
    pub fn open(&self) -> Result<&PathBuf, String> {
        if let Some(address) = &self.served {
            let reason = format!("This run is read from {address}, and its model is not run here.");
            return Err(format!("{reason}\nhint: `sae-gui` and `sae generate` run it where the run is"));
        }
        let folder = self.folder.as_ref();
        let folder = folder.ok_or("run.json does not say where the model is, so there is nothing to run.")?;
        if folder.is_dir() {
            return Ok(folder);
        }
        let folder = folder.display();
        Err(format!("The model is not where it was when the run was made.\nhint: put it back: {folder}"))
    }
}

/// Where a run is that is read from a server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServedAt {
    /// The address of the server, without the token.
    pub address: String,
    /// The run folder there.
    pub path: PathBuf,
}

impl ServedAt {
    /// The address with the run folder. Another connection to the same run has the same.
    pub fn origin(&self) -> PathBuf {
        let path = self.path.to_string_lossy();
        PathBuf::from(format!("{}/{}", self.address, path.trim_start_matches('/')))
    }
}

/// An open run.
#[derive(Clone, Debug, Default)]
pub struct RunInfo {
    /// The run folder, absolute; of a run that is read from a server, the folder with copies of its tables.
    pub root: PathBuf,
    /// Where it is, if it is read from a server.
    pub served: Option<ServedAt>,
    /// The checkpoint that the activations come from; empty if `run.json` does not say.
    pub model: String,
    /// Number of samples stored.
    pub samples: u64,
    /// Number of positions stored.
    pub positions: u64,
    /// The autoencoder whose features are shown; nothing if the run has none.
    pub sae: Option<String>,
    /// All autoencoders of the run.
    pub saes: Vec<SaeInfo>,
    /// The positions that the index counted.
    pub indexed: PositionCounts,
    /// The activation above which the index counts a feature as active for its weights, if the run says.
    pub threshold: Option<f64>,
    /// Why labels cannot be saved in the folder, if so.
    pub read_only: Option<String>,
    /// A folder beside the run, which does not exist yet, for a filtered data set.
    pub export_folder: PathBuf,
    /// A folder beside the run, which does not exist yet, for an answer of the model.
    pub answer_folder: PathBuf,
    /// The model that the run was captured from.
    pub captured: CapturedModel,
}

impl RunInfo {
    /// The name of the autoencoder whose features are shown; empty if the run has none.
    pub fn sae_name(&self) -> &str {
        self.sae.as_deref().unwrap_or_default()
    }

    /// The autoencoder whose features are shown.
    pub fn sae_info(&self) -> Option<&SaeInfo> {
        self.saes.iter().find(|sae| Some(&sae.name) == self.sae.as_ref())
    }

    /// Why it is not known which features are active where, if so: the autoencoder has no weights.
    pub fn no_weights(&self) -> Option<String> {
        let consequence = "so it is not known which features are active";
        if let Some(ServedAt { address, .. }) = &self.served {
            return Some(format!(
                "This run is read from {address}: heat maps and active features are computed there, and shown in the browser."
            ));
        }
        match self.sae_info() {
            Some(sae) if sae.trained => None,
            Some(sae) => Some(format!("There are no weights in saes/{} yet, {consequence}.", sae.name)),
            None => Some(format!("The run has no autoencoder, {consequence}.")),
        }
    }

    /// The run folder as commands name it: where the run is.
    pub fn path(&self) -> &Path {
        self.served.as_ref().map_or(&self.root, |served| &served.path)
    }

    /// What the run is known by whenever it is opened: its folder, or the address of its server with the folder there. A server of
    /// another run may have the same address later.
    pub fn origin(&self) -> PathBuf {
        self.served.as_ref().map_or_else(|| self.root.clone(), ServedAt::origin)
    }

    /// What links to the run name: its folder, or the address of its server.
    pub fn link(&self) -> PathBuf {
        self.served.as_ref().map_or_else(|| self.root.clone(), |served| PathBuf::from(&served.address))
    }

    /// Why a command is not run here, if so.
    pub fn elsewhere(&self, command_line: &str) -> Option<String> {
        let ServedAt { address, .. } = self.served.as_ref()?;
        Some(format!("This run is read from {address}. Run this there: {command_line}"))
    }

    /// The folder's name.
    pub fn name(&self) -> String {
        self.root.file_name().unwrap_or(self.root.as_os_str()).to_string_lossy().into_owned()
    }
}

/// A run as the loader has opened it.
#[derive(Clone, Debug, Default)]
pub struct OpenedRun {
    /// The run.
    pub info: RunInfo,
    /// The names of its contrasts, sorted.
    pub contrasts: Vec<String>,
    /// The names of the probes of its autoencoder, sorted.
    pub probes: Vec<String>,
    /// The features of its autoencoder, as `features.parquet` lists them; empty if there is no index.
    pub rows: Vec<FeatureRow>,
    /// Typical words of every feature, in the order of the features; may be shorter.
    pub typical_words: Vec<TypicalWords>,
    /// Why there are no features, and what to do about it.
    pub no_features: Option<String>,
    /// What is written about the features, and why it cannot be read, if so.
    pub labels: (Labels, Option<String>),
    /// Who edits.
    pub author: String,
    /// What a person should know about the way in which it was opened, such as that a subfolder was named.
    pub notice: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_autoencoder_without_weights_is_named() {
        let sae = SaeInfo { name: "base".into(), ..SaeInfo::default() };
        let mut info = RunInfo { saes: vec![sae], sae: Some("base".into()), ..RunInfo::default() };
        assert!(info.no_weights().unwrap().contains("saes/base"));
        info.saes[0].trained = true;
        assert_eq!(info.no_weights(), None);
        info.sae = None;
        assert!(info.no_weights().unwrap().contains("no autoencoder"));
    }

    #[test]
    fn the_class_is_explained_by_the_two_rates() {
        let positions = PositionCounts { all: 67_394, text: 13_442, image: 53_952, ..PositionCounts::default() };
        let row = |class: &str, fires_text, fires_image| FeatureRow {
            class: class.into(),
            fires_text,
            fires_image,
            ..FeatureRow::default()
        };
        let cross = class_reason(&positions, &row("cross", 443, 7_624));
        let expected = "Cross-modal: it fires at 3.3% of the text positions and at 14% of the image positions. The rates \
                        differ by a factor of 4.29; up to 10 counts as cross.";
        assert_eq!(cross, expected);
        assert!(class_reason(&positions, &row("text", 443, 0)).ends_with("at 0% of the image positions."));
        assert!(class_reason(&positions, &row("image", 4, 7_624)).contains("would count as cross"));
        assert!(class_reason(&positions, &row("dead", 0, 0)).starts_with("Dead"));
        assert!(class_reason(&PositionCounts::default(), &row("text", 1, 0)).contains("does not say"));
        let sides = PositionCounts { sides: "action:image,text".parse().unwrap(), ..positions };
        let reason = class_reason(&sides, &row("action", 443, 0));
        assert!(reason.contains("of the action positions and at 0% of the image,text positions"), "{reason}");
        assert!(class_reason(&sides, &row("other", 0, 0)).contains("at no action and no image,text position"));
    }
}
