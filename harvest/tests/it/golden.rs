//! Reads the golden folders (`tests/golden`, written by the Python scripts there). A missing folder fails the test.

use harvest::data::{Turn, TurnPart, Video};
use sae_core::store::sample::Role;
use sae_core::tensors::Tensors;
use serde_json::Value;
use std::path::{Path, PathBuf};

pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// A golden folder: what `transformers` computed for a few samples.
pub struct Golden {
    pub folder: PathBuf,
    pub tensors: Tensors,
    /// What is at the hooks within blocks; the folders of videos have none.
    pub hooks: Option<Tensors>,
    pub samples: Vec<Sample>,
}

pub struct Sample {
    pub name: String,
    pub turns: Vec<Turn>,
    pub generate: bool,
    pub images: Vec<Vec<u8>>,
    /// Describes the video whose frames the images are, if it has one.
    pub video: Option<Video>,
}

impl Golden {
    /// A folder with a checkpoint, its images and `samples.json` next to the golden tensors.
    pub fn open(name: &str) -> Self {
        Self::at(&repository().join("tests/golden").join(name))
    }

    /// The same for any path.
    pub fn at(folder: &Path) -> Self {
        let folder = folder.to_path_buf();
        let samples = folder.join("samples.json");
        let samples = std::fs::read(&samples).unwrap_or_else(|e| panic!("{}: {e}", samples.display()));
        let samples: Vec<Value> = serde_json::from_slice(&samples).unwrap();
        let samples = samples.iter().map(|sample| read_sample(&folder, sample)).collect();
        let hooks = folder.join("golden.hooks.safetensors");
        let hooks = hooks.exists().then(|| Tensors::open(&hooks).unwrap());
        Self { tensors: Tensors::open(&folder.join("golden.safetensors")).unwrap(), hooks, folder, samples }
    }

    /// Shape and values of a sample's tensor, if there is one with this name.
    pub fn get(&self, sample: &str, name: &str) -> Option<(Vec<usize>, Vec<f32>)> {
        let name = format!("{sample}.{name}");
        let shape = self.tensors.shape(&name)?.to_vec();
        Some((shape.clone(), self.tensors.f32(&name, &shape).unwrap()))
    }

    pub fn bytes(&self, sample: &str, name: &str) -> Option<&[u8]> {
        self.tensors.bytes(&format!("{sample}.{name}")).map(|(_, bytes)| bytes)
    }

    pub fn ids(&self, sample: &str) -> Vec<u32> {
        let (_, bytes) = self.tensors.bytes(&format!("{sample}.ids")).expect("golden ids");
        bytes.as_chunks().0.iter().map(|id| i64::from_le_bytes(*id) as u32).collect()
    }
}

fn read_sample(folder: &Path, sample: &Value) -> Sample {
    let (mut images, mut video) = (Vec::new(), None);
    let read = |path: &str| std::fs::read(folder.join(path)).unwrap();
    let turns = sample["messages"].as_array().unwrap().iter().map(|message| {
        let parts = parts(&message["content"]).into_iter().map(|part| match part["path"].as_str() {
            Some(path) => {
                images.push(read(path));
                TurnPart::Image(images.len() - 1)
            }
            None if part["type"] == "video" => {
                images = part["frames"].as_array().unwrap().iter().map(|path| read(path.as_str().unwrap())).collect();
                video = Some(Video { fps: part["fps"].as_f64() });
                TurnPart::Video
            }
            None => TurnPart::Text(part["text"].as_str().unwrap().to_owned()),
        });
        let role = if message["role"] == "assistant" { Role::Assistant } else { Role::User };
        Turn { role, parts: parts.collect() }
    });
    let turns = turns.collect();
    let (name, generate) = (sample["name"].as_str().unwrap(), sample["add_generation_prompt"].as_bool().unwrap());
    Sample { name: name.to_owned(), turns, generate, images, video }
}

/// The content of a message as parts. In text-only families it is a string.
fn parts(content: &Value) -> Vec<Value> {
    match content {
        Value::String(text) => vec![serde_json::json!({"type": "text", "text": text})],
        parts => parts.as_array().unwrap().clone(),
    }
}

/// `||a - b|| / ||b||`.
pub fn relative_error(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len());
    let square = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>();
    let difference = square(&mut a.iter().zip(b).map(|(a, b)| f64::from(*a) - f64::from(*b)));
    (difference / square(&mut b.iter().map(|b| f64::from(*b)))).sqrt()
}
