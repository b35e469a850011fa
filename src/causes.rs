//! Errors in words: one line with all their causes.

use std::error::Error;

/// An error with its causes, from the outermost to the innermost, without those that an outer one repeats.
pub(crate) fn with_causes(error: &(dyn Error + 'static)) -> String {
    let mut causes: Vec<String> = Vec::new();
    let mut next = Some(error);
    while let Some(error) = next {
        let cause = error.to_string();
        if !causes.iter().any(|outer| outer.contains(&cause)) {
            causes.push(cause);
        }
        next = error.source();
    }
    causes.join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_appear_once_from_the_outermost_to_the_innermost() {
        let source = sae_core::Error::io("open", "a/b".as_ref())(std::io::ErrorKind::NotFound.into());
        assert_eq!(
            with_causes(&crate::Error::NoIndex { source }),
            "features are read from the index: cannot open: entity not found: a/b"
        );
    }
}
