"""A rulebook over a history as columns, against SQL that a person would write for the same job on the same DuckDB.

    python -m bench.backtest [--events 10000000] [--check]

Events are made: payments of 500,000 cards, 400,000 accounts and 300,000 devices at 2,000 shops in 90 days. The rulebook
has 200 rules over 8 windows. The job is every rule at every event, and how many of the events on which each fired were
fraud; Arbiter then judges them, too. Both sides begin at a table of typed columns, and their counts must be equal.
An average has six places in Arbiter's language, so the other side rounds it, too: as a plain double it makes three
times 33.333… an even 100. Beside the time it says the seconds of a core, which other work on the machine moves less.
"""

from __future__ import annotations

import argparse
import resource
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter, process_time
from typing import Any

from engine.backtest import Past, find, heeded, judge, measure
from engine.columns import Column, DuckDB, Exchange, Timeline, on_duckdb
from engine.expr import Type
from engine.rulebook import Rulebook, load

FIRST = 1_782_864_000_000_000  # 2026-07-01
DAY = 86_400_000_000
SECONDS, GIGABYTES, RATIO = 180, 8, 2.0

LET = {
    "burst": "count(last 10m by card.ref)",
    "tries": "count(last 1d by card.ref)",
    "spent": "sum(amount last 1d by card.ref)",
    "usual": "avg(amount last 7d by card.ref)",
    "shops": "distinct(merchant.id last 1d by card.ref)",
    "others": "count(last 1h by device.id)",
    "largest": "max(amount last 7d by buyer.account)",
    "since": "first seen(last 30d by buyer.account)",
}
FAMILIES = (
    ("burst >= {n}", "burst >= {n}"),
    ("burst >= {n} and amount > {n}00 CNY", "burst >= {n} AND amount > {n}0000"),
    ("tries >= {n} and amount < {n}0 CNY", "tries >= {n} AND amount < {n}000"),
    ("spent > {n}000 CNY", "spent > {n}00000"),
    ("spent > {n}00 CNY and tries <= {n}", "spent > {n}0000 AND tries <= {n}"),
    ("amount > {n} * usual", "amount > {n} * usual"),
    ("amount > {n} * usual and not buyer.guest", "amount > {n} * usual AND NOT guest"),
    ("shops >= {n}", "shops >= {n}"),
    (
        "shops >= 2 and ip_country != card.country and amount > {n}0 CNY",
        "shops >= 2 AND ip_country <> card_country AND amount > {n}000",
    ),
    ("others >= {n}", "others >= {n}"),
    (
        'others >= 1 and ip_country in ["RO", "US"] and amount > {n}0 CNY',
        "others >= 1 AND ip_country IN ('RO', 'US') AND amount > {n}000",
    ),
    ("amount > largest and amount > {n}00 CNY", "amount > largest AND amount > {n}0000"),
    ("at - since < {n}h", '"at" - since < {n} * 3600000000'),
    ("since is missing and amount > {n}00 CNY", "since IS NULL AND amount > {n}0000"),
    ("buyer.guest and amount > {n}00 CNY", "guest AND amount > {n}0000"),
    (
        'card.country == "CN" and ip_country != "CN" and amount > {n}0 CNY',
        "card_country = 'CN' AND ip_country <> 'CN' AND amount > {n}000",
    ),
    (
        'channel == "app" and (tries >= {n} or burst >= 1) and amount > 5 CNY',
        "channel = 'app' AND (tries >= {n} OR burst >= 1) AND amount > 500",
    ),
    ("spent + amount > {n}000 CNY and shops >= 1", "spent + amount > {n}00000 AND shops >= 1"),
    ("tries + others >= {n} and amount > 20 CNY", "tries + others >= {n} AND amount > 2000"),
    ('merchant.id ends with "{n}" and burst >= 1', "suffix(merchant, '{n}') AND burst >= 1"),
)
PER_FAMILY = 10

PACK = """\
pack: bench/many
about: Many rules over the same windows.
for: transaction
owner: bench
let:
{let}
rules:
{rules}"""
RULE = """\
  - id: many.r{number}
    when: '{when}'
    signal: s{number}
    severity: low
    points: {points}
    because: {{en: "{number}", zh: "{number}"}}
    basis: {{kind: house-policy, review_by: 2027-05-31}}
"""
POLICY = """\
policy: till
for: [transaction]
verdicts: [approve, review, decline]
tiers:
  standard: {review: 40, decline: 90}
default_tier: standard
review: {queue: desk, due: 30m, if_late: decline}
"""

EVENTS = """
CREATE TABLE facts AS
WITH drawn AS (
    SELECT i, hash(i, 1) AS a, hash(i, 2) AS b, hash(i, 3) AS c, hash(i, 4) AS d, hash(i, 5) AS e,
           {first} + (i * ({span} // {events}) + (hash(i, 6) % ({span} // {events}))::BIGINT) // 1000000 * 1000000
               AS "at"
    FROM range({events}) AS r(i)
), ordered AS (SELECT *, row_number() OVER (ORDER BY "at", i) - 1 AS seq FROM drawn)
SELECT seq, "at", row_number() OVER (PARTITION BY "at" ORDER BY seq) - 1 AS tie, 'transaction' AS kind, seq + 1 AS row,
       'e' || seq AS event_id, a % 997 < 5 AS bad, false AS refunded, amount AS own_worth, amount AS base_worth,
       '' AS tier, '' AS odd, '' AS met, '' AS states,
       NULL::VARCHAR AS customer,
       amount, 'CNY' AS currency,
       'c' || CASE WHEN b % 10 = 0 THEN b % 5003 ELSE b % 500000 END AS card, 'd' || c % 300000 AS device,
       'u' || CASE WHEN b % 10 = 0 THEN b % 5003 ELSE b % 400000 END AS account, 'm' || d % 2000 AS merchant,
       (e % 5 = 0) AS guest, (['CN', 'CN', 'CN', 'US', 'RO', 'DE'])[(d % 6 + 1)::BIGINT] AS card_country,
       (['CN', 'CN', 'CN', 'US', 'RO', 'DE'])[(e % 6 + 1)::BIGINT] AS ip_country,
       (['app', 'web'])[(c % 2 + 1)::BIGINT] AS channel
FROM (SELECT *, (exp((a % 1000000)::DOUBLE / 1000000 * 7) * 300)::BIGINT AS amount FROM ordered)
"""
COLUMNS = {
    "amount": Column("amount", Type("money"), codes=("CNY",)),
    "at": Column("at", Type("instant")),
    "buyer.guest": Column("guest", Type("bool")),
    "card.country": Column("card_country", Type("text")),
    "channel": Column("channel", Type("text")),
    "ip_country": Column("ip_country", Type("text")),
    "merchant.id": Column("merchant", Type("text")),
}
KEYS = {"buyer.account": "account", "card.ref": "card", "device.id": "device"}

WINDOWS = """
SELECT *,
    count(*) OVER (PARTITION BY card ORDER BY moment RANGE BETWEEN {m10} PRECEDING AND 1 PRECEDING) AS burst,
    count(*) OVER (PARTITION BY card ORDER BY moment RANGE BETWEEN {d1} PRECEDING AND 1 PRECEDING) AS tries,
    coalesce(sum(amount) OVER (PARTITION BY card ORDER BY moment RANGE BETWEEN {d1} PRECEDING AND 1 PRECEDING), 0)
        AS spent,
    round(avg(amount) OVER (PARTITION BY card ORDER BY moment RANGE BETWEEN {d7} PRECEDING AND 1 PRECEDING), 6)
        AS usual,
    count(DISTINCT merchant) OVER (PARTITION BY card ORDER BY moment RANGE BETWEEN {d1} PRECEDING AND 1 PRECEDING)
        AS shops,
    count(*) OVER (PARTITION BY device ORDER BY moment RANGE BETWEEN {h1} PRECEDING AND 1 PRECEDING) AS others,
    max(amount) OVER (PARTITION BY account ORDER BY moment RANGE BETWEEN {d7} PRECEDING AND 1 PRECEDING) AS largest,
    min("at") OVER (PARTITION BY account ORDER BY moment RANGE BETWEEN {d30} PRECEDING AND 1 PRECEDING) AS since
FROM (SELECT *, ("at" - {first}) // {unit} * {step} + tie AS moment FROM facts)
"""


def conditions() -> Iterator[tuple[str, str]]:
    """Each rule as a condition, and as the SQL that a person would write."""
    for ours, theirs in FAMILIES:
        for number in range(1, PER_FAMILY + 1):
            yield ours.format(n=number), theirs.format(n=number)


def rulebook(folder: Path) -> Rulebook:
    """200 rules over 8 windows."""
    let = "\n".join(f"  {name}: {source}" for name, source in LET.items())
    rules = "".join(
        RULE.format(number=number, when=when, points=5 + number % 7) for number, (when, _) in enumerate(conditions())
    )
    for name, text in (("rules/many.yaml", PACK.format(let=let, rules=rules)), ("policies/till.yaml", POLICY)):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text, "utf-8")
    return load(folder / "rules", folder / "policies")


def history(here: DuckDB, book: Rulebook, events: int) -> Past:
    """The made events as a history."""
    here.raw.execute(EVENTS.format(first=FIRST, events=events, span=90 * DAY))
    ((ties,),) = here.raw.execute("SELECT max(tie) + 1 FROM facts").fetchall()
    timeline = Timeline(FIRST, FIRST + 90 * DAY, 1_000_000, ties)
    exchange = Exchange(book.rates, FIRST, FIRST + 90 * DAY, ("CNY",))
    kinds = frozenset({"transaction"})
    last = FIRST + 90 * DAY
    return Past(here, "transaction", COLUMNS, COLUMNS, KEYS, {}, timeline, exchange, kinds, events, last, "CNY")


def ours(past: Past, book: Rulebook) -> tuple[dict[str, float], list[tuple[int, int]]]:
    """Seconds by part, and (fired, fraud) of each rule."""
    seconds: dict[str, float] = {}
    policy = book.kinds["transaction"].policy
    assert policy is not None
    begun, worked = perf_counter(), process_time()
    found = find(past, book, heeded(policy), _nobody)
    seconds["findings"] = perf_counter() - begun
    judged = judge(past, book, found, ())
    seconds["verdicts"] = perf_counter() - begun - seconds["findings"]
    figures = measure(past, judged, book.kinds["transaction"].rules, labelled=True)
    seconds["all"] = perf_counter() - begun
    seconds["figures"] = seconds["all"] - seconds["findings"] - seconds["verdicts"]
    seconds["of a core"] = process_time() - worked
    by_id = {each.id: (each.tally.events, each.tally.bad) for each in figures.rules}
    print(f"  {len(judged.variants):,} combinations of findings", file=sys.stderr)
    return seconds, [by_id[f"many.r{number}"] for number in range(len(by_id))]


def _nobody(_: Any) -> Any:
    raise AssertionError("columns answer everything here")


def theirs(here: DuckDB, timeline: Timeline) -> tuple[float, float, list[tuple[int, int]]]:
    """The same by hand: the answers of all rules into a table, and their counts. Seconds, and seconds of a core."""
    step = 2 * timeline.ties
    lengths = {"m10": 600, "h1": 3_600, "d1": 86_400, "d7": 7 * 86_400, "d30": 30 * 86_400}
    backs = {name: seconds * step + timeline.ties - 1 for name, seconds in lengths.items()}
    windows = WINDOWS.format(first=FIRST, unit=timeline.unit, step=step, **backs)
    sql = [each for _, each in conditions()]
    truths = ", ".join(f"({each}) AS r{number}" for number, each in enumerate(sql))
    begun, worked = perf_counter(), process_time()
    here.raw.execute(f"CREATE OR REPLACE TABLE by_hand AS SELECT seq, bad, {truths} FROM ({windows})")
    # 400 counts with a FILTER each would take forty times as long.
    counts = ", ".join(f"coalesce(count_if(r{n}), 0)" for n in range(len(sql)))  # NULL where no answer is known
    good, bad = here.raw.execute(f"SELECT {counts} FROM by_hand GROUP BY bad ORDER BY bad").fetchall()
    seconds, cores = perf_counter() - begun, process_time() - worked
    here.drop("by_hand")
    return seconds, cores, [(one + other, other) for one, other in zip(good, bad, strict=True)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=10_000_000)
    parser.add_argument("--check", action="store_true", help="fail where a bar is missed")
    asked = parser.parse_args()
    with TemporaryDirectory() as folder, on_duckdb({"threads": 2}) as here:
        book = rulebook(Path(folder))
        assert (len(book.rules), len(book.windows)) == (200, 8)
        past = history(here, book, asked.events)
        seconds, counts = ours(past, book)
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 / 1024
        by_hand, hand_cores, wanted = theirs(here, past.timeline)
    wrong = [number for number, (one, other) in enumerate(zip(counts, wanted, strict=True)) if one != other]
    fired = sum(events for events, _ in counts)
    ratio, cores = seconds["all"] / by_hand, seconds["of a core"] / hand_cores
    print(f"{asked.events:,} events x {len(counts)} rules x 8 windows; {fired:,} findings")
    print("  arbiter " + ", ".join(f"{name} {each:.1f} s" for name, each in seconds.items()))
    print(f"  by hand {by_hand:.1f} s: {ratio:.2f} x; of a core {hand_cores:.1f} s: {cores:.2f} x")
    print(f"  peak memory {memory:.1f} GiB; rules that differ: {wrong or 0}")
    missed = seconds["all"] > SECONDS * asked.events / 10_000_000 or memory > GIGABYTES or ratio > RATIO
    if asked.check and (wrong or missed):
        sys.exit(1)


if __name__ == "__main__":
    main()
