//! How a command fails: causes first, from the outermost to the innermost, then what can be done, a hint a line; and the
//! exit status.

use crate::cli::hint;
use crate::cli::interrupt::{INTERRUPTED, Interrupted};
use sae_core::error::Hint;

/// Anything that is not said more precisely.
const FAILED: u8 = 1;
/// Another process holds the run: the same command may succeed later.
const TRY_AGAIN: u8 = 75;

/// What is printed behind `error: `.
pub fn message(error: &anyhow::Error) -> String {
    let (mut causes, mut hints) = (Vec::<String>::new(), Vec::<String>::new());
    for error in error.chain() {
        let text = error.to_string();
        let (hint, cause): (Vec<&str>, Vec<&str>) = text.lines().partition(|line| line.starts_with("hint: "));
        hints.extend(hint.into_iter().map(String::from));
        hints.extend(typed_hint(error).map(|hint| format!("hint: {}", hint::words(&hint))));
        let cause = cause.join("\n");
        // Some errors repeat their source in their own words.
        if !causes.iter().any(|outer| outer.contains(&cause)) {
            causes.push(cause);
        }
    }
    hints.dedup();
    let causes = causes.join(": ");
    std::iter::once(causes).chain(hints).collect::<Vec<_>>().join("\n")
}

/// The hint of an error of a library.
fn typed_hint(error: &(dyn std::error::Error + 'static)) -> Option<Hint> {
    let core = error.downcast_ref().and_then(sae_core::Error::hint);
    let harvest = || error.downcast_ref().and_then(harvest::Error::hint);
    let filters = || error.downcast_ref().and_then(filters::Error::hint);
    core.or_else(harvest).or_else(filters)
}

/// The exit status: 75 to try again, 85 to resume, 1 for everything else.
pub fn status(error: &anyhow::Error) -> u8 {
    let busy = |core: &sae_core::Error| matches!(core, sae_core::Error::Busy { .. });
    for cause in error.chain() {
        let wrapped = cause.downcast_ref().is_some_and(|e| matches!(e, harvest::Error::Core(e) if busy(e)))
            || cause.downcast_ref().is_some_and(|e| matches!(e, filters::Error::Core(e) if busy(e)));
        if wrapped || cause.downcast_ref().is_some_and(busy) {
            return TRY_AGAIN;
        }
        if cause.is::<Interrupted>() {
            return INTERRUPTED;
        }
    }
    FAILED
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::{Context, anyhow};
    use sae_core::Error;
    use std::io::ErrorKind;
    use std::path::Path;

    #[test]
    fn causes_come_first_once_each_and_hints_last() {
        let error = Error::io("open", Path::new("a/b"))(ErrorKind::NotFound.into());
        let error = Err::<(), _>(error).context("the index is needed\nhint: `sae index` makes it").unwrap_err();
        assert_eq!(
            message(&error),
            "the index is needed: cannot open: entity not found: a/b\nhint: `sae index` makes it"
        );
        let busy = || Error::Busy { holder: String::new(), path: "run".into() };
        let expected =
            "cannot score: another process is writing to this run: run\nhint: wait for it, or choose another --run";
        for wrapped in [busy().into(), filters::Error::from(busy()).into(), harvest::Error::from(busy()).into()] {
            assert_eq!(message(&anyhow::Error::context(wrapped, "cannot score")), expected);
        }
        let two = anyhow!("broken\nhint: mend it").context("no model\nhint: name one").context("cannot score");
        assert_eq!(message(&two), "cannot score: no model: broken\nhint: name one\nhint: mend it");
        let list = anyhow!("two are wrong:\n  a\n  b\nhint: neither");
        assert_eq!(message(&list), "two are wrong:\n  a\n  b\nhint: neither");
    }

    #[test]
    fn the_status_tells_who_should_try_again_and_who_should_resume() {
        let busy = || Error::Busy { holder: String::new(), path: "run".into() };
        assert_eq!(status(&busy().into()), 75);
        assert_eq!(status(&anyhow::Error::from(harvest::Error::from(busy())).context("cannot harvest")), 75);
        assert_eq!(status(&filters::Error::from(busy()).into()), 75);
        assert_eq!(status(&Interrupted("step 3".into()).into()), 85);
        assert_eq!(status(&anyhow!("something else")), 1);
    }
}
