//! All that is stored of the tokens of single samples: also their texts and their rectangles in images, which a pass does
//! not need.

use super::{STEP, Store, StoreRecord};
use crate::store::sample::{Modality, Role, Token};
use crate::{Error, Result, table};
use arrow::array::{
    Array, BooleanArray, Float32Array, Int16Array, Int32Array, RecordBatch, StringArray, UInt8Array, UInt32Array,
};
use std::ops::Range;
use std::path::{Path, PathBuf};

/// The token table of one part.
pub struct TokenTable {
    path: PathBuf,
    batch: RecordBatch,
}

impl Store {
    /// The numbers of the samples of each part, in the order of the parts.
    ///
    /// # Errors
    /// `run.json` does not have them.
    pub fn parts(&self) -> Result<Vec<Range<u32>>> {
        let record: Option<StoreRecord> = self.run().read_step(STEP)?;
        let missing = || Error::run(self.run().root(), "run.json does not say how the store is divided into parts");
        let mut start = 0;
        let parts = record.ok_or_else(missing)?.parts.into_iter().map(|part| {
            let end = u32::try_from(u64::from(start) + part.samples).map_err(|_| missing())?;
            Ok(std::mem::replace(&mut start, end)..end)
        });
        let parts = parts.collect::<Result<Vec<_>>>()?;
        if parts.len() != self.shards() { Err(missing()) } else { Ok(parts) }
    }

    /// The whole token table of a part.
    ///
    /// # Errors
    /// The file cannot be read, or has other rows than the shard.
    pub fn token_table(&self, number: usize) -> Result<TokenTable> {
        let path = self.run().tokens(number);
        let batch = table::read(&path, &[])?;
        let (found, expected) = (batch.num_rows() as u64, self.manifest().shards[number].rows);
        if found != expected {
            return Err(Error::format(&path)(format!("{found} tokens for a shard of {expected} rows")));
        }
        Ok(TokenTable { path, batch })
    }
}

impl TokenTable {
    /// Rows of a sample, in the table and in the shard.
    ///
    /// # Errors
    /// The table has no column `sample`.
    pub fn rows(&self, sample: u32) -> Result<Range<usize>> {
        let samples = table::get::<UInt32Array>(&self.path, &self.batch, "sample")?.values();
        Ok(samples.partition_point(|s| *s < sample)..samples.partition_point(|s| *s <= sample))
    }

    /// The tokens of these rows.
    ///
    /// # Errors
    /// A column is missing, or has an invalid value.
    pub fn tokens(&self, rows: Range<usize>) -> Result<Vec<Token>> {
        tokens_of(&self.path, &self.batch.slice(rows.start, rows.len()))
    }
}

/// The tokens of rows of a token table.
pub(super) fn tokens_of(path: &Path, batch: &RecordBatch) -> Result<Vec<Token>> {
    let position = table::get::<UInt32Array>(path, batch, "position")?;
    let small = |name| table::get::<UInt8Array>(path, batch, name);
    let (modality, role) = (small("modality")?, small("role")?);
    let token_id = table::get::<Int32Array>(path, batch, "token_id")?;
    let piece = table::get::<StringArray>(path, batch, "piece")?;
    let special = table::get::<BooleanArray>(path, batch, "special")?;
    let image = table::get::<Int16Array>(path, batch, "image")?;
    let corner = |name| table::get::<Float32Array>(path, batch, name);
    let corners = [corner("x0")?, corner("y0")?, corner("x1")?, corner("y1")?];
    let token = |n: usize| {
        let rect = corners.iter().all(|corner| corner.is_valid(n)).then(|| corners.map(|corner| corner.value(n)));
        Ok(Token {
            position: position.value(n),
            modality: Modality::try_from(modality.value(n)).map_err(Error::format(path))?,
            token_id: token_id.value(n),
            piece: piece.value(n).into(),
            role: Role::try_from(role.value(n)).map_err(Error::format(path))?,
            special: special.value(n),
            image: image.is_valid(n).then(|| image.value(n)),
            rect: rect.filter(|rect| rect.iter().all(|corner| (0.0..=1.0).contains(corner))),
        })
    };
    (0..batch.num_rows()).map(token).collect()
}

#[cfg(test)]
mod tests {
    use crate::fixture::{SAMPLES, store, tokens};

    #[test]
    fn tokens_of_single_samples_are_those_that_were_written() {
        let (_dir, store) = store(4);
        let parts = store.parts().unwrap();
        assert_eq!(parts.last().map(|part| part.end as usize), Some(SAMPLES));
        for (number, part) in parts.into_iter().enumerate() {
            let table = store.token_table(number).unwrap();
            for sample in part {
                let rows = table.rows(sample).unwrap();
                assert_eq!(table.tokens(rows).unwrap(), tokens(sample as usize));
            }
            assert!(table.rows(SAMPLES as u32).unwrap().is_empty());
        }
    }
}
