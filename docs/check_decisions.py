"""Hands decisions of DuckDB and DataFusion to `sae filter --decisions`, and back.

    cargo build --release && pip install duckdb datafusion
    python docs/check_decisions.py --sae target/release/sae        # half a minute; what it prints stands in the guide

The first 240 bundled pairs are harvested and scored. Both scripts (`examples/decisions_*.py`) choose the best 20 of every artist by
`pmi`. What `sae filter` then writes has to have the bytes of what it writes when it chooses them itself (`--by pmi --quota
source=20`), for DataFusion also from a folder of files, and for the `decisions.parquet` of the filter itself. Then each kind of
wrong decisions, made by DuckDB, has to end with an error that says what is wrong, and with no folder.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import duckdb

ROOT = Path(__file__).resolve().parent.parent
ASSETS = ROOT / "assets"
ROWS, BEST = 240, 20

# What is wrong, a query that makes such decisions from good ones, and words of the error.
WRONG = {
    "unknown ids": ("select 'sha-' || left(id, 8) as id, keep from good", "none of the"),
    "one unknown id": ("select case when sample = 3 then 'lost' else id end as id, keep from good", "1 of 240 rows do not name"),
    "repeated rows": ("select * from good union all select * from good where sample = 7", "is the second one about sample 7"),
    "contradictions": ("select id, keep from good union all select id, not keep from good where sample = 7", "another drops it"),
    "nulls": ("select sample, id, case when sample <> 5 then keep end as keep from good", "has nothing in keep"),
    "another type": ("select sample, id, [keep] as keep from good", "the column keep holds List"),
    "another run": ("select sample, sha256(id) as id, keep from good", "as the id of sample 0: expected"),
    "no name": ("select keep, sample as number from good", "no column names samples"),
}


def data_files(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted((folder / "data").rglob("*")) if path.is_file()}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sae", type=Path, default=ROOT / "target/release/sae", help="the program")
    program = parser.parse_args().sae.resolve()
    with tempfile.TemporaryDirectory() as folder:
        check(program, Path(folder))


def check(program, folder):
    def sae(*words):
        done = subprocess.run([program, *map(str, words)], cwd=folder, capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"sae {' '.join(map(str, words))}\n{done.stderr}")
        return done.stdout

    def example(engine, *words):
        script = ROOT / f"examples/decisions_{engine}.py"
        done = subprocess.run([sys.executable, script, "--run", "run", "--sae", "base", "--by", "pmi", *map(str, words)],
                              cwd=folder, capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"{script.name}\n{done.stderr}")
        print(done.stdout, end="")

    def kept(decisions):
        out = Path(decisions).name + "-kept"
        said = sae("filter", "--run", "run", "--decisions", decisions, "--out", out)
        print(said, end="")
        return data_files(folder / out)

    data = ASSETS / "demo-data/data.jsonl"
    sae("harvest", "--model", ASSETS / "demo-mllm", "--data", data, "--limit", ROWS, "--layers", 4, "--device", "cpu", "--run", "run")
    sae("train", "--run", "run", "--hook", "layers.4", "--name", "base", "--arch", "topk", "--features", 512, "--k", 16,
        "--steps", 100, "--batch", 256)
    sae("score", "--run", "run")
    print(sae("filter", "--run", "run", "--by", "pmi", "--quota", f"source={BEST}", "--out", "own"), end="")
    own = data_files(folder / "own")

    group = ["--field", "source", "--best", BEST]
    example("duckdb", *group, "--out", "duckdb.parquet")
    assert kept("duckdb.parquet") == own, "the decisions of DuckDB keep other rows"
    example("datafusion", *group, "--data", data, "--out", "datafusion.parquet")
    assert kept("datafusion.parquet") == own, "the decisions of DataFusion keep other rows"
    example("datafusion", *group, "--data", data, "--out", "parts/")
    assert kept("parts") == own, "a folder of decisions keeps other rows"
    assert kept("own/decisions.parquet") == own, "the decisions of a filter keep other rows"
    print(f"the same {len(own)} files, byte for byte, as by --by pmi --quota source={BEST}\n")

    connection = duckdb.connect()
    connection.execute(f"create view good as from '{folder / 'duckdb.parquet'}'")
    for name, (query, words) in WRONG.items():
        path = folder / "wrong.parquet"
        connection.execute(f"copy ({query}) to '{path}' (format parquet)")
        command = [program, "filter", "--run", "run", "--decisions", "wrong.parquet", "--out", "wrong"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        print(f"{name}: {done.stderr.strip()}")
        assert done.returncode == 1 and words in done.stderr, f"{name}: status {done.returncode}"
        assert not (folder / "wrong").exists(), f"{name} left a folder"
    connection.execute(f"copy (from good where sample >= 10) to '{folder / 'few.parquet'}' (format parquet)")
    said = sae("filter", "--run", "run", "--decisions", "few.parquet", "--out", "few")
    assert "10 no decision" in said, said
    print(f"rows without a decision:\n{said}", end="")


if __name__ == "__main__":
    main()
