//! Reads a score table with all its columns.

use crate::state::threshold::Scores;
use arrow::array::{Array, Float64Array, StringArray};
use sae_core::{Run, table};
use serde_json::Value;

/// Reads the score table of an autoencoder.
pub fn read(run: &Run, sae: &str) -> Result<Scores, String> {
    let path = run.scores(sae);
    if !path.is_file() {
        let root = run.root().display();
        return Err(format!(
            "There are no scores of {sae} yet.\nhint: `sae score --run {root} --sae {sae}` makes them"
        ));
    }
    let all = table::read(&path, &[]).map_err(|error| error.to_string())?;
    let ids = table::get::<StringArray>(&path, &all, "id").map_err(|error| error.to_string())?;
    let ids = (0..all.num_rows()).map(|row| ids.value(row).to_owned()).collect();
    let schema = all.schema();
    let columns = schema.fields().iter().zip(all.columns()).filter_map(|(field, column)| {
        // Columns that were not asked for are null as a whole.
        let values = column.as_any().downcast_ref::<Float64Array>().filter(|v| v.null_count() < v.len())?;
        Some((
            field.name().clone(),
            (0..values.len()).map(|row| values.is_valid(row).then(|| values.value(row))).collect(),
        ))
    });
    let step: Option<Value> = run.read_step(&format!("score/{sae}")).ok().flatten();
    let threshold = step.and_then(|step| step.get("threshold")?.as_f64()).map(|threshold| threshold as f32);
    Ok(Scores { ids, columns: columns.collect(), threshold })
}
