//! What a harvest would do, told before it begins: the checkpoint, the layers, the rows of the data. Runs nothing.

use crate::data::{Format, Mapping, Source};
use crate::model::check_layers;
use crate::{Checkpoint, Error, Plan, Result};
use parquet::file::reader::{FileReader, SerializedFileReader};
use serde::Serialize;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

/// A plan, held against the checkpoint and the data that it names.
#[derive(Clone, Debug, Serialize)]
pub struct Outlook {
    /// Checkpoint folder.
    pub model: PathBuf,
    /// Architecture, as in its `config.json`.
    pub architecture: String,
    /// Decoder blocks that it has.
    pub blocks: usize,
    /// Those captured behind.
    pub layers: Vec<usize>,
    /// Width of the residual stream.
    pub d_in: usize,
    /// Data set.
    pub data: PathBuf,
    /// Files of it that hold rows.
    pub files: usize,
    /// Rows that will be read.
    pub rows: u64,
}

impl Plan {
    /// Holds the plan against its checkpoint and data.
    ///
    /// # Errors
    /// Whatever would keep the harvest from beginning: a checkpoint that is not supported, a layer that is not there, no
    /// data.
    pub fn outlook(&self) -> Result<Outlook> {
        let checkpoint = Checkpoint::open(&self.model)?;
        let config = checkpoint.config();
        check_layers(config, &self.layers)?;
        let source = Source::open(&self.data)?;
        Ok(Outlook {
            model: self.model.clone(),
            architecture: config.architecture.clone(),
            blocks: config.text.layers.len(),
            layers: self.layers.clone(),
            d_in: config.text.hidden_size,
            data: self.data.clone(),
            files: source.files.len(),
            rows: rows(&source)?.min(self.limit.unwrap_or(u64::MAX)),
        })
    }
}

/// The number of rows, without understanding them.
fn rows(source: &Source) -> Result<u64> {
    match source.format {
        Format::Folder => Ok(source.files.len() as u64),
        Format::JsonLines => source.files.iter().map(|file| lines(file)).sum(),
        Format::Parquet => source.files.iter().map(|file| table_rows(file)).sum(),
        Format::WebDataset => source.files.iter().map(|file| Source::archived(file)).sum(),
        Format::JsonArray => Ok(source.rows(&Mapping::new())?.count() as u64),
    }
}

fn lines(path: &Path) -> Result<u64> {
    let mut file = BufReader::with_capacity(1 << 20, File::open(path).map_err(Error::io("open", path))?);
    let (mut rows, mut content) = (0, false);
    loop {
        let buffer = file.fill_buf().map_err(Error::io("read", path))?;
        if buffer.is_empty() {
            return Ok(rows + u64::from(content));
        }
        for byte in buffer {
            match byte {
                b'\n' => rows += u64::from(std::mem::take(&mut content)),
                _ => content |= !byte.is_ascii_whitespace(),
            }
        }
        let used = buffer.len();
        file.consume(used);
    }
}

fn table_rows(path: &Path) -> Result<u64> {
    let file = File::open(path).map_err(Error::io("open", path))?;
    let reader = SerializedFileReader::new(file).map_err(Error::data(path))?;
    Ok(reader.metadata().file_metadata().num_rows().max(0) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_counted_without_empty_lines() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.jsonl");
        for (text, rows) in [("", 0), ("{}", 1), ("{}\n\n  \n{}\n", 2), ("{}\r\n{}\r\n", 2)] {
            std::fs::write(&path, text).unwrap();
            assert_eq!(lines(&path).unwrap(), rows, "{text:?}");
        }
    }
}
