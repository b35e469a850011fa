"""Golden files of videos: tiny random checkpoints of Qwen2.5-VL and Qwen3-VL, and what transformers computes with them.

Needs what make_models.py needs, and torchvision 0.29.2, without which transformers has no processors of videos. Frames are
resized with Pillow to the size that transformers chooses, as images are in make_models.py, because torchvision's resize
rounds some bytes in another way (0.5 % of them by 1). The processor then leaves their size as it is.

    pip install torchvision==0.29.2 --no-deps
    python make_videos.py --seed 0 --out tests/golden

qwen2_5_vl-video    as the Hub has it: one file for images and videos; 2 steps of time per second.
qwen3_vl-video      as the Hub has it: a file of its own for videos, whose bounds hold for all frames together.

golden.safetensors as make_models.py's; `modality` is 1 at the positions of a video, which has `video_grid_thw`, i64, in place
of `image_grid_thw`.
"""

import argparse
import json
import shutil
import zlib
from pathlib import Path

import numpy as np
import torch
from common import LOGITS, assistant, randomise, user, versions, write_images, write_json
from make_models import QWEN_VL, Recorder, TEMPLATE_CHATML_PARTS, older_fields, qwen_like, rename, token_ids
from PIL import Image
from safetensors.numpy import save_file
from transformers import (
    AutoModelForImageTextToText,
    Qwen2_5_VLConfig,
    Qwen2_5_VLProcessor,
    Qwen3VLConfig,
    Qwen3VLProcessor,
)
from transformers.models.qwen2_vl import video_processing_qwen2_vl as qwen2
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
from transformers.models.qwen3_vl import video_processing_qwen3_vl as qwen3

TEMPLATE = TEMPLATE_CHATML_PARTS.replace(
    "IMAGE", "<|vision_start|><|image_pad|><|vision_end|>"
    "{% elif content['type'] == 'video' or 'video' in content %}<|vision_start|><|video_pad|><|vision_end|>"
)
IDS = dict(vision_start_token_id=3, vision_end_token_id=4, image_token_id=5, video_token_id=6)
PATCH = 4


def frames(folder, name, count, width, height, rng):
    """Frames of a bright square that moves over a gradient with noise."""
    (folder / "frames").mkdir(exist_ok=True)
    paths = []
    for n in range(count):
        y, x = np.mgrid[0:height, 0:width]
        pixels = np.stack([x * 3 % 256, y * 5 % 256, (x + y) % 256], -1) + rng.normal(0, 12, (height, width, 3))
        left = n * (width - 8) // max(count - 1, 1)
        pixels[4:12, left:left + 8] = 240
        paths.append(f"frames/{name}-{n}.png")
        Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(folder / paths[-1])
    return paths


def video(paths, fps=None):
    return {"type": "video", "frames": paths} | ({} if fps is None else {"fps": fps})


def said(*parts):
    texts = [p if isinstance(p, dict) else user(p)["content"][0] for p in parts]
    return {"role": "user", "content": texts}


def listed(folder, rng, least):
    """(messages, add_generation_prompt). Timestamps of two frames per second are halfway between two tenths."""
    walk = frames(folder, "walk", 5, 61, 37, rng)
    tall = frames(folder, "tall", 4, 18, 40, rng)
    return [
        ([said(video(walk[:4], 2.0), "What moves?"), assistant("A small square.")], False),
        ([said("Look at this:", video(walk, 0.5), "and describe it in one sentence.")], True),
        ([said(video(tall), "Describe it."), assistant("There are stripes."), user("Is it wide?")], True),
        ([said(video(tall[:least], 30.0))], True),
        ([said("images/square.png", "What is in this picture?"), assistant("A small red square.")], False),
        ([user("Describe the image in one sentence.")], True),
    ]


def text_config(**more):
    return dict(num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=512, bos_token_id=0, eos_token_id=2) | more


def rope(theta, section, **more):
    return {"rope_type": "default", "rope_theta": theta, "mrope_section": section} | more


def qwen2_5_vl(tokenizer):
    config = Qwen2_5_VLConfig(
        text_config=text_config(vocab_size=len(tokenizer), hidden_size=32, intermediate_size=40, num_hidden_layers=2,
                                rms_norm_eps=1e-6, rope_parameters=rope(1000.0, [4, 2, 2])),
        vision_config=dict(depth=2, hidden_size=16, intermediate_size=20, num_heads=2, patch_size=PATCH, window_size=16,
                           out_hidden_size=32, fullatt_block_indexes=[1], tokens_per_second=2),
        **IDS,
    )
    size = {"shortest_edge": 640, "longest_edge": 1152}
    return config, Qwen2_5_VLProcessor, size, qwen2.Qwen2VLVideoProcessor(size=size, patch_size=PATCH)


def qwen3_vl(tokenizer):
    config = Qwen3VLConfig(
        text_config=text_config(vocab_size=len(tokenizer), hidden_size=24, intermediate_size=40, num_hidden_layers=3, head_dim=16,
                                rope_parameters=rope(1000.0, [4, 2, 2], mrope_interleaved=True)),
        vision_config=dict(depth=3, hidden_size=16, intermediate_size=20, num_heads=2, patch_size=PATCH, out_hidden_size=24,
                           num_position_embeddings=25, deepstack_visual_indexes=[0, 2]),
        **IDS,
    )
    videos = qwen3.Qwen3VLVideoProcessor(size={"shortest_edge": 2048, "longest_edge": 4096}, patch_size=PATCH)
    return config, Qwen3VLProcessor, {"shortest_edge": 640, "longest_edge": 1152}, videos


def write_older(folder, model, processor):
    """The files as the Hub has them."""
    config = model.config
    joined = json.loads((folder / "processor_config.json").read_text())
    (folder / "processor_config.json").unlink()
    template = folder / "chat_template.jinja"
    write_json(folder / "chat_template.json", {"chat_template": template.read_text()})
    template.unlink()
    images, videos = joined["image_processor"], joined["video_processor"]
    if config.model_type == "qwen2_5_vl":
        rename(folder, ("model.visual.", "visual."), ("model.language_model.", "model."))
        text = older_fields(config.text_config)
        text["rope_scaling"] = {"type": "mrope", "mrope_section": text["rope_scaling"]["mrope_section"]}
        fields = text | {"use_sliding_window": False}
        size = images["size"]
        keys = ["image_mean", "image_std", "merge_size", "patch_size", "temporal_patch_size"]
        images = {key: images[key] for key in keys} | {
            "min_pixels": size["shortest_edge"], "max_pixels": size["longest_edge"],
            "image_processor_type": "Qwen2VLImageProcessor", "processor_class": "Qwen2_5_VLProcessor",
        }
    else:
        fields = {"text_config": {"model_type": "qwen3_vl_text", **older_fields(config.text_config), "dtype": "bfloat16"}}
        images["image_processor_type"] = "Qwen2VLImageProcessorFast"
        write_json(folder / "video_preprocessor_config.json", videos)
    write_json(folder / "preprocessor_config.json", images)
    write_json(folder / "config.json", {
        "architectures": [type(model).__name__], "model_type": config.model_type, **fields, **token_ids(config),
        "tie_word_embeddings": False,
        "vision_config": {"model_type": config.model_type, **older_fields(config.vision_config)},
    })


def resized(videos, arrays):
    """Frames with the size that the processor of videos gives them, resized with Pillow."""
    count, height, width = arrays.shape[:3]
    bounds = dict(factor=PATCH * 2, min_pixels=videos.size["shortest_edge"], max_pixels=videos.size["longest_edge"])
    if isinstance(videos, qwen3.Qwen3VLVideoProcessor):
        height, width = qwen3.smart_resize(count, height, width, **bounds)
        assert qwen3.smart_resize(count, height, width, **bounds) == (height, width)
    else:
        height, width = qwen2.smart_resize(height, width, **bounds)
        assert qwen2.smart_resize(height, width, **bounds) == (height, width)
    return np.stack([np.asarray(Image.fromarray(frame).resize((width, height), Image.BICUBIC)) for frame in arrays])


def prepare(folder, reader, messages, generate):
    """The rendered text and what the model is given."""
    text = reader.apply_chat_template(messages, add_generation_prompt=generate)
    parts = [p for m in messages for p in m["content"]]
    images = [Image.open(folder / p["path"]) for p in parts if p["type"] == "image"] or None
    shown = [p for p in parts if p["type"] == "video"]
    if not shown:
        return text, reader(text=text, images=images, return_tensors="pt")
    [shown] = shown
    arrays = np.stack([np.asarray(Image.open(folder / path)) for path in shown["frames"]])
    metadata = {"total_num_frames": len(arrays), "frames_indices": list(range(len(arrays))), "fps": shown.get("fps")}
    arrays = resized(reader.video_processor, arrays)
    return text, reader(text=text, videos=[arrays], video_metadata=[metadata], do_sample_frames=False, return_tensors="pt",
                        cap_pixels_per_frame=False)


@torch.no_grad()
def golden(folder, made, samples, reader, seed):
    reader = reader.from_pretrained(folder)
    # Images are read with Pillow, as in the other folders.
    reader.image_processor = Qwen2VLImageProcessorPil.from_pretrained(folder)
    model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    saved, loaded = dict(made.named_parameters()), dict(model.named_parameters())
    assert saved.keys() == loaded.keys() and all(torch.equal(saved[name], loaded[name]) for name in saved)
    recorder = Recorder(model.model.language_model)
    tensors, rendered = {}, []
    for n, (messages, generate) in enumerate(samples):
        text, inputs = prepare(folder, reader, messages, generate)
        out = model(**inputs)
        put = lambda name, value: tensors.__setitem__(f"sample{n}.{name}", value.contiguous().numpy())
        ids = inputs.input_ids[0]
        seen = (ids == IDS["image_token_id"]) | (ids == IDS["video_token_id"])
        put("ids", ids)
        put("modality", seen.to(torch.uint8))
        for name, value in recorder.tensors().items():
            put(name, value.clone())
        for name in inputs.keys() & {"image_grid_thw", "video_grid_thw"}:
            put(name, inputs[name])
        for name in inputs.keys() & {"pixel_values", "pixel_values_videos"}:
            put("pixel_values", inputs[name])
        put("positions", recorder.seen["positions"][:, 0])
        put("logits", out.logits[0, -LOGITS:])
        rendered.append({
            "name": f"sample{n}", "rendered": text, "tokens": len(ids),
            "text_tokens": reader.tokenizer.convert_ids_to_tokens(ids[~seen].tolist()),
        })
    save_file(tensors, folder / "golden.safetensors")
    write_json(folder / "samples.json", [
        {"name": f"sample{n}", "messages": messages, "add_generation_prompt": generate}
        for n, (messages, generate) in enumerate(samples)
    ], indent=1)
    write_json(folder / "golden.json", {"seed": seed, "versions": versions(), "attention": "eager, f32", "samples": rendered},
               indent=1)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    args = parser.parse_args()
    torch.set_num_threads(2)
    for name, make, least in [("qwen2_5_vl-video", qwen2_5_vl, 1), ("qwen3_vl-video", qwen3_vl, 2)]:
        folder, seed = args.out / name, [args.seed, zlib.crc32(name.encode())]
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        generator, rng = torch.Generator().manual_seed(args.seed << 32 | seed[1]), np.random.default_rng(seed)
        tokenizer = qwen_like(QWEN_VL)
        config, processor, size, videos = make(tokenizer)
        write_images(folder / "images", rng)
        for image in (folder / "images").glob("*.png"):
            if image.stem != "square":
                image.unlink()
        samples = listed(folder, rng, least)
        model = AutoModelForImageTextToText.from_config(config)
        randomise(model, generator)
        model.save_pretrained(folder)
        images = Qwen2VLImageProcessorPil(size=size, patch_size=PATCH)
        reader = processor(image_processor=images, tokenizer=tokenizer, video_processor=videos, chat_template=TEMPLATE)
        reader.save_pretrained(folder)
        write_older(folder, model, reader)
        golden(folder, model, samples, processor, args.seed)


if __name__ == "__main__":
    main()
