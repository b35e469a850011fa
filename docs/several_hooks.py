"""Does `pmi_blank` find more with the features of several layers? The formula of docs/ablation.py on one layer, and on several together.

Needs Python 3.11 with numpy, pyarrow, safetensors and scipy. The folders, for a run with three autoencoders (docs/SCORES.md, "Reproduce it"):

    python docs/several_hooks.py make --scored run/validate/*-25 --data assets/demo-data --out HOOKS   # what `sae validate` corrupted
    for trial in HOOKS/*.jsonl; do
      sae harvest --model M --data $trial --layers 2,4,6 --run ${trial%.jsonl} --blank-images
    done
    python docs/several_hooks.py measure --saes pairs-run/saes/{l2,l4,l6} --calibrate pairs-run --scored HOOKS/*-25

Everything is fitted to the calibration run, without labels. *Relative*: `pmi_relative`, less what a pair's image and text have with 3,000
of the calibration pairs. *Mean of ranks*: of the scores of single layers, among the rows that are
scored. *Sum*: of the scores themselves, which are nats. *Side by side*: one fit to the features of all layers. *Image I, text T*: the
image's features are of one layer and the text's of another. Printed are AUCs of right rows against corrupted rows, and how much each
differs from `pmi_blank` of the second autoencoder, with 95 % intervals (a bootstrap of the rows).
"""

import argparse
import json
from copy import copy
from pathlib import Path

import numpy as np
import pyarrow.parquet as parquet
from ablation import USUAL, Encoder, Fit, Run, balanced
from measures import auc
from scipy.stats import rankdata


def make(args):
    """The corrupted texts of `sae validate` as data sets."""
    args.out.mkdir(parents=True, exist_ok=True)
    for folder in args.scored:
        with open(args.out / f"{folder.name}.jsonl", "w") as file:
            for row in parquet.read_table(folder / "samples.parquet").to_pylist():
                (image,) = row["images"]
                turns = [{"from": "human", "value": "<image>"}, {"from": "gpt", "value": row["text"].strip()}]
                facts = {"id": row["key"], "image": str((args.data / image["path"]).resolve()), "conversations": turns}
                print(json.dumps(facts | {"altered": json.loads(row["meta"]).get("altered") is True}), file=file)


class Layers:
    """The pooled features of a run, `[samples, features]` for each layer and side."""

    def __init__(self, folder, encoders):
        runs = [Run(folder, encoder) for encoder in encoders]
        self.name, self.bad = runs[0].name, runs[0].bad
        self.there = np.all([run.there for run in runs], 0)
        self.images, self.texts = [run.image.max for run in runs], [run.text.max for run in runs]

    def only(self, rows):
        """Those of some samples."""
        some = copy(self)
        some.images, some.texts = ([z[rows] for z in side] for side in (self.images, self.texts))
        return some


class Together:
    """One fit to several layers: as many features of each as usual, the most balanced ones."""

    def __init__(self, calibration, **changed):
        count = USUAL["features"]
        self.chosen = [[balanced(z, count) for z in side] for side in (calibration.images, calibration.texts)]
        u, t = self.sides(calibration)
        everything = {"features": u.shape[1] + t.shape[1], "components": 192}
        self.fit = Fit(u, t, np.arange(len(u)), **USUAL | everything | changed)

    def sides(self, run):
        both = zip((run.images, run.texts), self.chosen)
        return [np.concatenate([z[:, kept] for z, kept in zip(side, chosen)], 1) for side, chosen in both]

    def first(self, components):
        """The fit with the first components alone."""
        fit = copy(self.fit)
        fit.s, fit.directions = fit.s[:components], [d[:, :components] for d in fit.directions]
        return fit

    def nats(self, run, components):
        return self.first(components).nats(*self.sides(run))

    def relative(self, run, others, components):
        return self.first(components).relative(*self.sides(run), self.sides(others))


def measure(args):
    encoders = [Encoder(folder) for folder in args.saes]
    names = [encoder.hook.removeprefix("layers.") for encoder in encoders]
    calibration = Layers(args.calibrate, encoders)
    calibration = calibration.only(calibration.there)
    scored = [Layers(folder, encoders) for folder in args.scored]
    everything, count = range(len(names)), len(calibration.images[0])
    others = calibration.only(np.random.default_rng(0).choice(count, min(count, 3000), replace=False))

    def fitted(image, text, **changed):
        return Fit(calibration.images[image], calibration.texts[text], np.arange(count), **USUAL | changed)

    def nats(image, text, **changed):
        fit = fitted(image, text, **changed)
        return [fit.nats(run.images[image], run.texts[text]) for run in scored]

    def relative(n):
        fit = fitted(n, n)
        return [fit.relative(run.images[n], run.texts[n], (others.images[n], others.texts[n])) for run in scored]

    alone = [nats(n, n) for n in everything]
    rows = {f"layer {names[n]}": alone[n] for n in everything}
    rows |= {f"layer {names[n]}: relative": relative(n) for n in everything}
    rows |= {f"image {names[i]}, text {names[t]}": nats(i, t) for i in everything for t in everything if i != t}
    pairs = [[n, m] for n in everything for m in everything if n < m]
    for group in [*pairs, list(everything)] if len(names) > 2 else pairs:
        title = ", ".join(names[n] for n in group)
        rows[f"layers {title}: mean of ranks"] = [sum(rankdata(alone[n][k]) for n in group) for k in range(len(scored))]
        rows[f"layers {title}: sum"] = [sum(alone[n][k] for n in group) for k in range(len(scored))]
    # Three layers have more features, and their ridge weighs less beside what they have in common.
    for changed in ({"features": 3000}, {"ridge": 0.1}, {"ridge": 0.03}):
        rows[f"layer {names[1]}: " + ", ".join(f"{name} {value}" for name, value in changed.items())] = nats(1, 1, **changed)
    together = Together(calibration)
    for components in (64, 192):
        rows[f"layers {', '.join(names)}: side by side, {components} components"] = [together.nats(run, components) for run in scored]
    rows[f"layers {', '.join(names)}: side by side, relative"] = [together.relative(run, others, 64) for run in scored]
    together = Together(calibration, ridge=0.9)
    rows[f"layers {', '.join(names)}: side by side, ridge 0.9"] = [together.nats(run, 64) for run in scored]

    base = alone[1]
    print("| features of | " + " | ".join(run.name for run in scored) + " |")
    print("|" + "---|" * (len(scored) + 1))
    for title, values in rows.items():
        cells = []
        for run, own, usual in zip(scored, values, base):
            own, usual, right = own[run.there], usual[run.there], ~run.bad[run.there]
            cell, rng, draws = f"{auc(own, right):.3f}", np.random.default_rng(0), []
            if values is not base:
                for _ in range(1000):
                    drawn = rng.integers(0, len(own), len(own))
                    draws.append(auc(own[drawn], right[drawn]) - auc(usual[drawn], right[drawn]))
                cell += " ({:+.3f} to {:+.3f})".format(*np.quantile(draws, [0.025, 0.975]))
            cells.append(cell)
        print(f"| {title} | " + " | ".join(cells) + " |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("command", choices=["make", "measure"])
    parser.add_argument("--scored", type=Path, nargs="+", required=True, help="make: runs of `sae validate`; measure: of the data sets made of them")
    parser.add_argument("--data", type=Path, help="folder of the images")
    parser.add_argument("--out", type=Path, help="folder of the data sets that are made")
    parser.add_argument("--saes", type=Path, nargs="+", help="autoencoders, one for each layer; the second is what others are compared with")
    parser.add_argument("--calibrate", type=Path, help="run with a blank-image pass")
    args = parser.parse_args()
    needed = {"make": ["data", "out"], "measure": ["saes", "calibrate"]}[args.command]
    if missing := [f"--{name}" for name in needed if getattr(args, name) is None]:
        parser.error(f"{args.command} needs {' and '.join(missing)}")
    if args.command == "measure" and len(args.saes) < 2:
        parser.error("--saes: expected the autoencoders of two or more layers")
    {"make": make, "measure": measure}[args.command](args)


if __name__ == "__main__":
    main()
