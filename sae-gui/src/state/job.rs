//! A command of `sae` that the app has started: its output, its progress, how it ended. Starts nothing.

use super::invocation::Invocation;

/// Lines of output that are kept.
const LINES: usize = 200;

/// The state of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JobState {
    /// It runs.
    Running,
    /// It has succeeded; its output.
    Done(String),
    /// It has failed; why.
    Failed(String),
    /// It was stopped.
    Stopped,
}

/// A command that was started.
#[derive(Clone, Debug)]
pub struct Job {
    /// The command line.
    pub invocation: Invocation,
    /// Its state.
    pub state: JobState,
    /// What it has written to its terminal, the last lines.
    pub lines: Vec<String>,
}

impl Job {
    /// A command that has just been started.
    pub fn new(invocation: Invocation) -> Self {
        Self { invocation, state: JobState::Running, lines: Vec::new() }
    }

    /// Adds a line that the command wrote.
    pub fn push_line(&mut self, line: String) {
        if self.lines.len() == LINES {
            self.lines.remove(0);
        }
        self.lines.push(line);
    }

    /// Whether the command runs.
    pub fn is_running(&self) -> bool {
        self.state == JobState::Running
    }

    /// How far the present stage is, from 0 to 1, if the command says: its lines have a percentage, as in `index: 3 of 12 (25 %)`.
    pub fn progress(&self) -> Option<f32> {
        let before = self
            .lines
            .last()?
            .split('%')
            .next()
            .filter(|before| before.len() < self.lines.last().map_or(0, String::len))?;
        let digits = before.trim_end().rsplit(|c: char| !c.is_ascii_digit() && c != '.').next()?;
        digits.parse::<f32>().ok().map(|percent| (percent / 100.0).clamp(0.0, 1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::invocation::Afterwards;

    fn job() -> Job {
        Job::new(Invocation { title: String::new(), arguments: vec![], afterwards: Afterwards::Nothing })
    }

    #[test]
    fn the_output_of_a_command_is_bounded() {
        let mut job = job();
        (0..500).for_each(|n| job.push_line(n.to_string()));
        assert_eq!((job.lines.len(), job.lines.last().map(String::as_str)), (LINES, Some("499")));
    }

    #[test]
    fn the_progress_is_read_from_the_last_line() {
        let mut job = job();
        assert_eq!(job.progress(), None);
        for (line, expected) in [
            ("index: 1,200 of 30,000 (4 %), 52.1/s, 9 min left", Some(0.04)),
            ("   index [=>    ]  37% 3s (left: 5s)", Some(0.37)),
            ("neighbors: for 70 s", None),
            ("words 12", None),
        ] {
            job.push_line(line.into());
            assert_eq!(job.progress(), expected, "{line}");
        }
    }
}
