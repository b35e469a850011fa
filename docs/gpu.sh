#!/bin/sh
# Runs everything that needs an NVIDIA GPU: the tests of the GPU engine, then the benchmarks of the training step and of a forward
# pass, each compared with the bf16 product.
#
# Needs, at run time: the driver (libcuda.so.1), NVRTC (libnvrtc.so) on the library path, and CUDA's headers at
# $CUDA_PATH/include. Building needs none of them, and no nvcc. The first build takes 11 to 15 minutes on two cores.
#
# State: on a software Vulkan device, with the product in f32, all of these tests pass (ARCHITECTURE.md).
# Neither this script nor the product in bf16 nor anything else here has run on a GPU.
set -eu
cd "$(dirname "$0")/.."
: "${CUDA_PATH:=/usr/local/cuda}"
export CUDA_PATH
[ -d "$CUDA_PATH/include" ] || { echo "no CUDA headers at $CUDA_PATH/include: set CUDA_PATH" >&2; exit 1; }

SAE_EXPECT_GPU=1 cargo test --release -p sae-core --features sae-core/cuda --lib -- gpu device:: --test-threads 1
cargo build --release --features cuda
for arch in topk batch-topk matryoshka relu jumprelu gated; do
    target/release/sae bench train --device cuda --arch "$arch" --d-in 4096 --features 65536 --k 32 --batch 16384
done
target/release/sae bench train --device cuda --d-in 4096 --features 65536 --k 32 --batch 16384 --dead 0.05
for dtype in f32 bf16; do
    target/release/sae bench harvest --device cuda --dtype "$dtype" --samples 16
done
target/release/sae bench harvest --shape llava-next-7b --dtype bf16 --device cuda --samples 4
