#!/usr/bin/env bash
# A harvest and an index by `sae launch slurm` on a real Slurm with two nodes, of which one is killed while it works. The result
# has to have the bytes of the same job without Slurm. Then `srun` trains one autoencoder on both nodes, twice, with the same bytes. Needs Debian's slurmctld, slurmd, slurm-client and munge, and root; it
# touches nothing outside its folder. Takes about two minutes.
#
#   cargo build --release && sudo tests/cluster/slurm.sh
set -euo pipefail
cd "$(dirname "$0")/../.."
sae=$(realpath "${SAE:-target/release/sae}")
work=$(mktemp -d)
say() { printf '%(%T)T %s\n' -1 "$*"; }

# -- Slurm: one controller, two nodes of this machine on ports of their own.
declare -A port=([n1]=17101 [n2]=17102)
mkdir -p "$work"/{state,log,spool,munge,job}
chmod 755 "$work"
chmod 700 "$work/munge"
head -c 1024 /dev/urandom > "$work/munge/key"
chmod 400 "$work/munge/key"
cat > "$work/slurm.conf" <<END
ClusterName=sae
SlurmctldHost=$(hostname -s)(127.0.0.1)
SlurmUser=root
SlurmctldPort=17100
AuthType=auth/munge
CredType=cred/munge
# A job that is requeued waits as long as credentials live.
AuthInfo=socket=$work/munge/socket,cred_expire=5
StateSaveLocation=$work/state
SlurmdSpoolDir=$work/spool/%n
SlurmctldPidFile=$work/slurmctld.pid
SlurmdPidFile=$work/%n.pid
SlurmctldLogFile=$work/log/slurmctld.log
SlurmdLogFile=$work/log/%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
SlurmdTimeout=10
SchedulerTimeSlice=5
SchedulerParameters=sched_interval=2
ReturnToService=2
JobRequeue=1
NodeName=n1 NodeHostname=$(hostname -s) NodeAddr=127.0.0.1 Port=${port[n1]} CPUs=1
NodeName=n2 NodeHostname=$(hostname -s) NodeAddr=127.0.0.1 Port=${port[n2]} CPUs=1
PartitionName=all Nodes=n1,n2 Default=YES MaxTime=INFINITE State=UP
END
export SLURM_CONF=$work/slurm.conf
munged --key-file="$work/munge/key" --socket="$work/munge/socket" --pid-file="$work/munge/pid" \
  --log-file="$work/munge/log" --seed-file="$work/munge/seed" --force
slurmctld
for node in n1 n2; do mkdir -p "$work/spool/$node" && slurmd -N "$node"; done
end() {
  scancel --user root 2> /dev/null || true
  for pid in "$work"/n?.pid "$work/slurmctld.pid" "$work/munge/pid"; do
    if [ -e "$pid" ]; then kill "$(cat "$pid")" 2> /dev/null || true; fi
  done
  if [ "$1" = 0 ]; then rm -rf "$work"; else say "left for a look: $work"; fi
}
trap 'end $?' EXIT
until [ "$(sinfo -h -t idle -o %D)" = 2 ]; do sleep 1; done
say "Slurm $(sinfo --version | cut -d' ' -f2) with two nodes"

# -- The same job without Slurm.
data=(--model "$PWD/assets/demo-mllm" --data "$work/data.jsonl" --layers 4 --shard-tokens 4096 --device cpu)
python3 - "$PWD/assets/demo-data" > "$work/data.jsonl" <<'END'
import json, sys
for line in list(open(f"{sys.argv[1]}/data.jsonl"))[:240]:
    row = json.loads(line)
    print(json.dumps(row | {"image": f"{sys.argv[1]}/{row['image']}"}))
END
parts=6
for part in $(seq $parts); do "$sae" harvest "${data[@]}" --shard "$part/$parts" --run "$work/alone.shards/$part" 2> /dev/null; done > /dev/null
"$sae" merge "$work"/alone.shards/* --run "$work/alone" > /dev/null
"$sae" train --run "$work/alone" --hook layers.4 --name a --arch topk --features 512 --k 16 --steps 50 --batch 256 > /dev/null 2>&1
"$sae" index --run "$work/alone" --sae a > /dev/null 2>&1
say "without Slurm: $(find "$work/alone" -type f | wc -l) files"

# Submits a script as its head says, and waits for all of it.
submit() {
  local array last
  bash -c "$(sed -n 's/^#   \(mkdir .*\)/\1/p' "$1")"
  array=$(sbatch --parsable "$1")
  last=$(sbatch --parsable --dependency="afterok:$array" --array=0 "$1" last)
  say "submitted $1: $array, then $last"
  "${2:-true}"
  while [ -n "$(squeue -h -j "$array,$last" 2> /dev/null)" ]; do sleep 1; done
}

# Kills a node with all that runs on it, once it works.
kill_a_node() {
  until [ -n "$(squeue -h -t running -w n2)" ] && pgrep -f 'sae harvest .*run.shards' > /dev/null; do sleep 0.2; done
  sleep 1
  say "killed n2 while it ran $(squeue -h -t running -w n2 -o %i)"
  local slurmd
  slurmd=$(cat "$work/n2.pid")
  # slurmd starts a process for each job, which leaves its group.
  for step in $(pgrep -f 'slurmstepd: \[' || true); do
    if grep -qz 'SLURMD_NODENAME=n2' "/proc/$(pgrep -P "$step" | head -1)/environ" 2> /dev/null; then
      kill -9 $(pgrep -P "$(pgrep -P "$step" | head -1)" || true) $(pgrep -P "$step") "$step" 2> /dev/null || true
    fi
  done
  kill -9 "$slurmd"
  rm -f "$work/n2.pid"
}

cd "$work/job"
export PATH="$(dirname "$sae"):$PATH"
[ "$(basename "$sae")" = sae ] || { mkdir -p "$work/bin"; ln -s "$sae" "$work/bin/sae"; export PATH="$work/bin:$PATH"; }
sae launch slurm --parts $parts --at-once 2 --out harvest.sh -- harvest "${data[@]}" --run run > /dev/null
submit harvest.sh kill_a_node
say "tasks were started $(cat run.shards/logs/*.log | grep -c 'memory:') times for $parts parts"
sinfo -h -N -o '%N %T' | sort -u | while read -r line; do say "node $line"; done
cp -r "$work/alone/saes" run/
slurmd -N n2
until [ "$(sinfo -h -t idle -o %D)" = 2 ]; do sleep 1; done
sae launch slurm --parts 3 --out index.sh -- pass index --run run --sae a > /dev/null
submit index.sh

# -- The same bytes. What holds the time or a path is left out.
sums() { (cd "$1" && find activations tokens samples.parquet features -type f ! -name manifest.json -exec sha256sum {} + | sort -k2); }
diff <(sums "$work/alone") <(sums "$work/job/run")
say "$(sums run | wc -l) files have the bytes of the job without Slurm"

# -- One training by a process on each node.
together() {
  srun -N 2 -n 2 sae train --run run --hook layers.4 --name "$1" --device cpu --arch topk --features 512 --k 16 --steps 50 --batch 256 \
    --ranks auto --rendezvous 127.0.0.1:17103 > "$work/log/$1.log" 2>&1 || { cat "$work/log/$1.log"; return 1; }
}
together b
together c
cmp run/saes/b/sae_weights.safetensors run/saes/c/sae_weights.safetensors
say 'srun trained one autoencoder on two nodes, twice: the same bytes'
