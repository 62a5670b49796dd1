"""What an anomaly model says of each event of a history, over the windows that its detector reads and no others."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from decimal import Decimal

from cli.history import Happened
from cli.replay import TOGETHER, World
from engine.detectors import Models, Row
from engine.rulebook import Rulebook


def percentiles(
    happened: Iterable[Happened], rulebook: Rulebook, kind: str, models: Models
) -> Iterator[tuple[Happened, Decimal | None]]:
    """Everything in its order; events with their percentile by the champion of their kind, None where it has none."""
    champion, detector = models.champions.get(kind), rulebook.kinds[kind].detector
    if champion is None or detector is None:
        yield from ((each, None) for each in happened)
        return
    world, read = World(rulebook, windows=detector.windows), detector.reader(detector.windows)
    waiting: list[tuple[Happened, Row | None]] = []

    def told() -> Iterator[tuple[Happened, Decimal | None]]:
        found = iter(champion.look_all([row for _, row in waiting if row is not None]))
        yield from ((each, None if row is None else next(found).percentile) for each, row in waiting)
        waiting.clear()

    for each in happened:
        if each.about is not None:
            world.report(each.event, each.about)
            waiting.append((each, None))
        else:
            _, _, reading, env, _ = world.see(each.event)
            waiting.append((each, read(each.event.values, reading.values, env)))
        if len(waiting) >= TOGETHER:
            yield from told()
    yield from told()
