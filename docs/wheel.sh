#!/usr/bin/env bash
# Builds the Python wheel into $OUT (default: dist), installs it in a fresh virtual environment, and uses it there: `sae demo`, and the
# examples of the module `sae_workbench`, which read what the demo made.
#
#     docs/wheel.sh                 a manylinux2014 wheel (glibc 2.17), linked by Zig from the Python package `ziglang`
#     docs/wheel.sh --native        a wheel for machines like this one, without Zig; says which glibc it needs
#     docs/wheel.sh --gui           the wheel of the app as well
#     docs/wheel.sh --no-demo       without the demo: only `sae --version` and `sae info`
#
# Needs Python 3.9 with venv, the network for the packages maturin, ziglang, numpy and pyarrow, and what a build needs. Which glibc a program
# needs is decided when it is linked: only the programs are compiled and linked again for manylinux2014, from the libraries in
# target/release. If a library were compiled for a newer glibc, linking would fail, or maturin would refuse the wheel.
set -euo pipefail
cd "$(dirname "$0")/.."

native='' gui='' demo=1 linker=()
for argument in "$@"; do
  case $argument in
    --native) native=1 ;;
    --gui) gui=1 ;;
    --no-demo) demo='' ;;
    *) echo "unknown argument $argument: expected --native, --gui or --no-demo" >&2; exit 2 ;;
  esac
done
out=$(realpath -m "${OUT:-dist}")
python=${PYTHON:-python3}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

"$python" -m venv "$scratch/build"
if [ -n "$native" ]; then
  "$scratch/build/bin/pip" install --quiet 'maturin>=1.9,<2'
  options=(--compatibility linux --auditwheel skip)
else
  "$scratch/build/bin/pip" install --quiet 'maturin[zig]>=1.9,<2'
  options=(--compatibility manylinux2014)
  linker=(-- -C "linker=$PWD/target/wheel/zigcc.sh")
fi
export PATH="$scratch/build/bin:$PATH"

# What the demo reads. It becomes share/sae-workbench of the environment that the wheel is installed into.
share=target/wheel/data/data/share/sae-workbench
rm -rf target/wheel
mkdir -p "$share/demo-data"
cp -r assets/demo-mllm assets/README.md "$share"
cp -r assets/demo-data/{constructed-swapped.jsonl,data.jsonl,images,licences} "$share/demo-data"
# What maturin's `--zig` uses, which would compile everything for a target of its own.
# Its name says what it is to rustc: `link` would be another kind of linker.
printf '#!/bin/sh\nexec maturin zig cc -- -g -fno-sanitize=all -target %s-linux-gnu.2.17 "$@"\n' "$(uname -m)" > target/wheel/zigcc.sh
chmod +x target/wheel/zigcc.sh

maturin build --release "${options[@]}" --out "$out" "${linker[@]}"
[ -z "$gui" ] || maturin build --release "${options[@]}" --out "$out" --manifest-path sae-gui/Cargo.toml "${linker[@]}"
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)
wheels=("$out"/sae_workbench-"$version"-*.whl)
[ -z "$gui" ] || wheels+=("$out"/sae_workbench_gui-"$version"-*.whl)
ls -l "${wheels[@]}"

"$python" -m venv "$scratch/fresh"
"$scratch/fresh/bin/pip" install --quiet "${wheels[@]}" numpy pyarrow
# Nothing of this repository may be found by accident.
cd "$scratch"
sae="$scratch/fresh/bin/sae"
"$sae" --version
needed=$(grep -aoE 'GLIBC_[0-9]+\.[0-9]+' "$sae" | sort -uV | tail -1)
echo "needs $needed"
[ -z "$gui" ] || "$scratch/fresh/bin/sae-gui" --version
if [ -n "$demo" ]; then
  "$sae" demo --steps 100
  "$scratch/fresh/bin/python" -c 'import doctest, sae_workbench; print(doctest.testmod(sae_workbench, raise_on_error=True))'
  "$scratch/fresh/bin/python" -c 'import sae_workbench; run = sae_workbench.Run("demo-run"); print(run, run.features("seed-0").num_rows)'
else
  "$sae" info "$scratch/fresh/share/sae-workbench/demo-data/data.jsonl"
fi
echo "the wheel works: ${wheels[*]}"
