"""Expectations for chat templates and tokenizers, from transformers 5.23 and jinja2 (no model is loaded).

    python make_templates.py

Reads and rewrites, in `templates/`:

- `snippets.json`: pairs of a piece of Jinja2 and what it renders to, null where it is an error. Add a source with any
  value and run this. The context is CONTEXT.
- `conversations.json` (read only) and `rendered.json`: every `*.jinja` with every conversation. `{{date:FORMAT}}` stands
  for today. `found` says whether all texts stand in the rendering, with white space at their ends or without.
- `dates.json`: formats of `strftime` at fixed times.
- `sources.json`: which file's template wins.
- `tokenizers.json`: ids of texts by golden checkpoints with other configuration files.
"""

import json
import os
import shutil
import tempfile
from datetime import datetime
from pathlib import Path

os.environ["TRANSFORMERS_VERBOSITY"] = "error"
os.environ["HF_HUB_OFFLINE"] = "1"

from transformers import AutoProcessor, AutoTokenizer
from transformers.utils.chat_template_utils import _compile_jinja_template

HERE = Path(__file__).resolve().parent
FOLDER = HERE / "templates"
MESSAGES = [
    {"role": "user", "content": "hello there é"},
    {"role": "assistant", "content": "line1\nline2"},
    {"role": "user", "content": " more <b> 'q' \"d\" "},
]
CONTEXT = {"tools": None, "documents": None, "bos_token": "<s>", "eos_token": "</s>"}


def write(name, value):
    lines = ",\n".join(json.dumps(item, ensure_ascii=False) for item in value)
    (FOLDER / name).write_text(f"[\n{lines}\n]\n", encoding="utf-8")


def read(name):
    return json.loads((FOLDER / name).read_text(encoding="utf-8"))


def render(source, **context):
    try:
        template = _compile_jinja_template(source)
        template.globals["strftime_now"] = lambda form: "{{date:" + form + "}}"
        return template.render(**CONTEXT, **context)
    except Exception:
        return None


def snippets():
    """What jinja2 makes of small sources."""
    pairs = [[source, render(source, messages=MESSAGES, add_generation_prompt=True)] for source, _ in read("snippets.json")]
    write("snippets.json", pairs)


def parts(turns):
    """A conversation as multimodal templates take it, with an image in front of what people say."""
    image = {"user": [{"type": "image"}]}
    return [
        {"role": turn["role"], "content": image.get(turn["role"], []) + [{"type": "text", "text": turn["content"]}]}
        for turn in turns
    ]


def rendered():
    """Every template with every conversation."""
    out = []
    for path in sorted(FOLDER.glob("*.jinja")):
        source = path.read_text(encoding="utf-8")
        for number, turns in enumerate(read("conversations.json")):
            for generate in (False, True):
                messages = parts(turns) if path.stem.endswith("-parts") else turns
                text = render(source, messages=messages, add_generation_prompt=generate)
                found = text is not None and all(turn["content"].strip() in text for turn in turns)
                case = {"template": path.stem, "conversation": number, "generate": generate, "text": text, "found": found}
                out.append(case)
    write("rendered.json", out)


def dates():
    """strftime in the C locale."""
    forms = ["%Y-%m-%d", "%d %b %Y", "%d %B %Y", "%A, %B %d, %Y", "%a %j %U %W %V %G %u %w", "%I:%M:%S %p", "%H:%M"]
    forms += ["%-d.%-m.%y", "%e|%k|%l|%_d", "%D %F %T %R", "%c|%x|%X", "%f", "%Z|%z|", "%%d", "%C %g %h", "%n|%t|", "%^a %^B"]
    forms += ["100%", "%", "plain", "%Y年%m月%d日", "%-I %P", "%s"[:0]]
    times = [datetime(2024, 7, 4, 9, 5, 7, 123456), datetime(2026, 12, 31, 23, 59, 59), datetime(2027, 1, 1)]
    write("dates.json", [[form, time.isoformat(), time.strftime(form)] for form in forms for time in times])


def copy(name, edits, to):
    """A golden checkpoint without weights and template, with other configuration files."""
    leave = lambda _, names: [n for n in names if n.endswith(".safetensors") or n.startswith("chat_template") or n == "images"]
    shutil.copytree(HERE / name, to, ignore=leave)
    for file, edit in edits.items():
        path = to / file
        if edit is None:
            path.unlink()
        elif isinstance(edit, str):
            path.parent.mkdir(exist_ok=True)
            path.write_text(edit, encoding="utf-8")
        else:
            old = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
            path.write_text(json.dumps(old | edit), encoding="utf-8")


def sources():
    """Which of several templates a processor and a tokenizer take: its name, or null for none or an error."""
    layouts = {
        "jinja": {"chat_template.jinja": "jinja"},
        "json": {"chat_template.json": {"chat_template": "json"}},
        "processor": {"processor_config.json": {"chat_template": "processor"}},
        "processor-null": {"processor_config.json": {"chat_template": None}},
        "processor-named": {"processor_config.json": {"chat_template": {"default": "processor-named", "x": "y"}}},
        "tokenizer": {"tokenizer_config.json": {"chat_template": "tokenizer"}},
        "tokenizer-list": {
            "tokenizer_config.json": {
                "chat_template": [{"name": "x", "template": "y"}, {"name": "default", "template": "tokenizer-list"}]
            }
        },
        "tokenizer-named": {"tokenizer_config.json": {"chat_template": {"default": "tokenizer-named", "x": "y"}}},
        "tokenizer-other": {"tokenizer_config.json": {"chat_template": [{"name": "tool_use", "template": "y"}]}},
        "others": {"additional_chat_templates/tool_use.jinja": "others"},
    }
    mixes = [[name] for name in layouts] + [
        ["json", "jinja"], ["processor", "jinja"], ["processor", "json", "tokenizer"], ["jinja", "tokenizer"],
        ["others", "jinja"], ["others", "tokenizer"], ["others", "json"], ["processor-null", "jinja"],
        ["processor-named", "json"], ["json", "tokenizer"], ["processor", "tokenizer"],
    ]
    out = []
    for name in ("llava-a", "text-llama"):
        for mix in mixes:
            with tempfile.TemporaryDirectory() as scratch:
                folder = Path(scratch) / "model"
                edits = {}
                for layout in mix:
                    edits |= layouts[layout]
                copy(name, edits, folder)
                try:
                    loader = AutoTokenizer if name.startswith("text") else AutoProcessor
                    found = loader.from_pretrained(folder).apply_chat_template([{"role": "user", "content": "a"}], tokenize=False)
                except Exception:
                    found = None
                out.append({"checkpoint": name, "files": edits, "template": found})
    write("sources.json", out)


TEXTS = ["a b", " a  b ", "the cat\n\nsat 12345", "x</s>y <s> z", "<|im_start|>user\nhi<|im_end|>", "é日本 😀", "it's <extra> ok", ""]


def tokenizers():
    """Ids by golden checkpoints with other tokenizer_config.json files."""
    config = lambda **keys: {"tokenizer_config.json": keys}
    extra = {"content": "<extra>", "lstrip": False, "rstrip": False, "normalized": False, "single_word": False, "special": True}
    cases = []
    for name in ("text-llama", "text-mistral", "text-qwen2", "text-qwen3", "text-gemma3", "llava-a", "gemma3-a", "chameleon-a"):
        cases += [(name, edit) for edit in (
            {},
            config(add_bos_token=False),
            config(add_eos_token=True),
            config(add_bos_token=True, add_eos_token=True),
            config(split_special_tokens=True),
            config(extra_special_tokens=["<extra>"]),
            config(additional_special_tokens=["<extra>"]),
            config(extra_special_tokens={"extra_token": "<extra>"}),
            config(mask_token="<extra>"),
            config(added_tokens_decoder={"9": extra}),
            config(added_tokens_decoder={"9": extra | {"special": False, "lstrip": True, "normalized": True}}),
            {"special_tokens_map.json": {"eos_token": "<extra>", "additional_special_tokens": ["<more>"]}},
            {"special_tokens_map.json": {"bos_token": {"content": "<extra>", "lstrip": False}}},
            {"added_tokens.json": {"<extra>": 900}},
            {"tokenizer_config.json": None},
        )]
    as_llama = {"model_type": "llama"}
    for name in ("text-mistral", "text-gemma3"):
        for keys in ({}, {"legacy": True}, {"legacy": False}, {"legacy": None}, {"add_prefix_space": False}, {"add_prefix_space": True}, {"bos_token": None}):
            for declared in ("LlamaTokenizer", "LlamaTokenizerFast"):
                cases.append((name, {"config.json": as_llama, **config(tokenizer_class=declared, **keys)}))
    for declared in ("LlamaTokenizerFast", "PreTrainedTokenizerFast", "GPT2Tokenizer", "Qwen2TokenizerFast", "SomeoneElsesTokenizer"):
        cases.append(("text-llama", config(tokenizer_class=declared)))
        cases.append(("text-qwen3", config(tokenizer_class=declared)))
        cases.append(("text-qwen2", config(tokenizer_class=declared)))
    cases.append(("text-llama", config(tokenizer_class="GPT2Tokenizer", add_prefix_space=True)))
    cases.append(("text-qwen3", config(tokenizer_class="Qwen2Tokenizer", add_prefix_space=True)))
    cases.append(("text-gemma3", config(tokenizer_class="GemmaTokenizer")))
    cases.append(("gemma3-a", config(tokenizer_class="GemmaTokenizerFast")))
    cases.append(("gemma3-a", {"config.json": {"tokenizer_class": "GemmaTokenizer"}, **config(tokenizer_class=None)}))
    # No file declares a class. That of the model divides texts in another way than the file.
    split = {"type": "Sequence", "pretokenizers": [
        {"type": "WhitespaceSplit"}, {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}]}
    cases.append(("internvl-a", {"tokenizer.json": {"pre_tokenizer": split}, **config(tokenizer_class=None)}))
    out = []
    for name, edits in cases:
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch) / "model"
            copy(name, edits, folder)
            tokenizer = AutoTokenizer.from_pretrained(folder)
            ids = [tokenizer(text)["input_ids"] for text in TEXTS if text]
            out.append({"checkpoint": name, "files": edits, "ids": ids, "named": tokenizer.special_tokens_map})
    write("tokenizers.json", [TEXTS[:-1]] + out)


if __name__ == "__main__":
    snippets()
    rendered()
    dates()
    sources()
    tokenizers()
