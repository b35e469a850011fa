//! Reads the files of a contrast. Every failure becomes a sentence in place of what cannot be read.

use super::guarded;
use crate::state::contrast::Contrast;
use sae_core::analysis::contrast::{read_chance, read_examples, read_features, read_groups};
use sae_core::{Run, file};

/// Bytes of `contrast.json` at most.
const LIMIT: u64 = 1 << 26;

/// Reads all of them.
pub fn read(run: &Run, name: &str) -> Contrast {
    let folder = run.root().join("contrasts").join(name);
    let path = |file: &str| folder.join(file);
    Contrast::new(
        guarded(|| file::read_json(&path("contrast.json"), LIMIT).map_err(|error| error.message())),
        guarded(|| read_features(&path("features.parquet")).map_err(|error| error.message())),
        guarded(|| read_chance(&path("shuffled.parquet")).map_err(|error| error.message())),
        guarded(|| read_groups(&path("groups.parquet")).map_err(|error| error.message())),
        guarded(|| {
            let path = path("examples.parquet");
            if !path.exists() {
                return Err("This contrast has no examples: it was made by an older version. Make it again.".into());
            }
            read_examples(&path).map_err(|error| error.message())
        }),
    )
}
