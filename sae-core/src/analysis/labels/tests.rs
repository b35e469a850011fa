//! Edits meet: with themselves, with other writers, with a file that a person has broken.

use super::*;
use proptest::prelude::*;

fn entry(feature: u32, label: &str) -> Entry {
    Entry { feature, label: label.into(), author: "ann".into(), ..Entry::default() }
}

fn labeled(before: &Entry, label: &str) -> Change {
    Change::Entry { before: before.clone(), after: Entry { label: label.into(), ..before.clone() } }
}

fn run() -> (tempfile::TempDir, Run) {
    let dir = tempfile::tempdir().unwrap();
    let run = Run::create(&dir.path().join("run")).unwrap();
    (dir, run)
}

fn known(run: &Run) -> Labels {
    Labels::read(run).unwrap()
}

#[test]
fn what_is_saved_is_read_again_and_an_edit_can_be_taken_back() {
    let (_dir, run) = run();
    let change = Change::Entry { before: Entry::empty(7), after: entry(7, "red") };
    let saved = Labels::save(&run, "base", std::slice::from_ref(&change), &Labels::default()).unwrap();
    assert_eq!(saved.labels, known(&run));
    assert_eq!(known(&run).written("base").unwrap().entry(7).unwrap().label, "red");
    let list = Change::List { name: "colors".into(), before: vec![], after: vec![9, 7] };
    Labels::save(&run, "base", &[list], &known(&run)).unwrap();
    assert_eq!(known(&run).written("base").unwrap().lists()["colors"], [7, 9]);
    Labels::save(&run, "base", &[change.reversed()], &known(&run)).unwrap();
    assert!(known(&run).written("base").unwrap().entry(7).is_none());
}

#[test]
fn two_editors_of_one_feature_lose_no_words() {
    let (_dir, run) = run();
    let seen = Entry::empty(3);
    let mine = Entry { notes: "look at the rim".into(), ..entry(3, "ring") };
    let theirs = Entry { author: "a model".into(), score: Some(0.5), notes: "weak".into(), ..entry(3, "circle") };
    let starred = Change::Entry { before: seen.clone(), after: Entry { star: true, ..seen.clone() } };
    let save = |after: &Entry| {
        let change = Change::Entry { before: seen.clone(), after: after.clone() };
        Labels::save(&run, "base", &[change], &Labels::default()).unwrap().conflicts
    };
    assert!(save(&theirs).is_empty(), "the first editor meets nobody");
    let conflicts = save(&mine);
    let [conflict] = &conflicts[..] else { panic!("{conflicts:?}") };
    assert_eq!((&conflict.theirs, &conflict.yours, &conflict.before), (&theirs, &mine, &seen));
    assert!(save(&mine).is_empty(), "the same again is no conflict");
    let starred = Labels::save(&run, "base", &[starred], &Labels::default()).unwrap();
    assert!(starred.conflicts.is_empty(), "a star meets no text");
    let labels = known(&run);
    let merged = labels.written("base").unwrap().entry(3).unwrap();
    assert_eq!((merged.label.as_str(), merged.author.as_str(), merged.score, merged.star), ("ring", "ann", None, true));
    assert_eq!(merged.notes, "look at the rim\nweak\nalso labeled \"circle\" by a model");
}

#[test]
fn writers_at_once_all_get_their_words_in() {
    let (_dir, run) = run();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let run = &run;
            scope.spawn(move || {
                for n in 0..10 {
                    let feature = 10 * thread + n;
                    let change = labeled(&Entry::empty(feature), &format!("label {feature}"));
                    let list = Change::List { name: "all".into(), before: vec![], after: vec![feature] };
                    Labels::save(run, "base", &[change, list], &Labels::default()).unwrap();
                }
            });
        }
    });
    let labels = known(&run);
    assert_eq!(labels.written("base").unwrap().entries().len(), 40);
    assert_eq!(labels.written("base").unwrap().lists()["all"].len(), 40);
}

#[test]
fn an_unreadable_file_is_renamed_and_known_labels_are_kept() {
    let (_dir, run) = run();
    let change = labeled(&Entry::empty(1), "red");
    let saved = Labels::save(&run, "base", &[change], &Labels::default()).unwrap();
    for (n, nonsense) in ["{ \"saes\": [", "{\"schema_version\": 1, \"saes\": {\"../x\": {}}}", "[]"].iter().enumerate()
    {
        fs::write(run.labels(), nonsense).unwrap();
        assert!(Labels::read(&run).is_err(), "{nonsense}");
        let change = labeled(&Entry::empty(10 + n as u32), "green");
        let after = Labels::save(&run, "base", &[change], &saved.labels).unwrap();
        let (moved, cause) = after.moved.unwrap();
        assert_eq!(fs::read_to_string(moved).unwrap(), *nonsense);
        assert!(!cause.is_empty());
        let labels = known(&run);
        let word = |feature| labels.written("base").unwrap().entry(feature).map(|entry| entry.label.as_str());
        assert_eq!((word(1), word(10 + n as u32)), (Some("red"), Some("green")));
    }
}

#[test]
fn a_newer_file_is_neither_read_nor_touched() {
    let (_dir, run) = run();
    let newer = "{\"schema_version\": 2, \"saes\": 5}";
    fs::write(run.labels(), newer).unwrap();
    let refused = Labels::save(&run, "base", &[labeled(&Entry::empty(1), "red")], &Labels::default()).unwrap_err();
    assert!(refused.to_string().contains("layout 2"), "{refused}");
    assert_eq!(fs::read_to_string(run.labels()).unwrap(), newer);
}

#[test]
fn what_others_put_into_the_file_stays() {
    let (_dir, run) = run();
    let text = r#"{"schema_version": 1, "saes": {"base": {"labels": [{"feature": 4, "label": "x", "tags": ["a"]}],
        "origin": "import"}}, "license": "CC0"}"#;
    fs::write(run.labels(), text).unwrap();
    let before = known(&run).written("base").unwrap().entry(4).unwrap().clone();
    Labels::save(&run, "base", &[labeled(&before, "y")], &known(&run)).unwrap();
    let value: Value = file::read_json(&run.labels(), LIMIT).unwrap();
    assert_eq!(value["license"], "CC0");
    assert_eq!(value["saes"]["base"]["origin"], "import");
    assert_eq!(value["saes"]["base"]["labels"][0]["tags"][0], "a");
    assert_eq!(value["saes"]["base"]["labels"][0]["label"], "y");
}

#[test]
fn two_labels_of_one_feature_are_rejected() {
    let (_dir, run) = run();
    let text = r#"{"schema_version": 1, "saes": {"base": {"labels": [{"feature": 4}, {"feature": 4}]}}}"#;
    fs::write(run.labels(), text).unwrap();
    assert!(Labels::read(&run).unwrap_err().to_string().contains("feature 4 of base has two labels"));
}

proptest! {
    #[test]
    fn edits_taken_back_in_reverse_leave_nothing(
        edits in prop::collection::vec((0u32..5, "[a-c]{0,2}", "[a-c\n]{0,3}", any::<bool>()), 0..20),
    ) {
        let mut labels = Labels::default();
        let mut made = Vec::new();
        for (feature, label, notes, star) in edits {
            let before = labels.written("base").and_then(|w| w.entry(feature).cloned()).unwrap_or_else(|| Entry::empty(feature));
            let after = Entry { label, notes, star, ..before.clone() };
            let change = Change::Entry { before, after };
            labels.apply("base", std::slice::from_ref(&change));
            made.push(change);
        }
        for change in made.iter().rev() {
            labels.apply("base", &[change.reversed()]);
        }
        prop_assert!(labels.written("base").is_none_or(|written| written.entries().is_empty()));
    }
}
