"""What transformers has at the hooks within blocks of golden checkpoints: golden.hooks.safetensors in each folder.

Needs what make_models.py needs. Forward hooks on the modules of each decoder block record, for two samples,

    attn_in    what `self_attn` is given
    attn_out   what is added to the residual stream after it: its output, behind the norm that follows it where there is one
    mlp_in     what `mlp` is given
    mlp_out    what is added to the residual stream after it: its output, behind the norm that follows it where there is one

The script checks that the input of a block, `attn_out` and `mlp_out` add up to its output (in Gemma 4 to its output before its factor). Of each sample, ROWS positions are
kept, spread evenly from the first to the last, so that the files stay small: `sampleN.rows` [ROWS] i64, and
`sampleN.L.SITE` [ROWS, d].

The same of the blocks of the vision tower that the model uses, the first one where there are two: `sampleN.vision.rows` [ROWS]
i64 and `sampleN.vision.L` [ROWS, width]. Rows are the patches that positions of images show, in the order of the positions; the
patches of one position are row by row. (What the projector returns is `sampleN.image_features` of golden.safetensors.)

    python make_hooks.py tests/golden/llava-a tests/golden/text-llama ...
"""

import json
import sys
from pathlib import Path

import make_openvla
import torch
from make_models import PixtralProcessor, decoder_of, in_squares, prepare, without_videos
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForCausalLM, AutoModelForImageTextToText, AutoProcessor, AutoTokenizer, Gemma4Processor, InternVLProcessor, LlamaConfig, LlamaForCausalLM,
    LlavaOnevisionProcessor, Qwen2_5_VLProcessor, Qwen3VLProcessor, SmolVLMProcessor,
)
from transformers.models.llava_next.modeling_llava_next import image_size_to_num_patches
from transformers.vision_utils import get_vision_window_index

ROWS = 4
SAMPLES = 2
WITHOUT_VIDEOS = {"llava_onevision": LlavaOnevisionProcessor, "qwen2_5_vl": Qwen2_5_VLProcessor, "qwen3_vl": Qwen3VLProcessor,
                  "smolvlm": SmolVLMProcessor, "mistral3": PixtralProcessor, "internvl": InternVLProcessor, "gemma4": Gemma4Processor}


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
        self.factors = [float(getattr(block, "layer_scalar", 1)) for block in decoder.layers]  # of Gemma 4
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
            sum_of_all = self.factors[layer] * (at("in") + at("attn_out") + at("mlp_out"))
            torch.testing.assert_close(sum_of_all, at("out"), rtol=1e-4, atol=1e-5)
        return {f"{layer}.{site}": self.seen[layer, site] for layer in layers
                for site in ["attn_in", "attn_out", "mlp_in", "mlp_out"]}


TOWERS = ["visual", "vision_tower", "vision_model"]


class TowerRecorder:
    """The output of each block of the vision tower for a sample, as the patches that positions show."""

    def __init__(self, model):
        self.model, self.seen, self.pixels = model, {}, None
        inner = model.model
        self.kind = model.config.model_type
        tower = next(getattr(inner, name) for name in TOWERS if hasattr(inner, name))
        blocks = tower.blocks if hasattr(tower, "blocks") else next(
            module for name, module in tower.named_modules() if name.endswith(("encoder.layers", "transformer.layers", "encoder.layer")))
        self.tower = tower
        for layer, block in enumerate(blocks):
            keep = lambda _, __, out, layer=layer: self.seen.__setitem__(layer, out[0] if isinstance(out, tuple) else out)
            block.register_forward_hook(keep)
        used = getattr(model.config, "vision_feature_layer", None)
        used = [used] if isinstance(used, int) else used
        self.used = len(blocks) if used is None else max(n % (len(blocks) + 1) for n in used)

    def patches(self, out, inputs):
        """[patches, width]"""
        config = self.model.config
        if self.kind == "qwen2_5_vl":
            sizes = self.tower.spatial_merge_size, self.tower.window_size, self.tower.patch_size
            order, _ = get_vision_window_index(inputs["image_grid_thw"], *sizes)
            unit = self.tower.spatial_merge_unit
            return out.view(len(order), unit, -1)[torch.argsort(torch.as_tensor(order))].flatten(0, 1)
        if self.kind == "qwen3_vl":
            return out
        if self.kind == "mistral3":
            side = config.spatial_merge_size
            sizes = (inputs["image_sizes"] // self.tower.patch_size).tolist()
            images = zip(sizes, out[0].split([height * width for height, width in sizes]))
            squares = [patches.view(height // side, side, width // side, side, -1) for (height, width), patches in images]
            return torch.cat([each.transpose(1, 2).flatten(0, 3) for each in squares])
        if self.kind == "internvl":
            out, side = out[:, 1:], round(1 / config.downsample_ratio)
            grid = int(out.shape[1] ** 0.5) // side
            return out.view(len(out), grid, side, grid, side, -1).transpose(2, 3).flatten(0, 4)
        if self.kind in ["smolvlm", "idefics3"]:
            grid, side = int(out.shape[1] ** 0.5) // config.scale_factor, config.scale_factor
            return out.view(len(out), grid, side, grid, side, -1).transpose(2, 3).flatten(0, 4)
        if self.kind == "gemma4":
            return in_squares(self.model, inputs, out)
        if self.kind == "paligemma":
            return out.flatten(0, 1)
        if self.kind == "gemma3":
            grid, side = (int(n ** 0.5) for n in (config.mm_tokens_per_image, out.shape[1] // config.mm_tokens_per_image))
            return out.view(len(out), grid, side, grid, side, -1).transpose(2, 3).flatten(0, 4)
        out = out if config.vision_feature_select_strategy == "full" else out[:, 1:]
        if self.kind == "llava":
            return out.flatten(0, 1)
        if self.kind == "llava_onevision":  # of an interpolated position the patch with the largest weight
            count = out.shape[0] * out.shape[1]
            each = torch.eye(count).view(*out.shape[:2], count)
            newline = torch.full([count], torch.nan)
            ratio = config.vision_aspect_ratio
            weights = self.model.model.pack_image_features([each], inputs["image_sizes"], newline, ratio)[0][0]
            return out.flatten(0, 1)[weights[~weights.isnan().any(-1)].argmax(-1)]
        newline = torch.full([out.shape[-1]], torch.nan)
        views = out.split([len(views) for views in self.views(inputs)])
        packed = self.model.model.pack_image_features(
            list(views), inputs["image_sizes"], vision_feature_select_strategy="default", image_newline=newline)[0]
        packed = torch.cat(list(packed))
        return packed[~packed.isnan().any(-1)]

    def views(self, inputs):
        """Of each image its views, without those that pad a batch."""
        counts = [image_size_to_num_patches(size, self.model.config.image_grid_pinpoints, self.tower.config.image_size)
                  for size in inputs["image_sizes"].tolist()]
        return [pixels[:count] for pixels, count in zip(inputs["pixel_values"], counts)]

    def tensors(self, inputs):
        found = {f"vision.{layer}": self.patches(self.seen[layer], inputs) for layer in range(self.used)}
        return {name: value.clone() for name, value in found.items()}


class OpenVlaTowerRecorder:
    """The same of the first tower of OpenVLA, as make_openvla.py writes it out."""

    def __init__(self, folder):
        config = json.loads((folder / "config.json").read_text())["text_config"]
        self.model = make_openvla.OpenVLA(LlamaConfig(**config)).eval()
        state = {name: value.float() for name, value in load_file(folder / "model.safetensors").items()}
        missing, left = self.model.load_state_dict(state, strict=False)
        assert not left and not [name for name in missing if "vision_backbone.featurizer" in name], (missing, left)
        self.golden = load_file(folder / "golden.safetensors")

    def tensors(self, n):
        tower, found = self.model.vision_backbone.featurizer, {}
        hooks = [block.register_forward_hook(lambda _, __, out, layer=layer: found.__setitem__(f"vision.{layer}", out[0, 5:].clone()))
                 for layer, block in enumerate(tower.blocks[:-1])]
        tower(self.golden[f"sample{n}.pixel_values"])
        for hook in hooks:
            hook.remove()
        return found


def open_model(folder, samples):
    """The decoder of a checkpoint, and a function that runs it on a sample and returns the states of its vision tower."""
    if folder.name.startswith("openvla"):  # which transformers does not have: its decoder, on what enters the first block
        config = json.loads((folder / "config.json").read_text())["text_config"]
        model = LlamaForCausalLM(LlamaConfig(**config | {"attn_implementation": "eager"})).eval()
        prefix = "language_model."
        state = load_file(folder / "model.safetensors")
        model.load_state_dict({name[len(prefix):]: value.float() for name, value in state.items() if name.startswith(prefix)})
        golden = load_file(folder / "golden.safetensors")
        tower = OpenVlaTowerRecorder(folder)

        def run_decoder(n):
            model(inputs_embeds=golden[f"sample{n}.hidden.0"][None])
            return tower.tensors(n)

        return model.model, run_decoder
    has_images = (folder / "images").exists()
    auto = AutoModelForImageTextToText if has_images else AutoModelForCausalLM
    model = auto.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    kind = WITHOUT_VIDEOS.get(folder.name.split("-")[0])
    reader = without_videos(kind) if kind else AutoProcessor if has_images else AutoTokenizer
    reader = reader.from_pretrained(folder)
    decoder = decoder_of(model)
    tower = TowerRecorder(model) if any(hasattr(model.model, name) for name in TOWERS) else None

    def run(n):
        sample = samples[n]
        inputs = prepare(folder, reader, sample["messages"], sample["add_generation_prompt"])[2]
        model(**inputs)
        return tower.tensors(inputs) if tower else {}

    return decoder, run


@torch.no_grad()
def hooks(folder):
    samples = json.loads((folder / "samples.json").read_text())
    decoder, run = open_model(folder, samples)
    recorder = Recorder(decoder)
    tensors = {}
    for n in range(SAMPLES):
        name, of_tower = samples[n]["name"], run(n)
        for prefix, found in [("", recorder.tensors()), ("vision.", of_tower)]:
            if found:
                rows = torch.linspace(0, next(iter(found.values())).shape[0] - 1, ROWS).round().long()
                tensors[f"{name}.{prefix}rows"] = rows
                tensors |= {f"{name}.{hook}": value[rows].contiguous() for hook, value in found.items()}
    return tensors


for folder in map(Path, sys.argv[1:]):
    tensors = hooks(folder)
    save_file(tensors, folder / "golden.hooks.safetensors")
    print(folder.name, len(tensors), (folder / "golden.hooks.safetensors").stat().st_size)
