//! `sae pairs` on small trees: the pairs of every topology, their files and prices, the same bytes on any number of threads, and
//! what cannot be compared.

use crate::pieces::{harvest, preferences, write};
use crate::tool::{data_set, fails, files, json, sae};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// Words of answers, each with what it is worth.
const WORDS: [(&str, i64); 6] =
    [("red square", 3), ("blue circle", -3), ("green field", 1), ("old house", -1), ("small dog", 2), ("tall tree", 0)];

/// `count` trees: a question, about an image if there is one, two answers, a further question below each, and three answers to each of those.
fn trees(path: &Path, count: usize, image: Option<&str>) {
    data_set(path.parent().unwrap(), 1);
    let mut rows = Vec::new();
    for tree in 0..count {
        let mut put = |id: String, parent: Option<String>, text: String, reward: Option<i64>| {
            let image = image.filter(|_| parent.is_none());
            rows.push(
                json!({"id": id, "parent_id": parent, "text": text, "reward": reward, "set": format!("set {tree}"), "image": image}),
            );
        };
        let root = format!("t{tree}");
        put(root.clone(), None, format!("Question {tree}?"), None);
        for side in 0..2 {
            let (word, worth) = WORDS[(tree + side * 3) % 6];
            let (answer, question) = (format!("{root}-{side}"), format!("{root}-{side}-q"));
            put(answer.clone(), Some(root.clone()), format!("A {word}."), None);
            put(question.clone(), Some(answer), format!("And {tree} else?"), None);
            for last in 0..3 {
                let (other, more) = WORDS[(tree * 5 + side + last * 2) % 6];
                let text = format!("The {other}, then {last} {word}.");
                put(format!("{root}-{side}-{last}"), Some(question.clone()), text, Some(worth + more));
            }
        }
    }
    write(path, rows.into_iter());
}

/// A run with an autoencoder.
fn run(dir: &Path, data: &Path, name: &str, pieces: &[&str]) -> String {
    let (_, run) = harvest(dir, data, name, pieces);
    let of = run.to_str().unwrap().to_owned();
    let train = ["--hook", "layers.1", "--name", "base", "--features", "128", "--k", "8", "--batch", "128"];
    json(&[&["train", "--run", &of, "--steps", "100", "--lr", "3e-3"], &train[..]].concat());
    of
}

fn lines(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn texts(messages: &Value) -> Vec<(&str, &str)> {
    let messages = messages.as_array().unwrap().iter();
    messages
        .map(|turn| {
            (
                turn["role"].as_str().unwrap(),
                turn["content"].as_array().unwrap().last().unwrap()["text"].as_str().unwrap(),
            )
        })
        .collect()
}

#[test]
fn every_topology_has_its_pairs_and_its_price() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("trees.jsonl");
    trees(&data, 8, Some("images/wide.png"));
    let run = run(dir.path(), &data, "run", &["--pieces", "tree"]);
    let out = dir.path().join("out");
    let ask = ["pairs", "--run", &run, "--n", "40", "--seed", "3", "--reveal", "reward"];
    let plan = json(&[&ask[..], &["--out", out.to_str().unwrap(), "--dry-run"]].concat());
    assert_eq!((&plan["answers"], &plan["trees"], &plan["tree_pairs"]), (&json!(48), &json!(8), &json!(120)));
    assert!(!out.exists());
    let report = json(&[&ask[..], &["--out", out.to_str().unwrap()]].concat());
    assert_eq!(report, serde_json::from_slice::<Value>(&fs::read(out.join("pairs.json")).unwrap()).unwrap());
    let found = report["topologies"].as_array().unwrap();
    let exist: Vec<_> = found.iter().map(|topology| topology["exist"].as_u64().unwrap()).collect();
    // 48 answers in trees of 6: 28 pairs of trees, 15 pairs in each, of which 2 times 3 are siblings.
    assert_eq!(exist, [28 * 36, 120, 48, 120, 120]);
    let number = |value: &Value| value.as_f64().unwrap();
    for topology in found {
        let name = topology["topology"].as_str().unwrap();
        let rows = lines(&out.join(format!("{name}.jsonl")));
        assert_eq!((rows.len(), &topology["pairs"]), (40, &json!(40)), "{name}");
        let distinct: BTreeSet<[&str; 2]> = rows
            .iter()
            .map(|row| {
                let mut keys = ["key_1", "key_2"].map(|key| row[key].as_str().unwrap());
                keys.sort_unstable();
                keys
            })
            .collect();
        assert_eq!(distinct.len(), 40, "{name}");
        // Gains add up, and the uncertainty never rises.
        let mut uncertainty = number(&report["uncertainty"]);
        for row in &rows {
            assert!((number(&row["uncertainty_before"]) - uncertainty).abs() < 1e-9, "{name}");
            assert!(number(&row["gain"]) >= 0.0);
            uncertainty -= number(&row["gain"]);
        }
        assert!((number(&topology["uncertainty"]) - uncertainty).abs() < 1e-9);
        assert!(uncertainty < number(&report["uncertainty"]));
        let curve = topology["curve"].as_array().unwrap();
        let at: Vec<_> = curve.iter().map(|point| point["comparisons"].as_u64().unwrap()).collect();
        assert_eq!(at, [1, 2, 4, 8, 16, 32, 40]);
        let revealed = topology["revealed"].as_array().unwrap();
        assert!(revealed.len() == 1 && revealed[0]["labels"] == 40 && revealed[0]["accuracy"].is_f64(), "{topology}");
        let depths: BTreeSet<Option<u64>> = rows.iter().map(|row| row["lca_depth"].as_u64()).collect();
        let expected: &[Option<u64>] = match name {
            "chain" => &[None],
            "siblings" => &[Some(2)],
            _ => &[Some(0), Some(2)],
        };
        assert_eq!(depths.into_iter().collect::<Vec<_>>(), expected, "{name}");
        assert_eq!((&rows[0]["batch"], &rows[39]["batch"]), (&json!(0), &json!(2)));
    }
    // A greedy choice is not worse than a draw from the same pairs.
    let after = |n: usize| number(&found[n]["uncertainty"]);
    assert!(after(4) < after(1) && after(4) < after(2), "{report}");
    assert_eq!(
        report["best"]["comparisons"],
        found
            .iter()
            .min_by(|a, b| {
                number(&a["at_equal_price"]["comparisons"]).total_cmp(&number(&b["at_equal_price"]["comparisons"]))
            })
            .unwrap()["topology"]
    );

    // Siblings share the conversation up to the last question; answers of different trees share nothing.
    let siblings = &lines(&out.join("siblings.jsonl"))[0];
    let prompt = texts(&siblings["prompt"]);
    assert_eq!(prompt.iter().map(|(role, _)| *role).collect::<Vec<_>>(), ["user", "assistant", "user"]);
    assert!(prompt[0].1.starts_with("Question") && prompt[2].1.starts_with("And"), "{siblings}");
    let [first, second] = ["answer_1", "answer_2"].map(|answer| texts(&siblings[answer]));
    assert!(first.len() == 1 && first[0].0 == "assistant" && first != second, "{siblings}");
    assert_eq!(
        (&siblings["images"], &siblings["prompt"][0]["content"][0]),
        (&json!(["images/wide.png"]), &json!({"type": "image"}))
    );
    assert_ne!(siblings["sample_id_1"], siblings["sample_id_2"]);
    let chain = &lines(&out.join("chain.jsonl"))[0];
    assert!(texts(&chain["prompt"]).is_empty() && texts(&chain["answer_1"]).len() == 4, "{chain}");
    assert_eq!(chain["images"], json!(["images/wide.png", "images/wide.png"]));

    // The same bytes on one thread, and other pairs with another seed.
    let [again, other] = ["again", "other"].map(|name| dir.path().join(name));
    let same = sae().args(ask).args(["--out", again.to_str().unwrap()]).env("RAYON_NUM_THREADS", "1").output().unwrap();
    assert!(same.status.success() && files(&again) == files(&out));
    let text = String::from_utf8(same.stdout).unwrap();
    assert!(text.contains("48 answers of 8 trees") && text.contains("accuracy on other pairs"), "{text}");
    json(&[
        "pairs",
        "--run",
        &run,
        "--n",
        "40",
        "--seed",
        "4",
        "--topology",
        "chain",
        "--out",
        other.to_str().unwrap(),
    ]);
    assert_ne!(fs::read(other.join("chain.jsonl")).unwrap(), fs::read(out.join("chain.jsonl")).unwrap());

    // Of fewer pairs than were asked for, all are chosen, and the report says so.
    let all = dir.path().join("all");
    let all = ["pairs", "--run", &run, "--n", "500", "--topology", "siblings,mixed", "--out", all.to_str().unwrap()];
    let output = sae().args(all).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("siblings: all 48 pairs") && text.contains("mixed: all 120 pairs"), "{text}");
}

#[test]
fn a_probe_of_pairs_says_what_is_known() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("trees.jsonl");
    trees(&data, 24, None);
    let run = run(dir.path(), &data, "run", &["--pieces", "tree"]);
    let probe = |name: &str, kind: &str| {
        let labels = ["--label", "reward", "--pair", "set", "--part", "answer", "--name", name, "--kind", kind];
        json(&[&["probe", "--run", &run], &labels[..]].concat())
    };
    let fitted = probe("better", "pair");
    probe("number", "linear");
    let [out, other] = ["out", "other"].map(|name| dir.path().join(name).to_str().unwrap().to_owned());
    let ask = ["pairs", "--run", &run, "--n", "30", "--topology", "random"];
    let said = fails(1, &[&ask[..], &["--probe", "number", "--out", &out]].concat());
    assert!(said.contains("expected a probe of the kind pair, and number is linear"), "{said}");
    let said = fails(1, &[&ask[..], &["--probe", "best", "--out", &out]].concat());
    assert!(said.contains("the run has no probe best; it has: better, number"), "{said}");
    let report = json(&[&ask[..], &["--probe", "better", "--out", &out]].concat());
    assert_eq!((&report["features"], &report["part"]), (&fitted["features"], &json!("answer")));
    assert!(report["features"].as_u64().unwrap() > 0, "{report}");
    // Without a probe, other features are used.
    let few = report["features"].to_string();
    let without = json(&[&ask[..], &["--features-most", &few, "--out", &other]].concat());
    assert_eq!((&without["features"], &without["topologies"][0]["pairs"]), (&report["features"], &json!(30)));
    assert!(fails(2, &[&ask[..], &["--probe", "better", "--part", "all", "--out", &out]].concat()).contains("--part"));
}

#[test]
fn pairs_that_were_compared_before_count_and_are_not_chosen_again() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("trees.jsonl");
    trees(&data, 6, None);
    let run = run(dir.path(), &data, "run", &["--pieces", "tree"]);
    let pairs = |out: &str, more: &[&str]| {
        let folder = dir.path().join(out);
        let ask = ["pairs", "--run", &run, "--out", folder.to_str().unwrap(), "--reveal", "reward"];
        (json(&[&ask[..], more].concat()), folder)
    };
    let (first, folder) = pairs("first", &["--n", "20", "--topology", "active,siblings"]);
    let earlier = ["active.jsonl", "siblings.jsonl"].map(|name| folder.join(name).to_str().unwrap().to_owned());
    let (second, next) =
        pairs("second", &["--n", "20", "--compared", &earlier[0], "--topology", "active,siblings,mixed,chain"]);
    assert_eq!((&second["compared"], &second["uncertainty"]), (&json!(20), &first["uncertainty"]));
    assert_eq!(second["uncertainty_now"], first["topologies"][0]["uncertainty"]);
    assert_eq!(second["topologies"][0]["revealed"][0]["labels"], 40, "earlier pairs are labeled as well");
    let ids = |line: &Value| {
        let mut ids = [1, 2].map(|n| line[format!("sample_id_{n}")].as_str().unwrap().to_owned());
        ids.sort();
        ids
    };
    let before: BTreeSet<_> = lines(&folder.join("active.jsonl")).iter().map(ids).collect();
    for name in ["active", "siblings", "mixed", "chain"] {
        let chosen = lines(&next.join(format!("{name}.jsonl")));
        assert_eq!(chosen.len(), 20, "{name}");
        assert!(chosen.iter().all(|line| !before.contains(&ids(line))), "{name}");
    }
    let active = &lines(&next.join("active.jsonl"))[0];
    assert_eq!(active["uncertainty_before"], second["uncertainty_now"]);
    // What the first folder would have chosen next is what the second one begins with.
    let (more, folder) = pairs("more", &["--n", "21", "--topology", "active"]);
    assert_eq!(ids(&lines(&folder.join("active.jsonl"))[20]), ids(active));
    assert!(more["uncertainty_now"] == more["uncertainty"]);
    // Pairs of several files count once each.
    let both = earlier.join(",");
    let (both, _) = pairs("both", &["--n", "4", "--topology", "active", "--compared", &format!("{both},{both}")]);
    let distinct = before.union(&lines(&dir.path().join("first/siblings.jsonl")).iter().map(ids).collect()).count();
    assert_eq!(both["compared"], distinct);

    let file = dir.path().join("odd.jsonl");
    for (line, cause) in [
        ("{}", "no text \"sample_id_1\""),
        (r#"{"sample_id_1": 5, "sample_id_2": "b"}"#, "no text \"sample_id_1\""),
        (r#"{"sample_id_1": "a", "sample_id_2": "b"}"#, "sample_id_1 is \"a\", which is no answer of the run"),
        ("[1", "EOF while parsing"),
    ] {
        let good = fs::read_to_string(&earlier[0]).unwrap();
        fs::write(&file, format!("{}\n\n{line}\n", good.lines().next().unwrap())).unwrap();
        let out = dir.path().join("none");
        let said =
            fails(1, &["pairs", "--run", &run, "--out", out.to_str().unwrap(), "--compared", file.to_str().unwrap()]);
        assert!(
            said.contains("odd.jsonl, line 3: expected the ids of two answers of this run") && said.contains(cause),
            "{said}"
        );
        assert!(!out.exists());
    }
}

#[test]
fn what_cannot_be_compared_is_said_and_nothing_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let out = out.to_str().unwrap();
    let pairs = preferences(dir.path(), 12);
    let ask = |run: &str, more: &[&str]| fails(1, &[&["pairs", "--run", run, "--out", out], more].concat());

    let whole = run(dir.path(), &pairs, "whole", &["--answers", "chosen"]);
    let said = ask(&whole, &[]);
    assert!(said.contains("not pieces of trees") && said.contains("hint: use --pieces tree"), "{said}");

    let single = run(dir.path(), &pairs, "single", &["--pieces", "sentences"]);
    let said = ask(&single, &[]);
    assert!(said.contains("12 answers in 12 trees, never two in one"), "{said}");

    let data = dir.path().join("trees.jsonl");
    trees(&data, 1, None);
    let one = run(dir.path(), &data, "one", &["--pieces", "tree"]);
    assert!(ask(&one, &[]).contains("all 6 answers belong to one tree"));

    trees(&data, 4, None);
    let good = run(dir.path(), &data, "good", &["--pieces", "tree"]);
    assert!(ask(&good, &["--probe", "none"]).contains("the run has no probe"));
    assert!(ask(&good, &["--scale", "0"]).contains("invalid scale 0: expected a number from 0.000001"));
    assert!(ask(&good, &["--scale", "NaN"]).contains("invalid scale NaN"));
    assert!(ask(&good, &["--reveal", "worth"]).contains("no row has a field worth"));
    assert!(ask(&good, &["--reveal", "set"]).contains("set has values that are not numbers"));
    let wrong = |more: &[&str]| fails(2, &[&["pairs", "--run", &good, "--out", out], more].concat());
    assert!(wrong(&["--topology", "ring"]).contains("unknown topology \"ring\": expected chain"));
    assert!(wrong(&["--n", "0"]).contains("1..=100000"));
    assert!(wrong(&["--features-most", "513"]).contains("1..=512"));
    assert!(!Path::new(out).exists());
    fs::create_dir(out).unwrap();
    fs::write(Path::new(out).join("kept"), "").unwrap();
    assert!(ask(&good, &[]).contains("the folder is not empty"));
}

#[test]
fn a_question_and_its_answer_in_one_node_are_an_answer() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("trees.jsonl");
    data_set(dir.path(), 1);
    let rows = (0..3).flat_map(|tree| {
        let turn = |role: &str, text: String| json!({"role": role, "content": text});
        let node = move |n: usize, (word, _): (&str, i64)| {
            let turns = [turn("user", format!("And {n}?")), turn("assistant", format!("A {word}."))];
            json!({"id": format!("t{tree}-{n}"), "parent_id": format!("t{tree}"), "messages": turns})
        };
        let first = [turn("user", format!("Question {tree}?")), turn("assistant", "Yes.".into())];
        [json!({"id": format!("t{tree}"), "messages": first}), node(1, WORDS[tree]), node(2, WORDS[tree + 3])]
    });
    write(&data, rows);
    let run = run(dir.path(), &data, "run", &["--pieces", "tree"]);
    let out = dir.path().join("out");
    let report = json(&["pairs", "--run", &run, "--topology", "siblings", "--out", out.to_str().unwrap()]);
    assert_eq!((&report["answers"], &report["trees"]), (&json!(6), &json!(3)));
    let pair = &lines(&out.join("siblings.jsonl"))[0];
    assert_eq!(texts(&pair["answer_1"])[0].0, "assistant", "{pair}");
}
