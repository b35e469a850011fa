//! What a `case.json` says. Unknown keys are errors, so that a typing error is no expectation that always holds.

use crate::tool::repository;
use serde::Deserialize;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

/// A situation and what must come of it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// The folder's name.
    #[serde(skip)]
    pub name: String,
    /// The folder, with the inputs.
    #[serde(skip)]
    pub path: PathBuf,
    /// What kind of files it is about.
    pub area: String,
    /// What the files are like.
    pub situation: String,
    /// Where people met it: `owner/repo#number`.
    pub reports: Vec<String>,
    /// What must happen, and why.
    #[allow(dead_code, reason = "for readers of the case")]
    pub expected: String,
    /// What the program did when the case was written.
    pub before: String,
    /// Why the expectation below is not what one would wish for.
    pub known: Option<String>,
    /// Folders that are made for the case, by the name that `$NAME` stands for.
    #[serde(default)]
    pub folders: BTreeMap<String, Folder>,
    /// Commands in order.
    pub steps: Vec<Step>,
}

/// A folder made from one of the repository: a checkpoint with one thing changed, a cache of the hub.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Folder {
    /// Files of this folder of the repository are copied; those of its subfolders are not.
    pub from: Option<String>,
    /// Where they are copied to, below the new folder.
    pub to: String,
    /// Files that are not copied.
    pub without: Vec<String>,
    /// Files of the case, or `$NAME`s, that are copied: new name to old.
    pub copies: BTreeMap<String, String>,
    /// Files of text.
    pub texts: BTreeMap<String, String>,
    /// Symbolic links and where they lead.
    pub links: BTreeMap<String, String>,
    /// JSON files and what stands where in them, by JSON pointer; what is missing on the way is made.
    pub set: BTreeMap<String, BTreeMap<String, Value>>,
    /// JSON files and what is taken out of them, by JSON pointer.
    pub unset: BTreeMap<String, Vec<String>>,
    /// Changes of a safetensors file.
    pub tensors: BTreeMap<String, TensorChanges>,
}

/// Changes of the tensors of a file.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TensorChanges {
    /// Beginnings of names, old and new.
    pub rename: Vec<(String, String)>,
    /// Tensors of zeros in `f32` that are added, with their shapes.
    pub zeros: BTreeMap<String, Vec<usize>>,
    /// Tensors that are left out.
    pub remove: Vec<String>,
    /// Whether all are stored in `f64`.
    pub wide: bool,
}

/// A command and what comes of it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// Arguments of `sae`, split at spaces. `$IN` is the case's folder, `$OUT` an empty one, `$GOLDEN` `tests/golden`,
    /// and every folder of the case has its name. What a harvest lacks of `--model`, `--layers` and `--run` is added.
    pub sae: String,
    /// Environment variables, with the same names in them.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// The exit status.
    #[serde(default)]
    pub status: i32,
    /// What stderr says.
    #[serde(default)]
    pub says: Vec<String>,
    /// What stderr does not say.
    #[serde(default)]
    pub says_not: Vec<String>,
    /// What is printed as JSON, by JSON pointer.
    #[serde(default)]
    pub prints: BTreeMap<String, Value>,
    /// The run's samples, all of them. Without `skipped`, no row is skipped.
    pub samples: Option<Vec<ExpectedSample>>,
    /// Words in the reasons of the skipped rows, all of them.
    pub skipped: Option<Vec<Vec<String>>>,
    /// Another run whose activations these are.
    pub same_as: Option<Same>,
}

/// What a sample is like, as far as it is said.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExpectedSample {
    pub key: Option<String>,
    pub text: Option<String>,
    /// How many images it has.
    pub images: Option<usize>,
    /// The ids of its tokens as `transformers` has them; -1 for an image position without one.
    pub ids: Option<Vec<i32>>,
    /// Some of its metadata.
    #[serde(default)]
    pub meta: Map<String, Value>,
}

/// A run with the same activations.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Same {
    pub run: String,
    /// How far a value may be off, as a share of the largest one.
    #[serde(default)]
    pub within: f32,
}

impl Case {
    /// All cases, by name.
    pub fn all() -> Vec<Self> {
        let entries = fs::read_dir(repository("tests/wild")).unwrap().map(|entry| entry.unwrap().path());
        let mut folders: Vec<_> = entries.filter(|path| path.join("case.json").is_file()).collect();
        folders.sort();
        folders.into_iter().map(Self::open).collect()
    }

    fn open(path: PathBuf) -> Self {
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let text = fs::read_to_string(path.join("case.json")).unwrap();
        let case: Self = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{name}/case.json: {e}"));
        Self { name, path, ..case }
    }
}
