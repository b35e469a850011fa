//! Images behind links, for those who asked for them: bounded in bytes, time, redirects and tries. Keeps nothing, and knows
//! no data set.

use crate::net;
use sae_core::store::brief;
use std::fmt;
use std::time::Duration;
use ureq::Agent;
use ureq::http::{HeaderMap, header};

/// Bytes of the largest image that is fetched.
const LIMIT: u64 = 1 << 26;

/// Time that one request may take.
const TIME: Duration = Duration::from_secs(30);

/// Requests for one image: a server that is busy, silent or broken may do better the next time.
const TRIES: u32 = 3;

/// Time before the second request; it doubles with each one.
const PAUSE: Duration = Duration::from_millis(500);

/// The longest pause that a server may ask for.
const PATIENCE: Duration = Duration::from_secs(10);

/// Follows links.
#[derive(Clone)]
pub struct Fetch(Agent);

/// Why there is no image.
enum Failure {
    /// Another request may do better, after a pause that the server may have asked for.
    Transient(String, Option<Duration>),
    /// It will not get better.
    Final(String),
}

impl Fetch {
    /// A client; connects to nothing yet.
    pub fn new() -> Self {
        Self(net::agent(Some(TIME)))
    }

    /// What lies behind a link.
    ///
    /// # Errors
    /// Why it is no image, or why it cannot be had after some tries.
    pub(super) fn get(&self, link: &str) -> Result<Vec<u8>, String> {
        let failed = |why: String| format!("cannot fetch the image ({why}): {}", brief(link));
        let mut pause = PAUSE;
        for _ in 1..TRIES {
            match self.request(link) {
                Ok(bytes) => return Ok(bytes),
                Err(Failure::Final(why)) => return Err(failed(why)),
                Err(Failure::Transient(_, after)) => std::thread::sleep(after.unwrap_or(pause).min(PATIENCE)),
            }
            pause *= 2;
        }
        self.request(link).map_err(|failure| match failure {
            Failure::Final(why) => failed(why),
            Failure::Transient(why, _) => failed(format!("{why}, {TRIES} times")),
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
        let kind = text(answer.headers(), header::CONTENT_TYPE).unwrap_or_default().to_ascii_lowercase();
        let size = answer.body().content_length();
        if let Some(size) = size.filter(|size| *size > LIMIT) {
            return Err(Failure::Final(format!("it has {size} bytes, {LIMIT} are the most")));
        }
        let bytes = answer.body_mut().with_config().limit(LIMIT).read_to_vec().map_err(failure)?;
        if size.is_some_and(|size| size != bytes.len() as u64) {
            return Err(Failure::Transient("it was cut off".into(), None));
        }
        // Some servers call images text: only what looks like a page is one.
        if kind.starts_with("text/html") && bytes.trim_ascii_start().starts_with(b"<") {
            return Err(Failure::Final("the server sent a web page (text/html), such as a login page".into()));
        }
        Ok(bytes)
    }
}

fn failure(error: ureq::Error) -> Failure {
    use ureq::Error::{ConnectionFailed, Io, Protocol, Timeout};
    let why = error.to_string();
    match error {
        ConnectionFailed | Io(_) | Protocol(_) | Timeout(_) => Failure::Transient(why, None),
        _ => Failure::Final(why),
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
    /// Clients have nothing to tell them apart.
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl fmt::Debug for Fetch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fetch")
    }
}
