//! Runs a command of the program `sae` beside the app: the same program that a shell would start, so that what the app does
//! and what the command does cannot differ, and a command that is stopped or fails takes nothing with it.

use crate::state::job::{Order, State};
use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child as Process, Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

/// Bytes of a result that are kept.
const LIMIT: u64 = 1 << 20;
/// Bytes of a line of talk that are kept.
const LINE: usize = 400;

/// What a command lets be known.
pub enum ProcessEvent {
    /// A line of its talk.
    Line(String),
    /// How it ended.
    End(State),
}

/// A command under way. Dropping it stops the command.
pub struct Child {
    process: Arc<Mutex<Option<Process>>>,
    heard: Receiver<ProcessEvent>,
}

impl Child {
    /// Starts a command; `wake` is called whenever there is something to hear.
    ///
    /// # Errors
    /// The program is not there, or cannot be started.
    pub fn start(order: &Order, wake: impl Fn() + Send + Clone + 'static) -> Result<Self, String> {
        let program = program();
        let mut process = Command::new(&program)
            .args(&order.arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| format!("cannot start the program sae ({error}): {}", program.display()))?;
        let (sender, heard) = channel();
        let (out, talk) = (process.stdout.take(), process.stderr.take());
        let process = Arc::new(Mutex::new(Some(process)));
        let (own, woken) = (process.clone(), wake.clone());
        let talk = thread::spawn(move || talk.map(|talk| listen(talk, &sender, &woken)).map(|last| (sender, last)));
        thread::spawn(move || {
            let mut said = String::new();
            // What is not text is no result of ours; the exit status tells.
            let _ = out.map(|out| out.take(LIMIT).read_to_string(&mut said));
            let Ok(Some((sender, last))) = talk.join() else { return };
            let ended = own.lock().unwrap_or_else(PoisonError::into_inner).take().map(|mut process| process.wait());
            let state = match ended {
                None => State::Stopped,
                Some(Ok(status)) if status.success() => State::Done(said.trim_end().into()),
                Some(Ok(_)) => State::Failed(last),
                Some(Err(error)) => State::Failed(error.to_string()),
            };
            // The window may be gone.
            let _ = sender.send(ProcessEvent::End(state));
            wake();
        });
        Ok(Self { process, heard })
    }

    /// What it has said since the last call.
    pub fn heard(&self) -> impl Iterator<Item = ProcessEvent> {
        self.heard.try_iter()
    }

    /// Stops it. What it writes appears whole or not at all, so nothing is left behind but hidden partial files.
    pub fn stop(&self) {
        if let Some(mut process) = self.process.lock().unwrap_or_else(PoisonError::into_inner).take() {
            // It may have ended by itself.
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The program that was installed with this one, or else the one that the shell would find.
fn program() -> PathBuf {
    let name = format!("sae{}", std::env::consts::EXE_SUFFIX);
    let own = std::env::current_exe().unwrap_or_default();
    // Programs under test lie one folder deeper.
    let folders = own.ancestors().skip(1).take(2);
    let beside = folders.map(|folder| folder.join(&name)).find(|path| path.is_file());
    beside.unwrap_or_else(|| name.into())
}

/// Passes the talk on line by line; returns the error that it ended in, with its hints.
fn listen(talk: impl Read, sender: &Sender<ProcessEvent>, wake: &impl Fn()) -> String {
    let mut error = Vec::new();
    for line in BufReader::new(talk).split(b'\n').map_while(Result::ok) {
        // A progress bar overwrites its line; its last state counts.
        let line = line.rsplit(|byte| *byte == b'\r').find(|part| !part.is_empty()).unwrap_or_default();
        let mut line = String::from_utf8_lossy(line).trim_end().to_owned();
        while line.len() > LINE {
            line.pop();
        }
        if line.starts_with("error: ") || (line.starts_with("hint: ") && !error.is_empty()) || !error.is_empty() {
            error.push(line.trim_start_matches("error: ").to_owned());
        }
        if sender.send(ProcessEvent::Line(line)).is_err() {
            break;
        }
        wake();
    }
    if error.is_empty() { "it ended without a message".into() } else { error.join("\n") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_of_a_command_is_told_with_its_hint() {
        let (sender, receiver) = channel();
        let talk = b"scoring 10%\rscoring 20%\nerror: no sample would stay\nhint: keep more\n";
        assert_eq!(listen(&talk[..], &sender, &|| ()), "no sample would stay\nhint: keep more");
        let lines = receiver.try_iter().filter_map(|heard| match heard {
            ProcessEvent::Line(line) => Some(line),
            ProcessEvent::End(_) => None,
        });
        assert_eq!(lines.collect::<Vec<_>>()[0], "scoring 20%");
    }
}
