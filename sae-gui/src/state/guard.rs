//! The guard that judges what a model writes on the Playground page: which probes can be one, and the settings that a person makes.
//! Runs nothing.

use filters::probe::Kind;
use harvest::generation::{Boundary, Sampling};
use sae_workbench::generate::{At, Correction, GuardChoice, Guarding};
use std::fmt::{self, Display};
use std::str::FromStr;

/// Tokens of a sentence at most, as the program `sae` has it unless it is told otherwise.
const LONGEST: usize = 64;
/// The most tries that can be set here; the program takes more.
pub const MOST_TRIES: u32 = 10;
/// The most tokens that can be set here.
pub const MOST_TOKENS: usize = 2048;

/// A probe of the autoencoder, and whether it can be a guard; otherwise the reason why not.
#[derive(Clone, Debug, PartialEq)]
pub struct GuardOption {
    /// Its name.
    pub name: String,
    /// What is known of it.
    pub choice: Result<GuardChoice, String>,
}

impl GuardOption {
    /// What it flags, and how often it is wrong, in a sentence; or why it cannot be a guard.
    pub fn description(&self) -> String {
        let choice = match &self.choice {
            Ok(choice) => choice,
            Err(reason) => return reason.clone(),
        };
        let severity = match choice.kind {
            Kind::Binary => "probability",
            Kind::Ordinal => "level",
            Kind::Linear | Kind::Pair => "number",
            Kind::Cost => "cost",
        };
        let of = choice.label.as_ref().map(|label| format!(" of {label}")).unwrap_or_default();
        let rates = choice.rates.as_ref().map(|rates| {
            let [found, wrong] = [rates.true_positives, rates.false_positives].map(super::format::percent);
            format!("; above 0.5 it flags {found} of the run's harmful samples and {wrong} of the harmless ones")
        });
        format!("The severity is the predicted {severity}{of}{}.", rates.unwrap_or_default())
    }
}

/// How a threshold is given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ThresholdKind {
    /// As a severity.
    #[default]
    Severity,
    /// As the share of the run's harmless samples that are flagged.
    FalsePositives,
}

/// How a flagged sentence is written again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CorrectionKind {
    /// With other random numbers.
    Sample,
    /// Steered away from the features that carry the verdict.
    #[default]
    Steer,
    /// Steered by the difference of mean hidden states.
    Difference,
}

impl CorrectionKind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Sample, Self::Steer, Self::Difference];

    /// Its name, as the program `sae` has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sample => "sample",
            Self::Steer => "steer",
            Self::Difference => "difference",
        }
    }

    /// What it does.
    pub fn hint(self) -> &'static str {
        match self {
            Self::Sample => "Draw the sentence again, with other random numbers",
            Self::Steer => {
                "Draw it again while the features that carry the verdict, at most five, are moved towards 0; twice as far in each \
                 further try"
            }
            Self::Difference => {
                "Draw it again while the difference between the mean hidden states of the run's harmless and harmful samples is \
                 added; twice as much in each further try"
            }
        }
    }

    fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// How the model writes, and what the guard does.
#[derive(Clone, Debug, PartialEq)]
pub struct GuardSettings {
    /// The name of the probe; empty for the first one that can be a guard.
    pub guard: String,
    /// How the threshold is given.
    pub threshold: ThresholdKind,
    /// The severity above which a sentence is flagged.
    pub severity: f64,
    /// The share of harmless samples that may be flagged.
    pub false_positives: f64,
    /// What ends a sentence, as typed: `sentence`, `line` or `/REGULAR EXPRESSION/`.
    pub until: String,
    /// How often a flagged sentence is written again at most.
    pub tries: u32,
    /// How it is written again.
    pub correction: CorrectionKind,
    /// How far states are moved in the first try.
    pub strength: f32,
    /// Tokens that are written at most.
    pub tokens: usize,
    /// Logits are divided by it.
    pub temperature: f64,
    /// Seed of the random numbers.
    pub seed: u64,
}

impl Default for GuardSettings {
    fn default() -> Self {
        Self {
            guard: String::new(),
            threshold: ThresholdKind::default(),
            severity: 0.5,
            false_positives: 0.05,
            until: "sentence".into(),
            tries: 3,
            correction: CorrectionKind::default(),
            strength: 1.0,
            tokens: 64,
            temperature: 1.0,
            seed: 0,
        }
    }
}

impl GuardSettings {
    /// Above which severity a sentence is flagged.
    pub fn at(&self) -> At {
        match self.threshold {
            ThresholdKind::Severity => At::Severity(self.severity),
            ThresholdKind::FalsePositives => At::FalsePositives(self.false_positives),
        }
    }

    /// The threshold as the program `sae` reads it.
    pub fn at_text(&self) -> String {
        match self.threshold {
            ThresholdKind::Severity => self.severity.to_string(),
            ThresholdKind::FalsePositives => format!("fpr={}", self.false_positives),
        }
    }

    /// What ends a sentence.
    ///
    /// # Errors
    /// The text is none of the three.
    pub fn boundary(&self) -> Result<Boundary, String> {
        self.until.trim().parse()
    }

    /// What is written again, and how.
    ///
    /// # Errors
    /// As [`GuardSettings::boundary`].
    pub fn guarding(&self) -> Result<Guarding, String> {
        let correction = match self.correction {
            CorrectionKind::Sample => Correction::Sample,
            CorrectionKind::Steer => Correction::Steer { strength: self.strength, toward: 0.0 },
            CorrectionKind::Difference => Correction::Difference(self.strength),
        };
        Ok(Guarding::Stream { boundary: self.boundary()?, longest: LONGEST, correction, tries: self.tries })
    }

    /// How the next token is chosen.
    pub fn sampling(&self) -> Sampling {
        Sampling { temperature: self.temperature, ..Sampling::GREEDY }
    }

    /// What follows the guard's name in a command line of `sae generate`.
    pub fn arguments(&self) -> Vec<String> {
        let mut arguments: Vec<String> = vec![
            format!("--at={}", self.at_text()),
            "--stream".into(),
            "--until".into(),
            self.until.trim().into(),
            "--tries".into(),
            self.tries.to_string(),
            "--correct".into(),
            self.correction.name().into(),
        ];
        if self.correction != CorrectionKind::Sample {
            arguments.extend(["--strength".into(), self.strength.to_string()]);
        }
        let numbers = [
            ("--tokens", self.tokens.to_string()),
            ("--temperature", self.temperature.to_string()),
            ("--seed", self.seed.to_string()),
        ];
        arguments.extend(numbers.into_iter().flat_map(|(name, value)| [name.to_owned(), value]));
        arguments
    }
}

/// In a link: the name of the probe, and what differs from the settings of a new page, such as `harm;at=fpr=0.05;tries=5`.
impl Display for GuardSettings {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let usual = Self::default();
        out.write_str(&self.guard)?;
        let settings = [
            ("at", self.at_text(), usual.at_text()),
            ("tries", self.tries.to_string(), usual.tries.to_string()),
            ("correct", self.correction.name().into(), usual.correction.name().into()),
            ("strength", self.strength.to_string(), usual.strength.to_string()),
            ("tokens", self.tokens.to_string(), usual.tokens.to_string()),
            ("temperature", self.temperature.to_string(), usual.temperature.to_string()),
            ("seed", self.seed.to_string(), usual.seed.to_string()),
            // A regular expression may have anything in it, so it comes last.
            ("until", self.until.trim().to_owned(), usual.until.clone()),
        ];
        let different = settings.into_iter().filter(|(_, value, usual)| value != usual);
        different.into_iter().try_for_each(|(name, value, _)| write!(out, ";{name}={value}"))
    }
}

impl FromStr for GuardSettings {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        fn number<T: FromStr>(name: &str, value: &str) -> Result<T, String> {
            value.parse().map_err(|_| format!("invalid {name} \"{value}\" of the guard"))
        }
        let (guard, mut rest) = text.split_once(';').unwrap_or((text, ""));
        let mut settings = Self { guard: guard.into(), ..Self::default() };
        while !rest.is_empty() {
            let (name, value) =
                rest.split_once('=').ok_or_else(|| format!("invalid setting \"{rest}\" of the guard"))?;
            let (value, further) =
                if name == "until" { (value, "") } else { value.split_once(';').unwrap_or((value, "")) };
            match name {
                "at" => match value.parse::<At>()? {
                    At::Severity(severity) => settings.severity = severity,
                    At::FalsePositives(share) => {
                        settings.threshold = ThresholdKind::FalsePositives;
                        settings.false_positives = share;
                    }
                },
                "tries" => settings.tries = number(name, value)?,
                "correct" => {
                    let correction = CorrectionKind::from_name(value);
                    settings.correction = correction.ok_or_else(|| format!("invalid correction \"{value}\""))?;
                }
                "strength" => settings.strength = number(name, value)?,
                "tokens" => settings.tokens = number(name, value)?,
                "temperature" => settings.temperature = number(name, value)?,
                "seed" => settings.seed = number(name, value)?,
                "until" => settings.until = value.into(),
                _ => return Err(format!("unknown setting \"{name}\" of the guard")),
            }
            rest = further;
        }
        settings.boundary()?;
        Ok(settings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_come_back_from_a_link_as_they_were() {
        let usual = GuardSettings { guard: "harm".into(), ..GuardSettings::default() };
        assert_eq!(usual.to_string(), "harm");
        let changed = GuardSettings {
            threshold: ThresholdKind::FalsePositives,
            false_positives: 0.1,
            until: "/[;=,]/".into(),
            tries: 5,
            correction: CorrectionKind::Difference,
            strength: 0.25,
            tokens: 9,
            temperature: 0.0,
            seed: 7,
            ..usual.clone()
        };
        assert_eq!(
            changed.to_string(),
            "harm;at=fpr=0.1;tries=5;correct=difference;strength=0.25;tokens=9;temperature=0;seed=7;until=/[;=,]/"
        );
        for settings in [usual, changed] {
            assert_eq!(settings.to_string().parse(), Ok(settings));
        }
    }

    #[test]
    fn settings_that_mean_nothing_are_rejected() {
        for bad in ["harm;tries=x", "harm;tries", "harm;colour=red", "harm;until=word", "harm;at=fpr=2", "h;correct=x"]
        {
            assert!(bad.parse::<GuardSettings>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_probe_that_is_no_guard_says_why_and_one_that_is_says_what_a_severity_is() {
        let rates = sae_workbench::generate::GuardRates {
            true_positives: 0.9,
            false_positives: 0.04,
            harmful: 20,
            harmless: 25,
        };
        let choice =
            GuardChoice { kind: Kind::Binary, label: Some("tone".into()), rates: Some(rates), has_direction: true };
        let [fits, fails] = [Ok(choice), Err("it compares two answers".to_owned())]
            .map(|choice| GuardOption { name: "tone".into(), choice }.description());
        assert_eq!(
            fits,
            "The severity is the predicted probability of tone; above 0.5 it flags 90% of the run's harmful samples and 4.0% of \
             the harmless ones."
        );
        assert_eq!(fails, "it compares two answers");
    }
}
