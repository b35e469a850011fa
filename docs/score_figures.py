"""Draws the three figures of docs/SCORES.md that explain scores: kinds of errors, two hills of scores, and which column finds what.

Needs Python 3.11 with numpy, pyarrow, pillow and matplotlib. docs/SCORES.md ("Reproduce it") says how to make the folders:

    python docs/score_figures.py --run run --data assets/demo-data --pair PAIR --other OTHER --out docs/images

`--run` is a run in which `sae validate` has tried all kinds of errors on a quarter of the rows. The figure of errors shows them on the
pair PAIR; what is exchanged comes from the pair OTHER.
"""

import argparse
import json
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pyarrow.parquet as parquet
from PIL import Image, ImageFilter

KINDS = {
    "swapped-answers": "text of another image",
    "near-answers": "nearly right text",
    "wrong-word": "one wrong word",
    "shuffled-words": "words in another order",
    "truncated-answers": "truncated text",
    "spliced-images": "two images in one",
    "blurred-images": "blurred image",
    "noisy-images": "noisy image",
}
COLUMNS = ["pmi_blank", "pmi_token_min", "likelihood_min", "likelihood_end", "image_continuity", "image_sharpness", "image_cleanness",
           "likelihood_drop", "cosine_paper", "l0_paper", "random"]
RIGHT, WRONG = "#2b7a78", "#c8553d"


def trial(run, kind):
    """The samples of a trial, and its folder."""
    folder = run / f"validate/{kind}-25"
    return folder, parquet.read_table(folder / "samples.parquet")


def wrapped(text, width=26):
    lines = [""]
    for word in text.split():
        if len(lines[-1]) + len(word) >= width:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return "\n".join(lines)


def spoiled(kind, image, text, other_image, other_text, near):
    """A pair with an error. `sae validate` draws words and pairs at random (harvest/src/data/corruption.rs)."""
    words = text.split()
    if kind == "swapped-answers":
        text = other_text
    elif kind == "near-answers":
        text = near
    elif kind == "wrong-word":
        text = " ".join([*words[:-1], other_text.replace(":", "").replace(",", "").split()[-1]])
    elif kind == "shuffled-words":
        text = " ".join(words[1::2] + words[::2])
    elif kind == "truncated-answers":
        text = " ".join(words[: (len(words) + 1) // 2])
    elif kind == "spliced-images":
        image, half = image.copy(), image.width // 2
        image.paste(other_image.crop((half, 0, image.width, image.height)), (half, 0))
    elif kind == "blurred-images":
        image = image.filter(ImageFilter.GaussianBlur(0.08 * min(image.size)))
    elif kind == "noisy-images":
        pixels = np.asarray(image) + np.random.default_rng(0).normal(0, 96, np.asarray(image).shape)
        image = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
    return image, text


def errors(args):
    """A pair, and what can be wrong with it."""
    rows = {row["id"]: row for row in map(json.loads, open(args.data / "data.jsonl"))}
    image = lambda key: Image.open(args.data / rows[key]["image"]).convert("RGB").resize((224, 224))
    caption = lambda key: rows[key]["conversations"][1]["value"]
    own = set(caption(args.pair).split())
    near = max((text for text in map(caption, rows) if text != caption(args.pair)), key=lambda text: len(own & set(text.split())) / len(own | set(text.split())))
    figure, axes = plt.subplots(2, 5, figsize=(13, 6.8))
    for axis in axes.flat:
        axis.axis("off")
    for axis, (kind, title) in zip(axes.flat, {"": "a right pair", **KINDS}.items()):
        shown, text = spoiled(kind, image(args.pair), caption(args.pair), image(args.other), caption(args.other), near)
        axis.imshow(shown)
        axis.set_title(title, fontsize=11, color=WRONG if kind else RIGHT, fontweight="bold")
        axis.text(112, 232, wrapped(text), fontsize=9, ha="center", va="top")
    figure.tight_layout()
    figure.savefig(args.out / "score-errors.png", dpi=100)


def hills(args):
    """The values of `pmi_blank` for right and for swapped pairs, with the threshold of `--keep auto`."""
    folder, samples = trial(args.run, "swapped-answers")
    (table,) = (folder / "scores").glob("*.parquet")
    column = args.column
    values = parquet.read_table(table, columns=[column])[column].to_numpy(zero_copy_only=False).astype(float)
    estimate = json.loads(table.with_suffix(".json").read_text())["keep"][column]
    bad = np.array([json.loads(text).get("altered") is True for text in samples["meta"].to_pylist()])
    there = np.isfinite(values)
    bins = np.linspace(*np.quantile(values[there], [0.005, 0.995]), 45)
    clipped = np.clip(values, bins[0], bins[-1])
    figure, axis = plt.subplots(figsize=(9, 4))
    axis.hist(clipped[there & ~bad], bins, alpha=0.75, color=RIGHT, label=f"{(there & ~bad).sum()} right pairs")
    axis.hist(clipped[there & bad], bins, alpha=0.75, color=WRONG, label=f"{(there & bad).sum()} pairs with the text of another image")
    axis.axvline(estimate["threshold"], color="black", ls="--", lw=1.2, label="--keep auto keeps what is right of this line")
    axis.set(xlabel=f"{column}, in nats", ylabel="pairs",
             title=f"--keep auto estimates {100 * estimate['mismatched']:.0f} % wrong pairs; there are {100 * bad.mean():.0f} %")
    axis.legend(fontsize=9)
    figure.tight_layout()
    figure.savefig(args.out / "score-hills.png", dpi=100)


def finders(args):
    """The AUC of some columns for every kind of error."""
    (report,) = [path for path in (args.run / "validate").glob("*.json")]
    trials = {one["corruption"]: one["scores"] for one in json.loads(report.read_text())["trials"]}
    kinds = [kind for kind in KINDS if kind in trials]
    aucs = np.array([[trials[kind].get(column, {}).get("auc", np.nan) for kind in kinds] for column in COLUMNS])
    figure, axis = plt.subplots(figsize=(11, 5.4))
    axis.imshow(aucs, cmap="RdYlGn", vmin=0, vmax=1, aspect="auto")
    best = np.nanargmax(aucs, 0)
    for (n, m), value in np.ndenumerate(aucs):
        axis.text(m, n, "" if np.isnan(value) else f"{value:.2f}", ha="center", va="center", fontsize=9, fontweight="bold" if best[m] == n else None)
    axis.set_xticks(range(len(kinds)), [wrapped(KINDS[kind], 14) for kind in kinds], fontsize=9)
    axis.set_yticks(range(len(COLUMNS)), COLUMNS, fontsize=9)
    axis.set_title("How often a right pair scores higher than a spoiled one (0.5: no better than chance); the best column is bold", fontsize=10)
    figure.tight_layout()
    figure.savefig(args.out / "score-finders.png", dpi=100)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--run", type=Path, required=True, help="run in which `sae validate` has tried the errors")
    parser.add_argument("--data", type=Path, required=True, help="folder with data.jsonl")
    parser.add_argument("--pair", required=True, help="id of the pair that is shown")
    parser.add_argument("--other", required=True, help="id of the pair whose image is spliced in")
    parser.add_argument("--column", default="pmi_blank")
    parser.add_argument("--out", type=Path, required=True, help="folder of the figures")
    args = parser.parse_args()
    for draw in (errors, hills, finders):
        draw(args)


if __name__ == "__main__":
    main()
