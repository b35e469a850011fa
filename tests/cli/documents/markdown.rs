//! What the tests need of Markdown: links, the anchors of headings, and mdBook's includes.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// A document with the files that it includes.
pub struct Document {
    /// Links and sources of images, each with its line.
    pub links: Vec<(usize, String)>,
    /// What is set as `code` within lines.
    pub code: Vec<String>,
    /// What `#anchor` may name, as GitHub and mdBook derive it from headings.
    pub anchors: BTreeSet<String>,
}

impl Document {
    /// Reads a file.
    pub fn read(path: &Path) -> Self {
        let (mut links, mut code, mut anchors) = (Vec::new(), Vec::new(), BTreeSet::new());
        let mut fenced = false;
        for (number, line) in expanded(path).lines().enumerate() {
            fenced ^= line.trim_start().starts_with("```");
            if fenced {
                continue;
            }
            // Links inside of code are code, and links around code stay links.
            let visible: String = line.split('`').step_by(2).collect();
            code.extend(line.split('`').skip(1).step_by(2).map(String::from));
            let targets = visible.match_indices("](").map(|(at, mark)| &visible[at + mark.len()..]);
            links.extend(targets.filter_map(|rest| Some((number + 1, rest.split_once(')')?.0.to_string()))));
            if let Some(heading) = line.strip_prefix('#') {
                let anchor = anchor(heading.trim_start_matches('#').trim());
                let numbered = (1..).map(|n| format!("{anchor}-{n}"));
                let free = std::iter::once(anchor.clone()).chain(numbered).find(|name| !anchors.contains(name));
                anchors.extend(free);
            }
        }
        Self { links, code, anchors }
    }
}

/// The text of a file, with `{{#include FILE}}` replaced by the text of that file.
fn expanded(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let expand = |line: &str| match line.trim().strip_prefix("{{#include ").and_then(|rest| rest.strip_suffix("}}")) {
        Some(file) => expanded(&path.parent().unwrap().join(file)),
        None => line.to_string(),
    };
    text.lines().map(expand).collect::<Vec<_>>().join("\n")
}

/// The anchor of a heading: letters, digits, hyphens and underscores, in lower case.
fn anchor(heading: &str) -> String {
    let text = heading.replace("&lt;", "<").replace("&gt;", ">").to_lowercase();
    let kept = text.chars().filter(|sign| sign.is_alphanumeric() || "-_ ".contains(*sign));
    kept.map(|sign| if sign == ' ' { '-' } else { sign }).collect()
}
