#!/bin/bash
# Submit with:
#   mkdir -p run.shards/logs
#   array=$(sbatch --parsable THIS_SCRIPT) && sbatch --dependency=afterok:"$array" --array=0 THIS_SCRIPT last
#SBATCH --job-name=sae-harvest
#SBATCH --array=1-8%4
#SBATCH --ntasks=1
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=B:USR1@120
#SBATCH --output=run.shards/logs/part-%a.log
#SBATCH --gpus-per-task=1
set -u
if [ "${1:-}" = last ]; then
  exec sae merge run.shards/1 run.shards/2 run.shards/3 run.shards/4 run.shards/5 run.shards/6 run.shards/7 run.shards/8 --run run
fi
sae harvest --model llava --data 'my data.jsonl' --layers 16 --shard auto --run run.shards/"$SLURM_ARRAY_TASK_ID" &
child=$!
# Two minutes before the time is over, or when the job is preempted, the program gets a signal, and ends with status 85.
trap 'kill -USR1 "$child" 2> /dev/null' USR1 TERM
wait "$child"; status=$?
while kill -0 "$child" 2> /dev/null; do wait "$child"; status=$?; done
# 75: another process still writes. 85: interrupted. The same task continues where it stopped.
if [ "$status" -ne 0 ] && [ "${SLURM_RESTART_COUNT:-0}" -lt 2 ]; then
  scontrol requeue "${SLURM_ARRAY_JOB_ID}_${SLURM_ARRAY_TASK_ID}"
fi
exit "$status"
