//! Ctrl-C, SIGTERM, and SIGUSR1, which schedulers send before the time is over. A command ends at once, with the status for "run it again to continue", unless its operation has work to save:
//! then the first signal asks the operation to stop, and the second one ends the program.

use sae_workbench::Cancel;
use std::io;

/// The exit status of a command that was interrupted and that the same command resumes.
pub const INTERRUPTED: u8 = 85;

#[cfg(unix)]
const SIGNALS: [i32; 3] = [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM, signal_hook::consts::SIGUSR1];
#[cfg(not(unix))]
const SIGNALS: [i32; 2] = [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM];

/// Installs the signal handlers, and returns the token that they use.
///
/// # Errors
/// The system does not install a handler.
pub fn listen() -> io::Result<Cancel> {
    let cancel = Cancel::new();
    for signal in SIGNALS {
        // The order matters: the first signal to an operation with work to save sets the flags, and so the second one exits.
        signal_hook::flag::register_conditional_shutdown(signal, INTERRUPTED.into(), cancel.unattended())?;
        signal_hook::flag::register(signal, cancel.requested())?;
        signal_hook::flag::register(signal, cancel.unattended())?;
    }
    Ok(cancel)
}
