//! The feature that another one is compared with: of the same autoencoder, of another one of the run, or of another run. Reads
//! nothing.

use super::link::{Link, SCHEME};
use super::location::Location;
use std::fmt::{self, Display};
use std::path::PathBuf;
use std::str::FromStr;

/// The second feature of a comparison.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counterpart {
    /// Its run; nothing for the run that is open.
    pub run: Option<PathBuf>,
    /// Its autoencoder; nothing for the one whose features are shown, or for the first one of another run.
    pub sae: Option<String>,
    /// Its number.
    pub feature: u32,
}

impl Counterpart {
    /// A feature of the autoencoder whose features are shown.
    pub fn new(feature: u32) -> Self {
        Self { run: None, sae: None, feature }
    }
}

/// Such as `34`, `other/34` (an autoencoder of the run), or `sae://RUN/f/34`.
impl Display for Counterpart {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.run, &self.sae) {
            (Some(run), sae) => {
                let location = Some(Location::Feature(self.feature));
                Link { sae: sae.clone(), location, ..Link::to_run(run.clone()) }.fmt(out)
            }
            (None, Some(sae)) => write!(out, "{sae}/{}", self.feature),
            (None, None) => write!(out, "{}", self.feature),
        }
    }
}

impl FromStr for Counterpart {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let invalid = || {
            format!(
                "Invalid feature \"{text}\": expected a number, AUTOENCODER/NUMBER or a link such as sae://RUN/f/34"
            )
        };
        if text.starts_with(SCHEME) {
            let link = Link::parse(text)?;
            let Some(Location::Feature(feature)) = link.location else { return Err(invalid()) };
            return Ok(Self { run: Some(link.run), sae: link.sae, feature });
        }
        let (sae, number) = text.rsplit_once('/').map_or((None, text), |(sae, number)| (Some(sae.to_owned()), number));
        if sae.as_ref().is_some_and(String::is_empty) {
            return Err(invalid());
        }
        Ok(Self { run: None, sae, feature: number.parse().map_err(|_| invalid())? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counterpart_is_read_back() {
        for text in ["34", "other/34", "sae://runs/a%20b/f/34", "sae:///data/run/f/3?sae=big"] {
            assert_eq!(text.parse::<Counterpart>().unwrap().to_string(), text);
        }
        for text in ["", "x", "/3", "other/", "sae://run/s/3", "sae://run/?page=filter", "-1"] {
            assert!(text.parse::<Counterpart>().is_err(), "{text}");
        }
    }
}
