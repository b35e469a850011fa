//! The trainer against an independent plain formulation of the published method, in `f64` and loops, and its laws.

use super::*;
use crate::fixture;

/// The method as written down: gradients by hand, Adam, clipping by the global norm, all in `f64`.
struct Plain {
    d: usize,
    f: usize,
    w: [Vec<f64>; 4],
    moments: [(Vec<f64>, Vec<f64>); 4],
}

impl Plain {
    fn new(d: usize, config: &TrainConfig) -> Self {
        let w = initial(d, config);
        let wide = |v: Vec<f32>| v.into_iter().map(f64::from).collect::<Vec<_>>();
        let w = [wide(w.w_enc), wide(w.b_enc), wide(w.w_dec), wide(w.b_dec)];
        let moments = w.each_ref().map(|v| (vec![0.0; v.len()], vec![0.0; v.len()]));
        Self { d, f: config.d_sae(d), w, moments }
    }

    fn step(&mut self, step: u64, x: &[f32], config: &TrainConfig) -> (f64, f64) {
        let (d, f, rows) = (self.d, self.f, x.len() / self.d);
        let (lr, l1, n) = (config.lr_at(step), config.sparsity_at(step), rows as f64);
        let [w_enc, b_enc, w_dec, b_dec] = &self.w;
        let mut g = self.w.each_ref().map(|v| vec![0.0; v.len()]);
        let norm: Vec<f64> = w_dec.chunks(d).map(|r| r.iter().map(|v| v * v).sum::<f64>().sqrt()).collect();
        let (mut loss, mut active) = (0.0, 0.0);
        for x in x.chunks(d) {
            let x: Vec<f64> = x.iter().map(|v| *v as f64).collect();
            let z: Vec<f64> =
                (0..f).map(|k| (b_enc[k] + (0..d).map(|i| x[i] * w_enc[k * d + i]).sum::<f64>()).max(0.0)).collect();
            let e: Vec<f64> =
                (0..d).map(|i| b_dec[i] - x[i] + (0..f).map(|k| z[k] * w_dec[k * d + i]).sum::<f64>()).collect();
            loss += e.iter().map(|e| e * e).sum::<f64>() / n;
            loss += l1 * (0..f).map(|k| z[k] * norm[k]).sum::<f64>() / n;
            (0..d).for_each(|i| g[3][i] += 2.0 * e[i] / n);
            for k in (0..f).filter(|k| z[*k] > 0.0) {
                active += 1.0 / n;
                let mut dz = l1 * norm[k] / n;
                for i in 0..d {
                    dz += 2.0 * e[i] * w_dec[k * d + i] / n;
                    g[2][k * d + i] += 2.0 * e[i] * z[k] / n + l1 * z[k] * w_dec[k * d + i] / norm[k] / n;
                }
                g[1][k] += dz;
                (0..d).for_each(|i| g[0][k * d + i] += dz * x[i]);
            }
        }
        let global = g.iter().flatten().map(|v| v * v).sum::<f64>().sqrt();
        let shrink = (config.clip / (global + 1e-6)).min(1.0);
        let (c1, c2) = (1.0 - 0.9f64.powi(step as i32 + 1), 1.0 - 0.999f64.powi(step as i32 + 1));
        for ((w, (m, v)), g) in self.w.iter_mut().zip(&mut self.moments).zip(g) {
            for j in 0..w.len() {
                let g = g[j] * shrink;
                m[j] = 0.9 * m[j] + 0.1 * g;
                v[j] = 0.999 * v[j] + 0.001 * g * g;
                w[j] -= lr * (m[j] / c1) / ((v[j] / c2).sqrt() + 1e-8);
            }
        }
        (loss, active)
    }
}

fn config() -> TrainConfig {
    TrainConfig { features: 24, batch: 32, lr: 3e-3, l1: 0.2, buffer: 200, ..TrainConfig::default() }.with_steps(20)
}

#[test]
fn twenty_steps_agree_with_the_plain_formulation() {
    let (d, device, config) = (6, Device::flex(), config());
    let mut trainer = Trainer::new(d, &config, &device);
    let mut plain = Plain::new(d, &config);
    for step in 0..20 {
        let batch: Vec<f32> = fixture::hidden(config.batch, d, step + 1).iter().map(|v| v * 1.5).collect();
        let entry = trainer.step(step, &batch).unwrap();
        let (loss, l0) = plain.step(step, &batch, &config);
        assert!((entry.loss - loss).abs() < 1e-4 * loss, "step {step}: loss {} and {loss}", entry.loss);
        assert!((entry.l0 - l0).abs() < 1e-6, "step {step}: L0 {} and {l0}", entry.l0);
    }
    for (name, (own, other)) in ["W_enc", "b_enc", "W_dec", "b_dec"].iter().zip(trainer.parameters.iter().zip(plain.w))
    {
        let own = values(own.value.clone()).unwrap();
        let moved = other.iter().map(|v| v.abs()).fold(0.0, f64::max);
        let apart = own.iter().zip(&other).map(|(a, b)| (*a as f64 - b).abs()).fold(0.0, f64::max);
        assert!(apart < 1e-4 * moved.max(0.1), "{name}: {apart} apart, values up to {moved}");
    }
}

#[test]
fn equal_seeds_give_equal_bytes_on_any_number_of_threads() {
    let (_dir, store) = fixture::store(6);
    let train = |threads: usize, seed: u64| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let config = TrainConfig { seed, ..config() };
        pool.install(|| train(&store, &config, &Device::flex(), &mut |_| ()).unwrap())
    };
    let first = train(1, 7);
    assert_eq!(first, train(2, 7));
    assert_eq!(first, train(5, 7));
    assert_ne!(first, train(1, 8));
}

#[test]
fn training_lowers_the_error_and_folding_keeps_the_units() {
    let (_dir, store) = fixture::store(6);
    let config = TrainConfig { l1: 0.01, lr: 1e-2, ..config() }.with_steps(300);
    let mut log = Vec::new();
    let weights = train(&store, &config, &Device::flex(), &mut |entry| log.push(*entry)).unwrap();
    let (first, last) = (log[0], log[log.len() - 1]);
    assert!(last.fvu < 0.3 * first.fvu, "FVU {} -> {}", first.fvu, last.fvu);
    // The evaluation works in the units of the store; the training worked in scaled ones. Only right folding agrees.
    let mut evaluator = crate::eval::Evaluator::new(&weights);
    crate::pass::run(&store, &weights, &Device::flex(), &mut [&mut evaluator], &mut |_| ()).unwrap();
    let all = evaluator.report().all;
    assert!((all.fvu / last.fvu - 1.0).abs() < 0.3, "FVU {} in the store, {} in training", all.fvu, last.fvu);
    assert_eq!(all.tokens, store.manifest().rows);
}

#[test]
fn a_loss_that_explodes_stops_with_a_hint() {
    let (_dir, store) = fixture::store(6);
    let config = TrainConfig { lr: 1e30, ..config() };
    let error = train(&store, &config, &Device::flex(), &mut |_| ()).unwrap_err().to_string();
    assert!(error.contains("hint: a lower --lr"), "{error}");
}

#[test]
fn the_stream_serves_every_row_about_equally_often() {
    let (_dir, store) = fixture::store(6);
    let rows = store.manifest().rows as usize;
    let mut stream = Stream::new(&store, rows / 4, rng(1, 1)).unwrap();
    let mut drawn = Vec::new();
    stream.next(rows * 20, &mut drawn).unwrap();
    let mut counts = std::collections::HashMap::new();
    for row in drawn.chunks(6) {
        *counts.entry(row.iter().map(|v| v.to_bits()).collect::<Vec<_>>()).or_insert(0) += 1;
    }
    assert_eq!(counts.len(), rows);
    assert!(counts.values().all(|n| (18..=21).contains(n)), "{:?}", counts.values().collect::<Vec<_>>());
}

#[test]
fn the_saved_numbers_give_the_same_reconstruction_in_a_plain_implementation() {
    use crate::formats::{Format, Origin, Saved, load, save};
    let (dir, store) = fixture::store(6);
    let weights = train(&store, &config(), &Device::flex(), &mut |_| ()).unwrap();
    let saved = Saved { architecture: config().arch, weights, origin: Origin::default() };
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
    let active = crate::sae::Encoder::new(&own, &Device::flex()).encode(&hidden).unwrap();
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
