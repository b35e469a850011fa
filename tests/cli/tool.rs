//! Running `sae` and making small inputs for it. Every test has a folder of its own.

use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A folder of the repository.
pub fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// A tiny random LLaVA of three decoder blocks, 32 wide.
pub fn tiny_model() -> PathBuf {
    repository("tests/golden/llava-a")
}

/// Tensors of a checkpoint by name: their shapes and values.
pub type ModelTensors = BTreeMap<String, (Vec<usize>, Vec<f32>)>;

/// A copy of the tiny model, and its tensors after `edit`.
pub fn edited_model(folder: &Path, edit: impl FnOnce(&mut ModelTensors)) -> ModelTensors {
    fs::create_dir_all(folder).unwrap();
    for file in fs::read_dir(tiny_model()).unwrap().map(|file| file.unwrap().path()).filter(|file| file.is_file()) {
        fs::copy(&file, folder.join(file.file_name().unwrap())).unwrap();
    }
    let path = folder.join("model.safetensors");
    let bytes = fs::read(&path).unwrap();
    let floats = |tensor: TensorView| {
        let values = tensor.data().as_chunks::<4>().0.iter().map(|value| f32::from_le_bytes(*value)).collect();
        (tensor.shape().to_vec(), values)
    };
    let mut tensors: ModelTensors =
        SafeTensors::deserialize(&bytes).unwrap().tensors().into_iter().map(|(name, t)| (name, floats(t))).collect();
    edit(&mut tensors);
    let bytes = |values: &[f32]| values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>();
    let data: Vec<_> = tensors.iter().map(|(name, (shape, values))| (name, shape, bytes(values))).collect();
    let views =
        data.iter().map(|(name, shape, data)| (name, TensorView::new(Dtype::F32, shape.to_vec(), data).unwrap()));
    fs::write(&path, safetensors::serialize(views, None).unwrap()).unwrap();
    tensors
}

/// The program, ready to get arguments.
pub fn sae() -> Command {
    Command::new(env!("CARGO_BIN_EXE_sae"))
}

/// Runs the program and returns what it printed as JSON.
pub fn json(args: &[&str]) -> serde_json::Value {
    let output = sae().args(args).arg("--json").output().unwrap();
    assert!(output.status.success(), "sae {args:?}: {}", said(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Runs the program, expects failure with this status, and returns what it said.
pub fn fails(status: i32, args: &[&str]) -> String {
    let output = sae().args(args).output().unwrap();
    assert_eq!(output.status.code(), Some(status), "sae {args:?}: {}", said(&output));
    assert!(output.stdout.is_empty(), "a failure prints no result");
    said(&output)
}

/// What went to stderr.
pub fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A LLaVA data set of `rows` rows over the tiny model's images, of different lengths.
pub fn data_set(dir: &Path, rows: usize) -> PathBuf {
    let images = ["wide", "tall", "square", "grey", "rgba", "palette"];
    fs::create_dir_all(dir.join("images")).unwrap();
    for image in images {
        let file = format!("images/{image}.png");
        fs::copy(tiny_model().join(&file), dir.join(&file)).unwrap();
    }
    let row = |n: usize| {
        serde_json::json!({
            "id": format!("row-{n}"),
            "image": format!("images/{}.png", images[n % images.len()]),
            "conversations": [
                { "from": "human", "value": "<image>\nWhat is this?" },
                { "from": "gpt", "value": "A square. ".repeat(1 + n * 7 % 5) },
            ],
        })
        .to_string()
    };
    let path = dir.join("data.jsonl");
    fs::write(&path, (0..rows).map(|n| row(n) + "\n").collect::<String>()).unwrap();
    path
}

/// Every file below a folder with its bytes; those that hold the time are left out.
pub fn files(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()) {
        let name = PathBuf::from(entry.file_name().unwrap());
        if entry.is_dir() {
            all.extend(files(&entry).into_iter().map(|(path, bytes)| (name.join(path), bytes)));
        } else if !["run.json", "manifest.json", "cfg.json"].contains(&name.to_str().unwrap()) {
            all.insert(name, fs::read(&entry).unwrap());
        }
    }
    all
}
