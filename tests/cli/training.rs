//! Training through the program: killed and resumed, interrupted, swept, straight from the model, on a full disk.

use crate::tool::{data_set, fails, json, sae, said, tiny_model};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// A run with activations of the tiny model behind block 1.
fn harvested(dir: &Path) -> PathBuf {
    let data = data_set(dir, 40);
    let run = dir.join("run");
    let model = tiny_model();
    let [model, data, at] = [&model, &data, &run].map(|p| p.to_str().unwrap());
    json(&["harvest", "--model", model, "--data", data, "--run", at, "--layers", "1", "--shard-tokens", "500"]);
    run
}

/// 240 steps of an architecture with a checkpoint every ten.
fn train(run: &Path, name: &str, arch: &str) -> Command {
    train_for(240, run, name, arch)
}

fn train_for(steps: u64, run: &Path, name: &str, arch: &str) -> Command {
    let mut command = sae();
    command.args(["train", "--hook", "layers.1", "--name", name, "--arch", arch, "--features", "96", "--k", "6"]);
    command.args(["--batch", "256", "--buffer", "800", "--checkpoint-every", "10", "--device", "cpu"]);
    command.args(["--lr", "0.003", "--l1", "0.1", "--set", "resample_every_steps=50", "--exclude", "first"]);
    command.arg("--steps").arg(steps.to_string()).arg("--run").arg(run);
    command
}

fn checkpoint(run: &Path, name: &str) -> Option<PathBuf> {
    sae_core::train::checkpoint::newest(&run.join("saes").join(name).join("checkpoint"))
}

fn weights(run: &Path, name: &str) -> Vec<u8> {
    fs::read(run.join("saes").join(name).join("sae_weights.safetensors")).unwrap()
}

/// Starts a command and waits until it has written a checkpoint other than `before`; nothing if it ended first.
fn until_checkpoint(command: &mut Command, run: &Path, name: &str) -> Option<std::process::Child> {
    let before = checkpoint(run, name);
    let mut child = command.stderr(std::process::Stdio::piped()).spawn().unwrap();
    let begun = Instant::now();
    loop {
        let newest = checkpoint(run, name);
        if newest.is_some() && newest != before {
            return Some(child);
        }
        if child.try_wait().unwrap().is_some() {
            return None;
        }
        assert!(begun.elapsed() < Duration::from_secs(120), "the training hangs");
        std::thread::sleep(Duration::from_micros(300));
    }
}

#[test]
fn a_killed_training_goes_on_to_the_bit() {
    let dir = tempfile::tempdir().unwrap();
    let run = harvested(dir.path());
    for arch in ["relu", "matryoshka"] {
        let whole = format!("{arch}-whole");
        let output = train(&run, &whole, arch).output().unwrap();
        assert!(output.status.success(), "{}", said(&output));
        let cut = format!("{arch}-cut");
        let mut kills = 0;
        for pause in [0, 7, 3, 11] {
            let mut command = train(&run, &cut, arch);
            if checkpoint(&run, &cut).is_some() {
                command.arg("--resume");
            }
            let Some(mut child) = until_checkpoint(&mut command, &run, &cut) else { break };
            std::thread::sleep(Duration::from_millis(pause));
            kills += child.try_wait().unwrap().is_none() as u32;
            child.kill().unwrap(); // SIGKILL: no handler runs
            child.wait().unwrap();
        }
        assert!(kills > 0, "every training ended before it could be killed");
        if !run.join("saes").join(&cut).join("cfg.json").exists() {
            let refused = train(&run, &cut, arch).output().unwrap();
            let refused = said(&refused);
            assert!(refused.contains("`sae train --resume` continues") && refused.contains("step-"), "{refused}");
            let output = train(&run, &cut, arch).arg("--resume").output().unwrap();
            assert!(output.status.success(), "{}", said(&output));
        }
        assert!(weights(&run, &whole) == weights(&run, &cut), "{arch}: other bytes after {kills} kills");
        assert!(checkpoint(&run, &cut).is_none(), "a finished training keeps no checkpoint");
    }
}

#[cfg(unix)]
#[test]
fn ctrl_c_leaves_a_checkpoint_and_says_how_to_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let run = harvested(dir.path());
    let mut long = train_for(200_000, &run, "long", "topk");
    let child = until_checkpoint(&mut long, &run, "long").unwrap();
    Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(85), "interrupted, to be resumed");
    let words = said(&output);
    assert!(words.contains("interrupted after step"), "{words}");
    assert!(words.ends_with("\nhint: the same `sae train --resume` continues it\n"), "{words}");
    let other = train_for(200_000, &run, "long", "topk")
        .args(["--resume", "--set", "k=3", "--set", "lr=0.5"])
        .output()
        .unwrap();
    assert_eq!(other.status.code(), Some(1));
    let other = said(&other);
    assert!(other.contains("other settings: ") && other.contains("k = 6, not 3"), "{other}");
    assert!(other.contains("lr = 0.003, not 0.5") && !other.contains("batch"), "{other}");

    // An unfinished training is told as one, and is no choice for others.
    let run = run.to_str().unwrap();
    let info = json(&["info", run]);
    assert_eq!(info["saes"][0]["name"], "long");
    assert!(info["saes"][0]["unfinished"].as_str().unwrap().starts_with("unfinished, step "), "{info}");
    for name in [&[][..], &["--sae", "long"]] {
        let refused = fails(1, &[&["eval", "--run", run], name].concat());
        assert!(refused.contains("long is unfinished, step ") && refused.contains("hint: the same"), "{refused}");
    }
    let other = fails(1, &["index", "--run", run, "--sae", "short"]);
    assert!(other.contains("no autoencoder short") && !other.contains("long"), "{other}");
}

#[cfg(unix)]
#[test]
fn a_full_disk_at_a_checkpoint_keeps_the_one_before() {
    let dir = tempfile::tempdir().unwrap();
    let run = harvested(dir.path());
    let mut first = train(&run, "full", "topk");
    let mut child = until_checkpoint(&mut first, &run, "full").unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    let kept = checkpoint(&run, "full").unwrap();
    let bytes = fs::read(&kept).unwrap();
    // No file may grow over 24 KiB: a checkpoint does.
    let whole = train(&run, "full", "topk");
    let mut limited = Command::new("bash");
    limited.args(["-c", "trap '' XFSZ; ulimit -f 24; exec \"$@\"", "bash"]).arg(whole.get_program());
    let output = limited.args(whole.get_args()).arg("--resume").output().unwrap();
    assert!(said(&output).contains("warning: no checkpoint at step"), "{}", said(&output));
    assert_eq!(output.status.code(), Some(1), "the autoencoder does not fit either");
    assert!(fs::read(&kept).unwrap() == bytes, "the last good checkpoint is as it was");
    assert!(train(&run, "full", "topk").arg("--resume").output().unwrap().status.success());
}

#[test]
fn a_sweep_trains_in_one_pass_and_every_architecture_is_evaluated() {
    let dir = tempfile::tempdir().unwrap();
    let run = harvested(dir.path());
    let sweep = ["--sweep", "arch=relu,topk,batch-topk,jumprelu,gated,matryoshka"];
    let output = train_for(60, &run, "a", "topk").args(sweep).arg("--json").output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    let alone = train_for(60, &run, "alone", "topk").output().unwrap();
    assert!(alone.status.success(), "{}", said(&alone));
    for arch in ["relu", "topk", "batch-topk", "jumprelu", "gated", "matryoshka"] {
        let name = format!("a-arch{arch}");
        let trained = fs::read_to_string(run.join("saes").join(&name).join("train.toml")).unwrap();
        assert!(trained.contains(&format!("arch = \"{arch}\"")), "{trained}");
    }
    assert!(weights(&run, "a-archtopk") == weights(&run, "alone"), "a sweep changes no autoencoder");
    let record = fs::read_to_string(run.join("run.json")).unwrap();
    let record: serde_json::Value = serde_json::from_str(&record).unwrap();
    let positions = &record["steps"]["train/alone"]["positions"];
    assert!(positions["left_out"].as_u64().unwrap() > 0, "first positions are left out: {positions}");
    let report = json(&["eval", "--run", run.to_str().unwrap(), "--sae", "a-archtopk"]);
    assert!(report["all"]["l0"].as_f64().unwrap() <= 6.0, "{report}");
}

#[test]
fn training_straight_from_the_model_stores_nothing_and_resumes_to_the_bit() {
    let dir = tempfile::tempdir().unwrap();
    let data = data_set(dir.path(), 70);
    let live = |run: &Path| {
        let mut command = train(run, "live", "batch-topk");
        command.arg("--model").arg(tiny_model()).arg("--data").arg(&data);
        command
    };
    let (whole, cut) = (dir.path().join("whole"), dir.path().join("cut"));
    let output = live(&whole).output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    assert!(!whole.join("activations").exists());
    let mut child = until_checkpoint(&mut live(&cut), &cut, "live").unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    let output = live(&cut).arg("--resume").output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    assert!(weights(&whole, "live") == weights(&cut, "live"));
}

#[test]
fn training_straight_from_the_model_reads_no_row_beyond_its_limit_in_any_round() {
    let dir = tempfile::tempdir().unwrap();
    let (all, first) = (dir.path().join("all"), dir.path().join("first"));
    // Rows behind the limit that would change everything, and a data set that ends there.
    let data = data_set(&all, 40);
    // A row that cannot be used costs nothing but itself, and is told.
    let broken = "{\"id\": \"broken\", \"image\": \"images/none.png\", \"conversations\": [{\"from\": \"human\", \"value\": \"<image>\"}, {\"from\": \"gpt\", \"value\": \"x\"}]}\n";
    let rows: Vec<String> = fs::read_to_string(&data).unwrap().lines().map(|row| format!("{row}\n")).collect();
    let other = rows[8..].iter().map(|row| row.replace("A square.", "Something else entirely, at length."));
    fs::write(&data, [broken.into(), rows[..8].concat(), other.collect()].concat()).unwrap();
    let ends = data_set(&first, 8);
    let live = |name: &str, data: &Path| {
        let mut command = train(&dir.path().join(name), "live", "topk");
        command.arg("--model").arg(tiny_model()).arg("--data").arg(data);
        command
    };
    let limited = |name: &str| {
        let mut command = live(name, &data);
        command.args(["--limit", "9"]);
        command
    };
    for mut command in [live("whole", &ends), limited("limited")] {
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", said(&output));
    }
    let [whole, limit, cut] = ["whole", "limited", "cut"].map(|name| dir.path().join(name));
    assert!(weights(&whole, "live") == weights(&limit, "live"), "rows beyond the limit were read");
    let record: serde_json::Value = serde_json::from_slice(&fs::read(limit.join("run.json")).unwrap()).unwrap();
    let skipped = &record["steps"]["train/live"]["skipped"];
    assert_eq!((&skipped["rows"], &skipped["first"][0]["key"]), (&1.into(), &"broken".into()), "{record}");
    assert!(skipped["first"][0]["reason"].as_str().unwrap().contains("none.png"), "{skipped}");
    let mut child = until_checkpoint(&mut limited("cut"), &cut, "live").unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    let output = limited("cut").arg("--resume").output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    assert!(weights(&whole, "live") == weights(&cut, "live"));
}

#[test]
fn training_straight_from_the_model_reads_data_as_a_harvest_does() {
    let dir = tempfile::tempdir().unwrap();
    let plain = data_set(&dir.path().join("plain"), 30);
    // The same rows under other names of columns, with paths that lead from a folder of images, and two bad rows.
    let text = fs::read_to_string(&plain).unwrap();
    let renamed = text.replace("\"conversations\"", "\"talk\"").replace("\"images/", "\"");
    let mut rows: Vec<_> = renamed.lines().collect();
    rows.insert(3, r#"{"id": "gone", "image": "none.png", "talk": [{"from": "human", "value": "<image>"}, {"from": "gpt", "value": "x"}]}"#);
    rows.insert(9, r#"{"id": "empty", "image": "wide.png"}"#);
    let other = dir.path().join("other.jsonl");
    fs::write(&other, rows.join("\n")).unwrap();
    let images = dir.path().join("plain/images");
    let reading = ["--map", "conversations=talk", "--images-root", images.to_str().unwrap()];
    let live = |name: &str, data: &Path| {
        let mut command = train(&dir.path().join(name), "live", "topk");
        command.arg("--model").arg(tiny_model()).arg("--data").arg(data);
        command
    };
    for mut command in [live("a", &plain), live("b", &other)] {
        let output = command.args(reading).output().unwrap();
        // The first data set has neither that column nor those paths.
        assert_eq!(
            output.status.success(),
            command.get_args().any(|arg| arg == other.as_os_str()),
            "{}",
            said(&output)
        );
    }
    let output = live("c", &plain).output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    let [b, c, harvest] = ["b", "c", "harvest"].map(|name| dir.path().join(name));
    assert!(weights(&b, "live") == weights(&c, "live"), "the same samples were read");

    let run = harvest.to_str().unwrap();
    let model = tiny_model();
    let base = ["harvest", "--model", model.to_str().unwrap(), "--layers", "1", "--run", run, "--device", "cpu"];
    json(&[&base[..], &["--data", other.to_str().unwrap()], &reading].concat());
    let steps = |run: &Path| -> serde_json::Value {
        let record: serde_json::Value = serde_json::from_slice(&fs::read(run.join("run.json")).unwrap()).unwrap();
        record["steps"].clone()
    };
    let (trained, harvested) = (&steps(&b)["train/live"], &steps(&harvest)["harvest"]);
    assert_eq!(trained["skipped"]["first"], harvested["skipped"]);
    assert_eq!(trained["skipped"]["rows"], 2);
    for argument in ["map", "images_root", "data_root", "answers", "template", "dtype", "batch_tokens"] {
        assert_eq!(trained["arguments"][argument], harvested["arguments"][argument], "{argument}");
    }
}

#[test]
fn flags_for_reading_data_need_a_model_and_stay_the_same_when_a_training_is_resumed() {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("run");
    let at = run.to_str().unwrap();
    let flags: [&[&str]; 4] =
        [&["--images-root", "images"], &["--map", "text=caption"], &["--fetch-images"], &["--answers", "none"]];
    for flag in flags {
        for command in [&["train", "--run", at, "--hook", "layers.1", "--name", "x"][..], &["eval", "--run", at]] {
            assert!(fails(2, &[command, flag].concat()).contains("--model"), "{command:?} {flag:?}");
        }
    }
    let data = data_set(dir.path(), 70);
    let live = || {
        let mut command = train(&run, "live", "topk");
        command.arg("--model").arg(tiny_model()).arg("--data").arg(&data);
        command
    };
    let mut child = until_checkpoint(&mut live(), &run, "live").unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    let output = live().args(["--resume", "--answers", "none"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains("answers = \"none\", not \"all\""), "{}", said(&output));
}

#[test]
fn a_finished_training_is_resumed_by_saying_so_unless_its_settings_differ() {
    let dir = tempfile::tempdir().unwrap();
    let run = harvested(dir.path());
    let done = train_for(20, &run, "done", "topk").arg("--json").output().unwrap();
    assert!(done.status.success(), "{}", said(&done));
    let before = weights(&run, "done");
    let again = train_for(20, &run, "done", "topk").args(["--resume", "--json"]).output().unwrap();
    assert!(again.status.success(), "{}", said(&again));
    assert_eq!(again.stdout, done.stdout, "the same figures");
    let text = train_for(20, &run, "done", "topk").arg("--resume").output().unwrap();
    assert!(String::from_utf8_lossy(&text.stdout).contains("finished already, with the same settings: done"));
    let other = train_for(20, &run, "done", "topk").args(["--resume", "--seed", "7"]).output().unwrap();
    assert_eq!(other.status.code(), Some(1));
    assert!(said(&other).contains("other settings: seed = 7, not 42"), "{}", said(&other));
    let anew = train_for(20, &run, "done", "topk").output().unwrap();
    assert!(anew.status.code() == Some(1) && said(&anew).contains("already"), "{}", said(&anew));
    assert!(weights(&run, "done") == before);

    // What tools take for the length of a text: the longest sample of the run.
    let config: serde_json::Value = serde_json::from_slice(&fs::read(run.join("saes/done/cfg.json")).unwrap()).unwrap();
    let store = sae_core::store::Store::open(&sae_core::Run::open(&run).unwrap(), "layers.1").unwrap();
    let longest = (0..store.shards()).flat_map(|n| store.tokens(n).unwrap().position).max().unwrap() + 1;
    assert_eq!(config["metadata"]["context_size"], longest, "{config}");
}

#[test]
fn contradictions_are_refused_before_any_work() {
    let dir = tempfile::tempdir().unwrap();
    let run = harvested(dir.path());
    let run = run.to_str().unwrap();
    let base = ["train", "--run", run, "--hook", "layers.1", "--name", "x"];
    let said = |extra: &[&str]| fails(1, &[&base[..], extra].concat());
    assert!(said(&["--arch", "topk", "--features", "8", "--k", "9"]).contains("k = 9 of 8 features"));
    assert!(said(&["--set", "bandwith=1"]).contains("train.toml has no such field"));
    assert!(said(&["--resume"]).contains("no checkpoint of x"));
    for zero in [["--features", "0"], ["--expansion", "0"], ["--k", "0"], ["--set", "features=0"]] {
        assert!(said(&zero).contains("an autoencoder has at least one feature"), "{zero:?}");
    }
    for (zero, sentence) in [
        (["--steps", "0"], "steps = 0 (expected at least one step)"),
        (["--batch", "0"], "batch = 0 (expected at least one token a step)"),
        (["--buffer", "100"], "buffer = 100 rows for a batch of 4096 (expected at least a batch)"),
    ] {
        assert!(said(&zero).contains(sentence), "{zero:?}");
    }
    assert!(said(&["--arch", "matryoshka", "--set", "prefixes=[9, 4]"]).contains("prefixes = [9, 4]"));
    assert!(!Path::new(run).join("saes").exists(), "nothing was begun");
}

#[test]
fn a_bench_prints_its_floor() {
    let args = ["bench", "train", "--d-in", "32", "--features", "256", "--k", "4", "--batch", "64", "--rounds", "2"];
    let found = json(&[&args[..], &["--dead", "0.2"]].concat());
    assert!(found["tokens_per_s"].as_f64().unwrap() > 0.0 && found["of_product"].as_f64().unwrap() > 0.0, "{found}");
    assert!(found["stages"]["auxk"].as_f64().unwrap() > 0.0, "{found}");
}

#[test]
fn a_bench_of_generation_tells_prompts_from_answers() {
    let model = tiny_model();
    let args =
        ["bench", "generate", "--model", model.to_str().unwrap(), "--prompt", "8", "--tokens", "5", "--rounds", "2"];
    let found = json(&[&args[..], &["--batch", "1,3"]].concat());
    let rates = found["rates"].as_array().unwrap();
    assert_eq!(rates.iter().map(|rate| rate["prompts"].as_u64().unwrap()).collect::<Vec<_>>(), [1, 3]);
    for rate in rates {
        let [prompt, answer, memory, share] =
            ["prompt_tokens_per_s", "tokens_per_s", "memory_tokens_per_s", "of_memory"]
                .map(|name| rate[name].as_f64().unwrap());
        assert!(prompt > 0.0 && answer > 0.0 && (answer / memory - share).abs() < 1e-9 * share, "{rate}");
    }
    // Each of three answers gets a token for the same bytes.
    let memory = |n: usize| rates[n]["memory_tokens_per_s"].as_f64().unwrap();
    assert!((memory(1) / memory(0) - 3.0).abs() < 1e-9);
    // In bf16 a step reads half as many bytes.
    let bytes = |dtype: &str| json(&[&args[..], &["--dtype", dtype, "--dry-run"]].concat())["bytes_per_step"].as_f64();
    assert_eq!(bytes("f32"), bytes("bf16").map(|bytes| 2.0 * bytes));
    let said = fails(1, &[&args[..4], &["--tokens", "1"]].concat());
    assert!(said.contains("an answer of two"), "{said}");
    assert!(fails(1, &[&args[..4], &["--prompt", "1000000"]].concat()).contains("context"));
}

#[test]
fn an_option_that_the_architecture_does_not_read_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let (data, run) = (data_set(dir.path(), 6), dir.path().join("run"));
    let [model, data, run] = [&tiny_model(), &data, &run].map(|path| path.to_str().unwrap().to_owned());
    json(&["harvest", "--model", &model, "--data", &data, "--run", &run, "--layers", "1"]);
    let train = |name: &str, more: &[&str]| {
        let arguments =
            ["train", "--run", &run, "--hook", "layers.1", "--features", "64", "--batch", "64", "--steps", "3"];
        let output = sae().args(arguments).args(["--name", name, "--k", "8"]).args(more).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    assert!(train("a", &[]).contains("note: relu does not read --k 8; --l1 decides"), "{}", train("b", &[]));
    assert!(!train("c", &["--arch", "topk"]).contains("note:"));
}
