//! Images behind links, for those who asked for them: one request an image, bounded in bytes and time. Keeps nothing, and
//! knows no data set.

use crate::net;
use std::fmt;
use std::time::Duration;
use ureq::Agent;

/// Bytes of the largest image that is fetched.
const LIMIT: u64 = 1 << 26;

/// Time that one image may take.
const TIME: Duration = Duration::from_secs(30);

/// Follows links.
#[derive(Clone)]
pub struct Fetch(Agent);

impl Fetch {
    /// A client; connects to nothing yet.
    pub fn new() -> Self {
        Self(net::agent(Some(TIME)))
    }

    /// What lies behind a link.
    pub(super) fn get(&self, link: &str) -> Result<Vec<u8>, String> {
        let failed = |why: String| format!("cannot fetch the image ({why}): {link}");
        let mut answer = self.0.get(link).call().map_err(|e| failed(e.to_string()))?;
        if !answer.status().is_success() {
            return Err(failed(answer.status().to_string()));
        }
        let size = answer.body().content_length();
        if let Some(size) = size.filter(|size| *size > LIMIT) {
            return Err(failed(format!("it has {size} bytes")));
        }
        let bytes = answer.body_mut().with_config().limit(LIMIT).read_to_vec().map_err(|e| failed(e.to_string()))?;
        match size.is_some_and(|size| size != bytes.len() as u64) {
            true => Err(failed("it was cut off".into())),
            false => Ok(bytes),
        }
    }
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
