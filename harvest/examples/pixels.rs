//! Decodes image files as the harvest does, and writes FILE.png next to each. `tests/golden/check_jpeg.py` compares them with
//! the results of Pillow.
//!
//! ```text
//! cargo run --release -p sae-harvest --example pixels -- FILE...
//! ```

use harvest::pixels::Picture;
use std::error::Error;
use std::fs;
use std::path::Path;

fn main() -> Result<(), Box<dyn Error>> {
    for path in std::env::args().skip(1) {
        Picture::decode(&fs::read(&path)?)?.write(Path::new(&format!("{path}.png")))?;
    }
    Ok(())
}
