//! A job's share of the data: which rows the machine with a given number captures. Reads nothing.

use crate::{Error, Result};
use sae_core::store::JobShard;
use std::ops::Range;
use std::str::FromStr;

/// Shard `number` of `of`, counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    number: u32,
    of: u32,
}

impl FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let numbers = text.split_once('/').and_then(|(number, of)| Some((number.parse().ok()?, of.parse().ok()?)));
        match numbers {
            None => Err(format!("invalid shard {text:?}: expected N/OF, such as 3/8")),
            Some((_, 0)) => Err(format!("{text}: expected at least one shard")),
            Some((number, of)) if number == 0 || number > of => {
                Err(format!("{text}: shards are counted from 1, here 1/{of} to {of}/{of} (job arrays: --array=1-{of})"))
            }
            Some((number, of)) => Ok(Self { number, of }),
        }
    }
}

impl Shard {
    /// Its rows of a data set of `rows`: consecutive ones, so that the shards in their order are the data in its order.
    ///
    /// # Errors
    /// There are fewer rows than shards.
    pub fn rows(self, rows: u64) -> Result<Range<u64>> {
        if rows < u64::from(self.of) {
            let cause = format!("{rows} rows of data are too few for {} shards\nhint: at most {rows}", self.of);
            return Err(Error::Plan(cause));
        }
        let begin = |number: u32| (u128::from(number) * u128::from(rows) / u128::from(self.of)) as u64;
        Ok(begin(self.number - 1)..begin(self.number))
    }

    /// How the store calls it, if it begins at `first_row`.
    pub(crate) fn slice(self, first_row: u64) -> JobShard {
        JobShard { shard: self.number, of: self.of, first_row }
    }

    /// Whether no other comes behind it.
    pub(crate) fn is_last(self) -> bool {
        self.number == self.of
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_cover_every_row_once_and_are_of_like_size() {
        for (rows, of) in [(1, 1), (7, 3), (843, 8), (8, 8), (u64::MAX, 5)] {
            let mut next = 0;
            for number in 1..=of {
                let range = Shard { number, of }.rows(rows).unwrap();
                assert_eq!(range.start, next);
                let length = range.end - range.start;
                assert!(length == rows / u64::from(of) || length == rows / u64::from(of) + 1, "{range:?} of {rows}");
                next = range.end;
            }
            assert_eq!(next, rows);
        }
        assert!(Shard { number: 1, of: 8 }.rows(7).unwrap_err().to_string().contains("at most 7"));
    }

    #[test]
    fn a_wrong_shard_is_told_how_they_are_counted() {
        assert_eq!("3/8".parse(), Ok(Shard { number: 3, of: 8 }));
        for (text, said) in [("0/8", "from 1"), ("9/8", "8/8"), ("0/0", "one"), ("3", "3/8"), ("-1/4", "invalid shard")]
        {
            let error = text.parse::<Shard>().unwrap_err();
            assert!(error.contains(said), "{text}: {error}");
        }
    }
}
