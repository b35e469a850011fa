"""Does filtering pick better training data where thousands of pairs are there, and they are not emoji? Icons with their names.

Needs Python 3.11 with torch 2.15, transformers 5.23 (and no torchvision), pillow, numpy, pyarrow, matplotlib. The pictures
are the packages `@tabler/icons` and `@tabler/icons-png` 3.48.0 of npm (MIT), unpacked as ICONS/icons and ICONS/png.

    python docs/closed_loop_large.py make --out LARGE --icons ICONS       # three draws of warm-up, pool, and held-out pairs
    python docs/closed_loop_large.py warm --out LARGE                     # a model for each, from the bundled one
    for draw in LARGE/draw-*; do
      sae harvest --model $draw/model --data $draw/pool.jsonl --layers 4 --run $draw/run --blank-images
      sae train --run $draw/run --hook layers.4 --name topk --arch topk --features 2048 --k 32 --lr 1e-3 --batch 2048 --steps 1000
      sae score --run $draw/run --model $draw/model --data $draw/pool.jsonl
    done
    python docs/closed_loop_large.py train --out LARGE                    # every score and share; continues where it stopped
    python docs/closed_loop_large.py plot  --out LARGE --picture docs/images/closed-loop-large.png

Each draw splits the icons by name, so that no name is in two parts, filled or not. The bundled model, which has seen emoji and clip art, first
learns right captions of the warm-up icons. It and its autoencoder score the pool, of which 40 % have the caption of another pair; no
label and no right pair is used. Then the last two blocks, the last norm and the head of that model are trained for the same number
of steps (one pass over the whole pool) on whatever a score ranks highest. The seed determines the order of the data and the draw of `random`.

There are three measures on held-out icons: the negative log-likelihood per token, how often the right caption is the most likely
of four, and the F1 of the words of the greedy caption (first 200 icons). Beside each mean is the range over draws and seeds: there are
too few of them for an interval.
"""

import argparse
import json
import random
import re
import shutil
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from closed_loop import ASSETS, NOISE, ROOT, Bench, UpperBench, answer, swap, write
from PIL import Image

SIDE, DRAWS = 112, 3
PARTS = {"warm-up": 1200, "held-out": 500, "pool": 2400}
WARM_STEPS, WARM_RATE = 300, 5e-4
FROZEN, BATCH, RATE = 6, 16, 3e-4
WRITTEN, LONGEST = 200, 12
SHARES = [0.1, 0.3, 0.5, 0.7, 0.9]
SCORES = ["random", "cosine_paper", "likelihood_drop", "pmi_blank", "pmi_rank"]
MEASURES = {
    "nll": "held-out NLL per token (lower is better)",
    "retrieval": "right caption of four (higher is better)",
    "f1": "F1 of the greedy caption's words (higher is better)",
}


def icons(source):
    """Name, label, caption and picture of every icon but those of brands, whose names no picture tells."""
    facts = json.loads((source / "icons/package/icons.json").read_text())
    for name, fact in sorted(facts.items()):
        if fact["category"] == "Brand":
            continue
        label = re.sub(r"-\d+$", "", name).replace("-", " ")
        for style in fact["styles"]:
            with Image.open(source / f"png/package/icons/{style}/{name}.png") as icon:
                icon = icon.convert("RGBA").resize((SIDE, SIDE), Image.Resampling.BICUBIC)
            white = Image.new("RGBA", icon.size, "white")
            white.alpha_composite(icon)
            yield f"{style}-{name}", label, f"filled {label}" if style == "filled" else label, white.convert("RGB")


def make(args):
    seen, groups = set(), {}
    (args.out / "images").mkdir(parents=True, exist_ok=True)
    for name, label, caption, icon in icons(args.icons):
        if icon.tobytes() in seen:
            continue
        seen.add(icon.tobytes())
        path = args.out.resolve() / f"images/{name}.png"
        icon.save(path)
        turns = [{"from": "human", "value": "<image>"}, {"from": "gpt", "value": caption}]
        groups.setdefault(label, []).append({"id": name, "image": str(path), "conversations": turns})
    print(f"{sum(map(len, groups.values()))} pictures, {len(groups)} names")
    for draw in range(DRAWS):
        rng, labels = random.Random(draw), sorted(groups)
        rng.shuffle(labels)
        parts = {}
        for part, size in PARTS.items():
            rows = []
            while len(rows) < size:
                rows += [json.loads(json.dumps(row)) for row in groups[labels.pop()]]
            parts[part] = rows[:size]
        swap(parts["pool"], rng)
        write(args.out / f"draw-{draw}", parts)


def warm(args):
    import torch

    torch.set_num_threads(args.threads)
    for draw in args.draws:
        folder = args.out / f"draw-{draw}"
        if (folder / "model").exists():
            continue
        bench = Bench(folder, pool="warm-up")
        before = bench.measure()
        bench.descend(list(range(len(bench.pool))), 0, bench.caption_loss, WARM_STEPS, WARM_RATE, BATCH)
        # The files of the bundled model, with other weights.
        shutil.copytree(ASSETS / "demo-mllm", folder / "warming", ignore=shutil.ignore_patterns("*.py", "*.safetensors", "__pycache__"))
        bench.model.save_pretrained(folder / "warming")
        (folder / "warming").rename(folder / "model")
        print(f"draw {draw}: before {before}, after {bench.measure()}", flush=True)


def words(text):
    return Counter(re.findall(r"[a-z0-9]+", text.lower()))


class Captioner(UpperBench):
    """The warmed model, of which the upper blocks are trained; what the lower ones give is computed once."""

    def __init__(self, folder):
        super().__init__(folder, FROZEN, folder / "model")
        captions = [c for row, wrong in zip(self.held, self.wrong) for c in [answer(row), *wrong]]
        self.pairs = self.prepare(self.seen[0], [answer(row) for row in self.pool])
        self.tests = self.prepare(self.seen[1], captions)
        self.lower = self.model.model.language_model.layers[:FROZEN]
        self.drop_lower_blocks()

    def tune(self, kept, seed):
        def loss(batch):
            nll, count = self.prepared_nll(self.pairs, batch)
            return nll.sum() / count.sum()

        self.descend(kept, seed, loss, len(self.pool) // BATCH, RATE, BATCH)
        return self.measure()

    def measure(self):
        nll, count = self.all_prepared(self.tests)
        found = {"nll": float(nll[:, 0].sum() / count[:, 0].sum()), "retrieval": float((nll[:, :1] < nll[:, 1:]).all(1).float().mean())}
        f1 = []
        for row, text in zip(self.held, self.write(self.seen[1][:WRITTEN])):
            right, written = words(answer(row)), words(text)
            f1.append(2 * (right & written).total() / max(1, right.total() + written.total()))
        return found | {"f1": float(np.mean(f1))}

    @contextmanager
    def whole(self):
        """The decoder with its lower blocks."""
        decoder = self.model.model.language_model
        upper = decoder.layers
        for layers in (self.lower + upper, upper):
            decoder.layers, decoder.config.num_hidden_layers = layers, len(layers)
            for i, layer in enumerate(layers):
                layer.self_attn.layer_idx = i
            if layers is not upper:
                yield decoder

    def write(self, seen):
        """Greedy captions."""
        torch, tokenizer, tokens = self.torch, self.processor.tokenizer, []
        with torch.no_grad(), self.whole() as decoder:
            before, after, _ = self.read(seen, ["a"] * len(seen))
            out = decoder(inputs_embeds=torch.cat([before, after[:, :1]], 1), use_cache=True)
            while True:
                tokens.append(self.model.lm_head(out.last_hidden_state[:, -1:]).argmax(-1))
                if len(tokens) == LONGEST:
                    break
                out = decoder(input_ids=tokens[-1], past_key_values=out.past_key_values, use_cache=True)
        end = tokenizer.convert_tokens_to_ids("</s>")
        rows = torch.cat(tokens, 1).tolist()
        return tokenizer.batch_decode([row[: row.index(end)] if end in row else row for row in rows])


def scores(folder, pool, names):
    """What each score says of the pairs, in the order of the pool; the worst value where it says nothing."""
    import pyarrow.parquet as parquet

    keys = parquet.read_table(folder / "run/samples.parquet").column("key").to_pylist()
    table = parquet.read_table(folder / "run/scores/topk.parquet")
    place, found = {row["id"]: i for i, row in enumerate(pool)}, {}
    for name in names:
        found[name] = np.full(len(pool), -np.inf)
        found[name][[place[key] for key in keys]] = np.nan_to_num(table.column(name).to_numpy(), nan=-np.inf)
    return found


def train(args):
    import torch

    torch.set_num_threads(args.threads)
    log = args.out / "loop.jsonl"
    benches = {}
    for seed in args.seeds:
        for draw in args.draws:
            folder = args.out / f"draw-{draw}"
            bench = benches[draw] = benches.get(draw) or Captioner(folder)
            right = np.array([not row["swapped"] for row in bench.pool])
            ranked = scores(folder, bench.pool, [name for name in args.scores if name != "random"])
            ranked |= {"random": np.random.default_rng(seed).random(len(right)), "right": right}
            jobs = [("before", 0.0), ("all", 1.0), ("right", 1 - NOISE)] + [(name, share) for share in args.shares for name in args.scores]
            for by, share in jobs:
                if by == "before" and seed != args.seeds[0]:
                    continue
                # Read again, so that two of these commands may share the work, each with other draws.
                done = {(r["draw"], r["by"], r["share"], r["seed"]) for r in map(json.loads, open(log))} if log.exists() else set()
                if (draw, by, share, seed) in done:
                    continue
                if by == "before":
                    bench.model.load_state_dict(bench.start)
                    kept, found = np.arange(0), bench.measure()
                else:
                    count = int(right.sum()) if by == "right" else round(share * len(right))
                    kept = np.arange(len(right)) if by == "all" else np.argsort(-1.0 * ranked[by], kind="stable")[:count]
                    found = bench.tune(sorted(kept.tolist()), seed)
                row = {"draw": draw, "by": by, "share": share, "seed": seed, "right": float(right[kept].mean()) if len(kept) else None}
                with open(log, "a") as file:
                    print(json.dumps(row | found), file=file)
                print(row | found, flush=True)


def spread(values):
    """The mean, and the lowest and the highest over draws and seeds."""
    return [values.mean(), values.min(), values.max()]


def plot(args):
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from measures import auc_with_interval

    found = {}
    for row in map(json.loads, open(args.out / "loop.jsonl")):
        found.setdefault((row["by"], row["share"]), {})[row["draw"], row["seed"]] = row
    # The model before is the same for all seeds of a draw.
    for (draw, _), row in list(found["before", 0.0].items()):
        found["before", 0.0] |= {(draw, seed): row for seed in args.seeds}
    cells = sorted(set.intersection(*(set(rows) for rows in found.values())))
    table = lambda key, measure: np.array([found[key][cell][measure] for cell in cells])
    figure, axes = plt.subplots(1, 3, figsize=(15, 4.8))
    for axis, (measure, title) in zip(axes, MEASURES.items()):
        for by in args.scores:
            shares = sorted(share for name, share in found if name == by)
            values = np.array([spread(table((by, share), measure)) for share in shares])
            bars = abs(values[:, 1:] - values[:, :1]).T
            axis.errorbar([100 * share for share in shares], values[:, 0], bars, label=by, capsize=3, marker="o",
                          lw=2.2 if by == "pmi_blank" else 1.2, color="#888" if by == "random" else None)
        for key, style, label in ((("all", 1.0), "-", "all pairs"), (("right", 1 - NOISE), "--", "the right pairs alone"), (("before", 0.0), ":", "before")):
            axis.axhline(table(key, measure).mean(), color="black", ls=style, lw=1, label=label)
        axis.set(title=title, xlabel="kept, % of the pool")
    axes[0].legend(fontsize=8)
    figure.suptitle(f"Trained on what each score keeps of {PARTS['pool']:,} icons of which {100 * NOISE:.0f} % have a wrong name; mean and range over {len(cells)} trainings")
    figure.tight_layout()
    figure.savefig(args.picture, dpi=90)
    print("draws and seeds:", *cells)
    show = lambda values: "{:.3f} [{:.3f}, {:.3f}]".format(*values)
    signed = lambda values: "{:+.3f} [{:+.3f}, {:+.3f}]".format(*values)
    for key in sorted(found, key=lambda key: (key[1], key[0])):
        by, share = key
        print(f"{by:16}{100 * share:>4.0f}%", "" if by == "before" else f"right {np.mean(table(key, 'right')):.3f}", end="")
        for measure in MEASURES:
            print(f" | {measure} {show(spread(table(key, measure)))}", end="")
            for base in (("all", 1.0), ("random", share)):
                if by in args.scores and base in found and base != key:
                    print(f", less {base[0]} {signed(spread(table(key, measure) - table(base, measure)))}", end="")
        print()
    print("\nAUC of right pairs, one draw after the other")
    for draw in sorted({draw for draw, _ in cells}):
        pool = [json.loads(line) for line in open(args.out / f"draw-{draw}/pool.jsonl")]
        right = np.array([not row["swapped"] for row in pool])
        for name, score in scores(args.out / f"draw-{draw}", pool, [name for name in args.scores if name != "random"]).items():
            print(f"draw {draw} {name:18}{auc_with_interval(score, right)}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("command", choices=["make", "warm", "train", "plot"])
    parser.add_argument("--out", type=Path, required=True, help="folder of the loop")
    parser.add_argument("--icons", type=Path, help="folder of the icons")
    parser.add_argument("--picture", type=Path, default=ROOT / "docs/images/closed-loop-large.png")
    parser.add_argument("--draws", nargs="+", type=int, default=range(DRAWS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2, 3, 4])
    parser.add_argument("--scores", nargs="+", default=SCORES)
    parser.add_argument("--shares", nargs="+", type=float, default=SHARES)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    {"make": make, "warm": warm, "train": train, "plot": plot}[args.command](args)


if __name__ == "__main__":
    main()
