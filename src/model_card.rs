//! The card of an autoencoder on the hub: `README.md` with the metadata by which the hub finds it, what it is, what was measured,
//! and how it is used.

use harvest::hub::Destination;
use sae_core::autoencoder::formats::Summary;
use sae_core::store::hooks;
use serde_json::Value;

/// The last section of a card.
const USAGE: &str = include_str!("model_card_usage.md");

/// The card of an autoencoder that is uploaded to `to`. `evaluation` is its `eval.json`.
pub(crate) fn of_autoencoder(sae: &Summary, evaluation: Option<&Value>, to: &Destination) -> String {
    let mut card = String::from("---\nlibrary_name: saelens\ntags:\n- sparse-autoencoder\n- interpretability\n");
    if is_hub_name(&sae.model) {
        card += &format!("base_model: {}\n", sae.model);
    }
    card += &format!("---\n\n# {}\n\n{}", title(sae), description(sae));
    if let Some(table) = evaluation.and_then(measured) {
        card += &table;
    }
    card += &usage(to);
    card
}

/// Whether the name of a model is one of the hub, and nothing that would be YAML of another meaning.
fn is_hub_name(model: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    model.split_once('/').is_some_and(|(owner, name)| {
        !owner.is_empty() && !name.is_empty() && owner.chars().chain(name.chars()).all(is_plain)
    })
}

fn title(sae: &Summary) -> String {
    let kind = if sae.models.is_empty() { "Sparse autoencoder" } else { "Sparse crosscoder" };
    if sae.model.is_empty() { kind.to_owned() } else { format!("{kind} of {}", sae.model) }
}

fn description(sae: &Summary) -> String {
    let mut rows = vec![
        ("features", sae.d_sae.to_string()),
        ("dimensions", sae.d_in.to_string()),
        ("trained as", sae.architecture.name().to_owned()),
        ("used as", sae.k.map_or(sae.activation.to_owned(), |k| format!("{}, k {k}", sae.activation))),
    ];
    if !sae.model.is_empty() {
        rows.insert(0, ("model", sae.model.clone()));
    }
    if !sae.hook.is_empty() {
        rows.insert(1, ("hook", format!("`{}` (`{}` in SAELens)", sae.hook, hooks::to_sae_lens(&sae.hook))));
    }
    rows.extend(sae.models.iter().map(|stream| ("reads", stream.model.clone())));
    let rows: Vec<_> = rows.iter().map(|(what, is)| format!("| {what} | {is} |\n")).collect();
    format!("| | |\n|---|---|\n{}", rows.concat())
}

/// A table of what `sae eval` measured.
fn measured(evaluation: &Value) -> Option<String> {
    let row = |name: &str, of: &Value| {
        let [explained, l0, dead] = ["explained_variance", "l0", "dead"].map(|key| of[key].as_f64());
        let (tokens, explained, l0, dead) = (of["tokens"].as_u64()?, explained?, l0?, dead?);
        Some(format!("| {name} | {tokens} | {explained:.4} | {l0:.1} | {:.1} % |\n", 100.0 * dead))
    };
    let mut rows = row("all", &evaluation["all"])?;
    let modalities = evaluation["by_modality"].as_object().into_iter().flatten();
    modalities.for_each(|(name, of)| rows += &row(name, of).unwrap_or_default());
    let head = "| positions | tokens | explained variance | active features (L0) | features that never fire |\n";
    Some(format!("\n## Evaluation\n\n{head}|---|---|---|---|---|\n{rows}"))
}

/// How it is loaded.
fn usage(to: &Destination) -> String {
    let folder = if to.path().is_empty() { String::new() } else { format!(" + \"/{}\"", to.path()) };
    let [to, repo, branch] = [to.to_string(), to.repo().to_owned(), to.branch().to_owned()];
    let values = [("{to}", to), ("{repo}", repo), ("{branch}", branch), ("{folder}", folder)];
    values.iter().fold(USAGE.to_owned(), |text, (name, value)| text.replace(name, value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use sae_core::autoencoder::formats::{Origin, Saved};
    use sae_core::autoencoder::{Activation, Architecture, Weights};
    use serde_json::json;

    fn summary(model: &str) -> Summary {
        let (d_in, d_sae) = (2, 3);
        let weights = Weights {
            d_in,
            d_sae,
            w_enc: vec![1.0; 6],
            b_enc: vec![0.0; 3],
            w_dec: vec![1.0; 6],
            b_dec: vec![0.0; 2],
            activation: Activation::TopK { k: 2 },
            ..Weights::default()
        };
        let origin = Origin { model: model.into(), hook: "layers.16".into(), layer: 16, ..Origin::default() };
        Summary::new(&Saved { architecture: Architecture::TopK, weights, origin })
    }

    #[test]
    fn a_card_says_what_the_autoencoder_is_what_was_measured_and_how_it_is_used() {
        let to = "lab/saes/layers.16".parse().unwrap();
        let all = json!({"tokens": 900, "explained_variance": 0.75, "l0": 31.96, "dead": 0.125});
        let image = json!({"tokens": 600, "explained_variance": 0.5, "l0": 30.0, "dead": 0.25});
        let evaluation = json!({"all": all, "by_modality": {"image": image}});
        let card = of_autoencoder(&summary("llava-hf/llava-1.5-7b-hf"), Some(&evaluation), &to);
        for part in [
            "---\nlibrary_name: saelens\ntags:\n- sparse-autoencoder\n- interpretability\nbase_model: llava-hf/llava-1.5-7b-hf\n---\n",
            "| hook | `layers.16` (`blocks.16.hook_resid_post` in SAELens) |",
            "| used as | topk, k 2 |",
            "| all | 900 | 0.7500 | 32.0 | 12.5 % |\n| image | 600 | 0.5000 | 30.0 | 25.0 % |",
            "sae import --from hub:lab/saes/layers.16 --run RUN --index",
            "snapshot_download(\"lab/saes\", revision=\"main\") + \"/layers.16\")",
        ] {
            assert!(card.contains(part), "{part:?} is missing in\n{card}");
        }
    }

    #[test]
    fn a_card_names_no_base_model_that_the_hub_cannot_have_and_no_figures_that_were_not_measured() {
        let to = "lab/saes".parse().unwrap();
        for model in ["", "demo-mllm", "/home/me/model", "a/b: {c}"] {
            let card = of_autoencoder(&summary(model), None, &to);
            assert!(!card.contains("base_model") && !card.contains("Evaluation"), "{model:?}:\n{card}");
        }
    }
}
