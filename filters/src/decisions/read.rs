//! Reads decisions from a CSV or Parquet file of any tool.

use crate::{Error, Result};
use arrow::array::AsArray;
use arrow::datatypes::DataType;
use sae_core::error::Cause;
use sae_core::store::sample::Sample;
use sae_core::table;
use std::collections::HashMap;
use std::path::Path;

/// Columns that identify samples. The first one that a file has is used.
const NAMES: [&str; 4] = ["sample", "sample_id", "id", "key"];
/// Columns that say whether a sample is kept.
const FLAGS: [&str; 2] = ["keep", "stays"];
/// Maximum number of unknown names in an error message.
const TOLD: usize = 5;

/// Reads whether each sample is kept, from a file with one row per sample. A sample is identified by `sample` (its number), by
/// `sample_id` or `id` (its hash, or the data set's key if there is no such hash), or by `key`. `keep` or `stays` is true or
/// false. Without such a column, all listed samples are kept. Samples without a row are not kept. Other columns are ignored,
/// so that `decisions.csv` and `decisions.parquet` of an earlier filter can be edited and used again. A text file with a single
/// column needs no header.
///
/// # Errors
/// The file cannot be read, it names samples that do not exist, or it decides twice about a sample.
pub fn read(path: &Path, samples: &[Sample]) -> Result<Vec<bool>> {
    let file =
        if path.extension().is_some_and(|e| e.eq_ignore_ascii_case("parquet")) { parquet(path)? } else { text(path)? };
    let error = |cause: Cause| Error::source(path, cause);
    let resolve = Resolve::new(&file, samples);
    let mut kept: Vec<Option<bool>> = vec![None; samples.len()];
    let mut unknown = Vec::new();
    let mut unmatched = 0;
    for (row, name) in file.names.iter().enumerate() {
        let stays = match &file.flags {
            Some((column, flags)) => flag(flags[row].as_deref()).ok_or_else(|| {
                let found = flags[row].as_deref().map_or("nothing".into(), |text| format!("{:?}", short(text)));
                error(format!("row {} has {found} in {column}: expected true or false", row + 1).into())
            })?,
            None => true,
        };
        let found = name.as_deref().map_or(&[][..], |name| resolve.samples(name));
        if found.is_empty() {
            unmatched += 1;
            if unknown.len() < TOLD {
                unknown.push(short(name.as_deref().unwrap_or("(none)")));
            }
        }
        for n in found {
            if kept[*n].replace(stays).is_some_and(|earlier| earlier != stays) {
                return Err(error(format!("one row keeps the sample {} and another drops it", samples[*n].key).into()));
            }
        }
    }
    if unmatched > 0 {
        let (rows, column, unknown) = (file.names.len(), &file.column, unknown.join(", "));
        let text =
            format!("{unmatched} of {rows} rows do not name a sample of the run in the column {column}: {unknown}");
        let hint = "name samples by `sample`, `id` or `key`, as in samples.parquet".into();
        return Err(error(Cause::with_hint(text, hint)));
    }
    Ok(kept.into_iter().map(|kept| kept == Some(true)).collect())
}

/// The columns of a file that are used.
struct File {
    /// The column that identifies samples.
    column: String,
    names: Vec<Option<String>>,
    /// The column of the decisions, if there is one.
    flags: Option<(String, Vec<Option<String>>)>,
}

/// Finds samples by their names.
struct Resolve<'a> {
    of: HashMap<&'a str, Vec<usize>>,
    numbers: Option<Vec<usize>>,
}

impl<'a> Resolve<'a> {
    fn new(file: &File, samples: &'a [Sample]) -> Self {
        let mut of: HashMap<&str, Vec<usize>> = HashMap::new();
        let ids = matches!(file.column.as_str(), "sample_id" | "id");
        let keys = matches!(file.column.as_str(), "key" | "id");
        for (n, sample) in samples.iter().enumerate() {
            if ids {
                of.entry(&sample.id).or_default().push(n);
            }
            // A key cannot be equal to the hash of another sample.
            if keys && (!ids || sample.key != sample.id) {
                of.entry(&sample.key).or_default().push(n);
            }
        }
        Self { of, numbers: (file.column == "sample").then(|| (0..samples.len()).collect()) }
    }

    fn samples(&self, name: &str) -> &[usize] {
        match &self.numbers {
            // Tools without nullable integers write 3.0.
            Some(numbers) => {
                let number: Option<usize> = name.strip_suffix(".0").unwrap_or(name).parse().ok();
                number.and_then(|n| numbers.get(n..=n)).unwrap_or_default()
            }
            None => self.of.get(name).map_or(&[], Vec::as_slice),
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

/// The columns of a header that identify samples and decide about them.
fn columns(path: &Path, header: &[String]) -> Result<(usize, Option<usize>)> {
    let find = |known: &[&str]| known.iter().find_map(|known| header.iter().position(|name| name == known));
    let names = find(&NAMES).ok_or_else(|| {
        let found: Vec<String> = header.iter().take(20).map(|name| short(name)).collect();
        let cause = format!("no column names samples: expected {}, found {}", NAMES.join(", "), found.join(", "));
        Error::source(path, cause)
    })?;
    Ok((names, find(&FLAGS)))
}

fn parquet(path: &Path) -> Result<File> {
    let schema = table::schema(path)?;
    let header: Vec<String> = schema.fields().iter().map(|field| field.name().clone()).collect();
    let (names, flags) = columns(path, &header)?;
    let wanted: Vec<&str> = [Some(names), flags].into_iter().flatten().map(|n| header[n].as_str()).collect();
    let all = table::read(path, &wanted)?;
    let text = |n: usize| -> Result<Vec<Option<String>>> {
        let column = table::cast(path, &all, &header[n], &DataType::Utf8)?;
        Ok(column.as_string::<i32>().iter().map(|text| text.map(str::to_owned)).collect())
    };
    let flags = flags.map(|n| Ok::<_, Error>((header[n].clone(), text(n)?))).transpose()?;
    Ok(File { column: header[names].clone(), names: text(names)?, flags })
}

fn text(path: &Path) -> Result<File> {
    let tabs = path.extension().is_some_and(|e| e.eq_ignore_ascii_case("tsv"));
    let damaged = |error: csv::Error| Error::from(sae_core::Error::format(path)(error));
    let reader =
        csv::ReaderBuilder::new().has_headers(false).delimiter(if tabs { b'\t' } else { b',' }).from_path(path);
    let mut rows = reader.map_err(damaged)?.into_records();
    let empty = || Error::source(path, "the file has no decision about any sample");
    let first = rows.next().ok_or_else(empty)?.map_err(damaged)?;
    let first: Vec<String> = first.iter().map(|cell| cell.trim_start_matches('\u{feff}').trim().to_owned()).collect();
    let bare = first.len() == 1 && !NAMES.contains(&first[0].as_str());
    let (names, flags) = if bare { (0, None) } else { columns(path, &first)? };
    let mut file = File {
        column: if bare { "id".into() } else { first[names].clone() },
        names: if bare { vec![Some(first[0].clone())] } else { Vec::new() },
        flags: flags.map(|n| (first[n].clone(), Vec::new())),
    };
    for row in rows {
        let row = row.map_err(damaged)?;
        let cell = |n: usize| row.get(n).map(str::trim).filter(|cell| !cell.is_empty()).map(str::to_owned);
        file.names.push(cell(names));
        if let (Some((_, cells)), Some(n)) = (&mut file.flags, flags) {
            cells.push(cell(n));
        }
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{BooleanArray, Int64Array, LargeStringArray};
    use std::fs;

    fn samples() -> Vec<Sample> {
        let sample = |(id, key): (&str, &str)| {
            let [text, source] = Default::default();
            let (id, key) = (id.into(), key.into());
            Sample { id, key, text, images: vec![], source, meta: serde_json::Value::Null, piece: None }
        };
        [("ha", "1"), ("hb", "x, y"), ("ha", "3")].map(sample).to_vec()
    }

    fn of_text(text: &str) -> Result<Vec<bool>, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("d.csv");
        fs::write(&path, text).unwrap();
        read(&path, &samples()).map_err(|error| error.to_string())
    }

    #[test]
    fn samples_are_identified_by_number_hash_or_key() {
        let [first, second, both] = [[true, false, false], [false, true, false], [true, false, true]].map(Vec::from);
        assert_eq!(
            of_text("sample,id,key,group,score,stays\n0,ha,1,,,true\n1,hb,\"x, y\",,,false\n"),
            Ok(first.clone())
        );
        assert_eq!(of_text("\u{feff}keep,key\r\n1,\"x, y\"\r\n0,1\r\n"), Ok(second.clone()));
        assert_eq!(of_text("sample_id\nha\n"), Ok(both.clone()), "samples that say the same have the same id");
        assert_eq!(of_text("id\n1\n"), Ok(first.clone()), "a key where no hash is like that");
        assert_eq!(of_text("hb\n"), Ok(second), "a list of ids needs no header");
        assert_eq!(of_text("sample\n0.0\n2\n"), Ok(both));
        assert_eq!(of_text("id\n"), Ok(vec![false; 3]));
    }

    #[test]
    fn ambiguous_decisions_are_rejected() {
        let unknown = of_text("id\nha\nhc\nhd\n").unwrap_err();
        assert!(unknown.contains("2 of 3 rows do not name a sample") && unknown.contains("hc, hd"), "{unknown}");
        assert!(of_text("sample\n3\n").unwrap_err().contains("1 of 1 rows"));
        let flag = of_text("sample,keep\n0,maybe\n").unwrap_err();
        assert!(flag.contains("row 1 has \"maybe\" in keep"), "{flag}");
        assert!(of_text("sample,keep\n0,\n").unwrap_err().contains("has nothing in keep"));
        assert!(of_text("sample,keep\n0,true\n0,false\n").unwrap_err().contains("another drops it"));
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
        assert_eq!(read(&path, &samples()).unwrap(), [false, false, true]);
        let batch = table::batch(vec![table::nullable("sample", Int64Array::from(vec![1]))]);
        table::write(&path, &batch).unwrap();
        assert_eq!(read(&path, &samples()).unwrap(), [false, true, false]);
    }
}
