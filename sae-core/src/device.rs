//! Devices: parses `auto`, `cpu`, `cuda[:N]`, `vulkan[:N]`, `metal` and `rocm[:N]`, and opens the device or says why that is
//! not possible.

use crate::error::{Cause, Hint, Setting};
use crate::{Error, Result};
use burn::tensor::Device;
use std::str::FromStr;

/// A device as a user names it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeviceChoice {
    /// The first NVIDIA GPU, or the first discrete GPU that Vulkan finds, if this build and this machine have one; the CPU
    /// otherwise.
    #[default]
    Auto,
    /// The CPU, in `f32`.
    Cpu,
    /// An NVIDIA GPU by index.
    Cuda(usize),
    /// A discrete GPU of any vendor by index, or the best device that the Vulkan drivers offer, which may be a software
    /// device.
    Vulkan(Option<usize>),
    /// The GPU of a Mac.
    Metal,
    /// An AMD GPU by index.
    Rocm(usize),
}

impl FromStr for DeviceChoice {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let (kind, index) = name.split_once(':').map_or((name, None), |(kind, index)| (kind, Some(index)));
        let index = index
            .map(|text| {
                text.parse::<usize>().map_err(|_| format!("invalid GPU index {text:?}: expected a number, such as 0"))
            })
            .transpose();
        match (kind, index?) {
            ("auto", None) => Ok(Self::Auto),
            ("cpu", None) => Ok(Self::Cpu),
            ("cuda", index) => Ok(Self::Cuda(index.unwrap_or(0))),
            ("vulkan", index) => Ok(Self::Vulkan(index)),
            ("metal", None) => Ok(Self::Metal),
            ("rocm", index) => Ok(Self::Rocm(index.unwrap_or(0))),
            _ => Err(format!(
                "invalid device {name:?}: expected auto, cpu, cuda, cuda:N, vulkan, vulkan:N, metal, rocm or rocm:N"
            )),
        }
    }
}

impl std::fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(index) => write!(f, "cuda:{index}"),
            Self::Vulkan(None) => f.write_str("vulkan"),
            Self::Vulkan(Some(index)) => write!(f, "vulkan:{index}"),
            Self::Metal => f.write_str("metal"),
            Self::Rocm(index) => write!(f, "rocm:{index}"),
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
            Self::Auto => {
                let gpu = [Self::Cuda(0), Self::Vulkan(Some(0))].into_iter().find_map(|choice| gpu::open(choice).ok());
                Ok(gpu.unwrap_or_else(Device::flex))
            }
            choice => gpu::open(choice).map_err(Error::Device),
        }
    }

    /// Every GPU backend that this build has and that finds a device on this machine, with that device, for tests of what
    /// runs on any GPU. Mesa's software device takes the place of a GPU where there is none. Empty if there is neither.
    pub fn found() -> impl Iterator<Item = Device> {
        [Self::Cuda(0), Self::Vulkan(None), Self::Metal, Self::Rocm(0)]
            .into_iter()
            .filter_map(|choice| choice.open().ok())
    }

    /// The feature of the build that this device needs; none for the CPU.
    fn feature(self) -> Option<&'static str> {
        match self {
            Self::Auto | Self::Cpu => None,
            Self::Cuda(_) => Some("cuda"),
            Self::Vulkan(_) => Some("vulkan"),
            Self::Metal => Some("metal"),
            Self::Rocm(_) => Some("rocm"),
        }
    }

    /// Why this build cannot open the device.
    fn not_built(self) -> Cause {
        let feature = self.feature().unwrap_or_default();
        let build = format!("build it with `cargo build --release --features {feature}`");
        let hint = Hint::AnyOf(vec![build.into(), Hint::set(Setting::Device, "cpu")]);
        Cause::with_hint(format!("this program was built without the feature {feature}"), hint)
    }
}

/// The error of a device that failed while it worked. Of what the device reported, which drivers follow with their own
/// backtrace, the causes are kept, on one line.
///
/// ```
/// let reported = "The device was poisoned\nCaused by:\n  Unknown: it was unplugged\nBacktrace:\n  0: main";
/// let error = sae_core::device::failed(reported);
/// assert_eq!(error.to_string(), "the device failed: The device was poisoned: Unknown: it was unplugged");
/// ```
pub fn failed(reported: impl std::fmt::Display) -> Error {
    let reported = reported.to_string();
    let lines = reported.lines().map(str::trim).take_while(|line| !line.starts_with("Backtrace"));
    let causes: Vec<_> = lines.filter(|line| !line.is_empty() && *line != "Caused by:").collect();
    Error::device(Cause::with_hint(
        format!("the device failed: {}", causes.join(": ")),
        Hint::set(Setting::Device, "cpu"),
    ))
}

#[cfg(feature = "gpu")]
pub(crate) use gpu::Gpu;

#[cfg(not(feature = "gpu"))]
mod gpu {
    use super::*;

    pub fn open(choice: DeviceChoice) -> Result<Device, Cause> {
        Err(choice.not_built())
    }
}

/// The kind of a device, as [`DeviceChoice`] names it: `cpu`, `cuda`.
pub(crate) fn kind(device: &Device) -> String {
    #[cfg(feature = "gpu")]
    if let Some(gpu) = Gpu::from_device(device) {
        return gpu.kind();
    }
    debug_assert!(*device == Device::flex());
    "cpu".into()
}

#[cfg(feature = "gpu")]
mod gpu {
    use super::*;
    use cubecl::device::DeviceUnavailable;
    use cubecl::prelude::{ElemType, Scalar};

    /// GPUs of one kind that are looked for.
    const MOST: usize = 16;

    pub fn open(choice: DeviceChoice) -> Result<Device, Cause> {
        #[cfg(feature = "cuda")]
        if let DeviceChoice::Cuda(index) = choice {
            // Without a driver, Burn's CUDA backend computes nothing and exits with status 0, so it is checked first.
            cuda_driver(index)?;
        }
        let Some((device, found)) = tensors(choice).zip(Gpu::find(choice)) else { return Err(choice.not_built()) };
        match found {
            Ok(_) => Ok(device),
            Err(DeviceUnavailable::NotLinked(_)) => Err(choice.not_built()),
            Err(DeviceUnavailable::NoSuchDevice { available, .. }) => {
                let text =
                    format!("there is no device {choice} on this machine: the drivers offer {available} of this kind");
                Err(Cause::with_hint(text, Hint::set(Setting::Device, "cpu")))
            }
        }
    }

    /// What Burn calls the device; nothing if this build has no such devices.
    fn tensors(choice: DeviceChoice) -> Option<Device> {
        match choice {
            #[cfg(feature = "cuda")]
            DeviceChoice::Cuda(index) => Some(Device::cuda(index)),
            #[cfg(feature = "vulkan")]
            DeviceChoice::Vulkan(index) => {
                use burn::tensor::DeviceKind;
                Some(Device::wgpu(index.map_or(DeviceKind::DefaultDevice, DeviceKind::DiscreteGpu)))
            }
            #[cfg(feature = "metal")]
            DeviceChoice::Metal => Some(Device::metal(burn::tensor::DeviceKind::DefaultDevice)),
            #[cfg(feature = "rocm")]
            DeviceChoice::Rocm(index) => Some(Device::rocm(index)),
            _ => None,
        }
    }

    #[cfg(feature = "cuda")]
    fn cuda_driver(index: usize) -> Result<(), Cause> {
        // SAFETY: `is_culib_present` only tries to open the driver's library; the handle it finds is kept by `cudarc`.
        if !unsafe { cudarc::driver::sys::is_culib_present() } {
            let hint = Hint::set(Setting::Device, "cpu");
            return Err(Cause::with_hint("there is no CUDA driver (libcuda.so.1) on this machine", hint));
        }
        let count = cudarc::driver::CudaContext::device_count().map_err(|e| format!("the CUDA driver failed: {e}"))?;
        if i32::try_from(index).map_or(true, |index| index >= count) {
            let text = format!("there is no device cuda:{index} on this machine: the driver finds {count}");
            return Err(Cause::with_hint(text, Hint::set(Setting::Device, "cpu")));
        }
        Ok(())
    }

    /// An open GPU.
    #[derive(Clone, Debug)]
    pub(crate) struct Gpu {
        choice: DeviceChoice,
        tensors: Device,
        kernels: cubecl::Device,
    }

    impl Gpu {
        /// What CubeCL calls the device, if the machine has it; nothing for a CPU.
        fn find(choice: DeviceChoice) -> Option<Result<cubecl::Device, DeviceUnavailable>> {
            use cubecl::device::WgpuDeviceKind::{DefaultDevice, DiscreteGpu};
            match choice {
                DeviceChoice::Auto | DeviceChoice::Cpu => None,
                DeviceChoice::Cuda(index) => Some(cubecl::Device::cuda(index)),
                DeviceChoice::Vulkan(index) => Some(cubecl::Device::wgpu(index.map_or(DefaultDevice, DiscreteGpu))),
                DeviceChoice::Metal => Some(cubecl::Device::metal_msl(DefaultDevice)),
                DeviceChoice::Rocm(index) => Some(cubecl::Device::rocm(index)),
            }
        }

        /// Which GPU a device of Burn's is; none for a CPU.
        pub(crate) fn from_device(device: &Device) -> Option<Self> {
            let numbered =
                (0..MOST).flat_map(|n| [DeviceChoice::Cuda(n), DeviceChoice::Vulkan(Some(n)), DeviceChoice::Rocm(n)]);
            let choices = [DeviceChoice::Vulkan(None), DeviceChoice::Metal].into_iter().chain(numbered);
            choices.into_iter().find_map(|choice| {
                let tensors = tensors(choice).filter(|tensors| tensors == device)?;
                Some(Self { choice, tensors, kernels: Self::find(choice)?.ok()? })
            })
        }

        /// What runs CubeCL's kernels on it, the same as Burn's.
        pub(crate) fn client(&self) -> cubecl::client::Client {
            self.kernels.client()
        }

        /// What it is called without its number.
        pub(crate) fn kind(&self) -> String {
            let name = self.choice.to_string();
            name.split_once(':').map_or(name.clone(), |(kind, _)| kind.to_owned())
        }

        /// The number of an NVIDIA GPU.
        #[cfg(feature = "cuda")]
        pub(crate) fn cuda(&self) -> Option<usize> {
            if let DeviceChoice::Cuda(index) = self.choice { Some(index) } else { None }
        }

        /// The type of products whose results are only compared: bf16 where the GPU computes it, `f32` otherwise.
        pub(crate) fn narrow(&self) -> ElemType {
            if self.tensors.supports_dtype(burn::tensor::DType::BF16) {
                half::bf16::elem_type_native()
            } else {
                f32::elem_type_native()
            }
        }

        /// Free bytes, where the driver tells.
        pub(crate) fn free(&self) -> Option<u64> {
            match self.choice {
                #[cfg(feature = "cuda")]
                DeviceChoice::Cuda(index) => {
                    let context = cudarc::driver::CudaContext::new(index).ok()?;
                    context.mem_get_info().ok().map(|(free, _)| free as u64)
                }
                _ => None,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_devices_survive_parsing_and_printing() {
        for name in ["auto", "cpu", "cuda:0", "cuda:3", "vulkan", "vulkan:1", "metal", "rocm:0"] {
            assert_eq!(name.parse::<DeviceChoice>().unwrap().to_string(), name);
        }
        assert_eq!("cuda".parse(), Ok(DeviceChoice::Cuda(0)));
        for name in ["gpu", "cuda:x", "cpu:0", "auto:1", "metal:1", ""] {
            assert!(name.parse::<DeviceChoice>().is_err(), "{name}");
        }
    }
    /// Tests on GPUs pass where there is none. Where `SAE_EXPECT_GPU` is set, as in CI, that would hide a missing driver.
    #[test]
    #[cfg(feature = "gpu")]
    fn a_gpu_is_found_where_one_is_expected() {
        let found = DeviceChoice::found().count();
        if found == 0 {
            eprintln!("skipped: no GPU was found, and no software device that takes its place");
        }
        assert!(found > 0 || std::env::var_os("SAE_EXPECT_GPU").is_none());
    }

    #[test]
    #[cfg(feature = "vulkan")]
    fn a_gpu_that_is_not_there_is_named_with_how_many_there_are() {
        let error = DeviceChoice::Vulkan(Some(15)).open().unwrap_err();
        assert!(error.to_string().contains("there is no device vulkan:15 on this machine"), "{error}");
        assert_eq!(error.hint(), Some(Hint::set(Setting::Device, "cpu")));
    }

    #[test]
    #[cfg(not(feature = "gpu"))]
    fn a_build_without_gpus_names_the_feature() {
        for (choice, feature) in [(DeviceChoice::Cuda(0), "cuda"), (DeviceChoice::Vulkan(None), "vulkan")] {
            let error = choice.open().unwrap_err();
            assert!(error.to_string().contains(&format!("built without the feature {feature}")), "{error}");
        }
        assert!(DeviceChoice::Auto.open().unwrap() == Device::flex());
    }
}
