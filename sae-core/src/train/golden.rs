//! Losses, gradients and twenty steps of every architecture against the peers' own training code
//! (`tests/golden/make_saes.py`: sae-lens 6.54.12, dictionary-learning 0.1.0), for both engines, sparse and dense.

use super::autodiff::AutodiffEngine;
use super::config::{Decoder, JumpReluPenalty, TrainConfig, TrainingScale};
use super::cpu::CpuEngine;
use super::engine::{Batch, Engine};
use super::params::{Params, scalar_names};
use crate::autoencoder::Architecture;
use crate::tensors::Tensors;
use burn::tensor::Device;
use serde_json::Value;
use std::path::PathBuf;

const D: usize = 16;
const F: usize = 64;
const BATCH: usize = 32;

/// Cases that are ours as well, with how they are computed; the others need a loss that we do not have.
const CASES: [&str; 12] = [
    "standard",
    "standard_nobdec",
    "topk_rescale_few_dead",
    "topk_rescale_many_dead",
    "topk_many_dead",
    "batchtopk",
    "matryoshka",
    "jumprelu_step",
    "jumprelu_tanh",
    "gated",
    "dl_topk",
    "dl_batchtopk",
];

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/saes/train")
}

fn config(case: &Value) -> TrainConfig {
    let number = |key: &str, or: f64| case[key].as_f64().unwrap_or(or);
    let arch = match case["architecture"].as_str().unwrap() {
        "standard" => Architecture::Relu,
        "topk" => Architecture::TopK,
        "batchtopk" => Architecture::BatchTopK,
        "matryoshka_batchtopk" => Architecture::Matryoshka,
        "jumprelu" => Architecture::JumpRelu,
        "gated" => Architecture::Gated,
        other => panic!("{other}"),
    };
    let of_dl = case["package"].as_str().unwrap().starts_with("dictionary");
    TrainConfig {
        arch,
        features: F,
        batch: BATCH,
        steps: 20,
        k: number("k", 1.0) as usize,
        l1_coefficient: number("l1_coefficient", 0.0),
        l0_coefficient: number("l0_coefficient", 0.0),
        sparsity_warmup_steps: 0,
        lr_decay_steps: 0,
        lr: number("lr", 0.0),
        clip: number("clip_norm", 0.0),
        decoder: if of_dl { Decoder::Unit } else { Decoder::Free },
        rescale_by_decoder_norm: case["rescale_acts_by_decoder_norm"].as_bool().unwrap_or(false),
        subtract_b_dec: of_dl || case["apply_b_dec_to_input"].as_bool().unwrap(),
        normalize: TrainingScale::None,
        aux_loss_coefficient: number("aux_loss_coefficient", number("auxk_alpha", 0.0)),
        aux_relative: of_dl,
        bandwidth: number("jumprelu_bandwidth", 0.05),
        tanh_scale: number("jumprelu_tanh_scale", 4.0),
        jumprelu_penalty: if case["jumprelu_sparsity_loss_mode"] == "tanh" {
            JumpReluPenalty::Tanh
        } else {
            JumpReluPenalty::Step
        },
        prefixes: serde_json::from_value(case["matryoshka_widths"].clone()).unwrap_or_default(),
        threshold_rate: number("topk_threshold_lr", 0.01),
        ..TrainConfig::default()
    }
}

/// Parameters, gradients (`grad.`) or results (`final.`) of a file, with a row a feature.
fn params(file: &Tensors, prefix: &str, config: &TrainConfig) -> Params {
    let get = |name: &str, shape: &[usize]| file.f32(&format!("{prefix}{name}"), shape);
    let turned =
        |values: Vec<f32>| (0..F).flat_map(|k| (0..D).map(|i| values[i * F + k]).collect::<Vec<_>>()).collect();
    let mut params = Params::zeros(D, config);
    params.b_dec = get("b_dec", &[D]).unwrap();
    if let Ok(w_enc) = get("encoder.weight", &[F, D]) {
        params.w_enc = w_enc;
        params.w_dec = turned(get("decoder.weight", &[D, F]).unwrap());
        params.scalars[0] = get("encoder.bias", &[F]).unwrap();
        return params;
    }
    params.w_enc = turned(get("W_enc", &[D, F]).unwrap());
    params.w_dec = get("W_dec", &[F, D]).unwrap();
    for (name, values) in scalar_names(config.arch).iter().zip(&mut params.scalars) {
        *values = get(name, &[F]).unwrap();
    }
    params
}

/// An engine with its name and how much its results may differ.
type NamedEngine = (&'static str, f32, Box<dyn Engine>);

/// The engines on a CPU.
fn engines(config: &TrainConfig, params: &Params) -> Vec<NamedEngine> {
    let plain = AutodiffEngine::new(config, params.clone(), &Device::flex().autodiff());
    let fused = |dense: bool| {
        let mut fused = CpuEngine::new(config, params.clone());
        fused.force(dense);
        Box::new(fused) as Box<dyn Engine>
    };
    let mut engines: Vec<NamedEngine> = vec![("plain", 1e-4, Box::new(plain)), ("sparse", 1e-4, fused(false))];
    if !config.is_topk() {
        engines.push(("dense", 1e-4, fused(true)));
    }
    engines
}

/// What trains on the GPUs that this build and this machine have: the sparse step, and Burn's autodiff where training begins
/// with it, whose products in `f32` a GPU may compute in TF32.
#[cfg(feature = "gpu")]
fn on_gpu(config: &TrainConfig, params: &Params) -> Vec<NamedEngine> {
    let mut engines: Vec<NamedEngine> = Vec::new();
    for device in crate::device::DeviceChoice::found() {
        let sparse = super::gpu::sparse(config, params.clone(), &device).unwrap();
        engines.push(("sparse on a GPU", 1e-4, Box::new(sparse)));
        if !config.is_topk() {
            let dense = AutodiffEngine::new(config, params.clone(), &device.autodiff());
            engines.push(("dense on a GPU", 2e-2, Box::new(dense)));
        }
    }
    engines
}

fn close(what: &str, own: &Params, other: &Params, tolerance: f32) {
    let names = ["W_enc", "W_dec", "b_dec", "number 0", "number 1", "number 2"];
    for (name, (own, other)) in names.iter().zip(own.arrays().into_iter().zip(other.arrays())) {
        assert_eq!(own.len(), other.len(), "{what}: {name}");
        let most = other.iter().fold(0f32, |m, v| m.max(v.abs()));
        let apart = own.iter().zip(other).map(|(a, b)| (a - b).abs()).fold(0f32, f32::max);
        assert!(apart <= tolerance * most.max(1e-3), "{what}: {name} {apart} apart, values up to {most}");
    }
}

/// Without the part along the decoder's rows, as our gradients come where their norm is fixed.
fn projected(mut gradient: Params, params: &Params) -> Params {
    for (g, w) in gradient.w_dec.chunks_mut(D).zip(params.w_dec.chunks(D)) {
        let along = g.iter().zip(w).map(|(g, w)| g * w).sum::<f32>() / w.iter().map(|w| w * w).sum::<f32>();
        g.iter_mut().zip(w).for_each(|(g, w)| *g -= along * w);
    }
    gradient
}

#[test]
fn losses_gradients_and_twenty_steps_are_the_peers() {
    check(engines);
}

#[cfg(feature = "gpu")]
#[test]
fn losses_gradients_and_twenty_steps_are_the_peers_on_a_gpu() {
    check(on_gpu);
}

/// Every case through every engine.
fn check(engines: fn(&TrainConfig, &Params) -> Vec<NamedEngine>) {
    let text = std::fs::read_to_string(folder().join("cases.json")).unwrap();
    let cases: Value = serde_json::from_str(&text).unwrap();
    for name in CASES {
        let case = &cases[name];
        let config = config(case);
        let file = Tensors::open(&folder().join(format!("{name}.safetensors"))).unwrap();
        let start = params(&file, "", &config);
        let inputs = file.f32("inputs", &[20, BATCH, D]).unwrap();
        let dead: Vec<u32> = match file.bytes("dead_neuron_mask") {
            Some((_, mask)) => (0..).zip(mask).filter(|(_, dead)| **dead != 0).map(|(k, _)| k).collect(),
            None => Vec::new(),
        };
        let ends = super::selection::prefixes(&config, F, &mut crate::random::chacha(0, 0));
        let sparsity = config.sparsity_at(0);
        let batch = |step: u64| Batch {
            x: &inputs[step as usize * BATCH * D..][..BATCH * D],
            y: &inputs[step as usize * BATCH * D..][..BATCH * D],
            t: step + 1,
            lr: config.lr,
            sparsity,
            ends: &ends,
            dead: &dead,
        };
        // One step without clipping: the first moment is the gradient times 1 - beta1.
        let free = TrainConfig { clip: 0.0, ..config.clone() };
        let mut expected = params(&file, "grad.", &config);
        if config.decoder == Decoder::Unit {
            expected = projected(expected, &start);
        }
        for (engine, tolerance, mut computes) in engines(&free, &start) {
            computes.step(&batch(0)).unwrap();
            let mut found = computes.state().unwrap().into_owned().first;
            found.arrays_mut().into_iter().flatten().for_each(|v| *v /= 1.0 - 0.9);
            close(&format!("{name}, {engine}, gradient"), &found, &expected, tolerance);
        }
        for (engine, tolerance, mut computes) in engines(&config, &start) {
            let near = f64::from(tolerance);
            let mut threshold = 0.0;
            for step in 0..20 {
                let outcome = computes.step(&batch(step)).unwrap();
                let (found, expected) = (outcome.loss(sparsity), case["loss"][step as usize].as_f64().unwrap());
                let what = format!("{name}, {engine}, step {step}");
                assert!((found - expected).abs() < near * expected, "{what}: loss {found} and {expected}");
                if let Some(norm) = case["grad_norm_before_clip"][step as usize].as_f64()
                    && config.decoder == Decoder::Free
                {
                    let found = outcome.grad_norm;
                    assert!((found - norm).abs() < near * norm, "{what}: gradient {found} and {norm}");
                }
                if let Some(least) = outcome.least {
                    threshold += config.threshold_rate * (f64::from(least) - threshold);
                }
            }
            let found = computes.state().unwrap().into_owned().params;
            let expected = params(&file, "final.", &config);
            close(&format!("{name}, {engine}, twenty steps"), &found, &expected, tolerance);
            if let Some((_, bytes)) = file.bytes("final.topk_threshold") {
                let expected = f64::from_le_bytes(bytes.try_into().unwrap());
                assert!((threshold - expected).abs() < 1e-5, "{name}, {engine}: threshold {threshold} and {expected}");
            }
        }
    }
}
