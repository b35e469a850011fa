//! The header of a `.npy` file: a Python literal with three keys, which is parsed and never evaluated. Reads no
//! numbers.

use sae_core::tensors::Dtype;

/// The content of a header.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Header {
    pub dtype: Dtype,
    pub shape: Vec<usize>,
    /// Offset of the numbers in the file.
    pub data: usize,
}

/// Largest header that is read, in bytes. NumPy pads headers to 64 bytes and writes far less than this for arrays of
/// floats.
const LONGEST: usize = 1 << 16;

impl Header {
    /// Reads the header at the beginning of a file.
    ///
    /// # Errors
    /// What is wrong with the header.
    pub fn read(bytes: &[u8]) -> Result<Self, String> {
        let rest = bytes.strip_prefix(b"\x93NUMPY").ok_or("expected a .npy file, which begins with \\x93NUMPY")?;
        let number = |from: usize, to: usize| {
            let bytes = rest.get(from..to)?;
            Some(bytes.iter().rev().fold(0usize, |n, byte| n << 8 | usize::from(*byte)))
        };
        let cut = "the file is truncated inside its header";
        let (start, length) = match rest.first().ok_or(cut)? {
            1 => (4, number(2, 4).ok_or(cut)?),
            2 | 3 => (6, number(2, 6).ok_or(cut)?),
            version => return Err(format!("unsupported version {version} of .npy: expected 1 to 3")),
        };
        if length > LONGEST {
            return Err(format!("the header has {length} bytes, more than the limit of {LONGEST}"));
        }
        let text = std::str::from_utf8(rest.get(start..start + length).ok_or(cut)?).map_err(|e| e.to_string())?;
        let (descr, columns_first, shape) = Literal(text)
            .header()
            .ok_or_else(|| format!("the header is not that of a plain array: {}", text.trim()))?;
        if columns_first {
            return Err("the array is in Fortran order: expected C order (use numpy.ascontiguousarray)".into());
        }
        let dtype = match descr {
            "<f4" => Dtype::F32,
            "<f2" => Dtype::F16,
            _ => return Err(format!("the array holds {descr:?}: expected float32 (<f4) or float16 (<f2)")),
        };
        Ok(Self { dtype, shape, data: 6 + start + length })
    }
}

/// The rest of a Python literal that has not been parsed yet.
struct Literal<'a>(&'a str);

impl<'a> Literal<'a> {
    /// `{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }` with each key exactly once, and nothing behind it.
    fn header(mut self) -> Option<(&'a str, bool, Vec<usize>)> {
        let (mut descr, mut order, mut shape) = (None, None, None);
        self.take("{")?;
        while self.take("}").is_none() {
            let key = self.quoted()?;
            self.take(":")?;
            let repeated = match key {
                "descr" => descr.replace(self.quoted()?).is_some(),
                "fortran_order" => order
                    .replace(self.take("False").map(|()| false).or_else(|| self.take("True").map(|()| true))?)
                    .is_some(),
                "shape" => shape.replace(self.tuple()?).is_some(),
                _ => return None,
            };
            if repeated || (self.take(",").is_none() && !self.0.trim_start().starts_with('}')) {
                return None;
            }
        }
        self.0.trim().is_empty().then_some(())?;
        Some((descr?, order?, shape?))
    }

    fn take(&mut self, text: &str) -> Option<()> {
        self.0 = self.0.trim_start().strip_prefix(text)?;
        Some(())
    }

    fn quoted(&mut self) -> Option<&'a str> {
        let rest = self.0.trim_start();
        let quote = rest.chars().next().filter(|c| ['\'', '"'].contains(c))?;
        let (text, rest) = rest[1..].split_once(quote)?;
        self.0 = rest;
        (!text.contains('\\')).then_some(text)
    }

    fn tuple(&mut self) -> Option<Vec<usize>> {
        self.take("(")?;
        let (inner, rest) = self.0.split_once(')')?;
        self.0 = rest;
        let inner = inner.trim();
        let inner = inner.strip_suffix(',').unwrap_or(inner);
        let sizes = inner.split(',').map(|size| {
            let size = size.trim();
            size.bytes().all(|byte| byte.is_ascii_digit()).then(|| size.parse().ok()).flatten()
        });
        if inner.is_empty() { Some(Vec::new()) } else { sizes.collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> Vec<u8> {
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend((text.len() as u16).to_le_bytes());
        bytes.extend(text.as_bytes());
        bytes
    }

    #[test]
    fn headers_are_read_strictly() {
        let good = file("{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }   \n");
        let header = Header::read(&good).unwrap();
        assert_eq!((header.dtype, header.shape, header.data), (Dtype::F32, vec![3, 4], good.len()));
        let half = Header::read(&file("{\"shape\": (7,), \"descr\": \"<f2\", \"fortran_order\": False}")).unwrap();
        assert_eq!((half.dtype, half.shape), (Dtype::F16, vec![7]));
        for (text, expected) in [
            ("{'descr': '<f4', 'fortran_order': True, 'shape': (3, 4), }", "Fortran"),
            ("{'descr': '|O', 'fortran_order': False, 'shape': (3,), }", "float32"),
            ("{'descr': '>f4', 'fortran_order': False, 'shape': (3,), }", "float32"),
            ("{'descr': '<f4', 'fortran_order': False}", "plain array"),
            ("{'descr': '<f4', 'fortran_order': False, 'shape': (3, -4)}", "plain array"),
            ("{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), 'shape': (1,)}", "plain array"),
            ("{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4)} + exit()", "plain array"),
            ("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (3,)}", "plain array"),
            ("{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999999,)}", "plain array"),
        ] {
            let error = Header::read(&file(text)).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
        assert!(Header::read(&good[..20]).unwrap_err().contains("truncated inside its header"));
        assert!(Header::read(b"\x93NUMPY\x02\x00\xff\xff\xff\xff").unwrap_err().contains("more than"));
        assert!(Header::read(b"PK").unwrap_err().contains("expected a .npy file"));
    }
}
