"""Runs every docs/check_*.py: reads what the program writes with the packages that people use.

    cargo build --release && python docs/check_all.py --sae target/release/sae

Makes small data sets, harvests them with a tiny checkpoint from tests/golden, and writes everything that a check reads into a
temporary folder, without network access. A check whose packages are not installed is skipped and reported:

    pip install datasets pyarrow pandas polars duckdb webdataset pillow        check_filtered.py
    pip install sae-bench jsonschema                                           check_saebench.py
    pip install --no-deps sae-dashboard==0.8.0                                 check_neuronpedia.py
    pip install torch transformers safetensors                                 check_dump.py
    pip install duckdb datafusion                                              check_decisions.py
    pip install numpy scipy pyarrow safetensors                                check_contrast.py
"""

import argparse
import importlib.util
import json
import subprocess
import sys
import tempfile
from datetime import datetime, timezone
from decimal import Decimal
from pathlib import Path

DOCS = Path(__file__).resolve().parent
MODEL = DOCS.parent / "tests/golden/llava-a"
NEEDS = {
    "check_filtered.py": ["datasets", "pyarrow", "pandas", "polars", "duckdb", "webdataset", "PIL"],
    "check_saebench.py": ["sae_bench", "jsonschema"],
    "check_neuronpedia.py": ["sae_dashboard", "numpy"],
    "check_contrast.py": ["numpy", "scipy", "pyarrow", "safetensors"],
    "check_dump.py": ["torch", "transformers", "safetensors", "pyarrow"],
    "check_decisions.py": ["duckdb", "datafusion"],
}
IMAGES = ["wide", "tall", "square", "grey"]


def turns(question):
    return [{"from": "human", "value": question}, {"from": "gpt", "value": "A square."}]


def lines(folder, rows):
    (folder / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def images(folder, jpeg=False):
    """The tiny model's images, every second one as JPEG if asked for."""
    from PIL import Image

    (folder / "images").mkdir()
    names = []
    for n, name in enumerate(IMAGES):
        names.append(f"images/{name}.{'jpg' if jpeg and n % 2 else 'png'}")
        Image.open(MODEL / f"images/{name}.png").convert("RGB").save(folder / names[-1])
    return names


def single(folder):
    lines(folder, [{"id": n, "image": name, "conversations": turns("<image>\nWhat?")} for n, name in enumerate(images(folder))])


def mixed(folder):
    names = images(folder, jpeg=True)
    lines(folder, [{"id": n, "image": name, "conversations": turns("<image>\nWhat?")} for n, name in enumerate(names)])


def several(folder):
    names = images(folder)
    rows = [{"key": f"row {n}", "images": names[:n], "conversations": turns("<image>" * n + "\nWhat?"), "tags": ["a"]} for n in (1, 2, 3)]
    lines(folder, rows)


def pairs(folder):
    row = {"question": "What?", "chosen": "A square.", "rejected": "A dog."}
    lines(folder, [{"id": n, "image": name, **row} for n, name in enumerate(images(folder))])


def text(folder):
    lines(folder, [{"instruction": f"Say {n}.", "input": "", "output": str(n), "info": {"n": n}} for n in range(4)])


def typed(folder):
    """A table with columns of its own, whose types JSON does not have."""
    import pyarrow
    import pyarrow.parquet

    names = images(folder)
    held = [{"bytes": (folder / name).read_bytes(), "path": name} for name in names]
    columns = {
        "image": held,
        "question": ["What?"] * 4,
        "answer": ["A square."] * 4,
        "uid": pyarrow.array([f"u{n}" for n in range(4)]),
        "seen": pyarrow.array([datetime(2024, 1, n + 1, tzinfo=timezone.utc) for n in range(4)], pyarrow.timestamp("us", "UTC")),
        "price": pyarrow.array([Decimal("1.50")] * 4, pyarrow.decimal128(10, 2)),
        "rate": pyarrow.array([0.1] * 4, pyarrow.float32()),
        "thumb": pyarrow.array([b"\xff"] * 4),
        "sample_id": ["mine"] * 4,
    }
    pyarrow.parquet.write_table(pyarrow.table(columns), folder / "train.parquet")


def own(folder):
    """A table with keys for `meta`, one of which a row lacks."""
    import pyarrow
    import pyarrow.parquet

    columns = {
        "id": [f"r{n}" for n in range(4)],
        "image": images(folder),
        "text": ["a square", "a tall one", "two", "gray"],
        "category": ["cat", "dog", "cat", "dog"],
        "year": pyarrow.array([2000, 2001, None, 2003], pyarrow.int64()),
        "tags": [["x", "y"], [], ["x"], ["y"]],
    }
    pyarrow.parquet.write_table(pyarrow.table(columns), folder / "own.parquet")


SETS = [single, mixed, several, pairs, text, typed]
FORMATS = ["same", "parquet", "jsonl", "llava", "sharegpt", "trl", "webdataset"]
# Images that the data set holds cannot be referred to.
REFUSED = {("typed", "reference")}


class Sae:
    """The program."""

    def __init__(self, path):
        self.path = path

    def __call__(self, *arguments):
        return subprocess.run([self.path, *map(str, arguments)], check=True, capture_output=True, text=True)


def harvested(sae, make, folder):
    data, run = folder / "data", folder / "run"
    data.mkdir(parents=True)
    make(data)
    sae("harvest", "--model", MODEL, "--layers", 1, "--data", data, "--run", run)
    return run


def written(sae, folder):
    """Every format of every data set, with images copied and left where they are."""
    outputs = []
    for make in SETS:
        run = harvested(sae, make, folder / make.__name__)
        (run / "keep.csv").write_text("sample\n0\n1\n2\n")
        for format in FORMATS:
            for how in ["copy", "reference"]:
                if (make.__name__, how) in REFUSED or (format, how) in {("webdataset", "reference"), ("same", "reference")}:
                    continue
                out = folder / make.__name__ / f"{format}-{how}"
                sae("filter", "--run", run, "--decisions", run / "keep.csv", "--out", out, "--format", format, "--images", how)
                outputs.append(out)
    return outputs


def documented(sae, folder):
    """What the commands in FORMATS.md read."""
    folder.mkdir()
    own(folder)
    run = folder / "run"
    sae("harvest", "--model", MODEL, "--layers", 1, "--data", folder / "own.parquet", "--run", run)
    sae("train", "--run", run, "--hook", "layers.1", "--name", "base", "--expansion", 4, "--batch", 64, "--steps", 5)
    sae("score", "--run", run)
    sae("filter", "--run", run, "--by", "random", "--keep", 3, "--out", folder / "kept")
    return folder


def indexed(sae, folder):
    run = harvested(sae, several, folder)
    of = ["--run", run]
    sae("train", *of, "--hook", "layers.1", "--name", "a", "--expansion", 4, "--batch", 64, "--steps", 5)
    sae("index", *of)
    sae("eval", *of, "--saebench", folder / "core.json")
    for target in ["saedashboard", "neuronpedia"]:
        sae("export", *of, "--to", target, "--limit", 8, "--out", folder / target)
    return run


def styles(folder):
    """360 answers: to 120 questions, in three styles with words of their own, by 60 authors, in two domains."""
    words = ["a red circle", "the blue square", "green lines here"]
    rows = [
        {
            "id": n,
            "conversations": [
                {"from": "human", "value": f"Question {n // 3}?"},
                {"from": "gpt", "value": "so " * (1 + n * n // 7 % 4) + words[n % 3] + f" {n * 7 % 10}"},
            ],
            "style": ["plain", "short", "long"][n % 3], "question": n // 3, "author": n // 6, "domain": n // 6 % 2,
            "year": 1900 + n // 30, "size": ["small", "medium", "large"][n // 3 % 3],
        }
        for n in range(360)
    ]
    lines(folder, rows)


def contrasted(sae, folder):
    """Contrasts of every kind of question, with and without pairs, clusters and fields to adjust for."""
    run = harvested(sae, styles, folder)
    of = ["--run", run]
    sae("train", *of, "--hook", "layers.1", "--name", "a", "--arch", "topk", "--features", 256, "--k", 8, "--batch", 256, "--steps", 100)
    kinds = {
        "groups": ["--groups", "style"],
        "clusters": ["--groups", "style", "--cluster", "author", "--adjust", "domain", "--part", "answer"],
        "pairs": ["--groups", "style", "--pair", "question", "--part", "answer"],
        "clustered-pairs": ["--groups", "style", "--pair", "question", "--cluster", "author"],
        "order": ["--order", "size=small<medium<large", "--cluster", "author"],
        "target": ["--target", "year", "--cluster", "author", "--adjust", "domain,size"],
    }
    fixed = ["--threshold", 0, "--confirm", "0%", "--placebo", 1, "--select", 0]
    for name, question in kinds.items():
        sae("contrast", *of, *question, *fixed, "--name", name)
    return [[run, name] for name in kinds]


def missing(check):
    return [name for name in NEEDS[check] if importlib.util.find_spec(name) is None]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sae", type=Path, default=Path("target/release/sae"), help="the program")
    sae = Sae(parser.parse_args().sae.resolve())
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        arguments = {
            "check_filtered.py": lambda: [
                ["--golden"],
                ["--documented", documented(sae, folder / "documented")],
                written(sae, folder / "filtered"),
            ],
            "check_saebench.py": lambda: [[folder / "features/core.json"]],
            "check_neuronpedia.py": lambda: [[folder / "features/saedashboard", folder / "features/neuronpedia"]],
            "check_dump.py": lambda: [["--sae", sae.path]],
            "check_decisions.py": lambda: [["--sae", sae.path]],
            "check_contrast.py": lambda: contrasted(sae, folder / "contrasts"),
        }
        assert set(arguments) == {file.name for file in DOCS.glob("check_*.py")} - {"check_all.py"}, "a check is not run"
        skipped = {check: missing(check) for check in arguments}
        if any(not skipped[check] for check in ["check_saebench.py", "check_neuronpedia.py"]):
            indexed(sae, folder / "features")
        failed = []
        for check, make in arguments.items():
            if skipped[check]:
                print(f"{check}: SKIPPED, not installed: {', '.join(skipped[check])}", flush=True)
                continue
            runs = make()
            done = [subprocess.run([sys.executable, DOCS / check, *map(str, of)]).returncode for of in runs]
            print(f"{check}: {'FAILED' if any(done) else 'passed'}", flush=True)
            failed += [check] if any(done) else []
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
