//! What people see while they wait, on stderr: progress bars with the time left, or, where stderr is no terminal, a plain line
//! now and then. Never writes to stdout.

use indicatif::{ProgressBar, ProgressStyle};
use std::io::{self, Write};
use std::ops::Deref;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

/// Where stderr is no terminal: the time before the first line, and between two of them.
const LINES: [Duration; 2] = [Duration::from_secs(10), Duration::from_secs(60)];
/// Environment variable with another time for both, in seconds.
const SECONDS: &str = "SAE_PROGRESS_SECONDS";

/// How far work is. Shown until it is dropped or finished.
pub struct Bar {
    bar: ProgressBar,
    _lines: Option<Lines>,
}

impl Deref for Bar {
    type Target = ProgressBar;

    fn deref(&self) -> &ProgressBar {
        &self.bar
    }
}

/// Work on `total` of something.
pub fn bar(what: &str, total: u64) -> Bar {
    let bar = ProgressBar::new(total);
    show(what, bar, "{prefix:>8} [{bar:30}] {percent:>3}% {msg} {elapsed} (left: {eta})")
}

/// Work of which nobody knows how far it is.
pub fn stage(what: &str) -> Bar {
    show(what, ProgressBar::new_spinner(), "{prefix:>8} {spinner} {elapsed}")
}

fn show(what: &str, bar: ProgressBar, template: &str) -> Bar {
    bar.set_style(ProgressStyle::with_template(template).expect("the templates above are valid").progress_chars("=> "));
    bar.set_prefix(what.to_string());
    bar.enable_steady_tick(Duration::from_millis(250));
    let lines = bar.is_hidden().then(|| Lines::start(bar.clone()));
    Bar { bar, _lines: lines }
}

/// A thread that prints how far a bar is until it is dropped.
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
                // Whoever has closed stderr wants no lines.
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
        line += &format!(", {rate}/s, {} left", time(left));
    }
    line
}

/// A time for people.
fn time(time: Duration) -> String {
    match time.as_secs() {
        seconds @ 0..90 => format!("{seconds} s"),
        seconds @ 90..5400 => format!("{} min", (seconds + 30) / 60),
        seconds => format!("{} h {:02} min", seconds / 3600, seconds % 3600 / 60),
    }
}

/// A count for people: 1234567 as 1,234,567.
pub fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A count of something: `1 sample`, `1,234 samples`.
pub fn counted(n: u64, one: &str) -> String {
    format!("{} {one}{}", count(n), if n == 1 { "" } else { "s" })
}

/// Bytes for people.
pub fn size(bytes: u64) -> String {
    let mib = bytes as f64 / f64::from(1 << 20);
    if mib < 1024.0 { format!("{mib:.0} MiB") } else { format!("{:.1} GiB", mib / 1024.0) }
}

/// Rows of cells as aligned columns, the first to the left, the others to the right.
pub fn table(rows: &[Vec<String>]) -> String {
    aligned(rows, |column| column > 0)
}

/// Rows of cells as aligned columns, all to the left: for texts.
pub fn columns(rows: &[Vec<String>]) -> String {
    aligned(rows, |_| false)
}

fn aligned(rows: &[Vec<String>], to_the_right: impl Fn(usize) -> bool) -> String {
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
        assert_eq!(line("neighbors", [0, 0], 0.0, seconds(0), seconds(70)), "neighbors: for 70 s");
        assert_eq!((time(seconds(89)), time(seconds(5399))), ("89 s".into(), "90 min".into()));
        assert_eq!(time(seconds(11_100)), "3 h 05 min");
    }

    #[test]
    fn counts_and_tables_are_easy_to_read() {
        assert_eq!((count(7), count(1_000), count(1_234_567)), ("7".into(), "1,000".into(), "1,234,567".into()));
        assert_eq!([0, 1, 2_000].map(|n| counted(n, "row")), ["0 rows", "1 row", "2,000 rows"]);
        let rows = [vec!["a".into(), "10".into()], vec!["long".into(), "5".into()]];
        assert_eq!(table(&rows), "  a     10\n  long   5\n");
        assert_eq!(columns(&rows), "  a     10\n  long  5\n");
    }
}
