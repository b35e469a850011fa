//! The strongest positions of each modality, one per sample: what a feature fires on in text, in images, and on
//! actions of an agent. The overall strongest examples of a cross-modal feature often have one modality only.

use super::examples::{Example, STRONGEST, keep};
use super::lists::{Row, ranks};
use crate::store::sample::Modality;
use crate::table::{self, Column};
use crate::{Error, Result};
use arrow::array::{Float32Array, RecordBatch, UInt8Array, UInt32Array};
use std::path::Path;

/// Modalities that have a list, in the order of [`StrongestByModality::on`].
const MODALITIES: [Modality; 3] = [Modality::Text, Modality::Image, Modality::Action];

/// The strongest positions of one feature, separately for text, images and actions.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StrongestByModality([Vec<Example>; 3]);

impl StrongestByModality {
    /// Considers a position. Sound and video are ignored.
    pub fn offer(&mut self, example: Example) {
        if let Some(at) = MODALITIES.iter().position(|modality| *modality == example.modality) {
            keep(&mut self.0[at], example, STRONGEST, Example::rank);
        }
    }

    /// The strongest positions of a modality: at most [`STRONGEST`], at most one per sample, strongest first.
    pub fn on(&self, modality: Modality) -> &[Example] {
        let at = MODALITIES.iter().position(|known| *known == modality);
        at.map_or(&[], |at| &self.0[at])
    }

    /// All that are kept.
    pub(super) fn all(&self) -> impl Iterator<Item = &Example> {
        self.0.iter().flatten()
    }

    /// The rows of `strongest.parquet`: text first, then images, then actions.
    pub fn rows(&self) -> Vec<StrongestExample> {
        self.0.iter().flatten().map(|example| StrongestExample(*example)).collect()
    }
}

/// A row of `strongest.parquet`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StrongestExample(pub Example);

impl Row for StrongestExample {
    const FILE: &'static str = "strongest.parquet";

    fn columns(rows: &[(u32, Self)]) -> Vec<Column> {
        let number =
            |field: fn(&Example) -> u32| UInt32Array::from_iter_values(rows.iter().map(|(_, row)| field(&row.0)));
        vec![
            table::column("modality", UInt8Array::from_iter_values(rows.iter().map(|(_, row)| row.0.modality as u8))),
            table::column("rank", ranks(rows, |a, b| a.0.modality == b.0.modality)),
            table::column("sample", number(|e| e.sample)),
            table::column("position", number(|e| e.position)),
            table::column("activation", Float32Array::from_iter_values(rows.iter().map(|(_, row)| row.0.activation))),
        ]
    }

    fn read(path: &Path, batch: &RecordBatch, _: usize) -> Result<Vec<Self>> {
        let number = |name| Ok::<_, Error>(table::get::<UInt32Array>(path, batch, name)?.values());
        let (sample, position) = (number("sample")?, number("position")?);
        let modality = table::get::<UInt8Array>(path, batch, "modality")?.values();
        let activation = table::get::<Float32Array>(path, batch, "activation")?.values();
        let row = |n: usize| {
            let modality = Modality::try_from(modality[n]).map_err(Error::format(path))?;
            Ok(Self(Example { activation: activation[n], sample: sample[n], position: position[n], modality }))
        };
        (0..batch.num_rows()).map(row).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_modality_has_its_own_strongest_positions() {
        let mut strongest = StrongestByModality::default();
        let example = |activation, sample, modality| Example { activation, sample, position: 3, modality };
        for sample in 0..30 {
            strongest.offer(example(100.0 + sample as f32, sample, Modality::Image));
            strongest.offer(example(1.0 + sample as f32, sample, Modality::Text));
            strongest.offer(example(0.5, sample, Modality::Text));
            strongest.offer(example(999.0, sample, Modality::Audio));
            strongest.offer(example(9.0 + sample as f32, sample, Modality::Action));
        }
        let on = |modality| strongest.on(modality).iter().map(|e| (e.sample, e.activation)).collect::<Vec<_>>();
        let expected = |base: f32| (20..30).rev().map(|n: u32| (n, base + n as f32)).collect::<Vec<_>>();
        assert_eq!(on(Modality::Text), expected(1.0));
        assert_eq!(on(Modality::Image), expected(100.0));
        assert_eq!(on(Modality::Action), expected(9.0));
        assert!(on(Modality::Audio).is_empty());
        assert_eq!(strongest.rows().len(), 3 * STRONGEST);
    }
}
