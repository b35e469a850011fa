//! Parquet tables of conversations, of prompts with their answers, and of preference pairs. Images are Hugging Face's
//! `{bytes, path}`, and metadata describes the columns to `datasets`. Rows are written in groups, so that memory is bounded.

use super::chat_json::answer;
use super::columns::{ColumnKinds, item, list, list_feature, text_feature};
use super::image::ImageOutput;
use super::original::Originals;
use super::row::Row;
use super::{Contents, Sink};
use crate::{Error, Result};
use arrow::array::{ArrayRef, BinaryArray, RecordBatch, StringArray, StructArray};
use arrow::datatypes::{DataType, Field, Fields, Schema};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use sae_core::error::Cause;
use sae_core::store::conversation::{AnswerPair, Turn, TurnPart};
use sae_core::store::sample::Role;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Maximum number of rows in a group, and size of the images after which a group ends, in bytes.
const GROUP: (usize, u64) = (1000, 64 << 20);

/// A row that is buffered for its group, with the contents and paths of its images.
type Waiting = (Row, Vec<(Option<Vec<u8>>, String)>);

/// A writer of tables of bounded size.
pub(super) struct Tables {
    folder: PathBuf,
    kinds: ColumnKinds,
    /// The data set's own columns, if they have types.
    originals: Option<Originals>,
    /// Whether a single answer is written to a separate column from its prompt.
    prompts: bool,
    limit: u64,
    layout: Option<Layout>,
    open: Option<(ArrowWriter<File>, PathBuf)>,
    begun: usize,
    /// Size of the images in the current table, in bytes.
    size: u64,
    rows: Vec<Waiting>,
    /// Size of the images in `rows`, in bytes.
    waiting: u64,
}

/// The columns of a table, which its first row determines.
#[derive(Clone, Copy, PartialEq)]
enum Layout {
    Conversations,
    /// The last turn, which is an answer, is separate from the others.
    Completions,
    Pairs,
}

impl Tables {
    /// A writer of tables, each of which ends with the group of rows that reaches `limit` bytes of images.
    pub fn new(folder: &Path, kinds: ColumnKinds, prompts: bool, originals: Option<Originals>, limit: u64) -> Self {
        Self {
            folder: folder.to_path_buf(),
            kinds,
            originals,
            prompts,
            limit,
            layout: None,
            open: None,
            begun: 0,
            size: 0,
            rows: Vec::new(),
            waiting: 0,
        }
    }

    /// Writes the buffered rows as a group.
    fn write_group(&mut self) -> Result<()> {
        let layout = self.layout.unwrap_or(Layout::Conversations);
        let originals = match &mut self.originals {
            Some(originals) => originals.take(self.rows.iter().map(|(row, _)| &row.source))?,
            None => BTreeMap::new(),
        };
        let batch = batch(&self.rows, layout, &self.kinds, originals);
        let (mut writer, path) = match self.open.take() {
            Some(open) => open,
            None => {
                let path = self.folder.join(format!("data-{:05}.parquet", self.begun));
                self.begun += 1;
                self.size = 0;
                (writer(&path, &batch)?, path)
            }
        };
        let done = writer.write(&batch).and_then(|()| writer.flush());
        done.map_err(sae_core::Error::format(&path))?;
        self.rows.clear();
        self.size += std::mem::take(&mut self.waiting);
        self.open = Some((writer, path));
        if self.size >= self.limit { self.close() } else { Ok(()) }
    }

    fn close(&mut self) -> Result<()> {
        if let Some((writer, path)) = self.open.take() {
            let file = writer.into_inner().map_err(sae_core::Error::format(&path))?;
            file.sync_all().map_err(sae_core::Error::io("sync", &path))?;
        }
        Ok(())
    }
}

impl Sink for Tables {
    fn push(&mut self, row: &Row, images: &mut ImageOutput) -> Result<()> {
        let layout = match (&row.pair, self.prompts) {
            (Some(_), _) => Layout::Pairs,
            (None, true) => Layout::Completions,
            (None, false) => Layout::Conversations,
        };
        let refused = |text: &str, format: &str| {
            let text = format!("the row {} {text}", row.key);
            Err(Error::request(Cause::with_hint(text, super::other_format(&[format]))))
        };
        if *self.layout.get_or_insert(layout) != layout {
            return match layout {
                Layout::Pairs => refused("has two answers where the first has one", "jsonl"),
                _ => refused("has one answer where the first has two", "jsonl"),
            };
        }
        if layout == Layout::Completions && !ends_in_a_text_answer(&row.turns) {
            return refused("does not end in an answer of text alone to a prompt", "parquet");
        }
        let images = row.images.iter().map(|image| images.embed(image)).collect::<Result<Vec<_>>>()?;
        self.waiting += images.iter().filter_map(|(bytes, _)| Some(bytes.as_ref()?.len() as u64)).sum::<u64>();
        // From here on, `images` holds the content.
        let row = Row { images: Vec::new(), ..row.clone() };
        self.rows.push((row, images));
        if self.rows.len() >= GROUP.0 || self.waiting >= GROUP.1 { self.write_group() } else { Ok(()) }
    }

    fn finish(&mut self) -> Result<Contents> {
        if !self.rows.is_empty() || self.begun == 0 {
            self.write_group()?;
        }
        self.close()?;
        let mut contents = Contents::from_files((0..self.begun).map(|n| format!("data-{n:05}.parquet").into()));
        contents.notes.extend(self.originals.iter().flat_map(Originals::notes));
        Ok(contents)
    }
}

/// Whether there is a prompt, followed by an answer without images.
fn ends_in_a_text_answer(turns: &[Turn]) -> bool {
    let answer =
        turns.last().filter(|turn| turn.role == Role::Assistant && turn.parts.iter().all(|part| part.text().is_some()));
    turns.len() > 1 && answer.is_some()
}

fn writer(path: &Path, batch: &RecordBatch) -> Result<ArrowWriter<File>> {
    let file = File::create(path).map_err(sae_core::Error::io("create", path))?;
    let level = ZstdLevel::try_new(3).map_err(sae_core::Error::format(path))?;
    let properties = WriterProperties::builder().set_compression(Compression::ZSTD(level)).build();
    let writer = ArrowWriter::try_new(file, batch.schema(), Some(properties));
    Ok(writer.map_err(sae_core::Error::format(path))?)
}

/// A column with the type that Hugging Face gives it.
type Column = (Field, ArrayRef, Value);

fn batch(
    rows: &[Waiting],
    layout: Layout,
    kinds: &ColumnKinds,
    mut originals: BTreeMap<String, Column>,
) -> RecordBatch {
    let mut columns = vec![images(rows)];
    let turns: Vec<&[Turn]> = rows.iter().map(|(row, _)| &row.turns[..]).collect();
    match layout {
        Layout::Conversations => columns.push(messages("messages", &turns)),
        Layout::Completions => {
            let split: Vec<_> = turns.iter().map(|turns| turns.split_at(turns.len().saturating_sub(1))).collect();
            let (prompts, answers): (Vec<_>, Vec<_>) = split.into_iter().unzip();
            columns.push(messages("prompt", &prompts));
            columns.push(messages("completion", &answers));
        }
        Layout::Pairs => {
            columns.push(messages("prompt", &turns));
            let chosen: fn(&AnswerPair) -> &String = |pair| &pair.chosen;
            for (name, text) in [("chosen", chosen), ("rejected", |pair| &pair.rejected)] {
                let answers = rows.iter().map(|(row, _)| row.pair.as_ref().map(|pair| answer(text(pair))));
                let answers: Vec<Vec<Turn>> = answers.map(|turn| turn.into_iter().collect()).collect();
                columns.push(messages(name, &answers.iter().map(Vec::as_slice).collect::<Vec<_>>()));
            }
        }
    }
    let others = kinds.columns(&rows.iter().map(|(row, _)| &row.columns).collect::<Vec<_>>());
    columns.extend(others.into_iter().map(|column| originals.remove(column.0.name()).unwrap_or(column)));
    columns.extend(originals.into_values());
    // If Hugging Face has no type for a column, the metadata is left out, and `datasets` reports the column itself.
    let features = columns.iter().filter(|(_, _, feature)| !feature.is_null());
    let features: Map<String, Value> =
        features.map(|(field, _, feature)| (field.name().clone(), feature.clone())).collect();
    let metadata = json!({ "info": { "features": features } }).to_string();
    let (fields, arrays): (Vec<_>, Vec<_>) = columns.into_iter().map(|(field, array, _)| (field, array)).unzip();
    let schema = Schema::new_with_metadata(fields, HashMap::from([("huggingface".to_owned(), metadata)]));
    RecordBatch::try_new(Arc::new(schema), arrays).expect("columns of equal length, of the kinds that they say")
}

fn structure(columns: Vec<(&str, ArrayRef)>) -> ArrayRef {
    let field = |(name, array): &(&str, ArrayRef)| Field::new(*name, array.data_type().clone(), true);
    let fields: Fields = columns.iter().map(field).collect();
    Arc::new(StructArray::new(fields, columns.into_iter().map(|(_, array)| array).collect(), None))
}

fn lists(name: &str, lengths: impl Iterator<Item = usize>, items: ArrayRef, feature: Value) -> Column {
    let kind = DataType::List(item(items.data_type().clone()));
    (Field::new(name, kind, true), list(lengths, items, None), list_feature(feature))
}

fn images(rows: &[Waiting]) -> Column {
    let all = || rows.iter().flat_map(|(_, images)| images);
    let bytes: ArrayRef = Arc::new(BinaryArray::from_iter(all().map(|(bytes, _)| bytes.as_ref())));
    let paths: ArrayRef = Arc::new(StringArray::from_iter_values(all().map(|(_, path)| path)));
    let items = structure(vec![("bytes", bytes), ("path", paths)]);
    lists("images", rows.iter().map(|(_, images)| images.len()), items, json!({ "_type": "Image" }))
}

fn messages(name: &str, rows: &[&[Turn]]) -> Column {
    let turns = || rows.iter().flat_map(|turns| turns.iter());
    let parts = || turns().flat_map(|turn| &turn.parts);
    let kind = |part: &TurnPart| if part.text().is_some() { "text" } else { "image" };
    let text = |part: &TurnPart| part.text().map(str::to_owned);
    let kinds: ArrayRef = Arc::new(StringArray::from_iter_values(parts().map(kind)));
    let texts: ArrayRef = Arc::new(StringArray::from_iter(parts().map(text)));
    let parts = structure(vec![("type", kinds), ("text", texts)]);
    let part = json!({ "type": text_feature(), "text": text_feature() });
    let content = list(turns().map(|turn| turn.parts.len()), parts, None);
    let roles: ArrayRef = Arc::new(StringArray::from_iter_values(turns().map(|turn| turn.role.name())));
    let turn = json!({ "role": text_feature(), "content": list_feature(part) });
    let items = structure(vec![("role", roles), ("content", content)]);
    lists(name, rows.iter().map(|turns| turns.len()), items, turn)
}
