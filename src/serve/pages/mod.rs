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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_in_an_address_is_a_number() {
        assert_eq!((number("12", "feature"), number("x", "feature").map_err(|p| p.status)), (Ok(12), Err(404)));
    }
}
