"""Perceptual hashes: two images that look alike have hashes that differ in few bits, whatever their bytes are.

One hash is 256 bits: the signs, about their median, of the lowest 16 × 16 coefficients of a discrete cosine transform
of the image's brightness at 64 × 64 points (the idea of Zauner, "Implementation and Benchmarking of Perceptual Image
Hash Functions", 2010). It stands size, compression and small marks; it does not stand a crop, which moves everything.
So an image has `VIEWS` of them: of the whole, and of the parts that a crop to 90 % of each side may leave. What is
looked for is compared by its whole with all views of what is known. How well that does: `python -m bench.images`.
"""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from PIL.Image import Image

BITS = 256
HASH_BYTES = BITS // 8
LIMIT = 60
"""Most bits in which the hashes of two images differ that are taken for one. Images that share nothing differ in 128
± 8. `bench.images` measures what this finds and what it finds wrongly."""

_SPANS = ((0.0, 1.0), (0.0, 0.92), (0.08, 1.0), (0.04, 0.96))
"""What of each side a view shows, as shares: with these, no crop to 90 % is further than 4 % from some view."""
VIEWS = len(_SPANS) ** 2
_POINTS = 64
_LOWEST = 16
_BASE = 256
"""Views are cut from a copy of at most this side: what a hash shows is coarser by far, and it is quick."""
_FLAT = 2.0
"""Standard deviation of the brightness, of 255, below which an image shows nothing to compare."""


def _cosines() -> Any:
    row, point = np.arange(1, _LOWEST + 1)[:, None], np.arange(_POINTS)[None]
    return np.sqrt(2 / _POINTS) * np.cos(np.pi * row * (2 * point + 1) / (2 * _POINTS))


_COSINES = _cosines()


def fingerprints(image: Image) -> bytes:
    """The hashes of all views, the whole first, one behind the other. Empty for an image that shows nothing but one
    colour: all of those would be alike."""
    from PIL.Image import Resampling

    grey = image.convert("L")
    if max(grey.size) > _BASE:
        grey = grey.resize([max(1, round(side * _BASE / max(grey.size))) for side in grey.size], Resampling.BOX)
    width, height = grey.size
    if np.asarray(grey, np.float64).std() < _FLAT:
        return b""
    found = []
    for (left, right), (top, bottom) in product(_SPANS, repeat=2):
        box = (left * width, top * height, right * width, bottom * height)
        points = grey.resize((_POINTS, _POINTS), Resampling.LANCZOS, box=box)
        found.append(_hash(np.asarray(points, np.float64)))
    return b"".join(found)


def _hash(points: Any) -> bytes:
    lowest = _COSINES @ points @ _COSINES.T
    return np.packbits(lowest > np.median(lowest)).tobytes()
