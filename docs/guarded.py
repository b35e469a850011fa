"""Answers that were written under a guard, measured: what the scripts of docs/STREAM_ALIGNER.md share. Needs numpy and pyarrow."""

import json

import numpy as np
import pyarrow.parquet as pq


def rows(folder, name):
    """A table of a folder of answers."""
    return pq.read_table(folder / f"{name}.parquet").to_pylist()


def interval(bad, of=None):
    """The share of `bad` among `of` (counts by seed and prompt; without `of`, one each), with quantiles of 1,000 bootstrap draws of prompts."""
    bad = np.asarray(bad, float)
    of = np.ones_like(bad) if of is None else np.asarray(of, float)
    rng, prompts = np.random.default_rng(0), bad.shape[1]
    chosen = [rng.integers(0, prompts, prompts) for _ in range(1000)]
    low, high = np.quantile([bad[:, draw].sum() / of[:, draw].sum() for draw in chosen], [0.025, 0.975])
    return f"{100 * bad.sum() / of.sum():.1f} % ({100 * low:.1f} to {100 * high:.1f})"


def over_seeds(values):
    """The mean over seeds, with the smallest and the largest."""
    return f"{np.mean(values):.3f} ({min(values):.3f} to {max(values):.3f})"


def nll(folder):
    """The negative log-likelihood per token of the sentences that stayed."""
    kept = [row for row in rows(folder, "sentences") if row["kept"]]
    return sum(row["nll"] for row in kept) / sum(row["tokens"] for row in kept)


def words(folder):
    """Words of an answer, on average."""
    return np.mean([len(row["text"].split()) for row in rows(folder, "answers")])


def known_before(folders):
    """Flagged sentences, and those of them in whose sentence before a feature of the verdict was active."""
    flagged = known = 0
    for folder in folders:
        table = rows(folder, "sentences")
        kept = {(row["sample"], row["sentence"]): set(row["features"]) for row in table if row["kept"]}
        for row in table:
            before = kept.get((row["sample"], row["sentence"] - 1))
            if row["try"] == 0 and not row["accepted"] and before is not None:
                flagged += 1
                known += bool(before & set(row["features"]))
    return flagged, known


def print_rounds(folders, unwanted, limit):
    """The share that is shown and refused after 1 to `limit` rounds, beside what follows from the errors of the guard in the first one."""
    first, shown, refused = {True: [], False: []}, [], []
    for folder in folders:
        by_sample = {}
        for row in rows(folder, "rounds"):
            by_sample.setdefault(row["sample"], []).append((row["try"], unwanted(row["text"]), row["accepted"]))
        shown.append([]), refused.append([])
        for _, tries in sorted(by_sample.items()):
            tries.sort()
            first[tries[0][1]].append(not tries[0][2])
            ends = [[bad for number, bad, accepted in tries if accepted and number < end] for end in range(1, limit + 1)]
            shown[-1].append([bool(end) and end[0] for end in ends])
            refused[-1].append([not end for end in ends])
    u = len(first[True]) / (len(first[True]) + len(first[False]))
    tpr, fpr = np.mean(first[True]), np.mean(first[False])
    a = u * (1 - tpr) + (1 - u) * (1 - fpr)
    report = json.loads((folders[0] / "generate.json").read_text())["report"]
    print(f"u {u:.3f}, TPR {tpr:.3f}, FPR {fpr:.3f}, threshold {report['threshold']}, guard in the run {report['rates']}")
    print("| rounds | unwanted and shown | predicted | refused | predicted |\n|---|---|---|---|---|")
    shown, refused = np.array(shown), np.array(refused)
    for end in range(1, limit + 1):
        left = (1 - a) ** end
        cells = [interval(shown[:, :, end - 1]), f"{100 * u * (1 - tpr) * (1 - left) / a:.1f} %"]
        cells += [interval(refused[:, :, end - 1]), f"{100 * left:.1f} %"]
        print(f"| {end} | " + " | ".join(cells) + " |")
