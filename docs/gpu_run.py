"""Runs what `docs/gpu.sh` packed, on a machine with a GPU: correctness first, then speed, in at most eight minutes.

    python3 sae-gpu/run.py                               # results in sae-gpu/results
    python3 sae-gpu/run.py --device cpu --small          # to try this script where there is no GPU

Needs Python 3.10, the driver, and with CUDA its toolkit (NVRTC and headers, found at CUDA_PATH, $HOME or /usr/local/cuda).
torch and transformers, if they are there, run the same steps for comparison. Each stage has its own time limit and writes
results/NAME.json when it ends, fails or runs out of time, so that partial results remain whatever happens later. The exit
status is 1 if a stage failed or ran out of time.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ARCHITECTURES = ["topk", "batch-topk", "matryoshka", "relu", "jumprelu", "gated"]
FULL = {"d_in": 4096, "features": 65536, "k": 32, "batch": 16384, "samples": 4, "steps": 2000, "shape": "llava-next-7b"}
SMALL = {"d_in": 64, "features": 512, "k": 8, "batch": 256, "samples": 1, "steps": 20, "shape": "llava-160m"}
# A tail of this many characters of what a stage printed is kept.
KEPT = 4000


def parse():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--device", default="cuda", help="as for `sae --device`")
    p.add_argument("--seconds", type=float, default=480, help="for all stages together")
    p.add_argument("--small", action="store_true", help="small sizes, to try this script")
    p.add_argument("--out", type=Path, default=HERE / "results")
    p.add_argument("--only", nargs="+", help="stages whose names begin with one of these")
    p.add_argument("--peer", nargs=2, help=argparse.SUPPRESS)
    return p.parse_args()


def stages(a, sizes):
    """Name, seconds at most, and command of each stage, in order: what matters most comes first."""
    sae, small = str(HERE / "sae"), ["--small"] if a.small else []
    peer = [sys.executable, str(HERE / "run.py"), *small, "--device", a.device, "--peer"]
    shape = ["--d-in", sizes["d_in"], "--features", sizes["features"], "--k", sizes["k"], "--batch", sizes["batch"]]
    train = [sae, "bench", "train", "--device", a.device, "--json", *shape]
    harvest = [sae, "bench", "harvest", "--device", a.device, "--json", "--samples", sizes["samples"]]
    yield "starts", 20, [sae, "--version"]
    yield "trainer-tests", 120, [str(HERE / "trainer-tests"), "on_a_gpu", "device::", "--test-threads", "1"]
    # The bundled model is tested on the CPU alone, and is not packed.
    yield "model-tests", 150, [str(HERE / "model-tests"), "parity::", "attention::", "a_gpu_continues", "--skip", "the_bundled_model", "--test-threads", "2"]
    for arch in ARCHITECTURES:
        yield f"train-{arch}", 40, [*train, "--arch", arch, "--rounds", 5]
        yield f"train-{arch}-torch", 30, [*peer, "train", arch]
    yield "train-dead", 40, [*train, "--dead", 0.05, "--rounds", 5]
    yield "harvest-bf16", 120, [*harvest, "--shape", sizes["shape"], "--dtype", "bf16", "--rounds", 2]
    yield "harvest-torch", 90, [*peer, "harvest", sizes["shape"]]
    yield "memory", 120, [*train, "--rounds", sizes["steps"]]


def environment(device):
    """CUDA's libraries and headers; tests have to find a GPU unless the device is a CPU."""
    variables = dict(os.environ, RUST_BACKTRACE="1")
    if device != "cpu":
        variables["SAE_EXPECT_GPU"] = "1"
    cuda = Path(variables.setdefault("CUDA_PATH", "/usr/local/cuda"))
    libraries = [str(folder) for folder in (cuda / "lib64", cuda / "targets/x86_64-linux/lib") if folder.is_dir()]
    variables["LD_LIBRARY_PATH"] = ":".join([*libraries, variables.get("LD_LIBRARY_PATH", "")]).strip(":")
    return variables


def link():
    """Tests find golden files under the folder in which they were built."""
    built_in = Path((HERE / "built-in").read_text().strip())
    if not built_in.exists():
        built_in.parent.mkdir(parents=True, exist_ok=True)
        built_in.symlink_to(HERE)


def watch_memory(found, done):
    """The GPU's used MiB every second."""
    query = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits", "--id=0"]
    while not done.wait(1):
        try:
            found.append(int(subprocess.run(query, capture_output=True, text=True, check=True).stdout.split()[0]))
        except (OSError, subprocess.CalledProcessError, ValueError, IndexError):
            return


def run(command, limit, variables):
    """Runs a command in a process group of its own, which ends when the time does."""
    memory, done = [], threading.Event()
    watcher = threading.Thread(target=watch_memory, args=(memory, done))
    watcher.start()
    start = time.monotonic()
    process = subprocess.Popen([str(part) for part in command], cwd=HERE, env=variables, stdin=subprocess.DEVNULL,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)
    try:
        out, log = process.communicate(timeout=limit)
        status = "ok" if process.returncode == 0 else f"failed with status {process.returncode}"
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        out, log = process.communicate()
        status = f"ran out of time after {limit:.0f} s"
    done.set()
    watcher.join()
    found = {"status": status, "seconds": time.monotonic() - start, "command": [str(part) for part in command]}
    try:
        found["result"] = json.loads(out)
    except ValueError:
        found["output"] = out[-KEPT:]
    if status != "ok":
        found["log"] = log[-KEPT:]
    if memory:
        # A leak shows as a difference between the second and the last quarter.
        found["gpu_memory_mib"] = {"most": max(memory), "second_quarter": memory[len(memory) // 2 - 1], "end": memory[-1]}
    return found


def main():
    a = parse()
    sizes = SMALL if a.small else FULL
    if a.peer:
        return peer(a.device, sizes, *a.peer)
    end = time.monotonic() + a.seconds
    a.out.mkdir(parents=True, exist_ok=True)
    link()
    variables, good = environment(a.device), True
    for name, limit, command in stages(a, sizes):
        if a.only and not name.startswith(tuple(a.only)):
            continue
        left = end - time.monotonic()
        found = run(command, min(limit, left), variables) if left > 1 else {"status": "not run: no time was left"}
        (a.out / f"{name}.json").write_text(json.dumps(found, indent=1))
        good &= found["status"] == "ok"
        result = found.get("result", {})
        speed = result.get("tokens_per_s") if isinstance(result, dict) else None
        print(f"{name:24} {found['status']}" + (f", {speed:,.0f} tokens/s" if speed else ""), flush=True)
    sys.exit(0 if good else 1)


def peer(device, sizes, what, name):
    """The same step in PyTorch, printed as JSON."""
    import torch

    on = torch.device("cuda" if device.startswith("cuda") else "cpu")
    wait = torch.cuda.synchronize if on.type == "cuda" else lambda: None
    step, tokens = train_step(torch, on, sizes, name) if what == "train" else forward_pass(torch, on, sizes, name)
    seconds = []
    for _ in range(4):
        wait()
        start = time.perf_counter()
        step()
        wait()
        seconds.append(time.perf_counter() - start)
    middle = sorted(seconds[1:])[1]
    print(json.dumps({"torch": torch.__version__, "seconds": middle, "tokens_per_s": tokens / middle}))


def train_step(torch, device, sizes, arch):
    """A dense training step as people write it: products in bf16 (autocast), autograd, Adam. The same sizes as ours."""
    d, f, k, batch = (sizes[name] for name in ("d_in", "features", "k", "batch"))
    torch.manual_seed(0)
    parameter = lambda *shape, scale=0.0: torch.nn.Parameter(scale * torch.randn(*shape, device=device))
    x = torch.randn(batch, d, device=device)
    w_enc, w_dec = parameter(d, f, scale=d**-0.5), parameter(f, d, scale=d**-0.5)
    b_enc, b_dec, scale, shift = parameter(f), parameter(d), parameter(f), parameter(f)
    adam = torch.optim.Adam([w_enc, w_dec, b_enc, b_dec, scale, shift], lr=1e-5, fused=device.type == "cuda")

    def selected(p):
        if arch == "topk":
            values, at = p.topk(k, dim=1)
            return torch.zeros_like(p).scatter(1, at, values.relu())
        # The batch's threshold, from some tokens: sorting all products would take longer than the rest of the step.
        some = min(batch, 256)
        return p.relu() * (p >= p.detach()[:some].flatten().topk(k * some).values[-1])

    def step():
        with torch.autocast(device.type, torch.bfloat16):
            p = (x - b_dec) @ w_enc + b_enc
            if arch in ("topk", "batch-topk", "matryoshka"):
                z, penalty = selected(p), 0.0
            elif arch == "jumprelu":
                # The straight-through gradient of the threshold, as SAELens has it, costs another pass over the products.
                open_ = torch.sigmoid((p - shift.exp()) / 0.1)
                z, penalty = p.relu() * ((p > shift.exp()) + open_ - open_.detach()), 1e-4 * open_.sum() / batch
            elif arch == "gated":
                z, penalty = (p * scale.exp() + shift).relu() * (p > 0), 1e-4 * p.relu().sum() / batch
            else:
                z, penalty = p.relu(), 1e-4 * p.relu().sum() / batch
            ends = [f // 8, f // 2, f] if arch == "matryoshka" else [f]
            loss = penalty
            for end in ends:
                loss = loss + (z[:, :end] @ w_dec[:end] + b_dec - x).float().square().sum() / batch
            if arch == "gated":
                loss = loss + (p.relu() @ w_dec + b_dec - x).float().square().sum() / batch
        adam.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_([w_enc, w_dec, b_enc, b_dec], 1.0)
        adam.step()

    return step, batch


def forward_pass(torch, device, sizes, shape):
    """A forward pass of the decoder of the same shape with random weights, with sdpa and all hidden states. Its inputs are
    embeddings in place of images, so that the time of the vision tower is not included."""
    from transformers import AutoConfig, AutoModelForCausalLM

    large = {"hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32,
             "num_key_value_heads": 8, "vocab_size": 32064}
    small = {"hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30, "num_attention_heads": 9,
             "num_key_value_heads": 3, "vocab_size": 49152}
    config = AutoConfig.for_model("mistral", **(large if shape == "llava-next-7b" else small))
    with device:
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16, attn_implementation="sdpa").eval()
    # As many positions as a sample of `sae bench harvest` has: a 640 x 480 image and 128 tokens of text.
    length = 2340 + 128 if shape == "llava-next-7b" else 576 + 128
    inputs = torch.randn(sizes["samples"], length, config.hidden_size, device=device, dtype=torch.bfloat16)

    def step():
        with torch.inference_mode():
            model.model(inputs_embeds=inputs, output_hidden_states=True, use_cache=False)

    return step, sizes["samples"] * length


if __name__ == "__main__":
    main()
