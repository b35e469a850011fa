#!/usr/bin/env bash
# Makes the packages for crates.io, and uses them: checks their sizes, lets Cargo try everything of an upload but the upload itself, and
# compiles the programs from nothing but what is in them.
#
#     docs/package.sh               needs the network: Cargo reads the index of crates.io
#     docs/package.sh --no-build    without compiling
#
# Compiled with the features that `workspace-hack` aligns, so that the build of the repository is shared. On crates.io an empty crate of
# that name takes its place.
set -euo pipefail
cd "$(dirname "$0")/.."

build=1
case "${1:-}" in
  '') ;;
  --no-build) build='' ;;
  *) echo "unknown argument $1: expected --no-build" >&2; exit 2 ;;
esac
# What crates.io takes at most.
most=$((10 * 1024 * 1024))
target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
rm -rf "$target/package"

cargo publish --workspace --exclude workspace-hack --dry-run --no-verify
# Cargo decides where they are below this folder, and may have copies.
mapfile -t crates < <(find "$target/package" -name '*.crate' | awk -F/ '!known[$NF]++' | sort)
[ ${#crates[@]} -eq 5 ] || { echo "expected 5 packages, found ${crates[*]}" >&2; exit 1; }
for crate in "${crates[@]}"; do
  bytes=$(stat -c %s "$crate")
  echo "$(basename "$crate"): $bytes bytes"
  [ "$bytes" -le "$most" ] || { echo "$(basename "$crate") is larger than $most bytes, which crates.io does not take" >&2; exit 1; }
done
[ -n "$build" ] || exit 0

# Below the target folder, as settings of Cargo in the folders above it count for both builds.
scratch=$target/package/workspace
mkdir "$scratch"
for crate in "${crates[@]}"; do tar xzf "$crate" -C "$scratch"; done
cp Cargo.lock "$scratch"
{
  echo '[workspace]'
  echo 'resolver = "3"'
  echo 'members = ["*-0*"]'
  sed -n '/^\[profile/,/^\[package\]/p' Cargo.toml | sed '$d'
  echo '[patch.crates-io]'
  for crate in "${crates[@]}"; do
    folder=$(basename "$crate" .crate)
    echo "${folder%-*} = { path = \"$folder\" }"
  done
  echo "workspace-hack = { path = \"$PWD/workspace-hack\" }"
  echo "cubecl-llvm = { path = \"$PWD/vendor/cubecl-llvm\" }"
} > "$scratch/Cargo.toml"
cd "$scratch"
CARGO_TARGET_DIR=$target cargo build --release --bins
"$target/release/sae" --version
"$target/release/sae-gui" --version
echo 'the packages compile'
