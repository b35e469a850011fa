//! Jobs in parts: processes of this machine, some of which are killed, and the scripts for clusters.

use crate::tool::{data_set, fails, files, json, repository, sae, said, tiny_model};
use sae_core::Run;
use sae_core::store::load_samples;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

fn harvest<'a>(data: &'a str, run: &'a str, model: &'a str) -> Vec<&'a str> {
    let harvest = ["harvest", "--model", model, "--data", data, "--run", run, "--layers", "1", "--device", "cpu"];
    [&harvest[..], &["--shard-tokens", "150", "--batch-tokens", "256"]].concat()
}

/// A process of this user whose parent is `parent` and whose command has this word.
#[cfg(target_os = "linux")]
fn child_of(parent: u32, word: &str) -> Option<String> {
    let processes = fs::read_dir("/proc").unwrap().filter_map(|entry| entry.unwrap().file_name().into_string().ok());
    processes.filter(|name| name.bytes().all(|byte| byte.is_ascii_digit())).find(|name| {
        let read = |file: &str| fs::read_to_string(format!("/proc/{name}/{file}")).unwrap_or_default();
        read("status").contains(&format!("PPid:\t{parent}\n")) && read("cmdline").split('\0').any(|other| other == word)
    })
}

#[cfg(target_os = "linux")]
#[test]
fn a_job_whose_process_is_killed_ends_with_the_bytes_of_one_that_ran_through() {
    let dir = tempfile::tempdir().unwrap();
    let (data, model) = (data_set(dir.path(), 48), tiny_model());
    let run = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let [data, model] = [&data, &model].map(|path| path.to_str().unwrap());
    let (whole, shared, killed) = (run("whole"), run("shared"), run("killed"));
    json(&harvest(data, &whole, model));
    let launch = |run: &str| {
        let mut command = sae();
        command
            .args(["launch", "local", "--parts", "3", "--at-once", "2", "--json", "--"])
            .args(harvest(data, run, model));
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    };
    let report = |output: std::process::Output| -> serde_json::Value {
        assert!(output.status.success(), "{}", said(&output));
        serde_json::from_slice(&output.stdout).unwrap()
    };
    let through = report(launch(&shared).output().unwrap());
    assert_eq!(
        (&through["parts"], &through["retries"], &through["output"]["samples"]),
        (&3.into(), &0.into(), &48.into())
    );
    let mut again = 0;
    for _ in 0..10 {
        let child = launch(&killed).spawn().unwrap();
        let part = (0..20_000).find_map(|_| {
            std::thread::sleep(std::time::Duration::from_micros(200));
            child_of(child.id(), "2/3")
        });
        Command::new("kill").args(["-KILL", &part.expect("the second part runs")]).output().unwrap();
        again = report(child.wait_with_output().unwrap())["retries"].as_u64().unwrap();
        if again > 0 {
            break;
        }
        [&killed, &format!("{killed}.shards")].iter().for_each(|folder| fs::remove_dir_all(folder).unwrap());
    }
    assert_eq!(again, 1, "one process was killed, and its part was run again");
    let found = files(Path::new(&killed));
    assert!(found == files(Path::new(&shared)), "a killed process changes bytes");
    let samples = |run: &str| load_samples(&Run::open(Path::new(run)).unwrap()).unwrap();
    assert!(samples(&killed) == samples(&whole), "the samples are not those of one process");

    // An index in parts, and one at once of a copy.
    let train = ["--hook", "layers.1", "--name", "base", "--batch", "64", "--steps", "30", "--device", "cpu"];
    json(&[&["train", "--run", &killed][..], &train].concat());
    assert!(Command::new("cp").args(["-r", &killed, &run("copy")]).status().unwrap().success());
    json(&["index", "--run", &run("copy"), "--device", "cpu"]);
    let pass = ["pass", "index", "--run", &killed, "--device", "cpu"];
    let done = report(sae().args(["launch", "local", "--parts", "2", "--json", "--"]).args(pass).output().unwrap());
    assert_eq!(done["output"]["operation"], "index");
    let features = |run: &str| files(&Path::new(run).join("features"));
    assert!(features(&killed) == features(&run("copy")));
}

#[test]
fn a_command_that_is_not_divided_is_rejected_with_the_reason() {
    let launch = |more: &[&'static str]| fails(1, &[&["launch", "local", "--parts", "2", "--"], more].concat());
    assert!(launch(&["eval", "--run", "r"]).contains("expected harvest or pass"));
    assert!(launch(&["harvest", "--run", "r", "--shard", "1/2"]).contains("hint: leave --shard out"));
    assert!(launch(&["harvest", "--run", "r"]).contains("--model"), "what clap says is shown");
    let data = tempfile::tempdir().unwrap();
    let run = data.path().join("run").to_str().unwrap().to_owned();
    let words = ["launch", "local", "--parts", "1", "--", "harvest", "--model", "no-model", "--data", "no.jsonl"];
    let failed = fails(1, &[&words[..], &["--layers", "1", "--run", &run]].concat());
    assert!(
        failed.contains("1 part failed after 3 tries each: part 1 (") && failed.contains("run.shards/logs"),
        "{failed}"
    );
}

#[test]
fn the_scripts_for_clusters_are_those_of_the_repository_and_parse() {
    let harvest = ["harvest", "--model", "llava", "--data", "my data.jsonl", "--layers", "16", "--run", "run"];
    let pass = ["pass", "index", "--run", "run", "--sae", "base"];
    let printed = |engine: &str, more: &[&str], command: &[&str]| {
        let words = [&["launch", engine, "--parts", "8"], more, &["--"], command].concat();
        let output = sae().args(words).output().unwrap();
        assert!(output.status.success(), "{}", said(&output));
        String::from_utf8(output.stdout).unwrap()
    };
    let scripts = [
        ("slurm-harvest.sh", printed("slurm", &["--gpus", "1", "--at-once", "4"], &harvest)),
        ("slurm-pass.sh", printed("slurm", &[], &pass)),
        ("k8s-harvest.yaml", printed("k8s", &["--gpus", "1", "--image", "registry/sae:1"], &harvest)),
        ("ray-pass.py", printed("ray", &["--at-once", "4"], &pass)),
    ];
    let folder = repository("tests/golden/launch");
    for (name, script) in &scripts {
        let path = folder.join(name);
        if std::env::var_os("SAE_UPDATE").is_some() {
            fs::create_dir_all(&folder).unwrap();
            fs::write(&path, script).unwrap();
        }
        assert_eq!(fs::read_to_string(&path).unwrap_or_default(), *script, "{name}");
    }
    for (name, _) in scripts.iter().filter(|(name, _)| name.ends_with(".sh")) {
        let checked = Command::new("bash").arg("-n").arg(folder.join(name)).output().unwrap();
        assert!(checked.status.success() && checked.stderr.is_empty(), "{name}: {}", said(&checked));
    }
    let parsed = Command::new("python3")
        .args(["-c", "import ast, sys; ast.parse(open(sys.argv[1]).read())"])
        .arg(folder.join("ray-pass.py"))
        .output();
    // Python is not needed to build and test.
    assert!(parsed.is_err() || parsed.as_ref().is_ok_and(|output| output.status.success()), "{parsed:?}");
    let (_, manifest) = &scripts[2];
    let lines = manifest.lines().filter(|line| !line.starts_with('#'));
    for line in lines.clone() {
        let indent = line.len() - line.trim_start().len();
        let rest = line.trim_start().strip_prefix("- ").unwrap_or(line.trim_start());
        assert!(
            indent % 2 == 0
                && rest.split_once(':').is_some_and(
                    |(key, value)| !key.contains([' ', '"']) && (value.is_empty() || value.starts_with(' '))
                ),
            "{line}"
        );
    }
    // The words of the container are JSON, which YAML reads.
    let command = lines.clone().find_map(|line| line.trim_start().strip_prefix("command: ")).unwrap();
    let command: Vec<String> = serde_json::from_str(command).unwrap();
    assert_eq!(command[..2], ["/bin/sh", "-c"]);
    assert!(
        command[2].contains("'my data.jsonl'") && command[2].ends_with("--run run.shards/\"$NUMBER\""),
        "{}",
        command[2]
    );
}

/// Programs in place of `sae` and `scontrol`: the first one works until a signal comes, unless it is the last command.
#[cfg(unix)]
fn stand_ins(folder: &Path) {
    use std::os::unix::fs::PermissionsExt;
    let sae = "#!/bin/sh\necho \"$@\" >> sae.log\n[ \"$1\" = merge ] && exit 0\ntrap 'exit 85' USR1\nwhile :; do sleep 0.02; done\n";
    for (name, script) in [("sae", sae), ("scontrol", "#!/bin/sh\necho \"$@\" >> scontrol.log\n")] {
        fs::write(folder.join(name), script).unwrap();
        fs::set_permissions(folder.join(name), fs::Permissions::from_mode(0o755)).unwrap();
    }
}

#[cfg(unix)]
#[test]
fn a_task_of_an_array_passes_the_signal_on_and_is_queued_again_at_most_twice() {
    for (restarts, queued) in [("0", true), ("2", false)] {
        let dir = tempfile::tempdir().unwrap();
        stand_ins(dir.path());
        let path = format!("{}:{}", dir.path().display(), std::env::var("PATH").unwrap());
        let mut task = Command::new("bash");
        task.arg(repository("tests/golden/launch/slurm-harvest.sh")).current_dir(dir.path()).env("PATH", path);
        task.envs([("SLURM_ARRAY_JOB_ID", "7"), ("SLURM_ARRAY_TASK_ID", "3"), ("SLURM_RESTART_COUNT", restarts)]);
        let mut running = task.spawn().unwrap();
        let log = |name: &str| fs::read_to_string(dir.path().join(name)).unwrap_or_default();
        while log("sae.log").is_empty() {
            assert!(running.try_wait().unwrap().is_none(), "the task ended by itself");
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
        // The shell sets its trap right after it has started the program.
        std::thread::sleep(std::time::Duration::from_millis(50));
        Command::new("kill").args(["-USR1", &running.id().to_string()]).output().unwrap();
        assert_eq!(running.wait().unwrap().code(), Some(85));
        let expected = "harvest --model llava --data my data.jsonl --layers 16 --shard auto --run run.shards/3\n";
        assert_eq!(log("sae.log"), expected);
        assert_eq!(log("scontrol.log"), if queued { "requeue 7_3\n" } else { "" });
        let last = task.arg("last").output().unwrap();
        assert!(last.status.success() && log("sae.log").ends_with("run.shards/8 --run run\n"), "{}", said(&last));
    }
}
