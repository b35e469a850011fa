//! The manifest of a Kubernetes Indexed Job.

use super::Size;
use super::job::Job;
use sae_workbench::command_line::quoted;
use sae_workbench::job_array::COMPLETIONS;

/// The part that the shell of the container works out: the index counts from 0.
const NUMBER: &str = "$NUMBER";

/// The manifest, which is also valid JSON in the places where words of the command stand.
pub fn manifest(job: &Job, size: &Size, image: &str) -> String {
    let Size { parts, at_once, tries, gpus } = size;
    let word = |word: &String| match word.strip_suffix(NUMBER) {
        Some(start) => format!("{}\"{NUMBER}\"", quoted(&[start])),
        None => quoted(&[word]),
    };
    let part = job.part(NUMBER).iter().map(word).collect::<Vec<_>>().join(" ");
    let script = json(&format!("NUMBER=$((JOB_COMPLETION_INDEX + 1)); exec {part}"));
    let gpus = if *gpus > 0 {
        format!("          resources:\n            limits:\n              nvidia.com/gpu: {gpus}\n")
    } else {
        String::new()
    };
    let (name, image, last, retries) = (job.name, json(image), quoted(&job.last), tries - 1);
    format!(
        r#"# The image has to have sae, and the data and the run have to be in a volume that all pods share; add it below.
# When the job is complete, run in a pod with the same volume:
#   {last}
apiVersion: batch/v1
kind: Job
metadata:
  name: sae-{name}
spec:
  completionMode: Indexed
  completions: {parts}
  parallelism: {at_once}
  backoffLimitPerIndex: {retries}
  maxFailedIndexes: {parts}
  podReplacementPolicy: Failed
  template:
    spec:
      restartPolicy: Never
      terminationGracePeriodSeconds: 120
      containers:
        - name: sae
          image: {image}
          command: ["/bin/sh", "-c", {script}]
          env:
            - name: {COMPLETIONS}
              value: "{parts}"
{gpus}"#
    )
}

/// A text as JSON, which is a YAML scalar as well.
fn json(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
