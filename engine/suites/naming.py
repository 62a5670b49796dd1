"""Names in a case that the rulebook does not know: an expectation about them would hold without saying anything."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from engine.errors import did_you_mean, with_article
from engine.policy import Policy
from engine.rulebook import DEGRADED, OWN_SIGNALS, Rulebook
from engine.suites.expansion import Filled, Misnamed
from engine.suites.judging import NOTHING
from engine.suites.pack import Case, Expected, SuitePack


def misnamed(rulebook: Rulebook, pack: SuitePack, case: Case | Filled) -> Misnamed | None:
    """The first name in a case that is known to nobody; names in curly brackets are looked at once they are filled."""
    kind = str(case.kind or pack.for_)
    if "{" in kind:
        return None
    book = rulebook.kinds.get(kind)
    if book is None or book.policy is None:
        at = ("kind",) if case.kind else ()
        what = f"no policy judges {with_article(kind)}" if book else f"there is no kind of event '{kind}'"
        return Misnamed(what, *at, hint="one of: " + ", ".join(rulebook.judged))
    if not any(getattr(case.expect, name) not in (None, []) for name in Expected.model_fields):
        return Misnamed("this case expects nothing", "expect", hint="such as {verdict: approve}")
    known = _known(rulebook, kind, book.policy)
    for name, (noun, names) in known.items():
        for said in _said(case, name):
            if "{" not in said and said not in names:
                hint = did_you_mean(said, names) or "one of: " + ", ".join(sorted(names)[:12])
                return Misnamed(f"there is no {noun} '{said}'", *name, hint=hint)
    return None


def _said(case: Case | Filled, loc: tuple[str, ...]) -> Iterator[str]:
    found: Any = case
    for part in loc:
        found = getattr(found, part)
    if isinstance(found, str):
        yield from [str(found)] if found else []
    elif found is not None:
        yield from map(str, found)


def _known(rulebook: Rulebook, kind: str, policy: Policy) -> Mapping[tuple[str, ...], tuple[str, Collection[str]]]:
    """What each place of a case may name."""
    rules = [rule for rule in rulebook.rules if kind in rule.kinds]
    signals = {*OWN_SIGNALS, *(rule.finding.signal for rule in rules), *(rule.if_unknown for rule in rules)}
    signals |= {str(rule.derive.signal) for rule in policy.pack.rules if rule.derive}
    ids = {rule.id for rule in rules}
    actions = {action.do for action in policy.pack.actions}
    actions |= {mode.do for mode in policy.pack.modes.values() if mode.do is not None}
    return {
        ("tier",): ("tier", policy.pack.tiers),
        ("degraded",): ("cause", DEGRADED),
        ("tripped",): ("rule", ids),
        ("modes",): ("mode to switch on", policy.pack.modes),
        ("expect", "verdict"): ("verdict", policy.verdicts),
        ("expect", "signals"): ("signal", signals),
        ("expect", "no_signals"): ("signal", signals),
        ("expect", "rules"): ("rule", ids),
        ("expect", "no_rules"): ("rule", ids),
        ("expect", "actions"): ("action", actions),
        ("expect", "no_actions"): ("action", actions),
        ("expect", "exempted"): ("exception", {item.id for item in rulebook.exemptions.items}),
        ("expect", "asks"): ("thing that is asked", ("challenge", "review", NOTHING)),
        ("expect", "by"): ("way to meet a challenge", policy.pack.challenge.by if policy.pack.challenge else ()),
    }
