//! The operations whose passes can be shared, and how their arguments stand in a part.

use crate::control::Control;
use crate::index::LensChoice;
use crate::passes::Passes;
use crate::sae::{LoadedSae, SaeChoice};
use crate::score::Participants;
use crate::summaries::SummariesRequest;
use crate::{IndexRequest, Result, ScoreOptions, ScoreRequest};
use sae_core::analysis::between::{Markers, Part};
use sae_core::analysis::part::{Origin, StoreOrigin};
use sae_core::path_text;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

/// An operation whose passes several machines can share.
#[derive(Clone, Debug)]
pub enum PartOperation {
    /// The feature index.
    Index(IndexRequest),
    /// Scores. Probes, critiques and likelihoods, which need passes of their own, are added by scoring once more.
    Score(Box<ScoreRequest>),
    /// Summaries of samples, which contrasts, probes and filters read.
    Summaries(SummariesRequest),
}

/// The arguments of an operation in a part.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "operation", rename_all = "lowercase")]
enum Arguments {
    Index {
        threshold: String,
        sides: String,
        lens: Lens,
    },
    Score {
        definitions: Vec<String>,
        threshold: String,
        sides: String,
        seed: u64,
        calibrate: Vec<String>,
        rejected: Option<String>,
        #[serde(default)]
        beside: Vec<String>,
    },
    Summaries {
        positions: Part,
        between: Option<[String; 2]>,
    },
}

/// [`LensChoice`] in a part.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Lens {
    Recorded,
    Model(String),
    None,
}

impl PartOperation {
    /// Its name.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Index(_) => "index",
            Self::Score(_) => "score",
            Self::Summaries(_) => "summaries",
        }
    }

    pub(super) fn sae(&self) -> &SaeChoice {
        match self {
            Self::Index(request) => &request.sae,
            Self::Score(request) => &request.sae,
            Self::Summaries(request) => &request.sae,
        }
    }

    /// Makes the passes, and goes no further.
    pub(super) fn collect(&self, sae: &LoadedSae, passes: &mut Passes, control: &mut Control) -> Result<()> {
        match self {
            Self::Index(request) => request.collect(sae, passes, control).map(drop),
            Self::Score(request) => Participants::open(sae, &request.options)?.collect(passes, control).map(drop),
            Self::Summaries(request) => request.collect(sae, passes, control).map(drop),
        }
    }

    /// The names of other autoencoders that take part.
    fn beside(&self) -> &[String] {
        match self {
            Self::Score(request) => &request.options.beside,
            Self::Index(_) | Self::Summaries(_) => &[],
        }
    }

    /// What its states over a run are computed from.
    pub(super) fn origin(&self, sae: &LoadedSae) -> Result<Origin> {
        let others = sae.beside(self.beside())?;
        let hashes = std::iter::once(sae).chain(&others).map(LoadedSae::files_blake3);
        Ok(Origin {
            program: concat!("sae ", env!("CARGO_PKG_VERSION")).into(),
            request: self.arguments(),
            sae: sae.name.clone(),
            sae_blake3: hashes.collect::<Result<Vec<_>>>()?.concat(),
            stores: self.stores(sae)?,
        })
    }

    fn stores(&self, sae: &LoadedSae) -> Result<BTreeMap<String, StoreOrigin>> {
        let mut passes = Passes::Listed(BTreeMap::new());
        self.collect(sae, &mut passes, &mut Control::default())?;
        Ok(if let Passes::Listed(stores) = passes { stores } else { BTreeMap::new() })
    }

    fn arguments(&self) -> Value {
        let arguments = match self {
            Self::Index(request) => Arguments::Index {
                threshold: request.threshold.to_string(),
                sides: request.sides.to_string(),
                lens: match &request.lens {
                    LensChoice::Recorded => Lens::Recorded,
                    LensChoice::Model(folder) => Lens::Model(path_text::encode(folder)),
                    LensChoice::None => Lens::None,
                },
            },
            Self::Score(request) => Arguments::Score {
                definitions: request
                    .options
                    .definitions
                    .iter()
                    .map(|definition| definition.name().to_owned())
                    .collect(),
                threshold: request.options.threshold.to_string(),
                sides: request.options.sides.to_string(),
                seed: request.options.seed,
                calibrate: request.options.calibrate.iter().map(|path| path_text::encode(path)).collect(),
                rejected: request.options.rejected.as_deref().map(path_text::encode),
                beside: request.options.beside.clone(),
            },
            Self::Summaries(SummariesRequest { positions, between, .. }) => {
                let between = between.clone().map(|markers| [markers.open, markers.close]);
                Arguments::Summaries { positions: *positions, between }
            }
        };
        serde_json::to_value(arguments).expect("texts and numbers are JSON")
    }

    /// The operation that the arguments of a part describe, on an autoencoder; nothing if they describe none.
    pub(super) fn from_arguments(arguments: &Value, sae: SaeChoice) -> Option<Self> {
        Some(match Arguments::deserialize(arguments).ok()? {
            Arguments::Index { threshold, sides, lens } => Self::Index(IndexRequest {
                sae,
                lens: match lens {
                    Lens::Recorded => LensChoice::Recorded,
                    Lens::Model(folder) => LensChoice::Model(path_text::decode(&folder)),
                    Lens::None => LensChoice::None,
                },
                threshold: threshold.parse().ok()?,
                sides: sides.parse().ok()?,
            }),
            Arguments::Score { definitions, threshold, sides, seed, calibrate, rejected, beside } => {
                let definitions = definitions.iter().map(|name| name.parse().ok()).collect::<Option<_>>()?;
                let (threshold, sides) = (threshold.parse().ok()?, sides.parse().ok()?);
                let calibrate = calibrate.iter().map(|path| path_text::decode(path)).collect();
                let rejected = rejected.as_deref().map(path_text::decode);
                let plain = ScoreOptions::default();
                let options =
                    ScoreOptions { definitions, threshold, sides, seed, calibrate, rejected, beside, ..plain };
                Self::Score(Box::new(ScoreRequest { sae, options }))
            }
            Arguments::Summaries { positions, between } => {
                let between = between.map(|[open, close]| Markers::new(open, close)).transpose().ok()?;
                Self::Summaries(SummariesRequest { sae, positions, between })
            }
        })
    }
}
