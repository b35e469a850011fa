"""Writes the list of released autoencoders that `sae saes search` looks in.

    python docs/released_saes.py --yaml .../sae_lens/pretrained_saes.yaml --version 6.54.12 \
        --out sae-core/src/autoencoder/released.txt.gz

The list is that of SAELens (MIT, Copyright (c) 2023 Joseph Bloom), whose Python package contains it as `pretrained_saes.yaml`. Needs
PyYAML. What is written for a release, in lines of tab-separated fields:

    R  release  model  repository  format of `sae import`, or - for one that it does not read  architecture, or -
    S  id  path in the repository, or = for the id  hook by TransformerLens' name, or -  mean number of active features, or -

Names of hooks and architectures are not in that file. They come from the same rules by which SAELens' loaders derive them from names
(`sae_lens/loading/pretrained_sae_loaders.py`). The same input gives the same bytes.
"""

import argparse
import gzip
import re
from pathlib import Path

import yaml

# The format of `sae import` for each of SAELens' loaders; loaders that are not here belong to layouts that it does not read.
FORMATS = {
    None: "sae-lens",
    "gemma_2": "gemma-scope-1",
    "gemma_2_transcoder": "gemma-scope-1",
    "gemma_3": "gemma-scope-2",
    "llama_scope": "llama-scope",
    "llama_scope_r1_distill": "llama-scope",
    "dictionary_learning_1": "dictionary-learning",
    "qwen_scope": "qwen-scope",
}
# Settings of a release that change what its autoencoders compute and that no file of the release has.
DECISIVE = {"normalize_activations"}
SUBLAYER = {"r": "hook_resid_post", "a": "hook_attn_out", "m": "hook_mlp_out"}


def layer(text):
    found = re.search(r"layer_?(\d+)", text)
    return int(found.group(1)) if found else None


def hook(release, entry, sae_id, path):
    """The hook that SAELens' loader gives to an autoencoder; None if only its configuration has it."""
    loader, repository = entry["conversion_func"], entry["repo_id"]
    block = layer(path)
    if loader == "gemma_2":
        if "embedding" in path:
            return "hook_embed"
        kinds = {"res": "hook_resid_post", "mlp": "hook_mlp_out", "att": "attn.hook_z"}
        return next(f"blocks.{block}.{name}" for kind, name in kinds.items() if kind in repository)
    if loader == "gemma_3":
        kinds = {"resid_post": "hook_resid_post", "attn_out": "attn.hook_z", "mlp_out": "hook_mlp_out",
                 "transcoder": "hook_mlp_in", "clt": "hook_mlp_in"}
        return next(f"blocks.{block}.{name}" for kind, name in kinds.items() if kind in path)
    if loader == "gemma_2_transcoder":
        return f"blocks.{block}.ln2.hook_normalized"
    if loader == "qwen_scope":
        return f"blocks.{block}.hook_resid_post"
    if loader == "mwhanna_transcoder":
        return f"blocks.{block}.mlp.hook_in"
    if loader == "mntss_clt_layer_transcoder":
        return None
    if loader in ("llama_scope", "llama_scope_r1_distill"):
        found = re.match(r"l(\d+)(.)", sae_id)
        return f"blocks.{found.group(1)}.{SUBLAYER[found.group(2)]}"
    if loader == "goodfire":
        return f"blocks.{layer(sae_id)}.hook_resid_post"
    if loader == "dictionary_learning_1" and not sae_id.startswith("blocks."):
        return f"blocks.{block}.hook_resid_post"
    found = re.match(r"blocks\.\d+\.hook_[a-z]+(_[a-z]+)?", sae_id)
    return found.group(0) if found else None


def architecture(release, entry):
    """The architecture, where the loader or the name of the release says it."""
    loader = entry["conversion_func"]
    if loader in ("gemma_2", "gemma_3", "gemma_2_transcoder", "llama_scope", "llama_scope_r1_distill"):
        return "jumprelu"
    if loader == "qwen_scope":
        return "topk"
    if "matryoshka" in release or "MatryoshkaBatchTopK" in str(entry["saes"][0]["path"]):
        return "matryoshka"
    for name, kind in {"_topk_": "topk", "_gated_": "gated", "_vanilla_": "relu", "_standard_": "relu"}.items():
        if name in release:
            return kind
    return None


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--yaml", type=Path, required=True)
    parser.add_argument("--version", required=True, help="of the Python package")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    releases = yaml.load(args.yaml.read_text(), Loader=loader)
    owners = {entry["repo_id"].split("/")[0] for entry in releases.values()}
    assert not owners & set(releases), "a release is called like an owner, so OWNER/REPO and RELEASE/ID could be confused"
    lines = [f"# SAELens {args.version}, pretrained_saes.yaml; MIT, Copyright (c) 2023 Joseph Bloom"]
    count = residual = 0
    for release, entry in releases.items():
        overrides = entry.get("config_overrides") or {}
        readable = FORMATS.get(entry["conversion_func"]) if not DECISIVE & set(overrides) else None
        lines.append("\t".join(["R", release, entry["model"], entry["repo_id"], readable or "-", architecture(release, entry) or "-"]))
        for sae in entry["saes"]:
            sae_id, path = str(sae["id"]), str(sae["path"])
            name = hook(release, entry, sae_id, path)
            count += 1
            # The input of block 0 is the output of no block.
            residual += bool(re.search(r"\.hook_resid_(post|pre)$", name or "")) and name != "blocks.0.hook_resid_pre"
            fields = ["S", sae_id, "=" if path == sae_id else path, name or "-", f"{sae['l0']:g}" if "l0" in sae else "-"]
            assert not any("\t" in field or "\n" in field for field in fields)
            lines.append("\t".join(fields))
    text = "\n".join(lines) + "\n"
    args.out.write_bytes(gzip.compress(text.encode(), 9, mtime=0))
    print(f"{len(releases)} releases, {count:,} autoencoders, {residual:,} of the residual stream; "
          f"{len(text):,} bytes, {args.out.stat().st_size:,} compressed")


if __name__ == "__main__":
    main()
