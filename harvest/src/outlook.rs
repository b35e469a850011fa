//! What a harvest would do, told before it begins: the checkpoint, the layers, the rows of the data, the memory. Runs
//! nothing.

use crate::capture::TOGETHER;
use crate::data::{Format, Mapping, Source};
use crate::model::{ModelConfig, check_layers};
use crate::{Checkpoint, ComputeDtype, Error, Plan, Result};
use parquet::file::reader::{FileReader, SerializedFileReader};
use sae_core::store::StoreDtype;
use sae_core::tensors::Tensors;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
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
    /// Rows that will be captured: those of the shard, if the plan is of one.
    pub rows: u64,
    /// The first of them.
    pub first_row: u64,
    /// What the harvest will hold at once.
    pub memory: Memory,
}

/// Bytes that a harvest holds at its peak, estimated from headers and configuration alone. On a GPU `weights` and `batch`
/// lie there. FORMATS.md says how far this is from what was measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Memory {
    /// Weights up to the last layer, in the dtype that is computed in.
    pub weights: u64,
    /// The same as they lie in the checkpoint's files: mapped, so that the system takes them back when it needs to.
    pub mapped: u64,
    /// A part's activations, and their copies while a layer of it is written.
    pub part: u64,
    /// Tokens and images of the parts that are prepared, waiting and in the model.
    pub samples: u64,
    /// Working memory of the batches in the model, if a sample is as long as it may be.
    pub batch: u64,
    /// All but `mapped`, with what the program itself takes.
    pub total: u64,
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
        let there = rows(&source)?.min(self.limit.unwrap_or(u64::MAX));
        let shard = self.shard.map_or(Ok(0..there), |shard| shard.rows(there))?;
        Ok(Outlook {
            model: self.model.clone(),
            architecture: config.architecture.clone(),
            blocks: config.text.layers,
            layers: self.layers.clone(),
            d_in: config.text.hidden_size,
            data: self.data.clone(),
            files: source.files.len(),
            rows: shard.end - shard.start,
            first_row: shard.start,
            memory: self.memory(config)?,
        })
    }

    fn memory(&self, config: &ModelConfig) -> Result<Memory> {
        let last = self.layers.iter().copied().max().unwrap_or(0);
        let (numbers, mapped) = weights(&self.model, last)?;
        let width = match self.dtype {
            ComputeDtype::F32 => 4,
            ComputeDtype::Bf16 => 2,
        };
        let stored = match self.store_dtype {
            StoreDtype::F32 => 4,
            StoreDtype::F16 | StoreDtype::Bf16 => 2,
        };
        let [d, layers, context] = [config.text.hidden_size, self.layers.len(), config.text.context].map(|n| n as u64);
        let (part_rows, batch) = (self.part_rows as u64, self.batch_tokens as u64);
        // A part is closed by the sample that fills it. While a shard is written it lies there encoded, and as a file.
        let rows = part_rows.saturating_add(context);
        let part = rows.saturating_mul(d * (4 * layers + 2 * stored));
        let frame = config.vision.as_ref().map_or(0, |v| 3 * (v.image_size * v.image_size) as u64);
        let images = config.vision.as_ref().map_or(0, |v| rows / v.positions().max(1) as u64);
        let samples = PARTS * (rows.saturating_mul(TOKEN) + images * frame);
        // Numbers of a token that a block has in memory at once, fitted to what was measured; of the decoder with the rows
        // of the attention of the longest sample, or of the vision tower, which is done before.
        let text = &config.text;
        let longest = batch.min(context);
        let attention = text.heads as u64 * longest.min(ATTENTION);
        let decoder = 5 * d + text.intermediate_size as u64 + 3 * layers * d / 2 + attention;
        let tower = config.vision.as_ref().map_or(0, |v| {
            let positions = v.positions().max(1);
            (5 * v.hidden_size + v.intermediate_size + 2 * frame as usize / positions) as u64
        });
        let batch = TOGETHER as u64 * batch.max(longest).saturating_mul(width * decoder.max(tower));
        let weights = numbers.saturating_mul(width);
        let total = [part, samples, batch, PROGRAM].into_iter().fold(weights, u64::saturating_add);
        Ok(Memory { weights, mapped, part, samples, batch, total })
    }
}

/// Parts whose samples are in memory: one in the model, one that waits, one that is being prepared.
const PARTS: u64 = 3;
/// The program itself, its threads, tokenizer and tables.
const PROGRAM: u64 = 64 << 20;
/// Bytes of a token with its text.
const TOKEN: u64 = 128;
/// Columns of an attention matrix that are held at once.
const ATTENTION: u64 = 1024;

/// Numbers in the tensors of a checkpoint that are needed up to block `last`, and their bytes in its files. Reads
/// headers only.
fn weights(folder: &Path, last: usize) -> Result<(u64, u64)> {
    #[derive(serde::Deserialize)]
    struct Index {
        weight_map: BTreeMap<String, String>,
    }
    let index = folder.join("model.safetensors.index.json");
    let files: BTreeSet<String> = match index.exists() {
        true => sae_core::file::read_json::<Index>(&index, 1 << 28)?.weight_map.into_values().collect(),
        false => ["model.safetensors".to_string()].into(),
    };
    let (mut numbers, mut bytes) = (0, 0);
    for file in files.iter().filter(|file| Path::new(file).components().count() == 1) {
        let tensors = Tensors::open(&folder.join(file))?;
        for name in tensors.names().iter().filter(|name| is_needed(name, last)) {
            numbers += tensors.shape(name).unwrap_or_default().iter().product::<usize>() as u64;
            bytes += tensors.bytes(name).map_or(0, |(_, bytes)| bytes.len() as u64);
        }
    }
    Ok((numbers, bytes))
}

/// Whether a tensor is needed for hidden states behind block `last`: all but later decoder blocks and the head.
fn is_needed(name: &str, last: usize) -> bool {
    let parts: Vec<&str> = name.split('.').collect();
    if parts.contains(&"lm_head") {
        return false;
    }
    let vision = parts.iter().any(|part| part.contains("vision") || part.contains("visual"));
    let block = parts.windows(2).find(|two| two[0] == "layers").and_then(|two| two[1].parse::<usize>().ok());
    vision || block.is_none_or(|block| block <= last)
}

/// The number of rows, without understanding them.
pub(crate) fn rows(source: &Source) -> Result<u64> {
    match source.format {
        Format::Folder => Ok(source.files.len() as u64),
        Format::JsonLines => source.files.iter().map(|file| lines(file)).sum(),
        Format::Parquet => source.files.iter().map(|file| table_rows(file)).sum(),
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
    fn only_weights_that_are_loaded_count() {
        for (name, needed) in [
            ("language_model.model.layers.2.mlp.up_proj.weight", true),
            ("model.language_model.layers.3.mlp.up_proj.weight", false),
            ("model.vision_tower.vision_model.encoder.layers.9.mlp.fc1.weight", true),
            ("model.embed_tokens.weight", true),
            ("lm_head.weight", false),
        ] {
            assert_eq!(is_needed(name, 2), needed, "{name}");
        }
    }

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
