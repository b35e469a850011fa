//! `scores/<name>.pmi.safetensors`: the fits from which a column `pmi` was computed. They explain samples and score other
//! data.

use super::{Chosen, Fit, Folds, Options};
use crate::Result;
use crate::definition::{IMAGE, TEXT};
use sae_core::tensors::{Raw, Tensors, write_raw};
use safetensors::Dtype;
use std::collections::BTreeMap;
use std::path::Path;

/// The names of the two sides in the file.
const SIDES: [&str; 2] = ["text", "image"];
/// Maximum number of features of an autoencoder.
const MOST: usize = 1 << 26;
/// Maximum number of folds.
const MOST_FOLDS: usize = 1000;
/// Version of the layout.
const VERSION: &str = "1";

/// Writes the fits.
///
/// # Errors
/// The file cannot be written.
pub fn write(path: &Path, folds: &Folds, d_sae: usize) -> Result<()> {
    let options = serde_json::to_string(&folds.whole.options).map_err(sae_core::Error::format(path))?;
    let texts = BTreeMap::from([
        ("schema_version".to_string(), VERSION.to_string()),
        ("options".to_string(), options),
        ("samples".to_string(), folds.samples.to_string()),
        ("folds".to_string(), folds.without.len().to_string()),
        ("d_sae".to_string(), d_sae.to_string()),
    ]);
    let mut tensors: Vec<(String, Dtype, Vec<usize>, Vec<u8>)> = Vec::new();
    for side in [IMAGE, TEXT] {
        let features = &folds.whole.chosen.features[side];
        let bytes = features.iter().flat_map(|k| k.to_le_bytes()).collect();
        tensors.push((format!("{}_features", SIDES[side]), Dtype::U32, vec![features.len()], bytes));
    }
    let mut add = |name: String, shape: Vec<usize>, values: &[f64]| {
        tensors.push((name, Dtype::F64, shape, values.iter().flat_map(|v| v.to_le_bytes()).collect()));
    };
    for (prefix, fit) in fits(folds) {
        let components = fit.correlations.len();
        add(format!("{prefix}correlations"), vec![components], &fit.correlations);
        for side in [IMAGE, TEXT] {
            let (name, width) = (SIDES[side], fit.means[side].len());
            add(format!("{prefix}{name}_means"), vec![width], &fit.means[side]);
            add(format!("{prefix}{name}_directions"), vec![components, width], &fit.directions[side]);
        }
    }
    let raw: Vec<Raw> = tensors
        .iter()
        .map(|(name, dtype, shape, bytes)| Raw { name: name.clone(), dtype: *dtype, shape: shape.clone(), bytes })
        .collect();
    Ok(write_raw(path, &texts, &raw)?)
}

fn fits(folds: &Folds) -> impl Iterator<Item = (String, &Fit)> {
    let without = folds.without.iter().enumerate().map(|(n, fit)| (format!("fold-{n}."), fit));
    std::iter::once((String::new(), &folds.whole)).chain(without)
}

/// Reads fits.
///
/// # Errors
/// The file was not written by [`write()`], its sizes contradict each other, or its values are not finite.
pub fn read(path: &Path) -> Result<Folds> {
    let file = Tensors::open(path)?;
    let bad = |cause: String| sae_core::Error::format(path)(cause);
    let text = |name: &str| file.text(name).ok_or_else(|| bad(format!("the header does not say {name}")));
    let number =
        |name: &str| text(name)?.parse::<usize>().map_err(|_| bad(format!("expected a number in the header's {name}")));
    if text("schema_version")? != VERSION {
        return Err(bad(format!("fits of layout {}, this program reads {VERSION}", text("schema_version")?)).into());
    }
    let options: Options = serde_json::from_str(text("options")?).map_err(sae_core::Error::format(path))?;
    let (samples, folds, d_sae) = (number("samples")?, number("folds")?, number("d_sae")?);
    if d_sae > MOST || folds > MOST_FOLDS {
        return Err(bad(format!("{d_sae} features in {folds} folds are more than any fit has")).into());
    }
    let bytes = |name: &str, dtype: Dtype, shape: &[usize]| {
        let found = file.bytes(name).ok_or_else(|| bad(format!("there is no tensor {name}")))?;
        if found.0 != dtype || file.shape(name) != Some(shape) {
            return Err(bad(format!("tensor {name} is not {dtype:?} {shape:?}")));
        }
        Ok(found.1)
    };
    let length = |name: &str| match file.shape(name) {
        Some([length]) => Ok(*length),
        _ => Err(bad(format!("the header lacks the list {name}"))),
    };
    let mut features = [Vec::new(), Vec::new()];
    for side in [TEXT, IMAGE] {
        let name = format!("{}_features", SIDES[side]);
        let words = bytes(&name, Dtype::U32, &[length(&name)?])?.as_chunks::<4>().0;
        features[side] = words.iter().map(|b| u32::from_le_bytes(*b)).collect();
        if features[side].iter().any(|k| *k as usize >= d_sae) || !features[side].is_sorted_by(|a, b| a < b) {
            return Err(bad(format!("{name} are not features of {d_sae}, ascending")).into());
        }
    }
    let chosen = Chosen::new(features, d_sae);
    let values = |name: String, shape: &[usize]| -> Result<Vec<f64>> {
        let words = bytes(&name, Dtype::F64, shape)?.as_chunks::<8>().0;
        let values: Vec<f64> = words.iter().map(|b| f64::from_le_bytes(*b)).collect();
        if values.iter().all(|v| v.is_finite()) {
            Ok(values)
        } else {
            Err(bad(format!("{name} holds values that are not finite")).into())
        }
    };
    let fit = |prefix: &str| -> Result<Fit> {
        let components = length(&format!("{prefix}correlations"))?;
        let correlations = values(format!("{prefix}correlations"), &[components])?;
        if correlations.iter().any(|s| !(0.0..1.0).contains(s)) {
            return Err(bad("correlations outside 0 to 1".into()).into());
        }
        let (mut means, mut directions) = ([Vec::new(), Vec::new()], [Vec::new(), Vec::new()]);
        for side in [TEXT, IMAGE] {
            let (name, width) = (SIDES[side], chosen.features[side].len());
            means[side] = values(format!("{prefix}{name}_means"), &[width])?;
            directions[side] = values(format!("{prefix}{name}_directions"), &[components, width])?;
        }
        Ok(Fit { chosen: chosen.clone(), means, directions, correlations, options })
    };
    let without = (0..folds).map(|n| fit(&format!("fold-{n}."))).collect::<Result<Vec<_>>>()?;
    Ok(Folds { whole: fit("")?, without, samples })
}
