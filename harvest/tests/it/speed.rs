//! temporary
use burn::tensor::{DType, Device, Tensor, Distribution};
use harvest::Checkpoint;
use harvest::model::Input;
use rayon::prelude::*;
use std::path::Path;
use std::time::Instant;

#[test]
#[ignore]
fn speed() {
    let dir = std::env::var("SPEED").unwrap();
    let checkpoint = Checkpoint::open(Path::new(&dir)).unwrap();
    let c = checkpoint.config().clone();
    let v = c.vision.clone().unwrap();
    let dev = Device::flex();
    let last = c.text.layers - 1;
    let model = checkpoint.load(Some(last), &dev, DType::F32).unwrap();
    let text = 60;
    let input = |n: usize| Input {
        ids: (0..v.positions() + text).map(|i| if (10..10 + v.positions()).contains(&i) { v.image_token_id } else { (5 + (i * 7 + n) % 300) as u32 }).collect(),
        pixel_values: (0..3 * v.image_size * v.image_size).map(|i| ((i * 31 + n * 7) % 255) as f32 / 128.0 - 1.0).collect(),
    };
    let inputs: Vec<Input> = (0..16).map(input).collect();
    let text_only: Vec<Input> = inputs.iter().map(|i| Input { ids: i.ids.iter().map(|t| if *t == v.image_token_id { 7 } else { *t }).collect(), pixel_values: vec![] }).collect();
    let tokens: usize = inputs.iter().map(|i| i.ids.len()).sum();
    for batch in [1usize, 4, 8, 16] {
        for (name, inputs) in [("image", &inputs), ("text", &text_only)] {
            let t = Instant::now();
            for chunk in inputs.chunks(batch) { model.hidden(&chunk.iter().collect::<Vec<_>>(), &[last]).unwrap(); }
            println!("{name} batch {batch}: {:.0} tok/s", tokens as f64 / t.elapsed().as_secs_f64());
            let t = Instant::now();
            inputs.par_chunks(batch).for_each(|chunk| { model.hidden(&chunk.iter().collect::<Vec<_>>(), &[last]).unwrap(); });
            println!("{name} batch {batch} par: {:.0} tok/s", tokens as f64 / t.elapsed().as_secs_f64());
        }
    }
    // floor: products of the decoder alone
    let rows = 4 * inputs[0].ids.len();
    let (d, i, kv) = (c.text.hidden_size, c.text.intermediate_size, c.text.kv_heads * c.text.head_dim);
    let m = |a: usize, b: usize| Tensor::<2>::random([b, a], Distribution::Normal(0.0, 0.03), &dev).transpose();
    let ws = [m(d, d), m(d, kv), m(d, kv), m(d, d), m(d, i), m(d, i), m(i, d)];
    let (x, y): (Tensor<2>, Tensor<2>) = (Tensor::random([rows, d], Distribution::Normal(0.0, 1.0), &dev), Tensor::random([rows, i], Distribution::Normal(0.0, 1.0), &dev));
    for _ in 0..2 {
        let t = Instant::now();
        for _ in 0..c.text.layers { for w in &ws { let o = if w.dims()[0] == d { x.clone().matmul(w.clone()) } else { y.clone().matmul(w.clone()) }; std::hint::black_box(&o); } }
        let s = t.elapsed().as_secs_f64();
        let flops = 2.0 * rows as f64 * c.text.layers as f64 * (2 * d * d + 2 * d * kv + 3 * d * i) as f64;
        println!("products: {:.0} tok/s, {:.0} GFLOP/s", rows as f64 / s, flops / s / 1e9);
    }
}
