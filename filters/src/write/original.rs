//! The data set's own columns, read again from its Parquet files in the order of the rows. Time zones, decimals, maps and
//! bytes keep their types, which JSON cannot express.

use super::names::Names;
use crate::{Error, Result};
use arrow::array::{ArrayRef, RecordBatch};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef, TimeUnit};
use parquet::arrow::ProjectionMask;
use sae_core::table::{self, Batches};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Number of rows that are decoded at once.
const BATCH: usize = 1024;

/// Columns that hold the images of rows. Images are written by the writer itself.
const IMAGES: [&str; 3] = ["image", "images", "file_name"];

/// A column with the type that Hugging Face gives it.
type Column = (Field, ArrayRef, Value);

/// The columns of a data set of Parquet files that are written with their original types.
pub(super) struct Originals {
    root: PathBuf,
    names: Names,
    /// The columns, as the schema of the files describes them.
    fields: Vec<FieldRef>,
    /// The types that Hugging Face gives to columns, according to the metadata of the files.
    features: Map<String, Value>,
    open: Option<Open>,
}

/// A file that is being read.
struct Open {
    file: PathBuf,
    batches: Batches,
    /// The batch that was read last.
    batch: RecordBatch,
    /// The number of the first row of `batch`.
    start: u64,
}

impl Originals {
    /// Opens the columns of the data set's files that are among `own`, and columns of bytes, which JSON cannot express.
    /// `mapped` names columns that were mapped to another field. `None` if the files are not all Parquet files, or if their
    /// schemas differ.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn open(
        root: &Path,
        files: &BTreeSet<PathBuf>,
        names: &Names,
        own: &BTreeSet<&str>,
        mapped: &[String],
    ) -> Result<Option<Self>> {
        let mut found: Option<(Vec<FieldRef>, SchemaRef)> = None;
        for file in files {
            if !is_parquet(file) {
                return Ok(None);
            }
            let schema = table::schema(&root.join(file))?;
            let fields: Vec<FieldRef> = schema
                .fields()
                .iter()
                .filter(|field| own.contains(names.written(field.name())) || is_other_bytes(field, mapped))
                .cloned()
                .collect();
            match &found {
                Some((first, _)) if *first != fields => return Ok(None),
                Some(_) => {}
                None => found = Some((fields, schema)),
            }
        }
        let Some((fields, schema)) = found.filter(|(fields, _)| !fields.is_empty()) else { return Ok(None) };
        let features = schema.metadata().get("huggingface").and_then(|text| serde_json::from_str::<Value>(text).ok());
        let features = features.and_then(|mut text| text["info"]["features"].as_object_mut().map(std::mem::take));
        let (root, names, features) = (root.to_path_buf(), names.clone(), features.unwrap_or_default());
        Ok(Some(Self { root, names, fields, features, open: None }))
    }

    /// What users of the written file should know about the columns.
    pub fn notes(&self) -> Vec<String> {
        let unknown = self.fields.iter().filter(|field| self.feature(field).is_none());
        let note = |field: &FieldRef| {
            let (name, kind) = (self.names.written(field.name()), field.data_type());
            format!("`datasets` has no type for the column {name} ({kind}); pyarrow, pandas, polars and DuckDB have")
        };
        unknown.map(note).collect()
    }

    /// The columns of these rows, by the names under which they are written. Across calls, the rows of a file must be in
    /// ascending order.
    ///
    /// # Errors
    /// A file cannot be read, or has fewer rows.
    pub fn take<'a>(&mut self, rows: impl Iterator<Item = &'a (PathBuf, u64)>) -> Result<BTreeMap<String, Column>> {
        let mut slices = Vec::new();
        for (file, row) in rows {
            slices.push(self.row(file, *row)?);
        }
        let schema = Arc::new(Schema::new(self.fields.clone()));
        let batch = concat_batches(&schema, &slices).map_err(sae_core::Error::format(&self.root))?;
        let column = |(field, array): (&FieldRef, &ArrayRef)| {
            let name = self.names.written(field.name()).to_owned();
            let field = field.as_ref().clone().with_name(&name);
            let feature = self.feature(&field).unwrap_or(Value::Null);
            (name, (field, Arc::clone(array), feature))
        };
        Ok(self.fields.iter().zip(batch.columns()).map(column).collect())
    }

    fn feature(&self, field: &Field) -> Option<Value> {
        self.features.get(field.name()).cloned().or_else(|| feature(field.data_type()))
    }

    fn row(&mut self, file: &Path, row: u64) -> Result<RecordBatch> {
        let path = self.root.join(file);
        let open = match self.open.take().filter(|open| open.file == file && open.start <= row) {
            Some(open) => open,
            None => self.reader(file)?,
        };
        let open = self.open.insert(open);
        while row >= open.start + open.batch.num_rows() as u64 {
            let changed = || Error::source(&path, "the file has fewer rows than when it was harvested");
            open.start += open.batch.num_rows() as u64;
            open.batch = open.batches.next().ok_or_else(changed)??;
        }
        Ok(open.batch.slice((row - open.start) as usize, 1))
    }

    fn reader(&self, file: &Path) -> Result<Open> {
        let path = self.root.join(file);
        let reader = table::reader(&path)?;
        let is_read = |name: &str| self.fields.iter().any(|field| field.name() == name);
        let fields = reader.schema().fields().iter().enumerate();
        let roots = fields.filter(|(_, field)| is_read(field.name())).map(|(n, _)| n);
        let mask = ProjectionMask::roots(reader.parquet_schema(), roots);
        let batches = table::batches(&path, reader.with_projection(mask).with_batch_size(BATCH))?;
        let batch = RecordBatch::new_empty(Arc::new(Schema::new(self.fields.clone())));
        Ok(Open { file: file.to_path_buf(), batches, batch, start: 0 })
    }
}

/// The columns of bytes in the Parquet files of a data set that are not images of rows. JSON cannot express them.
///
/// # Errors
/// A file cannot be read.
pub(super) fn columns_of_bytes(root: &Path, files: &BTreeSet<PathBuf>, mapped: &[String]) -> Result<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    for file in files.iter().filter(|file| is_parquet(file)) {
        let schema = table::schema(&root.join(file))?;
        let fields = schema.fields().iter().filter(|field| is_other_bytes(field, mapped));
        found.extend(fields.map(|field| field.name().clone()));
    }
    Ok(found)
}

fn is_parquet(file: &Path) -> bool {
    file.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("parquet"))
}

fn is_other_bytes(field: &Field, mapped: &[String]) -> bool {
    let name = field.name();
    !IMAGES.contains(&name.as_str()) && !mapped.contains(name) && holds_bytes(field.data_type())
}

fn holds_bytes(kind: &DataType) -> bool {
    use DataType as D;
    match kind {
        D::Binary | D::LargeBinary | D::BinaryView | D::FixedSizeBinary(_) => true,
        D::List(item) | D::LargeList(item) | D::FixedSizeList(item, _) => holds_bytes(item.data_type()),
        D::Struct(fields) => fields.iter().any(|field| holds_bytes(field.data_type())),
        _ => false,
    }
}

/// The type that Hugging Face uses for an Arrow type, or nothing if it has none.
fn feature(kind: &DataType) -> Option<Value> {
    use DataType as D;
    let unit = |unit: &TimeUnit| match unit {
        TimeUnit::Second => "s",
        TimeUnit::Millisecond => "ms",
        TimeUnit::Microsecond => "us",
        TimeUnit::Nanosecond => "ns",
    };
    let name = match kind {
        D::Null => "null".into(),
        D::Boolean => "bool".into(),
        D::Int8 => "int8".into(),
        D::Int16 => "int16".into(),
        D::Int32 => "int32".into(),
        D::Int64 => "int64".into(),
        D::UInt8 => "uint8".into(),
        D::UInt16 => "uint16".into(),
        D::UInt32 => "uint32".into(),
        D::UInt64 => "uint64".into(),
        D::Float16 => "float16".into(),
        D::Float32 => "float32".into(),
        D::Float64 => "float64".into(),
        D::Utf8 => "string".into(),
        D::LargeUtf8 => "large_string".into(),
        D::Binary => "binary".into(),
        D::LargeBinary => "large_binary".into(),
        D::Date32 => "date32".into(),
        D::Date64 => "date64".into(),
        D::Time32(precision) => format!("time32[{}]", unit(precision)),
        D::Time64(precision) => format!("time64[{}]", unit(precision)),
        D::Duration(precision) => format!("duration[{}]", unit(precision)),
        D::Timestamp(precision, None) => format!("timestamp[{}]", unit(precision)),
        D::Timestamp(precision, Some(zone)) => format!("timestamp[{}, tz={zone}]", unit(precision)),
        D::Decimal128(digits, scale) => format!("decimal128({digits}, {scale})"),
        D::Decimal256(digits, scale) => format!("decimal256({digits}, {scale})"),
        D::List(item) => return Some(super::columns::list_feature(feature(item.data_type())?)),
        D::Struct(fields) => {
            let fields = fields.iter().map(|field| Some((field.name().clone(), feature(field.data_type())?)));
            return fields.collect::<Option<Map<_, _>>>().map(Value::Object);
        }
        _ => return None,
    };
    Some(json!({ "dtype": name, "_type": "Value" }))
}
