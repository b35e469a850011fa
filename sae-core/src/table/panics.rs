//! Calls decoders that panic on damaged input, so that such input becomes an error and prints nothing. Every other panic is still
//! reported.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::Once;

thread_local! {
    /// Whether [`catch_panic`] catches the panics of this thread.
    static IS_CAUGHT: Cell<bool> = const { Cell::new(false) };
}

/// Returns what `decode` returns, or `None` if it panicked on this thread. The decoder must not be used again after a panic.
///
/// The first call installs a panic hook, which passes all other panics on to the hook that was installed before.
pub fn catch_panic<T>(decode: impl FnOnce() -> T) -> Option<T> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let report = take_hook();
        set_hook(Box::new(move |panic| {
            if !IS_CAUGHT.get() {
                report(panic);
            }
        }));
    });
    let outer = IS_CAUGHT.replace(true);
    let decoded = catch_unwind(AssertUnwindSafe(decode)).ok();
    IS_CAUGHT.set(outer);
    decoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_none_and_does_not_affect_the_next_call() {
        let rows: [u8; 0] = [];
        let at = rows.len() + 3;
        let outer = catch_panic(|| {
            assert_eq!(catch_panic(|| rows[at]), None);
            assert!(IS_CAUGHT.get(), "the outer call still catches");
            7
        });
        assert_eq!(outer, Some(7));
        assert!(!IS_CAUGHT.get());
    }
}
