"""A second model to measure the scores on: a small Qwen2.5-VL, trained from scratch on the emoji pairs that the bundled LLaVA has seen.

Needs Python 3.11 with torch 2.15, transformers 5.23 (and no torchvision), pillow, numpy, tokenizers, safetensors. `PAIRS` is the data set that
`assets/demo-data/make.py --training PAIRS` writes; docs/SCORES.md ("A second family") has what was measured.

    python docs/second_family.py train   --pairs PAIRS --model MODEL --minutes 40 --tower 0.15
    python docs/second_family.py measure --model MODEL

It has another tower (attention in windows of 4 x 4 patches and, in two blocks, between all of them; 2 x 2 patches merged into a
position: 16 positions per image), another way to count positions (three axes), another prompt and another tokenizer than the bundled
model, and shares no weights with it. For the first part of the time, the tower alone learns the words of a caption. What `train` writes
is a checkpoint as transformers saves it, and training.jsonl with the losses. `measure` prints the negative log-likelihood per token of
the bundled captions, which are held out, with their own picture and with that of another pair.
"""

import argparse
import json
import math
import random
import sys
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration, Qwen2_5_VLProcessor
from transformers.models.qwen2_5_vl import modeling_qwen2_5_vl as qwen
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

ASSETS = Path(__file__).resolve().parent.parent / "assets"
sys.path.insert(0, str(ASSETS / "demo-mllm"))
import train as recipe  # the bundled model's

SIDE, PATCH, MERGED = recipe.SIDE, recipe.PATCH, 2
POSITIONS = (SIDE // PATCH // MERGED) ** 2
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"]
PAD, END, IMAGE = (SPECIAL.index(token) for token in ("<|endoftext|>", "<|im_end|>", "<|image_pad|>"))
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{% if message['content'] is string %}{{ message['content'] }}"
    "{% else %}{% for part in message['content'] %}{% if part['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% else %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
PROMPT = f"<|im_start|>user\n<|vision_start|>{'<|image_pad|>' * POSITIONS}<|vision_end|><|im_end|>\n<|im_start|>assistant\n"
BATCH, WORDS = 64, 0.2


class Processor(Qwen2_5_VLProcessor):
    """Of images and texts alone: the processor of videos needs torchvision."""

    @classmethod
    def get_attributes(cls):
        return ["image_processor", "tokenizer"]


Processor.__name__ = Qwen2_5_VLProcessor.__name__  # what is saved names the class


def build_processor(captions):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = [AddedToken(token, normalized=False, special=True) for token in SPECIAL]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=2048, special_tokens=special, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator([f"user\nassistant\n{caption}" for caption in captions], trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|endoftext|>")
    images = Qwen2VLImageProcessorPil(size={"shortest_edge": SIDE * SIDE, "longest_edge": SIDE * SIDE}, patch_size=PATCH, merge_size=MERGED)
    return Processor(image_processor=images, tokenizer=fast, chat_template=TEMPLATE)


def build_model(vocabulary):
    text = dict(
        vocab_size=vocabulary, hidden_size=256, intermediate_size=512, num_hidden_layers=8, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=512, rms_norm_eps=1e-6, bos_token_id=PAD, eos_token_id=END,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [8, 12, 12]},
    )
    vision = dict(
        depth=6, hidden_size=192, intermediate_size=512, num_heads=3, patch_size=PATCH, spatial_merge_size=MERGED,
        window_size=4 * PATCH, out_hidden_size=256, fullatt_block_indexes=[2, 5],
    )
    ids = dict(vision_start_token_id=3, vision_end_token_id=4, image_token_id=IMAGE, video_token_id=6)
    config = Qwen2_5_VLConfig(text_config=text, vision_config=vision, attn_implementation="eager", **ids)  # quickest at this length
    return Qwen2_5_VLForConditionalGeneration(config)


def attend(self, hidden_states, cu_seqlens, position_embeddings=None, **_):
    """The tower's attention where all parts of it are equally long: one call instead of one for each of hundreds of windows."""
    length = int(cu_seqlens[1])
    q, k, v = self.qkv(hidden_states).reshape(len(hidden_states), 3, self.num_heads, -1).permute(1, 0, 2, 3).unbind(0)
    q, k = qwen.apply_rotary_pos_emb_vision(q, k, *position_embeddings)
    q, k, v = (x.to(v.dtype).unflatten(0, (-1, length)).transpose(1, 2) for x in (q, k, v))
    weights = (q @ k.transpose(2, 3) * self.scaling).softmax(-1)
    return self.proj((weights.to(v.dtype) @ v).transpose(1, 2).reshape(len(hidden_states), -1))


class Reader:
    """The model's inputs, without the processor's way through Pillow."""

    def __init__(self, model, processor):
        qwen.Qwen2_5_VLVisionAttention.forward = attend
        self.model, self.tokenizer = model, processor.tokenizer
        self.mean, self.std = (torch.tensor(v).view(3, 1, 1) for v in (processor.image_processor.image_mean, processor.image_processor.image_std))
        self.prompt = self.tokenizer(PROMPT).input_ids
        ids = torch.tensor([self.prompt])
        self.grid = torch.tensor([[1, SIDE // PATCH, SIDE // PATCH]])
        self.places, _ = model.model.get_rope_index(ids, (ids == IMAGE).int(), image_grid_thw=self.grid)

    def answer(self, caption):
        return self.tokenizer(caption).input_ids + [END]

    def patches(self, pixels):
        """Pixels `[n, 3, SIDE, SIDE]` of 0 to 1 as the tower wants them: patches that will be merged are neighbors, and two equal frames."""
        n, across = len(pixels), SIDE // PATCH // MERGED
        x = ((pixels - self.mean) / self.std).view(n, 3, across, MERGED, PATCH, across, MERGED, PATCH)
        x = x.permute(0, 2, 5, 3, 6, 1, 4, 7)
        return x.unsqueeze(6).expand(*x.shape[:6], 2, PATCH, PATCH).reshape(-1, 6 * PATCH * PATCH)

    def see(self, pixels):
        """The merged positions of each picture: `[n, POSITIONS, width]`."""
        out = self.model.model.visual(self.patches(pixels), grid_thw=self.grid.expand(len(pixels), -1)).pooler_output
        return out.view(len(pixels), POSITIONS, -1)

    def logits(self, seen, answers):
        """Those of the answers' tokens, and the tokens, -100 behind the last."""
        width = max(map(len, answers))
        ids = torch.tensor([self.prompt + a + [PAD] * (width - len(a)) for a in answers])
        labels = torch.tensor([a + [-100] * (width - len(a)) for a in answers])
        embedded = self.model.get_input_embeddings()(ids)
        embedded = embedded.masked_scatter((ids == IMAGE)[..., None], seen.to(embedded.dtype))
        after = self.places.max() + 1 + torch.arange(width).expand(3, 1, -1)
        places = torch.cat([self.places, after], 2).expand(-1, len(ids), -1)
        # Padding is on the right, where a causal decoder does not look.
        hidden = self.model.model.language_model(inputs_embeds=embedded, position_ids=places, use_cache=False).last_hidden_state
        return self.model.lm_head(hidden[:, len(self.prompt) - 1 : -1]), labels


def read_pairs(folder):
    rows = [json.loads(line) for line in open(folder / "data.jsonl")]
    for row in rows:
        row["caption"] = row["conversations"][1]["value"]
    return rows, np.stack([np.asarray(Image.open(folder / row["image"]).convert("RGB")) for row in rows])


def train(args):
    torch.manual_seed(args.seed)
    rows, pictures = read_pairs(args.pairs)
    args.model.mkdir(parents=True, exist_ok=True)
    processor = build_processor([row["caption"] for row in rows])
    processor.save_pretrained(args.model)
    model = build_model(len(processor.tokenizer))
    reader = Reader(model, processor)
    answers = [reader.answer(row["caption"]) for row in rows]
    words, vocabulary = recipe.caption_words(rows)
    head = torch.nn.Linear(model.config.text_config.hidden_size, vocabulary)  # for training alone
    parameters = [*model.parameters(), *head.parameters()]
    groups = [{"params": [p for p in parameters if p.ndim > 1], "weight_decay": recipe.DECAY},
              {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=recipe.PEAK, betas=(0.9, 0.98))
    count = sum(p.numel() for p in model.parameters())
    print(f"{count} parameters, {len(rows)} pairs, longest answer {max(map(len, answers))}", flush=True)
    log = open(args.model / "training.jsonl", "w")
    print(json.dumps({"parameters": count, "pairs": len(rows), "minutes": args.minutes, "tower_alone": args.tower, "seed": args.seed}), file=log)

    generator, rng = torch.Generator().manual_seed(args.seed), random.Random(args.seed)
    queue, began, step, losses, progress = [], time.time(), 0, [], 0.0
    while progress < 1:
        queue = queue or recipe.epoch(rows, answers, rng, BATCH, 1.0)
        batch = sorted(queue.pop())
        pixels = torch.from_numpy(pictures[batch]).permute(0, 3, 1, 2) / 255
        alone = progress < args.tower
        fall = 1.0 if alone else 0.5 + 0.5 * math.cos(math.pi * (progress - args.tower) / (1 - args.tower))
        for group in optimizer.param_groups:
            group["lr"] = recipe.PEAK * min((step + 1) / recipe.WARMUP, fall) + 1e-6
        with torch.autocast("cpu", torch.bfloat16):
            seen = reader.see(recipe.augment(pixels, generator))
            of_words = recipe.words_loss(head, seen.float().mean(1), batch, words)
            if alone:
                loss = of_words
            else:
                logits, labels = reader.logits(seen, [answers[i] for i in batch])
                of_captions = F.cross_entropy(logits.float().flatten(0, 1), labels.flatten())
                loss = of_captions + WORDS * of_words
        losses.append([of_words.item(), math.nan if alone else of_captions.item()])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        step += 1
        progress = (time.time() - began) / 60 / args.minutes
        if step % 20 == 0 or progress >= 1:
            of_words, of_captions = np.mean(losses, 0)
            record = {"step": step, "minutes": round(progress * args.minutes, 2), "words": round(float(of_words), 4)}
            record |= {} if math.isnan(of_captions) else {"captions": round(float(of_captions), 4)}
            print(json.dumps(record), file=log, flush=True)
            losses = []
        if step % 200 == 0 or progress >= 1:
            save_file(model.state_dict(), args.model / "weights.safetensors")
    model.to(torch.bfloat16).save_pretrained(args.model)
    (args.model / "weights.safetensors").unlink()


@torch.no_grad()
def measure(args):
    processor = Processor.from_pretrained(args.model)
    model = Qwen2_5_VLForConditionalGeneration.from_pretrained(args.model, dtype=torch.float32).eval()
    reader = Reader(model, processor)
    rows, pictures = read_pairs(ASSETS / "demo-data")
    captions = [row["caption"] for row in rows]
    order = recipe.derangement(captions, random.Random(0))

    def nll(pictures):
        found = []
        for i in range(0, len(rows), 64):
            seen = reader.see(torch.from_numpy(pictures[i : i + 64]).permute(0, 3, 1, 2) / 255)
            logits, labels = reader.logits(seen, [reader.answer(caption) for caption in captions[i : i + 64]])
            found.append(F.cross_entropy(logits.transpose(1, 2), labels, reduction="none").sum(1))
        return torch.cat(found)

    tokens = sum(len(reader.answer(caption)) for caption in captions)
    right, wrong = nll(pictures), nll(pictures[order])
    print(json.dumps({
        "pairs": len(rows), "answer_tokens": tokens, "nll_per_token_right": round(float(right.sum()) / tokens, 4),
        "nll_per_token_wrong": round(float(wrong.sum()) / tokens, 4), "pairs_with_lower_nll_for_the_right_image": int((right < wrong).sum()),
    }, indent=1))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("command", choices=["train", "measure"])
    parser.add_argument("--pairs", type=Path, help="what it is trained on")
    parser.add_argument("--model", type=Path, required=True, help="the checkpoint's folder")
    parser.add_argument("--minutes", type=float, default=40)
    parser.add_argument("--tower", type=float, default=0.15, help="part of the time in which the tower learns alone")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    {"train": train, "measure": measure}[args.command](args)


if __name__ == "__main__":
    main()
