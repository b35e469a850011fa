//! A copy of a golden checkpoint whose files a test may change.

use crate::bad_input::edit;
use crate::golden::{Golden, relative_error};
use crate::parity::inputs;
use harvest::Checkpoint;
use harvest::model::{Compute, Input};
use sae_core::store::Hook;
use sae_core::tensors::Tensors;
use serde_json::{Map, Value};
use std::fs;
use std::path::PathBuf;
use tempfile::TempDir;

pub const HOST: Compute = Compute::Host { bf16: false };

/// A copy of a golden checkpoint in a temporary folder, without the tensors that were computed from it.
pub struct CheckpointCopy {
    _dir: TempDir,
    pub folder: PathBuf,
    pub golden: Golden,
}

impl CheckpointCopy {
    pub fn new(name: &str) -> Self {
        let golden = Golden::open(name);
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join(name);
        fs::create_dir(&folder).unwrap();
        for path in fs::read_dir(&golden.folder).unwrap().map(|entry| entry.unwrap().path()) {
            let name = path.file_name().unwrap().to_str().unwrap();
            if path.is_file() && !name.starts_with("golden.") && name != "samples.json" {
                fs::copy(&path, folder.join(name)).unwrap();
            }
        }
        Self { _dir: dir, folder, golden }
    }

    pub fn path(&self, file: &str) -> PathBuf {
        self.folder.join(file)
    }

    pub fn read(&self, file: &str) -> Value {
        serde_json::from_slice(&fs::read(self.path(file)).unwrap()).unwrap()
    }

    pub fn write(&self, file: &str, value: &Value) {
        fs::write(self.path(file), value.to_string()).unwrap();
    }

    pub fn edit(&self, change: impl FnOnce(&mut Value)) {
        edit(&self.path("config.json"), change);
    }

    pub fn open(&self) -> Checkpoint {
        Checkpoint::open(&self.folder).unwrap()
    }

    /// The error when the whole model is loaded, with its hint.
    pub fn error(&self) -> String {
        let loaded = Checkpoint::open(&self.folder).and_then(|checkpoint| checkpoint.load(None, &HOST));
        let error = loaded.map(|_| ()).expect_err("a bad checkpoint");
        let hint = error.hint().map(|hint| format!("\nhint: {hint}")).unwrap_or_default();
        format!("{error}{hint}")
    }

    /// Rewrites a file of weights: `rename` returns the new name of a tensor, or nothing if the tensor is dropped.
    pub fn rewrite(&self, from: &str, to: &str, rename: impl Fn(&str) -> Option<String>) {
        let tensors = Tensors::open(&self.path(from)).unwrap();
        let named = tensors.names().into_iter().filter_map(|name| Some((rename(&name)?, name)));
        let read: Vec<_> = named
            .map(|(new, name)| {
                let shape = tensors.shape(&name).unwrap().to_vec();
                let values = tensors.f32(&name, &shape).unwrap();
                (new, shape, values)
            })
            .collect();
        let tensors: Vec<_> =
            read.iter().map(|(name, shape, values)| (name.as_str(), &shape[..], &values[..])).collect();
        let path = self.path(&format!("{to}.new"));
        sae_core::tensors::write(&path, safetensors::Dtype::F32, &tensors).unwrap();
        fs::rename(path, self.path(to)).unwrap();
    }

    /// Compares the copy with what `transformers` computed for the original checkpoint.
    pub fn check_equals_the_original(&self) {
        let checkpoint = self.open();
        let last = checkpoint.config().text.layers.len() - 1;
        let model = checkpoint.load(Some(last), &HOST).unwrap();
        for (sample, input) in self.golden.samples.iter().zip(inputs(&self.golden, &checkpoint)) {
            assert_eq!(input.ids, self.golden.ids(&sample.name), "{}", sample.name);
            let (_, expected) = self.golden.get(&sample.name, "blocks_out").unwrap();
            let hidden = model.hidden(&[&input], &[Hook::block(last)]).unwrap();
            let error = relative_error(hidden.rows(0, 0), &expected);
            assert!(error < 1e-4, "{}: relative error {error}", sample.name);
        }
    }

    /// Negative log-likelihoods of the last five tokens of each sample.
    pub fn likelihoods(&self) -> Vec<Vec<f32>> {
        let checkpoint = self.open();
        let model = checkpoint.load(None, &HOST).unwrap();
        let inputs = inputs(&self.golden, &checkpoint);
        let nll = |input: &Input| {
            let positions: Vec<usize> = (input.ids.len() - 5..input.ids.len()).collect();
            model.nll(&[input], std::slice::from_ref(&positions)).unwrap().remove(0)
        };
        inputs.iter().map(nll).collect()
    }

    pub fn golden_processor(&self) -> Map<String, Value> {
        let path = self.golden.folder.join("preprocessor_config.json");
        serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
    }
}
