"""Golden files for activation caches: what other tools write, with what is in it.

Needs Python 3.11 with sae-lens 6.54.12, transformer-lens 3.9, datasets 3.6, torch 2.15, numpy 1.26, pyarrow 25 and
safetensors 0.8; no network.

    python make_caches.py --out tests/golden/caches

saelens/       CacheActivationsRunner.run() of sae-lens on a random HookedTransformer (2 layers, 16 wide) and a random
               tokenized data set: blocks.1.hook_resid_post, 8 contexts of 12 positions in two files, float32.
saelens-f16/   its features and save_to_disk with float16 and three rows, by its own `_create_shard` layout.
saev/          protocol 2.1 by hand from its description: 5 images, layers 13 and 5 (in that order), CLS and 4 patches,
               8 wide, 2 images a shard, the last file of full size. `data` is a pickle that would raise if it were loaded.
plain/         activations.safetensors (bf16, hook and model in its header), tokens.parquet as pandas would write it
               (int64, large strings, only some columns), flat.npy (f4, [10, 4]), cube.npy (f2, [3, 4, 6]).
expected.safetensors   for each of them `<name>` [rows, d_in] f32 and `<name>.ids` [rows] i32, in the order of the import.
"""

import argparse
import base64
import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
import torchvision.io
from datasets import Array2D, Dataset, Features, Sequence, Value
from safetensors.torch import save_file
from transformer_lens import HookedTransformer, HookedTransformerConfig


# datasets 3.6 looks for it whenever it hands out tensors; torchvision 0.29 has it no more.
torchvision.io.VideoReader = getattr(torchvision.io, "VideoReader", type("VideoReader", (), {}))


class Trap:
    """Unpickling one raises, so that a reader that does it is found out."""

    def __reduce__(self):
        return (exec, ("raise RuntimeError('a pickle was executed')",))


def saelens(out):
    from sae_lens import cache_activations_runner as runner
    from sae_lens.config import CacheActivationsRunnerConfig

    positions, d = 12, 16
    model = HookedTransformer(
        HookedTransformerConfig(
            n_layers=2, d_model=d, n_ctx=positions, d_head=8, n_heads=2, d_vocab=50, act_fn="gelu", seed=0, device="cpu"
        )
    )
    generator = torch.Generator().manual_seed(1)
    rows = torch.randint(1, 50, (8, positions), generator=generator).tolist()
    dataset = Dataset.from_dict({"tokens": rows})
    runner.load_model = lambda **_: model
    config = CacheActivationsRunnerConfig(
        dataset_path="made-here",
        model_name="random",
        model_batch_size=2,
        hook_name="blocks.1.hook_resid_post",
        d_in=d,
        training_tokens=8 * positions,
        context_size=positions,
        new_cached_activations_path=str(out),
        shuffle=False,
        device="cpu",
        buffer_size_gb=4 * positions * d * 4 / 1e9,
        prepend_bos=False,
        streaming=False,
    )
    made = runner.CacheActivationsRunner(config, override_dataset=dataset).run().with_format("torch")
    files = sorted(out.glob("*.arrow"))
    assert len(files) > 1, files
    acts, ids = made["blocks.1.hook_resid_post"], made["token_ids"]
    with torch.no_grad():
        _, cache = model.run_with_cache(ids.long())
    assert torch.allclose(cache["blocks.1.hook_resid_post"], acts, atol=1e-5)
    return acts.reshape(-1, d), ids.reshape(-1).int()


def saelens_f16(out):
    generator = torch.Generator().manual_seed(2)
    acts = torch.randn(3, 5, 8, generator=generator).half()
    ids = torch.randint(0, 50, (3, 5), generator=generator).int()
    hook = "blocks.3.hook_resid_pre"
    features = Features({hook: Array2D(shape=(5, 8), dtype="float16"), "token_ids": Sequence(Value("int32"), length=5)})
    Dataset.from_dict({hook: acts.numpy(), "token_ids": ids.numpy()}, features=features).save_to_disk(str(out))
    return acts.float().reshape(-1, 8), ids.reshape(-1)


def saev(out):
    examples, layers, tokens, d = 5, [13, 5], 5, 8
    acts = np.random.default_rng(3).standard_normal((examples, len(layers), tokens, d)).astype("<f4")
    per_shard = 2
    out.mkdir(parents=True)
    shards = []
    for n, first in enumerate(range(0, examples, per_shard)):
        shard = np.zeros((per_shard, len(layers), tokens, d), "<f4")
        here = acts[first : first + per_shard]
        shard[: len(here)] = here
        shard.tofile(out / f"acts{n:06}.bin")
        shards.append({"name": f"acts{n:06}.bin", "n_examples": len(here)})
    metadata = {
        "family": "clip",
        "ckpt": "ViT-T-32/made-here",
        "layers": layers,
        "content_tokens_per_example": tokens - 1,
        "cls_token": True,
        "d_model": d,
        "n_examples": examples,
        "max_tokens_per_shard": per_shard * tokens * len(layers) + 3,
        "data": base64.b64encode(pickle.dumps(Trap())).decode(),
        "dataset": "images",
        "pixel_agg": None,
        "dtype": "float32",
        "protocol": "2.1",
    }
    (out / "metadata.json").write_text(json.dumps(metadata, indent=2))
    (out / "shards.json").write_text(json.dumps(shards))
    acts = torch.from_numpy(acts)
    ids = torch.full((examples * tokens,), -1, dtype=torch.int32)
    return acts[:, 1].reshape(-1, d), acts[:, 0].reshape(-1, d), ids


def plain(out):
    out.mkdir(parents=True)
    generator = torch.Generator().manual_seed(4)
    acts = torch.randn(9, 6, generator=generator).bfloat16()
    save_file({"activations": acts}, out / "activations.safetensors", {"hook": "layers.7", "model": "made-here"})
    ids = torch.arange(9, dtype=torch.int32) + 100
    table = {
        "sample": pa.array([2, 2, 2, 3, 3, 3, 3, 9, 9], pa.int64()),
        "token_id": pa.array(ids.tolist(), pa.int64()),
        "piece": pa.array([f" w{n}" for n in range(9)], pa.large_string()),
        "modality": pa.array([0, 1, 1, 0, 0, 0, 0, 1, 0], pa.int64()),
        "special": pa.array([True] + 8 * [False]),
        "image": pa.array([None, 0, 0, None, None, None, None, 0, None], pa.float64()),
        "x0": pa.array([None, 0.0, 0.5, None, None, None, None, 0.0, None], pa.float64()),
        "y0": pa.array([None, 0.0, 0.0, None, None, None, None, 0.0, None], pa.float64()),
        "x1": pa.array([None, 0.5, 1.0, None, None, None, None, 1.0, None], pa.float64()),
        "y1": pa.array([None, 1.0, 1.0, None, None, None, None, 1.0, None], pa.float64()),
        "comment": pa.array(9 * ["not ours"]),
    }
    pq.write_table(pa.table(table), out / "tokens.parquet")
    flat = np.random.default_rng(5).standard_normal((10, 4)).astype("<f4")
    np.save(out / "flat.npy", flat)
    cube = np.random.default_rng(6).standard_normal((3, 4, 6)).astype("<f2")
    np.save(out / "cube.npy", cube)
    return acts.float(), ids, torch.from_numpy(flat), torch.from_numpy(cube.astype("f4")).reshape(-1, 6)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    out = parser.parse_args().out
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    expected = {}
    expected["saelens"], expected["saelens.ids"] = saelens(out / "saelens")
    expected["saelens-f16"], expected["saelens-f16.ids"] = saelens_f16(out / "saelens-f16")
    expected["saev-5"], expected["saev-13"], expected["saev.ids"] = saev(out / "saev")
    acts, ids, flat, cube = plain(out / "plain")
    expected |= {"plain": acts, "plain.ids": ids, "flat": flat, "cube": cube}
    save_file({name: tensor.contiguous() for name, tensor in expected.items()}, out / "expected.safetensors")


if __name__ == "__main__":
    main()
