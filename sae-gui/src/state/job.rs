//! A command of the program `sae` that the app has started: what it was told, how far it is, how it ended. Starts nothing.

use std::path::{Path, PathBuf};

/// What a command writes of itself that is kept.
const LINES: usize = 200;

/// A command line of `sae`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// What it does, in a few words.
    pub title: String,
    /// What follows `sae`.
    pub arguments: Vec<String>,
    /// The run that changes by it, to be read again; nothing if it changes none.
    pub rereads: bool,
}

/// How a command is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// It runs.
    Running,
    /// It has ended well; what it said.
    Done(String),
    /// It has failed; why.
    Failed(String),
    /// It was stopped.
    Stopped,
}

/// A command that was started.
#[derive(Clone, Debug)]
pub struct Job {
    /// What it was told.
    pub order: Order,
    /// How it is doing.
    pub state: State,
    /// What it has written to its terminal, the last lines.
    pub lines: Vec<String>,
}

impl Job {
    /// A command that has just been started.
    pub fn new(order: Order) -> Self {
        Self { order, state: State::Running, lines: Vec::new() }
    }

    /// Takes a line that the command wrote.
    pub fn hear(&mut self, line: String) {
        if self.lines.len() == LINES {
            self.lines.remove(0);
        }
        self.lines.push(line);
    }

    /// Whether it runs.
    pub fn runs(&self) -> bool {
        self.state == State::Running
    }
}

impl Order {
    /// As a person would type it.
    pub fn line(&self) -> String {
        let plain =
            |word: &&String| !word.is_empty() && word.chars().all(|c| c.is_alphanumeric() || "-_./:=%,+".contains(c));
        let word = |word: &String| match plain(&word) {
            true => word.clone(),
            false => format!("'{}'", word.replace('\'', "'\\''")),
        };
        std::iter::once("sae".to_owned()).chain(self.arguments.iter().map(word)).collect::<Vec<_>>().join(" ")
    }
}

/// What a set is written as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Writing {
    /// New folder of the kept rows.
    pub out: String,
    /// Whether the dropped rows are written too, into a folder beside it.
    pub dropped: bool,
    /// Name of the format.
    pub format: &'static str,
}

/// Formats that sets are written in, as `sae filter --format` names them.
pub const FORMATS: [&str; 7] = ["same", "parquet", "jsonl", "llava", "sharegpt", "trl", "webdataset"];

impl Writing {
    /// The usual: rows as they stood, both sides, beside the run.
    pub fn beside(run: &Path) -> Self {
        let mut name = run.file_name().unwrap_or_default().to_os_string();
        name.push("-kept");
        Self { out: run.with_file_name(name).display().to_string(), dropped: true, format: FORMATS[0] }
    }

    /// Folder of the dropped rows.
    pub fn dropped_folder(&self) -> Option<PathBuf> {
        let out = Path::new(&self.out);
        let mut name = out.file_name()?.to_os_string();
        name.push("-dropped");
        self.dropped.then(|| out.with_file_name(name))
    }

    /// The command that keeps the best `count` samples by a score.
    pub fn order(&self, run: &Path, sae: &str, by: &str, count: usize) -> Order {
        let run = run.display().to_string();
        let count = count.to_string();
        let words = ["filter", "--run", &run, "--sae", sae, "--by", by, "--keep", &count, "--out", self.out.trim()];
        let mut arguments: Vec<String> = words.iter().map(|word| word.to_string()).collect();
        if let Some(folder) = self.dropped_folder() {
            arguments.extend(["--dropped".into(), folder.display().to_string()]);
        }
        arguments.extend(["--format".into(), self.format.into()]);
        Order { title: format!("Writing {}", self.out), arguments, rereads: false }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_is_shown_as_a_shell_takes_it() {
        let writing = Writing { out: "/data/it's kept".into(), ..Writing::beside(Path::new("/data/run")) };
        let order = writing.order(Path::new("/data/run"), "base", "pmi", 12);
        let line = "sae filter --run /data/run --sae base --by pmi --keep 12 --out '/data/it'\\''s kept' --dropped \
                    '/data/it'\\''s kept-dropped' --format same";
        assert_eq!(order.line(), line);
        assert_eq!(Writing::beside(Path::new("/data/run")).out, "/data/run-kept");
    }

    #[test]
    fn what_a_command_says_is_bounded() {
        let mut job = Job::new(Order { title: String::new(), arguments: vec![], rereads: false });
        (0..500).for_each(|n| job.hear(n.to_string()));
        assert_eq!((job.lines.len(), job.lines.last().map(String::as_str)), (LINES, Some("499")));
    }
}
