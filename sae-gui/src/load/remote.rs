//! Runs behind servers: connects to them, and finds those that are open. A comparison opens a run a second time, and labels are saved
//! after their run was closed, so all workers share the connections.

use super::message;
use crate::state::run_info::ServedAt;
use sae_workbench::RemoteRun;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// The variable with the token of an address that has none.
const TOKEN: &str = "SAE_TOKEN";

/// The runs that are open, each with the token of its address. Whoever opened one holds it.
static OPEN: Mutex<Vec<(String, Weak<RemoteRun>)>> = Mutex::new(Vec::new());

/// The run behind a server that a link means by an address, or by the folder of its copies; nothing for a folder of this machine.
pub fn open(run: &Path) -> Result<Option<Arc<RemoteRun>>, String> {
    let text = run.to_string_lossy();
    if !text.contains("://") {
        return Ok(known(run));
    }
    let (address, token) = text.split_once("?token=").unwrap_or((&text, ""));
    let token = if token.is_empty() { std::env::var(TOKEN).unwrap_or_default() } else { token.to_owned() };
    let is_meant =
        |known: &str, remote: &RemoteRun| remote.address() == address && (token.is_empty() || known == token);
    if let Some(remote) = find(is_meant) {
        return Ok(Some(remote));
    }
    if token.is_empty() {
        return Err(format!(
            "The address {address} has no token.\nhint: open the address that `sae serve` has printed, or set {TOKEN}"
        ));
    }
    let remote = Arc::new(RemoteRun::connect(address, &token).map_err(message)?);
    let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
    open.retain(|(_, remote)| remote.strong_count() > 0);
    open.push((token, Arc::downgrade(&remote)));
    Ok(Some(remote))
}

/// Where the run is.
pub fn served_at(remote: &RemoteRun) -> ServedAt {
    ServedAt { address: remote.address().into(), path: remote.path().into() }
}

/// The run of this [origin](ServedAt::origin) behind a server, by the connection that was made last: a server that was started again
/// has another token.
pub fn at(origin: &Path) -> Option<Arc<RemoteRun>> {
    find(|_, remote| served_at(remote).origin() == origin)
}

/// The run whose copies are in this folder, if it is one.
pub fn known(root: &Path) -> Option<Arc<RemoteRun>> {
    find(|_, remote| remote.root() == root)
}

fn find(is_meant: impl Fn(&str, &RemoteRun) -> bool) -> Option<Arc<RemoteRun>> {
    let open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
    let open = open.iter().filter_map(|(token, remote)| Some((token, remote.upgrade()?)));
    open.filter(|(token, remote)| is_meant(token, remote)).map(|(_, remote)| remote).last()
}
