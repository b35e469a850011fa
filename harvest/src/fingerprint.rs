//! Hashes of files, which say whether a checkpoint or a data set is the same as before. Reads the ends of large files alone.

use crate::checkpoint::Checkpoint;
use crate::identity::hex;
use crate::model::Weights;
use crate::{Error, Result, precedence};
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};

/// A hash of files, as far as they decide the output of a checkpoint: small files completely; of large files the size
/// and both ends (the header of a safetensors file lists the name and shape of every tensor).
pub(crate) fn fingerprint<'a>(files: impl Iterator<Item = &'a Path>) -> Result<String> {
    use std::io::{Read, Seek, SeekFrom};
    const END: u64 = 1 << 20;
    let mut hash = Sha256::new();
    for path in files {
        let mut file = std::fs::File::open(path).map_err(Error::io("open", path))?;
        let size = file.metadata().map_err(Error::io("read", path))?.len();
        hash.update(path.file_name().unwrap_or_default().as_encoded_bytes());
        hash.update(size.to_le_bytes());
        let mut ends = Vec::new();
        let read = file.by_ref().take(END).read_to_end(&mut ends);
        read.and_then(|_| file.seek(SeekFrom::Start(size.saturating_sub(END).max(END.min(size)))))
            .and_then(|_| file.take(END).read_to_end(&mut ends))
            .map_err(Error::io("read", path))?;
        hash.update(&ends);
    }
    Ok(hex(hash.finalize()))
}

impl Checkpoint {
    /// A hash of everything in the checkpoint that decides its hidden states: small files completely, of large files
    /// the size and both ends.
    pub fn fingerprint(&self) -> Result<String> {
        let mut files: Vec<PathBuf> = Weights::open(self.folder())?.files().map(Path::to_path_buf).collect();
        files.extend(precedence::DECISIVE.iter().map(|name| self.folder().join(name)).filter(|path| path.exists()));
        fingerprint(files.iter().map(PathBuf::as_path))
    }
}
