//! What a file is that was meant to be an image and is none that is decoded, told by its first bytes: formats of other
//! decoders, and what stands in an image's place after a download that failed.

/// How files begin, and what to call them.
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
    (b"version https://git-lfs.github.com/spec/", "a pointer of Git LFS (`git lfs pull` downloads the image)"),
];

/// Bytes at the beginning of a file that are looked at.
const LOOKED_AT: usize = 512;

/// What the file is, if that can be told.
pub(super) fn name(file: &[u8]) -> Option<&'static str> {
    if file.is_empty() {
        return Some("an empty file");
    }
    let start = &file[..file.len().min(LOOKED_AT)];
    if start.get(4..8) == Some(b"ftyp") {
        return Some(if contains(start, b"avif") { "an AVIF file" } else { "a HEIC file or a video" });
    }
    let text = start.trim_ascii_start().to_ascii_lowercase();
    let found = BEGINNINGS.iter().find(|(beginning, _)| start.starts_with(beginning) || text.starts_with(beginning));
    let declared = || (text.starts_with(b"<?xml") && contains(&text, b"<svg")).then_some("an SVG drawing");
    found.map(|(_, name)| *name).or_else(declared)
}

fn contains(bytes: &[u8], wanted: &[u8]) -> bool {
    bytes.windows(wanted.len()).any(|window| window == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_in_an_images_place_are_named() {
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
