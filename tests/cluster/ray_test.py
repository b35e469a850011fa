"""A harvest and an index by `sae launch ray` on a real Ray with three nodes, of which one dies while it works.

The result has to have the bytes of the same job without Ray. Needs Ray 2.60 and the program. Takes about two minutes.

    cargo build --release
    python tests/cluster/ray_test.py
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import ray
from ray.cluster_utils import Cluster

ROOT = Path(__file__).resolve().parent.parent.parent
SAE = Path(os.environ.get("SAE", ROOT / "target/release/sae")).resolve()
DATA = ROOT / "assets/demo-data"
PARTS, ROWS = 6, 240


def say(text):
    print(time.strftime("%T"), text, flush=True)


def sae(*words):
    return subprocess.run([SAE, *map(str, words)], check=True, capture_output=True, text=True).stdout


def sums(run):
    """The SHA-256 of each file by its name, without those that hold the time or a path."""
    folders = [run / name for name in ("activations", "tokens", "features")]
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file() and path.name != "manifest.json"]
    return {str(p.relative_to(run)): hashlib.sha256(p.read_bytes()).hexdigest() for p in [*files, run / "samples.parquet"]}


def main():
    work = Path(tempfile.mkdtemp())
    rows = [json.loads(line) for line in open(DATA / "data.jsonl")][:ROWS]
    (work / "data.jsonl").write_text("".join(json.dumps(row | {"image": str(DATA / row["image"])}) + "\n" for row in rows))
    data = ["--model", ROOT / "assets/demo-mllm", "--data", work / "data.jsonl", "--layers", 4, "--shard-tokens", 4096, "--device", "cpu"]

    # The same job without Ray.
    shards = [work / f"alone.shards/{part}" for part in range(1, PARTS + 1)]
    for part, shard in enumerate(shards, 1):
        sae("harvest", *data, "--shard", f"{part}/{PARTS}", "--run", shard)
    alone, run = work / "alone", work / "run"
    sae("merge", *shards, "--run", alone)
    sae("train", "--run", alone, "--hook", "layers.4", "--name", "a", "--arch", "topk", "--features", 512, "--k", 16, "--steps", 50, "--batch", 256)
    sae("index", "--run", alone, "--sae", "a")
    say("without Ray: done")

    # Three nodes with a processor each, beside the head. They find the program by their environment.
    (work / "bin").mkdir()
    (work / "bin/sae").symlink_to(SAE)
    os.environ["PATH"] = f"{work / 'bin'}:{os.environ['PATH']}"
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    nodes = [cluster.add_node(num_cpus=1) for _ in range(3)]
    cluster.wait_for_nodes()
    os.environ["RAY_ADDRESS"] = cluster.address
    say(f"Ray {ray.__version__} with three nodes")

    def drive(name, *words, kill=None):
        (work / name).write_text(sae("launch", "ray", *words) if kill is None else sae("launch", "ray", "--at-once", 3, *words))
        driver = subprocess.Popen([sys.executable, work / name], cwd=work)
        if kill:
            while not list(work.glob("run.shards/*/activations/*/*.safetensors")):
                time.sleep(0.05)
            cluster.remove_node(kill, allow_graceful=False)
            say("killed a node")
        if driver.wait():
            sys.exit(f"{name} ended with status {driver.returncode}; left for a look: {work}")

    drive("harvest.py", "--parts", PARTS, "--", "harvest", *data, "--run", run, kill=nodes[1])
    shutil.copytree(alone / "saes", run / "saes")
    drive("index.py", "--parts", 3, "--", "pass", "index", "--run", run, "--sae", "a")
    cluster.shutdown()
    expected, found = sums(alone), sums(run)
    assert expected == found, f"other bytes, left for a look: {work}: {expected.items() ^ found.items()}"
    say(f"{len(found)} files have the bytes of the job without Ray")
    shutil.rmtree(work)


if __name__ == "__main__":
    main()
