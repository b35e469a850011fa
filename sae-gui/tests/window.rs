//! The real program in a real window, drawn under Xvfb.

use crate::fixture;
use sae_gui::state::Link;
use sae_gui::state::location::Location;
use std::collections::HashSet;
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// Whether there is a display to be had; says so where there is none.
pub fn display() -> bool {
    let found = Command::new("xvfb-run").arg("--help").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok();
    if !found {
        eprintln!("skipped: xvfb-run is not installed");
    }
    found
}

/// Exit code of `xvfb-run` if it could not remove its temporary folder, whatever the program returned.
const CLEANUP_FAILED: i32 = 5;
/// How often a picture is tried.
const ATTEMPTS: usize = 5;

/// Runs the program until it has taken a picture.
pub fn shoot(link: &str, picture: &Path, more: &[&str]) -> Output {
    let run = || {
        Command::new("xvfb-run")
            .args(["-a", "-s", "-screen 0 1600x1000x24", env!("CARGO_BIN_EXE_sae-gui"), link, "--size", "1200x800"])
            .arg("--screenshot")
            .arg(picture)
            .args(more)
            .env("LIBGL_ALWAYS_SOFTWARE", "1")
            .env_remove("WAYLAND_DISPLAY")
            .output()
            .unwrap()
    };
    let mut outputs = std::iter::repeat_with(run).take(ATTEMPTS);
    let first = outputs.next().unwrap();
    let hidden = |output: &Output| output.status.code() == Some(CLEANUP_FAILED);
    if hidden(&first) { outputs.find(|output| !hidden(output)).unwrap_or(first) } else { first }
}

/// Width, height and number of colors.
fn seen(picture: &Path) -> (u32, u32, usize) {
    let picture = image::open(picture).unwrap().into_rgb8();
    (picture.width(), picture.height(), picture.pixels().map(|pixel| pixel.0).collect::<HashSet<_>>().len())
}

#[test]
fn the_window_opens_a_link_and_takes_its_picture() {
    if !display() {
        return;
    }
    let (dir, run) = fixture::run(64);
    let picture = dir.path().join("window.png");
    let link =
        Link { run: run.root().into(), sae: None, location: Some(Location::Feature(6)), ..Link::default() }.to_string();
    let output = shoot(&link, &picture, &["--theme", "dark"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let (width, height, colors) = seen(&picture);
    assert_eq!((width, height), (1200, 800));
    assert!(colors > 200, "pictures and text have more than {colors} colors");
}

#[test]
fn a_notice_does_not_make_the_picture_fail() {
    if !display() {
        return;
    }
    let (dir, run) = fixture::run(16);
    let picture = dir.path().join("window.png");
    let part = run.sae_dir(fixture::SAE);
    let output = shoot(&part.to_string_lossy(), &picture, &[]);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && told.contains("note: ") && told.contains("is part of the run"), "{told}");
    assert!(seen(&picture).2 > 200);
}

#[test]
fn a_folder_that_is_no_run_is_shown_and_told() {
    if !display() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let picture = dir.path().join("window.png");
    let output = shoot(&dir.path().to_string_lossy(), &picture, &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("not a run folder"));
    assert!(seen(&picture).2 > 10);
}
