//! Opens files for their readers, and decompresses them if they are compressed by gzip or Zstandard, which their first
//! bytes reveal. Knows no formats.

use crate::{Error, Result};
use flate2::read::MultiGzDecoder;
use sae_core::error::Hint;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Cursor, Read};
use std::path::{Path, PathBuf};

/// The beginning of a Git LFS pointer, which takes the place of a file until its content is downloaded.
const POINTER: &[u8] = b"version https://git-lfs.github.com/spec/";

/// Extensions of compressed files.
const COMPRESSED: [&str; 3] = ["gz", "zst", "zstd"];

/// A stream in which bytes can be skipped.
pub(super) trait Input: BufRead + Send {
    /// Skips `bytes`. If the stream ends earlier, this may be reported only by the next read.
    fn skip(&mut self, bytes: u64) -> io::Result<()> {
        let skipped = io::copy(&mut Read::take(&mut *self, bytes), &mut io::sink())?;
        if skipped < bytes { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
    }
}

impl Input for BufReader<File> {
    fn skip(&mut self, bytes: u64) -> io::Result<()> {
        let bytes = i64::try_from(bytes).map_err(|_| io::ErrorKind::UnexpectedEof)?;
        self.seek_relative(bytes)
    }
}

impl Input for BufReader<MultiGzDecoder<BufReader<File>>> {}

impl Input for BufReader<zstd::Decoder<'static, BufReader<File>>> {}

impl Input for Cursor<Vec<u8>> {}

/// Opens a file.
///
/// # Errors
/// The file cannot be opened, or is a Git LFS pointer.
pub(super) fn open(path: &Path) -> Result<Box<dyn Input>> {
    const BUFFER: usize = 1 << 16;
    let file = File::open(path).map_err(Error::io("open", path))?;
    let mut file = BufReader::with_capacity(BUFFER, file);
    match file.fill_buf().map_err(Error::io("read", path))? {
        [0x1f, 0x8b, ..] => Ok(Box::new(BufReader::with_capacity(BUFFER, MultiGzDecoder::new(file)))),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => {
            let decompressed = zstd::Decoder::with_buffer(file).map_err(Error::io("read", path))?;
            Ok(Box::new(BufReader::with_capacity(BUFFER, decompressed)))
        }
        head if head.starts_with(POINTER) => {
            let error = Error::data(path)("the file is a Git LFS pointer: its content was not downloaded");
            Err(error.with_hint(Hint::from("run `git lfs pull`")))
        }
        _ => Ok(Box::new(file)),
    }
}

/// The first bytes of a decompressed file: at most `bytes`, or fewer if it is shorter.
///
/// # Errors
/// See [`open`].
pub(super) fn head(path: &Path, bytes: u64) -> Result<Vec<u8>> {
    let mut head = Vec::new();
    open(path)?.take(bytes).read_to_end(&mut head).map_err(Error::io("read", path))?;
    Ok(head)
}

/// The extension of a file in lowercase. For compressed files it is that of the content: `jsonl` for `rows.jsonl.gz`.
pub(super) fn extension(path: &Path) -> String {
    let lower = |path: &Path| path.extension().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    let last = lower(path);
    if COMPRESSED.contains(&last.as_str())
        && let Some(inside) = path.file_stem().map(|stem| lower(Path::new(stem))).filter(|inside| !inside.is_empty())
    {
        return inside;
    }
    last
}

/// The name of a compressed file without the extension of the compression. Nothing if the file is not compressed.
pub(super) fn uncompressed(path: &Path) -> Option<PathBuf> {
    let last = path.extension()?.to_string_lossy().to_ascii_lowercase();
    COMPRESSED.contains(&last.as_str()).then(|| path.with_extension(""))
}
