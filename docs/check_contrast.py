"""Computes a contrast again by dense formulas, and compares every effect, interval, z and p-value of its table.

Needs Python 3.11 with numpy, pyarrow, safetensors and scipy. The contrast must not have been confirmed (`--confirm 0%`), since
which clusters confirm is decided by a hash:

    sae contrast --run demo-run --sae seed-0 --groups swapped --confirm 0%
    python docs/check_contrast.py demo-run swapped

The script shares no code with `sae contrast`: it encodes the activations itself, and computes the variance from the residuals
of every sample, `u_c = sum over i in c of t_i (y_ij - m_sj)`, where `y_ij` is 1, or `ln(1 + max)` with `--measure strength`. It
ends with status 1 if a number differs by more than 1e-9 (1e-4 for strengths, since activations are `f32`), or a
bound by more than 1e-7 (an interval without width is the root of a rounding error). Activations are computed in another order, so that one just above the threshold may be below it here: at most one feature in a thousand may
differ for this reason.
"""

import json
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
from program import check_whole
from ablation import Encoder
from safetensors.numpy import load_file
from scipy.stats import t as student

PARTS = {
    "all": lambda modality, role, special: ~special,
    "user": lambda modality, role, special: ~special & (modality == 0) & (role == 2),
    "answer": lambda modality, role, special: ~special & (modality == 0) & (role == 3),
    "image": lambda modality, role, special: modality == 1,
    "action": lambda modality, role, special: modality == 4,
}


def feature_sets(run, encoder, part, threshold, samples):
    """The largest activation above the threshold of each feature in the part of each sample, and how many positions it has."""
    largest, positions = np.zeros((samples, encoder.b.size), np.float32), np.zeros(samples, int)
    shards = sorted((run / "activations" / encoder.hook).glob("shard-*.safetensors"))
    for shard, path in zip(shards, sorted((run / "tokens").glob("part-*.parquet"))):
        tokens = parquet.read_table(path)
        flag = lambda name: tokens[name].to_numpy(zero_copy_only=False)
        here = np.flatnonzero(PARTS[part](flag("modality"), flag("role"), flag("special").astype(bool)))
        sample = flag("sample")[here]
        z = encoder(load_file(shard)["activations"][here])
        rows, features = np.nonzero(z > threshold)
        np.maximum.at(largest, (sample[rows], features), z[rows, features].astype(np.float32))
        np.add.at(positions, sample, 1)
    return largest, positions


def field(meta, names):
    """The values of one or several fields of each row, or None."""
    def one(row, name):
        value = row.get(name)
        for part in name.split(".") if value is None else []:
            row = row.get(part) if isinstance(row, dict) else None
            value = row
        return value
    values = [tuple(one(row, name.strip()) for name in names.split(",")) for row in meta]
    return [None if any(value is None for value in row) else row for row in values]


def numbered(values):
    """Numbers for values, in any order."""
    known = {}
    return np.array([known.setdefault(value, len(known)) for value in values])


def subtract_means(values, groups):
    return values - (np.bincount(groups, values) / np.bincount(groups))[groups]


def main():
    run, name = Path(sys.argv[1]), sys.argv[2]
    folder = run / "contrasts" / name
    asked = json.loads((folder / "contrast.json").read_text())
    if asked["confirming_clusters"]:
        raise SystemExit("this contrast was confirmed in some clusters: make it with --confirm 0%")
    if asked["clusters"] < 50:
        raise SystemExit("p-values of fewer than 50 clusters are permuted, which this script does not do")
    encoder = Encoder(run / "saes" / asked["sae"])
    check_whole(run)
    samples = parquet.read_table(run / "samples.parquet")
    meta = [json.loads(text) for text in samples["meta"].to_pylist()]
    if asked.get("between"):
        raise SystemExit("this script does not look for markers")
    largest, positions = feature_sets(run, encoder, asked["part"], asked["threshold"], len(meta))
    by_strength = asked.get("measure") == "strength"

    question = asked["question"]
    values = field(meta, question["field"])
    if values.count(None) == len(values):  # a column of the scores
        column = parquet.read_table(run / "scores" / f"{asked['sae']}.parquet")[question["field"]].to_pylist()
        values = [None if value is None else (value,) for value in column]
    takes_part = np.array([value is not None for value in values]) & (positions > 0)
    pair = None
    if asked["pair"]:
        pairs = field(meta, asked["pair"])
        counts = {}
        for value, takes in zip(pairs, takes_part):
            counts[value] = counts.get(value, 0) + bool(takes)
        takes_part &= np.array([value is not None and counts[value] > 1 for value in pairs])
        pair = numbered([pairs[n] for n in np.flatnonzero(takes_part)])
    members = np.flatnonzero(takes_part)
    assert len(members) == asked["samples"], (len(members), asked["samples"])

    length = positions[members]
    count = min(max(len(members) // 2000, 10), 50)
    stratum = np.searchsorted(np.sort(length), length) * count // len(length)
    if asked["adjust"]:
        adjust = field(meta, asked["adjust"])
        stratum = numbered(list(zip(stratum, [adjust[n] for n in members])))
    stratum = numbered(list(stratum))
    if asked["cluster"]:
        cluster = field(meta, asked["cluster"])
        cluster = numbered([cluster[n] if cluster[n] is not None else ("alone", n) for n in members])
    else:
        cluster = pair if pair is not None else np.arange(len(members))

    table = parquet.read_table(folder / "features.parquet").to_pydict()
    y = (np.log1p(largest) if by_strength else largest > 0)[members].astype(float)
    share = np.stack([y[stratum == s].mean(0) for s in range(stratum.max() + 1)])
    worst, wrong, clusters = {}, set(), cluster.max() + 1
    for column in dict.fromkeys(table["column"]):
        if question["kind"] == "groups":
            of = lambda value: str(value[0]).lower() if isinstance(value[0], bool) else str(value[0])
            t = np.array([of(values[n]) == column for n in members], float)
        elif question.get("levels"):
            t = np.array([question["levels"].index(values[n][0]) for n in members], float)
        else:
            t = np.array([float(values[n][0]) for n in members])
        t = subtract_means(t, stratum)
        while pair is not None:
            before = t
            t = subtract_means(subtract_means(t, pair), stratum)
            if np.abs(before - t).max() < 1e-13:
                t = subtract_means(t, pair)
                break
        error = y - (0 if pair is not None else share[stratum])
        by_cluster = np.zeros((clusters, y.shape[1]))
        np.add.at(by_cluster, cluster, t[:, None] * error)
        q = np.bincount(cluster, t * t)
        u, v = t @ y, (by_cluster**2).sum(0)
        effect = u / (t @ t)
        w = ((by_cluster - effect * q[:, None]) ** 2).sum(0)
        scale = clusters / (clusters - 1)
        half = student.ppf(0.975, clusters - 1) * np.sqrt(w * scale) / (t @ t)
        with np.errstate(divide="ignore", invalid="ignore"):  # features that do not vary are left out below
            z = u / np.sqrt(v * scale)
        expected = {
            "effect": effect, "lo": effect - half, "hi": effect + half, "z": z, "p": 2 * student.sf(np.abs(z), clusters - 1),
            "n": (y > 0).sum(0),
        }
        for row, feature in enumerate(table["feature"]):
            if table["column"][row] != column:
                continue
            if table["p"][row] is None:  # a feature that does not vary where samples are comparable has no test
                wrong |= {(column, feature)} if v[feature] > 1e-15 * (t @ t) ** 2 else set()
                continue
            for key, all_values in expected.items():
                difference = abs(table[key][row] - all_values[feature]) / max(1.0, abs(all_values[feature]))
                # Strengths carry the rounding errors of activations, which are computed in another order.
                bound = 1e-4 if by_strength else 1e-7 if key in ("lo", "hi") else 1e-9
                if difference > bound:
                    wrong.add((column, feature))
                else:
                    worst[key] = max(worst.get(key, 0.0), difference)
    tests = len(table["feature"])
    largest = ", ".join(f"{key} {value:.1e}" for key, value in worst.items())
    print(f"{name}: {tests} tests of {len(members)} samples, {len(wrong)} differ; largest difference of the others: {largest}")
    sys.exit(len(wrong) > tests / 1000)


main()
