"""Golden data sets: small folders and files that other tools write, with what those tools read of them.

Needs Python 3.11 with datasets 5.2, pyarrow 26, webdataset 1.0, pandas and Pillow; no network.

    python make_data.py --out tests/golden/data

Every folder below is one data set; `expected.json` has for each of them the rows in order: `text`, the SHA-256 of the
`images`, and `meta`, the other columns as JSON. The images come from `datasets` (`load_dataset`, `load_from_disk`) or the
`webdataset` library, the values from pyarrow. In JSON, dates and times are ISO 8601, decimals text, and floats have as few
digits as NumPy prints of their own type; what JSON cannot hold (bytes, NaN) is null.

codecs/     the same table in every codec that pyarrow writes.
types/      one table whose columns have every type that Arrow writers use, and tables with text and images in odd types.
saved/      `Dataset.save_to_disk`: images, large lists, dictionaries, in two files. saved-dict/: a `DatasetDict`.
hub/        a repository as `push_to_hub` and its predecessors lay it out, with dataset_infos.json.
imagefolder-*/   `metadata.csv`, `.jsonl` and `.parquet` of Hugging Face's imagefolder.
jsonl/      arrays in files that are named as lines.
webdataset/ archives of webdataset's TarWriter: several images, JSON, classes, packed, and PAX names.
"""

import argparse
import datetime as dt
import decimal
import hashlib
import io
import json
import math
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import webdataset as wds
from datasets import Dataset, DatasetDict, Features, Image, LargeList, List, Value, load_dataset, load_from_disk
from PIL import Image as Picture


def png(n):
    out = io.BytesIO()
    Picture.new("RGB", (8, 6), (40 * n % 256, 255 - 30 * n, 90)).save(out, "PNG")
    return out.getvalue()


def sha(data):
    return hashlib.sha256(data).hexdigest()


def moment(value):
    """As chrono prints it: the fraction in groups of three digits, UTC as Z."""
    text = value.isoformat(timespec="microseconds")
    head, tail = text[:19], text[19:]
    fraction, zone = tail[1:7], tail[7:]
    while fraction.endswith("000"):
        fraction = fraction[:-3]
    zone = "Z" if zone == "+00:00" else zone
    return head + ("." + fraction if fraction else "") + zone


def plain(value, kind):
    """A value of an Arrow type as JSON."""
    if value is None:
        return None
    if pa.types.is_dictionary(kind):
        return plain(value, kind.value_type)
    if pa.types.is_floating(kind):
        number = {16: np.float16, 32: np.float32, 64: np.float64}[kind.bit_width](value)
        return float(str(number)) if math.isfinite(number) else None
    if isinstance(value, bytes):
        try:
            text = value.decode()
        except UnicodeDecodeError:
            return None
        return text if all(c.isprintable() or c.isspace() for c in text) else None
    if isinstance(value, dt.datetime):
        return moment(value)
    if isinstance(value, (dt.date, dt.time)):
        return value.isoformat()
    if isinstance(value, dt.timedelta):
        return f"PT{int(value.total_seconds())}S"
    if isinstance(value, decimal.Decimal):
        return str(value)
    if pa.types.is_map(kind):
        return {str(key): plain(item, kind.item_type) for key, item in value}
    if pa.types.is_struct(kind):
        return {field.name: plain(value[field.name], field.type) for field in kind}
    if isinstance(value, list):
        return [plain(item, kind.value_type) for item in value]
    return value


def rows_of(table, images=(), text="text"):
    """Rows of an Arrow table without the columns of images and text."""
    rows = []
    for n in range(table.num_rows):
        meta = {}
        for field in table.schema:
            if field.name not in (*images, text):
                meta[field.name] = plain(table[field.name][n].as_py(), field.type)
        said = table[text][n].as_py()
        rows.append({"text": said.decode() if isinstance(said, bytes) else said, "meta": meta})
    return rows


def codecs(out):
    table = pa.table({"image": [f"{n}.png" for n in range(2)], "text": ["one", "two"], "score": [0.5, None]})
    for n in range(2):
        (out / f"{n}.png").write_bytes(png(n))
    expected = [{**row, "images": [sha(png(n))]} for n, row in enumerate(rows_of(table, ["image"]))]
    for codec in ["none", "snappy", "gzip", "brotli", "lz4", "zstd"]:
        pq.write_table(table, out / f"{codec}.parquet", compression=codec)
        assert pq.read_table(out / f"{codec}.parquet").equals(table)
    return {f"{codec}.parquet": expected for codec in ["none", "snappy", "gzip", "brotli", "lz4", "zstd"]}


def types(out):
    utc = dt.datetime(2024, 1, 31, 12, 0, 0, 250000, tzinfo=dt.timezone.utc)
    naive = utc.replace(tzinfo=None)
    columns = {
        "text": pa.array([b"one", b"two"], pa.binary()),
        "i8": pa.array([-1, None], pa.int8()),
        "u64": pa.array([2**64 - 1, 0], pa.uint64()),
        "f16": pa.array([np.float16(0.1), np.float16(65504)], pa.float16()),
        "f32": pa.array([0.1, math.nan], pa.float32()),
        "f64": pa.array([0.1, -math.inf], pa.float64()),
        "bool": [True, False],
        "day": pa.array([dt.date(1969, 12, 31), None], pa.date32()),
        "day64": pa.array([dt.date(2024, 2, 29)] * 2, pa.date32()),
        "time": pa.array([dt.time(1, 2, 3), dt.time(23, 59, 59)], pa.time64("us")),
        "naive_s": pa.array([naive.replace(microsecond=0)] * 2, pa.timestamp("s")),
        "naive_us": pa.array([naive] * 2, pa.timestamp("us")),
        "utc": pa.array([utc, None], pa.timestamp("us", "UTC")),
        "berlin": pa.array([utc] * 2, pa.timestamp("ms", "Europe/Berlin")),
        "summer": pa.array([utc.replace(month=7)] * 2, pa.timestamp("ms", "America/New_York")),
        "offset": pa.array([utc] * 2, pa.timestamp("ms", "+05:30")),
        "spent": pa.array([dt.timedelta(seconds=90), None], pa.duration("s")),
        "price": pa.array([decimal.Decimal("-123.45"), decimal.Decimal("0.10")], pa.decimal128(9, 2)),
        "wide": pa.array([decimal.Decimal("1" * 50)] * 2, pa.decimal256(60, 0)),
        "large_text": pa.array(["é", ""], pa.large_string()),
        "view": pa.array(["a text longer than twelve bytes", None], pa.string_view()),
        "kind": pa.array(["cat", None]).dictionary_encode(),
        "kind_bytes": pa.array([b"cat", b"dog"]).dictionary_encode(),
        "bbox": pa.array([[0, 0, 1, 1], [0, 0.5, 1, 1]], pa.list_(pa.float32(), 4)),
        "words": pa.array([["a", None], []], pa.large_list(pa.string())),
        "tags": pa.array([[("a", 1), ("b", None)], []], pa.map_(pa.string(), pa.int64())),
        "by_number": pa.array([[(7, "x")], None], pa.map_(pa.int32(), pa.string())),
        "hash": pa.array([b"abcd", b"efgh"], pa.binary(4)),
        "nested": [{"a": [{"b": 1}], "c": None}, {"a": [], "c": "x"}],
        "nothing": pa.nulls(2),
        "embedding": pa.array([b"\x00\x01\xff", None], pa.large_binary()),
    }
    table = pa.table(columns)
    pq.write_table(table, out / "all.parquet")
    read = pq.read_table(out / "all.parquet")
    expected = [{**row, "images": []} for row in rows_of(read)]
    result = {"all.parquet": expected}

    # An image in every binary type, with its text in another.
    captions = ["one", "two"]
    pictures = [png(0), png(1)]
    assert len(pictures[0]) == len(pictures[1])
    struct = lambda kind: pa.array([{"bytes": p, "path": None} for p in pictures],
                                   pa.struct([("bytes", kind), ("path", pa.string())]))
    images = {
        "binary": pa.array(pictures, pa.binary()),
        "large": pa.array(pictures, pa.large_binary()),
        "view": pa.array(pictures, pa.binary_view()),
        "fixed": pa.array(pictures, pa.binary(len(pictures[0]))),
        "dictionary": pa.array(pictures).dictionary_encode(),
        "struct": struct(pa.binary()),
        "struct-large": struct(pa.large_binary()),
        "struct-list": pa.array([{"bytes": list(p), "path": None} for p in pictures],
                                pa.struct([("bytes", pa.list_(pa.uint8())), ("path", pa.string())])),
        "list": pa.array([list(p) for p in pictures], pa.list_(pa.uint8())),
    }
    shown = [{"text": text, "images": [sha(p)], "meta": {}} for text, p in zip(captions, pictures)]
    for name, column in images.items():
        pq.write_table(pa.table({"image": column, "text": captions}), out / f"image-{name}.parquet")
        result[f"image-{name}.parquet"] = shown
    several = {
        "large": pa.array([pictures] * 2, pa.large_list(pa.binary())),
        "fixed": pa.array([pictures] * 2, pa.list_(pa.binary(), 2)),
        "struct": pa.array([[{"bytes": p, "path": "p.png"} for p in pictures]] * 2),
    }
    for name, column in several.items():
        pq.write_table(pa.table({"images": column, "text": captions}), out / f"images-{name}.parquet")
        result[f"images-{name}.parquet"] = [{"text": text, "images": [sha(p) for p in pictures], "meta": {}} for text in captions]
    turns = [[{"from": "human", "value": "<image>"}, {"from": "gpt", "value": text}] for text in captions]
    turn = pa.struct([("from", pa.string()), ("value", pa.binary())])
    conversations = {
        "fixed": pa.array(turns, pa.list_(turn, 2)),
        "large": pa.array(turns, pa.large_list(turn)),
        "json": pa.array([json.dumps(t).encode() for t in turns], pa.large_binary()),
    }
    for name, column in conversations.items():
        pq.write_table(pa.table({"image": images["struct"], "conversations": column}), out / f"turns-{name}.parquet")
        result[f"turns-{name}.parquet"] = shown
    return result


def saved(out):
    features = Features({"image": Image(), "text": Value("large_string"), "tags": LargeList(Value("string")),
                         "label": Value("int8"), "when": Value("timestamp[us, tz=UTC]")})
    when = dt.datetime(2024, 1, 1, tzinfo=dt.timezone.utc)
    rows = [{"image": {"bytes": png(n), "path": f"{n}.png"}, "text": f"text {n}", "tags": ["a"] * n, "label": n, "when": when}
            for n in range(5)]
    make = lambda part: Dataset.from_list(part, features=features)
    make(rows).save_to_disk(out / "split", num_shards=2)
    DatasetDict({"train": make(rows[:3]), "test": make(rows[3:])}).save_to_disk(out / "splits")

    def read(part):
        part = part.cast_column("image", Image(decode=False))
        table = part.with_format("arrow")[:]
        return [{**row, "images": [sha(image["bytes"])]}
                for row, image in zip(rows_of(table, ["image"]), table["image"].to_pylist())]

    splits = load_from_disk(out / "splits")
    # A dictionary of strings and a view, which `datasets` reads from Arrow files of others.
    table = pa.table({"text": pa.array(["a", "b", "a"]).dictionary_encode(), "kind": pa.array(["x", None, "y"], pa.string_view())})
    for name, new in [("stream.arrow", pa.ipc.new_stream), ("file.arrow", pa.ipc.new_file)]:
        with new(str(out / name), table.schema) as writer:
            writer.write_table(table, max_chunksize=2)
    others = [{**row, "images": []} for row in rows_of(table)]
    return {"split": read(load_from_disk(out / "split")), "splits": read(splits["test"]) + read(splits["train"]),
            "stream.arrow": others, "file.arrow": others}


def hub(out):
    rows = lambda numbers: {"image": [{"bytes": png(n), "path": None} for n in numbers], "text": [f"text {n}" for n in numbers]}
    (out / "data").mkdir()
    features = Features({"image": Image(), "text": Value("string")})
    for split, numbers in [("train", [0, 1]), ("test", [2])]:
        Dataset.from_dict(rows(numbers), features=features).to_parquet(out / "data" / f"{split}-00000-of-00001.parquet")
    infos = {"default": {"description": "",
                         "features": {"image": {"_type": "Image"}, "text": {"dtype": "string", "_type": "Value"}}}}
    (out / "dataset_infos.json").write_text(json.dumps(infos))
    (out / "README.md").write_text("---\nlicense: mit\n---\nText.\n")
    read = load_dataset(str(out), cache_dir=str(out.parent / "cache"))
    expected = []
    for split in ["test", "train"]:
        for row in read[split].cast_column("image", Image(decode=False)):
            expected.append({"text": row["text"], "images": [sha(row["image"]["bytes"])], "meta": {}})
    return {"": expected}


def imagefolder(out):
    """Expectations by `load_dataset("imagefolder")`; columns of several images are read in the order of the columns."""
    def folder(name, numbers):
        path = out / name
        path.mkdir(parents=True)
        for n in numbers:
            (path / f"{n}.png").write_bytes(png(n))
        return path

    csv = folder("csv", [0, 1])
    pd.DataFrame({"file_name": ["1.png", "0.png"], "text": ['with, a "comma"', "two\nlines"], "n": [1, 2]}).to_csv(
        csv / "metadata.csv", index=False)
    jsonl = folder("jsonl/train", [0, 1, 2])
    lines = [{"file_names": ["0.png", "1.png"], "text": "both"}, {"file_names": ["2.png"], "text": "one"}]
    (jsonl / "metadata.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    for split, numbers in [("test", [3]), ("train", [4, 5])]:
        path = folder(f"parquet/{split}", numbers)
        table = pa.table({"before_file_name": [f"{n}.png" for n in numbers], "after_file_name": [f"{n}.png" for n in numbers],
                          "text": [f"text {n}" for n in numbers]})
        pq.write_table(table, path / "metadata.parquet")
    result = {}
    for name, splits in [("csv", ["train"]), ("jsonl", ["train"]), ("parquet", ["test", "train"])]:
        data = load_dataset("imagefolder", data_dir=str(out / name), cache_dir=str(out.parent / "cache"))
        expected = []
        for split in splits:
            table = data[split].with_format("arrow")[:]
            for row in table.to_pylist():
                paths = []
                for column, value in row.items():
                    for image in value if isinstance(value, list) else [value]:
                        if isinstance(image, dict):
                            paths.append(image["path"])
                meta = {k: str(v) if name == "csv" else v for k, v in row.items() if k == "n"}
                expected.append({"text": row["text"], "images": [sha(Path(path).read_bytes()) for path in paths], "meta": meta})
        result[name] = expected
    return result


def jsonl(out):
    """Expectations by `load_dataset("json")`."""
    rows = [{"text": "one, [two]", "n": 1}, {"text": "say \"}, {\"", "n": 2}]
    one, two = (json.dumps(row) for row in rows)
    texts = {
        "one-line": f"[{one}, {two}]",
        "byte-order-mark": f"\ufeff[{one},{two}]\r\n",
        "white-space": f"\n  [{one},{two}]",
        "two-lines": f"[{one},\n{two}]\n",
        "indented": json.dumps(rows, indent=2),
    }
    result = {}
    for name, text in texts.items():
        (out / f"{name}.jsonl").write_bytes(text.encode())
        read = load_dataset("json", data_files=str(out / f"{name}.jsonl"), cache_dir=str(out.parent / "cache"))
        result[f"{name}.jsonl"] = [{"text": row["text"], "images": [], "meta": {"n": row["n"]}} for row in read["train"]]
        assert len(result[f"{name}.jsonl"]) == 2
    lists = out.parent / "cache" / "lists.jsonl"
    lists.write_text(f"[{one}]\n[{two}]\n")
    try:
        load_dataset("json", data_files=str(lists), cache_dir=str(out.parent / "cache"))
    except Exception as refused:
        print(f"lines that are lists: {refused} ({refused.__cause__})")
    else:
        raise AssertionError("datasets reads lines that are lists")
    return result


def webdataset(out):
    def write(name, samples, **options):
        with wds.TarWriter(str(out / name), **options) as writer:
            for sample in samples:
                writer.write(sample)

    samples = [
        {"__key__": "a/0001", "jpg": png(0), "txt": "one", "cls": 3},
        {"__key__": "a/0002", "jpg": png(1), "json": {"text": "two", "n": 2}},
        {"__key__": "a/0003", "0.png": png(2), "1.png": png(3), "txt": "three"},
        {"__key__": "b/" + "long" * 40, "png": png(4), "txt": "four"},
    ]
    write("plain.tar", samples)
    write("packed.tar.gz", samples, compress=True)
    with tarfile.open(out / "pax.tar", "w", format=tarfile.PAX_FORMAT) as pax, tarfile.open(out / "plain.tar") as plain_tar:
        for member in plain_tar:
            pax.addfile(member, plain_tar.extractfile(member))
    expected = []
    for sample in wds.WebDataset(str(out / "plain.tar"), shardshuffle=False):
        pictures = [sha(sample[k]) for k in sorted(sample) if k.rsplit(".", 1)[-1] in ("jpg", "png")]
        fields = json.loads(sample["json"]) if "json" in sample else {}
        text = sample["txt"].decode() if "txt" in sample else fields.pop("text")
        if "cls" in sample:
            fields["cls"] = sample["cls"].decode()
        expected.append({"text": text, "images": pictures, "meta": {**fields, "__key__": sample["__key__"]}})
    return {name: expected for name in ["plain.tar", "packed.tar.gz", "pax.tar"]}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, required=True)
    out = parser.parse_args().out
    shutil.rmtree(out, ignore_errors=True)
    expected = {}
    for make in [codecs, types, saved, hub, imagefolder, jsonl, webdataset]:
        folder = out / make.__name__
        folder.mkdir(parents=True)
        for name, rows in make(folder).items():
            expected[f"{make.__name__}/{name}".rstrip("/")] = rows
        shutil.rmtree(out / "cache", ignore_errors=True)
    (out / "expected.json").write_text(json.dumps(expected, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
