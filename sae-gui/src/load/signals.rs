//! Ctrl-C and SIGTERM: the first one asks the window to close, which saves what is being typed; the second one ends the program at
//! once. Closes nothing itself.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// Installs the signal handlers. Returns whether there has been a signal; `wake` is called after each.
///
/// # Errors
/// The system does not install a handler, or gives no thread.
#[cfg(unix)]
pub fn listen(wake: impl Fn() + Send + 'static) -> io::Result<Arc<AtomicBool>> {
    use signal_hook::consts::{SIGINT, SIGTERM};
    use signal_hook::{flag, low_level::pipe};
    use std::io::Read;
    use std::os::unix::net::UnixStream;

    let requested = Arc::new(AtomicBool::new(false));
    let (mut receiver, sender) = UnixStream::pair()?;
    for signal in [SIGINT, SIGTERM] {
        // The order matters: the first signal sets the flag, and so the second one exits, with the status that shells expect.
        flag::register_conditional_shutdown(signal, 128 + signal, requested.clone())?;
        flag::register(signal, requested.clone())?;
        pipe::register(signal, sender.try_clone()?)?;
    }
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        while receiver.read_exact(&mut [0]).is_ok() {
            wake();
        }
    })?;
    Ok(requested)
}

/// There are no such signals: closing the window is the only way to end the app.
#[cfg(not(unix))]
pub fn listen(_wake: impl Fn() + Send + 'static) -> io::Result<Arc<AtomicBool>> {
    Ok(Arc::default())
}
