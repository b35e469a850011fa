//! Numbers for people: counts with separators, sizes in bytes.

pub use sae_core::numbers::{count, counted};

/// A number of bytes: `512 MiB`, `1.5 GiB`.
pub fn size(bytes: u64) -> String {
    let mib = bytes as f64 / f64::from(1 << 20);
    if mib < 1024.0 { format!("{mib:.0} MiB") } else { format!("{:.1} GiB", mib / 1024.0) }
}

/// A share in percent, with as few digits as possible: 0.07 is `7`, although `100.0 * 0.07` is not exactly 7.
pub fn percent(share: f64) -> f64 {
    (share * 1e10).round() / 1e8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_the_unit_that_fits() {
        assert_eq!([512 << 20, 3 << 29].map(size), ["512 MiB", "1.5 GiB"]);
    }
}
