//! Ranks with an NVIDIA GPU each, which add up large arrays by NCCL. The library is loaded when it is used, so that programs run
//! without it. Everything else passes through the connections of [`TcpRanks`].
//!
//! **Never run:** its types are checked, but no machine with two GPUs was at hand.

use super::{Ranks, TcpRanks};
use crate::{Error, Result};
use cudarc::driver::{CudaContext, CudaStream, DriverError, result, sys};
use cudarc::nccl::result::NcclError;
use cudarc::nccl::{Comm, Id, ReduceOp};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Numbers from which on an array is added up by NCCL.
const LARGE: usize = 1 << 14;
/// Bytes of the identity that rank 0 gives to the connection.
const ID: usize = 128;
/// How often a rank that waits for its GPU looks whether the others are still there.
const POLL_INTERVAL: Duration = Duration::from_micros(20);

/// Ranks that add up large arrays by NCCL, over NVLink, PCIe or InfiniBand.
///
/// Sums have an order that NCCL chooses, the same on all ranks. It is the same each time for the same GPUs and version of NCCL.
pub struct NcclRanks {
    control: TcpRanks,
    link: Mutex<Link>,
}

/// A communicator, and the stream that it works on.
struct Link {
    comm: Comm,
    stream: Arc<CudaStream>,
}

// SAFETY: NCCL lets a communicator be used by any thread, but by one at a time. A `Link` is only used in `NcclRanks`, which has it in a
// `Mutex`, and no part of it is handed out. `CudaStream` may be sent by itself.
unsafe impl Send for Link {}

impl NcclRanks {
    /// Connects the GPUs of ranks. If NCCL is missing on one of them, or cannot connect their GPUs (as when two ranks have the same
    /// one), all ranks get the reason and what they had before.
    ///
    /// # Errors
    /// A rank that is lost.
    pub fn connect(control: TcpRanks, gpu: usize) -> Result<std::result::Result<Self, (TcpRanks, String)>> {
        let stream = open(gpu);
        if let Some(cause) = first_failure(&control, stream.as_ref().err())? {
            return Ok(Err((control, cause)));
        }
        let id = if control.rank() == 0 { Id::new().ok() } else { None };
        let bytes = id.map(|id| id.internal().map(|c| c.to_ne_bytes()[0]).to_vec()).unwrap_or_default();
        let all = control.all_gather(&bytes)?;
        let id = all[0].first_chunk::<ID>().map(|bytes| Id::uninit(bytes.map(|byte| byte as _)));
        let (rank, count) = (control.rank(), control.count());
        let link = match (stream, id) {
            (Ok(stream), Some(id)) => Comm::from_rank(stream.clone(), rank, count, id)
                .map(|comm| Link { comm, stream })
                .map_err(|e| format!("NCCL cannot connect the GPUs ({})", named(&e))),
            (Err(cause), _) => Err(cause),
            (_, None) => Err("NCCL gave no identity".into()),
        };
        Ok(match (first_failure(&control, link.as_ref().err())?, link) {
            (None, Ok(link)) => Ok(Self { control, link: Mutex::new(link) }),
            (cause, _) => Err((control, cause.unwrap_or_else(|| "NCCL cannot connect the GPUs".into()))),
        })
    }

    /// Waits for the GPU, as long as all ranks are there.
    fn wait(&self, stream: &CudaStream) -> Result<()> {
        let event = stream.record_event(None).map_err(failed)?;
        loop {
            // SAFETY: the event lives until the end of this function, and its context as long as the stream.
            match unsafe { result::event::query(event.cu_event()) } {
                Ok(()) => return Ok(()),
                Err(DriverError(sys::CUresult::CUDA_ERROR_NOT_READY)) => {
                    self.control.check()?;
                    std::thread::sleep(POLL_INTERVAL);
                }
                Err(error) => return Err(failed(error)),
            }
        }
    }
}

impl Ranks for NcclRanks {
    fn rank(&self) -> usize {
        self.control.rank()
    }

    fn count(&self) -> usize {
        self.control.count()
    }

    fn all_reduce(&self, values: &mut [f32]) -> Result<()> {
        if values.len() < LARGE {
            return self.control.all_reduce(values);
        }
        // NCCL would wait forever for a rank that is lost, or that adds up something else.
        let lens = self.control.all_gather(&(values.len() as u64).to_le_bytes())?;
        if lens.iter().any(|len| *len != lens[0]) {
            return Err(Error::config("the processes of the training add up arrays of different sizes"));
        }
        let link = self.link.lock().unwrap_or_else(PoisonError::into_inner);
        let mut sums = link.stream.clone_htod(&*values).map_err(failed)?;
        link.comm
            .all_reduce_in_place(&mut sums, &ReduceOp::Sum)
            .map_err(|e| Error::device(format!("NCCL cannot add up the arrays of all processes ({})", named(&e))))?;
        self.wait(&link.stream)?;
        link.stream.memcpy_dtoh(&sums, values).map_err(failed)?;
        link.stream.synchronize().map_err(failed)
    }

    fn all_gather(&self, local: &[u8]) -> Result<Vec<Vec<u8>>> {
        self.control.all_gather(local)
    }
}

/// A stream of a GPU, if NCCL is there as well.
fn open(gpu: usize) -> std::result::Result<Arc<CudaStream>, String> {
    // SAFETY: this only tries to open the library, whose constructors do nothing that other code relies on.
    if !unsafe { cudarc::nccl::sys::is_culib_present() } {
        return Err("NCCL (libnccl.so) was not found".into());
    }
    let stream = CudaContext::new(gpu).and_then(|context| context.new_stream());
    stream.map_err(|e| format!("cannot open the GPU for NCCL ({e})"))
}

/// Why some rank cannot go on, with its number; nothing if all can.
fn first_failure(control: &TcpRanks, failure: Option<&String>) -> Result<Option<String>> {
    let all = control.all_gather(failure.map(String::as_bytes).unwrap_or_default())?;
    let failed = (1..).zip(&all).find(|(_, cause)| !cause.is_empty());
    Ok(failed.map(|(number, cause)| format!("process {number}: {}", String::from_utf8_lossy(cause))))
}

fn failed(error: DriverError) -> Error {
    Error::device(format!("the device failed: {error}"))
}

/// The name of an error in NCCL's documentation.
fn named(error: &NcclError) -> String {
    format!("{:?}", error.0)
}
