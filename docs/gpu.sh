#!/usr/bin/env bash
# Packs everything that is measured on a machine with an NVIDIA GPU, so that nothing is built there:
#
#     docs/gpu.sh gpu.tar.xz                  # here: builds, strips and packs (15 minutes on two cores)
#     tar xf gpu.tar.xz && python3 sae-gpu/run.py    # there: at most eight minutes (docs/gpu_run.py)
#
# Building needs no GPU, no driver and no nvcc. SAE_GPU_FEATURE=vulkan packs a build for Vulkan in place of CUDA.
#
# Nothing that this packs has run on an NVIDIA GPU so far.
set -euo pipefail
cd "$(dirname "$0")/.."
archive=${1:?usage: docs/gpu.sh ARCHIVE.tar.xz}
feature=${SAE_GPU_FEATURE:-cuda}

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
pack=$folder/sae-gpu
mkdir -p "$pack/tests"

cargo build --release --features "$feature"
cp target/release/sae "$pack/"
# The tests of sae-core's library (the trainer) and of harvest (the models), from Cargo's messages.
{
  cargo test --release -p sae-core --features "$feature" --lib --no-run --message-format json-render-diagnostics
  cargo test --release -p sae-harvest --features "$feature" --test it --no-run --message-format json-render-diagnostics
} >"$folder/messages"
python3 - "$folder/messages" "$pack" <<'PYTHON'
import json, shutil, sys

names = {("sae_core", "lib"): "trainer-tests", ("it", "test"): "model-tests"}
for line in open(sys.argv[1]):
    message = json.loads(line)
    if message.get("executable") and (message["target"]["name"], message["target"]["kind"][0]) in names:
        name = names[message["target"]["name"], message["target"]["kind"][0]]
        shutil.copy(message["executable"], f"{sys.argv[2]}/{name}")
PYTHON
strip "$pack/sae" "$pack/trainer-tests" "$pack/model-tests"
cp -r tests/golden "$pack/tests/"
# Tests find golden files relative to the folders of their crates.
mkdir -p "$pack/sae-core" "$pack/harvest"
cp docs/gpu_run.py "$pack/run.py"
pwd >"$pack/built-in"

# The three programs share most of their code, which a large dictionary finds again.
tar -C "$folder" -cf - sae-gpu | xz --x86 --lzma2=preset=6,dict=256MiB >"$archive"
bytes=$(stat -c %s "$archive")
echo "$archive: $((bytes >> 20)) MiB"
[ "$bytes" -lt $((64 << 20)) ] || { echo "the archive is larger than 64 MiB" >&2; exit 1; }
