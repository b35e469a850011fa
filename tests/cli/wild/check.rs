//! Runs the commands of a case and says what came out otherwise than expected.

use super::case::{Case, ExpectedSample, Same, Step};
use super::folder;
use crate::tool::{repository, said};
use sae_core::Run;
use sae_core::store::sample::Sample;
use sae_core::store::{Store, load_samples};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The layer that harvests capture.
const LAYER: &str = "1";
/// Length of the longest reason for a skipped row, in characters.
const REASON_LIMIT: usize = 300;

/// What is wrong with a case, a line each.
pub fn failures(case: &Case, program: &Path) -> Vec<String> {
    let scratch = tempfile::tempdir().unwrap();
    let place = Place { case, scratch: scratch.path() };
    for (name, folder) in &case.folders {
        folder::make(folder, &scratch.path().join(name), &|name| place.expand(name).into());
    }
    std::fs::create_dir(scratch.path().join("OUT")).unwrap();
    let mut wrong = Vec::new();
    for (number, step) in case.steps.iter().enumerate() {
        let mut found = Vec::new();
        run(step, &place, program, &mut found);
        wrong.extend(found.into_iter().map(|what| format!("step {}: {what}", number + 1)));
    }
    wrong
}

/// Where the names in a case lead.
struct Place<'a> {
    case: &'a Case,
    scratch: &'a Path,
}

impl Place<'_> {
    /// Replaces `$IN`, `$GOLDEN`, `$OUT` and the names of the case's folders.
    fn expand(&self, text: &str) -> String {
        let mut names = vec![("IN", self.case.path.clone()), ("GOLDEN", repository("tests/golden"))];
        names.extend(self.case.folders.keys().map(|name| (name.as_str(), self.scratch.join(name))));
        names.push(("OUT", self.scratch.join("OUT")));
        // The longest name first: `$MODEL2` is not `$MODEL` and a 2.
        names.sort_by_key(|(name, _)| std::cmp::Reverse(name.len()));
        names
            .iter()
            .fold(text.to_owned(), |text, (name, path)| text.replace(&format!("${name}"), path.to_str().unwrap()))
    }

    /// The arguments of a step, and the run that it makes or works on.
    fn arguments(&self, step: &Step) -> (Vec<String>, Option<PathBuf>) {
        let mut words: Vec<_> = step.sae.split(' ').map(|word| self.expand(word)).collect();
        if words[0] == "harvest" {
            let model = repository("tests/golden/llava-a");
            let run = self.scratch.join("OUT/run");
            let model = model.to_str().unwrap();
            for (flag, value) in [("--model", model), ("--layers", LAYER), ("--run", run.to_str().unwrap())] {
                if !words.iter().any(|word| word == flag) {
                    words.extend([flag.to_owned(), value.to_owned()]);
                }
            }
        }
        let run = words.iter().position(|word| word == "--run").map(|at| PathBuf::from(&words[at + 1]));
        (words, run)
    }
}

fn run(step: &Step, place: &Place, program: &Path, wrong: &mut Vec<String>) {
    let (arguments, run) = place.arguments(step);
    let mut command = Command::new(program);
    command.args(arguments).arg("--json");
    command.envs(step.env.iter().map(|(name, value)| (name, place.expand(value))));
    let output = command.output().unwrap();
    let words = said(&output);
    if output.status.code() != Some(step.status) {
        return wrong.push(format!("exit status {:?}, not {}: {}", output.status.code(), step.status, words.trim()));
    }
    if words.contains("panicked") {
        wrong.push(format!("the program panicked: {words}"));
    }
    wrong
        .extend(step.says.iter().filter(|part| !words.contains(*part)).map(|p| format!("stderr lacks {p:?}: {words}")));
    let unwanted = step.says_not.iter().filter(|part| words.contains(*part));
    wrong.extend(unwanted.map(|part| format!("stderr has {part:?}: {words}")));
    let printed: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    for (pointer, expected) in &step.prints {
        let found = printed.pointer(pointer).unwrap_or(&Value::Null);
        if found != expected {
            wrong.push(format!("{pointer} is {found}, not {expected}"));
        }
    }
    let Some(run) = run.filter(|run| step.status == 0 && run.join("run.json").is_file()) else { return };
    let run = Run::open(&run).unwrap();
    if let Some(samples) = &step.samples {
        compare_samples(&run, samples, wrong);
    }
    if step.samples.is_some() || step.skipped.is_some() {
        compare_skipped(&run, step.skipped.as_deref().unwrap_or_default(), wrong);
    }
    if let Some(same) = &step.same_as {
        compare_activations(&run, same, place, wrong);
    }
}

fn compare_samples(run: &Run, expected: &[ExpectedSample], wrong: &mut Vec<String>) {
    let samples = load_samples(run).unwrap();
    if samples.len() != expected.len() {
        let found: Vec<_> = samples.iter().map(|sample| (&sample.key, &sample.text, sample.images.len())).collect();
        wrong.push(format!("{} samples, not {}: {found:?}", samples.len(), expected.len()));
    }
    let ids = token_ids(run, samples.len());
    for ((sample, ids), expected) in samples.iter().zip(ids).zip(expected) {
        wrong.extend(
            differences(sample, &ids, expected).into_iter().map(|what| format!("sample {}: {what}", sample.key)),
        );
    }
}

fn differences(sample: &Sample, ids: &[i32], expected: &ExpectedSample) -> Vec<String> {
    let mut wrong = Vec::new();
    if let Some(key) = expected.key.as_ref().filter(|key| **key != sample.key) {
        wrong.push(format!("its key is not {key:?}"));
    }
    if let Some(text) = expected.text.as_ref().filter(|text| **text != sample.text) {
        wrong.push(format!("its text is {:?}, not {text:?}", sample.text));
    }
    if let Some(images) = expected.images.filter(|images| *images != sample.images.len()) {
        wrong.push(format!("it has {} images, not {images}", sample.images.len()));
    }
    if let Some(expected) = expected.ids.as_ref().filter(|expected| expected.as_slice() != ids) {
        wrong.push(format!("its tokens are {ids:?}, not {expected:?}"));
    }
    for (name, value) in &expected.meta {
        if &sample.meta[name] != value {
            wrong.push(format!("its {name} is {}, not {value}", sample.meta[name]));
        }
    }
    wrong
}

fn compare_skipped(run: &Run, expected: &[Vec<String>], wrong: &mut Vec<String>) {
    let record: Value = serde_json::to_value(run.record().unwrap()).unwrap();
    let skipped = record["steps"]["harvest"]["skipped"].as_array().cloned().unwrap_or_default();
    let reasons: Vec<_> = skipped.iter().map(|skipped| skipped["reason"].as_str().unwrap()).collect();
    if reasons.len() != expected.len() {
        wrong.push(format!("{} rows are skipped, not {}: {reasons:?}", reasons.len(), expected.len()));
    }
    for (reason, words) in reasons.iter().zip(expected) {
        wrong.extend(words.iter().filter(|word| !reason.contains(*word)).map(|w| format!("no {w:?} in {reason:?}")));
    }
    let unfit = |reason: &&&str| reason.chars().count() > REASON_LIMIT || reason.contains('\n');
    wrong.extend(reasons.iter().filter(unfit).map(|reason| format!("a reason is one short line, not {reason:?}")));
}

/// The ids of every sample's tokens.
fn token_ids(run: &Run, samples: usize) -> Vec<Vec<i32>> {
    let store = open(run);
    let tables: Vec<_> = (0..store.shards()).map(|shard| store.token_table(shard).unwrap()).collect();
    let ids = |sample: u32| {
        let tokens = tables.iter().flat_map(|table| table.tokens(table.rows(sample).unwrap()).unwrap());
        tokens.map(|token| token.token_id).collect()
    };
    (0..samples as u32).map(ids).collect()
}

fn open(run: &Run) -> Store {
    let hook = run.list("activations").into_iter().next().unwrap();
    Store::open(run, &hook).unwrap()
}

fn compare_activations(run: &Run, same: &Same, place: &Place, wrong: &mut Vec<String>) {
    let other = Run::open(Path::new(&place.expand(&same.run))).unwrap();
    let (found, expected) = (activations(run), activations(&other));
    if found.len() != expected.len() {
        return wrong.push(format!("{} activations, not the {} of {}", found.len(), expected.len(), same.run));
    }
    let largest = expected.iter().fold(0f32, |largest, value| largest.max(value.abs()));
    let off = found.iter().zip(&expected).fold(0f32, |off, (found, expected)| off.max((found - expected).abs()));
    if off > same.within * largest {
        wrong.push(format!("activations are off by {off} of {largest} from those of {}", same.run));
    }
}

fn activations(run: &Run) -> Vec<f32> {
    let store = open(run);
    let mut values = Vec::new();
    for number in 0..store.shards() {
        let shard = store.shard(number).unwrap();
        shard.read(0..shard.rows(), &mut values);
    }
    values
}
