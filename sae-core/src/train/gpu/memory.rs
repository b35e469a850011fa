//! Arrays on a device: allocation, views of some of their rows, upload and download. Knows nothing of what is in them.

use crate::Result;
use crate::device::failed;
use cubecl::bytes::Bytes;
use cubecl::client::Client;
use cubecl::prelude::*;
use cubecl::server::Handle;
use cubecl::zspace::{Shape, Strides, Tiling};

/// An array on the device.
#[derive(Clone, Debug)]
pub struct Buffer {
    handle: Handle,
    len: usize,
}

impl Buffer {
    /// Some of its elements, all of four bytes. Devices want views to begin at multiples of 256 bytes.
    pub fn part(&self, first: usize, len: usize) -> Self {
        Self { handle: self.handle.clone().offset_start(4 * first as u64), len }
    }

    /// As an argument of a kernel.
    pub fn arg(&self) -> BufferArg {
        self.matrix([1, self.len], [self.len, 1]).into_buffer_arg()
    }

    /// As a matrix of a product.
    pub fn matrix(&self, shape: [usize; 2], strides: [usize; 2]) -> TensorBinding {
        TensorBinding {
            handle: self.handle.clone().binding(),
            strides: Strides::new(&strides),
            shape: Shape::new(shape),
            tiling: Tiling::UNTILED,
        }
    }
}

/// Copies numbers to the device.
pub fn upload<T: CubeElement>(client: &Client, values: &[T]) -> Buffer {
    // An empty array cannot be bound.
    let spare = [T::zeroed()];
    let values = if values.is_empty() { &spare[..] } else { values };
    Buffer { handle: client.create_from_slice(T::as_bytes(values)), len: values.len() }
}

/// Memory for `len` elements of `bytes` each, with unknown contents.
pub fn allocate(client: &Client, len: usize, bytes: usize) -> Buffer {
    let len = len.max(1);
    Buffer { handle: client.empty(len * bytes), len }
}

/// An array that was copied to the host.
pub struct Fetched {
    bytes: Bytes,
    len: usize,
}

impl Fetched {
    /// How many numbers it has.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Its numbers, which have to be of this type.
    pub fn numbers<T: CubeElement>(&self) -> &[T] {
        &T::from_bytes(&self.bytes)[..self.len]
    }
}

#[cfg(test)]
std::thread_local! {
    /// How often this thread has waited for a device.
    pub static WAITS: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

/// Copies arrays to the host together, because the host waits for everything that the device was asked before.
///
/// # Errors
/// This or an earlier kernel failed on the device.
pub fn fetch_all<'a>(client: &Client, buffers: impl IntoIterator<Item = &'a Buffer>) -> Result<Vec<Fetched>> {
    #[cfg(test)]
    WAITS.set(WAITS.get() + 1);
    let (handles, lens): (Vec<_>, Vec<_>) = buffers.into_iter().map(|b| (b.handle.clone(), b.len)).unzip();
    let read = client.read(handles).map_err(failed)?;
    Ok(read.into_iter().zip(lens).map(|(bytes, len)| Fetched { bytes, len }).collect())
}

/// Copies an array to the host.
///
/// # Errors
/// This or an earlier kernel failed on the device.
pub fn fetch<T: CubeElement>(client: &Client, buffer: &Buffer) -> Result<Vec<T>> {
    Ok(fetch_all(client, [buffer])?[0].numbers().to_vec())
}
