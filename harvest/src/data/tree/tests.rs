//! Rows that form trees, and the reasons why others belong to none.

use super::*;
use crate::data::{Mapping, Source};
use serde_json::json;

fn read(rows: &[Value]) -> Rows {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.jsonl");
    std::fs::write(&path, rows.iter().map(|row| format!("{row}\n")).collect::<String>()).unwrap();
    let rows: Vec<_> = Source::open(&path).unwrap().rows(&Mapping::new()).unwrap().collect();
    Box::new(rows.into_iter())
}

/// The trees of rows, each as its ids with their parents, and the other rows as their numbers, keys and reasons.
type Read = (Vec<Vec<(String, Option<usize>)>>, Vec<(u64, String, String)>);

fn read_trees(rows: &[Value]) -> Read {
    let (mut found, mut skipped) = (Vec::new(), Vec::new());
    for row in trees(read(rows)).unwrap() {
        let row = row.unwrap();
        match row.record {
            Ok(record) => found.push(record.tree.nodes.into_iter().map(|node| (node.id, node.parent)).collect()),
            Err(error) => skipped.push((row.number, row.key, error.cause)),
        }
    }
    (found, skipped)
}

fn nodes(list: &[(&str, Option<usize>)]) -> Vec<(String, Option<usize>)> {
    list.iter().map(|(id, parent)| ((*id).to_owned(), *parent)).collect()
}

#[test]
fn parents_that_are_whole_numbers_are_read_in_any_form() {
    // Where some rows have no parent, tables store all of them as floats, and their text has a fraction.
    let (found, skipped) = read_trees(&[
        json!({"id": 3, "parent_id": null, "text": "a"}),
        json!({"id": 4, "parent_id": 3.0, "text": "b"}),
        json!({"id": 5.0, "parent_id": "3.0", "text": "c"}),
        json!({"id": "6", "parent_id": 5, "text": "d"}),
        json!({"id": 7, "parent_id": 3.5, "text": "e"}),
        json!({"id": 8, "parent_id": "3.5", "text": "f"}),
        json!({"id": 9, "parent_id": [3], "text": "g"}),
    ]);
    assert_eq!(found, [nodes(&[("3", None), ("4", Some(0)), ("5", Some(0)), ("6", Some(2))])]);
    let keys: Vec<&str> = skipped.iter().map(|(_, key, _)| key.as_str()).collect();
    assert_eq!(keys, ["7", "8", "9"]);
    assert!(skipped[0].2.contains("parent_id is 3.5") && skipped[0].2.contains("a whole number"), "{skipped:?}");
    assert!(skipped[1].2.contains("3.5 is not among the rows") && skipped[2].2.contains("parent_id is a list"));
}

#[test]
fn what_continues_one_of_several_rows_with_an_id_is_listed() {
    let row = |id: &str, parent: Option<&str>| json!({"id": id, "parent_id": parent, "text": id});
    let (found, skipped) = read_trees(&[
        row("a", None),
        row("twice", Some("a")),
        row("below", Some("twice")),
        row("twice", Some("a")),
        row("deeper", Some("below")),
        row("b", Some("a")),
    ]);
    assert_eq!(found, [nodes(&[("a", None), ("twice", Some(0)), ("b", Some(0))])]);
    let numbers: Vec<(u64, &str)> = skipped.iter().map(|(number, key, _)| (*number, key.as_str())).collect();
    assert_eq!(numbers, [(2, "below"), (3, "twice"), (4, "deeper")], "the numbers are those of the rows");
    assert!(skipped[0].2.contains("the id of 2 messages: twice") && skipped[1].2.contains("another row has the id"));
    assert!(skipped[2].2.contains("its parents are skipped"), "{skipped:?}");
}

#[test]
fn a_number_of_a_row_names_it_only_where_no_id_does() {
    let (found, skipped) = read_trees(&[
        json!({"text": "a"}),
        json!({"id": 0, "text": "b"}),
        json!({"parent": 0, "text": "c"}),
        json!({"parent": 2, "text": "d"}),
    ]);
    assert_eq!(found, [nodes(&[("0", None)]), nodes(&[("0", None), ("2", Some(0)), ("3", Some(1))])]);
    assert!(skipped.is_empty());
}

#[test]
fn rows_and_nested_replies_continue_each_other() {
    let nested = |id: &str, parent: Option<&str>| {
        json!({"parent_id": parent, "note": id, "prompt": {"message_id": id, "text": id, "image": "http://x.png", "replies": [
            {"message_id": format!("{id}1"), "text": "one", "image": "http://y.png"}, {"message_id": "bad"}]}})
    };
    let rows = [
        json!({"id": "below", "parent_id": "r1", "text": "a", "image": "http://z.png"}),
        nested("r", None),
        nested("s", Some("below")),
        json!({"id": "leaf", "parent_id": "s1", "text": "b"}),
        nested("lost", Some("nobody")),
        json!({"id": "ambiguous", "parent_id": "bad", "text": "b"}),
    ];
    let (found, skipped) = read_trees(&rows);
    let expected =
        [("r", None), ("r1", Some(0)), ("below", Some(1)), ("s", Some(2)), ("s1", Some(3)), ("leaf", Some(4))];
    assert_eq!(found, [nodes(&expected)]);
    let keys: Vec<(u64, &str)> = skipped.iter().map(|(number, key, _)| (*number, key.as_str())).collect();
    assert_eq!(keys, [(1, "1/bad"), (2, "2/bad"), (4, "4/lost"), (4, "4/lost1"), (4, "4/bad"), (5, "ambiguous")]);
    assert!(skipped[0].2.contains("no text") && skipped[2].2.contains("nobody is not among the rows"), "{skipped:?}");
    assert!(skipped[3].2.contains("its parents are skipped") && skipped[5].2.contains("the id of 3 messages: bad"));

    let tree = trees(read(&rows)).unwrap().next().unwrap().unwrap().record.unwrap();
    let shown = |node: &TreeNode| node.turns[0].parts.iter().find(|part| part.text().is_none()).cloned();
    let paths = tree.tree.nodes.iter().map(|node| match shown(node) {
        Some(sae_core::store::conversation::TurnPart::Image(number)) => Some(tree.images[number].path.clone()),
        _ => None,
    });
    let paths: Vec<Option<String>> = paths.collect();
    assert_eq!(
        paths,
        ["x", "y", "z", "x", "y", ""].map(|name| (!name.is_empty()).then(|| format!("http://{name}.png")))
    );
    assert_eq!(tree.tree.nodes[4].meta["note"], "s");
    assert_eq!(tree.tree.nodes[4].row.as_ref().unwrap().0, "2/s1");
}

#[test]
fn a_row_that_cannot_be_a_node_leaves_its_siblings() {
    let row = |id: &str, parent: &str| json!({"id": id, "parent_id": parent, "text": id});
    let (found, skipped) = read_trees(&[
        json!({"id": "r", "text": "r"}),
        json!({"id": "pair", "parent_id": "r", "question": "q", "chosen": "a", "rejected": "b"}),
        row("good", "r"),
        json!({"id": "told", "parent_id": "r", "text": "a", "role": "narrator"}),
        row("below", "pair"),
    ]);
    assert_eq!(found, [nodes(&[("r", None), ("good", Some(0))])]);
    assert!(skipped[0].2.contains("two answers") && skipped[1].2.contains("narrator"), "{skipped:?}");
    assert!(skipped.len() == 3 && skipped[2].2.contains("its parents are skipped"));
}

#[test]
fn what_cannot_go_on_with_the_turn_of_its_parent_is_listed() {
    let row = |id: &str, parent: Option<&str>, role: &str| json!({"id": id, "parent_id": parent, "text": id, "role": role, "continues": id.starts_with("on")});
    let rows = [
        json!({"id": "q", "messages": [{"role": "user", "content": "q"}]}),
        row("a", Some("q"), "assistant"),
        row("on", Some("a"), "assistant"),
        row("on further", Some("on"), "assistant"),
        row("on as another", Some("a"), "user"),
        row("on the prompt", Some("q"), "user"),
        row("on of the prompt", Some("q"), "assistant"),
        row("on alone", None, "assistant"),
        json!({"id": "two", "parent_id": "a", "continues": true, "messages": [
            {"role": "assistant", "content": "a"}, {"role": "user", "content": "b"}]}),
        json!({"id": "not", "parent_id": "a", "text": "a", "role": "user", "continues": "true"}),
    ];
    let trees: Vec<Row> = trees(read(&rows)).unwrap().map(Result::unwrap).collect();
    let nodes = &trees[0].record.as_ref().unwrap().tree.nodes;
    let found: Vec<(&str, bool)> = nodes.iter().map(|node| (node.id.as_str(), node.continues)).collect();
    let expected =
        [("q", false), ("a", false), ("on", true), ("on further", true), ("not", false), ("on the prompt", true)];
    assert_eq!(found, expected);
    let reasons: Vec<(&str, &str)> =
        trees[1..].iter().map(|row| (row.key.as_str(), row.record.as_ref().unwrap_err().cause.as_str())).collect();
    assert_eq!(
        reasons.iter().map(|(key, _)| *key).collect::<Vec<_>>(),
        ["on as another", "on of the prompt", "on alone", "two"]
    );
    assert!(reasons[0].1.contains("said by the user, and its parent by the assistant"), "{reasons:?}");
    assert!(reasons[1].1.contains("said by the assistant, and its parent by the user"), "{reasons:?}");
    assert!(reasons[2].1.contains("the first message of its tree") && reasons[3].1.contains("2 turns"), "{reasons:?}");
}

#[test]
fn a_message_whose_image_is_missing_leaves_its_siblings() {
    let (found, skipped) = read_trees(&[
        json!({"prompt": {"id": "r", "text": "r", "replies": [
            {"id": "gone", "text": "a", "image": "gone.png"}, {"id": "good", "text": "b"}]}}),
        json!({"id": "gone as well", "parent_id": "good", "text": "a", "image": "gone.png"}),
        json!({"id": "leaf", "parent_id": "good", "text": "a"}),
    ]);
    assert_eq!(found, [nodes(&[("r", None), ("good", Some(0)), ("leaf", Some(1))])]);
    assert_eq!(skipped.iter().map(|(_, key, _)| key.as_str()).collect::<Vec<_>>(), ["0/gone", "gone as well"]);
    assert!(skipped.iter().all(|(.., reason)| reason.contains("gone.png")), "{skipped:?}");
}

#[test]
fn the_size_of_trees_is_bounded() {
    let rows: Vec<Value> =
        (0..5000).map(|n| json!({"id": n, "parent_id": (n > 0).then_some(0), "text": "a"})).collect();
    let (found, skipped) = read_trees(&rows);
    assert_eq!((found[0].len(), skipped.len()), (MOST_MESSAGES, 5000 - MOST_MESSAGES));
    assert!(skipped[0].2.contains("more than 4096 messages"));
    let Err(error) = trees_within(read(&rows), 100_000) else { panic!("the rows are larger") };
    assert!(matches!(error, Error::LargeTrees { rows: 1.., limit: 100_000 }) && error.hint().is_some());
}

#[test]
fn trees_are_counted() {
    let count = |rows: &[Value]| {
        let mut counter = TreeCounter::default();
        read(rows).for_each(|row| counter.add(&row.unwrap()));
        counter.finish()
    };
    let flat = |id: u32, parent: Option<u32>| json!({"id": id, "parent_id": parent, "text": "a"});
    let counts =
        |trees, nested, messages, depth, unattached| Some(TreeCounts { trees, nested, messages, depth, unattached });
    assert_eq!(
        count(&[flat(0, None), flat(1, Some(0)), flat(2, Some(1)), flat(3, None), flat(4, Some(9))]),
        counts(1, 0, 3, 3, 1)
    );
    let nested = json!({"text": "q", "replies": [{"text": "a"}, {"text": "b", "replies": [{"text": "c"}]}]});
    assert_eq!(count(&[nested.clone(), nested]), counts(2, 2, 8, 3, 0));
    assert_eq!(count(&[flat(0, None), json!({"text": "a", "parent": "category"}), flat(2, None)]), None);
}

/// A row: its id, its parent, and the ids of nested replies, if it has any.
type Drawn = (Option<u32>, Option<u32>, Option<Vec<Option<u32>>>);

proptest::proptest! {
    #[test]
    fn every_message_is_in_one_tree_or_listed(drawn in proptest::collection::vec(proptest::prelude::any::<Drawn>(), 1..12)) {
        let few = |id: u32| id % 9;
        let row = |(id, parent, replies): &Drawn| {
            let reply = |id: &Option<u32>| json!({"id": id.map(few), "text": "a"});
            let mut row = json!({"parent_id": parent.map(few).map(f64::from), "text": "a"});
            if let Some(id) = id {
                row["id"] = few(*id).into();
            }
            if let Some(replies) = replies.as_ref().filter(|replies| !replies.is_empty()) {
                row["replies"] = replies.iter().take(5).map(reply).collect();
            }
            row
        };
        let rows: Vec<Value> = drawn.iter().map(row).collect();
        let replies = |row: &Value| row["replies"].as_array().map_or(0, Vec::len);
        let messages: usize = rows.iter().map(|row| 1 + replies(row)).sum();
        let (found, skipped) = read_trees(&rows);
        proptest::prop_assert_eq!(found.iter().map(Vec::len).sum::<usize>() + skipped.len(), messages);
        for tree in found {
            let comes_before = |(n, (_, parent)): (usize, &(String, Option<usize>))| match parent {
                None => n == 0,
                Some(parent) => *parent < n,
            };
            proptest::prop_assert!(tree.iter().enumerate().all(comes_before));
        }
    }
}
