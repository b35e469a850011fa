//! Writes the CUDA source of every kernel that a training step on a GPU launches, and of attention, without a GPU: the engine
//! runs a step of each architecture on a device that compiles what it is asked to launch, and computes nothing. `docs/cuda_kernels.py`
//! builds this example, and compiles what it writes for real architectures. Without a folder it prints what a step asks of a
//! GPU at full size (which takes 10 GB of memory), and how long the GPU needs for that at least.
//!
//! ```sh
//! cargo run --release -p sae-harvest --features vulkan,cuda-source --example cuda_kernels -- 90 FOLDER
//! cargo run --release -p sae-harvest --features vulkan,cuda-source --example cuda_kernels -- 90
//! ```
#![allow(clippy::print_stdout, reason = "the tables are what it is for")]

mod cost;

use cost::{Cost, StepShape};

use cubecl::bytes::Bytes;
use cubecl::client::Client;
use cubecl::future::DynFut;
use cubecl::ir::features::{Plane, Tma};
use cubecl::ir::{
    ContiguousElements, DeviceIdentity, DeviceProperties, ElemType, FloatKind, HardwareProperties,
    MemoryDeviceProperties, MmaProperties, OpaqueType, TargetProperties, VectorSize,
};
use cubecl::prelude::{CubeCount, Scalar, TensorBinding};
use cubecl::profile::{ProfileDuration, TimingMethod};
use cubecl::server::{
    BufferBinding, CopyDescriptor, KernelArguments, ProfileError, ProfilingToken, Server, ServerCommunication,
    ServerError, ServerStorage, ServerUtilities,
};
use cubecl::zspace::Tiling;
use cubecl::{Compiler, CubeKernel, StreamMemoryReport, cmma::MatrixLayout, define_kernel};
use cubecl_core::device::{DeviceId, DeviceService, ServerUtilitiesHandle, ServiceId};
use cubecl_core::environment::stream::StreamId;
use cubecl_cpp::cuda::arch::CudaArchitecture;
use cubecl_cpp::cuda::mma::{CudaCmmaCompiler, manual::contiguous_elements_cuda};
use cubecl_cpp::cuda::supported_mma_combinations;
use cubecl_cpp::shared::{
    CompilationOptions, CppCompiler, CppSupportedFeatures, register_mma_features, register_wmma_features,
};
use cubecl_cpp::{register_supported_types, target::Cuda};
use cubecl_server::allocator::ContiguousMemoryLayoutPolicy;
use cubecl_server::dry_run::LaunchMode;
use cubecl_server::logging::ServerLogger;
use cubecl_server::memory_management::{ManagedMemoryHandle, MemoryAllocationMode};
use cubecl_server::server::IoError;
use cubecl_server::storage::{ComputeStorage, ManagedResource, StorageHandle, StorageId};
use harvest::kernel::attention::Heads;
use harvest::model::gpu_attention;
use sae_core::autoencoder::Architecture;
use sae_core::train::engine::{Batch, Engine};
use sae_core::train::gpu::{GpuEngine, PRODUCT_BYTES};
use sae_core::train::{Decoder, JumpReluPenalty, Params, TrainConfig};
use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

/// A device whose memory is all zeros. It writes the source of each kernel into a folder, if there is one, and counts what it
/// is asked to do.
#[derive(Debug)]
struct SourceWriter {
    folder: Option<PathBuf>,
    cost: Arc<Mutex<Cost>>,
    options: CompilationOptions,
    utilities: Arc<ServerUtilities>,
    /// Names of the kernels that are written; they include a hash of everything that a source depends on.
    written: HashSet<String>,
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (version, folder) = match arguments.as_slice() {
        [version] => (version, None),
        [version, folder] => (version, Some(folder)),
        _ => {
            eprintln!("usage: cuda_kernels VERSION [FOLDER], where VERSION is a compute capability such as 90");
            std::process::exit(2);
        }
    };
    let version: u32 = version.parse().expect("the compute capability is a number, such as 90");
    let id = DeviceId::new(0, 0);
    let cost = Arc::new(Mutex::new(Cost::default()));
    if let Some(folder) = folder {
        std::fs::create_dir_all(folder).expect("the folder can be created");
    }
    let client = Client::init(id, SourceWriter::new(id, version, folder.map(PathBuf::from), cost.clone()));
    if folder.is_some() {
        configs().iter().for_each(|config| step(config, D, &[1, 5, 9], &client, &mut || ()));
        HEADS.into_iter().for_each(|heads| attention(heads, &client));
        client.flush().expect("nothing runs that could fail");
    } else {
        print_costs(&client, &cost);
    }
}

/// The width of the residual stream while kernels are written; no source depends on it.
const D: usize = 2048;
/// The sizes of the step whose cost is printed.
const FULL: StepShape = StepShape { d: 4096, f: 65_536, k: 32, batch: 16_384 };

/// Prints the cost of a step of each architecture, and of TopK with a twentieth of the features dead.
fn print_costs(client: &Client, cost: &Mutex<Cost>) {
    println!("{}", Cost::head());
    let dead: Vec<u32> = (0..FULL.f as u32 / 20).collect();
    let cases = Architecture::ALL.into_iter().map(|arch| (arch, &[][..]));
    for (arch, dead) in cases.chain([(Architecture::TopK, &dead[..])]) {
        let config = TrainConfig {
            features: FULL.f as usize,
            k: FULL.k as usize,
            batch: FULL.batch as usize,
            decoder: Decoder::Unit,
            ..TrainConfig::for_architecture(arch)
        };
        // The first step is the second one's preparation: parameters go up only once.
        let mut start = || *cost.lock().expect("no thread panics") = Cost::default();
        step(&config, FULL.d as usize, dead, client, &mut start);
        client.flush().expect("nothing runs that could fail");
        let name =
            if dead.is_empty() { format!("{arch:?}") } else { format!("{arch:?}, {} features dead", dead.len()) };
        println!("{}", cost.lock().expect("no thread panics").row(&name, FULL.batch));
    }
}

/// Configurations whose steps launch every kernel in every form.
fn configs() -> Vec<TrainConfig> {
    let base = |arch| TrainConfig { features: 16_384, batch: 2048, ..TrainConfig::for_architecture(arch) };
    let both = Architecture::ALL.into_iter().flat_map(|arch| {
        let free = TrainConfig { decoder: Decoder::Free, rescale_by_decoder_norm: true, ..base(arch) };
        let unit = TrainConfig { decoder: Decoder::Unit, ..base(arch) };
        [
            TrainConfig { subtract_b_dec: true, jumprelu_penalty: JumpReluPenalty::Step, ..free },
            TrainConfig { subtract_b_dec: false, jumprelu_penalty: JumpReluPenalty::Tanh, ..unit },
        ]
    });
    both.collect()
}

/// Heads of LLaVA-1.5 (its tower and its decoder), Qwen2.5-VL (the same) and Gemma 3: queries, keys, width.
const HEADS: [[usize; 3]; 5] = [[16, 16, 64], [32, 32, 128], [16, 16, 80], [28, 4, 128], [8, 4, 256]];

/// Attention in both number formats.
fn attention([heads, kv_heads, head_dim]: [usize; 3], client: &Client) {
    const ROWS: usize = 1024;
    let heads = Heads { heads, kv_heads, head_dim, scale: 1.0, cap: None };
    for format in [f32::elem_type_native(), half::bf16::elem_type_native()] {
        let array = |len: usize, size: usize| {
            let layout = client.empty_tensor([1, len].into(), size);
            TensorBinding {
                handle: layout.memory.binding(),
                strides: layout.strides,
                shape: [1, len].into(),
                tiling: Tiling::UNTILED,
            }
            .into_buffer_arg()
        };
        let wide = |heads: usize| array(ROWS * heads * head_dim, format.size());
        let (q, k, v, out) = (wide(heads.heads), wide(kv_heads), wide(kv_heads), wide(heads.heads));
        let visible = array(gpu_attention::packed(&vec![0..1; ROWS]).len(), 4);
        gpu_attention::launch(client, [q, k, v, visible, out], ROWS, heads, format);
    }
}

/// A step; `start` is called when the parameters are on the device.
fn step(config: &TrainConfig, d: usize, dead: &[u32], client: &Client, start: &mut dyn FnMut()) {
    let (x, ends) = (vec![0.0; d * config.batch], config_ends(config, d));
    let narrow = half::bf16::elem_type_native();
    // Zeros, since no kernel runs; random numbers at full size would take a minute.
    let mut engine = GpuEngine::new(config, Params::zeros(d, config), client.clone(), narrow, PRODUCT_BYTES);
    engine.wait().expect("nothing runs that could fail");
    start();
    let batch = Batch { x: &x, y: &x, t: 1, lr: 1e-4, sparsity: 1.0, ends: &ends, dead };
    engine.step(&batch).expect("zeros train");
}

/// Ends of Matryoshka's prefixes.
fn config_ends(config: &TrainConfig, d: usize) -> Vec<usize> {
    let features = config.d_sae(d);
    if config.arch == Architecture::Matryoshka { vec![features / 4, features] } else { vec![features] }
}

impl SourceWriter {
    fn new(id: DeviceId, version: u32, folder: Option<PathBuf>, cost: Arc<Mutex<Cost>>) -> Self {
        let properties = properties(version);
        let options = CompilationOptions {
            supports_features: CppSupportedFeatures {
                fast_math: true,
                dp4a: true,
                grid_constants: true,
                fast_tanh: true,
                clusters: version >= 90,
                elect_sync: version >= 90,
            },
            ..CompilationOptions::default()
        };
        let service = ServiceId::of::<Self>(id);
        let policy = ContiguousMemoryLayoutPolicy::new(512);
        let logger = Arc::new(ServerLogger::default());
        let (utilities, _) = ServerUtilities::init(service, "cuda", properties, target(), logger, policy);
        Self { folder, cost, options, utilities: Arc::new(utilities), written: HashSet::new() }
    }
}

/// The properties that CubeCL's CUDA runtime states for a data center GPU of this compute capability (`cubecl-cuda`,
/// `runtime.rs`), as far as the kernels of a training step depend on them.
fn properties(version: u32) -> DeviceProperties {
    let arch = CudaArchitecture { version, tensor_cores: true };
    let hardware = HardwareProperties {
        load_width: 128,
        vector_register_count: None,
        plane_size_min: 32,
        plane_size_max: 32,
        max_bindings: 1024,
        // CUDA's programming guide, technical specifications per compute capability.
        max_shared_memory_size: if version >= 90 { 227 << 10 } else { 163 << 10 },
        max_cube_count: (i32::MAX as u32, 65_535, 65_535),
        max_units_per_cube: 1024,
        max_cube_dim: (1024, 1024, 64),
        num_streaming_multiprocessors: Some(if version >= 90 { 132 } else { 108 }),
        num_tensor_cores: Some(4),
        min_tensor_cores_dim: Some(8),
        num_cpu_cores: None,
        last_level_cache_size: None,
        max_vector_size: VectorSize::MAX,
        cube_mma_reserved_shared_memory: 0,
    };
    let memory = MemoryDeviceProperties::new(20 << 30, 512).with_max_memory(80 << 30);
    let identity =
        DeviceIdentity { name: format!("sm_{version}"), fingerprint: format!("ptx_sm{version}"), physical: None };
    let mut all = DeviceProperties::new(Default::default(), memory, hardware, TimingMethod::Device, identity);
    register_supported_types(&mut all);
    all.register_opaque_type(OpaqueType::Barrier);
    for float in [FloatKind::F16, FloatKind::BF16] {
        all.features.matmul.ldmatrix.insert(ElemType::Float(float));
        if version >= 90 {
            all.features.matmul.stmatrix.insert(ElemType::Float(float));
        }
    }
    all.features.copy_async = true;
    all.features.memory_reinterpret = true;
    all.features.alignment = true;
    all.features.device_memory_scope = true;
    [Plane::Sync, Plane::Ops, Plane::NonUniformControlFlow].into_iter().for_each(|plane| {
        all.features.plane.insert(plane);
    });
    if version >= 90 {
        all.features.tma.insert(Tma::Base);
        all.register_opaque_type(OpaqueType::TensorMap);
        all.features.cube_cluster = true;
    }
    register_wmma_features(CudaCmmaCompiler::Cpp.supported_cmma_combinations(&arch), &mut all);
    register_mma_features(supported_mma_combinations(&arch), &mut all);
    all
}

fn target() -> TargetProperties {
    TargetProperties {
        mma: MmaProperties {
            register_size_bits: 32,
            const_plane_size: 32,
            register_layout_a: MatrixLayout::RowMajor,
            register_layout_b: MatrixLayout::ColMajor,
            register_layout_acc: MatrixLayout::RowMajor,
            register_duplication_a: 1,
            register_duplication_b: 1,
            register_duplication_acc: 1,
            contiguous_elements: ContiguousElements::new(contiguous_elements_cuda),
        },
    }
}

impl DeviceService for SourceWriter {
    fn init(_: DeviceId) -> Self {
        unreachable!("the device is registered before a client asks for it")
    }

    fn utilities(&self) -> ServerUtilitiesHandle {
        self.utilities.clone()
    }
}

impl ServerCommunication for SourceWriter {}

impl Server for SourceWriter {
    fn initialize_memory(&mut self, _: ManagedMemoryHandle, _: u64, _: StreamId) -> Result<(), ServerError> {
        Ok(())
    }

    fn logger(&self) -> Arc<ServerLogger> {
        self.utilities.logger.clone()
    }

    fn utilities(&self) -> Arc<ServerUtilities> {
        self.utilities.clone()
    }

    fn read(&mut self, arrays: Vec<CopyDescriptor>, _: StreamId) -> DynFut<Result<Vec<Bytes>, ServerError>> {
        let bytes = |array: CopyDescriptor| array.shape.iter().product::<usize>() * array.elem_size;
        let zeros: Vec<_> = arrays.into_iter().map(|array| Bytes::from_bytes_vec(vec![0; bytes(array)])).collect();
        let mut cost = self.cost.lock().expect("no thread panics");
        cost.waits += 1;
        cost.read += zeros.iter().map(|array| array.len() as u64).sum::<u64>();
        Box::pin(async move { Ok(zeros) })
    }

    fn write(&mut self, arrays: Vec<(CopyDescriptor, Bytes)>, _: StreamId) {
        let written: u64 = arrays.iter().map(|(_, bytes)| bytes.len() as u64).sum();
        self.cost.lock().expect("no thread panics").written += written;
    }

    fn sync(&mut self, _: Vec<BufferBinding>, _: StreamId) -> DynFut<Result<(), ServerError>> {
        Box::pin(async { Ok(()) })
    }

    fn check(&mut self, _: Vec<BufferBinding>, _: StreamId) -> Result<(), ServerError> {
        Ok(())
    }

    /// Counts the launch, and writes the kernel's source.
    unsafe fn launch(
        &mut self,
        kernel: Box<dyn CubeKernel>,
        count: CubeCount,
        arguments: KernelArguments,
        _: StreamId,
        _: LaunchMode,
    ) {
        let definition = define_kernel(&*kernel).expect("the kernel expands");
        let name = definition.settings.kernel_name.to_string();
        let units = definition.settings.cube_dim.num_elems();
        self.cost.lock().expect("no thread panics").launched(&name, &count, &arguments, FULL);
        let Some(folder) = &self.folder else { return };
        if self.written.insert(name.clone()) {
            let mut compiler = CppCompiler::<Cuda>::default();
            let source = compiler.compile(definition, &self.options).expect("the kernel compiles");
            let source = format!("// shared memory: {}\n// units: {units}\n{source}", source.shared_memory_size);
            std::fs::write(folder.join(format!("{name}.cu")), source).expect("the folder can be written to");
        }
    }

    fn flush(&mut self, _: StreamId) -> Result<(), ServerError> {
        Ok(())
    }

    fn memory_report(&mut self, _: StreamId) -> Option<StreamMemoryReport> {
        None
    }

    fn memory_cleanup(&mut self, _: StreamId) -> Result<(), ServerError> {
        Ok(())
    }

    fn start_profile(&mut self, _: StreamId) -> Result<ProfilingToken, ServerError> {
        Ok(ProfilingToken { id: 0 })
    }

    fn end_profile(&mut self, _: StreamId, _: ProfilingToken) -> Result<ProfileDuration, ProfileError> {
        unreachable!("nothing is measured on this device")
    }

    fn allocation_mode(&mut self, _: MemoryAllocationMode, _: StreamId) {}
}

/// No memory: nothing is computed.
struct NoStorage;

impl ComputeStorage for NoStorage {
    type Resource = ();

    fn alignment(&self) -> usize {
        512
    }

    fn get(&mut self, _: &StorageHandle) -> Result<(), IoError> {
        Ok(())
    }

    fn alloc(&mut self, _: u64) -> Result<StorageHandle, IoError> {
        unreachable!("the device allocates nothing")
    }

    fn dealloc(&mut self, _: StorageId) {}

    fn flush(&mut self) {}

    fn bytes_allocated(&self) -> u64 {
        0
    }
}

impl ServerStorage for SourceWriter {
    type Storage = NoStorage;

    fn get_resource(&mut self, _: BufferBinding, _: StreamId) -> Result<ManagedResource<()>, ServerError> {
        unreachable!("the training step reads no memory in place")
    }
}
