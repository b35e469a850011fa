//! Command lines of the program `sae` that the app starts. Starts nothing.

use super::run_info::RunInfo;
use super::writing::WritingRequest;
use std::path::PathBuf;

/// What is to be read again when a command has succeeded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Afterwards {
    /// Nothing: it writes elsewhere, or the app notices by itself.
    Nothing,
    /// The run in this folder, if it is still open.
    Reload(PathBuf),
}

/// A command line of `sae`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invocation {
    /// What it does, in a few words.
    pub title: String,
    /// What follows `sae`.
    pub arguments: Vec<String>,
    /// What is to be read again.
    pub afterwards: Afterwards,
}

impl Invocation {
    /// A command about an autoencoder of a run.
    fn of_sae(command: &str, info: &RunInfo, sae: &str, title: &str) -> Self {
        let run = info.path().display().to_string();
        let arguments = [command, "--run", &run, "--sae", sae].map(String::from).to_vec();
        Self { title: format!("{title} {sae}"), arguments, afterwards: Afterwards::Reload(info.root.clone()) }
    }

    /// Makes the feature index of an autoencoder, with the threshold of the index that is there.
    pub fn index(info: &RunInfo, sae: &str) -> Self {
        let mut invocation = Self::of_sae("index", info, sae, "Indexing");
        let threshold = info.threshold.filter(|_| info.sae.as_deref() == Some(sae));
        invocation.arguments.extend(threshold.iter().flat_map(|z| ["--threshold".into(), z.to_string()]));
        invocation
    }

    /// Makes the score table of an autoencoder.
    pub fn score(info: &RunInfo, sae: &str) -> Self {
        Self::of_sae("score", info, sae, "Scoring with")
    }

    /// Evaluates an autoencoder. The Run page notices the result by itself.
    pub fn eval(info: &RunInfo, sae: &str) -> Self {
        Self { afterwards: Afterwards::Nothing, ..Self::of_sae("eval", info, sae, "Evaluating") }
    }

    /// Asks a model for labels of features. The app notices the labels by itself.
    pub fn label(info: &RunInfo, sae: &str, features: &[u32], url: &str, model: &str) -> Self {
        let mut invocation = Self::of_sae("label", info, sae, "Labeling with");
        let features = features.iter().map(u32::to_string).collect::<Vec<_>>().join(",");
        let more = ["--features", &features, "--url", url, "--model", model, "--yes"].map(String::from);
        invocation.arguments.extend(more);
        Self { title: format!("Asking {model} for labels"), afterwards: Afterwards::Nothing, ..invocation }
    }

    /// Writes what the Playground writes, into a folder.
    pub fn generate(info: &RunInfo, sae: &str, request: &WritingRequest) -> Self {
        let mut arguments = vec!["generate".to_owned()];
        let mut add = |name: &str, value: String| arguments.extend([name.to_owned(), value]);
        let path = |path: &PathBuf| path.display().to_string();
        add("--model", info.captured.folder.as_ref().map(path).unwrap_or_default());
        // With an equals sign, a text may begin with a hyphen.
        let mut texts = vec![format!("--prompt={}", request.prompt)];
        request.image.iter().for_each(|image| add("--image", path(image)));
        if !request.beginning.is_empty() {
            texts.push(format!("--begin={}", request.beginning));
        }
        add("--run", info.path().display().to_string());
        add("--sae", sae.to_owned());
        let steer: Vec<String> =
            request.steer.iter().map(|(feature, multiple)| format!("{feature}={multiple}")).collect();
        if !steer.is_empty() {
            add("--steer", steer.join(","));
        }
        add("--guard", request.settings.guard.clone());
        let how = [("--dtype", &info.captured.dtype, "f32"), ("--template", &info.captured.template, "auto")];
        how.into_iter().filter(|(_, set, usual)| set != usual).for_each(|(name, set, _)| add(name, set.clone()));
        arguments.extend(texts);
        arguments.extend(request.settings.arguments());
        arguments.extend(["--out".into(), path(&info.answer_folder)]);
        Self { title: "Writing under a guard".into(), arguments, afterwards: Afterwards::Nothing }
    }

    /// Prints what a run holds.
    pub fn info(info: &RunInfo) -> Self {
        let arguments = vec!["info".into(), info.path().display().to_string()];
        Self { title: format!("Summary of {}", info.name()), arguments, afterwards: Afterwards::Nothing }
    }

    /// The subcommand.
    pub fn command(&self) -> &str {
        self.arguments.first().map_or("", String::as_str)
    }

    /// The command line as a shell takes it.
    pub fn command_line(&self) -> String {
        let is_plain =
            |word: &str| !word.is_empty() && word.chars().all(|c| c.is_alphanumeric() || "-_./:=%,+".contains(c));
        let quote = |word: &String| {
            if is_plain(word) { word.clone() } else { format!("'{}'", word.replace('\'', "'\\''")) }
        };
        std::iter::once("sae".to_owned()).chain(self.arguments.iter().map(quote)).collect::<Vec<_>>().join(" ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_playground_writes_is_a_command_line() {
        use crate::state::guard::GuardSettings;
        use crate::state::run_info::CapturedModel;
        let captured = CapturedModel {
            folder: Some("/models/a b".into()),
            dtype: "bf16".into(),
            template: "auto".into(),
            served: None,
        };
        let info = RunInfo {
            root: "/data/run".into(),
            answer_folder: "/data/run-answer".into(),
            captured,
            ..RunInfo::default()
        };
        let request = WritingRequest {
            prompt: "-1 or it's?".into(),
            image: Some("/a.png".into()),
            steer: vec![(6, 0.5), (9, 0.0)],
            settings: GuardSettings { guard: "harm".into(), until: "/[:,]/".into(), ..GuardSettings::default() },
            beginning: "One.".into(),
        };
        let line = "sae generate --model '/models/a b' --image /a.png --run /data/run --sae base --steer 6=0.5,9=0 --guard harm --dtype \
                    bf16 '--prompt=-1 or it'\\''s?' --begin=One. --at=0.5 --stream --until '/[:,]/' --tries 3 --correct steer \
                    --strength 1 --tokens 64 --temperature 1 --seed 0 --out /data/run-answer";
        assert_eq!(Invocation::generate(&info, "base", &request).command_line(), line);
    }

    #[test]
    fn commands_are_shown_as_a_shell_takes_them() {
        let info = RunInfo {
            root: "/data/it's".into(),
            sae: Some("base".into()),
            threshold: Some(0.25),
            ..RunInfo::default()
        };
        let line = "sae index --run '/data/it'\\''s' --sae base --threshold 0.25";
        assert_eq!(Invocation::index(&info, "base").command_line(), line);
        let other = "sae index --run '/data/it'\\''s' --sae other";
        assert_eq!(Invocation::index(&info, "other").command_line(), other, "the threshold is that of base");
        assert_eq!(Invocation::score(&info, "base").command(), "score");
        assert_eq!(Invocation::info(&info).command_line(), "sae info '/data/it'\\''s'");
    }
}
