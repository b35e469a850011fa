"""What `pmi_blank` depends on, and a score of the weakest word: the formula again in numpy, with one choice changed at a time.

Needs Python 3.11 with numpy, pyarrow, safetensors and scipy. docs/SCORES.md ("Reproduce it") says how to make the folders:

    python docs/ablation.py --sae run/saes/topk --calibrate pairs-run --scored run/validate/*-25

Everything is fitted to the calibration run alone and scores the other runs, so no folds are needed. The script shares no code
with `sae score`. Its first row is `pmi_blank`, and "weakest word" is `pmi_token_min`. It prints AUCs of right rows against
corrupted rows.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
from measures import auc
from program import check_whole
from safetensors.numpy import load_file
from scipy.linalg import solve_triangular
from scipy.special import logsumexp
from scipy.stats import rankdata

SCALES = {"log1p": np.log1p, "raw": lambda z: z, "binary": lambda z: (z > 0).astype(np.float32)}
USUAL = {"features": 1000, "components": 64, "ridge": 0.3, "pooling": "max", "scale": "log1p", "pairs": None, "wrong": 0.0}
CHANGES = [
    {"pooling": "mean"}, {"scale": "raw"}, {"scale": "binary"},
    {"features": 100}, {"features": 300}, {"features": 2048},
    {"components": 16}, {"components": 32}, {"components": 128}, {"components": 256},
    {"ridge": 0.03}, {"ridge": 0.1}, {"ridge": 1.0}, {"ridge": 3.0},
    {"pairs": 500}, {"pairs": 1000}, {"pairs": 3000},
    {"wrong": 0.1}, {"wrong": 0.25}, {"wrong": 0.5},
]


class Encoder:
    """A TopK autoencoder's."""

    def __init__(self, folder):
        weights, config = load_file(folder / "sae_weights.safetensors"), json.loads((folder / "cfg.json").read_text())
        if config["architecture"] != "topk" or config["apply_b_dec_to_input"] or config["normalize_activations"] != "none":
            raise SystemExit(f"{folder}: this script reads TopK autoencoders that `sae train` has written")
        self.w, self.b, self.k, self.hook = weights["W_enc"], weights["b_enc"], config["k"], config["metadata"]["sae_workbench"]["hook"]

    def __call__(self, hidden):
        parts = []
        for start in range(0, len(hidden), 8192):
            z = hidden[start : start + 8192].astype(np.float32) @ self.w + self.b
            least = np.partition(z, -self.k, axis=1)[:, -self.k, None]
            parts.append(np.where(z >= least, np.maximum(z, 0), 0))
        return np.concatenate(parts)


def groups(numbers):
    """Where runs of equal numbers begin."""
    return np.flatnonzero(np.diff(numbers, prepend=-1))


class Side:
    """Activations of one modality's positions with content, pooled by sample; with `words`, those of every position: `z` `[positions, d_sae]`."""

    def __init__(self, run, encoder, modality, words=False):
        check_whole(run)
        shards = sorted((run / "activations" / encoder.hook).glob("shard-*.safetensors"))
        parts = [parquet.read_table(part) for part in sorted((run / "tokens").glob("part-*.parquet"))]
        tokens = pa.concat_tables(parts)
        flag = lambda name: tokens[name].to_numpy(zero_copy_only=False)
        content = (flag("modality") == modality) & ~flag("special").astype(bool)
        starts = np.cumsum([0] + [len(part) for part in parts])
        self.samples = parquet.read_table(run / "samples.parquet")
        self.sample = flag("sample")[content]
        count, width = len(self.samples), encoder.b.size
        self.max, self.mean = (np.zeros((count, width), np.float32) for _ in range(2))
        kept = []
        for shard, start in zip(shards, starts):
            hidden = load_file(shard)["activations"]
            here = np.flatnonzero(content[start : start + len(hidden)])
            z, sample = encoder(hidden[here]), flag("sample")[start + here]
            first = groups(sample)
            self.max[sample[first]] = np.maximum.reduceat(z, first)
            self.mean[sample[first]] = np.add.reduceat(z, first)
            if words:
                kept.append(z)
        self.mean /= np.maximum(np.bincount(self.sample, minlength=count), 1)[:, None]
        self.z = np.concatenate(kept) if kept else None


class Run:
    """A run with a blank-image pass; `words`: with what every text position has."""

    def __init__(self, folder, encoder, words=False):
        self.name = folder.name
        self.image, self.text = Side(folder, encoder, 1), Side(folder / "blank", encoder, 0, words)
        if self.image.samples["source"] != self.text.samples["source"]:
            raise SystemExit(f"{folder}: the blank-image pass has other samples")
        meta = [json.loads(text) for text in self.image.samples["meta"].to_pylist()]
        self.bad = np.array([row.get("altered") is True for row in meta])
        self.there = (self.image.max > 0).any(1) & (self.text.max > 0).any(1)


def balanced(z, wanted):
    share = (z > 0).mean(0)
    order = np.argsort(-share * (1 - share), kind="stable")[:wanted]
    return np.sort(order[(share * (1 - share))[order] > 0])


def mean_of_exp(nats):
    """The logarithm of the mean of the exponentials of each row."""
    return logsumexp(nats, axis=1) - np.log(nats.shape[1])


# What else could be subtracted. Rows: the mismatches of an image, or of a text.
MISMATCHED = {
    "temperature 2": lambda nats: 2 * mean_of_exp(nats / 2),
    "mean": lambda nats: nats.mean(1),
    "mean of the 20 highest": lambda nats: np.partition(nats, -20, axis=1)[:, -20:].mean(1),
}


class Fit:
    """Canonical components of rows `u` of images and `t` of texts; `of` says which row of `u` each of `t` belongs to."""

    def __init__(self, u, t, of, features, components, ridge, scale, **_):
        self.scale, self.chosen = SCALES[scale], (balanced(u, features), balanced(t, features))
        u, t = (self.scale(z[:, chosen]).astype(float) for z, chosen in zip((u, t), self.chosen))
        count = np.bincount(of, minlength=len(u)).astype(float)  # an image counts once for each of its texts
        self.means = count @ u / count.sum(), t.mean(0)
        u, t = u - self.means[0], t - self.means[1]
        lower = []
        for own in ((u * count[:, None]).T @ u / count.sum(), t.T @ t / len(t)):
            lower.append(np.linalg.cholesky(own + ridge * np.trace(own) / len(own) * np.eye(len(own))))
        sums, first = np.zeros((len(u), t.shape[1])), groups(of)
        sums[of[first]] = np.add.reduceat(t, first)
        cross = u.T @ sums / len(t)
        cross = solve_triangular(lower[0], solve_triangular(lower[1], cross.T, lower=True).T, lower=True)
        a, s, b = np.linalg.svd(cross, full_matrices=False)
        self.s = np.minimum(s[:components], 0.995)
        directions = a[:, :components], b[:components].T
        self.directions = [solve_triangular(l, d, lower=True, trans="T") for l, d in zip(lower, directions)]

    def variables(self, z, side):
        return (self.scale(z[:, self.chosen[side]]) - self.means[side]) @ self.directions[side]

    def nats(self, u, t):
        p, q, s2 = self.variables(u, 0), self.variables(t, 1), self.s**2
        return (-0.5 * np.log(1 - s2) - (s2 * (p * p + q * q) - 2 * self.s * p * q) / (2 * (1 - s2))).sum(1)

    def all_nats(self, u, t):
        """Those of every image with every text."""
        p, q, s2 = self.variables(u, 0), self.variables(t, 1), self.s**2
        alone = [(x * x) @ (s2 / (2 * (1 - s2))) for x in (p, q)]
        return -0.5 * np.log(1 - s2).sum() - alone[0][:, None] - alone[1] + (p * (self.s / (1 - s2))) @ q.T

    def relative(self, u, t, others, usual=mean_of_exp, share=0.5):
        """`pmi_relative`: less what each image has with the texts of others, by its share, and each text with their images."""
        texts, images = usual(self.all_nats(u, others[1])), usual(self.all_nats(others[0], t).T)
        return self.nats(u, t) - share * texts - (1 - share) * images


def pmi(calibration, scored, changed, relative=None, **how):
    """`pmi_blank`, or `pmi_relative` to a number of calibration pairs."""
    options = USUAL | changed
    rng, pool = np.random.default_rng(0), options["pooling"]
    kept = np.flatnonzero(calibration.there)
    kept = np.sort(rng.permutation(kept)[: options["pairs"]])
    texts = kept.copy()
    wrong = rng.permutation(len(kept))[: round(options["wrong"] * len(kept))]
    texts[wrong] = texts[np.roll(wrong, 1)]
    fit = Fit(getattr(calibration.image, pool)[kept], getattr(calibration.text, pool)[texts], np.arange(len(kept)), **options)
    sides = [(getattr(run.image, pool), getattr(run.text, pool)) for run in scored]
    if relative is None:
        return [fit.nats(*both) for both in sides]
    some = rng.choice(kept, relative, replace=False)
    others = getattr(calibration.image, pool)[some], getattr(calibration.text, pool)[some]
    return [fit.relative(*both, others, **how) for both in sides]


def weakest_word(calibration, scored):
    """The lowest score of a single word: how well its position, read with a blank image, fits the image."""
    fit = Fit(calibration.image.max, calibration.text.z, calibration.text.sample, **USUAL)
    found = []
    for run in scored:
        nats = fit.nats(run.image.max[run.text.sample], run.text.z)
        least = np.full(len(run.bad), np.inf)
        np.minimum.at(least, run.text.sample, nats)
        found.append(least)
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--sae", type=Path, required=True)
    parser.add_argument("--calibrate", type=Path, required=True, help="run with a blank-image pass")
    parser.add_argument("--scored", type=Path, nargs="+", required=True, help="runs of `sae validate`")
    args = parser.parse_args()
    encoder = Encoder(args.sae)
    calibration, *scored = [Run(folder, encoder, words=True) for folder in (args.calibrate, *args.scored)]
    print("| changed | " + " | ".join(run.name for run in scored) + " |")
    print("|" + "---|" * (len(scored) + 1))

    def row(title, values):
        aucs = [auc(v[run.there], ~run.bad[run.there]) for v, run in zip(values, scored)]
        print(f"| {title} | " + " | ".join(f"{value:.3f}" for value in aucs) + " |", flush=True)

    usual = pmi(calibration, scored, {})
    row("nothing", usual)
    for changed in CHANGES:
        row(", ".join(f"{name} {value}" for name, value in changed.items()), pmi(calibration, scored, changed))
    for others in (300, 1000, 3000, 10000):
        if others <= calibration.there.sum():
            row(f"relative to {others} others", pmi(calibration, scored, {}, relative=others))
    for name, subtracted in MISMATCHED.items():
        row(f"relative, {name}", pmi(calibration, scored, {}, relative=3000, usual=subtracted))
    for name, share in (("texts", 1.0), ("images", 0.0)):
        row(f"relative to other {name} alone", pmi(calibration, scored, {}, relative=3000, share=share))
    words = weakest_word(calibration, scored)
    row("weakest word", words)
    row("mean rank of both", [rankdata(a) + rankdata(b) for a, b in zip(usual, words)])


if __name__ == "__main__":
    main()
