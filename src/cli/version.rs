//! What `sae --version` prints: the version, the commit it was built from, the features it was built with, and the vector
//! instructions that its kernels use on this processor. A report of wrong results or speed needs all four.

use std::sync::LazyLock;

/// Such as `0.1.0 (commit 3b1f0c2 2026-11-28, features: none, CPU: AVX2 and FMA)`.
pub fn long() -> &'static str {
    static LONG: LazyLock<String> = LazyLock::new(|| {
        let commit = match env!("SAE_COMMIT") {
            "" => "unknown",
            commit => commit,
        };
        let built = [
            ("cuda", cfg!(feature = "cuda")),
            ("vulkan", cfg!(feature = "vulkan")),
            ("metal", cfg!(feature = "metal")),
            ("rocm", cfg!(feature = "rocm")),
        ];
        let names: Vec<_> = built.into_iter().filter(|(_, built)| *built).map(|(name, _)| name).collect();
        let features = if names.is_empty() { "none".into() } else { names.join(" ") };
        let version = env!("CARGO_PKG_VERSION");
        format!("{version} (commit {commit}, features: {features}, CPU: {})", instructions())
    });
    &LONG
}

/// The widest vector instructions that the kernels find on this processor.
fn instructions() -> &'static str {
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bw") {
            return "AVX-512";
        }
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            return "AVX2 and FMA";
        }
    }
    "baseline instructions"
}
