//! One training by several processes: what they make after one of them was killed and another was asked to stop is what they make
//! without interruption, and within rounding what one process makes; processes that do not fit together say why.

use crate::tool::{data_set, fails, json, sae, said, tiny_model};
use sae_core::tensors::Tensors;
use sae_core::train::checkpoint;
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

fn harvested(dir: &Path) -> PathBuf {
    let (data, run) = (data_set(dir, 12), dir.join("run"));
    let [model, data, run_name] = [&tiny_model(), &data, &run].map(|path| path.to_str().unwrap().to_owned());
    json(&["harvest", "--model", &model, "--data", &data, "--run", &run_name, "--layers", "1", "--device", "cpu"]);
    run
}

fn address() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

fn train(run: &Path, name: &str, more: &[&str]) -> Command {
    let mut train = sae();
    // Somebody may run the tests under one of these launchers.
    for variable in ["RANK", "OMPI_COMM_WORLD_RANK", "SLURM_PROCID"] {
        train.env_remove(variable);
    }
    train.args(["train", "--run", run.to_str().unwrap(), "--hook", "layers.1", "--name", name, "--device", "cpu"]);
    train.args(["--arch", "batch-topk", "--k", "4", "--features", "100", "--batch", "64", "--buffer", "256"]);
    train.args(["--steps", "240", "--checkpoint-every", "20"]).args(more);
    train
}

/// The processes of a training, which have begun.
fn begin(run: &Path, name: &str, count: usize) -> Vec<Child> {
    let address = address();
    let rank = |rank: usize| {
        let rank = format!("{rank}/{count}");
        let mut train = train(run, name, &["--ranks", &rank, "--rendezvous", &address]);
        train.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    (1..=count).map(rank).collect()
}

fn end(ranks: Vec<Child>) -> Vec<Output> {
    ranks.into_iter().map(|rank| rank.wait_with_output().unwrap()).collect()
}

/// Trains to the end, and returns the bytes of the weights.
fn finished(run: &Path, name: &str, count: usize) -> Vec<u8> {
    for output in end(begin(run, name, count)) {
        assert!(output.status.success(), "{}", said(&output));
    }
    assert!(!run.join("saes").join(name).join("checkpoint").exists(), "checkpoints are removed at the end");
    fs::read(weights(run, name)).unwrap()
}

fn weights(run: &Path, name: &str) -> PathBuf {
    run.join("saes").join(name).join("sae_weights.safetensors")
}

/// The step of the newest checkpoint, 0 if there is none.
fn step(run: &Path, name: &str) -> u64 {
    let folder = run.join("saes").join(name).join("checkpoint");
    checkpoint::newest(&folder).and_then(|path| checkpoint::step_of(&path)).unwrap_or_default()
}

/// Waits for a checkpoint of these processes.
fn wait_for_checkpoint(run: &Path, name: &str, before: u64, ranks: &mut [Child]) {
    while step(run, name) <= before {
        assert!(ranks.iter_mut().all(|rank| rank.try_wait().unwrap().is_none()), "they ended before a checkpoint");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_killed_training_ends_with_the_bytes_of_an_uninterrupted_one() {
    let dir = tempfile::tempdir().unwrap();
    let run = harvested(dir.path());
    let expected = finished(&run, "whole", 3);

    let mut ranks = begin(&run, "cut", 3);
    wait_for_checkpoint(&run, "cut", 0, &mut ranks);
    ranks[2].kill().unwrap();
    let outputs = end(ranks);
    for (output, lost) in outputs.iter().zip(["lost process 3 of the training", "lost process 1 of the training"]) {
        assert_eq!(output.status.code(), Some(75), "{}", said(output));
        let text = said(output);
        assert!(text.contains(lost) && text.contains("start all processes again"), "{text}");
    }
    assert!(!weights(&run, "cut").exists());

    // The same commands continue. A request to stop that one process gets ends all of them, with a checkpoint.
    let before = step(&run, "cut");
    let mut ranks = begin(&run, "cut", 3);
    wait_for_checkpoint(&run, "cut", before, &mut ranks);
    let stopped = Command::new("kill").args(["-TERM", &ranks[1].id().to_string()]).status().unwrap();
    assert!(stopped.success());
    for output in end(ranks) {
        assert_eq!(output.status.code(), Some(85), "{}", said(&output));
    }
    assert!(finished(&run, "cut", 3) == expected, "the bytes of an uninterrupted training");

    // One process goes on where three have stopped, within rounding.
    let mut ranks = begin(&run, "fewer", 3);
    wait_for_checkpoint(&run, "fewer", 0, &mut ranks);
    ranks.into_iter().for_each(|mut rank| rank.kill().unwrap());
    let output = train(&run, "fewer", &["--resume"]).output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    let output = train(&run, "one", &[]).output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    let w_dec = |name: &str| Tensors::open(&weights(&run, name)).unwrap().f32("W_dec", &[100, 32]).unwrap();
    let one = w_dec("one");
    for name in ["whole", "cut", "fewer"] {
        let apart = one.iter().zip(w_dec(name)).map(|(a, b)| (a - b).powi(2)).sum::<f32>().sqrt();
        let norm = one.iter().map(|v| v * v).sum::<f32>().sqrt();
        assert!(apart < 1e-4 * norm, "{name}: {apart} of {norm}");
    }
}

#[test]
fn processes_that_do_not_fit_together_are_rejected() {
    let dir = tempfile::tempdir().unwrap();
    let run = harvested(dir.path());
    let address = address();
    let ranks = [("1/2", "0.5"), ("2/2", "0.25")].map(|(rank, lr)| {
        let mut train = train(&run, "base", &["--ranks", rank, "--rendezvous", &address, "--lr", lr]);
        train.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
    });
    let [mut first, second] = ranks;
    let second = second.wait_with_output().unwrap();
    assert_eq!(second.status.code(), Some(1), "{}", said(&second));
    assert!(said(&second).contains("process 2 was rejected: expected lr = 0.5, found lr = 0.25"), "{}", said(&second));
    // The first rank waits for the right one, until it is asked to stop.
    assert!(first.try_wait().unwrap().is_none());
    assert!(Command::new("kill").args(["-TERM", &first.id().to_string()]).status().unwrap().success());
    assert_eq!(first.wait().unwrap().code(), Some(85));

    let train = ["train", "--run", run.to_str().unwrap(), "--hook", "layers.1", "--name", "base", "--device", "cpu"];
    let fails = |status: i32, more: &[&str]| fails(status, &[&train[..], more].concat());
    assert!(fails(2, &["--ranks", "1/2"]).contains("--rendezvous <HOST:PORT>"));
    let auto = self::train(&run, "base", &["--ranks", "auto", "--rendezvous", &address]).output().unwrap();
    assert!(said(&auto).contains("no launcher has assigned a number to this process"), "{}", said(&auto));
    assert!(fails(2, &["--ranks", "4/3", "--rendezvous", &address]).contains("4/3"));
    let place = fails(1, &["--ranks", "1/2", "--rendezvous", "no host"]);
    assert!(place.contains("as in node-1:29400") && place.contains("no host"), "{place}");
    assert!(!run.join("saes/base/sae_weights.safetensors").exists());
}
