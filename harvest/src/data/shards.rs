//! Patterns for the names of shards: `name-{000000..000012}.tar` stands for thirteen files or objects. Knows no formats.

use crate::objects::ObjectUrl;
use crate::{Error, Result};
use std::path::{Path, PathBuf};

/// Maximum number of files for which a pattern stands.
const LIMIT: u64 = 1 << 20;

/// The files for which a pattern stands, in order. Nothing if the path is not a pattern.
///
/// # Errors
/// The pattern stands for too many files.
pub(super) fn expand(path: &Path) -> Result<Option<Vec<PathBuf>>> {
    let Some(text) = path.to_str() else { return Ok(None) };
    let mut names = vec![text.to_owned()];
    // Ranges are expanded from the last to the first, so that the last one varies fastest.
    while let Some((start, end, first, last, digits)) = range(&names[0]) {
        let count = last - first + 1;
        if count.saturating_mul(names.len() as u64) > LIMIT {
            return Err(Error::data(path)(format!("the pattern stands for more than {LIMIT} files")));
        }
        let number = |name: &str, n: u64| format!("{}{n:0digits$}{}", &name[..start], &name[end..]);
        // Every name has the same length before the range, because earlier ranges have not been expanded yet.
        let all = (first..=last).flat_map(|n| names.iter().map(move |name| (name, n)));
        names = all.map(|(name, n)| number(name, n)).collect();
    }
    Ok((names.len() > 1 || names[0] != text).then(|| names.into_iter().map(PathBuf::from).collect()))
}

/// The objects for which an address stands, if it is a pattern; otherwise the address itself.
///
/// # Errors
/// The pattern stands for too many objects.
pub fn addresses(url: &ObjectUrl) -> Result<Vec<ObjectUrl>> {
    let Some(paths) = expand(Path::new(&url.to_string()))? else { return Ok(vec![url.clone()]) };
    let address = |path: PathBuf| ObjectUrl::from_path(&path).ok().flatten();
    Ok(paths.into_iter().filter_map(address).collect())
}

/// The last range in a name: its start and end in the name, its first and last number, and the number of digits.
fn range(name: &str) -> Option<(usize, usize, u64, u64, usize)> {
    let start = name.rfind('{')?;
    let end = start + name[start..].find('}')?;
    let (first, last) = name[start + 1..end].split_once("..")?;
    let digits = first.len();
    let number = |text: &str| text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten();
    let (first, last): (u64, u64) = (number(first)?, number(last)?);
    (first <= last && last < u64::MAX && digits <= 20).then_some((start, end + 1, first, last, digits))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_stand_for_files_in_order() {
        let names = |pattern: &str| {
            let files = expand(Path::new(pattern)).unwrap();
            files.map(|files| files.iter().map(|f| f.display().to_string()).collect::<Vec<_>>())
        };
        assert_eq!(names("d/a-{008..010}.tar").unwrap(), ["d/a-008.tar", "d/a-009.tar", "d/a-010.tar"]);
        assert_eq!(names("{0..1}/{0..1}.tar").unwrap(), ["0/0.tar", "0/1.tar", "1/0.tar", "1/1.tar"]);
        assert_eq!(names("{5..5}.tar").unwrap(), ["5.tar"]);
        for none in ["a.tar", "a-{x..y}.tar", "a-{3..1}.tar", "a-{1.tar", "a-{}.tar"] {
            assert_eq!(names(none), None, "{none}");
        }
        assert!(expand(Path::new("{0..99999999}.tar")).is_err());
        assert!(expand(Path::new("{0..9999}{0..9999}.tar")).is_err());
    }
}
