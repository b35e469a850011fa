"""Measures how far JPEGs are from Pillow's: pixels by chroma subsampling, and activations of the bundled model.

    cargo build --release --workspace --examples --bins
    python tests/golden/check_jpeg.py --program target/release

Needs Pillow 13, numpy and safetensors. Prints what FORMATS.md says, and fails where it is more than that.
"""

import argparse
import json
import subprocess
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image
from safetensors.numpy import load_file

ROOT = Path(__file__).resolve().parents[2]
SUBSAMPLING = {"4:4:4": 0, "4:2:2": 1, "4:2:0": 2}
# FORMATS.md: the largest difference of a level, and the largest mean of an image.
BOUNDS = {"4:4:4": (3, 0.06), "4:2:2": (5, 0.25), "4:2:0": (6, 0.45)}
LAYER = 4


def pictures():
    """Drawings, screens, a smooth gradient and noise."""
    y, x = np.mgrid[0:333, 0:500]
    waves = [128 + 100 * np.sin((x * (2 + c) + y * (5 - c)) / 40 + c) for c in range(3)]
    yield "waves", Image.fromarray(np.stack(waves, -1).round().astype(np.uint8))
    yield "noise", Image.fromarray(np.random.default_rng(0).integers(0, 256, (128, 161, 3), np.uint8))
    for path in sorted((ROOT / "docs").rglob("app*.png")):
        yield path.stem, Image.open(path).convert("RGB")
    for path in sorted((ROOT / "assets/demo-data/images").glob("*.png"))[:40]:
        drawing = Image.open(path).convert("RGBA")
        ground = Image.new("RGBA", drawing.size, "white")
        yield path.stem, Image.alpha_composite(ground, drawing).convert("RGB")


def pixels(program, folder):
    ok = True
    for name, subsampling in SUBSAMPLING.items():
        files = []
        for stem, picture in pictures():
            for quality in (75, 95):
                files.append(folder / f"{stem}-{quality}-{subsampling}.jpg")
                picture.save(files[-1], quality=quality, subsampling=subsampling)
        subprocess.run([program / "examples/pixels", *files], check=True)
        largest, means, changed = 0, [], []
        for file in files:
            expected = np.asarray(Image.open(file).convert("RGB"), np.int16)
            off = np.abs(np.asarray(Image.open(f"{file}.png"), np.int16) - expected)
            largest = max(largest, int(off.max()))
            means.append(off.mean())
            changed.append((off > 0).mean())
        print(f"{name}: {len(files)} images, levels differ by at most {largest}; of an image on average by at most"
              f" {max(means):.3f} (median {np.median(means):.3f}), at most {100 * max(changed):.0f} % of them at all")
        ok &= largest <= BOUNDS[name][0] and max(means) <= BOUNDS[name][1]
    return ok


def activations(program, folder):
    """The same pictures as JPEGs, and as PNGs of what Pillow reads from them."""
    for name, subsampling in SUBSAMPLING.items():
        hidden = []
        for kind in ["jpg", "png"]:
            data = folder / f"{kind}-{subsampling}"
            data.mkdir()
            rows = []
            for stem, picture in pictures():
                file = data / f"{stem}.jpg"
                picture.save(file, quality=90, subsampling=subsampling)
                if kind == "png":
                    Image.open(file).convert("RGB").save(data / f"{stem}.png")
                    file.unlink()
                rows.append({"id": stem, "image": f"{stem}.{kind}", "text": "a picture"})
            (data / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
            run = folder / f"run-{kind}-{subsampling}"
            command = ["harvest", "--model", ROOT / "assets/demo-mllm", "--data", data / "rows.jsonl", "--run", run]
            subprocess.run([program / "sae", *command, "--layers", str(LAYER)], check=True, capture_output=True)
            shards = sorted((run / f"activations/layers.{LAYER}").glob("*.safetensors"))
            hidden.append(np.concatenate([load_file(shard)["activations"] for shard in shards]))
        ours, pillow = hidden
        norm = np.linalg.norm(ours - pillow, axis=1) / np.linalg.norm(pillow, axis=1)
        print(f"{name}: activations of the bundled model behind block {LAYER} differ by at most {100 * norm.max():.2f} % of"
              f" their norm (mean {100 * norm.mean():.3f} %, {len(norm)} positions)")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", type=Path, required=True, help="the folder of the built programs")
    program = parser.parse_args().program.resolve()
    with tempfile.TemporaryDirectory() as folder:
        ok = pixels(program, Path(folder))
        activations(program, Path(folder))
    raise SystemExit(not ok)
