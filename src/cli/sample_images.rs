//! The images of samples, for people and for models that look at them: rows of the data are read again, and each image is
//! compared with the one that was harvested before it is decoded.

use super::filter::rows;
use anyhow::{Context, Result, anyhow};
use harvest::pixels::Picture;
use sae_core::Run;
use sae_core::store::sample::Sample;
use sae_core::store::{STEP, StoreRecord};
use std::collections::BTreeSet;

/// Shows every image of the wanted samples: number of the sample, which of its images, the image.
///
/// # Errors
/// The data is not where it was, a row or an image has changed since, or an image cannot be decoded.
pub(super) fn each(
    run: &Run,
    samples: &[Sample],
    wanted: &BTreeSet<u32>,
    mut see: impl FnMut(u32, usize, &Picture) -> Result<()>,
) -> Result<()> {
    let wanted = |n: usize| wanted.contains(&(n as u32)) && samples.get(n).is_some_and(|s| !s.images.is_empty());
    if !(0..samples.len()).any(wanted) {
        return Ok(());
    }
    let record: StoreRecord = run.read_step(STEP)?.context("run.json does not say where the data came from")?;
    rows::Data::of(&record)?.each(samples, wanted, |n, row| {
        for (number, image) in row.images.iter().enumerate() {
            let picture = Picture::decode(&image.read()?);
            let picture = picture.map_err(|cause| anyhow!("{cause}: {}", image.name.display()))?;
            see(n as u32, number, &picture)?;
        }
        Ok(())
    })
}
