//! `datetime.strftime` as Python does it on Linux, in the C locale.

use chrono::{NaiveDateTime, Timelike};
use std::fmt::Write;

/// Codes that `chrono` and Python render alike.
const ALIKE: &str = "aAbBcCdDeFgGhHIjklmMnpPrRStTuUVwWxXyY%";

/// A date by a format. What is no code of Python's stays as it is, and a date without a zone shows none.
pub(super) fn strftime(format: &str, date: NaiveDateTime) -> String {
    let mut out = String::with_capacity(format.len() + 16);
    let mut rest = format;
    while let Some(start) = rest.find('%') {
        out.push_str(&rest[..start]);
        rest = &rest[start..];
        let flag = rest[1..].chars().next().filter(|c| "-_0^#".contains(*c));
        let code = rest[1 + flag.map_or(0, char::len_utf8)..].chars().next();
        let length = 1 + flag.map_or(0, char::len_utf8) + code.map_or(0, char::len_utf8);
        match (flag, code) {
            (None, Some('f')) => write!(out, "{:06}", date.nanosecond() / 1000 % 1_000_000),
            (None, Some('z' | 'Z')) => Ok(()),
            (None | Some('-' | '_' | '0'), Some(code)) if ALIKE.contains(code) => {
                write!(out, "{}", date.format(&rest[..length]))
            }
            (Some('^'), Some(code)) if ALIKE.contains(code) => {
                write!(out, "{}", date.format(&format!("%{code}")).to_string().to_uppercase())
            }
            _ => out.write_str(&rest[..length]),
        }
        .expect("a string takes whatever is written to it");
        rest = &rest[length..];
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Formats, dates and what Python makes of them (tests/golden/make_templates.py).
    #[test]
    fn dates_look_as_in_python() {
        let dates: Vec<(String, NaiveDateTime, String)> = {
            let dates: Vec<(String, String, String)> =
                serde_json::from_str(include_str!("../../../tests/golden/templates/dates.json")).unwrap();
            dates.into_iter().map(|(format, date, expected)| (format, date.parse().unwrap(), expected)).collect()
        };
        for (format, date, expected) in dates {
            assert_eq!(strftime(&format, date), expected, "{format} of {date}");
        }
    }
}
