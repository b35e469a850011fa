"""Golden files for autoencoders: what the peers' own code computes, in training and from their checkpoints.

Needs Python 3.11 with sae-lens 6.54.12, dictionary-learning 0.1.0, eai-sparsify 1.3.3, torch 2.15, numpy 1.26 and
safetensors 0.8.

    python make_saes.py --seed 0 --out tests/golden/saes

train/    d_in 16, d_sae 64, 20 batches of 32, f32. `cases.json`: for each case its package, class, hyper-parameters,
          the loss terms at step 0 as the package reports them (sae-lens: with coefficients; dictionary_learning:
          without), and for every step the total loss and the gradient norm that was clipped. `<case>.safetensors`:
          the initial weights under the package's names, `inputs` [20, 32, 16], `dead_neuron_mask` [64] u8 (the same
          at every step), `grad.NAME` at step 0, before clipping and before any projection, `final.NAME` after 20
          steps. No features are resampled, no schedules run.
          sae-lens: training_forward_pass, clip to norm 1, torch.optim.Adam, as its trainer. dictionary_learning: its
          trainer's own `update`, called with steps 1 to 20, so that `b_dec` is not reset to the geometric median (that
          happens at step 0; `geometric_median` in dl_topk is of inputs[0]). Its JumpReLU trainer has beta1 0:
          `final.` is with beta1 0.9, `final_beta1_0.` is the trainer as it is.
          "check" of a case: the largest difference in f32 against f64 of `grad.` (relative to the tensor's largest
          entry) and of `final.` (absolute), and of `final.` when the initial weights change by 2e-6 of themselves.
infer/    `<architecture>-<bdec|nobdec>-<normalisation>/`: sae-lens' inference save, d_in 8, d_sae 24, and
          `io.safetensors` {x [10, 8], z [10, 24], x_hat [10, 8]} from SAE.load_from_disk. batchtopk and matryoshka are
          saved as jumprelu, as sae-lens does.
other/    The same for other layouts: `sparsify_*` (SparseCoder.save_to_disk; z is dense), `dl_*` (ae.pt and config.json
          as trainSAE writes them), `saelens_train_*` (training checkpoints; io is the exported inference model's),
          `saelens_v3_relu`, `saelens_v4_topk`, `saev` (configs before v6, with the keys of such releases; loaded by
          sae-lens), and by hand with numpy `gemma_scope_1`, `gemma_scope_2`, `gemma_scope_2_transcoder`,
          `llamascopium_topk`, `llamascopium_jumprelu` (z as its encode gives it for the normalised input; z_folded:
          after the dataset norm is folded into the weights, z divided by sqrt(d_model) / norm of the input hook).

Seeds are tried in turn until no selection (top k, threshold, ReLU) hangs on the last bits of a float.
"""

import argparse
import json
import math
import os
import shutil
import tempfile
import zlib
from pathlib import Path

os.environ["SPARSIFY_DISABLE_TRITON"] = "1"

import numpy as np
import torch
from dictionary_learning.dictionary import AutoEncoder, GatedAutoEncoder, JumpReluAutoEncoder
from dictionary_learning.trainers.batch_top_k import BatchTopKSAE, BatchTopKTrainer
from dictionary_learning.trainers.gdm import GatedSAETrainer
from dictionary_learning.trainers.jumprelu import JumpReluTrainer
from dictionary_learning.trainers.matryoshka_batch_top_k import MatryoshkaBatchTopKSAE, MatryoshkaBatchTopKTrainer
from dictionary_learning.trainers.standard import StandardTrainer
from dictionary_learning.trainers.top_k import AutoEncoderTopK, TopKTrainer, geometric_median
from sae_lens import (
    SAE,
    BatchTopKTrainingSAE,
    BatchTopKTrainingSAEConfig,
    GatedTrainingSAE,
    GatedTrainingSAEConfig,
    JumpReLUTrainingSAE,
    JumpReLUTrainingSAEConfig,
    MatryoshkaBatchTopKTrainingSAE,
    MatryoshkaBatchTopKTrainingSAEConfig,
    StandardTrainingSAE,
    StandardTrainingSAEConfig,
    TopKTrainingSAE,
    TopKTrainingSAEConfig,
)
from sae_lens.saes.sae import SAEMetadata, TrainingSAE, TrainStepInput
from safetensors.numpy import save_file as save_numpy
from safetensors.torch import load_file, save_file
from sparsify import SparseCoder, SparseCoderConfig

D, F, BATCH, STEPS = 16, 64, 32, 20
LR, BETA1, BETA2, EPS, CLIP = 1e-3, 0.9, 0.999, 1e-8, 1.0
SCALES = [1.0, 0.1, 0.4, 0.05]  # of the inputs, in turn: some steps are clipped, some are not
FEW, MANY = 5, 16  # dead features: fewer and more than k_aux = D / 2
D8, F24, ROWS = 8, 24, 10  # of infer/ and other/

METADATA = dict(
    model_name="llava-hf/llava-1.5-7b-hf",
    hook_name="blocks.16.hook_resid_post",
    hook_head_index=None,
    context_size=2048,
    prepend_bos=True,
    seqpos_slice=[None],
    dataset_path="HuggingFaceM4/OBELICS",
    model_from_pretrained_kwargs={},
)


def rng_of(seed, name, attempt):
    return np.random.default_rng([seed, zlib.crc32(name.encode()), attempt])


def f32(array):
    return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))


def base_weights(rng, d, n, dead=0, unit=False):
    """W_enc [d, n], b_enc, W_dec [n, d], b_dec; the last `dead` features are small."""
    direction = rng.normal(size=(n, d))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    W_dec = direction if unit else direction * rng.uniform(0.2, 0.7, (n, 1))
    W_enc = (direction * rng.uniform(0.6, 1.2, (n, 1)) + rng.normal(size=(n, d)) * 0.5 / math.sqrt(d)).T
    b_enc = 0.1 * rng.normal(size=n)
    if dead:
        W_enc[:, -dead:] *= 0.1
        b_enc[-dead:] = 0.01 + 0.01 * rng.normal(size=dead)
    return {"W_enc": f32(W_enc), "b_enc": f32(b_enc), "W_dec": f32(W_dec), "b_dec": f32(0.15 * rng.normal(size=d))}


def as_linear(w, b_dec="b_dec"):
    """The same weights under the names of nn.Linear layers."""
    return {
        "encoder.weight": w["W_enc"].T.contiguous(),
        "encoder.bias": w["b_enc"],
        "decoder.weight": w["W_dec"].T.contiguous(),
        b_dec: w["b_dec"],
    }


def gated(rng, w):
    """b_enc gives way to a gate bias, a magnitude bias and a log scale."""
    n = len(w["b_enc"])
    w["b_gate"] = w.pop("b_enc")
    return {**w, "b_mag": f32(0.1 * rng.normal(size=n)), "r_mag": f32(0.3 * rng.normal(size=n))}


def fill(module, weights):
    """Copies `weights` into parameters and buffers of those names; every parameter must be named."""
    named = dict(module.named_parameters()) | dict(module.named_buffers())
    assert set(dict(module.named_parameters())) <= set(weights), (list(named), list(weights))
    with torch.no_grad():
        for name, value in weights.items():
            named[name].copy_(value)


# --- training ---------------------------------------------------------------------------------------------------------


class SaeLens:
    """sae-lens' trainer in small: forward, backward, clip, Adam."""

    def __init__(self, cls, config, options, coefficients):
        self.cls, self.config, self.options, self.coefficients = cls, config, options, coefficients
        self.clip = CLIP
        self.meta = {"package": "sae-lens 6.54.12", "class": cls.__name__, "architecture": config.architecture()}

    def hyper(self):
        cfg = self.config(d_in=D, d_sae=F, **self.options)
        skip = {"d_in", "d_sae", "dtype", "device", "metadata", "architecture"}
        skip |= {"reshape_activations", "decoder_init_norm"}
        return {k: v for k, v in cfg.to_dict().items() if k not in skip and not k.endswith("warm_up_steps")}

    def run(self, weights, inputs, dead, dtype, beta1=BETA1):
        sae = self.cls(self.config(d_in=D, d_sae=F, dtype=str(dtype).split(".")[1], **self.options))
        fill(sae, weights)
        adam = torch.optim.Adam(sae.parameters(), lr=LR, betas=(beta1, BETA2), eps=EPS)
        out = Run()
        for i, x in enumerate(inputs.to(dtype)):
            step = sae.training_forward_pass(
                TrainStepInput(
                    sae_in=x,
                    coefficients=self.coefficients,
                    dead_neuron_mask=dead,
                    n_training_steps=i,
                    is_logging_step=False,
                )
            )
            step.loss.backward()
            if i == 0:
                out.terms = {k: v.item() for k, v in step.losses.items()}
                out.grads = {k: p.grad.clone() for k, p in sae.named_parameters()}
                out.l0 = (step.feature_acts > 0).sum(-1).double().mean().item()
                out.near = near_threshold(sae, step.hidden_pre)
            out.losses.append(step.loss.item())
            out.norms.append(torch.nn.utils.clip_grad_norm_(sae.parameters(), CLIP).item())
            adam.step()
            adam.zero_grad()
            if hasattr(sae, "topk_threshold"):
                out.thresholds.append(sae.topk_threshold.item())
        out.final = {k: v.detach().clone() for k, v in sae.state_dict().items()}
        return out


class DictionaryLearning:
    """One of dictionary_learning's trainers, driven through its own `loss` and `update`."""

    def __init__(self, cls, architecture, options, clip=CLIP):
        self.cls, self.options, self.clip = cls, options, clip
        self.meta = {"package": "dictionary-learning 0.1.0", "class": cls.__name__, "architecture": architecture}

    def hyper(self):
        extra = {}
        trainer = self.trainer()
        if hasattr(trainer, "group_weights"):
            extra = {"group_sizes": trainer.group_sizes, "group_weights": trainer.group_weights}
        return {k: v for k, v in self.options.items() if not k.endswith("warmup_steps")} | extra | {"first_step": 1}

    def trainer(self):
        return self.cls(
            steps=1000,
            activation_dim=D,
            dict_size=F,
            layer=16,
            lm_name=METADATA["model_name"],
            lr=LR,
            warmup_steps=0,
            device="cpu",
            **self.options,
        )

    def start(self, weights, dead, dtype, beta1):
        trainer = self.trainer()
        fill(trainer.ae, weights)
        trainer.ae.to(dtype)
        for group in trainer.optimizer.param_groups:
            group["betas"] = (beta1, BETA2)
        if dead is not None:
            trainer.num_tokens_since_fired[dead] = trainer.dead_feature_threshold
        return trainer

    def run(self, weights, inputs, dead, dtype, beta1=BETA1):
        inputs = inputs.to(dtype)
        out = Run()
        trainer = self.start(weights, dead, dtype, beta1)
        log = trainer.loss(inputs[0], step=1, logging=True)
        out.terms = dict(log.losses)
        out.l0 = (log.f > 0).sum(-1).double().mean().item()
        trainer = self.start(weights, dead, dtype, beta1)
        trainer.loss(inputs[0], step=1).backward()
        out.grads = {k: p.grad.clone() for k, p in trainer.ae.named_parameters()}

        trainer = self.start(weights, dead, dtype, beta1)
        clip = torch.nn.utils.clip_grad_norm_

        def recording_clip(parameters, max_norm):
            assert max_norm == self.clip
            norm = clip(parameters, max_norm)
            out.norms.append(norm.item())
            return norm

        torch.nn.utils.clip_grad_norm_ = recording_clip
        try:
            for i, x in enumerate(inputs):
                if isinstance(trainer, StandardTrainer):  # its update returns nothing
                    out.losses.append(trainer.loss(x, step=i + 1).item())
                    trainer.update(i + 1, x)
                else:
                    out.losses.append(trainer.update(i + 1, x))
                if hasattr(trainer.ae, "k"):
                    out.thresholds.append(float(trainer.ae.threshold))
                if dead is not None:  # the dead stay dead, and nobody joins them
                    now = trainer.num_tokens_since_fired >= trainer.dead_feature_threshold
                    out.same_dead &= bool((now == dead).all())
        finally:
            torch.nn.utils.clip_grad_norm_ = clip
        assert bool(out.norms) == (self.clip is not None)
        out.final = {k: v.detach().clone() for k, v in trainer.ae.state_dict().items()}
        for name in ("k", "group_sizes"):
            out.final.pop(name, None)
        return out


class Run:
    def __init__(self):
        self.terms, self.grads, self.final = {}, {}, {}
        self.losses, self.norms, self.thresholds = [], [], []
        self.l0, self.near, self.same_dead = 0.0, None, True


def near_threshold(sae, hidden_pre):
    """The share of pre-activations that give a threshold gradient."""
    if not isinstance(sae, JumpReLUTrainingSAE):
        return None
    return ((hidden_pre - sae.threshold).abs() < sae.bandwidth / 2).double().mean().item()


def cases():
    """name -> (package runner, dead features, weights from (rng, dead))."""

    def plain(rng, dead):
        return base_weights(rng, D, F, dead)

    def jump(rng, dead):
        return {**plain(rng, dead), "threshold": f32(rng.uniform(0.05, 0.3, F))}

    def unit(rng, dead):
        return base_weights(rng, D, F, dead, unit=True)

    def dl_jump(rng, dead):
        w = unit(rng, dead)
        w["W_enc"] *= 0.4
        return {**w, "threshold": f32(rng.uniform(0.05, 0.3, F))}

    topk = dict(k=8, aux_loss_coefficient=1.0)
    jumprelu = dict(jumprelu_bandwidth=0.25, l0_coefficient=0.03)
    dl_topk = dict(k=8, auxk_alpha=1 / 32, threshold_beta=0.9, threshold_start_step=5)

    def sae_lens_jumprelu(**options):
        return SaeLens(JumpReLUTrainingSAE, JumpReLUTrainingSAEConfig, jumprelu | options, {"l0": 0.03})

    def sae_lens_topk(rescale):
        options = topk | {"rescale_acts_by_decoder_norm": rescale}
        return SaeLens(TopKTrainingSAE, TopKTrainingSAEConfig, options, {})

    def standard(bdec):
        options = dict(l1_coefficient=0.05, apply_b_dec_to_input=bdec)
        return SaeLens(StandardTrainingSAE, StandardTrainingSAEConfig, options, {"l1": 0.05})

    return {
        "standard": (standard(True), 0, plain),
        "standard_nobdec": (standard(False), 0, plain),
        "topk_rescale_few_dead": (sae_lens_topk(True), FEW, plain),
        "topk_rescale_many_dead": (sae_lens_topk(True), MANY, plain),
        "topk_many_dead": (sae_lens_topk(False), MANY, plain),
        "batchtopk": (
            SaeLens(BatchTopKTrainingSAE, BatchTopKTrainingSAEConfig, topk | {"topk_threshold_lr": 0.05}, {}),
            MANY,
            plain,
        ),
        "matryoshka": (
            SaeLens(
                MatryoshkaBatchTopKTrainingSAE,
                MatryoshkaBatchTopKTrainingSAEConfig,
                topk | {"topk_threshold_lr": 0.05, "matryoshka_widths": [16, 32, 64]},
                {},
            ),
            MANY,
            plain,
        ),
        "jumprelu_step": (sae_lens_jumprelu(), 0, jump),
        "jumprelu_tanh": (sae_lens_jumprelu(jumprelu_sparsity_loss_mode="tanh"), 0, jump),
        "jumprelu_tanh_preact_ste": (
            sae_lens_jumprelu(
                jumprelu_sparsity_loss_mode="tanh", pre_act_loss_coefficient=0.02, jumprelu_ste_to_input=True
            ),
            MANY,
            jump,
        ),
        "gated": (
            SaeLens(GatedTrainingSAE, GatedTrainingSAEConfig, dict(l1_coefficient=0.05), {"l1": 0.05}),
            0,
            lambda rng, dead: gated(rng, plain(rng, dead)),
        ),
        "dl_topk": (
            DictionaryLearning(TopKTrainer, "topk", dl_topk),
            MANY,
            lambda rng, dead: as_linear(unit(rng, dead)),
        ),
        "dl_batchtopk": (
            DictionaryLearning(BatchTopKTrainer, "batchtopk", dl_topk),
            FEW,
            lambda rng, dead: as_linear(unit(rng, dead)),
        ),
        "dl_matryoshka": (
            DictionaryLearning(
                MatryoshkaBatchTopKTrainer, "matryoshka_batchtopk", dl_topk | {"group_fractions": [0.25, 0.25, 0.5]}
            ),
            MANY,
            unit,
        ),
        "dl_jumprelu": (
            DictionaryLearning(
                JumpReluTrainer,
                "jumprelu",
                dict(bandwidth=0.25, sparsity_penalty=0.1, target_l0=12.0, sparsity_warmup_steps=None),
            ),
            0,
            dl_jump,
        ),
        "dl_standard": (
            DictionaryLearning(
                StandardTrainer, "standard", dict(l1_penalty=0.05, sparsity_warmup_steps=None), clip=None
            ),
            0,
            lambda rng, dead: as_linear(plain(rng, dead), "bias"),
        ),
    }


def difference(a, b, relative=False):
    worst = 0.0
    for name in a:
        gap = (a[name].double() - b[name].double()).abs().max().item()
        scale = a[name].double().abs().max().item() if relative else 1.0
        worst = max(worst, gap / max(scale, 1e-30))
    return worst


def train_case(name, seed, out):
    package, n_dead, make = cases()[name]
    dead = None
    if n_dead:
        dead = torch.zeros(F, dtype=torch.bool)
        dead[-n_dead:] = True
    best = None
    for attempt in range(200):
        rng = rng_of(seed, name, attempt)
        weights = make(rng, n_dead)
        scale = np.resize(SCALES, STEPS)[:, None, None]
        centre = weights["bias" if "bias" in weights else "b_dec"].numpy() + 0.03 * rng.normal(size=D)
        inputs = f32(centre + scale * rng.normal(size=(STEPS, BATCH, D)))
        run = package.run(weights, inputs, dead, torch.float32)
        if not run.same_dead:
            continue
        exact = package.run(weights, inputs, dead, torch.float64)
        check = {
            "grad_f64": difference(run.grads, exact.grads, relative=True),
            "final_f64": difference(run.final, exact.final),
            "final_nudged": 0.0,
        }
        if check["grad_f64"] > 1e-5 or check["final_f64"] > 2e-6:
            continue
        for _ in range(5):
            nudged = {k: v * (1 + 2e-6 * f32(rng.normal(size=tuple(v.shape)))) for k, v in weights.items()}
            change = difference(run.final, package.run(nudged, inputs, dead, torch.float32).final)
            check["final_nudged"] = max(check["final_nudged"], change)
        if best is None or check["final_nudged"] < best[0]:
            best = (check["final_nudged"], attempt, weights, inputs, run, check)
        if check["final_nudged"] < 1e-5:
            break
    nudge, attempt, weights, inputs, run, check = best
    assert nudge < 1e-5, (name, nudge)

    tensors = {**weights, "inputs": inputs}
    tensors |= {f"grad.{k}": v for k, v in run.grads.items()} | {f"final.{k}": v for k, v in run.final.items()}
    entry = {
        **package.meta,
        "d_in": D,
        "d_sae": F,
        "batch": BATCH,
        "steps": STEPS,
        "lr": LR,
        "adam_beta1": BETA1,
        "adam_beta2": BETA2,
        "adam_eps": EPS,
        "clip_norm": package.clip,
        **package.hyper(),
        "n_dead": n_dead,
        "k_aux": D // 2 if n_dead and "k" in package.options else None,
        "l0_step0": run.l0,
        "share_within_bandwidth_step0": run.near,
        "losses_step0": run.terms,
        "loss": run.losses,
        "grad_norm_before_clip": run.norms or None,
        "threshold": run.thresholds or None,
        "seed": [seed, attempt],
        "check": check,
    }
    if dead is not None:
        tensors["dead_neuron_mask"] = dead.to(torch.uint8)
        assert all(v > 0 for k, v in run.terms.items() if "aux" in k or k == "pre_act_loss"), run.terms
    if name == "dl_topk":
        tensors["geometric_median"] = geometric_median(inputs[0])
    if name == "dl_jumprelu":
        own = package.run(weights, inputs, dead, torch.float32, beta1=0.0)
        tensors |= {f"final_beta1_0.{k}": v for k, v in own.final.items()}
        entry["loss_beta1_0"] = own.losses
    if run.norms:
        clipped = sum(n > CLIP for n in run.norms)
        assert 3 <= clipped <= STEPS - 3, (name, run.norms)
    save_file({k: v.contiguous() for k, v in tensors.items()}, out / f"{name}.safetensors")
    print(f"{name}: attempt {attempt}, check {check}, l0 {run.l0:.1f}, terms {run.terms}", flush=True)
    return entry


def train(seed, out):
    out.mkdir(parents=True)
    entries = {name: train_case(name, seed, out) for name in cases()}
    (out / "cases.json").write_text(json.dumps(entries, indent=1) + "\n")


# --- inference --------------------------------------------------------------------------------------------------------


def inputs_of(rng):
    """Rows of different sizes, off centre."""
    return f32((rng.normal(size=(ROWS, D8)) + 0.5) * rng.uniform(0.5, 3.0, (ROWS, 1)))


def steady(rng, apply, x):
    """Whether the same features fire when the input moves by a few times the rounding of f32."""
    fires = apply(x)[0] > 0
    moved = [x * (1 + 1e-5 * f32(rng.normal(size=(ROWS, D8)))) for _ in range(5)]
    return bool(fires.any()) and all(bool(((apply(m)[0] > 0) == fires).all()) for m in moved)


def golden_folder(seed, folder, make):
    """`make(rng, folder)` writes a checkpoint and returns x -> (z, x_hat, more tensors...)."""
    name = f"{folder.parent.name}/{folder.name}"
    for attempt in range(100):
        rng = rng_of(seed, name, attempt)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        apply = make(rng, folder)
        x = inputs_of(rng)
        with torch.no_grad():
            if steady(rng, apply, x):
                z, x_hat, *more = apply(x)
                io = {"x": x, "z": z, "x_hat": x_hat} | (more[0] if more else {})
                save_file({k: v.detach().contiguous() for k, v in io.items()}, folder / "io.safetensors")
                return
    raise AssertionError(name)


def encode_decode(sae):
    def apply(x):
        z = sae.encode(x)
        return z, sae.decode(z)

    return apply


def tidy(folder):
    """No paths of this machine, files that others may read."""
    for path in folder.rglob("*"):
        if path.is_file():
            path.chmod(0o644)
            content = path.read_bytes()
            assert not any(part in content for part in (b"/work", b"/tmp", b"/root", b"/home", b"/opt")), path


ARCHITECTURES = {
    "standard": (StandardTrainingSAE, StandardTrainingSAEConfig, {}),
    "topk": (TopKTrainingSAE, TopKTrainingSAEConfig, dict(k=4, rescale_acts_by_decoder_norm=False)),
    "topk_rescale": (TopKTrainingSAE, TopKTrainingSAEConfig, dict(k=4, rescale_acts_by_decoder_norm=True)),
    "jumprelu": (JumpReLUTrainingSAE, JumpReLUTrainingSAEConfig, {}),
    "gated": (GatedTrainingSAE, GatedTrainingSAEConfig, {}),
    "batchtopk": (BatchTopKTrainingSAE, BatchTopKTrainingSAEConfig, dict(k=4)),
    "matryoshka": (
        MatryoshkaBatchTopKTrainingSAE,
        MatryoshkaBatchTopKTrainingSAEConfig,
        dict(k=4, matryoshka_widths=[6, 12, 24]),
    ),
}


def sae_lens_model(rng, architecture, **options):
    cls, config, own = ARCHITECTURES[architecture]
    sae = cls(config(d_in=D8, d_sae=F24, metadata=SAEMetadata(**METADATA), **own, **options))
    weights = base_weights(rng, D8, F24)
    if architecture == "gated":
        weights = gated(rng, weights)
    if architecture == "jumprelu":
        weights["threshold"] = f32(rng.uniform(0.1, 0.6, F24))
    if architecture in ("batchtopk", "matryoshka"):
        weights["topk_threshold"] = torch.tensor(0.4 + 0.1 * rng.uniform(), dtype=torch.double)
    fill(sae, weights)
    return sae


def infer(seed, out):
    for architecture in ARCHITECTURES:
        for bdec in (False, True):
            for norm in ("none", "expected_average_only_in", "constant_norm_rescale", "layer_norm"):

                def make(rng, folder):
                    sae = sae_lens_model(rng, architecture, apply_b_dec_to_input=bdec, normalize_activations=norm)
                    _, cfg = sae.save_inference_model(folder)
                    # sae-lens walks a set: the order of its keys changes from run to run
                    cfg.write_text(json.dumps(json.loads(cfg.read_text()), sort_keys=True))
                    return encode_decode(SAE.load_from_disk(folder))

                golden_folder(seed, out / f"{architecture}-{'bdec' if bdec else 'nobdec'}-{norm}", make)


# --- other layouts ----------------------------------------------------------------------------------------------------


def sparsify(**options):
    def make(rng, folder):
        cfg = SparseCoderConfig(k=4, **options)
        sae = SparseCoder(D8, cfg)
        w = base_weights(rng, D8, F24, unit=cfg.normalize_decoder)
        weights = as_linear(w)
        weights["W_dec"] = weights.pop("decoder.weight").T.contiguous()
        if cfg.skip_connection:
            weights["W_skip"] = f32(0.3 * rng.normal(size=(D8, D8)))
        fill(sae, weights)
        sae.save_to_disk(folder)
        loaded = SparseCoder.load_from_disk(folder)

        def apply(x):
            result = loaded(x)
            z = torch.zeros(len(x), F24).scatter_(1, result.latent_indices, result.latent_acts)
            return z, result.sae_out

        return apply

    return make


def dictionary_learning(cls, ae_cls, weights, options=None, ae_options=None):
    options = dict(options or {})

    def make(rng, folder):
        common = dict(steps=1000, activation_dim=D8, dict_size=F24, layer=16, lm_name=METADATA["model_name"])
        trainer = cls(**common, warmup_steps=100, device="cpu", submodule_name="resid_post_layer_16", **options)
        fill(trainer.ae, weights(rng))
        buffer = dict(d_submodule=D8, io="out", n_ctxs=100, ctx_len=128, refresh_batch_size=32, out_batch_size=256)
        config = {"trainer": trainer.config, "buffer": buffer | {"device": "cpu"}}
        (folder / "config.json").write_text(json.dumps(config, indent=4))
        torch.save({k: v.cpu() for k, v in trainer.ae.state_dict().items()}, folder / "ae.pt")
        ae = ae_cls(D8, F24, **(ae_options or {}))
        ae.load_state_dict(torch.load(folder / "ae.pt", weights_only=True))
        return encode_decode(ae)

    return make


def saelens_train_batchtopk(rng, folder):
    sae = sae_lens_model(rng, "batchtopk")
    sae.save_model(folder)
    with tempfile.TemporaryDirectory() as scratch:
        TrainingSAE.load_from_disk(folder).save_inference_model(scratch)
        return encode_decode(SAE.load_from_disk(scratch))


def saelens_train_jumprelu_log_threshold(rng, folder):
    sae_lens_model(rng, "jumprelu").save_model(folder)
    state = load_file(folder / "sae_weights.safetensors")
    state["log_threshold"] = state.pop("threshold").log()
    save_file(state, folder / "sae_weights.safetensors")
    return encode_decode(TrainingSAE.load_from_disk(folder))


def before_v6(config, extra=None):
    def make(rng, folder):
        save_file(base_weights(rng, D8, F24) | (extra or {}), folder / "sae_weights.safetensors")
        (folder / "cfg.json").write_text(json.dumps(config))
        return encode_decode(SAE.load_from_disk(folder))

    return make


V3 = {
    "architecture": "standard",
    "d_in": D8,
    "d_sae": F24,
    "dtype": "float32",
    "device": "cuda",
    "model_name": "mistral-7b",
    "hook_name": "blocks.16.hook_resid_post",
    "hook_layer": 16,
    "hook_head_index": None,
    "activation_fn_str": "relu",
    "activation_fn_kwargs": {},
    "apply_b_dec_to_input": True,
    "finetuning_scaling_factor": False,
    "sae_lens_training_version": "3.20.3",
    "prepend_bos": True,
    "dataset_path": "monology/pile-uncopyrighted",
    "dataset_trust_remote_code": True,
    "context_size": 128,
    "normalize_activations": "none",
    "neuronpedia_id": None,
    "model_from_pretrained_kwargs": {},
}
TRAINING_V3 = {
    "l1_coefficient": 5,
    "lp_norm": 1.0,
    "use_ghost_grads": False,
    "normalize_sae_decoder": False,
    "noise_scale": 0.0,
    "decoder_orthogonal_init": False,
    "init_encoder_as_decoder_transpose": True,
    "mse_loss_normalization": None,
    "decoder_heuristic_init": True,
    "scale_sparsity_penalty_by_decoder_norm": True,
}
V4_TOPK = V3 | {
    "architecture": "topk",
    "activation_fn_str": "topk",
    "activation_fn_kwargs": {"k": 4},
    "normalize_activations": "layer_norm",
    "sae_lens_training_version": "4.4.5",
    "seqpos_slice": [None],
}
SAEV = V3 | TRAINING_V3 | {
    "dtype": "torch.float32",
    "model_name": "llava-hf/llava-v1.6-mistral-7b-hf",
    "apply_b_dec_to_input": False,
    "dataset_path": "HuggingFaceM4/OBELICS",
    "context_size": 4096,
    "normalize_activations": True,
}


def jump_numpy(pre, threshold):
    return np.where(pre > threshold, np.maximum(pre, 0), 0).astype(np.float32)


def numpy_apply(encode, decode):
    def apply(x):
        z = encode(x.numpy())
        return f32(z), f32(decode(x.numpy(), z))

    return apply


def numpy_weights(rng, **names):
    w = {k: v.numpy() for k, v in base_weights(rng, D8, F24).items()}
    w["threshold"] = rng.uniform(0.1, 0.6, F24).astype(np.float32)
    return {names.get(k, k): v for k, v in w.items()}


def gemma_scope_1(rng, folder):
    w = numpy_weights(rng)
    np.savez(folder / "params.npz", **w)
    return numpy_apply(
        lambda x: jump_numpy(x @ w["W_enc"] + w["b_enc"], w["threshold"]), lambda x, z: z @ w["W_dec"] + w["b_dec"]
    )


def gemma_scope_2(transcoder):
    def make(rng, folder):
        w = numpy_weights(rng, W_enc="w_enc", W_dec="w_dec")
        config = {
            "architecture": "jump_relu",
            "model_name": "gemma-v3-4b-pt",
            "hf_hook_point_in": "model.layers.9.output",
            "hf_hook_point_out": None,
        }
        if transcoder:
            w["affine_skip_connection"] = (0.3 * rng.normal(size=(D8, D8))).astype(np.float32)
            config["hf_hook_point_in"] = "model.layers.9.pre_feedforward_layernorm.output"
            config["hf_hook_point_out"] = "model.layers.9.post_feedforward_layernorm.output"
            config["affine_connection"] = True
        save_numpy(w, folder / "params.safetensors")
        (folder / "config.json").write_text(json.dumps(config, indent=2))

        def decode(x, z):
            x_hat = z @ w["w_dec"] + w["b_dec"]
            return x_hat + x @ w["affine_skip_connection"] if transcoder else x_hat

        return numpy_apply(lambda x: jump_numpy(x @ w["w_enc"] + w["b_enc"], w["threshold"]), decode)

    return make


def llamascopium(act_fn, hook_in, hook_out):
    def make(rng, folder):
        w = numpy_weights(rng, W_enc="W_E", b_enc="b_E", W_dec="W_D", b_dec="b_D")
        threshold = w.pop("threshold")
        norms = {hook_in: np.float32(rng.uniform(4, 6)), hook_out: np.float32(rng.uniform(4, 6))}
        tensors = w | {f"dataset_average_activation_norm.{k}": np.asarray(v) for k, v in norms.items()}
        if act_fn == "jumprelu":
            tensors["activation_function.log_jumprelu_threshold"] = np.log(threshold)
            threshold = np.exp(np.log(threshold))
        save_numpy(tensors, folder / "sae_weights.safetensors")
        config = {
            "device": "cuda",
            "dtype": "torch.float32",
            "sae_type": "sae",
            "d_model": D8,
            "expansion_factor": F24 / D8,
            "use_decoder_bias": True,
            "act_fn": act_fn,
            "norm_activation": "dataset-wise",
            "sparsity_include_decoder_norm": True,
            "top_k": 4,
            "jumprelu_threshold_window": 2.0,
            "hook_point_in": hook_in,
            "hook_point_out": hook_out,
            "use_glu_encoder": False,
        }
        (folder / "config.json").write_text(json.dumps(config, indent=4))
        s_in, s_out = (np.float32(math.sqrt(D8)) / norms[h] for h in (hook_in, hook_out))
        decoder_norm = np.linalg.norm(w["W_D"], axis=1)

        def apply(x):
            pre = ((x.numpy() * s_in) @ w["W_E"] + w["b_E"]) * decoder_norm
            if act_fn == "topk":
                acts = np.maximum(pre, 0)
                keep = np.zeros_like(acts, dtype=bool)
                np.put_along_axis(keep, np.argsort(-acts, axis=1)[:, :4], True, axis=1)
                acts = np.where(keep, acts, 0)
            else:
                acts = np.where(pre > threshold, pre, 0)
            z = acts / decoder_norm
            return f32(z), f32((z @ w["W_D"] + w["b_D"]) / s_out), {"z_folded": f32(z / s_in)}

        return apply

    return make


def other(seed, out):
    def linear(b_dec="b_dec", unit=True, **more):
        def weights(rng):
            w = as_linear(base_weights(rng, D8, F24, unit=unit), b_dec)
            return w | {k: torch.tensor(v) for k, v in more.items()}

        return weights

    def jumprelu(rng):
        return base_weights(rng, D8, F24, unit=True) | {"threshold": f32(rng.uniform(0.1, 0.6, F24))}

    def dl_gated(rng):
        w = gated(rng, base_weights(rng, D8, F24, unit=True))
        return {
            "encoder.weight": w["W_enc"].T,
            "decoder.weight": w["W_dec"].T,
            "decoder_bias": w["b_dec"],
            "gate_bias": w["b_gate"],
            "mag_bias": w["b_mag"],
            "r_mag": w["r_mag"],
        }

    def matryoshka(rng):
        return base_weights(rng, D8, F24, unit=True) | {"threshold": torch.tensor(0.45)}

    warm = {"sparsity_warmup_steps": 100}
    folders = {
        "sparsify_topk": sparsify(expansion_factor=3),
        "sparsify_groupmax": sparsify(expansion_factor=3, activation="groupmax", normalize_decoder=False),
        "sparsify_skip_transcoder": sparsify(num_latents=F24, skip_connection=True, transcode=True),
        "dl_topk": dictionary_learning(TopKTrainer, AutoEncoderTopK, linear(threshold=0.45), {"k": 4}, {"k": 4}),
        "dl_batchtopk": dictionary_learning(
            BatchTopKTrainer, BatchTopKSAE, linear(threshold=0.45), {"k": 4}, {"k": 4}
        ),
        "dl_matryoshka": dictionary_learning(
            MatryoshkaBatchTopKTrainer,
            MatryoshkaBatchTopKSAE,
            matryoshka,
            {"k": 4, "group_fractions": [0.25, 0.25, 0.5]},
            {"k": 4, "group_sizes": [6, 6, 12]},
        ),
        "dl_standard": dictionary_learning(StandardTrainer, AutoEncoder, linear("bias", unit=False), warm),
        "dl_jumprelu": dictionary_learning(JumpReluTrainer, JumpReluAutoEncoder, jumprelu, warm),
        "dl_gated": dictionary_learning(GatedSAETrainer, GatedAutoEncoder, dl_gated, warm),
        "saelens_train_batchtopk": saelens_train_batchtopk,
        "saelens_train_jumprelu_log_threshold": saelens_train_jumprelu_log_threshold,
        "saelens_v3_relu": before_v6(V3 | TRAINING_V3, {"scaling_factor": torch.ones(F24)}),
        "saelens_v4_topk": before_v6(V4_TOPK),
        "saev": before_v6(SAEV),
        "gemma_scope_1": gemma_scope_1,
        "gemma_scope_2": gemma_scope_2(False),
        "gemma_scope_2_transcoder": gemma_scope_2(True),
        "llamascopium_topk": llamascopium("topk", "blocks.16.hook_resid_post", "blocks.16.hook_resid_post"),
        "llamascopium_jumprelu": llamascopium("jumprelu", "blocks.16.ln2.hook_normalized", "blocks.16.hook_mlp_out"),
    }
    for name, make in folders.items():
        golden_folder(seed, out / name, make)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(args.seed)
    shutil.rmtree(args.out, ignore_errors=True)
    train(args.seed, args.out / "train")
    infer(args.seed, args.out / "infer")
    other(args.seed, args.out / "other")
    tidy(args.out)


if __name__ == "__main__":
    main()
