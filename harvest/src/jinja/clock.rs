//! `datetime.strftime` as Python does it on Linux, in the C locale.

use chrono::{NaiveDateTime, Timelike};
use std::fmt::Write;

/// Codes that `chrono` and Python render in the same way.
const SAME: &str = "aAbBcCdDeFgGhHIjklmMnpPrRStTuUVwWxXyY%";

/// Formats a date. Codes that Python does not know stay as they are. A date without a time zone shows none.
pub(super) fn strftime(format: &str, date: NaiveDateTime) -> String {
    // Some combinations of flags and codes are invalid, which `chrono` reports when it writes.
    let formatted = |codes: &str| {
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
            (None | Some('-' | '_' | '0'), Some(code)) if SAME.contains(code) => formatted(&rest[..length]),
            (Some('^'), Some(code)) if SAME.contains(code) => {
                formatted(&format!("%{code}")).map(|text| text.to_uppercase())
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

    /// Formats, dates, and the results of Python (tests/golden/make_templates.py).
    #[test]
    fn dates_are_formatted_as_in_python() {
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
    fn no_format_causes_a_panic() {
        let date = "2026-03-04T05:06:07".parse().unwrap();
        for flag in ["", "-", "_", "0", "^", "#"] {
            for code in (0..128u8).map(char::from).chain(['é']) {
                strftime(&format!("%Y%{flag}{code}%"), date);
            }
        }
    }
}
