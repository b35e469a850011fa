"""Does filtering pick better training data? Fine-tunes the bundled model on pairs of which some are wrong.

Needs Python 3.11 with torch 2.15, transformers 5.23 (and no torchvision), pillow, numpy, scipy, pyarrow, matplotlib.

    python docs/closed_loop.py make  --out LOOP            # pool.jsonl, 40 % of its captions swapped; held-out.jsonl
    sae harvest --model assets/demo-mllm --data LOOP/pool.jsonl --layers 4 --run LOOP/run --blank-images
    cp -r CALIBRATION/saes LOOP/run/                       # an autoencoder of the same layer (docs/SCORES.md)
    sae score --run LOOP/run --model assets/demo-mllm --data LOOP/pool.jsonl --calibrate CALIBRATION --calibrate LOOP/run
    python docs/closed_loop.py train --out LOOP            # every score and share; continues where it stopped
    python docs/closed_loop.py plot  --out LOOP --picture docs/images/closed-loop.png

The pool contains pairs that Noto and Twemoji drew. Held out are pairs that Fluent drew, of the same and of other things, so the
model can learn from the pool what it is asked. (With pairs held out by concept there is nothing to gain: trained on the right
pairs alone, the model went from 1.805 to 1.815 nats per token in one run, and to 1.945 at a higher rate; three settings were
tried.) The vision tower is frozen. The projector and the decoder are trained for the same number of steps on whatever was kept.
The seed determines the order of the data and the draw of `random`; the wrong captions are the same for all seeds. `--scores perfect` shows what a
score could reach that knows which pairs are right, and draws among them at random.

There are three measures on the held-out pairs: the negative log-likelihood per token of a caption, how often the right caption is
the most likely of four, and the F1 of the words of the greedy caption. Intervals are bootstraps of pictures and seeds.
"""

import argparse
import json
import random
import sys
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from measures import auc_with_interval, bootstrap, word_f1

ROOT = Path(__file__).resolve().parent.parent
ASSETS = ROOT / "assets"
NOISE, HELD_OUT, CHOICES = 0.4, "fluent", 4
STEPS, BATCH, RATE = 60, 16, 3e-4
LONGEST = 16  # tokens of a greedy caption
SHARES = [0.1, 0.3, 0.5, 0.7, 0.9]
SCORES = ["random", "cosine_paper", "likelihood_drop", "pmi_blank", "pmi_rank"]
MEASURES = {
    "nll": "held-out NLL per token (lower is better)",
    "retrieval": "right caption of four (higher is better)",
    "f1": "F1 of the greedy caption's words (higher is better)",
}


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

    mixed = False  # whether products are computed in bf16 in training

    def __init__(self, out, model=ASSETS / "demo-mllm", pool="pool"):
        sys.path.insert(0, str(ASSETS / "demo-mllm"))
        import torch
        import train as recipe
        from PIL import Image
        from transformers import AutoProcessor, LlavaForConditionalGeneration

        self.torch, self.functional = torch, torch.nn.functional
        self.processor = AutoProcessor.from_pretrained(ASSETS / "demo-mllm")
        self.model = LlavaForConditionalGeneration.from_pretrained(model, dtype=torch.float32, attn_implementation="eager")
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
        before[:, prompt == self.model.config.image_token_id] = self.model.model.multi_modal_projector(seen).to(before.dtype)
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
        logits = self.model.lm_head(self.states(before, after)[1]).float()
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
        """By held-out picture: the caption's negative log-likelihood and its tokens, whether it is the best of four, and the F1."""
        captions = [c for row, wrong in zip(self.held, self.wrong) for c in [answer(row), *wrong]]
        nll, count = self.many(self.seen[1], captions)
        return self.results(nll, count)

    def results(self, nll, count, written=None):
        """The rows of `measure`, from the likelihoods and tokens of each picture's captions, the right one first; the F1 for the first
        `written` pictures alone."""
        rows = np.full((len(self.held), 4), np.nan)
        rows[:, 0], rows[:, 1], rows[:, 2] = nll[:, 0], count[:, 0], (nll[:, :1] < nll[:, 1:]).all(1)
        texts = self.write(self.seen[1][:written])
        rows[: len(texts), 3] = [word_f1(answer(row), text) for row, text in zip(self.held, texts)]
        return rows

    @contextmanager
    def whole(self):
        """The decoder with all of its blocks, while it is used in a `with`."""
        yield self.model.model.language_model

    def write(self, seen):
        """Greedy captions."""
        torch, tokenizer, found = self.torch, self.processor.tokenizer, []
        end = tokenizer.convert_tokens_to_ids("</s>")
        with torch.no_grad(), self.whole() as decoder:
            for part in seen.split(64):
                before, after, _ = self.read(part, ["a"] * len(part))
                out, tokens = decoder(inputs_embeds=torch.cat([before, after[:, :1]], 1), use_cache=True), []
                while True:
                    tokens.append(self.model.lm_head(out.last_hidden_state[:, -1:]).argmax(-1))
                    if len(tokens) == LONGEST:
                        break
                    out = decoder(input_ids=tokens[-1], past_key_values=out.past_key_values, use_cache=True)
                rows = torch.cat(tokens, 1).tolist()
                found += tokenizer.batch_decode([row[: row.index(end)] if end in row else row for row in rows])
        return found

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
            with torch.autocast("cpu", torch.bfloat16, enabled=self.mixed):
                value = loss(batch)
            value.backward()
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()

    def caption_loss(self, batch):
        nll, count = self.nll(self.seen[0][batch], [answer(self.pool[i]) for i in batch])
        return nll.sum() / count.sum()

    def fine_tune(self, kept, seed):
        self.descend(kept, seed, self.caption_loss)
        return self.measure()


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
        self.lower = decoder.layers[: self.frozen]
        self.set_blocks(decoder.layers[self.frozen :])
        self.model.model.multi_modal_projector.requires_grad_(False)
        decoder.embed_tokens.requires_grad_(False)
        self.start = {name: value.clone() for name, value in self.model.state_dict().items()}

    def set_blocks(self, blocks):
        decoder = self.model.model.language_model
        decoder.layers, decoder.config.num_hidden_layers = blocks, len(blocks)
        for i, block in enumerate(blocks):
            block.self_attn.layer_idx = i

    @contextmanager
    def whole(self):
        decoder = self.model.model.language_model
        upper = decoder.layers
        self.set_blocks(self.lower + upper)
        yield decoder
        self.set_blocks(upper)

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


def scores(folder, pool, names):
    """What each score says of the pairs, in the order of the pool; the worst value where it says nothing."""
    import pyarrow.parquet as parquet

    keys = parquet.read_table(folder / "run/samples.parquet").column("key").to_pylist()
    paths = sorted((folder / "run/scores").glob("*.parquet"))
    if len(paths) != 1:
        raise SystemExit(f"{folder / 'run/scores'}: expected the table of one autoencoder, found {len(paths)}")
    table = parquet.read_table(paths[0])
    place, found = {row["id"]: i for i, row in enumerate(pool)}, {}
    for name in names:
        if name in ("random", "perfect"):
            continue
        if name not in table.column_names:
            raise SystemExit(f"{paths[0]}: no column {name}; `sae score` writes some columns only with --model and --data")
        found[name] = np.full(len(pool), -np.inf)
        found[name][[place[key] for key in keys]] = np.nan_to_num(table.column(name).to_numpy(), nan=-np.inf)
    return found


def train_on_kept(args, draws, bench_of):
    """Trains on what each score keeps of each draw's pool (number: folder), and writes what was measured to `loop.jsonl`."""
    import torch

    torch.set_num_threads(args.threads)
    log, benches = args.out / "loop.jsonl", {}
    for seed in args.seeds:
        for draw, folder in draws.items():
            bench = benches[draw] = benches.get(draw) or bench_of(folder)
            bench.mixed = args.mixed
            right = np.array([not row["swapped"] for row in bench.pool])
            ranked = scores(folder, bench.pool, args.scores)
            chance = np.random.default_rng(seed).random(len(right))
            ranked |= {"random": chance, "right": right, "perfect": right + chance}
            jobs = [("before", 0.0), ("all", 1.0), ("right", 1 - NOISE)] + [(name, share) for share in args.shares for name in args.scores]
            for by, share in jobs:
                # Read again, so that two of these commands may share the work, each with other draws or seeds.
                done = {(r["draw"], r["by"], r["share"], r["seed"]) for r in map(json.loads, open(log))} if log.exists() else set()
                if (draw, by, share, seed) in done or (by == "before" and seed > 0):
                    continue
                if by == "before":
                    bench.model.load_state_dict(bench.start)
                    kept, found = np.arange(0), bench.measure()
                else:
                    count = int(right.sum()) if by == "right" else round(share * len(right))
                    kept = np.arange(len(right)) if by == "all" else np.argsort(-1.0 * ranked[by], kind="stable")[:count]
                    found = bench.fine_tune(sorted(kept.tolist()), seed)
                row = {"draw": draw, "by": by, "share": share, "seed": seed, "right": float(right[kept].mean()) if len(kept) else None}
                with open(log, "a") as file:
                    print(json.dumps(row | {"rows": found.round(4).tolist()}), file=file)
                print(row | dict(zip(MEASURES, summary(found).round(4).tolist())), flush=True)


def summary(rows):
    """`MEASURES` of what was measured by picture."""
    return np.array([rows[:, 0].sum() / rows[:, 1].sum(), rows[:, 2].mean(), np.nanmean(rows[:, 3])])


def report(args, draws, title):
    """Prints the measures with 95 % intervals, and draws them; also how much they differ from those of all pairs, of as many random ones, and
    of the model before."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    found, right, before = {}, {}, ("before", 0.0)
    for row in map(json.loads, open(args.out / "loop.jsonl")):
        key = row["by"], row["share"]
        found.setdefault(key, {}).setdefault(row["draw"], {})[row["seed"]] = np.array(row["rows"])
        right.setdefault(key, []).append(row["right"])

    def intervals(key, base=None):
        """Of `MEASURES`; with a base, of the differences from it, for the draws and seeds that both have (`None` if there are none)."""
        pairs = []
        for draw, own in sorted(found[key].items()):
            other = found[base or key].get(draw, {})
            if base == before:  # the same for all seeds
                other = {seed: rows for rows in other.values() for seed in own}
            pairs.append([(own[seed], other[seed]) for seed in sorted(own.keys() & other.keys())])
        pairs = [seeds for seeds in pairs if seeds]
        groups, others = ([[pair[i] for pair in seeds] for seeds in pairs] for i in (0, 1))
        return bootstrap(groups, summary, base and others) if pairs else None

    show = lambda values: " | ".join("{:.3f} [{:.3f}, {:.3f}]".format(*value) for value in values)
    signed = lambda values: " | ".join("{:+.3f} [{:+.3f}, {:+.3f}]".format(*value) for value in values)
    print("by | kept | trainings | right | " + " | ".join(MEASURES))
    values = {}
    for by, share in sorted(found, key=lambda key: (key[1], key[0])):
        key, pure = (by, share), right[by, share]
        values[key] = intervals(key)
        trainings = sum(map(len, found[key].values()))
        print(f"{by} | {100 * share:.0f} % | {trainings} | {np.mean(pure) if by != 'before' else 0:.3f} | {show(values[key])}")
        for base in (("all", 1.0), ("random", share), before):
            difference = intervals(key, base) if base in found and base != key != before else None
            if difference is not None:
                print(f"    less {base[0]} | {signed(difference)}")
    figure, axes = plt.subplots(1, len(MEASURES), figsize=(15, 4.8))
    for at, (axis, label) in enumerate(zip(axes, MEASURES.values())):
        for nth, by in enumerate(args.scores):
            shares = sorted(share for name, share in found if name == by)
            here = np.array([values[by, share][at] for share in shares])
            # Side by side, so that no interval hides another one.
            places = [100 * share + 0.7 * (nth - (len(args.scores) - 1) / 2) for share in shares]
            axis.errorbar(places, here[:, 0], abs(here[:, 1:] - here[:, :1]).T, label=by, capsize=3, marker="o",
                          lw=2.2 if by == "pmi_blank" else 1.2, color="#888" if by == "random" else None)
        for by, style, name in (("all", "-", "all pairs"), ("right", "--", "the right pairs alone"), ("before", ":", "before")):
            for key in values:
                if key[0] == by:
                    axis.axhline(values[key][at, 0], color="black", ls=style, lw=1, label=name)
        axis.set(title=label, xlabel="kept, % of the pool")
    axes[0].legend(fontsize=8)
    figure.suptitle(title)
    figure.tight_layout()
    figure.savefig(args.picture, dpi=90)
    print("\nAUC of right pairs")
    for draw, folder in draws.items():
        pool = [json.loads(line) for line in open(folder / "pool.jsonl")]
        for name, score in scores(folder, pool, args.scores).items():
            print(f"draw {draw} {name:18}{auc_with_interval(score, np.array([not row['swapped'] for row in pool]))}")


def train(args):
    train_on_kept(args, {0: args.out}, Bench)


def plot(args):
    title = f"Fine-tuned on what each score keeps of pairs of which {100 * NOISE:.0f} % are wrong; 95 % intervals over pictures and seeds"
    report(args, {0: args.out}, title)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("command", choices=["make", "train", "plot"])
    parser.add_argument("--out", type=Path, required=True, help="folder of the loop")
    parser.add_argument("--picture", type=Path, default=ROOT / "docs/images/closed-loop.png")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2, 3, 4])
    parser.add_argument("--scores", nargs="+", default=SCORES)
    parser.add_argument("--shares", nargs="+", type=float, default=SHARES)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--mixed", action="store_true", help="train in mixed precision (bf16), which is quicker on some processors")
    args = parser.parse_args()
    {"make": make, "train": train, "plot": plot}[args.command](args)


if __name__ == "__main__":
    main()
