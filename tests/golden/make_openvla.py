"""Golden files of OpenVLA: a tiny random checkpoint, and what a plain construction of it in PyTorch computes.

The published class (openvla/openvla, prismatic/extern/hf) needs transformers 4.40 and timm 0.9; this script writes the two
vision towers, the projector and the image processor out, and takes Llama from transformers. With --timm FOLDER, which holds
timm 0.9.16 and torchvision (`pip install --no-deps --target FOLDER timm==0.9.16 torchvision`), it checks that timm's towers compute the same.

    python make_openvla.py --seed 0 --out tests/golden [--timm FOLDER]

openvla-a           every sample has one image, or none; DINOv2 with registers and LayerScale, SigLIP with a pooling head that
                    nothing uses; the last block of neither tower is used; <PAD> is behind the vocabulary.

golden.safetensors as make_models.py's; `sampleN.fused_pixel_values` are those of the second tower.
"""

import argparse
import json
import math
import shutil
import sys
import zlib
from pathlib import Path

import numpy as np
import torch
from common import LOGITS, assistant, llama_like_tokenizer, user, versions, write_images, write_json
from make_models import Recorder
from PIL import Image
from safetensors.torch import save_file
from tokenizers import AddedToken, processors
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

SIDE, PATCH = 56, 14
DINO = dict(embed_dim=24, depth=3, num_heads=2, mlp_ratio=2.0, patch_size=PATCH)
SIGLIP = dict(embed_dim=32, depth=3, num_heads=4, mlp_ratio=1.7, patch_size=PATCH)
MEANS = [[0.485, 0.456, 0.406], [0.5, 0.5, 0.5]]
STDS = [[0.229, 0.224, 0.225], [0.5, 0.5, 0.5]]
SPECIAL = ["<unk>", "<s>", "</s>"]


class Block(nn.Module):
    def __init__(self, width, heads, hidden, layer_scale):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=1e-6), nn.LayerNorm(width, eps=1e-6)
        self.attn, self.mlp = nn.Module(), nn.Module()
        self.attn.qkv, self.attn.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp.fc1, self.mlp.fc2 = nn.Linear(width, hidden), nn.Linear(hidden, width)
        if layer_scale:
            self.ls1, self.ls2 = nn.Module(), nn.Module()
            self.ls1.scale_factor, self.ls2.scale_factor = (nn.Parameter(torch.ones(width)) for _ in range(2))
        self.heads, self.layer_scale = heads, layer_scale

    def forward(self, x):
        *images, rows, width = x.shape
        qkv = self.attn.qkv(self.norm1(x)).view(*images, rows, 3, self.heads, width // self.heads)
        q, k, v = qkv.movedim((-3, -2), (0, -3))
        weights = (q @ k.transpose(-2, -1) / math.sqrt(width // self.heads)).softmax(-1)
        y = self.attn.proj((weights @ v).transpose(-3, -2).reshape(*images, rows, width))
        x = x + (y * self.ls1.scale_factor if self.layer_scale else y)
        y = self.mlp.fc2(nn.functional.gelu(self.mlp.fc1(self.norm2(x))))
        return x + (y * self.ls2.scale_factor if self.layer_scale else y)


class Tower(nn.Module):
    """What the block before the last one leaves at the patches of images, [..., 3, side, side]."""

    def __init__(self, embed_dim, depth, num_heads, mlp_ratio, patch_size, dino, side=SIDE):
        super().__init__()
        self.patch_embed = nn.Module()
        self.patch_embed.proj = nn.Conv2d(3, embed_dim, patch_size, patch_size)
        self.pos_embed = nn.Parameter(torch.zeros(1, (side // patch_size) ** 2, embed_dim))
        if dino:
            self.cls_token = nn.Parameter(torch.zeros(1, 1, embed_dim))
            self.reg_token = nn.Parameter(torch.zeros(1, 4, embed_dim))
        block = lambda: Block(embed_dim, num_heads, int(embed_dim * mlp_ratio), dino)
        self.blocks = nn.ModuleList(block() for _ in range(depth))
        self.norm = nn.LayerNorm(embed_dim, eps=1e-6)
        if not dino:
            self.attn_pool = nn.Module()
            self.attn_pool.latent = nn.Parameter(torch.zeros(1, 1, embed_dim))
            self.attn_pool.proj = nn.Linear(embed_dim, embed_dim)
        self.dino = dino

    def forward(self, image):
        x = self.patch_embed.proj(image).flatten(-2).transpose(-2, -1) + self.pos_embed[0]
        if self.dino:
            before = torch.cat([self.cls_token[0], self.reg_token[0]])
            x = torch.cat([before.expand(*x.shape[:-2], -1, -1), x], -2)
        for block in self.blocks[:-1]:
            x = block(x)
        return x[..., 5:, :] if self.dino else x


class OpenVLA(nn.Module):
    def __init__(self, text, dino=DINO, siglip=SIGLIP, side=SIDE):
        super().__init__()
        self.vision_backbone = nn.Module()
        self.vision_backbone.featurizer = Tower(**dino, dino=True, side=side)
        self.vision_backbone.fused_featurizer = Tower(**siglip, dino=False, side=side)
        both, width = dino["embed_dim"] + siglip["embed_dim"], text.hidden_size
        self.projector = nn.Module()
        self.projector.fc1, self.projector.fc2 = nn.Linear(both, 4 * both), nn.Linear(4 * both, width)
        self.projector.fc3 = nn.Linear(width, width)
        self.language_model = LlamaForCausalLM(text)

    def features(self, pixels):
        """[..., 6, side, side]: images as either tower reads them."""
        towers = self.vision_backbone
        first, second = pixels[..., :3, :, :], pixels[..., 3:, :, :]
        x = torch.cat([towers.featurizer(first), towers.fused_featurizer(second)], -1)
        gelu = nn.functional.gelu
        return self.projector.fc3(gelu(self.projector.fc2(gelu(self.projector.fc1(x)))))

    def forward(self, ids, pixels):
        """The logits of texts that begin with `ids`, one for each image, or of the text alone."""
        x = self.language_model.get_input_embeddings()(ids)[None]
        if pixels is not None:
            first, rest = (part.expand(len(pixels), -1, -1) for part in (x[:, :1], x[:, 1:]))
            x = torch.cat([first, self.features(pixels), rest], 1)
        return self.language_model(inputs_embeds=x).logits


def pixel_values(image, side=SIDE):
    """PrismaticImageProcessor with resize-naive: [6, side, side]."""
    resized = image.convert("RGB").resize((side, side), Image.Resampling.BICUBIC)
    x = torch.from_numpy(np.array(resized)).permute(2, 0, 1).to(torch.float32).div(255)
    column = lambda values: torch.tensor(values)[:, None, None]
    return torch.cat([(x - column(mean)) / column(std) for mean, std in zip(MEANS, STDS)])


def prompt(messages):
    """PurePromptBuilder, with the space behind `Out:` whose token OpenVLA adds before it generates."""
    texts = ["".join(p.get("text", "") for p in m["content"]).strip() for m in messages]
    turns = zip(messages, texts)
    return "".join(f"In: {text}\nOut: " if m["role"] == "user" else f"{text}</s>" for m, text in turns)


def tokenizer():
    """As OpenVLA's: `<PAD>` is added behind the vocabulary."""
    made = llama_like_tokenizer(SPECIAL)
    made.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 1)]
    )
    made.add_special_tokens([AddedToken("<PAD>", special=True, normalized=False)])
    return made


def samples():
    wide, tall, grey = "images/wide.png", "images/tall.png", "images/grey.png"
    return [
        ([user(wide, "What action should the robot take to pick up the red square?")], True),
        ([user(tall, "What action should the robot take to describe it?")], True),
        ([user(grey, "Compare the two."), assistant("The first is wider.")], False),
        ([user("No picture here: caf\u00e9, \u6f22\u5b57.\nA second line.")], True),
    ]


@torch.no_grad()
def randomise(model, generator):
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if "scale_factor" in name or "norm" in name and name.endswith("weight"):
            parameter.copy_(1 + 0.3 * noise)
        elif parameter.ndim == 1:
            parameter.copy_(0.3 * noise)
        elif any(part in name for part in ["embed_tokens", "pos_embed", "_token"]):
            parameter.copy_(0.7 * noise)
        else:
            parameter.copy_(1.5 * noise / parameter[0].numel() ** 0.5)
        parameter.copy_(parameter.bfloat16())  # so that the checkpoint, which holds bf16 as the published one, is exact


def write_checkpoint(folder, model, made, dino=DINO, siglip=SIGLIP, side=SIDE, norm_stats=None):
    """A checkpoint in the layout of openvla/openvla-7b, with the sizes of the towers in two further fields."""
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = made.get_vocab_size(with_added_tokens=False)
    text = model.language_model.config
    fields = ["vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
              "num_key_value_heads", "max_position_embeddings", "rms_norm_eps"]
    write_json(folder / "config.json", {
        "architectures": ["OpenVLAForActionPrediction"], "model_type": "openvla", "arch_specifier": "no-align+fused-gelu-mlp",
        "vision_backbone_id": "dinosiglip-vit-so-224px", "llm_backbone_id": "llama2-7b-pure",
        "use_fused_vision_backbone": True, "image_resize_strategy": "resize-naive", "image_sizes": [side, side],
        "timm_model_ids": ["vit_large_patch14_reg4_dinov2.lvd142m", "vit_so400m_patch14_siglip_224"],
        "timm_override_act_layers": [None, None], "featurizer_args": dino, "fused_featurizer_args": siglip,
        "n_action_bins": 256, "norm_stats": norm_stats, "pad_token_id": vocabulary, "pad_to_multiple_of": 64,
        "text_config": {"model_type": "llama", "pad_token_id": vocabulary} | {name: getattr(text, name) for name in fields},
        "torch_dtype": "bfloat16", "transformers_version": "4.40.1",
    })
    write_json(folder / "preprocessor_config.json", {
        "image_processor_type": "PrismaticImageProcessor", "image_resize_strategy": "resize-naive",
        "input_sizes": [[3, side, side]] * 2, "interpolations": ["bicubic", "bicubic"], "means": MEANS, "stds": STDS,
        "use_fused_vision_backbone": True,
    })
    made.save(str(folder / "tokenizer.json"), pretty=False)
    write_json(folder / "tokenizer_config.json", {
        "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<PAD>",
        "tokenizer_class": "PreTrainedTokenizerFast",
    })
    state = {name: value.to(torch.bfloat16).contiguous().clone() for name, value in model.state_dict().items()}
    save_file(state, folder / "model.safetensors", {"format": "pt"})


def check_with_timm(folder, model, pixels):
    sys.path.insert(0, str(folder))
    from timm.models.vision_transformer import VisionTransformer

    ours = model.vision_backbone
    for mine, image, more in [
        (ours.featurizer, pixels[:3], dict(**DINO, init_values=1e-5, reg_tokens=4, no_embed_class=True)),
        (ours.fused_featurizer, pixels[3:], dict(**SIGLIP, class_token=False, global_pool="avg")),
    ]:
        theirs = VisionTransformer(img_size=SIDE, num_classes=0, **more).eval()
        state = {name.replace("scale_factor", "gamma"): value for name, value in mine.state_dict().items()}
        theirs.load_state_dict({name: value for name, value in state.items() if name in theirs.state_dict()}, strict=False)
        found = theirs.get_intermediate_layers(image[None], n={len(theirs.blocks) - 2})[0][0]
        worst = (found - mine(image)).abs().max().item()
        assert worst < 1e-4, worst
        print(f"timm: largest difference {worst:.1e}")


@torch.no_grad()
def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    parser.add_argument("--timm", type=Path)
    args = parser.parse_args()
    folder = args.out / "openvla-a"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    seed = zlib.crc32(b"openvla-a")
    write_images(folder / "images", np.random.default_rng([args.seed, seed]))
    for unused in ["square", "rgba", "palette"]:
        (folder / f"images/{unused}.png").unlink()
    made = tokenizer()
    text = LlamaConfig(
        vocab_size=made.get_vocab_size(with_added_tokens=False) + 64, hidden_size=32, intermediate_size=48,
        num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=256, rms_norm_eps=1e-6,
        attn_implementation="eager",
    )
    model = OpenVLA(text).eval()
    randomise(model, torch.Generator().manual_seed(args.seed << 32 | seed))
    write_checkpoint(folder, model, made)
    pad = made.token_to_id("<PAD>")
    recorder = Recorder(model.language_model.model)
    tensors, rendered = {}, []
    for n, (messages, generate) in enumerate(samples()):
        paths = [p["path"] for m in messages for p in m["content"] if p["type"] == "image"]
        text = prompt(messages)
        ids = torch.tensor(made.encode(text).ids)
        pixels = pixel_values(Image.open(folder / paths[0])) if paths else None
        logits = model(ids, pixels[None] if paths else None)[0]
        put = lambda name, value: tensors.__setitem__(f"sample{n}.{name}", value.contiguous().clone())
        patches = torch.full([(SIDE // PATCH) ** 2 if paths else 0], pad)
        whole = torch.cat([ids[:1], patches, ids[1:]])
        put("ids", whole)
        put("modality", (whole == pad).to(torch.uint8))
        for name, value in recorder.tensors().items():
            put(name, torch.as_tensor(value))
        if paths:
            put("pixel_values", pixels[None, :3])
            put("fused_pixel_values", pixels[None, 3:])
            put("image_features", model.features(pixels))
        put("logits", logits[-LOGITS:])
        rendered.append({"name": f"sample{n}", "rendered": text, "images": paths, "tokens": len(whole)})
        if paths and args.timm:
            check_with_timm(args.timm, model, pixels)
    save_file(tensors, folder / "golden.safetensors")
    write_json(folder / "samples.json", [
        {"name": f"sample{n}", "messages": messages, "add_generation_prompt": generate}
        for n, (messages, generate) in enumerate(samples())
    ], indent=1)
    write_json(folder / "golden.json", {
        "seed": args.seed, "versions": versions(), "image_backend": "pil", "attention": "eager, f32",
        "hidden": "hidden.0 enters the first block, hidden.L + 1 is what leaves block L; the last is after the final norm, "
                  "blocks_out is before it",
        "samples": rendered,
    }, indent=1)


if __name__ == "__main__":
    main()
