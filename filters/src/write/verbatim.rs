//! Writes selected rows of a data set in the data set's own format. Rows are copied unchanged rather than parsed and printed
//! again, and images are copied to the paths at which the copied rows refer to them. Never changes the input.

use super::image::{ImageOutput, Images, is_inside};
use super::row::Row;
use super::{Contents, Division, Job, Sink, archive, cells, json};
use crate::{Error, Result};
use arrow::array::{BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use sae_core::error::Cause;
use sae_core::store::image_format;
use sae_core::{file, table};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::{Path, PathBuf};

/// A writer that copies rows once all of them are known: file by file, in the order of the file.
pub(super) struct Verbatim {
    root: PathBuf,
    out: PathBuf,
    images: Images,
    division: Division,
    rows: BTreeMap<PathBuf, BTreeSet<u64>>,
}

impl Verbatim {
    /// A writer that copies rows of the data set to files with the same names.
    pub fn new(job: &Job, out: &Path) -> Self {
        let (root, out) = (job.root.to_path_buf(), out.to_path_buf());
        Self { root, out, images: job.images, division: job.division, rows: BTreeMap::new() }
    }
}

impl Sink for Verbatim {
    fn push(&mut self, row: &Row, images: &mut ImageOutput) -> Result<()> {
        let (file, number) = &row.source;
        if !is_inside(file) {
            return Err(Error::source(file, format!("the sample {} has no place in the data set", row.id)));
        }
        if self.images == Images::Reference && SourceKind::from_path(file) == SourceKind::Picture {
            let text = "in a folder of pictures with captions, a picture is its row and cannot be referred to";
            return Err(Error::request(Cause::with_hint(text, super::copied_images())));
        }
        self.rows.entry(file.clone()).or_default().insert(*number);
        row.images.iter().try_for_each(|image| images.copy_for_verbatim_row(image))
    }

    fn finish(&mut self) -> Result<Contents> {
        let mut contents = Contents::default();
        let mut has_pictures = false;
        for (name, rows) in &self.rows {
            let (from, to) = (self.root.join(name), self.out.join(name));
            let copied = match SourceKind::from_path(name) {
                SourceKind::Table => copy_table(&from, rows, &to)?,
                SourceKind::Json => match (self.division.json_rows)(&from)? {
                    Some(texts) => json::copy_rows(texts, rows, &to)?,
                    None => return Err(refused(&from)),
                },
                SourceKind::Cells => cells::copy_rows(&from, rows, &to, self.division.delimiter)?,
                SourceKind::Archive => archive::copy_rows(&from, rows, &to, self.division.member_key)?,
                SourceKind::Picture => copy_sidecars(&from, &to)?,
                SourceKind::Other => return Err(refused(&from)),
            };
            if copied != rows.len() as u64 {
                let cause = format!("{copied} of {} chosen rows are still there: the file has changed", rows.len());
                return Err(Error::source(&from, cause));
            }
            match SourceKind::from_path(name) {
                SourceKind::Picture => has_pictures = true,
                _ => contents.sets.entry(extension(name)).or_default().push(name.clone()),
            }
        }
        if contents.sets.len() == 1 {
            let files = contents.sets.into_values();
            contents.sets = files.map(|files| (Contents::DEFAULT.to_owned(), files)).collect();
        }
        if has_pictures {
            let note =
                "`datasets` reads the images of a folder without the texts next to them; it reads the format parquet";
            contents.notes.push(note.into());
        }
        Ok(contents)
    }
}

/// The kind of a file with rows.
#[derive(Clone, Copy, PartialEq)]
enum SourceKind {
    Table,
    Json,
    /// CSV and TSV.
    Cells,
    Archive,
    /// An image that is a row.
    Picture,
    Other,
}

impl SourceKind {
    fn from_path(file: &Path) -> Self {
        match extension(file).as_str() {
            "parquet" | "pq" | "parq" => Self::Table,
            "json" | "jsonl" | "ndjson" | "jsonlines" => Self::Json,
            "csv" | "tsv" | "tab" => Self::Cells,
            "tar" => Self::Archive,
            extension if image_format::EXTENSIONS.contains(&extension) => Self::Picture,
            _ => Self::Other,
        }
    }
}

fn refused(path: &Path) -> Error {
    let text = "rows of a file of this kind cannot be copied unchanged";
    Error::source(path, Cause::with_hint(text, super::other_format(&["parquet", "jsonl", "webdataset"])))
}

fn extension(file: &Path) -> String {
    file.extension().unwrap_or_default().to_string_lossy().to_ascii_lowercase()
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    Ok(file::write(to, |out| {
        let mut from = File::open(from).map_err(sae_core::Error::io("open", from))?;
        std::io::copy(&mut from, out).map_err(sae_core::Error::io("write", to))?;
        Ok(())
    })?)
}

/// Copies the files that describe an image, `key.txt` and `key.json`. The image itself is copied as the image of the row.
fn copy_sidecars(picture: &Path, to: &Path) -> Result<u64> {
    let extensions = ["txt", "json", "TXT", "JSON"];
    for (from, to) in extensions.map(|e| (picture.with_extension(e), to.with_extension(e))) {
        if from.exists() {
            copy(&from, &to)?;
        }
    }
    Ok(1)
}

fn copy_table(from: &Path, rows: &BTreeSet<u64>, to: &Path) -> Result<u64> {
    let reader = table::scan(from, &[])?;
    let schema = table::schema(from)?;
    let (mut row, mut copied) = (0, 0);
    let chosen = reader.map(|batch| {
        let batch = batch?;
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
pub(in crate::write) mod tests {
    use super::super::{Image, JsonRows, Report, Shape, Writer, below};
    use super::*;
    use crate::write::Format;
    use arrow::array::{Int64Array, StringArray};
    use sha2::{Digest, Sha256};
    use std::fs;

    /// The simplest division: lines are rows, or the elements of an array in `.json` files.
    pub const DIVISION: Division = Division {
        member_key: |name| name.split_once('.').map(|(key, _)| key),
        delimiter: |_| b',',
        json_rows: |path| {
            let text = fs::read_to_string(path).unwrap();
            let texts: Vec<_> = text.lines().filter(|line| !line.is_empty()).map(|line| Ok(line.into())).collect();
            let rows =
                JsonRows { are_lines: path.extension() != Some("json".as_ref()), texts: Box::new(texts.into_iter()) };
            Ok((!path.ends_with("wrapped.json")).then_some(rows))
        },
    };

    /// The row `number` of `file`, which names an image.
    fn row(root: &Path, file: &str, number: u64, image: &str) -> Row {
        let place = root.join(file).parent().unwrap().join(image);
        let bytes = fs::read(&place).unwrap_or_default();
        let sha256 = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        let image = Image { name: image.into(), inside: below(root, &place), file: place, bytes: None, sha256 };
        Row {
            number: 0,
            id: "id".into(),
            key: "key".into(),
            source: (file.into(), number),
            score: None,
            turns: vec![],
            pair: None,
            images: if bytes.is_empty() { vec![] } else { vec![image] },
            columns: Default::default(),
        }
    }

    fn copy_rows(root: &Path, out: &Path, rows: Vec<Row>) -> Result<Report> {
        let job = Job {
            format: Format::Same,
            root,
            images: Images::Copy,
            linked: None,
            shard: 1,
            mapped: &[],
            division: DIVISION,
        };
        let mut writer = Writer::new(&job, out, &Shape::default())?;
        rows.into_iter().try_for_each(|row| writer.push(row))?;
        writer.finish()
    }

    #[test]
    fn lines_and_arrays_are_copied_unchanged_with_their_images() {
        let dir = tempfile::tempdir().unwrap();
        let (root, out) = (dir.path().join("in"), dir.path().join("out"));
        fs::create_dir_all(root.join("sub/images")).unwrap();
        for n in 0..4 {
            fs::write(root.join(format!("sub/images/{n}.png")), [n]).unwrap();
        }
        fs::write(dir.path().join("outside.png"), "outside").unwrap();
        fs::write(root.join("sub/a.jsonl"), "{\"n\":0 ,\"x\":1e0}\n\n{\"n\":1}\n{\"n\":2,  \"ü\":3}").unwrap();
        fs::write(root.join("b.json"), "{\"n\": 0}\n  {\"n\": 1.50, \"s\": \"a,]\\\"\", \"x\": NaN} ").unwrap();
        fs::write(root.join("c.csv"), "a,text\r\n1,\"two\nlines\"\r\n\r\n2,three\r\n3,\"a \"\"b\"\"\"").unwrap();
        let absolute = root.join("sub/images/3.png");
        let rows = vec![
            row(&root, "sub/a.jsonl", 0, "images/0.png"),
            row(&root, "sub/a.jsonl", 2, "../sub/images/2.png"),
            row(&root, "b.json", 0, absolute.to_str().unwrap()),
            row(&root, "b.json", 1, "../outside.png"),
            row(&root, "c.csv", 0, ""),
            row(&root, "c.csv", 2, ""),
        ];
        let report = copy_rows(&root, &out, rows).unwrap();
        assert_eq!((report.written.rows, report.written.images), (6, 2));
        let cells = fs::read_to_string(out.join("c.csv")).unwrap();
        assert_eq!(cells, "a,text\r\n1,\"two\nlines\"\r\n3,\"a \"\"b\"\"\"");
        assert_eq!(report.left_behind, [absolute, "../outside.png".into()].into());
        assert_eq!(fs::read_to_string(out.join("sub/a.jsonl")).unwrap(), "{\"n\":0 ,\"x\":1e0}\n{\"n\":2,  \"ü\":3}\n");
        let array = fs::read_to_string(out.join("b.json")).unwrap();
        assert_eq!(array, "[\n{\"n\": 0},\n{\"n\": 1.50, \"s\": \"a,]\\\"\", \"x\": NaN}\n]\n");
        assert!(out.join("sub/images/2.png").exists() && !out.join("sub/images/1.png").exists());
        assert_eq!(report.contents.sets.keys().collect::<Vec<_>>(), ["csv", "json", "jsonl"]);
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
        let rows = vec![row(dir.path(), "t.parquet", 1, ""), row(dir.path(), "t.parquet", 4, "")];
        copy_rows(dir.path(), &dir.path().join("out"), rows).unwrap();
        let back = table::read(&dir.path().join("out/t.parquet"), &[]).unwrap();
        assert_eq!(back.schema().fields(), batch.schema().fields());
        let schema = table::schema(&dir.path().join("out/t.parquet")).unwrap();
        assert!(schema.metadata().contains_key("huggingface"));
        assert_eq!(back.column(0).as_ref(), &Int64Array::from(vec![1, 4]) as &dyn arrow::array::Array);
    }

    #[test]
    fn changed_data_sets_and_paths_outside_of_the_folder_are_rejected() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("a.jsonl"), "{}\n").unwrap();
        let refused = |file: &str, number| {
            let rows = vec![row(dir.path(), file, number, "")];
            copy_rows(dir.path(), &dir.path().join("out"), rows).unwrap_err().message()
        };
        let error = refused("a.jsonl", 5);
        assert!(error.contains("0 of 1 chosen rows") && error.contains("a.jsonl"), "{error}");
        assert!(refused("../a.jsonl", 0).contains("no place in the data set"));
        fs::write(dir.path().join("wrapped.json"), "{\"data\": [{\"n\": 1}, {\"n\": 2}]}").unwrap();
        for file in ["a.arrow", "a.jsonl.gz", "wrapped.json"] {
            assert!(refused(file, 0).contains("hint: set the output format to parquet"), "{file}");
        }
    }

    #[test]
    fn a_missing_image_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("a.jsonl"), "{}\n").unwrap();
        fs::write(dir.path().join("a.png"), "x").unwrap();
        let rows = vec![row(dir.path(), "a.jsonl", 0, "a.png")];
        fs::remove_file(dir.path().join("a.png")).unwrap();
        let error = copy_rows(dir.path(), &dir.path().join("out"), rows).unwrap_err().to_string();
        assert!(error.contains("a.png"), "{error}");
    }
}
