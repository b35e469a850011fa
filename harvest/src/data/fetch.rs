//! Downloads images behind links, if the caller asks for it, with bounds on size, time, redirects and attempts. Stores
//! nothing, and knows no data set.

use crate::net;
use sae_core::store::brief;
use std::fmt;
use std::time::Duration;
use ureq::Agent;
use ureq::http::{HeaderMap, header};

/// Size of the largest image that is downloaded, in bytes.
const LIMIT: u64 = 1 << 26;

/// Time that one request may take.
const TIME: Duration = Duration::from_secs(30);

/// How often an image is requested, because a server may be temporarily busy or broken.
const TRIES: u32 = 3;

/// Time before the second request. It doubles with each further one.
const PAUSE: Duration = Duration::from_millis(500);

/// The longest pause that a server may ask for.
const PATIENCE: Duration = Duration::from_secs(10);

/// A client that follows links.
#[derive(Clone)]
pub struct Fetch(Agent);

/// Why an image could not be downloaded.
enum Failure {
    /// Another request may succeed, after the pause that the server asked for, if it did.
    Transient(String, Option<Duration>),
    /// Another request would fail, too.
    Final(String),
}

impl Fetch {
    /// A new client. It does not connect yet.
    pub fn new() -> Self {
        Self(net::agent(Some(TIME)))
    }

    /// Downloads the image behind a link.
    ///
    /// # Errors
    /// The reason why it could not be downloaded.
    pub(super) fn get(&self, link: &str) -> Result<Vec<u8>, String> {
        let failed = |cause: String| format!("cannot download the image ({cause}): {}", brief(link));
        let mut pause = PAUSE;
        for _ in 1..TRIES {
            match self.request(link) {
                Ok(bytes) => return Ok(bytes),
                Err(Failure::Final(cause)) => return Err(failed(cause)),
                Err(Failure::Transient(_, after)) => std::thread::sleep(after.unwrap_or(pause).min(PATIENCE)),
            }
            pause *= 2;
        }
        self.request(link).map_err(|failure| match failure {
            Failure::Final(cause) => failed(cause),
            Failure::Transient(cause, _) => failed(format!("{cause}, {TRIES} times")),
        })
    }

    fn request(&self, link: &str) -> Result<Vec<u8>, Failure> {
        let mut answer = self.0.get(link).call().map_err(failure)?;
        let status = answer.status();
        if status.is_server_error() || [408, 429].contains(&status.as_u16()) {
            let after = text(answer.headers(), header::RETRY_AFTER).and_then(|after| after.trim().parse().ok());
            return Err(Failure::Transient(status.to_string(), after.map(Duration::from_secs)));
        }
        if !status.is_success() {
            return Err(Failure::Final(status.to_string()));
        }
        let content_type = text(answer.headers(), header::CONTENT_TYPE).unwrap_or_default().to_ascii_lowercase();
        let size = answer.body().content_length();
        if let Some(size) = size.filter(|size| *size > LIMIT) {
            return Err(Failure::Final(format!("it has {size} bytes, more than the limit of {LIMIT}")));
        }
        let bytes = answer.body_mut().with_config().limit(LIMIT).read_to_vec().map_err(failure)?;
        if size.is_some_and(|size| size != bytes.len() as u64) {
            return Err(Failure::Transient("it was cut off".into(), None));
        }
        // Some servers send images as text, so the content is checked as well.
        if content_type.starts_with("text/html") && bytes.trim_ascii_start().starts_with(b"<") {
            return Err(Failure::Final("the server sent a web page (text/html), such as a login page".into()));
        }
        Ok(bytes)
    }
}

fn failure(error: ureq::Error) -> Failure {
    use ureq::Error::{ConnectionFailed, Io, Protocol, Timeout};
    let cause = error.to_string();
    match error {
        ConnectionFailed | Io(_) | Protocol(_) | Timeout(_) => Failure::Transient(cause, None),
        _ => Failure::Final(cause),
    }
}

fn text(headers: &HeaderMap, name: header::HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}

impl Default for Fetch {
    fn default() -> Self {
        Self::new()
    }
}

impl PartialEq for Fetch {
    /// All clients are equal: none has settings of its own.
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl fmt::Debug for Fetch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fetch")
    }
}
