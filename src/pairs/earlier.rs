//! Pairs that people have compared before: lines of earlier choices.

use super::PairsError;
use super::trees::Trees;
use crate::Result;
use filters::write::SAMPLE_ID;
use sae_core::store::sample::Sample;
use serde_json::Value;
use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

/// The longest line that is read. Its texts are answers of a model.
const LONGEST_LINE: u64 = 64 << 20;

/// The pairs of all lines, by the numbers of their answers, each pair once.
///
/// # Errors
/// A file that cannot be read; a line without the ids of two answers of the run.
pub(super) fn read(files: &[PathBuf], trees: &Trees, samples: &[Sample]) -> Result<Vec<[usize; 2]>> {
    let mut numbers = HashMap::new();
    for (number, answer) in trees.answers.iter().enumerate() {
        // Equal answers have equal features: the first one stands for all.
        numbers.entry(samples[*answer as usize].id.as_str()).or_insert(number);
    }
    let (mut pairs, mut seen) = (Vec::new(), BTreeSet::new());
    for path in files {
        let mut reader = BufReader::new(File::open(path).map_err(sae_core::Error::io("open", path))?);
        for line in 1.. {
            let Some(text) = next_line(&mut reader, path, line)? else { break };
            if !text.trim().is_empty() {
                let [a, b] = pair(&text, &numbers).map_err(|cause| error(path, line, cause))?;
                if seen.insert([a.min(b), a.max(b)]) {
                    pairs.push([a, b]);
                }
            }
        }
    }
    Ok(pairs)
}

fn error(path: &Path, line: usize, cause: String) -> PairsError {
    PairsError::Earlier { path: path.into(), line, cause }
}

fn next_line(reader: &mut impl BufRead, path: &Path, line: usize) -> Result<Option<String>> {
    let mut bytes = Vec::new();
    reader.take(LONGEST_LINE + 1).read_until(b'\n', &mut bytes).map_err(sae_core::Error::io("read", path))?;
    if bytes.len() as u64 > LONGEST_LINE {
        return Err(error(path, line, format!("a line of more than {LONGEST_LINE} bytes")).into());
    }
    let text = String::from_utf8(bytes).map_err(|_| error(path, line, "bytes that are not UTF-8".into()))?;
    Ok((!text.is_empty()).then_some(text))
}

fn pair(text: &str, numbers: &HashMap<&str, usize>) -> Result<[usize; 2], String> {
    let row: Value = serde_json::from_str(text).map_err(|cause| cause.to_string())?;
    let answer = |n: u32| {
        let name = format!("{SAMPLE_ID}_{n}");
        let id = row.get(&name).and_then(Value::as_str).ok_or_else(|| format!("no text {name:?}"))?;
        numbers.get(id).copied().ok_or_else(|| format!("{name} is {id:?}, which is no answer of the run"))
    };
    let [a, b] = [answer(1)?, answer(2)?];
    if a == b { Err(format!("both answers are {:?}", row[format!("{SAMPLE_ID}_1")])) } else { Ok([a, b]) }
}
