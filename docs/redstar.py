"""Is difficulty, learned from labels on the features of questions, a better choice of training data than length?

Needs Python 3.11 with torch 2.15, transformers 5.23 (and no torchvision), numpy, scipy, pyarrow, reasoning-gym, and the program.

    cargo build --release --workspace
    python docs/redstar.py --out REDSTAR               # everything; continues where it stopped; prints the tables of docs/SELECTION.md

The idea is that of RedStar: of many questions with long solutions, train on the hard ones, and do not mistake length for
difficulty. It is scaled down to ten minutes of one core: the bundled model (8 blocks of width 256; it was made for captions and
knows no arithmetic) is first trained for 200 steps on worked solutions of sums of 2 to 5 numbers of 1 or 2 digits ("chain_sum" of
PyPI reasoning-gym). It then labels a pool of 1,500 further sums: a sum is as hard as the tokens of its solution are improbable on
average. Half of the pool keeps its label. `sae contrast --target hard --part user` learns the label from 20 features of the
question, and writes `predicted_hard` for all. `sae filter` chooses 300 sums of the pool, and the model is trained on them for 30
more steps, with three seeds. Held out are 300 other sums.
"""

import argparse
import json
import random
import re
import time
from pathlib import Path

import numpy as np

from program import program

ROOT = Path(__file__).resolve().parent.parent
MODEL = ROOT / "assets/demo-mllm"
WARM, POOL, HELD, KEEP = 1600, 1500, 300, 300
WARM_STEPS, STEPS, BATCH, WARM_RATE, RATE = 200, 30, 8, 1e-3, 5e-4
HOOK = "layers.4"


def sums(seed, count):
    """Rows with a question and a worked solution, whose length grows with the number of terms and of digits."""
    import reasoning_gym

    found = reasoning_gym.create_dataset("chain_sum", size=count, seed=seed, min_terms=2, max_terms=5, min_digits=1, max_digits=2)
    rows = []
    for n, item in enumerate(found):
        expression = item["metadata"]["expression"]
        first, *terms = re.findall(r"[+-]?\s*\d+", expression)
        total, steps = int(first), []
        for term in (term.replace(" ", "") for term in terms):
            steps.append(f"{total}{term}={total + int(term)}")
            total += int(term)
        assert str(total) == item["answer"]
        rows.append({"id": f"{seed}-{n}", "question": f"{expression} =", "answer": ", ".join(steps)})
    return rows


class Bench:
    """The bundled model's decoder on questions and solutions."""

    def __init__(self, threads):
        import torch
        from transformers import AutoTokenizer, LlavaForConditionalGeneration

        torch.set_num_threads(threads)
        self.torch = torch
        self.tokenizer = AutoTokenizer.from_pretrained(MODEL)
        self.model = LlavaForConditionalGeneration.from_pretrained(MODEL, dtype=torch.float32)

    def nll(self, rows):
        """Summed negative log-likelihood of the solutions, and their numbers of tokens."""
        torch = self.torch
        encode = lambda text: self.tokenizer(text, add_special_tokens=False).input_ids
        questions = [self.tokenizer(f"USER: {row['question']} ASSISTANT:").input_ids for row in rows]
        answers = [encode(f" {row['answer']}</s>") for row in rows]
        width = max(len(q) + len(a) for q, a in zip(questions, answers))
        ids = torch.tensor([q + a + [3] * (width - len(q) - len(a)) for q, a in zip(questions, answers)])
        labels = torch.tensor([[-100] * len(q) + a + [-100] * (width - len(q) - len(a)) for q, a in zip(questions, answers)])
        # Padding is on the right, where a causal decoder does not look.
        embedded = self.model.get_input_embeddings()(ids[:, :-1])
        hidden = self.model.model.language_model(inputs_embeds=embedded, use_cache=False).last_hidden_state
        logits, labels = self.model.lm_head(hidden), labels[:, 1:]
        loss = torch.nn.functional.cross_entropy(logits.transpose(1, 2), labels, reduction="none")
        right = (logits.argmax(2) == labels) | (labels == -100)
        return loss.sum(1), (labels != -100).sum(1), right.all(1)

    def measure(self, rows):
        """By sample: mean NLL per token, and whether each token of the solution is the most probable after those before it."""
        with self.torch.no_grad():
            parts = [self.nll(rows[i : i + 64]) for i in range(0, len(rows), 64)]
        nll, count, right = (self.torch.cat(values).numpy() for values in zip(*parts))
        return nll / count, right, count

    def train(self, rows, steps, rate, seed):
        torch = self.torch
        torch.manual_seed(seed)
        parameters = list(self.model.model.language_model.parameters()) + list(self.model.lm_head.parameters())
        optimizer = torch.optim.AdamW(parameters, lr=rate, weight_decay=0.01, betas=(0.9, 0.98))
        rng, queue = random.Random(seed), []
        for step in range(steps):
            while len(queue) < BATCH:
                queue += rng.sample(rows, len(rows))
            batch, queue = queue[:BATCH], queue[BATCH:]
            for group in optimizer.param_groups:
                group["lr"] = rate * min((step + 1) / 20, 1 - step / steps)
            nll, count, _ = self.nll(batch)
            optimizer.zero_grad(set_to_none=True)
            (nll.sum() / count.sum()).backward()
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def within_quantiles(a, b, length):
    """The Spearman correlation in each of the 20 quantiles of length in which both vary, weighted by their sizes."""
    from scipy.stats import spearmanr

    order = np.sort(length)
    quantile = np.searchsorted(order, length) * 20 // len(length)
    parts = [(quantile == q).nonzero()[0] for q in np.unique(quantile)]
    parts = [part for part in parts if len(part) > 9 and np.ptp(a[part]) > 0 and np.ptp(b[part]) > 0]
    found = [(len(part), spearmanr(a[part], b[part]).statistic) for part in parts]
    return sum(n * rho for n, rho in found) / sum(n for n, _ in found)


def main():
    import pyarrow.parquet as parquet
    from scipy.stats import spearmanr

    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--sae", default=ROOT / "target/release/sae")
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    out, run = args.out, args.out / "run"
    out.mkdir(parents=True, exist_ok=True)
    start = time.process_time()
    sae = program(args.sae)
    # The warm model, the labels, the run.
    bench = Bench(args.threads)
    torch = bench.torch
    warm, pool, held = sums(1, WARM), sums(2, POOL), sums(3, HELD)
    state = out / "warm.pt"
    if not state.exists():
        print("the bundled model is trained on sums", flush=True)
        bench.train(warm, WARM_STEPS, WARM_RATE, 0)
        torch.save(bench.model.state_dict(), state)
    bench.model.load_state_dict(torch.load(state))
    hard, right, tokens = bench.measure(pool)
    held_hard, held_right, _ = bench.measure(held)
    print(f"the warm model: {held_hard.mean():.3f} nats per token, {held_right.mean():.3f} of the held-out sums right", flush=True)
    if not (out / "warm").exists():
        labelled = np.random.default_rng(0).permutation(POOL) < POOL // 2
        rows = [row | {"hard": float(h) if l else None} for row, h, l in zip(pool, hard, labelled)]
        write(out / "pool.jsonl", rows)
        bench.model.save_pretrained(out / "warm")
        for path in MODEL.iterdir():
            if path.suffix in (".json", ".jinja") and not (out / "warm" / path.name).exists():
                (out / "warm" / path.name).write_bytes(path.read_bytes())
    if not (run / "run.json").exists():
        sae("harvest", "--model", out / "warm", "--data", out / "pool.jsonl", "--layers", 4, "--run", run)
    if not (run / "saes/a").exists():
        recipe = ["--arch", "topk", "--k", 16, "--expansion", 8, "--batch", 512, "--steps", 1000]
        sae("train", "--run", run, "--hook", HOOK, "--name", "a", *recipe)
    if not (run / "contrasts/hard").exists():
        sae("contrast", "--run", run, "--target", "hard", "--part", "user", "--select", 20, "--placebo", 5)

    samples = parquet.read_table(run / "samples.parquet").to_pylist()
    place = {row["id"]: n for n, row in enumerate(pool)}
    at = np.array([place[sample["key"]] for sample in samples])
    labelled = np.array([json.loads(line)["hard"] is not None for line in open(out / "pool.jsonl")])
    scores = parquet.read_table(run / "scores/a.parquet")
    predicted = np.full(POOL, np.nan)
    predicted[at] = scores.column("predicted_hard").to_numpy(zero_copy_only=False)
    print("\n| Spearman with the label | all | inside length quantiles |\n|---|---|---|")
    terms = np.array([row["question"].count(" ") for row in pool])
    for name, which in (("labelled sums, out of fold", labelled), ("other sums", ~labelled)):
        which = which & ~np.isnan(predicted)
        rho = spearmanr(predicted[which], hard[which]).statistic
        inside = within_quantiles(predicted[which], hard[which], tokens[which])
        print(f"| predicted_hard, {name} | {rho:.3f} | {inside:.3f} |")
    print(f"| length of the solution, all sums | {spearmanr(tokens, hard).statistic:.3f} | 0 |")
    print(f"| number of terms, all sums | {spearmanr(terms, hard).statistic:.3f} | {within_quantiles(terms, hard, tokens):.3f} |")

    # What is kept.
    def filtered(name, *words):
        folder = out / name
        if not folder.exists():
            sae("filter", "--run", run, "--keep", KEEP, "--out", folder, *words)
        kept = parquet.read_table(folder / "decisions.parquet").column("stays").to_numpy(zero_copy_only=False)
        return sorted(at[kept].tolist())

    by_length = np.argsort(-tokens, kind="stable")[:KEEP].tolist()
    chosen = {
        "nothing more": [],
        "random": np.random.default_rng(0).permutation(POOL)[:KEEP].tolist(),
        "longest": by_length,
        "hardest, by the label": np.argsort(-hard, kind="stable")[:KEEP].tolist(),
        "predicted_hard": filtered("hard", "--by", "predicted_hard"),
        "predicted_hard --within answer_tokens": filtered("within", "--by", "predicted_hard", "--within", "answer_tokens"),
        "the same --diverse": filtered("diverse", "--by", "predicted_hard", "--within", "answer_tokens", "--diverse"),
        "--rule greedselect": filtered("greedselect", "--rule", "greedselect"),
    }
    log = out / "loop.jsonl"
    done = [json.loads(line) for line in open(log)] if log.exists() else []
    for seed in args.seeds:
        for name, kept in chosen.items():
            if any(d["by"] == name and d["seed"] == seed for d in done):
                continue
            bench.model.load_state_dict(torch.load(state))
            if kept:
                bench.train([pool[n] for n in kept], STEPS, RATE, seed)
            nll, right, _ = bench.measure(held)
            done.append({"by": name, "seed": seed, "nll": float(nll.mean()), "right": float(right.mean())})
            with open(log, "a") as file:
                print(json.dumps(done[-1]), file=file)
    print("\n| trained on | samples | solution tokens | nats per token, held out | sums right |\n|---|---|---|---|---|")
    for name, kept in chosen.items():
        of = [d for d in done if d["by"] == name]
        spread = lambda key: f"{np.mean([d[key] for d in of]):.4f} ({min(d[key] for d in of):.4f} to {max(d[key] for d in of):.4f})"
        mean = f"{tokens[kept].mean():.1f}" if kept else "-"
        print(f"| {name} | {len(kept)} | {mean} | {spread('nll')} | {spread('right')} |")
    print(f"\n{time.process_time() - start:.0f} s of processor time of this command, without the program")


if __name__ == "__main__":
    main()
