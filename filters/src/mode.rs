//! Whose definition of a weight, a score or a patch filter is meant.

use std::str::FromStr;

/// Whose definition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mode {
    /// As SAE-V's paper has it.
    #[default]
    Paper,
    /// As its released code has it.
    Release,
    /// With what is wrong in both put right.
    Corrected,
}

impl Mode {
    /// All, in this order.
    pub const ALL: [Self; 3] = [Self::Paper, Self::Release, Self::Corrected];

    /// Its name, as in columns.
    pub fn name(self) -> &'static str {
        match self {
            Self::Paper => "paper",
            Self::Release => "release",
            Self::Corrected => "corrected",
        }
    }
}

impl FromStr for Mode {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let known = Self::ALL.into_iter().find(|mode| mode.name() == name);
        known.ok_or_else(|| format!("{name} is no mode: paper, release or corrected"))
    }
}
