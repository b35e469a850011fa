#!/usr/bin/env bash
# One autoencoder trained by three processes that a real mpirun starts. One of them is killed, the same command goes on, and so
# does a command with two processes. The first result has to have the bytes of a training without interruption, and all have to be within
# rounding of a training by one process. Needs Open MPI (Debian's openmpi-bin) and Python; touches nothing outside its
# folder. Takes half a minute.
#
#   cargo build --release && tests/cluster/ranks.sh
set -euo pipefail
cd "$(dirname "$0")/../.."
sae=$(realpath "${SAE:-target/release/sae}")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
say() { printf '%(%T)T %s\n' -1 "$*"; }
port=29400

"$sae" harvest --model assets/demo-mllm --data assets/demo-data --layers 4 --device cpu --limit 200 --run "$work/run" >/dev/null 2>&1
train() { # NAME, and what starts the processes
  local name=$1
  shift
  port=$((port + 1))
  "$@" "$sae" train --run "$work/run" --hook layers.4 --name "$name" --device cpu --arch topk --k 16 --features 1000 \
    --batch 256 --steps 300 --checkpoint-every 50 ${alone:---ranks auto --rendezvous 127.0.0.1:$port}
}
mpi() { printf 'mpirun --allow-run-as-root --oversubscribe -np %s' "$1"; }
checkpoint() { compgen -G "$work/run/saes/$1/checkpoint/step-*" >/dev/null; }

say "$(mpirun --version | head -1), three processes"
train whole $(mpi 3) >"$work/whole.log" 2>&1
say "without interruption: done"

train cut $(mpi 3) >"$work/cut.log" 2>&1 &
until checkpoint cut; do kill -0 $! && sleep 0.02; done
pkill --newest -KILL -f -- "--name cut .*--rendezvous 127.0.0.1:$((port + 1))"
wait $! && { say 'the training was not interrupted'; exit 1; }
say "killed a process after step $(ls "$work/run/saes/cut/checkpoint" | grep -o '[0-9]*' | sed 's/^0*//')"
cp -r "$work/run/saes/cut" "$work/run/saes/fewer"
train cut $(mpi 3) >>"$work/cut.log" 2>&1
cmp "$work/run/saes/whole/sae_weights.safetensors" "$work/run/saes/cut/sae_weights.safetensors"
say 'the same command went on: the same bytes'
train fewer $(mpi 2) >"$work/fewer.log" 2>&1
say 'two processes went on'
alone=' ' train one env >"$work/one.log" 2>&1
python3 - "$work/run/saes" <<'END'
import json, struct, sys
from array import array

def decoder(name):
    with open(f"{sys.argv[1]}/{name}/sae_weights.safetensors", "rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        begin, end = json.loads(file.read(length))["W_dec"]["data_offsets"]
        file.seek(8 + length + begin)
        return array("f", file.read(end - begin))

one = decoder("one")
norm = sum(v * v for v in one) ** 0.5
for name in ["whole", "fewer"]:
    apart = sum((a - b) ** 2 for a, b in zip(one, decoder(name))) ** 0.5 / norm
    print(f"         decoder of one process and of {name}: {apart:.1e} apart")
    assert apart < 1e-4
END
