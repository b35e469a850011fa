//! A harvest that is killed, or whose disk is full, and started again ends with the bytes of one that ran through.

use crate::tool::{data_set, files, json, sae, said, tiny_model};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

const ROWS: usize = 90;

fn harvest(dir: &Path, run: &str) -> Command {
    harvest_on("cpu", dir, run)
}

fn harvest_on(devices: &str, dir: &Path, run: &str) -> Command {
    let mut command = sae();
    command.args(["harvest", "--layers", "0,2", "--shard-tokens", "300", "--batch-tokens", "256", "--device", devices]);
    command.arg("--model").arg(tiny_model()).arg("--data").arg(dir.join("data.jsonl")).arg("--run").arg(dir.join(run));
    command
}

#[test]
fn a_killed_harvest_goes_on_with_the_same_bytes() {
    let dir = tempfile::tempdir().unwrap();
    data_set(dir.path(), ROWS);
    goes_on_with_the_same_bytes(dir.path(), &[]);
}

#[test]
fn a_killed_harvest_of_pieces_goes_on_with_the_same_bytes() {
    let dir = tempfile::tempdir().unwrap();
    data_set(dir.path(), ROWS);
    goes_on_with_the_same_bytes(dir.path(), &["--pieces", "sentences"]);
    // Trees of four messages, with children before their parents and an orphan between them.
    let message = |n: usize| match n % 5 {
        0 => format!(r#"{{"id": {n}, "text": "A square. A square.", "parent_id": {}.0}}"#, n + 1),
        1 => format!(r#"{{"id": {n}, "text": "What is this?", "image": "images/wide.png", "parent_id": null}}"#),
        2 => format!(r#"{{"id": {n}, "text": "A square. A circle.", "parent_id": {}}}"#, n - 1),
        3 => format!(r#"{{"id": {n}, "text": "And this?", "image": "images/tall.png", "parent_id": {}}}"#, n - 1),
        _ => format!(r#"{{"id": {n}, "text": "Lost", "parent_id": "nobody"}}"#),
    };
    std::fs::write(dir.path().join("data.jsonl"), (0..5 * 60).map(|n| message(n) + "\n").collect::<String>()).unwrap();
    for run in ["whole", "killed"] {
        std::fs::remove_dir_all(dir.path().join(run)).unwrap();
    }
    goes_on_with_the_same_bytes(dir.path(), &["--pieces", "tree"]);
}

/// Kills a harvest several times, and compares what the last one finishes with a harvest that ran through.
fn goes_on_with_the_same_bytes(dir: &Path, more: &[&str]) {
    let harvest = |run: &str| {
        let mut command = harvest(dir, run);
        command.args(more);
        command
    };
    assert!(harvest("whole").output().unwrap().status.success());
    let expected = files(&dir.join("whole"));
    let shards = expected.keys().filter(|path| path.to_string_lossy().contains("shard-")).count();
    assert!(shards >= 10, "{shards} shards are too few to be interrupted between");

    let mut kills = 0;
    for after in [0, 1, 3, 4, 6, 8] {
        let run = dir.join("killed");
        let mut child = harvest("killed").spawn().unwrap();
        let part = run.join(format!("tokens/part-{after:05}.parquet"));
        let begun = Instant::now();
        while !part.exists() && child.try_wait().unwrap().is_none() {
            assert!(begun.elapsed() < Duration::from_secs(120), "the harvest hangs");
            std::thread::sleep(Duration::from_micros(200));
        }
        kills += child.try_wait().unwrap().is_none() as u32;
        child.kill().unwrap(); // SIGKILL: no handler runs
        child.wait().unwrap();
    }
    assert!(kills > 0, "every harvest ended before it could be killed");
    let output = harvest("killed").output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    let found = files(&dir.join("killed"));
    assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
    assert!(found == expected, "after {kills} kills the bytes differ");
}

#[test]
fn the_numbers_of_threads_and_devices_change_no_byte() {
    let dir = tempfile::tempdir().unwrap();
    data_set(dir.path(), ROWS);
    let captured = [("1", "cpu"), ("2", "cpu"), ("5", "cpu"), ("3", "cpu,cpu,cpu")].map(|(threads, devices)| {
        let mut harvest = harvest_on(devices, dir.path(), threads);
        let output = harvest.env("RAYON_NUM_THREADS", threads).output().unwrap();
        assert!(output.status.success(), "{}", said(&output));
        files(&dir.path().join(threads))
    });
    let parts = captured[0].keys().filter(|path| path.starts_with("tokens")).count();
    assert!(parts >= 5, "{parts} parts are too few to be written while others are filled");
    assert!(captured.iter().all(|files| *files == captured[0]), "the number of threads or devices changes bytes");
}

#[cfg(unix)]
#[test]
fn an_interrupted_harvest_says_with_its_status_that_the_same_command_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    data_set(dir.path(), ROWS);
    assert!(harvest(dir.path(), "whole").output().unwrap().status.success());
    for signal in ["-INT", "-TERM", "-USR1"] {
        let run = dir.path().join(signal);
        let mut child = harvest(dir.path(), signal).spawn().unwrap();
        let begun = Instant::now();
        while !run.join("tokens").exists() && child.try_wait().unwrap().is_none() {
            assert!(begun.elapsed() < Duration::from_secs(120), "the harvest hangs");
            std::thread::sleep(Duration::from_micros(200));
        }
        let running = child.try_wait().unwrap().is_none();
        Command::new("kill").args([signal, &child.id().to_string()]).output().unwrap();
        let status = child.wait().unwrap();
        assert!(!running || status.code() == Some(85) || status.success(), "{signal}: {status}");
        let output = harvest(dir.path(), signal).output().unwrap();
        assert!(output.status.success(), "{}", said(&output));
        assert!(files(&run) == files(&dir.path().join("whole")), "{signal}");
    }
}

#[cfg(unix)]
#[test]
fn a_full_disk_is_named_and_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    data_set(dir.path(), ROWS);
    assert!(harvest(dir.path(), "whole").output().unwrap().status.success());
    // No file may grow over 24 KiB: the first shard of 300 rows of 32 floats does.
    let whole = harvest(dir.path(), "full");
    let mut limited = Command::new("bash");
    limited.args(["-c", "trap '' XFSZ; ulimit -f 24; exec \"$@\"", "bash"]).arg(whole.get_program());
    let output = limited.args(whole.get_args()).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(said(&output).contains("cannot write") && said(&output).contains("shard-00000"), "{}", said(&output));
    assert!(harvest(dir.path(), "full").output().unwrap().status.success());
    assert!(files(&dir.path().join("full")) == files(&dir.path().join("whole")));
}

#[test]
fn harvesting_and_training_give_the_same_bytes_on_one_thread_and_on_two() {
    let dir = tempfile::tempdir().unwrap();
    data_set(dir.path(), 30);
    for threads in ["1", "2"] {
        let run = format!("threads-{threads}");
        let output = harvest(dir.path(), &run).env("RAYON_NUM_THREADS", threads).output().unwrap();
        assert!(output.status.success(), "{}", said(&output));
        let run = dir.path().join(&run);
        let mut train = sae();
        train.args([
            "train",
            "--hook",
            "layers.2",
            "--name",
            "a",
            "--expansion",
            "4",
            "--batch",
            "64",
            "--steps",
            "30",
        ]);
        let output = train.arg("--run").arg(&run).env("RAYON_NUM_THREADS", threads).output().unwrap();
        assert!(output.status.success(), "{}", said(&output));
        // The log tells the speed, which is another one each time, and so does the same log for TensorBoard.
        for log in ["log.parquet", "events.out.tfevents.0.sae"] {
            std::fs::remove_file(run.join("saes/a").join(log)).unwrap();
        }
    }
    assert!(files(&dir.path().join("threads-1")) == files(&dir.path().join("threads-2")));
}

#[test]
fn a_second_harvest_of_the_same_plan_does_nothing_and_of_another_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    data_set(dir.path(), 12);
    let data = dir.path().join("data.jsonl");
    let (model, run) = (tiny_model(), dir.path().join("run"));
    let [model, data, run] = [&model, &data, &run].map(|p| p.to_str().unwrap());
    let plan = ["harvest", "--model", model, "--data", data, "--run", run, "--layers"];
    let first = json(&[&plan[..], &["1"]].concat());
    let second = json(&[&plan[..], &["1"]].concat());
    assert_eq!((&first["samples"], &first["tokens"]), (&second["samples"], &second["tokens"]));
    let refused = crate::tool::fails(1, &[&plan[..], &["2"]].concat());
    assert!(refused.contains("holds another harvest") && refused.contains("hint: choose another --run"), "{refused}");
}
