//! The list of the pages that were exported.

use super::{Column, Document, FILE_POLICY, Markup, table, tag};
use crate::analysis::dashboard::{FeatureView, Source};

/// The entry of a feature in the list of pages.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Line {
    /// The feature.
    pub feature: u32,
    /// Its class.
    pub class: String,
    /// Its label; empty if it has none.
    pub label: String,
    /// Share of positions on which it fires.
    pub density: f64,
    /// Its cross-modal weight, if it has one.
    pub weight: Option<f64>,
    /// The different tokens on which it fires most strongly, in that order; `[image]` for patches.
    pub tokens: Vec<String>,
}

impl Line {
    /// The line of a feature.
    pub fn new(view: &FeatureView) -> Self {
        Self {
            feature: view.feature,
            class: view.class.clone(),
            label: view.written.label.clone(),
            density: view.density,
            weight: view.weights.best(),
            tokens: view.strongest_tokens(),
        }
    }
}

/// The list of pages: a line for each feature, in this order.
pub fn list(source: &Source, lines: &[Line]) -> String {
    let about = format!("{} of {}", source.place(), source.model);
    let columns = [
        Column::number("feature"),
        Column::text("label"),
        Column::text("class"),
        Column::number("density"),
        Column::number("cross-modal weight"),
        Column::text("strongest tokens"),
    ];
    let rows = lines.iter().map(|line| {
        let feature = line.feature.to_string();
        let tokens = line.tokens.iter().map(|token| tag("code").text(token));
        vec![
            tag("a").attr("href", format!("{feature}.html")).text(&feature),
            Markup::text(&line.label),
            Markup::text(&line.class),
            format!("{:.2e}", line.density).into(),
            line.weight.map_or(String::new(), |weight| format!("{weight:.3}")).into(),
            Markup::joined(tokens, " "),
        ]
    });
    let head = tag("h1").text(&source.sae).and(tag("p").class("muted").text(&about));
    let document = Document {
        title: &source.sae,
        policy: Some(FILE_POLICY),
        head: Markup::new(),
        navigation: Markup::new(),
        main: head.and(table("Exported features", &columns, rows)),
    };
    document.render()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_the_data_becomes_markup() {
        let evil = "</td><script>alert(1)</script>".to_string();
        let source = Source { sae: evil.clone(), model: evil.clone(), ..Source::default() };
        let (class, label, tokens) = (evil.clone(), evil.clone(), vec![evil]);
        let list = list(&source, &[Line { feature: 3, class, label, tokens, ..Line::default() }]);
        assert!(!list.contains("<script") && list.matches("&lt;script&gt;").count() == 6, "{list}");
    }

    #[test]
    fn the_list_has_what_it_takes_to_choose() {
        let line = Line {
            feature: 7,
            class: "multimodal".into(),
            label: "rings".into(),
            density: 0.0125,
            weight: Some(0.5),
            tokens: vec!["ring".into(), "[image]".into()],
        };
        let list = list(&Source::default(), &[line]);
        for shown in ["7.html", "rings", "multimodal", "1.25e-2", "0.500", "<code>ring</code> <code>[image]</code>"] {
            assert!(list.contains(shown), "{shown}: {list}");
        }
    }
}
