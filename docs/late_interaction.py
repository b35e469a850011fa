"""Patches against words, patches against patches: scores of single positions, in numpy, none of which `sae score` has.

Needs Python 3.11 with numpy, pyarrow, safetensors and scipy. docs/SCORES.md ("Reproduce it") says how to make the folders:

    python docs/late_interaction.py --sae run/saes/topk --calibrate pairs-run --scored run/validate/*-25

Everything is fitted to the calibration run alone, without labels. Prints AUCs of right rows against corrupted rows for

- `pmi_blank` and `pmi_token_min`, for comparison;
- late interaction: every word with every patch, by canonical correlations that were fitted to all pairs of a patch and a word of the same
  sample, or to each word with the patch that fits it best (three rounds, beginning with the former). A word's score is that of its
  best patch, and a patch's that of its best word. "less others": less the mean over 40 other images, or other texts;
- patches against the whole text;
- halves: the left half of the image against the right one, the upper against the lower one, and the lower of both scores;
- seams: patches against their neighbors, the mean along each line between patches, in standard deviations of that line. The lowest of
  all lines, and the vertical line in the middle, which is where `sae validate` splices images.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
from ablation import Encoder, balanced, groups
from measures import auc
from program import check_whole
from safetensors.numpy import load_file
from scipy import sparse
from scipy.linalg import solve_triangular

FEATURES, COMPONENTS, RIDGE, ROUNDS, OTHERS = 1000, 64, 0.3, 3, 40


class Positions:
    """`log(1 + z)` of one modality's positions with content, sparse, with the sample and the rectangle of each."""

    def __init__(self, run, encoder, modality):
        check_whole(run)
        parts = [parquet.read_table(part) for part in sorted((run / "tokens").glob("part-*.parquet"))]
        shards = sorted((run / "activations" / encoder.hook).glob("shard-*.safetensors"))
        columns = lambda table, names: [table[name].to_numpy(zero_copy_only=False) for name in names]
        z, kept = [], []
        for shard, part in zip(shards, parts):
            of, special = columns(part, ["modality", "special"])
            content = np.flatnonzero((of == modality) & ~special.astype(bool))
            hidden = load_file(shard)["activations"][content]
            z += [sparse.csr_matrix(encoder(hidden[at : at + 8192])) for at in range(0, len(hidden), 8192)]
            kept.append(part.take(content))
        tokens = pa.concat_tables(kept)
        self.z = sparse.vstack(z).tocsr()
        self.z.data = np.log1p(self.z.data)
        (self.sample,) = columns(tokens, ["sample"])
        x0, y0, x1, y1 = columns(tokens, ["x0", "y0", "x1", "y1"])
        self.x, self.y = (x0 + x1) / 2, (y0 + y1) / 2
        self.samples = parquet.read_table(run / "samples.parquet")

    def pooled(self, which=None):
        """The largest activation of each feature in every sample, over all positions or those of `which`."""
        z, sample = (self.z, self.sample) if which is None else (self.z[which], self.sample[which])
        out, first = np.zeros((len(self.samples), z.shape[1])), groups(sample)
        for begin, end in zip(first, [*first[1:], len(sample)]):
            out[sample[begin]] = z[begin:end].max(0).toarray()[0]
        return out


class Run:
    def __init__(self, folder, encoder):
        self.name = folder.name
        self.image, self.text = Positions(folder, encoder, 1), Positions(folder / "blank", encoder, 0)
        self.count = len(self.image.samples)
        self.bad = np.array([json.loads(meta).get("altered") is True for meta in self.image.samples["meta"].to_pylist()])
        self.patches, self.words = (np.bincount(side.sample, minlength=self.count) for side in (self.image, self.text))
        self.there = (self.patches > 0) & (self.words > 0)
        self.ends = [np.searchsorted(side.sample, np.arange(self.count + 1)) for side in (self.image, self.text)]

    def of(self, sample):
        """The rows of a sample's patches and of its words."""
        return (slice(ends[sample], ends[sample + 1]) for ends in self.ends)


def moments(x, weights=None):
    """The mean and the covariance of the rows of a matrix, sparse or not."""
    weights = np.ones(x.shape[0]) if weights is None else weights
    weighted = x.multiply(weights[:, None]).tocsr() if sparse.issparse(x) else x * weights[:, None]
    mean = np.asarray(weighted.sum(0)).ravel() / weights.sum()
    square = weighted.T @ x
    return mean, (square.toarray() if sparse.issparse(square) else square) / weights.sum() - np.outer(mean, mean)


class Components:
    """Canonical components of features `chosen[0]` of one side and `chosen[1]` of the other."""

    def __init__(self, chosen, first, second, cross):
        (mean_u, own_u), (mean_t, own_t) = first, second
        self.chosen, self.means = chosen, (mean_u, mean_t)
        lower = [np.linalg.cholesky(own + RIDGE * np.trace(own) / len(own) * np.eye(len(own))) for own in (own_u, own_t)]
        cross = cross - np.outer(mean_u, mean_t)
        cross = solve_triangular(lower[0], solve_triangular(lower[1], cross.T, lower=True).T, lower=True)
        a, s, b = np.linalg.svd(cross, full_matrices=False)
        self.s = np.minimum(s[:COMPONENTS], 0.995)
        self.directions = [solve_triangular(l, d, lower=True, trans="T") for l, d in zip(lower, (a[:, :COMPONENTS], b[:COMPONENTS].T))]
        self.squares, self.products = self.s**2 / (2 * (1 - self.s**2)), self.s / (1 - self.s**2)
        self.constant = -0.5 * np.log(1 - self.s**2).sum()

    def variables(self, z, side):
        return np.asarray(z[:, self.chosen[side]] @ self.directions[side] - self.means[side] @ self.directions[side])

    def pairs(self, p, q):
        """The score of each row of `p` with each row of `q`, in nats."""
        alone = [(v * v) @ self.squares for v in (p, q)]
        return self.constant - alone[0][:, None] - alone[1][None] + (p * self.products) @ q.T

    def nats(self, p, q):
        return self.constant - (p * p + q * q) @ self.squares + (p * q) @ self.products


def dense_fit(u, t):
    chosen = balanced(u, FEATURES), balanced(t, FEATURES)
    u, t = u[:, chosen[0]], t[:, chosen[1]]
    return Components(chosen, moments(u), moments(t), u.T @ t / len(u))


def sums(run, z, side):
    sample = (run.image, run.text)[side].sample
    return (sparse.csr_matrix((np.ones(len(sample)), (sample, np.arange(len(sample)))), shape=(run.count, len(sample))) @ z).toarray()


def minimum(values, sample, count):
    out = np.full(count, np.inf)
    np.minimum.at(out, sample, values)
    return out


def balanced_rows(z):
    """The features of which the share of active rows is closest to one half."""
    share = np.asarray((z > 0).mean(0)).ravel()
    order = np.argsort(-share * (1 - share), kind="stable")[:FEATURES]
    return np.sort(order[(share * (1 - share))[order] > 0])


def late_fits(run):
    """The fit to all pairs of a patch and a word, and the one to each word with its best patch."""
    chosen = balanced_rows(run.image.z), balanced_rows(run.text.z)
    patches, words = run.image.z[:, chosen[0]].astype(float), run.text.z[:, chosen[1]].astype(float)
    mean = sums(run, patches, 0) / np.maximum(run.patches, 1)[:, None]
    of_words = sums(run, words, 1)
    # Every word counts once, so that in these pairs an image counts once for each of its words.
    first, paired = moments(patches), run.words @ mean / run.words.sum()
    cross = mean.T @ of_words / len(run.text.sample) - np.outer(paired - first[0], moments(words)[0])
    first = Components(chosen, first, moments(words), cross)
    fit = first
    for _ in range(ROUNDS):
        p, q = fit.variables(run.image.z, 0), fit.variables(run.text.z, 1)
        best = np.full(len(q), -1)
        for sample in np.flatnonzero(run.there):
            own_patches, own_words = run.of(sample)
            best[own_words] = own_patches.start + fit.pairs(p[own_patches], q[own_words]).argmax(0)
        u, t = patches[best[best >= 0]], words[best >= 0]
        fit = Components(chosen, moments(u), moments(t), (u.T @ t).toarray() / u.shape[0])
    return {"all pairs": first, "best patches": fit}


def late(fit, run):
    p, q = fit.variables(run.image.z, 0), fit.variables(run.text.z, 1)
    others = np.random.default_rng(0).permutation(np.flatnonzero(run.there))[:OTHERS]
    rows = [np.concatenate([np.arange(run.ends[side][n], run.ends[side][n + 1]) for n in others]) for side in (0, 1)]
    starts = [np.cumsum([0, *((run.patches, run.words)[side][others][:-1])]) for side in (0, 1)]
    words_of_others = np.maximum.reduceat(fit.pairs(p[rows[0]], q), starts[0], axis=0).mean(0)
    patches_of_others = np.concatenate(
        [np.maximum.reduceat(fit.pairs(p[at : at + 8192], q[rows[1]]), starts[1], axis=1).mean(1) for at in range(0, len(p), 8192)])
    kinds = ["words, mean", "words, lowest", "patches, mean", "patches, lowest", "words less others, mean", "patches less others, mean"]
    found = {kind: np.full(run.count, np.nan) for kind in kinds}
    for sample in np.flatnonzero(run.there):
        patches, words = run.of(sample)
        scores = fit.pairs(p[patches], q[words])
        w, v = scores.max(0), scores.max(1)
        values = [w.mean(), w.min(), v.mean(), v.min(), (w - words_of_others[words]).mean(), (v - patches_of_others[patches]).mean()]
        for kind, value in zip(kinds, values):
            found[kind][sample] = value
    return found


def seam_fits(run):
    """For vertical and horizontal lines, the fit of a patch and its right or lower neighbor."""
    grid, chosen, fits = cells(run), balanced_rows(run.image.z), []
    z = run.image.z[:, chosen].astype(float)
    for first, second in ((grid[:, :, :-1], grid[:, :, 1:]), (grid[:, :-1], grid[:, 1:])):
        both = (first.ravel() >= 0) & (second.ravel() >= 0)
        u, t = z[first.ravel()[both]], z[second.ravel()[both]]
        fits.append(Components((chosen, chosen), moments(u), moments(t), (u.T @ t).toarray() / u.shape[0]))
    return fits


def cells(run):
    """`[samples, rows, columns]`: the position of every patch of the image, or -1."""
    side = round(np.sqrt(run.patches.max()))
    grid = np.full((run.count, side, side), -1)
    grid[run.image.sample, (run.image.y * side).astype(int), (run.image.x * side).astype(int)] = np.arange(len(run.image.sample))
    return grid


def lines(fits, run):
    """The mean score of neighbors along every line: `[samples, vertical lines, then horizontal lines]`."""
    grid, found = cells(run), []
    for fit, (first, second), along in zip(fits, ((grid[:, :, :-1], grid[:, :, 1:]), (grid[:, :-1], grid[:, 1:])), (1, 2)):
        p, q = fit.variables(run.image.z, 0), fit.variables(run.image.z, 1)
        found.append(fit.nats(p[first.ravel()], q[second.ravel()]).reshape(first.shape).mean(along))
    return np.concatenate(found, 1)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--sae", type=Path, required=True)
    parser.add_argument("--calibrate", type=Path, required=True, help="run with a blank-image pass")
    parser.add_argument("--scored", type=Path, nargs="+", required=True, help="runs of `sae validate`")
    args = parser.parse_args()
    encoder = Encoder(args.sae)
    calibration, scored = Run(args.calibrate, encoder), [Run(folder, encoder) for folder in args.scored]
    print("| score | " + " | ".join(run.name for run in scored) + " |\n" + "|---" * (len(scored) + 1) + "|")

    def row(title, values):
        aucs = [auc(v[run.there], ~run.bad[run.there]) for v, run in zip(values, scored)]
        print(f"| {title} | " + " | ".join(f"{value:.3f}" for value in aucs) + " |", flush=True)

    image, text, there = calibration.image.pooled(), calibration.text.pooled(), calibration.there
    usual = dense_fit(image[there], text[there])
    pooled = [(run.image.pooled(), run.text.pooled()) for run in scored]
    row("`pmi_blank`", [usual.nats(usual.variables(u, 0), usual.variables(t, 1)) for u, t in pooled])

    # An image counts once for each word of its text.
    words = balanced_rows(calibration.text.z)
    z, weights = calibration.text.z[:, words].astype(float), np.where(there, calibration.words, 0).astype(float)
    u = image[:, usual.chosen[0]]
    token = Components((usual.chosen[0], words), moments(u, weights), moments(z), u.T @ (sums(calibration, z, 1) * there[:, None]) / weights.sum())
    row("`pmi_token_min`", [minimum(token.nats(token.variables(u, 0)[run.text.sample], token.variables(run.text.z, 1)), run.text.sample, run.count)
                            for run, (u, _) in zip(scored, pooled)])

    for name, fit in late_fits(calibration).items():
        found = [late(fit, run) for run in scored]
        for kind in found[0]:
            row(f"late interaction, {name}: {kind}", [values[kind] for values in found])

    chosen, weights = balanced_rows(calibration.image.z), np.where(there, calibration.patches, 0).astype(float)
    z = calibration.image.z[:, chosen].astype(float)
    t = text[:, usual.chosen[1]]
    whole = Components((chosen, usual.chosen[1]), moments(z), moments(t, weights), (sums(calibration, z, 0) * there[:, None]).T @ t / weights.sum())
    nats = [whole.nats(whole.variables(run.image.z, 0), whole.variables(t, 1)[run.image.sample]) for run, (_, t) in zip(scored, pooled)]
    row("patches against the text: mean", [np.bincount(run.image.sample, v, run.count) / np.maximum(run.patches, 1) for run, v in zip(scored, nats)])
    row("patches against the text: lowest", [minimum(v, run.image.sample, run.count) for run, v in zip(scored, nats)])

    halves = []
    for part in (lambda run: run.image.x < 0.5, lambda run: run.image.y < 0.5):
        fit = dense_fit(calibration.image.pooled(part(calibration)), calibration.image.pooled(~part(calibration)))
        sides = [(run.image.pooled(part(run)), run.image.pooled(~part(run))) for run in scored]
        halves.append([fit.nats(fit.variables(a, 0), fit.variables(b, 1)) for a, b in sides])
    row("halves: left and right", halves[0])
    row("halves: upper and lower", halves[1])
    row("halves: the lower of both scores", [np.minimum(a, b) for a, b in zip(*halves)])

    fits = seam_fits(calibration)
    usual = lines(fits, calibration)
    found = [(lines(fits, run) - np.nanmean(usual, 0)) / np.nanstd(usual, 0) for run in scored]
    row("seams: the vertical line in the middle", [v[:, (v.shape[1] // 2 - 1) // 2] for v in found])
    row("seams: the lowest of all lines", [v.min(1) for v in found])


if __name__ == "__main__":
    main()
