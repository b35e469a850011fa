"""Does `sae filter --match` find the samples of a target in a mix?

Needs Python 3.11 with numpy, pyarrow, torch and safetensors (to read activations), and the program.

    cargo build --release --workspace
    python docs/match_target.py --out MATCH            # prints the table of docs/SELECTION.md, and writes MATCH/match.json

A target are the bundled pairs with a word in their caption (flag, woman, animal, heart), or those that one artist drew (Fluent,
Noto, Twemoji). Half of them are the target run, and the other half are planted in the mix of all other pairs. An autoencoder is
trained on the mix, which contains no pair of the target. As many samples are kept as were planted, so the share of planted samples among
the kept is precision and recall at once. Beside `--match`: a random choice, `--diverse`, `--rule greedselect`, and the samples whose
mean hidden state has the highest cosine with that of the target, over all positions, as the features are.
"""

import argparse
import json
import random
import re
from pathlib import Path

import numpy as np
import pyarrow.parquet as parquet

from program import program

ROOT = Path(__file__).resolve().parent.parent
ASSETS = ROOT / "assets"
TARGETS = ["flag", "woman", "animal", "heart", "fluent", "noto", "twemoji"]
HOOK = "layers.4"


def means(run):
    """The mean hidden state of each sample, `[samples, width]`."""
    from safetensors import safe_open

    folder = run / "activations" / HOOK
    rows = []
    for shard in json.loads((folder / "manifest.json").read_text())["shards"]:
        with safe_open(folder / shard["file"], "pt") as file:
            rows.append(file.get_tensor("activations").float().numpy())
    rows = np.concatenate(rows)
    tables = [parquet.read_table(path, columns=["sample"]) for path in sorted((run / "tokens").glob("*.parquet"))]
    sample = np.concatenate([table.column("sample").to_numpy() for table in tables])
    sums = np.zeros((sample.max() + 1, rows.shape[1]))
    np.add.at(sums, sample, rows)
    return sums / np.bincount(sample)[:, None]


def belongs(row, target):
    """Whether an artist drew a pair, or a word is in its caption."""
    return row["source"] == target or target in re.findall("[a-z]+", row["conversations"][1]["value"].lower())


def one(args, name, seed):
    sae = program(args.sae)
    out = args.out / f"{name}-{seed}"
    out.mkdir(parents=True)
    rows = [json.loads(line) for line in open(ASSETS / "demo-data/data.jsonl")]
    for row in rows:
        row["image"] = str(ASSETS / "demo-data" / row["image"])
    members = [row for row in rows if belongs(row, name)]
    random.Random(seed).shuffle(members)
    target = members[: len(members) // 2]
    ids = {row["id"] for row in target}
    parts = {"target": target, "mix": [row for row in rows if row["id"] not in ids]}
    for part, its_rows in parts.items():
        data = out / f"{part}.jsonl"
        data.write_text("".join(json.dumps(row) + "\n" for row in its_rows))
        sae("harvest", "--model", ASSETS / "demo-mllm", "--data", data, "--layers", 4, "--run", out / part)
    mix = out / "mix"
    sae("train", "--run", mix, "--hook", HOOK, "--arch", "topk", "--k", 16, "--expansion", 8, "--batch", 512, "--steps", args.steps, "--name", "a")
    sae("score", "--run", mix)
    samples = parquet.read_table(mix / "samples.parquet").to_pylist()
    planted = {row["id"]: belongs(row, name) for row in parts["mix"]}
    planted = np.array([planted[sample["key"]] for sample in samples])
    keep = int(planted.sum())

    def filtered(folder, *words):
        folder = out / folder
        sae("filter", "--run", mix, "--keep", keep, "--out", folder, "--format", "jsonl", "--images", "reference", *words)
        kept = parquet.read_table(folder / "decisions.parquet").column("stays").to_numpy(zero_copy_only=False)
        return float(planted[kept].mean())

    goal = means(out / "target").mean(0)
    states = means(mix)
    cosine = states @ goal / np.linalg.norm(states, axis=1)
    centered = states - states.mean(0)
    centered_cosine = centered @ (goal - states.mean(0)) / np.linalg.norm(centered, axis=1)
    found = {
        "planted in the mix (random choice)": float(planted.mean()),
        "--by random": filtered("random", "--by", "random"),
        "--diverse": filtered("diverse", "--diverse"),
        "--rule greedselect": filtered("greedselect", "--rule", "greedselect"),
        "cosine with the target's mean hidden state": float(planted[np.argsort(-cosine, kind="stable")[:keep]].mean()),
        "the same, both less the mean of the mix": float(planted[np.argsort(-centered_cosine, kind="stable")[:keep]].mean()),
        "--match": filtered("match", "--match", out / "target"),
        "--match --by cosine_corrected": filtered("match-by", "--match", out / "target", "--by", "cosine_corrected"),
    }
    print(name, seed, found, flush=True)
    return found, keep


def interval(share, kept):
    """The 95 % interval of Wilson for the share of planted samples among the kept, which are taken for independent draws."""
    z = 1.96
    middle, width = share + z * z / 2 / kept, z * (share * (1 - share) / kept + (z / 2 / kept) ** 2) ** 0.5
    return f"{(middle - width) / (1 + z * z / kept):.3f} to {(middle + width) / (1 + z * z / kept):.3f}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--sae", default=ROOT / "target/release/sae")
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--seeds", type=int, nargs="*", default=[0])
    parser.add_argument("--targets", nargs="*", default=TARGETS)
    args = parser.parse_args()
    results = []
    for name in args.targets:
        for seed in args.seeds:
            share, kept = one(args, name, seed)
            results.append({"target": name, "seed": seed, "share": share, "kept": kept})
    (args.out / "match.json").write_text(json.dumps(results, indent=1))
    print("| selection | " + " | ".join(args.targets) + " |")
    print("|---" * (len(args.targets) + 1) + "|")
    for name in results[0]["share"]:
        of = [[r["share"][name] for r in results if r["target"] == target] for target in args.targets]
        print(f"| {name} | " + " | ".join(f"{np.mean(x):.3f}" for x in of) + " |")
    kept = [[r["kept"] for r in results if r["target"] == target] for target in args.targets]
    of = [np.average([r["share"]["--match"] for r in results if r["target"] == t], weights=k) for t, k in zip(args.targets, kept)]
    print("| --match, 95 % interval | " + " | ".join(interval(share, sum(k)) for share, k in zip(of, kept)) + " |")


if __name__ == "__main__":
    main()
