//! What happens when a device fails while it trains: a kernel that the device cannot run, and a device that is lost, as after
//! a driver's reset. Both happen to a real device, Mesa's software one where there is no GPU.

use super::memory::{allocate, fetch};
use super::select::UNITS;
use super::*;
use crate::autoencoder::Architecture;
use crate::device::DeviceChoice;
use crate::error::{Hint, Setting};
use crate::fixture;
use crate::train::engine::Batch;
use cubecl::prelude::*;

const D: usize = 6;

fn config() -> TrainConfig {
    TrainConfig { features: 24, k: 3, batch: 32, ..TrainConfig::for_architecture(Architecture::TopK) }
}

fn step(engine: &mut dyn Engine, t: u64) -> Result<crate::train::engine::StepStats> {
    let x = fixture::hidden(32, D, t);
    engine.step(&Batch { x: &x, y: &x, t, lr: 1e-3, sparsity: 0.0, ends: &[24], dead: &[] })
}

/// A device's error says what happened on one line (with this word), without a driver's backtrace, and what to do.
fn is_explained(error: &Error, word: &str) {
    let text = error.to_string();
    assert!(matches!(error, Error::Device(_)), "{text}");
    assert!(text.starts_with("the device failed: ") && text.to_lowercase().contains(word), "{text}");
    assert!(!text.contains('\n') && !text.contains("Backtrace"), "{text}");
    assert_eq!(error.hint(), Some(Hint::set(Setting::Device, "cpu")));
}

/// A kernel with more shared memory than any GPU has.
#[cube(launch)]
fn too_large(out: &mut [f32]) {
    let mut shared = Shared::<[f32]>::new_slice(1usize << 26);
    shared[UNIT_POS as usize] = 1.0;
    sync_cube();
    out[UNIT_POS as usize] = shared[0];
}

#[test]
fn a_kernel_that_a_device_cannot_run_is_an_error_and_the_next_kernel_runs() {
    for device in DeviceChoice::found() {
        let client = Gpu::from_device(&device).unwrap().client();
        let out = allocate(&client, UNITS, 4);
        too_large::launch(&client, CubeCount::Static(1, 1, 1), units(), out.arg());
        is_explained(&fetch::<f32>(&client, &out).unwrap_err(), "shared memory");

        let mut engine = sparse(&config(), Params::initial(D, &config()), &device).unwrap();
        step(&mut engine, 1).unwrap();
    }
}

/// A device of our own, so that no other test loses it.
#[cfg(feature = "vulkan")]
#[test]
fn a_device_that_is_lost_stops_the_training_and_the_last_state_continues_on_a_cpu() {
    use crate::train::cpu::CpuEngine;
    use cubecl::future::block_on;
    use cubecl::wgpu::{RuntimeOptions, WgpuSetup, init_device, wgpu};

    let instance = wgpu::Instance::default();
    let Ok(adapter) = block_on(instance.request_adapter(&wgpu::RequestAdapterOptions::default())) else { return };
    let (device, queue) = block_on(
        adapter.request_device(&wgpu::DeviceDescriptor { required_limits: adapter.limits(), ..Default::default() }),
    )
    .unwrap();
    let backend = adapter.get_info().backend;
    let setup = WgpuSetup { instance, adapter, device: device.clone(), queue, backend };
    let client = cubecl::Device::from(init_device(setup, RuntimeOptions::default())).client();

    let params = Params::initial(D, &config());
    let mut engine = GpuEngine::new(&config(), params, client, f32::elem_type_native(), PRODUCT_BYTES);
    (1..=2).for_each(|t| drop(step(&mut engine, t).unwrap()));
    let saved = engine.state().unwrap().into_owned();

    device.destroy();
    is_explained(&step(&mut engine, 3).unwrap_err(), "");
    is_explained(&engine.state().unwrap_err(), "");

    let mut other = CpuEngine::new(&config(), Params::zeros(D, &config()));
    other.restore(saved).unwrap();
    assert!(step(&mut other, 3).unwrap().mse.is_finite());
}
