"""What the scripts that make golden folders share: conversations, pictures, tokenizers, random parameters."""

import json
import platform

import numpy as np
import PIL
import tokenizers
import torch
import transformers
from PIL import Image
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

SPECIAL = ["<unk>", "<s>", "</s>", "<pad>", "<image>"]
LOGITS = 8  # positions, the last ones: enough to check the head, and small
TEXT = [
    "USER: What is in this picture? ASSISTANT: A small red square beside a blue one.",
    "USER: Compare the first picture with the second, please. ASSISTANT: The first is wider.",
    "USER: Describe the image in one sentence. ASSISTANT: There are stripes and dots on it.",
]


def user(*parts):
    return {"role": "user", "content": [part(p) for p in parts]}


def assistant(text):
    return {"role": "assistant", "content": [part(text)]}


def part(value):
    return {"type": "image", "path": value} if value.endswith(".png") else {"type": "text", "text": value}


def samples():
    """(messages, add_generation_prompt)"""
    wide, tall, square = "images/wide.png", "images/tall.png", "images/square.png"
    rgba, palette, grey = "images/rgba.png", "images/palette.png", "images/grey.png"
    return [
        ([user(wide, "What is in this picture?"), assistant("A small red square.")], False),
        ([user("Look at this:", tall, "and describe it in one sentence.")], True),
        ([user(square, rgba, "Compare the two."), assistant("The first is wider.")], False),
        ([user("No picture here: caf\u00e9, \u6f22\u5b57, \U0001f642 and  two  spaces.\nA second line.")], True),
        ([user(palette, "One?"), assistant("Yes."), user("Two?", grey), assistant("No, \u00e9t\u00e9.")], False),
        ([user(square)], True),
    ]


def write_images(folder, rng):
    """Small pictures with gradients and noise in them, in the modes that a PNG may have."""
    folder.mkdir(parents=True, exist_ok=True)

    def pixels(width, height, channels):
        y, x = np.mgrid[0:height, 0:width]
        waves = [128 + 100 * np.sin(x / (2 + c) + y / (5 - c) + rng.uniform(0, 6)) for c in range(channels)]
        return np.clip(np.stack(waves, -1) + rng.normal(0, 20, (height, width, channels)), 0, 255).astype(np.uint8)

    Image.fromarray(pixels(61, 37, 3)).save(folder / "wide.png")
    Image.fromarray(pixels(33, 70, 3)).save(folder / "tall.png")
    Image.fromarray(pixels(48, 48, 3)).save(folder / "square.png")
    Image.fromarray(pixels(50, 41, 4), "RGBA").save(folder / "rgba.png")
    Image.fromarray(pixels(40, 52, 3)).quantize(16).save(folder / "palette.png")
    Image.fromarray(pixels(29, 25, 1)[..., 0]).save(folder / "grey.png")


def llama_like_tokenizer(special=SPECIAL, prefix="\u2581", unk="<unk>"):
    """Byte fallback; with no prefix as Gemma's."""
    tokenizer = Tokenizer(models.BPE(unk_token=unk, byte_fallback=True, fuse_unk=True))
    replace = normalizers.Replace(" ", "\u2581")
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend(prefix), replace]) if prefix else replace
    tokenizer.pre_tokenizer = pre_tokenizers.Split("\u2581", "merged_with_next")  # for training alone
    tokens = special + [f"<0x{byte:02X}>" for byte in range(256)]
    trainer = trainers.BpeTrainer(vocab_size=395 + len(special), special_tokens=tokens, show_progress=False)
    tokenizer.train_from_iterator(TEXT, trainer)
    state = json.loads(tokenizer.to_str())
    state["pre_tokenizer"] = None
    state["added_tokens"] = [token for token in state["added_tokens"] if token["content"] in special]
    tokenizer = Tokenizer.from_str(json.dumps(state))
    steps = [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()]
    tokenizer.decoder = decoders.Sequence(steps + ([decoders.Strip(" ", 1, 0)] if prefix else []))
    return tokenizer


def byte_level_tokenizer(special=SPECIAL):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = [AddedToken(token, normalized=False, special=True) for token in special]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    size = 395 + len(special)
    trainer = trainers.BpeTrainer(vocab_size=size, special_tokens=special, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(TEXT, trainer)
    return tokenizer


@torch.no_grad()
def randomise(model, generator, offset=lambda name: False):
    """Every parameter away from what a fresh model has: none is left at zero or one.

    `offset`: whether a norm adds one to its weights (Gemma's do), which then lie around zero.
    """
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if ("norm" in name or "ln_pre" in name) and name.endswith("weight"):
            parameter.copy_((0 if offset(name) else 1) + 0.3 * noise)
        elif parameter.ndim == 1:
            parameter.copy_(noise * (1.0 if "class_embedding" in name else 0.3))
        elif "embed" in name and ("patch" not in name or name.endswith("table")):
            parameter.copy_(0.7 * noise)
        else:
            parameter.copy_(1.5 * noise / parameter[0].numel() ** 0.5)
    for name, buffer in model.named_buffers():  # of Gemma 4
        if name.endswith(("layer_scalar", "std_bias", "std_scale")):
            buffer.copy_(0.8 + 0.3 * torch.randn(buffer.shape, generator=generator))


def versions():
    return {
        "python": platform.python_version(), "torch": torch.__version__, "transformers": transformers.__version__,
        "tokenizers": tokenizers.__version__, "pillow": PIL.__version__,
    }


def write_json(path, value, indent=2):
    path.write_text(json.dumps(value, indent=indent) + "\n")
