//! Writes chosen rows of a data set in the data set's own format: rows are copied as they stand, never parsed and
//! printed anew, and the images that they name by relative path come along, or not. Never touches the input.

use super::image::{Images, is_inside};
use super::{Written, archive};
use crate::{Error, Result};
use arrow::array::{BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use sae_core::sample::Sample;
use sae_core::{file, table};
use serde_json::value::RawValue;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

/// The largest JSON array that is read whole; lines and tables have no bound.
const ARRAY_LIMIT: u64 = 4 << 30;

/// The rows to write, by file of the data set.
#[derive(Clone, Debug, Default)]
pub struct Rows {
    /// Rows of each file, and the images that they name.
    files: BTreeMap<PathBuf, (BTreeSet<u64>, BTreeSet<PathBuf>)>,
}

impl Rows {
    /// The rows that samples came from, by their `file:row`.
    ///
    /// # Errors
    /// A sample that does not say where it came from.
    pub fn of<'a>(samples: impl Iterator<Item = &'a Sample>) -> Result<Self> {
        let mut rows = Self::default();
        for sample in samples {
            let place = sample.source.rsplit_once(':').and_then(|(file, row)| Some((file, row.parse().ok()?)));
            let (file, row) = place.filter(|(file, _)| is_inside(Path::new(file))).ok_or_else(|| {
                Error::Request(format!("sample {} has no place in the data set: {:?}", sample.id, sample.source))
            })?;
            let (rows, images) = rows.files.entry(file.into()).or_default();
            rows.insert(row);
            images.extend(sample.images.iter().map(|i| PathBuf::from(&i.path)).filter(|p| is_inside(p)));
        }
        Ok(rows)
    }

    /// The files that hold the rows, in order.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.files.keys().map(PathBuf::as_path)
    }

    /// How many rows of a file there are.
    pub fn count(&self, file: &Path) -> u64 {
        self.files.get(file).map_or(0, |(rows, _)| rows.len() as u64)
    }

    /// Writes the rows, and the images they name, below `out` under the names that they have below `root`.
    ///
    /// # Errors
    /// The disk; or an input file that no longer has the rows.
    pub fn write(&self, root: &Path, out: &Path, carry: Images) -> Result<Written> {
        let mut written = Written::default();
        for (name, (rows, images)) in &self.files {
            let (from, to) = (root.join(name), out.join(name));
            let extension = name.extension().and_then(|e| e.to_str()).unwrap_or_default().to_ascii_lowercase();
            let copied = match extension.as_str() {
                "parquet" => copy_table(&from, rows, &to)?,
                "json" if is_array(&from)? => copy_array(&from, rows, &to)?,
                "json" | "jsonl" | "ndjson" => copy_lines(&from, rows, &to)?,
                "tar" => archive::copy_rows(&from, rows, &to)?,
                "gz" | "tgz" => {
                    let cause =
                        "rows of packed archives are not copied as they stand\nhint: --format webdataset".into();
                    return Err(Error::Source { cause, path: from });
                }
                // A picture is a row.
                _ if carry == Images::Reference => {
                    let text = "pictures with captions are their own rows\nhint: --images copy, or --format jsonl";
                    return Err(Error::Request(text.into()));
                }
                _ => copy_captioned(&from, &to)?,
            };
            if copied != rows.len() as u64 {
                let cause = format!("{copied} of {} chosen rows are still there: the file has changed", rows.len());
                return Err(Error::Source { cause, path: from });
            }
            written.rows += copied;
            if carry == Images::Reference {
                continue;
            }
            // Paths are relative to the file, in tables to the data set.
            let folder = if extension == "parquet" { Path::new("") } else { name.parent().unwrap_or(Path::new("")) };
            for image in images.iter().map(|image| folder.join(image)).filter(|image| root.join(image).is_file()) {
                written.images += copy(&root.join(&image), &out.join(&image))? as u64;
            }
        }
        Ok(written)
    }
}

/// Copies a file unless it is there already; says whether it copied.
fn copy(from: &Path, to: &Path) -> Result<bool> {
    if to.exists() {
        return Ok(false);
    }
    file::write(to, |out| {
        let mut from = File::open(from).map_err(sae_core::Error::io("open", from))?;
        std::io::copy(&mut from, out).map_err(sae_core::Error::io("write", to))?;
        Ok(())
    })?;
    Ok(true)
}

/// A picture and the caption beside it: `key.jpg`, `key.txt`.
fn copy_captioned(from: &Path, to: &Path) -> Result<u64> {
    for extension in ["txt", "json"].map(|e| (from.with_extension(e), to.with_extension(e))) {
        if extension.0.exists() {
            copy(&extension.0, &extension.1)?;
        }
    }
    copy(from, to)?;
    Ok(1)
}

fn copy_lines(from: &Path, rows: &BTreeSet<u64>, to: &Path) -> Result<u64> {
    let mut copied = 0;
    file::write(to, |out| {
        let mut input = BufReader::new(File::open(from).map_err(sae_core::Error::io("open", from))?);
        let (mut row, mut line) = (0, Vec::new());
        while input.read_until(b'\n', &mut line).map_err(sae_core::Error::io("read", from))? > 0 {
            let text = line.trim_ascii();
            if !text.is_empty() {
                if rows.contains(&row) {
                    out.write_all(text)
                        .and_then(|()| out.write_all(b"\n"))
                        .map_err(sae_core::Error::io("write", to))?;
                    copied += 1;
                }
                row += 1;
            }
            line.clear();
        }
        Ok(())
    })?;
    Ok(copied)
}

fn is_array(path: &Path) -> Result<bool> {
    let input = BufReader::new(File::open(path).map_err(sae_core::Error::io("open", path))?);
    let first = std::io::Read::bytes(input).find(|b| !b.as_ref().is_ok_and(u8::is_ascii_whitespace));
    Ok(first.transpose().map_err(sae_core::Error::io("read", path))? == Some(b'['))
}

fn copy_array(from: &Path, rows: &BTreeSet<u64>, to: &Path) -> Result<u64> {
    let all: Vec<Box<RawValue>> = file::read_json(from, ARRAY_LIMIT)?;
    let chosen: Vec<_> = all.iter().enumerate().filter(|(n, _)| rows.contains(&(*n as u64))).map(|(_, v)| v).collect();
    file::write_json(to, &chosen)?;
    Ok(chosen.len() as u64)
}

fn copy_table(from: &Path, rows: &BTreeSet<u64>, to: &Path) -> Result<u64> {
    let reader = table::scan(from, &[])?;
    let schema = table::schema(from)?;
    let (mut row, mut copied) = (0, 0);
    let chosen = reader.map(|batch| {
        let batch = batch.map_err(sae_core::Error::format(from))?;
        let mask: BooleanArray = (row..row + batch.num_rows() as u64).map(|n| Some(rows.contains(&n))).collect();
        row += batch.num_rows() as u64;
        let chosen = filter_record_batch(&batch, &mask).map_err(sae_core::Error::format(from))?;
        copied += chosen.num_rows() as u64;
        chosen.with_schema(schema.clone()).map_err(sae_core::Error::format(from))
    });
    table::write_all(to, &RecordBatch::new_empty(schema.clone()), chosen)?;
    Ok(copied)
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Int64Array, StringArray};
    use sae_core::sample::ImageRef;
    use std::fs;

    fn sample(source: &str, image: &str) -> Sample {
        let image = ImageRef { path: image.into(), width: 1, height: 1, sha256: String::new() };
        Sample {
            id: "id".into(),
            key: "key".into(),
            text: String::new(),
            images: vec![image],
            source: source.into(),
            meta: serde_json::Value::Null,
        }
    }

    #[test]
    fn lines_and_arrays_are_copied_as_they_stand_with_their_images() {
        let dir = tempfile::tempdir().unwrap();
        let (root, out) = (dir.path().join("in"), dir.path().join("out"));
        fs::create_dir_all(root.join("sub/images")).unwrap();
        for n in 0..3 {
            fs::write(root.join(format!("sub/images/{n}.png")), [n]).unwrap();
        }
        fs::write(root.join("sub/a.jsonl"), "{\"n\":0 ,\"x\":1e0}\n\n{\"n\":1}\n{\"n\":2,  \"ü\":3}").unwrap();
        fs::write(root.join("b.json"), " [{\"n\": 0}, {\"n\": 1.50}]").unwrap();
        let samples = [
            sample("sub/a.jsonl:0", "images/0.png"),
            sample("sub/a.jsonl:2", "images/2.png"),
            sample("b.json:1", "../../secret.png"),
        ];
        let written = Rows::of(samples.iter()).unwrap().write(&root, &out, Images::Copy).unwrap();
        assert_eq!(written, Written { rows: 3, images: 2 });
        assert_eq!(fs::read_to_string(out.join("sub/a.jsonl")).unwrap(), "{\"n\":0 ,\"x\":1e0}\n{\"n\":2,  \"ü\":3}\n");
        assert!(fs::read_to_string(out.join("b.json")).unwrap().contains("{\"n\": 1.50}"));
        assert!(out.join("sub/images/2.png").exists() && !out.join("sub/images/1.png").exists());
    }

    #[test]
    fn tables_keep_their_schema_and_metadata() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t.parquet");
        let batch = table::batch(vec![
            table::column("n", Int64Array::from_iter_values(0..5)),
            table::nullable("s", StringArray::from(vec![Some("a"), None, Some("c"), None, Some("e")])),
        ]);
        let metadata = std::collections::HashMap::from([("huggingface".to_string(), "{}".to_string())]);
        let schema = batch.schema().as_ref().clone().with_metadata(metadata);
        let batch = batch.with_schema(schema.into()).unwrap();
        table::write(&path, &batch).unwrap();
        let samples = [sample("t.parquet:1", ""), sample("t.parquet:4", "")];
        Rows::of(samples.iter()).unwrap().write(dir.path(), &dir.path().join("out"), Images::Copy).unwrap();
        let back = table::read(&dir.path().join("out/t.parquet"), &[]).unwrap();
        assert_eq!(back.schema().fields(), batch.schema().fields());
        let schema = table::schema(&dir.path().join("out/t.parquet")).unwrap();
        assert!(schema.metadata().contains_key("huggingface"));
        assert_eq!(back.column(0).as_ref(), &Int64Array::from(vec![1, 4]) as &dyn arrow::array::Array);
    }

    #[test]
    fn a_data_set_that_has_changed_and_paths_that_lead_out_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("a.jsonl"), "{}\n").unwrap();
        let rows = Rows::of([sample("a.jsonl:5", "")].iter()).unwrap();
        let error = rows.write(dir.path(), &dir.path().join("out"), Images::Copy).unwrap_err().to_string();
        assert!(error.contains("0 of 1 chosen rows") && error.contains("a.jsonl"), "{error}");
        assert!(Rows::of([sample("../a.jsonl:0", "")].iter()).is_err());
        assert!(Rows::of([sample("nowhere", "")].iter()).is_err());
    }
}
