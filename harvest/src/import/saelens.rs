//! Caches of SAELens' `CacheActivationsRunner`: a Hugging Face data set of streams of Arrow, a row a context, a column a
//! hook. A stream is read a record batch at a time; types that Python would make of its metadata are not looked at.

use super::table::{piece_of, untold};
use super::{Cache, Captured, Import, check_finite, file_name};
use crate::{Error, Result};
use arrow::array::{Array, AsArray, Int32Array, RecordBatch};
use arrow::buffer::Buffer;
use arrow::datatypes::{DataType, Float16Type, Float32Type, Int32Type};
use arrow::ipc::reader::StreamDecoder;
use arrow::ipc::root_as_message;
use sae_core::file;
use sae_core::sample::{Modality, Token};
use sae_core::store::StoreDtype;
use serde::Deserialize;
use serde_json::{Map, Value};
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

/// The end of a stream of Arrow.
const END: [u8; 8] = [0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0];

#[derive(Deserialize)]
struct State {
    #[serde(rename = "_data_files")]
    data_files: Vec<DataFile>,
    /// Rows in another order, or fewer of them: written by older versions of `datasets`.
    #[serde(rename = "_indices_data_files", default)]
    indices: Value,
}

#[derive(Deserialize)]
struct DataFile {
    filename: String,
}

#[derive(Deserialize)]
struct Info {
    features: Map<String, Value>,
}

/// What a context holds.
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
    let state: State = file::read_json(&state_path, 1 << 28)?;
    if !matches!(&state.indices, Value::Null) && state.indices != Value::Array(Vec::new()) {
        return Err(Error::data(&state_path)("rows are chosen by a table of indices\nhint: Dataset.flatten_indices()"));
    }
    let names: Vec<_> = state.data_files.into_iter().map(|file| file.filename).collect();
    if let Some(name) = names.iter().find(|name| Path::new(name).components().count() != 1) {
        return Err(Error::data(&state_path)(format!("file {name:?} lies outside the data set")));
    }
    let (shape, half) = shape(&info_path, &info.features, import.column.as_deref())?;
    import.check_length(shape.positions)?;
    let layer = import.layer(&shape.column)?;
    let mut files = vec![info_path, state_path];
    files.extend(names.iter().map(|name| folder.join(name)));
    let mut bytes = 0;
    for path in &files[2..] {
        check_end(path)?;
        bytes += std::fs::metadata(path).map_err(Error::io("read", path))?.len();
    }
    // What else the files hold is small: near enough for a progress bar.
    let rows = bytes / (shape.d_in as u64 * if half { 2 } else { 4 });
    let d_in = shape.d_in;
    let mut number = 0u64;
    let streams = files[2..].to_vec();
    let samples = streams.into_iter().flat_map(move |path| {
        let (shape, mut row) = (shape.clone(), 0);
        Batches::open(&path).flat_map(move |batch| {
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
    Ok(Cache { layers: vec![layer], d_in, dtype, model: "unknown".into(), files, rows, samples: Box::new(samples) })
}

/// The column of activations with its shape, and whether it is in `f16`.
fn shape(path: &Path, features: &Map<String, Value>, asked: Option<&str>) -> Result<(Shape, bool)> {
    let arrays: Vec<_> = features.iter().filter(|(_, feature)| feature["_type"] == "Array2D").collect();
    let names = || arrays.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", ");
    let (column, feature) = match (asked, &arrays[..]) {
        (Some(asked), _) => arrays
            .iter()
            .find(|(name, _)| *name == asked)
            .ok_or_else(|| Error::data(path)(format!("there is no column {asked} of activations, but {}", names())))?,
        (None, [only]) => only,
        (None, []) => return Err(Error::data(path)("the data set has no column of activations (Array2D)")),
        (None, _) => {
            return Err(Error::data(path)(format!(
                "several columns hold activations\nhint: choose --hook: {}",
                names()
            )));
        }
    };
    let side = |n: usize| feature["shape"][n].as_u64().and_then(|side| usize::try_from(side).ok()).filter(|s| *s > 0);
    let (Some(positions), Some(d_in)) = (side(0), side(1)) else {
        return Err(Error::data(path)(format!("column {column} has the shape {}", feature["shape"])));
    };
    let half = match feature["dtype"].as_str() {
        Some("float32") => false,
        Some("float16") => true,
        other => {
            let cause = format!("column {column} holds {}: float32 and float16 are read", other.unwrap_or("nothing"));
            return Err(Error::data(path)(cause));
        }
    };
    Ok((Shape { column: column.to_string(), positions, d_in }, half))
}

/// A stream that was cut behind a record batch looks whole but for its end.
fn check_end(path: &Path) -> Result<()> {
    let mut file = File::open(path).map_err(Error::io("open", path))?;
    let mut end = [0; END.len()];
    let read = file.seek(SeekFrom::End(-(END.len() as i64))).and_then(|_| file.read_exact(&mut end));
    match read.is_ok() && end == END {
        true => Ok(()),
        false => Err(Error::data(path)("this is no whole stream of Arrow: it has no end, or was cut")),
    }
}

/// The record batches of a stream.
struct Batches {
    path: PathBuf,
    file: Option<BufReader<File>>,
    /// Bytes of the file that are not read yet.
    left: u64,
    decoder: StreamDecoder,
    failed: Option<Error>,
}

impl Batches {
    fn open(path: &Path) -> Self {
        let opened = File::open(path).and_then(|file| Ok((file.metadata()?.len(), BufReader::new(file))));
        let (file, left, failed) = match opened.map_err(Error::io("open", path)) {
            Ok((left, file)) => (Some(file), left, None),
            Err(error) => (None, 0, Some(error)),
        };
        Self { path: path.to_path_buf(), file, left, decoder: StreamDecoder::new(), failed }
    }

    fn batch(&mut self) -> Result<Option<RecordBatch>> {
        while let Some(message) = self.message()? {
            let mut message = Buffer::from_vec(message);
            let decoder = &mut self.decoder;
            // What arrow takes for granted beyond what is checked below ends a file, not the program.
            let decoded = catch_unwind(AssertUnwindSafe(|| decoder.decode(&mut message)));
            let decoded = decoded.map_err(|_| Error::data(&self.path)("the stream of Arrow is damaged"))?;
            if let Some(batch) = decoded.map_err(Error::data(&self.path))? {
                return Ok(Some(batch));
            }
        }
        Ok(None)
    }

    /// The next message with its head and its body, or nothing at the end. No more memory is asked for than the file
    /// has bytes, and a body's buffers lie within it.
    fn message(&mut self) -> Result<Option<Vec<u8>>> {
        let mut message = Vec::new();
        self.read(8, &mut message)?;
        let (mark, length) = message.split_at(4);
        let length = length.iter().rev().fold(0u64, |n, byte| n << 8 | u64::from(*byte));
        if mark != &END[..4] {
            return Err(Error::data(&self.path)("a message of the stream of Arrow has no head"));
        }
        if length == 0 {
            self.file = None;
            return Ok(None);
        }
        self.read(length, &mut message)?;
        let wrong = |cause: &str| Error::data(&self.path)(cause);
        let head = root_as_message(&message[8..]).map_err(Error::data(&self.path))?;
        let body = u64::try_from(head.bodyLength()).map_err(|_| wrong("a message has a body of less than nothing"))?;
        if let Some(batch) = head.header_as_record_batch() {
            let within = |offset: i64, length: i64| {
                let end =
                    u64::try_from(offset).ok().zip(u64::try_from(length).ok()).and_then(|(o, l)| o.checked_add(l));
                end.is_some_and(|end| end <= body)
            };
            if !batch.buffers().iter().flatten().all(|buffer| within(buffer.offset(), buffer.length())) {
                return Err(wrong("a record batch of the stream reaches out of its message"));
            }
        }
        self.read(body, &mut message)?;
        Ok(Some(message))
    }

    fn read(&mut self, bytes: u64, out: &mut Vec<u8>) -> Result<()> {
        let file = self.file.as_mut().filter(|_| bytes <= self.left);
        let file = file.ok_or_else(|| Error::data(&self.path)("the stream of Arrow is cut off in a message"))?;
        let read = file.take(bytes).read_to_end(out).map_err(Error::io("read", &self.path))?;
        self.left -= bytes;
        match read as u64 == bytes {
            true => Ok(()),
            false => Err(Error::data(&self.path)("the file became shorter")),
        }
    }
}

impl Iterator for Batches {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(error) = self.failed.take() {
            return Some(Err(error));
        }
        self.file.as_ref()?;
        let batch = self.batch();
        if batch.is_err() {
            self.file = None;
        }
        batch.transpose()
    }
}

/// The contexts of a record batch, of which the first is row `first` of its file.
fn contexts_of(path: &Path, shape: &Shape, batch: &RecordBatch, first: u64) -> Result<Vec<Captured>> {
    let wrong = |cause: String| Error::data(path)(cause);
    let column = batch.column_by_name(&shape.column);
    let column = column.ok_or_else(|| wrong(format!("there is no column {}", shape.column)))?;
    let lists = column.as_list_opt::<i32>().filter(|lists| matches!(lists.value_type(), DataType::List(_)));
    let lists = lists.ok_or_else(|| wrong(format!("column {} holds {}", shape.column, column.data_type())))?;
    let ids = batch.column_by_name("token_ids");
    let mut samples = Vec::with_capacity(batch.num_rows());
    for row in 0..batch.num_rows() {
        let number = first + row as u64;
        let place = |what: &str| format!("row {number}: {what}");
        if lists.is_null(row) {
            return Err(wrong(place("there are no activations")));
        }
        let positions = lists.value(row);
        let positions = positions.as_list::<i32>();
        let even =
            (0..positions.len()).all(|p| positions.is_valid(p) && positions.value_length(p) as usize == shape.d_in);
        if positions.len() != shape.positions || !even {
            let (found, Shape { positions, d_in, .. }) = (positions.len(), shape);
            return Err(wrong(place(&format!("{found} positions, or of other widths than [{positions}, {d_in}]"))));
        }
        let (from, to) = match positions.value_offsets() {
            [from, .., to] => (*from as usize, *to as usize),
            _ => (0, 0),
        };
        let values = positions.values().slice(from, to - from);
        if values.null_count() > 0 {
            return Err(wrong(place("an activation is null")));
        }
        let values: Vec<f32> = match values.data_type() {
            DataType::Float32 => values.as_primitive::<Float32Type>().values().to_vec(),
            DataType::Float16 => values.as_primitive::<Float16Type>().values().iter().map(|v| v.to_f32()).collect(),
            other => return Err(wrong(format!("column {} holds {other}", shape.column))),
        };
        check_finite(path, number * shape.positions as u64, shape.d_in, &values)?;
        let ids = ids.map(|column| ids_of(column, row, shape.positions)).transpose().map_err(|e| wrong(place(&e)))?;
        let tokens = (0..shape.positions).map(|position| {
            let mut token: Token = untold(position as u32, Modality::Text);
            if let Some(ids) = &ids {
                token.token_id = ids.value(position);
                token.piece = piece_of(token.token_id);
            }
            token
        });
        let (tokens, source) = (tokens.collect(), format!("{}:{number}", file_name(path)));
        samples.push(Captured { key: String::new(), source, tokens, activations: vec![values] });
    }
    Ok(samples)
}

/// The token ids of a row.
fn ids_of(column: &dyn Array, row: usize, positions: usize) -> Result<Int32Array, String> {
    let ids = match column.data_type() {
        _ if column.is_null(row) => return Err("there are no token_ids".into()),
        DataType::FixedSizeList(..) => column.as_fixed_size_list().value(row),
        DataType::List(_) => column.as_list::<i32>().value(row),
        other => return Err(format!("token_ids holds {other}")),
    };
    let ids = ids.as_primitive_opt::<Int32Type>().ok_or_else(|| format!("token_ids holds {}", ids.data_type()))?;
    match ids.len() == positions && ids.null_count() == 0 {
        true => Ok(ids.clone()),
        false => Err(format!("{} token_ids of {positions} positions, {} of them null", ids.len(), ids.null_count())),
    }
}
