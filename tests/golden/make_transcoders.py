"""Golden files for transcoders: what SAELens computes with its four kinds, from their saved folders.

Needs Python 3.11 with sae-lens 6.54.12, torch 2.15, numpy and safetensors.

    python make_transcoders.py --seed 0 --out tests/golden/saes/other
    python make_transcoders.py --check FOLDER --io tests/golden/saes/other/saelens_skip_transcoder/io.safetensors

The first writes `saelens_transcoder`, `saelens_skip_transcoder`, `saelens_jumprelu_transcoder` and `saelens_jumprelu_skip_transcoder`:
the folder that `save_model` writes, d_in 8, d_out 6, d_sae 24, and `io.safetensors` {x [10, 8], z [10, 24], x_hat [10, 6]} from
SAE.load_from_disk: `encode` and `forward`. The inputs are drawn again until no pre-activation is within 1e-3 of a threshold.

The second loads a folder that another program wrote with SAELens and prints how far its results are from those of the file.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from sae_lens import (
    SAE,
    JumpReLUSkipTranscoder,
    JumpReLUSkipTranscoderConfig,
    JumpReLUTranscoder,
    JumpReLUTranscoderConfig,
    SkipTranscoder,
    SkipTranscoderConfig,
    Transcoder,
    TranscoderConfig,
)
from sae_lens.saes.sae import SAEMetadata
from safetensors.torch import load_file, save_file

D_IN, D_OUT, D_SAE, ROWS = 8, 6, 24, 10
KINDS = {
    "saelens_transcoder": (Transcoder, TranscoderConfig),
    "saelens_skip_transcoder": (SkipTranscoder, SkipTranscoderConfig),
    "saelens_jumprelu_transcoder": (JumpReLUTranscoder, JumpReLUTranscoderConfig),
    "saelens_jumprelu_skip_transcoder": (JumpReLUSkipTranscoder, JumpReLUSkipTranscoderConfig),
}
METADATA = dict(
    model_name="google/gemma-2-2b",
    hook_name="blocks.4.ln2.hook_normalized",
    hook_name_out="blocks.4.hook_mlp_out",
    hook_head_index=None,
    context_size=1024,
    prepend_bos=True,
)


def make(rng, folder, cls, config_cls):
    config = config_cls(
        d_in=D_IN,
        d_out=D_OUT,
        d_sae=D_SAE,
        apply_b_dec_to_input=False,
        normalize_activations="none",
        metadata=SAEMetadata(**METADATA),
    )
    sae = cls(config)
    scales = {"W_enc": 0.4, "b_enc": 0.2, "W_dec": 0.5, "b_dec": 0.3, "W_skip": 0.3}
    with torch.no_grad():
        for name, parameter in sae.named_parameters():
            values = rng.uniform(0.1, 0.8, parameter.shape) if name == "threshold" else rng.normal(size=parameter.shape) * scales[name]
            parameter.copy_(torch.from_numpy(np.asarray(values, dtype=np.float32)))
    sae.save_model(folder)
    sae = SAE.load_from_disk(folder)
    threshold = getattr(sae, "threshold", torch.zeros(D_SAE))
    while True:
        x = torch.from_numpy(rng.normal(size=(ROWS, D_IN)).astype(np.float32))
        with torch.no_grad():
            if ((x @ sae.W_enc + sae.b_enc) - threshold).abs().min() > 1e-3:
                save_file({"x": x, "z": sae.encode(x), "x_hat": sae(x)}, folder / "io.safetensors")
                return


def check(folder, io):
    io = load_file(io)
    sae = SAE.load_from_disk(folder)
    with torch.no_grad():
        for name, found in [("z", sae.encode(io["x"])), ("x_hat", sae(io["x"]))]:
            print(type(sae).__name__, name, (found - io[name]).abs().max().item(), "of", io[name].abs().max().item())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--check", type=Path)
    parser.add_argument("--io", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.check:
        return check(args.check, args.io)
    for number, (name, kind) in enumerate(KINDS.items()):
        make(np.random.default_rng([args.seed, number]), args.out / name, *kind)


if __name__ == "__main__":
    main()
