"""Pictures that tests and the bench draw: seeded, of several kinds, and what people do to them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

Picture = Image.Image
Random = Any


def texture(random: Random, width: int, height: int) -> Picture:
    """Noise with the falling spectrum that photographs have (Field, 1987): clouds, foliage, cloth."""
    across = np.fft.fftfreq(height)[:, None] ** 2 + np.fft.fftfreq(width)[None] ** 2
    across[0, 0] = 1
    steepness = random.uniform(1, 1.5)
    layers = []
    for _ in range(3):
        waves = np.fft.fft2(random.normal(size=(height, width))) / across ** (steepness / 2 + 0.25)
        plane = np.fft.ifft2(waves).real
        layers.append(np.clip(128 + 50 * (plane - plane.mean()) / plane.std(), 0, 255))
    return Image.fromarray(np.stack(layers, -1).astype(np.uint8))


def shapes(random: Random, width: int, height: int) -> Picture:
    """Overlapping rectangles and ellipses."""
    picture = Image.new("RGB", (width, height), _colour(random))
    for _ in range(random.integers(4, 20)):
        left, top = random.integers(0, width), random.integers(0, height)
        wide, high = random.integers(width // 20, width // 2), random.integers(height // 20, height // 2)
        _one(random, picture, (left, top, left + wide, top + high))
    return picture


def product(random: Random, width: int, height: int) -> Picture:
    """One thing in the middle of a white ground, as shops show goods: the kind that is most alike."""
    picture = Image.new("RGB", (width, height), "white")
    middle = width * random.uniform(0.42, 0.58), height * random.uniform(0.42, 0.58)
    for _ in range(random.integers(3, 9)):
        x, y = (at + random.uniform(-0.3, 0.3) * side for at, side in zip(middle, (width, height), strict=True))
        wide, high = random.uniform(0.05, 0.25) * width, random.uniform(0.05, 0.25) * height
        _one(random, picture, (x - wide, y - high, x + wide, y + high))
    return picture


def words(random: Random, width: int, height: int) -> Picture:
    """Lines of letters on a light ground."""
    picture = Image.new("RGB", (width, height), _colour(random, 180))
    pen = ImageDraw.Draw(picture)
    for _ in range(random.integers(3, 9)):
        line = "".join(chr(random.integers(65, 91)) for _ in range(random.integers(3, 14)))
        font = ImageFont.load_default(int(random.integers(height // 20, height // 5)))
        pen.text((random.integers(0, width // 2), random.integers(0, height - 40)), line, _colour(random, 0, 120), font)
    return picture


def gradient(random: Random, width: int, height: int) -> Picture:
    """A run of two colours with some discs: the kind that shows least."""
    angle = random.uniform(0, 2 * np.pi)
    down, along = np.mgrid[0:height, 0:width]
    way = np.cos(angle) * along / width + np.sin(angle) * down / height
    way = ((way - way.min()) / np.ptp(way))[..., None]
    first, last = random.integers(0, 256, 3), random.integers(0, 256, 3)
    picture = Image.fromarray((first + (last - first) * way).astype(np.uint8))
    for _ in range(random.integers(1, 4)):
        x, y, radius = random.integers(0, width), random.integers(0, height), random.integers(width // 10, width // 4)
        ImageDraw.Draw(picture).ellipse((x - radius, y - radius, x + radius, y + radius), _colour(random))
    return picture


KINDS: Mapping[str, Callable[[Random, int, int], Picture]] = {
    "texture": texture,
    "shapes": shapes,
    "product": product,
    "words": words,
    "gradient": gradient,
}


def drawn(seed: int, kind: str = "", size: tuple[int, int] | None = None) -> Picture:
    """The picture of a seed; of which kind and how large the seed says too, where nobody does."""
    random = np.random.default_rng(seed)
    width, height = size or random.integers(300, 900, 2).tolist()
    return KINDS[kind or list(KINDS)[seed % len(KINDS)]](random, width, height)


def resized(picture: Picture, factor: float) -> Picture:
    """Larger or smaller."""
    return picture.resize([max(1, round(side * factor)) for side in picture.size], Image.Resampling.BICUBIC)


def compressed(picture: Picture, quality: int) -> Picture:
    """As JPEG of this quality."""
    return Image.open(BytesIO(saved(picture, "JPEG", quality=quality))).convert("RGB")


def cropped(picture: Picture, random: Random, across: float, down: float) -> Picture:
    """A part, somewhere in it, with these shares of its sides."""
    width, height = round(picture.width * across), round(picture.height * down)
    left, top = random.integers(0, picture.width - width + 1), random.integers(0, picture.height - height + 1)
    return picture.crop((left, top, left + width, top + height))


def marked(picture: Picture, random: Random) -> Picture:
    """With a half-transparent mark in words across it."""
    layer = Image.new("RGBA", picture.size, (0, 0, 0, 0))
    font = ImageFont.load_default(max(12, picture.height // 12))
    at = picture.width * random.uniform(0.05, 0.5), picture.height * random.uniform(0.1, 0.85)
    ink, edge = (255, 255, 255, 160), (0, 0, 0, 160)
    ImageDraw.Draw(layer).text(at, "SHOP 88 EXAMPLE", ink, font, stroke_width=2, stroke_fill=edge)
    return Image.alpha_composite(picture.convert("RGBA"), layer).convert("RGB")


def saved(picture: Picture, kind: str = "PNG", **more: Any) -> bytes:
    """Its bytes."""
    stream = BytesIO()
    picture.save(stream, kind, **more)
    return stream.getvalue()


def _colour(random: Random, low: int = 0, high: int = 256) -> tuple[int, int, int]:
    red, green, blue = random.integers(low, high, 3).tolist()
    return red, green, blue


def _one(random: Random, picture: Picture, box: tuple[float, float, float, float]) -> None:
    pen = ImageDraw.Draw(picture)
    draw = (pen.rectangle, pen.ellipse)[random.integers(2)]
    draw(box, _colour(random, 0, 220))
