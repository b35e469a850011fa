//! The identity of a sample's content: a hash that does not depend on the format of a file. Reads nothing.

use crate::data::{Action, AnswerPair, Record, Turn};
use sha2::{Digest, Sha256};

/// The identity of a row's content, independent of the file format and of the answers that are used. It is the
/// hexadecimal SHA-256 over the text of every turn, then the chosen and the rejected answer of a preference row, then
/// every image file, the frames per second of a video (f64, little-endian), if the row states them, and the action (its ids as
/// u32 or its numbers as f32, little-endian), if there is one, each as its length (u64, little-endian) followed by its bytes.
pub(crate) fn sample_id(record: &Record, files: &[impl AsRef<[u8]>]) -> String {
    hash(&record.turns, record.pair.as_ref(), record, files)
}

/// The identity of the path to a piece: that of a row whose conversation is the path, and whose images those of the path.
pub(crate) fn path_id(turns: &[Turn], record: &Record, files: impl IntoIterator<Item = impl AsRef<[u8]>>) -> String {
    hash(turns, None, record, files)
}

fn hash(
    turns: &[Turn],
    pair: Option<&AnswerPair>,
    record: &Record,
    files: impl IntoIterator<Item = impl AsRef<[u8]>>,
) -> String {
    let mut hash = Sha256::new();
    let mut add = |bytes: &[u8]| {
        hash.update((bytes.len() as u64).to_le_bytes());
        hash.update(bytes);
    };
    turns.iter().for_each(|turn| add(turn.text().as_bytes()));
    if let Some(pair) = pair {
        add(pair.chosen.as_bytes());
        add(pair.rejected.as_bytes());
    }
    files.into_iter().for_each(|file| add(file.as_ref()));
    if let Some(fps) = record.video.and_then(|video| video.fps) {
        add(&fps.to_le_bytes());
    }
    match &record.action {
        Some(Action::Ids(ids)) => add(&ids.iter().flat_map(|id| id.to_le_bytes()).collect::<Vec<_>>()),
        Some(Action::Values(values)) => add(&values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<_>>()),
        None => {}
    }
    hex(hash.finalize())
}

/// Bytes as lowercase hexadecimal digits.
pub(crate) fn hex(bytes: impl AsRef<[u8]>) -> String {
    bytes.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    #[test]
    fn the_id_is_the_documented_hash() {
        let documented = |parts: &[&[u8]]| {
            let mut bytes = Vec::new();
            for part in parts {
                bytes.extend((part.len() as u64).to_le_bytes());
                bytes.extend(*part);
            }
            hex(Sha256::digest(&bytes))
        };
        let row = Record {
            turns: vec![Turn::from_text(sae_core::store::sample::Role::User, "q")],
            pair: Some(AnswerPair { chosen: "yes".into(), rejected: "no".into() }),
            unanswered: false,
            about_answers: Default::default(),
            unattributed: false,
            tree: Default::default(),
            verbatim: None,
            action: None,
            images: Vec::new(),
            video: None,
            meta: Value::Null,
        };
        assert_eq!(sample_id(&row, &[b"image"]), documented(&[b"q", b"yes", b"no", b"image"]));
        // The path to a piece has no other answers than its own.
        assert_eq!(path_id(&row.turns, &row, [b"image"]), documented(&[b"q", b"image"]));
    }
}
