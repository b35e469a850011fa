//! Training one autoencoder with several processes: its features are divided among them.
//!
//! Each process, a *rank*, holds the rows of consecutive features in the encoder, the decoder, and the moments of both, and reads all
//! activations. A step exchanges the strongest pre-activations of every token, from which each rank sees which of its own are active;
//! the sum of the reconstructions; the numbers of the features that were active; and sums of single numbers. What all ranks need (the
//! bias of the decoder, the schedule, which features are dead) they compute from the same numbers. So a checkpoint has the
//! layout of any other, and may be continued with another number of ranks.
//!
//! With several ranks sums have other orders: results agree with those of one process within rounding. On processors of one kind
//! they are the same bytes each time for the same number of ranks.

#[cfg(feature = "cuda")]
mod nccl;
mod rendezvous;
mod tcp;
#[cfg(test)]
mod tests;

#[cfg(feature = "cuda")]
pub use nccl::NcclRanks;
pub use rendezvous::Rendezvous;
pub use tcp::TcpRanks;

use crate::{Result, device};
use burn::tensor::Device;
use std::sync::Arc;

/// The exchanges of processes that train one autoencoder. Each method is called by all ranks, in the same order, and
/// returns the same bytes on all of them.
pub trait Ranks: Send + Sync {
    /// Which of the ranks this is, from 0.
    fn rank(&self) -> usize;

    /// The number of ranks.
    fn count(&self) -> usize;

    /// Replaces the values by their sums over all ranks, added in the order of the ranks.
    ///
    /// # Errors
    /// A rank that is lost.
    fn all_reduce(&self, values: &mut [f32]) -> Result<()>;

    /// What every rank has, in their order.
    ///
    /// # Errors
    /// A rank that is lost.
    fn all_gather(&self, local: &[u8]) -> Result<Vec<Vec<u8>>>;
}

/// Connects to the other ranks ([`TcpRanks::connect`]), which must have devices of the same kind: CPUs and GPUs exchange different arrays.
/// NVIDIA GPUs are connected by NCCL as well, if all ranks have it; if not, the second value says why.
///
/// # Errors
/// As [`TcpRanks::connect`]; a device of another kind.
pub fn connect(
    rendezvous: &Rendezvous,
    settings: &[u8],
    device: &Device,
    wait: &mut dyn FnMut() -> Result<()>,
) -> Result<(Arc<dyn Ranks>, Option<String>)> {
    let settings = [settings, b"\ndevice = ", device::kind(device).as_bytes()].concat();
    let ranks = TcpRanks::connect(rendezvous, &settings, wait)?;
    #[cfg(feature = "cuda")]
    if let Some(gpu) = device::Gpu::from_device(device).and_then(|gpu| gpu.cuda()) {
        return Ok(match NcclRanks::connect(ranks, gpu)? {
            Ok(ranks) => (Arc::new(ranks), None),
            Err((ranks, cause)) => (Arc::new(ranks), Some(cause)),
        });
    }
    Ok((Arc::new(ranks), None))
}

/// The only process of a training: it has all features.
#[derive(Clone, Copy, Debug, Default)]
pub struct SingleProcess;

impl Ranks for SingleProcess {
    fn rank(&self) -> usize {
        0
    }

    fn count(&self) -> usize {
        1
    }

    fn all_reduce(&self, _: &mut [f32]) -> Result<()> {
        Ok(())
    }

    fn all_gather(&self, local: &[u8]) -> Result<Vec<Vec<u8>>> {
        Ok(vec![local.to_vec()])
    }
}
