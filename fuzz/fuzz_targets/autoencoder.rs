//! The configuration of an autoencoder of every format that has one, beside whole weights.

#![no_main]

use sae_core::formats::{Format, load_as};
use std::fs;
use std::path::PathBuf;
use std::sync::LazyLock;

/// Format, golden folder, weights, configuration.
const CASES: [(Format, &str, &str, &str); 6] = [
    (Format::SaeLens, "saelens_train_batchtopk", "sae_weights.safetensors", "cfg.json"),
    (Format::Sparsify, "sparsify_topk", "sae.safetensors", "cfg.json"),
    (Format::DictionaryLearning, "dl_topk", "ae.pt", "config.json"),
    (Format::Llamascopium, "llamascopium_topk", "sae_weights.safetensors", "config.json"),
    (Format::LlamaScope, "llama_scope", "checkpoints/final.safetensors", "hyperparams.json"),
    (Format::GemmaScope2, "gemma_scope_2", "params.safetensors", "config.json"),
];

static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| {
    let folder = std::env::temp_dir().join(format!("sae-fuzz-{}", std::process::id()));
    for (_, name, weights, _) in CASES {
        let from = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/saes/other").join(name);
        let to = folder.join(name).join(weights);
        fs::create_dir_all(to.parent().expect("a folder")).expect("a folder");
        fs::copy(from.join(weights), to).expect("golden weights");
    }
    folder
});

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    for (format, name, _, config) in CASES {
        let folder = FOLDER.join(name);
        fs::write(folder.join(config), bytes).expect("room in the temporary folder");
        let _ = load_as(format, &folder);
    }
});
