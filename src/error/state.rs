//! Whether a failed operation may succeed when it is run again.

use super::Error;

impl Error {
    /// Whether another process is writing to the run. The same request may succeed later.
    pub fn is_busy(&self) -> bool {
        let core =
            |error: &sae_core::Error| matches!(error, sae_core::Error::Busy { .. } | sae_core::Error::LostRank { .. });
        match self {
            Self::Core(error) | Self::Step { source: error, .. } => core(error),
            Self::Harvest(harvest::Error::Core(error)) | Self::Filters(filters::Error::Core(error)) => core(error),
            _ => false,
        }
    }

    /// Whether the operation stopped because it was asked to. It continues there when it is run again.
    pub fn is_cancelled(&self) -> bool {
        let core = |error: &sae_core::Error| matches!(error, sae_core::Error::Cancelled);
        match self {
            Self::Core(error) => core(error),
            Self::Harvest(harvest::Error::Core(error)) | Self::Filters(filters::Error::Core(error)) => core(error),
            Self::Interrupted { .. } | Self::InterruptedBetween { .. } => true,
            Self::LabelsSaved { source, .. } | Self::NoPictures { source } => source.is_cancelled(),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_to_stop_differs_from_a_failure() {
        assert!(Error::from(harvest::Error::from(sae_core::Error::Cancelled)).is_cancelled());
        let source = Box::new(Error::from(sae_core::Error::Cancelled));
        assert!(Error::LabelsSaved { saved: 3, source }.is_cancelled());
        assert!(!Error::NoPositions.is_cancelled());
        let lost = || sae_core::Error::LostRank { rank: 1, cause: "it ended".into() };
        assert!(Error::from(lost()).is_busy() && Error::Step { checkpoint: None, source: lost() }.is_busy());
    }
}
