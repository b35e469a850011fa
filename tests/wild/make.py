"""Makes the binary inputs of the corpus: images, archives, tables, autoencoder files, activations. The same bytes each time.

    pip install numpy==1.26.4 pillow==13.0.0 pyarrow==26.0.1 safetensors
    python tests/wild/make.py

Text inputs are written by hand and lie in the folders of their cases.
"""

import io
import json
import struct
import tarfile
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image, ImageOps
from safetensors.numpy import save_file

HERE = Path(__file__).parent
SIDE = 28  # what the tiny model's tower takes, so that no resizing blurs a difference


def case(name):
    folder = HERE / name
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def picture(seed=0, size=(SIDE, SIDE), channels=3):
    """Smooth colors that differ in every corner and channel."""
    width, height = size
    y, x = np.mgrid[0:height, 0:width]
    waves = [128 + 100 * np.sin((x * (2 + c) + y * (5 - c)) / 40 + seed + c) for c in range(channels)]
    pixels = np.stack(waves, -1).round().astype(np.uint8)
    return Image.fromarray(pixels if channels > 1 else pixels[..., 0])


def encoded(image, kind, **options):
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def png(seed=0):
    return encoded(picture(seed), "PNG")


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def table(path, columns, types=None):
    arrays = {name: pa.array(values, (types or {}).get(name)) for name, values in columns.items()}
    pq.write_table(pa.table(arrays), path, compression="none")


def archive(path, members):
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def image(seed=0):
    return {"bytes": png(seed), "path": f"{seed}.png"}


# --- data sets

def numbered_image_columns():
    folder = case("numbered-image-columns")
    (folder / "0.png").write_bytes(png(0))
    (folder / "1.png").write_bytes(png(1))
    columns = {
        "id": ["two", "one", "none"],
        "question": ["Compare them.", "What is it?", "Is it late?"],
        "answer": ["They differ.", "A wave.", "No."],
        "image_1": [image(0), image(1), None],
        "image_2": [image(1), None, None],
    }
    table(folder / "table.parquet", columns, {"image_1": IMAGE, "image_2": IMAGE})


def webdataset_columns():
    columns = {"__key__": ["a", "b"], "__url__": ["0.tar"] * 2, "jpg": [image(0), image(1)], "txt": ["a wave", "a shore"]}
    table(case("webdataset-columns") / "table.parquet", columns, {"jpg": IMAGE})


def unread_image_column():
    columns = {"text": ["make it blue", "make it red"], "edited_image": [image(0), image(1)]}
    table(case("unread-image-column") / "table.parquet", columns, {"edited_image": IMAGE})


def unified_parts():
    part = pa.struct([("type", pa.string()), ("text", pa.string()), ("image", pa.string())])
    message = pa.struct([("role", pa.string()), ("content", pa.list_(part)), ("name", pa.string())])
    shown = {"type": "image", "text": None, "image": None}
    said = lambda text: {"type": "text", "text": text, "image": None}
    messages = [
        {"role": "user", "content": [shown, said("What is it?")], "name": None},
        {"role": "assistant", "content": [said("A wave.")], "name": None},
    ]
    columns = {"messages": [messages], "images": [[image(0)]]}
    table(case("unified-parts") / "table.parquet", columns, {"messages": pa.list_(message), "images": pa.list_(IMAGE)})


def hidden_files():
    folder = case("hidden-files")
    double = b"\0\5\x16\7\0\2\0\0Mac OS X        " + bytes(40)
    pictures = folder / "pictures"
    pictures.mkdir(exist_ok=True)
    for seed, name in enumerate(["a", "b"]):
        (pictures / f"{name}.png").write_bytes(png(seed))
        (pictures / f"{name}.txt").write_text(f"picture {name}\n")
        (pictures / f"._{name}.png").write_bytes(double)
        (pictures / f"._{name}.txt").write_bytes(double)
    (pictures / ".DS_Store").write_bytes(b"\0\0\0\1Bud1" + bytes(24))
    (pictures / "Thumbs.db").write_bytes(b"\xd0\xcf\x11\xe0" + bytes(28))
    members = [("a.png", png(0)), ("a.txt", b"picture a"), ("._a.png", double), ("b.png", png(1)), ("b.txt", b"picture b")]
    archive(folder / "archive.tar", [("._b.png", double), *members, ("__MACOSX/._b.txt", double)])
    lines = folder / "lines"
    lines.mkdir(exist_ok=True)
    (lines / "data.jsonl").write_text('{"text": "one"}\n{"text": "two"}\n')
    (lines / "._data.jsonl").write_bytes(double)


def uppercase_extensions():
    folder = case("uppercase-extensions")
    pictures = folder / "pictures"
    pictures.mkdir(exist_ok=True)
    (pictures / "IMG_1.PNG").write_bytes(png(0))
    (pictures / "IMG_1.TXT").write_text("the first\n")
    (pictures / "IMG_2.JPG").write_bytes(encoded(picture(1), "JPEG", quality=95))
    (pictures / "IMG_2.txt").write_text("the second\n")
    archive(folder / "ARCHIVE.TAR", [("1.PNG", png(0)), ("1.TXT", b"the first"), ("2.JSON", b'{"text": "the second"}'), ("2.png", png(1))])
    (folder / "LINES.JSONL").write_text('{"text": "the first"}\n')


def save_to_disk_splits():
    """What `DatasetDict.save_to_disk` leaves."""
    folder = case("save-to-disk-splits") / "data"
    schema = pa.schema([("question", pa.string()), ("answer", pa.string())])
    for split, rows in {"train": [("One?", "Yes."), ("Two?", "No.")], "test": [("Three?", "Maybe.")]}.items():
        (folder / split).mkdir(parents=True, exist_ok=True)
        name = "data-00000-of-00001.arrow"
        with pa.OSFile(str(folder / split / name), "wb") as sink, pa.ipc.new_stream(sink, schema) as writer:
            writer.write_table(pa.table({"question": [q for q, _ in rows], "answer": [a for _, a in rows]}, schema))
        features = {column: {"dtype": "string", "_type": "Value"} for column in ("question", "answer")}
        info = {"citation": "", "description": "", "features": features, "homepage": "", "license": ""}
        state = {"_data_files": [{"filename": name}], "_fingerprint": "0123456789abcdef", "_format_columns": None,
                 "_format_kwargs": {}, "_format_type": None, "_output_all_columns": False, "_split": split}
        (folder / split / "dataset_info.json").write_text(json.dumps(info, indent=2))
        (folder / split / "state.json").write_text(json.dumps(state, indent=2))
    (folder / "dataset_dict.json").write_text(json.dumps({"splits": ["train", "test"]}))


def pictures_for_rows():
    """Cases whose rows are text and name a picture."""
    for name in ["image-urls-of-chat-apis", "json-objects-not-lines", "image-paths-of-other-systems", "hub-cache-of-data",
                 "placeholders-in-texts", "double-begin-token", "unused-buffers", "one-picture-checks"]:
        if (HERE / name).is_dir():
            (HERE / name / "picture.png").write_bytes(png(0))


# --- images: what Pillow makes of each is `expected.png`

def compared(name, file, data, expected):
    folder = case(name)
    (folder / file).write_bytes(data)
    expected.save(folder / "expected.png")


def cmyk_jpeg():
    cmyk = picture(0).convert("CMYK")
    flat = Image.new("CMYK", (SIDE, SIDE), (40, 90, 160, 30))
    data = encoded(flat, "JPEG", quality=100, subsampling=0)
    compared("cmyk-jpeg", "flat.jpg", data, Image.open(io.BytesIO(data)).convert("RGB"))
    data = encoded(cmyk, "JPEG", quality=100, subsampling=0)
    (case("cmyk-jpeg") / "waves.jpg").write_bytes(data)
    Image.open(io.BytesIO(data)).convert("RGB").save(case("cmyk-jpeg") / "expected-waves.png")


def sixteen_bits():
    ramp = (np.arange(SIDE * SIDE, dtype=np.uint32) * 83).astype(np.uint16).reshape(SIDE, SIDE)
    data = encoded(Image.fromarray(ramp), "PNG")
    compared("sixteen-bits", "gray.png", data, Image.open(io.BytesIO(data)).convert("RGB"))
    rows = np.stack([ramp, ramp[::-1], ramp.T], -1).astype(">u2")
    raw = b"".join(b"\0" + row.tobytes() for row in rows)
    head = struct.pack(">IIBBBBB", SIDE, SIDE, 16, 2, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(raw, 9)) + chunk(b"IEND", b"")
    (case("sixteen-bits") / "color.png").write_bytes(data)
    Image.open(io.BytesIO(data)).convert("RGB").save(case("sixteen-bits") / "expected-color.png")


def orientation_outside_jpeg():
    upright = picture(0, (20, 44))
    exif = Image.Exif()
    exif[0x0112] = 6
    for kind, options in {"png": {}, "webp": {"lossless": True}}.items():
        data = encoded(upright, kind.upper(), exif=exif.tobytes(), **options)
        (case("orientation-outside-jpeg") / f"turned.{kind}").write_bytes(data)
        turned = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
        turned.save(case("orientation-outside-jpeg") / "expected.png")


def animations():
    frames = [picture(seed) for seed in range(3)]
    folder = case("animations")
    for kind, options in {"gif": {}, "webp": {"lossless": True}, "png": {}}.items():
        data = encoded(frames[0], kind.upper(), save_all=True, append_images=frames[1:], duration=100, **options)
        (folder / f"moving.{kind}").write_bytes(data)
        Image.open(io.BytesIO(data)).convert("RGB").save(folder / f"expected-{kind}.png")


def cut_off_images():
    folder = case("cut-off-images")
    for kind, options in {"png": {}, "webp": {"lossless": True}, "gif": {}, "bmp": {}}.items():
        data = encoded(picture(0), kind.upper(), **options)
        (folder / f"cut.{kind}").write_bytes(data[: len(data) * 6 // 10])


def pictures_behind_the_picture():
    """A phone's multi-picture file, and a picture with something behind its end."""
    folder = case("bytes-behind-the-picture")
    first, second = (encoded(picture(seed), "JPEG", quality=95) for seed in (0, 1))
    (folder / "trailing.jpg").write_bytes(first + b"\r\n<!-- cached -->" + bytes(16))
    mpo = io.BytesIO()
    picture(0).save(mpo, "MPO", save_all=True, append_images=[picture(1)], quality=95)
    (folder / "phone.jpg").write_bytes(mpo.getvalue())
    (folder / "trailing.png").write_bytes(png(0) + bytes(100))
    (folder / "plain.jpg").write_bytes(first)
    (folder / "plain.png").write_bytes(png(0))
    Image.open(io.BytesIO(mpo.getvalue())).convert("RGB").save(folder / "phone.png")
    Image.open(io.BytesIO(first)).convert("RGB").save(folder / "expected.png")


def on_white(image):
    """What `transformers` makes of a picture with transparency, wherever the file says that it is there."""
    image = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, (255, 255, 255, 255)), image).convert("RGB")


def hidden_transparency():
    """Transparency in a tRNS chunk, and gray with alpha."""
    folder = case("hidden-transparency")
    half = Image.new("RGB", (SIDE, SIDE), (200, 30, 30))
    half.paste((20, 60, 200), (0, 0, SIDE // 2, SIDE))
    made = {
        "color.png": encoded(half, "PNG", transparency=(200, 30, 30)),
        "gray.png": encoded(half.convert("L"), "PNG", transparency=half.convert("L").getpixel((SIDE - 1, 0))),
        "palette.png": encoded(half.quantize(8), "PNG", transparency=bytes([0, 128, 255, 255])),
        "gray-alpha.png": encoded(Image.merge("LA", (half.convert("L"), picture(2, channels=1))), "PNG"),
    }
    for name, data in made.items():
        (folder / name).write_bytes(data)
        on_white(Image.open(io.BytesIO(data))).save(folder / f"expected-{name}")


def other_image_formats():
    folder = case("other-image-formats")
    for name, kind in {"photo.avif": "AVIF", "photo.tif": "TIFF", "photo.jp2": "JPEG2000"}.items():
        (folder / name).write_bytes(encoded(picture(0), kind))
    (folder / "photo.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(40))
    (folder / "drawing.svg").write_text('<svg xmlns="http://www.w3.org/2000/svg" width="8" height="8"/>\n')
    # A name that is wrong about the content is no trouble: files are told by their bytes.
    (folder / "really-a-png.jpg").write_bytes(png(0))


# --- autoencoders

RNG = np.random.default_rng(20)
D, F = 8, 24


def weights(dtype=np.float32, **more):
    rng = np.random.default_rng(3)
    decoder = rng.normal(size=(F, D))
    decoder /= np.linalg.norm(decoder, axis=1, keepdims=True)
    plain = {"W_enc": decoder.T, "b_enc": rng.normal(size=F) / 10, "W_dec": decoder, "b_dec": rng.normal(size=D) / 10}
    return {name: np.ascontiguousarray(value, dtype) for name, value in {**plain, **more}.items()}


def saelens(name, tensors, **config):
    folder = case(name)
    plain = {"architecture": "standard", "d_in": D, "d_sae": F, "dtype": "float32", "device": "cpu",
             "apply_b_dec_to_input": True, "normalize_activations": "none", "reshape_activations": "none",
             "metadata": {"sae_lens_version": "6.54.12", "model_name": "gpt2", "hook_name": "blocks.5.hook_resid_post"}}
    (folder / "cfg.json").write_text(json.dumps({**plain, **config}, indent=1) + "\n")
    if tensors is not None:
        save_file(tensors, folder / "sae_weights.safetensors")
    return folder


def autoencoders():
    saelens("saelens-sparsity-beside/sae", weights())
    save_file({"sparsity": np.full(F, -3.0, np.float32)}, case("saelens-sparsity-beside/sae") / "sparsity.safetensors")
    half = weights(np.float32)
    folder = saelens("saelens-bfloat16/sae", None, dtype="bfloat16")
    header, data, at = {}, b"", 0
    for name, value in half.items():
        bits = (value.view(np.uint32) >> 16).astype("<u2").tobytes()
        header[name] = {"dtype": "BF16", "shape": list(value.shape), "data_offsets": [at, at + len(bits)]}
        data, at = data + bits, at + len(bits)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    (folder / "sae_weights.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + data)
    saelens("saelens-unknown-architecture/sae", weights(), architecture="matching_pursuit", residual_threshold=0.01)
    saelens("saelens-too-many-active/sae", weights(), architecture="topk", k=64)
    bad = weights()
    bad["W_dec"][3, 2] = np.nan
    saelens("saelens-not-finite/sae", bad)
    sizes = weights()
    saelens("saelens-other-sizes/sae", sizes, d_sae=32)
    saelens("saelens-kept-scale/sae", weights(scaling_factor=np.full(F, 1.5)))
    gemma = {**weights(), "threshold": np.full(F, 0.2, np.float32)}
    for layer, l0 in [(0, 76), (0, 12), (1, 40)]:
        folder = case(f"gemma-scope-tree/layer_{layer}/width_24/average_l0_{l0}")
        npz(folder / "params.npz", gemma, zipfile.ZIP_STORED)
    config = {"activation": "topk", "expansion_factor": 3, "normalize_decoder": True, "num_latents": 0, "k": 4,
              "multi_topk": False, "skip_connection": False, "transcode": False, "d_in": D}
    folder = case("sparsify-sizes-by-factor/sae")
    (folder / "cfg.json").write_text(json.dumps(config) + "\n")
    w = weights()
    encoder = np.ascontiguousarray(w["W_enc"].T)
    save_file({"encoder.weight": encoder, "encoder.bias": w["b_enc"], "W_dec": w["W_dec"], "b_dec": w["b_dec"]},
              folder / "sae.safetensors")


def npz(path, arrays, compression):
    with zipfile.ZipFile(path, "w", compression) as out:
        for name, array in arrays.items():
            data = io.BytesIO()
            np.lib.format.write_array(data, array)
            out.writestr(zipfile.ZipInfo(f"{name}.npy"), data.getvalue(), compression)


# --- activations

def activations(rows=12, width=8):
    return np.random.default_rng(4).normal(size=(rows, width)).astype(np.float32)


def caches():
    folder = case("npy-of-other-layouts")
    plain = activations()
    np.save(folder / "double.npy", plain.astype(np.float64))
    np.save(folder / "columns.npy", np.asfortranarray(plain))
    np.save(folder / "big-endian.npy", plain.astype(">f4"))
    with open(folder / "objects.npy", "wb") as out:
        out.write(b"\x93NUMPY\x01\0" + struct.pack("<H", 118) + b"{'descr': '|O', 'fortran_order': False, 'shape': (2,), }".ljust(117) + b"\n")
        out.write(b"\x80\x04]\x94(K\x01K\x02e.")
    np.save(folder / "plain.npy", plain)
    folder = case("safetensors-of-other-names")
    save_file({"hidden_states": plain, "input_ids": np.arange(12)}, folder / "states.safetensors")
    folder = case("not-a-number-in-a-cache")
    broken = plain.copy()
    broken[7, 3] = np.inf
    np.save(folder / "broken.npy", broken)
    folder = case("pandas-token-table")
    np.save(folder / "plain.npy", plain)
    words = ["a", "b", "c", "d", "e", "f"]
    columns = {
        "sample": pa.array([0] * 5 + [3] * 7, pa.int64()),
        "piece": pa.array([words[n % 6] for n in range(12)]).dictionary_encode(),
        "token_id": pa.array([float(n) for n in range(12)], pa.float64()),
        "modality": pa.array([1] * 2 + [0] * 10, pa.int64()),
        "__index_level_0__": pa.array(range(100, 112), pa.int64()),
    }
    pq.write_table(pa.table(columns), folder / "tokens.parquet", compression="snappy")


MAKERS = [numbered_image_columns, webdataset_columns, unread_image_column, unified_parts, hidden_files, uppercase_extensions,
          save_to_disk_splits, pictures_for_rows, cmyk_jpeg, sixteen_bits, orientation_outside_jpeg, animations,
          cut_off_images, pictures_behind_the_picture, hidden_transparency, other_image_formats, autoencoders, caches]

if __name__ == "__main__":
    for maker in MAKERS:
        maker()
