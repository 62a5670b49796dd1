"""Writes docs/events.md: `python -m engine.schema.page > docs/events.md`. A test keeps the page in step."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator

from engine.schema.fields import FieldDef
from engine.schema.kinds import ALWAYS, AROUND, ENVELOPE, KINDS, catalogue

HEAD = """# Events

Generated from `engine/schema/kinds.py` by `python -m engine.schema.page > docs/events.md`; do not edit by hand.

An event is one JSON object: an envelope (`format`, `kind`, `tenant`, `event_id`, `order_id`, `at`) and the fields of
its kind. Paths are nested objects: `card.ref` is `{"card": {"ref": …}}`; a path through a list, such as `items.sku`, is
`{"items": [{"sku": …}]}`, and a condition sees all its values as one list. Sample bodies stand in `docs/examples/`.

* `format` is 1 and may be left out. `tenant` may be left out: the API key says it.
* `null`, empty text and a field that is not there mean the same: unknown. An empty list says that there are none.
* **text** is kept as sent; the name of a category loses blanks around it and takes its usual width, as lists compare
  it. Control characters and text over the limit are refused.
* **number** is exact, at most 15 digits. **money** is `{"value": "4980.00", "currency": "CNY"}` or `"4980.00 CNY"`,
  with at most 14 digits before the point and no more decimal places than the currency has. **instant** is ISO 8601
  with a zone. **duration** is text such as `"90s"` (ms, s, m, h, d, w).
* A list has at most 200 elements. The JSON of an event has at most 64 KiB, unless `ARBITER_API_EVENT_BYTES` says
  otherwise, and at most 256 KiB whatever it says.
* A field that is not in the table is refused with its path. Own fields are declared in `policies/schema.yaml`.
* Full card numbers, security codes (CVV), PINs and track data are refused: see [Card secrets](#card-secrets).
* A phone number or the like in public text is masked in the log, and in an identifier refused: see
  [Personal data in public text](#personal-data-in-public-text).

**Class**: `public` values may stand in the decision log; `free text`, `personal` and `sensitive` values never do: they
are encrypted under a key of their **subject**, the person whose data it is. **Linked by** names the namespace in which
a keyed pseudonym of the value links events; windows may count by these and by public fields. *derived* fields are
computed from others of the event; a sender who does not want to send those may send the derived field instead. Fields
marked *found here* Arbiter finds out itself; who sends one is refused.

## Card secrets

* **Track data** (ISO/IEC 7813) is refused in every text, identifiers too, whatever the number's check digit: track
  1 and track 2 with their sentinels (`%B…^`, `;…=`) or without, where separator, expiry and service code follow
  the number.
* **Full card numbers** are refused in every value and name, however they are spaced and in any script, also digit
  by digit with an expiry or a code behind. Fields marked *id* are declared identifiers: digits are expected there,
  and this scan passes them by. A number counts that has the prefix, the length and the check digit of a card
  scheme, and some numbers have them by chance: 3 % of random texts of 16 digits, 2 % of 19 digits, 4 % of 19
  digits from 1 to 4 on (10 % of those from 4 on), 3 % of two groups of 8, 14 % of eight groups of 4, 9 % of twenty
  single digits. Numbers that begin with a date (`2026…`), `86` or `2088` never do. Send order numbers and the like
  in identifiers, not in free text.
* **Security codes and PINs** in text that is no identifier are known by the word before them: three to six digits,
  alone, behind `cvv`, `cvc`, `cvn`, `cav2`, `cv2`, `card verification`, `security code` or `安全码`, with a few signs
  or words such as `is` between; three or four behind `cid`, `csc` or `校验码` with `:` or `is`, or where a card is
  named; four or five behind `pin` with `:`, `=` or `is`, `my pin`, `pin code`, `pin number`; up to six where a
  card, a bank or an ATM is named before `pin`, and a card or a payment before `密码`. Not known are a code without
  such a word or before it (`123 is the cvv`), codes in identifiers, other languages, and what mostly means
  something else: `PIN code 110001` (a postcode), `24-pin ATX 1234`, `pin 1234`, the password of a door.
* **Names of fields** that announce one are refused, with the name of the object around them (`card.cid`,
  `card.number`) or alone, in any spelling: `cvv`, `cv2`, `pin_code`, `cardNumber`, `full_card_number`, `track_2`.
  A name that says something about a secret passes (`cvv_result`, `pin_tries`), as does one that means another
  thing (`shipping_pin`, an Indian postcode; `pincushion`). `pincode` alone is refused: call a postcode `postcode`.

## Personal data in public text

People type phone numbers into brands and e-mail addresses into categories, and the log is for ever. So public text is
searched, in digits of any script and with 汉字 or letters right beside, for

| kind | known by |
|---|---|
| `mobile` | 1[3-9] and 9 digits, behind `+86`, `0086`, `86` or nothing, in one, in groups, or digit by digit |
| `phone` | `+` and 10 to 15 digits |
| `landline` | an area code of China, a dash or bracket, 7 or 8 digits |
| `resident_id` | 18 characters with a region, a day of birth and the right check character (GB 11643, MOD 11-2) |
| `uscc` | unified social credit code: who registered it, region, check character (GB 32100, MOD 31) |
| `bank_card` | prefix and length of a scheme, Luhn; refused in most places before |
| `email` | a name, `@`, a domain; full-width too |
| `ip` | an IPv4 address that does not end in 0, an IPv6 address |
| `passport` | a letter or two and 7 or 8 digits, close behind `护照` or `passport` |

* In **public text that is no identifier** it is masked: `朋友 [mobile] 介绍` stands in the log, in messages and
  windows, in `/v1/decisions` and every export. All of one kind look alike, so that nothing tells two persons apart or
  links their events. The conditions of rules and the rows of anomaly models see the text as it was sent; windows, which
  are rebuilt from the log, see the masked one. The whole text is sealed with the personal values: of the seller
  in kinds that have no buyer, else of the buyer.
* In **public identifiers** (*id*) a `mobile`, `phone`, `resident_id` or `email` refuses the event
  (`personal_in_identifier`): they link events, so nothing can stand in their place. A letter or digit right beside a
  number makes it another one: `A13800138000` passes. A shop whose order numbers have 11 digits and begin with 13 to 19
  puts a letter before them.
* What is `free text`, `personal` or `sensitive` is sealed anyway, and not searched.

Measured: in 6,000 titles of Taobao (a public data set of its clothes and other goods, read with these patterns) 8 texts
were found; four are phone numbers, three are numbers of articles that look like one, one is a row of sizes with dots
(4 of 6,000 wrongly, 0.07 %). Of random numbers of 18 digits 1 in 50,000 is taken for a resident identity number, of
11 digits that begin with 1 seven in ten for a mobile number. **Not found**: names, postal addresses, account names of
WeChat or QQ, identity numbers of 15 digits, numbers in Chinese words (一三八…) or with other words between.
"""


TABLE = ("| field | type | what | limit | example | class | subject | linked by |", "|---|---|---|---|---|---|---|---|")


def _row(each: FieldDef) -> str:
    notes = [each.doc]
    notes += ["*id*"] if each.identifier else []
    notes += ["derived"] if each.derived else []
    notes += ["*found here*"] if each.found else []
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
    envelope = ("## Envelope", "", "In every kind.", "", *TABLE, *map(_row, (*AROUND, *ENVELOPE)), "")
    return "\n".join([HEAD, *_of_kinds(), *envelope, *_of_fields(), f"{len(catalogue())} different fields.", ""])


if __name__ == "__main__":
    sys.stdout.write(page())
