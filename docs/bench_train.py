"""Compares training steps of other packages with ours, in turns, on one machine.

    pip install sae-lens==6.54.12 dictionary-learning==0.1.0 eai-sparsify==1.3.3
    cargo build --release
    python docs/bench_train.py --sae target/release/sae            # TopK, d_in 512, 8,192 features, k 32, batch 1,024
    python docs/bench_train.py --sae target/release/sae --relu     # ReLU + L1 in PyTorch, dense, against ours at L0 200

Every round runs each of them once and our program once (`sae bench train --json`, a few steps each); medians of the
rounds are printed. All run in f32 on the same number of threads, with Adam and clipping by the global norm where the
package clips. Do not compare numbers of different runs: the speed of machines drifts.
"""

import argparse
import json
import os
import statistics
import subprocess
import time

os.environ.setdefault("SPARSIFY_DISABLE_TRITON", "1")
# On some processors these are set to slow but safe kernels of OpenBLAS; PyTorch's own are not concerned.
import torch  # noqa: E402


def parse():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--sae", default="target/release/sae")
    p.add_argument("--d-in", type=int, default=512)
    p.add_argument("--features", type=int, default=8192)
    p.add_argument("--k", type=int, default=32)
    p.add_argument("--batch", type=int, default=1024)
    p.add_argument("--l0", type=int, default=200)
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--steps", type=int, default=3, help="steps of each peer in a round")
    p.add_argument("--relu", action="store_true")
    p.add_argument("--skip-slow", action="store_true", help="leave sae-lens and dictionary-learning out")
    return p.parse_args()


def inputs(a):
    torch.manual_seed(0)
    directions = torch.randn(2 * a.d_in, a.d_in) / a.d_in**0.5
    strength = (torch.randn(a.batch, 2 * a.d_in) - 1.5).clamp(min=0) * 2
    return strength @ directions + 0.05 * torch.randn(a.batch, a.d_in)


def product(a, x):
    w = torch.randn(a.d_in, a.features)
    return lambda: x @ w


def relu(a, x, l0):
    """SAE-V's step: ReLU + L1 weighted by the decoder's norms, dense autograd, Adam, clipping."""
    w_dec = torch.nn.functional.normalize(torch.randn(a.features, a.d_in), dim=1)
    bias = -(x[:64] @ w_dec.T).flatten().sort(descending=True).values[l0 * 64]
    params = [w_dec.T.contiguous(), bias.repeat(a.features), w_dec, torch.zeros(a.d_in)]
    params = [torch.nn.Parameter(p) for p in params]
    adam = torch.optim.Adam(params, lr=1e-5)

    def step():
        w_enc, b_enc, w_dec, b_dec = params
        z = torch.relu(x @ w_enc + b_enc)
        loss = (z @ w_dec + b_dec - x).pow(2).sum(-1).mean() + 1e-4 * (z * w_dec.norm(dim=1)).sum(-1).mean()
        adam.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(params, 1.0)
        adam.step()

    return step


def sparsify(a, x):
    from sparsify import SparseCoder, SparseCoderConfig

    coder = SparseCoder(a.d_in, SparseCoderConfig(num_latents=a.features, k=a.k), device="cpu", dtype=torch.float32)
    adam = torch.optim.Adam(coder.parameters(), lr=1e-5)

    def step():
        out = coder(x)
        adam.zero_grad()
        out.fvu.backward()
        coder.remove_gradient_parallel_to_decoder_directions()
        adam.step()
        coder.set_decoder_norm_to_unit_norm()

    return step


def sae_lens(a, x):
    from sae_lens.saes.sae import TrainStepInput
    from sae_lens.saes.topk_sae import TopKTrainingSAE, TopKTrainingSAEConfig

    sae = TopKTrainingSAE(TopKTrainingSAEConfig(d_in=a.d_in, d_sae=a.features, k=a.k, device="cpu"))
    adam = torch.optim.Adam(sae.parameters(), lr=1e-5)

    def step():
        given = TrainStepInput(sae_in=x, coefficients={}, dead_neuron_mask=None, n_training_steps=0, is_logging_step=False)
        out = sae.training_forward_pass(given)
        adam.zero_grad()
        out.loss.backward()
        torch.nn.utils.clip_grad_norm_(sae.parameters(), 1.0)
        adam.step()

    return step


def dictionary_learning(a, x):
    from dictionary_learning.trainers.top_k import TopKTrainer

    trainer = TopKTrainer(steps=10**6, activation_dim=a.d_in, dict_size=a.features, k=a.k, layer=0, lm_name="", device="cpu")
    at = iter(range(1, 10**6))
    return lambda: trainer.update(next(at), x)


def ours(a, *more):
    command = [a.sae, "bench", "train", "--json", "--rounds", "3", "--d-in", str(a.d_in), "--features", str(a.features)]
    command += ["--k", str(a.k), "--batch", str(a.batch), *more]
    env = {**os.environ, "RAYON_NUM_THREADS": str(a.threads)}
    found = json.loads(subprocess.run(command, check=True, capture_output=True, env=env).stdout)
    return found["seconds"], found["product_seconds"]


def main():
    a = parse()
    torch.set_num_threads(a.threads)
    x = inputs(a)
    with torch.no_grad():
        peers = {"torch product": product(a, x)}
    if a.relu:
        peers[f"PyTorch, ReLU + L1, dense, L0 about {a.l0}"] = relu(a, x, a.l0)
        own = {
            f"ours, ReLU + L1 at L0 {a.l0}": ["--arch", "relu", "--l0", str(a.l0)],
            "ours, ReLU + L1, dense": ["--arch", "relu", "--l0", str(a.l0), "--dense", "true"],
        }
    else:
        peers["sparsify"] = sparsify(a, x)
        if not a.skip_slow:
            peers["sae-lens"] = sae_lens(a, x)
            peers["dictionary-learning"] = dictionary_learning(a, x)
        own = {"ours": []}
    seconds = {name: [] for name in [*peers, *own, "our f32 product"]}
    for step in peers.values():
        step()
    for _ in range(a.rounds):
        for name, step in peers.items():
            for _ in range(a.steps):
                start = time.perf_counter()
                step()
                seconds[name].append(time.perf_counter() - start)
        for name, more in own.items():
            step, floor = ours(a, *more)
            seconds[name].append(step)
            seconds["our f32 product"].append(floor)
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    print(f"d_in {a.d_in}, {a.features} features, k {a.k}, batch {a.batch}, {a.threads} threads, torch {torch.__version__}")
    best = min(medians[name] for name in own)
    for name, median in medians.items():
        speed = a.batch / median
        print(f"{name:45} {1e3 * median:9.1f} ms {speed:10,.0f} tokens/s   ours is {median / best:5.2f} x")


if __name__ == "__main__":
    main()
