# Runs the parts of a job as tasks of Ray (pip install ray), and then the command that puts them together.
# The nodes need sae and a file system that they share. Submit with: ray job submit -- python THIS_SCRIPT
import subprocess
import sys

import ray

PARTS = [
    ["sae","pass","index","--run","run","--sae","base","--out","run/parts/index-base-of-8","--part","1/8"],
    ["sae","pass","index","--run","run","--sae","base","--out","run/parts/index-base-of-8","--part","2/8"],
    ["sae","pass","index","--run","run","--sae","base","--out","run/parts/index-base-of-8","--part","3/8"],
    ["sae","pass","index","--run","run","--sae","base","--out","run/parts/index-base-of-8","--part","4/8"],
    ["sae","pass","index","--run","run","--sae","base","--out","run/parts/index-base-of-8","--part","5/8"],
    ["sae","pass","index","--run","run","--sae","base","--out","run/parts/index-base-of-8","--part","6/8"],
    ["sae","pass","index","--run","run","--sae","base","--out","run/parts/index-base-of-8","--part","7/8"],
    ["sae","pass","index","--run","run","--sae","base","--out","run/parts/index-base-of-8","--part","8/8"],
]
LAST = ["sae","reduce","run/parts/index-base-of-8","--run","run"]


# A node that dies is replaced by another; a part that fails is run again, and continues where it stopped.
@ray.remote(num_gpus=0, max_retries=2, retry_exceptions=True)
def part(words):
    subprocess.run(words, check=True)


def main():
    ray.init()
    waiting, running, failed = list(enumerate(PARTS, 1)), {}, []
    while waiting or running:
        while waiting and len(running) < 4:
            number, words = waiting.pop(0)
            running[part.remote(words)] = number
        done, _ = ray.wait(list(running))
        for task in done:
            number = running.pop(task)
            try:
                ray.get(task)
                print(f"part {number} of {len(PARTS)} is done", flush=True)
            except Exception as error:
                failed.append(number)
                print(f"part {number} failed 3 times: {error}", file=sys.stderr, flush=True)
    if failed:
        sys.exit(f"failed: {sorted(failed)}; the same script makes only what is missing")
    subprocess.run(LAST, check=True)


if __name__ == "__main__":
    main()
