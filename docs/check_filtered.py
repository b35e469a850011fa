"""Reads filtered data sets with the packages that people use: datasets, pyarrow, pandas, polars, DuckDB, webdataset, Pillow,
and Python's tarfile.

    python docs/check_filtered.py FOLDER...          # outputs of `sae filter`, each with its manifest.json
    python docs/check_filtered.py --golden           # the golden files of tests/cli/filtered.rs
    python docs/check_filtered.py --documented FOLDER    # the commands of FORMATS.md that read `meta`; FOLDER has a `run` on
                                                         # `own.parquet`, with scores `base`, and `kept` (see check_all.py)

Every row is loaded. Counts are compared with the manifest, columns with FORMATS.md, and every image, byte for byte, with the
file of the data set that it came from. `datasets.load_dataset(FOLDER)` has to open the folder, readers of whole folders have
to read its `data`, and its rows have to join with the decisions. Needs
`pip install datasets pyarrow pandas polars duckdb webdataset pillow` and no network access. Golden files are made by
`SAE_UPDATE=1 cargo test --release --workspace every_format` and compared by the same test without that variable.
"""

import csv
import io
import json
import os
import re
import sys
import tarfile
import tempfile
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_DATASETS_OFFLINE"] = "1"
os.environ["HF_HOME"] = tempfile.mkdtemp()

import datasets
import duckdb
import pandas
import polars
import pyarrow.dataset
import pyarrow.parquet
import webdataset
from PIL import Image

datasets.disable_progress_bars()
REPOSITORY = Path(__file__).parent.parent
# A list of images, as the installed version of `datasets` writes it.
IMAGES = getattr(datasets, "List", datasets.Sequence)(datasets.Image())


def load(kind, files):
    return datasets.load_dataset(kind, data_files=[str(file) for file in files], split="train")


def decoded(data):
    """The bytes of an image that decodes."""
    Image.open(io.BytesIO(data)).convert("RGB")
    return data


def in_files(folder, names):
    return [decoded((folder / name).read_bytes()) for name in names]


def check_jsonl(folder):
    data = load("json", [folder / "data.jsonl"])
    assert {"sample_id", "images"} <= set(data.column_names), data.column_names
    for row in data:
        turns = row["messages"] if "messages" in row else row["prompt"]
        parts = [part["type"] for turn in turns for part in turn["content"]]
        assert parts.count("image") == len(row["images"])
    return [in_files(folder, row["images"]) for row in data]


def check_llava(folder):
    rows = json.loads((folder / "llava.json").read_text())
    assert len(load("json", [folder / "llava.json"])) == len(rows)
    images = []
    for row in rows:
        named = row.get("image", [])
        named = [named] if isinstance(named, str) else named
        assert sum(turn["value"].count("<image>") for turn in row["conversations"]) == len(named)
        assert {turn["from"] for turn in row["conversations"]} <= {"human", "gpt"}
        images.append(in_files(folder, named))
    return images


def check_sharegpt(folder):
    """As LLaMA-Factory's loader does: entries of dataset_info.json, marks for images, sides in turns."""
    images = []
    for entry in json.loads((folder / "dataset_info.json").read_text()).values():
        assert entry["formatting"] == "sharegpt"
        columns = entry["columns"]
        for row in load("json", [folder / entry["file_name"]]):
            turns = [turn for turn in row[columns["messages"]] if turn["from"] != "system"]
            assert [turn["from"] for turn in turns] == ["human", "gpt"][: len(turns)] * max(1, len(turns) // 2)
            if entry.get("ranking"):
                assert all(row[columns[side]]["from"] == "gpt" for side in ["chosen", "rejected"])
            marks = sum(turn["value"].count("<image>") for turn in row[columns["messages"]])
            assert marks == len(row[columns["images"]])
            images.append(in_files(folder, row[columns["images"]]))
    return images


def check_parquet(folder, columns=("messages",)):
    files = sorted(folder.glob("*.parquet"))
    # Readers of whole folders.
    tables = [pyarrow.parquet.read_table(folder), pandas.read_parquet(folder), polars.read_parquet(folder)]
    assert len({len(table) for table in tables}) == 1, [len(table) for table in tables]
    if any(pyarrow.types.is_map(field.type) for field in tables[0].schema):
        print(f"{folder}: `datasets` has no type for maps, and is not asked")
        return [[decoded(image["bytes"]) for image in row["images"]] for row in tables[0].to_pylist()]
    data = load("parquet", files)
    assert data.features["images"] == IMAGES, data.features
    if "prompt" in data.column_names:
        columns = ("prompt", "completion" if "completion" in data.column_names else "chosen")
    assert {"sample_id", "images", *columns} <= set(data.column_names), data.column_names
    for row in data:
        assert all(image.size[0] > 0 for image in row["images"]), "images decode by themselves"
        for column in columns:
            assert {turn["role"] for turn in row[column]} <= {"system", "user", "assistant"}
    rows = [row for file in files for row in pyarrow.parquet.read_table(file).to_pylist()]
    assert len(rows) == len(data)
    if all(image["bytes"] is None for row in rows for image in row["images"]):
        return [[decoded(Path(image["path"]).read_bytes()) for image in row["images"]] for row in rows]
    return [[decoded(image["bytes"]) for image in row["images"]] for row in rows]


def check_trl(folder):
    names = pyarrow.parquet.read_schema(next(folder.glob("*.parquet"))).names
    assert "prompt" in names and ("completion" in names or {"chosen", "rejected"} <= set(names)), names
    return check_parquet(folder)


def check_webdataset(folder):
    images, kinds = [], set()
    files = sorted(folder.glob("*.tar"))
    for file in files:
        members = {}
        with tarfile.open(file) as archive:
            for member in archive:
                assert (member.isfile(), member.mtime) == (True, 0)
                key, extension = member.name.split(".", 1)
                members.setdefault(key, {})[extension] = archive.extractfile(member).read()
        for row in members.values():
            fields = json.loads(row.pop("json"))
            assert "sample_id" in fields and ("messages" in fields or "chosen" in fields)
            kinds.add(tuple(sorted(row)))
            order = sorted(row, key=lambda name: int(name.split(".")[0]) if "." in name else 0)
            images.append([decoded(row[name]) for name in order])
    rows = webdataset.WebDataset([str(file) for file in files], shardshuffle=False).decode("pil")
    assert sum(1 for row in rows if "sample_id" in row["json"]) == len(images)
    # `datasets` asks that all rows have the same kinds of files, which the filter says where it is not so.
    if len(kinds) == 1:
        data = load("webdataset", files)
        assert len(data) == len(images)
        found = next((value for key, value in data[0].items() if key in {"png", "jpg"}), None)
        assert found is None or isinstance(found, Image.Image)
    else:
        notes = folder.parent / "manifest.json"
        assert not notes.exists() or any("datasets" in note for note in json.loads(notes.read_text())["notes"])
    return images


def check_same(folder):
    """Rows as they stood: only what they name by a column of images is known."""
    images = []
    for file in sorted(folder.rglob("*.jsonl")):
        for row in load("json", [file]):
            named = row.get("image") or row.get("images") or []
            named = [named] if isinstance(named, str) else named
            images.append(in_files(file.parent, named))
    for file in sorted(folder.rglob("*.parquet")):
        for row in pyarrow.parquet.read_table(file).to_pylist():
            held = row.get("image") or row.get("images") or []
            held = [held] if isinstance(held, dict) else held
            images.append([decoded(i["bytes"] or (file.parent / i["path"]).read_bytes()) for i in held])
    return images


def check_folder(folder, manifest):
    """`datasets.load_dataset(FOLDER)`, as after an upload to the hub."""
    rows, sets = manifest["kept"]["rows"], datasets.get_dataset_config_names(str(folder))
    for note in manifest["notes"]:
        print(f"{folder}: {note}")
    if any("`datasets`" in note for note in manifest["notes"]):
        return
    loaded = [datasets.load_dataset(str(folder), name, split="train") for name in sets]
    assert sum(map(len, loaded)) == rows, (loaded, rows)


def check_joins(folder, manifest):
    """Rows that say which samples they are, joined with the decisions in SQL."""
    decisions, files = folder / "decisions.parquet", list((folder / "data").glob("*.parquet"))
    files += [file for file in (folder / "data").glob("*.jsonl")]
    assert duckdb.sql(f"select count(*) from '{decisions}' where stays").fetchall()[0][0] == manifest["kept"]["rows"]
    if manifest["format"] in {"parquet", "trl", "jsonl"} and files:
        names = ", ".join(f"'{file}'" for file in files)
        reader = "read_parquet" if files[0].suffix == ".parquet" else "read_json_auto"
        query = f"select count(*) from '{decisions}' d join {reader}([{names}]) r on r.sample_id = d.id and d.stays"
        assert duckdb.sql(query).fetchall()[0][0] >= manifest["kept"]["rows"]


def check_output(folder):
    manifest = json.loads((folder / "manifest.json").read_text())
    images = globals()["check_" + manifest["format"]](folder / "data")
    if manifest["format"] != "same" or images:
        assert len(images) == manifest["kept"]["rows"], (len(images), manifest["kept"])
    check_folder(folder, manifest)
    check_joins(folder, manifest)
    with open(folder / "decisions.csv", newline="") as file:
        decisions = list(csv.DictReader(file))
    stays = [row["stays"] == "true" for row in decisions]
    assert (stays.count(True), stays.count(False)) == (manifest["kept"]["rows"], manifest["dropped"])
    table = pyarrow.parquet.read_table(folder / "decisions.parquet").to_pylist()
    assert [(row["id"], row["stays"]) for row in table] == [(r["id"], r["stays"] == "true") for r in decisions]
    # Every image is one of the data set's, to the byte.
    root = Path(manifest["data_root"])
    known = {file.read_bytes() for file in root.rglob("*") if file.suffix in {".png", ".jpg"}}
    assert not known or all(image in known for row in images for image in row)
    return manifest["format"], len(images), sum(map(len, images))


def check_golden():
    golden, images = REPOSITORY / "tests/golden/filtered", REPOSITORY / "tests/golden/llava-a/images"
    known = {file.read_bytes() for file in images.iterdir()}
    for source in sorted(golden.iterdir()):
        # Images are not committed a second time.
        with tempfile.TemporaryDirectory() as folder:
            folder = Path(folder)
            for file in source.iterdir():
                (folder / file.name).write_bytes(file.read_bytes())
            if not list(folder.glob("*.parquet")):
                (folder / "images").symlink_to(images)
            found = globals()["check_" + source.name.removesuffix("-pairs")](folder)
        assert len(found) == (2 if source.name.endswith("pairs") else 5), source.name
        assert all(image in known for row in found for image in row)
        print(f"{source.name}: {len(found)} rows, {sum(map(len, found))} images")


def check_documented(folder):
    """Runs the commands of FORMATS.md's section on samples.parquet, and compares what they find with the data set."""
    text = (REPOSITORY / "FORMATS.md").read_text()
    section = text.split("\n### samples.parquet\n")[1].split("\n### ")[0]
    blocks = re.findall(r"^```(sql|python)\n(.*?)^```$", section, re.DOTALL | re.MULTILINE)
    own = pyarrow.parquet.read_table(folder / "own.parquet").to_pylist()
    categories, years = [row["category"] for row in own], [row["year"] for row in own]
    os.chdir(folder)
    statements = [one for language, block in blocks if language == "sql" for one in re.split(r";.*\n", block) if one.strip()]
    late, keys, groups, joined = [duckdb.sql(statement).fetchall() for statement in statements]
    assert sorted(late) == [(row["id"], row["category"], row["year"], row["tags"]) for row in own if (row["year"] or 0) >= 2001]
    assert json.loads(keys[0][0])["year"] == "UBIGINT", keys
    assert [group[:2] for group in groups] == [(name, categories.count(name)) for name in sorted(set(categories))]
    assert sum(kept for _, _, kept in groups) == 3, groups
    assert len(joined) == len(own), joined
    found = []
    for code in [block for language, block in blocks if language == "python"]:
        names = {}
        exec(code, names)
        assert len(names["kept"]) == 3, names["kept"]
        found.append(names["samples"])
    of_polars, of_pandas = found
    assert (of_polars["category"].to_list(), of_polars["year"].to_list()) == (categories, years)
    assert of_pandas["meta.category"].to_list() == categories
    assert [None if year is pandas.NA else int(year) for year in of_pandas["meta.year"]] == years
    print(f"FORMATS.md: {len(statements)} SQL statements, {len(found)} Python blocks")


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["--golden"]:
            check_golden()
        case ["--documented", folder]:
            check_documented(Path(folder))
        case folders:
            for folder in folders:
                kind, rows, images = check_output(Path(folder))
                print(f"{folder}: {kind}, {rows} rows, {images} images")
