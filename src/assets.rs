//! The bundled files: where the model and the data of the demo are, and the font of plots and of the app.

use std::path::{Path, PathBuf};

/// DejaVu Sans, as `assets/README.md` describes it.
pub const FONT: &[u8] = include_bytes!("../assets/fonts/DejaVuSans.ttf");

/// The folder of the bundled model and data: `assets` in the current folder, as in the repository; otherwise `share/sae-workbench` beside the
/// folder of the program, where the Python wheel installs them; and `assets` if neither is there.
pub fn folder() -> PathBuf {
    let program = std::env::current_exe().and_then(|program| program.canonicalize()).ok();
    choose(Path::new("assets"), program.as_deref())
}

fn choose(here: &Path, program: Option<&Path>) -> PathBuf {
    let installed = program.and_then(|program| Some(program.parent()?.parent()?.join("share/sae-workbench")));
    let is_whole = |folder: &Path| folder.join("demo-mllm").is_dir();
    match installed {
        Some(installed) if !is_whole(here) && is_whole(&installed) => installed,
        _ => here.to_path_buf(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_repository_comes_before_what_is_installed() {
        let dir = tempfile::tempdir().expect("a folder");
        let [here, program, installed] =
            ["repository/assets", "env/bin/sae", "env/share/sae-workbench"].map(|path| dir.path().join(path));
        assert_eq!(choose(&here, Some(&program)), here);
        std::fs::create_dir_all(installed.join("demo-mllm")).expect("a folder");
        assert_eq!(choose(&here, Some(&program)), installed);
        assert_eq!(choose(&here, None), here);
        std::fs::create_dir_all(here.join("demo-mllm")).expect("a folder");
        assert_eq!(choose(&here, Some(&program)), here);
    }
}
