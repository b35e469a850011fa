//! Data sets, shards and parts in a bucket, through the real program: the same bytes as on a disk, whatever the bucket does; nothing
//! is half there; what is wrong is named, and no secret is.

use crate::bucket::{Bucket, Trouble};
use crate::tool::{data_set, fails, files, json, said, tiny_model};
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

fn harvest<'a>(command: &'a mut Command, data: &str, run: &Path, more: &[&str]) -> &'a mut Command {
    command.args(["harvest", "--layers", "1", "--device", "cpu", "--json", "--data", data]).args(more);
    command.arg("--model").arg(tiny_model()).arg("--run").arg(run)
}

fn succeeded(output: Output) -> Value {
    assert!(output.status.success(), "{}", said(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn failed(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1), "{}", said(output));
    said(output)
}

fn record(run: &Path) -> Value {
    serde_json::from_slice(&fs::read(run.join("run.json")).unwrap()).unwrap()
}

/// A data set of `rows` rows with images, here and in a bucket, and its run.
fn data_in_a_bucket(dir: &Path, rows: usize) -> (Bucket, std::path::PathBuf) {
    let data = data_set(&dir.join("data"), rows);
    let bucket = Bucket::new();
    bucket.put_folder("set", &dir.join("data"));
    let run = dir.join("here");
    harvest(&mut crate::tool::sae(), data.to_str().unwrap(), &run, &[]).output().map(succeeded).unwrap();
    (bucket, run)
}

#[test]
fn a_data_set_in_a_bucket_is_harvested_as_if_it_were_here() {
    let dir = tempfile::tempdir().unwrap();
    let (bucket, here) = data_in_a_bucket(dir.path(), 12);
    let copies = dir.path().join("copies");
    // Lists have several pages, some requests fail, and some answers are cut off.
    let mut requests = 0;
    bucket.fail(move |_, _| {
        requests += 1;
        match requests {
            2 | 3 | 9 => Some(Trouble::Status(503, "<Error><Code>SlowDown</Code></Error>")),
            5 | 7 => Some(Trouble::Cut),
            _ => None,
        }
    });
    let plan = harvest(&mut bucket.sae(&copies), "s3://lab/set/", &dir.path().join("no"), &["--dry-run"]).output();
    assert!(failed(&plan.unwrap()).contains("a plan downloads nothing"));
    let run = dir.path().join("there");
    succeeded(harvest(&mut bucket.sae(&copies), "s3://lab/set/data.jsonl", &run, &[]).output().unwrap());
    assert_eq!(files(&run), files(&here));
    assert_eq!(record(&run)["steps"]["harvest"]["arguments"]["data_root"], "s3://lab/set");
    let folder = dir.path().join("folder");
    succeeded(harvest(&mut bucket.sae(&copies), "s3://lab/set/", &folder, &[]).output().unwrap());
    assert_eq!(files(&folder), files(&here));

    // What is here already is not read again, and a plan needs no bucket.
    bucket.requests();
    succeeded(harvest(&mut bucket.sae(&copies), "s3://lab/set/", &dir.path().join("again"), &[]).output().unwrap());
    let requests = bucket.requests();
    let reads = requests.iter().filter(|request| request.starts_with("GET /lab/set/data.jsonl"));
    assert_eq!(reads.count(), 0, "{requests:?}");
    let plan =
        harvest(&mut bucket.sae(&copies), "s3://lab/set/data.jsonl", &dir.path().join("no"), &["--dry-run"]).output();
    assert_eq!(succeeded(plan.unwrap())["plan"]["rows"], 12);
    assert!(bucket.requests().is_empty());

    // An object that was replaced is another data set.
    bucket.put("set/data.jsonl", bucket.get("set/data.jsonl").unwrap().repeat(2));
    let other = dir.path().join("other");
    let grown = succeeded(harvest(&mut bucket.sae(&copies), "s3://lab/set/data.jsonl", &other, &[]).output().unwrap());
    assert_eq!(grown["samples"], 24);
}

#[test]
fn rows_are_filtered_on_a_machine_that_has_no_copies() {
    let dir = tempfile::tempdir().unwrap();
    let (bucket, _) = data_in_a_bucket(dir.path(), 6);
    let run = dir.path().join("run");
    let more = ["--images-root", "s3://lab/set"];
    succeeded(
        harvest(&mut bucket.sae(&dir.path().join("a")), "s3://lab/set/data.jsonl", &run, &more).output().unwrap(),
    );
    let decisions = dir.path().join("decisions.csv");
    let samples = sae_core::store::load_samples(&sae_core::Run::open(&run).unwrap()).unwrap();
    let lines: String = samples.iter().take(2).map(|sample| format!("{},true\n", sample.id)).collect();
    fs::write(&decisions, format!("id,keep\n{lines}")).unwrap();
    let kept = dir.path().join("kept");
    let mut filter = bucket.sae(&dir.path().join("b"));
    filter.args(["filter", "--json", "--run"]).arg(&run).arg("--decisions").arg(&decisions).arg("--out").arg(&kept);
    let report = succeeded(filter.output().unwrap());
    assert_eq!(report["kept"]["rows"], 2);
    let images = files(&kept).into_keys().filter(|path| path.extension().is_some_and(|e| e == "png")).count();
    assert_eq!(images, 2);
    let into = fails(
        1,
        &[
            "filter",
            "--run",
            run.to_str().unwrap(),
            "--decisions",
            decisions.to_str().unwrap(),
            "--out",
            "s3://lab/kept",
        ],
    );
    assert!(into.contains("expected a folder of this machine"), "{into}");
}

#[test]
fn a_bucket_that_stays_busy_stops_a_harvest_and_skips_no_row() {
    let dir = tempfile::tempdir().unwrap();
    let (bucket, here) = data_in_a_bucket(dir.path(), 6);
    let (copies, run) = (dir.path().join("copies"), dir.path().join("run"));
    bucket.fail(|_, path| {
        path.contains("images").then_some(Trouble::Status(503, "<Error><Code>SlowDown</Code></Error>"))
    });
    let again = || {
        let mut command = bucket.sae(&copies);
        harvest(&mut command, "s3://lab/set/data.jsonl", &run, &[])
            .env("SAE_OBJECT_RETRY_SECONDS", "1")
            .output()
            .unwrap()
    };
    let busy = failed(&again());
    assert!(busy.contains("status 503 (SlowDown)") && busy.contains("hint: run the same command again"), "{busy}");
    bucket.recover();
    assert_eq!(succeeded(again())["skipped_rows"], 0);
    assert_eq!(files(&run), files(&here));
}

#[test]
fn credentials_that_expire_are_named_and_never_shown() {
    let dir = tempfile::tempdir().unwrap();
    let (bucket, _) = data_in_a_bucket(dir.path(), 2);
    let (copies, run) = (dir.path().join("copies"), dir.path().join("run"));
    let refused = |code: u16, body: &'static str| {
        bucket.fail(move |_, _| Some(Trouble::Status(code, body)));
        let mut command = bucket.sae(&copies);
        command.env("AWS_SESSION_TOKEN", "test-token");
        let said = failed(&harvest(&mut command, "s3://lab/set/data.jsonl", &run, &[]).output().unwrap());
        assert!(!["test-key", "test-secret", "test-token"].iter().any(|secret| said.contains(secret)), "{said}");
        said
    };
    let expired = refused(400, "<Error><Code>ExpiredToken</Code><Message>The token has expired.</Message></Error>");
    assert!(expired.contains("have expired") && expired.contains("hint: renew them"), "{expired}");
    let body = "<Error><Code>SignatureDoesNotMatch</Code><Message>no</Message><AWSAccessKeyId>test-key</AWSAccessKeyId></Error>";
    let denied = refused(403, body);
    assert!(
        denied.contains("status 403 (SignatureDoesNotMatch: no)") && denied.contains("AWS_ACCESS_KEY_ID"),
        "{denied}"
    );
    assert!(!run.exists());
    let absent =
        fails(1, &["harvest", "--model", "m", "--layers", "1", "--data", "s3://k:very-secret@lab/x", "--run", "r"]);
    assert!(!absent.contains("very-secret"), "{absent}");
    for command in [["push", ".", "s3://k:very-secret@lab/x"], ["pull", "s3://k:very-secret@lab/x", "x"]] {
        let rejected = fails(1, &command);
        assert!(rejected.contains("invalid address") && !rejected.contains("very-secret"), "{rejected}");
    }
    let folder = fails(1, &["index", "--run", "s3://lab/run"]);
    assert!(folder.contains("a run is a folder of this machine") && folder.contains("hint: pull it"), "{folder}");
}

/// Captures a shard into a folder of its own.
fn shard(dir: &Path, name: &str, share: &str) -> std::path::PathBuf {
    let (data, run) = (dir.join("data/data.jsonl"), dir.join(name));
    let mut sae = crate::tool::sae();
    harvest(&mut sae, data.to_str().unwrap(), &run, &["--shard", share]).output().map(succeeded).unwrap();
    run
}

fn push(bucket: &Bucket, from: &Path, to: &str) -> Output {
    bucket.sae(from).args(["push", "--json"]).arg(from).arg(to).output().unwrap()
}

#[test]
fn a_shard_is_in_the_bucket_once_whoever_makes_it_and_merges_from_there() {
    let dir = tempfile::tempdir().unwrap();
    data_set(&dir.path().join("data"), 9);
    let [one, two, again, other] = [("one", "1/2"), ("two", "2/2"), ("again", "1/2"), ("other", "2/2")]
        .map(|(name, share)| shard(dir.path(), name, share));
    let bucket = Bucket::new();
    // A worker dies in the middle; others have the same shard, made at another time.
    bucket.fail(|method, path| {
        (method == "PUT" && path.contains("samples.parquet"))
            .then_some(Trouble::Status(403, "<Error><Code>AccessDenied</Code></Error>"))
    });
    assert!(failed(&push(&bucket, &one, "s3://lab/job/1")).contains("AccessDenied"));
    bucket.recover();
    let begun = bucket.sae(dir.path()).args(["pull", "s3://lab/job/1"]).arg(dir.path().join("early")).output().unwrap();
    assert!(failed(&begun).contains("unfinished: a push has begun and not ended"));
    let mut record = record(&again);
    record["created"] = "2020-01-01T00:00:00Z".into();
    fs::write(again.join("run.json"), record.to_string()).unwrap();
    let continued = succeeded(push(&bucket, &again, "s3://lab/job/1"));
    assert_eq!(continued["existed"], false);
    assert!(continued["other_records"].as_array().unwrap().contains(&"run.json".into()), "{continued}");
    let first = succeeded(push(&bucket, &one, "s3://lab/job/1"));
    assert_eq!((&first["existed"], &first["other_records"]), (&true.into(), &Value::Array(Vec::new())));
    assert_eq!(bucket.get("job/1/run.json").unwrap(), fs::read(one.join("run.json")).unwrap(), "the first one decides");

    // Another shard, or objects that nobody has listed, are not replaced.
    let unequal = failed(&push(&bucket, &other, "s3://lab/job/1"));
    assert!(
        unequal.contains("with other data") && unequal.contains("other") && unequal.contains("s3://lab/job/1"),
        "{unequal}"
    );
    bucket.put("foreign/thesis.txt", "mine");
    assert!(failed(&push(&bucket, &one, "s3://lab/foreign")).contains("such as foreign/thesis.txt"));

    let merge = |name: &str, from: &[&str]| {
        let mut merge = bucket.sae(&dir.path().join("copies"));
        merge.args(["merge", "--json"]).args(from).arg("--run").arg(dir.path().join(name)).output().unwrap()
    };
    assert!(failed(&merge("early", &["s3://lab/job/"])).contains("shard 2/2 is missing"));
    // The answer to the last request is lost: the shard is there, and the same push says so.
    bucket.fail(|method, path| (method == "PUT" && path.contains("sae-files.json")).then_some(Trouble::Cut));
    let mut lost = bucket.sae(&two);
    lost.env("SAE_OBJECT_RETRY_SECONDS", "0").args(["push"]).arg(&two).arg("s3://lab/job/2");
    failed(&lost.output().unwrap());
    bucket.recover();
    assert_eq!(succeeded(push(&bucket, &two, "s3://lab/job/2"))["existed"], true);
    let mut answers = 0;
    bucket.fail(move |method, path| {
        answers += u32::from(method == "PUT" && path.contains("sae-files"));
        (method == "PUT" && path.contains("sae-files") && answers < 4).then_some(Trouble::Cut)
    });
    let finds_its_own = succeeded(push(&bucket, &two, "s3://lab/elsewhere"));
    assert_eq!(finds_its_own["existed"], false, "what it wrote itself was not there before");
    bucket.recover();
    succeeded(merge("merged", &["s3://lab/job/"]));
    json(&["merge", one.to_str().unwrap(), two.to_str().unwrap(), "--run", dir.path().join("local").to_str().unwrap()]);
    assert_eq!(files(&dir.path().join("merged")), files(&dir.path().join("local")));
}

#[test]
fn a_folder_in_a_bucket_that_lost_or_changed_an_object_is_not_pulled() {
    let dir = tempfile::tempdir().unwrap();
    let (bucket, folder) = (Bucket::new(), dir.path().join("folder"));
    fs::create_dir_all(folder.join("rows")).unwrap();
    // Larger than one part, so that it is sent and received in several.
    let large: Vec<u8> = (0..9_000_000u32).map(|n| (n / 7) as u8).collect();
    fs::write(folder.join("rows/large.bin"), &large).unwrap();
    fs::write(folder.join("README.md"), "rows").unwrap();
    let pull = |name: &str| {
        bucket.sae(dir.path()).args(["pull", "s3://lab/kept"]).arg(dir.path().join(name)).output().unwrap()
    };
    assert!(failed(&pull("none")).contains("expected a folder that was pushed completely"));
    let elsewhere = bucket.sae(dir.path()).args(["pull", "s3://other/kept"]).arg(dir.path().join("none")).output();
    assert!(failed(&elsewhere.unwrap()).contains("there is no such bucket: s3://other/kept"));
    let mut requests = 0;
    bucket.fail(move |method, path| {
        requests += u32::from(method == "PUT" && path.contains("partNumber"));
        (requests == 1 && method == "PUT" && path.contains("partNumber")).then_some(Trouble::Cut)
    });
    assert_eq!(succeeded(push(&bucket, &folder, "s3://lab/kept"))["bytes"], 9_000_004);
    bucket.recover();

    // A pull that ends early is continued.
    let mut parts = 0;
    bucket.fail(move |method, path| {
        parts += u32::from(method == "GET" && path.contains("large"));
        (parts > 1).then_some(Trouble::Status(403, ""))
    });
    failed(&pull("back"));
    bucket.recover();
    bucket.requests();
    assert!(pull("back").status.success());
    let reads = bucket.requests().iter().filter(|r| r.starts_with("GET /lab/kept/rows/large.bin")).count();
    assert_eq!((reads, files(&dir.path().join("back"))), (1, files(&folder)));
    assert!(pull("back").status.success(), "what is there already is no obstacle");

    let mut changed = large;
    changed[8_500_000] ^= 1;
    bucket.put("kept/rows/large.bin", changed);
    assert!(failed(&pull("changed")).contains("differs from the listing"));
    bucket.remove("kept/rows/large.bin");
    assert!(failed(&pull("lost")).contains("missing: s3://lab/kept/rows/large.bin"));
    let listing = String::from_utf8(bucket.get("kept/sae-files.json").unwrap()).unwrap();
    bucket.put("kept/sae-files.json", listing.replace("\"schema_version\": 1", "\"schema_version\": 9"));
    assert!(failed(&pull("newer")).contains("version 9"));
}

#[test]
fn parts_of_a_pass_are_reduced_from_a_bucket() {
    let dir = tempfile::tempdir().unwrap();
    let data = data_set(&dir.path().join("data"), 12);
    let (run, bucket) = (dir.path().join("run"), Bucket::new());
    let run_name = run.to_str().unwrap();
    harvest(&mut crate::tool::sae(), data.to_str().unwrap(), &run, &["--shard-tokens", "150"])
        .output()
        .map(succeeded)
        .unwrap();
    let train = ["train", "--run", run_name, "--hook", "layers.1", "--name", "base", "--device", "cpu"];
    json(&[&train[..], &["--batch", "64", "--steps", "4", "--expansion", "2"]].concat());
    let pass = |part: &str| {
        let mut pass = bucket.sae(&dir.path().join("copies"));
        pass.args([
            "pass",
            "index",
            "--json",
            "--device",
            "cpu",
            "--run",
            run_name,
            "--out",
            "s3://lab/parts/",
            "--part",
            part,
        ]);
        succeeded(pass.output().unwrap())
    };
    let part = pass("1/2");
    assert_eq!(part["existed"], false);
    let key = part["file"].as_str().and_then(|file| file.strip_prefix("s3://lab/")).expect("an address");
    assert!(bucket.get(key).is_some(), "{part}");
    let reduce = || {
        let mut reduce = bucket.sae(&dir.path().join("copies"));
        reduce.args(["reduce", "--json", "--device", "cpu", "--run", run_name, "s3://lab/parts/"]).output().unwrap()
    };
    let missing = failed(&reduce());
    assert!(missing.contains("1 part is missing: 2/2"), "{missing}");
    pass("2/2");
    assert_eq!(pass("1/2")["existed"], true, "a part that is in the bucket is not made again");
    succeeded(reduce());
    let reduced = files(&run.join("features"));
    fs::remove_dir_all(run.join("features")).unwrap();
    json(&["index", "--run", run_name, "--sae", "base", "--device", "cpu"]);
    assert_eq!(reduced, files(&run.join("features")));
}

#[test]
fn a_push_that_is_refused_or_whose_file_changes_leaves_the_folder_unfinished() {
    let dir = tempfile::tempdir().unwrap();
    let (bucket, folder) = (Bucket::new(), dir.path().join("folder"));
    fs::create_dir(&folder).unwrap();
    let file = folder.join("rows.bin");
    fs::write(&file, "rows").unwrap();
    bucket.fail(|method, path| {
        (method == "PUT" && path.contains("rows.bin"))
            .then_some(Trouble::Status(409, "<Error><Code>OperationAborted</Code></Error>"))
    });
    assert!(failed(&push(&bucket, &folder, "s3://lab/refused")).contains("conflicting request"));
    assert_eq!(bucket.get("refused/sae-files.json"), None);
    bucket.recover();
    succeeded(push(&bucket, &folder, "s3://lab/refused"));
    assert_eq!(bucket.get("refused/rows.bin").unwrap(), b"rows");

    // One object, and one in parts.
    for (to, bytes) in [("s3://lab/small", 4), ("s3://lab/large", 9_000_000)] {
        fs::write(&file, vec![1; bytes]).unwrap();
        let changing = file.clone();
        bucket.fail(move |method, path| {
            if method == "PUT" && path.contains("sae-files.begun") {
                fs::write(&changing, vec![2; bytes]).unwrap();
            }
            None
        });
        let changed = failed(&push(&bucket, &folder, to));
        assert!(changed.contains("the file changed while it was pushed"), "{changed}");
        bucket.recover();
        assert_eq!(bucket.get(&format!("{}/rows.bin", &to["s3://lab/".len()..])), None);
        let claimed = failed(&push(&bucket, &folder, to));
        assert!(claimed.contains("an unfinished push has claimed this folder with other data"), "{claimed}");
    }
}

/// The rows of LLaVA with these images.
fn rows_of(images: &[&str]) -> String {
    let row = |image: &&str| {
        let turns = [("human", "<image>\nWhat is this?"), ("gpt", "A square.")];
        let turns = turns.map(|(from, value)| serde_json::json!({ "from": from, "value": value }));
        serde_json::json!({ "image": image, "conversations": turns }).to_string() + "\n"
    };
    images.iter().map(row).collect()
}

#[test]
fn images_of_a_bucket_are_read_by_whatever_path_names_them() {
    let dir = tempfile::tempdir().unwrap();
    let (bucket, copies) = (Bucket::new(), dir.path().join("copies"));
    let data = data_set(&dir.path().join("set"), 1);
    let paths = ["./images/wide.png", "images//tall.png", "../set/images/square.png", "images/grey.png"];
    fs::write(&data, rows_of(&paths)).unwrap();
    bucket.put_folder("set", &dir.path().join("set"));
    let [here, there, bad] = ["here", "there", "bad"].map(|name| dir.path().join(name));
    harvest(&mut crate::tool::sae(), data.to_str().unwrap(), &here, &[]).output().map(succeeded).unwrap();
    let read = |run: &Path, more: &[&str]| {
        harvest(&mut bucket.sae(&copies), "s3://lab/set/data.jsonl", run, more).output().unwrap()
    };
    assert_eq!(succeeded(read(&there, &[]))["skipped_rows"], 0);
    assert_eq!(files(&there), files(&here));

    // What cannot be an image is the fault of its row.
    bucket.put("set/data.jsonl", rows_of(&["images/rgba.png", "../../../../etc/x.png", "images/palette.png"]));
    bucket.fail(|method, path| (method == "GET" && path.contains("palette")).then_some(Trouble::Size("300000000")));
    let report = succeeded(read(&bad, &[]));
    assert_eq!((&report["skipped_rows"], &report["samples"]), (&2.into(), &1.into()));
    let typo = dir.path().join("no-such-folder");
    let typo = failed(&read(&dir.path().join("typo"), &["--images-root", typo.to_str().unwrap()]));
    assert!(typo.contains("the images root is not a folder"), "{typo}");
}

#[test]
fn a_folder_of_a_bucket_is_copied_whatever_was_copied_of_it_before() {
    let dir = tempfile::tempdir().unwrap();
    let (bucket, here) = data_in_a_bucket(dir.path(), 3);
    succeeded(push(&bucket, &dir.path().join("data"), "s3://lab/kept"));
    let read = |copies: &str, data: &str, run: &str, variable: (&str, &str)| {
        let mut sae = bucket.sae(&dir.path().join(copies));
        sae.env(variable.0, variable.1);
        harvest(&mut sae, data, &dir.path().join(run), &[])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    };
    let end = |child: std::process::Child| child.wait_with_output().unwrap();
    let none = ("SAE_OBJECT_RETRY_SECONDS", "20");
    succeeded(end(read("a", "s3://lab/kept/data.jsonl", "file", none)));
    succeeded(end(read("a", "s3://lab/kept/", "folder", none)));
    assert_eq!(files(&dir.path().join("folder")), files(&here));
    // Two processes with the same copies.
    let both = ["one", "two"].map(|run| read("b", "s3://lab/kept/", run, none));
    for child in both {
        succeeded(end(child));
    }
    assert_eq!(files(&dir.path().join("one")), files(&dir.path().join("two")));

    // Objects in the place of folders.
    bucket.put("set/images/", "");
    succeeded(end(read("c", "s3://lab/set/", "marked", none)));
    assert_eq!(files(&dir.path().join("marked")), files(&here));
    bucket.put("set/images", "a file");
    let both = failed(&end(read("d", "s3://lab/set/", "both", none)));
    assert!(both.contains("an object has the name of a folder: set/images"), "{both}");

    for (name, value, said) in [
        ("SAE_OBJECT_CACHE_BYTES", "100", "more than the limit of 100"),
        ("SAE_OBJECT_CACHE_BYTES", "10GB", "expected a whole number of bytes"),
        ("SAE_OBJECT_RETRY_SECONDS", "5m", "expected a whole number of seconds"),
    ] {
        let rejected = failed(&end(read("e", "s3://lab/set/", "no", (name, value))));
        assert!(rejected.contains(said), "{rejected}");
    }
}
