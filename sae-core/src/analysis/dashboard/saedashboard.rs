//! SAEDashboard's files (0.8.0): `batch-N.json`, `run_settings.json`, `skipped_indexes.json`. Fields that
//! the index has no data for stay empty; they are never filled with something similar.

use super::{Page, Shown, Source, decimal, decimals};
use crate::analysis::index::{Bin, LogitBin};
use serde_json::{Value, json};

/// Features of a batch.
pub const BATCH: usize = 64;
/// The dimensions that a direction has most of, so many.
const ALIGNED: usize = 3;

/// A batch of features.
pub fn batch(source: &Source, pages: &[Page]) -> Value {
    let features: Vec<Value> = pages.iter().map(|page| feature(source, page)).collect();
    let (Source { model, sae, .. }, layer) = (source, source.layer());
    json!({ "model_id": model, "layer": layer, "sae_set": sae, "sae_id_suffix": null, "features": features })
}

/// How the batches were made, in the fields of SAEDashboard's settings.
pub fn run_settings(source: &Source) -> Value {
    json!({
        "sae_set": source.sae, "model_id": source.model, "layer": source.layer(),
        "huggingface_dataset_path": source.dataset, "n_prompts_total": source.samples,
        "n_tokens_in_prompt": tokens_in_prompt(source), "n_features_at_a_time": BATCH,
        "n_quantiles": crate::analysis::index::INTERVALS, "top_acts_group_size": crate::analysis::index::STRONGEST,
        "quantile_group_size": crate::analysis::index::PER_INTERVAL, "sae_workbench": { "created": source.created },
    })
}

/// The features that are in no batch.
pub fn skipped_indexes(source: &Source, skipped: &[u32]) -> Value {
    json!({
        "model_id": source.model, "layer": source.layer().to_string(), "sae_set": source.sae, "log_sparsity": null,
        "skipped_indexes": skipped,
    })
}

/// Mean number of positions of a sample.
pub(super) fn tokens_in_prompt(source: &Source) -> u64 {
    source.tokens / source.samples.max(1)
}

fn feature(source: &Source, page: &Page) -> Value {
    let total: f32 = page.direction.iter().map(|v| v.abs()).sum();
    let mut aligned: Vec<usize> = (0..page.direction.len()).collect();
    aligned.sort_by(|a, b| page.direction[*b].total_cmp(&page.direction[*a]).then(a.cmp(b)));
    aligned.truncate(ALIGNED);
    let aligned_by =
        |convert: &dyn Fn(f32) -> f32| aligned.iter().map(|n| decimal(convert(page.direction[*n]))).collect::<Vec<_>>();
    let words = |promoted| page.words(promoted).map(|word| word.piece.as_str()).collect::<Vec<_>>();
    let logits = |promoted| page.words(promoted).map(|word| decimal(word.logit)).collect::<Vec<_>>();
    let middle = |bin: &Bin| decimal((bin.edges().0 * bin.edges().1).sqrt());
    let logit = |bin: &LogitBin| decimal(bin.low.midpoint(bin.high));
    json!({
        "feature_index": page.row.feature,
        "neuron_alignment_indices": aligned,
        "neuron_alignment_values": aligned_by(&|v| v),
        "neuron_alignment_l1": aligned_by(&|v| v.abs() / total.max(f32::MIN_POSITIVE)),
        "correlated_neurons_indices": [], "correlated_neurons_l1": [], "correlated_neurons_pearson": [],
        "correlated_features_indices": [], "correlated_features_l1": [], "correlated_features_pearson": [],
        "neg_str": words(false), "neg_values": logits(false), "pos_str": words(true), "pos_values": logits(true),
        "frac_nonzero": page.row.density,
        "freq_hist_data_bar_values": page.bins.iter().map(middle).collect::<Vec<_>>(),
        "freq_hist_data_bar_heights": page.bins.iter().map(|bin| bin.fires).collect::<Vec<_>>(),
        "logits_hist_data_bar_values": page.logit_bins.iter().map(logit).collect::<Vec<_>>(),
        "logits_hist_data_bar_heights": page.logit_bins.iter().map(|bin| bin.tokens).collect::<Vec<_>>(),
        "n_prompts_total": source.samples, "n_tokens_in_prompt": tokens_in_prompt(source), "dataset": source.dataset,
        "decoder_weights_dist": [],
        "activations": page.shown.iter().map(|shown| activation(page, shown)).collect::<Vec<_>>(),
        "vector": decimals(page.direction),
    })
}

/// `[bin_min, bin_max, bin_contains]` as the field has them: -1 for the strongest.
pub(super) fn bin(page: &Page, group: u8) -> [f64; 3] {
    let interval = page.interval(group);
    match group {
        0 => [-1.0, decimal(page.row.max), -1.0],
        _ => [decimal(interval.low), decimal(interval.high), interval.share],
    }
}

fn activation(page: &Page, shown: &Shown) -> Value {
    let (cut, [low, high, share]) = (shown.cut(), bin(page, shown.group));
    let tokens: Vec<&str> = shown.context.tokens[cut.clone()].iter().map(|token| token.piece.as_str()).collect();
    json!({
        "bin_min": low, "bin_max": high, "bin_contains": share,
        "tokens": tokens, "values": decimals(&shown.values[cut.clone()]), "qualifying_token_index": shown.at - cut.start,
    })
}
