//! A run in the browser: a server on this machine that shows features, samples, scores and contrasts as HTML and as JSON, and in
//! which people write labels. It reads the files of the run as they are, again whenever they change, and writes `labels.json` alone.

mod activations;
pub(crate) mod edits;
pub(crate) mod files;
mod guard;
mod pages;
mod params;
mod problem;
mod ranking;
mod router;
mod site;
mod watched;

use crate::control::Control;
use crate::{Error, Result};
use router::Served;
use sae_core::device::DeviceChoice;
use serde::Serialize;
use site::Site;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Threads that make pages at the same time at most.
const THREADS: usize = 16;
/// How often a server looks whether it should stop.
const LOOK: Duration = Duration::from_millis(100);
/// How long a server that stops waits for what is being written.
const ENDING: Duration = Duration::from_secs(5);

/// Which run to show.
#[derive(Clone, Debug)]
pub struct ServeRequest {
    /// The run folder.
    pub run: PathBuf,
    /// The autoencoder whose features are shown; if nothing, the first one that has an index.
    pub sae: Option<String>,
    /// The port; 0 for any that is free.
    pub port: u16,
    /// Where activations are computed.
    pub device: DeviceChoice,
}

/// What would be served.
#[derive(Clone, Debug, Serialize)]
pub struct ServePlan {
    /// `serve`.
    pub command: &'static str,
    /// The run folder.
    #[serde(serialize_with = "sae_core::path_text::serialize")]
    pub run: PathBuf,
    /// The autoencoder whose features are shown, if the run has one.
    pub sae: Option<String>,
    /// The port; 0 for any that is free.
    pub port: u16,
}

/// A server that listens, and does not answer yet.
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    site: Arc<Site>,
}

impl ServeRequest {
    /// Shows the first autoencoder of a run that has an index, on a free port.
    pub fn new(run: impl Into<PathBuf>) -> Self {
        Self { run: run.into(), sae: None, port: 0, device: DeviceChoice::Auto }
    }

    /// What [`ServeRequest::bind`] would serve.
    ///
    /// # Errors
    /// No such run or autoencoder.
    pub fn plan(&self) -> Result<ServePlan> {
        let site = Site::new(&self.run, self.sae.clone(), self.device)?;
        Ok(ServePlan { command: "serve", run: self.run.clone(), sae: site.sae().ok(), port: self.port })
    }

    /// Takes the port, on 127.0.0.1 alone, and reads what the first pages need.
    ///
    /// # Errors
    /// No such run or autoencoder; the port is taken.
    pub fn bind(&self) -> Result<Server> {
        let site = Arc::new(Site::new(&self.run, self.sae.clone(), self.device)?);
        let failed = |source| Error::Listen { port: self.port, source };
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, self.port)).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        site.warm();
        Ok(Server { listener, address, site })
    }
}

impl Server {
    /// The address to open, with the token that everybody who asks needs.
    pub fn url(&self) -> String {
        format!("http://{}/?token={}", self.address, self.site.token.reveal())
    }

    /// Answers until it is asked to stop.
    ///
    /// # Errors
    /// The system does not let it listen.
    pub fn run(self, control: &Control) -> Result<()> {
        let Self { listener, address, site } = self;
        let failed = |source| Error::Listen { port: address.port(), source };
        let cancel = control.token();
        // A request to stop is noticed here, so that the program ends in order.
        let _attended = cancel.attend();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(THREADS).build();
        let runtime = runtime.map_err(failed)?;
        let router = router::router(Served { site, port: address.port() });
        let served = runtime.block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener)?;
            let cancelled = async {
                while !cancel.is_cancelled() {
                    tokio::time::sleep(LOOK).await;
                }
            };
            tokio::select! {
                served = std::future::IntoFuture::into_future(axum::serve(listener, router)) => served,
                () = cancelled => Ok(()),
            }
        });
        runtime.shutdown_timeout(ENDING);
        served.map_err(failed)
    }
}

#[cfg(test)]
mod tests;
