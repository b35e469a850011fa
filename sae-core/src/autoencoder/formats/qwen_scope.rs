//! Qwen-Scope: `layerN.sae.pt`, a TopK autoencoder of the residual stream after block N in a PyTorch archive, without a
//! configuration. Only the name of the repository has the number of active features (`...-L0_50`).

use super::arrays::{Arrays, plain, turned};
use super::saved::{Origin, Saved};
use super::torch;
use crate::autoencoder::{Activation, Architecture, Weights};
use crate::error::{Cause, Hint, Setting};
use crate::{Error, Result, store};
use std::path::{Path, PathBuf};

/// The pattern of file names, for messages.
pub const WEIGHTS: &str = "layerN.sae.pt";

/// The block of a file, if its name is that of this format.
pub fn layer(path: &Path) -> Option<usize> {
    path.file_name()?.to_str()?.strip_prefix("layer")?.strip_suffix(".sae.pt")?.parse().ok()
}

/// The files of this format in a folder, by their blocks.
pub fn files(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let mut files: Vec<_> = entries.map(|entry| entry.path()).filter(|path| layer(path).is_some()).collect();
    files.sort_by_key(|path| layer(path));
    files
}

/// The file of a path: the path itself, or the only such file in the folder.
pub fn file(path: &Path) -> Option<PathBuf> {
    if path.is_file() {
        return layer(path).map(|_| path.to_path_buf());
    }
    let mut files = files(path);
    (files.len() == 1).then(|| files.remove(0))
}

/// Reads a file; `k`, if given, overrides the name of the folder.
///
/// # Errors
/// `k` is neither given nor in the name.
pub fn load(path: &Path, k: Option<usize>) -> Result<Saved> {
    let path = &file(path).ok_or_else(|| {
        let hint = "name one of the files in the folder".into();
        Error::run(path, Cause::with_hint(format!("expected one file {WEIGHTS}"), hint))
    })?;
    let named = named(path);
    let k = k.or(named.as_ref().map(|(_, k)| *k)).ok_or_else(|| {
        let cause = "the file does not say how many features are active, nor does a folder's name (...-L0_50)";
        Error::format(path)(Cause::with_hint(cause, Hint::Set(Setting::ActiveFeatures, Vec::new())))
    })?;
    let file = Arrays::open(path, torch::entries)?;
    let [f, d] = file.matrix("W_enc")?;
    let wanted = [plain("W_enc", &[f, d]), plain("b_enc", &[f]), turned("W_dec", [d, f]), plain("b_dec", &[d])];
    let [w_enc, b_enc, w_dec, b_dec] = file.take(wanted)?;
    let activation = Activation::TopK { k };
    // Nothing is subtracted from inputs: the model card encodes `x W_enc^T + b_enc`.
    let weights = Weights { d_in: d, d_sae: f, w_enc, b_enc, w_dec, b_dec, activation, ..Weights::default() };
    let layer = layer(path).unwrap_or_default();
    let model = named.map(|(model, _)| model).unwrap_or_default();
    let origin = Origin { model, hook: store::hook(layer), layer, ..Origin::default() };
    Ok(Saved { architecture: Architecture::TopK, weights, origin })
}

/// The model and `k` in the name of the innermost folder that is called like a repository of this format, such as
/// `SAE-Res-Qwen3-8B-Base-W64K-L0_50` or `models--Qwen--SAE-Res-...`.
fn named(path: &Path) -> Option<(String, usize)> {
    let path = std::path::absolute(path).ok()?;
    path.ancestors().skip(1).find_map(|folder| {
        let (name, k) = folder.file_name()?.to_str()?.rsplit_once("-L0_")?;
        let model =
            name.rsplit_once("SAE-Res-").map_or("", |(_, rest)| rest.rsplit_once("-W").map_or(rest, |(m, _)| m));
        Some((model.to_string(), k.parse().ok()?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_models_and_k_are_read_from_names() {
        assert_eq!(["layer3.sae.pt", "layer12.sae.pt"].map(|name| layer(Path::new(name))), [Some(3), Some(12)]);
        assert_eq!(["layer.sae.pt", "layer3.pt", "xlayer3.sae.pt"].map(|name| layer(Path::new(name))), [None; 3]);
        for (path, expected) in [
            ("SAE-Res-Qwen3-8B-Base-W64K-L0_50/layer3.sae.pt", Some(("Qwen3-8B-Base", 50))),
            ("models--Qwen--SAE-Res-Qwen3.5-27B-W80K-L0_100/snapshots/0a/layer3.sae.pt", Some(("Qwen3.5-27B", 100))),
            ("mine-L0_8/layer0.sae.pt", Some(("", 8))),
            ("mine-L0_many/layer0.sae.pt", None),
            ("qwen/layer0.sae.pt", None),
        ] {
            assert_eq!(named(Path::new(path)), expected.map(|(model, k)| (model.to_string(), k)), "{path}");
        }
    }
}
