//! The memory that loading a model takes besides its weights, counted by an allocator.

use crate::golden::repository;
use burn::tensor::{DType, Device, Tensor};
use harvest::Checkpoint;
use harvest::model::{Compute, Model, Weights};
use sae_core::device::DeviceChoice;
use sae_core::store::Hook;
use sae_core::tensors::Tensors;
use std::alloc::{GlobalAlloc, Layout, System};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Allocates with the system's allocator, and counts bytes.
struct Counting;

static HELD: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// SAFETY: both calls go to the system's allocator with the arguments that the caller vouches for; only numbers are added.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let held = HELD.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        MOST.fetch_max(held, Ordering::Relaxed);
        // SAFETY: the caller's promises about `layout` are those that the system's allocator asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the pointer comes from `alloc` with this layout, hence from the system's allocator.
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// Set in the process that counts.
const ALONE: &str = "SAE_TEST_COUNTS_MEMORY";

/// Runs in a process of its own, because other tests allocate too.
#[test]
fn loading_a_model_holds_single_tensors_besides_the_weights() {
    if std::env::var_os(ALONE).is_some() {
        return count();
    }
    let name = "memory::loading_a_model_holds_single_tensors_besides_the_weights";
    let mut alone = Command::new(std::env::current_exe().unwrap());
    let output = alone.args([name, "--exact", "--nocapture"]).env(ALONE, "1").output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}

fn count() {
    let checkpoint = Checkpoint::open(&repository().join("assets/demo-mllm")).unwrap();
    let last = checkpoint.config().text.layers.len() - 1;
    let tensors = Tensors::open(&repository().join("assets/demo-mllm/model.safetensors")).unwrap();
    // The embedding and the head are not loaded.
    let loaded = |name: &&String| !name.contains("embed_tokens") && !name.contains("lm_head");
    let numbers = |name: &String| tensors.shape(name).unwrap().iter().product::<usize>();
    let largest = tensors.names().iter().filter(loaded).map(numbers).max().unwrap();
    let all = Model::size(
        checkpoint.config(),
        &Weights::open(&repository().join("assets/demo-mllm")).unwrap(),
        Hook::block(last),
    );
    let devices = [Device::flex()].into_iter().chain(DeviceChoice::found());
    let on_devices = devices.flat_map(|device| {
        [DType::F32, DType::BF16]
            .into_iter()
            .filter(|dtype| device.supports_dtype(*dtype))
            .map(|dtype| Compute::Device(device.clone(), dtype))
            .collect::<Vec<_>>()
    });
    let on_host = [false, true].map(|bf16| Compute::Host { bf16 });
    for compute in on_host.into_iter().chain(on_devices) {
        let width = match &compute {
            Compute::Host { bf16: false } | Compute::Device(_, DType::F32) => 4,
            _ => 2,
        };
        if let Compute::Device(device, dtype) = &compute {
            // Opens the device, which takes memory once.
            let _ = Tensor::<1>::zeros([16], (device, *dtype)).into_data();
        }
        let before = HELD.load(Ordering::Relaxed);
        MOST.store(before, Ordering::Relaxed);
        let model = checkpoint.load(Some(last), &compute).unwrap();
        let (held, most) = (HELD.load(Ordering::Relaxed) - before, MOST.load(Ordering::Relaxed) - before);
        // On a CPU the weights are in memory after loading; on a GPU they are not, and must not have been.
        let (more, allowed) = (most - held, 2 * largest * width);
        assert!(more <= allowed, "{compute:?}: {more} bytes besides {held}, {allowed} are allowed");
        assert!(allowed * 20 < all.numbers as usize * width, "the test could not fail");
        drop(model);
    }
}
