"""How well `--keep auto` estimates the share of wrong pairs, by the number of pairs and by how many of them are wrong.

Needs Python 3.11 with numpy, pyarrow, safetensors and scipy. docs/SCORES.md ("Reproduce it") says how to make the folders:

    python docs/keep_share.py --sae run/saes/topk --pairs pairs-run --out keep-share.json

Draws pairs from a run with a blank-image pass, exchanges the texts of a share of them, fits the formula of `pmi_blank` to these
pairs alone in five folds by image, and estimates the share of wrong pairs from the scores. No model is needed, because a text that
was read with a blank image has the same features beside any image. Shares no code with `sae score`. Continues where it stopped.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from ablation import USUAL, Encoder, Fit, Run
from measures import auc

FOLDS, MISMATCHED, BOOTSTRAP = 5, 4000, 400
CUTS = np.arange(4, 11) * 0.05


def scores(run, image, text, subject, caption, rng):
    """Scores of pairs by fits to the other folds, and scores of pairs that were mismatched on purpose."""
    u, t = run.image.max[image], run.text.max[text]
    fold = rng.integers(0, FOLDS, subject.max() + 1)[subject[image]]
    own, mismatched = np.empty(len(image)), []
    for k in range(FOLDS):
        others, here = np.flatnonzero(fold != k), np.flatnonzero(fold == k)
        fit = Fit(u[others], t[others], np.arange(len(others)), **USUAL)
        own[here] = fit.nats(u[here], t[here])
        order = rng.permutation(here)
        partner = np.roll(order, 1)
        differs = caption[text[order]] != caption[text[partner]]
        mismatched.append(fit.nats(u[order], t[partner])[differs])
    return own, np.concatenate(mismatched)[:MISMATCHED]


def places(own, mismatched):
    """The share of mismatched pairs below each score."""
    mismatched = np.sort(mismatched)
    return (np.searchsorted(mismatched, own) + np.searchsorted(mismatched, own, "right")) / 2 / len(mismatched)


def share(y):
    """Storey's estimate with the cut that minimizes its mean squared error."""
    low = np.array([(y <= cut).mean() for cut in CUTS])
    shares = low / CUTS
    error = low * (1 - low) / (len(y) * CUTS**2) + (shares - shares.min()) ** 2
    return min(1.0, shares[np.argmin(error)])


def estimate(own, mismatched, rng):
    draws = [share(places(rng.choice(own, len(own)), rng.choice(mismatched, len(mismatched)))) for _ in range(BOOTSTRAP)]
    return share(places(own, mismatched)), np.quantile(draws, [0.025, 0.975]).tolist()


def measure(run, subject, caption, size, wrong, seed):
    rng = np.random.default_rng([size, round(100 * wrong), seed])
    image = rng.permutation(np.flatnonzero(run.there))[:size]
    text, chosen = image.copy(), rng.permutation(len(image))[: round(wrong * len(image))]
    text[chosen] = image[np.roll(chosen, 1)]
    bad = caption[image] != caption[text]
    own, mismatched = scores(run, image, text, subject, caption, rng)
    found, interval = estimate(own, mismatched, rng)
    right = places(own[~bad], mismatched)
    return {"pairs": len(image), "asked": wrong, "seed": seed, "wrong": bad.mean(), "estimate": found, "interval": interval,
            "auc": auc(own, ~bad) if bad.any() else None, "right_pairs_in_the_lowest_fifth": (right <= 0.2).mean()}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--sae", type=Path, required=True)
    parser.add_argument("--pairs", type=Path, required=True, help="run with a blank-image pass whose pairs are right")
    parser.add_argument("--out", type=Path, required=True, help="file of results, a line each")
    parser.add_argument("--sizes", type=int, nargs="+", default=[1000, 10_000])
    parser.add_argument("--shares", type=float, nargs="+", default=[0, 0.1, 0.25, 0.5])
    parser.add_argument("--seeds", type=int, default=3)
    args = parser.parse_args()
    run = Run(args.pairs, Encoder(args.sae))
    hashes = [images[0]["sha256"] if images else "" for images in run.image.samples["images"].to_pylist()]
    subject, caption = np.unique(hashes, return_inverse=True)[1], np.array(run.text.samples["text"].to_pylist())
    lines = args.out.read_text().splitlines() if args.out.exists() else []
    done = {(row["asked_pairs"], row["asked"], row["seed"]): row for row in map(json.loads, lines)}
    for seed in range(args.seeds):
        for size in args.sizes:
            for wrong in args.shares:
                if (size, wrong, seed) not in done:
                    done[size, wrong, seed] = measure(run, subject, caption, size, wrong, seed) | {"asked_pairs": size}
                    with open(args.out, "a") as file:
                        print(json.dumps(done[size, wrong, seed]), file=file)
                    print(done[size, wrong, seed], flush=True)
    print("| pairs | really wrong | estimated (each draw, with its 95 % interval) | right pairs among the lowest fifth | AUC |\n|---|---|---|---|---|")
    percent = lambda value: f"{100 * value:.1f}"
    for size in args.sizes:
        for wrong in args.shares:
            rows = [done[size, wrong, seed] for seed in range(args.seeds)]
            mean = lambda key: np.mean([row[key] for row in rows])
            found = "; ".join(f"{percent(row['estimate'])} [{percent(row['interval'][0])}, {percent(row['interval'][1])}]" for row in rows)
            area = f"{mean('auc'):.3f}" if wrong else ""
            right = percent(mean("right_pairs_in_the_lowest_fifth"))
            print(f"| {rows[0]['pairs']:,} | {percent(mean('wrong'))} % | {found} | {right} % | {area} |")


if __name__ == "__main__":
    main()
