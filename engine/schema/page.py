"""Writes docs/events.md: `python -m engine.schema.page > docs/events.md`. A test keeps the page in step."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator

from engine.schema.fields import FieldDef
from engine.schema.kinds import ALWAYS, ENVELOPE, KINDS, catalogue

HEAD = """# Events

Generated from `engine/schema/kinds.py` by `python -m engine.schema.page > docs/events.md`; do not edit by hand.

An event is one JSON object: an envelope (`format`, `kind`, `tenant`, `event_id`, `order_id`, `at`) and the fields of
its kind. Paths are nested objects: `card.ref` is `{"card": {"ref": …}}`; a path through a list, such as `items.sku`, is
`{"items": [{"sku": …}]}`, and a condition sees all its values as one list. Sample bodies stand in `docs/examples/`.

* `format` is 1 and may be left out. `tenant` may be left out: the API key says it.
* `null`, empty text and a field that is not there mean the same: unknown.
* **text** is kept as sent. Control characters and text over the limit are refused.
* **number** is exact, at most 15 digits. **money** is `{"value": "4980.00", "currency": "CNY"}` or `"4980.00 CNY"`,
  with no more decimal places than the currency has. **instant** is ISO 8601 with a zone. **duration** is text such as
  `"90s"` (ms, s, m, h, d, w).
* A list has at most 200 elements. The JSON of an event has at most 64 KiB, unless `ARBITER_API_EVENT_BYTES` says
  otherwise, and at most 256 KiB whatever it says.
* A field that is not in the table is refused with its path. Own fields are declared in `policies/schema.yaml`.
* A field that announces a security code (CVV), a PIN, a password, track data or a card number is refused, and so is a
  full card number in any value but those of fields marked *id*. These are declared identifiers, such as order numbers,
  SKUs and coupon codes: the scan passes them by, because up to every tenth long number would be refused there. So never
  put a card number into one. Elsewhere about 3 of 100 random 16-digit numbers look like a card; numbers that begin with
  a date (`2026…`), `86` or `2088` never do.

**Class**: `public` values may stand in the decision log; `free text`, `personal` and `sensitive` values never do: they
are encrypted under a key of their **subject**, the person whose data it is. **Linked by** names the namespace in which
a keyed pseudonym of the value links events; windows may count by these and by public fields. *derived* fields are
computed from others of the event; a sender who does not want to send those may send the derived field instead.
"""


TABLE = ("| field | type | what | limit | example | class | subject | linked by |", "|---|---|---|---|---|---|---|---|")


def _row(each: FieldDef) -> str:
    notes = [each.doc]
    notes += ["*id*"] if each.identifier else []
    notes += ["derived"] if each.derived else []
    cells = (
        f"`{each.path}`",
        each.type,
        "; ".join(notes),
        each.limit,
        f"`{json.dumps(each.example, ensure_ascii=False)}`",
        each.privacy.replace("_", " "),
        each.subject,
        each.entity,
    )
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _groups() -> dict[tuple[str, tuple[str, ...]], list[FieldDef]]:
    """(object, kinds that have it) → its fields, in the order of the catalogue. Lines that differ stand apart."""
    where: dict[FieldDef, list[str]] = {}
    for kind, (_, fields, _) in KINDS.items():
        for each in fields:
            where.setdefault(each, []).append(kind)
    groups: dict[tuple[str, tuple[str, ...]], list[FieldDef]] = {}
    for each, kinds in where.items():
        head, dot, _ = each.path.partition(".")
        groups.setdefault((head if dot else "", tuple(kinds)), []).append(each)
    return groups


def _of_kinds() -> Iterator[str]:
    yield from ("## Kinds", "", "| kind | what it is | must have | objects |", "|---|---|---|---|")
    for kind, (about, fields, required) in KINDS.items():
        heads = dict.fromkeys(each.path.partition(".")[0] for each in fields)
        needed = ", ".join(f"`{path}`" for path in (*ALWAYS, *required))
        yield f"| `{kind}` | {about} | {needed} | {', '.join(f'`{head}`' for head in heads)} |"
    yield ""


def _of_fields() -> Iterator[str]:
    shown = None
    for (head, kinds), fields in sorted(_groups().items(), key=lambda item: item[0][0]):
        if head != shown:
            yield from (f"## {head}" if head else "## Fields at the top", "")
            shown = head
        yield from (f"In {', '.join(kinds)}.", "", *TABLE, *map(_row, fields), "")


def page() -> str:
    """The whole page as Markdown."""
    envelope = ("## Envelope", "", "In every kind.", "", *TABLE, *map(_row, ENVELOPE), "")
    return "\n".join([HEAD, *_of_kinds(), *envelope, *_of_fields(), f"{len(catalogue())} different fields.", ""])


if __name__ == "__main__":
    sys.stdout.write(page())
