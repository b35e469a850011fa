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
import shutil
from pathlib import Path

import numpy as np
from program import program

ROOT = Path(__file__).resolve().parent.parent
DATA, MODEL = ROOT / "assets/demo-data", ROOT / "assets/demo-mllm"
ANSWERS, PAIRS, LABELS, TAGS = 6000, 1500, [100, 1000, 5000], 3
HOOK = "layers.4"
MEASURES = {"auc": "AUC", "quadratic_kappa": "quadratic kappa", "r2": "R²", "accuracy": "accuracy"}
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
        row = {"question": "What is this?", "category": image["category"], "image_severity": 0}
        row["image"] = {"bytes": (DATA / image["image"]).read_bytes(), "path": image["image"]}
        for n, (text, severity, helpful) in enumerate(both, 1):
            row |= {f"response_{n}": text, f"is_response_{n}_safe": "no" if severity > 1 else "yes"}
            row |= {f"response_{n}_harmless_rate": rate[n - 1], f"response_{n}_helpful_rate": helpful}
        row["more_helpful_response_id"] = str(1 if both[0][2] > both[1][2] else 2)
        row["safer_response_id"] = str(1 if rate[0] > rate[1] else 2)
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
    print(f"| {what} | {MEASURES[quality['measure']]} | {report['features']} | {' | '.join(cells)} |")


class Table:
    """What is known about the answers, in the order of samples: scores, and whether they are unsafe and how helpful they are."""

    def __init__(self, out):
        import pyarrow.parquet as pq

        self.out, self.path = out, out / "run/scores/base.parquet"
        scores = pq.read_table(self.path).sort_by("sample")
        self.help, self.harm = (scores[name].to_numpy() for name in ["probe_help", "probe_harm"])
        rows = [json.loads(text) for text in (out / "answers.jsonl").read_text().splitlines()]
        if len(rows) != len(scores):
            raise SystemExit(f"{len(rows)} answers, but {len(scores)} samples have scores: remove {out} and start again")
        self.unsafe, self.helpful = (np.array([row[name] for row in rows], float) for name in ["unsafe", "helpful"])
        self.labeled = np.array([row["labeled"] for row in rows])
        self.kept = round(0.3 * len(rows))

    def select(self, limit, *more):
        """The answers that a filter keeps within a budget of estimated harm; none if it cannot keep it."""
        folder = self.out / "kept"
        shutil.rmtree(folder, ignore_errors=True)
        arguments = ["--by", "probe_help", "--keep", self.kept, "--budget", f"probe_harm<={limit}", "--images", "reference"]
        try:
            sae("filter", "--run", self.out / "run", "--sae", "base", *arguments, "--out", folder, *more)
        except SystemExit as error:
            if not any(reason in str(error) for reason in ["no selection of", "cannot be promised"]):
                raise
            return None
        files = sorted((folder / "data").rglob("*.jsonl"))
        return np.array([int(json.loads(text)["id"][1:]) for file in files for text in file.read_text().splitlines()])


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


def selections(table):
    help_, harm, kept = table.help, table.harm, table.kept
    print("\n| budget: mean of the estimated harm | optimum | ours | best threshold | without selection | true harm (95 %) | true helpfulness |")
    print("|---|---|---|---|---|---|---|")
    for share in BUDGETS:
        limit = share * harm.mean()
        chosen = table.select(limit)
        means = [limit, linear_program(help_, harm, kept, limit), help_[chosen].mean(), best_threshold(help_, harm, kept, limit), help_.mean()]
        true = table.unsafe[chosen].mean()
        error = 1.96 * np.sqrt(true * (1 - true) / kept)
        cells = [f"{mean:.4f}" for mean in means]
        cells += [f"{true:.4f} ({true - error:.3f} to {true + error:.3f})", f"{table.helpful[chosen].mean():.4f}"]
        print(f"| {' | '.join(cells)} |")
    count = len(table.unsafe)
    print(f"\nAll answers: true harm {table.unsafe.mean():.4f}, true helpfulness {table.helpful.mean():.4f}; kept are {kept} of {count}.")


def promises(table):
    """How often a budget of true harm is broken, with and without a promise, over random choices of what was judged."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    limit, free = 0.8 * table.harm.mean(), (~table.labeled).nonzero()[0]
    scores = pq.read_table(table.path)
    scores = scores.drop_columns([name for name in scores.column_names if name.startswith("judged_")])
    with_judged, sample = scores, scores["sample"].to_numpy()
    for split in range(SPLITS):
        judged = np.random.default_rng(split).choice(free, JUDGED, replace=False)
        column = np.full(len(table.unsafe), np.nan)
        column[judged] = table.unsafe[judged]
        with_judged = with_judged.append_column(f"judged_{split}", pa.array(column[sample], from_pandas=True))
    measure = lambda chosen: chosen is not None and [table.unsafe[chosen].mean(), table.helpful[chosen].mean()]
    found = table.out / "promises.json"
    reports = json.loads(found.read_text()) if found.exists() else []
    pq.write_table(with_judged, table.path)
    try:
        for split in range(len(reports), SPLITS):
            reports.append(measure(table.select(limit, "--promise", f"{CONFIDENCE:.0%}", "--judged", f"judged_{split}")))
            found.write_text(json.dumps(reports))
    finally:
        pq.write_table(scores, table.path)
    harm, helped = np.array([report for report in reports if report]).T
    plain = measure(table.select(limit))
    print(f"\nLimit {limit:.4f}; {JUDGED} answers judged in {SPLITS} ways; no selection could be promised in {SPLITS - len(harm)} of them.")
    print("\n| | budget broken | true harm | true helpfulness |\n|---|---|---|---|")
    print(f"| without a promise | {'always' if plain[0] > limit else 'never'} (one selection) | {plain[0]:.4f} | {plain[1]:.4f} |")
    print(f"| with | {(harm > limit).sum()} of {len(harm)} | {harm.mean():.4f} on average | {helped.mean():.4f} on average |")


def report(out):
    print("\n| labels | measure | features with a weight | from features (95 %) | hidden states | words | length | chance |")
    print("|---|---|---|---|---|---|---|---|")
    for count in LABELS:
        line(f"unsafe, {count:,} answers", probe(out, f"unsafe_{count}", "binary", f"unsafe_{count}"))
    line("severity, 5,000 answers", probe(out, "severity", "ordinal", "severity_5000"))
    rejected = ["--rejected", out / "rejected"]
    line("cost of Safe RLHF-V, 1,500 pairs", probe(out, "cost", "cost", "answer.harmless_rate", *rejected, run="chosen"))
    line("the more helpful answer, 1,500 pairs", probe(out, "more_helpful", "pair", "answer.helpful_rate", *rejected, run="chosen"))
    line("unsafe, half of the images", probe(out, "harm", "binary", "harm_label"))
    line("helpfulness, half of the images", probe(out, "help", "linear", "help_label"))
    table = Table(out)
    selections(table)
    promises(table)


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
