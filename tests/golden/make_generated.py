"""What transformers generates greedily on golden checkpoints: generated.json in each folder.

Needs what make_models.py needs. Every sample is continued by 200 tokens, or up to the model's context; tokens that stand for images
are suppressed, and no token ends the text. `margin` has the smallest difference between the two largest logits of a sample: what
differs by less may differ for reasons of rounding.

    python make_generated.py tests/golden/llava-a tests/golden/text-llama ...
"""

import json
import sys
from pathlib import Path

import torch
from common import versions, write_json
from make_models import PixtralProcessor, prepare, without_videos
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText, AutoProcessor, AutoTokenizer, Gemma4Processor, InternVLProcessor, LlavaOnevisionProcessor, Qwen2_5_VLProcessor, Qwen3VLProcessor, SmolVLMProcessor

TOKENS = 200
WITHOUT_VIDEOS = {"llava_onevision": LlavaOnevisionProcessor, "qwen2_5_vl": Qwen2_5_VLProcessor, "qwen3_vl": Qwen3VLProcessor,
                  "smolvlm": SmolVLMProcessor, "mistral3": PixtralProcessor, "internvl": InternVLProcessor, "gemma4": Gemma4Processor}


@torch.no_grad()
def generated(folder):
    has_images = (folder / "images").exists()
    auto = AutoModelForImageTextToText if has_images else AutoModelForCausalLM
    model = auto.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    model.generation_config.eos_token_id = None
    kind = WITHOUT_VIDEOS.get(folder.name.split("-")[0])
    reader = without_videos(kind) if kind else AutoProcessor if has_images else AutoTokenizer
    reader = reader.from_pretrained(folder)
    context = model.config.get_text_config().max_position_embeddings
    suppressed = sorted({
        value for name, value in model.config.to_dict().items()
        if name in ("image_token_id", "video_token_id", "image_token_index") and isinstance(value, int)
    })
    found = []
    for sample in json.loads((folder / "samples.json").read_text()):
        inputs = prepare(folder, reader, sample["messages"], sample["add_generation_prompt"])[2]
        length = inputs["input_ids"].shape[1]
        new = min(TOKENS, context - length)
        if new < 1:
            continue
        out = model.generate(
            **inputs, do_sample=False, max_new_tokens=new, pad_token_id=0, suppress_tokens=suppressed or None,
            output_scores=True, return_dict_in_generate=True,
        )
        best = torch.stack(out.scores)[:, 0].topk(2, dim=1).values
        ids = out.sequences[0, length:].tolist()
        assert len(ids) == new, (folder, sample["name"], len(ids))
        margin = round(float((best[:, 0] - best[:, 1]).min()), 6)
        found.append({"name": sample["name"], "prompt": length, "margin": margin, "ids": ids})
    return {"versions": versions(), "suppressed": suppressed, "samples": found}


for folder in map(Path, sys.argv[1:]):
    result = generated(folder)
    write_json(folder / "generated.json", result, indent=None)
    print(folder.name, [(sample["prompt"], len(sample["ids"]), sample["margin"]) for sample in result["samples"]])
