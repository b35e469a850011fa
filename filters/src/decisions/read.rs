//! Reads decisions from CSV or Parquet files of any tool, batch by batch.

use crate::{Error, Result};
use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::DataType;
use sae_core::error::Cause;
use sae_core::store::sample::Sample;
use sae_core::table;
use std::collections::HashMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

/// The column with the numbers of samples.
const NUMBER: &str = "sample";
/// Columns that identify samples. The first one that a file has is used.
const NAMES: [&str; 4] = [NUMBER, "sample_id", "id", "key"];
/// Columns that a row with the number of a sample is compared with. The first one that a file has is used.
const IDS: [&str; 2] = ["sample_id", "id"];
/// Columns that say whether a sample is kept.
const FLAGS: [&str; 2] = ["keep", "stays"];
/// What to do about rows that name no sample.
const BY_NAME: &str = "name samples by `sample`, `id` or `key`, as in samples.parquet";
/// What to do about decisions on other samples.
const OTHER_RUN: &str = "use decisions that were made from the tables of this run; another run has other samples";
/// Maximum number of unknown names in an error message.
const TOLD: usize = 5;

/// The files that decisions at `path` are in: the file itself, or the Parquet files of a folder as engines with several writers
/// make it, in the order of their names.
///
/// # Errors
/// The folder cannot be read, or has no Parquet file.
pub fn files(path: &Path) -> Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return Ok(vec![path.to_path_buf()]);
    }
    let io = || sae_core::Error::io("read the folder", path);
    let entries = std::fs::read_dir(path).map_err(io())?.collect::<std::io::Result<Vec<_>>>().map_err(io())?;
    let mut files: Vec<PathBuf> =
        entries.into_iter().map(|entry| entry.path()).filter(|path| is_parquet(path)).collect();
    // Names that begin so are not data to Spark and others.
    let is_hidden =
        |name: &OsStr| name.as_encoded_bytes().starts_with(b"_") || name.as_encoded_bytes().starts_with(b".");
    files.retain(|path| !path.file_name().is_some_and(is_hidden));
    files.sort();
    if files.is_empty() {
        return Err(Error::source(path, "expected Parquet files with decisions in the folder, found none"));
    }
    Ok(files)
}

fn is_parquet(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("parquet"))
}

/// Reads the decision about each sample from a file, or from a folder of Parquet files, with one row per sample. A sample is
/// identified by `sample` (its number), by `sample_id` or `id` (its hash, or the data set's key if there is no such hash), or by
/// `key`. `keep` or `stays` is true or false; a sample without a row then has no decision (`None`). Without such a column, the
/// listed samples are kept and all others are not. Where a file has numbers and ids, both have to be those of the run. Other
/// columns are ignored, so that `decisions.csv` and `decisions.parquet` of an earlier filter can be edited and used again. A text
/// file with a single column needs no header. Memory: the names of one batch of rows, and a few bytes for each sample; about a hundred
/// more for each name if samples are not identified by their numbers.
///
/// # Errors
/// A file cannot be read, a column has a type that cannot hold what it should, a row names no sample of the run or says nothing
/// about it, two rows have the number of one sample, or rows of one name contradict each other.
pub fn read(path: &Path, samples: &[Sample]) -> Result<Vec<Option<bool>>> {
    let mut tally = Tally::new(samples);
    for path in &files(path)? {
        if is_parquet(path) {
            parquet(path, &mut tally)?;
        } else {
            text(path, &mut tally)?;
        }
    }
    tally.finish(path)
}

/// The columns of a file that are used, by their places in its header.
#[derive(Clone, Debug, PartialEq)]
struct Columns {
    /// The column that identifies samples, and its name.
    name: (usize, String),
    /// The column of ids, if samples are identified by their numbers and the file has ids as well.
    id: Option<(usize, String)>,
    /// The column of the decisions, if there is one.
    flag: Option<(usize, String)>,
}

impl Columns {
    /// The columns of a header that identify samples and decide about them.
    fn find(path: &Path, header: &[String]) -> Result<Self> {
        let find = |known: &[&str]| {
            let place = |known: &&str| header.iter().position(|name| name == known).map(|n| (n, (*known).to_owned()));
            known.iter().find_map(place)
        };
        let name = find(&NAMES).ok_or_else(|| {
            let found: Vec<String> = header.iter().take(20).map(|name| short(name)).collect();
            let cause = format!("no column names samples: expected {}, found {}", NAMES.join(", "), found.join(", "));
            Error::source(path, Cause::with_hint(cause, BY_NAME.into()))
        })?;
        Ok(Self { id: find(&IDS).filter(|_| name.1 == NUMBER), flag: find(&FLAGS), name })
    }

    /// The names of the columns.
    fn names(&self) -> [Option<&str>; 3] {
        [Some(&self.name), self.id.as_ref(), self.flag.as_ref()].map(|column| Some(column?.1.as_str()))
    }
}

/// What a row says, as text; `None` is a null.
struct Row<'a> {
    name: Option<&'a str>,
    id: Option<&'a str>,
    flag: Option<&'a str>,
}

/// The decisions of all rows that were read.
struct Tally<'a> {
    samples: &'a [Sample],
    /// The columns of the files, and the first of them.
    columns: Option<(Columns, PathBuf)>,
    resolve: Resolve<'a>,
    decisions: Vec<Option<bool>>,
    rows: usize,
    /// Rows that name no sample, and what the first of them name.
    unmatched: usize,
    unknown: Vec<String>,
}

impl<'a> Tally<'a> {
    fn new(samples: &'a [Sample]) -> Self {
        Self {
            samples,
            columns: None,
            resolve: Resolve::Numbers,
            decisions: vec![None; samples.len()],
            rows: 0,
            unmatched: 0,
            unknown: Vec::new(),
        }
    }

    /// Begins a file with these columns.
    fn begin(&mut self, path: &Path, columns: &Columns) -> Result<()> {
        match &self.columns {
            None => {
                self.resolve = Resolve::new(&columns.name.1, self.samples);
                self.columns = Some((columns.clone(), path.to_path_buf()));
                Ok(())
            }
            Some((first, _)) if first.names() == columns.names() => Ok(()),
            Some((first, other)) => {
                let names = |columns: &Columns| columns.names().into_iter().flatten().collect::<Vec<_>>().join(", ");
                let (first, found, other) = (names(first), names(columns), other.display());
                Err(Error::source(path, format!("expected the columns {first} as in {other}, found {found}")))
            }
        }
    }

    /// Takes in row `number` of a file, counted from 1.
    fn row(&mut self, path: &Path, number: usize, columns: &Columns, row: &Row) -> Result<()> {
        let error = |text: String, hint: &'static str| Err(Error::source(path, Cause::with_hint(text, hint.into())));
        let stays = match &columns.flag {
            Some((_, column)) => match flag(row.flag) {
                Some(stays) => stays,
                None => {
                    let found = row.flag.map_or("nothing".into(), |text| format!("{:?}", short(text)));
                    let text = format!("row {number} has {found} in {column}: expected true or false");
                    return error(text, "decide about every row, for example with COALESCE(keep, false)");
                }
            },
            None => true,
        };
        self.rows += 1;
        let found = row.name.map_or(Found::None, |name| self.resolve.samples(name));
        let found = match &found {
            Found::None => &[][..],
            Found::Number(n) if *n >= self.samples.len() => &[],
            Found::Number(n) => std::slice::from_ref(n),
            Found::Several(several) => several,
        };
        if found.is_empty() {
            self.unmatched += 1;
            if self.unknown.len() < TOLD {
                self.unknown.push(short(row.name.unwrap_or("(none)")));
            }
        }
        for n in found {
            let Sample { id, key, .. } = &self.samples[*n];
            if columns.id.is_some() && ![id, key].map(|own| Some(own.as_str())).contains(&row.id) {
                let told = row.id.map_or("nothing".into(), short);
                let text = format!("row {number} has {told} as the id of sample {n}: expected {}", short(id));
                return error(text, OTHER_RUN);
            }
            match self.decisions[*n].replace(stays) {
                Some(_) if matches!(self.resolve, Resolve::Numbers) => {
                    let text =
                        format!("row {number} is the second one about sample {n}: expected one row for each sample");
                    return error(text, "write each sample once; a join may have repeated rows");
                }
                Some(earlier) if earlier != stays => {
                    let text = format!("one row keeps the sample {key} and another drops it");
                    return error(text, "name samples by `sample`, since samples that say the same have the same id");
                }
                _ => (),
            }
        }
        Ok(())
    }

    /// The decision about each sample.
    fn finish(self, path: &Path) -> Result<Vec<Option<bool>>> {
        let Some((columns, _)) = &self.columns else { return Ok(self.decisions) };
        let (unmatched, rows, column, unknown) = (self.unmatched, self.rows, &columns.name.1, self.unknown.join(", "));
        if unmatched == rows && rows > 0 {
            let text = format!("none of the {rows} rows names a sample of the run in the column {column}: {unknown}");
            return Err(Error::source(path, Cause::with_hint(text, OTHER_RUN.into())));
        }
        if unmatched > 0 {
            let text =
                format!("{unmatched} of {rows} rows do not name a sample of the run in the column {column}: {unknown}");
            return Err(Error::source(path, Cause::with_hint(text, BY_NAME.into())));
        }
        let is_list = columns.flag.is_none();
        Ok(self.decisions.into_iter().map(|decision| decision.or(is_list.then_some(false))).collect())
    }
}

/// Finds samples by their names.
enum Resolve<'a> {
    Numbers,
    Names(HashMap<&'a str, Vec<usize>>),
}

/// The samples of a name.
enum Found<'a> {
    None,
    Number(usize),
    Several(&'a [usize]),
}

impl<'a> Resolve<'a> {
    fn new(column: &str, samples: &'a [Sample]) -> Self {
        if column == NUMBER {
            return Self::Numbers;
        }
        let mut of: HashMap<&str, Vec<usize>> = HashMap::new();
        let ids = IDS.contains(&column);
        let keys = matches!(column, "key" | "id");
        for (n, sample) in samples.iter().enumerate() {
            if ids {
                of.entry(&sample.id).or_default().push(n);
            }
            // A key cannot be equal to the hash of another sample.
            if keys && (!ids || sample.key != sample.id) {
                of.entry(&sample.key).or_default().push(n);
            }
        }
        Self::Names(of)
    }

    fn samples(&self, name: &str) -> Found<'_> {
        match self {
            // Tools without nullable integers write 3.0.
            Self::Numbers => name.strip_suffix(".0").unwrap_or(name).parse().map_or(Found::None, Found::Number),
            Self::Names(of) => of.get(name).map_or(Found::None, |samples| Found::Several(samples)),
        }
    }
}

fn flag(text: Option<&str>) -> Option<bool> {
    match text?.trim().to_ascii_lowercase().as_str() {
        "true" | "t" | "yes" | "y" | "1" | "1.0" => Some(true),
        "false" | "f" | "no" | "n" | "0" | "0.0" => Some(false),
        _ => None,
    }
}

fn short(text: &str) -> String {
    text.chars().take(40).collect()
}

/// Whether values of a type are texts.
fn is_text(kind: &DataType) -> bool {
    match kind {
        DataType::Dictionary(_, values) => is_text(values),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => true,
        // Text that is not marked as such, and columns of nulls alone.
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::Null => true,
        _ => false,
    }
}

fn parquet(path: &Path, tally: &mut Tally) -> Result<()> {
    let schema = table::schema(path)?;
    let header: Vec<String> = schema.fields().iter().map(|field| field.name().clone()).collect();
    let columns = Columns::find(path, &header)?;
    let check = |(n, name): &(usize, String), expected: &str, fits: fn(&DataType) -> bool| {
        let kind = schema.field(*n).data_type();
        if fits(kind) || is_text(kind) {
            return Ok(());
        }
        let text = format!("the column {name} holds {kind}: expected {expected}");
        Err(Error::source(path, Cause::with_hint(text, format!("cast the column {name} before it is written").into())))
    };
    // Narrower types round numbers of samples to those of others.
    let is_exact = |kind: &DataType| kind.is_integer() || *kind == DataType::Float64;
    check(&columns.name, "whole numbers or texts that name samples", is_exact)?;
    columns.id.iter().try_for_each(|id| check(id, "texts", is_exact))?;
    let is_flag = |kind: &DataType| kind.is_numeric() || *kind == DataType::Boolean;
    columns.flag.iter().try_for_each(|flag| check(flag, "booleans, or the numbers 1 and 0", is_flag))?;
    tally.begin(path, &columns)?;
    let names: Vec<&str> = columns.names().into_iter().flatten().collect();
    let mut rows = 0;
    for batch in table::scan(path, &names)? {
        let batch = batch?;
        let [name, id, flag] = columns.names();
        let text =
            |column: Option<&str>| column.map(|name| table::cast(path, &batch, name, &DataType::Utf8)).transpose();
        let texts = [text(name)?, text(id)?, text(flag)?];
        for n in 0..batch.num_rows() {
            let [name, id, flag] = texts.each_ref().map(|column| cell(column.as_ref()?, n));
            let row = Row { name, id, flag };
            rows += 1;
            tally.row(path, rows, &columns, &row)?;
        }
    }
    Ok(())
}

/// A text of a column of texts.
fn cell(column: &ArrayRef, row: usize) -> Option<&str> {
    let column = column.as_string::<i32>();
    column.is_valid(row).then(|| column.value(row))
}

fn text(path: &Path, tally: &mut Tally) -> Result<()> {
    let tabs = path.extension().is_some_and(|e| e.eq_ignore_ascii_case("tsv"));
    let damaged = |error: csv::Error| Error::from(sae_core::Error::format(path)(error));
    let reader =
        csv::ReaderBuilder::new().has_headers(false).delimiter(if tabs { b'\t' } else { b',' }).from_path(path);
    let mut rows = reader.map_err(damaged)?.into_records();
    let empty = || Error::source(path, "the file has no decision about any sample");
    let first = rows.next().ok_or_else(empty)?.map_err(damaged)?;
    let first: Vec<String> = first.iter().map(|cell| cell.trim_start_matches('\u{feff}').trim().to_owned()).collect();
    let bare = first.len() == 1 && !NAMES.contains(&first[0].as_str());
    let columns =
        if bare { Columns { name: (0, "id".into()), id: None, flag: None } } else { Columns::find(path, &first)? };
    tally.begin(path, &columns)?;
    let mut number = 0;
    if bare {
        number += 1;
        tally.row(path, number, &columns, &Row { name: Some(&first[0]), id: None, flag: None })?;
    }
    for row in rows {
        let row = row.map_err(damaged)?;
        let cell = |(n, _): &(usize, String)| row.get(*n).map(str::trim).filter(|cell| !cell.is_empty());
        number += 1;
        let (id, flag) = (columns.id.as_ref().and_then(cell), columns.flag.as_ref().and_then(cell));
        tally.row(path, number, &columns, &Row { name: cell(&columns.name), id, flag })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{BooleanArray, Date32Array, Float32Array, Float64Array, Int64Array, LargeStringArray};
    use std::fs;

    fn samples() -> Vec<Sample> {
        let sample = |(id, key): (&str, &str)| {
            let [text, source] = Default::default();
            let (id, key) = (id.into(), key.into());
            Sample { id, key, text, images: vec![], source, meta: serde_json::Value::Null, piece: None }
        };
        [("ha", "1"), ("hb", "x, y"), ("ha", "3")].map(sample).to_vec()
    }

    fn of_text(text: &str) -> Result<Vec<Option<bool>>, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("d.csv");
        fs::write(&path, text).unwrap();
        read(&path, &samples()).map_err(|error| error.to_string())
    }

    #[test]
    fn samples_are_identified_by_number_hash_or_key() {
        let [first, second, both] =
            [[true, false, false], [false, true, false], [true, false, true]].map(|all| all.map(Some).to_vec());
        let some = |all: [Option<bool>; 3]| Ok(all.to_vec());
        assert_eq!(
            of_text("sample,id,key,group,score,stays\n0,ha,1,,,true\n1,hb,\"x, y\",,,false\n"),
            some([Some(true), Some(false), None])
        );
        assert_eq!(of_text("\u{feff}keep,key\r\n1,\"x, y\"\r\n0,1\r\n"), some([Some(false), Some(true), None]));
        assert_eq!(of_text("sample_id\nha\n"), Ok(both.clone()), "samples that say the same have the same id");
        assert_eq!(of_text("id\n1\n"), Ok(first.clone()), "a key where no hash is like that");
        assert_eq!(of_text("hb\n"), Ok(second), "a list of ids needs no header");
        assert_eq!(of_text("sample\n0.0\n2\n"), Ok(both));
        assert_eq!(of_text("id\n"), Ok(vec![Some(false); 3]));
    }

    #[test]
    fn ambiguous_decisions_are_rejected() {
        let unknown = of_text("id\nha\nhc\nhd\n").unwrap_err();
        assert!(unknown.contains("2 of 3 rows do not name a sample") && unknown.contains("hc, hd"), "{unknown}");
        assert!(of_text("sample\n3\n").unwrap_err().contains("none of the 1 rows"));
        let flag = of_text("sample,keep\n0,maybe\n").unwrap_err();
        assert!(flag.contains("row 1 has \"maybe\" in keep"), "{flag}");
        assert!(of_text("sample,keep\n0,\n").unwrap_err().contains("has nothing in keep"));
        let twice = of_text("sample,keep\n0,true\n0,true\n").unwrap_err();
        assert!(twice.contains("row 2 is the second one about sample 0"), "{twice}");
        assert!(of_text("id,keep\nha,true\nha,false\n").unwrap_err().contains("another drops it"));
        assert_eq!(of_text("id,keep\nha,true\nha,true\n"), Ok(vec![Some(true), None, Some(true)]));
        // Numbers alone would fit any run.
        let other = of_text("sample,id,keep\n0,ha,true\n1,hc,true\n").unwrap_err();
        assert!(other.contains("row 2 has hc as the id of sample 1: expected hb"), "{other}");
        assert!(of_text("sample,id\n0,\n").unwrap_err().contains("has nothing as the id of sample 0"));
        assert!(of_text("a,b\n0,true\n").unwrap_err().contains("expected sample, sample_id, id, key, found a, b"));
        assert!(of_text("").unwrap_err().contains("no decision about any sample"));
        assert!(read(Path::new("nowhere.csv"), &samples()).is_err());
    }

    #[test]
    fn tables_of_any_column_types_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("d.parquet");
        let batch = table::batch(vec![
            table::nullable("key", LargeStringArray::from(vec!["3", "1"])),
            table::nullable("keep", BooleanArray::from(vec![true, false])),
        ]);
        table::write(&path, &batch).unwrap();
        assert_eq!(read(&path, &samples()).unwrap(), [Some(false), None, Some(true)]);
        let batch = table::batch(vec![table::nullable("sample", Int64Array::from(vec![1]))]);
        table::write(&path, &batch).unwrap();
        assert_eq!(read(&path, &samples()).unwrap(), [Some(false), Some(true), Some(false)]);
    }

    #[test]
    fn columns_that_cannot_hold_decisions_are_rejected_with_their_type() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("d.parquet");
        let said = |columns: Vec<table::Column>| {
            table::write(&path, &table::batch(columns)).unwrap();
            let error = read(&path, &samples()).unwrap_err();
            assert!(error.to_string().contains("d.parquet") && error.hint().is_some(), "{error}");
            error.to_string()
        };
        let sample = || table::column("sample", Int64Array::from(vec![0, 1]));
        let dates = said(vec![sample(), table::column("keep", Date32Array::from(vec![1, 0]))]);
        assert!(dates.contains("the column keep holds Date32: expected booleans"), "{dates}");
        let truths = || BooleanArray::from(vec![true, false]);
        let names = said(vec![table::column("sample", truths()), table::column("keep", truths())]);
        assert!(names.contains("the column sample holds Boolean: expected whole numbers or texts"), "{names}");
        // 16,777,217 would be 16,777,216.
        let rounded = said(vec![table::column("sample", Float32Array::from(vec![1.0]))]);
        assert!(rounded.contains("the column sample holds Float32: expected whole numbers"), "{rounded}");
        let ids = said(vec![sample(), table::column("id", truths())]);
        assert!(ids.contains("the column id holds Boolean: expected texts"), "{ids}");
        let halves = said(vec![sample(), table::column("keep", Float64Array::from(vec![1.0, 0.5]))]);
        assert!(halves.contains("row 2 has \"0.5\" in keep: expected true or false"), "{halves}");
        let nulls = said(vec![sample(), table::nullable("keep", BooleanArray::from(vec![Some(true), None]))]);
        assert!(nulls.contains("row 2 has nothing in keep"), "{nulls}");
        let nobody = said(vec![table::nullable("sample", Int64Array::from(vec![Some(0), None]))]);
        assert!(nobody.contains("1 of 2 rows do not name a sample") && nobody.contains("(none)"), "{nobody}");
    }

    #[test]
    fn a_folder_of_parquet_files_is_one_table() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, samples: Vec<i64>, keep: Vec<bool>| {
            let columns = vec![
                table::column("sample", Int64Array::from(samples)),
                table::column("keep", BooleanArray::from(keep)),
            ];
            table::write(&dir.path().join(name), &table::batch(columns)).unwrap();
        };
        assert!(read(dir.path(), &samples()).unwrap_err().to_string().contains("found none"));
        write("part-1.parquet", vec![2], vec![true]);
        write("part-0.parquet", vec![0, 1], vec![false, true]);
        fs::write(dir.path().join("_SUCCESS"), "").unwrap();
        write("_hidden.parquet", vec![0], vec![true]);
        assert_eq!(read(dir.path(), &samples()).unwrap(), [Some(false), Some(true), Some(true)]);
        write("part-2.parquet", vec![1], vec![true]);
        let twice = read(dir.path(), &samples()).unwrap_err().to_string();
        assert!(twice.contains("second one about sample 1") && twice.contains("part-2.parquet"), "{twice}");
        let keys = table::batch(vec![table::column("key", LargeStringArray::from(vec!["1"]))]);
        table::write(&dir.path().join("part-2.parquet"), &keys).unwrap();
        let other = read(dir.path(), &samples()).unwrap_err().to_string();
        assert!(other.contains("expected the columns sample, keep as in") && other.contains("found key"), "{other}");
    }
}
