"""What the bytes of one image are known to show."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

BROKEN = ("format", "truncated", "too_large", "timeout", "crashed")
"""Why an image cannot be looked at: no image of a format we read, an image that ends too early or is damaged, more
pixels than are decoded, one that takes too long, one that ends the process that reads it."""


@dataclass(frozen=True, slots=True)
class Detection:
    """Something that a detector saw. `score` is in thousandths, `box` is left, top, width and height in pixels of the
    image as it is shown."""

    label: str
    score: int
    box: tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class Seen:
    """One image. `hashes` are those of all views (`engine.images.hashing`), empty where there is nothing to compare;
    `broken` is one of `BROKEN` or empty; `detector` is the name of the model that looked, empty where none did."""

    sha256: str
    size: int
    format: str = ""
    width: int = 0
    height: int = 0
    broken: str = ""
    hashes: bytes = b""
    detector: str = ""
    detections: tuple[Detection, ...] = ()

    def json(self) -> dict[str, Any]:
        """All but the hashes, as a record or an answer shows it."""
        shown = {name: value for name, value in asdict(self).items() if name not in ("hashes", "detections")}
        return {**shown, "detections": [{**asdict(each), "box": list(each.box)} for each in self.detections]}

    @classmethod
    def of(cls, shown: Mapping[str, Any], hashes: bytes) -> Seen:
        """What `json` gave, and the hashes."""
        found = (Detection(str(each["label"]), int(each["score"]), _box(each["box"])) for each in shown["detections"])
        return cls(**{**shown, "detections": tuple(found)}, hashes=hashes)


def _box(sides: Any) -> tuple[int, int, int, int]:
    left, top, width, height = map(int, sides)
    return left, top, width, height
