//! The share of a job: which rows the machine with a given number captures. Reads nothing.

use crate::{Error, Result};
use sae_core::store::JobShard;
use std::fmt;
use std::ops::Range;
use std::str::FromStr;

/// Shard `number` of a job with `count` shards, counted from 1. It is written `3/8`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    number: u32,
    count: u32,
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}/{}", self.number, self.count)
    }
}

impl FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let numbers =
            text.split_once('/').and_then(|(number, count)| Some((number.parse().ok()?, count.parse().ok()?)));
        match numbers {
            None => Err(format!("invalid shard {text:?}: expected NUMBER/COUNT, such as 3/8")),
            Some((_, 0)) => Err(format!("invalid shard {text:?}: expected at least one shard, such as 1/1")),
            Some((number, count)) if number == 0 || number > count => Err(format!(
                "invalid shard {text:?}: shards are counted from 1, here from 1/{count} to {count}/{count} (job arrays: \
                 --array=1-{count})"
            )),
            Some((number, count)) => Ok(Self { number, count }),
        }
    }
}

impl Shard {
    /// The rows of this shard, out of `rows` in the data set. They are consecutive, so the shards in order are the data
    /// set in order, and the sizes of any two shards differ by at most one row.
    ///
    /// # Errors
    /// There are fewer rows than shards.
    pub fn rows(self, rows: u64) -> Result<Range<u64>> {
        if rows < u64::from(self.count) {
            return Err(Error::TooFewRows { rows, shards: self.count });
        }
        Ok(self.share(rows))
    }

    /// The share of this shard of anything that is counted, in the same way. It is empty for some shards if there is less than one
    /// for each.
    pub fn share(self, total: u64) -> Range<u64> {
        let begin = |number: u32| (u128::from(number) * u128::from(total) / u128::from(self.count)) as u64;
        begin(self.number - 1)..begin(self.number)
    }

    /// Shard `number` of `count`, counted from 1; nothing if there is no such shard.
    pub fn new(number: u32, count: u32) -> Option<Self> {
        (number > 0 && number <= count).then_some(Self { number, count })
    }

    /// Its number, from 1.
    pub fn number(self) -> u32 {
        self.number
    }

    /// How many shards there are.
    pub fn count(self) -> u32 {
        self.count
    }

    /// The description of this shard in the store, if its rows begin at `first_row`.
    pub(crate) fn job_shard(self, first_row: u64) -> JobShard {
        JobShard { shard: self.number, of: self.count, first_row }
    }

    /// Whether this is the last shard.
    pub(crate) fn is_last(self) -> bool {
        self.number == self.count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_cover_every_row_once_and_differ_by_at_most_one_row() {
        for (rows, count) in [(1, 1), (7, 3), (843, 8), (8, 8), (u64::MAX, 5)] {
            let mut next = 0;
            for number in 1..=count {
                let range = Shard { number, count }.rows(rows).unwrap();
                assert_eq!(range.start, next);
                let length = range.end - range.start;
                let smallest = rows / u64::from(count);
                assert!(length == smallest || length == smallest + 1, "{range:?} of {rows}");
                next = range.end;
            }
            assert_eq!(next, rows);
        }
        let error = Shard { number: 1, count: 8 }.rows(7).unwrap_err();
        assert!(matches!(error, Error::TooFewRows { rows: 7, shards: 8 }), "{error}");
        assert_eq!(error.hint(), Some("use at most 7 shards".into()));
    }

    #[test]
    fn an_invalid_shard_is_rejected_with_the_valid_range() {
        assert_eq!("3/8".parse(), Ok(Shard { number: 3, count: 8 }));
        for (text, expected) in
            [("0/8", "from 1"), ("9/8", "8/8"), ("0/0", "one shard"), ("3", "3/8"), ("-1/4", "such as 3/8")]
        {
            let error = text.parse::<Shard>().unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
