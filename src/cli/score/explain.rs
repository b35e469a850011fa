//! `sae score --explain KEY`: the components of a sample's `pmi`, with their features.

use super::super::{Outcome, SaeReader};
use super::build::{PMI, PMI_BLANK, companion, fit_path};
use crate::cli::terminal::table;
use anyhow::{Context, Result, bail};
use filters::Threshold;
use filters::align::align_samples;
use filters::pmi::{self, BLANK_DIR, Contribution};
use filters::pooling::{PooledStore, SamplePooler};
use sae_core::analysis::pass;
use sae_core::store::{Store, load_samples};

/// Explains the sample of a key, an id or a number.
pub fn run(opened: &SaeReader, key: &str) -> Result<Outcome> {
    let samples = load_samples(&opened.run)?;
    let found = samples.iter().position(|s| s.key == key || s.id == key);
    let number = found.or_else(|| key.parse().ok().filter(|n| *n < samples.len()));
    let number = number.with_context(|| format!("the run has no sample of key, id or number {key:?}"))?;
    let scores = opened.run.scores(&opened.name);
    // The better of the two where both are there.
    let column = if fit_path(&scores, PMI_BLANK).exists() { PMI_BLANK } else { PMI };
    let fits = fit_path(&scores, column);
    if !fits.exists() {
        bail!(
            "there is no fit to explain by\nhint: `sae score` makes one of 16 samples with text and image or more: {}",
            fits.display()
        );
    }
    let folds = pmi::read(&fits)?;
    let d_sae = opened.saved.weights.d_sae;
    if folds.whole.chosen.features.iter().flatten().any(|k| *k as usize >= d_sae) {
        bail!("the fit is of another autoencoder: {}", fits.display());
    }
    let mut pooled = pooled(opened, &opened.store, samples.len(), number)?;
    if column == PMI_BLANK {
        let (run, store) = companion(opened, &opened.run.root().join(BLANK_DIR), "the folder of the blank-image pass")?;
        let texts = load_samples(&run)?;
        let mut pair = vec![None; samples.len()];
        pair[number] = align_samples(&samples[number..=number], &texts)[0];
        if let Some(other) = pair[number] {
            let of_text = self::pooled(opened, &store, texts.len(), other)?;
            pooled = pooled.with_text(&of_text, &pair, &opened.run.root().join("scores"))?;
        }
    }
    let mut explanation = None;
    pooled.each(|n, sample| {
        if n == number {
            explanation = pmi::explain(folds.of(&samples[n]), sample);
        }
        Ok::<_, sae_core::Error>(())
    })?;
    let Some(explanation) = explanation else {
        bail!("sample {key} has no text or no image with content, and so no {column}");
    };
    let features = |parts: &[Contribution]| {
        let each: Vec<_> =
            parts.iter().map(|p| format!("{}{}", if p.active { "" } else { "no " }, p.feature)).collect();
        each.join(", ")
    };
    let mut lines =
        vec![["nats", "correlation", "image", "text", "image features", "text features"].map(String::from).to_vec()];
    for c in explanation.carried.iter().chain(explanation.sank.iter().rev()) {
        lines.push(vec![
            format!("{:+.3}", c.nats),
            format!("{:.3}", c.correlation),
            format!("{:+.2}", c.image),
            format!("{:+.2}", c.text),
            features(&c.image_features),
            features(&c.text_features),
        ]);
    }
    let text = format!(
        "{}: {column} {:.3} nats\n  {}\nwhat carried it and what sank it (\"no 7\": what feature 7 would have said is missing)\n{}",
        samples[number].key,
        explanation.pmi,
        samples[number].text.replace('\n', " / "),
        table(&lines)
    );
    let mut json = serde_json::to_value(&explanation)?;
    json["column"] = column.into();
    json["sample"] = number.into();
    json["key"] = samples[number].key.clone().into();
    Outcome::new(json, text)
}

/// One sample of a store, from the shards that hold it.
fn pooled(opened: &SaeReader, store: &Store, samples: usize, number: usize) -> Result<PooledStore> {
    let mut shards = Vec::new();
    for shard in 0..store.shards() {
        if store.tokens(shard)?.sample.contains(&(number as u32)) {
            shards.push(shard);
        }
    }
    let weights = &opened.saved.weights;
    let mut pool = SamplePooler::new(
        samples,
        weights.d_sae,
        Threshold::Auto.for_width(weights.d_in),
        &opened.run.root().join("scores"),
    )?;
    pass::run_over(store, &shards, weights, &opened.device, &mut [&mut pool], &mut |_| ())?;
    Ok(pool.finish()?)
}
