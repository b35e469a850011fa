"""Dumps the residual stream of any model of `transformers` behind one decoder block, for `sae import`.

For models that `sae harvest` does not run. Needs torch, transformers, safetensors and pyarrow.

    python docs/dump_activations.py --model MODEL --data texts.txt --layer 16 --out dump
    sae import --from safetensors dump/activations.safetensors --tokens dump/tokens.parquet --run run
    sae train --run run --hook layers.16 --name base --preset sae-v

`texts.txt` holds a text a line. For images, let the model's processor make the inputs in `samples` below and mark the
positions of its image tokens as modality 1 (FORMATS.md, "Activations of other tools", has all columns of the table).
A dump is held in memory: for much data dump a part at a time and import each into a run of its own.
"""

import argparse
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, AutoTokenizer


def blocks(model):
    """The decoder blocks: the longest list of modules outside a vision tower."""
    lists = [m for name, m in model.named_modules() if isinstance(m, torch.nn.ModuleList) and "vision" not in name]
    return max(lists, key=len)


def samples(tokenizer, path, longest):
    """Inputs of the model, a sample at a time, without padding."""
    for text in Path(path).read_text().splitlines():
        if text.strip():
            yield tokenizer(text, return_tensors="pt", truncation=True, max_length=longest)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", required=True, help="a text file, a sample a line")
    parser.add_argument("--layer", type=int, required=True, help="decoder block, counted from 0")
    parser.add_argument("--longest", type=int, default=2048, help="tokens at which a sample is cut")
    parser.add_argument("--dtype", default="float32", help="in which activations are stored: float32, float16, bfloat16")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()

    device = "cuda" if torch.cuda.is_available() else "cpu"
    tokenizer = AutoTokenizer.from_pretrained(args.model)
    model = AutoModelForCausalLM.from_pretrained(args.model, dtype="auto").to(device).eval()
    kept = []

    def keep(_module, _inputs, output):
        hidden = output[0] if isinstance(output, tuple) else output
        kept.append(hidden.detach().reshape(-1, hidden.shape[-1]).to("cpu", getattr(torch, args.dtype)))

    # Behind the block and before the final norm: hidden_states[layer + 1] of transformers, but for the last block.
    handle = blocks(model)[args.layer].register_forward_hook(keep)
    table = {name: [] for name in ["sample", "position", "modality", "token_id", "piece", "special"]}
    for number, inputs in enumerate(samples(tokenizer, args.data, args.longest)):
        with torch.no_grad():
            model(**inputs.to(device))
        ids = inputs["input_ids"][0].tolist()
        table["sample"] += [number] * len(ids)
        table["position"] += range(len(ids))
        table["modality"] += [0] * len(ids)
        table["token_id"] += ids
        table["piece"] += [tokenizer.decode([token]) for token in ids]
        table["special"] += [token in tokenizer.all_special_ids for token in ids]
    handle.remove()

    args.out.mkdir(parents=True, exist_ok=True)
    name = Path(args.model).name
    header = {"hook": f"layers.{args.layer}", "model": name}
    save_file({"activations": torch.cat(kept)}, args.out / "activations.safetensors", header)
    pq.write_table(pa.table(table), args.out / "tokens.parquet")
    print(f"{len(table['sample'])} positions of {number + 1} samples in {args.out}")


if __name__ == "__main__":
    main()
