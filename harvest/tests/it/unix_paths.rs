//! Files that only Unix has: names that are not UTF-8, links, and folders without permission.

use crate::files::{archive, folder, image, pair, read, texts};
use harvest::data::{Mapping, Source};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

fn latin(dir: &Path, name: &[u8]) -> PathBuf {
    dir.join(OsStr::from_bytes(name))
}

#[test]
fn names_that_are_not_utf8_are_opened_unchanged() {
    let dir = tempfile::tempdir().unwrap();
    let folder = latin(dir.path(), b"dossi\xe9");
    fs::create_dir(&folder).unwrap();
    for (n, name) in [b"caf\xe9", b"caf\xe8"].iter().enumerate() {
        fs::write(latin(&folder, &[&name[..], b".png"].concat()), image(n)).unwrap();
        fs::write(latin(&folder, &[&name[..], b".txt"].concat()), format!("caption {n}")).unwrap();
    }
    let source = Source::open(dir.path()).unwrap();
    assert_eq!(texts(dir.path()), [pair("caption 1", 1), pair("caption 0", 1)]);
    let rows: Vec<_> = source.rows(&Mapping::new()).unwrap().map(|row| row.unwrap()).collect();
    let names: Vec<_> = rows.iter().map(|row| (row.source.as_str(), row.key.as_str())).collect();
    assert_eq!(names, [(r"dossi\xE9/caf\xE8.png:0", r"caf\xE8"), (r"dossi\xE9/caf\xE9.png:0", r"caf\xE9")]);
    // The recorded paths lead back to the files.
    for row in &rows {
        let (file, _) = row.source.rsplit_once(':').unwrap();
        let image = &row.record.as_ref().unwrap().images[0];
        assert_eq!(fs::read(sae_core::path_text::resolve(dir.path(), file)).unwrap(), image.read().unwrap().as_ref());
        assert_eq!(
            fs::read(sae_core::path_text::resolve(&folder, &image.path)).unwrap(),
            image.read().unwrap().as_ref()
        );
    }
}

#[test]
fn tables_and_archives_whose_names_are_not_utf8_are_read() {
    let png = image(0);
    for (name, content) in [
        (&b"donn\xe9es.jsonl"[..], b"{\"text\": \"one\"}".to_vec()),
        (b"donn\xe9es.csv", b"text\none\n".to_vec()),
        (b"donn\xe9es.tar", archive(&[(b"caf\xe9.txt", b"one")])),
    ] {
        let dir = tempfile::tempdir().unwrap();
        fs::write(latin(dir.path(), name), content).unwrap();
        assert_eq!(texts(dir.path()), [pair("one", 0)]);
    }
    // Two names that a lossy conversion would merge.
    let members: [(&[u8], &[u8]); 4] =
        [(b"caf\xe9.png", &png), (b"caf\xe9.txt", b"one"), (b"caf\xe8.png", &png), (b"caf\xe8.txt", b"two")];
    let dir = folder(&[("a.tar", &archive(&members))]);
    assert_eq!(texts(dir.path()), [pair("one", 1), pair("two", 1)]);
}

#[test]
fn links_are_followed_once() {
    let dir = folder(&[("a/0.png", &image(0)), ("a/0.txt", b"zero"), ("b/1.png", &image(1)), ("b/1.txt", b"one")]);
    symlink(dir.path(), dir.path().join("a/loop")).unwrap();
    symlink(dir.path().join("a"), dir.path().join("c")).unwrap();
    symlink("nowhere.png", dir.path().join("b/2.png")).unwrap();
    fs::write(dir.path().join("b/2.txt"), "two").unwrap();
    let (rows, _) = read(dir.path());
    assert_eq!(rows.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, true, false], "{rows:?}");
    assert!(rows[2].as_ref().unwrap_err().contains("2.png"));
}

#[test]
fn a_folder_that_cannot_be_listed_is_named() {
    let dir = folder(&[("a/0.png", &image(0)), ("a/0.txt", b"zero"), ("b/1.txt", b"one")]);
    let closed = dir.path().join("b");
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o000)).unwrap();
    // An administrator may read everything.
    let listed = fs::read_dir(&closed).is_ok();
    let found = Source::open(dir.path());
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o755)).unwrap();
    assert!(listed || found.unwrap_err().to_string().contains("/b"));
}
