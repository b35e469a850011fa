//! Result files of SAEBench's `core` evaluation (sae-bench 0.6.0), to compare an autoencoder with published ones. Written, never
//! read; only the statistics of the weights are computed here.
//!
//! Each metric is what its name says. Where SAEBench computes something else under that name, the value follows the name, and the
//! difference is stated here:
//!
//! - `explained_variance` is `1 - FVU`. SAEBench squares activations before it takes the mean that it subtracts, and so
//!   subtracts the square of a mean square.
//! - `mse` is the mean squared error of a token, summed over dimensions. SAEBench divides by the tokens twice.
//! - `l0`, `frac_alive` and densities count positive activations, over the positions that were not excluded.
//! - Cross-entropies and divergences are over text tokens that follow text tokens, not over every position.
//!
//! All metrics are required numbers: what was not measured is -1, as SAEBench does with NaN.

use crate::analysis::eval::{Estimate, Firing, LossReport, Report, Variant};
use crate::analysis::index::nearest_cosines;
use crate::autoencoder::{Activation, Weights};
use crate::store::run;
use crate::vector::{dot, norm_sq};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// Everything that a result file is made from.
pub struct Core<'a> {
    /// Name of the autoencoder.
    pub name: &'a str,
    /// Name of the model.
    pub model: &'a str,
    /// What the model computed in, as PyTorch calls it.
    pub dtype: &'a str,
    /// Name of the data.
    pub dataset: &'a str,
    /// Its weights.
    pub weights: &'a Weights,
    /// Its configuration, as the file on disk has it.
    pub config: Value,
    /// How it reconstructs.
    pub report: &'a Report,
    /// How often its features fire.
    pub firing: &'a [Firing],
    /// How much the loss of the model rises, if that was measured.
    pub losses: Option<&'a LossReport>,
    /// Whether special positions were left out.
    pub exclude_special: bool,
}

impl Core<'_> {
    /// The file's content.
    pub fn result(&self) -> Value {
        let (all, weights) = (&self.report.all, self.weights);
        let encoder = nearest_cosines(&weights.w_enc, weights.d_in);
        let decoder = nearest_cosines(&weights.w_dec, weights.d_out());
        let loss = |metric: fn(&LossReport) -> &BTreeMap<Variant, Estimate>, variant: Variant| {
            number(self.losses.and_then(|losses| metric(losses).get(&variant)).map_or(f64::NAN, |e| e.value))
        };
        let over = |floor: f64| self.firing.iter().map(|f| f.density).filter(move |density| *density > floor);
        let share_over = |floor: f64| number(over(floor).sum::<f64>() / over(0.0).sum::<f64>());
        let mean = |values: &[f32]| number(values.iter().map(|v| *v as f64).sum::<f64>() / values.len() as f64);
        let measured = self.losses.is_some();
        let metrics = json!({
            "model_behavior_preservation": {
                "kl_div_score": loss(|l| &l.kl_recovered, Variant::Replaced),
                "kl_div_with_ablation": loss(|l| &l.kl, Variant::Zero),
                "kl_div_with_sae": loss(|l| &l.kl, Variant::Replaced),
            },
            "model_performance_preservation": {
                "ce_loss_score": loss(|l| &l.loss_recovered, Variant::Replaced),
                "ce_loss_with_ablation": loss(|l| &l.cross_entropy, Variant::Zero),
                "ce_loss_with_sae": loss(|l| &l.cross_entropy, Variant::Replaced),
                "ce_loss_without_sae": loss(|l| &l.cross_entropy, Variant::Original),
            },
            "reconstruction_quality": {
                "explained_variance": number(all.explained_variance),
                "explained_variance_legacy": number(all.explained_variance_legacy),
                "mse": number(all.mse),
                "cossim": number(all.cosine),
            },
            "shrinkage": {
                "l2_norm_in": number(all.mean_norm),
                "l2_norm_out": number(all.mean_norm_reconstruction),
                "l2_ratio": number(all.mean_norm_ratio),
                "relative_reconstruction_bias": number(all.reconstruction_bias),
            },
            "sparsity": { "l0": number(all.l0), "l1": number(all.l1) },
            "token_stats": {
                "total_tokens_eval_reconstruction": self.losses.map_or(0, |losses| losses.tokens),
                "total_tokens_eval_sparsity_variance": all.tokens,
            },
            "misc_metrics": {
                "freq_over_1_percent": number(all.density.over_1_percent),
                "freq_over_10_percent": number(all.density.over_10_percent),
                "normalized_freq_over_1_percent": share_over(0.01),
                "normalized_freq_over_10_percent": share_over(0.1),
                "average_max_encoder_cosine_sim": mean(&encoder),
                "average_max_decoder_cosine_sim": mean(&decoder),
                "frac_alive": number(1.0 - all.dead),
            },
        });
        let now = run::now_millis();
        json!({
            "eval_type_id": "core",
            "eval_config": {
                "model_name": self.model,
                "llm_dtype": self.dtype,
                "dataset": self.dataset,
                "compute_kl": measured,
                "compute_ce_loss": measured,
                "compute_l2_norms": true,
                "compute_sparsity_metrics": true,
                "compute_variance_metrics": true,
                "compute_featurewise_density_statistics": true,
                "compute_featurewise_weight_based_metrics": true,
                "exclude_special_tokens_from_reconstruction": self.exclude_special,
            },
            "eval_id": id(&format!("{metrics}{now}")),
            "datetime_epoch_millis": now,
            "eval_result_metrics": metrics,
            "eval_result_details": self.details(&encoder, &decoder),
            "sae_bench_commit_hash": format!("sae-workbench {}", env!("CARGO_PKG_VERSION")),
            "sae_lens_id": self.name,
            "sae_lens_release_id": null,
            "sae_lens_version": self.config["metadata"]["sae_lens_version"].as_str(),
            "sae_cfg_dict": self.config.as_object().cloned().unwrap_or_else(Map::new),
            "eval_result_unstructured": { "by_modality": self.report.by_modality, "losses": self.losses },
        })
    }

    /// A row for each feature.
    fn details(&self, encoder: &[f32], decoder: &[f32]) -> Vec<Value> {
        let weights = self.weights;
        let bias = match &weights.activation {
            Activation::Gated { bias, .. } => bias,
            _ => &weights.b_enc,
        };
        let row = |(feature, firing): (usize, &Firing)| {
            let encoder_row = &weights.w_enc[feature * weights.d_in..][..weights.d_in];
            let direction = weights.direction(feature);
            let norm = norm_sq(encoder_row).sqrt();
            // Of a transcoder whose input and target have different widths there is no such angle.
            let cosine = if direction.len() == encoder_row.len() {
                f64::from(dot(encoder_row, direction) / (norm * norm_sq(direction).sqrt()))
            } else {
                f64::NAN
            };
            json!({
                "index": feature,
                "feature_density": number(firing.density),
                "consistent_activation_heuristic": number(firing.per_sample),
                "encoder_bias": number(bias[feature].into()),
                "encoder_norm": number(norm.into()),
                "encoder_decoder_cosine_sim": number(cosine),
                "max_decoder_cosine_sim": number(decoder[feature].into()),
                "max_encoder_cosine_sim": number(encoder[feature].into()),
            })
        };
        self.firing.iter().enumerate().map(row).collect()
    }
}

/// A number for JSON; -1 if it is not finite.
fn number(value: f64) -> Value {
    if value.is_finite() { value.into() } else { (-1.0).into() }
}

/// A hash in the shape of a UUID.
fn id(text: &str) -> String {
    let hex = blake3::hash(text.as_bytes()).to_hex();
    [0..8, 8..12, 12..16, 16..20, 20..32].map(|part| &hex[part]).join("-")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::eval::Evaluator;
    use crate::analysis::pass;
    use crate::fixture;
    use burn::tensor::Device;

    /// Every metric that the format requires, by category.
    const METRICS: [(&str, &[&str]); 7] = [
        ("model_behavior_preservation", &["kl_div_score", "kl_div_with_ablation", "kl_div_with_sae"]),
        (
            "model_performance_preservation",
            &["ce_loss_score", "ce_loss_with_ablation", "ce_loss_with_sae", "ce_loss_without_sae"],
        ),
        ("reconstruction_quality", &["explained_variance", "explained_variance_legacy", "mse", "cossim"]),
        ("shrinkage", &["l2_norm_in", "l2_norm_out", "l2_ratio", "relative_reconstruction_bias"]),
        ("sparsity", &["l0", "l1"]),
        ("token_stats", &["total_tokens_eval_reconstruction", "total_tokens_eval_sparsity_variance"]),
        (
            "misc_metrics",
            &[
                "freq_over_1_percent",
                "freq_over_10_percent",
                "normalized_freq_over_1_percent",
                "normalized_freq_over_10_percent",
                "average_max_encoder_cosine_sim",
                "average_max_decoder_cosine_sim",
                "frac_alive",
            ],
        ),
    ];

    #[test]
    fn a_result_has_every_required_metric_as_a_number_whatever_was_measured() {
        let d = 8;
        let (_dir, store) = fixture::store(d);
        let w_dec: Vec<f32> = fixture::hidden(24, d, 5).iter().map(|v| v * 0.2).collect();
        let (w_enc, b_enc) = (w_dec.clone(), vec![-1.0; 24]);
        let weights = Weights { d_in: d, d_sae: 24, w_enc, b_enc, w_dec, b_dec: vec![0.0; d], ..Weights::default() };
        let mut evaluator = Evaluator::new(&weights);
        pass::run(&store, &weights, &Device::flex(), &mut [&mut evaluator], &mut |_| ()).unwrap();
        let report = evaluator.report();
        let core = Core {
            name: "base",
            model: "tiny",
            dtype: "float32",
            dataset: "data.jsonl",
            weights: &weights,
            config: json!({ "d_in": d, "metadata": { "sae_lens_version": "6.54.12" } }),
            report: &report,
            firing: &evaluator.firing(),
            losses: None,
            exclude_special: false,
        };
        let result = core.result();
        for (category, names) in METRICS {
            let found = result["eval_result_metrics"][category].as_object().unwrap();
            assert_eq!(found.keys().collect::<Vec<_>>(), names, "{category}");
            assert!(found.values().all(Value::is_number), "{category}: {found:?}");
        }
        assert_eq!(result["eval_result_metrics"]["model_behavior_preservation"]["kl_div_with_sae"], -1.0);
        assert_eq!(result["eval_result_metrics"]["reconstruction_quality"]["mse"], report.all.mse);
        for key in ["eval_id", "sae_bench_commit_hash", "sae_lens_id", "sae_lens_version"] {
            assert!(result[key].is_string(), "{key}");
        }
        assert!(result["datetime_epoch_millis"].as_i64().unwrap() > 1_700_000_000_000);
        let details = result["eval_result_details"].as_array().unwrap();
        assert_eq!(details.len(), 24);
        assert!(
            details.iter().all(|row| row["index"].is_u64() && row.as_object().unwrap().values().all(Value::is_number))
        );
        let same = details[3]["encoder_decoder_cosine_sim"].as_f64().unwrap();
        assert!((same - 1.0).abs() < 1e-6, "the encoder is the decoder here: {same}");
    }
}
