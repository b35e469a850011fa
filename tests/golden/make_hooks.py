"""What transformers has at the hooks within blocks of golden checkpoints: hooks.safetensors in each folder.

Needs what make_models.py needs. Forward hooks on the modules of each decoder block record, for two samples,

    attn_in    what `self_attn` is given
    attn_out   what is added to the residual stream after it: its output, behind the norm that follows it where there is one
    mlp_in     what `mlp` is given
    mlp_out    what is added to the residual stream after it: its output, behind the norm that follows it where there is one

The script checks that the input of a block, `attn_out` and `mlp_out` add up to its output. Of each sample, ROWS positions are
kept, spread evenly from the first to the last, so that the files stay small: `sampleN.rows` [ROWS] i64, and
`sampleN.L.SITE` [ROWS, d].

    python make_hooks.py tests/golden/llava-a tests/golden/text-llama ...
"""

import json
import sys
from pathlib import Path

import torch
from make_models import prepare, without_videos
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForCausalLM, AutoModelForImageTextToText, AutoProcessor, AutoTokenizer, LlamaConfig, LlamaForCausalLM,
    Qwen2_5_VLProcessor, Qwen3VLProcessor,
)

ROWS = 4
SAMPLES = 2
WITHOUT_VIDEOS = {"qwen2_5_vl": Qwen2_5_VLProcessor, "qwen3_vl": Qwen3VLProcessor}


def after_attention_and_mlp(block):
    """The modules whose outputs are added to the residual stream."""
    if hasattr(block, "post_feedforward_layernorm"):  # Gemma 3
        return block.post_attention_layernorm, block.post_feedforward_layernorm
    if type(block).__name__ == "ChameleonSwinDecoderLayer":
        return block.input_layernorm, block.post_attention_layernorm
    return block.self_attn, block.mlp


class Recorder:
    def __init__(self, decoder):
        self.seen = {}
        for layer, block in enumerate(decoder.layers):
            attention, mlp = after_attention_and_mlp(block)
            self.given(block, (layer, "in"))
            self.given(block.self_attn, (layer, "attn_in"))
            self.returned(attention, (layer, "attn_out"))
            self.given(block.mlp, (layer, "mlp_in"))
            self.returned(mlp, (layer, "mlp_out"))
            self.returned(block, (layer, "out"))

    def given(self, module, name):
        keep = lambda _, args, kwargs: self.seen.__setitem__(name, (args[0] if args else kwargs["hidden_states"])[0].clone())
        module.register_forward_pre_hook(keep, with_kwargs=True)

    def returned(self, module, name):
        keep = lambda _, __, out: self.seen.__setitem__(name, (out[0] if isinstance(out, tuple) else out)[0].clone())
        module.register_forward_hook(keep)

    def tensors(self):
        layers = sorted({layer for layer, _ in self.seen})
        for layer in layers:
            at = lambda site: self.seen[layer, site]
            torch.testing.assert_close(at("in") + at("attn_out") + at("mlp_out"), at("out"), rtol=1e-4, atol=1e-5)
        return {f"{layer}.{site}": self.seen[layer, site] for layer in layers
                for site in ["attn_in", "attn_out", "mlp_in", "mlp_out"]}


def open_model(folder, samples):
    """The decoder of a checkpoint, and a function that runs it on a sample."""
    if folder.name.startswith("openvla"):  # which transformers does not have: its decoder, on what enters the first block
        config = json.loads((folder / "config.json").read_text())["text_config"]
        model = LlamaForCausalLM(LlamaConfig(**config | {"attn_implementation": "eager"})).eval()
        prefix = "language_model."
        state = load_file(folder / "model.safetensors")
        model.load_state_dict({name[len(prefix):]: value.float() for name, value in state.items() if name.startswith(prefix)})
        golden = load_file(folder / "golden.safetensors")
        return model.model, lambda n: model(inputs_embeds=golden[f"sample{n}.hidden.0"][None])
    has_images = (folder / "images").exists()
    auto = AutoModelForImageTextToText if has_images else AutoModelForCausalLM
    model = auto.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    kind = WITHOUT_VIDEOS.get(folder.name.split("-")[0])
    reader = without_videos(kind) if kind else AutoProcessor if has_images else AutoTokenizer
    reader = reader.from_pretrained(folder)
    decoder = model.model.language_model if hasattr(model.model, "language_model") else model.model

    def run(n):
        sample = samples[n]
        model(**prepare(folder, reader, sample["messages"], sample["add_generation_prompt"])[2])

    return decoder, run


@torch.no_grad()
def hooks(folder):
    samples = json.loads((folder / "samples.json").read_text())
    decoder, run = open_model(folder, samples)
    recorder = Recorder(decoder)
    tensors = {}
    for n in range(SAMPLES):
        run(n)
        found = recorder.tensors()
        length = next(iter(found.values())).shape[0]
        rows = torch.linspace(0, length - 1, ROWS).round().long()
        name = samples[n]["name"]
        tensors[f"{name}.rows"] = rows
        tensors |= {f"{name}.{hook}": value[rows].contiguous() for hook, value in found.items()}
    return tensors


for folder in map(Path, sys.argv[1:]):
    tensors = hooks(folder)
    save_file(tensors, folder / "hooks.safetensors")
    print(folder.name, len(tensors), (folder / "hooks.safetensors").stat().st_size)
