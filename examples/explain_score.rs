//! Explains why one sample has its `pmi_blank` score (or `pmi`, if the run has no pass with blank images): which
//! components of the score raised or lowered it, and which image and text features are in them. The scores and the index
//! of the run are computed anew, as by `sae score` and `sae index`.
//!
//! ```sh
//! cargo run --release --example explain_score                   # the lowest score of a small run of the bundled data
//! cargo run --release --example explain_score -- my-run row-7   # a sample of yours, by key, id or number
//! ```
#![allow(clippy::print_stdout, reason = "an example prints what it found")]

mod shared;

use filters::pmi::{Component, Contribution};
use filters::score_names::{PMI, PMI_BLANK};
use sae_core::Run;
use sae_core::analysis::index::{Row, TypicalWord, read_lists};
use sae_core::store::load_samples;
use sae_core::store::sample::Modality;
use sae_workbench::{Control, ExplainRequest, IndexRequest, SaeChoice, ScoreRequest};

fn main() -> anyhow::Result<()> {
    let run = shared::RunFolder::from_arguments()?;
    let (sae, mut control) = (SaeChoice::new(run.path()), Control::default());

    // The explanation uses the fit that scoring makes, and shows features with the words that the index finds for them.
    let scored = ScoreRequest::new(sae.clone()).run(&mut control)?;
    let index = IndexRequest::new(sae.clone()).run(&mut control)?;
    let words = read_lists::<TypicalWord>(&index.folder.join(TypicalWord::FILE), index.features)?;

    // The sample that was asked for, or the one with the lowest score.
    let columns = &scored.scores.columns;
    let scores =
        columns.get(PMI_BLANK).or(columns.get(PMI)).ok_or_else(|| anyhow::anyhow!("the run has no pmi score"))?;
    let lowest = scores.iter().enumerate().filter_map(|(sample, score)| Some((sample, (*score)?)));
    let lowest = lowest.min_by(|a, b| a.1.total_cmp(&b.1)).map(|(sample, _)| sample.to_string());
    let sample = std::env::args().nth(2).or(lowest).ok_or_else(|| anyhow::anyhow!("no sample has a score"))?;

    let report = ExplainRequest { sae, sample }.run()?;
    let images = &load_samples(&Run::open(run.path())?)?[report.sample as usize].images;
    println!("sample {} ({}): {:?}", report.sample, report.key, report.text.trim());
    println!("image: {}", images.iter().map(|image| &*image.path).collect::<Vec<_>>().join(", "));
    println!("{} = {:.2} nats", report.column, report.explanation.pmi);

    // Each component compares one direction of the image features with one direction of the text features. It raises the
    // score if both have the same sign.
    let show = |component: &Component| {
        println!("{:+.2} nats: image {:+.2}, text {:+.2}", component.nats, component.image, component.text);
        println!("  image features: {}", named(&component.image_features, Modality::Image, &words));
        println!("  text features:  {}", named(&component.text_features, Modality::Text, &words));
    };
    println!("\nraised most by");
    report.explanation.carried.iter().take(2).for_each(show);
    println!("\nlowered most by");
    report.explanation.sank.iter().take(2).for_each(show);
    Ok(())
}

/// The features that are active in the sample, each with words that are typical of it in images or in text.
fn named(contributions: &[Contribution], modality: Modality, words: &[Vec<TypicalWord>]) -> String {
    let active = contributions.iter().filter(|contribution| contribution.active).map(|contribution| {
        let typical = words[contribution.feature as usize].iter().filter(|word| word.modality == modality);
        let typical: Vec<_> = typical.map(|word| word.word.as_str()).take(3).collect();
        let words = if typical.is_empty() { String::new() } else { format!(" ({})", typical.join(" ")) };
        format!("{}{words} adds {:+.2}", contribution.feature, contribution.adds)
    });
    let active: Vec<_> = active.collect();
    if active.is_empty() { "none of the strongest is active".into() } else { active.join(", ") }
}
