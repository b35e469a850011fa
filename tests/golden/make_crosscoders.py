"""Golden files for crosscoders as published on the Hugging Face hub, made with the library that publishes them: the fork of
dictionary_learning at https://github.com/science-of-finetuning/dictionary_learning (commit 173f7ac).

Needs Python 3.11 with torch 2.15, safetensors 0.8, huggingface_hub, einops, datasets and zstandard.

    git clone https://github.com/science-of-finetuning/dictionary_learning LIBRARY
    python make_crosscoders.py --library LIBRARY --out tests/golden/saes/other
    python make_crosscoders.py --library LIBRARY --check EXPORTED --io tests/golden/saes/other/crosscoder_none

Two models of width 4, 24 features; `io.safetensors` {x [10, 8], z [10, 24], x_hat [10, 8]} in each folder: what `encode` and
`forward` compute, with the two blocks of a row one after the other.

crosscoder_relu         `CrossCoder`
crosscoder_sum          `BatchTopKCrossCoder`; activations count by the sum of the norms of both blocks (CROSSCODER)
crosscoder_joint        by the norm of both together (SAE)
crosscoder_none         by themselves (NONE), which is what `sae convert` writes
crosscoder_normalized   CROSSCODER, with a mean and a standard deviation of each model's states

`--check` reads a folder that was exported, with the library, and compares what it computes with the `io.safetensors` of another
folder. Seeds are tried in turn until no activation is near its threshold.
"""

import argparse
import importlib
import shutil
import sys
import types
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

ROWS, MODELS, D, F, K, THRESHOLD, MARGIN = 10, 2, 4, 24, 4, 3.0, 1e-3
KINDS = {
    "crosscoder_relu": None,
    "crosscoder_sum": "CROSSCODER",
    "crosscoder_joint": "SAE",
    "crosscoder_none": "NONE",
    "crosscoder_normalized": "CROSSCODER",
}


def dictionaries(library):
    """The module of the library with the crosscoders, without what the package imports to run models."""
    package = types.ModuleType("dictionary_learning")
    package.__path__ = [str(library / "dictionary_learning")]
    sys.modules["dictionary_learning"] = package
    return importlib.import_module("dictionary_learning.dictionary")


def crosscoder(module, name):
    options = {}
    if name == "crosscoder_normalized":
        # Inputs have this mean, and about this standard deviation in each of the two models.
        options = {"activation_mean": torch.randn(MODELS, D), "activation_std": torch.rand(MODELS, D) + torch.tensor([[1.0], [4.0]])}
    if KINDS[name] is None:
        made = module.CrossCoder(D, F, MODELS, **options)
    else:
        made = module.BatchTopKCrossCoder(D, F, MODELS, k=K, code_normalization=KINDS[name], **options)
        made.threshold.fill_(THRESHOLD / 4 if options or KINDS[name] == "NONE" else THRESHOLD)
    with torch.no_grad():
        for values, scale in [(made.encoder.weight, 1.0), (made.encoder.bias, 0.3), (made.decoder.weight, 0.5), (made.decoder.bias, 0.3)]:
            values.copy_(torch.randn(values.shape) * scale)
        made.decoder.weight.mul_(torch.rand(MODELS, F, 1) + 0.5)
    return made


def compute(made, x):
    with torch.no_grad():
        return made.encode(x), made(x)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--library", type=Path, required=True)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--check", type=Path)
    parser.add_argument("--io", type=Path)
    args = parser.parse_args()
    module = dictionaries(args.library)
    if args.check:
        exported = {"BatchTopKCrossCoder": module.BatchTopKCrossCoder, "CrossCoder": module.CrossCoder}
        io = load_file(args.io / "io.safetensors")
        batch = "threshold" in load_file(args.check / "model.safetensors")
        made = exported["BatchTopKCrossCoder" if batch else "CrossCoder"].from_pretrained(str(args.check), from_hub=True)
        z, x_hat = compute(made, io["x"].reshape(ROWS, MODELS, D))
        apart = [(a.reshape(ROWS, -1) - io[name]).abs().max().item() for a, name in ((z, "z"), (x_hat, "x_hat"))]
        print(f"z differs by {apart[0]:.1e} at most, x_hat by {apart[1]:.1e}")
        assert max(apart) < 1e-4
        return
    for name in KINDS:
        for seed in range(1000):
            torch.manual_seed(seed)
            made = crosscoder(module, name)
            x = torch.randn(ROWS, MODELS, D) * 2
            if made.has_activation_normalizer:
                x = x / 2 * made.activation_std + made.activation_mean
            z, x_hat = compute(made, x)
            everything = module.CrossCoder.encode(made, x)
            judged = everything * made.get_code_normalization()
            near = (judged - getattr(made, "threshold", torch.tensor(0.0))).abs() < MARGIN
            if not (near & (judged != 0)).any() and (z > 0).any():
                break
        folder = args.out / name
        shutil.rmtree(folder, ignore_errors=True)
        made.save_pretrained(folder)
        (folder / "README.md").unlink(missing_ok=True)
        flat = {"x": x, "z": z, "x_hat": x_hat}
        save_file({key: value.reshape(ROWS, -1).contiguous() for key, value in flat.items()}, folder / "io.safetensors")
        print(f"{name}: seed {seed}, {(z > 0).sum().item() / ROWS} active features a row")


if __name__ == "__main__":
    main()
