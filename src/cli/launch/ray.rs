//! The driver of a job on Ray, in Python.

use super::Size;
use super::job::Job;

/// The driver.
pub fn driver(job: &Job, size: &Size) -> String {
    let Size { parts, at_once, tries, gpus } = size;
    let commands = (1..=*parts).map(|number| format!("    {},\n", python(&job.part_of(number)))).collect::<String>();
    format!(
        r#"# Runs the parts of a job as tasks of Ray (pip install ray), and then the command that puts them together.
# The nodes need sae and a file system that they share. Submit with: ray job submit -- python THIS_SCRIPT
import subprocess
import sys

import ray

PARTS = [
{commands}]
LAST = {last}


# A node that dies is replaced by another; a part that fails is run again, and continues where it stopped.
@ray.remote(num_gpus={gpus}, max_retries={retries}, retry_exceptions=True)
def part(words):
    subprocess.run(words, check=True)


def main():
    ray.init()
    waiting, running, failed = list(enumerate(PARTS, 1)), {{}}, []
    while waiting or running:
        while waiting and len(running) < {at_once}:
            number, words = waiting.pop(0)
            running[part.remote(words)] = number
        done, _ = ray.wait(list(running))
        for task in done:
            number = running.pop(task)
            try:
                ray.get(task)
                print(f"part {{number}} of {{len(PARTS)}} is done", flush=True)
            except Exception as error:
                failed.append(number)
                print(f"part {{number}} failed {tries} times: {{error}}", file=sys.stderr, flush=True)
    if failed:
        sys.exit(f"failed: {{sorted(failed)}}; the same script makes only what is missing")
    subprocess.run(LAST, check=True)


if __name__ == "__main__":
    main()
"#,
        last = python(&job.last),
        retries = tries - 1
    )
}

/// A list of words, as JSON, which is Python for lists of texts.
fn python(words: &[String]) -> String {
    serde_json::Value::from(words.to_vec()).to_string()
}
