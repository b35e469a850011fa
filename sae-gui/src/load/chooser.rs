//! The system's own dialog that chooses a folder, on a thread. On Linux it is that of the desktop (XDG portal, else `zenity`).

use std::path::PathBuf;
use std::sync::mpsc::{Receiver, channel};

/// Begins to let a person choose a folder, at first in `start`. Nothing is chosen if the dialog is closed, or if the system has
/// none. `wake` is called in the end.
pub fn folder(start: Option<PathBuf>, wake: impl FnOnce() + Send + 'static) -> Receiver<Option<PathBuf>> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        let dialog = rfd::FileDialog::new().set_title("Open a run");
        let dialog = start.iter().fold(dialog, |dialog, start| dialog.set_directory(start));
        // The window may be gone.
        let _ = sender.send(dialog.pick_folder());
        wake();
    });
    receiver
}
