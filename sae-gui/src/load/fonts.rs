//! Fonts of the system for scripts that the bundled fonts lack. Knows the names of files that such fonts have, and reads for each
//! script the first one that is installed. Downloads nothing.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// A script with the files of fonts that cover it, the most complete first.
type Script = (&'static str, &'static [&'static str]);

const SCRIPTS: [Script; 8] = [
    (
        "Chinese, Japanese and Korean",
        &[
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
        ],
    ),
    (
        "Devanagari",
        &[
            "NotoSansDevanagari-Regular.ttf",
            "NotoSansDevanagariUI-Regular.ttf",
            "Lohit-Devanagari.ttf",
            "Nirmala.ttf",
            "Nirmala.ttc",
            "mangal.ttf",
            "Kohinoor.ttc",
            "DevanagariMT.ttc",
        ],
    ),
    (
        "Bengali",
        &["NotoSansBengali-Regular.ttf", "NotoSansBengaliUI-Regular.ttf", "Lohit-Bengali.ttf", "KohinoorBangla.ttc"],
    ),
    ("Tamil", &["NotoSansTamil-Regular.ttf", "NotoSansTamilUI-Regular.ttf", "Lohit-Tamil.ttf", "TamilMN.ttc"]),
    (
        "Telugu",
        &["NotoSansTelugu-Regular.ttf", "NotoSansTeluguUI-Regular.ttf", "Lohit-Telugu.ttf", "KohinoorTelugu.ttc"],
    ),
    (
        "Thai",
        &[
            "NotoSansThai-Regular.ttf",
            "NotoSansThaiUI-Regular.ttf",
            "Loma.ttf",
            "Garuda.ttf",
            "Norasi.ttf",
            "LeelawUI.ttf",
            "Thonburi.ttc",
        ],
    ),
    (
        "Arabic",
        &["NotoSansArabic-Regular.ttf", "NotoSansArabicUI-Regular.ttf", "NotoNaskhArabic-Regular.ttf", "GeezaPro.ttc"],
    ),
    (
        "emoji",
        &[
            "NotoEmoji-Regular.ttf",
            "NotoEmoji[wght].ttf",
            "Symbola.ttf",
            "Symbola_hint.ttf",
            "seguiemj.ttf",
            "seguisym.ttf",
            "Apple Symbols.ttf",
        ],
    ),
];

/// Bytes of a font at most.
const LIMIT: u64 = 64 << 20;
/// How deep folders are searched.
const DEPTH: usize = 4;

/// A font file of the system.
pub struct SystemFont {
    /// The script that it is for.
    pub script: &'static str,
    /// The content of the file.
    pub bytes: Vec<u8>,
}

/// For each script the best font that is installed, if there is one.
pub fn system() -> Vec<SystemFont> {
    let home = std::env::var_os("HOME").map(PathBuf::from);
    let own =
        home.iter().flat_map(|home| [home.join(".local/share/fonts"), home.join(".fonts"), home.join("Library/Fonts")]);
    let shared =
        ["/usr/share/fonts", "/usr/local/share/fonts", "/System/Library/Fonts", "/Library/Fonts", "C:\\Windows\\Fonts"];
    find(&own.chain(shared.map(PathBuf::from)).collect::<Vec<_>>())
}

fn find(folders: &[PathBuf]) -> Vec<SystemFont> {
    // By script: the rank of the best file so far, and its path.
    let mut found: BTreeMap<usize, (usize, PathBuf)> = BTreeMap::new();
    for folder in folders {
        search(folder, DEPTH, &mut found);
    }
    let read = |(script, (_, path)): (usize, (usize, PathBuf))| {
        let small = fs::metadata(&path).ok()?.len() <= LIMIT;
        let bytes = if small { fs::read(path).ok()? } else { return None };
        Some(SystemFont { script: SCRIPTS[script].0, bytes })
    };
    found.into_iter().filter_map(read).collect()
}

/// Looks for fonts that are better than those found so far.
fn search(folder: &Path, depth: usize, found: &mut BTreeMap<usize, (usize, PathBuf)>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        let rank = |(script, (_, files)): (usize, &Script)| {
            files.iter().position(|known| name == *known).map(|rank| (script, rank))
        };
        if let Some((script, rank)) = SCRIPTS.iter().enumerate().find_map(rank) {
            if found.get(&script).is_none_or(|(best, _)| rank < *best) {
                found.insert(script, (rank, path));
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
    fn the_best_font_of_each_script_is_found_in_any_folder() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("truetype/noto");
        fs::create_dir_all(&folder).unwrap();
        fs::write(dir.path().join("wqy-zenhei.ttc"), "few").unwrap();
        fs::write(folder.join("NotoSansCJK-Regular.ttc"), "many").unwrap();
        fs::write(folder.join("Loma.ttf"), "thai").unwrap();
        let found = find(&[dir.path().to_path_buf(), dir.path().join("nowhere")]);
        let found: Vec<_> = found.iter().map(|font| (font.script, &font.bytes[..])).collect();
        assert_eq!(found, [("Chinese, Japanese and Korean", &b"many"[..]), ("Thai", b"thai")]);
    }
}
