//! Identifies files in the place of an image that cannot be decoded, by their first bytes: other image formats, and
//! what a failed download leaves.

/// The first bytes of files, and what the files are.
const BEGINNINGS: [(&[u8], &str); 14] = [
    (b"II*\0", "a TIFF file"),
    (b"MM\0*", "a TIFF file"),
    (b"\0\0\0\x0cjP  ", "a JPEG 2000 file"),
    (b"\xff\x4f\xff\x51", "a JPEG 2000 file"),
    (b"\0\0\0\x0cJXL ", "a JPEG XL file"),
    (b"\xff\x0a", "a JPEG XL file"),
    (b"8BPS", "a Photoshop file"),
    (b"%PDF", "a PDF file"),
    (b"PK\x03\x04", "a ZIP archive"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"<svg", "an SVG drawing"),
    (b"<!doctype html", "an HTML page, perhaps of a failed download"),
    (b"<html", "an HTML page, perhaps of a failed download"),
    (b"version https://git-lfs.github.com/spec/", "a Git LFS pointer (`git lfs pull` downloads the image)"),
];

/// Number of bytes at the beginning of a file that are examined.
const EXAMINED: usize = 512;

/// What the file is, if this is known.
pub(super) fn name(file: &[u8]) -> Option<&'static str> {
    if file.is_empty() {
        return Some("an empty file");
    }
    let start = &file[..file.len().min(EXAMINED)];
    if start.get(4..8) == Some(b"ftyp") {
        return Some(if contains(start, b"avif") { "an AVIF file" } else { "a HEIC file or a video" });
    }
    let text = start.trim_ascii_start().to_ascii_lowercase();
    let found = BEGINNINGS.iter().find(|(beginning, _)| start.starts_with(beginning) || text.starts_with(beginning));
    let xml = || (text.starts_with(b"<?xml") && contains(&text, b"<svg")).then_some("an SVG drawing");
    found.map(|(_, name)| *name).or_else(xml)
}

fn contains(bytes: &[u8], wanted: &[u8]) -> bool {
    bytes.windows(wanted.len()).any(|window| window == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_in_the_place_of_an_image_are_identified() {
        for (file, expected) in [
            (&b""[..], "empty"),
            (b"\0\0\0\x1cftypmif1\0\0\0\0mif1avifmiaf", "AVIF"),
            (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIC"),
            (b"MM\0*\0\0\0\x08", "TIFF"),
            (b"<?xml version=\"1.0\"?>\n<SVG xmlns=\"a\"/>", "SVG"),
            (b"\n<!DOCTYPE html><title>404</title>", "HTML"),
            (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "Git LFS"),
        ] {
            assert!(name(file).unwrap().contains(expected), "{expected}");
        }
        assert_eq!((name(b"BM"), name(b"\x89PNG"), name(b"<?xml?><a/>")), (None, None, None));
    }
}
