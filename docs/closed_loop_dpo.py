"""Does filtering pick better preferences? DPO of the bundled model on pairs of captions of which some are flipped.

Needs Python 3.11 with torch 2.15, transformers 5.23 (and no torchvision), pillow, numpy, scipy, pyarrow, matplotlib.

    python docs/closed_loop_dpo.py make  --out LOOP     # pool.jsonl, 30 % of its pairs flipped; held-out.jsonl
    for side in chosen rejected; do
      sae harvest --model assets/demo-mllm --data LOOP/pool.jsonl --layers 4 --answers $side --run LOOP/$side --blank-images --store-dtype f16
      cp -r CALIBRATION/saes LOOP/$side/                # an autoencoder of the same layer (docs/SCORES.md)
    done
    sae score --run LOOP/rejected --model assets/demo-mllm --data LOOP/pool.jsonl --answers rejected
    sae score --run LOOP/chosen --rejected LOOP/rejected --calibrate CALIBRATION --calibrate LOOP/chosen \\
        --model assets/demo-mllm --data LOOP/pool.jsonl --answers chosen
    sae probe --run LOOP/chosen --rejected LOOP/rejected --name right --kind pair
    python docs/closed_loop_dpo.py train --out LOOP     # every score and share; continues where it stopped
    python docs/closed_loop_dpo.py plot  --out LOOP --picture docs/images/closed-loop-dpo.png

The rows are those of docs/closed_loop.py: the model learns from pictures that Noto and Twemoji drew, and is measured on
those of Fluent. The right caption of a picture is preferred over a near one (that with most words in common) or over that of
another picture. In flipped pairs it is the other way round, and their scores are computed from what the row says. What is
kept is what a score ranks highest. A margin is the score of the preferred caption less that of the other one.

DPO (Rafailov et al. 2023, equation 7) trains the last two blocks, the last norm and the head, for the same number of steps
on whatever was kept: one pass over all pairs (`all_twice`: two). The reference is the model before. The seed determines
which pairs are flipped, their order, and the draw of `random`. There are two measures on the held-out pairs: the loss, and
how often the right caption has the higher implicit reward, that is, how often its likelihood rose more than that of the
other one. How often it is the more likely one is printed as well. Intervals are bootstraps of pictures and seeds.
"""

import argparse
import json
import random
import re
from pathlib import Path

import numpy as np
from closed_loop import ASSETS, HELD_OUT, ROOT, UpperBench, answer
from measures import auc_with_interval

FLIPPED, BETA, FROZEN = 0.3, 0.1, 6
STEPS, RATE = 37, 3e-4
SHARES = [0.3, 0.5, 0.7]
MEASURES = {
    "loss": "held-out loss of DPO (lower is better)",
    "reward": "right caption has the higher reward (higher is better)",
    "swapped": "the same over swapped captions",
    "near": "the same over near captions",
    "likelihood": "right caption is the more likely one",
}
SCORES = ["random", "cosine_paper", "ifd", "likelihood_margin", "pmi_blank_margin"]


def words(text):
    return set(re.findall(r"[a-z0-9-]+", text))


def near(right, captions):
    """The other caption with the largest share of words in common, or `None` if none has any."""
    own = words(right)
    share = lambda other: len(own & words(other)) / len(own | words(other))
    best = max((caption for caption in captions if caption != right), key=share)
    return best if share(best) > 0 else None


def make(args):
    rng = random.Random(0)
    rows = [json.loads(line) for line in open(ASSETS / "demo-data/data.jsonl")]
    args.out.mkdir(parents=True, exist_ok=True)
    for name in ("pool", "held-out"):
        part = [row for row in rows if (row["source"] == HELD_OUT) == (name == "held-out")]
        captions = sorted({answer(row) for row in part})
        flipped = set(rng.sample(range(len(part)), round(FLIPPED * len(part)))) if name == "pool" else set()
        with open(args.out / f"{name}.jsonl", "w") as file:
            for i, row in enumerate(part):
                right = answer(row)
                wrong = {"near": near(right, captions), "swapped": rng.choice([c for c in captions if c != right])}
                kind = rng.choice([kind for kind, caption in wrong.items() if caption])
                pair = [right, wrong[kind]] if i not in flipped else [wrong[kind], right]
                image = str(ASSETS / "demo-data" / row["image"])
                facts = {"id": row["id"], "image": image, "question": "<image>", "chosen": pair[0], "rejected": pair[1]}
                facts |= {"kind": kind, "flipped": i in flipped} if name == "pool" else wrong
                print(json.dumps(facts), file=file)
        print(f"{name}: {len(part)} pairs, {len(flipped)} flipped")


class Preferences(UpperBench):
    """DPO on pairs of captions, with what the reference model says of them computed once."""

    def __init__(self, out):
        super().__init__(out, FROZEN)
        both = [row[side] for row in self.pool for side in ("chosen", "rejected")]
        # A picture without a near caption gets its swapped one twice, of which `accuracies` counts one.
        three = [c for row in self.held for c in (row["chosen"], row["swapped"], row["near"] or row["swapped"])]
        self.pairs, self.tests = self.prepare(self.seen[0], both), self.prepare(self.seen[1], three)
        self.drop_lower_blocks()
        self.reference = self.all_prepared(self.pairs)[0]
        self.reference_tests = self.all_prepared(self.tests)[0]

    def tune(self, kept, turned, seed, steps=STEPS):
        """DPO on some pairs, of which those that are `turned` are read the other way round than in the file."""
        sign = self.torch.tensor([-1.0 if turn else 1.0 for turn in turned])

        def loss(batch):
            nll, _ = self.prepared_nll(self.pairs, batch)
            reward = BETA * (self.reference[batch] - nll)
            return -self.functional.logsigmoid(sign[batch] * (reward[:, 0] - reward[:, 1])).mean()

        self.descend(kept, seed, loss, steps, RATE)
        return self.measure()

    def measure(self):
        nll, count = self.all_prepared(self.tests)
        reward = BETA * (self.reference_tests - nll)
        margins = {"reward": reward[:, :1] - reward[:, 1:], "likelihood": nll[:, 1:] - nll[:, :1]}
        found = {f"{name}_margins": np.round(margin.tolist(), 4).tolist() for name, margin in margins.items()}
        return found | {"nll": float(nll[:, 0].sum() / count[:, 0].sum())}


def accuracies(found, near, rows=slice(None)):
    """`MEASURES` of all or some pictures, of which some have a near caption."""
    near = near[rows]
    reward, likelihood = [np.asarray(found[f"{name}_margins"])[rows] for name in ("reward", "likelihood")]
    every = np.stack([np.ones_like(near), near], 1)
    won = lambda margin: ((margin > 0) + 0.5 * (margin == 0)).mean()
    loss = np.logaddexp(0, -reward)[every].mean()
    return np.array([loss, won(reward[every]), won(reward[:, 0]), won(reward[near, 1]), won(likelihood[every])])


def has_near(held):
    return np.array([row["near"] is not None for row in held])


def flips(pool, seed):
    """Which pairs are flipped: for seed 0 those of the file, for another seed as many others."""
    if seed == 0:
        return np.array([row["flipped"] for row in pool])
    return np.isin(np.arange(len(pool)), random.Random(seed).sample(range(len(pool)), round(FLIPPED * len(pool))))


def columns(args, pool, turned):
    """What each score says of the pairs, in the order of the pool, if some are turned.

    A margin changes its sign, and of the other scores that of the other caption is taken. Weights and fits were made with the
    pairs of the file, which are 589 of 10,888.
    """
    import pyarrow.parquet as parquet

    def table(side):
        keys = parquet.read_table(args.out / side / "samples.parquet").column("key").to_pylist()
        if keys != [row["id"] for row in pool]:
            raise SystemExit(f"{args.out / side}: expected the rows of pool.jsonl in their order")
        return parquet.read_table(args.out / side / "scores/topk.parquet")

    chosen, rejected = table("chosen"), table("rejected")
    of = lambda table, name: table.column(name).to_numpy()
    found = {}
    for name in ("cosine_paper", "pmi_blank", "pmi"):
        found[name] = np.where(turned, of(chosen, f"{name}_rejected"), of(chosen, name))
    for name in ("ifd", "likelihood", "likelihood_drop"):
        found[name] = np.where(turned, of(rejected, name), of(chosen, name))
        found[f"{name}_margin"] = np.where(turned, -1, 1) * (of(chosen, name) - of(rejected, name))
    for name in ("cosine_paper_margin", "pmi_margin", "pmi_blank_margin", "pmi_token_min_margin"):
        found[name] = np.where(turned, -1, 1) * of(chosen, name)
    return found


def train(args):
    import torch

    torch.set_num_threads(1)
    bench = Preferences(args.out)
    everything, log = np.arange(len(bench.pool)), args.out / "loop.jsonl"
    for seed in args.seeds:
        flipped = flips(bench.pool, seed)
        turned = flipped != flips(bench.pool, 0)
        scores = columns(args, bench.pool, turned) | {"random": np.random.default_rng(seed).random(len(everything)), "unflipped": ~flipped}
        jobs = [("before", 0.0), ("all", 1.0), ("all_twice", 1.0), ("unflipped", round(1 - flipped.mean(), 3))]
        jobs += [(name, share) for share in sorted(SHARES, key=lambda share: abs(share - 0.5)) for name in args.scores]
        for by, share in jobs:
            # Read again, so that two of these commands may share the work, each with other seeds.
            done = {(r["by"], r["share"], r["seed"]) for r in map(json.loads, open(log))} if log.exists() else set()
            if (by, share, seed) in done or (by == "before" and seed > 0):
                continue
            kept = np.argsort(-1.0 * scores[by], kind="stable")[: round(share * len(everything))] if by in scores else everything
            steps = 2 * STEPS if by == "all_twice" else STEPS
            found = bench.measure() if by == "before" else bench.tune(sorted(kept.tolist()), turned, seed, steps)
            right = float(1 - flipped[kept].mean())
            with open(log, "a") as file:
                print(json.dumps({"by": by, "share": share, "seed": seed, "right": right} | found), file=file)
            print(by, share, seed, f"{right:.3f}", accuracies(found, has_near(bench.held)).round(3), flush=True)


def bootstrap(rows, near, base=None, count=1000):
    """The mean of `MEASURES` over seeds, and its 95 % interval over draws of pictures and of seeds; `[measures, 3]`.

    With the results `base` of the same seeds: the differences from them, of the same pictures and seeds.
    """
    rng, draws = np.random.default_rng(0), []

    def mean(seeds, drawn):
        return np.mean([accuracies(rows[seed], near, drawn) - (accuracies(base[seed], near, drawn) if base else 0) for seed in seeds], 0)

    for _ in range(count):
        drawn = rng.integers(0, len(near), len(near))
        draws.append(mean(rng.integers(0, len(rows), len(rows)), drawn))
    return np.stack([mean(range(len(rows)), slice(None)), *np.quantile(draws, [0.025, 0.975], axis=0)], 1)


def plot(args):
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    near = has_near([json.loads(line) for line in open(args.out / "held-out.jsonl")])
    results, found = {}, {}
    for row in map(json.loads, open(args.out / "loop.jsonl")):
        margins = {f"{name}_margins": np.array(row[f"{name}_margins"]) for name in ("reward", "likelihood")}
        results.setdefault((row["share"], row["by"]), {})[row["seed"]] = row | margins
    show = lambda values: "".join("{:>9.3f} [{:.3f}, {:.3f}]".format(*value) for value in values)
    print(f"{'by':18}{'kept':>6}{'right':>8}{'seeds':>7}" + "".join(f"{name:>24}" for name in MEASURES) + f"{'NLL':>8}")
    for (share, by), rows in sorted(results.items()):
        means = [np.mean([row[key] for row in rows.values()]) for key in ("right", "nll")]
        found[by, share] = bootstrap(list(rows.values()), near)
        print(f"{by:18}{100 * share:>5.0f}%{means[0]:>8.3f}{len(rows):>7}{show(found[by, share])}{means[1]:>8.3f}")
    print("\nless random of the same share; less all pairs")
    for (share, by), rows in sorted(results.items()):
        for base in (results.get((share, "random"), {}), results[1.0, "all"]) if by in args.scores else ():
            seeds = sorted(rows.keys() & base.keys())
            if seeds:
                difference = bootstrap([rows[seed] for seed in seeds], near, [base[seed] for seed in seeds])
                print(f"{by:18}{100 * share:>5.0f}%{len(seeds):>15}{show(difference)}")
    lines = {"all": ("-", "all pairs"), "all_twice": ("-.", "all pairs, twice the steps"), "unflipped": ("--", "the unflipped pairs"), "before": (":", "before")}
    figure, axes = plt.subplots(1, 2, figsize=(13, 5.2))
    for axis, measure in zip(axes, (0, 1)):
        for by in args.scores:
            shares = [share for name, share in found if name == by]
            values = np.array([found[by, share][measure] for share in shares])
            bars = abs(values[:, 1:] - values[:, :1]).T
            axis.errorbar([100 * share for share in shares], values[:, 0], bars, label=by, capsize=3, marker="o",
                          lw=2.2 if by == "pmi_blank_margin" else 1.2, color="#888" if by == "random" else None)
        for (by, _), values in found.items():
            if by in lines:
                axis.axhline(values[measure, 0], color="black", ls=lines[by][0], lw=1, label=lines[by][1])
        axis.set(title=list(MEASURES.values())[measure], xlabel="kept, % of the pairs")
    axes[0].legend(fontsize=8, ncol=2)
    figure.suptitle(f"DPO on what each score keeps of pairs of which {100 * FLIPPED:.0f} % are flipped; 95 % intervals over pictures and seeds")
    figure.tight_layout()
    figure.savefig(args.picture, dpi=100)

    pool = [json.loads(line) for line in open(args.out / "pool.jsonl")]
    near = np.array([row["kind"] == "near" for row in pool])
    print("\nAUC of unflipped pairs: all, near, swapped")
    for name, score in columns(args, pool, np.zeros(len(pool), bool)).items():
        areas = [auc_with_interval(score[part], ~flips(pool, 0)[part]) for part in (near | True, near, ~near)]
        print(f"{name:24}" + "   ".join(areas))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("command", choices=["make", "train", "plot"])
    parser.add_argument("--out", type=Path, required=True, help="folder of the loop")
    parser.add_argument("--picture", type=Path, default=ROOT / "docs/images/closed-loop-dpo.png")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2, 3, 4])
    parser.add_argument("--scores", nargs="+", default=SCORES)
    args = parser.parse_args()
    {"make": make, "train": train, "plot": plot}[args.command](args)


if __name__ == "__main__":
    main()
