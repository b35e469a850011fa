"""Fills in, or compares, the token ids of the corpus: what `transformers` makes of the same rows with the same checkpoint.

    pip install torch==2.15.0 transformers==5.23.0 pillow jinja2     # and no torchvision
    python tests/wild/oracle.py            # compares
    python tests/wild/oracle.py --write    # writes them into every case.json that says "ORACLE" or has ids

Rows are turned into messages here in the simplest way; how the program reads other rows is compared by their texts.
"""

import argparse
import json
import shutil
import tempfile
from pathlib import Path

from PIL import Image
from transformers import AutoConfig, AutoProcessor, AutoTokenizer

HERE = Path(__file__).parent
ROOT = HERE.parent.parent


def checkpoint(folder, path, case):
    """The same folder as tests/cli/wild/folder.rs makes, as far as tokens need it."""
    base = ROOT / folder["from"]
    for file in base.iterdir():
        if file.is_file() and file.name not in folder.get("without", []):
            shutil.copy(file, path / file.name)
    for name, text in folder.get("texts", {}).items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(text.encode())
    for name, values in folder.get("set", {}).items():
        config = json.loads((path / name).read_text()) if (path / name).exists() else {}
        for pointer, value in values.items():
            *parents, last = pointer.split("/")[1:]
            place = config
            for key in parents:
                if not isinstance(place.get(key), dict):
                    place[key] = {}
                place = place[key]
            place[last] = value
        (path / name).write_text(json.dumps(config))


def messages(row, parts):
    if "messages" in row:
        turns = [(m["role"], m["content"]) for m in row["messages"]]
    else:
        roles = {"human": "user", "gpt": "assistant"}
        turns = [(roles[t["from"]], t["value"]) for t in row["conversations"]]
    if not parts:
        return [{"role": role, "content": text} for role, text in turns]
    out = []
    for role, text in turns:
        before, mark, behind = text.partition("<image>")
        content = [{"type": "text", "text": before}] if before else []
        content += [{"type": "image"}] if mark else []
        behind = behind.removeprefix("\n")
        content += [{"type": "text", "text": behind}] if behind else []
        out.append({"role": role, "content": content})
    return out


def token_ids(folder, rows, case):
    if not hasattr(AutoConfig.from_pretrained(folder), "vision_config"):
        tokenizer = AutoTokenizer.from_pretrained(folder)
        return [tokenizer.apply_chat_template(messages(row, False), return_dict=True)["input_ids"] for row in rows]
    processor = AutoProcessor.from_pretrained(folder)
    ids = []
    for row in rows:
        turns = messages(row, True)
        for part in (part for turn in turns for part in turn["content"] if part["type"] == "image"):
            part["image"] = Image.open(case / row["image"])
        ids.append(processor.apply_chat_template(turns, tokenize=True, return_dict=True)["input_ids"][0])
    return [list(map(int, i)) for i in ids]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true")
    write = parser.parse_args().write
    wrong = 0
    for path in sorted(HERE.glob("*/case.json")):
        case = json.loads(path.read_text())
        for step in case["steps"]:
            samples = step.get("samples")
            if samples != "ORACLE" and not any("ids" in sample for sample in samples or []):
                continue
            rows = [json.loads(line) for line in (path.parent / "rows.jsonl").read_text().splitlines()]
            with tempfile.TemporaryDirectory() as scratch:
                checkpoint(case["folders"]["MODEL"], Path(scratch), path.parent)
                ids = token_ids(scratch, rows, path.parent)
            found = [{"key": row["id"], "ids": i} for row, i in zip(rows, ids)]
            if write:
                step["samples"] = found
            elif samples != found:
                wrong += 1
                print(f"{path.parent.name}: {samples} is not {found}")
        if write:
            path.write_text(dumped(case) + "\n")
    raise SystemExit(wrong)


def dumped(case):
    """JSON with a list of ids on one line."""
    text = json.dumps(case, indent=2, ensure_ascii=False)
    lines, out, inside = text.split("\n"), [], None
    for line in lines:
        if inside is not None:
            if line.strip().startswith("]"):
                out.append(inside + " ".join(numbers) + line.strip())
                inside = None
            else:
                numbers.append(line.strip())
        elif line.endswith('"ids": ['):
            inside, numbers = line, []
        else:
            out.append(line)
    return "\n".join(out)


if __name__ == "__main__":
    main()
