//! What a data set holds: how its rows are understood, which are skipped and why, and the columns that can be asked for. Of
//! several data sets, also what they share. Reads rows, and no image of a file.

use crate::control::{Control, Stage};
use crate::{Error, Result};
use filters::select::number;
use harvest::data::{ImageFile, Mapping, Record, Row, Source, TreeCounter, TreeCounts};
use sae_core::store::conversation::TurnPart;
use sae_core::store::sample::Role;
use sae_core::store::{SkipList, Skipped};
use serde::Serialize;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};

/// Columns that are described.
const MOST_COLUMNS: usize = 200;
/// Objects within objects whose fields are described.
const DEEPEST: usize = 3;
/// Different values of a column that are listed, and characters of the longest.
const MOST_VALUES: usize = 12;
const VALUE_LENGTH: usize = 40;
/// Where the answers of preference data have properties of their own.
const ANSWER: &str = "answer";

/// What a data set holds.
#[derive(Clone, Debug, Serialize)]
pub struct DataInfo {
    /// Its path.
    #[serde(serialize_with = "sae_core::path_text::serialize")]
    pub path: PathBuf,
    /// Files with rows.
    pub files: usize,
    /// All rows.
    pub rows: u64,
    /// Rows that were read: the first ones, if not all were asked for. Everything below is about these.
    pub read: u64,
    /// Rows that can be used.
    pub usable: u64,
    /// What the usable rows are, and how many are that.
    pub contents: Vec<Content>,
    /// Reasons for which rows are skipped, at most 50, the most frequent first.
    pub skipped: Vec<SkippedKind>,
    /// Usable rows with an image whose file is missing.
    pub missing_images: u64,
    /// Usable rows that repeat an earlier one in every text and image.
    pub repeated: u64,
    /// The trees of messages that rows form, if there are any: nested replies, or rows that name their parents.
    pub trees: Option<TreeCounts>,
    /// Columns besides the conversation.
    pub columns: Vec<Column>,
    /// What else people should know.
    pub notes: Vec<String>,
}

/// Something that rows can have.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Content {
    /// What it is.
    pub what: &'static str,
    /// Rows that have it.
    pub rows: u64,
}

/// Rows that are skipped for one kind of reason.
#[derive(Clone, Debug, Serialize)]
pub struct SkippedKind {
    /// How many.
    pub rows: u64,
    /// The first of them.
    pub first: Skipped,
}

/// A column, or a field of an object in a column.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Column {
    /// Its name. A dot leads into an object. What numbered columns say of an answer begins with `answer.`, and has a value for each
    /// of the two answers.
    pub name: String,
    /// Values, without nulls.
    pub count: u64,
    /// Smallest, mean and largest value, if all values are numbers or texts of numbers.
    pub numbers: Option<[f64; 3]>,
    /// The different values with their counts, the most frequent first, if there are at most 12 short ones.
    pub values: Vec<(String, u64)>,
}

/// Several data sets.
#[derive(Clone, Debug, Serialize)]
pub struct DataSetsInfo {
    /// Each of them.
    pub sets: Vec<DataInfo>,
    /// What each two of them share.
    pub shared: Vec<Shared>,
}

/// What two data sets share. Each key, question, row and image counts once.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Shared {
    /// The numbers of the two data sets, from 0.
    pub sets: [usize; 2],
    /// Keys in both; `None` unless both data sets have keys of their own.
    pub keys: Option<u64>,
    /// Conversations before the answer, with the same images, in both.
    pub questions: u64,
    /// Rows with the same texts and images in both.
    pub rows: u64,
    /// Images in both. An image is the same if its file, or its bytes within the data set, are the same.
    pub images: u64,
}

/// Describes the data sets at these paths by their first `limit` rows each.
///
/// # Errors
/// A path is no data set, or a file of it cannot be read.
pub(super) fn describe(paths: &[PathBuf], limit: u64, control: &mut Control) -> Result<DataSetsInfo> {
    let open = |path: &PathBuf| {
        if path.join(super::RECORD).is_file() {
            return Err(Error::NoDataSet { path: path.clone() });
        }
        Ok(Source::open(path)?)
    };
    let sources = paths.iter().map(open).collect::<Result<Vec<_>>>()?;
    let rows = sources.iter().map(|source| Ok(source.count()?)).collect::<Result<Vec<u64>>>()?;
    let mut seen = Vec::new();
    let mut sets = Vec::new();
    {
        let mut stage = control.stage(Stage::Describe, rows.iter().map(|rows| (*rows).min(limit)).sum::<u64>())?;
        let mut done = 0;
        for ((path, source), rows) in paths.iter().zip(&sources).zip(rows) {
            let mut set = Reading::new();
            for row in source.rows(&Mapping::new())?.take(usize::try_from(limit).unwrap_or(usize::MAX)) {
                set.add(row?);
                done += 1;
                stage.advance(done)?;
            }
            let (info, identities) = set.finish(path, source, rows);
            sets.push(info);
            seen.push(identities);
        }
    }
    let pairs = (0..seen.len()).flat_map(|a| (a + 1..seen.len()).map(move |b| [a, b]));
    let shared = pairs.map(|pair| seen[pair[0]].shared(&seen[pair[1]], pair)).collect();
    Ok(DataSetsInfo { sets, shared })
}

/// A data set while it is read.
#[derive(Default)]
struct Reading {
    read: u64,
    usable: u64,
    contents: BTreeMap<&'static str, u64>,
    skipped: SkipList,
    missing_images: u64,
    trees: TreeCounter,
    columns: BTreeMap<String, ColumnValues>,
    identities: Identities,
}

impl Reading {
    fn new() -> Self {
        let identities = Identities { own_keys: true, ..Identities::default() };
        Self { identities, ..Self::default() }
    }

    fn add(&mut self, row: Row) {
        self.read += 1;
        self.identities.own_keys &= row.has_own_key;
        self.trees.add(&row);
        let record = match row.record {
            Ok(record) => record,
            Err(error) => {
                let skipped = Skipped::new(row.number, &row.key, &error.cause);
                return self.skipped.push(skipped.with_hint(error.hint));
            }
        };
        self.usable += 1;
        contents(&record).into_iter().for_each(|what| *self.contents.entry(what).or_default() += 1);
        let missing = |image: &ImageFile| image.bytes.is_none() && !image.path.contains("://") && !image.file.is_file();
        self.missing_images += u64::from(record.images.iter().any(missing));
        if let Value::Object(fields) = &record.meta {
            self.fields(fields, "", 1);
        }
        record.about_answers.iter().for_each(|about| self.fields(about, &format!("{ANSWER}."), 1));
        self.identities.add(&row.key, &record);
    }

    fn fields(&mut self, fields: &Map<String, Value>, prefix: &str, depth: usize) {
        for (name, value) in fields {
            let name = format!("{prefix}{name}");
            match value {
                Value::Null => {}
                Value::Object(inner) if depth < DEEPEST => self.fields(inner, &format!("{name}."), depth + 1),
                value if self.columns.len() < MOST_COLUMNS || self.columns.contains_key(&name) => {
                    self.columns.entry(name).or_default().add(value);
                }
                _ => {}
            }
        }
    }

    fn finish(mut self, path: &Path, source: &Source, rows: u64) -> (DataInfo, Identities) {
        let mut notes = source.notes.take();
        if self.columns.len() == MOST_COLUMNS {
            notes.push(format!("only {MOST_COLUMNS} columns are described"));
        }
        let content = |what: &'static str| Some(Content { what, rows: *self.contents.get(what)? });
        let skipped = |(first, rows): (&Skipped, u64)| SkippedKind { rows, first: first.clone() };
        let repeated = self.identities.sort();
        let info = DataInfo {
            path: path.to_path_buf(),
            files: source.files.len(),
            rows,
            read: self.read,
            usable: self.usable,
            contents: CONTENTS.into_iter().filter_map(content).collect(),
            skipped: self.skipped.kinds().into_iter().map(skipped).collect(),
            missing_images: self.missing_images,
            repeated,
            trees: self.trees.finish(),
            columns: self.columns.into_iter().map(|(name, values)| values.finish(name)).collect(),
            notes,
        };
        (info, self.identities)
    }
}

/// What rows can have, in the order in which it is listed.
const CONTENTS: [&str; 9] = [
    "an image",
    "several images",
    "a video",
    "an answer",
    "a preference between two answers",
    "several questions",
    "an action",
    "text without an answer",
    "a tree of replies",
];

fn contents(record: &Record) -> Vec<&'static str> {
    let answered = record.turns.iter().any(|turn| turn.role == Role::Assistant);
    let questions = record.turns.iter().filter(|turn| turn.role == Role::User).count();
    let (images, video) = (record.images.len(), record.video.is_some());
    let is_tree = !record.tree.nodes.is_empty();
    let present = [
        !video && images == 1,
        !video && images > 1,
        video,
        answered && record.pair.is_none(),
        record.pair.is_some(),
        questions > 1,
        record.action.is_some(),
        !answered && record.pair.is_none() && record.action.is_none() && !is_tree,
        is_tree,
    ];
    CONTENTS.into_iter().zip(present).filter_map(|(what, present)| present.then_some(what)).collect()
}

/// The values of a column while it is read.
struct ColumnValues {
    count: u64,
    /// Smallest and largest number and the sum, as long as all values are numbers.
    numbers: Option<[f64; 3]>,
    /// As long as there are few.
    values: Option<BTreeMap<String, u64>>,
}

impl Default for ColumnValues {
    fn default() -> Self {
        let numbers = Some([f64::INFINITY, f64::NEG_INFINITY, 0.0]);
        Self { count: 0, numbers, values: Some(BTreeMap::new()) }
    }
}

impl ColumnValues {
    fn add(&mut self, value: &Value) {
        self.count += 1;
        self.numbers = self.numbers.zip(number(value)).map(|([low, high, sum], x)| [low.min(x), high.max(x), sum + x]);
        let Some(values) = &mut self.values else { return };
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        if text.chars().count() > VALUE_LENGTH || (values.len() == MOST_VALUES && !values.contains_key(&text)) {
            self.values = None;
        } else {
            *values.entry(text).or_default() += 1;
        }
    }

    fn finish(self, name: String) -> Column {
        let mean = |[low, high, sum]: [f64; 3]| [low, sum / self.count as f64, high];
        let mut values: Vec<(String, u64)> = self.values.into_iter().flatten().collect();
        values.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        Column { name, count: self.count, numbers: self.numbers.map(mean), values }
    }
}

/// Hashes of the content of a data set: 8 bytes for each key, question, row and image.
#[derive(Default)]
struct Identities {
    own_keys: bool,
    keys: Vec<u64>,
    questions: Vec<u64>,
    rows: Vec<u64>,
    images: Vec<u64>,
}

impl Identities {
    fn add(&mut self, key: &str, record: &Record) {
        let images: Vec<u64> = record.images.iter().map(image_identity).collect();
        let asked = match record.turns.split_last() {
            Some((last, before)) if last.role == Role::Assistant && record.pair.is_none() => before,
            _ => &record.turns[..],
        };
        let mut question = DefaultHasher::new();
        for turn in asked {
            turn.role.name().hash(&mut question);
            turn.parts.iter().for_each(|part| match part {
                TurnPart::Text(text) => text.hash(&mut question),
                TurnPart::Image(number) => images.get(*number).hash(&mut question),
                TurnPart::Video => images.hash(&mut question),
            });
        }
        let mut row = question.clone();
        record.turns[asked.len()..].iter().for_each(|turn| turn.text().hash(&mut row));
        record.pair.iter().for_each(|pair| [&pair.chosen, &pair.rejected].hash(&mut row));
        if let Some(action) = &record.action {
            format!("{action:?}").hash(&mut row);
        }
        self.keys.push(hash(key));
        self.questions.push(question.finish());
        self.rows.push(row.finish());
        self.images.extend(images);
    }

    /// Sorts everything and drops what is repeated. Returns how many rows were.
    fn sort(&mut self) -> u64 {
        let rows = self.rows.len();
        for list in [&mut self.keys, &mut self.questions, &mut self.rows, &mut self.images] {
            list.sort_unstable();
            list.dedup();
        }
        (rows - self.rows.len()) as u64
    }

    fn shared(&self, other: &Self, sets: [usize; 2]) -> Shared {
        let count = |a: &[u64], b: &[u64]| a.iter().filter(|x| b.binary_search(x).is_ok()).count() as u64;
        Shared {
            sets,
            keys: (self.own_keys && other.own_keys).then(|| count(&self.keys, &other.keys)),
            questions: count(&self.questions, &other.questions),
            rows: count(&self.rows, &other.rows),
            images: count(&self.images, &other.images),
        }
    }
}

fn image_identity(image: &ImageFile) -> u64 {
    match &image.bytes {
        Some(bytes) => hash(bytes),
        None if image.path.contains("://") => hash(&image.path),
        None => hash(&std::path::absolute(&image.file).unwrap_or_else(|_| image.file.clone())),
    }
}

fn hash<T: Hash + ?Sized>(value: &T) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}
