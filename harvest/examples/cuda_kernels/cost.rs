//! What a training step asks of a device: launches, readings by the host, operations and bytes, and the time that a GPU needs
//! for them at least. Launches, readings and the sizes of arrays are counted as the device gets them; what a kernel does with
//! its arrays is a formula for each kernel.

use cubecl::prelude::CubeCount;
use cubecl::server::{KernelArguments, KernelResource};
use std::collections::BTreeMap;

/// Operations per second of an H100's tensor cores in bf16, as measured products reach them.
const OPERATIONS_PER_S: f64 = 800e12;
/// Bytes per second of an H100's memory.
const BYTES_PER_S: f64 = 3.0e12;

/// The sizes of a step.
#[derive(Clone, Copy, Debug)]
pub struct StepShape {
    pub d: u64,
    pub f: u64,
    pub k: u64,
    pub batch: u64,
}

/// What a device was asked to do.
#[derive(Debug, Default)]
pub struct Cost {
    /// Launches and bytes of each kernel.
    kernels: BTreeMap<String, (u64, u64)>,
    /// Operations of the encoder's product.
    product: u64,
    /// How often the host waited, and the bytes that it read and wrote.
    pub waits: u64,
    pub read: u64,
    pub written: u64,
}

impl Cost {
    /// Adds a launch. Where a token has room for more entries than it needs, `k` are counted.
    pub fn launched(&mut self, kernel: &str, count: &CubeCount, arguments: &KernelArguments, shape: StepShape) {
        let StepShape { d, f, k, batch } = shape;
        let CubeCount::Static(cubes, ..) = *count else { unreachable!("no kernel of a step has a dynamic count") };
        let rows = u64::from(cubes);
        let sizes: Vec<u64> = arguments
            .resources
            .iter()
            .filter_map(|resource| match resource {
                KernelResource::Buffer(buffer) => Some(buffer.size),
                _ => None,
            })
            .collect();
        let all: u64 = sizes.iter().sum();
        // Without a hash of the kernel's configuration, and without its types.
        let name = kernel.rsplit_once('_').map_or(kernel, |(name, _)| name);
        let name = name.split("_n_bf16").next().unwrap_or(name);
        let entries = |bytes: u64| if bytes / 4 == batch * (4 * k + 16) { batch * k } else { bytes / 4 };
        let products = 4 * rows * f;
        let bytes = match name {
            _ if name.starts_with("matmul") => {
                let tokens = sizes[2] / (4 * f);
                self.product += 2 * tokens * d * f;
                2 * (tokens + f) * d + 4 * tokens * f
            }
            // Three passes of the search, one that counts, one that writes.
            "strongest" if sizes[0] >= products => 5 * if sizes[1] == 4 * f { products } else { rows * sizes[1] },
            "strongest" => 5 * 2 * 4 * entries(sizes[0]),
            // One pass that counts, one that writes.
            "above" if sizes[0] >= products => 2 * products + 4 * rows * d,
            "above" => 2 * 2 * 4 * entries(sizes[0]),
            // The rows of a matrix for all entries; the tokens' vectors once.
            "dots" => 4 * d * (entries(sizes[4]) + rows),
            "residuals" => 4 * d * entries(sizes[3]) + sizes[0] + sizes[7],
            // Input and residual of every entry, and what is written.
            "gradients" => 4 * d * 2 * (sizes[1] / 4).min(entries(sizes[2])) + 2 * 4 * d * f,
            // Weights, moments and gradient are read, weights and moments are written.
            "adam" => 7 * sizes[0],
            _ => all,
        };
        let (launches, total) = self.kernels.entry(name.to_owned()).or_default();
        *launches += 1;
        *total += bytes;
    }

    /// The head of a table of [`Self::row`].
    pub fn head() -> String {
        let columns = "launches | waits | up, MiB | down, MiB | product, TFLOP | bytes, GB | of the selection | of the gradients and \
                       Adam | product, ms | memory, ms | tokens/s at most";
        format!("| step | {columns} |\n|---|{}", "---:|".repeat(11))
    }

    /// The row of a step of so many tokens.
    pub fn row(&self, name: &str, tokens: u64) -> String {
        let launches: u64 = self.kernels.values().map(|(launches, _)| launches).sum();
        let of = |names: &[&str]| -> f64 {
            let named = self.kernels.iter().filter(|(name, _)| names.contains(&name.as_str()));
            named.map(|(_, (_, bytes))| *bytes).sum::<u64>() as f64 / 1e9
        };
        let bytes = self.kernels.values().map(|(_, bytes)| *bytes as f64).sum::<f64>();
        let outside = self.kernels.iter().filter(|(name, _)| !name.starts_with("matmul"));
        let outside = outside.map(|(_, (_, bytes))| *bytes as f64).sum::<f64>();
        let (compute, memory) = (self.product as f64 / OPERATIONS_PER_S, outside / BYTES_PER_S);
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        format!(
            "| {name} | {launches} | {} | {:.0} | {:.1} | {:.1} | {:.1} | {:.1} | {:.1} | {:.1} | {:.1} | {:.0} |",
            self.waits,
            mib(self.written),
            mib(self.read),
            self.product as f64 / 1e12,
            bytes / 1e9,
            of(&["strongest", "above", "digits", "pick", "ascending"]),
            of(&["gradients", "norms_of_gradients", "adam"]),
            compute * 1e3,
            memory * 1e3,
            tokens as f64 / (compute + memory),
        )
    }
}
