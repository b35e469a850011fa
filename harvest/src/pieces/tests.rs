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
        row: None,
        meta: Value::Null,
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
