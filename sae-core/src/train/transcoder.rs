//! Tests of transcoders: their gradients, what is saved of them, and that the target of a store is read beside its rows.

use super::autodiff::AutodiffEngine;
use super::cpu::CpuEngine;
use super::engine::{Batch, Engine};
use super::*;
use crate::analysis::eval::Evaluator;
use crate::analysis::pass;
use crate::autoencoder::{Architecture, Encoder};
use crate::fixture;
use crate::store::run::Run;
use crate::store::stream::Source;
use crate::store::{PositionFilter, PositionRule, StoreWriter};
use crate::vector;
use serde_json::Value;
use tempfile::TempDir;

/// Widths of input and target.
const D_IN: usize = 6;
const D_OUT: usize = 4;

fn config(arch: Architecture, skip: bool, steps: u64) -> TrainConfig {
    let recipe = TrainConfig::for_architecture(arch).transcoder();
    let small = TrainConfig { d_out: D_OUT, skip, features: 24, k: 3, batch: 32, lr: 3e-3, buffer: 200, ..recipe };
    TrainConfig { l1_coefficient: 0.2, l0_coefficient: 0.05, bandwidth: 0.3, threshold: 0.05, ..small }
        .with_steps(steps)
}

/// Two layers of the fixture's samples in one run, the second of them as the target of the first.
fn stored(d: usize) -> (TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let run = Run::create(dir.path()).unwrap();
    let mut writer = StoreWriter::open(&run, fixture::spec(&[2, 4], d)).unwrap();
    for range in [0..7, 7..fixture::SAMPLES] {
        let mut part = fixture::part(range, d, 2);
        part.activations[1].iter_mut().for_each(|v| *v = 20.0 * *v + 1.0);
        writer.write_part(&part).unwrap();
    }
    writer.finish().unwrap();
    let [input, target] = ["layers.2", "layers.4"].map(|hook| Store::open(&run, hook).unwrap());
    (dir, input.with_target(target).unwrap())
}

/// Rows whose target is a function of the input, one after the other.
struct Computed<F> {
    row: u64,
    target: F,
}

impl<F: Fn(&[f32]) -> Vec<f32>> Source for Computed<F> {
    fn d_in(&self) -> usize {
        D_IN + D_OUT
    }

    fn rows(&self) -> Option<u64> {
        None
    }

    fn counts(&self) -> (u64, u64) {
        (self.row, 0)
    }

    fn next(&mut self, out: &mut Vec<f32>) -> Result<()> {
        let x = fixture::hidden(1, D_IN, self.row);
        self.row += 1;
        out.extend((self.target)(&x));
        let at = out.len() - D_OUT;
        out.splice(at..at, x);
        Ok(())
    }

    fn position(&self) -> Value {
        self.row.into()
    }

    fn seek(&mut self, position: &Value) -> Result<()> {
        self.row = position.as_u64().ok_or_else(|| Error::config("no row"))?;
        Ok(())
    }
}

/// 30 times a matrix times the input, and a constant.
fn linear(x: &[f32]) -> Vec<f32> {
    let row = |o: usize| x.iter().enumerate().map(|(n, v)| ((3 * o + 5 * n) as f32).sin() * v).sum::<f32>();
    (0..D_OUT).map(|o| 30.0 * row(o) + 7.0).collect()
}

fn train_on(target: fn(&[f32]) -> Vec<f32>, config: &TrainConfig) -> (Weights, StepLog) {
    let stream = Stream::new(Computed { row: 0, target }, config.buffer, config.seed).unwrap();
    let mut session = Session::new(stream, std::slice::from_ref(config), &Device::flex()).unwrap();
    let mut last = StepLog::default();
    while !session.is_done() {
        last = session.step().unwrap()[0];
    }
    (session.trainers()[0].weights().unwrap(), last)
}

/// The share of the target's variance that a transcoder leaves unexplained on other rows, computed densely.
fn unexplained(weights: &Weights, target: fn(&[f32]) -> Vec<f32>) -> f64 {
    let x: Vec<f32> = (0..300).flat_map(|row| fixture::hidden(1, D_IN, 1_000_000 + row)).collect();
    let y: Vec<f32> = x.chunks_exact(D_IN).flat_map(target).collect();
    let hat = Encoder::new(weights, &Device::flex()).reconstruct(&x).unwrap();
    let error: f64 = y.iter().zip(&hat).map(|(y, hat)| f64::from(y - hat).powi(2)).sum();
    error / engine::total_variance(&y, D_OUT)
}

#[test]
fn a_step_is_burn_s_autodiff_for_every_architecture_with_and_without_skip() {
    for arch in Architecture::ALL {
        for (skip, unit) in [(false, false), (true, false), (true, true)] {
            let config = TrainConfig {
                decoder: if unit { Decoder::Unit } else { Decoder::Free },
                aux_relative: unit,
                ..config(arch, skip, 20)
            };
            let mut params = Params::initial(D_IN, &config);
            params.w_skip.iter_mut().enumerate().for_each(|(n, v)| *v = 0.3 * (n as f32 * 0.7).sin());
            let mut engine = CpuEngine::new(&config, params.clone());
            let mut in_burn = AutodiffEngine::new(&config, params, &Device::flex().autodiff());
            let ends = selection::prefixes(&config, 24, &mut crate::random::chacha(0, 0));
            let dead = [2, 3, 11, 17];
            for step in 0..12 {
                let x = fixture::hidden(32, D_IN, step + 1);
                let y: Vec<f32> = fixture::hidden(32, D_OUT, step + 50).iter().map(|v| v * 1.5).collect();
                let (t, sparsity) = (step + 1, config.sparsity_at(9));
                let batch = Batch { x: &x, y: &y, t, lr: config.lr, sparsity, ends: &ends, dead: &dead };
                let (found, expected) = (engine.step(&batch).unwrap(), in_burn.step(&batch).unwrap());
                let what = format!("{arch:?}, skip {skip}, unit {unit}, step {step}");
                let (a, b) = (found.loss(sparsity), expected.loss(sparsity));
                assert!((a - b).abs() < 1e-4 * b, "{what}: {a} and {b}");
                let (a, b) = (found.grad_norm, expected.grad_norm);
                assert!(unit || (a - b).abs() < 1e-4 * b, "{what}: gradients of norm {a} and {b}");
                assert_eq!(found.fired, expected.fired, "{what}");
                assert!((found.l0 - expected.l0).abs() < 1e-5, "{what}");
            }
            let (found, expected) = (engine.state().unwrap(), in_burn.state().unwrap());
            for (found, expected) in found.params.arrays().into_iter().zip(expected.params.arrays()) {
                assert_eq!(found.len(), expected.len());
                let most = expected.iter().fold(0.2f32, |most, v| most.max(v.abs()));
                let difference = found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0f32, f32::max);
                assert!(difference < 5e-4 * most, "{arch:?}, skip {skip}: they differ by {difference}");
            }
        }
    }
}

#[test]
fn training_lowers_the_error_and_what_is_saved_means_what_was_trained() {
    let bent = |x: &[f32]| linear(x).into_iter().map(|v| v.max(0.0)).collect::<Vec<_>>();
    for (arch, normalize) in [
        (Architecture::BatchTopK, TrainingScale::ExpectedNorm),
        (Architecture::TopK, TrainingScale::MeanSquare),
        (Architecture::JumpRelu, TrainingScale::ExpectedNorm),
        (Architecture::Relu, TrainingScale::ExpectedNorm),
        (Architecture::Gated, TrainingScale::MeanSquare),
    ] {
        for skip in [false, true] {
            let config = TrainConfig {
                k: 6,
                lr: 1e-2,
                normalize,
                dead_window_steps: 40,
                resample_every_steps: if arch == Architecture::Relu { 100 } else { 0 },
                l0_coefficient: 1e-3,
                l1_coefficient: 1e-3,
                ..config(arch, skip, 400)
            };
            let (weights, last) = train_on(bent, &config);
            assert_eq!((weights.d_in, weights.d_out(), weights.skip.is_some()), (D_IN, D_OUT, skip));
            let found = unexplained(&weights, bent);
            assert!(found < 0.2, "{arch:?}, skip {skip}: FVU {found}");
            assert!((found / last.fvu - 1.0).abs() < 0.6, "{arch:?}, skip {skip}: {found} and {}", last.fvu);
        }
    }
}

#[test]
fn a_skip_connection_takes_the_linear_part_of_the_map() {
    let fvu = |skip: bool| {
        let config = TrainConfig { k: 1, lr: 1e-2, ..config(Architecture::TopK, skip, 400) };
        unexplained(&train_on(linear, &config).0, linear)
    };
    let (without, with) = (fvu(false), fvu(true));
    assert!(with < 0.02 && without > 5.0 * with, "FVU {without} without a skip connection, {with} with one");
}

fn from_base<'a>(stream: Stream<'a>, config: &TrainConfig, base: &Weights) -> Result<Session<'a>> {
    let ranks = Arc::new(SingleProcess);
    Session::with_ranks(stream, std::slice::from_ref(config), Some(base), &Device::flex(), ranks)
}

#[test]
fn a_transcoder_goes_on_from_a_saved_one_where_it_was() {
    let first = TrainConfig { lr: 1e-2, ..config(Architecture::BatchTopK, true, 200) };
    let (base, _) = train_on(linear, &first);
    let stream = Stream::new(Computed { row: 0, target: linear }, first.buffer, first.seed).unwrap();
    let session = from_base(stream, &first, &base).unwrap();
    let again = session.trainers()[0].weights().unwrap();
    assert!((unexplained(&again, linear) - unexplained(&base, linear)).abs() < 1e-5);
    let other = TrainConfig { skip: false, ..first };
    let stream = Stream::new(Computed { row: 0, target: linear }, other.buffer, other.seed).unwrap();
    let error = from_base(stream, &other, &base).err().unwrap().to_string();
    assert!(error.contains("because of its skip connection"), "{error}");
}

#[test]
fn equal_seeds_give_equal_bytes_on_any_number_of_threads_and_after_an_interruption() {
    let (_dir, store) = stored(D_IN);
    let config = TrainConfig { d_out: D_IN, dead_window_steps: 4, ..config(Architecture::Matryoshka, true, 20) };
    let on = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| train(&store, &config, &Device::flex(), &mut |_| ()).unwrap())
    };
    let whole = on(1);
    assert_eq!(whole, on(3));
    let session = || {
        let rows = StoreRows::new(&store, config.exclude, config.seed).unwrap();
        let stream = Stream::new(rows, config.buffer, config.seed).unwrap();
        Session::new(stream, std::slice::from_ref(&config), &Device::flex()).unwrap()
    };
    let folder = tempfile::tempdir().unwrap();
    let mut interrupted = session();
    (0..9).for_each(|_| drop(interrupted.step().unwrap()));
    let path = checkpoint::write(folder.path(), &interrupted).unwrap();
    let mut continued = session();
    checkpoint::read(&path, &mut continued).unwrap();
    while !continued.is_done() {
        continued.step().unwrap();
    }
    assert_eq!(continued.trainers()[0].weights().unwrap(), whole);
}

#[test]
fn an_evaluation_is_of_the_target_and_leaves_out_positions_where_either_norm_is_too_large() {
    let (_dir, store) = stored(D_IN);
    let config = TrainConfig { d_out: D_IN, ..config(Architecture::TopK, true, 60) };
    let weights = train(&store, &config, &Device::flex(), &mut |_| ()).unwrap();
    let filter = PositionFilter::new(&store, PositionRule { norm: 1.3, ..PositionRule::default() }).unwrap();
    let mut evaluator = Evaluator::without(&weights, filter.clone());
    pass::run(&store, &weights, &Device::flex(), &mut [&mut evaluator], &mut |_| ()).unwrap();
    let found = evaluator.report().all;

    // The same from whole arrays.
    let (mut x, mut y) = (Vec::new(), Vec::new());
    for number in 0..store.shards() {
        let shard = store.shard(number).unwrap();
        shard.read(0..shard.rows(), &mut x);
        store.target().unwrap().shard(number).unwrap().read(0..shard.rows(), &mut y);
    }
    let limit = |rows: &[f32]| {
        let mut norms: Vec<f32> = rows.chunks_exact(D_IN).map(|row| vector::norm_sq(row).sqrt()).collect();
        norms.sort_by(f32::total_cmp);
        1.3 * norms[(norms.len() - 1) / 2]
    };
    let (of_x, of_y) = (limit(&x), limit(&y));
    let small = |row: &[f32], limit: f32| vector::norm_sq(row).sqrt() <= limit;
    let hat = Encoder::new(&weights, &Device::flex()).reconstruct(&x).unwrap();
    let (mut kept, mut error, mut by_x) = (Vec::new(), 0f64, 0);
    for ((x, y), hat) in x.chunks_exact(D_IN).zip(y.chunks_exact(D_IN)).zip(hat.chunks_exact(D_IN)) {
        by_x += usize::from(small(x, of_x));
        if small(x, of_x) && small(y, of_y) {
            kept.extend_from_slice(y);
            error += y.iter().zip(hat).map(|(y, hat)| f64::from(y - hat).powi(2)).sum::<f64>();
        }
    }
    let rows = kept.len() / D_IN;
    assert!(rows < by_x && by_x < x.len() / D_IN, "both norms leave positions out");
    assert_eq!(found.tokens as usize, rows);
    let expected = error / engine::total_variance(&kept, D_IN);
    assert!((found.fvu / expected - 1.0).abs() < 1e-4, "FVU {} and {expected}", found.fvu);
    assert_eq!(filter.reasons_with_target(false, 1, &[0.0; D_IN], &[2.0 * of_y; D_IN]), [false, false, true]);
}

#[test]
fn stores_and_configurations_that_make_no_transcoder_are_rejected() {
    let (_a, store) = stored(D_IN);
    let (_b, other) = stored(D_IN);
    let open = |store: &Store, hook: &str| Store::open(store.run(), hook).unwrap();
    let error = open(&store, "layers.2").with_target(open(&other, "layers.4")).err().unwrap().message();
    assert!(error.contains("layers.2 and its target layers.4 are of different runs"), "{error}");
    assert!(open(&store, "layers.2").with_target(store).is_err(), "a target has no target");

    let wrong = |config: TrainConfig| config.check(D_IN).unwrap_err().to_string();
    let base = || config(Architecture::BatchTopK, true, 20);
    base().check(D_IN).unwrap();
    assert!(wrong(TrainConfig { d_out: 0, ..base() }).contains("skip with d_out = 0"));
    assert!(wrong(TrainConfig { models: 2, ..base() }).contains("d_out = 4 with models = 2"));
    assert!(wrong(TrainConfig { subtract_b_dec: true, ..base() }).contains("subtract_b_dec with d_out"));
    assert!(wrong(TrainConfig { normalize: TrainingScale::LayerNorm, ..base() }).contains("normalize = layer-norm"));
    let elsewhere = check_off_cpu(&base(), 1).unwrap_err().to_string();
    assert!(elsewhere.contains("a transcoder can only be trained on a CPU"), "{elsewhere}");
    check_off_cpu(&TrainConfig { d_out: 0, skip: false, ..base() }, 1).unwrap();
}
