"""The shipped packs on the simulated marketplace, by theme.

    python -m bench.marketplace [--seeds 1,2] [--check]

Without --seeds it takes the holdout seeds, which nobody looked at while the packs were made; --check fails below the
bars. Some three minutes of processor time, divided among the cores. The definitions stand below the table.
"""

from __future__ import annotations

import os
import sys
from concurrent.futures import ProcessPoolExecutor

from bench.marketplace.measure import SIGNALS, Line, Seed, anyhow, lines, market, measure, missed, raised
from engine.rulebook import load
from engine.shipped import shipped

DEVELOPMENT = tuple(range(1, 57))
"""Seeds that the packs were made on."""
HOLDOUT = (601, 602, 603, 604, 605)
"""Seeds that nobody looked at before the packs were final. 101 to 105, 201 to 205, 301 to 305, 401 to 405 and 501 to
505 were looked at once before that."""

HEAD = f"{'theme':<15}{'about':<9}{'caught':<42}{'stopped':>8}  {'honest flagged':<42}{'days: half':>10}{'9 in 10':>9}"

DEFINITIONS = """
caught: of the accounts or shops of a theme, those with a signal of it on an event from their first fraud on (accounts:
  on an event of the fraud itself); a refund abuser is one from the first claim on. stopped: those with a verdict above
  approve on an event they answer for. honest flagged: honest accounts or shops with a signal of the theme on an event.
days: from the first fraud to the first flag, of those caught. Intervals are Wilson's, of 95 %.
Verdicts on listings, payouts, parcels and complaints fall on the shop, all others on the buyer."""


def main() -> int:
    """Print the table; with --check, 1 when a theme misses its bar."""
    seeds = _seeds(sys.argv[1:])
    found: list[Seed] = []
    with ProcessPoolExecutor(min(len(seeds), os.cpu_count() or 1)) as pool:
        for seed, one in zip(seeds, pool.map(judged, seeds), strict=True):
            found.append(one)
            print(f"  seed {seed}: {one.events:,} events, {one.seconds:,.0f} s", file=sys.stderr, flush=True)
    print(f"seeds {', '.join(map(str, seeds))}; the packs were made on {DEVELOPMENT[0]} to {DEVELOPMENT[-1]}")
    print(HEAD)
    table = lines(found)
    for line in table:
        print(_row(line))
    print(f"honest accounts with any flag or any verdict above approve  {anyhow(found, 'account')}")
    print(f"honest shops with any flag or any verdict above approve     {anyhow(found, 'shop')}")
    print(f"honest events with a verdict above approve                  {raised(found)}")
    print(DEFINITIONS)
    for theme, about in SIGNALS.items():
        print(f"  {theme}: {', '.join(sorted(about.signals))}")
    events = sum(seed.events for seed in found)
    print(f"{1e6 * sum(seed.seconds for seed in found) / events:,.0f} µs of one core for an event: JSON to verdict")
    below = missed(table)
    for what in below:
        print(f"below the bar: {what}")
    return 1 if below and "--check" in sys.argv[1:] else 0


def judged(seed: int) -> Seed:
    """One seed through the shipped packs."""
    return measure(market(seed), load(shipped("rules"), shipped("policies")))


def _seeds(words: list[str]) -> tuple[int, ...]:
    if "--seeds" not in words:
        return HOLDOUT
    return tuple(int(word) for word in words[words.index("--seeds") + 1].split(","))


def _row(line: Line) -> str:
    half, most = line.days
    return (
        f"{line.theme:<15}{line.subject:<9}{line.caught!s:<42}{line.stopped.value:>8.1%}  {line.honest!s:<42}"
        f"{half:>10.1f}{most:>9.1f}"
    )


if __name__ == "__main__":
    raise SystemExit(main())
