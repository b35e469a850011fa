"""Scaled rotary positions: what transformers computes with the checkpoints of the other golden folders once their
config.json asks for YaRN, dynamic NTK, LongRoPE, linear or Llama 3.1's scaling, in the older and the newer layout.

Needs what make_models.py needs, and the folders that it made.

    python make_rope.py --out tests/golden/rope

cases.json             a list: `name`; `checkpoint`, a golden folder; `set`, what is changed in its config.json, by JSON
                       pointer (null takes a field away).
expected.safetensors   `name.N.blocks_out` [tokens, d], what leaves the last block, sample N alone in a model that has seen
                       no other; `name.N.tokens` [tokens] i64, the samples of text-only checkpoints. (The others have theirs.)
"""

import argparse
import json
import shutil
import tempfile
from pathlib import Path

import torch
from common import versions, write_json
from make_models import Recorder, prepare, without_videos
from safetensors.numpy import save_file
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText, AutoProcessor, Qwen2_5_VLProcessor, Qwen3VLProcessor

HERE = Path(__file__).parent
SAMPLES = 3  # of multimodal checkpoints, the first ones
LENGTHS = [10, 24, 25, 70]  # below, at, one above and far above the contexts of the text-only cases


def yarn(**more):
    return {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 24, **more}


def cases():
    """(name, checkpoint, what is set in its config.json)"""
    factors = dict(short_factor=[1.0, 1.1, 1.2, 1.5, 1.8, 2.0, 2.5, 3.0], long_factor=[1.0, 1.5, 2.0, 4.0, 6.0, 9.0, 12.0, 16.0])
    half = {name: values[::2] for name, values in factors.items()}
    new = lambda kind, **more: {"/rope_theta": None, "/rope_scaling": None,
                                "/rope_parameters": {"rope_type": kind, "rope_theta": 100.0, **more}}
    text = lambda fields: {f"/text_config{path}": value for path, value in fields.items()}
    return [
        ("qwen2-yarn", "text-qwen2", {"/rope_theta": 100.0, "/max_position_embeddings": 96, "/rope_scaling": yarn()}),
        ("qwen2-yarn-mscale", "text-qwen2", {"/rope_theta": 1000.0, "/max_position_embeddings": 24, "/rope_scaling": {
            "rope_type": "yarn", "factor": 8.0, "mscale": 0.7, "mscale_all_dim": 1.3, "finetuned": True}}),
        ("qwen3-yarn", "text-qwen3", new("yarn", factor=4.0, original_max_position_embeddings=24)),
        ("qwen3-yarn-attention", "text-qwen3", {"/rope_scaling": yarn(attention_factor=0.8, beta_fast=2, beta_slow=0.25)}),
        ("llama-yarn-untruncated", "text-llama", {"/rope_scaling": yarn(truncate=False, beta_fast=3.0, beta_slow=0.5)}),
        # The number beside the parameters counts.
        ("llama-yarn-outer", "text-llama", {"/rope_scaling": yarn(), "/original_max_position_embeddings": 48}),
        ("llama-dynamic", "text-llama", {"/max_position_embeddings": 24, "/rope_scaling": {"type": "dynamic", "factor": 4.0}}),
        ("qwen2-dynamic", "text-qwen2", {"/max_position_embeddings": 24} | new("dynamic", factor=2.0)),
        ("llama-longrope", "text-llama", {
            "/max_position_embeddings": 96, "/original_max_position_embeddings": 24,
            "/rope_scaling": {"type": "longrope", **factors}}),
        ("qwen2-longrope", "text-qwen2", new("longrope", factor=3.0, attention_factor=1.4,
                                             original_max_position_embeddings=24, **half)),
        ("mistral-linear", "text-mistral", new("linear", factor=2.5)),
        ("mistral-both", "text-mistral", {"/rope_scaling": {}, "/rope_parameters": {"rope_type": "linear", "factor": 3.0}}),
        ("llama3-outer", "text-llama", {"/original_max_position_embeddings": 16}),
        ("gemma3-yarn", "text-gemma3", {"/rope_scaling": yarn(rope_type="yarn")}),
        # Under its older name the type is not read here.
        ("gemma3-type", "text-gemma3", {"/rope_scaling": yarn()}),
        ("gemma3-layers", "text-gemma3", {"/rope_theta": None, "/rope_scaling": None, "/rope_local_base_freq": None,
            "/max_position_embeddings": 24, "/rope_parameters": {
                "full_attention": {"rope_type": "dynamic", "factor": 4.0, "rope_theta": 100.0},
                "sliding_attention": {"rope_type": "yarn", "factor": 2.0, "original_max_position_embeddings": 12}}}),
        # Beside the two sets, where it never stands, transformers looks for `truncate`.
        ("gemma3-truncate", "text-gemma3", {"/rope_theta": None, "/rope_scaling": None, "/rope_local_base_freq": None,
            "/rope_parameters": {"sliding_attention": {"rope_type": "default", "rope_theta": 1000.0}, "full_attention": {
                "rope_type": "yarn", "factor": 4.0, "rope_theta": 100.0, "original_max_position_embeddings": 24,
                "truncate": False, "beta_fast": 3.0, "beta_slow": 0.5}}}),
        ("qwen2_5_vl-yarn", "qwen2_5_vl-a", {"/rope_scaling": yarn(mrope_section=[2, 3, 3])}),
        ("qwen2_5_vl-dynamic", "qwen2_5_vl-b", {"/text_config/max_position_embeddings": 30, "/text_config/rope_parameters": {
            "rope_type": "dynamic", "factor": 4.0, "rope_theta": 100.0, "mrope_section": [1, 2, 1]}}),
        ("qwen3_vl-yarn", "qwen3_vl-a", {"/text_config/rope_scaling": yarn(mrope_section=[4, 2, 2])}),
        ("llava-dynamic", "llava-a", text({"/max_position_embeddings": 40, "/rope_scaling": {"type": "dynamic", "factor": 2.0}})),
        ("gemma3-image-yarn", "gemma3-a", text({"/rope_scaling": yarn(rope_type="yarn")})),
    ]


def changed(config, pointers):
    for pointer, value in pointers.items():
        *path, last = pointer.split("/")[1:]
        place = config
        for name in path:
            place = place[name]
        place.pop(last, None)
        if value is not None:
            place[last] = value
    return config


def samples(folder, vocabulary):
    """What the model is given, sample by sample."""
    if not (folder / "images").exists():
        generator = torch.Generator().manual_seed(0)
        return [{"input_ids": torch.randint(8, vocabulary, (1, length), generator=generator)} for length in LENGTHS]
    kind = {"qwen2_5_vl": Qwen2_5_VLProcessor, "qwen3_vl": Qwen3VLProcessor}.get(folder.name.split("-")[0])
    reader = (without_videos(kind) if kind else AutoProcessor).from_pretrained(folder)
    listed = json.loads((folder / "samples.json").read_text())
    return [prepare(folder, reader, s["messages"], s["add_generation_prompt"])[2] for s in listed[:SAMPLES]]


@torch.no_grad()
def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--out", type=Path, default=HERE / "rope")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(2)
    tensors, listed = {}, []
    for name, checkpoint, pointers in cases():
        with tempfile.TemporaryDirectory() as root:
            folder = Path(root) / checkpoint
            shutil.copytree(HERE / checkpoint, folder)
            config = changed(json.loads((folder / "config.json").read_text()), pointers)
            write_json(folder / "config.json", config)
            multimodal = (folder / "images").exists()
            auto = AutoModelForImageTextToText if multimodal else AutoModelForCausalLM
            vocabulary = config.get("vocab_size") or config["text_config"]["vocab_size"]
            for n, inputs in enumerate(samples(folder, vocabulary)):
                # A model of its own: dynamic frequencies remember the longest sample.
                model = auto.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
                decoder = model.model.language_model if hasattr(model.model, "language_model") else model.model
                recorder = Recorder(decoder)
                model(**inputs)
                tensors[f"{name}.{n}.blocks_out"] = recorder.tensors()["blocks_out"].contiguous().clone().numpy()
                if not multimodal:
                    tensors[f"{name}.{n}.tokens"] = inputs["input_ids"][0].numpy()
        listed.append({"name": name, "checkpoint": checkpoint, "set": pointers})
    save_file(tensors, args.out / "expected.safetensors")
    (args.out / "cases.json").write_text("[\n" + ",\n".join(" " + json.dumps(case) for case in listed) + "\n]\n")
    write_json(args.out / "golden.json", {"versions": versions(), "attention": "eager, f32"}, indent=1)


if __name__ == "__main__":
    main()
