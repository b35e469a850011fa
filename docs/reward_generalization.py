"""Which answers should be compared so that a reward generalizes? Trees and independent answers of the bundled model.

Needs Python 3.11 with numpy and pyarrow, and the program.

    cargo build --release
    python docs/reward_generalization.py --out REWARD   # everything; continues where it stopped; prints the tables of docs/REWARD_GENERALIZATION.md

"Reward Generalization in RLHF: A Topological Perspective" asks how much the comparisons of some answers say about unrelated ones, and
argues for answers that share their beginnings. Here the bundled model answers to images in both ways, with as many tokens: trees, in
which each piece of a few tokens is continued by two others, and answers that share nothing. The reward is known: each word has a worth, drawn
by the seed, and an answer has the sum of the worths of its words, scaled to a standard deviation of 2. Labels follow it: the
first answer wins with the probability sigma of the difference.

All answers are in one run, so that the features, their scales and the unrelated pairs whose uncertainty counts are the same for all.
"""

import argparse
import json
import math
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from program import program

ROOT = Path(__file__).resolve().parent.parent
DATA, MODEL = ROOT / "assets/demo-data", ROOT / "assets/demo-mllm"
HOOK, PROMPTS, DEPTH, BRANCHES, PIECE, SEEDS = "layers.4", 80, 5, 2, 3, [0, 1, 2, 3, 4]
FEW, MANY, SHARES = 100, 1000, [0.25, 0.5, 1.0]


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def sampled(sae, out):
    """The rows of both kinds of answers. There are as many independent answers as tokens of the trees pay for."""
    if not (out / "prompts.jsonl").exists():
        rows = lines(DATA / "data.jsonl")
        np.random.default_rng(0).shuffle(rows)
        write(out / "prompts.jsonl", [row | {"conversations": row["conversations"][:1]} for row in rows[:PROMPTS]])
    generate = ["generate", "--model", MODEL, "--data", out / "prompts.jsonl", "--images-root", DATA, "--batch", 16]
    whole = BRANCHES ** DEPTH
    if not (out / "trees/tree.jsonl").exists():
        sae(*generate, "--tree", f"{DEPTH}x{BRANCHES}", "--tokens", PIECE, "--seed", 0, "--out", out / "trees")
    if not (out / "independent/tree.jsonl").exists():
        sae(*generate, "--tree", f"1x{whole}", "--tokens", DEPTH * PIECE, "--seed", 1, "--out", out / "independent")
    rows, tokens = [], {}
    for kind in ["trees", "independent"]:
        for row in lines(out / kind / "tree.jsonl"):
            root = "parent_id" not in row
            named = {key: f"{kind}-{row[key]}" for key in ["id", "tree_id", "parent_id"] if key in row}
            images = {"images": [str(out / kind / image) for image in row["images"]]} if root else {}
            rows.append(row | named | images)
            tokens[named["id"]] = row.get("tokens", 0)
    return rows, tokens


class Answers:
    """Whole answers, by the id of their last piece: the pieces, the text and the words."""

    def __init__(self, rows, tokens):
        parents = {row["id"]: row.get("parent_id") for row in rows}
        texts = {row["id"]: row.get("text", "") for row in rows}
        continued = set(parents.values())
        self.tokens, self.path, self.words, self.tree = tokens, {}, {}, {}
        for row in rows:
            if row["id"] in continued or not row.get("parent_id"):
                continue
            path = [row["id"]]
            while parents[path[-1]]:
                path.append(parents[path[-1]])
            path.reverse()
            text = "".join(texts[piece] for piece in path[1:])
            self.path[row["id"]], self.tree[row["id"]] = path[1:], path[0]
            self.words[row["id"]] = set(text.lower().replace(":", " ").replace(",", " ").split())

    def rewards(self, seed):
        vocabulary = sorted(set().union(*self.words.values()))
        worth = dict(zip(vocabulary, np.random.default_rng(seed).standard_normal(len(vocabulary))))
        sums = {answer: sum(worth[word] for word in sorted(words)) for answer, words in self.words.items()}
        mean, deviation = np.mean(list(sums.values())), np.std(list(sums.values()))
        return {answer: 2 * (value - mean) / deviation for answer, value in sums.items()}


def capture(sae, out, rows, answers):
    """The run of all pieces, with an autoencoder. Its rows have the rewards of all seeds."""
    rewards = {seed: answers.rewards(seed) for seed in SEEDS}
    data, run = out / "data.jsonl", out / "run"
    write(data, [row | {f"reward_{seed}": rewards[seed].get(row["id"]) for seed in SEEDS} for row in rows])
    sae("harvest", "--model", MODEL, "--data", data, "--pieces", "tree", "--layers", HOOK.split(".")[1], "--run", run)
    if not (run / "saes/base/cfg.json").exists():
        train = ["--arch", "topk", "--features", 2048, "--k", 16, "--batch", 512, "--steps", 1500, "--lr", "1e-3"]
        sae("train", "--run", run, "--hook", HOOK, "--name", "base", "--exclude", "special,first", *train)
    samples = pq.read_table(run / "samples.parquet", columns=["id", "branch"]).to_pylist()
    return run, {sample["branch"]: sample["id"] for sample in samples}


def by_prompt(kind, answers, trees):
    """The answers of a kind to each of these prompts."""
    found = {}
    for answer, tree in answers.tree.items():
        name, _, number = tree.partition("-")
        if name == kind and number in trees:
            found.setdefault(number, []).append(answer)
    return found


def disjoint(found, rng):
    """Pairs of two answers to one prompt, each answer in one pair, in random order."""
    drawn = [[str(answer) for answer in rng.permutation(of_one)] for of_one in found.values()]
    pairs = [pair for of_one in drawn for pair in zip(of_one[::2], of_one[1::2])]
    return [pairs[n] for n in rng.permutation(len(pairs))]


def any_pairs(found, rng):
    """All pairs of two answers to one prompt, in random order."""
    pairs = [(a, b) for of_one in found.values() for n, a in enumerate(of_one) for b in of_one[:n]]
    return [pairs[n] for n in rng.permutation(len(pairs))]


def cost(chosen, answers):
    """Tokens generated for these answers, each piece once."""
    return sum(answers.tokens[piece] for piece in {piece for answer in chosen for piece in answers.path[answer]})


def afforded(groups, answers, budget):
    """The first groups of answers that cost at most so many generated tokens in all. Groups share no pieces."""
    chosen = []
    for group in groups:
        budget -= cost(group, answers)
        if budget < 0:
            break
        chosen.append(group)
    return chosen


def uncertainty(sae, out, run, ids, name, pairs, seed):
    """That of unrelated answers after comparing these pairs; and how well labels of all of them teach the reward of the seed."""
    folder, file = out / "pairs" / name, out / "pairs" / f"{name}.jsonl"
    if not (folder / "pairs.json").exists():
        folder.parent.mkdir(exist_ok=True)
        both = [[ids[answer] for answer in pair] for pair in pairs]
        write(file, [{"sample_id_1": a, "sample_id_2": b} for a, b in both if a != b])  # Equal answers teach nothing.
        sae("pairs", "--run", run, "--sae", "base", "--compared", file, "--topology", "random", "--n", 1, "--reveal", f"reward_{seed}", "--out", folder)
    report = json.loads((folder / "pairs.json").read_text())
    return report["uncertainty"], report["uncertainty_now"], report["topologies"][0]["revealed"][-1]["accuracy"]


def spread(values):
    """The mean, with its 95 % interval over seeds (Student's t with four degrees of freedom)."""
    values = np.asarray(values, float)
    half = 2.776 * values.std(ddof=1) / math.sqrt(len(values)) if len(values) == 5 else float("nan")
    return f"{values.mean():.3f} ± {half:.3f}"


def arms(answers, budget, rng):
    """The pairs of each arm, all with at most `budget` generated tokens, and the answers that were generated for them."""
    prompts = sorted({tree.partition("-")[2] for tree in answers.tree.values()})
    chain = afforded(disjoint(by_prompt("independent", answers, set(prompts)), rng), answers, budget)
    # Whole trees, of prompts in random order. The same prompts with independent answers, dealt one to each prompt in turns.
    trees = by_prompt("trees", answers, set(prompts))
    order = [str(prompt) for prompt in rng.permutation(sorted(trees))]
    kept = order[: len(afforded([trees[prompt] for prompt in order], answers, budget))]
    independent = by_prompt("independent", answers, set(kept))
    turns = [[answer] for turn in zip(*(independent[prompt] for prompt in kept)) for answer in turn]
    dealt = {answer for group in afforded(turns, answers, budget) for answer in group}
    dealt_pairs = any_pairs({prompt: [a for a in independent[prompt] if a in dealt] for prompt in kept}, rng)
    of_trees = any_pairs({prompt: trees[prompt] for prompt in kept}, rng)
    leaves = {answer for prompt in kept for answer in trees[prompt]}
    few, many = len(chain), 4 * len(chain)
    return {
        "independent, each answer once": (chain, {answer for pair in chain for answer in pair}),
        "independent, fewer prompts, any pairs": (dealt_pairs[:few], dealt),
        "independent, fewer prompts, four times as many": (dealt_pairs[:many], dealt),
        "trees, any pairs": (of_trees[:few], leaves),
        "trees, four times as many": (of_trees[:many], leaves),
        "trees, all pairs": (of_trees, leaves),
    }


def per_token(sae, out, run, ids, answers):
    total = {kind: sum(n for piece, n in answers.tokens.items() if piece.startswith(kind)) for kind in ["trees", "independent"]}
    print(f"tokens generated: {total}")
    print("| answers and comparisons | tokens generated | comparisons | uncertainty, of before | of the first row's | accuracy |\n|---|---|---|---|---|---|")
    for share in SHARES:
        found, first = {}, []
        for seed in SEEDS:
            for arm, (pairs, chosen) in arms(answers, share * min(total.values()), np.random.default_rng(seed)).items():
                name = f"{arm.replace(', ', '-').replace(' ', '-')}-{share}-{seed}"
                before, now, accuracy = uncertainty(sae, out, run, ids, name, pairs, seed)
                found.setdefault(arm, []).append((cost(chosen, answers), len(pairs), now / before, accuracy))
        for arm, rows in found.items():
            spent, pairs, part, accuracy = zip(*rows)
            first = first or part
            ratio = spread(np.array(part) / first) if part is not first else "1"
            print(f"| {arm} | {np.mean(spent):.0f} | {np.mean(pairs):.0f} | {spread(part)} | {ratio} | {spread(accuracy)} |")


def named(sae, out, run):
    """Which topology the report of 100 pairs of each names, and which is best with 1,000 simulated labels."""
    print("| seed | named by the report, from 100 pairs | accuracy with 1,000 labels | best |\n|---|---|---|---|")
    right = 0
    for seed in SEEDS:
        told = {}
        for n in [FEW, MANY]:
            folder = out / f"pairs/report-{n}-{seed}"
            if not (folder / "pairs.json").exists():
                folder.parent.mkdir(exist_ok=True)
                sae("pairs", "--run", run, "--sae", "base", "--n", n, "--seed", seed, "--reveal", f"reward_{seed}", "--out", folder)
            told[n] = json.loads((folder / "pairs.json").read_text())
        guess = told[FEW]["best"]["comparisons"]
        accuracies = {t["topology"]: t["revealed"][-1]["accuracy"] for t in told[MANY]["topologies"]}
        best = max(accuracies, key=accuracies.get)
        right += guess == best
        print(f"| {seed} | {guess} | {', '.join(f'{name} {value:.3f}' for name, value in accuracies.items())} | {best} |")
    print(f"the report named the best one for {right} of {len(SEEDS)} seeds")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--sae", type=Path, default=ROOT / "target/release/sae", help="the program")
    arguments = parser.parse_args()
    sae, out = program(arguments.sae), arguments.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    rows, tokens = sampled(sae, out)
    answers = Answers(rows, tokens)
    run, ids = capture(sae, out, rows, answers)
    lengths = {kind: np.mean([sum(tokens[piece] for piece in path) for answer, path in answers.path.items() if answer.startswith(kind)]) for kind in ["trees", "independent"]}
    print(f"{len(answers.path)} answers of {PROMPTS} prompts in each way; tokens of an answer: {lengths}")
    per_token(sae, out, run, ids, answers)
    named(sae, out, run)


main()
