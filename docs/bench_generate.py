"""Tokens per second of `sae generate` and of transformers on the same prompts, in one interleaved run.

Needs Python 3.11 with torch and transformers, and the program (cargo build --release).

    python docs/bench_generate.py CHECKPOINT [--rounds 3] [--tokens 200] [--batch 1,8]

Both write the most likely tokens in f32 on the CPU. A prompt is a question without an image; several prompts differ in one word.
transformers gets no end-of-text token, and the program counts the tokens that it wrote, so that neither gains by stopping early.
Loading is not counted.
"""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import torch
from program import program
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText, AutoTokenizer

ROOT = Path(__file__).resolve().parent.parent
WORDS = ["picture", "story", "river", "machine", "garden", "number", "letter", "planet"]
sae = program(ROOT / "target/release/sae")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=200)
    parser.add_argument("--batch", default="1,8")
    args = parser.parse_args()
    config = AutoConfig.from_pretrained(args.checkpoint)
    kind = AutoModelForCausalLM if config.get_text_config() is config else AutoModelForImageTextToText
    model = kind.from_pretrained(args.checkpoint, dtype=torch.float32).eval()
    model.generation_config.eos_token_id = None
    tokenizer = AutoTokenizer.from_pretrained(args.checkpoint, padding_side="left")
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    for batch in map(int, args.batch.split(",")):
        questions = [f"Tell me a long story about the {word}." for word in WORDS[:batch]]
        ours, theirs = [], []
        for _ in range(args.rounds):
            with tempfile.TemporaryDirectory() as folder:
                data = Path(folder, "prompts.jsonl")
                data.write_text("".join(json.dumps({"question": question}) + "\n" for question in questions))
                told = sae(
                    "generate", "--model", args.checkpoint, "--data", data, "--out", Path(folder, "out"), "--temperature", 0,
                    "--tokens", args.tokens, "--batch", batch, "--device", "cpu",
                )
                ours.append(told["tokens_per_s"])
            chats = [[{"role": "user", "content": question}] for question in questions]
            texts = [tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=False) for chat in chats]
            inputs = tokenizer(texts, return_tensors="pt", padding=True, add_special_tokens=False)
            begun = time.perf_counter()
            with torch.no_grad():
                out = model.generate(**inputs, do_sample=False, max_new_tokens=args.tokens, pad_token_id=tokenizer.pad_token_id)
            theirs.append((out.shape[1] - inputs["input_ids"].shape[1]) * batch / (time.perf_counter() - begun))
        mine, other = statistics.median(ours), statistics.median(theirs)
        print(f"batch {batch}: sae {mine:.1f} tokens/s ({told['tokens']} tokens), transformers {other:.1f}, {mine / other:.2f} x")


main()
