"""Golden files of every other family: tiny random checkpoints, and what transformers computes with them.

Needs what make_llava.py needs: Python 3.11 with torch 2.15, transformers 5.23.0, pillow, tokenizers and safetensors,
and no torchvision. A folder's random numbers depend on the seed and its name alone.

    python make_models.py --seed 0 --out tests/golden [--only NAME ...]

text-llama          as the Hub has it; `llama3` rope whose three bands all occur, attention biases, tied head, template.
text-mistral        as transformers 5 saves it; grouped queries, sliding window of 8, a base model without a template.
text-qwen2          as the Hub has it; a window is written and switched off; ChatML.
text-qwen2-sliding  as transformers 5 saves it; `layer_types` say which layers slide; a base model.
text-qwen3          as the Hub has it; wide heads with norms of q and k, layers from `max_window_layers` on slide.
text-gemma3         as the Hub has it; local and global layers, linear rope for the global ones, soft-capped logits.

golden.safetensors as make_llava.py's, and for sample N also `sampleN.modality` [tokens] u8 (1: an image's position).
"""

import argparse
import json
import shutil
import zlib
from pathlib import Path

import numpy as np
import torch
from common import (
    LOGITS, byte_level_tokenizer, llama_like_tokenizer, part, randomise, samples, user, assistant, versions, write_images,
    write_json,
)
from PIL import Image
from safetensors.numpy import load_file, save_file
from tokenizers import Regex, normalizers, pre_tokenizers, processors
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoProcessor,
    AutoTokenizer,
    Gemma3TextConfig,
    LlamaConfig,
    MistralConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen3Config,
)

BASIC = ["<unk>", "<s>", "</s>", "<pad>"]
CHATML = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
LLAMA3 = ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
GEMMA = ["<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>"]

TEMPLATE_LLAMA3 = (
    "{% for message in messages %}{% set content = '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' + "
    "message['content'] | trim + '<|eot_id|>' %}{% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}"
    "{{ content }}{% endfor %}{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
TEMPLATE_CHATML = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n' }}{% endif %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
TEMPLATE_GEMMA_TEXT = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}{% set role = 'model' if message['role'] == 'assistant' else message['role'] %}"
    "{{ '<start_of_turn>' + role + '\n' + message['content'] | trim + '<end_of_turn>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)


# Tokenizers


def fast(tokenizer, special, bos=None, **names):
    """With `bos` in front of what is encoded, if there is one."""
    if bos:
        ids = [(bos, special.index(bos))]
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{bos} $A", pair=f"{bos} $A {bos} $B", special_tokens=ids
        )
        names["bos_token"] = bos
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names)


def llama_like():
    return fast(llama_like_tokenizer(BASIC), BASIC, "<s>", unk_token="<unk>", eos_token="</s>", pad_token="<pad>")


def gemma_like(special=GEMMA, **more):
    tokenizer = llama_like_tokenizer(special, prefix=None)
    return fast(tokenizer, special, "<bos>", unk_token="<unk>", eos_token="<eos>", pad_token="<pad>", **more)


def qwen_like(special=CHATML, **more):
    """Qwen's own splitting; nothing is added in front."""
    tokenizer = byte_level_tokenizer(special)
    tokenizer.normalizer = normalizers.NFC()
    words = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(words), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ])
    return fast(tokenizer, special, eos_token="<|im_end|>", pad_token="<|endoftext|>", **more)


# The layout of Hub checkpoints


def older_fields(config):
    """The fields of a configuration as the Hub has them: what differs from the defaults, and rope in the old way."""
    fields = config.to_diff_dict()
    for name in ["transformers_version", "layer_types", "architectures", "dtype", "_name_or_path"]:
        fields.pop(name, None)
    rope = fields.pop("rope_parameters", None)
    if rope and "full_attention" in rope:  # Gemma 3
        fields["rope_local_base_freq"] = rope["sliding_attention"]["rope_theta"]
        rope = rope["full_attention"]
    if rope:
        scaling = {name: value for name, value in rope.items() if name != "rope_theta"}
        fields["rope_theta"] = rope["rope_theta"]
        fields["rope_scaling"] = None if scaling == {"rope_type": "default"} else scaling
    return fields


def write_older_config(folder, config, architecture, **fields):
    write_json(folder / "config.json", {
        "architectures": [architecture], "model_type": config.model_type, **older_fields(config), **fields,
        "torch_dtype": "float32", "transformers_version": "4.51.0",
    })


# Text-only families


def text_samples():
    """The longer ones exceed every window by far."""
    return [
        ([user("What is in this picture?"), assistant("A small red square.")], False),
        ([user("Describe the image in one sentence, caf\u00e9, \u6f22\u5b57 and \U0001f642.\nA second line.")], True),
        ([user(" One? "), assistant("Yes."), user("Compare the first  with the second."), assistant("No, \u00e9t\u00e9. ")], False),
    ]


def text_models():
    """name -> (tokenizer, its template, configuration, fields of the older layout or None)"""
    tiny = dict(hidden_size=32, intermediate_size=48, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2,
                max_position_embeddings=256, use_cache=True)
    rope = lambda theta, **more: {"rope_type": "default", "rope_theta": theta, **more}
    basic = dict(bos_token_id=1, eos_token_id=2, pad_token_id=3)

    def llama():
        tokenizer = fast(byte_level_tokenizer(LLAMA3), LLAMA3, LLAMA3[0], eos_token="<|eot_id|>")
        # Wavelengths 6, 14, 30 (between the two bounds), 65 and more.
        scaled = rope(500.0, rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
                      original_max_position_embeddings=64)
        config = LlamaConfig(**tiny | dict(vocab_size=len(tokenizer), head_dim=16, attention_bias=True, tie_word_embeddings=True,
                             rms_norm_eps=1e-5, rope_parameters=scaled, bos_token_id=0, eos_token_id=[1, 4]))
        return tokenizer, TEMPLATE_LLAMA3, config, {}

    def mistral():
        tokenizer = llama_like()
        config = MistralConfig(**tiny | dict(vocab_size=len(tokenizer), sliding_window=8, rms_norm_eps=1e-5,
                               rope_parameters=rope(10000.0), **basic))
        return tokenizer, None, config, None

    def qwen2():
        tokenizer = qwen_like()
        config = Qwen2Config(**tiny | dict(vocab_size=len(tokenizer), num_hidden_layers=2, tie_word_embeddings=True,
                             rope_parameters=rope(1000000.0), bos_token_id=0, eos_token_id=2))
        return tokenizer, TEMPLATE_CHATML, config, dict(use_sliding_window=False, sliding_window=4, max_window_layers=1)

    def qwen2_sliding():
        tokenizer = llama_like()
        layers = ["sliding_attention", "full_attention", "sliding_attention"]
        config = Qwen2Config(**tiny | dict(vocab_size=len(tokenizer), num_key_value_heads=1, use_sliding_window=True,
                             sliding_window=6, layer_types=layers, rope_parameters=rope(10000.0), rms_norm_eps=1e-5, **basic))
        return tokenizer, None, config, None

    def qwen3():
        tokenizer = qwen_like()
        config = Qwen3Config(**tiny | dict(vocab_size=len(tokenizer), hidden_size=24, num_attention_heads=2, num_key_value_heads=1,
                             head_dim=16, use_sliding_window=True, sliding_window=7, max_window_layers=1,
                             rope_parameters=rope(1000000.0), bos_token_id=0, eos_token_id=2))
        return tokenizer, TEMPLATE_CHATML, config, {}

    def gemma3():
        tokenizer = gemma_like()
        ropes = {"full_attention": rope(100000.0, rope_type="linear", factor=8.0), "sliding_attention": rope(1000.0)}
        config = Gemma3TextConfig(**tiny | dict(vocab_size=len(tokenizer), head_dim=12, query_pre_attn_scalar=20, sliding_window=8,
                                  sliding_window_pattern=3, num_hidden_layers=4, rope_parameters=ropes,
                                  final_logit_softcapping=3.0, attn_logit_softcapping=2.0))
        return tokenizer, TEMPLATE_GEMMA_TEXT, config, dict(sliding_window_pattern=3)

    return {"text-llama": llama, "text-mistral": mistral, "text-qwen2": qwen2, "text-qwen2-sliding": qwen2_sliding,
            "text-qwen3": qwen3, "text-gemma3": gemma3}


def make_text(folder, make, generator, rng):
    tokenizer, tokenizer.chat_template, config, older = make()
    model = AutoModelForCausalLM.from_config(config)
    randomise(model, generator, norm=0 if "gemma" in config.model_type else 1)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    if older is not None:
        write_older_config(folder, config, type(model).__name__, **older)
    return model, text_samples()


# What transformers computes


class Recorder:
    """What enters the first block, leaves each block and leaves the final norm.

    Hooks rather than `output_hidden_states`: these see a block's output before anything is added to it (Qwen3-VL).
    """

    def __init__(self, decoder):
        self.seen = {}
        keep = lambda name: lambda _, __, out: self.seen.__setitem__(name, out[0] if isinstance(out, tuple) else out)
        first = lambda _, args, kwargs: self.seen.__setitem__(0, args[0] if args else kwargs["hidden_states"])
        decoder.layers[0].register_forward_pre_hook(first, with_kwargs=True)
        for layer, block in enumerate(decoder.layers):
            block.register_forward_hook(keep(layer + 1))
        decoder.norm.register_forward_hook(keep("norm"))
        self.layers = len(decoder.layers)

    def tensors(self):
        hidden = {f"hidden.{layer}": self.seen[layer][0] for layer in range(self.layers)}
        return hidden | {f"hidden.{self.layers}": self.seen["norm"][0], "blocks_out": self.seen[self.layers][0]}


def prepare(folder, reader, messages, generate):
    """The rendered text, the paths of the pictures, and what the model is given."""
    paths = [p["path"] for m in messages for p in m["content"] if p["type"] == "image"]
    if not hasattr(reader, "image_processor"):
        strings = [m | {"content": "".join(p["text"] for p in m["content"])} for m in messages]
        if reader.chat_template is None:
            text = "\n".join(m["content"] for m in strings)
            return text, paths, reader(text, return_tensors="pt")
        text = reader.apply_chat_template(strings, add_generation_prompt=generate, tokenize=False)
        return text, paths, reader(text, return_tensors="pt", add_special_tokens=False)
    raise NotImplementedError


@torch.no_grad()
def golden(folder, made, listed, seed):
    """Load the checkpoint as a user would, run the samples, and write what came out."""
    multimodal = (folder / "images").exists()
    reader = (AutoProcessor if multimodal else AutoTokenizer).from_pretrained(folder)
    auto = AutoModelForImageTextToText if multimodal else AutoModelForCausalLM
    model = auto.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    saved, loaded = dict(made.named_parameters()), dict(model.named_parameters())
    assert saved.keys() == loaded.keys() and all(torch.equal(saved[name], loaded[name]) for name in saved)
    made.set_attn_implementation("eager")
    tokenizer = getattr(reader, "tokenizer", reader)
    decoder = model.model.language_model if hasattr(model.model, "language_model") else model.model
    recorder = Recorder(decoder)
    image_id = getattr(model.config, "image_token_id", None)
    tensors, rendered, as_listed = {}, [], True
    for n, (messages, generate) in enumerate(listed):
        text, paths, inputs = prepare(folder, reader, messages, generate)
        out = model(**inputs, output_hidden_states=True)
        put = lambda name, value: tensors.__setitem__(f"sample{n}.{name}", value.contiguous().numpy())
        ids = inputs.input_ids[0]
        put("ids", ids)
        put("modality", (ids == image_id).to(torch.uint8) if multimodal else torch.zeros_like(ids, dtype=torch.uint8))
        for name, value in recorder.tensors().items():
            put(name, value.clone())
        put("logits", out.logits[0, -LOGITS:])
        # The configuration as written means the same as the one it was made with.
        assert torch.equal(made.eval()(**inputs).logits, out.logits)
        theirs = {f"hidden.{layer}": hidden[0] for layer, hidden in enumerate(out.hidden_states)}
        as_listed &= all(np.array_equal(tensors[f"sample{n}.{name}"], value) for name, value in theirs.items())
        rendered.append({
            "name": f"sample{n}", "rendered": text, "images": paths, "tokens": len(ids),
            "text_tokens": tokenizer.convert_ids_to_tokens([i for i in ids.tolist() if i != image_id]),
        })
    save_file(tensors, folder / "golden.safetensors")
    write_json(folder / "samples.json", [
        {"name": f"sample{n}", "messages": messages, "add_generation_prompt": generate}
        for n, (messages, generate) in enumerate(listed)
    ], indent=1)
    backend = {"image_backend": reader.image_processor.backend} if multimodal else {}
    assert backend.get("image_backend", "pil") == "pil"
    write_json(folder / "golden.json", {
        "seed": seed, "versions": versions(), **backend, "attention": "eager, f32",
        "hidden": "hidden.0 enters the first block, hidden.L + 1 is what leaves block L; the last is after the final norm, "
                  "blocks_out is before it",
        "equals_output_hidden_states": bool(as_listed), "samples": rendered,
    }, indent=1)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    families = {name: (make_text, make) for name, make in text_models().items()}
    parser.add_argument("--only", nargs="+", choices=families, default=list(families), metavar="NAME")
    args = parser.parse_args()
    torch.set_num_threads(2)
    for name in args.only:
        folder, seed = args.out / name, [args.seed, zlib.crc32(name.encode())]
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        generator = torch.Generator().manual_seed(args.seed << 32 | seed[1])
        family, make = families[name]
        made, listed = family(folder, make, generator, np.random.default_rng(seed))
        golden(folder, made, listed, args.seed)


if __name__ == "__main__":
    main()
