//! Neuronpedia's bulk import: `<model>/<layer>-<set>/{release,model,sourceset,source}.jsonl`, and gzipped lines of features
//! and activations, as Neuronpedia's converter makes them from SAEDashboard's files.

use super::saedashboard::{bin, tokens_in_prompt};
use super::{Page, Shown, Source, decimal, decimals};
use crate::store::hooks;
use serde_json::{Value, json};
use std::path::PathBuf;

/// The account that Neuronpedia's tools use by default; its import replaces it with the account of the importer.
const CREATOR: &str = "clkht01d40000jv08hvalcvly";

/// Name of a source: its layer and its set.
pub fn source_id(source: &Source) -> String {
    format!("{}-{}", source.layer(), source.sae)
}

/// The name of the model as a folder name.
fn model_id(source: &Source) -> String {
    source.model.rsplit(['/', '\\']).next().unwrap_or_default().split('@').next().unwrap_or_default().into()
}

/// The folder of a source.
pub fn folder(source: &Source) -> PathBuf {
    PathBuf::from(model_id(source)).join(source_id(source))
}

/// The four files that have one line: name and line.
pub fn heads(source: &Source) -> [(&'static str, Value); 4] {
    let (model, created, id) = (model_id(source), &source.created, source_id(source));
    let about = format!("Features of {} {} of {model}", source.sae, source.place());
    [
        (
            "release.jsonl",
            json!({
                "name": source.sae, "description": about, "creatorName": "", "creatorId": CREATOR,
                "visibility": "PUBLIC", "isNewUi": false, "featured": false, "descriptionShort": about, "urls": [],
                "creatorEmail": null, "creatorNameShort": "", "defaultSourceSetName": null, "defaultSourceId": null,
                "defaultUmapSourceIds": [], "createdAt": created,
            }),
        ),
        (
            "model.jsonl",
            json!({
                "id": model, "instruct": model.ends_with("-it"), "creatorId": CREATOR, "displayNameShort": model,
                "displayName": model, "tlensId": null, "dimension": null, "visibility": "PUBLIC",
                "defaultSourceSetName": null, "defaultSourceId": null, "inferenceEnabled": false, "layers": 0,
                "neuronsPerLayer": 0, "createdAt": created, "owner": "", "updatedAt": created, "website": null,
            }),
        ),
        (
            "sourceset.jsonl",
            json!({
                "modelId": model, "name": source.sae, "creatorId": CREATOR, "hasDashboards": true,
                "visibility": "PUBLIC", "description": about, "type": "", "creatorName": "", "urls": [],
                "creatorEmail": null, "releaseName": source.sae, "defaultOfModelId": null, "defaultRange": 1,
                "defaultShowBreaks": true, "showDfa": false, "showCorrelated": false, "showHeadAttribution": false,
                "showUmap": false, "createdAt": created,
            }),
        ),
        (
            "source.jsonl",
            json!({
                "id": id, "modelId": model, "setName": source.sae, "creatorId": CREATOR, "hasDashboards": true,
                "inferenceEnabled": false, "inferenceHosts": [], "saelensConfig": null, "saelensRelease": null,
                "saelensSaeId": null, "hfRepoId": null, "hfFolderId": null, "visibility": "PUBLIC",
                "defaultOfModelId": null, "hasUmap": false, "hasUmapLogSparsity": false, "hasUmapClusters": false,
                "num_prompts": source.samples, "num_tokens_in_prompt": tokens_in_prompt(source),
                "dataset": source.dataset, "notes": null, "createdAt": created,
            }),
        ),
    ]
}

/// The line of a feature, from the one of SAEDashboard's batch.
pub fn feature(source: &Source, page: &Page, dashboard: &Value) -> Value {
    let mut line = json!({
        "modelId": model_id(source), "layer": source_id(source), "index": page.row.feature.to_string(),
        "creatorId": CREATOR, "createdAt": source.created, "maxActApprox": decimal(page.row.max),
        "hasVector": true, "vector": decimals(page.direction), "vectorLabel": null, "vectorDefaultSteerStrength": decimal(page.row.max),
        "hookName": source.hook.map(|hook| hooks::to_sae_lens(&hook.to_string())), "sourceSetName": source.sae,
        "topkCosSimIndices": page.neighbors.iter().map(|n| n.feature).collect::<Vec<_>>(),
        "topkCosSimValues": page.neighbors.iter().map(|n| decimal(n.cosine)).collect::<Vec<_>>(),
    });
    let shared = [
        "neuron_alignment",
        "correlated_neurons",
        "correlated_features",
        "neg_",
        "pos_",
        "frac_",
        "freq_",
        "logits_",
        "decoder_",
    ];
    if let (Value::Object(line), Value::Object(dashboard)) = (&mut line, dashboard) {
        let copied = dashboard.iter().filter(|(name, _)| shared.iter().any(|prefix| name.starts_with(prefix)));
        line.extend(copied.map(|(name, value)| (name.clone(), value.clone())));
    }
    line
}

/// The id of an activation; the same in every export.
pub fn activation_id(source: &Source, page: &Page, number: usize) -> String {
    let name = format!("{}/{}/{}/{number}", source.model, source_id(source), page.row.feature);
    format!("c{}", &blake3::hash(name.as_bytes()).to_hex()[..24])
}

/// The lines of a feature's activations.
pub fn activations(source: &Source, page: &Page) -> Vec<Value> {
    page.shown.iter().enumerate().map(|(n, shown)| activation(source, page, n, shown)).collect()
}

fn activation(source: &Source, page: &Page, number: usize, shown: &Shown) -> Value {
    let (cut, [low, high, share]) = (shown.cut(), bin(page, shown.group));
    let values = &shown.values[cut.clone()];
    let strongest = values.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1).then(b.0.cmp(&a.0)));
    let (at, most) = strongest.map_or((0, 0.0), |(at, most)| (at, *most));
    let least = values.iter().copied().fold(most, f32::min);
    let tokens: Vec<&str> = shown.context.tokens[cut.clone()].iter().map(|token| token.piece.as_str()).collect();
    json!({
        "id": activation_id(source, page, number), "tokens": tokens, "index": page.row.feature.to_string(),
        "layer": source_id(source), "modelId": model_id(source), "maxValue": decimal(most), "maxValueTokenIndex": at,
        "minValue": decimal(least), "values": decimals(values), "creatorId": CREATOR, "dataSource": source.dataset,
        "dataIndex": shown.sample.key, "dfaValues": [], "dfaTargetIndex": null, "dfaMaxValue": null,
        "createdAt": source.created, "lossValues": [], "logitContributions": null, "binMin": low, "binMax": high,
        "binContains": share, "qualifyingTokenIndex": shown.at - cut.start, "zIndices": null, "zValues": null,
    })
}
