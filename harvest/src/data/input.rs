//! Files as their readers take them: unpacked if gzip or Zstandard packed them, which the first bytes tell. Knows no
//! formats.

use crate::{Error, Result};
use flate2::read::MultiGzDecoder;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Cursor, Read};
use std::path::{Path, PathBuf};

/// What a file of Git LFS holds until its content is fetched.
const POINTER: &[u8] = b"version https://git-lfs.github.com/spec/";

/// Extensions of packed files.
const PACKED: [&str; 3] = ["gz", "zst", "zstd"];

/// A stream that can be entered further on.
pub(super) trait Input: BufRead + Send {
    /// Goes on `bytes` later. A stream that ends before that may say so only when it is read.
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
/// It cannot be opened, or stands for a file that was not fetched.
pub(super) fn open(path: &Path) -> Result<Box<dyn Input>> {
    const BUFFER: usize = 1 << 16;
    let file = File::open(path).map_err(Error::io("open", path))?;
    let mut file = BufReader::with_capacity(BUFFER, file);
    match file.fill_buf().map_err(Error::io("read", path))? {
        [0x1f, 0x8b, ..] => Ok(Box::new(BufReader::with_capacity(BUFFER, MultiGzDecoder::new(file)))),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => {
            let unpacked = zstd::Decoder::with_buffer(file).map_err(Error::io("read", path))?;
            Ok(Box::new(BufReader::with_capacity(BUFFER, unpacked)))
        }
        head if head.starts_with(POINTER) => Err(pointer(path)),
        _ => Ok(Box::new(file)),
    }
}

/// The first bytes of a file, unpacked: at most `bytes`, fewer if it is shorter.
///
/// # Errors
/// See [`open`].
pub(super) fn head(path: &Path, bytes: u64) -> Result<Vec<u8>> {
    let mut head = Vec::new();
    open(path)?.take(bytes).read_to_end(&mut head).map_err(Error::io("read", path))?;
    Ok(head)
}

/// A file's extension in lower case, that of the file inside where it is packed: `jsonl` of `rows.jsonl.gz`.
pub(super) fn extension(path: &Path) -> String {
    let lower = |path: &Path| path.extension().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    let last = lower(path);
    if PACKED.contains(&last.as_str())
        && let Some(inside) = path.file_stem().map(|stem| lower(Path::new(stem))).filter(|inside| !inside.is_empty())
    {
        return inside;
    }
    last
}

/// The name of a packed file without what says that it is packed; nothing if it is not packed.
pub(super) fn unpacked(path: &Path) -> Option<PathBuf> {
    let last = path.extension()?.to_string_lossy().to_ascii_lowercase();
    PACKED.contains(&last.as_str()).then(|| path.with_extension(""))
}

fn pointer(path: &Path) -> Error {
    Error::data(path)("the file is a Git LFS pointer: its content was not downloaded\nhint: git lfs pull")
}
