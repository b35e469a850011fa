//! Hands the commit that is built, if there is one, to `src/version.rs`.

use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-env=SAE_COMMIT={}", commit().unwrap_or_default());
}

/// Abbreviated hash and date of the commit, such as `3b1f0c2 2026-11-28`. Nothing where the sources are not a checkout of
/// their own, as in a published package or in a folder of another repository, and where there is no git.
fn commit() -> Option<String> {
    let top = git(&["rev-parse", "--show-toplevel"])?;
    if Path::new(&top).canonicalize().ok()? != Path::new(env!("CARGO_MANIFEST_DIR")).canonicalize().ok()? {
        return None;
    }
    // Every commit and checkout appends to this log. (Watching a file that does not exist would run this script each time.)
    let log = git(&["rev-parse", "--path-format=absolute", "--git-path", "logs/HEAD"])?;
    if Path::new(&log).exists() {
        println!("cargo::rerun-if-changed={log}");
    }
    git(&["show", "--no-patch", "--abbrev=7", "--format=%h %cs", "HEAD"])
}

/// What a git command prints, without the line's end; nothing if it fails.
fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).current_dir(env!("CARGO_MANIFEST_DIR")).output().ok()?;
    let text = output.status.success().then_some(output.stdout)?;
    Some(String::from_utf8(text).ok()?.trim().to_owned())
}
