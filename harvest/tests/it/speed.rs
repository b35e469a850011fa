//! temporary
use burn::tensor::{DType, Device, Distribution, Tensor};
use harvest::Checkpoint;
use harvest::model::Input;
use rayon::prelude::*;
use std::path::Path;
use std::time::Instant;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

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
    let input =
        |n: usize| Input {
            ids: (0..v.positions() + text)
                .map(|i| {
                    if (10..10 + v.positions()).contains(&i) {
                        v.image_token_id
                    } else {
                        (5 + (i * 7 + n) % 300) as u32
                    }
                })
                .collect(),
            pixel_values: (0..3 * v.image_size * v.image_size)
                .map(|i| ((i * 31 + n * 7) % 255) as f32 / 128.0 - 1.0)
                .collect(),
        };
    let inputs: Vec<Input> = (0..16).map(input).collect();
    let text_only: Vec<Input> = inputs
        .iter()
        .map(|i| Input {
            ids: i.ids.iter().map(|t| if *t == v.image_token_id { 7 } else { *t }).collect(),
            pixel_values: vec![],
        })
        .collect();
    let tokens: usize = inputs.iter().map(|i| i.ids.len()).sum();
    for _ in 0..2 {
        for batch in [1usize, 8] {
            let t = Instant::now();
            for chunk in text_only.chunks(batch) {
                model.hidden(&chunk.iter().collect::<Vec<_>>(), &[last]).unwrap();
            }
            println!("text batch {batch}: {:.0} tok/s", tokens as f64 / t.elapsed().as_secs_f64());
            let t = Instant::now();
            text_only.par_chunks(batch).for_each(|chunk| {
                model.hidden(&chunk.iter().collect::<Vec<_>>(), &[last]).unwrap();
            });
            println!("text batch {batch} par: {:.0} tok/s", tokens as f64 / t.elapsed().as_secs_f64());
        }
        let t = Instant::now();
        for chunk in inputs.chunks(8) {
            model.hidden(&chunk.iter().collect::<Vec<_>>(), &[0]).unwrap();
        }
        println!("vision + 1 block: {:.3} s an image", t.elapsed().as_secs_f64() / 16.0);
    }
    // parts of a block
    use burn::tensor::{activation::silu, module};
    for batch in [1, 8] {
        let (rows, len, d, i, h) = (
            batch * inputs[0].ids.len(),
            inputs[0].ids.len(),
            c.text.hidden_size,
            c.text.intermediate_size,
            c.text.heads,
        );
        let mut r = |w: usize| -> Tensor<2> { Tensor::random([rows, w], Distribution::Normal(0.0, 1.0), &dev) };
        let (x, g, u) = (r(d), r(i), r(i));
        let time = |name: &str, f: &dyn Fn()| {
            f();
            let t = Instant::now();
            for _ in 0..3 {
                f();
            }
            println!("b{batch} {name}: {:.2} ms", t.elapsed().as_secs_f64() * 1e3 / 3.0);
        };
        let w: Tensor<2> = Tensor::random([i, d], Distribution::Normal(0.0, 1.0), &dev);
        let wt = w.clone().transpose();
        time("product d->i transposed", &|| {
            std::hint::black_box(x.clone().matmul(wt.clone()));
        });
        let wc: Tensor<2> = Tensor::random([d, i], Distribution::Normal(0.0, 1.0), &dev);
        time("product d->i plain", &|| {
            std::hint::black_box(x.clone().matmul(wc.clone()));
        });
        time("silu*up", &|| {
            std::hint::black_box(silu(g.clone()) * u.clone());
        });
        time("rms", &|| {
            let inv = (x.clone().square().mean_dim(1) + 1e-5).sqrt().recip();
            std::hint::black_box(x.clone() * inv);
        });
        time("add", &|| {
            std::hint::black_box(x.clone() + x.clone());
        });
        let q = || x.clone().reshape([batch, len, h, d / h]);
        let cos: Tensor<4> = Tensor::random([1, len, 1, d / h / 2], Distribution::Normal(0.0, 1.0), &dev);
        time("rope", &|| {
            let half = d / h / 2;
            let q = q();
            let (a, b) = (q.clone().narrow(3, 0, half), q.narrow(3, half, half));
            let t = vec![a.clone() * cos.clone() - b.clone() * cos.clone(), b * cos.clone() + a * cos.clone()];
            std::hint::black_box(Tensor::cat(t, 3));
        });
        let s = q().swap_dims(1, 2);
        let o = burn::tensor::ops::AttentionModuleOptions { is_causal: true, ..Default::default() };
        time("attention", &|| {
            std::hint::black_box(
                module::attention(s.clone(), s.clone(), s.clone(), None, None, o.clone())
                    .swap_dims(1, 2)
                    .reshape([rows, d]),
            );
        });
        time("attention manual", &|| {
            let k = s.clone().swap_dims(2, 3);
            let p = burn::tensor::activation::softmax(s.clone().matmul(k) * 0.125, 3);
            std::hint::black_box(p.matmul(s.clone()).swap_dims(1, 2).reshape([rows, d]));
        });
    }
    // floor: products of the decoder alone
    let rows = 8 * inputs[0].ids.len();
    let (d, i, kv) = (c.text.hidden_size, c.text.intermediate_size, c.text.kv_heads * c.text.head_dim);
    let m = |a: usize, b: usize| Tensor::<2>::random([b, a], Distribution::Normal(0.0, 0.03), &dev).transpose();
    let ws = [m(d, d), m(d, kv), m(d, kv), m(d, d), m(d, i), m(d, i), m(i, d)];
    let (x, y): (Tensor<2>, Tensor<2>) = (
        Tensor::random([rows, d], Distribution::Normal(0.0, 1.0), &dev),
        Tensor::random([rows, i], Distribution::Normal(0.0, 1.0), &dev),
    );
    for _ in 0..2 {
        let t = Instant::now();
        for _ in 0..c.text.layers {
            for w in &ws {
                let o = if w.dims()[0] == d { x.clone().matmul(w.clone()) } else { y.clone().matmul(w.clone()) };
                std::hint::black_box(&o);
            }
        }
        let s = t.elapsed().as_secs_f64();
        let flops = 2.0 * rows as f64 * c.text.layers as f64 * (2 * d * d + 2 * d * kv + 3 * d * i) as f64;
        println!("products: {:.0} tok/s, {:.0} GFLOP/s", rows as f64 / s, flops / s / 1e9);
    }
}
