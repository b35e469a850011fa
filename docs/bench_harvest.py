"""Compares a forward pass of `transformers` with ours, in turns, on one machine and with the same random weights.

    pip install torch transformers==5.23.0 pillow
    cargo build --release
    python docs/bench_harvest.py --sae target/release/sae                    # a LLaVA of 160M parameters, f32
    python docs/bench_harvest.py --sae target/release/sae --dtype bf16

Every round runs each of them once: `transformers` with sdpa, `output_hidden_states` and `inference_mode`, ours through
`sae bench harvest --json` on the checkpoint that this script writes. `transformers` always computes all blocks, whichever
block is requested; ours stops at that block, so both depths are given. Medians of the rounds are printed. Do not compare
numbers of different runs: the speed of machines drifts.
"""

import argparse
import json
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForImageTextToText


def parse():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--sae", default="target/release/sae")
    p.add_argument("--dtype", choices=["f32", "bf16"], default="f32")
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--samples", type=int, default=4)
    p.add_argument("--text", type=int, default=128)
    p.add_argument("--json", action="store_true")
    return p.parse_args()


def checkpoint(folder):
    """The shape that `sae bench harvest` has of itself, saved as a checkpoint with weights from a fresh model."""
    config = AutoConfig.for_model(
        "llava",
        image_token_index=49151,
        vision_config={
            "model_type": "clip_vision_model", "hidden_size": 384, "intermediate_size": 1536, "num_hidden_layers": 12,
            "num_attention_heads": 6, "image_size": 336, "patch_size": 14,
        },
        text_config={
            "model_type": "llama", "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30,
            "num_attention_heads": 9, "num_key_value_heads": 3, "vocab_size": 49152, "max_position_embeddings": 8192,
        },
    )
    torch.manual_seed(0)
    model = AutoModelForImageTextToText.from_config(config)
    model.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps({"size": {"shortest_edge": 336}, "crop_size": 336}))
    tokenizer = {"version": "1.0", "added_tokens": [{"id": 49151, "content": "<image>", "single_word": False, "lstrip": False,
                 "rstrip": False, "normalized": False, "special": True}], "model": {"type": "WordLevel",
                 "vocab": {"<unk>": 0, "<image>": 49151}, "unk_token": "<unk>"}}
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    return config


def main():
    a = parse()
    torch.set_num_threads(a.threads)
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        config = checkpoint(folder)
        dtype = torch.float32 if a.dtype == "f32" else torch.bfloat16
        model = AutoModelForImageTextToText.from_pretrained(folder, dtype=dtype, attn_implementation="sdpa").eval()
        words = torch.randint(1, 49151, (a.samples, a.text))
        ids = torch.cat([torch.full((a.samples, 576), config.image_token_index), words], 1)
        pixels = torch.zeros(a.samples, 3, 336, 336, dtype=dtype)
        command = [a.sae, "bench", "harvest", "--model", str(folder), "--samples", str(a.samples), "--text", str(a.text),
                   "--dtype", a.dtype, "--rounds", "1", "--json"]
        theirs, whole, half, product = [], [], [], []
        for n in range(a.rounds + 1):
            with torch.inference_mode():
                start = time.perf_counter()
                model.model(input_ids=ids, pixel_values=pixels, output_hidden_states=True, use_cache=False)
                seconds = time.perf_counter() - start
            ours = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            if n:  # the first round warms up
                theirs.append(ids.numel() / seconds)
                whole.append(ours["whole"]["tokens_per_s"])
                half.append(ours["half"]["tokens_per_s"])
                product.append(ours["whole"]["of_product"])
    theirs, whole, half, product = map(statistics.median, (theirs, whole, half, product))
    found = {
        "dtype": a.dtype, "threads": a.threads, "samples": a.samples, "positions": ids.numel(),
        "parameters": sum(p.numel() for p in model.parameters()), "transformers_tokens_per_s": theirs,
        "sae_tokens_per_s": whole, "sae_half_depth_tokens_per_s": half, "of_product": product,
        "ratio": whole / theirs, "ratio_half_depth": half / theirs,
    }
    if a.json:
        print(json.dumps(found))
        return
    print(f"{a.dtype}, {found['parameters'] / 1e6:.0f}M parameters, {ids.numel()} positions, {a.threads} threads, "
          f"medians of {a.rounds} rounds")
    print(f"transformers, all blocks   {theirs:8.0f} tokens/s")
    print(f"sae, all blocks            {whole:8.0f} tokens/s  {whole / theirs:.2f} x, {100 * product:.0f} % of a product's rate")
    print(f"sae, half of them          {half:8.0f} tokens/s  {half / theirs:.2f} x")


if __name__ == "__main__":
    main()
