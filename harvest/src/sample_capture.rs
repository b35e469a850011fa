//! Visits samples one by one, each with its hidden states at chosen hooks and the files of its images. Stores nothing.

use crate::capture::{CHUNK_ROWS, for_each_batch, hidden};
use crate::data::Row;
use crate::model::{Compute, check_hooks};
use crate::prepared::Prepared;
use crate::{Error, Plan, Result};
use rayon::prelude::*;
use sae_core::store::SkipList;

/// A sample that went through the model.
pub struct CapturedSample<'a> {
    /// The sample.
    pub sample: &'a Prepared,
    /// The content of its image files, in order. The sample was made from the same bytes.
    pub files: &'a [Vec<u8>],
    /// Hidden states at each hook of the plan, `[positions, width]`.
    pub hidden: Vec<&'a [f32]>,
}

/// Runs the model over the data and calls `visit` with every sample, in order, and the number of rows done so far. The
/// hooks of the plan are in the order in which the model computes them; its settings for storing are ignored. Holds one chunk of rows
/// in memory.
///
/// # Errors
/// The plan has no hook, or hooks in another order, does not fit the checkpoint or divides rows into pieces, a file cannot be read, the device failed, or `visit` returned an error. A row
/// that cannot be used stops nothing; such rows are counted in the returned list.
pub fn for_each_sample<E: From<Error>>(
    plan: &Plan,
    visit: &mut dyn FnMut(&CapturedSample, u64) -> Result<(), E>,
) -> Result<SkipList, E> {
    let hooks = plan.ascending_hooks()?;
    plan.check_whole("a visit of samples")?;
    let checkpoint = plan.checkpoint()?;
    check_hooks(checkpoint.config(), hooks)?;
    let source = plan.source()?;
    let device = plan.device.open().map_err(Error::from)?;
    let model = checkpoint.load_to(hooks[hooks.len() - 1], &Compute::on(&device, plan.dtype.into()))?;
    let mut rows = plan.stream(&source)?.take(plan.row_limit());
    let (mut skipped, mut done) = (SkipList::default(), 0);
    loop {
        let chunk = rows.by_ref().take(CHUNK_ROWS).collect::<Result<Vec<Row>>>()?;
        if chunk.is_empty() {
            return Ok(skipped);
        }
        let prepared = chunk.into_par_iter().map(|row| checkpoint.prepare_with_files(row, plan.answers, plan.template));
        let (mut samples, mut files) = (Vec::new(), Vec::new());
        let prepared = prepared.collect::<Vec<_>>();
        plan.check_images()?;
        for prepared in prepared {
            match prepared {
                Ok((prepared, image_files)) => {
                    samples.push(prepared);
                    files.push(image_files);
                }
                Err(row) => {
                    skipped.push(row);
                    done += 1;
                }
            }
        }
        let forward = |samples| hidden(&model, &checkpoint, samples, hooks);
        for_each_batch(&samples, plan, forward, |batch, hidden| {
            let hidden = hidden?;
            batch.enumerate().try_for_each(|(n, at)| {
                done += 1;
                let states = (0..hooks.len()).map(|hook| hidden.rows(hook, n)).collect();
                visit(&CapturedSample { sample: &samples[at], files: &files[at], hidden: states }, done)
            })
        })?;
    }
}
