"""How thinking patterns differ, on planted differences: runs the built `sae` on the bundled model, and prints a table.

Needs Python 3.11 with numpy, pyarrow, safetensors and reasoning-gym, and a built program.

    python docs/thinkpatterns.py --out THINK                                  # 2,000 questions
    python docs/thinkpatterns.py --out THINK --questions 300 --cues 2000      # as in docs/THINKPATTERNS.md

Questions are sums of two to six numbers from reasoning-gym. There are three data sets of the same questions:

- styles: five deterministic styles of working a sum out. They share their words, and take one to three times as many steps. The
  style is predicted for half of the questions from 20 features, 20 words, the length, or mean hidden states of the other half.
- cues: the five answers to a question are draws from one distribution of shared words, of one to three times the length, so that
  only a planted cue differs: 30 % of a style's answers have its cue, a word that no other style has. The same texts without the cues are a second
  run. What the cues change in a feature is therefore known: a finding is false if removing the cues changes the feature's
  prevalence in the style, compared with the other styles, by less than 1 percentage point. A cue is recalled if a finding of its style has a feature
  that removing the cue switches off in at least half of the answers with the cue.
- rewards: one style is rewarded more, but only on sums of four or more numbers. `--between-groups` looks for what says so in the
  words of the question.

The figures are those of one seed. Nothing in the table is a target that was tuned for.
"""

import argparse
import json
import random
from pathlib import Path

import numpy as np
import pyarrow.parquet as parquet
from ablation import Encoder
from safetensors.numpy import load_file

from program import program

ROOT = Path(__file__).resolve().parent.parent
STYLES = ["monologue", "decomposition", "self_ask", "self_debate", "self_critic"]
WORDS = "flag face hand sign red blue green light dark man woman bowing playing water square circle".split()
CUES = dict(zip(STYLES, ["skin", "button", "clock", "person", "heart"]))
SHARE, HOOK, MULTI_STEP = 0.3, "layers.4", 4


def worked_out(style, numbers, generator):
    """A sum in one of the styles: the same words in another order, one to three times as many steps."""
    total, steps = 0, []
    for n in numbers:
        total += n
        add, so, check = f"add {n}", f"so it is {total}", f"now {n} and {total}"
        steps += {
            "monologue": [f"{add} {so}"],
            "decomposition": [f"now {add}", so],
            "self_ask": [f"is it {total}", f"{so} now {add}"],
            "self_debate": [f"{so} now", f"{check} so {add}", f"it is {total} so"],
            "self_critic": [f"{add} now", f"is {total} so now", f"{check} so it is"],
        }[style]
    return ", ".join(steps[: generator.randint(len(steps) // 2 + 1, len(steps))]) + "."


def shuffled(generator):
    return [generator.choice(WORDS) for _ in range(generator.randint(8, 24))]


def make(out, count, cue_count):
    """Writes the data sets, and returns the questions and styles of answers with a cue."""
    import reasoning_gym

    generator = random.Random(0)
    rows, kept = [], {"styles": [], "cues": [], "plain": [], "rewards": []}
    for n, item in enumerate(reasoning_gym.create_dataset("chain_sum", size=max(count, cue_count), seed=1, max_digits=2)):
        expression = item["metadata"]["expression"]
        numbers = [int(term) for term in expression.replace("- ", "-").replace("+ ", "").split()]
        common = {"id": f"q{n}", "question": expression + " =", "terms": len(numbers)}
        kept["styles"].append(common | {style: worked_out(style, numbers, generator) for style in STYLES})
        with_cues, without = {}, {}
        for style in STYLES:
            words = shuffled(generator)
            without[style] = " ".join(words)
            if generator.random() < SHARE:
                at = generator.randrange(len(words) + 1)
                words = words[:at] + [CUES[style]] + words[at:]
                rows.append((n, style))
            with_cues[style] = " ".join(words)
        kept["cues"].append(common | with_cues)
        kept["plain"].append(common | without)
    for n, item in enumerate(reasoning_gym.create_dataset("chain_sum", size=2000, seed=2, max_digits=2)):
        terms = item["metadata"]["num_terms"]
        helps = 0.4 if terms >= MULTI_STEP else 0.0
        reward = {style: int(generator.random() < 0.4 + helps * (style == "decomposition")) for style in STYLES[:2]}
        question = item["metadata"]["expression"] + " ="
        kept["rewards"].append({"id": f"r{n}", "question": question, "terms": terms, "reward": reward,
                                "monologue": "it is so", "decomposition": "so it is"})
    for name, size in [("styles", count), ("cues", cue_count), ("plain", cue_count)]:
        del kept[name][size:]
    for name, lines in kept.items():
        (out / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return [(n, style) for n, style in rows if n < cue_count]


def harvest(sae, out, name, *more, columns=STYLES):
    run, melt = out / f"run-{name}", ",".join(columns) + ":pattern"
    sae("harvest", "--model", ROOT / "assets/demo-mllm", "--data", out / f"{name}.jsonl", "--layers", 4,
        "--run", run, "--melt", melt, *more)
    return run


def train(sae, run):
    sae("train", "--run", run, "--hook", HOOK, "--name", "a", "--arch", "topk", "--features", 1024, "--k", 16,
        "--steps", 1500, "--batch", 512, "--lr", 1e-3)


def read(run, encoder, threshold):
    """Of each sample: its fields, the largest activation of each feature, mean hidden state, positions and text of the answer."""
    samples = parquet.read_table(run / "samples.parquet")
    meta = [json.loads(text) for text in samples["meta"].to_pylist()]
    texts = [text.split("\n", 1)[-1] for text in samples["text"].to_pylist()]
    largest = np.zeros((len(meta), encoder.b.size), np.float32)
    means, positions = np.zeros((len(meta), encoder.w.shape[0])), np.zeros(len(meta))
    shards = sorted((run / "activations" / HOOK).glob("shard-*.safetensors"))
    for shard, path in zip(shards, sorted((run / "tokens").glob("part-*.parquet"))):
        tokens = parquet.read_table(path)
        column = lambda name: tokens[name].to_numpy(zero_copy_only=False)
        here = np.flatnonzero(~column("special").astype(bool) & (column("role") == 3) & (column("modality") == 0))
        sample, states = column("sample")[here], load_file(shard)["activations"][here]
        z = encoder(states)
        which, features = np.nonzero(z > threshold)
        np.maximum.at(largest, (sample[which], features), z[which, features].astype(np.float32))
        np.add.at(means, sample, states)
        np.add.at(positions, sample, 1)
    return meta, largest, means / np.maximum(positions, 1)[:, None], positions, texts


def accuracy(matrix, labels, is_train, sets, most=None):
    """Share of right patterns where `is_train` is false, by ridge regression on the columns that separate patterns best, with a
    95 % interval from 2,000 bootstrap samples of the held-out sets."""
    x, y = np.asarray(matrix, float), np.eye(len(STYLES))[labels]
    if most:
        means = np.stack([x[is_train & (labels == k)].mean(0) for k in range(len(STYLES))])
        between = means.var(0) / np.maximum(x[is_train].var(0), 1e-9)
        x = x[:, np.argsort(-between, kind="stable")[:most]]
    x = (x - x[is_train].mean(0)) / np.maximum(x[is_train].std(0), 1e-9)
    x = np.c_[x, np.ones(len(x))]
    fit = x[is_train]
    weights = np.linalg.solve(fit.T @ fit + 1e-2 * len(fit) * np.eye(x.shape[1]), fit.T @ y[is_train])
    right, (_, held_out) = ((x @ weights).argmax(1) == labels)[~is_train], np.unique(sets[~is_train], return_inverse=True)
    totals, sizes = np.bincount(held_out, right), np.bincount(held_out)
    drawn = np.random.default_rng(0).integers(len(sizes), size=(2000, len(sizes)))
    lo, hi = np.quantile(totals[drawn].sum(1) / sizes[drawn].sum(1), [0.025, 0.975])
    return f"{right.mean():.3f} ({lo:.3f} to {hi:.3f})"


def styles(sae, out):
    run = harvest(sae, out, "styles")
    train(sae, run)
    asked = ["contrast", "--run", run, "--groups", "pattern", "--pair", "set", "--part", "answer", "--threshold", 0]
    found = sae(*asked)
    meta, largest, hidden, positions, texts = read(run, Encoder(run / "saes/a"), 0.0)
    labels = np.array([STYLES.index(row["pattern"]) for row in meta])
    sets = {name: n for n, name in enumerate(sorted({row["set"] for row in meta}))}
    sets = np.array([sets[row["set"]] for row in meta])
    is_train = sets % 2 == 0
    vocabulary = {word: n for n, word in enumerate(sorted({word for text in texts for word in text.replace(",", "").split()}))}
    words = np.zeros((len(meta), len(vocabulary)), bool)
    for n, text in enumerate(texts):
        words[n, [vocabulary[word] for word in text.replace(",", "").split()]] = True
    lengths = np.log(positions)[:, None] ** np.arange(1, 4)
    known = [("20 features", largest > 0, 20), ("20 features, strength", np.log1p(largest), 20),
             ("all features, strength", np.log1p(largest), None), ("20 words", words, 20), ("length", lengths, None),
             ("mean hidden states", hidden, None)]
    print(f"\nStyles: {found['samples']} answers, {found['differing']} of {found['tested']} features differ; "
          f"with labels permuted within sets {np.mean(found['shuffled']):.2f} findings on average ({len(found['shuffled'])} shuffles)")
    for name, matrix, most in known:
        print(f"  style of held-out questions by {name:22} accuracy {accuracy(matrix, labels, is_train, sets, most)} (chance 0.200)")
    for prediction in found["predictions"]:
        values = [prediction[name] for name in ("features", "words", "length", "hidden")]
        print(f"  {prediction['column']:14} AUC by features, words, length, hidden states: " + "  ".join(f"{v:.3f}" for v in values))


def cues(sae, out, planted):
    run, plain = harvest(sae, out, "cues"), harvest(sae, out, "plain")
    train(sae, run)
    found = sae("contrast", "--run", run, "--groups", "pattern", "--pair", "set", "--part", "answer", "--threshold", 0,
                "--select", 0)
    encoder = Encoder(run / "saes/a")
    meta, active, *_ = read(run, encoder, 0.0)
    active = active > 0
    other, without, *_ = read(plain, encoder, 0.0)
    without = without > 0
    assert [row["pattern"] for row in meta] == [row["pattern"] for row in other]
    pattern = np.array([row["pattern"] for row in meta])
    change = active.astype(float) - without
    table = parquet.read_table(run / "contrasts/pattern/features.parquet").to_pylist()
    findings = [(row["feature"], row["column"]) for row in table if row["found"] and row["confirmed"] is not False]
    effect = lambda feature, style: change[pattern == style, feature].mean() - change[pattern != style, feature].mean()
    false = [pair for pair in findings if abs(effect(*pair)) < 0.01]
    number = {(int(row["set"].rsplit(":", 1)[1]), row["pattern"]): n for n, row in enumerate(meta)}
    recalled = {}
    for style in STYLES:
        here = [number[n, other] for n, other in planted if other == style]
        recalled[CUES[style]] = any(change[here, f].mean() >= 0.5 for f, column in findings if column == style)
    raised = {column for feature, column in findings if effect(feature, column) >= 0.01}
    print(f"\nCues: {found['samples']} answers, {len(findings)} findings; with labels permuted within sets "
          f"{np.mean(found['shuffled']):.2f} on average ({len(found['shuffled'])} shuffles)")
    print(f"  recall {sum(recalled.values())} of {len(recalled)} cues; missed: {[k for k, v in recalled.items() if not v]}")
    print(f"  {len(raised)} of {len(STYLES)} styles have a finding that their cue makes more frequent")
    print(f"  realized false discovery rate {len(false)} of {len(findings)} = {len(false) / max(len(findings), 1):.3f} (asked for 0.1)")
    nothing = sae("contrast", "--run", run, "--groups", "pattern", "--part", "answer", "--threshold", 0, "--select", 0,
                  "--name", "unpaired")
    print(f"  without --pair: {nothing['findings']} findings, permuted {np.mean(nothing['shuffled']):.2f}")


def rewards(sae, out):
    run = harvest(sae, out, "rewards", "--answers", "none", columns=STYLES[:2])
    train(sae, run)
    found = sae("contrast", "--run", run, "--target", "reward.{pattern}", "--between-groups",
                "decomposition,monologue", "--threshold", 0, "--name", "gain")
    meta = [json.loads(text) for text in parquet.read_table(run / "samples.parquet")["meta"].to_pylist()]
    predicted = parquet.read_table(run / "scores/a.parquet")["predicted_gain"].to_pylist()
    first = [n for n, row in enumerate(meta) if row["pattern"] == "monologue"]
    score = np.array([predicted[n] for n in first])
    several = np.array([meta[n]["terms"] >= MULTI_STEP for n in first])
    auc = np.mean([np.mean((score[several] > other) + 0.5 * (score[several] == other)) for other in score[~several]])
    gain = np.array([meta[n]["reward"]["decomposition"] - meta[n]["reward"]["monologue"] for n in first])
    best = np.argsort(-score)[: len(score) // 2]
    prediction = found["predictions"][0]
    print(f"\nRewards: {found['samples']} questions, {found['differing']} of {found['tested']} features differ; shuffled "
          f"{np.mean(found['shuffled']):.2f}")
    lo, hi = prediction["features_interval"]
    print(f"  the predicted gain tells sums of {MULTI_STEP} or more numbers from shorter ones: AUC {auc:.3f}")
    print(f"  R^2 of the gain by features {prediction['features']:.3f} ({lo:.3f} to {hi:.3f}), words {prediction['words']:.3f}, "
          f"length {prediction['length']:.3f}, hidden states {prediction['hidden']:.3f}")
    print(f"  mean gain of all questions {gain.mean():.3f}, of the half with the largest prediction {gain[best].mean():.3f}")


def main():
    arguments = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    arguments.add_argument("--out", type=Path, required=True)
    arguments.add_argument("--questions", type=int, default=2000)
    arguments.add_argument("--cues", type=int, help="questions of the second data set (default: as many)")
    arguments.add_argument("--sae", default=str(ROOT / "target/release/sae"))
    arguments = arguments.parse_args()
    arguments.out.mkdir(parents=True)
    planted = make(arguments.out, arguments.questions, arguments.cues or arguments.questions)
    sae = program(arguments.sae)
    styles(sae, arguments.out)
    cues(sae, arguments.out, planted)
    rewards(sae, arguments.out)


main()
