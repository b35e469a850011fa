"""Measures how the stages of the pipeline grow with the number of tokens: processor time per token, and peak memory.

    pip install matplotlib
    cargo build --release
    python docs/growth.py --sae target/release/sae --work growth                # 10^4, 10^5 and 10^6 tokens
    python docs/growth.py --work growth --report                                # the table and the plot of what was measured

Harvests, trains, indexes, scores and filters with the model and the data of the demo, whose 843 rows are repeated with
another number in each text until there are enough tokens. Time is processor time of all threads, user and system, since other work
on the machine changes it less than the time on the clock. Memory is the most that the process had of its own, looked at 50 times
a second; files that it maps, such as activations, are not included, because the system takes that memory back when it needs it.
Each stage that ends is
added to WORK/growth.json, and a later call runs only what is missing.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT / "assets" / "demo-data"
# 843 rows of the demo have 67,394 positions; a number in the text adds some.
TOKENS_PER_ROW = 84
BATCH = 512
STAGES = ["harvest", "train", "index", "score", "filter"]


def parse():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--sae", default="target/release/sae")
    p.add_argument("--work", type=Path, required=True, help="folder for runs and results")
    p.add_argument("--tokens", type=int, nargs="+", default=[10**4, 10**5, 10**6])
    p.add_argument("--report", action="store_true", help="print the table and draw the plot, and run nothing")
    p.add_argument("--plot", type=Path, default=ROOT / "docs" / "images" / "growth.png")
    return p.parse_args()


def rows(tokens):
    """The demo's rows, over and over, each with a text of its own."""
    lines = [json.loads(line) for line in (DATA / "data.jsonl").read_text().splitlines()]
    for n in range(round(tokens / TOKENS_PER_ROW)):
        row = json.loads(json.dumps(lines[n % len(lines)]))
        row["id"] = f"{row['id']}-{n}"
        row["conversations"][-1]["value"] += f", number {n}"
        yield row


def commands(sae, folder, tokens):
    """The command of each stage."""
    run, autoencoder = folder / "run", ["--sae", "topk"]
    steps = str(max(1, tokens // BATCH))
    shape = ["--arch", "topk", "--features", "2048", "--k", "32", "--batch", str(BATCH), "--steps", steps]
    return {
        "harvest": [sae, "harvest", "--model", ROOT / "assets" / "demo-mllm", "--data", folder / "rows.jsonl",
                    "--images-root", DATA, "--layers", "2", "--run", run],
        "train": [sae, "train", "--run", run, "--hook", "layers.2", "--name", "topk", *shape],
        "index": [sae, "index", "--run", run, *autoencoder],
        "score": [sae, "score", "--run", run, *autoencoder],
        "filter": [sae, "filter", "--run", run, *autoencoder, "--by", "pmi", "--keep", "50%",
                   "--images", "reference", "--out", folder / "kept"],
    }


def own_memory(process):
    """MiB of a process without mapped files, now; Linux alone tells."""
    try:
        status = Path(f"/proc/{process}/status").read_text()
    except OSError:
        return 0.0
    kib = [int(line.split()[1]) for line in status.splitlines() if line.startswith("RssAnon:")]
    return sum(kib) / 1024


def measure(command):
    """Processor seconds, seconds, peak MiB of its own and peak resident MiB of a command, which has to succeed."""
    start, own, ended = time.monotonic(), 0.0, 0
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen([str(part) for part in command], stdout=subprocess.DEVNULL, stderr=log)
        while not ended:
            own = max(own, own_memory(process.pid))
            time.sleep(0.02)
            ended, status, usage = os.wait4(process.pid, os.WNOHANG)
        log.seek(0)
        if status != 0:
            sys.exit(f"{' '.join(map(str, command))} failed:\n{log.read().decode()}")
    return {
        "processor_s": usage.ru_utime + usage.ru_stime,
        "seconds": time.monotonic() - start,
        "own_mib": own,
        "resident_mib": usage.ru_maxrss / 1024,
    }


def tokens_of(sae, run):
    """Positions that a run has."""
    info = json.loads(subprocess.run([sae, "info", str(run), "--json"], capture_output=True, check=True).stdout)
    return info["activations"][0]["tokens"]


def run_all(a, results):
    for tokens in a.tokens:
        folder = a.work / str(tokens)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows(tokens)))
        of_size = results.setdefault(str(tokens), {})
        for stage, command in commands(a.sae, folder, tokens).items():
            if stage in of_size:
                continue
            found = measure(command)
            if stage == "harvest":
                of_size["tokens"] = tokens_of(a.sae, folder / "run")
            of_size[stage] = found
            (a.work / "growth.json").write_text(json.dumps(results, indent=1))
            print(tokens, stage, found, flush=True)


def report(results):
    """A table in Markdown: time per token at each size and of the tokens that a size has more than the one before it, and memory."""
    sizes = sorted(results.values(), key=lambda size: size["tokens"])
    heads = [f"{size['tokens']:,}" for size in sizes]
    print("| stage | " + " | ".join(f"µs per token, {head}" for head in heads) + " | "
          + " | ".join(f"each more, up to {head}" for head in heads[1:]) + " | " + " | ".join(f"MiB, {head}" for head in heads) + " |")
    print("|---|" + "---:|" * (3 * len(sizes) - 1))
    for stage in STAGES:
        each = [size[stage]["processor_s"] / size["tokens"] * 1e6 for size in sizes]
        more = [(b[stage]["processor_s"] - a[stage]["processor_s"]) / (b["tokens"] - a["tokens"]) * 1e6
                for a, b in zip(sizes, sizes[1:])]
        memory = [size[stage]["own_mib"] for size in sizes]
        print(f"| {stage} | " + " | ".join([f"{v:.1f}" for v in each + more] + [f"{v:,.0f}" for v in memory]) + " |")


def plot(results, path):
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    sizes = sorted(results.values(), key=lambda size: size["tokens"])
    tokens = [size["tokens"] for size in sizes]
    figure, (time_axis, memory_axis) = plt.subplots(1, 2, figsize=(10, 4))
    for stage in STAGES:
        time_axis.plot(tokens, [size[stage]["processor_s"] / size["tokens"] * 1e6 for size in sizes], "o-", label=stage)
        memory_axis.plot(tokens, [size[stage]["own_mib"] for size in sizes], "o-", label=stage)
    time_axis.set_ylabel("processor time per token, µs")
    memory_axis.set_ylabel("peak memory without mapped files, MiB")
    for axis in (time_axis, memory_axis):
        axis.set(xscale="log", yscale="log", xlabel="tokens")
        axis.grid(alpha=0.3)
    memory_axis.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=120)


def main():
    a = parse()
    file = a.work / "growth.json"
    results = json.loads(file.read_text()) if file.exists() else {}
    if not a.report:
        run_all(a, results)
    report(results)
    plot(results, a.plot)


if __name__ == "__main__":
    main()
