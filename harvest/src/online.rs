//! Activations straight from the model, for training without a store: rows of the data become samples, go through the
//! model a chunk at a time, and their hidden states are served one by one. Writes nothing; goes round the data for ever.

use crate::capture::{CHUNK, Draft, Plan, capture, images_from, placed};
use crate::checkpoint::Checkpoint;
use crate::data::{Row, Rows, Source as Data};
use crate::model::{Compute, Model, check_layers};
use crate::{Error, Result};
use rayon::iter::Either;
use rayon::prelude::*;
use sae_core::store::PositionRule;
use sae_core::store::SkipList;
use sae_core::store::stream::Source;
use sae_core::vector::norm_sq;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Hidden states behind one decoder block, as an endless source of rows.
pub struct OnlineActivations {
    checkpoint: Checkpoint,
    model: Model,
    plan: Plan,
    data: Data,
    rows: Rows,
    exclude: PositionRule,
    /// Largest norm that is let through; infinite until the first chunk has told the median.
    limit: Option<f32>,
    place: StreamPosition,
    /// Rows of the first round that could not be used.
    skipped: SkipList,
    /// Hidden states of the present chunk, `[positions, d_in]`, without what is left out.
    chunk: Vec<f32>,
}

/// Where in the data.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
struct StreamPosition {
    /// Rows of the data read in this round before the present chunk.
    before: u64,
    /// Rows of the data in the present chunk.
    within: u64,
    /// Hidden states served of the present chunk.
    served: u64,
    /// Rounds through the data before this one.
    #[serde(default)]
    rounds: u64,
    /// Hidden states let through and left out since the beginning, the whole present chunk included.
    kept: u64,
    left_out: u64,
}

impl OnlineActivations {
    /// Opens model and data. The plan names one layer.
    ///
    /// # Errors
    /// A plan that does not fit the checkpoint, or data that cannot be read.
    pub fn open(plan: &Plan, exclude: PositionRule) -> Result<Self> {
        let [layer] = plan.layers[..] else {
            return Err(Error::Plan(format!("training reads one layer, not {:?}", plan.layers)));
        };
        let checkpoint = Checkpoint::open(&plan.model)?;
        check_layers(checkpoint.config(), &[layer])?;
        let data = plan.source()?;
        let model = checkpoint.load(Some(layer), &Compute::on(&plan.device.open()?, plan.dtype.into()))?;
        let rows = plan.stream(&data)?;
        let limit = (exclude.norm <= 0.0).then_some(f32::INFINITY);
        let (place, skipped, chunk) = (StreamPosition::default(), SkipList::default(), Vec::new());
        Ok(Self { checkpoint, model, plan: plan.clone(), data, rows, exclude, limit, place, skipped, chunk })
    }

    /// The checkpoint that it reads.
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// How the model reads which data: what `run.json` keeps of it.
    pub fn arguments(&self) -> Value {
        let mut arguments = placed(self.plan.arguments(), &self.plan, &self.data);
        if let Value::Object(arguments) = &mut arguments {
            // Nothing is stored.
            arguments.retain(|name, _| !["store_dtype", "part_rows"].contains(&name.as_str()));
        }
        arguments
    }

    /// The next rows of this round through the data, none at its end or at the plan's limit.
    fn read(&mut self) -> Result<Vec<Row>> {
        let left = self.plan.limit.map_or(u64::MAX, |limit| limit.saturating_sub(self.place.before));
        self.rows.by_ref().take(left.min(CHUNK as u64) as usize).collect()
    }

    /// Captures the next rows of the data.
    fn capture(&mut self) -> Result<()> {
        self.place.before += self.place.within;
        let mut chunk = self.read()?;
        if chunk.is_empty() {
            if self.place.before == 0 || self.place.kept == 0 {
                return Err(Error::Plan("the data gave no position to train on".into()));
            }
            self.rows = self.plan.stream(&self.data)?;
            self.place.before = 0;
            self.place.rounds += 1;
            chunk = self.read()?;
        }
        self.place.within = chunk.len() as u64;
        self.place.served = 0;
        let (checkpoint, plan) = (&self.checkpoint, &self.plan);
        let prepared = chunk.into_par_iter().map(|row| checkpoint.prepare(row, plan.answers, plan.template));
        let (samples, skipped): (Vec<_>, Vec<_>) = prepared.partition_map(|row| match row {
            Ok(sample) => Either::Left(sample),
            Err(skipped) => Either::Right(skipped),
        });
        // Later rounds read the same rows again.
        if self.place.rounds == 0 {
            self.skipped.extend(skipped);
        }
        let positions = samples.iter().map(|s| s.tokens.len()).sum();
        let draft = Draft { samples, positions, ..Draft::default() };
        let part = capture(&self.model, checkpoint, plan, draft, &mut |_, _| Ok(()))?;
        let d = self.model.config().text.hidden_size;
        let tokens = part.samples.iter().flat_map(|(_, tokens)| tokens);
        let excluded = tokens.map(|t| self.exclude.special && t.special || self.exclude.first && t.position == 0);
        let states = || part.activations[0].chunks_exact(d);
        let kept: Vec<&[f32]> = states().zip(excluded).filter(|(_, out)| !out).map(|(row, _)| row).collect();
        let limit = *self.limit.get_or_insert_with(|| {
            let mut norms: Vec<f32> = kept.iter().map(|row| norm_sq(row).sqrt()).collect();
            norms.sort_unstable_by(f32::total_cmp);
            self.exclude.norm as f32 * norms.get(norms.len() / 2).copied().unwrap_or(f32::INFINITY)
        });
        self.chunk.clear();
        for row in kept.iter().filter(|row| limit == f32::INFINITY || norm_sq(row).sqrt() <= limit) {
            self.chunk.extend_from_slice(row);
        }
        let (all, kept) = (states().len() as u64, (self.chunk.len() / d) as u64);
        self.place.kept += kept;
        self.place.left_out += all - kept;
        Ok(())
    }
}

impl Source for OnlineActivations {
    fn d_in(&self) -> usize {
        self.model.config().text.hidden_size
    }

    fn rows(&self) -> Option<u64> {
        None
    }

    fn counts(&self) -> (u64, u64) {
        (self.place.kept, self.place.left_out)
    }

    fn skipped(&self) -> Option<&SkipList> {
        Some(&self.skipped)
    }

    fn next(&mut self, out: &mut Vec<f32>) -> sae_core::Result<()> {
        let d = self.d_in();
        while self.place.served as usize * d == self.chunk.len() {
            self.capture().map_err(|e| sae_core::Error::config(e.to_string()))?;
        }
        let at = self.place.served as usize * d;
        let row = &self.chunk[at..at + d];
        if !row.iter().all(|v| v.is_finite()) {
            let cause =
                format!("the model gave values that are not finite, in rows of the data from {}", self.place.before);
            return Err(sae_core::Error::config(cause));
        }
        out.extend_from_slice(row);
        self.place.served += 1;
        Ok(())
    }

    fn position(&self) -> Value {
        let limit = self.limit.filter(|l| l.is_finite()).map(f32::to_bits);
        serde_json::json!({ "place": self.place, "limit": limit, "arguments": self.arguments() })
    }

    fn seek(&mut self, place: &Value) -> sae_core::Result<()> {
        let other = || sae_core::Error::config("the checkpoint's place in the data does not fit this data");
        let to: StreamPosition = serde_json::from_value(place["place"].clone()).map_err(|_| other())?;
        let differences = differences(&self.arguments(), &place["arguments"]);
        if !differences.is_empty() {
            let cause = format!("the training was begun on data that was read otherwise: {}", differences.join(", "));
            return Err(sae_core::Error::config(cause));
        }
        let limit = place["limit"].as_u64().map(|bits| f32::from_bits(bits as u32));
        self.limit = limit.or((self.exclude.norm <= 0.0).then_some(f32::INFINITY));
        let again = |e: Error| sae_core::Error::config(e.to_string());
        self.rows = self.plan.stream(&self.data).map_err(again)?;
        let skipped = self.rows.by_ref().take(to.before as usize).count() as u64;
        if skipped != to.before {
            return Err(other());
        }
        self.place = StreamPosition { before: to.before, rounds: to.rounds, ..StreamPosition::default() };
        self.chunk.clear();
        if to.within > 0 {
            self.capture().map_err(again)?;
        }
        if self.place.within != to.within || to.served as usize * self.d_in() > self.chunk.len() {
            return Err(other());
        }
        self.place = to;
        Ok(())
    }
}

/// Which arguments differ from those of a checkpoint. The places of files do not count, since runs are moved; images come
/// from the same folder of the data set nevertheless.
fn differences(arguments: &Value, before: &Value) -> Vec<String> {
    let moved = ["model_folder", "data_root", "images_root", "device"];
    let compared = arguments.as_object().into_iter().flatten().filter(|(name, _)| !moved.contains(&name.as_str()));
    let differ = compared.filter(|(name, value)| before[name.as_str()] != **value);
    let images = (images_from(arguments) != images_from(before)).then_some(("images_root", &arguments["images_root"]));
    let differ = differ.map(|(name, value)| (name.as_str(), value)).chain(images);
    differ.map(|(name, value)| format!("{name} = {value}, not {}", before[name])).collect()
}
