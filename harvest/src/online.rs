//! Activations straight from the model, for training without a store. Rows of the data become samples, which go through
//! the model one chunk at a time; their hidden states are served one by one. Starts again at the first row when the
//! data ends. Writes nothing.

use crate::capture::{CHUNK_ROWS, check, for_each_batch, hidden, images_from, with_locations};
use crate::checkpoint::Checkpoint;
use crate::data::{Row, Rows, Source as Data};
use crate::model::{Compute, Model, check_hooks};
use crate::{Error, Plan, Result, image_positions};
use rayon::iter::Either;
use rayon::prelude::*;
use sae_core::store::PositionRule;
use sae_core::store::SkipList;
use sae_core::store::stream::Source;
use sae_core::vector::norm_sq;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The hidden states at one hook, as an endless source of activations.
pub struct OnlineActivations {
    checkpoint: Checkpoint,
    model: Model,
    plan: Plan,
    data: Data,
    rows: Rows,
    exclude: PositionRule,
    /// The largest norm that is not excluded. It is infinite if norms are not limited, and unknown until a chunk has a
    /// position that is not excluded, because it depends on the median of that chunk.
    limit: Option<f32>,
    position: StreamPosition,
    /// Rows that could not be used, found in the first round.
    skipped: SkipList,
    /// Hidden states of the current chunk that are not excluded, `[positions, d_in]`.
    chunk: Vec<f32>,
}

/// How far the source is in the data.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
struct StreamPosition {
    /// Rows of the data that were read in this round before the current chunk.
    before: u64,
    /// Rows of the data in the current chunk.
    within: u64,
    /// Hidden states of the current chunk that have been served.
    served: u64,
    /// Completed rounds through the data.
    #[serde(default)]
    rounds: u64,
    /// Hidden states that were kept and excluded since the beginning, including the whole current chunk.
    kept: u64,
    excluded: u64,
}

impl OnlineActivations {
    /// Opens the model and the data. The plan has to name exactly one hook.
    ///
    /// # Errors
    /// The plan does not fit the checkpoint, or the data cannot be read.
    pub fn open(plan: &Plan, exclude: PositionRule) -> Result<Self> {
        let hook = plan.hook()?;
        plan.check_whole("a training without a store")?;
        let checkpoint = plan.checkpoint()?;
        check_hooks(checkpoint.config(), &[hook])?;
        let data = plan.source()?;
        let model = checkpoint.load_to(hook, &Compute::on(&plan.device.open()?, plan.dtype.into()))?;
        let rows = plan.stream(&data)?;
        let limit = (exclude.norm <= 0.0).then_some(f32::INFINITY);
        let (position, skipped, chunk) = (StreamPosition::default(), SkipList::default(), Vec::new());
        Ok(Self { checkpoint, model, plan: plan.clone(), data, rows, exclude, limit, position, skipped, chunk })
    }

    /// The checkpoint whose model computes the activations.
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// How the model reads the data, as `run.json` records it.
    pub fn arguments(&self) -> Value {
        let mut arguments = with_locations(self.plan.arguments(&self.checkpoint), &self.plan, &self.data);
        if let Value::Object(arguments) = &mut arguments {
            // Nothing is stored.
            arguments.retain(|name, _| !["store_dtype", "part_rows"].contains(&name.as_str()));
        }
        arguments
    }

    /// The next rows of this round; none at the end of the data or at the plan's limit.
    fn read(&mut self) -> Result<Vec<Row>> {
        let left = (self.plan.row_limit() as u64).saturating_sub(self.position.before);
        self.rows.by_ref().take(left.min(CHUNK_ROWS as u64) as usize).collect()
    }

    /// Captures the next rows of the data.
    fn capture(&mut self) -> Result<()> {
        self.position.before += self.position.within;
        let mut chunk = self.read()?;
        if chunk.is_empty() {
            if self.position.before == 0 || self.position.kept == 0 {
                return Err(Error::NoPositions);
            }
            self.rows = self.plan.stream(&self.data)?;
            self.position.before = 0;
            self.position.rounds += 1;
            chunk = self.read()?;
        }
        self.position.within = chunk.len() as u64;
        self.position.served = 0;
        let (checkpoint, plan) = (&self.checkpoint, &self.plan);
        let prepared = chunk.into_par_iter().map(|row| image_positions::prepare(checkpoint, plan, row));
        let (samples, skipped): (Vec<_>, Vec<_>) = prepared.partition_map(|row| match row {
            Ok(sample) => Either::Left(sample),
            Err(skipped) => Either::Right(skipped),
        });
        plan.check_images()?;
        // Later rounds skip the same rows again.
        if self.position.rounds == 0 {
            self.skipped.extend(skipped);
        }
        let d = self.d_in();
        let mut all = Vec::with_capacity(samples.iter().map(|sample| sample.tokens.len() * d).sum());
        let forward = |samples| hidden(&self.model, checkpoint, samples, &plan.hooks);
        for_each_batch(&samples, plan, forward, |batch, hidden| {
            let hidden = hidden?;
            check(plan, &hidden, samples[batch].iter().map(|sample| (&sample.sample, sample.tokens.as_slice())))?;
            all.extend_from_slice(hidden.hook(0));
            Ok::<_, Error>(())
        })?;
        let tokens = samples.iter().flat_map(|sample| &sample.tokens);
        let is_excluded = tokens.map(|t| self.exclude.special && t.special || self.exclude.first && t.position == 0);
        let states = || all.chunks_exact(d);
        let kept: Vec<&[f32]> =
            states().zip(is_excluded).filter(|(_, excluded)| !excluded).map(|(row, _)| row).collect();
        let limit = match self.limit {
            Some(limit) => limit,
            None if kept.is_empty() => f32::INFINITY,
            None => {
                let mut norms: Vec<f32> = kept.iter().map(|row| norm_sq(row).sqrt()).collect();
                norms.sort_unstable_by(f32::total_cmp);
                *self.limit.insert(self.exclude.norm as f32 * norms[norms.len() / 2])
            }
        };
        self.chunk.clear();
        for row in kept.iter().filter(|row| limit == f32::INFINITY || norm_sq(row).sqrt() <= limit) {
            self.chunk.extend_from_slice(row);
        }
        let (positions, kept) = (states().len() as u64, (self.chunk.len() / d) as u64);
        self.position.kept += kept;
        self.position.excluded += positions - kept;
        Ok(())
    }
}

impl Source for OnlineActivations {
    fn d_in(&self) -> usize {
        self.model.config().width_at(self.plan.hooks[0])
    }

    fn rows(&self) -> Option<u64> {
        None
    }

    fn counts(&self) -> (u64, u64) {
        (self.position.kept, self.position.excluded)
    }

    fn skipped(&self) -> Option<&SkipList> {
        Some(&self.skipped)
    }

    fn next(&mut self, out: &mut Vec<f32>) -> sae_core::Result<()> {
        let d = self.d_in();
        while self.position.served as usize * d == self.chunk.len() {
            self.capture()?;
        }
        let at = self.position.served as usize * d;
        let row = &self.chunk[at..at + d];
        if !row.iter().all(|v| v.is_finite()) {
            let cause = format!(
                "the model computed values that are not finite, for rows of the data from row {} on",
                self.position.before
            );
            return Err(sae_core::Error::config(cause));
        }
        out.extend_from_slice(row);
        self.position.served += 1;
        Ok(())
    }

    fn position(&self) -> Value {
        let limit = self.limit.filter(|l| l.is_finite()).map(f32::to_bits);
        serde_json::json!({ "position": self.position, "limit": limit, "arguments": self.arguments() })
    }

    fn seek(&mut self, position: &Value) -> sae_core::Result<()> {
        let other_data = || sae_core::Error::config("the position in the checkpoint does not fit this data");
        let to: StreamPosition = serde_json::from_value(position["position"].clone()).map_err(|_| other_data())?;
        let differences = differences(&self.arguments(), &position["arguments"]);
        if !differences.is_empty() {
            let cause =
                format!("the training began on data that was read with other settings: {}", differences.join(", "));
            return Err(sae_core::Error::config(cause));
        }
        let limit = position["limit"].as_u64().map(|bits| f32::from_bits(bits as u32));
        self.limit = limit.or((self.exclude.norm <= 0.0).then_some(f32::INFINITY));
        self.rows = self.plan.stream(&self.data)?;
        let skipped = self.rows.by_ref().take(to.before as usize).count() as u64;
        if skipped != to.before {
            return Err(other_data());
        }
        self.position = StreamPosition { before: to.before, rounds: to.rounds, ..StreamPosition::default() };
        self.chunk.clear();
        if to.within > 0 {
            self.capture()?;
        }
        if self.position.within != to.within || to.served as usize * self.d_in() > self.chunk.len() {
            return Err(other_data());
        }
        self.position = to;
        Ok(())
    }
}

/// The arguments that differ from those of a checkpoint. Locations of files do not count, because runs are moved. Images
/// have to come from the same folder of the data set nevertheless.
fn differences(arguments: &Value, before: &Value) -> Vec<String> {
    let ignored = ["model_folder", "data_root", "images_root", "device"];
    let compared = arguments.as_object().into_iter().flatten().filter(|(name, _)| !ignored.contains(&name.as_str()));
    let differences = compared.filter(|(name, value)| before[name.as_str()] != **value);
    let images = (images_from(arguments) != images_from(before)).then_some(("images_root", &arguments["images_root"]));
    let differences = differences.map(|(name, value)| (name.as_str(), value)).chain(images);
    differences.map(|(name, value)| format!("{name} = {value}, not {}", before[name])).collect()
}
