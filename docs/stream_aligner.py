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

import guarded
import numpy as np
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
    sae(
        "generate", "--model", MODEL, "--data", out / "prompts.jsonl", "--images-root", DATA, "--run", out / "run", "--sae",
        "base", "--guard", "tone", "--tokens", TOKENS, "--seed", seed, "--batch", 16, "--out", folder, *more,
    )
    return folder


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
    folders = {arm: [generate(out, arm.replace(" ", "-"), seed, *more) for seed in SEEDS] for arm, more in arms.items()}
    plain_cost, shares = None, {}
    print("| answers | with unwanted words | NLL a token | positions computed | words |\n|---|---|---|---|---|")
    for arm, by_seed in folders.items():
        tables = [guarded.rows(folder, "answers") for folder in by_seed]
        answers = [[unwanted(row["text"]) for row in table] for table in tables]
        costs = [sum(row["computed"] for row in table) / max(sum(row["tokens"] for row in table), 1) for table in tables]
        plain_cost = plain_cost or np.mean(costs)
        shares[arm] = np.mean(answers)
        nll = "-" if arm == "steered always" else guarded.over_seeds([guarded.nll(folder) for folder in by_seed])
        words = np.mean([guarded.words(folder) for folder in by_seed])
        print(f"| {arm} | {guarded.interval(answers)} | {nll} | {np.mean(costs) / plain_cost:.2f} | {words:.1f} |")
    print({arm: f"{100 * (1 - share / shares['plain']):.0f} % fewer" for arm, share in shares.items() if arm != "plain"})
    flagged, known = guarded.known_before(folders["steered when flagged"])
    print(f"{flagged} flagged sentences after another one; in {known} a feature of the verdict was active in the one before")
    drawn = first_words(out, "drawn again")
    for arm in [arm for arm in arms if arm.startswith("steered") and arm != "steered always"] + ["difference of means"]:
        found = first_words(out, arm)
        same = {key for key, (sentence, _) in drawn.items() if key in found and found[key][0] == sentence}
        other = sum(drawn[key][1] != found[key][1] for key in same)
        print(f"{arm}: {other} of the first corrections in {len(same)} answers begin with another word than when drawn again")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    run, rows, toned, prompts = prepare(out)
    probe = json.loads((run / "probes/base/tone.json").read_text())
    print(f"{rows} pairs, {toned} with such words, {prompts} prompts; guard: {probe['features']} features, {probe['quality']}")
    streams(out, run)
    guarded.print_rounds([generate(out, "rounds", seed, "--rounds", ROUNDS) for seed in SEEDS], unwanted, ROUNDS)


main()
