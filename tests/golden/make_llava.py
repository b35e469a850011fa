"""Golden files for LLaVA-1.5: two tiny random checkpoints, and what transformers computes with them.

Needs Python 3.11 with torch 2.15, transformers 5.23, pillow, tokenizers and safetensors, and no
torchvision (the processor then resizes with Pillow, which is what we match).

    python make_llava.py --seed 0 --out tests/golden

llava-a   the layout of the older Hub checkpoints; grouped queries, features of the last vision block but
          one without CLS, biased projector, untied head, Llama-like tokenizer with byte fallback.
llava-b   as transformers 5 saves it; no grouped queries, two vision layers side by side with CLS, projector
          without bias, tied embeddings, attention and MLP biases, byte-level tokenizer, picture sides that differ
          from the crop.
resize.safetensors   Pillow's resize alone: `imgN` [h, w, 3] u8 and `imgN.FILTER.WxH` u8.

In golden.safetensors of each, for sample N: `sampleN.ids` [tokens] i64, `sampleN.pixel_values` [images, 3, h, w],
`sampleN.hidden.L` [tokens, d] for every entry of transformers' `hidden_states` (0: the embeddings with
the images in; the last one: after the final norm), `sampleN.blocks_out` [tokens, d] (what leaves the last block,
before the norm), `sampleN.image_features` [images, tokens, d] and
`sampleN.logits` [8, vocabulary] (of the last 8 positions), f32.
"""

import argparse
import json
import shutil
from pathlib import Path

import numpy as np
import torch
from common import (
    LOGITS, SPECIAL, byte_level_tokenizer, llama_like_tokenizer, randomise, samples, versions, write_images, write_json,
)
from PIL import Image
from safetensors.numpy import load_file, save_file
from tokenizers import processors
from transformers import (
    AutoProcessor,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
)
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

# The template of the llava-hf checkpoints: images first, then the texts.
TEMPLATE_A = (
    "{% for message in messages %}{% if message['role'] != 'system' %}{{ message['role'].upper() + ': '}}{% endif %}"
    "{# Render all images first #}{% for content in message['content'] | selectattr('type', 'equalto', 'image') %}"
    "{{ '<image>\n' }}{% endfor %}{# Render all text next #}{% if message['role'] != 'assistant' %}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'text') %}{{ content['text'] + ' '}}{% endfor %}"
    "{% else %}{% for content in message['content'] | selectattr('type', 'equalto', 'text') %}"
    "{% generation %}{{ content['text'] + ' '}}{% endgeneration %}{% endfor %}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
)
# Parts in their order, blocks on lines of their own (trim_blocks and lstrip_blocks matter).
TEMPLATE_B = """{% for message in messages %}
    {% if message['role'] not in ['user', 'assistant', 'system'] %}
        {{ raise_exception('unknown role ' + message['role']) }}
    {% endif %}
    {{- '[' + message['role'] | upper + ']' }}
    {% for part in message['content'] %}
        {% if part['type'] == 'image' %}
{{ '<image>' }}
        {%- else %}
            {%- if message['role'] == 'assistant' %}{% generation %}{{ part['text'] }}{% endgeneration %}{% else %}{{ part['text'] | trim }}{% endif %}
        {%- endif %}
    {% endfor %}
    {{- eos_token if message['role'] == 'assistant' else '\\n' }}
{% endfor %}
{% if add_generation_prompt %}{{ '[ASSISTANT]' }}{% endif %}
"""


def processor(tokenizer, template, patch, strategy, **images):
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", SPECIAL.index("<s>"))]
    )
    names = dict(unk_token="<unk>", bos_token="<s>", eos_token="</s>", pad_token="<pad>")
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names, extra_special_tokens={"image_token": "<image>"})
    return LlavaProcessor(
        image_processor=CLIPImageProcessorPil(**images),
        tokenizer=fast,
        patch_size=patch,
        vision_feature_select_strategy=strategy,
        num_additional_image_tokens=1,
        chat_template=template,
    )


def configs(vocabulary):
    tokens = dict(bos_token_id=1, eos_token_id=2, pad_token_id=3)
    a = LlavaConfig(
        vision_config=CLIPVisionConfig(
            hidden_size=24, intermediate_size=40, num_hidden_layers=3, num_attention_heads=3, image_size=28, patch_size=7,
            projection_dim=24,
        ),
        text_config=LlamaConfig(
            vocab_size=vocabulary["a"], hidden_size=32, intermediate_size=56, num_hidden_layers=3, num_attention_heads=4,
            num_key_value_heads=2, max_position_embeddings=512, rms_norm_eps=1e-5,
            rope_parameters={"rope_type": "default", "rope_theta": 10000.0}, **tokens,
        ),
        image_token_index=SPECIAL.index("<image>"), image_seq_length=16,
    )
    b = LlavaConfig(
        vision_config=CLIPVisionConfig(
            hidden_size=16, intermediate_size=36, num_hidden_layers=4, num_attention_heads=2, image_size=32, patch_size=8,
            projection_dim=16, hidden_act="gelu", layer_norm_eps=1e-6,
        ),
        text_config=LlamaConfig(
            vocab_size=vocabulary["b"], hidden_size=40, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
            num_key_value_heads=2, max_position_embeddings=256, rms_norm_eps=1e-6, attention_bias=True, mlp_bias=True,
            head_dim=16, rope_parameters={"rope_type": "default", "rope_theta": 500000.0}, tie_word_embeddings=True, **tokens,
        ),
        image_token_index=SPECIAL.index("<image>"), image_seq_length=17, vision_feature_layer=[1, -1],
        vision_feature_select_strategy="full", multimodal_projector_bias=False, projector_hidden_act="gelu_pytorch_tanh",
        tie_word_embeddings=True,
    )
    return a, b


def to_older_layout(folder, image_fields):
    """Rewrite a fresh checkpoint as the older Hub ones are: other tensor names, fewer fields, separate files."""
    tensors = load_file(folder / "model.safetensors")
    renamed = {}
    for name, tensor in tensors.items():
        renamed[name.replace("vision_tower.", "vision_tower.vision_model.", 1)] = tensor
    save_file(renamed, folder / "model.safetensors", metadata={"format": "pt"})

    saved = json.loads((folder / "config.json").read_text())
    keep = lambda part, names: {name: part[name] for name in names.split()}
    text = keep(saved["text_config"], "hidden_size intermediate_size max_position_embeddings model_type num_attention_heads "
                "num_hidden_layers num_key_value_heads rms_norm_eps vocab_size")
    vision = keep(saved["vision_config"], "hidden_size image_size intermediate_size model_type num_attention_heads "
                  "num_hidden_layers patch_size projection_dim")
    config = {
        "architectures": ["LlavaForConditionalGeneration"],
        "ignore_index": -100,
        "image_token_index": saved["image_token_index"],
        "model_type": "llava",
        "pad_token_id": 3,
        "text_config": text | {"rope_theta": 10000.0, "rope_scaling": None, "torch_dtype": "float16"},
        "torch_dtype": "float32",
        "transformers_version": "4.36.0.dev0",
        "vision_config": vision,
    }
    dump = lambda name, value: write_json(folder / name, value)
    dump("config.json", config)
    dump("preprocessor_config.json", image_fields | {
        "do_center_crop": True, "do_convert_rgb": True, "do_normalize": True, "do_rescale": True, "do_resize": True,
        "image_mean": [0.48145466, 0.4578275, 0.40821073], "image_std": [0.26862954, 0.26130258, 0.27577711],
        "image_processor_type": "CLIPImageProcessor", "processor_class": "LlavaProcessor", "resample": 3,
        "rescale_factor": 1 / 255,
    })
    dump("processor_config.json", {
        "image_token": "<image>", "num_additional_image_tokens": 1, "patch_size": 7, "processor_class": "LlavaProcessor",
        "vision_feature_select_strategy": "default",
    })
    template = folder / "chat_template.jinja"
    dump("chat_template.json", {"chat_template": template.read_text()})
    template.unlink()


@torch.no_grad()
def golden(folder, seed):
    """Load the checkpoint as a user would, run the samples, and write what came out."""
    processor = AutoProcessor.from_pretrained(folder)
    model = LlavaForConditionalGeneration.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    last = []
    model.model.language_model.layers[-1].register_forward_hook(lambda _, __, out: last.append(out))
    tensors, listed, rendered = {}, [], []
    for n, (messages, generate) in enumerate(samples()):
        text = processor.apply_chat_template(messages, add_generation_prompt=generate)
        paths = [p["path"] for m in messages for p in m["content"] if p["type"] == "image"]
        inputs = processor(text=text, images=[Image.open(folder / p) for p in paths] or None, return_tensors="pt")
        out = model(**inputs, output_hidden_states=True)
        put = lambda name, value: tensors.__setitem__(f"sample{n}.{name}", value.contiguous().numpy())
        put("ids", inputs.input_ids[0])
        if paths:
            put("pixel_values", inputs.pixel_values)
            put("image_features", torch.stack(list(model.get_image_features(inputs.pixel_values).pooler_output)))
        for layer, hidden in enumerate(out.hidden_states):
            put(f"hidden.{layer}", hidden[0])
        put("blocks_out", (last[-1][0] if isinstance(last[-1], tuple) else last[-1]).reshape(out.hidden_states[0][0].shape))
        put("logits", out.logits[0, -LOGITS:])
        listed.append({"name": f"sample{n}", "messages": messages, "add_generation_prompt": generate})
        rendered.append({
            "name": f"sample{n}", "rendered": text, "images": paths, "tokens": inputs.input_ids.shape[1],
            "text_tokens": processor.tokenizer.convert_ids_to_tokens([i for i in inputs.input_ids[0].tolist() if i != 4]),
        })
    save_file(tensors, folder / "golden.safetensors")
    write_json(folder / "samples.json", listed, indent=1)
    facts = {
        "seed": seed, "versions": versions(), "image_backend": processor.image_processor.backend, "attention": "eager, f32",
        "hidden": "hidden.L is transformers' hidden_states[L]; the last is after the final norm, blocks_out is before it",
        "samples": rendered,
    }
    write_json(folder / "golden.json", facts, indent=1)


def resize_golden(path, rng):
    filters = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC, "lanczos": Image.Resampling.LANCZOS}
    tensors = {}
    for n, (width, height) in enumerate([(37, 23), (16, 50), (40, 40)]):
        pixels = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        if n == 2:  # a hard edge: where bicubic and lanczos overshoot
            pixels[:, :20], pixels[:, 20:] = 0, 255
            pixels[15:25, 10:30] = 200
        tensors[f"img{n}"] = pixels
        for name, resampling in filters.items():
            for size in [(20, 20), (50, 31), (7, 90), (width, 12)]:
                tensors[f"img{n}.{name}.{size[0]}x{size[1]}"] = np.array(Image.fromarray(pixels).resize(size, resampling))
    save_file(tensors, path)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    args = parser.parse_args()
    rng = np.random.default_rng(args.seed)
    generator = torch.Generator().manual_seed(args.seed)
    a_images = {"size": {"shortest_edge": 28}, "crop_size": {"height": 28, "width": 28}}
    b_images = {
        "size": {"shortest_edge": 41}, "crop_size": {"height": 32, "width": 32}, "resample": 2,
        "image_mean": [0.5, 0.45, 0.4], "image_std": [0.25, 0.3, 0.5],
    }
    processors_ab = [
        processor(llama_like_tokenizer(), TEMPLATE_A, 7, "default", **a_images),
        processor(byte_level_tokenizer(), TEMPLATE_B, 8, "full", **b_images),
    ]
    sizes = {name: len(p.tokenizer) for name, p in zip("ab", processors_ab)}
    for name, config, made in zip("ab", configs(sizes), processors_ab):
        folder = args.out / f"llava-{name}"
        shutil.rmtree(folder, ignore_errors=True)
        write_images(folder / "images", rng)
        model = LlavaForConditionalGeneration(config)
        randomise(model, generator)
        model.save_pretrained(folder)
        made.save_pretrained(folder)
        if name == "a":
            to_older_layout(folder, a_images)
        golden(folder, args.seed)
    resize_golden(args.out / "resize.safetensors", rng)


if __name__ == "__main__":
    main()
