"""Checks the table "Where the files of a checkpoint disagree" (FORMATS.md) against transformers.

Needs what make_models.py needs, and the golden folders. Makes variants of them in a temporary folder, asks transformers what
it reads, and fails where that is not what the table says (and harvest/tests/it/checkpoints.rs tests).

    python check_precedence.py
"""

import json
import shutil
import tempfile
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoImageProcessor, AutoModelForCausalLM, AutoModelForImageTextToText

HERE = Path(__file__).parent
CHECKS = []


def check(function):
    CHECKS.append(function)
    return function


class Copy:
    """A copy of a golden checkpoint."""

    def __init__(self, root, name):
        self.folder = Path(root) / f"{len(list(Path(root).iterdir()))}-{name}"
        self.multimodal = (HERE / name / "images").exists()
        shutil.copytree(HERE / name, self.folder)

    def read(self, file):
        path = self.folder / file
        return json.loads(path.read_text()) if path.exists() else {}

    def write(self, file, value):
        (self.folder / file).write_text(json.dumps(value))

    def config(self, change):
        config = self.read("config.json")
        change(config)
        self.write("config.json", config)
        return self

    def tensors(self, change):
        save_file(change(load_file(self.folder / "model.safetensors")), self.folder / "model.safetensors", {"format": "pt"})
        return self

    def model(self):
        auto = AutoModelForImageTextToText if self.multimodal else AutoModelForCausalLM
        return auto.from_pretrained(self.folder, dtype=torch.float32)


def is_head(name):
    return name.endswith("lm_head.weight")


def ties(model):
    return torch.equal(model.get_input_embeddings().weight, model.get_output_embeddings().weight)


@check
def tied_embeddings(root):
    cases = [
        ("llava-b", False, True, True), ("llava-b", True, False, True), ("llava-b", False, False, False),
        ("qwen2_5_vl-b", False, True, True), ("qwen2_5_vl-b", True, None, True), ("llava-next-b", False, True, False),
        ("llava-next-b", True, False, True), ("llava_onevision-b", False, True, True),
        ("llava_onevision-b", None, None, False), ("smolvlm-b", False, True, False), ("smolvlm-b", True, False, True),
        ("mistral3-e", None, False, True), ("mistral3-e", False, True, False),
        ("internvl-b", None, False, True), ("internvl-b", False, True, False), ("qwen3_vl-b", False, True, False), ("qwen3_vl-b", True, None, True),
        ("gemma3-a", None, False, True), ("gemma3-a", False, True, False), ("gemma4-b", None, False, True), ("gemma4-b", False, True, False), ("paligemma-b", None, False, True),
        ("paligemma-b", False, True, False), ("chameleon-a", True, None, True),
        ("chameleon-a", None, None, False), ("text-qwen3", True, None, True), ("text-gemma", None, None, True),
        ("text-gemma2", None, None, True), ("text-gemma3", None, None, True),
    ]
    for name, outer, inner, expected in cases:
        def change(config):
            levels = [(config, outer)] + ([(config["text_config"], inner)] if "text_config" in config else [])
            for level, value in levels:
                level.pop("tie_word_embeddings", None)
                if value is not None:
                    level["tie_word_embeddings"] = value
        headless = lambda tensors: {name: tensor for name, tensor in tensors.items() if not is_head(name)}
        found = ties(Copy(root, name).config(change).tensors(headless).model())
        assert found == expected, (name, outer, inner, found)


@check
def a_head_that_is_written_out(root):
    def tie(config):
        config["tie_word_embeddings"] = True
    copy = Copy(root, "llava-a").config(tie)
    head = next(tensor for name, tensor in load_file(copy.folder / "model.safetensors").items() if is_head(name))
    assert torch.equal(copy.model().get_output_embeddings().weight, head)
    # And one without an embedding.
    headless = lambda tensors: {name: t for name, t in tensors.items() if not name.endswith("embed_tokens.weight")}
    copy = Copy(root, "text-qwen3").config(tie)
    head = load_file(copy.folder / "model.safetensors")["lm_head.weight"]
    assert torch.equal(copy.tensors(headless).model().get_input_embeddings().weight, head)


@check
def weights(root):
    copy = Copy(root, "text-qwen2")
    own = load_file(copy.folder / "model.safetensors")
    other = {name: tensor + 1 for name, tensor in own.items()}
    name = "model.norm.weight"
    save_file(other, copy.folder / "model-00001-of-00001.safetensors", {"format": "pt"})
    copy.write("model.safetensors.index.json", {"metadata": {}, "weight_map": dict.fromkeys(own, "model-00001-of-00001.safetensors")})
    assert torch.equal(copy.model().get_parameter(name), own[name])  # the whole file
    copy.config(lambda config: config.update(transformers_weights="model-00001-of-00001.safetensors"))
    assert torch.equal(copy.model().get_parameter(name), other[name])  # the one that is named
    # Of a tensor in two shards the later one, whatever the index says.
    copy = Copy(root, "text-qwen2")
    (copy.folder / "model.safetensors").unlink()
    save_file({name: own[name] + 1}, copy.folder / "model-00001-of-00002.safetensors", {"format": "pt"})
    save_file(own, copy.folder / "model-00002-of-00002.safetensors", {"format": "pt"})
    shards = dict.fromkeys(own, "model-00002-of-00002.safetensors") | {name: "model-00001-of-00002.safetensors"}
    copy.write("model.safetensors.index.json", {"metadata": {}, "weight_map": shards})
    assert torch.equal(copy.model().get_parameter(name), own[name])


@check
def models_without_their_head(root):
    for name, prefix, other in [("text-llama", "model.", ""), ("qwen3_vl-b", "model.", ""),
                                ("llava-b", "language_model.model.", "language_model.")]:
        own = dict(Copy(root, name).model().named_parameters())
        rename = lambda tensors: {other + n[len(prefix):] if n.startswith(prefix) else n: t for n, t in tensors.items()}
        found = dict(Copy(root, name).tensors(rename).model().named_parameters())
        assert all(torch.equal(own[parameter], found[parameter]) for parameter in own), name


@check
def image_processors(root):
    for name in ["llava-a", "llava-next-a", "llava_onevision-a", "smolvlm-a", "mistral3-a", "internvl-a", "qwen2_5_vl-a",
                 "qwen3_vl-a", "gemma3-a", "gemma4-a", "paligemma-a", "chameleon-a"]:
        copy = Copy(root, name)
        own = copy.read("preprocessor_config.json") or copy.read("processor_config.json")["image_processor"]
        copy.write("processor_config.json", copy.read("processor_config.json") | {"image_processor": own})
        copy.write("preprocessor_config.json", own | {"image_mean": [0.1, 0.2, 0.3]})
        assert list(AutoImageProcessor.from_pretrained(copy.folder).image_mean) == own["image_mean"], name
        copy.write("processor_config.json", {"image_processor": None})
        assert list(AutoImageProcessor.from_pretrained(copy.folder).image_mean) == [0.1, 0.2, 0.3], name
    copy = Copy(root, "qwen2_5_vl-a")
    own = copy.read("preprocessor_config.json")
    copy.write("preprocessor_config.json", own | {"size": {"shortest_edge": 3136, "longest_edge": 12845056}})
    size = AutoImageProcessor.from_pretrained(copy.folder).size
    assert (size.shortest_edge, size.longest_edge) == (own["min_pixels"], own["max_pixels"])
    # Classes bring their defaults.
    copy = Copy(root, "llava-a")
    for name, resample, size in [("SiglipImageProcessor", 3, {"shortest_edge": 28}), ("Gemma3ImageProcessor", 2, {"height": 28, "width": 28})]:
        copy.write("preprocessor_config.json", {"image_processor_type": name, "size": 28})
        found = AutoImageProcessor.from_pretrained(copy.folder)
        assert (int(found.resample), {k: v for k, v in dict(found.size).items() if v}) == (resample, size), name
        assert not found.do_center_crop
    copy.write("preprocessor_config.json", {"feature_extractor_type": "CLIPFeatureExtractor"})
    assert type(AutoImageProcessor.from_pretrained(copy.folder)).__name__.startswith("CLIPImageProcessor")


@check
def levels_and_names(root):
    read = lambda copy: AutoConfig.from_pretrained(copy.folder)
    copy = Copy(root, "llava-a").config(lambda config: config.update(image_token_index=5, image_token_id=7))
    assert read(copy).image_token_id == 7
    copy = Copy(root, "qwen2_5_vl-b").config(lambda config: config.update(image_token_index=99, hidden_size=3584, vocab_size=9))
    config = read(copy)
    assert config.image_token_id != 99 and config.text_config.hidden_size == 24 and config.text_config.vocab_size != 9
    copy = Copy(root, "qwen3_vl-b").config(lambda config: config["text_config"].update(model_type="llama"))
    assert type(read(copy).text_config).__name__ == "Qwen3VLTextConfig"
    copy = Copy(root, "qwen2_5_vl-b").config(lambda config: config["text_config"]["rope_parameters"].pop("mrope_section"))
    from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VLRotaryEmbedding
    assert Qwen2_5_VLRotaryEmbedding(read(copy).text_config).mrope_section == [16, 24, 24]
    copy = Copy(root, "paligemma-a").config(lambda config: config.update(image_token_index=5, image_token_id=7))
    assert read(copy).image_token_id == 7
    copy = Copy(root, "paligemma-b").config(lambda config: config["text_config"].pop("model_type"))
    assert type(read(copy).text_config).__name__ == "GemmaConfig"


@check
def gemma_4(root):
    text = lambda copy: AutoConfig.from_pretrained(copy.folder).text_config
    heads = lambda copy: [(block.head_dim, block.num_key_value_heads) for block in text(copy).per_layer_config]
    copy = Copy(root, "gemma4-b").config(lambda config: config.update(image_token_index=99))
    assert AutoConfig.from_pretrained(copy.folder).image_token_id == 8
    copy.config(lambda config: config["text_config"].update(model_type="llama"))
    assert type(text(copy)).__name__ == "Gemma4TextConfig"
    # What a list of blocks says counts, and what it leaves out is as in other blocks.
    copy.config(lambda config: config["text_config"].update(global_head_dim=64, num_global_key_value_heads=1))
    assert heads(copy) == [(8, 1), (8, 1), (12, 2)]
    copy = Copy(root, "gemma4-a").config(lambda config: config["text_config"].pop("rope_parameters"))
    assert heads(copy) == [(8, 2), (16, 1)] * 2
    assert text(copy).rope_parameters == {
        "full_attention": {"rope_type": "proportional", "partial_rotary_factor": 0.25, "rope_theta": 1e6},
        "sliding_attention": {"rope_type": "default", "rope_theta": 1e4}}
    copy.config(lambda config: config["text_config"].update(attention_k_eq_v=False))
    assert heads(copy) == [(8, 2), (16, 2)] * 2


def main():
    for function in CHECKS:
        with tempfile.TemporaryDirectory() as root:
            function(root)
        print(function.__name__, "as the table says")


if __name__ == "__main__":
    main()
