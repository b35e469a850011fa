//! Ctrl-C and a polite kill. A command stops at once, with the status that says "resume me", unless it holds an
//! [`Interrupt`]: then the first signal only sets a flag, which long work looks at between two steps. The second one
//! always ends the program.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};

/// The exit status of a command that was interrupted and that the same command resumes.
pub const INTERRUPTED: u8 = 85;

struct Flags {
    /// Whether a signal has come.
    asked: Arc<AtomicBool>,
    /// Whether the next signal ends the program.
    at_once: Arc<AtomicBool>,
}

static FLAGS: LazyLock<Flags> =
    LazyLock::new(|| Flags { asked: Arc::default(), at_once: Arc::new(AtomicBool::new(true)) });

/// Listens from now on.
///
/// # Errors
/// The system refused a handler.
pub fn listen() -> io::Result<()> {
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        // In this order: the first signal that somebody waits for sets the flags, which arms the exit for the second.
        signal_hook::flag::register_conditional_shutdown(signal, INTERRUPTED.into(), FLAGS.at_once.clone())?;
        signal_hook::flag::register(signal, FLAGS.asked.clone())?;
        signal_hook::flag::register(signal, FLAGS.at_once.clone())?;
    }
    Ok(())
}

/// Held by work that wants to put itself aside before the program ends.
pub struct Interrupt(());

impl Interrupt {
    /// From now on until it is dropped, a first signal is only noted.
    pub fn expect() -> Self {
        FLAGS.asked.store(false, Ordering::SeqCst);
        FLAGS.at_once.store(false, Ordering::SeqCst);
        Self(())
    }

    /// Whether a signal has come.
    pub fn asked(&self) -> bool {
        FLAGS.asked.load(Ordering::SeqCst)
    }
}

impl Drop for Interrupt {
    fn drop(&mut self) {
        FLAGS.at_once.store(true, Ordering::SeqCst);
    }
}

/// Whether a signal has come since somebody last expected one. For work that goes on behind the part that expected it: what
/// came too late for that part is not lost.
pub fn asked() -> bool {
    FLAGS.asked.load(Ordering::SeqCst)
}

/// Work that was put aside because somebody asked for it: where it is and how to go on.
#[derive(Debug)]
pub struct Interrupted(pub String);

impl std::fmt::Display for Interrupted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Interrupted {}
