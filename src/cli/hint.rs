//! Turns hints of the libraries into words of the command line: which subcommand to run, which flag to change.

use sae_core::error::{Hint, Operation, Setting};

/// The text that is printed after `hint: `.
pub fn words(hint: &Hint) -> String {
    match hint {
        Hint::Run(operation) => format!("run `{}` first", command(*operation)),
        Hint::Resume(operation) => format!("the same `{} --resume` continues it", command(*operation)),
        Hint::Set(Setting::NoPromotedTokens, _) => "--no-promoted-tokens leaves them out".into(),
        Hint::Set(setting, values) if values.is_empty() => format!("choose {}", flag(*setting)),
        Hint::Set(setting, values) => format!("use {} {}", flag(*setting), values.join(" or ")),
        Hint::Change(setting) => format!("choose another {}", flag(*setting)),
        Hint::Lower(setting) => format!("lower {}", flag(*setting)),
        Hint::Raise(setting) => format!("raise {}", flag(*setting)),
        Hint::Unset(setting) => format!("leave {} out", flag(*setting)),
        Hint::AnyOf(hints) => hints.iter().map(words).collect::<Vec<_>>().join(", or "),
        Hint::MapField { field, column } => {
            format!("{hint}: --map {field}={}", column.as_deref().unwrap_or("COLUMN"))
        }
        Hint::FetchImages => format!("{hint}: --fetch-images"),
        other => other.to_string(),
    }
}

fn command(operation: Operation) -> String {
    match operation {
        Operation::Harvest => "sae harvest".into(),
        Operation::Train => "sae train".into(),
        Operation::Index => "sae index".into(),
        Operation::Score => "sae score".into(),
        other => other.to_string(),
    }
}

/// The flag of each setting that has one.
const FLAGS: [(Setting, &str); 48] = [
    (Setting::Run, "--run"),
    (Setting::SaeName, "--name"),
    (Setting::Target, "--target"),
    (Setting::Output, "--out"),
    (Setting::Device, "--device"),
    (Setting::ComputeDtype, "--dtype"),
    (Setting::StoreDtype, "--store-dtype"),
    (Setting::Exclude, "--exclude"),
    (Setting::LearningRate, "--lr"),
    (Setting::Features, "--features"),
    (Setting::Batch, "--batch"),
    (Setting::ActiveFeatures, "--k"),
    (Setting::Definition, "--mode"),
    (Setting::Score, "--by"),
    (Setting::Keep, "--keep"),
    (Setting::Quota, "--quota"),
    (Setting::GroupBy, "--by-group"),
    (Setting::Format, "--format"),
    (Setting::Images, "--images"),
    (Setting::Sae, "--sae"),
    (Setting::Resume, "--resume"),
    (Setting::Plan, "--dry-run"),
    (Setting::MaxNorm, "--max-norm"),
    (Setting::NoPromotedTokens, "--no-promoted-tokens"),
    (Setting::Calibration, "--calibrate"),
    (Setting::Rejected, "--rejected"),
    (Setting::Answers, "--answers"),
    (Setting::Layer, "--layer"),
    (Setting::Assets, "--assets"),
    (Setting::Hook, "--hook"),
    (Setting::SampleLength, "--sample-length"),
    (Setting::Tokens, "--tokens"),
    (Setting::ShardTokens, "--shard-tokens"),
    (Setting::Cluster, "--cluster"),
    (Setting::ActionStatistics, "--action-stats"),
    (Setting::Pieces, "--pieces"),
    (Setting::Template, "--template"),
    (Setting::BlankImages, "--blank-images"),
    (Setting::ActionStatisticsOf, "--action-stats-of"),
    (Setting::Within, "--within"),
    (Setting::Shortlist, "--shortlist"),
    (Setting::MatchRun, "--match"),
    (Setting::Budget, "--budget"),
    (Setting::Judged, "--judged"),
    (Setting::Conflicts, "--conflicts"),
    (Setting::Melt, "--melt"),
    (Setting::AnyModel, "--any-model"),
    (Setting::StateLayers, "--state-layers"),
];

fn flag(setting: Setting) -> String {
    let found = FLAGS.iter().find(|(known, _)| *known == setting);
    found.map_or_else(|| setting.to_string(), |(_, flag)| flag.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Args;
    use clap::CommandFactory;

    #[test]
    fn hints_name_subcommands_and_flags() {
        let device = Hint::set(Setting::Device, "cpu");
        assert_eq!(words(&device), "use --device cpu");
        assert_eq!(words(&Hint::Run(Operation::Harvest)), "run `sae harvest` first");
        let other = Hint::AnyOf(vec!["wait for it".into(), Hint::Change(Setting::Run)]);
        assert_eq!(words(&other), "wait for it, or choose another --run");
    }

    #[test]
    fn every_flag_that_a_hint_names_is_one_of_a_command() {
        let cli = Args::command();
        let known = |flag: &str| {
            let flags =
                |command: &clap::Command| command.get_arguments().any(|arg| arg.get_long() == flag.strip_prefix("--"));
            flags(&cli) || cli.get_subcommands().any(|command| flags(command) || command.get_subcommands().any(flags))
        };
        for (setting, flag) in FLAGS {
            assert!(known(flag), "{setting:?} is not {flag}");
        }
    }
}
