//! What is copied out: a feature as JSON, the table as CSV. Puts nothing anywhere.

use super::field::Field;
use super::list::FeatureList;
use super::open_run::OpenRun;
use sae_core::analysis::index::FeatureRow;
use serde_json::{Map, Value, json};

/// All that is known of the feature looked at.
pub fn json(run: &OpenRun) -> Option<String> {
    let row = run.feature()?;
    let mut feature: Map<String, Value> =
        Field::ALL.into_iter().map(|field| (field.name().into(), value(field, row))).collect();
    let examples: Vec<_> = run
        .groups()
        .and_then(Result::ok)
        .into_iter()
        .flatten()
        .flat_map(|group| group.examples.into_iter().map(move |e| (group.number, e)))
        .map(|(group, e)| {
            json!({ "group": group, "sample": e.sample, "position": e.position, "modality": e.modality as u8,
                    "activation": e.activation })
        })
        .collect();
    let near = run.neighbors().and_then(Result::ok).unwrap_or_default();
    let near: Vec<_> = near.iter().map(|n| json!({ "feature": n.feature, "cosine": n.cosine })).collect();
    let written = run.labeling.get(row.feature).and_then(|entry| serde_json::to_value(entry).ok());
    feature.insert("run".into(), run.info.root.display().to_string().into());
    feature.insert("sae".into(), run.info.sae.clone().into());
    feature.insert("model".into(), run.info.model.clone().into());
    feature.insert("written".into(), written.unwrap_or(Value::Null));
    feature.insert("examples".into(), examples.into());
    feature.insert("neighbors".into(), near.into());
    Some(format!("{:#}", Value::Object(feature)))
}

fn value(field: Field, row: &FeatureRow) -> Value {
    match field {
        Field::Class => row.class.clone().into(),
        Field::Feature | Field::Fires | Field::Text | Field::Image => field.value(row).map(|value| value as u64).into(),
        _ => field.value(row).into(),
    }
}

/// The shown rows of the table, in its order, with their labels.
pub fn csv(list: &FeatureList) -> String {
    let mut out = Field::ALL.map(Field::name).join(",") + ",label\n";
    for row in list.shown() {
        for field in Field::ALL {
            match value(field, row) {
                Value::Null => {}
                Value::String(text) => out += &quoted(&text),
                value => out += &value.to_string(),
            }
            out.push(',');
        }
        out += &quoted(list.marks().label(row.feature).unwrap_or_default());
        out.push('\n');
    }
    out
}

/// As RFC 4180 has it.
fn quoted(text: &str) -> String {
    match text.contains([',', '"', '\n', '\r']) {
        true => format!("\"{}\"", text.replace('"', "\"\"")),
        false => text.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::annotations::Annotations;
    use crate::state::label_edits::LabelEdits;
    use sae_core::analysis::labels::{Entry, Labels};

    #[test]
    fn the_table_is_copied_as_it_is_shown() {
        let row =
            |feature, density| FeatureRow { feature, density, fires: 3, class: "text".into(), ..FeatureRow::default() };
        let mut list = FeatureList::new(vec![row(0, 0.25), row(1, 0.5), row(2, 0.125)]);
        let mut labeling = LabelEdits::new("base", "", Labels::default());
        labeling.type_in(Entry { label: "a \"red\", round".into(), ..Entry::empty(1) });
        labeling.commit();
        list.mark(Annotations::of(&labeling));
        list.search("density>0.2");
        let csv = csv(&list);
        let lines: Vec<_> = csv.lines().collect();
        assert_eq!(lines.len(), 3);
        assert!(lines[0].starts_with("feature,class,fires") && lines[0].ends_with(",label"));
        assert_eq!(lines[1], "1,text,3,0,0,0.5,0.0,0.0,,,,\"a \"\"red\"\", round\"");
        assert!(lines[2].starts_with("0,text,3,"));
    }
}
