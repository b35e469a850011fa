//! Names that are similar to one that does not exist, for error messages.

/// How many names are offered in place of an unknown one.
pub const NEAREST: usize = 5;

/// Of these names, those that are nearest to one that is not among them: at most five, and none that has little in common with it.
pub fn nearest<'a>(name: &str, names: impl Iterator<Item = &'a str>) -> Vec<String> {
    let lower = name.to_lowercase();
    let distance = |other: &str| {
        let other = other.to_lowercase();
        // The name of a repository may be given without its owner, and the other way around.
        let last = other.rsplit('/').next().unwrap_or_default();
        // And only the beginning of a name may be known.
        let start: String = other.chars().take(lower.chars().count()).collect();
        edits(&lower, &other).min(edits(&lower, last)).min(edits(&lower, &start) + 1)
    };
    let mut near: Vec<(usize, &str)> = names.map(|other| (distance(other), other)).collect();
    near.retain(|(distance, _)| *distance * 2 <= lower.chars().count());
    near.sort();
    near.dedup();
    near.into_iter().take(NEAREST).map(|(_, name)| name.to_owned()).collect()
}

/// Insertions, deletions and replacements of characters that turn one text into the other (Levenshtein).
fn edits(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_an_error_has_nearest_ones_and_a_beginning_too() {
        let names = ["resid_post/layer_17", "resid_post/layer_18", "mlp_out/layer_17"];
        assert_eq!(nearest("resid_pots/layer_17", names.into_iter())[0], "resid_post/layer_17");
        assert_eq!(nearest("mlp_in", names.into_iter()), ["mlp_out/layer_17"], "a beginning");
        for (a, b, expected) in [("", "abc", 3), ("kitten", "sitting", 3), ("abc", "abc", 0), ("ab", "ba", 2)] {
            assert_eq!((edits(a, b), edits(b, a)), (expected, expected), "{a} {b}");
        }
    }
}
