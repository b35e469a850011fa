//! The parameters of an address or of a form.

use super::problem::Problem;
use std::str::FromStr;

/// Names with their values, in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Params(Vec<(String, String)>);

impl Params {
    /// Parses `a=1&b=two+words`.
    pub fn parse(text: &[u8]) -> Self {
        Self(form_urlencoded::parse(text).into_owned().collect())
    }

    /// The first value of a name that is not empty.
    pub fn get(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(known, value)| known == name && !value.is_empty());
        found.map(|(_, value)| value.as_str())
    }

    /// A value as a number, or what takes its place if there is none.
    ///
    /// # Errors
    /// The value is no such number.
    pub fn number<T: FromStr>(&self, name: &'static str, otherwise: T) -> Result<T, Problem> {
        match self.get(name) {
            None => Ok(otherwise),
            Some(text) => {
                text.parse().map_err(|_| Problem::invalid(format!("invalid {name} {text:?}: expected a number")))
            }
        }
    }
}

/// An address with parameters, those that are empty left out.
pub fn address(path: &str, parameters: &[(&str, &str)]) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.extend_pairs(parameters.iter().filter(|(_, value)| !value.is_empty()));
    match query.finish() {
        query if query.is_empty() => path.to_owned(),
        query => format!("{path}?{query}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_survive_the_way_into_an_address_and_back() {
        let (search, token) = ("label:\"red ring\" & 50% + ü", "a=b");
        let written = address("/features", &[("search", search), ("empty", ""), ("token", token)]);
        let read = Params::parse(written.split_once('?').unwrap().1.as_bytes());
        assert_eq!([read.get("search"), read.get("token"), read.get("empty")], [Some(search), Some(token), None]);
        assert_eq!(address("/run", &[("a", "")]), "/run");
        assert_eq!((read.number("page", 1), Params::parse(b"page=12").number("page", 1)), (Ok(1), Ok(12)));
        assert!(Params::parse(b"page=-1").number("page", 1u32).is_err_and(|p| p.to_string().contains("\"-1\"")));
    }
}
