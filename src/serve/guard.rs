//! Who may ask, and for what: the token, the name of the host, paths that lead out. On a machine with several users, everybody can
//! connect to a port of 127.0.0.1; and a page of somebody else's can make a browser do so under another host's name.

use super::problem::Problem;
use std::net::Ipv4Addr;
use subtle::ConstantTimeEq;

/// Bytes of a token.
const BYTES: usize = 24;

/// A secret that everybody who asks has to know.
#[derive(Clone)]
pub struct Token(String);

impl Token {
    /// A new one, from the system's random numbers.
    ///
    /// # Errors
    /// The system has none.
    pub fn new() -> std::io::Result<Self> {
        let mut bytes = [0; BYTES];
        getrandom::fill(&mut bytes).map_err(|error| std::io::Error::other(error.to_string()))?;
        Ok(Self(bytes.iter().map(|byte| format!("{byte:02x}")).collect()))
    }

    /// The token itself, to be given to those who may ask.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Whether a text is the token. The time that it takes does not tell how much of it is right.
    pub fn is(&self, text: &str) -> bool {
        self.0.as_bytes().ct_eq(text.as_bytes()).into()
    }
}

/// The name of the cookie of a server. Browsers send cookies to every port of a host, so the port is part of the name.
pub fn cookie_name(port: u16) -> String {
    format!("sae_token_{port}")
}

/// The value of a cookie in the header `Cookie`.
pub fn cookie<'a>(header: &'a str, name: &str) -> Option<&'a str> {
    header.split(';').filter_map(|pair| pair.trim().split_once('=')).find(|(known, _)| *known == name).map(|(_, v)| v)
}

/// Checks the header `Host`: a name of this machine for itself, with any port, since ports are forwarded.
///
/// # Errors
/// It is another name, or there is none.
pub fn check_host(host: Option<&str>) -> Result<(), Problem> {
    let host = host.ok_or_else(|| Problem::forbidden("the request names no host"))?;
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|digit| digit.is_ascii_digit()) => name,
        _ => host,
    };
    let is_local = name.eq_ignore_ascii_case("localhost")
        || name == "[::1]"
        || name.parse::<Ipv4Addr>().is_ok_and(|address| address.is_loopback());
    if is_local {
        return Ok(());
    }
    Err(Problem::forbidden(format!(
        "the request is for the host {host:?}: expected 127.0.0.1 or localhost, which a forwarded port has as well"
    )))
}

/// Checks that a path, as it was sent, has no component that leads out of its folder.
///
/// # Errors
/// It has `..` or a backslash, percent-encoded or not.
pub fn check_path(path: &str) -> Result<(), Problem> {
    // Decoded as often as something could decode it again.
    let mut decoded = path.to_owned();
    for _ in 0..3 {
        if decoded.split(['/', '\\']).any(|part| part == "..") || decoded.contains(['\\', '\0']) {
            return Err(Problem::invalid("the path leads out of its folder"));
        }
        decoded = decode(&decoded);
    }
    Ok(())
}

/// Decodes `%2e` and the like. What is not encoded stays as it is.
fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let (mut out, mut at) = (Vec::with_capacity(bytes.len()), 0);
    while at < bytes.len() {
        let code = bytes.get(at + 1..at + 3).filter(|_| bytes[at] == b'%');
        let code = code.and_then(|code| u8::from_str_radix(std::str::from_utf8(code).ok()?, 16).ok());
        out.push(code.unwrap_or(bytes[at]));
        at += if code.is_some() { 3 } else { 1 };
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_known_as_a_whole_or_not_at_all() {
        let (token, other) = (Token::new().unwrap(), Token::new().unwrap());
        assert!(token.reveal().len() == 2 * BYTES && token.is(token.reveal()));
        for wrong in ["", &token.reveal()[1..], other.reveal(), &format!("{}0", token.reveal())] {
            assert!(!token.is(wrong), "{wrong}");
        }
    }

    #[test]
    fn hosts_are_this_machine_under_its_own_names() {
        for right in ["127.0.0.1:8000", "localhost:9", "LOCALHOST", "[::1]:80", "127.0.0.2", "[::1]"] {
            assert_eq!(check_host(Some(right)), Ok(()), "{right}");
        }
        for wrong in
            ["example.org", "localhost.example.org:8000", "127.0.0.1.example.org", "10.0.0.1:8000", "", "[::2]:1"]
        {
            assert!(check_host(Some(wrong)).is_err(), "{wrong}");
        }
        assert!(check_host(None).is_err());
    }

    #[test]
    fn paths_stay_where_they_are() {
        for right in ["/", "/f/12", "/contrast/a..b", "/contrast/50%", "/contrast/%"] {
            assert_eq!(check_path(right), Ok(()), "{right}");
        }
        for wrong in [
            "/..",
            "/a/../b",
            "/contrast/%2e%2E/x",
            "/contrast/%252e%252e",
            "/contrast/..%2fx",
            "/a\\b",
            "/%5c",
            "/%00",
        ] {
            assert!(check_path(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn cookies_are_found_among_others() {
        assert_eq!(cookie("a=1; sae_token_80=x; b=2", "sae_token_80"), Some("x"));
        assert_eq!(cookie("sae_token_8000=x", &cookie_name(80)), None);
    }
}
