//! Requests to a server of `sae serve`, on this machine or behind a forwarded port. Knows nothing of what is asked.

use crate::net;
use crate::{Error, Result};
use std::time::Duration;
use ureq::Agent;
use ureq::http::Response;

/// Time that one answer may take.
const TIME: Duration = Duration::from_secs(180);

/// A server, and the token that it wants.
pub struct ServedClient {
    agent: Agent,
    address: String,
    token: String,
}

impl ServedClient {
    /// The server at an address such as `http://127.0.0.1:8000`. Does not connect yet. Addresses of this machine are reached without
    /// a proxy.
    pub fn new(address: &str, token: &str) -> Self {
        let host = address.split_once("://").map_or(address, |(_, rest)| rest);
        let is_local = ["127.", "localhost", "[::1]"].iter().any(|name| host.starts_with(name));
        let agent = if is_local { net::direct_agent(Some(TIME)) } else { net::agent(Some(TIME)) };
        Self { agent, address: address.trim_end_matches('/').into(), token: token.into() }
    }

    /// The address.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The answer of at most `limit` bytes to a request for a path.
    ///
    /// # Errors
    /// The server does not answer, says why it does not do what was asked, or says too much.
    pub fn get(&self, path: &str, limit: u64) -> Result<Vec<u8>> {
        let request = self.agent.get(format!("{}{path}", self.address)).header("authorization", self.bearer());
        self.read(request.call(), limit)
    }

    /// The answer of at most `limit` bytes to a text that is sent to a path.
    ///
    /// # Errors
    /// As [`ServedClient::get`].
    pub fn post(&self, path: &str, body: &str, limit: u64) -> Result<Vec<u8>> {
        let request = self.agent.post(format!("{}{path}", self.address)).header("authorization", self.bearer());
        self.read(request.header("content-type", "application/json").send(body), limit)
    }

    fn bearer(&self) -> String {
        format!("Bearer {}", self.token)
    }

    fn read(&self, answer: Result<Response<ureq::Body>, ureq::Error>, limit: u64) -> Result<Vec<u8>> {
        let mut answer = answer.map_err(|error| self.error(format!("the server does not answer ({error})")))?;
        let status = answer.status();
        let read = answer.body_mut().with_config().limit(limit).read_to_vec();
        let read = read.map_err(|error| self.error(format!("the answer was cut off ({error})")))?;
        if status.is_success() {
            return Ok(read);
        }
        let said: Option<String> = serde_json::from_slice(&read).ok().and_then(|said: serde_json::Value| {
            let said = said.get("error")?.as_str()?;
            Some(said.chars().take(1000).collect())
        });
        Err(self.error(said.unwrap_or_else(|| format!("the server answers with status {status}"))))
    }

    fn error(&self, cause: String) -> Error {
        Error::Server { cause, address: self.address.clone() }
    }
}
