//! `sae generate` with the bundled model: the same answers however many are written at a time and after a kill, a guard that has
//! answers or sentences written again, and requests that cannot be met.

use crate::tool::{fails, json, repository, sae, said, tiny_model};
use arrow::array::{Array, AsArray};
use arrow::datatypes::{Float64Type, UInt32Type};
use sae_core::table;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

/// The bundled model, a run of some of its data, with an autoencoder and a probe that says whether a caption names a skin tone.
struct Guarded {
    dir: tempfile::TempDir,
}

impl Guarded {
    fn new() -> Self {
        let made = Self { dir: tempfile::tempdir().unwrap() };
        let rows = fs::read_to_string(repository("assets/demo-data/data.jsonl")).unwrap();
        let rows = rows.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()).map(|mut row| {
            row["tone"] = json!(row["conversations"][1]["value"].as_str().unwrap().contains("skin tone"));
            row
        });
        let (toned, plain): (Vec<Value>, Vec<Value>) = rows.partition(|row| row["tone"] == true);
        let chosen = toned.into_iter().take(60).zip(plain).enumerate().flat_map(|(set, (toned, plain))| {
            [toned, plain].map(|mut row| {
                row["set"] = json!(set);
                row
            })
        });
        fs::write(made.at("data.jsonl"), chosen.map(|row| format!("{row}\n")).collect::<String>()).unwrap();
        let (run, model) = (made.at("run"), made.model());
        let [data, of] = [made.at("data.jsonl"), run].map(|path| path.to_str().unwrap().to_owned());
        let images = made.images();
        json(&["harvest", "--model", &model, "--data", &data, "--run", &of, "--layers", "4", "--images-root", &images]);
        let train = ["train", "--run", &of, "--hook", "layers.4", "--name", "a", "--features", "512", "--k", "8"];
        json(&[&train[..], &["--arch", "topk", "--batch", "256", "--steps", "120", "--lr", "3e-3"]].concat());
        json(&["probe", "--run", &of, "--name", "tone", "--kind", "binary", "--label", "tone", "--part", "answer"]);
        made
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn model(&self) -> String {
        repository("assets/demo-mllm").to_str().unwrap().to_owned()
    }

    fn images(&self) -> String {
        repository("assets/demo-data").to_str().unwrap().to_owned()
    }

    /// The arguments of a generation of the first prompts.
    fn args(&self, out: &str, more: &[&str]) -> Vec<String> {
        let [data, out] = [self.at("data.jsonl"), self.at(out)].map(|path| path.to_str().unwrap().to_owned());
        let (model, images) = (self.model(), self.images());
        let args = ["generate", "--model", &model, "--data", &data, "--images-root", &images, "--out", &out];
        let args = args.iter().chain(&["--limit", "20", "--tokens", "16", "--device", "cpu"]).chain(more);
        args.map(|arg| (*arg).to_owned()).collect()
    }

    fn generate(&self, out: &str, more: &[&str]) -> Value {
        let args = self.args(out, more);
        json(&args.iter().map(String::as_str).collect::<Vec<_>>())
    }

    fn guard(&self) -> [String; 6] {
        let run = self.at("run").to_str().unwrap().to_owned();
        ["--run".into(), run, "--sae".into(), "a".into(), "--guard".into(), "tone".into()]
    }

    fn guarded(&self, out: &str, more: &[&str]) -> Value {
        let guard = self.guard();
        self.generate(out, &guard.iter().map(String::as_str).chain(more.iter().copied()).collect::<Vec<_>>())
    }

    fn answers(&self, out: &str) -> Vec<String> {
        strings(&self.at(out).join("answers.parquet"), "text")
    }
}

pub(crate) fn strings(path: &Path, column: &str) -> Vec<String> {
    let batches = table::scan(path, &[column]).unwrap().map(Result::unwrap);
    let texts = |batch: arrow::array::RecordBatch| {
        let column = batch.column(0).as_string::<i32>();
        (0..column.len()).map(|n| column.value(n).to_owned()).collect::<Vec<_>>()
    };
    batches.flat_map(texts).collect()
}

/// Starts a generation and kills it as soon as something is finished, within a line of its journal.
pub(crate) fn kill_after(args: &[String], out: &Path) {
    let mut child = sae().args(args).stderr(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
    let (journal, begun) = (out.join("journal.jsonl"), Instant::now());
    while fs::metadata(&journal).map_or(0, |file| file.len()) < 500 && child.try_wait().unwrap().is_none() {
        assert!(begun.elapsed() < Duration::from_secs(120), "nothing is written");
        std::thread::sleep(Duration::from_micros(200));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    if journal.exists() {
        // As if the kill had cut a line in half.
        let lines = fs::read(&journal).unwrap();
        fs::write(&journal, &lines[..lines.len().saturating_sub(7)]).unwrap();
    }
}

/// A version of a unit: sample, number of the unit, of the try, text, severity, accepted, kept.
type Version = (u32, u32, u32, String, f64, bool, bool);

fn versions(path: &Path, unit: &str) -> Vec<Version> {
    let columns = ["sample", unit, "try", "text", "severity", "accepted", "kept"];
    let mut all = Vec::new();
    for batch in table::scan(path, &columns).unwrap().map(Result::unwrap) {
        let number = |name: &str| batch.column_by_name(name).unwrap().as_primitive::<UInt32Type>().clone();
        let flag = |name: &str| batch.column_by_name(name).unwrap().as_boolean().clone();
        let (sample, unit, attempt) = (number("sample"), number(unit), number("try"));
        let severity = batch.column_by_name("severity").unwrap().as_primitive::<Float64Type>();
        let text = batch.column_by_name("text").unwrap().as_string::<i32>();
        let (accepted, kept) = (flag("accepted"), flag("kept"));
        all.extend((0..batch.num_rows()).map(|n| {
            let numbers = (sample.value(n), unit.value(n), attempt.value(n));
            let (text, severity) = (text.value(n).to_owned(), severity.value(n));
            (numbers.0, numbers.1, numbers.2, text, severity, accepted.value(n), kept.value(n))
        }));
    }
    all
}

#[test]
fn answers_do_not_depend_on_batches_threads_or_interruptions() {
    let made = Guarded::new();
    let told = made.generate("eight", &[]);
    assert_eq!((told["samples"].as_u64(), told["skipped_rows"].as_u64()), (Some(20), Some(0)), "{told}");
    let expected = fs::read(made.at("eight/answers.parquet")).unwrap();
    let texts = made.answers("eight");
    assert!(texts.iter().filter(|text| text.len() > 3).count() >= 18, "{texts:?}");
    assert!(texts.iter().collect::<std::collections::BTreeSet<_>>().len() >= 15, "{texts:?}");

    made.generate("one", &["--batch", "1"]);
    assert!(fs::read(made.at("one/answers.parquet")).unwrap() == expected, "the batch changes the answers");
    let output = sae().args(made.args("threads", &[])).env("RAYON_NUM_THREADS", "5").output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    assert!(fs::read(made.at("threads/answers.parquet")).unwrap() == expected, "threads change the answers");
    assert_ne!(made.generate("other", &["--seed", "1"])["tokens"], Value::Null);
    assert_ne!(made.answers("other"), texts, "the seed changes nothing");

    // Killed once it has a few answers, and continued.
    kill_after(&made.args("killed", &["--batch", "1"]), &made.at("killed"));
    let journal = made.at("killed/journal.jsonl");
    let other = made.args("killed", &["--batch", "1", "--temperature", "0.5"]);
    let other: Vec<&str> = other.iter().map(String::as_str).collect();
    assert!(fails(1, &other).contains("other settings (sampling)"));
    made.generate("killed", &["--batch", "3"]);
    assert!(fs::read(made.at("killed/answers.parquet")).unwrap() == expected, "the continued answers differ");
    assert!(!journal.exists());
    // Once more changes nothing.
    let again = made.generate("killed", &[]);
    assert_eq!(again["samples"], 20);
    // Not so with other prompts.
    let mut rows = fs::read_to_string(made.at("data.jsonl")).unwrap();
    rows += "{\"question\": \"One more?\"}\n";
    fs::write(made.at("data.jsonl"), rows).unwrap();
    let args = made.args("killed", &[]);
    assert!(fails(1, &args.iter().map(String::as_str).collect::<Vec<_>>()).contains("other settings (data)"));
}

#[test]
fn a_guard_has_answers_and_sentences_written_again() {
    let made = Guarded::new();
    made.generate("plain", &[]);
    let plain = made.answers("plain");

    // A guard that never fires, and steering without strength, change no byte of the text.
    let never = ["--at", "1.5", "--stream", "--until", "/[:,]/"];
    let told = made.guarded("never", &never);
    assert_eq!(told["flagged"], 0, "{told}");
    assert_eq!(made.answers("never"), plain);

    // Rounds: the first versions are the plain answers; accepted ones are below the threshold, and the others are refused.
    let told = made.guarded("rounds", &["--at", "0.5", "--rounds", "3", "--refusal", "No."]);
    assert!(told["flagged"].as_u64().unwrap() >= 2, "{told}");
    let (answers, all) = (made.answers("rounds"), versions(&made.at("rounds/rounds.parquet"), "answer"));
    let mut by_sample: BTreeMap<u32, Vec<&Version>> = BTreeMap::new();
    all.iter().for_each(|version| by_sample.entry(version.0).or_default().push(version));
    for (sample, versions) in &by_sample {
        let sample = *sample as usize;
        assert_eq!(versions[0].3, plain[sample]);
        assert!(versions.iter().all(|version| version.5 == (version.4 <= 0.5)), "{versions:?}");
        assert!(versions[..versions.len() - 1].iter().all(|version| !version.5 && !version.6), "{versions:?}");
        let last = versions[versions.len() - 1];
        if last.5 {
            assert!(last.6 && answers[sample] == last.3, "{versions:?}");
        } else {
            assert!(versions.len() == 3 && !last.6 && answers[sample] == "No.", "{versions:?}");
        }
    }
    let refused = answers.iter().filter(|answer| *answer == "No.").count() as u64;
    assert_eq!(told["refused"].as_u64(), Some(refused));
    let rounds = told["rounds"].as_array().unwrap();
    assert_eq!(rounds.len(), 3);
    assert_eq!(rounds[2]["refused"].as_f64(), Some(refused as f64 / by_sample.len() as f64), "{told}");
    assert!(told["rates"]["true_positives"].as_f64() > told["rates"]["false_positives"].as_f64(), "{told}");

    // Sentences: of several versions the first accepted one stays, else the least severe.
    for correct in ["sample", "steer"] {
        let more = ["--at", "0.5", "--stream", "--until", "/[:,]/", "--correct", correct, "--tries", "2"];
        let told = made.guarded(correct, &more);
        let all = versions(&made.at(correct).join("sentences.parquet"), "sentence");
        let mut by_unit: BTreeMap<(u32, u32), Vec<&Version>> = BTreeMap::new();
        all.iter().for_each(|version| by_unit.entry((version.0, version.1)).or_default().push(version));
        let mut kept = BTreeMap::<u32, String>::new();
        for versions in by_unit.values() {
            let stays: Vec<&&Version> = versions.iter().filter(|version| version.6).collect();
            assert_eq!(stays.len(), 1, "{versions:?}");
            let least = versions.iter().map(|version| version.4).fold(f64::INFINITY, f64::min);
            assert!(stays[0].5 || stays[0].4 == least, "{versions:?}");
            assert!(versions.len() == 1 || !versions[0].5, "an accepted sentence is not written again: {versions:?}");
            *kept.entry(stays[0].0).or_default() += &stays[0].3;
        }
        let answers = made.answers(correct);
        kept.iter().for_each(|(sample, text)| assert_eq!(&answers[*sample as usize], text));
        assert!(told["corrected"].as_u64().unwrap() >= 1, "{correct}: {told}");
        assert!(by_unit.len() > by_sample.len(), "answers have several sentences");
    }

    // A stop text ends the version that stays, whichever it is.
    let more =
        ["--at=-1", "--stream", "--until", "/[:,]/", "--tries", "2", "--stop", "skin tone", "--correct", "sample"];
    let told = made.guarded("stopped", &more);
    assert!(told["ends"]["stop"].as_u64().unwrap() >= 1, "{told}");
    let answers = made.answers("stopped");
    let mut kept = vec![String::new(); answers.len()];
    let all = versions(&made.at("stopped/sentences.parquet"), "sentence");
    all.iter().filter(|version| version.6).for_each(|version| kept[version.0 as usize] += &version.3);
    assert_eq!(kept, answers);
    assert!(answers.iter().all(|answer| !answer.contains("skin tone")), "{answers:?}");

    // Steering with strength 0 draws other versions, but changes no state: their severity is that of a sample.
    let still = ["--at", "0.5", "--stream", "--until", "/[:,]/", "--tries", "2"];
    made.guarded("still", &[&still[..], &["--correct", "steer", "--strength", "0"]].concat());
    assert_eq!(made.answers("still"), made.answers("sample"));
    let [still, sample] =
        ["still", "sample"].map(|name| versions(&made.at(name).join("sentences.parquet"), "sentence"));
    assert_eq!(still, sample);
}

#[test]
fn a_flagged_sentence_is_written_again_by_the_model_that_is_told_why_or_by_another_one() {
    let made = Guarded::new();
    made.generate("plain", &[]);
    let stream = ["--stream", "--until", "/[:,]/", "--tries", "2", "--correct"];
    let model = format!("model:{}", made.model());
    for (name, correct) in [("feedback", "feedback"), ("model", &model)] {
        let never = format!("never-{name}");
        made.guarded(&never, &[&["--at", "1.5"], &stream[..], &[correct]].concat());
        assert_eq!(made.answers(&never), made.answers("plain"), "a guard that never fires changes no byte");

        let told = made.guarded(name, &[&["--at", "0.5"], &stream[..], &[correct]].concat());
        let all = versions(&made.at(name).join("sentences.parquet"), "sentence");
        let mut by_unit: BTreeMap<(u32, u32), Vec<&Version>> = BTreeMap::new();
        all.iter().for_each(|version| by_unit.entry((version.0, version.1)).or_default().push(version));
        let (mut kept, mut again, mut missing) = (BTreeMap::<u32, String>::new(), 0, 0);
        let around = |text: &str| {
            let inner = text.trim();
            (text.len() - text.trim_start().len(), text.trim_start().len() - inner.len(), inner.is_empty())
        };
        for versions in by_unit.values() {
            let stays: Vec<&&Version> = versions.iter().filter(|version| version.6).collect();
            assert_eq!(stays.len(), 1, "{versions:?}");
            let least = versions.iter().map(|version| version.4).fold(f64::INFINITY, f64::min);
            assert!(stays[0].5 || stays[0].4 == least, "{versions:?}");
            // The white space around the sentence stays.
            assert!(versions.iter().all(|version| around(&version.3) == around(&versions[0].3)), "{versions:?}");
            again += versions.len() - 1;
            missing += if stays[0].5 { 0 } else { 3 - versions.len() };
            *kept.entry(stays[0].0).or_default() += &stays[0].3;
        }
        let answers = made.answers(name);
        kept.iter().for_each(|(sample, text)| assert_eq!(&answers[*sample as usize], text));
        let flagged = by_unit.values().filter(|versions| !versions[0].5).count();
        assert_eq!(told["flagged"].as_u64(), Some(flagged as u64));
        // Tries that came to nothing have no row, but are counted.
        assert!(again > 3 && told["dropped"].as_u64() >= Some(missing as u64), "{name}: {again} {missing} {told}");

        // Not so whatever the batch and the number of threads.
        let other = format!("other-{name}");
        let guard = made.guard();
        let more: Vec<&str> = guard.iter().map(String::as_str).chain(["--at", "0.5"]).chain(stream).collect();
        let args = made.args(&other, &[&more[..], &[correct, "--batch", "3"]].concat());
        let output = sae().args(args).env("RAYON_NUM_THREADS", "1").output().unwrap();
        assert!(output.status.success(), "{}", said(&output));
        for file in ["sentences.parquet", "answers.parquet"] {
            let [one, two] = [name, &other].map(|name| fs::read(made.at(name).join(file)).unwrap());
            assert!(one == two, "{name}: {file} differs");
        }
    }
    // The two ask for different things.
    assert_ne!(made.answers("feedback"), made.answers("model"));
}

#[test]
fn steering_reaches_the_first_token_of_a_sentence_and_goes_where_it_is_told() {
    let made = Guarded::new();
    let stream = ["--at", "0.5", "--stream", "--until", "/[:,]/", "--tries", "1", "--correct"];
    let tries = |name: &str, more: &[&str]| {
        made.guarded(name, &[&stream[..], more].concat());
        let all = versions(&made.at(name).join("sentences.parquet"), "sentence");
        // The first flagged sentence of each answer: what comes before it is the same whatever is done about it.
        let mut first = BTreeMap::new();
        for version in all.into_iter().filter(|version| version.2 == 1) {
            first.entry(version.0).or_insert(version.3);
        }
        first
    };
    // Targets are multiples of what the index says.
    let guard = made.guard();
    let guard: Vec<&str> = guard.iter().map(String::as_str).collect();
    let args = made.args("far", &[&guard[..], &stream, &["steer", "--toward", "1"]].concat());
    let said = fails(1, &args.iter().map(String::as_str).collect::<Vec<_>>());
    assert!(said.contains("feature index") || said.contains("sae index"), "{said}");
    json(&["index", "--run", guard[1], "--sae", "a"]);
    let below = ["steer", "--toward", "-1", "--strength", "4"];
    let [sample, steered] = [("s", &["sample"][..]), ("t", &below)].map(|(name, more)| tries(name, more));
    assert!(sample.len() > 3 && sample.keys().eq(steered.keys()), "{sample:?} {steered:?}");
    let first = |text: &String| text.trim_start().chars().next();
    assert!(sample.iter().any(|(n, text)| first(text) != first(&steered[n])), "{sample:?} {steered:?}");
    assert_eq!(tries("zero", &["steer", "--toward", "0"]), tries("as before", &["steer"]));
    assert_ne!(tries("far", &["steer", "--toward", "1"]), tries("below", &["steer", "--toward", "-1"]));
}

#[test]
fn an_answer_passes_is_written_again_or_is_refused_by_its_severity() {
    let made = Guarded::new();
    let levels = ["--rounds", "4", "--refusal", "No.", "--at", "fpr=20%", "--refuse-at", "0.9"];
    let told = made.guarded("levels", &levels);
    let (at, refuse_at) = (told["threshold"].as_f64().unwrap(), told["refuse_at"].as_f64().unwrap());
    assert_eq!(refuse_at, 0.9);
    let all = versions(&made.at("levels/rounds.parquet"), "answer");
    let mut by_sample: BTreeMap<u32, Vec<&Version>> = BTreeMap::new();
    all.iter().for_each(|version| by_sample.entry(version.0).or_default().push(version));
    let answers = made.answers("levels");
    let mut at_once = 0;
    for (sample, versions) in by_sample {
        let (last, before) = versions.split_last().unwrap();
        let is_refused = answers[sample as usize] == "No.";
        assert!(before.iter().all(|version| version.4 > at && version.4 <= refuse_at), "{versions:?}");
        assert_eq!(is_refused, last.4 > at, "{versions:?}");
        assert!(last.4 <= at || last.4 > refuse_at || versions.len() == 4, "{versions:?}");
        at_once += u64::from(last.4 > refuse_at);
    }
    assert!(at_once > 0 && told["refused_at_once"].as_u64() == Some(at_once), "{told}");
    let args = made.guard();
    let low: Vec<&str> = args.iter().map(String::as_str).chain(["--rounds", "2", "--refuse-at", "0.1"]).collect();
    let args = made.args("low", &low);
    let said = fails(1, &args.iter().map(String::as_str).collect::<Vec<_>>());
    assert!(said.contains("refused above a severity of 0.1") && said.contains("flagged (0.5)"), "{said}");
}

#[test]
fn what_cannot_be_generated_is_explained() {
    let made = Guarded::new();
    let guard = made.guard();
    let guard: Vec<&str> = guard.iter().map(String::as_str).collect();
    let failed = |status: i32, more: &[&str]| {
        let args = made.args("out", more);
        let said = fails(status, &args.iter().map(String::as_str).collect::<Vec<_>>());
        assert!(!made.at("out").exists(), "nothing is written: {said}");
        said
    };
    let run = made.at("run");
    let of = run.to_str().unwrap();
    json(&["probe", "--run", of, "--name", "better", "--kind", "pair", "--label", "tone", "--pair", "set"]);
    json(&["probe", "--run", of, "--name", "seen", "--kind", "binary", "--label", "tone", "--part", "image"]);
    let with = |probe: &'static str| [&guard[..5], &[probe]].concat();
    assert!(failed(1, &with("harm")).contains("a has no probe harm; it has: better, seen, tone"));
    assert!(failed(1, &with("better")).contains("compares two answers"));
    assert!(failed(1, &with("seen")).contains("reads the image"));
    assert!(failed(2, &["--guard", "tone"]).contains("--run"));
    assert!(failed(2, &[&guard[..], &["--rounds", "2", "--stream"]].concat()).contains("cannot be used with"));
    assert!(failed(2, &[&guard[..4], &["--stream"]].concat()).contains("--guard"));
    assert!(failed(2, &["--at", "fpr=150%"]).contains("fpr=5%"));
    assert!(failed(1, &["--top-p", "0"]).contains("expected a top-p above 0 and up to 1, but found 0"));
    assert!(failed(1, &["--batch", "0"]).contains("one answer or more"));
    assert!(failed(1, &[&guard[..], &["--rounds", "101"]].concat()).contains("from 1 to 100"));
    assert!(failed(1, &["--answers", "chosen"]).contains("the model writes them"));
    assert!(failed(1, &["--run", of, "--steer", "512=1"]).contains("there is no feature 512"));
    assert!(failed(2, &["--run", of, "--steer", "1"]).contains("12=2"));
    assert!(failed(1, &["--run", of, "--steer", "1=2,1=0"]).contains("each feature once"));
    let stream = [&guard[..], &["--stream", "--strength", "nan"]].concat();
    assert!(failed(1, &stream).contains("a strength of 0 or more"));

    let stream = [&guard[..], &["--stream"]].concat();
    assert!(failed(1, &[&stream[..], &["--toward", "nan"]].concat()).contains("a target that is finite"));
    assert!(failed(2, &[&guard[..], &["--toward", "1"]].concat()).contains("--stream"));
    let correct = |how: &'static str| [&stream[..], &["--correct", how]].concat();
    for how in ["critic", "model:", "model"] {
        let said = failed(2, &correct(how));
        assert!(said.contains("sample, steer, difference, feedback or model:DIR"), "{said}");
    }
    assert!(failed(1, &correct("model:no/such/folder")).contains("no/such/folder"));
    assert!(failed(1, &[&correct("feedback")[..], &["--template", "none"]].concat()).contains("chat template"));

    // Another model than the run's.
    let mut args = made.args("out", &guard);
    args[2] = tiny_model().to_str().unwrap().to_owned();
    let other = fails(1, &args.iter().map(String::as_str).collect::<Vec<_>>());
    assert!(other.contains("blocks") || other.contains("wide") || other.contains("not the model"), "{other}");

    // A folder with something else, and a data set without prompts.
    fs::create_dir(made.at("full")).unwrap();
    fs::write(made.at("full/mine.txt"), "mine").unwrap();
    let args = made.args("full", &[]);
    assert!(fails(1, &args.iter().map(String::as_str).collect::<Vec<_>>()).contains("not empty"));
    fs::write(made.at("none.jsonl"), "{\"image\": \"nowhere.png\", \"text\": \"a\"}\n").unwrap();
    let mut args = made.args("nothing", &[]);
    args[4] = made.at("none.jsonl").to_str().unwrap().to_owned();
    let none = fails(1, &args.iter().map(String::as_str).collect::<Vec<_>>());
    assert!(none.contains("no row of") && none.contains("nowhere.png"), "{none}");
}

#[test]
fn a_question_alone_is_a_prompt_and_stop_texts_end_answers() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("prompts.jsonl");
    fs::write(&data, "{\"prompt\": \"What is this?\"}\n{\"question\": \"And that?\"}\n").unwrap();
    let generate = |name: &str, more: &[&str]| {
        let out = dir.path().join(name);
        let model = tiny_model();
        let [model, data, to] = [&model, &data, &out].map(|path| path.to_str().unwrap());
        let args = ["generate", "--model", model, "--data", data, "--out", to, "--tokens", "30", "--temperature", "0"];
        (json(&[&args[..], more].concat()), strings(&out.join("answers.parquet"), "text"))
    };
    let (told, texts) = generate("whole", &[]);
    assert_eq!((told["samples"].as_u64(), texts.len()), (Some(2), 2), "{told}");
    let text = &texts[0];
    // What the second half begins with ends the answer there.
    let half = (text.len() / 2..).find(|at| text.is_char_boundary(*at)).unwrap();
    let stop: String = text[half..].chars().take(3).collect();
    let first = text.find(&stop).unwrap();
    let (told, stopped) = generate("stopped", &["--stop", &stop]);
    assert_eq!(stopped[0], text[..first]);
    assert!(told["ends"]["stop"].as_u64().unwrap() >= 1, "{told}");
}

#[test]
fn a_prompt_is_answered_as_the_row_of_a_data_set_and_an_answer_goes_on_from_its_beginning() {
    let dir = tempfile::tempdir().unwrap();
    let image = repository("assets/demo-data/images/noto-1f93d-1f3fd-200d-2640-fe0f.png");
    let row = json!({ "image": image, "question": "What is this?" });
    let data = dir.path().join("prompts.jsonl");
    fs::write(&data, format!("{row}\n")).unwrap();
    let model = repository("assets/demo-mllm");
    let [model, data, image] = [&model, &data, &image].map(|path| path.to_str().unwrap());
    let out = |name: &str| dir.path().join(name);
    let args = |name: &str, more: &[&str]| -> Vec<String> {
        let out = out(name);
        let args = ["generate", "--model", model, "--out", out.to_str().unwrap(), "--tokens=12", "--seed", "3"];
        args.iter().chain(more).map(|arg| (*arg).to_owned()).collect()
    };
    let generate = |name: &str, more: &[&str]| {
        let args = args(name, more);
        let told = json(&args.iter().map(String::as_str).collect::<Vec<_>>());
        (told, strings(&out(name).join("answers.parquet"), "text").remove(0))
    };
    let prompt = ["--prompt", "What is this?", "--image", image];
    let (_, row) = generate("row", &["--data", data]);
    let (told, whole) = generate("prompt", &prompt);
    assert_eq!((told["samples"].as_u64(), &whole), (Some(1), &row));
    let other = args("prompt", &["--prompt", "What is that?", "--image", image]);
    assert!(fails(1, &other.iter().map(String::as_str).collect::<Vec<_>>()).contains("other settings (data)"));

    // The random number of a token depends on its number in the answer, so that the rest is the same.
    let word = whole.find(|c: char| !c.is_whitespace()).unwrap();
    let beginning = &whole[..word + whole[word..].find(' ').unwrap()];
    let (told, rest) = generate("rest", &[&prompt[..], &["--begin", beginning]].concat());
    assert!(rest.starts_with(&whole), "{beginning:?} {whole:?} {rest:?}");
    assert!(told["tokens"].as_u64().unwrap() > 1, "{told}");

    let failed = |status: i32, more: &[&str]| {
        let args = args("failed", more);
        fails(status, &args.iter().map(String::as_str).collect::<Vec<_>>())
    };
    assert!(failed(2, &[]).contains("--data"));
    assert!(failed(2, &[&prompt[..], &["--data", data]].concat()).contains("cannot be used with"));
    assert!(failed(1, &["--prompt", "a", "--image", "/nowhere.png"]).contains("/nowhere.png"));
    assert!(failed(1, &["--prompt", " "]).contains("the text is empty"));
}
