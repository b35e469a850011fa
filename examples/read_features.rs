//! Reads what the features of an autoencoder respond to from its index: statistics, the tokens and texts of the strongest
//! examples, and the tokens that each feature promotes.
//!
//! ```sh
//! cargo run --release --example read_features              # on a small run of the bundled model
//! cargo run --release --example read_features -- my-run    # on a run of yours with one autoencoder
//! ```
#![allow(clippy::print_stdout, reason = "an example prints what it found")]

mod shared;

use sae_core::Run;
use sae_core::analysis::index::{FeatureRow, Index, Row, TypicalWord, read_lists};
use sae_core::store::sample::Modality;
use sae_core::store::{load_samples, token_texts};
use sae_workbench::{Control, IndexRequest, SaeChoice};
use std::collections::BTreeSet;

fn main() -> anyhow::Result<()> {
    let folder = shared::RunFolder::from_arguments()?;
    let run = Run::open(folder.path())?;
    let name = &run.saes()[0];

    // One pass over the activations makes the index. It stays in the run folder as Parquet files.
    if !run.features(name).exists() {
        IndexRequest::new(SaeChoice::new(folder.path())).run(&mut Control::default())?;
    }
    let index = Index::open(&run.features(name))?;
    let samples = load_samples(&run)?;

    // Words that are typical of each feature: tokens at its strongest text positions, and words that the texts of its strongest
    // images have in common. `share` is the share of those positions or images that have the word.
    let words = read_lists::<TypicalWord>(&run.features(name).join(TypicalWord::FILE), index.features().len())?;

    // For each class, the three features whose strongest examples agree best on a word. Features that fire on many tokens are
    // left out: they rarely stand for one thing.
    for (class, modality) in [("text", Modality::Text), ("image", Modality::Image)] {
        let typical = |feature: u32| words[feature as usize].iter().find(|word| word.modality == modality);
        let share = |feature: u32| typical(feature).map_or(0.0, |word| word.share);
        let specific = |row: &&FeatureRow| row.class == class && row.fires >= 10 && row.density < 0.003;
        let mut rows: Vec<_> = index.features().iter().filter(specific).collect();
        rows.sort_by(|a, b| share(b.feature).total_cmp(&share(a.feature)).then(b.fires.cmp(&a.fires)));
        println!("{} specific features of class {class}, for example:", rows.len());
        for row in rows.iter().take(3) {
            let word = typical(row.feature).map_or("no typical word", |typical| &*typical.word);
            println!("  feature {} ({word}): fires on {:.2} % of all tokens", row.feature, 100.0 * row.density);
            // Examples come in groups. Group 0 has the strongest, one per sample.
            let examples = index.examples(row.feature)?;
            let strongest = examples.iter().filter(|(group, _)| *group == 0).map(|(_, example)| example).take(3);
            for example in strongest {
                let place = (example.sample, example.position);
                let token = token_texts(&run, &BTreeSet::from([place]))?.remove(&place).unwrap_or_default();
                let on = if example.modality == Modality::Image { "a patch of the image" } else { token.trim() };
                let text = samples[example.sample as usize].text.trim();
                println!("    {:.2} on {on:?} of {text:?}", example.activation);
            }
            // The logit lens: the tokens whose probability rises when the feature is active. Indexing without the model
            // leaves this table out.
            if let Some(tokens) = index.logits(row.feature)? {
                let promoted = tokens.iter().filter(|token| token.promoted).take(5).map(|token| token.piece.trim());
                println!("    promotes {}", promoted.collect::<Vec<_>>().join(", "));
            }
        }
    }
    Ok(())
}
