//! Everything this crate promises that needs a checkpoint: parity with `transformers` on the golden folders of the
//! repository, harvests that are interrupted, input that is bad.

mod bad;
mod golden;
mod harvest;
mod parity;
mod speed;
