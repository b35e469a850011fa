//! The image formats that can be decoded: the extensions of their files, and how to recognize them by their first bytes.
//! Decodes nothing.

/// Extensions of the files, in lowercase.
pub const EXTENSIONS: [&str; 8] = ["png", "jpg", "jpeg", "jpe", "jfif", "webp", "gif", "bmp"];

/// The usual extension of the format in which a file begins, or nothing if it is none of these formats.
pub fn extension(file: &[u8]) -> Option<&'static str> {
    const BEGINNINGS: [(&[u8], &str); 4] =
        [(b"\x89PNG\r\n\x1a\n", "png"), (b"\xff\xd8\xff", "jpg"), (b"GIF8", "gif"), (b"BM", "bmp")];
    let found = BEGINNINGS.iter().find(|(beginning, _)| file.starts_with(beginning)).map(|(_, extension)| *extension);
    let is_webp = file.starts_with(b"RIFF") && file.get(8..12) == Some(b"WEBP");
    found.or(is_webp.then_some("webp"))
}
