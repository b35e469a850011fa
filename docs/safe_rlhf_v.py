"""Can features guard answers about images, and does a budget of harm hold? Dual preferences, made from the bundled pairs.

Needs Python 3.11 with numpy, scipy and pyarrow, and the program.

    cargo build --release --workspace
    python docs/safe_rlhf_v.py --out SAFE         # everything; continues where it stopped; prints the tables of docs/SAFE_RLHF_V.md

Safe RLHF-V collects, for each of two answers about an image, how helpful and how harmful it is. Here both are known by construction.
An answer is a name and tags. Its severity is 0 (the image's name), 1 (a similar name), 2 (one wrong word in the name) or 3 (the name
of another image), and severities 2 and 3 are unsafe. Its helpfulness is the number of tags that belong to the image; the other tags
are of other images, so that length says nothing. Both are drawn independently.

`answers.jsonl` has 6,000 single answers; `preferences.parquet` has 1,500 rows with two answers, in the columns of BeaverTails-V. The
labels of probes for budgets are those of one half of the images, and what is "judged" for a promise are those of the other half.
"""

import argparse
import json
import random
import subprocess
from pathlib import Path

import numpy as np
from program import program

ROOT = Path(__file__).resolve().parent.parent
DATA, MODEL = ROOT / "assets/demo-data", ROOT / "assets/demo-mllm"
ANSWERS, PAIRS, LABELS, TAGS = 6000, 1500, [100, 1000, 5000], 3
HOOK = "layers.4"
sae = program(ROOT / "target/release/sae")
BUDGETS, SPLITS, JUDGED, CONFIDENCE = [0.5, 0.6, 0.7, 0.8, 0.9], 200, 1500, 0.95


def pairs():
    """Images with a name and at least one tag."""
    found = []
    for line in (DATA / "data.jsonl").read_text().splitlines():
        row = json.loads(line)
        name, _, tags = row["conversations"][1]["value"].partition(": ")
        if tags:
            found.append({"image": row["image"], "category": row["source"], "name": name, "tags": tags.split(", ")[:TAGS]})
    return found


class Answers:
    """Draws answers about images."""

    def __init__(self, images, seed):
        self.images, self.rng = images, random.Random(seed)
        self.words = sorted({word for image in images for word in image["name"].split()})
        self.tags = sorted({tag for image in images for tag in image["tags"]})
        names = sorted({image["name"] for image in images})
        share = lambda a, b: len(set(a.split()) & set(b.split())) / len(set(a.split()) | set(b.split()))
        self.near = {name: max((n for n in names if n != name), key=lambda n: share(n, name)) for name in names}
        self.names = names

    def name(self, image, severity):
        name = image["name"]
        if severity == 1:
            return self.near[name]
        if severity == 2:
            words = name.split()
            place = self.rng.randrange(len(words))
            words[place] = self.rng.choice([word for word in self.words if word != words[place]])
            return " ".join(words)
        return self.rng.choice([other for other in self.names if other != name]) if severity == 3 else name

    def draw(self, image):
        """The text of an answer, its severity, and its helpfulness."""
        severity, helpful = self.rng.randrange(4), self.rng.randint(0, len(image["tags"]))
        wrong = self.rng.sample([tag for tag in self.tags if tag not in image["tags"]], len(image["tags"]) - helpful)
        tags = self.rng.sample(image["tags"], helpful) + wrong
        self.rng.shuffle(tags)
        return f"{self.name(image, severity)}: {', '.join(tags)}", severity, helpful


def make(out):
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not (out / "images").exists():
        (out / "images").symlink_to(DATA / "images")
    images = pairs()
    answers = Answers(images, 0)
    labeled = set(answers.rng.sample(range(len(images)), len(images) // 2))
    with (out / "answers.jsonl").open("w") as file:
        for n in range(ANSWERS):
            which = answers.rng.randrange(len(images))
            text, severity, helpful = answers.draw(images[which])
            turns = [{"from": "human", "value": "<image>"}, {"from": "gpt", "value": text}]
            row = {"id": f"a{n}", "image": images[which]["image"], "conversations": turns, "category": images[which]["category"]}
            row |= {"severity": severity, "unsafe": severity > 1, "helpful": helpful, "labeled": which in labeled}
            row |= {f"unsafe_{k}": severity > 1 for k in LABELS if n < k} | ({"severity_5000": severity} if n < 5000 else {})
            row |= {"harm_label": severity > 1, "help_label": helpful} if which in labeled else {}
            file.write(json.dumps(row) + "\n")
    columns = {}
    answers = Answers(images, 1)
    while len(columns.get("question", [])) < PAIRS:
        image = answers.rng.choice(images)
        both = [answers.draw(image) for _ in range(2)]
        if both[0][0] == both[1][0] or both[0][2] == both[1][2] or both[0][1] == both[1][1]:
            continue
        rate = [3 - 2 * severity for _, severity, _ in both]
        row = {"question": "", "category": image["category"], "image_severity": 0}
        row["image"] = {"bytes": (DATA / image["image"]).read_bytes(), "path": image["image"]}
        for n, (text, severity, helpful) in enumerate(both, 1):
            row |= {f"response_{n}": text, f"is_response_{n}_safe": "no" if severity > 1 else "yes"}
            row |= {f"response_{n}_harmless_rate": rate[n - 1], f"response_{n}_helpful_rate": helpful}
        row["more_helpful_response_id"] = str(1 if both[0][2] > both[1][2] else 2)
        row["safer_response_id"] = str(1 if rate[0] > rate[1] else 2)
        row["question"] = "What is this?"
        for name, value in row.items():
            columns.setdefault(name, []).append(value)
    pq.write_table(pa.table(columns), out / "preferences.parquet")


def once(path, *arguments):
    """Runs a command whose report is kept in a file."""
    if not path.exists():
        report = sae(*arguments)
        path.write_text(json.dumps(report))
    return json.loads(path.read_text())


def capture(out):
    harvest = ["harvest", "--model", MODEL, "--layers", HOOK.split(".")[1]]
    once(out / "harvest.json", *harvest, "--data", out / "answers.jsonl", "--run", out / "run")
    for side in ["chosen", "rejected"]:
        once(out / f"{side}.json", *harvest, "--data", out / "preferences.parquet", "--answers", side, "--run", out / side)
    options = ["--arch", "topk", "--features", 2048, "--k", 32, "--steps", 1200, "--batch", 1024, "--lr", "1e-3"]
    once(out / "train.json", "train", "--run", out / "run", "--hook", HOOK, "--name", "base", *options)
    once(out / "import.json", "import", out / "run/saes/base", "--run", out / "chosen", "--hook", HOOK, "--name", "base")
    once(out / "score.json", "score", "--run", out / "run", "--sae", "base")


def probe(out, name, kind, label, *more, run="run"):
    named = ["--name", name, "--kind", kind, *(["--label", label] if label else [])]
    return once(out / f"probe_{name}.json", "probe", "--run", out / run, "--sae", "base", *named, *more)


def line(what, report):
    quality = report["quality"]
    number = lambda value: "-" if value is None else f"{value:.3f}"
    interval = " to ".join(map(number, quality["interval"])) if quality["interval"] else "-"
    cells = [quality[name] for name in ["features", "dense", "words", "length", "random"]]
    cells = [number(cells[0]) + f" ({interval})", *map(number, cells[1:])]
    print(f"| {what} | {quality['measure']} | {report['features']} | {' | '.join(cells)} |")


def table(out):
    """The samples with their scores."""
    import pyarrow.parquet as pq

    rows = [json.loads(text) for text in (out / "answers.jsonl").read_text().splitlines()]
    scores = pq.read_table(out / "run/scores/base.parquet").to_pydict()
    return rows, scores


def best_threshold(score, cost, kept, limit):
    """The highest mean score of the best samples below a threshold of cost, such that the mean cost is within the limit."""
    best = -np.inf
    for threshold in np.quantile(cost, np.linspace(0.01, 1, 400)):
        allowed = (cost <= threshold).nonzero()[0]
        if len(allowed) >= kept:
            chosen = allowed[np.argsort(-score[allowed], kind="stable")[:kept]]
            if cost[chosen].mean() <= limit:
                best = max(best, score[chosen].mean())
    return best


def linear_program(score, cost, kept, limit):
    from scipy.optimize import linprog

    n = len(score)
    found = linprog(-score, A_ub=cost[None], b_ub=[limit * kept], A_eq=np.ones((1, n)), b_eq=[kept], bounds=(0, 1), method="highs")
    return -found.fun / kept


def selections(out):
    rows, scores = table(out)
    help_, harm = (np.array(scores[name], float) for name in ["probe_help", "probe_harm"])
    unsafe = np.array([row["unsafe"] for row in rows], float)
    helpful = np.array([row["helpful"] for row in rows], float)
    kept, mean = round(0.3 * len(rows)), harm.mean()
    print("\n| budget of estimated harm | optimum | ours | share of the optimum | best threshold | random | true harm | true helpfulness |")
    print("|---|---|---|---|---|---|---|---|")
    for share in BUDGETS:
        limit = share * mean
        folder = out / "kept"
        subprocess.run(["rm", "-rf", folder])
        arguments = ["--by", "probe_help", "--keep", kept, "--budget", f"probe_harm<={limit}", "--images", "reference"]
        try:
            sae("filter", "--run", out / "run", "--sae", "base", *arguments, "--out", folder)
        except SystemExit as error:
            print(f"| {limit:.3f} | {str(error).splitlines()[1]} |")
            continue
        chosen = kept_rows(folder)
        best, hard = linear_program(help_, harm, kept, limit), best_threshold(help_, harm, kept, limit)
        ours, low = help_[chosen].mean(), help_.mean()
        cells = [limit, best, ours, (ours - low) / (best - low), hard, low, unsafe[chosen].mean(), helpful[chosen].mean()]
        print(f"| {' | '.join(f'{cell:.4f}' for cell in cells)} |")
    print(f"\nAll answers: true harm {unsafe.mean():.4f}, true helpfulness {helpful.mean():.4f}; kept are {kept} of {len(rows)}.")


def kept_rows(folder):
    files = sorted((folder / "data").rglob("*.jsonl"))
    return np.array([int(json.loads(text)["id"][1:]) for file in files for text in file.read_text().splitlines()])


def promises(out):
    """How often a budget of true harm is broken, with and without a promise, over random choices of what was judged."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows, scores = table(out)
    unsafe = np.array([row["unsafe"] for row in rows], float)
    helpful = np.array([row["helpful"] for row in rows], float)
    free = np.array([not row["labeled"] for row in rows]).nonzero()[0]
    limit, kept = 0.8 * np.mean([value for value in scores["probe_harm"]]), round(0.3 * len(rows))
    path, columns = out / "run/scores/base.parquet", {}
    for split in range(SPLITS):
        judged = np.random.default_rng(split).choice(free, JUDGED, replace=False)
        column = np.full(len(rows), np.nan)
        column[judged] = unsafe[judged]
        columns[f"judged_{split}"] = column
    original = pq.read_table(path)
    sample = original["sample"].to_numpy()
    try:
        for name, column in columns.items():
            original = original.append_column(name, pa.array(column[sample], from_pandas=True))
        pq.write_table(original, path)
        found = out / "promises.jsonl"
        done = len(found.read_text().splitlines()) if found.exists() else 0
        for split in range(done, SPLITS):
            subprocess.run(["rm", "-rf", out / "kept"])
            arguments = ["--by", "probe_help", "--keep", kept, "--budget", f"probe_harm<={limit}", "--images", "reference"]
            promise = ["--promise", f"{CONFIDENCE:.0%}", "--judged", f"judged_{split}"]
            command = ["filter", "--run", out / "run", "--sae", "base", *arguments, "--out", out / "kept"]
            report = {}
            for name, more in [("promised", promise), ("estimated", [])] if split == 0 else [("promised", promise)]:
                subprocess.run(["rm", "-rf", out / "kept"])
                try:
                    sae(*command, *more)
                    chosen = kept_rows(out / "kept")
                    report[name] = [unsafe[chosen].mean(), helpful[chosen].mean(), len(chosen)]
                except SystemExit as error:
                    report[name] = str(error).splitlines()[1]
            with found.open("a") as file:
                file.write(json.dumps(report) + "\n")
    finally:
        pq.write_table(original.select([name for name in original.column_names if not name.startswith("judged_")]), path)
    reports = [json.loads(text) for text in found.read_text().splitlines()]
    held = [report["promised"] for report in reports if isinstance(report["promised"], list)]
    print(f"\nLimit {limit:.4f}, {kept} kept, {JUDGED} judged, {CONFIDENCE:.0%}, {len(reports)} choices of what was judged.")
    print(f"No selection could be promised: {len(reports) - len(held)}.")
    print(f"Without a promise: true harm {reports[0]['estimated'][0]:.4f}, helpfulness {reports[0]['estimated'][1]:.4f}.")
    if held:
        harm, helped, _ = np.array(held).T
        print(f"With: broken in {(harm > limit).sum()} of {len(held)}; true harm {harm.mean():.4f}, helpfulness {helped.mean():.4f}.")


def report(out):
    print("\n| labels | measure | features | features (95 %) | hidden states | words | length | chance |")
    print("|---|---|---|---|---|---|---|---|")
    for count in LABELS:
        line(f"unsafe, {count:,} answers", probe(out, f"unsafe_{count}", "binary", f"unsafe_{count}"))
    line("severity, 5,000 answers", probe(out, "severity", "ordinal", "severity_5000"))
    rejected = ["--rejected", out / "rejected"]
    line("cost, pairs", probe(out, "cost", "cost", "answer.harmless_rate", *rejected, run="chosen"))
    line("more helpful, pairs", probe(out, "more_helpful", "pair", "answer.helpful_rate", *rejected, run="chosen"))
    line("unsafe, half of the images", probe(out, "harm", "binary", "harm_label"))
    line("helpfulness, half of the images", probe(out, "help", "linear", "help_label"))
    selections(out)
    promises(out)


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--out", type=Path, required=True)
    out = arguments.parse_args().out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    if not (out / "preferences.parquet").exists():
        make(out)
    capture(out)
    report(out)


if __name__ == "__main__":
    main()
