"""What the solver is told of windows holds of every history that the real windows count."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.expr import Window, read
from engine.features import Facts, Features
from engine.money import Money
from engine.reasoning.encode import Encoding
from engine.stores import MemoryStore
from tests.terms import AT, KIND, WORDS, ask, here, nested, no_rates, pinned

MINUTE = 60_000_000
FORMS = (
    "count({kind} last {length} by card.ref{where}{this})",
    "distinct(ip of {kind} last {length} by card.ref{where}{this})",
    "sum(amount of {kind} last {length} by card.ref{where}{this})",
    "sum(basket.quantity of {kind} last {length} by card.ref{where}{this})",
    "avg(amount of {kind} last {length} by card.ref{where}{this})",
    "min(amount of {kind} last {length} by card.ref{where}{this})",
    "max(amount of {kind} last {length} by card.ref{where}{this})",
    "median(amount of {kind} last {length} by card.ref{where}{this})",
    "quantile(amount, 90% of {kind} last {length} by card.ref{where}{this})",
    "stddev(amount of {kind} last {length} by card.ref{where}{this})",
    "percentile(amount of {kind} last {length} by card.ref{where})",
    "share(buyer.guest of {kind} last {length} by card.ref{where}{this})",
    "streak(buyer.guest of {kind} last {length} by card.ref{where}{this})",
    "first seen({kind} last {length} by card.ref{where}{this})",
    "last seen({kind} last {length} by card.ref{where}{this})",
    "count({kind} last 2d by card.ref{where}{this}, approximately)",
)
KINDS = ("transaction", "payment, transaction")
LENGTHS = ("10m", "30m", "2h")
WHERES = ("", " where buyer.guest", " where buyer.guest and amount <= 2 CNY", " where amount <= 2 CNY")


@st.composite
def sources(draw: st.DrawFn) -> list[str]:
    """Windows that are near to each other: few forms, and one or two of all else."""
    forms = draw(st.lists(st.sampled_from(FORMS), min_size=1, max_size=2, unique=True))
    pools = [draw(st.lists(st.sampled_from(each), min_size=1, max_size=2)) for each in (KINDS, LENGTHS, WHERES)]
    one = st.builds(
        lambda form, kind, length, where, this: form.format(kind=kind, length=length, where=where, this=this),
        st.sampled_from(forms),
        *map(st.sampled_from, pools),
        st.sampled_from(("", ", including this")),
    )
    return draw(st.lists(one, min_size=2, max_size=6, unique=True))


past = st.lists(
    st.fixed_dictionaries(
        {
            "ago": st.sampled_from((0, 5, 10, 11, 29, 31, 100)),
            "kind": st.sampled_from(("transaction", "payment")),
            "card.ref": st.sampled_from(("a", "a", "b", None)),
            "ip": st.sampled_from(("i", "j", "k", None)),
            "amount": st.sampled_from((100, 200, 300)),
            "basket.quantity": st.sampled_from((0, 1, 5, None)),
            "buyer.guest": st.sampled_from((True, False, None)),
        }
    ),
    min_size=1,
    max_size=8,
)


def facts_of(number: int, row: dict[str, Any]) -> Facts:
    """An event as windows see it."""
    values = {path: value for path, value in row.items() if path not in ("ago", "ip", "card.ref") and value is not None}
    values["amount"] = Money(row["amount"], "CNY")
    keys = {path: f"{path}:{row[path]}" for path in ("card.ref", "ip") if row[path] is not None}
    at = AT - row["ago"] * MINUTE
    return Facts(row["kind"], "t", str(number), at, at + number, nested(values), keys)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(sources(), past)
def test_what_is_said_of_windows_holds_of_every_history(written: Sequence[str], rows: list[dict[str, Any]]) -> None:
    windows = tuple(dict.fromkeys(window for source in written for window in read(source, WORDS).windows))
    features = Features(windows, MemoryStore(), convert=no_rates)
    features.restore(())
    judged = {**rows[0], "ago": 0, "kind": KIND}
    for number, row in enumerate(sorted(rows[1:], key=lambda each: -each["ago"])):
        features.observe(facts_of(number, row))
    reading = features.observe(facts_of(len(rows), judged))
    held: dict[Window, Any] = {
        window: value for window, value in zip(windows, reading.values, strict=True) if value is not None
    }
    encoding = Encoding(here())
    for window in windows:
        encoding.windows.of(window)
    event = {path: value for path, value in judged.items() if path != "ago" and value is not None}
    values = nested({**event, "at": AT, "amount": Money(judged["amount"], "CNY")})
    list(encoding.facts())  # conditions of windows name further fields
    facts = [*pinned(encoding, values, held), *encoding.facts()]
    assert ask(facts).possible, {window.name: value for window, value in held.items()}
