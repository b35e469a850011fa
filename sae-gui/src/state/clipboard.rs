//! What is copied as text: a feature as JSON, the table as CSV. Puts nothing anywhere.

use super::field::Field;
use super::list::{FeatureList, FeatureName};
use super::open_run::OpenRun;
use sae_core::analysis::index::FeatureRow;
use serde_json::{Map, Value, json};

/// Everything that is known about the feature that is shown.
pub fn feature_json(run: &OpenRun) -> Option<String> {
    let row = run.feature()?;
    let fields = Field::ALL.into_iter().map(|field| (field.name().into(), value(&run.list, field, row)));
    let mut feature: Map<String, Value> = fields.collect();
    let examples: Vec<_> = run
        .example_groups()
        .and_then(Result::ok)
        .into_iter()
        .flatten()
        .flat_map(|group| group.examples.into_iter().map(move |e| (group.number, e)))
        .map(|(group, e)| {
            json!({ "group": group, "sample": e.sample, "position": e.position, "modality": e.modality as u8,
                    "activation": e.activation })
        })
        .collect();
    let neighbors = run.neighbors().and_then(Result::ok).unwrap_or_default();
    let neighbors: Vec<_> = neighbors.iter().map(|n| json!({ "feature": n.feature, "cosine": n.cosine })).collect();
    let written = run.label_edits.get(row.feature).and_then(|entry| serde_json::to_value(entry).ok());
    let words = run.list.typical_words(row.feature);
    feature.insert("run".into(), run.info.path().display().to_string().into());
    feature.insert("sae".into(), run.info.sae_name().into());
    feature.insert("model".into(), run.info.model.clone().into());
    feature.insert("written".into(), written.unwrap_or(Value::Null));
    feature.insert("typical_tokens".into(), words.map(|words| words.tokens.clone()).into());
    feature.insert("typical_image_words".into(), words.map(|words| words.image_words.clone()).into());
    feature.insert("examples".into(), examples.into());
    feature.insert("neighbors".into(), neighbors.into());
    Some(format!("{:#}", Value::Object(feature)))
}

fn value(list: &FeatureList, field: Field, row: &FeatureRow) -> Value {
    match field {
        Field::Class => row.class.clone().into(),
        Field::Label => match list.name(row.feature) {
            Some(FeatureName::Label(label)) => label.into(),
            _ => Value::Null,
        },
        _ if field.is_count() => list.value(field, row).map(|value| value as u64).into(),
        _ => list.value(field, row).into(),
    }
}

/// The rows that the table shows, in its order, with all fields.
pub fn table_csv(list: &FeatureList) -> String {
    list.shown().fold(header(), |out, row| out + &csv_row(list, row))
}

/// Some features with all fields.
pub fn features_csv(list: &FeatureList, features: impl IntoIterator<Item = u32>) -> String {
    let rows = features.into_iter().filter_map(|feature| list.row(feature));
    rows.fold(header(), |out, row| out + &csv_row(list, row))
}

fn header() -> String {
    Field::ALL.map(Field::name).join(",") + "\n"
}

fn csv_row(list: &FeatureList, row: &FeatureRow) -> String {
    let cell = |field| match value(list, field, row) {
        Value::Null => String::new(),
        Value::String(text) => quoted(&text),
        value => value.to_string(),
    };
    Field::ALL.map(cell).join(",") + "\n"
}

/// A cell as RFC 4180 has it.
fn quoted(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::annotations::Annotations;
    use crate::state::label_edits::LabelEdits;
    use sae_core::analysis::labels::{Entry, Labels};
    use sae_workbench::feature_table::PositionCounts;

    #[test]
    fn the_table_is_copied_as_it_is_shown() {
        let row = |feature, density| FeatureRow {
            feature,
            density,
            fires: 3,
            fires_text: 3,
            class: "text".into(),
            ..FeatureRow::default()
        };
        let positions = PositionCounts { all: 12, text: 6, image: 6, ..PositionCounts::default() };
        let mut list = FeatureList::new(vec![row(0, 0.25), row(1, 0.5), row(2, 0.125)], positions, Vec::new());
        let mut label_edits = LabelEdits::new("run".as_ref(), "base", "", Labels::default());
        label_edits.set_draft(Entry { label: "a \"red\", round".into(), ..Entry::empty(1) });
        label_edits.commit();
        list.set_annotations(Annotations::new(label_edits.written()));
        list.search("density>0.2");
        let csv = table_csv(&list);
        let lines: Vec<_> = csv.lines().collect();
        assert_eq!(lines.len(), 3);
        assert!(lines[0].starts_with("feature,class,rate_text,rate_image,ratio,fires") && lines[0].ends_with(",label"));
        assert_eq!(lines[1], "1,text,0.5,0.0,,3,3,0,0.5,0.0,0.0,0.0,0.0,,,,\"a \"\"red\"\", round\"");
        assert!(lines[2].starts_with("0,text,0.5,"));
        assert_eq!(features_csv(&list, [2, 77]).lines().count(), 2);
    }
}
