//! Devices: parses `auto`, `cpu`, `cuda[:N]`, and opens the device or says why that is not possible.

use crate::error::{Cause, Hint, Setting};
use crate::{Error, Result};
use burn::tensor::Device;
use std::str::FromStr;

/// A device as a user names it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeviceChoice {
    /// The first GPU if this build and this machine have one, the CPU otherwise.
    #[default]
    Auto,
    /// The CPU, in `f32`.
    Cpu,
    /// An NVIDIA GPU by index.
    Cuda(usize),
}

impl FromStr for DeviceChoice {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name.split_once(':') {
            None if name == "auto" => Ok(Self::Auto),
            None if name == "cpu" => Ok(Self::Cpu),
            None if name == "cuda" => Ok(Self::Cuda(0)),
            Some(("cuda", index)) => index
                .parse()
                .map(Self::Cuda)
                .map_err(|_| format!("invalid GPU index {index:?}: expected a number, such as 0")),
            _ => Err(format!("invalid device {name:?}: expected auto, cpu, cuda or cuda:N")),
        }
    }
}

impl std::fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(index) => write!(f, "cuda:{index}"),
        }
    }
}

impl DeviceChoice {
    /// Opens the device.
    ///
    /// # Errors
    /// A GPU was named, but this build or this machine has none.
    pub fn open(self) -> Result<Device> {
        match self {
            Self::Cpu => Ok(Device::flex()),
            Self::Auto => Ok(cuda(0).unwrap_or_else(|_| Device::flex())),
            Self::Cuda(index) => cuda(index).map_err(Error::Device),
        }
    }
}

// Without a driver, Burn's CUDA backend computes nothing and exits with status 0, so the driver is checked first.
#[cfg(feature = "cuda")]
fn cuda(index: usize) -> Result<Device, Cause> {
    // SAFETY: `is_culib_present` only tries to open the driver's library; the handle it finds is kept by `cudarc`.
    if !unsafe { cudarc::driver::sys::is_culib_present() } {
        let hint = Hint::set(Setting::Device, "cpu");
        return Err(Cause::with_hint("there is no CUDA driver (libcuda.so.1) on this machine", hint));
    }
    let count = cudarc::driver::CudaContext::device_count().map_err(|e| format!("the CUDA driver failed: {e}"))?;
    if index as i32 >= count {
        return Err(format!("there is no GPU {index}: the driver finds {count}").into());
    }
    Ok(Device::cuda(index))
}

/// An open GPU.
#[cfg(feature = "cuda")]
#[derive(Clone, Copy, Debug)]
pub(crate) struct Gpu(usize);

#[cfg(feature = "cuda")]
impl Gpu {
    /// Which GPU a device is; `None` for a CPU.
    pub(crate) fn of(device: &Device) -> Option<Self> {
        let count = cudarc::driver::CudaContext::device_count().ok()? as usize;
        (0..count).find(|index| *device == Device::cuda(*index)).map(Self)
    }

    /// The client that runs CubeCL's kernels on it, shared with Burn.
    pub(crate) fn client(self) -> cubecl::client::Client {
        cubecl::Device::from(cubecl::cuda::CudaDevice { index: self.0 }).client()
    }

    /// Free bytes of its memory, if the driver reports them.
    pub(crate) fn free(self) -> Option<u64> {
        let context = cudarc::driver::CudaContext::new(self.0).ok()?;
        context.mem_get_info().ok().map(|(free, _)| free as u64)
    }
}

#[cfg(not(feature = "cuda"))]
fn cuda(_index: usize) -> Result<Device, Cause> {
    let build = "build it with `cargo build --release --features cuda`".into();
    let hint = Hint::AnyOf(vec![build, Hint::set(Setting::Device, "cpu")]);
    Err(Cause::with_hint("this program was built without CUDA", hint))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_devices_survive_parsing_and_printing() {
        for name in ["auto", "cpu", "cuda:0", "cuda:3"] {
            assert_eq!(name.parse::<DeviceChoice>().unwrap().to_string(), name);
        }
        assert_eq!("cuda".parse(), Ok(DeviceChoice::Cuda(0)));
        assert!("gpu".parse::<DeviceChoice>().is_err() && "cuda:x".parse::<DeviceChoice>().is_err());
    }
}
