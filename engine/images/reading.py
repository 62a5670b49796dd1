"""Bytes that a stranger sent, decoded within limits: the part of the work that runs in a process of its own.

Only formats whose decoders are small and much used are tried, whatever the bytes call themselves. The size is read from
the head before a pixel is decoded. Of an animation the first frame is looked at.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from hashlib import sha256
from io import BytesIO
from typing import TYPE_CHECKING, Any, TypeAlias

from engine.images.hashing import fingerprints
from engine.images.seen import Detection, Seen

if TYPE_CHECKING:
    from PIL.Image import Image

FORMATS = ("JPEG", "PNG", "WEBP", "GIF")
MAX_PIXELS = 40_000_000
"""Width times height of an image that is decoded; 160 MB at four bytes a pixel."""

Detect: TypeAlias = "Callable[[Image], tuple[Detection, ...]]"


def look(body: bytes, detector: str = "", detect: Detect | None = None) -> Seen:
    """What the bytes of an image show. `detect` is the model named `detector`. Raises nothing for any bytes."""
    name, size = sha256(body).hexdigest(), len(body)
    try:
        image, kind = _decoded(body)
    except _Broken as broken:
        return Seen(name, size, broken=broken.why, **broken.known)
    found = detect(image) if detect else ()
    looked = detector if detect else ""
    return Seen(name, size, kind, *image.size, hashes=fingerprints(image), detector=looked, detections=found)


class _Broken(Exception):
    def __init__(self, why: str, **known: Any) -> None:
        super().__init__(why)
        self.why = why
        self.known = known


def _decoded(body: bytes) -> tuple[Image, str]:
    """The image as it is shown, in RGB, and its format."""
    from PIL import Image, ImageOps

    Image.MAX_IMAGE_PIXELS = None  # Ours is looked at before; Pillow's would warn at one size and raise at another.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # About metadata that we do not read.
        try:
            image: Image.Image = Image.open(BytesIO(body), formats=FORMATS)
        # Damaged heads raise whatever the format's reader runs into.
        except Exception as error:
            raise _Broken("format") from error
        known = {"format": str(image.format).lower(), "width": image.width, "height": image.height}
        if image.width * image.height > MAX_PIXELS:
            raise _Broken("too_large", **known)
        try:
            image.load()
            return _flat(ImageOps.exif_transpose(image)), str(known["format"])
        except MemoryError as error:
            raise _Broken("too_large", **known) from error
        except Exception as error:
            raise _Broken("truncated", **known) from error


def _flat(image: Image) -> Image:
    """The image in RGB, on white where it is transparent."""
    from PIL import Image

    if not image.has_transparency_data:
        return image.convert("RGB")
    layer = image.convert("RGBA")
    white = Image.new("RGBA", layer.size, "white")
    white.alpha_composite(layer)
    return white.convert("RGB")
