//! How a command fails: prints the causes, from the outermost to the innermost, then a hint per line; and sets the exit status.

use super::hint;
use super::signals::INTERRUPTED;
use sae_core::error::Hint;
use sae_workbench::Error;

/// The exit status of any other failure.
const FAILED: u8 = 1;
/// Another process holds the run: the same command may succeed later.
const TRY_AGAIN: u8 = 75;

/// The text that is printed after `error: `.
pub fn message(error: &anyhow::Error) -> String {
    let (mut causes, mut hints) = (Vec::<String>::new(), Vec::<String>::new());
    for cause in error.chain() {
        hints.extend(typed_hint(cause).map(|hint| format!("hint: {}", hint::words(&hint))));
        let text = cause.to_string();
        let (hint, text): (Vec<&str>, Vec<&str>) = text.lines().partition(|line| line.starts_with("hint: "));
        hints.extend(hint.into_iter().map(String::from));
        let text = text.join("\n");
        // Some errors repeat the text of their source.
        if !causes.iter().any(|outer| outer.contains(&text)) {
            causes.push(text);
        }
    }
    hints.dedup();
    let causes = causes.join(": ");
    std::iter::once(causes).chain(hints).collect::<Vec<_>>().join("\n")
}

/// The exit status: 75 to try again, 85 to resume, 1 for everything else.
pub fn status(error: &anyhow::Error) -> u8 {
    let mut operations = error.chain().filter_map(of_operation);
    match operations.find(|error| error.is_busy() || error.is_cancelled()) {
        Some(error) if error.is_busy() => TRY_AGAIN,
        Some(_) => INTERRUPTED,
        None => FAILED,
    }
}

/// The hint of an error of an operation, or of one of the other libraries.
fn typed_hint(cause: &(dyn std::error::Error + 'static)) -> Option<Hint> {
    let core = || cause.downcast_ref().and_then(sae_core::Error::hint);
    let harvest = || cause.downcast_ref().and_then(harvest::Error::hint);
    of_operation(cause).and_then(Error::hint).or_else(core).or_else(harvest)
}

/// A cause as an error of an operation, if it is one.
fn of_operation<'a>(cause: &'a (dyn std::error::Error + 'static)) -> Option<&'a Error> {
    cause.downcast_ref().or_else(|| cause.downcast_ref::<Box<Error>>().map(|error| &**error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::anyhow;
    use std::io::ErrorKind;
    use std::path::Path;

    #[test]
    fn causes_come_first_once_each_and_hints_last() {
        let source = sae_core::Error::io("open", Path::new("a/b"))(ErrorKind::NotFound.into());
        let error = anyhow::Error::from(Error::NoIndex { source });
        assert_eq!(
            message(&error),
            "features are read from the index: cannot open: entity not found: a/b\nhint: run `sae index` first"
        );
        let busy = || sae_core::Error::Busy { holder: String::new(), path: "run".into() };
        let expected =
            "cannot score: another process is writing to this run: run\nhint: wait for it, or choose another --run";
        let wrapped = [Error::from(busy()), filters::Error::from(busy()).into(), harvest::Error::from(busy()).into()];
        for wrapped in wrapped {
            assert_eq!(message(&anyhow::Error::from(wrapped).context("cannot score")), expected);
        }
        let two = anyhow!("broken\nhint: mend it").context("no model\nhint: name one").context("cannot score");
        assert_eq!(message(&two), "cannot score: no model: broken\nhint: name one\nhint: mend it");
        let list = anyhow!("two are wrong:\n  a\n  b\nhint: neither");
        assert_eq!(message(&list), "two are wrong:\n  a\n  b\nhint: neither");
        let inner = Box::new(Error::DataMoved { root: "data".into() });
        let nested = message(&Error::NoPictures { source: inner }.into());
        assert!(
            nested.contains("cannot be shown: the data set is not where it was")
                && nested.ends_with("hint: put it back: data"),
            "{nested}"
        );
    }

    #[test]
    fn the_status_tells_who_should_try_again_and_who_should_resume() {
        let busy = || sae_core::Error::Busy { holder: String::new(), path: "run".into() };
        assert_eq!(status(&Error::from(busy()).into()), 75);
        assert_eq!(
            status(&anyhow::Error::from(Error::from(harvest::Error::from(busy()))).context("cannot harvest")),
            75
        );
        assert_eq!(status(&Error::from(filters::Error::from(busy())).into()), 75);
        assert_eq!(status(&Error::Interrupted { step: 3, checkpoint: "step-3".into() }.into()), 85);
        assert_eq!(status(&Error::from(sae_core::Error::Cancelled).into()), 85);
        assert_eq!(status(&anyhow!("something else")), 1);
    }
}
