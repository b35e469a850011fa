//! `sae probe` on rows with planted words: labels are learned and beat length, scores become a column that a filter takes and
//! that scoring keeps, and labels that cannot be learned from are rejected.

use crate::tool::{fails, json, tiny_model};
use crate::trees::square;
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};

/// 160 texts, each with a word for its severity. Unsafe ones say so in half of the cases.
fn rows(better: bool) -> Vec<Value> {
    let words = ["green field", "yellow card", "red alarm"];
    let row = |n: usize| {
        let severity = if better { 0 } else { n * 7 % 3 };
        let (filler, kind) = ("the small thing ".repeat(1 + n % 4), ["even", "odd"][n % 2]);
        json!({
            "id": format!("row-{n}"),
            "conversations": [
                { "from": "human", "value": format!("Question {n}?") },
                { "from": "gpt", "value": format!("{filler}{}", words[severity]) },
            ],
            "severity": severity, "unsafe": severity == 2, "rate": 1 - 2 * severity as i64, "set": n / 4,
            "noisy": (1 - 2 * severity as i64) * if (n / 4).is_multiple_of(5) { -1 } else { 1 }, "kind": kind, "same": true,
        })
    };
    (0..160).map(row).collect()
}

fn harvest(dir: &Path, name: &str, better: bool) -> PathBuf {
    let (data, run) = (dir.join(format!("{name}.jsonl")), dir.join(name));
    fs::write(&data, rows(better).iter().map(|row| format!("{row}\n")).collect::<String>()).unwrap();
    let model = tiny_model();
    let [model, data, of] = [&model, &data, &run].map(|path| path.to_str().unwrap());
    json(&["harvest", "--model", model, "--data", data, "--run", of, "--layers", "1"]);
    run
}

#[test]
fn planted_labels_are_learned_and_become_scores() {
    let dir = tempfile::tempdir().unwrap();
    let (run, better) = (harvest(dir.path(), "run", false), harvest(dir.path(), "better", true));
    let [of, better] = [&run, &better].map(|path| path.to_str().unwrap());
    let train = ["train", "--run", of, "--hook", "layers.1", "--name", "a", "--features", "256", "--k", "8"];
    json(&[&train[..], &["--batch", "256", "--steps", "150", "--lr", "3e-3"]].concat());
    let probe = |name: &str, kind: &str, more: &[&str]| {
        json(&[&["probe", "--run", of, "--name", name, "--kind", kind, "--part", "answer"][..], more].concat())
    };

    let cases: [(&str, &[&str], f64); 5] = [
        ("binary", &["--label", "unsafe", "--category", "kind"], 0.97),
        ("ordinal", &["--label", "severity"], 0.9),
        ("linear", &["--label", "rate"], 0.9),
        ("pair", &["--label", "rate", "--pair", "set"], 0.95),
        ("cost", &["--label", "rate", "--pair", "set"], 0.97),
    ];
    for (kind, more, least) in cases {
        let found = probe(kind, kind, more);
        let quality = &found["quality"];
        let [features, length] = ["features", "length"].map(|name| quality[name].as_f64().unwrap());
        assert!(features > least && length < features - 0.2, "{kind}: {found}");
        let (weighted, features) = (found["weighted"].as_array().unwrap(), found["features"].as_u64().unwrap());
        assert!((1..60).contains(&features) && weighted.len() as u64 == features, "{kind}: {found}");
        assert!((10..=30).contains(&found["path"].as_array().unwrap().len()));
    }
    let binary: Value = serde_json::from_slice(&fs::read(run.join("probes/a/binary.json")).unwrap()).unwrap();
    assert_eq!(binary["by_category"].as_array().unwrap().len(), 2);
    assert!(binary["brier"].as_f64().unwrap() < 0.1 && binary["fitted"]["calibration"].is_object());

    // The scores are a column, which scoring keeps, and a filter keeps what the label says.
    json(&["score", "--run", of, "--sae", "a"]);
    let kept = dir.path().join("kept");
    let filtered =
        json(&["filter", "--run", of, "--by", "probe_binary", "--keep", ">=0.5", "--out", kept.to_str().unwrap()]);
    let rows = filtered["kept"]["rows"].as_u64().unwrap();
    assert!((50..=58).contains(&rows), "{filtered}");

    // In a fifth of the sets the preferences are flipped. The audit says so, and the margins find them.
    let noisy = probe("noisy", "pair", &["--label", "noisy", "--pair", "set"]);
    let audit = &noisy["audit"];
    let [low, high] = [0, 1].map(|end| audit["interval"][end].as_f64().unwrap());
    assert!(low <= 0.2 && 0.2 <= high && high - low < 0.2, "{noisy}");
    assert!(audit["expected_auc"].as_f64().unwrap() > 0.9 && noisy["suspects"].as_array().unwrap().len() == 10);
    json(&["score", "--run", of, "--sae", "a"]);
    let (plausible, dropped) = (dir.path().join("plausible"), dir.path().join("dropped"));
    let folders = ["--out", plausible.to_str().unwrap(), "--dropped", dropped.to_str().unwrap()];
    json(&[&["filter", "--run", of, "--by", "margin_noisy", "--keep", "auto"][..], &folders].concat());
    let flipped = |folder: &Path| {
        let text = fs::read_to_string(folder.join("data/run.jsonl")).unwrap();
        let rows: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        (rows.iter().filter(|row| row["set"].as_u64().unwrap().is_multiple_of(5)).count(), rows.len())
    };
    let ((wrong, kept), (found, gone)) = (flipped(&plausible), flipped(&dropped));
    assert!(
        kept >= 100 && wrong <= 8 && found >= 24 && gone <= 50,
        "{wrong} of {kept} kept, {found} of {gone} dropped"
    );

    // The rejected answers are those with all severities; where they are harmless too, the answers are equal.
    let train =
        json(&["import", run.join("saes/a").to_str().unwrap(), "--run", better, "--name", "a", "--hook", "layers.1"]);
    assert!(train.is_object());
    let pairs = json(&[
        "probe",
        "--run",
        better,
        "--sae",
        "a",
        "--name",
        "help",
        "--kind",
        "pair",
        "--rejected",
        of,
        "--part",
        "answer",
    ]);
    assert_eq!(pairs["examples"], json!(160));
    assert!(pairs["quality"]["features"].as_f64().unwrap() > 0.8, "{pairs}");

    // The other run is scored by the probe: all of its samples are harmless.
    let file = run.join("probes/a/binary.json");
    let scored = json(&["score", "--run", better, "--sae", "a", "--probe", file.to_str().unwrap()]);
    assert!(scored["columns"].as_array().unwrap().contains(&json!("probe_binary")), "{scored}");
    let plan = ["filter", "--run", better, "--sae", "a", "--by", "probe_binary", "--keep", ">=0.5"];
    let message = fails(1, &[&plan[..], &["--out", dir.path().join("none").to_str().unwrap()]].concat());
    assert!(message.contains("no sample would be kept"), "{message}");

    for (more, said) in [
        (&["--kind", "binary"][..], "needs the field with the labels"),
        (&["--kind", "pair", "--label", "rate"], "needs the field of the sets that are compared"),
        (&["--kind", "binary", "--label", "severity"], "severity has values that are not true or false"),
        (&["--kind", "linear", "--label", "kind"], "kind has values that are not numbers: even, odd"),
        (&["--kind", "linear", "--label", "nothing"], "no row has a field nothing (rows have"),
        (&["--kind", "binary", "--label", "same"], "same: yes has 160, no has 0; each needs 20 samples or more"),
        (&["--kind", "pair", "--label", "same", "--pair", "set"], "same: pairs has 0"),
        (&["--kind", "ordinal", "--label", "kind=even<other"], "kind has values that are not one of even, other: odd"),
    ] {
        let message = fails(1, &[&["probe", "--run", of, "--name", "wrong"][..], more].concat());
        assert!(message.contains(said), "{more:?}: {message}");
    }
}

#[test]
fn judged_rows_do_not_count_if_the_probe_has_seen_them_or_their_image() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("images")).unwrap();
    // Rows 0 to 79 are labeled, and 80 to 159 are judged. Their images are different ones, but for that of the first labeled row.
    let image = |n: usize| if n == 0 { 40 } else { n / 80 * 40 + n % 20 };
    for n in 0..60u8 {
        square(&dir.path().join(format!("images/{n}.bmp")), [4 * n, 255 - 4 * n, 7 * (n % 30)]);
    }
    let row = |n: usize| {
        let harmful = n * 7 % 3 == 2;
        let mut row = json!({
            "id": format!("row-{n}"), "image": format!("images/{}.bmp", image(n)),
            "conversations": [
                { "from": "human", "value": format!("<image>\nQuestion {n}?") },
                { "from": "gpt", "value": if harmful { "a red alarm" } else { "a green field" } },
            ],
        });
        row[if n < 80 { "unsafe" } else { "harm" }] = if n < 80 { json!(harmful) } else { json!(0) };
        row
    };
    let (data, run) = (dir.path().join("rows.jsonl"), dir.path().join("run"));
    fs::write(&data, (0..160).map(|n| format!("{}\n", row(n))).collect::<String>()).unwrap();
    let [model, data, of] = [&tiny_model(), &data, &run].map(|path| path.to_str().unwrap().to_owned());
    json(&["harvest", "--model", &model, "--data", &data, "--run", &of, "--layers", "1"]);
    let train = ["train", "--run", &of, "--hook", "layers.1", "--name", "a", "--features", "256", "--k", "8"];
    json(&[&train[..], &["--batch", "256", "--steps", "100", "--lr", "3e-3"]].concat());
    json(&["score", "--run", &of]);
    json(&["probe", "--run", &of, "--name", "harm", "--kind", "binary", "--label", "unsafe", "--part", "answer"]);
    let out = dir.path().join("kept");
    let by = ["filter", "--run", &of, "--by", "random", "--keep", "140", "--budget", "probe_harm<=0.9"];
    let promise = |judged: &'static str, out: &Path| {
        [&by[..], &["--promise", "60%", "--judged", judged, "--out"]]
            .concat()
            .into_iter()
            .map(String::from)
            .chain([out.to_str().unwrap().to_owned()])
            .collect::<Vec<_>>()
    };
    let arguments = promise("harm", &out);
    let report = json(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
    // Four judged rows show the image of the first labeled row.
    assert_eq!((&report["judged_left_out"], &report["kept"]["rows"]), (&json!(4), &json!(140)), "{report}");
    let never = dir.path().join("never");
    let arguments = promise("unsafe", &never);
    let said = fails(1, &arguments.iter().map(String::as_str).collect::<Vec<_>>());
    assert!(said.contains("probes of the budget were fitted to 80 of them"), "{said}");
    assert!(!never.exists());
}
