//! Every folder of `tests/golden/saes`, written by the tools themselves: the same activations and reconstructions come
//! out here, and again after being written in each format that can express them.

use super::*;
use crate::autoencoder::{Activation, Architecture, Encoder, InputNorm, Weights};
use arrays::{Arrays, plain};
use burn::tensor::Device;

/// The results of the tool's code.
struct Golden {
    x: Vec<f32>,
    z: Vec<f32>,
    x_hat: Vec<f32>,
}

const ROWS: usize = 10;

fn folders() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/saes");
    let inside = |dir: &str| std::fs::read_dir(root.join(dir)).unwrap().map(|e| e.unwrap().path()).collect::<Vec<_>>();
    let mut all = [inside("infer"), inside("other")].concat();
    all.sort();
    assert!(all.len() > 70, "{} folders are not all of them", all.len());
    all
}

fn name(dir: &Path) -> String {
    dir.file_name().unwrap().to_str().unwrap().into()
}

fn golden(dir: &Path, weights: &Weights) -> Golden {
    let (d, f, d_out) = (weights.d_in, weights.d_sae, weights.d_out());
    let io = Arrays::open(&dir.join("io.safetensors"), arrays::safetensors).unwrap();
    let wanted = [plain("x", &[ROWS, d]), plain("z", &[ROWS, f]), plain("x_hat", &[ROWS, d_out])];
    let [x, mut z, x_hat] = io.take(wanted).unwrap();
    // Its z is in units of the decoder before its norms are folded in, as they must be where the largest are chosen.
    if name(dir) == "llamascopium_topk" {
        let file = Arrays::open(&dir.join("sae_weights.safetensors"), arrays::safetensors).unwrap();
        let [decoder] = file.take([plain("W_D", &[f, d])]).unwrap();
        let norms: Vec<f32> = decoder.chunks(d).map(|row| row.iter().map(|v| v * v).sum::<f32>().sqrt()).collect();
        z.iter_mut().enumerate().for_each(|(n, z)| *z *= norms[n % f]);
    }
    Golden { x, z, x_hat }
}

/// Dense activations and reconstructions, computed here.
fn computed(weights: &Weights, x: &[f32]) -> (Vec<f32>, Vec<f32>) {
    let active = Encoder::new(weights, &Device::flex()).encode(x).unwrap();
    let d_out = weights.d_out();
    let (mut z, mut x_hat) = (vec![0.0; ROWS * weights.d_sae], vec![0.0; ROWS * d_out]);
    for (row, x) in x.chunks(weights.d_in).enumerate() {
        let (features, values) = active.row(row);
        features.iter().zip(values).for_each(|(k, v)| z[row * weights.d_sae + *k as usize] = *v);
        weights.decode(x, features, values, &mut x_hat[row * d_out..][..d_out]);
    }
    (z, x_hat)
}

fn same(what: &str, found: &[f32], expected: &[f32]) {
    let largest = expected.iter().fold(0f32, |most, v| most.max(v.abs()));
    let apart = found.iter().zip(expected).fold(0f32, |most, (a, b)| most.max((a - b).abs()));
    assert!(largest > 0.0 && apart <= 1e-5 * largest, "{what}: {apart} apart, the largest is {largest}");
}

#[test]
fn every_golden_autoencoder_computes_what_its_tool_computed() {
    for dir in folders().iter().filter(|dir| name(dir) != "sparsify_groupmax") {
        let saved = load(dir).unwrap_or_else(|e| panic!("{e}"));
        let golden = golden(dir, &saved.weights);
        let (z, x_hat) = computed(&saved.weights, &golden.x);
        same(&format!("z of {}", name(dir)), &z, &golden.z);
        same(&format!("x_hat of {}", name(dir)), &x_hat, &golden.x_hat);
    }
}

#[test]
fn what_a_format_can_express_survives_it_and_the_rest_is_named() {
    // One is rejected, and one has inputs of an unknown scale, which no format can express.
    for dir in folders().iter().filter(|dir| !["sparsify_groupmax", "crosscoder_pt"].contains(&&name(dir)[..])) {
        let saved = load(dir).unwrap();
        let weights = &saved.weights;
        let golden = golden(dir, weights);
        let topk = matches!(weights.activation, Activation::TopK { .. });
        let as_crosscoder = match &name(dir)[..] {
            "crosscoder_relu" | "crosscoder_none" => None,
            name if name.starts_with("crosscoder") => Some("one threshold for all features"),
            _ => Some("an autoencoder of one model"),
        };
        let as_replication = match &name(dir)[..] {
            "crosscoder_relu" => None,
            name if name.starts_with("crosscoder") => Some("another activation than ReLU"),
            _ => Some("an autoencoder of one model"),
        };
        for (format, missing) in [
            (Format::SaeLens, None),
            (Format::Sparsify, (weights.normalization != InputNorm::None).then_some("normalized inputs")),
            (Format::Sparsify, (!topk).then_some("cannot express")),
            (Format::Crosscoder, as_crosscoder),
            (Format::CrosscoderPt, as_replication),
        ] {
            let out = tempfile::tempdir().unwrap();
            let written = save(format, out.path(), &saved);
            if let Some(missing) = missing {
                let said = written.unwrap_err().to_string();
                assert!(said.contains(missing), "{}: {said}", name(dir));
                assert_eq!(std::fs::read_dir(out.path()).unwrap().count(), 0, "a refusal writes nothing");
            } else if written.is_ok() {
                assert_eq!(detect(out.path()).unwrap(), format);
                let (z, x_hat) = computed(&load(out.path()).unwrap().weights, &golden.x);
                same(&format!("z of {} as {}", name(dir), format.name()), &z, &golden.z);
                same(&format!("x_hat of {} as {}", name(dir), format.name()), &x_hat, &golden.x_hat);
                let again = load(out.path()).unwrap();
                assert_eq!(again.is_transcoder(), saved.is_transcoder(), "{} as {}", name(dir), format.name());
                assert!(format != Format::SaeLens || again.origin.target == saved.origin.target);
            } else {
                assert!(format == Format::Sparsify && (!topk || weights.normalization != InputNorm::None));
            }
        }
    }
}

#[test]
fn formats_are_recognized_by_their_files_and_origins_by_their_hooks() {
    let dir = |name: &str| {
        folders().into_iter().find(|dir| self::name(dir) == name).unwrap_or_else(|| panic!("no folder {name}"))
    };
    use crate::autoencoder::Architecture as A;
    use Format as F;
    for (name, format, architecture, hook) in [
        ("batchtopk-bdec-none", F::SaeLens, A::BatchTopK, "layers.16"),
        ("matryoshka-bdec-none", F::SaeLens, A::Matryoshka, "layers.16"),
        ("gated-nobdec-layer_norm", F::SaeLens, A::Gated, "layers.16"),
        ("saelens_train_batchtopk", F::SaeLens, A::BatchTopK, "layers.16"),
        ("saelens_v3_relu", F::SaeLensOld, A::Relu, "layers.16"),
        ("saelens_v4_topk", F::SaeLensOld, A::TopK, "layers.16"),
        ("saev", F::SaeLensOld, A::Relu, "layers.16"),
        ("sparsify_topk", F::Sparsify, A::TopK, ""),
        ("dl_batchtopk", F::DictionaryLearning, A::BatchTopK, "layers.16"),
        ("dl_gated", F::DictionaryLearning, A::Gated, "layers.16"),
        ("gemma_scope_1", F::GemmaScope1, A::JumpRelu, ""),
        ("gemma_scope_2", F::GemmaScope2, A::JumpRelu, "layers.9"),
        ("llama_scope", F::LlamaScope, A::JumpRelu, "layers.15"),
        ("llama_scope_topk", F::LlamaScope, A::TopK, "blocks.15.ln2.hook_normalized"),
        ("llamascopium_linear", F::Llamascopium, A::JumpRelu, "layers.15"),
        ("SAE-Res-Tiny-2B-Base-W24-L0_4", F::QwenScope, A::TopK, "layers.3"),
        ("dl_new", F::DictionaryLearning, A::Relu, "layers.16"),
        ("crosscoder_relu", F::Crosscoder, A::Relu, ""),
        ("crosscoder_normalized", F::Crosscoder, A::BatchTopK, ""),
        ("crosscoder_pt", F::CrosscoderPt, A::Relu, "layers.13"),
        ("saelens_train_scaled", F::SaeLens, A::BatchTopK, "layers.16"),
        ("llamascopium_topk", F::Llamascopium, A::TopK, "layers.16"),
        ("llamascopium_jumprelu", F::Llamascopium, A::JumpRelu, "blocks.16.ln2.hook_normalized"),
    ] {
        assert_eq!(detect(&dir(name)).unwrap(), format, "{name}");
        assert_eq!(format.name().parse(), Ok(format));
        let saved = load(&dir(name)).unwrap();
        assert_eq!((saved.architecture, &saved.origin.hook[..]), (architecture, hook), "{name}");
    }
    let archive = dir("dl_topk").join("ae.pt");
    assert_eq!(detect(&archive).unwrap(), F::DictionaryLearning, "a file stands for its folder");
    let only_read = save(F::GemmaScope1, Path::new("unused"), &load(&dir("dl_topk")).unwrap()).unwrap_err().to_string();
    assert!(
        only_read.contains("gemma-scope-1 is only read") && only_read.contains("sae-lens, sparsify"),
        "{only_read}"
    );
    let groupmax = load(&dir("sparsify_groupmax")).unwrap_err().to_string();
    assert!(groupmax.contains("\"groupmax\"") && groupmax.contains("supported are topk"), "{groupmax}");
}

#[test]
fn transcoders_are_recognized_in_every_format_with_the_hook_that_they_reconstruct() {
    for (name, architecture, [hook, target], widths, skip) in [
        (
            "saelens_transcoder",
            Architecture::Relu,
            ["blocks.4.ln2.hook_normalized", "blocks.4.hook_mlp_out"],
            [8, 6],
            false,
        ),
        (
            "saelens_jumprelu_skip_transcoder",
            Architecture::JumpRelu,
            ["blocks.4.ln2.hook_normalized", "blocks.4.hook_mlp_out"],
            [8, 6],
            true,
        ),
        (
            "gemma_scope_2_transcoder",
            Architecture::JumpRelu,
            ["model.layers.9.pre_feedforward_layernorm.output", "model.layers.9.post_feedforward_layernorm.output"],
            [8, 8],
            true,
        ),
        (
            "llamascopium_jumprelu",
            Architecture::JumpRelu,
            ["blocks.16.ln2.hook_normalized", "blocks.16.hook_mlp_out"],
            [8, 8],
            false,
        ),
        (
            "llama_scope_topk",
            Architecture::TopK,
            ["blocks.15.ln2.hook_normalized", "blocks.15.hook_mlp_out"],
            [8, 8],
            false,
        ),
    ] {
        let saved = load(&folders().into_iter().find(|dir| self::name(dir) == name).unwrap()).unwrap();
        let weights = &saved.weights;
        assert!(saved.is_transcoder() && saved.architecture == architecture, "{name}");
        assert_eq!([weights.d_in, weights.d_out()], widths, "{name}");
        let named = [hook, target].map(|hook| crate::store::hooks::of_tool(hook).0);
        assert_eq!([&saved.origin.hook, &saved.origin.target], [&named[0], &named[1]], "{name}");
        assert_eq!(weights.skip.is_some(), skip, "{name}");
    }
    for name in ["gemma_scope_2", "llamascopium_topk", "llama_scope", "sparsify_topk", "saev"] {
        let saved = load(&folders().into_iter().find(|dir| self::name(dir) == name).unwrap()).unwrap();
        assert!(!saved.is_transcoder() && saved.origin.target.is_empty(), "{name}");
    }
    // A transcoder of sparsify is in a folder named after the module whose input and output it connects.
    for (folder, hook, target) in [
        ("layers.4.mlp", "layers.4.mlp_in", "layers.4.mlp_out"),
        ("layers.4.self_attn", "layers.4.attn_in", "layers.4.attn_out"),
        ("layers.4", "layers.3", "layers.4"),
        ("mine", "", "module.output"),
    ] {
        let out = tempfile::tempdir().unwrap();
        let at = out.path().join(folder);
        let origin = Origin { hook: hook.into(), target: target.into(), ..Origin::default() };
        let golden = folders().into_iter().find(|dir| self::name(dir) == "sparsify_topk").unwrap();
        let saved = Saved { origin, ..load(&golden).unwrap() };
        save(Format::Sparsify, &at, &saved).unwrap();
        let again = load(&at).unwrap();
        assert_eq!((&again.origin.hook[..], &again.origin.target[..]), (hook, target));
        assert_eq!(again.weights, saved.weights, "nothing is subtracted from the inputs of a transcoder");
    }
}

#[test]
fn what_is_saved_is_loaded_to_the_bit() {
    let ramp = |n: usize| (0..n).map(|i| i as f32 / n as f32 - 0.3).collect::<Vec<_>>();
    let weights = Weights {
        d_in: 3,
        d_sae: 5,
        w_enc: ramp(15),
        b_enc: ramp(5),
        w_dec: ramp(15),
        b_dec: ramp(3),
        ..Weights::default()
    };
    let activations = [Activation::Relu, Activation::TopK { k: 2 }, Activation::JumpRelu { threshold: ramp(5) }];
    for (architecture, activation) in Architecture::ALL.into_iter().zip(activations.into_iter().cycle()) {
        let weights = Weights { activation, normalization: InputNorm::LayerNorm, ..weights.clone() };
        let training = serde_json::json!({ "steps": 7 });
        let origin = Origin {
            model: "m".into(),
            hook: "layers.4".into(),
            layer: 4,
            context_size: 9,
            training,
            ..Origin::default()
        };
        let saved = Saved { architecture, weights, origin };
        let dir = tempfile::tempdir().unwrap();
        save(Format::SaeLens, dir.path(), &saved).unwrap();
        assert_eq!(load(dir.path()).unwrap(), saved);
        // A transcoder of another width, with and without a skip connection.
        for skip in [None, Some(ramp(3 * 2))] {
            let (w_dec, b_dec) = (ramp(5 * 2), ramp(2));
            let weights = Weights { w_dec, b_dec, skip, normalization: InputNorm::None, ..saved.weights.clone() };
            let saved =
                Saved { weights, origin: Origin { target: "layers.5".into(), ..saved.origin.clone() }, ..saved };
            let dir = tempfile::tempdir().unwrap();
            save(Format::SaeLens, dir.path(), &saved).unwrap();
            assert_eq!(load(dir.path()).unwrap(), saved);
        }
    }
}
