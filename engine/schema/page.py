"""Writes docs/events.md: `python -m engine.schema.page > docs/events.md`. A test keeps the page in step."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable

from engine.schema.fields import FieldDef
from engine.schema.kinds import ALWAYS, ENVELOPE, KINDS, catalogue

HEAD = """# Events

Generated from `engine/schema/kinds.py` by `python -m engine.schema.page > docs/events.md`; do not edit by hand.

An event is one JSON object: an envelope (`format`, `kind`, `tenant`, `event_id`, `order_id`, `at`) and the fields of its
kind. Paths are nested objects: `card.ref` is `{"card": {"ref": …}}`; a path through a list, such as `items.sku`, is
`{"items": [{"sku": …}]}`, and a condition sees all its values as one list. Sample bodies stand in `docs/examples/`.

* `format` is 1 and may be left out. `tenant` may be left out: the API key says it.
* `null`, empty text and a field that is not there mean the same: unknown.
* **text** is kept as sent. Control characters and text over the limit are refused.
* **number** is exact, at most 15 digits. **money** is `{"value": "4980.00", "currency": "CNY"}` or `"4980.00 CNY"`, with no
  more decimal places than the currency has. **instant** is ISO 8601 with a zone. **duration** is text such as `"90s"`.
* A list has at most 200 elements, a body at most 256 KiB.
* A field that is not in the table is refused with its path. Own fields are declared in `policies/schema.yaml`.
* A full card number, a security code (CVV), a PIN or track data anywhere is refused. Fields marked *id* are declared
  identifiers: digits are expected there and the card-number scan passes them by.

**Class**: `public` values may stand in the decision log; `free text`, `personal` and `sensitive` values never do: they are
encrypted under a key of their **subject**, the person whose data it is. **Linked by** names the namespace in which a
keyed pseudonym of the value links events; windows may count by these and by public fields.
"""


def _sample(each: FieldDef) -> str:
    return "`" + json.dumps(each.example, ensure_ascii=False) + "`"


def _row(each: FieldDef, required: Iterable[str] = ()) -> str:
    notes = [each.doc]
    notes += ["**required**"] if each.path in required else []
    notes += ["*id*"] if each.identifier else []
    notes += ["derived"] if each.derived else []
    cells = (
        f"`{each.path}`",
        each.type,
        "; ".join(notes),
        each.limit,
        _sample(each),
        each.privacy.replace("_", " "),
        each.subject,
        each.entity,
    )
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


TABLE = ("| field | type | what | limit | example | class | subject | linked by |", "|---|---|---|---|---|---|---|---|")


def page() -> str:
    """The whole page as Markdown."""
    lines = [HEAD, "## Envelope", "", *TABLE, *(_row(each, ("kind", *ALWAYS)) for each in ENVELOPE), ""]
    for kind, (about, fields, required) in KINDS.items():
        lines += [f"## {kind}", "", about, "", *TABLE, *(_row(each, required) for each in fields), ""]
    count = len(catalogue())
    return "\n".join([*lines, f"{len(KINDS)} kinds, {count} different fields.", ""])


if __name__ == "__main__":
    sys.stdout.write(page())
