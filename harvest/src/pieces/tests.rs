//! Who speaks along the paths of trees, and the ids of pieces.

use super::*;
use crate::data::{AnswerPair, Tree, TreeNode};

fn record(turns: Vec<Turn>, pair: Option<AnswerPair>, tree: Tree) -> Record {
    Record {
        turns,
        pair,
        unanswered: false,
        about_answers: Default::default(),
        verbatim: None,
        action: None,
        images: Vec::new(),
        video: None,
        unattributed: false,
        tree,
        meta: Value::Null,
    }
}

#[test]
fn messages_without_a_speaker_answer_the_one_before_them() {
    let node = |id: &str, parent: Option<usize>, role: Option<Role>| TreeNode {
        id: id.to_owned(),
        parent,
        turns: vec![Turn::from_text(role.unwrap_or(Role::User), id)],
        unattributed: role.is_none(),
        ..TreeNode::default()
    };
    let nodes = vec![
        node("system", None, Some(Role::System)),
        node("asks", Some(0), None),
        node("answers", Some(1), None),
        node("goes on", Some(2), Some(Role::Assistant)),
        node("asks again", Some(3), None),
        node("asks as well", Some(1), Some(Role::User)),
        node("answers that", Some(5), None),
    ];
    let nodes = tree_nodes(&record(Vec::new(), None, Tree { nodes, lost: Vec::new() }), "key", "a.jsonl:0");
    let roles = |node: &Node| node.turns.iter().map(|turn| turn.role).collect::<Vec<_>>();
    let [system, user, model] = [Role::System, Role::User, Role::Assistant];
    assert_eq!(roles(&nodes[4]), [system, user, model, model, user]);
    assert_eq!(roles(&nodes[6]), [system, user, user, model]);
    assert_eq!(
        nodes.iter().map(|node| node.generate).collect::<Vec<_>>(),
        [false, true, false, false, true, true, false]
    );
}

#[test]
fn what_goes_on_with_a_turn_is_not_a_turn_of_its_own() {
    let node = |id: &str, parent: Option<usize>, continues: bool| TreeNode {
        id: id.to_owned(),
        parent,
        turns: vec![Turn::from_text(if parent.is_none() { Role::User } else { Role::Assistant }, id)],
        continues,
        ..TreeNode::default()
    };
    let nodes = vec![
        node("Who?", None, false),
        node("A man", Some(0), false),
        node(" and a dog.", Some(1), true),
        node(" in a boat.", Some(1), true),
        node(" It sails.", Some(3), true),
        node("Once more.", Some(3), false),
    ];
    let nodes = tree_nodes(&record(Vec::new(), None, Tree { nodes, lost: Vec::new() }), "key", "a.jsonl:0");
    let texts = |node: &Node| node.turns.iter().map(Turn::text).collect::<Vec<_>>();
    assert_eq!(texts(&nodes[2]), ["Who?", "A man and a dog."]);
    assert_eq!(texts(&nodes[4]), ["Who?", "A man in a boat. It sails."]);
    assert_eq!(texts(&nodes[5]), ["Who?", "A man in a boat.", "Once more."]);
    assert_eq!(nodes[4].turns[1].parts.len(), 1, "texts that meet are one part");
    assert_eq!((nodes[2].text.as_str(), nodes[5].text.as_str()), (" and a dog.", "Once more."));
    let divided: Vec<bool> = nodes.iter().map(|node| node.divides_turn).collect();
    assert_eq!(divided, [false, true, true, true, true, false]);
}
