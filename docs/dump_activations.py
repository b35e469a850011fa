"""Dumps the residual stream of any `transformers` model after one decoder block, for `sae import`.

For models that `sae harvest` does not run. Needs torch, transformers, safetensors, pyarrow and Pillow.

    python docs/dump_activations.py --model MODEL --data texts.txt --layer 16 --out dump
    sae import --from safetensors dump/activations.safetensors --tokens dump/tokens.parquet --run run
    sae train --run run --hook layers.16 --name base --preset sae-v

A `.txt` file has one text per line. A `.jsonl` file has one conversation per line, with its images, for models with a chat
template. Paths are relative to the file:

    {"messages": [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What is this?"}]},
                  {"role": "assistant", "content": [{"type": "text", "text": "A ring."}]}], "images": ["images/ring.png"]}

Text tokens have modality 0 in the token table, positions of images modality 1 (FORMATS.md, "Activations from other tools",
has all columns of the table). Processors that read videos, such as Qwen's, need torchvision even for images.
A dump is held in memory. For a large data set, dump one part at a time and import each part into its own run.
"""

import argparse
import json
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image, ImageOps
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText, AutoProcessor, AutoTokenizer


def load(name):
    """The model, whichever class knows it: vision-language models are no causal language models to `transformers`."""
    try:
        return AutoModelForCausalLM.from_pretrained(name, dtype="auto")
    except ValueError:
        return AutoModelForImageTextToText.from_pretrained(name, dtype="auto")


def blocks(model):
    """The decoder blocks: the longest list of modules, under `language_model` where there is one, outside vision towers."""
    lists = {name: module for name, module in model.named_modules() if isinstance(module, torch.nn.ModuleList)}
    language = {name: module for name, module in lists.items() if "language_model" in name.split(".")}
    outside = {name: module for name, module in lists.items() if "vision" not in name and "visual" not in name}
    return max((language or outside).values(), key=len)


def image_token(model, tokenizer):
    """The id of the token that image positions have, or None."""
    for name in ["image_token_id", "image_token_index"]:
        if getattr(model.config, name, None) is not None:
            return getattr(model.config, name)
    return getattr(tokenizer, "image_token_id", None)


def conversation(processor, row, folder):
    """The inputs of a row. (`apply_chat_template` would load images itself, and drop what is transparent in them.)"""
    images = [ImageOps.exif_transpose(Image.open(folder / path)) for path in row.get("images") or []]
    text = processor.apply_chat_template(row["messages"], tokenize=False)
    begun = text.startswith(getattr(processor, "tokenizer", processor).bos_token or "\0")
    more = {"images": images} if images else {}
    return processor(text=text, return_tensors="pt", add_special_tokens=not begun, **more)


def samples(processor, path, longest):
    """Inputs of the model, a sample at a time, without padding. Texts are cut at `longest` tokens, conversations left out."""
    for number, line in enumerate(path.read_text(encoding="utf-8").split("\n")):
        if not line.strip():
            continue
        if path.suffix != ".jsonl":
            yield processor(line, return_tensors="pt", truncation=True, max_length=longest)
            continue
        inputs = conversation(processor, json.loads(line), path.parent)
        if inputs["input_ids"].shape[1] > longest:
            print(f"line {number + 1} has {inputs['input_ids'].shape[1]} tokens, left out", file=sys.stderr)
            continue
        yield inputs


def dump(model, processor, data, layer, longest, dtype):
    """Activations `[positions, d]` and the columns of the token table."""
    tokenizer = getattr(processor, "tokenizer", processor)
    image, kept = image_token(model, tokenizer), []

    def keep(_module, _inputs, output):
        hidden = output[0] if isinstance(output, tuple) else output
        kept.append(hidden.detach().reshape(-1, hidden.shape[-1]).to("cpu", dtype))

    # Behind the block and before the final norm: hidden_states[layer + 1] of transformers, but for the last block.
    handle = blocks(model)[layer].register_forward_hook(keep)
    table = {name: [] for name in ["sample", "position", "modality", "token_id", "piece", "special"]}
    for number, inputs in enumerate(samples(processor, data, longest)):
        with torch.no_grad():
            model(**inputs.to(model.device))
        ids = inputs["input_ids"][0].tolist()
        if sum(map(len, kept)) != len(table["sample"]) + len(ids):
            raise SystemExit(f"sample {number}: the hooked block did not see one position a token; is it the decoder's?")
        table["sample"] += [number] * len(ids)
        table["position"] += range(len(ids))
        table["modality"] += [int(token == image) for token in ids]
        table["token_id"] += ids
        table["piece"] += [tokenizer.decode([token]) for token in ids]
        table["special"] += [token in tokenizer.all_special_ids and token != image for token in ids]
    handle.remove()
    if not kept:
        raise SystemExit(f"{data} has no sample")
    return torch.cat(kept), table


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", type=Path, required=True, help="texts (.txt) or conversations with images (.jsonl)")
    parser.add_argument("--layer", type=int, required=True, help="decoder block, counted from 0")
    parser.add_argument("--longest", type=int, default=2048, help="most tokens of a sample")
    parser.add_argument("--dtype", default="float32", help="in which activations are stored: float32, float16, bfloat16")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()

    device = "cuda" if torch.cuda.is_available() else "cpu"
    kind = AutoProcessor if args.data.suffix == ".jsonl" else AutoTokenizer
    model = load(args.model).to(device).eval()
    processor = kind.from_pretrained(args.model)
    activations, table = dump(model, processor, args.data, args.layer, args.longest, getattr(torch, args.dtype))

    args.out.mkdir(parents=True, exist_ok=True)
    header = {"hook": f"layers.{args.layer}", "model": Path(args.model).name}
    save_file({"activations": activations}, args.out / "activations.safetensors", header)
    pq.write_table(pa.table(table), args.out / "tokens.parquet")
    print(f"{len(activations)} positions of {table['sample'][-1] + 1} samples in {args.out}")


if __name__ == "__main__":
    main()
