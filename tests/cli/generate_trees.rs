//! `sae generate --tree`: the pieces are what the model writes without a tree, the same on any number of threads and after a kill, and
//! `sae harvest --pieces tree` and `sae pairs` read them.

use crate::generate::{kill_after, strings};
use crate::pieces::{harvest, paths, positions, samples};
use crate::tool::{data_set, fails, files, json, repository, sae, said, tiny_model};
use harvest::generation::{Draft, Generator, Prompt, Prompts, Sampling};
use harvest::model::Input;
use harvest::{ComputeDtype, Plan};
use sae_core::device::DeviceChoice;
use sae_core::random::{SplitMix64, mix, unit};
use sae_core::store::Hook;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

fn arguments(model: &Path, data: &Path, out: &Path, more: &[&str]) -> Vec<String> {
    let [model, data, out] = [model, data, out].map(|path| path.to_str().unwrap().to_owned());
    let fixed = ["generate", "--model", &model, "--data", &data, "--out", &out, "--device", "cpu"];
    fixed.iter().chain(more).map(|argument| (*argument).to_owned()).collect()
}

fn generate(model: &Path, data: &Path, out: &Path, more: &[&str]) -> Value {
    let args = arguments(model, data, out, more);
    json(&args.iter().map(String::as_str).collect::<Vec<_>>())
}

/// The answers of a tree by the ids of their last nodes.
fn answers(folder: &Path) -> BTreeMap<String, String> {
    let table = folder.join("answers.parquet");
    strings(&table, "node").into_iter().zip(strings(&table, "text")).collect()
}

fn rows(folder: &Path) -> Vec<Value> {
    let text = fs::read_to_string(folder.join("tree.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The text of the path to every row that no other continues, without that of its prompt.
fn leaves(rows: &[Value]) -> BTreeMap<String, String> {
    let id = |row: &Value, name: &str| row[name].as_str().map(str::to_owned);
    let by_id: BTreeMap<String, &Value> = rows.iter().map(|row| (id(row, "id").unwrap(), row)).collect();
    let parents: BTreeSet<String> = rows.iter().filter_map(|row| id(row, "parent_id")).collect();
    let last = by_id.keys().filter(|id| !parents.contains(*id) && by_id[*id]["role"] == "assistant");
    let path = |leaf: &String| {
        let (mut at, mut text) = (by_id[leaf], String::new());
        while let Some(parent) = id(at, "parent_id") {
            text = at["text"].as_str().unwrap().to_owned() + &text;
            assert_eq!(at["continues"], json!(by_id[&parent]["role"] == "assistant"));
            at = by_id[&parent];
        }
        (leaf.clone(), text)
    };
    last.map(path).collect()
}

#[test]
fn greedy_pieces_are_those_of_the_answer_without_a_tree() {
    let dir = tempfile::tempdir().unwrap();
    let demo = repository("assets/demo-mllm");
    let data = repository("assets/demo-data/data.jsonl");
    for (model, data) in [(tiny_model(), data_set(dir.path(), 4)), (demo, data)] {
        let name = model.file_name().unwrap().to_str().unwrap().to_owned();
        let write = |out: &str, more: &[&str]| {
            let out = dir.path().join(format!("{name}-{out}"));
            let told = generate(&model, &data, &out, &[&["--limit", "4", "--temperature", "0"], more].concat());
            (told, out)
        };
        for (tree, tokens, all) in [("5x1", "2", "10"), ("3x2", "4", "12"), ("1x3", "12", "12")] {
            let (told, out) = write(tree, &["--tree", tree, "--tokens", tokens]);
            let (_, plain) = write(&format!("plain-{tree}"), &["--tokens", all]);
            let expected = strings(&plain.join("answers.parquet"), "text");
            let found = answers(&out);
            assert_eq!(told["tree"]["answers"].as_u64(), Some(found.len() as u64), "{told}");
            // The file with the rows has the same texts, which add up to the answers.
            assert_eq!(leaves(&rows(&out)), found, "{name} {tree}");
            for (node, text) in &found {
                let sample: usize = node.split('.').next().unwrap().parse().unwrap();
                assert_eq!(*text, expected[sample], "{name} {tree} {node}");
            }
            let branches: usize = tree.split_once('x').unwrap().1.parse().unwrap();
            let whole = told["ends"]["tokens"].as_u64().unwrap_or_default() as usize;
            assert!(whole == 0 || found.len() >= branches, "{told}");
        }
    }
}

#[test]
fn a_stop_text_ends_a_path() {
    let dir = tempfile::tempdir().unwrap();
    let data = data_set(dir.path(), 1);
    let write = |out: &str, more: &[&str]| {
        let out = dir.path().join(out);
        let told = generate(&tiny_model(), &data, &out, &[&["--temperature", "0", "--tokens", "12"], more].concat());
        (told, out)
    };
    let plain = strings(&write("plain", &[]).1.join("answers.parquet"), "text").remove(0);
    let middle = plain.char_indices().nth(plain.chars().count() / 2).unwrap().0;
    let stop: String = plain[middle..].chars().take(3).collect();
    let (told, out) = write("tree", &["--tree", "2x2", "--stop", &stop]);
    assert_eq!((&told["ends"], &told["tree"]["nodes"]), (&json!({"stop": 2}), &json!(2)), "{told}");
    let expected = plain[..plain.find(&stop).unwrap()].to_owned();
    assert!(answers(&out).values().all(|text| *text == expected), "{:?} {expected:?}", answers(&out));
    assert_eq!(leaves(&rows(&out)), answers(&out));
}

/// The answers of a tree that is sampled plainly: the model reads the whole text for every token.
struct Plain<'a> {
    generator: &'a Generator,
    prompt: &'a Prompt,
    sample: u32,
    seed: u64,
    sampling: Sampling,
    depth: u32,
    branches: u32,
    tokens: usize,
    found: BTreeMap<String, String>,
}

impl Plain<'_> {
    /// Writes the pieces that continue a path; returns whether there are any.
    fn grow(&mut self, path: &[u32], name: &str, number: u32, depth: u32) -> bool {
        let mut any = false;
        for child in 1..=self.branches {
            let (id, of_child) = (number * self.branches + child, format!("{name}.{child}"));
            let (mut ids, mut ended) = (path.to_vec(), false);
            for token in 0..self.tokens {
                let Input { ids: mut all, images, prefix } = self.generator.checkpoint().input(&self.prompt.prepared);
                let prompt = all.len();
                all.extend(&ids);
                let mut draft = Draft::new(Input { ids: all, images, prefix });
                let reading = self.generator.read(&mut [&mut draft], &[1], &mut |_, _, _| Ok(())).unwrap().remove(0);
                let stream = mix(mix(self.seed) ^ (u64::from(self.sample) << 32 | u64::from(id)));
                let random = unit(SplitMix64::nth(stream, token as u64 + 1));
                let next = self.sampling.choose(&reading.next, draft.ids(), random).unwrap();
                if self.generator.is_end(next) || prompt + ids.len() >= self.generator.context() {
                    ended = true;
                    break;
                }
                ids.push(next);
            }
            if ids.len() == path.len() {
                continue;
            }
            any = true;
            let continued = !ended && depth < self.depth && self.grow(&ids, &of_child, id, depth + 1);
            if !continued {
                self.found.insert(of_child, self.generator.text(&ids));
            }
        }
        any
    }
}

#[test]
fn sampled_pieces_are_those_of_a_model_that_reads_the_whole_text_for_every_token() {
    let dir = tempfile::tempdir().unwrap();
    let data = data_set(dir.path(), 5);
    let sampling = Sampling { temperature: 0.7, top_k: 50, ..Sampling::GREEDY };
    let out = dir.path().join("out");
    let drawn = ["--temperature", "0.7", "--top-k", "50", "--seed", "9"];
    let told = generate(&tiny_model(), &data, &out, &[&["--tree", "3x2", "--tokens", "3"], &drawn[..]].concat());
    let plan = Plan { hooks: vec![Hook::block(0)], ..Plan::new(tiny_model(), &data, Vec::new()) };
    let generator = Generator::open(&tiny_model(), None, DeviceChoice::Cpu, ComputeDtype::F32).unwrap();
    let (mut prompts, mut expected) = (Prompts::open(&plan).unwrap(), BTreeMap::new());
    for sample in 0..5 {
        let prompt = prompts.next(generator.checkpoint()).unwrap().unwrap();
        let (depth, branches, tokens, found) = (3, 2, 3, BTreeMap::new());
        let mut plain =
            Plain { generator: &generator, prompt: &prompt, sample, seed: 9, sampling, depth, branches, tokens, found };
        plain.grow(&[], &sample.to_string(), 0, 1);
        expected.extend(plain.found);
    }
    // Answers that end with nothing but white space are another matter.
    assert!(expected.values().all(|text| !text.trim().is_empty()), "{expected:?}");
    assert_eq!(answers(&out), expected);
    assert!(expected.len() > 20 && expected.values().collect::<BTreeSet<_>>().len() > 20, "{expected:?}");
    // Paths share pieces, and what is shared is computed once.
    let (tokens, computed) = (told["tokens"].as_u64().unwrap(), told["computed"].as_u64().unwrap());
    let prompt_positions: u64 = 5 * 60;
    assert!(
        computed < tokens + prompt_positions * 5 && told["tree"]["tokens_per_generated"].as_f64() > Some(1.2),
        "{told}"
    );
}

#[test]
fn trees_do_not_depend_on_batches_threads_or_interruptions() {
    let dir = tempfile::tempdir().unwrap();
    let data = data_set(dir.path(), 9);
    let tree = ["--tree", "3x2", "--tokens", "4"];
    let at = |name: &str| dir.path().join(name);
    let told = generate(&tiny_model(), &data, &at("out"), &tree);
    assert_eq!((told["samples"].as_u64(), told["skipped_rows"].as_u64()), (Some(9), Some(0)), "{told}");
    let written = |name: &str| {
        let mut files = files(&at(name));
        files.remove(Path::new("generate.json"));
        files
    };
    let expected = written("out");
    assert!(expected.contains_key(Path::new("tree.jsonl")) && expected.contains_key(Path::new("answers.parquet")));
    generate(&tiny_model(), &data, &at("one"), &[&tree[..], &["--batch", "1"]].concat());
    assert!(written("one") == expected, "the batch changes the trees");
    for threads in ["1", "2"] {
        let args = arguments(&tiny_model(), &data, &at(threads), &tree);
        let output = sae().args(args).env("RAYON_NUM_THREADS", threads).output().unwrap();
        assert!(output.status.success(), "{}", said(&output));
        assert!(written(threads) == expected, "{threads} threads change the trees");
    }
    generate(&tiny_model(), &data, &at("seed"), &[&tree[..], &["--seed", "1"]].concat());
    assert!(written("seed") != expected, "the seed changes nothing");

    // Killed once it has a tree, and continued.
    kill_after(
        &arguments(&tiny_model(), &data, &at("killed"), &[&tree[..], &["--batch", "1"]].concat()),
        &at("killed"),
    );
    let other = arguments(&tiny_model(), &data, &at("killed"), &["--tree", "2x2", "--tokens", "4"]);
    let said = fails(1, &other.iter().map(String::as_str).collect::<Vec<_>>());
    assert!(said.contains("other settings (tree)"), "{said}");
    generate(&tiny_model(), &data, &at("killed"), &tree);
    assert!(written("killed") == expected, "the continued trees differ");
    let again = generate(&tiny_model(), &data, &at("killed"), &tree);
    assert_eq!((&again["tree"]["nodes"], &again["samples"]), (&told["tree"]["nodes"], &told["samples"]));
}

#[test]
fn harvest_and_pairs_read_the_trees() {
    let dir = tempfile::tempdir().unwrap();
    let data = data_set(dir.path(), 6);
    let out = dir.path().join("trees");
    let told = generate(&tiny_model(), &data, &out, &["--tree", "3x2", "--tokens", "5", "--temperature", "0.8"]);
    let rows = rows(&out);
    assert_eq!(rows[0]["images"].as_array().unwrap().len(), 1);
    assert_eq!((&rows[0]["prompt_key"], rows[0].get("parent_id")), (&json!("row-0"), None));
    let (report, run) = harvest(dir.path(), &out.join("tree.jsonl"), "run", &["--pieces", "tree"]);
    assert_eq!(report["skipped_rows"], 0, "{report}");
    let nodes = told["tree"]["nodes"].as_u64().unwrap();
    assert!(report["samples"].as_u64().unwrap() <= 6 + nodes && report["samples"].as_u64().unwrap() > nodes / 2 + 6);

    // The states along each path are those of the whole answer, as a conversation of its own.
    let found = answers(&out);
    let whole = dir.path().join("whole.jsonl");
    let conversation = |(node, text): (&String, &String)| {
        let root = rows.iter().find(|row| row["id"] == node.split('.').next().unwrap()).unwrap();
        let mut messages = root["messages"].as_array().unwrap().clone();
        messages.push(json!({"role": "assistant", "content": text}));
        let image = out.join(root["images"][0].as_str().unwrap());
        json!({"id": node, "images": [image], "messages": messages}).to_string() + "\n"
    };
    fs::write(&whole, found.iter().map(conversation).collect::<String>()).unwrap();
    let (_, of_whole) = harvest(dir.path(), &whole, "whole", &[]);
    let expected: BTreeMap<String, _> =
        samples(&of_whole).into_iter().map(|sample| sample.key).zip(positions(&of_whole, "layers.1")).collect();
    let paths: BTreeMap<String, _> =
        paths(&run, "layers.1").into_iter().map(|((_, branch), path)| (branch, path)).collect();
    assert!(paths.len() > 15 && paths.keys().eq(expected.keys()), "{:?} {:?}", paths.keys(), expected.keys());
    assert!(paths == expected, "the states differ");
    let ids = |run: &Path| samples(run).into_iter().map(|sample| sample.id).collect::<BTreeSet<_>>();
    assert!(ids(&of_whole).is_subset(&ids(&run)), "equal paths have equal ids");

    let of = run.to_str().unwrap();
    let train = ["train", "--run", of, "--hook", "layers.1", "--name", "base", "--features", "128", "--k", "8"];
    json(&[&train[..], &["--batch", "128", "--steps", "60", "--lr", "3e-3"]].concat());
    let to = dir.path().join("pairs");
    let report = json(&["pairs", "--run", of, "--n", "30", "--out", to.to_str().unwrap()]);
    assert_eq!((&report["answers"], &report["trees"]), (&json!(found.len()), &json!(6)));
    // Answers are whole, and the prompt ends with the user's turn, however much of the answers is shared.
    let texts: BTreeSet<&str> = found.values().map(String::as_str).collect();
    let mut shared = 0;
    for name in ["siblings", "random", "chain"] {
        for line in fs::read_to_string(to.join(format!("{name}.jsonl"))).unwrap().lines() {
            let row: Value = serde_json::from_str(line).unwrap();
            shared += usize::from(row["lca_depth"].as_u64() > Some(0));
            let last = |list: &Value| list.as_array().unwrap().last().cloned();
            if name != "chain" {
                assert_eq!(last(&row["prompt"]).unwrap()["role"], "user", "{row}");
                assert_eq!(row["images"].as_array().unwrap().len(), 1);
            }
            for answer in ["answer_1", "answer_2"] {
                let turn = last(&row[answer]).unwrap();
                assert_eq!(turn["role"], "assistant");
                let text = turn["content"].as_array().unwrap().last().unwrap()["text"].as_str().unwrap();
                assert!(texts.contains(text), "{text:?} is no whole answer");
                assert_eq!(row[answer].as_array().unwrap().len(), if name == "chain" { 2 } else { 1 }, "{row}");
            }
        }
    }
    assert!(shared > 20, "{shared}");
}

#[test]
fn what_cannot_be_a_tree_is_explained() {
    let dir = tempfile::tempdir().unwrap();
    let data = data_set(dir.path(), 2);
    let out = dir.path().join("out");
    let failed = |status: i32, more: &[&str]| {
        let args = arguments(&tiny_model(), &data, &out, more);
        let said = fails(status, &args.iter().map(String::as_str).collect::<Vec<_>>());
        assert!(!out.exists(), "nothing is written: {said}");
        said
    };
    for bad in ["5", "x2", "0x2", "5x0", "64x1", "12x2", "1x4096", "two"] {
        let said = failed(2, &["--tree", bad]);
        assert!(said.contains("such as 5x2") && said.contains("63 pieces"), "{said}");
    }
    let run = ["--run", "nowhere", "--guard", "harm"];
    for more in [&run[..], &[&run[..], &["--rounds", "2"]].concat(), &[&run[..], &["--stream"]].concat()] {
        let said = failed(2, &[&["--tree", "2x2"], more].concat());
        assert!(said.contains("--tree") && said.contains("cannot be used with"), "{said}");
    }
    assert!(failed(1, &["--tree", "2x2", "--template", "none"]).contains("chat template"));
    assert!(failed(1, &["--tree", "2x2", "--tokens", "0"]).contains("one token or more"));
}
