//! Critiques of answers in a run whose samples are the response, its refinement and the critique of each row: how well each critique
//! fits the change. Reads the features of answers and of the prompts before them.

use crate::control::{Control, Stage};
use crate::sae::LoadedSae;
use crate::{Error, Result};
use filters::feedback::{Exchange, feedback_fit};
use filters::probe::Rows;
use filters::select::field_value;
use harvest::data::SET;
use sae_core::analysis::between::PositionChoice;
use sae_core::analysis::feature_sets::{FeatureSetCollector, Measure, Part};
use sae_core::store::sample::Sample;
use std::collections::BTreeMap;

/// What the field that names the columns of samples may say: of the response, of the refinement, and of the critique.
const NAMES: [&[&str]; 3] = [&["response", "answer"], &["refinement", "correction"], &["feedback", "critique"]];

/// The fit of the critique that belongs to each sample; the same for all samples of a row. `field` names the column that a sample
/// was melted from; pieces that are critiques need no such field.
///
/// # Errors
/// No row has all of the three; files that cannot be read; a request to stop.
pub(crate) fn fits(
    sae: &LoadedSae,
    samples: &[Sample],
    field: &str,
    seed: u64,
    control: &mut Control,
) -> Result<Vec<Option<f64>>> {
    let sets = exchanges(samples, field)?;
    let [answers, prompts] = [Part::Answer, Part::User].map(|part| rows(sae, samples.len(), part, control));
    let found: Vec<Exchange> = sets.values().copied().collect();
    let found = feedback_fit(&answers?, &prompts?, &found, seed);
    let by_set: BTreeMap<&str, Option<f64>> = sets.keys().copied().zip(found).collect();
    Ok(samples.iter().map(|sample| by_set.get(set_of(sample)?).copied().flatten()).collect())
}

/// The features of a part of every sample.
fn rows(sae: &LoadedSae, samples: usize, part: Part, control: &mut Control) -> Result<Rows> {
    let choice = PositionChoice::new(&sae.store, part, part.markers().as_ref())?;
    let mut features = FeatureSetCollector::new(samples, sae.saved.weights.d_sae, 0.0, Measure::Strength);
    sae.summarize(&sae.store, Stage::Features, &choice, &mut [&mut features], control)?;
    Ok(Rows::from_sets(&features.finish()))
}

/// The fit of the critique of each row in a run whose pieces are answers and critiques, for all pieces of the row. A critique has the
/// features of its own positions, and the prompt before it is that of the answers. `None` if no sample is a critique.
///
/// # Errors
/// Files that cannot be read; a request to stop.
pub(crate) fn fits_of_pieces(
    sae: &LoadedSae,
    samples: &[Sample],
    seed: u64,
    control: &mut Control,
) -> Result<Option<Vec<Option<f64>>>> {
    let paths = sae.store.paths();
    if !paths.have_critiques() {
        return Ok(None);
    }
    let branch = |n: u32| samples[n as usize].piece.as_ref().map(|piece| piece.branch.as_str());
    let mut members: BTreeMap<u32, [Option<usize>; 3]> = BTreeMap::new();
    for n in 0..samples.len() as u32 {
        let which = match branch(n) {
            _ if paths.is_critique(n) => 2,
            Some("rejected") => 0,
            Some("chosen") => 1,
            _ => continue,
        };
        members.entry(paths.root(n)).or_default()[which] = Some(n as usize);
    }
    let complete = |(root, samples): (&u32, &[Option<usize>; 3])| {
        let [response, refinement, critique] = *samples;
        Some((*root, Exchange { response: response?, refinement: refinement?, critique: critique? }))
    };
    let (roots, exchanges): (Vec<u32>, Vec<Exchange>) = members.iter().filter_map(complete).unzip();
    let (answered, asked) =
        (rows(sae, samples.len(), Part::Answer, control)?, rows(sae, samples.len(), Part::User, control)?);
    let d_sae = sae.saved.weights.d_sae;
    let (mut answers, mut prompts) = (Rows::new(d_sae), Rows::new(d_sae));
    for n in 0..samples.len() {
        // A critique is a turn of the person.
        let critic = paths.is_critique(n as u32);
        answers.push(if critic { asked.row(n) } else { answered.row(n) });
        let prompt = paths.parent(n as u32).filter(|_| critic).map_or(n, |answer| answer as usize);
        prompts.push(asked.row(prompt));
    }
    let found: BTreeMap<u32, Option<f64>> =
        roots.into_iter().zip(feedback_fit(&answers, &prompts, &exchanges, seed)).collect();
    Ok(Some((0..samples.len() as u32).map(|n| found.get(&paths.root(n)).copied().flatten()).collect()))
}

/// Checks that some row has all of the three samples.
///
/// # Errors
/// No row has them.
pub(crate) fn check(samples: &[Sample], field: &str) -> Result<()> {
    exchanges(samples, field).map(drop)
}

/// The row that a sample was melted from.
fn set_of(sample: &Sample) -> Option<&str> {
    field_value(&sample.meta, SET)?.as_str()
}

/// The samples of each row that has all three.
fn exchanges<'a>(samples: &'a [Sample], field: &str) -> Result<BTreeMap<&'a str, Exchange>> {
    let mut members: BTreeMap<&str, [Option<usize>; 3]> = BTreeMap::new();
    for (n, sample) in samples.iter().enumerate() {
        let column = field_value(&sample.meta, field).and_then(|value| value.as_str());
        let which = column.and_then(|column| NAMES.iter().position(|names| names.contains(&column)));
        if let Some((set, which)) = set_of(sample).zip(which) {
            members.entry(set).or_default()[which] = Some(n);
        }
    }
    let complete = |(set, samples): (&&'a str, &[Option<usize>; 3])| {
        let [response, refinement, critique] = *samples;
        let exchange = Exchange { response: response?, refinement: refinement?, critique: critique? };
        Some((*set, exchange))
    };
    let found: BTreeMap<&str, Exchange> = members.iter().filter_map(complete).collect();
    if found.is_empty() {
        return Err(Error::NoFeedback { field: field.into() });
    }
    Ok(found)
}
