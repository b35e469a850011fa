"""Does filtering pick better training data? Fine-tunes the bundled model on pairs of which some are wrong.

Needs Python 3.11 with torch 2.15, transformers 5.23 (and no torchvision), pillow, numpy, pyarrow, matplotlib.

    python docs/closed_loop.py make  --out LOOP            # pool.jsonl, 40 % of its captions swapped; held-out.jsonl
    sae harvest --model assets/demo-mllm --data LOOP/pool.jsonl --layers 4 --run LOOP/run --blank-images
    cp -r CALIBRATION/saes LOOP/run/                       # an autoencoder of the same layer (docs/SCORES.md)
    sae score --run LOOP/run --calibrate CALIBRATION --calibrate LOOP/run
    python docs/closed_loop.py train --out LOOP            # every score and share, five seeds; continues where it stopped
    python docs/closed_loop.py plot  --out LOOP --picture docs/images/closed-loop.png

The pool contains pairs that Noto and Twemoji drew. Held out are pairs that Fluent drew, of the same and of other things, so the
model can learn from the pool what it is asked. (With pairs held out by concept there is nothing to gain: trained on the right
pairs alone, the model went from 1.805 to 1.815 nats per token in one run, and to 1.945 at a higher rate; three settings were
tried.) The vision tower is frozen. The projector and the decoder are trained for the same number of steps on whatever was kept.
The seed determines the order of the data; the wrong captions are the same for all seeds. There are two measures on the held-out
pairs: the negative log-likelihood per token of a caption, and how often the right caption is the most likely of four.
"""

import argparse
import json
import random
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
ASSETS = ROOT / "assets"
NOISE, HELD_OUT, CHOICES = 0.4, "fluent", 4
STEPS, BATCH, RATE = 60, 16, 3e-4
SHARES = [0.1, 0.3, 0.5, 0.7, 0.9]
SCORES = ["random", "cosine_paper", "l0_paper", "co_l0_paper", "likelihood_drop", "pmi", "pmi_blank", "pmi_rank"]


def answer(row):
    return row["chosen"] if "chosen" in row else row["conversations"][1]["value"]


def swap(pool, rng):
    """Gives a share of the rows, `NOISE`, the caption of the next one among them, in a random order, unless that says the same."""
    wrong = rng.sample(range(len(pool)), round(NOISE * len(pool)))
    captions = [answer(pool[i]) for i in wrong]
    for row in pool:
        row["swapped"] = False
    for i, caption in zip(wrong, captions[1:] + captions[:1]):
        pool[i]["swapped"] = caption != answer(pool[i])
        pool[i]["conversations"][1]["value"] = caption


def write(folder, parts):
    """Writes the parts of a data set as JSON lines."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in parts.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        print(f"{folder / name}: {len(rows)} pairs, {sum(row.get('swapped', False) for row in rows)} swapped")


def make(args):
    rows = [json.loads(line) for line in open(ASSETS / "demo-data/data.jsonl")]
    for row in rows:
        row["image"] = str(ASSETS / "demo-data" / row["image"])
    rng = random.Random(0)
    pool = [row for row in rows if row["source"] != HELD_OUT]
    swap(pool, rng)
    write(args.out, {"pool": pool, "held-out": [row for row in rows if row["source"] == HELD_OUT]})


class Bench:
    """The model with its tower's output for every picture computed once."""

    def __init__(self, out, model=ASSETS / "demo-mllm", pool="pool"):
        sys.path.insert(0, str(ASSETS / "demo-mllm"))
        import torch
        import train as recipe
        from PIL import Image
        from transformers import AutoProcessor, LlavaForConditionalGeneration

        self.torch, self.functional = torch, torch.nn.functional
        self.processor = AutoProcessor.from_pretrained(ASSETS / "demo-mllm")
        self.model = LlavaForConditionalGeneration.from_pretrained(model, dtype=torch.float32)
        self.model.model.vision_tower.requires_grad_(False)
        self.start = {name: value.clone() for name, value in self.model.state_dict().items()}
        self.prompt = self.processor.tokenizer(recipe.PROMPT).input_ids
        self.pool, self.held = [[json.loads(line) for line in open(out / f"{name}.jsonl")] for name in (pool, "held-out")]
        rng = random.Random(1)
        self.wrong = [rng.sample([answer(o) for o in self.held if answer(o) != answer(row)], CHOICES - 1) for row in self.held]

        def tower(images):
            pixels = self.processor.image_processor(images=images, return_tensors="pt").pixel_values
            with torch.no_grad():
                return self.model.model.vision_tower(pixels, output_hidden_states=True).hidden_states[-1][:, 1:]

        self.seen = [torch.cat([tower([Image.open(row["image"])]) for row in rows]) for rows in (self.pool, self.held)]
        self.white = tower([Image.new("RGB", (112, 112), "white")])

    def read(self, seen, captions):
        """What the decoder reads: what every picture's captions have in common, and the captions, `[pictures, choices]` of them.

        Also the tokens to predict, -100 behind the last.
        """
        torch = self.torch
        tokens = [self.processor.tokenizer(f" {c}</s>", add_special_tokens=False).input_ids for c in captions]
        width = max(map(len, tokens))
        prompt = torch.tensor(self.prompt)
        ids = torch.tensor([self.prompt[-1:] + t + [3] * (width - len(t)) for t in tokens])
        labels = torch.tensor([t + [-100] * (width - len(t)) for t in tokens])
        embed = self.model.get_input_embeddings()
        before = embed(prompt).repeat(len(seen), 1, 1)
        before[:, prompt == self.model.config.image_token_id] = self.model.model.multi_modal_projector(seen)
        return before[:, :-1], embed(ids[:, :-1]), labels

    def states(self, before, after, layer=-1):
        """The states of both after a layer, counted from the embedding. A picture's choices share what was read before them."""
        decoder, choices = self.model.model.language_model, len(after) // len(before)
        if choices == 1:
            embedded = self.torch.cat([before, after], 1)
            whole = decoder(inputs_embeds=embedded, use_cache=False, output_hidden_states=layer >= 0)
            whole = whole.hidden_states[layer] if layer >= 0 else whole.last_hidden_state
            return whole.split([before.shape[1], after.shape[1]], 1)
        first = decoder(inputs_embeds=before, use_cache=True, output_hidden_states=layer >= 0)
        first.past_key_values.batch_repeat_interleave(choices)
        second = decoder(inputs_embeds=after, past_key_values=first.past_key_values, use_cache=True, output_hidden_states=layer >= 0)
        return [out.hidden_states[layer] if layer >= 0 else out.last_hidden_state for out in (first, second)]

    def losses(self, before, after, labels):
        """Summed negative log-likelihood and number of tokens of the captions."""
        logits = self.model.lm_head(self.states(before, after)[1])
        loss = self.functional.cross_entropy(logits.transpose(1, 2), labels, reduction="none")
        return loss.sum(1), (labels != -100).sum(1)

    def nll(self, seen, captions):
        """Summed negative log-likelihood and number of tokens of captions, `[pictures, choices]` of them."""
        return self.losses(*self.read(seen, captions))

    def many(self, seen, captions):
        """As `nll`, in batches of 64 pictures; arrays `[pictures, choices]`."""
        choices = len(captions) // len(seen)
        with self.torch.no_grad():
            parts = [self.nll(seen[i : i + 64], captions[choices * i : choices * (i + 64)]) for i in range(0, len(seen), 64)]
        return [self.torch.cat(values).numpy().reshape(-1, choices) for values in zip(*parts)]

    def measure(self):
        captions = [c for row, wrong in zip(self.held, self.wrong) for c in [answer(row), *wrong]]
        nll, count = self.many(self.seen[1], captions)
        best = (nll[:, :1] < nll[:, 1:]).all(1)
        return {"nll": float(nll[:, 0].sum() / count[:, 0].sum()), "retrieval": float(best.mean())}

    def descend(self, kept, seed, loss, steps=STEPS, rate=RATE, size=BATCH):
        """Trains from the start on random batches of what was kept; `loss` is that of a batch."""
        torch = self.torch
        torch.manual_seed(seed)
        self.model.load_state_dict(self.start)
        parameters = [p for p in self.model.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(parameters, lr=rate, weight_decay=0.05, betas=(0.9, 0.98))
        rng, queue = random.Random(seed), []
        for step in range(steps):
            while len(queue) < size:
                queue += rng.sample(kept, len(kept))
            batch, queue = queue[:size], queue[size:]
            for group in optimizer.param_groups:
                group["lr"] = rate * min((step + 1) / 5, 1 - step / steps)
            optimizer.zero_grad(set_to_none=True)
            loss(batch).backward()
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()

    def caption_loss(self, batch):
        nll, count = self.nll(self.seen[0][batch], [answer(self.pool[i]) for i in batch])
        return nll.sum() / count.sum()

    def fine_tune(self, kept, seed):
        self.descend(kept, seed, self.caption_loss)
        return self.measure()

    def likelihood_drop(self):
        captions = [answer(row) for row in self.pool]
        with_image, count = self.many(self.seen[0], captions)
        without, _ = self.many(self.white.expand(len(captions), -1, -1), captions)
        return ((without - with_image) / count)[:, 0]


class UpperBench(Bench):
    """Trains the upper blocks, the last norm and the head alone: what the blocks below give is computed once."""

    def __init__(self, out, frozen, model=ASSETS / "demo-mllm"):
        super().__init__(out, model)
        self.frozen = frozen

    def prepare(self, seen, captions):
        """The input of the upper blocks: `[pictures, positions, width]`, `[pictures, choices, tokens, width]`, and the tokens to predict."""
        torch, choices = self.torch, len(captions) // len(seen)
        parts = []
        with torch.no_grad():
            for i in range(0, len(seen), 32):
                before, after, labels = self.read(seen[i : i + 32], captions[choices * i : choices * (i + 32)])
                parts.append((*self.states(before, after, self.frozen), labels))
        width = max(labels.shape[1] for *_, labels in parts)
        pad = lambda x, value: torch.cat([x, x.new_full((x.shape[0], width - x.shape[1], *x.shape[2:]), value)], 1)
        before = torch.cat([part[0] for part in parts])
        after, labels = [torch.cat([pad(part[j], value) for part in parts]) for j, value in ((1, 0), (2, -100))]
        return before, after.unflatten(0, (-1, choices)), labels.unflatten(0, (-1, choices))

    def drop_lower_blocks(self):
        """To be called when everything is prepared."""
        decoder = self.model.model.language_model
        decoder.layers = decoder.layers[self.frozen :]
        for i, layer in enumerate(decoder.layers):
            layer.self_attn.layer_idx = i
        decoder.config.num_hidden_layers = len(decoder.layers)
        self.model.model.multi_modal_projector.requires_grad_(False)
        decoder.embed_tokens.requires_grad_(False)
        self.start = {name: value.clone() for name, value in self.model.state_dict().items()}

    def prepared_nll(self, prepared, rows):
        """As `nll`, of some of the rows that were prepared; `[rows, choices]`."""
        before, after, labels = [part[rows] for part in prepared]
        width = int((labels != -100).sum(2).max())
        nll, count = self.losses(before, after[:, :, :width].flatten(0, 1), labels[:, :, :width].flatten(0, 1))
        return nll.view(len(before), -1), count.view(len(before), -1)

    def all_prepared(self, prepared):
        with self.torch.no_grad():
            parts = [self.prepared_nll(prepared, slice(i, i + 64)) for i in range(0, len(prepared[0]), 64)]
        return [self.torch.cat(values) for values in zip(*parts)]


def train(args):
    import pyarrow.parquet as parquet
    import torch

    torch.set_num_threads(args.threads)
    bench = Bench(args.out)
    (table,) = (args.out / "run/scores").glob("*.parquet")
    table = parquet.read_table(table)
    keys = parquet.read_table(args.out / "run/samples.parquet").column("key").to_pylist()
    place = {row["id"]: i for i, row in enumerate(bench.pool)}
    scores = {}
    for name in args.scores:
        if name in table.column_names:
            scores[name] = np.full(len(bench.pool), -np.inf)
            scores[name][[place[key] for key in keys]] = table.column(name).to_numpy()
    if "likelihood_drop" in args.scores:
        scores["likelihood_drop"] = bench.likelihood_drop()
    clean = [i for i, row in enumerate(bench.pool) if not row["swapped"]]
    everything = list(range(len(bench.pool)))
    jobs = [("before", 1.0, None)] + [("full", 1.0, everything), ("clean", len(clean) / len(everything), clean)]
    for share in sorted(args.shares, key=lambda share: abs(share - 0.5)):
        for name in scores:
            jobs.append((name, share, None))
    log = args.out / "loop.jsonl"
    for by, share, fixed in jobs:
        for seed in args.seeds:
            # Read again, so that two of these commands may share the work, one with the seeds the other way round.
            done = {(r["by"], r["share"], r["seed"]) for r in map(json.loads, open(log))} if log.exists() else set()
            if (by, share, seed) in done or (by == "before" and seed > 0):
                continue
            kept = fixed
            if by == "before":
                result, purity = bench.measure(), None
            else:
                if kept is None:
                    order = np.random.default_rng(seed).permutation(len(everything)) if by == "random" else np.argsort(-scores[by], kind="stable")
                    kept = sorted(order[: round(share * len(everything))].tolist())
                result = bench.fine_tune(kept, seed)
                purity = sum(not bench.pool[i]["swapped"] for i in kept) / len(kept)
            with open(log, "a") as file:
                print(json.dumps({"by": by, "share": share, "seed": seed, "clean": purity} | result), file=file)
            print(by, share, seed, purity, result, flush=True)


def plot(args):
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    rows = [json.loads(line) for line in open(args.out / "loop.jsonl")]
    rows = list({(r["by"], r["share"], r["seed"]): r for r in rows}.values())
    of = lambda by, share, key: np.array([r[key] for r in rows if r["by"] == by and (share is None or r["share"] == share)])
    figure, axes = plt.subplots(1, 2, figsize=(13, 5.2))
    titles = {"nll": "held-out NLL per token (lower is better)", "retrieval": "right caption of four (higher is better)"}
    for axis, (key, title) in zip(axes, titles.items()):
        for by in SCORES:
            shares = sorted({r["share"] for r in rows if r["by"] == by})
            if not shares:
                continue
            values = [of(by, share, key) for share in shares]
            axis.errorbar([100 * s for s in shares], [v.mean() for v in values], [v.std(ddof=1) if len(v) > 1 else 0 for v in values],
                          label=by, capsize=3, marker="o", lw=2.2 if by == "pmi_blank" else 1.2, color="#888" if by == "random" else None)
        for by, style in (("full", "-"), ("clean", "--"), ("before", ":")):
            value = of(by, None, key)
            axis.axhline(value.mean(), color="black", ls=style, lw=1, label={"full": "all pairs", "clean": "the right pairs alone", "before": "before"}[by])
        axis.set(title=title, xlabel="kept, % of the pool")
    axes[0].legend(fontsize=8, ncol=2)
    figure.suptitle(f"Fine-tuning on what each score keeps of pairs of which {100 * NOISE:.0f} % are wrong; mean and standard deviation over seeds")
    figure.tight_layout()
    figure.savefig(args.picture, dpi=110)
    print(f"{'by':18}{'kept':>6}{'right':>8}{'seeds':>7}{'NLL':>18}{'retrieval':>18}")
    for by, share in dict.fromkeys((r["by"], r["share"]) for r in sorted(rows, key=lambda r: (r["by"], r["share"]))):
        here = [r for r in rows if (r["by"], r["share"]) == (by, share)]
        show = lambda key: f"{np.mean([r[key] for r in here]):.4f} +- {np.std([r[key] for r in here], ddof=len(here) > 1):.4f}"
        clean = [r["clean"] for r in here if r["clean"] is not None]
        print(f"{by:18}{100 * share:>5.0f}%{np.mean(clean) if clean else float('nan'):>8.3f}{len(here):>7}{show('nll'):>18}{show('retrieval'):>18}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("command", choices=["make", "train", "plot"])
    parser.add_argument("--out", type=Path, required=True, help="folder of the loop")
    parser.add_argument("--picture", type=Path, default=ROOT / "docs/images/closed-loop.png")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2, 3, 4])
    parser.add_argument("--scores", nargs="+", default=SCORES)
    parser.add_argument("--shares", nargs="+", type=float, default=SHARES)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    {"make": make, "train": train, "plot": plot}[args.command](args)


if __name__ == "__main__":
    main()
