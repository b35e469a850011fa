//! Fonts of the system for what the bundled ones lack: Chinese, Japanese and Korean signs. Knows names of files that such
//! fonts have, and reads the first that is there.

use std::fs;
use std::path::{Path, PathBuf};

/// Files of fonts with all three, the most complete first.
const NAMES: [&str; 12] = [
    "NotoSansCJK-Regular.ttc",
    "NotoSansCJK-VF.otf.ttc",
    "NotoSansCJKsc-Regular.otf",
    "NotoSansSC-Regular.otf",
    "SourceHanSans-Regular.ttc",
    "SourceHanSansSC-Regular.otf",
    "DroidSansFallbackFull.ttf",
    "wqy-microhei.ttc",
    "wqy-zenhei.ttc",
    "msyh.ttc",
    "PingFang.ttc",
    "Arial Unicode.ttf",
];

/// Bytes of a font at most.
const LIMIT: u64 = 64 << 20;
/// Folders within folders that are looked into.
const DEPTH: usize = 4;

/// The first such font of the system, if it has any.
pub fn system() -> Option<Vec<u8>> {
    let home = std::env::var_os("HOME").map(PathBuf::from);
    let own =
        home.iter().flat_map(|home| [home.join(".local/share/fonts"), home.join(".fonts"), home.join("Library/Fonts")]);
    let shared =
        ["/usr/share/fonts", "/usr/local/share/fonts", "/System/Library/Fonts", "/Library/Fonts", "C:\\Windows\\Fonts"];
    find(&own.chain(shared.map(PathBuf::from)).collect::<Vec<_>>())
}

fn find(folders: &[PathBuf]) -> Option<Vec<u8>> {
    let mut found: Option<(usize, PathBuf)> = None;
    for folder in folders {
        search(folder, DEPTH, &mut found);
    }
    let (_, path) = found?;
    let small = fs::metadata(&path).ok()?.len() <= LIMIT;
    if small { fs::read(path).ok() } else { None }
}

/// Looks for a font that is better than the one found.
fn search(folder: &Path, depth: usize, found: &mut Option<(usize, PathBuf)>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let name = entry.file_name();
        if let Some(rank) = NAMES.iter().position(|known| name == *known) {
            if found.as_ref().is_none_or(|(best, _)| rank < *best) {
                *found = Some((rank, path));
            }
        } else if depth > 0 && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            search(&path, depth - 1, found);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_complete_font_is_found_wherever_it_lies() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("truetype/noto");
        fs::create_dir_all(&folder).unwrap();
        fs::write(dir.path().join("wqy-zenhei.ttc"), "few").unwrap();
        fs::write(folder.join("NotoSansCJK-Regular.ttc"), "many").unwrap();
        assert_eq!(find(&[dir.path().to_path_buf()]).as_deref(), Some(&b"many"[..]));
        assert_eq!(find(&[dir.path().join("nowhere")]), None);
    }
}
