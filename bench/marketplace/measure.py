"""The market through the real engine: what was flagged, of whom, how soon.

Bodies are read as the API reads them and judged by the shipped packs and policies, in the order of time, by the World
of `cli.replay`: windows, rules, policy, breakers and review queues. The first days only feed the windows. No ledger, no
lists but the shipped ones, no anomaly model, no tier but the default.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from time import process_time

import orjson

from bench.marketplace import crews
from bench.marketplace.crews import THEMES, loot
from bench.marketplace.honest import live
from bench.marketplace.market import DAY, Entry, Market
from bench.marketplace.town import populate
from cli.replay import World
from engine.decide import Decision
from engine.proportions import wilson
from engine.rulebook import Rulebook
from engine.schema import Event, instant

TENANT = "market"
DAYS, FED = 84, 28
"""Days of the simulation, and how many of them only feed the windows. Fraud begins after them."""
PEOPLE, SHOPS = 2_000, 160
RECALL, HONEST = 0.90, 0.005
"""Bars of each theme: the least share caught, the largest share of honest accounts or shops flagged."""


@dataclass(frozen=True, slots=True)
class Theme:
    """A trade of fraud: whether it is about accounts or shops, and the signals that speak of it."""

    subject: str
    signals: frozenset[str]
    begins: str | None = None
    """The kind of event that is the fraud, where what comes before is none yet."""


SIGNALS: Mapping[str, Theme] = {
    crews.BRUSHING: Theme(
        "shop",
        frozenset(
            "brushing_ring buyer_ring buyer_concentration no_browse empty_parcel fake_trade review_burst review_rush "
            "fake_reviews review_farm review_ring".split()
        ),
    ),
    crews.SELF_DEALING: Theme("shop", frozenset("self_dealing buyer_concentration buyer_ring".split())),
    crews.CASHBACK: Theme("shop", frozenset("cashback_loop".split())),
    crews.COUPONS: Theme(
        "account",
        frozenset(
            "coupon_farm repeat_newcomer coupon_ring bulk_signup account_farm device_farm synthetic_buyer".split()
        ),
    ),
    crews.REFUNDS: Theme("account", frozenset("refund_abuse return_fraud refund_professional".split()), "aftersale"),
    crews.TAKEOVER: Theme(
        "account",
        frozenset("account_takeover account_guessed contact_changed dormant_takeover".split()),
    ),
    crews.TESTING: Theme(
        "account", frozenset("card_testing bin_attack stolen_cards stolen_card authentication_failed".split())
    ),
}
"""What counts as a flag for a theme."""

MERCHANT_KINDS = frozenset(("listing", "merchant", "payout", "fulfilment", "complaint"))
"""Kinds whose verdict falls on the shop; that of all others falls on the buyer."""


@dataclass(slots=True)
class Actor:
    """An account or a shop: `theme` is None when it is honest.

    `first` is the second of its first fraud, `flagged` for each theme that of the first flag, `stopped` that of the
    first verdict above the mildest. Of those who are not honest only what happens from the first fraud on counts.
    """

    theme: str | None
    first: float | None = None
    flagged: dict[str, float] = field(default_factory=dict)
    stopped: float | None = None


@dataclass(slots=True)
class Seed:
    """What came of one seed."""

    actors: dict[tuple[str, str], Actor] = field(default_factory=dict)
    judged: int = 0
    events: int = 0
    honest: int = 0
    raised: int = 0
    """Honest events judged, and those of them with a verdict above the mildest."""
    seconds: float = 0.0
    rules: Counter[tuple[str, str]] = field(default_factory=Counter)
    """(rule, "honest" or the theme of the event) → events."""


def market(seed: int, people: int = PEOPLE, shops: int = SHOPS, days: int = DAYS, crew: float = 1.0) -> Market:
    """Everything that happens in a seed."""
    made = Market(seed, days)
    town = populate(made, people, shops)
    live(town)
    loot(town, min(FED, days / 3) * DAY, crew)
    return made


def measure(made: Market, rulebook: Rulebook, fed: int = FED) -> Seed:
    """Judge the events of a market after the first `fed` days."""
    world, schema = World(rulebook), rulebook.schema
    found = Seed()
    known: dict[str, Event] = {}
    referred = {entry.body["outcome"]["refers_to"] for entry in made.entries if entry.body["kind"] == "outcome"}
    began = process_time()
    for entry in made.stream():
        body = orjson.dumps(entry.body)
        event = schema.parse(body, received_at=instant(entry.body["at"]), tenant=TENANT)
        found.events += 1
        if event.id in referred:
            known[event.id] = event
        _meet(found, made, entry)
        if event.kind == "outcome":
            world.report(event, known[entry.body["outcome"]["refers_to"]])
        elif entry.at < fed * DAY or rulebook.kinds[event.kind].policy is None:
            world.feed(event)
        else:
            (decision,) = world.judge([world.see(event)])
            _note(found, entry, decision, rulebook)
    found.seconds = process_time() - began
    return found


def _meet(found: Seed, made: Market, entry: Entry) -> None:
    for key in _subjects(entry):
        actor = found.actors.get(key)
        if actor is None:
            actor = found.actors[key] = Actor(made.theme_of.get(key))
        mine = entry.theme is not None and entry.theme == actor.theme
        if mine and actor.first is None and SIGNALS[str(entry.theme)].begins in (None, entry.body["kind"]):
            actor.first = entry.at


def _subjects(entry: Entry) -> list[tuple[str, str]]:
    pairs = ("account", entry.account), ("shop", entry.shop)
    return [(kind, name) for kind, name in pairs if name is not None]


def _note(found: Seed, entry: Entry, decision: Decision, rulebook: Rulebook) -> None:
    policy = rulebook.kinds[entry.body["kind"]].policy
    assert policy is not None, "it was judged"
    above = decision.outcome.verdict != policy.verdicts[0]
    found.judged += 1
    if entry.theme is None:
        found.honest += 1
        found.raised += above
    for rule in {finding.rule for finding in decision.findings}:
        found.rules[rule, entry.theme or "honest"] += 1
    signals = set(decision.outcome.signals)
    for kind, name in _subjects(entry):
        actor = found.actors[kind, name]
        if kind == "account" and entry.theme != actor.theme:
            continue  # of an account in two hands, each is asked about its own
        if actor.theme is not None and actor.first is None:
            continue
        for theme, about in SIGNALS.items():
            if about.subject == kind and signals & about.signals:
                actor.flagged.setdefault(theme, entry.at)
        if above and (kind == "shop") == (entry.body["kind"] in MERCHANT_KINDS) and actor.stopped is None:
            actor.stopped = entry.at


@dataclass(frozen=True, slots=True)
class Share:
    """A part of a whole, with the Wilson interval of 95 %."""

    part: int
    whole: int

    @property
    def value(self) -> float:
        """0 of nothing."""
        return self.part / self.whole if self.whole else 0.0

    @property
    def interval(self) -> tuple[float, float]:
        """(low, high); of nothing it may be any."""
        found = wilson(self.part, self.whole)
        return (found.low, found.high) if found else (0.0, 1.0)

    def __str__(self) -> str:
        low, high = self.interval
        return f"{self.part:>5,} of {self.whole:>6,} {self.value:>7.2%} ({low:.2%} to {high:.2%})"


@dataclass(frozen=True, slots=True)
class Line:
    """A theme over all seeds: who was caught, who was stopped, which honest ones were flagged, days until the flag."""

    theme: str
    subject: str
    caught: Share
    stopped: Share
    honest: Share
    days: tuple[float, float]
    """Median and 90th percentile over the caught, from the first fraud to the first flag."""


def lines(seeds: list[Seed]) -> list[Line]:
    """One line a theme."""
    return [_line(theme, SIGNALS[theme], seeds) for theme in THEMES]


def _line(theme: str, about: Theme, seeds: list[Seed]) -> Line:
    actors = [actor for seed in seeds for (kind, _), actor in seed.actors.items() if kind == about.subject]
    frauds = [actor for actor in actors if actor.theme == theme and actor.first is not None]
    honest = [actor for actor in actors if actor.theme is None]
    late = sorted((actor.flagged[theme] - (actor.first or 0)) / DAY for actor in frauds if theme in actor.flagged)
    return Line(
        theme,
        about.subject,
        Share(len(late), len(frauds)),
        Share(sum(actor.stopped is not None for actor in frauds), len(frauds)),
        Share(sum(theme in actor.flagged for actor in honest), len(honest)),
        (late[len(late) // 2], late[len(late) * 9 // 10]) if late else (0.0, 0.0),
    )


def anyhow(seeds: list[Seed], subject: str) -> Share:
    """Honest accounts or shops with a flag of any theme, or any verdict above the mildest."""
    honest = [a for seed in seeds for (kind, _), a in seed.actors.items() if kind == subject and a.theme is None]
    return Share(sum(bool(actor.flagged) or actor.stopped is not None for actor in honest), len(honest))


def raised(seeds: list[Seed]) -> Share:
    """Honest events with a verdict above the mildest."""
    return Share(sum(seed.raised for seed in seeds), sum(seed.honest for seed in seeds))


def missed(table: list[Line]) -> list[str]:
    """Which themes miss a bar, in words."""
    found = []
    for line in table:
        if line.caught.value < RECALL:
            found.append(f"{line.theme}: caught {line.caught.value:.1%}, bar {RECALL:.0%}")
        if line.honest.value > HONEST:
            found.append(f"{line.theme}: {line.honest.value:.2%} of honest {line.subject}s flagged, bar {HONEST:.1%}")
    return found
