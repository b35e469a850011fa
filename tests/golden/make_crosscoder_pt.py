"""Golden files for a crosscoder in the layout of the open-source replication of Anthropic's (https://github.com/ckkissane/crosscoder-model-diff-replication):
`cfg.json` and the state dict `cc_weights.pt`.

Needs Python 3.11 with torch 2.15 and safetensors 0.8.

    python make_crosscoder_pt.py --out tests/golden/saes/other/crosscoder_pt
    python make_crosscoder_pt.py --check EXPORTED --io tests/golden/saes/other/crosscoder_relu

Two models of width 4, 24 features; `io.safetensors` {x [10, 8], z [10, 24], x_hat [10, 8]}, with the two blocks of a row one after the other. The
class below has the parameters and the two formulas of the replication's `CrossCoder`. `--check` opens a folder that `sae convert`
wrote with it, and compares what it computes with the `io.safetensors` of another folder.
"""

import argparse
import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

ROWS, MODELS, D, F, MARGIN = 10, 2, 4, 24, 1e-3


class CrossCoder(torch.nn.Module):
    def __init__(self, models, d, f):
        super().__init__()
        self.W_enc = torch.nn.Parameter(torch.randn(models, d, f))
        self.W_dec = torch.nn.Parameter(torch.randn(f, models, d) * (torch.rand(f, models, 1) + 0.5))
        self.b_enc = torch.nn.Parameter(torch.randn(f) * 0.3)
        self.b_dec = torch.nn.Parameter(torch.randn(models, d) * 0.3)

    def encode(self, x):
        return torch.relu(torch.einsum("bmd,mdf->bf", x, self.W_enc) + self.b_enc)

    def forward(self, x):
        return torch.einsum("bf,fmd->bmd", self.encode(x), self.W_dec) + self.b_dec


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--check", type=Path)
    parser.add_argument("--io", type=Path)
    args = parser.parse_args()
    made = CrossCoder(MODELS, D, F)
    if args.check:
        config = json.loads((args.check / "cfg.json").read_text())
        assert (config["d_in"], config["dict_size"]) == (D, F)
        made.load_state_dict(torch.load(args.check / "cc_weights.pt", weights_only=True))
        io = load_file(args.io / "io.safetensors")
        with torch.no_grad():
            x = io["x"].reshape(ROWS, MODELS, D)
            apart = [(a.reshape(ROWS, -1) - io[name]).abs().max().item() for a, name in ((made.encode(x), "z"), (made(x), "x_hat"))]
        print(f"z differs by {apart[0]:.1e} at most, x_hat by {apart[1]:.1e}")
        assert max(apart) < 1e-4
        return
    for seed in range(1000):
        torch.manual_seed(seed)
        made, x = CrossCoder(MODELS, D, F), torch.randn(ROWS, MODELS, D) * 2
        with torch.no_grad():
            z, x_hat = made.encode(x), made(x)
            before = torch.einsum("bmd,mdf->bf", x, made.W_enc) + made.b_enc
        if not (before.abs() < MARGIN).any():
            break
    args.out.mkdir(parents=True, exist_ok=True)
    # As in the published file; what it says of the training is left out.
    config = {"seed": seed, "d_in": D, "dict_size": F, "seq_len": 1024, "enc_dtype": "fp32", "model_name": "gemma-2-2b", "site": "resid_pre",
              "device": "cpu", "dec_init_norm": 0.08, "hook_point": "blocks.14.hook_resid_pre"}
    (args.out / "cfg.json").write_text(json.dumps(config))
    torch.save(made.state_dict(), args.out / "cc_weights.pt")
    flat = {"x": x, "z": z, "x_hat": x_hat}
    save_file({key: value.reshape(ROWS, -1).contiguous() for key, value in flat.items()}, args.out / "io.safetensors")
    print(f"seed {seed}, {(z > 0).sum().item() / ROWS} active features a row")


if __name__ == "__main__":
    main()
