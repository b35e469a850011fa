"""Does filtering pick better training data where thousands of pairs are there, and they are not emoji? Icons with their names.

Needs Python 3.11 with torch 2.15, transformers 5.23 (and no torchvision), pillow, numpy, scipy, pyarrow, matplotlib. The pictures
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

The measures are those of docs/closed_loop.py on held-out icons, the F1 on the first 200 of them. Intervals are bootstraps of draws, seeds
and icons.
"""

import argparse
import json
import random
import re
import shutil
from pathlib import Path

from closed_loop import ASSETS, NOISE, ROOT, SCORES, SHARES, Bench, UpperBench, answer, report, summary, swap, train_on_kept, write
from PIL import Image

SIDE, DRAWS = 112, 3
PARTS = {"warm-up": 1200, "held-out": 500, "pool": 2400}
WARM_STEPS, WARM_RATE = 300, 5e-4
FROZEN, BATCH, RATE = 6, 16, 3e-4
WRITTEN = 200


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
        bench.mixed = args.mixed
        before = summary(bench.measure())
        bench.descend(list(range(len(bench.pool))), 0, bench.caption_loss, WARM_STEPS, WARM_RATE, BATCH)
        # The files of the bundled model, with other weights.
        shutil.copytree(ASSETS / "demo-mllm", folder / "warming", ignore=shutil.ignore_patterns("*.py", "*.safetensors", "__pycache__"))
        bench.model.save_pretrained(folder / "warming")
        (folder / "warming").rename(folder / "model")
        print(f"draw {draw}: before {before}, after {summary(bench.measure())}", flush=True)


class Captioner(UpperBench):
    """The warmed model, of which the upper blocks are trained; what the lower ones give is computed once."""

    def __init__(self, folder):
        super().__init__(folder, FROZEN, folder / "model")
        captions = [c for row, wrong in zip(self.held, self.wrong) for c in [answer(row), *wrong]]
        self.pairs = self.prepare(self.seen[0], [answer(row) for row in self.pool])
        self.tests = self.prepare(self.seen[1], captions)
        self.drop_lower_blocks()

    def fine_tune(self, kept, seed):
        def loss(batch):
            nll, count = self.prepared_nll(self.pairs, batch)
            return nll.sum() / count.sum()

        self.descend(kept, seed, loss, len(self.pool) // BATCH, RATE, BATCH)
        return self.measure()

    def measure(self):
        return self.results(*[values.numpy() for values in self.all_prepared(self.tests)], WRITTEN)


def draws(args):
    return {draw: args.out / f"draw-{draw}" for draw in args.draws}


def train(args):
    train_on_kept(args, draws(args), Captioner)


def plot(args):
    what = f"{PARTS['pool']:,} icons of which {100 * NOISE:.0f} % have a wrong name"
    report(args, draws(args), f"Trained on what each score keeps of {what}; 95 % intervals over draws, seeds and icons")


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
    parser.add_argument("--mixed", action="store_true", help="train in mixed precision (bf16), which is quicker on some processors")
    args = parser.parse_args()
    {"make": make, "warm": warm, "train": train, "plot": plot}[args.command](args)


if __name__ == "__main__":
    main()
