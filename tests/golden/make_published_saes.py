"""Golden files for autoencoder layouts whose tools are not installed: small folders as they are published, with what the
tools' sources compute, written out here in float64.

Needs Python 3.11 with torch 2.15 and safetensors 0.8.

    python make_published_saes.py --out tests/golden/saes/other

d_in 8, d_sae 24; `io.safetensors` {x [10, 8], z [10, 24], x_hat [10, 8]} in each folder.

llama_scope, llama_scope_topk    Llama Scope of 2024, as `SparseAutoEncoder.from_config` of lm_saes loads it: biases and
                                 decoder brought into the units of the model, every direction made one long, then one
                                 threshold for all features (or, without a threshold, the k largest). The first is in
                                 bf16, as released; the second is a transcoder.
llamascopium_linear              Llama Scope R1 Distill of 2025: today's configuration, yesterday's names of tensors. z
                                 is that of the normalised input.
SAE-Res-Tiny-2B-Base-W24-L0_4    Qwen-Scope: `layer3.sae.pt`, encoded as its model card does.
dl_april                         dictionary_learning's `AutoEncoder` with a free decoder, as `load_dictionary` loads it:
                                 directions made one long.
dl_new                           dictionary_learning's `AutoEncoderNew`.
saelens_train_scaled             A checkpoint that SAELens 6 writes during the training of a BatchTopK autoencoder with
                                 `normalize_activations: expected_average_only_in`; the factor lies beside it.

Seeds are tried in turn until no selection hangs on the last bits of a float.
"""

import argparse
import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import save_file

ROWS, D, F, K = 10, 8, 24, 4
MARGIN = 1e-3


class Unlucky(Exception):
    """A choice that another order of sums could turn."""


def above(p, threshold):
    if ((p - threshold).abs() < MARGIN).any():
        raise Unlucky
    return torch.where(p > threshold, p, 0)


def largest(p, k=K):
    values, indices = p.topk(k + 1, dim=-1)
    if (values[:, k - 1] - values[:, k] < MARGIN).any() or (values[:, :k] < MARGIN).any():
        raise Unlucky
    return torch.zeros_like(p).scatter(-1, indices[:, :k], values[:, :k])


def tensors(dtype=torch.float32):
    """Encoder [F, D], its bias, decoder [D, F] with columns of different lengths, its bias: exact in `dtype`."""
    shapes = [(F, D), (F,), (D, F), (D,)]
    scales = [1.0, 0.3, 0.5, 0.3]
    return [(torch.randn(shape) * scale).to(dtype) for shape, scale in zip(shapes, scales)]


def config_of_lm_saes(**changes):
    return {
        "device": "cuda:0", "seed": 42, "dtype": "torch.bfloat16", "hook_point_in": "blocks.15.hook_resid_post",
        "hook_point_out": "blocks.15.hook_resid_post", "use_decoder_bias": True,
        "apply_decoder_bias_to_pre_encoder": False, "expansion_factor": 3, "d_model": D, "d_sae": F,
        "bias_init_method": "all_zero", "act_fn": "jumprelu", "jump_relu_threshold": 0.5,
        "norm_activation": "dataset-wise", "dataset_average_activation_norm": {"in": 10.0, "out": 10.0},
        "decoder_exactly_fixed_norm": False, "sparsity_include_decoder_norm": True, "use_glu_encoder": False,
        "init_decoder_norm": 0.5, "init_encoder_norm": None, "init_encoder_with_decoder_transpose": True, "lp": 1,
        "l1_coefficient": 8e-05, "l1_coefficient_warmup_steps": 78125, "top_k": K, "k_warmup_steps": 78125,
        "use_batch_norm_mse": True, "use_ghost_grads": False, "tp_size": 1, "ddp_size": 1, **changes,
    }


def write_json(path, value):
    path.write_text(json.dumps(value, indent=4))


def lm_saes(folder, config, dtype, choose):
    enc, b_enc, dec, b_dec = tensors(dtype)
    (folder / "checkpoints").mkdir()
    names = ["encoder.weight", "encoder.bias", "decoder.weight", "decoder.bias"]
    save_file(dict(zip(names, [enc, b_enc, dec, b_dec])), folder / "checkpoints/final.safetensors")
    write_json(folder / "hyperparams.json", config)
    enc, b_enc, dec, b_dec = (t.double() for t in (enc, b_enc, dec, b_dec))
    norms = config["dataset_average_activation_norm"]
    s_in, s_out = D**0.5 / norms["in"], D**0.5 / norms["out"]
    b_enc, b_dec, dec = b_enc / s_in, b_dec / s_out, dec * s_in / s_out
    length = dec.norm(dim=0)
    enc, b_enc, dec = enc * length[:, None], b_enc * length, dec / length
    x = torch.randn(ROWS, D).double() * 3
    z = choose(x @ enc.T + b_enc)
    return x, z, z @ dec.T + b_dec


def llama_scope(folder):
    return lm_saes(folder, config_of_lm_saes(), torch.bfloat16, lambda p: above(p, 0.5))


def llama_scope_topk(folder):
    norms = {"in": 4.0, "out": 12.0}
    places = {"hook_point_in": "blocks.15.ln2.hook_normalized", "hook_point_out": "blocks.15.hook_mlp_out"}
    config = config_of_lm_saes(
        act_fn="topk", jump_relu_threshold=0.0, dataset_average_activation_norm=norms, **places
    )
    return lm_saes(folder, config, torch.float32, largest)


def llamascopium_linear(folder):
    enc, b_enc, dec, b_dec = tensors()
    log_threshold, hook, norm = torch.randn(F) * 0.3 - 1, "blocks.15.hook_resid_post", 10.0
    named = {
        "encoder.weight": enc, "encoder.bias": b_enc, "decoder.weight": dec, "decoder.bias": b_dec,
        "log_jumprelu_threshold": log_threshold, f"dataset_average_activation_norm.{hook}": torch.tensor(norm),
    }
    save_file(named, folder / "sae_weights.safetensors")
    write_json(folder / "config.json", {
        "sae_type": "sae", "d_model": D, "expansion_factor": 3, "use_decoder_bias": True, "use_glu_encoder": False,
        "act_fn": "jumprelu", "norm_activation": "dataset-wise", "sparsity_include_decoder_norm": True, "top_k": 50,
        "skip_bos": True, "hook_point_in": hook, "hook_point_out": hook,
    })
    enc, b_enc, dec, b_dec = (t.double() for t in (enc, b_enc, dec, b_dec))
    scale, length = D**0.5 / norm, dec.norm(dim=0)
    x = torch.randn(ROWS, D).double() * 3
    z = above((scale * x @ enc.T + b_enc) * length, log_threshold.double().exp()) / length
    return x, z, (z @ dec.T + b_dec) / scale


def qwen_scope(folder):
    enc, b_enc, dec, b_dec = tensors()
    torch.save({"W_enc": enc, "W_dec": dec, "b_enc": b_enc, "b_dec": b_dec}, folder / "layer3.sae.pt")
    x = torch.randn(ROWS, D).double() * 3
    z = largest(x @ enc.double().T + b_enc.double())
    return x, z, z @ dec.double().T + b_dec.double()


def dictionary(folder, kind, bias):
    enc, b_enc, dec, b_dec = tensors()
    torch.save({bias: b_dec, "encoder.weight": enc, "encoder.bias": b_enc, "decoder.weight": dec}, folder / "ae.pt")
    trainer = {
        "dict_class": kind, "trainer_class": "StandardTrainerAprilUpdate", "activation_dim": D, "dict_size": F,
        "layer": 16, "lm_name": "llava-hf/llava-1.5-7b-hf", "submodule_name": "resid_post_layer_16",
    }
    write_json(folder / "config.json", {"trainer": trainer})
    return tuple(t.double() for t in (enc, b_enc, dec, b_dec)), torch.randn(ROWS, D).double() * 3


def dl_april(folder):
    (enc, b_enc, dec, b_dec), x = dictionary(folder, "AutoEncoder", "bias")
    length = dec.norm(dim=0)
    z = above(((x - b_dec) @ enc.T + b_enc) * length, 0)
    return x, z, z @ (dec / length).T + b_dec


def dl_new(folder):
    (enc, b_enc, dec, b_dec), x = dictionary(folder, "AutoEncoderNew", "decoder.bias")
    z = above(x @ enc.T + b_enc, 0)
    return x, z, z @ dec.T + b_dec


def saelens_train_scaled(folder):
    enc, b_enc, dec, b_dec = tensors()
    threshold, scale = torch.tensor(0.7, dtype=torch.float64), 0.35
    named = {"W_enc": enc.T, "b_enc": b_enc, "W_dec": dec.T, "b_dec": b_dec, "topk_threshold": threshold}
    save_file({name: tensor.contiguous() for name, tensor in named.items()}, folder / "sae_weights.safetensors")
    write_json(folder / "activation_scaler.json", {"scaling_factor": scale})
    write_json(folder / "cfg.json", {
        "d_in": D, "d_sae": F, "dtype": "float32", "device": "cpu", "apply_b_dec_to_input": True,
        "normalize_activations": "expected_average_only_in", "reshape_activations": "none", "decoder_init_norm": 0.1,
        "k": K, "use_sparse_activations": False, "aux_loss_coefficient": 1.0, "rescale_acts_by_decoder_norm": True,
        "topk_threshold_lr": 0.01, "architecture": "batchtopk",
        "metadata": {"sae_lens_version": "6.54.12", "hook_name": "blocks.16.hook_resid_post", "model_name": "gpt2"},
    })
    enc, b_enc, dec, b_dec = (t.double() for t in (enc, b_enc, dec, b_dec))
    length = dec.norm(dim=0)
    x = torch.randn(ROWS, D).double() * 6
    z = above(((scale * x - b_dec) @ enc.T + b_enc) * length, threshold)
    return x, z, (z @ (dec / length).T + b_dec) / scale


FOLDERS = {
    "llama_scope": llama_scope,
    "llama_scope_topk": llama_scope_topk,
    "llamascopium_linear": llamascopium_linear,
    "SAE-Res-Tiny-2B-Base-W24-L0_4": qwen_scope,
    "dl_april": dl_april,
    "dl_new": dl_new,
    "saelens_train_scaled": saelens_train_scaled,
}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, required=True)
    out = parser.parse_args().out
    for name, make in FOLDERS.items():
        folder = out / name
        for seed in range(1000):
            torch.manual_seed(seed)
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            try:
                x, z, x_hat = make(folder)
                break
            except Unlucky:
                pass
        else:
            raise SystemExit(f"{name}: no seed gives clear choices")
        io = {"x": x, "z": z, "x_hat": x_hat}
        save_file({name: t.float().contiguous() for name, t in io.items()}, folder / "io.safetensors")
        print(f"{name}: seed {seed}, {(z > 0).sum().item() / ROWS} active features a row")


if __name__ == "__main__":
    main()
