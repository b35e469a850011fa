//! Reads the record batches of an Arrow IPC file or stream one at a time, in bounded memory. Both kinds of file consist
//! of the same messages; a file also begins with a magic number and ends with a footer, which is not needed here. Does
//! not know any columns.

use crate::{Error, Result};
use arrow::array::RecordBatch;
use arrow::buffer::Buffer;
use arrow::ipc::reader::StreamDecoder;
use arrow::ipc::{Message, RecordBatch as Batch, root_as_message};
use sae_core::error::Hint;
use sae_core::table::catch_panic;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

/// The continuation marker that a message begins with.
const CONTINUATION: [u8; 4] = [0xff; 4];

/// The magic number that an Arrow IPC file begins with, padded to eight bytes.
const FILE_MAGIC: &[u8; 8] = b"ARROW1\0\0";

/// Counts the rows of a file without decoding them.
///
/// # Errors
/// See [`Batches::open`]. The file is damaged or truncated.
pub(crate) fn count(path: &Path) -> Result<u64> {
    let mut batches = Batches::open(path)?;
    let mut rows = 0;
    while let Some(message) = batches.head()? {
        let head = root_as_message(&message).map_err(Error::data(path))?;
        rows += head.header_as_record_batch().map_or(0, |batch| u64::try_from(batch.length()).unwrap_or(0));
        let body = batches.body_length(&head)?;
        batches.pass_over(body)?;
    }
    Ok(rows)
}

/// The record batches of a file. No batch follows an error.
pub(crate) struct Batches {
    path: PathBuf,
    file: BufReader<File>,
    /// Bytes of the file that have not been read yet.
    left: u64,
    decoder: StreamDecoder,
    ended: bool,
}

impl Batches {
    /// Opens a file.
    ///
    /// # Errors
    /// The file cannot be opened, or is not Arrow IPC.
    pub fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(Error::io("open", path))?;
        let left = file.metadata().map_err(Error::io("read", path))?.len();
        let file = BufReader::new(file);
        let mut batches = Self { path: path.to_path_buf(), file, left, decoder: StreamDecoder::new(), ended: false };
        let mut magic = Vec::new();
        batches.file.by_ref().take(8).read_to_end(&mut magic).map_err(Error::io("read", path))?;
        match magic.as_slice() {
            magic if magic == FILE_MAGIC => batches.left -= 8,
            [a, b, c, d, ..] if [*a, *b, *c, *d] == CONTINUATION => {
                batches.file.seek_relative(-(magic.len() as i64)).map_err(Error::io("read", path))?;
            }
            b"" => return Err(Error::data(path)("the Arrow file is empty")),
            _ => {
                return Err(Error::data(path)(
                    "expected an Arrow IPC file or stream, found something else (Feather version 1 is not supported)",
                ));
            }
        }
        Ok(batches)
    }

    fn batch(&mut self) -> Result<Option<RecordBatch>> {
        while let Some(mut message) = self.message()? {
            let decoder = &mut self.decoder;
            // The arrow crate panics on damage that the checks below do not find. Such a panic ends the file, not the
            // program.
            let decoded = catch_panic(|| decoder.decode(&mut message));
            let decoded = decoded.ok_or_else(|| Error::data(&self.path)("the Arrow file is damaged"))?;
            if let Some(batch) = decoded.map_err(Error::data(&self.path))? {
                return Ok(Some(batch));
            }
        }
        Ok(None)
    }

    /// The next message with its length, head and body, or nothing at the end. Allocates no more memory than the file
    /// has bytes, and checks that the buffers of the body are inside it.
    fn message(&mut self) -> Result<Option<Buffer>> {
        let Some(head) = self.head()? else { return Ok(None) };
        let wrong = |cause: &str| Error::data(&self.path)(cause);
        let message = root_as_message(&head).map_err(Error::data(&self.path))?;
        let body = self.body_length(&message)?;
        let batch = message.header_as_record_batch();
        let batch = batch.or_else(|| message.header_as_dictionary_batch().and_then(|dictionary| dictionary.data()));
        if batch.is_some_and(|batch| batch.compression().is_some()) {
            let cause = "the record batches of the Arrow file are compressed, which is not supported";
            let hint = Hint::from("write the file with compression=None, or write Parquet");
            return Err(wrong(cause).with_hint(hint));
        }
        if batch.is_some_and(|batch| !is_within(&batch, body)) {
            return Err(wrong("a buffer of the Arrow file is outside of its message"));
        }
        let mut whole = [&CONTINUATION[..], &(head.len() as u32).to_le_bytes(), &head].concat();
        self.read(body, &mut whole)?;
        Ok(Some(Buffer::from_vec(whole)))
    }

    /// The head of the next message, or nothing at the end.
    fn head(&mut self) -> Result<Option<Vec<u8>>> {
        if self.ended {
            return Ok(None);
        }
        let mut start = Vec::new();
        self.read(8, &mut start)?;
        let [marker @ .., a, b, c, d] = start.as_slice() else { return Ok(None) };
        if marker != CONTINUATION {
            return Err(Error::data(&self.path)(
                "a message of the Arrow file does not begin with the continuation marker",
            ));
        }
        let length = u32::from_le_bytes([*a, *b, *c, *d]);
        if length == 0 {
            self.ended = true;
            return Ok(None);
        }
        let mut head = Vec::new();
        self.read(u64::from(length), &mut head)?;
        Ok(Some(head))
    }

    fn body_length(&self, message: &Message) -> Result<u64> {
        let length = u64::try_from(message.bodyLength());
        length.map_err(|_| Error::data(&self.path)("a message of the Arrow file has a body of negative length"))
    }

    fn read(&mut self, bytes: u64, out: &mut Vec<u8>) -> Result<()> {
        self.take(bytes)?;
        let read = self.file.by_ref().take(bytes).read_to_end(out).map_err(Error::io("read", &self.path))?;
        if read as u64 == bytes {
            Ok(())
        } else {
            Err(Error::data(&self.path)("the file became shorter while it was read"))
        }
    }

    fn pass_over(&mut self, bytes: u64) -> Result<()> {
        self.take(bytes)?;
        let bytes = i64::try_from(bytes).map_err(Error::data(&self.path))?;
        self.file.seek_relative(bytes).map_err(Error::io("read", &self.path))
    }

    /// Subtracts bytes from those that are left. If a stream was truncated between two messages, only its end marker is
    /// missing.
    fn take(&mut self, bytes: u64) -> Result<()> {
        let left = self.left.checked_sub(bytes);
        self.left = left.ok_or_else(|| Error::data(&self.path)("the Arrow file is truncated: it has no end marker"))?;
        Ok(())
    }
}

/// Whether the buffers of a batch are within the `body` bytes that follow its head.
fn is_within(batch: &Batch, body: u64) -> bool {
    let end = |offset: i64, length: i64| {
        u64::try_from(offset)
            .ok()
            .zip(u64::try_from(length).ok())
            .and_then(|(offset, length)| offset.checked_add(length))
    };
    let buffers = batch.buffers();
    buffers.iter().flatten().all(|buffer| end(buffer.offset(), buffer.length()).is_some_and(|end| end <= body))
}

impl Iterator for Batches {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        let batch = self.batch();
        self.ended |= batch.is_err();
        batch.transpose()
    }
}
