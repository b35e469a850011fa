//! The two tables of a store, `samples.parquet` and `tokens/part-NNNNN.parquet`: their columns, written and read.

use crate::store::sample::{ImageRef, Modality, Piece, Role, Sample, Token};
use crate::{Error, Result, table};
use arrow::array::{
    Array, ArrayRef, BooleanArray, Float32Array, Int16Array, Int32Array, ListArray, RecordBatch, StringArray,
    StructArray, UInt8Array, UInt32Array, UInt64Array,
};
use arrow::buffer::{OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{DataType, Field, Fields};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

/// Writes the tokens of consecutive samples, of which the first has number `first_sample`.
pub fn write_tokens<'a>(
    path: &Path,
    first_sample: u32,
    samples: impl Iterator<Item = &'a [Token]> + Clone,
) -> Result<()> {
    let numbers = samples.clone().zip(first_sample..).flat_map(|(tokens, n)| std::iter::repeat_n(n, tokens.len()));
    let tokens = || samples.clone().flatten();
    let corner = |c: usize| Float32Array::from_iter(tokens().map(|t| t.rect.map(|r| r[c])));
    table::write(
        path,
        &table::batch(vec![
            table::column("sample", UInt32Array::from_iter_values(numbers)),
            table::column("position", UInt32Array::from_iter_values(tokens().map(|t| t.position))),
            table::column("modality", UInt8Array::from_iter_values(tokens().map(|t| t.modality as u8))),
            table::column("token_id", Int32Array::from_iter_values(tokens().map(|t| t.token_id))),
            table::column("piece", StringArray::from_iter_values(tokens().map(|t| &t.piece))),
            table::column("role", UInt8Array::from_iter_values(tokens().map(|t| t.role as u8))),
            table::column("special", BooleanArray::from_iter(tokens().map(|t| Some(t.special)))),
            table::nullable("image", Int16Array::from_iter(tokens().map(|t| t.image))),
            table::nullable("x0", corner(0)),
            table::nullable("y0", corner(1)),
            table::nullable("x1", corner(2)),
            table::nullable("y1", corner(3)),
        ]),
    )
}

/// The columns of a token table that every pass over the activations needs, a row a token position.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TokenColumns {
    /// Number of the sample.
    pub sample: Vec<u32>,
    /// Position in the sample.
    pub position: Vec<u32>,
    /// Kind of input.
    pub modality: Vec<Modality>,
    /// Whose turn it belongs to.
    pub role: Vec<Role>,
    /// Whether it has no content: template, begin, end and newline tokens.
    pub special: Vec<bool>,
}

impl TokenColumns {
    /// Token positions.
    pub fn rows(&self) -> usize {
        self.sample.len()
    }
}

/// Reads what a pass over the activations needs of a part's token table.
pub fn read_tokens(path: &Path) -> Result<TokenColumns> {
    let batch = table::read(path, &["sample", "position", "modality", "role", "special"])?;
    let role = table::get::<UInt8Array>(path, &batch, "role")?.values();
    let modality = table::get::<UInt8Array>(path, &batch, "modality")?.values();
    let special = table::get::<BooleanArray>(path, &batch, "special")?;
    Ok(TokenColumns {
        sample: table::get::<UInt32Array>(path, &batch, "sample")?.values().to_vec(),
        position: table::get::<UInt32Array>(path, &batch, "position")?.values().to_vec(),
        modality: modality
            .iter()
            .map(|m| Modality::try_from(*m))
            .collect::<Result<_, _>>()
            .map_err(Error::format(path))?,
        role: role.iter().map(|r| Role::try_from(*r)).collect::<Result<_, _>>().map_err(Error::format(path))?,
        special: (0..special.len()).map(|row| special.value(row)).collect(),
    })
}

/// What has to agree between runs of the same samples, for one token position.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct TokenIdentity {
    pub sample: u32,
    pub position: u32,
    pub token_id: i32,
    pub modality: Modality,
    pub role: Role,
    pub special: bool,
}

/// Reads what has to agree between runs of a part's token table.
pub(super) fn token_identities(path: &Path) -> Result<Vec<TokenIdentity>> {
    let tokens = read_tokens(path)?;
    let batch = table::read(path, &["token_id"])?;
    let ids = table::get::<Int32Array>(path, &batch, "token_id")?.values();
    let identity = |(row, token_id): (usize, &i32)| TokenIdentity {
        sample: tokens.sample[row],
        position: tokens.position[row],
        token_id: *token_id,
        modality: tokens.modality[row],
        role: tokens.role[row],
        special: tokens.special[row],
    };
    Ok(ids.iter().enumerate().take(tokens.rows()).map(identity).collect())
}

/// The texts of the tokens at these `(sample, position)`; positions that the table lacks are left out.
pub(super) fn pieces_of(path: &Path, wanted: &BTreeSet<(u32, u32)>) -> Result<BTreeMap<(u32, u32), String>> {
    let batch = table::read(path, &["sample", "position", "piece"])?;
    let sample = table::get::<UInt32Array>(path, &batch, "sample")?.values();
    let position = table::get::<UInt32Array>(path, &batch, "position")?.values();
    let piece = table::get::<StringArray>(path, &batch, "piece")?;
    let rows = (0..batch.num_rows()).map(|row| ((sample[row], position[row]), row));
    Ok(rows.filter(|(key, _)| wanted.contains(key)).map(|(key, row)| (key, piece.value(row).into())).collect())
}

/// The batch of consecutive samples, of which the first has number `first`. Pieces have two more columns, even if there are none.
fn samples_batch<'a>(first: u32, samples: impl Iterator<Item = &'a Sample> + Clone, pieces: bool) -> RecordBatch {
    let count = samples.clone().count() as u32;
    let text = |field: fn(&Sample) -> &str| StringArray::from_iter_values(samples.clone().map(field));
    let meta = StringArray::from_iter_values(samples.clone().map(|s| s.meta.to_string()));
    let mut columns = vec![
        table::column("sample", UInt32Array::from_iter_values(first..first + count)),
        table::column("id", text(|s| &s.id)),
        table::column("key", text(|s| &s.key)),
        table::column("text", text(|s| &s.text)),
        ("images", false, image_lists(samples.clone())),
        table::column("source", text(|s| &s.source)),
        table::nullable("source_file", StringArray::from_iter(samples.clone().map(|s| Some(s.place()?.0)))),
        table::nullable("source_row", UInt64Array::from_iter(samples.clone().map(|s| Some(s.place()?.1)))),
        table::column("meta", meta),
    ];
    if pieces {
        let pieces = || samples.clone().map(|sample| sample.piece.as_ref());
        columns.push(table::nullable("parent", UInt32Array::from_iter(pieces().map(|piece| piece?.parent))));
        columns.push(table::nullable("branch", StringArray::from_iter(pieces().map(|piece| Some(&piece?.branch)))));
    }
    table::batch(columns)
}

/// Writes a table of consecutive samples, which are pieces or are not.
pub fn write_samples<'a>(
    path: &Path,
    first: u32,
    samples: impl Iterator<Item = &'a Sample> + Clone,
    pieces: bool,
) -> Result<()> {
    table::write(path, &samples_batch(first, samples, pieces))
}

/// Reads the samples of a batch of `samples.parquet`.
pub(super) fn samples_of(path: &Path, batch: &RecordBatch) -> Result<Vec<Sample>> {
    let text = |name| table::get::<StringArray>(path, batch, name);
    let (id, key, body, source, meta) = (text("id")?, text("key")?, text("text")?, text("source")?, text("meta")?);
    let lists = table::get::<ListArray>(path, batch, "images")?;
    let pieces = match batch.column_by_name("parent") {
        Some(_) => Some((table::get::<UInt32Array>(path, batch, "parent")?, text("branch")?)),
        None => None,
    };
    let piece = |row: usize| {
        let (parents, branches) = pieces.filter(|(_, branches)| branches.is_valid(row))?;
        let parent = parents.is_valid(row).then(|| parents.value(row));
        Some(Piece { parent, branch: branches.value(row).into(), is_critique: false })
    };
    (0..batch.num_rows())
        .map(|row| {
            Ok(Sample {
                id: id.value(row).into(),
                key: key.value(row).into(),
                text: body.value(row).into(),
                images: images_of(path, &lists.value(row))?,
                source: source.value(row).into(),
                meta: serde_json::from_str(meta.value(row)).map_err(Error::format(path))?,
                piece: piece(row),
            })
        })
        .collect()
}

fn image_fields() -> Fields {
    let field = |name: &str, dtype| Field::new(name, dtype, false);
    Fields::from(vec![
        field("path", DataType::Utf8),
        field("width", DataType::UInt32),
        field("height", DataType::UInt32),
        field("sha256", DataType::Utf8),
    ])
}

fn image_lists<'a>(samples: impl Iterator<Item = &'a Sample> + Clone) -> ArrayRef {
    let images = || samples.clone().flat_map(|s| &s.images);
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from_iter_values(images().map(|i| &i.path))),
        Arc::new(UInt32Array::from_iter_values(images().map(|i| i.width))),
        Arc::new(UInt32Array::from_iter_values(images().map(|i| i.height))),
        Arc::new(StringArray::from_iter_values(images().map(|i| &i.sha256))),
    ];
    let offsets = OffsetBuffer::from_lengths(samples.clone().map(|s| s.images.len()));
    let values = StructArray::new(image_fields(), columns, None);
    let item = Arc::new(Field::new("item", values.data_type().clone(), false));
    Arc::new(ListArray::new(item, offsets, Arc::new(values), None))
}

fn images_of(path: &Path, list: &ArrayRef) -> Result<Vec<ImageRef>> {
    let fields: Option<&StructArray> = list.as_any().downcast_ref();
    let fields = fields.ok_or_else(|| Error::format(path)("column images holds no list of structures"))?;
    let batch = RecordBatch::from(fields.clone());
    let text = |name| table::get::<StringArray>(path, &batch, name);
    let side = |name| Ok::<&ScalarBuffer<u32>, Error>(table::get::<UInt32Array>(path, &batch, name)?.values());
    let (file, width, height, sha256) = (text("path")?, side("width")?, side("height")?, text("sha256")?);
    let image = |row: usize| ImageRef {
        path: file.value(row).into(),
        width: width[row],
        height: height[row],
        sha256: sha256.value(row).into(),
    };
    Ok((0..batch.num_rows()).map(image).collect())
}
