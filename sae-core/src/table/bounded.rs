//! A file for the Parquet reader whose end is an error. The `parquet` crate reads whatever a page header claims: at the end of an
//! ordinary file it reads nothing, without an error, up to two billion times in a row; and it allocates whatever length damaged
//! metadata has.

use bytes::Bytes;
use parquet::errors::{ParquetError, Result};
use parquet::file::reader::{ChunkReader, Length};
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};

/// A file that is read from any offset, and whose end is an error.
#[derive(Debug)]
pub struct Bounded {
    file: File,
    length: u64,
}

impl Bounded {
    /// A file with its present length.
    ///
    /// # Errors
    /// The length cannot be read.
    pub fn new(file: File) -> io::Result<Self> {
        let length = file.metadata()?.len();
        Ok(Self { file, length })
    }
}

impl Length for Bounded {
    fn len(&self) -> u64 {
        self.length
    }
}

impl ChunkReader for Bounded {
    type T = BufReader<UntilEnd>;

    fn get_read(&self, start: u64) -> Result<Self::T> {
        let mut file = self.file.try_clone()?;
        file.seek(SeekFrom::Start(start))?;
        Ok(BufReader::new(UntilEnd(file)))
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes> {
        let end = start.checked_add(length as u64);
        if end.is_none_or(|end| end > self.length) {
            return Err(ParquetError::EOF(format!("{length} bytes from {start} on, of {}", self.length)));
        }
        let mut bytes = vec![0; length];
        self.get_read(start)?.read_exact(&mut bytes)?;
        Ok(bytes.into())
    }
}

/// A reader of a file whose end is an error.
#[derive(Debug)]
pub struct UntilEnd(File);

impl Read for UntilEnd {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        match self.0.read(out)? {
            0 if !out.is_empty() => Err(io::ErrorKind::UnexpectedEof.into()),
            read => Ok(read),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_read_or_allocated_beyond_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, b"0123456789").unwrap();
        let file = Bounded::new(File::open(&path).unwrap()).unwrap();
        assert_eq!((file.len(), &file.get_bytes(7, 3).unwrap()[..]), (10, &b"789"[..]));
        for (start, length) in [(8, 3), (11, 0), (0, usize::MAX), (u64::MAX, 1)] {
            assert!(file.get_bytes(start, length).is_err(), "{length} from {start}");
        }
        let mut rest = file.get_read(8).unwrap();
        assert_eq!(rest.read(&mut [0; 8]).unwrap(), 2);
        assert!(rest.read(&mut [0; 8]).is_err());
        // A reader that takes no more than the file has does not get the error.
        let mut taken = Vec::new();
        assert_eq!(file.get_read(5).unwrap().take(5).read_to_end(&mut taken).unwrap(), 5);
    }
}
