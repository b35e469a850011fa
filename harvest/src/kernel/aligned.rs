//! Buffers that begin at the start of a cache line, so that no vector of a panel spans two cache lines.

/// Size of a cache line in bytes.
const LINE: usize = 64;

/// A buffer whose first value is at the start of a cache line.
pub(super) struct Aligned<T> {
    values: Vec<T>,
    skip: usize,
    len: usize,
}

impl<T: Copy + Default> Default for Aligned<T> {
    fn default() -> Self {
        Self::new(0)
    }
}

impl<T: Copy + Default> Aligned<T> {
    pub(super) fn new(len: usize) -> Self {
        let values = vec![T::default(); len + LINE / size_of::<T>()];
        let skip = values.as_ptr().align_offset(LINE).min(LINE / size_of::<T>());
        Self { values, skip, len }
    }

    /// Grows the buffer to at least `len` values. The previous content may be lost.
    pub(super) fn at_least(&mut self, len: usize) {
        if self.len < len {
            *self = Self::new(len);
        }
    }
}

impl<T> std::ops::Deref for Aligned<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.values[self.skip..][..self.len]
    }
}

impl<T> std::ops::DerefMut for Aligned<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.values[self.skip..][..self.len]
    }
}
