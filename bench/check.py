"""What `arbiter check` finds by reasoning among many rules, and how long it takes.

    python -m bench.check [--check]

1,000 rules in files of 25, made up from twenty forms that the shipped rules have: amounts, countries, networks, kept
lists, one to three windows of several lengths, texts, times of the day; 120 signals, so that some eight rules share one
and are compared. Among them are planted ones: rules that can never fire, copies in other words, and rules that another
implies. All of these must be found, by name, and nothing else may be a problem. Beside it stands what loading the same
rules takes in the same run: parsing, types and compilation.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from time import perf_counter, process_time

from engine.packs import read_all
from engine.reasoning.conditions import about_rules
from engine.reasoning.policies import about_policies, about_signals
from engine.reasoning.remark import Remark
from engine.rulebook import Rulebook, load

RULES, SIGNALS, A_FILE = 1_000, 120, 25
BAR = 20.0
"""Most seconds that reasoning over all rules may take."""

_FORMS = (
    "count(last {short} by card.ref, including this) >= {few} and amount in CNY <= {small} CNY",
    "distinct(card.ref last {long} by device.id, including this) >= {few} and payment.method == {method}",
    "sum(amount in CNY last {long} by buyer.account) > {large} CNY and buyer.orders < {few}",
    "amount in CNY > {few} * avg(amount in CNY last {long} by buyer.account) and amount in CNY >= {large} CNY",
    "card.country != ip_country and ip_country in [{countries}] and amount in CNY > {large} CNY",
    "ip_type in [{networks}] and buyer.guest and amount in CNY >= {small} CNY",
    "buyer.email_domain in list bad-domains and at - buyer.signup_at < {long}",
    "items.category overlaps [{goods}] and basket.quantity >= {few}",
    "hour(at) >= {early} and hour(at) < {late} and count(last {short} by buyer.account, including this) >= {few}",
    "count(last {short} by ip where buyer.guest) / count(last {long} by ip) >= {share} and ip_type != {network}",
    "default(buyer.orders, 0) == 0 and amount in CNY between",
    "device.emulator and at - buyer.signup_at < {long} and basket.virtual",
    "share(buyer.guest last {long} by merchant.id) > {share} and count(last {long} by merchant.id) > {many}",
    "coupon.code is present and discount > {few} * amount and discount in CNY >= {small} CNY",
    "card.scheme starts with {text} and not (card.country == {country}) and amount > {small} CNY",
    "lower(buyer.membership) == {text} and amount in CNY > {large} CNY and card.funding == {funding}",
    "distinct(shipping.address last {long} by card.ref, including this) >= {few} and buyer.verified is missing",
    "max(amount in CNY last {long} by card.ref) < {small} CNY and amount in CNY > {large} CNY",
    "first seen(last {long} by device.id) > at - {short} and count(last {long} by buyer.account) >= {many}",
    "streak(amount <= {small} CNY last {short} by card.ref) >= {few} and amount in CNY > {large} CNY",
)
_POLICY = """\
policy: many
for: [transaction]
verdicts: [approve, challenge, review, decline]
tiers:
  trusted:  {challenge: 60, review: 75, decline: 95}
  standard: {challenge: 40, review: 60, decline: 85}
default_tier: standard
rules:
  - {id: two, when: [s1, s2], derive: {signal: both, severity: critical}}
  - {id: stop, when: [both], at_least: decline}
  - {id: soft, when: [s3], unless: [s4, any critical], at_most: challenge}
mandatory: [{when: [s5], verdict: decline}]
challenge: {by: [3ds], expires: 15m, passed: rescore, failed: decline, abandoned: decline}
review: {queue: q, due: 30m, if_late: decline}
"""
_LIST = "list: bad-domains\nabout: Domains.\nmatch: exact\nentries: [a.example]\n"


@dataclass(frozen=True)
class Made:
    """One rule of the bench: its text, and what must be said of it."""

    name: str
    text: str
    found: str = ""


def main() -> int:
    """Print the figures; with --check, 1 when it takes too long, finds too little, or too much."""
    rules = list(made(Random(1)))
    with TemporaryDirectory() as folder:
        write(Path(folder), rules)
        began = perf_counter()
        rulebook = load(Path(folder, "rules"), Path(folder, "policies"))
        loading = perf_counter() - began
        began, busy = perf_counter(), process_time()
        remarks = list(reasoned(rulebook, Path(folder, "policies")))
        seconds, busy = perf_counter() - began, process_time() - busy
    missed, wrong = compared(rules, remarks)
    print(f"{len(rulebook.rules):,} rules, {len(rulebook.windows):,} windows: loaded in {loading:.1f} s")
    print(f"reasoning {seconds:.1f} s ({busy:.1f} s of work), {seconds / loading:.1f} x loading (bar {BAR:.0f} s)")
    print(f"{sum(bool(rule.found) for rule in rules)} planted, {len(missed)} missed; {len(remarks)} remarks in all")
    for text in (*missed, *wrong):
        print("  " + text)
    return int((seconds > BAR or bool(missed or wrong)) and "--check" in sys.argv[1:])


def reasoned(rulebook: Rulebook, policies: Path) -> Iterator[Remark]:
    """All that is found."""
    yield from about_rules(rulebook, rulebook.rules)
    yield from about_policies(rulebook, read_all(policies))
    yield from about_signals(rulebook, rulebook.rules)


def compared(rules: list[Made], remarks: list[Remark]) -> tuple[list[str], list[str]]:
    """What was planted and not found, and problems with rules that have none planted."""
    told = [remark.problem.what for remark in remarks]
    missed = [rule.name for rule in rules if rule.found and not any(rule.found in what for what in told)]
    planted = [rule.found for rule in rules if rule.found]
    grave = [remark.problem.what for remark in remarks if remark.grave]
    return missed, [what for what in grave if not any(found in what for found in planted)]


def made(random: Random) -> Iterator[Made]:
    """The rules, those that are planted among them."""
    for number in range(RULES):
        name, signal = f"many.r{number}", f"s{random.randrange(SIGNALS)}"
        when, turned = condition(random, random.choice(_FORMS))
        if number % 50 == 7:
            yield Made(name, _rule(name, f"{when} and amount in CNY > 50 CNY and amount in CNY < 40 CNY", signal),
                       f"rule '{name}' can never fire")  # fmt: skip
        elif number % 50 == 8:
            yield Made(name, _rule(name, when, f"twin{number}", group="g"))
            yield Made(f"{name}b", _rule(f"{name}b", turned, f"twin{number}", group="g"), f"'{name}b' repeats '{name}'")
        elif number % 50 == 9:
            yield Made(name, _rule(name, when, f"wide{number}", group="g"))
            yield Made(f"{name}b", _rule(f"{name}b", f"{when} and channel is present", f"wide{number}", group="g"),
                       f"'{name}b' adds nothing")  # fmt: skip
        else:
            yield Made(name, _rule(name, when, signal))


def condition(random: Random, form: str) -> tuple[str, str]:
    """A condition, and the same in other words."""
    words = {
        "short": random.choice(("10m", "30m", "1h", "2h")),
        "long": random.choice(("1d", "3d", "7d", "30d", "90d")),
        "few": random.randint(2, 9),
        "many": random.randint(10, 60),
        "small": random.randint(5, 60) * 10,
        "large": random.randint(7, 90) * 100,
        "share": f"{random.randint(5, 95)}%",
        "early": random.randint(0, 3),
        "late": random.randint(4, 9),
        "countries": _some(random, "CN US DE RO VN RU NG BR".split()),
        "country": f'"{random.choice(("CN", "US", "DE"))}"',
        "networks": _some(random, "hosting proxy vpn tor".split()),
        "network": f'"{random.choice(("mobile", "residential"))}"',
        "goods": _some(random, "gift_card voucher top_up gold phone watch".split()),
        "method": f'"{random.choice(("wallet", "card", "cod"))}"',
        "funding": f'"{random.choice(("credit", "prepaid"))}"',
        "text": f'"{random.choice(("visa", "gold", "amex", "plus"))}"',
    }
    if form.endswith("between"):
        low = random.randint(7, 40) * 100
        form = form.replace("amount in CNY between", f"{low} CNY <= amount in CNY <= {low + 500} CNY")
    when = form.format(**words)
    first, _, rest = when.partition(" and ")
    return when, f"not (not ({rest}) or not ({first}))"


def _some(random: Random, names: list[str]) -> str:
    return ", ".join(f'"{name}"' for name in sorted(random.sample(names, random.randint(2, 4))))


def _rule(name: str, when: str, signal: str, group: str = "") -> str:
    return (
        f"  - id: {name}\n    when: '{when}'\n    signal: {signal}\n    points: 20\n"
        + (f"    group: {group}\n" if group else "")
        + "    because: {en: found, zh: 发现}\n    basis: {kind: house-policy, review_by: 2099-05-31}\n"
    )


def write(folder: Path, rules: list[Made]) -> None:
    """The rules as files of a rulebook."""
    for name in ("rules", "policies"):
        (folder / name).mkdir()
    for start in range(0, len(rules), A_FILE):
        head = f"pack: many/{start}\nabout: Made up.\nfor: transaction\nowner: bench\nrules:\n"
        text = head + "".join(rule.text for rule in rules[start : start + A_FILE])
        (folder / f"rules/p{start}.yaml").write_text(text, "utf-8")
    (folder / "rules/bad-domains.yaml").write_text(_LIST, "utf-8")
    (folder / "policies/many.yaml").write_text(_POLICY, "utf-8")


if __name__ == "__main__":
    raise SystemExit(main())
