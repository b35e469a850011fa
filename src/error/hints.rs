//! What can be done about an error, in terms of requests.

use super::Error;
use crate::roles::{Kind, Role};
use filters::score_names::PMI_BLANK;
use sae_core::error::{Hint, Operation, Setting};

impl Error {
    /// What can be done about it, if that is known.
    pub fn hint(&self) -> Option<Hint> {
        Some(match self {
            Self::Core(error) => return error.hint(),
            Self::Harvest(error) => return error.hint(),
            Self::Filters(error) => return error.hint(),
            Self::Contrast(error) => return error.hint(),
            Self::Filter(error) => return Some(error.hint()),
            Self::Probe(error) => return error.hint(),
            Self::Pairs(error) => return error.hint(),
            Self::Transcoder(error) => return error.hint(),
            Self::Jobs(error) => return error.hint(),
            Self::Generate(error) => return error.hint(),
            Self::Published(error) => return error.hint(),
            Self::Upload(error) => return error.hint(),
            Self::Unfinished { .. } | Self::AlreadyBegun { .. } | Self::Interrupted { .. } => {
                Hint::Resume(Operation::Train)
            }
            Self::NothingToResume { .. } => Hint::Unset(Setting::Resume),
            Self::InterruptedBetween { .. } | Self::LabelsSaved { .. } => {
                "run the same command again; it continues where it stopped".into()
            }
            Self::Missing { kind: Kind::Autoencoder } => Hint::Run(Operation::Train),
            Self::Missing { kind: Kind::ScoreTable } | Self::NoThreshold => Hint::Run(Operation::Score),
            Self::NoIndex { .. } | Self::NoWeights { .. } => Hint::Run(Operation::Index),
            Self::Ambiguous { .. } => Hint::Set(Setting::Sae, Vec::new()),
            Self::TrainedElsewhere { .. } | Self::OtherSettings { .. } => Hint::Change(Setting::SaeName),
            Self::SaeExists { folder, .. } => {
                Hint::AnyOf(vec![Hint::Change(Setting::SaeName), format!("remove {}", folder.display()).into()])
            }
            Self::OtherDemo { .. } => Hint::Change(Setting::Run),
            Self::FolderNotEmpty { .. } | Self::FileExists { .. } => Hint::Change(Setting::Output),
            Self::NotDownloaded { .. } => Hint::Unset(Setting::Plan),
            Self::NoPositions => Hint::AnyOf(vec![Hint::Raise(Setting::MaxNorm), Hint::set(Setting::Exclude, "none")]),
            Self::Lens { .. } => Hint::Set(Setting::NoPromotedTokens, Vec::new()),
            Self::CompanionHook { role, .. } | Self::CompanionModel { role, .. } => match role {
                Role::Calibration => Hint::Change(Setting::Calibration),
                Role::Rejected => Hint::Change(Setting::Rejected),
                Role::BlankImages => "capture the samples with blank images again, or remove the folder".into(),
                Role::Target => Hint::Change(Setting::MatchRun),
            },
            Self::NoFeedback { .. } => Hint::set(Setting::Melt, "response,refinement,feedback:column"),
            Self::OtherSamples { .. } => Hint::set(Setting::Answers, "rejected"),
            Self::NoneRead { .. } => {
                "name the data set that the run was captured from, and read it in the same way".into()
            }
            Self::NoFit { .. } => format!("score {} samples with text and image or more", filters::pmi::LEAST).into(),
            Self::NoBlankImages { .. } => {
                "capture these shards with blank images as well, or remove that folder from the others".into()
            }
            Self::Listen { source, .. } if source.kind() == std::io::ErrorKind::AddrInUse => {
                "choose another port, or none for any that is free".into()
            }
            Self::DataMoved { root } => format!("put it back: {}", root.display()).into(),
            Self::MeltedRows => Hint::Set(Setting::Format, vec!["jsonl".into(), "parquet".into()]),
            Self::QuotasWithoutGroups => Hint::Set(Setting::GroupBy, Vec::new()),
            Self::NoEstimate { .. } => {
                Hint::AnyOf(vec![Hint::set(Setting::Score, PMI_BLANK), Hint::Change(Setting::Keep)])
            }
            Self::EqualScores { .. } => Hint::AnyOf(vec![Hint::Change(Setting::Score), "choose by features".into()]),
            Self::OtherTrial { folder } => {
                format!("remove the folder, which was made with other settings: {}", folder.display()).into()
            }
            Self::NoAssets { .. } => Hint::AnyOf(vec![
                "run from the repository, or install the Python wheel, which has it".into(),
                Hint::Set(Setting::Assets, Vec::new()),
            ]),
            _ => return None,
        })
    }
}
