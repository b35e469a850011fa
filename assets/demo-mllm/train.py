"""Train, save and measure the bundled multimodal model: a LLaVA-1.5 of 8.7 million parameters.

Needs Python 3.11 with torch 2.15, transformers 5.23 (and no torchvision: images go through Pillow),
pillow, tokenizers, safetensors. First run assets/demo-data/make.py, which makes the CACHE.

    python train.py train   --cache CACHE --out RUN [--steps N] [--minutes M]
    python train.py export  --cache CACHE --out RUN --model assets/demo-mllm
    python train.py measure --cache CACHE --out RUN --model assets/demo-mllm --data assets/demo-data

The learning rate falls along a cosine over the steps or the minutes, whichever runs out first: a
run on a busy machine ends on time, with fewer steps. `measure` writes measured.json: the negative
log likelihood of the held-out captions with their own picture and with another pair's.
"""

import argparse
import hashlib
import json
import math
import platform
import random
import re
import time
from collections import Counter
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
import transformers
from PIL import Image
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
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

SIDE, PATCH = 112, 14
SPECIAL = ["<unk>", "<s>", "</s>", "<pad>", "<image>"]
PAD, IMAGE = SPECIAL.index("<pad>"), SPECIAL.index("<image>")
TEMPLATE = (
    "{% for message in messages %}{{ message['role'].upper() + ': ' }}"
    "{% for part in message['content'] %}{% if part['type'] == 'image' %}{{ '<image>' }}"
    "{% else %}{{ part['text'] }}{% endif %}{% endfor %}"
    "{{ ' ' if message['role'] == 'user' else eos_token }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
)
PEAK, WARMUP, DECAY = 1e-3, 50, 0.05
SHIFT, SCALE = 0.12, 0.15
PATCHES = (SIDE // PATCH) ** 2
PROMPT = "USER: " + "<image>" * PATCHES + " ASSISTANT:"


def build_processor(captions):
    tokenizer = Tokenizer(models.BPE(unk_token=None))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=2048,
        special_tokens=[AddedToken(token, normalized=False, special=True) for token in SPECIAL],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([f"USER: {' ASSISTANT: ' + text}" for text in captions], trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", SPECIAL.index("<s>"))]
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        extra_special_tokens={"image_token": "<image>"},
        padding_side="right",
    )
    size = {"height": SIDE, "width": SIDE}
    images = CLIPImageProcessorPil(size={"shortest_edge": SIDE}, crop_size=size)
    return LlavaProcessor(
        image_processor=images,
        tokenizer=fast,
        patch_size=PATCH,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=TEMPLATE,
    )


def build_model(vocabulary):
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(
            hidden_size=192,
            intermediate_size=768,
            num_hidden_layers=6,
            num_attention_heads=3,
            image_size=SIDE,
            patch_size=PATCH,
            projection_dim=192,
        ),
        text_config=LlamaConfig(
            vocab_size=vocabulary,
            hidden_size=256,
            intermediate_size=512,
            num_hidden_layers=8,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=512,
            rms_norm_eps=1e-5,
            bos_token_id=SPECIAL.index("<s>"),
            eos_token_id=SPECIAL.index("</s>"),
            pad_token_id=PAD,
        ),
        image_token_index=IMAGE,
        image_seq_length=PATCHES,
        vision_feature_layer=-1,
        vision_feature_select_strategy="default",
    )
    return LlavaForConditionalGeneration(config)


def augment(pixels, generator):
    """Shift and scale each picture at random; what comes in at the edges is white."""
    n = len(pixels)
    uniform = lambda span, *shape: (torch.rand(n, *shape, generator=generator) * 2 - 1) * span
    theta = torch.zeros(n, 2, 3)
    theta[:, [0, 1], [0, 1]] = 1 + uniform(SCALE, 1)
    theta[:, :, 2] = uniform(2 * SHIFT, 2)
    grid = F.affine_grid(theta, pixels.shape, align_corners=False)
    return 1 - F.grid_sample(1 - pixels, grid, align_corners=False)


def answer_logits(model, ids, pixels, prompt_length, **positions):
    hidden = model.model(input_ids=ids, pixel_values=pixels, use_cache=False, **positions).last_hidden_state
    return model.lm_head(hidden[:, prompt_length - 1 : -1])


def caption_words(rows):
    """For each row the numbers of the words of its caption, and how many words there are."""
    found = [set(re.findall(r"[a-z-]{3,}", row["caption"])) for row in rows]
    counts = Counter(word for words in found for word in words)
    index = {word: i for i, word in enumerate(sorted(word for word, count in counts.items() if count > 1))}
    return [[index[word] for word in words if word in index] for words in found], len(index)


def words_loss(head, state, batch, words):
    """How well the words of the captions are read from the mean state of each picture, `[pictures, width]`."""
    target = torch.zeros(len(batch), head.out_features)
    for row, i in enumerate(batch):
        target[row, words[i]] = 1
    target /= target.sum(1, keepdim=True).clamp(min=1)
    return F.cross_entropy(head(F.layer_norm(state, state.shape[1:])), target)


def epoch(rows, answers, rng, size, clipart):
    """Batches of indices, in random order, of answers of like length."""
    queue = [i for i, row in enumerate(rows) if row["source"] != "openclipart" or rng.random() < clipart]
    rng.shuffle(queue)
    batches = []
    for at in range(0, len(queue), 8 * size):
        pool = sorted(queue[at : at + 8 * size], key=lambda i: len(answers[i]))
        batches += [pool[j : j + size] for j in range(0, len(pool) - size + 1, size)]
    rng.shuffle(batches)
    return batches


def train(args):
    torch.manual_seed(args.seed)
    rows = json.loads((args.cache / "train.json").read_text())
    pictures = np.load(args.cache / "train.npy", mmap_mode="r")
    if args.resume:
        processor = AutoProcessor.from_pretrained(args.out)
    else:
        processor = build_processor([row["caption"] for row in rows])
        processor.save_pretrained(args.out)
    tokenizer = processor.tokenizer
    prompt = tokenizer(PROMPT).input_ids
    answers = [tokenizer(f" {row['caption']}</s>", add_special_tokens=False).input_ids for row in rows]
    assert tokenizer(PROMPT + " a: b</s>").input_ids == prompt + tokenizer(" a: b</s>", add_special_tokens=False).input_ids
    model = build_model(len(tokenizer))
    if args.resume:
        model.load_state_dict(torch.load(args.out / "weights.pt", weights_only=True))
    earlier = json.loads((args.out / "run.json").read_text())["runs"] if args.resume else []
    words, vocabulary = caption_words(rows)
    head = torch.nn.Linear(model.config.vision_config.hidden_size, vocabulary)  # for training alone
    count = sum(parameter.numel() for parameter in model.parameters())
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (processor.image_processor.image_mean, processor.image_processor.image_std))
    parameters = [*model.parameters(), *head.parameters()]
    decayed = [p for p in parameters if p.ndim > 1]
    plain = [p for p in parameters if p.ndim < 2]
    groups = [{"params": decayed, "weight_decay": DECAY}, {"params": plain, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=PEAK, betas=(0.9, 0.98))
    log = open(args.out / "log.jsonl", "a")
    print(f"{count} parameters, {len(rows)} pairs, longest answer {max(map(len, answers))}", flush=True)

    generator = torch.Generator().manual_seed(args.seed)
    rng = random.Random(args.seed)
    patches = list(range(PATCHES))  # those seen at this step
    model.model.vision_tower.embeddings.register_forward_hook(lambda _, __, out: out[:, [0] + [1 + p for p in patches]])
    seen = []  # the vision tower's last output
    model.model.vision_tower.encoder.register_forward_hook(lambda _, __, out: seen.append(out.last_hidden_state))
    first = prompt.index(IMAGE)
    queue, began, step, losses, progress = [], time.time(), 0, [], 0.0
    while progress < 1:
        queue = queue or epoch(rows, answers, rng, args.batch, args.clipart)
        batch = sorted(queue.pop())
        patches[:] = sorted(rng.sample(range(PATCHES), PATCHES // 2 if progress < args.masked else PATCHES))
        kept = [i for i, token in enumerate(prompt) if token != IMAGE or i - first in patches]
        width = max(len(answers[i]) for i in batch)
        padded = [answers[i] + [PAD] * (width - len(answers[i])) for i in batch]
        ids = torch.tensor([[prompt[i] for i in kept] + answer for answer in padded])
        positions = torch.tensor([kept + list(range(len(prompt), len(prompt) + width))])
        labels = torch.tensor([[token if token != PAD else -100 for token in answer] for answer in padded])
        pixels = torch.from_numpy(pictures[batch]).permute(0, 3, 1, 2) / 255
        pixels = (augment(pixels, generator) - mean) / std
        alone = progress < args.vision
        decay = 1.0 if alone else 0.5 + 0.5 * math.cos(math.pi * (progress - args.vision) / (1 - args.vision))
        rate = PEAK * min((step + 1) / WARMUP, decay) + 1e-6
        for group in optimizer.param_groups:
            group["lr"] = rate
        seen.clear()
        if alone:
            model.model.vision_tower(pixels)
            loss = words_loss(head, seen[0][:, 1:].mean(1), batch, words)
        else:
            mask = torch.ones_like(ids)  # without it, gaps in the positions read as packed sequences
            logits = answer_logits(model, ids, pixels, len(kept), position_ids=positions, attention_mask=mask)
            loss = F.cross_entropy(logits.flatten(0, 1), labels.flatten())
            auxiliary = words_loss(head, seen[0][:, 1:].mean(1), batch, words)
        losses.append(loss.item())
        loss = loss if alone else loss + args.words * auxiliary
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        step += 1
        minutes = (time.time() - began) / 60
        progress = max(step / args.steps, minutes / args.minutes)
        if step % 10 == 0 or progress >= 1:
            record = {"step": step, "minutes": round(minutes, 2), "rate": rate, "captions": not alone, "loss": sum(losses) / len(losses)}
            print(json.dumps(record), file=log, flush=True)
            losses = []
        if step % 100 == 0 or progress >= 1:
            torch.save(model.state_dict(), args.out / "weights.tmp")
            (args.out / "weights.tmp").rename(args.out / "weights.pt")
            options = {key: getattr(args, key) for key in ("resume", "seed", "batch", "vision", "masked", "words", "clipart")}
            facts = {"steps": step, "minutes": round(minutes, 1)} | options
            (args.out / "run.json").write_text(json.dumps({"parameters": count, "runs": [*earlier, facts]}))


def export(args):
    processor = AutoProcessor.from_pretrained(args.out)
    model = build_model(len(processor.tokenizer))
    model.load_state_dict(torch.load(args.out / "weights.pt", weights_only=True))
    model.to(torch.bfloat16).save_pretrained(args.model)
    processor.save_pretrained(args.model)


def derangement(texts, rng):
    """A permutation that gives every row a picture of another caption."""
    order = list(range(len(texts)))
    rng.shuffle(order)
    for i in range(len(order)):
        while texts[i] == texts[order[i]]:
            j = rng.randrange(len(order))
            if texts[i] != texts[order[j]] and texts[j] != texts[order[i]]:
                order[i], order[j] = order[j], order[i]
    return order


@torch.no_grad()
def pair_nll(model, processor, rows, images):
    """Summed negative log likelihood and number of the answer's tokens, for each row."""
    start = len(processor.tokenizer(PROMPT).input_ids)
    result = []
    for at in range(0, len(rows), 32):
        chats = [
            [
                {"role": "user", "content": [{"type": "image"}]},
                {"role": "assistant", "content": [{"type": "text", "text": row["conversations"][1]["value"]}]},
            ]
            for row in rows[at : at + 32]
        ]
        text = [processor.apply_chat_template(chat) for chat in chats]
        inputs = processor(text=text, images=[[image] for image in images[at : at + 32]], return_tensors="pt", padding=True)
        logits = answer_logits(model, inputs.input_ids, inputs.pixel_values, start)
        labels = inputs.input_ids[:, start:].masked_fill(inputs.attention_mask[:, start:] == 0, -100)
        loss = F.cross_entropy(logits.transpose(1, 2), labels, reduction="none")
        result += zip(loss.sum(1).tolist(), (labels != -100).sum(1).tolist())
    return result


def measure(args):
    processor = AutoProcessor.from_pretrained(args.model)
    model = LlavaForConditionalGeneration.from_pretrained(args.model, dtype=torch.float32).eval()
    rows = [json.loads(line) for line in open(args.data / "data.jsonl")]
    images = [Image.open(args.data / row["image"]) for row in rows]
    order = derangement([row["conversations"][1]["value"] for row in rows], random.Random(args.seed))
    right = pair_nll(model, processor, rows, images)
    wrong = pair_nll(model, processor, rows, [images[i] for i in order])
    tokens = sum(n for _, n in right)
    total = lambda results: round(sum(nll for nll, _ in results) / tokens, 4)
    split = json.loads((args.cache / "split.json").read_text())
    run = json.loads((args.out / "run.json").read_text())
    measured = {
        "pairs": len(rows),
        "answer_tokens": tokens,
        "nll_per_token_right": total(right),
        "nll_per_token_wrong": total(wrong),
        "gap": round(total(wrong) - total(right), 4),
        "pairs_with_lower_nll_for_the_right_image": sum(a[0] < b[0] for a, b in zip(right, wrong)),
        "training": run | {"pairs": split["train_pairs"], "captions": split["train_captions"]},
        "held_out": {key: value for key, value in split.items() if key.startswith("held_out")},
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "pillow": Image.__version__,
        },
        "sha256_model_safetensors": hashlib.sha256((args.model / "model.safetensors").read_bytes()).hexdigest(),
        "note": "bf16 weights computed in f32; nll_right and nll_wrong are sums over the answer's tokens, </s> included",
        "per_pair": [
            {
                "key": row["id"],
                "wrong_key": rows[order[i]]["id"],
                "answer_tokens": right[i][1],
                "nll_right": round(right[i][0], 5),
                "nll_wrong": round(wrong[i][0], 5),
            }
            for i, row in enumerate(rows[:128])
        ],
    }
    (args.model / "measured.json").write_text(json.dumps(measured, indent=1) + "\n")
    print(json.dumps({k: v for k, v in measured.items() if k != "per_pair"}, indent=1))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("command", choices=["train", "export", "measure"])
    parser.add_argument("--cache", type=Path, required=True, help="what make.py wrote for training")
    parser.add_argument("--out", type=Path, required=True, help="the run's folder")
    parser.add_argument("--model", type=Path, help="the checkpoint's folder")
    parser.add_argument("--data", type=Path, help="the folder of data.jsonl")
    parser.add_argument("--steps", type=int, default=1400)
    parser.add_argument("--minutes", type=float, default=math.inf)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--resume", action="store_true", help="begin with the run's weights, not at random")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--vision", type=float, default=0.0, help="part of the run in which the vision tower learns alone")
    parser.add_argument("--masked", type=float, default=0.0, help="part of the run with half of the patches hidden: quicker")
    parser.add_argument("--words", type=float, default=0.2, help="weight of the words' loss beside that of the captions")
    parser.add_argument("--clipart", type=float, default=0.5, help="share of the Openclipart pairs, drawn anew each epoch")
    args = parser.parse_args()
    torch.set_num_threads(2)
    args.out.mkdir(parents=True, exist_ok=True)
    {"train": train, "export": export, "measure": measure}[args.command](args)


if __name__ == "__main__":
    main()
