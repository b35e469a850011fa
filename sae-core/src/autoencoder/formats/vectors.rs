//! Decoder directions of chosen features as a safetensors file, for programs that add them to hidden states. Is only written.

use super::{Origin, Saved};
use crate::Result;
use crate::tensors::{Raw, from_f32, write_raw};
use crate::vector::norm_sq;
use safetensors::Dtype;
use std::collections::BTreeMap;
use std::path::Path;

/// The length of the decoder direction of each feature.
pub fn direction_norms(saved: &Saved, features: &[u32]) -> Vec<f32> {
    features.iter().map(|feature| norm_sq(saved.weights.direction(*feature as usize)).sqrt()).collect()
}

/// Writes the decoder directions of features: the tensor `vectors`, `[features, d_out]`, the length of each in `norms`, and, if they are
/// known, the largest activations in `largest`. The metadata name the features, the hook whose
/// states have these directions, the layer and the model.
///
/// # Errors
/// The file cannot be written.
///
/// # Panics
/// If the autoencoder has no such feature, or `largest` has another length than `features`.
pub fn write_directions(path: &Path, saved: &Saved, features: &[u32], largest: Option<&[f32]>) -> Result<()> {
    assert!(largest.is_none_or(|largest| largest.len() == features.len()), "a number for each feature");
    let vectors: Vec<f32> =
        features.iter().flat_map(|feature| saved.weights.direction(*feature as usize)).copied().collect();
    let norms = direction_norms(saved, features);
    let mut tensors = vec![
        ("vectors", vec![features.len(), saved.weights.d_out()], from_f32(Dtype::F32, &vectors)),
        ("norms", vec![features.len()], from_f32(Dtype::F32, &norms)),
    ];
    tensors.extend(largest.map(|largest| ("largest", vec![features.len()], from_f32(Dtype::F32, largest))));
    let raw = tensors.iter().map(|(name, shape, bytes)| {
        let (name, shape) = ((*name).to_owned(), shape.clone());
        Raw { name, dtype: Dtype::F32, shape, bytes }
    });
    let listed = features.iter().map(u32::to_string).collect::<Vec<_>>().join(",");
    // Where a checkpoint lies on this machine concerns nobody else.
    let model = Path::new(&saved.origin.model);
    let name = model.file_name().filter(|_| model.is_absolute()).map(|name| name.to_string_lossy().into_owned());
    let Origin { hook, target, .. } = &saved.origin;
    let texts = [
        ("features", listed),
        ("hook", if target.is_empty() { hook.clone() } else { target.clone() }),
        ("layer", saved.origin.layer.to_string()),
        ("model", name.unwrap_or_else(|| saved.origin.model.clone())),
    ];
    let texts: BTreeMap<String, String> = texts.into_iter().map(|(name, text)| (name.to_owned(), text)).collect();
    write_raw(path, &texts, &raw.collect::<Vec<_>>())
}
