//! The end of an image file, where decoders and Pillow differ. What Pillow does not need is added, and a file that
//! Pillow rejects because it is shorter than its header says is rejected.

use image::ImageFormat;
use std::borrow::Cow;

/// The file with an end that decoders accept, or nothing if it is shorter than it says.
pub(super) fn complete(file: &[u8], format: ImageFormat) -> Option<Cow<'_, [u8]>> {
    match format {
        ImageFormat::WebP => {
            let size = file.get(4..8).and_then(<[u8]>::first_chunk).map_or(0, |size| u32::from_le_bytes(*size));
            (file.len() as u64 >= u64::from(size) + 8).then_some(file.into())
        }
        // The padding of the last row may be missing.
        ImageFormat::Bmp => Some([file, &[0; 3][..bmp_padding(file)]].concat().into()),
        ImageFormat::Png => Some(png_with_end(file)),
        _ => Some(file.into()),
    }
}

/// Number of bytes that pad a row of a BMP file to a multiple of four.
fn bmp_padding(file: &[u8]) -> usize {
    let (Some(&[a, b, c, d]), Some(&[low, high])) =
        (file.get(18..22).and_then(<[u8]>::first_chunk), file.get(28..30).and_then(<[u8]>::first_chunk))
    else {
        return 0;
    };
    let bits = u64::from(u32::from_le_bytes([a, b, c, d])) * u64::from(u16::from_le_bytes([low, high]));
    (bits.div_ceil(8).wrapping_neg() % 4) as usize
}

/// A PNG file with an end marker behind its image. The marker may be missing, or come after other frames that are
/// truncated.
fn png_with_end(file: &[u8]) -> Cow<'_, [u8]> {
    const END: [u8; 12] = [0, 0, 0, 0, b'I', b'E', b'N', b'D', 0xae, 0x42, 0x60, 0x82];
    let (mut at, mut image) = (8, false);
    while let Some((length, rest)) = file.get(at..).and_then(<[u8]>::split_first_chunk::<4>) {
        let length = u32::from_be_bytes(*length) as usize;
        let kind = &rest[..rest.len().min(4)];
        if kind == b"IEND" || (kind == b"IDAT" && rest.len() < length.saturating_add(8)) {
            return file.into();
        }
        if rest.len() < length.saturating_add(8) {
            break;
        }
        image |= kind == b"IDAT";
        at += length + 12;
    }
    if image { [&file[..at], &END].concat().into() } else { file.into() }
}
