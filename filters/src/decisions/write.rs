//! `decisions.csv` and `decisions.parquet`: for every sample, whether it was kept and why. Both have the same content, and both
//! can be edited and passed to `sae filter --decisions`.

use crate::Result;
use crate::select::{Decision, Groups};
use arrow::array::{BooleanArray, Float64Array, RecordBatch, StringArray, UInt32Array, UInt64Array};
use sae_core::store::sample::Sample;
use sae_core::{file, table};
use std::io::Write;
use std::path::Path;

/// The decisions about the samples that were chosen from, in their order.
#[derive(Clone, Copy, Debug)]
pub struct Decisions<'a> {
    /// The samples.
    pub samples: &'a [Sample],
    /// Their numbers in the run.
    pub numbers: &'a [u32],
    /// The ids and scores of the samples.
    pub scores: &'a [(String, Option<f64>)],
    /// The groups of the samples.
    pub groups: &'a Groups,
    /// The decision about each sample.
    pub fates: &'a [Decision],
}

impl Decisions<'_> {
    /// Writes both files into a folder.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn write(&self, folder: &Path) -> Result<()> {
        write_csv(&folder.join("decisions.csv"), self)?;
        Ok(table::write(&folder.join("decisions.parquet"), &self.table())?)
    }

    fn table(&self) -> RecordBatch {
        let samples = || self.samples.iter();
        let group = |group: &u32| Some(self.groups.names[*group as usize].as_str()).filter(|name| !name.is_empty());
        let places: Vec<(&str, u64)> = samples().map(|sample| sample.place().unwrap_or((&sample.source, 0))).collect();
        let fates = || self.fates.iter().copied();
        table::batch(vec![
            table::column("sample", UInt32Array::from_iter_values(self.numbers.iter().copied())),
            table::column("id", StringArray::from_iter_values(samples().map(|sample| &sample.id))),
            table::column("key", StringArray::from_iter_values(samples().map(|sample| &sample.key))),
            table::column("source_file", StringArray::from_iter_values(places.iter().map(|(file, _)| file))),
            table::column("source_row", UInt64Array::from_iter_values(places.iter().map(|(_, row)| *row))),
            table::nullable("group", StringArray::from_iter(self.groups.of.iter().map(group))),
            table::nullable("score", Float64Array::from_iter(self.scores.iter().map(|(_, score)| *score))),
            table::column("stays", BooleanArray::from_iter(fates().map(|fate| Some(fate == Decision::Kept)))),
            table::nullable("reason", StringArray::from_iter(fates().map(reason))),
            table::nullable(
                "duplicate_of",
                UInt32Array::from_iter(fates().map(|fate| Some(self.numbers[duplicate(fate)?.0 as usize]))),
            ),
            table::nullable("similarity", Float64Array::from_iter(fates().map(|fate| Some(duplicate(fate)?.1)))),
        ])
    }
}

fn reason(fate: Decision) -> Option<&'static str> {
    (fate != Decision::Kept).then(|| fate.reason())
}

fn duplicate(fate: Decision) -> Option<(u32, f64)> {
    match fate {
        Decision::Alike { of, similarity } => Some((of, similarity)),
        _ => None,
    }
}

fn write_csv(path: &Path, decisions: &Decisions) -> Result<()> {
    let Decisions { samples, numbers, scores, groups, fates } = decisions;
    Ok(file::write(path, |out| {
        let mut put = |line: String| out.write_all(line.as_bytes()).map_err(sae_core::Error::io("write", path));
        put("sample,id,key,group,score,stays,reason,duplicate_of,similarity\n".into())?;
        for (n, (sample, fate)) in samples.iter().zip(*fates).enumerate() {
            let group = quoted(&groups.names[groups.of[n] as usize]);
            let score = scores[n].1.map_or(String::new(), |score| score.to_string());
            let (of, similarity) = match duplicate(*fate) {
                Some((of, similarity)) => (numbers[of as usize].to_string(), similarity.to_string()),
                None => Default::default(),
            };
            let (key, stays, reason) =
                (quoted(&sample.key), *fate == Decision::Kept, reason(*fate).unwrap_or_default());
            let number = numbers[n];
            put(format!("{number},{},{key},{group},{score},{stays},{reason},{of},{similarity}\n", sample.id))?;
        }
        Ok(())
    })?)
}

/// A cell of a CSV file.
fn quoted(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text.to_owned() }
}
