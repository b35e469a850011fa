//! The demo on the bundled model and data, shortened: what it reports, draws and leaves behind.

use crate::tool::{repository, sae, said};
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::Command;

/// Enough for features that stand for words.
const STEPS: &str = "120";

fn demo(run: &Path) -> Command {
    let mut command = sae();
    command.args(["demo", "--steps", STEPS, "--seeds", "2", "--run"]).arg(run);
    command.arg("--assets").arg(repository("assets"));
    command
}

fn stdout(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_demo_ends_in_its_report() {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("run");
    let found: Value = serde_json::from_str(&stdout(demo(&run).arg("--json"))).unwrap();
    let captions = &found["captions"];
    assert_eq!((&captions["all"], &captions["swapped"]), (&843.into(), &210.into()));
    judged_against_chance(captions);
    the_filtered_rows_are_those_of_the_report(&run, captions);
    words_have_features(&found["recognized"]);
    let pictures = ["scores.png", "saes/seed-0/curves.png", "features.png"].map(|name| run.join(name));
    let read = || pictures.each_ref().map(|path| fs::read(path).unwrap());
    let drawn = read();
    assert!(drawn.iter().all(|png| png.starts_with(b"\x89PNG") && png.len() > 5_000));

    // Again, as text and on one thread: finished steps are kept, and the figures and pictures are the same.
    let text = stdout(demo(&run).env("RAYON_NUM_THREADS", "1"));
    assert!(drawn == read(), "pictures differ");
    for judged in captions["scores"].as_array().unwrap() {
        let auc = format!("{:.3}", judged["auc"].as_f64().unwrap());
        assert!(text.contains(&auc), "{auc} in {text}");
    }
    let guide = fs::read_to_string(repository("docs/book/src/guides/first-run.md")).unwrap();
    for heading in headings(&text) {
        assert!(guide.contains(&heading), "the guide's copy of the report lacks {heading:?}");
    }
    let (differ, chosen) = choices_that_differ(&run);
    assert!(chosen > 10_000, "{chosen} are too few to count");
    assert_eq!(differ, 0, "of {chosen} choices");
    scoring_again_keeps_the_weights(&run);
}

/// The score that is recommended does better than chance even here; `random` does not.
fn judged_against_chance(captions: &Value) {
    let judged = captions["scores"].as_array().unwrap();
    let names: Vec<_> = judged.iter().map(|judged| judged["score"].as_str().unwrap()).collect();
    assert_eq!(names, ["pmi_blank", "pmi", "cosine_paper", "l0_paper", "co_l0_paper", "random"]);
    for judged in judged {
        let [auc, low, high] =
            [&judged["auc"], &judged["interval"][0], &judged["interval"][1]].map(|v| v.as_f64().unwrap());
        assert!(0.0 < low && low < auc && auc < high && high < 1.0 && high - low < 0.15, "{judged}");
        assert_eq!((judged["by_seed"].as_array().unwrap().len(), &judged["by_seed"][0]), (2, &judged["auc"]));
        match judged["score"].as_str().unwrap() {
            "pmi_blank" => assert!(low > 0.6, "{judged}"),
            "random" => assert!(low < 0.5 && high > 0.5, "{judged}"),
            _ => (),
        }
    }
}

/// Counted in the files that the filter wrote.
fn the_filtered_rows_are_those_of_the_report(run: &Path, captions: &Value) {
    let kept = &captions["kept"][0];
    assert_eq!(kept["score"], "pmi_blank");
    let count = |side: &str| {
        let rows = fs::read_to_string(run.join(side).join("data/constructed-swapped.jsonl")).unwrap();
        let rows: Vec<Value> = rows.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        [rows.len(), rows.iter().filter(|row| row["swapped"] == true).count()]
    };
    let ([kept_rows, kept_wrong], [dropped_rows, dropped_wrong]) = (count("kept"), count("dropped"));
    assert_eq!((&kept["samples"], &kept["swapped"]), (&kept_rows.into(), &kept_wrong.into()));
    assert_eq!((kept_rows + dropped_rows, kept_wrong + dropped_wrong), (843, 210));
    let share = |wrong: usize, rows: usize| wrong as f64 / rows as f64;
    assert!(share(dropped_wrong, dropped_rows) > 1.5 * share(kept_wrong, kept_rows), "{kept}");
}

fn words_have_features(recognized: &Value) {
    let shown = recognized["shown"].as_array().unwrap();
    assert!(!shown.is_empty() && shown.len() as u64 <= recognized["recognizable"].as_u64().unwrap(), "{recognized}");
    let mut features: Vec<_> = shown.iter().map(|word| &word["image"]["feature"]).collect();
    features.dedup();
    assert_eq!(features.len(), shown.len(), "each feature is shown once");
    for word in shown {
        let number = |side: &str, what: &str| word[side][what].as_f64().unwrap();
        assert!(number("image", "correlation") > number("image", "chance"), "{word}");
        assert!(number("text", "share") >= 0.5 && number("text", "share") > number("text", "base"), "{word}");
    }
}

/// The lines of a report that begin a part, up to their first figure or colon: what follows depends on the run.
fn headings(text: &str) -> Vec<String> {
    let parts = text.split("\n\n").filter_map(|part| part.lines().next());
    parts
        .map(|line| line.split(|c: char| c.is_ascii_digit() || c == ':').next().unwrap().trim_end().to_owned())
        .collect()
}

/// `sae score` with its defaults writes the weights that the demo's index has, not others and not none.
fn scoring_again_keeps_the_weights(run: &Path) {
    let path = run.join("features/seed-0/features.parquet");
    let read = || sae_core::analysis::index::read_features(&path).unwrap();
    let before = read();
    let weighted = before.iter().filter(|row| row.weight_paper.is_some() && row.weight_corrected.is_some()).count();
    assert!(weighted > 10, "{weighted} features have weights");
    stdout(sae().args(["score", "--sae", "seed-0", "--run"]).arg(run));
    assert_eq!(before, read());
}

/// How often the integer product's choice differs from that of `f32`, on a real model's activations with their loud image
/// positions and on trained weights of unequal norms: never, since its margin is proven (see `sae_core::autoencoder::kernel`).
fn choices_that_differ(run: &Path) -> (usize, usize) {
    use sae_core::autoencoder::kernel::{Panels, Rule, select};
    use sae_core::vector;
    let run = sae_core::Run::open(run).unwrap();
    let weights = sae_core::autoencoder::formats::load(&run.sae_dir("seed-0")).unwrap().weights;
    let store = sae_core::store::Store::open(&run, "layers.4").unwrap();
    let (mut x, d) = (Vec::new(), weights.d_in);
    store.shard(0).unwrap().read(0..600, &mut x);
    let panels = Panels::new(&weights.w_enc, d);
    let (mut differ, mut chosen) = (0, 0);
    for k in [8, 32, 128] {
        let found = select(&x, &weights.w_enc, &weights.b_enc, None, &panels, Rule::TopK(k));
        for (r, x) in x.chunks(d).enumerate() {
            let p = |f: usize| vector::dot(x, &weights.w_enc[f * d..(f + 1) * d]) + weights.b_enc[f];
            let mut order: Vec<(f32, u32)> = (0..weights.d_sae).map(|f| (p(f), f as u32)).collect();
            order.retain(|(p, _)| *p > 0.0);
            order.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
            order.truncate(k);
            chosen += order.len();
            differ += order.iter().filter(|(_, f)| !found.row(r).0.contains(f)).count();
        }
    }
    (differ, chosen)
}
