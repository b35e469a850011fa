"""Golden files of every other family: tiny random checkpoints, and what transformers computes with them.

Needs what make_llava.py needs: Python 3.11 with torch 2.15, transformers 5.23.0, pillow, tokenizers and safetensors,
and no torchvision. A folder's random numbers depend on the seed and its name alone.

    python make_models.py --seed 0 --out tests/golden [--only NAME ...]

text-llama          as the Hub has it; `llama3` rope whose three bands all occur, attention biases, tied head, template.
text-mistral        as transformers 5 saves it; grouped queries, sliding window of 8, a base model without a template.
text-qwen2          as the Hub has it; a window is written and switched off; ChatML.
text-qwen2-sliding  as transformers 5 saves it; `layer_types` say which layers slide; a base model.
text-qwen3          as the Hub has it; wide heads with norms of q and k, layers from `max_window_layers` on slide.
text-gemma          as the Hub has it; its activation function under the name of the first files, every head with its own keys.
text-gemma2         as transformers 5 saves it; every other layer slides, products in attention and logits capped, a base model.
text-gemma3         as the Hub has it; local and global layers, linear rope for the global ones, soft-capped logits.
llava-c             LLaVA-1.5 with a Qwen2 decoder, as transformers 5 saves it.
llava-next-a        as the Hub has it; Mistral decoder with grouped queries and a window.
llava-next-b        as transformers 5 saves it; Qwen2 decoder, two vision layers side by side, other tilings.
llava_onevision-a   as the Hub has it; patches that leave a rest of every tile, positions of tiles interpolated (anyres_max_4).
llava_onevision-b   as transformers 5 saves it; two vision layers side by side, only some images interpolated (anyres_max_9).
smolvlm-a           as the Hub has it; tiles beside the whole image, 4 x 4 patches a position.
smolvlm-b           as transformers 5 saves it; images that are not divided, tied head.
idefics3-a          as the Hub has it; patches that leave a rest of every tile, rows and columns as plain text.
mistral3-a          as the Hub has it; Pixtral's tower without its last block, 2 x 2 patches merged, a window.
mistral3-e          as transformers 5 saves it; 3 x 3 patches, biases in the projector, tied head. (The numbers of the names b to d
                    amplify the rounding of bf16 weights.)
internvl-a          as the Hub has it; tiles and the whole image, biases in attention, patches that leave a rest of every tile.
internvl-b          as transformers 5 saves it; RMSNorm in the tower without its last block, 4 x 4 patches a position, at least two tiles.
qwen2_5_vl-a        as the Hub has it, all text fields at the top; windows of 2 x 2 merged patches, untied head.
qwen2_5_vl-b        as transformers 5 saves it; windows of 3 x 3, full attention first and last, tied head.
qwen3_vl-a          as the Hub has it; features of two vision blocks added behind the first two text blocks.
qwen3_vl-b          as transformers 5 saves it; none added, tied head.
gemma3-a            as the Hub has it; windows narrower than an image, linear rope for the global layers.
gemma3-b            as transformers 5 saves it; a vision head that nothing uses, soft caps that are read and not applied.
gemma4-a            as the Hub has it; blocks without a window have wider heads, of which a quarter is rotated, and values that are
                    their keys; standardized channels of the tower.
gemma4-b            as transformers 5 saves it; windows wider than an image, shared keys in the tower, other rotations, untied head.
paligemma-a         as the Hub has it; Gemma decoder, places in an answer, patches that leave a rest of the image. (The files of both
                    lack the tokens of places and shapes, which the processor adds.)
paligemma-b         as transformers 5 saves it; Gemma 2 decoder whose windows are narrower than an image, untied head.
chameleon-a         as the Hub has it; attention in the image tokenizer at its lower resolution, grouped queries.
chameleon-b         as transformers 5 saves it; norms behind the sublayers (swin), two channels a group, codes not in order.

golden.safetensors as make_llava.py's, but `sampleN.image_features` [image positions, d] in one row; for sample N also
`sampleN.modality` [tokens] u8 (1: an image's position), and what else the processor returns beside the pixel values
(`image_sizes`, `image_grid_thw`), i64; `sampleN.positions` [3, tokens] i64 where positions have three axes;
`sampleN.image_codes` [image positions] i64 where codes stand for an image (Chameleon).
"""

import argparse
import importlib
import json
import shutil
import sys
import zlib
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from common import (
    LOGITS, assistant, byte_level_tokenizer, llama_like_tokenizer, randomise, samples, user, versions, write_images,
    write_json,
)
from PIL import Image
from safetensors.numpy import load_file, save_file
from tokenizers import Regex, normalizers, pre_tokenizers, processors
from transformers import (
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoProcessor,
    AutoTokenizer,
    ChameleonConfig,
    ChameleonProcessor,
    CLIPVisionConfig,
    Gemma2Config,
    Gemma3Config,
    Gemma3Processor,
    Gemma3TextConfig,
    Gemma4Config,
    Gemma4Processor,
    GemmaConfig,
    Idefics3Config,
    Idefics3Processor,
    InternVLConfig,
    InternVLProcessor,
    LlamaConfig,
    LlavaConfig,
    LlavaNextConfig,
    LlavaNextProcessor,
    LlavaOnevisionConfig,
    LlavaOnevisionProcessor,
    LlavaProcessor,
    Mistral3Config,
    MistralConfig,
    PaliGemmaConfig,
    PaliGemmaProcessor,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2_5_VLConfig,
    Qwen2_5_VLProcessor,
    Qwen3Config,
    Qwen3VLConfig,
    Qwen3VLProcessor,
    SiglipVisionConfig,
    SmolVLMConfig,
    SmolVLMProcessor,
)
from transformers.processing_utils import ProcessorMixin
from transformers.models.chameleon.image_processing_pil_chameleon import ChameleonImageProcessorPil
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.gemma3.image_processing_pil_gemma3 import Gemma3ImageProcessorPil
from transformers.models.gemma4.image_processing_pil_gemma4 import Gemma4ImageProcessorPil
from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import GotOcr2ImageProcessorPil
from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil
from transformers.models.llava_next.image_processing_pil_llava_next import LlavaNextImageProcessorPil
from transformers.models.llava_onevision.image_processing_pil_llava_onevision import LlavaOnevisionImageProcessorPil
from transformers.models.pixtral import image_processing_pil_pixtral
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
from transformers.models.smolvlm import processing_smolvlm
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil
from transformers.models.smolvlm.image_processing_pil_smolvlm import SmolVLMImageProcessorPil
from transformers.models.smolvlm.modeling_smolvlm import SmolVLMVisionEmbeddings

# Its module asks the image processor with torchvision for a function that the other one has too.
sys.modules["transformers.models.pixtral.image_processing_pixtral"] = image_processing_pil_pixtral
PixtralProcessor = importlib.import_module("transformers.models.pixtral.processing_pixtral").PixtralProcessor

BASIC = ["<unk>", "<s>", "</s>", "<pad>"]
CHATML = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
QWEN_VL = CHATML + ["<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"]
LLAMA3 = ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
GEMMA = ["<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>"]

TEMPLATE_LLAMA3 = (
    "{% for message in messages %}{% set content = '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' + "
    "message['content'] | trim + '<|eot_id|>' %}{% if loop.index0 == 0 %}{% set content = bos_token + content %}"
    "{% endif %}{{ content }}{% endfor %}{% if add_generation_prompt %}"
    "{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
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
    "{{ raise_exception('roles must alternate') }}{% endif %}"
    "{% set role = 'model' if message['role'] == 'assistant' else message['role'] %}"
    "{{ '<start_of_turn>' + role + '\n' + message['content'] | trim + '<end_of_turn>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)
# Image parts where they stand; IMAGE is what the family writes for one.
TEMPLATE_CHATML_PARTS = (
    "{% for message in messages %}{% if loop.first and message['role'] != 'system' %}<|im_start|>system\nYou see.<|im_end|>\n"
    "{% endif %}<|im_start|>{{ message['role'] }}\n{% if message['content'] is string %}{{ message['content'] }}<|im_end|>\n"
    "{% else %}{% for content in message['content'] %}{% if content['type'] == 'image' or 'image' in content %}IMAGE"
    "{% elif 'text' in content %}{{ content['text'] }}{% endif %}{% endfor %}<|im_end|>\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
TEMPLATE_GEMMA = """{{ bos_token }}
{%- for message in messages -%}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) -%}
        {{ raise_exception("Conversation roles must alternate user/assistant/user/assistant/...") }}
    {%- endif -%}
    {%- set role = 'model' if message['role'] == 'assistant' else message['role'] -%}
    {{ '<start_of_turn>' + role + '\n' }}
    {%- if message['content'] is string -%}
        {{ message['content'] | trim }}
    {%- else -%}
        {%- for item in message['content'] -%}
            {%- if item['type'] == 'image' -%}
                {{ '<start_of_image>' }}
            {%- elif item['type'] == 'text' -%}
                {{ item['text'] | trim }}
            {%- endif -%}
        {%- endfor -%}
    {%- endif -%}
    {{ '<end_of_turn>\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{ '<start_of_turn>model\n' }}
{%- endif -%}
"""
TEMPLATE_INST = (
    "{% for message in messages %}{% if message['role'] == 'user' %}{{ '[INST] ' }}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'image') %}{{ '<image>\n' }}{% endfor %}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'text') %}{{ content['text'] }}{% endfor %}"
    "{{ ' [/INST]' }}{% else %}{{ ' ' + message['content'][0]['text'] + '</s> ' }}{% endif %}{% endfor %}"
)
TEMPLATE_ONEVISION = (
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + ' '}}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'image') %}{{ '<image>' }}{% endfor %}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'video') %}{{ '<video>' }}{% endfor %}"
    "{% if message['role'] != 'assistant' %}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'text') %}{{ '\n' + content['text'] }}{% endfor %}"
    "{% else %}{% for content in message['content'] | selectattr('type', 'equalto', 'text') %}"
    "{% generation %}{{ '\n' + content['text'] }}{% endgeneration %}{% endfor %}{% endif %}{{'<|im_end|>'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
TEMPLATE_SMOLVLM = (
    "<|im_start|>{% for message in messages %}{{ message['role'] | capitalize }}"
    "{% if message['content'][0]['type'] == 'image' %}{{ ':' }}{% else %}{{ ': ' }}{% endif %}"
    "{% for line in message['content'] %}{% if line['type'] == 'text' %}{{ line['text'] }}"
    "{% elif line['type'] == 'image' %}{{ '<image>' }}{% endif %}{% endfor %}<end_of_utterance>\n{% endfor %}"
    "{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"
)
TEMPLATE_TEKKEN = (
    "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'user' %}{{ '[INST]' }}"
    "{% for part in message['content'] %}{% if part['type'] == 'image' %}{{ '[IMG]' }}{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{{ '[/INST]' }}{% else %}{{ message['content'][0]['text'] + eos_token }}{% endif %}{% endfor %}"
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


def llama_like(special=BASIC, **more):
    tokenizer = llama_like_tokenizer(special)
    return fast(tokenizer, special, "<s>", unk_token="<unk>", eos_token="</s>", pad_token="<pad>", **more)


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
    defaults, fields = type(config)().to_dict(), config.to_dict()
    rope = fields.pop("rope_parameters", None)
    unwritten = ["transformers_version", "layer_types", "architectures", "dtype"]
    fields = {name: value for name, value in fields.items()
              if not name.startswith("_") and name not in unwritten and (name not in defaults or value != defaults[name])}
    if rope and "full_attention" in rope:  # Gemma 3
        fields["rope_local_base_freq"] = rope["sliding_attention"]["rope_theta"]
        rope = rope["full_attention"]
    if rope and rope["rope_type"] != "axial":
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
        ([user(" One? "), assistant("Yes."), user("Compare the first  with the second."), assistant("No, \u00e9t\u00e9. ")],
         False),
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
        config = LlamaConfig(**tiny | dict(vocab_size=len(tokenizer), head_dim=16, attention_bias=True,
                             tie_word_embeddings=True, rms_norm_eps=1e-5, rope_parameters=scaled, bos_token_id=0,
                             eos_token_id=[1, 4]))
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
        # A tokenizer of Qwen's own kind: for this model_type transformers would rebuild any other as such.
        tokenizer = qwen_like()
        layers = ["sliding_attention", "full_attention", "sliding_attention"]
        config = Qwen2Config(**tiny | dict(vocab_size=len(tokenizer), num_key_value_heads=1, use_sliding_window=True,
                             sliding_window=6, layer_types=layers, rope_parameters=rope(10000.0), rms_norm_eps=1e-5,
                             bos_token_id=0, eos_token_id=2))
        return tokenizer, None, config, None

    def qwen3():
        tokenizer = qwen_like()
        config = Qwen3Config(**tiny | dict(vocab_size=len(tokenizer), hidden_size=24, num_attention_heads=2,
                             num_key_value_heads=1, head_dim=16, use_sliding_window=True, sliding_window=7,
                             max_window_layers=1, rope_parameters=rope(1000000.0), bos_token_id=0, eos_token_id=2))
        return tokenizer, TEMPLATE_CHATML, config, {}

    def gemma():
        tokenizer = gemma_like()
        config = GemmaConfig(**tiny | dict(vocab_size=len(tokenizer), head_dim=12, num_key_value_heads=4, attention_bias=True,
                             rope_parameters=rope(10000.0), rms_norm_eps=1e-5))
        return tokenizer, TEMPLATE_GEMMA_TEXT, config, dict(hidden_act="gelu")

    def gemma2():
        tokenizer = gemma_like()
        config = Gemma2Config(**tiny | dict(vocab_size=len(tokenizer), head_dim=12, query_pre_attn_scalar=20, sliding_window=8,
                              num_hidden_layers=4, rope_parameters=rope(1000.0), final_logit_softcapping=3.0,
                              attn_logit_softcapping=2.0))
        return tokenizer, None, config, None

    def gemma3():
        tokenizer = gemma_like()
        ropes = {"full_attention": rope(100000.0, rope_type="linear", factor=8.0), "sliding_attention": rope(1000.0)}
        config = Gemma3TextConfig(**tiny | dict(vocab_size=len(tokenizer), head_dim=12, query_pre_attn_scalar=20,
                                  sliding_window=8, sliding_window_pattern=3, num_hidden_layers=4, rope_parameters=ropes,
                                  final_logit_softcapping=3.0, attn_logit_softcapping=2.0))
        return tokenizer, TEMPLATE_GEMMA_TEXT, config, dict(sliding_window_pattern=3)

    return {"text-llama": llama, "text-mistral": mistral, "text-qwen2": qwen2, "text-qwen2-sliding": qwen2_sliding,
            "text-qwen3": qwen3, "text-gemma": gemma, "text-gemma2": gemma2, "text-gemma3": gemma3}


def make_text(folder, make, generator, rng):
    tokenizer, tokenizer.chat_template, config, older = make()
    model = AutoModelForCausalLM.from_config(config)
    randomise(model, generator, offset=lambda name: "gemma" in config.model_type and "vision_tower" not in name)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    if older is not None:
        write_older_config(folder, config, type(model).__name__, **older)
    return model, text_samples(), AutoTokenizer


# LLaVA and LLaVA-NeXT


def rename(folder, *prefixes):
    """Tensors by the names that they have on the Hub: the first prefix that fits is replaced."""
    tensors, renamed = load_file(folder / "model.safetensors"), {}
    for name, tensor in tensors.items():
        old, new = next((pair for pair in prefixes if name.startswith(pair[0])), ("", ""))
        renamed[new + name[len(old):]] = tensor
    save_file(renamed, folder / "model.safetensors", metadata={"format": "pt"})


def split_processor(folder, processor, kind):
    """The processor's files as the Hub has them: the image processor's apart, the template in JSON."""
    joined = json.loads((folder / "processor_config.json").read_text())
    images = joined.pop("image_processor")
    write_json(folder / "preprocessor_config.json", images | {"image_processor_type": kind})
    write_json(folder / "processor_config.json", joined | {"processor_class": type(processor).__name__})
    template = folder / "chat_template.jinja"
    if template.exists():
        write_json(folder / "chat_template.json", {"chat_template": template.read_text()})
        template.unlink()


def llava_models():
    rope = lambda theta: {"rope_type": "default", "rope_theta": theta}
    image = dict(extra_special_tokens={"image_token": "<image>"})

    def make(tokenizer, template, config, processor, images, patch):
        processor = processor(image_processor=images, tokenizer=tokenizer, patch_size=patch, chat_template=template,
                              vision_feature_select_strategy="default", num_additional_image_tokens=1)
        return config, processor, samples()

    def llava_c():
        tokenizer = qwen_like(CHATML + ["<image>"], **image)
        config = LlavaConfig(
            vision_config=CLIPVisionConfig(hidden_size=16, intermediate_size=24, num_hidden_layers=3, num_attention_heads=2,
                                           image_size=16, patch_size=4, projection_dim=16),
            text_config=Qwen2Config(vocab_size=len(tokenizer), hidden_size=24, intermediate_size=40, num_hidden_layers=2,
                                    num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=256,
                                    rope_parameters=rope(1000000.0), bos_token_id=0, eos_token_id=2),
            image_token_index=3, image_seq_length=16,
        )
        images = CLIPImageProcessorPil(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16})
        return make(tokenizer, TEMPLATE_CHATML_PARTS.replace("IMAGE", "<image>\n"), config, LlavaProcessor, images, 4)

    def next_a():
        tokenizer, tiles = llama_like(BASIC + ["<image>"], **image), [[15, 30], [30, 15], [30, 30], [45, 15], [15, 45]]
        config = LlavaNextConfig(
            vision_config=CLIPVisionConfig(hidden_size=16, intermediate_size=24, num_hidden_layers=3, num_attention_heads=2,
                                           image_size=15, patch_size=5, projection_dim=16),
            text_config=MistralConfig(vocab_size=len(tokenizer), hidden_size=24, intermediate_size=40, num_hidden_layers=3,
                                      num_attention_heads=4, num_key_value_heads=2, head_dim=8, max_position_embeddings=512,
                                      rms_norm_eps=1e-5, sliding_window=12, rope_parameters=rope(1000000.0)),
            image_token_index=4, image_grid_pinpoints=tiles,
        )
        images = LlavaNextImageProcessorPil(size={"shortest_edge": 15}, crop_size={"height": 15, "width": 15},
                                            image_grid_pinpoints=tiles)
        return make(tokenizer, TEMPLATE_INST, config, LlavaNextProcessor, images, 5)

    def next_b():
        tokenizer, tiles = qwen_like(CHATML + ["<image>"], **image), [[12, 12], [12, 36], [36, 12], [24, 24], [12, 24]]
        config = LlavaNextConfig(
            vision_config=CLIPVisionConfig(hidden_size=12, intermediate_size=24, num_hidden_layers=3, num_attention_heads=3,
                                           image_size=12, patch_size=3, projection_dim=12, hidden_act="gelu",
                                           layer_norm_eps=1e-6),
            text_config=Qwen2Config(vocab_size=len(tokenizer), hidden_size=16, intermediate_size=32, num_hidden_layers=2,
                                    num_attention_heads=2, num_key_value_heads=2, max_position_embeddings=512,
                                    rope_parameters=rope(10000.0), tie_word_embeddings=True, bos_token_id=0, eos_token_id=2),
            image_token_index=3, image_grid_pinpoints=tiles, vision_feature_layer=[1, -1], multimodal_projector_bias=False,
            projector_hidden_act="gelu_pytorch_tanh", tie_word_embeddings=True,
        )
        square = {"height": 12, "width": 12}
        images = LlavaNextImageProcessorPil(size=square, crop_size=square, resample=2, image_grid_pinpoints=tiles,
                                            image_mean=[0.5, 0.45, 0.4], image_std=[0.25, 0.3, 0.5])
        return make(tokenizer, TEMPLATE_CHATML_PARTS.replace("IMAGE", "<image>"), config, LlavaNextProcessor, images, 3)

    return {"llava-c": (llava_c, None), "llava-next-a": (next_a, older_llava_next), "llava-next-b": (next_b, None)}


def older_llava_next(folder, model, processor):
    rename(folder, ("model.vision_tower.", "vision_tower.vision_model."), ("vision_tower.", "vision_tower.vision_model."))
    config = model.config
    write_json(folder / "config.json", {
        "architectures": [type(model).__name__], "ignore_index": -100, "image_grid_pinpoints": config.image_grid_pinpoints,
        "image_token_index": config.image_token_index, "model_type": "llava_next", "projector_hidden_act": "gelu",
        "text_config": {"model_type": "mistral", **older_fields(config.text_config), "torch_dtype": "bfloat16"},
        "tie_word_embeddings": False, "torch_dtype": "float32", "transformers_version": "4.41.0.dev0",
        "use_image_newline_parameter": True, "vision_feature_layer": -2, "vision_feature_select_strategy": "default",
        "vision_config": {"model_type": "clip_vision_model", **older_fields(config.vision_config)},
    })
    split_processor(folder, processor, "LlavaNextImageProcessor")


# LLaVA-OneVision


def onevision_models():
    named = dict(extra_special_tokens={"image_token": "<image>", "video_token": "<video>"})

    def make(side, patch, tiles, vision, text, most, mean, std, **config):
        tokenizer = qwen_like(CHATML + ["<image>", "<video>"], **named)
        text = Qwen2Config(vocab_size=len(tokenizer), hidden_size=16, max_position_embeddings=512, bos_token_id=0,
                           eos_token_id=2, **text)
        vision = SiglipVisionConfig(image_size=side, patch_size=patch, vision_use_head=False, **vision)
        config = LlavaOnevisionConfig(vision_config=vision, text_config=text, image_token_index=3, video_token_index=4,
                                      image_grid_pinpoints=tiles, vision_aspect_ratio=most, **config)
        images = LlavaOnevisionImageProcessorPil(size={"height": side, "width": side}, image_grid_pinpoints=tiles,
                                                 image_mean=mean, image_std=std)
        processor = without_videos(LlavaOnevisionProcessor)(
            image_processor=images, tokenizer=tokenizer, num_image_tokens=(side // patch) ** 2,
            vision_feature_select_strategy="full", vision_aspect_ratio=most, chat_template=TEMPLATE_ONEVISION)
        return config, processor, samples()

    def a():
        return make(
            14, 4, [[14 * rows, 14 * columns] for rows in range(1, 5) for columns in range(1, 5)],
            dict(hidden_size=12, intermediate_size=20, num_hidden_layers=2, num_attention_heads=2),
            dict(intermediate_size=24, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1,
                 rope_parameters={"rope_type": "default", "rope_theta": 1000000.0}),
            "anyres_max_4", [0.5] * 3, [0.5] * 3)

    def b():
        return make(
            12, 4, [[12, 12], [36, 48], [48, 24], [48, 48], [12, 36]],
            dict(hidden_size=16, intermediate_size=24, num_hidden_layers=3, num_attention_heads=2),
            dict(intermediate_size=32, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
                 rope_parameters={"rope_type": "default", "rope_theta": 10000.0}, tie_word_embeddings=True),
            "anyres_max_9", [0.5, 0.45, 0.4], [0.25, 0.3, 0.5], vision_feature_layer=[1, -1],
            multimodal_projector_bias=False, projector_hidden_act="gelu_pytorch_tanh", tie_word_embeddings=True)

    return {"llava_onevision-a": (a, older_onevision), "llava_onevision-b": (b, None)}


def older_onevision(folder, model, processor):
    rename(folder, ("model.vision_tower.", "vision_tower.vision_model."), ("vision_tower.", "vision_tower.vision_model."),
           ("model.language_model.", "language_model.model."), ("lm_head.", "language_model.lm_head."),
           ("model.", ""))
    config = model.config
    write_json(folder / "config.json", {
        "architectures": [type(model).__name__], "image_grid_pinpoints": config.image_grid_pinpoints,
        "image_token_index": config.image_token_index, "model_type": "llava_onevision", "projector_hidden_act": "gelu",
        "text_config": {"model_type": "qwen2", **older_fields(config.text_config), "torch_dtype": "bfloat16"},
        "tie_word_embeddings": False, "torch_dtype": "float32", "transformers_version": "4.45.0.dev0",
        "use_image_newline_parameter": True, "video_token_index": config.video_token_index,
        "vision_aspect_ratio": config.vision_aspect_ratio, "vision_feature_layer": -1,
        "vision_feature_select_strategy": "full",
        "vision_config": {"model_type": "siglip_vision_model", **older_fields(config.vision_config)},
    })
    split_processor(folder, processor, "LlavaOnevisionImageProcessor")


# Processors


def without_videos(processor):
    """A processor of images and texts alone: the one for videos exists with torchvision only."""
    changed = {"get_attributes": classmethod(lambda _: ["image_processor", "tokenizer"])}
    if processor is InternVLProcessor:

        def init(self, image_processor=None, tokenizer=None, image_seq_length=256, chat_template=None):
            processor.__init__(self, image_processor, tokenizer, None, image_seq_length, chat_template)

        changed["__init__"] = init
    if processor is Gemma4Processor:

        # It takes processors of videos and audio in any case.
        def init(self, image_processor=None, tokenizer=None, image_seq_length=280, chat_template=None, **_):
            named = [part + "_token" for part in ["image", "boi", "eoi", "audio", "boa", "eoa"]]
            for name in named + ["image_token_id", "audio_token_id"]:
                setattr(self, name, getattr(tokenizer, name))
            tokenizer.add_special_tokens({"additional_special_tokens": ["<|video|>"]})
            self.image_seq_length, self.video_token = image_seq_length, "<|video|>"
            self.video_token_id = tokenizer.convert_tokens_to_ids(self.video_token)
            ProcessorMixin.__init__(self, image_processor=image_processor, tokenizer=tokenizer, chat_template=chat_template)

        changed["__init__"] = init
    if processor is SmolVLMProcessor:
        # It takes a processor of videos in any case, and a package that writes the numbers of frames.
        processing_smolvlm.num2words = processing_smolvlm.num2words or str

        def init(self, image_processor=None, tokenizer=None, image_seq_len=169, chat_template=None):
            processor.__init__(self, image_processor, tokenizer, None, image_seq_len, chat_template)

        changed |= {"__init__": init, "video_processor": SimpleNamespace(num_frames=0, fps=0)}
    return type(processor.__name__, (processor,), changed)


# Idefics3 and SmolVLM


def idefics3_models():
    special = ["<|endoftext|>", "<|im_start|>", "<end_of_utterance>", "<fake_token_around_image>", "<image>"]
    tiles = ["<global-img>"] + [f"<row_{row}_col_{column}>" for row in range(1, 4) for column in range(1, 4)]

    def make(config, images, processor, special, side, patch, scale, vision, text, **more):
        tokenizer = fast(byte_level_tokenizer(special), special, bos_token=special[1], eos_token=special[2],
                         pad_token=special[0], unk_token=special[0])
        config = config(
            image_token_id=4, scale_factor=scale, vision_config=dict(image_size=side, patch_size=patch, **vision),
            text_config=LlamaConfig(vocab_size=len(tokenizer), hidden_size=16, max_position_embeddings=512, bos_token_id=1,
                                    eos_token_id=2, pad_token_id=0, rms_norm_eps=1e-5, **text), **more)
        processor = processor(image_processor=images, tokenizer=tokenizer, image_seq_len=(side // patch // scale) ** 2,
                              chat_template=TEMPLATE_SMOLVLM)
        return config, processor, samples()

    def a():
        images = SmolVLMImageProcessorPil(size={"longest_edge": 32}, max_image_size={"longest_edge": 16})
        return make(
            SmolVLMConfig, images, without_videos(SmolVLMProcessor), special + tiles, 16, 2, 4,
            dict(hidden_size=12, intermediate_size=20, num_hidden_layers=2, num_attention_heads=2),
            dict(intermediate_size=24, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1,
                 rope_parameters={"rope_type": "default", "rope_theta": 100000.0}))

    def b():
        images = SmolVLMImageProcessorPil(size={"longest_edge": 40}, max_image_size={"longest_edge": 12}, resample=3,
                                          do_image_splitting=False, image_mean=[0.5, 0.45, 0.4], image_std=[0.25, 0.3, 0.5])
        return make(
            SmolVLMConfig, images, without_videos(SmolVLMProcessor), special + tiles, 12, 3, 2,
            dict(hidden_size=16, intermediate_size=24, num_hidden_layers=3, num_attention_heads=4, layer_norm_eps=1e-5),
            dict(intermediate_size=32, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2,
                 rope_parameters={"rope_type": "default", "rope_theta": 10000.0}, tie_word_embeddings=True),
            tie_word_embeddings=True)

    def three():
        # The sides of the published models' towers, whose patches have one learned position each.
        for patches in [26, 27, 32]:
            embeddings = SmolVLMVisionEmbeddings(SmolVLMConfig(vision_config=dict(
                hidden_size=1, num_attention_heads=1, image_size=patches, patch_size=1)).vision_config)
            embeddings.position_embedding.weight.data = torch.arange(patches ** 2.0)[:, None]
            found = embeddings(torch.zeros(1, 3, patches, patches), torch.ones(1, patches, patches, dtype=torch.bool))
            bias = embeddings.patch_embedding.bias
            torch.testing.assert_close(found[0, :, 0] - bias, torch.arange(patches ** 2.0), atol=1e-3, rtol=0)
        images = Idefics3ImageProcessorPil(size={"longest_edge": 26}, max_image_size={"longest_edge": 14})
        return make(
            Idefics3Config, images, Idefics3Processor, special, 14, 4, 3,
            dict(hidden_size=12, intermediate_size=16, num_hidden_layers=2, num_attention_heads=3),
            dict(intermediate_size=24, num_hidden_layers=3, num_attention_heads=2, num_key_value_heads=2,
                 rope_parameters={"rope_type": "llama3", "rope_theta": 500.0, "factor": 8.0, "low_freq_factor": 1.0,
                                  "high_freq_factor": 4.0, "original_max_position_embeddings": 64}))

    return {"smolvlm-a": (a, older_idefics3), "smolvlm-b": (b, None), "idefics3-a": (three, older_idefics3)}


def older_idefics3(folder, model, processor):
    config, vision = model.config, older_fields(model.config.vision_config)
    edge = {"longest_edge": config.vision_config.image_size}
    write_json(folder / "config.json", {
        "architectures": [type(model).__name__], "image_token_id": config.image_token_id, "model_type": config.model_type,
        "pad_token_id": 0, "scale_factor": config.scale_factor,
        "text_config": {"model_type": "llama", **older_fields(config.text_config), "is_llama_config": True,
                        "pixel_shuffle_factor": config.scale_factor, "qk_layer_norms": False, "rope_interleaved": False,
                        "torch_dtype": "bfloat16", "use_resampler": False},
        "tie_word_embeddings": False, "torch_dtype": "float32", "transformers_version": "4.46.0", "use_cache": True,
        "vision_config": {"model_type": config.model_type, **vision, "max_image_size": edge,
                          "tie_word_embeddings": False, "use_base_siglip": False},
        "vocab_size": config.text_config.vocab_size,
    })
    split_processor(folder, processor, type(processor.image_processor).__name__.removesuffix("Pil"))


# Mistral 3


def mistral3_models():
    special = BASIC + ["[INST]", "[/INST]", "[IMG]", "[IMG_BREAK]", "[IMG_END]"]

    def make(patch, merge, longest, vision, text, images, **more):
        tokenizer = fast(byte_level_tokenizer(special), special, "<s>", unk_token="<unk>", eos_token="</s>", pad_token="<pad>")
        text = MistralConfig(vocab_size=len(tokenizer), hidden_size=16, max_position_embeddings=512, bos_token_id=1,
                             eos_token_id=2, pad_token_id=3, **text)
        config = Mistral3Config(
            vision_config=dict(model_type="pixtral", patch_size=patch, image_size=longest, **vision), text_config=text,
            image_token_index=6, spatial_merge_size=merge, **more)
        images = image_processing_pil_pixtral.PixtralImageProcessorPil(
            size={"longest_edge": longest}, patch_size={"height": patch, "width": patch}, **images)
        processor = PixtralProcessor(image_processor=images, tokenizer=tokenizer, patch_size=patch, spatial_merge_size=merge,
                                     chat_template=TEMPLATE_TEKKEN)
        return config, processor, samples()

    def a():
        return make(
            4, 2, 48, dict(hidden_size=16, intermediate_size=20, num_hidden_layers=2, num_attention_heads=2,
                           rope_parameters={"rope_type": "axial", "rope_theta": 100.0}),
            dict(intermediate_size=24, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, head_dim=8,
                 rms_norm_eps=1e-5, sliding_window=20, rope_parameters={"rope_type": "default", "rope_theta": 1000000.0}),
            {}, vision_feature_layer=-2, tie_word_embeddings=False)

    def b():
        return make(
            3, 3, 40, dict(hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, hidden_act="silu"),
            dict(intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, sliding_window=None,
                 rope_parameters={"rope_type": "default", "rope_theta": 10000.0}, tie_word_embeddings=True),
            dict(resample=2, image_mean=[0.5, 0.45, 0.4], image_std=[0.25, 0.3, 0.5]),
            multimodal_projector_bias=True, projector_hidden_act="gelu_pytorch_tanh", tie_word_embeddings=True)

    return {"mistral3-a": (a, older_mistral3), "mistral3-e": (b, None)}


def older_mistral3(folder, model, processor):
    rename(folder, ("model.language_model.", "language_model.model."), ("lm_head.", "language_model.lm_head."), ("model.", ""))
    config = model.config
    vision = older_fields(config.vision_config)
    write_json(folder / "config.json", {
        "architectures": [type(model).__name__], "image_token_index": config.image_token_index, "model_type": "mistral3",
        "multimodal_projector_bias": False, "projector_hidden_act": "gelu", "spatial_merge_size": config.spatial_merge_size,
        "text_config": {"model_type": "mistral", **older_fields(config.text_config),
                        "sliding_window": config.text_config.sliding_window},
        "tie_word_embeddings": False, "torch_dtype": "bfloat16", "transformers_version": "4.50.0.dev0",
        "vision_config": {"model_type": "pixtral", **vision, "head_dim": config.vision_config.head_dim,
                          "rope_theta": config.vision_config.rope_parameters["rope_theta"]},
        "vision_feature_layer": config.vision_feature_layer,
    })
    split_processor(folder, processor, "PixtralImageProcessor")


# InternVL


def internvl_models():
    special = CHATML + ["<img>", "</img>", "<IMG_CONTEXT>", "<video>"]
    named = dict(start_image_token="<img>", end_image_token="</img>", context_image_token="<IMG_CONTEXT>", video_token="<video>")

    def make(side, patch, merge, vision, text, images, **more):
        tokenizer = qwen_like(special, extra_special_tokens=named)
        text = Qwen2Config(vocab_size=len(tokenizer), hidden_size=16, max_position_embeddings=512, bos_token_id=0,
                           eos_token_id=2, **text)
        config = InternVLConfig(
            vision_config=dict(image_size=[side, side], patch_size=[patch, patch], **vision), text_config=text, image_token_id=5,
            downsample_ratio=1 / merge, image_seq_length=(side // patch // merge) ** 2, **more)
        images = GotOcr2ImageProcessorPil(size={"height": side, "width": side}, **images)
        processor = without_videos(InternVLProcessor)(
            image_processor=images, tokenizer=tokenizer, image_seq_length=config.image_seq_length,
            chat_template=TEMPLATE_CHATML_PARTS.replace("IMAGE", "<IMG_CONTEXT>\n"))
        return config, processor, samples()

    def a():
        return make(
            18, 4, 2, dict(hidden_size=12, intermediate_size=20, num_hidden_layers=2, num_attention_heads=2, attention_bias=True),
            dict(intermediate_size=24, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1,
                 rope_parameters={"rope_type": "default", "rope_theta": 1000000.0}),
            dict(max_patches=4, image_mean=[0.485, 0.456, 0.406], image_std=[0.229, 0.224, 0.225]),
            tie_word_embeddings=False)

    def b():
        return make(
            16, 2, 4, dict(hidden_size=16, intermediate_size=24, num_hidden_layers=3, num_attention_heads=4, norm_type="rms_norm",
                           hidden_act="gelu_pytorch_tanh", layer_norm_eps=1e-5),
            dict(intermediate_size=32, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2,
                 rope_parameters={"rope_type": "default", "rope_theta": 10000.0}, tie_word_embeddings=True),
            dict(min_patches=2, max_patches=6, resample=2), vision_feature_layer=-2, projector_hidden_act="silu",
            tie_word_embeddings=True)

    return {"internvl-a": (a, older_internvl), "internvl-b": (b, None)}


def older_internvl(folder, model, processor):
    rename(folder, ("model.language_model.", "language_model.model."), ("lm_head.", "language_model.lm_head."), ("model.", ""))
    config = model.config
    write_json(folder / "config.json", {
        "architectures": [type(model).__name__], "downsample_ratio": config.downsample_ratio,
        "image_seq_length": config.image_seq_length, "image_token_id": config.image_token_id, "model_type": "internvl",
        "projector_hidden_act": "gelu",
        "text_config": {"model_type": "qwen2", **older_fields(config.text_config), "torch_dtype": "bfloat16"},
        "tie_word_embeddings": False, "torch_dtype": "bfloat16", "transformers_version": "4.52.0.dev0",
        "vision_config": {"model_type": "internvl_vision", **older_fields(config.vision_config)},
        "vision_feature_layer": -1, "vision_feature_select_strategy": "default",
    })
    split_processor(folder, processor, "GotOcr2ImageProcessorFast")


# Qwen2.5-VL and Qwen3-VL


def qwen_vl_models():
    ids = dict(vision_start_token_id=3, vision_end_token_id=4, image_token_id=5, video_token_id=6)
    text_ids = dict(bos_token_id=0, eos_token_id=2)
    rope = lambda theta, section, **more: {"rope_type": "default", "rope_theta": theta, "mrope_section": section} | more
    template = TEMPLATE_CHATML_PARTS.replace("IMAGE", "<|vision_start|><|image_pad|><|vision_end|>")

    def make(processor, tokenizer, config, least, most, **images):
        processor = without_videos(processor)
        images = Qwen2VLImageProcessorPil(size={"shortest_edge": least, "longest_edge": most}, **images)
        return config, processor(image_processor=images, tokenizer=tokenizer, chat_template=template), samples()

    def a():
        tokenizer = qwen_like(QWEN_VL)
        config = Qwen2_5_VLConfig(
            text_config=dict(vocab_size=len(tokenizer), hidden_size=32, intermediate_size=40, num_hidden_layers=2,
                             num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=512, rms_norm_eps=1e-6,
                             rope_parameters=rope(1000.0, [2, 3, 3]), **text_ids),
            vision_config=dict(depth=3, hidden_size=16, intermediate_size=20, num_heads=2, patch_size=4, window_size=16,
                               out_hidden_size=32, fullatt_block_indexes=[1]),
            **ids,
        )
        return make(Qwen2_5_VLProcessor, tokenizer, config, 640, 1152, patch_size=4)

    def b():
        tokenizer = qwen_like(QWEN_VL)
        config = Qwen2_5_VLConfig(
            text_config=dict(vocab_size=len(tokenizer), hidden_size=24, intermediate_size=32, num_hidden_layers=2,
                             num_attention_heads=3, num_key_value_heads=3, max_position_embeddings=512,
                             rope_parameters=rope(100.0, [1, 2, 1]), **text_ids),
            vision_config=dict(depth=4, hidden_size=24, intermediate_size=20, num_heads=3, patch_size=3, window_size=18,
                               out_hidden_size=24, fullatt_block_indexes=[0, 3]),
            tie_word_embeddings=True, **ids,
        )
        return make(Qwen2_5_VLProcessor, tokenizer, config, 800, 1200, patch_size=3, resample=2)

    def three_a():
        tokenizer = qwen_like(QWEN_VL)
        config = Qwen3VLConfig(
            text_config=dict(vocab_size=len(tokenizer), hidden_size=24, intermediate_size=40, num_hidden_layers=3, head_dim=16,
                             num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=512,
                             rope_parameters=rope(1000.0, [4, 2, 2], mrope_interleaved=True), **text_ids),
            vision_config=dict(depth=3, hidden_size=16, intermediate_size=20, num_heads=2, patch_size=4, out_hidden_size=24,
                               num_position_embeddings=25, deepstack_visual_indexes=[0, 2]),
            **ids,
        )
        return make(Qwen3VLProcessor, tokenizer, config, 640, 1152, patch_size=4, image_mean=[0.5] * 3, image_std=[0.5] * 3)

    def three_b():
        tokenizer = qwen_like(QWEN_VL)
        config = Qwen3VLConfig(
            text_config=dict(vocab_size=len(tokenizer), hidden_size=24, intermediate_size=32, num_hidden_layers=2, head_dim=8,
                             num_attention_heads=2, num_key_value_heads=2, max_position_embeddings=512, attention_bias=True,
                             rope_parameters=rope(100.0, [2, 1, 1], mrope_interleaved=True), **text_ids),
            vision_config=dict(depth=2, hidden_size=24, intermediate_size=20, num_heads=3, patch_size=3, out_hidden_size=24,
                               num_position_embeddings=49, deepstack_visual_indexes=[], hidden_act="gelu"),
            tie_word_embeddings=True, **ids,
        )
        return make(Qwen3VLProcessor, tokenizer, config, 800, 1200, patch_size=3)

    return {"qwen2_5_vl-a": (a, older_qwen2_5_vl), "qwen2_5_vl-b": (b, None), "qwen3_vl-a": (three_a, older_qwen3_vl),
            "qwen3_vl-b": (three_b, None)}


def token_ids(config):
    names = "image_token_id video_token_id vision_start_token_id vision_end_token_id".split()
    return {name: getattr(config, name) for name in names}


def older_qwen2_5_vl(folder, model, processor):
    rename(folder, ("model.visual.", "visual."), ("model.language_model.", "model."))
    config, vision = model.config, older_fields(model.config.vision_config)
    text = older_fields(config.text_config)
    scaling = text.pop("rope_scaling")
    text["rope_scaling"] = {"type": "mrope", "mrope_section": scaling["mrope_section"]}
    write_json(folder / "config.json", {
        "architectures": [type(model).__name__], "model_type": "qwen2_5_vl", **text, "use_sliding_window": False,
        "sliding_window": 8, "max_window_layers": 1, **token_ids(config), "torch_dtype": "float32",
        "transformers_version": "4.41.2",
        "vision_config": vision | {"in_chans": 3, "spatial_patch_size": vision["patch_size"]},
    })
    split_processor(folder, processor, "Qwen2VLImageProcessor")
    (folder / "processor_config.json").unlink()
    saved = json.loads((folder / "preprocessor_config.json").read_text())
    size = saved.pop("size")
    unwritten = ["do_resize", "do_rescale", "do_normalize", "do_convert_rgb", "resample", "rescale_factor"]
    kept = {name: value for name, value in saved.items() if name not in unwritten}
    write_json(folder / "preprocessor_config.json", {
        "min_pixels": size["shortest_edge"], "max_pixels": size["longest_edge"], **kept,
        "processor_class": "Qwen2_5_VLProcessor",
    })


def older_qwen3_vl(folder, model, processor):
    config = model.config
    write_json(folder / "config.json", {
        "architectures": [type(model).__name__], "model_type": "qwen3_vl", **token_ids(config), "tie_word_embeddings": False,
        "text_config": {"model_type": "qwen3_vl_text", **older_fields(config.text_config), "dtype": "bfloat16"},
        "transformers_version": "4.57.0.dev0",
        "vision_config": {"model_type": "qwen3_vl", **older_fields(config.vision_config)},
    })
    split_processor(folder, processor, "Qwen2VLImageProcessorFast")
    (folder / "processor_config.json").unlink()


# Gemma 3


def gemma_models():
    special = GEMMA + ["<start_of_image>", "<end_of_image>", "<image_soft_token>"]
    named = {"boi_token": special[6], "eoi_token": special[7], "image_token": special[8]}
    ids = dict(boi_token_index=6, eoi_token_index=7, image_token_index=8)
    rope = lambda theta, **more: {"rope_type": "default", "rope_theta": theta} | more

    def make(side, tokens, build, **images):
        tokenizer = gemma_like(special, extra_special_tokens=named)
        images = Gemma3ImageProcessorPil(size={"height": side, "width": side}, **images)
        processor = Gemma3Processor(image_processor=images, tokenizer=tokenizer, chat_template=TEMPLATE_GEMMA,
                                    image_seq_length=tokens)
        return build(len(tokenizer)), processor, samples()

    def a():
        build = lambda vocabulary: Gemma3Config(
            text_config=Gemma3TextConfig(
                vocab_size=vocabulary, hidden_size=32, intermediate_size=48, num_hidden_layers=4, num_attention_heads=4,
                num_key_value_heads=2, head_dim=12, max_position_embeddings=512, query_pre_attn_scalar=20, sliding_window=6,
                sliding_window_pattern=2, rope_parameters={
                    "full_attention": rope(100000.0, rope_type="linear", factor=8.0), "sliding_attention": rope(1000.0)}),
            vision_config=dict(model_type="siglip_vision_model", hidden_size=16, intermediate_size=24, num_hidden_layers=2,
                               num_attention_heads=2, image_size=24, patch_size=4, vision_use_head=False),
            mm_tokens_per_image=9, **ids,
        )
        return make(24, 9, build)

    def b():
        build = lambda vocabulary: Gemma3Config(
            text_config=Gemma3TextConfig(
                vocab_size=vocabulary, hidden_size=24, intermediate_size=32, num_hidden_layers=3, num_attention_heads=2,
                num_key_value_heads=1, head_dim=16, max_position_embeddings=512, query_pre_attn_scalar=9, sliding_window=20,
                layer_types=["full_attention", "sliding_attention", "sliding_attention"], rms_norm_eps=1e-5,
                attn_logit_softcapping=2.0, final_logit_softcapping=3.0),
            vision_config=dict(model_type="siglip_vision_model", hidden_size=12, intermediate_size=20, num_hidden_layers=3,
                               num_attention_heads=3, image_size=30, patch_size=5, layer_norm_eps=1e-5),
            mm_tokens_per_image=4, **ids,
        )
        return make(30, 4, build, resample=3, image_mean=[0.5, 0.45, 0.4], image_std=[0.25, 0.3, 0.5])

    return {"gemma3-a": (a, older_gemma3), "gemma3-b": (b, None)}


def older_gemma3(folder, model, processor):
    rename(folder, ("vision_tower.", "vision_tower.vision_model."))
    config = model.config
    write_json(folder / "config.json", {
        "architectures": [type(model).__name__], "boi_token_index": 6, "eoi_token_index": 7, "eos_token_id": [1, 5],
        "image_token_index": 8, "initializer_range": 0.02, "mm_tokens_per_image": config.mm_tokens_per_image,
        "model_type": "gemma3",
        "text_config": {"model_type": "gemma3_text", **older_fields(config.text_config), "sliding_window_pattern": 2},
        "torch_dtype": "float32", "transformers_version": "4.50.0.dev0",
        "vision_config": {"model_type": "siglip_vision_model", **older_fields(config.vision_config)},
    })
    split_processor(folder, processor, "Gemma3ImageProcessor")


# Gemma 4


def gemma4_models():
    special = GEMMA + ["<|image>", "<image|>", "<|image|>", "<|audio>", "<audio|>", "<|audio|>", "<|video|>"]
    named = {"boi_token": special[6], "eoi_token": special[7], "image_token": special[8], "boa_token": special[9],
             "eoa_token": special[10], "audio_token": special[11]}
    ids = dict(boi_token_id=6, eoi_token_id=7, image_token_id=8, boa_token_id=9, eoa_token_index=10, audio_token_id=11,
               video_token_id=12)

    def make(text, vision, images, tied):
        tokenizer = gemma_like(special, extra_special_tokens=named)
        config = Gemma4Config(
            text_config=dict(vocab_size=len(tokenizer), hidden_size_per_layer_input=0, attention_k_eq_v=True,
                             max_position_embeddings=1024, use_bidirectional_attention="vision", **text),
            vision_config=vision, tie_word_embeddings=tied, **ids)
        images = Gemma4ImageProcessorPil(patch_size=vision["patch_size"], pooling_kernel_size=vision["pooling_kernel_size"],
                                         max_soft_tokens=70, **images)
        processor = without_videos(Gemma4Processor)(
            image_processor=images, tokenizer=tokenizer, image_seq_length=70,
            chat_template=TEMPLATE_GEMMA.replace("<start_of_image>", "<|image|>"))
        return config, processor, samples()

    def a():
        return make(
            dict(hidden_size=32, intermediate_size=40, num_hidden_layers=4, num_attention_heads=4, num_key_value_heads=2, head_dim=8,
                 global_head_dim=16, num_global_key_value_heads=1, sliding_window=24, final_logit_softcapping=3.0,
                 layer_types=["sliding_attention", "full_attention", "sliding_attention", "full_attention"]),
            dict(hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=2, head_dim=8,
                 patch_size=2, pooling_kernel_size=3, position_embedding_size=256, standardize=True),
            {}, True)

    def b():
        return make(
            dict(hidden_size=24, intermediate_size=32, num_hidden_layers=3, num_attention_heads=2, num_key_value_heads=1, head_dim=8,
                 global_head_dim=12, num_global_key_value_heads=2, sliding_window=100, rms_norm_eps=1e-5, rope_parameters={
                     "full_attention": {"rope_type": "proportional", "partial_rotary_factor": 0.5, "rope_theta": 1000.0, "factor": 2.0},
                     "sliding_attention": {"rope_type": "default", "rope_theta": 100.0}}),
            dict(hidden_size=12, intermediate_size=20, num_hidden_layers=2, num_attention_heads=3, num_key_value_heads=1, head_dim=8,
                 patch_size=3, pooling_kernel_size=2, position_embedding_size=160, rms_norm_eps=1e-5,
                 rope_parameters={"rope_type": "axial", "rope_theta": 30.0}),
            dict(resample=2), False)

    return {"gemma4-a": (a, older_gemma4), "gemma4-b": (b, None)}


def older_gemma4(folder, model, processor):
    """The heads of the blocks without windows as the Hub has them."""
    config = json.loads((folder / "config.json").read_text())
    text = config["text_config"]
    (heads,) = {tuple(sorted(heads.items())) for heads in text.pop("per_layer_config").values()}
    heads = dict(heads)
    text |= {"global_head_dim": heads["head_dim"], "num_global_key_value_heads": heads["num_key_value_heads"]}
    write_json(folder / "config.json", config)


# PaliGemma


def paligemma_models():
    special = GEMMA + ["<image>"]

    def listed(place):
        """A question with images, and an answer; both are divided into tokens separately."""
        wide, tall, square = "images/wide.png", "images/tall.png", "images/square.png"
        rgba, palette, grey = "images/rgba.png", "images/palette.png", "images/grey.png"
        return [
            ([user(wide, "What is in this picture?"), assistant("A small red square.")], False),
            ([user("Look at this:", tall, " and describe it in one sentence, caf\u00e9.\nA second line.")], True),
            ([user(square, rgba, "Compare the two."), assistant("The first is wider.")], False),
            ([user(palette, "detect \u6f22\u5b57 ; \U0001f642 "), assistant(f"{place}\n red square ;  stripes, \u00e9t\u00e9. ")], False),
            ([user(grey)], True),
        ]

    def make(side, patch, text, vision, named, place, **images):
        tokenizer = gemma_like(special, **named)
        size = len(tokenizer)
        images = SiglipImageProcessorPil(size={"height": side, "width": side}, **images)
        images.image_seq_length = (side // patch) ** 2
        processor = PaliGemmaProcessor(image_processor=images, tokenizer=tokenizer)  # adds the tokens of places and shapes
        build, tied = text
        text = build(len(tokenizer) if place else size)
        config = PaliGemmaConfig(
            vision_config=SiglipVisionConfig(image_size=side, patch_size=patch, vision_use_head=False, **vision),
            text_config=text, image_token_index=6, projection_dim=text.hidden_size, hidden_size=text.hidden_size,
            tie_word_embeddings=tied)
        return config, processor, listed(place)

    rope = lambda theta: {"rope_type": "default", "rope_theta": theta}

    def a():
        build = lambda size: GemmaConfig(
            vocab_size=size, hidden_size=24, intermediate_size=40, num_hidden_layers=3, num_attention_heads=2,
            num_key_value_heads=1, head_dim=16, max_position_embeddings=512, rope_parameters=rope(10000.0))
        vision = dict(hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2)
        return make(18, 4, (build, True), vision, {}, "<loc0012><loc0345><loc1000><loc1023>")

    def b():
        build = lambda size: Gemma2Config(
            vocab_size=size, hidden_size=32, intermediate_size=48, num_hidden_layers=4, num_attention_heads=4,
            num_key_value_heads=2, head_dim=12, max_position_embeddings=512, query_pre_attn_scalar=20, sliding_window=6,
            rope_parameters=rope(1000.0), rms_norm_eps=1e-5, attn_logit_softcapping=2.0, final_logit_softcapping=3.0)
        vision = dict(hidden_size=12, intermediate_size=20, num_hidden_layers=3, num_attention_heads=3, layer_norm_eps=1e-5)
        named = dict(extra_special_tokens={"image_token": "<image>"})
        return make(15, 3, (build, False), vision, named, "", resample=2, image_mean=[0.5, 0.45, 0.4], image_std=[0.25, 0.3, 0.5])

    return {"paligemma-a": (a, older_paligemma), "paligemma-b": (b, without_places)}


def older_paligemma(folder, model, processor):
    rename(folder, ("model.vision_tower.", "vision_tower.vision_model."), ("model.language_model.", "language_model.model."),
           ("model.", ""))
    config = model.config
    text = {"model_type": "gemma", **older_fields(config.text_config), "torch_dtype": "float32"}
    text.pop("use_bidirectional_attention", None)
    write_json(folder / "config.json", {
        "architectures": [type(model).__name__], "bos_token_id": 2, "eos_token_id": 1, "hidden_size": config.hidden_size,
        "image_token_index": config.image_token_index, "model_type": "paligemma", "pad_token_id": 0,
        "projection_dim": config.projection_dim, "text_config": text, "torch_dtype": "float32",
        "transformers_version": "4.41.0.dev0",
        "vision_config": {"model_type": "siglip_vision_model", **older_fields(config.vision_config)},
    })
    split_processor(folder, processor, "SiglipImageProcessor")
    (folder / "processor_config.json").unlink()
    without_places(folder)


def without_places(folder, *_):
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokenizer["added_tokens"] = [token for token in tokenizer["added_tokens"] if not token["content"].startswith(("<loc", "<seg"))]
    write_json(folder / "tokenizer.json", tokenizer)


# Chameleon


def chameleon_models():
    def make(codes, build, side, tokens):
        # The code in decimal, its digits as letters: A for 0.
        names = ["IMGIMG" + "".join(chr(ord("A") + int(digit)) for digit in str(code)) + "Z" for code in codes]
        special = ["<s>", "<pad>", "</s>", "<unk>", *names, "<eoss>", "<racm3:break>", "<reserved08706>", "<image>"]
        tokenizer = fast(byte_level_tokenizer(special), special, "<s>", eos_token="</s>", pad_token="<pad>",
                         unk_token="<unk>", sep_token="<reserved08706>")
        images = ChameleonImageProcessorPil(size={"shortest_edge": side}, crop_size={"height": side, "width": side})
        processor = ChameleonProcessor(image_processor=images, tokenizer=tokenizer, image_seq_length=tokens)
        vocabulary = dict(sorted(tokenizer.get_vocab().items(), key=lambda item: item[1]))
        return build(len(tokenizer), vocabulary), processor, samples()

    def a():
        build = lambda size, vocabulary: ChameleonConfig(
            vocab_size=size, hidden_size=32, intermediate_size=40, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=2, max_position_embeddings=512, bos_token_id=0, eos_token_id=2, pad_token_id=1,
            vocabulary_map=vocabulary, rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
            vq_config=dict(embed_dim=6, num_embeddings=32, latent_channels=8, resolution=12, base_channels=32,
                           channel_multiplier=[1, 1], num_res_blocks=1, attn_resolutions=[6]),
        )
        return make(range(32), build, 12, 36)

    def b():
        build = lambda size, vocabulary: ChameleonConfig(
            vocab_size=size, hidden_size=24, intermediate_size=32, num_hidden_layers=3, num_attention_heads=2,
            num_key_value_heads=2, max_position_embeddings=512, bos_token_id=0, eos_token_id=2, pad_token_id=1,
            vocabulary_map=vocabulary, swin_norm=True, rope_parameters={"rope_type": "default", "rope_theta": 500.0},
            rms_norm_eps=1e-6, vq_config=dict(embed_dim=4, num_embeddings=48, latent_channels=4, resolution=10, base_channels=32,
                           channel_multiplier=[2, 1], num_res_blocks=1),
        )
        return make(sorted(range(48), key=str), build, 10, 25)

    return {"chameleon-a": (a, older_chameleon), "chameleon-b": (b, None)}


def older_chameleon(folder, model, processor):
    config = model.config
    write_json(folder / "config.json", {
        "architectures": [type(model).__name__], "model_type": "chameleon", **older_fields(config),
        "vq_config": older_fields(config.vq_config), "torch_dtype": "float32", "transformers_version": "4.44.0.dev0",
    })
    split_processor(folder, processor, "ChameleonImageProcessor")


def make_multimodal(folder, family, generator, rng):
    make, older = family
    write_images(folder / "images", rng)
    config, processor, listed = make()
    model = AutoModelForImageTextToText.from_config(config)
    randomise(model, generator, offset=lambda name: "gemma" in config.model_type and config.model_type != "gemma4" and "vision_tower" not in name)
    if config.model_type == "gemma4":
        # Products are not divided by the width of a head. With norms of one, attention would amplify the rounding of bf16 weights.
        for name, parameter in model.named_parameters():
            if name.endswith(("q_norm.weight", "k_norm.weight")):
                parameter.data *= 0.5
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    if older:
        older(folder, model, processor)
    videos = config.model_type.startswith(("qwen", "llava_onevision", "smolvlm", "mistral3", "internvl", "gemma4"))
    return model, listed, type(processor) if videos else AutoProcessor


# What transformers computes


def decoder_of(model):
    """The decoder of a model, without its output head."""
    names = [name for name in ["language_model", "text_model"] if hasattr(model.model, name)]
    return getattr(model.model, names[0]) if names else model.model


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
        positions = lambda _, args, kwargs: self.seen.__setitem__("positions", (*args, *kwargs.values())[1])
        decoder.rotary_emb.register_forward_pre_hook(positions, with_kwargs=True)
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
    if isinstance(reader, PaliGemmaProcessor):  # it takes no conversation, but a question behind its images, and an answer
        question, answer = ("".join(p.get("text", "") for m in turns for p in m["content"]) for turns in (messages[:1], messages[1:]))
        text = "<image>" * len(paths) + question
        images = [[Image.open(folder / path) for path in paths]]
        inputs = reader(text=[text], images=images, suffix=[answer] if answer else None, return_tensors="pt")
        inputs.pop("labels", None)
        return text + answer, paths, inputs
    if reader.chat_template is None:  # Chameleon; the processor puts one more separator behind the last turn
        turns = ["".join(p.get("text", "<image>") for p in m["content"]) for m in messages]
        text = reader.tokenizer.sep_token.join(turns)
    else:
        text = reader.apply_chat_template(messages, add_generation_prompt=generate)
    # As `apply_chat_template` does where it tokenises itself: no second begin of sequence.
    begin = reader.tokenizer.bos_token
    bare = {"add_special_tokens": False} if begin and text.startswith(begin) else {}
    images = [Image.open(folder / path) for path in paths] or None
    if images and hasattr(reader, "vision_aspect_ratio"):  # LLaVA-OneVision divides an image only if it is the only one of a list
        images = [images]
    return text, paths, reader(text=text, images=images, return_tensors="pt", **bare)


def in_squares(model, inputs, rows, channels_last=False):
    """Of Gemma 4 the rows of an image's patches without padding, square by square, those of pixels channel by channel. Other families have
    them as they are."""
    if "image_position_ids" not in inputs:
        return rows
    side, found = model.config.vision_config.pooling_kernel_size, []
    for patches, positions in zip(rows, inputs["image_position_ids"]):
        width, height = positions.max(0).values.tolist()
        grid = patches[: (width + 1) * (height + 1)].view((height + 1) // side, side, (width + 1) // side, side, -1)
        grid = grid.transpose(1, 2).flatten(0, 3)
        found.append(grid.unflatten(1, (-1, 3)).transpose(1, 2).flatten(1) if channels_last else grid)
    return torch.cat(found)


@torch.no_grad()
def golden(folder, made, listed, reader, seed):
    """Load the checkpoint as a user would, run the samples, and write what came out."""
    multimodal = (folder / "images").exists()
    reader = reader.from_pretrained(folder)
    auto = AutoModelForImageTextToText if multimodal else AutoModelForCausalLM
    model = auto.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    saved, loaded = dict(made.named_parameters()), dict(model.named_parameters())
    assert saved.keys() == loaded.keys() and all(torch.equal(saved[name], loaded[name]) for name in saved)
    made.set_attn_implementation("eager")
    tokenizer = getattr(reader, "tokenizer", reader)
    recorder = Recorder(decoder_of(model))
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
        if paths:
            put("pixel_values", in_squares(model, inputs, inputs.pixel_values, channels_last=True))
            put("image_features", recorder.seen[0][0][ids == image_id])
            if hasattr(model.model, "get_image_tokens"):
                put("image_codes", model.model.get_image_tokens(inputs.pixel_values).flatten().to(torch.int64))
            for name in inputs.keys() & {"image_sizes", "image_grid_thw"}:
                put(name, inputs[name])
        positions = recorder.seen["positions"]
        if positions.ndim == 3:
            put("positions", positions[:, 0])
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
    multimodal = llava_models() | onevision_models() | idefics3_models() | mistral3_models() | internvl_models() | qwen_vl_models() | gemma_models()
    multimodal |= gemma4_models() | paligemma_models() | chameleon_models()
    families |= {name: (make_multimodal, make) for name, make in multimodal.items()}
    parser.add_argument("--only", nargs="+", choices=families, default=list(families), metavar="NAME")
    args = parser.parse_args()
    torch.set_num_threads(2)
    for name in args.only:
        folder, seed = args.out / name, [args.seed, zlib.crc32(name.encode())]
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        generator = torch.Generator().manual_seed(args.seed << 32 | seed[1])
        family, make = families[name]
        made, listed, reader = family(folder, make, generator, np.random.default_rng(seed))
        golden(folder, made, listed, reader, args.seed)


if __name__ == "__main__":
    main()
