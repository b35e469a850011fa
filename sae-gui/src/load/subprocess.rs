//! Runs a command of the program `sae` beside the app. It is the same program that a shell would start, so what the app does and
//! what the command does cannot differ, and a command that fails or is stopped takes nothing with it.

use crate::state::invocation::Invocation;
use crate::state::job::JobState;
use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

/// Bytes of the output that are kept.
const LIMIT: u64 = 1 << 20;
/// Bytes of a line of progress that are kept.
const LINE: usize = 400;
/// The variable that says how often `sae` reports its progress, in seconds.
const PROGRESS: (&str, &str) = ("SAE_PROGRESS_SECONDS", "1");

/// What a command makes known.
pub enum ProcessEvent {
    /// A line on its standard error.
    Line(String),
    /// How it ended.
    End(JobState),
}

/// A running command. Dropping it stops the command.
pub struct Subprocess {
    process: Arc<Mutex<Option<Child>>>,
    events: Receiver<ProcessEvent>,
}

impl Subprocess {
    /// Starts a command. `wake` is called whenever there is an event.
    ///
    /// # Errors
    /// The program does not exist, or cannot be started.
    pub fn start(invocation: &Invocation, wake: impl Fn() + Send + Clone + 'static) -> Result<Self, String> {
        let program = program();
        let mut process = Command::new(&program)
            .args(&invocation.arguments)
            .env(PROGRESS.0, PROGRESS.1)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| format!("The program sae cannot be started ({error}): {}", program.display()))?;
        let (sender, events) = channel();
        let (stdout, stderr) = (process.stdout.take(), process.stderr.take());
        let process = Arc::new(Mutex::new(Some(process)));
        let (own, wake_lines) = (process.clone(), wake.clone());
        let lines = thread::spawn(move || {
            let error = stderr.map(|stderr| forward_lines(stderr, &sender, &wake_lines));
            error.map(|error| (sender, error))
        });
        thread::spawn(move || {
            let mut output = String::new();
            // Output that is not text is lost; the exit status says whether the command succeeded.
            let _ = stdout.map(|stdout| stdout.take(LIMIT).read_to_string(&mut output));
            let Ok(Some((sender, error))) = lines.join() else { return };
            let ended = own.lock().unwrap_or_else(PoisonError::into_inner).take().map(|mut process| process.wait());
            let state = match ended {
                None => JobState::Stopped,
                Some(Ok(status)) if status.success() => JobState::Done(output.trim_end().into()),
                Some(Ok(_)) => JobState::Failed(error),
                Some(Err(error)) => JobState::Failed(error.to_string()),
            };
            // The window may be gone.
            let _ = sender.send(ProcessEvent::End(state));
            wake();
        });
        Ok(Self { process, events })
    }

    /// The events since the last call.
    pub fn events(&self) -> impl Iterator<Item = ProcessEvent> {
        self.events.try_iter()
    }

    /// Stops the command. What it writes appears as a whole or not at all, so only hidden partial files can be left behind.
    pub fn stop(&self) {
        if let Some(mut process) = self.process.lock().unwrap_or_else(PoisonError::into_inner).take() {
            // It may have ended by itself.
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

impl Drop for Subprocess {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The program that was installed beside this one, else the one that a shell would find.
fn program() -> PathBuf {
    let name = format!("sae{}", std::env::consts::EXE_SUFFIX);
    let own = std::env::current_exe().unwrap_or_default();
    // Test programs are one folder deeper.
    let folders = own.ancestors().skip(1).take(2);
    let beside = folders.map(|folder| folder.join(&name)).find(|path| path.is_file());
    beside.unwrap_or_else(|| name.into())
}

/// Forwards lines as events. Returns the error message at the end, with its hints.
fn forward_lines(lines: impl Read, sender: &Sender<ProcessEvent>, wake: &impl Fn()) -> String {
    let mut error = Vec::new();
    for line in BufReader::new(lines).split(b'\n').map_while(Result::ok) {
        // A progress bar overwrites its line; its last state counts.
        let line = line.rsplit(|byte| *byte == b'\r').find(|part| !part.is_empty()).unwrap_or_default();
        let mut line = String::from_utf8_lossy(line).trim_end().to_owned();
        while line.len() > LINE {
            line.pop();
        }
        if line.starts_with("error: ") || !error.is_empty() {
            error.push(line.trim_start_matches("error: ").to_owned());
        }
        if sender.send(ProcessEvent::Line(line)).is_err() {
            break;
        }
        wake();
    }
    if error.is_empty() { "The command failed without a message.".into() } else { error.join("\n") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_message_of_a_command_has_its_hint() {
        let (sender, receiver) = channel();
        let output = b"scoring 10%\rscoring 20%\nerror: no sample would be kept\nhint: keep more\n";
        assert_eq!(forward_lines(&output[..], &sender, &|| ()), "no sample would be kept\nhint: keep more");
        let lines = receiver.try_iter().filter_map(|event| match event {
            ProcessEvent::Line(line) => Some(line),
            ProcessEvent::End(_) => None,
        });
        assert_eq!(lines.collect::<Vec<_>>()[0], "scoring 20%");
    }
}
