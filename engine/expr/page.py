"""Writes docs/rules.md: `python -m engine.expr.page > docs/rules.md`. A test keeps the page in step.

The page also names the sample event on which every example of every row is worked out; a test runs them all.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from engine.expr.check import (
    IN_ORDER,
    LEAST_APPROXIMATE,
    LINKED_STEPS,
    MAX_ATOMS,
    MAX_STEPS,
    MAX_WINDOW,
    MAX_WINDOWS,
    ONE_BY_ONE,
    WINDOW_FUNCTIONS,
    Vocabulary,
    read,
)
from engine.expr.functions import PATTERN_LENGTH, SECTIONS, Row
from engine.expr.nodes import DURATION, MAX_DEPTH, MAX_SIZE, UNITS, Env, Literal, Type, spell
from engine.expr.syntax import MAX_SOURCE
from engine.money import Money
from engine.schema import FieldDef
from engine.stores import BUCKETS, CAP


@dataclass(frozen=True, slots=True)
class Sample:
    """One field of the sample event; `value` is written in the language, empty where the field is missing."""

    path: str
    type: str
    value: str


SAMPLES = (
    Sample("at", "instant", "2026-11-20T08:30:00Z"),
    Sample("buyer.signup_at", "instant", "2026-11-20T00:00:00Z"),
    Sample("buyer.guest", "bool", "false"),
    Sample("buyer.email_domain", "text", '"example.com"'),
    Sample("amount", "money", "88.5 CNY"),
    Sample("fee", "money", "1 CNY"),
    Sample("tip", "money", "3 USD"),
    Sample("quantity", "number", "3"),
    Sample("weight", "number", ""),
    Sample("note", "text", '"Gift 卡"'),
    Sample("coupon", "text", ""),
    Sample("items.category", "list[text]", '["gift_card", "toys"]'),
    Sample("items.quantity", "list[number]", "[1, 2]"),
    Sample("items.price", "list[money]", "[80 CNY, 8.5 CNY]"),
)


def sample_vocabulary() -> Vocabulary:
    """What the examples may name."""
    fields = {each.path: FieldDef(each.path, each.type, "", None, "") for each in SAMPLES}
    return Vocabulary(fields, {"payment": fields}, ("payment",), lists={"vip": "exact", "presents": "disguised phrase"})


def sample_event() -> dict[str, Any]:
    """The values of the sample event."""
    event: dict[str, Any] = {"items": [{}, {}]}
    for each in SAMPLES:
        value: Any = written(each.value) if each.value else None
        *parents, last = each.path.split(".")
        if parents == ["items"]:
            for item, part in zip(event["items"], value, strict=True):
                item[last] = part
        elif value is not None:
            place = event
            for parent in parents:
                place = place.setdefault(parent, {})
            place[last] = value
    return event


def sample_env() -> Env:
    """Received five seconds after it happened; example.com is in the list vip, the phrase gift in the list presents,
    and one USD is 7 CNY."""
    at = written("2026-11-20T08:30:00Z")

    def convert(money: Money, currency: str, _at: int) -> Money | None:
        if money.currency == currency:
            return money
        return Money(money.minor * 7, "CNY") if (money.currency, currency) == ("USD", "CNY") else None

    return Env(at, at + 5_000_000, {"vip": {"example.com"}.__contains__, "presents": _Presents()}, convert)


class _Presents:
    """A list that has the phrase 'gift'."""

    def __call__(self, value: str) -> bool:
        return bool(self.hits(value))

    def hits(self, value: str) -> list[_Gift]:
        at = value.lower().find("gift")
        return [_Gift("gift", at, at + 4)] if at >= 0 else []


@dataclass(frozen=True)
class _Gift:
    phrase: str
    start: int
    end: int


def written(source: str) -> Any:
    """The value that a text without names stands for: written("20 CNY") is Money."""
    tree = read(source, Vocabulary({})).tree
    assert isinstance(tree, Literal), source
    return tree.value


GROUPED = ", ".join(f"`{word}`" for word in WINDOW_FUNCTIONS if word not in ONE_BY_ONE)
LINKED = (
    f"whether the two accounts are at most {LINKED_STEPS} shared identifiers apart, such as a card and then a device; "
    f"`linked(buyer_group, seller_group, 1)` says how many, 1 to {MAX_STEPS}"
)
UNROUGH = " and ".join(f"`{word}`" for word in IN_ORDER).replace(" and ", ", ", len(IN_ORDER) - 2)
LEAST = spell(LEAST_APPROXIMATE, DURATION)
UNGROUPED = ", ".join(f"`{word}`" for word in ONE_BY_ONE)

HEAD = f"""# The condition language

Generated from `engine/expr/` by `python -m engine.expr.page > docs/rules.md`; do not edit by hand.

A rule's `when` is one condition, to be read aloud:

```
amount > 900 CNY and card.country != ip.country and not buyer.guest
100 < quantity <= 700 or coupon is missing
"gift_card" in items.category and at - buyer.signup_at < 1d
count(last 10m by card.ref where amount <= 20 CNY, including this) >= 5
ip in list tor-exits and hour(at) < 6
```

The grammar is frozen: a condition that is read today is read the same way by every later version. What it names is
checked when the pack is loaded, with the place of each mistake; a condition cannot run code, and its cost is bounded.
A text that a field can never be, such as `ip_type == "hostng"` or `card.country == "us"`, is such a mistake.

## Values

| type | written | notes |
|---|---|---|
| number | `20` `2.5` `25%` | exact; `25%` is 0.25; at most 18 digits before the point and 6 after it |
| money | `20 CNY` `0.50 USD` | ISO 4217; money and plain numbers, or two currencies, do not mix |
| text | `"gift card"` | `\\"` is a quote and `\\\\` a backslash, any other backslash stands for itself |
| yes/no | `true` `false` | a yes/no field is a condition by itself: `not buyer.guest` |
| instant | `2026-11-20` `2026-11-20T08:30:00+08:00` | without an offset, in the pack's zone (Asia/Shanghai) |
| duration | `30s` `10m` `24h` `7d` `2w` | a day is 24 hours |
| list | `["a", "b"]` | of values of one type; a path through a list of objects gives a list: `items.category` |

A date alone is the first moment of that day. Names are ASCII, small letters, digits and `_`, in dotted paths. `at` is
when the event happened, `now` when it was received. A `#` begins a comment.

## Order of words

From loosest to tightest: `or`, `and`, `not`, comparisons (which chain), `+ -`, `* / %`, a leading `-`, `in CNY`.
Parentheses group. `not in`, `not contains` and the like are one word.

## Unknown

A field that is not there is unknown, and so is everything worked out from it. `and`, `or` and `not` follow Kleene, as
in SQL: `false and unknown` is false, `true or unknown` is true, everything else with an unknown part is unknown. A rule
fires on true only. So `weight > 5` and `not (weight > 5)` are both unknown when there is no weight. `is missing`,
`is present` and `default` are the ways to ask. Unknown also comes from: division by zero, numbers of 10^18 and more,
amounts of two currencies, a missing exchange rate, a list that is not loaded, a window that is not yet warm.

Computed numbers are exact, rounded half-even to six places where they have more.

## Windows

```
count(last 10m by card.ref)                                    # events of the pack's own kind
count(outcome last 7d by card.ref where outcome.result == "confirmed_fraud")
sum(amount in CNY last 24h by buyer.account)
avg(amount of payment last 30d by buyer.account)
max(amount in CNY last 30d by buyer.account)                   # min, median, stddev alike
quantile(amount in CNY, 95% last 30d by merchant.id)
percentile(amount in CNY last 30d by merchant.id)              # where this amount stands among them, 0 to 100
share(buyer.guest last 7d by merchant.id)                      # of the events, those for which it is true, 0 to 1
streak(amount <= 20 CNY last 1h by card.ref)                   # how many of the newest, in a row
distinct(card.ref last 1d by device.id, including this)
first seen(last 90d by device.id)
last seen(login last 90d by buyer.account)
count(last 10m by card.bin, ip)                                # several keys together
```

A window holds the events with the same key from `last` before this event's time up to, not including, this event;
`including this` adds it. Without `of` (or a kind in `count`, `first seen` and `last seen`) it holds events of the
pack's own kinds. `where` sees the fields of the earlier event. A window over `outcome` also sees the fields of the
event that the outcome refers to. An event without one of the keys joins no window, and its window is unknown. `where`
and the value of a window may use public fields only, and keys and `distinct` also those that identify someone: a window
can be rebuilt from what the ledger keeps. For the same reason a window cannot use `now` or kept lists.

| function | what it gives | of no events |
|---|---|---|
| `count`, `distinct` | how many events; how many different values | 0 |
| `sum` | exact; money keeps its currency | 0, or 0 in the currency of this event's own value |
| `avg` | half-even to six places, of minor units for money | unknown |
| `min`, `max` | the smallest and the largest value | unknown |
| `median`, `quantile` | the smallest value that at least this share of the values do not pass | unknown |
| `stddev` | of a sample (n - 1), half-even to six places | unknown, also of one |
| `percentile` | 100 x the share of the values that are below this event's own value, to six places | unknown |
| `share` | the part of the events for which the condition is true; unknown counts as not | unknown |
| `streak` | how many of the newest events in a row it is true for | 0 |
| `first seen`, `last seen` | the time of the first and of the last event | unknown |

Events without the value are passed over; values in two currencies make it unknown. With arithmetic on windows one says
the rest: `at - last seen(last 90d by buyer.account)` is the time since, and
`count(last 1d by ip) / (count(last 30d by ip) / 30)` compares a day with one's own past.

### Approximate windows

A window is exact up to {CAP:,} events of one key, and unknown beyond, with the finding `feature_capped`. For a key
that may have more, such as a large shop over a month, `approximately` takes bounded room, however many there are:

```
count(last 30d by merchant.id, approximately)
distinct(buyer.account last 30d by merchant.id, including this, approximately)
quantile(amount in CNY, 95% last 90d by merchant.id where amount > 1 CNY, approximately)
```

It is off in two ways. First, the window begins at a whole 1/{BUCKETS} of its length: it is up to 1/{BUCKETS} longer
than written and never shorter (`last 30d` up to 11 h 15 min); at a late event it also holds what happened after it in
the same 1/{BUCKETS} and came before it. Second, for the events that it holds:

| function | error |
|---|---|
| `count`, `sum`, `avg`, `stddev`, `share` | none |
| `distinct` | a standard error of 1.63 %: within 5 % in 997 of 1,000 cases |
| `min`, `max`, `median`, `quantile` | less than 1/128 (0.8 %) of the value; none for whole numbers up to 128 |
| `percentile` | it is the exact one of a value that is less than 1/128 smaller |

{UNROUGH} cannot be approximate, nor can a pattern, a window over a group of linked
accounts, or one shorter than {LEAST}. The same events give the same answers, in any order and after any restart.

## Groups of linked accounts

A [file of links](packs.md#linked-accounts) names groups of accounts that share identifiers. A group stands where an
account would stand, as the key of a window, and the window then holds the events of all accounts of the group:

```
count(last 30d by buyer_group, merchant.id, including this)    # orders of the buyer's group at this shop
distinct(buyer.account last 30d by buyer_group, merchant.id)   # how many of its accounts bought here
sum(amount in CNY last 1d by buyer_group)
count(aftersale last 90d by buyer_group where aftersale.action == "refunded")
linked(buyer_group, seller_group)                              # buyer and seller are linked
group_size(buyer_group) > 5
```

| function | what it gives |
|---|---|
| `group_size` | how many accounts, of every sort and the event's own among them: 1 when it shares nothing |
| `group_links` | how many identifiers two or more accounts of the group share |
| `linked` | yes/no: {LINKED} |

A group is as of the event that is judged: a link counts that this event shows, or an earlier one not longer ago than
the file's `within`. An event without the account has no group, and what is asked about it is unknown; so is everything
about a group that is larger than the file allows. Over a group there are {GROUPED};
not {UNGROUPED}, and no patterns. One window goes by one group.

## Limits

{MAX_SOURCE:,} characters; {MAX_ATOMS} questions, {MAX_WINDOWS} windows and {MAX_SIZE} parts once let names are
filled in; {MAX_DEPTH} levels of nesting; a window of {MAX_WINDOW // UNITS["d"]} days; a RE2 pattern of {PATTERN_LENGTH}
characters and bounded memory.

## Operators and functions

Each line is one row of `engine/expr/functions.py`. The examples are run by a test on this event, received at
2026-11-20T08:30:05Z, with `example.com` in the list `vip`, `gift` in the list `presents`, and 1 USD at 7 CNY:

"""


def page() -> str:
    """The whole page."""
    return HEAD + "\n".join([*_sample(), "", *_logic(), *_tables(), "", *_grammar()])


def _sample() -> Iterator[str]:
    yield from ("| field | type | value |", "|---|---|---|")
    for each in SAMPLES:
        yield f"| `{each.path}` | {Type(each.type)} | {f'`{each.value}`' if each.value else 'missing'} |"


LOGIC = (
    (
        "and",
        "yes/no, yes/no",
        "True when both are, false when one is, otherwise unknown.",
        (("quantity > 1 and weight > 1", "unknown"), ("quantity > 5 and weight > 1", "false")),
    ),
    (
        "or",
        "yes/no, yes/no",
        "True when one is, false when both are, otherwise unknown.",
        (("quantity > 1 or weight > 1", "true"), ("quantity > 5 or weight > 1", "unknown")),
    ),
    (
        "not",
        "yes/no",
        "The opposite; unknown stays unknown.",
        (("not buyer.guest", "true"), ("not (weight > 5)", "unknown")),
    ),
)


def _logic() -> Iterator[str]:
    yield from _heading("Logic")
    for word, takes, doc, examples in LOGIC:
        yield f"| `{word}` | {takes} → yes/no | {doc} | {_examples(examples)} |"


def _tables() -> Iterator[str]:
    for title, rows in SECTIONS.items():
        yield from ("", *_heading(title))
        for row in rows:
            yield f"| `{row.name}` | {_signature(row)} | {row.doc} | {_examples(row.examples)} |"


def _heading(title: str) -> tuple[str, ...]:
    return f"### {title}", "", "| word | takes → gives | meaning | examples |", "|---|---|---|---|"


def _signature(row: Row) -> str:
    args = ", ".join(_named(arg, "T" in "".join(row.args[:at]), row) for at, arg in enumerate(row.args))
    return f"{args} → {_named(row.result, True, row)}"


def _named(name: str, again: bool, row: Row) -> str:
    """The type in words; where T was named before, "the same"."""
    if "T" in name:
        kinds = [str(Type(each)) for each in row.among if not each.startswith("list[")]
        either = "any value" if len(kinds) == 6 else " or ".join(kinds)
        return ("a list of " if "[" in name else "") + ("the same" if again else either)
    return {"name": "a list's name", "places": "0 to 6", "zone": "zone"}.get(name) or str(Type(name))


def _examples(examples: tuple[tuple[str, str], ...]) -> str:
    return "<br>".join(
        f"`{source}` → {result if result == 'unknown' else f'`{result}`'}" for source, result in examples
    )


def _grammar() -> Iterator[str]:
    yield from (
        "## Grammar",
        "",
        "LALR(1), in the notation of [Lark](https://github.com/lark-parser/lark):",
        "",
        "```lark",
    )
    yield files("engine.expr").joinpath("grammar.lark").read_text("utf-8").rstrip()
    yield from ("```", "")


if __name__ == "__main__":
    sys.stdout.write(page())
