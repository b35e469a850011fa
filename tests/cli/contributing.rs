//! CONTRIBUTING.md sends people to files; they have to exist.

use crate::tool::repository;
use std::fs;

#[test]
fn every_path_in_contributing_exists() {
    let text = fs::read_to_string(repository("CONTRIBUTING.md")).unwrap();
    let prose = text.split("```").step_by(2).collect::<Vec<_>>().join("\n");
    let quoted = prose.split('`').skip(1).step_by(2);
    let linked = prose.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next());
    let is_path = |text: &&str| {
        text.contains('/') && !text.starts_with('/') && !text.contains([' ', '*']) && !text.contains("FAMILY")
    };
    let paths: Vec<&str> = quoted.filter(is_path).chain(linked.filter(|link| !link.is_empty())).collect();
    assert!(paths.len() > 20, "{paths:?}");
    let absent: Vec<_> = paths.into_iter().filter(|path| !repository(path).exists()).collect();
    assert!(absent.is_empty(), "CONTRIBUTING.md names files that do not exist: {absent:?}");
}
