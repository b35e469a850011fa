//! Samples with the hidden states behind one block and the files of their images, shown one by one and stored nowhere.

use crate::capture::{CHUNK, TOGETHER, batches};
use crate::checkpoint::{Checkpoint, Prepared};
use crate::data::Row;
use crate::model::{Compute, Input, check_layers};
use crate::{Error, Plan, Result};
use rayon::prelude::*;
use sae_core::store::SkipList;

/// A sample that went through the model.
pub struct CapturedSample<'a> {
    /// The sample.
    pub sample: &'a Prepared,
    /// The files of its images, in their order, as the sample was made of them.
    pub files: &'a [Vec<u8>],
    /// `[positions, d_in]`.
    pub hidden: &'a [f32],
}

/// Runs the model over the data and shows every sample, in order, with the number of rows done. The plan names one layer;
/// what it says of storing is left aside. Holds one chunk of rows.
///
/// # Errors
/// The plan does not fit the checkpoint, a file cannot be read, a device failed, or whatever `see` returns. Rows that
/// cannot be used stop nothing and are counted in what is returned.
pub fn for_each_sample<E: From<Error>>(
    plan: &Plan,
    see: &mut dyn FnMut(&CapturedSample, u64) -> Result<(), E>,
) -> Result<SkipList, E> {
    let [layer] = plan.layers[..] else {
        return Err(Error::Plan(format!("samples are shown behind one layer, not behind {:?}", plan.layers)).into());
    };
    let checkpoint = Checkpoint::open(&plan.model)?;
    check_layers(checkpoint.config(), &[layer])?;
    let source = plan.source()?;
    let device = plan.device.open().map_err(Error::from)?;
    let model = checkpoint.load(Some(layer), &Compute::on(&device, plan.dtype.into()))?;
    let limit = plan.limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
    let mut rows = plan.stream(&source)?.take(limit);
    let (mut skipped, mut done) = (SkipList::default(), 0);
    loop {
        let chunk = rows.by_ref().take(CHUNK).collect::<Result<Vec<Row>>>()?;
        if chunk.is_empty() {
            return Ok(skipped);
        }
        let prepared = chunk.into_par_iter().map(|row| checkpoint.prepare_with_files(row, plan.answers, plan.template));
        let (mut samples, mut files) = (Vec::new(), Vec::new());
        for prepared in prepared.collect::<Vec<_>>() {
            match prepared {
                Ok((prepared, own)) => {
                    samples.push(prepared);
                    files.push(own);
                }
                Err(row) => {
                    skipped.push(row);
                    done += 1;
                }
            }
        }
        for together in batches(&samples, plan.batch_tokens).chunks(TOGETHER) {
            let hidden = together.par_iter().map(|batch| {
                let inputs: Vec<Input> = samples[batch.clone()].iter().map(|s| checkpoint.input(s)).collect();
                model.hidden(&inputs.iter().collect::<Vec<_>>(), &[layer])
            });
            for (batch, hidden) in together.iter().zip(hidden.collect::<Result<Vec<_>>>()?) {
                for (n, at) in batch.clone().enumerate() {
                    done += 1;
                    let visited = CapturedSample { sample: &samples[at], files: &files[at], hidden: hidden.rows(0, n) };
                    see(&visited, done)?;
                }
            }
        }
    }
}
