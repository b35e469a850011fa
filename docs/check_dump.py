"""Checks docs/dump_activations.py against `sae harvest` on the tiny checkpoints of tests/golden: the same token ids, modalities
and activations, with images where the model reads them. It needs what that script needs. torchvision must not be installed
(the expected values are those of Pillow).

    cargo build --release && python docs/check_dump.py --sae target/release/sae
"""

import argparse
import json
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
from safetensors.numpy import load_file
from transformers import AutoProcessor, AutoTokenizer, Qwen2_5_VLProcessor, Qwen3VLProcessor
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

import dump_activations

GOLDEN = Path(__file__).resolve().parent.parent / "tests" / "golden"
LAYER = 1
TEXTS = ["The quick brown fox.", "A caf\u00e9, \u201cquoted\u201d.", "One two three four five six seven."]


def qwen(folder, kind):
    """A processor of images and texts alone: the one for videos exists with torchvision only."""
    attributes = classmethod(lambda _: ["image_processor", "tokenizer"])
    without_videos = type(kind.__name__, (kind,), {"get_attributes": attributes})
    images = Qwen2VLImageProcessorPil.from_pretrained(folder)
    template = json.loads((folder / "chat_template.json").read_text())["chat_template"]
    return without_videos(image_processor=images, tokenizer=AutoTokenizer.from_pretrained(folder), chat_template=template)


def processor(folder):
    if folder.name.startswith("qwen2_5_vl"):
        return qwen(folder, Qwen2_5_VLProcessor)
    return qwen(folder, Qwen3VLProcessor) if folder.name.startswith("qwen3_vl") else AutoProcessor.from_pretrained(folder)


def conversations(folder, out):
    """The golden samples as rows; those that end with the beginning of an answer are left out."""
    lines = []
    for sample in json.loads((folder / "samples.json").read_text()):
        if sample.get("add_generation_prompt"):
            continue
        parts = [part for message in sample["messages"] for part in message["content"] if isinstance(part, dict)]
        images = [str(folder / part.pop("path")) for part in parts if part["type"] == "image"]
        lines.append(json.dumps({"messages": sample["messages"], "images": images}))
    out.write_text("\n".join(lines))
    return out


def check(sae, name, out):
    folder = GOLDEN / name
    model = dump_activations.load(folder).eval()
    if name.startswith("text-"):
        script = out / "texts.txt"
        script.write_text("\n".join(TEXTS), encoding="utf-8")
        data, read = out / "texts.jsonl", AutoTokenizer.from_pretrained(folder)
        data.write_text("\n".join(json.dumps({"text": text}) for text in TEXTS))
        more = ["--template", "none"]
    else:
        script = data = conversations(folder, out / "data.jsonl")
        read, more = processor(folder), []
    found, table = dump_activations.dump(model, read, script, LAYER, 2048, torch.float32)

    run = out / "run"
    command = [sae, "harvest", "--model", folder, "--data", data, "--layers", str(LAYER), "--run", run, "--device", "cpu", *more]
    subprocess.run(list(map(str, command)), check=True, capture_output=True)
    tokens = pq.read_table(sorted((run / "tokens").glob("*.parquet"))).to_pydict()
    stored = [load_file(path) for path in sorted((run / "activations" / f"layers.{LAYER}").glob("*.safetensors"))]
    expected = np.concatenate([next(iter(shard.values())) for shard in stored])
    for column in ["sample", "position", "modality", "token_id"]:
        assert tokens[column] == table[column], f"{name}: {column} differs"
    found = found.numpy()
    difference = np.abs(found - expected).max() / np.abs(expected).max()
    images = sum(table["modality"])
    print(f"{name}: {len(found)} positions, {images} of images; largest difference {difference:.1e} of the largest value")
    assert found.shape == expected.shape and difference < 1e-4, name
    assert name.startswith("text-") or images > 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sae", default="target/release/sae")
    args = parser.parse_args()
    for name in ["text-llama", "llava-a", "gemma3-a", "qwen2_5_vl-a", "qwen3_vl-a"]:
        with tempfile.TemporaryDirectory() as out:
            check(Path(args.sae).resolve(), name, Path(out))


if __name__ == "__main__":
    main()
