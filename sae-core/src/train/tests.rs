//! Properties of training: the engines agree, threads change nothing, a restored session continues with the same bits, and
//! what is saved means what was trained.

use super::autodiff::AutodiffEngine;
use super::cpu::CpuEngine;
use super::engine::{Batch, Engine};
use super::*;
use crate::autoencoder::Architecture;
use crate::error::{Hint, Setting};
use crate::fixture;
use crate::store::PositionRule;
use std::collections::HashMap;

fn config(arch: Architecture) -> TrainConfig {
    let small =
        TrainConfig { features: 24, k: 3, batch: 32, lr: 3e-3, buffer: 200, ..TrainConfig::for_architecture(arch) };
    TrainConfig { l1_coefficient: 0.2, l0_coefficient: 0.05, bandwidth: 0.3, threshold: 0.05, ..small }.with_steps(20)
}

fn session<'a>(store: &'a Store, config: &TrainConfig) -> Session<'a> {
    session_on(&Device::flex(), store, config)
}

fn session_on<'a>(device: &Device, store: &'a Store, config: &TrainConfig) -> Session<'a> {
    let rows = StoreRows::new(store, config.exclude, config.seed).unwrap();
    let stream = Stream::new(rows, config.buffer, config.seed).unwrap();
    Session::new(stream, std::slice::from_ref(config), device).unwrap()
}

#[test]
fn the_fused_step_is_burn_s_autodiff() {
    agrees_with_autodiff(|config, params| Box::new(CpuEngine::new(config, params)));
}

/// An engine against the plain step on the CPU.
fn agrees_with_autodiff(new_engine: impl Fn(&TrainConfig, Params) -> Box<dyn Engine>) {
    let d = 6;
    for arch in Architecture::ALL {
        for variant in 0..3 {
            let base = config(arch);
            let config = match variant {
                0 => base,
                1 => TrainConfig { decoder: Decoder::Unit, subtract_b_dec: false, aux_relative: true, ..base },
                _ => TrainConfig {
                    jumprelu_penalty: JumpReluPenalty::Quadratic,
                    target_l0: 4.0,
                    clip: 0.5,
                    subtract_b_dec: true,
                    ..base
                },
            };
            let params = Params::initial(d, &config);
            let mut engine = new_engine(&config, params.clone());
            let mut in_burn = AutodiffEngine::new(&config, params, &Device::flex().autodiff());
            let ends = selection::prefixes(&config, 24, &mut crate::random::chacha(0, 0));
            let dead = [2, 3, 11, 17];
            for step in 0..12 {
                let x: Vec<f32> = fixture::hidden(32, d, step + 1).iter().map(|v| v * 1.5).collect();
                let batch = Batch {
                    x: &x,
                    y: &x,
                    t: step + 1,
                    lr: config.lr,
                    sparsity: config.sparsity_at(9),
                    ends: &ends,
                    dead: &dead,
                };
                let (found, expected) = (engine.step(&batch).unwrap(), in_burn.step(&batch).unwrap());
                let (a, b) = (found.loss(batch.sparsity), expected.loss(batch.sparsity));
                assert!((a - b).abs() < 1e-4 * b, "{arch:?} {variant} step {step}: {a} and {b}");
                assert!((found.l0 - expected.l0).abs() < 1e-5, "{arch:?} {variant} step {step}");
                assert_eq!(found.fired, expected.fired, "{arch:?} {variant} step {step}");
            }
            let (found, expected) = (engine.state().unwrap(), in_burn.state().unwrap());
            for (found, expected) in found.params.arrays().into_iter().zip(expected.params.arrays()) {
                let most = expected.iter().fold(0.2f32, |m, v| m.max(v.abs()));
                let difference = found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0f32, f32::max);
                assert!(difference < 5e-4 * most, "{arch:?} {variant}: they differ by {difference}");
            }
        }
    }
}

#[test]
fn equal_seeds_give_equal_bytes_on_any_number_of_threads() {
    let (_dir, store) = fixture::store(6);
    for arch in Architecture::ALL {
        let train = |threads: usize, seed: u64| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let config = TrainConfig { seed, dead_window_steps: 4, ..config(arch) };
            pool.install(|| train(&store, &config, &Device::flex(), &mut |_| ()).unwrap())
        };
        let first = train(1, 7);
        assert_eq!(first, train(2, 7), "{arch:?}");
        assert_eq!(first, train(5, 7), "{arch:?}");
        assert_ne!(first, train(1, 8), "{arch:?}");
    }
}

#[test]
fn training_lowers_the_error_and_what_is_saved_means_what_was_trained() {
    let scales = [TrainingScale::ExpectedNorm, TrainingScale::MeanSquare, TrainingScale::None];
    lowers_the_error(&Device::flex(), &scales, 300);
}

/// Trains every architecture for some steps; the decoder's rows have a fixed norm with [`TrainingScale::MeanSquare`].
fn lowers_the_error(device: &Device, scales: &[TrainingScale], steps: u64) {
    let (_dir, store) = fixture::store(6);
    for arch in Architecture::ALL {
        for normalize in scales.iter().copied() {
            let decoder = if normalize == TrainingScale::MeanSquare { Decoder::Unit } else { Decoder::Free };
            let base = TrainConfig {
                l1_coefficient: 0.01,
                l0_coefficient: 0.01,
                lr: 1e-2,
                normalize,
                decoder,
                ..config(arch)
            };
            let config = TrainConfig { b_dec_init: BDecInit::Mean, ..base }.with_steps(steps);
            let mut log = Vec::new();
            let weights = train(&store, &config, device, &mut |entry| log.push(*entry)).unwrap();
            let (first, last) = (log[0], log[log.len() - 1]);
            assert!(last.fvu < 0.5 * first.fvu, "{arch:?} {normalize:?}: FVU {} -> {}", first.fvu, last.fvu);
            // The evaluation works in the units of the store; the training worked in scaled ones. Only right folding agrees.
            let mut evaluator = crate::analysis::eval::Evaluator::new(&weights);
            crate::analysis::pass::run(&store, &weights, &Device::flex(), &mut [&mut evaluator], &mut |_| ()).unwrap();
            let all = evaluator.report().all;
            let what = format!("{arch:?} {normalize:?}: {} in the store, {} in training", all.fvu, last.fvu);
            assert!((all.fvu / last.fvu - 1.0).abs() < 0.35, "FVU of {what}");
            assert_eq!(all.tokens, store.manifest().rows);
        }
    }
}

#[test]
fn inputs_of_mean_0_and_deviation_1_are_normalized_in_use_as_well() {
    let (_dir, store) = fixture::store(6);
    let base = TrainConfig { normalize: TrainingScale::LayerNorm, lr: 1e-2, ..config(Architecture::TopK) };
    let weights = train(&store, &base.with_steps(300), &Device::flex(), &mut |_| ()).unwrap();
    assert_eq!(weights.normalization, crate::autoencoder::InputNorm::LayerNorm);
    let mut evaluator = crate::analysis::eval::Evaluator::new(&weights);
    crate::analysis::pass::run(&store, &weights, &Device::flex(), &mut [&mut evaluator], &mut |_| ()).unwrap();
    let all = evaluator.report().all;
    assert!(all.fvu < 0.5 && all.cosine > 0.8, "FVU {}, cosine {}", all.fvu, all.cosine);
}

#[test]
fn a_session_that_was_put_aside_goes_on_to_the_bit() {
    goes_on_to_the_bit(&Device::flex(), &Architecture::ALL);
}

fn goes_on_to_the_bit(device: &Device, archs: &[Architecture]) {
    let (_dir, store) = fixture::store(6);
    let folder = tempfile::tempdir().unwrap();
    for arch in archs.iter().copied() {
        let config = TrainConfig { dead_window_steps: 3, resample_every_steps: 5, random_prefixes: 3, ..config(arch) };
        let config = TrainConfig { exclude: PositionRule { special: true, first: true, norm: 8.0 }, ..config };
        let mut whole = session_on(device, &store, &config);
        let mut cut = session_on(device, &store, &config);
        for _ in 0..20 {
            whole.step().unwrap();
        }
        for at in [1, 7, 13] {
            while cut.steps() < at {
                cut.step().unwrap();
            }
            let path = checkpoint::write(folder.path(), &cut).unwrap();
            assert_eq!(checkpoint::newest(folder.path()), Some(path.clone()), "older ones are removed");
            cut = session_on(device, &store, &config);
            checkpoint::read(&path, &mut cut).unwrap();
        }
        while !cut.is_done() {
            cut.step().unwrap();
        }
        assert_eq!(whole.trainers()[0].snapshot().unwrap().0, cut.trainers()[0].snapshot().unwrap().0, "{arch:?}");
        assert_eq!(whole.trainers()[0].weights().unwrap(), cut.trainers()[0].weights().unwrap());
        assert_eq!(whole.trainers()[0].log().numbers().len(), cut.trainers()[0].log().numbers().len());
        std::fs::remove_file(checkpoint::newest(folder.path()).unwrap()).unwrap();
    }
}

#[test]
fn checkpoints_of_other_runs_and_damaged_ones_are_rejected() {
    let (_dir, store) = fixture::store(6);
    let folder = tempfile::tempdir().unwrap();
    let config = config(Architecture::TopK);
    let mut own = session(&store, &config);
    own.step().unwrap();
    let path = checkpoint::write(folder.path(), &own).unwrap();
    let mut other = session(&store, &TrainConfig { k: 4, ..config.clone() });
    let error = checkpoint::read(&path, &mut other).unwrap_err();
    assert!(error.to_string().contains("other settings") && error.hint().is_some(), "{error}");
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[..bytes.len() - 9]).unwrap();
    let error = checkpoint::read(&path, &mut session(&store, &config)).unwrap_err().to_string();
    assert!(error.contains("not a whole safetensors file"), "{error}");
}

#[test]
fn a_checkpoint_s_header_does_not_grow_with_the_buffer_or_the_features() {
    let (_dir, store) = fixture::store(6);
    let folder = tempfile::tempdir().unwrap();
    let header = |buffer: usize, features: usize| {
        let config = TrainConfig { buffer, features, ..config(Architecture::TopK) };
        let mut session = session(&store, &config);
        session.step().unwrap();
        assert_eq!(session.stream.order().len(), buffer);
        let path = checkpoint::write(folder.path(), &session).unwrap();
        checkpoint::read(&path, &mut self::session(&store, &config)).unwrap();
        let bytes = std::fs::read(path).unwrap();
        u64::from_le_bytes(*bytes.first_chunk().unwrap())
    };
    // Readers of safetensors reject headers of more than 100 MB, so the header may grow only by digits of numbers.
    let (small, large) = (header(32, 24), header(90, 3000));
    assert!(large < small + 200 && large < 10_000, "{small} and {large} bytes");
}

/// A batch whose loss is finite and whose gradient is not.
fn steep(config: &TrainConfig) -> (Params, Vec<f32>) {
    let mut params = Params::zeros(2, config);
    // z = 1e25, x_hat = 2e15: squared errors of 1e30, and a gradient of 2 z (x_hat - x) = 2e40.
    (params.w_enc[0], params.w_dec[0]) = (1e10, 2e-10);
    (params.w_enc[3], params.w_dec[3]) = (1e10, 2e-10);
    (params, vec![1e15, 0.0])
}

#[test]
fn a_gradient_that_is_not_finite_changes_nothing_in_any_engine_whatever_is_clipped() {
    rejects_gradients_that_are_not_finite(|config, params| {
        vec![
            ("fused", Box::new(CpuEngine::new(config, params.clone()))),
            ("plain", Box::new(AutodiffEngine::new(config, params, &Device::flex().autodiff()))),
        ]
    });
}

fn rejects_gradients_that_are_not_finite(
    engines: impl Fn(&TrainConfig, Params) -> Vec<(&'static str, Box<dyn Engine>)>,
) {
    for (arch, clip) in Architecture::ALL.into_iter().flat_map(|arch| [(arch, 0.0), (arch, 1.0)]) {
        let small = TrainConfig {
            features: 2,
            k: 1,
            batch: 1,
            aux_loss_coefficient: 0.0,
            ..TrainConfig::for_architecture(arch)
        };
        let config = TrainConfig { clip, subtract_b_dec: false, rescale_by_decoder_norm: false, ..small };
        let (params, x) = steep(&config);
        for (name, mut engine) in engines(&config, params.clone()) {
            let what = format!("{arch:?}, {name}, clipped at {clip}");
            let batch = Batch { x: &x, y: &x, t: 1, lr: 1e-3, sparsity: 0.0, ends: &[2], dead: &[] };
            let error = engine.step(&batch).expect_err(&what);
            assert!(error.to_string().contains("gradient"), "{what}: {error}");
            assert_eq!(error.hint(), Some(Hint::Lower(Setting::LearningRate)));
            assert_eq!(engine.state().unwrap().params, params, "{what}: nothing has been changed");
        }
    }
}

#[test]
fn several_autoencoders_of_one_pass_are_what_each_would_be_alone() {
    let (_dir, store) = fixture::store(6);
    let configs = [config(Architecture::TopK), config(Architecture::Relu)];
    let rows = StoreRows::new(&store, configs[0].exclude, configs[0].seed).unwrap();
    let stream = Stream::new(rows, configs[0].buffer, configs[0].seed).unwrap();
    let mut together = Session::new(stream, &configs, &Device::flex()).unwrap();
    while !together.is_done() {
        together.step().unwrap();
    }
    for (trainer, config) in together.trainers().iter().zip(&configs) {
        let alone = train(&store, config, &Device::flex(), &mut |_| ()).unwrap();
        assert_eq!(trainer.weights().unwrap(), alone);
    }
    let rows = StoreRows::new(&store, PositionRule::default(), 1).unwrap();
    let stream = Stream::new(rows, 10, 1).unwrap();
    let odd = [config(Architecture::TopK), TrainConfig { batch: 8, ..config(Architecture::TopK) }];
    let error = Session::new(stream, &odd, &Device::flex()).err().unwrap().to_string();
    assert!(error.contains("share batch"), "{error}");
}

#[test]
fn dead_features_are_revived_where_the_error_is() {
    let (_dir, store) = fixture::store(6);
    // Encoder and decoder differ, and one feature is active per token, so most never fire.
    let base = TrainConfig {
        k: 1,
        aux_loss_coefficient: 0.0,
        dead_window_steps: 10,
        tied_init: false,
        ..config(Architecture::TopK)
    };
    let last = |resample_every: u64| {
        let config = TrainConfig { resample_every_steps: resample_every, steps: 300, ..base.clone() };
        let mut log = Vec::new();
        train(&store, &config, &Device::flex(), &mut |entry| log.push(*entry)).unwrap();
        (log[60].dead, log[299].fvu)
    };
    let (never, sometimes) = (last(0), last(60));
    assert!(never.0 > 0.2 && sometimes.0 == 0.0, "dead just after: {sometimes:?} with revival, {never:?} without");
    assert!(sometimes.1 < never.1, "FVU in the end: {sometimes:?} with revival, {never:?} without");
}

#[test]
fn a_loss_that_explodes_stops_with_a_hint() {
    let (_dir, store) = fixture::store(6);
    let config = TrainConfig { lr: 1e30, ..config(Architecture::Relu) };
    let error = train(&store, &config, &Device::flex(), &mut |_| ()).unwrap_err();
    assert_eq!(error.hint(), Some(Hint::Lower(Setting::LearningRate)), "{error}");
}

#[test]
fn the_stream_serves_every_row_about_equally_often() {
    let (_dir, store) = fixture::store(6);
    let rows = store.manifest().rows as usize;
    let mut stream = Stream::new(StoreRows::new(&store, PositionRule::default(), 1).unwrap(), rows / 4, 1).unwrap();
    let mut drawn = Vec::new();
    stream.next(rows * 20, &mut drawn).unwrap();
    let mut counts = HashMap::new();
    for row in drawn.chunks(6) {
        *counts.entry(row.iter().map(|v| v.to_bits()).collect::<Vec<_>>()).or_insert(0) += 1;
    }
    assert_eq!(counts.len(), rows);
    assert!(counts.values().all(|n| (18..=21).contains(n)), "{:?}", counts.values().collect::<Vec<_>>());
}

#[test]
fn positions_that_are_left_out_are_never_served() {
    use crate::store::stream::Source;
    let (_dir, store) = fixture::store(6);
    let all = store.manifest().rows;
    let mut rows = StoreRows::new(&store, PositionRule { special: true, ..PositionRule::default() }, 1).unwrap();
    let mut out = Vec::new();
    let kept = all - fixture::SAMPLES as u64;
    for _ in 0..kept {
        rows.next(&mut out).unwrap();
    }
    assert!(rows.counts().0 == kept && rows.counts().1 >= fixture::SAMPLES as u64 - 1, "{:?}", rows.counts());
    let mut none = StoreRows::new(&store, PositionRule { norm: 1e-6, ..PositionRule::default() }, 1).unwrap();
    assert!(none.next(&mut out).unwrap_err().to_string().contains("every position is excluded"));
}

#[test]
fn the_saved_numbers_give_the_same_reconstruction_in_a_plain_implementation() {
    use crate::autoencoder::formats::{Format, Origin, Saved, load, save};
    let (dir, store) = fixture::store(6);
    let config = config(Architecture::Relu);
    let weights = train(&store, &config, &Device::flex(), &mut |_| ()).unwrap();
    let saved = Saved { architecture: config.arch, weights, origin: Origin::default() };
    save(Format::SaeLens, dir.path(), &saved).unwrap();

    // The file as any other program would read it: names and shapes of SAELens, sums in f64.
    let bytes = std::fs::read(dir.path().join("sae_weights.safetensors")).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let numbers = |name: &str, shape: &[usize]| -> Vec<f64> {
        let tensor = file.tensor(name).unwrap();
        assert_eq!(tensor.shape(), shape, "{name}");
        tensor.data().as_chunks().0.iter().map(|b| f32::from_le_bytes(*b) as f64).collect()
    };
    let (d, f) = (6, 24);
    let (w_enc, b_enc) = (numbers("W_enc", &[d, f]), numbers("b_enc", &[f]));
    let (w_dec, b_dec) = (numbers("W_dec", &[f, d]), numbers("b_dec", &[d]));

    let hidden = fixture::hidden(50, d, 77);
    let own = load(dir.path()).unwrap().weights;
    let active = crate::autoencoder::Encoder::new(&own, &Device::flex()).encode(&hidden).unwrap();
    let mut found = vec![0.0; d];
    for (row, x) in hidden.chunks(d).enumerate() {
        let z = |k: usize| (b_enc[k] + (0..d).map(|i| x[i] as f64 * w_enc[i * f + k]).sum::<f64>()).max(0.0);
        let z: Vec<f64> = (0..f).map(z).collect();
        let (features, values) = active.row(row);
        own.decode(x, features, values, &mut found);
        for i in 0..d {
            let expected = b_dec[i] + (0..f).map(|k| z[k] * w_dec[k * d + i]).sum::<f64>();
            assert!((found[i] as f64 - expected).abs() < 1e-5 * expected.abs().max(1.0), "{} and {expected}", found[i]);
        }
    }
}

/// The same laws on every GPU that this build and this machine have, and on the software device of Mesa's Vulkan driver,
/// which computes on the CPU. The kernels' sums have a fixed order; those of Burn's autodiff need not.
#[cfg(feature = "gpu")]
mod on_a_gpu {
    use super::*;
    use crate::device::{DeviceChoice, Gpu};
    use crate::train::gpu::{self, GpuEngine};
    use cubecl::prelude::Scalar;

    /// Architectures whose every step is sparse.
    const TOPK: [Architecture; 3] = [Architecture::TopK, Architecture::BatchTopK, Architecture::Matryoshka];

    #[test]
    fn the_sparse_step_agrees_with_burn_s_autodiff() {
        for device in DeviceChoice::found() {
            agrees_with_autodiff(|config, params| Box::new(gpu::sparse(config, params, &device).unwrap()));
        }
    }

    #[test]
    fn a_gradient_that_is_not_finite_changes_nothing() {
        for device in DeviceChoice::found() {
            rejects_gradients_that_are_not_finite(|config, params| {
                vec![
                    ("sparse", Box::new(gpu::sparse(config, params.clone(), &device).unwrap())),
                    ("plain", Box::new(AutodiffEngine::new(config, params, &device.clone().autodiff()))),
                ]
            });
        }
    }

    #[test]
    fn training_lowers_the_error_and_what_is_saved_means_what_was_trained() {
        // A hundred steps are enough to halve the error; a software device takes seconds for each of these trainings.
        DeviceChoice::found().for_each(|device| lowers_the_error(&device, &[TrainingScale::ExpectedNorm], 100));
    }

    #[test]
    fn a_restored_session_continues_to_the_bit() {
        DeviceChoice::found().for_each(|device| goes_on_to_the_bit(&device, &TOPK));
    }

    #[test]
    fn a_restored_sparse_step_continues_to_the_bit() {
        let d = 6;
        for device in DeviceChoice::found() {
            for arch in Architecture::ALL {
                let config = config(arch);
                let step = |engine: &mut GpuEngine, t: u64| {
                    let (x, ends) = (fixture::hidden(32, d, t), [12, 24]);
                    let ends = if arch == Architecture::Matryoshka { &ends[..] } else { &ends[1..] };
                    engine.step(&Batch { x: &x, y: &x, t, lr: 1e-3, sparsity: 0.1, ends, dead: &[2, 3] }).unwrap();
                };
                let mut whole = gpu::sparse(&config, Params::initial(d, &config), &device).unwrap();
                (1..=2).for_each(|t| step(&mut whole, t));
                let mut restored = gpu::sparse(&config, Params::zeros(d, &config), &device).unwrap();
                restored.restore(whole.state().unwrap().into_owned()).unwrap();
                for t in 3..=5 {
                    step(&mut whole, t);
                    step(&mut restored, t);
                }
                assert_eq!(whole.state().unwrap(), restored.state().unwrap(), "{arch:?}");
            }
        }
    }

    #[test]
    fn more_features_than_cubes_along_one_dimension_train_as_on_a_cpu() {
        // Not a multiple of anything, and more than 65,535.
        let (d, f) = (4, 65_579);
        for device in DeviceChoice::found() {
            let config = TrainConfig { features: f, batch: 8, decoder: Decoder::Unit, ..config(Architecture::TopK) };
            let params = Params::initial(d, &config);
            let mut on_gpu = gpu::sparse(&config, params.clone(), &device).unwrap();
            let mut on_cpu = CpuEngine::new(&config, params);
            for t in 1..=2 {
                let x = fixture::hidden(8, d, t);
                let batch = Batch { x: &x, y: &x, t, lr: 1e-3, sparsity: 0.0, ends: &[f], dead: &[] };
                let (found, expected) = (on_gpu.step(&batch).unwrap(), on_cpu.step(&batch).unwrap());
                assert!((found.mse - expected.mse).abs() < 1e-4 * expected.mse, "{} {}", found.mse, expected.mse);
                assert_eq!(found.fired, expected.fired);
            }
            let (found, expected) = (on_gpu.state().unwrap(), on_cpu.state().unwrap());
            for (found, expected) in found.params.arrays().into_iter().zip(expected.params.arrays()) {
                let apart = found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0f32, f32::max);
                assert!(apart < 1e-3, "{apart}");
            }
        }
    }

    #[test]
    fn the_host_waits_for_the_device_once_a_step() {
        use crate::train::gpu::WAITS;
        let d = 6;
        for device in DeviceChoice::found() {
            for arch in Architecture::ALL {
                let config = TrainConfig { lr: 1e-5, aux_relative: true, ..config(arch) };
                let mut engine = gpu::sparse(&config, Params::initial(d, &config), &device).unwrap();
                // The first step finds out how many candidates there are.
                let waits = [1, 2, 3].map(|t| {
                    let before = WAITS.get();
                    let x = fixture::hidden(32, d, 1);
                    engine
                        .step(&Batch { x: &x, y: &x, t, lr: 1e-5, sparsity: 0.1, ends: &[24], dead: &[2, 3] })
                        .unwrap();
                    WAITS.get() - before
                });
                assert_eq!(waits[1..], [1, 1], "{arch:?}");
            }
        }
    }

    #[test]
    fn a_batch_in_several_parts_equals_the_batch_in_one() {
        for device in DeviceChoice::found() {
            let gpu = Gpu::from_device(&device).unwrap();
            let (d, f, rows) = (32, 512, 300);
            for (arch, narrow) in
                Architecture::ALL.into_iter().flat_map(|arch| [(arch, gpu.narrow()), (arch, f32::elem_type_native())])
            {
                let config = TrainConfig { features: f, k: 8, batch: rows, ..TrainConfig::for_architecture(arch) };
                let x: Vec<f32> = fixture::hidden(rows, d, 5);
                let ends = selection::prefixes(&config, f, &mut crate::random::chacha(0, 0));
                let batch = Batch { x: &x, y: &x, t: 1, lr: 1e-3, sparsity: 0.0, ends: &ends, dead: &[] };
                let after = |budget: usize| {
                    let params = Params::initial(d, &config);
                    let mut engine = GpuEngine::new(&config, params, gpu.client(), narrow, budget);
                    engine.step(&batch).unwrap();
                    engine.state().unwrap().into_owned()
                };
                assert_eq!(after(1), after(1 << 30), "{arch:?}, product in {narrow:?}");
            }
        }
    }
}
