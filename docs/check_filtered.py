"""Reads filtered data sets with the packages that people use: datasets, pyarrow, Pillow, and Python's tarfile.

    python docs/check_filtered.py FOLDER...          # outputs of `sae filter`, each with its manifest.json
    python docs/check_filtered.py --golden           # the golden files of tests/cli/filtered.rs

Every row is loaded; counts are compared with the manifest, columns with FORMATS.md, and every image with the file of the
data set it came from, byte for byte. Needs `pip install datasets==3.6.0 pyarrow pillow` and no network. Golden files are
made by `SAE_UPDATE_GOLDEN=1 cargo test --release --workspace every_format` and compared by the same test without it.
"""

import csv
import io
import json
import os
import sys
import tarfile
import tempfile
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_DATASETS_OFFLINE"] = "1"
os.environ["HF_HOME"] = tempfile.mkdtemp()

import datasets
import pyarrow.parquet
from PIL import Image

datasets.disable_progress_bars()
REPOSITORY = Path(__file__).parent.parent


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
    assert {"id", "images", "messages"} <= set(data.column_names), data.column_names
    for row in data:
        parts = [part["type"] for turn in row["messages"] for part in turn["content"]]
        assert parts.count("image") == len(row["images"])
    return [in_files(folder, row["images"]) for row in data]


def check_llava(folder):
    rows = json.loads((folder / "llava.json").read_text())
    assert len(load("json", [folder / "llava.json"])) == len(rows)
    images = []
    for row in rows:
        named = [row["image"]] if isinstance(row["image"], str) else row["image"]
        assert sum(turn["value"].count("<image>") for turn in row["conversations"]) == len(named)
        assert {turn["from"] for turn in row["conversations"]} <= {"human", "gpt", "system"}
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
    data = load("parquet", files)
    assert data.features["images"] == datasets.Sequence(datasets.Image()), data.features
    assert {"id", "images", *columns} <= set(data.column_names), data.column_names
    for row in data:
        assert all(image.size[0] > 0 for image in row["images"]), "images decode by themselves"
        for column in columns:
            assert {turn["role"] for turn in row[column]} <= {"system", "user", "assistant"}
    rows = [row for file in files for row in pyarrow.parquet.read_table(file).to_pylist()]
    assert len(rows) == len(data)
    return [[decoded(image["bytes"]) for image in row["images"]] for row in rows]


def check_trl(folder):
    return check_parquet(folder, ("prompt", "chosen", "rejected"))


def check_webdataset(folder):
    images = []
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
            assert "id" in fields and ("messages" in fields or "chosen" in fields)
            images.append([decoded(row[name]) for name in sorted(row)])
    same = len({tuple(len(row) for row in images)}) == 1 and len({len(row) for row in images}) == 1
    if same:  # `datasets` asks that all rows have the same kinds of files
        data = load("webdataset", files)
        assert len(data) == len(images)
        assert isinstance(next(value for key, value in data[0].items() if key in {"png", "jpg"}), Image.Image)
    return images


def check_same(folder):
    images = []
    for file in sorted(folder.glob("*.jsonl")):
        for row in load("json", [file]):
            images.append(in_files(folder, [row["image"]]))
    return images


def check_output(folder):
    manifest = json.loads((folder / "manifest.json").read_text())
    images = globals()["check_" + manifest["format"]](folder)
    assert len(images) == manifest["kept"]["rows"], (len(images), manifest["kept"])
    with open(folder / "decisions.csv", newline="") as file:
        decisions = list(csv.DictReader(file))
    stays = [row["stays"] == "true" for row in decisions]
    assert (stays.count(True), stays.count(False)) == (manifest["kept"]["rows"], manifest["dropped"])
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
            (folder / "images").symlink_to(images)
            found = globals()["check_" + source.name.removesuffix("-pairs")](folder)
        assert len(found) == (2 if source.name.endswith("pairs") or source.name == "trl" else 5), source.name
        assert all(image in known for row in found for image in row)
        print(f"{source.name}: {len(found)} rows, {sum(map(len, found))} images")


if __name__ == "__main__":
    if sys.argv[1:] == ["--golden"]:
        check_golden()
    for folder in sys.argv[1:] if sys.argv[1:] != ["--golden"] else []:
        kind, rows, images = check_output(Path(folder))
        print(f"{folder}: {kind}, {rows} rows, {images} images")
