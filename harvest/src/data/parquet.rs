//! Rows of a Parquet file, read one batch at a time, and the reasons why a file cannot be read.

use super::notes::Notes;
use super::row::FileRows;
use super::table;
use crate::{Error, Result};
use arrow::array::{Array, RecordBatch};
use arrow::error::ArrowError;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::file::reader::{FileReader, SerializedFileReader};
use sae_core::table::{Bounded, catch_panic};
use std::fmt::Display;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

/// Number of rows that are decoded at once. It is small because each row may hold images.
const BATCH: usize = 64;

/// The bytes with which a Parquet file begins and ends.
pub(super) const MAGIC: &[u8; 4] = b"PAR1";

/// Reads the rows of a file.
pub(super) fn rows(path: &Path, notes: &Notes) -> Result<FileRows> {
    read(path, notes, |reader| reader.with_batch_size(BATCH))
}

/// Reads one row of a file, or nothing if the file does not have it.
pub(super) fn row(path: &Path, number: usize) -> Result<FileRows> {
    read(path, &Notes::default(), |reader| reader.with_batch_size(1).with_offset(number).with_limit(1))
}

/// The number of rows of a file, according to its metadata.
pub(super) fn count(path: &Path) -> Result<u64> {
    let file = open(path)?;
    let reader = attempt(path, || SerializedFileReader::new(file))?;
    Ok(u64::try_from(reader.metadata().file_metadata().num_rows()).unwrap_or(0))
}

type Reader = ParquetRecordBatchReaderBuilder<Bounded>;

fn read(path: &Path, notes: &Notes, part: impl Fn(Reader) -> Reader) -> Result<FileRows> {
    let file = open(path)?;
    let reader = attempt(path, || Reader::try_new(file))?;
    table::check_names(path, reader.schema())?;
    let mut reader = attempt(path, || part(reader).build())?;
    let (path, notes) = (path.to_path_buf(), notes.clone());
    let mut failed = false;
    let batches = std::iter::from_fn(move || {
        let mut next = || reader.next().map(|batch| batch.and_then(checked)).transpose();
        let batch = if failed { None } else { attempt(&path, &mut next).transpose() };
        failed |= batch.as_ref().is_some_and(Result::is_err);
        batch
    });
    Ok(Box::new(batches.flat_map(move |batch| match batch {
        Ok(batch) => table::rows(batch, notes.clone()),
        Err(error) => Box::new(std::iter::once(Err(error))),
    })))
}

/// Checks that all texts of a batch are UTF-8 and that all offsets are valid. The reader does not check this if damaged
/// metadata claims it.
pub(crate) fn checked(batch: RecordBatch) -> Result<RecordBatch, ArrowError> {
    batch.columns().iter().try_for_each(|column| column.to_data().validate_full())?;
    Ok(batch)
}

/// Runs a step of the reader, which panics on some damaged files. A panic becomes an error.
pub(crate) fn attempt<T, E: Display>(path: &Path, step: impl FnOnce() -> Result<T, E>) -> Result<T> {
    catch_panic(step).ok_or_else(|| Error::data(path)("the Parquet file is damaged"))?.map_err(unreadable(path))
}

/// Opens a file whose first and last bytes are those of a Parquet file.
fn open(path: &Path) -> Result<Bounded> {
    let mut file = File::open(path).map_err(Error::io("open", path))?;
    let mut ends = [[0; 4]; 2];
    let size = file.metadata().map_err(Error::io("read", path))?.len();
    if size >= 12 {
        let [first, last] = &mut ends;
        file.read_exact(first).map_err(Error::io("read", path))?;
        file.seek(SeekFrom::End(-4)).and_then(|_| file.read_exact(last)).map_err(Error::io("read", path))?;
    }
    match ends.each_ref() {
        [MAGIC, MAGIC] => Bounded::new(file).map_err(Error::io("read", path)),
        [_, b"PARE"] => Err(Error::data(path)("the Parquet file is encrypted, which is not supported")),
        [MAGIC, _] => {
            Err(Error::data(path)("the Parquet file is damaged: it is cut off, or was not closed by its writer"))
        }
        _ if size == 0 => Err(Error::data(path)("the Parquet file is empty (0 bytes)")),
        _ => Err(Error::data(path)(format!("this is not a Parquet file ({size} bytes that do not begin with PAR1)"))),
    }
}

/// The error for a file that cannot be read. Unsupported codecs and types are distinguished from damage.
fn unreadable<E: Display>(path: &Path) -> impl Fn(E) -> Error {
    move |error| {
        let cause = error.to_string();
        let cause = cause.lines().next().unwrap_or_default();
        let unsupported =
            ["NYI", "not supported", "unsupported", "Disabled feature", "not implemented", "not yet implemented"];
        Error::data(path)(if unsupported.iter().any(|words| cause.contains(words)) {
            format!("the Parquet file uses an unsupported codec or type ({cause})")
        } else {
            format!("the Parquet file is damaged or written in an unknown way ({cause})")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::image::ImageFile;
    use arrow::array::{ArrayRef, BinaryArray, Int32Array, ListArray, StringArray, StructArray};
    use arrow::buffer::{NullBuffer, OffsetBuffer};
    use arrow::datatypes::Field;
    use parquet::arrow::ArrowWriter;
    use serde_json::json;
    use std::sync::Arc;

    fn structure(fields: Vec<(&str, ArrayRef)>, nulls: Option<NullBuffer>) -> ArrayRef {
        let (names, columns): (Vec<_>, Vec<_>) = fields.into_iter().unzip();
        let fields = names.into_iter().zip(&columns).map(|(name, c)| Field::new(name, c.data_type().clone(), true));
        Arc::new(StructArray::new(fields.collect(), columns, nulls))
    }

    #[test]
    fn images_and_conversations_of_hugging_face_tables_are_read() {
        let bytes = Arc::new(BinaryArray::from(vec![Some(&b"png"[..]), None]));
        let paths = Arc::new(StringArray::from(vec![Some("a.png"), None]));
        let image = structure(vec![("bytes", bytes), ("path", paths)], Some(vec![true, false].into()));
        let sides = Arc::new(StringArray::from(vec!["human", "gpt", "human"]));
        let values = Arc::new(StringArray::from(vec!["<image>", "a", "b"]));
        let turns = structure(vec![("from", sides), ("value", values)], None);
        let item = Arc::new(Field::new("item", turns.data_type().clone(), true));
        let turns: ArrayRef = Arc::new(ListArray::new(item, OffsetBuffer::from_lengths([2, 1]), turns, None));
        let ids: ArrayRef = Arc::new(Int32Array::from(vec![7, 8]));
        let batch = RecordBatch::try_from_iter([("id", ids), ("image", image), ("conversations", turns)]).unwrap();

        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.parquet");
        let mut writer = ArrowWriter::try_new(File::create(&path).unwrap(), batch.schema(), None).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
        let all = |rows: FileRows| -> Vec<_> { rows.map(|row| row.unwrap().unwrap()).collect() };
        let found = all(rows(&path, &Notes::default()).unwrap());
        for (number, wanted) in found.iter().enumerate() {
            assert_eq!(format!("{:?}", all(row(&path, number).unwrap())), format!("{:?}", [wanted]));
        }
        assert!(all(row(&path, 2).unwrap()).is_empty());
        let image = Some(ImageFile::from_bytes("a.png".into(), b"png".to_vec()));
        assert_eq!((found[0].images["image"].as_slice(), &found[1].fields["image"]), (&[image][..], &json!(null)));
        let turns = json!([{"from": "human", "value": "<image>"}, {"from": "gpt", "value": "a"}]);
        assert_eq!((&found[0].fields["id"], &found[0].fields["conversations"]), (&json!(7), &turns));

        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
        assert!(rows(&path, &Notes::default()).err().unwrap().to_string().contains("damaged"));
    }

    #[test]
    fn a_page_header_that_claims_two_billion_fields_is_an_error() {
        // Found by fuzzing: without a bound, reading takes hours.
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/damaged/endless-header.parquet");
        let found: Vec<_> = rows(&path, &Notes::default()).unwrap().collect();
        assert!(found.last().unwrap().is_err());
    }

    #[test]
    fn texts_that_are_not_utf8_are_an_error_whatever_the_metadata_claims() {
        // Found by fuzzing: the reader returned a text that was cut inside of a character.
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/damaged/invalid-text.parquet");
        let found: Vec<_> = rows(&path, &Notes::default()).unwrap().collect();
        assert!(found.last().unwrap().as_ref().unwrap_err().to_string().contains("invalid-text.parquet"));
    }
}
