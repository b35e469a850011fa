//! The workers: they read tables, decode pictures, save labels, encode samples and run models on threads of their own, so that
//! the window never waits. Know no egui type.

mod activations;
mod budget;
pub mod chooser;
mod contrast;
mod folders;
pub mod fonts;
pub mod label_cost;
mod loader;
mod mailbox;
mod open;
mod pictures;
mod playground;
mod playground_reply;
mod probe;
pub mod recents;
pub mod recovery;
mod remote;
mod report;
mod sample;
mod scores;
pub mod settings;
pub mod signals;
mod subprocess;
mod tables;
mod watch;
mod writing;

pub use activations::{ActivationReply, ActivationRequest, ActivationWorker, DecoderDirection};
pub use budget::BudgetWorker;
pub use loader::{Loader, Reply};
pub use playground::PlaygroundWorker;
pub use playground_reply::PlaygroundReply;
pub use subprocess::{ProcessEvent, Subprocess};

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

/// Writes a text file, which appears as a whole or not at all.
///
/// # Errors
/// What the system says.
pub fn write_text(path: &Path, text: &str) -> Result<(), String> {
    sae_core::file::write_bytes(path, text.as_bytes()).map_err(|error| error.message())
}

/// An error of an operation in words, followed by its hint on a separate line.
fn message(error: sae_workbench::Error) -> String {
    sae_core::error::message(&error, error.hint())
}

/// Runs a job. If a damaged file makes a decoder panic, that becomes an error as well.
fn guarded<T>(job: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(job))
        .unwrap_or_else(|panic| Err(format!("a file is damaged: {}", panic_message(&*panic))))
}

fn panic_message(panic: &(dyn Any + Send)) -> &str {
    let owned = panic.downcast_ref::<String>().map(String::as_str);
    owned.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("the reader stopped")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_in_a_decoder_becomes_an_error() {
        let rows: [u8; 0] = [];
        let at = rows.len() + 3;
        let result = guarded(|| Ok::<_, String>(rows[at]));
        assert!(result.is_err_and(|message| message.starts_with("a file is damaged: index out")));
    }
}
