"""How well known images are found again, how often others are taken for them, and how long that takes.

    python -m bench.images [--check]

The pictures are drawn (`bench._pictures`), seeded, a fifth each: noise with the spectrum of photographs, shapes, a
product on white, lines of letters, a gradient with discs. Each known one is changed in every way below and looked for
among all; then as many that are none of them are looked for. Recall and false matches have Wilson's interval of 95 %.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from statistics import median
from time import process_time
from typing import Any

import numpy as np

from bench._pictures import Picture, compressed, cropped, drawn, marked, resized, saved
from engine.images import LIMIT, VIEWS, Index, Reference, fingerprints
from engine.images.reading import look
from engine.proportions import wilson

KNOWN, OTHERS = 300, 1_000
SIZES = (1_000, 10_000, 100_000)
RECALL_BAR, FALSE_BAR, SECONDS_BAR = 0.90, 0.01, 0.10
"""Least recall of any change; most others that match any known image; most seconds of a core to ask among 100,000."""

CHANGES: Mapping[str, Callable[[Picture, Any], Picture]] = {
    "as it is": lambda picture, _: picture,
    "resized to a quarter": lambda picture, _: resized(picture, 0.25),
    "resized to a half": lambda picture, _: resized(picture, 0.5),
    "resized to twice": lambda picture, _: resized(picture, 2),
    "JPEG, quality 30": lambda picture, _: compressed(picture, 30),
    "JPEG, quality 60": lambda picture, _: compressed(picture, 60),
    "JPEG, quality 90": lambda picture, _: compressed(picture, 90),
    "cropped to 95 % of each side": lambda picture, random: cropped(picture, random, 0.95, 0.95),
    "cropped to 90 % of each side": lambda picture, random: cropped(picture, random, 0.9, 0.9),
    "cropped to 90 % of one side": lambda picture, random: cropped(picture, random, 0.9, 1),
    "a watermark": marked,
}
TOGETHER = "cropped to 93 %, a watermark, half the size, JPEG 50"
"""All at once: shown, not held to the bar."""


def _together(picture: Picture, random: Any) -> Picture:
    return compressed(resized(marked(cropped(picture, random, 0.93, 0.93), random), 0.5), 50)


def main() -> int:
    """Print the tables; with --check, 1 when a figure is beyond its bar."""
    pictures = [drawn(seed) for seed in range(KNOWN)]
    index = Index(_known(f"r{number}", fingerprints(each)) for number, each in enumerate(pictures))
    random, good = np.random.default_rng(1), True
    print(f"{'change':<54}{'found again':>12}   95 %")
    for name, change in {**CHANGES, TOGETHER: _together}.items():
        found = sum(_found(index, number, change(each, random)) for number, each in enumerate(pictures))
        print(f"{name:<54}{found / KNOWN:>12.3f}   {_interval(found, KNOWN)}")
        good &= name == TOGETHER or found / KNOWN >= RECALL_BAR
    wrong = sum(bool(index.matches(fingerprints(drawn(KNOWN + seed)), 0)) for seed in range(OTHERS))
    print(f"others that match one of {KNOWN} known: {wrong} of {OTHERS}   {_interval(wrong, OTHERS)}")
    print(f"limit {LIMIT} of 256 bits, {VIEWS} views of each known image")
    good &= wrong / OTHERS <= FALSE_BAR
    good &= _times(pictures[:50])
    return 0 if good or "--check" not in sys.argv[1:] else 1


def _interval(hits: int, of: int) -> str:
    found = wilson(hits, of)
    assert found is not None
    return f"{found.low:.3f}–{found.high:.3f}"


def _known(id: str, hashes: bytes) -> Reference:
    return Reference(id, "counterfeit", id, "0" * 64, hashes)


def _found(index: Index, number: int, picture: Picture) -> bool:
    return any(match.reference.id == f"r{number}" for match in index.matches(fingerprints(picture), 0))


def _times(pictures: Sequence[Picture]) -> bool:
    bodies = [saved(each, "JPEG", quality=85) for each in pictures]
    took = median(_timed(partial(look, body)) for body in bodies)
    pixels = median(each.width * each.height for each in pictures)
    print(f"an image of about {pixels:,.0f} pixels decoded and hashed: {1e3 * took:.1f} ms of a core")
    seconds = 0.0
    for size in SIZES:
        seconds = _asking(size)
        print(f"asked among {size:>7,} known images: {1e3 * seconds:>7.2f} ms of a core")
    return seconds <= SECONDS_BAR


def _asking(size: int) -> float:
    random = np.random.default_rng(2)
    index = Index(_known(f"r{number}", random.bytes(32 * VIEWS)) for number in range(size))
    return median(_timed(lambda: index.matches(random.bytes(32), 0)) for _ in range(15))


def _timed(work: Callable[[], object]) -> float:
    began = process_time()
    work()
    return process_time() - began


if __name__ == "__main__":
    raise SystemExit(main())
