//! What a harvest would do, told before it begins: the checkpoint, the layers, the rows of the data, the memory. Runs
//! nothing.

use crate::capture::TOGETHER;
use crate::model::config::{BlockConfig, Tiling};
use crate::model::{Model, ModelConfig, Size, Weights, check_layers};
use crate::{Checkpoint, ComputeDtype, Plan, Result};
use sae_core::store::StoreDtype;
use serde::Serialize;
use std::path::PathBuf;

/// A plan, held against the checkpoint and the data that it names.
#[derive(Clone, Debug, Serialize)]
pub struct Preview {
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
    /// What people should know about the data although it costs no row.
    pub notes: Vec<String>,
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
    pub fn preview(&self) -> Result<Preview> {
        let checkpoint = Checkpoint::open(&self.model)?;
        let config = checkpoint.config();
        check_layers(config, &self.layers)?;
        let source = self.source()?;
        let there = source.count()?.min(self.limit.unwrap_or(u64::MAX));
        let shard = self.shard.map_or(Ok(0..there), |shard| shard.rows(there))?;
        Ok(Preview {
            model: self.model.clone(),
            architecture: config.architecture.clone(),
            blocks: config.text.layers.len(),
            layers: self.layers.clone(),
            d_in: config.text.hidden_size,
            data: self.data.clone(),
            files: source.files.len(),
            rows: shard.end - shard.start,
            first_row: shard.start,
            notes: self.notes.take(),
            memory: self.memory(config)?,
        })
    }

    fn memory(&self, config: &ModelConfig) -> Result<Memory> {
        let last = self.layers.iter().copied().max().unwrap_or(0);
        let Size { numbers, stored: mapped } = Model::size(config, &Weights::open(&self.model)?, Some(last));
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
        // Pixels that a position shows, and rows of the tower that become one position.
        let (pixels, patches) = config.vision.as_ref().map_or((0, 0), |vision| {
            let side = vision.tower().map_or(1, |(tower, _)| tower.patches.side);
            let cell = match vision.tiling {
                Tiling::Square { side, grid, .. } | Tiling::AnyResolution { side, grid, .. } => side / grid.max(1),
                Tiling::Native { patch, merge, .. } => patch * merge,
            };
            ((cell * cell) as u64, (cell / side).max(1).pow(2) as u64)
        });
        let samples = PARTS * rows.saturating_mul(TOKEN + 3 * pixels);
        // Numbers that a row of a block has in memory at once: the decoder's, or the tower's, which is done before.
        let block = |block: &BlockConfig| {
            (4 * block.width + (block.heads + 2 * block.kv_heads) * block.head_dim + 2 * block.d_ff) as u64
        };
        let decoder = block(&config.text.block) + 2 * layers * d;
        let tower = config.vision.as_ref().and_then(|vision| vision.tower());
        let tower = tower.map_or(0, |(tower, _)| patches * (block(&tower.block) + 2 * tower.patches.width() as u64));
        let batch = TOGETHER as u64 * batch.max(batch.min(context)).saturating_mul(4 * decoder.max(tower));
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
