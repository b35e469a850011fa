//! Rows that hold several texts, each in a column of its own: every text becomes a sample, as if the data set had a row for
//! it. Knows no schema and no format of files.

use super::columns::Columns;
use super::fields;
use super::row_error::RowError;
use sae_core::store::sample::melted_source;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fmt::{self, Display, Formatter};
use std::str::FromStr;

/// The field that says which row a melted sample comes from.
pub const SET: &str = "set";

/// Columns of a row that become samples of their own, such as several answers to a question.
///
/// ```
/// use harvest::data::Melt;
///
/// let melt: Melt = "monologue,decomposition:pattern".parse()?;
/// assert_eq!(melt.columns, ["monologue", "decomposition"]);
/// assert_eq!(melt.field, "pattern");
/// # Ok::<(), String>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Melt {
    /// The columns, by their names after renaming. They may not contain a colon.
    pub columns: Vec<String>,
    /// The field of the metadata that names the column of a sample.
    pub field: String,
}

impl FromStr for Melt {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let invalid = |cause: &str| format!("invalid columns {text:?}: {cause}, such as short,long:style");
        let (columns, field) = text.split_once(':').ok_or_else(|| invalid("expected columns, a colon and a field"))?;
        let columns: Vec<String> = columns.split(',').map(|name| name.trim().to_owned()).collect();
        let field = field.trim().to_owned();
        if columns.len() < 2 || columns.iter().any(String::is_empty) || field.is_empty() || field.contains(':') {
            return Err(invalid("expected two or more columns and the name of a field"));
        }
        if let Some(twice) = columns.iter().enumerate().find(|(n, name)| columns[..*n].contains(name)) {
            return Err(invalid(&format!("{} is named twice: expected different columns", twice.1)));
        }
        if field == SET {
            return Err(invalid(&format!(
                "the field {SET} says which row a sample comes from: expected another field"
            )));
        }
        Ok(Self { columns, field })
    }
}

impl Display for Melt {
    fn fmt(&self, f: &mut Formatter) -> fmt::Result {
        write!(f, "{}:{}", self.columns.join(","), self.field)
    }
}

/// A sample's part of a row.
pub(super) struct Melted {
    /// The columns of the row without those of other samples.
    pub columns: Columns,
    /// The text of the sample's own column; none if the row is one sample.
    pub text: Option<String>,
}

impl Melted {
    /// A row that is one sample.
    pub fn whole(columns: Columns) -> Self {
        Self { columns, text: None }
    }
}

impl Melt {
    /// Number of samples that a row becomes, including those that cannot be used.
    pub fn samples_per_row(&self) -> u64 {
        self.columns.len() as u64
    }

    /// The part of a row that the column with this number gives. `source` says where the row is.
    ///
    /// # Errors
    /// The row lacks the column, or has a field that melting adds.
    pub(super) fn part(&self, mut columns: Columns, number: usize, source: &str) -> Result<Melted, RowError> {
        for added in [&self.field, SET] {
            if columns.fields.contains_key(added) || columns.images.contains_key(added) {
                let cause = format!("the row has a column {added}, which melting adds: rename it, or the field");
                return Err(cause.into());
            }
        }
        let name = &self.columns[number];
        let text = match fields::get(&columns.fields, name) {
            Some(Value::String(text)) => text.clone(),
            Some(other) => return Err(fields::wrong_kind(name, other, "a string").into()),
            None => return Err(format!("the row has no text in the column {name}, so there is no such sample").into()),
        };
        columns.fields.retain(|name, _| !self.columns.contains(name));
        columns.fields.insert(self.field.clone(), name.as_str().into());
        columns.fields.insert(SET.to_owned(), source.into());
        Ok(Melted { columns, text: Some(text) })
    }

    /// The source of a sample.
    pub(super) fn source(&self, source: &str, number: usize) -> String {
        melted_source(source, &self.columns[number])
    }
}

/// Which columns the rows have that were looked at.
pub(super) struct Seen<'a> {
    melt: &'a Melt,
    missing: BTreeSet<&'a str>,
    present: BTreeSet<String>,
}

impl<'a> Seen<'a> {
    pub fn new(melt: &'a Melt) -> Self {
        let missing = melt.columns.iter().map(String::as_str).collect();
        Self { melt, missing, present: BTreeSet::new() }
    }

    /// Looks at a row. Returns whether nothing is missing any more.
    pub fn add(&mut self, columns: &Columns) -> bool {
        self.missing.retain(|name| fields::get(&columns.fields, name).is_none());
        self.present.extend(columns.fields.keys().chain(columns.images.keys()).cloned());
        self.missing.is_empty()
    }

    /// Says what prevents melting.
    pub fn finish(self) -> Result<(), String> {
        let present = || self.present.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
        if let Some(name) = self.missing.first() {
            return Err(format!("no row has a text in the column {name} (rows have {})", present()));
        }
        match [self.melt.field.as_str(), SET].into_iter().find(|added| self.present.contains(*added)) {
            Some(added) => Err(format!("rows have a column {added} of their own, which melting adds: rename it")),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn columns_and_their_field_are_read() {
        let read = |text: &str| text.parse::<Melt>();
        assert_eq!(read("a, b:style").unwrap().to_string(), "a,b:style");
        for (text, expected) in [
            ("a,b", "a colon and a field"),
            ("a:style", "two or more columns"),
            ("a,b:", "name of a field"),
            ("a,,b:style", "two or more columns"),
            ("a,b,a:style", "a is named twice"),
            ("a,b:set", "expected another field"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn each_column_gives_a_part_of_the_row() {
        let melt: Melt = "short,long:style".parse().unwrap();
        let part = |row: Value, number: usize| {
            let Value::Object(fields) = row else { panic!("an object") };
            let found = melt.part(Columns { fields, ..Columns::default() }, number, "a.jsonl:3");
            found.map(|part| (Value::Object(part.columns.fields), part.text.unwrap())).map_err(|error| error.cause)
        };
        let row = json!({"question": "q", "short": "s", "long": "l", "level": 2});
        let rest = json!({"question": "q", "level": 2, "style": "long", "set": "a.jsonl:3"});
        assert_eq!(part(row, 1).unwrap(), (rest, "l".into()));
        assert!(part(json!({"short": "s", "long": null}), 1).unwrap_err().contains("no text in the column long"));
        assert!(part(json!({"short": 7}), 0).unwrap_err().contains("short holds a number"));
        assert!(part(json!({"short": "s", "set": 1}), 0).unwrap_err().contains("a column set, which melting adds"));
    }
}
