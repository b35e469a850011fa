//! The only HTTP client of the crate, with bounds on time and redirects, and what tells how far a transfer is. Sends no request by
//! itself. `https` is done by rustls with the root certificates that it was built with; proxies are those of the environment.

use std::time::Duration;
use ureq::Agent;
use ureq::config::{ConfigBuilder, RedirectAuthHeaders};
use ureq::typestate::AgentScope;

/// Time to connect to a server.
const CONNECT: Duration = Duration::from_secs(20);

/// Time without a byte after which a connection counts as dead.
const SILENCE: Duration = Duration::from_secs(60);

/// How far a download or an upload is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransferProgress<'a> {
    /// The file that is being transferred.
    pub file: &'a str,
    /// Bytes that have been transferred, of all files.
    pub bytes: u64,
    /// Size of all files in bytes, as far as it is known: files of weights count once their index has been received.
    pub total: u64,
}

/// A client. If there is an `all`, no answer takes longer than this as a whole; otherwise only the time between two
/// bytes is bounded.
pub(crate) fn agent(all: Option<Duration>) -> Agent {
    config(all).build().into()
}

/// A client that uses no proxy.
pub(crate) fn direct_agent(all: Option<Duration>) -> Agent {
    config(all).proxy(None).build().into()
}

fn config(all: Option<Duration>) -> ConfigBuilder<AgentScope> {
    Agent::config_builder()
        .user_agent(concat!("sae-workbench/", env!("CARGO_PKG_VERSION")))
        .timeout_connect(Some(CONNECT))
        .timeout_recv_response(Some(SILENCE))
        .timeout_per_read(Some(SILENCE))
        .timeout_global(all)
        .max_redirects(8)
        // A token is for the server that asked for it, not for the storage that this server redirects to.
        .redirect_auth_headers(RedirectAuthHeaders::SameHost)
        // The body and the headers of an error response say why.
        .http_status_as_error(false)
}
