//! What is said while the program works: lines where stderr is no terminal, and the end at a signal.

use crate::tool::{data_set, repository, sae, said, tiny_model};
use std::process::Command;

/// Runs the program with a line every few milliseconds; what it says on stderr.
fn lines(args: &[&str]) -> String {
    let output = sae().args(args).env("SAE_PROGRESS_SECONDS", "0.002").output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    let printed = String::from_utf8(output.stdout.clone()).unwrap();
    assert!(!printed.contains(" of 48 ("), "stdout is for the result: {printed}");
    said(&output)
}

#[test]
fn long_work_says_how_far_it_is_where_stderr_is_no_terminal() {
    let dir = tempfile::tempdir().unwrap();
    let (data, model, run) = (data_set(dir.path(), 48), tiny_model(), dir.path().join("run"));
    let [data, model, run] = [&data, &model, &run].map(|path| path.to_str().unwrap());
    let harvest = ["harvest", "--model", model, "--data", data, "--run", run, "--layers", "1"];
    let said = lines(&harvest);
    assert!(said.lines().any(|line| line.starts_with("harvest: ") && line.contains(" of 48 (")), "{said}");
    let said = lines(&["train", "--run", run, "--hook", "layers.1", "--name", "a", "--steps", "60", "--batch", "64"]);
    let train = |line: &&str| line.starts_with("train: ") && line.contains(" of 60 (");
    assert!(said.lines().any(|line| train(&line) && line.contains("; loss ")), "{said}");
    // Lines come now and then: work that is over before the first one is due says nothing.
    let output = sae().args(["eval", "--run", run]).output().unwrap();
    assert_eq!(self::said(&output), "");
    let wrong = sae().args(["eval", "--run", run]).env("SAE_PROGRESS_SECONDS", "often").output().unwrap();
    assert!(wrong.status.success(), "{}", self::said(&wrong));
}

#[cfg(unix)]
#[test]
fn the_first_signal_ends_the_demo_where_nothing_is_left_to_be_saved() {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("demo");
    let mut demo = sae();
    demo.args(["demo", "--steps", "2", "--seeds", "1", "--device", "cpu", "--run"]).arg(&run);
    let mut demo = demo.current_dir(repository(".")).spawn().unwrap();
    // The autoencoder is written: the part that listens to signals is over.
    let trained = run.join("saes/seed-0/cfg.json");
    while !trained.exists() {
        assert!(demo.try_wait().unwrap().is_none(), "the demo ended before it had trained");
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    let sent = Command::new("kill").args(["-INT", &demo.id().to_string()]).status().unwrap();
    assert!(sent.success());
    let status = demo.wait().unwrap();
    assert_eq!(status.code(), Some(85), "{status}");
    assert!(!run.join("scores.png").exists());
}
