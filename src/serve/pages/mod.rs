//! The pages: for each, what it says as a structure, which is also the JSON of the same address under `/api`, and its HTML. Data
//! goes one way: from the run to the structure, from there to HTML or JSON.

pub mod contrast;
pub mod feature;
pub mod features;
pub mod filter;
pub mod run;
pub mod sample;
mod shell;

pub use shell::{Shell, hidden};

use super::problem::Problem;
use sae_core::analysis::dashboard::html::Markup;
use serde::Serialize;

/// What a page says.
pub trait View: Serialize {
    /// The title of the window.
    fn title(&self) -> String;

    /// The page.
    fn main(&self, shell: &Shell) -> Markup;
}

/// A number that is part of an address.
fn number(text: &str, what: &str) -> Result<u32, Problem> {
    text.parse().map_err(|_| Problem::not_found(format!("there is no {what} {text:?}: expected its number")))
}

/// A share as `12.3 %`, with three digits.
fn percent(share: f64) -> String {
    let percent = 100.0 * share;
    if percent == 0.0 || percent >= 0.01 { format!("{} %", real(percent)) } else { format!("{percent:.1e} %") }
}

/// A number with about four digits.
fn real(value: f64) -> String {
    match value.abs() {
        0.0 => "0".into(),
        size if !(1e-3..1e6).contains(&size) => format!("{value:.2e}"),
        size if size >= 100.0 => format!("{value:.1}"),
        size if size >= 10.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_as_many_digits_as_people_read() {
        let shown = [0.0, 0.12345, -1.5, 12.345, 1234.56, 1e-5, 2e9].map(real);
        assert_eq!(shown, ["0", "0.123", "-1.500", "12.35", "1234.6", "1.00e-5", "2.00e9"]);
        assert_eq!([0.0, 0.5, 0.00123, 1e-6].map(percent), ["0 %", "50.00 %", "0.123 %", "1.0e-4 %"]);
        assert_eq!((number("12", "feature"), number("x", "feature").map_err(|p| p.status)), (Ok(12), Err(404)));
    }
}
