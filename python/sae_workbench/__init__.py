"""Reads the run folders of SAE workbench: features, examples, scores and tokens as Arrow tables or data frames, activations and autoencoders as
NumPy arrays. The program `sae`, which this package installs, makes them. Nothing here writes to a run.

>>> run = Run("demo-run")
>>> run
Run('demo-run'): 843 samples of demo-mllm, layers.4, autoencoders seed-0
>>> run.features("seed-0").num_rows
2048

The strongest example of a feature has the largest activation of the feature, and encoding the stored activation gives it again:

>>> table = run.features("seed-0").sort_by([("fires", "descending")])
>>> busiest = run.feature(table["feature"][0].as_py(), "seed-0")
>>> best = busiest.examples.slice(0, 1).to_pylist()[0]
>>> bool(best["activation"] == busiest.row["max"])
True
>>> x = run.activation("layers.4", best["sample"], best["position"])
>>> z = run.autoencoder("seed-0").encode(x)
>>> bool(abs(z[busiest.number] - best["activation"]) < 1e-3 * best["activation"])
True

Every table becomes a data frame of pandas, if that is installed, by `to_pandas()`:

>>> scores = run.scores("seed-0")
>>> "pmi_blank" in scores.column_names
True

FORMATS.md of the project defines the files and their columns.
"""

from __future__ import annotations

import base64
import html
import json
import mimetypes
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

__all__ = ["Autoencoder", "Feature", "Run", "tensors"]

#: The layouts of runs that this version reads: samples that are whole, and samples that are pieces.
LAYOUTS = (2, 3)
#: Samples of which a feature shows its strongest positions in a notebook, and tokens around each.
SHOWN, AROUND = 8, 12


class Run:
    """A run folder.

    >>> Run("no-run")
    Traceback (most recent call last):
    FileNotFoundError: no run.json in no-run
    """

    def __init__(self, path):
        self.path = Path(path)
        record = self.path / "run.json"
        if not record.is_file():
            raise FileNotFoundError(f"no run.json in {self.path}")
        self.record = json.loads(record.read_text())
        if self.record["schema_version"] not in LAYOUTS:
            raise ValueError(f"{record}: layout {self.record['schema_version']}, but this version reads {LAYOUTS}")

    def __repr__(self):
        model = self.record["steps"].get("harvest", {}).get("model", "another program's activations")
        parts = [f"{self.samples.num_rows} samples of {model}", *self.hooks, f"autoencoders {', '.join(self.autoencoders) or 'none'}"]
        return f"Run({str(self.path)!r}): {', '.join(parts)}"

    def _names(self, kind, file):
        return sorted(path.parent.name for path in (self.path / kind).glob(f"*/{file}") if not path.parent.name.startswith("."))

    @property
    def autoencoders(self):
        """Names of the autoencoders that are finished."""
        return self._names("saes", "sae_weights.safetensors")

    @property
    def hooks(self):
        """Names of the hooks with activations."""
        return self._names("activations", "manifest.json")

    @cached_property
    def samples(self):
        """A row for each sample: key, text, images, and where it came from."""
        return pq.read_table(self.path / "samples.parquet")

    @cached_property
    def tokens(self):
        """A row for each token position, in the order of the stored activations."""
        return pa.concat_tables(pq.read_table(part) for part in sorted((self.path / "tokens").glob("part-*.parquet")))

    def features(self, sae):
        """What each feature of an autoencoder responds to, one row for each."""
        return self._index(sae, "features")

    def examples(self, sae, feature=None):
        """Positions that activate the features of an autoencoder, or one of them: group 0 has the strongest.

        >>> run = Run("demo-run")
        >>> number = run.examples("seed-0")["feature"][0].as_py()
        >>> set(run.examples("seed-0", number)["feature"].to_pylist()) == {number}
        True
        """
        return self._index(sae, "examples", None if feature is None else [("feature", "=", feature)])

    def _index(self, sae, table, filters=None):
        path = self.path / "features" / sae / f"{table}.parquet"
        if not path.is_file():
            raise FileNotFoundError(f"no {path}: `sae index --run {self.path} --sae {sae}` makes it")
        return pq.read_table(path, filters=filters)

    def scores(self, sae):
        """The scores of all samples by the features of an autoencoder."""
        return pq.read_table(self.path / "scores" / f"{sae}.parquet")

    def manifest(self, hook):
        """What is stored of a hook."""
        return json.loads((self.path / "activations" / hook / "manifest.json").read_text())

    def activations(self, hook):
        """The activations of a hook, shard by shard, as `float32` arrays `[positions, d_in]`.

        >>> run = Run("demo-run")
        >>> sum(len(shard) for shard in run.activations("layers.4")) == run.tokens.num_rows
        True
        """
        for shard in self.manifest(hook)["shards"]:
            yield tensors(self.path / "activations" / hook / shard["file"])["activations"]

    def activation(self, hook, sample, position):
        """The activation at a position of a sample, `[d_in]`."""
        found = pc.and_(pc.equal(self.tokens["sample"], sample), pc.equal(self.tokens["position"], position))
        rows = np.flatnonzero(found.to_numpy())
        if not len(rows):
            raise KeyError(f"no position {position} of sample {sample} is stored")
        row = int(rows[0])
        for shard in self.manifest(hook)["shards"]:
            if row < shard["rows"]:
                return tensors(self.path / "activations" / hook / shard["file"])["activations"][row]
            row -= shard["rows"]
        raise ValueError(f"the shards of {hook} have fewer rows than the table of tokens")

    def autoencoder(self, name):
        """An autoencoder of the run."""
        return Autoencoder(self.path / "saes" / name)

    def feature(self, number, sae):
        """A feature of an autoencoder, which a notebook shows with its examples."""
        return Feature(self, sae, number)

    def image(self, sample, image=0):
        """The bytes of an image of a sample, or nothing if it is no longer where the run says, or inside of a table or an archive."""
        root = self.record["steps"].get("harvest", {}).get("arguments", {}).get("data_root")
        images = self.samples["images"][sample].as_py()
        path = Path(root, images[image]["path"]) if root and image < len(images) else None
        return path.read_bytes() if path and path.is_file() else None


class Autoencoder:
    """An autoencoder of a run: `z = f(x W_enc + b_enc)`, `x_hat = z W_dec + b_dec`.

    >>> sae = Run("demo-run").autoencoder("seed-0")
    >>> x = next(Run("demo-run").activations("layers.4"))[:64]
    >>> z = sae.encode(x)
    >>> z.shape, bool((z >= 0).all())
    ((64, 2048), True)
    >>> residual = ((x - sae.decode(z, x)) ** 2).sum() / ((x - x.mean(0)) ** 2).sum()
    >>> bool(residual < 0.5)
    True
    """

    def __init__(self, path):
        self.path = Path(path)
        self.config = json.loads((self.path / "cfg.json").read_text())
        self.weights = tensors(self.path / "sae_weights.safetensors")

    def _scale(self, x):
        """The centers and scales that inputs are normalized by, row by row."""
        kind = self.config["normalize_activations"]
        if kind == "none":
            return 0.0, 1.0
        if kind == "constant_norm_rescale":
            return 0.0, np.linalg.norm(x, axis=-1, keepdims=True) / np.sqrt(x.shape[-1])
        if kind == "layer_norm":
            return x.mean(-1, keepdims=True), x.std(-1, ddof=1, keepdims=True) + 1e-5
        raise ValueError(f"{self.path}: normalize_activations {kind!r} is not one of a run")

    def encode(self, x):
        """The features of activations `[..., d_in]`: `float32`, `[..., d_sae]`."""
        x = np.asarray(x, np.float32)
        center, scale = self._scale(x)
        w, kind = self.weights, self.config["architecture"]
        product = ((x - center) / scale) @ w["W_enc"]
        if kind == "gated":
            magnitude = np.maximum(product * np.exp(w["r_mag"]) + w["b_mag"], 0)
            return np.where(product + w["b_gate"] > 0, magnitude, 0).astype(np.float32)
        z = product + w["b_enc"]
        if kind == "jumprelu":
            z = np.where(z > w["threshold"], z, 0)
        elif kind == "topk":
            least = np.partition(z, -self.config["k"], axis=-1)[..., -self.config["k"], None]
            z = np.where(z >= least, z, 0)
        elif kind != "standard":
            raise ValueError(f"{self.path}: the architecture {kind!r} is not one of a run")
        return np.maximum(z, 0).astype(np.float32)

    def decode(self, z, x=None):
        """The reconstructions of features. `x`, the inputs, are needed where they are normalized."""
        center, scale = (0.0, 1.0) if x is None else self._scale(np.asarray(x, np.float32))
        if x is None and self.config["normalize_activations"] != "none":
            raise ValueError("inputs are normalized, so decoding needs them")
        return (np.asarray(z, np.float32) @ self.weights["W_dec"] + self.weights["b_dec"]) * scale + center


class Feature:
    """A feature of an autoencoder. In a notebook it is a small page: counts, and its strongest examples in text and images.

    >>> run = Run("demo-run")
    >>> number = run.examples("seed-0")["feature"][0].as_py()
    >>> page = run.feature(number, "seed-0")._repr_html_()
    >>> f"Feature {number:,}" in page, "<mark" in page or "<img" in page, "<script" in page
    (True, True, False)
    """

    def __init__(self, run, sae, number):
        self.run, self.sae, self.number = run, sae, number
        rows = run.features(sae).filter(pc.field("feature") == number).to_pylist()
        if not rows:
            raise KeyError(f"there is no feature {number} in {sae}")
        self.row = rows[0]

    def __repr__(self):
        return f"Feature {self.number} of {self.sae}: {self.row['class']}, fires on {self.row['fires']:,} positions, at most {self.row['max']:.4g}"

    @cached_property
    def examples(self):
        """The positions of its strongest activations, the strongest first."""
        found = self.run.examples(self.sae, self.number)
        return found.filter(pc.field("group") == 0).sort_by([("activation", "descending"), ("rank", "ascending")])

    def _repr_html_(self):
        row, seen, shown = self.row, set(), []
        for example in self.examples.to_pylist():
            if example["sample"] not in seen and len(shown) < SHOWN:
                seen.add(example["sample"])
                shown.append(self._example(example))
        head = f"{row['class']}, density {row['density']:.3g}: {row['fires_text']:,} text and {row['fires_image']:,} image positions; largest {row['max']:.4g}"
        return f"<div><b>Feature {self.number:,}</b> of {html.escape(self.sae)}<br><small>{head}</small>{''.join(shown)}</div>"

    def _example(self, example):
        tokens = self.run.tokens.filter(pc.field("sample") == example["sample"]).to_pylist()
        here = next((n for n, token in enumerate(tokens) if token["position"] == example["position"]), 0)
        token = tokens[here]
        if token["x0"] is not None:
            body = self._image(example["sample"], token)
        else:
            near = range(max(0, here - AROUND), min(len(tokens), here + AROUND + 1))
            pieces = [(n, html.escape(tokens[n]["piece"].replace("\n", " "))) for n in near if tokens[n]["x0"] is None]
            body = "".join(f"<mark>{text}</mark>" if n == here else text for n, text in pieces)
        return f"<p style='margin:4px 0'><code>{example['activation']:.3g}</code> s/{example['sample']} {body}</p>"

    def _image(self, sample, token):
        data = self.run.image(sample, token["image"] or 0)
        if data is None:
            return "<i>the image is not at hand</i>"
        name = self.run.samples["images"][sample].as_py()[token["image"] or 0]["path"]
        kind = mimetypes.guess_type(name)[0] or "image/png"
        box = f"left:{token['x0']:.2%};top:{token['y0']:.2%};width:{token['x1'] - token['x0']:.2%};height:{token['y1'] - token['y0']:.2%}"
        image = f"<img style='height:112px;display:block' src='data:{kind};base64,{base64.b64encode(data).decode()}'>"
        return f"<span style='position:relative;display:inline-block'>{image}<span style='position:absolute;{box};outline:2px solid red'></span></span>"


#: NumPy's types for those of safetensors; the bits of a bfloat16 are the upper half of a float32's.
DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}


def tensors(path):
    """The floats of a safetensors file by their names, as `float32` arrays. The file is mapped, and its sizes are checked."""
    data = np.memmap(path, np.uint8, "r")
    length = int.from_bytes(data[:8].tobytes(), "little")
    if length > len(data) - 8:
        raise ValueError(f"{path}: not a whole safetensors file")
    header = json.loads(data[8 : 8 + length].tobytes())
    found = {}
    for name, entry in header.items():
        if name == "__metadata__" or entry["dtype"] not in DTYPES:
            continue
        start, end = entry["data_offsets"]
        if not 0 <= start <= end <= len(data) - 8 - length:
            raise ValueError(f"{path}: {name} is cut off")
        values = data[8 + length + start : 8 + length + end].view(DTYPES[entry["dtype"]]).reshape(entry["shape"])
        if entry["dtype"] == "BF16":
            values = (values.astype(np.uint32) << 16).view(np.float32)
        found[name] = values.astype(np.float32, copy=False)
    return found
