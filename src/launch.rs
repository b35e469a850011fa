//! Runs the parts of a job as processes of this machine: some at once, each again if it fails, and a last command when all are
//! done. Knows nothing of what the commands do, but that one that is run again goes on where it stopped.

use crate::Result;
use crate::control::{Control, Stage};
use crate::error::JobsError;
use serde::Serialize;
use std::collections::VecDeque;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// How often a process is looked at.
const PAUSE: Duration = Duration::from_millis(20);
/// Bytes at the end of a log in which its last line is looked for.
const TAIL: usize = 4096;

/// The processes of a job.
#[derive(Clone, Debug)]
pub struct LaunchRequest {
    /// The commands of the parts, the program first.
    pub parts: Vec<Vec<String>>,
    /// What is run when all parts are done.
    pub last: Vec<String>,
    /// How many parts run at once.
    pub at_once: usize,
    /// How often a part is tried before it is given up.
    pub tries: u32,
    /// GPUs of each process, which sees no others; 0 leaves them alone.
    pub gpus: usize,
    /// The folder for what the parts say.
    pub logs: PathBuf,
}

/// A job that is done.
#[derive(Clone, Debug, Serialize)]
pub struct LaunchReport {
    /// The number of parts.
    pub parts: usize,
    /// How many tries failed, of parts that succeeded later.
    pub retries: u32,
    /// Seconds until all parts were done.
    pub seconds: f64,
    /// What the last command printed.
    pub output: String,
}

/// A process that runs a part.
struct Running {
    part: usize,
    slot: usize,
    child: Child,
}

/// Processes are ended when the job is over, however it ends.
impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl LaunchRequest {
    /// Runs all parts, and then the last command.
    ///
    /// # Errors
    /// [`JobsError::Failed`] if a part failed as often as it was tried; the others are done by then. A program that cannot be
    /// started; a request to stop, which ends all processes.
    pub fn run(&self, control: &mut Control) -> Result<LaunchReport> {
        fs::create_dir_all(&self.logs).map_err(sae_core::Error::io("create folder", &self.logs))?;
        let begun = Instant::now();
        let retries = self.run_parts(control)?;
        let seconds = begun.elapsed().as_secs_f64();
        let output = self.run_last(control)?;
        Ok(LaunchReport { parts: self.parts.len(), retries, seconds, output })
    }

    fn run_parts(&self, control: &mut Control) -> Result<u32> {
        let token = control.token();
        let _attended = token.attend();
        let mut staged = control.stage(Stage::Launch, self.parts.len() as u64)?;
        let mut waiting: VecDeque<usize> = (0..self.parts.len()).collect();
        let (mut tries, mut running) = (vec![0; self.parts.len()], Vec::<Running>::new());
        let (mut done, mut failed) = (0, Vec::new());
        loop {
            let free = (0..self.at_once.max(1)).find(|slot| running.iter().all(|process| process.slot != *slot));
            if let (Some(slot), Some(part)) = (free, waiting.front().copied()) {
                waiting.pop_front();
                tries[part] += 1;
                running.push(Running { part, slot, child: self.start(part, slot, tries[part])? });
                continue;
            }
            let mut ended = None;
            for (n, process) in running.iter_mut().enumerate() {
                let status =
                    process.child.try_wait().map_err(sae_core::Error::io("wait for", &self.log(process.part)))?;
                ended = ended.or(status.map(|status| (n, status)));
            }
            let Some((n, status)) = ended else {
                if running.is_empty() {
                    break;
                }
                staged.advance(done)?;
                thread::sleep(PAUSE);
                continue;
            };
            let part = running.remove(n).part;
            if status.success() {
                done += 1;
                staged.advance(done)?;
            } else if tries[part] < self.tries {
                waiting.push_back(part);
            } else {
                failed.push((part as u32 + 1, last_line(&self.log(part)).unwrap_or_else(|| status.to_string())));
            }
        }
        if failed.is_empty() {
            return Ok(tries.iter().map(|tries| tries - 1).sum());
        }
        failed.sort();
        Err(JobsError::Failed { failed, tries: self.tries, logs: self.logs.clone() }.into())
    }

    fn run_last(&self, control: &mut Control) -> Result<String> {
        let _staged = control.stage(Stage::Merge, None)?;
        let path = self.logs.join("last.log");
        let child = command(&self.last).stdout(Stdio::piped()).stderr(log(&path, false)?).spawn();
        let output = child.and_then(Child::wait_with_output).map_err(|source| self.cannot_start(&self.last, source))?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let said = fs::read_to_string(&path).unwrap_or_default();
        Err(JobsError::Last { status: output.status.to_string(), said: said.trim().to_owned() }.into())
    }

    fn start(&self, part: usize, slot: usize, attempt: u32) -> Result<Child> {
        let (words, out) = (&self.parts[part], log(&self.log(part), attempt > 1)?);
        let err = out.try_clone().map_err(sae_core::Error::io("write", &self.log(part)))?;
        let mut command = command(words);
        if self.gpus > 0 {
            let own = (slot * self.gpus..(slot + 1) * self.gpus).map(|gpu| gpu.to_string()).collect::<Vec<_>>();
            command.env("CUDA_VISIBLE_DEVICES", own.join(","));
        }
        let started = command.stdin(Stdio::null()).stdout(out).stderr(err).spawn();
        Ok(started.map_err(|source| self.cannot_start(words, source))?)
    }

    fn cannot_start(&self, words: &[String], source: std::io::Error) -> JobsError {
        JobsError::Start { program: words.first().cloned().unwrap_or_default(), source }
    }

    fn log(&self, part: usize) -> PathBuf {
        self.logs.join(format!("part-{:05}.log", part + 1))
    }
}

fn command(words: &[String]) -> Command {
    let mut command = Command::new(words.first().map_or("", String::as_str));
    command.args(words.iter().skip(1));
    command
}

/// The log of a part, behind what an earlier try said.
fn log(path: &Path, append: bool) -> Result<File> {
    let mut options = File::options();
    options.create(true).write(true).append(append).truncate(!append);
    Ok(options.open(path).map_err(sae_core::Error::io("create", path))?)
}

/// The last line of a log that is not empty.
fn last_line(path: &Path) -> Option<String> {
    let bytes = fs::read(path).ok()?;
    let tail = String::from_utf8_lossy(&bytes[bytes.len().saturating_sub(TAIL)..]).into_owned();
    tail.lines().rev().map(str::trim).find(|line| !line.is_empty()).map(str::to_owned)
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use crate::{Cancel, Error, NoProgress};

    fn job(dir: &Path, parts: &[&str]) -> LaunchRequest {
        let shell = |script: &str| ["sh", "-c", script].map(String::from).to_vec();
        let parts = parts.iter().map(|script| shell(script)).collect();
        let last = shell("echo all of them");
        LaunchRequest { parts, last, at_once: 2, tries: 3, gpus: 0, logs: dir.join("logs") }
    }

    #[test]
    fn a_part_that_is_killed_is_run_again() {
        let dir = tempfile::tempdir().unwrap();
        let mark = dir.path().join("tried");
        // The first try ends by a signal, as if the system had run out of memory.
        let killed = format!("if mkdir {0} 2> /dev/null; then kill -KILL $$; fi; echo done", mark.display());
        let report = job(dir.path(), &["true", &killed, "true"]).run(&mut Control::default()).unwrap();
        assert_eq!((report.parts, report.retries, report.output.trim()), (3, 1, "all of them"));
        assert!(fs::read_to_string(dir.path().join("logs/part-00002.log")).unwrap().contains("done"));
    }

    #[test]
    fn a_part_that_fails_three_times_is_reported_and_the_others_are_done() {
        let dir = tempfile::tempdir().unwrap();
        let mark = dir.path().join("third");
        let third = format!("touch {}", mark.display());
        let job = job(dir.path(), &["echo out of luck >&2; exit 1", "true", &third]);
        let error = job.run(&mut Control::default()).unwrap_err();
        let Error::Jobs(JobsError::Failed { failed, tries, .. }) = &error else { panic!("{error}") };
        assert_eq!((&failed[..], *tries, mark.exists()), (&[(1, "out of luck".to_owned())][..], 3, true));
        let log = fs::read_to_string(dir.path().join("logs/part-00001.log")).unwrap();
        assert_eq!(log.lines().count(), 3, "every try is in the log: {log}");
    }

    #[test]
    fn a_request_to_stop_ends_all_processes() {
        let dir = tempfile::tempdir().unwrap();
        let mark = |n: u32| dir.path().join(format!("mark-{n}"));
        let part = |n: u32| format!("touch {}; exec sleep 60", mark(n).display());
        let job = job(dir.path(), &[&part(1), &part(2), &part(3)]);
        let cancel = Cancel::new();
        let (stop, marks) = (cancel.clone(), [mark(1), mark(2)]);
        let waiting = thread::spawn(move || {
            while !marks.iter().all(|mark| mark.exists()) {
                thread::sleep(PAUSE);
            }
            stop.cancel();
        });
        let begun = Instant::now();
        let error = job.run(&mut Control::new(NoProgress, cancel)).unwrap_err();
        waiting.join().unwrap();
        assert!(error.is_cancelled() && begun.elapsed() < Duration::from_secs(30), "{error}");
        assert!(!mark(3).exists(), "no part is begun after that");
    }

    #[test]
    fn each_process_sees_gpus_of_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let say = "echo $CUDA_VISIBLE_DEVICES";
        let job = LaunchRequest { gpus: 2, at_once: 1, ..job(dir.path(), &[say, say]) };
        job.run(&mut Control::default()).unwrap();
        let log = |n: u32| fs::read_to_string(dir.path().join(format!("logs/part-0000{n}.log"))).unwrap();
        assert_eq!((log(1).trim(), log(2).trim()), ("0,1", "0,1"), "one process at once has the first two");
    }
}
