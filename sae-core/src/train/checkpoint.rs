//! A session on disk, so that an interrupted training continues with the same bits: parameters, moments, dead-feature
//! counts, learned thresholds, random numbers, the log, the mixing buffer and the position in the data.
//!
//! Each checkpoint is a safetensors file, `step-<n>.safetensors`, written to a temporary file, synced and renamed; the one
//! before it is removed only after that. A full disk costs the new checkpoint, never the old one. Everything whose size
//! depends on the buffer or the features is a tensor; the rest is JSON in the header, whose size readers limit.

use super::config::TrainConfig;
use super::engine::TrainState;
use super::log::Log;
use super::params::{self, Params};
use super::trainer::TrainerState;
use super::{Session, Trainer};
use crate::error::{Cause, Hint, Setting};
use crate::tensors::{self, Raw, Tensors, write_raw};
use crate::{Error, Result};
use safetensors::Dtype;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Layout of a checkpoint; others are rejected.
const VERSION: u32 = 5;

/// Everything that is not a tensor.
#[derive(Serialize, Deserialize)]
struct Header {
    version: u32,
    configs: Vec<TrainConfig>,
    progress: Vec<TrainerState>,
    stream: Value,
}

/// Names of a trainer's arrays, in the order of [`Params::arrays`].
const ARRAYS: [&str; params::ARRAYS] = ["w_enc", "w_dec", "b_dec", "number0", "number1", "number2", "w_skip"];

/// The newest checkpoint in a folder, if there is one.
pub fn newest(folder: &Path) -> Option<PathBuf> {
    let entries = fs::read_dir(folder).ok()?.flatten().map(|entry| entry.path());
    entries.filter_map(|path| Some((step_of(&path)?, path))).max().map(|(_, path)| path)
}

/// The step after which a checkpoint was written, from its name.
pub fn step_of(path: &Path) -> Option<u64> {
    path.file_name()?.to_str()?.strip_prefix("step-")?.strip_suffix(".safetensors")?.parse().ok()
}

/// Writes a checkpoint of the session into a folder, and removes older ones. Of several ranks the first writes it, in the layout of a
/// session without ranks.
///
/// # Errors
/// A file that cannot be written, or parameters that are no longer finite. The older checkpoints stay then. A rank that is lost.
pub fn write(folder: &Path, session: &Session) -> Result<PathBuf> {
    let snapshots = session.trainers().iter().map(Trainer::snapshot).collect::<Result<Vec<_>>>()?;
    let path = folder.join(format!("step-{:09}.safetensors", session.steps()));
    let written = if session.is_first() { write_file(&path, session, &snapshots) } else { Ok(()) };
    let failed = session.any(written.is_err())?;
    written?;
    if failed {
        return Err(Error::config("the first rank could not write the checkpoint"));
    }
    Ok(path)
}

fn write_file(path: &Path, session: &Session, snapshots: &[(Cow<'_, TrainState>, TrainerState)]) -> Result<()> {
    let mut header = Header {
        version: VERSION,
        configs: session.trainers().iter().map(|t| t.config().clone()).collect(),
        progress: Vec::new(),
        stream: session.stream.snapshot(),
    };
    let steps = session.steps();
    for (state, _) in snapshots {
        let arrays = kinds(state).into_iter().flat_map(|(_, params)| params.arrays());
        if arrays.into_iter().any(|array| tensors::unstorable(Dtype::F32, array).is_some()) {
            let text = format!("the parameters are no longer finite after step {steps}");
            return Err(Error::config(Cause::with_hint(text, Hint::Lower(Setting::LearningRate))));
        }
    }
    let logs: Vec<Vec<f64>> = session.trainers().iter().map(|t| t.log().numbers()).collect();
    let mut tensors = Vec::new();
    for (n, (state, progress)) in snapshots.iter().enumerate() {
        for (kind, params) in kinds(state) {
            for (name, array) in ARRAYS.iter().zip(params.arrays()) {
                tensors.push(raw(format!("{n}.{kind}.{name}"), Dtype::F32, array));
            }
        }
        tensors.push(raw(format!("{n}.last_fired"), Dtype::U64, &progress.last_fired));
        tensors.push(raw(format!("{n}.log"), Dtype::F64, &logs[n]));
    }
    tensors.push(raw("buffer".into(), Dtype::F32, session.stream.buffer()));
    tensors.push(raw("order".into(), Dtype::U32, session.stream.order()));
    // Wide numbers first, so that all arrays are aligned in a mapped file.
    tensors.sort_by_key(|tensor| std::cmp::Reverse(tensor.dtype.bitsize()));
    header.progress = snapshots.iter().map(|(_, progress)| progress.clone()).collect();
    let text = serde_json::to_string(&header).map_err(Error::format(path))?;
    write_raw(path, &BTreeMap::from([("session".to_string(), text)]), &tensors)?;
    let folder = path.parent().unwrap_or(Path::new(""));
    let older = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    for path in older.filter(|path| step_of(path).is_some_and(|step| step < steps)) {
        let _ = fs::remove_file(path);
    }
    Ok(())
}

/// Restores a session, made with the same configurations and the same data, from a checkpoint.
///
/// # Errors
/// A file that is not a complete checkpoint, or is of other configurations or other data.
pub fn read(path: &Path, session: &mut Session) -> Result<()> {
    let file = Tensors::open(path)?;
    let wrong = |cause: String| Error::format(path)(cause);
    let other = |text: String| {
        let hints = vec!["resume with the settings it was started with".into(), Hint::Change(Setting::SaeName)];
        Error::format(path)(Cause::with_hint(text, Hint::AnyOf(hints)))
    };
    let text = file.text("session").ok_or_else(|| wrong("this is not a checkpoint".into()))?;
    let header: Header = serde_json::from_str(text).map_err(Error::format(path))?;
    if header.version != VERSION {
        return Err(wrong(format!("the checkpoint has layout {}, this program reads {VERSION}", header.version)));
    }
    let configs: Vec<&TrainConfig> = session.trainers.iter().map(Trainer::config).collect();
    if header.configs.len() != configs.len() || header.progress.len() != configs.len() {
        let (found, expected) = (header.configs.len(), configs.len());
        return Err(other(format!("the checkpoint is of {found} autoencoders, not of {expected}")));
    }
    let pairs = header.configs.iter().zip(&configs);
    let differ: Vec<_> = pairs.flat_map(|(found, config)| found.differences(config)).collect();
    if !differ.is_empty() {
        return Err(other(format!("the checkpoint is of other settings: {}", differ.join(", "))));
    }
    let array = |name: &str, len: usize| file.f32(name, &[len]);
    for (n, (trainer, mut progress)) in session.trainers.iter_mut().zip(header.progress).enumerate() {
        let zeros = Params::zeros(trainer.d_in(), trainer.config());
        let mut state = TrainState { params: zeros.clone(), first: zeros.clone(), second: zeros, l0: None };
        for (kind, params) in kinds_mut(&mut state) {
            for (name, values) in ARRAYS.iter().zip(params.arrays_mut()) {
                *values = array(&format!("{n}.{kind}.{name}"), values.len())?;
            }
        }
        let numbers = numbers(&file, &format!("{n}.log"), Dtype::F64, f64::from_le_bytes)?;
        progress.last_fired = self::numbers(&file, &format!("{n}.last_fired"), Dtype::U64, u64::from_le_bytes)?;
        let log = Log::from_numbers(trainer.config().steps, &numbers);
        trainer.restore(state, progress, log)?;
    }
    let buffer = array("buffer", session.stream.buffer().len())?;
    let order = numbers(&file, "order", Dtype::U32, u32::from_le_bytes)?;
    session.stream.restore(&header.stream, order, buffer)
}

/// An array with the bytes that it has in memory.
fn raw<T: bytemuck::NoUninit>(name: String, dtype: Dtype, values: &[T]) -> Raw<'_> {
    Raw { name, dtype, shape: vec![values.len()], bytes: bytemuck::cast_slice(values) }
}

/// The numbers of a tensor that must have this dtype.
fn numbers<T, const N: usize>(
    file: &Tensors,
    name: &str,
    dtype: Dtype,
    from_bytes: fn([u8; N]) -> T,
) -> Result<Vec<T>> {
    let wrong = |cause: String| Error::format(file.path())(cause);
    let (found, bytes) = file.bytes(name).ok_or_else(|| wrong(format!("there is no {name}")))?;
    if found != dtype {
        return Err(wrong(format!("{name} is {found:?}, expected {dtype:?}")));
    }
    Ok(bytes.as_chunks().0.iter().map(|bytes| from_bytes(*bytes)).collect())
}

fn kinds(state: &TrainState) -> [(&'static str, &Params); 3] {
    [("value", &state.params), ("first", &state.first), ("second", &state.second)]
}

fn kinds_mut(state: &mut TrainState) -> [(&'static str, &mut Params); 3] {
    [("value", &mut state.params), ("first", &mut state.first), ("second", &mut state.second)]
}
