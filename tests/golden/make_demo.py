"""Golden file of the bundled model: what transformers computes for three bundled pairs.

Needs what make_llava.py needs, and the trained model in assets/demo-mllm.

    python make_demo.py --assets assets --out tests/golden/demo-mllm

The weights are read as stored (bf16) and computed with in f32. In golden.safetensors, for sample N:
`sampleN.ids`, `sampleN.pixel_values`, `sampleN.hidden.L` for L in 0..=8 (the last is after the final
norm) and `sampleN.blocks_out` (what leaves the last block). golden.json names the pairs and the prompts.
"""

import argparse
import json
from pathlib import Path

import torch
import transformers
from PIL import Image
from safetensors.numpy import save_file
from transformers import AutoProcessor, LlavaForConditionalGeneration


@torch.no_grad()
def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--assets", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    torch.set_num_threads(2)
    folder, data = args.assets / "demo-mllm", args.assets / "demo-data"
    processor = AutoProcessor.from_pretrained(folder)
    model = LlavaForConditionalGeneration.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    last = []
    model.model.language_model.layers[-1].register_forward_hook(lambda _, __, out: last.append(out))
    rows = [json.loads(line) for line in open(data / "data.jsonl")]
    chosen = [next(row for row in rows if row["source"] == source) for source in ("fluent", "noto", "twemoji")]
    tensors, listed = {}, []
    for n, row in enumerate(chosen):
        answer = row["conversations"][1]["value"]
        messages = [
            {"role": "user", "content": [{"type": "image"}]},
            {"role": "assistant", "content": [{"type": "text", "text": answer}]},
        ]
        text = processor.apply_chat_template(messages)
        inputs = processor(text=text, images=[Image.open(data / row["image"])], return_tensors="pt")
        out = model(**inputs, output_hidden_states=True)
        tensors[f"sample{n}.ids"] = inputs.input_ids[0].numpy()
        tensors[f"sample{n}.pixel_values"] = inputs.pixel_values.numpy()
        for layer, hidden in enumerate(out.hidden_states):
            tensors[f"sample{n}.hidden.{layer}"] = hidden[0].contiguous().numpy()
        tensors[f"sample{n}.blocks_out"] = last[-1].reshape(out.hidden_states[0][0].shape).contiguous().numpy()
        listed.append({"name": f"sample{n}", "key": row["id"], "image": row["image"], "rendered": text})
    args.out.mkdir(parents=True, exist_ok=True)
    save_file(tensors, args.out / "golden.safetensors")
    (args.out / "golden.safetensors").chmod(0o644)
    versions = {"torch": torch.__version__, "transformers": transformers.__version__, "pillow": Image.__version__}
    facts = {"versions": versions, "attention": "eager, f32 of the stored bf16", "samples": listed}
    (args.out / "golden.json").write_text(json.dumps(facts, indent=1) + "\n")


if __name__ == "__main__":
    main()
