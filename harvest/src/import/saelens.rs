//! Caches of SAELens' `CacheActivationsRunner`: a Hugging Face data set of Arrow streams, with one row per context and
//! one column per hook. A stream is read one record batch at a time. Type information for Python in the metadata is
//! ignored.

use super::cache::{Cache, Captured, check_finite, file_name, piece_from_id, unknown_token};
use super::request::Import;
use crate::data::saved;
use crate::ipc::{self, Batches};
use crate::{Error, Result};
use arrow::array::{Array, AsArray, Int32Array, RecordBatch};
use arrow::datatypes::{DataType, Float16Type, Float32Type, Int32Type};
use sae_core::error::{Hint, Setting};
use sae_core::file;
use sae_core::store::StoreDtype;
use sae_core::store::sample::{Modality, Token};
use serde::Deserialize;
use serde_json::{Map, Value};
use std::path::Path;

#[derive(Deserialize)]
struct Info {
    features: Map<String, Value>,
}

/// The column of activations, and the shape of one context in it.
#[derive(Clone)]
struct Shape {
    column: String,
    positions: usize,
    d_in: usize,
}

pub(super) fn open(import: &Import) -> Result<Cache> {
    let folder = &import.path;
    let (info_path, state_path) = (folder.join("dataset_info.json"), folder.join("state.json"));
    let info: Info = file::read_json(&info_path, 1 << 24)?;
    let streams = saved::files(folder)?;
    let (shape, half) = shape(&info_path, &info.features, import.column.as_deref())?;
    import.check_length(shape.positions)?;
    let hook = import.hook(&shape.column)?;
    let mut files = vec![info_path, state_path];
    files.extend(streams.iter().cloned());
    let contexts = streams.iter().map(|path| ipc::count(path)).sum::<Result<u64>>()?;
    let rows = contexts.saturating_mul(shape.positions as u64);
    let d_in = shape.d_in;
    let mut number = 0u64;
    let samples = streams.into_iter().flat_map(move |path| {
        let (shape, mut row) = (shape.clone(), 0);
        let batches: Box<dyn Iterator<Item = Result<RecordBatch>>> = match Batches::open(&path) {
            Ok(batches) => Box::new(batches),
            Err(error) => Box::new(std::iter::once(Err(error))),
        };
        batches.flat_map(move |batch| {
            let samples = batch.and_then(|batch| contexts_of(&path, &shape, &batch, row));
            let samples = match samples {
                Ok(samples) => samples.into_iter().map(Ok).collect(),
                Err(error) => vec![Err(error)],
            };
            row += samples.len() as u64;
            samples
        })
    });
    let samples = samples.map(move |sample| {
        let mut sample: Captured = sample?;
        sample.key = number.to_string();
        number += 1;
        Ok(sample)
    });
    let dtype = if half { StoreDtype::F16 } else { StoreDtype::F32 };
    Ok(Cache { hooks: vec![hook], d_in, dtype, model: "unknown".into(), files, rows, samples: Box::new(samples) })
}

/// The column of activations with its shape, and whether it holds `f16`.
fn shape(path: &Path, features: &Map<String, Value>, asked: Option<&str>) -> Result<(Shape, bool)> {
    let arrays: Vec<_> = features.iter().filter(|(_, feature)| feature["_type"] == "Array2D").collect();
    let names = || arrays.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", ");
    let (column, feature) = match (asked, &arrays[..]) {
        (Some(asked), _) => arrays
            .iter()
            .find(|(name, _)| *name == asked)
            .ok_or_else(|| Error::data(path)(format!("expected a column of activations {asked}, found {}", names())))?,
        (None, [only]) => only,
        (None, []) => return Err(Error::data(path)("the data set has no column of activations (of type Array2D)")),
        (None, _) => {
            let available = arrays.iter().map(|(name, _)| (*name).clone()).collect();
            let cause = format!("several columns hold activations: {}", names());
            return Err(Error::data(path)(cause).with_hint(Hint::Set(Setting::Hook, available)));
        }
    };
    let side = |n: usize| feature["shape"][n].as_u64().and_then(|side| usize::try_from(side).ok()).filter(|s| *s > 0);
    let (Some(positions), Some(d_in)) = (side(0), side(1)) else {
        let shape = &feature["shape"];
        return Err(Error::data(path)(format!("column {column} has the shape {shape}: expected [positions, d_in]")));
    };
    let half = match feature["dtype"].as_str() {
        Some("float32") => false,
        Some("float16") => true,
        other => {
            let found = other.unwrap_or("no dtype");
            return Err(Error::data(path)(format!("column {column} holds {found}: expected float32 or float16")));
        }
    };
    Ok((Shape { column: column.to_string(), positions, d_in }, half))
}

/// The contexts of a record batch whose first row is row `first` of its file.
fn contexts_of(path: &Path, shape: &Shape, batch: &RecordBatch, first: u64) -> Result<Vec<Captured>> {
    let wrong = |cause: String| Error::data(path)(cause);
    let column = batch.column_by_name(&shape.column);
    let column = column.ok_or_else(|| wrong(format!("the file has no column {}", shape.column)))?;
    let lists = column.as_list_opt::<i32>().filter(|lists| matches!(lists.value_type(), DataType::List(_)));
    let lists = lists.ok_or_else(|| {
        wrong(format!("column {} holds {}: expected lists of lists", shape.column, column.data_type()))
    })?;
    let ids = batch.column_by_name("token_ids");
    let mut samples = Vec::with_capacity(batch.num_rows());
    for row in 0..batch.num_rows() {
        let number = first + row as u64;
        let in_row = |what: &str| format!("row {number}: {what}");
        if lists.is_null(row) {
            return Err(wrong(in_row("there are no activations")));
        }
        let positions = lists.value(row);
        let positions = positions.as_list::<i32>();
        let is_rectangular =
            (0..positions.len()).all(|p| positions.is_valid(p) && positions.value_length(p) as usize == shape.d_in);
        if positions.len() != shape.positions || !is_rectangular {
            let (found, Shape { positions, d_in, .. }) = (positions.len(), shape);
            let cause = format!(
                "expected activations of shape [{positions}, {d_in}], found {found} positions, or other widths"
            );
            return Err(wrong(in_row(&cause)));
        }
        let (from, to) = match positions.value_offsets() {
            [from, .., to] => (*from as usize, *to as usize),
            _ => (0, 0),
        };
        let values = positions.values().slice(from, to - from);
        if values.null_count() > 0 {
            return Err(wrong(in_row("an activation is null")));
        }
        let values: Vec<f32> = match values.data_type() {
            DataType::Float32 => values.as_primitive::<Float32Type>().values().to_vec(),
            DataType::Float16 => values.as_primitive::<Float16Type>().values().iter().map(|v| v.to_f32()).collect(),
            other => return Err(wrong(format!("column {} holds {other}: expected floats", shape.column))),
        };
        check_finite(path, number * shape.positions as u64, shape.d_in, &values)?;
        let ids =
            ids.map(|column| token_ids(column, row, shape.positions)).transpose().map_err(|e| wrong(in_row(&e)))?;
        let tokens = (0..shape.positions).map(|position| {
            let mut token: Token = unknown_token(position as u32, Modality::Text);
            if let Some(ids) = &ids {
                token.token_id = ids.value(position);
                token.piece = piece_from_id(token.token_id);
            }
            token
        });
        let (tokens, source) = (tokens.collect(), format!("{}:{number}", file_name(path)));
        samples.push(Captured { key: String::new(), source, tokens, activations: vec![values] });
    }
    Ok(samples)
}

/// The token ids of a row.
fn token_ids(column: &dyn Array, row: usize, positions: usize) -> Result<Int32Array, String> {
    let ids = match column.data_type() {
        _ if column.is_null(row) => return Err("there are no token_ids".into()),
        DataType::FixedSizeList(..) => column.as_fixed_size_list().value(row),
        DataType::List(_) => column.as_list::<i32>().value(row),
        other => return Err(format!("token_ids holds {other}: expected a list of integers")),
    };
    let integers = ids.as_primitive_opt::<Int32Type>();
    let ids = integers.ok_or_else(|| format!("token_ids holds {}: expected 32-bit integers", ids.data_type()))?;
    if ids.len() == positions && ids.null_count() == 0 {
        return Ok(ids.clone());
    }
    let (found, nulls) = (ids.len(), ids.null_count());
    Err(format!("expected {positions} token_ids, found {found}, of which {nulls} are null"))
}
