#!/bin/bash
# Submit with:
#   mkdir -p run/parts/index-base-of-8/logs
#   array=$(sbatch --parsable THIS_SCRIPT) && sbatch --dependency=afterok:"$array" --array=0 THIS_SCRIPT last
#SBATCH --job-name=sae-pass
#SBATCH --array=1-8%8
#SBATCH --ntasks=1
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=B:USR1@120
#SBATCH --output=run/parts/index-base-of-8/logs/part-%a.log
set -u
if [ "${1:-}" = last ]; then
  exec sae reduce run/parts/index-base-of-8 --run run
fi
sae pass index --run run --sae base --out run/parts/index-base-of-8 --part auto &
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
