//! `datetime.strftime` as Python does it on Linux, in the C locale.

use chrono::{NaiveDateTime, Timelike};
use std::fmt::Write;

/// Codes that `chrono` and Python render alike.
const ALIKE: &str = "aAbBcCdDeFgGhHIjklmMnpPrRStTuUVwWxXyY%";

/// A date by a format. What is no code of Python's stays as it is, and a date without a zone shows none.
pub(super) fn strftime(format: &str, date: NaiveDateTime) -> String {
    // Some flags make no sense with some codes, which `chrono` finds out when it writes.
    let written = |codes: &str| {
        let mut text = String::new();
        write!(text, "{}", date.format(codes)).is_ok().then_some(text)
    };
    let mut out = String::with_capacity(format.len() + 16);
    let mut rest = format;
    while let Some(start) = rest.find('%') {
        out.push_str(&rest[..start]);
        rest = &rest[start..];
        let flag = rest[1..].chars().next().filter(|c| "-_0^#".contains(*c));
        let code = rest[1 + flag.map_or(0, char::len_utf8)..].chars().next();
        let length = 1 + flag.map_or(0, char::len_utf8) + code.map_or(0, char::len_utf8);
        let text = match (flag, code) {
            (None, Some('f')) => Some(format!("{:06}", date.nanosecond() / 1000 % 1_000_000)),
            (None, Some('z' | 'Z')) => Some(String::new()),
            (None | Some('-' | '_' | '0'), Some(code)) if ALIKE.contains(code) => written(&rest[..length]),
            (Some('^'), Some(code)) if ALIKE.contains(code) => {
                written(&format!("%{code}")).map(|text| text.to_uppercase())
            }
            _ => None,
        };
        out.push_str(text.as_deref().unwrap_or(&rest[..length]));
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

    #[test]
    fn no_format_is_a_reason_to_panic() {
        let date = "2026-03-04T05:06:07".parse().unwrap();
        for flag in ["", "-", "_", "0", "^", "#"] {
            for code in (0..128u8).map(char::from).chain(['é']) {
                strftime(&format!("%Y%{flag}{code}%"), date);
            }
        }
    }
}
