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

/// Waits until there is a file.
#[cfg(unix)]
fn wait_for(file: &Path) {
    let begun = std::time::Instant::now();
    while !file.is_file() {
        assert!(begun.elapsed().as_secs() < 120, "there is never a {}", file.display());
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

#[cfg(unix)]
#[test]
fn sigterm_closes_an_idle_window_in_order() {
    if !display() {
        return;
    }
    let (dir, run) = fixture::run(16);
    let [number, memory] = ["pid", "sae-workbench"].map(|name| dir.path().join(name));
    let mut window = Command::new("xvfb-run")
        .args([
            "-a",
            "-s",
            "-screen 0 1600x1000x24",
            "sh",
            "-c",
            "echo $$ > \"$0.new\" && mv \"$0.new\" \"$0\" && exec \"$@\"",
        ])
        .args([number.as_os_str(), env!("CARGO_BIN_EXE_sae-gui").as_ref(), run.root().as_os_str()])
        .env("LIBGL_ALWAYS_SOFTWARE", "1")
        .env("XDG_STATE_HOME", dir.path())
        .env_remove("WAYLAND_DISPLAY")
        .spawn()
        .unwrap();
    // The run is remembered as soon as it is open.
    wait_for(&memory.join("recents.json"));
    let number = std::fs::read_to_string(number).unwrap();
    assert!(Command::new("kill").args(["-TERM", number.trim()]).status().unwrap().success());
    // These are written when the window closes by itself.
    wait_for(&memory.join("settings.json"));
    let status = window.wait().unwrap();
    assert!(status.success() || status.code() == Some(CLEANUP_FAILED), "{status}");
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
