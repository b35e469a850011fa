//! Paths as text, for tables and messages, which are UTF-8. A byte of a name that is not UTF-8 is written as `\xE9`, so that
//! the file can be found from the text. Ordinary names do not change.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// A path as text. [`decode`] is its inverse.
///
/// ```
/// # use sae_core::path_text::{decode, encode, encode_bytes};
/// # use std::path::Path;
/// assert_eq!(encode(Path::new("images/naïve.png")), "images/naïve.png");
/// assert_eq!(encode_bytes(b"caf\xe9.png"), r"caf\xE9.png");
/// assert_eq!(decode("images/naïve.png"), Path::new("images/naïve.png"));
/// ```
pub fn encode(path: &Path) -> String {
    encode_bytes(path.as_os_str().as_encoded_bytes())
}

/// [`encode`] for a name as bytes, such as one in an archive.
pub fn encode_bytes(name: &[u8]) -> String {
    let mut text = String::with_capacity(name.len());
    for chunk in name.utf8_chunks() {
        // If a name contains such an escape itself, its backslash is escaped.
        for (n, part) in chunk.valid().split('\\').enumerate() {
            if n > 0 {
                text.push_str(if is_escape(part.as_bytes()) { r"\x5C" } else { r"\" });
            }
            text.push_str(part);
        }
        chunk.invalid().iter().for_each(|byte| text.push_str(&format!(r"\x{byte:02X}")));
    }
    text
}

/// A field of a report with paths: one, an optional one, or a list.
pub trait Paths {
    /// The same with text in place of paths.
    type Text: Serialize;

    /// Turns each path into text, by [`encode`].
    fn to_text(&self) -> Self::Text;
}

impl Paths for PathBuf {
    type Text = String;

    fn to_text(&self) -> String {
        encode(self)
    }
}

impl Paths for Option<PathBuf> {
    type Text = Option<String>;

    fn to_text(&self) -> Option<String> {
        self.as_deref().map(encode)
    }
}

impl Paths for Vec<PathBuf> {
    type Text = Vec<String>;

    fn to_text(&self) -> Vec<String> {
        self.iter().map(|path| encode(path)).collect()
    }
}

/// Serializes paths as text, for `#[serde(serialize_with = "...")]`. Serde itself refuses paths that are not UTF-8.
///
/// # Errors
/// Those of the serializer.
pub fn serialize<S: Serializer>(paths: &impl Paths, serializer: S) -> Result<S::Ok, S::Error> {
    paths.to_text().serialize(serializer)
}

/// Deserializes a path that [`serialize`] wrote, for `#[serde(with = "...")]`.
///
/// # Errors
/// Those of the deserializer.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PathBuf, D::Error> {
    Ok(decode(&String::deserialize(deserializer)?))
}

/// A text as part of a link `sae://`: letters, digits and `-._~/:\` stay, all other bytes are percent-encoded (RFC 3986).
///
/// ```
/// assert_eq!(sae_core::path_text::percent_encode("my runs/é"), "my%20runs/%C3%A9");
/// ```
pub fn percent_encode(text: &str) -> String {
    text.bytes().fold(String::with_capacity(text.len()), |mut out, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~/:\\".contains(&byte) {
            out.push(byte as char);
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
        out
    })
}

/// The path that [`encode`] turned into this text.
pub fn decode(text: &str) -> PathBuf {
    if !text.split('\\').skip(1).any(|part| is_escape(part.as_bytes())) {
        return PathBuf::from(text);
    }
    let mut name = Vec::with_capacity(text.len());
    for (n, part) in text.split('\\').enumerate() {
        let escaped = (n > 0).then(|| part.get(1..3).filter(|_| is_escape(part.as_bytes()))).flatten();
        match escaped.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                name.push(byte);
                name.extend(&part.as_bytes()[3..]);
            }
            None => {
                name.extend(if n > 0 { &b"\\"[..] } else { b"" });
                name.extend(part.as_bytes());
            }
        }
    }
    os_string(name).map_or_else(|| PathBuf::from(text), PathBuf::from)
}

/// The path of a file that a data set, a table or a run names relative to `folder`: the text itself if such a file exists,
/// otherwise with slashes instead of backslashes, which Windows writes between names, and otherwise as [`decode`] reads it.
pub fn resolve(folder: &Path, text: &str) -> PathBuf {
    let plain = folder.join(text);
    if !text.contains('\\') || plain.exists() {
        return plain;
    }
    let decoded = folder.join(decode(text));
    let slashes = folder.join(text.replace('\\', "/"));
    if decoded.exists() || !slashes.exists() { decoded } else { slashes }
}

/// Whether what follows a backslash makes it an escape: `x` and two digits in capitals, as [`encode`] writes them.
fn is_escape(rest: &[u8]) -> bool {
    let digit = |byte: &u8| byte.is_ascii_digit() || (b'A'..=b'F').contains(byte);
    matches!(rest, [b'x', high, low, ..] if digit(high) && digit(low))
}

#[cfg(unix)]
fn os_string(name: Vec<u8>) -> Option<OsString> {
    Some(std::os::unix::ffi::OsStringExt::from_vec(name))
}

#[cfg(not(unix))]
fn os_string(name: Vec<u8>) -> Option<OsString> {
    String::from_utf8(name).ok().map(OsString::from)
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStrExt;

    #[test]
    fn a_text_resolves_to_the_file_that_exists() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("a")).unwrap();
        for name in [&b"a/b.png"[..], b"caf\xe9.png", br"c\d.png"] {
            std::fs::write(dir.path().join(std::ffi::OsStr::from_bytes(name)), b"").unwrap();
        }
        for (text, name) in [
            ("a/b.png", &b"a/b.png"[..]),
            (r"a\b.png", b"a/b.png"),
            (r"caf\xE9.png", b"caf\xe9.png"),
            (r"c\d.png", br"c\d.png"),
            (r"a\none.png", br"a\none.png"),
        ] {
            assert_eq!(resolve(dir.path(), text), dir.path().join(std::ffi::OsStr::from_bytes(name)), "{text}");
        }
    }

    #[test]
    fn every_name_survives_as_text() {
        let names: [(&[u8], &str); 8] = [
            (b"caf\xe9.png", r"caf\xE9.png"),
            ("café/猫.png".as_bytes(), "café/猫.png"),
            (br"a\b", r"a\b"),
            (br"a\xE9", r"a\x5CxE9"),
            (br"a\xe9", r"a\xe9"),
            (b"\xe9\xff/\x80", r"\xE9\xFF/\x80"),
            (b"\\\xe9\\", r"\\xE9\"),
            (b"", ""),
        ];
        for (name, text) in names {
            let path = Path::new(std::ffi::OsStr::from_bytes(name));
            assert_eq!((encode(path).as_str(), decode(text).as_path()), (text, path));
        }
        for n in 0..=u16::MAX {
            let name = [b'\\', b'x', (n >> 8) as u8, n as u8, b'A'];
            assert_eq!(decode(&encode_bytes(&name)).as_os_str().as_bytes(), name);
        }
    }

    #[test]
    fn a_file_whose_name_looks_like_an_escape_is_found() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(r"a\xE9"), "").unwrap();
        assert_eq!(resolve(dir.path(), r"a\xE9"), dir.path().join(r"a\xE9"));
        let latin = dir.path().join(std::ffi::OsStr::from_bytes(b"b\xe9"));
        assert_eq!(resolve(dir.path(), r"b\xE9"), latin);
    }
}
