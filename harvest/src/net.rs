//! The one HTTP client of the crate: what the data set and the hub ask for, with bounds on time and redirects. Asked for
//! nothing by itself; `https` by rustls with the roots it was built with; proxies as the environment says.

use std::time::Duration;
use ureq::Agent;
use ureq::config::RedirectAuthHeaders;

/// Time to reach a server.
const CONNECT: Duration = Duration::from_secs(20);

/// Time without a byte before a connection counts as dead.
const SILENCE: Duration = Duration::from_secs(60);

/// A client whose whole answers take `all` at most, or, without it, are bounded by the time between two bytes.
pub(crate) fn agent(all: Option<Duration>) -> Agent {
    Agent::config_builder()
        .user_agent(concat!("sae-workbench/", env!("CARGO_PKG_VERSION")))
        .timeout_connect(Some(CONNECT))
        .timeout_recv_response(Some(SILENCE))
        .timeout_per_read(Some(SILENCE))
        .timeout_global(all)
        .max_redirects(8)
        // A token is for the server that asked for it, not for the store that it points to.
        .redirect_auth_headers(RedirectAuthHeaders::SameHost)
        // The body of a refusal says why, and so do its headers.
        .http_status_as_error(false)
        .build()
        .into()
}
