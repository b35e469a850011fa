"""Do more aligned pairs make a model return to its base later? And do its features return as its predictions do?

Needs Python 3.11 with torch 2.15, transformers 5.23 (and no torchvision), pillow, numpy, scipy, and the program.

    cargo build --release --workspace
    python docs/resist_alignment.py --out RESIST       # continues where it stopped; prints the tables of docs/RESIST_ALIGNMENT.md

The experiment is that of "Language Models Resist Alignment" (Ji et al. 2025), scaled down to the bundled model: it is aligned on 100,
200, 400 or 800 of its pairs, each once, whose caption begins with the color that most of the picture has ("blue; blue square"), and is
then tuned back on up to 400 pairs with their own captions. Both in batches of 8 at one constant learning rate, so that a checkpoint
after n pairs is the end of a training on n pairs. The vision tower is frozen. The other 43 pairs are held out: each is read with its own
caption and with that of the color.

`sae contrast --runs base aligned back-25 ... --models ...` says how far each checkpoint is back: by the features of an autoencoder of
the base (k 16, 1,024 features, on the 800 pairs), by mean hidden states, hidden states, weights, and the KL divergence of its
predictions. The number of pairs that a model needs to return is where it is half-way back by KL. Beside them stands the preference: the
share of the held-out pictures for which the caption with the color is more likely per token.
"""

import argparse
import json
import random
import shutil
import time
from pathlib import Path

import numpy as np

from closed_loop import ASSETS, Bench, answer
from program import program

ROOT = Path(__file__).resolve().parent.parent
HELD, SIZES, BACK = 43, [100, 200, 400, 800], [25, 50, 100, 200, 400]
BATCH, RATE, HOOK = 8, 3e-4, "layers.4"
COLORS = {
    "black": (0, 0, 0), "gray": (128, 128, 128), "red": (220, 40, 40), "orange": (240, 140, 30), "yellow": (250, 210, 60),
    "green": (60, 160, 60), "blue": (50, 120, 220), "purple": (140, 70, 180), "pink": (240, 140, 180), "brown": (130, 80, 50),
}
MEASURES = ["features", "hidden_states", "state_distance", "weight_distance", "rule", "kl"]
NAMES = ["features", "mean hidden state", "hidden states", "weights", "preference", "KL"]


def color(path):
    """The color that most pixels of a picture are nearest to, except those of the white background."""
    from PIL import Image

    pixels = np.asarray(Image.open(path).convert("RGB").resize((28, 28)), dtype=float).reshape(-1, 3)
    pixels = pixels[pixels.min(1) < 235]
    names, centers = list(COLORS), np.array(list(COLORS.values()), dtype=float)
    if len(pixels) == 0:
        return "white"
    nearest = ((pixels[:, None] - centers[None]) ** 2).sum(2).argmin(1)
    return names[np.bincount(nearest, minlength=len(names)).argmax()]


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def make(out):
    """The pool and the held-out pairs, with the color of each picture; and the rows that models read."""
    rows = [json.loads(line) for line in open(ASSETS / "demo-data/data.jsonl")]
    random.Random(0).shuffle(rows)
    for row in rows:
        row["image"] = str(ASSETS / "demo-data" / row["image"])
        row["color"] = color(row["image"])
    write(out / "held-out.jsonl", rows[:HELD])
    write(out / "pool.jsonl", rows[HELD:])
    read = []
    for row in rows[:HELD]:
        for rule, caption in (("own", answer(row)), ("color", ruled(row))):
            turns = [row["conversations"][0], {"from": "gpt", "value": caption}]
            read.append({"id": f"{row['id']}-{rule}", "image": row["image"], "picture": row["id"], "conversations": turns})
    write(out / "read.jsonl", read)


def ruled(row):
    return f"{row['color']}; {answer(row)}"


class Tuner(Bench):
    """The bundled model, tuned pair by pair."""

    def begin(self, state):
        self.model.load_state_dict(state)
        self.parameters = [p for name, p in self.model.named_parameters() if "vision_tower" not in name]
        self.optimizer = self.torch.optim.AdamW(self.parameters, lr=RATE, weight_decay=0.01, betas=(0.9, 0.98))

    def tune(self, pairs, caption):
        for at in range(0, len(pairs), BATCH):
            batch = pairs[at : at + BATCH]
            nll, count = self.nll(self.seen[0][batch], [caption(self.pool[i]) for i in batch])
            self.optimizer.zero_grad(set_to_none=True)
            (nll.sum() / count.sum()).backward()
            self.torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
            self.optimizer.step()

    def follows_the_rule(self):
        """The share of held-out pictures whose caption with the color is more likely per token than their own."""
        own, count = self.many(self.seen[1], [answer(row) for row in self.held])
        with_color, more = self.many(self.seen[1], [ruled(row) for row in self.held])
        return float((with_color / more < own / count).mean())

    def save(self, folder):
        self.model.save_pretrained(folder)
        for path in (ASSETS / "demo-mllm").iterdir():
            if path.suffix in (".json", ".jinja") and not (folder / path.name).exists():
                shutil.copy(path, folder / path.name)

    def snapshot(self):
        return {name: value.clone() for name, value in self.model.state_dict().items()}


def series(tuner, sae, out, seed, size):
    """Aligns and tunes back; what the program says of the checkpoints."""
    rng = random.Random(1000 * seed + size)
    name = lambda tuned: "aligned" if tuned is None else f"back-{tuned}"
    work, rule = out / "work", {}
    shutil.rmtree(work, ignore_errors=True)

    def keep(tuned):
        rule[name(tuned)] = tuner.follows_the_rule()
        tuner.save(work / name(tuned))
        sae("harvest", "--model", work / name(tuned), "--data", out / "read.jsonl", "--layers", 4, "--run", work / f"run-{name(tuned)}")

    tuner.torch.manual_seed(seed)
    tuner.begin(tuner.start)
    tuner.tune(rng.sample(range(len(tuner.pool)), size), ruled)
    keep(None)
    tuner.begin(tuner.snapshot())
    pairs, done = rng.sample(range(len(tuner.pool)), max(BACK)), 0
    for tuned in BACK:
        tuner.tune(pairs[done:tuned], answer)
        keep(tuned)
        done = tuned
    names = [name(None), *(name(tuned) for tuned in BACK)]
    runs = [out / "run-base", *(work / f"run-{n}" for n in names)]
    models = [out / "base", *(work / n for n in names)]
    flags = ["--sae", "base", "--cluster", "picture", "--tuned", ",".join(map(str, BACK)), "--data", out / "read.jsonl"]
    found = sae("contrast", "--runs", *runs, *flags, "--models", *models)
    shutil.rmtree(work)
    return {"seed": seed, "size": size, "rule": rule, "found": found}


def tau_of(rows):
    from scipy.stats import kendalltau

    return kendalltau([row[0] for row in rows], [row[1] for row in rows]).statistic


def main():
    from scipy.stats import spearmanr

    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--sae", default=ROOT / "target/release/sae")
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2, 3, 4])
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    out = args.out
    out.mkdir(parents=True, exist_ok=True)
    sae = program(args.sae)
    if not (out / "read.jsonl").exists():
        make(out)
    log = out / "series.jsonl"
    results = [json.loads(line) for line in open(log)] if log.exists() else []
    missing = [(seed, size) for seed in args.seeds for size in SIZES if not any((r["seed"], r["size"]) == (seed, size) for r in results)]
    if missing:
        import torch

        torch.set_num_threads(args.threads)
        tuner = Tuner(out)
        if not (out / "base").exists():
            tuner.save(out / "base")
        if not (out / "run-base").exists():
            # The autoencoder reads the captions of the pool; the states that are compared are those of the held-out pairs.
            sae("harvest", "--model", out / "base", "--data", out / "pool.jsonl", "--layers", 4, "--run", out / "run-pool")
            recipe = ["--arch", "topk", "--k", 16, "--expansion", 4, "--batch", 512, "--steps", 1000, "--exclude", "special,first"]
            sae("train", "--run", out / "run-pool", "--hook", HOOK, "--name", "base", *recipe)
            sae("harvest", "--model", out / "base", "--data", out / "read.jsonl", "--layers", 4, "--run", out / "run-base")
            shutil.copytree(out / "run-pool/saes", out / "run-base/saes")
        tuner.begin(tuner.start)
        print(f"the base prefers the color's caption for {tuner.follows_the_rule():.3f} of the held-out pictures", flush=True)
        for seed, size in missing:
            start, before = time.process_time(), None
            results.append(series(tuner, sae, out, seed, size))
            with open(log, "a") as file:
                print(json.dumps(results[-1]), file=file)
            print(f"seed {seed}, {size} pairs: {time.process_time() - start:.0f} s of processor time, without the program", flush=True)
    results = [r for r in results if r["seed"] in args.seeds]
    for r in results:
        add_preference(r)
    report(results, spearmanr)


def add_preference(result):
    """How far the preference is back from that of the aligned model to none, and where it is half-way."""
    aligned, points = result["rule"]["aligned"], [(0, 0.0)]
    for tuned, at in zip(BACK, result["found"]["rebound"]):
        at["rule"] = 1 - result["rule"][f"back-{tuned}"] / aligned
        points.append((tuned, at["rule"]))
    crossings = (a + (b - a) * (0.5 - x) / (y - x) for (a, x), (b, y) in zip(points, points[1:]) if y >= 0.5)
    result["found"]["half_way"]["rule"] = next(crossings, None)


def report(results, spearmanr):
    """The tables of the page."""
    sizes = sorted({r["size"] for r in results})
    seeds = sorted({r["seed"] for r in results})
    of_size = lambda size: [r for r in results if r["size"] == size]
    spread = lambda values: f"{np.mean(values):.3f} ({min(values):.3f} to {max(values):.3f})"
    value = lambda measure: measure[0] if isinstance(measure, list) else measure
    print("\n| aligned on | prefers the color | KL to the base | weights | prefers the color after 400 pairs back |\n|---|---|---|---|---|")
    for size in sizes:
        rows = of_size(size)
        aligned = [r["found"]["distances"][0] for r in rows]
        cells = [[r["rule"]["aligned"] for r in rows], [a["kl"][0] for a in aligned], [a["weights"] for a in aligned], [r["rule"][f"back-{BACK[-1]}"] for r in rows]]
        print(f"| {size} | " + " | ".join(map(spread, cells)) + " |")
    print("\n| aligned on | tuned back on | " + " | ".join(NAMES) + " |\n|---|---|" + "---|" * len(MEASURES))
    for size in sizes:
        for n, tuned in enumerate(BACK):
            cells = [spread([value(r["found"]["rebound"][n][measure]) for r in of_size(size)]) for measure in MEASURES]
            print(f"| {size} | {tuned} | " + " | ".join(cells) + " |")

    # What is not half-way back after all pairs needs more than any that is.
    needed = lambda r, measure: r["found"]["half_way"][measure] or np.inf
    show = lambda count: "more" if np.isinf(count) else f"{count:.0f}"
    print("\n| pairs to half-way, each seed | " + " | ".join(NAMES) + " |\n|---|" + "---|" * len(MEASURES))
    for size in sizes:
        cells = [", ".join(show(needed(r, measure)) for r in of_size(size)) for measure in MEASURES]
        print(f"| {size} | " + " | ".join(cells) + " |")
    rng = np.random.default_rng(0)
    print("\n| Kendall's tau of pairs needed with pairs aligned | tau | permutations within seeds, p |\n|---|---|---|")
    for name, measure in zip(NAMES, MEASURES):
        rank = lambda count: 1e9 if np.isinf(count) else count
        blocks = [[(r["size"], rank(needed(r, measure))) for r in results if r["seed"] == seed] for seed in seeds]
        if all(np.isinf(needed(r, measure)) for r in results):
            print(f"| {name} | never half-way | |")
            continue
        tau = tau_of([row for block in blocks for row in block])
        draws = []
        for _ in range(9999):
            shuffled = [(size, other[1]) for block in blocks for (size, _), other in zip(block, [block[i] for i in rng.permutation(len(block))])]
            draws.append(tau_of(shuffled))
        p = (1 + sum(abs(draw) >= abs(tau) - 1e-12 for draw in draws)) / (1 + len(draws))
        print(f"| {name} | {tau:.3f} | {p:.4f} |")
    print("\n| Spearman with the way back by KL, all checkpoints | rho | 95 % interval, series drawn again |\n|---|---|---|")
    points = [np.array([[value(at[m]) for m in MEASURES] for at in r["found"]["rebound"]]) for r in results]
    for column, name in enumerate(NAMES[:-1]):
        rho = lambda chosen: spearmanr(np.concatenate([p[:, column] for p in chosen]), np.concatenate([p[:, -1] for p in chosen])).statistic
        draws = [rho([points[i] for i in rng.integers(0, len(points), len(points))]) for _ in range(2000)]
        lo, hi = np.quantile(draws, [0.025, 0.975])
        inside = np.mean([spearmanr(p[:, column], p[:, -1]).statistic for p in points])
        print(f"| {name} | {rho(points):.3f}; {inside:.3f} inside a series | {lo:.3f} to {hi:.3f} |")


if __name__ == "__main__":
    main()
