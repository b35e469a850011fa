"""Makes decode/: image files as they are found in data sets, what Pillow decodes them to, and where they may be cut off.

For every file NAME there is NAME.expected.png, the upright RGB pixels on a white ground as transformers' `convert_to_rgb`
makes them (no such file where Pillow refuses the image), and an entry in images.json: `cuts`, ranges of lengths (first and
last) below that of the file at which Pillow still opens what is left, and `tolerance`, by which a pixel may differ.

Run with Pillow 13: python make_images.py
"""

import io
import json
import random
import struct
import warnings
import zlib
from pathlib import Path

from PIL import Image, ImageFilter, ImageOps

warnings.filterwarnings("ignore")
random.seed(27)
OUT = Path(__file__).parent / "decode"


def noise(mode, width=12, height=9):
    channels = {"L": 1, "LA": 2, "RGB": 3, "RGBA": 4, "CMYK": 4}[mode]
    return Image.frombytes(mode, (width, height), random.randbytes(width * height * channels))


def smooth(mode="RGB"):
    """Colors that change slowly, so that decoders differ by no more than a level or two."""
    return noise("RGB", 40, 30).filter(ImageFilter.GaussianBlur(4)).convert(mode)


def encode(image, kind, **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def png(width, height, depth, color, rows, chunks=()):
    """A PNG file of a kind that Pillow does not write."""
    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0))
    body = zlib.compress(b"".join(b"\0" + row for row in rows))
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(chunk(*c) for c in chunks) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def words(values):
    return struct.pack(f">{len(values)}H", *values)


LEVELS = [0, 1, 127, 128, 254, 255, 256, 257, 300, 32767, 65279, 65535]
exif = Image.Exif()
exif[0x0112] = 6
jpeg = encode(smooth(), "JPEG", quality=90)
scan = jpeg.index(b"\xff\xda")

FILES = {
    "rgb.png": encode(noise("RGB"), "PNG"),
    "rgba.png": encode(noise("RGBA"), "PNG"),
    "gray-alpha.png": encode(noise("LA"), "PNG"),
    "one-bit.png": encode(noise("L").convert("1"), "PNG"),
    "palette.png": encode(noise("RGB").quantize(8), "PNG"),
    "palette-alpha.png": encode(noise("RGB").quantize(8), "PNG", transparency=bytes([0, 60, 255, 128])),
    "palette-index.png": encode(noise("RGB").quantize(8), "PNG", transparency=3),
    "gray16.png": png(12, 1, 16, 0, [words(LEVELS)]),
    "gray16-key.png": png(12, 1, 16, 0, [words(LEVELS)], [(b"tRNS", words([300]))]),
    "rgb16.png": png(4, 1, 16, 2, [words(LEVELS)]),
    "gray-alpha16.png": png(6, 1, 16, 4, [words(LEVELS)]),
    "rgba16.png": png(3, 1, 16, 6, [words(LEVELS)]),
    "rgb-key.png": png(2, 1, 8, 2, [bytes([1, 2, 3, 4, 5, 6])], [(b"tRNS", words([4, 5, 6]))]),
    "gray-key.png": png(3, 1, 8, 0, [bytes([7, 8, 9])], [(b"tRNS", words([8]))]),
    "two-bit.png": png(4, 1, 2, 0, [bytes([0b00011011])]),
    "turned.png": encode(noise("RGB"), "PNG", exif=exif),
    "no-end.png": encode(noise("RGB"), "PNG")[:-12],
    "behind.png": encode(noise("RGB"), "PNG") + b"more",
    "animated.png": encode(noise("RGB"), "PNG", save_all=True, append_images=[noise("RGB")]),
    "color.jpg": jpeg,
    "full.jpg": encode(smooth(), "JPEG", quality=90, subsampling=0),
    "gray.jpg": encode(smooth("L"), "JPEG"),
    "cmyk.jpg": encode(smooth("CMYK"), "JPEG", quality=95),
    "progressive.jpg": encode(smooth(), "JPEG", progressive=True),
    "restart.jpg": encode(smooth(), "JPEG", restart_marker_blocks=2),
    "turned.jpg": encode(smooth(), "JPEG", exif=exif),
    "thumbnail.jpg": jpeg[:2] + b"\xff\xe1" + struct.pack(">H", 2 + 6 + len(jpeg)) + b"Other\0" + jpeg + jpeg[2:],
    "behind.jpg": jpeg + b"\0" * 100,
    "two.jpg": encode(smooth(), "MPO", save_all=True, append_images=[smooth()]),
    "zeros-for-end.jpg": jpeg[:-2] + b"\0" * 64,
    "no-end.jpg": jpeg[:-2],
    "half.jpg": jpeg[: scan + (len(jpeg) - scan) // 2],
    "half-with-end.jpg": jpeg[: scan + (len(jpeg) - scan) // 2] + b"\xff\xd9",
    "plain.gif": encode(noise("RGB").quantize(16), "GIF"),
    "clear.gif": encode(noise("RGB").quantize(16), "GIF", transparency=2),
    "interlaced.gif": encode(noise("RGB").quantize(16), "GIF", interlace=True),
    "animated.gif": encode(noise("RGB").quantize(16), "GIF", save_all=True, append_images=[noise("RGB").quantize(16)]),
    "lossless.webp": encode(noise("RGB"), "WEBP", lossless=True),
    "alpha.webp": encode(noise("RGBA"), "WEBP", lossless=True, exact=True),
    "lossy.webp": encode(smooth(), "WEBP", quality=90),
    "turned.webp": encode(noise("RGB"), "WEBP", lossless=True, exif=exif),
    "animated.webp": encode(noise("RGB"), "WEBP", lossless=True, save_all=True, append_images=[noise("RGB")]),
    "behind.webp": encode(noise("RGB"), "WEBP", lossless=True) + b"more",
    "color.bmp": encode(noise("RGB"), "BMP"),
    "palette.bmp": encode(noise("RGB").quantize(16), "BMP"),
    "one-bit.bmp": encode(noise("L").convert("1"), "BMP"),
    "behind.bmp": encode(noise("RGB"), "BMP") + b"more",
    "name-only.png": encode(smooth(), "JPEG"),
    "page.jpg": b"<!DOCTYPE html><html><body>404 Not Found</body></html>",
    "empty.jpg": b"",
}


def upright(file):
    """What transformers makes of a file, or None where Pillow refuses it."""
    try:
        image = ImageOps.exif_transpose(Image.open(io.BytesIO(file)))
        if "A" in image.getbands() or image.info.get("transparency") is not None:
            image = image.convert("RGBA")
            ground = Image.new("RGBA", image.size, (255, 255, 255, 255))
            return Image.alpha_composite(ground, image).convert("RGB")
        return image.convert("RGB")
    except Exception:
        return None


def ranges(numbers):
    found = []
    for number in numbers:
        if found and found[-1][1] == number - 1:
            found[-1][1] = number
        else:
            found.append([number, number])
    return found


OUT.mkdir(exist_ok=True)
table = {}
for name, file in FILES.items():
    (OUT / name).write_bytes(file)
    expected = upright(file)
    if expected:
        expected.save(OUT / f"{name}.expected.png")
    kind = "jpeg" if file[:2] == b"\xff\xd8" else Path(name).suffix[1:]
    # Where the data of a JPEG file end, decoders make something else of the block that is half there.
    tolerance = 64 if name == "half-with-end.jpg" else 4 if kind == "jpeg" or name == "lossy.webp" else 0
    table[name] = {
        "opens": expected is not None,
        "tolerance": tolerance,
        "cuts": ranges(length for length in range(len(file)) if upright(file[:length])),
    }
(OUT / "images.json").write_text("{\n" + ",\n".join(f"{json.dumps(n)}: {json.dumps(e)}" for n, e in table.items()) + "\n}\n")
