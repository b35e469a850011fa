//! The numbers that part files hold, as little-endian bytes.

use crate::tensors::Dtype;

/// A number that a tensor of a part can hold.
pub trait Number: Copy {
    /// Its type in the file.
    const DTYPE: Dtype;
    /// Bytes of one.
    const BYTES: usize;

    /// Appends it to bytes.
    fn put(self, bytes: &mut Vec<u8>);

    /// Reads it from exactly [`Number::BYTES`] bytes.
    ///
    /// # Panics
    /// If there are more or fewer bytes.
    fn get(bytes: &[u8]) -> Self;
}

macro_rules! number {
    ($($type:ty => $dtype:ident),* $(,)?) => {$(
        impl Number for $type {
            const DTYPE: Dtype = Dtype::$dtype;
            const BYTES: usize = size_of::<$type>();

            fn put(self, bytes: &mut Vec<u8>) {
                bytes.extend(self.to_le_bytes());
            }

            fn get(bytes: &[u8]) -> Self {
                Self::from_le_bytes(bytes.try_into().expect("as many bytes as the number has"))
            }
        }
    )*};
}

number!(u8 => U8, i16 => I16, u32 => U32, u64 => U64, f32 => F32, f64 => F64);
