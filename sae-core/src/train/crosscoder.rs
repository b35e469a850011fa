//! Tests of crosscoders: what differs from BatchTopK on one model, and that everything else does not.

use super::autodiff::AutodiffEngine;
use super::cpu::CpuEngine;
use super::engine::{Batch, Engine};
use super::*;
use crate::analysis::eval::Evaluator;
use crate::analysis::pass;
use crate::fixture;
use crate::store::run::Run;
use crate::store::{PositionFilter, StoreWriter};
use crate::vector;
use tempfile::TempDir;

/// Width of a model's states.
const WIDTH: usize = 6;

/// The fixture's samples as two models see them: the second has other states of 50 times the size.
fn joined() -> (Vec<TempDir>, Store) {
    let model = |factor: f32, shift: f32| {
        let dir = tempfile::tempdir().unwrap();
        let run = Run::create(dir.path()).unwrap();
        let mut writer = StoreWriter::open(&run, fixture::spec(&[2], WIDTH)).unwrap();
        for range in [0..7, 7..fixture::SAMPLES] {
            let mut part = fixture::part(range, WIDTH, 1);
            for row in part.activations[0].chunks_exact_mut(WIDTH) {
                row.rotate_left(1);
                row.iter_mut().for_each(|v| *v = factor * (*v + shift));
            }
            writer.write_part(&part).unwrap();
        }
        writer.finish().unwrap();
        let store = Store::open(&run, "layers.2").unwrap();
        (dir, store)
    };
    let (dirs, stores): (Vec<_>, Vec<_>) = [model(1.0, 0.0), model(50.0, 0.3)].into_iter().unzip();
    (dirs, Store::join(stores).unwrap())
}

fn config(steps: u64) -> TrainConfig {
    let config = TrainConfig { features: 24, k: 3, batch: 32, lr: 3e-3, buffer: 200, ..TrainConfig::crosscoder(2) };
    config.with_steps(steps)
}

fn session<'a>(store: &'a Store, config: &TrainConfig) -> Session<'a> {
    let rows = StoreRows::new(store, config.exclude, config.seed).unwrap();
    let stream = Stream::new(rows, config.buffer, config.seed).unwrap();
    Session::new(stream, std::slice::from_ref(config), &Device::flex()).unwrap()
}

#[test]
fn a_step_is_burn_s_autodiff_with_summed_norms() {
    let (config, d) = (TrainConfig { k_decay_steps: 6, ..config(20) }, 2 * WIDTH);
    let mut params = Params::initial(d, &config);
    // Blocks of other norms, so that the joint norm would choose other features.
    params.w_dec.chunks_exact_mut(WIDTH).enumerate().for_each(|(n, block)| vector::scale(1.0 + (n % 5) as f32, block));
    let mut engine = CpuEngine::new(&config, params.clone());
    let mut in_burn = AutodiffEngine::new(&config, params, &Device::flex().autodiff());
    for step in 0..12 {
        let x = fixture::hidden(32, d, step + 1);
        let (ends, dead) = ([24], [2, 3, 11]);
        let batch = Batch { x: &x, y: &x, t: step + 1, lr: config.lr, sparsity: 0.0, ends: &ends, dead: &dead };
        let (found, expected) = (engine.step(&batch).unwrap(), in_burn.step(&batch).unwrap());
        let (a, b) = (found.loss(0.0), expected.loss(0.0));
        assert!((a - b).abs() < 1e-4 * b, "step {step}: {a} and {b}");
        assert_eq!(found.fired, expected.fired, "step {step}");
        assert!((found.l0 - expected.l0).abs() < 1e-5, "step {step}");
    }
    let (found, expected) = (engine.state().unwrap(), in_burn.state().unwrap());
    for (found, expected) in found.params.arrays().into_iter().zip(expected.params.arrays()) {
        let most = expected.iter().fold(0.2f32, |most, v| most.max(v.abs()));
        let difference = found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0f32, f32::max);
        assert!(difference < 5e-4 * most, "they differ by {difference}");
    }
}

#[test]
fn a_checkpoint_of_other_runs_is_rejected_and_the_run_is_named() {
    let (_dirs, store) = joined();
    let config = config(4);
    let folder = tempfile::tempdir().unwrap();
    let mut own = session(&store, &config);
    own.step().unwrap();
    let path = checkpoint::write(folder.path(), &own).unwrap();
    checkpoint::read(&path, &mut session(&store, &config)).unwrap();
    // The same number of runs, of which the second is the first once more.
    let open = || Store::open(store.run(), "layers.2").unwrap();
    let twice = Store::join(vec![open(), open()]).unwrap();
    let error = checkpoint::read(&path, &mut session(&twice, &config)).unwrap_err();
    let expected = format!("other activations than those of {}", store.run().root().display());
    assert!(error.to_string().contains(&expected) && error.hint().is_some(), "{error}");
    let hashes = store.content_hashes();
    assert!(hashes[0] != hashes[1] && twice.content_hashes() == [&hashes[0][..], &hashes[0]]);
}

#[test]
fn k_falls_from_four_times_its_value_over_the_first_thirty_percent_of_steps() {
    let config = TrainConfig { k: 8, ..TrainConfig::crosscoder(2) }.with_steps(100);
    let k: Vec<usize> = [0, 10, 20, 29, 30, 99].iter().map(|step| config.k_at(*step, 4096)).collect();
    assert_eq!(k, [32, 24, 16, 9, 8, 8]);
    assert_eq!(config.k_at(0, 20), 20, "never more than there are");
    let single = TrainConfig { k: 8, ..TrainConfig::for_architecture(crate::autoencoder::Architecture::TopK) };
    assert_eq!(single.k_at(0, 4096), 8);
}

#[test]
fn the_blocks_of_a_row_start_equal_and_each_model_is_scaled_to_mean_square_one() {
    let (_dirs, store) = joined();
    let config = config(20);
    let params = Params::initial(2 * WIDTH, &config);
    for row in params.w_dec.chunks_exact(2 * WIDTH) {
        assert_eq!(row[..WIDTH], row[WIDTH..]);
        assert!((vector::norm_sq(&row[WIDTH..]).sqrt() - 0.1).abs() < 1e-6);
    }
    let session = session(&store, &config);
    let scales = statistics::Statistics::new(session.stream.buffer(), 2 * WIDTH, &config).scales(&config).unwrap();
    for (model, scale) in scales.iter().enumerate() {
        let blocks = session.stream.buffer().chunks_exact(WIDTH).skip(model).step_by(2);
        let squares: Vec<f32> = blocks.map(|block| vector::norm_sq(block) * scale * scale / WIDTH as f32).collect();
        let mean = squares.iter().sum::<f32>() / squares.len() as f32;
        assert!((mean - 1.0).abs() < 1e-4, "model {model}: {mean}");
    }
}

#[test]
fn first_positions_and_rows_above_twice_the_median_norm_of_any_model_are_left_out() {
    let (_dirs, store) = joined();
    let rule = config(20).exclude;
    let filter = PositionFilter::new(&store, rule).unwrap();
    let norms = crate::store::Norms::from_store(&store).unwrap();
    assert_eq!(norms.len(), 2);
    assert!(norms[1].median() > 30.0 * norms[0].median(), "each model has a limit of its own");
    let mut row = vec![0.0; 2 * WIDTH];
    assert_eq!(filter.reasons(false, 0, &row), [false, true, false]);
    row[0] = 2.1 * norms[0].median() as f32;
    assert_eq!(filter.reasons(false, 1, &row), [false, false, true]);
    row[0] = 0.0;
    row[WIDTH] = 1.9 * norms[1].median() as f32;
    assert_eq!(filter.reasons(false, 1, &row), [false; 3]);
    row[WIDTH] = 2.1 * norms[1].median() as f32;
    assert_eq!(filter.reasons(false, 1, &row), [false, false, true]);
}

#[test]
fn training_lowers_the_error_and_what_is_saved_means_what_was_trained() {
    let (_dirs, store) = joined();
    let config = TrainConfig { lr: 1e-2, ..config(300) };
    let mut log = Vec::new();
    let weights = train(&store, &config, &Device::flex(), &mut |entry| log.push(*entry)).unwrap();
    let (first, last) = (log[0], log[log.len() - 1]);
    assert!(last.fvu < 0.5 * first.fvu, "FVU {} -> {}", first.fvu, last.fvu);
    // Training weighs both models alike; in the units of the store the second, which is 50 times as large, decides. So each block
    // is evaluated in the units of the training by what it lacks.
    let filter = PositionFilter::new(&store, config.exclude).unwrap();
    let mut evaluator = Evaluator::without(&weights, filter);
    pass::run(&store, &weights, &Device::flex(), &mut [&mut evaluator], &mut |_| ()).unwrap();
    let all = evaluator.report().all;
    assert!((all.fvu / last.fvu - 1.0).abs() < 0.5, "FVU {} in the store, {} in training", all.fvu, last.fvu);
    assert!((all.l0 / last.l0 - 1.0).abs() < 0.3, "L0 {} in the store, {} in training", all.l0, last.l0);
    // The norms of the blocks have moved into the encoder: they sum up to one in the units of the training.
    let scale = |model: usize| {
        let buffer = session(&store, &config);
        statistics::Statistics::new(buffer.stream.buffer(), 2 * WIDTH, &config).scales(&config).unwrap()[model]
    };
    let scales = [scale(0), scale(1)];
    for k in 0..weights.d_sae {
        let blocks = weights.direction(k).chunks_exact(WIDTH).zip(scales);
        let sum: f32 = blocks.map(|(block, scale)| scale * vector::norm_sq(block).sqrt()).sum();
        assert!((sum - 1.0).abs() < 1e-4, "feature {k}: {sum}");
    }
}

#[test]
fn equal_seeds_give_equal_bytes_on_any_number_of_threads_and_after_an_interruption() {
    let (_dirs, store) = joined();
    let config = TrainConfig { dead_window_steps: 4, ..config(20) };
    let on = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| train(&store, &config, &Device::flex(), &mut |_| ()).unwrap())
    };
    let whole = on(1);
    assert_eq!(whole, on(3));
    let dir = tempfile::tempdir().unwrap();
    let mut interrupted = session(&store, &config);
    (0..9).for_each(|_| drop(interrupted.step().unwrap()));
    let path = checkpoint::write(dir.path(), &interrupted).unwrap();
    let mut continued = session(&store, &config);
    checkpoint::read(&path, &mut continued).unwrap();
    while !continued.is_done() {
        continued.step().unwrap();
    }
    assert_eq!(continued.trainers()[0].weights().unwrap(), whole);
}

#[test]
fn configurations_that_make_no_crosscoder_are_rejected() {
    let wrong = |config: TrainConfig| config.check(12).unwrap_err().to_string();
    let base = || config(20);
    assert!(wrong(TrainConfig { models: 10, ..base() }).contains("models = 10"));
    assert!(wrong(TrainConfig { models: 5, ..base() }).contains("d_in = 12 for 5 models"));
    assert!(wrong(TrainConfig { models: 0, ..base() }).contains("models = 0"));
    assert!(wrong(TrainConfig { models: 1, ..base() }).contains("k_start = 4 with models = 1"));
    assert!(wrong(TrainConfig { decoder: Decoder::Unit, ..base() }).contains("decoder = unit"));
    assert!(wrong(TrainConfig { k_start: f64::NAN, ..base() }).contains("k_start = NaN"));
    let arch = crate::autoencoder::Architecture::Relu;
    assert!(wrong(TrainConfig { arch, ..base() }).contains("models = 2 with arch = relu"));
}

/// A toy with planted features: 24 that both models have, and eight rare ones that only the second has.
mod planted {
    use super::*;
    use crate::analysis::latent_scaling::{BUCKETS, LatentScaling, Ownership, ScaledFeature};
    use crate::random;
    use crate::store::Part;
    use crate::store::sample::{Modality, Role, Token};
    use rand::RngExt;

    const D: usize = 48;
    const COMMON: usize = 24;
    const RARE: usize = 8;
    const SAMPLES: usize = 200;
    const POSITIONS: usize = 60;

    /// The directions of the features, the rare ones last, `[COMMON + RARE, D]`.
    fn directions() -> Vec<f32> {
        let mut rng = random::chacha(5, 0);
        let mut rows: Vec<f32> = (0..(COMMON + RARE) * D).map(|_| rng.random_range(-1.0..1.0)).collect();
        rows.chunks_exact_mut(D).for_each(|row| vector::scale(1.0 / vector::norm_sq(row).sqrt(), row));
        rows
    }

    /// The states of both models on the same samples.
    fn states() -> [Vec<f32>; 2] {
        let (mut rng, directions) = (random::chacha(6, 0), directions());
        let mut states = [Vec::new(), Vec::new()];
        for _ in 0..SAMPLES * POSITIONS {
            let mut rows = [[0f32; D]; 2];
            for (feature, direction) in directions.chunks_exact(D).enumerate() {
                let often = if feature < COMMON { 0.078 } else { 0.008 };
                if rng.random_range(0.0..1.0) < often {
                    let strength = rng.random_range(1.0..2.0f32);
                    let in_models = if feature < COMMON { 0..2 } else { 1..2 };
                    in_models.for_each(|model| vector::axpy(strength, direction, &mut rows[model]));
                }
            }
            for (state, row) in states.iter_mut().zip(&mut rows) {
                row.iter_mut().for_each(|v| *v += rng.random_range(-0.01..0.01));
                state.extend_from_slice(row);
            }
        }
        states
    }

    fn store(states: &[f32]) -> (TempDir, Store) {
        let dir = tempfile::tempdir().unwrap();
        let run = Run::create(dir.path()).unwrap();
        let mut writer = StoreWriter::open(&run, fixture::spec(&[2], D)).unwrap();
        let token = |position: usize| Token {
            position: position as u32,
            modality: Modality::Text,
            token_id: position as i32,
            piece: String::new(),
            role: Role::User,
            special: false,
            image: None,
            rect: None,
        };
        let samples = (0..SAMPLES).map(|n| (fixture::sample(n), (0..POSITIONS).map(token).collect()));
        let source_rows = SAMPLES as u64;
        let part =
            Part { samples: samples.collect(), activations: vec![states.to_vec()], source_rows, skipped: Vec::new() };
        writer.write_part(&part).unwrap();
        writer.finish().unwrap();
        let store = Store::open(&run, "layers.2").unwrap();
        (dir, store)
    }

    fn compared(a: &[f32], b: &[f32]) -> (Weights, Vec<ScaledFeature>) {
        let ((_a, first), (_b, second)) = (store(a), store(b));
        let store = Store::join(vec![first, second]).unwrap();
        let config =
            TrainConfig { features: 48, k: 2, batch: 256, lr: 4e-3, buffer: 8_192, ..TrainConfig::crosscoder(2) };
        let config = config.with_steps(800);
        let mut session = session(&store, &config);
        while !session.is_done() {
            session.step().unwrap();
        }
        let (weights, scales) = (session.trainers()[0].weights().unwrap(), session.trainers()[0].scales().to_vec());
        let filter = PositionFilter::new(&store, config.exclude).unwrap();
        let buckets: Vec<u8> = (0..SAMPLES).map(|n| (n % BUCKETS) as u8).collect();
        let mut scaling = LatentScaling::new(&weights, &scales, &[[0, 1]], filter, &buckets);
        pass::run(&store, &weights, &Device::flex(), &mut [&mut scaling], &mut |_| ()).unwrap();
        let features = scaling.features();
        (weights, features)
    }

    fn cosine(a: &[f32], b: &[f32]) -> f32 {
        vector::dot(a, b) / (vector::norm_sq(a) * vector::norm_sq(b)).sqrt().max(f32::MIN_POSITIVE)
    }

    #[test]
    fn common_and_rare_planted_features_are_found_and_told_apart_and_a_model_has_nothing_that_its_copy_lacks() {
        let [a, b] = states();
        let (weights, features) = compared(&a, &b);
        let directions = directions();
        let block = |k: u32, model: usize| &weights.direction(k as usize)[model * D..(model + 1) * D];
        let of_second: Vec<&ScaledFeature> = features.iter().filter(|row| row.model == 1).collect();
        // The feature of the crosscoder that points most in the direction of a planted one, in the second model.
        let best = |planted: &[f32]| {
            let score = |row: &&&ScaledFeature| cosine(block(row.feature, 1), planted);
            *of_second.iter().max_by(|x, y| score(x).total_cmp(&score(y))).unwrap()
        };
        let best: Vec<&ScaledFeature> = directions.chunks_exact(D).map(best).collect();
        let found =
            |n: usize, model: usize| cosine(block(best[n].feature, model), &directions[n * D..(n + 1) * D]) > 0.9;
        let common = (0..COMMON).filter(|n| found(*n, 0) && found(*n, 1)).count();
        assert_eq!(common, COMMON, "common features that were found in both models");
        let rare: Vec<usize> = (COMMON..COMMON + RARE).filter(|n| found(*n, 1)).collect();
        let own = rare.iter().filter(|n| best[**n].ownership() == Ownership::Own).count();
        assert!(rare.len() >= 6 && own >= 6, "of {RARE} rare features {} were found, {own} as own", rare.len());
        assert!(best[..COMMON].iter().all(|row| row.ownership() == Ownership::Shared));
        let (mut ordered, mut pairs) = (0, 0);
        for rare in &best[COMMON..] {
            for common in &best[..COMMON] {
                pairs += 1;
                ordered += usize::from(rare.nu_error.value < common.nu_error.value);
            }
        }
        assert!(ordered as f64 >= 0.9 * pairs as f64, "AUC {}", ordered as f64 / pairs as f64);
        let of_first = features.iter().filter(|row| row.model == 0 && row.ownership() == Ownership::Own).count();
        assert_eq!(of_first, 0, "the first model has no features of its own");

        // The null row: the model against its copy in bf16.
        let rounded: Vec<f32> = b.iter().map(|v| half::bf16::from_f32(*v).to_f32()).collect();
        let (_, features) = compared(&b, &rounded);
        assert_eq!(features.iter().filter(|row| row.ownership() == Ownership::Own).count(), 0);
    }
}
