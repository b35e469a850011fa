//! The tables of docs/SCORES.md: how well `pmi` tells right captions from swapped ones, with one thing varied at a time.
//! Scores a run whose rows say `swapped`, fits other runs. Measures; owns no formula.
//!
//! ```text
//! cargo run --release --workspace --example ablation -- SCORED SAE_FOLDER [CALIBRATION]
//! ```

#![allow(clippy::print_stdout)] // a program that prints its tables

use filters::auc::{auc, interval};
use filters::keep::keep_auto_against;
use filters::mode::Mode;
use filters::pmi::{Folds, Options, Pooling, Scale};
use filters::pool::{Pool, PooledSamples};
use filters::rank::correlation;
use filters::scores::{random, score};
use filters::tops::TopTokens;
use filters::weights::Weights;
use sae_core::pass;
use sae_core::sample::Sample;
use sae_core::store::{Store, load_samples};
use sae_core::{Run, formats};
use std::path::Path;

type Failure = Box<dyn std::error::Error>;

/// A run after its pass.
struct Passed {
    samples: Vec<Sample>,
    pooled: PooledSamples,
    weights: Weights,
}

fn passed(run: &Path, saved: &formats::Saved) -> Result<Passed, Failure> {
    let run = Run::open(run)?;
    let store = Store::open(&run, &saved.origin.hook)?;
    let (samples, d_sae) = (load_samples(&run)?, saved.weights.d_sae);
    let threshold = filters::scaled_threshold(store.manifest().d_in);
    let mut pool = Pool::new(samples.len(), d_sae, threshold, &std::env::temp_dir())?;
    let mut tops = TopTokens::new(d_sae, threshold);
    let device = burn::tensor::Device::flex();
    pass::run(&store, &saved.weights, &device, &mut [&mut pool, &mut tops], &mut |_| ())?;
    Ok(Passed { samples, pooled: pool.finish()?, weights: Weights::of(&tops, &store)? })
}

/// AUC with its interval, as a cell.
fn cell(scores: &[Option<f64>], swapped: &[bool]) -> String {
    let of = |wrong: bool| -> Vec<f64> {
        scores.iter().zip(swapped).filter(|(_, s)| **s == wrong).filter_map(|(v, _)| *v).collect()
    };
    let (right, wrong) = (of(false), of(true));
    match (auc(&right, &wrong), interval(&right, &wrong, 1000, 0)) {
        (Some(value), Some((low, high))) => format!("{value:.3} [{low:.3}, {high:.3}]"),
        _ => "-".into(),
    }
}

fn main() -> Result<(), Failure> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [scored, sae, rest @ ..] = &args[..] else {
        return Err("say SCORED SAE_FOLDER [CALIBRATION]".into());
    };
    let saved = formats::load(Path::new(sae))?;
    let own = passed(Path::new(scored), &saved)?;
    let calibration = rest.first().map(|path| passed(Path::new(path), &saved)).transpose()?;
    let swapped: Vec<bool> = own.samples.iter().map(|s| s.meta["swapped"].as_bool().unwrap_or(false)).collect();
    let weights = calibration.as_ref().map_or(&own.weights, |c| &c.weights);
    let (table, _) = score(&own.samples, &own.pooled, weights, &Mode::ALL, None, 0)?;
    let lengths: Vec<f64> = table.rows.iter().map(|r| f64::from(r.n_text + r.n_image)).collect();
    let length = |scores: &[Option<f64>]| {
        let both = scores.iter().zip(&lengths).filter_map(|(s, l)| Some(((*s)?, *l)));
        let (scores, lengths): (Vec<f64>, Vec<f64>) = both.unzip();
        correlation(&scores, &lengths).map_or("-".into(), |r| format!("{r:.3}"))
    };
    println!("| score | AUC [95 %] | rank correlation with the token count |\n|---|---|---|");
    for name in table.names() {
        println!("| `{name}` | {} | {} |", cell(&table.columns[name], &swapped), length(&table.columns[name]));
    }
    let plain = Options::default();
    let own_fit = |options: &Options| Folds::fit(&own.samples, &own.pooled, true, options);
    let scores = own_fit(&plain)?.score(&own.samples, &own.pooled)?;
    println!(
        "| `pmi`, fitted to the scored pairs in {} folds | {} | {} |",
        plain.folds,
        cell(&scores, &swapped),
        length(&scores)
    );
    let other = match &calibration {
        Some(c) => Some(Folds::fit(&c.samples, &c.pooled, false, &plain)?.score(&own.samples, &own.pooled)?),
        None => None,
    };
    if let Some(scores) = &other {
        println!("| `pmi`, fitted to the calibration run | {} | {} |", cell(scores, &swapped), length(scores));
    }
    println!("\n| varied | fitted to the scored pairs | fitted to the calibration run |\n|---|---|---|");
    let variants = [
        ("mean in place of max", Options { pooling: Pooling::Mean, ..plain }),
        ("raw activations", Options { scale: Scale::Raw, ..plain }),
        ("binary activations", Options { scale: Scale::Binary, ..plain }),
        ("100 features a side", Options { features: 100, ..plain }),
        ("300 features a side", Options { features: 300, ..plain }),
        ("all features", Options { features: usize::MAX, ..plain }),
        ("16 components", Options { components: 16, ..plain }),
        ("32 components", Options { components: 32, ..plain }),
        ("256 components", Options { components: 256, ..plain }),
        ("ridge 0.1", Options { ridge: 0.1, ..plain }),
        ("ridge 1", Options { ridge: 1.0, ..plain }),
        ("ridge 3", Options { ridge: 3.0, ..plain }),
        ("10 folds", Options { folds: 10, ..plain }),
    ];
    for (name, options) in variants {
        let mine = cell(&own_fit(&options)?.score(&own.samples, &own.pooled)?, &swapped);
        let other = match &calibration {
            Some(c) => {
                cell(&Folds::fit(&c.samples, &c.pooled, false, &options)?.score(&own.samples, &own.pooled)?, &swapped)
            }
            None => "-".into(),
        };
        println!("| {name} | {mine} | {other} |");
    }
    if let Some(c) = &calibration {
        println!("\n| calibration | AUC [95 %] |\n|---|---|");
        for wanted in [300, 1000, 3000, 10_000] {
            if let Some(pooled) = chosen(c, wanted, 0.0)? {
                let folds = Folds::fit(&c.samples, &pooled, false, &plain)?;
                println!("| {wanted} pairs | {} |", cell(&folds.score(&own.samples, &own.pooled)?, &swapped));
            }
        }
        for noise in [0.25, 0.5, 0.75] {
            if let Some(pooled) = chosen(c, c.samples.len(), noise)? {
                let folds = Folds::fit(&c.samples, &pooled, false, &plain)?;
                let scores = folds.score(&own.samples, &own.pooled)?;
                println!("| all, {:.0} % of them swapped | {} |", 100.0 * noise, cell(&scores, &swapped));
            }
        }
    }
    println!("\n| constructed share | estimated | kept | right among the kept |\n|---|---|---|---|");
    let folds = match &calibration {
        Some(c) => Folds::fit(&c.samples, &c.pooled, false, &plain)?,
        None => own_fit(&plain)?,
    };
    let scores = folds.score(&own.samples, &own.pooled)?;
    let null = folds.mismatched(&own.samples, &own.pooled)?;
    for share in [0.0, 0.1, 0.25, 0.5] {
        // All right pairs of which some are left out, or some swapped ones, until the share is met.
        let (right, wrong) =
            (swapped.iter().filter(|s| !**s).count() as f64, swapped.iter().filter(|s| **s).count() as f64);
        let wanted = (right * share / (1.0 - share)).min(wrong);
        let stay = [(wanted / share.max(1e-9) - wanted) / right, wanted / wrong];
        let stay = if share == 0.0 { [1.0, 0.0] } else { stay };
        let kept: Vec<usize> =
            (0..scores.len()).filter(|n| random(&own.samples[*n].id, 77) < stay[usize::from(swapped[*n])]).collect();
        let of: Vec<Option<f64>> = kept.iter().map(|n| scores[*n]).collect();
        let true_share = kept.iter().filter(|n| swapped[**n]).count() as f64 / kept.len() as f64;
        let Some(auto) = keep_auto_against(&of, &null) else { continue };
        let above: Vec<bool> =
            kept.iter().filter(|n| scores[**n] >= Some(auto.threshold)).map(|n| swapped[*n]).collect();
        let pure = above.iter().filter(|s| !**s).count() as f64 / above.len().max(1) as f64;
        println!(
            "| {:.1} % | {:.1} % | {:.1} % | {:.1} % |",
            100.0 * true_share,
            100.0 * auto.mismatched,
            100.0 * auto.share_kept,
            100.0 * pure
        );
    }
    Ok(())
}

/// The first pairs of a calibration set, of which a share gets the text of the pair before.
fn chosen(of: &Passed, wanted: usize, noise: f64) -> Result<Option<PooledSamples>, Failure> {
    if wanted > of.samples.len() {
        return Ok(None);
    }
    Ok(Some(of.pooled.select(&std::env::temp_dir(), |n, sample, before| {
        if n >= wanted {
            return None;
        }
        let mut sample = sample.clone();
        if random(&of.samples[n].id, 5) < noise && n > 0 {
            sample.take_text(before);
        }
        Some(sample)
    })?))
}
