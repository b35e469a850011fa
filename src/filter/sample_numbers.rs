//! A number of each sample, by its name: a field of its row, a column of the score table, or its number of
//! token positions. Selects nothing.

use super::candidates::Candidates;
use crate::Result;
use crate::error::FilterError;
use filters::column::ScoreTable;
use filters::select::{field_value, number};
use sae_core::Run;
use sae_core::analysis::feature_sets::Part;
use sae_core::error::Setting;
use sae_core::store::Store;
use serde_json::Value;
use std::collections::BTreeSet;

/// Names that an error lists.
const NAMED: usize = 30;

/// The ending of the names of token counts: `answer_tokens`, `user_tokens`.
const TOKENS: &str = "_tokens";

/// The numbers of all candidates: the field of this name, else the column of the score table of `sae`, else the number of positions
/// of a part (`answer_tokens` and so on, with the parts of a contrast). Errors name
/// the setting that asks for it.
///
/// # Errors
/// There is no such number; a field holds something else; the run cannot be read.
pub(super) fn numbers(
    name: &str,
    setting: Setting,
    candidates: &Candidates,
    run: &Run,
    sae: &str,
) -> Result<Vec<Option<f64>>> {
    let samples = candidates.samples();
    let values: Vec<_> = samples.iter().map(|sample| field_value(&sample.meta, name)).collect();
    if let Some(value) = values.iter().flatten().find(|value| as_number(value).is_none()) {
        let value = value.to_string().chars().take(40).collect();
        return Err(FilterError::NotNumber { field: name.into(), value, setting }.into());
    }
    if values.iter().any(Option::is_some) {
        return Ok(values.into_iter().map(|value| value.and_then(as_number)).collect());
    }
    let path = run.scores(sae);
    let table = if path.exists() { Some(ScoreTable::open(&path, candidates.all())?) } else { None };
    let columns = table.as_ref().map(ScoreTable::names).unwrap_or_default();
    if let Some(table) = table.filter(|_| columns.iter().any(|column| column == name)) {
        return Ok(candidates.pick(table.column(name)?));
    }
    if let Some(part) = name.strip_suffix(TOKENS).and_then(|part| part.parse::<Part>().ok()) {
        return Ok(candidates.pick(token_counts(run, part, candidates.all().len())?));
    }
    let fields = samples.iter().filter_map(|sample| sample.meta.as_object()).flatten();
    let fields: BTreeSet<&String> = fields.filter(|(_, value)| number(value).is_some()).map(|(name, _)| name).collect();
    let mut available: Vec<String> = Part::NAMED.iter().map(|(part, _)| format!("{part}{TOKENS}")).collect();
    available.extend(fields.into_iter().cloned().chain(columns).take(NAMED));
    Err(FilterError::UnknownNumber { asked: name.into(), available, setting }.into())
}

/// A value as a number; true is 1, and false is 0.
fn as_number(value: &Value) -> Option<f64> {
    number(value).or_else(|| value.as_bool().map(f64::from))
}

/// The number of positions of a part in each sample; of a piece, along its path.
fn token_counts(run: &Run, part: Part, samples: usize) -> Result<Vec<Option<f64>>> {
    let mut counts = vec![0u32; samples];
    // All hooks have the same token tables.
    if let Some(hook) = run.list("activations").first() {
        let store = Store::open_with_pieces(run, hook)?;
        for shard in 0..store.shards() {
            let tokens = store.tokens(shard)?;
            for row in 0..tokens.rows() {
                let belongs = part.contains(tokens.modality[row], tokens.role[row], tokens.special[row]);
                if let Some(count) = counts.get_mut(tokens.sample[row] as usize) {
                    *count += u32::from(belongs);
                }
            }
        }
        store.paths().pool_counts(&mut counts);
    }
    Ok(counts.into_iter().map(|count| Some(f64::from(count))).collect())
}
