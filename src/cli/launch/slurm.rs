//! The script of a Slurm job array.

use super::Size;
use super::job::Job;
use sae_workbench::command_line::quoted;

/// The number of a task, which is that of its part.
const TASK: &str = "$SLURM_ARRAY_TASK_ID";

/// The script. Submitted with an argument, it is the job that follows the array.
pub fn script(job: &Job, size: &Size) -> String {
    let Size { parts, at_once, tries, gpus } = size;
    let (name, logs, last) = (job.name, quoted(&[job.logs.display().to_string()]), quoted(&job.last));
    let gpus = if *gpus > 0 { format!("#SBATCH --gpus-per-task={gpus}\n") } else { String::new() };
    let part = shell(&job.part(TASK));
    format!(
        r#"#!/bin/bash
# Submit with:
#   mkdir -p {logs}
#   array=$(sbatch --parsable THIS_SCRIPT) && sbatch --dependency=afterok:"$array" --array=0 THIS_SCRIPT last
#SBATCH --job-name=sae-{name}
#SBATCH --array=1-{parts}%{at_once}
#SBATCH --ntasks=1
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=B:USR1@120
#SBATCH --output={logs}/part-%a.log
{gpus}set -u
if [ "${{1:-}}" = last ]; then
  exec {last}
fi
{part} &
child=$!
# Two minutes before the time is over, or when the job is preempted, the program gets a signal, and ends with status 85.
trap 'kill -USR1 "$child" 2> /dev/null' USR1 TERM
wait "$child"; status=$?
while kill -0 "$child" 2> /dev/null; do wait "$child"; status=$?; done
# 75: another process still writes. 85: interrupted. The same task continues where it stopped.
if [ "$status" -ne 0 ] && [ "${{SLURM_RESTART_COUNT:-0}}" -lt {retries} ]; then
  scontrol requeue "${{SLURM_ARRAY_JOB_ID}}_${{SLURM_ARRAY_TASK_ID}}"
fi
exit "$status"
"#,
        retries = tries - 1
    )
}

/// Words for the shell, in which the number of the task stays a variable.
fn shell(words: &[String]) -> String {
    let word = |word: &String| match word.strip_suffix(TASK) {
        Some(start) => format!("{}\"{TASK}\"", quoted(&[start])),
        None => quoted(&[word]),
    };
    words.iter().map(word).collect::<Vec<_>>().join(" ")
}
