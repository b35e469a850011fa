//! Progress on stderr: bars with the time left or, if stderr is not a terminal, a plain line from time to time. Never writes to stdout.

use indicatif::{ProgressBar, ProgressStyle};
use sae_workbench::control::{Detail, Notice, Progress, Stage};
pub use sae_workbench::numbers::{count, counted, size};
use std::io::{self, Write};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

/// If stderr is not a terminal: the time before the first line, and between two lines.
const LINES: [Duration; 2] = [Duration::from_secs(10), Duration::from_secs(60)];
/// A longer estimate of the time left is not shown: it comes from a speed of nearly nothing.
const LONGEST_ESTIMATE: Duration = Duration::from_secs(100 * 24 * 3600);
/// Environment variable with another value for both times, in seconds.
const SECONDS: &str = "SAE_PROGRESS_SECONDS";

/// Templates of a bar for work whose end is known, and for other work.
const BAR: &str = "{prefix:>8} [{bar:30}] {percent:>3}% {msg} {elapsed} (left: {eta})";
const SPINNER: &str = "{prefix:>8} {spinner} {elapsed}";

/// Shows the progress of an operation, and its notices.
#[derive(Default)]
pub struct Terminal {
    bar: Option<Bar>,
}

/// A stage of an operation. Shown until it is dropped.
struct Bar {
    bar: ProgressBar,
    /// Whether a position was reached.
    begun: bool,
    _lines: Option<Lines>,
}

impl Bar {
    fn new(stage: Stage, total: Option<u64>) -> Self {
        let bar = match total {
            Some(total) => ProgressBar::new(total).with_style(style(BAR)),
            None => ProgressBar::new_spinner().with_style(style(SPINNER)),
        };
        bar.set_prefix(stage.name());
        bar.enable_steady_tick(Duration::from_millis(250));
        let lines = bar.is_hidden().then(|| Lines::start(bar.clone()));
        Self { bar, begun: false, _lines: lines }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).expect("the templates above are valid").progress_chars("=> ")
}

impl Progress for Terminal {
    fn start(&mut self, stage: Stage, total: Option<u64>) {
        self.bar = Some(Bar::new(stage, total));
    }

    fn advance(&mut self, position: u64, total: Option<u64>, detail: Detail) {
        let Some(Bar { bar, begun, .. }) = &mut self.bar else { return };
        if total.is_some() && total != bar.length() {
            bar.set_style(style(BAR));
            bar.set_length(total.unwrap_or_default());
        }
        bar.set_position(position);
        if !*begun {
            // Work of an earlier call does not count for the speed of this one.
            bar.reset_eta();
            *begun = true;
        }
        match detail {
            Detail::Transfer { file } => {
                let total = total.unwrap_or_default();
                bar.set_message(format!("{} of {} MB, {file}", position >> 20, total >> 20));
            }
            Detail::Harvest { positions, positions_per_s, skipped } => {
                bar.set_message(format!("{} tokens, {positions_per_s:.0}/s, {skipped} skipped", count(positions)));
            }
            Detail::Generate { tokens, tokens_per_s } => {
                bar.set_message(format!("{} tokens, {tokens_per_s:.1}/s", count(tokens)));
            }
            Detail::Train { step, tokens_per_s } => bar.set_message(format!(
                "loss {:.3} L0 {:.1} FVU {:.4} dead {:.1} % {tokens_per_s:.0} tokens/s",
                step.loss,
                step.l0,
                step.fvu,
                100.0 * step.dead,
            )),
            _ => {}
        }
    }

    fn finish(&mut self) {
        self.bar = None;
    }

    fn notice(&mut self, notice: &Notice) {
        let Some(text) = words(notice) else { return };
        match &self.bar {
            Some(bar) => bar.bar.suspend(|| eprintln!("{text}")),
            None => eprintln!("{text}"),
        }
    }
}

/// A notice in words; `None` for one that this program does not know.
fn words(notice: &Notice) -> Option<String> {
    Some(match notice {
        Notice::Data(note) => format!("note: {note}"),
        Notice::Memory(memory) => format!(
            "memory: about {}: weights {}, a part {}, its samples {}, batches {}; {} of the checkpoint mapped",
            size(memory.total),
            size(memory.weights),
            size(memory.part),
            size(memory.samples),
            size(memory.batch),
            size(memory.mapped),
        ),
        Notice::SkippedRows { rows, first } => {
            let first = format!("row {} ({}): {}", first.row, first.key, first.reason);
            format!("warning: {} of the data could not be used, such as {first}", counted(*rows, "row"))
        }
        Notice::NoCheckpoint { step, cause } => format!("warning: no checkpoint at step {step}: {cause}"),
        Notice::NoLog { step, cause } => format!("warning: no log at step {step}: {cause}"),
        Notice::WithoutNccl { cause } => {
            format!("note: arrays are exchanged by TCP, which is slower than NCCL: {cause}")
        }
        Notice::StaleSummaries { path, cause } => format!("note: {} is made again: {cause}", path.display()),
        Notice::NoSummaries { path, cause } => {
            format!("warning: {} was not stored, so the next question needs a pass too: {cause}", path.display())
        }
        Notice::SingleGroups { singles, groups, fields } => format!(
            "warning: {} of the {} groups by {fields} have a single sample; {fields}:4 would divide numbers into four \
             groups",
            count(*singles as u64),
            count(*groups as u64),
        ),
        _ => return None,
    })
}

/// A thread that prints the position of a bar until this is dropped.
struct Lines {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Lines {
    fn start(bar: ProgressBar) -> Self {
        let asked = std::env::var(SECONDS).ok().and_then(|seconds| seconds.parse().ok());
        let asked = asked.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()).filter(|time| !time.is_zero());
        let [mut wait, every] = asked.map_or(LINES, |time| [time; 2]);
        let (stop, stopped) = channel();
        let thread = std::thread::spawn(move || {
            while stopped.recv_timeout(wait) == Err(RecvTimeoutError::Timeout) && !bar.is_finished() {
                wait = every;
                let (rate, left) = (bar.per_sec(), bar.eta());
                let line = line(&bar.prefix(), [bar.position(), bar.length().unwrap_or(0)], rate, left, bar.elapsed());
                let message = bar.message();
                let message = if message.is_empty() { message } else { format!("; {message}") };
                // If stderr is closed, nobody reads the lines.
                let _ = writeln!(io::stderr(), "{line}{message}");
            }
        });
        Self { stop: Some(stop), thread: Some(thread) }
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Such as `train: 1,200 of 30,000 (4 %), 52.1/s, 9 min left`.
fn line(what: &str, [done, total]: [u64; 2], rate: f64, left: Duration, elapsed: Duration) -> String {
    if total == 0 {
        return format!("{what}: for {}", time(elapsed));
    }
    let mut line = format!("{what}: {} of {} ({:.0} %)", count(done), count(total), 100.0 * done as f64 / total as f64);
    if rate > 0.0 && done < total {
        let rate = if rate < 100.0 { format!("{rate:.1}") } else { count(rate as u64) };
        line += &format!(", {rate}/s");
        if left < LONGEST_ESTIMATE {
            line += &format!(", {} left", time(left));
        }
    }
    line
}

/// A duration in words.
fn time(time: Duration) -> String {
    match time.as_secs() {
        seconds @ 0..90 => format!("{seconds} s"),
        seconds @ 90..5400 => format!("{} min", (seconds + 30) / 60),
        seconds => format!("{} h {:02} min", seconds / 3600, seconds % 3600 / 60),
    }
}

/// Rows of cells as aligned columns: the first is left-aligned, the others right-aligned.
pub fn table(rows: &[Vec<String>]) -> String {
    aligned(rows, |column| column > 0)
}

/// Rows of cells as left-aligned columns, for texts.
pub fn columns(rows: &[Vec<String>]) -> String {
    aligned(rows, |_| false)
}

/// Rows of cells as columns, those of numbers aligned to the right.
pub fn aligned(rows: &[Vec<String>], to_the_right: impl Fn(usize) -> bool) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |c: usize| rows.iter().filter_map(|r| r.get(c)).map(|s| s.chars().count()).max().unwrap_or(0);
    let widths: Vec<_> = (0..columns).map(width).collect();
    let mut out = String::new();
    for row in rows {
        let cell = |(c, text): (usize, &String)| {
            if to_the_right(c) { format!("{text:>0$}", widths[c]) } else { format!("{text:<0$}", widths[c]) }
        };
        let line = row.iter().enumerate().map(cell).collect::<Vec<_>>().join("  ");
        out += &format!("  {}\n", line.trim_end());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_how_far_how_fast_and_how_long() {
        let seconds = Duration::from_secs;
        let found = line("train", [1_200, 30_000], 52.06, seconds(553), seconds(23));
        assert_eq!(found, "train: 1,200 of 30,000 (4 %), 52.1/s, 9 min left");
        assert_eq!(line("train", [0, 30_000], 0.0, seconds(0), seconds(10)), "train: 0 of 30,000 (0 %)");
        let resumed = line("generate", [576, 1_200], 1e-18, Duration::MAX, seconds(2));
        assert_eq!(resumed, "generate: 576 of 1,200 (48 %), 0.0/s");
        assert_eq!(line("neighbors", [0, 0], 0.0, seconds(0), seconds(70)), "neighbors: for 70 s");
        assert_eq!((time(seconds(89)), time(seconds(5399))), ("89 s".into(), "90 min".into()));
        assert_eq!(time(seconds(11_100)), "3 h 05 min");
    }

    #[test]
    fn tables_are_aligned() {
        let rows = [vec!["a".into(), "10".into()], vec!["long".into(), "5".into()]];
        assert_eq!(table(&rows), "  a     10\n  long   5\n");
        assert_eq!(columns(&rows), "  a     10\n  long  5\n");
    }
}
