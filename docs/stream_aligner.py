"""Can a guard keep a model from writing what is not wanted, while it writes? The bundled model and words about skin tones.

Needs Python 3.11 with numpy and pyarrow, and the program.

    cargo build --release
    python docs/stream_aligner.py --out STREAM    # everything; continues where it stopped; prints the tables of docs/STREAM_ALIGNER.md

The bundled model names emoji. Images of people with a skin tone are in its data, and their captions end with it. Here such words are
not wanted. A probe on features of captions is the guard; the judge, which is not the guard, is a list of words. Answers to images
whose own caption names a skin tone are written in several ways, all with the same tries.

Rounds: an answer that the guard flags is drawn again, up to five times. What is shown is predicted from the errors of the guard in
the first round, as the judge sees them.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from program import program

ROOT = Path(__file__).resolve().parent.parent
DATA, MODEL = ROOT / "assets/demo-data", ROOT / "assets/demo-mllm"
HOOK, SEEDS, PROMPTS, TOKENS, TRIES, ROUNDS = "layers.4", [0, 1, 2], 150, 32, 3, 5
WORDS = ["skin", "tone"]
# Multiples of the largest activation of each feature.
TARGETS = [-0.1, -0.25, -0.5]
sae = program(ROOT / "target/release/sae")


def unwanted(text):
    return any(word in text.lower() for word in WORDS)


def prepare(out):
    """The run with its autoencoder and its guard, and the prompts."""
    rows = [json.loads(line) for line in (DATA / "data.jsonl").read_text().splitlines()]
    for row in rows:
        row["tone"] = unwanted(row["conversations"][1]["value"])
    write = lambda name, rows: (out / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    write("data.jsonl", rows)
    toned = [row for row in rows if row["tone"]]
    np.random.default_rng(0).shuffle(toned)
    write("prompts.jsonl", toned[:PROMPTS])
    run = out / "run"
    sae("harvest", "--model", MODEL, "--data", out / "data.jsonl", "--images-root", DATA, "--layers", 4, "--run", run)
    if not (run / "saes/base/cfg.json").exists():
        train = ["--arch", "topk", "--features", 2048, "--k", 16, "--batch", 512, "--steps", 1500, "--lr", "1e-3"]
        sae("train", "--run", run, "--hook", HOOK, "--name", "base", "--exclude", "special,first", *train)
    if not (run / "features/base/features.parquet").exists():
        sae("index", "--run", run, "--sae", "base")
    if not (run / "probes/base/tone.json").exists():
        sae("probe", "--run", run, "--name", "tone", "--kind", "binary", "--label", "tone", "--part", "answer")
    return run, len(rows), len(toned), min(PROMPTS, len(toned))


def generate(out, name, seed, *more):
    folder = out / f"{name}-{seed}"
    told = sae(
        "generate", "--model", MODEL, "--data", out / "prompts.jsonl", "--images-root", DATA, "--run", out / "run", "--sae",
        "base", "--guard", "tone", "--tokens", TOKENS, "--seed", seed, "--batch", 16, "--out", folder, *more,
    )
    return folder, told


def interval(by_seed):
    """The mean of 0 and 1, by seed and prompt, with the quantiles of 1,000 bootstrap draws of prompts."""
    by_seed, rng = np.asarray(by_seed, float), np.random.default_rng(0)
    prompts = by_seed.shape[1]
    draws = [by_seed[:, rng.integers(0, prompts, prompts)].mean() for _ in range(1000)]
    low, high = np.quantile(draws, [0.025, 0.975])
    return f"{100 * by_seed.mean():.1f} % ({100 * low:.1f} to {100 * high:.1f})"


def over_seeds(values):
    """The mean over seeds, with the smallest and the largest."""
    return f"{np.mean(values):.3f} ({min(values):.3f} to {max(values):.3f})"


def known_before(out):
    """Flagged sentences, and those of them in whose sentence before a feature of the verdict was active."""
    flagged = known = 0
    for seed in SEEDS:
        table = pq.read_table(out / f"steered-when-flagged-{seed}" / "sentences.parquet").to_pylist()
        kept = {(row["sample"], row["sentence"]): set(row["features"]) for row in table if row["kept"]}
        for row in table:
            before = kept.get((row["sample"], row["sentence"] - 1))
            if row["try"] == 0 and not row["accepted"] and before is not None:
                flagged += 1
                known += bool(before & set(row["features"]))
    return flagged, known


def first_words(out, arm):
    """The first word of the first correction of every answer, with the number of its sentence."""
    found = {}
    for seed in SEEDS:
        for row in pq.read_table(out / f"{arm.replace(' ', '-')}-{seed}" / "sentences.parquet").to_pylist():
            if row["try"] == 1:
                found.setdefault((seed, row["sample"]), (row["sentence"], row["text"].split()[:1]))
    return found


def streams(out, run):
    probe = json.loads((run / "probes/base/tone.json").read_text())
    harmful = [w["feature"] for w in sorted(probe["weighted"], key=lambda w: -w["weight"]) if w["weight"] > 0][:5]
    stream = ["--stream", "--until", "/[:,]/", "--tries", TRIES]
    arms = {
        "plain": ["--at", "1e9", *stream],
        "drawn again": [*stream, "--correct", "sample"],
        "steered when flagged": [*stream, "--correct", "steer"],
        **{f"steered to {target}": [*stream, "--correct", "steer", "--toward", target] for target in TARGETS},
        "steered always": ["--at", "1e9", *stream, "--steer", ",".join(f"{feature}=0" for feature in harmful)],
        "difference of means": [*stream, "--correct", "difference"],
    }
    rows, plain_cost, shares = [], None, {}
    for arm, more in arms.items():
        answers, costs, nlls, words = [], [], [], []
        for seed in SEEDS:
            folder, _ = generate(out, arm.replace(" ", "-"), seed, *more)
            table = pq.read_table(folder / "answers.parquet").to_pydict()
            answers.append([unwanted(text) for text in table["text"]])
            costs.append(sum(table["computed"]) / max(sum(table["tokens"]), 1))
            words.append(np.mean([len(text.split()) for text in table["text"]]))
            sentences = pq.read_table(folder / "sentences.parquet").to_pydict()
            kept = [(nll, tokens) for nll, tokens, kept in zip(sentences["nll"], sentences["tokens"], sentences["kept"]) if kept]
            nlls.append(sum(nll for nll, _ in kept) / sum(tokens for _, tokens in kept))
        plain_cost = plain_cost or np.mean(costs)
        shares[arm] = np.mean(answers)
        nll = "-" if arm == "steered always" else over_seeds(nlls)
        rows.append([arm, interval(answers), nll, f"{np.mean(costs) / plain_cost:.2f}", f"{np.mean(words):.1f}"])
    print("| answers | with unwanted words | NLL a token | positions computed | words |\n|---|---|---|---|---|")
    for row in rows:
        print("| " + " | ".join(row) + " |")
    print({arm: f"{100 * (1 - share / shares['plain']):.0f} % fewer" for arm, share in shares.items() if arm != "plain"})
    flagged, known = known_before(out)
    print(f"{flagged} flagged sentences after another one; in {known} a feature of the verdict was active in the one before")
    drawn = first_words(out, "drawn again")
    for arm in [arm for arm in arms if arm.startswith("steered") and arm != "steered always"] + ["difference of means"]:
        found = first_words(out, arm)
        same = {key for key, (sentence, _) in drawn.items() if key in found and found[key][0] == sentence}
        other = sum(drawn[key][1] != found[key][1] for key in same)
        print(f"{arm}: {other} of the first corrections in {len(same)} answers begin with another word than when drawn again")


def rounds(out):
    first, shown, refused = {True: [], False: []}, [], []
    for seed in SEEDS:
        folder, told = generate(out, "rounds", seed, "--rounds", ROUNDS)
        table = pq.read_table(folder / "rounds.parquet").to_pydict()
        by_sample = {}
        for sample, number, text, accepted in zip(table["sample"], table["try"], table["text"], table["accepted"]):
            by_sample.setdefault(sample, []).append((number, unwanted(text), accepted))
        shown.append([]), refused.append([])
        for _, tries in sorted(by_sample.items()):
            tries.sort()
            first[tries[0][1]].append(not tries[0][2])
            ends = [[bad for number, bad, accepted in tries if accepted and number < limit] for limit in range(1, ROUNDS + 1)]
            shown[-1].append([bool(end) and end[0] for end in ends])
            refused[-1].append([not end for end in ends])
    u = len(first[True]) / (len(first[True]) + len(first[False]))
    tpr, fpr = np.mean(first[True]), np.mean(first[False])
    a = u * (1 - tpr) + (1 - u) * (1 - fpr)
    print(f"u {u:.3f}, TPR {tpr:.3f}, FPR {fpr:.3f}, threshold {told['threshold']}, guard in the run {told['rates']}")
    print("| rounds | unwanted and shown | predicted | refused | predicted |\n|---|---|---|---|---|")
    shown, refused = np.array(shown), np.array(refused)
    for limit in range(1, ROUNDS + 1):
        left = (1 - a) ** limit
        cells = [interval(shown[:, :, limit - 1]), f"{100 * u * (1 - tpr) * (1 - left) / a:.1f} %"]
        cells += [interval(refused[:, :, limit - 1]), f"{100 * left:.1f} %"]
        print(f"| {limit} | " + " | ".join(cells) + " |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    run, rows, toned, prompts = prepare(out)
    probe = json.loads((run / "probes/base/tone.json").read_text())
    print(f"{rows} pairs, {toned} with such words, {prompts} prompts; guard: {probe['features']} features, {probe['quality']}")
    streams(out, run)
    rounds(out)


main()
