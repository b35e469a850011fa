//! Scores every image-text pair of a run, and writes the better three quarters of them as a data set.
//!
//! ```sh
//! cargo run --release --example filter_data              # on a small run of the bundled data
//! cargo run --release --example filter_data -- my-run    # on a run of yours with one autoencoder
//! ```
#![allow(clippy::print_stdout, reason = "an example prints what it found")]

mod shared;

use filters::score_names::PMI_BLANK;
use filters::select::Keep;
use sae_workbench::{Control, FilterBy, FilterRequest, SaeChoice, ScoreRequest, SelectionRules};
use serde_json::Value;
use std::path::Path;

fn main() -> anyhow::Result<()> {
    let run = shared::RunFolder::from_arguments()?;
    let mut control = Control::default();

    // 1. Score. `pmi_blank` measures whether the image features and the text features of a sample belong together; it is
    //    fitted to the samples themselves, without labels.
    let scored = ScoreRequest::new(SaeChoice::new(run.path())).run(&mut control)?;
    println!("{} samples, {} scores: {}", scored.samples, scored.columns.len(), scored.columns.join(", "));
    if let Some(estimate) = scored.keep.get(PMI_BLANK) {
        println!("estimated share of mismatched pairs: {:.0} %", 100.0 * estimate.mismatched);
    }

    // 2. Filter. Rows are written in the format of the data set, with their images; `Keep::Auto` would keep the share that
    //    was estimated.
    let out = tempfile::tempdir()?;
    let [kept, dropped] = ["kept", "dropped"].map(|side| out.path().join(side));
    let rules = SelectionRules::new(PMI_BLANK, Keep::Share(0.75));
    let mut filter = FilterRequest::new(run.path(), FilterBy::Rules(rules), &kept);
    filter.dropped = Some(dropped.clone());
    let report = filter.run(&mut control)?;
    println!("kept {} rows, dropped {}", report.kept.rows, report.dropped);

    // 3. Judge. A quarter of the bundled captions were swapped on purpose, which neither the scores nor the filter knew.
    for (side, folder) in [("kept", &kept), ("dropped", &dropped)] {
        let rows = read_rows(&folder.join("data"))?;
        let swapped = rows.iter().filter(|row| row["swapped"] == true).count();
        println!("{side}: {swapped} of {} rows have a swapped caption", rows.len());
    }
    Ok(())
}

/// All rows of the JSON Lines files of a folder.
fn read_rows(folder: &Path) -> anyhow::Result<Vec<Value>> {
    let mut rows = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "jsonl") {
            let text = std::fs::read_to_string(&path)?;
            rows.extend(text.lines().map(serde_json::from_str::<Value>).collect::<Result<Vec<_>, _>>()?);
        }
    }
    Ok(rows)
}
