"""What an event's images add to it: fields that conditions ask for, and the evidence behind them.

The fields are derived: no sender gives them. They stand in the record, so that a replay asks nobody.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from engine.images.index import Index, Match
from engine.images.seen import Seen

PREFIX = "sha256:"
_DIGITS = frozenset("0123456789abcdef")
MAX_TOLD = 200
"""Most known images and classes that a field names: no list of an event is longer."""
MAX_MATCHES = 10
"""Most known images that the evidence names for one image, the nearest first."""


@dataclass(frozen=True, slots=True)
class Sight:
    """`fields`: name below `listing` → value. `evidence`: what the record keeps beside them."""

    fields: Mapping[str, Any]
    evidence: Mapping[str, Any]


def named_in(values: Mapping[str, Any]) -> tuple[str | None, ...]:
    """The SHA-256 of each image that a listing names, in order, None for one that has none. Nothing where none has:
    whoever names no image by its SHA-256 does not send them here."""
    rows = (values.get("listing") or {}).get("images") or ()
    named = tuple(_digest(row.get("hash", "")) for row in rows)
    return named if any(named) else ()


def _digest(name: str) -> str | None:
    name = name.lower()
    digits = name.removeprefix(PREFIX)
    return digits if name.startswith(PREFIX) and len(digits) == 64 and _DIGITS.issuperset(digits) else None


def sight_of(
    known: Mapping[str, Seen], named: Sequence[str | None], index: Index, at: int, detector: str = ""
) -> Sight:
    """What is known of the images `named`, compared with `index` at `at` (UTC µs).

    An image that another model than `detector` looked at, or none, counts as not examined.
    """
    seen = [known[name] for name in dict.fromkeys(named) if name is not None and name in known]
    matches = {each.sha256: index.matches(each.hashes, at) for each in seen}
    whole = [each for each in seen if not each.broken]
    examined = [each for each in whole if detector and each.detector == detector]
    found = [match.reference for each in seen for match in matches[each.sha256]]
    fields = {
        "images_unknown": sum(name not in known for name in named),
        "images_broken": sum(name in known and bool(known[name].broken) for name in named if name),
        "images_unexamined": len(whole) - len(examined),
        "image_matches": _told(each.kind for each in found),
        "image_labels": _told(each.label for each in found),
        "image_classes": _told(box.label for each in examined for box in each.detections),
    }
    evidence = {
        "index": index.hash,
        "detector": detector,
        "seen": [_evidence(each, matches[each.sha256], each in examined) for each in seen],
    }
    return Sight(fields, evidence)


def _told(names: Iterable[str]) -> list[str]:
    return sorted(set(names))[:MAX_TOLD]


def _evidence(seen: Seen, matches: Sequence[Match], examined: bool) -> dict[str, Any]:
    shown = seen.json()
    return {
        **shown,
        # What an older model saw does not count, and so is no evidence.
        "detections": shown["detections"] if examined else [],
        "matches": [match.json() for match in matches[:MAX_MATCHES]],
    }
