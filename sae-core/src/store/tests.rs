//! The store: round trips, resumption byte for byte, and inconsistent files.

use super::*;
use crate::Error;
use crate::error::{Hint, Setting};
use crate::fixture::{SAMPLES, part, sample, spec, tokens};
use crate::store::run::Run;
use crate::store::sample::Piece;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use tempfile::TempDir;

const D: usize = 6;

fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap().map(|e| e.unwrap()) {
        let name = entry.file_name().into_string().unwrap();
        if entry.file_type().unwrap().is_dir() {
            all.extend(files(&entry.path()).into_iter().map(|(k, v)| (format!("{name}/{k}"), v)));
        } else if name != "run.json" && name != "manifest.json" {
            // Those two contain the time.
            all.insert(name, fs::read(entry.path()).unwrap());
        }
    }
    all
}

/// Writes the store with an interruption before each of the parts in `deaths`, which leaves a half-written file.
fn write(deaths: &[usize]) -> (TempDir, Run) {
    let dir = tempfile::tempdir().unwrap();
    let run = Run::create(&dir.path().join("run")).unwrap();
    let parts = [0..4, 4..9, 9..SAMPLES];
    for death in deaths.iter().copied().chain([usize::MAX]) {
        let mut writer = StoreWriter::open(&run, spec(&[1, 2], D)).unwrap();
        let done = writer.progress().source_rows as usize;
        for (n, range) in parts.iter().enumerate().filter(|(_, r)| r.start >= done) {
            if n == death {
                fs::create_dir_all(run.activations("layers.1")).unwrap();
                fs::write(run.activations("layers.1").join(format!("shard-{n:05}.safetensors")), b"half").unwrap();
                break;
            }
            writer.write_part(&part(range.clone(), D, 2)).unwrap();
        }
        if death == usize::MAX {
            writer.finish().unwrap();
        }
    }
    (dir, run)
}

#[test]
fn a_store_reads_back_what_was_written() {
    let (_dir, run) = write(&[]);
    assert_eq!(load_samples(&run).unwrap(), (0..SAMPLES).map(sample).collect::<Vec<_>>());
    let store = Store::open(&run, "layers.2").unwrap();
    let expected = part(4..9, D, 2);
    let shard = store.shard(1).unwrap();
    let mut rows = Vec::new();
    shard.read(0..shard.rows(), &mut rows);
    assert_eq!(rows, expected.activations[1]);
    let columns = store.tokens(1).unwrap();
    let first: Vec<_> = (0..columns.rows()).filter(|r| columns.sample[*r] == 4).collect();
    assert_eq!(first.len(), tokens(4).len());
    for (row, token) in first.into_iter().zip(tokens(4)) {
        let found = (columns.position[row], columns.modality[row], columns.special[row]);
        assert_eq!(found, (token.position, token.modality, token.special));
    }
    assert!(!run.sample_parts().exists());
    assert_eq!(store.longest_sample().unwrap(), (0..SAMPLES).map(|n| tokens(n).len()).max().unwrap());
}

#[test]
fn an_interrupted_run_that_continues_writes_the_same_bytes() {
    let (_dir, run) = write(&[]);
    let expected = files(run.root());
    for deaths in [vec![0], vec![1], vec![2, 2], vec![0, 1, 2]] {
        let (_dir, run) = write(&deaths);
        assert!(files(run.root()) == expected, "deaths before parts {deaths:?}");
    }
}

#[test]
fn another_harvest_into_the_same_run_is_rejected() {
    let (_dir, run) = write(&[]);
    let error = StoreWriter::open(&run, spec(&[1], D)).err().unwrap();
    assert!(error.to_string().contains("holds another harvest"), "{error}");
    assert_eq!(error.hint(), Some(Hint::Change(Setting::Run)));
}

#[test]
fn changed_bytes_wrong_shapes_and_missing_hooks_are_named() {
    let (_dir, run) = write(&[]);
    let shard = run.activations("layers.2").join("shard-00001.safetensors");
    let mut bytes = fs::read(&shard).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(&shard, &bytes).unwrap();
    let store = Store::open(&run, "layers.2").unwrap();
    assert!(store.shard(0).is_ok());
    let error = store.shard(1).err().unwrap().to_string();
    assert!(error.contains("BLAKE3") && error.contains("shard-00001"), "{error}");
    bytes.truncate(last);
    fs::write(&shard, &bytes).unwrap();
    assert!(store.shard(1).err().unwrap().to_string().contains("not a whole safetensors file"));
    let missing = Store::open(&run, "layers.7").err().unwrap().to_string();
    assert!(missing.contains("layers.1, layers.2"), "{missing}");
    fs::copy(run.tokens(0), run.tokens(2)).unwrap();
    assert!(store.tokens(2).err().unwrap().to_string().contains("for a shard of"));
}

#[test]
fn no_infinity_is_stored_and_the_error_names_the_value_its_position_and_a_remedy() {
    let rejection = |dtype: StoreDtype, value: f32| {
        let dir = tempfile::tempdir().unwrap();
        let run = Run::create(&dir.path().join("run")).unwrap();
        let mut writer = StoreWriter::open(&run, StoreSpec { dtype, ..spec(&[1, 3], D) }).unwrap();
        let mut part = part(4..6, D, 2);
        // The second token of the second sample, its third dimension.
        part.activations[1][(tokens(4).len() + 1) * D + 2] = value;
        let error = writer.write_part(&part).err();
        let stored = run.activations("layers.3").join("shard-00000.safetensors").exists();
        assert_eq!(error.is_none(), stored, "{dtype:?} {value}");
        error
    };
    let hint = |dtype: &str| Some(Hint::set(Setting::StoreDtype, dtype));
    let error = rejection(StoreDtype::F16, -70_000.0).unwrap();
    let said = error.to_string();
    for part in ["layers.3", "-70000", "65504", "f16", "key-5", "position 1", "dimension 2"] {
        assert!(said.contains(part), "{said} lacks {part}");
    }
    assert_eq!(error.hint(), hint("bf16"));
    assert!(rejection(StoreDtype::F16, 65_504.0).is_none() && rejection(StoreDtype::Bf16, 70_000.0).is_none());
    assert!(rejection(StoreDtype::F32, 3e38).is_none());
    assert_eq!(rejection(StoreDtype::Bf16, f32::MAX).unwrap().hint(), hint("f32"));
    for dtype in [StoreDtype::F16, StoreDtype::Bf16, StoreDtype::F32] {
        let error = rejection(dtype, f32::NEG_INFINITY).unwrap();
        assert!(
            error.to_string().contains("layers.3 is -inf, not a finite number") && error.hint().is_none(),
            "{error}"
        );
    }
}

#[test]
fn activations_that_do_not_fit_or_are_not_finite_are_never_stored() {
    let dir = tempfile::tempdir().unwrap();
    let run = Run::create(&dir.path().join("run")).unwrap();
    let mut writer = StoreWriter::open(&run, spec(&[1], D)).unwrap();
    let mut bad = part(0..2, D, 1);
    bad.activations[0][3] = f32::NAN;
    assert!(writer.write_part(&bad).unwrap_err().to_string().contains("is NaN, not a finite number"));
    bad.activations[0].pop();
    assert!(writer.write_part(&bad).is_err());
    let empty = Part { source_rows: 1, skipped: vec![Skipped::new(0, "k", "no text")], ..Part::default() };
    assert_eq!(writer.progress(), WriteProgress::default());
    writer.write_part(&Part { activations: vec![vec![]], ..empty }).unwrap();
    assert!(writer.finish().unwrap_err().to_string().contains("no text"));
}

/// A part of pieces with these parents; those of `empty` have no tokens.
fn pieces(parents: &[Option<u32>], empty: &[usize]) -> Part {
    let mut part = part(0..parents.len(), D, 1);
    for (n, ((sample, tokens), parent)) in part.samples.iter_mut().zip(parents).enumerate() {
        sample.piece = Some(Piece { parent: *parent, branch: format!("branch-{n}"), is_critique: false });
        if empty.contains(&n) {
            tokens.clear();
        }
    }
    let rows: usize = part.samples.iter().map(|(_, tokens)| tokens.len()).sum();
    part.activations = vec![vec![0.5; rows * D]];
    part.source_rows = parents.iter().filter(|parent| parent.is_none()).count() as u64;
    part
}

fn pieces_spec() -> StoreSpec {
    StoreSpec { pieces: true, ..spec(&[1], D) }
}

#[test]
fn pieces_that_no_pass_can_read_are_rejected_by_name_before_anything_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let run = Run::create(&dir.path().join("run")).unwrap();
    let mut writer = StoreWriter::open(&run, pieces_spec()).unwrap();
    let first = [None, Some(0), Some(0)];
    writer.write_part(&pieces(&first, &[])).unwrap();
    // Parents are counted from the first sample of the part.
    for (parents, empty, at) in [
        (vec![None, Some(1)], vec![], 1),
        (vec![None, None, Some(0)], vec![], 2),
        (vec![None, Some(0), Some(0), Some(1)], vec![], 3),
        (vec![None, Some(0), Some(1)], vec![1], 1),
        (vec![None, Some(0)], vec![1], 1),
    ] {
        let error = writer.write_part(&pieces(&parents, &empty)).unwrap_err();
        assert!(matches!(&error, Error::Piece { cause, .. } if cause.sample() == at), "{error:?}");
        assert!(error.to_string().ends_with(&format!(": branch-{at} of key-{at}")), "{error}");
        assert!(!run.tokens(1).exists() && !run.activations("layers.1").join("shard-00001.safetensors").exists());
    }
    writer.write_part(&pieces(&first, &[])).unwrap();
    writer.finish().unwrap();
    let store = Store::open_with_pieces(&run, "layers.1").unwrap();
    assert_eq!(store.paths().parents(), [None, Some(0), Some(0), None, Some(3), Some(3)]);
}

#[test]
fn the_layout_of_a_run_is_that_of_its_store() {
    let dir = tempfile::tempdir().unwrap();
    let run = Run::create(&dir.path().join("run")).unwrap();
    let version = || run.record().unwrap().schema_version;
    // A harvest of pieces that was interrupted before its first part; then one of whole samples.
    drop(StoreWriter::open(&run, pieces_spec()).unwrap());
    assert_eq!(version(), 3);
    let mut writer = StoreWriter::open(&run, spec(&[1], D)).unwrap();
    assert_eq!(version(), 2);
    writer.write_part(&part(0..3, D, 1)).unwrap();
    let error = StoreWriter::open(&run, pieces_spec()).err().unwrap().to_string();
    assert!(error.contains("another process"), "{error}");
    writer.finish().unwrap();
    let error = StoreWriter::open(&run, pieces_spec()).err().unwrap().to_string();
    assert!(error.contains("another harvest"), "{error}");
    assert!(Store::open(&run, "layers.1").is_ok());
    // A manifest that contradicts run.json.
    let path = run.activations("layers.1").join("manifest.json");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("\"schema_version\": 2", "\"schema_version\": 3")).unwrap();
    let error = Store::open_with_pieces(&run, "layers.1").err().unwrap().to_string();
    assert!(error.contains("has layout 3, but run.json says that it has layout 2"), "{error}");
}

#[test]
fn a_part_without_samples_has_the_columns_of_pieces() {
    let dir = tempfile::tempdir().unwrap();
    let run = Run::create(&dir.path().join("run")).unwrap();
    let mut writer = StoreWriter::open(&run, pieces_spec()).unwrap();
    let nothing = || Part {
        activations: vec![vec![]],
        source_rows: 1,
        skipped: vec![Skipped::new(0, "k", "no text")],
        ..Part::default()
    };
    writer.write_part(&nothing()).unwrap();
    writer.write_part(&pieces(&[None, Some(0)], &[])).unwrap();
    writer.write_part(&nothing()).unwrap();
    writer.finish().unwrap();
    let store = Store::open_with_pieces(&run, "layers.1").unwrap();
    assert_eq!(store.paths().parents(), [None, Some(0)]);
    assert!(matches!(Store::open(&run, "layers.1"), Err(Error::Pieces { .. })));
    let branches: Vec<String> = load_samples(&run).unwrap().into_iter().map(|s| s.piece.unwrap().branch).collect();
    assert_eq!(branches, ["branch-0", "branch-1"]);
    // A shard of pieces without samples is one of pieces as well.
    let shard = Run::create(&dir.path().join("shard")).unwrap();
    let slice = Some(JobShard { shard: 1, of: 2, first_row: 0 });
    let mut writer = StoreWriter::open(&shard, StoreSpec { slice, ..pieces_spec() }).unwrap();
    writer.write_part(&nothing()).unwrap();
    writer.finish().unwrap();
    let columns = crate::table::schema(&shard.samples()).unwrap();
    assert!(columns.column_with_name("parent").is_some());
    assert_eq!(shard.record().unwrap().schema_version, 3);
}
