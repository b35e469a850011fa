//! Ctrl-C and a polite kill. A command ends at once, with the status that says "resume me", unless its operation has work to save:
//! then the first signal asks the operation to stop, and the second one ends the program.

use sae_workbench::Cancel;
use std::io;

/// The exit status of a command that was interrupted and that the same command resumes.
pub const INTERRUPTED: u8 = 85;

/// Listens from now on; signals ask the token.
///
/// # Errors
/// The system refused a handler.
pub fn listen() -> io::Result<Cancel> {
    let cancel = Cancel::new();
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        // In this order: the first signal that an operation attends to sets the flags, which arms the exit for the second.
        signal_hook::flag::register_conditional_shutdown(signal, INTERRUPTED.into(), cancel.unattended())?;
        signal_hook::flag::register(signal, cancel.requested())?;
        signal_hook::flag::register(signal, cancel.unattended())?;
    }
    Ok(cancel)
}
